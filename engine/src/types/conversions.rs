//! The functions that `pg_type` names: text and binary input and output, modifiers, subscripts; and the few that `pg_am` and
//! `pg_language` name.
//!
//! They are part of their types here, and no call reaches them; but drivers join `pg_type` with `pg_proc` to find out what a
//! type is (Npgsql takes for an array what `array_recv` reads), and people print their names. Those that can also be called
//! are in `functions`.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::conversion_table::CONVERSIONS;
use crate::types::functions;

/// A row of `pg_proc`. Manual, 52.39.
#[derive(Debug)]
pub struct Conversion {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub returns: Oid,
    pub strict: bool,
    /// `i` or `s`.
    pub volatile: u8,
}

static BY_OID: LazyLock<HashMap<Oid, &'static Conversion>> =
    LazyLock::new(|| CONVERSIONS.iter().map(|c| (c.oid, c)).collect());
static BY_NAME: LazyLock<HashMap<&'static str, &'static Conversion>> =
    LazyLock::new(|| CONVERSIONS.iter().map(|c| (c.name, c)).collect());

pub fn all() -> &'static [Conversion] {
    CONVERSIONS
}

/// Their names are their own.
pub fn named(name: &str) -> Option<&'static Conversion> {
    BY_NAME.get(name).copied()
}

pub fn by_oid(oid: Oid) -> Option<&'static Conversion> {
    BY_OID.get(&oid).copied()
}

/// What stands in `pg_type` for this name: also of those that can be called. 0 for an empty one.
pub fn oid_of(name: &str) -> Oid {
    let called = || functions::named(name).first().map(|f| f.oid);
    let own = named(name).map(|c| c.oid);
    own.or_else(called).unwrap_or(Oid::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::registry;

    #[test]
    fn every_type_has_its_functions_and_no_row_stands_twice() {
        for ty in registry::all() {
            let io = [ty.input, ty.output, ty.receive, ty.send];
            for name in io
                .into_iter()
                .chain([ty.modifier_in, ty.modifier_out, ty.subscript])
            {
                let is_known = name.is_empty() || oid_of(name).is_valid();
                assert!(is_known, "{name} of {}", ty.name);
            }
        }
        assert_eq!(BY_OID.len(), CONVERSIONS.len());
        assert_eq!(BY_NAME.len(), CONVERSIONS.len());
        let twice = CONVERSIONS
            .iter()
            .find(|c| functions::by_oid(c.oid).is_some() || !functions::named(c.name).is_empty());
        assert!(twice.is_none(), "{twice:?}");
    }
}
