//! Text forms of the simple types.

use bytes::{BufMut, BytesMut};

use super::bad_input;
use crate::ids::{BlockNumber, OffsetNumber, Tid};
use crate::types::error::TypeError;

fn is_space(b: u8) -> bool {
    b.is_ascii_whitespace() || b == 0x0b
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

/// Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
pub(crate) fn parse_bool(text: &str) -> Result<bool, TypeError> {
    let body = trimmed(text).to_ascii_lowercase();
    let begins = |word: &str, least: usize| body.len() >= least && word.starts_with(&body);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || body == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || body == "0" {
        Ok(false)
    } else {
        Err(bad_input("boolean", text))
    }
}

/// A decimal integer with blanks around.
pub(crate) fn parse_int<T: TryFrom<i64>>(text: &str, type_name: &str) -> Result<T, TypeError> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() && is_space(bytes[i]) {
        i += 1;
    }
    let negative = match bytes.get(i) {
        Some(b'-') => {
            i += 1;
            true
        }
        Some(b'+') => {
            i += 1;
            false
        }
        _ => false,
    };
    let start = i;
    // Kept negative, because the lowest value has no positive twin. `None` is an overflow.
    let mut value = Some(0_i64);
    while i < bytes.len() && bytes[i].is_ascii_digit() {
        let digit = i64::from(bytes[i] - b'0');
        value = value
            .and_then(|v| v.checked_mul(10))
            .and_then(|v| v.checked_sub(digit));
        i += 1;
    }
    let end = i;
    let range = || {
        TypeError::new(
            "22003",
            format!("value \"{text}\" is out of range for type {type_name}"),
        )
    };
    // Too many digits are found before what stands behind them.
    if value.is_none_or(|v| T::try_from(v).is_err()) {
        return Err(range());
    }
    while i < bytes.len() && is_space(bytes[i]) {
        i += 1;
    }
    if end == start || i < bytes.len() {
        return Err(bad_input(type_name, text));
    }
    value
        .and_then(|v| if negative { Some(v) } else { v.checked_neg() })
        .and_then(|v| T::try_from(v).ok())
        .ok_or_else(range)
}

pub(crate) fn write_int(v: i64, out: &mut BytesMut) {
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    let mut rest = v.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if v < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&buffer[at..]);
}

/// `"char"`: the first byte, or `\ooo`.
pub(crate) fn parse_char(text: &str) -> u8 {
    match text.as_bytes() {
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => {
            ((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0')
        }
        [first, ..] => *first,
        [] => 0,
    }
}

pub(crate) fn write_char(c: u8, out: &mut BytesMut) {
    if c >= 0x80 {
        out.put_slice(format!("\\{c:03o}").as_bytes());
    } else if c != 0 {
        out.put_u8(c);
    }
}

/// Pairs of hexadecimal digits, blanks between pairs allowed.
pub(crate) fn hex_digits(text: &str) -> Result<Vec<u8>, TypeError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut chars = text.chars();
    let digit = |c: char| {
        c.to_digit(16)
            .map(|d| d as u8)
            .ok_or_else(|| TypeError::new("22023", format!("invalid hexadecimal digit: \"{c}\"")))
    };
    while let Some(c) = chars.next() {
        if matches!(c, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit(c)?;
        let low = chars.next().ok_or_else(|| {
            TypeError::new("22023", "invalid hexadecimal data: odd number of digits")
        })?;
        out.push(high << 4 | digit(low)?);
    }
    Ok(out)
}

pub(crate) fn parse_bytea(text: &str) -> Result<Vec<u8>, TypeError> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return hex_digits(hex);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match &bytes[i..] {
            [b'\\', b'\\', ..] => {
                out.push(b'\\');
                i += 2;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                i += 4;
            }
            [b'\\', ..] => {
                return Err(TypeError::new(
                    "22P02",
                    "invalid input syntax for type bytea",
                ));
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    Ok(out)
}

pub(crate) fn write_bytea(bytes: &[u8], hex: bool, out: &mut BytesMut) {
    if hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.reserve(2 + bytes.len() * 2);
        out.put_slice(b"\\x");
        for b in bytes {
            out.put_u8(DIGITS[usize::from(b >> 4)]);
            out.put_u8(DIGITS[usize::from(b & 15)]);
        }
        return;
    }
    for b in bytes {
        match b {
            b'\\' => out.put_slice(b"\\\\"),
            0x20..=0x7e => out.put_u8(*b),
            _ => out.put_slice(format!("\\{b:03o}").as_bytes()),
        }
    }
}

/// 32 digits, a hyphen allowed after every fourth, braces around allowed.
pub(crate) fn parse_uuid(text: &str) -> Result<[u8; 16], TypeError> {
    let bad = || bad_input("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}').ok_or_else(bad)?,
        None => text,
    };
    let (mut out, mut rest) = ([0_u8; 16], body.as_bytes());
    for (i, byte) in out.iter_mut().enumerate() {
        let [a, b, tail @ ..] = rest else {
            return Err(bad());
        };
        let digit = |c: &u8| char::from(*c).to_digit(16).map(|d| d as u8).ok_or_else(bad);
        *byte = digit(a)? << 4 | digit(b)?;
        rest = tail;
        if rest.first() == Some(&b'-') && i % 2 == 1 && i < 15 {
            rest = &rest[1..];
        }
    }
    if rest.is_empty() { Ok(out) } else { Err(bad()) }
}

pub(crate) fn write_uuid(bytes: &[u8; 16], out: &mut BytesMut) {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = uuid::Uuid::from_bytes(*bytes)
        .hyphenated()
        .encode_lower(&mut buffer)
        .as_bytes();
    out.put_slice(text);
}

/// Unsigned, but a negative number wraps around, as C reads it.
pub(crate) fn parse_oid(text: &str) -> Result<u32, TypeError> {
    let body = trimmed(text);
    let digits = body.strip_prefix(['-', '+']).unwrap_or(body);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad_input("oid", text));
    }
    let range = || {
        TypeError::new(
            "22003",
            format!("value \"{text}\" is out of range for type oid"),
        )
    };
    let value: i64 = body.parse().map_err(|_| range())?;
    if value >= 0 {
        u32::try_from(value).map_err(|_| range())
    } else {
        i32::try_from(value).map(|v| v as u32).map_err(|_| range())
    }
}

/// What C's `strtoull` makes of the text: PostgreSQL 15 checks no more.
pub(crate) fn parse_xid(text: &str) -> u64 {
    let body = trimmed(text);
    let (negative, body) = match body.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, body.strip_prefix('+').unwrap_or(body)),
    };
    let lower = body.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    let mut value = 0_u64;
    for c in digits.chars() {
        let Some(d) = c.to_digit(radix) else { break };
        value = value
            .saturating_mul(u64::from(radix))
            .saturating_add(u64::from(d));
    }
    if negative {
        value.wrapping_neg()
    } else {
        value
    }
}

/// `(block,offset)`; offset 0, which no row has, is refused.
pub(crate) fn parse_tid(text: &str) -> Result<Tid, TypeError> {
    let bad = || bad_input("tid", text);
    let inside = trimmed(text)
        .strip_prefix('(')
        .and_then(|t| t.strip_suffix(')'))
        .ok_or_else(bad)?;
    let (block, offset) = inside.split_once(',').ok_or_else(bad)?;
    let block: u32 = block.parse().map_err(|_| bad())?;
    let offset: u16 = offset.parse().map_err(|_| bad())?;
    let offset = OffsetNumber::new(offset).ok_or_else(bad)?;
    Ok(Tid::new(BlockNumber::new(block), offset))
}
