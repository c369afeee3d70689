//! What the nodes of a plan compute, and which outer values that depends on.

use crate::sql::bound::Expr;
use crate::sql::exec::eval::{INIT_PLAN, OUTER_VALUE, Scalar, Test};
use crate::sql::plan::exprs::{SlotSet, walk};
use crate::sql::plan::tree::{
    Again, IndexScan, KeyValue, Modify, ModifyAction, NodeKind, PlanNode, SubPlan, WindowNode,
};

/// Notes in each node that keeps rows what these depend on. Gives the outer values that the node and those below it read,
/// but for those that they pass themselves.
pub fn settle(node: &mut PlanNode, subplans: &[SubPlan]) -> SlotSet {
    let mut reads = SlotSet::default();
    for child in node.children_mut() {
        reads.add(&settle(child, subplans));
    }
    node.expressions(&mut |e| collect(e, subplans, &mut reads));
    match &mut node.kind {
        NodeKind::Materialize { reads: own, .. } => *own = reads.iter().collect(),
        NodeKind::NestLoop(join) => {
            let passed: SlotSet = join.pass.iter().map(|(number, _)| *number).collect();
            reads = reads.without(&passed);
        }
        NodeKind::CteScan(scan) => {
            for value in subplans[scan.number].reads.iter() {
                reads.insert(*value);
            }
        }
        NodeKind::WorkTableScan(scan) => reads.insert(scan.changes),
        NodeKind::RecursiveUnion(union) => {
            let own: SlotSet = std::iter::once(union.changes).collect();
            reads = reads.without(&own);
        }
        NodeKind::LockRows { lateral, .. } => {
            let passed = lateral.iter().filter_map(|step| match step {
                Again::Pass(number, _) => Some(*number),
                Again::Compute(..) => None,
            });
            reads = reads.without(&passed.collect());
        }
        _ => {}
    }
    reads
}

fn collect(expr: &Expr, subplans: &[SubPlan], reads: &mut SlotSet) {
    walk(expr, &mut |e| {
        let run = match e {
            Expr::Param(n, _) if *n >= OUTER_VALUE => {
                reads.insert(n - OUTER_VALUE);
                return;
            }
            Expr::Param(n, _) if *n >= INIT_PLAN => n - INIT_PLAN,
            Expr::SubPlan(call) => call.number,
            _ => return,
        };
        for value in subplans[run].reads.iter() {
            reads.insert(*value);
        }
    });
}

impl PlanNode {
    /// Calls `f` with each expression that this node computes, not those of nodes below it.
    pub fn expressions<'p>(&'p self, f: &mut dyn FnMut(&'p Expr)) {
        match &self.kind {
            NodeKind::Result { filter } | NodeKind::VirtualScan { filter, .. } => {
                filter.iter().for_each(|t| f(t.source()));
            }
            NodeKind::SeqScan(scan) => scan.filter.iter().for_each(|t| f(t.source())),
            NodeKind::CteScan(scan) => scan.filter.iter().for_each(|t| f(t.source())),
            NodeKind::WorkTableScan(scan) => scan.filter.iter().for_each(|t| f(t.source())),
            NodeKind::IndexScan(scan) => of_index_scan(scan, f),
            NodeKind::FunctionScan(scan) => {
                let args = scan.calls.iter().flat_map(|call| &call.args);
                args.for_each(|v| f(v.source()));
                scan.filter.iter().for_each(|t| f(t.source()));
            }
            NodeKind::ValuesScan { rows, filter, .. } => {
                rows.iter().flatten().for_each(|v| f(v.source()));
                filter.iter().for_each(|t| f(t.source()));
            }
            NodeKind::Project { items, .. } => items.iter().for_each(|(_, v)| f(v.source())),
            NodeKind::ProjectSet { calls, .. } => {
                let args = calls.iter().flat_map(|call| &call.args);
                args.for_each(|v| f(v.source()));
            }
            NodeKind::Filter { test, .. } => f(test.source()),
            NodeKind::NestLoop(join) => {
                let tests = join.condition.iter().chain(&join.filter);
                tests.for_each(|t| f(t.source()));
            }
            NodeKind::HashJoin(join) => {
                let keys = join.outer_keys.iter().chain(&join.inner_keys);
                keys.for_each(|v| f(v.source()));
                let tests = join.residual.iter().chain(&join.filter);
                tests.for_each(|t| f(t.source()));
            }
            NodeKind::Sort(sort) => {
                if let Some(top) = &sort.limit {
                    f(top.limit.source());
                    top.offset.iter().for_each(|v| f(v.source()));
                }
            }
            NodeKind::Limit(limit) => {
                let counts = limit.limit.iter().chain(&limit.offset);
                counts.for_each(|v| f(v.source()));
            }
            NodeKind::Aggregate(aggregate) => {
                for call in &aggregate.calls {
                    call.args.iter().for_each(|v| f(v.source()));
                    call.order_by.iter().for_each(|o| f(o.value.source()));
                    call.filter.iter().for_each(|t| f(t.source()));
                }
            }
            NodeKind::Window(window) => of_window(window, f),
            NodeKind::LockRows {
                recheck,
                outer,
                lateral,
                early,
                ..
            } => {
                let tests = outer.iter().flat_map(|(on, _)| on).chain(recheck);
                tests.for_each(|t| f(t.source()));
                early.iter().for_each(|(_, v)| f(v.source()));
                for step in lateral {
                    if let Again::Compute(_, value) = step {
                        f(value.source());
                    }
                }
            }
            NodeKind::Modify(modify) => of_modify(modify, f),
            NodeKind::Materialize { .. }
            | NodeKind::Unique { .. }
            | NodeKind::HashDistinct { .. }
            | NodeKind::Append { .. }
            | NodeKind::RecursiveUnion(_)
            | NodeKind::SetOp(_) => {}
        }
    }
}

fn of_window<'p>(window: &'p WindowNode, f: &mut dyn FnMut(&'p Expr)) {
    for call in &window.calls {
        call.args.iter().for_each(|v| f(v.source()));
        call.filter.iter().for_each(|t| f(t.source()));
    }
    let bounds = [&window.frame.start, &window.frame.end];
    let offsets = bounds.into_iter().filter_map(|b| b.offset());
    offsets.for_each(|v| f(v.source()));
}

fn of_index_scan<'p>(scan: &'p IndexScan, f: &mut dyn FnMut(&'p Expr)) {
    for value in &scan.equal {
        match value {
            KeyValue::One(v) | KeyValue::AnyArray(v) => f(v.source()),
            KeyValue::AnyOf(items) => items.iter().for_each(|v| f(v.source())),
            KeyValue::IsNull => {}
        }
    }
    let bounds = scan.lower.iter().chain(&scan.upper);
    bounds.for_each(|b| f(b.value.source()));
    scan.filter.iter().for_each(|t| f(t.source()));
}

fn of_modify<'p>(modify: &'p Modify, f: &mut dyn FnMut(&'p Expr)) {
    modify.checks.iter().for_each(|c| f(c.test.source()));
    match &modify.action {
        ModifyAction::Insert { on_conflict, .. } => {
            let update = on_conflict.as_ref().and_then(|c| c.update.as_ref());
            if let Some(update) = update {
                of_change(&update.assignments, update.filter.as_ref(), f);
            }
        }
        ModifyAction::Update {
            assignments,
            recheck,
            ..
        } => of_change(assignments, recheck.as_ref(), f),
        ModifyAction::Delete { recheck, .. } => of_change(&[], recheck.as_ref(), f),
    }
    modify.returning.iter().for_each(|(_, v)| f(v.source()));
}

fn of_change<'p>(
    assignments: &'p [(usize, Scalar)],
    test: Option<&'p Test>,
    f: &mut dyn FnMut(&'p Expr),
) {
    assignments.iter().for_each(|(_, v)| f(v.source()));
    test.into_iter().for_each(|t| f(t.source()));
}
