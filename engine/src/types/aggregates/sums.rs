//! `sum` and `avg`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::ids::Oid;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Accumulator, FunctionCx};
use crate::types::functions::call::wrong_kind;
use crate::types::functions::float::add_f64;
use crate::types::functions::integer::out_of_range;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

/// Integers of any width: an i128 holds the sum of 2^64 of them.
struct Integers {
    count: i64,
    sum: i128,
    /// What the result is made of.
    give: fn(&Integers) -> Result<Datum, TypeError>,
}

fn integer(value: &Datum) -> i128 {
    match value {
        Datum::Int2(v) => i128::from(*v),
        Datum::Int4(v) => i128::from(*v),
        Datum::Int8(v) => i128::from(*v),
        other => wrong_kind("an integer", other),
    }
}

impl Accumulator for Integers {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.count += 1;
        self.sum += integer(&args[0]);
        Ok(())
    }
    fn remove(&mut self, args: &[Datum]) -> bool {
        self.count -= 1;
        self.sum -= integer(&args[0]);
        true
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.count == 0 {
            Ok(Datum::Null)
        } else {
            (self.give)(self)
        }
    }
}

fn integers(give: fn(&Integers) -> Result<Datum, TypeError>) -> Box<dyn Accumulator> {
    Box::new(Integers {
        count: 0,
        sum: 0,
        give,
    })
}
fn to_int8(s: &Integers) -> Result<Datum, TypeError> {
    i64::try_from(s.sum)
        .map(Datum::Int8)
        .map_err(|_| out_of_range("bigint"))
}
fn to_numeric(s: &Integers) -> Result<Datum, TypeError> {
    Ok(Datum::Numeric(Arc::new(Numeric::from(s.sum))))
}
fn to_average(s: &Integers) -> Result<Datum, TypeError> {
    let average = Numeric::from(s.sum).div(&Numeric::from(s.count))?;
    Ok(Datum::Numeric(Arc::new(average)))
}

pub(super) fn sum_int2(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_int8)
}
pub(super) fn sum_int4(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_int8)
}
pub(super) fn sum_int8(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_numeric)
}
pub(super) fn avg_int2(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_average)
}
pub(super) fn avg_int4(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_average)
}
pub(super) fn avg_int8(_args: &[Oid]) -> Box<dyn Accumulator> {
    integers(to_average)
}

/// The sum keeps the largest scale seen, which a special value must not lose: `0.10 + Infinity - ...` is special anyway.
struct Numerics {
    count: i64,
    sum: Numeric,
    /// How many inputs have the sum's scale: without them the sum would have a smaller one.
    at_scale: i64,
    average: bool,
}

impl Accumulator for Numerics {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let Datum::Numeric(n) = &args[0] else {
            wrong_kind("Numeric", &args[0])
        };
        self.count += 1;
        match n.scale().cmp(&self.sum.scale()) {
            Ordering::Less => {}
            Ordering::Equal => self.at_scale += 1,
            Ordering::Greater => self.at_scale = 1,
        }
        self.sum = self.sum.add(n)?;
        Ok(())
    }
    /// What is left has to have the largest scale still (`do_numeric_discard`).
    fn remove(&mut self, args: &[Datum]) -> bool {
        let Datum::Numeric(n) = &args[0] else {
            wrong_kind("Numeric", &args[0])
        };
        if !n.is_finite() || !self.sum.is_finite() {
            return false;
        }
        let left = self.at_scale - i64::from(n.scale() == self.sum.scale());
        if left == 0 {
            return false;
        }
        let Ok(sum) = self.sum.sub(n) else {
            return false;
        };
        (self.count, self.sum, self.at_scale) = (self.count - 1, sum, left);
        true
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        let result = if self.average {
            self.sum.div(&Numeric::from(self.count))?
        } else {
            self.sum.clone()
        };
        Ok(Datum::Numeric(Arc::new(result)))
    }
}

pub(super) fn sum_numeric(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Numerics {
        count: 0,
        sum: Numeric::zero(),
        at_scale: 0,
        average: false,
    })
}
pub(super) fn avg_numeric(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Numerics {
        count: 0,
        sum: Numeric::zero(),
        at_scale: 0,
        average: true,
    })
}

/// `sum(real)` and `sum(double precision)` in their own width.
struct Floats {
    sum: Option<Datum>,
}

impl Accumulator for Floats {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let sum = match (&self.sum, &args[0]) {
            (None, first) => first.clone(),
            (Some(Datum::Float4(a)), Datum::Float4(b)) => {
                let r = a + b;
                if r.is_infinite() && !a.is_infinite() && !b.is_infinite() {
                    return Err(TypeError::new("22003", "value out of range: overflow"));
                }
                Datum::Float4(r)
            }
            (Some(Datum::Float8(a)), Datum::Float8(b)) => Datum::Float8(add_f64(*a, *b)?),
            (_, other) => wrong_kind("a float", other),
        };
        self.sum = Some(sum);
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.sum.take().unwrap_or(Datum::Null))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.sum.clone().unwrap_or(Datum::Null))
    }
}

pub(super) fn sum_float4(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Floats { sum: None })
}
pub(super) fn sum_float8(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Floats { sum: None })
}

struct Intervals {
    count: i64,
    sum: Interval,
    average: bool,
}

impl Accumulator for Intervals {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let Datum::Interval(i) = &args[0] else {
            wrong_kind("Interval", &args[0])
        };
        self.count += 1;
        self.sum = self.sum.add(i)?;
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        let count = self.count as f64;
        let result = if self.average {
            self.sum.scale_by(|v| v / count)?
        } else {
            self.sum
        };
        Ok(Datum::Interval(Arc::new(result)))
    }
}

pub(super) fn sum_interval(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Intervals {
        count: 0,
        sum: Interval::default(),
        average: false,
    })
}
pub(super) fn avg_interval(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Intervals {
        count: 0,
        sum: Interval::default(),
        average: true,
    })
}
