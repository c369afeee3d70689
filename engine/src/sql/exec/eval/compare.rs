//! Comparisons without copying: the operands stay where they are (frame, plan, parameters).
//!
//! An operator function is known for a comparison by the table of operators, never by a name of its own. Types
//! that share one order (`int2`, `int4`, `int8`; equal types with a comparator) are compared directly; anything
//! else goes through the operator's function.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::OnceLock;

use super::{EvalFn, INIT_PLAN, Slot, TestFn, call, compile as compile_value, slot_of};
use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::types::compare::{Comparator, comparator};
use crate::types::datum::Datum;
use crate::types::function::Function;
use crate::types::{oids, operators};

/// What a comparison operator asks of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    fn named(name: &str) -> Option<Comparison> {
        Some(match name {
            "=" => Comparison::Equal,
            "<>" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterEqual,
            _ => return None,
        })
    }
    /// The comparison that says the same with the operands exchanged.
    #[must_use]
    pub const fn commuted(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEqual => Comparison::GreaterEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEqual => Comparison::LessEqual,
            same => same,
        }
    }
    #[inline]
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterEqual => order.is_ge(),
        }
    }
}

/// The comparison that `function` computes, if it is a comparison operator's of two types.
pub fn comparison_of(function: &Function) -> Option<Comparison> {
    static KNOWN: OnceLock<HashMap<Oid, Comparison>> = OnceLock::new();
    KNOWN
        .get_or_init(|| {
            operators::all()
                .iter()
                .filter(|o| o.result == oids::BOOL && o.left.is_valid() && o.right.is_valid())
                .filter_map(|o| Some((o.function, Comparison::named(o.name)?)))
                .collect()
        })
        .get(&function.oid)
        .copied()
}

fn is_integer(ty: Oid) -> bool {
    ty == oids::INT4 || ty == oids::INT8 || ty == oids::INT2
}

fn is_string(ty: Oid) -> bool {
    ty == oids::TEXT || ty == oids::VARCHAR || ty == oids::NAME
}

/// The one order in which values of both types can be compared as they are.
pub fn shared_order(left: Oid, right: Oid) -> Option<Comparator> {
    // Two rows may turn out not to be comparable: the operator's function says so.
    if left == oids::RECORD {
        return None;
    }
    if left == right {
        return comparator(left);
    }
    if is_integer(left) && is_integer(right) {
        return Some(compare_integers);
    }
    if is_string(left) && is_string(right) {
        return comparator(oids::TEXT);
    }
    None
}

#[inline]
pub fn integer(value: &Datum) -> Option<i64> {
    match value {
        Datum::Int4(v) => Some(i64::from(*v)),
        Datum::Int8(v) => Some(*v),
        Datum::Int2(v) => Some(i64::from(*v)),
        _ => None,
    }
}

fn compare_integers(a: &Datum, b: &Datum) -> Ordering {
    integer(a).cmp(&integer(b))
}

/// The value of `left op right` where both are of types with a shared order.
fn comparison_result(op: Comparison, order: Comparator, a: &Datum, b: &Datum) -> Option<bool> {
    if a.is_null() || b.is_null() {
        return None;
    }
    Some(op.holds(order(a, b)))
}

/// Where an operand is found.
enum Operand {
    Slot(Slot),
    Param(usize),
    Const(Datum),
    Computed(EvalFn),
}

fn operand(expr: &Expr) -> Operand {
    if let Some(slot) = slot_of(expr) {
        return Operand::Slot(slot);
    }
    match expr {
        Expr::Const(value, _) => Operand::Const(value.clone()),
        Expr::Param(n, _) if *n < INIT_PLAN => Operand::Param(*n),
        Expr::Relabel { arg, .. } => operand(arg),
        other => Operand::Computed(compile_value(other)),
    }
}

/// The test, if `function` is a comparison of two types that share an order.
pub fn compile(function: &'static Function, args: &[Expr]) -> Option<TestFn> {
    let [left, right] = args else { return None };
    let op = comparison_of(function)?;
    if !function.strict {
        return None;
    }
    let (left_type, right_type) = (function.args[0], function.args[1]);
    let order = shared_order(left_type, right_type)?;
    if is_integer(left_type) && is_integer(right_type) {
        return Some(integers(op, operand(left), operand(right)));
    }
    Some(ordered(op, order, operand(left), operand(right)))
}

fn integers(op: Comparison, left: Operand, right: Operand) -> TestFn {
    match (left, right) {
        (Operand::Slot(a), Operand::Const(b)) => {
            let Some(b) = integer(&b) else {
                return Box::new(|_, _| Ok(None));
            };
            integer_const(op, a, b)
        }
        (Operand::Slot(a), Operand::Param(b)) => {
            Box::new(move |frame, cx| Ok(pair(op, integer(&frame[a]), integer(&cx.params[b]))))
        }
        (Operand::Slot(a), Operand::Slot(b)) => {
            Box::new(move |frame, _| Ok(pair(op, integer(&frame[a]), integer(&frame[b]))))
        }
        (left, right) => ordered(op, compare_integers, left, right),
    }
}

#[inline]
fn pair(op: Comparison, a: Option<i64>, b: Option<i64>) -> Option<bool> {
    Some(op.holds(a?.cmp(&b?)))
}

/// One closure for each operator, so that the loop over a table has no second dispatch.
fn integer_const(op: Comparison, slot: Slot, b: i64) -> TestFn {
    macro_rules! test {
        ($op:tt) => {
            Box::new(move |frame, _| Ok(integer(&frame[slot]).map(|a| a $op b)))
        };
    }
    match op {
        Comparison::Equal => test!(==),
        Comparison::NotEqual => test!(!=),
        Comparison::Less => test!(<),
        Comparison::LessEqual => test!(<=),
        Comparison::Greater => test!(>),
        Comparison::GreaterEqual => test!(>=),
    }
}

fn ordered(op: Comparison, order: Comparator, left: Operand, right: Operand) -> TestFn {
    match (left, right) {
        (Operand::Slot(a), Operand::Slot(b)) => {
            Box::new(move |frame, _| Ok(comparison_result(op, order, &frame[a], &frame[b])))
        }
        (Operand::Slot(a), Operand::Const(b)) => {
            Box::new(move |frame, _| Ok(comparison_result(op, order, &frame[a], &b)))
        }
        (Operand::Slot(a), Operand::Param(b)) => {
            Box::new(move |frame, cx| Ok(comparison_result(op, order, &frame[a], &cx.params[b])))
        }
        (Operand::Computed(a), Operand::Const(b)) => Box::new(move |frame, cx| {
            let a = a(frame, cx)?;
            Ok(comparison_result(op, order, &a, &b))
        }),
        (left, right) => {
            let (left, right) = (into_eval(left), into_eval(right));
            Box::new(move |frame, cx| {
                let a = left(frame, cx)?;
                let b = right(frame, cx)?;
                Ok(comparison_result(op, order, &a, &b))
            })
        }
    }
}

fn into_eval(operand: Operand) -> EvalFn {
    match operand {
        Operand::Slot(slot) => Box::new(move |frame, _| Ok(frame[slot].clone())),
        Operand::Param(n) => Box::new(move |_, cx| Ok(cx.params[n].clone())),
        Operand::Const(value) => Box::new(move |_, _| Ok(value.clone())),
        Operand::Computed(eval) => eval,
    }
}

/// IS [NOT] DISTINCT FROM: never NULL; two NULLs are not distinct.
pub fn is_distinct(equal: &'static Function, left: &Expr, right: &Expr, negated: bool) -> TestFn {
    let equals = call::binary(equal);
    let (left, right) = (compile_value(left), compile_value(right));
    Box::new(move |frame, cx| {
        let a = left(frame, cx)?;
        let b = right(frame, cx)?;
        let distinct = match (a.is_null(), b.is_null()) {
            (true, true) => false,
            (false, false) => !matches!(equals(&a, &b, cx)?, Datum::Bool(true)),
            _ => true,
        };
        Ok(Some(distinct != negated))
    })
}
