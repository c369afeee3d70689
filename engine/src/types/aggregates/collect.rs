//! Aggregates that keep their input: strings, arrays, JSON.

use std::sync::Arc;

use serde_json::Value;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Accumulator, FunctionCx};
use crate::types::functions::json_build::{key_text, to_json, to_jsonb};
use crate::types::{json, oids, registry, size};

/// `string_agg`: the separator before each value but the first.
#[derive(Default)]
struct Strings {
    any: bool,
    bytes: Vec<u8>,
    binary: bool,
}

fn bytes_of(d: &Datum) -> &[u8] {
    match d {
        Datum::Text(s) => s.as_bytes(),
        Datum::Bytea(b) => b,
        _ => &[],
    }
}

impl Accumulator for Strings {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        if args[0].is_null() {
            return Ok(());
        }
        let (value, separator) = (bytes_of(&args[0]), bytes_of(&args[1]));
        size::grow(self.bytes.len(), separator.len() + value.len())?;
        if self.any {
            self.bytes.extend_from_slice(separator);
        }
        self.bytes.extend_from_slice(value);
        self.any = true;
        Ok(())
    }
    fn finish(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError> {
        self.so_far(cx)
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if !self.any {
            return Ok(Datum::Null);
        }
        if self.binary {
            return Ok(Datum::Bytea(Arc::from(self.bytes.as_slice())));
        }
        let text = std::str::from_utf8(&self.bytes).expect("joined from texts");
        Ok(Datum::Text(Arc::from(text)))
    }
    fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

pub(super) fn string_agg_text(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Strings::default())
}
pub(super) fn string_agg_bytea(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Strings {
        binary: true,
        ..Strings::default()
    })
}

/// `array_agg`, NULLs included.
struct Items {
    element: Oid,
    items: Vec<Datum>,
    bytes: usize,
}

impl Accumulator for Items {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.bytes += size::held(&args[0]);
        self.items.push(args[0].clone());
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.items.is_empty() {
            return Ok(Datum::Null);
        }
        let items = std::mem::take(&mut self.items);
        Ok(Datum::Array(Arc::new(Array::of(self.element, items))))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.items.is_empty() {
            return Ok(Datum::Null);
        }
        let made = Array::of(self.element, self.items.clone());
        Ok(Datum::Array(Arc::new(made)))
    }
    fn memory(&self) -> usize {
        self.bytes + self.items.capacity() * size_of::<Datum>()
    }
}

pub(super) fn array_agg_anynonarray(args: &[Oid]) -> Box<dyn Accumulator> {
    let element = if args[0] == oids::UNKNOWN {
        oids::TEXT
    } else {
        args[0]
    };
    Box::new(Items {
        element,
        items: Vec::new(),
        bytes: 0,
    })
}

/// `array_agg` of arrays: one dimension more.
struct Arrays {
    element: Oid,
    inner: Option<Vec<(usize, i32)>>,
    count: usize,
    items: Vec<Datum>,
    bytes: usize,
}

impl Accumulator for Arrays {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let bad = |m: &str| Err(TypeError::new("2202E", m));
        let Datum::Array(a) = &args[0] else {
            return Err(TypeError::new("22004", "cannot accumulate null arrays"));
        };
        if a.dimensions.is_empty() {
            return bad("cannot accumulate empty arrays");
        }
        if self.inner.get_or_insert_with(|| a.dimensions.clone()) != &a.dimensions {
            return bad("cannot accumulate arrays of different dimensionality");
        }
        self.count += 1;
        self.bytes += a.items.iter().map(size::held).sum::<usize>();
        self.items.extend(a.items.iter().cloned());
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        let Some(inner) = self.inner.take() else {
            return Ok(Datum::Null);
        };
        let mut dimensions = vec![(self.count, 1)];
        dimensions.extend(inner);
        let items = std::mem::take(&mut self.items);
        Ok(Datum::Array(Arc::new(Array {
            element: self.element,
            dimensions,
            items,
        })))
    }
    fn so_far(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError> {
        let kept = (self.inner.clone(), self.items.clone());
        let made = self.finish(cx);
        (self.inner, self.items) = kept;
        made
    }
    fn memory(&self) -> usize {
        self.bytes + self.items.capacity() * size_of::<Datum>()
    }
}

pub(super) fn array_agg_anyarray(args: &[Oid]) -> Box<dyn Accumulator> {
    let element = registry::element_of(args[0]).unwrap_or(oids::TEXT);
    Box::new(Arrays {
        element,
        inner: None,
        count: 0,
        items: Vec::new(),
        bytes: 0,
    })
}

/// `json_agg`: text grows as values come.
struct JsonItems {
    ty: Oid,
    text: String,
}

impl Accumulator for JsonItems {
    fn update(&mut self, args: &[Datum], cx: &FunctionCx) -> Result<(), TypeError> {
        let first = self.text.is_empty();
        self.text.push_str(if first { "[" } else { ", " });
        let rows = matches!(self.ty, oids::RECORD | oids::RECORD_ARRAY);
        let structured = rows || registry::element_of(self.ty).is_some();
        if !first && structured && !args[0].is_null() {
            self.text.push_str("\n ");
        }
        to_json(&args[0], self.ty, cx, &mut self.text)?;
        size::grow(self.text.len(), 0)
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.text.is_empty() {
            return Ok(Datum::Null);
        }
        self.text.push(']');
        Ok(Datum::Text(Arc::from(std::mem::take(&mut self.text))))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.text.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::text(&format!("{}]", self.text)))
    }
    fn memory(&self) -> usize {
        self.text.capacity()
    }
}

pub(super) fn json_agg(args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(JsonItems {
        ty: args[0],
        text: String::new(),
    })
}

struct JsonbItems {
    ty: Oid,
    items: Vec<Value>,
    bytes: usize,
    any: bool,
}

impl Accumulator for JsonbItems {
    fn update(&mut self, args: &[Datum], cx: &FunctionCx) -> Result<(), TypeError> {
        self.any = true;
        let item = to_jsonb(&args[0], self.ty, cx)?;
        self.bytes += size::json(&item);
        self.items.push(item);
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if !self.any {
            return Ok(Datum::Null);
        }
        let made = Value::Array(std::mem::take(&mut self.items));
        size::check_json(&made)?;
        Ok(Datum::Jsonb(Arc::new(made)))
    }
    fn so_far(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError> {
        let kept = self.items.clone();
        let made = self.finish(cx);
        self.items = kept;
        made
    }
    fn memory(&self) -> usize {
        self.bytes
    }
}

pub(super) fn jsonb_agg(args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(JsonbItems {
        ty: args[0],
        items: Vec::new(),
        bytes: 0,
        any: false,
    })
}

struct JsonObject {
    types: [Oid; 2],
    text: String,
}

fn null_key() -> TypeError {
    TypeError::new("22023", "field name must not be null")
}

impl Accumulator for JsonObject {
    fn update(&mut self, args: &[Datum], cx: &FunctionCx) -> Result<(), TypeError> {
        if args[0].is_null() {
            return Err(null_key());
        }
        self.text
            .push_str(if self.text.is_empty() { "{ " } else { ", " });
        json::write::quoted(&key_text(&args[0], self.types[0], cx)?, &mut self.text);
        self.text.push_str(" : ");
        to_json(&args[1], self.types[1], cx, &mut self.text)?;
        size::grow(self.text.len(), 0)
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.text.is_empty() {
            return Ok(Datum::Null);
        }
        self.text.push_str(" }");
        Ok(Datum::Text(Arc::from(std::mem::take(&mut self.text))))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.text.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::text(&format!("{} }}", self.text)))
    }
    fn memory(&self) -> usize {
        self.text.capacity()
    }
}

pub(super) fn json_object_agg(args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(JsonObject {
        types: [args[0], args[1]],
        text: String::new(),
    })
}

struct JsonbObject {
    types: [Oid; 2],
    pairs: Vec<(String, Value)>,
    bytes: usize,
    any: bool,
}

impl Accumulator for JsonbObject {
    fn update(&mut self, args: &[Datum], cx: &FunctionCx) -> Result<(), TypeError> {
        if args[0].is_null() {
            return Err(null_key());
        }
        self.any = true;
        let key = key_text(&args[0], self.types[0], cx)?;
        let value = to_jsonb(&args[1], self.types[1], cx)?;
        self.bytes += size_of::<String>() + key.len() + size::json(&value);
        self.pairs.push((key, value));
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if !self.any {
            return Ok(Datum::Null);
        }
        let made = json::object(std::mem::take(&mut self.pairs));
        size::check_json(&made)?;
        Ok(Datum::Jsonb(Arc::new(made)))
    }
    fn so_far(&mut self, cx: &FunctionCx) -> Result<Datum, TypeError> {
        let kept = self.pairs.clone();
        let made = self.finish(cx);
        self.pairs = kept;
        made
    }
    fn memory(&self) -> usize {
        self.bytes
    }
}

pub(super) fn jsonb_object_agg(args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(JsonbObject {
        types: [args[0], args[1]],
        pairs: Vec::new(),
        bytes: 0,
        any: false,
    })
}
