//! Operators and functions on `jsonb`, and those on `json` that give text back.

use std::sync::Arc;

use serde_json::Value;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Rows;
use crate::types::json::compare::{compare, contains};
use crate::types::json::{self, Kind, Node, to_numeric};
use crate::types::numeric::Numeric;
use crate::types::oids;
use crate::types::record::Record;

comparisons! {
    jsonb_eq jsonb_ne jsonb_lt jsonb_le jsonb_gt jsonb_ge jsonb_cmp: &Value, &Value, compare;
}

fn invalid(message: impl Into<String>) -> TypeError {
    TypeError::new("22023", message.into())
}

/// An index that may count from the end.
fn nth<T>(items: &[T], n: i64) -> Option<&T> {
    let at = if n < 0 { n + items.len() as i64 } else { n };
    usize::try_from(at).ok().and_then(|i| items.get(i))
}

fn as_text(v: &Value) -> Option<String> {
    match v {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(json::write::to_string(other)),
    }
}

fn member<'a>(v: &'a Value, key: &str) -> Option<&'a Value> {
    v.as_object().and_then(|m| m.get(key))
}
fn element(v: &Value, n: i32) -> Option<&Value> {
    match v {
        Value::Array(a) => nth(a, n.into()),
        Value::Object(_) => None,
        // A scalar is stored as an array of one.
        scalar => Some(scalar).filter(|_| n == 0 || n == -1),
    }
}

/// The texts of a path; `None` if one is NULL.
fn path(a: &Array) -> Option<Vec<&str>> {
    a.items
        .iter()
        .map(|i| {
            if let Datum::Text(s) = i {
                Some(&**s)
            } else {
                None
            }
        })
        .collect()
}

fn index_of(step: &str) -> Option<i64> {
    step.trim_start().parse::<i32>().ok().map(i64::from)
}

fn at_path<'a>(v: &'a Value, steps: &[&str]) -> Option<&'a Value> {
    steps.iter().try_fold(v, |v, step| match v {
        Value::Object(m) => m.get(*step),
        Value::Array(a) => nth(a, index_of(step)?),
        _ => None,
    })
}

/// The last of equal keys is the one that counts.
fn node_member<'a, 'b>(n: &'b Node<'a>, key: &str) -> Option<&'b Node<'a>> {
    match &n.kind {
        Kind::Object(pairs) => pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
        _ => None,
    }
}
fn node_at_path<'a, 'b>(n: &'b Node<'a>, steps: &[&str]) -> Option<&'b Node<'a>> {
    steps.iter().try_fold(n, |n, step| match &n.kind {
        Kind::Object(_) => node_member(n, step),
        Kind::Array(items) => nth(items, index_of(step)?),
        _ => None,
    })
}
fn node_text(n: &Node<'_>) -> Option<String> {
    match &n.kind {
        Kind::Null => None,
        Kind::String(s) => Some(s.clone()),
        _ => Some(n.raw.to_owned()),
    }
}
fn raw(n: Option<&Node<'_>>) -> Option<String> {
    n.map(|n| n.raw.to_owned())
}

fn kind_name(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
fn node_kind(n: &Node<'_>) -> &'static str {
    match n.kind {
        Kind::Null => "null",
        Kind::Bool(_) => "boolean",
        Kind::Number => "number",
        Kind::String(_) => "string",
        Kind::Array(_) => "array",
        Kind::Object(_) => "object",
    }
}

fn cannot_cast(v: &Value, target: &str) -> TypeError {
    let what = match v {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "numeric",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    invalid(format!("cannot cast jsonb {what} to type {target}"))
}
fn number_for(v: &Value, target: &str) -> Result<Numeric, TypeError> {
    match v {
        Value::Number(n) => Ok(to_numeric(n)),
        other => Err(cannot_cast(other, target)),
    }
}

fn has(v: &Value, key: &str) -> bool {
    match v {
        Value::Object(m) => m.contains_key(key),
        Value::Array(a) => a.iter().any(|i| i.as_str() == Some(key)),
        Value::String(s) => s == key,
        _ => false,
    }
}
fn keys(a: &Array) -> impl Iterator<Item = &str> {
    a.items.iter().filter_map(|i| {
        if let Datum::Text(s) = i {
            Some(&**s)
        } else {
            None
        }
    })
}

fn concatenated(a: &Value, b: &Value) -> Result<Value, TypeError> {
    if let (Value::Object(x), Value::Object(y)) = (a, b) {
        let pairs = x
            .iter()
            .chain(y)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        return Ok(json::object(pairs));
    }
    // Anything else is joined as arrays; two objects are the only pair that merges.
    let list = |v: &Value| match v {
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    };
    Ok(Value::Array([list(a), list(b)].concat()))
}

/// An array of what is left, or of an object without keys.
fn without_key(v: &Value, names: &[&str]) -> Result<Value, TypeError> {
    match v {
        Value::Object(m) => {
            let left = m.iter().filter(|(k, _)| !names.contains(&k.as_str()));
            Ok(json::object(
                left.map(|(k, v)| (k.clone(), v.clone())).collect(),
            ))
        }
        Value::Array(a) => {
            let keep = |i: &&Value| !i.as_str().is_some_and(|s| names.contains(&s));
            Ok(Value::Array(a.iter().filter(keep).cloned().collect()))
        }
        _ => Err(invalid("cannot delete from scalar")),
    }
}

fn without_index(v: &Value, n: i32) -> Result<Value, TypeError> {
    match v {
        Value::Object(_) => Err(invalid("cannot delete from object using integer index")),
        Value::Array(a) => {
            let at = if n < 0 {
                i64::from(n) + a.len() as i64
            } else {
                i64::from(n)
            };
            let left = a.iter().enumerate().filter(|(i, _)| *i as i64 != at);
            Ok(Value::Array(left.map(|(_, v)| v.clone()).collect()))
        }
        _ => Err(invalid("cannot delete from scalar")),
    }
}

/// What to do at the end of a path.
#[derive(Clone, Copy)]
enum Edit<'a> {
    Set { value: &'a Value, create: bool },
    Insert { value: &'a Value, after: bool },
    Delete,
}

fn bad_index(position: usize, step: &str) -> TypeError {
    TypeError::new(
        "22P02",
        format!("path element at position {position} is not an integer: \"{step}\""),
    )
}

fn edited(
    v: &Value,
    steps: &[Option<&str>],
    depth: usize,
    edit: Edit<'_>,
) -> Result<Value, TypeError> {
    let Some(step) = steps.get(depth) else {
        return Ok(v.clone());
    };
    let Some(step) = *step else {
        return Err(TypeError::new(
            "22004",
            format!("path element at position {} is null", depth + 1),
        ));
    };
    let last = depth + 1 == steps.len();
    match v {
        Value::Object(m) => {
            let mut pairs: Vec<(String, Value)> = Vec::with_capacity(m.len() + 1);
            for (k, old) in m {
                if k != step {
                    pairs.push((k.clone(), old.clone()));
                    continue;
                }
                match (last, edit) {
                    (false, _) => pairs.push((k.clone(), edited(old, steps, depth + 1, edit)?)),
                    (true, Edit::Set { value, .. }) => pairs.push((k.clone(), value.clone())),
                    (true, Edit::Insert { .. }) => {
                        return Err(invalid("cannot replace existing key")
                            .with_hint("Try using the function jsonb_set to replace key value."));
                    }
                    (true, Edit::Delete) => {}
                }
            }
            if last && !m.contains_key(step) {
                match edit {
                    Edit::Set {
                        value,
                        create: true,
                    }
                    | Edit::Insert { value, .. } => {
                        pairs.push((step.to_owned(), value.clone()));
                    }
                    _ => {}
                }
            }
            Ok(json::object(pairs))
        }
        Value::Array(a) => edited_array(a, step, steps, depth, edit),
        _ => Ok(v.clone()),
    }
}

fn edited_array(
    a: &[Value],
    step: &str,
    steps: &[Option<&str>],
    depth: usize,
    edit: Edit<'_>,
) -> Result<Value, TypeError> {
    let last = depth + 1 == steps.len();
    let n = index_of(step).ok_or_else(|| bad_index(depth + 1, step))?;
    let length = a.len() as i64;
    let at = if n < 0 { n + length } else { n };
    let mut out: Vec<Value> = Vec::with_capacity(a.len() + 1);
    if (0..length).contains(&at) {
        for (i, old) in a.iter().enumerate() {
            if i as i64 != at {
                out.push(old.clone());
                continue;
            }
            match (last, edit) {
                (false, _) => out.push(edited(old, steps, depth + 1, edit)?),
                (true, Edit::Set { value, .. }) => out.push(value.clone()),
                (true, Edit::Insert { value, after: true }) => {
                    out.extend([old.clone(), value.clone()])
                }
                (
                    true,
                    Edit::Insert {
                        value,
                        after: false,
                    },
                ) => out.extend([value.clone(), old.clone()]),
                (true, Edit::Delete) => {}
            }
        }
        return Ok(Value::Array(out));
    }
    out.extend(a.iter().cloned());
    if last
        && let Edit::Set {
            value,
            create: true,
        }
        | Edit::Insert { value, .. } = edit
    {
        // Beyond an end, the value becomes the first or the last.
        if at < 0 {
            out.insert(0, value.clone());
        } else {
            out.push(value.clone());
        }
    }
    Ok(Value::Array(out))
}

fn steps_of(a: &Array) -> Result<Vec<Option<&str>>, TypeError> {
    if a.dimensions.len() > 1 {
        return Err(TypeError::new("2202E", "wrong number of array subscripts"));
    }
    Ok(a.items
        .iter()
        .map(|i| {
            if let Datum::Text(s) = i {
                Some(&**s)
            } else {
                None
            }
        })
        .collect())
}

fn is_container(v: &Value) -> bool {
    matches!(v, Value::Array(_) | Value::Object(_))
}
fn is_empty(v: &Value) -> bool {
    match v {
        Value::Array(a) => a.is_empty(),
        Value::Object(m) => m.is_empty(),
        _ => false,
    }
}

fn set_at(v: &Value, steps: &Array, value: &Value, create: bool) -> Result<Value, TypeError> {
    if is_container(v) {
        if steps.items.is_empty() || (is_empty(v) && !create) {
            return Ok(v.clone());
        }
        return edited(v, &steps_of(steps)?, 0, Edit::Set { value, create });
    }
    Err(invalid("cannot set path in scalar"))
}

fn strip_nulls(v: &Value) -> Value {
    match v {
        Value::Object(m) => json::object(
            m.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), strip_nulls(v)))
                .collect(),
        ),
        Value::Array(a) => Value::Array(a.iter().map(strip_nulls).collect()),
        other => other.clone(),
    }
}

/// `json_strip_nulls`: the text without blanks and without null members.
fn strip_node(n: &Node<'_>, out: &mut String) {
    match &n.kind {
        Kind::Object(pairs) => {
            out.push('{');
            let mut any = false;
            for (k, v) in pairs.iter().filter(|(_, v)| !matches!(v.kind, Kind::Null)) {
                if any {
                    out.push(',');
                }
                any = true;
                json::write::quoted(k, out);
                out.push(':');
                strip_node(v, out);
            }
            out.push('}');
        }
        Kind::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                strip_node(item, out);
            }
            out.push(']');
        }
        Kind::String(s) => json::write::quoted(s, out),
        _ => out.push_str(n.raw),
    }
}

fn set_lax(
    v: Option<&Value>,
    steps: Option<&Array>,
    value: Option<&Value>,
    create: Option<bool>,
    treatment: Option<&str>,
) -> Result<Option<Value>, TypeError> {
    let (Some(v), Some(steps), Some(create)) = (v, steps, create) else {
        return Ok(None);
    };
    let Some(treatment) = treatment else {
        return Err(invalid(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        ));
    };
    if let Some(value) = value {
        return set_at(v, steps, value, create).map(Some);
    }
    match treatment {
        "raise_exception" => Err(TypeError::new("22004", "JSON value must not be null")
            .with_detail("Exception was raised because null_value_treatment is \"raise_exception\".")
            .with_hint("To avoid, either change the null_value_treatment argument or ensure that an SQL NULL is not passed.")),
        "use_json_null" => set_at(v, steps, &Value::Null, create).map(Some),
        "delete_key" => delete_path(v, steps).map(Some),
        "return_target" => Ok(Some(v.clone())),
        _ => Err(invalid("null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"")),
    }
}

fn delete_path(v: &Value, steps: &Array) -> Result<Value, TypeError> {
    if is_container(v) {
        if steps.items.is_empty() || is_empty(v) {
            return Ok(v.clone());
        }
        return edited(v, &steps_of(steps)?, 0, Edit::Delete);
    }
    Err(invalid("cannot delete path in scalar"))
}

scalar! {
    fn json_object_field(j: &str, key: &str) -> Option<String> { Ok(raw(node_member(&json::parse(j, true)?, key))) }
    fn json_object_field_text(j: &str, key: &str) -> Option<String> { Ok(node_member(&json::parse(j, true)?, key).and_then(node_text)) }
    fn json_array_element(j: &str, n: i32) -> Option<String> {
        Ok(match &json::parse(j, true)?.kind { Kind::Array(items) => raw(nth(items, n.into())), _ => None })
    }
    fn json_array_element_text(j: &str, n: i32) -> Option<String> {
        Ok(match &json::parse(j, true)?.kind { Kind::Array(items) => nth(items, n.into()).and_then(node_text), _ => None })
    }
    fn json_extract_path(j: &str, p: &Array) -> Option<String> {
        let node = json::parse(j, true)?;
        Ok(path(p).and_then(|p| raw(node_at_path(&node, &p))))
    }
    fn json_extract_path_text(j: &str, p: &Array) -> Option<String> {
        let node = json::parse(j, true)?;
        Ok(path(p).and_then(|p| node_at_path(&node, &p).and_then(node_text)))
    }
    fn json_typeof(j: &str) -> &'static str { Ok(node_kind(&json::parse(j, false)?)) }
    fn json_array_length(j: &str) -> i32 {
        match &json::parse(j, false)?.kind {
            Kind::Array(items) => Ok(items.len() as i32),
            Kind::Object(_) => Err(invalid("cannot get array length of a non-array")),
            _ => Err(invalid("cannot get array length of a scalar")),
        }
    }
    fn json_strip_nulls(j: &str) -> String {
        let mut out = String::new();
        strip_node(&json::parse(j, true)?, &mut out);
        Ok(out)
    }

    fn jsonb_object_field(j: &Value, key: &str) -> Option<Value> { Ok(member(j, key).cloned()) }
    fn jsonb_object_field_text(j: &Value, key: &str) -> Option<String> { Ok(member(j, key).and_then(as_text)) }
    fn jsonb_array_element(j: &Value, n: i32) -> Option<Value> { Ok(element(j, n).cloned()) }
    fn jsonb_array_element_text(j: &Value, n: i32) -> Option<String> { Ok(element(j, n).and_then(as_text)) }
    fn jsonb_extract_path(j: &Value, p: &Array) -> Option<Value> { Ok(path(p).and_then(|p| at_path(j, &p).cloned())) }
    fn jsonb_extract_path_text(j: &Value, p: &Array) -> Option<String> { Ok(path(p).and_then(|p| at_path(j, &p).and_then(as_text))) }
    fn jsonb_typeof(j: &Value) -> &'static str { Ok(kind_name(j)) }
    fn jsonb_array_length(j: &Value) -> i32 {
        match j {
            Value::Array(a) => Ok(a.len() as i32),
            Value::Object(_) => Err(invalid("cannot get array length of a non-array")),
            _ => Err(invalid("cannot get array length of a scalar")),
        }
    }
    fn jsonb_contains(a: &Value, b: &Value) -> bool { Ok(contains(a, b)) }
    fn jsonb_contained(a: &Value, b: &Value) -> bool { Ok(contains(b, a)) }
    fn jsonb_exists(j: &Value, key: &str) -> bool { Ok(has(j, key)) }
    fn jsonb_exists_any(j: &Value, names: &Array) -> bool { Ok(keys(names).any(|k| has(j, k))) }
    fn jsonb_exists_all(j: &Value, names: &Array) -> bool { Ok(keys(names).all(|k| has(j, k))) }
    fn jsonb_concat(a: &Value, b: &Value) -> Value { concatenated(a, b) }
    fn jsonb_delete(j: &Value, key: &str) -> Value { without_key(j, &[key]) }
    fn jsonb_delete_array(j: &Value, names: &Array) -> Value { without_key(j, &keys(names).collect::<Vec<_>>()) }
    fn jsonb_delete_idx(j: &Value, n: i32) -> Value { without_index(j, n) }
    fn jsonb_delete_path(j: &Value, steps: &Array) -> Value { delete_path(j, steps) }
    fn jsonb_set(j: &Value, steps: &Array, value: &Value, create: bool) -> Value { set_at(j, steps, value, create) }
    fn jsonb_set_lax(j: Option<&Value>, steps: Option<&Array>, value: Option<&Value>, create: Option<bool>, treatment: Option<&str>) -> Option<Value> {
        set_lax(j, steps, value, create, treatment)
    }
    fn jsonb_insert(j: &Value, steps: &Array, value: &Value, after: bool) -> Value {
        if !matches!(j, Value::Array(_) | Value::Object(_)) {
            return Err(invalid("cannot set path in scalar"));
        }
        edited(j, &steps_of(steps)?, 0, Edit::Insert { value, after })
    }
    fn jsonb_pretty(j: &Value) -> String {
        let mut out = String::new();
        json::write::pretty(j, 0, &mut out);
        Ok(out)
    }
    fn jsonb_strip_nulls(j: &Value) -> Value { Ok(strip_nulls(j)) }
    fn jsonb_bool(j: &Value) -> bool { j.as_bool().ok_or_else(|| cannot_cast(j, "boolean")) }
    fn jsonb_numeric(j: &Value) -> Numeric { number_for(j, "numeric") }
    fn jsonb_int2(j: &Value) -> i16 { number_for(j, "smallint")?.to_integer_of("smallint") }
    fn jsonb_int4(j: &Value) -> i32 { number_for(j, "integer")?.to_integer_of("integer") }
    fn jsonb_int8(j: &Value) -> i64 { number_for(j, "bigint")?.to_integer_of("bigint") }
    fn jsonb_float4(j: &Value) -> f32 { Ok(number_for(j, "real")?.to_f32()) }
    fn jsonb_float8(j: &Value) -> f64 { Ok(number_for(j, "double precision")?.to_f64()) }
}

fn boxed(items: Vec<Datum>) -> Result<Rows, TypeError> {
    Ok(Box::new(items.into_iter().map(Ok)))
}
fn jsonb(v: &Value) -> Datum {
    Datum::Jsonb(v.clone().into())
}
fn text(t: Option<String>) -> Datum {
    t.map_or(Datum::Null, |t| Datum::Text(t.into()))
}
/// Rows of a key and a value of this type.
fn pairs<'k>(value: Oid, of: impl Iterator<Item = (&'k str, Datum)>) -> Result<Rows, TypeError> {
    let types: Arc<[Oid]> = Arc::from([oids::TEXT, value]);
    let row = |(key, value)| Record::new(&types, vec![Datum::text(key), value]).into();
    boxed(of.map(row).collect())
}

fn elements(j: &Value) -> Result<&[Value], TypeError> {
    match j {
        Value::Array(a) => Ok(a),
        Value::Object(_) => Err(invalid("cannot extract elements from an object")),
        _ => Err(invalid("cannot extract elements from a scalar")),
    }
}
fn node_elements<'a, 'b>(n: &'b Node<'a>, function: &str) -> Result<&'b [Node<'a>], TypeError> {
    match &n.kind {
        Kind::Array(items) => Ok(items),
        Kind::Object(_) => Err(invalid(format!("cannot call {function} on a non-array"))),
        _ => Err(invalid(format!("cannot call {function} on a scalar"))),
    }
}
fn members<'a>(
    j: &'a Value,
    function: &str,
) -> Result<&'a serde_json::Map<String, Value>, TypeError> {
    j.as_object()
        .ok_or_else(|| invalid(format!("cannot call {function} on a non-object")))
}
fn node_members<'a, 'b>(
    n: &'b Node<'a>,
    function: &str,
) -> Result<&'b [(String, Node<'a>)], TypeError> {
    let keys = function == "json_object_keys";
    match &n.kind {
        Kind::Object(pairs) => Ok(pairs),
        Kind::Array(_) if keys => Err(invalid("cannot call json_object_keys on an array")),
        Kind::Array(_) => Err(invalid("cannot deconstruct an array as an object")),
        _ if keys => Err(invalid("cannot call json_object_keys on a scalar")),
        _ => Err(invalid("cannot deconstruct a scalar")),
    }
}

rows! {
    fn jsonb_array_elements(j: &Value) { boxed(elements(j)?.iter().map(jsonb).collect()) }
    fn jsonb_array_elements_text(j: &Value) { boxed(elements(j)?.iter().map(|v| text(as_text(v))).collect()) }
    fn json_array_elements(j: &str) { boxed(node_elements(&json::parse(j, true)?, "json_array_elements")?.iter().map(|n| Datum::text(n.raw)).collect()) }
    fn json_array_elements_text(j: &str) { boxed(node_elements(&json::parse(j, true)?, "json_array_elements_text")?.iter().map(|n| text(node_text(n))).collect()) }
    fn jsonb_object_keys(j: &Value) {
        let map = match j {
            Value::Object(m) => m,
            Value::Array(_) => return Err(invalid("cannot call jsonb_object_keys on an array")),
            _ => return Err(invalid("cannot call jsonb_object_keys on a scalar")),
        };
        boxed(map.keys().map(|k| Datum::text(k)).collect())
    }
    fn json_object_keys(j: &str) { boxed(node_members(&json::parse(j, true)?, "json_object_keys")?.iter().map(|(k, _)| Datum::text(k)).collect()) }
    fn jsonb_each(j: &Value) { pairs(oids::JSONB, members(j, "jsonb_each")?.iter().map(|(k, v)| (k.as_str(), jsonb(v)))) }
    fn jsonb_each_text(j: &Value) { pairs(oids::TEXT, members(j, "jsonb_each_text")?.iter().map(|(k, v)| (k.as_str(), text(as_text(v))))) }
    fn json_each(j: &str) { pairs(oids::JSON, node_members(&json::parse(j, true)?, "json_each")?.iter().map(|(k, n)| (k.as_str(), Datum::text(n.raw)))) }
    fn json_each_text(j: &str) { pairs(oids::TEXT, node_members(&json::parse(j, true)?, "json_each_text")?.iter().map(|(k, n)| (k.as_str(), text(node_text(n))))) }
}
