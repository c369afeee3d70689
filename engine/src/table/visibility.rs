//! Who sees a row version, who may change it, and when nobody needs it any more.
//!
//! Pure decisions over a header and what `txn` says of its two transactions. Nothing here touches a page.

use crate::ids::{CommandId, Lsn, Tid, Xid};
use crate::table::tuple::{LOCK_ONLY, TupleHeader};
use crate::txn::transaction::Outcome;
use crate::txn::{Horizon, OwnXids, RowLockMode, Seen, Snapshot, TxnManager};

/// Whether the snapshot sees the version.
#[inline]
pub fn is_visible(header: &TupleHeader, snapshot: &Snapshot, txns: &TxnManager) -> bool {
    if header.xmin.is_normal() {
        if snapshot.own().contains(header.xmin) {
            if header.cmin >= snapshot.command_id() {
                return false;
            }
        } else if snapshot.sees(header.xmin, txns) != Seen::Yes {
            return false;
        }
    }
    if !header.xmax.is_valid() || header.has(LOCK_ONLY) {
        return true;
    }
    if snapshot.own().contains(header.xmax) {
        return header.cmax >= snapshot.command_id();
    }
    snapshot.sees(header.xmax, txns) != Seen::Yes
}

/// What stands between a transaction and a version that it wants to change or lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing, as far as the header tells; shared lockers are in the lock table.
    Free(Holder),
    Wait(Xid),
    Updated(Tid),
    Deleted,
    SelfModified(CommandId),
    Invisible,
}

/// Who is in `xmax` of a version that is free for the asker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    Nobody,
    /// The asker's own transaction has locked it.
    Own(Xid, RowLockMode),
    /// Another one holds a lock that the wanted one can stand beside.
    OtherLock,
    /// Another one has replaced it, in a way that the wanted lock can stand beside; perhaps not yet committed.
    OtherUpdate,
}

/// May the owner of `own`, in command `command`, take the version with `mode`?
pub fn access(
    header: &TupleHeader,
    own: &OwnXids,
    command: CommandId,
    txns: &TxnManager,
    mode: RowLockMode,
) -> Access {
    if header.xmin.is_normal() {
        if own.contains(header.xmin) {
            if header.cmin >= command {
                return Access::Invisible;
            }
        } else if !matches!(txns.outcome(header.xmin), Outcome::Committed { .. }) {
            return Access::Invisible;
        }
    }
    if !header.xmax.is_valid() {
        return Access::Free(Holder::Nobody);
    }
    let locked = header.has(LOCK_ONLY);
    if own.contains(header.xmax) {
        return if locked {
            Access::Free(Holder::Own(header.xmax, header.lock_mode()))
        } else if header.cmax >= command {
            Access::SelfModified(header.cmax)
        } else {
            Access::Invisible
        };
    }
    match txns.outcome(header.xmax) {
        Outcome::Aborted => Access::Free(Holder::Nobody),
        Outcome::InProgress if mode.conflicts_with(header.lock_mode()) => Access::Wait(header.xmax),
        Outcome::InProgress if locked => Access::Free(Holder::OtherLock),
        Outcome::InProgress => Access::Free(Holder::OtherUpdate),
        Outcome::Committed { .. } if locked => Access::Free(Holder::Nobody),
        // Only FOR KEY SHARE stands beside an update: the key is still the one that the old version has.
        Outcome::Committed { .. }
            if header.next().is_some() && !mode.conflicts_with(header.lock_mode()) =>
        {
            Access::Free(Holder::OtherUpdate)
        }
        Outcome::Committed { .. } => header.next().map_or(Access::Deleted, Access::Updated),
    }
}

/// What vacuum thinks of a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// No snapshot, now or later, here or on a standby that told us, sees it. `removed` is the commit that made it
    /// so (`None`: it never was visible to anyone).
    Dead {
        removed: Option<Lsn>,
    },
    /// Deleted, but somebody may still see it.
    RecentlyDead,
    /// Its writer or its deleter is running.
    InProgress,
    Live,
}

/// The LSN at which a transaction's effects are visible to every snapshot; `None`: not yet.
fn seen_by_all(outcome: Outcome, horizon: &Horizon) -> Option<Lsn> {
    match outcome {
        // Every snapshot sees it, and so the horizon does.
        Outcome::Committed { lsn: None } => Some(horizon.lsn),
        Outcome::Committed { lsn: Some(lsn) } => (lsn <= horizon.lsn).then_some(lsn),
        _ => None,
    }
}

pub fn fate(header: &TupleHeader, txns: &TxnManager, horizon: &Horizon) -> Fate {
    if header.xmin.is_normal() {
        match txns.outcome(header.xmin) {
            Outcome::Aborted => return Fate::Dead { removed: None },
            Outcome::InProgress => return Fate::InProgress,
            Outcome::Committed { .. } => {}
        }
    }
    if !header.xmax.is_valid() || header.has(LOCK_ONLY) {
        return Fate::Live;
    }
    match txns.outcome(header.xmax) {
        Outcome::Aborted => Fate::Live,
        Outcome::InProgress => Fate::InProgress,
        outcome => match seen_by_all(outcome, horizon) {
            Some(lsn) => Fate::Dead { removed: Some(lsn) },
            None => Fate::RecentlyDead,
        },
    }
}

/// Whether `xmin` may be replaced by the frozen id, and up to which commit that hides history.
pub fn freezable_xmin(header: &TupleHeader, txns: &TxnManager, horizon: &Horizon) -> Option<Lsn> {
    if !header.xmin.is_normal() || header.xmin >= horizon.xid {
        return None;
    }
    seen_by_all(txns.outcome(header.xmin), horizon)
}

/// Whether `xmax` is a leftover of a transaction that aborted or only locked, and has ended.
pub fn clearable_xmax(header: &TupleHeader, txns: &TxnManager, horizon: &Horizon) -> bool {
    if !header.xmax.is_valid() || header.xmax >= horizon.xid {
        return false;
    }
    match txns.outcome(header.xmax) {
        Outcome::Aborted => true,
        Outcome::Committed { .. } => header.has(LOCK_ONLY),
        Outcome::InProgress => false,
    }
}
