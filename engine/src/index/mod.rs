//! B+tree indexes: memcmp-comparable keys, the tree, its redo and its check.

pub mod btree;
pub mod error;
pub mod key;

pub use error::IndexError;
