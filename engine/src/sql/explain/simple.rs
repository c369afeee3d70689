//! Where an expression needs parentheses among others, where they are only written when they are needed (`isSimpleNode`).

use super::expression::operator_of;
use crate::sql::bound::Expr;
use crate::types::datum::Datum;
use crate::types::function::Operator;
use crate::types::functions::{self, IN_SQL_WORDS};
use crate::types::{casts, oids};

/// What decides about parentheses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A word, or something with parentheses of its own.
    Closed,
    /// A plain call: its arguments stand in its parentheses.
    Call,
    /// A cast by a function, or a call in SQL's words.
    Words,
    /// A cast without a function: as simple as what is cast.
    Label,
    /// Parts stand between commas or keywords.
    List,
    Operator,
    /// IS NULL, IS TRUE, IS DISTINCT FROM.
    Test,
    Logic(Logic),
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Logic {
    And,
    Or,
    Not,
}

fn shape(expr: &Expr) -> Shape {
    match expr {
        Expr::Const(..)
        | Expr::Param(..)
        | Expr::Column(_)
        | Expr::Group(..)
        | Expr::Aggregate(..)
        | Expr::Window(..)
        | Expr::CaseTest(_) => Shape::Closed,
        Expr::Call { function, args, .. } => match (operator_of(function.oid), args.as_slice()) {
            _ if function.oid == IN_SQL_WORDS => Shape::Words,
            _ if functions::is_subscript(function.oid) => Shape::List,
            (Some(op), [arg]) if is_negated_number(op, arg) => Shape::Closed,
            (Some(op), [_]) if !op.left.is_valid() => Shape::Operator,
            (Some(_), [_, _]) => Shape::Operator,
            (_, [_, ..]) if casts::is_cast(function.oid) => Shape::Words,
            _ => Shape::Call,
        },
        // A cast that is not shown and has no function.
        Expr::Coerce {
            explicit: false,
            ty,
            ..
        } if ty.modifier < 0 => Shape::Label,
        Expr::Coerce { .. } => Shape::Words,
        Expr::Relabel { .. } | Expr::CastViaText { .. } => Shape::Label,
        Expr::And(_) => Shape::Logic(Logic::And),
        Expr::Or(_) => Shape::Logic(Logic::Or),
        Expr::Not(_) => Shape::Logic(Logic::Not),
        Expr::IsNull { .. } | Expr::BoolTest { .. } | Expr::IsDistinct { .. } => Shape::Test,
        Expr::Case { .. }
        | Expr::Coalesce(..)
        | Expr::NullIf { .. }
        | Expr::MinMax { .. }
        | Expr::ArrayLiteral { .. }
        | Expr::Row(_) => Shape::List,
        _ => Shape::Other,
    }
}

/// A number behind a minus sign, of which the parser makes one constant (`doNegate`).
pub(super) fn is_negated_number(op: &Operator, arg: &Expr) -> bool {
    let is_positive = match arg {
        Expr::Const(Datum::Int4(n), ty) => ty.oid == oids::INT4 && *n >= 0,
        Expr::Const(Datum::Int8(n), ty) => ty.oid == oids::INT8 && *n >= 0,
        Expr::Const(Datum::Numeric(n), _) => !n.to_string().starts_with('-'),
        _ => false,
    };
    is_positive && op.name == "-" && !op.left.is_valid()
}

/// Whether `node` stands in `parent` without parentheses of its own.
pub(super) fn is_simple(node: &Expr, parent: &Expr) -> bool {
    let around = shape(parent);
    let own = match node {
        // The opposite of IS DISTINCT FROM.
        Expr::IsDistinct { negated: true, .. } => Shape::Logic(Logic::Not),
        _ => shape(node),
    };
    match own {
        Shape::Closed | Shape::Call | Shape::Words | Shape::List => true,
        Shape::Label => match node {
            Expr::Relabel { arg, .. }
            | Expr::CastViaText { arg, .. }
            | Expr::Coerce { arg, .. } => is_simple(arg, node),
            _ => false,
        },
        Shape::Operator if around == Shape::Operator => binds_tighter(node, parent),
        Shape::Operator | Shape::Test => {
            matches!(around, Shape::Call | Shape::List | Shape::Logic(_))
        }
        Shape::Logic(own) => match around {
            Shape::Logic(outer) => match own {
                Logic::And | Logic::Not => outer != Logic::Not,
                Logic::Or => outer == Logic::Or,
            },
            Shape::Call | Shape::List => true,
            _ => false,
        },
        Shape::Other => false,
    }
}

/// Only `+ - * / %` are known to bind in one way.
fn binds_tighter(node: &Expr, parent: &Expr) -> bool {
    let (Some(own), Some(outer)) = (rank(node), rank(parent)) else {
        return false;
    };
    // Of the same rank the left one needs none: (a - b) - c.
    let is_left = match parent {
        Expr::Call { args, .. } => args.first().is_some_and(|first| std::ptr::eq(first, node)),
        _ => false,
    };
    own > outer || (own == outer && is_left)
}

fn rank(expr: &Expr) -> Option<u8> {
    match binary(expr)?.name {
        "+" | "-" => Some(0),
        "*" | "/" | "%" => Some(1),
        _ => None,
    }
}

fn binary(expr: &Expr) -> Option<&'static Operator> {
    match expr {
        Expr::Call { function, args, .. } if args.len() == 2 => operator_of(function.oid),
        _ => None,
    }
}
