//! What can go wrong below rows and keys.

use std::io;

use crate::ids::{PageId, RelFile};

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("could not {operation} file \"{path}\": {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("invalid page in block {} of relation {}", .0.block, .0.file.path(.0.fork))]
    Damaged(PageId),
    #[error("could not read block {} in file \"{}\": the file ends before it", .0.block, .0.file.path(.0.fork))]
    BeyondEnd(PageId),
    /// Files are cut to whole pages before a replay, so nothing but damage leaves this.
    #[error("file \"{path}\" ends within a page: it has {len} bytes")]
    Partial { path: String, len: u64 },
    #[error("cannot extend file \"{0}\" beyond 4294967294 blocks")]
    TooLarge(RelFile),
    #[error("no unpinned buffers available")]
    NoBuffers,
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &str, source: io::Error) -> StorageError {
        StorageError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
    /// A file of this name is there already.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
    /// The file is not there: for redo, which may meet records of files that were dropped later.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A page or a record's block data that a page function cannot make sense of.
///
/// On the forward path it is a broken invariant and ends the process; in redo it means that the page or the
/// log is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (item {item})")]
pub struct PageFault {
    pub what: &'static str,
    /// The line pointer concerned, 0 for none.
    pub item: u16,
}

impl PageFault {
    pub const fn new(what: &'static str) -> PageFault {
        PageFault { what, item: 0 }
    }
    pub const fn at(what: &'static str, item: u16) -> PageFault {
        PageFault { what, item }
    }
}
