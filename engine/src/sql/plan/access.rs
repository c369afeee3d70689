//! Ways to read one relation: whole, or through an index that answers some of the conditions.

use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::relation::{Index, IndexKey, Relation};
use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::exec::eval::{Comparison, Slot, comparison_of, slot_of};
use crate::sql::plan::cost::{self, IndexCost};
use crate::sql::plan::exprs::{SlotSet, is_volatile, slots_of};
use crate::sql::plan::from::{Base, BaseKind, FromPlanner};
use crate::sql::plan::path::{IndexPath, KeyMatch, OrderKey, Path, PathKind};
use crate::types::oids;

/// All ways to read base `number` under `filter`; those that take keys from other relations use `joins`.
pub fn base_paths(
    from: &FromPlanner<'_>,
    number: usize,
    filter: &[Expr],
    joins: &[Expr],
) -> Vec<Rc<Path>> {
    let base = &from.bases[number];
    let mut paths = vec![whole(from, number, base, filter)];
    if let BaseKind::Table(relation) = &base.kind {
        let usable = |i: &Index| {
            i.valid && (i.only_if_sees.is_none() || from.may_use.is_some_and(|may_use| may_use(i)))
        };
        for index in relation.indexes.iter().filter(|i| usable(i)) {
            index_paths(from, number, relation, index, filter, joins, &mut paths);
        }
    }
    paths.into_iter().map(Rc::new).collect()
}

/// Rows after the conditions.
pub fn filtered_rows(from: &FromPlanner<'_>, base: &Base, filter: &[Expr]) -> f64 {
    let selectivity = from.estimates.selectivity(filter, from.function);
    (base.rows * selectivity).max(1.0).round()
}

fn whole(from: &FromPlanner<'_>, number: usize, base: &Base, filter: &[Expr]) -> Path {
    let costs = match &base.kind {
        BaseKind::Table(_) => cost::seq_scan(from.settings, base.pages, base.rows, filter.len()),
        BaseKind::Subquery(cost) => {
            let s = from.settings;
            let per_row = s.cpu_operator_cost * filter.len() as f64;
            cost::Costs {
                startup: cost.startup,
                total: cost.total + base.rows * per_row,
            }
        }
        _ => {
            let s = from.settings;
            let per_row = s.cpu_tuple_cost + s.cpu_operator_cost * filter.len() as f64;
            cost::Costs {
                startup: 0.0,
                total: base.rows * per_row,
            }
        }
    };
    let filter = filter.to_vec();
    Path {
        startup: costs.startup,
        total: costs.total,
        rows: filtered_rows(from, base, &filter),
        width: base.width,
        outer: base.sources(),
        order: base.order.clone(),
        fixed: fixed_slots(&filter),
        kind: match base.kind {
            BaseKind::Table(_) => PathKind::Seq {
                base: number,
                filter,
            },
            _ => PathKind::Whole {
                base: number,
                filter,
            },
        },
    }
}

/// Slots that the conditions hold to one value.
pub fn fixed_slots(conditions: &[Expr]) -> SlotSet {
    conditions
        .iter()
        .filter_map(|c| match super::statistics::comparison(c)? {
            (slot, Comparison::Equal, value) if !is_volatile(value) => Some(slot),
            _ => None,
        })
        .collect()
}

/// A condition that an index column can answer.
enum Usable {
    Equal(KeyMatch),
    /// Low bounds first.
    Bound(bool, Expr, bool),
}

fn index_paths(
    from: &FromPlanner<'_>,
    number: usize,
    relation: &Relation,
    index: &Arc<Index>,
    filter: &[Expr],
    joins: &[Expr],
    paths: &mut Vec<Path>,
) {
    paths.extend(match_index(from, number, relation, index, filter, &[]));
    // Keys from other relations: all such conditions together, and each alone.
    let own = &from.bases[number].slots;
    let usable: Vec<&Expr> = joins
        .iter()
        .filter(|c| {
            index
                .keys
                .iter()
                .any(|key| usable(from, number, key, c, own).is_some())
        })
        .collect();
    if usable.is_empty() {
        return;
    }
    paths.extend(match_index(from, number, relation, index, filter, &usable));
    if usable.len() > 1 {
        for one in &usable {
            paths.extend(match_index(from, number, relation, index, filter, &[one]));
        }
    }
}

fn same_family(a: Oid, b: Oid) -> bool {
    let integer = |t| t == oids::INT2 || t == oids::INT4 || t == oids::INT8;
    let string = |t| t == oids::TEXT || t == oids::VARCHAR || t == oids::NAME;
    a == b || (integer(a) && integer(b)) || (string(a) && string(b))
}

/// What `condition` says of `key`'s column, if its other side reads nothing of the relation itself.
fn usable(
    from: &FromPlanner<'_>,
    number: usize,
    key: &IndexKey,
    condition: &Expr,
    own: &SlotSet,
) -> Option<Usable> {
    let column = from.bases[number].column_slot(key.column)?;
    let is_column = |e: &Expr| slot_of(e) == Some(column);
    let foreign = |e: &Expr| !slots_of(e).intersects(own) && !is_volatile(e);
    match condition {
        Expr::Call { function, args, .. } => {
            let op = comparison_of(function)?;
            let [left, right] = args.as_slice() else {
                return None;
            };
            let (op, value, side) = if is_column(left) && foreign(right) {
                (op, right, 1)
            } else if is_column(right) && foreign(left) {
                (op.commuted(), left, 0)
            } else {
                return None;
            };
            if !same_family(key.ty.oid, function.args[side]) {
                return None;
            }
            let value = value.clone();
            Some(match op {
                Comparison::Equal => Usable::Equal(KeyMatch::One(value)),
                Comparison::Less => Usable::Bound(false, value, false),
                Comparison::LessEqual => Usable::Bound(false, value, true),
                Comparison::Greater => Usable::Bound(true, value, false),
                Comparison::GreaterEqual => Usable::Bound(true, value, true),
                Comparison::NotEqual => return None,
            })
        }
        Expr::AnyOf {
            function,
            left,
            items,
            all: false,
        } if is_column(left)
            && comparison_of(function) == Some(Comparison::Equal)
            && same_family(key.ty.oid, function.args[1])
            && items.iter().all(foreign) =>
        {
            Some(Usable::Equal(KeyMatch::AnyOf(items.clone())))
        }
        Expr::AnyArray {
            function,
            left,
            array,
            all: false,
        } if is_column(left)
            && comparison_of(function) == Some(Comparison::Equal)
            && same_family(key.ty.oid, function.args[1])
            && foreign(array) =>
        {
            Some(Usable::Equal(KeyMatch::AnyArray(array.as_ref().clone())))
        }
        Expr::IsNull {
            arg,
            negated: false,
        } if is_column(arg) => Some(Usable::Equal(KeyMatch::IsNull)),
        _ => None,
    }
}

/// The conditions that the index answers, column by column.
#[derive(Default)]
struct Matched {
    equal: Vec<KeyMatch>,
    lower: Option<(Expr, bool)>,
    upper: Option<(Expr, bool)>,
    /// Positions among the candidates.
    used: Vec<usize>,
    ranges: f64,
    /// All key columns are held to one value.
    all_equal: bool,
}

fn match_keys(
    from: &FromPlanner<'_>,
    number: usize,
    index: &Index,
    candidates: &[&Expr],
) -> Matched {
    let own = &from.bases[number].slots;
    let mut matched = Matched {
        ranges: 1.0,
        all_equal: true,
        ..Matched::default()
    };
    for key in &index.keys {
        let mut best: Option<(u8, KeyMatch, usize, f64)> = None;
        for (at, condition) in candidates.iter().enumerate() {
            let Some(Usable::Equal(found)) = usable(from, number, key, condition, own) else {
                continue;
            };
            let (rank, ranges) = match &found {
                KeyMatch::One(_) => (0, 1.0),
                KeyMatch::IsNull => (1, 1.0),
                KeyMatch::AnyOf(items) => (2, items.len() as f64),
                KeyMatch::AnyArray(_) => (3, 10.0),
            };
            if best.as_ref().is_none_or(|(r, ..)| rank < *r) {
                best = Some((rank, found, at, ranges));
            }
        }
        let Some((_, found, at, ranges)) = best else {
            matched.all_equal = false;
            for (at, condition) in candidates.iter().enumerate() {
                if let Some(Usable::Bound(is_lower, value, inclusive)) =
                    usable(from, number, key, condition, own)
                {
                    let place = if is_lower {
                        &mut matched.lower
                    } else {
                        &mut matched.upper
                    };
                    if place.is_none() {
                        *place = Some((value, inclusive));
                        matched.used.push(at);
                    }
                }
            }
            break;
        };
        matched.ranges *= ranges;
        matched.equal.push(found);
        matched.used.push(at);
    }
    matched
}

/// The way through one index, both directions, if it answers something or gives an order.
fn match_index(
    from: &FromPlanner<'_>,
    number: usize,
    relation: &Relation,
    index: &Arc<Index>,
    filter: &[Expr],
    joins: &[&Expr],
) -> Vec<Path> {
    let base = &from.bases[number];
    let candidates: Vec<&Expr> = filter.iter().chain(joins.iter().copied()).collect();
    let matched = match_keys(from, number, index, &candidates);
    let uses_join = matched.used.iter().any(|at| *at >= filter.len());
    if !joins.is_empty() && !uses_join {
        return Vec::new();
    }
    let order = index_order(base, index);
    if matched.used.is_empty() && (order.is_empty() || !from.wants_order) {
        return Vec::new();
    }
    let rest: Vec<Expr> = filter
        .iter()
        .enumerate()
        .filter(|(at, _)| !matched.used.contains(at))
        .map(|(_, c)| c.clone())
        .collect();
    let used: Vec<Expr> = matched
        .used
        .iter()
        .map(|at| candidates[*at].clone())
        .collect();
    let selectivity = from.estimates.selectivity(&used, from.function);
    let mut entries = (base.rows * selectivity).max(1.0);
    if index.unique && matched.all_equal {
        entries = entries.min(matched.ranges);
    }
    let kept = from.estimates.selectivity(&rest, from.function);
    let outer = outer_slots(&used, &base.slots);
    let costs = cost::index_scan(
        from.settings,
        &IndexCost {
            pages: base.pages,
            rows: base.rows,
            entries,
            ranges: matched.ranges,
            correlation: correlation(from, base, index),
            filters: rest.len(),
            loops: if outer.is_empty() { 1.0 } else { 10.0 },
        },
    );
    let fixed = index
        .keys
        .iter()
        .zip(&matched.equal)
        .filter(|(_, m)| matches!(m, KeyMatch::One(_) | KeyMatch::IsNull))
        .filter_map(|(key, _)| base.column_slot(key.column))
        .chain(fixed_slots(&rest).iter())
        .collect::<SlotSet>();
    let make = |backward: bool| Path {
        startup: costs.startup,
        total: costs.total,
        rows: (entries * kept).max(1.0).round(),
        width: base.width,
        outer: outer.clone(),
        order: order
            .iter()
            .map(|k| OrderKey {
                slot: k.slot,
                descending: k.descending != backward,
                nulls_first: k.nulls_first != backward,
            })
            .collect(),
        fixed: fixed.clone(),
        kind: PathKind::Index(Rc::new(IndexPath {
            base: number,
            index: Arc::clone(index),
            backward,
            equal: matched.equal.clone(),
            lower: matched.lower.clone(),
            upper: matched.upper.clone(),
            conditions: used.clone(),
            filter: rest.clone(),
        })),
    };
    debug_assert_eq!(index.table, relation.oid);
    if outer.is_empty() && from.wants_order && !order.is_empty() {
        vec![make(false), make(true)]
    } else {
        vec![make(false)]
    }
}

fn outer_slots(conditions: &[Expr], own: &SlotSet) -> SlotSet {
    conditions
        .iter()
        .flat_map(|c| slots_of(c).iter().collect::<Vec<Slot>>())
        .filter(|s| !own.contains(*s))
        .collect()
}

/// The order of the leading key columns that the query reads.
fn index_order(base: &Base, index: &Index) -> Vec<OrderKey> {
    index
        .keys
        .iter()
        .map_while(|key| {
            Some(OrderKey {
                slot: base.column_slot(key.column)?,
                descending: key.descending,
                nulls_first: key.nulls_first,
            })
        })
        .collect()
}

fn correlation(from: &FromPlanner<'_>, base: &Base, index: &Index) -> f64 {
    let known = index
        .keys
        .first()
        .and_then(|key| base.column_slot(key.column))
        .and_then(|slot| from.estimates.columns.get(&slot))
        .and_then(|facts| facts.statistics.as_ref())
        .map_or(0.0, |s| s.correlation);
    if index.keys.len() > 1 {
        known * 0.75
    } else {
        known
    }
}
