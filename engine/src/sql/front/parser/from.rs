//! FROM: tables, subqueries, functions, joins.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    Alias, FunctionItem, FunctionsRef, Ident, JoinCondition, JoinRef, JoinType, TableRef, TypeName,
};
use crate::sql::front::keywords::{Category, Kw};
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn table_ref(&mut self) -> Result<TableRef> {
        self.nested(|p| {
            let (mut left, mut height) = p.measured(Parser::table_primary)?;
            while p.at_join() {
                let (joined, right) = p.measured(|p| p.join(left))?;
                left = joined;
                height = height.max(right) + 1;
                p.grows_to(height)?;
            }
            Ok(left)
        })
    }

    fn at_join(&self) -> bool {
        self.is_any(&[
            Kw::Cross,
            Kw::Natural,
            Kw::Join,
            Kw::Inner,
            Kw::Left,
            Kw::Right,
            Kw::Full,
        ])
    }

    fn join(&mut self, left: TableRef) -> Result<TableRef> {
        let at = self.at();
        let make = |kind, left, right, condition| {
            TableRef::Join(Box::new(JoinRef {
                kind,
                left,
                right,
                condition,
                alias: None,
                at,
            }))
        };
        if self.eat(Kw::Cross) {
            self.expect(Kw::Join)?;
            let right = self.table_primary()?;
            return Ok(make(JoinType::Cross, left, right, JoinCondition::None));
        }
        let natural = self.eat(Kw::Natural);
        let kind = self.join_type()?;
        let mut right = self.table_primary()?;
        if natural {
            return Ok(make(kind, left, right, JoinCondition::Natural));
        }
        // `a JOIN b JOIN c ON .. ON ..`: the inner join comes first.
        while self.at_join() {
            right = self.nested(|p| p.join(right))?;
            self.grows_on_top()?;
        }
        let condition = self.join_condition()?;
        Ok(make(kind, left, right, condition))
    }

    fn join_type(&mut self) -> Result<JoinType> {
        let kind = match self.peek() {
            TokenKind::Keyword(Kw::Left) => JoinType::Left,
            TokenKind::Keyword(Kw::Right) => JoinType::Right,
            TokenKind::Keyword(Kw::Full) => JoinType::Full,
            _ => JoinType::Inner,
        };
        if kind != JoinType::Inner {
            self.bump();
            self.eat(Kw::Outer);
        } else {
            self.eat(Kw::Inner);
        }
        self.expect(Kw::Join)?;
        Ok(kind)
    }

    fn join_condition(&mut self) -> Result<JoinCondition> {
        if self.eat(Kw::On) {
            return Ok(JoinCondition::On(self.expr()?));
        }
        self.expect(Kw::Using)?;
        let columns = self.column_list()?;
        let alias = if self.eat(Kw::As) {
            Some(self.col_id()?)
        } else {
            None
        };
        Ok(JoinCondition::Using { columns, alias })
    }

    fn table_primary(&mut self) -> Result<TableRef> {
        let lateral = self.eat(Kw::Lateral);
        let at = self.at();
        if self.is_char(b'(') {
            return self.table_parenthesis(lateral, at);
        }
        if self.is(Kw::Rows) && self.is_at(1, Kw::From) {
            self.bump();
            self.bump();
            let calls = self.parenthesized(Parser::rows_from_item)?;
            return self.table_functions(calls, true);
        }
        if self.is(Kw::Xmltable) {
            self.bump();
            self.skip_brackets()?;
            self.table_alias()?;
            return Ok(TableRef::Unsupported {
                what: "XMLTABLE",
                at,
            });
        }
        if self.at_function() {
            let call = self.primary()?;
            let columns = Vec::new();
            return self.table_functions(vec![FunctionItem { call, columns, at }], false);
        }
        if lateral {
            // Nothing but a function's name may come, and its arguments do not.
            self.object_name()?;
            return Err(self.unexpected());
        }
        let mut table = self.relation_expression()?;
        let name = self.table_alias()?;
        if let TableRef::Table { alias, sampled, .. } = &mut table {
            *alias = name;
            if self.eat(Kw::Tablesample) {
                self.col_id()?;
                self.skip_brackets()?;
                *sampled = true;
            }
        }
        Ok(table)
    }

    /// A name and `(`, or a function that SQL writes as a word.
    fn at_function(&self) -> bool {
        let first = match self.peek() {
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => true,
            TokenKind::Keyword(kw) => match kw.category() {
                Category::Reserved => {
                    return matches!(
                        kw,
                        Kw::CurrentDate
                            | Kw::CurrentTime
                            | Kw::CurrentTimestamp
                            | Kw::Localtime
                            | Kw::Localtimestamp
                            | Kw::CurrentRole
                            | Kw::CurrentUser
                            | Kw::SessionUser
                            | Kw::User
                            | Kw::CurrentCatalog
                    );
                }
                _ => true,
            },
            _ => false,
        };
        let mut n = 1;
        while self.peek_at(n) == TokenKind::Char(b'.') {
            n += 2;
        }
        first && self.peek_at(n) == TokenKind::Char(b'(')
    }

    /// gram.y's rowsfrom_item.
    fn rows_from_item(&mut self) -> Result<FunctionItem> {
        if !self.at_function() {
            return Err(self.unexpected());
        }
        let at = self.at();
        let call = self.primary()?;
        let columns = match self.eat(Kw::As) {
            true => self.column_definitions()?,
            false => Vec::new(),
        };
        Ok(FunctionItem { call, columns, at })
    }

    /// What comes behind the calls.
    fn table_functions(&mut self, calls: Vec<FunctionItem>, rows_from: bool) -> Result<TableRef> {
        let with_ordinality = self.eat_all(&[Kw::With, Kw::Ordinality]);
        let mut columns = Vec::new();
        let alias = if self.is(Kw::As) && self.peek_at(1) == TokenKind::Char(b'(') {
            self.bump();
            columns = self.column_definitions()?;
            None
        } else {
            let mark = self.mark();
            let named = if self.eat(Kw::As) {
                Some(self.col_id()?)
            } else {
                self.try_col_id()?
            };
            match named {
                Some(name) if self.is_char(b'(') && !self.at_alias_list() => {
                    columns = self.column_definitions()?;
                    Some(Alias {
                        name,
                        columns: Vec::new(),
                    })
                }
                _ => {
                    self.back_to(mark);
                    self.table_alias()?
                }
            }
        };
        Ok(TableRef::Functions(Box::new(FunctionsRef {
            calls,
            rows_from,
            with_ordinality,
            alias,
            columns,
        })))
    }

    /// At `(`: names with commas, not names with types.
    fn at_alias_list(&self) -> bool {
        matches!(
            self.peek_at(2),
            TokenKind::Char(b',') | TokenKind::Char(b')')
        )
    }

    fn column_definitions(&mut self) -> Result<Vec<(Ident, TypeName)>> {
        self.parenthesized(|p| Ok((p.col_id()?, p.type_name()?)))
    }

    fn table_parenthesis(&mut self, lateral: bool, at: u32) -> Result<TableRef> {
        if let Some(query) = self.try_parenthesized_query()? {
            let alias = self.table_alias()?;
            return Ok(TableRef::Subquery {
                query: Box::new(query),
                alias,
                lateral,
                at,
            });
        }
        if lateral {
            self.bump();
            return Err(self.unexpected());
        }
        self.expect_char(b'(')?;
        let inner = self.table_ref()?;
        let TableRef::Join(mut join) = inner else {
            // Only a join may stand in parentheses.
            return Err(self.unexpected());
        };
        self.expect_char(b')')?;
        if join.alias.is_none() {
            join.alias = self.table_alias()?;
        }
        Ok(TableRef::Join(join))
    }

    /// gram.y's opt_alias_clause.
    fn table_alias(&mut self) -> Result<Option<Alias>> {
        let name = if self.eat(Kw::As) {
            self.col_id()?
        } else {
            match self.try_col_id()? {
                Some(name) => name,
                None => return Ok(None),
            }
        };
        let columns = self.optional_column_list()?;
        Ok(Some(Alias { name, columns }))
    }

    /// gram.y's relation_expr.
    pub(super) fn relation_expression(&mut self) -> Result<TableRef> {
        let only = self.eat(Kw::Only);
        let name = if only && self.eat_char(b'(') {
            let name = self.object_name()?;
            self.expect_char(b')')?;
            name
        } else {
            let name = self.object_name()?;
            if !only {
                self.eat_char(b'*');
            }
            name
        };
        Ok(TableRef::Table {
            name,
            only,
            alias: None,
            sampled: false,
        })
    }
}
