//! Error 23503 in its forms, with what may be shown of the row (`ri_ReportViolation`).

use crate::catalog::relation::{ForeignKey, Relation};
use crate::catalog::rights::Holder;
use crate::catalog::view::CatalogView;
use crate::sql::error::{SqlError, state};
use crate::types::acl::Privileges;
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

use super::statements::Both;

fn error(message: String, key: &ForeignKey, table: &Relation) -> SqlError {
    SqlError::new(state::FOREIGN_KEY_VIOLATION, message)
        .table(&*table.schema_name, &*table.name)
        .constraint(&*key.name)
}

fn of_new_row(both: &Both<'_>) -> SqlError {
    let message = format!(
        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
        both.table.name, both.key.name
    );
    error(message, both.key, both.table)
}

/// Some columns of a MATCH FULL reference are NULL and some are not.
pub fn mixed_nulls(both: &Both<'_>) -> SqlError {
    of_new_row(both).detail("MATCH FULL does not allow mixing of null and nonnull key values.")
}

/// ` (a, b)=(1, x)`; nothing for who may not read the columns.
fn shown(
    view: &dyn CatalogView,
    table: &Relation,
    columns: &[usize],
    values: &[Datum],
    cx: &FunctionCx,
) -> Result<String, SqlError> {
    let may = Holder::asker(view)?.on_relation(table)?;
    if !may.contains(Privileges::SELECT) {
        return Ok(String::new());
    }
    let names: Vec<&str> = columns
        .iter()
        .map(|n| table.columns[*n].name.as_str())
        .collect();
    let values: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(n, value)| match value {
            Datum::Null => "null".to_owned(),
            value => codec::to_text(table.columns[*n].ty.oid, value, cx),
        })
        .collect();
    Ok(format!(" ({})=({})", names.join(", "), values.join(", ")))
}

/// The key of a reference is not there. `view`: the catalog as the user sees it.
pub fn no_key(
    both: &Both<'_>,
    reference: &[Datum],
    view: &dyn CatalogView,
    cx: &FunctionCx,
) -> Result<SqlError, SqlError> {
    let key = shown(view, both.table, &both.key.columns, reference, cx)?;
    let referenced = &both.referenced.name;
    Ok(of_new_row(both).detail(format!(
        "Key{key} is not present in table \"{referenced}\"."
    )))
}

/// A key that goes is still referred to.
pub fn still_referenced(
    both: &Both<'_>,
    key: &[Datum],
    view: &dyn CatalogView,
    cx: &FunctionCx,
) -> Result<SqlError, SqlError> {
    let message = format!(
        "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
        both.referenced.name, both.key.name, both.table.name
    );
    let shown = shown(view, both.referenced, &both.key.key, key, cx)?;
    let table = &both.table.name;
    Ok(error(message, both.key, both.table).detail(format!(
        "Key{shown} is still referenced from table \"{table}\"."
    )))
}
