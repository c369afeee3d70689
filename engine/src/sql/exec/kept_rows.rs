//! The rows of a cursor that can go back, and of one that outlives its transaction: by number, in memory up to
//! `work_mem`, the rest in a temporary file.

use crate::sql::error::SqlError;
use crate::sql::exec::memory::row_bytes;
use crate::sql::exec::spill::{SpillFile, SpillReader, TempSpace};
use crate::types::datum::Datum;

/// Rows on disk are found through the place of every so many.
const BLOCK: usize = 128;

/// Rows of a fixed width. What is in memory comes before what is on disk.
pub struct KeptRows {
    width: usize,
    memory: Vec<Box<[Datum]>>,
    bytes: usize,
    work: usize,
    temp: TempSpace,
    spilled: Option<Spilled>,
}

struct Spilled {
    file: SpillFile,
    rows: usize,
    /// Where each block begins.
    blocks: Vec<u64>,
    /// The block that was read last, with its number.
    read: Option<(usize, Vec<Box<[Datum]>>)>,
}

impl KeptRows {
    pub fn new(width: usize, work: usize, temp: TempSpace) -> KeptRows {
        KeptRows {
            width,
            memory: Vec::new(),
            bytes: 0,
            work,
            temp,
            spilled: None,
        }
    }

    pub fn count(&self) -> usize {
        self.memory.len() + self.spilled.as_ref().map_or(0, |s| s.rows)
    }

    pub fn push(&mut self, row: &[Datum]) -> Result<(), SqlError> {
        debug_assert_eq!(row.len(), self.width);
        if self.spilled.is_none() {
            let bytes = row_bytes(row);
            if self.bytes + bytes <= self.work {
                self.bytes += bytes;
                self.memory.push(row.into());
                return Ok(());
            }
            self.spilled = Some(Spilled {
                file: self.temp.create()?,
                rows: 0,
                blocks: Vec::new(),
                read: None,
            });
        }
        let spilled = self.spilled.as_mut().expect("just made");
        if spilled.rows.is_multiple_of(BLOCK) {
            spilled.blocks.push(spilled.file.position());
        }
        spilled.file.push(row.iter())?;
        spilled.rows += 1;
        // It may have been the block that grows.
        spilled.read = None;
        Ok(())
    }

    /// The row of this number, from 0; there are more than that.
    pub fn row(&mut self, number: usize) -> Result<&[Datum], SqlError> {
        if number < self.memory.len() {
            return Ok(&self.memory[number]);
        }
        let number = number - self.memory.len();
        let width = self.width;
        let spilled = self.spilled.as_mut().expect("the row is there");
        spilled.row(number, width)
    }
}

impl Spilled {
    fn row(&mut self, number: usize, width: usize) -> Result<&[Datum], SqlError> {
        let block = number / BLOCK;
        if self.read.as_ref().is_none_or(|(n, _)| *n != block) {
            let mut rows = Vec::with_capacity(BLOCK);
            let mut reader = SpillReader::starting_at(self.blocks[block]);
            let end = self.file.position();
            for _ in block * BLOCK..self.rows.min((block + 1) * BLOCK) {
                let mut row = vec![Datum::Null; width];
                reader.read(&mut self.file, end, width, |i, value| row[i] = value)?;
                rows.push(row.into_boxed_slice());
            }
            self.read = Some((block, rows));
        }
        let (_, rows) = self.read.as_ref().expect("just read");
        Ok(&rows[number % BLOCK])
    }
}
