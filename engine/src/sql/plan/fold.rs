//! Constant expressions computed ahead (`eval_const_expressions`).
//!
//! Only what gives the same result at every execution: immutable functions of constants. As in PostgreSQL an error
//! shows while the plan is made, even if no row would ever reach it; parts that a constant test of CASE, COALESCE,
//! AND or OR cuts off are not looked at, subqueries in them included: so it comes before those are planned.

use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval;
use crate::sql::plan::exprs::{children, children_mut};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{Function, Implementation, Volatility};
use crate::types::numeric::precision_scale;
use crate::types::{casts, oids};

type Result<T> = std::result::Result<T, SqlError>;

/// What computes constants, and what it came upon.
pub struct Folding {
    pub cx: EvalCx,
    /// Something that may fail and reads nothing but parameters: with constants in their place it would be computed
    /// here, and its error would be told even if no row reached it.
    pub would_compute: bool,
    /// Parameters up to this one, of either sign, fit where the statement puts them: a larger one might fail here.
    pub largest_taken: i32,
}

impl Folding {
    /// What constants in the place of the expression's parameters would have brought about.
    fn note(&mut self, expr: &Expr) {
        let fails = !self.would_compute && may_fail(expr);
        let largest = largest_taken(expr);
        if (fails || largest < self.largest_taken) && all_given(expr) {
            self.would_compute |= fails;
            self.largest_taken = self.largest_taken.min(largest);
        }
    }
}

pub fn fold(expr: &mut Expr, cx: &mut Folding) -> Result<()> {
    match expr {
        Expr::Case { .. } => return fold_case(expr, cx),
        Expr::Coalesce(..) => return fold_coalesce(expr, cx),
        Expr::And(_) | Expr::Or(_) => return fold_logic(expr, cx),
        _ => {}
    }
    let mut failed = None;
    children_mut(expr, &mut |part| {
        if failed.is_none() {
            failed = fold(part, cx).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if strict_call_of_null(expr) {
        *expr = Expr::Const(Datum::Null, expr.ty());
        return Ok(());
    }
    if is_computable(expr) && all_constant(expr) {
        let value = eval::compile(expr)(&[], &mut cx.cx)?;
        *expr = Expr::Const(value, expr.ty());
    } else {
        cx.note(expr);
    }
    Ok(())
}

/// It reads nothing but constants and parameters.
fn all_given(expr: &Expr) -> bool {
    let mut given = true;
    children(expr, &mut |part| {
        given &= match part {
            Expr::Const(..) | Expr::Param(..) => true,
            other => is_computable(other) && all_given(other),
        }
    });
    given
}

/// An immutable call that has errors of its own. Signs and comparisons, which stand in very many statements, have none;
/// casts have none for numbers that are small enough ([`largest_taken`]).
fn may_fail(expr: &Expr) -> bool {
    const INT4_NEGATED: Oid = Oid::new(212);
    let Expr::Call { function, .. } = expr else {
        return false;
    };
    is_computable(expr)
        && function.oid != INT4_NEGATED
        && !casts::is_cast(function.oid)
        && eval::comparison_of(function).is_none()
}

/// The largest whole number, with a sign or without, that a cast or a length coercion takes.
fn largest_taken(expr: &Expr) -> i32 {
    let of_digits = |digits: i32| match u32::try_from(digits) {
        Ok(digits) => 10_i32.checked_pow(digits).map_or(i32::MAX, |n| n - 1),
        Err(_) => 0,
    };
    match expr {
        Expr::Call { function, ty, .. } => match ty.oid {
            oids::INT2 if casts::is_cast(function.oid) => i32::from(i16::MAX),
            _ => i32::MAX,
        },
        Expr::Coerce { ty, explicit, .. } => match ty.oid {
            oids::NUMERIC => match precision_scale(ty.modifier) {
                Some((precision, scale @ 0..)) => of_digits(precision - scale),
                Some(_) => 0,
                None => i32::MAX,
            },
            // Their modifiers count 4 more than the length, and one place is the sign's.
            oids::VARCHAR | oids::BPCHAR if !*explicit => of_digits(ty.modifier - 5),
            _ => i32::MAX,
        },
        _ => i32::MAX,
    }
}

fn all_constant(expr: &Expr) -> bool {
    let mut constant = true;
    children(expr, &mut |part| {
        constant &= matches!(part, Expr::Const(..))
    });
    constant
}

fn is_plain(function: &Function) -> bool {
    matches!(
        function.implementation,
        Implementation::Scalar(_) | Implementation::Typed(_)
    )
}

fn strict_call_of_null(expr: &Expr) -> bool {
    let Expr::Call { function, args, .. } = expr else {
        return false;
    };
    function.strict
        && is_plain(function)
        && args
            .iter()
            .any(|arg| matches!(arg, Expr::Const(Datum::Null, _)))
}

fn is_computable(expr: &Expr) -> bool {
    let immutable =
        |function: &Function| function.volatility == Volatility::Immutable && is_plain(function);
    match expr {
        Expr::Call { function, .. } => immutable(function),
        Expr::IsDistinct { equal, .. } | Expr::NullIf { equal, .. } => immutable(equal),
        Expr::AnyOf { function, .. } | Expr::AnyArray { function, .. } => immutable(function),
        Expr::CastViaText { arg, ty } => reads_alike(arg.ty().oid) && reads_alike(ty.oid),
        Expr::Coerce { .. }
        | Expr::Relabel { .. }
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::MinMax { .. }
        | Expr::ArrayLiteral { .. } => true,
        _ => false,
    }
}

/// The type's text is written and read the same way at all times: its input and output functions are immutable.
fn reads_alike(ty: Oid) -> bool {
    matches!(
        ty,
        oids::BOOL
            | oids::INT2
            | oids::INT4
            | oids::INT8
            | oids::FLOAT4
            | oids::FLOAT8
            | oids::NUMERIC
            | oids::TEXT
            | oids::VARCHAR
            | oids::BPCHAR
            | oids::NAME
            | oids::CHAR
            | oids::BYTEA
            | oids::UUID
            | oids::OID
            | oids::JSON
            | oids::JSONB
    )
}

fn fold_case(expr: &mut Expr, cx: &mut Folding) -> Result<()> {
    let Expr::Case {
        operand,
        arms,
        otherwise,
        ty,
    } = expr
    else {
        return Ok(());
    };
    let ty = *ty;
    let mut operand = operand.take();
    if let Some(operand) = &mut operand {
        fold(operand, cx)?;
    }
    let mut kept = Vec::with_capacity(arms.len());
    let mut last = otherwise.take();
    for (mut when, mut then) in std::mem::take(arms) {
        fold(&mut when, cx)?;
        match when {
            Expr::Const(Datum::Bool(true), _) => {
                last = Some(Box::new(then));
                break;
            }
            Expr::Const(..) => {}
            _ => {
                fold(&mut then, cx)?;
                kept.push((when, then));
            }
        }
    }
    if let Some(last) = &mut last {
        fold(last, cx)?;
    }
    *expr = if kept.is_empty() {
        last.map_or(Expr::Const(Datum::Null, ty), |e| *e)
    } else {
        Expr::Case {
            operand,
            arms: kept,
            otherwise: last,
            ty,
        }
    };
    Ok(())
}

fn fold_coalesce(expr: &mut Expr, cx: &mut Folding) -> Result<()> {
    let Expr::Coalesce(items, ty) = expr else {
        return Ok(());
    };
    let ty = *ty;
    let mut kept = Vec::with_capacity(items.len());
    for mut item in std::mem::take(items) {
        fold(&mut item, cx)?;
        match item {
            Expr::Const(Datum::Null, _) => {}
            Expr::Const(..) => {
                kept.push(item);
                break;
            }
            _ => kept.push(item),
        }
    }
    *expr = match kept.len() {
        0 => Expr::Const(Datum::Null, ty),
        1 => kept.pop().expect("one item"),
        _ => Expr::Coalesce(kept, ty),
    };
    Ok(())
}

/// AND and OR without the parts that decide nothing; what stands behind a deciding constant is not looked at.
fn fold_logic(expr: &mut Expr, cx: &mut Folding) -> Result<()> {
    let (parts, neutral) = match expr {
        Expr::And(parts) => (std::mem::take(parts), true),
        Expr::Or(parts) => (std::mem::take(parts), false),
        _ => return Ok(()),
    };
    let ty = SqlType::plain(oids::BOOL);
    let mut kept = Vec::with_capacity(parts.len());
    let mut null = false;
    for mut part in parts {
        fold(&mut part, cx)?;
        match part {
            Expr::Const(Datum::Bool(value), _) if value == neutral => {}
            Expr::Const(Datum::Bool(_), _) => {
                *expr = part;
                return Ok(());
            }
            Expr::Const(Datum::Null, _) => null = true,
            _ => kept.push(part),
        }
    }
    // One NULL is as good as many.
    if null {
        kept.push(Expr::Const(Datum::Null, ty));
    }
    *expr = match kept.len() {
        0 => Expr::Const(Datum::Bool(neutral), ty),
        1 => kept.pop().expect("one part"),
        _ if neutral => Expr::And(kept),
        _ => Expr::Or(kept),
    };
    Ok(())
}
