//! Taking expressions apart: children, slots, conjunctions, constants.

use crate::sql::bound::{Expr, SubqueryKind};
use crate::sql::error::SqlError;
use crate::sql::exec::eval::{FRAME, Slot};
use crate::types::datum::Datum;
use crate::types::function::Volatility;

/// A set of slots of one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotSet(Vec<u64>);

impl SlotSet {
    pub fn insert(&mut self, slot: Slot) {
        let word = slot / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }
    pub fn contains(&self, slot: Slot) -> bool {
        self.0
            .get(slot / 64)
            .is_some_and(|w| w & (1 << (slot % 64)) != 0)
    }
    pub fn add(&mut self, other: &SlotSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
    #[must_use]
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        let mut made = self.clone();
        made.add(other);
        made
    }
    #[must_use]
    pub fn without(&self, other: &SlotSet) -> SlotSet {
        let words = self.0.iter().enumerate();
        let left = words.map(|(i, w)| w & !other.0.get(i).copied().unwrap_or(0));
        SlotSet(left.collect())
    }
    pub fn is_subset(&self, of: &SlotSet) -> bool {
        self.0
            .iter()
            .enumerate()
            .all(|(i, w)| w & !of.0.get(i).copied().unwrap_or(0) == 0)
    }
    pub fn intersects(&self, other: &SlotSet) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.0.iter().enumerate().flat_map(|(i, w)| {
            let w = *w;
            (0..64)
                .filter(move |b| w & (1 << b) != 0)
                .map(move |b| i * 64 + b)
        })
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Slot>>(slots: T) -> SlotSet {
        let mut made = SlotSet::default();
        for slot in slots {
            made.insert(slot);
        }
        made
    }
}

/// Calls `f` with each direct part of the expression. A subquery's inside is not a part of it.
pub fn children<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Const(..)
        | Expr::Param(..)
        | Expr::Column(_)
        | Expr::Group(..)
        | Expr::Aggregate(..)
        | Expr::Window(..)
        | Expr::CaseTest(_)
        | Expr::SetToDefault(_)
        | Expr::Outer(_)
        | Expr::SystemColumn { .. } => {}
        Expr::Call { args, .. } | Expr::MinMax { args, .. } => args.iter().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
        Expr::And(items) | Expr::Or(items) | Expr::Row(items) | Expr::Coalesce(items, _) => {
            items.iter().for_each(f);
        }
        Expr::IsDistinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case {
            operand,
            arms,
            otherwise,
            ..
        } => {
            if let Some(operand) = operand {
                f(operand);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(otherwise) = otherwise {
                f(otherwise);
            }
        }
        Expr::AnyOf { left, items, .. } => {
            f(left);
            items.iter().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::AnyRow { left, rows, .. } => {
            left.iter().for_each(&mut *f);
            f(rows);
        }
        Expr::ArrayLiteral { items, .. } => items.iter().for_each(f),
        Expr::SubPlan(call) => call.args.iter().for_each(|(_, e)| f(e)),
        Expr::Subquery(sub) => match &sub.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
    }
}

/// The same for changing the parts in place.
pub fn children_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Const(..)
        | Expr::Param(..)
        | Expr::Column(_)
        | Expr::Group(..)
        | Expr::Aggregate(..)
        | Expr::Window(..)
        | Expr::CaseTest(_)
        | Expr::SetToDefault(_)
        | Expr::Outer(_)
        | Expr::SystemColumn { .. } => {}
        Expr::Call { args, .. } | Expr::MinMax { args, .. } => args.iter_mut().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
        Expr::And(items) | Expr::Or(items) | Expr::Row(items) | Expr::Coalesce(items, _) => {
            items.iter_mut().for_each(f);
        }
        Expr::IsDistinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case {
            operand,
            arms,
            otherwise,
            ..
        } => {
            if let Some(operand) = operand {
                f(operand);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(otherwise) = otherwise {
                f(otherwise);
            }
        }
        Expr::AnyOf { left, items, .. } => {
            f(left);
            items.iter_mut().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::AnyRow { left, rows, .. } => {
            left.iter_mut().for_each(&mut *f);
            f(rows);
        }
        Expr::ArrayLiteral { items, .. } => items.iter_mut().for_each(f),
        Expr::SubPlan(call) => call.args.iter_mut().for_each(|(_, e)| f(e)),
        Expr::Subquery(sub) => match &mut sub.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter_mut().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
    }
}

/// Calls `f` with the expression and everything in it, outermost first.
pub fn walk<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    f(expr);
    children(expr, &mut |part| walk(part, f));
}

/// The frame slots that it reads.
pub fn slots_of(expr: &Expr) -> SlotSet {
    let mut slots = SlotSet::default();
    collect_slots(expr, &mut slots);
    slots
}

pub fn collect_slots(expr: &Expr, into: &mut SlotSet) {
    walk(expr, &mut |e| {
        if let Expr::Column(c) = e
            && c.range == FRAME
        {
            into.insert(c.column);
        }
    });
}

/// It has to be computed once for each row, where it stands.
pub fn is_volatile(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| {
        if let Expr::Call { function, .. } = e {
            found |= function.volatility == Volatility::Volatile;
        }
    });
    found
}

/// Takes the ANDs at the top apart.
pub fn conjuncts(expr: Expr, into: &mut Vec<Expr>) {
    match expr {
        Expr::And(parts) => {
            for part in parts {
                conjuncts(part, into);
            }
        }
        Expr::Const(Datum::Bool(true), _) => {}
        other => into.push(other),
    }
}

/// Whether a subquery is in it that is not planned yet.
pub fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| found |= matches!(e, Expr::Subquery(_)));
    found
}

/// Whether a run of a subquery is in it.
pub fn runs_subplan(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| found |= matches!(e, Expr::SubPlan(_)));
    found
}

/// Those that run subqueries come last (`order_qual_clauses`): they are asked only of rows that all others let through.
pub fn cheap_first(mut conditions: Vec<Expr>) -> Vec<Expr> {
    conditions.sort_by_key(runs_subplan);
    conditions
}

/// The parts as one condition.
pub fn all_of(mut parts: Vec<Expr>) -> Option<Expr> {
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(Expr::And(parts)),
    }
}

/// True if the condition cannot be true when all of `slots` are NULL.
pub fn rejects_nulls(expr: &Expr, slots: &SlotSet) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().any(|p| rejects_nulls(p, slots)),
        Expr::Or(parts) => parts.iter().all(|p| rejects_nulls(p, slots)),
        Expr::IsNull { arg, negated: true } => null_with(arg, slots),
        Expr::BoolTest {
            arg,
            is: Some(_),
            negated: false,
        } => null_with(arg, slots),
        other => null_with(other, slots),
    }
}

/// True if it is NULL when all of `slots` are.
fn null_with(expr: &Expr, slots: &SlotSet) -> bool {
    match expr {
        Expr::Column(c) => c.range == FRAME && slots.contains(c.column),
        Expr::Call { function, args, .. } => {
            function.strict && args.iter().any(|a| null_with(a, slots))
        }
        Expr::Relabel { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::CastViaText { arg, .. }
        | Expr::Not(arg) => null_with(arg, slots),
        Expr::AnyOf {
            function,
            left,
            items,
            all: false,
        } => function.strict && !items.is_empty() && null_with(left, slots),
        _ => false,
    }
}

/// Structurally the same. May say no of two that are (literals of rare types), never yes of two that are not.
pub fn same(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Column(x), Expr::Column(y)) => x == y,
        (Expr::Param(x, _), Expr::Param(y, _)) => x == y,
        (Expr::Const(x, t), Expr::Const(y, u)) => t == u && same_constant(x, y),
        (
            Expr::Call {
                function: f,
                args: x,
                ty: t,
            },
            Expr::Call {
                function: g,
                args: y,
                ty: u,
            },
        ) => f.oid == g.oid && t == u && all_same(x, y),
        (Expr::Relabel { arg: x, ty: t }, Expr::Relabel { arg: y, ty: u })
        | (Expr::CastViaText { arg: x, ty: t }, Expr::CastViaText { arg: y, ty: u }) => {
            t == u && same(x, y)
        }
        (
            Expr::Coerce {
                arg: x,
                ty: t,
                explicit: e,
            },
            Expr::Coerce {
                arg: y,
                ty: u,
                explicit: f,
            },
        ) => t == u && e == f && same(x, y),
        (Expr::And(x), Expr::And(y)) | (Expr::Or(x), Expr::Or(y)) => all_same(x, y),
        (Expr::Not(x), Expr::Not(y)) => same(x, y),
        (Expr::IsNull { arg: x, negated: n }, Expr::IsNull { arg: y, negated: m }) => {
            n == m && same(x, y)
        }
        (
            Expr::AnyOf {
                function: f,
                left: x,
                items: v,
                all: n,
            },
            Expr::AnyOf {
                function: g,
                left: y,
                items: w,
                all: m,
            },
        ) => f.oid == g.oid && n == m && same(x, y) && all_same(v, w),
        (
            Expr::AnyArray {
                function: f,
                left: x,
                array: v,
                all: n,
            },
            Expr::AnyArray {
                function: g,
                left: y,
                array: w,
                all: m,
            },
        ) => f.oid == g.oid && n == m && same(x, y) && same(v, w),
        // Each has its place in one expression.
        (Expr::SubPlan(x), Expr::SubPlan(y)) => x.number == y.number,
        _ => false,
    }
}

fn all_same(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

fn same_constant(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Null, Datum::Null) => true,
        (Datum::Bool(x), Datum::Bool(y)) => x == y,
        (Datum::Int2(x), Datum::Int2(y)) => x == y,
        (Datum::Int4(x), Datum::Int4(y)) => x == y,
        (Datum::Int8(x), Datum::Int8(y)) => x == y,
        (Datum::Text(x), Datum::Text(y)) => x == y,
        (Datum::Oid(x), Datum::Oid(y)) => x == y,
        (Datum::Date(x), Datum::Date(y)) => x == y,
        (Datum::Timestamp(x), Datum::Timestamp(y))
        | (Datum::TimestampTz(x), Datum::TimestampTz(y)) => x == y,
        (Datum::Uuid(x), Datum::Uuid(y)) => x == y,
        (Datum::Char(x), Datum::Char(y)) => x == y,
        _ => false,
    }
}

/// An expression over one table's row (range 0) as one over a frame that is that row.
pub fn over_row(mut expr: Expr) -> Result<Expr, SqlError> {
    fn lower(expr: &mut Expr) -> Result<(), SqlError> {
        match expr {
            Expr::Column(c) if c.range == 0 => {
                c.range = FRAME;
                Ok(())
            }
            Expr::Subquery(_) => Err(SqlError::unsupported(
                "cannot use subquery in this expression",
            )),
            Expr::SystemColumn { .. } => Err(SqlError::unsupported(
                "system columns are not supported in this expression",
            )),
            other => {
                let mut result = Ok(());
                children_mut(other, &mut |part| {
                    if result.is_ok() {
                        result = lower(part);
                    }
                });
                result
            }
        }
    }
    lower(&mut expr)?;
    Ok(expr)
}
