//! WITH queries that are run on their own: run as far as somebody reads them, their rows kept for all who do.
//!
//! A scan gives what is there already and lets the query go on when it has come to the end of that; so a query that nobody
//! reads to its end is not run to its end, unless it changes rows, which the loop at the top sees to. The rows are good
//! until an outer value that the query reads has been set since; whoever begins to read then begins it anew.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::Node;
use crate::sql::exec::row_store::{RowReader, RowStore};
use crate::sql::exec::subplan::Running;
use crate::sql::plan::tree::{CteScan, NodeKind, PlanNode};
use crate::types::datum::Datum;

/// What an execution has of one WITH query.
#[derive(Default)]
pub enum CteSlot {
    /// Nobody has read it.
    #[default]
    Fresh,
    /// It goes on just now: reading it would be a cycle.
    Busy,
    Ready(Box<CteRows>),
}

pub struct CteRows {
    running: Box<Running>,
    rows: RowStore,
    complete: bool,
    /// When it was begun, by the clock of outer values.
    since: u64,
}

impl CteRows {
    /// Takes it out of the execution while it is worked with.
    fn take(cx: &mut EvalCx, number: usize) -> Result<Box<CteRows>, SqlError> {
        match std::mem::replace(&mut cx.ctes[number], CteSlot::Busy) {
            CteSlot::Ready(rows) => Ok(rows),
            CteSlot::Busy => Err(SqlError::internal("a WITH query asks for its own rows")),
            CteSlot::Fresh => {
                let plan = cx.plan.clone();
                let plan = plan.ok_or_else(|| SqlError::internal("a WITH query has no plan"))?;
                let width = plan.subplans[number].level.output.len();
                Ok(Box::new(CteRows {
                    running: Box::new(Running::new(plan, number, cx)),
                    rows: RowStore::new(width),
                    complete: false,
                    since: cx.clock,
                }))
            }
        }
    }

    /// Runs `f` on it.
    fn with<T>(
        cx: &mut EvalCx,
        number: usize,
        f: impl FnOnce(&mut CteRows, &mut EvalCx) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let mut rows = CteRows::take(cx, number)?;
        let out = f(&mut rows, cx);
        cx.ctes[number] = CteSlot::Ready(rows);
        out
    }

    /// Forgets what was made of outer values that are others now.
    fn renew(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        if !self.running.depends_on_changed(self.since, cx) {
            return Ok(());
        }
        let width = self.running.width();
        let old = std::mem::replace(&mut self.rows, RowStore::new(width));
        old.forget(cx);
        self.complete = false;
        self.since = cx.clock;
        self.running.rewind(cx)
    }

    /// The reader's next row into the scan's slots.
    fn read(
        &mut self,
        reader: &mut RowReader,
        scan: &CteScan,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<Step, SqlError> {
        loop {
            if self.rows.read(reader, &scan.slots, frame)? {
                return Ok(Step::Row);
            }
            match self.go_on(cx)? {
                Step::Row => {}
                other => return Ok(other),
            }
        }
    }

    /// Lets the query make one more row, which is kept.
    fn go_on(&mut self, cx: &mut EvalCx) -> Result<Step, SqlError> {
        if self.complete {
            return Ok(Step::Done);
        }
        let step = self.running.step(cx)?;
        match step {
            Step::Row => self.running.keep_row(&mut self.rows, cx)?,
            Step::Done => self.complete = true,
            Step::Yield => {}
        }
        Ok(step)
    }
}

/// Lets a WITH query go on by a row; `Done` at its end. Without `keep` nobody reads what it gives any more.
pub fn advance(cx: &mut EvalCx, number: usize, keep: bool) -> Result<Step, SqlError> {
    CteRows::with(cx, number, |rows, cx| {
        if keep || rows.complete {
            return rows.go_on(cx);
        }
        let step = rows.running.step(cx)?;
        rows.complete = step == Step::Done;
        Ok(step)
    })
}

pub struct CteScanNode {
    spec: Arc<PlanNode>,
    reader: RowReader,
    begun: bool,
}

impl CteScanNode {
    pub fn new(spec: Arc<PlanNode>) -> CteScanNode {
        CteScanNode {
            spec,
            reader: RowReader::default(),
            begun: false,
        }
    }
}

impl Node for CteScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::CteScan(scan) = &self.spec.kind else {
            unreachable!("built from a scan of a WITH query")
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let reader = &mut self.reader;
            let begins = !std::mem::replace(&mut self.begun, true);
            let step = CteRows::with(cx, scan.number, |rows, cx| {
                if begins {
                    rows.renew(cx)?;
                }
                rows.read(reader, scan, frame, cx)
            })?;
            if step != Step::Row {
                return Ok(step);
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
        self.begun = false;
        Ok(())
    }
}
