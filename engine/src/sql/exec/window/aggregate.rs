//! Aggregates over frames. A frame whose head stands where it stood goes on from where it was; one whose head has moved
//! takes back what has left it where the aggregate can do that exactly, and else begins anew, as with exclusions each does.

use super::bounds::Place;
use super::input::Stop;
use super::{CallState, Run, WindowAggNode, position};
use crate::ids::Oid;
use crate::sql::bound::Exclusion;
use crate::sql::error::SqlError;
use crate::sql::exec::aggregate::is_long;
use crate::sql::exec::cx::EvalCx;
use crate::types::datum::Datum;
use crate::types::function::{Accumulator, Aggregate};

/// How often the accumulator is asked what it holds; more often where inputs are long.
const MEASURE_EVERY: u32 = 256;

/// An aggregate's state within a partition.
pub struct Running {
    aggregate: &'static Aggregate,
    accumulator: Box<dyn Accumulator>,
    /// It has the rows of the frame from here up to `to`.
    from: i64,
    to: i64,
    /// The row whose frame it was begun for, where that matters.
    begun_for: i64,
    /// What it came to, until another row comes.
    result: Option<Datum>,
    /// Bytes on the statement's account.
    held: usize,
    updates: u32,
}

impl Running {
    pub fn new(aggregate: &'static Aggregate, arg_types: &[Oid]) -> Running {
        Running {
            aggregate,
            accumulator: (aggregate.make)(arg_types),
            from: 0,
            to: 0,
            begun_for: -1,
            result: None,
            held: 0,
            updates: 0,
        }
    }

    /// The first row that it will still be given.
    pub fn next_row(&self) -> i64 {
        self.to
    }

    pub fn give_back(&mut self, cx: &mut EvalCx) {
        cx.memory.give_back(std::mem::take(&mut self.held));
    }

    fn begin(&mut self, at: i64, begun_for: i64, arg_types: &[Oid], cx: &mut EvalCx) {
        self.give_back(cx);
        self.accumulator = (self.aggregate.make)(arg_types);
        (self.from, self.to) = (at, at);
        self.begun_for = begun_for;
        self.result = None;
    }

    fn update(&mut self, args: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        self.accumulator.update(args, &cx.function)?;
        self.result = None;
        self.updates = self.updates.wrapping_add(1);
        if self.updates.is_multiple_of(MEASURE_EVERY) || args.iter().any(is_long) {
            let now = self.accumulator.memory();
            cx.memory.take(now.saturating_sub(self.held))?;
            self.held = self.held.max(now);
        }
        Ok(())
    }
}

impl WindowAggNode {
    pub(super) fn aggregate(&mut self, number: usize, run: &mut Run<'_>) -> Result<Datum, Stop> {
        self.update_head(run)?;
        self.fit_head(number, run)?;
        loop {
            let at = self.running(number).to;
            if !self.has(at, run)? {
                break;
            }
            match self.is_in_frame(at, run)? {
                Place::Behind => break,
                Place::Outside => {}
                Place::Inside => {
                    if self.inputs(number, at, run)? {
                        let args = std::mem::take(&mut self.args);
                        self.running(number).update(&args, run.cx)?;
                        self.args = args;
                    }
                }
            }
            self.running(number).to = at + 1;
            // A long frame for each row is long work; it goes on at the next row of the frame.
            if run.cx.spend() {
                return Err(Stop::Yield);
            }
        }
        let running = self.running(number);
        if let Some(result) = &running.result {
            return Ok(result.clone());
        }
        let result = running.accumulator.so_far(&run.cx.function)?;
        running.result = Some(result.clone());
        Ok(result)
    }

    fn running(&mut self, number: usize) -> &mut Running {
        match &mut self.calls[number] {
            CallState::Aggregate(running) => running,
            _ => unreachable!("made for an aggregate"),
        }
    }

    /// Makes the accumulator begin at the frame's head.
    fn fit_head(&mut self, number: usize, run: &mut Run<'_>) -> Result<(), Stop> {
        let (head, current) = (self.pointers.head, self.at);
        let excludes = run.plan.frame.exclude != Exclusion::NoOthers;
        let arg_types = &run.plan.calls[number].arg_types;
        let running = self.running(number);
        if excludes && running.begun_for != current {
            running.begin(head, current, arg_types, run.cx);
            return Ok(());
        }
        if running.from == head {
            return Ok(());
        }
        let steady = run.plan.calls[number].steady;
        if steady && running.to > head && self.take_back(number, head, run)? {
            return Ok(());
        }
        self.running(number).begin(head, current, arg_types, run.cx);
        Ok(())
    }

    /// Takes the rows before `head` back; false: it cannot.
    fn take_back(&mut self, number: usize, head: i64, run: &mut Run<'_>) -> Result<bool, Stop> {
        while self.running(number).from < head {
            let at = self.running(number).from;
            if self.inputs(number, at, run)? {
                let args = std::mem::take(&mut self.args);
                let running = self.running(number);
                running.result = None;
                let removed = running.accumulator.remove(&args);
                self.args = args;
                if !removed {
                    return Ok(false);
                }
            }
            self.running(number).from += 1;
        }
        Ok(true)
    }

    /// What the row at `at` gives to the aggregate; false: nothing.
    fn inputs(&mut self, number: usize, at: i64, run: &mut Run<'_>) -> Result<bool, SqlError> {
        let plan = run.plan;
        let call = &plan.calls[number];
        if let Some(filter) = &call.filter {
            self.input.load(position(at), plan, run.frame)?;
            if !filter.passes(run.frame, run.cx)? {
                return Ok(false);
            }
        }
        self.args.clear();
        for arg in 0..call.args.len() {
            let value = self.argument(number, arg, at, run)?;
            self.args.push(value);
        }
        let strict = self.running(number).aggregate.strict;
        Ok(!strict || !self.args.iter().any(Datum::is_null))
    }
}
