//! Offsets of time zones. Offsets count seconds *east*; PostgreSQL's internal ones count west.

use jiff::tz::{AmbiguousOffset, TimeZone};

#[cfg(test)]
use super::calendar::days_from;
use super::calendar::{Fields, date_of};
use super::{DAY, SECOND, UNIX_EPOCH};

/// jiff knows years up to 9999; the rules repeat every 400 years, so later ones are looked up in the same place
/// of an earlier cycle.
fn within_range(t: i64) -> i64 {
    const CYCLE: i64 = 146_097 * DAY;
    const LIMIT: i64 = 7000 * 365 * DAY;
    if t > LIMIT {
        t - (t - LIMIT + CYCLE - 1) / CYCLE * CYCLE
    } else {
        t
    }
}

fn jiff_timestamp(t: i64) -> jiff::Timestamp {
    let micros = within_range(t) - UNIX_EPOCH;
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MIN)
}

/// Offset in effect at an instant (microseconds since 2000-01-01 UTC).
pub(crate) fn offset_at(zone: &TimeZone, t: i64) -> i32 {
    zone.to_offset(jiff_timestamp(t)).seconds()
}

/// Offset, abbreviation and whether it is summer time.
pub(crate) fn info_at(zone: &TimeZone, t: i64) -> (i32, String) {
    let info = zone.to_offset_info(jiff_timestamp(t));
    (info.offset().seconds(), info.abbreviation().to_owned())
}

/// Offset that local time `t` means. In a gap, and in an hour that comes twice, standard time wins, as in
/// PostgreSQL: before the jump in spring, after it in autumn.
pub(crate) fn offset_of_local(zone: &TimeZone, t: i64) -> i32 {
    if let Ok(fixed) = zone.to_fixed_offset() {
        return fixed.seconds();
    }
    let t = within_range(t);
    let (year, month, day) = date_of(t.div_euclid(DAY) as i32);
    let f = Fields::of(t);
    let at = jiff::civil::DateTime::new(
        year.clamp(-9999, 9999) as i16,
        month as i8,
        day as i8,
        f.hour as i8,
        f.minute as i8,
        f.second as i8,
        f.micros * 1000,
    );
    let Ok(at) = at else { return 0 };
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.seconds(),
        AmbiguousOffset::Gap { before, .. } => before.seconds(),
        AmbiguousOffset::Fold { after, .. } => after.seconds(),
    }
}

/// Local time of an instant. Neither is checked for range.
pub(crate) fn to_local(zone: &TimeZone, t: i64) -> i64 {
    t + i64::from(offset_at(zone, t)) * SECOND
}

/// The instant of a local time.
pub(crate) fn to_instant(zone: &TimeZone, local: i64) -> i64 {
    local - i64::from(offset_of_local(zone, local)) * SECOND
}

/// The day that an instant falls on.
pub(crate) fn local_day(zone: &TimeZone, t: i64) -> i32 {
    to_local(zone, t).div_euclid(DAY) as i32
}

/// A zone by its full name, whatever its case: `America/New_York`, `UTC`. POSIX forms such as `EST5EDT` are names
/// too; `<+03>-3` and `UTC+3` are read as POSIX rules.
pub(crate) fn by_name(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt") {
        return Some(TimeZone::UTC);
    }
    if name.is_empty() || name.len() > 255 {
        return None;
    }
    if let Ok(zone) = jiff::tz::db().get(name) {
        return Some(zone);
    }
    // A POSIX rule has to begin with a name and to carry an offset.
    let has_digit = name.bytes().any(|b| b.is_ascii_digit());
    if !has_digit {
        return None;
    }
    TimeZone::posix(&name.to_ascii_uppercase()).ok()
}

/// The zone that a name or an abbreviation means where an SQL function takes a zone's name (`timezone('x', t)`).
pub(crate) enum Named {
    Zone(TimeZone),
    /// A fixed offset, seconds east.
    Offset(i32),
}

pub(crate) fn named(name: &str) -> Option<Named> {
    let lower = name.to_ascii_lowercase();
    if let Some(offset) = super::abbreviations::offset(&lower) {
        return Some(Named::Offset(offset));
    }
    by_name(name).map(Named::Zone)
}

/// Days from 2000-01-01 of 1970-01-01, for callers that work in Unix time.
#[cfg(test)]
#[test]
fn epochs_agree() {
    assert_eq!(days_from(1970, 1, 1), super::UNIX_EPOCH_DAYS);
    assert_eq!(days_from(2000, 1, 1), 0);
    for days in [-2_451_545, -1, 0, 59, 60, 365, 100_000, 2_000_000_000] {
        let (y, m, d) = date_of(days);
        assert_eq!(days_from(y, m, d), days);
    }
}
