//! Stored expressions as PostgreSQL shows them: `pg_get_expr`, and the condition in `pg_get_constraintdef`.
//!
//! The catalog keeps an expression as the SQL it was written in. To be shown it is analyzed again and written out with
//! its casts and parentheses.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::sql::bind;
use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::exec::eval::slot_expr;
use crate::sql::explain::{Style, Words};
use crate::sql::front::{self, ast};
use crate::sql::host::ServerHost;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::plan::tree::SlotInfo;
use crate::sql::session::functions_of;
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;

fn functions(env: &Environment) -> FunctionCx {
    let settings = env.facts.current_settings();
    let host = Arc::new(ServerHost { env: env.clone() });
    let now = crate::replication::clock::now_micros();
    functions_of(&settings, host, now, now)
}

/// The condition of a CHECK of `table`.
pub(super) fn condition(
    env: &Environment,
    table: &Relation,
    text: &str,
) -> Result<String, TypeError> {
    shown(env, table, |view, functions| {
        bind::check_expression(text, table, view, functions)
    })
}

/// A column's default, or the condition of a CHECK, whichever of the table's expressions it is.
pub(super) fn of_relation(
    env: &Environment,
    table: &Relation,
    text: &str,
) -> Result<String, TypeError> {
    let column = table
        .columns
        .iter()
        .find(|c| c.default.as_deref() == Some(text));
    let Some(column) = column else {
        return condition(env, table, text);
    };
    // A cast that only storing brings about is not shown.
    let asked = front::parse_expression(text).map_err(to_type_error)?;
    let explicit = matches!(asked.kind, ast::ExprKind::Cast { .. });
    shown(env, table, |view, functions| {
        let bound = bind::default_expression(text, &column.name, column.ty, view, functions)?;
        Ok(if explicit { bound } else { without_cast(bound) })
    })
}

/// Without the casts on top.
fn without_cast(expr: Expr) -> Expr {
    match expr {
        Expr::Coerce { arg, .. } | Expr::Relabel { arg, .. } | Expr::CastViaText { arg, .. } => {
            without_cast(*arg)
        }
        Expr::Call {
            function, mut args, ..
        } if crate::types::casts::is_cast(function.oid) && !args.is_empty() => {
            without_cast(args.swap_remove(0))
        }
        other => other,
    }
}

fn shown(
    env: &Environment,
    table: &Relation,
    bound: impl FnOnce(&dyn CatalogView, &FunctionCx) -> Result<Expr, SqlError>,
) -> Result<String, TypeError> {
    let functions = functions(env);
    let mut bound = env
        .with_catalog(|catalog| Ok(bound(catalog, &functions)))?
        .map_err(to_type_error)?;
    to_slots(&mut bound);
    let slots: Vec<SlotInfo> = table
        .columns
        .iter()
        .map(|c| SlotInfo {
            name: format!("{}.{}", table.name.replace('.', "_"), c.name),
            ty: c.ty,
            computed: None,
        })
        .collect();
    let words = Words {
        slots: &slots,
        qualified: false,
        bare: None,
        function: &functions,
        aggregates: Vec::new(),
        windows: std::collections::BTreeMap::new(),
        params: std::collections::BTreeMap::new(),
        style: Style::Stored,
    };
    Ok(words.show(&bound))
}

fn to_slots(expr: &mut Expr) {
    if let Expr::Column(c) = expr {
        *expr = slot_expr(c.column, c.ty);
        return;
    }
    bind::parts_mut(expr, &mut to_slots);
}
