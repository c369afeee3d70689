//! The server's settings at one moment: every value with where it came from, and the ones that rooms ask for,
//! typed. A snapshot never changes; a reload makes another ([`super::store::Settings`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::checks::{SyncStandbyNames, split_identifiers};
use super::conninfo::ConnInfo;
use super::definition::{Definition, SettingId, Unit};
use super::registry::registry;
use super::value::Value;

/// Where a value came from (`pg_settings.source`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    #[default]
    Default,
    /// Computed at start.
    Override,
    ConfigurationFile {
        file: Arc<str>,
        line: u32,
    },
    CommandLine,
    /// ALTER ROLE ALL, ALTER DATABASE, ALTER ROLE, ALTER ROLE ... IN DATABASE ... SET.
    Global,
    Database,
    User,
    DatabaseUser,
    /// The start-up packet's options.
    Client,
    Session,
}

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Override => "override",
            Source::ConfigurationFile { .. } => "configuration file",
            Source::CommandLine => "command line",
            Source::Global => "global",
            Source::Database => "database",
            Source::User => "user",
            Source::DatabaseUser => "database user",
            Source::Client => "client",
            Source::Session => "session",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Sourced {
    pub value: Value,
    pub source: Source,
}

/// One value for each setting of the registry, and custom ones (`prefix.name`) by name.
#[derive(Debug, Clone)]
pub struct Values {
    known: Vec<Sourced>,
    custom: Vec<(Arc<str>, Arc<str>)>,
    /// The files have other values, which only another start takes.
    pending: Vec<SettingId>,
}

impl Values {
    pub fn defaults() -> Values {
        let known = registry()
            .all()
            .iter()
            .map(|d| Sourced {
                value: d.default.clone(),
                source: Source::Default,
            })
            .collect();
        Values {
            known,
            custom: Vec::new(),
            pending: Vec::new(),
        }
    }

    pub(super) fn note_pending(&mut self, id: SettingId) {
        self.pending.push(id);
    }

    /// `pg_settings.pending_restart`
    pub fn is_pending(&self, id: SettingId) -> bool {
        self.pending.contains(&id)
    }

    pub fn get(&self, id: SettingId) -> &Sourced {
        &self.known[id.index()]
    }

    pub fn set(&mut self, id: SettingId, value: Value, source: Source) {
        self.known[id.index()] = Sourced { value, source };
    }

    pub fn custom(&self, name: &str) -> Option<&Arc<str>> {
        self.custom
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    pub fn set_custom(&mut self, name: &str, value: &str) {
        let value = Arc::from(value);
        match self
            .custom
            .iter_mut()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            Some((_, v)) => *v = value,
            None => self.custom.push((Arc::from(name), value)),
        }
    }

    pub fn customs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.custom
    }

    pub fn by_name(&self, name: &'static str) -> &Value {
        &self.get(registry().id(name)).value
    }

    pub fn bool(&self, name: &'static str) -> bool {
        matches!(self.by_name(name), Value::Bool(true))
    }

    /// In the setting's own base unit.
    pub fn integer(&self, name: &'static str) -> i32 {
        match self.by_name(name) {
            Value::Integer(v) => *v,
            other => panic!("setting {name} is no integer: {other:?}"),
        }
    }

    pub fn real(&self, name: &'static str) -> f64 {
        match self.by_name(name) {
            Value::Real(v) => *v,
            Value::Integer(v) => f64::from(*v),
            other => panic!("setting {name} is no number: {other:?}"),
        }
    }

    pub fn text(&self, name: &'static str) -> Arc<str> {
        match self.by_name(name) {
            Value::Text(v) => v.clone(),
            other => panic!("setting {name} is no string: {other:?}"),
        }
    }

    pub fn choice(&self, name: &'static str) -> &'static str {
        match self.by_name(name) {
            Value::Enum(v) => v,
            other => panic!("setting {name} is no enum: {other:?}"),
        }
    }

    /// Bytes, for settings in a unit of memory; `None` for negative values.
    pub fn bytes(&self, name: &'static str) -> Option<u64> {
        let d = registry().get(registry().id(name));
        let v = u64::try_from(self.integer(name)).ok()?;
        Some(v * memory_scale(d))
    }

    /// For settings in a unit of time; `None` for negative values.
    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        let d = registry().get(registry().id(name));
        let v = u64::try_from(self.integer(name)).ok()?;
        Some(Duration::from_micros(v * d.kind.unit().scale() as u64))
    }

    /// The same, with 0 meaning "never" too.
    pub fn time_limit(&self, name: &'static str) -> Option<Duration> {
        self.duration(name).filter(|d| !d.is_zero())
    }
}

fn memory_scale(d: &Definition) -> u64 {
    match d.kind.unit() {
        Unit::Kilobyte => 1024,
        Unit::Block => 8192,
        Unit::Megabyte => 1_048_576,
        _ => 1,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveMode {
    Off,
    On,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalLevel {
    Minimal,
    Replica,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryTargetTimeline {
    Latest,
    Current,
    Number(u32),
}

/// What rooms below `sql` ask for; each field is the setting of its name. `None` for a time is "no limit".
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub values: Values,

    pub data_directory: PathBuf,
    pub hba_file: PathBuf,
    pub ident_file: PathBuf,
    pub external_pid_file: Option<PathBuf>,

    pub listen_addresses: Vec<String>,
    pub port: u16,
    pub unix_socket_directories: Vec<PathBuf>,
    pub unix_socket_permissions: u32,
    pub max_connections: usize,
    pub superuser_reserved_connections: usize,
    pub authentication_timeout: Duration,
    pub http_listen: Option<String>,

    /// Frames of 8 KiB.
    pub shared_buffers: usize,
    /// Bytes.
    pub wal_buffers: usize,
    /// Bytes.
    pub maintenance_work_mem: usize,

    pub full_page_writes: bool,
    pub wal_level: WalLevel,
    pub wal_writer_delay: Duration,
    pub checkpoint_timeout: Duration,
    pub checkpoint_completion_target: f64,
    pub checkpoint_warning: Option<Duration>,
    /// Bytes.
    pub max_wal_size: u64,
    /// Bytes.
    pub min_wal_size: u64,
    pub log_checkpoints: bool,

    pub archive_mode: ArchiveMode,
    pub archive_command: Option<String>,
    pub archive_timeout: Option<Duration>,
    pub restore_command: Option<String>,

    pub max_wal_senders: usize,
    pub max_replication_slots: usize,
    /// Bytes.
    pub wal_keep_size: u64,
    /// Bytes; `None` is no limit.
    pub max_slot_wal_keep_size: Option<u64>,
    pub wal_sender_timeout: Option<Duration>,
    pub synchronous_standby_names: SyncStandbyNames,

    pub primary_conninfo: Option<ConnInfo>,
    pub primary_slot_name: Option<String>,
    pub promote_trigger_file: Option<PathBuf>,
    pub recovery_target_timeline: RecoveryTargetTimeline,
    pub hot_standby: bool,
    pub hot_standby_feedback: bool,
    /// `None` waits for ever.
    pub max_standby_streaming_delay: Option<Duration>,
    /// `None` waits for ever.
    pub max_standby_archive_delay: Option<Duration>,
    pub wal_receiver_timeout: Option<Duration>,
    /// `None`: no regular reports.
    pub wal_receiver_status_interval: Option<Duration>,
    pub wal_retrieve_retry_interval: Duration,

    pub autovacuum: AutovacuumSettings,
    pub deadlock_timeout: Duration,
    pub cluster_name: Arc<str>,

    pub instance_id: Option<String>,
    pub cluster_id: Option<String>,
    pub promise_file: Option<PathBuf>,
    pub control_socket: Option<PathBuf>,
    /// TCP/IP sockets are opened when the control socket is told so.
    pub listen_late: bool,
    /// 0: one for each CPU.
    pub worker_threads: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AutovacuumSettings {
    pub enabled: bool,
    pub naptime: Duration,
    pub vacuum_threshold: u64,
    pub vacuum_scale_factor: f64,
    pub analyze_threshold: u64,
    pub analyze_scale_factor: f64,
    /// `None`: not logged.
    pub log_min_duration: Option<Duration>,
}

fn some_text(values: &Values, name: &'static str) -> Option<String> {
    let text = values.text(name);
    (!text.is_empty()).then(|| text.to_string())
}

fn count(values: &Values, name: &'static str) -> usize {
    usize::try_from(values.integer(name)).unwrap_or(0)
}

impl ServerSettings {
    pub fn new(values: Values, data_directory: PathBuf) -> ServerSettings {
        let v = &values;
        let in_data = |name: &'static str, usual: &str| match some_text(v, name) {
            Some(p) => data_directory.join(p),
            None => data_directory.join(usual),
        };
        ServerSettings {
            hba_file: in_data("hba_file", "pg_hba.conf"),
            ident_file: in_data("ident_file", "pg_ident.conf"),
            external_pid_file: some_text(v, "external_pid_file").map(PathBuf::from),
            listen_addresses: split_identifiers(&v.text("listen_addresses")).unwrap_or_default(),
            port: u16::try_from(v.integer("port")).unwrap_or(5432),
            unix_socket_directories: directories(&v.text("unix_socket_directories")),
            unix_socket_permissions: u32::try_from(v.integer("unix_socket_permissions"))
                .unwrap_or(0o777),
            max_connections: count(v, "max_connections"),
            superuser_reserved_connections: count(v, "superuser_reserved_connections"),
            authentication_timeout: v.duration("authentication_timeout").unwrap_or_default(),
            http_listen: some_text(v, "http_listen"),
            shared_buffers: count(v, "shared_buffers"),
            wal_buffers: wal_buffers(v),
            maintenance_work_mem: usize::try_from(v.bytes("maintenance_work_mem").unwrap_or(0))
                .unwrap_or(usize::MAX),
            full_page_writes: v.bool("full_page_writes"),
            wal_level: if v.choice("wal_level") == "minimal" {
                WalLevel::Minimal
            } else {
                WalLevel::Replica
            },
            wal_writer_delay: v.duration("wal_writer_delay").unwrap_or_default(),
            checkpoint_timeout: v.duration("checkpoint_timeout").unwrap_or_default(),
            checkpoint_completion_target: v.real("checkpoint_completion_target"),
            checkpoint_warning: v.time_limit("checkpoint_warning"),
            max_wal_size: v.bytes("max_wal_size").unwrap_or(0),
            min_wal_size: v.bytes("min_wal_size").unwrap_or(0),
            log_checkpoints: v.bool("log_checkpoints"),
            archive_mode: match v.choice("archive_mode") {
                "always" => ArchiveMode::Always,
                "on" => ArchiveMode::On,
                _ => ArchiveMode::Off,
            },
            archive_command: some_text(v, "archive_command"),
            archive_timeout: v.time_limit("archive_timeout"),
            restore_command: some_text(v, "restore_command"),
            max_wal_senders: count(v, "max_wal_senders"),
            max_replication_slots: count(v, "max_replication_slots"),
            wal_keep_size: v.bytes("wal_keep_size").unwrap_or(0),
            max_slot_wal_keep_size: v.bytes("max_slot_wal_keep_size"),
            wal_sender_timeout: v.time_limit("wal_sender_timeout"),
            synchronous_standby_names: SyncStandbyNames::parse(
                &v.text("synchronous_standby_names"),
            )
            .unwrap_or_default(),
            primary_conninfo: some_text(v, "primary_conninfo")
                .and_then(|s| ConnInfo::parse(&s).ok()),
            primary_slot_name: some_text(v, "primary_slot_name"),
            promote_trigger_file: some_text(v, "promote_trigger_file").map(PathBuf::from),
            recovery_target_timeline: match v.text("recovery_target_timeline").as_ref() {
                "" | "latest" => RecoveryTargetTimeline::Latest,
                "current" => RecoveryTargetTimeline::Current,
                n => n.parse().map_or(
                    RecoveryTargetTimeline::Latest,
                    RecoveryTargetTimeline::Number,
                ),
            },
            hot_standby: v.bool("hot_standby"),
            hot_standby_feedback: v.bool("hot_standby_feedback"),
            max_standby_streaming_delay: v.duration("max_standby_streaming_delay"),
            max_standby_archive_delay: v.duration("max_standby_archive_delay"),
            wal_receiver_timeout: v.time_limit("wal_receiver_timeout"),
            wal_receiver_status_interval: v.time_limit("wal_receiver_status_interval"),
            wal_retrieve_retry_interval: v
                .duration("wal_retrieve_retry_interval")
                .unwrap_or_default(),
            autovacuum: AutovacuumSettings {
                enabled: v.bool("autovacuum") && v.bool("track_counts"),
                naptime: v.duration("autovacuum_naptime").unwrap_or_default(),
                vacuum_threshold: count(v, "autovacuum_vacuum_threshold") as u64,
                vacuum_scale_factor: v.real("autovacuum_vacuum_scale_factor"),
                analyze_threshold: count(v, "autovacuum_analyze_threshold") as u64,
                analyze_scale_factor: v.real("autovacuum_analyze_scale_factor"),
                log_min_duration: v.duration("log_autovacuum_min_duration"),
            },
            deadlock_timeout: v.duration("deadlock_timeout").unwrap_or_default(),
            cluster_name: v.text("cluster_name"),
            instance_id: some_text(v, "understudy.instance_id"),
            cluster_id: some_text(v, "understudy.cluster_id"),
            promise_file: some_text(v, "understudy.promise_file").map(PathBuf::from),
            control_socket: some_text(v, "understudy.control_socket").map(PathBuf::from),
            listen_late: v.bool("understudy.listen_late"),
            worker_threads: count(v, "understudy.worker_threads"),
            data_directory,
            values,
        }
    }

    /// Defaults only: for tests and for `initdb`.
    pub fn defaults(data_directory: PathBuf) -> ServerSettings {
        ServerSettings::new(Values::defaults(), data_directory)
    }
}

/// Socket directories keep their case, unlike identifiers.
fn directories(list: &str) -> Vec<PathBuf> {
    list.split(',')
        .map(|d| d.trim().trim_matches('"'))
        .filter(|d| !d.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// -1 is a 32nd of `shared_buffers`, at least 64 kB and at most one segment (manual, 20.5.1).
fn wal_buffers(v: &Values) -> usize {
    let blocks = match v.integer("wal_buffers") {
        -1 => (v.integer("shared_buffers") / 32).clamp(8, 2048),
        n => n.max(4),
    };
    usize::try_from(blocks).unwrap_or(8) * 8192
}
