//! Row versions on heap pages: insert, read, update, delete, lock.
//!
//! Nothing here waits for another transaction: what must be waited for is named ([`Modified::Wait`]) and the caller
//! tries again afterwards. Each change of a page is one `Change`, with the page latched from the decision to the
//! record. A crash leaves whole row versions of transactions that did not commit; pruning removes them.

mod for_index;
mod insert;
mod lock;
mod overwrite;
mod read;
mod scan;
mod target;
mod update;
mod version;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use for_index::{IndexableRow, Pointee, blocks, for_index, visit_chain};
pub(in crate::table) use insert::insert_tuple;
pub use insert::{BulkInsert, insert};
pub use lock::lock_row;
pub use overwrite::overwrite;
pub use read::{Liveness, fetch, fetch_version, liveness};
pub use scan::{HeapScan, scan, scan_blocks};
pub(in crate::table) use target::room;
pub use update::{delete, undo_insert, update};
pub use version::{Modified, RowBuf, RowVersion};
