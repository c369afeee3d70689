//! Row locks: FOR UPDATE and its weaker forms, and what every change asks first.
//!
//! An exclusive locker stands in `xmax` of the version (a logged change). Shared lockers stand in the lock manager's
//! table in memory; they are added under the page's latch, and who changes the version looks there under the
//! exclusive latch, so nobody slips in between. A shared lock on a version that somebody has replaced without touching
//! its key is taken on all newer versions as well, because those are what it must protect (once that transaction has
//! committed, where it has not).

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, RelFile, Tid, Xid};
use crate::storage::{BlockMode, Change};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::page_ops::{self, Mark};
use crate::table::tuple::{LOCK_ONLY, TupleHeader, lock_mode_bits};
use crate::table::visibility::{self, Access, Holder};
use crate::txn::{Outcome, OwnXids, RowLockMode, Snapshot};
use crate::wal::RmgrId;

use super::version::{Modified, heap_page, tuple_at};

/// Why a version cannot be taken with `mode`, as callers see it.
pub(super) fn refusal(access: Access, mode: RowLockMode) -> Option<Modified> {
    Some(match access {
        Access::Free(_) => return None,
        Access::Wait(xid) => Modified::Wait { xid, mode },
        Access::Updated(next) => Modified::Updated { next },
        Access::Deleted => Modified::Deleted,
        Access::SelfModified(cid) => Modified::SelfModified { cid },
        Access::Invisible => Modified::Invisible,
    })
}

/// Before `xmax` of a version that the own transaction has locked is overwritten by another of its
/// subtransactions: the old lock goes to the table in memory, so that it survives a rollback to the savepoint.
pub(super) fn keep_own_lock(
    cx: TableCx<'_>,
    file: RelFile,
    tid: Tid,
    holder: Holder,
    xid: Xid,
) -> Result<(), TableError> {
    if let Holder::Own(locker, mode) = holder
        && locker != xid
    {
        cx.txns.locks().add_row_locker(file, tid, mode, locker)?;
    }
    Ok(())
}

/// Locks a row version until the end of the (sub)transaction `xid`.
#[allow(clippy::too_many_arguments)]
pub fn lock_row(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    mode: RowLockMode,
    xid: Xid,
    cid: CommandId,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    if mode.is_shared() {
        lock_shared(cx, rel, tid, mode, xid, snapshot)
    } else {
        lock_exclusive(cx, rel, tid, mode, xid, cid, snapshot)
    }
}

#[allow(clippy::too_many_arguments)]
fn lock_exclusive(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    mode: RowLockMode,
    xid: Xid,
    cid: CommandId,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let mut page = pin.write();
    let Some((header, _)) = tuple_at(&page, rel.file, tid)? else {
        return Ok(Modified::Invisible);
    };
    let own = snapshot.own();
    let access = visibility::access(&header, own, snapshot.command_id(), cx.txns, mode);
    if let Some(refused) = refusal(access, mode) {
        return Ok(refused);
    }
    if let Some(other) = cx.txns.locks().row_locker_against(rel.file, tid, mode, own) {
        return Ok(Modified::Wait { xid: other, mode });
    }
    let done = Modified::Done {
        tid,
        same_page: true,
    };
    if let Access::Free(holder) = access {
        if matches!(holder, Holder::Own(_, held) if held >= mode) {
            return Ok(done);
        }
        keep_own_lock(cx, rel.file, tid, holder, xid)?;
    }
    let mark = Mark {
        offset: tid.offset,
        xmax: xid,
        cmax: cid,
        bits: LOCK_ONLY | lock_mode_bits(mode),
        next: None,
    };
    let mut change = Change::new(RmgrId::HEAP, page_ops::LOCK, xid);
    change.block(&mut page, BlockMode::Update, &mark.data());
    change.commit(&cx.store.wal, page_ops::apply);
    Ok(done)
}

fn lock_shared(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    mode: RowLockMode,
    xid: Xid,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    let file = rel.file;
    let own = snapshot.own();
    let newer = {
        let pin = cx.store.pool.pin(heap_page(file, tid.block))?;
        let page = pin.read();
        let Some((header, _)) = tuple_at(&page, file, tid)? else {
            return Ok(Modified::Invisible);
        };
        let access = visibility::access(&header, own, snapshot.command_id(), cx.txns, mode);
        if let Some(refused) = refusal(access, mode) {
            return Ok(refused);
        }
        if let Some(other) = cx.txns.locks().row_locker_against(file, tid, mode, own) {
            return Ok(Modified::Wait { xid: other, mode });
        }
        // Of a row that the own transaction made nobody else knows until it ends, and its locks with it.
        let is_own = own.contains(header.xmin);
        if !is_own && !matches!(access, Access::Free(Holder::Own(..))) {
            cx.txns.locks().add_row_locker(file, tid, mode, xid)?;
        }
        match access {
            Access::Free(Holder::OtherUpdate) => header.next().map(|next| (next, header.xmax)),
            _ => None,
        }
    };
    if let Some((next, writer)) = newer
        && let Some(refused) = lock_newer(cx, file, next, writer, mode, xid, own)?
    {
        return Ok(refused);
    }
    Ok(Modified::Done {
        tid,
        same_page: true,
    })
}

/// Takes the shared lock on the versions that `writer`, who may be running or have committed, and those after it
/// made, up to the newest. Why that failed, where one of them was deleted or replaced with another key.
fn lock_newer(
    cx: TableCx<'_>,
    file: RelFile,
    first: Tid,
    writer: Xid,
    mode: RowLockMode,
    xid: Xid,
    own: &OwnXids,
) -> Result<Option<Modified>, TableError> {
    let mut at = Some((first, writer));
    while let Some((tid, writer)) = at.take() {
        let pin = cx.store.pool.pin(heap_page(file, tid.block))?;
        let page = pin.read();
        let found: Option<(TupleHeader, &[u8])> = tuple_at(&page, file, tid)?;
        // Rolled back and pruned meanwhile: the version locked before is the newest again.
        let Some((header, _)) = found.filter(|(h, _)| h.xmin == writer) else {
            return Ok(None);
        };
        if matches!(cx.txns.outcome(writer), Outcome::Aborted) {
            return Ok(None);
        }
        if let Some(other) = cx.txns.locks().row_locker_against(file, tid, mode, own) {
            return Ok(Some(Modified::Wait { xid: other, mode }));
        }
        let replaced = header.xmax.is_valid() && !header.has(LOCK_ONLY);
        let conflicts = header.xmax.is_valid() && mode.conflicts_with(header.lock_mode());
        if header.xmax.is_valid() && !own.contains(header.xmax) {
            match cx.txns.outcome(header.xmax) {
                Outcome::InProgress if conflicts => {
                    let xid = header.xmax;
                    return Ok(Some(Modified::Wait { xid, mode }));
                }
                Outcome::Committed { .. } if replaced && conflicts => {
                    return Ok(Some(match header.next() {
                        Some(next) => Modified::Updated { next },
                        None => Modified::Deleted,
                    }));
                }
                _ => {}
            }
        }
        cx.txns.locks().add_row_locker(file, tid, mode, xid)?;
        if replaced {
            at = header.next().map(|next| (next, header.xmax));
        }
    }
    Ok(None)
}
