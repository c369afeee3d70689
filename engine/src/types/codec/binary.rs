//! The binary wire forms: PostgreSQL's `*send` and `*recv`.

use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};

use super::{REFCURSOR, coerce_length, no_anonymous_rows};
use crate::ids::{BlockNumber, Lsn, OffsetNumber, Oid, Tid};
use crate::types::datetime::calendar::{is_valid_date, is_valid_timestamp};
use crate::types::datetime::{DAY, date_out_of_range, timestamp_out_of_range};
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::{array, json, oids, registry};

/// Appends the binary form, without a length word. `value` is not NULL.
pub fn encode_binary(_ty: Oid, value: &Datum, out: &mut BytesMut) {
    match value {
        Datum::Null | Datum::Void => {}
        Datum::Bool(b) => out.put_u8(u8::from(*b)),
        Datum::Int2(v) => out.put_i16(*v),
        Datum::Int4(v) => out.put_i32(*v),
        Datum::Int8(v) => out.put_i64(*v),
        Datum::Float4(v) => out.put_f32(*v),
        Datum::Float8(v) => out.put_f64(*v),
        Datum::Numeric(n) => n.encode(out),
        Datum::Text(s) => out.put_slice(s.as_bytes()),
        Datum::Char(c) => out.put_u8(*c),
        Datum::Bytea(b) => out.put_slice(b),
        Datum::Date(d) => out.put_i32(*d),
        Datum::Time(t) | Datum::Timestamp(t) | Datum::TimestampTz(t) => out.put_i64(*t),
        Datum::TimeTz(t, west) => {
            out.put_i64(*t);
            out.put_i32(*west);
        }
        Datum::Interval(i) => {
            out.put_i64(i.micros);
            out.put_i32(i.days);
            out.put_i32(i.months);
        }
        Datum::Uuid(u) => out.put_slice(u),
        Datum::Jsonb(j) => {
            // The version of the form: text follows.
            out.put_u8(1);
            json::write::jsonb(j, &mut super::Fmt(out));
        }
        Datum::Oid(o) => out.put_u32(o.raw()),
        Datum::Xid(x) => out.put_u32(*x),
        Datum::Xid8(x) => out.put_u64(*x),
        Datum::Tid(t) => {
            out.put_u32(t.block.raw());
            out.put_u16(t.offset.raw());
        }
        Datum::Lsn(l) => out.put_u64(l.raw()),
        // PostgreSQL has no binary form: whoever asks for one is refused before.
        Datum::AclItem(item) => out.put_slice(&item.to_bytes()),
        Datum::Array(a) => array::encode(a, out),
        Datum::Record(record) => {
            out.put_i32(record.fields().len() as i32);
            for (oid, field) in record.typed() {
                out.put_u32(oid.raw());
                if field.is_null() {
                    out.put_i32(-1);
                    continue;
                }
                let at = out.len();
                out.put_i32(0);
                encode_binary(oid, field, out);
                let length = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
    }
}

fn bad(message: &str) -> TypeError {
    TypeError::new("22P03", message)
}

/// Exactly `N` bytes.
fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], TypeError> {
    bytes.try_into().map_err(|_| {
        if bytes.len() < N {
            TypeError::new("08P01", "insufficient data left in message")
        } else {
            bad("incorrect binary data format")
        }
    })
}

/// What a client sent as text: UTF-8 without zero bytes.
pub fn text_of(bytes: &[u8]) -> Result<&str, TypeError> {
    if bytes.contains(&0) {
        return Err(TypeError::new(
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let from = e.valid_up_to();
        // The bytes of the sequence as its first byte announces it.
        let announced = match bytes[from] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        let shown: Vec<String> = bytes[from..]
            .iter()
            .take(announced)
            .map(|b| format!("0x{b:02x}"))
            .collect();
        TypeError::new(
            "22021",
            format!(
                "invalid byte sequence for encoding \"UTF8\": {}",
                shown.join(" ")
            ),
        )
    })
}

fn timestamp(bytes: &[u8]) -> Result<i64, TypeError> {
    let t = i64::from_be_bytes(exact(bytes)?);
    let infinite = t == i64::MIN || t == i64::MAX;
    if infinite || is_valid_timestamp(t) {
        Ok(t)
    } else {
        Err(timestamp_out_of_range())
    }
}

fn time(micros: i64) -> Result<i64, TypeError> {
    if (0..=DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err(TypeError::new("22008", "time out of range"))
    }
}

/// The value that a client sent in binary form.
pub fn decode_binary(ty: SqlType, bytes: &[u8], cx: &FunctionCx) -> Result<Datum, TypeError> {
    let value = match ty.oid {
        oids::BOOL => Datum::Bool(exact::<1>(bytes)?[0] != 0),
        oids::INT2 => Datum::Int2(i16::from_be_bytes(exact(bytes)?)),
        oids::INT4 => Datum::Int4(i32::from_be_bytes(exact(bytes)?)),
        oids::INT8 => Datum::Int8(i64::from_be_bytes(exact(bytes)?)),
        oids::FLOAT4 => Datum::Float4(f32::from_be_bytes(exact(bytes)?)),
        oids::FLOAT8 => Datum::Float8(f64::from_be_bytes(exact(bytes)?)),
        oids::NUMERIC => Datum::Numeric(Arc::new(Numeric::decode(bytes)?)),
        oids::TEXT | oids::VARCHAR | oids::BPCHAR | oids::UNKNOWN | oids::CSTRING | REFCURSOR => {
            Datum::text(text_of(bytes)?)
        }
        oids::NAME => {
            let text = text_of(bytes)?;
            if text.len() > 63 {
                return Err(TypeError::new("42622", "identifier too long")
                    .with_detail("Identifier must be less than 64 characters."));
            }
            Datum::text(text)
        }
        oids::CHAR => Datum::Char(exact::<1>(bytes)?[0]),
        oids::BYTEA => Datum::Bytea(Arc::from(bytes)),
        oids::DATE => {
            let d = i32::from_be_bytes(exact(bytes)?);
            if d != i32::MIN && d != i32::MAX && !is_valid_date(d) {
                return Err(date_out_of_range());
            }
            Datum::Date(d)
        }
        oids::TIME => Datum::Time(time(i64::from_be_bytes(exact(bytes)?))?),
        oids::TIMETZ => {
            let b: [u8; 12] = exact(bytes)?;
            let (mut micros, mut west) = (&b[..8], &b[8..]);
            let (micros, west) = (time(micros.get_i64())?, west.get_i32());
            if west.abs() >= 16 * 3600 {
                return Err(TypeError::new(
                    "22009",
                    "time zone displacement out of range",
                ));
            }
            Datum::TimeTz(micros, west)
        }
        oids::TIMESTAMP => Datum::Timestamp(timestamp(bytes)?),
        oids::TIMESTAMPTZ => Datum::TimestampTz(timestamp(bytes)?),
        oids::INTERVAL => {
            let b: [u8; 16] = exact(bytes)?;
            let mut b = &b[..];
            let (micros, days, months) = (b.get_i64(), b.get_i32(), b.get_i32());
            Datum::Interval(Arc::new(Interval {
                months,
                days,
                micros,
            }))
        }
        oids::UUID => Datum::Uuid(exact(bytes)?),
        oids::JSON => {
            let text = text_of(bytes)?;
            json::validate(text)?;
            Datum::text(text)
        }
        oids::JSONB => match bytes.split_first() {
            Some((1, text)) => Datum::Jsonb(Arc::new(json::parse_jsonb(text_of(text)?)?)),
            Some((version, _)) => {
                return Err(TypeError::new(
                    "XX000",
                    format!("unsupported jsonb version number {version}"),
                ));
            }
            None => return Err(TypeError::new("08P01", "insufficient data left in message")),
        },
        oids::XID | oids::CID => Datum::Xid(u32::from_be_bytes(exact(bytes)?)),
        oids::XID8 => Datum::Xid8(u64::from_be_bytes(exact(bytes)?)),
        oids::TID => {
            let b: [u8; 6] = exact(bytes)?;
            let mut b = &b[..];
            let block = BlockNumber::new(b.get_u32());
            let offset = OffsetNumber::new(b.get_u16())
                .ok_or_else(|| bad("invalid offset number in tid"))?;
            Datum::Tid(Tid::new(block, offset))
        }
        oids::PG_LSN => Datum::Lsn(Lsn::new(u64::from_be_bytes(exact(bytes)?))),
        oids::VOID => Datum::Void,
        oids::OID => Datum::Oid(Oid::new(u32::from_be_bytes(exact(bytes)?))),
        oid if super::names::is_alias(oid) => {
            Datum::Oid(Oid::new(u32::from_be_bytes(exact(bytes)?)))
        }
        oid => return decode_other(oid, ty.modifier, bytes, cx),
    };
    if ty.modifier >= 0 {
        coerce_length(ty, value, false)
    } else {
        Ok(value)
    }
}

fn decode_other(
    oid: Oid,
    modifier: i32,
    bytes: &[u8],
    cx: &FunctionCx,
) -> Result<Datum, TypeError> {
    let element = array::vector_element(oid).or_else(|| registry::element_of(oid));
    if let Some(element) = element {
        let element = SqlType {
            oid: element,
            modifier,
        };
        return Ok(Datum::Array(Arc::new(array::decode(element, bytes, cx)?)));
    }
    if oid == oids::RECORD {
        return Err(no_anonymous_rows());
    }
    let name = registry::format_type(SqlType::plain(oid));
    Err(TypeError::new(
        "42883",
        format!("no binary input function available for type {name}"),
    ))
}
