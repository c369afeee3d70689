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
    #[error("cannot extend file \"{0}\" beyond 4294967294 blocks")]
    TooLarge(RelFile),
    #[error("no unpinned buffers available")]
    NoBuffers,
}
