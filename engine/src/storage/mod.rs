//! Pages, the buffer pool, relation files, the control file, the write sequence.

pub mod error;

pub use error::StorageError;
