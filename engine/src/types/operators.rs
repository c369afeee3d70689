//! The table of operators: `pg_operator`.

use crate::ids::Oid;
use crate::types::function::Operator;

/// Every operator, in no particular order.
pub fn all() -> &'static [Operator] {
    &[]
}

pub fn named(_name: &str) -> &'static [&'static Operator] {
    unimplemented!("operators::named")
}

pub fn by_oid(_oid: Oid) -> Option<&'static Operator> {
    unimplemented!("operators::by_oid")
}
