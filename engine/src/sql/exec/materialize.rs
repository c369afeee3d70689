//! Keeps the rows of its child, to give them again after a rewind; to disk above `work_mem`. Where they depend on outer
//! values that have changed since, a rewind forgets them.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::row_store::{RowReader, RowStore};
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::types::datum::Datum;

pub struct MaterializeNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    store: RowStore,
    /// The child has given all it has.
    complete: bool,
    reader: RowReader,
    /// When the child was begun, by the clock of outer values.
    since: Option<u64>,
}

impl MaterializeNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> MaterializeNode {
        let NodeKind::Materialize { slots, .. } = &spec.kind else {
            unreachable!("built from a materialisation")
        };
        let store = RowStore::new(slots.len());
        MaterializeNode {
            spec,
            child,
            store,
            complete: false,
            reader: RowReader::default(),
            since: None,
        }
    }
}

impl Node for MaterializeNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::Materialize { slots, .. } = &self.spec.kind else {
            unreachable!("built from a materialisation")
        };
        // A join over kept rows alone reads no page: nothing else in it would ever yield.
        if cx.spend() {
            return Ok(Step::Yield);
        }
        if self.store.read(&mut self.reader, slots, frame)? {
            return Ok(Step::Row);
        }
        if self.complete {
            return Ok(Step::Done);
        }
        if self.since.is_none() {
            self.since = Some(cx.clock);
        }
        match self.child.next(frame, cx)? {
            Step::Row => {
                self.store.push(slots, frame, cx)?;
                self.reader.to_end(&self.store);
                Ok(Step::Row)
            }
            Step::Done => {
                self.complete = true;
                Ok(Step::Done)
            }
            Step::Yield => Ok(Step::Yield),
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let NodeKind::Materialize { slots, reads, .. } = &self.spec.kind else {
            unreachable!("built from a materialisation")
        };
        self.reader = RowReader::default();
        if self.since.is_none_or(|at| !cx.changed_since(at, reads)) {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.store, RowStore::new(slots.len()));
        old.forget(cx);
        self.complete = false;
        self.since = None;
        self.child.rewind(cx)
    }
}
