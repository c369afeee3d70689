//! Column definitions and constraints.

use super::Result;
use super::cursor::Parser;
use crate::catalog::relation::{Identity, ReferentialAction};
use crate::sql::error::SqlError;
use crate::sql::front::ast::{
    ColumnConstraint, ColumnConstraintKind, ColumnDefinition, ConstraintTiming, ForeignKey,
    TableConstraint, TableConstraintKind, TableElement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// DEFERRABLE and the like, behind the constraint they belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimingMark {
    Deferrable,
    NotDeferrable,
    InitiallyDeferred,
    InitiallyImmediate,
}

impl TimingMark {
    fn words(self) -> &'static str {
        match self {
            TimingMark::Deferrable => "DEFERRABLE",
            TimingMark::NotDeferrable => "NOT DEFERRABLE",
            TimingMark::InitiallyDeferred => "INITIALLY DEFERRED",
            TimingMark::InitiallyImmediate => "INITIALLY IMMEDIATE",
        }
    }
}

const MUST_BE_DEFERRABLE: &str = "constraint declared INITIALLY DEFERRED must be DEFERRABLE";

fn can_be_deferred(kind: &ColumnConstraintKind) -> bool {
    matches!(
        kind,
        ColumnConstraintKind::Unique { .. }
            | ColumnConstraintKind::PrimaryKey { .. }
            | ColumnConstraintKind::References(_)
    )
}

/// A column's constraint must be one that can wait, and has each kind of mark once (`transformConstraintAttrs`).
fn mark_column_constraint(
    constraint: Option<&mut ColumnConstraint>,
    before: &[TimingMark],
    mark: TimingMark,
) -> std::result::Result<(), String> {
    use TimingMark::{Deferrable, InitiallyDeferred, InitiallyImmediate, NotDeferrable};
    let Some(constraint) = constraint.filter(|c| can_be_deferred(&c.kind)) else {
        return Err(format!("misplaced {} clause", mark.words()));
    };
    let has = |either: [TimingMark; 2]| before.iter().any(|m| either.contains(m));
    let refuse = |message: &str| Err(message.to_owned());
    let timing = &mut constraint.timing;
    let said_when = has([Deferrable, NotDeferrable]);
    match mark {
        Deferrable | NotDeferrable => {
            if said_when {
                return refuse("multiple DEFERRABLE/NOT DEFERRABLE clauses not allowed");
            }
            timing.deferrable = mark == Deferrable;
        }
        InitiallyDeferred | InitiallyImmediate => {
            if has([InitiallyDeferred, InitiallyImmediate]) {
                return refuse("multiple INITIALLY IMMEDIATE/DEFERRED clauses not allowed");
            }
            timing.initially_deferred = mark == InitiallyDeferred;
            if timing.initially_deferred && !said_when {
                timing.deferrable = true;
            }
        }
    }
    if timing.initially_deferred && !timing.deferrable {
        return refuse(MUST_BE_DEFERRABLE);
    }
    Ok(())
}

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
        // Of the last one.
        let mut marks: Vec<TimingMark> = Vec::new();
        let mut wrong_mark = None;
        if self.eat(Kw::Compression) {
            storage = Some(self.col_label()?);
        }
        loop {
            let at = self.at();
            if self.eat(Kw::Collate) {
                collation = Some(self.object_name()?);
            } else if let Some(mark) = self.timing_mark()? {
                let marked = mark_column_constraint(constraints.last_mut(), &marks, mark);
                if let Err(message) = marked {
                    wrong_mark.get_or_insert((message, at));
                }
                marks.push(mark);
            } else if let Some(constraint) = self.try_column_constraint()? {
                constraints.push(constraint);
                marks.clear();
            } else {
                return Ok(ColumnDefinition {
                    name,
                    ty,
                    collation,
                    storage,
                    constraints,
                    wrong_mark,
                });
            }
        }
    }

    fn timing_mark(&mut self) -> Result<Option<TimingMark>> {
        let mark = if self.eat(Kw::Deferrable) {
            TimingMark::Deferrable
        } else if self.eat_all(&[Kw::Not, Kw::Deferrable]) {
            TimingMark::NotDeferrable
        } else if self.eat(Kw::Initially) {
            if self.eat(Kw::Deferred) {
                TimingMark::InitiallyDeferred
            } else {
                self.expect(Kw::Immediate)?;
                TimingMark::InitiallyImmediate
            }
        } else {
            return Ok(None);
        };
        Ok(Some(mark))
    }

    /// A table's constraint may have the same mark again, but none that contradicts another
    /// (`ConstraintAttributeSpec`).
    fn mark_table_constraint(
        &self,
        marks: &mut Vec<TimingMark>,
        mark: TimingMark,
        at: u32,
    ) -> Result<()> {
        use TimingMark::{Deferrable, InitiallyDeferred, InitiallyImmediate, NotDeferrable};
        marks.push(mark);
        let both = |a: TimingMark, b: TimingMark| marks.contains(&a) && marks.contains(&b);
        if both(NotDeferrable, InitiallyDeferred) {
            return Err(self.error(MUST_BE_DEFERRABLE, at));
        }
        if both(NotDeferrable, Deferrable) || both(InitiallyImmediate, InitiallyDeferred) {
            return Err(self.error("conflicting constraint properties", at));
        }
        Ok(())
    }

    fn try_column_constraint(&mut self) -> Result<Option<ColumnConstraint>> {
        let at = self.at();
        let named = self.eat(Kw::Constraint);
        let name = if named { Some(self.col_id()?) } else { None };
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
            // Nothing else begins with it.
            TokenKind::Keyword(Kw::Not) => {
                self.bump();
                return Err(self.unexpected());
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
        let match_at = self.at();
        let mut match_full = false;
        if self.eat(Kw::Match) {
            if self.is(Kw::Partial) {
                let message = "MATCH PARTIAL not yet implemented";
                return Err(SqlError::unsupported(message).at(match_at));
            }
            match_full = self.eat(Kw::Full);
            if !match_full {
                self.expect(Kw::Simple)?;
            }
        }
        let mut key = ForeignKey {
            table,
            columns,
            match_full,
            on_delete: ReferentialAction::NoAction,
            set_columns: Vec::new(),
            on_update: ReferentialAction::NoAction,
        };
        let (mut deleted, mut updated) = (false, false);
        while self.is(Kw::On) && !(deleted && updated) {
            let at = self.at();
            self.bump();
            let delete = self.is(Kw::Delete);
            if std::mem::replace(if delete { &mut deleted } else { &mut updated }, true) {
                return Err(self.unexpected());
            }
            self.bump_delete_or_update()?;
            let action = self.referential_action()?;
            let columns = match action {
                ReferentialAction::SetNull | ReferentialAction::SetDefault => {
                    self.optional_column_list()?
                }
                _ => Vec::new(),
            };
            if delete {
                (key.on_delete, key.set_columns) = (action, columns);
                continue;
            }
            if !columns.is_empty() {
                let word = action.word().unwrap_or_default();
                return Err(SqlError::unsupported(format!(
                    "a column list with {word} is only supported for ON DELETE actions"
                ))
                .at(at));
            }
            key.on_update = action;
        }
        Ok(key)
    }

    fn bump_delete_or_update(&mut self) -> Result<()> {
        if self.eat(Kw::Delete) {
            return Ok(());
        }
        self.expect(Kw::Update)
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
        if self.eat(Kw::Null) {
            return Ok(ReferentialAction::SetNull);
        }
        self.expect(Kw::Default)?;
        Ok(ReferentialAction::SetDefault)
    }

    pub(super) fn table_constraint(&mut self) -> Result<TableConstraint> {
        let at = self.at();
        let name = if self.eat(Kw::Constraint) {
            Some(self.col_id()?)
        } else {
            None
        };
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
                self.skip_brackets()?;
                if self.eat(Kw::Include) {
                    self.column_list()?;
                }
                self.key_options()?;
                if self.eat(Kw::Where) {
                    self.expect_char(b'(')?;
                    self.expr()?;
                    self.expect_char(b')')?;
                }
                TableConstraintKind::Exclude
            }
            _ => return Err(self.unexpected()),
        };
        let (timing, not_valid) = self.table_constraint_marks()?;
        Ok(TableConstraint {
            name,
            kind,
            timing,
            not_valid,
            at,
        })
    }

    /// What stands behind a table's constraint, and whether NOT VALID is among it.
    fn table_constraint_marks(&mut self) -> Result<(ConstraintTiming, bool)> {
        let mut marks: Vec<TimingMark> = Vec::new();
        let mut not_valid = false;
        loop {
            let at = self.at();
            if self.eat_all(&[Kw::Not, Kw::Valid]) {
                not_valid = true;
            } else if let Some(mark) = self.timing_mark()? {
                self.mark_table_constraint(&mut marks, mark, at)?;
            } else {
                break;
            }
        }
        let initially_deferred = marks.contains(&TimingMark::InitiallyDeferred);
        let timing = ConstraintTiming {
            deferrable: initially_deferred || marks.contains(&TimingMark::Deferrable),
            initially_deferred,
        };
        Ok((timing, not_valid))
    }

    /// ALTER CONSTRAINT, which is of foreign keys alone.
    pub(super) fn constraint_timing(&mut self) -> Result<ConstraintTiming> {
        let (timing, not_valid) = self.table_constraint_marks()?;
        let mark = match not_valid {
            true => "NOT VALID",
            false if self.eat_all(&[Kw::No, Kw::Inherit]) => "NO INHERIT",
            false => return Ok(timing),
        };
        let message = format!("FOREIGN KEY constraints cannot be marked {mark}");
        Err(SqlError::unsupported(message))
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
