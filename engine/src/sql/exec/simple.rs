//! Nodes that keep nothing: one row, projection, filter, append.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::types::datum::Datum;

pub struct ResultNode {
    spec: Arc<PlanNode>,
    done: bool,
}

impl ResultNode {
    pub fn new(spec: Arc<PlanNode>) -> ResultNode {
        ResultNode { spec, done: false }
    }
}

impl Node for ResultNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        if self.done {
            return Ok(Step::Done);
        }
        self.done = true;
        let NodeKind::Result { filter } = &self.spec.kind else {
            unreachable!("built from a result node")
        };
        match filter {
            Some(test) if !test.passes(frame, cx)? => Ok(Step::Done),
            _ => Ok(Step::Row),
        }
    }
    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.done = false;
        Ok(())
    }
}

pub struct ProjectNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
}

impl ProjectNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> ProjectNode {
        ProjectNode { spec, child }
    }
}

impl Node for ProjectNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let step = self.child.next(frame, cx)?;
        if step == Step::Row {
            let NodeKind::Project { items, .. } = &self.spec.kind else {
                unreachable!("built from a projection")
            };
            for (slot, value) in items {
                frame[*slot] = value.eval(frame, cx)?;
            }
        }
        Ok(step)
    }
    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.child.rewind(cx)
    }
}

pub struct FilterNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    /// What a condition that reads no row said.
    verdict: Option<bool>,
}

impl FilterNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> FilterNode {
        FilterNode {
            spec,
            child,
            verdict: None,
        }
    }
}

impl Node for FilterNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::Filter { test, once, .. } = &self.spec.kind else {
            unreachable!("built from a filter")
        };
        if *once {
            let verdict = match self.verdict {
                Some(verdict) => verdict,
                None => *self.verdict.insert(test.passes(frame, cx)?),
            };
            return if verdict {
                self.child.next(frame, cx)
            } else {
                Ok(Step::Done)
            };
        }
        loop {
            let step = self.child.next(frame, cx)?;
            if step != Step::Row || test.passes(frame, cx)? {
                return Ok(step);
            }
            cx.refused(self.spec.id);
        }
    }
    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.verdict = None;
        self.child.rewind(cx)
    }
}

pub struct AppendNode {
    children: Vec<BoxNode>,
    current: usize,
}

impl AppendNode {
    pub fn new(children: Vec<BoxNode>) -> AppendNode {
        AppendNode {
            children,
            current: 0,
        }
    }
}

impl Node for AppendNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        while let Some(child) = self.children.get_mut(self.current) {
            match child.next(frame, cx)? {
                Step::Done => self.current += 1,
                step => return Ok(step),
            }
        }
        Ok(Step::Done)
    }
    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.current = 0;
        for child in &mut self.children {
            child.rewind(cx)?;
        }
        Ok(())
    }
}
