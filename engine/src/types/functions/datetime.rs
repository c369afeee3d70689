//! Dates, times, timestamps: comparison, arithmetic, conversion between the types.

use std::cmp::Ordering;

use super::call::{Date, Stamp, StampTz, Time, TimeTz, wrong_kind};
use crate::types::compare::compare_timetz;
use crate::types::datetime::calendar::{
    Fields, days_in_month, is_valid_date, is_valid_julian, is_valid_timestamp,
};
use crate::types::datetime::{
    DAY, SECOND, date_out_of_range, interval_out_of_range, timestamp_out_of_range, zone,
};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;
use crate::types::oids;

/// A timestamp with or without zone, where the code is one for both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub i64);

impl super::call::Arg<'_> for Moment {
    fn get(datum: &Datum) -> Moment {
        match datum {
            Datum::Timestamp(t) | Datum::TimestampTz(t) => Moment(*t),
            other => wrong_kind("a timestamp", other),
        }
    }
}

impl Date {
    pub fn is_finite(self) -> bool {
        self.0 != i32::MIN && self.0 != i32::MAX
    }
    /// Midnight, unchecked: a date beyond the last timestamp compares above all of them.
    fn saturating_stamp(self) -> i64 {
        match self.0 {
            i32::MIN => i64::MIN,
            i32::MAX => i64::MAX,
            days => i64::from(days).saturating_mul(DAY),
        }
    }
}

pub(crate) fn is_finite(t: i64) -> bool {
    t != i64::MIN && t != i64::MAX
}

/// A date beyond all finite timestamps lies below infinity all the same.
fn date_to_stamp_order(d: Date, t: i64) -> Ordering {
    let at = d.saturating_stamp();
    if d.is_finite() && at == i64::MAX && t == i64::MAX {
        Ordering::Less
    } else {
        at.cmp(&t)
    }
}

fn zoned_midnight(d: Date, cx: &FunctionCx) -> i64 {
    let local = d.saturating_stamp();
    if d.is_finite() && is_valid_timestamp(local) {
        zone::to_instant(&cx.time_zone, local)
    } else {
        local
    }
}

/// A date beyond all finite timestamps lies below infinity all the same.
fn zoned_midnight_order(d: Date, t: i64, cx: &FunctionCx) -> Ordering {
    let at = zoned_midnight(d, cx);
    if d.is_finite() && at == i64::MAX && t == i64::MAX {
        Ordering::Less
    } else {
        at.cmp(&t)
    }
}

fn zoned(t: i64, cx: &FunctionCx) -> i64 {
    if is_finite(t) {
        zone::to_instant(&cx.time_zone, t)
    } else {
        t
    }
}

fn utc(t: TimeTz) -> (i64, i32) {
    (t.0, t.1)
}

comparisons! {
    date_eq date_ne date_lt date_le date_gt date_ge date_cmp: Date, Date, |a: Date, b: Date| a.cmp(&b);
    time_eq time_ne time_lt time_le time_gt time_ge time_cmp: Time, Time, |a: Time, b: Time| a.cmp(&b);
    timetz_eq timetz_ne timetz_lt timetz_le timetz_gt timetz_ge timetz_cmp: TimeTz, TimeTz, |a: TimeTz, b: TimeTz| compare_timetz(utc(a), utc(b));
    timestamp_eq timestamp_ne timestamp_lt timestamp_le timestamp_gt timestamp_ge timestamp_cmp: Moment, Moment, |a: Moment, b: Moment| a.cmp(&b);
    interval_eq interval_ne interval_lt interval_le interval_gt interval_ge interval_cmp: &Interval, &Interval, |a: &Interval, b: &Interval| a.compare(b);
    date_eq_timestamp date_ne_timestamp date_lt_timestamp date_le_timestamp date_gt_timestamp date_ge_timestamp date_cmp_timestamp: Date, Stamp, |a: Date, b: Stamp| date_to_stamp_order(a, b.0);
    timestamp_eq_date timestamp_ne_date timestamp_lt_date timestamp_le_date timestamp_gt_date timestamp_ge_date timestamp_cmp_date: Stamp, Date, |a: Stamp, b: Date| date_to_stamp_order(b, a.0).reverse();
}
extremes! {
    date_larger date_smaller: oids::DATE;
    time_larger time_smaller: oids::TIME;
    timetz_larger timetz_smaller: oids::TIMETZ;
    interval_larger interval_smaller: oids::INTERVAL;
}

/// Comparisons that need the session's zone.
macro_rules! zoned_comparisons {
    ($($eq:ident $ne:ident $lt:ident $le:ident $gt:ident $ge:ident $cmp:ident : $t:ty, $u:ty, $order:expr;)*) => {$(
        scalar! {
            fn $eq[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_eq()) }
            fn $ne[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_ne()) }
            fn $lt[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_lt()) }
            fn $le[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_le()) }
            fn $gt[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_gt()) }
            fn $ge[cx](a: $t, b: $u) -> bool { Ok($order(a, b, cx).is_ge()) }
            fn $cmp[cx](a: $t, b: $u) -> i32 { Ok($order(a, b, cx) as i32) }
        }
    )*};
}
zoned_comparisons! {
    date_eq_timestamptz date_ne_timestamptz date_lt_timestamptz date_le_timestamptz date_gt_timestamptz date_ge_timestamptz date_cmp_timestamptz: Date, StampTz, |a: Date, b: StampTz, cx: &FunctionCx| zoned_midnight_order(a, b.0, cx);
    timestamptz_eq_date timestamptz_ne_date timestamptz_lt_date timestamptz_le_date timestamptz_gt_date timestamptz_ge_date timestamptz_cmp_date: StampTz, Date, |a: StampTz, b: Date, cx: &FunctionCx| zoned_midnight_order(b, a.0, cx).reverse();
    timestamp_eq_timestamptz timestamp_ne_timestamptz timestamp_lt_timestamptz timestamp_le_timestamptz timestamp_gt_timestamptz timestamp_ge_timestamptz timestamp_cmp_timestamptz: Stamp, StampTz, |a: Stamp, b: StampTz, cx: &FunctionCx| zoned(a.0, cx).cmp(&b.0);
    timestamptz_eq_timestamp timestamptz_ne_timestamp timestamptz_lt_timestamp timestamptz_le_timestamp timestamptz_gt_timestamp timestamptz_ge_timestamp timestamptz_cmp_timestamp: StampTz, Stamp, |a: StampTz, b: Stamp, cx: &FunctionCx| a.0.cmp(&zoned(b.0, cx));
}

fn checked(t: Option<i64>) -> Result<i64, TypeError> {
    t.filter(|t| is_valid_timestamp(*t))
        .ok_or_else(timestamp_out_of_range)
}

/// Months are added on the calendar; a day that the month has not becomes its last.
fn add_months(t: i64, months: i32) -> Result<i64, TypeError> {
    if months == 0 {
        return Ok(t);
    }
    let mut f = Fields::of(t);
    let total = i64::from(f.year) * 12 + i64::from(f.month) - 1 + i64::from(months);
    f.year = total.div_euclid(12) as i32;
    f.month = total.rem_euclid(12) as i32 + 1;
    if !is_valid_julian(f.year, f.month) {
        return Err(timestamp_out_of_range());
    }
    f.day = f.day.min(days_in_month(f.year, f.month));
    f.timestamp().ok_or_else(timestamp_out_of_range)
}

fn add_days(t: i64, days: i32) -> Result<i64, TypeError> {
    if days == 0 {
        return Ok(t);
    }
    checked(
        i64::from(days)
            .checked_mul(DAY)
            .and_then(|d| t.checked_add(d)),
    )
}

/// `timestamp + interval`: months, then days, then time.
pub(crate) fn add_interval(t: i64, i: &Interval) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    let t = add_days(add_months(t, i.months)?, i.days)?;
    checked(t.checked_add(i.micros))
}

/// `timestamptz + interval`: months and days on the local calendar, time in real time.
pub(crate) fn add_interval_zoned(t: i64, i: &Interval, cx: &FunctionCx) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    let mut t = t;
    if i.months != 0 {
        t = zone::to_instant(
            &cx.time_zone,
            add_months(zone::to_local(&cx.time_zone, t), i.months)?,
        );
    }
    if i.days != 0 {
        t = zone::to_instant(
            &cx.time_zone,
            add_days(zone::to_local(&cx.time_zone, t), i.days)?,
        );
    }
    checked(t.checked_add(i.micros))
}

fn add_to_date(d: Date, days: i32) -> Result<Date, TypeError> {
    if !d.is_finite() {
        return Ok(d);
    }
    d.0.checked_add(days)
        .filter(|d| is_valid_date(*d))
        .map(Date)
        .ok_or_else(date_out_of_range)
}

/// A date as a timestamp, checked.
pub(crate) fn date_stamp(d: Date) -> Result<i64, TypeError> {
    match d.0 {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        days => {
            let t = i64::from(days).saturating_mul(DAY);
            if is_valid_timestamp(t) {
                Ok(t)
            } else {
                Err(TypeError::new("22008", "date out of range for timestamp"))
            }
        }
    }
}

fn negated(i: &Interval) -> Result<Interval, TypeError> {
    i.negate()
}

fn wrap_day(t: i64) -> i64 {
    t.rem_euclid(DAY)
}

/// The day of a timestamp.
pub(crate) fn day_of(t: i64) -> Date {
    match t {
        i64::MIN => Date(i32::MIN),
        i64::MAX => Date(i32::MAX),
        t => Date(t.div_euclid(DAY) as i32),
    }
}

/// Calendar difference: years, months, days and time, of one sign.
pub(crate) fn age(a: i64, b: i64) -> Result<Interval, TypeError> {
    let (x, y) = (Fields::of(a), Fields::of(b));
    let negative = a < b;
    let sign = if negative { -1 } else { 1 };
    let mut months = sign * ((x.year - y.year) * 12 + x.month - y.month);
    let mut days = sign * (x.day - y.day);
    let mut micros = i64::from(sign) * (x.time() - y.time());
    while micros < 0 {
        micros += DAY;
        days -= 1;
    }
    while days < 0 {
        // Borrowed days are those of the earlier value's month.
        let of = if negative { &x } else { &y };
        days += days_in_month(of.year, of.month);
        months -= 1;
    }
    let i = Interval {
        months,
        days,
        micros,
    };
    if negative { i.negate() } else { Ok(i) }
}

fn finite_pair(a: i64, b: i64) -> Result<(), TypeError> {
    if is_finite(a) && is_finite(b) {
        Ok(())
    } else {
        Err(TypeError::new(
            "22008",
            "cannot subtract infinite timestamps",
        ))
    }
}

scalar! {
    fn timestamp_larger(a: &Datum, b: &Datum) -> Datum { Ok(if moment(a) >= moment(b) { a.clone() } else { b.clone() }) }
    fn timestamp_smaller(a: &Datum, b: &Datum) -> Datum { Ok(if moment(a) <= moment(b) { a.clone() } else { b.clone() }) }

    fn date_pli(a: Date, days: i32) -> Date { add_to_date(a, days) }
    fn integer_pl_date(days: i32, a: Date) -> Date { add_to_date(a, days) }
    fn date_mii(a: Date, days: i32) -> Date {
        if !a.is_finite() { return Ok(a); }
        a.0.checked_sub(days).filter(|d| is_valid_date(*d)).map(Date).ok_or_else(date_out_of_range)
    }
    fn date_mi(a: Date, b: Date) -> i32 {
        if !a.is_finite() || !b.is_finite() {
            return Err(TypeError::new("22008", "cannot subtract infinite dates"));
        }
        Ok(a.0 - b.0)
    }
    fn date_finite(a: Date) -> bool { Ok(a.is_finite()) }
    fn timestamp_finite(a: Moment) -> bool { Ok(is_finite(a.0)) }
    fn interval_finite(_i: &Interval) -> bool { Ok(true) }
    fn date_pl_interval(a: Date, i: &Interval) -> Stamp { add_interval(date_stamp(a)?, i).map(Stamp) }
    fn date_mi_interval(a: Date, i: &Interval) -> Stamp { add_interval(date_stamp(a)?, &negated(i)?).map(Stamp) }
    fn interval_pl_date(i: &Interval, a: Date) -> Stamp { add_interval(date_stamp(a)?, i).map(Stamp) }
    fn timestamp_pl_interval(a: Stamp, i: &Interval) -> Stamp { add_interval(a.0, i).map(Stamp) }
    fn timestamp_mi_interval(a: Stamp, i: &Interval) -> Stamp { add_interval(a.0, &negated(i)?).map(Stamp) }
    fn interval_pl_timestamp(i: &Interval, a: Stamp) -> Stamp { add_interval(a.0, i).map(Stamp) }
    fn timestamptz_pl_interval[cx](a: StampTz, i: &Interval) -> StampTz { add_interval_zoned(a.0, i, cx).map(StampTz) }
    fn timestamptz_mi_interval[cx](a: StampTz, i: &Interval) -> StampTz { add_interval_zoned(a.0, &negated(i)?, cx).map(StampTz) }
    fn interval_pl_timestamptz[cx](i: &Interval, a: StampTz) -> StampTz { add_interval_zoned(a.0, i, cx).map(StampTz) }
    fn timestamp_mi(a: Moment, b: Moment) -> Interval {
        finite_pair(a.0, b.0)?;
        let micros = a.0.checked_sub(b.0).ok_or_else(interval_out_of_range)?;
        Interval { months: 0, days: 0, micros }.justify_hours()
    }
    fn timestamp_age(a: Moment, b: Moment) -> Interval {
        finite_age(a.0, b.0)?;
        age(a.0, b.0)
    }
    fn timestamptz_age[cx](a: StampTz, b: StampTz) -> Interval {
        finite_age(a.0, b.0)?;
        age(zone::to_local(&cx.time_zone, a.0), zone::to_local(&cx.time_zone, b.0))
    }
    fn age_today_stamp[cx](a: Stamp) -> Interval {
        finite_age(a.0, 0)?;
        let today = i64::from(zone::local_day(&cx.time_zone, cx.transaction_timestamp)) * DAY;
        age(today, a.0)
    }
    fn age_today_stamptz[cx](a: StampTz) -> Interval {
        finite_age(a.0, 0)?;
        let today = i64::from(zone::local_day(&cx.time_zone, cx.transaction_timestamp)) * DAY;
        age(today, zone::to_local(&cx.time_zone, a.0))
    }

    fn interval_um(a: &Interval) -> Interval { a.negate() }
    fn interval_pl(a: &Interval, b: &Interval) -> Interval { a.add(b) }
    fn interval_mi(a: &Interval, b: &Interval) -> Interval { a.sub(b) }
    fn interval_mul(a: &Interval, by: f64) -> Interval { a.scale_by(|v| v * by) }
    fn mul_d_interval(by: f64, a: &Interval) -> Interval { a.scale_by(|v| v * by) }
    fn interval_div(a: &Interval, by: f64) -> Interval {
        if by == 0.0 { return Err(super::integer::division_by_zero()); }
        a.scale_by(|v| v / by)
    }
    fn interval_justify_hours(a: &Interval) -> Interval { a.justify_hours() }
    fn interval_justify_days(a: &Interval) -> Interval { a.justify_days() }
    fn interval_justify_interval(a: &Interval) -> Interval { a.justify_interval() }
    fn interval_scale(a: &Interval, modifier: i32) -> Interval { Ok(a.apply_modifier(modifier)) }
    fn interval_time(a: &Interval) -> Time { Ok(Time(wrap_day(a.micros))) }
    fn time_interval(a: Time) -> Interval { Ok(Interval { months: 0, days: 0, micros: a.0 }) }

    fn time_pl_interval(a: Time, i: &Interval) -> Time { Ok(Time(wrap_day(a.0.wrapping_add(i.micros % DAY)))) }
    fn time_mi_interval(a: Time, i: &Interval) -> Time { Ok(Time(wrap_day(a.0.wrapping_sub(i.micros % DAY)))) }
    fn interval_pl_time(i: &Interval, a: Time) -> Time { Ok(Time(wrap_day(a.0.wrapping_add(i.micros % DAY)))) }
    fn time_mi_time(a: Time, b: Time) -> Interval { Ok(Interval { months: 0, days: 0, micros: a.0 - b.0 }) }
    fn timetz_pl_interval(a: TimeTz, i: &Interval) -> TimeTz { Ok(TimeTz(wrap_day(a.0 + i.micros % DAY), a.1)) }
    fn timetz_mi_interval(a: TimeTz, i: &Interval) -> TimeTz { Ok(TimeTz(wrap_day(a.0 - i.micros % DAY), a.1)) }
    fn interval_pl_timetz(i: &Interval, a: TimeTz) -> TimeTz { Ok(TimeTz(wrap_day(a.0 + i.micros % DAY), a.1)) }
    fn time_scale(a: Time, modifier: i32) -> Time { Ok(Time(crate::types::codec::round_time(a.0, modifier))) }
    fn timetz_scale(a: TimeTz, modifier: i32) -> TimeTz { Ok(TimeTz(crate::types::codec::round_time(a.0, modifier), a.1)) }
    fn timestamp_scale(a: Stamp, modifier: i32) -> Stamp { scaled(a.0, modifier).map(Stamp) }
    fn timestamptz_scale(a: StampTz, modifier: i32) -> StampTz { scaled(a.0, modifier).map(StampTz) }

    fn datetime_timestamp(d: Date, t: Time) -> Stamp {
        let day = date_stamp(d)?;
        if !is_finite(day) { return Ok(Stamp(day)); }
        checked(day.checked_add(t.0)).map(Stamp)
    }
    fn date_time_stamptz[cx](d: Date, t: Time) -> StampTz {
        let day = date_stamp(d)?;
        if !is_finite(day) { return Ok(StampTz(day)); }
        checked(day.checked_add(t.0).map(|l| zone::to_instant(&cx.time_zone, l))).map(StampTz)
    }
    fn timedate_stamp(t: Time, d: Date) -> Stamp {
        let day = date_stamp(d)?;
        if !is_finite(day) { return Ok(Stamp(day)); }
        checked(day.checked_add(t.0)).map(Stamp)
    }
    fn datetimetz_timestamptz(d: Date, t: TimeTz) -> StampTz { date_and_timetz(d, t) }
    fn timetzdate_stamptz(t: TimeTz, d: Date) -> StampTz { date_and_timetz(d, t) }

    fn date_timestamp(a: Date) -> Stamp { date_stamp(a).map(Stamp) }
    fn date_timestamptz[cx](a: Date) -> StampTz {
        let local = date_stamp(a)?;
        if !is_finite(local) { return Ok(StampTz(local)); }
        checked(Some(zone::to_instant(&cx.time_zone, local)))
            .map(StampTz)
            .map_err(|_| TypeError::new("22008", "date out of range for timestamp"))
    }
    fn timestamp_date(a: Stamp) -> Date { Ok(day_of(a.0)) }
    fn timestamp_time(a: Stamp) -> Option<Time> { Ok(is_finite(a.0).then(|| Time(wrap_day(a.0)))) }
    fn timestamp_timestamptz[cx](a: Stamp) -> StampTz {
        if !is_finite(a.0) { return Ok(StampTz(a.0)); }
        checked(Some(zone::to_instant(&cx.time_zone, a.0))).map(StampTz)
    }
    fn timestamptz_timestamp[cx](a: StampTz) -> Stamp { Ok(Stamp(local(a.0, cx))) }
    fn timestamptz_date[cx](a: StampTz) -> Date { Ok(day_of(local(a.0, cx))) }
    fn timestamptz_time[cx](a: StampTz) -> Option<Time> { Ok(is_finite(a.0).then(|| Time(wrap_day(local(a.0, cx))))) }
    fn timestamptz_timetz[cx](a: StampTz) -> Option<TimeTz> {
        if !is_finite(a.0) { return Ok(None); }
        let east = zone::offset_at(&cx.time_zone, a.0);
        Ok(Some(TimeTz(wrap_day(a.0 + i64::from(east) * SECOND), -east)))
    }
    fn time_timetz[cx](a: Time) -> TimeTz {
        let day = i64::from(zone::local_day(&cx.time_zone, cx.transaction_timestamp)) * DAY;
        Ok(TimeTz(a.0, -zone::offset_of_local(&cx.time_zone, day + a.0)))
    }
    fn timetz_time(a: TimeTz) -> Time { Ok(Time(a.0)) }

    // OVERLAPS: the ends of each period in any order; a period of no length is a point.
    fn overlaps_timestamp(a: Option<Moment>, b: Option<Moment>, c: Option<Moment>, d: Option<Moment>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), b.map(|m| m.0), c.map(|m| m.0), d.map(|m| m.0)))
    }
    fn overlaps_stamp_both_lengths(a: Option<Stamp>, b: Option<&Interval>, c: Option<Stamp>, d: Option<&Interval>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), stamp_after(a, b)?, c.map(|m| m.0), stamp_after(c, d)?))
    }
    fn overlaps_stamp_first_length(a: Option<Stamp>, b: Option<&Interval>, c: Option<Stamp>, d: Option<Stamp>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), stamp_after(a, b)?, c.map(|m| m.0), d.map(|m| m.0)))
    }
    fn overlaps_stamp_second_length(a: Option<Stamp>, b: Option<Stamp>, c: Option<Stamp>, d: Option<&Interval>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), b.map(|m| m.0), c.map(|m| m.0), stamp_after(c, d)?))
    }
    fn overlaps_zoned_both_lengths[cx](a: Option<StampTz>, b: Option<&Interval>, c: Option<StampTz>, d: Option<&Interval>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), zoned_after(a, b, cx)?, c.map(|m| m.0), zoned_after(c, d, cx)?))
    }
    fn overlaps_zoned_first_length[cx](a: Option<StampTz>, b: Option<&Interval>, c: Option<StampTz>, d: Option<StampTz>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), zoned_after(a, b, cx)?, c.map(|m| m.0), d.map(|m| m.0)))
    }
    fn overlaps_zoned_second_length[cx](a: Option<StampTz>, b: Option<StampTz>, c: Option<StampTz>, d: Option<&Interval>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), b.map(|m| m.0), c.map(|m| m.0), zoned_after(c, d, cx)?))
    }
    fn overlaps_time(a: Option<Time>, b: Option<Time>, c: Option<Time>, d: Option<Time>) -> Option<bool> {
        Ok(overlaps(a.map(|m| m.0), b.map(|m| m.0), c.map(|m| m.0), d.map(|m| m.0)))
    }
}

/// The end of a period that is given by its length.
fn stamp_after(start: Option<Stamp>, length: Option<&Interval>) -> Result<Option<i64>, TypeError> {
    start
        .zip(length)
        .map(|(start, length)| add_interval(start.0, length))
        .transpose()
}

fn zoned_after(
    start: Option<StampTz>,
    length: Option<&Interval>,
    cx: &FunctionCx,
) -> Result<Option<i64>, TypeError> {
    start
        .zip(length)
        .map(|(start, length)| add_interval_zoned(start.0, length, cx))
        .transpose()
}

/// Rounded to a number of digits that a call gave; a type's own was checked with the type.
fn scaled(t: i64, digits: i32) -> Result<i64, TypeError> {
    if is_finite(t) && !(-1..=6).contains(&digits) {
        let what = format!("timestamp({digits}) precision must be between 0 and 6");
        return Err(TypeError::new("22023", what));
    }
    Ok(crate::types::codec::round_timestamp(t, digits))
}

fn moment(d: &Datum) -> Moment {
    super::call::Arg::get(d)
}

fn finite_age(a: i64, b: i64) -> Result<(), TypeError> {
    if is_finite(a) && is_finite(b) {
        Ok(())
    } else {
        Err(timestamp_out_of_range())
    }
}

fn local(t: i64, cx: &FunctionCx) -> i64 {
    if is_finite(t) {
        zone::to_local(&cx.time_zone, t)
    } else {
        t
    }
}

fn date_and_timetz(d: Date, t: TimeTz) -> Result<StampTz, TypeError> {
    match d.0 {
        i32::MIN => Ok(StampTz(i64::MIN)),
        i32::MAX => Ok(StampTz(i64::MAX)),
        days => checked(
            i64::from(days)
                .checked_mul(DAY)
                .and_then(|d| d.checked_add(t.0))
                .and_then(|v| v.checked_add(i64::from(t.1) * SECOND)),
        )
        .map(StampTz)
        .map_err(|_| TypeError::new("22008", "date out of range for timestamp")),
    }
}

/// NULL where the missing ends could decide.
fn overlaps(a: Option<i64>, b: Option<i64>, c: Option<i64>, d: Option<i64>) -> Option<bool> {
    let order = |x: Option<i64>, y: Option<i64>| match (x, y) {
        (None, None) => None,
        (None, Some(y)) => Some((y, None)),
        (Some(x), None) => Some((x, None)),
        (Some(x), Some(y)) => Some((x.min(y), Some(x.max(y)))),
    };
    let ((start1, end1), (start2, end2)) = (order(a, b)?, order(c, d)?);
    match start1.cmp(&start2) {
        Ordering::Greater => match end2 {
            None => None,
            Some(e) if start1 < e => Some(true),
            Some(_) => end1.map(|_| false),
        },
        Ordering::Less => match end1 {
            None => None,
            Some(e) if start2 < e => Some(true),
            Some(_) => end2.map(|_| false),
        },
        Ordering::Equal => match (end1, end2) {
            (Some(_), Some(_)) => Some(true),
            _ => None,
        },
    }
}
