//! The btree order of `jsonb`, its hash, and containment.
//!
//! Manual, 8.14.4: Object > Array > Boolean > Number > String > Null; more members are more. A scalar at the top is,
//! as in PostgreSQL, compared to an array as if it were an array of one that comes before real ones.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::Value;

use super::to_numeric;

fn rank(v: &Value) -> u8 {
    match v {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Number(_) => 2,
        Value::Bool(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Array(items), other) if rank(other) < 4 => {
            if items.is_empty() {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (other, Value::Array(items)) if rank(other) < 4 => {
            if items.is_empty() {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        _ => inner(a, b),
    }
}

fn inner(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(x), Value::String(y)) => x.as_bytes().cmp(y.as_bytes()),
        (Value::Number(x), Value::Number(y)) => {
            if x.as_str() == y.as_str() {
                return Ordering::Equal;
            }
            to_numeric(x).cmp(&to_numeric(y))
        }
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => x.len().cmp(&y.len()).then_with(|| {
            x.iter()
                .zip(y)
                .map(|(p, q)| inner(p, q))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        (Value::Object(x), Value::Object(y)) => x.len().cmp(&y.len()).then_with(|| {
            x.iter()
                .zip(y)
                .map(|((k, v), (l, w))| k.as_bytes().cmp(l.as_bytes()).then_with(|| inner(v, w)))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Equal values hash alike.
pub fn hash(value: &Value, state: &mut impl Hasher) {
    rank(value).hash(state);
    match value {
        Value::Null => {}
        Value::String(s) => s.hash(state),
        Value::Number(n) => to_numeric(n).hash(state),
        Value::Bool(b) => b.hash(state),
        Value::Array(items) => items.iter().for_each(|v| hash(v, state)),
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            k.hash(state);
            hash(v, state);
        }),
    }
}

/// `a @> b`. A scalar is contained in an array that has it; the reverse is not true.
pub fn contains(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(items), scalar) if rank(scalar) < 4 => {
            items.iter().any(|i| inner(i, scalar).is_eq())
        }
        _ => contains_inner(a, b),
    }
}

fn contains_inner(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => y.iter().all(|(k, w)| {
            x.get(k)
                .is_some_and(|v| rank(v) == rank(w) && contains_inner(v, w))
        }),
        (Value::Array(x), Value::Array(y)) => {
            y.iter().all(|w| x.iter().any(|v| contains_inner(v, w)))
        }
        _ => inner(a, b).is_eq(),
    }
}
