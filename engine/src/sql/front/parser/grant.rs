//! GRANT, REVOKE, REASSIGN OWNED, DROP OWNED.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    DropOwned, Grant, GrantRole, GrantTarget, Ident, ReassignOwned, RoleSpec, Statement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// What stands between GRANT or REVOKE and ON, TO or FROM.
struct Listed {
    /// `None`: ALL.
    names: Option<Vec<Ident>>,
    columns_at: Option<u32>,
}

impl Parser<'_> {
    pub(super) fn grant(&mut self) -> Result<Statement> {
        self.expect(Kw::Grant)?;
        let listed = self.privileges()?;
        if listed.names.is_none() || self.is(Kw::On) {
            self.expect(Kw::On)?;
            let Some(target) = self.privilege_target()? else {
                return Ok(self.grant_on_unsupported("GRANT"));
            };
            self.expect(Kw::To)?;
            let grantees = self.list(Parser::grantee)?;
            let option = self.with_option(Kw::Grant)?;
            return Ok(Statement::Grant(Box::new(Grant {
                is_grant: true,
                privileges: listed.names,
                columns_at: listed.columns_at,
                target,
                grantees,
                option,
                grantor: self.granted_by()?,
                cascade: false,
            })));
        }
        self.expect(Kw::To)?;
        let members = self.list(Parser::role_spec)?;
        let admin = self.with_option(Kw::Admin)?;
        Ok(Statement::GrantRole(GrantRole {
            is_grant: true,
            roles: listed.names.unwrap_or_default(),
            columns_at: listed.columns_at,
            members,
            admin,
            grantor: self.granted_by()?,
        }))
    }

    pub(super) fn revoke(&mut self) -> Result<Statement> {
        self.expect(Kw::Revoke)?;
        let option = self.eat_all(&[Kw::Grant, Kw::Option, Kw::For]);
        let admin = !option && self.eat_all(&[Kw::Admin, Kw::Option, Kw::For]);
        let listed = self.privileges()?;
        if option || listed.names.is_none() || (!admin && self.is(Kw::On)) {
            self.expect(Kw::On)?;
            let Some(target) = self.privilege_target()? else {
                return Ok(self.grant_on_unsupported("REVOKE"));
            };
            self.expect(Kw::From)?;
            let grantees = self.list(Parser::grantee)?;
            let grantor = self.granted_by()?;
            return Ok(Statement::Grant(Box::new(Grant {
                is_grant: false,
                privileges: listed.names,
                columns_at: listed.columns_at,
                target,
                grantees,
                option,
                grantor,
                cascade: self.cascade(),
            })));
        }
        self.expect(Kw::From)?;
        let members = self.list(Parser::role_spec)?;
        let grantor = self.granted_by()?;
        // Memberships do not rest on others: both words mean the same.
        self.cascade();
        Ok(Statement::GrantRole(GrantRole {
            is_grant: false,
            roles: listed.names.unwrap_or_default(),
            columns_at: listed.columns_at,
            members,
            admin,
            grantor,
        }))
    }

    /// gram.y's privileges, and its privilege_list for roles.
    fn privileges(&mut self) -> Result<Listed> {
        let mut columns_at = None;
        if self.eat(Kw::All) {
            self.eat(Kw::Privileges);
            self.privilege_columns(&mut columns_at)?;
            return Ok(Listed {
                names: None,
                columns_at,
            });
        }
        let names = self.list(|p| {
            let name = p.privilege()?;
            p.privilege_columns(&mut columns_at)?;
            Ok(name)
        })?;
        Ok(Listed {
            names: Some(names),
            columns_at,
        })
    }

    fn privilege(&mut self) -> Result<Ident> {
        let at = self.at();
        let word = |name: &str| Ident {
            name: name.to_owned(),
            at,
        };
        for (kw, name) in [
            (Kw::Select, "select"),
            (Kw::References, "references"),
            (Kw::Create, "create"),
        ] {
            if self.eat(kw) {
                return Ok(word(name));
            }
        }
        if self.eat_all(&[Kw::Alter, Kw::System]) {
            return Ok(word("alter system"));
        }
        self.col_id()
    }

    fn privilege_columns(&mut self, columns_at: &mut Option<u32>) -> Result<()> {
        let at = self.at();
        if self.is_char(b'(') {
            self.parenthesized(Parser::col_id)?;
            columns_at.get_or_insert(at);
        }
        Ok(())
    }

    /// `None`: a kind of object that privileges cannot be granted on here.
    fn privilege_target(&mut self) -> Result<Option<GrantTarget>> {
        let TokenKind::Keyword(kw) = self.peek() else {
            return Ok(Some(GrantTarget::Tables(self.list(Parser::object_name)?)));
        };
        let in_schemas = |p: &Self, kw| p.is_at(1, kw) && p.is_at(2, Kw::In);
        Ok(Some(match kw {
            Kw::Table => {
                self.bump();
                GrantTarget::Tables(self.list(Parser::object_name)?)
            }
            Kw::Sequence if !self.ends_name_at(1) => {
                self.bump();
                GrantTarget::Sequences(self.list(Parser::object_name)?)
            }
            Kw::Database if !self.ends_name_at(1) => {
                self.bump();
                GrantTarget::Databases(self.list(Parser::col_id)?)
            }
            Kw::Schema if !self.ends_name_at(1) => {
                self.bump();
                GrantTarget::Schemas(self.list(Parser::col_id)?)
            }
            Kw::All if in_schemas(self, Kw::Tables) => {
                self.expect_all(&[Kw::All, Kw::Tables, Kw::In, Kw::Schema])?;
                GrantTarget::AllTablesIn(self.list(Parser::col_id)?)
            }
            Kw::All if in_schemas(self, Kw::Sequences) => {
                self.expect_all(&[Kw::All, Kw::Sequences, Kw::In, Kw::Schema])?;
                GrantTarget::AllSequencesIn(self.list(Parser::col_id)?)
            }
            Kw::All | Kw::Foreign => return Ok(None),
            Kw::Function
            | Kw::Procedure
            | Kw::Routine
            | Kw::Domain
            | Kw::Language
            | Kw::Large
            | Kw::Parameter
            | Kw::Tablespace
            | Kw::Type
                if !self.ends_name_at(1) =>
            {
                return Ok(None);
            }
            _ => GrantTarget::Tables(self.list(Parser::object_name)?),
        }))
    }

    /// The word before is a table's name and not a kind of object.
    fn ends_name_at(&self, ahead: usize) -> bool {
        matches!(
            self.peek_at(ahead),
            TokenKind::Char(b',' | b'.') | TokenKind::Keyword(Kw::To | Kw::From)
        )
    }

    fn grant_on_unsupported(&mut self, command: &'static str) -> Statement {
        self.skip_unsupported(
            command,
            Some("Privileges can be granted on tables, sequences, schemas and databases."),
        )
    }

    /// gram.y's grantee.
    fn grantee(&mut self) -> Result<RoleSpec> {
        self.eat(Kw::Group);
        self.role_spec()
    }

    /// WITH GRANT OPTION, WITH ADMIN OPTION.
    fn with_option(&mut self, kw: Kw) -> Result<bool> {
        if !self.eat(Kw::With) {
            return Ok(false);
        }
        self.expect_all(&[kw, Kw::Option])?;
        Ok(true)
    }

    fn granted_by(&mut self) -> Result<Option<RoleSpec>> {
        if !self.eat(Kw::Granted) {
            return Ok(None);
        }
        self.expect(Kw::By)?;
        self.role_spec().map(Some)
    }

    pub(super) fn reassign_owned(&mut self) -> Result<Statement> {
        self.expect_all(&[Kw::Reassign, Kw::Owned, Kw::By])?;
        let roles = self.list(Parser::role_spec)?;
        self.expect(Kw::To)?;
        Ok(Statement::ReassignOwned(ReassignOwned {
            roles,
            to: self.role_spec()?,
        }))
    }

    /// DROP is taken.
    pub(super) fn drop_owned(&mut self) -> Result<Statement> {
        self.expect_all(&[Kw::Owned, Kw::By])?;
        let roles = self.list(Parser::role_spec)?;
        Ok(Statement::DropOwned(DropOwned {
            roles,
            cascade: self.cascade(),
        }))
    }
}
