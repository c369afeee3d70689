//! Values of any type as JSON, and the functions that build JSON from values.

use serde_json::Value;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::codec;
use crate::types::datetime::calendar::{Fields, time_of};
use crate::types::datetime::{SECOND, encode, zone};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{CallTypes, FunctionCx};
use crate::types::numeric::Numeric;
use crate::types::{json, oids, registry};

/// Dates in ISO 8601 whatever the `DateStyle`.
fn iso_text(value: &Datum, cx: &FunctionCx) -> Option<String> {
    use std::fmt::Write;
    let style = crate::types::datetime::DateStyle {
        output: crate::types::datetime::DateOutput::Iso,
        order: cx.date_style.order,
    };
    let mut out = String::new();
    let moment = |t: i64, east: Option<i32>, out: &mut String| {
        let f = Fields::of(t);
        let _ = write!(
            out,
            "{:04}-{:02}-{:02}T",
            if f.year > 0 { f.year } else { 1 - f.year },
            f.month,
            f.day
        );
        let (hour, minute, second, us) = time_of(f.time());
        let _ = write!(out, "{hour:02}:{minute:02}:");
        encode::write_seconds(second, us, out);
        if let Some(east) = east {
            let size = east.abs();
            let sign = if east < 0 { '-' } else { '+' };
            let _ = write!(out, "{sign}{:02}:{:02}", size / 3600, size / 60 % 60);
            if size % 60 != 0 {
                let _ = write!(out, ":{:02}", size % 60);
            }
        }
        if f.year <= 0 {
            out.push_str(" BC");
        }
    };
    match value {
        Datum::Date(d) => encode::date(*d, style, &mut out),
        Datum::Timestamp(i64::MAX) | Datum::TimestampTz(i64::MAX) => out.push_str("infinity"),
        Datum::Timestamp(i64::MIN) | Datum::TimestampTz(i64::MIN) => out.push_str("-infinity"),
        Datum::Timestamp(t) => moment(*t, None, &mut out),
        Datum::TimestampTz(t) => {
            let east = zone::offset_at(&cx.time_zone, *t);
            moment(t + i64::from(east) * SECOND, Some(east), &mut out);
        }
        _ => return None,
    }
    Some(out)
}

fn is_number(ty: Oid) -> bool {
    matches!(
        ty,
        oids::INT2 | oids::INT4 | oids::INT8 | oids::FLOAT4 | oids::FLOAT8 | oids::NUMERIC
    )
}

/// Appends the JSON text of a value.
pub(crate) fn to_json(
    value: &Datum,
    ty: Oid,
    cx: &FunctionCx,
    out: &mut String,
) -> Result<(), TypeError> {
    write_json(value, ty, cx, false, out)
}

fn write_json(
    value: &Datum,
    ty: Oid,
    cx: &FunctionCx,
    lines: bool,
    out: &mut String,
) -> Result<(), TypeError> {
    match value {
        Datum::Null => out.push_str("null"),
        Datum::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Datum::Array(a) if codec_array(ty) => write_array(a, cx, lines, out)?,
        Datum::Record(record) => {
            out.push('{');
            for (i, (ty, field)) in record.typed().enumerate() {
                if i > 0 {
                    out.push_str(if lines { ",\n " } else { "," });
                }
                out.push_str(&format!("\"f{}\":", i + 1));
                to_json(field, ty, cx, out)?;
            }
            out.push('}');
        }
        Datum::Jsonb(j) => json::write::jsonb(j, out),
        Datum::Text(s) if ty == oids::JSON => out.push_str(s),
        value if is_number(ty) => {
            let text = codec::to_text(ty, value, cx);
            if text.bytes().any(|b| b == b'N' || b == b'I') {
                json::write::quoted(&text, out);
            } else {
                out.push_str(&text);
            }
        }
        value => match iso_text(value, cx) {
            Some(text) => json::write::quoted(&text, out),
            None => json::write::quoted(&codec::to_text(ty, value, cx), out),
        },
    }
    Ok(())
}

fn codec_array(ty: Oid) -> bool {
    registry::element_of(ty).is_some()
        || matches!(
            ty,
            oids::INT2VECTOR | oids::OIDVECTOR | oids::ANYARRAY | oids::RECORD_ARRAY
        )
}

fn write_array(a: &Array, cx: &FunctionCx, lines: bool, out: &mut String) -> Result<(), TypeError> {
    if a.dimensions.is_empty() {
        out.push_str("[]");
        return Ok(());
    }
    fn level(
        a: &Array,
        depth: usize,
        next: &mut usize,
        cx: &FunctionCx,
        lines: bool,
        out: &mut String,
    ) -> Result<(), TypeError> {
        out.push('[');
        for i in 0..a.dimensions[depth].0 {
            if i > 0 {
                out.push_str(if lines { ",\n " } else { "," });
            }
            if depth + 1 < a.dimensions.len() {
                level(a, depth + 1, next, cx, false, out)?;
            } else {
                to_json(&a.items[*next], a.element, cx, out)?;
                *next += 1;
            }
        }
        out.push(']');
        Ok(())
    }
    level(a, 0, &mut 0, cx, lines, out)
}

/// The `jsonb` of a value.
pub(crate) fn to_jsonb(value: &Datum, ty: Oid, cx: &FunctionCx) -> Result<Value, TypeError> {
    Ok(match value {
        Datum::Null => Value::Null,
        Datum::Bool(b) => Value::Bool(*b),
        Datum::Jsonb(j) => Value::clone(j),
        Datum::Text(s) if ty == oids::JSON => json::parse_jsonb(s)?,
        Datum::Array(a) if codec_array(ty) => array_value(a, 0, &mut 0, cx)?,
        Datum::Record(record) => {
            let pairs: Result<Vec<_>, TypeError> = record
                .typed()
                .enumerate()
                .map(|(i, (ty, f))| Ok((format!("f{}", i + 1), to_jsonb(f, ty, cx)?)))
                .collect();
            json::object(pairs?)
        }
        value if is_number(ty) => {
            let text = codec::to_text(ty, value, cx);
            match Numeric::parse(&text)? {
                n @ Numeric::Finite { .. } => json::number(&n),
                _ => Value::String(text),
            }
        }
        value => {
            Value::String(iso_text(value, cx).unwrap_or_else(|| codec::to_text(ty, value, cx)))
        }
    })
}

fn array_value(
    a: &Array,
    depth: usize,
    next: &mut usize,
    cx: &FunctionCx,
) -> Result<Value, TypeError> {
    let Some((length, _)) = a.dimensions.get(depth) else {
        return Ok(Value::Array(Vec::new()));
    };
    let mut items = Vec::with_capacity(*length);
    for _ in 0..*length {
        if depth + 1 < a.dimensions.len() {
            items.push(array_value(a, depth + 1, next, cx)?);
        } else {
            items.push(to_jsonb(&a.items[*next], a.element, cx)?);
            *next += 1;
        }
    }
    Ok(Value::Array(items))
}

/// What a value is as an object's key.
pub(crate) fn key_text(value: &Datum, ty: Oid, cx: &FunctionCx) -> Result<String, TypeError> {
    match value {
        Datum::Bool(b) => Ok(b.to_string()),
        Datum::Array(_) | Datum::Record(_) | Datum::Jsonb(_) => Err(bad_key()),
        Datum::Text(_) if ty == oids::JSON => Err(bad_key()),
        value => Ok(iso_text(value, cx).unwrap_or_else(|| codec::to_text(ty, value, cx))),
    }
}
fn bad_key() -> TypeError {
    TypeError::new(
        "22023",
        "key value must be scalar, not array, composite, or json",
    )
}

/// The arguments of a VARIADIC "any" call with their types.
pub(crate) fn spread<'a>(
    args: &'a [Datum],
    types: CallTypes<'a>,
    fixed: usize,
) -> Vec<(&'a Datum, Oid)> {
    args[fixed..]
        .iter()
        .zip(types.args[fixed..].iter().copied())
        .collect()
}

fn argument_error(position: usize, message: &str) -> TypeError {
    TypeError::new("22023", format!("argument {position}{message}"))
}

fn build_object(
    args: &[Datum],
    types: CallTypes<'_>,
    cx: &FunctionCx,
) -> Result<String, TypeError> {
    let items = spread(args, types, 0);
    if !items.len().is_multiple_of(2) {
        return Err(
            TypeError::new("22023", "argument list must have even number of elements").with_hint(
                "The arguments of json_build_object() must consist of alternating keys and values.",
            ),
        );
    }
    let mut out = String::from("{");
    for (i, pair) in items.chunks(2).enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if pair[0].0.is_null() {
            return Err(argument_error(i * 2 + 1, " cannot be null")
                .with_hint("Object keys should be text."));
        }
        json::write::quoted(&key_text(pair[0].0, pair[0].1, cx)?, &mut out);
        out.push_str(" : ");
        to_json(pair[1].0, pair[1].1, cx, &mut out)?;
    }
    out.push('}');
    Ok(out)
}

fn build_jsonb_object(
    args: &[Datum],
    types: CallTypes<'_>,
    cx: &FunctionCx,
) -> Result<Value, TypeError> {
    let items = spread(args, types, 0);
    if !items.len().is_multiple_of(2) {
        return Err(TypeError::new("22023", "argument list must have even number of elements").with_hint(
            "The arguments of jsonb_build_object() must consist of alternating keys and values.",
        ));
    }
    let mut pairs = Vec::with_capacity(items.len() / 2);
    for (i, pair) in items.chunks(2).enumerate() {
        if pair[0].0.is_null() {
            return Err(argument_error(i * 2 + 1, ": key must not be null"));
        }
        pairs.push((
            key_text(pair[0].0, pair[0].1, cx)?,
            to_jsonb(pair[1].0, pair[1].1, cx)?,
        ));
    }
    Ok(json::object(pairs))
}

typed! {
    fn to_json_any[args, types, cx] -> String {
        let mut out = String::new();
        to_json(&args[0], types.args[0], cx, &mut out)?;
        Ok(out)
    }
    fn to_jsonb_any[args, types, cx] -> Value { to_jsonb(&args[0], types.args[0], cx) }
    fn json_build_array[args, types, cx] -> String {
        let items = spread(args, types, 0);
        let mut out = String::from("[");
        for (i, (value, ty)) in items.into_iter().enumerate() {
            if i > 0 { out.push_str(", "); }
            to_json(value, ty, cx, &mut out)?;
        }
        out.push(']');
        Ok(out)
    }
    fn jsonb_build_array[args, types, cx] -> Value {
        let items = spread(args, types, 0);
        let items: Result<Vec<_>, TypeError> = items.into_iter().map(|(v, t)| to_jsonb(v, t, cx)).collect();
        Ok(Value::Array(items?))
    }
    fn json_build_object[args, types, cx] -> String { build_object(args, types, cx) }
    fn jsonb_build_object[args, types, cx] -> Value { build_jsonb_object(args, types, cx) }
    fn array_to_json[args, types, cx] -> String {
        let mut out = String::new();
        write_json(&args[0], types.args[0], cx, false, &mut out)?;
        Ok(out)
    }
    fn array_to_json_pretty[args, types, cx] -> String {
        let mut out = String::new();
        write_json(&args[0], types.args[0], cx, matches!(args[1], Datum::Bool(true)), &mut out)?;
        Ok(out)
    }
    fn row_to_json[args, types, cx] -> String {
        let mut out = String::new();
        write_json(&args[0], types.args[0], cx, false, &mut out)?;
        Ok(out)
    }
    fn row_to_json_pretty[args, types, cx] -> String {
        let mut out = String::new();
        write_json(&args[0], types.args[0], cx, matches!(args[1], Datum::Bool(true)), &mut out)?;
        Ok(out)
    }
}

/// Keys and values of `json_object(text[])`: alternating, or pairs in a second dimension.
fn object_pairs(a: &Array) -> Result<Vec<(String, Option<String>)>, TypeError> {
    let bad = |m: &str| TypeError::new("2202E", m);
    match a.dimensions.as_slice() {
        [] => return Ok(Vec::new()),
        [(n, _)] if n % 2 != 0 => return Err(bad("array must have even number of elements")),
        [_] => {}
        [_, (2, _)] => {}
        [_, _] => return Err(bad("array must have two columns")),
        _ => return Err(bad("wrong number of array subscripts")),
    }
    a.items
        .chunks(2)
        .map(|pair| Ok((key(&pair[0])?, text(&pair[1]))))
        .collect()
}
fn text(d: &Datum) -> Option<String> {
    if let Datum::Text(s) = d {
        Some(s.to_string())
    } else {
        None
    }
}
fn key(d: &Datum) -> Result<String, TypeError> {
    text(d).ok_or_else(|| TypeError::new("22004", "null value not allowed for object key"))
}
fn two_arrays(keys: &Array, values: &Array) -> Result<Vec<(String, Option<String>)>, TypeError> {
    let bad = |m: &str| TypeError::new("2202E", m);
    if keys.dimensions.len() > 1 || keys.dimensions.len() != values.dimensions.len() {
        return Err(bad("wrong number of array subscripts"));
    }
    if keys.items.len() != values.items.len() {
        return Err(bad("mismatched array dimensions"));
    }
    keys.items
        .iter()
        .zip(&values.items)
        .map(|(k, v)| Ok((key(k)?, text(v))))
        .collect()
}
fn object_text(pairs: &[(String, Option<String>)]) -> String {
    let mut out = String::from("{");
    for (i, (k, v)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        json::write::quoted(k, &mut out);
        out.push_str(" : ");
        match v {
            Some(v) => json::write::quoted(v, &mut out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    out
}
fn object_value(pairs: Vec<(String, Option<String>)>) -> Value {
    json::object(
        pairs
            .into_iter()
            .map(|(k, v)| (k, v.map_or(Value::Null, Value::String)))
            .collect(),
    )
}

scalar! {
    fn json_build_array_noargs() -> &'static str { Ok("[]") }
    fn jsonb_build_array_noargs() -> Value { Ok(Value::Array(Vec::new())) }
    fn json_build_object_noargs() -> &'static str { Ok("{}") }
    fn jsonb_build_object_noargs() -> Value { Ok(json::object(Vec::new())) }
    fn json_object(a: &Array) -> String { Ok(object_text(&object_pairs(a)?)) }
    fn json_object_two_arg(k: &Array, v: &Array) -> String { Ok(object_text(&two_arrays(k, v)?)) }
    fn jsonb_object(a: &Array) -> Value { Ok(object_value(object_pairs(a)?)) }
    fn jsonb_object_two_arg(k: &Array, v: &Array) -> Value { Ok(object_value(two_arrays(k, v)?)) }
}
