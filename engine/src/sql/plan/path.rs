//! Ways to get at rows while the best is looked for: light, shared, with costs.

use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::relation::Index;
use crate::sql::bound::Expr;
use crate::sql::exec::eval::Slot;
use crate::sql::plan::exprs::SlotSet;
use crate::sql::plan::tree::JoinType;

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderKey {
    pub slot: Slot,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug, Clone)]
pub struct Path {
    pub startup: f64,
    pub total: f64,
    pub rows: f64,
    pub width: f64,
    /// Slots of other relations that it reads, or is given by their values: it can only be on the inner side of a nested
    /// loop over them.
    pub outer: SlotSet,
    pub order: Vec<OrderKey>,
    /// Slots that hold one value in all rows.
    pub fixed: SlotSet,
    pub kind: PathKind,
}

#[derive(Debug, Clone)]
pub enum PathKind {
    Seq {
        base: usize,
        filter: Vec<Expr>,
    },
    Index(Rc<IndexPath>),
    /// Values, functions, virtual tables: the whole of it, filtered.
    Whole {
        base: usize,
        filter: Vec<Expr>,
    },
    NestLoop {
        join: JoinType,
        outer: Rc<Path>,
        inner: Rc<Path>,
        condition: Vec<Expr>,
        filter: Vec<Expr>,
        materialize: bool,
    },
    Hash {
        join: JoinType,
        outer: Rc<Path>,
        inner: Rc<Path>,
        /// (outer expression, inner expression, the condition)
        keys: Vec<HashKey>,
        residual: Vec<Expr>,
        filter: Vec<Expr>,
    },
    Filter {
        child: Rc<Path>,
        filter: Vec<Expr>,
    },
}

#[derive(Debug, Clone)]
pub struct HashKey {
    pub outer: Expr,
    pub inner: Expr,
    pub condition: Expr,
}

#[derive(Debug)]
pub struct IndexPath {
    pub base: usize,
    pub index: Arc<Index>,
    pub backward: bool,
    pub equal: Vec<KeyMatch>,
    pub lower: Option<(Expr, bool)>,
    pub upper: Option<(Expr, bool)>,
    /// Conditions that the keys answer.
    pub conditions: Vec<Expr>,
    pub filter: Vec<Expr>,
}

#[derive(Debug, Clone)]
pub enum KeyMatch {
    One(Expr),
    AnyOf(Vec<Expr>),
    AnyArray(Expr),
    IsNull,
}

impl Path {
    /// The relations that it reads.
    pub fn collect_bases(&self, into: &mut Vec<usize>) {
        match &self.kind {
            PathKind::Seq { base, .. } | PathKind::Whole { base, .. } => into.push(*base),
            PathKind::Index(index) => into.push(index.base),
            PathKind::NestLoop { outer, inner, .. } | PathKind::Hash { outer, inner, .. } => {
                outer.collect_bases(into);
                inner.collect_bases(into);
            }
            PathKind::Filter { child, .. } => child.collect_bases(into),
        }
    }

    /// True if its rows come in an order that begins with `wanted`.
    pub fn provides(&self, wanted: &[OrderKey]) -> bool {
        let mut own = self.order.iter().filter(|k| !self.fixed.contains(k.slot));
        wanted
            .iter()
            .filter(|k| !self.fixed.contains(k.slot))
            .all(|k| own.next() == Some(k))
    }
}
