//! JSON text: checked for `json`, normalised for `jsonb`.
//!
//! A parse gives a tree of the text's own pieces, because `json` values keep their spelling. `jsonb` values are
//! trees of `serde_json` with keys ordered by length and then bytes, the last of equal keys kept, and numbers in
//! `numeric`'s spelling; every `Datum::Jsonb` holds to that.

pub(crate) mod compare;
mod parse;
pub(crate) mod write;

use serde_json::{Map, Number, Value};

use crate::types::error::TypeError;
use crate::types::numeric::Numeric;

pub(crate) use parse::{Kind, MAX_DEPTH, Node, parse};

/// Checks `json` input.
pub fn validate(text: &str) -> Result<(), TypeError> {
    parse::check(text)
}

/// `jsonb` input.
pub fn parse_jsonb(text: &str) -> Result<Value, TypeError> {
    to_value(&parse(text, true)?, &mut 0)
}

/// Bytes by which the numbers of one value may be longer than they were read: `1e131071` is ten thousand times as long, and
/// takes its time.
const MAX_GROWTH: usize = 16 << 20;

/// The `jsonb` form of parsed text. `growth`: of the numbers so far.
fn to_value(node: &Node<'_>, growth: &mut usize) -> Result<Value, TypeError> {
    Ok(match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(b) => Value::Bool(*b),
        Kind::Number => {
            let text = Numeric::parse(node.raw)?.to_string();
            *growth += text.len().saturating_sub(node.raw.len());
            if *growth > MAX_GROWTH {
                return Err(TypeError::new(
                    "54000",
                    "numbers of a jsonb value are too long when they are written out",
                ));
            }
            Value::Number(Number::from_string_unchecked(text))
        }
        Kind::String(s) => Value::String(s.clone()),
        Kind::Array(items) => {
            let items: Result<Vec<_>, TypeError> =
                items.iter().map(|v| to_value(v, growth)).collect();
            Value::Array(items?)
        }
        Kind::Object(pairs) => {
            let pairs: Result<Vec<_>, TypeError> = pairs
                .iter()
                .map(|(k, v)| Ok((k.clone(), to_value(v, growth)?)))
                .collect();
            object(pairs?)
        }
    })
}

/// The `jsonb` value that was written as this text; `None`: it is no such text.
pub(crate) fn read_back(bytes: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        return Some(value);
    }
    // Nested deeper than serde_json goes down; our own parser reads whatever it has taken in.
    parse_jsonb(std::str::from_utf8(bytes).ok()?).ok()
}

/// A `jsonb` number.
pub(crate) fn number(n: &Numeric) -> Value {
    Value::Number(Number::from_string_unchecked(n.to_string()))
}

/// The value of a `jsonb` number.
pub(crate) fn to_numeric(n: &Number) -> Numeric {
    Numeric::parse(n.as_str()).expect("jsonb numbers come from numeric")
}

/// Keys in `jsonb` order.
pub(crate) fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// An object with its keys in order, the last of equal ones kept.
pub(crate) fn object(mut pairs: Vec<(String, Value)>) -> Value {
    pairs.sort_by(|a, b| key_order(&a.0, &b.0));
    let mut map = Map::with_capacity(pairs.len());
    for (k, v) in pairs {
        map.insert(k, v);
    }
    Value::Object(map)
}
