//! The life of transactions.

use std::future::Future;
use std::sync::Arc;

use crate::ids::{Lsn, Xid};
use crate::txn::error::{CommitError, TxnError};
use crate::txn::interrupt::Interrupts;
use crate::txn::locks::LockManager;
use crate::txn::record::Invalidation;
use crate::txn::release::{CommitLevel, Release};
use crate::txn::snapshot::{Horizon, Snapshot};
use crate::txn::transaction::{Outcome, Transaction, TxnOptions};

/// Limits; from the settings.
#[derive(Debug, Clone, Copy)]
pub struct TxnConfig {
    /// Shared row locks that may be held at one time.
    pub max_row_lockers: usize,
    /// Heavyweight locks that may be held at one time (`max_locks_per_transaction` times sessions).
    pub max_locks: usize,
}

#[derive(Debug)]
pub struct TxnManager {}

impl TxnManager {
    pub fn begin(&self, options: TxnOptions, interrupts: Arc<Interrupts>) -> Transaction {
        let _ = (options, interrupts);
        unimplemented!("lands next")
    }
    /// The xid of the current subtransaction (or the top level), assigned if it has none; marks the current
    /// command as one that writes.
    pub fn xid(&self, txn: &mut Transaction) -> Result<Xid, TxnError> {
        let _ = txn;
        unimplemented!("lands next")
    }
    /// One load; registered until dropped. The caller has waited for the first snapshot.
    pub fn snapshot(&self, txn: &Transaction) -> Snapshot {
        let _ = txn;
        unimplemented!("lands next")
    }
    /// For catalog reads: the newest released state; on a standby what is replayed.
    pub fn catalog_snapshot(&self, txn: &Transaction) -> Snapshot {
        let _ = txn;
        unimplemented!("lands next")
    }
    /// Whether statements may take snapshots: one load.
    pub fn snapshots_open(&self) -> bool {
        unimplemented!("lands next")
    }
    /// After recovery or promotion: until the required standbys have flushed past its end.
    pub fn wait_for_first_snapshot(&self) -> impl Future<Output = ()> + Send + '_ {
        async { unimplemented!("lands next") }
    }
    /// `understudy`'s setting to look anyway.
    pub fn open_snapshots_anyway(&self) {
        unimplemented!("lands next")
    }
    /// For writers: a commit that is not released is in progress.
    pub fn outcome(&self, xid: Xid) -> Outcome {
        let _ = xid;
        unimplemented!("lands next")
    }
    pub fn oldest_needed(&self) -> Horizon {
        unimplemented!("lands next")
    }
    /// What a standby (or a slot) still needs, by a key of the caller's; `None` forgets it.
    pub fn set_feedback(&self, key: u64, lsn: Option<Lsn>) {
        let _ = (key, lsn);
        unimplemented!("lands next")
    }
    /// `None`: it wrote nothing. After an error the transaction is gone either way.
    pub async fn commit(
        &self,
        txn: Transaction,
        level: CommitLevel,
    ) -> Result<Option<Lsn>, CommitError> {
        let _ = (txn, level);
        unimplemented!("lands next")
    }
    pub fn abort(&self, txn: Transaction) {
        let _ = txn;
        unimplemented!("lands next")
    }
    pub fn savepoint(&self, txn: &mut Transaction, name: &str) {
        let _ = (txn, name);
        unimplemented!("lands next")
    }
    pub fn release_savepoint(&self, txn: &mut Transaction, name: &str) -> Result<(), TxnError> {
        let _ = (txn, name);
        unimplemented!("lands next")
    }
    /// The savepoint stays. What was invalidated since is returned: the session's caches may hold rows that
    /// are rolled back.
    pub fn rollback_to_savepoint(
        &self,
        txn: &mut Transaction,
        name: &str,
    ) -> Result<Vec<Invalidation>, TxnError> {
        let _ = (txn, name);
        unimplemented!("lands next")
    }
    pub fn locks(&self) -> &LockManager {
        unimplemented!("lands next")
    }
    pub fn release(&self) -> &Release {
        unimplemented!("lands next")
    }
    pub fn in_recovery(&self) -> bool {
        unimplemented!("lands next")
    }
    /// The next xid to be handed out: for checkpoints.
    pub fn next_xid(&self) -> Xid {
        unimplemented!("lands next")
    }
    /// Called for every commit that made cached state stale: when it is released, before its locks go.
    pub fn on_invalidation(&self, hook: Box<dyn Fn(&[Invalidation]) + Send + Sync>) {
        let _ = hook;
        unimplemented!("lands next")
    }
}
