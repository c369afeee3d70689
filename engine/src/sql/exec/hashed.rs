//! Values by hash: what membership tests, grouping, DISTINCT and set operations look rows up in.
//!
//! Equality is the type's own (`compare`), where two NULLs are one for grouping. Hashes of columns are mixed in
//! order, so (1,2) and (2,1) differ.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::ids::Oid;
use crate::sql::plan::tree::KeySlot;
use crate::types::array::Array;
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

/// Rows of a subquery, by the hash of their columns; rows with a NULL, which no hash finds, stand apart.
pub struct RowSet {
    rows: Arc<Array>,
    by_hash: HashMap<u64, Vec<usize>>,
    with_null: Vec<usize>,
}

impl RowSet {
    /// Without hashers every row stands apart.
    pub fn new(rows: Arc<Array>, hashers: &[Hasher]) -> RowSet {
        let mut set = RowSet {
            by_hash: HashMap::new(),
            with_null: Vec::new(),
            rows,
        };
        for (number, row) in set.rows.items.iter().enumerate() {
            let Datum::Record(row) = row else { continue };
            match hash_row(row.fields(), hashers) {
                Some(hash) => set.by_hash.entry(hash).or_default().push(number),
                None => set.with_null.push(number),
            }
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.rows.items.is_empty()
    }

    /// The rows that are not unequal to this one for certain: all where it has no hash.
    pub fn candidates<'s>(
        &'s self,
        row: &[Datum],
        hashers: &[Hasher],
    ) -> impl Iterator<Item = &'s [Datum]> {
        let hash = hash_row(row, hashers);
        let some = hash.map(|hash| {
            let same = self.by_hash.get(&hash).map_or(&[][..], Vec::as_slice);
            same.iter().chain(&self.with_null)
        });
        let all = hash.is_none().then(|| 0..self.rows.items.len());
        let numbers = some.into_iter().flatten().copied();
        numbers
            .chain(all.into_iter().flatten())
            .filter_map(|number| record(&self.rows.items[number]))
    }
}

fn record(row: &Datum) -> Option<&[Datum]> {
    match row {
        Datum::Record(row) => Some(row.fields()),
        _ => None,
    }
}

/// `None` for a row with a NULL, and where there are no hashers.
fn hash_row(row: &[Datum], hashers: &[Hasher]) -> Option<u64> {
    if hashers.is_empty() || row.iter().any(Datum::is_null) {
        return None;
    }
    let values = row.iter().zip(hashers);
    let hash = values.fold(0, |hash, (value, by)| mix(hash, by(value)));
    Some(finish(hash))
}
