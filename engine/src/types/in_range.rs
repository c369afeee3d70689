//! Frames of RANGE with an offset: whether a value lies within a distance of another one, in the order of a B-tree
//! (PostgreSQL's `in_range` support functions). Manual, 4.2.8 and 38.16.3.

use crate::ids::Oid;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::functions::call::wrong_kind;
use crate::types::functions::datetime;
use crate::types::oids;

/// What is asked of a value, a base and an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// The bound is the base less the offset.
    pub subtract: bool,
    /// The value is at most the bound, else at least.
    pub less: bool,
}

/// Whether `value` is on that side of `base` plus or minus `offset`; none of them is NULL.
pub type InRange = fn(&Datum, &Datum, &Datum, Side, &FunctionCx) -> Result<bool, TypeError>;

/// The types of offsets that a sort key of this type takes, and what compares with them.
pub fn offsets(key: Oid) -> &'static [(Oid, InRange)] {
    match key {
        oids::INT2 | oids::INT4 => &[
            (oids::INT8, integers),
            (oids::INT4, integers),
            (oids::INT2, integers),
        ],
        oids::INT8 => &[(oids::INT8, integers)],
        oids::FLOAT4 | oids::FLOAT8 => &[(oids::FLOAT8, floats)],
        oids::NUMERIC => &[(oids::NUMERIC, numerics)],
        oids::DATE => &[(oids::INTERVAL, dates)],
        oids::TIMESTAMP => &[(oids::INTERVAL, timestamps)],
        oids::TIMESTAMPTZ => &[(oids::INTERVAL, timestamptzs)],
        oids::INTERVAL => &[(oids::INTERVAL, intervals)],
        oids::TIME | oids::TIMETZ => &[(oids::INTERVAL, times)],
        _ => &[],
    }
}

fn invalid_size() -> TypeError {
    TypeError::new(
        "22013",
        "invalid preceding or following size in window function",
    )
}

fn within<T: PartialOrd>(value: &T, bound: &T, side: Side) -> bool {
    if side.less {
        value <= bound
    } else {
        value >= bound
    }
}

fn integer(d: &Datum) -> i128 {
    match d {
        Datum::Int2(v) => i128::from(*v),
        Datum::Int4(v) => i128::from(*v),
        Datum::Int8(v) => i128::from(*v),
        other => wrong_kind("an integer", other),
    }
}

fn integers(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    _cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let offset = integer(offset);
    if offset < 0 {
        return Err(invalid_size());
    }
    let offset = if side.subtract { -offset } else { offset };
    Ok(within(&integer(value), &(integer(base) + offset), side))
}

/// NaN stands behind all numbers, and no offset moves it. `None`: neither is NaN.
fn beside_nan(value: bool, base: bool, side: Side) -> Option<bool> {
    match (value, base) {
        (true, true) => Some(true),
        (true, false) => Some(!side.less),
        (false, true) => Some(side.less),
        (false, false) => None,
    }
}

fn float(d: &Datum) -> f64 {
    match d {
        Datum::Float4(v) => f64::from(*v),
        Datum::Float8(v) => *v,
        other => wrong_kind("a float", other),
    }
}

fn floats(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    _cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let (value, base, offset) = (float(value), float(base), float(offset));
    if offset.is_nan() || offset < 0.0 {
        return Err(invalid_size());
    }
    if let Some(known) = beside_nan(value.is_nan(), base.is_nan(), side) {
        return Ok(known);
    }
    let bound = if side.subtract {
        base - offset
    } else {
        base + offset
    };
    // Of two infinities against one another: everything is near enough.
    Ok(bound.is_nan() || within(&value, &bound, side))
}

fn numerics(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    _cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let (Datum::Numeric(value), Datum::Numeric(base), Datum::Numeric(offset)) =
        (value, base, offset)
    else {
        wrong_kind("three numerics", value)
    };
    if offset.is_nan() || offset.signum() < 0 {
        return Err(invalid_size());
    }
    if let Some(known) = beside_nan(value.is_nan(), base.is_nan(), side) {
        return Ok(known);
    }
    let bound = if side.subtract {
        base.sub(offset)?
    } else {
        base.add(offset)?
    };
    Ok(bound.is_nan() || within(value.as_ref(), &bound, side))
}

/// An offset that is not negative.
fn span(offset: &Datum) -> Result<&crate::types::interval::Interval, TypeError> {
    let Datum::Interval(interval) = offset else {
        wrong_kind("an interval", offset)
    };
    if interval.span() < 0 {
        return Err(invalid_size());
    }
    Ok(interval)
}

fn dates(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let stamp = |d: &Datum| datetime::date_timestamp(std::slice::from_ref(d), cx);
    timestamps(&stamp(value)?, &stamp(base)?, offset, side, cx)
}

fn moment(d: &Datum) -> i64 {
    match d {
        Datum::Timestamp(v) | Datum::TimestampTz(v) => *v,
        other => wrong_kind("a timestamp", other),
    }
}

fn timestamps(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    cx: &FunctionCx,
) -> Result<bool, TypeError> {
    span(offset)?;
    let args = [base.clone(), offset.clone()];
    let bound = if side.subtract {
        datetime::timestamp_mi_interval(&args, cx)?
    } else {
        datetime::timestamp_pl_interval(&args, cx)?
    };
    Ok(within(&moment(value), &moment(&bound), side))
}

fn timestamptzs(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    cx: &FunctionCx,
) -> Result<bool, TypeError> {
    span(offset)?;
    let args = [base.clone(), offset.clone()];
    let bound = if side.subtract {
        datetime::timestamptz_mi_interval(&args, cx)?
    } else {
        datetime::timestamptz_pl_interval(&args, cx)?
    };
    Ok(within(&moment(value), &moment(&bound), side))
}

fn intervals(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    _cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let offset = span(offset)?;
    let (Datum::Interval(value), Datum::Interval(base)) = (value, base) else {
        wrong_kind("two intervals", value)
    };
    let bound = if side.subtract {
        base.sub(offset)?
    } else {
        base.add(offset)?
    };
    Ok(within(&value.span(), &bound.span(), side))
}

/// Months and days of the offset count for nothing, and the day does not begin anew behind its end.
fn times(
    value: &Datum,
    base: &Datum,
    offset: &Datum,
    side: Side,
    _cx: &FunctionCx,
) -> Result<bool, TypeError> {
    let Datum::Interval(offset) = offset else {
        wrong_kind("an interval", offset)
    };
    if offset.micros < 0 {
        return Err(invalid_size());
    }
    let micros = i128::from(offset.micros);
    let offset = if side.subtract { -micros } else { micros };
    match (value, base) {
        (Datum::Time(value), Datum::Time(base)) => Ok(within(
            &i128::from(*value),
            &(i128::from(*base) + offset),
            side,
        )),
        (Datum::TimeTz(value, zone), Datum::TimeTz(base, base_zone)) => {
            // By the moment in UTC, of equal ones by the zone.
            let utc = |time: i128, zone: i32| time + i128::from(zone) * 1_000_000;
            let value = (utc(i128::from(*value), *zone), *zone);
            let bound = (utc(i128::from(*base) + offset, *base_zone), *base_zone);
            Ok(within(&value, &bound, side))
        }
        (other, _) => wrong_kind("a time", other),
    }
}
