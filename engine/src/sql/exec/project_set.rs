//! Set-returning functions of a select list: their rows side by side, for each row that comes from below.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::scan::computed::call;
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::types::datum::Datum;
use crate::types::function::Rows;

pub struct ProjectSetNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    /// What is left of each call's rows, `None` of one that has ended. Empty while the child's next row is wanted.
    sets: Vec<Option<Rows>>,
}

impl ProjectSetNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> ProjectSetNode {
        ProjectSetNode {
            spec,
            child,
            sets: Vec::new(),
        }
    }
}

impl Node for ProjectSetNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::ProjectSet { calls, .. } = &self.spec.kind else {
            unreachable!("built from sets in a select list")
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            if self.sets.is_empty() {
                let step = self.child.next(frame, cx)?;
                if step != Step::Row {
                    return Ok(step);
                }
                for c in calls {
                    let types = (c.arg_types.as_slice(), c.result);
                    let rows = call(c.function, &c.args, types, frame, cx)?;
                    self.sets.push(Some(rows));
                }
            }
            let mut some = false;
            for (set, c) in self.sets.iter_mut().zip(calls) {
                let value = set.as_mut().and_then(|rows| rows.next()).transpose()?;
                if value.is_none() {
                    *set = None;
                }
                some |= value.is_some();
                frame[c.slot] = value.unwrap_or(Datum::Null);
            }
            if some {
                return Ok(Step::Row);
            }
            self.sets.clear();
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.sets.clear();
        self.child.rewind(cx)
    }
}
