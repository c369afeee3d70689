//! The rows of one partition by number, in memory up to `work_mem`, the rest in a temporary file. Rows before a mark that
//! moves on are forgotten, so a window that looks neither far back nor far ahead keeps a few of them.

use std::collections::VecDeque;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::memory::row_bytes;
use crate::sql::exec::spill::{SpillFile, SpillReader};
use crate::types::datum::Datum;

/// Rows on disk are found through the places of blocks: so many rows, or fewer long ones.
const BLOCK: usize = 128;
const BLOCK_BYTES: usize = 64 << 10;
/// Blocks read back that are kept: a frame is read at both of its ends and at the current row.
const CACHED: usize = 4;
/// Of a kept row, besides its values.
const OVERHEAD: usize = 16;

type Row = Box<[Datum]>;

pub struct Partition {
    width: usize,
    /// The number of the first row that is in memory.
    first: usize,
    memory: VecDeque<Row>,
    /// On the statement's account.
    bytes: usize,
    spilled: Option<Spilled>,
}

struct Spilled {
    file: SpillFile,
    /// The number of its first row.
    first: usize,
    rows: usize,
    blocks: Vec<Block>,
    /// The rows of the block that still grows, and how long they are.
    growing: Vec<Row>,
    growing_bytes: usize,
    /// Blocks that were read back, the latest last.
    cached: Vec<(usize, Vec<Row>)>,
}

/// Where a block begins.
struct Block {
    row: usize,
    offset: u64,
}

impl Partition {
    pub fn new(width: usize) -> Partition {
        Partition {
            width,
            first: 0,
            memory: VecDeque::new(),
            bytes: 0,
            spilled: None,
        }
    }

    /// How many rows have come, forgotten ones among them.
    pub fn len(&self) -> usize {
        match &self.spilled {
            Some(spilled) => spilled.first + spilled.rows,
            None => self.first + self.memory.len(),
        }
    }

    pub fn push(&mut self, row: Row, cx: &mut EvalCx) -> Result<(), SqlError> {
        debug_assert_eq!(row.len(), self.width);
        if self.spilled.is_none() {
            let bytes = row_bytes(&row) + OVERHEAD;
            if self.bytes + bytes <= cx.memory.work() || self.memory.is_empty() {
                cx.memory.take(bytes)?;
                self.bytes += bytes;
                self.memory.push_back(row);
                return Ok(());
            }
            self.spilled = Some(Spilled {
                file: cx.access.temp()?.create()?,
                first: self.len(),
                rows: 0,
                blocks: Vec::new(),
                growing: Vec::new(),
                growing_bytes: 0,
                cached: Vec::new(),
            });
        }
        let spilled = self.spilled.as_mut().expect("just made");
        spilled.push(row)
    }

    /// A row that has come and is not forgotten.
    pub fn row(&mut self, number: usize) -> Result<&[Datum], SqlError> {
        debug_assert!(
            number >= self.first,
            "a row that was forgotten is asked for"
        );
        let place = number - self.first;
        if place < self.memory.len() {
            return Ok(&self.memory[place]);
        }
        let width = self.width;
        let spilled = self.spilled.as_mut().expect("the row has come");
        spilled.row(number - spilled.first, width)
    }

    /// Forgets the rows before this one.
    pub fn forget_before(&mut self, number: usize, cx: &mut EvalCx) {
        while self.first < number
            && let Some(row) = self.memory.pop_front()
        {
            let bytes = row_bytes(&row) + OVERHEAD;
            self.bytes -= bytes;
            cx.memory.give_back(bytes);
            self.first += 1;
        }
        let length = self.len();
        if self.spilled.is_some() && number >= length {
            self.spilled = None;
            self.first = length;
        }
    }

    pub fn clear(&mut self, cx: &mut EvalCx) {
        cx.memory.give_back(self.bytes);
        *self = Partition::new(self.width);
    }
}

impl Spilled {
    fn push(&mut self, row: Row) -> Result<(), SqlError> {
        let is_full = self.growing.len() == BLOCK || self.growing_bytes >= BLOCK_BYTES;
        if is_full || self.blocks.is_empty() {
            self.blocks.push(Block {
                row: self.rows,
                offset: self.file.position(),
            });
            self.growing.clear();
            self.growing_bytes = 0;
        }
        self.file.push(row.iter())?;
        self.growing_bytes += row_bytes(&row);
        self.growing.push(row);
        self.rows += 1;
        Ok(())
    }

    fn row(&mut self, number: usize, width: usize) -> Result<&[Datum], SqlError> {
        let block = self.blocks.partition_point(|b| b.row <= number) - 1;
        let place = number - self.blocks[block].row;
        if block + 1 == self.blocks.len() {
            return Ok(&self.growing[place]);
        }
        let found = match self.cached.iter().position(|(n, _)| *n == block) {
            Some(found) => found,
            None => {
                let rows = self.read(block, width)?;
                if self.cached.len() == CACHED {
                    self.cached.remove(0);
                }
                self.cached.push((block, rows));
                self.cached.len() - 1
            }
        };
        Ok(&self.cached[found].1[place])
    }

    /// A block that others have come behind.
    fn read(&mut self, block: usize, width: usize) -> Result<Vec<Row>, SqlError> {
        let count = self.blocks[block + 1].row - self.blocks[block].row;
        let mut rows = Vec::with_capacity(count);
        let mut reader = SpillReader::starting_at(self.blocks[block].offset);
        let end = self.file.position();
        for _ in 0..count {
            let mut row = vec![Datum::Null; width];
            reader.read(&mut self.file, end, width, |i, value| row[i] = value)?;
            rows.push(row.into_boxed_slice());
        }
        Ok(rows)
    }
}
