//! Constant expressions computed ahead (`eval_const_expressions`).
//!
//! Only what gives the same result at every execution: immutable functions of constants. As in PostgreSQL an error
//! shows while the plan is made, even if no row would ever reach it; parts that a constant test of CASE, COALESCE,
//! AND or OR cuts off are not looked at.

use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval;
use crate::sql::plan::exprs::{children, children_mut};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{Function, Implementation, Volatility};
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

pub fn fold(expr: &mut Expr, cx: &mut EvalCx) -> Result<()> {
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
        let value = eval::compile(expr)(&[], cx)?;
        *expr = Expr::Const(value, expr.ty());
    }
    Ok(())
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
        Expr::Coerce { .. }
        | Expr::Relabel { .. }
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::ArrayLiteral { .. } => true,
        _ => false,
    }
}

fn fold_case(expr: &mut Expr, cx: &mut EvalCx) -> Result<()> {
    let Expr::Case {
        arms,
        otherwise,
        ty,
    } = expr
    else {
        return Ok(());
    };
    let ty = *ty;
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
            arms: kept,
            otherwise: last,
            ty,
        }
    };
    Ok(())
}

fn fold_coalesce(expr: &mut Expr, cx: &mut EvalCx) -> Result<()> {
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
fn fold_logic(expr: &mut Expr, cx: &mut EvalCx) -> Result<()> {
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
