//! Parts of times: `extract` and `date_part`, and the words for units.

use super::call::{Date, Stamp, StampTz, Time, TimeTz};
use super::datetime::{date_stamp, is_finite};
use crate::types::datetime::calendar::{
    EPOCH_JULIAN, Fields, date_of, day_of_week, day_of_year, iso_week,
};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, UNIX_EPOCH, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    Dow,
    Doy,
    IsoDow,
    IsoYear,
    Julian,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

pub(super) fn unit(name: &str) -> Option<Unit> {
    let lower = name.to_ascii_lowercase();
    Some(match lower.get(..10).unwrap_or(&lower) {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" => Unit::Microseconds,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" => Unit::Milliseconds,
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "qtr" | "quarter" => Unit::Quarter,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Year,
        "dec" | "decs" | "decade" | "decades" => Unit::Decade,
        "c" | "cent" | "century" | "centuries" => Unit::Century,
        "mil" | "mils" | "millennia" | "millennium" => Unit::Millennium,
        "epoch" => Unit::Epoch,
        "dow" => Unit::Dow,
        "doy" => Unit::Doy,
        "isodow" => Unit::IsoDow,
        "isoyear" => Unit::IsoYear,
        "j" | "jd" | "julian" => Unit::Julian,
        "timezone" => Unit::Timezone,
        "timezone_h" => Unit::TimezoneHour,
        "timezone_m" => Unit::TimezoneMinute,
        _ => return None,
    })
}

pub(super) fn unrecognized(name: &str, type_name: &str) -> TypeError {
    TypeError::new(
        "22023",
        format!(
            "unit \"{}\" not recognized for type {type_name}",
            name.to_ascii_lowercase()
        ),
    )
}
pub(super) fn unsupported(name: &str, type_name: &str) -> TypeError {
    TypeError::new(
        "0A000",
        format!(
            "unit \"{}\" not supported for type {type_name}",
            name.to_ascii_lowercase()
        ),
    )
}

/// A part as an exact decimal: `value * 10^-scale`.
#[derive(Clone, Copy)]
struct Part {
    value: i128,
    scale: u32,
}
fn whole(v: i64) -> Part {
    Part {
        value: v.into(),
        scale: 0,
    }
}
fn micros(v: i128) -> Part {
    Part { value: v, scale: 6 }
}

impl Part {
    fn numeric(self) -> Numeric {
        Numeric::new(self.value.into(), self.scale)
    }
    fn float(self) -> f64 {
        self.value as f64 / 10_f64.powi(self.scale as i32)
    }
}

/// Parts of the time of day; `None` for units that are none.
fn time_part(unit: Unit, micros_of_day: i64) -> Option<Part> {
    let in_minute = micros_of_day % MINUTE;
    Some(match unit {
        Unit::Microseconds => whole(in_minute),
        Unit::Milliseconds => Part {
            value: in_minute.into(),
            scale: 3,
        },
        Unit::Second => micros(in_minute.into()),
        Unit::Minute => whole(micros_of_day / MINUTE % 60),
        Unit::Hour => whole(micros_of_day / HOUR),
        _ => return None,
    })
}

fn century(year: i32, size: i32) -> i64 {
    // There is no year 0: 1 to 100 is the first century, -100 to -1 the first before.
    i64::from(if year > 0 {
        (year + size - 1) / size
    } else {
        -((size - 1 - (year - 1)) / size)
    })
}

fn date_part(unit: Unit, f: &Fields) -> Option<Part> {
    Some(whole(match unit {
        Unit::Day => f.day.into(),
        Unit::Month => f.month.into(),
        Unit::Quarter => ((f.month - 1) / 3 + 1).into(),
        Unit::Week => iso_week(f.year, f.month, f.day).1.into(),
        Unit::Year => (if f.year > 0 { f.year } else { f.year - 1 }).into(),
        Unit::Decade => (if f.year >= 0 {
            f.year / 10
        } else {
            -((8 - (f.year - 1)) / 10)
        })
        .into(),
        Unit::Century => century(f.year, 100),
        Unit::Millennium => century(f.year, 1000),
        Unit::Julian => i64::from(f.days()) + i64::from(EPOCH_JULIAN),
        Unit::IsoYear => {
            let y = iso_week(f.year, f.month, f.day).0;
            (if y <= 0 { y - 1 } else { y }).into()
        }
        Unit::Dow => day_of_week(f.days()).into(),
        Unit::IsoDow => ((day_of_week(f.days()) + 6) % 7 + 1).into(),
        Unit::Doy => day_of_year(f.year, f.month, f.day).into(),
        _ => return None,
    }))
}

/// Of an infinite value: infinite for what grows without bound, NULL for what goes round.
fn infinite_part(unit: Unit, negative: bool) -> Option<Option<f64>> {
    match unit {
        Unit::Microseconds
        | Unit::Milliseconds
        | Unit::Second
        | Unit::Minute
        | Unit::Hour
        | Unit::Day
        | Unit::Month
        | Unit::Quarter
        | Unit::Week
        | Unit::Dow
        | Unit::IsoDow
        | Unit::Doy
        | Unit::Timezone
        | Unit::TimezoneHour
        | Unit::TimezoneMinute => Some(None),
        _ => Some(Some(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        })),
    }
}

enum Got {
    Part(Part),
    Infinite(f64),
    Null,
}

fn stamp_part(name: &str, t: i64, zoned: Option<&FunctionCx>) -> Result<Got, TypeError> {
    let type_name = if zoned.is_some() {
        "timestamp with time zone"
    } else {
        "timestamp without time zone"
    };
    let unit = unit(name).ok_or_else(|| unrecognized(name, type_name))?;
    let zone_unit = matches!(
        unit,
        Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute
    );
    if !is_finite(t) {
        return Ok(match infinite_part(unit, t == i64::MIN) {
            Some(Some(v)) => Got::Infinite(v),
            _ => Got::Null,
        });
    }
    if zone_unit && zoned.is_none() {
        return Err(unsupported(name, type_name));
    }
    let east = zoned.map_or(0, |cx| zone::offset_at(&cx.time_zone, t));
    let f = Fields::of(t + i64::from(east) * SECOND);
    let part = match unit {
        Unit::Epoch => micros(i128::from(t) - i128::from(UNIX_EPOCH)),
        Unit::Timezone => whole(east.into()),
        Unit::TimezoneHour => whole((east / 3600).into()),
        Unit::TimezoneMinute => whole((east / 60 % 60).into()),
        Unit::Julian => julian_part(&f),
        _ => match time_part(unit, f.time()).or_else(|| date_part(unit, &f)) {
            Some(part) => part,
            None => return Err(unsupported(name, type_name)),
        },
    };
    Ok(Got::Part(part))
}

/// The Julian day with the time as a fraction.
fn julian_part(f: &Fields) -> Part {
    let days = i128::from(f.days()) + i128::from(EPOCH_JULIAN);
    Part {
        value: days * i128::from(DAY) + i128::from(f.time()),
        scale: u32::MAX,
    }
}

fn part_numeric(part: Part) -> Result<Numeric, TypeError> {
    if part.scale == u32::MAX {
        let day = Numeric::from(DAY);
        let whole = Numeric::from(part.value / i128::from(DAY));
        return whole.add(&Numeric::from(part.value % i128::from(DAY)).div(&day)?);
    }
    Ok(part.numeric())
}
fn part_float(part: Part) -> f64 {
    if part.scale == u32::MAX {
        let day = i128::from(DAY);
        return (part.value / day) as f64 + (part.value % day) as f64 / DAY as f64;
    }
    part.float()
}

impl Got {
    fn numeric(self) -> Result<Option<Numeric>, TypeError> {
        Ok(match self {
            Got::Part(p) => Some(part_numeric(p)?),
            Got::Infinite(v) => Some(Numeric::from_f64(v)),
            Got::Null => None,
        })
    }
    fn float(self) -> Option<f64> {
        match self {
            Got::Part(p) => Some(part_float(p)),
            Got::Infinite(v) => Some(v),
            Got::Null => None,
        }
    }
}

fn date_extract(name: &str, d: Date) -> Result<Got, TypeError> {
    let unit = unit(name).ok_or_else(|| unrecognized(name, "date"))?;
    let dated = !matches!(
        unit,
        Unit::Microseconds
            | Unit::Milliseconds
            | Unit::Second
            | Unit::Minute
            | Unit::Hour
            | Unit::Timezone
            | Unit::TimezoneHour
            | Unit::TimezoneMinute
    );
    if !dated {
        return Err(unsupported(name, "date"));
    }
    if !d.is_finite() {
        return Ok(match infinite_part(unit, d.0 == i32::MIN) {
            Some(Some(v)) => Got::Infinite(v),
            _ => Got::Null,
        });
    }
    let (year, month, day) = date_of(d.0);
    let f = Fields {
        year,
        month,
        day,
        ..Fields::default()
    };
    Ok(Got::Part(match unit {
        Unit::Epoch => {
            whole((i64::from(d.0) - i64::from(crate::types::datetime::UNIX_EPOCH_DAYS)) * 86_400)
        }
        unit => date_part(unit, &f).ok_or_else(|| unsupported(name, "date"))?,
    }))
}

fn time_extract(name: &str, t: i64, west: Option<i32>) -> Result<Got, TypeError> {
    let type_name = if west.is_some() {
        "time with time zone"
    } else {
        "time without time zone"
    };
    let unit = unit(name).ok_or_else(|| unrecognized(name, type_name))?;
    let east = -west.unwrap_or(0);
    Ok(Got::Part(match (unit, west) {
        (Unit::Epoch, _) => micros(i128::from(t) - i128::from(east) * i128::from(SECOND)),
        (Unit::Timezone, Some(_)) => whole(east.into()),
        (Unit::TimezoneHour, Some(_)) => whole((east / 3600).into()),
        (Unit::TimezoneMinute, Some(_)) => whole((east / 60 % 60).into()),
        _ => time_part(unit, t).ok_or_else(|| unsupported(name, type_name))?,
    }))
}

fn interval_extract(name: &str, i: &Interval) -> Result<Got, TypeError> {
    let unit = unit(name).ok_or_else(|| unrecognized(name, "interval"))?;
    let year = i64::from(i.months / 12);
    Ok(Got::Part(match unit {
        Unit::Day => whole(i.days.into()),
        Unit::Month => whole((i.months % 12).into()),
        Unit::Quarter => whole((i.months % 12 / 3 + 1).into()),
        Unit::Year => whole(year),
        Unit::Decade => whole(year / 10),
        Unit::Century => whole(year / 100),
        Unit::Millennium => whole(year / 1000),
        Unit::Epoch => {
            // A year counts 365.25 days here, a month 30.
            let quarter_days =
                i128::from(year) * 1461 + i128::from(i.months % 12) * 120 + i128::from(i.days) * 4;
            micros(quarter_days * i128::from(DAY / 4) + i128::from(i.micros))
        }
        unit => time_part(unit, i.micros).ok_or_else(|| unsupported(name, "interval"))?,
    }))
}
scalar! {
    fn timestamp_part(name: &str, t: Stamp) -> Option<f64> { Ok(stamp_part(name, t.0, None)?.float()) }
    fn extract_timestamp(name: &str, t: Stamp) -> Option<Numeric> { stamp_part(name, t.0, None)?.numeric() }
    fn timestamptz_part[cx](name: &str, t: StampTz) -> Option<f64> { Ok(stamp_part(name, t.0, Some(cx))?.float()) }
    fn extract_timestamptz[cx](name: &str, t: StampTz) -> Option<Numeric> { stamp_part(name, t.0, Some(cx))?.numeric() }
    fn extract_date(name: &str, d: Date) -> Option<Numeric> { date_extract(name, d)?.numeric() }
    fn date_part_date(name: &str, d: Date) -> Option<f64> {
        // PostgreSQL casts the date to a timestamp here.
        Ok(stamp_part(name, date_stamp(d)?, None)?.float())
    }
    fn time_part_float(name: &str, t: Time) -> Option<f64> { Ok(time_extract(name, t.0, None)?.float()) }
    fn extract_time(name: &str, t: Time) -> Option<Numeric> { time_extract(name, t.0, None)?.numeric() }
    fn timetz_part(name: &str, t: TimeTz) -> Option<f64> {
        if unit(name) == Some(Unit::Epoch) {
            // Added as floats, so that the last digits are PostgreSQL's.
            return Ok(Some(t.0 as f64 / 1_000_000.0 + f64::from(t.1)));
        }
        Ok(time_extract(name, t.0, Some(t.1))?.float())
    }
    fn extract_timetz(name: &str, t: TimeTz) -> Option<Numeric> { time_extract(name, t.0, Some(t.1))?.numeric() }
    fn interval_part(name: &str, i: &Interval) -> Option<f64> { Ok(interval_extract(name, i)?.float()) }
    fn extract_interval(name: &str, i: &Interval) -> Option<Numeric> { interval_extract(name, i)?.numeric() }
}
