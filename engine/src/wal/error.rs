//! What can go wrong with the log, short of a failed write or sync (that ends the process).

use std::io;

use crate::ids::{Lsn, TimelineId};

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("could not {operation} file \"{path}\": {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
    /// The segment was recycled or removed, or never was here.
    #[error("requested WAL segment {0} has already been removed")]
    SegmentRemoved(String),
    /// A read past what is flushed.
    #[error("WAL is flushed only up to {flushed}, requested {requested}")]
    NotFlushed { requested: Lsn, flushed: Lsn },
    #[error("cannot make new WAL entries during recovery")]
    InRecovery,
    #[error("could not find history of timeline {0}")]
    HistoryMissing(TimelineId),
    #[error("syntax error in history file \"{file}\": {line}")]
    HistorySyntax { file: String, line: String },
    #[error("invalid data in history file \"{file}\": {line}")]
    HistoryOrder { file: String, line: String },
    /// Every history file has a line, and ends with the end of one.
    #[error("history file \"{0}\" is not whole")]
    HistoryCut(String),
    /// A segment has its full size before it has its name.
    #[error("WAL file \"{path}\" has wrong size: {len} instead of {expected}")]
    SegmentSize {
        path: String,
        len: u64,
        expected: u64,
    },
}

impl WalError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(io::Error) -> WalError {
        let path = path.as_ref().display().to_string();
        move |source| WalError::Io {
            operation,
            path,
            source,
        }
    }
    /// The system's error behind this one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            WalError::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
    /// What a timeline's history file says can't be, or is not all that it said.
    pub fn is_damaged_history(&self) -> bool {
        matches!(
            self,
            WalError::HistorySyntax { .. }
                | WalError::HistoryOrder { .. }
                | WalError::HistoryCut(_)
        )
    }
    pub fn is_out_of_space(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::StorageFull)
    }
}

/// Why the reader has no next record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What stands at `lsn` is not the record that must be there, and nothing proves that there ever was one.
    #[error("{reason}")]
    EndOfLog { lsn: Lsn, reason: String },
    /// The same, but something durable proves that the log went on from here.
    #[error("WAL is damaged at {lsn}: {reason}")]
    Damaged { lsn: Lsn, reason: String },
    /// The source does not have these bytes yet; ask again later.
    #[error("no more WAL at {0} yet")]
    WouldBlock(Lsn),
    #[error(transparent)]
    Io(#[from] WalError),
}
