//! `numeric`: operators, functions, casts.

use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Rows;
use crate::types::numeric::Numeric;
use crate::types::oids;

comparisons! {
    numeric_eq numeric_ne numeric_lt numeric_le numeric_gt numeric_ge numeric_cmp: &Numeric, &Numeric, |a: &Numeric, b: &Numeric| a.cmp(b);
}
extremes! { numeric_larger numeric_smaller: oids::NUMERIC; }

scalar! {
    fn numeric_add(a: &Numeric, b: &Numeric) -> Numeric { a.add(b) }
    fn numeric_sub(a: &Numeric, b: &Numeric) -> Numeric { a.sub(b) }
    fn numeric_mul(a: &Numeric, b: &Numeric) -> Numeric { a.mul(b) }
    fn numeric_div(a: &Numeric, b: &Numeric) -> Numeric { a.div(b) }
    fn numeric_div_trunc(a: &Numeric, b: &Numeric) -> Numeric { a.div_trunc(b) }
    fn numeric_mod(a: &Numeric, b: &Numeric) -> Numeric { a.rem(b) }
    fn numeric_uminus(a: &Numeric) -> Numeric { Ok(a.neg()) }
    fn numeric_uplus(a: &Numeric) -> Numeric { Ok(a.clone()) }
    fn numeric_abs(a: &Numeric) -> Numeric { Ok(a.abs()) }
    fn numeric_sign(a: &Numeric) -> Numeric { Ok(if a.is_nan() { Numeric::NaN } else { Numeric::from(a.signum()) }) }
    fn numeric_ceil(a: &Numeric) -> Numeric { Ok(a.ceil()) }
    fn numeric_floor(a: &Numeric) -> Numeric { Ok(a.floor()) }
    fn numeric_round(a: &Numeric, scale: i32) -> Numeric { Ok(a.clone().round_to(i64::from(scale.clamp(-131_073, 16_383)))) }
    fn numeric_trunc(a: &Numeric, scale: i32) -> Numeric { Ok(a.clone().trunc_to(i64::from(scale.clamp(-131_073, 16_383)))) }
    fn numeric_round_integer(a: &Numeric) -> Numeric { Ok(a.clone().round_to(0)) }
    fn numeric_trunc_integer(a: &Numeric) -> Numeric { Ok(a.clone().trunc_to(0)) }
    fn numeric_sqrt(a: &Numeric) -> Numeric { a.sqrt() }
    fn numeric_exp(a: &Numeric) -> Numeric { a.exp() }
    fn numeric_ln(a: &Numeric) -> Numeric { a.ln() }
    fn numeric_log(base: &Numeric, a: &Numeric) -> Numeric { a.log(base) }
    fn numeric_log10(a: &Numeric) -> Numeric { a.log(&Numeric::from(10)) }
    fn numeric_power(a: &Numeric, b: &Numeric) -> Numeric { a.power(b) }
    fn numeric_gcd(a: &Numeric, b: &Numeric) -> Numeric { Ok(a.gcd(b)) }
    fn numeric_lcm(a: &Numeric, b: &Numeric) -> Numeric { a.lcm(b) }
    fn numeric_fac(n: i64) -> Numeric { Numeric::factorial(n) }
    fn numeric_inc(a: &Numeric) -> Numeric { a.add(&Numeric::one()) }
    fn numeric_scale(a: &Numeric) -> Option<i32> { Ok(a.is_finite().then(|| a.scale() as i32)) }
    fn numeric_min_scale(a: &Numeric) -> Option<i32> { Ok(a.min_scale().map(|s| s as i32)) }
    fn numeric_trim_scale(a: &Numeric) -> Numeric {
        Ok(match a.min_scale() { Some(s) => a.clone().round_to(i64::from(s)), None => a.clone() })
    }
    fn width_bucket_numeric(a: &Numeric, low: &Numeric, high: &Numeric, count: i32) -> i32 {
        a.width_bucket(low, high, count)
    }

    fn int2_numeric(a: i16) -> Numeric { Ok(a.into()) }
    fn int4_numeric(a: i32) -> Numeric { Ok(a.into()) }
    fn int8_numeric(a: i64) -> Numeric { Ok(a.into()) }
    fn float4_numeric(a: f32) -> Numeric { Ok(Numeric::from_f32(a)) }
    fn float8_numeric(a: f64) -> Numeric { Ok(Numeric::from_f64(a)) }
    fn numeric_int2(a: &Numeric) -> i16 { a.to_integer_of("smallint") }
    fn numeric_int4(a: &Numeric) -> i32 { a.to_integer_of("integer") }
    fn numeric_int8(a: &Numeric) -> i64 { a.to_integer_of("bigint") }
    fn numeric_float4(a: &Numeric) -> f32 {
        let v = a.to_f32();
        if a.is_finite() && (v.is_infinite() || (v == 0.0 && a.signum() != 0)) {
            return Err(TypeError::new("22003", format!("\"{a}\" is out of range for type real")));
        }
        Ok(v)
    }
    fn numeric_float8(a: &Numeric) -> f64 {
        let v = a.to_f64();
        if a.is_finite() && (v.is_infinite() || (v == 0.0 && a.signum() != 0)) {
            return Err(TypeError::new("22003", format!("\"{a}\" is out of range for type double precision")));
        }
        Ok(v)
    }
    fn numeric(a: &Numeric, modifier: i32) -> Numeric { a.clone().apply_modifier(modifier) }

    fn pg_size_pretty_numeric(size: &Numeric) -> String { pretty_size(size) }
    fn pg_size_pretty(size: i64) -> String { pretty_size(&Numeric::from(size)) }
    fn pg_size_bytes(text: &str) -> i64 { size_bytes(text) }
}

/// Unit, and the size (in bytes, then in half units) below which it is used.
const UNITS: [(&str, i64); 6] = [
    ("bytes", 10 * 1024),
    ("kB", 20 * 1024 - 1),
    ("MB", 20 * 1024 - 1),
    ("GB", 20 * 1024 - 1),
    ("TB", 20 * 1024 - 1),
    ("PB", 20 * 1024 - 1),
];

/// Halves are kept while units grow, and rounded at the end.
fn pretty_size(size: &Numeric) -> Result<String, TypeError> {
    let mut size = size.clone();
    let two = Numeric::from(2);
    for (i, (unit, limit)) in UNITS.iter().enumerate() {
        if i + 1 == UNITS.len() || size.abs() < Numeric::from(*limit) {
            if i > 0 {
                // Rounded half away from zero.
                let one = Numeric::one();
                size = if size.signum() >= 0 {
                    size.add(&one)?
                } else {
                    size.sub(&one)?
                }
                .div_trunc(&two)?;
            }
            return Ok(format!("{size} {unit}"));
        }
        // From bytes to half kB, later from half a unit to half the next.
        let shift = if i == 0 { 512 } else { 1024 };
        size = size.div_trunc(&Numeric::from(shift))?;
    }
    unreachable!("the last unit takes every size")
}

fn size_bytes(text: &str) -> Result<i64, TypeError> {
    let invalid = || TypeError::new("22023", format!("invalid size: \"{text}\""));
    let body = text.trim();
    let bytes = body.as_bytes();
    let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let start = end;
    let digits = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    end = digits(end);
    let mut any = end > start;
    if bytes.get(end) == Some(&b'.') {
        let after = digits(end + 1);
        any |= after > end + 1;
        end = after;
    }
    if !any {
        return Err(invalid());
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
        }
    }
    let number = Numeric::parse(&body[..end])?;
    let unit = body[end..].trim();
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "bytes" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        "pb" => 50,
        _ => {
            return Err(invalid()
                .with_detail(format!("Invalid size unit: \"{unit}\"."))
                .with_hint(
                    "Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".",
                ));
        }
    };
    number
        .mul(&Numeric::from(1_i64 << power))?
        .to_integer_of("bigint")
}

/// `generate_series` over numerics.
fn series(first: &Numeric, last: &Numeric, step: &Numeric) -> Result<Rows, TypeError> {
    let bad = |what: &str| Err(TypeError::new("22023", what));
    for (n, name) in [(first, "start"), (last, "stop"), (step, "step")] {
        let article = if name == "step" {
            "step size"
        } else {
            &format!("{name} value")
        };
        if n.is_nan() {
            return bad(&format!("{article} cannot be NaN"));
        }
        if !n.is_finite() {
            return bad(&format!("{article} cannot be infinity"));
        }
    }
    if step.signum() == 0 {
        return bad("step size cannot equal zero");
    }
    let (mut next, last, step) = (Some(first.clone()), last.clone(), step.clone());
    Ok(Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        let over = if step.signum() > 0 {
            current > last
        } else {
            current < last
        };
        if over {
            return None;
        }
        match current.add(&step) {
            Ok(n) => next = Some(n),
            Err(e) => return Some(Err(e)),
        }
        Some(Ok(Datum::Numeric(current.into())))
    })))
}

rows! {
    fn generate_series_numeric(first: &Numeric, last: &Numeric) { series(first, last, &Numeric::one()) }
    fn generate_series_step_numeric(first: &Numeric, last: &Numeric, step: &Numeric) { series(first, last, step) }
}
