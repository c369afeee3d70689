//! `real` and `double precision` as text.

use std::fmt::Write;

use crate::types::error::TypeError;

fn bad(text: &str, type_name: &str) -> TypeError {
    TypeError::new(
        "22P02",
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}
fn range(text: &str, type_name: &str) -> TypeError {
    TypeError::new(
        "22003",
        format!("\"{text}\" is out of range for type {type_name}"),
    )
}

fn special(body: &str) -> Option<f64> {
    let (negative, word) = match body.as_bytes().first()? {
        b'-' => (true, &body[1..]),
        b'+' => (false, &body[1..]),
        _ => (false, body),
    };
    if word.eq_ignore_ascii_case("infinity") || word.eq_ignore_ascii_case("inf") {
        return Some(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    word.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

/// Blanks around dropped; the body must look like a decimal number (Rust would also take `1.` and `.5`, as C does).
fn body_of(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}
fn looks_numeric(body: &str) -> bool {
    !body.is_empty()
        && body
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}
/// Has the mantissa a digit other than 0, so that a result of 0 is an underflow?
fn nonzero(body: &str) -> bool {
    body.bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| (b'1'..=b'9').contains(&b))
}

pub fn parse_f64(text: &str) -> Result<f64, TypeError> {
    const NAME: &str = "double precision";
    let body = body_of(text);
    if let Some(v) = special(body) {
        return Ok(v);
    }
    if !looks_numeric(body) {
        return Err(bad(text, NAME));
    }
    let v: f64 = body.parse().map_err(|_| bad(text, NAME))?;
    if v.is_infinite() || (v == 0.0 && nonzero(body)) {
        return Err(range(body, NAME));
    }
    Ok(v)
}

pub fn parse_f32(text: &str) -> Result<f32, TypeError> {
    const NAME: &str = "real";
    let body = body_of(text);
    if let Some(v) = special(body) {
        return Ok(v as f32);
    }
    if !looks_numeric(body) {
        return Err(bad(text, NAME));
    }
    let v: f32 = body.parse().map_err(|_| bad(text, NAME))?;
    if v.is_infinite() || (v == 0.0 && nonzero(body)) {
        return Err(range(body, NAME));
    }
    Ok(v)
}

fn write_special(v: f64, out: &mut impl Write) -> bool {
    let text = if v.is_nan() {
        "NaN"
    } else if v == f64::INFINITY {
        "Infinity"
    } else if v == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        return false;
    };
    let _ = out.write_str(text);
    true
}

/// Digits and exponent in the layout of C's `%g`: plain from 1e-4 up to `most` digits before the point.
fn layout(negative: bool, digits: &str, exponent: i32, most: i32, out: &mut impl Write) {
    if negative {
        let _ = out.write_char('-');
    }
    let count = digits.len() as i32;
    if exponent < -4 || exponent >= most {
        let _ = out.write_str(&digits[..1]);
        if count > 1 {
            let _ = write!(out, ".{}", &digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        let _ = out.write_str("0.");
        for _ in 0..-exponent - 1 {
            let _ = out.write_char('0');
        }
        let _ = out.write_str(digits);
    } else if count <= exponent + 1 {
        let _ = out.write_str(digits);
        for _ in 0..exponent + 1 - count {
            let _ = out.write_char('0');
        }
    } else {
        let (whole, fraction) = digits.split_at((exponent + 1) as usize);
        let _ = write!(out, "{whole}.{fraction}");
    }
}

/// Mantissa digits without trailing zeros, and the exponent of the first, from `d.ddde±x`.
fn take_apart(text: &str) -> (String, i32) {
    let (mantissa, exponent) = text.split_once('e').expect("scientific notation");
    let digits: String = mantissa
        .bytes()
        .filter(u8::is_ascii_digit)
        .map(char::from)
        .collect();
    let trimmed = digits.trim_end_matches('0');
    let kept = if trimmed.is_empty() { "0" } else { trimmed };
    (kept.to_owned(), exponent.parse().expect("an exponent"))
}

/// C's `%.*g`.
pub(crate) fn write_g(v: f64, precision: usize, out: &mut impl Write) {
    if write_special(v, out) {
        return;
    }
    let precision = precision.max(1);
    let (digits, exponent) = take_apart(&format!("{:.*e}", precision - 1, v.abs()));
    layout(
        v.is_sign_negative(),
        &digits,
        exponent,
        precision as i32,
        out,
    );
}

/// Shortest text that reads back as the same double, or `extra_float_digits` below 1 for fewer digits.
pub fn write_f64(v: f64, extra_digits: i32, out: &mut impl Write) {
    if write_special(v, out) {
        return;
    }
    if extra_digits <= 0 {
        return write_g(v, (15 + extra_digits).max(1) as usize, out);
    }
    // Small whole numbers, the common case, need no search for the shortest form.
    if v.fract() == 0.0 && v.abs() < 1e15 && !(v == 0.0 && v.is_sign_negative()) {
        let _ = write!(out, "{}", v as i64);
        return;
    }
    let (digits, exponent) = take_apart(&shortest_f64(v.abs()));
    layout(v.is_sign_negative(), &digits, exponent, 15, out);
}

/// The same for `real`.
pub fn write_f32(v: f32, extra_digits: i32, out: &mut impl Write) {
    if write_special(f64::from(v), out) {
        return;
    }
    if extra_digits <= 0 {
        return write_g(f64::from(v), (6 + extra_digits).max(1) as usize, out);
    }
    let (digits, exponent) = take_apart(&shortest_f32(v.abs()));
    layout(v.is_sign_negative(), &digits, exponent, 6, out);
}

fn shortest_f64(v: f64) -> String {
    let (mantissa, exponent) = (
        v.to_bits() & ((1 << 52) - 1) | 1 << 52,
        (v.to_bits() >> 52) as i32 - 1075,
    );
    settled(
        format!("{v:e}"),
        mantissa,
        exponent,
        17,
        |p| format!("{v:.p$e}"),
        |s| s.parse() == Ok(v),
    )
}
fn shortest_f32(v: f32) -> String {
    let (mantissa, exponent) = (
        v.to_bits() & ((1 << 23) - 1) | 1 << 23,
        (v.to_bits() >> 23) as i32 - 150,
    );
    settled(
        format!("{v:e}"),
        mantissa.into(),
        exponent,
        9,
        |p| format!("{v:.p$e}"),
        |s| s.parse() == Ok(v),
    )
}

/// PostgreSQL takes a decimal only if it lies strictly nearer to the value than to its neighbours, and of two equally
/// near the one with an even last digit. Only large whole numbers have short decimals halfway to a neighbour.
fn settled(
    short: String,
    mantissa: u64,
    exponent: i32,
    most: usize,
    with_digits: impl Fn(usize) -> String,
    reads_back: impl Fn(&str) -> bool,
) -> String {
    let exact = with_digits(take_apart(&short).0.len() - 1);
    let short = if reads_back(&exact) { exact } else { short };
    let (digits, at) = take_apart(&short);
    let power = at + 1 - digits.len() as i32;
    if exponent < 1 || !(0..=40).contains(&power) {
        return short;
    }
    let decimal = digits.parse::<num_bigint::BigUint>().expect("digits")
        * num_bigint::BigUint::from(10_u8).pow(power as u32);
    let half = |m: u64| num_bigint::BigUint::from(m) << (exponent - 1) as u32;
    if decimal != half(2 * mantissa + 1) && decimal != half(2 * mantissa - 1) {
        return short;
    }
    let longer = (digits.len()..most).map(with_digits);
    longer
        .into_iter()
        .find(|s| take_apart(s).0 != digits && reads_back(s))
        .unwrap_or(short)
}
