//! What can go wrong with rows. `Display` is PostgreSQL's message.

use crate::ids::{RelFile, Tid};
use crate::storage::StorageError;
use crate::txn::LockError;

#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Row lockers: the shared table is full (53200).
    #[error(transparent)]
    Lock(#[from] LockError),
    /// 54000
    #[error("row is too big: size {size}, maximum size {max}")]
    RowTooBig { size: usize, max: usize },
    /// XX001
    #[error("row version {tid} of relation {file} is damaged: {what}")]
    DamagedRow {
        file: RelFile,
        tid: Tid,
        what: &'static str,
    },
    /// XX001
    #[error("value of {len} bytes at {tid} in overflow file {file} is damaged: {what}")]
    DamagedValue {
        file: RelFile,
        tid: Tid,
        len: u32,
        what: &'static str,
    },
    /// XX000: the executor handed over a value that is not of the column's type.
    #[error("cannot store a {value} value in column {column} of type {ty}")]
    WrongValue {
        value: &'static str,
        column: usize,
        ty: crate::ids::Oid,
    },
    /// 0A000
    #[error("columns of type {0} cannot be stored in a table")]
    UnsupportedType(crate::ids::Oid),
}
