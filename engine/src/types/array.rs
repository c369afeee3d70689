//! One- and more-dimensional arrays, their text and binary forms.

use bytes::{Buf, BufMut, BytesMut};

use crate::ids::Oid;
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::{oids, registry};

/// Manual, 8.15: PostgreSQL's own limit.
pub(crate) const MAX_DIMENSIONS: usize = 6;
/// Elements that an array may have (PostgreSQL: what fits 1 GB of pointers).
const MAX_ITEMS: usize = 134_217_727;

/// An array value: element type, (length, lower bound) of each dimension, items in row-major order. An empty array
/// has no dimensions.
#[derive(Clone, Debug)]
pub struct Array {
    pub element: Oid,
    pub dimensions: Vec<(usize, i32)>,
    pub items: Vec<Datum>,
}

impl Array {
    /// One dimension, from 1; empty for no items.
    pub fn of(element: Oid, items: Vec<Datum>) -> Array {
        let dimensions = if items.is_empty() {
            Vec::new()
        } else {
            vec![(items.len(), 1)]
        };
        Array {
            element,
            dimensions,
            items,
        }
    }
}

pub(crate) fn too_many_items() -> TypeError {
    TypeError::new(
        "54000",
        format!("array size exceeds the maximum allowed ({MAX_ITEMS})"),
    )
}

/// How many items the dimensions have room for. 54000 if they are more than an array may have, or if there is no
/// subscript left behind the last one of a dimension (`ArrayGetNItems`, `ArrayCheckBounds`).
pub(crate) fn check_shape(dimensions: &[(usize, i32)]) -> Result<usize, TypeError> {
    if dimensions.is_empty() {
        return Ok(0);
    }
    let mut items = 1_usize;
    for (length, _) in dimensions {
        items = items
            .checked_mul(*length)
            .filter(|n| i32::try_from(*n).is_ok())
            .ok_or_else(too_many_items)?;
    }
    if items > MAX_ITEMS {
        return Err(too_many_items());
    }
    for (length, low) in dimensions {
        if i32::try_from(i64::from(*low) + *length as i64).is_err() {
            return Err(TypeError::new(
                "54000",
                format!("array lower bound is too large: {low}"),
            ));
        }
    }
    Ok(items)
}

fn malformed(text: &str, detail: impl Into<String>) -> TypeError {
    TypeError::new("22P02", format!("malformed array literal: \"{text}\"")).with_detail(detail)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    element: SqlType,
    delimiter: char,
    cx: &'a FunctionCx,
    items: Vec<Datum>,
    /// Lengths found; a level is fixed by its first sub-array.
    lengths: Vec<Option<usize>>,
    /// The depth at which items stand, once one was seen.
    item_depth: Option<usize>,
}

/// `{1,2}`, `{{a,"b c"},{NULL,d}}`, `[0:1]={1,2}`.
pub(crate) fn parse(element: SqlType, text: &str, cx: &FunctionCx) -> Result<Array, TypeError> {
    let mut rest = text.trim_start_matches(is_space);
    let bounds = explicit_bounds(text, &mut rest)?;
    if !rest.starts_with('{') {
        let detail = if bounds.is_empty() {
            "Array value must start with \"{\" or dimension information."
        } else {
            "Array contents must start with \"{\"."
        };
        return Err(malformed(text, detail));
    }
    let mut reader = Reader {
        text: rest,
        rest,
        element,
        delimiter: ',',
        cx,
        items: Vec::new(),
        lengths: Vec::new(),
        item_depth: None,
    };
    reader.braces(0)?;
    if !reader.rest.trim_start_matches(is_space).is_empty() {
        return Err(malformed(reader.text, "Junk after closing right brace."));
    }
    let lengths: Vec<usize> = reader.lengths.iter().map(|l| l.unwrap_or(0)).collect();
    let mut dimensions: Vec<(usize, i32)> = lengths.iter().map(|l| (*l, 1)).collect();
    if reader.items.is_empty() {
        dimensions.clear();
    }
    if !bounds.is_empty() {
        if bounds.len() != dimensions.len()
            || bounds.iter().zip(&dimensions).any(|(b, d)| b.0 != d.0)
        {
            return Err(malformed(
                text,
                "Specified array dimensions do not match array contents.",
            ));
        }
        check_shape(&bounds)?;
        dimensions = bounds;
    }
    Ok(Array {
        element: element.oid,
        dimensions,
        items: reader.items,
    })
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// `[1:2][0:3]=`
fn explicit_bounds(text: &str, rest: &mut &str) -> Result<Vec<(usize, i32)>, TypeError> {
    let mut bounds = Vec::new();
    while let Some(inside) = rest.strip_prefix('[') {
        let bad = || {
            malformed(
                text,
                "\"[\" must introduce explicitly-specified array dimensions.",
            )
        };
        let end = inside
            .find(']')
            .ok_or_else(|| malformed(text, "Missing \"]\" after array dimensions."))?;
        let (low, high) = inside[..end]
            .split_once(':')
            .unwrap_or(("1", &inside[..end]));
        let low: i32 = low.trim().parse().map_err(|_| bad())?;
        let high: i32 = high.trim().parse().map_err(|_| bad())?;
        if high < low {
            return Err(TypeError::new(
                "2202E",
                "upper bound cannot be less than lower bound",
            ));
        }
        if bounds.len() == MAX_DIMENSIONS {
            return Err(too_deep(bounds.len() + 1));
        }
        bounds.push(((i64::from(high) - i64::from(low) + 1) as usize, low));
        *rest = inside[end + 1..].trim_start_matches(is_space);
    }
    if !bounds.is_empty() {
        *rest = rest
            .strip_prefix('=')
            .ok_or_else(|| malformed(text, "Missing \"=\" after array dimensions."))?
            .trim_start_matches(is_space);
    }
    Ok(bounds)
}

pub(crate) fn too_deep(dimensions: usize) -> TypeError {
    TypeError::new(
        "54000",
        format!("number of array dimensions ({dimensions}) exceeds the maximum allowed (6)"),
    )
}

impl Reader<'_> {
    fn unexpected_end(&self) -> TypeError {
        malformed(self.text, "Unexpected end of input.")
    }
    fn uneven(&self) -> TypeError {
        malformed(
            self.text,
            "Multidimensional arrays must have sub-arrays with matching dimensions.",
        )
    }
    fn unexpected(&self, c: char) -> TypeError {
        malformed(self.text, format!("Unexpected \"{c}\" character."))
    }
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(is_space);
    }

    /// A brace expression at `depth`; `rest` is at its `{`.
    fn braces(&mut self, depth: usize) -> Result<(), TypeError> {
        if depth >= MAX_DIMENSIONS {
            return Err(too_deep(depth + 1));
        }
        if self.lengths.len() == depth {
            self.lengths.push(None);
        }
        self.rest = &self.rest[1..];
        let mut count = 0;
        self.skip_space();
        if let Some(rest) = self.rest.strip_prefix('}') {
            if depth > 0 {
                return Err(self.unexpected('}'));
            }
            self.rest = rest;
            return self.close(depth, 0);
        }
        loop {
            self.skip_space();
            match self.rest.chars().next() {
                None => return Err(self.unexpected_end()),
                Some('{') => {
                    if self.item_depth.is_some_and(|d| d <= depth) {
                        return Err(self.uneven());
                    }
                    self.braces(depth + 1)?;
                }
                Some('}') => return Err(self.unexpected('}')),
                Some(c) if c == self.delimiter => return Err(self.unexpected(c)),
                Some(_) => self.item(depth)?,
            }
            count += 1;
            self.skip_space();
            match self.rest.chars().next() {
                None => return Err(self.unexpected_end()),
                Some(c) if c == self.delimiter => self.rest = &self.rest[c.len_utf8()..],
                Some('}') => {
                    self.rest = &self.rest[1..];
                    return self.close(depth, count);
                }
                Some('"') => return Err(malformed(self.text, "Unexpected array element.")),
                Some(c) => return Err(self.unexpected(c)),
            }
        }
    }

    fn close(&mut self, depth: usize, count: usize) -> Result<(), TypeError> {
        match self.lengths[depth] {
            None => self.lengths[depth] = Some(count),
            Some(n) if n == count => {}
            Some(_) => return Err(self.uneven()),
        }
        Ok(())
    }

    fn item(&mut self, depth: usize) -> Result<(), TypeError> {
        if *self.item_depth.get_or_insert(depth) != depth {
            return Err(self.uneven());
        }
        if self.items.len() >= MAX_ITEMS {
            return Err(too_many_items());
        }
        let (text, quoted) = self.item_text()?;
        let value = if !quoted && text.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            codec::parse_text(self.element, &text, self.cx)?
        };
        self.items.push(value);
        Ok(())
    }

    /// The text of an item with its quotes and escapes resolved; blanks around an unquoted one are dropped.
    fn item_text(&mut self) -> Result<(String, bool), TypeError> {
        let mut out = String::new();
        let mut quoted = false;
        if let Some(rest) = self.rest.strip_prefix('"') {
            quoted = true;
            self.rest = rest;
            loop {
                let c = self
                    .rest
                    .chars()
                    .next()
                    .ok_or_else(|| self.unexpected_end())?;
                self.rest = &self.rest[c.len_utf8()..];
                match c {
                    '"' => return Ok((out, quoted)),
                    '\\' => self.escaped(&mut out)?,
                    c => out.push(c),
                }
            }
        }
        // Escaped characters are never blanks to be dropped.
        let mut kept = 0;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '}' => break,
                '{' => return Err(self.unexpected('{')),
                '"' => return Err(malformed(self.text, "Unexpected array element.")),
                c if c == self.delimiter => break,
                '\\' => {
                    quoted = true;
                    self.rest = &self.rest[1..];
                    self.escaped(&mut out)?;
                    kept = out.len();
                }
                c => {
                    self.rest = &self.rest[c.len_utf8()..];
                    out.push(c);
                    if !is_space(c) {
                        kept = out.len();
                    }
                }
            }
        }
        out.truncate(kept);
        Ok((out, quoted))
    }

    fn escaped(&mut self, out: &mut String) -> Result<(), TypeError> {
        let c = self
            .rest
            .chars()
            .next()
            .ok_or_else(|| self.unexpected_end())?;
        self.rest = &self.rest[c.len_utf8()..];
        out.push(c);
        Ok(())
    }
}

/// Appends `{...}`, with bounds in front where one does not begin at 1.
pub(crate) fn write_text(array: &Array, out: &mut BytesMut, cx: &FunctionCx) {
    if array.dimensions.is_empty() {
        out.put_slice(b"{}");
        return;
    }
    if array.dimensions.iter().any(|(_, low)| *low != 1) {
        for (length, low) in &array.dimensions {
            out.put_slice(format!("[{low}:{}]", i64::from(*low) + *length as i64 - 1).as_bytes());
        }
        out.put_u8(b'=');
    }
    write_level(array, 0, &mut 0, out, cx);
}

fn write_level(array: &Array, depth: usize, next: &mut usize, out: &mut BytesMut, cx: &FunctionCx) {
    out.put_u8(b'{');
    for i in 0..array.dimensions[depth].0 {
        if i > 0 {
            out.put_u8(b',');
        }
        if depth + 1 < array.dimensions.len() {
            write_level(array, depth + 1, next, out, cx);
        } else {
            write_item(array.element, &array.items[*next], out, cx);
            *next += 1;
        }
    }
    out.put_u8(b'}');
}

fn write_item(element: Oid, item: &Datum, out: &mut BytesMut, cx: &FunctionCx) {
    if item.is_null() {
        out.put_slice(b"NULL");
        return;
    }
    let start = out.len();
    codec::write_text(element, item, out, cx);
    let text = &out[start..];
    let special = |b: &u8| {
        matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || b.is_ascii_whitespace() || *b == 0x0b
    };
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        let plain = out.split_off(start);
        out.put_u8(b'"');
        for b in plain {
            if b == b'"' || b == b'\\' {
                out.put_u8(b'\\');
            }
            out.put_u8(b);
        }
        out.put_u8(b'"');
    }
}

/// Wire form: dimensions, "has NULLs", element type, (length, lower bound) of each, items with lengths.
pub(crate) fn encode(array: &Array, out: &mut BytesMut) {
    out.put_i32(array.dimensions.len() as i32);
    out.put_i32(i32::from(array.items.iter().any(Datum::is_null)));
    out.put_u32(array.element.raw());
    for (length, low) in &array.dimensions {
        out.put_i32(*length as i32);
        out.put_i32(*low);
    }
    for item in &array.items {
        if item.is_null() {
            out.put_i32(-1);
            continue;
        }
        let at = out.len();
        out.put_i32(0);
        codec::encode_binary(array.element, item, out);
        let length = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

pub(crate) fn decode(
    element: SqlType,
    mut bytes: &[u8],
    cx: &FunctionCx,
) -> Result<Array, TypeError> {
    let short = || TypeError::new("08P01", "insufficient data left in message");
    let bad = |message: String| TypeError::new("22P03", message);
    if bytes.len() < 12 {
        return Err(short());
    }
    let (count, flags, sent) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    if count < 0 {
        return Err(bad(format!("invalid number of dimensions: {count}")));
    }
    if count as usize > MAX_DIMENSIONS {
        return Err(too_deep(count as usize));
    }
    if flags != 0 && flags != 1 {
        return Err(bad(format!("invalid array flags: {flags}")));
    }
    if sent != element.oid.raw() {
        let name = |oid| registry::format_type(SqlType::plain(oid)).into_owned();
        return Err(TypeError::new(
            "42804",
            format!(
                "binary data has array element type {sent} ({}) instead of expected {} ({})",
                name(Oid::new(sent)),
                element.oid,
                name(element.oid)
            ),
        ));
    }
    let mut dimensions = Vec::new();
    for _ in 0..count {
        if bytes.len() < 8 {
            return Err(short());
        }
        let (length, low) = (bytes.get_i32(), bytes.get_i32());
        let length = usize::try_from(length).map_err(|_| too_many_items())?;
        dimensions.push((length, low));
    }
    let total = check_shape(&dimensions)?;
    if total == 0 {
        return Ok(Array {
            element: element.oid,
            dimensions: Vec::new(),
            items: Vec::new(),
        });
    }
    // Each item has a length word, so a count beyond the message is a lie.
    if total > bytes.len() / 4 {
        return Err(short());
    }
    let mut items = Vec::with_capacity(total);
    for _ in 0..total {
        if bytes.len() < 4 {
            return Err(short());
        }
        let length = bytes.get_i32();
        if length == -1 {
            items.push(Datum::Null);
            continue;
        }
        let length = usize::try_from(length).ok().filter(|n| *n <= bytes.len());
        let length = length.ok_or_else(|| bad("insufficient data left in message".into()))?;
        items.push(codec::decode_binary(element, &bytes[..length], cx)?);
        bytes.advance(length);
    }
    if !bytes.is_empty() {
        return Err(bad("incorrect binary data format".into()));
    }
    Ok(Array {
        element: element.oid,
        dimensions,
        items,
    })
}

/// `int2vector` and `oidvector` text: numbers with blanks between, from index 0.
pub(crate) fn parse_vector(element: Oid, text: &str, cx: &FunctionCx) -> Result<Array, TypeError> {
    let items: Result<Vec<Datum>, TypeError> = text
        .split_ascii_whitespace()
        .map(|item| codec::parse_text(SqlType::plain(element), item, cx))
        .collect();
    let items = items?;
    Ok(Array {
        element,
        dimensions: vec![(items.len(), 0)],
        items,
    })
}

pub(crate) fn write_vector(array: &Array, out: &mut BytesMut, cx: &FunctionCx) {
    for (i, item) in array.items.iter().enumerate() {
        if i > 0 {
            out.put_u8(b' ');
        }
        codec::write_text(array.element, item, out, cx);
    }
}

/// The element type of `int2vector` and `oidvector`.
pub(crate) fn vector_element(ty: Oid) -> Option<Oid> {
    match ty {
        oids::INT2VECTOR => Some(oids::INT2),
        oids::OIDVECTOR => Some(oids::OID),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::context;

    const TOO_LARGE: &str = "array lower bound is too large: ";

    fn of(dimensions: &[(usize, i32)]) -> Array {
        let count: usize = dimensions.iter().map(|(length, _)| length).product();
        Array {
            element: oids::INT4,
            dimensions: dimensions.to_vec(),
            items: vec![Datum::Int4(7); count],
        }
    }

    #[test]
    fn a_shape_has_a_subscript_behind_its_last_one() {
        assert_eq!(check_shape(&[]), Ok(0));
        assert_eq!(check_shape(&[(3, i32::MAX - 3)]), Ok(3));
        assert_eq!(check_shape(&[(2, i32::MIN), (0, i32::MAX)]), Ok(0));
        let message = |dimensions: &[(usize, i32)]| match check_shape(dimensions) {
            Err(e) if e.state == "54000" => e.message,
            other => panic!("{dimensions:?}: {other:?}"),
        };
        assert_eq!(
            message(&[(1, 1), (3, i32::MAX - 2)]),
            format!("{TOO_LARGE}2147483645")
        );
        for dimensions in [
            &[(MAX_ITEMS + 1, 1)][..],
            &[(1_usize << 30, 1), (1 << 30, 1), (0, 1)],
            &[(1_usize << 40, 1), (1 << 40, 1)],
        ] {
            assert_eq!(message(dimensions), too_many_items().message);
        }
    }

    #[test]
    fn text_says_no_bounds_that_cannot_be_counted_behind() {
        let cx = context();
        let read = |text: &str| parse(SqlType::plain(oids::INT4), text, &cx);
        let last = read("[2147483646:2147483646]={7}").expect("one subscript is left");
        assert_eq!(last.dimensions, [(1, i32::MAX - 1)]);
        let error = read("[2147483647:2147483647]={7}").expect_err("none is left");
        assert_eq!(
            (error.state, error.message),
            ("54000", format!("{TOO_LARGE}2147483647"))
        );
    }

    #[test]
    fn the_wire_says_no_bounds_that_cannot_be_counted_behind() {
        let cx = context();
        let read = |array: &Array| {
            let mut bytes = BytesMut::new();
            encode(array, &mut bytes);
            decode(SqlType::plain(oids::INT4), &bytes, &cx)
        };
        let good = of(&[(2, 1), (2, i32::MAX - 2)]);
        assert_eq!(read(&good).expect("counted").dimensions, good.dimensions);
        let error = read(&of(&[(2, 1), (2, i32::MAX - 1)])).expect_err("too large");
        assert_eq!(
            (error.state, error.message),
            ("54000", format!("{TOO_LARGE}2147483646"))
        );
        // A length below nothing.
        let mut bytes = BytesMut::new();
        encode(&of(&[(1, 1)]), &mut bytes);
        bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        let error = decode(SqlType::plain(oids::INT4), &bytes, &cx).expect_err("no length");
        assert_eq!(error.message, too_many_items().message);
        // An item of a length that there is none of: only -1 is NULL's.
        for length in [-2_i32, 5] {
            let mut bytes = BytesMut::new();
            encode(&of(&[(1, 1)]), &mut bytes);
            bytes[20..24].copy_from_slice(&length.to_be_bytes());
            let error = decode(SqlType::plain(oids::INT4), &bytes, &cx).expect_err("no item");
            assert_eq!(error.state, "22P03");
        }
    }
}
