//! The relations of one query level: their slots, sizes, and the nodes of those that no table holds.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::sql::bound::{Expr, FromItem, Join, JoinKind, Range, RangeCall, RangeSource, Values};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, slot_expr};
use crate::sql::plan::build::node;
use crate::sql::plan::exprs::{SlotSet, conjuncts};
use crate::sql::plan::from::{Base, BaseKind, JoinItem, JoinList};
use crate::sql::plan::lateral::{give_slots, is_lateral};
use crate::sql::plan::planner::{Needed, Planner, RangeScope, Scope};
use crate::sql::plan::query::{self, Planned};
use crate::sql::plan::tree::{Cost, FunctionScan, JoinType, NodeKind, PlanNode, TableCall};
use crate::types::datum::SqlType;
use crate::types::{oids, registry};

/// A level's relations, opened.
pub struct Ranges {
    pub scope: Scope,
    pub bases: Vec<Base>,
    pub computed: Vec<Option<PlanNode>>,
    /// A subquery among them locks rows.
    pub locks: bool,
}

/// Rows that are guessed of a function or a table that the code fills.
pub const COMPUTED_ROWS: f64 = 1000.0;

/// Pages of a table that was never counted and whose file nobody asked for: as PostgreSQL guesses.
const UNKNOWN_PAGES: f64 = 10.0;

pub fn width_of(types: impl Iterator<Item = SqlType>) -> f64 {
    types
        .map(|ty| match registry::by_oid(ty.oid) {
            Some(t) if t.length > 0 => f64::from(t.length),
            _ => 32.0,
        })
        .sum()
}

impl Planner<'_, '_> {
    /// Pages and rows of a table.
    fn size_of(&self, relation: &Relation) -> (f64, f64) {
        let now = self.shared.cx.pages.and_then(|ask| ask(relation));
        let counted = f64::from(relation.estimated_pages);
        let pages = match now {
            Some(pages) => f64::from(pages),
            None if relation.estimated_rows >= 0.0 => counted,
            None => UNKNOWN_PAGES,
        };
        if relation.estimated_rows >= 0.0 && counted > 0.0 {
            let density = relation.estimated_rows / counted;
            return (pages, (density * pages).max(1.0).round());
        }
        if relation.estimated_rows >= 0.0 && pages <= 1.0 {
            return (pages.max(1.0), relation.estimated_rows.max(1.0));
        }
        let width = width_of(relation.live_columns().map(|(_, c)| c.ty)) + 38.0;
        let pages = if now == Some(0) { UNKNOWN_PAGES } else { pages };
        (pages, (pages * (8168.0 / width).floor()).max(1.0))
    }

    /// Each range after those to its left, which it may read. `level`: by which it refers to them.
    pub fn open_ranges(
        &mut self,
        level: Option<usize>,
        ranges: &[Range],
        needed: &[Needed],
    ) -> Result<Ranges, SqlError> {
        let mut opened = Ranges {
            scope: Scope {
                level,
                ..Scope::default()
            },
            bases: Vec::new(),
            computed: Vec::new(),
            locks: false,
        };
        for (range, needed) in ranges.iter().zip(needed) {
            let (base, computed) =
                self.open_range(range, needed, &opened.scope, &mut opened.locks)?;
            opened.scope.ranges.push(base.scope.clone());
            opened.bases.push(base);
            opened.computed.push(computed);
        }
        Ok(opened)
    }

    fn open_range(
        &mut self,
        range: &Range,
        needed: &Needed,
        left: &Scope,
        locks: &mut bool,
    ) -> Result<(Base, Option<PlanNode>), SqlError> {
        match &range.source {
            RangeSource::Table(relation) => {
                let (pages, rows) = self.size_of(relation);
                let scope = self.relation_scope(&range.alias, relation, needed, rows)?;
                let kind = BaseKind::Table(Arc::clone(relation));
                Ok((
                    base(&range.alias, kind, scope, rows, pages, relation, needed),
                    None,
                ))
            }
            RangeSource::Virtual(relation) => {
                let scope = self.relation_scope(&range.alias, relation, needed, COMPUTED_ROWS)?;
                let made = NodeKind::VirtualScan {
                    relation: Arc::clone(relation),
                    alias: range.alias.clone(),
                    fetch: scope.fetch.clone(),
                    filter: None,
                };
                let kind = BaseKind::Computed;
                let base = base(
                    &range.alias,
                    kind,
                    scope,
                    COMPUTED_ROWS,
                    0.0,
                    relation,
                    needed,
                );
                Ok((base, Some(node(made, Cost::default()))))
            }
            RangeSource::Values(values) => self.open_values(range, values),
            RangeSource::Cte { id, name, .. } => self.open_cte(range, (*id, name), locks),
            RangeSource::Function {
                calls,
                with_ordinality,
            } => self.open_functions(range, (calls.as_slice(), *with_ordinality), needed, left),
            RangeSource::Subquery(sub) => {
                let (planned, passed) = if is_lateral(&range.source, left.level) {
                    self.beside(left, |p| query::plan_query(p, sub, None))?
                } else {
                    (query::plan_query(self, sub, None)?, Vec::new())
                };
                *locks |= planned.locks;
                Ok(self.open_planned(&range.alias, planned, passed))
            }
        }
    }

    pub(super) fn open_planned(
        &mut self,
        alias: &str,
        mut planned: Planned,
        mut passed: Vec<(usize, Slot)>,
    ) -> (Base, Option<PlanNode>) {
        self.keep_read(&mut planned.node, &mut passed);
        let columns = planned
            .output
            .iter()
            .map(|slot| Some(slot_expr(*slot, self.slots[*slot].ty)))
            .collect();
        let cost = planned.node.cost;
        let base = Base {
            alias: alias.to_owned(),
            kind: BaseKind::Subquery(cost),
            scope: RangeScope {
                columns,
                ..RangeScope::default()
            },
            slots: planned.output.iter().copied().collect(),
            rows: cost.rows.max(1.0),
            pages: 0.0,
            width: cost.width,
            order: planned.order,
            passed,
            recheck: planned.recheck,
        };
        (base, Some(planned.node))
    }

    fn open_values(
        &mut self,
        range: &Range,
        values: &Values,
    ) -> Result<(Base, Option<PlanNode>), SqlError> {
        let mut columns = Vec::new();
        let mut slots = Vec::new();
        for (number, ty) in values.types.iter().enumerate() {
            let name = range
                .columns
                .get(number)
                .map_or_else(|| format!("column{}", number + 1), |c| c.name.clone());
            let slot = self.new_slot(format!("{}.{name}", range.alias), *ty);
            slots.push(slot);
            columns.push(Some(slot_expr(slot, *ty)));
        }
        let rows = self.lower_rows(values)?;
        let count = rows.len() as f64;
        let base = Base {
            alias: range.alias.clone(),
            kind: BaseKind::Computed,
            scope: RangeScope {
                columns,
                ..RangeScope::default()
            },
            slots: slots.iter().copied().collect(),
            rows: count.max(1.0),
            pages: 0.0,
            width: width_of(values.types.iter().copied()),
            order: Vec::new(),
            passed: Vec::new(),
            recheck: None,
        };
        let kind = NodeKind::ValuesScan {
            alias: range.alias.clone(),
            rows,
            slots,
            filter: None,
        };
        Ok((base, Some(node(kind, Cost::default()))))
    }

    pub fn lower_rows(&mut self, values: &Values) -> Result<Vec<Vec<Scalar>>, SqlError> {
        let scope = Scope::default();
        values
            .rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|e| Ok(Scalar::new(self.lower(e, &scope)?)))
                    .collect()
            })
            .collect()
    }

    fn open_functions(
        &mut self,
        range: &Range,
        (calls, with_ordinality): (&[RangeCall], bool),
        needed: &Needed,
        left: &Scope,
    ) -> Result<(Base, Option<PlanNode>), SqlError> {
        let fields = range.columns.len() - usize::from(with_ordinality);
        let mut columns = vec![None; range.columns.len()];
        let mut slots = vec![None; fields];
        let mut ordinality = None;
        for number in &needed.columns {
            let column = &range.columns[*number];
            let slot = self.new_slot(format!("{}.{}", range.alias, column.name), column.ty);
            columns[*number] = Some(slot_expr(slot, column.ty));
            if *number < fields {
                slots[*number] = Some(slot);
            } else {
                ordinality = Some(slot);
            }
        }
        let all: SlotSet = slots.iter().copied().flatten().chain(ordinality).collect();
        let mut passed = Vec::new();
        let mut made = Vec::with_capacity(calls.len());
        for call in calls {
            let behind = slots.split_off(call.columns);
            let own = std::mem::replace(&mut slots, behind);
            made.push(self.table_call(call, own, left, &mut passed)?);
        }
        let kind = NodeKind::FunctionScan(FunctionScan {
            alias: range.alias.clone(),
            calls: made,
            ordinality,
            filter: None,
        });
        let mut made = node(kind, Cost::default());
        self.keep_read(&mut made, &mut passed);
        let base = Base {
            alias: range.alias.clone(),
            kind: BaseKind::Computed,
            scope: RangeScope {
                columns,
                ..RangeScope::default()
            },
            slots: all,
            rows: COMPUTED_ROWS,
            pages: 0.0,
            width: width_of(range.columns.iter().map(|c| c.ty)),
            order: Vec::new(),
            passed,
            recheck: None,
        };
        Ok((base, Some(made)))
    }

    /// One of them; its columns go to `slots`.
    fn table_call(
        &mut self,
        call: &RangeCall,
        slots: Vec<Option<Slot>>,
        left: &Scope,
        passed: &mut Vec<(usize, Slot)>,
    ) -> Result<TableCall, SqlError> {
        let (function, args) = match &call.call {
            Expr::Call { function, args, .. } => (Some(*function), args.as_slice()),
            value => (None, std::slice::from_ref(value)),
        };
        let mut lowered = Vec::with_capacity(args.len());
        for arg in args {
            let mut arg = self.lower(arg, left)?;
            give_slots(&mut arg, passed, &mut self.shared.numbers);
            lowered.push(Scalar::new(arg));
        }
        let result = call.call.ty().oid;
        Ok(TableCall {
            function,
            arg_types: args.iter().map(|a| a.ty().oid).collect(),
            args: lowered,
            result,
            fields: result == oids::RECORD,
            slots,
        })
    }

    /// FROM's items as one list of joins, conditions lowered.
    pub fn join_list(&mut self, items: &[FromItem], scope: &Scope) -> Result<JoinList, SqlError> {
        let mut list = JoinList::default();
        for item in items {
            self.add_item(item, scope, &mut list)?;
        }
        Ok(list)
    }

    fn add_item(
        &mut self,
        item: &FromItem,
        scope: &Scope,
        list: &mut JoinList,
    ) -> Result<(), SqlError> {
        let join: &Join = match item {
            FromItem::Range(number) => {
                list.items.push(JoinItem::Base(*number));
                return Ok(());
            }
            FromItem::Join(join) => join,
        };
        let mut on = Vec::new();
        if let Some(condition) = &join.on {
            conjuncts(self.lower(condition, scope)?, &mut on);
        }
        if join.kind == JoinKind::Inner {
            self.add_item(&join.left, scope, list)?;
            self.add_item(&join.right, scope, list)?;
            list.conditions.extend(on);
            return Ok(());
        }
        let mut left = JoinList::default();
        let mut right = JoinList::default();
        self.add_item(&join.left, scope, &mut left)?;
        self.add_item(&join.right, scope, &mut right)?;
        if join.kind == JoinKind::Right {
            std::mem::swap(&mut left, &mut right);
        }
        list.items.push(JoinItem::Outer {
            join: if join.kind == JoinKind::Full {
                JoinType::Full
            } else {
                JoinType::Left
            },
            left: Box::new(left),
            right: Box::new(right),
            on,
        });
        Ok(())
    }
}

fn base(
    alias: &str,
    kind: BaseKind,
    scope: RangeScope,
    rows: f64,
    pages: f64,
    relation: &Relation,
    needed: &Needed,
) -> Base {
    let types = needed.columns.iter().map(|n| relation.columns[*n].ty);
    Base {
        alias: alias.to_owned(),
        kind,
        slots: scope.fetch.slots().collect(),
        scope,
        rows,
        pages,
        width: width_of(types),
        order: Vec::new(),
        passed: Vec::new(),
        recheck: None,
    }
}

/// Conditions that read no row are tested once, before everything.
pub fn split_constant(conditions: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    conditions
        .into_iter()
        .partition(|c| !super::exprs::slots_of(c).is_empty() || super::exprs::is_volatile(c))
}
