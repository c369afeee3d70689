//! CREATE, ALTER and DROP DATABASE. Manual, CREATE DATABASE.
//!
//! CREATE copies the template through the log inside its own transaction: an error removes the copy again, a crash
//! leaves a directory that no row names. DROP deletes the row in a transaction and removes the files when that has committed.

use std::future::Future;
use std::pin::Pin;

use crate::catalog::bootstrap::ENCODING_UTF8;
use crate::catalog::database;
use crate::catalog::rows::CatalogRow;
use crate::catalog::rows::{DatabaseRow, DbRoleSettingRow, ShdescriptionRow};
use crate::catalog::session::Catalog;
use crate::catalog::view::CatalogView;
use crate::ids::{DEFAULT_TABLESPACE, Oid};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{AlterDatabase, CreateDatabase, DropDatabase, UtilityOption};
use crate::sql::rights::{self, MaySignal};
use crate::txn::{LockMode, LockTag, LockWait, Transaction, TxnManager};
use crate::types::datum::Datum;
use crate::types::functions::is_encoding_name;

use super::Result;
use super::cx::{DdlCx, by};
use super::rights::denied;

struct Options {
    owner: Option<String>,
    template: String,
    is_template: bool,
    allow_connections: bool,
    limit: i32,
}

fn text(o: &UtilityOption) -> Option<String> {
    o.text().map(str::to_owned)
}

fn options(given: &[UtilityOption]) -> Result<Options> {
    let mut out = Options {
        owner: None,
        template: "template1".to_owned(),
        is_template: false,
        allow_connections: true,
        limit: -1,
    };
    for o in given {
        match o.name.as_str() {
            "owner" => out.owner = text(o),
            "template" => {
                if let Some(t) = text(o) {
                    out.template = t;
                }
            }
            "encoding" => check_encoding(o)?,
            "locale" | "lc_collate" | "lc_ctype" => check_locale(o)?,
            "tablespace" => {
                if let Some(t) = text(o).filter(|t| t != "pg_default") {
                    return Err(SqlError::new(
                        state::UNDEFINED_OBJECT,
                        format!("tablespace \"{t}\" does not exist"),
                    ));
                }
            }
            "is_template" => out.is_template = flag(o)?,
            "allow_connections" => out.allow_connections = flag(o)?,
            "connection_limit" => out.limit = limit(o)?,
            // How the template is copied is the server's business.
            "strategy" | "oid" | "collation_version" | "locale_provider" | "icu_locale" => {
                if o.name != "strategy" && o.name != "locale_provider" {
                    return Err(SqlError::unsupported(format!(
                        "option \"{}\" is not supported",
                        o.name
                    ))
                    .at(o.at));
                }
            }
            other => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("option \"{other}\" not recognized"),
                )
                .at(o.at));
            }
        }
    }
    Ok(out)
}

fn check_encoding(o: &UtilityOption) -> Result<()> {
    let Some(name) = text(o) else {
        return Ok(());
    };
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    if matches!(plain.as_str(), "utf8" | "unicode" | "6") {
        return Ok(());
    }
    if !is_encoding_name(&plain) {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("{name} is not a valid encoding name"),
        )
        .at(o.at));
    }
    Err(
        SqlError::unsupported(format!("encoding \"{name}\" is not supported"))
            .hint("Databases here are in UTF8.")
            .at(o.at),
    )
}

fn check_locale(o: &UtilityOption) -> Result<()> {
    match text(o) {
        Some(name) if !matches!(name.as_str(), "C" | "POSIX" | "C.UTF-8" | "C.utf8") => Err(
            SqlError::unsupported(format!("locale \"{name}\" is not supported"))
                .hint("Use C, POSIX or C.UTF-8.")
                .at(o.at),
        ),
        _ => Ok(()),
    }
}

fn flag(o: &UtilityOption) -> Result<bool> {
    o.boolean().ok_or_else(|| {
        SqlError::new(
            state::SYNTAX_ERROR,
            format!("{} requires a Boolean value", o.name),
        )
    })
}

fn limit(o: &UtilityOption) -> Result<i32> {
    let n = o.text().and_then(|t| t.parse::<i32>().ok()).unwrap_or(-1);
    if n < -1 {
        return Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid connection limit: {n}"),
        ));
    }
    Ok(n)
}

/// Asks the other sessions of a database to go (WITH FORCE: ends them) and waits a while; gives how many stay.
pub trait Vacate: Sync {
    /// Whose sessions they are.
    fn users(&self, database: Oid) -> Vec<Oid>;
    fn vacate(
        &self,
        database: Oid,
        force: bool,
    ) -> Pin<Box<dyn Future<Output = Result<usize>> + Send + '_>>;
}

/// Copies the template. The caller commits at once.
pub async fn create(s: &CreateDatabase, cx: &mut DdlCx<'_>, others: &dyn Vacate) -> Result<()> {
    let wanted = options(&s.options)?;
    if !cx.user.superuser && !cx.user.create_db {
        return Err(SqlError::new(
            state::INSUFFICIENT_PRIVILEGE,
            "permission denied to create database",
        ));
    }
    let owner = match &wanted.owner {
        Some(name) => {
            let found = cx.view().role_named(name)?;
            let owner = found.ok_or_else(|| super::role::no_role(name))?;
            cx.must_be_member_of(&owner)?;
            owner.oid
        }
        None => cx.user.oid,
    };
    let name = s.name.name.clone();
    if cx.view().database_named(&name)?.is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_DATABASE,
            format!("database \"{name}\" already exists"),
        ));
    }
    let template = cx.view().database_named(&wanted.template)?.ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_DATABASE,
            format!("template database \"{}\" does not exist", wanted.template),
        )
    })?;
    if !template.is_template && !cx.acts_as(template.owner)? {
        return Err(SqlError::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("permission denied to copy database \"{}\"", template.name),
        ));
    }
    // Nobody can come in from here on; who is there has to go.
    lock_strongly(cx, template.oid, LockMode::Share).await?;
    let left = others.vacate(template.oid, false).await?;
    if left > 0 {
        return Err(in_use(
            format!(
                "source database \"{}\" is being accessed by other users",
                template.name
            ),
            left,
        ));
    }
    let key = [Datum::text(&template.name)];
    let found = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
    let Some((_, source)) = found.into_iter().find(|(_, r)| r.oid == template.oid) else {
        return Err(SqlError::new(
            state::UNDEFINED_DATABASE,
            format!("template database \"{}\" does not exist", template.name),
        ));
    };
    cx.keep_role(owner).await?;
    let oid = cx.new_oid()?;
    let xid = cx.xid()?;
    cx.insert(&DatabaseRow {
        oid,
        datname: name,
        datdba: owner,
        encoding: ENCODING_UTF8,
        datlocprovider: b'c',
        datistemplate: wanted.is_template,
        datallowconn: wanted.allow_connections,
        datconnlimit: wanted.limit,
        dattablespace: DEFAULT_TABLESPACE,
        datcollate: source.datcollate,
        datctype: source.datctype,
        ..DatabaseRow::default()
    })
    .await?;
    let store = &cx.catalog.store;
    if let Err(error) = database::copy(store, template.oid, oid, xid) {
        if let Err(also) = database::drop_files(store, oid) {
            tracing::warn!(database = %oid, error = %also, "could not remove the files of a failed copy");
        }
        return Err(error.into());
    }
    cx.shared_changed::<DatabaseRow>();
    Ok(())
}

fn in_use(message: String, others: usize) -> SqlError {
    let detail = if others == 1 {
        "There is 1 other session using the database.".to_owned()
    } else {
        format!("There are {others} other sessions using the database.")
    };
    SqlError::new(state::OBJECT_IN_USE, message).detail(detail)
}

fn tag(database: Oid) -> LockTag {
    LockTag::Object {
        database: Oid::INVALID,
        class: DatabaseRow::TABLE,
        object: database,
    }
}

/// Whoever copies or drops a database holds its lock strongly.
async fn lock_strongly(cx: &mut DdlCx<'_>, database: Oid, mode: LockMode) -> Result<()> {
    let locks = cx.catalog.txns.locks();
    locks
        .lock(cx.txn, tag(database), mode, LockWait::Wait)
        .await?;
    Ok(())
}

/// A session that begins, and whoever works in a database without one, holds its lock weakly.
pub async fn lock_database(txns: &TxnManager, txn: &mut Transaction, database: Oid) -> Result<()> {
    let mode = LockMode::RowExclusive;
    txns.locks()
        .lock(txn, tag(database), mode, LockWait::Wait)
        .await?;
    Ok(())
}

pub async fn alter(s: &AlterDatabase, cx: &mut DdlCx<'_>) -> Result<()> {
    let key = [Datum::text(&s.name.name)];
    let rows = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
    let Some((tid, mut row)) = rows.into_iter().next() else {
        return Err(no_database(&s.name.name));
    };
    cx.must_own_database(&row)?;
    for o in &s.options {
        match o.name.as_str() {
            "is_template" => row.datistemplate = flag(o)?,
            "allow_connections" => row.datallowconn = flag(o)?,
            "connection_limit" => row.datconnlimit = limit(o)?,
            other => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("option \"{other}\" not recognized"),
                )
                .at(o.at));
            }
        }
    }
    cx.update(tid, &row).await?;
    cx.shared_changed::<DatabaseRow>();
    Ok(())
}

pub fn no_database(name: &str) -> SqlError {
    SqlError::new(
        state::UNDEFINED_DATABASE,
        format!("database \"{name}\" does not exist"),
    )
}

/// A database whose row is deleted; its files go when the transaction has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedDatabase(pub Oid);

impl DroppedDatabase {
    /// Deletes the row. `None`: IF EXISTS, and there is none.
    pub async fn begin(
        s: &DropDatabase,
        cx: &mut DdlCx<'_>,
        others: &dyn Vacate,
    ) -> Result<Option<DroppedDatabase>> {
        let name = &s.name.name;
        let key = [Datum::text(name)];
        let rows = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
        let Some((_, row)) = rows.into_iter().next() else {
            if s.if_exists {
                cx.notice(format!("database \"{name}\" does not exist, skipping"));
                return Ok(None);
            }
            return Err(no_database(name));
        };
        cx.must_own_database(&row)?;
        if row.datistemplate {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                "cannot drop a template database",
            ));
        }
        if row.oid == cx.database {
            return Err(SqlError::new(
                state::OBJECT_IN_USE,
                "cannot drop the currently open database",
            ));
        }
        lock_strongly(cx, row.oid, LockMode::AccessExclusive).await?;
        let locked = row.oid;
        let again = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
        let Some((tid, row)) = again.into_iter().find(|(_, r)| r.oid == locked) else {
            return Err(no_database(name));
        };
        if s.force {
            may_end(cx, &others.users(row.oid))?;
        }
        let left = others.vacate(row.oid, s.force).await?;
        if left > 0 {
            return Err(in_use(
                format!("database \"{name}\" is being accessed by other users"),
                left,
            ));
        }
        cx.delete::<DatabaseRow>(tid).await?;
        let comments = [Datum::Oid(row.oid), Datum::Oid(DatabaseRow::TABLE)];
        cx.delete_all::<ShdescriptionRow>(by::SHARED_DESCRIPTION, &comments)
            .await?;
        cx.delete_all::<DbRoleSettingRow>(by::ROLE_SETTING, &[Datum::Oid(row.oid)])
            .await?;
        cx.shared_changed::<DatabaseRow>();
        cx.step()?;
        Ok(Some(DroppedDatabase(row.oid)))
    }
}

/// 42501 unless the current role may end sessions of all these roles: none is ended then.
fn may_end(cx: &DdlCx<'_>, users: &[Oid]) -> Result<()> {
    for user in users {
        match rights::may_signal(&cx.view(), *user)? {
            MaySignal::Yes => {}
            MaySignal::NotSuperuser => return Err(denied(rights::NOT_SUPERUSER)),
            MaySignal::NotMember => return Err(denied(rights::NOT_MEMBER)),
        }
    }
    Ok(())
}

/// After the commit: the log says that the database is gone, and its files are removed.
pub fn finish_drop(catalog: &Catalog, dropped: DroppedDatabase) -> Result<()> {
    Ok(database::drop_files(&catalog.store, dropped.0)?)
}
