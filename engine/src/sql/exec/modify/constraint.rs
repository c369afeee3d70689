//! What a new row must meet before it is written: NOT NULL and CHECK; and the words when it does not.

use crate::catalog::relation::{Index, Relation};
use crate::sql::bound::Disclosure;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::plan::tree::{CheckTest, Modify};
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// Longer values are cut in the DETAIL of an error.
const SHOWN: usize = 64;

/// A row that is about to be written.
#[derive(Clone, Copy)]
pub struct NewRow<'a> {
    pub relation: &'a Relation,
    pub values: &'a [Datum],
    pub disclosure: &'a Disclosure,
}

impl<'a> NewRow<'a> {
    pub fn of(modify: &'a Modify, values: &'a [Datum]) -> NewRow<'a> {
        NewRow {
            relation: &modify.relation,
            values,
            disclosure: &modify.disclosure,
        }
    }

    /// Error 23502.
    pub fn check_not_null(self, cx: &EvalCx) -> Result<(), SqlError> {
        let relation = self.relation;
        for (column, value) in relation.columns.iter().zip(self.values) {
            if column.not_null && value.is_null() && !column.dropped {
                let error = SqlError::new(
                    state::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                        column.name, relation.name
                    ),
                );
                return Err(self
                    .told(error, &cx.function)
                    .table(&*relation.schema_name, &*relation.name)
                    .column(&*column.name));
            }
        }
        Ok(())
    }

    /// Error 23514. The row is in the frame too, where the tests read it.
    pub fn check_tests(
        self,
        checks: &[CheckTest],
        frame: &[Datum],
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        let relation = self.relation;
        for check in checks {
            // NULL is no violation.
            if check.test.value(frame, cx)? == Some(false) {
                let error = SqlError::new(
                    state::CHECK_VIOLATION,
                    format!(
                        "new row for relation \"{}\" violates check constraint \"{}\"",
                        relation.name, check.name
                    ),
                );
                return Err(self
                    .told(error, &cx.function)
                    .table(&*relation.schema_name, &*relation.name)
                    .constraint(&*check.name));
            }
        }
        Ok(())
    }

    /// With what may be shown of the row.
    fn told(self, error: SqlError, cx: &FunctionCx) -> SqlError {
        let values = |at: &[usize]| {
            let shown: Vec<String> = at.iter().map(|i| self.shown_value(*i, cx)).collect();
            shown.join(", ")
        };
        let live = |position: &usize| !self.relation.columns[*position].dropped;
        match self.disclosure {
            Disclosure::WholeRow => {
                let all: Vec<usize> = (0..self.relation.columns.len()).filter(live).collect();
                error.detail(format!("Failing row contains ({}).", values(&all)))
            }
            Disclosure::Columns(given) if given.is_empty() => error,
            Disclosure::Columns(given) => {
                let names: Vec<&str> = given
                    .iter()
                    .map(|i| self.relation.columns[*i].name.as_str())
                    .collect();
                error.detail(format!(
                    "Failing row contains ({}) = ({}).",
                    names.join(", "),
                    values(given)
                ))
            }
        }
    }

    fn shown_value(self, position: usize, cx: &FunctionCx) -> String {
        let value = &self.values[position];
        if value.is_null() {
            return "null".to_owned();
        }
        let text = codec::to_text(self.relation.columns[position].ty.oid, value, cx);
        match text.char_indices().nth(SHOWN) {
            Some((cut, _)) => format!("{}...", &text[..cut]),
            None => text,
        }
    }

    /// Error 23505. What is in the way is not for those who may not read it.
    pub fn duplicate_key(self, index: &Index, cx: &FunctionCx) -> SqlError {
        let name = index.constraint.as_ref().map_or(&index.name, |(_, n)| n);
        let error = SqlError::new(
            state::UNIQUE_VIOLATION,
            format!("duplicate key value violates unique constraint \"{name}\""),
        );
        let error = match self.disclosure {
            Disclosure::WholeRow => {
                let key = shown_key(self.relation, index, self.values, cx);
                error.detail(format!("Key {key} already exists."))
            }
            Disclosure::Columns(_) => error,
        };
        error
            .table(&*self.relation.schema_name, &*self.relation.name)
            .constraint(&**name)
    }
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
