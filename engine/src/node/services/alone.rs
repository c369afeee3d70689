//! Statements that run transactions of their own: which session asks, and how it commits.

use std::sync::Arc;

use crate::ids::{Oid, ProcessId};
use crate::instance::Instance;
use crate::sql::error::SqlError;
use crate::sql::session::{UtilityCall, commit_level};
use crate::txn::{CommitLevel, Interrupts, Isolation, Transaction, TxnOptions};

pub struct Alone {
    pub instance: Arc<Instance>,
    pub interrupts: Arc<Interrupts>,
    pub pid: ProcessId,
    pub database: Oid,
    pub level: CommitLevel,
}

impl Alone {
    pub fn of(instance: &Arc<Instance>, call: &UtilityCall<'_>) -> Alone {
        let backend = &call.facts.backend;
        Alone {
            instance: Arc::clone(instance),
            interrupts: Arc::clone(&backend.interrupts),
            pid: backend.pid,
            database: call.facts.database,
            level: commit_level(call.settings.synchronous_commit),
        }
    }

    pub fn begin(&self, read_only: bool) -> Transaction {
        let options = TxnOptions {
            isolation: Isolation::ReadCommitted,
            read_only,
            deferrable: false,
            database: self.database,
        };
        let interrupts = Arc::clone(&self.interrupts);
        self.instance.txns.begin(options, interrupts)
    }

    /// With what the session asks for, but at least `least`.
    pub async fn commit(&self, txn: Transaction, least: CommitLevel) -> Result<(), SqlError> {
        let level = self.level.max(least);
        self.instance.txns.commit(txn, level).await?;
        Ok(())
    }
}
