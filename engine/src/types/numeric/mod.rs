//! `numeric`: exact decimals with PostgreSQL's display scale.
//!
//! A finite value is `unscaled * 10^-scale`; the scale is part of what is printed, not of what is compared. All
//! results have at most 131072 digits before the point and a scale of at most 16383, else 22003. PostgreSQL
//! chooses the scale of quotients and of transcendental functions from *base-10000* digits; `weight` and
//! `leading` give those.

mod arithmetic;
mod binary;
mod convert;
mod math;
mod text;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_traits::{One, ToPrimitive, Zero};

pub(crate) use text::precision_scale;

use crate::types::error::TypeError;

/// `unscaled * 10^-scale`, or one of the special values.
#[derive(Clone, Debug)]
pub enum Numeric {
    Finite { unscaled: BigInt, scale: u32 },
    NaN,
    Infinity,
    NegInfinity,
}

/// Significant digits that PostgreSQL aims for in inexact results.
pub(crate) const MIN_SIG_DIGITS: i64 = 16;
pub(crate) const MAX_DISPLAY_SCALE: i64 = 1000;
/// The widest scale that a value may carry.
pub(crate) const MAX_SCALE: u32 = 16383;
/// Decimal digits before the point that the format has room for.
const MAX_WEIGHT_DIGITS: i64 = 131_072;

pub(crate) fn overflow() -> TypeError {
    TypeError::new("22003", "value overflows numeric format")
}
pub(crate) fn division_by_zero() -> TypeError {
    TypeError::new("22012", "division by zero")
}

/// `10^n`
pub(crate) fn pow10(n: u32) -> BigUint {
    if n <= 19 {
        BigUint::from(10_u64.pow(n))
    } else {
        BigUint::from(10_u8).pow(n)
    }
}

/// How many decimal digits `n` has; 0 for 0.
pub(crate) fn digit_count(n: &BigUint) -> u64 {
    if let Some(small) = n.to_u64() {
        return if small == 0 {
            0
        } else {
            u64::from(small.ilog10()) + 1
        };
    }
    // 10^low <= n, because 2^(bits-1) <= n.
    let low = ((n.bits() - 1) as f64 * std::f64::consts::LOG10_2).floor() as u64;
    if *n >= pow10(low as u32 + 1) {
        low + 2
    } else {
        low + 1
    }
}

/// Quotient rounded half away from zero.
pub(crate) fn div_round(n: &BigInt, d: &BigInt) -> BigInt {
    let (q, r) = n.div_rem(d);
    if (r.magnitude() << 1_u8) >= *d.magnitude() {
        if (n.sign() == Sign::Minus) == (d.sign() == Sign::Minus) {
            q + 1
        } else {
            q - 1
        }
    } else {
        q
    }
}

impl Numeric {
    pub fn zero() -> Numeric {
        Numeric::Finite {
            unscaled: BigInt::zero(),
            scale: 0,
        }
    }
    pub fn one() -> Numeric {
        Numeric::Finite {
            unscaled: BigInt::one(),
            scale: 0,
        }
    }
    pub fn new(unscaled: BigInt, scale: u32) -> Numeric {
        Numeric::Finite { unscaled, scale }
    }
    /// The value if it fits PostgreSQL's format.
    pub(crate) fn checked(unscaled: BigInt, scale: u32) -> Result<Numeric, TypeError> {
        // 2^53000 has under 16000 digits: anything that small needs no exact count.
        let long = unscaled.bits() > 53_000;
        if scale > MAX_SCALE
            || (long
                && digit_count(unscaled.magnitude()) as i64 - i64::from(scale) > MAX_WEIGHT_DIGITS)
        {
            return Err(overflow());
        }
        Ok(Numeric::Finite { unscaled, scale })
    }
    pub fn is_nan(&self) -> bool {
        matches!(self, Numeric::NaN)
    }
    pub fn is_finite(&self) -> bool {
        matches!(self, Numeric::Finite { .. })
    }
    /// -1, 0 or 1; 1 for NaN, as PostgreSQL counts it.
    pub fn signum(&self) -> i32 {
        match self {
            Numeric::Finite { unscaled, .. } => match unscaled.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
            Numeric::NaN | Numeric::Infinity => 1,
            Numeric::NegInfinity => -1,
        }
    }
    /// Digits after the point that are printed; 0 for special values.
    pub fn scale(&self) -> u32 {
        match self {
            Numeric::Finite { scale, .. } => *scale,
            _ => 0,
        }
    }
    pub fn is_integral(&self) -> bool {
        match self {
            Numeric::Finite { unscaled, scale } => {
                *scale == 0 || (unscaled % BigInt::from(pow10(*scale))).is_zero()
            }
            _ => false,
        }
    }
}

/// Position of the first decimal digit: the value is `0.d1d2... * 10^exponent`, d1 not 0.
pub(crate) fn exponent(unscaled: &BigInt, scale: u32) -> i64 {
    digit_count(unscaled.magnitude()) as i64 - i64::from(scale)
}

/// The base-10000 weight of the first digit, and that digit. (0, 0) for zero.
pub(crate) fn leading(unscaled: &BigInt, scale: u32) -> (i64, u32) {
    let (weight, digits) = leading_digits(unscaled, scale, 1);
    (weight, digits as u32)
}

/// The base-10000 weight of the first digit, and the first `count` base-10000 digits (at most 4) as one number.
pub(crate) fn leading_digits(unscaled: &BigInt, scale: u32, count: u32) -> (i64, u64) {
    if unscaled.is_zero() {
        return (0, 0);
    }
    let digits = digit_count(unscaled.magnitude()) as i64;
    let exponent = digits - i64::from(scale);
    let weight = (exponent - 1).div_euclid(4);
    // Decimal digits that the wanted base-10000 digits span.
    let wanted = exponent - 4 * weight + 4 * (i64::from(count) - 1);
    let lead = if wanted >= digits {
        unscaled.magnitude() * pow10((wanted - digits) as u32)
    } else {
        unscaled.magnitude() / pow10((digits - wanted) as u32)
    };
    (weight, lead.to_u64().expect("at most 16 decimal digits"))
}

/// How many base-10000 digits the value has, without trailing zero digits.
pub(crate) fn base10000_len(unscaled: &BigInt, scale: u32) -> i64 {
    if unscaled.is_zero() {
        return 0;
    }
    let exponent = exponent(unscaled, scale);
    let weight = (exponent - 1).div_euclid(4);
    let mut zeros = 0_i64;
    let mut rest = unscaled.magnitude().clone();
    let ten = BigUint::from(10_u8);
    loop {
        let (q, r) = rest.div_rem(&ten);
        if !r.is_zero() {
            break;
        }
        rest = q;
        zeros += 1;
    }
    // The last nonzero decimal digit stands at 10^(zeros - scale).
    let last = (zeros - i64::from(scale)).div_euclid(4);
    weight - last + 1
}

impl Ord for Numeric {
    /// NaN above Infinity, NaN equal to itself.
    fn cmp(&self, other: &Numeric) -> Ordering {
        let rank = |n: &Numeric| match n {
            Numeric::NegInfinity => 0,
            Numeric::Finite { .. } => 1,
            Numeric::Infinity => 2,
            Numeric::NaN => 3,
        };
        let (
            Numeric::Finite {
                unscaled: a,
                scale: s,
            },
            Numeric::Finite {
                unscaled: b,
                scale: t,
            },
        ) = (self, other)
        else {
            return rank(self).cmp(&rank(other));
        };
        if s == t {
            return a.cmp(b);
        }
        if a.sign() != b.sign() || a.is_zero() {
            return a.sign().cmp(&b.sign());
        }
        // Far apart values need no multiplication.
        let (ea, eb) = (exponent(a, *s), exponent(b, *t));
        if ea != eb {
            return if a.sign() == Sign::Minus {
                eb.cmp(&ea)
            } else {
                ea.cmp(&eb)
            };
        }
        if s < t {
            (a * BigInt::from(pow10(t - s))).cmp(b)
        } else {
            a.cmp(&(b * BigInt::from(pow10(s - t))))
        }
    }
}
impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Numeric {}

impl Hash for Numeric {
    /// Equal values hash alike whatever their scales.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Numeric::Finite { unscaled, scale } => {
                let (mut rest, mut scale) = (unscaled.clone(), i64::from(*scale));
                if rest.is_zero() {
                    return 0_u8.hash(state);
                }
                if let Some(mut small) = rest.to_i64() {
                    while small % 10 == 0 {
                        small /= 10;
                        scale -= 1;
                    }
                    return (small, scale).hash(state);
                }
                let ten = BigInt::from(10);
                loop {
                    let (q, r) = rest.div_rem(&ten);
                    if !r.is_zero() {
                        break;
                    }
                    rest = q;
                    scale -= 1;
                }
                match rest.to_i64() {
                    Some(small) => (small, scale).hash(state),
                    None => (rest, scale).hash(state),
                }
            }
            Numeric::NaN => 1_u8.hash(state),
            Numeric::Infinity => 2_u8.hash(state),
            Numeric::NegInfinity => 3_u8.hash(state),
        }
    }
}

macro_rules! from_integers {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Numeric {
            fn from(v: $ty) -> Numeric {
                Numeric::Finite { unscaled: BigInt::from(v), scale: 0 }
            }
        }
    )*};
}
from_integers!(i16 i32 i64 i128 u32 u64 usize);
