//! A session's settings: its own values laid over the server's, with SET, SET LOCAL, RESET and what a
//! transaction's or subtransaction's end does to them.
//!
//! Four layers over the server's snapshot: what the catalog keeps for the role and the database, what the client
//! asked for at start, what SET set, what SET LOCAL set for this transaction. The two upper layers are shared lists that a change copies, so a savepoint costs two
//! reference counts. [`SessionSettings`] is the typed view, made anew after each change.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::checks::{CheckCx, parse, split_identifiers, zone_of};
use super::date_style::{DateStyle, IntervalStyle};
use super::definition::{Context, Definition, SettingId};
use super::error::{CANT_CHANGE_RUNTIME_PARAM, INSUFFICIENT_PRIVILEGE, INVALID_NAME, SettingError};
use super::keep_alive::KeepAlive;
use super::registry::{old_name, registry};
use super::server::{ServerSettings, Source};
use super::value::Value;

/// How a commit waits (manual, 20.5.1 `synchronous_commit`). Ordered from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SynchronousCommit {
    Off,
    Local,
    RemoteWrite,
    On,
    RemoteApply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
}

impl Isolation {
    pub fn of_name(name: &str) -> Option<Isolation> {
        Some(match name.to_ascii_lowercase().as_str() {
            "read uncommitted" => Isolation::ReadUncommitted,
            "read committed" => Isolation::ReadCommitted,
            "repeatable read" => Isolation::RepeatableRead,
            _ => return None,
        })
    }
    pub fn name(self) -> &'static str {
        match self {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
        }
    }
}

/// Message levels, least urgent first. The two settings order LOG differently: see [`Level::reaches_client`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug5,
    Debug4,
    Debug3,
    Debug2,
    Debug1,
    Info,
    Notice,
    Warning,
    Error,
    Log,
    Fatal,
    Panic,
}

impl Level {
    pub fn of_name(name: &str) -> Level {
        match name {
            "debug5" => Level::Debug5,
            "debug4" => Level::Debug4,
            "debug3" => Level::Debug3,
            "debug2" | "debug" => Level::Debug2,
            "debug1" => Level::Debug1,
            "info" => Level::Info,
            "notice" => Level::Notice,
            "error" => Level::Error,
            "log" => Level::Log,
            "fatal" => Level::Fatal,
            "panic" => Level::Panic,
            _ => Level::Warning,
        }
    }

    /// Under `client_min_messages`, where LOG stands just above DEBUG1 and INFO always goes out.
    pub fn reaches_client(self, least: Level) -> bool {
        let rank = |l: Level| match l {
            Level::Debug5 => 0,
            Level::Debug4 => 1,
            Level::Debug3 => 2,
            Level::Debug2 => 3,
            Level::Debug1 => 4,
            Level::Log => 5,
            Level::Notice => 6,
            Level::Warning => 7,
            Level::Info | Level::Error | Level::Fatal | Level::Panic => 8,
        };
        rank(self) >= rank(least)
    }
}

/// How much of an error is logged (manual, 20.8.2 `log_error_verbosity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    Terse,
    Default,
    Verbose,
}

impl Verbosity {
    pub fn of_name(name: &str) -> Verbosity {
        match name {
            "terse" => Verbosity::Terse,
            "verbose" => Verbosity::Verbose,
            _ => Verbosity::Default,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStatement {
    None,
    Ddl,
    Mod,
    All,
}

/// The planner's settings (manual, 20.7).
#[derive(Debug, Clone, PartialEq)]
pub struct PlannerSettings {
    pub enable_seqscan: bool,
    pub enable_indexscan: bool,
    pub enable_indexonlyscan: bool,
    pub enable_bitmapscan: bool,
    pub enable_nestloop: bool,
    pub enable_hashjoin: bool,
    pub enable_mergejoin: bool,
    pub enable_hashagg: bool,
    pub enable_sort: bool,
    pub enable_material: bool,
    pub seq_page_cost: f64,
    pub random_page_cost: f64,
    pub cpu_tuple_cost: f64,
    pub cpu_index_tuple_cost: f64,
    pub cpu_operator_cost: f64,
    /// Pages of 8 KiB.
    pub effective_cache_size: f64,
}

/// Each field is the setting of its name. `None` for a time is "no limit".
#[derive(Debug, Clone)]
pub struct SessionSettings {
    pub date_style: DateStyle,
    pub interval_style: IntervalStyle,
    pub time_zone: jiff::tz::TimeZone,
    pub extra_float_digits: i32,
    /// `bytea_output = hex`
    pub bytea_hex: bool,
    /// As written, with `"$user"` still in it.
    pub search_path: Arc<[String]>,
    pub application_name: Arc<str>,
    pub client_min_messages: Level,

    /// Bytes; sorts and hashes spill beyond it.
    pub work_mem: usize,
    pub hash_mem_multiplier: f64,
    /// Bytes.
    pub maintenance_work_mem: usize,
    pub planner: PlannerSettings,
    pub default_statistics_target: u32,

    pub default_transaction_isolation: Isolation,
    pub default_transaction_read_only: bool,
    pub default_transaction_deferrable: bool,
    pub synchronous_commit: SynchronousCommit,

    pub statement_timeout: Option<Duration>,
    pub lock_timeout: Option<Duration>,
    pub deadlock_timeout: Duration,
    pub idle_in_transaction_session_timeout: Option<Duration>,
    pub idle_session_timeout: Option<Duration>,
    pub keep_alive: KeepAlive,

    pub log_min_duration_statement: Option<Duration>,
    pub log_duration: bool,
    pub log_statement: LogStatement,
    pub log_min_messages: Level,
    pub log_min_error_statement: Level,
    pub log_error_verbosity: Verbosity,
    pub log_disconnections: bool,
    /// Bytes of each parameter's value; `None`: whole values, 0: none at all.
    pub log_parameter_max_length: Option<usize>,
    pub log_lock_waits: bool,
    pub track_activities: bool,
    pub read_unconfirmed: bool,
    pub write_on_full_disk: bool,
}

/// A value laid over the server's.
#[derive(Debug, Clone, PartialEq)]
enum Own {
    Known(SettingId, Value),
    Custom(Arc<str>, Arc<str>),
}

type Layer = Arc<Vec<Own>>;

#[derive(Debug, Clone, Default)]
struct Layers {
    set: Layer,
    local: Layer,
}

/// Whom the catalog keeps a setting for: the later ones count more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredFor {
    All,
    Database,
    Role,
    RoleInDatabase,
}

/// Who asks for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The catalog, for the role or the database; who put it there was asked then.
    Stored(StoredFor),
    /// The start-up packet; superuser or not.
    Startup { superuser: bool },
    /// SET in a running session.
    Session { superuser: bool },
}

/// What the session holds.
#[derive(Debug, Clone)]
pub struct SessionStore {
    server: Arc<ServerSettings>,
    stored: Layer,
    /// Whose setting each of `stored` is.
    stored_for: Vec<(SettingId, StoredFor)>,
    startup: Layer,
    now: Layers,
    /// One for the transaction and one for each open subtransaction: how it was before.
    saved: Vec<Layers>,
    typed: Arc<SessionSettings>,
    /// Raised whenever a value may have changed.
    changes: u64,
}

impl SessionStore {
    pub fn new(server: Arc<ServerSettings>) -> SessionStore {
        let typed = Arc::new(SessionSettings::of(&|id| {
            server.values.get(id).value.clone()
        }));
        SessionStore {
            server,
            stored: Layer::default(),
            stored_for: Vec::new(),
            startup: Layer::default(),
            now: Layers::default(),
            saved: Vec::new(),
            typed,
            changes: 0,
        }
    }

    /// While this stays the same, so do all values: whoever told them to somebody need not look again.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The typed view. Cheap to clone and keep for a statement.
    pub fn settings(&self) -> &Arc<SessionSettings> {
        &self.typed
    }

    pub fn server(&self) -> &Arc<ServerSettings> {
        &self.server
    }

    /// Takes a newer snapshot of the server's settings; own values stay.
    pub fn adopt(&mut self, server: Arc<ServerSettings>) {
        self.server = server;
        self.refresh();
    }

    fn layers(&self) -> [&Layer; 4] {
        [&self.now.local, &self.now.set, &self.startup, &self.stored]
    }

    pub fn value(&self, id: SettingId) -> &Value {
        for layer in self.layers() {
            for own in layer.iter() {
                if let Own::Known(i, v) = own
                    && *i == id
                {
                    return v;
                }
            }
        }
        &self.server.values.get(id).value
    }

    /// Where the value in effect comes from.
    pub fn source(&self, id: SettingId) -> Source {
        let has = |l: &Layer| l.iter().any(|o| matches!(o, Own::Known(i, _) if *i == id));
        if has(&self.now.local) || has(&self.now.set) {
            Source::Session
        } else if has(&self.startup) {
            Source::Client
        } else if let Some((_, whose)) = self.stored_for.iter().find(|(i, _)| *i == id) {
            match whose {
                StoredFor::All => Source::Global,
                StoredFor::Database => Source::Database,
                StoredFor::Role => Source::User,
                StoredFor::RoleInDatabase => Source::DatabaseUser,
            }
        } else {
            self.server.values.get(id).source.clone()
        }
    }

    /// What RESET would give.
    pub fn reset_value(&self, id: SettingId) -> &Value {
        for own in self.startup.iter().chain(self.stored.iter()) {
            if let Own::Known(i, v) = own
                && *i == id
            {
                return v;
            }
        }
        &self.server.values.get(id).value
    }

    /// `post_auth_delay`: only the beginning of a session asks for it.
    pub fn post_auth_delay(&self) -> Duration {
        match self.value(registry().id("post_auth_delay")) {
            Value::Integer(seconds) => Duration::from_secs(u64::try_from(*seconds).unwrap_or(0)),
            _ => Duration::ZERO,
        }
    }

    /// A custom setting (`prefix.name`), if anybody has set it.
    pub fn custom(&self, name: &str) -> Option<Arc<str>> {
        for layer in self.layers() {
            for own in layer.iter() {
                if let Own::Custom(n, v) = own
                    && n.eq_ignore_ascii_case(name)
                {
                    return Some(v.clone());
                }
            }
        }
        self.server.values.custom(name).cloned()
    }

    /// As SHOW shows it, under its proper name.
    pub fn show(&self, name: &str, privileged: bool) -> Result<(String, String), SettingError> {
        if let Some(d) = registry().find(name) {
            if d.flags.secret && !privileged {
                return Err(SettingError::new(
                    INSUFFICIENT_PRIVILEGE,
                    format!(
                        "must be superuser or have privileges of pg_read_all_settings to examine \"{}\"",
                        d.name
                    ),
                ));
            }
            return Ok((d.name.to_owned(), d.show(self.value(d.id))));
        }
        match self.custom(name) {
            Some(v) => Ok((name.to_owned(), v.to_string())),
            None => Err(SettingError::unrecognized(name)),
        }
    }

    /// SET, SET LOCAL, `set_config`, and the start-up packet's options.
    pub fn set(
        &mut self,
        name: &str,
        text: &str,
        local: bool,
        asker: Asker,
    ) -> Result<(), SettingError> {
        let converted = old_name(name).map(|o| (o.convert)(text));
        let text = converted.as_deref().unwrap_or(text);
        let own = match registry().find(name) {
            Some(d) => {
                may_change(d, asker)?;
                let style = |v: &Value| match v {
                    Value::Text(s) => DateStyle::of_canonical(s),
                    _ => DateStyle::default(),
                };
                let id = registry().id("DateStyle");
                let cx = CheckCx {
                    date_style: style(self.value(id)),
                    reset_date_style: style(self.reset_value(id)),
                };
                Own::Known(d.id, parse(d, text, &cx)?)
            }
            None => {
                custom_name(name)?;
                Own::Custom(Arc::from(name.to_ascii_lowercase()), Arc::from(text))
            }
        };
        self.put(own, local, asker);
        Ok(())
    }

    fn put(&mut self, own: Own, local: bool, asker: Asker) {
        match asker {
            Asker::Stored(whose) => {
                if let Own::Known(id, _) = own {
                    self.stored_for.retain(|(i, _)| *i != id);
                    self.stored_for.push((id, whose));
                }
                put(&mut self.stored, own);
            }
            Asker::Startup { .. } => put(&mut self.startup, own),
            Asker::Session { .. } if local => put(&mut self.now.local, own),
            Asker::Session { .. } => {
                remove(&mut self.now.local, &own);
                put(&mut self.now.set, own);
            }
        }
        self.refresh();
    }

    /// Sets a value that the code computed (`session_authorization`, `is_superuser`, `role`). None of these is in
    /// the typed view, so that stays.
    pub fn put_computed(&mut self, name: &'static str, value: Value, local: bool) {
        self.put_untyped(registry().id(name), value, local);
    }

    fn put_untyped(&mut self, id: SettingId, value: Value, local: bool) {
        self.changes += 1;
        let own = Own::Known(id, value);
        if local {
            put(&mut self.now.local, own);
        } else {
            remove(&mut self.now.local, &own);
            put(&mut self.now.set, own);
        }
    }

    /// What SHOW says of the running transaction; costs nothing where it is the default.
    pub fn put_transaction(&mut self, isolation: Isolation, read_only: bool, deferrable: bool) {
        static IDS: OnceLock<[SettingId; 3]> = OnceLock::new();
        let ids = IDS.get_or_init(|| {
            [
                "transaction_isolation",
                "transaction_read_only",
                "transaction_deferrable",
            ]
            .map(|name| registry().id(name))
        });
        let values = [
            Value::Enum(isolation.name()),
            Value::Bool(read_only),
            Value::Bool(deferrable),
        ];
        for (id, value) in ids.iter().zip(values) {
            if *self.value(*id) != value {
                self.put_untyped(*id, value, true);
            }
        }
    }

    /// RESET name (and SET name TO DEFAULT; `local` for SET LOCAL).
    pub fn reset(&mut self, name: &str, local: bool, asker: Asker) -> Result<(), SettingError> {
        if let Some(d) = registry().find(name) {
            may_change(d, asker)?;
            if d.flags.no_reset && !matches!(d.name, "role" | "session_authorization") {
                return Err(SettingError::new(
                    super::error::FEATURE_NOT_SUPPORTED,
                    format!("parameter \"{}\" cannot be reset", d.name),
                ));
            }
            let value = self.reset_value(d.id).clone();
            if local {
                put(&mut self.now.local, Own::Known(d.id, value));
            } else {
                let own = Own::Known(d.id, value);
                remove(&mut self.now.local, &own);
                remove(&mut self.now.set, &own);
            }
        } else {
            custom_name(name)?;
            let own = Own::Custom(Arc::from(name), Arc::from(""));
            if self.custom(name).is_some() {
                // The placeholder stays, with the empty value that it began with.
                let target = if local {
                    &mut self.now.local
                } else {
                    remove(&mut self.now.local, &own);
                    &mut self.now.set
                };
                put(target, own);
            }
        }
        self.refresh();
        Ok(())
    }

    /// RESET ALL: everything of user context, but what describes the running transaction and the user.
    pub fn reset_all(&mut self) {
        let keep = |own: &Own| match own {
            Own::Known(id, _) => {
                let f = registry().get(*id).flags;
                f.no_reset_all || f.no_reset || registry().get(*id).context == Context::Internal
            }
            Own::Custom(..) => false,
        };
        Arc::make_mut(&mut self.now.set).retain(keep);
        Arc::make_mut(&mut self.now.local).retain(keep);
        self.refresh();
    }

    /// A transaction or a subtransaction begins.
    pub fn begin_level(&mut self) {
        self.saved.push(self.now.clone());
    }

    /// How many levels are open.
    pub fn levels(&self) -> usize {
        self.saved.len()
    }

    /// The innermost level ends well; the outermost one takes SET LOCAL's values with it.
    pub fn commit_level(&mut self) {
        self.saved.pop();
        if self.saved.is_empty() && !self.now.local.is_empty() {
            self.now.local = Layer::default();
            self.refresh();
        }
    }

    /// The innermost level is rolled back: everything is as it was when it began.
    pub fn abort_level(&mut self) {
        if let Some(before) = self.saved.pop() {
            let same = Arc::ptr_eq(&before.set, &self.now.set)
                && Arc::ptr_eq(&before.local, &self.now.local);
            self.now = before;
            if !same {
                self.refresh();
            }
        }
    }

    fn refresh(&mut self) {
        self.changes += 1;
        let typed = SessionSettings::of(&|id| self.value(id).clone());
        self.typed = Arc::new(typed);
    }
}

fn same_setting(a: &Own, b: &Own) -> bool {
    match (a, b) {
        (Own::Known(x, _), Own::Known(y, _)) => x == y,
        (Own::Custom(x, _), Own::Custom(y, _)) => x.eq_ignore_ascii_case(y),
        _ => false,
    }
}

fn put(layer: &mut Layer, own: Own) {
    let list = Arc::make_mut(layer);
    match list.iter_mut().find(|o| same_setting(o, &own)) {
        Some(place) => *place = own,
        None => list.push(own),
    }
}

fn remove(layer: &mut Layer, own: &Own) {
    if layer.iter().any(|o| same_setting(o, own)) {
        Arc::make_mut(layer).retain(|o| !same_setting(o, own));
    }
}

/// Manual, 20.16: a custom setting is two or more identifiers with dots between; `understudy.` is ours.
pub(super) fn custom_name(name: &str) -> Result<(), SettingError> {
    if !name.contains('.') {
        return Err(SettingError::unrecognized(name));
    }
    let identifier = |part: &str| {
        let mut c = part.chars();
        c.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && c.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    };
    let bad = |detail: &str| {
        SettingError::new(
            INVALID_NAME,
            format!("invalid configuration parameter name \"{name}\""),
        )
        .detail(detail)
    };
    if !name.split('.').all(identifier) {
        return Err(bad(
            "Custom parameter names must be two or more simple identifiers separated by dots.",
        ));
    }
    if name
        .split('.')
        .next()
        .is_some_and(|p| p.eq_ignore_ascii_case("understudy"))
    {
        return Err(bad("\"understudy\" is a reserved prefix."));
    }
    Ok(())
}

fn may_change(d: &Definition, asker: Asker) -> Result<(), SettingError> {
    let name = d.name;
    let refuse = |what: &str| {
        Err(SettingError::new(
            CANT_CHANGE_RUNTIME_PARAM,
            format!("parameter \"{name}\" cannot be {what}"),
        ))
    };
    let (superuser, startup) = match asker {
        Asker::Stored(_) => (true, false),
        Asker::Startup { superuser } => (superuser, true),
        Asker::Session { superuser } => (superuser, false),
    };
    let privileged = || {
        if superuser {
            Ok(())
        } else {
            Err(SettingError::new(
                INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set parameter \"{name}\""),
            ))
        }
    };
    match d.context {
        Context::Internal => refuse("changed"),
        Context::Postmaster => refuse("changed without restarting the server"),
        Context::Sighup => refuse("changed now"),
        Context::SuperuserBackend | Context::Backend if !startup => {
            refuse("set after connection start")
        }
        Context::SuperuserBackend | Context::Superuser => privileged(),
        Context::Backend | Context::User => Ok(()),
    }
}

impl SessionSettings {
    /// Bytes of one hash table: `work_mem` times `hash_mem_multiplier` (which is at least 1).
    pub fn hash_mem(&self) -> usize {
        (self.work_mem as f64 * self.hash_mem_multiplier) as usize
    }

    fn of(value: &dyn Fn(SettingId) -> Value) -> SessionSettings {
        let r = registry();
        let flag = |name: &'static str| matches!(value(r.id(name)), Value::Bool(true));
        let number = |name: &'static str| match value(r.id(name)) {
            Value::Integer(v) => f64::from(v),
            Value::Real(v) => v,
            _ => 0.0,
        };
        let text = |name: &'static str| match value(r.id(name)) {
            Value::Text(s) => s,
            Value::Enum(s) => Arc::from(s),
            _ => Arc::from(""),
        };
        let time = |name: &'static str| {
            let v = number(name) * r.get(r.id(name)).kind.unit().scale();
            (v >= 0.0).then(|| Duration::from_micros(v as u64))
        };
        let limit = |name: &'static str| time(name).filter(|d| !d.is_zero());
        SessionSettings {
            date_style: DateStyle::of_canonical(&text("DateStyle")),
            interval_style: IntervalStyle::of_name(&text("IntervalStyle")),
            time_zone: zone_of(&text("TimeZone")),
            extra_float_digits: number("extra_float_digits") as i32,
            bytea_hex: text("bytea_output").as_ref() == "hex",
            search_path: split_identifiers(&text("search_path"))
                .unwrap_or_default()
                .into(),
            application_name: text("application_name"),
            client_min_messages: Level::of_name(&text("client_min_messages")),
            work_mem: number("work_mem") as usize * 1024,
            hash_mem_multiplier: number("hash_mem_multiplier"),
            maintenance_work_mem: number("maintenance_work_mem") as usize * 1024,
            planner: PlannerSettings {
                enable_seqscan: flag("enable_seqscan"),
                enable_indexscan: flag("enable_indexscan"),
                enable_indexonlyscan: flag("enable_indexonlyscan"),
                enable_bitmapscan: flag("enable_bitmapscan"),
                enable_nestloop: flag("enable_nestloop"),
                enable_hashjoin: flag("enable_hashjoin"),
                enable_mergejoin: flag("enable_mergejoin"),
                enable_hashagg: flag("enable_hashagg"),
                enable_sort: flag("enable_sort"),
                enable_material: flag("enable_material"),
                seq_page_cost: number("seq_page_cost"),
                random_page_cost: number("random_page_cost"),
                cpu_tuple_cost: number("cpu_tuple_cost"),
                cpu_index_tuple_cost: number("cpu_index_tuple_cost"),
                cpu_operator_cost: number("cpu_operator_cost"),
                effective_cache_size: number("effective_cache_size"),
            },
            default_statistics_target: number("default_statistics_target") as u32,
            default_transaction_isolation: Isolation::of_name(&text(
                "default_transaction_isolation",
            ))
            .unwrap_or(Isolation::ReadCommitted),
            default_transaction_read_only: flag("default_transaction_read_only"),
            default_transaction_deferrable: flag("default_transaction_deferrable"),
            synchronous_commit: match text("synchronous_commit").as_ref() {
                "off" => SynchronousCommit::Off,
                "local" => SynchronousCommit::Local,
                "remote_write" => SynchronousCommit::RemoteWrite,
                "remote_apply" => SynchronousCommit::RemoteApply,
                _ => SynchronousCommit::On,
            },
            statement_timeout: limit("statement_timeout"),
            lock_timeout: limit("lock_timeout"),
            deadlock_timeout: time("deadlock_timeout").unwrap_or(Duration::from_secs(1)),
            idle_in_transaction_session_timeout: limit("idle_in_transaction_session_timeout"),
            idle_session_timeout: limit("idle_session_timeout"),
            keep_alive: KeepAlive::of(|name| number(name) as i32),
            log_min_duration_statement: time("log_min_duration_statement"),
            log_duration: flag("log_duration"),
            log_statement: match text("log_statement").as_ref() {
                "ddl" => LogStatement::Ddl,
                "mod" => LogStatement::Mod,
                "all" => LogStatement::All,
                _ => LogStatement::None,
            },
            log_min_messages: Level::of_name(&text("log_min_messages")),
            log_min_error_statement: Level::of_name(&text("log_min_error_statement")),
            log_error_verbosity: Verbosity::of_name(&text("log_error_verbosity")),
            log_disconnections: flag("log_disconnections"),
            log_parameter_max_length: match number("log_parameter_max_length") {
                n if n < 0.0 => None,
                n => Some(n as usize),
            },
            log_lock_waits: flag("log_lock_waits"),
            track_activities: flag("track_activities"),
            read_unconfirmed: flag("understudy.read_unconfirmed"),
            write_on_full_disk: flag("understudy.write_on_full_disk"),
        }
    }
}
