//! The rows of `pg_proc`, one file for each implementing module.

use crate::ids::Oid;
use crate::types::function::Function;
use crate::types::function::Volatility;

// tables begin
mod array_functions;
mod clock;
mod datetime;
mod extract;
mod float;
mod host;
mod integer;
mod json_build;
mod json_ops;
mod like;
mod make_time;
mod misc;
mod numeric;
mod own;
mod regexp;
mod series;
mod strings;
mod text;
mod to_char;
mod to_date;
mod to_number;
mod truncate;

pub(super) static TABLES: &[&[Function]] = &[
    array_functions::ROWS,
    clock::ROWS,
    datetime::ROWS,
    extract::ROWS,
    float::ROWS,
    host::ROWS,
    integer::ROWS,
    json_build::ROWS,
    json_ops::ROWS,
    like::ROWS,
    make_time::ROWS,
    misc::ROWS,
    numeric::ROWS,
    regexp::ROWS,
    series::ROWS,
    strings::ROWS,
    text::ROWS,
    to_char::ROWS,
    to_date::ROWS,
    to_number::ROWS,
    truncate::ROWS,
    own::ROWS,
];
// tables end

/// Strict, volatility.
type Flags = (bool, Volatility);
const I: Flags = (false, Volatility::Immutable);
const IS: Flags = (true, Volatility::Immutable);
const S: Flags = (false, Volatility::Stable);
const SS: Flags = (true, Volatility::Stable);
const V: Flags = (false, Volatility::Volatile);
const VS: Flags = (true, Volatility::Volatile);

/// Oid, name, arguments, result, flags, implementation; then what few functions have.
macro_rules! functions {
    ($($oid:literal $name:literal [$($arg:ident)*] $returns:ident $flags:ident => $imp:ident $(($path:path))?
       $(variadic $variadic:ident)? $(defaults [$($default:literal)*])? $(out [$($out:literal $out_type:ident)*])?;)*) => {
        &[$(Function {
            oid: crate::ids::Oid::new($oid),
            name: $name,
            args: &[$(crate::types::oids::$arg),*],
            returns: crate::types::oids::$returns,
            strict: super::$flags.0,
            volatility: super::$flags.1,
            variadic: super::or_none(&[$(crate::types::oids::$variadic)?]),
            defaults: &[$($($default),*)?],
            out: &[$($(($out, crate::types::oids::$out_type)),*)?],
            implementation: crate::types::function::Implementation::$imp $(($path))?,
        }),*]
    };
}
use functions;

/// Rows that only casts and the analyzer name.
pub(super) fn hidden() -> &'static [Function] {
    own::HIDDEN
}

const fn or_none(given: &[Oid]) -> Oid {
    match given {
        [oid] => *oid,
        _ => Oid::INVALID,
    }
}
