//! `jsonb` as bytes that compare. Manual, 8.14.4, for the order.
//!
//! ```text
//! class u8    1 an empty array at the top, 2 null, 3 string, 4 number, 5 boolean, 6 array, 7 object
//! string      the bytes, 0 as 0 0xFF, then 0 0 (JSON text may have escaped NULs; jsonb has not, keys neither)
//! number      as numeric
//! boolean     0 or 1
//! array       number of items, u32; the items
//! object      number of members, u32; for each its key, its value
//! ```
//!
//! More members are more, which is why the counts come first. An empty array at the top is less than a scalar
//! (PostgreSQL keeps this for history's sake); inside it is an array like any other.

use serde_json::Value;

use crate::index::key::{bytes, numeric};
use crate::types::json::to_numeric;

pub(super) fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) if items.is_empty() => out.push(1),
        other => inner(other, out),
    }
}

fn inner(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(2),
        Value::String(s) => {
            out.push(3);
            bytes(s.as_bytes(), out);
        }
        Value::Number(n) => {
            out.push(4);
            numeric::encode(&to_numeric(n), out);
        }
        Value::Bool(b) => out.extend_from_slice(&[5, u8::from(*b)]),
        Value::Array(items) => {
            out.push(6);
            out.extend_from_slice(&(items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| inner(item, out));
        }
        Value::Object(members) => {
            out.push(7);
            out.extend_from_slice(&(members.len() as u32).to_be_bytes());
            for (key, member) in members {
                bytes(key.as_bytes(), out);
                inner(member, out);
            }
        }
    }
}
