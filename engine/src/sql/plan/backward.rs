//! Which plans a cursor that was not declared SCROLL may run backwards (`ExecSupportsBackwardScan`), and which lock
//! the rows that they give.

use super::tree::{NodeKind, Plan, PlanNode};

impl Plan {
    pub fn goes_backward(&self) -> bool {
        goes_backward(&self.main.root)
    }

    pub fn locks_rows(&self) -> bool {
        locks_rows(&self.main.root)
    }
}

/// Locks are taken above everything but LIMIT and the select list.
fn locks_rows(node: &PlanNode) -> bool {
    match &node.kind {
        NodeKind::LockRows { .. } => true,
        NodeKind::Project { child, .. } | NodeKind::Filter { child, .. } => locks_rows(child),
        NodeKind::Limit(limit) => locks_rows(&limit.child),
        _ => false,
    }
}

fn goes_backward(node: &PlanNode) -> bool {
    match &node.kind {
        NodeKind::SeqScan(_)
        | NodeKind::IndexScan(_)
        | NodeKind::VirtualScan { .. }
        | NodeKind::FunctionScan(_)
        | NodeKind::ValuesScan { .. }
        | NodeKind::CteScan(_)
        | NodeKind::Materialize { .. }
        | NodeKind::Sort(_) => true,
        NodeKind::Project { child, .. } | NodeKind::Filter { child, .. } => goes_backward(child),
        NodeKind::Limit(limit) => goes_backward(&limit.child),
        NodeKind::Append { children } => children.iter().all(|c| goes_backward(c)),
        NodeKind::Result { .. }
        | NodeKind::ProjectSet { .. }
        | NodeKind::NestLoop(_)
        | NodeKind::HashJoin(_)
        | NodeKind::Aggregate(_)
        | NodeKind::Window(_)
        | NodeKind::WorkTableScan(_)
        | NodeKind::RecursiveUnion(_)
        | NodeKind::Unique { .. }
        | NodeKind::HashDistinct { .. }
        | NodeKind::SetOp(_)
        | NodeKind::LockRows { .. }
        | NodeKind::Modify(_) => false,
    }
}
