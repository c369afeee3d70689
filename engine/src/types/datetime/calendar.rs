//! Days to year, month and day and back; what lies in range.

use super::{DAY, HOUR, MINUTE, SECOND};

/// Broken-down local time. `year` 0 is 1 BC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub year: i32,
    pub month: i32,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    pub micros: i32,
}

/// Julian day number of 2000-01-01.
pub(crate) const EPOCH_JULIAN: i32 = 2_451_545;
/// First day that a date or timestamp can have: 4714-11-24 BC.
const FIRST_DAY: i32 = -EPOCH_JULIAN;
/// The day after the last that a date can have: 5874898-01-01.
const END_DAY: i32 = 2_147_483_494 - EPOCH_JULIAN;
pub(crate) const MIN_TIMESTAMP: i64 = FIRST_DAY as i64 * DAY;
/// One beyond the last timestamp: 294277-01-01.
pub(crate) const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

pub(crate) const fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) const fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01 of a calendar day; `month` within 1 to 12.
pub(crate) fn days_from(year: i32, month: i32, day: i32) -> i32 {
    // Years begin in March, so that the leap day is the last one.
    let (y, m) = if month > 2 {
        (i64::from(year), month - 3)
    } else {
        (i64::from(year) - 1, month + 9)
    };
    let era_days = y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let days = era_days + i64::from((153 * m + 2) / 5) + i64::from(day) - 1;
    // 730425 days lie between 0000-03-01 and 2000-01-01.
    (days - 730_425) as i32
}

/// The calendar day of a day number.
pub(crate) fn date_of(days: i32) -> (i32, i32, i32) {
    let z = i64::from(days) + 730_425;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let m = (5 * doy + 2) / 153;
    let day = (doy - (153 * m + 2) / 5 + 1) as i32;
    let month = if m < 10 { m + 3 } else { m - 9 } as i32;
    let year = (yoe + era * 400) as i32 + i32::from(month <= 2);
    (year, month, day)
}

/// Is the year one whose days fit a day number at all?
pub(crate) fn is_valid_julian(year: i32, month: i32) -> bool {
    (year > -4713 || (year == -4713 && month >= 11))
        && (year < 5_874_898 || (year == 5_874_898 && month < 6))
}

pub(crate) fn is_valid_date(days: i32) -> bool {
    (FIRST_DAY..END_DAY).contains(&days)
}

pub(crate) fn is_valid_timestamp(t: i64) -> bool {
    (MIN_TIMESTAMP..END_TIMESTAMP).contains(&t)
}

/// 0 is Sunday.
pub(crate) fn day_of_week(days: i32) -> i32 {
    (days + 6).rem_euclid(7)
}

pub(crate) fn day_of_year(year: i32, month: i32, day: i32) -> i32 {
    days_from(year, month, day) - days_from(year, 1, 1) + 1
}

/// Day number of the Monday of ISO week 1.
fn iso_year_start(year: i32) -> i32 {
    let fourth = days_from(year, 1, 4);
    fourth - (day_of_week(fourth) + 6) % 7
}

/// ISO year and week of a day.
pub(crate) fn iso_week(year: i32, month: i32, day: i32) -> (i32, i32) {
    let days = days_from(year, month, day);
    let iso_year = if days < iso_year_start(year) {
        year - 1
    } else if days >= iso_year_start(year + 1) {
        year + 1
    } else {
        year
    };
    (iso_year, (days - iso_year_start(iso_year)) / 7 + 1)
}

/// Day number of a day (1 is Monday) of an ISO week.
pub(crate) fn iso_day(year: i32, week: i32, weekday: i32) -> i32 {
    iso_year_start(year) + (week - 1) * 7 + weekday - 1
}

/// Hours, minutes, seconds and microseconds of a time of day.
pub(crate) fn time_of(micros: i64) -> (i32, i32, i32, i32) {
    (
        (micros / HOUR) as i32,
        (micros / MINUTE % 60) as i32,
        (micros / SECOND % 60) as i32,
        (micros % SECOND) as i32,
    )
}

pub(crate) fn micros_of_time(hour: i32, minute: i32, second: i32, micros: i32) -> i64 {
    i64::from(hour) * HOUR
        + i64::from(minute) * MINUTE
        + i64::from(second) * SECOND
        + i64::from(micros)
}

impl Fields {
    /// Of a timestamp without zone that is not infinite.
    pub fn of(t: i64) -> Fields {
        let days = t.div_euclid(DAY) as i32;
        let (year, month, day) = date_of(days);
        let (hour, minute, second, micros) = time_of(t.rem_euclid(DAY));
        Fields {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
        }
    }
    pub fn days(&self) -> i32 {
        days_from(self.year, self.month, self.day)
    }
    pub fn time(&self) -> i64 {
        micros_of_time(self.hour, self.minute, self.second, self.micros)
    }
    /// The timestamp, or `None` out of range.
    pub fn timestamp(&self) -> Option<i64> {
        if !is_valid_julian(self.year, self.month) {
            return None;
        }
        let t = i64::from(self.days())
            .checked_mul(DAY)?
            .checked_add(self.time())?;
        is_valid_timestamp(t).then_some(t)
    }
}
