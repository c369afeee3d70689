//! What the code's tables of functions, operators, casts and aggregates are made of.
//!
//! One table fills `pg_proc`, `pg_operator`, `pg_cast` and `pg_aggregate` *and* resolves calls, so the catalog
//! cannot lie. An implementation never sees a NULL argument if it is strict. Object ids are PostgreSQL 15's.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::datum::Datum;
use crate::types::error::TypeError;

/// Settings and session facts that change what a function gives; made once for each statement.
#[derive(Debug, Clone)]
pub struct FunctionCx {
    /// `now()`: start of the transaction, microseconds since 2000-01-01 UTC.
    pub transaction_timestamp: i64,
    /// Start of the statement.
    pub statement_timestamp: i64,
    /// The `TimeZone` setting.
    pub time_zone: jiff::tz::TimeZone,
    pub date_style: crate::types::datetime::DateStyle,
    pub interval_style: crate::types::interval::IntervalStyle,
    /// `extra_float_digits`; 1 and above: shortest exact.
    pub extra_float_digits: i32,
    /// `bytea_output`: true for hex.
    pub bytea_hex: bool,
    /// Functions that ask about the session, the server or the catalog (`pg_backend_pid`, `nextval`, ...).
    pub host: std::sync::Arc<dyn Host>,
}

/// What functions may ask of the world around the expression; implemented by `sql`, by a fake in tests.
pub trait Host: Send + Sync + std::fmt::Debug {
    /// Runs the function that [`Implementation::Host`] names.
    fn call(&self, function: &'static Function, args: &[Datum]) -> Result<Datum, TypeError>;
    /// The rows of a set-returning function that [`Implementation::HostSet`] names.
    fn call_set(
        &self,
        function: &'static Function,
        args: &[Datum],
    ) -> Result<Box<dyn Iterator<Item = Result<Datum, TypeError>> + Send>, TypeError>;
    /// Whether the statement is to end: asked in what may take long before the first row (`CHECK_FOR_INTERRUPTS`).
    fn check_interrupts(&self) -> Result<(), TypeError> {
        Ok(())
    }
}

pub type Scalar = fn(&[Datum], &FunctionCx) -> Result<Datum, TypeError>;
pub type Rows = Box<dyn Iterator<Item = Result<Datum, TypeError>> + Send>;
pub type SetReturning = fn(&[Datum], &FunctionCx) -> Result<Rows, TypeError>;

/// The types that a call was resolved to: a `Datum::Text` alone does not say whether it is `json` or `text`.
#[derive(Clone, Copy, Debug)]
pub struct CallTypes<'a> {
    pub args: &'a [Oid],
    pub result: Oid,
}
pub type Typed = fn(&[Datum], CallTypes<'_>, &FunctionCx) -> Result<Datum, TypeError>;
pub type TypedSet = fn(&[Datum], CallTypes<'_>, &FunctionCx) -> Result<Rows, TypeError>;

/// Functions whose variadic type is `any` get their arguments spread out. Other variadic functions always get an
/// array, which the analyzer makes.
#[derive(Clone, Copy)]
pub enum Implementation {
    Scalar(Scalar),
    Set(SetReturning),
    /// Needs the types of its arguments (`to_json`, `concat`, `pg_typeof`, ...).
    Typed(Typed),
    TypedSet(TypedSet),
    /// Needs the session or the catalog: [`Host::call`] dispatches on the function's oid.
    Host,
    HostSet,
}

impl std::fmt::Debug for Implementation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Implementation::Scalar(_) => "Scalar",
            Implementation::Set(_) => "Set",
            Implementation::Typed(_) => "Typed",
            Implementation::TypedSet(_) => "TypedSet",
            Implementation::Host => "Host",
            Implementation::HostSet => "HostSet",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

/// A row of `pg_proc` with its code.
#[derive(Debug)]
pub struct Function {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub returns: Oid,
    pub strict: bool,
    pub volatility: Volatility,
    /// The type of the variadic arguments' elements, or `Oid::INVALID`.
    pub variadic: Oid,
    /// How many trailing arguments may be left out, and their values as SQL text (`pg_start_backup`'s `fast`).
    pub defaults: &'static [&'static str],
    /// Names and types of OUT columns for a function that returns a record.
    pub out: &'static [(&'static str, Oid)],
    pub implementation: Implementation,
}

impl Function {
    pub fn returns_set(&self) -> bool {
        matches!(
            self.implementation,
            Implementation::Set(_) | Implementation::TypedSet(_) | Implementation::HostSet
        )
    }

    /// The types of the rows it gives, if it gives rows.
    pub fn out_types(&self) -> Arc<[Oid]> {
        self.out.iter().map(|(_, ty)| *ty).collect()
    }
}

/// A row of `pg_operator`. A prefix operator has `left == Oid::INVALID`.
#[derive(Debug)]
pub struct Operator {
    pub oid: Oid,
    pub name: &'static str,
    pub left: Oid,
    pub right: Oid,
    pub result: Oid,
    /// The function that computes it.
    pub function: Oid,
    /// `a op b` is `b commutator a`; `Oid::INVALID` if there is none.
    pub commutator: Oid,
    pub negator: Oid,
    /// `oprcanmerge`, `oprcanhash`
    pub can_merge: bool,
    pub can_hash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CastContext {
    Implicit,
    Assignment,
    Explicit,
}

/// A row of `pg_cast`.
#[derive(Debug)]
pub struct Cast {
    pub oid: Oid,
    pub source: Oid,
    pub target: Oid,
    pub context: CastContext,
    pub method: CastMethod,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CastMethod {
    Function(Oid),
    /// The same representation.
    Binary,
    /// Through the text form.
    InOut,
}

/// The running state of one group's aggregate. `update` sees NULLs only if the aggregate is not strict.
pub trait Accumulator: Send {
    fn update(&mut self, args: &[Datum], cx: &FunctionCx) -> Result<(), TypeError>;
    /// What it came to; nothing but dropping it follows.
    fn finish(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError>;
    /// The same of a frame of a window, which goes on: what `finish` uses up is copied.
    fn so_far(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError> {
        self.finish(cx)
    }
    /// Takes the earliest input back, exactly; false: it cannot, and the caller begins anew.
    fn remove(&mut self, _args: &[Datum]) -> bool {
        false
    }
    /// Bytes held beyond the accumulator itself, for memory accounting.
    fn memory(&self) -> usize {
        0
    }
}

/// An aggregate function: a row of `pg_proc` (kind `a`) and of `pg_aggregate`.
#[derive(Debug)]
pub struct Aggregate {
    pub oid: Oid,
    pub name: &'static str,
    /// Empty for `count(*)`.
    pub args: &'static [Oid],
    pub returns: Oid,
    /// NULL arguments are skipped.
    pub strict: bool,
    /// `args` are the types that the call was resolved to.
    pub make: fn(args: &[Oid]) -> Box<dyn Accumulator>,
}
