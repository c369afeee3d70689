//! What the operator owns: settings of the database, environment variables, labels and annotations of pods.
//!
//! One list for both judges: the rules of the CRD, which the API server checks, and [`crate::validate`].

/// Settings that the operator or the supervisor sets, and why a user can't. Lower case, sorted.
pub const SETTINGS: &[(&str, &str)] = &[
    (
        "archive_cleanup_command",
        "the operator decides what a standby keeps",
    ),
    ("cluster_name", "it is the instance's name"),
    (
        "config_file",
        "the supervisor writes the configuration files",
    ),
    ("data_directory", "the supervisor lays out the volume"),
    (
        "external_pid_file",
        "the supervisor watches the process itself",
    ),
    ("hba_file", "the supervisor writes pg_hba.conf"),
    ("hot_standby", "standbys always serve reads"),
    (
        "http_listen",
        "the supervisor gives each instance its address",
    ),
    ("ident_file", "the supervisor lays out the volume"),
    ("include", "settings belong into spec.parameters themselves"),
    (
        "include_dir",
        "settings belong into spec.parameters themselves",
    ),
    (
        "include_if_exists",
        "settings belong into spec.parameters themselves",
    ),
    (
        "listen_addresses",
        "the supervisor gives each instance its address",
    ),
    (
        "password_encryption",
        "passwords are kept for SCRAM, which is what pg_hba.conf asks for",
    ),
    ("port", "the supervisor gives each instance its port"),
    ("primary_conninfo", "it names the cluster's Service"),
    (
        "primary_slot_name",
        "the operator decides what the primary keeps",
    ),
    (
        "promote_trigger_file",
        "promotion goes through the operator; use a switchover",
    ),
    (
        "recovery_end_command",
        "promotion goes through the operator",
    ),
    (
        "recovery_min_apply_delay",
        "a standby that waits could not take over",
    ),
    ("recovery_target", "standbys follow the primary"),
    ("recovery_target_action", "standbys follow the primary"),
    ("recovery_target_inclusive", "standbys follow the primary"),
    ("recovery_target_lsn", "standbys follow the primary"),
    ("recovery_target_name", "standbys follow the primary"),
    ("recovery_target_time", "standbys follow the primary"),
    ("recovery_target_timeline", "standbys follow the primary"),
    ("recovery_target_xid", "standbys follow the primary"),
    (
        "ssl",
        "the supervisor sets up TLS, which standbys stream over",
    ),
    ("ssl_ca_file", "the certificates are the operator's"),
    ("ssl_cert_file", "the certificates are the operator's"),
    ("ssl_key_file", "the certificates are the operator's"),
    ("standby_mode", "the operator decides who is a standby"),
    (
        "synchronous_standby_names",
        "spec.durability decides what a commit waits for",
    ),
    (
        "trigger_file",
        "promotion goes through the operator; use a switchover",
    ),
    (
        "unix_socket_directories",
        "the supervisor lays out the volume",
    ),
    (
        "unix_socket_group",
        "the supervisor comes in through the socket",
    ),
    (
        "unix_socket_permissions",
        "the supervisor comes in through the socket",
    ),
    ("wal_level", "replication needs its own level"),
];

/// Settings that begin with this tie an instance to its operator.
pub const SETTING_PREFIX: &str = "understudy.";
pub const SETTING_PREFIX_WHY: &str = "these settings tie the instance to its operator";

/// Environment variables that begin with these are the operator's, the kubelet's or mislead libpq's readers.
pub const ENV_PREFIXES: &[&str] = &["UNDERSTUDY_", "KUBERNETES_", "PG"];

/// Keys of labels and annotations that hold this, or begin with one of [`LABEL_KEYS`], are the operator's.
pub const METADATA_DOMAIN: &str = "understudy.dev/";

/// Labels that operator and Kubernetes select and count pods by.
pub const LABEL_KEYS: &[&str] = &[
    "app.kubernetes.io/",
    "apps.kubernetes.io/",
    "controller-revision-hash",
    "statefulset.kubernetes.io/",
];

/// Roles that an application's database can't belong to. Those that begin with `pg_` are the system's.
pub const ROLES: &[&str] = &[
    "current_role",
    "current_user",
    "none",
    "postgres",
    "public",
    "session_user",
    "understudy_replication",
];

/// Databases that new ones are copied from.
pub const DATABASES: &[&str] = &["template0", "template1"];

/// Whether the operator sets this setting itself, however it is spelled; the answer is the reason.
pub fn owned_setting(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(SETTING_PREFIX) {
        return Some(SETTING_PREFIX_WHY);
    }
    SETTINGS
        .iter()
        .find(|(owned, _)| *owned == lower)
        .map(|(_, why)| *why)
}

/// Whether a pod's environment variable of this name is not the user's to set; the answer is the prefix that says so.
pub fn owned_env(name: &str) -> Option<&'static str> {
    let mut prefixes = ENV_PREFIXES.iter().copied();
    prefixes.find(|prefix| name.starts_with(prefix))
}

/// Whether a label of this key is not the user's to set; the answer is the part that says so.
pub fn owned_label(key: &str) -> Option<&'static str> {
    let mut prefixes = LABEL_KEYS.iter().copied();
    owned_annotation(key).or_else(|| prefixes.find(|prefix| key.starts_with(prefix)))
}

/// Whether an annotation of this key is not the user's to set; the answer is the part that says so.
pub fn owned_annotation(key: &str) -> Option<&'static str> {
    key.contains(METADATA_DOMAIN).then_some(METADATA_DOMAIN)
}
