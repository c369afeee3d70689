//! Variance, deviation and their relatives; the average of floats, which shares their state.
//!
//! Exact for integers and `numeric`; for floats by the Youngs-Cramer recurrence, as in PostgreSQL, so that the last
//! digits agree.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Accumulator, FunctionCx};
use crate::types::functions::call::wrong_kind;
use crate::types::numeric::Numeric;

fn overflow() -> TypeError {
    TypeError::new("22003", "value out of range: overflow")
}

#[derive(Clone, Copy)]
struct What {
    sample: bool,
    root: bool,
}

struct Exact {
    count: i64,
    sum: Numeric,
    squares: Numeric,
    what: What,
}

impl Accumulator for Exact {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let n = match &args[0] {
            Datum::Int2(v) => Numeric::from(*v),
            Datum::Int4(v) => Numeric::from(*v),
            Datum::Int8(v) => Numeric::from(*v),
            Datum::Numeric(v) => Numeric::clone(v),
            other => wrong_kind("a number", other),
        };
        self.count += 1;
        self.sum = self.sum.add(&n)?;
        self.squares = self.squares.add(&n.mul(&n)?)?;
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        let least = if self.what.sample { 2 } else { 1 };
        if self.count < least {
            return Ok(Datum::Null);
        }
        let give = |n: Numeric| Ok(Datum::Numeric(Arc::new(n)));
        if !self.sum.is_finite() || !self.squares.is_finite() {
            return give(Numeric::NaN);
        }
        let n = Numeric::from(self.count);
        let spread = n.mul(&self.squares)?.sub(&self.sum.mul(&self.sum)?)?;
        if spread.signum() <= 0 {
            return give(Numeric::zero());
        }
        let divisor = n.mul(&Numeric::from(self.count - i64::from(self.what.sample)))?;
        let variance = spread.div(&divisor)?;
        give(if self.what.root {
            variance.sqrt_at_scale(variance.scale())?
        } else {
            variance
        })
    }
}

/// Count, sum, and sum of squared differences from the mean.
#[derive(Default, Clone, Copy)]
struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, v: f64) -> Result<(), TypeError> {
        let before = *self;
        self.n += 1.0;
        self.sum += v;
        if before.n > 0.0 {
            let t = v * self.n - self.sum;
            self.squares += t * t / (self.n * before.n);
            if self.sum.is_infinite() || self.squares.is_infinite() {
                if !before.sum.is_infinite() && !v.is_infinite() {
                    return Err(overflow());
                }
                self.squares = f64::NAN;
            }
        } else if !v.is_finite() {
            self.squares = f64::NAN;
        }
        Ok(())
    }
}

fn float(d: &Datum) -> f64 {
    match d {
        Datum::Float4(v) => f64::from(*v),
        Datum::Float8(v) => *v,
        other => wrong_kind("a float", other),
    }
}

struct Inexact {
    moments: Moments,
    give: fn(&Moments) -> Option<f64>,
}

impl Accumulator for Inexact {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.moments.add(float(&args[0]))
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok((self.give)(&self.moments).map_or(Datum::Null, Datum::Float8))
    }
}

fn inexact(give: fn(&Moments) -> Option<f64>) -> Box<dyn Accumulator> {
    Box::new(Inexact {
        moments: Moments::default(),
        give,
    })
}
fn exact(sample: bool, root: bool) -> Box<dyn Accumulator> {
    Box::new(Exact {
        count: 0,
        sum: Numeric::zero(),
        squares: Numeric::zero(),
        what: What { sample, root },
    })
}
fn mean(m: &Moments) -> Option<f64> {
    (m.n > 0.0).then(|| m.sum / m.n)
}
fn variance_pop(m: &Moments) -> Option<f64> {
    (m.n > 0.0).then(|| m.squares / m.n)
}
fn variance_samp(m: &Moments) -> Option<f64> {
    (m.n > 1.0).then(|| m.squares / (m.n - 1.0))
}
fn deviation_pop(m: &Moments) -> Option<f64> {
    variance_pop(m).map(f64::sqrt)
}
fn deviation_samp(m: &Moments) -> Option<f64> {
    variance_samp(m).map(f64::sqrt)
}

/// Is the argument a float, so that the inexact form is due?
fn floating(args: &[Oid]) -> bool {
    matches!(
        args[0],
        crate::types::oids::FLOAT4 | crate::types::oids::FLOAT8
    )
}

pub(super) fn avg_float4(_args: &[Oid]) -> Box<dyn Accumulator> {
    inexact(mean)
}
pub(super) fn avg_float8(_args: &[Oid]) -> Box<dyn Accumulator> {
    inexact(mean)
}
pub(super) fn var_pop(args: &[Oid]) -> Box<dyn Accumulator> {
    if floating(args) {
        inexact(variance_pop)
    } else {
        exact(false, false)
    }
}
pub(super) fn var_samp(args: &[Oid]) -> Box<dyn Accumulator> {
    if floating(args) {
        inexact(variance_samp)
    } else {
        exact(true, false)
    }
}
pub(super) fn variance(args: &[Oid]) -> Box<dyn Accumulator> {
    var_samp(args)
}
pub(super) fn stddev_pop(args: &[Oid]) -> Box<dyn Accumulator> {
    if floating(args) {
        inexact(deviation_pop)
    } else {
        exact(false, true)
    }
}
pub(super) fn stddev_samp(args: &[Oid]) -> Box<dyn Accumulator> {
    if floating(args) {
        inexact(deviation_samp)
    } else {
        exact(true, true)
    }
}
pub(super) fn stddev(args: &[Oid]) -> Box<dyn Accumulator> {
    stddev_samp(args)
}

/// Moments of pairs (y, x).
#[derive(Default, Clone, Copy)]
struct Pairs {
    x: Moments,
    y: Moments,
    products: f64,
}

impl Pairs {
    /// One product with 1/(n(n-1)) for all three sums, so that the last digits are PostgreSQL's.
    fn add(&mut self, y: f64, x: f64) -> Result<(), TypeError> {
        let before = *self;
        self.x.n += 1.0;
        self.x.sum += x;
        self.y.sum += y;
        if before.x.n > 0.0 {
            let (tx, ty) = (x * self.x.n - self.x.sum, y * self.x.n - self.y.sum);
            let scale = 1.0 / (self.x.n * before.x.n);
            self.x.squares += tx * tx * scale;
            self.y.squares += ty * ty * scale;
            self.products += tx * ty * scale;
            let sums = [
                self.x.sum,
                self.y.sum,
                self.x.squares,
                self.y.squares,
                self.products,
            ];
            if sums.iter().any(|v| v.is_infinite()) {
                let given = [before.x.sum, before.y.sum, x, y];
                if given.iter().all(|v| !v.is_infinite()) {
                    return Err(overflow());
                }
                (self.x.squares, self.y.squares, self.products) = (f64::NAN, f64::NAN, f64::NAN);
            }
        } else {
            if !x.is_finite() {
                (self.x.squares, self.products) = (f64::NAN, f64::NAN);
            }
            if !y.is_finite() {
                (self.y.squares, self.products) = (f64::NAN, f64::NAN);
            }
        }
        Ok(())
    }
}

struct Regression {
    pairs: Pairs,
    give: fn(&Pairs) -> Option<f64>,
}

impl Accumulator for Regression {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let (y, x) = (float(&args[0]), float(&args[1]));
        self.pairs.add(y, x)?;
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok((self.give)(&self.pairs).map_or(Datum::Null, Datum::Float8))
    }
}

fn regression(give: fn(&Pairs) -> Option<f64>) -> Box<dyn Accumulator> {
    Box::new(Regression {
        pairs: Pairs::default(),
        give,
    })
}
fn some(p: &Pairs, value: f64) -> Option<f64> {
    (p.x.n > 0.0).then_some(value)
}

pub(super) fn covar_pop(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.products / p.x.n))
}
pub(super) fn covar_samp(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| (p.x.n > 1.0).then(|| p.products / (p.x.n - 1.0)))
}
pub(super) fn corr(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| {
        let flat = p.x.n < 1.0 || p.x.squares == 0.0 || p.y.squares == 0.0;
        (!flat).then(|| p.products / (p.x.squares * p.y.squares).sqrt())
    })
}
pub(super) fn regr_avgx(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.x.sum / p.x.n))
}
pub(super) fn regr_avgy(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.y.sum / p.x.n))
}
pub(super) fn regr_sxx(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.x.squares))
}
pub(super) fn regr_syy(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.y.squares))
}
pub(super) fn regr_sxy(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| some(p, p.products))
}
pub(super) fn regr_slope(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| (p.x.n >= 1.0 && p.x.squares != 0.0).then(|| p.products / p.x.squares))
}
pub(super) fn regr_intercept(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| {
        let steep = p.x.n < 1.0 || p.x.squares == 0.0;
        (!steep).then(|| (p.y.sum - p.x.sum * p.products / p.x.squares) / p.x.n)
    })
}
pub(super) fn regr_r2(_args: &[Oid]) -> Box<dyn Accumulator> {
    regression(|p| {
        if p.x.n < 1.0 || p.x.squares == 0.0 {
            return None;
        }
        if p.y.squares == 0.0 {
            return Some(1.0);
        }
        Some(p.products * p.products / (p.x.squares * p.y.squares))
    })
}

/// How many pairs have both values.
struct PairCount(i64);
impl Accumulator for PairCount {
    fn update(&mut self, _args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.0 += 1;
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(Datum::Int8(self.0))
    }
}
pub(super) fn regr_count(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(PairCount(0))
}
