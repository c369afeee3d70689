//! Building rows of system tables by column name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::oids;

/// Makes rows of one table. A column that is not set is NULL, or the zero of its type where it is NOT NULL.
pub struct RowBuilder {
    positions: HashMap<String, usize>,
    empty: Vec<Datum>,
    row: Vec<Datum>,
}

impl RowBuilder {
    pub fn new(relation: &Relation) -> RowBuilder {
        let empty: Vec<Datum> = relation
            .columns
            .iter()
            .map(|c| {
                if c.not_null {
                    zero(c.ty.oid)
                } else {
                    Datum::Null
                }
            })
            .collect();
        let positions = relation
            .columns
            .iter()
            .enumerate()
            .map(|(at, c)| (c.name.clone(), at))
            .collect();
        RowBuilder {
            positions,
            row: empty.clone(),
            empty,
        }
    }

    pub fn set(&mut self, column: &str, value: impl IntoDatum) -> &mut RowBuilder {
        let at = self.positions.get(column).copied();
        self.row[at.unwrap_or_else(|| panic!("the table has no column {column}"))] =
            value.into_datum();
        self
    }

    /// The row as set, and a fresh start.
    pub fn take(&mut self) -> Vec<Datum> {
        std::mem::replace(&mut self.row, self.empty.clone())
    }
}

fn zero(ty: Oid) -> Datum {
    match ty {
        oids::BOOL => Datum::Bool(false),
        oids::INT2 => Datum::Int2(0),
        oids::INT4 => Datum::Int4(0),
        oids::INT8 => Datum::Int8(0),
        oids::FLOAT4 => Datum::Float4(0.0),
        oids::OID | oids::REGPROC | oids::REGTYPE => Datum::Oid(Oid::INVALID),
        oids::CHAR => Datum::Char(0),
        oids::XID => Datum::Xid(0),
        oids::BYTEA => Datum::Bytea(Arc::from([])),
        oids::OIDVECTOR => oid_vector(&[]),
        oids::INT2VECTOR => vector(oids::INT2, Vec::new()),
        _ => Datum::text(""),
    }
}

/// `oidvector`: an array that counts from 0.
pub fn oid_vector(items: &[Oid]) -> Datum {
    vector(
        oids::OID,
        items.iter().map(|oid| Datum::Oid(*oid)).collect(),
    )
}

fn vector(element: Oid, items: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(Array {
        element,
        // One dimension even if it is empty, unlike other arrays (`buildoidvector`).
        dimensions: vec![(items.len(), 0)],
        items,
    }))
}

/// A one-dimensional array that counts from 1.
pub fn array(element: Oid, items: Vec<Datum>) -> Datum {
    let dimensions = if items.is_empty() {
        vec![]
    } else {
        vec![(items.len(), 1)]
    };
    Datum::Array(Arc::new(Array {
        element,
        dimensions,
        items,
    }))
}

/// What can stand in a column.
pub trait IntoDatum {
    fn into_datum(self) -> Datum;
}

macro_rules! into_datum {
    ($($ty:ty => |$v:ident| $datum:expr;)*) => {
        $(impl IntoDatum for $ty {
            fn into_datum(self) -> Datum {
                let $v = self;
                $datum
            }
        })*
    };
}
into_datum! {
    Datum => |v| v;
    bool => |v| Datum::Bool(v);
    i16 => |v| Datum::Int2(v);
    i32 => |v| Datum::Int4(v);
    i64 => |v| Datum::Int8(v);
    f32 => |v| Datum::Float4(v);
    f64 => |v| Datum::Float8(v);
    u8 => |v| Datum::Char(v);
    Oid => |v| Datum::Oid(v);
    &str => |v| Datum::text(v);
    String => |v| Datum::Text(Arc::from(v));
    crate::ids::Lsn => |v| if v.is_valid() { Datum::Lsn(v) } else { Datum::Null };
}

impl<T: IntoDatum> IntoDatum for Option<T> {
    fn into_datum(self) -> Datum {
        self.map_or(Datum::Null, T::into_datum)
    }
}

/// Microseconds since 2000-01-01 UTC, as `timestamptz`.
pub struct Timestamp(pub i64);

impl IntoDatum for Timestamp {
    fn into_datum(self) -> Datum {
        Datum::TimestampTz(self.0)
    }
}
