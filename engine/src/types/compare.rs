//! Order, equality and hash of values by type, as PostgreSQL's btree and hash operator classes have them.
//!
//! NULLs are the caller's: these functions see only values. A function is fetched once for a column and then
//! called for each row. `hash` agrees with equality: `numeric` 1.0 and 1.00, `float8` 0 and -0, `char(n)` with
//! and without trailing blanks. Values of int2, int4 and int8 that are equal hash alike, and so do float4 and
//! float8, so cross-type hash joins work.
//!
//! Arrays and rows are compared part by part (`nested`), in a total order here, which sorts and hash tables need, and with
//! PostgreSQL's refusals where an operator or a function asks.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher as _};

use hashbrown::DefaultHashBuilder;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::functions::call::{Arg, wrong_kind};
use crate::types::interval::Interval;
use crate::types::record::Record;
use crate::types::{json, oids, registry};

mod nested;

pub(crate) use nested::{
    Asked, compare_arrays, compare_vectors, order_of_arrays, order_of_records,
};

pub type Comparator = fn(&Datum, &Datum) -> Ordering;
pub type Hasher = fn(&Datum) -> u64;

/// NaN is the highest and equal to itself; -0 equals 0.
pub(crate) fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
pub(crate) fn compare_f32(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// `char(n)` without the blanks that do not count.
pub(crate) fn unpadded(text: &str) -> &str {
    text.trim_end_matches(' ')
}

/// By the instant they name, then by the zone (the western one is larger).
pub(crate) fn compare_timetz(a: (i64, i32), b: (i64, i32)) -> Ordering {
    let utc = |(micros, west): (i64, i32)| micros + i64::from(west) * 1_000_000;
    utc(a).cmp(&utc(b)).then(a.1.cmp(&b.1))
}

/// Makes a comparison of datums of one variant.
macro_rules! by_variant {
    ($name:ident, $variant:ident) => {
        fn $name(a: &Datum, b: &Datum) -> Ordering {
            match (a, b) {
                (Datum::$variant(x), Datum::$variant(y)) => x.cmp(y),
                (Datum::$variant(_), other) | (other, _) => wrong_kind(stringify!($variant), other),
            }
        }
    };
}
by_variant!(bools, Bool);
by_variant!(int2s, Int2);
by_variant!(int4s, Int4);
by_variant!(int8s, Int8);
by_variant!(numerics, Numeric);
by_variant!(chars, Char);
by_variant!(byteas, Bytea);
by_variant!(dates, Date);
by_variant!(times, Time);
by_variant!(timestamps, Timestamp);
by_variant!(timestamptzs, TimestampTz);
by_variant!(uuids, Uuid);
by_variant!(oid_values, Oid);
by_variant!(xid8s, Xid8);
by_variant!(tids, Tid);
by_variant!(lsns, Lsn);

fn texts(a: &Datum, b: &Datum) -> Ordering {
    <&str>::get(a).as_bytes().cmp(<&str>::get(b).as_bytes())
}
fn bpchars(a: &Datum, b: &Datum) -> Ordering {
    unpadded(<&str>::get(a))
        .as_bytes()
        .cmp(unpadded(<&str>::get(b)).as_bytes())
}
fn float4s(a: &Datum, b: &Datum) -> Ordering {
    compare_f32(f32::get(a), f32::get(b))
}
fn float8s(a: &Datum, b: &Datum) -> Ordering {
    compare_f64(f64::get(a), f64::get(b))
}
fn intervals(a: &Datum, b: &Datum) -> Ordering {
    <&Interval>::get(a).compare(<&Interval>::get(b))
}
fn timetzs(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::TimeTz(s, y), Datum::TimeTz(t, z)) => compare_timetz((*s, *y), (*t, *z)),
        (Datum::TimeTz(..), other) | (other, _) => wrong_kind("TimeTz", other),
    }
}
fn jsonbs(a: &Datum, b: &Datum) -> Ordering {
    json::compare::compare(<&serde_json::Value>::get(a), <&serde_json::Value>::get(b))
}
fn arrays(a: &Datum, b: &Datum) -> Ordering {
    compare_arrays(<&Array>::get(a), <&Array>::get(b))
}
fn vectors(a: &Datum, b: &Datum) -> Ordering {
    compare_vectors(<&Array>::get(a), <&Array>::get(b))
}
fn records(a: &Datum, b: &Datum) -> Ordering {
    nested::compare_records(<&Record>::get(a), <&Record>::get(b))
}
/// `xid`, `cid` and `aclitem` have equality only; these orders serve hashing's equality test.
fn xids(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Xid(x), Datum::Xid(y)) => x.cmp(y),
        (Datum::Xid(_), other) | (other, _) => wrong_kind("Xid", other),
    }
}

fn acl_items(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::AclItem(x), Datum::AclItem(y)) => x.to_bytes().cmp(&y.to_bytes()),
        (Datum::AclItem(_), other) | (other, _) => wrong_kind("AclItem", other),
    }
}

/// `None`: the type has no order (json, xid, ...): 42883 for the caller.
pub fn comparator(ty: Oid) -> Option<Comparator> {
    Some(match ty {
        oids::BOOL => bools,
        oids::INT2 => int2s,
        oids::INT4 => int4s,
        oids::INT8 => int8s,
        oids::FLOAT4 => float4s,
        oids::FLOAT8 => float8s,
        oids::NUMERIC => numerics,
        oids::TEXT | oids::VARCHAR | oids::NAME | oids::UNKNOWN | oids::CSTRING => texts,
        oids::BPCHAR => bpchars,
        oids::CHAR => chars,
        oids::BYTEA => byteas,
        oids::DATE => dates,
        oids::TIME => times,
        oids::TIMETZ => timetzs,
        oids::TIMESTAMP => timestamps,
        oids::TIMESTAMPTZ => timestamptzs,
        oids::INTERVAL => intervals,
        oids::UUID => uuids,
        oids::JSONB => jsonbs,
        oids::OID
        | oids::REGCLASS
        | oids::REGTYPE
        | oids::REGPROC
        | oids::REGPROCEDURE
        | oids::REGOPER
        | oids::REGOPERATOR
        | oids::REGNAMESPACE
        | oids::REGROLE => oid_values,
        oids::XID8 => xid8s,
        oids::TID => tids,
        oids::PG_LSN => lsns,
        oids::RECORD => records,
        oids::OIDVECTOR => vectors,
        oids::INT2VECTOR => arrays,
        other => {
            comparator(registry::element_of(other)?)?;
            arrays
        }
    })
}

/// Equality for hash tables: the comparators' and, for types with equality alone, theirs.
pub fn equality(ty: Oid) -> Option<Comparator> {
    match ty {
        oids::XID | oids::CID => Some(xids),
        oids::ACLITEM => Some(acl_items),
        ty => comparator(ty).or_else(|| equality(registry::element_of(ty)?).map(|_| arrays as _)),
    }
}

/// One builder with fixed keys: equal values of different columns must hash alike.
fn finish(feed: impl FnOnce(&mut <DefaultHashBuilder as BuildHasher>::Hasher)) -> u64 {
    use std::sync::LazyLock;
    static BUILDER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    let mut state = BUILDER.build_hasher();
    feed(&mut state);
    state.finish()
}

fn hash_integer(v: i64) -> u64 {
    finish(|s| v.hash(s))
}
fn hash_float(v: f64) -> u64 {
    // All NaNs are equal, and so are the zeros.
    let bits = if v.is_nan() {
        f64::NAN.to_bits()
    } else if v == 0.0 {
        0
    } else {
        v.to_bits()
    };
    finish(|s| bits.hash(s))
}
fn hash_bytes(bytes: &[u8]) -> u64 {
    finish(|s| bytes.hash(s))
}

fn hash_plain(value: &Datum) -> u64 {
    match value {
        Datum::Bool(v) => finish(|s| v.hash(s)),
        Datum::Int2(v) => hash_integer(i64::from(*v)),
        Datum::Int4(v) => hash_integer(i64::from(*v)),
        Datum::Int8(v) => hash_integer(*v),
        Datum::Float4(v) => hash_float(f64::from(*v)),
        Datum::Float8(v) => hash_float(*v),
        Datum::Numeric(v) => finish(|s| v.hash(s)),
        Datum::Text(v) => hash_bytes(v.as_bytes()),
        Datum::Char(v) => finish(|s| v.hash(s)),
        Datum::Bytea(v) => hash_bytes(v),
        Datum::Date(v) => hash_integer(i64::from(*v)),
        Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => hash_integer(*v),
        Datum::TimeTz(t, west) => finish(|s| (t, west).hash(s)),
        Datum::Interval(v) => finish(|s| v.span().hash(s)),
        Datum::Uuid(v) => finish(|s| v.hash(s)),
        Datum::Jsonb(v) => finish(|s| json::compare::hash(v, s)),
        Datum::Oid(v) => hash_integer(i64::from(v.raw())),
        Datum::Xid(v) => hash_integer(i64::from(*v)),
        Datum::Xid8(v) => finish(|s| v.hash(s)),
        Datum::Tid(v) => finish(|s| v.hash(s)),
        Datum::Lsn(v) => finish(|s| v.hash(s)),
        Datum::AclItem(v) => finish(|s| v.hash(s)),
        Datum::Array(v) => hash_items(v.element, &v.items),
        Datum::Record(v) => v.typed().fold(1, |h, (ty, i)| {
            let by_type = hasher(ty).unwrap_or(hash_plain);
            mix(h, if i.is_null() { 0 } else { by_type(i) })
        }),
        Datum::Null | Datum::Void => 0,
    }
}
fn mix(seed: u64, next: u64) -> u64 {
    seed.rotate_left(5).wrapping_mul(31).wrapping_add(next)
}
fn hash_items(element: Oid, items: &[Datum]) -> u64 {
    let by_type = hasher(element).unwrap_or(hash_plain);
    items
        .iter()
        .fold(1, |h, i| mix(h, if i.is_null() { 0 } else { by_type(i) }))
}
fn hash_bpchar(value: &Datum) -> u64 {
    hash_bytes(unpadded(<&str>::get(value)).as_bytes())
}

/// `None`: the type cannot be hashed.
pub fn hasher(ty: Oid) -> Option<Hasher> {
    match ty {
        oids::BPCHAR => Some(hash_bpchar),
        oids::XID | oids::CID | oids::ACLITEM => Some(hash_plain),
        ty => comparator(ty).map(|_| hash_plain as Hasher),
    }
}

/// Total order of two values of `ty`; panics if the type has none.
pub fn compare(ty: Oid, a: &Datum, b: &Datum) -> Ordering {
    comparator(ty).expect("the analyzer asked whether the type has an order")(a, b)
}

/// Hash of a value of `ty`; panics if the type has none.
pub fn hash(ty: Oid, value: &Datum) -> u64 {
    hasher(ty).expect("the analyzer asked whether the type can be hashed")(value)
}
