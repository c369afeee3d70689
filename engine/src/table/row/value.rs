//! Single values: storage classes, their bytes, and the self-describing form.
//!
//! The self-describing ("tagged") form is used for types without a class of their own (arrays, records) and by
//! anyone who has values but no types, such as spill files: one tag byte, then the bytes of the class.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::ids::{BlockNumber, Lsn, OffsetNumber, Oid, Tid};
use crate::types::acl::AclItem;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::record::Record;
use crate::types::{json, oids};

/// How a type is stored. The numbers are the tags of the tagged form, so they are part of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    Bool = 1,
    Int2 = 2,
    Int4 = 3,
    Int8 = 4,
    Float4 = 5,
    Float8 = 6,
    Char = 7,
    Date = 8,
    Time = 9,
    TimeTz = 10,
    Timestamp = 11,
    TimestampTz = 12,
    Interval = 13,
    Uuid = 14,
    Oid = 15,
    Xid = 16,
    Xid8 = 17,
    Tid = 18,
    Lsn = 19,
    AclItem = 20,
    Text = 32,
    Bytea = 33,
    Numeric = 34,
    Jsonb = 35,
    Array = 36,
    Record = 37,
    /// The tagged form within a variable-length value.
    Tagged = 64,
}

const TAG_NULL: u8 = 0;
const TAG_VOID: u8 = 63;
/// Arrays of records of arrays ...: more than any real type has.
const MAX_DEPTH: u8 = 24;

impl Class {
    pub fn of(ty: Oid) -> Class {
        match ty {
            oids::BOOL => Class::Bool,
            oids::INT2 => Class::Int2,
            oids::INT4 => Class::Int4,
            oids::INT8 => Class::Int8,
            oids::FLOAT4 => Class::Float4,
            oids::FLOAT8 => Class::Float8,
            oids::CHAR => Class::Char,
            oids::DATE => Class::Date,
            oids::TIME => Class::Time,
            oids::TIMETZ => Class::TimeTz,
            oids::TIMESTAMP => Class::Timestamp,
            oids::TIMESTAMPTZ => Class::TimestampTz,
            oids::INTERVAL => Class::Interval,
            oids::UUID => Class::Uuid,
            oids::OID
            | oids::REGPROC
            | oids::REGPROCEDURE
            | oids::REGOPER
            | oids::REGOPERATOR
            | oids::REGCLASS
            | oids::REGTYPE
            | oids::REGNAMESPACE
            | oids::REGROLE => Class::Oid,
            oids::XID | oids::CID => Class::Xid,
            oids::XID8 => Class::Xid8,
            oids::TID => Class::Tid,
            oids::PG_LSN => Class::Lsn,
            oids::ACLITEM => Class::AclItem,
            oids::TEXT | oids::VARCHAR | oids::BPCHAR | oids::NAME | oids::JSON => Class::Text,
            oids::BYTEA => Class::Bytea,
            oids::NUMERIC => Class::Numeric,
            oids::JSONB => Class::Jsonb,
            _ => Class::Tagged,
        }
    }

    fn of_datum(value: &Datum) -> Option<Class> {
        Some(match value {
            Datum::Null | Datum::Void => return None,
            Datum::Bool(_) => Class::Bool,
            Datum::Int2(_) => Class::Int2,
            Datum::Int4(_) => Class::Int4,
            Datum::Int8(_) => Class::Int8,
            Datum::Float4(_) => Class::Float4,
            Datum::Float8(_) => Class::Float8,
            Datum::Numeric(_) => Class::Numeric,
            Datum::Text(_) => Class::Text,
            Datum::Char(_) => Class::Char,
            Datum::Bytea(_) => Class::Bytea,
            Datum::Date(_) => Class::Date,
            Datum::Time(_) => Class::Time,
            Datum::TimeTz(..) => Class::TimeTz,
            Datum::Timestamp(_) => Class::Timestamp,
            Datum::TimestampTz(_) => Class::TimestampTz,
            Datum::Interval(_) => Class::Interval,
            Datum::Uuid(_) => Class::Uuid,
            Datum::Jsonb(_) => Class::Jsonb,
            Datum::Oid(_) => Class::Oid,
            Datum::Xid(_) => Class::Xid,
            Datum::Xid8(_) => Class::Xid8,
            Datum::Tid(_) => Class::Tid,
            Datum::Lsn(_) => Class::Lsn,
            Datum::AclItem(_) => Class::AclItem,
            Datum::Array(_) => Class::Array,
            Datum::Record(_) => Class::Record,
        })
    }

    fn from_tag(tag: u8) -> Option<Class> {
        const ALL: [Class; 26] = [
            Class::Bool,
            Class::Int2,
            Class::Int4,
            Class::Int8,
            Class::Float4,
            Class::Float8,
            Class::Char,
            Class::Date,
            Class::Time,
            Class::TimeTz,
            Class::Timestamp,
            Class::TimestampTz,
            Class::Interval,
            Class::Uuid,
            Class::Oid,
            Class::Xid,
            Class::Xid8,
            Class::Tid,
            Class::Lsn,
            Class::AclItem,
            Class::Text,
            Class::Bytea,
            Class::Numeric,
            Class::Jsonb,
            Class::Array,
            Class::Record,
        ];
        ALL.into_iter().find(|c| *c as u8 == tag)
    }

    /// Bytes of a fixed-width class.
    #[inline]
    pub const fn width(self) -> Option<usize> {
        Some(match self {
            Class::Bool | Class::Char => 1,
            Class::Int2 => 2,
            Class::Int4 | Class::Float4 | Class::Date | Class::Oid | Class::Xid => 4,
            Class::Int8
            | Class::Float8
            | Class::Time
            | Class::Timestamp
            | Class::TimestampTz
            | Class::Xid8
            | Class::Lsn => 8,
            Class::Tid => 6,
            Class::TimeTz | Class::AclItem => 12,
            Class::Interval | Class::Uuid => 16,
            Class::Text
            | Class::Bytea
            | Class::Numeric
            | Class::Jsonb
            | Class::Array
            | Class::Record
            | Class::Tagged => return None,
        })
    }
}

/// Appends the bytes of a value of the class, without a length. False: the value is not of the class.
pub(super) fn put(class: Class, value: &Datum, out: &mut Vec<u8>) -> bool {
    match (class, value) {
        (Class::Bool, Datum::Bool(v)) => out.push(u8::from(*v)),
        (Class::Char, Datum::Char(v)) => out.push(*v),
        (Class::Int2, Datum::Int2(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::Int4, Datum::Int4(v)) | (Class::Date, Datum::Date(v)) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        (Class::Int8, Datum::Int8(v))
        | (Class::Time, Datum::Time(v))
        | (Class::Timestamp, Datum::Timestamp(v))
        | (Class::TimestampTz, Datum::TimestampTz(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::Float4, Datum::Float4(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::Float8, Datum::Float8(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::TimeTz, Datum::TimeTz(time, zone)) => {
            out.extend_from_slice(&time.to_le_bytes());
            out.extend_from_slice(&zone.to_le_bytes());
        }
        (Class::Interval, Datum::Interval(v)) => {
            out.extend_from_slice(&v.micros.to_le_bytes());
            out.extend_from_slice(&v.days.to_le_bytes());
            out.extend_from_slice(&v.months.to_le_bytes());
        }
        (Class::Uuid, Datum::Uuid(v)) => out.extend_from_slice(v),
        (Class::Oid, Datum::Oid(v)) => out.extend_from_slice(&v.raw().to_le_bytes()),
        (Class::Xid, Datum::Xid(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::Xid8, Datum::Xid8(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Class::Tid, Datum::Tid(v)) => {
            out.extend_from_slice(&v.block.raw().to_le_bytes());
            out.extend_from_slice(&v.offset.raw().to_le_bytes());
        }
        (Class::Lsn, Datum::Lsn(v)) => out.extend_from_slice(&v.raw().to_le_bytes()),
        (Class::AclItem, Datum::AclItem(v)) => out.extend_from_slice(&v.to_bytes()),
        (Class::Text, Datum::Text(v)) => out.extend_from_slice(v.as_bytes()),
        (Class::Bytea, Datum::Bytea(v)) => out.extend_from_slice(v),
        (Class::Numeric, Datum::Numeric(v)) => put_numeric(v, out),
        // Text rather than a tree of our own: it keeps numbers and key order exactly as they are.
        (Class::Jsonb, Datum::Jsonb(v)) => out.extend_from_slice(v.to_string().as_bytes()),
        (Class::Array, Datum::Array(v)) => put_array(v, out),
        (Class::Record, Datum::Record(v)) => {
            put_count(v.types().len(), out);
            for ty in v.types() {
                out.extend_from_slice(&ty.raw().to_le_bytes());
            }
            v.fields().iter().for_each(|f| encode_tagged(f, out));
        }
        (Class::Tagged, value) => encode_tagged(value, out),
        _ => return false,
    }
    true
}

fn put_numeric(value: &Numeric, out: &mut Vec<u8>) {
    match value {
        Numeric::NaN => out.push(0),
        Numeric::Infinity => out.push(1),
        Numeric::NegInfinity => out.push(2),
        Numeric::Finite { unscaled, scale } => {
            out.push(3);
            out.extend_from_slice(&(*scale as u16).to_le_bytes());
            if let Some(small) = unscaled.to_i64() {
                let bytes = small.to_le_bytes();
                let sign = if small < 0 { 0xFF } else { 0 };
                let mut len = 8;
                // The last byte kept must still show the sign.
                while len > 1 && bytes[len - 1] == sign && (bytes[len - 2] ^ sign) & 0x80 == 0 {
                    len -= 1;
                }
                out.extend_from_slice(&bytes[..len]);
            } else {
                out.extend_from_slice(&unscaled.to_signed_bytes_le());
            }
        }
    }
}

fn put_count(n: usize, out: &mut Vec<u8>) {
    let n = u32::try_from(n).expect("values hold fewer than 2^32 items");
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_array(array: &Array, out: &mut Vec<u8>) {
    out.extend_from_slice(&array.element.raw().to_le_bytes());
    out.push(array.dimensions.len() as u8);
    for (len, lower) in &array.dimensions {
        put_count(*len, out);
        out.extend_from_slice(&lower.to_le_bytes());
    }
    put_count(array.items.len(), out);
    array.items.iter().for_each(|item| encode_tagged(item, out));
}

/// Appends the self-describing form.
pub fn encode_tagged(value: &Datum, out: &mut Vec<u8>) {
    let Some(class) = Class::of_datum(value) else {
        out.push(if value.is_null() { TAG_NULL } else { TAG_VOID });
        return;
    };
    out.push(class as u8);
    let length_at = out.len();
    if class.width().is_none() {
        out.extend_from_slice(&[0; 4]);
    }
    let fits = put(class, value, out);
    debug_assert!(fits, "a value is always of its own class");
    if class.width().is_none() {
        let len = u32::try_from(out.len() - length_at - 4).expect("values are below 4 GiB");
        out[length_at..length_at + 4].copy_from_slice(&len.to_le_bytes());
    }
}

/// Reads one self-describing value off the front.
pub fn decode_tagged(bytes: &mut &[u8]) -> Result<Datum, &'static str> {
    tagged(bytes, 0)
}

fn tagged(bytes: &mut &[u8], depth: u8) -> Result<Datum, &'static str> {
    if depth > MAX_DEPTH {
        return Err("value is nested too deeply");
    }
    let tag = take(bytes, 1)?[0];
    match tag {
        TAG_NULL => return Ok(Datum::Null),
        TAG_VOID => return Ok(Datum::Void),
        _ => {}
    }
    let class = Class::from_tag(tag).ok_or("unknown value tag")?;
    let len = match class.width() {
        Some(width) => width,
        None => u32::from_le_bytes(array(bytes)?) as usize,
    };
    get_nested(class, take(bytes, len)?, depth + 1)
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], &'static str> {
    let (head, rest) = bytes.split_at_checked(n).ok_or("value is cut short")?;
    *bytes = rest;
    Ok(head)
}
fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or("value is cut short")?;
    *bytes = rest;
    Ok(*head)
}
fn whole<const N: usize>(bytes: &[u8]) -> Result<[u8; N], &'static str> {
    bytes.try_into().map_err(|_| "value has a wrong length")
}

/// The value with these bytes.
#[inline]
pub(super) fn get(class: Class, bytes: &[u8]) -> Result<Datum, &'static str> {
    get_nested(class, bytes, 0)
}

fn get_nested(class: Class, bytes: &[u8], depth: u8) -> Result<Datum, &'static str> {
    Ok(match class {
        Class::Bool => Datum::Bool(whole::<1>(bytes)?[0] != 0),
        Class::Char => Datum::Char(whole::<1>(bytes)?[0]),
        Class::Int2 => Datum::Int2(i16::from_le_bytes(whole(bytes)?)),
        Class::Int4 => Datum::Int4(i32::from_le_bytes(whole(bytes)?)),
        Class::Int8 => Datum::Int8(i64::from_le_bytes(whole(bytes)?)),
        Class::Float4 => Datum::Float4(f32::from_le_bytes(whole(bytes)?)),
        Class::Float8 => Datum::Float8(f64::from_le_bytes(whole(bytes)?)),
        Class::Date => Datum::Date(i32::from_le_bytes(whole(bytes)?)),
        Class::Time => Datum::Time(i64::from_le_bytes(whole(bytes)?)),
        Class::Timestamp => Datum::Timestamp(i64::from_le_bytes(whole(bytes)?)),
        Class::TimestampTz => Datum::TimestampTz(i64::from_le_bytes(whole(bytes)?)),
        Class::TimeTz => {
            let mut rest = bytes;
            let time = i64::from_le_bytes(array(&mut rest)?);
            Datum::TimeTz(time, i32::from_le_bytes(whole(rest)?))
        }
        Class::Interval => {
            let mut rest = bytes;
            let micros = i64::from_le_bytes(array(&mut rest)?);
            let days = i32::from_le_bytes(array(&mut rest)?);
            let months = i32::from_le_bytes(whole(rest)?);
            Datum::Interval(Arc::new(Interval {
                months,
                days,
                micros,
            }))
        }
        Class::Uuid => Datum::Uuid(whole(bytes)?),
        Class::Oid => Datum::Oid(Oid::new(u32::from_le_bytes(whole(bytes)?))),
        Class::Xid => Datum::Xid(u32::from_le_bytes(whole(bytes)?)),
        Class::Xid8 => Datum::Xid8(u64::from_le_bytes(whole(bytes)?)),
        Class::Tid => {
            let mut rest = bytes;
            let block = BlockNumber::new(u32::from_le_bytes(array(&mut rest)?));
            let offset = OffsetNumber::new(u16::from_le_bytes(whole(rest)?));
            Datum::Tid(Tid::new(block, offset.ok_or("row address has offset 0")?))
        }
        Class::Lsn => Datum::Lsn(Lsn::new(u64::from_le_bytes(whole(bytes)?))),
        Class::AclItem => Datum::AclItem(AclItem::from_bytes(whole(bytes)?)),
        Class::Text => Datum::Text(Arc::from(
            std::str::from_utf8(bytes).map_err(|_| "text is not UTF-8")?,
        )),
        Class::Bytea => Datum::Bytea(Arc::from(bytes)),
        Class::Numeric => Datum::Numeric(Arc::new(get_numeric(bytes)?)),
        Class::Jsonb => {
            let value = json::read_back(bytes).ok_or("jsonb value does not parse")?;
            Datum::Jsonb(Arc::new(value))
        }
        Class::Array => Datum::Array(Arc::new(get_array(bytes, depth)?)),
        Class::Record => {
            let mut rest = bytes;
            let count = u32::from_le_bytes(array(&mut rest)?);
            let types = take(&mut rest, (count as usize).saturating_mul(4))?;
            let (types, _) = types.as_chunks();
            let types = types.iter().map(|ty| Oid::new(u32::from_le_bytes(*ty)));
            let types: Arc<[Oid]> = types.collect();
            Record::new(&types, get_items(&mut rest, count, depth)?).into()
        }
        Class::Tagged => {
            let mut rest = bytes;
            let value = tagged(&mut rest, depth)?;
            if !rest.is_empty() {
                return Err("value has bytes left over");
            }
            value
        }
    })
}

fn get_numeric(bytes: &[u8]) -> Result<Numeric, &'static str> {
    let mut rest = bytes;
    Ok(match take(&mut rest, 1)?[0] {
        0 => Numeric::NaN,
        1 => Numeric::Infinity,
        2 => Numeric::NegInfinity,
        3 => {
            let scale = u32::from(u16::from_le_bytes(array(&mut rest)?));
            let unscaled = if rest.len() <= 8 {
                let negative = rest.last().is_some_and(|b| b & 0x80 != 0);
                let mut wide = [if negative { 0xFF } else { 0 }; 8];
                wide[..rest.len()].copy_from_slice(rest);
                BigInt::from(i64::from_le_bytes(wide))
            } else {
                BigInt::from_signed_bytes_le(rest)
            };
            Numeric::Finite { unscaled, scale }
        }
        _ => return Err("numeric value has an unknown kind"),
    })
}

fn get_items(rest: &mut &[u8], count: u32, depth: u8) -> Result<Vec<Datum>, &'static str> {
    // An item has at least one byte, so a damaged count cannot ask for more memory than the value has.
    if count as usize > rest.len() {
        return Err("value is cut short");
    }
    let mut items = Vec::with_capacity(count as usize);
    for _ in 0..count {
        items.push(tagged(rest, depth)?);
    }
    if !rest.is_empty() {
        return Err("value has bytes left over");
    }
    Ok(items)
}

fn get_array(bytes: &[u8], depth: u8) -> Result<Array, &'static str> {
    let mut rest = bytes;
    let element = Oid::new(u32::from_le_bytes(array(&mut rest)?));
    let count = take(&mut rest, 1)?[0];
    let mut dimensions = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let len = u32::from_le_bytes(array(&mut rest)?) as usize;
        dimensions.push((len, i32::from_le_bytes(array(&mut rest)?)));
    }
    let count = u32::from_le_bytes(array(&mut rest)?);
    Ok(Array {
        element,
        dimensions,
        items: get_items(&mut rest, count, depth)?,
    })
}
