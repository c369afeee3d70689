//! The lock manager's face: asking, waiting, giving back.
//!
//! Waiters are tasks. A wait ends with the lock, an interrupt, `lock_timeout`, or, after `deadlock_timeout`, with
//! the news of a deadlock. A wait whose future is dropped leaves the queue.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::ids::{Oid, ProcessId, RelFile, Tid, Xid};
use crate::txn::interrupt::{Interrupt, Interrupts};
use crate::txn::locks::deadlock::{Found, Ring};
use crate::txn::locks::fast_path::StrongCounts;
use crate::txn::locks::logged::LoggedLocks;
use crate::txn::locks::rows::RowLockers;
use crate::txn::locks::table::{Acquired, LockTable, Waiter};
use crate::txn::locks::wait_log::WaitLog;
use crate::txn::locks::{LockError, LockMode, LockTag, LockWait, RowLockMode, deadlock};
use crate::txn::manager::{Shared, TxnConfig, TxnManager};
use crate::txn::own::OwnXids;
use crate::txn::participant::{Participant, WaitFor};
use crate::txn::transaction::Transaction;
use crate::wal::xlog_records::now_us;

/// A row of `pg_locks`.
#[derive(Debug, Clone)]
pub struct LockInfo {
    pub tag: LockTag,
    pub mode: LockMode,
    pub granted: bool,
    pub fast_path: bool,
    pub pid: ProcessId,
    /// Microseconds since 2000-01-01 UTC; for those that wait.
    pub wait_start: Option<i64>,
}

/// See the module's header.
pub struct LockManager {
    pub(crate) table: LockTable,
    pub(crate) rows: RowLockers,
    pub(crate) strong: StrongCounts,
    pub(crate) logged: LoggedLocks,
}

/// Relations of `pg_global`, which are the same object in every database.
fn is_shared_catalog(relation: Oid) -> bool {
    const SHARED: [u32; 44] = [
        1213, 1214, 1232, 1233, 1260, 1261, 1262, 2396, 2397, 2671, 2672, 2676, 2677, 2694, 2695,
        2697, 2698, 2846, 2847, 2964, 2965, 2966, 2967, 3592, 3593, 4060, 4061, 4175, 4176, 4177,
        4178, 4181, 4182, 4183, 4184, 4185, 4186, 6000, 6001, 6002, 6100, 6114, 6115, 6243,
    ];
    SHARED.binary_search(&relation.raw()).is_ok()
}

/// The lock on a relation: shared catalogs belong to no database.
pub(crate) fn relation_tag(database: Oid, relation: Oid) -> LockTag {
    let database = if is_shared_catalog(relation) {
        Oid::INVALID
    } else {
        database
    };
    LockTag::Relation { database, relation }
}

impl LockManager {
    pub(crate) fn new(config: TxnConfig) -> LockManager {
        LockManager {
            table: LockTable::new(config.max_locks),
            rows: RowLockers::new(config.max_row_lockers),
            strong: StrongCounts::new(),
            logged: LoggedLocks::default(),
        }
    }

    /// Held to the end of the (sub)transaction. AccessExclusive is logged for standbys, which takes an xid.
    pub async fn lock_relation(
        &self,
        txn: &mut Transaction,
        relation: Oid,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let tag = relation_tag(txn.options.database, relation);
        self.lock(txn, tag, mode, wait).await
    }

    /// Any lock, held to the end of the (sub)transaction.
    pub async fn lock(
        &self,
        txn: &mut Transaction,
        tag: LockTag,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        if txn.locks.covers(tag, mode) {
            return Ok(());
        }
        let owner = txn.participant.clone();
        if self.strong.try_fast(tag, mode, &owner) {
            txn.locks.add(tag, mode);
            return Ok(());
        }
        let shared = &owner.shared;
        let object = matches!(tag, LockTag::Relation { .. } | LockTag::Object { .. });
        if object && mode > LockMode::RowExclusive && shared.in_recovery() {
            return Err(LockError::InRecovery(mode));
        }
        let logged = match tag {
            LockTag::Relation { database, relation } if mode == LockMode::AccessExclusive => {
                // Before the lock is taken, so that the record can follow at once.
                txn.command_wrote = true;
                let xid = match txn.current_xid() {
                    Some(xid) => xid,
                    None => shared.assign_xids(txn)?,
                };
                Some((xid, database, relation))
            }
            _ => None,
        };
        self.acquire(tag, mode, &owner, &txn.interrupts, wait)
            .await?;
        txn.locks.add(tag, mode);
        if let Some((xid, database, relation)) = logged {
            txn.logged_locks = true;
            let wal = &shared.store.wal;
            self.logged.take(wal, xid, database, relation);
        }
        Ok(())
    }

    /// Gives one lock back before the end of the transaction (catalogs, tuple queues).
    pub fn unlock(&self, txn: &mut Transaction, tag: LockTag, mode: LockMode) {
        if txn.locks.remove(tag, mode) {
            if let LockTag::Relation { database, relation } = tag
                && mode == LockMode::AccessExclusive
            {
                // Before it is free: the next one that logs it is listed.
                self.logged.give_back(&txn.own, database, relation);
            }
            let owner = txn.participant.clone();
            self.release_one(tag, mode, &owner);
        }
    }

    /// The same for a relation.
    pub fn unlock_relation(&self, txn: &mut Transaction, relation: Oid, mode: LockMode) {
        let tag = relation_tag(txn.options.database, relation);
        self.unlock(txn, tag, mode);
    }

    /// Whether somebody waits for a lock on the relation.
    pub fn is_waited_for(&self, txn: &Transaction, relation: Oid) -> bool {
        let tag = relation_tag(txn.options.database, relation);
        self.table.has_waiters(tag)
    }

    pub(crate) fn release_one(&self, tag: LockTag, mode: LockMode, owner: &Arc<Participant>) {
        if !StrongCounts::release_fast(tag, mode, owner) {
            let held = self.table.release(tag, mode, owner);
            debug_assert!(held, "{mode} on {tag} was not held");
            self.strong.weaken(tag, mode);
        }
    }

    /// Grants, queues and waits; gives up what it did on every error.
    async fn acquire(
        &self,
        tag: LockTag,
        mode: LockMode,
        owner: &Arc<Participant>,
        interrupts: &Interrupts,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let shared = &owner.shared;
        self.strong
            .strengthen(tag, mode, &shared.participants, &self.table);
        let acquired = self
            .table
            .acquire(tag, mode, owner, wait == LockWait::Wait)
            .inspect_err(|e| {
                self.strong.weaken(tag, mode);
                if let LockError::Deadlock { processes, .. } = e {
                    interrupts.note_deadlock(processes.clone());
                }
            })?;
        let Acquired::Waiting(waiter) = acquired else {
            return Ok(());
        };
        let mut queued = Queued {
            locks: self,
            tag,
            mode,
            waiter: Some(waiter.clone()),
        };
        let wait_for = WaitFor {
            tag,
            mode,
            since: now_us(),
        };
        let ready = || waiter.is_granted();
        wait_until(shared, owner, interrupts, wait_for, &waiter.notify, ready).await?;
        queued.waiter = None;
        Ok(())
    }

    /// Until `xid` (or the top level above it) has ended and, if it committed, is released; or until the
    /// subtransaction `xid` was rolled back.
    pub async fn wait_for_transaction(
        &self,
        txn: &mut Transaction,
        xid: Xid,
        wait: LockWait,
    ) -> Result<(), LockError> {
        debug_assert!(!txn.own.contains(xid), "waiting for oneself");
        let owner = &txn.participant;
        let shared = &owner.shared;
        let Some(runner) = shared.running.get(xid) else {
            return Ok(());
        };
        let tag = LockTag::Transaction(xid);
        if wait == LockWait::NoWait {
            return Err(LockError::NotAvailable(tag));
        }
        let wait_for = WaitFor {
            tag,
            mode: LockMode::Share,
            since: now_us(),
        };
        let ready = || shared.running.get(xid).is_none();
        let interrupts = &txn.interrupts;
        wait_until(shared, owner, interrupts, wait_for, &runner.ended, ready).await
    }

    /// A session-level advisory lock; counted. `mode` is Share or Exclusive. The session has run a transaction.
    pub async fn lock_session(
        &self,
        session: &Interrupts,
        tag: LockTag,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let Some(owner) = session.participant.get() else {
            return Err(LockError::NotAvailable(tag));
        };
        self.acquire(tag, mode, owner, session, wait).await?;
        *owner.session_locks.lock().entry((tag, mode)).or_default() += 1;
        Ok(())
    }

    /// An advisory lock to the end of the (sub)transaction that the session runs, asked for by a function, which has
    /// no hold of the transaction.
    pub async fn lock_from_function(
        &self,
        session: &Interrupts,
        tag: LockTag,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let Some(owner) = session.participant.get() else {
            return Err(LockError::NotAvailable(tag));
        };
        self.acquire(tag, mode, owner, session, wait).await?;
        owner.taken.lock().push((tag, mode));
        Ok(())
    }

    /// A weak lock to the end of the whole transaction, whatever is rolled back to a savepoint meanwhile; at once or not
    /// at all. False: a function has taken it before, and it is not taken again.
    pub fn try_hold_from_function(
        &self,
        session: &Interrupts,
        tag: LockTag,
        mode: LockMode,
    ) -> Result<bool, LockError> {
        debug_assert!(mode.is_weak(), "sessions with fast locks are not asked");
        let Some(owner) = session.participant.get() else {
            return Err(LockError::NotAvailable(tag));
        };
        if owner.held.lock().contains(&(tag, mode)) {
            return Ok(false);
        }
        self.table.acquire(tag, mode, owner, false)?;
        owner.held.lock().push((tag, mode));
        Ok(true)
    }

    /// The same for whoever can wait.
    pub async fn hold_from_function(
        &self,
        session: &Interrupts,
        tag: LockTag,
        mode: LockMode,
    ) -> Result<(), LockError> {
        let Some(owner) = session.participant.get() else {
            return Err(LockError::NotAvailable(tag));
        };
        self.acquire(tag, mode, owner, session, LockWait::Wait)
            .await?;
        owner.held.lock().push((tag, mode));
        Ok(())
    }

    /// False: it was not held ("you don't own a lock of type ...").
    pub fn unlock_session(&self, session: &Interrupts, tag: LockTag, mode: LockMode) -> bool {
        let Some(owner) = session.participant.get() else {
            return false;
        };
        {
            let mut held = owner.session_locks.lock();
            let Some(count) = held.get_mut(&(tag, mode)) else {
                return false;
            };
            *count -= 1;
            if *count == 0 {
                held.remove(&(tag, mode));
            }
        }
        self.table.release(tag, mode, owner)
    }

    pub fn unlock_session_all(&self, session: &Interrupts) {
        if let Some(owner) = session.participant.get() {
            owner.leave();
        }
    }

    /// Adds a shared row lock of `xid`. The caller holds the row's page latched, has checked the tuple's `xmax`,
    /// and sets the tuple's bit. Fails with `TableFull` when the table has no room.
    pub fn add_row_locker(
        &self,
        file: RelFile,
        tid: Tid,
        mode: RowLockMode,
        xid: Xid,
    ) -> Result<(), LockError> {
        self.rows.add(file, tid, mode, xid)
    }

    /// Whether `xid` holds so many shared row locks that others might soon find no room for theirs.
    pub fn row_lockers_are_crowded_by(&self, xid: Xid) -> bool {
        self.rows.is_crowded_by(xid)
    }

    /// Somebody, not among `own`, who holds a shared lock on the row that conflicts with `mode`.
    pub fn row_locker_against(
        &self,
        file: RelFile,
        tid: Tid,
        mode: RowLockMode,
        own: &OwnXids,
    ) -> Option<Xid> {
        self.rows.against(file, tid, mode, own)
    }

    /// Shared lockers of a row version that was updated without touching its key go on to hold the new one.
    pub fn inherit_row_lockers(&self, file: RelFile, from: Tid, to: Tid) -> Result<(), LockError> {
        self.rows.inherit(file, from, to)
    }
}

impl TxnManager {
    /// `pg_blocking_pids`: the sessions that this one waits for; empty if it does not wait.
    pub fn blocking_pids(&self, pid: ProcessId) -> Vec<ProcessId> {
        let shared = self.shared();
        let mut pids = Vec::new();
        shared.participants.each(|p| {
            let wait = *p.waiting.lock();
            if p.pid == pid
                && let Some(wait) = wait
            {
                let blockers = deadlock::blockers(shared, p, wait);
                pids.extend(blockers.iter().map(|b| b.pid));
            }
        });
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// `pg_locks`.
    pub fn list_locks(&self) -> Vec<LockInfo> {
        let shared = self.shared();
        let mut rows = Vec::new();
        for lock in shared.locks.table.list() {
            let wait = *lock.owner.waiting.lock();
            rows.push(LockInfo {
                tag: lock.tag,
                mode: lock.mode,
                granted: lock.granted,
                fast_path: false,
                pid: lock.owner.pid,
                wait_start: wait.filter(|_| !lock.granted).map(|w| w.since),
            });
        }
        shared.participants.each(|p| {
            p.fast.lock().each(|tag, mode| {
                rows.push(LockInfo {
                    tag,
                    mode,
                    granted: true,
                    fast_path: true,
                    pid: p.pid,
                    wait_start: None,
                });
            });
            if let Some(wait) = *p.waiting.lock()
                && matches!(wait.tag, LockTag::Transaction(_))
            {
                rows.push(LockInfo {
                    tag: wait.tag,
                    mode: wait.mode,
                    granted: false,
                    fast_path: false,
                    pid: p.pid,
                    wait_start: Some(wait.since),
                });
            }
        });
        rows
    }
}

/// A request in the queue; leaves it when dropped.
struct Queued<'a> {
    locks: &'a LockManager,
    tag: LockTag,
    mode: LockMode,
    waiter: Option<Arc<Waiter>>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        if self.locks.table.leave(self.tag, &waiter) {
            self.locks.table.release(self.tag, self.mode, &waiter.owner);
        }
        self.locks.strong.weaken(self.tag, self.mode);
    }
}

/// Shows to others what the session waits for, as long as it does.
pub(crate) struct Shown<'a>(&'a Participant);

impl<'a> Shown<'a> {
    pub(crate) fn new(who: &'a Participant, wait: WaitFor) -> Shown<'a> {
        *who.waiting.lock() = Some(wait);
        Shown(who)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() = None;
    }
}

/// Waits until `ready`; `notify` is told whenever that may have changed.
async fn wait_until(
    shared: &Shared,
    me: &Arc<Participant>,
    interrupts: &Interrupts,
    wait_for: WaitFor,
    notify: &Notify,
    ready: impl Fn() -> bool + Send,
) -> Result<(), LockError> {
    let _shown = Shown::new(me, wait_for);
    let now = Instant::now();
    let mut look_at = Some(now + interrupts.deadlock_timeout());
    let give_up_at = interrupts.lock_timeout().map(|t| now + t);
    let mut log = WaitLog::new(me, wait_for);
    loop {
        // Before the question: a change between it and the wait is not missed.
        let notified = notify.notified();
        if ready() {
            log.ends_well();
            return Ok(());
        }
        tokio::select! {
            biased;
            () = notified => {}
            interrupt = interrupts.wait() => return Err(interrupt.into()),
            () = at(give_up_at) => return Err(Interrupt::LockTimeout.into()),
            () = at(look_at) => {
                // On a standby the last wait of a cycle may be replay's, which does not look: it never gives way.
                let again = shared.in_recovery();
                look_at = again.then(|| Instant::now() + interrupts.deadlock_timeout());
                let found = deadlock::find(shared, me);
                if interrupts.logs_lock_waits() {
                    log.lasts(shared, &found, ready());
                }
                if let Found::Cycle(Ring { detail, processes }) = found {
                    interrupts.note_deadlock(processes.clone());
                    return Err(LockError::Deadlock { detail, processes });
                }
            }
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
