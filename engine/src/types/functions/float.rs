//! `real` and `double precision`: arithmetic that traps overflow and underflow, and the functions of a real variable.

use std::cmp::Ordering;

use super::integer::{division_by_zero, out_of_range};
use crate::types::compare::{compare_f32, compare_f64};
use crate::types::error::TypeError;
use crate::types::oids;

fn overflow() -> TypeError {
    TypeError::new("22003", "value out of range: overflow")
}
fn underflow() -> TypeError {
    TypeError::new("22003", "value out of range: underflow")
}
fn input_range() -> TypeError {
    TypeError::new("22003", "input is out of range")
}

comparisons! {
    float4eq float4ne float4lt float4le float4gt float4ge btfloat4cmp: f32, f32, compare_f32;
    float8eq float8ne float8lt float8le float8gt float8ge btfloat8cmp: f64, f64, compare_f64;
    float48eq float48ne float48lt float48le float48gt float48ge btfloat48cmp: f32, f64, |a: f32, b: f64| -> Ordering { compare_f64(f64::from(a), b) };
    float84eq float84ne float84lt float84le float84gt float84ge btfloat84cmp: f64, f32, |a: f64, b: f32| -> Ordering { compare_f64(a, f64::from(b)) };
}
extremes! {
    float4larger float4smaller: oids::FLOAT4;
    float8larger float8smaller: oids::FLOAT8;
}

/// The four operations in one width; results that left the range although the operands had not are errors.
macro_rules! operations {
    ($($t:ident: $add:ident $sub:ident $mul:ident $div:ident;)*) => {$(
        mod $t {
            use super::{TypeError, division_by_zero, overflow, underflow};
            pub(super) fn add(a: $t, b: $t) -> Result<$t, TypeError> {
                let r = a + b;
                if r.is_infinite() && !a.is_infinite() && !b.is_infinite() { Err(overflow()) } else { Ok(r) }
            }
            pub(super) fn sub(a: $t, b: $t) -> Result<$t, TypeError> {
                let r = a - b;
                if r.is_infinite() && !a.is_infinite() && !b.is_infinite() { Err(overflow()) } else { Ok(r) }
            }
            pub(super) fn mul(a: $t, b: $t) -> Result<$t, TypeError> {
                let r = a * b;
                if r.is_infinite() && !a.is_infinite() && !b.is_infinite() { return Err(overflow()); }
                if r == 0.0 && a != 0.0 && b != 0.0 { return Err(underflow()); }
                Ok(r)
            }
            pub(super) fn div(a: $t, b: $t) -> Result<$t, TypeError> {
                if b == 0.0 && !a.is_nan() { return Err(division_by_zero()); }
                let r = a / b;
                if r.is_infinite() && !a.is_infinite() { return Err(overflow()); }
                if r == 0.0 && a != 0.0 && !b.is_infinite() { return Err(underflow()); }
                Ok(r)
            }
        }
    )*};
}
operations! {
    f32: add sub mul div;
    f64: add sub mul div;
}
pub(crate) fn add_f64(a: f64, b: f64) -> Result<f64, TypeError> {
    self::f64::add(a, b)
}

scalar! {
    fn float4pl(a: f32, b: f32) -> f32 { self::f32::add(a, b) }
    fn float4mi(a: f32, b: f32) -> f32 { self::f32::sub(a, b) }
    fn float4mul(a: f32, b: f32) -> f32 { self::f32::mul(a, b) }
    fn float4div(a: f32, b: f32) -> f32 { self::f32::div(a, b) }
    fn float8pl(a: f64, b: f64) -> f64 { self::f64::add(a, b) }
    fn float8mi(a: f64, b: f64) -> f64 { self::f64::sub(a, b) }
    fn float8mul(a: f64, b: f64) -> f64 { self::f64::mul(a, b) }
    fn float8div(a: f64, b: f64) -> f64 { self::f64::div(a, b) }
    fn float48pl(a: f32, b: f64) -> f64 { self::f64::add(a.into(), b) }
    fn float48mi(a: f32, b: f64) -> f64 { self::f64::sub(a.into(), b) }
    fn float48mul(a: f32, b: f64) -> f64 { self::f64::mul(a.into(), b) }
    fn float48div(a: f32, b: f64) -> f64 { self::f64::div(a.into(), b) }
    fn float84pl(a: f64, b: f32) -> f64 { self::f64::add(a, b.into()) }
    fn float84mi(a: f64, b: f32) -> f64 { self::f64::sub(a, b.into()) }
    fn float84mul(a: f64, b: f32) -> f64 { self::f64::mul(a, b.into()) }
    fn float84div(a: f64, b: f32) -> f64 { self::f64::div(a, b.into()) }
    fn float4um(a: f32) -> f32 { Ok(-a) }
    fn float8um(a: f64) -> f64 { Ok(-a) }
    fn float4up(a: f32) -> f32 { Ok(a) }
    fn float8up(a: f64) -> f64 { Ok(a) }
    fn float4abs(a: f32) -> f32 { Ok(a.abs()) }
    fn float8abs(a: f64) -> f64 { Ok(a.abs()) }

    fn dround(a: f64) -> f64 { Ok(a.round_ties_even()) }
    fn dceil(a: f64) -> f64 { Ok(a.ceil()) }
    fn dfloor(a: f64) -> f64 { Ok(a.floor()) }
    fn dtrunc(a: f64) -> f64 { Ok(a.trunc()) }
    fn dsign(a: f64) -> f64 { Ok(if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { 0.0 }) }
    fn dsqrt(a: f64) -> f64 {
        if a < 0.0 { return Err(TypeError::new("2201F", "cannot take square root of a negative number")); }
        Ok(a.sqrt())
    }
    fn dcbrt(a: f64) -> f64 { Ok(a.cbrt()) }
    fn dpow(a: f64, b: f64) -> f64 { power(a, b) }
    fn dexp(a: f64) -> f64 {
        let r = a.exp();
        if r.is_infinite() && !a.is_infinite() { return Err(overflow()); }
        if r == 0.0 && a.is_finite() { return Err(underflow()); }
        Ok(r)
    }
    fn dlog1(a: f64) -> f64 { check_log(a)?; Ok(a.ln()) }
    fn dlog10(a: f64) -> f64 { check_log(a)?; Ok(a.log10()) }
    fn dpi() -> f64 { Ok(std::f64::consts::PI) }
    fn degrees(a: f64) -> f64 { self::f64::div(a, std::f64::consts::PI / 180.0) }
    fn radians(a: f64) -> f64 { self::f64::mul(a, std::f64::consts::PI / 180.0) }

    fn dsin(a: f64) -> f64 { finite_argument(a)?; Ok(a.sin()) }
    fn dcos(a: f64) -> f64 { finite_argument(a)?; Ok(a.cos()) }
    fn dtan(a: f64) -> f64 { finite_argument(a)?; Ok(a.tan()) }
    fn dcot(a: f64) -> f64 { finite_argument(a)?; Ok(1.0 / a.tan()) }
    fn dasin(a: f64) -> f64 { unit_argument(a)?; Ok(a.asin()) }
    fn dacos(a: f64) -> f64 { unit_argument(a)?; Ok(a.acos()) }
    fn datan(a: f64) -> f64 { Ok(a.atan()) }
    fn datan2(a: f64, b: f64) -> f64 { Ok(a.atan2(b)) }
    fn dsinh(a: f64) -> f64 { Ok(a.sinh()) }
    fn dcosh(a: f64) -> f64 { Ok(a.cosh()) }
    fn dtanh(a: f64) -> f64 { Ok(a.tanh()) }
    fn dasinh(a: f64) -> f64 { Ok(asinh(a)) }
    fn dacosh(a: f64) -> f64 { if a < 1.0 { return Err(input_range()); } Ok(acosh(a)) }
    fn datanh(a: f64) -> f64 {
        unit_argument(a)?;
        // At the ends C gives infinities without PostgreSQL calling it an error.
        Ok(atanh(a))
    }
    fn dsind(a: f64) -> f64 { finite_argument(a)?; Ok(sin_degrees(a)) }
    fn dcosd(a: f64) -> f64 { finite_argument(a)?; Ok(cos_degrees(a)) }
    fn dtand(a: f64) -> f64 { finite_argument(a)?; Ok(tan_degrees(a)) }
    fn dcotd(a: f64) -> f64 { finite_argument(a)?; Ok(cot_degrees(a)) }
    fn dasind(a: f64) -> f64 { unit_argument(a)?; Ok(asin_degrees(a)) }
    fn dacosd(a: f64) -> f64 { unit_argument(a)?; Ok(acos_degrees(a)) }
    fn datand(a: f64) -> f64 { Ok(a.atan() / 1_f64.atan() * 45.0) }
    fn datan2d(a: f64, b: f64) -> f64 { Ok(a.atan2(b) / 1_f64.atan() * 45.0) }

    fn ftod(a: f32) -> f64 { Ok(a.into()) }
    fn dtof(a: f64) -> f32 {
        let r = a as f32;
        if r.is_infinite() && !a.is_infinite() { return Err(overflow()); }
        if r == 0.0 && a != 0.0 { return Err(underflow()); }
        Ok(r)
    }
    fn i2tof(a: i16) -> f32 { Ok(a.into()) }
    fn i2tod(a: i16) -> f64 { Ok(a.into()) }
    fn i4tof(a: i32) -> f32 { Ok(a as f32) }
    fn i4tod(a: i32) -> f64 { Ok(a.into()) }
    fn i8tof(a: i64) -> f32 { Ok(a as f32) }
    fn i8tod(a: i64) -> f64 { Ok(a as f64) }
    fn ftoi2(a: f32) -> i16 { to_integer(a.into(), -32768.0, 32768.0, "smallint").map(|v| v as i16) }
    fn ftoi4(a: f32) -> i32 { to_integer(a.into(), -2_147_483_648.0, 2_147_483_648.0, "integer").map(|v| v as i32) }
    fn ftoi8(a: f32) -> i64 { to_integer(a.into(), I64_LOW, -I64_LOW, "bigint").map(|v| v as i64) }
    fn dtoi2(a: f64) -> i16 { to_integer(a, -32768.0, 32768.0, "smallint").map(|v| v as i16) }
    fn dtoi4(a: f64) -> i32 { to_integer(a, -2_147_483_648.0, 2_147_483_648.0, "integer").map(|v| v as i32) }
    fn dtoi8(a: f64) -> i64 { to_integer(a, I64_LOW, -I64_LOW, "bigint").map(|v| v as i64) }

    fn drandom() -> f64 { Ok(rand::random::<f64>()) }
    fn width_bucket_float8(x: f64, low: f64, high: f64, count: i32) -> i32 { bucket(x, low, high, count) }
}

const I64_LOW: f64 = -9_223_372_036_854_775_808.0;

/// Rounded to even; out of `[low, end)` is an error.
fn to_integer(v: f64, low: f64, end: f64, type_name: &str) -> Result<f64, TypeError> {
    let r = v.round_ties_even();
    if r >= low && r < end {
        Ok(r)
    } else {
        Err(out_of_range(type_name))
    }
}

fn check_log(a: f64) -> Result<(), TypeError> {
    if a == 0.0 {
        Err(TypeError::new("2201E", "cannot take logarithm of zero"))
    } else if a < 0.0 {
        Err(TypeError::new(
            "2201E",
            "cannot take logarithm of a negative number",
        ))
    } else {
        Ok(())
    }
}
fn finite_argument(a: f64) -> Result<(), TypeError> {
    if a.is_infinite() {
        Err(input_range())
    } else {
        Ok(())
    }
}
fn unit_argument(a: f64) -> Result<(), TypeError> {
    if !(-1.0..=1.0).contains(&a) && !a.is_nan() {
        Err(input_range())
    } else {
        Ok(())
    }
}

fn power(a: f64, b: f64) -> Result<f64, TypeError> {
    if a.is_nan() || b.is_nan() {
        return Ok(if b == 0.0 || a == 1.0 { 1.0 } else { f64::NAN });
    }
    if a == 0.0 && b < 0.0 {
        return Err(TypeError::new(
            "2201F",
            "zero raised to a negative power is undefined",
        ));
    }
    if a < 0.0 && b.fract() != 0.0 && !b.is_infinite() {
        return Err(TypeError::new(
            "2201F",
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let r = a.powf(b);
    if a.is_finite() && b.is_finite() {
        if r.is_infinite() {
            return Err(overflow());
        }
        if r == 0.0 && a != 0.0 {
            return Err(underflow());
        }
    }
    Ok(r)
}

// The inverse hyperbolic functions in the forms that lose no digits near 0 and do not overflow.

fn asinh(a: f64) -> f64 {
    let x = a.abs();
    let r = if x > 268_435_456.0 {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x)).ln()
    } else {
        let square = x * x;
        (x + square / (1.0 + (1.0 + square).sqrt())).ln_1p()
    };
    r.copysign(a)
}
fn acosh(x: f64) -> f64 {
    if x > 268_435_456.0 {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt())).ln()
    } else {
        let t = x - 1.0;
        (t + (2.0 * t + t * t).sqrt()).ln_1p()
    }
}
fn atanh(a: f64) -> f64 {
    let x = a.abs();
    let r = if x < 0.5 {
        let t = x + x;
        0.5 * (t + t * x / (1.0 - x)).ln_1p()
    } else {
        0.5 * ((x + x) / (1.0 - x)).ln_1p()
    };
    r.copysign(a)
}

// The inverse functions in degrees are scaled so that the angles with exact values come out exact.

fn asin_quadrant(x: f64) -> f64 {
    if x <= 0.5 {
        x.asin() / 0.5_f64.asin() * 30.0
    } else {
        90.0 - x.acos() / 0.5_f64.acos() * 60.0
    }
}
fn acos_quadrant(x: f64) -> f64 {
    if x <= 0.5 {
        90.0 - x.asin() / 0.5_f64.asin() * 30.0
    } else {
        x.acos() / 0.5_f64.acos() * 60.0
    }
}
fn asin_degrees(x: f64) -> f64 {
    if x >= 0.0 {
        asin_quadrant(x)
    } else {
        -asin_quadrant(-x)
    }
}
fn acos_degrees(x: f64) -> f64 {
    if x >= 0.0 {
        acos_quadrant(x)
    } else {
        90.0 + asin_quadrant(-x)
    }
}

/// The angle within the first quadrant, and the sign of its tangent.
fn tangent_quadrant(a: f64) -> (f64, f64) {
    let (mut x, mut sign) = (a % 360.0, 1.0);
    if x < 0.0 {
        (x, sign) = (-x, -1.0);
    }
    if x > 180.0 {
        (x, sign) = (360.0 - x, -sign);
    }
    if x > 90.0 {
        (x, sign) = (180.0 - x, -sign);
    }
    (x, sign)
}
fn tan_degrees(a: f64) -> f64 {
    let (x, sign) = tangent_quadrant(a);
    let tan = |x: f64| quadrant_sine(x) / quadrant_cosine(x);
    // No negative zero.
    sign * (tan(x) / tan(45.0)) + 0.0
}
fn cot_degrees(a: f64) -> f64 {
    let (x, sign) = tangent_quadrant(a);
    let cot = |x: f64| quadrant_cosine(x) / quadrant_sine(x);
    sign * (cot(x) / cot(45.0)) + 0.0
}

/// Sine of degrees, exact where it is 0, ±0.5 or ±1.
fn sin_degrees(a: f64) -> f64 {
    let mut x = a % 360.0;
    let mut sign = 1.0;
    if x < 0.0 {
        x = -x;
        sign = -1.0;
    }
    if x > 180.0 {
        x = 360.0 - x;
        sign = -sign;
    }
    if x > 90.0 {
        x = 180.0 - x;
    }
    sign * quadrant_sine(x)
}
fn cos_degrees(a: f64) -> f64 {
    let mut x = (a % 360.0).abs();
    let mut sign = 1.0;
    if x > 180.0 {
        x = 360.0 - x;
    }
    if x > 90.0 {
        x = 180.0 - x;
        sign = -1.0;
    }
    sign * quadrant_cosine(x)
}
fn quadrant_sine(x: f64) -> f64 {
    if x <= 30.0 {
        sine_to_30(x)
    } else {
        cosine_to_60(90.0 - x)
    }
}
/// Not the sine of the rest of the quadrant: taking the difference twice costs the last digit.
fn quadrant_cosine(x: f64) -> f64 {
    if x <= 60.0 {
        cosine_to_60(x)
    } else {
        sine_to_30(90.0 - x)
    }
}
fn sine_to_30(x: f64) -> f64 {
    x.to_radians().sin() / 30_f64.to_radians().sin() / 2.0
}
fn cosine_to_60(x: f64) -> f64 {
    let versine = |d: f64| 1.0 - d.to_radians().cos();
    1.0 - versine(x) / versine(60.0) / 2.0
}

fn bucket(x: f64, low: f64, high: f64, count: i32) -> Result<i32, TypeError> {
    let bad = |m: &str| Err(TypeError::new("2201G", m));
    if count <= 0 {
        return bad("count must be greater than zero");
    }
    if x.is_nan() || low.is_nan() || high.is_nan() {
        return bad("operand, lower bound, and upper bound cannot be NaN");
    }
    if low.is_infinite() || high.is_infinite() {
        return bad("lower and upper bounds must be finite");
    }
    if low == high {
        return bad("lower bound cannot equal upper bound");
    }
    let beyond = || count.checked_add(1).ok_or_else(|| out_of_range("integer"));
    let upwards = low < high;
    if if upwards { x < low } else { x > low } {
        return Ok(0);
    }
    if if upwards { x >= high } else { x <= high } {
        return beyond();
    }
    let part = if upwards {
        (x - low) / (high - low)
    } else {
        (low - x) / (low - high)
    };
    let index = (f64::from(count) * part) as i32;
    Ok(index.min(count - 1) + 1)
}
