//! The table of functions: `pg_proc` and the code that its rows name.

use crate::ids::Oid;
use crate::types::function::Function;

/// Every function, in no particular order.
pub fn all() -> impl Iterator<Item = &'static Function> {
    std::iter::empty()
}

/// All functions of a name, aggregates apart.
pub fn named(_name: &str) -> &'static [&'static Function] {
    unimplemented!("functions::named")
}

pub fn by_oid(_oid: Oid) -> Option<&'static Function> {
    unimplemented!("functions::by_oid")
}
