//! Rows of `pg_aggregate`. Oids and signatures are PostgreSQL 15's.

use super::*;
use crate::types::oids;

macro_rules! aggregates {
    ($($oid:literal $name:literal [$($arg:ident)*] $returns:ident $strict:ident $make:expr;)*) => {
        &[$(Aggregate {
            oid: Oid::new($oid),
            name: $name,
            args: &[$(oids::$arg),*],
            returns: oids::$returns,
            strict: aggregates!(@$strict),
            make: $make,
        }),*]
    };
    (@strict) => { true };
    (@any) => { false };
}

/// Oid, name, arguments, result, whether NULLs are skipped, what makes the accumulator.
pub(super) static AGGREGATES: &[Aggregate] = aggregates! {

};
