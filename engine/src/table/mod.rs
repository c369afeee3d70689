//! Heap tables: row versions, visibility, pruning, vacuum, overflow values, free space.
//!
//! Type-agnostic above `row`: rows come and go as slices of [`Datum`](crate::types::datum::Datum). Nothing here
//! waits for another transaction or knows a statement. Latch order: heap page, then overflow page, then
//! free-space page; two pages of one heap in ascending order, unless the second is only tried.

mod changes;
pub mod check;
pub mod cx;
pub mod error;
pub mod files;
mod free_space;
pub mod heap;
mod overflow;
mod page_ops;
mod prune;
pub mod row;
pub mod sequence;
#[cfg(test)]
pub(crate) mod testing;
pub mod tuple;
pub mod vacuum;
pub mod visibility;

pub use changes::{Changed, TableChanges};
pub use cx::TableCx;
pub use error::TableError;
pub use page_ops::{WRITTEN, conflict_lsn, page_fn};
