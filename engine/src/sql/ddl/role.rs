//! CREATE, ALTER and DROP ROLE. Manual, CREATE ROLE.

use crate::catalog::rows::{
    AuthMembersRow, AuthidRow, CatalogRow, ClassRow, DatabaseRow, DbRoleSettingRow, NamespaceRow,
    ShdescriptionRow, Timestamptz,
};
use crate::catalog::view::{CatalogView, Role};
use crate::config::scram::Verifier;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterRole, CreateRole, DropRole, RoleKind, RoleOption, RoleOptionKind, RoleSpec,
};
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

use super::Result;
use super::cx::{DdlCx, by, oid_key};

impl DdlCx<'_> {
    /// The role that the grammar's words mean.
    pub fn role(&self, spec: &RoleSpec) -> Result<Role> {
        match spec {
            RoleSpec::CurrentUser(_) | RoleSpec::CurrentRole(_) => Ok(self.user.clone()),
            RoleSpec::SessionUser(_) => Ok(self.session_user.clone()),
            RoleSpec::Public(_) => Err(no_role("public")),
            RoleSpec::Named(name) => self
                .view()
                .role_named(&name.name)?
                .ok_or_else(|| no_role(&name.name)),
        }
    }
}

fn no_role(name: &str) -> SqlError {
    SqlError::new(
        state::UNDEFINED_OBJECT,
        format!("role \"{name}\" does not exist"),
    )
}

/// What the options say; `None`: not said.
#[derive(Default)]
struct Said<'s> {
    superuser: Option<bool>,
    create_db: Option<bool>,
    create_role: Option<bool>,
    inherit: Option<bool>,
    login: Option<bool>,
    replication: Option<bool>,
    bypass_rls: Option<bool>,
    limit: Option<i32>,
    password: Option<Option<&'s str>>,
    valid_until: Option<&'s str>,
    in_role: &'s [RoleSpec],
    members: &'s [RoleSpec],
    admins: &'s [RoleSpec],
}

fn said<'s>(options: &'s [RoleOption]) -> Result<Said<'s>> {
    let mut out = Said::default();
    for o in options {
        let twice =
            || SqlError::new(state::SYNTAX_ERROR, "conflicting or redundant options").at(o.at);
        macro_rules! once {
            ($field:ident, $value:expr) => {
                if out.$field.replace($value).is_some() {
                    return Err(twice());
                }
            };
        }
        match &o.kind {
            RoleOptionKind::Superuser(v) => once!(superuser, *v),
            RoleOptionKind::CreateDb(v) => once!(create_db, *v),
            RoleOptionKind::CreateRole(v) => once!(create_role, *v),
            RoleOptionKind::Inherit(v) => once!(inherit, *v),
            RoleOptionKind::Login(v) => once!(login, *v),
            RoleOptionKind::Replication(v) => once!(replication, *v),
            RoleOptionKind::BypassRls(v) => once!(bypass_rls, *v),
            RoleOptionKind::ConnectionLimit(v) => {
                if *v < -1 {
                    return Err(SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("invalid connection limit: {v}"),
                    ));
                }
                once!(limit, *v);
            }
            RoleOptionKind::Password(v) => once!(password, v.as_deref()),
            RoleOptionKind::ValidUntil(v) => once!(valid_until, v.as_str()),
            RoleOptionKind::InRole(v) => out.in_role = v,
            RoleOptionKind::Members(v) => out.members = v,
            RoleOptionKind::Admins(v) => out.admins = v,
            RoleOptionKind::SysId(_) => {}
        }
    }
    Ok(out)
}

fn denied(what: &str) -> SqlError {
    SqlError::new(state::INSUFFICIENT_PRIVILEGE, what.to_owned())
}

pub async fn create(s: &CreateRole, cx: &mut DdlCx<'_>) -> Result<()> {
    let said = said(&s.options)?;
    if said.superuser == Some(true) && !cx.user.superuser {
        return Err(denied("must be superuser to create superusers"));
    }
    if said.replication == Some(true) && !cx.user.superuser {
        return Err(denied("must be superuser to create replication users"));
    }
    if said.bypass_rls == Some(true) && !cx.user.superuser {
        return Err(denied("must be superuser to create bypassrls users"));
    }
    if !cx.user.superuser && !cx.user.create_role {
        return Err(denied("permission denied to create role"));
    }
    let name = &s.name.name;
    if name.starts_with("pg_") {
        return Err(SqlError::new(
            state::RESERVED_NAME,
            format!("role name \"{name}\" is reserved"),
        )
        .detail("Role names starting with \"pg_\" are reserved."));
    }
    if name == "none" {
        return Err(SqlError::new(
            state::RESERVED_NAME,
            format!("role name \"{name}\" is reserved"),
        )
        .at(s.name.at));
    }
    if cx.view().role_named(name)?.is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_OBJECT,
            format!("role \"{name}\" already exists"),
        ));
    }
    let superuser = said.superuser.unwrap_or(false);
    let oid = cx.new_oid()?;
    let row = AuthidRow {
        oid,
        rolname: name.clone(),
        rolsuper: superuser,
        rolinherit: said.inherit.unwrap_or(true),
        rolcreaterole: said.create_role.unwrap_or(false),
        rolcreatedb: said.create_db.unwrap_or(false),
        rolcanlogin: said.login.unwrap_or(s.kind == RoleKind::User),
        rolreplication: said.replication.unwrap_or(false),
        rolbypassrls: said.bypass_rls.unwrap_or(false),
        rolconnlimit: said.limit.unwrap_or(-1),
        rolpassword: password(cx, said.password.flatten())?,
        rolvaliduntil: valid_until(cx, said.valid_until)?,
    };
    cx.insert(&row).await?;
    cx.shared_changed::<AuthidRow>();
    cx.step()?;
    for group in said.in_role {
        let group = cx.role(group)?;
        add_member(cx, group.oid, oid, false).await?;
    }
    for (members, admin) in [(said.members, false), (said.admins, true)] {
        for member in members {
            let member = cx.role(member)?;
            add_member(cx, oid, member.oid, admin).await?;
        }
    }
    Ok(())
}

async fn add_member(cx: &mut DdlCx<'_>, role: Oid, member: Oid, admin: bool) -> Result<()> {
    let key = [Datum::Oid(role), Datum::Oid(member)];
    if !cx.find::<AuthMembersRow>(by::MEMBER_ROLE, &key)?.is_empty() {
        return Ok(());
    }
    let grantor = cx.user.oid;
    cx.insert(&AuthMembersRow {
        roleid: role,
        member,
        grantor,
        admin_option: admin,
    })
    .await?;
    cx.shared_changed::<AuthMembersRow>();
    cx.step()
}

/// As it is stored: a verifier, made of the password or given as one.
fn password(cx: &mut DdlCx<'_>, given: Option<&str>) -> Result<Option<String>> {
    let Some(given) = given else {
        return Ok(None);
    };
    if given.is_empty() {
        cx.notice("empty string is not a valid password, clearing password");
        return Ok(None);
    }
    if Verifier::parse(given).is_some() {
        return Ok(Some(given.to_owned()));
    }
    let is_md5 = given.len() == 35
        && given.starts_with("md5")
        && given[3..].bytes().all(|b| b.is_ascii_hexdigit());
    if is_md5 {
        return Err(SqlError::unsupported("MD5 passwords are not supported")
            .hint("Give the password itself, or a SCRAM-SHA-256 verifier."));
    }
    Ok(Some(Verifier::of_password(given).to_string()))
}

fn valid_until(cx: &DdlCx<'_>, text: Option<&str>) -> Result<Option<Timestamptz>> {
    let Some(text) = text else {
        return Ok(None);
    };
    match codec::parse_text(SqlType::plain(oids::TIMESTAMPTZ), text, cx.functions)? {
        Datum::TimestampTz(t) => Ok(Some(Timestamptz(t))),
        _ => Err(SqlError::internal("a time that is none")),
    }
}

pub async fn alter(s: &AlterRole, cx: &mut DdlCx<'_>) -> Result<()> {
    let said = said(&s.options)?;
    let role = cx.role(&s.role)?;
    let (tid, mut row) = cx.find_one::<AuthidRow>(by::ROLE_OID, &oid_key(role.oid), "role")?;
    if role.name.starts_with("pg_") {
        return Err(SqlError::new(
            state::RESERVED_NAME,
            format!("role name \"{}\" is reserved", role.name),
        )
        .detail("Cannot alter reserved roles."));
    }
    if said.superuser.is_some() || row.rolsuper {
        if !cx.user.superuser {
            return Err(denied(
                "must be superuser to alter superuser roles or change superuser attribute",
            ));
        }
    } else if said.replication.is_some() || row.rolreplication {
        if !cx.user.superuser {
            return Err(denied(
                "must be superuser to alter replication roles or change replication attribute",
            ));
        }
    } else if said.bypass_rls.is_some() {
        if !cx.user.superuser {
            return Err(denied("must be superuser to change bypassrls attribute"));
        }
    } else if !cx.user.superuser && !cx.user.create_role {
        let only_password = s
            .options
            .iter()
            .all(|o| matches!(o.kind, RoleOptionKind::Password(_)));
        if role.oid != cx.user.oid || !only_password {
            return Err(denied("permission denied"));
        }
    }
    row.rolsuper = said.superuser.unwrap_or(row.rolsuper);
    row.rolinherit = said.inherit.unwrap_or(row.rolinherit);
    row.rolcreaterole = said.create_role.unwrap_or(row.rolcreaterole);
    row.rolcreatedb = said.create_db.unwrap_or(row.rolcreatedb);
    row.rolcanlogin = said.login.unwrap_or(row.rolcanlogin);
    row.rolreplication = said.replication.unwrap_or(row.rolreplication);
    row.rolbypassrls = said.bypass_rls.unwrap_or(row.rolbypassrls);
    row.rolconnlimit = said.limit.unwrap_or(row.rolconnlimit);
    if let Some(given) = said.password {
        row.rolpassword = password(cx, given)?;
    }
    if said.valid_until.is_some() {
        row.rolvaliduntil = valid_until(cx, said.valid_until)?;
    }
    cx.update(tid, &row).await?;
    cx.shared_changed::<AuthidRow>();
    Ok(())
}

pub async fn drop(s: &DropRole, cx: &mut DdlCx<'_>) -> Result<()> {
    if !cx.user.superuser && !cx.user.create_role {
        return Err(denied("permission denied to drop role"));
    }
    for spec in &s.roles {
        let RoleSpec::Named(name) = spec else {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                "cannot use special role specifier in DROP ROLE",
            ));
        };
        let Some(role) = cx.view().role_named(&name.name)? else {
            if s.if_exists {
                cx.notice(format!("role \"{}\" does not exist, skipping", name.name));
                continue;
            }
            return Err(no_role(&name.name));
        };
        drop_one(cx, &role).await?;
    }
    Ok(())
}

async fn drop_one(cx: &mut DdlCx<'_>, role: &Role) -> Result<()> {
    let in_use = |message: &str| SqlError::new(state::OBJECT_IN_USE, message.to_owned());
    if role.oid == cx.user.oid {
        return Err(in_use("current user cannot be dropped"));
    }
    if role.oid == cx.session_user.oid {
        return Err(in_use("session user cannot be dropped"));
    }
    if role.superuser && !cx.user.superuser {
        return Err(denied("must be superuser to drop superusers"));
    }
    let system_role = role.oid < Oid::FIRST_NORMAL;
    let owned = owned_objects(cx, role)?;
    if system_role || !owned.is_empty() {
        let detail = if system_role {
            format!("role {} is required by the database system", role.name)
        } else {
            owned.join("\n")
        };
        return Err(SqlError::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!(
                "role \"{}\" cannot be dropped because some objects depend on it",
                role.name
            ),
        )
        .detail(detail));
    }
    cx.delete_all::<AuthidRow>(by::ROLE_OID, &oid_key(role.oid))
        .await?;
    cx.delete_all::<AuthMembersRow>(by::MEMBER_ROLE, &oid_key(role.oid))
        .await?;
    cx.step()?;
    cx.delete_all::<AuthMembersRow>(by::MEMBER_MEMBER, &oid_key(role.oid))
        .await?;
    let comments = [Datum::Oid(role.oid), Datum::Oid(AuthidRow::TABLE)];
    cx.delete_all::<ShdescriptionRow>(by::SHARED_DESCRIPTION, &comments)
        .await?;
    let system = cx.system();
    let settings = cx
        .catalog
        .cx(&system, cx.database)
        .scan::<DbRoleSettingRow>(&cx.snapshot())?;
    for (tid, row) in settings {
        if row.setrole == role.oid {
            cx.delete::<DbRoleSettingRow>(tid).await?;
        }
    }
    cx.shared_changed::<AuthidRow>();
    cx.step()
}

/// What the role owns, in PostgreSQL's words: here, in this database, and databases.
fn owned_objects(cx: &DdlCx<'_>, role: &Role) -> Result<Vec<String>> {
    let system = cx.system();
    let catalog = cx.catalog.cx(&system, cx.database);
    let snapshot = cx.snapshot();
    let mut out = Vec::new();
    for (_, row) in catalog.scan::<DatabaseRow>(&snapshot)? {
        if row.datdba == role.oid {
            out.push(format!("owner of database {}", row.datname));
        }
    }
    for (_, row) in catalog.scan::<NamespaceRow>(&snapshot)? {
        if row.nspowner == role.oid {
            out.push(format!("owner of schema {}", row.nspname));
        }
    }
    for (_, row) in catalog.scan::<ClassRow>(&snapshot)? {
        let word = match row.relkind {
            b'r' => "table",
            b'S' => "sequence",
            _ => continue,
        };
        if row.relowner == role.oid {
            out.push(format!("owner of {word} {}", row.relname));
        }
    }
    Ok(out)
}
