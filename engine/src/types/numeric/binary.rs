//! The wire form: base-10000 digits.
//!
//! ```text
//! i16 digit count | i16 weight | u16 sign | u16 display scale | digits, i16 each
//! ```
//! The first digit counts 10000^weight. Sign: 0 plus, 0x4000 minus, 0xC000 NaN, 0xD000 and 0xF000 the infinities.

use bytes::{BufMut, BytesMut};
use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};

use super::{Numeric, pow10};
use crate::types::error::TypeError;

fn bad(message: &str) -> TypeError {
    TypeError::new("22P03", message)
}

impl Numeric {
    pub fn encode(&self, out: &mut BytesMut) {
        let (sign, unscaled, scale) = match self {
            Numeric::Finite { unscaled, scale } => (
                if unscaled.sign() == Sign::Minus {
                    0x4000
                } else {
                    0_u16
                },
                unscaled,
                *scale,
            ),
            special => {
                let sign = match special {
                    Numeric::NaN => 0xC000,
                    Numeric::Infinity => 0xD000,
                    _ => 0xF000,
                };
                // PostgreSQL reads the scale out of the infinities' own header bits, which gives 32.
                let scale = if sign == 0xC000 { 0 } else { 0x20 };
                out.put_slice(&[0; 4]);
                out.put_u16(sign);
                out.put_u16(scale);
                return;
            }
        };
        // Shift so that the last decimal digit ends a base-10000 digit.
        let pad = (4 - scale % 4) % 4;
        let mut rest = unscaled.magnitude() * pow10(pad);
        let mut digits = smallvec::SmallVec::<[u16; 32]>::new();
        let base = BigUint::from(10_000_u32);
        while !rest.is_zero() {
            let (q, r) = rest.div_rem(&base);
            digits.push(r.to_u16().expect("below 10000"));
            rest = q;
        }
        let after_point = (scale + pad) / 4;
        let weight = digits.len() as i64 - 1 - i64::from(after_point);
        let zeros = digits.iter().take_while(|d| **d == 0).count();
        let shown = &digits[zeros..];
        out.put_u16(shown.len() as u16);
        out.put_i16(if shown.is_empty() { 0 } else { weight as i16 });
        out.put_u16(sign);
        out.put_u16(scale as u16);
        for d in shown.iter().rev() {
            out.put_u16(*d);
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Numeric, TypeError> {
        let word = |i: usize| {
            bytes
                .get(2 * i..2 * i + 2)
                .map(|b| u16::from_be_bytes([b[0], b[1]]))
                .ok_or_else(|| TypeError::new("08P01", "insufficient data left in message"))
        };
        let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
        if u32::from(scale) & !0x3FFF != 0 {
            return Err(bad("invalid scale in external \"numeric\" value"));
        }
        let negative = match sign {
            0 => false,
            0x4000 => true,
            0xC000 => return Ok(Numeric::NaN),
            0xD000 => return Ok(Numeric::Infinity),
            0xF000 => return Ok(Numeric::NegInfinity),
            _ => return Err(bad("invalid sign in external \"numeric\" value")),
        };
        let mut value = BigInt::zero();
        for i in 0..usize::from(count) {
            let digit = word(4 + i)?;
            if digit >= 10_000 {
                return Err(bad("invalid digit in external \"numeric\" value"));
            }
            value = value * 10_000 + digit;
        }
        if bytes.len() != 8 + 2 * usize::from(count) {
            return Err(bad("incorrect binary data format"));
        }
        if negative {
            value = -value;
        }
        // The value is `value * 10000^(weight - count + 1)`.
        let power = 4 * (i64::from(weight) - i64::from(count) + 1);
        let exact = if power >= 0 {
            Numeric::checked(value * BigInt::from(pow10(power as u32)), 0)?
        } else {
            Numeric::Finite {
                unscaled: value,
                scale: (-power) as u32,
            }
        };
        // PostgreSQL cuts digits below the declared scale.
        match exact.trunc_to(i64::from(scale)) {
            Numeric::Finite { unscaled, scale } => Numeric::checked(unscaled, scale),
            special => Ok(special),
        }
    }
}
