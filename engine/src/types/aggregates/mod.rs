//! The table of aggregates: `pg_aggregate` and the code behind it.
//!
//! A maker has the name of its aggregate, with the type of the first argument behind it where types differ in code.

mod basic;
mod collect;
mod statistics;
mod sums;
mod table;

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::function::Aggregate;

static BY_OID: LazyLock<HashMap<Oid, &'static Aggregate>> =
    LazyLock::new(|| all().iter().map(|a| (a.oid, a)).collect());
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Aggregate>>> = LazyLock::new(|| {
    let mut map: HashMap<&'static str, Vec<&'static Aggregate>> = HashMap::new();
    for a in all() {
        map.entry(a.name).or_default().push(a);
    }
    map
});

/// Every aggregate.
pub fn all() -> &'static [Aggregate] {
    table::AGGREGATES
}

pub fn named(name: &str) -> &'static [&'static Aggregate] {
    BY_NAME.get(name).map_or(&[], |list| list.as_slice())
}

pub fn by_oid(oid: Oid) -> Option<&'static Aggregate> {
    BY_OID.get(&oid).copied()
}
