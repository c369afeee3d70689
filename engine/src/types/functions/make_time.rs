//! Times and intervals made from their parts, and from seconds since 1970.

use super::call::{Date, Stamp, StampTz, Time};
use super::clock::{At, named_offset, numeric_offset, shift};
use crate::types::datetime::calendar::{
    days_from, days_in_month, is_valid_date, is_valid_julian, is_valid_timestamp, micros_of_time,
};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, zone};
use crate::types::error::TypeError;
use crate::types::interval::Interval;

fn make_day(year: i32, month: i32, day: i32) -> Result<Date, TypeError> {
    // From here on a year before Christ counts from 0 downwards, in messages too.
    let year_zero = year == 0;
    let year = if year < 0 {
        year.saturating_add(1)
    } else {
        year
    };
    let valid =
        !year_zero && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    if !valid {
        let message = format!("date field value out of range: {year}-{month:02}-{day:02}");
        return Err(TypeError::new("22008", message));
    }
    let range = || {
        TypeError::new(
            "22008",
            format!("date out of range: {year}-{month:02}-{day:02}"),
        )
    };
    if !is_valid_julian(year, month) {
        return Err(range());
    }
    let days = days_from(year, month, day);
    if is_valid_date(days) {
        Ok(Date(days))
    } else {
        Err(range())
    }
}

/// Seconds as C's `%02g` prints them.
fn shown_seconds(second: f64) -> String {
    let mut out = String::new();
    crate::types::float::write_g(second, 6, &mut out);
    format!("{out:0>2}")
}

fn make_time_of(hour: i32, minute: i32, second: f64) -> Result<i64, TypeError> {
    let bad = || {
        TypeError::new(
            "22008",
            format!(
                "time field value out of range: {hour}:{minute:02}:{}",
                shown_seconds(second)
            ),
        )
    };
    if second.is_nan() {
        return Err(bad());
    }
    let micros = (second * 1_000_000.0).round_ties_even();
    let valid = (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..=60_000_000.0).contains(&micros);
    if !valid {
        return Err(bad());
    }
    let t = micros_of_time(hour, minute, 0, 0) + micros as i64;
    if t > DAY { Err(bad()) } else { Ok(t) }
}

fn make_stamp(
    year: i32,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: f64,
) -> Result<i64, TypeError> {
    let date = make_day(year, month, day).map_err(|e| {
        if !e.message.starts_with("date field") {
            return e;
        }
        TypeError::new(
            "22008",
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    })?;
    let t = make_time_of(hour, minute, second)?;
    i64::from(date.0)
        .checked_mul(DAY)
        .and_then(|d| d.checked_add(t))
        .filter(|t| is_valid_timestamp(*t))
        .ok_or_else(|| {
            TypeError::new(
                "22008",
                format!(
                    "timestamp out of range: {year}-{month:02}-{day:02} {hour}:{minute:02}:{}",
                    shown_seconds(second)
                ),
            )
        })
}
fn epoch_stamp(seconds: f64) -> Result<i64, TypeError> {
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 { i64::MAX } else { i64::MIN });
    }
    if seconds.is_nan() {
        return Err(TypeError::new("22008", "timestamp cannot be NaN"));
    }
    let shown = |v: f64| {
        let mut out = String::new();
        crate::types::float::write_g(v, 6, &mut out);
        out
    };
    let range = || {
        TypeError::new(
            "22008",
            format!("timestamp out of range: \"{}\"", shown(seconds)),
        )
    };
    let micros = ((seconds - 946_684_800.0) * 1_000_000.0).round_ties_even();
    if !(-9.3e18..9.3e18).contains(&micros) {
        return Err(range());
    }
    let t = micros as i64;
    if is_valid_timestamp(t) {
        Ok(t)
    } else {
        Err(range())
    }
}
scalar! {
    fn make_date(year: i32, month: i32, day: i32) -> Date { make_day(year, month, day) }
    fn make_time(hour: i32, minute: i32, second: f64) -> Time { make_time_of(hour, minute, second).map(Time) }
    fn make_timestamp(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: f64) -> Stamp {
        make_stamp(year, month, day, hour, minute, second).map(Stamp)
    }
    fn make_timestamptz[cx](year: i32, month: i32, day: i32, hour: i32, minute: i32, second: f64) -> StampTz {
        shift(zone::to_instant(&cx.time_zone, make_stamp(year, month, day, hour, minute, second)?), 0).map(StampTz)
    }
    fn make_timestamptz_at_timezone(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: f64, name: &str) -> StampTz {
        let local = make_stamp(year, month, day, hour, minute, second)?;
        // Here numbers count seconds east, unlike in POSIX zones.
        let east = match numeric_offset(name) {
            Some(west) if name.starts_with(['+', '-']) => -west,
            _ => named_offset(name, At::Local(local))?,
        };
        shift(local, -i64::from(east) * SECOND).map(StampTz)
    }
    fn make_interval(years: i32, months: i32, weeks: i32, days: i32, hours: i32, minutes: i32, seconds: f64) -> Interval {
        let range = || TypeError::new("22008", "interval out of range");
        if !seconds.is_finite() { return Err(range()); }
        let months = i64::from(years) * 12 + i64::from(months);
        let days = i64::from(weeks) * 7 + i64::from(days);
        let micros = i64::from(hours) * HOUR + i64::from(minutes) * MINUTE;
        let part = (seconds * 1_000_000.0).round_ties_even();
        if part.abs() > 9.2e18 { return Err(range()); }
        Ok(Interval {
            months: i32::try_from(months).map_err(|_| range())?,
            days: i32::try_from(days).map_err(|_| range())?,
            micros: micros.checked_add(part as i64).ok_or_else(range)?,
        })
    }
    fn float8_timestamptz(seconds: f64) -> StampTz { epoch_stamp(seconds).map(StampTz) }
}
