//! Locks on relations, rows, advisory keys; waiting for transactions; deadlocks.
//!
//! Volatile: after a crash there is nothing to recover, because no transaction survives one. Files: [`table`]
//! (who holds and who waits), [`fast_path`] (weak relation locks that stay with the session), [`held`] (a
//! transaction's own list), [`acquire`] (the waiting), [`deadlock`], [`rows`] (shared row locks), [`logged`] (what
//! checkpoints tell standbys), [`replay`] (locks that a standby's replay takes), [`wait_log`] (what the log is told of
//! long waits). Lock order of the mutexes: a session's fast-path list before a shard of the table; no two shards at
//! once; none across an await.

pub(crate) mod acquire;
pub(crate) mod deadlock;
pub(crate) mod fast_path;
pub(crate) mod held;
pub(crate) mod logged;
pub mod mode;
pub mod replay;
pub(crate) mod rows;
pub(crate) mod table;
pub mod tag;
pub(crate) mod wait_log;

#[cfg(test)]
mod standby_tests;
#[cfg(test)]
mod tests;

pub use acquire::{LockInfo, LockManager};
pub use mode::{LockMode, RowLockMode};
pub use tag::LockTag;

use crate::ids::ProcessId;
use crate::txn::error::TxnError;
use crate::txn::interrupt::Interrupt;

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
    /// 40P01; `detail` is PostgreSQL's DETAIL, `processes` are those of the ring, whose statements the log tells. HINT:
    /// "See server log for query details."
    #[error("deadlock detected")]
    Deadlock {
        detail: String,
        processes: Vec<ProcessId>,
    },
    /// 53200. HINT: "You might need to increase max_locks_per_transaction."
    #[error("out of shared memory")]
    TableFull,
    /// 55000. HINT: "Only RowExclusiveLock or less can be acquired on database objects during recovery."
    #[error("cannot acquire lock mode {0} on database objects while recovery is in progress")]
    InRecovery(LockMode),
    #[error(transparent)]
    Interrupted(#[from] Interrupt),
    #[error(transparent)]
    Transaction(#[from] TxnError),
}
