//! A whole SELECT: its body, ordering, limits; set operations; VALUES.

use std::sync::Arc;

use crate::sql::bound::{Body, Query, SetOp, SetOperation, Values};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot};
use crate::sql::plan::build::{key_slot, node, sort_key};
use crate::sql::plan::cost;
use crate::sql::plan::exprs::SlotSet;
use crate::sql::plan::lateral::Recheck;
use crate::sql::plan::path::OrderKey;
use crate::sql::plan::planner::{Planner, Scope, Shared};
use crate::sql::plan::select;
use crate::sql::plan::tree::{
    Cost, KeySlot, Level, Limit, NodeKind, PlanNode, SetOpNode, Sort, SortKey, TopRows,
};

/// A planned query: its tree and where its visible columns are.
pub struct Planned {
    pub node: PlanNode,
    pub output: Vec<Slot>,
    /// Of the rows that it gives.
    pub order: Vec<OrderKey>,
    /// It locks rows.
    pub locks: bool,
    /// Of a range that may read others of the query around it, if it is simple.
    pub recheck: Option<Recheck>,
}

/// A query with a frame of its own.
pub struct PlannedLevel {
    pub level: Level,
    /// It locks rows.
    pub locks: bool,
    /// The outer values that it reads.
    pub reads: SlotSet,
}

pub fn plan_level(
    shared: &mut Shared<'_>,
    query: &Query,
    one_row: bool,
) -> Result<PlannedLevel, SqlError> {
    let mut planner = Planner::new(shared);
    let mut planned = plan_hinted(&mut planner, query, None, one_row.then_some(1.0))?;
    let needed: SlotSet = planned.output.iter().copied().collect();
    planner.shared.settler.settle(&mut planned.node, &needed);
    let (level, reads) = planner.into_level(planned.node, planned.output);
    Ok(PlannedLevel {
        level,
        locks: planned.locks,
        reads,
    })
}

/// Plans a query within a frame. With `dest`, its columns go to those slots.
pub fn plan_query(
    planner: &mut Planner<'_, '_>,
    query: &Query,
    dest: Option<&[Slot]>,
) -> Result<Planned, SqlError> {
    plan_hinted(planner, query, dest, None)
}

/// `wanted_rows`: the reader stops after so many.
fn plan_hinted(
    planner: &mut Planner<'_, '_>,
    query: &Query,
    dest: Option<&[Slot]>,
    wanted_rows: Option<f64>,
) -> Result<Planned, SqlError> {
    planner.shared.cx.function.host.check_interrupts()?;
    let names = planner.open_ctes(&query.ctes)?;
    let planned = plan_body(planner, query, dest, wanted_rows);
    planner.close_ctes(names);
    planned
}

fn plan_body(
    planner: &mut Planner<'_, '_>,
    query: &Query,
    dest: Option<&[Slot]>,
    wanted_rows: Option<f64>,
) -> Result<Planned, SqlError> {
    match &query.body {
        Body::Select(body) => select::plan(planner, body, query, dest, wanted_rows),
        Body::Values(values) => {
            let planned = plan_values(planner, values, dest)?;
            finish(planner, query, planned)
        }
        Body::SetOperation(set) => {
            let planned = plan_set_operation(planner, set, dest)?;
            finish(planner, query, planned)
        }
    }
}

fn plan_values(
    planner: &mut Planner<'_, '_>,
    values: &Values,
    dest: Option<&[Slot]>,
) -> Result<Planned, SqlError> {
    let output = output_slots(planner, dest, values.types.len(), |n| {
        (format!("\"*VALUES*\".column{}", n + 1), values.types[n])
    });
    let rows = planner.lower_rows(values)?;
    let count = rows.len() as f64;
    let s = planner.shared.cx.settings;
    let made = node(
        NodeKind::ValuesScan {
            alias: "*VALUES*".to_owned(),
            rows,
            slots: output.clone(),
            filter: None,
        },
        Cost {
            startup: 0.0,
            total: count * s.cpu_operator_cost * 5.0,
            rows: count,
            width: 4.0 * output.len() as f64,
        },
    );
    Ok(Planned {
        node: made,
        output,
        order: Vec::new(),
        locks: false,
        recheck: None,
    })
}

/// The given slots, or new ones.
fn output_slots(
    planner: &mut Planner<'_, '_>,
    dest: Option<&[Slot]>,
    count: usize,
    describe: impl Fn(usize) -> (String, crate::types::datum::SqlType),
) -> Vec<Slot> {
    match dest {
        Some(dest) => dest[..count].to_vec(),
        None => (0..count)
            .map(|n| {
                let (name, ty) = describe(n);
                planner.new_slot(name, ty)
            })
            .collect(),
    }
}

fn plan_set_operation(
    planner: &mut Planner<'_, '_>,
    set: &SetOperation,
    dest: Option<&[Slot]>,
) -> Result<Planned, SqlError> {
    let columns = &set.left.output;
    let output = output_slots(planner, dest, columns.len(), |n| {
        (columns[n].name.clone(), columns[n].ty)
    });
    let left = plan_query(planner, &set.left, Some(&output))?;
    let right = plan_query(planner, &set.right, Some(&output))?;
    let locks = left.locks || right.locks;
    let keys = || -> Result<Vec<KeySlot>, SqlError> {
        output
            .iter()
            .zip(columns)
            .map(|(slot, c)| key_slot(*slot, c.ty))
            .collect()
    };
    let (l, r) = (left.node.cost, right.node.cost);
    let s = planner.shared.cx.settings;
    let both = Cost {
        startup: l.startup,
        total: l.total + r.total + (l.rows + r.rows) * s.cpu_tuple_cost * 0.5,
        rows: l.rows + r.rows,
        width: l.width.max(r.width),
    };
    let made = if set.op == SetOp::Union {
        let append = node(
            NodeKind::Append {
                children: append_children(left.node, right.node),
            },
            both,
        );
        if set.all {
            append
        } else {
            distinct(planner, append, keys()?)
        }
    } else {
        let keys = keys()?;
        if keys.iter().any(|k| k.hash.is_none()) {
            let name = if set.op == SetOp::Intersect {
                "INTERSECT"
            } else {
                "EXCEPT"
            };
            return Err(SqlError::unsupported(format!("could not implement {name}"))
                .detail("All column datatypes must be hashable."));
        }
        let rows = if set.op == SetOp::Intersect {
            l.rows.min(r.rows)
        } else {
            l.rows
        };
        node(
            NodeKind::SetOp(SetOpNode {
                op: set.op,
                all: set.all,
                left: Arc::new(left.node),
                right: Arc::new(right.node),
                keys,
            }),
            Cost {
                startup: both.total,
                total: both.total + both.rows * s.cpu_operator_cost * 4.0,
                rows,
                ..both
            },
        )
    };
    Ok(Planned {
        node: made,
        output,
        order: Vec::new(),
        locks,
        recheck: None,
    })
}

/// Appends of appends become one.
fn append_children(left: PlanNode, right: PlanNode) -> Vec<Arc<PlanNode>> {
    let mut children = Vec::new();
    for side in [left, right] {
        match side.kind {
            NodeKind::Append { children: inner } => children.extend(inner),
            kind => children.push(Arc::new(PlanNode {
                kind,
                cost: side.cost,
                id: side.id,
            })),
        }
    }
    children
}

/// Each distinct row once: by hash if the types hash, else sorted.
pub fn distinct(planner: &Planner<'_, '_>, child: PlanNode, keys: Vec<KeySlot>) -> PlanNode {
    let s = planner.shared.cx.settings;
    let input = child.cost;
    let rows = (input.rows * 0.5).max(1.0).round();
    let per_row = s.cpu_operator_cost * keys.len().max(1) as f64;
    if keys.iter().all(|k| k.hash.is_some()) {
        let cost = Cost {
            startup: input.startup,
            total: input.total + input.rows * per_row,
            rows,
            width: input.width,
        };
        let child = Arc::new(child);
        return node(NodeKind::HashDistinct { child, keys }, cost);
    }
    let sort_keys = keys
        .iter()
        .map(|k| SortKey {
            slot: k.slot,
            ty: k.ty,
            compare: k.compare,
            descending: false,
            nulls_first: false,
        })
        .collect();
    let sorted = sort(planner, child, sort_keys, None);
    let cost = Cost {
        startup: sorted.cost.startup,
        total: sorted.cost.total + input.rows * per_row,
        rows,
        width: input.width,
    };
    let child = Arc::new(sorted);
    node(NodeKind::Unique { child, keys }, cost)
}

pub fn sort(
    planner: &Planner<'_, '_>,
    child: PlanNode,
    keys: Vec<SortKey>,
    limit: Option<(TopRows, f64)>,
) -> PlanNode {
    let s = planner.shared.cx.settings;
    let input = child.cost;
    let rows = limit.as_ref().map(|(_, rows)| *rows);
    let startup = input.total + cost::sort(s, input.rows, input.width, rows);
    let cost = Cost {
        startup,
        total: startup + input.rows * s.cpu_operator_cost,
        ..input
    };
    node(
        NodeKind::Sort(Sort {
            child: Arc::new(child),
            keys,
            slots: Vec::new(),
            limit: limit.map(|(top, _)| top),
        }),
        cost,
    )
}

/// ORDER BY and LIMIT of a query whose body is not a SELECT.
fn finish(
    planner: &mut Planner<'_, '_>,
    query: &Query,
    mut planned: Planned,
) -> Result<Planned, SqlError> {
    let keys = query
        .order_by
        .iter()
        .map(|item| {
            let slot = planned.output[item.target];
            sort_key(
                slot,
                planner.slots[slot].ty,
                item.descending,
                item.nulls_first,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let limits = limits(planner, query)?;
    if !keys.is_empty() {
        let top = top_rows(planner, query, &limits)?;
        planned.node = sort(planner, planned.node, keys.clone(), top);
        planned.order = order_of(&keys);
    }
    planned.node = limit(planner, planned.node, query, limits, &keys)?;
    Ok(planned)
}

pub fn order_of(keys: &[SortKey]) -> Vec<OrderKey> {
    keys.iter()
        .map(|k| OrderKey {
            slot: k.slot,
            descending: k.descending,
            nulls_first: k.nulls_first,
        })
        .collect()
}

/// LIMIT and OFFSET, lowered, and how many rows they let through as far as is known.
pub struct Limits {
    pub limit: Option<crate::sql::bound::Expr>,
    pub offset: Option<crate::sql::bound::Expr>,
}

impl Limits {
    fn constant(expr: Option<&crate::sql::bound::Expr>) -> Option<f64> {
        match expr {
            Some(crate::sql::bound::Expr::Const(crate::types::datum::Datum::Int8(n), _)) => {
                Some((*n).max(0) as f64)
            }
            _ => None,
        }
    }
    /// Of `rows`; an unknown limit is guessed to let a tenth through.
    pub fn rows(&self, rows: f64) -> Option<f64> {
        self.limit.as_ref()?;
        let limit = Limits::constant(self.limit.as_ref()).unwrap_or((rows * 0.1).max(1.0));
        Some(limit + self.skipped())
    }
    fn skipped(&self) -> f64 {
        Limits::constant(self.offset.as_ref()).unwrap_or(0.0)
    }
}

pub fn limits(planner: &mut Planner<'_, '_>, query: &Query) -> Result<Limits, SqlError> {
    let scope = Scope::default();
    let mut lower = |e: &Option<crate::sql::bound::Expr>| {
        e.as_ref().map(|e| planner.lower(e, &scope)).transpose()
    };
    Ok(Limits {
        limit: lower(&query.limit)?,
        offset: lower(&query.offset)?,
    })
}

/// What a sort right below the limit may know of it.
pub fn top_rows(
    planner: &mut Planner<'_, '_>,
    query: &Query,
    limits: &Limits,
) -> Result<Option<(TopRows, f64)>, SqlError> {
    let _ = planner;
    let Some(limit) = &limits.limit else {
        return Ok(None);
    };
    if query.with_ties || !query.locking.is_empty() {
        return Ok(None);
    }
    // Volatile limits are computed once only, by the limit itself.
    let computed_twice = |e: &crate::sql::bound::Expr| super::exprs::is_volatile(e);
    if computed_twice(limit) || limits.offset.as_ref().is_some_and(computed_twice) {
        return Ok(None);
    }
    let rows = limits.rows(1000.0).unwrap_or(1000.0);
    let top = TopRows {
        limit: Scalar::new(limit.clone()),
        offset: limits.offset.clone().map(Scalar::new),
    };
    Ok(Some((top, rows)))
}

pub fn limit(
    planner: &Planner<'_, '_>,
    child: PlanNode,
    query: &Query,
    limits: Limits,
    keys: &[SortKey],
) -> Result<PlanNode, SqlError> {
    let _ = planner;
    if limits.limit.is_none() && limits.offset.is_none() {
        return Ok(child);
    }
    let input = child.cost;
    let end = limits
        .rows(input.rows)
        .unwrap_or(input.rows)
        .min(input.rows);
    let skipped = limits.skipped().min(input.rows);
    let share = |rows: f64| {
        if input.rows > 0.0 {
            input.startup + (input.total - input.startup) * (rows / input.rows)
        } else {
            input.total
        }
    };
    let cost = Cost {
        startup: share(skipped),
        total: share(end),
        rows: (end - skipped).max(1.0),
        width: input.width,
    };
    Ok(node(
        NodeKind::Limit(Limit {
            child: Arc::new(child),
            limit: limits.limit.map(Scalar::new),
            offset: limits.offset.map(Scalar::new),
            ties: query.with_ties.then(|| keys.to_vec()),
        }),
        cost,
    ))
}
