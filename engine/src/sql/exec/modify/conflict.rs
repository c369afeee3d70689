//! ON CONFLICT: finding the row that is in the way, and what to do about it.

use std::sync::Arc;

use super::{Progress, Work, Worked, Writer, entries, update, wait_for_row};
use crate::catalog::relation::Index;
use crate::ids::{Tid, Xid};
use crate::index::btree::{self, Direction, KeyRange};
use crate::index::key::successor;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::access::Storage;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::newest::{self, Newest};
use crate::sql::plan::tree::{ConflictPlan, ConflictUpdate, Modify};
use crate::table::heap::{self, Liveness, Modified};
use crate::txn::{Isolation, RowLockMode};
use crate::types::datum::Datum;
use std::ops::Bound;

pub enum Found {
    None,
    Row(Tid),
    /// Somebody is about to make or remove one.
    Wait(Xid),
}

pub enum Resolved {
    Done(Worked),
    /// The row in the way changed: look again.
    Again,
    /// The existing row has a new version that needs index entries.
    Entries(Tid),
}

pub fn arbitrates(plan: &ConflictPlan, index: &Index) -> bool {
    index.unique && (plan.arbiters.is_empty() || plan.arbiters.contains(&index.oid))
}

/// The row that has one of the proposed row's keys, by the indexes that arbitrate.
pub fn find(
    modify: &Modify,
    plan: &ConflictPlan,
    work: &mut Work,
    cx: &EvalCx,
) -> Result<Found, SqlError> {
    let indexes = modify.relation.indexes.iter();
    for index in indexes.filter(|i| arbitrates(plan, i)) {
        match find_in(modify, index, work, cx)? {
            Found::None => {}
            found => return Ok(found),
        }
    }
    Ok(Found::None)
}

fn find_in(
    modify: &Modify,
    index: &Arc<Index>,
    work: &mut Work,
    cx: &EvalCx,
) -> Result<Found, SqlError> {
    if !entries::encode(index, &work.row, &mut work.values, &mut work.key)? {
        return Ok(Found::None);
    }
    let mut above = work.key.clone();
    let upper = if successor(&mut above) {
        Bound::Excluded(above)
    } else {
        Bound::Unbounded
    };
    let range = KeyRange {
        lower: Bound::Included(work.key.clone()),
        upper,
    };
    let storage = cx.access.storage()?;
    let mut scan = btree::scan(storage.index(), index, range.clone(), Direction::Forward)?;
    while let Some((tid, _)) = scan.next(storage.index())? {
        let own = storage.snapshot.own();
        match heap::liveness(storage.table(), modify.relation.file, tid, own)? {
            // Not that of another row, whose line pointer it has become since the entry was read.
            Liveness::Live { tid: row } if is_there(storage, index, &range, tid)? => {
                return Ok(Found::Row(row));
            }
            Liveness::Dead | Liveness::Live { .. } => {}
            Liveness::Wait { xid } => return Ok(Found::Wait(xid)),
        }
    }
    Ok(Found::None)
}

/// Whether the index has the entry now. Vacuum takes an entry away before its line pointer is used again: if it is still
/// there, what its line pointer led to was its row.
fn is_there(
    storage: &Storage,
    index: &Index,
    range: &KeyRange,
    entry: Tid,
) -> Result<bool, SqlError> {
    let mut scan = btree::scan(storage.index(), index, range.clone(), Direction::Forward)?;
    while let Some((tid, _)) = scan.next(storage.index())? {
        if tid == entry {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A row that this transaction cannot see must not decide under REPEATABLE READ, unless it wrote the row itself: the same
/// command may propose one key twice (`ExecCheckTupleVisible`).
fn require_visible(
    modify: &Modify,
    tid: Tid,
    work: &mut Work,
    cx: &EvalCx,
) -> Result<(), SqlError> {
    if cx.access.isolation == Isolation::ReadCommitted {
        return Ok(());
    }
    let storage = cx.access.storage()?;
    let seen = heap::fetch(
        storage.table(),
        &modify.relation,
        tid,
        &storage.snapshot,
        &mut work.buffer,
    )?;
    if seen {
        return Ok(());
    }
    let there = heap::fetch_version(storage.table(), &modify.relation, tid, &mut work.buffer)?;
    let writer = work.buffer.version().map(|row| row.header().xmin);
    if there && writer.is_some_and(|xid| storage.snapshot.own().contains(xid)) {
        return Ok(());
    }
    newest::refuse_in_repeatable_read(cx, "update")
}

pub fn resolve(
    modify: &Modify,
    plan: &ConflictPlan,
    tid: Tid,
    work: &mut Work,
    writer: Writer,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<Resolved, SqlError> {
    let Some(action) = &plan.update else {
        require_visible(modify, tid, work, cx)?;
        return Ok(Resolved::Done(Worked::Skipped));
    };
    let storage = cx.access.storage()?;
    let locked = heap::lock_row(
        storage.table(),
        &modify.relation,
        tid,
        mode_of(modify, action),
        writer.xid,
        writer.command,
        &storage.snapshot,
    )?;
    match locked {
        Modified::Done { .. } => {}
        Modified::Wait { xid, mode } => {
            let wait = wait_for_row(modify, tid, xid, mode, Progress::Fresh);
            return Ok(Resolved::Done(wait));
        }
        Modified::Updated { .. } => {
            newest::refuse_in_repeatable_read(cx, "update")?;
            return Ok(Resolved::Again);
        }
        Modified::Deleted => {
            newest::refuse_in_repeatable_read(cx, "delete")?;
            return Ok(Resolved::Again);
        }
        Modified::SelfModified { .. } | Modified::Invisible => return Err(second_time()),
    }
    require_visible(modify, tid, work, cx)?;
    let loaded = newest::load(
        cx,
        &modify.relation,
        &action.fetch,
        tid,
        &mut work.buffer,
        &mut work.loader,
        frame,
    )?;
    if matches!(loaded, Newest::Gone) {
        return Ok(Resolved::Again);
    }
    update_existing(modify, action, tid, work, writer, frame, cx)
}

fn second_time() -> SqlError {
    SqlError::new(
        state::CARDINALITY_VIOLATION,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .hint(
        "Ensure that no rows proposed for insertion within the same command have duplicate \
         constrained values.",
    )
}

/// The strong lock only where a key may change.
fn mode_of(modify: &Modify, action: &ConflictUpdate) -> RowLockMode {
    let touches_key = modify.relation.indexes.iter().any(|index| {
        index.unique
            && index
                .keys
                .iter()
                .any(|k| action.assignments.iter().any(|(c, _)| *c == k.column))
    });
    if touches_key {
        RowLockMode::Exclusive
    } else {
        RowLockMode::NoKeyExclusive
    }
}

fn update_existing(
    modify: &Modify,
    action: &ConflictUpdate,
    tid: Tid,
    work: &mut Work,
    writer: Writer,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<Resolved, SqlError> {
    if let Some(filter) = &action.filter
        && !filter.passes(frame, cx)?
    {
        return Ok(Resolved::Done(Worked::Skipped));
    }
    update::new_row(&action.old, &action.assignments, work, frame, cx)?;
    update::check_row(modify, work, frame, cx)?;
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
    Ok(match updated {
        Modified::Done {
            tid,
            same_page: true,
        } => Resolved::Done(Worked::Changed(Some(tid))),
        Modified::Done { tid, .. } => Resolved::Entries(tid),
        Modified::Wait { xid, mode } => {
            Resolved::Done(wait_for_row(modify, tid, xid, mode, Progress::Fresh))
        }
        Modified::SelfModified { .. } => return Err(second_time()),
        Modified::Updated { .. } | Modified::Deleted | Modified::Invisible => Resolved::Again,
    })
}
