//! Recursive queries: rounds over a working table, which has the rows that the round before gave. Manual, 7.8.2.
//!
//! The table of a round is kept in memory up to `work_mem`, the rest in a temporary file. What UNION without ALL has given so
//! far stays in memory: the statement's limit ends one that gives too much.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::distinct::keys_equal;
use crate::sql::exec::hashed::hash_keys;
use crate::sql::exec::memory::row_bytes;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::row_store::{RowReader, RowStore};
use crate::sql::plan::tree::{NodeKind, PlanNode, RecursiveUnion};
use crate::types::datum::Datum;

pub struct RecursiveUnionNode {
    spec: Arc<PlanNode>,
    first: BoxNode,
    step: BoxNode,
    phase: Phase,
    /// The rows of this round, for the next one.
    made: RowStore,
    seen: HashTable<(u64, Box<[Datum]>)>,
    /// Of them on the statement's account.
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    First,
    Rounds,
    Done,
}

/// Of a row that was seen, besides its values.
const OVERHEAD: usize = 32;

fn spec_of(plan: &Arc<PlanNode>) -> &RecursiveUnion {
    let NodeKind::RecursiveUnion(union) = &plan.kind else {
        unreachable!("built from a recursive union")
    };
    union
}

impl RecursiveUnionNode {
    pub fn new(spec: Arc<PlanNode>, first: BoxNode, step: BoxNode) -> RecursiveUnionNode {
        let width = spec_of(&spec).slots.len();
        RecursiveUnionNode {
            spec,
            first,
            step,
            phase: Phase::First,
            made: RowStore::new(width),
            seen: HashTable::new(),
            bytes: 0,
        }
    }

    /// Whether the row in the frame goes out; if so it is kept for the next round.
    fn take(&mut self, frame: &[Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
        let spec = Arc::clone(&self.spec);
        let union = spec_of(&spec);
        if let Some(keys) = &union.distinct {
            let hash = hash_keys(keys, frame);
            let is_it =
                |(h, kept): &(u64, Box<[Datum]>)| *h == hash && keys_equal(keys, kept, frame);
            if self.seen.find(hash, is_it).is_some() {
                return Ok(false);
            }
            let kept: Box<[Datum]> = keys.iter().map(|k| frame[k.slot].clone()).collect();
            let bytes = row_bytes(&kept) + OVERHEAD;
            cx.memory.take(bytes)?;
            self.bytes += bytes;
            self.seen.insert_unique(hash, (hash, kept), |(h, _)| *h);
        }
        self.made.push(&union.slots, frame, cx)?;
        Ok(true)
    }

    /// What was made becomes the working table.
    fn begin_round(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let union = spec_of(&self.spec);
        let made = std::mem::replace(&mut self.made, RowStore::new(union.slots.len()));
        if let Some(old) = cx.work_tables[union.table].replace(made) {
            old.forget(cx);
        }
        cx.pass(union.changes, Datum::Null);
        self.step.rewind(cx)
    }

    fn forget(&mut self, cx: &mut EvalCx) {
        let union = spec_of(&self.spec);
        let made = std::mem::replace(&mut self.made, RowStore::new(union.slots.len()));
        made.forget(cx);
        if let Some(old) = cx.work_tables[union.table].take() {
            old.forget(cx);
        }
        self.seen.clear();
        cx.memory.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Node for RecursiveUnionNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            let (term, phase) = match self.phase {
                Phase::First => (&mut self.first, Phase::First),
                Phase::Rounds => (&mut self.step, Phase::Rounds),
                Phase::Done => return Ok(Step::Done),
            };
            match term.next(frame, cx)? {
                Step::Yield => return Ok(Step::Yield),
                Step::Row => {
                    if self.take(frame, cx)? {
                        return Ok(Step::Row);
                    }
                }
                // The second term is asked once, even of no rows.
                Step::Done if phase == Phase::First || self.made.len() > 0 => {
                    self.phase = Phase::Rounds;
                    self.begin_round(cx)?;
                    // A round need not read anything that yields.
                    if cx.spend() {
                        return Ok(Step::Yield);
                    }
                }
                Step::Done => {
                    self.phase = Phase::Done;
                    self.forget(cx);
                }
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        self.phase = Phase::First;
        self.first.rewind(cx)?;
        self.step.rewind(cx)
    }
}

pub struct WorkTableScanNode {
    spec: Arc<PlanNode>,
    reader: RowReader,
}

impl WorkTableScanNode {
    pub fn new(spec: Arc<PlanNode>) -> WorkTableScanNode {
        WorkTableScanNode {
            spec,
            reader: RowReader::default(),
        }
    }
}

impl Node for WorkTableScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::WorkTableScan(scan) = &self.spec.kind else {
            unreachable!("built from a scan of a working table")
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let Some(table) = &mut cx.work_tables[scan.table] else {
                return Ok(Step::Done);
            };
            if !table.read(&mut self.reader, &scan.slots, frame)? {
                return Ok(Step::Done);
            }
            let passes = match &scan.filter {
                None => true,
                Some(test) => test.passes(frame, cx)?,
            };
            if passes {
                return Ok(Step::Row);
            }
            cx.refused(self.spec.id);
        }
    }

    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.reader = RowReader::default();
        Ok(())
    }
}
