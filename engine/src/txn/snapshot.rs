//! Snapshots: an LSN, the commits below it that are not released, and the reader's own transaction.

use std::sync::Arc;

use crate::ids::{CommandId, Lsn, Xid};
use crate::txn::manager::TxnManager;
use crate::txn::own::OwnXids;

/// What a snapshot says of a transaction that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Yes,
    /// Running, or committed after the snapshot, or not released when it was taken.
    No,
    Aborted,
}

/// What vacuum may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Every snapshot, now and later, here and on the standbys that told us, sees the commits at or below this.
    pub lsn: Lsn,
    /// Every xid below this has ended, with an outcome on which all snapshots agree: what may be frozen.
    pub xid: Xid,
}

/// Registered until it is dropped: vacuum keeps what it can see.
#[derive(Debug)]
pub struct Snapshot {
    lsn: Lsn,
    own: Arc<OwnXids>,
    command: CommandId,
}

impl Snapshot {
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
    /// Row versions of the own transaction are visible if they were written by an earlier command than this.
    pub fn command_id(&self) -> CommandId {
        self.command
    }
    pub fn own(&self) -> &OwnXids {
        &self.own
    }
    /// For xids that are not the reader's own. The last answer is remembered, so a run of rows of one
    /// transaction costs one look-up.
    pub fn sees(&self, xid: Xid, txns: &TxnManager) -> Seen {
        let _ = (xid, txns);
        unimplemented!("lands next")
    }
}
