//! String functions: case, cutting, padding, searching, encoding. Positions count characters from 1.

use md5::Digest as _;

use super::text::char_count;
use crate::types::codec;
use crate::types::error::TypeError;
use crate::types::size::{self, MAX_BYTES};

fn too_large() -> TypeError {
    TypeError::new("54000", "requested length too large")
}

/// In the C locale only ASCII letters have case.
fn initcap_of(text: &str) -> String {
    let mut in_word = false;
    text.chars()
        .map(|c| {
            let changed = if in_word {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            };
            in_word = c.is_ascii_alphanumeric();
            changed
        })
        .collect()
}

/// Byte offset of the character with index `n`, or the end.
pub(crate) fn char_offset(text: &str, n: usize) -> usize {
    if text.is_ascii() {
        return n.min(text.len());
    }
    text.char_indices().nth(n).map_or(text.len(), |(i, _)| i)
}

/// `substring(text, start, length)`: `start` may lie before the beginning.
pub(crate) fn substring(text: &str, start: i32, length: Option<i32>) -> Result<&str, TypeError> {
    let end = match length {
        None => i64::from(i32::MAX),
        Some(n) if n < 0 => {
            // A sum that overflows upwards is no error, because the rest of the string is meant.
            return Err(TypeError::new(
                "22011",
                "negative substring length not allowed",
            ));
        }
        Some(n) => i64::from(start) + i64::from(n),
    };
    let from = i64::from(start).max(1);
    if end <= from {
        return Ok("");
    }
    let begin = char_offset(text, (from - 1) as usize);
    let rest = &text[begin..];
    Ok(if length.is_none() {
        rest
    } else {
        &rest[..char_offset(rest, (end - from) as usize)]
    })
}

fn byte_substring(data: &[u8], start: i32, length: Option<i32>) -> Result<&[u8], TypeError> {
    let end = match length {
        None => i64::MAX,
        Some(n) if n < 0 => {
            return Err(TypeError::new(
                "22011",
                "negative substring length not allowed",
            ));
        }
        Some(n) => i64::from(start) + i64::from(n),
    };
    let from = i64::from(start).max(1);
    let clip = |at: i64| (at - 1).clamp(0, data.len() as i64) as usize;
    Ok(if end <= from {
        &[]
    } else {
        &data[clip(from)..clip(end).max(clip(from))]
    })
}

/// 1-based position of the first `needle`, 0 if there is none.
pub(crate) fn position(haystack: &str, needle: &str) -> i32 {
    haystack
        .find(needle)
        .map_or(0, |at| char_count(&haystack[..at]) + 1)
}

fn overlay(text: &str, with: &str, start: i32, length: i32) -> Result<String, TypeError> {
    if start <= 0 {
        return Err(TypeError::new(
            "22011",
            "negative substring length not allowed",
        ));
    }
    let after = start
        .checked_add(length)
        .ok_or_else(|| super::integer::out_of_range("integer"))?;
    Ok(format!(
        "{}{with}{}",
        substring(text, 1, Some(start - 1))?,
        substring(text, after, None)?
    ))
}

fn pad_with(count: i64, fill: &str, out: &mut String) {
    out.extend(fill.chars().cycle().take(count as usize));
}

fn pad(text: &str, length: i32, fill: &str, left: bool) -> Result<String, TypeError> {
    let length = length.max(0) as usize;
    let have = char_count(text) as usize;
    if have >= length || fill.is_empty() {
        return Ok(text[..char_offset(text, length)].to_owned());
    }
    if length.saturating_mul(4) > MAX_BYTES {
        return Err(too_large());
    }
    let mut out = String::with_capacity(length);
    if !left {
        out.push_str(text);
    }
    pad_with((length - have) as i64, fill, &mut out);
    if left {
        out.push_str(text);
    }
    Ok(out)
}

/// A field of `format`: padded with blanks to `width` characters.
pub(crate) fn pad_field(text: &str, width: usize, left: bool, out: &mut String) {
    let missing = width.saturating_sub(char_count(text) as usize) as i64;
    if left {
        out.push_str(text);
    }
    pad_with(missing, " ", out);
    if !left {
        out.push_str(text);
    }
}

fn repeat_of(text: &str, count: i32) -> Result<String, TypeError> {
    let count = count.max(0) as usize;
    if text
        .len()
        .checked_mul(count)
        .is_none_or(|n| n > MAX_BYTES - 4)
    {
        return Err(too_large());
    }
    Ok(text.repeat(count))
}

fn replaced(text: &str, from: &str, to: &str) -> Result<String, TypeError> {
    if from.is_empty() {
        return Ok(text.to_owned());
    }
    if to.len() > from.len() {
        let count = text.matches(from).count();
        size::grow(
            text.len() - count * from.len(),
            count.saturating_mul(to.len()),
        )?;
    }
    Ok(text.replace(from, to))
}

fn trim<'a>(text: &'a str, set: &str, left: bool, right: bool) -> &'a str {
    let mut out = text;
    if left {
        out = out.trim_start_matches(|c| set.contains(c));
    }
    if right {
        out = out.trim_end_matches(|c| set.contains(c));
    }
    out
}

fn trim_bytes<'a>(data: &'a [u8], set: &[u8], left: bool, right: bool) -> &'a [u8] {
    let mut out = data;
    while let ([first, rest @ ..], true) = (out, left) {
        if !set.contains(first) {
            break;
        }
        out = rest;
    }
    while let ([rest @ .., last], true) = (out, right) {
        if !set.contains(last) {
            break;
        }
        out = rest;
    }
    out
}

fn translated(text: &str, from: &str, to: &str) -> String {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    text.chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            Some(i) => to.get(i).copied(),
            None => Some(c),
        })
        .collect()
}

/// The first or last `n` characters; below zero, all but that many.
fn leftmost(text: &str, n: i32) -> &str {
    let keep = if n < 0 {
        (char_count(text) + n).max(0)
    } else {
        n
    };
    &text[..char_offset(text, keep as usize)]
}
fn rightmost(text: &str, n: i32) -> &str {
    let skip = if n < 0 {
        i64::from(n.unsigned_abs())
    } else {
        (i64::from(char_count(text)) - i64::from(n)).max(0)
    };
    &text[char_offset(text, skip as usize)..]
}

fn part(text: &str, delimiter: &str, n: i32) -> Result<String, TypeError> {
    if n == 0 {
        return Err(TypeError::new("22023", "field position must not be zero"));
    }
    if text.is_empty() {
        return Ok(String::new());
    }
    if delimiter.is_empty() {
        return Ok(if n == 1 || n == -1 {
            text.to_owned()
        } else {
            String::new()
        });
    }
    let index = (n.unsigned_abs() - 1) as usize;
    // Fields are cut from the left even when they are counted from the right.
    let found = if n > 0 {
        text.split(delimiter).nth(index)
    } else {
        let all: Vec<&str> = text.split(delimiter).collect();
        all.len().checked_sub(index + 1).map(|i| all[i])
    };
    Ok(found.unwrap_or("").to_owned())
}

fn character(code: i32) -> Result<String, TypeError> {
    let program_limit = |m: String| TypeError::new("54000", m);
    match code {
        0 => Err(program_limit("null character not permitted".into())),
        ..0 => Err(TypeError::new("22023", "character number must be positive")),
        1..0x80 => Ok(char::from(code as u8).to_string()),
        _ if code > 0x0010_ffff => Err(program_limit(format!(
            "requested character too large for encoding: {code}"
        ))),
        _ => char::from_u32(code as u32)
            .map(|c| c.to_string())
            .ok_or_else(|| {
                program_limit(format!(
                    "requested character not valid for encoding: {code}"
                ))
            }),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(char::from_digit(u32::from(b >> 4), 16).expect("a nibble"));
        out.push(char::from_digit(u32::from(b & 15), 16).expect("a nibble"));
    }
    out
}

/// Base64 in lines of 76 characters, as PostgreSQL breaks them.
fn base64_lines(data: &[u8]) -> String {
    use base64::Engine as _;
    let plain = base64::engine::general_purpose::STANDARD.encode(data);
    let mut out = String::with_capacity(plain.len() + plain.len() / 76);
    for (i, c) in plain.chars().enumerate() {
        if i > 0 && i % 76 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    // A full last line is ended, too.
    if !plain.is_empty() && plain.len().is_multiple_of(76) {
        out.push('\n');
    }
    out
}

fn base64_decode(text: &str) -> Result<Vec<u8>, TypeError> {
    let bad = |m: String| TypeError::new("22023", m);
    let (mut out, mut buffer, mut count, mut ends) = (Vec::new(), 0_u32, 0, 0);
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        let value = match c {
            '=' => {
                if ends == 0 {
                    ends = match count {
                        2 => 1,
                        3 => 2,
                        _ => {
                            return Err(bad(
                                "unexpected \"=\" while decoding base64 sequence".into()
                            ));
                        }
                    };
                }
                0
            }
            'A'..='Z' => c as u32 - 'A' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 26,
            '0'..='9' => c as u32 - '0' as u32 + 52,
            '+' => 62,
            '/' => 63,
            _ => {
                return Err(bad(format!(
                    "invalid symbol \"{c}\" found while decoding base64 sequence"
                )));
            }
        };
        buffer = buffer << 6 | value;
        count += 1;
        if count == 4 {
            out.push((buffer >> 16) as u8);
            if ends == 0 || ends > 1 {
                out.push((buffer >> 8) as u8);
            }
            if ends == 0 || ends > 2 {
                out.push(buffer as u8);
            }
            (count, buffer) = (0, 0);
        }
    }
    if count != 0 {
        return Err(bad("invalid base64 end sequence".into())
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(out)
}

fn unknown_encoding(name: &str) -> TypeError {
    TypeError::new("22023", format!("unrecognized encoding: \"{name}\""))
}

fn escape_bytes(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len());
    for b in data {
        match b {
            b'\\' => out.push_str("\\\\"),
            0 | 0x80.. => out.push_str(&format!("\\{b:03o}")),
            b => out.push(char::from(*b)),
        }
    }
    out
}

/// Is the name one that needs no quotes? Lower case, no reserved word.
fn plain_identifier(name: &str) -> bool {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    first && rest && !super::keywords::needs_quotes(name)
}

/// `quote_ident`
pub fn quote_identifier(name: &str) -> String {
    if plain_identifier(name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// `quote_literal`
pub fn quote_literal_text(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    if text.contains('\\') {
        format!("E'{escaped}'")
    } else {
        format!("'{escaped}'")
    }
}

scalar! {
    fn upper(a: &str) -> String { Ok(a.to_ascii_uppercase()) }
    fn lower(a: &str) -> String { Ok(a.to_ascii_lowercase()) }
    fn initcap(a: &str) -> String { Ok(initcap_of(a)) }
    fn text_substr(a: &str, start: i32, length: i32) -> &str { substring(a, start, Some(length)) }
    fn text_substr_no_len(a: &str, start: i32) -> &str { substring(a, start, None) }
    fn bytea_substr(a: &[u8], start: i32, length: i32) -> &[u8] { byte_substring(a, start, Some(length)) }
    fn bytea_substr_no_len(a: &[u8], start: i32) -> &[u8] { byte_substring(a, start, None) }
    fn textpos(a: &str, b: &str) -> i32 { Ok(position(a, b)) }
    fn byteapos(a: &[u8], b: &[u8]) -> i32 {
        Ok(memchr::memmem::find(a, b).map_or(0, |i| i as i32 + 1))
    }
    fn textoverlay(a: &str, with: &str, start: i32, length: i32) -> String { overlay(a, with, start, length) }
    fn textoverlay_no_len(a: &str, with: &str, start: i32) -> String { overlay(a, with, start, char_count(with)) }
    fn replace_text(a: &str, from: &str, to: &str) -> String { replaced(a, from, to) }
    fn translate(a: &str, from: &str, to: &str) -> String { Ok(translated(a, from, to)) }
    fn btrim(a: &str, set: &str) -> &str { Ok(trim(a, set, true, true)) }
    fn ltrim(a: &str, set: &str) -> &str { Ok(trim(a, set, true, false)) }
    fn rtrim(a: &str, set: &str) -> &str { Ok(trim(a, set, false, true)) }
    fn btrim1(a: &str) -> &str { Ok(a.trim_matches(' ')) }
    fn ltrim1(a: &str) -> &str { Ok(a.trim_start_matches(' ')) }
    fn byteatrim(a: &[u8], set: &[u8]) -> &[u8] { Ok(trim_bytes(a, set, true, true)) }
    fn bytealtrim(a: &[u8], set: &[u8]) -> &[u8] { Ok(trim_bytes(a, set, true, false)) }
    fn byteartrim(a: &[u8], set: &[u8]) -> &[u8] { Ok(trim_bytes(a, set, false, true)) }
    fn lpad(a: &str, length: i32, fill: &str) -> String { pad(a, length, fill, true) }
    fn rpad(a: &str, length: i32, fill: &str) -> String { pad(a, length, fill, false) }
    fn lpad_blank(a: &str, length: i32) -> String { pad(a, length, " ", true) }
    fn rpad_blank(a: &str, length: i32) -> String { pad(a, length, " ", false) }
    fn repeat(a: &str, count: i32) -> String { repeat_of(a, count) }
    fn text_reverse(a: &str) -> String { Ok(a.chars().rev().collect()) }
    fn text_left(a: &str, n: i32) -> &str { Ok(leftmost(a, n)) }
    fn text_right(a: &str, n: i32) -> &str { Ok(rightmost(a, n)) }
    fn split_part(a: &str, delimiter: &str, n: i32) -> String { part(a, delimiter, n) }
    fn text_starts_with(a: &str, b: &str) -> bool { Ok(a.starts_with(b)) }
    fn chr(code: i32) -> String { character(code) }
    fn ascii(a: &str) -> i32 { Ok(a.chars().next().map_or(0, |c| c as i32)) }
    fn md5_text(a: &str) -> String { Ok(hex(&md5::Md5::digest(a.as_bytes()))) }
    fn md5_bytea(a: &[u8]) -> String { Ok(hex(&md5::Md5::digest(a))) }
    fn sha224_bytea(a: &[u8]) -> Vec<u8> { Ok(sha2::Sha224::digest(a).to_vec()) }
    fn sha256_bytea(a: &[u8]) -> Vec<u8> { Ok(sha2::Sha256::digest(a).to_vec()) }
    fn sha384_bytea(a: &[u8]) -> Vec<u8> { Ok(sha2::Sha384::digest(a).to_vec()) }
    fn sha512_bytea(a: &[u8]) -> Vec<u8> { Ok(sha2::Sha512::digest(a).to_vec()) }
    fn binary_encode(a: &[u8], form: &str) -> String {
        match form.to_ascii_lowercase().as_str() {
            "hex" => Ok(hex(a)),
            "base64" => Ok(base64_lines(a)),
            "escape" => Ok(escape_bytes(a)),
            _ => Err(unknown_encoding(form)),
        }
    }
    fn binary_decode(a: &str, form: &str) -> Vec<u8> {
        match form.to_ascii_lowercase().as_str() {
            "hex" => codec::hex_digits(a),
            "base64" => base64_decode(a),
            // Without the \x form, which only bytea input knows.
            "escape" => codec::parse_bytea(&if a.starts_with("\\x") { format!("\\{a}") } else { a.to_owned() })
                .and_then(|v| if a.starts_with("\\x") { Err(TypeError::new("22P02", "invalid input syntax for type bytea")) } else { Ok(v) }),
            _ => Err(unknown_encoding(form)),
        }
    }
    fn bytea_get_byte(a: &[u8], n: i32) -> i32 {
        index(n.into(), a.len() as i64).map(|i| i32::from(a[i]))
    }
    fn bytea_set_byte(a: &[u8], n: i32, value: i32) -> Vec<u8> {
        let i = index(n.into(), a.len() as i64)?;
        let mut out = a.to_vec();
        out[i] = value as u8;
        Ok(out)
    }
    fn bytea_get_bit(a: &[u8], n: i64) -> i32 {
        let i = index(n, a.len() as i64 * 8)?;
        Ok(i32::from(a[i / 8] >> (i % 8) & 1))
    }
    fn bytea_set_bit(a: &[u8], n: i64, value: i32) -> Vec<u8> {
        let i = index(n, a.len() as i64 * 8)?;
        if value != 0 && value != 1 {
            return Err(TypeError::new("22023", "new bit must be 0 or 1"));
        }
        let mut out = a.to_vec();
        out[i / 8] = out[i / 8] & !(1 << (i % 8)) | (value as u8) << (i % 8);
        Ok(out)
    }
    fn quote_ident(a: &str) -> String { Ok(quote_identifier(a)) }
    fn quote_literal(a: &str) -> String { Ok(quote_literal_text(a)) }
    fn quote_nullable(a: Option<&str>) -> String { Ok(a.map_or_else(|| "NULL".to_owned(), quote_literal_text)) }
    fn pg_convert_from(a: &[u8], encoding: &str) -> &str {
        utf8_only(encoding, "source")?;
        codec::text_of(a)
    }
    fn pg_convert_to(a: &str, encoding: &str) -> &[u8] { utf8_only(encoding, "destination")?; Ok(a.as_bytes()) }
}

/// Names that PostgreSQL knows encodings by, letters and digits only.
const ENCODINGS: &[&str] = &[
    "abc",
    "alt",
    "big5",
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "gb18030",
    "gbk",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "johab",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "mskanji",
    "muleinternal",
    "shiftjis",
    "shiftjis2004",
    "sjis",
    "tcvn",
    "tcvn5712",
    "uhc",
    "vscii",
    "win",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "win932",
    "win936",
    "win949",
    "win950",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "windows866",
    "windows874",
    "windows932",
    "windows936",
    "windows949",
    "windows950",
];

/// `plain`: in lower case, letters and digits only.
pub fn is_encoding_name(plain: &str) -> bool {
    matches!(plain, "utf8" | "unicode" | "sqlascii") || ENCODINGS.contains(&plain)
}

fn utf8_only(encoding: &str, side: &str) -> Result<(), TypeError> {
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    match plain.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        plain if !ENCODINGS.contains(&plain) => Err(TypeError::new(
            "22023",
            format!("invalid {side} encoding name \"{encoding}\""),
        )),
        _ => Err(TypeError::new(
            "0A000",
            format!(
                "{side} encoding \"{encoding}\" is not implemented: this server converts nothing but UTF8"
            ),
        )),
    }
}

fn index(n: i64, end: i64) -> Result<usize, TypeError> {
    if (0..end).contains(&n) {
        return Ok(n as usize);
    }
    Err(TypeError::new(
        "2202E",
        format!("index {n} out of valid range, 0..{}", end - 1),
    ))
}

typed! {
    fn quote_literal_any[args, types, cx] -> String {
        codec::check_text(&args[0], cx)?;
        Ok(quote_literal_text(&codec::to_text(types.args[0], &args[0], cx)))
    }
    fn quote_nullable_any[args, types, cx] -> String {
        if args[0].is_null() { return Ok("NULL".to_owned()); }
        codec::check_text(&args[0], cx)?;
        Ok(quote_literal_text(&codec::to_text(types.args[0], &args[0], cx)))
    }
}
