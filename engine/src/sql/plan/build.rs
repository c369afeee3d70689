//! From the chosen path to plan nodes.

use std::sync::Arc;

use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{Scalar, Slot, Test, shared_order};
use crate::sql::plan::exprs::{SlotSet, cheap_first};
use crate::sql::plan::from::{Base, BaseKind};
use crate::sql::plan::path::{HashKey, IndexPath, KeyMatch, Path, PathKind};
use crate::sql::plan::tree::{
    Bound, Cost, HashJoin, IndexScan, KeySlot, KeyValue, NestLoop, NodeKind, PlanNode, SeqScan,
    SortKey,
};
use crate::types::compare::{Comparator, Hasher, comparator, equality, hasher};
use crate::types::datum::SqlType;

/// A node; its id comes when the plan is settled.
pub fn node(kind: NodeKind, cost: Cost) -> PlanNode {
    PlanNode { kind, cost, id: 0 }
}

/// The relations of a level while their nodes are made: computed ones are used up.
pub struct Parts<'b> {
    pub bases: &'b [Base],
    /// For each base, the node that reads it, if it is not a table.
    pub computed: Vec<Option<PlanNode>>,
}

impl Parts<'_> {
    /// What a loop over `outer` passes to the relations of `inner`.
    fn passed(&self, outer: &Path, inner: &Path) -> Vec<(usize, Slot)> {
        let mut readers = Vec::new();
        inner.collect_bases(&mut readers);
        let passed = readers.iter().flat_map(|b| &self.bases[*b].passed);
        let mut passed: Vec<(usize, Slot)> = passed.copied().collect();
        if !passed.is_empty() {
            let (mut sources, mut slots) = (Vec::new(), SlotSet::default());
            outer.collect_bases(&mut sources);
            sources
                .iter()
                .for_each(|b| slots.add(&self.bases[*b].slots));
            passed.retain(|(_, slot)| slots.contains(*slot));
        }
        passed
    }
}

fn cost_of(path: &Path) -> Cost {
    Cost {
        startup: path.startup,
        total: path.total,
        rows: path.rows,
        width: path.width,
    }
}

/// The conditions as one test.
fn tests(conditions: &[Expr]) -> Option<Test> {
    Test::all(cheap_first(conditions.to_vec()))
}

pub fn build(path: &Path, parts: &mut Parts<'_>) -> Result<PlanNode, SqlError> {
    let cost = cost_of(path);
    let kind = match &path.kind {
        PathKind::Seq { base, filter } => {
            let base = &parts.bases[*base];
            NodeKind::SeqScan(SeqScan {
                relation: relation_of(base),
                alias: base.alias.clone(),
                fetch: base.scope.fetch.clone(),
                filter: tests(filter),
            })
        }
        PathKind::Index(index) => index_scan(index, parts),
        PathKind::Whole { base, filter } => return whole(*base, filter, cost, parts),
        PathKind::NestLoop {
            join,
            outer,
            inner,
            condition,
            filter,
            materialize,
        } => {
            let pass = parts.passed(outer, inner);
            let outer = build(outer, parts)?;
            let inner_cost = cost_of(inner);
            let mut inner = build(inner, parts)?;
            if *materialize {
                let kind = NodeKind::Materialize {
                    child: Arc::new(inner),
                    slots: Vec::new(),
                    reads: Box::default(),
                };
                inner = node(kind, inner_cost);
            }
            NodeKind::NestLoop(NestLoop {
                join: *join,
                outer: Arc::new(outer),
                inner: Arc::new(inner),
                pass,
                condition: tests(condition),
                filter: tests(filter),
                inner_slots: Vec::new(),
            })
        }
        PathKind::Hash {
            join,
            outer,
            inner,
            keys,
            residual,
            filter,
        } => NodeKind::HashJoin(HashJoin {
            join: *join,
            outer: Arc::new(build(outer, parts)?),
            inner: Arc::new(build(inner, parts)?),
            outer_keys: keys.iter().map(|k| Scalar::new(k.outer.clone())).collect(),
            inner_keys: keys.iter().map(|k| Scalar::new(k.inner.clone())).collect(),
            key_order: keys
                .iter()
                .map(|k| key_order(k, &k.inner))
                .collect::<Result<_, _>>()?,
            probe_order: keys
                .iter()
                .map(|k| key_order(k, &k.outer))
                .collect::<Result<_, _>>()?,
            residual: tests(residual),
            filter: tests(filter),
            inner_slots: Vec::new(),
            outer_slots: Vec::new(),
            conditions: keys.iter().map(|k| k.condition.clone()).collect(),
        }),
        PathKind::Filter { child, filter } => {
            let child = build(child, parts)?;
            return Ok(with_filter(child, filter.clone(), cost));
        }
    };
    Ok(node(kind, cost))
}

pub fn with_filter(child: PlanNode, filter: Vec<Expr>, cost: Cost) -> PlanNode {
    match Test::all(cheap_first(filter)) {
        None => child,
        Some(test) => node(
            NodeKind::Filter {
                child: Arc::new(child),
                test,
                once: false,
            },
            cost,
        ),
    }
}

fn relation_of(base: &Base) -> Arc<crate::catalog::relation::Relation> {
    match &base.kind {
        BaseKind::Table(relation) => Arc::clone(relation),
        _ => unreachable!("scans by page are made for tables only"),
    }
}

fn key_order(key: &HashKey, side: &Expr) -> Result<(Comparator, Hasher), SqlError> {
    let (a, b) = match &key.condition {
        Expr::Call { function, .. } => (function.args[0], function.args[1]),
        _ => (key.outer.ty().oid, key.inner.ty().oid),
    };
    match (shared_order(a, b), hasher(side.ty().oid)) {
        (Some(order), Some(hash)) => Ok((order, hash)),
        _ => Err(SqlError::internal("a hash join on types that do not hash")),
    }
}

fn index_scan(path: &IndexPath, parts: &Parts<'_>) -> NodeKind {
    let base = &parts.bases[path.base];
    let bound = |b: &Option<(Expr, bool)>| {
        b.as_ref().map(|(value, inclusive)| Bound {
            value: Scalar::new(value.clone()),
            inclusive: *inclusive,
        })
    };
    NodeKind::IndexScan(IndexScan {
        relation: relation_of(base),
        alias: base.alias.clone(),
        index: Arc::clone(&path.index),
        backward: path.backward,
        equal: path.equal.iter().map(key_value).collect(),
        lower: bound(&path.lower),
        upper: bound(&path.upper),
        fetch: base.scope.fetch.clone(),
        filter: tests(&path.filter),
        conditions: path.conditions.clone(),
        point: false,
    })
}

fn key_value(matched: &KeyMatch) -> KeyValue {
    match matched {
        KeyMatch::One(e) => KeyValue::One(Scalar::new(e.clone())),
        KeyMatch::AnyOf(items) => {
            KeyValue::AnyOf(items.iter().map(|e| Scalar::new(e.clone())).collect())
        }
        KeyMatch::AnyArray(e) => KeyValue::AnyArray(Scalar::new(e.clone())),
        KeyMatch::IsNull => KeyValue::IsNull,
    }
}

/// A computed relation's own node, with the filter inside it where it has a place for one.
fn whole(
    base: usize,
    filter: &[Expr],
    cost: Cost,
    parts: &mut Parts<'_>,
) -> Result<PlanNode, SqlError> {
    let mut made = parts.computed[base]
        .take()
        .ok_or_else(|| SqlError::internal("a relation is read twice in one plan"))?;
    let place = match &mut made.kind {
        NodeKind::VirtualScan { filter, .. } | NodeKind::ValuesScan { filter, .. } => filter,
        NodeKind::FunctionScan(f) => &mut f.filter,
        NodeKind::CteScan(scan) => &mut scan.filter,
        NodeKind::WorkTableScan(scan) => &mut scan.filter,
        _ => return Ok(with_filter(made, filter.to_vec(), cost)),
    };
    // A subquery that is nothing but such a scan brings a condition of its own.
    if place.is_some() {
        return Ok(with_filter(made, filter.to_vec(), cost));
    }
    *place = tests(filter);
    made.cost = cost;
    Ok(made)
}

/// A slot as a key that rows are told apart by, and that is hashed if its type can be. It needs no order: types with equality
/// alone have some.
pub fn key_slot(slot: Slot, ty: SqlType) -> Result<KeySlot, SqlError> {
    Ok(KeySlot {
        slot,
        ty,
        compare: equality_of(ty)?,
        hash: hasher(ty.oid),
    })
}

fn equality_of(ty: SqlType) -> Result<Comparator, SqlError> {
    equality(ty.oid).ok_or_else(|| {
        let name = crate::types::registry::format_type(ty);
        SqlError::new(
            crate::sql::error::state::UNDEFINED_FUNCTION,
            format!("could not identify an equality operator for type {name}"),
        )
    })
}

pub fn sort_key(
    slot: Slot,
    ty: SqlType,
    descending: bool,
    nulls_first: bool,
) -> Result<SortKey, SqlError> {
    Ok(SortKey {
        slot,
        ty,
        compare: order_of(ty)?,
        descending,
        nulls_first,
    })
}

pub fn order_of(ty: SqlType) -> Result<Comparator, SqlError> {
    comparator(ty.oid).ok_or_else(|| {
        let name = crate::types::registry::format_type(ty);
        SqlError::new(
            crate::sql::error::state::UNDEFINED_FUNCTION,
            format!("could not identify an ordering operator for type {name}"),
        )
        .hint("Use an explicit ordering operator or modify the query.")
    })
}
