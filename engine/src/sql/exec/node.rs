//! The running form of a plan: a tree of nodes, each a small state machine.
//!
//! A node's `next` leaves a row in its slots of the frame, or says that there is none, or hands control back
//! (`Yield`) and goes on where it was at the next call. No node awaits, none keeps a latch between calls. A
//! node may leave anything in its slots after `Done` and `Yield`.

use std::sync::Arc;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::{
    aggregate, cte, distinct, hash_join, limit, lock_rows, materialize, modify, nest_loop,
    project_set, recursive, scan, set_op, simple, sort, window,
};
use crate::sql::plan::tree::{NodeKind, PlanNode};
use crate::types::datum::Datum;

pub trait Node: Send {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError>;
    /// Starts over. Slots of nodes outside of this subtree may have changed.
    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError>;
}

pub type BoxNode = Box<dyn Node>;

/// Makes the running node of a plan node and of those below it.
pub fn build(plan: &Arc<PlanNode>, cx: &EvalCx) -> BoxNode {
    let made = build_bare(plan, cx);
    match &cx.instruments {
        None => made,
        Some(_) => Box::new(super::instrument::Measured::new(plan.id, made)),
    }
}

fn build_bare(plan: &Arc<PlanNode>, cx: &EvalCx) -> BoxNode {
    let spec = Arc::clone(plan);
    match &plan.kind {
        NodeKind::Result { .. } => Box::new(simple::ResultNode::new(spec)),
        NodeKind::SeqScan(_) => Box::new(scan::seq::SeqScanNode::new(spec)),
        NodeKind::IndexScan(_) => Box::new(scan::index::IndexScanNode::new(spec)),
        NodeKind::VirtualScan { .. } => Box::new(scan::computed::VirtualScanNode::new(spec)),
        NodeKind::FunctionScan(_) => Box::new(scan::computed::FunctionScanNode::new(spec)),
        NodeKind::ValuesScan { .. } => Box::new(scan::computed::ValuesScanNode::new(spec)),
        NodeKind::Project { child, .. } => {
            let child = build(child, cx);
            Box::new(simple::ProjectNode::new(spec, child))
        }
        NodeKind::ProjectSet { child, .. } => {
            let child = build(child, cx);
            Box::new(project_set::ProjectSetNode::new(spec, child))
        }
        NodeKind::Filter { child, .. } => {
            let child = build(child, cx);
            Box::new(simple::FilterNode::new(spec, child))
        }
        NodeKind::NestLoop(j) => {
            let (outer, inner) = (build(&j.outer, cx), build(&j.inner, cx));
            Box::new(nest_loop::NestLoopNode::new(spec, outer, inner))
        }
        NodeKind::HashJoin(j) => {
            let (outer, inner) = (build(&j.outer, cx), build(&j.inner, cx));
            Box::new(hash_join::HashJoinNode::new(spec, outer, inner))
        }
        NodeKind::Materialize { child, .. } => {
            let child = build(child, cx);
            Box::new(materialize::MaterializeNode::new(spec, child))
        }
        NodeKind::Sort(s) => {
            let child = build(&s.child, cx);
            Box::new(sort::SortNode::new(spec, child))
        }
        NodeKind::Limit(l) => {
            let child = build(&l.child, cx);
            Box::new(limit::LimitNode::new(spec, child))
        }
        NodeKind::Aggregate(a) => {
            let child = build(&a.child, cx);
            aggregate::build(spec, child)
        }
        NodeKind::Window(w) => {
            let child = build(&w.child, cx);
            Box::new(window::WindowAggNode::new(spec, child, cx))
        }
        NodeKind::Unique { child, .. } => {
            let child = build(child, cx);
            Box::new(distinct::UniqueNode::new(spec, child))
        }
        NodeKind::HashDistinct { child, .. } => {
            let child = build(child, cx);
            Box::new(distinct::HashDistinctNode::new(spec, child))
        }
        NodeKind::Append { children } => {
            let children = children.iter().map(|c| build(c, cx)).collect();
            Box::new(simple::AppendNode::new(children))
        }
        NodeKind::SetOp(s) => {
            let (left, right) = (build(&s.left, cx), build(&s.right, cx));
            Box::new(set_op::SetOpNode::new(spec, left, right))
        }
        NodeKind::CteScan(_) => Box::new(cte::CteScanNode::new(spec)),
        NodeKind::WorkTableScan(_) => Box::new(recursive::WorkTableScanNode::new(spec)),
        NodeKind::RecursiveUnion(r) => {
            let (first, step) = (build(&r.first, cx), build(&r.step, cx));
            Box::new(recursive::RecursiveUnionNode::new(spec, first, step))
        }
        NodeKind::LockRows { child, .. } => {
            let child = build(child, cx);
            Box::new(lock_rows::LockRowsNode::new(spec, child))
        }
        NodeKind::Modify(m) => {
            let child = build(&m.child, cx);
            modify::build(spec, child)
        }
    }
}
