//! What a statement's nodes hold in memory, counted.
//!
//! A node asks before it keeps rows. Up to `work_mem` (a hash table: `hash_mem_multiplier` times that) it may; above that
//! it spills or, where it cannot, goes on until the statement's limit, which ends the statement with 53200.

use crate::sql::error::{SqlError, state};
use crate::types::datum::Datum;
use crate::types::size;

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// For one sort or one set of kept rows; above it, to disk.
    pub work: usize,
    /// For one hash table (`work_mem` times `hash_mem_multiplier`); above it, to disk.
    pub hash: usize,
    /// For the whole statement.
    pub statement: usize,
}

impl Default for MemoryLimits {
    fn default() -> MemoryLimits {
        MemoryLimits {
            work: 4 << 20,
            hash: 8 << 20,
            statement: 1 << 30,
        }
    }
}

/// The statement's account.
#[derive(Debug)]
pub struct Memory {
    limits: MemoryLimits,
    used: usize,
}

impl Memory {
    pub fn new(limits: MemoryLimits) -> Memory {
        Memory { limits, used: 0 }
    }
    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }
    pub fn work(&self) -> usize {
        self.limits.work
    }
    pub fn hash(&self) -> usize {
        self.limits.hash
    }
    pub fn used(&self) -> usize {
        self.used
    }
    /// Error 53200 above the statement's limit; nothing is taken then.
    pub fn take(&mut self, bytes: usize) -> Result<(), SqlError> {
        let used = self.used.saturating_add(bytes);
        if used > self.limits.statement {
            return Err(SqlError::new(state::OUT_OF_MEMORY, "out of memory").detail(format!(
                "Failed on request of size {bytes}: the statement already holds {} of {} bytes.",
                self.used, self.limits.statement
            )));
        }
        self.used = used;
        Ok(())
    }
    pub fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

/// What keeping a copy of the value costs, the shared part counted as if it were not shared.
#[inline]
pub fn datum_bytes(value: &Datum) -> usize {
    size_of::<Datum>() + size::held(value)
}

pub fn row_bytes(row: &[Datum]) -> usize {
    row.iter().map(datum_bytes).sum()
}
