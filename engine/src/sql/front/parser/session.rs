//! Transactions, settings, notifications, DISCARD.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    DiscardTarget, IsolationLevel, ResetTarget, SetConstraints, SetStatement, SetTarget, SetValue,
    ShowTarget, Statement, TransactionMode, TransactionStatement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn transaction(&mut self, kw: Kw) -> Result<Statement> {
        self.bump();
        let statement = match kw {
            Kw::Begin => {
                self.work();
                TransactionStatement::Begin {
                    start: false,
                    modes: self.transaction_modes(true)?,
                }
            }
            Kw::Start => {
                self.expect(Kw::Transaction)?;
                TransactionStatement::Begin {
                    start: true,
                    modes: self.transaction_modes(true)?,
                }
            }
            Kw::Commit | Kw::End => self.commit(kw)?,
            Kw::Savepoint => TransactionStatement::Savepoint(self.col_id()?),
            Kw::Release => {
                self.eat(Kw::Savepoint);
                TransactionStatement::Release(self.col_id()?)
            }
            _ => self.rollback(kw)?,
        };
        Ok(Statement::Transaction(statement))
    }

    fn work(&mut self) {
        if !self.eat(Kw::Work) {
            self.eat(Kw::Transaction);
        }
    }

    fn commit(&mut self, kw: Kw) -> Result<TransactionStatement> {
        if kw == Kw::Commit && self.eat(Kw::Prepared) {
            return Ok(TransactionStatement::CommitPrepared(self.string()?));
        }
        self.work();
        Ok(TransactionStatement::Commit {
            chain: self.chain()?,
        })
    }

    fn rollback(&mut self, kw: Kw) -> Result<TransactionStatement> {
        if kw == Kw::Rollback && self.eat(Kw::Prepared) {
            return Ok(TransactionStatement::RollbackPrepared(self.string()?));
        }
        self.work();
        if kw == Kw::Rollback && self.eat(Kw::To) {
            self.eat(Kw::Savepoint);
            return Ok(TransactionStatement::RollbackTo(self.col_id()?));
        }
        Ok(TransactionStatement::Rollback {
            chain: self.chain()?,
        })
    }

    fn chain(&mut self) -> Result<bool> {
        if !self.eat(Kw::And) {
            return Ok(false);
        }
        let no = self.eat(Kw::No);
        self.expect(Kw::Chain)?;
        Ok(!no)
    }

    /// Separated by commas or by nothing.
    fn transaction_modes(&mut self, may_be_empty: bool) -> Result<Vec<TransactionMode>> {
        let mut modes = Vec::new();
        loop {
            let mode = if self.eat(Kw::Isolation) {
                self.expect(Kw::Level)?;
                TransactionMode::Isolation(self.isolation_level()?)
            } else if self.eat(Kw::Read) {
                let only = self.eat(Kw::Only);
                if !only {
                    self.expect(Kw::Write)?;
                }
                TransactionMode::ReadOnly(only)
            } else if self.eat(Kw::Deferrable) {
                TransactionMode::Deferrable(true)
            } else if self.eat_all(&[Kw::Not, Kw::Deferrable]) {
                TransactionMode::Deferrable(false)
            } else if modes.is_empty() && may_be_empty {
                return Ok(modes);
            } else {
                return Err(self.unexpected());
            };
            modes.push(mode);
            let more = self.is_any(&[Kw::Isolation, Kw::Read, Kw::Deferrable, Kw::Not]);
            if !self.eat_char(b',') && !more {
                return Ok(modes);
            }
        }
    }

    fn isolation_level(&mut self) -> Result<IsolationLevel> {
        if self.eat(Kw::Serializable) {
            return Ok(IsolationLevel::Serializable);
        }
        if self.eat(Kw::Repeatable) {
            self.expect(Kw::Read)?;
            return Ok(IsolationLevel::RepeatableRead);
        }
        self.expect(Kw::Read)?;
        if self.eat(Kw::Committed) {
            return Ok(IsolationLevel::ReadCommitted);
        }
        self.expect(Kw::Uncommitted)?;
        Ok(IsolationLevel::ReadUncommitted)
    }

    pub(super) fn set(&mut self) -> Result<Statement> {
        self.bump();
        if self.eat(Kw::Constraints) {
            return self.set_constraints();
        }
        let mut local = false;
        if self.is(Kw::Session) && self.is_at(1, Kw::Characteristics) {
            self.bump();
            self.bump();
            self.expect_all(&[Kw::As, Kw::Transaction])?;
            let what = SetTarget::Characteristics(self.transaction_modes(false)?);
            return Ok(Statement::Set(SetStatement { local, what }));
        }
        if self.eat(Kw::Local) {
            local = true;
        } else if self.is(Kw::Session) && !self.is_at(1, Kw::Authorization) {
            self.bump();
        }
        let what = if self.eat(Kw::Transaction) {
            if self.eat(Kw::Snapshot) {
                SetTarget::Snapshot(self.string()?)
            } else {
                SetTarget::Transaction(self.transaction_modes(false)?)
            }
        } else {
            self.set_target()?
        };
        Ok(Statement::Set(SetStatement { local, what }))
    }

    fn set_constraints(&mut self) -> Result<Statement> {
        let mut names = Vec::new();
        if !self.eat(Kw::All) {
            loop {
                names.push(self.object_name()?);
                if !self.eat_char(b',') {
                    break;
                }
            }
        }
        let deferred = self.eat(Kw::Deferred);
        if !deferred {
            self.expect(Kw::Immediate)?;
        }
        Ok(Statement::SetConstraints(SetConstraints {
            names,
            deferred,
        }))
    }

    /// gram.y's set_rest_more.
    pub(super) fn set_target(&mut self) -> Result<SetTarget> {
        let setting = |name: &str, values| SetTarget::Setting {
            name: name.to_owned(),
            values,
        };
        if self.eat_all(&[Kw::Time, Kw::Zone]) {
            return Ok(setting("timezone", self.zone_value()?));
        }
        if self.eat(Kw::Schema) {
            return Ok(setting("search_path", vec![SetValue::Text(self.string()?)]));
        }
        if self.eat(Kw::Names) {
            let values = match self.try_string()? {
                Some(s) => vec![SetValue::Text(s)],
                None => {
                    self.eat(Kw::Default);
                    Vec::new()
                }
            };
            return Ok(setting("client_encoding", values));
        }
        if self.is(Kw::Role) && !self.at_assignment(1) {
            self.bump();
            return Ok(setting(
                "role",
                vec![SetValue::Text(self.word_or_string()?)],
            ));
        }
        if self.eat_all(&[Kw::Session, Kw::Authorization]) {
            let values = if self.eat(Kw::Default) {
                Vec::new()
            } else {
                vec![SetValue::Text(self.word_or_string()?)]
            };
            return Ok(setting("session_authorization", values));
        }
        let name = self.setting_name()?;
        if self.eat_all(&[Kw::From, Kw::Current]) {
            return Ok(SetTarget::FromCurrent { name });
        }
        if !self.eat(Kw::To) {
            self.expect_char(b'=')?;
        }
        if self.eat(Kw::Default) {
            return Ok(SetTarget::Setting {
                name,
                values: Vec::new(),
            });
        }
        let values = self.list(Parser::setting_value)?;
        Ok(SetTarget::Setting { name, values })
    }

    fn at_assignment(&self, ahead: usize) -> bool {
        matches!(
            self.peek_at(ahead),
            TokenKind::Char(b'=' | b'.') | TokenKind::Keyword(Kw::To)
        )
    }

    /// gram.y's var_name; dotted names in one string.
    pub(super) fn setting_name(&mut self) -> Result<String> {
        let mut name = self.col_id()?.name;
        while self.eat_char(b'.') {
            name.push('.');
            name.push_str(&self.col_id()?.name);
        }
        Ok(name)
    }

    fn setting_value(&mut self) -> Result<SetValue> {
        if let Some(number) = self.try_number()? {
            return Ok(SetValue::Number(number));
        }
        if let Some(text) = self.try_string()? {
            return Ok(SetValue::Text(text));
        }
        Ok(SetValue::Text(self.boolean_or_word()?))
    }

    fn zone_value(&mut self) -> Result<Vec<SetValue>> {
        if self.eat(Kw::Default) || self.eat(Kw::Local) {
            return Ok(Vec::new());
        }
        if let Some(number) = self.try_number()? {
            return Ok(vec![SetValue::Number(number)]);
        }
        if let Some(text) = self.try_string()? {
            return Ok(vec![SetValue::Text(text)]);
        }
        if self.eat(Kw::Interval) {
            if self.eat_char(b'(') {
                self.integer()?;
                self.expect_char(b')')?;
            }
            let text = self.string()?;
            let at = self.at();
            let mut modifiers = Vec::new();
            if let Some(fields) = self.interval_fields(&mut modifiers)? {
                // Only HOUR and HOUR TO MINUTE name an offset.
                if fields & !((1 << 10) | (1 << 11)) != 0 {
                    return Err(self.error("time zone interval must be HOUR or HOUR TO MINUTE", at));
                }
            }
            return Ok(vec![SetValue::Interval(text)]);
        }
        let token = self.token();
        if matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent) {
            self.bump();
            // Zone names keep their case only in quotes.
            return Ok(vec![SetValue::Text(self.ident_of(token)?.name)]);
        }
        Err(self.unexpected())
    }

    pub(super) fn show(&mut self) -> Result<Statement> {
        self.bump();
        if self.eat(Kw::All) {
            return Ok(Statement::Show(ShowTarget::All));
        }
        let name = self.shown_name()?;
        Ok(Statement::Show(ShowTarget::Setting(name)))
    }

    fn shown_name(&mut self) -> Result<String> {
        if self.eat_all(&[Kw::Time, Kw::Zone]) {
            return Ok("timezone".to_owned());
        }
        if self.eat_all(&[Kw::Transaction, Kw::Isolation, Kw::Level]) {
            return Ok("transaction_isolation".to_owned());
        }
        if self.eat_all(&[Kw::Session, Kw::Authorization]) {
            return Ok("session_authorization".to_owned());
        }
        self.setting_name()
    }

    pub(super) fn reset(&mut self) -> Result<Statement> {
        self.bump();
        Ok(Statement::Reset(if self.eat(Kw::All) {
            ResetTarget::All
        } else {
            ResetTarget::Setting(self.shown_name()?)
        }))
    }

    pub(super) fn discard(&mut self) -> Result<Statement> {
        self.bump();
        let target = match self.peek() {
            TokenKind::Keyword(Kw::All) => DiscardTarget::All,
            TokenKind::Keyword(Kw::Plans) => DiscardTarget::Plans,
            TokenKind::Keyword(Kw::Sequences) => DiscardTarget::Sequences,
            TokenKind::Keyword(Kw::Temp | Kw::Temporary) => DiscardTarget::Temp,
            _ => return Err(self.unexpected()),
        };
        self.bump();
        Ok(Statement::Discard(target))
    }

    pub(super) fn notification(&mut self, kw: Kw) -> Result<Statement> {
        self.bump();
        Ok(match kw {
            Kw::Listen => Statement::Listen(self.col_id()?),
            Kw::Unlisten => {
                if self.eat_char(b'*') {
                    Statement::Unlisten(None)
                } else {
                    Statement::Unlisten(Some(self.col_id()?))
                }
            }
            _ => {
                let channel = self.col_id()?;
                let payload = if self.eat_char(b',') {
                    self.string()?
                } else {
                    String::new()
                };
                Statement::Notify { channel, payload }
            }
        })
    }
}
