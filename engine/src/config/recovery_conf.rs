//! Whether a start is a recovery, and of which kind: `recovery.conf` of PostgreSQL up to 11, `standby.signal` and
//! `recovery.signal` of 12 and later. Both kinds beside each other stop the start, because nobody can tell
//! which was meant.

use std::path::Path;

use super::conf_file::{ConfFile, Entry, os_message};
use super::error::{Complaint, ConfigError};
use super::value::parse_bool;

pub const RECOVERY_CONF: &str = "recovery.conf";
pub const RECOVERY_DONE: &str = "recovery.done";
pub const STANDBY_SIGNAL: &str = "standby.signal";
pub const RECOVERY_SIGNAL: &str = "recovery.signal";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// Crash recovery at most.
    #[default]
    None,
    /// Replays from archive and stream until it is promoted.
    Standby,
    /// Replays the archive to its end and becomes a primary.
    Archive,
}

/// What the files in the data directory ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryRequest {
    pub mode: RecoveryMode,
    /// The file that asks for it: what promotion renames (`recovery.conf`) or removes (the others).
    pub file: Option<&'static str>,
    /// Settings that `recovery.conf` gives; they win over `postgresql.conf`.
    pub entries: Vec<Entry>,
}

/// Settings that may stand in `recovery.conf`, with what they are called now.
const SETTINGS: [(&str, &str); 16] = [
    ("primary_conninfo", "primary_conninfo"),
    ("primary_slot_name", "primary_slot_name"),
    ("trigger_file", "promote_trigger_file"),
    ("promote_trigger_file", "promote_trigger_file"),
    ("restore_command", "restore_command"),
    ("archive_cleanup_command", "archive_cleanup_command"),
    ("recovery_end_command", "recovery_end_command"),
    ("recovery_target", "recovery_target"),
    ("recovery_target_action", "recovery_target_action"),
    ("recovery_target_lsn", "recovery_target_lsn"),
    ("recovery_target_name", "recovery_target_name"),
    ("recovery_target_time", "recovery_target_time"),
    ("recovery_target_xid", "recovery_target_xid"),
    ("recovery_target_inclusive", "recovery_target_inclusive"),
    ("recovery_target_timeline", "recovery_target_timeline"),
    ("recovery_min_apply_delay", "recovery_min_apply_delay"),
];

pub fn read(data_directory: &Path) -> Result<RecoveryRequest, ConfigError> {
    let exists = |name: &str| data_directory.join(name).exists();
    let path = data_directory.join(RECOVERY_CONF);
    if !path.exists() {
        let (mode, file) = if exists(STANDBY_SIGNAL) {
            (RecoveryMode::Standby, Some(STANDBY_SIGNAL))
        } else if exists(RECOVERY_SIGNAL) {
            (RecoveryMode::Archive, Some(RECOVERY_SIGNAL))
        } else {
            (RecoveryMode::None, None)
        };
        return Ok(RecoveryRequest {
            mode,
            file,
            entries: Vec::new(),
        });
    }
    for signal in [STANDBY_SIGNAL, RECOVERY_SIGNAL] {
        if exists(signal) {
            return Err(refused(Complaint {
                hint: Some(format!(
                    "Remove one of them: \"{RECOVERY_CONF}\" is the old way to ask for recovery, \"{signal}\" the new one."
                )),
                ..Complaint::new(format!(
                    "recovery command file \"{RECOVERY_CONF}\" and signal file \"{signal}\" cannot be used together"
                ))
            }));
        }
    }
    let parsed = ConfFile::read(&path).map_err(|source| ConfigError::Open { path, source })?;
    if let Some(first) = parsed.errors.into_iter().next() {
        return Err(refused(first));
    }
    of_entries(parsed.entries)
}

fn of_entries(entries: Vec<Entry>) -> Result<RecoveryRequest, ConfigError> {
    let mut request = RecoveryRequest {
        mode: RecoveryMode::Archive,
        file: Some(RECOVERY_CONF),
        entries: Vec::new(),
    };
    for e in entries {
        let lower = e.name.to_ascii_lowercase();
        if lower == "standby_mode" {
            request.mode = match parse_bool(&e.value) {
                Some(true) => RecoveryMode::Standby,
                Some(false) => RecoveryMode::Archive,
                None => {
                    return Err(refused(at(
                        Complaint::new("parameter \"standby_mode\" requires a Boolean value"),
                        &e,
                    )));
                }
            };
        } else if let Some((_, now)) = SETTINGS.iter().find(|(old, _)| *old == lower) {
            request.entries.push(Entry {
                name: (*now).to_owned(),
                ..e
            });
        } else {
            return Err(refused(at(
                Complaint::new(format!("unrecognized recovery parameter \"{}\"", e.name)),
                &e,
            )));
        }
    }
    // The last one counts, and it may take back what stands before it.
    let restores = request
        .entries
        .iter()
        .rfind(|e| e.name == "restore_command")
        .is_some_and(|e| !e.value.is_empty());
    if request.mode == RecoveryMode::Archive && !restores {
        return Err(refused(Complaint::new(format!(
            "recovery command file \"{RECOVERY_CONF}\" must specify restore_command when standby mode is not enabled"
        ))));
    }
    Ok(request)
}

/// What a recovery from an archive can't begin without, wherever it is set.
pub(super) fn lacking(request: &RecoveryRequest, restore_command: &str) -> Option<Complaint> {
    let lacks = request.mode == RecoveryMode::Archive && restore_command.is_empty();
    lacks.then(|| Complaint::new("must specify restore_command when standby mode is not enabled"))
}

fn at(mut c: Complaint, e: &Entry) -> Complaint {
    c.context = Some(format!(
        "line {} of configuration file \"{}\"",
        e.line, e.file
    ));
    c
}

fn refused(c: Complaint) -> ConfigError {
    ConfigError::Refused {
        fatal: c.message.clone(),
        complaints: vec![c],
    }
}

/// For messages about files that could not be read.
pub fn cause(e: &std::io::Error) -> String {
    os_message(e)
}
