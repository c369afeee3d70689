//! Stored expressions as PostgreSQL shows them: `pg_get_expr`, and the condition in `pg_get_constraintdef`.
//!
//! The catalog keeps an expression as the SQL it was written in. To be shown it is analyzed again and written out with
//! its casts and parentheses.

use std::cell::Cell;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::sql::bind;
use crate::sql::bound::Expr;
use crate::sql::error::SqlError;
use crate::sql::exec::eval::slot_expr;
use crate::sql::explain::{Style, Words};
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
    style: Style,
) -> Result<String, TypeError> {
    shown(env, table, style, |view, functions| {
        bind::check_as_written(text, table, view, functions)
    })
}

/// A column's default, or the condition of a CHECK, whichever of the table's expressions it is.
pub(super) fn of_relation(
    env: &Environment,
    table: &Relation,
    text: &str,
    style: Style,
) -> Result<String, TypeError> {
    let column = table
        .columns
        .iter()
        .find(|c| c.default.as_deref() == Some(text));
    let Some(column) = column else {
        return condition(env, table, text, style);
    };
    shown(env, table, style, |view, functions| {
        bind::default_as_written(text, column.ty, view, functions)
    })
}

fn shown(
    env: &Environment,
    table: &Relation,
    style: Style,
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
        style,
        indent: Cell::new(0),
    };
    Ok(words.whole(&bound))
}

fn to_slots(expr: &mut Expr) {
    if let Expr::Column(c) = expr {
        *expr = slot_expr(c.column, c.ty);
        return;
    }
    bind::parts_mut(expr, &mut to_slots);
}
