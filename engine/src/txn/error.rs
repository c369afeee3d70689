//! What can go wrong with a transaction as a whole. `Display` is PostgreSQL's message.

use std::sync::Arc;

use crate::ids::Xid;
use crate::txn::interrupt::Interrupt;

#[derive(Debug, Clone, thiserror::Error)]
pub enum TxnError {
    /// 25006; `sql` words it with the statement's name.
    #[error("cannot assign TransactionIds during recovery")]
    InRecovery,
    /// 53100, with the remedy as HINT: the supervisor keeps what room is left.
    #[error("the disk is nearly full: transactions may only read")]
    DiskFull,
    /// 53100 where the disk is full, else 58030.
    #[error("could not write to the write-ahead log: {0}")]
    Log(Arc<crate::wal::WalError>),
    /// 53100 or 58030.
    #[error("could not access status of transaction {xid}: {source}")]
    CommitLog {
        xid: Xid,
        source: Arc<std::io::Error>,
    },
    /// 54000
    #[error("cannot have more than 2^32-2 commands in a transaction")]
    TooManyCommands,
    /// 3B001
    #[error("savepoint \"{0}\" does not exist")]
    NoSavepoint(String),
    #[error(transparent)]
    Interrupted(#[from] Interrupt),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// 08007, FATAL: the session has to end. The commit is in the log and goes on waiting for its standbys;
    /// nobody sees it before they have it.
    #[error("the outcome of the transaction is unknown: {cause}")]
    OutcomeUnknown { cause: Interrupt },
    /// Nothing was logged; the transaction was rolled back.
    #[error(transparent)]
    Aborted(#[from] TxnError),
}
