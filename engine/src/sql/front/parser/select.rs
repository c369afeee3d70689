//! SELECT, VALUES, TABLE, set operations, ORDER BY, LIMIT, locking, WITH.

use super::Result;
use super::cursor::Parser;
use super::expr::node;
use crate::sql::bound::{LockWait, RowLockMode, SetOp};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    Cte, DistinctClause, Expr, ExprKind, GroupItem, IntoClause, Limit, Literal, LockingClause,
    OrderItem, Persistence, Query, QueryBody, Select, SelectItem, Statement, TableRef, With,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

fn plain(body: QueryBody, at: u32) -> Query {
    Query {
        with: None,
        body,
        order_by: Vec::new(),
        limit: None,
        offset: None,
        locking: Vec::new(),
        at,
    }
}

impl Parser<'_> {
    pub(super) fn query_statement(&mut self) -> Result<Statement> {
        let query = self.query()?;
        Ok(select_into(query))
    }

    /// WITH in front of any of the four.
    pub(super) fn with_statement(&mut self) -> Result<Statement> {
        let (with, below) = self.with_clause()?;
        let (statement, height) = self.measured(|p| match p.peek() {
            TokenKind::Keyword(Kw::Insert) => p.insert(with),
            TokenKind::Keyword(Kw::Update) => p.update(with),
            TokenKind::Keyword(Kw::Delete) => p.delete(with),
            _ => p.nested(|p| p.query_behind(with, 0)).map(select_into),
        })?;
        self.grows_to(below + height)?;
        Ok(statement)
    }

    /// The clause and its height: each of its queries may come to stand in the one behind it, and all in what follows.
    fn with_clause(&mut self) -> Result<(Option<With>, u32)> {
        let at = self.at();
        if !self.eat(Kw::With) {
            return Ok((None, 0));
        }
        let recursive = self.eat(Kw::Recursive);
        let mut height = 0;
        let ctes = self.list(|p| {
            let (cte, own) = p.measured(Parser::with_query)?;
            height += own;
            p.grows_to(height)?;
            Ok(cte)
        })?;
        let with = With {
            recursive,
            ctes,
            at,
        };
        Ok((Some(with), height))
    }

    fn with_query(&mut self) -> Result<Cte> {
        let name = self.col_id()?;
        let columns = self.optional_column_list()?;
        self.expect(Kw::As)?;
        let materialized = if self.eat(Kw::Materialized) {
            Some(true)
        } else if self.eat_all(&[Kw::Not, Kw::Materialized]) {
            Some(false)
        } else {
            None
        };
        self.expect_char(b'(')?;
        if !self.begins_preparable() {
            return Err(self.unexpected());
        }
        let statement = self.nested(Parser::statement)?;
        self.expect_char(b')')?;
        if self.is_any(&[Kw::Search, Kw::Cycle]) {
            return Err(
                super::function::not_yet("SEARCH or CYCLE in WITH", self.at())
                    .hint("Keep the path in an array column of the query."),
            );
        }
        Ok(Cte {
            name,
            columns,
            materialized,
            statement,
        })
    }

    /// Whether what comes may be a statement of WITH (gram.y's PreparableStmt).
    fn begins_preparable(&self) -> bool {
        let words = [
            Kw::Select,
            Kw::Values,
            Kw::Table,
            Kw::With,
            Kw::Insert,
            Kw::Update,
            Kw::Delete,
            Kw::Merge,
        ];
        self.is_char(b'(') || self.is_any(&words)
    }

    /// A query with everything that may stand around it.
    pub(super) fn query(&mut self) -> Result<Query> {
        self.nested(|p| {
            let (with, below) = p.with_clause()?;
            p.query_behind(with, below)
        })
    }

    /// A query behind its WITH, which is `below` high.
    fn query_behind(&mut self, with: Option<With>, below: u32) -> Result<Query> {
        let (mut query, height) = self.measured(|p| p.set_expression(1))?;
        self.grows_to(below + height)?;
        if let Some(with) = with {
            if query.with.is_some() {
                return Err(self.error("multiple WITH clauses not allowed", with.at));
            }
            query.at = with.at;
            query.with = Some(with);
        }
        self.query_tail(&mut query)?;
        Ok(query)
    }

    /// UNION and EXCEPT are level 1, INTERSECT level 2.
    fn set_expression(&mut self, least: u8) -> Result<Query> {
        let (mut left, mut height) = self.measured(Parser::set_operand)?;
        loop {
            let (op, level) = match self.peek() {
                TokenKind::Keyword(Kw::Union) => (SetOp::Union, 1),
                TokenKind::Keyword(Kw::Except) => (SetOp::Except, 1),
                TokenKind::Keyword(Kw::Intersect) => (SetOp::Intersect, 2),
                _ => return Ok(left),
            };
            if level < least {
                return Ok(left);
            }
            self.bump();
            let all = self.eat(Kw::All);
            if !all {
                self.eat(Kw::Distinct);
            }
            let operand = |p: &mut Self| p.nested(|p| p.set_expression(level + 1));
            let (right, right_height) = self.measured(operand)?;
            height = height.max(right_height) + 1;
            self.grows_to(height)?;
            let at = left.at;
            left = plain(
                QueryBody::SetOperation {
                    op,
                    all,
                    left: Box::new(left),
                    right: Box::new(right),
                },
                at,
            );
        }
    }

    fn set_operand(&mut self) -> Result<Query> {
        let at = self.at();
        match self.peek() {
            TokenKind::Keyword(Kw::Select) => {
                let select = self.select()?;
                Ok(plain(QueryBody::Select(Box::new(select)), at))
            }
            TokenKind::Keyword(Kw::Values) => {
                self.bump();
                let rows = self.list(|p| p.parenthesized(Parser::expr))?;
                Ok(plain(QueryBody::Values(rows), at))
            }
            TokenKind::Keyword(Kw::Table) => {
                self.bump();
                let table = self.relation_expression()?;
                Ok(plain(
                    QueryBody::Select(Box::new(select_all(table, at))),
                    at,
                ))
            }
            TokenKind::Char(b'(') => self.parenthesized_query(),
            _ => Err(self.unexpected()),
        }
    }

    fn select(&mut self) -> Result<Select> {
        self.expect(Kw::Select)?;
        let distinct = self.distinct()?;
        let no_targets = self.at_statement_end()
            || self.is_char(b')')
            || self.is_any(&[
                Kw::From,
                Kw::Where,
                Kw::Into,
                Kw::Group,
                Kw::Having,
                Kw::Order,
                Kw::Limit,
                Kw::Offset,
                Kw::Fetch,
                Kw::For,
                Kw::Union,
                Kw::Except,
                Kw::Intersect,
                Kw::Window,
            ]);
        let targets = if no_targets && distinct == DistinctClause::No {
            Vec::new()
        } else {
            self.select_items()?
        };
        let into = self.into_clause()?;
        let from = if self.eat(Kw::From) {
            self.list(Parser::table_ref)?
        } else {
            Vec::new()
        };
        let filter = self.where_clause()?;
        let mut group_by = Vec::new();
        let mut group_distinct = false;
        if self.is(Kw::Group) {
            self.expect_all(&[Kw::Group, Kw::By])?;
            group_distinct = self.eat(Kw::Distinct);
            if !group_distinct {
                self.eat(Kw::All);
            }
            group_by = self.list(Parser::group_item)?;
        }
        let having = if self.eat(Kw::Having) {
            Some(self.expr()?)
        } else {
            None
        };
        let windows = self.window_clause()?;
        Ok(Select {
            distinct,
            targets,
            into,
            from,
            filter,
            group_by,
            group_distinct,
            having,
            windows,
        })
    }

    fn distinct(&mut self) -> Result<DistinctClause> {
        if !self.eat(Kw::Distinct) {
            self.eat(Kw::All);
            return Ok(DistinctClause::No);
        }
        if self.eat(Kw::On) {
            return Ok(DistinctClause::On(self.parenthesized(Parser::expr)?));
        }
        Ok(DistinctClause::All)
    }

    pub(super) fn where_clause(&mut self) -> Result<Option<Expr>> {
        if self.eat(Kw::Where) {
            self.expr().map(Some)
        } else {
            Ok(None)
        }
    }

    fn group_item(&mut self) -> Result<GroupItem> {
        let at = self.at();
        let what = match self.peek() {
            TokenKind::Char(b'(') if self.peek_at(1) == TokenKind::Char(b')') => {
                self.bump();
                self.bump();
                return Ok(GroupItem::Set {
                    what: "an empty grouping set",
                    at,
                });
            }
            TokenKind::Keyword(Kw::Grouping) if self.is_at(1, Kw::Sets) => {
                self.bump();
                "GROUPING SETS"
            }
            TokenKind::Keyword(Kw::Rollup) if self.peek_at(1) == TokenKind::Char(b'(') => "ROLLUP",
            TokenKind::Keyword(Kw::Cube) if self.peek_at(1) == TokenKind::Char(b'(') => "CUBE",
            _ => return Ok(GroupItem::Expr(self.expr()?)),
        };
        self.bump();
        self.skip_brackets()?;
        Ok(GroupItem::Set { what, at })
    }

    fn into_clause(&mut self) -> Result<Option<IntoClause>> {
        if !self.eat(Kw::Into) {
            return Ok(None);
        }
        let persistence = self.persistence();
        self.eat(Kw::Table);
        Ok(Some(IntoClause {
            name: self.object_name()?,
            persistence,
        }))
    }

    /// gram.y's OptTemp.
    pub(super) fn persistence(&mut self) -> Persistence {
        if self.is_any(&[Kw::Global, Kw::Local])
            && matches!(
                self.peek_at(1),
                TokenKind::Keyword(Kw::Temp | Kw::Temporary)
            )
        {
            self.bump();
        }
        if self.eat(Kw::Temp) || self.eat(Kw::Temporary) {
            Persistence::Temporary
        } else if self.eat(Kw::Unlogged) {
            Persistence::Unlogged
        } else {
            Persistence::Permanent
        }
    }

    pub(super) fn order_by(&mut self) -> Result<Vec<OrderItem>> {
        self.expect_all(&[Kw::Order, Kw::By])?;
        self.list(|p| {
            let expr = p.expr()?;
            let mut using = None;
            let mut descending = false;
            if p.eat(Kw::Using) {
                let at = p.at();
                using = Some((p.any_operator()?, at));
            } else {
                descending = p.descending();
            }
            let nulls_first = p.nulls_order()?;
            Ok(OrderItem {
                expr,
                descending,
                nulls_first,
                using,
            })
        })
    }

    pub(super) fn descending(&mut self) -> bool {
        if self.eat(Kw::Desc) {
            return true;
        }
        self.eat(Kw::Asc);
        false
    }

    pub(super) fn nulls_order(&mut self) -> Result<Option<bool>> {
        if self.is(Kw::Nulls) && (self.is_at(1, Kw::First) || self.is_at(1, Kw::Last)) {
            self.bump();
            let first = self.is(Kw::First);
            self.bump();
            return Ok(Some(first));
        }
        Ok(None)
    }

    fn query_tail(&mut self, query: &mut Query) -> Result<()> {
        if self.is(Kw::Order) {
            let outer = !query.order_by.is_empty();
            let order_by = self.order_by()?;
            if outer {
                let at = crate::sql::front::location(&order_by[0].expr);
                return Err(self.error("multiple ORDER BY clauses not allowed", at));
            }
            query.order_by = order_by;
        }
        // Limits, then locks; or the other way round.
        let limited = self.limit_and_offset(query)?;
        let mut locked = false;
        while self.is(Kw::For) {
            locked = true;
            self.locking_clause(query)?;
        }
        if locked && !limited {
            self.limit_and_offset(query)?;
        }
        let ties = query.limit.as_ref().is_some_and(|l| l.with_ties);
        if ties && query.order_by.is_empty() {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                "WITH TIES cannot be specified without ORDER BY clause",
            ));
        }
        Ok(())
    }

    /// LIMIT and OFFSET in either order, each once; true: there was one.
    fn limit_and_offset(&mut self, query: &mut Query) -> Result<bool> {
        let (mut limit, mut offset) = (false, false);
        loop {
            match self.peek() {
                TokenKind::Keyword(Kw::Limit | Kw::Fetch) if !limit => {
                    limit = true;
                    self.limit_clause(query)?;
                }
                TokenKind::Keyword(Kw::Offset) if !offset => {
                    offset = true;
                    self.offset_clause(query)?;
                }
                _ => return Ok(limit || offset),
            }
        }
    }

    fn limit_clause(&mut self, query: &mut Query) -> Result<()> {
        let at = self.at();
        let limit = if self.eat(Kw::Fetch) {
            self.fetch_first(at)?
        } else {
            self.bump();
            let count = if self.eat(Kw::All) {
                None
            } else {
                Some(self.expr()?)
            };
            if self.is_char(b',') {
                return Err(self
                    .error("LIMIT #,# syntax is not supported", at)
                    .hint("Use separate LIMIT and OFFSET clauses."));
            }
            Limit {
                count,
                with_ties: false,
                at,
            }
        };
        if query.limit.is_some() {
            return Err(self.error("multiple LIMIT clauses not allowed", at));
        }
        query.limit = Some(limit);
        Ok(())
    }

    fn fetch_first(&mut self, at: u32) -> Result<Limit> {
        if !self.eat(Kw::First) {
            self.expect(Kw::Next)?;
        }
        let count = if self.is_any(&[Kw::Row, Kw::Rows]) {
            node(ExprKind::Literal(Literal::Int(1)), at)
        } else {
            self.fetch_count()?
        };
        if !self.eat(Kw::Row) {
            self.expect(Kw::Rows)?;
        }
        let with_ties = self.eat_all(&[Kw::With, Kw::Ties]);
        if !with_ties {
            self.expect(Kw::Only)?;
        }
        Ok(Limit {
            count: Some(count),
            with_ties,
            at,
        })
    }

    /// gram.y's select_fetch_first_value: c_expr, or a signed constant.
    fn fetch_count(&mut self) -> Result<Expr> {
        let at = self.at();
        match self.peek() {
            TokenKind::Char(b'+' | b'-') => {
                let number = self.number()?;
                Ok(match number.parse() {
                    Ok(n) => node(ExprKind::Literal(Literal::Int(n)), at),
                    Err(_) => node(ExprKind::Literal(Literal::Number(number)), at),
                })
            }
            _ => self.primary(),
        }
    }

    fn offset_clause(&mut self, query: &mut Query) -> Result<()> {
        let at = self.at();
        self.bump();
        let offset = self.expr()?;
        if !self.eat(Kw::Row) {
            self.eat(Kw::Rows);
        }
        if query.offset.is_some() {
            return Err(self.error("multiple OFFSET clauses not allowed", at));
        }
        query.offset = Some(offset);
        Ok(())
    }

    fn locking_clause(&mut self, query: &mut Query) -> Result<()> {
        let at = self.at();
        self.bump();
        if self.is(Kw::Read) {
            self.expect_all(&[Kw::Read, Kw::Only])?;
            return Ok(());
        }
        let mode = if self.eat(Kw::Update) {
            RowLockMode::Update
        } else if self.eat(Kw::Share) {
            RowLockMode::Share
        } else if self.eat(Kw::No) {
            self.expect_all(&[Kw::Key, Kw::Update])?;
            RowLockMode::NoKeyUpdate
        } else {
            self.expect_all(&[Kw::Key, Kw::Share])?;
            RowLockMode::KeyShare
        };
        let tables = if self.eat(Kw::Of) {
            self.list(Parser::object_name)?
        } else {
            Vec::new()
        };
        let wait = if self.eat(Kw::Nowait) {
            LockWait::NoWait
        } else if self.eat(Kw::Skip) {
            self.expect(Kw::Locked)?;
            LockWait::SkipLocked
        } else {
            LockWait::Block
        };
        query.locking.push(LockingClause {
            mode,
            tables,
            wait,
            at,
        });
        Ok(())
    }
}

/// `TABLE t`
fn select_all(table: TableRef, at: u32) -> Select {
    Select {
        distinct: DistinctClause::No,
        targets: vec![SelectItem {
            expr: node(ExprKind::Star(Vec::new()), at),
            alias: None,
        }],
        into: None,
        from: vec![table],
        filter: None,
        group_by: Vec::new(),
        group_distinct: false,
        having: None,
        windows: Vec::new(),
    }
}

/// SELECT ... INTO is CREATE TABLE AS.
fn select_into(mut query: Query) -> Statement {
    let mut place = &mut query;
    // INTO stands in the leftmost select.
    let into = loop {
        match &mut place.body {
            QueryBody::Select(select) => break select.into.take(),
            QueryBody::Values(_) => break None,
            QueryBody::SetOperation { left, .. } => place = left,
        }
    };
    match into {
        None => Statement::Query(Box::new(query)),
        Some(into) => Statement::CreateTableAs(Box::new(crate::sql::front::ast::CreateTableAs {
            name: into.name,
            columns: Vec::new(),
            persistence: into.persistence,
            if_not_exists: false,
            options: Vec::new(),
            on_commit: None,
            query: Statement::Query(Box::new(query)),
            with_data: true,
            select_into: true,
            materialized_view: false,
        })),
    }
}
