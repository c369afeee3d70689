//! Aggregation of ordered input, a group at a time; without keys, of everything as one group.

use std::sync::Arc;

use super::group::{self, State};
use super::spec_of;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::distinct::keys_equal;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{Grouping, PlanNode};
use crate::types::datum::Datum;
use crate::types::size;

pub struct SortedAggregateNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    /// Keys of the group that is being read.
    keys: Option<Vec<Datum>>,
    states: Vec<State>,
    inputs: Vec<Datum>,
    /// Accumulator bytes on the statement's account.
    held: usize,
    rows: u32,
    /// The frame has the keys of the group before, which has gone out.
    disturbed: bool,
    done: bool,
}

/// How often the accumulators are asked what they hold; more often where inputs are long.
const MEASURE_EVERY: u32 = 256;
/// Bytes.
const LONG_INPUT: usize = 4096;

/// Whether a few hundred of them may be a lot.
pub fn is_long(value: &Datum) -> bool {
    match value {
        Datum::Text(s) => s.len() > LONG_INPUT,
        Datum::Bytea(b) => b.len() > LONG_INPUT,
        Datum::Numeric(_) | Datum::Jsonb(_) | Datum::Array(_) | Datum::Record(_) => {
            size::held(value) > LONG_INPUT
        }
        _ => false,
    }
}

impl SortedAggregateNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> SortedAggregateNode {
        let states = group::new_states(&spec_of(&spec).calls);
        SortedAggregateNode {
            spec,
            child,
            keys: None,
            states,
            inputs: Vec::new(),
            held: 0,
            rows: 0,
            disturbed: false,
            done: false,
        }
    }

    fn take(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        let calls = &spec_of(&self.spec).calls;
        group::update(calls, &mut self.states, &self.inputs, cx)?;
        self.rows = self.rows.wrapping_add(1);
        if self.rows.is_multiple_of(MEASURE_EVERY) || self.inputs.iter().any(is_long) {
            let now = group::held(&self.states);
            cx.memory.take(now.saturating_sub(self.held))?;
            self.held = self.held.max(now);
        }
        Ok(())
    }

    /// Writes the finished group to the frame and begins another.
    fn emit(
        &mut self,
        keys: &[Datum],
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        let spec = spec_of(&self.spec);
        group::finish(&spec.calls, &mut self.states, frame, cx)?;
        for (key, value) in spec.keys.iter().zip(keys) {
            frame[key.slot] = value.clone();
        }
        self.disturbed = true;
        self.states = group::new_states(&spec.calls);
        cx.memory.give_back(self.held);
        self.held = 0;
        Ok(())
    }

    /// Puts back the keys of the row that was read last: a nested loop below finds the rest of its outer row in the frame.
    fn restore(&mut self, frame: &mut [Datum]) {
        if std::mem::take(&mut self.disturbed)
            && let Some(keys) = &self.keys
        {
            for (key, value) in spec_of(&self.spec).keys.iter().zip(keys) {
                frame[key.slot] = value.clone();
            }
        }
    }

    /// A row has come: true if it ended the group before it, which is now in the frame.
    fn row(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
        let spec = spec_of(&self.spec);
        group::compute_inputs(&spec.calls, &mut self.inputs, frame, cx)?;
        if let Some(keys) = &self.keys
            && keys_equal(&spec.keys, keys, frame)
        {
            self.take(cx)?;
            return Ok(false);
        }
        let new = spec.keys.iter().map(|k| frame[k.slot].clone()).collect();
        let ended = match self.keys.replace(new) {
            None => false,
            Some(old) => {
                self.emit(&old, frame, cx)?;
                true
            }
        };
        self.take(cx)?;
        Ok(ended)
    }
}

impl Node for SortedAggregateNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        if self.done {
            return Ok(Step::Done);
        }
        self.restore(frame);
        loop {
            match self.child.next(frame, cx)? {
                Step::Yield => return Ok(Step::Yield),
                Step::Row => {
                    if self.row(frame, cx)? {
                        return Ok(Step::Row);
                    }
                }
                Step::Done => {
                    self.done = true;
                    let plain = spec_of(&self.spec).grouping == Grouping::Plain;
                    return match self.keys.take() {
                        None if !plain => Ok(Step::Done),
                        keys => {
                            self.emit(&keys.unwrap_or_default(), frame, cx)?;
                            Ok(Step::Row)
                        }
                    };
                }
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.keys = None;
        self.disturbed = false;
        self.done = false;
        group::abandon(&self.states, cx);
        self.states = group::new_states(&spec_of(&self.spec).calls);
        cx.memory.give_back(self.held);
        self.held = 0;
        self.child.rewind(cx)
    }
}
