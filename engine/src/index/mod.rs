//! B+tree indexes: memcmp-comparable keys, the tree, its redo and its check.
//!
//! Knows what a key's bytes are and where row versions stand ([`Tid`](crate::ids::Tid)), never what a row holds or
//! who sees it: uniqueness is asked of the caller. Latch order: pages of one level left to right, a child before
//! its parent, the meta page last; an index page before a heap page.

pub mod btree;
pub mod check;
pub mod error;
pub mod key;

pub use btree::page_fn;
pub use error::IndexError;
