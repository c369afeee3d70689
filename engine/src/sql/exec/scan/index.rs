//! Rows by an index: the ranges of keys that match, and the heap row behind each entry.

use std::sync::Arc;

use super::fetch::RowLoader;
use super::keys;
use crate::index::btree::{self, BtreeScan, Direction, KeyRange};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::Node;
use crate::sql::plan::tree::{IndexScan, NodeKind, PlanNode};
use crate::table::heap::{self, RowBuf};
use crate::types::datum::Datum;

pub struct IndexScanNode {
    spec: Arc<PlanNode>,
    /// What is still to be read, the next one last.
    ranges: Vec<KeyRange>,
    /// Kept with its buffers when it has come to its end.
    scan: Option<BtreeScan>,
    /// The scan is inside a range.
    open: bool,
    started: bool,
    /// The one key that a point scan looks for.
    key: Vec<u8>,
    buffer: RowBuf,
    loader: RowLoader,
}

impl IndexScanNode {
    pub fn new(spec: Arc<PlanNode>) -> IndexScanNode {
        IndexScanNode {
            spec,
            ranges: Vec::new(),
            scan: None,
            open: false,
            started: false,
            key: Vec::new(),
            buffer: RowBuf::new(),
            loader: RowLoader::default(),
        }
    }
}

impl IndexScanNode {
    /// Finds out what is to be read; a point scan is opened there and then.
    fn start(
        &mut self,
        spec: &IndexScan,
        frame: &[Datum],
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        self.started = true;
        if !spec.point {
            self.ranges = keys::ranges(spec, frame, cx)?;
            if !spec.backward {
                self.ranges.reverse();
            }
            return Ok(());
        }
        if !keys::point(spec, frame, cx, &mut self.key)? {
            return Ok(());
        }
        let store = cx.access.storage()?.index();
        match &mut self.scan {
            Some(scan) => scan.seek(store, &self.key)?,
            none => {
                let range = KeyRange::of_key(&self.key);
                *none = Some(btree::scan(store, &spec.index, range, Direction::Forward)?);
            }
        }
        self.open = true;
        Ok(())
    }

    /// Goes on with the next range; false: there is none.
    fn open_next(&mut self, spec: &IndexScan, cx: &EvalCx) -> Result<bool, SqlError> {
        let Some(range) = self.ranges.pop() else {
            return Ok(false);
        };
        let store = cx.access.storage()?.index();
        let direction = if spec.backward {
            Direction::Backward
        } else {
            Direction::Forward
        };
        match &mut self.scan {
            Some(scan) => scan.restart(store, range)?,
            none => *none = Some(btree::scan(store, &spec.index, range, direction)?),
        }
        self.open = true;
        Ok(true)
    }
}

impl Node for IndexScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let plan = Arc::clone(&self.spec);
        let NodeKind::IndexScan(spec) = &plan.kind else {
            unreachable!("built from an index scan")
        };
        if !self.started {
            self.start(spec, frame, cx)?;
        }
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            if !self.open && !self.open_next(spec, cx)? {
                return Ok(Step::Done);
            }
            let storage = cx.access.storage()?;
            let scan = self.scan.as_mut().expect("an open scan is there");
            let Some((tid, _)) = scan.next(storage.index())? else {
                self.open = false;
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
        self.ranges.clear();
        self.open = false;
        self.started = false;
        Ok(())
    }
}
