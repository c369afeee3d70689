//! From the manifest to a [`ValidatedCluster`], or to what is wrong with it. Pure.
//!
//! Every error names the field's path and the remedy. What passes here can be built: rendering and deciding
//! have no errors of their own for it.

use std::collections::BTreeMap;

use crate::crd::{Durability, ReplicatedCluster};

/// A manifest that makes sense.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValidatedCluster {
    pub name: String,
    /// The number of standbys.
    pub replicas: u32,
    pub durability: Durability,
    pub storage_bytes: u64,
    /// By lower-case name.
    pub parameters: BTreeMap<String, String>,
    pub generation: i64,
    /// What an annotation asks for.
    pub requests: Requests,
}

/// Acts that are asked for once, by annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// An instance's name, or `any`.
    pub switchover_to: Option<String>,
    /// `NAME@TERM`, unparsed: a refusal must be able to quote it.
    pub force_promote: Option<String>,
}

/// One thing that is wrong, in the form `spec.replicas: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; {remedy}")]
pub struct Invalid {
    pub path: String,
    pub problem: String,
    pub remedy: String,
}

pub const MAX_REPLICAS: u32 = 15;
pub const MAX_NAME: usize = 40;
const MIN_STORAGE: u64 = 256 << 20;

/// Settings that the operator or the supervisor sets, and why a user can't.
const OWNED: &[(&str, &str)] = &[
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
    ("wal_level", "replication needs its own level"),
];

/// Checks everything, and reports everything that is wrong.
///
/// # Errors
/// All findings, in the order of the manifest.
pub fn validate(cluster: &ReplicatedCluster) -> Result<ValidatedCluster, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let name = cluster.metadata.name.clone().unwrap_or_default();
    check_name(&name, &mut wrong);
    if cluster.spec.replicas > MAX_REPLICAS {
        wrong.push(invalid(
            "spec.replicas",
            format!(
                "{} standbys are more than {MAX_REPLICAS}",
                cluster.spec.replicas
            ),
            format!("choose 0 to {MAX_REPLICAS}"),
        ));
    }
    let storage_bytes = check_storage(&cluster.spec.storage.size, &mut wrong);
    let parameters = check_parameters(&cluster.spec.parameters, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let annotation = |key: &str| {
        cluster
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
            .cloned()
    };
    Ok(ValidatedCluster {
        name,
        replicas: cluster.spec.replicas,
        durability: cluster.spec.durability,
        storage_bytes,
        parameters,
        generation: cluster.metadata.generation.unwrap_or(1),
        requests: Requests {
            switchover_to: annotation(crate::crd::SWITCHOVER_TO),
            force_promote: annotation(crate::crd::FORCE_PROMOTE),
        },
    })
}

/// Whether the operator sets this one itself, however it is spelled; the answer is the reason.
pub fn owned(parameter: &str) -> Option<&'static str> {
    let lower = parameter.to_ascii_lowercase();
    if lower.starts_with("understudy.") {
        return Some("these settings tie the instance to its operator");
    }
    OWNED
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, why)| *why)
}

fn check_name(name: &str, wrong: &mut Vec<Invalid>) {
    let edge = |b: Option<u8>, digit: bool| {
        b.is_some_and(|b| b.is_ascii_lowercase() || (digit && b.is_ascii_digit()))
    };
    let shape = edge(name.bytes().next(), false)
        && edge(name.bytes().last(), true)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.len() > MAX_NAME || !shape {
        wrong.push(invalid(
            "metadata.name",
            format!("\"{name}\" can't name instances and Services"),
            format!("use at most {MAX_NAME} characters of a-z, 0-9 and -, beginning with a letter"),
        ));
    }
}

fn check_storage(size: &str, wrong: &mut Vec<Invalid>) -> u64 {
    match parse_quantity(size) {
        Some(bytes) if bytes >= MIN_STORAGE => bytes,
        Some(bytes) => {
            wrong.push(invalid(
                "spec.storage.size",
                format!("{size} is {bytes} bytes, too small for a database and its log"),
                "give at least 256Mi".to_owned(),
            ));
            0
        }
        None => {
            wrong.push(invalid(
                "spec.storage.size",
                format!("\"{size}\" is not a quantity"),
                "write it as 10Gi or 500Mi".to_owned(),
            ));
            0
        }
    }
}

fn check_parameters(
    given: &BTreeMap<String, String>,
    wrong: &mut Vec<Invalid>,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        let path = format!("spec.parameters.{name}");
        let lower = name.to_ascii_lowercase();
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
        let starts = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !starts || !name.bytes().all(letters) || name.len() > 63 {
            wrong.push(invalid(
                &path,
                "this is not the name of a setting".to_owned(),
                "use the names of postgresql.conf".to_owned(),
            ));
        } else if let Some(why) = owned(name) {
            wrong.push(invalid(
                &path,
                format!("the operator owns {lower}: {why}"),
                "remove it".to_owned(),
            ));
        } else if value.len() > 1024 || value.contains(['\n', '\r', '\0']) {
            wrong.push(invalid(
                &path,
                "the value is longer than 1024 bytes or spans lines".to_owned(),
                "give a single line".to_owned(),
            ));
        } else if parameters.insert(lower.clone(), value.clone()).is_some() {
            wrong.push(invalid(
                &path,
                format!("{lower} is given twice, in different case"),
                "keep one of them".to_owned(),
            ));
        }
    }
    parameters
}

fn invalid(path: &str, problem: String, remedy: String) -> Invalid {
    Invalid {
        path: path.to_owned(),
        problem,
        remedy,
    }
}

/// Bytes of a Kubernetes quantity; fractions are rounded down.
fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let valid = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !valid(whole) || !valid(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let exact = whole.parse::<u128>().ok()?.checked_mul(scale)? + fraction.parse::<u128>().ok()?;
    u64::try_from(exact.checked_mul(u128::from(factor))? / scale).ok()
}

#[cfg(test)]
mod tests;
