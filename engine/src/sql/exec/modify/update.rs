//! UPDATE.

use super::entries::{self, Added};
use super::{Progress, Work, Worked, Writer, constraint, wait_for_row};
use crate::ids::Tid;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::{Scalar, Slot};
use crate::sql::exec::newest;
use crate::sql::plan::tree::{Modify, ModifyAction};
use crate::table::heap::{self, Modified};
use crate::types::datum::Datum;

pub fn work(
    modify: &Modify,
    work: &mut Work,
    progress: Progress,
    writer: Writer,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<Worked, SqlError> {
    if let Progress::Entries { tid, next } = progress {
        return add_all(modify, work, tid, next, writer, cx, |tid, next| {
            Progress::Entries { tid, next }
        });
    }
    let ModifyAction::Update {
        ctid,
        fetch,
        assignments,
        old,
        recheck,
    } = &modify.action
    else {
        unreachable!("called for updates")
    };
    let mut computed = matches!(progress, Progress::Computed);
    loop {
        // The target may be missing only from an outer join that it is not part of.
        let Datum::Tid(tid) = frame[*ctid] else {
            return Ok(Worked::Skipped);
        };
        if !std::mem::take(&mut computed) {
            new_row(old, assignments, work, frame, cx)?;
            check_row(modify, work, frame, cx)?;
        }
        let storage = cx.access.storage()?;
        let updated = heap::update(
            storage.table(),
            &modify.relation,
            tid,
            &work.row,
            writer.xid,
            writer.command,
            &storage.snapshot,
        )?;
        match updated {
            Modified::Done {
                tid,
                same_page: true,
            } => return Ok(Worked::Changed(Some(tid))),
            Modified::Done { tid, .. } => {
                return add_all(modify, work, tid, 0, writer, cx, |tid, next| {
                    Progress::Entries { tid, next }
                });
            }
            Modified::Wait { xid, mode } => {
                return Ok(wait_for_row(modify, tid, xid, mode, Progress::Computed));
            }
            // A join that finds one row twice changes it once.
            Modified::SelfModified { .. } => return Ok(Worked::Skipped),
            Modified::Invisible => {
                return Err(SqlError::internal("attempted to update invisible tuple"));
            }
            Modified::Deleted => {
                newest::refuse_in_repeatable_read(cx, "delete")?;
                return Ok(Worked::Skipped);
            }
            Modified::Updated { next } => {
                let row = (&*modify.relation, fetch, recheck.as_ref());
                if !work.follow(row, next, frame, cx)? {
                    return Ok(Worked::Skipped);
                }
            }
        }
    }
}

/// The old row with the assigned values in place. All are computed from the old row.
pub fn new_row(
    old: &[Slot],
    assignments: &[(usize, Scalar)],
    work: &mut Work,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    work.row.clear();
    work.row.extend(old.iter().map(|s| frame[*s].clone()));
    for (column, value) in assignments {
        work.row[*column] = value.eval(frame, cx)?;
    }
    Ok(())
}

/// Entries in all indexes from `next` on.
pub fn add_all(
    modify: &Modify,
    work: &mut Work,
    tid: Tid,
    next: usize,
    writer: Writer,
    cx: &EvalCx,
    at: impl Fn(Tid, usize) -> Progress,
) -> Result<Worked, SqlError> {
    let relation = &modify.relation;
    let storage = cx.access.storage()?;
    for (number, index) in relation.indexes.iter().enumerate().skip(next) {
        let scratch = (&mut work.values, &mut work.key);
        match entries::add(
            storage, relation, index, &work.row, tid, writer.xid, scratch,
        )? {
            Added::Done => {}
            Added::Wait(xid) => return Ok(Worked::Wait(xid, at(tid, number))),
            Added::Duplicate => {
                let row = constraint::NewRow::of(modify, &work.row);
                return Err(row.duplicate_key(index, &cx.function));
            }
        }
    }
    Ok(Worked::Changed(Some(tid)))
}

/// The new row in `work.row` has what the table's constraints ask for; RETURNING finds it in the frame.
pub fn check_row(
    modify: &Modify,
    work: &Work,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    if !modify.checks.is_empty() || !modify.returning.is_empty() {
        for (slot, value) in modify.row_slots.iter().zip(&work.row) {
            frame[*slot] = value.clone();
        }
    }
    let row = constraint::NewRow::of(modify, &work.row);
    row.check_not_null(cx)?;
    row.check_tests(&modify.checks, frame, cx)
}
