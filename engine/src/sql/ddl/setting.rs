//! ALTER ROLE ... SET and ALTER DATABASE ... SET: `pg_db_role_setting`, read when a session begins.

use crate::catalog::rows::{DbRoleSettingRow, TextArray};
use crate::catalog::view::CatalogView;
use crate::config::Asker;
use crate::config::registry::registry;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{AlterSetting, SettingChange, SettingOwner};
use crate::sql::session::{join_values, settings_error};
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, not_owner};

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
            if !values.is_empty() {
                let value = join_values(name, values)?;
                check(name, &value, cx)?;
                entries.push(format!("{name}={value}"));
            }
        }
        SettingChange::FromCurrent { .. } => {
            return Err(
                SqlError::unsupported("SET ... FROM CURRENT is not supported")
                    .hint("Name the value."),
            );
        }
        SettingChange::Reset(name) => {
            let name = registry().find(name).map_or(name.as_str(), |d| d.name);
            without(&mut entries, name);
        }
        SettingChange::ResetAll => entries.clear(),
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

/// What SET would say to it in a session of the user's.
fn check(name: &str, value: &str, cx: &DdlCx<'_>) -> Result<()> {
    if matches!(name, "role" | "session_authorization") {
        return Err(SqlError::unsupported(format!(
            "parameter \"{name}\" cannot be kept for a role or a database"
        ))
        .hint("Use SET ROLE or SET SESSION AUTHORIZATION after connecting."));
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
    store
        .set(name, value, false, Asker::Session { superuser })
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
            if !cx.user.superuser && database.owner != cx.user.oid {
                return Err(not_owner("database", &database.name));
            }
            Ok((database.oid, Oid::INVALID))
        }
        SettingOwner::Role { role, database } => {
            let role = match role {
                Some(spec) => cx.role(spec)?.oid,
                None => Oid::INVALID,
            };
            let may = cx.user.superuser || cx.user.create_role || role == cx.user.oid;
            if !may || (role == Oid::INVALID && !cx.user.superuser) {
                return Err(SqlError::new(
                    state::INSUFFICIENT_PRIVILEGE,
                    if role == Oid::INVALID {
                        "must be superuser to alter settings globally"
                    } else {
                        "permission denied"
                    },
                ));
            }
            let database = match database {
                Some(name) => find(&name.name)?.oid,
                None => Oid::INVALID,
            };
            Ok((database, role))
        }
    }
}
