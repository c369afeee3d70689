//! Dates, times and timestamps as text, in the four output styles.

use std::fmt::Write;

use super::calendar::{Fields, date_of, day_of_week, time_of};
use super::{DateOutput, DateStyle, FieldOrder, zone};
use crate::types::function::FunctionCx;

pub(crate) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
pub(crate) const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

// Writing into a buffer in memory cannot fail, so the results of `write!` are dropped here.

fn pair(out: &mut impl Write, n: i32) {
    let _ = write!(out, "{n:02}");
}

/// The year as it is shown: 1 BC is year 0.
fn shown_year(year: i32) -> i32 {
    if year > 0 { year } else { 1 - year }
}

/// `04:05:06.789`
pub(crate) fn write_time(micros: i64, out: &mut impl Write) {
    let (hour, minute, second, us) = time_of(micros);
    let _ = write!(out, "{hour:02}:{minute:02}:");
    write_seconds(second, us, out);
}

/// Seconds with the digits of the fraction that are not trailing zeros.
pub(crate) fn write_seconds(second: i32, micros: i32, out: &mut impl Write) {
    pair(out, second);
    write_fraction(micros, out);
}

pub(crate) fn write_fraction(micros: i32, out: &mut impl Write) {
    if micros != 0 {
        let (mut digits, mut width) = (micros.unsigned_abs(), 6);
        while digits % 10 == 0 {
            digits /= 10;
            width -= 1;
        }
        let _ = write!(out, ".{digits:0width$}");
    }
}

/// `+03`, `-08:30`, `+01:02:03`; the offset counts seconds east.
pub(crate) fn write_offset(east: i32, out: &mut impl Write) {
    let sign = if east < 0 { '-' } else { '+' };
    let size = east.abs();
    let _ = write!(out, "{sign}{:02}", size / 3600);
    let (minute, second) = (size / 60 % 60, size % 60);
    if minute != 0 || second != 0 {
        let _ = write!(out, ":{minute:02}");
        if second != 0 {
            let _ = write!(out, ":{second:02}");
        }
    }
}

/// The date part, without the era.
fn write_day(year: i32, month: i32, day: i32, style: DateStyle, out: &mut impl Write) {
    let year = shown_year(year);
    let _ = match (style.output, style.order) {
        (DateOutput::Iso, _) => write!(out, "{year:04}-{month:02}-{day:02}"),
        (DateOutput::Sql, FieldOrder::Dmy) => write!(out, "{day:02}/{month:02}/{year:04}"),
        (DateOutput::Sql, _) => write!(out, "{month:02}/{day:02}/{year:04}"),
        (DateOutput::German, _) => write!(out, "{day:02}.{month:02}.{year:04}"),
        (DateOutput::Postgres, FieldOrder::Dmy) => write!(out, "{day:02}-{month:02}-{year:04}"),
        (DateOutput::Postgres, _) => write!(out, "{month:02}-{day:02}-{year:04}"),
    };
}

fn write_era(year: i32, out: &mut impl Write) {
    if year <= 0 {
        let _ = out.write_str(" BC");
    }
}

pub fn date(days: i32, style: DateStyle, out: &mut impl Write) {
    if days == i32::MAX || days == i32::MIN {
        let _ = out.write_str(if days == i32::MAX {
            "infinity"
        } else {
            "-infinity"
        });
        return;
    }
    let (year, month, day) = date_of(days);
    write_day(year, month, day, style, out);
    write_era(year, out);
}

/// The zone part of a `timestamptz`.
struct Shown<'a> {
    east: i32,
    abbreviation: Option<&'a str>,
}

fn moment(f: &Fields, zone: Option<Shown<'_>>, style: DateStyle, out: &mut impl Write) {
    if style.output == DateOutput::Postgres {
        let weekday = WEEKDAYS[day_of_week(f.days()) as usize];
        let month = MONTHS[(f.month - 1) as usize];
        let _ = match style.order {
            FieldOrder::Dmy => write!(out, "{weekday} {:02} {month} ", f.day),
            _ => write!(out, "{weekday} {month} {:02} ", f.day),
        };
        write_time(f.time(), out);
        let _ = write!(out, " {:04}", shown_year(f.year));
        if let Some(zone) = zone {
            match zone.abbreviation {
                Some(name) => {
                    let _ = write!(out, " {name}");
                }
                None => {
                    let _ = out.write_char(' ');
                    write_offset(zone.east, out);
                }
            }
        }
        return write_era(f.year, out);
    }
    write_day(f.year, f.month, f.day, style, out);
    let _ = out.write_char(' ');
    write_time(f.time(), out);
    if let Some(zone) = zone {
        match (style.output, zone.abbreviation) {
            (DateOutput::Iso, _) | (_, None) => write_offset(zone.east, out),
            (_, Some(name)) => {
                let _ = write!(out, " {name}");
            }
        }
    }
    write_era(f.year, out);
}

fn infinite(t: i64, out: &mut impl Write) -> bool {
    if t == i64::MAX || t == i64::MIN {
        let _ = out.write_str(if t == i64::MAX {
            "infinity"
        } else {
            "-infinity"
        });
        return true;
    }
    false
}

pub fn timestamp(t: i64, style: DateStyle, out: &mut impl Write) {
    if !infinite(t, out) {
        moment(&Fields::of(t), None, style, out);
    }
}

pub fn timestamptz(t: i64, cx: &FunctionCx, out: &mut impl Write) {
    if infinite(t, out) {
        return;
    }
    if cx.date_style.output == DateOutput::Iso {
        let east = zone::offset_at(&cx.time_zone, t);
        let f = Fields::of(t + i64::from(east) * super::SECOND);
        return moment(
            &f,
            Some(Shown {
                east,
                abbreviation: None,
            }),
            cx.date_style,
            out,
        );
    }
    let (east, name) = zone::info_at(&cx.time_zone, t);
    let f = Fields::of(t + i64::from(east) * super::SECOND);
    moment(
        &f,
        Some(Shown {
            east,
            abbreviation: Some(&name),
        }),
        cx.date_style,
        out,
    );
}

pub fn timetz(micros: i64, west: i32, out: &mut impl Write) {
    write_time(micros, out);
    write_offset(-west, out);
}
