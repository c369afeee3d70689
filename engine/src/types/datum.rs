//! A value of any SQL type, as it travels between expressions.
//!
//! Cheap to clone: at most a reference count. The type is *not* in the value (a `Datum::Text` may be a `text`,
//! a `varchar` or a `name`): the expression that made it knows. Of what is within an array or a row no expression
//! knows, so these carry the types of their parts. Numbers of days and microseconds count from
//! 2000-01-01 00:00:00 UTC, as in PostgreSQL's binary wire format.

use std::sync::Arc;

use crate::ids::{Lsn, Oid, Tid};
use crate::types::acl::AclItem;
use crate::types::array::Array;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::record::Record;

/// A type and its modifier: length for `varchar(n)` (plus 4), precision and scale for `numeric`, or -1.
/// Source: PostgreSQL 15 manual, `pg_attribute.atttypmod`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SqlType {
    pub oid: Oid,
    pub modifier: i32,
}

impl SqlType {
    pub const fn plain(oid: Oid) -> SqlType {
        SqlType { oid, modifier: -1 }
    }
}

#[derive(Clone, Debug)]
pub enum Datum {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Arc<Numeric>),
    /// `text`, `varchar`, `char(n)` (padding blanks included), `name`, `json` and `unknown` literals.
    Text(Arc<str>),
    /// The internal one-byte type `"char"`.
    Char(u8),
    Bytea(Arc<[u8]>),
    /// Days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since midnight, and the zone in seconds *west* of Greenwich.
    TimeTz(i64, i32),
    /// Microseconds since 2000-01-01 00:00:00; `i64::MIN` and `i64::MAX` are the infinities.
    Timestamp(i64),
    /// The same, in UTC.
    TimestampTz(i64),
    Interval(Arc<Interval>),
    Uuid([u8; 16]),
    Jsonb(Arc<serde_json::Value>),
    /// `oid` and the alias types `regclass`, `regtype`, `regproc`, ...
    Oid(Oid),
    /// 32-bit transaction or command id (`xid`, `cid`).
    Xid(u32),
    /// `xid8`
    Xid8(u64),
    Tid(Tid),
    Lsn(Lsn),
    AclItem(AclItem),
    Array(Arc<Array>),
    Record(Arc<Record>),
    Void,
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }
    pub fn text(s: &str) -> Datum {
        Datum::Text(Arc::from(s))
    }
}
