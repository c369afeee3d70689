//! Column definitions and constraints.

use super::Result;
use super::cursor::Parser;
use crate::catalog::relation::Identity;
use crate::sql::front::ast::{
    ColumnConstraint, ColumnConstraintKind, ColumnDefinition, ConstraintTiming, ForeignKey,
    ReferentialAction, TableConstraint, TableConstraintKind, TableElement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn table_element(&mut self) -> Result<TableElement> {
        if self.is(Kw::Like) {
            return self.like_clause();
        }
        if self.at_table_constraint() {
            return Ok(TableElement::Constraint(self.table_constraint()?));
        }
        Ok(TableElement::Column(self.column_definition()?))
    }

    pub(super) fn at_table_constraint(&self) -> bool {
        self.is_any(&[
            Kw::Constraint,
            Kw::Check,
            Kw::Unique,
            Kw::Primary,
            Kw::Foreign,
            Kw::Exclude,
        ]) && (!self.is(Kw::Exclude)
            || matches!(
                self.peek_at(1),
                TokenKind::Keyword(Kw::Using) | TokenKind::Char(b'(')
            ))
    }

    fn like_clause(&mut self) -> Result<TableElement> {
        let at = self.at();
        self.bump();
        let table = self.object_name()?;
        let mut options = Vec::new();
        while self.is_any(&[Kw::Including, Kw::Excluding]) {
            let including = self.is(Kw::Including);
            self.bump();
            let TokenKind::Keyword(
                Kw::Comments
                | Kw::Compression
                | Kw::Constraints
                | Kw::Defaults
                | Kw::Identity
                | Kw::Generated
                | Kw::Indexes
                | Kw::Statistics
                | Kw::Storage
                | Kw::All,
            ) = self.peek()
            else {
                return Err(self.unexpected());
            };
            options.push((including, self.col_label()?.name));
        }
        Ok(TableElement::Like { table, options, at })
    }

    pub(super) fn column_definition(&mut self) -> Result<ColumnDefinition> {
        let name = self.col_id()?;
        let ty = self.type_name()?;
        let mut storage = None;
        let mut collation = None;
        let mut constraints: Vec<ColumnConstraint> = Vec::new();
        if self.eat(Kw::Compression) {
            storage = Some(self.col_label()?);
        }
        loop {
            if self.eat(Kw::Collate) {
                collation = Some(self.object_name()?);
            } else if self.constraint_timing(constraints.last_mut().map(|c| &mut c.timing))? {
            } else if let Some(constraint) = self.try_column_constraint()? {
                constraints.push(constraint);
            } else {
                return Ok(ColumnDefinition {
                    name,
                    ty,
                    collation,
                    storage,
                    constraints,
                });
            }
        }
    }

    /// DEFERRABLE and the like, behind the constraint they belong to.
    fn constraint_timing(&mut self, timing: Option<&mut ConstraintTiming>) -> Result<bool> {
        let at = self.at();
        let (deferrable, initially) = if self.eat(Kw::Deferrable) {
            (Some(true), None)
        } else if self.eat_all(&[Kw::Not, Kw::Deferrable]) {
            (Some(false), None)
        } else if self.eat(Kw::Initially) {
            let deferred = self.eat(Kw::Deferred);
            if !deferred {
                self.expect(Kw::Immediate)?;
            }
            (None, Some(deferred))
        } else {
            return Ok(false);
        };
        let Some(timing) = timing else {
            return Err(self.error("misplaced DEFERRABLE clause", at));
        };
        if let Some(d) = deferrable {
            timing.deferrable = d;
        }
        if let Some(d) = initially {
            timing.initially_deferred = d;
            timing.deferrable |= d;
        }
        Ok(true)
    }

    fn try_column_constraint(&mut self) -> Result<Option<ColumnConstraint>> {
        let named = self.eat(Kw::Constraint);
        let name = if named { Some(self.col_id()?) } else { None };
        let at = self.at();
        let kind = match self.peek() {
            TokenKind::Keyword(Kw::Not) if self.is_at(1, Kw::Null) => {
                self.bump();
                self.bump();
                ColumnConstraintKind::NotNull
            }
            TokenKind::Keyword(Kw::Null) => {
                self.bump();
                ColumnConstraintKind::Null
            }
            TokenKind::Keyword(Kw::Default) => {
                self.bump();
                let start = self.at();
                let expr = self.restricted_expr()?;
                ColumnConstraintKind::Default(expr, self.source_since(start))
            }
            TokenKind::Keyword(Kw::Check) => self.check()?,
            TokenKind::Keyword(Kw::Unique) => {
                self.bump();
                let nulls_not_distinct = self.nulls_not_distinct()?;
                let options = self.key_options()?;
                ColumnConstraintKind::Unique {
                    nulls_not_distinct,
                    options,
                }
            }
            TokenKind::Keyword(Kw::Primary) => {
                self.expect_all(&[Kw::Primary, Kw::Key])?;
                ColumnConstraintKind::PrimaryKey {
                    options: self.key_options()?,
                }
            }
            TokenKind::Keyword(Kw::Generated) => self.generated()?,
            TokenKind::Keyword(Kw::References) => {
                self.bump();
                ColumnConstraintKind::References(Box::new(self.foreign_key()?))
            }
            _ if named => return Err(self.unexpected()),
            _ => return Ok(None),
        };
        Ok(Some(ColumnConstraint {
            name,
            kind,
            timing: ConstraintTiming::default(),
            at,
        }))
    }

    fn check(&mut self) -> Result<ColumnConstraintKind> {
        self.expect(Kw::Check)?;
        self.expect_char(b'(')?;
        let start = self.at();
        let expr = self.expr()?;
        let text = self.source_since(start);
        self.expect_char(b')')?;
        let no_inherit = self.eat_all(&[Kw::No, Kw::Inherit]);
        Ok(ColumnConstraintKind::Check {
            expr,
            text,
            no_inherit,
        })
    }

    pub(super) fn nulls_not_distinct(&mut self) -> Result<bool> {
        if !self.eat(Kw::Nulls) {
            return Ok(false);
        }
        let not = self.eat(Kw::Not);
        self.expect(Kw::Distinct)?;
        Ok(not)
    }

    /// WITH (...) and USING INDEX TABLESPACE of a key; the tablespace is one of its options.
    fn key_options(&mut self) -> Result<Vec<crate::sql::front::ast::UtilityOption>> {
        let mut options = self.with_storage_options()?;
        let at = self.at();
        if self.eat_all(&[Kw::Using, Kw::Index, Kw::Tablespace]) {
            let name = self.col_id()?.name;
            options.push(crate::sql::front::ast::UtilityOption {
                name: "tablespace".to_owned(),
                value: Some(crate::sql::front::ast::OptionValue::Text(name)),
                at,
            });
        }
        Ok(options)
    }

    fn generated(&mut self) -> Result<ColumnConstraintKind> {
        self.bump();
        let identity = self.generated_when()?;
        self.expect(Kw::As)?;
        if self.eat(Kw::Identity) {
            return Ok(ColumnConstraintKind::Identity {
                identity,
                options: self.parenthesized_sequence_options()?,
            });
        }
        self.expect_char(b'(')?;
        let start = self.at();
        let expr = self.expr()?;
        let text = self.source_since(start);
        self.expect_char(b')')?;
        self.expect(Kw::Stored)?;
        Ok(ColumnConstraintKind::Generated(expr, text))
    }

    pub(super) fn generated_when(&mut self) -> Result<Identity> {
        if self.eat(Kw::Always) {
            return Ok(Identity::Always);
        }
        self.expect_all(&[Kw::By, Kw::Default])?;
        Ok(Identity::ByDefault)
    }

    pub(super) fn parenthesized_sequence_options(
        &mut self,
    ) -> Result<Vec<crate::sql::front::ast::SequenceOption>> {
        if !self.eat_char(b'(') {
            return Ok(Vec::new());
        }
        let options = self.sequence_options()?;
        self.expect_char(b')')?;
        Ok(options)
    }

    fn foreign_key(&mut self) -> Result<ForeignKey> {
        let table = self.object_name()?;
        let columns = self.optional_column_list()?;
        if self.eat(Kw::Match) {
            if self.is(Kw::Partial) {
                return Err(super::function::not_yet("MATCH PARTIAL", self.at()));
            }
            if !self.eat(Kw::Simple) {
                self.expect(Kw::Full)?;
            }
        }
        let mut key = ForeignKey {
            table,
            columns,
            on_delete: ReferentialAction::NoAction,
            on_update: ReferentialAction::NoAction,
        };
        while self.eat(Kw::On) {
            let delete = self.eat(Kw::Delete);
            if !delete {
                self.expect(Kw::Update)?;
            }
            let action = self.referential_action()?;
            if delete {
                key.on_delete = action;
            } else {
                key.on_update = action;
            }
        }
        Ok(key)
    }

    fn referential_action(&mut self) -> Result<ReferentialAction> {
        if self.eat(Kw::No) {
            self.expect(Kw::Action)?;
            return Ok(ReferentialAction::NoAction);
        }
        if self.eat(Kw::Restrict) {
            return Ok(ReferentialAction::Restrict);
        }
        if self.eat(Kw::Cascade) {
            return Ok(ReferentialAction::Cascade);
        }
        self.expect(Kw::Set)?;
        let action = if self.eat(Kw::Null) {
            ReferentialAction::SetNull
        } else {
            self.expect(Kw::Default)?;
            ReferentialAction::SetDefault
        };
        self.optional_column_list()?;
        Ok(action)
    }

    pub(super) fn table_constraint(&mut self) -> Result<TableConstraint> {
        let name = if self.eat(Kw::Constraint) {
            Some(self.col_id()?)
        } else {
            None
        };
        let at = self.at();
        let kind = match self.peek() {
            TokenKind::Keyword(Kw::Check) => match self.check()? {
                ColumnConstraintKind::Check {
                    expr,
                    text,
                    no_inherit,
                } => TableConstraintKind::Check {
                    expr,
                    text,
                    no_inherit,
                },
                _ => return Err(self.unexpected()),
            },
            TokenKind::Keyword(Kw::Unique) => {
                self.bump();
                self.table_key(false)?
            }
            TokenKind::Keyword(Kw::Primary) => {
                self.expect_all(&[Kw::Primary, Kw::Key])?;
                self.table_key(true)?
            }
            TokenKind::Keyword(Kw::Foreign) => {
                self.expect_all(&[Kw::Foreign, Kw::Key])?;
                let columns = self.column_list()?;
                self.expect(Kw::References)?;
                TableConstraintKind::ForeignKey {
                    columns,
                    key: Box::new(self.foreign_key()?),
                }
            }
            TokenKind::Keyword(Kw::Exclude) => {
                self.bump();
                if self.eat(Kw::Using) {
                    self.col_id()?;
                }
                self.skip_window()?;
                TableConstraintKind::Exclude
            }
            _ => return Err(self.unexpected()),
        };
        let mut timing = ConstraintTiming::default();
        let mut not_valid = false;
        loop {
            if self.eat_all(&[Kw::Not, Kw::Valid]) {
                not_valid = true;
            } else if !self.constraint_timing(Some(&mut timing))? {
                return Ok(TableConstraint {
                    name,
                    kind,
                    timing,
                    not_valid,
                    at,
                });
            }
        }
    }

    fn table_key(&mut self, primary: bool) -> Result<TableConstraintKind> {
        if self.is(Kw::Using) && self.is_at(1, Kw::Index) && !self.is_at(2, Kw::Tablespace) {
            self.bump();
            self.bump();
            return Ok(TableConstraintKind::UniqueUsingIndex {
                primary,
                index: self.col_id()?,
            });
        }
        let nulls_not_distinct = !primary && self.nulls_not_distinct()?;
        let columns = self.column_list()?;
        let include = if self.eat(Kw::Include) {
            self.column_list()?
        } else {
            Vec::new()
        };
        Ok(TableConstraintKind::Unique {
            primary,
            columns,
            include,
            nulls_not_distinct,
            options: self.key_options()?,
        })
    }
}
