//! Sum, product, quotient, remainder and their relatives.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{Signed, ToPrimitive, Zero};

use super::{
    MAX_DISPLAY_SCALE, MAX_SCALE, MIN_SIG_DIGITS, Numeric, div_round, division_by_zero, leading,
    overflow, pow10,
};
use crate::types::error::TypeError;
use Numeric::{Finite, Infinity, NaN, NegInfinity};

/// `n * 10^by`
fn raise(n: &BigInt, by: u32) -> BigInt {
    if by == 0 {
        n.clone()
    } else {
        n * BigInt::from(pow10(by))
    }
}

/// Both at the larger scale.
fn align(a: &BigInt, s: u32, b: &BigInt, t: u32) -> (BigInt, BigInt, u32) {
    let scale = s.max(t);
    (raise(a, scale - s), raise(b, scale - t), scale)
}

/// The scale that PostgreSQL gives a quotient: at least 16 significant digits and both operands' scales.
pub(crate) fn quotient_scale(a: &BigInt, s: u32, b: &BigInt, t: u32) -> u32 {
    let ((w1, d1), (w2, d2)) = (leading(a, s), leading(b, t));
    let mut weight = w1 - w2;
    if d1 <= d2 {
        weight -= 1;
    }
    let wanted = MIN_SIG_DIGITS - weight * 4;
    wanted
        .max(i64::from(s))
        .max(i64::from(t))
        .clamp(0, MAX_DISPLAY_SCALE) as u32
}

impl Numeric {
    pub fn add(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                if s == t {
                    return Numeric::checked(a + b, *s);
                }
                let (a, b, scale) = align(a, *s, b, *t);
                Numeric::checked(a + b, scale)
            }
            (NaN, _) | (_, NaN) => Ok(NaN),
            (Infinity, NegInfinity) | (NegInfinity, Infinity) => Ok(NaN),
            (Finite { .. }, special) | (special, _) => Ok(special.clone()),
        }
    }
    pub fn sub(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                let (a, b, scale) = align(a, *s, b, *t);
                Numeric::checked(a - b, scale)
            }
            _ => self.add(&other.neg()),
        }
    }
    #[must_use]
    pub fn neg(&self) -> Numeric {
        match self {
            Finite { unscaled, scale } => Numeric::new(-unscaled, *scale),
            NaN => NaN,
            Infinity => NegInfinity,
            NegInfinity => Infinity,
        }
    }
    #[must_use]
    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 {
            self.neg()
        } else {
            self.clone()
        }
    }
    pub fn mul(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                let product = Numeric::new(a * b, s + t);
                if s + t > MAX_SCALE {
                    let Finite { unscaled, scale } = product.round_to(i64::from(MAX_SCALE)) else {
                        unreachable!("rounding keeps a value finite")
                    };
                    return Numeric::checked(unscaled, scale);
                }
                let Finite { unscaled, scale } = product else {
                    unreachable!("made above")
                };
                Numeric::checked(unscaled, scale)
            }
            (NaN, _) | (_, NaN) => Ok(NaN),
            _ => Ok(match self.signum() * other.signum() {
                0 => NaN,
                1 => Infinity,
                _ => NegInfinity,
            }),
        }
    }
    pub fn div(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                if b.is_zero() {
                    return Err(division_by_zero());
                }
                let scale = quotient_scale(a, *s, b, *t);
                divide(a, *s, b, *t, scale)
            }
            _ => self.div_special(other),
        }
    }
    /// The quotient cut to an integer: `div(a, b)`.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                if b.is_zero() {
                    return Err(division_by_zero());
                }
                let (a, b, _) = align(a, *s, b, *t);
                Numeric::checked(a / b, 0)
            }
            _ => self.div_special(other),
        }
    }
    fn div_special(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (NaN, _) | (_, NaN) => Ok(NaN),
            (Finite { .. }, _) => Ok(Numeric::zero()),
            (_, Finite { unscaled, .. }) if unscaled.is_zero() => Err(division_by_zero()),
            (_, Finite { .. }) => Ok(if self.signum() * other.signum() > 0 {
                Infinity
            } else {
                NegInfinity
            }),
            _ => Ok(NaN),
        }
    }
    pub fn rem(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                if b.is_zero() {
                    return Err(division_by_zero());
                }
                let (a, b, scale) = align(a, *s, b, *t);
                Numeric::checked(a % b, scale)
            }
            (NaN, _) | (_, NaN) => Ok(NaN),
            (Finite { .. }, _) => Ok(self.clone()),
            (_, Finite { unscaled, .. }) if unscaled.is_zero() => Err(division_by_zero()),
            _ => Ok(NaN),
        }
    }
    #[must_use]
    pub fn ceil(&self) -> Numeric {
        self.to_integer(|n, d| n.div_ceil(d))
    }
    #[must_use]
    pub fn floor(&self) -> Numeric {
        self.to_integer(|n, d| n.div_floor(d))
    }
    fn to_integer(&self, divide: fn(&BigInt, &BigInt) -> BigInt) -> Numeric {
        match self {
            Finite { unscaled, scale } if *scale > 0 => {
                Numeric::new(divide(unscaled, &BigInt::from(pow10(*scale))), 0)
            }
            other => other.clone(),
        }
    }
    pub fn gcd(&self, other: &Numeric) -> Numeric {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                let (a, b, scale) = align(a, *s, b, *t);
                Numeric::new(a.gcd(&b), scale)
            }
            _ => NaN,
        }
    }
    pub fn lcm(&self, other: &Numeric) -> Result<Numeric, TypeError> {
        match (self, other) {
            (
                Finite {
                    unscaled: a,
                    scale: s,
                },
                Finite {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                let (a, b, scale) = align(a, *s, b, *t);
                if a.is_zero() || b.is_zero() {
                    return Ok(Numeric::new(BigInt::zero(), scale));
                }
                Numeric::checked((&a / a.gcd(&b) * b).abs(), scale)
            }
            _ => Ok(NaN),
        }
    }
    /// Fewest digits after the point that show the value exactly.
    pub fn min_scale(&self) -> Option<u32> {
        let Finite { unscaled, scale } = self else {
            return None;
        };
        if unscaled.is_zero() {
            return Some(0);
        }
        let (mut rest, mut scale) = (unscaled.clone(), *scale);
        let ten = BigInt::from(10);
        while scale > 0 {
            let (q, r) = rest.div_rem(&ten);
            if !r.is_zero() {
                break;
            }
            rest = q;
            scale -= 1;
        }
        Some(scale)
    }
    pub fn factorial(n: i64) -> Result<Numeric, TypeError> {
        if n < 0 {
            return Err(TypeError::new(
                "22003",
                "factorial of a negative number is undefined",
            ));
        }
        if n > 32177 {
            return Err(overflow());
        }
        let product = (2..=n).fold(BigInt::from(1), |product, i| product * i);
        Numeric::checked(product, 0)
    }
    /// The bucket of `self` among `count` equal ones from `low` to `high` (`width_bucket`).
    pub fn width_bucket(
        &self,
        low: &Numeric,
        high: &Numeric,
        count: i32,
    ) -> Result<i32, TypeError> {
        let bad = |message: &str| Err(TypeError::new("2201G", message));
        if count <= 0 {
            return bad("count must be greater than zero");
        }
        if self.is_nan() || low.is_nan() || high.is_nan() {
            return bad("operand, lower bound, and upper bound cannot be NaN");
        }
        if !low.is_finite() || !high.is_finite() {
            return bad("lower and upper bounds must be finite");
        }
        let order = low.cmp(high);
        if order.is_eq() {
            return bad("lower bound cannot equal upper bound");
        }
        let too_large = || TypeError::new("22003", "integer out of range");
        let (below, beyond) = if order.is_lt() {
            (self < low, self >= high)
        } else {
            (self > low, self <= high)
        };
        if below {
            return Ok(0);
        }
        if beyond {
            return count.checked_add(1).ok_or_else(too_large);
        }
        let part = self.sub(low)?.mul(&Numeric::from(count))?;
        let bucket = part.div_trunc(&high.sub(low)?)?;
        let Finite { unscaled, .. } = bucket else {
            unreachable!("finite by the checks above")
        };
        unscaled
            .to_i32()
            .and_then(|b| b.checked_add(1))
            .ok_or_else(too_large)
    }
}

/// `a / b` rounded to `scale` digits.
pub(crate) fn divide(
    a: &BigInt,
    s: u32,
    b: &BigInt,
    t: u32,
    scale: u32,
) -> Result<Numeric, TypeError> {
    let shift = i64::from(scale) + i64::from(t) - i64::from(s);
    let quotient = if shift >= 0 {
        div_round(&raise(a, shift as u32), b)
    } else {
        div_round(a, &raise(b, (-shift) as u32))
    };
    Numeric::checked(quotient, scale)
}
