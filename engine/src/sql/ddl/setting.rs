//! ALTER ROLE ... SET and ALTER DATABASE ... SET: `pg_db_role_setting`, read when a session begins.

use crate::catalog::rows::{DbRoleSettingRow, TextArray};
use crate::catalog::view::{CatalogView, Role};
use crate::config::registry::registry;
use crate::config::{Asker, Context};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{AlterSetting, SettingChange, SettingOwner};
use crate::sql::session::{join_values, settings_error};
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, not_owner};
use super::rights::denied;

pub async fn alter(s: &AlterSetting, cx: &mut DdlCx<'_>) -> Result<()> {
    let (database, role) = owner(s, cx)?;
    let key = [Datum::Oid(database), Datum::Oid(role)];
    let old = cx
        .find::<DbRoleSettingRow>(by::ROLE_SETTING, &key)?
        .into_iter()
        .next();
    let mut entries: Vec<String> = old
        .as_ref()
        .and_then(|(_, row)| row.setconfig.clone())
        .map(|list| list.0)
        .unwrap_or_default();
    let without = |entries: &mut Vec<String>, name: &str| {
        entries.retain(|e| e.split_once('=').is_none_or(|(n, _)| n != name));
    };
    match &s.change {
        SettingChange::Set { name, values } => {
            let name = registry().find(name).map_or(name.as_str(), |d| d.name);
            without(&mut entries, name);
            let value = match values.is_empty() {
                true => None,
                false => Some(join_values(name, values)?),
            };
            check(name, value.as_deref(), cx)?;
            entries.extend(value.map(|value| format!("{name}={value}")));
        }
        SettingChange::FromCurrent { .. } => {
            return Err(
                SqlError::unsupported("SET ... FROM CURRENT is not supported")
                    .hint("Name the value."),
            );
        }
        SettingChange::Reset(name) => {
            let name = registry().find(name).map_or(name.as_str(), |d| d.name);
            check(name, None, cx)?;
            without(&mut entries, name);
        }
        // What somebody else has set and one could not set oneself stays.
        SettingChange::ResetAll => entries.retain(|e| {
            let name = e.split_once('=').map_or(e.as_str(), |(name, _)| name);
            !may_change(name, cx.user.superuser)
        }),
    }
    match (old, entries.is_empty()) {
        (Some((tid, _)), true) => cx.delete::<DbRoleSettingRow>(tid).await?,
        (None, true) => {}
        (old, false) => {
            let row = DbRoleSettingRow {
                setdatabase: database,
                setrole: role,
                setconfig: Some(TextArray::from_items(entries)),
            };
            match old {
                Some((tid, _)) => cx.update(tid, &row).await?,
                None => cx.insert(&row).await?,
            }
        }
    }
    cx.shared_changed::<DbRoleSettingRow>();
    Ok(())
}

fn may_change(name: &str, superuser: bool) -> bool {
    let context = registry().find(name).map(|d| d.context);
    superuser || context == Some(Context::User)
}

/// What SET, or without a value RESET, would say to it in a session of the user's.
fn check(name: &str, value: Option<&str>, cx: &DdlCx<'_>) -> Result<()> {
    if matches!(name, "role" | "session_authorization") {
        // There can be none.
        if value.is_none() {
            return Ok(());
        }
        return Err(SqlError::unsupported(format!(
            "parameter \"{name}\" cannot be kept for a role or a database"
        ))
        .hint("Use SET ROLE or SET SESSION AUTHORIZATION after connecting."));
    }
    if name == "understudy.write_on_full_disk" && value.is_some() {
        return Err(SqlError::unsupported(format!(
            "parameter \"{name}\" cannot be kept for a role or a database"
        ))
        .hint("Set it in the session that removes data."));
    }
    let Some(facts) = cx.facts else { return Ok(()) };
    let superuser = cx.user.superuser;
    if registry().find(name).is_none() && name.contains('.') && !superuser {
        return Err(SqlError::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("permission denied to set parameter \"{name}\""),
        ));
    }
    let mut store = facts.settings.lock().clone();
    let asker = Asker::Session { superuser };
    match value {
        Some(value) => store.set(name, value, false, asker),
        None => store.reset(name, false, asker),
    }
    .map_err(settings_error)
}

/// (database, role), 0 for all of them.
fn owner(s: &AlterSetting, cx: &DdlCx<'_>) -> Result<(Oid, Oid)> {
    let find = |name: &str| -> Result<crate::catalog::view::Database> {
        cx.view()
            .database_named(name)?
            .ok_or_else(|| super::database::no_database(name))
    };
    match &s.target {
        SettingOwner::Database(name) => {
            let database = find(&name.name)?;
            if !cx.acts_as(database.owner)? {
                return Err(not_owner("database", &database.name));
            }
            Ok((database.oid, Oid::INVALID))
        }
        SettingOwner::Role { role, database } => {
            let role = role.as_ref().map(|spec| cx.role(spec)).transpose()?;
            if let Some(role) = &role {
                may_alter(role, cx)?;
            }
            let database = database.as_ref().map(|d| find(&d.name)).transpose()?;
            match (&role, &database) {
                (Some(_), _) => {}
                (None, Some(database)) if !cx.acts_as(database.owner)? => {
                    return Err(not_owner("database", &database.name));
                }
                (None, None) if !cx.user.superuser => {
                    return Err(denied("must be superuser to alter settings globally"));
                }
                (None, _) => {}
            }
            let database = database.map_or(Oid::INVALID, |d| d.oid);
            let role = role.map_or(Oid::INVALID, |r| r.oid);
            Ok((database, role))
        }
    }
}

/// Whoever makes roles may say how their sessions begin, but not those of superusers.
fn may_alter(role: &Role, cx: &DdlCx<'_>) -> Result<()> {
    if cx.user.superuser {
        return Ok(());
    }
    if role.superuser {
        return Err(denied("must be superuser to alter superusers"));
    }
    if !cx.user.create_role && role.oid != cx.user.oid {
        return Err(denied("permission denied"));
    }
    Ok(())
}
