//! Going over bound expressions, and telling whether two are the same.

use crate::sql::bound::{Expr, SubqueryKind};
use crate::types::datum::Datum;

/// Calls `f` on each direct part of `expr`; a subquery's own expressions are its own.
pub fn parts<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce(args, _)
        | Expr::MinMax { args, .. }
        | Expr::Row(args)
        | Expr::ArrayLiteral { items: args, .. } => args.iter().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
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
            if let Some(e) = operand {
                f(e);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(e) = otherwise {
                f(e);
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
        Expr::Subquery(s) => match &s.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
        _ => {}
    }
}

/// The same, to change them.
pub fn parts_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce(args, _)
        | Expr::MinMax { args, .. }
        | Expr::Row(args)
        | Expr::ArrayLiteral { items: args, .. } => args.iter_mut().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
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
            if let Some(e) = operand {
                f(e);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(e) = otherwise {
                f(e);
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
        Expr::Subquery(s) => match &mut s.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter_mut().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
        _ => {}
    }
}

/// True if `test` holds for `expr` or anything in it.
pub fn any(expr: &Expr, test: &dyn Fn(&Expr) -> bool) -> bool {
    if test(expr) {
        return true;
    }
    let mut found = false;
    parts(expr, &mut |part| found = found || any(part, test));
    found
}

/// True if it reads range 0, a system column included.
pub fn reads_columns(expr: &Expr) -> bool {
    any(expr, &|e| match e {
        Expr::Column(c) => c.range == 0,
        Expr::SystemColumn { range, .. } => *range == 0,
        _ => false,
    })
}

/// The same expression: PostgreSQL's `equal()`, by which ORDER BY and GROUP BY find select-list entries.
pub fn same(a: &Expr, b: &Expr) -> bool {
    if !same_head(a, b) {
        return false;
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    parts(a, &mut |e| left.push(e));
    parts(b, &mut |e| right.push(e));
    left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| same(a, b))
}

fn same_head(a: &Expr, b: &Expr) -> bool {
    if std::mem::discriminant(a) != std::mem::discriminant(b) || a.ty() != b.ty() {
        return false;
    }
    match (a, b) {
        (Expr::Const(x, _), Expr::Const(y, _)) => same_value(x, y),
        (Expr::Param(x, _), Expr::Param(y, _)) => x == y,
        (Expr::Column(x), Expr::Column(y)) => x == y,
        (Expr::Group(x, _), Expr::Group(y, _)) | (Expr::Aggregate(x, _), Expr::Aggregate(y, _)) => {
            x == y
        }
        (Expr::Call { function: x, .. }, Expr::Call { function: y, .. })
        | (Expr::NullIf { equal: x, .. }, Expr::NullIf { equal: y, .. }) => x.oid == y.oid,
        (Expr::Coerce { explicit: x, .. }, Expr::Coerce { explicit: y, .. }) => x == y,
        (Expr::IsNull { negated: x, .. }, Expr::IsNull { negated: y, .. }) => x == y,
        (
            Expr::BoolTest { is, negated, .. },
            Expr::BoolTest {
                is: is2,
                negated: negated2,
                ..
            },
        ) => is == is2 && negated == negated2,
        (
            Expr::IsDistinct { equal, negated, .. },
            Expr::IsDistinct {
                equal: equal2,
                negated: negated2,
                ..
            },
        ) => equal.oid == equal2.oid && negated == negated2,
        (
            Expr::Case {
                operand,
                arms,
                otherwise,
                ..
            },
            Expr::Case {
                operand: operand2,
                arms: arms2,
                otherwise: otherwise2,
                ..
            },
        ) => {
            operand.is_some() == operand2.is_some()
                && arms.len() == arms2.len()
                && otherwise.is_some() == otherwise2.is_some()
        }
        (Expr::MinMax { greatest: x, .. }, Expr::MinMax { greatest: y, .. }) => x == y,
        (
            Expr::AnyOf { function, all, .. },
            Expr::AnyOf {
                function: function2,
                all: all2,
                ..
            },
        )
        | (
            Expr::AnyArray { function, all, .. },
            Expr::AnyArray {
                function: function2,
                all: all2,
                ..
            },
        ) => function.oid == function2.oid && all == all2,
        (
            Expr::SystemColumn { range, column },
            Expr::SystemColumn {
                range: range2,
                column: column2,
            },
        ) => range == range2 && column == column2,
        // Bound alike means the same: there is no place of the text in it.
        (Expr::Subquery(x), Expr::Subquery(y)) => format!("{x:?}") == format!("{y:?}"),
        (Expr::AnyRow { test: x, .. }, Expr::AnyRow { test: y, .. }) => {
            format!("{x:?}") == format!("{y:?}")
        }
        _ => true,
    }
}

/// Bit for bit, as far as constants of a statement need it; not found equal is always safe.
fn same_value(a: &Datum, b: &Datum) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b) && format!("{a:?}") == format!("{b:?}")
}
