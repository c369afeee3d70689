//! Where PostgreSQL would say that an expression is (`exprLocation`): its leftmost token.

use super::ast::{Expr, ExprKind};

pub fn location(expr: &Expr) -> u32 {
    match &expr.kind {
        ExprKind::Operator { left: Some(l), .. }
        | ExprKind::Quantified { left: l, .. }
        | ExprKind::IsDistinct { left: l, .. } => location(l).min(expr.at),
        ExprKind::IsNull { arg, .. }
        | ExprKind::BoolTest { arg, .. }
        | ExprKind::Between { arg, .. }
        | ExprKind::In { arg, .. }
        | ExprKind::Like { arg, .. }
        | ExprKind::Collate { arg, .. }
        | ExprKind::Cast { arg, .. } => location(arg).min(expr.at),
        ExprKind::And(items) | ExprKind::Or(items) => {
            items.first().map_or(expr.at, |i| location(i).min(expr.at))
        }
        ExprKind::Call(call) if call.sql_syntax => call
            .args
            .iter()
            .map(|a| location(&a.value))
            .fold(expr.at, u32::min),
        _ => expr.at,
    }
}

/// The same before it is analysed: then `json '1'` begins with its type, later with its text.
pub fn location_as_written(expr: &Expr) -> u32 {
    match &expr.kind {
        ExprKind::Cast { ty, .. } => location(expr).min(ty.at),
        _ => location(expr),
    }
}
