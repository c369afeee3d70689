//! Base backups by hand: `pg_backup_start` and `pg_backup_stop`, and the older names, whose exclusive form writes
//! `backup_label` into the data directory.
//!
//! A backup that is not exclusive belongs to its session and is given up when the session ends.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::Lsn;
use crate::recovery::{BackupError, Backups, StartedBackup, StoppedBackup};
use crate::sql::error::SqlError;
use crate::sql::host::environment::Environment;
use crate::sql::host::waiting::wait_for;
use crate::sql::host::{boolean, text};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Rows};
use crate::types::record::Record;

type Answer = Result<Datum, TypeError>;

/// The backup that a session is taking.
#[derive(Default)]
pub struct SessionBackup(Mutex<Option<Running>>);

struct Running {
    backups: Arc<Backups>,
    /// `None` once it has been stopped.
    started: Option<StartedBackup>,
}

impl std::fmt::Debug for SessionBackup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionBackup({})", self.is_running())
    }
}

impl SessionBackup {
    fn is_running(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(started) = &self.started {
            self.backups.abandon(started);
            tracing::warn!(
                "aborting backup due to backend exiting before pg_backup_stop was called"
            );
        }
    }
}

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    Some(match (function.name, args.len()) {
        ("pg_backup_start", _) => start(env, function, text(args, 0), boolean(args, 1)),
        ("pg_start_backup", _) if boolean(args, 2) => {
            start_exclusive(env, function, text(args, 0), boolean(args, 1))
        }
        ("pg_start_backup", _) => start(env, function, text(args, 0), boolean(args, 1)),
        ("pg_backup_stop", _) => {
            let stopped = stop(env, function, boolean(args, 0));
            stopped.map(|s| record(function, &s, true))
        }
        ("pg_stop_backup", 0) => {
            let stopped = stop_exclusive(env, function, true);
            stopped.map(|s| Datum::Lsn(s.end))
        }
        ("pg_is_in_backup", _) => Ok(Datum::Bool(exclusive(env).is_some())),
        ("pg_backup_start_time", _) => Ok(start_time(env)),
        _ => return None,
    })
}

/// `pg_stop_backup(exclusive, wait_for_archive)`
pub(super) fn call_set(
    env: &Environment,
    function: &Function,
    args: &[Datum],
) -> Option<Result<Rows, TypeError>> {
    if function.name != "pg_stop_backup" {
        return None;
    }
    let (exclusive, wait) = (boolean(args, 0), boolean(args, 1));
    let stopped = if exclusive {
        stop_exclusive(env, function, wait)
    } else {
        stop(env, function, wait)
    };
    Some(stopped.map(|s| {
        let row = record(function, &s, !exclusive);
        Box::new(std::iter::once(Ok(row))) as Rows
    }))
}

fn start(env: &Environment, function: &Function, label: &str, fast: bool) -> Answer {
    env.require_superuser(function.name)?;
    if env.facts.backup.is_running() {
        return Err(TypeError::new(
            "55000",
            "a backup is already in progress in this session",
        ));
    }
    let backups = Arc::clone(&env.instance.backups);
    let started = wait_for(env, backups.start(label, fast))?.map_err(refused)?;
    let start = started.label.start;
    *env.facts.backup.0.lock() = Some(Running {
        backups: Arc::clone(&backups),
        started: Some(started),
    });
    Ok(Datum::Lsn(start))
}

fn start_exclusive(env: &Environment, function: &Function, label: &str, fast: bool) -> Answer {
    env.require_superuser(function.name)?;
    let backups = &env.instance.backups;
    let start = wait_for(env, backups.start_exclusive(label, fast))?.map_err(refused)?;
    Ok(Datum::Lsn(start))
}

fn stop(env: &Environment, function: &Function, wait: bool) -> Result<StoppedBackup, TypeError> {
    env.require_superuser(function.name)?;
    let running = env.facts.backup.0.lock().take();
    let Some(mut running) = running else {
        let mut error = TypeError::new("55000", "backup is not in progress");
        error.hint = Some("Did you call pg_backup_start()?".to_owned());
        return Err(error);
    };
    let started = running.started.take().expect("it has not been stopped");
    let stopped = wait_for(env, env.instance.backups.stop(&started, wait))?.map_err(refused)?;
    notice(env, wait);
    Ok(stopped)
}

fn stop_exclusive(
    env: &Environment,
    function: &Function,
    wait: bool,
) -> Result<StoppedBackup, TypeError> {
    env.require_superuser(function.name)?;
    let backups = &env.instance.backups;
    let stopped = wait_for(env, backups.stop_exclusive(wait))?.map_err(refused)?;
    notice(env, wait);
    Ok(stopped)
}

/// Who keeps the log that the backup needs, in PostgreSQL's words.
fn notice(env: &Environment, waited: bool) {
    if !waited {
        return;
    }
    let archived = !env.instance.state.in_recovery() && env.instance.store.wal.is_archiving();
    env.facts.notices.push(SqlError::notice(if archived {
        "all required WAL segments have been archived"
    } else {
        "WAL archiving is not enabled; you must ensure that all required WAL segments are copied \
         through other means to complete the backup"
    }));
}

/// Position, and, where the label travels with the answer, its text and that of an empty tablespace map.
fn record(function: &Function, stopped: &StoppedBackup, with_label: bool) -> Datum {
    let label = match with_label {
        true => Datum::text(&stopped.label_text),
        false => Datum::Null,
    };
    let map = match with_label {
        true => Datum::text(""),
        false => Datum::Null,
    };
    let fields = vec![Datum::Lsn(stopped.end), label, map];
    Record::new(&function.out_types(), fields).into()
}

fn exclusive(env: &Environment) -> Option<Lsn> {
    let label = env.instance.backups.exclusive_start();
    label.map(|label| label.start)
}

fn start_time(env: &Environment) -> Datum {
    let label = env.instance.backups.exclusive_start();
    let time = label.and_then(|label| {
        let text = label.start_time.strip_suffix(" UTC")?.replace(' ', "T");
        format!("{text}Z").parse::<jiff::Timestamp>().ok()
    });
    match time {
        // Microseconds since 2000-01-01 UTC.
        Some(time) => Datum::TimestampTz(time.as_microsecond() - 946_684_800_000_000),
        None => Datum::Null,
    }
}

fn refused(error: BackupError) -> TypeError {
    let mut told = TypeError::new(error.sqlstate(), error.to_string());
    told.hint = error.hint().map(str::to_owned);
    told
}
