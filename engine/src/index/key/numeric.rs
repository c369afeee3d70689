//! `numeric` as bytes that compare.
//!
//! ```text
//! class u8        0 -Infinity, 1 negative, 2 zero, 3 positive, 4 Infinity, 5 NaN
//! exponent i32    sign bit flipped: the value is 0.d1d2d3... * 10^exponent with d1 > 0
//! digits          two to a byte, as 1 to 100; trailing zeroes left out
//! end u8          0
//! ```
//!
//! Exponent, digits and end are inverted for negative values. The scale does not show: 1.0 is 1.00.

use num_bigint::Sign;

use crate::types::numeric::Numeric;

pub(super) fn encode(value: &Numeric, out: &mut Vec<u8>) {
    let (unscaled, scale) = match value {
        Numeric::NegInfinity => return out.push(0),
        Numeric::Infinity => return out.push(4),
        Numeric::NaN => return out.push(5),
        Numeric::Finite { unscaled, scale } => (unscaled, *scale),
    };
    if unscaled.sign() == Sign::NoSign {
        return out.push(2);
    }
    let negative = unscaled.sign() == Sign::Minus;
    out.push(if negative { 1 } else { 3 });
    let from = out.len();
    let digits = unscaled.magnitude().to_string();
    let exponent = digits.len() as i64 - i64::from(scale);
    let exponent = i32::try_from(exponent).expect("numeric has at most 131072 digits");
    out.extend_from_slice(&(exponent ^ i32::MIN).to_be_bytes());
    let digits = digits.trim_end_matches('0').as_bytes();
    for pair in digits.chunks(2) {
        let low = pair.get(1).map_or(0, |d| d - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(0);
    if negative {
        out[from..].iter_mut().for_each(|b| *b = !*b);
    }
}
