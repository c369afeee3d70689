//! Functions for administrators: positions in the log, signals to sessions, reload, promotion.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::Lsn;
use crate::recovery::Phase;
use crate::sql::error::{SqlError, state};
use crate::sql::host::environment::Environment;
use crate::sql::host::waiting::wait_for;
use crate::sql::host::{boolean, int};
use crate::sql::rights::{self, MaySignal};
use crate::txn::Interrupt;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::oids;

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let instance = &env.instance;
    let wal = &instance.store.wal;
    Some(match function.name {
        "pg_is_in_recovery" => Ok(Datum::Bool(instance.state.in_recovery())),
        "pg_current_wal_lsn" => writing(env).map(|()| Datum::Lsn(wal.write_lsn())),
        "pg_current_wal_flush_lsn" => writing(env).map(|()| Datum::Lsn(wal.flush_lsn())),
        "pg_current_wal_insert_lsn" => writing(env).map(|()| Datum::Lsn(wal.insert_lsn())),
        "pg_last_wal_receive_lsn" => Ok(position(instance.state.received_lsn())),
        "pg_last_wal_replay_lsn" => {
            let replayed = instance.state.last_replayed();
            Ok(replayed.map_or(Datum::Null, Datum::Lsn))
        }
        "pg_last_xact_replay_timestamp" => Ok(instance
            .txns
            .last_replayed_time_us()
            .map_or(Datum::Null, Datum::TimestampTz)),
        "pg_walfile_name" => writing(env).map(|()| walfile_name(env, args)),
        "pg_switch_wal" => env.require_superuser(function.name).and_then(|()| {
            writing(env)?;
            Ok(Datum::Lsn(wal.switch_segment().end))
        }),
        "pg_reload_conf" => env.require_superuser(function.name).map(|()| {
            // The signal's own path: everything that a reload does stands in one place.
            let own = rustix::process::getpid();
            let sent = rustix::process::kill_process(own, rustix::process::Signal::HUP);
            Datum::Bool(sent.is_ok())
        }),
        "pg_promote" if env.instance.settings.current().promise_file.is_some() => Err(managed()),
        "pg_promote" => promote(env, function, boolean(args, 0), int(args, 1)),
        "pg_blocking_pids" => Ok(blocking_pids(env, int(args, 0))),
        "pg_cancel_backend" => signal(env, int(args, 0), Interrupt::Cancel),
        "pg_terminate_backend" => signal(env, int(args, 0), Interrupt::Terminate),
        _ => return None,
    })
}

fn position(lsn: Lsn) -> Datum {
    if lsn.is_valid() {
        Datum::Lsn(lsn)
    } else {
        Datum::Null
    }
}

/// The operator promotes, in a term of its own.
fn managed() -> TypeError {
    let what = "pg_promote() cannot be used in an instance that an operator manages";
    let mut error = TypeError::new("55000", what);
    let hint = "Use \"understudy-operator local switchover\" to move the primary's role.";
    error.hint = Some(hint.to_owned());
    error
}

/// Ends a standby's recovery; false if that has not come to its end in time.
fn promote(env: &Environment, function: &Function, wait: bool, wait_seconds: i64) -> Answer {
    env.require_superuser(function.name)?;
    let state = &env.instance.state;
    if !state.in_recovery() {
        let mut error = TypeError::new("55000", "recovery is not in progress");
        let hint = "Recovery control functions can only be executed during recovery.";
        error.hint = Some(hint.to_owned());
        return Err(error);
    }
    let limit = u64::try_from(wait_seconds).ok().filter(|s| *s > 0);
    let Some(limit) = limit else {
        let message = "\"wait_seconds\" must not be negative or zero";
        return Err(TypeError::new("22003", message));
    };
    state.request_promotion();
    if !wait {
        return Ok(Datum::Bool(true));
    }
    let mut phase = state.phase_watch();
    let promoted = async {
        let writing = phase.wait_for(|phase| *phase == Phase::Writing);
        tokio::time::timeout(Duration::from_secs(limit), writing).await
    };
    let in_time = wait_for(env, promoted)?.is_ok();
    if !in_time {
        tracing::warn!("server did not promote within {limit} seconds");
    }
    Ok(Datum::Bool(in_time))
}

/// 55000 on a standby.
fn writing(env: &Environment) -> Result<(), TypeError> {
    if !env.instance.state.in_recovery() {
        return Ok(());
    }
    let mut error = TypeError::new("55000", "recovery is in progress");
    error.hint = Some("WAL control functions cannot be executed during recovery.".to_owned());
    Err(error)
}

fn walfile_name(env: &Environment, args: &[Datum]) -> Datum {
    let Some(Datum::Lsn(lsn)) = args.first() else {
        return Datum::Null;
    };
    let wal = &env.instance.store.wal;
    let size = wal.segment_size();
    let segment = if lsn.is_valid() {
        lsn.previous_byte_segment(size)
    } else {
        lsn.segment(size)
    };
    Datum::text(&segment.file_name(wal.timeline(), size))
}

/// An unknown process waits for nobody.
fn blocking_pids(env: &Environment, pid: i64) -> Datum {
    let pid = u32::try_from(pid).ok().and_then(NonZeroU32::new);
    let blocking = pid.map_or_else(Vec::new, |pid| env.instance.txns.blocking_pids(pid));
    let items = blocking
        .into_iter()
        .map(|pid| Datum::Int4(i32::try_from(pid.get()).unwrap_or(i32::MAX)));
    Datum::Array(Arc::new(Array::of(oids::INT4, items.collect())))
}

/// Only superusers may signal a superuser's session, and others those of roles whose rights they have.
fn signal(env: &Environment, pid: i64, what: Interrupt) -> Answer {
    let target = u32::try_from(pid)
        .ok()
        .and_then(NonZeroU32::new)
        .and_then(|p| env.backends.get(p));
    let Some(target) = target else {
        env.facts.notices.push(SqlError::warning(
            state::WARNING,
            format!("PID {pid} is not a PostgreSQL backend process"),
        ));
        return Ok(Datum::Bool(false));
    };
    let cancels = what == Interrupt::Cancel;
    let refused = match env.with_catalog(|catalog| rights::may_signal(catalog, target.user))? {
        MaySignal::Yes => None,
        MaySignal::NotSuperuser if cancels => Some("must be a superuser to cancel superuser query"),
        MaySignal::NotSuperuser => Some(rights::NOT_SUPERUSER),
        MaySignal::NotMember if cancels => Some(
            "must be a member of the role whose query is being canceled or member of pg_signal_backend",
        ),
        MaySignal::NotMember => Some(rights::NOT_MEMBER),
    };
    if let Some(message) = refused {
        return Err(TypeError::new("42501", message));
    }
    target.interrupts.raise(what);
    Ok(Datum::Bool(true))
}
