//! Prepared statements, cursors, EXPLAIN, VACUUM, LOCK, REINDEX.

use super::Result;
use super::cursor::Parser;
use crate::catalog::relation::LockMode;
use crate::sql::front::ast::{
    DeclareCursor, Execute, Explain, Fetch, FetchDirection, LockTable, Prepare, Reindex,
    ReindexTarget, Statement, TransactionStatement, UtilityOption, Vacuum, VacuumTable,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::{self, TokenKind};

impl Parser<'_> {
    pub(super) fn prepare(&mut self) -> Result<Statement> {
        self.bump();
        if self.is(Kw::Transaction) && matches!(self.peek_at(1), TokenKind::String(_)) {
            self.bump();
            let id = self.string()?;
            return Ok(Statement::Transaction(
                TransactionStatement::PrepareTransaction(id),
            ));
        }
        let name = self.col_id()?;
        let types = if self.is_char(b'(') {
            self.parenthesized(Parser::type_name)?
        } else {
            Vec::new()
        };
        self.expect(Kw::As)?;
        let statement = self.preparable()?;
        Ok(Statement::Prepare(Box::new(Prepare {
            name,
            types,
            statement,
        })))
    }

    /// gram.y's PreparableStmt.
    fn preparable(&mut self) -> Result<Statement> {
        let fits = self.is_char(b'(')
            || self.is_any(&[
                Kw::Select,
                Kw::Values,
                Kw::Table,
                Kw::With,
                Kw::Insert,
                Kw::Update,
                Kw::Delete,
                Kw::Merge,
            ]);
        if !fits {
            return Err(self.unexpected());
        }
        self.statement()
    }

    pub(super) fn execute(&mut self) -> Result<Statement> {
        self.expect(Kw::Execute)?;
        let name = self.col_id()?;
        let args = if self.is_char(b'(') {
            self.parenthesized(Parser::expr)?
        } else {
            Vec::new()
        };
        Ok(Statement::Execute(Execute { name, args }))
    }

    pub(super) fn deallocate(&mut self) -> Result<Statement> {
        self.bump();
        if self.is(Kw::Prepare)
            && !matches!(self.peek_at(1), TokenKind::End | TokenKind::Char(b';'))
        {
            self.bump();
        }
        if self.eat(Kw::All) {
            return Ok(Statement::Deallocate(None));
        }
        Ok(Statement::Deallocate(Some(self.col_id()?)))
    }

    pub(super) fn declare_cursor(&mut self) -> Result<Statement> {
        self.bump();
        let name = self.col_id()?;
        let (mut binary, mut insensitive, mut scroll) = (false, None, None);
        let (mut both_senses, mut both_scrolls) = (false, false);
        loop {
            if self.eat(Kw::Binary) {
                binary = true;
            } else if self.eat(Kw::Insensitive) {
                both_senses |= insensitive.replace(true) == Some(false);
            } else if self.eat(Kw::Asensitive) {
                both_senses |= insensitive.replace(false) == Some(true);
            } else if self.eat(Kw::Scroll) {
                both_scrolls |= scroll.replace(true) == Some(false);
            } else if self.eat_all(&[Kw::No, Kw::Scroll]) {
                both_scrolls |= scroll.replace(false) == Some(true);
            } else {
                break;
            }
        }
        self.expect(Kw::Cursor)?;
        let mut hold = false;
        if self.eat_all(&[Kw::With, Kw::Hold]) {
            hold = true;
        } else {
            self.eat_all(&[Kw::Without, Kw::Hold]);
        }
        self.expect(Kw::For)?;
        let query = self.query()?;
        let clash = both_scrolls
            .then_some("SCROLL and NO SCROLL")
            .or(both_senses.then_some("ASENSITIVE and INSENSITIVE"));
        Ok(Statement::DeclareCursor(Box::new(DeclareCursor {
            name,
            binary,
            insensitive,
            scroll,
            clash,
            hold,
            query,
        })))
    }

    pub(super) fn fetch(&mut self) -> Result<Statement> {
        let is_move = self.is(Kw::Move);
        self.bump();
        let direction = self.fetch_direction()?;
        if !self.eat(Kw::From) {
            self.eat(Kw::In);
        }
        let cursor = self.col_id()?;
        Ok(Statement::Fetch(Fetch {
            is_move,
            direction,
            cursor,
        }))
    }

    fn fetch_direction(&mut self) -> Result<FetchDirection> {
        if matches!(
            self.peek(),
            TokenKind::Int(_) | TokenKind::Char(b'-' | b'+')
        ) {
            return Ok(FetchDirection::Forward(i64::from(self.signed_integer()?)));
        }
        // A cursor may have any of these words as its name: it is one if nothing follows it.
        if matches!(self.peek_at(1), TokenKind::End | TokenKind::Char(b';')) {
            return Ok(FetchDirection::Forward(1));
        }
        let TokenKind::Keyword(kw) = self.peek() else {
            return Ok(FetchDirection::Forward(1));
        };
        Ok(match kw {
            Kw::Next => self.direction(FetchDirection::Forward(1)),
            Kw::Prior => self.direction(FetchDirection::Backward(1)),
            Kw::First => self.direction(FetchDirection::Absolute(1)),
            Kw::Last => self.direction(FetchDirection::Absolute(-1)),
            Kw::All => self.direction(FetchDirection::Forward(i64::MAX)),
            Kw::Absolute => {
                self.bump();
                FetchDirection::Absolute(i64::from(self.signed_integer()?))
            }
            Kw::Relative => {
                self.bump();
                FetchDirection::Relative(i64::from(self.signed_integer()?))
            }
            Kw::Forward => {
                self.bump();
                FetchDirection::Forward(self.fetch_count_or_all()?)
            }
            Kw::Backward => {
                self.bump();
                FetchDirection::Backward(self.fetch_count_or_all()?)
            }
            _ => FetchDirection::Forward(1),
        })
    }

    fn direction(&mut self, direction: FetchDirection) -> FetchDirection {
        self.bump();
        direction
    }

    fn fetch_count_or_all(&mut self) -> Result<i64> {
        if self.eat(Kw::All) {
            return Ok(i64::MAX);
        }
        if matches!(
            self.peek(),
            TokenKind::Int(_) | TokenKind::Char(b'-' | b'+')
        ) {
            return Ok(i64::from(self.signed_integer()?));
        }
        Ok(1)
    }

    pub(super) fn close_cursor(&mut self) -> Result<Statement> {
        self.bump();
        if self.eat(Kw::All) {
            return Ok(Statement::CloseCursor(None));
        }
        Ok(Statement::CloseCursor(Some(self.col_id()?)))
    }

    pub(super) fn explain(&mut self) -> Result<Statement> {
        let at = self.at();
        self.bump();
        let mut options = Vec::new();
        let parenthesis_is_query = matches!(
            self.peek_at(1),
            TokenKind::Keyword(Kw::Select | Kw::Values | Kw::With | Kw::Table)
                | TokenKind::Char(b'(')
        );
        if self.is_char(b'(') && !parenthesis_is_query {
            options = self.generic_options()?;
        } else {
            for (kw, name) in [(Kw::Analyze, "analyze"), (Kw::Verbose, "verbose")] {
                let at = self.at();
                if self.eat(kw) || (kw == Kw::Analyze && self.eat(Kw::Analyse)) {
                    options.push(flag(name, at));
                }
            }
        }
        let explainable = self.is_char(b'(')
            || self.is_any(&[
                Kw::Select,
                Kw::Values,
                Kw::Table,
                Kw::With,
                Kw::Insert,
                Kw::Update,
                Kw::Delete,
                Kw::Declare,
                Kw::Create,
                Kw::Execute,
                Kw::Merge,
                Kw::Refresh,
            ]);
        if !explainable {
            return Err(self.unexpected());
        }
        let begins_at = self.at();
        let created = self.is(Kw::Create);
        let statement = self.nested(Parser::statement)?;
        if created && !explains_creation(&statement) {
            return Err(lexer::near_error("syntax error", "CREATE", begins_at));
        }
        Ok(Statement::Explain(Box::new(Explain {
            options,
            statement,
            at,
        })))
    }

    pub(super) fn vacuum(&mut self) -> Result<Statement> {
        self.bump();
        let mut options = Vec::new();
        if self.is_char(b'(') {
            options = self.generic_options()?;
        } else {
            let words = [
                (Kw::Full, "full"),
                (Kw::Freeze, "freeze"),
                (Kw::Verbose, "verbose"),
                (Kw::Analyze, "analyze"),
            ];
            for (kw, name) in words {
                let at = self.at();
                if self.eat(kw) || (kw == Kw::Analyze && self.eat(Kw::Analyse)) {
                    options.push(flag(name, at));
                }
            }
        }
        let tables = self.vacuum_tables()?;
        Ok(Statement::Vacuum(Vacuum {
            is_vacuum: true,
            options,
            tables,
        }))
    }

    pub(super) fn analyze(&mut self) -> Result<Statement> {
        self.bump();
        let mut options = Vec::new();
        if self.is_char(b'(') {
            options = self.generic_options()?;
        } else {
            let at = self.at();
            if self.eat(Kw::Verbose) {
                options.push(flag("verbose", at));
            }
        }
        let tables = self.vacuum_tables()?;
        Ok(Statement::Vacuum(Vacuum {
            is_vacuum: false,
            options,
            tables,
        }))
    }

    fn vacuum_tables(&mut self) -> Result<Vec<VacuumTable>> {
        if self.at_statement_end() {
            return Ok(Vec::new());
        }
        self.list(|p| {
            Ok(VacuumTable {
                name: p.object_name()?,
                columns: p.optional_column_list()?,
            })
        })
    }

    pub(super) fn lock_table(&mut self) -> Result<Statement> {
        self.bump();
        self.eat(Kw::Table);
        let tables = self.list(Parser::plain_relation)?;
        let mut mode = LockMode::AccessExclusive;
        if self.eat(Kw::In) {
            mode = self.lock_mode()?;
            self.expect(Kw::Mode)?;
        }
        let no_wait = self.eat(Kw::Nowait);
        Ok(Statement::LockTable(LockTable {
            tables,
            mode,
            no_wait,
        }))
    }

    fn lock_mode(&mut self) -> Result<LockMode> {
        if self.eat(Kw::Access) {
            if self.eat(Kw::Share) {
                return Ok(LockMode::AccessShare);
            }
            self.expect(Kw::Exclusive)?;
            return Ok(LockMode::AccessExclusive);
        }
        if self.eat(Kw::Row) {
            if self.eat(Kw::Share) {
                return Ok(LockMode::RowShare);
            }
            self.expect(Kw::Exclusive)?;
            return Ok(LockMode::RowExclusive);
        }
        if self.eat(Kw::Exclusive) {
            return Ok(LockMode::Exclusive);
        }
        self.expect(Kw::Share)?;
        if self.eat(Kw::Row) {
            self.expect(Kw::Exclusive)?;
            return Ok(LockMode::ShareRowExclusive);
        }
        if self.eat(Kw::Update) {
            self.expect(Kw::Exclusive)?;
            return Ok(LockMode::ShareUpdateExclusive);
        }
        Ok(LockMode::Share)
    }

    pub(super) fn reindex(&mut self) -> Result<Statement> {
        self.bump();
        let options = if self.is_char(b'(') {
            self.generic_options()?
        } else {
            Vec::new()
        };
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        let fault = self.unexpected();
        self.bump();
        let concurrently = self.eat(Kw::Concurrently);
        let what = match kw {
            Kw::Index => ReindexTarget::Index(self.object_name()?),
            Kw::Table => ReindexTarget::Table(self.object_name()?),
            Kw::Schema => ReindexTarget::Schema(self.col_id()?),
            Kw::Database => ReindexTarget::Database(self.try_col_id()?),
            Kw::System => ReindexTarget::System(self.try_col_id()?),
            _ => return Err(fault),
        };
        Ok(Statement::Reindex(Reindex {
            what,
            concurrently,
            options,
        }))
    }
}

fn flag(name: &str, at: u32) -> UtilityOption {
    UtilityOption {
        name: name.to_owned(),
        value: None,
        at,
    }
}

/// Of the CREATE statements only those that run a query have a plan.
fn explains_creation(statement: &Statement) -> bool {
    match statement {
        Statement::CreateTableAs(_) => true,
        Statement::Unsupported(u) => u.command == "CREATE MATERIALIZED VIEW",
        _ => false,
    }
}
