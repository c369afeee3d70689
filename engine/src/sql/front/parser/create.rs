//! CREATE of everything but roles.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    CreateDatabase, CreateIndex, CreateSchema, CreateSequence, CreateTable, CreateTableAs,
    CreateView, IndexElement, IndexElementKey, ObjectName, OnCommit, OptionValue, Persistence,
    Query, RoleSpec, Statement, UtilityOption,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn create(&mut self) -> Result<Statement> {
        self.expect(Kw::Create)?;
        let or_replace = self.eat_all(&[Kw::Or, Kw::Replace]);
        let persistence = self.persistence();
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        match kw {
            Kw::View => return self.create_view(or_replace, persistence),
            Kw::Recursive if self.is_at(1, Kw::View) => {
                return Ok(self.skip_unsupported("CREATE VIEW", None));
            }
            Kw::Table if !or_replace => return self.create_table(persistence),
            Kw::Sequence if !or_replace => return self.create_sequence(persistence),
            _ => {}
        }
        if persistence != Persistence::Permanent {
            return Err(self.unexpected());
        }
        if or_replace {
            return self.create_unsupported(kw);
        }
        match kw {
            Kw::Unique | Kw::Index => self.create_index(),
            Kw::Schema => self.create_schema(),
            Kw::Database => self.create_database(),
            Kw::Role | Kw::User | Kw::Group if !self.is_at(1, Kw::Mapping) => self.create_role(),
            Kw::Materialized => self.create_materialized_view(),
            _ => self.create_unsupported(kw),
        }
    }

    fn create_unsupported(&mut self, kw: Kw) -> Result<Statement> {
        let command = match kw {
            Kw::Function => "CREATE FUNCTION",
            Kw::Procedure => "CREATE PROCEDURE",
            Kw::Trigger | Kw::Constraint => "CREATE TRIGGER",
            Kw::Event => "CREATE EVENT TRIGGER",
            Kw::Rule => "CREATE RULE",
            Kw::Type => "CREATE TYPE",
            Kw::Domain => "CREATE DOMAIN",
            Kw::Extension => "CREATE EXTENSION",
            Kw::Tablespace => "CREATE TABLESPACE",
            Kw::Aggregate => "CREATE AGGREGATE",
            Kw::Operator => "CREATE OPERATOR",
            Kw::Cast => "CREATE CAST",
            Kw::Collation => "CREATE COLLATION",
            Kw::Conversion | Kw::Default => "CREATE CONVERSION",
            Kw::Language | Kw::Trusted | Kw::Procedural => "CREATE LANGUAGE",
            Kw::Policy => "CREATE POLICY",
            Kw::Publication => "CREATE PUBLICATION",
            Kw::Subscription => "CREATE SUBSCRIPTION",
            Kw::Server => "CREATE SERVER",
            Kw::Statistics => "CREATE STATISTICS",
            Kw::Foreign => "CREATE FOREIGN TABLE",
            Kw::Transform => "CREATE TRANSFORM",
            Kw::Text => "CREATE TEXT SEARCH CONFIGURATION",
            Kw::Access => "CREATE ACCESS METHOD",
            Kw::User => "CREATE USER MAPPING",
            _ => return Err(self.unexpected()),
        };
        Ok(self.skip_unsupported(command, in_place_of(kw)))
    }

    fn create_table(&mut self, persistence: Persistence) -> Result<Statement> {
        self.expect(Kw::Table)?;
        let if_not_exists = self.if_not_exists();
        let name = self.object_name()?;
        let mut table = CreateTable {
            name,
            persistence,
            if_not_exists,
            elements: Vec::new(),
            inherits: Vec::new(),
            unsupported: None,
            options: Vec::new(),
            on_commit: None,
            tablespace: None,
            access_method: None,
        };
        if self.at_create_as() {
            return self.create_table_as(table);
        }
        if self.is(Kw::Partition) || self.is(Kw::Of) {
            table.unsupported = Some(if self.is(Kw::Of) {
                "CREATE TABLE OF"
            } else {
                "CREATE TABLE PARTITION OF"
            });
            self.skip_unsupported("CREATE TABLE", None);
            return Ok(Statement::CreateTable(Box::new(table)));
        }
        self.expect_char(b'(')?;
        if !self.is_char(b')') {
            table.elements = self.list(Parser::table_element)?;
        }
        self.expect_char(b')')?;
        if self.eat(Kw::Inherits) {
            table.inherits = self.parenthesized(Parser::object_name)?;
        }
        if self.is(Kw::Partition) {
            self.expect_all(&[Kw::Partition, Kw::By])?;
            self.col_id()?;
            self.skip_brackets()?;
            table.unsupported = Some("CREATE TABLE PARTITION BY");
        }
        self.table_tail(&mut table)?;
        Ok(Statement::CreateTable(Box::new(table)))
    }

    fn table_tail(&mut self, table: &mut CreateTable) -> Result<()> {
        if self.eat(Kw::Using) {
            table.access_method = Some(self.col_id()?);
        }
        table.options = self.with_storage_options()?;
        self.eat_all(&[Kw::Without, Kw::Oids]);
        if self.eat_all(&[Kw::On, Kw::Commit]) {
            table.on_commit = Some(if self.eat(Kw::Drop) {
                OnCommit::Drop
            } else if self.eat(Kw::Delete) {
                self.expect(Kw::Rows)?;
                OnCommit::DeleteRows
            } else {
                self.expect_all(&[Kw::Preserve, Kw::Rows])?;
                OnCommit::PreserveRows
            });
        }
        if self.eat(Kw::Tablespace) {
            table.tablespace = Some(self.col_id()?);
        }
        Ok(())
    }

    /// AS or EXECUTE behind the table's name, its columns and options.
    fn at_create_as(&self) -> bool {
        match self.peek() {
            TokenKind::Keyword(Kw::As | Kw::With | Kw::On | Kw::Tablespace | Kw::Using) => true,
            TokenKind::Char(b'(') => {
                // `(a, b)` with nothing but names is a column list.
                let mut n = 1;
                loop {
                    match self.peek_at(n + 1) {
                        TokenKind::Char(b',') => n += 2,
                        TokenKind::Char(b')') => return self.peek_at(n) != TokenKind::Char(b')'),
                        _ => return false,
                    }
                }
            }
            _ => false,
        }
    }

    fn create_table_as(&mut self, mut table: CreateTable) -> Result<Statement> {
        let columns = self.optional_column_list()?;
        self.table_tail(&mut table)?;
        self.expect(Kw::As)?;
        let query = if self.is(Kw::Execute) {
            self.execute()?
        } else {
            Statement::Query(Box::new(self.query()?))
        };
        let with_data = self.with_data()?;
        Ok(Statement::CreateTableAs(Box::new(CreateTableAs {
            name: table.name,
            columns,
            persistence: table.persistence,
            if_not_exists: table.if_not_exists,
            options: table.options,
            on_commit: table.on_commit,
            query,
            with_data,
            select_into: false,
            materialized_view: false,
        })))
    }

    fn with_data(&mut self) -> Result<bool> {
        if !self.eat(Kw::With) {
            return Ok(true);
        }
        let no = self.eat(Kw::No);
        self.expect(Kw::Data)?;
        Ok(!no)
    }

    fn create_materialized_view(&mut self) -> Result<Statement> {
        self.expect_all(&[Kw::Materialized, Kw::View])?;
        let if_not_exists = self.if_not_exists();
        let name = self.object_name()?;
        let columns = self.optional_column_list()?;
        let options = self.with_storage_options()?;
        self.expect(Kw::As)?;
        let query = Statement::Query(Box::new(self.query()?));
        let with_data = self.with_data()?;
        Ok(Statement::CreateTableAs(Box::new(CreateTableAs {
            name,
            columns,
            persistence: Persistence::Permanent,
            if_not_exists,
            options,
            on_commit: None,
            query,
            with_data,
            select_into: false,
            materialized_view: true,
        })))
    }

    fn create_view(&mut self, or_replace: bool, persistence: Persistence) -> Result<Statement> {
        self.expect(Kw::View)?;
        let name = self.object_name()?;
        let columns = self.optional_column_list()?;
        let options = self.with_storage_options()?;
        self.expect(Kw::As)?;
        let query: Query = self.query()?;
        if self.eat(Kw::With) {
            if !self.eat(Kw::Local) {
                self.eat(Kw::Cascaded);
            }
            self.expect_all(&[Kw::Check, Kw::Option])?;
        }
        Ok(Statement::CreateView(Box::new(CreateView {
            name,
            or_replace,
            persistence,
            columns,
            options,
            query,
        })))
    }

    fn create_index(&mut self) -> Result<Statement> {
        let unique = self.eat(Kw::Unique);
        self.expect(Kw::Index)?;
        let concurrently = self.eat(Kw::Concurrently);
        let if_not_exists = self.if_not_exists();
        let name = if self.is(Kw::On) {
            None
        } else {
            Some(self.col_id()?)
        };
        if if_not_exists && name.is_none() {
            return Err(self.unexpected());
        }
        self.expect(Kw::On)?;
        let only = self.eat(Kw::Only);
        let table = self.object_name()?;
        let method = if self.eat(Kw::Using) {
            Some(self.col_id()?)
        } else {
            None
        };
        let keys = self.parenthesized(Parser::index_element)?;
        let include = if self.eat(Kw::Include) {
            self.parenthesized(Parser::index_element)?
        } else {
            Vec::new()
        };
        let nulls_not_distinct = self.nulls_not_distinct()?;
        let options = self.with_storage_options()?;
        let tablespace = if self.eat(Kw::Tablespace) {
            Some(self.col_id()?)
        } else {
            None
        };
        let filter = if self.eat(Kw::Where) {
            let start = self.at();
            let expr = self.expr()?;
            Some((expr, self.source_since(start)))
        } else {
            None
        };
        Ok(Statement::CreateIndex(Box::new(CreateIndex {
            name,
            table,
            only,
            unique,
            concurrently,
            if_not_exists,
            method,
            keys,
            include,
            nulls_not_distinct,
            options,
            tablespace,
            filter,
        })))
    }

    /// gram.y's index_elem.
    pub(super) fn index_element(&mut self) -> Result<IndexElement> {
        let at = self.at();
        let key = if self.eat_char(b'(') {
            let start = self.at();
            let expr = self.expr()?;
            let text = self.source_since(start);
            self.expect_char(b')')?;
            IndexElementKey::Expression(expr, text)
        } else if self.peek_is_col_id() && self.peek_at(1) != TokenKind::Char(b'(') {
            IndexElementKey::Column(self.col_id()?)
        } else {
            let expr = self.primary()?;
            IndexElementKey::Expression(expr, self.source_since(at))
        };
        let collation = if self.eat(Kw::Collate) {
            Some(self.object_name()?)
        } else {
            None
        };
        let operator_class = if self.peek_is_col_id()
            && !self.is_any(&[Kw::Nulls])
            && !self.is_any(&[Kw::Include])
        {
            let name = self.object_name()?;
            if self.is_char(b'(') {
                self.storage_options()?;
            }
            Some(name)
        } else {
            None
        };
        let descending = self.descending();
        let nulls_first = self.nulls_order()?;
        Ok(IndexElement {
            key,
            collation,
            operator_class,
            descending,
            nulls_first,
            at,
        })
    }

    fn create_sequence(&mut self, persistence: Persistence) -> Result<Statement> {
        self.expect(Kw::Sequence)?;
        let if_not_exists = self.if_not_exists();
        let name = self.object_name()?;
        let options = self.sequence_options()?;
        Ok(Statement::CreateSequence(CreateSequence {
            name,
            persistence,
            if_not_exists,
            options,
        }))
    }

    fn create_schema(&mut self) -> Result<Statement> {
        self.expect(Kw::Schema)?;
        let if_not_exists = self.if_not_exists();
        let name = if self.is(Kw::Authorization) {
            None
        } else {
            Some(self.col_id()?)
        };
        let owner: Option<RoleSpec> = if self.eat(Kw::Authorization) {
            Some(self.role_spec()?)
        } else {
            None
        };
        let mut elements = Vec::new();
        while self.is_any(&[Kw::Create, Kw::Grant]) {
            elements.push(self.statement()?);
        }
        Ok(Statement::CreateSchema(CreateSchema {
            name,
            owner,
            if_not_exists,
            elements,
        }))
    }

    fn create_database(&mut self) -> Result<Statement> {
        self.expect(Kw::Database)?;
        let name = self.col_id()?;
        self.eat(Kw::With);
        let options = self.database_options()?;
        Ok(Statement::CreateDatabase(CreateDatabase { name, options }))
    }

    /// gram.y's createdb_opt_list; names in lower case, CONNECTION LIMIT as `connection_limit`.
    pub(super) fn database_options(&mut self) -> Result<Vec<UtilityOption>> {
        let mut out = Vec::new();
        while !self.at_statement_end() {
            let at = self.at();
            let name = if self.eat_all(&[Kw::Connection, Kw::Limit]) {
                "connection_limit".to_owned()
            } else {
                self.non_reserved_word()?.name
            };
            self.eat_char(b'=');
            let value = if let Some(n) = self.try_number()? {
                Some(OptionValue::Number(n))
            } else if self.eat(Kw::Default) {
                None
            } else if let Some(s) = self.try_string()? {
                Some(OptionValue::Text(s))
            } else {
                Some(OptionValue::Text(self.boolean_or_word()?))
            };
            out.push(UtilityOption { name, value, at });
        }
        Ok(out)
    }

    /// `name, name, ...`
    pub(super) fn object_names(&mut self) -> Result<Vec<ObjectName>> {
        self.list(Parser::object_name)
    }
}

/// What whoever moves in can do in place of the commonest of them.
fn in_place_of(kw: Kw) -> Option<&'static str> {
    Some(match kw {
        Kw::Function | Kw::Procedure | Kw::Trigger | Kw::Constraint | Kw::Event | Kw::Rule => {
            "Leave it out, and do its work in the application."
        }
        Kw::Type => "Use text with a CHECK for an enum, columns of the table for a composite type.",
        Kw::Domain => "Use the type that it is over, with a CHECK of each column.",
        Kw::Extension => {
            "Leave it out. What is here of its kind, as gen_random_uuid(), is there without one."
        }
        Kw::Collation => "All text is ordered by its bytes: use COLLATE \"C\", or none.",
        Kw::Policy => "Leave it out, and choose the rows in the application.",
        Kw::Publication | Kw::Subscription => "Leave it out: there is no logical replication.",
        Kw::Statistics => "Leave it out: only the planner would have looked at it.",
        _ => return None,
    })
}
