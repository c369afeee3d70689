//! Locks on relations, rows, advisory keys; waiting for transactions; deadlocks.

pub mod mode;
pub mod tag;

pub use mode::{LockMode, RowLockMode};
pub use tag::LockTag;

use crate::ids::{Oid, ProcessId, RelFile, Tid, Xid};
use crate::txn::error::TxnError;
use crate::txn::interrupt::Interrupt;
use crate::txn::interrupt::Interrupts;
use crate::txn::transaction::Transaction;

/// What to do where somebody else holds a conflicting lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    Wait,
    /// NOWAIT, SKIP LOCKED and `pg_try_...`: fails with [`LockError::NotAvailable`].
    NoWait,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum LockError {
    /// 55P03; `sql` words it with the relation's name.
    #[error("could not obtain lock on {0}")]
    NotAvailable(LockTag),
    /// 40P01; `detail` is PostgreSQL's DETAIL. HINT: "See server log for query details."
    #[error("deadlock detected")]
    Deadlock { detail: String },
    /// 53200. HINT: "You might need to increase max_locks_per_transaction."
    #[error("out of shared memory")]
    TableFull,
    #[error(transparent)]
    Interrupted(#[from] Interrupt),
    #[error(transparent)]
    Transaction(#[from] TxnError),
}

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

#[derive(Debug)]
pub struct LockManager {}

impl LockManager {
    /// Held to the end of the (sub)transaction. AccessExclusive is logged for standbys, which takes an xid.
    pub async fn lock_relation(
        &self,
        txn: &mut Transaction,
        relation: Oid,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let _ = (txn, relation, mode, wait);
        unimplemented!("lands next")
    }
    /// Any lock, held to the end of the (sub)transaction.
    pub async fn lock(
        &self,
        txn: &mut Transaction,
        tag: LockTag,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let _ = (txn, tag, mode, wait);
        unimplemented!("lands next")
    }
    /// Gives one lock back before the end of the transaction (catalogs, tuple queues).
    pub fn unlock(&self, txn: &mut Transaction, tag: LockTag, mode: LockMode) {
        let _ = (txn, tag, mode);
        unimplemented!("lands next")
    }
    /// Until `xid` (or the top level above it) has ended and, if it committed, is released.
    pub async fn wait_for_transaction(
        &self,
        txn: &mut Transaction,
        xid: Xid,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let _ = (txn, xid, wait);
        unimplemented!("lands next")
    }
    /// A session-level advisory lock; counted. `mode` is Share or Exclusive.
    pub async fn lock_session(
        &self,
        session: &Interrupts,
        tag: LockTag,
        mode: LockMode,
        wait: LockWait,
    ) -> Result<(), LockError> {
        let _ = (session, tag, mode, wait);
        unimplemented!("lands next")
    }
    /// False: it was not held.
    pub fn unlock_session(&self, session: &Interrupts, tag: LockTag, mode: LockMode) -> bool {
        let _ = (session, tag, mode);
        unimplemented!("lands next")
    }
    pub fn unlock_session_all(&self, session: &Interrupts) {
        let _ = session;
        unimplemented!("lands next")
    }
    pub fn list(&self) -> Vec<LockInfo> {
        unimplemented!("lands next")
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
        let _ = (file, tid, mode, xid);
        unimplemented!("lands next")
    }
    /// Somebody, not among `own`, who holds a shared lock on the row that conflicts with `mode`.
    pub fn row_locker_against(
        &self,
        file: RelFile,
        tid: Tid,
        mode: RowLockMode,
        own: &crate::txn::own::OwnXids,
    ) -> Option<Xid> {
        let _ = (file, tid, mode, own);
        unimplemented!("lands next")
    }
    /// Shared lockers of a row version that was updated without touching its key go on to hold the new one.
    pub fn inherit_row_lockers(&self, file: RelFile, from: Tid, to: Tid) -> Result<(), LockError> {
        let _ = (file, from, to);
        unimplemented!("lands next")
    }
}
