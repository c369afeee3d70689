//! `$n` in statements that hold a query: EXPLAIN and DECLARE CURSOR. Parse finds out their types as it finds those of the
//! query by itself, and Bind's values go to whoever runs it. A simple query gives none.

use std::sync::Arc;

use super::lifecycle::Session;
use super::prepared::Prepared;
use super::query::is_planned;
use super::services::Services;
use crate::config::SessionSettings;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::{Parsed, Statement, first_parameter};
use crate::types::datum::Datum;

/// Values of `$n`, and a type for each.
#[derive(Clone, Copy, Default)]
pub(super) struct Given<'a> {
    pub types: &'a [Oid],
    pub values: &'a [Datum],
}

/// The query that a statement holds.
fn held(statement: &Statement) -> Option<Statement> {
    match statement {
        Statement::DeclareCursor(d) => Some(Statement::Query(Box::new(d.query.clone()))),
        Statement::Explain(e) if is_planned(&e.statement) => Some(e.statement.clone()),
        _ => None,
    }
}

pub(super) fn no_parameter(number: u32) -> SqlError {
    SqlError::new(
        state::UNDEFINED_PARAMETER,
        format!("there is no parameter ${number}"),
    )
}

/// 42P02 for a query that nobody gives values; that of COPY has none in any protocol.
pub(super) fn check_given(parsed: &Parsed, source: &str, given: Given<'_>) -> Result<(), SqlError> {
    let without = match parsed.statement {
        Statement::Copy(_) => true,
        Statement::DeclareCursor(_) | Statement::Explain(_) => given.types.is_empty(),
        _ => false,
    };
    if without && let Some((number, at)) = first_parameter(source, parsed.text.clone()) {
        return Err(no_parameter(number).at(at).located(source));
    }
    Ok(())
}

impl<S: Services> Session<S> {
    /// Types of the parameters of a statement that is not planned itself: those that the client declared, and what the
    /// query in it tells of the others.
    pub(super) fn types_within(
        &mut self,
        parsed: &Parsed,
        source: &Arc<str>,
        declared: Vec<Oid>,
        settings: &Arc<SessionSettings>,
    ) -> Result<Vec<Oid>, SqlError> {
        if first_parameter(source, parsed.text.clone()).is_none() {
            return Ok(declared);
        }
        let Some(statement) = held(&parsed.statement) else {
            return Ok(declared);
        };
        self.ensure_transaction()?;
        let query = Parsed {
            tag: statement.tag(),
            statement,
            text: 0..source.len(),
        };
        let query = Prepared::new("", Arc::clone(source), Some(query), declared);
        let function = self.function_cx(settings, self.received);
        self.find_plan(&query, settings, &function)?;
        Ok(query.known_types().to_vec())
    }
}
