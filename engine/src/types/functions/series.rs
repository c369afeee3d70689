//! Set-returning functions over integers, subscripts and timestamps.

use super::call::{Stamp, StampTz};
use super::datetime::{add_interval, add_interval_zoned};
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Rows;
use crate::types::interval::Interval;

fn series(first: i64, last: i64, step: i64, make: fn(i64) -> Datum) -> Result<Rows, TypeError> {
    if step == 0 {
        return Err(TypeError::new("22023", "step size cannot equal zero"));
    }
    let mut next = Some(first);
    Ok(Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        if if step > 0 {
            current > last
        } else {
            current < last
        } {
            return None;
        }
        next = current.checked_add(step);
        Some(Ok(make(current)))
    })))
}

fn int4(v: i64) -> Datum {
    // Between two int4 bounds, so it fits.
    Datum::Int4(v as i32)
}

fn subscripts(array: &Array, dimension: i32, backwards: bool) -> Result<Rows, TypeError> {
    let found = usize::try_from(dimension)
        .ok()
        .and_then(|d| d.checked_sub(1))
        .and_then(|d| array.dimensions.get(d));
    let Some((length, low)) = found else {
        return Ok(Box::new(std::iter::empty()));
    };
    let (low, high) = (i64::from(*low), i64::from(*low) + *length as i64 - 1);
    if backwards {
        series(high, low, -1, int4)
    } else {
        series(low, high, 1, int4)
    }
}

rows! {
    fn generate_series_int4(first: i32, last: i32) { series(first.into(), last.into(), 1, int4) }
    fn generate_series_step_int4(first: i32, last: i32, step: i32) { series(first.into(), last.into(), step.into(), int4) }
    fn generate_series_int8(first: i64, last: i64) { series(first, last, 1, Datum::Int8) }
    fn generate_series_step_int8(first: i64, last: i64, step: i64) { series(first, last, step, Datum::Int8) }
    fn generate_subscripts_nodir(array: &Array, dimension: i32) { subscripts(array, dimension, false) }
    fn generate_subscripts(array: &Array, dimension: i32, reverse: bool) { subscripts(array, dimension, reverse) }
}

scalar! {
    fn booltext(a: bool) -> &'static str { Ok(if a { "true" } else { "false" }) }
}

/// Timestamps from `first` to `last`, a step of an interval apart.
fn stamp_series(
    first: i64,
    last: i64,
    step: &Interval,
    add: impl Fn(i64) -> Result<i64, TypeError> + Send + 'static,
    make: fn(i64) -> Datum,
) -> Result<Rows, TypeError> {
    let forwards = match step.span().signum() {
        0 => return Err(TypeError::new("22023", "step size cannot equal zero")),
        sign => sign > 0,
    };
    let mut next = Some(first);
    Ok(Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        if if forwards {
            current > last
        } else {
            current < last
        } {
            return None;
        }
        match add(current) {
            Ok(t) => next = Some(t),
            Err(e) => return Some(Err(e)),
        }
        Some(Ok(make(current)))
    })))
}

rows! {
    fn generate_series_timestamp(first: Stamp, last: Stamp, step: &Interval) {
        let by = *step;
        stamp_series(first.0, last.0, step, move |t| add_interval(t, &by), Datum::Timestamp)
    }
    fn generate_series_timestamptz[cx](first: StampTz, last: StampTz, step: &Interval) {
        let (by, cx) = (*step, cx.clone());
        stamp_series(first.0, last.0, step, move |t| add_interval_zoned(t, &by, &cx), Datum::TimestampTz)
    }
}
