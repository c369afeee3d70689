//! ALTER.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    AlterDatabase, AlterOwner, AlterSequence, AlterSetting, AlterSystem, AlterTable,
    AlterTableAction, Ident, ObjectKind, ObjectName, Rename, RenameTarget, RoleSpec, SetTarget,
    SettingOwner, Statement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn alter(&mut self) -> Result<Statement> {
        self.expect(Kw::Alter)?;
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        let kind = match kw {
            Kw::Table => ObjectKind::Table,
            Kw::Index => ObjectKind::Index,
            Kw::Sequence => ObjectKind::Sequence,
            Kw::View => ObjectKind::View,
            Kw::Schema => return self.alter_named(ObjectKind::Schema),
            Kw::Database => return self.alter_database(),
            Kw::Role | Kw::User | Kw::Group if !self.is_at(1, Kw::Mapping) => {
                return self.alter_role_or_rename(kw);
            }
            Kw::System => return self.alter_system(),
            Kw::Default => {
                let hint = "Use GRANT ... ON ALL TABLES IN SCHEMA once they are made.";
                return Ok(self.skip_unsupported("ALTER DEFAULT PRIVILEGES", Some(hint)));
            }
            _ => return self.alter_unsupported(kw),
        };
        self.bump();
        self.alter_relation(kind)
    }

    fn alter_unsupported(&mut self, kw: Kw) -> Result<Statement> {
        let command = match kw {
            Kw::Function => "ALTER FUNCTION",
            Kw::Procedure => "ALTER PROCEDURE",
            Kw::Routine => "ALTER ROUTINE",
            Kw::Type => "ALTER TYPE",
            Kw::Domain => "ALTER DOMAIN",
            Kw::Extension => "ALTER EXTENSION",
            Kw::Tablespace => "ALTER TABLESPACE",
            Kw::Aggregate => "ALTER AGGREGATE",
            Kw::Operator => "ALTER OPERATOR",
            Kw::Collation => "ALTER COLLATION",
            Kw::Conversion => "ALTER CONVERSION",
            Kw::Event => "ALTER EVENT TRIGGER",
            Kw::Foreign => "ALTER FOREIGN TABLE",
            Kw::Language | Kw::Procedural => "ALTER LANGUAGE",
            Kw::Large => "ALTER LARGE OBJECT",
            Kw::Materialized => "ALTER MATERIALIZED VIEW",
            Kw::Policy => "ALTER POLICY",
            Kw::Publication => "ALTER PUBLICATION",
            Kw::Subscription => "ALTER SUBSCRIPTION",
            Kw::Rule => "ALTER RULE",
            Kw::Server => "ALTER SERVER",
            Kw::Statistics => "ALTER STATISTICS",
            Kw::Text => "ALTER TEXT SEARCH CONFIGURATION",
            Kw::Trigger => "ALTER TRIGGER",
            Kw::User => "ALTER USER MAPPING",
            _ => return Err(self.unexpected()),
        };
        let hint = "Leave it out, with the statement that makes what it is about.";
        Ok(self.skip_unsupported(command, Some(hint)))
    }

    fn alter_relation(&mut self, kind: ObjectKind) -> Result<Statement> {
        if self.is(Kw::All) && self.is_at(1, Kw::In) {
            return Ok(self.skip_unsupported(kind.alter_tag(), None));
        }
        let if_exists = self.if_exists();
        let only = self.eat(Kw::Only);
        let name = self.object_name()?;
        if !only {
            self.eat_char(b'*');
        }
        if self.eat(Kw::Rename) {
            return self.rename(kind, name, if_exists);
        }
        if kind == ObjectKind::Sequence {
            let options = self.sequence_options()?;
            if !options.is_empty() {
                return Ok(Statement::AlterSequence(AlterSequence {
                    name,
                    if_exists,
                    options,
                }));
            }
        }
        let actions = if self.eat_all(&[Kw::Set, Kw::Schema]) {
            vec![AlterTableAction::SetSchema(self.col_id()?)]
        } else {
            self.list(Parser::alter_action)?
        };
        Ok(Statement::AlterTable(Box::new(AlterTable {
            kind,
            name,
            only,
            if_exists,
            actions,
        })))
    }

    fn rename(&mut self, kind: ObjectKind, name: ObjectName, if_exists: bool) -> Result<Statement> {
        let what = if self.eat(Kw::To) {
            RenameTarget::Itself
        } else if self.eat(Kw::Constraint) {
            RenameTarget::Constraint(self.col_id()?)
        } else {
            self.eat(Kw::Column);
            RenameTarget::Column(self.col_id()?)
        };
        if what != RenameTarget::Itself {
            self.expect(Kw::To)?;
        }
        let to = self.col_id()?;
        Ok(Statement::Rename(Rename {
            kind,
            what,
            name,
            if_exists,
            to,
        }))
    }

    fn alter_action(&mut self) -> Result<AlterTableAction> {
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        let fault = self.unexpected();
        self.bump();
        match kw {
            Kw::Add => self.add_action(),
            Kw::Drop => self.drop_action(),
            Kw::Alter => self.alter_column(),
            Kw::Owner => {
                self.expect(Kw::To)?;
                Ok(AlterTableAction::OwnerTo(self.role_spec()?))
            }
            Kw::Validate => {
                self.expect(Kw::Constraint)?;
                Ok(AlterTableAction::ValidateConstraint(self.col_id()?))
            }
            Kw::Set => self.set_action(),
            Kw::Reset => Ok(AlterTableAction::ResetOptions(self.storage_options()?)),
            Kw::Inherit | Kw::No => self.skip_action("ALTER TABLE ... INHERIT"),
            Kw::Of | Kw::Not => self.skip_action("ALTER TABLE ... OF"),
            Kw::Enable | Kw::Disable => self.skip_action("ALTER TABLE ... ENABLE/DISABLE"),
            Kw::Attach | Kw::Detach => self.skip_action("ALTER TABLE ... PARTITION"),
            Kw::Cluster => self.skip_needless("ALTER TABLE ... CLUSTER"),
            Kw::Replica => self.skip_needless("ALTER TABLE ... REPLICA IDENTITY"),
            Kw::Force => self.skip_action("ALTER TABLE ... FORCE ROW LEVEL SECURITY"),
            Kw::Depends => self.skip_action("ALTER INDEX ... DEPENDS ON EXTENSION"),
            _ => Err(fault),
        }
    }

    fn skip_action(&mut self, what: &'static str) -> Result<AlterTableAction> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                TokenKind::Char(b'(') => depth += 1,
                TokenKind::Char(b')') => depth = depth.saturating_sub(1),
                TokenKind::Char(b',') if depth == 0 => break,
                TokenKind::End | TokenKind::Char(b';') | TokenKind::Fault(_) => break,
                _ => {}
            }
            self.bump();
        }
        Ok(AlterTableAction::Unsupported { what, hint: None })
    }

    /// What changes no answer of any statement here, so that nothing is missed without it.
    fn skip_needless(&mut self, what: &'static str) -> Result<AlterTableAction> {
        self.skip_action(what)?;
        let hint = Some("Leave it out: no answer depends on it.");
        Ok(AlterTableAction::Unsupported { what, hint })
    }

    fn add_action(&mut self) -> Result<AlterTableAction> {
        if self.at_table_constraint() {
            return Ok(AlterTableAction::AddConstraint(self.table_constraint()?));
        }
        self.eat(Kw::Column);
        let if_not_exists = self.if_not_exists();
        let column = self.column_definition()?;
        Ok(AlterTableAction::AddColumn {
            column,
            if_not_exists,
        })
    }

    fn drop_action(&mut self) -> Result<AlterTableAction> {
        let constraint = self.eat(Kw::Constraint);
        if !constraint {
            self.eat(Kw::Column);
        }
        let if_exists = self.if_exists();
        let name = self.col_id()?;
        let cascade = self.cascade();
        Ok(if constraint {
            AlterTableAction::DropConstraint {
                name,
                if_exists,
                cascade,
            }
        } else {
            AlterTableAction::DropColumn {
                name,
                if_exists,
                cascade,
            }
        })
    }

    fn set_action(&mut self) -> Result<AlterTableAction> {
        match self.peek() {
            TokenKind::Char(b'(') => Ok(AlterTableAction::SetOptions(self.storage_options()?)),
            TokenKind::Keyword(Kw::Tablespace) => {
                self.bump();
                Ok(AlterTableAction::SetTablespace(self.col_id()?))
            }
            TokenKind::Keyword(Kw::Logged | Kw::Unlogged) => {
                self.skip_action("ALTER TABLE ... SET LOGGED/UNLOGGED")
            }
            TokenKind::Keyword(Kw::Without | Kw::Access) => self.skip_action("ALTER TABLE ... SET"),
            _ => Err(self.unexpected()),
        }
    }

    fn alter_column(&mut self) -> Result<AlterTableAction> {
        if self.is(Kw::Constraint) {
            self.bump();
            let name = self.col_id()?;
            let timing = self.constraint_timing()?;
            return Ok(AlterTableAction::AlterConstraint { name, timing });
        }
        self.eat(Kw::Column);
        let column = self.col_id()?;
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        match kw {
            Kw::Set => self.set_column(column),
            Kw::Drop => {
                self.bump();
                if self.eat(Kw::Default) {
                    return Ok(AlterTableAction::DropDefault { column });
                }
                if self.eat(Kw::Identity) {
                    let if_exists = self.if_exists();
                    return Ok(AlterTableAction::DropIdentity { column, if_exists });
                }
                if self.eat(Kw::Expression) {
                    return self.skip_action("ALTER TABLE ... DROP EXPRESSION");
                }
                self.expect_all(&[Kw::Not, Kw::Null])?;
                Ok(AlterTableAction::DropNotNull { column })
            }
            Kw::Type => self.column_type(column),
            Kw::Add => {
                self.bump();
                self.expect(Kw::Generated)?;
                let identity = self.generated_when()?;
                self.expect_all(&[Kw::As, Kw::Identity])?;
                let options = self.parenthesized_sequence_options()?;
                Ok(AlterTableAction::AddIdentity {
                    column,
                    identity,
                    options,
                })
            }
            Kw::Restart => {
                let options = self.sequence_options()?;
                Ok(AlterTableAction::SetIdentity {
                    column,
                    identity: None,
                    options,
                })
            }
            _ => Err(self.unexpected()),
        }
    }

    fn set_column(&mut self, column: Ident) -> Result<AlterTableAction> {
        self.bump();
        if self.is_char(b'(') {
            return self.skip_needless("ALTER TABLE ... ALTER COLUMN ... SET (...)");
        }
        let TokenKind::Keyword(kw) = self.peek() else {
            return Err(self.unexpected());
        };
        match kw {
            Kw::Default => {
                self.bump();
                let start = self.at();
                let expr = self.expr()?;
                Ok(AlterTableAction::SetDefault {
                    column,
                    expr,
                    text: self.source_since(start),
                })
            }
            Kw::Not => {
                self.expect_all(&[Kw::Not, Kw::Null])?;
                Ok(AlterTableAction::SetNotNull { column })
            }
            Kw::Data => {
                self.bump();
                self.column_type(column)
            }
            Kw::Statistics => {
                self.bump();
                self.signed_integer()?;
                Ok(AlterTableAction::SetStatistics { column })
            }
            Kw::Generated => {
                self.bump();
                let identity = Some(self.generated_when()?);
                let options = self.set_sequence_options()?;
                Ok(AlterTableAction::SetIdentity {
                    column,
                    identity,
                    options,
                })
            }
            Kw::Storage | Kw::Compression => {
                self.skip_needless("ALTER TABLE ... SET STORAGE/COMPRESSION")
            }
            _ => {
                let mut options = Vec::new();
                if let Some(option) = self.try_sequence_option()? {
                    options.push(option);
                } else {
                    return Err(self.unexpected());
                }
                options.extend(self.set_sequence_options()?);
                Ok(AlterTableAction::SetIdentity {
                    column,
                    identity: None,
                    options,
                })
            }
        }
    }

    /// More `SET option` and RESTART behind the first.
    fn set_sequence_options(&mut self) -> Result<Vec<crate::sql::front::ast::SequenceOption>> {
        let mut out = Vec::new();
        loop {
            self.eat(Kw::Set);
            match self.try_sequence_option()? {
                Some(option) => out.push(option),
                None => return Ok(out),
            }
        }
    }

    fn column_type(&mut self, column: Ident) -> Result<AlterTableAction> {
        self.expect(Kw::Type)?;
        let ty = self.type_name()?;
        let collation = if self.eat(Kw::Collate) {
            Some(self.object_name()?)
        } else {
            None
        };
        let using = if self.eat(Kw::Using) {
            let start = self.at();
            let expr = self.expr()?;
            Some((expr, self.source_since(start)))
        } else {
            None
        };
        Ok(AlterTableAction::AlterType {
            column,
            ty,
            collation,
            using,
        })
    }

    fn alter_named(&mut self, kind: ObjectKind) -> Result<Statement> {
        self.bump();
        let name = self.object_name()?;
        if self.eat(Kw::Rename) {
            self.expect(Kw::To)?;
            let to = self.col_id()?;
            return Ok(Statement::Rename(Rename {
                kind,
                what: RenameTarget::Itself,
                name,
                if_exists: false,
                to,
            }));
        }
        self.expect_all(&[Kw::Owner, Kw::To])?;
        let owner = self.role_spec()?;
        Ok(Statement::AlterOwner(AlterOwner { kind, name, owner }))
    }

    fn alter_database(&mut self) -> Result<Statement> {
        let owner_or_name = matches!(self.peek_at(2), TokenKind::Keyword(Kw::Rename | Kw::Owner));
        if owner_or_name {
            return self.alter_named(ObjectKind::Database);
        }
        self.bump();
        let name = self.col_id()?;
        match self.peek() {
            TokenKind::Keyword(Kw::Set) if self.is_at(1, Kw::Tablespace) => {
                Ok(self.skip_unsupported("ALTER DATABASE", None))
            }
            TokenKind::Keyword(Kw::Refresh) => Ok(self.skip_unsupported("ALTER DATABASE", None)),
            TokenKind::Keyword(Kw::Set | Kw::Reset) => {
                let change = self.setting_change()?;
                Ok(Statement::AlterSetting(AlterSetting {
                    target: SettingOwner::Database(name),
                    change,
                }))
            }
            _ => {
                self.eat(Kw::With);
                let options = self.database_options()?;
                Ok(Statement::AlterDatabase(AlterDatabase { name, options }))
            }
        }
    }

    fn alter_role_or_rename(&mut self, kw: Kw) -> Result<Statement> {
        self.bump();
        if self.is_at(1, Kw::Rename) {
            let name = match self.role_spec()? {
                RoleSpec::Named(name) => ObjectName {
                    database: None,
                    schema: None,
                    name,
                },
                _ => return Err(self.unexpected()),
            };
            self.expect_all(&[Kw::Rename, Kw::To])?;
            let to = self.col_id()?;
            return Ok(Statement::Rename(Rename {
                kind: ObjectKind::Role,
                what: RenameTarget::Itself,
                name,
                if_exists: false,
                to,
            }));
        }
        if kw == Kw::Group {
            return self.alter_group();
        }
        self.alter_role()
    }

    fn alter_system(&mut self) -> Result<Statement> {
        self.bump();
        if self.eat(Kw::Reset) {
            if self.eat(Kw::All) {
                return Ok(Statement::AlterSystem(AlterSystem::ResetAll));
            }
            let name = self.setting_name()?;
            return Ok(Statement::AlterSystem(AlterSystem::Reset(name)));
        }
        self.expect(Kw::Set)?;
        match self.set_target()? {
            SetTarget::Setting { name, values } => {
                Ok(Statement::AlterSystem(AlterSystem::Set { name, values }))
            }
            _ => Err(self.unexpected()),
        }
    }
}
