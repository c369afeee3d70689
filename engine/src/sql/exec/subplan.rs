//! Subqueries of expressions, run.
//!
//! Asked for by an expression, one runs to its end there and then, checking for interrupts; one that may wait for
//! a lock was run ahead by the loop at the top. Its nodes and its frame are made once and rewound for each further run.
//! What it reads of the rows around it was put in its place before ([`EvalCx::pass`]), so it never sees another frame.
//!
//! The result of an init plan is kept with the moment at which it was asked for, and is good until an outer value that it
//! reads has been set again since.

use std::sync::Arc;

use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::hashed::{RowSet, ValueSet};
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{self, BoxNode};
use crate::sql::exec::row_store::RowStore;
use crate::sql::plan::Plan;
use crate::sql::plan::tree::SubPlanKind;
use crate::types::array::Array;
use crate::types::compare::Hasher;
use crate::types::datum::Datum;
use crate::types::oids;
use crate::types::record::Record;

/// What an execution has of one subquery.
#[derive(Default)]
pub(crate) struct SubPlanState {
    /// Its nodes, between two runs.
    resting: Option<Box<Running>>,
    /// It is being run: asking for it now would be a cycle.
    busy: bool,
    /// Of an init plan.
    result: Option<Kept>,
}

/// The result of an init plan.
struct Kept {
    value: Datum,
    /// When it was asked for, by the clock of outer values.
    at: u64,
    /// Bytes on the statement's account.
    held: usize,
    set: Option<Arc<ValueSet>>,
    rows: Option<Arc<RowSet>>,
}

/// A subquery's nodes and its frame.
pub(crate) struct Running {
    plan: Arc<Plan>,
    number: usize,
    root: BoxNode,
    frame: Vec<Datum>,
    /// Of the result's columns.
    types: Arc<[Oid]>,
    /// Of this run.
    values: Vec<Datum>,
    /// Bytes of them on the statement's account.
    held: usize,
    seen: bool,
    began: u64,
}

impl Running {
    pub(super) fn new(plan: Arc<Plan>, number: usize, cx: &EvalCx) -> Running {
        let level = &plan.subplans[number].level;
        Running {
            root: node::build(&level.root, cx),
            frame: vec![Datum::Null; level.slots.len()],
            types: level
                .output
                .iter()
                .map(|s| level.slots[*s].ty.oid)
                .collect(),
            number,
            values: Vec::new(),
            held: 0,
            seen: false,
            began: 0,
            plan,
        }
    }

    /// Begins a run, with the outer values as they are now.
    pub fn begin(cx: &mut EvalCx, number: usize) -> Result<Box<Running>, SqlError> {
        let state = &mut cx.subplans[number];
        if state.busy {
            return Err(SqlError::internal("a subquery asks for its own result"));
        }
        state.busy = true;
        let mut run = match state.resting.take() {
            Some(mut run) => {
                run.root.rewind(cx)?;
                run
            }
            None => {
                let plan = cx.plan.clone().ok_or_else(|| {
                    SqlError::internal("an expression without a plan has a subquery")
                })?;
                Box::new(Running::new(plan, number, cx))
            }
        };
        run.values.clear();
        cx.memory.give_back(std::mem::take(&mut run.held));
        run.seen = false;
        run.began = cx.clock;
        Ok(run)
    }

    /// Ends the run; its nodes are kept for the next one.
    pub fn end(self: Box<Running>, cx: &mut EvalCx) {
        cx.make_up_for_pauses();
        let state = &mut cx.subplans[self.number];
        state.busy = false;
        state.resting = Some(self);
    }

    /// The next row into the subquery's frame; false: there is none.
    pub fn next_row(&mut self, cx: &mut EvalCx) -> Result<bool, SqlError> {
        loop {
            match self.root.next(&mut self.frame, cx)? {
                Step::Row => return Ok(true),
                Step::Done => return Ok(false),
                Step::Yield => go_on(cx)?,
            }
        }
    }

    /// One step of it, in its own frame.
    pub(super) fn step(&mut self, cx: &mut EvalCx) -> Result<Step, SqlError> {
        self.root.next(&mut self.frame, cx)
    }

    /// Keeps the columns of the row in the frame.
    pub(super) fn keep_row(&self, rows: &mut RowStore, cx: &mut EvalCx) -> Result<(), SqlError> {
        let output = &self.plan.subplans[self.number].level.output;
        rows.push(output, &self.frame, cx)
    }

    /// How many columns it gives.
    pub(super) fn width(&self) -> usize {
        self.plan.subplans[self.number].level.output.len()
    }

    pub(super) fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.root.rewind(cx)
    }

    /// Whether an outer value that it reads was set after `at`.
    pub(super) fn depends_on_changed(&self, at: u64, cx: &EvalCx) -> bool {
        cx.changed_since(at, &self.plan.subplans[self.number].reads)
    }

    /// The columns of the row in the frame.
    pub fn row(&self) -> impl Iterator<Item = &Datum> {
        let output = &self.plan.subplans[self.number].level.output;
        output.iter().map(move |slot| &self.frame[*slot])
    }

    /// The only column of it.
    pub fn column(&self) -> Result<&Datum, SqlError> {
        let first = self.row().next();
        first.ok_or_else(|| SqlError::internal("a subquery has no column"))
    }

    /// Goes on to what the subquery gives. False: to be called again after a pause.
    pub fn advance(&mut self, cx: &mut EvalCx) -> Result<bool, SqlError> {
        loop {
            match self.root.next(&mut self.frame, cx)? {
                Step::Yield => return Ok(false),
                Step::Done => return Ok(true),
                Step::Row => {
                    if self.take_row(cx)? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// True: no further row is asked for.
    fn take_row(&mut self, cx: &mut EvalCx) -> Result<bool, SqlError> {
        let kind = self.plan.subplans[self.number].kind;
        if self.seen && kind == SubPlanKind::Scalar {
            return Err(SqlError::new(
                state::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            ));
        }
        self.seen = true;
        let value = match kind {
            SubPlanKind::Exists => return Ok(true),
            SubPlanKind::Cte { .. } => {
                return Err(SqlError::internal("a WITH query is asked for a value"));
            }
            SubPlanKind::Rows => Record::new(&self.types, self.row().cloned().collect()).into(),
            SubPlanKind::Scalar | SubPlanKind::Array { .. } => self.column()?.clone(),
        };
        let bytes = datum_bytes(&value);
        cx.memory.take(bytes)?;
        self.held += bytes;
        self.values.push(value);
        Ok(false)
    }

    /// The result, once [`Running::advance`] has come to it.
    fn result(&mut self) -> Datum {
        match self.plan.subplans[self.number].kind {
            SubPlanKind::Exists | SubPlanKind::Cte { .. } => Datum::Bool(self.seen),
            SubPlanKind::Scalar => self.values.pop().unwrap_or(Datum::Null),
            SubPlanKind::Array { element } => array(element, std::mem::take(&mut self.values)),
            SubPlanKind::Rows => array(oids::RECORD, std::mem::take(&mut self.values)),
        }
    }

    /// Ends a run of an init plan and keeps what it gave.
    pub fn keep(mut self: Box<Running>, cx: &mut EvalCx) {
        let kept = Kept {
            value: self.result(),
            at: self.began,
            held: std::mem::take(&mut self.held),
            set: None,
            rows: None,
        };
        let number = self.number;
        self.end(cx);
        if let Some(old) = cx.subplans[number].result.replace(kept) {
            cx.memory.give_back(old.held);
        }
    }
}

/// A pause that nobody can make use of here: the nodes outside make up for it as soon as they can.
fn go_on(cx: &mut EvalCx) -> Result<(), SqlError> {
    if cx.request.is_some() {
        return Err(SqlError::internal(
            "a subquery that may wait was not run ahead",
        ));
    }
    cx.check_interrupts()?;
    cx.owes_pause = true;
    Ok(())
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

impl EvalCx {
    /// Puts a value of a row where the subqueries below find it.
    #[inline]
    pub fn pass(&mut self, number: usize, value: Datum) {
        self.clock += 1;
        self.outer[number] = (value, self.clock);
    }

    /// Whether one of these outer values was set after `at`.
    pub fn changed_since(&self, at: u64, reads: &[usize]) -> bool {
        reads.iter().any(|number| self.outer[*number].1 > at)
    }

    /// What a subquery gives with the outer values that it was passed.
    pub fn run_subplan(&mut self, number: usize) -> Result<Datum, SqlError> {
        let mut run = Running::begin(self, number)?;
        while !run.advance(self)? {
            go_on(self)?;
        }
        let value = run.result();
        self.memory.give_back(std::mem::take(&mut run.held));
        run.end(self);
        Ok(value)
    }

    /// The result of an init plan; computes it if there is none that is still good.
    pub fn init_value(&mut self, number: usize) -> Result<Datum, SqlError> {
        Ok(self.init_result(number)?.value.clone())
    }

    fn init_result(&mut self, number: usize) -> Result<&mut Kept, SqlError> {
        let good = match (&self.subplans[number].result, &self.plan) {
            (Some(kept), Some(plan)) => !self.changed_since(kept.at, &plan.subplans[number].reads),
            _ => false,
        };
        if !good {
            let mut run = Running::begin(self, number)?;
            while !run.advance(self)? {
                go_on(self)?;
            }
            run.keep(self);
        }
        let result = self.subplans[number].result.as_mut();
        result.ok_or_else(|| SqlError::internal("a subquery has left no result"))
    }

    /// The items of an init plan's array, by hash.
    pub fn init_set(&mut self, number: usize, ty: Oid) -> Result<Arc<ValueSet>, SqlError> {
        let kept = self.init_result(number)?;
        if let Some(set) = &kept.set {
            return Ok(Arc::clone(set));
        }
        let Datum::Array(array) = &kept.value else {
            return Err(SqlError::internal(
                "a list of subquery values is not an array",
            ));
        };
        let made = Arc::new(ValueSet::new(ty, array.items.iter().cloned()));
        kept.set = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The rows of an init plan's array, by the hash of their columns.
    pub fn init_rows(
        &mut self,
        number: usize,
        hashers: &[Hasher],
    ) -> Result<Arc<RowSet>, SqlError> {
        let kept = self.init_result(number)?;
        if let Some(rows) = &kept.rows {
            return Ok(Arc::clone(rows));
        }
        let Datum::Array(array) = &kept.value else {
            return Err(SqlError::internal("a subquery's rows are not an array"));
        };
        let made = Arc::new(RowSet::new(Arc::clone(array), hashers));
        kept.rows = Some(Arc::clone(&made));
        Ok(made)
    }
}
