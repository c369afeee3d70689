//! The table of casts: `pg_cast`. Casts through the text form that PostgreSQL finds without a row (any type to
//! and from the string types) are not in it: the analyzer makes them by rule.

use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};

use crate::ids::Oid;
use crate::types::cast_table::CASTS;
use crate::types::function::{Cast, CastMethod};

static BY_TYPES: LazyLock<HashMap<(Oid, Oid), &'static Cast>> =
    LazyLock::new(|| CASTS.iter().map(|c| ((c.source, c.target), c)).collect());

static FUNCTIONS: LazyLock<HashSet<Oid>> = LazyLock::new(|| {
    CASTS
        .iter()
        .filter_map(|c| match c.method {
            CastMethod::Function(function) => Some(function),
            _ => None,
        })
        .collect()
});

/// Every cast, length coercions (source equal to target) included.
pub fn all() -> &'static [Cast] {
    CASTS
}

pub fn find(from: Oid, to: Oid) -> Option<&'static Cast> {
    BY_TYPES.get(&(from, to)).copied()
}

/// Whether the function is there to make a cast, or a length coercion, of.
pub fn is_cast(function: Oid) -> bool {
    FUNCTIONS.contains(&function)
}
