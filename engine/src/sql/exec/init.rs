//! Init plans: subqueries that depend on nothing outside and so are computed at most once.
//!
//! Asked for by an expression, one runs to its end there and then, checking for interrupts; one that may wait for
//! a lock was run ahead by the loop at the top.

use std::sync::Arc;

use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::{EvalCx, InitState, Step};
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{self, BoxNode};
use crate::sql::plan::Plan;
use crate::sql::plan::tree::InitKind;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::oids;
use crate::types::record::Record;

/// An init plan on its way.
pub struct Running {
    plan: Arc<Plan>,
    number: usize,
    root: BoxNode,
    frame: Vec<Datum>,
    /// Of the result's columns.
    types: Arc<[Oid]>,
    values: Vec<Datum>,
    seen: bool,
}

impl Running {
    pub fn new(plan: &Arc<Plan>, number: usize, cx: &mut EvalCx) -> Running {
        cx.init[number] = InitState::Running;
        let level = &plan.init[number].level;
        Running {
            root: node::build(&level.root, cx),
            frame: vec![Datum::Null; level.slots.len()],
            types: level
                .output
                .iter()
                .map(|s| level.slots[*s].ty.oid)
                .collect(),
            plan: Arc::clone(plan),
            number,
            values: Vec::new(),
            seen: false,
        }
    }

    /// True when the result is there; false to be called again after a pause.
    pub fn advance(&mut self, cx: &mut EvalCx) -> Result<bool, SqlError> {
        let plan = Arc::clone(&self.plan);
        let init = &plan.init[self.number];
        loop {
            match self.root.next(&mut self.frame, cx)? {
                Step::Yield => return Ok(false),
                Step::Done => {
                    self.finish(init.kind, cx);
                    return Ok(true);
                }
                Step::Row => {
                    if self.seen && init.kind == InitKind::Scalar {
                        return Err(SqlError::new(
                            state::CARDINALITY_VIOLATION,
                            "more than one row returned by a subquery used as an expression",
                        ));
                    }
                    self.seen = true;
                    if init.kind == InitKind::Exists {
                        self.finish(init.kind, cx);
                        return Ok(true);
                    }
                    let value = if init.kind == InitKind::Rows {
                        let row = init.level.output.iter().map(|s| self.frame[*s].clone());
                        Record::new(&self.types, row.collect()).into()
                    } else {
                        self.frame[init.level.output[0]].clone()
                    };
                    cx.memory.take(datum_bytes(&value))?;
                    self.values.push(value);
                }
            }
        }
    }

    fn finish(&mut self, kind: InitKind, cx: &mut EvalCx) {
        let value = match kind {
            InitKind::Exists => Datum::Bool(self.seen),
            InitKind::Scalar => self.values.pop().unwrap_or(Datum::Null),
            InitKind::Array { element } => array(element, std::mem::take(&mut self.values)),
            InitKind::Rows => array(oids::RECORD, std::mem::take(&mut self.values)),
        };
        cx.init[self.number] = InitState::Done {
            value,
            set: None,
            rows: None,
        };
    }
}

fn array(element: Oid, items: Vec<Datum>) -> Datum {
    let dimensions = if items.is_empty() {
        Vec::new()
    } else {
        vec![(items.len(), 1)]
    };
    Datum::Array(Arc::new(Array {
        element,
        dimensions,
        items,
    }))
}

/// Runs one to its end, from within an expression.
pub fn compute(cx: &mut EvalCx, number: usize) -> Result<Datum, SqlError> {
    if matches!(cx.init[number], InitState::Running) {
        return Err(SqlError::internal("a subquery asks for its own result"));
    }
    let plan = cx
        .plan
        .clone()
        .ok_or_else(|| SqlError::internal("an expression without a plan has a subquery"))?;
    let mut running = Running::new(&plan, number, cx);
    while !running.advance(cx)? {
        if cx.request.is_some() {
            return Err(SqlError::internal(
                "a subquery that may wait was not run ahead",
            ));
        }
        cx.check_interrupts()?;
    }
    match &cx.init[number] {
        InitState::Done { value, .. } => Ok(value.clone()),
        _ => unreachable!("advance leaves a finished state"),
    }
}
