//! The transaction manager: one for each running server, and its public face.
//!
//! [`Shared`] holds the parts; what is done with them is in files by topic: `assignment.rs` (xids),
//! `visibility.rs` (outcomes, horizon), `ending.rs` (commit and abort), `subtransaction.rs`, `redo.rs`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::ids::{Lsn, ProcessId, Xid};
use crate::storage::store::Store;
use crate::txn::commit_log::CommitLog;
use crate::txn::commit_lsns::CommitLsns;
use crate::txn::error::{CommitError, TxnError};
use crate::txn::interrupt::Interrupts;
use crate::txn::locks::LockManager;
use crate::txn::made_files::MadeFiles;
use crate::txn::participant::{
    Activity, OldestSnapshot, Participant, Participants, Running, RunningXids,
};
use crate::txn::record::Invalidation;
use crate::txn::redo::Replay;
use crate::txn::release::{CommitLevel, Release};
use crate::txn::snapshot::{Horizon, Snapshot};
use crate::txn::transaction::{Outcome, Transaction, TxnOptions};
use crate::txn::visibility::HorizonState;
use crate::txn::xid::XidSource;
use crate::wal::xlog_records::now_us;

/// Limits; from the settings.
#[derive(Debug, Clone, Copy)]
pub struct TxnConfig {
    /// Shared row locks that may be held at one time.
    pub max_row_lockers: usize,
    /// Heavyweight locks that may be held at one time (`max_locks_per_transaction` times sessions).
    pub max_locks: usize,
}

impl Default for TxnConfig {
    fn default() -> TxnConfig {
        TxnConfig {
            max_row_lockers: 1 << 20,
            max_locks: 64 * 1000,
        }
    }
}

pub(crate) type InvalidationHook = Box<dyn Fn(&[Invalidation]) + Send + Sync>;

/// What transactions, participants and replay share.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) xids: XidSource,
    /// Number of the newest page of the commit log that was made.
    pub(crate) newest_log_page: AtomicU64,
    pub(crate) commit_log: CommitLog,
    pub(crate) lsns: CommitLsns,
    pub(crate) release: Release,
    pub(crate) locks: LockManager,
    pub(crate) participants: Participants,
    pub(crate) running: RunningXids,
    pub(crate) made: MadeFiles,
    pub(crate) hooks: RwLock<Vec<InvalidationHook>>,
    pub(crate) recovery: AtomicBool,
    /// Transactions of those that need room may not begin to write.
    pub(crate) disk_full: AtomicBool,
    pub(crate) replay: Replay,
    pub(crate) horizon: Mutex<HorizonState>,
}

/// See the module's header.
pub struct TxnManager {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for TxnManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxnManager")
            .field("next_xid", &self.next_xid())
            .finish_non_exhaustive()
    }
}

impl TxnManager {
    /// In recovery, until [`Self::finish_recovery`]. Hooks itself to the log's flushes.
    pub fn new(store: Arc<Store>, config: TxnConfig) -> TxnManager {
        let shared = Arc::new(Shared {
            xids: XidSource::new(Xid::FIRST_NORMAL),
            newest_log_page: AtomicU64::new(0),
            commit_log: CommitLog::new(store.disk.clone(), store.wal.clone()),
            lsns: CommitLsns::new(),
            release: Release::new(),
            locks: LockManager::new(config),
            participants: Participants::default(),
            running: RunningXids::new(),
            made: MadeFiles::default(),
            hooks: RwLock::default(),
            recovery: AtomicBool::new(true),
            disk_full: AtomicBool::new(false),
            replay: Replay::default(),
            horizon: Mutex::default(),
            store,
        });
        // Weak: the log outlives a manager that a test or a failed start gives up.
        let weak = Arc::downgrade(&shared);
        shared.store.wal.on_flush(Box::new(move |lsn| {
            if let Some(shared) = weak.upgrade() {
                shared.release.advance_flush(lsn);
            }
        }));
        TxnManager { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn begin(&self, options: TxnOptions, interrupts: Arc<Interrupts>) -> Transaction {
        self.begin_at(options, interrupts, now_us())
    }

    /// The same for whoever has looked at the clock: `started_at` is what `now()` gives, in microseconds since 2000-01-01
    /// UTC.
    pub fn begin_at(
        &self,
        options: TxnOptions,
        interrupts: Arc<Interrupts>,
        started_at: i64,
    ) -> Transaction {
        let participant = self.participant_of(&interrupts);
        participant.set_running(Some(Running {
            number: participant.next_number(),
            started_at,
            xid: None,
            database: options.database,
        }));
        Transaction::new(participant, interrupts, options, started_at)
    }

    pub(crate) fn participant_of(&self, session: &Arc<Interrupts>) -> Arc<Participant> {
        let new = || {
            let weak = Arc::downgrade(session);
            let new = Participant::new(session.pid(), weak, self.shared.clone());
            let new = Arc::new(new);
            self.shared.participants.insert(&new);
            new
        };
        session.participant.get_or_init(new).clone()
    }

    /// The xid of the current subtransaction (or the top level), assigned if it has none; marks the current
    /// command as one that writes.
    pub fn xid(&self, txn: &mut Transaction) -> Result<Xid, TxnError> {
        txn.command_wrote = true;
        match txn.current_xid() {
            Some(xid) => Ok(xid),
            None => self.shared.assign_xids(txn),
        }
    }

    /// One load in the normal case; registered until dropped. The caller has waited for the first snapshot; where a
    /// promotion has come since, it is what was shown before.
    pub fn snapshot(&self, txn: &Transaction) -> Snapshot {
        Snapshot::take(&txn.participant, txn.own.clone(), txn.command_id(), || {
            self.shared.release.snapshot()
        })
    }

    /// The same with what a failover could still lose: for whoever has asked to see it.
    pub fn unconfirmed_snapshot(&self, txn: &Transaction) -> Snapshot {
        Snapshot::take(&txn.participant, txn.own.clone(), txn.command_id(), || {
            self.shared.release.newest()
        })
    }

    /// For catalog reads: the newest released state; on a standby what is replayed, because replay has
    /// invalidated what sessions remember of an older catalog.
    pub fn catalog_snapshot(&self, txn: &Transaction) -> Snapshot {
        if !self.in_recovery() {
            return self.unconfirmed_snapshot(txn);
        }
        Snapshot::take(&txn.participant, txn.own.clone(), txn.command_id(), || {
            (self.shared.replay.replayed(), None)
        })
    }

    /// Whether statements may take snapshots: one load.
    pub fn snapshots_open(&self) -> bool {
        self.shared.release.is_open()
    }

    /// After recovery or promotion: until the required standbys have flushed past its end; on a standby: until
    /// what it may show is not older than what it has. Cancel-safe.
    pub fn wait_for_first_snapshot(&self) -> impl Future<Output = ()> + Send + '_ {
        self.shared.release.wait_open()
    }

    /// For everybody, whatever a failover could still lose: `initdb`, where there is nobody else.
    pub fn open_snapshots_anyway(&self) {
        self.shared.release.open_anyway();
    }

    /// For writers: a commit that is not released is in progress.
    pub fn outcome(&self, xid: Xid) -> Outcome {
        self.shared.outcome(xid)
    }

    /// What vacuum may remove, computed now.
    pub fn oldest_needed(&self) -> Horizon {
        self.shared.compute_horizon()
    }

    /// The same as last computed, at most some milliseconds old: for pruning on access.
    pub fn recent_horizon(&self) -> Horizon {
        self.shared.recent_horizon()
    }

    /// What a standby (or a slot) still needs, by a key of the caller's; `None` forgets it.
    pub fn set_feedback(&self, key: u64, lsn: Option<Lsn>) {
        self.shared.set_feedback(key, lsn);
    }

    /// `None`: it wrote nothing. Ends when the commit is released. If the future is dropped, or an interrupt
    /// ends the wait, the commit goes on waiting, and keeps its locks until it is released.
    pub async fn commit(
        &self,
        txn: Transaction,
        level: CommitLevel,
    ) -> Result<Option<Lsn>, CommitError> {
        self.shared.commit(txn, level).await
    }

    pub fn abort(&self, mut txn: Transaction) {
        self.shared.abort(&mut txn);
    }

    /// As [`Self::commit`] for a transaction that has no xid: nothing is written and nobody waited for.
    pub fn end_reading(&self, txn: &mut Transaction) {
        self.shared.end_without_xid(txn);
    }

    pub fn savepoint(&self, txn: &mut Transaction, name: &str) {
        txn.push_level(name.to_owned());
    }

    pub fn release_savepoint(&self, txn: &mut Transaction, name: &str) -> Result<(), TxnError> {
        self.shared.release_savepoint(txn, name)
    }

    /// The savepoint stays. What was invalidated since is returned: the session's caches may hold rows that
    /// are rolled back.
    pub fn rollback_to_savepoint(
        &self,
        txn: &mut Transaction,
        name: &str,
    ) -> Result<Vec<Invalidation>, TxnError> {
        self.shared.rollback_to_savepoint(txn, name)
    }

    pub fn locks(&self) -> &LockManager {
        &self.shared.locks
    }

    pub fn release(&self) -> &Release {
        &self.shared.release
    }

    pub fn in_recovery(&self) -> bool {
        self.shared.recovery.load(Ordering::Acquire)
    }

    /// From now on no transaction of a session begins to write, but for those that are to make room
    /// ([`Interrupts::set_needs_room`], [`Transaction::makes_room`]). One that has written goes on.
    pub fn set_disk_full(&self, is_full: bool) {
        if self.shared.disk_full.swap(is_full, Ordering::Relaxed) != is_full {
            match is_full {
                true => tracing::warn!("the disk is nearly full: transactions may only read"),
                false => tracing::info!("the disk has room again: transactions may write"),
            }
        }
    }

    /// The next xid to be handed out: for checkpoints, which read it in the log's critical section.
    pub fn next_xid(&self) -> Xid {
        self.shared.xids.next()
    }

    /// The oldest xid without an outcome; read before the checkpoint sets its redo point. Replay from there needs
    /// it, because such a transaction may end behind the redo point.
    pub fn oldest_running_xid(&self) -> Xid {
        self.shared.lsns.oldest_running(self.next_xid())
    }

    /// Called for every commit that made cached state stale: when it is released, before its locks go; on a
    /// standby when it is replayed.
    pub fn on_invalidation(&self, hook: Box<dyn Fn(&[Invalidation]) + Send + Sync>) {
        self.shared.hooks.write().push(hook);
    }

    /// This room's part of a checkpoint or restartpoint, after the redo point is set: the commit log is durable,
    /// and what running transactions would have to undo, and keep standbys' queries from, is in the log.
    pub fn checkpoint(&self) -> std::io::Result<()> {
        self.shared.log_made_files();
        self.shared.list_logged_locks();
        self.shared.commit_log.flush()
    }

    /// The sessions' transactions.
    pub fn activity(&self) -> Vec<Activity> {
        let mut rows = Vec::new();
        self.shared.participants.each(|p| {
            if let Some(running) = p.running() {
                rows.push(Activity {
                    pid: p.pid,
                    started_at: running.started_at,
                    xid: running.xid,
                    database: running.database,
                    waits_for: p.waiting.lock().map(|w| (w.tag, w.mode)),
                    oldest_snapshot: match p.oldest_snapshot() {
                        OldestSnapshot::At(lsn) => Some(lsn),
                        _ => None,
                    },
                });
            }
        });
        rows
    }

    /// The session that runs an xid.
    pub fn session_of(&self, xid: Xid) -> Option<ProcessId> {
        self.shared.running.get(xid).map(|p| p.pid)
    }
}
