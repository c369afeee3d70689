//! What a new row must meet before it is written: NOT NULL and CHECK; and the words when it does not.

use crate::catalog::relation::{Index, Relation};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::plan::tree::CheckTest;
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// Longer values are cut in the DETAIL of an error.
const SHOWN: usize = 64;

/// Error 23502.
pub fn check_not_null(relation: &Relation, row: &[Datum], cx: &EvalCx) -> Result<(), SqlError> {
    for (column, value) in relation.columns.iter().zip(row) {
        if column.not_null && value.is_null() && !column.dropped {
            return Err(SqlError::new(
                state::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name, relation.name
                ),
            )
            .detail(failing_row(relation, row, &cx.function))
            .table(&*relation.schema_name, &*relation.name)
            .column(&*column.name));
        }
    }
    Ok(())
}

/// Error 23514. The row is in the frame too, where the tests read it.
pub fn check_tests(
    relation: &Relation,
    checks: &[CheckTest],
    row: &[Datum],
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    for check in checks {
        // NULL is no violation.
        if check.test.value(frame, cx)? == Some(false) {
            return Err(SqlError::new(
                state::CHECK_VIOLATION,
                format!(
                    "new row for relation \"{}\" violates check constraint \"{}\"",
                    relation.name, check.name
                ),
            )
            .detail(failing_row(relation, row, &cx.function))
            .table(&*relation.schema_name, &*relation.name)
            .constraint(&*check.name));
        }
    }
    Ok(())
}

fn failing_row(relation: &Relation, row: &[Datum], cx: &FunctionCx) -> String {
    let mut shown = String::from("Failing row contains (");
    let live = relation.columns.iter().zip(row).filter(|(c, _)| !c.dropped);
    for (number, (column, value)) in live.enumerate() {
        if number > 0 {
            shown.push_str(", ");
        }
        if value.is_null() {
            shown.push_str("null");
            continue;
        }
        let text = codec::to_text(column.ty.oid, value, cx);
        match text.char_indices().nth(SHOWN) {
            Some((cut, _)) => {
                shown.push_str(&text[..cut]);
                shown.push_str("...");
            }
            None => shown.push_str(&text),
        }
    }
    shown.push_str(").");
    shown
}

/// Error 23505.
pub fn duplicate_key(
    relation: &Relation,
    index: &Index,
    row: &[Datum],
    cx: &FunctionCx,
) -> SqlError {
    let name = index.constraint.as_ref().map_or(&index.name, |(_, n)| n);
    SqlError::new(
        state::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{name}\""),
    )
    .detail(format!(
        "Key {} already exists.",
        shown_key(relation, index, row, cx)
    ))
    .table(&*relation.schema_name, &*relation.name)
    .constraint(&**name)
}

/// `(a, b)=(1, x)`
pub fn shown_key(relation: &Relation, index: &Index, row: &[Datum], cx: &FunctionCx) -> String {
    let names: Vec<&str> = index
        .keys
        .iter()
        .map(|k| relation.columns[k.column].name.as_str())
        .collect();
    let values: Vec<String> = index
        .keys
        .iter()
        .map(|k| match &row[k.column] {
            Datum::Null => "null".to_owned(),
            value => codec::to_text(k.ty.oid, value, cx),
        })
        .collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}
