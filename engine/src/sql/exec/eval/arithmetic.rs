//! The integer additions and subtractions that statements spend their time in, without the argument slice.

use super::{EvalFn, compile as compile_value};
use crate::sql::bound::Expr;
use crate::sql::error::{SqlError, state};
use crate::types::datum::Datum;
use crate::types::function::Function;

/// `pg_proc` oids of the operators' functions.
const INT4_PLUS: u32 = 177;
const INT4_MINUS: u32 = 181;
const INT8_PLUS: u32 = 463;
const INT8_MINUS: u32 = 464;

fn out_of_range(ty: &str) -> SqlError {
    SqlError::new(state::NUMERIC_OUT_OF_RANGE, format!("{ty} out of range"))
}

macro_rules! binary {
    ($args:expr, $variant:ident, $method:ident, $name:literal) => {{
        let (left, right) = (compile_value(&$args[0]), compile_value(&$args[1]));
        let made: EvalFn = Box::new(
            move |frame, cx| match (left(frame, cx)?, right(frame, cx)?) {
                (Datum::$variant(a), Datum::$variant(b)) => a
                    .$method(b)
                    .map(Datum::$variant)
                    .ok_or_else(|| out_of_range($name)),
                _ => Ok(Datum::Null),
            },
        );
        Some(made)
    }};
}

pub fn compile(function: &Function, args: &[Expr]) -> Option<EvalFn> {
    if args.len() != 2 {
        return None;
    }
    match function.oid.raw() {
        INT4_PLUS => binary!(args, Int4, checked_add, "integer"),
        INT4_MINUS => binary!(args, Int4, checked_sub, "integer"),
        INT8_PLUS => binary!(args, Int8, checked_add, "bigint"),
        INT8_MINUS => binary!(args, Int8, checked_sub, "bigint"),
        _ => None,
    }
}
