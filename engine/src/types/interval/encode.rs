//! Interval to text, in the four styles.

use std::fmt::Write;

use super::{Interval, IntervalStyle};
use crate::types::datetime::encode::{write_fraction, write_seconds};
use crate::types::datetime::{HOUR, MINUTE, SECOND};

/// An interval with its months and time taken apart; all parts of the time have its sign.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i32,
    micros: i32,
}

impl Parts {
    fn of(value: &Interval) -> Parts {
        Parts {
            year: i64::from(value.months / 12),
            month: i64::from(value.months % 12),
            day: i64::from(value.days),
            hour: value.micros / HOUR,
            minute: value.micros / MINUTE % 60,
            second: (value.micros / SECOND % 60) as i32,
            micros: (value.micros % SECOND) as i32,
        }
    }
    fn has_time(&self) -> bool {
        self.hour != 0 || self.minute != 0 || self.second != 0 || self.micros != 0
    }
    fn time_negative(&self) -> bool {
        self.hour < 0 || self.minute < 0 || self.second < 0 || self.micros < 0
    }
}

// Writing into a buffer in memory cannot fail, so the results of `write!` are dropped here.

/// Appends the value in `style`.
pub(crate) fn write(value: &Interval, style: IntervalStyle, out: &mut impl Write) {
    let parts = Parts::of(value);
    match style {
        IntervalStyle::Postgres => postgres(&parts, out),
        IntervalStyle::PostgresVerbose => verbose(&parts, out),
        IntervalStyle::SqlStandard => sql_standard(&parts, out),
        IntervalStyle::Iso8601 => iso(&parts, out),
    }
}

fn clock(parts: &Parts, out: &mut impl Write) {
    let _ = write!(out, "{:02}:{:02}:", parts.hour.abs(), parts.minute.abs());
    write_seconds(parts.second.abs(), parts.micros.abs(), out);
}

fn postgres(parts: &Parts, out: &mut impl Write) {
    let (mut empty, mut after_minus) = (true, false);
    for (value, unit) in [
        (parts.year, "year"),
        (parts.month, "mon"),
        (parts.day, "day"),
    ] {
        if value != 0 {
            let space = if empty { "" } else { " " };
            let plus = if after_minus && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
            (empty, after_minus) = (false, value < 0);
        }
    }
    if empty || parts.has_time() {
        let space = if empty { "" } else { " " };
        let sign = if parts.time_negative() {
            "-"
        } else if after_minus {
            "+"
        } else {
            ""
        };
        let _ = write!(out, "{space}{sign}");
        clock(parts, out);
    }
}

fn verbose(parts: &Parts, out: &mut impl Write) {
    let _ = out.write_char('@');
    let (mut empty, mut ago) = (true, false);
    let units = [
        (parts.year, "year"),
        (parts.month, "mon"),
        (parts.day, "day"),
        (parts.hour, "hour"),
        (parts.minute, "min"),
    ];
    for (mut value, unit) in units {
        if value == 0 {
            continue;
        }
        if empty {
            ago = value < 0;
            value = value.abs();
        } else if ago {
            value = -value;
        }
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(out, " {value} {unit}{plural}");
        empty = false;
    }
    if parts.second != 0 || parts.micros != 0 {
        let _ = out.write_char(' ');
        if parts.second < 0 || (parts.second == 0 && parts.micros < 0) {
            if empty {
                ago = true;
            } else if !ago {
                let _ = out.write_char('-');
            }
        } else if ago {
            let _ = out.write_char('-');
        }
        let _ = write!(out, "{}", parts.second.abs());
        write_fraction(parts.micros, out);
        let plural = if parts.second.abs() != 1 || parts.micros != 0 {
            "s"
        } else {
            ""
        };
        let _ = write!(out, " sec{plural}");
        empty = false;
    }
    let _ = out.write_str(if empty { " 0" } else { "" });
    let _ = out.write_str(if ago { " ago" } else { "" });
}

fn sql_standard(parts: &Parts, out: &mut impl Write) {
    let all = [
        parts.year,
        parts.month,
        parts.day,
        parts.hour,
        parts.minute,
        i64::from(parts.second),
        i64::from(parts.micros),
    ];
    let (negative, positive) = (all.iter().any(|v| *v < 0), all.iter().any(|v| *v > 0));
    let year_month = parts.year != 0 || parts.month != 0;
    let day_time = parts.day != 0 || parts.has_time();
    if !negative && !positive {
        let _ = out.write_char('0');
        return;
    }
    let time = |out: &mut dyn Write| {
        let _ = write!(
            out,
            "{}:{:02}:{:02}",
            parts.hour.abs(),
            parts.minute.abs(),
            parts.second.abs()
        );
    };
    if (negative && positive) || (year_month && day_time) {
        let sign = |minus: bool| if minus { '-' } else { '+' };
        let _ = write!(
            out,
            "{}{}-{} {}{} {}",
            sign(parts.year < 0 || parts.month < 0),
            parts.year.abs(),
            parts.month.abs(),
            sign(parts.day < 0),
            parts.day.abs(),
            sign(parts.time_negative()),
        );
        time(out);
        return write_fraction(parts.micros, out);
    }
    if negative {
        let _ = out.write_char('-');
    }
    if year_month {
        let _ = write!(out, "{}-{}", parts.year.abs(), parts.month.abs());
        return;
    }
    if parts.day != 0 {
        let _ = write!(out, "{} ", parts.day.abs());
    }
    time(out);
    write_fraction(parts.micros, out);
}

fn iso(parts: &Parts, out: &mut impl Write) {
    let part = |value: i64, unit: char, out: &mut dyn Write| {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    };
    if !parts.has_time() && parts.year == 0 && parts.month == 0 && parts.day == 0 {
        let _ = out.write_str("PT0S");
        return;
    }
    let _ = out.write_char('P');
    part(parts.year, 'Y', out);
    part(parts.month, 'M', out);
    part(parts.day, 'D', out);
    if !parts.has_time() {
        return;
    }
    let _ = out.write_char('T');
    part(parts.hour, 'H', out);
    part(parts.minute, 'M', out);
    if parts.second != 0 || parts.micros != 0 {
        if parts.second < 0 || parts.micros < 0 {
            let _ = out.write_char('-');
        }
        let _ = write!(out, "{}", parts.second.abs());
        write_fraction(parts.micros, out);
        let _ = out.write_char('S');
    }
}
