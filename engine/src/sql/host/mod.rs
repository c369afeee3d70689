//! Functions that ask about the session, the server or the catalog: `pg_backend_pid`, `nextval`, `pg_get_indexdef`, ...
//!
//! A [`ServerHost`] is made for a statement and sees the catalog as its transaction does. A function of the table
//! that is not here is refused by name with 0A000, never answered with a guess.

mod administration;
mod advisory;
mod backup;
mod check;
mod describe;
mod encodings;
mod environment;
mod expressions;
mod information;
mod names;
mod privileges;
mod routines;
mod sequences;
mod unmakeable;
mod waiting;

pub use backup::SessionBackup;
pub use environment::{ChangedCatalog, Environment};
pub use sequences::SessionSequences;

use environment::to_type_error;

use crate::sql::error::SqlError;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Host, Rows};

/// Answers for one statement.
#[derive(Debug)]
pub struct ServerHost {
    pub env: Environment,
}

type Answer = Result<Datum, TypeError>;

/// One room's functions: `None` if the function is not among them.
type Room = fn(&Environment, &Function, &[Datum]) -> Option<Answer>;

const ROOMS: &[Room] = &[
    information::call,
    names::call,
    privileges::call,
    describe::call,
    routines::call,
    unmakeable::call,
    sequences::call,
    administration::call,
    advisory::call,
    backup::call,
];

impl Host for ServerHost {
    fn call(&self, function: &'static Function, args: &[Datum]) -> Answer {
        ROOMS
            .iter()
            .find_map(|room| room(&self.env, function, args))
            .unwrap_or_else(|| Err(not_implemented(function)))
    }

    fn call_set(&self, function: &'static Function, args: &[Datum]) -> Result<Rows, TypeError> {
        backup::call_set(&self.env, function, args)
            .or_else(|| privileges::call_set(function, args))
            .or_else(|| check::call_set(&self.env, function, args))
            .or_else(|| unmakeable::call_set(function, args))
            .unwrap_or_else(|| Err(not_implemented(function)))
    }

    fn check_interrupts(&self) -> Result<(), TypeError> {
        let interrupts = &self.env.facts.backend.interrupts;
        let checked = interrupts.check().map_err(SqlError::from);
        checked.map_err(to_type_error)
    }
}

fn not_implemented(function: &Function) -> TypeError {
    let mut error = TypeError::new(
        "0A000",
        format!("function {}() is not implemented", function.name),
    );
    error.hint = Some("The views in pg_catalog may have what you are looking for.".to_owned());
    error
}

/// The argument as text; arguments of host functions were checked by the analyzer.
fn text(args: &[Datum], at: usize) -> &str {
    match args.get(at) {
        Some(Datum::Text(text)) => text,
        _ => "",
    }
}

fn oid(args: &[Datum], at: usize) -> crate::ids::Oid {
    match args.get(at) {
        Some(Datum::Oid(oid)) => *oid,
        _ => crate::ids::Oid::INVALID,
    }
}

fn int(args: &[Datum], at: usize) -> i64 {
    match args.get(at) {
        Some(Datum::Int2(v)) => i64::from(*v),
        Some(Datum::Int4(v)) => i64::from(*v),
        Some(Datum::Int8(v)) => *v,
        _ => 0,
    }
}

fn boolean(args: &[Datum], at: usize) -> bool {
    matches!(args.get(at), Some(Datum::Bool(true)))
}
