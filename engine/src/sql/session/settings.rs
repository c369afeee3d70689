//! SET, SHOW, RESET, ALTER SYSTEM.

use std::path::Path;
use std::sync::Arc;

use super::lifecycle::Session;
use super::output::Output;
use super::services::Services;
use super::transaction::in_failed_block;
use crate::catalog::rights::{Holder, READ_ALL_SETTINGS};
use crate::catalog::view::CatalogError;
use crate::config::auto_conf::{self, Change};
use crate::config::error::SettingError;
use crate::config::registry::registry;
use crate::config::{Asker, Context, Definition, Value};
use crate::io::durable;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterSystem, ResetTarget, SetStatement, SetTarget, SetValue, ShowTarget, TransactionMode,
};
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

/// A setting's error as the client sees it.
pub fn refused(e: SettingError) -> SqlError {
    let mut out = SqlError::new(e.state, e.message);
    out.detail = e.detail;
    out.hint = e.hint;
    out
}

/// A column of a utility statement's result.
pub(super) fn text_column(name: &str) -> OutputColumn {
    OutputColumn {
        name: name.to_owned(),
        ty: SqlType::plain(oids::TEXT),
        table: crate::ids::Oid::INVALID,
        attribute: 0,
    }
}

/// Values as one text: names in a list are quoted where they are no plain identifier (`flatten_set_variable_args`).
pub fn join_values(name: &str, values: &[SetValue]) -> Result<String, SqlError> {
    let flags = registry().find(name).map(|d| d.flags).unwrap_or_default();
    let list = flags.list;
    match values {
        [SetValue::Interval(text)] => interval_offset(text),
        [one] if !list => Ok(one.as_str().to_owned()),
        _ if !list && values.len() > 1 => Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!("SET {name} takes only one argument"),
        )),
        _ => Ok(values
            .iter()
            .map(|v| match flags.quote {
                true => quoted(v.as_str()),
                false => v.as_str().to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")),
    }
}

/// `SET search_path = 'a, b'` names one odd schema, in PostgreSQL too.
fn quoted(item: &str) -> String {
    let mut chars = item.chars();
    let plain = chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain {
        item.to_owned()
    } else {
        format!("\"{}\"", item.replace('"', "\"\""))
    }
}

/// `SET TIME ZONE INTERVAL '-08:00'`: hours and minutes as a number of hours.
fn interval_offset(text: &str) -> Result<String, SqlError> {
    let bad = || {
        SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid interval value for time zone: \"{text}\""),
        )
    };
    let (sign, rest) = match text.trim().strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.trim().trim_start_matches('+')),
    };
    let mut hours = 0.0;
    let mut scale = 1.0;
    for part in rest.split(':') {
        hours += part.trim().parse::<f64>().map_err(|_| bad())? / scale;
        scale *= 60.0;
    }
    Ok((sign * hours).to_string())
}

impl<S: Services> Session<S> {
    pub(super) fn set_statement<O: Output>(
        &mut self,
        s: &SetStatement,
        out: &mut O,
    ) -> Result<(), SqlError> {
        match &s.what {
            SetTarget::Setting { name, values } => {
                if s.local && !self.block.is_block() {
                    self.warn_outside(out, "SET LOCAL");
                }
                self.set_values(name, values, s.local)?;
            }
            SetTarget::Transaction(modes) => {
                if !self.block.is_block() {
                    self.warn_outside(out, "SET TRANSACTION");
                }
                self.set_transaction(modes)?;
            }
            SetTarget::Characteristics(modes) => self.set_characteristics(modes)?,
            SetTarget::FromCurrent { name } => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("SET {name} FROM CURRENT belongs into ALTER ... SET"),
                ));
            }
            SetTarget::Snapshot(_) => {
                return Err(
                    SqlError::unsupported("SET TRANSACTION SNAPSHOT is not implemented")
                        .hint("Use one REPEATABLE READ transaction."),
                );
            }
        }
        self.apply_settings();
        Ok(())
    }

    fn warn_outside<O: Output>(&self, out: &mut O, what: &str) {
        self.notice(
            out,
            &SqlError::warning(
                state::NO_ACTIVE_SQL_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            ),
        );
    }

    fn set_values(&mut self, name: &str, values: &[SetValue], local: bool) -> Result<(), SqlError> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "role" | "session_authorization" => return self.set_role(&lower, values, local),
            "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {
                return self.set_transaction_setting(&lower, values);
            }
            _ => {}
        }
        let asker = self.asker_of(&lower)?;
        let text = if values.is_empty() {
            None
        } else {
            Some(join_values(name, values)?)
        };
        self.check_managed(&lower, text.as_deref())?;
        let mut store = self.facts.settings.lock();
        match text {
            None => store.reset(name, local, asker),
            Some(text) => store.set(name, &text, local, asker),
        }
        .map_err(refused)
    }

    /// Who changes the setting: of one that is for superusers, whether the role is one now.
    fn asker_of(&mut self, name: &str) -> Result<Asker, SqlError> {
        let context = registry().find(name).map(|d| d.context);
        if context != Some(Context::Superuser) {
            return Ok(self.asker());
        }
        let superuser = self.ask_rights(|me| Ok(me.is_superuser()))?;
        Ok(Asker::Session { superuser })
    }

    /// What only this session's room can check.
    fn check_managed(&self, name: &str, text: Option<&str>) -> Result<(), SqlError> {
        if name == "default_tablespace" && text.is_some_and(|t| !t.is_empty()) {
            let value = text.unwrap_or_default();
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"default_tablespace\": \"{value}\""),
            )
            .detail(format!("Tablespace \"{value}\" does not exist.")));
        }
        Ok(())
    }

    fn set_transaction_setting(&mut self, name: &str, values: &[SetValue]) -> Result<(), SqlError> {
        use crate::sql::front::ast::IsolationLevel as I;
        let text = values
            .first()
            .map_or("default", SetValue::as_str)
            .to_ascii_lowercase();
        let flag = || {
            crate::config::value::parse_bool(&text).ok_or_else(|| {
                SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{name}\" requires a Boolean value"),
                )
            })
        };
        let mode = match name {
            "transaction_read_only" => TransactionMode::ReadOnly(flag()?),
            "transaction_deferrable" => TransactionMode::Deferrable(flag()?),
            _ => TransactionMode::Isolation(match text.as_str() {
                "read committed" => I::ReadCommitted,
                "read uncommitted" => I::ReadUncommitted,
                "repeatable read" => I::RepeatableRead,
                "serializable" => I::Serializable,
                _ => {
                    return Err(SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("invalid value for parameter \"{name}\": \"{text}\""),
                    ).hint("Available values: serializable, repeatable read, read committed, read uncommitted."));
                }
            }),
        };
        self.set_transaction(&[mode])
    }

    fn set_characteristics(&mut self, modes: &[TransactionMode]) -> Result<(), SqlError> {
        use crate::sql::front::ast::IsolationLevel as I;
        let asker = self.asker();
        let mut store = self.facts.settings.lock();
        for mode in modes {
            let (name, text) = match mode {
                TransactionMode::Isolation(level) => (
                    "default_transaction_isolation",
                    match level {
                        I::ReadUncommitted => "read uncommitted",
                        I::ReadCommitted => "read committed",
                        I::RepeatableRead => "repeatable read",
                        I::Serializable => "serializable",
                    },
                ),
                TransactionMode::ReadOnly(on) => (
                    "default_transaction_read_only",
                    if *on { "on" } else { "off" },
                ),
                TransactionMode::Deferrable(on) => (
                    "default_transaction_deferrable",
                    if *on { "on" } else { "off" },
                ),
            };
            store.set(name, text, false, asker).map_err(refused)?;
        }
        Ok(())
    }

    pub(super) fn reset_statement(&mut self, target: &ResetTarget) -> Result<(), SqlError> {
        match target {
            ResetTarget::All => self.facts.settings.lock().reset_all(),
            ResetTarget::Setting(name) => self.set_values(name, &[], false)?,
        }
        self.apply_settings();
        Ok(())
    }

    pub(super) fn show_columns(target: &ShowTarget) -> Vec<OutputColumn> {
        match target {
            ShowTarget::All => ["name", "setting", "description"].map(text_column).into(),
            ShowTarget::Setting(name) => {
                let shown = registry().find(name).map_or(name.as_str(), |d| d.name);
                vec![text_column(shown)]
            }
        }
    }

    pub(super) fn show_rows(&mut self, target: &ShowTarget) -> Result<Vec<Vec<Datum>>, SqlError> {
        let asks_for_secrets = match target {
            ShowTarget::Setting(name) => registry().find(name).is_some_and(|d| d.flags.secret),
            ShowTarget::All => true,
        };
        let privileged = asks_for_secrets && self.ask_rights(|me| me.acts_as(READ_ALL_SETTINGS))?;
        if let ShowTarget::Setting(name) = target {
            let (_, value) = self.facts.show(name, privileged).map_err(refused)?;
            return Ok(vec![vec![Datum::text(&value)]]);
        }
        let store = self.facts.settings.lock();
        let socket = &self.facts.backend.socket;
        let shown = |d: &Definition| {
            let of_socket = socket.shown(d.name);
            of_socket.unwrap_or_else(|| d.show(store.value(d.id)))
        };
        Ok(registry()
            .all()
            .iter()
            .filter(|d| !d.flags.hidden && (privileged || !d.flags.secret))
            .map(|d| {
                vec![
                    Datum::text(d.name),
                    Datum::text(&shown(d)),
                    Datum::text(d.description),
                ]
            })
            .collect())
    }

    /// Checks as a reload would, then replaces `postgresql.auto.conf` durably. The value counts from the next reload.
    pub(super) fn alter_system(&mut self, statement: &AlterSystem) -> Result<(), SqlError> {
        if !self.ask_rights(|me| Ok(me.is_superuser()))? {
            let message = match statement {
                AlterSystem::Set { name, .. } | AlterSystem::Reset(name) => {
                    format!("permission denied to set parameter \"{name}\"")
                }
                AlterSystem::ResetAll => {
                    "permission denied to perform ALTER SYSTEM RESET ALL".to_owned()
                }
            };
            return Err(SqlError::new(state::INSUFFICIENT_PRIVILEGE, message));
        }
        let value;
        let change = match statement {
            AlterSystem::Set {
                name: given,
                values,
            } => {
                let d = auto_conf::named(given).map_err(refused)?;
                let name = d.map_or(given.as_str(), |d| d.name);
                if name == "synchronous_standby_names"
                    && self.services.settings().current().promise_file.is_some()
                {
                    return Err(SqlError::unsupported(
                        "synchronous_standby_names cannot be set in a managed instance",
                    )
                    .hint("The operator's in-sync set decides."));
                }
                if values.is_empty() {
                    Change::Reset { name }
                } else {
                    let joined = join_values(name, values)?;
                    value = auto_conf::checked(d, given, &joined).map_err(refused)?;
                    let value = &value;
                    Change::Set { name, value }
                }
            }
            AlterSystem::Reset(given) => {
                let d = auto_conf::named(given).map_err(refused)?;
                let name = d.map_or(given.as_str(), |d| d.name);
                Change::Reset { name }
            }
            AlterSystem::ResetAll => Change::ResetAll,
        };
        let services = Arc::clone(&self.services);
        let _one = services.settings().changing_auto_conf();
        let store = services.store();
        let path = Path::new(auto_conf::FILE_NAME);
        let old = match durable::read(&*store.disk, path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io_error("read", &e)),
        };
        let text = auto_conf::changed(&old, &change).map_err(|c| {
            SqlError::new(
                crate::config::error::CONFIG_FILE_ERROR,
                format!(
                    "could not parse contents of file \"{}\": {}",
                    auto_conf::FILE_NAME,
                    c.message
                ),
            )
        })?;
        durable::replace(&*store.disk, path, text.as_bytes()).map_err(|e| io_error("write", &e))
    }

    /// SET ROLE and SET SESSION AUTHORIZATION.
    fn set_role(&mut self, what: &str, values: &[SetValue], local: bool) -> Result<(), SqlError> {
        let wanted = values
            .first()
            .map(SetValue::as_str)
            .filter(|v| *v != "none");
        let roles = self.facts.roles.load_full();
        let target = match wanted {
            None if what == "role" => roles.session.clone(),
            None => roles.authenticated.clone(),
            Some(name) => self.role_to_become(name, what == "role", &roles)?,
        };
        let mut next = (*roles).clone();
        if what == "role" {
            next.current = target.clone();
        } else {
            next.session = target.clone();
            next.current = target.clone();
        }
        self.facts.roles.store(Arc::new(next));
        self.known_roles.retain(|r| r.name != target.name);
        self.known_roles.push(target.clone());
        let mut store = self.facts.settings.lock();
        if what == "role" {
            store.put_computed("role", Value::text(wanted.unwrap_or("none")), local);
        } else {
            store.put_computed("session_authorization", Value::text(&target.name), local);
            store.put_computed("role", Value::text("none"), local);
        }
        store.put_computed("is_superuser", Value::Bool(target.superuser), local);
        Ok(())
    }

    /// Asks for the rights that the current role has now, which it may not have had when the session took it.
    fn ask_rights<T>(
        &mut self,
        ask: impl FnOnce(&Holder<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, SqlError> {
        self.ensure_transaction()?;
        let settings = self.settings();
        let user = self.facts.current_role().oid;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let view = services.catalog(database, &r.txn, &settings.search_path, user);
        Ok(ask(&Holder::asker(&*view)?)?)
    }

    fn role_to_become(
        &mut self,
        name: &str,
        by_membership: bool,
        roles: &super::facts::Roles,
    ) -> Result<super::facts::SessionRole, SqlError> {
        self.ensure_transaction()?;
        let settings = self.settings();
        let user = roles.current.oid;
        let (services, database) = (Arc::clone(&self.services), self.facts.database);
        let Some(r) = self.block.running() else {
            return Err(in_failed_block());
        };
        let view = services.catalog(database, &r.txn, &settings.search_path, user);
        let role = view.role_named(name)?.ok_or_else(|| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("role \"{name}\" does not exist"),
            )
        })?;
        let allowed = if by_membership {
            Holder::new(&*view, roles.session.oid)?.may_become(role.oid)?
        } else {
            let me = roles.authenticated.oid;
            role.oid == me || Holder::new(&*view, me)?.is_superuser()
        };
        if !allowed {
            return Err(SqlError::new(
                state::INSUFFICIENT_PRIVILEGE,
                if by_membership {
                    format!("permission denied to set role \"{name}\"")
                } else {
                    format!("permission denied to set session authorization \"{name}\"")
                },
            ));
        }
        Ok(super::facts::SessionRole {
            oid: role.oid,
            name: Arc::from(role.name.as_str()),
            superuser: role.superuser,
        })
    }

    /// DISCARD ALL's and RESET's way back to the user who logged in.
    pub(super) fn reset_roles(&mut self) {
        let me = self.facts.roles.load().authenticated.clone();
        let mut store = self.facts.settings.lock();
        store.put_computed("session_authorization", Value::text(&me.name), false);
        store.put_computed("role", Value::text("none"), false);
        store.put_computed("is_superuser", Value::Bool(me.superuser), false);
        self.facts.roles.store(Arc::new(super::facts::Roles {
            authenticated: me.clone(),
            session: me.clone(),
            current: me,
        }));
    }

    /// After the end of a (sub)transaction the roles are what the settings say again.
    pub(super) fn restore_roles(&mut self) {
        // Nobody has changed them in this session.
        if self.known_roles.len() <= 1 {
            return;
        }
        let (session, role) = {
            let store = self.facts.settings.lock();
            let text = |name: &'static str| match store.value(registry().id(name)) {
                Value::Text(t) => Arc::clone(t),
                _ => Arc::from(""),
            };
            (text("session_authorization"), text("role"))
        };
        let known = |name: &str| self.known_roles.iter().find(|r| *r.name == *name).cloned();
        let authenticated = self.facts.roles.load().authenticated.clone();
        let session = known(&session).unwrap_or_else(|| authenticated.clone());
        let current = if role.as_ref() == "none" {
            None
        } else {
            known(&role)
        };
        self.facts.roles.store(Arc::new(super::facts::Roles {
            authenticated,
            current: current.unwrap_or_else(|| session.clone()),
            session,
        }));
        // Some of them count for superusers only.
        self.apply_settings();
    }
}

fn io_error(what: &str, e: &std::io::Error) -> SqlError {
    SqlError::new(
        state::IO_ERROR,
        format!("could not {what} file \"{}\": {e}", auto_conf::FILE_NAME),
    )
}
