//! What the transaction manager keeps for each session (or background worker) across its transactions, and the
//! registry in which they are found.
//!
//! A participant is made by a session's first `begin`, and lives until the session's [`Interrupts`] are gone and
//! no commit of it waits any more. Everything a transaction needs at its beginning is here already, so that
//! `begin`, a snapshot and a commit allocate next to nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::ids::{Lsn, Oid, ProcessId, Xid};
use crate::txn::interrupt::Interrupts;
use crate::txn::locks::fast_path::FastLocks;
use crate::txn::locks::{LockMode, LockTag};
use crate::txn::manager::Shared;
use crate::txn::own::OwnXids;
use crate::wal::{Record, RmgrId, xlog_records};

/// A snapshot is being taken: the horizon must not move past what is known until it is registered.
const TAKING: u64 = 0;
const NONE: u64 = u64::MAX;

/// What a session waits for; what `pg_locks` and the deadlock detector see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitFor {
    pub(crate) tag: LockTag,
    pub(crate) mode: LockMode,
    /// Microseconds since 2000-01-01 UTC.
    pub(crate) since: i64,
}

pub struct Participant {
    pub(crate) pid: ProcessId,
    /// Its own among all participants that ever were. A session may have several with its process id: one for its
    /// statements and one that reads the catalog beside them.
    number: u64,
    pub(crate) interrupts: Weak<Interrupts>,
    pub(crate) shared: Arc<Shared>,
    /// What the oldest snapshot of the session needs (see `SnapshotSlots`), `TAKING` or `NONE`.
    oldest: AtomicU64,
    snapshots: Mutex<SmallVec<[u64; 4]>>,
    /// The newest commit of the session that is released.
    released: AtomicU64,
    pub(crate) commit_done: Notify,
    /// What [`Standstills::noted`] was, plus one, when the first commit began to wait of those that are released and that
    /// the client has not been told of yet; 0: it has been told everything.
    ///
    /// [`Standstills::noted`]: crate::txn::release::standstill::Standstills::noted
    owes: AtomicU64,
    /// A transaction of the session that had an xid has ended, or a subtransaction.
    pub(crate) ended: Notify,
    spare_own: Mutex<Option<Arc<OwnXids>>>,
    pub(crate) fast: Mutex<FastLocks>,
    pub(crate) waiting: Mutex<Option<WaitFor>>,
    /// Locks that functions have taken for the running transaction, until it takes them over.
    pub(crate) taken: Mutex<Vec<(LockTag, LockMode)>>,
    /// Those that functions hold to its end, whatever is rolled back to a savepoint meanwhile.
    pub(crate) held: Mutex<Vec<(LockTag, LockMode)>>,
    /// Session-level advisory locks with their counts.
    pub(crate) session_locks: Mutex<HashMap<(LockTag, LockMode), u32>>,
    running: Mutex<Option<Running>>,
    /// How many transactions have begun.
    begun: AtomicU32,
}

/// A session's transaction, for `pg_stat_activity`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    /// Its place among those of the session, from 1.
    pub(crate) number: u32,
    pub(crate) started_at: i64,
    pub(crate) xid: Option<Xid>,
    pub(crate) database: Oid,
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Participant({})", self.pid)
    }
}

impl Participant {
    pub(crate) fn new(
        pid: ProcessId,
        interrupts: Weak<Interrupts>,
        shared: Arc<Shared>,
    ) -> Participant {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Participant {
            pid,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            interrupts,
            shared,
            oldest: AtomicU64::new(NONE),
            snapshots: Mutex::default(),
            released: AtomicU64::new(0),
            commit_done: Notify::new(),
            owes: AtomicU64::new(0),
            ended: Notify::new(),
            spare_own: Mutex::new(None),
            fast: Mutex::default(),
            waiting: Mutex::new(None),
            taken: Mutex::default(),
            held: Mutex::default(),
            session_locks: Mutex::default(),
            running: Mutex::new(None),
            begun: AtomicU32::new(0),
        }
    }

    /// Takes a snapshot with `take`, which gives its value and the position whose commits it tells apart from
    /// newer ones; registers that position.
    pub(crate) fn register<T>(&self, take: impl FnOnce() -> (T, Lsn)) -> (T, u64) {
        let mut snapshots = self.snapshots.lock();
        if snapshots.is_empty() {
            // Stored before the position is read: who computes the horizon after that finds it, and who has
            // looked before has read an older position (see `Shared::horizon`).
            self.oldest.store(TAKING, Ordering::SeqCst);
        }
        let (value, low) = take();
        let low = low.raw().max(TAKING + 1);
        snapshots.push(low);
        self.publish_oldest(&snapshots);
        (value, low)
    }

    pub(crate) fn unregister(&self, low: u64) {
        let mut snapshots = self.snapshots.lock();
        if let Some(i) = snapshots.iter().position(|s| *s == low) {
            snapshots.swap_remove(i);
        }
        self.publish_oldest(&snapshots);
    }

    fn publish_oldest(&self, snapshots: &[u64]) {
        let oldest = snapshots.iter().copied().min().unwrap_or(NONE);
        self.oldest.store(oldest, Ordering::SeqCst);
    }

    pub(crate) fn oldest_snapshot(&self) -> OldestSnapshot {
        match self.oldest.load(Ordering::SeqCst) {
            TAKING => OldestSnapshot::Taking,
            NONE => OldestSnapshot::None,
            lsn => OldestSnapshot::At(Lsn::new(lsn)),
        }
    }

    pub(crate) fn released(&self, lsn: Lsn) {
        self.released.fetch_max(lsn.raw(), Ordering::SeqCst);
    }

    pub(crate) fn is_released(&self, lsn: Lsn) -> bool {
        self.released.load(Ordering::SeqCst) >= lsn.raw()
    }

    /// A commit that asked for others is released; its client is to be told. `noted` is of when it began to wait.
    pub(crate) fn owe(&self, noted: u64) {
        if self.owes.load(Ordering::Relaxed) == 0 {
            self.owes.store(noted + 1, Ordering::Relaxed);
        }
    }

    /// The client has been told.
    pub(crate) fn told(&self) {
        if self.owes.load(Ordering::Relaxed) != 0 {
            self.owes.store(0, Ordering::Relaxed);
        }
    }

    /// What the client is about to be told was decided before the process stood still.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let owes = self.owes.load(Ordering::Relaxed);
        let stills = &self.shared.release.standstills;
        owes != 0 && stills.since(owes - 1, Instant::now())
    }

    /// Until the required standbys have a record that is written now. One that has promised a newer term does not take
    /// it: then this never ends, as no commit does. Where none is required the record is flushed here, and waits for the end
    /// of the hold that the standstill began, if it was long. Where nobody looks at the clock, this does.
    /// Cancel-safe.
    pub(crate) async fn confirm(&self) -> std::io::Result<()> {
        let Shared { store, release, .. } = &*self.shared;
        while self.is_in_doubt() {
            release.standstills.look(Instant::now());
            let noted = release.standstills.noted();
            store.wal.ensure_space().map_err(std::io::Error::other)?;
            let record = Record {
                rmgr: RmgrId::XLOG,
                info: xlog_records::NOOP,
                xid: Xid::INVALID,
                main: &[],
                blocks: &[],
            };
            let end = store.wal.insert(&record).end;
            let is_safe = async {
                store.wal.flushed(end).await;
                let mut safe = release.safe_watch();
                // What was safe stays so, though the standby that said it may have gone by the time this task runs.
                let reached = safe.wait_for(|(safe, _)| *safe >= end).await;
                reached.map(drop).map_err(std::io::Error::other)
            };
            tokio::select! {
                done = is_safe => done?,
                never = release.standstills.keep_looking() => match never {},
            }
            self.owes.store(noted + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn take_own(&self) -> Arc<OwnXids> {
        let spare = self.spare_own.lock().take();
        if let Some(mut own) = spare
            && let Some(inner) = Arc::get_mut(&mut own)
        {
            inner.reset();
            return own;
        }
        Arc::default()
    }

    pub(crate) fn give_own(&self, own: Arc<OwnXids>) {
        *self.spare_own.lock() = Some(own);
    }

    /// The number of a transaction that begins. Only the session itself counts. After 2^32 it begins anew, at 1.
    pub(crate) fn next_number(&self) -> u32 {
        let next = self.begun.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.begun.store(next, Ordering::Relaxed);
        next
    }

    pub(crate) fn set_running(&self, running: Option<Running>) {
        *self.running.lock() = running;
    }

    pub(crate) fn set_running_xid(&self, xid: Xid) {
        if let Some(running) = &mut *self.running.lock() {
            running.xid = Some(xid);
        }
    }

    pub(crate) fn running(&self) -> Option<Running> {
        *self.running.lock()
    }

    /// The session is over: gives back what it holds beyond its transactions.
    pub(crate) fn leave(&self) {
        let held: Vec<_> = self.session_locks.lock().drain().collect();
        for ((tag, mode), count) in held {
            for _ in 0..count {
                self.shared.locks.table.release(tag, mode, self);
            }
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.shared.participants.remove(self.number);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldestSnapshot {
    None,
    Taking,
    At(Lsn),
}

/// All participants by number.
#[derive(Default)]
pub(crate) struct Participants {
    by_number: RwLock<HashMap<u64, Weak<Participant>>>,
}

impl Participants {
    pub(crate) fn insert(&self, participant: &Arc<Participant>) {
        let weak = Arc::downgrade(participant);
        self.by_number.write().insert(participant.number, weak);
    }

    /// Called while a participant is dropped.
    fn remove(&self, number: u64) {
        self.by_number.write().remove(&number);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Participant>> {
        let by_number = self.by_number.read();
        by_number.values().filter_map(Weak::upgrade).collect()
    }

    /// Calls `visit` for each; the registry is locked for reading meanwhile, so `visit` must be short and must
    /// not drop the last reference to a participant.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<Participant>)) {
        // Upgraded copies are dropped outside of the lock, because dropping the last one takes it.
        for participant in self.all() {
            visit(&participant);
        }
    }
}

/// Which participant runs an xid: top levels and live or released subtransactions.
pub(crate) struct RunningXids {
    shards: Box<[Mutex<HashMap<Xid, Arc<Participant>>>]>,
}

const SHARDS: u64 = 64;

impl RunningXids {
    pub(crate) fn new() -> RunningXids {
        RunningXids {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, xid: Xid) -> &Mutex<HashMap<Xid, Arc<Participant>>> {
        &self.shards[(xid.raw() % SHARDS) as usize]
    }

    pub(crate) fn insert(&self, xid: Xid, participant: &Arc<Participant>) {
        self.shard(xid).lock().insert(xid, participant.clone());
    }

    pub(crate) fn remove(&self, xid: Xid) {
        // Dropped outside of the lock: it may be the last reference.
        let _removed = self.shard(xid).lock().remove(&xid);
    }

    pub(crate) fn get(&self, xid: Xid) -> Option<Arc<Participant>> {
        self.shard(xid).lock().get(&xid).cloned()
    }
}

/// A row of `pg_stat_activity`, as far as transactions go.
#[derive(Debug, Clone)]
pub struct Activity {
    pub pid: ProcessId,
    /// `xact_start`, microseconds since 2000-01-01 UTC.
    pub started_at: i64,
    pub xid: Option<Xid>,
    pub database: Oid,
    /// The lock that it waits for.
    pub waits_for: Option<(LockTag, LockMode)>,
    /// Where its oldest snapshot stands.
    pub oldest_snapshot: Option<Lsn>,
}
