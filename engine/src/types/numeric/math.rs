//! Roots, logarithms and powers, with the result scales that PostgreSQL chooses.
//!
//! Values are computed in fixed point with guard digits and rounded once, so every printed digit is right.

use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arithmetic::divide;
use super::{
    MAX_DISPLAY_SCALE, MIN_SIG_DIGITS, Numeric, div_round, division_by_zero, leading,
    leading_digits, overflow, pow10,
};
use crate::types::error::TypeError;
use Numeric::{Finite, Infinity, NaN, NegInfinity};

const MAX_RESULT: f64 = 2000.0;
/// A power with more digits before the point than this is multiplied together.
const LONG_POWER_DIGITS: f64 = 500.0;
use std::f64::consts::{LOG2_10, LOG10_E};

fn bad_log(what: &str) -> TypeError {
    TypeError::new("2201E", format!("cannot take logarithm of {what}"))
}

/// A number in fixed point: `value * 10^-digits`, signed. All operations keep `digits`.
struct Fixed {
    unit: BigInt,
}

impl Fixed {
    fn new(digits: u32) -> Fixed {
        Fixed {
            unit: BigInt::from(pow10(digits)),
        }
    }
    fn mul(&self, a: &BigInt, b: &BigInt) -> BigInt {
        (a * b) / &self.unit
    }
    fn div(&self, a: &BigInt, b: &BigInt) -> BigInt {
        (a * &self.unit) / b
    }
    /// `e^x` for |x| below one unit or so.
    fn exp_small(&self, x: &BigInt) -> BigInt {
        let (mut sum, mut term, mut n) = (self.unit.clone(), self.unit.clone(), 1_u32);
        loop {
            term = self.mul(&term, x) / n;
            if term.is_zero() {
                return sum;
            }
            sum += &term;
            n += 1;
        }
    }
    /// `2 * atanh((x-1)/(x+1))`, which is ln x, for x near one.
    fn ln_near_one(&self, x: &BigInt) -> BigInt {
        let z = self.div(&(x - &self.unit), &(x + &self.unit));
        let square = self.mul(&z, &z);
        let (mut sum, mut power, mut n) = (z.clone(), z, 3_u32);
        loop {
            power = self.mul(&power, &square);
            let term = &power / n;
            if term.is_zero() {
                return sum * 2;
            }
            sum += term;
            n += 2;
        }
    }
    fn sqrt(&self, x: &BigInt) -> BigInt {
        BigInt::from((x * &self.unit).magnitude().sqrt())
    }
    fn ln(&self, x: &BigInt) -> BigInt {
        let (mut x, mut halvings) = (x.clone(), 0_u32);
        let near = &self.unit / 64;
        while (&x - &self.unit).abs() > near {
            x = self.sqrt(&x);
            halvings += 1;
        }
        self.ln_near_one(&x) << halvings
    }
}

/// ln of `unscaled * 10^-scale` (above zero), rounded to `digits` digits after the point.
fn ln_value(unscaled: &BigInt, scale: u32, digits: u32) -> BigInt {
    // Every root taken doubles the error once the result is shifted back: 20 guard digits are for that.
    let guard = 20 + digits / 20;
    let exponent = super::exponent(unscaled, scale);
    let work = digits + guard;
    let fixed = Fixed::new(work);
    // Values near one are taken as they are, others as m * 10^e with m in [0.1, 1).
    let near_one = (0..=1).contains(&exponent);
    let e = if near_one { 0 } else { exponent };
    let shift = i64::from(work) - i64::from(scale) - e;
    // A value near one may need more digits than `work` to tell it from one.
    let extra = if shift < 0 && near_one {
        (-shift) as u32
    } else {
        0
    };
    if extra > 0 {
        let fixed = Fixed::new(work + extra);
        let ln = fixed.ln(unscaled);
        return div_round(&ln, &BigInt::from(pow10(guard + extra)));
    }
    let mantissa = if shift >= 0 {
        unscaled * BigInt::from(pow10(shift as u32))
    } else {
        unscaled / BigInt::from(pow10((-shift) as u32))
    };
    let mut ln = fixed.ln(&mantissa);
    if e != 0 {
        // ln 10 = 3 ln 2 + ln 1.25
        let ln10 = fixed.ln(&(&fixed.unit * 10));
        ln += ln10 * e;
    }
    div_round(&ln, &BigInt::from(pow10(guard)))
}

/// `e^(unscaled * 10^-scale)` rounded to `digits`.
fn exp_value(unscaled: &BigInt, scale: u32, digits: u32, weight: i64) -> BigInt {
    // Squaring k times costs k bits, and a large result needs its leading digits on top.
    let work = (i64::from(digits) + weight.max(0) + 30).max(30) as u32;
    let fixed = Fixed::new(work);
    let shift = i64::from(work) - i64::from(scale);
    let mut x = if shift >= 0 {
        unscaled * BigInt::from(pow10(shift as u32))
    } else {
        unscaled / BigInt::from(pow10((-shift) as u32))
    };
    let mut squarings = 0;
    let small = &fixed.unit / 256;
    while x.abs() > small {
        x >>= 1;
        squarings += 1;
    }
    let mut result = fixed.exp_small(&x);
    for _ in 0..squarings {
        result = fixed.mul(&result, &result);
    }
    if work > digits {
        div_round(&result, &BigInt::from(pow10(work - digits)))
    } else {
        result
    }
}

/// PostgreSQL's estimate of the decimal weight of ln x.
fn ln_weight(unscaled: &BigInt, scale: u32) -> i64 {
    let value = Numeric::new(unscaled.clone(), scale);
    let tenth = |n: i64| Numeric::new(BigInt::from(n), 1);
    if value >= tenth(9) && value <= tenth(11) {
        let x = unscaled - BigInt::from(pow10(scale));
        if x.is_zero() {
            return 0;
        }
        let (weight, first) = leading(&x, scale);
        return weight * 4 + i64::from(first.ilog10());
    }
    let two_digits = super::base10000_len(unscaled, scale) > 1;
    let (weight, digits) = leading_digits(unscaled, scale, if two_digits { 2 } else { 1 });
    let dweight = weight * 4 - if two_digits { 4 } else { 0 };
    let ln = (digits as f64).ln() + dweight as f64 * std::f64::consts::LN_10;
    ln.abs().log10() as i64
}

fn display_scale(wanted: i64, scales: &[u32]) -> u32 {
    let most = scales
        .iter()
        .fold(wanted, |most, s| most.max(i64::from(*s)));
    most.clamp(0, MAX_DISPLAY_SCALE) as u32
}

fn to_f64(unscaled: &BigInt, scale: u32) -> f64 {
    Numeric::new(unscaled.clone(), scale).to_f64()
}

impl Numeric {
    pub fn sqrt(&self) -> Result<Numeric, TypeError> {
        let negative = || TypeError::new("2201F", "cannot take square root of a negative number");
        let Finite { unscaled, scale } = self else {
            return match self {
                NegInfinity => Err(negative()),
                other => Ok(other.clone()),
            };
        };
        if unscaled.is_negative() {
            return Err(negative());
        }
        let (weight, _) = leading(unscaled, *scale);
        let root_weight = (weight + 1) * 4 / 2 - 1;
        let result = display_scale(MIN_SIG_DIGITS - root_weight, &[*scale]);
        self.sqrt_at_scale(result)
    }

    /// The root of a value that is not negative, rounded to `digits` digits.
    pub(crate) fn sqrt_at_scale(&self, digits: u32) -> Result<Numeric, TypeError> {
        let Finite { unscaled, scale } = self else {
            return Ok(self.clone());
        };
        // Two more decimal digits of the radicand give the root the digit that decides the rounding.
        let shift = i64::from(digits) * 2 - i64::from(*scale) + 2;
        let radicand = if shift >= 0 {
            unscaled.magnitude() * pow10(shift as u32)
        } else {
            unscaled.magnitude() / pow10((-shift) as u32)
        };
        let root: BigUint = radicand.sqrt();
        Numeric::checked(div_round(&BigInt::from(root), &BigInt::from(10)), digits)
    }

    pub fn exp(&self) -> Result<Numeric, TypeError> {
        let Finite { unscaled, scale } = self else {
            return Ok(match self {
                NegInfinity => Numeric::zero(),
                other => other.clone(),
            });
        };
        let value = to_f64(unscaled, *scale);
        let weight = (value * LOG10_E).clamp(-MAX_RESULT, MAX_RESULT) as i64;
        let result = display_scale(MIN_SIG_DIGITS - weight, &[*scale]);
        exp_to(unscaled, *scale, value, result)
    }

    pub fn ln(&self) -> Result<Numeric, TypeError> {
        let Finite { unscaled, scale } = self else {
            return match self {
                NegInfinity => Err(bad_log("a negative number")),
                other => Ok(other.clone()),
            };
        };
        check_log(unscaled)?;
        let result = display_scale(MIN_SIG_DIGITS - ln_weight(unscaled, *scale), &[*scale]);
        Numeric::checked(ln_value(unscaled, *scale, result), result)
    }

    /// Logarithm of `self` to `base`.
    pub fn log(&self, base: &Numeric) -> Result<Numeric, TypeError> {
        let (
            Finite {
                unscaled: b,
                scale: s,
            },
            Finite {
                unscaled: n,
                scale: t,
            },
        ) = (base, self)
        else {
            return log_special(base, self);
        };
        check_log(b)?;
        check_log(n)?;
        let (base_weight, num_weight) = (ln_weight(b, *s), ln_weight(n, *t));
        let weight = num_weight - base_weight;
        let result = display_scale(MIN_SIG_DIGITS - weight, &[*s, *t]);
        let digits = |ln_weight: i64| (i64::from(result) + weight - ln_weight + 12).max(0) as u32;
        let (base_digits, num_digits) = (digits(base_weight) + 8, digits(num_weight) + 8);
        let ln_base = ln_value(b, *s, base_digits);
        if ln_base.is_zero() {
            return Err(division_by_zero());
        }
        divide(
            &ln_value(n, *t, num_digits),
            num_digits,
            &ln_base,
            base_digits,
            result,
        )
    }

    pub fn power(&self, exponent: &Numeric) -> Result<Numeric, TypeError> {
        let (
            Finite {
                unscaled: b,
                scale: s,
            },
            Finite {
                unscaled: e,
                scale: t,
            },
        ) = (self, exponent)
        else {
            return power_special(self, exponent);
        };
        check_power(self, exponent)?;
        if exponent.is_integral() {
            let whole = e / BigInt::from(pow10(*t));
            if let Some(n) = whole.to_i32() {
                return power_int(b, *s, n);
            }
        }
        if b.is_zero() {
            return Ok(Numeric::new(BigInt::zero(), MIN_SIG_DIGITS as u32));
        }
        let odd = b.is_negative() && (e / BigInt::from(pow10(*t))).is_odd();
        let base = b.abs();
        let weight = ln_weight(&base, *s);
        let rough_digits = (8 - weight).max(0) as u32;
        let rough_product = ln_value(&base, *s, rough_digits) * e;
        let rough = Numeric::new(rough_product, rough_digits + t)
            .round_to(rough_digits.into())
            .to_f64();
        if rough.abs() > MAX_RESULT * 3.01 {
            return if rough > 0.0 {
                Err(overflow())
            } else {
                Ok(Numeric::new(BigInt::zero(), MAX_DISPLAY_SCALE as u32))
            };
        }
        let decimal = (rough * LOG10_E) as i64;
        let result = display_scale(MIN_SIG_DIGITS - decimal, &[*s, *t]);
        let digits = (i64::from(result) + decimal.max(0) + 20).max(20) as u32
            + super::digit_count(e.magnitude()) as u32;
        let product = ln_value(&base, *s, digits) * e;
        let value = exp_to(&product, digits + t, rough, result)?;
        Ok(if odd { value.neg() } else { value })
    }
}

fn check_log(unscaled: &BigInt) -> Result<(), TypeError> {
    if unscaled.is_negative() {
        Err(bad_log("a negative number"))
    } else if unscaled.is_zero() {
        Err(bad_log("zero"))
    } else {
        Ok(())
    }
}

fn exp_to(unscaled: &BigInt, scale: u32, value: f64, digits: u32) -> Result<Numeric, TypeError> {
    if value.abs() >= MAX_RESULT * 3.0 {
        return if value > 0.0 {
            Err(overflow())
        } else {
            Ok(Numeric::new(BigInt::zero(), digits))
        };
    }
    let weight = (value * LOG10_E) as i64;
    Numeric::checked(exp_value(unscaled, scale, digits, weight), digits)
}

fn log_special(base: &Numeric, num: &Numeric) -> Result<Numeric, TypeError> {
    if base.is_nan() || num.is_nan() {
        return Ok(NaN);
    }
    for n in [base, num] {
        match n.signum() {
            -1 => return Err(bad_log("a negative number")),
            0 => return Err(bad_log("zero")),
            _ => {}
        }
    }
    Ok(match (base, num) {
        (Infinity, Infinity) => NaN,
        (Infinity, _) => Numeric::zero(),
        _ => Infinity,
    })
}

fn check_power(base: &Numeric, exponent: &Numeric) -> Result<(), TypeError> {
    if base.signum() == 0 && exponent.signum() < 0 {
        return Err(TypeError::new(
            "2201F",
            "zero raised to a negative power is undefined",
        ));
    }
    if base.signum() < 0 && exponent.is_finite() && !exponent.is_integral() {
        return Err(TypeError::new(
            "2201F",
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    Ok(())
}

fn power_special(base: &Numeric, exponent: &Numeric) -> Result<Numeric, TypeError> {
    let one = Numeric::one();
    match (base, exponent) {
        (NaN, Finite { unscaled, .. }) if unscaled.is_zero() => return Ok(one),
        (b, NaN) if *b == one => return Ok(one),
        (NaN, _) | (_, NaN) => return Ok(NaN),
        _ => {}
    }
    check_power(base, exponent)?;
    if *base == one || exponent.signum() == 0 {
        return Ok(one);
    }
    if base.signum() == 0 {
        return Ok(Numeric::zero());
    }
    if !exponent.is_finite() {
        let size = base.abs().cmp(&one);
        if size.is_eq() {
            return Ok(one);
        }
        let grows = size.is_gt() == (exponent.signum() > 0);
        return Ok(if grows { Infinity } else { Numeric::zero() });
    }
    if exponent.signum() < 0 {
        return Ok(Numeric::zero());
    }
    if matches!(base, NegInfinity) {
        let Finite { unscaled, scale } = exponent else {
            unreachable!("infinite exponents are done")
        };
        let odd = (unscaled / BigInt::from(pow10(*scale))).is_odd();
        return Ok(if odd { NegInfinity } else { Infinity });
    }
    Ok(Infinity)
}

fn power_int(base: &BigInt, scale: u32, n: i32) -> Result<Numeric, TypeError> {
    let mut f = 0.0;
    if !base.is_zero() {
        let (weight, _) = leading(base, scale);
        let count = super::base10000_len(base, scale).min(4) as u32;
        let (_, digits) = leading_digits(base, scale, count);
        let p = (weight - i64::from(count) + 1) * 4;
        f = f64::from(n) * ((digits as f64).log10() + p as f64);
    }
    if f > 32768.0 * 4.0 {
        return Err(overflow());
    }
    let result = display_scale(MIN_SIG_DIGITS, &[scale]);
    if f + 1.0 < -f64::from(result) {
        return Ok(Numeric::new(BigInt::zero(), result));
    }
    let wanted = i64::from(result);
    match n {
        0 => return Ok(Numeric::one().round_to(wanted)),
        1 => return Ok(Numeric::new(base.clone(), scale).round_to(wanted)),
        _ if base.is_zero() && n < 0 => return Err(division_by_zero()),
        -1 => return divide(&BigInt::one(), 0, base, scale, result),
        _ if base.is_zero() => return Ok(Numeric::new(BigInt::zero(), result)),
        _ => {}
    }
    let size = n.unsigned_abs();
    let exact_digits = super::digit_count(base.magnitude()).saturating_mul(u64::from(size));
    // The scale of the exact power; beyond it, work with as many digits as decide the rounding.
    if exact_digits <= 20_000 {
        let power = base.pow(size);
        let power_scale = scale * size;
        if n < 0 {
            return divide(&BigInt::one(), 0, &power, power_scale, result);
        }
        let Finite { unscaled, scale } = Numeric::new(power, power_scale).round_to(wanted) else {
            unreachable!("rounding keeps a value finite")
        };
        return Numeric::checked(unscaled, scale);
    }
    // What is long before the point is multiplied together: a logarithm of so many digits takes minutes.
    if f > LONG_POWER_DIGITS {
        return power_by_squaring(base, scale, n, f, result);
    }
    power_by_logarithm(base, scale, n, f, result)
}

/// `base^n` where the result has about `weight` digits before the point: as many binary digits are kept of each product as
/// decide the rounding. Of a negative `n` it is the power of the reciprocal.
fn power_by_squaring(
    base: &BigInt,
    scale: u32,
    n: i32,
    weight: f64,
    result: u32,
) -> Result<Numeric, TypeError> {
    // Each product doubles the relative error, so it is at most about 2n in the last place kept.
    let size = n.unsigned_abs();
    let digits = weight + f64::from(result) + f64::from(size).log10() + 20.0;
    let keep = (digits * LOG2_10) as u64;
    let cut = |(value, exponent): (BigUint, i64)| {
        let excess = value.bits().saturating_sub(keep);
        (value >> excess, exponent + excess as i64)
    };
    let times = |a: &(BigUint, i64), b: &(BigUint, i64)| cut((&a.0 * &b.0, a.1 + b.1));
    let (mut over, mut under) = (base.magnitude().clone(), pow10(scale));
    if n < 0 {
        std::mem::swap(&mut over, &mut under);
    }
    let shift = keep + under.bits();
    let base_once = cut(((over << shift) / under, -(shift as i64)));
    let mut power = base_once.clone();
    for bit in (0..size.ilog2()).rev() {
        power = times(&power, &power);
        if size >> bit & 1 == 1 {
            power = times(&power, &base_once);
        }
    }
    let (value, exponent) = power;
    // One decimal digit more, for the rounding.
    let shown = value * pow10(result + 1);
    let shown = if exponent < 0 {
        shown >> exponent.unsigned_abs()
    } else {
        shown << exponent.unsigned_abs()
    };
    let negative = base.is_negative() && n % 2 != 0;
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let value = BigInt::from_biguint(sign, shown);
    let Finite { unscaled, scale } = Numeric::new(value, result + 1).round_to(result.into()) else {
        unreachable!("rounding keeps a value finite")
    };
    Numeric::checked(unscaled, scale)
}

/// Powers whose exact value has too many digits to be worth having.
fn power_by_logarithm(
    base: &BigInt,
    scale: u32,
    n: i32,
    weight: f64,
    result: u32,
) -> Result<Numeric, TypeError> {
    let digits = (i64::from(result) + (weight.max(0.0) as i64) + 40) as u32;
    let product = ln_value(&base.abs(), scale, digits) * n;
    let value = exp_value(&product, digits, result, weight.max(0.0) as i64 + 1);
    let value = if base.is_negative() && n % 2 != 0 {
        -value
    } else {
        value
    };
    Numeric::checked(value, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products that are cut short round as the exact power does.
    #[test]
    fn a_long_power_is_rounded_once() {
        for (text, n) in [
            ("7", 3_000),
            ("-1.5", 4_001),
            ("12345.678", 700),
            ("99.9999999999", 1_234),
        ] {
            let number = Numeric::parse(text).expect("a number");
            let Finite { unscaled, scale } = &number else {
                panic!("{text} is finite")
            };
            let (power_scale, size) = (scale * n, n);
            let exact = Numeric::new(unscaled.pow(size), power_scale).round_to(20);
            let weight = f64::from(n) * 4.1;
            let n = i32::try_from(n).expect("small");
            let cut = power_by_squaring(unscaled, *scale, n, weight, 20).expect("it fits");
            assert_eq!(cut.to_string(), exact.to_string(), "{text} ^ {n}");
        }
        // Long before the point though the exponent is negative, with more digits than are computed exactly.
        let small = Numeric::parse("-0.0123457").expect("a number");
        let n = Numeric::parse("-9001").expect("a number");
        let power = small.power(&n).expect("it fits").to_string();
        let Finite { unscaled, scale } = &small else {
            panic!("it is finite")
        };
        let below = unscaled.magnitude().pow(9_001);
        let over = pow10(*scale).pow(9_001) * pow10(16);
        let whole = BigInt::from(over)
            .div_floor(&BigInt::from(below))
            .to_string();
        let given = power.replace(['-', '.'], "");
        assert!(power.starts_with('-'));
        // All but the last digits, where the one is rounded and the other cut.
        let same = whole.len() - 20;
        assert_eq!(given[..same], whole[..same]);
    }

    #[test]
    fn the_kinds_of_powers_end() {
        for (base, n) in [
            ("0.5", "-100000"),
            ("-0.3333", "-30001"),
            ("99.99", "-30000"),
        ] {
            let base = Numeric::parse(base).expect("a number");
            let n = Numeric::parse(n).expect("a number");
            assert!(base.power(&n).is_ok());
        }
    }
}
