//! What foreign keys have to look at of a change, and what their own statements must not change.

use super::Work;
use crate::ids::Tid;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Slot;
use crate::sql::exec::newest;
use crate::sql::plan::tree::{Modify, ModifyAction};
use crate::sql::references::changes::{self, Updated};
use crate::table::heap;
use crate::types::datum::Datum;

/// Puts down a row that was changed; `tid`: its new version, of a deleted one the last.
pub fn note(
    modify: &Modify,
    tid: Tid,
    work: &mut Work,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    match &modify.action {
        ModifyAction::Delete { .. } => {
            changes::deleted(&modify.relation, tid, &mut cx.row_events);
            Ok(())
        }
        ModifyAction::Update { ctid, old, .. } => match frame[*ctid] {
            Datum::Tid(from) => updated(modify, (from, tid), old, work, frame, cx),
            _ => Ok(()),
        },
        ModifyAction::Insert { on_conflict, .. } => {
            let update = on_conflict.as_ref().and_then(|c| c.update.as_ref());
            if let (Some(from), Some(update)) = (work.existing, update) {
                return updated(modify, (from, tid), &update.old, work, frame, cx);
            }
            changes::inserted(&modify.relation, &work.row, tid, &mut cx.row_events);
            Ok(())
        }
    }
}

fn updated(
    modify: &Modify,
    (old_tid, new_tid): (Tid, Tid),
    slots: &[Slot],
    work: &mut Work,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    let relation = &*modify.relation;
    let mut events = std::mem::take(&mut cx.row_events);
    let row = Updated {
        relation,
        new: &work.row,
        frame,
        slots,
        old_tid,
        new_tid,
    };
    let storage = cx.access.storage()?;
    let buffer = &mut work.buffer;
    let mut is_own = || {
        let there = heap::fetch_version(storage.table(), relation, old_tid, buffer)?;
        let writer = buffer.version().map(|version| version.header().xmin);
        Ok(there && writer.is_some_and(|xid| storage.snapshot.own().contains(xid)))
    };
    let done = row.events(&mut is_own, &mut events);
    cx.row_events = events;
    done
}

/// 40001 for a row that only the statement's newest snapshot shows, not the transaction's.
pub fn crosscheck(
    modify: &Modify,
    work: &mut Work,
    frame: &[Datum],
    cx: &EvalCx,
) -> Result<(), SqlError> {
    let (ModifyAction::Update { ctid, .. } | ModifyAction::Delete { ctid, .. }) = &modify.action
    else {
        return Ok(());
    };
    let (Some(snapshot), Datum::Tid(tid)) = (&cx.access.crosscheck, &frame[*ctid]) else {
        return Ok(());
    };
    let table = cx.access.storage()?.table();
    let buffer = &mut work.buffer;
    let seen = heap::fetch(table, &modify.relation, *tid, snapshot, buffer)?
        && buffer.version().is_some_and(|version| version.tid == *tid);
    if seen {
        return Ok(());
    }
    newest::refuse_in_repeatable_read(cx, "update")
}
