//! JSON values as text.

use std::fmt::Write;

use serde_json::Value;

// Writing into a buffer in memory cannot fail, so the results of `write!` are dropped here.

/// A string in quotes, with PostgreSQL's escapes.
pub(crate) fn quoted(text: &str, out: &mut impl Write) {
    let _ = out.write_char('"');
    let mut from = 0;
    for (i, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..=0x1f => "",
            _ => continue,
        };
        let _ = out.write_str(&text[from..i]);
        let _ = if escape.is_empty() {
            write!(out, "\\u{b:04x}")
        } else {
            out.write_str(escape)
        };
        from = i + 1;
    }
    let _ = out.write_str(&text[from..]);
    let _ = out.write_char('"');
}

/// A number, string, boolean or null.
fn scalar(value: &Value, out: &mut impl Write) {
    match value {
        Value::Null => {
            let _ = out.write_str("null");
        }
        Value::Bool(b) => {
            let _ = out.write_str(if *b { "true" } else { "false" });
        }
        Value::Number(n) => {
            let _ = out.write_str(n.as_str());
        }
        Value::String(s) => quoted(s, out),
        Value::Array(_) | Value::Object(_) => {
            unreachable!("containers are written by their callers")
        }
    }
}

/// `jsonb` output: one line, a blank after each comma and colon.
pub fn jsonb(value: &Value, out: &mut impl Write) {
    match value {
        Value::Array(items) => {
            let _ = out.write_char('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    let _ = out.write_str(", ");
                }
                jsonb(item, out);
            }
            let _ = out.write_char(']');
        }
        Value::Object(map) => {
            let _ = out.write_char('{');
            for (i, (k, v)) in map.iter().enumerate() {
                if i > 0 {
                    let _ = out.write_str(", ");
                }
                quoted(k, out);
                let _ = out.write_str(": ");
                jsonb(v, out);
            }
            let _ = out.write_char('}');
        }
        other => scalar(other, out),
    }
}

/// `jsonb_pretty`: four blanks for each level.
pub(crate) fn pretty(value: &Value, level: usize, out: &mut String) {
    let indent = |level: usize, out: &mut String| {
        out.push('\n');
        for _ in 0..level {
            out.push_str("    ");
        }
    };
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(level + 1, out);
                pretty(item, level + 1, out);
            }
            indent(level, out);
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (k, v)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(level + 1, out);
                quoted(k, out);
                out.push_str(": ");
                pretty(v, level + 1, out);
            }
            indent(level, out);
            out.push('}');
        }
        other => scalar(other, out),
    }
}

pub(crate) fn to_string(value: &Value) -> String {
    let mut out = String::new();
    jsonb(value, &mut out);
    out
}
