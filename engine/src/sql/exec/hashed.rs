//! Values by hash: what membership tests, grouping, DISTINCT and set operations look rows up in.
//!
//! Equality is the type's own (`compare`), where two NULLs are one for grouping. Hashes of columns are mixed in
//! order, so (1,2) and (2,1) differ.

use hashbrown::HashTable;

use crate::ids::Oid;
use crate::sql::plan::tree::KeySlot;
use crate::types::compare::{Comparator, Hasher, comparator, hasher};
use crate::types::datum::Datum;

/// Odd, from the golden ratio: spreads what the column hashes leave close together.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
pub fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(26) ^ value).wrapping_mul(MIX)
}

/// Spreads the last bits, which the table's buckets come from.
#[inline]
pub fn finish(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(MIX)
}

#[inline]
pub fn hash_value(hash: Hasher, value: &Datum) -> u64 {
    if value.is_null() { 1 } else { hash(value) }
}

/// Hash of the key slots of a frame. Every key has a hasher.
#[inline]
pub fn hash_keys(keys: &[KeySlot], frame: &[Datum]) -> u64 {
    let mut hash = 0;
    for key in keys {
        let hasher = key
            .hash
            .expect("the planner hashes only what can be hashed");
        hash = mix(hash, hash_value(hasher, &frame[key.slot]));
    }
    finish(hash)
}

/// Equality for grouping: two NULLs are the same.
#[inline]
pub fn same(compare: Comparator, a: &Datum, b: &Datum) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => compare(a, b).is_eq(),
        _ => false,
    }
}

/// A set of values of one type.
pub struct ValueSet {
    table: HashTable<Datum>,
    compare: Comparator,
    hash: Hasher,
    has_null: bool,
}

impl ValueSet {
    /// `ty` has a comparator and a hasher.
    pub fn new(ty: Oid, values: impl Iterator<Item = Datum>) -> ValueSet {
        let mut set = ValueSet {
            table: HashTable::new(),
            compare: comparator(ty).expect("asked before"),
            hash: hasher(ty).expect("asked before"),
            has_null: false,
        };
        for value in values {
            set.insert(value);
        }
        set
    }
    fn insert(&mut self, value: Datum) {
        if value.is_null() {
            self.has_null = true;
            return;
        }
        let (hash, compare) = (self.hash, self.compare);
        self.table
            .entry(
                finish(hash(&value)),
                |v| compare(v, &value).is_eq(),
                |v| finish(hash(v)),
            )
            .or_insert(value.clone());
    }
    pub fn contains(&self, value: &Datum) -> bool {
        self.table
            .find(finish((self.hash)(value)), |v| {
                (self.compare)(v, value).is_eq()
            })
            .is_some()
    }
    pub fn has_null(&self) -> bool {
        self.has_null
    }
    /// True if there was nothing at all, NULLs included.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && !self.has_null
    }
}
