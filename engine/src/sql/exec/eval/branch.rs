//! CASE, COALESCE, NULLIF, GREATEST and LEAST: expressions that choose one of their arguments.

use std::cmp::Ordering;

use super::{EvalFn, TestFn, call, compile, compile_test};
use crate::sql::bound::Expr;
use crate::sql::error::{SqlError, state};
use crate::types::compare::comparator;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::Function;
use crate::types::registry::format_type;

/// Arms are looked at in order and only the chosen one is computed.
pub fn case(arms: &[(Expr, Expr)], otherwise: Option<&Expr>) -> EvalFn {
    let arms: Vec<(TestFn, EvalFn)> = arms
        .iter()
        .map(|(when, then)| (compile_test(when), compile(then)))
        .collect();
    let otherwise = otherwise.map(compile);
    Box::new(move |frame, cx| {
        for (when, then) in &arms {
            if when(frame, cx)? == Some(true) {
                return then(frame, cx);
            }
        }
        match &otherwise {
            Some(eval) => eval(frame, cx),
            None => Ok(Datum::Null),
        }
    })
}

/// CASE with an operand that is computed once; conditions find it in [`EvalCx::tested`].
///
/// [`EvalCx::tested`]: crate::sql::exec::cx::EvalCx::tested
pub fn with_operand(operand: &Expr, case: EvalFn) -> EvalFn {
    let operand = compile(operand);
    Box::new(move |frame, cx| {
        let value = operand(frame, cx)?;
        cx.tested.push(value);
        let result = case(frame, cx);
        cx.tested.pop();
        result
    })
}

pub fn coalesce(args: &[Expr]) -> EvalFn {
    let args: Vec<EvalFn> = args.iter().map(compile).collect();
    Box::new(move |frame, cx| {
        for arg in &args {
            let value = arg(frame, cx)?;
            if !value.is_null() {
                return Ok(value);
            }
        }
        Ok(Datum::Null)
    })
}

pub fn null_if(equal: &'static Function, left: &Expr, right: &Expr) -> EvalFn {
    let equals = call::binary(equal);
    let (left, right) = (compile(left), compile(right));
    Box::new(move |frame, cx| {
        let a = left(frame, cx)?;
        let b = right(frame, cx)?;
        if a.is_null() || b.is_null() {
            return Ok(a);
        }
        match equals(&a, &b, cx)? {
            Datum::Bool(true) => Ok(Datum::Null),
            _ => Ok(a),
        }
    })
}

/// GREATEST and LEAST skip NULLs.
pub fn min_max(args: &[Expr], greatest: bool, ty: SqlType) -> EvalFn {
    let Some(compare) = comparator(ty.oid) else {
        let shown = format_type(ty).into_owned();
        return Box::new(move |_, _| {
            Err(SqlError::new(
                state::UNDEFINED_FUNCTION,
                format!("could not identify a comparison function for type {shown}"),
            ))
        });
    };
    let wanted = if greatest {
        Ordering::Greater
    } else {
        Ordering::Less
    };
    let args: Vec<EvalFn> = args.iter().map(compile).collect();
    Box::new(move |frame, cx| {
        let mut best = Datum::Null;
        for arg in &args {
            let value = arg(frame, cx)?;
            if value.is_null() {
                continue;
            }
            if best.is_null() || compare(&value, &best) == wanted {
                best = value;
            }
        }
        Ok(best)
    })
}
