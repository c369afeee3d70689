//! Rows by an index: the ranges of keys that match, and the heap row behind each entry.

use std::sync::Arc;

use super::fetch::RowLoader;
use super::keys;
use crate::index::btree::{self, BtreeScan, Direction, KeyRange};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::Node;
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::table::heap::{self, RowBuf};
use crate::types::datum::Datum;

pub struct IndexScanNode {
    spec: Arc<PlanNode>,
    /// What is still to be read, the next one last.
    ranges: Vec<KeyRange>,
    scan: Option<BtreeScan>,
    started: bool,
    buffer: RowBuf,
    loader: RowLoader,
}

impl IndexScanNode {
    pub fn new(spec: Arc<PlanNode>) -> IndexScanNode {
        IndexScanNode {
            spec,
            ranges: Vec::new(),
            scan: None,
            started: false,
            buffer: RowBuf::new(),
            loader: RowLoader::default(),
        }
    }
}

impl Node for IndexScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::IndexScan(spec) = &self.spec.kind else {
            unreachable!("built from an index scan")
        };
        if !self.started {
            self.ranges = keys::ranges(spec, frame, cx)?;
            if !spec.backward {
                self.ranges.reverse();
            }
            self.started = true;
        }
        let direction = if spec.backward {
            Direction::Backward
        } else {
            Direction::Forward
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let storage = cx.access.storage()?;
            let scan = match &mut self.scan {
                Some(scan) => scan,
                none => {
                    let Some(range) = self.ranges.pop() else {
                        return Ok(Step::Done);
                    };
                    none.insert(btree::scan(storage.index(), &spec.index, range, direction)?)
                }
            };
            let Some((tid, _)) = scan.next(storage.index())? else {
                self.scan = None;
                continue;
            };
            let found = heap::fetch(
                storage.table(),
                &spec.relation,
                tid,
                &storage.snapshot,
                &mut self.buffer,
            )?;
            if !found {
                continue;
            }
            let row = self.buffer.version().expect("a fetch that found has a row");
            self.loader
                .load(&spec.fetch, &spec.relation, row, storage, frame)?;
            match &spec.filter {
                Some(test) if !test.passes(frame, cx)? => cx.refused(self.spec.id),
                _ => return Ok(Step::Row),
            }
        }
    }

    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.scan = None;
        self.started = false;
        Ok(())
    }
}
