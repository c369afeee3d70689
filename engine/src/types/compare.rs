//! Order, equality and hash of values by type, as PostgreSQL's btree and hash operator classes have them.
//!
//! NULLs are the caller's: these functions see only values. A function is fetched once for a column and then
//! called for each row. `hash` agrees with equality: `numeric` 1.0 and 1.00, `float8` 0 and -0, `char(n)` with
//! and without trailing blanks. Values of int2, int4 and int8 that are equal hash alike, and so do float4 and
//! float8, so cross-type hash joins work.

use std::cmp::Ordering;

use crate::ids::Oid;
use crate::types::datum::Datum;

pub type Comparator = fn(&Datum, &Datum) -> Ordering;
pub type Hasher = fn(&Datum) -> u64;

/// `None`: the type has no order (json, xid, ...): 42883 for the caller.
pub fn comparator(_ty: Oid) -> Option<Comparator> {
    unimplemented!("compare::comparator")
}

/// `None`: the type cannot be hashed.
pub fn hasher(_ty: Oid) -> Option<Hasher> {
    unimplemented!("compare::hasher")
}

/// Total order of two values of `ty`; panics if the type has none.
pub fn compare(ty: Oid, a: &Datum, b: &Datum) -> Ordering {
    comparator(ty).expect("the analyzer asked whether the type has an order")(a, b)
}

/// Hash of a value of `ty`; panics if the type has none.
pub fn hash(ty: Oid, value: &Datum) -> u64 {
    hasher(ty).expect("the analyzer asked whether the type can be hashed")(value)
}
