//! DROP, TRUNCATE, COMMENT ON.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    Comment, Drop, DropDatabase, DropRole, ObjectKind, ObjectName, Statement, TableRef, Truncate,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn drop(&mut self) -> Result<Statement> {
        self.expect(Kw::Drop)?;
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        let kind = match kw {
            Kw::Table => ObjectKind::Table,
            Kw::Index => ObjectKind::Index,
            Kw::Sequence => ObjectKind::Sequence,
            Kw::View => ObjectKind::View,
            Kw::Schema => ObjectKind::Schema,
            Kw::Materialized => {
                self.bump();
                ObjectKind::MaterializedView
            }
            Kw::Database => return self.drop_database(),
            Kw::Role | Kw::User | Kw::Group if !self.is_at(1, Kw::Mapping) => {
                self.bump();
                let if_exists = self.if_exists();
                let roles = self.list(Parser::role_spec)?;
                return Ok(Statement::DropRole(DropRole { roles, if_exists }));
            }
            Kw::Owned => return self.drop_owned(),
            _ => return self.drop_unsupported(kw),
        };
        self.bump();
        let concurrently = kind == ObjectKind::Index && self.eat(Kw::Concurrently);
        let if_exists = self.if_exists();
        let names = self.object_names()?;
        let cascade = self.cascade();
        Ok(Statement::Drop(Drop {
            kind,
            names,
            if_exists,
            cascade,
            concurrently,
        }))
    }

    fn drop_database(&mut self) -> Result<Statement> {
        self.bump();
        let if_exists = self.if_exists();
        let name = self.col_id()?;
        let with = self.eat(Kw::With);
        let mut force = false;
        if self.is_char(b'(') {
            self.parenthesized(|p| p.expect(Kw::Force))?;
            force = true;
        } else if with {
            return Err(self.unexpected());
        }
        Ok(Statement::DropDatabase(DropDatabase {
            name,
            if_exists,
            force,
        }))
    }

    fn drop_unsupported(&mut self, kw: Kw) -> Result<Statement> {
        let command = match kw {
            Kw::Function => "DROP FUNCTION",
            Kw::Procedure => "DROP PROCEDURE",
            Kw::Routine => "DROP ROUTINE",
            Kw::Trigger => "DROP TRIGGER",
            Kw::Event => "DROP EVENT TRIGGER",
            Kw::Rule => "DROP RULE",
            Kw::Type => "DROP TYPE",
            Kw::Domain => "DROP DOMAIN",
            Kw::Extension => "DROP EXTENSION",
            Kw::Tablespace => "DROP TABLESPACE",
            Kw::Aggregate => "DROP AGGREGATE",
            Kw::Operator => "DROP OPERATOR",
            Kw::Cast => "DROP CAST",
            Kw::Collation => "DROP COLLATION",
            Kw::Conversion => "DROP CONVERSION",
            Kw::Language | Kw::Procedural => "DROP LANGUAGE",
            Kw::Policy => "DROP POLICY",
            Kw::Publication => "DROP PUBLICATION",
            Kw::Subscription => "DROP SUBSCRIPTION",
            Kw::Server => "DROP SERVER",
            Kw::Statistics => "DROP STATISTICS",
            Kw::Foreign => "DROP FOREIGN TABLE",
            Kw::Transform => "DROP TRANSFORM",
            Kw::Text => "DROP TEXT SEARCH CONFIGURATION",
            Kw::Access => "DROP ACCESS METHOD",
            Kw::User => "DROP USER MAPPING",
            _ => return Err(self.unexpected()),
        };
        Ok(self.skip_unsupported(command, None))
    }

    pub(super) fn truncate(&mut self) -> Result<Statement> {
        self.bump();
        self.eat(Kw::Table);
        let tables = self.list(|p| match p.relation_expression()? {
            TableRef::Table { name, .. } => Ok(name),
            _ => Err(p.unexpected()),
        })?;
        let restart_identity = self.eat_all(&[Kw::Restart, Kw::Identity]);
        if !restart_identity {
            self.eat_all(&[Kw::Continue, Kw::Identity]);
        }
        let cascade = self.cascade();
        Ok(Statement::Truncate(Truncate {
            tables,
            restart_identity,
            cascade,
        }))
    }

    pub(super) fn comment(&mut self) -> Result<Statement> {
        self.expect_all(&[Kw::Comment, Kw::On])?;
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        let kind = match kw {
            Kw::Table => ObjectKind::Table,
            Kw::Index => ObjectKind::Index,
            Kw::Sequence => ObjectKind::Sequence,
            Kw::View => ObjectKind::View,
            Kw::Schema => ObjectKind::Schema,
            Kw::Database => ObjectKind::Database,
            Kw::Role => ObjectKind::Role,
            Kw::Column => ObjectKind::Column,
            Kw::Constraint => ObjectKind::Constraint,
            _ => return Ok(self.comment_on_unsupported()),
        };
        self.bump();
        let (name, member) = match kind {
            ObjectKind::Constraint => {
                let member = self.col_id()?;
                self.expect(Kw::On)?;
                if self.is(Kw::Domain) {
                    return Ok(self.comment_on_unsupported());
                }
                (self.object_name()?, Some(member))
            }
            ObjectKind::Column => {
                let at = self.at();
                let mut parts = vec![self.col_id()?];
                while self.eat_char(b'.') {
                    parts.push(self.col_label()?);
                }
                let member = parts.pop();
                if parts.is_empty() {
                    return Err(self.error("column name must be qualified", at));
                }
                (self.name_of(parts)?, member)
            }
            _ => (self.object_name()?, None),
        };
        self.expect(Kw::Is)?;
        let text = if self.eat(Kw::Null) {
            None
        } else {
            Some(self.string()?)
        };
        Ok(Statement::Comment(Comment {
            kind,
            name,
            member,
            text,
        }))
    }

    fn comment_on_unsupported(&mut self) -> Statement {
        let hint = "Comments can be on tables, columns, constraints, indexes, sequences, schemas, databases and roles.";
        self.skip_unsupported("COMMENT", Some(hint))
    }

    /// The name and its place, for commands that take one relation.
    pub(super) fn plain_relation(&mut self) -> Result<ObjectName> {
        match self.relation_expression()? {
            TableRef::Table { name, .. } => Ok(name),
            _ => Err(self.unexpected()),
        }
    }
}
