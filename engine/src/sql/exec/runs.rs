//! The sorted runs of a sort on disk, and their merge.
//!
//! Each run that is merged has a buffer to read through, so no more than so many are merged at a time: where there
//! are more, passes over all rows make fewer of them first. Of rows with equal keys those of the earlier run come
//! first, as in memory. A crash leaves files that the next start removes.

use std::collections::VecDeque;

use super::sort::compare_rows;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::spill::{CHUNK, SpillFile, SpillReader};
use crate::sql::plan::tree::SortKey;
use crate::types::datum::Datum;

/// Where each key stands in a row.
type Keys = [(usize, SortKey)];

/// Runs merged at a time, whatever `work_mem` is.
const LEAST: usize = 16;
const MOST: usize = 256;

/// Runs merged at a time: their buffers may be some times `work` bytes together, which saves whole passes.
fn fan_in(work: usize) -> usize {
    (work / CHUNK).saturating_mul(4).clamp(LEAST, MOST)
}

struct Run {
    /// In the order in which the runs were written.
    number: usize,
    reader: SpillReader,
    /// Offset behind its last row.
    end: u64,
    head: Vec<Datum>,
}

impl Run {
    fn new(number: usize, start: u64, end: u64) -> Run {
        Run {
            number,
            reader: SpillReader::starting_at(start),
            end,
            head: Vec::new(),
        }
    }

    /// Its next row becomes its head; false at its end.
    fn advance(&mut self, file: &mut SpillFile, width: usize) -> Result<bool, SqlError> {
        self.head.clear();
        let head = &mut self.head;
        self.reader
            .read(file, self.end, width, |_, value| head.push(value))
    }
}

/// A file that runs are written to, one behind the other.
struct Written {
    file: SpillFile,
    runs: VecDeque<Run>,
    /// Where the run that is being written begins.
    start: u64,
}

impl Written {
    fn new(cx: &EvalCx) -> Result<Written, SqlError> {
        Ok(Written {
            file: cx.access.temp()?.create()?,
            runs: VecDeque::new(),
            start: 0,
        })
    }

    fn end_run(&mut self) {
        let end = self.file.position();
        let run = Run::new(self.runs.len(), self.start, end);
        self.runs.push_back(run);
        self.start = end;
    }
}

/// All runs of one sort. Every row has `width` values, at least one.
pub struct Runs {
    width: usize,
    source: Option<Written>,
    /// A heap of the runs that are being merged: the least head is at 0.
    merging: Vec<Run>,
    /// What a pass over the source makes.
    target: Option<Written>,
}

impl Runs {
    pub fn new(width: usize) -> Runs {
        Runs {
            width,
            source: None,
            merging: Vec::new(),
            target: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.source.is_none()
    }

    /// Appends a row to the run that is being written.
    pub fn push<'d>(
        &mut self,
        row: impl Iterator<Item = &'d Datum>,
        cx: &EvalCx,
    ) -> Result<(), SqlError> {
        let source = match &mut self.source {
            Some(source) => source,
            none => none.insert(Written::new(cx)?),
        };
        source.file.push(row)
    }

    /// The rows since the last call are a run.
    pub fn end_run(&mut self) {
        if let Some(source) = &mut self.source {
            source.end_run();
        }
    }

    /// Merges runs into longer ones until so few are left that they can be merged into the result. False: there is
    /// more to do, and others should have their turn before.
    pub fn reduce(&mut self, keys: &Keys, cx: &mut EvalCx) -> Result<bool, SqlError> {
        let most = fan_in(cx.memory.work());
        loop {
            let waiting = self.source.as_ref().map_or(0, |s| s.runs.len());
            if self.target.is_none() {
                if waiting <= most {
                    return Ok(true);
                }
                self.target = Some(Written::new(cx)?);
            }
            if self.merging.is_empty() {
                if waiting == 0 {
                    self.source = self.target.take();
                    continue;
                }
                self.gather(most, keys)?;
            }
            if !self.merge_group(keys, cx)? {
                return Ok(false);
            }
        }
    }

    /// Writes what is being merged as one run. False: not to its end yet.
    fn merge_group(&mut self, keys: &Keys, cx: &mut EvalCx) -> Result<bool, SqlError> {
        while let Some(least) = self.merging.first() {
            if cx.spend() {
                return Ok(false);
            }
            let target = self.target.as_mut().expect("a pass is under way");
            target.file.push(least.head.iter())?;
            self.step(keys)?;
        }
        let target = self.target.as_mut().expect("a pass is under way");
        target.end_run();
        Ok(true)
    }

    /// Begins the last merge.
    pub fn begin(&mut self, keys: &Keys) -> Result<(), SqlError> {
        self.gather(usize::MAX, keys)
    }

    /// Hands the values of the least row to `out`, each with its place; false at the end.
    pub fn next(
        &mut self,
        keys: &Keys,
        mut out: impl FnMut(usize, Datum),
    ) -> Result<bool, SqlError> {
        let Some(least) = self.merging.first_mut() else {
            return Ok(false);
        };
        for (at, value) in least.head.drain(..).enumerate() {
            out(at, value);
        }
        self.step(keys)?;
        Ok(true)
    }

    /// Takes up to `most` waiting runs into the heap, in the order in which they were written.
    fn gather(&mut self, most: usize, keys: &Keys) -> Result<(), SqlError> {
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let count = most.min(source.runs.len());
        for mut run in source.runs.drain(..count) {
            if run.advance(&mut source.file, self.width)? {
                self.merging.push(run);
            }
        }
        for at in (0..self.merging.len() / 2).rev() {
            self.sift(at, keys);
        }
        Ok(())
    }

    /// On to the next row of the run whose head was the least.
    fn step(&mut self, keys: &Keys) -> Result<(), SqlError> {
        let source = self.source.as_mut().expect("runs are in a file");
        if !self.merging[0].advance(&mut source.file, self.width)? {
            self.merging.swap_remove(0);
        }
        self.sift(0, keys);
        Ok(())
    }

    fn less(&self, a: usize, b: usize, keys: &Keys) -> bool {
        let (a, b) = (&self.merging[a], &self.merging[b]);
        compare_rows(keys, &a.head, &b.head)
            .then(a.number.cmp(&b.number))
            .is_lt()
    }

    /// Restores the heap order below `at`.
    fn sift(&mut self, mut at: usize, keys: &Keys) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.merging.len() && self.less(child, least, keys) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.merging.swap(at, least);
            at = least;
        }
    }
}
