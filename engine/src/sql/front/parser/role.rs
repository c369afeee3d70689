//! CREATE and ALTER ROLE, USER, GROUP; settings of roles and databases.

use super::Result;
use super::cursor::Parser;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterRole, AlterSetting, CreateRole, RoleKind, RoleOption, RoleOptionKind, RoleSpec, SetTarget,
    SettingChange, SettingOwner, Statement,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn create_role(&mut self) -> Result<Statement> {
        let kind = match self.peek() {
            TokenKind::Keyword(Kw::User) => RoleKind::User,
            TokenKind::Keyword(Kw::Group) => RoleKind::Group,
            _ => RoleKind::Role,
        };
        self.bump();
        let name = match self.role_spec()? {
            RoleSpec::Named(name) => name,
            RoleSpec::Public(at) => {
                return Err(SqlError::new(
                    state::RESERVED_NAME,
                    "role name \"public\" is reserved",
                )
                .at(at));
            }
            RoleSpec::CurrentUser(at) => return Err(no_name("CURRENT_USER", at)),
            RoleSpec::CurrentRole(at) => return Err(no_name("CURRENT_ROLE", at)),
            RoleSpec::SessionUser(at) => return Err(no_name("SESSION_USER", at)),
        };
        self.eat(Kw::With);
        let options = self.role_options(true)?;
        Ok(Statement::CreateRole(CreateRole {
            kind,
            name,
            options,
        }))
    }

    fn role_options(&mut self, create: bool) -> Result<Vec<RoleOption>> {
        let mut out = Vec::new();
        while !self.at_statement_end() {
            let at = self.at();
            let kind = self.role_option(create)?;
            out.push(RoleOption { kind, at });
        }
        Ok(out)
    }

    fn role_option(&mut self, create: bool) -> Result<RoleOptionKind> {
        let token = self.token();
        let kind = match token.kind {
            TokenKind::Ident => {
                let word = self.ident_of(token)?.name;
                let Some(kind) = flag_option(&word) else {
                    return Err(
                        self.error(&format!("unrecognized role option \"{word}\""), token.start)
                    );
                };
                kind
            }
            TokenKind::Keyword(Kw::Inherit) => RoleOptionKind::Inherit(true),
            TokenKind::Keyword(kw) => return self.keyword_role_option(kw, create),
            _ => return Err(self.unexpected()),
        };
        self.bump();
        Ok(kind)
    }

    fn keyword_role_option(&mut self, kw: Kw, create: bool) -> Result<RoleOptionKind> {
        let fault = self.unexpected();
        self.bump();
        Ok(match kw {
            Kw::Encrypted => {
                self.expect(Kw::Password)?;
                RoleOptionKind::Password(Some(self.string()?))
            }
            Kw::Password => {
                if self.eat(Kw::Null) {
                    RoleOptionKind::Password(None)
                } else {
                    RoleOptionKind::Password(Some(self.string()?))
                }
            }
            Kw::Connection => {
                self.expect(Kw::Limit)?;
                RoleOptionKind::ConnectionLimit(self.signed_integer()?)
            }
            Kw::Valid => {
                self.expect(Kw::Until)?;
                RoleOptionKind::ValidUntil(self.string()?)
            }
            Kw::User => RoleOptionKind::Members(self.list(Parser::role_spec)?),
            Kw::Role if create => RoleOptionKind::Members(self.list(Parser::role_spec)?),
            Kw::Admin if create => RoleOptionKind::Admins(self.list(Parser::role_spec)?),
            Kw::In if create => {
                if !self.eat(Kw::Role) {
                    self.expect(Kw::Group)?;
                }
                RoleOptionKind::InRole(self.list(Parser::role_spec)?)
            }
            Kw::Sysid if create => RoleOptionKind::SysId(self.number()?),
            _ => return Err(fault),
        })
    }

    /// ALTER ROLE ...; the words up to the kind are taken.
    pub(super) fn alter_role(&mut self) -> Result<Statement> {
        let role = if self.eat(Kw::All) {
            None
        } else {
            Some(self.role_spec()?)
        };
        let database = if self.eat_all(&[Kw::In, Kw::Database]) {
            Some(self.col_id()?)
        } else {
            None
        };
        if self.is_any(&[Kw::Set, Kw::Reset]) {
            let change = self.setting_change()?;
            return Ok(Statement::AlterSetting(AlterSetting {
                target: SettingOwner::Role { role, database },
                change,
            }));
        }
        let (Some(role), None) = (role, database) else {
            return Err(self.unexpected());
        };
        self.eat(Kw::With);
        let options = self.role_options(false)?;
        Ok(Statement::AlterRole(AlterRole {
            role,
            drops_members: false,
            options,
        }))
    }

    /// ALTER GROUP role ADD USER ..., DROP USER ...; the words up to the kind are taken.
    pub(super) fn alter_group(&mut self) -> Result<Statement> {
        let role = self.role_spec()?;
        let drops_members = self.is(Kw::Drop);
        if !drops_members {
            self.expect(Kw::Add)?;
        } else {
            self.bump();
        }
        let at = self.at();
        self.expect(Kw::User)?;
        let members = RoleOptionKind::Members(self.list(Parser::role_spec)?);
        Ok(Statement::AlterRole(AlterRole {
            role,
            drops_members,
            options: vec![RoleOption { kind: members, at }],
        }))
    }

    /// `SET name = value`, `RESET name` behind ALTER ROLE and ALTER DATABASE.
    pub(super) fn setting_change(&mut self) -> Result<SettingChange> {
        if self.eat(Kw::Reset) {
            if self.eat(Kw::All) {
                return Ok(SettingChange::ResetAll);
            }
            return Ok(SettingChange::Reset(self.setting_name()?));
        }
        self.expect(Kw::Set)?;
        Ok(match self.set_target()? {
            SetTarget::Setting { name, values } => SettingChange::Set { name, values },
            SetTarget::FromCurrent { name } => SettingChange::FromCurrent { name },
            _ => return Err(self.unexpected()),
        })
    }
}

fn flag_option(word: &str) -> Option<RoleOptionKind> {
    Some(match word {
        "superuser" => RoleOptionKind::Superuser(true),
        "nosuperuser" => RoleOptionKind::Superuser(false),
        "createrole" | "createuser" => RoleOptionKind::CreateRole(true),
        "nocreaterole" | "nocreateuser" => RoleOptionKind::CreateRole(false),
        "replication" => RoleOptionKind::Replication(true),
        "noreplication" => RoleOptionKind::Replication(false),
        "createdb" => RoleOptionKind::CreateDb(true),
        "nocreatedb" => RoleOptionKind::CreateDb(false),
        "login" => RoleOptionKind::Login(true),
        "nologin" => RoleOptionKind::Login(false),
        "bypassrls" => RoleOptionKind::BypassRls(true),
        "nobypassrls" => RoleOptionKind::BypassRls(false),
        "noinherit" => RoleOptionKind::Inherit(false),
        _ => return None,
    })
}

/// 42939: a role that is being made has a name of its own.
fn no_name(word: &str, at: u32) -> SqlError {
    let message = format!("{word} cannot be used as a role name here");
    SqlError::new(state::RESERVED_NAME, message).at(at)
}
