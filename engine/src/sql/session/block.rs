//! The transaction that a session is in, and what ends it.
//!
//! ```text
//!            statement                      BEGIN
//!   Idle ----------------> Implicit --------------------> Open
//!    ^  <- commit, abort ----'                            |  ^
//!    |                                              error |  | ROLLBACK TO
//!    `---- COMMIT, ROLLBACK --- Failed <------------------'  |
//!                                 `--------------------------'
//! ```
//!
//! A failed block without savepoints has no transaction any more: its locks are free while the client makes up its
//! mind. One with savepoints is rolled back to the innermost at once, and keeps the rest.

use std::sync::Arc;

use crate::txn::{Isolation, Snapshot, Transaction};

/// A transaction and what the session keeps for it.
pub struct Running {
    pub txn: Transaction,
    /// REPEATABLE READ's one snapshot, from the first statement on.
    pub snapshot: Option<Arc<Snapshot>>,
    /// A statement has run, so SET TRANSACTION ISOLATION LEVEL comes too late.
    pub queried: bool,
}

impl Running {
    pub fn isolation(&self) -> Isolation {
        self.txn.options().isolation
    }
}

#[derive(Default)]
pub enum Block {
    #[default]
    Idle,
    /// Outside of a block: ends with the statement, the query string, or Sync.
    Implicit(Box<Running>),
    Open(Box<Running>),
    Failed(Option<Box<Running>>),
}

impl Block {
    /// For ReadyForQuery. Between messages an implicit transaction is only there before Sync.
    pub fn status(&self) -> u8 {
        match self {
            Block::Idle | Block::Implicit(_) => b'I',
            Block::Open(_) => b'T',
            Block::Failed(_) => b'E',
        }
    }

    pub fn running(&mut self) -> Option<&mut Running> {
        match self {
            Block::Implicit(r) | Block::Open(r) => Some(r),
            Block::Idle | Block::Failed(_) => None,
        }
    }

    pub fn is_block(&self) -> bool {
        matches!(self, Block::Open(_) | Block::Failed(_))
    }

    /// A failed block has its transaction still where a savepoint keeps it.
    pub fn has_transaction(&self) -> bool {
        !matches!(self, Block::Idle | Block::Failed(None))
    }

    pub fn is_failed(&self) -> bool {
        matches!(self, Block::Failed(_))
    }
}
