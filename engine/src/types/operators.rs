//! The table of operators: `pg_operator`.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::function::Operator;
use crate::types::operator_table::OPERATORS;

static BY_OID: LazyLock<HashMap<Oid, &'static Operator>> =
    LazyLock::new(|| OPERATORS.iter().map(|o| (o.oid, o)).collect());
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Operator>>> = LazyLock::new(|| {
    let mut map: HashMap<&'static str, Vec<&'static Operator>> = HashMap::new();
    for o in OPERATORS {
        map.entry(o.name).or_default().push(o);
    }
    map
});

/// Every operator, in no particular order.
pub fn all() -> &'static [Operator] {
    OPERATORS
}

pub fn named(name: &str) -> &'static [&'static Operator] {
    BY_NAME.get(name).map_or(&[], |list| list.as_slice())
}

pub fn by_oid(oid: Oid) -> Option<&'static Operator> {
    BY_OID.get(&oid).copied()
}
