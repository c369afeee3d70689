//! To and from integers and floating point.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::{Numeric, div_round, pow10};
use crate::types::error::TypeError;

impl Numeric {
    /// Rounded half away from zero; `None` if out of range or not finite.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Numeric::Finite { unscaled, scale: 0 } => unscaled.to_i64(),
            Numeric::Finite { unscaled, scale } => {
                div_round(unscaled, &BigInt::from(pow10(*scale))).to_i64()
            }
            _ => None,
        }
    }

    /// The integer for a cast to `type_name`, with PostgreSQL's errors.
    pub(crate) fn to_integer_of<T: TryFrom<i64>>(&self, type_name: &str) -> Result<T, TypeError> {
        let special = match self {
            Numeric::NaN => "NaN",
            Numeric::Infinity | Numeric::NegInfinity => "infinity",
            Numeric::Finite { .. } => {
                return self
                    .to_i64()
                    .and_then(|v| T::try_from(v).ok())
                    .ok_or_else(|| TypeError::new("22003", format!("{type_name} out of range")));
            }
        };
        Err(TypeError::new(
            "0A000",
            format!("cannot convert {special} to {type_name}"),
        ))
    }

    /// The nearest double; infinite if out of range.
    pub fn to_f64(&self) -> f64 {
        match self {
            Numeric::NaN => f64::NAN,
            Numeric::Infinity => f64::INFINITY,
            Numeric::NegInfinity => f64::NEG_INFINITY,
            Numeric::Finite { unscaled, scale } => {
                if let (Some(n), true) = (unscaled.to_i64(), *scale <= 22) {
                    // Both operands are exact, so one division rounds once.
                    if n.unsigned_abs() <= 1 << 53 {
                        return n as f64 / 10_f64.powi(*scale as i32);
                    }
                }
                format!("{unscaled}e-{scale}")
                    .parse()
                    .expect("a decimal number")
            }
        }
    }

    pub fn to_f32(&self) -> f32 {
        match self {
            Numeric::Finite { unscaled, scale } => format!("{unscaled}e-{scale}")
                .parse()
                .expect("a decimal number"),
            special => special.to_f64() as f32,
        }
    }

    /// With the 15 significant digits that PostgreSQL takes from a double.
    pub fn from_f64(v: f64) -> Numeric {
        if v.is_nan() {
            Numeric::NaN
        } else if v.is_infinite() {
            if v > 0.0 {
                Numeric::Infinity
            } else {
                Numeric::NegInfinity
            }
        } else {
            Self::from_significant(&format!("{v:.14e}"))
        }
    }

    pub fn from_f32(v: f32) -> Numeric {
        if v.is_finite() {
            Self::from_significant(&format!("{v:.5e}"))
        } else {
            Self::from_f64(f64::from(v))
        }
    }

    /// Drops the zeros that `%g` does not print.
    fn from_significant(text: &str) -> Numeric {
        let n = Numeric::parse(text).expect("a number just printed");
        let scale = n.min_scale().expect("a finite number");
        n.round_to(i64::from(scale))
    }
}
