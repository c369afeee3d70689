//! The B+tree.

use std::ops::Bound;

use crate::catalog::relation::Index;
use crate::ids::{Tid, Xid};
use crate::index::error::IndexError;
use crate::storage::Store;

/// Whether equal keys may stand beside each other.
pub enum UniqueCheck<'a> {
    No,
    /// Asked for each entry with an equal key, in tid order.
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

/// A range of encoded keys.
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// The name and file of an index, as its pages need them.
pub fn name(index: &Index) -> &str {
    &index.name
}

/// A scan's place in an index. It borrows nothing, so that a node of the executor can own it between its steps,
/// and holds no page between two calls.
pub struct BtreeScan {}

/// Entries of the range, in key order, or backward.
pub fn scan(
    store: &Store,
    index: &Index,
    range: KeyRange,
    direction: Direction,
) -> Result<BtreeScan, IndexError> {
    let _ = (store, index, range, direction);
    unimplemented!("lands next")
}

impl BtreeScan {
    /// The next entry and its key's bytes.
    pub fn next(&mut self, store: &Store) -> Result<Option<(Tid, &[u8])>, IndexError> {
        let _ = store;
        unimplemented!("lands next")
    }
}

/// Adds an entry. With a unique check, nothing is added if an entry with an equal key is not dead.
pub fn insert(
    store: &Store,
    index: &Index,
    key: &[u8],
    tid: Tid,
    xid: Xid,
    unique: UniqueCheck<'_>,
) -> Result<Inserted, IndexError> {
    let _ = (store, index, key, tid, xid, unique);
    unimplemented!("lands next")
}
