//! How long the text of nested rows is, found without making it.
//!
//! Each level quotes the one below it and doubles the quotes that are there: thirty levels around a single number
//! are more than a gigabyte. Whoever is about to write such a text asks here first.

use bytes::BytesMut;

use super::write_text;
use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::oids;
use crate::types::size::MAX_BYTES;

/// Error 54000 for a row, or an array of rows, whose text would be longer than a value may be. For any other value
/// this is one look at its kind.
#[inline]
pub fn check_text(value: &Datum, cx: &FunctionCx) -> Result<(), TypeError> {
    match value {
        Datum::Record(r) if r.fields().iter().any(has_rows) => check_nested(value, cx),
        Datum::Array(array) if is_of_rows(array) => check_nested(value, cx),
        _ => Ok(()),
    }
}

fn has_rows(value: &Datum) -> bool {
    match value {
        Datum::Record(_) => true,
        Datum::Array(array) => is_of_rows(array),
        _ => false,
    }
}

fn is_of_rows(array: &Array) -> bool {
    let first = array.items.iter().find(|item| !item.is_null());
    matches!(first, Some(Datum::Record(_)))
}

#[inline(never)]
fn check_nested(value: &Datum, cx: &FunctionCx) -> Result<(), TypeError> {
    // Its type matters only for what has no parts.
    if !Shape::of(oids::RECORD, value, cx, &mut BytesMut::new()).is_too_long() {
        return Ok(());
    }
    Err(TypeError::new("54000", "out of memory")
        .with_detail(format!(
            "The text of a nested row would have more than {MAX_BYTES} bytes."
        ))
        .with_hint(
            "Each level of a row doubles the quotes of the level below. Nest fewer levels, or select the fields as \
             columns of their own.",
        ))
}

/// What matters of a text to whoever puts it into a row or an array.
#[derive(Debug, Clone, Copy)]
struct Shape {
    bytes: u64,
    /// Quotes and backslashes, which quoting doubles.
    doubled: u64,
    /// It is quoted in a row.
    in_row: bool,
    /// It is quoted in an array.
    in_array: bool,
}

impl Shape {
    fn is_too_long(&self) -> bool {
        self.bytes > MAX_BYTES as u64
    }

    /// What is too long already is not looked at to its end: a row may hold one and the same row many times.
    fn of(ty: Oid, value: &Datum, cx: &FunctionCx, scratch: &mut BytesMut) -> Shape {
        match value {
            Datum::Record(record) => {
                let fields = record.fields();
                // Brackets, and commas between the fields.
                let mut shape = Shape {
                    bytes: fields.len().max(1) as u64 + 1,
                    doubled: 0,
                    in_row: true,
                    in_array: fields.len() > 1,
                };
                for (ty, field) in record.typed().filter(|(_, f)| !f.is_null()) {
                    let inner = Shape::of(ty, field, cx, scratch);
                    shape.add(inner, inner.in_row);
                    if shape.is_too_long() {
                        break;
                    }
                }
                shape
            }
            Datum::Array(array) if is_of_rows(array) => {
                let mut shape = Shape {
                    bytes: around_items(array),
                    doubled: 0,
                    in_row: array.items.len() > 1,
                    in_array: true,
                };
                for item in &array.items {
                    if shape.is_too_long() {
                        break;
                    }
                    if item.is_null() {
                        shape.bytes += "NULL".len() as u64;
                        continue;
                    }
                    let inner = Shape::of(array.element, item, cx, scratch);
                    shape.add(inner, inner.in_array);
                }
                shape
            }
            Datum::Text(text) => Shape::of_text(text.as_bytes()),
            value => {
                scratch.clear();
                write_text(ty, value, scratch, cx);
                Shape::of_text(scratch)
            }
        }
    }

    fn of_text(text: &[u8]) -> Shape {
        let blank = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b;
        let always = text.is_empty()
            || text
                .iter()
                .any(|b| matches!(b, b'"' | b'\\' | b',') || blank(b));
        let has = |wanted: &[u8]| text.iter().any(|b| wanted.contains(b));
        Shape {
            bytes: text.len() as u64,
            doubled: text.iter().filter(|b| matches!(b, b'"' | b'\\')).count() as u64,
            in_row: always || has(b"()"),
            // The items of an array of rows are rows: none of them reads as NULL does.
            in_array: always || has(b"{}"),
        }
    }

    /// Takes in the text of a field or an item.
    fn add(&mut self, inner: Shape, quoted: bool) {
        let (mut bytes, mut doubled) = (inner.bytes, inner.doubled);
        if quoted {
            bytes = bytes.saturating_add(doubled).saturating_add(2);
            doubled = doubled.saturating_mul(2).saturating_add(2);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.doubled = self.doubled.saturating_add(doubled);
        self.in_row |= quoted || inner.in_row;
        self.in_array |= quoted || inner.in_array;
    }
}

/// Bytes of an array's bounds, braces and commas.
fn around_items(array: &Array) -> u64 {
    if array.dimensions.is_empty() {
        return "{}".len() as u64;
    }
    // So many parts of one level are in braces, with commas between what is in them.
    let (mut bytes, mut parts) = (0_u64, 1_u64);
    for (length, _) in &array.dimensions {
        bytes += parts * (*length as u64 + 1);
        parts *= *length as u64;
    }
    if array.dimensions.iter().any(|(_, low)| *low != 1) {
        for (length, low) in &array.dimensions {
            let high = i64::from(*low) + *length as i64 - 1;
            bytes += format!("[{low}:{high}]").len() as u64;
        }
        bytes += "=".len() as u64;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::record::testing::row;
    use crate::types::tests::context;

    fn measured(ty: Oid, value: &Datum, cx: &FunctionCx) {
        let mut text = BytesMut::new();
        write_text(ty, value, &mut text, cx);
        let shape = Shape::of(ty, value, cx, &mut BytesMut::new());
        let shown = String::from_utf8_lossy(&text);
        assert_eq!(shape.bytes, text.len() as u64, "{shown}");
    }

    fn rows(items: Vec<Datum>) -> Datum {
        Datum::Array(Arc::new(Array::of(oids::RECORD, items)))
    }

    #[test]
    fn the_length_is_that_of_the_text() {
        let cx = context();
        let list =
            |element: Oid, items: Vec<Datum>| Datum::Array(Arc::new(Array::of(element, items)));
        let leaves = [
            (oids::INT4, Datum::Int4(1)),
            (oids::TEXT, Datum::Null),
            (oids::TEXT, Datum::text("")),
            (oids::UNKNOWN, Datum::text("a \"quoted\" one, with \\")),
            (oids::TEXT, Datum::text("{}")),
            (oids::TEXT, Datum::text("null")),
            (oids::BYTEA, Datum::Bytea([1, 2, 3].into())),
            (oids::REGTYPE, Datum::Oid(oids::TIMESTAMPTZ)),
            (
                oids::TEXT_ARRAY,
                list(oids::TEXT, vec![Datum::text("x y"), Datum::Null]),
            ),
            (
                oids::INT2VECTOR,
                list(oids::INT2, vec![Datum::Int2(1), Datum::Int2(2)]),
            ),
        ];
        for leaf in leaves {
            let (mut ty, mut value) = (oids::RECORD, row(vec![leaf]));
            for level in 0..8 {
                measured(ty, &value, &cx);
                (ty, value) = if level % 3 == 2 {
                    let items = vec![value.clone(), Datum::Null, value];
                    (oids::RECORD_ARRAY, rows(items))
                } else {
                    let fields = vec![(ty, value), (oids::INT4, Datum::Int4(level))];
                    (oids::RECORD, row(fields))
                };
            }
        }
    }

    #[test]
    fn an_array_may_have_bounds_and_be_empty() {
        let cx = context();
        let one = |dimensions: Vec<(usize, i32)>| {
            let count: usize = dimensions.iter().map(|(length, _)| length).product();
            let items = vec![row(vec![(oids::TEXT, Datum::text("null"))]); count];
            Datum::Array(Arc::new(Array {
                element: oids::RECORD,
                dimensions,
                items,
            }))
        };
        let none = rows(Vec::new());
        for array in [
            none,
            one(vec![(2, 1), (3, 1)]),
            one(vec![(1, -12), (2, 1), (4, 7)]),
        ] {
            measured(oids::RECORD_ARRAY, &array, &cx);
            let nested = row(vec![(oids::RECORD_ARRAY, array)]);
            measured(oids::RECORD, &row(vec![(oids::RECORD, nested)]), &cx);
        }
    }

    #[test]
    fn what_would_fill_the_memory_is_refused() {
        let cx = context();
        let mut value = row(vec![(oids::INT4, Datum::Int4(1))]);
        for _ in 0..20 {
            value = row(vec![(oids::RECORD, value)]);
        }
        check_text(&value, &cx).expect("some megabytes");
        for _ in 0..80 {
            value = row(vec![(oids::RECORD, value)]);
        }
        let error = check_text(&value, &cx).expect_err("more than there are");
        assert_eq!(error.state, "54000");
        assert!(error.hint.is_some());
    }

    /// Twice the same row in each level: the memory holds it once, a text 2^80 times.
    #[test]
    fn what_is_shared_is_not_counted_for_ever() {
        let cx = context();
        let mut value = row(vec![(oids::INT4, Datum::Null)]);
        for _ in 0..80 {
            let items = vec![value.clone(), value, Datum::Null];
            value = row(vec![(oids::RECORD_ARRAY, rows(items))]);
        }
        let error = check_text(&value, &cx).expect_err("more than there are");
        assert_eq!(error.state, "54000");
    }
}
