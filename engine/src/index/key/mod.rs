//! Keys whose bytes compare (`memcmp`) as their values do.
//!
//! A key is the encodings of its columns, one behind the other. Each encoding is prefix-free (none begins another
//! of the same type), so the bytes of a later column never decide before an earlier one has. A column is
//!
//! ```text
//! presence u8     0 NULL (NULLS FIRST), 1 a value, 2 NULL (NULLS LAST)
//! value           by type; every byte inverted for DESC
//! ```
//!
//! | type | value |
//! | --- | --- |
//! | bool, "char", oid, pg_lsn, xid8, uuid, tid | big-endian, unsigned |
//! | int2/4/8, date, time, timestamp(tz) | big-endian with the sign bit flipped |
//! | float4/8 | IEEE bits, inverted if negative, else sign bit flipped; -0 is 0, all NaNs are one, above infinity |
//! | numeric, jsonb, arrays | see their files |
//! | text, varchar, name | the bytes (no NUL can be among them), then 0 |
//! | char(n) | the same without trailing blanks |
//! | bytea | the bytes, 0 as 0 0xFF, then 0 0 |
//! | interval | its length in microseconds (a month is 30 days), 16 bytes, sign bit flipped |
//! | timetz | the instant, then the zone |
//!
//! This is a durable format: what stands in an index file was encoded so. Order and equality are those of
//! `types::compare`; the bytes cannot be turned back into values (1.0 and 1.00 are one key).

mod json;
mod numeric;

#[cfg(test)]
mod tests;

use crate::catalog::relation::{Index, IndexKey};
use crate::ids::Oid;
use crate::index::error::IndexError;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::oids;

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// Appends the encoding of one value for each of the index's key columns, in their order.
pub fn encode(index: &Index, values: &[Datum], out: &mut Vec<u8>) -> Result<(), IndexError> {
    debug_assert_eq!(index.keys.len(), values.len());
    for (key, value) in index.keys.iter().zip(values) {
        encode_part(key, value, out)?;
    }
    Ok(())
}

/// Appends one value's encoding: for bounds over a prefix of the key columns.
pub fn encode_part(key: &IndexKey, value: &Datum, out: &mut Vec<u8>) -> Result<(), IndexError> {
    if value.is_null() {
        out.push(if key.nulls_first {
            NULL_FIRST
        } else {
            NULL_LAST
        });
        return Ok(());
    }
    out.push(VALUE);
    let from = out.len();
    encode_value(key.ty.oid, value, out)?;
    if key.descending {
        out[from..].iter_mut().for_each(|b| *b = !*b);
    }
    Ok(())
}

/// Turns the encoding of a prefix into the least key above all keys that begin with it; false: there is none.
pub fn successor(prefix: &mut Vec<u8>) -> bool {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return true;
        }
    }
    false
}

/// Whether values of the type can stand in an index.
pub fn is_supported(ty: Oid) -> bool {
    use oids as o;
    matches!(
        ty,
        o::BOOL
            | o::INT2
            | o::INT4
            | o::INT8
            | o::FLOAT4
            | o::FLOAT8
            | o::NUMERIC
            | o::TEXT
            | o::VARCHAR
            | o::NAME
            | o::BPCHAR
            | o::CHAR
            | o::BYTEA
            | o::DATE
            | o::TIME
            | o::TIMETZ
            | o::TIMESTAMP
            | o::TIMESTAMPTZ
            | o::INTERVAL
            | o::UUID
            | o::JSONB
            | o::OID
            | o::REGCLASS
            | o::REGTYPE
            | o::REGPROC
            | o::REGPROCEDURE
            | o::REGOPER
            | o::REGOPERATOR
            | o::REGNAMESPACE
            | o::REGROLE
            | o::XID8
            | o::TID
            | o::PG_LSN
    ) || element(ty).is_some_and(is_supported)
}

/// The element type of an array type.
fn element(ty: Oid) -> Option<Oid> {
    match ty {
        oids::INT2VECTOR => Some(oids::INT2),
        oids::OIDVECTOR => Some(oids::OID),
        other => crate::types::registry::element_of(other),
    }
}

/// A value that is not NULL. A datum of another type than the column's is a mistake of the caller, and is refused
/// rather than put where nobody finds it.
fn encode_value(ty: Oid, value: &Datum, out: &mut Vec<u8>) -> Result<(), IndexError> {
    use oids as o;
    match (ty, value) {
        (o::BOOL, Datum::Bool(v)) => out.push(u8::from(*v)),
        (o::CHAR, Datum::Char(v)) => out.push(*v),
        (o::INT2, Datum::Int2(v)) => signed(&mut v.to_be_bytes(), out),
        (o::INT4, Datum::Int4(v)) => signed(&mut v.to_be_bytes(), out),
        (o::INT8, Datum::Int8(v)) => signed(&mut v.to_be_bytes(), out),
        (o::DATE, Datum::Date(v)) => signed(&mut v.to_be_bytes(), out),
        (o::TIME, Datum::Time(v))
        | (o::TIMESTAMP, Datum::Timestamp(v))
        | (o::TIMESTAMPTZ, Datum::TimestampTz(v)) => signed(&mut v.to_be_bytes(), out),
        (o::TIMETZ, Datum::TimeTz(micros, west)) => {
            let utc = micros + i64::from(*west) * 1_000_000;
            signed(&mut utc.to_be_bytes(), out);
            signed(&mut west.to_be_bytes(), out);
        }
        (o::FLOAT4, Datum::Float4(v)) => float4(*v, out),
        (o::FLOAT8, Datum::Float8(v)) => float8(*v, out),
        (o::NUMERIC, Datum::Numeric(v)) => numeric::encode(v, out),
        (o::TEXT | o::VARCHAR | o::NAME, Datum::Text(v)) => text(v, out),
        (o::BPCHAR, Datum::Text(v)) => text(v.trim_end_matches(' '), out),
        (o::BYTEA, Datum::Bytea(v)) => bytes(v, out),
        (o::INTERVAL, Datum::Interval(v)) => signed(&mut v.span().to_be_bytes(), out),
        (o::UUID, Datum::Uuid(v)) => out.extend_from_slice(v),
        (o::JSONB, Datum::Jsonb(v)) => json::encode(v, out),
        (o::XID8, Datum::Xid8(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (o::PG_LSN, Datum::Lsn(v)) => out.extend_from_slice(&v.raw().to_be_bytes()),
        (o::TID, Datum::Tid(v)) => {
            out.extend_from_slice(&v.block.raw().to_be_bytes());
            out.extend_from_slice(&v.offset.raw().to_be_bytes());
        }
        (_, Datum::Oid(v)) if is_supported(ty) => out.extend_from_slice(&v.raw().to_be_bytes()),
        (_, Datum::Array(v)) => {
            let element = element(ty).filter(|e| *e == v.element);
            array(element.ok_or(IndexError::UnsupportedType(ty))?, v, out)?;
        }
        _ => return Err(IndexError::UnsupportedType(ty)),
    }
    Ok(())
}

/// A big-endian two's complement number.
fn signed(big_endian: &mut [u8], out: &mut Vec<u8>) {
    big_endian[0] ^= 0x80;
    out.extend_from_slice(big_endian);
}

fn float4(v: f32, out: &mut Vec<u8>) {
    let bits = match v {
        v if v.is_nan() => 0x7FFF_FFFF,
        0.0 => 0,
        v => v.to_bits(),
    };
    let flip = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

fn float8(v: f64, out: &mut Vec<u8>) {
    let bits = match v {
        v if v.is_nan() => u64::MAX >> 1,
        0.0 => 0,
        v => v.to_bits(),
    };
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

fn text(v: &str, out: &mut Vec<u8>) {
    debug_assert!(!v.as_bytes().contains(&0), "text holds no NUL");
    out.extend_from_slice(v.as_bytes());
    out.push(0);
}

fn bytes(v: &[u8], out: &mut Vec<u8>) {
    for byte in v {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Each item behind 1 (a NULL is 2, above every value), then 0; then the number of dimensions and their lengths
/// and lower bounds, which decide among arrays with the same items.
fn array(element: Oid, v: &Array, out: &mut Vec<u8>) -> Result<(), IndexError> {
    for item in &v.items {
        if item.is_null() {
            out.push(2);
        } else {
            out.push(1);
            encode_value(element, item, out)?;
        }
    }
    out.push(0);
    out.extend_from_slice(&(v.dimensions.len() as u32).to_be_bytes());
    for (length, lower) in &v.dimensions {
        out.extend_from_slice(&(*length as u64).to_be_bytes());
        signed(&mut lower.to_be_bytes(), out);
    }
    Ok(())
}
