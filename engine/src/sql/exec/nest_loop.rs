//! Nested loop: for each outer row the inner side anew.
//!
//! The inner side reads the outer row from the frame, so an index scan below takes its keys from it. Nothing is
//! copied: both rows are in the frame when the condition is tested. What subqueries and functions of the inner side read of
//! the outer row is passed to them before they begin again, so that whatever below keeps rows knows that they are others.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{JoinType, NestLoop, NodeKind, PlanNode};
use crate::types::datum::Datum;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NeedOuter,
    Scanning,
    Done,
}

pub struct NestLoopNode {
    spec: Arc<PlanNode>,
    outer: BoxNode,
    inner: BoxNode,
    state: State,
    matched: bool,
    /// The inner side is at its beginning already.
    fresh: bool,
}

impl NestLoopNode {
    pub fn new(spec: Arc<PlanNode>, outer: BoxNode, inner: BoxNode) -> NestLoopNode {
        NestLoopNode {
            spec,
            outer,
            inner,
            state: State::NeedOuter,
            matched: false,
            fresh: true,
        }
    }
}

/// The inner side gave no partner. True: the outer row goes out, alone or with NULLs.
fn unmatched(join: &NestLoop, frame: &mut [Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
    match join.join {
        JoinType::Left => {
            for slot in &join.inner_slots {
                frame[*slot] = Datum::Null;
            }
        }
        JoinType::Anti => {}
        _ => return Ok(false),
    }
    passes(join, frame, cx)
}

fn passes(join: &NestLoop, frame: &[Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
    match &join.filter {
        None => Ok(true),
        Some(filter) => filter.passes(frame, cx),
    }
}

impl Node for NestLoopNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::NestLoop(join) = &self.spec.kind else {
            unreachable!("built from a nested loop")
        };
        loop {
            match self.state {
                State::Done => return Ok(Step::Done),
                State::NeedOuter => match self.outer.next(frame, cx)? {
                    Step::Row => {
                        for (number, slot) in &join.pass {
                            cx.pass(*number, frame[*slot].clone());
                        }
                        if !self.fresh {
                            self.inner.rewind(cx)?;
                        }
                        self.fresh = false;
                        self.matched = false;
                        self.state = State::Scanning;
                    }
                    Step::Done => self.state = State::Done,
                    Step::Yield => return Ok(Step::Yield),
                },
                State::Scanning => match self.inner.next(frame, cx)? {
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => {
                        self.state = State::NeedOuter;
                        if !self.matched && unmatched(join, frame, cx)? {
                            return Ok(Step::Row);
                        }
                    }
                    Step::Row => {
                        if let Some(condition) = &join.condition
                            && !condition.passes(frame, cx)?
                        {
                            continue;
                        }
                        self.matched = true;
                        match join.join {
                            JoinType::Anti => {
                                self.state = State::NeedOuter;
                                continue;
                            }
                            JoinType::Semi => self.state = State::NeedOuter,
                            _ => {}
                        }
                        if passes(join, frame, cx)? {
                            return Ok(Step::Row);
                        }
                    }
                },
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.state = State::NeedOuter;
        self.outer.rewind(cx)?;
        // The inner side is rewound when the first outer row has come.
        self.fresh = false;
        Ok(())
    }
}
