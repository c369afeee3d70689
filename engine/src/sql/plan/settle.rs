//! The last pass over a plan: which slots each node keeps, ids, compiled expressions.
//!
//! Goes from the top down with the slots that are still read above.

use std::sync::Arc;

use crate::sql::exec::eval::{Scalar, Slot, Test};
use crate::sql::plan::exprs::{SlotSet, collect_slots};
use crate::sql::plan::point;
use crate::sql::plan::tree::{
    Again, AggregateNode, HashJoin, IndexScan, KeyValue, Limit, Modify, ModifyAction, NestLoop,
    NodeKind, PlanNode, Sort, WindowNode,
};

/// Hands out node ids.
#[derive(Default)]
pub struct Settler {
    pub nodes: usize,
}

fn unique(child: &mut Arc<PlanNode>) -> &mut PlanNode {
    Arc::get_mut(child).expect("a plan is not shared before it is settled")
}

fn scalar(value: &mut Scalar, needed: &mut SlotSet) {
    value.compile();
    collect_slots(value.source(), needed);
}

fn test(value: &mut Option<Test>, needed: &mut SlotSet) {
    if let Some(value) = value {
        value.compile();
        collect_slots(value.source(), needed);
    }
}

fn common(wanted: &SlotSet, have: &SlotSet) -> Vec<Slot> {
    wanted.iter().filter(|s| have.contains(*s)).collect()
}

impl Settler {
    pub fn settle(&mut self, node: &mut PlanNode, needed: &SlotSet) {
        node.id = self.nodes;
        self.nodes += 1;
        let mut needed = needed.clone();
        match &mut node.kind {
            NodeKind::Result { filter } => test(filter, &mut needed),
            NodeKind::SeqScan(scan) => {
                scan.fetch.settle(&scan.relation);
                test(&mut scan.filter, &mut needed);
            }
            NodeKind::IndexScan(scan) => index_scan(scan, &mut needed),
            NodeKind::VirtualScan { filter, fetch, .. } => {
                fetch.columns.sort_unstable();
                test(filter, &mut needed);
            }
            NodeKind::FunctionScan(scan) => {
                let args = scan.calls.iter_mut().flat_map(|call| &mut call.args);
                args.for_each(|a| scalar(a, &mut needed));
                test(&mut scan.filter, &mut needed);
            }
            NodeKind::ValuesScan { rows, filter, .. } => {
                rows.iter_mut()
                    .flatten()
                    .for_each(|v| scalar(v, &mut needed));
                test(filter, &mut needed);
            }
            NodeKind::Project { child, items } => {
                items.iter_mut().for_each(|(_, v)| scalar(v, &mut needed));
                self.settle(unique(child), &needed);
            }
            NodeKind::ProjectSet { child, calls } => {
                for arg in calls.iter_mut().flat_map(|call| &mut call.args) {
                    scalar(arg, &mut needed);
                }
                self.settle(unique(child), &needed);
            }
            NodeKind::Filter { child, test, .. } => {
                test.compile();
                collect_slots(test.source(), &mut needed);
                self.settle(unique(child), &needed);
            }
            NodeKind::NestLoop(join) => self.nest_loop(join, needed),
            NodeKind::HashJoin(join) => self.hash_join(join, needed),
            NodeKind::Materialize { child, slots, .. } => {
                *slots = common(&needed, &produced(child));
                self.settle(unique(child), &needed);
            }
            NodeKind::Sort(sort) => self.sort(sort, needed),
            NodeKind::Limit(limit) => self.limit(limit, needed),
            NodeKind::Aggregate(aggregate) => self.aggregate(aggregate, needed),
            NodeKind::Window(window) => self.window(window, needed),
            NodeKind::Unique { child, keys } => {
                needed.add(&keys.iter().map(|k| k.slot).collect());
                self.settle(unique(child), &needed);
            }
            NodeKind::HashDistinct { child, keys } => {
                needed.add(&keys.iter().map(|k| k.slot).collect());
                self.settle(unique(child), &needed);
            }
            NodeKind::Append { children } => {
                for child in children {
                    self.settle(unique(child), &needed);
                }
            }
            NodeKind::SetOp(set) => {
                needed.add(&set.keys.iter().map(|k| k.slot).collect());
                self.settle(unique(&mut set.left), &needed);
                self.settle(unique(&mut set.right), &needed);
            }
            NodeKind::CteScan(scan) => test(&mut scan.filter, &mut needed),
            NodeKind::WorkTableScan(scan) => test(&mut scan.filter, &mut needed),
            NodeKind::RecursiveUnion(union) => {
                needed.add(&union.slots.iter().copied().collect());
                self.settle(unique(&mut union.first), &needed);
                self.settle(unique(&mut union.step), &needed);
            }
            kind @ NodeKind::LockRows { .. } => self.lock_rows(kind, needed),
            NodeKind::Modify(modify) => self.modify(modify, needed),
        }
    }

    fn lock_rows(&mut self, kind: &mut NodeKind, mut needed: SlotSet) {
        let NodeKind::LockRows {
            child,
            locks,
            recheck,
            outer,
            lateral,
            early,
        } = kind
        else {
            return;
        };
        for step in lateral {
            match step {
                Again::Pass(_, slot) => needed.insert(*slot),
                Again::Compute(_, value) => scalar(value, &mut needed),
            }
        }
        test(recheck, &mut needed);
        for (on, _) in outer {
            test(on, &mut needed);
        }
        for (_, value) in early {
            scalar(value, &mut needed);
        }
        for lock in locks {
            lock.fetch.settle(&lock.relation);
            needed.insert(lock.ctid);
        }
        self.settle(unique(child), &needed);
    }

    fn nest_loop(&mut self, join: &mut NestLoop, mut needed: SlotSet) {
        test(&mut join.filter, &mut needed);
        join.inner_slots = common(&needed, &produced(&join.inner));
        test(&mut join.condition, &mut needed);
        self.settle(unique(&mut join.inner), &needed);
        // The inner side may take keys from the outer row.
        reads(&join.inner, &mut needed);
        for (_, slot) in &join.pass {
            needed.insert(*slot);
        }
        self.settle(unique(&mut join.outer), &needed);
    }

    fn hash_join(&mut self, join: &mut HashJoin, mut needed: SlotSet) {
        test(&mut join.residual, &mut needed);
        test(&mut join.filter, &mut needed);
        join.inner_slots = common(&needed, &produced(&join.inner));
        let mut outer = needed.clone();
        join.outer_keys
            .iter_mut()
            .for_each(|k| scalar(k, &mut outer));
        join.outer_slots = common(&outer, &produced(&join.outer));
        let mut inner = needed;
        join.inner_keys
            .iter_mut()
            .for_each(|k| scalar(k, &mut inner));
        self.settle(unique(&mut join.inner), &inner);
        self.settle(unique(&mut join.outer), &outer);
    }

    fn sort(&mut self, sort: &mut Sort, mut needed: SlotSet) {
        needed.add(&sort.keys.iter().map(|k| k.slot).collect());
        sort.slots = common(&needed, &produced(&sort.child));
        if let Some(top) = &mut sort.limit {
            top.limit.compile();
            if let Some(offset) = &mut top.offset {
                offset.compile();
            }
        }
        self.settle(unique(&mut sort.child), &needed);
    }

    fn limit(&mut self, limit: &mut Limit, mut needed: SlotSet) {
        for value in [&mut limit.limit, &mut limit.offset].into_iter().flatten() {
            value.compile();
        }
        if let Some(ties) = &limit.ties {
            needed.add(&ties.iter().map(|k| k.slot).collect());
        }
        self.settle(unique(&mut limit.child), &needed);
    }

    fn aggregate(&mut self, aggregate: &mut AggregateNode, mut needed: SlotSet) {
        needed.add(&aggregate.keys.iter().map(|k| k.slot).collect());
        for call in &mut aggregate.calls {
            call.args.iter_mut().for_each(|a| scalar(a, &mut needed));
            for order in &mut call.order_by {
                scalar(&mut order.value, &mut needed);
            }
            test(&mut call.filter, &mut needed);
        }
        self.settle(unique(&mut aggregate.child), &needed);
    }

    fn window(&mut self, window: &mut WindowNode, mut needed: SlotSet) {
        needed.add(&window.partition.iter().map(|k| k.slot).collect());
        needed.add(&window.order.iter().map(|k| k.slot).collect());
        for call in &mut window.calls {
            call.args.iter_mut().for_each(|a| scalar(a, &mut needed));
            test(&mut call.filter, &mut needed);
        }
        for bound in [&mut window.frame.start, &mut window.frame.end] {
            if let Some(offset) = bound.offset_mut() {
                offset.compile();
            }
        }
        window.slots = common(&needed, &produced(&window.child));
        self.settle(unique(&mut window.child), &needed);
    }

    fn modify(&mut self, modify: &mut Modify, mut needed: SlotSet) {
        for check in &mut modify.checks {
            check.test.compile();
            collect_slots(check.test.source(), &mut needed);
        }
        for (_, value) in &mut modify.returning {
            scalar(value, &mut needed);
        }
        match &mut modify.action {
            ModifyAction::Insert {
                source,
                on_conflict,
            } => {
                needed.add(&source.iter().copied().collect());
                if let Some(update) = on_conflict.as_mut().and_then(|c| c.update.as_mut()) {
                    update.fetch.settle(&modify.relation);
                    for (_, value) in &mut update.assignments {
                        scalar(value, &mut needed);
                    }
                    test(&mut update.filter, &mut needed);
                }
            }
            ModifyAction::Update {
                ctid,
                fetch,
                assignments,
                old,
                recheck,
            } => {
                fetch.settle(&modify.relation);
                needed.insert(*ctid);
                needed.add(&old.iter().copied().collect());
                for (_, value) in assignments {
                    scalar(value, &mut needed);
                }
                test(recheck, &mut needed);
            }
            ModifyAction::Delete {
                ctid,
                fetch,
                recheck,
            } => {
                fetch.settle(&modify.relation);
                needed.insert(*ctid);
                test(recheck, &mut needed);
            }
        }
        self.settle(unique(&mut modify.child), &needed);
    }
}

fn index_scan(scan: &mut IndexScan, needed: &mut SlotSet) {
    scan.point = point::is_point(scan);
    scan.fetch.settle(&scan.relation);
    for value in &mut scan.equal {
        match value {
            KeyValue::One(v) | KeyValue::AnyArray(v) => scalar(v, needed),
            KeyValue::AnyOf(items) => items.iter_mut().for_each(|v| scalar(v, needed)),
            KeyValue::IsNull => {}
        }
    }
    for bound in [&mut scan.lower, &mut scan.upper].into_iter().flatten() {
        scalar(&mut bound.value, needed);
    }
    test(&mut scan.filter, needed);
}

/// The slots that a node and those below it fill.
pub fn produced(node: &PlanNode) -> SlotSet {
    let mut made: SlotSet = match &node.kind {
        NodeKind::SeqScan(scan) => scan.fetch.slots().collect(),
        NodeKind::IndexScan(scan) => scan.fetch.slots().collect(),
        NodeKind::VirtualScan { fetch, .. } => fetch.slots().collect(),
        NodeKind::FunctionScan(scan) => {
            let fields = scan.calls.iter().flat_map(|call| &call.slots);
            fields.copied().flatten().chain(scan.ordinality).collect()
        }
        NodeKind::ValuesScan { slots, .. } => slots.iter().copied().collect(),
        NodeKind::Project { items, .. } => items.iter().map(|(slot, _)| *slot).collect(),
        NodeKind::ProjectSet { calls, .. } => calls.iter().map(|call| call.slot).collect(),
        NodeKind::Aggregate(a) => {
            // Of its input only the keys survive.
            return a
                .keys
                .iter()
                .map(|k| k.slot)
                .chain(a.calls.iter().map(|c| c.slot))
                .collect();
        }
        NodeKind::CteScan(scan) => scan.slots.iter().copied().collect(),
        NodeKind::WorkTableScan(scan) => scan.slots.iter().copied().collect(),
        NodeKind::RecursiveUnion(union) => return union.slots.iter().copied().collect(),
        NodeKind::Window(w) => w.calls.iter().map(|c| c.slot).collect(),
        NodeKind::SetOp(set) => return set.keys.iter().map(|k| k.slot).collect(),
        _ => SlotSet::default(),
    };
    for child in node.children() {
        made.add(&produced(child));
    }
    made
}

/// The slots that expressions of an index scan, or of filters above one, read.
fn reads(node: &PlanNode, into: &mut SlotSet) {
    if let NodeKind::IndexScan(scan) = &node.kind {
        for condition in &scan.conditions {
            collect_slots(condition, into);
        }
    }
    for child in node.children() {
        reads(child, into);
    }
}
