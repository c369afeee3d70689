//! One running transaction.

use std::sync::Arc;

use crate::ids::{CommandId, Lsn, Oid, RelFile, Xid};
use crate::txn::error::TxnError;
use crate::txn::interrupt::Interrupts;
use crate::txn::own::OwnXids;
use crate::txn::record::Invalidation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Also READ UNCOMMITTED.
    ReadCommitted,
    RepeatableRead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnOptions {
    pub isolation: Isolation,
    pub read_only: bool,
    pub deferrable: bool,
    /// The session's database.
    pub database: Oid,
}

/// How a transaction ended, for writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Running, or committed and not yet released.
    InProgress,
    /// `lsn` is the end of the commit record; `None`: at or below every snapshot's.
    Committed {
        lsn: Option<Lsn>,
    },
    Aborted,
}

/// One running transaction: the top level and its live subtransactions. Dropped without commit, it aborts.
#[derive(Debug)]
pub struct Transaction {
    options: TxnOptions,
    interrupts: Arc<Interrupts>,
    own: Arc<OwnXids>,
    command: CommandId,
}

impl Transaction {
    pub fn options(&self) -> &TxnOptions {
        &self.options
    }
    /// SET TRANSACTION.
    pub fn set_options(&mut self, options: TxnOptions) {
        self.options = options;
    }
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }
    /// The top-level xid, if one was assigned.
    pub fn top_xid(&self) -> Option<Xid> {
        self.own.top()
    }
    /// Which xids are mine and not rolled back.
    pub fn own(&self) -> &OwnXids {
        &self.own
    }
    pub fn command_id(&self) -> CommandId {
        self.command
    }
    /// Makes what was written so far visible to the snapshots that follow; counts only if the last command wrote.
    pub fn next_command(&mut self) -> Result<(), TxnError> {
        unimplemented!("lands next")
    }
    /// Microseconds since 2000-01-01 UTC: `now()`.
    pub fn started_at(&self) -> i64 {
        unimplemented!("lands next")
    }
    /// The file goes when the transaction has committed (its relation was dropped or rewritten).
    pub fn on_commit_drop(&mut self, file: RelFile) {
        let _ = file;
        unimplemented!("lands next")
    }
    /// The file goes if this (sub)transaction does not commit (it created it).
    pub fn on_abort_drop(&mut self, file: RelFile) {
        let _ = file;
        unimplemented!("lands next")
    }
    /// Goes into the commit record, to all sessions and to standbys.
    pub fn invalidate(&mut self, what: Invalidation) {
        let _ = what;
        unimplemented!("lands next")
    }
    /// What was invalidated so far, oldest first: the session's own caches look here.
    pub fn invalidations(&self) -> &[Invalidation] {
        unimplemented!("lands next")
    }
    /// Names of the open savepoints, outermost first.
    pub fn savepoints(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}
