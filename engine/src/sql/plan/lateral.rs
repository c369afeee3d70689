//! Ranges of FROM that read the ranges to their left: subqueries after LATERAL, and functions.
//!
//! Such a range is planned while the part of its query that is to its left stands around it ([`Around`]). What it reads of
//! that are outer values, one for each slot: [`Base::passed`] has their numbers. That makes it the inner side of a nested loop
//! over all relations that these slots belong to, near or far (`lateral_relids`): the search for an order of joins
//! (`joins.rs`) sees it in [`Path::outer`], the loop passes the values. PostgreSQL does so with `nestParams`.
//!
//! A lock may find newer versions of rows to the left. PostgreSQL computes simple subqueries anew from them, because it has
//! made them a part of the query around them; functions and all other subqueries it leaves as they were, and so do we: see
//! [`Recheck`]. In the nullable side of an outer join we leave simple ones too.
//!
//! [`Around`]: crate::sql::plan::subquery::Around
//! [`Base::passed`]: crate::sql::plan::from::Base::passed
//! [`Path::outer`]: crate::sql::plan::path::Path::outer

use crate::sql::bind;
use crate::sql::bound::{ColumnRef, Expr, Range, RangeSource};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{FRAME, OUTER_VALUE, Scalar, Slot};
use crate::sql::plan::exprs::children_mut;
use crate::sql::plan::from::Base;
use crate::sql::plan::planner::{Needed, Planner, Scope, collect_needed, note_read};
use crate::sql::plan::reads;
use crate::sql::plan::subquery::Around;
use crate::sql::plan::tree::{Again, PlanNode};

/// What has to be computed anew of a simple subquery in FROM where rows that it reads have newer versions.
#[derive(Default)]
pub struct Recheck {
    pub conditions: Vec<Expr>,
    /// In the order in which they read one another.
    pub steps: Vec<Again>,
}

impl Recheck {
    /// What `bases`, which are not in the nullable side of an outer join, add to it.
    pub fn add<'b>(&mut self, bases: impl Iterator<Item = &'b Base>) {
        for base in bases {
            let Some(inner) = &base.recheck else { continue };
            let passed = base.passed.iter();
            self.steps
                .extend(passed.map(|(number, slot)| Again::Pass(*number, *slot)));
            self.steps.extend(inner.steps.iter().map(copy));
            self.conditions.extend_from_slice(&inner.conditions);
        }
    }
}

fn copy(step: &Again) -> Again {
    match step {
        Again::Pass(number, slot) => Again::Pass(*number, *slot),
        Again::Compute(slot, value) => Again::Compute(*slot, Scalar::new(value.source().clone())),
    }
}

/// Collects the columns of `level`'s ranges that others of its ranges read.
pub fn collect_lateral(ranges: &[Range], level: Option<usize>, needed: &mut [Needed]) {
    for range in ranges {
        match &range.source {
            RangeSource::Subquery(query) => {
                bind::query_reads(query, level, &mut |e| note_read(e, needed));
            }
            RangeSource::Function { calls, .. } => {
                let calls = calls.iter();
                calls.for_each(|c| collect_needed(&c.call, level, needed));
            }
            RangeSource::Table(_)
            | RangeSource::Virtual(_)
            | RangeSource::Values(_)
            | RangeSource::Cte { .. } => {}
        }
    }
}

/// Whether the query reads rows of the level that it stands in.
pub fn is_lateral(source: &RangeSource, level: Option<usize>) -> bool {
    let mut found = false;
    if let RangeSource::Subquery(query) = source {
        bind::query_reads(query, level, &mut |_| found = true);
    }
    found
}

/// Each slot that the expression reads becomes an outer value; `passed` has those that there are already.
pub fn give_slots(expr: &mut Expr, passed: &mut Vec<(usize, Slot)>, numbers: &mut usize) {
    if let Expr::Column(ColumnRef { range, column, ty }) = expr
        && *range == FRAME
    {
        let (slot, ty) = (*column, *ty);
        let known = passed.iter().find(|(_, known)| *known == slot);
        let number = match known {
            Some((number, _)) => *number,
            None => {
                passed.push((*numbers, slot));
                *numbers += 1;
                *numbers - 1
            }
        };
        *expr = Expr::Param(OUTER_VALUE + number, ty);
        return;
    }
    children_mut(expr, &mut |part| give_slots(part, passed, numbers));
}

impl Planner<'_, '_> {
    /// Runs `f` on a range that may read those of `scope`, to its left. Gives what it came to read of them as well.
    pub fn beside<T>(
        &mut self,
        scope: &Scope,
        f: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<(T, Vec<(usize, Slot)>), SqlError> {
        self.shared.around.push(Around::of_range(scope));
        let made = f(self);
        let around = self.shared.around.pop().expect("it was pushed");
        Ok((made?, around.into_slots()))
    }

    /// Keeps of `passed` what the node reads: what only a way of reading asked for that was not taken need not be given.
    pub fn keep_read(&self, node: &mut PlanNode, passed: &mut Vec<(usize, Slot)>) {
        if !passed.is_empty() {
            let read = reads::settle(node, &self.shared.subplans);
            passed.retain(|(number, _)| read.contains(*number));
        }
    }

    /// Whether what is being planned is a range, and reads others of the query that it stands in.
    pub fn is_beside(&self) -> bool {
        self.shared.around.last().is_some_and(Around::is_of_range)
    }
}
