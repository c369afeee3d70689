//! Text and binary wire forms of every type, found by the type's oid.

mod binary;
mod length;
mod names;
mod nested;
mod scalar;

use std::fmt::Write;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::ids::Oid;
use crate::types::datetime::encode as dates;
use crate::types::datetime::parse as times;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::numeric::Numeric;
use crate::types::record::Record;
use crate::types::{array, float, interval, json, oids, registry};

pub use binary::{decode_binary, encode_binary, text_of};
pub use length::coerce_length;
pub(crate) use length::{cut_name, round_time, round_timestamp};
pub use names::{function_named, functions_named, is_function, signature};
pub use nested::check_text;
pub(crate) use scalar::{hex_digits, parse_bytea, parse_int, write_bytea};

pub(crate) fn bad_input(type_name: &str, text: &str) -> TypeError {
    TypeError::new(
        "22P02",
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

/// Adapts a byte buffer to `std::fmt`.
pub(crate) struct Fmt<'a>(pub &'a mut BytesMut);

impl Write for Fmt<'_> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.put_slice(s.as_bytes());
        Ok(())
    }
}

/// The value that `text` means as a `ty`, cut or refused by its modifier as assignment does.
pub fn parse_text(ty: SqlType, text: &str, cx: &FunctionCx) -> Result<Datum, TypeError> {
    let value = match ty.oid {
        oids::BOOL => Datum::Bool(scalar::parse_bool(text)?),
        oids::INT2 => Datum::Int2(parse_int(text, "smallint")?),
        oids::INT4 => Datum::Int4(parse_int(text, "integer")?),
        oids::INT8 => Datum::Int8(parse_int(text, "bigint")?),
        oids::FLOAT4 => Datum::Float4(float::parse_f32(text)?),
        oids::FLOAT8 => Datum::Float8(float::parse_f64(text)?),
        oids::NUMERIC => Datum::Numeric(Arc::new(Numeric::parse(text)?)),
        oids::TEXT | oids::VARCHAR | oids::BPCHAR | oids::UNKNOWN | oids::CSTRING | REFCURSOR => {
            Datum::text(text)
        }
        // Stored expressions come from statements that define something.
        oids::PG_NODE_TREE => {
            let what = "cannot accept a value of type pg_node_tree";
            return Err(TypeError::new("0A000", what));
        }
        oids::NAME => Datum::text(cut_name(text)),
        oids::CHAR => Datum::Char(scalar::parse_char(text)),
        oids::BYTEA => Datum::Bytea(Arc::from(parse_bytea(text)?)),
        oids::DATE => Datum::Date(times::date(text, cx)?),
        oids::TIME => Datum::Time(times::time(text, cx)?),
        oids::TIMETZ => {
            let (micros, west) = times::timetz(text, cx)?;
            Datum::TimeTz(micros, west)
        }
        oids::TIMESTAMP => Datum::Timestamp(times::timestamp(text, cx)?),
        oids::TIMESTAMPTZ => Datum::TimestampTz(times::timestamptz(text, cx)?),
        oids::INTERVAL => {
            return Ok(Datum::Interval(Arc::new(interval::parse(
                text,
                ty.modifier,
                cx.interval_style,
            )?)));
        }
        oids::UUID => Datum::Uuid(scalar::parse_uuid(text)?),
        oids::JSON => {
            json::validate(text)?;
            Datum::text(text)
        }
        oids::JSONB => Datum::Jsonb(Arc::new(json::parse_jsonb(text)?)),
        oids::OID => Datum::Oid(Oid::new(scalar::parse_oid(text)?)),
        oids::XID | oids::CID => Datum::Xid(scalar::parse_xid(text) as u32),
        oids::XID8 => Datum::Xid8(scalar::parse_xid(text)),
        oids::TID => Datum::Tid(scalar::parse_tid(text)?),
        oids::PG_LSN => Datum::Lsn(text.parse().map_err(|_| bad_input("pg_lsn", text))?),
        oids::ACLITEM => names::parse_acl_item(text, cx)?,
        oids::VOID => Datum::Void,
        oid => return parse_other(oid, ty.modifier, text, cx),
    };
    if ty.modifier >= 0 {
        coerce_length(ty, value, false)
    } else {
        Ok(value)
    }
}

/// `refcursor`: text under another name.
pub(crate) const REFCURSOR: Oid = Oid::new(1790);

fn parse_other(oid: Oid, modifier: i32, text: &str, cx: &FunctionCx) -> Result<Datum, TypeError> {
    if let Some(element) = array::vector_element(oid) {
        return Ok(Datum::Array(Arc::new(array::parse_vector(
            element, text, cx,
        )?)));
    }
    if names::is_alias(oid) {
        return names::parse(oid, text, cx);
    }
    if let Some(element) = registry::element_of(oid) {
        let element = SqlType {
            oid: element,
            modifier,
        };
        return Ok(Datum::Array(Arc::new(array::parse(element, text, cx)?)));
    }
    if oid == oids::RECORD {
        return Err(no_anonymous_rows());
    }
    let name = registry::format_type(SqlType::plain(oid));
    Err(TypeError::new(
        "0A000",
        format!("cannot accept a value of type {name}"),
    ))
}

/// `record_in`, `record_recv`
fn no_anonymous_rows() -> TypeError {
    TypeError::new(
        "0A000",
        "input of anonymous composite types is not implemented",
    )
}

/// Appends the text form. `value` is not NULL. A row may have been nested so deep that its text would fill the
/// memory: where one can come, [`check_text`] is asked before.
pub fn write_text(ty: Oid, value: &Datum, out: &mut BytesMut, cx: &FunctionCx) {
    match value {
        Datum::Null => {}
        Datum::Bool(b) => out.put_u8(if *b { b't' } else { b'f' }),
        Datum::Int2(v) => scalar::write_int(i64::from(*v), out),
        Datum::Int4(v) => scalar::write_int(i64::from(*v), out),
        Datum::Int8(v) => scalar::write_int(*v, out),
        Datum::Float4(v) => float::write_f32(*v, cx.extra_float_digits, &mut Fmt(out)),
        Datum::Float8(v) => float::write_f64(*v, cx.extra_float_digits, &mut Fmt(out)),
        Datum::Numeric(n) => n.write(&mut Fmt(out)),
        Datum::Text(s) => out.put_slice(s.as_bytes()),
        Datum::Char(c) => scalar::write_char(*c, out),
        Datum::Bytea(b) => write_bytea(b, cx.bytea_hex, out),
        Datum::Date(d) => dates::date(*d, cx.date_style, &mut Fmt(out)),
        Datum::Time(t) => dates::write_time(*t, &mut Fmt(out)),
        Datum::TimeTz(t, west) => dates::timetz(*t, *west, &mut Fmt(out)),
        Datum::Timestamp(t) => dates::timestamp(*t, cx.date_style, &mut Fmt(out)),
        Datum::TimestampTz(t) => dates::timestamptz(*t, cx, &mut Fmt(out)),
        Datum::Interval(i) => interval::write(i, cx.interval_style, &mut Fmt(out)),
        Datum::Uuid(u) => scalar::write_uuid(u, out),
        Datum::Jsonb(j) => json::write::jsonb(j, &mut Fmt(out)),
        Datum::Oid(v) if names::is_alias(ty) => names::write(ty, *v, out, cx),
        Datum::Oid(v) => scalar::write_int(i64::from(v.raw()), out),
        Datum::Xid(v) => scalar::write_int(i64::from(*v), out),
        Datum::Xid8(v) => {
            let _ = write!(Fmt(out), "{v}");
        }
        Datum::Tid(t) => {
            let _ = write!(Fmt(out), "{t}");
        }
        Datum::Lsn(l) => {
            let _ = write!(Fmt(out), "{l}");
        }
        Datum::AclItem(item) => names::write_acl_item(*item, out, cx),
        Datum::Array(a) if array::vector_element(ty).is_some() => array::write_vector(a, out, cx),
        Datum::Array(a) => array::write_text(a, out, cx),
        Datum::Record(record) => write_record(record, out, cx),
        Datum::Void => {}
    }
}

/// `(1,"a b",)`: fields in quotes where they need them, NULL as nothing.
fn write_record(record: &Record, out: &mut BytesMut, cx: &FunctionCx) {
    out.put_u8(b'(');
    for (i, (ty, field)) in record.typed().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if field.is_null() {
            continue;
        }
        let start = out.len();
        write_text(ty, field, out, cx);
        let text = &out[start..];
        let special = |b: &u8| {
            matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || b.is_ascii_whitespace() || *b == 0x0b
        };
        if text.is_empty() || text.iter().any(special) {
            let plain = out.split_off(start);
            out.put_u8(b'"');
            for b in plain {
                if b == b'"' || b == b'\\' {
                    out.put_u8(b);
                }
                out.put_u8(b);
            }
            out.put_u8(b'"');
        }
    }
    out.put_u8(b')');
}

/// False for a value that has no binary wire form: `aclitem` travels as text alone.
pub fn has_binary(value: &Datum) -> bool {
    match value {
        Datum::AclItem(_) => false,
        Datum::Array(array) if array.element == oids::RECORD => array.items.iter().all(has_binary),
        Datum::Array(array) => array.element != oids::ACLITEM,
        Datum::Record(record) => record.fields().iter().all(has_binary),
        _ => true,
    }
}

/// The text form as a string.
pub fn to_text(ty: Oid, value: &Datum, cx: &FunctionCx) -> String {
    if let Datum::Text(s) = value {
        return s.to_string();
    }
    let mut out = BytesMut::with_capacity(32);
    write_text(ty, value, &mut out, cx);
    // Every writer above appends UTF-8; "char" shows bytes beyond ASCII as escapes.
    String::from_utf8(out.into()).expect("text forms are UTF-8")
}

/// A cast through the text form of both types.
pub fn cast_via_text(
    from: Oid,
    to: SqlType,
    value: &Datum,
    cx: &FunctionCx,
) -> Result<Datum, TypeError> {
    parse_text(to, &to_text(from, value, cx), cx)
}
