//! `numeric` as text.

use num_bigint::{BigInt, Sign};
use num_traits::Zero;

use super::{MAX_SCALE, MAX_WEIGHT_DIGITS, Numeric, div_round, overflow, pow10};
use crate::types::error::TypeError;

/// `numeric(p,s)`: the modifier taken apart. The scale may be negative or above the precision.
pub(crate) fn precision_scale(modifier: i32) -> Option<(i32, i32)> {
    (modifier >= 4).then(|| {
        let raw = modifier - 4;
        ((raw >> 16) & 0xffff, ((raw & 0x7ff) ^ 1024) - 1024)
    })
}

fn bad(text: &str) -> TypeError {
    TypeError::new(
        "22P02",
        format!("invalid input syntax for type numeric: \"{text}\""),
    )
}

impl Numeric {
    /// Text as `numeric_in` takes it, blanks around included.
    pub fn parse(text: &str) -> Result<Numeric, TypeError> {
        let body = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, unsigned) = match body.as_bytes().first() {
            Some(b'-') => (true, &body[1..]),
            Some(b'+') => (false, &body[1..]),
            _ => (false, body),
        };
        let first = unsigned.as_bytes().first().copied().unwrap_or(0);
        if !first.is_ascii_digit() && first != b'.' {
            let special = if unsigned.eq_ignore_ascii_case("inf")
                || unsigned.eq_ignore_ascii_case("infinity")
            {
                if negative {
                    Numeric::NegInfinity
                } else {
                    Numeric::Infinity
                }
            } else if body.eq_ignore_ascii_case("nan") {
                Numeric::NaN
            } else {
                return Err(bad(text));
            };
            return Ok(special);
        }
        let end = unsigned
            .bytes()
            .position(|b| !b.is_ascii_digit() && b != b'.')
            .unwrap_or(unsigned.len());
        let (mantissa, rest) = unsigned.split_at(end);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(bad(text));
        }
        let exponent = parse_exponent(rest).ok_or_else(|| bad(text))??;
        Self::assemble(negative, whole, fraction, exponent)
    }

    fn assemble(
        negative: bool,
        whole: &str,
        fraction: &str,
        exponent: i64,
    ) -> Result<Numeric, TypeError> {
        let scale = fraction.len() as i64 - exponent;
        let whole = whole.trim_start_matches('0');
        let fraction = if whole.is_empty() {
            fraction.trim_start_matches('0')
        } else {
            fraction
        };
        let digits = whole.len() + fraction.len();
        // What does not fit is not computed first: the time for that grows with the square of the length.
        if scale > i64::from(MAX_SCALE) || (digits > 0 && digits as i64 - scale > MAX_WEIGHT_DIGITS)
        {
            return Err(overflow());
        }
        let mut unscaled = if digits <= 18 {
            let mut n = 0_i64;
            for b in whole.bytes().chain(fraction.bytes()) {
                n = n * 10 + i64::from(b - b'0');
            }
            BigInt::from(n)
        } else {
            let joined = format!("{whole}{fraction}");
            BigInt::parse_bytes(joined.as_bytes(), 10).expect("only digits")
        };
        if unscaled.is_zero() {
            return Numeric::checked(
                unscaled,
                u32::try_from(scale.max(0)).map_err(|_| overflow())?,
            );
        }
        if negative {
            unscaled = -unscaled;
        }
        if scale >= 0 {
            return Numeric::checked(unscaled, u32::try_from(scale).map_err(|_| overflow())?);
        }
        Numeric::checked(unscaled * BigInt::from(pow10((-scale) as u32)), 0)
    }

    /// Appends the value as PostgreSQL prints it.
    pub fn write(&self, out: &mut impl std::fmt::Write) {
        // Writing into a buffer in memory cannot fail.
        let _ = match self {
            Numeric::NaN => out.write_str("NaN"),
            Numeric::Infinity => out.write_str("Infinity"),
            Numeric::NegInfinity => out.write_str("-Infinity"),
            Numeric::Finite { unscaled, scale: 0 } => write!(out, "{unscaled}"),
            Numeric::Finite { unscaled, scale } => {
                let digits = unscaled.magnitude().to_string();
                let scale = *scale as usize;
                let sign = if unscaled.sign() == Sign::Minus {
                    "-"
                } else {
                    ""
                };
                if digits.len() > scale {
                    let (whole, fraction) = digits.split_at(digits.len() - scale);
                    write!(out, "{sign}{whole}.{fraction}")
                } else {
                    write!(out, "{sign}0.{digits:0>scale$}")
                }
            }
        };
    }

    /// What `numeric(p,s)` makes of the value: rounded, or 22003.
    pub fn apply_modifier(self, modifier: i32) -> Result<Numeric, TypeError> {
        let Some((precision, scale)) = precision_scale(modifier) else {
            return Ok(self);
        };
        let field_overflow =
            |detail: String| TypeError::new("22003", "numeric field overflow").with_detail(detail);
        match self {
            Numeric::Finite {
                unscaled,
                scale: old,
            } => {
                let rounded = Numeric::Finite {
                    unscaled,
                    scale: old,
                }
                .round_to(i64::from(scale));
                let Numeric::Finite {
                    unscaled,
                    scale: now,
                } = &rounded
                else {
                    unreachable!("rounding keeps a value finite")
                };
                let most = i64::from(precision - scale);
                if !unscaled.is_zero() && super::exponent(unscaled, *now) > most {
                    let (base, power) = if most != 0 { ("10^", most) } else { ("", 1) };
                    return Err(field_overflow(format!(
                        "A field with precision {precision}, scale {scale} must round to an absolute value less than {base}{power}."
                    )));
                }
                Ok(rounded)
            }
            Numeric::NaN => Ok(self),
            Numeric::Infinity | Numeric::NegInfinity => Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            ))),
        }
    }

    /// Rounded half away from zero to `scale` digits after the point; a negative scale rounds before the point
    /// and prints none after it.
    #[must_use]
    pub fn round_to(self, scale: i64) -> Numeric {
        let Numeric::Finite {
            unscaled,
            scale: old,
        } = self
        else {
            return self;
        };
        let shift = scale - i64::from(old);
        if shift >= 0 {
            let unscaled = if shift == 0 || unscaled.is_zero() {
                unscaled
            } else {
                unscaled * BigInt::from(pow10(shift as u32))
            };
            return Numeric::Finite {
                unscaled,
                scale: scale as u32,
            };
        }
        if super::digit_count(unscaled.magnitude()) as i64 + 1 < -shift {
            return Numeric::Finite {
                unscaled: BigInt::zero(),
                scale: scale.max(0) as u32,
            };
        }
        let q = div_round(&unscaled, &BigInt::from(pow10((-shift) as u32)));
        Self::after_shift(q, scale)
    }

    /// Cut towards zero, otherwise as [`Self::round_to`].
    #[must_use]
    pub fn trunc_to(self, scale: i64) -> Numeric {
        let Numeric::Finite {
            unscaled,
            scale: old,
        } = self
        else {
            return self;
        };
        let shift = scale - i64::from(old);
        if shift >= 0 {
            return Numeric::Finite {
                unscaled,
                scale: old,
            }
            .round_to(scale);
        }
        if super::digit_count(unscaled.magnitude()) as i64 + 1 < -shift {
            return Numeric::Finite {
                unscaled: BigInt::zero(),
                scale: scale.max(0) as u32,
            };
        }
        Self::after_shift(unscaled / BigInt::from(pow10((-shift) as u32)), scale)
    }

    fn after_shift(quotient: BigInt, scale: i64) -> Numeric {
        if scale < 0 {
            Numeric::Finite {
                unscaled: quotient * BigInt::from(pow10((-scale) as u32)),
                scale: 0,
            }
        } else {
            Numeric::Finite {
                unscaled: quotient,
                scale: scale as u32,
            }
        }
    }
}

/// `e12`, or nothing. `None`: not an exponent. An exponent out of all bounds is an overflow.
fn parse_exponent(rest: &str) -> Option<Result<i64, TypeError>> {
    if rest.is_empty() {
        return Some(Ok(0));
    }
    let text = rest.strip_prefix(['e', 'E'])?;
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<i64>().unwrap_or(i64::MAX);
    if value >= i64::from(i32::MAX / 2) {
        return Some(Err(overflow()));
    }
    Some(Ok(if negative { -value } else { value }))
}

impl std::fmt::Display for Numeric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.write(f);
        Ok(())
    }
}
