//! `numeric`: exact decimals with PostgreSQL's display scale.

use num_bigint::BigInt;

/// `unscaled * 10^-scale`, or one of the special values.
#[derive(Clone, Debug)]
pub enum Numeric {
    Finite { unscaled: BigInt, scale: u32 },
    NaN,
    Infinity,
    NegInfinity,
}
