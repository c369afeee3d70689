//! Expressions compiled once to closures over a frame of slots.
//!
//! Owns: the meaning of every [`Expr`] at run time. An expression given here is *lowered*: its columns are
//! frame slots (`ColumnRef::range == FRAME`), its subqueries are init plans (`Expr::Param` from [`INIT_PLAN`]
//! up) or runs of a plan (`Expr::SubPlan`), values of rows around it are `Expr::Param` from [`OUTER_VALUE`] up, it
//! holds no `Group`, `Aggregate`, `Window`, `Outer` or `SystemColumn`. A compiled closure is shared by every execution of
//! a plan, so it keeps no state. It must not know a page or a node. A crash leaves nothing behind.

mod arithmetic;
mod branch;
mod call;
mod compare;
mod list;
mod logic;
mod subplan;

use std::fmt;

use crate::sql::bound::{ColumnRef, Expr};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::types::datum::{Datum, SqlType};

pub use compare::{Comparison, comparison_of, shared_order};

/// Position in the frame.
pub type Slot = usize;

/// `ColumnRef::range` of a lowered column: `column` is a slot.
pub const FRAME: usize = usize::MAX;

/// `Expr::Param` numbers from here up are results of init plans.
pub const INIT_PLAN: usize = 1 << 40;

/// `Expr::Param` numbers from here up are values of rows around a subquery.
pub const OUTER_VALUE: usize = 1 << 41;

pub type EvalFn = Box<dyn Fn(&[Datum], &mut EvalCx) -> Result<Datum, SqlError> + Send + Sync>;
/// Three-valued: `None` is NULL.
pub type TestFn =
    Box<dyn Fn(&[Datum], &mut EvalCx) -> Result<Option<bool>, SqlError> + Send + Sync>;

/// A lowered expression with its closure.
pub struct Scalar {
    source: Expr,
    eval: Option<EvalFn>,
}

/// A lowered condition with its closure; a row passes if it is true.
pub struct Test {
    source: Expr,
    test: Option<TestFn>,
}

impl Scalar {
    /// Not yet callable: [`Scalar::compile`] comes when the plan is settled, so that paths which lose cost nothing.
    pub fn new(source: Expr) -> Scalar {
        Scalar { source, eval: None }
    }
    pub fn compiled(source: Expr) -> Scalar {
        let mut made = Scalar::new(source);
        made.compile();
        made
    }
    pub fn compile(&mut self) {
        if self.eval.is_none() {
            self.eval = Some(compile(&self.source));
        }
    }
    pub fn source(&self) -> &Expr {
        &self.source
    }
    #[inline]
    pub fn eval(&self, frame: &[Datum], cx: &mut EvalCx) -> Result<Datum, SqlError> {
        (self.eval.as_ref().expect("settled plans are compiled"))(frame, cx)
    }
    /// The slot, if the expression is nothing but one.
    pub fn slot(&self) -> Option<Slot> {
        slot_of(&self.source)
    }
}

impl Test {
    pub fn new(source: Expr) -> Test {
        Test { source, test: None }
    }
    pub fn compiled(source: Expr) -> Test {
        let mut made = Test::new(source);
        made.compile();
        made
    }
    /// The conjunction, or `None` of nothing.
    pub fn all(mut conditions: Vec<Expr>) -> Option<Test> {
        match conditions.len() {
            0 => None,
            1 => conditions.pop().map(Test::new),
            _ => Some(Test::new(Expr::And(conditions))),
        }
    }
    pub fn compile(&mut self) {
        if self.test.is_none() {
            self.test = Some(compile_test(&self.source));
        }
    }
    pub fn source(&self) -> &Expr {
        &self.source
    }
    #[inline]
    pub fn passes(&self, frame: &[Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
        Ok(self.value(frame, cx)? == Some(true))
    }
    #[inline]
    pub fn value(&self, frame: &[Datum], cx: &mut EvalCx) -> Result<Option<bool>, SqlError> {
        (self.test.as_ref().expect("settled plans are compiled"))(frame, cx)
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// A lowered column.
pub fn slot_expr(slot: Slot, ty: SqlType) -> Expr {
    Expr::Column(ColumnRef {
        range: FRAME,
        column: slot,
        ty,
    })
}

/// The slot that a lowered expression is, relabelled or not.
pub fn slot_of(expr: &Expr) -> Option<Slot> {
    match expr {
        Expr::Column(c) if c.range == FRAME => Some(c.column),
        Expr::Relabel { arg, .. } => slot_of(arg),
        _ => None,
    }
}

fn not_lowered(what: &'static str) -> EvalFn {
    Box::new(move |_, _| {
        Err(SqlError::internal(format!(
            "expression was not prepared for execution: {what}"
        )))
    })
}

/// The closure that computes `expr`.
pub fn compile(expr: &Expr) -> EvalFn {
    match expr {
        Expr::Const(value, _) => {
            let value = value.clone();
            Box::new(move |_, _| Ok(value.clone()))
        }
        Expr::Param(n, _) if *n >= OUTER_VALUE => {
            let number = *n - OUTER_VALUE;
            Box::new(move |_, cx| Ok(cx.outer[number].0.clone()))
        }
        Expr::Param(n, _) if *n >= INIT_PLAN => {
            let plan = *n - INIT_PLAN;
            Box::new(move |_, cx| cx.init_value(plan))
        }
        Expr::Param(n, _) => {
            let n = *n;
            Box::new(move |_, cx| Ok(cx.params[n].clone()))
        }
        Expr::Column(c) if c.range == FRAME => {
            let slot = c.column;
            Box::new(move |frame, _| Ok(frame[slot].clone()))
        }
        Expr::Column(_) => not_lowered("column"),
        Expr::Group(..) => not_lowered("group expression"),
        Expr::Aggregate(..) => not_lowered("aggregate"),
        Expr::Window(..) => not_lowered("window function"),
        Expr::Subquery(_) => not_lowered("subquery"),
        Expr::Outer(_) => not_lowered("value of a level around"),
        Expr::SubPlan(call) => subplan::value(call),
        Expr::SystemColumn { .. } => not_lowered("system column"),
        Expr::SetToDefault(_) => not_lowered("DEFAULT"),
        Expr::Call { function, args, ty } => call::compile(function, args, *ty),
        Expr::CastViaText { arg, ty } => call::via_text(arg, *ty),
        Expr::Coerce { arg, ty, explicit } => call::coerce(arg, *ty, *explicit),
        Expr::Relabel { arg, .. } => compile(arg),
        Expr::And(_)
        | Expr::Or(_)
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::IsDistinct { .. }
        | Expr::AnyOf { .. }
        | Expr::AnyArray { .. }
        | Expr::AnyRow { .. } => {
            let test = compile_test(expr);
            Box::new(move |frame, cx| {
                Ok(match test(frame, cx)? {
                    Some(b) => Datum::Bool(b),
                    None => Datum::Null,
                })
            })
        }
        Expr::Case {
            operand,
            arms,
            otherwise,
            ..
        } => {
            let case = branch::case(arms, otherwise.as_deref());
            match operand {
                Some(operand) => branch::with_operand(operand, case),
                None => case,
            }
        }
        Expr::CaseTest(_) => Box::new(|_, cx| Ok(cx.tested.last().cloned().unwrap_or(Datum::Null))),
        Expr::Coalesce(args, _) => branch::coalesce(args),
        Expr::NullIf { equal, left, right } => branch::null_if(equal, left, right),
        Expr::MinMax { args, greatest, ty } => branch::min_max(args, *greatest, *ty),
        Expr::ArrayLiteral { items, ty } => list::array_literal(items, *ty),
        Expr::Row(items) => list::row(items),
    }
}

/// The closure that tests `expr`, which is a boolean.
pub fn compile_test(expr: &Expr) -> TestFn {
    match expr {
        Expr::Const(value, _) => {
            let value = truth(value);
            Box::new(move |_, _| Ok(value))
        }
        Expr::Column(c) if c.range == FRAME => {
            let slot = c.column;
            Box::new(move |frame, _| Ok(truth(&frame[slot])))
        }
        Expr::And(parts) => logic::and(parts),
        Expr::Or(parts) => logic::or(parts),
        Expr::Not(arg) => logic::not(arg),
        Expr::IsNull { arg, negated } => logic::is_null(arg, *negated),
        Expr::BoolTest { arg, is, negated } => logic::bool_test(arg, *is, *negated),
        Expr::IsDistinct {
            equal,
            left,
            right,
            negated,
        } => compare::is_distinct(equal, left, right, *negated),
        Expr::AnyOf {
            function,
            left,
            items,
            all,
        } => list::any_of(function, left, items, *all),
        Expr::AnyArray {
            function,
            left,
            array,
            all,
        } => list::any_array(function, left, array, *all),
        Expr::AnyRow { left, rows, test } => list::any_row(left, rows, test),
        Expr::Call { function, args, .. } => match compare::compile(function, args) {
            Some(test) => test,
            None => value_test(compile(expr)),
        },
        other => value_test(compile(other)),
    }
}

fn value_test(eval: EvalFn) -> TestFn {
    Box::new(move |frame, cx| Ok(truth(&eval(frame, cx)?)))
}

#[inline]
pub(crate) fn truth(value: &Datum) -> Option<bool> {
    match value {
        Datum::Bool(b) => Some(*b),
        _ => None,
    }
}
