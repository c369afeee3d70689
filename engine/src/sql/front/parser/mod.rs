//! Recursive descent over the tokens, one file for each part of PostgreSQL's grammar (`gram.y`).
//!
//! Depth is limited: everything behind the parser recurses over the tree that it makes, on a stack of fixed
//! size.

mod alter;
mod copy;
mod create;
mod cursor;
mod dml;
mod drop;
mod expr;
mod from;
mod function;
mod grant;
mod names;
mod options;
mod primary;
mod role;
mod select;
mod session;
mod table;
mod types;
mod utility;
mod window;

pub(super) use cursor::Parser;

use super::Parsed;
use super::ast::{Expr, Statement, Unsupported};
use super::keywords::Kw;
use super::lexer::TokenKind;
use crate::sql::error::SqlError;

type Result<T> = std::result::Result<T, SqlError>;

/// Every statement of the string.
pub(super) fn statements(sql: &str) -> Result<Vec<Parsed>> {
    let mut p = Parser::new(sql)?;
    let mut out = Vec::new();
    loop {
        while p.eat_char(b';') {}
        if p.peek() == TokenKind::End {
            return Ok(out);
        }
        let start = p.at() as usize;
        let statement = p.statement()?;
        let end = p.previous_end() as usize;
        if !matches!(p.peek(), TokenKind::End | TokenKind::Char(b';')) {
            return Err(p.unexpected());
        }
        out.push(Parsed {
            tag: statement.tag(),
            statement,
            text: start..end,
        });
    }
}

/// One statement whose numbers are parameters; `None` where one of them cannot be.
pub(super) fn with_numbers_lifted(sql: &str) -> Result<Option<Parsed>> {
    let mut p = Parser::new(sql)?;
    p.lift_numbers();
    let start = p.at() as usize;
    let statement = p.statement()?;
    let end = p.previous_end() as usize;
    p.eat_char(b';');
    p.expect_end()?;
    Ok(p.all_numbers_lifted().then(|| Parsed {
        tag: statement.tag(),
        statement,
        text: start..end,
    }))
}

/// The string as one expression.
pub(super) fn expression(sql: &str) -> Result<Expr> {
    let mut p = Parser::new(sql)?;
    let expr = p.expr()?;
    p.expect_end()?;
    Ok(expr)
}

/// The string as one type name.
pub(super) fn type_name(sql: &str) -> Result<super::ast::TypeName> {
    let mut p = Parser::new(sql)?;
    let ty = p.type_name()?;
    p.expect_end()?;
    Ok(ty)
}

impl Parser<'_> {
    pub(super) fn statement(&mut self) -> Result<Statement> {
        let TokenKind::Keyword(kw) = self.peek() else {
            if self.peek() == TokenKind::Char(b'(') {
                return self.query_statement();
            }
            return Err(self.unexpected());
        };
        match kw {
            Kw::Select | Kw::Values | Kw::Table => self.query_statement(),
            Kw::With => self.with_statement(),
            Kw::Insert => self.insert(None),
            Kw::Update => self.update(None),
            Kw::Delete => self.delete(None),
            Kw::Create => self.create(),
            Kw::Alter => self.alter(),
            Kw::Drop => self.drop(),
            Kw::Truncate => self.truncate(),
            Kw::Comment => self.comment(),
            Kw::Copy => self.copy(),
            Kw::Explain => self.explain(),
            Kw::Prepare => self.prepare(),
            Kw::Execute => self.execute(),
            Kw::Deallocate => self.deallocate(),
            Kw::Declare => self.declare_cursor(),
            Kw::Fetch | Kw::Move => self.fetch(),
            Kw::Close => self.close_cursor(),
            Kw::Vacuum => self.vacuum(),
            Kw::Analyze | Kw::Analyse => self.analyze(),
            Kw::Lock => self.lock_table(),
            Kw::Reindex => self.reindex(),
            Kw::Grant => self.grant(),
            Kw::Revoke => self.revoke(),
            Kw::Reassign => self.reassign_owned(),
            Kw::Checkpoint => {
                self.bump();
                Ok(Statement::Checkpoint)
            }
            _ => self.session_statement(kw),
        }
    }

    fn session_statement(&mut self, kw: Kw) -> Result<Statement> {
        match kw {
            Kw::Begin
            | Kw::Start
            | Kw::Commit
            | Kw::End
            | Kw::Rollback
            | Kw::Abort
            | Kw::Savepoint
            | Kw::Release => self.transaction(kw),
            Kw::Set => self.set(),
            Kw::Show => self.show(),
            Kw::Reset => self.reset(),
            Kw::Discard => self.discard(),
            Kw::Listen | Kw::Unlisten | Kw::Notify => self.notification(kw),
            _ => self.unsupported(kw),
        }
    }

    /// Commands that are known and not there yet: skipped to their end, refused when they are run.
    fn unsupported(&mut self, kw: Kw) -> Result<Statement> {
        let (command, hint) = match kw {
            Kw::Do => ("DO", Some("Run the statements themselves.")),
            Kw::Call => ("CALL", None),
            Kw::Cluster => (
                "CLUSTER",
                Some("Leave it out: tables are not kept in the order of an index."),
            ),
            Kw::Load => ("LOAD", None),
            Kw::Merge => ("MERGE", Some("Use INSERT ... ON CONFLICT.")),
            Kw::Refresh => (
                "REFRESH MATERIALIZED VIEW",
                Some("Fill a table with INSERT ... SELECT in its place."),
            ),
            Kw::Security => ("SECURITY LABEL", Some("Leave it out.")),
            Kw::Import => ("IMPORT FOREIGN SCHEMA", None),
            _ => return Err(self.unexpected()),
        };
        Ok(self.skip_unsupported(command, hint))
    }

    /// Skips the rest of the statement. A semicolon in parentheses (CREATE RULE) or in a routine's body (BEGIN ATOMIC ... END)
    /// is not its end.
    pub(super) fn skip_unsupported(
        &mut self,
        command: &'static str,
        hint: Option<&'static str>,
    ) -> Statement {
        let (mut parentheses, mut bodies) = (0_usize, 0_usize);
        loop {
            match self.peek() {
                TokenKind::End | TokenKind::Fault(_) => break,
                TokenKind::Char(b';') if parentheses == 0 && bodies == 0 => break,
                TokenKind::Char(b'(') => parentheses += 1,
                TokenKind::Char(b')') => parentheses = parentheses.saturating_sub(1),
                TokenKind::Keyword(Kw::Begin) if self.is_at(1, Kw::Atomic) => bodies += 1,
                // CASE ends with END as well.
                TokenKind::Keyword(Kw::Case) if bodies > 0 => bodies += 1,
                TokenKind::Keyword(Kw::End) => bodies = bodies.saturating_sub(1),
                _ => {}
            }
            self.bump();
        }
        Statement::Unsupported(Unsupported { command, hint })
    }
}
