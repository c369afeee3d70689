//! The short way for statements by key: which plans keep nothing between two executions, and which index scans look
//! for one key.
//!
//! A prepared statement's execution is kept and started again ([`Plan::repeatable`]), and a scan for one key
//! ([`IndexScan::point`]) encodes it into a buffer that it keeps: so such a statement, found in the plan cache, runs
//! without building anything.

use crate::sql::plan::tree::{IndexScan, KeyValue, NodeKind, Plan, PlanNode};

/// Whether every key column is compared with one value.
pub fn is_point(scan: &IndexScan) -> bool {
    let one = |value: &KeyValue| matches!(value, KeyValue::One(_) | KeyValue::IsNull);
    scan.equal.len() == scan.index.keys.len() && scan.equal.iter().all(one)
}

/// Whether an execution that has ended holds no row of it: such nodes forget all with a rewind.
pub fn is_repeatable(plan: &Plan) -> bool {
    plan.subplans.is_empty() && keeps_nothing(&plan.main.root)
}

fn keeps_nothing(node: &PlanNode) -> bool {
    let itself = matches!(
        node.kind,
        NodeKind::Result { .. }
            | NodeKind::SeqScan(_)
            | NodeKind::IndexScan(_)
            | NodeKind::ValuesScan { .. }
            | NodeKind::Project { .. }
            | NodeKind::Filter { .. }
            | NodeKind::Limit(_)
            | NodeKind::LockRows { .. }
            | NodeKind::Modify(_)
    );
    itself
        && node
            .children()
            .into_iter()
            .all(|child| keeps_nothing(child))
}
