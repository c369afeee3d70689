//! What time it is, and where: clocks and zones.

use super::call::{Stamp, StampTz, TimeTz};
use super::datetime::is_finite;
use crate::types::datetime::calendar::{Fields, day_of_week, is_valid_timestamp};
use crate::types::datetime::{DAY, SECOND, UNIX_EPOCH, timestamp_out_of_range, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;

/// Microseconds since 2000-01-01 UTC, now.
pub fn current_microseconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UNIX_EPOCH + now.map_or(0, |d| d.as_micros() as i64)
}
/// The offset that a zone's name means for a local time or an instant.
pub(super) enum At {
    Local(i64),
    Instant(i64),
}
pub(super) fn named_offset(name: &str, at: At) -> Result<i32, TypeError> {
    match zone::named(name) {
        Some(zone::Named::Offset(east)) => Ok(east),
        Some(zone::Named::Zone(z)) => Ok(match at {
            At::Local(t) => zone::offset_of_local(&z, t),
            At::Instant(t) => zone::offset_at(&z, t),
        }),
        None => numeric_offset(name)
            .ok_or_else(|| TypeError::new("22023", format!("time zone \"{name}\" not recognized"))),
    }
}

/// `+3`, `-04:30`: POSIX, so west is positive.
pub(super) fn numeric_offset(name: &str) -> Option<i32> {
    let text = if name.starts_with(['+', '-']) {
        name.to_owned()
    } else {
        format!("+{name}")
    };
    crate::types::datetime::decode::decode_offset(&text)
        .ok()
        .map(|east| -east)
}

fn interval_offset(i: &Interval, shown: &str) -> Result<i64, TypeError> {
    if i.months != 0 || i.days != 0 {
        return Err(TypeError::new(
            "22023",
            format!("interval time zone \"{shown}\" must not include months or days"),
        ));
    }
    // Zones are whole seconds.
    Ok(i.micros / SECOND * SECOND)
}

pub(super) fn shift(t: i64, by: i64) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    t.checked_add(by)
        .filter(|t| is_valid_timestamp(*t))
        .ok_or_else(timestamp_out_of_range)
}

fn shown_interval(i: &Interval, cx: &FunctionCx) -> String {
    let mut out = String::new();
    crate::types::interval::write(i, cx.interval_style, &mut out);
    out
}
scalar! {
    fn now[cx]() -> StampTz { Ok(StampTz(cx.transaction_timestamp)) }
    fn statement_timestamp[cx]() -> StampTz { Ok(StampTz(cx.statement_timestamp)) }
    fn clock_timestamp() -> StampTz { Ok(StampTz(current_microseconds())) }
    fn timeofday[cx]() -> String {
        let t = current_microseconds();
        let (east, name) = zone::info_at(&cx.time_zone, t);
        let f = Fields::of(t + i64::from(east) * SECOND);
        let (day, month) = (crate::types::datetime::encode::WEEKDAYS[day_of_week(f.days()) as usize], crate::types::datetime::encode::MONTHS[f.month as usize - 1]);
        Ok(format!("{day} {month} {:02} {:02}:{:02}:{:02}.{:06} {:04} {name}", f.day, f.hour, f.minute, f.second, f.micros, f.year))
    }

    fn timestamp_zone(name: &str, t: Stamp) -> StampTz {
        if !is_finite(t.0) { return Ok(StampTz(t.0)); }
        let east = named_offset(name, At::Local(t.0))?;
        shift(t.0, -i64::from(east) * SECOND).map(StampTz)
    }
    fn timestamptz_zone(name: &str, t: StampTz) -> Stamp {
        if !is_finite(t.0) { return Ok(Stamp(t.0)); }
        let east = named_offset(name, At::Instant(t.0))?;
        shift(t.0, i64::from(east) * SECOND).map(Stamp)
    }
    fn timestamp_izone[cx](i: &Interval, t: Stamp) -> StampTz {
        if !is_finite(t.0) { return Ok(StampTz(t.0)); }
        shift(t.0, -interval_offset(i, &shown_interval(i, cx))?).map(StampTz)
    }
    fn timestamptz_izone[cx](i: &Interval, t: StampTz) -> Stamp {
        if !is_finite(t.0) { return Ok(Stamp(t.0)); }
        shift(t.0, interval_offset(i, &shown_interval(i, cx))?).map(Stamp)
    }
    fn timetz_izone[cx](i: &Interval, t: TimeTz) -> TimeTz {
        let east = (interval_offset(i, &shown_interval(i, cx))? / SECOND) as i32;
        Ok(to_zone(t, east))
    }
    fn timetz_zone[cx](name: &str, t: TimeTz) -> TimeTz {
        Ok(to_zone(t, named_offset(name, At::Instant(cx.transaction_timestamp))?))
    }
}

fn to_zone(t: TimeTz, east: i32) -> TimeTz {
    let utc = t.0 + i64::from(t.1) * SECOND;
    TimeTz((utc + i64::from(east) * SECOND).rem_euclid(DAY), -east)
}

fn fixed(east: i32) -> jiff::tz::TimeZone {
    jiff::tz::Offset::from_seconds(east).map_or(jiff::tz::TimeZone::UTC, jiff::tz::TimeZone::fixed)
}

/// A zone by its name, an abbreviation or a POSIX offset.
pub(super) fn zone_named(name: &str) -> Result<jiff::tz::TimeZone, TypeError> {
    match zone::named(name) {
        Some(zone::Named::Zone(z)) => Ok(z),
        Some(zone::Named::Offset(east)) => Ok(fixed(east)),
        None => Err(TypeError::new(
            "22023",
            format!("time zone \"{name}\" not recognized"),
        )),
    }
}
