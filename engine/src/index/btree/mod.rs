//! The B+tree: a Lehman and Yao tree of (key, tid) in byte order.
//!
//! An entry is the key's bytes and behind them the tid, big-endian, so the whole entry compares by `memcmp`, no
//! two are equal, and separators are plain byte strings, cut as short as they may be. Every page but the last of
//! its level has a *high key* that is above all its entries, and a link to the right; whoever looks for something
//! at or above the high key goes right, which is why nobody needs to hold a parent while going down.
//!
//! A split is two records: the first makes the right page and marks the left one (*incomplete*: the right page has
//! no entry in the parent), the second enters it in the parent and takes the mark away. A crash or an error
//! between them leaves the mark; searches work (they go right), and the next writer who meets the marked page
//! finishes the work. Redo never does. Files: `page` (layout, page function), `descend`, `insert`, `split`, `scan`,
//! `vacuum`, `build`.
//!
//! Pages that vacuum leaves empty stay in the tree and take the next keys of their range. Taking them out is
//! designed, not done: mark the page (its range goes to the right sibling) in one record with the parent's entry,
//! unlink it from its siblings in a second, keep its links, and reuse it only when every snapshot is younger than
//! the second record, because a scan may be on its way to it.

mod build;
pub(crate) mod descend;
mod insert;
pub(crate) mod page;
mod scan;
mod split;
mod vacuum;

#[cfg(test)]
mod tests;

pub use build::{build, create};
pub use insert::insert;
pub use page::WRITTEN;
pub use scan::{BtreeScan, scan};
pub use vacuum::{Removed, remove_dead};

use std::ops::Bound;

use crate::ids::{BlockNumber, Fork, PageId, RelFile, Tid, Xid};
use crate::index::error::IndexError;
use crate::storage::{PageFn, Pinned, Store};

/// Whether equal keys may stand beside each other.
pub enum UniqueCheck<'a> {
    No,
    /// Asked for each entry with an equal key, in tid order, while the index page is latched.
    Yes(&'a mut dyn FnMut(Tid) -> Result<Entry, IndexError>),
}

/// What the heap says of an entry with an equal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nobody will ever see its row again, or its row's transaction aborted: no conflict.
    Dead,
    /// Committed and not deleted: a duplicate.
    Live,
    /// Its inserter or deleter runs: wait for it and try again.
    Pending(Xid),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    Done,
    /// Nothing was inserted.
    Conflict {
        tid: Tid,
        state: Entry,
    },
}

/// A range of encoded keys, compared as bytes.
#[derive(Debug, Clone)]
pub struct KeyRange {
    pub lower: Bound<Vec<u8>>,
    pub upper: Bound<Vec<u8>>,
}

impl KeyRange {
    pub fn all() -> KeyRange {
        KeyRange {
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
        }
    }

    /// The entries of one whole key: no other key begins with its bytes.
    pub fn of_key(key: &[u8]) -> KeyRange {
        KeyRange {
            lower: Bound::Included(key.to_vec()),
            upper: Bound::Included(key.to_vec()),
        }
    }

    /// As [`Self::of_key`], in the bytes that are there.
    pub(crate) fn set_key(&mut self, key: &[u8]) {
        for bound in [&mut self.lower, &mut self.upper] {
            match bound {
                Bound::Included(bytes) => {
                    bytes.clear();
                    bytes.extend_from_slice(key);
                }
                other => *other = Bound::Included(key.to_vec()),
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// The page function of index records, for redo.
pub fn page_fn() -> PageFn {
    page::apply
}

/// Longest entry: a page holds three at least. Key bytes are 6 fewer.
pub const MAX_ENTRY: usize = 2704;

pub(crate) const META: BlockNumber = BlockNumber::new(0);

/// One index's pages.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) store: &'a Store,
    pub(crate) file: RelFile,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(store: &'a Store, file: RelFile) -> Tree<'a> {
        Tree { store, file }
    }

    pub(crate) fn id(&self, block: BlockNumber) -> PageId {
        PageId {
            file: self.file,
            fork: Fork::Main,
            block,
        }
    }

    pub(crate) fn pin(&self, block: BlockNumber) -> Result<Pinned, IndexError> {
        Ok(self.store.pool.pin(self.id(block))?)
    }

    /// A page for a new node; it is not in the tree yet, so nobody else has it latched.
    pub(crate) fn new_page(&self) -> Result<Pinned, IndexError> {
        Ok(self.store.pool.extend(self.file, Fork::Main)?)
    }

    pub(crate) fn damaged(&self, block: BlockNumber, what: impl Into<String>) -> IndexError {
        IndexError::Damaged {
            index: self.file.to_string(),
            page: self.id(block),
            what: what.into(),
        }
    }
}
