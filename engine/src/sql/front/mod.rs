//! From a query string to statements: lexer and parser for PostgreSQL 15's grammar.
//!
//! Owned here because the crate that was tried first (`sqlparser` 0.64) refuses a fifth of a first hour's
//! statements, gives PostgreSQL's operators other precedences (`NOT a IS NULL`, `a = b IS NULL`, `-2 ^ 2`)
//! and keeps no position for the errors that PostgreSQL points at (ARCHITECTURE.md has the measurement).
//! Knows nothing of tables or types; a string that parses may still mean nothing.

pub mod ast;

mod keywords;
mod lexer;
mod location;
mod parser;

pub mod replication;
pub mod shape;

#[cfg(test)]
mod tests;

pub use ast::Statement;
pub use location::{location, location_as_written};

use std::ops::Range;

use crate::sql::error::{Severity, SqlError, state};

/// One statement of a query string.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub statement: Statement,
    /// Bytes of the query string that it came from, without the semicolon. Offsets in the statement count
    /// from the start of the whole string.
    pub text: Range<usize>,
    /// The command tag without counts.
    pub tag: &'static str,
}

/// Splits and parses. An empty string (or one of comments and semicolons) gives an empty list. An error in
/// any statement is an error of the whole string, as in PostgreSQL, with its position filled in.
pub fn parse(sql: &str) -> Result<Vec<Parsed>, SqlError> {
    parser::statements(sql).map_err(|e| e.located(sql))
}

/// The notices that a query string gives before it is understood: names that are cut to what the catalog can hold.
pub fn notices(sql: &str) -> Vec<SqlError> {
    let cut = lexer::cut_names(sql);
    cut.into_iter()
        .map(|(whole, name)| {
            let message = format!("identifier \"{whole}\" will be truncated to \"{name}\"");
            SqlError::with_severity(Severity::Notice, state::NAME_TOO_LONG, message)
        })
        .collect()
}

/// One expression, alone: a stored default or CHECK.
pub fn parse_expression(text: &str) -> Result<ast::Expr, SqlError> {
    parser::expression(text).map_err(|e| e.located(text))
}

/// One type name, alone: an argument of `to_regtype`, for instance.
pub fn parse_type_name(text: &str) -> Result<ast::TypeName, SqlError> {
    parser::type_name(text).map_err(|e| e.located(text))
}

/// Bytes of the string literal that `text` begins with, if it does.
pub fn literal_length(text: &str) -> Option<usize> {
    let token = *lexer::tokenize(text).first()?;
    let is_literal = matches!(token.kind, lexer::TokenKind::String(_)) && token.start == 0;
    is_literal.then_some(token.end as usize)
}

/// Bytes of the identifier that `text` begins with, quotes included, if it does. A word with a meaning of its own is one
/// too: whether it may stand there is the parser's business.
pub fn identifier_length(text: &str) -> Option<usize> {
    use lexer::TokenKind;
    let token = *lexer::tokenize(text).first()?;
    let is_name = matches!(
        token.kind,
        TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent | TokenKind::Keyword(_)
    );
    (is_name && token.start == 0).then_some(token.end as usize)
}

/// The first `$n` of a statement, with its offset in `source`.
pub fn first_parameter(source: &str, statement: std::ops::Range<usize>) -> Option<(u32, u32)> {
    let text = source.get(statement.clone())?;
    // Nearly every statement is without, and need not be cut into tokens again.
    memchr::memchr(b'$', text.as_bytes())?;
    let start = u32::try_from(statement.start).ok()?;
    lexer::tokenize(text)
        .into_iter()
        .find_map(|token| match token.kind {
            lexer::TokenKind::Param(number) => Some((number, token.start + start)),
            _ => None,
        })
}
