//! Snapshots: an LSN, the commits below it that are not released, and the reader's own transaction.
//!
//! A transaction is visible if the end of its commit record is at or below the snapshot's LSN and not among the
//! excluded. A snapshot is registered with its session until it is dropped: vacuum and the volatile commit LSNs
//! keep what it can tell apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{CommandId, Lsn, Xid};
use crate::txn::manager::TxnManager;
use crate::txn::own::OwnXids;
use crate::txn::participant::Participant;

/// What a snapshot says of a transaction that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Yes,
    /// Running, or committed after the snapshot, or not released when it was taken.
    No,
    Aborted,
}

/// What vacuum may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Every snapshot, now and later, here and on the standbys that told us, sees the commits at or below this.
    pub lsn: Lsn,
    /// Every xid below this has ended, with an outcome on which all snapshots agree: what may be frozen.
    pub xid: Xid,
}

/// Registered until it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    lsn: Lsn,
    /// Commits at or below `lsn` that were not released.
    excluded: Option<Arc<[Lsn]>>,
    own: Arc<OwnXids>,
    command: CommandId,
    participant: Arc<Participant>,
    registered: u64,
    /// The last xid asked for and the answer: `xid << 2 | answer`. What a snapshot says never changes.
    last: AtomicU64,
}

impl Snapshot {
    pub(crate) fn take(
        participant: &Arc<Participant>,
        own: Arc<OwnXids>,
        command: CommandId,
        take: impl FnOnce() -> (Lsn, Option<Arc<[Lsn]>>),
    ) -> Snapshot {
        let ((lsn, excluded), registered) = participant.register(|| {
            let (lsn, excluded) = take();
            let low = match excluded.as_deref() {
                Some([first, ..]) => Lsn::new(first.raw() - 1),
                _ => lsn,
            };
            ((lsn, excluded), low)
        });
        Snapshot {
            lsn,
            excluded,
            own,
            command,
            participant: participant.clone(),
            registered,
            last: AtomicU64::new(0),
        }
    }

    /// The same state of the database for a later command of the transaction: REPEATABLE READ, cursors.
    #[must_use]
    pub fn at_command(&self, command: CommandId) -> Snapshot {
        let participant = &self.participant;
        let (_, registered) = participant.register(|| ((), Lsn::new(self.registered)));
        Snapshot {
            lsn: self.lsn,
            excluded: self.excluded.clone(),
            own: self.own.clone(),
            command,
            participant: participant.clone(),
            registered,
            last: AtomicU64::new(self.last.load(Ordering::Relaxed)),
        }
    }

    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Row versions of the own transaction are visible if they were written by an earlier command than this.
    pub fn command_id(&self) -> CommandId {
        self.command
    }

    pub fn own(&self) -> &OwnXids {
        &self.own
    }

    /// Whether a commit with this end LSN is in the snapshot.
    pub fn contains(&self, commit: Lsn) -> bool {
        let excluded = || {
            let list = self.excluded.as_deref();
            list.is_some_and(|l| l.binary_search(&commit).is_ok())
        };
        commit <= self.lsn && !excluded()
    }

    /// For xids that are not the reader's own. The last answer is remembered, so a run of rows of one transaction
    /// costs one look-up. Panics if the commit log can't be read: there is no answer then that is not a guess.
    pub fn sees(&self, xid: Xid, txns: &TxnManager) -> Seen {
        if !xid.is_normal() {
            return if xid.is_valid() { Seen::Yes } else { Seen::No };
        }
        let last = self.last.load(Ordering::Relaxed);
        if last >> 2 == xid.raw() {
            return match last & 0b11 {
                0 => Seen::Yes,
                1 => Seen::No,
                _ => Seen::Aborted,
            };
        }
        let seen = txns.shared().judge(xid, |commit| self.contains(commit));
        let answer = match seen {
            Seen::Yes => 0,
            Seen::No => 1,
            Seen::Aborted => 2,
        };
        self.last.store(xid.raw() << 2 | answer, Ordering::Relaxed);
        seen
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.participant.unregister(self.registered);
    }
}
