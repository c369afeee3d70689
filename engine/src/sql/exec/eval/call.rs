//! Calls of functions and operators, casts through text, length coercions.

use super::{EvalFn, arithmetic, compare};
use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{CallTypes, Function, Implementation, Scalar};
use crate::types::size;

pub fn compile(function: &'static Function, args: &[Expr], ty: SqlType) -> EvalFn {
    if let Some(fast) = arithmetic::compile(function, args) {
        return fast;
    }
    if let Some(test) = compare::compile(function, args) {
        return Box::new(move |frame, cx| Ok(test(frame, cx)?.map_or(Datum::Null, Datum::Bool)));
    }
    let types: Box<[Oid]> = args.iter().map(|a| a.ty().oid).collect();
    let args: Vec<EvalFn> = args.iter().map(super::compile).collect();
    match function.implementation {
        Implementation::Scalar(code) => plain(function.strict, code, args),
        Implementation::Typed(code) => {
            let strict = function.strict;
            Box::new(move |frame, cx| {
                let Some(values) = arguments(&args, strict, frame, cx)? else {
                    return Ok(Datum::Null);
                };
                let call = CallTypes {
                    args: &types,
                    result: ty.oid,
                };
                Ok(code(&values, call, &cx.function)?)
            })
        }
        Implementation::Host => Box::new(move |frame, cx| {
            let Some(values) = arguments(&args, function.strict, frame, cx)? else {
                return Ok(Datum::Null);
            };
            Ok(cx.function.host.call(function, &values)?)
        }),
        Implementation::Set(_) | Implementation::TypedSet(_) | Implementation::HostSet => {
            Box::new(move |_, _| {
                Err(SqlError::new(
                    state::FEATURE_NOT_SUPPORTED,
                    "set-valued function called in context that cannot accept a set",
                )
                .hint("Call the function in the FROM clause."))
            })
        }
    }
}

type Arguments = smallvec::SmallVec<[Datum; 4]>;

/// `None` if the function is strict and an argument is NULL; all arguments are computed all the same only up to it.
#[inline]
fn arguments(
    args: &[EvalFn],
    strict: bool,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<Option<Arguments>, SqlError> {
    let mut values = Arguments::new();
    let mut null = false;
    for arg in args {
        let value = arg(frame, cx)?;
        null |= value.is_null();
        values.push(value);
    }
    Ok((!(strict && null)).then_some(values))
}

/// The usual case, with the arguments on the stack.
fn plain(strict: bool, code: Scalar, mut args: Vec<EvalFn>) -> EvalFn {
    match args.len() {
        0 => Box::new(move |_, cx| Ok(code(&[], &cx.function)?)),
        1 => {
            let only = args.pop().expect("one argument");
            Box::new(move |frame, cx| {
                let value = only(frame, cx)?;
                if strict && value.is_null() {
                    return Ok(Datum::Null);
                }
                Ok(code(&[value], &cx.function)?)
            })
        }
        2 => {
            let second = args.pop().expect("two arguments");
            let first = args.pop().expect("two arguments");
            Box::new(move |frame, cx| {
                let values = [first(frame, cx)?, second(frame, cx)?];
                if strict && (values[0].is_null() || values[1].is_null()) {
                    return Ok(Datum::Null);
                }
                Ok(code(&values, &cx.function)?)
            })
        }
        _ => Box::new(move |frame, cx| {
            let Some(values) = arguments(&args, strict, frame, cx)? else {
                return Ok(Datum::Null);
            };
            Ok(code(&values, &cx.function)?)
        }),
    }
}

pub type BinaryFn =
    Box<dyn Fn(&Datum, &Datum, &mut EvalCx) -> Result<Datum, SqlError> + Send + Sync>;

/// A function of two values that are at hand; both are not NULL if it is strict.
pub fn binary(function: &'static Function) -> BinaryFn {
    match function.implementation {
        Implementation::Scalar(code) => {
            Box::new(move |a, b, cx| Ok(code(&[a.clone(), b.clone()], &cx.function)?))
        }
        Implementation::Typed(code) => Box::new(move |a, b, cx| {
            let call = CallTypes {
                args: function.args,
                result: function.returns,
            };
            Ok(code(&[a.clone(), b.clone()], call, &cx.function)?)
        }),
        Implementation::Host => Box::new(move |a, b, cx| {
            Ok(cx.function.host.call(function, &[a.clone(), b.clone()])?)
        }),
        _ => Box::new(|_, _, _| Err(SqlError::internal("an operator cannot return a set"))),
    }
}

pub fn via_text(arg: &Expr, ty: SqlType) -> EvalFn {
    let from = arg.ty().oid;
    let arg = compile_arg(arg);
    Box::new(move |frame, cx| {
        let value = arg(frame, cx)?;
        if value.is_null() {
            return Ok(Datum::Null);
        }
        codec::check_text(&value, &cx.function)?;
        let text = codec::to_text(from, &value, &cx.function);
        size::check(text.len())?;
        Ok(codec::parse_text(ty, &text, &cx.function)?)
    })
}

pub fn coerce(arg: &Expr, ty: SqlType, explicit: bool) -> EvalFn {
    let arg = compile_arg(arg);
    Box::new(move |frame, cx| {
        let value = arg(frame, cx)?;
        if value.is_null() {
            return Ok(Datum::Null);
        }
        Ok(codec::coerce_length(ty, value, explicit)?)
    })
}

fn compile_arg(arg: &Expr) -> EvalFn {
    super::compile(arg)
}
