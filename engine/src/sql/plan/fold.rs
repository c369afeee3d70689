//! Constant expressions computed ahead.
//!
//! Only what gives the same result at every execution: immutable functions of constants. A computation that fails
//! is left where it is, to fail (or not to be reached) at run time.

use crate::sql::bound::Expr;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval;
use crate::sql::plan::exprs::{children, children_mut};
use crate::types::datum::Datum;
use crate::types::function::{Implementation, Volatility};

pub fn fold(expr: &mut Expr, cx: &mut EvalCx) {
    children_mut(expr, &mut |part| fold(part, cx));
    simplify(expr);
    if !is_computable(expr) {
        return;
    }
    let mut constant = true;
    children(expr, &mut |part| {
        constant &= matches!(part, Expr::Const(..))
    });
    if !constant {
        return;
    }
    if let Ok(value) = eval::compile(expr)(&[], cx) {
        *expr = Expr::Const(value, expr.ty());
    }
}

fn is_computable(expr: &Expr) -> bool {
    match expr {
        Expr::Call { function, .. } => {
            function.volatility == Volatility::Immutable
                && matches!(
                    function.implementation,
                    Implementation::Scalar(_) | Implementation::Typed(_)
                )
        }
        Expr::Coerce { .. }
        | Expr::Relabel { .. }
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::ArrayLiteral { .. } => true,
        _ => false,
    }
}

/// AND and OR without the parts that decide nothing.
fn simplify(expr: &mut Expr) {
    let (parts, neutral) = match expr {
        Expr::And(parts) => (parts, true),
        Expr::Or(parts) => (parts, false),
        _ => return,
    };
    let ty = crate::types::datum::SqlType::plain(crate::types::oids::BOOL);
    let is =
        |part: &Expr, value: bool| matches!(part, Expr::Const(Datum::Bool(b), _) if *b == value);
    if parts.iter().any(|p| is(p, !neutral)) {
        *expr = Expr::Const(Datum::Bool(!neutral), ty);
        return;
    }
    parts.retain(|p| !is(p, neutral));
    match parts.len() {
        0 => *expr = Expr::Const(Datum::Bool(neutral), ty),
        1 => *expr = parts.pop().expect("one part"),
        _ => {}
    }
}
