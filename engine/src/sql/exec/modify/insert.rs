//! INSERT.

use super::conflict::{self, Found};
use super::entries::{self, Added};
use super::{Progress, Work, Worked, Writer, constraint};
use crate::ids::Tid;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::plan::tree::{ConflictPlan, Modify, ModifyAction};
use crate::table::heap;
use crate::types::datum::Datum;

pub fn work(
    modify: &Modify,
    work: &mut Work,
    progress: Progress,
    writer: Writer,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<Worked, SqlError> {
    let ModifyAction::Insert {
        source,
        on_conflict,
    } = &modify.action
    else {
        unreachable!("called for inserts")
    };
    let mut progress = progress;
    loop {
        match progress {
            Progress::Fresh | Progress::Computed => {
                work.existing = None;
                propose(modify, source, work, frame, cx)?;
                if let Some(plan) = on_conflict {
                    match conflict::find(modify, plan, work, cx)? {
                        Found::None => {}
                        Found::Wait(xid) => return Ok(Worked::Wait(xid, Progress::Fresh)),
                        Found::Row(tid) => {
                            work.existing = Some(tid);
                            match conflict::resolve(modify, plan, tid, work, writer, frame, cx)? {
                                conflict::Resolved::Done(worked) => return Ok(worked),
                                conflict::Resolved::Again => continue,
                                conflict::Resolved::Entries(tid) => {
                                    progress = Progress::ConflictEntries { tid, next: 0 };
                                    continue;
                                }
                            }
                        }
                    }
                }
                let storage = cx.access.storage()?;
                let tid = heap::insert(
                    storage.table(),
                    &modify.relation,
                    &work.row,
                    writer.xid,
                    writer.command,
                )?;
                progress = Progress::Entries { tid, next: 0 };
            }
            Progress::Entries { tid, next } => {
                match add_entries(modify, on_conflict.as_ref(), work, tid, next, writer, cx)? {
                    Entered::All => return Ok(Worked::Changed(Some(tid))),
                    Entered::Wait(worked) => return Ok(worked),
                    Entered::Lost(None) => progress = Progress::Fresh,
                    Entered::Lost(Some(xid)) => return Ok(Worked::Wait(xid, Progress::Fresh)),
                }
            }
            Progress::ConflictEntries { tid, next } => {
                return super::update::add_all(modify, work, tid, next, writer, cx, |tid, next| {
                    Progress::ConflictEntries { tid, next }
                });
            }
        }
    }
}

/// The proposed row into the work space (and its slots), and its constraints.
fn propose(
    modify: &Modify,
    source: &[usize],
    work: &mut Work,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    work.row.clear();
    work.row.extend(source.iter().map(|s| frame[*s].clone()));
    if source != modify.row_slots.as_slice() {
        for (slot, value) in modify.row_slots.iter().zip(&work.row) {
            frame[*slot] = value.clone();
        }
    }
    let row = constraint::NewRow::of(modify, &work.row);
    row.check_not_null(cx)?;
    row.check_tests(&modify.checks, frame, cx)
}

enum Entered {
    All,
    Wait(Worked),
    /// An arbiter index has the key after all; the row was taken back. Wait for this one first.
    Lost(Option<crate::ids::Xid>),
}

fn add_entries(
    modify: &Modify,
    on_conflict: Option<&ConflictPlan>,
    work: &mut Work,
    tid: Tid,
    next: usize,
    writer: Writer,
    cx: &mut EvalCx,
) -> Result<Entered, SqlError> {
    let relation = &modify.relation;
    let storage = cx.access.storage()?;
    for (at, index) in relation.indexes.iter().enumerate().skip(next) {
        let scratch = (&mut work.values, &mut work.key);
        let added = entries::add(
            storage, relation, index, &work.row, tid, writer.xid, scratch,
        )?;
        let arbiter = on_conflict.is_some_and(|c| conflict::arbitrates(c, index));
        let waits_for = match added {
            Added::Done => continue,
            Added::Duplicate if arbiter => None,
            Added::Wait(xid) if arbiter => Some(xid),
            Added::Duplicate => {
                let row = constraint::NewRow::of(modify, &work.row);
                return Err(row.duplicate_key(index, &cx.function));
            }
            Added::Wait(xid) => {
                let progress = Progress::Entries { tid, next: at };
                return Ok(Entered::Wait(Worked::Wait(xid, progress)));
            }
        };
        // Taken back before any waiting: two that insert one key must not wait for each other.
        heap::undo_insert(storage.table(), relation, tid, writer.xid, writer.command)?;
        return Ok(Entered::Lost(waits_for));
    }
    Ok(Entered::All)
}
