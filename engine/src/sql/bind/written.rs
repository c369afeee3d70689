//! Stored expressions as they are shown (`pg_get_expr`): analyzed like any other, but what ruleutils.c prints in SQL's own
//! words (CURRENT_DATE, EXTRACT, IN over an array) stays recognizable, and casts that only storing brings about are not made.
//!
//! Such an expression is printed and never run: the functions that stand for the words cannot be called.

use super::binder::{Binder, Context};
use super::coerce::function_by_oid;
use super::resolve::{self, Pathway};
use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{ExprKind, FunctionCall, SessionValue};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{CastContext, Function, FunctionCx};
use crate::types::functions::{self, SessionWord};
use crate::types::oids;
use crate::types::{casts, operators, registry};

type Result<T> = std::result::Result<T, SqlError>;

/// A stored CHECK of `relation`, whose columns are range 0.
pub fn check_as_written(
    text: &str,
    relation: &Relation,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Expr> {
    as_written(text, catalog, functions, Context::Check, |b| {
        b.row_of(relation);
        SqlType::plain(oids::BOOL)
    })
}

/// A stored default of a column of the type `ty`.
pub fn default_as_written(
    text: &str,
    ty: SqlType,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Expr> {
    let bound = as_written(text, catalog, functions, Context::Default, |_| ty)?;
    Ok(stored_as(bound, ty))
}

/// With the casts that storing brings about. They are not shown, but decide about parentheses.
fn stored_as(bound: Expr, ty: SqlType) -> Expr {
    let unseen = |arg: Expr, modifier: i32| Expr::Coerce {
        arg: Box::new(arg),
        ty: SqlType {
            oid: ty.oid,
            modifier,
        },
        explicit: false,
    };
    let given = bound.ty();
    let is_other = given.oid != ty.oid;
    let path = resolve::pathway(given.oid, ty.oid, CastContext::Assignment);
    // One without a function has no modifier here (`explain/simple.rs`).
    let is_label = is_other && !matches!(path, Some(Pathway::Function(_)));
    let is_cut = ty.modifier >= 0 && (is_other || given.modifier != ty.modifier);
    let labelled = match is_label {
        true => unseen(bound, -1),
        false => bound,
    };
    match is_cut || (is_other && !is_label) {
        true => unseen(labelled, ty.modifier.max(0)),
        false => labelled,
    }
}

fn as_written(
    text: &str,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
    context: Context,
    prepare: impl FnOnce(&mut Binder<'_>) -> SqlType,
) -> Result<Expr> {
    let parsed = crate::sql::front::parse_expression(text).map_err(SqlError::nowhere)?;
    let mut binder = Binder::new(catalog, functions, None);
    binder.as_written = true;
    let target = prepare(&mut binder);
    let bound = binder.within(context, |b| {
        let bound = b.bind(&parsed)?;
        if bound.ty().oid != oids::UNKNOWN {
            return Ok(bound);
        }
        // A literal is read as the column's type; only `interval` reads its modifier together with the text.
        let target = match target.oid {
            oids::INTERVAL => target,
            oid => SqlType::plain(oid),
        };
        let cast = b.cast(bound, target, CastContext::Assignment, 0)?;
        cast.ok_or_else(|| SqlError::internal("a literal that can be no value of its column"))
    });
    bound.map_err(SqlError::nowhere)
}

fn word(word: SessionWord, args: Vec<Expr>) -> Result<Expr> {
    let function = function_by_oid(word.function())?;
    Ok(Expr::Call {
        function,
        args,
        ty: SqlType::plain(function.returns),
    })
}

/// `CURRENT_DATE` and its relatives.
pub(super) fn session_value(value: SessionValue) -> Result<Expr> {
    let precision = |p: Option<i32>| -> Vec<Expr> {
        p.into_iter()
            .map(|p| Expr::Const(Datum::Int4(p.min(6)), SqlType::plain(oids::INT4)))
            .collect()
    };
    match value {
        SessionValue::CurrentDate => word(SessionWord::CurrentDate, Vec::new()),
        SessionValue::CurrentTime(p) => word(SessionWord::CurrentTime, precision(p)),
        SessionValue::CurrentTimestamp(p) => word(SessionWord::CurrentTimestamp, precision(p)),
        SessionValue::LocalTime(p) => word(SessionWord::LocalTime, precision(p)),
        SessionValue::LocalTimestamp(p) => word(SessionWord::LocalTimestamp, precision(p)),
        SessionValue::CurrentRole => word(SessionWord::CurrentRole, Vec::new()),
        SessionValue::CurrentUser => word(SessionWord::CurrentUser, Vec::new()),
        SessionValue::User => word(SessionWord::User, Vec::new()),
        SessionValue::SessionUser => word(SessionWord::SessionUser, Vec::new()),
        SessionValue::CurrentCatalog => word(SessionWord::CurrentCatalog, Vec::new()),
        SessionValue::CurrentSchema => word(SessionWord::CurrentSchema, Vec::new()),
    }
}

/// `left op ANY (ARRAY[items])`: the array as a whole takes the operator's type (`transformAExprIn`).
pub(super) fn any_of(
    function: &'static Function,
    left: Expr,
    items: Vec<Expr>,
    (common, wanted): (Oid, Oid),
    all: bool,
) -> Result<Expr> {
    let array = |element: Oid| {
        resolve::array_of(element)
            .map(SqlType::plain)
            .ok_or_else(|| SqlError::internal("IN over values that have no array type"))
    };
    let mut list = Expr::ArrayLiteral {
        items,
        ty: array(common)?,
    };
    if common != wanted {
        list = Expr::Relabel {
            arg: Box::new(list),
            ty: array(wanted)?,
        };
    }
    Ok(Expr::AnyArray {
        function,
        left: Box::new(left),
        array: Box::new(list),
        all,
    })
}

/// Marks a call of a function that an operator or a cast calls too: `extract(hour from date(a))` is not one of `a`.
pub(super) fn by_name(bound: Expr) -> Result<Expr> {
    let is_written_otherwise = |function: Oid| {
        casts::is_cast(function) || operators::all().iter().any(|o| o.function == function)
    };
    match &bound {
        Expr::Call { function, ty, .. } if is_written_otherwise(function.oid) => Ok(Expr::Call {
            function: function_by_oid(functions::CALLED_BY_NAME)?,
            ty: *ty,
            args: vec![bound],
        }),
        _ => Ok(bound),
    }
}

/// Calls that are shown in SQL's words, where they were written so (`get_func_sql_syntax`).
const IN_WORDS: &[&str] = &[
    "btrim",
    "extract",
    "ltrim",
    "overlay",
    "pg_collation_for",
    "position",
    "rtrim",
    "substring",
    "timezone",
];

/// Marks a call that was written in SQL's words.
pub(super) fn in_words(call: &FunctionCall, bound: Expr) -> Result<Expr> {
    let ty = bound.ty();
    let Expr::Call { function, args, .. } = bound else {
        return Ok(bound);
    };
    if !IN_WORDS.contains(&function.name) {
        return Ok(Expr::Call { function, args, ty });
    }
    // Implicit casts of the arguments are not shown.
    let keeps = |at: usize| call.args.get(at).is_some_and(|a| is_cast(&a.value.kind));
    let args = args
        .into_iter()
        .enumerate()
        .map(|(at, arg)| match keeps(at) {
            true => arg,
            false => without_casts(arg),
        });
    let inner = Expr::Call {
        function,
        args: args.collect(),
        ty,
    };
    Ok(Expr::Call {
        function: function_by_oid(functions::IN_SQL_WORDS)?,
        args: vec![inner],
        ty,
    })
}

/// Whether somebody wrote a cast: `a::text`, `text(a)`.
fn is_cast(written: &ExprKind) -> bool {
    match written {
        ExprKind::Cast { .. } => true,
        ExprKind::Call(call) => registry::by_name(&call.name.name.name).is_some(),
        ExprKind::Collate { arg, .. } => is_cast(&arg.kind),
        _ => false,
    }
}

/// Without the casts on top.
fn without_casts(expr: Expr) -> Expr {
    match expr {
        Expr::Coerce { arg, .. } | Expr::Relabel { arg, .. } | Expr::CastViaText { arg, .. } => {
            without_casts(*arg)
        }
        Expr::Call {
            function, mut args, ..
        } if casts::is_cast(function.oid) && !args.is_empty() => without_casts(args.swap_remove(0)),
        other => other,
    }
}
