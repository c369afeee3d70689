//! What a type's modifier does to a value of the type.

use std::sync::Arc;

use crate::types::array::Array;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::interval::round_micros;
use crate::types::{oids, registry};

/// Bytes of a `name`, without the terminating zero of PostgreSQL's form.
const NAME_BYTES: usize = 63;

/// Longest `char(n)` that a value is padded to (`MaxAttrSize`): types cannot ask for more, calls could.
const MOST_BLANKS: usize = 10 << 20;

/// Cut to the bytes that a `name` holds, never inside a character.
pub(crate) fn cut_name(text: &str) -> &str {
    if text.len() <= NAME_BYTES {
        text
    } else {
        &text[..text.floor_char_boundary(NAME_BYTES)]
    }
}

/// Length coercion: what `varchar(n)`, `char(n)`, `numeric(p,s)`, `timestamp(p)` and so on do to a value of their
/// own type. An explicit cast cuts strings where an assignment refuses (22001).
pub fn coerce_length(ty: SqlType, value: Datum, explicit: bool) -> Result<Datum, TypeError> {
    // The string types' modifiers count 4 more than the length.
    let least = if matches!(ty.oid, oids::VARCHAR | oids::BPCHAR) {
        4
    } else {
        0
    };
    if ty.modifier < least {
        return Ok(value);
    }
    Ok(match (ty.oid, value) {
        (_, Datum::Null) => Datum::Null,
        (oids::VARCHAR, Datum::Text(s)) => Datum::Text(varchar(s, ty.modifier, explicit)?),
        (oids::BPCHAR, Datum::Text(s)) => Datum::Text(bpchar(s, ty.modifier, explicit)?),
        (oids::NUMERIC, Datum::Numeric(n)) => Datum::Numeric(Arc::new(
            Arc::unwrap_or_clone(n).apply_modifier(ty.modifier)?,
        )),
        (oids::TIME, Datum::Time(t)) => Datum::Time(round_time(t, ty.modifier)),
        (oids::TIMETZ, Datum::TimeTz(t, west)) => Datum::TimeTz(round_time(t, ty.modifier), west),
        (oids::TIMESTAMP, Datum::Timestamp(t)) => Datum::Timestamp(round_timestamp(t, ty.modifier)),
        (oids::TIMESTAMPTZ, Datum::TimestampTz(t)) => {
            Datum::TimestampTz(round_timestamp(t, ty.modifier))
        }
        (oids::INTERVAL, Datum::Interval(i)) => {
            Datum::Interval(Arc::new(i.apply_modifier(ty.modifier)))
        }
        (_, Datum::Array(a)) if registry::element_of(ty.oid).is_some() => {
            let element = SqlType {
                oid: a.element,
                modifier: ty.modifier,
            };
            let items: Result<Vec<Datum>, TypeError> = a
                .items
                .iter()
                .map(|i| coerce_length(element, i.clone(), explicit))
                .collect();
            Datum::Array(Arc::new(Array {
                element: a.element,
                dimensions: a.dimensions.clone(),
                items: items?,
            }))
        }
        (_, value) => value,
    })
}

pub(crate) fn round_time(micros: i64, modifier: i32) -> i64 {
    if (0..6).contains(&modifier) {
        round_micros(micros, modifier as u32)
    } else {
        micros
    }
}

pub(crate) fn round_timestamp(t: i64, modifier: i32) -> i64 {
    if t == i64::MIN || t == i64::MAX {
        t
    } else {
        round_time(t, modifier)
    }
}

/// Byte offset of the end of the first `count` characters, or `None` if there are not more.
fn beyond(text: &str, count: usize) -> Option<usize> {
    if text.len() <= count {
        return None;
    }
    text.char_indices().nth(count).map(|(i, _)| i)
}

fn too_long(type_name: &str, limit: usize) -> TypeError {
    TypeError::new(
        "22001",
        format!("value too long for type {type_name}({limit})"),
    )
}

fn varchar(text: Arc<str>, modifier: i32, explicit: bool) -> Result<Arc<str>, TypeError> {
    let limit = (modifier - 4).max(0) as usize;
    let Some(end) = beyond(&text, limit) else {
        return Ok(text);
    };
    if !explicit && text[end..].bytes().any(|b| b != b' ') {
        return Err(too_long("character varying", limit));
    }
    Ok(Arc::from(&text[..end]))
}

fn bpchar(text: Arc<str>, modifier: i32, explicit: bool) -> Result<Arc<str>, TypeError> {
    let limit = (modifier - 4).max(0) as usize;
    if let Some(end) = beyond(&text, limit) {
        if !explicit && text[end..].bytes().any(|b| b != b' ') {
            return Err(too_long("character", limit));
        }
        return Ok(Arc::from(&text[..end]));
    }
    if limit > MOST_BLANKS {
        return Err(TypeError::new("54000", "requested length too large"));
    }
    let count = text.chars().count();
    if count == limit {
        return Ok(text);
    }
    let mut padded = String::with_capacity(text.len() + limit - count);
    padded.push_str(&text);
    padded.extend(std::iter::repeat_n(' ', limit - count));
    Ok(Arc::from(padded))
}
