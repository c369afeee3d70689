//! The built-in types: what `pg_type` says of them, their spellings in SQL, their modifiers.
//!
//! One table serves name lookup, `format_type` and the catalog's `pg_type` rows. It lists only types whose
//! values this engine can read and write, and the pseudo-types that function signatures need.

use std::borrow::Cow;

use crate::ids::Oid;
use crate::types::datum::SqlType;
use crate::types::error::TypeError;

/// A row of `pg_type`. Manual, 52.64.
#[derive(Debug)]
pub struct Type {
    pub oid: Oid,
    pub name: &'static str,
    /// Bytes, -1 for variable length, -2 for a C string.
    pub length: i16,
    pub by_value: bool,
    /// `b` base or `p` pseudo.
    pub kind: u8,
    pub category: u8,
    pub preferred: bool,
    /// Element type of arrays (and of `name`, `int2vector`, ...).
    pub element: Oid,
    /// The type of arrays of it.
    pub array: Oid,
    /// `c`, `s`, `i` or `d`.
    pub align: u8,
    /// `p`, `e`, `m` or `x`.
    pub storage: u8,
    pub input: &'static str,
    pub output: &'static str,
    pub receive: &'static str,
    pub send: &'static str,
    /// Names of the functions that read and print the modifier, empty if it has none.
    pub modifier_in: &'static str,
    pub modifier_out: &'static str,
    /// 0, 100 (default) or 950 (C).
    pub collation: Oid,
    pub subscript: &'static str,
}

pub fn all() -> &'static [Type] {
    unimplemented!("registry::all")
}

pub fn by_oid(_oid: Oid) -> Option<&'static Type> {
    unimplemented!("registry::by_oid")
}

/// By `pg_type.typname` (`int4`, `_text`), not by SQL spelling.
pub fn by_name(_name: &str) -> Option<&'static Type> {
    unimplemented!("registry::by_name")
}

/// A type name as SQL spells it, modifiers and array brackets included: `character varying(10)`, `int[]`,
/// `timestamp(3) with time zone`, `pg_catalog.int4`, `"char"`. Error 42704 if there is no such type.
pub fn parse_type_name(_text: &str) -> Result<SqlType, TypeError> {
    unimplemented!("registry::parse_type_name")
}

/// The modifier that `type(n, ...)` means, checked as PostgreSQL checks it.
pub fn modifier_from(_oid: Oid, _arguments: &[i32]) -> Result<i32, TypeError> {
    unimplemented!("registry::modifier_from")
}

/// `format_type(oid, modifier)` for built-in types; `???` for unknown ones.
pub fn format_type(_ty: SqlType) -> Cow<'static, str> {
    unimplemented!("registry::format_type")
}
