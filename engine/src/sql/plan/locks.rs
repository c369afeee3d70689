//! FOR UPDATE and the like: which rows of a SELECT are locked, and what is asked again where one has a newer version.

use std::sync::Arc;

use crate::sql::bind::lock_name;
use crate::sql::bound::{Expr, RowLocking};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test};
use crate::sql::plan::build::node;
use crate::sql::plan::exprs::all_of;
use crate::sql::plan::from::{BaseKind, JoinItem, JoinList, nullable_bases};
use crate::sql::plan::lateral::Recheck;
use crate::sql::plan::ranges::Ranges;
use crate::sql::plan::tree::{Again, LockTarget, NodeKind, PlanNode};

/// What locking adds to a query.
pub struct RowLocks {
    targets: Vec<LockTarget>,
    recheck: Option<Test>,
    outer: Vec<(Option<Test>, Vec<Slot>)>,
    lateral: Vec<Again>,
}

pub fn row_locks(
    locking: &[RowLocking],
    ranges: &Ranges,
    list: &JoinList,
) -> Result<Option<RowLocks>, SqlError> {
    if locking.is_empty() {
        return Ok(None);
    }
    let nullable = nullable_bases(&ranges.bases, list);
    let mut targets = Vec::new();
    for lock in locking {
        let base = &ranges.bases[lock.range];
        if nullable.contains(&lock.range) {
            return Err(SqlError::unsupported(format!(
                "{} cannot be applied to the nullable side of an outer join",
                lock_name(lock.mode)
            )));
        }
        let BaseKind::Table(relation) = &base.kind else {
            return Err(SqlError::unsupported(format!(
                "row locks on \"{}\" are not supported: it is not a table",
                base.alias
            ))
            .hint("Lock the rows of its tables in the subquery itself."));
        };
        targets.push(LockTarget {
            relation: Arc::clone(relation),
            ctid: base.scope.fetch.ctid.expect("asked for with the columns"),
            fetch: base.scope.fetch.clone(),
            mode: lock.mode,
            wait: lock.wait,
        });
    }
    let bases = ranges.bases.iter().enumerate();
    let mut again = Recheck::default();
    again.add(
        bases
            .filter(|(number, _)| !nullable.contains(number))
            .map(|(_, base)| base),
    );
    again.conditions.extend(all_conditions(list));
    let mut outer = Vec::new();
    outer_joins(list, ranges, &mut outer);
    Ok(Some(RowLocks {
        targets,
        recheck: all_of(again.conditions).map(Test::new),
        outer,
        lateral: again.steps,
    }))
}

/// All conditions of a list, those of inner joins below included; ON of outer joins apart.
fn all_conditions(list: &JoinList) -> Vec<Expr> {
    let mut made = list.conditions.clone();
    for item in &list.items {
        if let JoinItem::Outer { left, .. } = item {
            made.extend(all_conditions(left));
        }
    }
    made
}

/// The conditions of outer joins, those of their left sides first, and what they leave NULL. (Rows of a right side
/// are locked only where the join turns out to be an inner one.)
fn outer_joins(list: &JoinList, ranges: &Ranges, into: &mut Vec<(Option<Test>, Vec<Slot>)>) {
    for item in &list.items {
        if let JoinItem::Outer {
            left, right, on, ..
        } = item
        {
            outer_joins(left, ranges, into);
            let mut bases = Vec::new();
            right.collect_bases(&mut bases);
            let slots = bases.iter().flat_map(|b| ranges.bases[*b].slots.iter());
            into.push((all_of(on.clone()).map(Test::new), slots.collect()));
        }
    }
}

impl RowLocks {
    /// The node over `child`; `early`: what was computed below of values that a newer version may replace.
    pub fn over(self, child: PlanNode, early: Vec<(Slot, Scalar)>) -> PlanNode {
        let cost = child.cost;
        let kind = NodeKind::LockRows {
            child: Arc::new(child),
            locks: self.targets,
            recheck: self.recheck,
            outer: self.outer,
            lateral: self.lateral,
            early,
        };
        node(kind, cost)
    }
}
