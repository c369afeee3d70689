//! GRANT and REVOKE of roles: `pg_auth_members`. Manual, GRANT on roles.
//!
//! Who is whose member decides whose rights somebody has, so no role may become a member of itself by way of others.

use crate::catalog::rights::{DATABASE_OWNER, Holder};
use crate::catalog::rows::AuthMembersRow;
use crate::catalog::view::{CatalogView, Role};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::GrantRole;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by};
use super::rights::denied;
use super::role::no_role;

pub async fn grant(s: &GrantRole, cx: &mut DdlCx<'_>) -> Result<()> {
    let grantor = match &s.grantor {
        Some(spec) => cx.role(spec)?.oid,
        None => cx.user.oid,
    };
    let mut members = Vec::with_capacity(s.members.len());
    for spec in &s.members {
        members.push(cx.role(spec)?);
    }
    if s.columns_at.is_some() {
        return Err(SqlError::new(
            state::INVALID_GRANT_OPERATION,
            "column names cannot be included in GRANT/REVOKE ROLE",
        ));
    }
    for name in &s.roles {
        let found = cx.view().role_named(&name.name)?;
        let role = found.ok_or_else(|| no_role(&name.name))?;
        if s.is_grant {
            add_members(cx, &role, &members, grantor, s.admin).await?;
        } else {
            remove_members(cx, &role, &members, s.admin).await?;
        }
    }
    Ok(())
}

/// 42501 unless the current role may say who is a member of `role`.
fn must_administer(cx: &DdlCx<'_>, role: &Role, grantor: Oid) -> Result<()> {
    if role.superuser {
        if cx.user.superuser {
            return Ok(());
        }
        return Err(denied("must be superuser to alter superusers"));
    }
    if cx.user.superuser || cx.user.create_role {
        return Ok(());
    }
    let view = cx.view();
    let is_admin = Holder::new(&view, grantor)?.is_admin_of(role.oid)?;
    if is_admin {
        return Ok(());
    }
    let name = &role.name;
    Err(denied(format!("must have admin option on role \"{name}\"")))
}

/// `AddRoleMems`
pub async fn add_members(
    cx: &mut DdlCx<'_>,
    role: &Role,
    members: &[Role],
    grantor: Oid,
    admin: bool,
) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    must_administer(cx, role, grantor)?;
    if role.oid == DATABASE_OWNER {
        return Err(SqlError::internal(format!(
            "role \"{}\" cannot have explicit members",
            role.name
        )));
    }
    if grantor != cx.user.oid && !cx.user.superuser {
        return Err(denied("must be superuser to set grantor"));
    }
    cx.keep_role(role.oid).await?;
    for member in members {
        cx.keep_role(member.oid).await?;
        add(cx, role, member, grantor, admin).await?;
        cx.step()?;
    }
    Ok(())
}

async fn add(
    cx: &mut DdlCx<'_>,
    role: &Role,
    member: &Role,
    grantor: Oid,
    admin: bool,
) -> Result<()> {
    let refused = |message: String| Err(SqlError::new(state::INVALID_GRANT_OPERATION, message));
    if member.oid == DATABASE_OWNER {
        return Err(SqlError::internal(format!(
            "role \"{}\" cannot be a member of any role",
            member.name
        )));
    }
    let in_circle = {
        let view = cx.view();
        Holder::new(&view, role.oid)?.is_member_of(member.oid)?
    };
    if in_circle {
        return refused(format!(
            "role \"{}\" is a member of role \"{}\"",
            role.name, member.name
        ));
    }
    let key = [Datum::Oid(role.oid), Datum::Oid(member.oid)];
    let old = cx.find::<AuthMembersRow>(by::MEMBER_ROLE, &key)?;
    match old.into_iter().next() {
        Some((_, row)) if row.admin_option || !admin => {
            cx.notice(format!(
                "role \"{}\" is already a member of role \"{}\"",
                member.name, role.name
            ));
            return Ok(());
        }
        Some((tid, mut row)) => {
            row.admin_option = true;
            row.grantor = grantor;
            cx.update(tid, &row).await?;
        }
        None => {
            cx.insert(&AuthMembersRow {
                roleid: role.oid,
                member: member.oid,
                grantor,
                admin_option: admin,
            })
            .await?;
        }
    }
    cx.shared_changed::<AuthMembersRow>();
    Ok(())
}

/// `DelRoleMems`; `admin`: only the option goes.
pub async fn remove_members(
    cx: &mut DdlCx<'_>,
    role: &Role,
    members: &[Role],
    admin: bool,
) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    must_administer(cx, role, cx.user.oid)?;
    for member in members {
        let key = [Datum::Oid(role.oid), Datum::Oid(member.oid)];
        let found = cx.find::<AuthMembersRow>(by::MEMBER_ROLE, &key)?;
        let Some((tid, mut row)) = found.into_iter().next() else {
            cx.notices.push(SqlError::warning(
                state::WARNING,
                format!(
                    "role \"{}\" is not a member of role \"{}\"",
                    member.name, role.name
                ),
            ));
            continue;
        };
        if admin {
            row.admin_option = false;
            cx.update(tid, &row).await?;
        } else {
            cx.delete::<AuthMembersRow>(tid).await?;
        }
        cx.shared_changed::<AuthMembersRow>();
        cx.step()?;
    }
    Ok(())
}
