//! The table of aggregates: `pg_aggregate` and the code behind it.

use crate::ids::Oid;
use crate::types::function::Aggregate;

/// Every aggregate.
pub fn all() -> &'static [Aggregate] {
    &[]
}

pub fn named(_name: &str) -> &'static [&'static Aggregate] {
    unimplemented!("aggregates::named")
}

pub fn by_oid(_oid: Oid) -> Option<&'static Aggregate> {
    unimplemented!("aggregates::by_oid")
}
