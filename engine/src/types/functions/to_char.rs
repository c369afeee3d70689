//! `to_char` for times and intervals.

use std::fmt::Write;

use super::call::{Stamp, StampTz};
use super::datetime::is_finite;
use super::time_template::{FULL_DAYS, FULL_MONTHS, Ordinal, Part, ROMAN, parts};
use crate::types::datetime::calendar::{
    EPOCH_JULIAN, Fields, day_of_week, day_of_year, days_from, iso_day, iso_week,
};
use crate::types::datetime::encode::{MONTHS, WEEKDAYS};
use crate::types::datetime::{HOUR, MINUTE, SECOND, zone};
use crate::types::error::TypeError;
use crate::types::interval::Interval;

/// What a template shows.
struct Shown {
    year: i64,
    month: i32,
    day: i32,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    year_day: i64,
    weekday: i32,
    zone: Option<(i32, String)>,
    interval: bool,
}

impl Shown {
    fn of_stamp(t: i64, zone: Option<(i32, String)>) -> Shown {
        let f = Fields::of(t);
        Shown {
            year: f.year.into(),
            month: f.month,
            day: f.day,
            hour: f.hour.into(),
            minute: f.minute.into(),
            second: f.second.into(),
            micros: f.micros.into(),
            year_day: day_of_year(f.year, f.month, f.day).into(),
            weekday: day_of_week(f.days()),
            zone,
            interval: false,
        }
    }
    fn of_interval(i: &Interval) -> Shown {
        Shown {
            year: (i.months / 12).into(),
            month: i.months % 12,
            day: i.days,
            hour: i.micros / HOUR,
            minute: i.micros / MINUTE % 60,
            second: i.micros / SECOND % 60,
            micros: i.micros % SECOND,
            year_day: i.months.wrapping_mul(30).wrapping_add(i.days).into(),
            weekday: 0,
            zone: None,
            interval: true,
        }
    }
    /// The year as people count it: 1 BC is 1.
    fn people_year(&self, year: i64) -> i64 {
        if self.interval || year > 0 {
            year
        } else {
            1 - year
        }
    }
    fn calendar_only(&self) -> Result<(), TypeError> {
        if self.interval {
            return Err(TypeError::new(
                "22007",
                "invalid format specification for an interval value",
            )
            .with_hint("Intervals are not tied to specific calendar dates."));
        }
        Ok(())
    }
    fn iso(&self) -> (i32, i32) {
        let (year, month, day) = (self.year as i32, self.month, self.day);
        if self.interval {
            c_iso_week(year, month, day)
        } else {
            iso_week(year, month, day)
        }
    }
    fn iso_year_day(&self) -> i64 {
        let (year, _) = self.iso();
        let (day, start) = if self.interval {
            (self.julian(), first_monday(year))
        } else {
            let day = days_from(self.year as i32, self.month, self.day);
            (day, iso_day(year, 1, 1))
        };
        day.wrapping_sub(start).wrapping_add(1).into()
    }
    /// The Julian day number.
    fn julian(&self) -> i32 {
        let (year, month, day) = (self.year as i32, self.month, self.day);
        if self.interval {
            c_julian(year, month, day)
        } else {
            days_from(year, month, day) + EPOCH_JULIAN
        }
    }
}

// The fields of an interval are no day, but PostgreSQL counts with them as if they were (`date2j` and what stands on
// it): what it shows for them is what this arithmetic of C's integers gives.

fn c_julian(year: i32, month: i32, day: i32) -> i32 {
    let (month, year) = if month > 2 {
        (month + 1, year.wrapping_add(4800))
    } else {
        (month + 13, year.wrapping_add(4799))
    };
    let century = year / 100;
    let leap_days = year / 4 - century + century / 4;
    year.wrapping_mul(365)
        .wrapping_sub(32_167)
        .wrapping_add(leap_days)
        .wrapping_add(7834 * month / 256)
        .wrapping_add(day)
}

/// The first day of the year's first ISO week.
fn first_monday(year: i32) -> i32 {
    let fourth = c_julian(year, 1, 4);
    // Day 0 was a Monday.
    fourth.wrapping_sub(fourth.rem_euclid(7))
}

/// The year of the ISO week that the day is in, and its number.
fn c_iso_week(year: i32, month: i32, day: i32) -> (i32, i32) {
    let day = c_julian(year, month, day);
    let week = |first: i32| day.wrapping_sub(first) / 7 + 1;
    let first = first_monday(year);
    if day < first {
        return (year - 1, week(first_monday(year - 1)));
    }
    let next = first_monday(year + 1);
    if week(first) >= 52 && day >= next {
        return (year + 1, week(next));
    }
    (year, week(first))
}

fn padded(value: i64, width: usize, fill: bool, out: &mut String) {
    // The width does not count the sign.
    let sign = if value < 0 { "-" } else { "" };
    let width = if fill { width } else { 0 };
    let _ = write!(out, "{sign}{:0width$}", value.unsigned_abs());
}

/// As C's `%0*d`, whose width counts the sign.
fn padded_signed(value: i64, width: usize, fill: bool, out: &mut String) {
    padded(value, width - usize::from(value < 0), fill, out);
}

fn ordinal_suffix(number: &str, upper: bool) -> &'static str {
    let digits: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
    let teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    match (digits.last(), teen, upper) {
        (Some(b'1'), false, true) => "ST",
        (Some(b'1'), false, false) => "st",
        (Some(b'2'), false, true) => "ND",
        (Some(b'2'), false, false) => "nd",
        (Some(b'3'), false, true) => "RD",
        (Some(b'3'), false, false) => "rd",
        (_, _, true) => "TH",
        (_, _, false) => "th",
    }
}

fn cased(name: &str, word: &str) -> String {
    if word.chars().all(|c| !c.is_ascii_lowercase()) {
        name.to_ascii_uppercase()
    } else if word.chars().all(|c| !c.is_ascii_uppercase()) {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}

fn name(text: &str, word: &str, pad: bool, out: &mut String) {
    let shown = cased(text, word);
    let width = if pad { 9 } else { 0 };
    let _ = write!(out, "{shown:<width$}");
}

fn render(s: &Shown, template: &str) -> Result<String, TypeError> {
    let mut out = String::new();
    for part in parts(template)? {
        match part {
            Part::Text(c, _) => out.push(c),
            Part::Field {
                word,
                fill,
                translate,
                ordinal,
                ..
            } => {
                let start = out.len();
                let number = field(s, word, fill, translate, &mut out)?;
                // An interval without months has no quarter.
                if number && ordinal != Ordinal::None && out.len() > start {
                    let suffix = ordinal_suffix(&out[start..], ordinal == Ordinal::Upper);
                    out.push_str(suffix);
                }
            }
        }
    }
    Ok(out)
}

/// Appends a field; true if it is a number, which an ordinal suffix may follow.
fn field(
    s: &Shown,
    word: &str,
    fill: bool,
    translate: bool,
    out: &mut String,
) -> Result<bool, TypeError> {
    let twelve = |h: i64| if h % 12 == 0 { 12 } else { h % 12 };
    match word {
        "A.M." | "P.M." | "AM" | "PM" | "a.m." | "p.m." | "am" | "pm" => {
            let text = if s.hour % 24 >= 12 { "P.M." } else { "A.M." };
            let text = if word.contains('.') {
                text.to_owned()
            } else {
                text.replace('.', "")
            };
            out.push_str(&cased(&text, word));
            return Ok(false);
        }
        "A.D." | "B.C." | "AD" | "BC" | "a.d." | "b.c." | "ad" | "bc" => {
            s.calendar_only()?;
            let text = if s.year <= 0 { "B.C." } else { "A.D." };
            let text = if word.contains('.') {
                text.to_owned()
            } else {
                text.replace('.', "")
            };
            out.push_str(&cased(&text, word));
            return Ok(false);
        }
        "MONTH" | "Month" | "month" | "MON" | "Mon" | "mon" => {
            s.calendar_only()?;
            let at = (s.month - 1) as usize;
            if word.len() == 3 {
                out.push_str(&cased(MONTHS[at], word));
            } else {
                name(FULL_MONTHS[at], word, fill && !translate, out);
            }
            return Ok(false);
        }
        "DAY" | "Day" | "day" => {
            s.calendar_only()?;
            name(FULL_DAYS[s.weekday as usize], word, fill && !translate, out);
            return Ok(false);
        }
        "DY" | "Dy" | "dy" => {
            s.calendar_only()?;
            out.push_str(&cased(WEEKDAYS[s.weekday as usize], word));
            return Ok(false);
        }
        "RM" | "rm" => {
            if s.interval && s.month == 0 && s.year == 0 {
                return Ok(false);
            }
            let at = match s.month {
                0 if s.year >= 0 => 11,
                0 => 0,
                // Negative months of an interval count from the end.
                m @ ..0 => 12 + m,
                m => m - 1,
            } as usize;
            let width = if fill { 4 } else { 0 };
            let _ = write!(out, "{:<width$}", cased(ROMAN[at], word));
            return Ok(false);
        }
        "TZ" | "tz" | "TZH" | "TZM" | "OF" => {
            zone_field(s, word, fill, out)?;
            return Ok(false);
        }
        // For noon and midnight of a negative interval the place of the sign is filled as well.
        "HH" | "HH12" => padded_signed(twelve(s.hour), 2 + usize::from(s.hour < 0), fill, out),
        "HH24" => padded(s.hour, 2, fill, out),
        "MI" => padded(s.minute, 2, fill, out),
        "SS" => padded(s.second, 2, fill, out),
        "MS" | "FF3" => padded_signed(s.micros / 1000, 3, true, out),
        "US" | "FF6" => padded_signed(s.micros, 6, true, out),
        "FF1" => padded(s.micros / 100_000, 1, true, out),
        "FF2" => padded_signed(s.micros / 10_000, 2, true, out),
        "FF4" => padded_signed(s.micros / 100, 4, true, out),
        "FF5" => padded_signed(s.micros / 10, 5, true, out),
        "SSSS" | "SSSSS" => padded(s.hour * 3600 + s.minute * 60 + s.second, 1, true, out),
        "FX" => return Ok(false),
        _ => date_field(s, word, fill, out)?,
    }
    Ok(true)
}

fn zone_field(s: &Shown, word: &str, fill: bool, out: &mut String) -> Result<(), TypeError> {
    s.calendar_only()?;
    let (east, abbreviation) = s.zone.clone().unwrap_or((0, String::new()));
    let sign = if east < 0 { '-' } else { '+' };
    let size = east.abs();
    let _ = match word {
        "TZ" => write!(out, "{abbreviation}"),
        "tz" => write!(out, "{}", abbreviation.to_ascii_lowercase()),
        "TZH" => write!(out, "{sign}{:02}", size / 3600),
        "TZM" => write!(out, "{:02}", size / 60 % 60),
        _ => {
            out.push(sign);
            padded((size / 3600).into(), 2, fill, out);
            if size % 3600 != 0 {
                write!(out, ":{:02}", size / 60 % 60)
            } else {
                Ok(())
            }
        }
    };
    Ok(())
}

fn date_field(s: &Shown, word: &str, fill: bool, out: &mut String) -> Result<(), TypeError> {
    let year = s.people_year(s.year);
    // A place for the sign of the year, whatever the number that is shown of it.
    let sign = usize::from(year < 0);
    match word {
        "MM" => padded(s.month.into(), 2, fill, out),
        "DD" => padded_signed(s.day.into(), 2, fill, out),
        "DDD" => padded_signed(s.year_day, 3, fill, out),
        "Q" => {
            if s.month != 0 {
                padded(((s.month - 1) / 3 + 1).into(), 1, fill, out);
            }
        }
        "CC" => {
            let century = match s.year {
                y if s.interval => y / 100,
                y if y > 0 => (y - 1) / 100 + 1,
                y => y / 100 - 1,
            };
            padded(century, 2, fill, out);
        }
        "Y,YYY" => {
            let _ = write!(out, "{},{:03}", year / 1000, year % 1000);
        }
        "YYYY" => padded_signed(year, 4 + sign, fill, out),
        "YYY" => padded_signed(year % 1000, 3 + sign, fill, out),
        "YY" => padded_signed(year % 100, 2 + sign, fill, out),
        "Y" => padded(year % 10, 1, fill, out),
        "WW" => padded_signed((s.year_day - 1) / 7 + 1, 2, fill, out),
        "W" => padded(((s.day - 1) / 7 + 1).into(), 1, fill, out),
        "D" | "ID" => {
            s.calendar_only()?;
            let day = match (word, s.weekday) {
                ("ID", 0) => 7,
                ("ID", day) => day,
                (_, day) => day + 1,
            };
            padded(day.into(), 1, fill, out);
        }
        _ => {
            let iso_year = s.people_year(s.iso().0.into());
            match word {
                "IDDD" => padded_signed(s.iso_year_day(), 3, fill, out),
                "IW" => padded_signed(s.iso().1.into(), 2, fill, out),
                "IYYY" => padded_signed(iso_year, 4 + sign, fill, out),
                "IYY" => padded_signed(iso_year % 1000, 3 + sign, fill, out),
                "IY" => padded_signed(iso_year % 100, 2 + sign, fill, out),
                "I" => padded(iso_year % 10, 1, fill, out),
                _ => padded(s.julian().into(), 1, fill, out),
            }
        }
    }
    Ok(())
}
scalar! {
    fn timestamp_to_char(t: Stamp, template: &str) -> Option<String> {
        if template.is_empty() || !is_finite(t.0) { return Ok(None); }
        render(&Shown::of_stamp(t.0, None), template).map(Some)
    }
    fn timestamptz_to_char[cx](t: StampTz, template: &str) -> Option<String> {
        if template.is_empty() || !is_finite(t.0) { return Ok(None); }
        let zone = zone::info_at(&cx.time_zone, t.0);
        let local = t.0 + i64::from(zone.0) * SECOND;
        render(&Shown::of_stamp(local, Some(zone)), template).map(Some)
    }
    fn interval_to_char(i: &Interval, template: &str) -> Option<String> {
        if template.is_empty() { return Ok(None); }
        render(&Shown::of_interval(i), template).map(Some)
    }
}

/// Shared with `to_char` for numbers.
pub(super) fn suffix_of(number: &str, upper: bool) -> &'static str {
    ordinal_suffix(number, upper)
}
