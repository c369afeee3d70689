//! What can go wrong in an index. `Display` is PostgreSQL's message.

use crate::ids::PageId;
use crate::storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// 54000
    #[error("index row size {size} exceeds btree version 4 maximum {max} for index \"{index}\"")]
    KeyTooLong {
        size: usize,
        max: usize,
        index: String,
    },
    /// XX002
    #[error("index \"{index}\" contains unexpected data in block {}: {what}", .page.block)]
    Damaged {
        index: String,
        page: PageId,
        what: String,
    },
    /// The table could not say what became of a row that an equal key points to.
    #[error(transparent)]
    Row(Box<crate::table::TableError>),
    /// 0A000
    #[error("indexes on values of type {0} are not supported")]
    UnsupportedType(crate::ids::Oid),
}
