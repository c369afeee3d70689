//! All rows of a table that the snapshot sees.

use std::sync::Arc;

use super::fetch::RowLoader;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::Node;
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::table::heap::{self, HeapScan};
use crate::types::datum::Datum;

pub struct SeqScanNode {
    spec: Arc<PlanNode>,
    scan: Option<HeapScan>,
    loader: RowLoader,
}

impl SeqScanNode {
    pub fn new(spec: Arc<PlanNode>) -> SeqScanNode {
        SeqScanNode {
            spec,
            scan: None,
            loader: RowLoader::default(),
        }
    }
}

impl Node for SeqScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::SeqScan(spec) = &self.spec.kind else {
            unreachable!("built from a sequential scan")
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let storage = cx.access.storage()?;
            let scan = match &mut self.scan {
                Some(scan) => scan,
                none => none.insert(heap::scan(
                    storage.table(),
                    &spec.relation,
                    &storage.snapshot,
                )?),
            };
            let Some(row) = scan.next(storage.table(), &storage.snapshot)? else {
                return Ok(Step::Done);
            };
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
        Ok(())
    }
}
