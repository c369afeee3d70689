//! CREATE, ALTER and DROP ROLE. Manual, CREATE ROLE.

use crate::catalog::rows::{
    AuthMembersRow, AuthidRow, CatalogRow, DbRoleSettingRow, ShdescriptionRow, Timestamptz,
};
use crate::catalog::view::{CatalogView, Role};
use crate::config::scram::Verifier;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterRole, CreateRole, DropRole, RoleKind, RoleOption, RoleOptionKind, RoleSpec,
};
use crate::txn::LockMode;
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

use super::Result;
use super::cx::{DdlCx, by, oid_key};
use super::membership::{add_members, remove_members};
use super::rights::denied;
use super::role_uses;

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

pub fn no_role(name: &str) -> SqlError {
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
    let made = cx.role(&RoleSpec::Named(s.name.clone()))?;
    let grantor = cx.user.oid;
    for group in said.in_role {
        let group = cx.role(group)?;
        add_members(cx, &group, std::slice::from_ref(&made), grantor, false).await?;
    }
    for (members, admin) in [(said.admins, true), (said.members, false)] {
        let members = roles(cx, members)?;
        add_members(cx, &made, &members, grantor, admin).await?;
    }
    Ok(())
}

fn roles(cx: &DdlCx<'_>, specs: &[RoleSpec]) -> Result<Vec<Role>> {
    specs.iter().map(|spec| cx.role(spec)).collect()
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
    cx.step()?;
    let members = roles(cx, said.members)?;
    if s.drops_members {
        remove_members(cx, &role, &members, false).await
    } else {
        add_members(cx, &role, &members, cx.user.oid, false).await
    }
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
    let message = |told: &str| SqlError::new(state::DEPENDENT_OBJECTS_STILL_EXIST, told);
    let name = &role.name;
    if role.oid < Oid::FIRST_NORMAL {
        let told = format!("cannot drop role {name} because it is required by the database system");
        return Err(message(&told));
    }
    cx.lock_role(role.oid, LockMode::AccessExclusive).await?;
    let uses = role_uses::lines(cx, role.oid).await?;
    if !uses.is_empty() {
        let told = format!("role \"{name}\" cannot be dropped because some objects depend on it");
        return Err(message(&told).detail(uses.join("\n")));
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
