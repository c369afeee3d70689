//! `nextval`, `currval`, `lastval`, `setval`.
//!
//! A number may be shown to a client only when the record that reserved it can't be lost. The record is written by
//! the session's transaction if it has an id already, else without one; either way the session has to wait for its
//! position before it answers a commit ([`SessionSequences::must_be_safe`]), and until it is flushed before it answers
//! anything else: a number that somebody has seen does not come again, though its transaction never ended.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::SequenceRow;
use crate::catalog::view::CatalogView;
use crate::ids::{Lsn, Oid, Xid};
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::{boolean, int, oid};
use crate::table::sequence::{Parameters, SequenceError, State};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;

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
        "nextval" => next(env, oid(args, 0)),
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

fn described(env: &Environment, sequence: Oid) -> Result<std::sync::Arc<Relation>, TypeError> {
    let relation = env.with_catalog(|catalog| catalog.relation(sequence))?;
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
    Ok(relation)
}

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

fn next(env: &Environment, sequence: Oid) -> Answer {
    may_write(env, "nextval")?;
    let relation = described(env, sequence)?;
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
        SequenceError::Storage(storage) => TypeError::new("58030", storage.to_string()),
        SequenceError::Damaged(_) => TypeError::new("XX001", error.to_string()),
    }
}

fn current(env: &Environment, sequence: Oid) -> Answer {
    let relation = described(env, sequence)?;
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
    let last = env.facts.sequences.last.lock();
    let value = last
        .newest
        .and_then(|sequence| last.values.get(&sequence).copied());
    value
        .map(Datum::Int8)
        .ok_or_else(|| TypeError::new("55000", "lastval is not yet defined in this session"))
}

fn set(env: &Environment, sequence: Oid, value: i64, called: bool) -> Answer {
    may_write(env, "setval")?;
    let relation = described(env, sequence)?;
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
