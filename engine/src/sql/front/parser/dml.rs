//! INSERT, UPDATE, DELETE.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    ColumnTarget, ConflictDo, ConflictKey, ConflictTarget, Delete, Expr, Ident, Indirection,
    Insert, ObjectName, OnConflict, Overriding, SelectItem, SetClause, Statement, TableRef, Update,
    With,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// ONLY, the table, its alias.
type Target = (bool, ObjectName, Option<Ident>);

impl Parser<'_> {
    pub(super) fn insert(&mut self, with: Option<With>) -> Result<Statement> {
        self.expect_all(&[Kw::Insert, Kw::Into])?;
        let table = self.object_name()?;
        let alias = if self.eat(Kw::As) {
            Some(self.col_id()?)
        } else {
            None
        };
        let mut columns = Vec::new();
        let query_follows = matches!(
            self.peek_at(1),
            TokenKind::Keyword(Kw::Select | Kw::Values | Kw::With | Kw::Table)
                | TokenKind::Char(b'(')
        );
        if self.is_char(b'(') && !query_follows {
            columns = self.parenthesized(Parser::column_target)?;
        }
        let overriding = self.overriding()?;
        let bare = columns.is_empty() && overriding.is_none();
        let source = if bare && self.eat_all(&[Kw::Default, Kw::Values]) {
            None
        } else {
            Some(self.query()?)
        };
        let on_conflict = self.on_conflict()?;
        let returning = self.returning()?;
        Ok(Statement::Insert(Box::new(Insert {
            with,
            table,
            alias,
            columns,
            overriding,
            source,
            on_conflict,
            returning,
        })))
    }

    fn overriding(&mut self) -> Result<Option<Overriding>> {
        if !self.eat(Kw::Overriding) {
            return Ok(None);
        }
        let kind = if self.eat(Kw::User) {
            Overriding::User
        } else {
            self.expect(Kw::System)?;
            Overriding::System
        };
        self.expect(Kw::Value)?;
        Ok(Some(kind))
    }

    fn column_target(&mut self) -> Result<ColumnTarget> {
        let name = self.col_id()?;
        let mut indirection = Vec::new();
        loop {
            if self.eat_char(b'.') {
                indirection.push(Indirection::Field(self.col_label()?));
            } else if self.is_char(b'[') {
                indirection.push(Indirection::Subscript(self.subscript()?));
            } else {
                return Ok(ColumnTarget { name, indirection });
            }
        }
    }

    fn on_conflict(&mut self) -> Result<Option<OnConflict>> {
        let at = self.at();
        if !self.eat(Kw::On) {
            return Ok(None);
        }
        self.expect(Kw::Conflict)?;
        let target = if self.is_char(b'(') {
            let at = self.at();
            let keys = self.parenthesized(Parser::conflict_key)?;
            let filter = self.where_clause()?;
            Some(ConflictTarget::Columns { keys, filter, at })
        } else if self.eat(Kw::On) {
            self.expect(Kw::Constraint)?;
            Some(ConflictTarget::Constraint(self.col_id()?))
        } else {
            None
        };
        self.expect(Kw::Do)?;
        let action = if self.eat(Kw::Nothing) {
            ConflictDo::Nothing
        } else {
            self.expect_all(&[Kw::Update, Kw::Set])?;
            let set = self.list(Parser::set_clause)?;
            let filter = self.where_clause()?;
            ConflictDo::Update { set, filter }
        };
        Ok(Some(OnConflict { target, action, at }))
    }

    fn conflict_key(&mut self) -> Result<ConflictKey> {
        let element = self.index_element()?;
        let expr = match element.key {
            crate::sql::front::ast::IndexElementKey::Column(name) => {
                let at = name.at;
                super::expr::node(crate::sql::front::ast::ExprKind::Column(vec![name]), at)
            }
            crate::sql::front::ast::IndexElementKey::Expression(expr, _) => expr,
        };
        Ok(ConflictKey {
            expr,
            collation: element.collation,
            operator_class: element.operator_class,
        })
    }

    fn returning(&mut self) -> Result<Vec<SelectItem>> {
        if self.eat(Kw::Returning) {
            self.select_items()
        } else {
            Ok(Vec::new())
        }
    }

    fn set_clause(&mut self) -> Result<SetClause> {
        let multiple = self.is_char(b'(');
        let targets = if multiple {
            self.parenthesized(Parser::column_target)?
        } else {
            vec![self.column_target()?]
        };
        self.expect_char(b'=')?;
        let value = self.expr()?;
        Ok(SetClause {
            targets,
            multiple,
            value,
        })
    }

    /// gram.y's relation_expr_opt_alias: SET is no alias without AS.
    fn target_table(&mut self) -> Result<Target> {
        let TableRef::Table { name, only, .. } = self.relation_expression()? else {
            return Err(self.unexpected());
        };
        let alias = if self.eat(Kw::As) {
            Some(self.col_id()?)
        } else if self.is(Kw::Set) {
            None
        } else {
            self.try_col_id()?
        };
        Ok((only, name, alias))
    }

    fn where_or_current(&mut self) -> Result<(Option<Expr>, Option<Ident>)> {
        if self.is(Kw::Where) && self.is_at(1, Kw::Current) && self.is_at(2, Kw::Of) {
            for _ in 0..3 {
                self.bump();
            }
            return Ok((None, Some(self.col_id()?)));
        }
        Ok((self.where_clause()?, None))
    }

    pub(super) fn update(&mut self, with: Option<With>) -> Result<Statement> {
        self.expect(Kw::Update)?;
        let (only, table, alias) = self.target_table()?;
        self.expect(Kw::Set)?;
        let set = self.list(Parser::set_clause)?;
        let from = if self.eat(Kw::From) {
            self.list(Parser::table_ref)?
        } else {
            Vec::new()
        };
        let (filter, current_of) = self.where_or_current()?;
        let returning = self.returning()?;
        Ok(Statement::Update(Box::new(Update {
            with,
            table,
            only,
            alias,
            set,
            from,
            filter,
            current_of,
            returning,
        })))
    }

    pub(super) fn delete(&mut self, with: Option<With>) -> Result<Statement> {
        self.expect_all(&[Kw::Delete, Kw::From])?;
        let (only, table, alias) = self.target_table()?;
        let using = if self.eat(Kw::Using) {
            self.list(Parser::table_ref)?
        } else {
            Vec::new()
        };
        let (filter, current_of) = self.where_or_current()?;
        let returning = self.returning()?;
        Ok(Statement::Delete(Box::new(Delete {
            with,
            table,
            only,
            alias,
            using,
            filter,
            current_of,
            returning,
        })))
    }
}
