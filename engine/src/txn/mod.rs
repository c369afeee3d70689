//! Transactions: ids, commit log, snapshots, the release of commits, locks, interrupts.
//!
//! Owns the life of a transaction from `begin` to the moment its effects may be seen and its locks go. Knows
//! the log and the page store below it; knows no row format, no statement, no socket. Invariants:
//!
//! - Reserving a commit record's position, publishing it as the xid's commit LSN and joining the release queue
//!   are one critical section (`manager.rs`), so the release queue is in LSN order by construction.
//! - Nobody but the transaction itself sees a commit before it is released, and until then it keeps its locks.
//! - Waiters are async tasks; no function here blocks a thread except on short mutexes and page reads of the
//!   commit log.
//!
//! A crash loses everything volatile here (commit LSNs, locks, snapshots) and that is right: after recovery
//! every commit replayed is visible to every new snapshot, and no transaction survives.

mod assignment;
pub(crate) mod commit_log;
pub(crate) mod commit_lsns;
mod ending;
pub mod error;
pub mod interrupt;
pub mod locks;
pub mod made_files;
pub mod manager;
pub mod own;
pub(crate) mod participant;
pub mod record;
pub mod redo;
pub mod release;
mod row_events;
pub mod snapshot;
mod subtransaction;
pub(crate) mod timer;
pub mod transaction;
mod visibility;
pub(crate) mod xid;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::{CommitError, TxnError};
pub use interrupt::{Interrupt, Interrupts};
pub use locks::{LockError, LockManager, LockMode, LockTag, LockWait, RowLockMode};
pub use manager::{TxnConfig, TxnManager};
pub use own::OwnXids;
pub use participant::Activity;
pub use record::{Ending, Invalidation, decode_standby_locks};
pub use redo::{Effect, RecoveryStart, RedoError};
pub use release::{CommitLevel, InstanceId, Release, ReleasePolicy};
pub use row_events::{Due, RowChange, RowEvent, RowEvents};
pub use snapshot::{Horizon, Seen, Snapshot};
pub use transaction::{Isolation, Outcome, Transaction, TxnOptions};
