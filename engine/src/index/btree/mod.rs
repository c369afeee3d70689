//! The B+tree.

use std::ops::Bound;

use crate::catalog::relation::Index;
use crate::ids::{Tid, Xid};
use crate::index::error::IndexError;

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
