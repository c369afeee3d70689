//! Functions over values of any type, and small ones that belong nowhere else.

use super::json_build::spread;
use super::strings::{pad_field, quote_identifier, quote_literal_text};
use crate::ids::Oid;
use crate::types::codec;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::{CallTypes, FunctionCx};
use crate::types::{array::Array, oids, registry, size};

fn text(value: &Datum, ty: Oid, cx: &FunctionCx) -> Result<String, TypeError> {
    codec::check_text(value, cx)?;
    Ok(codec::to_text(ty, value, cx))
}

/// Error 54000 beyond what a value may need.
fn append(out: &mut String, more: &str) -> Result<(), TypeError> {
    size::grow(out.len(), more.len())?;
    out.push_str(more);
    Ok(())
}

fn too_few() -> TypeError {
    TypeError::new("22023", "too few arguments for format()")
}

/// A conversion of `format`: `%[position$][flags][width]type`.
#[derive(Default)]
struct Spec {
    position: Option<usize>,
    left: bool,
    width: Option<Width>,
}
enum Width {
    Fixed(i32),
    Next,
    At(usize),
}

struct Formatter<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    args: Vec<(&'a Datum, Oid)>,
    next: usize,
    cx: &'a FunctionCx,
}

impl Formatter<'_> {
    fn bad_end() -> TypeError {
        TypeError::new("22023", "unterminated format() type specifier")
            .with_hint("For a single \"%\" use \"%%\".")
    }
    fn digits(&mut self) -> Result<Option<i32>, TypeError> {
        let mut value: Option<i32> = None;
        while let Some(d) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            self.chars.next();
            let next = value
                .unwrap_or(0)
                .checked_mul(10)
                .and_then(|v| v.checked_add(d as i32));
            value = Some(next.ok_or_else(|| TypeError::new("22003", "number is out of range"))?);
        }
        Ok(value)
    }
    fn position(n: i32) -> Result<usize, TypeError> {
        if n == 0 {
            return Err(TypeError::new(
                "22023",
                "format specifies argument 0, but arguments are numbered from 1",
            ));
        }
        Ok(n as usize)
    }
    fn spec(&mut self) -> Result<Spec, TypeError> {
        let mut spec = Spec::default();
        if let Some(n) = self.digits()? {
            if self.chars.peek() == Some(&'$') {
                self.chars.next();
                spec.position = Some(Self::position(n)?);
            } else {
                spec.width = Some(Width::Fixed(n));
                return Ok(spec);
            }
        }
        while self.chars.peek() == Some(&'-') {
            self.chars.next();
            spec.left = true;
        }
        if self.chars.peek() == Some(&'*') {
            self.chars.next();
            spec.width = Some(match self.digits()? {
                Some(n) => {
                    if self.chars.next() != Some('$') {
                        return Err(TypeError::new(
                            "22023",
                            "width argument position must be ended by \"$\"",
                        ));
                    }
                    Width::At(Self::position(n)?)
                }
                None => Width::Next,
            });
        } else if let Some(n) = self.digits()? {
            spec.width = Some(Width::Fixed(n));
        }
        Ok(spec)
    }
    fn argument(&mut self, position: Option<usize>) -> Result<(&Datum, Oid), TypeError> {
        let index = position.map_or(self.next, |p| p - 1);
        self.next = index + 1;
        self.args.get(index).copied().ok_or_else(too_few)
    }
    fn width(&mut self, spec: &Spec) -> Result<i32, TypeError> {
        let cx = self.cx;
        let (value, ty) = match spec.width {
            None => return Ok(0),
            Some(Width::Fixed(n)) => return Ok(n),
            Some(Width::Next) => self.argument(None)?,
            Some(Width::At(p)) => self.argument(Some(p))?,
        };
        if value.is_null() {
            return Ok(0);
        }
        codec::parse_int(&text(value, ty, cx)?, "integer")
    }
    fn run(mut self) -> Result<String, TypeError> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match self.chars.peek() {
                None => return Err(Self::bad_end()),
                Some('%') => {
                    self.chars.next();
                    out.push('%');
                    continue;
                }
                _ => {}
            }
            let mut spec = self.spec()?;
            let kind = self.chars.next().ok_or_else(Self::bad_end)?;
            if !matches!(kind, 's' | 'I' | 'L') {
                return Err(TypeError::new(
                    "22023",
                    format!("unrecognized format() type specifier \"{kind}\""),
                )
                .with_hint("For a single \"%\" use \"%%\"."));
            }
            let mut width = self.width(&spec)?;
            if width < 0 {
                spec.left = true;
                width = width
                    .checked_neg()
                    .ok_or_else(|| TypeError::new("22003", "number is out of range"))?;
            }
            let cx = self.cx;
            let (value, ty) = self.argument(spec.position)?;
            let shown = match (kind, value.is_null()) {
                ('s', true) => String::new(),
                ('L', true) => "NULL".to_owned(),
                (_, true) => {
                    return Err(TypeError::new(
                        "22004",
                        "null values cannot be formatted as an SQL identifier",
                    ));
                }
                ('s', false) => text(value, ty, cx)?,
                ('I', false) => quote_identifier(&text(value, ty, cx)?),
                (_, false) => quote_literal_text(&text(value, ty, cx)?),
            };
            size::grow(out.len(), shown.len() + width as usize)?;
            pad_field(&shown, width as usize, spec.left, &mut out);
        }
        Ok(out)
    }
}

fn format(
    args: &[Datum],
    types: CallTypes<'_>,
    cx: &FunctionCx,
) -> Result<Option<String>, TypeError> {
    let Datum::Text(pattern) = &args[0] else {
        return Ok(None);
    };
    let formatter = Formatter {
        chars: pattern.chars().peekable(),
        args: spread(args, types, 1),
        next: 0,
        cx,
    };
    formatter.run().map(Some)
}

typed! {
    fn text_concat[args, types, cx] -> String {
        let mut out = String::new();
        for (value, ty) in spread(args, types, 0) {
            if !value.is_null() { append(&mut out, &text(value, ty, cx)?)?; }
        }
        Ok(out)
    }
    fn text_concat_ws[args, types, cx] -> Option<String> {
        let Datum::Text(separator) = &args[0] else { return Ok(None) };
        let (mut out, mut any) = (String::new(), false);
        for (value, ty) in spread(args, types, 1) {
            if value.is_null() { continue; }
            if any { append(&mut out, separator)?; }
            append(&mut out, &text(value, ty, cx)?)?;
            any = true;
        }
        Ok(Some(out))
    }
    fn text_format[args, types, cx] -> Option<String> { format(args, types, cx) }
    fn text_format_nv[args, types, cx] -> Option<String> { format(args, types, cx) }
    fn pg_typeof[args, types, _cx] -> Oid {
        let _ = args;
        Ok(types.args[0])
    }
    fn pg_num_nulls[args, types, _cx] -> i32 {
        Ok(spread(args, types, 0).iter().filter(|(v, _)| v.is_null()).count() as i32)
    }
    fn pg_num_nonnulls[args, types, _cx] -> i32 {
        Ok(spread(args, types, 0).iter().filter(|(v, _)| !v.is_null()).count() as i32)
    }
}

scalar! {
    fn format_type(oid: Option<Oid>, modifier: Option<i32>) -> Option<String> {
        Ok(oid.map(|oid| match modifier {
            Some(modifier) => registry::format_type(SqlType { oid, modifier }).into_owned(),
            None => registry::type_name(oid).into_owned(),
        }))
    }
    fn gen_random_uuid() -> [u8; 16] { Ok(*uuid::Uuid::new_v4().as_bytes()) }
    fn parse_ident(a: &str, strict: bool) -> Array { identifiers(a, strict) }
    fn unistr(a: &str) -> String { unescape(a) }
    fn numerictypmodout(modifier: i32) -> String { Ok(registry::modifier_text(SqlType { oid: oids::NUMERIC, modifier })) }
    fn varchartypmodout(modifier: i32) -> String { Ok(registry::modifier_text(SqlType { oid: oids::VARCHAR, modifier })) }
    fn bpchartypmodout(modifier: i32) -> String { Ok(registry::modifier_text(SqlType { oid: oids::BPCHAR, modifier })) }
}

/// `a."B".c` taken apart; unquoted names in lower case.
fn identifiers(input: &str, strict: bool) -> Result<Array, TypeError> {
    let bad = |detail: Option<String>| {
        let error = TypeError::new(
            "22023",
            format!("string is not a valid identifier: \"{input}\""),
        );
        match detail {
            Some(d) => error.with_detail(d),
            None => error,
        }
    };
    let mut rest = input.trim_start();
    let mut names = Vec::new();
    loop {
        let missing = match (names.is_empty(), rest.chars().next()) {
            (_, Some('"')) => {
                let (name, after) = quoted_name(&rest[1..])
                    .ok_or_else(|| bad(Some("String has unclosed double quotes.".to_owned())))?;
                if name.is_empty() {
                    return Err(bad(Some("Quoted identifier must not be empty.".to_owned())));
                }
                names.push(Datum::text(&name));
                rest = after;
                None
            }
            (_, Some(c)) if c.is_ascii_alphabetic() || c == '_' || !c.is_ascii() => {
                let is_part =
                    |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                names.push(Datum::text(&rest[..end].to_ascii_lowercase()));
                rest = &rest[end..];
                None
            }
            (true, Some('.')) => Some(Some("No valid identifier before \".\".".to_owned())),
            (true, _) => Some(None),
            (false, _) => Some(Some("No valid identifier after \".\".".to_owned())),
        };
        if let Some(detail) = missing {
            return Err(bad(detail));
        }
        rest = rest.trim_start();
        match rest.strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() || !strict => break,
            None => return Err(bad(None)),
        }
    }
    Ok(Array::of(oids::TEXT, names))
}

/// Up to the closing quote; two quotes are one. What follows comes second.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                rest = after;
            }
            None => return Some((out, rest)),
        }
    }
}

/// `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` as characters.
fn unescape(input: &str) -> Result<String, TypeError> {
    let invalid = || {
        TypeError::new("42601", "invalid Unicode escape")
            .with_hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let pair = || TypeError::new("42601", "invalid Unicode surrogate pair");
    let (mut out, mut rest, mut high) = (String::new(), input, None::<u32>);
    while let Some(c) = rest.chars().next() {
        let code = if let Some(after) = rest.strip_prefix('\\') {
            if let Some(behind) = after.strip_prefix('\\') {
                rest = behind;
                if high.is_some() {
                    return Err(pair());
                }
                out.push('\\');
                continue;
            }
            let (skip, width) = match after.chars().next() {
                Some('u') => (1, 4),
                Some('U') => (1, 8),
                Some('+') => (1, 6),
                _ => (0, 4),
            };
            let digits = after
                .get(skip..skip + width)
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            rest = &after[skip + digits.ok_or_else(invalid)?.len()..];
            u32::from_str_radix(digits.expect("checked"), 16).map_err(|_| invalid())?
        } else {
            rest = &rest[c.len_utf8()..];
            if high.is_some() {
                return Err(pair());
            }
            out.push(c);
            continue;
        };
        match (code, high.take()) {
            (0xD800..=0xDBFF, None) => high = Some(code),
            (0xDC00..=0xDFFF, Some(h)) => {
                let joined = 0x10000 + ((h & 0x3FF) << 10) + (code & 0x3FF);
                out.push(char::from_u32(joined).ok_or_else(pair)?);
            }
            (0xD800..=0xDFFF, _) | (_, Some(_)) => return Err(pair()),
            (code, None) => {
                let c = char::from_u32(code).filter(|c| *c != '\0');
                out.push(c.ok_or_else(|| TypeError::new("42601", "invalid Unicode code point"))?);
            }
        }
    }
    if high.is_some() { Err(pair()) } else { Ok(out) }
}
