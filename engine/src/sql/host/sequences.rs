//! `nextval`, `currval`, `lastval`, `setval`.
//!
//! A number may be shown to a client only when the record that reserved it can't be lost. The record is written by
//! the session's transaction if it has an id already, else without one; either way the session has to wait for its
//! position before it answers a commit ([`SessionSequences::must_be_safe`]), and until it is flushed before it answers
//! anything else: a number that somebody has seen does not come again, though its transaction never ended.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::Holder;
use crate::catalog::rows::SequenceRow;
use crate::catalog::view::CatalogView;
use crate::ids::{Lsn, Oid, Xid};
use crate::sql::error::{SqlError, no_right_to, state_of_storage};
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::waiting::wait_for;
use crate::sql::host::{boolean, int, oid};
use crate::table::sequence::{Parameters, SequenceError, State};
use crate::txn::{LockError, LockMode, LockTag};
use crate::types::acl::Privileges;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::functions::NEXTVAL_OF_IDENTITY;

type Answer = Result<Datum, TypeError>;

/// What a session remembers of sequences.
#[derive(Debug, Default)]
pub struct SessionSequences {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    values: HashMap<Oid, i64>,
    newest: Option<Oid>,
    must_be_safe: Option<Lsn>,
}

impl SessionSequences {
    /// Taken at the end of a transaction: the position that has to be safe before its end is acknowledged.
    pub fn must_be_safe(&self) -> Option<Lsn> {
        self.last.lock().must_be_safe.take()
    }

    /// The same position, which stays: what has to be flushed before the client sees the numbers.
    pub fn to_be_flushed(&self) -> Option<Lsn> {
        self.last.lock().must_be_safe
    }

    /// DISCARD SEQUENCES
    pub fn forget(&self) {
        let mut last = self.last.lock();
        last.values.clear();
        last.newest = None;
    }
}

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    Some(match function.name {
        // An identity column's own sequence serves whoever may insert.
        "nextval" => next(env, oid(args, 0), function.oid != NEXTVAL_OF_IDENTITY),
        "currval" => current(env, oid(args, 0)),
        "lastval" => last(env),
        "setval" => set(
            env,
            oid(args, 0),
            int(args, 1),
            args.len() < 3 || boolean(args, 2),
        ),
        _ => return None,
    })
}

/// The sequence; 42501 unless the session's role has any of the privileges on it, if some are asked for.
fn described(
    env: &Environment,
    sequence: Oid,
    any_of: Option<Privileges>,
) -> Result<Arc<Relation>, TypeError> {
    let (relation, may) = env.with_catalog(|catalog| {
        let relation = catalog.relation(sequence)?;
        let may = match (&relation, any_of) {
            (Some(relation), Some(any_of)) => {
                let has = Holder::asker(catalog)?.on_relation(relation)?;
                !has.common(any_of).is_none()
            }
            _ => true,
        };
        Ok((relation, may))
    })?;
    let relation = relation.ok_or_else(|| {
        TypeError::new(
            "42P01",
            format!("could not open relation with OID {sequence}"),
        )
    })?;
    if relation.kind != RelationKind::Sequence {
        return Err(TypeError::new(
            "42809",
            format!("\"{}\" is not a sequence", relation.name),
        ));
    }
    if !may {
        return Err(to_type_error(no_right_to(&relation)));
    }
    Ok(relation)
}

const TO_NEXT: Privileges = Privileges::USAGE.and(Privileges::UPDATE);
const TO_LOOK: Privileges = Privileges::USAGE.and(Privileges::SELECT);

fn parameters(env: &Environment, sequence: Oid) -> Result<Parameters, TypeError> {
    const SEQUENCE_BY_OID: Oid = Oid::new(5002);
    let catalog = &env.instance.catalog;
    let system = catalog.system(env.facts.database);
    let cx = catalog.cx(&system, env.facts.database);
    let key = [Datum::Oid(sequence)];
    let found = env
        .with_snapshot(|snapshot, _| cx.find_one::<SequenceRow>(snapshot, SEQUENCE_BY_OID, &key))
        .map_err(|e| to_type_error(e.into()))?;
    let (_, row) = found.ok_or_else(|| {
        TypeError::new(
            "XX000",
            format!("cache lookup failed for sequence {sequence}"),
        )
    })?;
    Ok(Parameters {
        increment: row.seqincrement,
        min: row.seqmin,
        max: row.seqmax,
        cycle: row.seqcycle,
    })
}

fn may_write(env: &Environment, function: &str) -> Result<(), TypeError> {
    if env.instance.state.in_recovery() {
        let message = format!("cannot execute {function}() during recovery");
        return Err(TypeError::new("25006", message));
    }
    Ok(())
}

/// Definitions of the sequence wait for whoever draws numbers, and he for them: they go on from where it stands, in
/// another file. True: the lock is new, so what is known of the sequence may be old.
fn hold(env: &Environment, sequence: Oid) -> Result<bool, TypeError> {
    let mode = LockMode::RowExclusive;
    let tag = LockTag::Relation {
        database: env.facts.database,
        relation: sequence,
    };
    let session = &env.facts.backend.interrupts;
    let locks = env.instance.txns.locks();
    let refused = |error: LockError| to_type_error(SqlError::from(error));
    match locks.try_hold_from_function(session, tag, mode) {
        // Whoever waits gives up his thread meanwhile, which is not cheap.
        Err(LockError::NotAvailable(_)) => {
            let taken = locks.hold_from_function(session, tag, mode);
            wait_for(env, taken)?.map_err(refused)?;
            Ok(true)
        }
        other => other.map_err(refused),
    }
}

fn next(env: &Environment, sequence: Oid, asks: bool) -> Answer {
    let any_of = asks.then_some(TO_NEXT);
    let mut relation = described(env, sequence, any_of)?;
    may_write(env, "nextval")?;
    if hold(env, sequence)? {
        relation = described(env, sequence, any_of)?;
    }
    let parameters = parameters(env, sequence)?;
    let instance = &env.instance;
    let got = instance
        .sequences
        .next(&instance.store, relation.file, parameters, Xid::INVALID);
    let got = got.map_err(|error| sequence_error(&relation, &error))?;
    let mut last = env.facts.sequences.last.lock();
    last.values.insert(sequence, got.value);
    last.newest = Some(sequence);
    last.must_be_safe = last.must_be_safe.max(Some(got.lsn));
    Ok(Datum::Int8(got.value))
}

fn sequence_error(relation: &Relation, error: &SequenceError) -> TypeError {
    let limit = |word: &str, value: i64| {
        let name = &relation.name;
        TypeError::new(
            "2200H",
            format!("nextval: reached {word} value of sequence \"{name}\" ({value})"),
        )
    };
    match error {
        SequenceError::AtMaximum(value) => limit("maximum", *value),
        SequenceError::AtMinimum(value) => limit("minimum", *value),
        SequenceError::Storage(storage) => {
            TypeError::new(state_of_storage(storage), storage.to_string())
        }
        SequenceError::Damaged(_) => TypeError::new("XX001", error.to_string()),
    }
}

fn current(env: &Environment, sequence: Oid) -> Answer {
    let relation = described(env, sequence, Some(TO_LOOK))?;
    let value = env
        .facts
        .sequences
        .last
        .lock()
        .values
        .get(&sequence)
        .copied();
    value.map(Datum::Int8).ok_or_else(|| {
        let name = &relation.name;
        let message = format!("currval of sequence \"{name}\" is not yet defined in this session");
        TypeError::new("55000", message)
    })
}

fn last(env: &Environment) -> Answer {
    let newest = {
        let last = env.facts.sequences.last.lock();
        last.newest
            .and_then(|sequence| Some((sequence, *last.values.get(&sequence)?)))
    };
    let undefined = || TypeError::new("55000", "lastval is not yet defined in this session");
    let (sequence, value) = newest.ok_or_else(undefined)?;
    // A sequence that is gone has no last value.
    let there = env.with_catalog(|catalog| catalog.relation(sequence))?;
    there.ok_or_else(undefined)?;
    described(env, sequence, Some(TO_LOOK))?;
    Ok(Datum::Int8(value))
}

fn set(env: &Environment, sequence: Oid, value: i64, called: bool) -> Answer {
    let mut relation = described(env, sequence, Some(Privileges::UPDATE))?;
    may_write(env, "setval")?;
    if hold(env, sequence)? {
        relation = described(env, sequence, Some(Privileges::UPDATE))?;
    }
    let limits = parameters(env, sequence)?;
    if !(limits.min..=limits.max).contains(&value) {
        let message = format!(
            "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
            relation.name, limits.min, limits.max
        );
        return Err(TypeError::new("22003", message));
    }
    let instance = &env.instance;
    let state = State {
        last: value,
        called,
    };
    let lsn = instance
        .sequences
        .set(&instance.store, relation.file, state, Xid::INVALID)
        .map_err(|error| sequence_error(&relation, &error))?;
    let mut last = env.facts.sequences.last.lock();
    last.must_be_safe = last.must_be_safe.max(Some(lsn));
    if called {
        last.values.insert(sequence, value);
    }
    Ok(Datum::Int8(value))
}
