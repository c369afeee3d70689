//! One SELECT: from its relations over grouping, targets, DISTINCT and ORDER BY to LIMIT.

use std::rc::Rc;
use std::sync::Arc;

use crate::sql::bind;
use crate::sql::bound::{AggregateCall, Distinct, Expr, FromItem, Query, Select, SystemColumn};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test, slot_expr, slot_of};
use crate::sql::plan::build::{self, Parts, key_slot, node, order_of, sort_key};
use crate::sql::plan::cost;
use crate::sql::plan::exprs::{SlotSet, cheap_first, conjuncts, has_subquery, is_volatile, same};
use crate::sql::plan::from::{FromPlanner, JoinItem, JoinList};
use crate::sql::plan::lateral::{Recheck, collect_lateral};
use crate::sql::plan::locks::{RowLocks, row_locks};
use crate::sql::plan::path::{OrderKey, Path};
use crate::sql::plan::planner::{Needed, Planner, Scope, collect_needed};
use crate::sql::plan::query::{self, Limits, Planned};
use crate::sql::plan::ranges::{Ranges, split_constant};
use crate::sql::plan::sets::{project, returns_sets};
use crate::sql::plan::tree::{
    Again, AggregateNode, AggregateOrder, AggregateSpec, Cost, Grouping, KeySlot, NodeKind,
    PlanNode, SortKey,
};
use crate::sql::plan::window::{self, Windows};

/// Rows of FROM and WHERE, in the order they come.
pub struct Source {
    pub node: PlanNode,
    pub order: Vec<OrderKey>,
    pub fixed: SlotSet,
}

/// What the part above FROM would like.
#[derive(Default)]
pub struct Wish {
    pub order: Vec<OrderKey>,
    /// The reader stops after so many rows.
    pub rows: Option<f64>,
}

impl Planner<'_, '_> {
    /// Joins the opened relations under the conditions, in the way that is cheapest for the wish.
    pub fn plan_source(
        &mut self,
        ranges: Ranges,
        list: JoinList,
        wish: &Wish,
    ) -> Result<Source, SqlError> {
        let mut list = list;
        let (conditions, once) = split_constant(std::mem::take(&mut list.conditions));
        list.conditions = conditions;
        if list.items.is_empty() {
            let all = once.into_iter().chain(list.conditions).collect();
            let filter = Test::all(cheap_first(all));
            let cost = Cost {
                total: self.shared.cx.settings.cpu_tuple_cost,
                rows: 1.0,
                ..Cost::default()
            };
            return Ok(Source {
                node: node(NodeKind::Result { filter }, cost),
                order: Vec::new(),
                fixed: SlotSet::default(),
            });
        }
        let from = FromPlanner {
            bases: &ranges.bases,
            estimates: &self.estimates,
            settings: self.shared.cx.settings,
            function: self.shared.cx.function,
            may_use: self.shared.cx.may_use,
            wants_order: !wish.order.is_empty(),
        };
        let found = from.plan_list(list, &[]);
        let path = self.choose(&found.paths, wish);
        let mut parts = Parts {
            bases: &ranges.bases,
            computed: ranges.computed,
        };
        let mut made = build::build(&path, &mut parts)?;
        if let Some(test) = Test::all(cheap_first(once)) {
            let cost = made.cost;
            let child = Arc::new(made);
            made = node(
                NodeKind::Filter {
                    child,
                    test,
                    once: true,
                },
                cost,
            );
        }
        Ok(Source {
            node: made,
            order: path.order.clone(),
            fixed: path.fixed.clone(),
        })
    }

    /// The path that costs least once its rows are in the wanted order, as far as they are read.
    fn choose(&self, paths: &[Rc<Path>], wish: &Wish) -> Rc<Path> {
        let s = self.shared.cx.settings;
        let price = |p: &Path| {
            let (startup, total) = if p.provides(&wish.order) {
                (p.startup, p.total)
            } else {
                let sorting = cost::sort(s, p.rows, p.width, wish.rows);
                (p.total + sorting, p.total + sorting)
            };
            let share = wish.rows.map_or(1.0, |r| (r / p.rows.max(1.0)).min(1.0));
            startup + (total - startup) * share
        };
        let usable = paths.iter().filter(|p| p.outer.is_empty());
        let best = usable.min_by(|a, b| price(a).total_cmp(&price(b)));
        Rc::clone(best.expect("reading all of it is always a way"))
    }
}

/// Everything that the level's expressions read.
fn needed_of(select: &Select, query: &Query) -> Vec<Needed> {
    let mut needed = vec![Needed::default(); select.ranges.len()];
    let level = select.level;
    let mut add = |e: &Expr| collect_needed(e, level, &mut needed);
    select.targets.iter().for_each(|t| add(&t.expr));
    select.filter.iter().for_each(&mut add);
    select.group_by.iter().for_each(&mut add);
    select.having.iter().for_each(&mut add);
    for call in &select.aggregates {
        call.args.iter().for_each(&mut add);
        call.order_by.iter().for_each(|(e, _, _)| add(e));
        call.filter.iter().for_each(&mut add);
    }
    bind::of_windows(&select.windows, &mut add);
    for item in &select.from {
        needed_of_item(item, level, &mut needed);
    }
    collect_lateral(&select.ranges, level, &mut needed);
    for lock in &query.locking {
        if let Some(range) = needed.get_mut(lock.range)
            && !range.system.contains(&SystemColumn::Ctid)
        {
            range.system.push(SystemColumn::Ctid);
        }
    }
    needed
}

pub fn needed_of_item(item: &FromItem, level: Option<usize>, needed: &mut [Needed]) {
    if let FromItem::Join(join) = item {
        if let Some(on) = &join.on {
            collect_needed(on, level, needed);
        }
        needed_of_item(&join.left, level, needed);
        needed_of_item(&join.right, level, needed);
    }
}

struct Level<'q> {
    select: &'q Select,
    query: &'q Query,
    scope: Scope,
    limits: Limits,
    dest: Option<&'q [Slot]>,
    wanted_rows: Option<f64>,
    /// It is a range that may read others of the query around it, and is computed anew where they have newer versions.
    again: bool,
    /// Expressions that windows are ordered by or have their parts by, where they are computed.
    window_keys: Vec<(Expr, Slot)>,
}

/// PostgreSQL would make such a query a part of the one around it (`is_simple_subquery`).
fn is_simple(select: &Select, query: &Query, list: &JoinList) -> bool {
    let computes_sets_or_more = |e: &Expr| returns_sets(e) || is_volatile(e);
    let is_grouped =
        !select.group_by.is_empty() || !select.aggregates.is_empty() || select.having.is_some();
    let is_cut = query.limit.is_some() || query.offset.is_some();
    let is_inner = |item: &JoinItem| matches!(item, JoinItem::Base(_));
    !is_grouped
        && select.windows.is_empty()
        && query.ctes.is_empty()
        && !is_cut
        && select.distinct == Distinct::No
        && query.order_by.is_empty()
        && query.locking.is_empty()
        && list.items.iter().all(is_inner)
        && !list.conditions.iter().any(is_volatile)
        && !select
            .targets
            .iter()
            .any(|t| computes_sets_or_more(&t.expr))
}

pub fn plan(
    planner: &mut Planner<'_, '_>,
    select: &Select,
    query: &Query,
    dest: Option<&[Slot]>,
    wanted_rows: Option<f64>,
) -> Result<Planned, SqlError> {
    let needed = needed_of(select, query);
    let mut ranges = planner.open_ranges(select.level, &select.ranges, &needed)?;
    let scope = Scope {
        level: select.level,
        ..std::mem::take(&mut ranges.scope)
    };
    let mut list = planner.join_list(&select.from, &scope)?;
    if let Some(filter) = &select.filter {
        conjuncts(planner.lower(filter, &scope)?, &mut list.conditions);
    }
    let limits = query::limits(planner, query)?;
    let again = planner.is_beside() && is_simple(select, query, &list);
    let mut level = Level {
        select,
        query,
        scope,
        limits,
        dest,
        wanted_rows,
        again,
        window_keys: Vec::new(),
    };
    let locks = row_locks(&query.locking, &ranges, &list)?;
    let locks_below = ranges.locks;
    let mut recheck = Recheck::default();
    if again {
        recheck.add(ranges.bases.iter());
        recheck.conditions.extend_from_slice(&list.conditions);
    }
    let grouped =
        !select.group_by.is_empty() || !select.aggregates.is_empty() || select.having.is_some();
    let source = if grouped {
        let source = group(planner, &mut level, ranges, list)?;
        match select.windows.is_empty() {
            true => source,
            false => {
                let keys = window::keys(planner, select, query, &level.scope)?;
                windowed(planner, &mut level, keys, source)?
            }
        }
    } else if select.windows.is_empty() {
        let wish = ungrouped_wish(planner, &level)?;
        planner.plan_source(ranges, list, &wish)?
    } else {
        let keys = window::keys(planner, select, query, &level.scope)?;
        let wish = Wish {
            order: keys.wanted_order(),
            rows: None,
        };
        let source = planner.plan_source(ranges, list, &wish)?;
        windowed(planner, &mut level, keys, source)?
    };
    let mut planned = finish(planner, &level, source, locks)?;
    planned.locks |= locks_below;
    if let Some(own) = &mut planned.recheck {
        // What it computes reads what its own ranges do.
        recheck.steps.append(&mut own.steps);
        *own = recheck;
    }
    Ok(planned)
}

/// Window functions over FROM's rows, or over the groups.
fn windowed(
    planner: &mut Planner<'_, '_>,
    level: &mut Level<'_>,
    mut keys: Windows,
    source: Source,
) -> Result<Source, SqlError> {
    level.window_keys = keys.take_keys();
    window::plan(planner, level.select, &mut level.scope, keys, source)
}

/// The order that ORDER BY asks of FROM's rows, if its keys are columns.
fn ungrouped_wish(planner: &mut Planner<'_, '_>, level: &Level<'_>) -> Result<Wish, SqlError> {
    let rows = match (&level.select.distinct, level.wanted_rows) {
        (Distinct::No, Some(rows)) => Some(rows),
        (Distinct::No, None) => level.limits.rows(1000.0),
        _ => None,
    };
    let mut order = Vec::new();
    for item in &level.query.order_by {
        let target = &level.select.targets[item.target].expr;
        let slot = match has_subquery(target) {
            // No column, and to lower it would plan it once more.
            true => None,
            false => slot_of(&planner.lower(target, &level.scope)?),
        };
        let Some(slot) = slot else {
            return Ok(Wish {
                order: Vec::new(),
                rows: None,
            });
        };
        order.push(OrderKey {
            slot,
            descending: item.descending,
            nulls_first: item.nulls_first,
        });
    }
    Ok(Wish { order, rows })
}

/// GROUP BY and HAVING over FROM's rows.
fn group(
    planner: &mut Planner<'_, '_>,
    level: &mut Level<'_>,
    ranges: Ranges,
    list: JoinList,
) -> Result<Source, SqlError> {
    let select = level.select;
    let mut computed = Vec::new();
    let mut keys = Vec::new();
    let mut key_exprs = Vec::new();
    for expr in &select.group_by {
        let lowered = planner.lower(expr, &level.scope)?;
        let slot = slot_of(&lowered).unwrap_or_else(|| {
            let slot = planner.computed_slot(&lowered);
            computed.push((slot, Scalar::new(lowered.clone())));
            slot
        });
        level.scope.groups.push(slot);
        keys.push(key_slot(slot, expr.ty())?);
        key_exprs.push(lowered);
    }
    let calls = aggregate_calls(planner, level)?;
    let mut wish = group_wish(&keys, &computed);
    let extreme = extreme_wish(level, &calls, &keys);
    let min_max = extreme.is_some();
    if let Some(order) = extreme {
        wish = Wish {
            order: vec![order],
            rows: Some(1.0),
        };
    }
    let mut source = planner.plan_source(ranges, list, &wish)?;
    if !computed.is_empty() {
        source.node = project(planner, source.node, computed);
    }
    if min_max {
        source = first_not_null(planner, source, &wish);
    }
    let groups = planner.estimates.groups(&key_exprs, source.node.cost.rows);
    let aggregated = aggregate(planner, source, keys, calls, groups);
    let mut source = aggregated;
    if let Some(having) = &select.having {
        let mut conditions = Vec::new();
        conjuncts(planner.lower(having, &level.scope)?, &mut conditions);
        let mut cost = source.node.cost;
        cost.rows = (cost.rows / 3.0).max(1.0).round();
        source.node = build::with_filter(source.node, conditions, cost);
    }
    Ok(source)
}

fn group_wish(keys: &[KeySlot], computed: &[(Slot, Scalar)]) -> Wish {
    if !computed.is_empty() {
        return Wish::default();
    }
    Wish {
        order: keys
            .iter()
            .map(|k| OrderKey {
                slot: k.slot,
                descending: false,
                nulls_first: false,
            })
            .collect(),
        rows: None,
    }
}

fn aggregate_calls(
    planner: &mut Planner<'_, '_>,
    level: &mut Level<'_>,
) -> Result<Vec<AggregateSpec>, SqlError> {
    let select = level.select;
    let mut calls = Vec::new();
    for (number, call) in select.aggregates.iter().enumerate() {
        let slot = planner.new_slot(String::new(), call.ty);
        planner.slots[slot].computed = Some(Expr::Aggregate(number, call.ty));
        calls.push(aggregate_call(planner, &level.scope, call, slot)?);
    }
    level.scope.aggregates = calls.iter().map(|c| c.slot).collect();
    Ok(calls)
}

fn aggregate_call(
    planner: &mut Planner<'_, '_>,
    scope: &Scope,
    call: &AggregateCall,
    slot: Slot,
) -> Result<AggregateSpec, SqlError> {
    let mut args = Vec::new();
    for arg in &call.args {
        args.push(Scalar::new(planner.lower(arg, scope)?));
    }
    let mut order_by = Vec::new();
    for (expr, descending, nulls_first) in &call.order_by {
        order_by.push(AggregateOrder {
            compare: order_of(expr.ty())?,
            value: Scalar::new(planner.lower(expr, scope)?),
            descending: *descending,
            nulls_first: *nulls_first,
        });
    }
    if call.distinct {
        for arg in &call.args {
            order_of(arg.ty())?;
        }
    }
    let filter = match &call.filter {
        None => None,
        Some(filter) => Some(Test::new(planner.lower(filter, scope)?)),
    };
    Ok(AggregateSpec {
        aggregate: call.aggregate,
        arg_types: call.args.iter().map(|a| a.ty().oid).collect(),
        args,
        distinct: call.distinct,
        order_by,
        filter,
        slot,
    })
}

/// `SELECT min(a) FROM ...` alone: the first row in `a`'s order is enough.
fn extreme_wish(level: &Level<'_>, calls: &[AggregateSpec], keys: &[KeySlot]) -> Option<OrderKey> {
    let [call] = calls else { return None };
    if !keys.is_empty() || call.filter.is_some() || level.select.ranges.len() != 1 {
        return None;
    }
    let descending = match call.aggregate.name {
        "min" => false,
        "max" => true,
        _ => return None,
    };
    let [arg] = call.args.as_slice() else {
        return None;
    };
    let slot = arg.slot()?;
    Some(OrderKey {
        slot,
        descending,
        nulls_first: descending,
    })
}

/// Cuts an input that comes in the wanted order to its first row with a value.
fn first_not_null(planner: &Planner<'_, '_>, mut source: Source, wish: &Wish) -> Source {
    let Some(first) = source.order.first().copied() else {
        return source;
    };
    let provides = source.order.first() == wish.order.first();
    if !provides || source.fixed.contains(first.slot) {
        return source;
    }
    let ty = planner.slots[first.slot].ty;
    let not_null = Expr::IsNull {
        arg: Box::new(crate::sql::exec::eval::slot_expr(first.slot, ty)),
        negated: true,
    };
    let input = source.node.cost;
    let filtered = build::with_filter(source.node, vec![not_null], input);
    let one = Expr::Const(
        crate::types::datum::Datum::Int8(1),
        crate::types::datum::SqlType::plain(crate::types::oids::INT8),
    );
    let cost = Cost {
        startup: input.startup,
        total: input.startup + (input.total - input.startup) / input.rows.max(1.0),
        rows: 1.0,
        width: input.width,
    };
    source.node = node(
        NodeKind::Limit(crate::sql::plan::tree::Limit {
            child: Arc::new(filtered),
            limit: Some(Scalar::new(one)),
            offset: None,
            ties: None,
        }),
        cost,
    );
    source
}

/// By hash or by order, whichever costs less and can be done.
fn aggregate(
    planner: &Planner<'_, '_>,
    source: Source,
    keys: Vec<KeySlot>,
    calls: Vec<AggregateSpec>,
    groups: f64,
) -> Source {
    let s = planner.shared.cx.settings;
    let input = source.node.cost;
    let per_row = s.cpu_operator_cost * (keys.len() + calls.len()) as f64;
    let work = input.rows * per_row;
    let wanted: Vec<OrderKey> = group_wish(&keys, &[]).order;
    let in_order = is_in_order(&source, &wanted);
    let hashable = keys.iter().all(|k| k.hash.is_some());
    let sorting = if in_order {
        0.0
    } else {
        cost::sort(s, input.rows, input.width, None)
    };
    let hash_off = if s.enable_hashagg {
        0.0
    } else {
        cost::DISABLED
    };
    let grouping = if keys.is_empty() {
        Grouping::Plain
    } else if hashable && hash_off + input.rows * s.cpu_operator_cost * 0.5 < sorting {
        Grouping::Hashed
    } else {
        Grouping::Sorted
    };
    let mut child = source.node;
    let mut order = Vec::new();
    if grouping == Grouping::Sorted {
        if !in_order {
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
            child = query::sort(planner, child, sort_keys, None);
        }
        order = wanted;
    }
    let total = child.cost.total + work + groups * s.cpu_tuple_cost;
    let cost = Cost {
        startup: if grouping == Grouping::Sorted {
            child.cost.startup
        } else {
            child.cost.total + work
        },
        total,
        rows: if grouping == Grouping::Plain {
            1.0
        } else {
            groups
        },
        width: 8.0 * (keys.len() + calls.len()) as f64,
    };
    Source {
        node: node(
            NodeKind::Aggregate(AggregateNode {
                child: Arc::new(child),
                grouping,
                keys,
                calls,
            }),
            cost,
        ),
        order,
        fixed: source.fixed,
    }
}

pub fn is_in_order(source: &Source, wanted: &[OrderKey]) -> bool {
    let mut own = source
        .order
        .iter()
        .filter(|k| !source.fixed.contains(k.slot));
    wanted
        .iter()
        .filter(|k| !source.fixed.contains(k.slot))
        .all(|k| own.next() == Some(k))
}

/// Whether rows that agree in these keys follow one another.
fn is_grouped_by(source: &Source, keys: &[KeySlot]) -> bool {
    let varies = |slot: &Slot| !source.fixed.contains(*slot);
    let set = |mut slots: Vec<Slot>| {
        slots.sort_unstable();
        slots.dedup();
        slots
    };
    let wanted = set(keys.iter().map(|k| k.slot).filter(varies).collect());
    let own = source.order.iter().map(|k| k.slot).filter(varies);
    set(own.take(wanted.len()).collect()) == wanted
}

/// The first row of each run that agrees in these keys.
fn unique(child: PlanNode, keys: Vec<KeySlot>) -> PlanNode {
    let cost = child.cost;
    let child = Arc::new(child);
    node(NodeKind::Unique { child, keys }, cost)
}

/// The select list's values: where each goes, and what is computed before sorting and what behind it.
struct Values {
    slots: Vec<Slot>,
    early: Vec<(Slot, Scalar)>,
    late: Vec<(Slot, Scalar)>,
    /// Sets are among the late ones: a sort does not know then how many of its rows a limit asks for.
    late_sets: bool,
}

fn values(planner: &mut Planner<'_, '_>, level: &Level<'_>) -> Result<Values, SqlError> {
    let (select, query) = (level.select, level.query);
    let visible = query.output.len();
    let mut slots = Vec::new();
    let mut items = Vec::new();
    for (number, target) in select.targets.iter().enumerate() {
        let mut lowered = planner.lower(&target.expr, &level.scope)?;
        // What a window has computed of the row is the value, though another call may give another one.
        let mut keys = level.window_keys.iter();
        if let Some((_, slot)) = keys.find(|(key, _)| same(key, &lowered)) {
            lowered = slot_expr(*slot, lowered.ty());
        }
        let wanted = level.dest.filter(|_| number < visible).map(|d| d[number]);
        let slot = match (wanted, slot_of(&lowered)) {
            (None, Some(slot)) => {
                slots.push(slot);
                continue;
            }
            (Some(slot), _) => slot,
            (None, None) => planner.computed_slot(&lowered),
        };
        slots.push(slot);
        let sets = returns_sets(&lowered);
        let is_early = match &select.distinct {
            Distinct::No => query.order_by.is_empty(),
            Distinct::All => true,
            Distinct::On(keys) => keys.contains(&number) || (sets && query.order_by.is_empty()),
        } || query.order_by.iter().any(|o| o.target == number);
        items.push((slot, Scalar::new(lowered), is_early, sets));
    }
    // A row's set stays together where nothing sorts by one of its values (`make_sort_input_target`).
    let all_sets_early = items.iter().any(|(_, _, early, sets)| *early && *sets);
    let mut made = Values {
        slots,
        early: Vec::new(),
        late: Vec::new(),
        late_sets: false,
    };
    for (slot, value, is_early, sets) in items {
        if is_early || (sets && all_sets_early) {
            made.early.push((slot, value));
        } else {
            made.late_sets |= sets;
            made.late.push((slot, value));
        }
    }
    Ok(made)
}

/// Targets, DISTINCT, ORDER BY, row locks, LIMIT.
fn finish(
    planner: &mut Planner<'_, '_>,
    level: &Level<'_>,
    source: Source,
    locks: Option<RowLocks>,
) -> Result<Planned, SqlError> {
    let (select, query) = (level.select, level.query);
    let visible = query.output.len();
    let Values {
        slots,
        early,
        late,
        late_sets,
    } = values(planner, level)?;
    let Source {
        node: made,
        order,
        fixed,
    } = source;
    let copies = || {
        let early = early.iter();
        early.map(|(slot, value)| (*slot, Scalar::new(value.source().clone())))
    };
    let again = match &locks {
        Some(_) => copies().collect(),
        None => Vec::new(),
    };
    let recheck = level.again.then(|| Recheck {
        conditions: Vec::new(),
        steps: copies().map(|(s, v)| Again::Compute(s, v)).collect(),
    });
    let mut source = Source {
        node: project(planner, made, early),
        order,
        fixed,
    };
    if select.distinct == Distinct::All {
        let keys = distinct_keys(planner, &slots[..visible])?;
        if is_grouped_by(&source, &keys) {
            source.node = unique(source.node, keys);
        } else {
            // A hash table that outgrows its memory gives rows in another order than they came in.
            source.node = query::distinct(planner, source.node, keys);
            source.order = Vec::new();
        }
    }
    let keys = sort_keys(planner, query, &slots)?;
    source = ordered(planner, level, source, &keys, &slots, late_sets)?;
    if let Some(locks) = locks {
        source.node = locks.over(source.node, again);
    }
    source.node = project(planner, source.node, late);
    let limits = Limits {
        limit: level.limits.limit.clone(),
        offset: level.limits.offset.clone(),
    };
    let made = query::limit(planner, source.node, query, limits, &keys)?;
    Ok(Planned {
        node: made,
        output: slots[..visible].to_vec(),
        order: source.order,
        locks: !query.locking.is_empty(),
        recheck,
    })
}

fn distinct_keys(planner: &Planner<'_, '_>, slots: &[Slot]) -> Result<Vec<KeySlot>, SqlError> {
    slots
        .iter()
        .map(|slot| key_slot(*slot, planner.slots[*slot].ty))
        .collect()
}

fn sort_keys(
    planner: &Planner<'_, '_>,
    query: &Query,
    slots: &[Slot],
) -> Result<Vec<SortKey>, SqlError> {
    query
        .order_by
        .iter()
        .map(|item| {
            let slot = slots[item.target];
            let ty = planner.slots[slot].ty;
            sort_key(slot, ty, item.descending, item.nulls_first)
        })
        .collect()
}

/// ORDER BY, and DISTINCT ON, which keeps the first row of each run.
fn ordered(
    planner: &mut Planner<'_, '_>,
    level: &Level<'_>,
    mut source: Source,
    keys: &[SortKey],
    slots: &[Slot],
    late_sets: bool,
) -> Result<Source, SqlError> {
    let on = match &level.select.distinct {
        Distinct::On(targets) => Some(targets.iter().map(|t| slots[*t]).collect::<Vec<_>>()),
        _ => None,
    };
    let mut keys = keys.to_vec();
    if let Some(on) = &on {
        // ORDER BY begins with these, if there is one; what it leaves out has to be in order too.
        for slot in on {
            if !keys.iter().any(|k| k.slot == *slot) {
                keys.push(sort_key(*slot, planner.slots[*slot].ty, false, false)?);
            }
        }
    }
    let wanted = query::order_of(&keys);
    if !is_in_order(&source, &wanted) {
        let top = match on {
            None if !late_sets => query::top_rows(planner, level.query, &level.limits)?,
            _ => None,
        };
        source.node = query::sort(planner, source.node, keys, top);
        source.order = wanted;
    }
    if let Some(on) = on {
        let keys = distinct_keys(planner, &on)?;
        source.node = unique(source.node, keys);
    }
    Ok(source)
}
