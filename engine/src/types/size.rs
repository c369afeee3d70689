//! How much memory values take, and how much one may.
//!
//! Counted as if nothing were shared: that is what a copy of a value, its text or a message with it costs. A function whose
//! result can be much longer than its arguments asks before it makes it; all others are asked when they give it
//! (`functions::call::Give`), so that no chain of calls grows without bound. An allocation that fails ends the server.

use serde_json::Value;

use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::json::MAX_DEPTH;
use crate::types::numeric::Numeric;
use crate::types::record::Record;

/// What a value may need at most, as PostgreSQL's allocator has it. Bytes.
pub(crate) const MAX_BYTES: usize = 0x3fff_ffff;

/// What reference counts cost.
const COUNTS: usize = 16;
/// What a member of a JSON object costs beside its key and its value.
const MEMBER: usize = 64;
/// Less is not worth counting for a document.
const LEAST_JSON: usize = 256;
/// Digits that are counted with every `numeric`, in bytes.
const USUAL_DIGITS: u64 = 32;

/// Bytes that a value holds outside of the datum itself.
pub fn held(value: &Datum) -> usize {
    match value {
        Datum::Text(s) => s.len() + COUNTS,
        Datum::Bytea(b) => b.len() + COUNTS,
        Datum::Numeric(n) => 64 + long_digits(n),
        Datum::Interval(_) => 32,
        Datum::Jsonb(j) => json(j).max(LEAST_JSON),
        Datum::Array(a) => 64 + items(&a.items),
        Datum::Record(r) => {
            COUNTS + size_of::<Record>() + size_of_val(r.types()) + items(r.fields())
        }
        _ => 0,
    }
}

/// The same for the items of an array or a row, the datums included.
pub(crate) fn items(items: &[Datum]) -> usize {
    items.iter().map(|i| size_of::<Datum>() + held(i)).sum()
}

fn long_digits(n: &Numeric) -> usize {
    match n {
        Numeric::Finite { unscaled, .. } => {
            (unscaled.bits() / 8).saturating_sub(USUAL_DIGITS) as usize
        }
        _ => 0,
    }
}

/// The same for a `jsonb` value.
pub(crate) fn json(value: &Value) -> usize {
    tree(value).0
}

/// Bytes, and levels below the top.
fn tree(value: &Value) -> (usize, usize) {
    let all = |members: &mut dyn Iterator<Item = (usize, usize)>| {
        members.fold((0, 0), |(sum, deepest), (bytes, depth)| {
            (sum + bytes, deepest.max(depth + 1))
        })
    };
    let (bytes, depth) = match value {
        Value::Null | Value::Bool(_) => (0, 0),
        Value::Number(n) => (n.as_str().len(), 0),
        Value::String(s) => (s.len(), 0),
        Value::Array(items) => all(&mut items.iter().map(tree)),
        Value::Object(map) => all(&mut map.iter().map(|(key, value)| {
            let (bytes, depth) = tree(value);
            (MEMBER + key.len() + bytes, depth)
        })),
    };
    (size_of::<Value>() + bytes, depth)
}

/// Error 54000 for a result that is longer than a value may be.
#[inline]
pub(crate) fn check(bytes: usize) -> Result<(), TypeError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(too_long(bytes))
}

#[cold]
fn too_long(bytes: usize) -> TypeError {
    let message = format!("invalid memory alloc request size {bytes}");
    TypeError::new("54000", message)
}

/// The same before `more` bytes are put behind the `have` that are there.
#[inline]
pub(crate) fn grow(have: usize, more: usize) -> Result<(), TypeError> {
    if have.saturating_add(more) <= MAX_BYTES {
        return Ok(());
    }
    Err(cannot_enlarge(have, more))
}

#[cold]
fn cannot_enlarge(have: usize, more: usize) -> TypeError {
    TypeError::new("54000", "out of memory").with_detail(format!(
        "Cannot enlarge string buffer containing {have} bytes by {more} more bytes."
    ))
}

/// The same for an array of items of so many bytes.
pub(crate) fn check_items(bytes: usize) -> Result<(), TypeError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(TypeError::new(
        "54000",
        format!("array size exceeds the maximum allowed ({MAX_BYTES})"),
    ))
}

pub(crate) fn check_array(array: &Array) -> Result<(), TypeError> {
    check_items(items(&array.items))
}

/// Errors 54000 for a `jsonb` value that is too large, 54001 for one that is nested deeper than it could be read again.
pub(crate) fn check_json(value: &Value) -> Result<(), TypeError> {
    let (bytes, depth) = tree(value);
    if depth > MAX_DEPTH {
        return Err(TypeError::new("54001", "stack depth limit exceeded"));
    }
    if bytes > MAX_BYTES {
        return Err(TypeError::new(
            "54000",
            format!("jsonb value exceeds the maximum size of {MAX_BYTES} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::Oid;
    use crate::types::function::CallTypes;
    use crate::types::functions::{array_functions, json_build, misc, strings};
    use crate::types::json;
    use crate::types::oids;
    use crate::types::tests::context;

    fn state_of(done: Result<Datum, TypeError>) -> &'static str {
        done.expect_err("refused").state
    }

    fn types(args: &[Oid]) -> CallTypes<'_> {
        CallTypes {
            args,
            result: oids::TEXT,
        }
    }

    #[test]
    fn what_would_be_too_long_is_refused_before_it_is_made() {
        let cx = context();
        let long = Datum::text(&"x".repeat(100_000));
        let args = [long.clone(), Datum::text("x"), long];
        assert_eq!(state_of(strings::replace_text(&args, &cx)), "54000");
        let args = [Datum::text("%2147483647s"), Datum::text("a")];
        let of = types(&[oids::TEXT, oids::TEXT]);
        assert_eq!(state_of(misc::text_format(&args, of, &cx)), "54000");
        let dimensions = Array::of(oids::INT4, vec![Datum::Int4(134_217_727)]);
        let args = [Datum::Int4(0), Datum::Array(Arc::new(dimensions))];
        let of = types(&[oids::INT4, oids::INT4_ARRAY]);
        let filled = array_functions::array_fill(&args, of, &cx);
        assert_eq!(state_of(filled), "54000");
    }

    #[test]
    fn documents_are_counted_by_what_is_in_them() {
        let text = format!("[{}]", vec!["\"0123456789\""; 1000].join(","));
        let value = json::parse_jsonb(&text).expect("a document");
        assert!(json(&value) > 1000 * (10 + size_of::<Value>()));
        let short = Numeric::parse("1.5").expect("a number");
        let long = Numeric::parse("1e100000").expect("a number");
        let bytes = |n: Numeric| held(&Datum::Numeric(Arc::new(n)));
        assert_eq!(bytes(short), 64);
        assert!(bytes(long) > 40_000);
    }

    /// Numbers are written out in documents, so a short text can stand for a very long one.
    #[test]
    fn long_numbers_do_not_fill_the_memory() {
        let text = format!("[{}]", vec!["1e10000"; 2000].join(","));
        let error = json::parse_jsonb(&text).expect_err("twenty megabytes");
        assert_eq!(error.state, "54000");
    }

    #[test]
    fn a_document_gets_no_deeper_than_it_can_be_read() {
        let work = || {
            let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let deepest = json::parse_jsonb(&nested(MAX_DEPTH + 1)).expect("just so deep");
            assert!(check_json(&deepest).is_ok());
            let error = json::parse_jsonb(&nested(MAX_DEPTH + 2)).expect_err("too deep");
            assert_eq!(error.state, "54001");
            let args = [Datum::Jsonb(Arc::new(deepest))];
            let of = types(&[oids::JSONB]);
            let wrapped = json_build::jsonb_build_array(&args, of, &context());
            assert_eq!(state_of(wrapped), "54001");
        };
        // The server's threads have as much; unoptimised calls need a good part of it.
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        let thread = thread.spawn(work).expect("a thread");
        thread.join().expect("no panic");
    }
}
