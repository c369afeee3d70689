//! Index entries of a new row version.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation};
use crate::ids::{Tid, Xid};
use crate::index::IndexError;
use crate::index::btree::{self, Entry, Inserted, UniqueCheck};
use crate::index::key;
use crate::sql::error::SqlError;
use crate::sql::exec::access::Storage;
use crate::table::heap::{self, Liveness};
use crate::types::datum::Datum;

/// What came of one index.
pub enum Added {
    Done,
    /// Another row with this key is there to stay.
    Duplicate,
    /// Another row's fate is open.
    Wait(Xid),
}

/// Scratch space for keys.
#[derive(Default)]
pub struct KeyBuffer {
    pub values: Vec<Datum>,
    pub bytes: Vec<u8>,
}

/// Encodes the row's key. True if equal keys exclude each other.
pub fn encode(
    index: &Index,
    row: &[Datum],
    values: &mut Vec<Datum>,
    bytes: &mut Vec<u8>,
) -> Result<bool, SqlError> {
    values.clear();
    bytes.clear();
    values.extend(index.keys.iter().map(|k| row[k.column].clone()));
    let null = values.iter().any(Datum::is_null);
    key::encode(index, values, bytes)?;
    Ok(index.unique && (!null || index.nulls_not_distinct))
}

/// What the heap says of an entry with an equal key.
pub fn state_of(storage: &Storage, relation: &Relation, tid: Tid) -> Result<Entry, IndexError> {
    let own = storage.snapshot.own();
    match heap::liveness(storage.table(), relation.file, tid, own) {
        Ok(Liveness::Dead) => Ok(Entry::Dead),
        Ok(Liveness::Live { .. }) => Ok(Entry::Live),
        Ok(Liveness::Wait { xid }) => Ok(Entry::Pending(xid)),
        Err(crate::table::TableError::Storage(e)) => Err(e.into()),
        Err(other) => Err(IndexError::Damaged {
            index: relation.name.clone(),
            page: crate::ids::PageId {
                file: relation.file,
                fork: crate::ids::Fork::Main,
                block: tid.block,
            },
            what: other.to_string(),
        }),
    }
}

/// Adds the entry of one index.
pub fn add(
    storage: &Storage,
    relation: &Relation,
    index: &Arc<Index>,
    row: &[Datum],
    tid: Tid,
    xid: Xid,
    (values, bytes): (&mut Vec<Datum>, &mut Vec<u8>),
) -> Result<Added, SqlError> {
    let unique = encode(index, row, values, bytes)?;
    let mut ask = |other: Tid| {
        if other == tid {
            return Ok(Entry::Dead);
        }
        state_of(storage, relation, other)
    };
    let check = if unique {
        UniqueCheck::Yes(&mut ask)
    } else {
        UniqueCheck::No
    };
    let inserted = btree::insert(storage.index(), index, bytes, tid, xid, check)?;
    Ok(match inserted {
        Inserted::Done => Added::Done,
        Inserted::Conflict {
            state: Entry::Pending(xid),
            ..
        } => Added::Wait(xid),
        Inserted::Conflict { .. } => Added::Duplicate,
    })
}
