//! Advisory locks, and sleeping: functions that may wait. An error at a wait is told as the lock manager tells it.

use std::sync::Arc;
use std::time::Duration;

use crate::sql::error::{SqlError, state};
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::int;
use crate::sql::host::waiting::wait_for;
use crate::txn::{LockError, LockMode, LockTag, LockWait};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;

type Answer = Result<Datum, TypeError>;

/// The longest that is slept in one piece; PostgreSQL's clock knows no end either.
const LONGEST: f64 = 1e9;
const MICROS: f64 = 1e6;

/// What one of the functions asks for, as its name says.
#[derive(Clone, Copy)]
struct Wanted {
    /// To the end of the transaction instead of the session's.
    transaction: bool,
    mode: LockMode,
    wait: LockWait,
}

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    if let Some(wanted) = wanted(function.name) {
        return Some(lock(env, tag(env, args), wanted));
    }
    Some(match function.name {
        "pg_advisory_unlock" => Ok(unlock(env, tag(env, args), LockMode::Exclusive)),
        "pg_advisory_unlock_shared" => Ok(unlock(env, tag(env, args), LockMode::Share)),
        "pg_advisory_unlock_all" => {
            let session = &env.facts.backend.interrupts;
            env.instance.txns.locks().unlock_session_all(session);
            Ok(Datum::Void)
        }
        "pg_sleep" => sleep(env, args),
        "pg_sleep_for" => sleep_for(env, args),
        "pg_sleep_until" => sleep_until(env, args),
        _ => return None,
    })
}

fn wanted(name: &str) -> Option<Wanted> {
    let (wait, rest) = match name.strip_prefix("pg_try_advisory_") {
        Some(rest) => (LockWait::NoWait, rest),
        None => (LockWait::Wait, name.strip_prefix("pg_advisory_")?),
    };
    let (transaction, rest) = match rest.strip_prefix("xact_") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mode = match rest {
        "lock" => LockMode::Exclusive,
        "lock_shared" => LockMode::Share,
        _ => return None,
    };
    Some(Wanted {
        transaction,
        mode,
        wait,
    })
}

/// One key of eight bytes, or two of four.
fn tag(env: &Environment, args: &[Datum]) -> LockTag {
    let two_keys = args.len() == 2;
    let key = if two_keys {
        let half = |at| u64::from(int(args, at) as u32);
        (half(0) << 32) | half(1)
    } else {
        int(args, 0) as u64
    };
    LockTag::Advisory {
        database: env.facts.database,
        key,
        two_keys,
    }
}

/// Void, or for the `try` forms whether it was free.
fn lock(env: &Environment, tag: LockTag, wanted: Wanted) -> Answer {
    let txns = Arc::clone(&env.instance.txns);
    let session = &env.facts.backend.interrupts;
    let take = async {
        let locks = txns.locks();
        if wanted.transaction {
            locks
                .lock_from_function(session, tag, wanted.mode, wanted.wait)
                .await
        } else {
            locks
                .lock_session(session, tag, wanted.mode, wanted.wait)
                .await
        }
    };
    let taken = wait_for(env, take)?;
    match (wanted.wait, taken) {
        (LockWait::NoWait, Ok(())) => Ok(Datum::Bool(true)),
        (LockWait::NoWait, Err(LockError::NotAvailable(_))) => Ok(Datum::Bool(false)),
        (LockWait::Wait, Ok(())) => Ok(Datum::Void),
        (_, Err(error)) => Err(to_type_error(SqlError::from(error))),
    }
}

fn unlock(env: &Environment, tag: LockTag, mode: LockMode) -> Datum {
    let session = &env.facts.backend.interrupts;
    let held = env.instance.txns.locks().unlock_session(session, tag, mode);
    if !held {
        let mode = match mode {
            LockMode::Share => "ShareLock",
            _ => "ExclusiveLock",
        };
        env.facts.notices.push(SqlError::warning(
            state::WARNING,
            format!("you don't own a lock of type {mode}"),
        ));
    }
    Datum::Bool(held)
}

fn sleep(env: &Environment, args: &[Datum]) -> Answer {
    match args.first() {
        Some(Datum::Float8(seconds)) => sleep_seconds(env, *seconds),
        _ => Ok(Datum::Void),
    }
}

/// `pg_sleep_for(i)` ends at `clock_timestamp() + i`: months and days as they count from now.
fn sleep_for(env: &Environment, args: &[Datum]) -> Answer {
    const DAY: i64 = 86_400;
    const MONTH: i64 = 30 * DAY;
    let Some(Datum::Interval(i)) = args.first() else {
        return Ok(Datum::Void);
    };
    let days = i64::from(i.months) * MONTH + i64::from(i.days) * DAY;
    sleep_seconds(env, days as f64 + i.micros as f64 / MICROS)
}

fn sleep_until(env: &Environment, args: &[Datum]) -> Answer {
    let Some(Datum::TimestampTz(at)) = args.first() else {
        return Ok(Datum::Void);
    };
    let now = crate::replication::clock::now_micros();
    sleep_seconds(env, at.saturating_sub(now) as f64 / MICROS)
}

fn sleep_seconds(env: &Environment, seconds: f64) -> Answer {
    if seconds > 0.0 {
        let time = Duration::from_secs_f64(seconds.min(LONGEST));
        wait_for(env, tokio::time::sleep(time))?;
    }
    Ok(Datum::Void)
}
