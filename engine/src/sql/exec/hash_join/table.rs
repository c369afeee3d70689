//! The hash table of a join: rows side by side, those with equal keys in a chain.

use hashbrown::HashTable;

use super::partition::Partitions;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Slot;
use crate::sql::exec::hashed::{finish, hash_value, mix};
use crate::sql::exec::memory::{datum_bytes, row_bytes};
use crate::types::compare::{Comparator, Hasher};
use crate::types::datum::Datum;

/// The end of a chain.
pub const NONE: u32 = u32::MAX;

/// What a row costs beside its values.
const OVERHEAD: usize = 32;

pub type KeyOrder = (Comparator, Hasher);

#[inline]
pub fn hash_of(order: &[KeyOrder], keys: &[Datum]) -> u64 {
    let mut hash = 0;
    for ((_, hasher), value) in order.iter().zip(keys) {
        hash = mix(hash, hash_value(*hasher, value));
    }
    finish(hash)
}

pub struct Table {
    key_width: usize,
    row_width: usize,
    keys: Vec<Datum>,
    rows: Vec<Datum>,
    hashes: Vec<u64>,
    next: Vec<u32>,
    marked: Vec<bool>,
    /// Heads of chains.
    heads: HashTable<u32>,
    bytes: usize,
}

impl Table {
    pub fn new(key_width: usize, row_width: usize) -> Table {
        Table {
            key_width,
            row_width,
            keys: Vec::new(),
            rows: Vec::new(),
            hashes: Vec::new(),
            next: Vec::new(),
            marked: Vec::new(),
            heads: HashTable::new(),
            bytes: 0,
        }
    }
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn cost(&self, keys: &[Datum], slots: &[Slot], frame: &[Datum]) -> usize {
        let row: usize = slots.iter().map(|s| datum_bytes(&frame[*s])).sum();
        row_bytes(keys) + row + OVERHEAD
    }
    pub fn cost_of(&self, keys: &[Datum], row: &[Datum]) -> usize {
        row_bytes(keys) + row_bytes(row) + OVERHEAD
    }

    /// `whole`: no key is NULL; other rows can be found by nobody, and are kept to come out unmatched.
    #[allow(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        order: &[KeyOrder],
        hash: u64,
        whole: bool,
        keys: &[Datum],
        row: impl Iterator<Item = Datum>,
        bytes: usize,
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        cx.memory.take(bytes)?;
        self.bytes += bytes;
        let number = u32::try_from(self.hashes.len())
            .ok()
            .filter(|n| *n < NONE)
            .ok_or_else(|| SqlError::internal("too many rows in one hash table"))?;
        self.keys.extend_from_slice(keys);
        self.rows.extend(row);
        self.hashes.push(hash);
        self.next.push(NONE);
        self.marked.push(false);
        if !whole {
            return Ok(());
        }
        let (all, hashes, width) = (&self.keys, &self.hashes, self.key_width);
        let entry = self.heads.entry(
            hash,
            |n| hashes[*n as usize] == hash && equal(order, key_at(all, width, *n), keys),
            |n| hashes[*n as usize],
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(mut head) => {
                self.next[number as usize] = *head.get();
                *head.get_mut() = number;
            }
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(number);
            }
        }
        Ok(())
    }

    /// The first row with these keys.
    #[inline]
    pub fn find(&self, order: &[KeyOrder], hash: u64, keys: &[Datum]) -> u32 {
        self.heads
            .find(hash, |n| {
                self.hashes[*n as usize] == hash
                    && equal(order, key_at(&self.keys, self.key_width, *n), keys)
            })
            .copied()
            .unwrap_or(NONE)
    }
    #[inline]
    pub fn next(&self, at: u32) -> u32 {
        self.next[at as usize]
    }
    #[inline]
    pub fn row(&self, at: u32) -> &[Datum] {
        let from = at as usize * self.row_width;
        &self.rows[from..from + self.row_width]
    }
    #[inline]
    pub fn mark(&mut self, at: u32) {
        self.marked[at as usize] = true;
    }
    pub fn unmarked(&self, from: u32) -> Option<u32> {
        let rest = self.marked.get(from as usize..)?;
        let at = rest.iter().position(|m| !m)?;
        Some(from + at as u32)
    }

    pub fn clear(&mut self, cx: &mut EvalCx) {
        cx.memory.give_back(self.bytes);
        *self = Table::new(self.key_width, self.row_width);
    }

    /// Moves all rows to disk.
    pub fn drain_into(
        &mut self,
        order: &[KeyOrder],
        partitions: &mut Partitions,
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        for number in 0..self.hashes.len() {
            if number.is_multiple_of(1024) {
                cx.check_interrupts()?;
            }
            let keys = key_at(&self.keys, self.key_width, number as u32);
            let hash = hash_of(order, keys);
            partitions.push(hash, keys.iter().chain(self.row(number as u32)), cx)?;
        }
        self.clear(cx);
        Ok(())
    }
}

#[inline]
fn key_at(keys: &[Datum], width: usize, number: u32) -> &[Datum] {
    let from = number as usize * width;
    &keys[from..from + width]
}

#[inline]
fn equal(order: &[KeyOrder], a: &[Datum], b: &[Datum]) -> bool {
    order
        .iter()
        .zip(a.iter().zip(b))
        .all(|((compare, _), (a, b))| compare(a, b).is_eq())
}
