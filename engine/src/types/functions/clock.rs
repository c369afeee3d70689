//! What time it is, parts of times, rounding to units, making times from parts, zones.

use super::call::{Date, Stamp, StampTz, Time, TimeTz, scalar};
use super::datetime::{date_stamp, is_finite};
use crate::types::datetime::calendar::{
    EPOCH_JULIAN, Fields, date_of, day_of_week, day_of_year, days_from, days_in_month,
    is_valid_date, is_valid_julian, is_valid_timestamp, iso_week, micros_of_time,
};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, UNIX_EPOCH, timestamp_out_of_range, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

/// Microseconds since 2000-01-01 UTC, now.
pub fn current_microseconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UNIX_EPOCH + now.map_or(0, |d| d.as_micros() as i64)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
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

fn unit(name: &str) -> Option<Unit> {
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

fn unrecognized(name: &str, type_name: &str) -> TypeError {
    TypeError::new(
        "22023",
        format!(
            "unit \"{}\" not recognized for type {type_name}",
            name.to_ascii_lowercase()
        ),
    )
}
fn unsupported(name: &str, type_name: &str) -> TypeError {
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

/// A unit that times can be cut to; the words for other parts are not units there.
fn size_unit(name: &str, type_name: &str) -> Result<Unit, TypeError> {
    let part = |u: &Unit| {
        matches!(
            u,
            Unit::Epoch | Unit::Dow | Unit::Doy | Unit::IsoDow | Unit::IsoYear | Unit::Julian
        )
    };
    unit(name)
        .filter(|u| !part(u))
        .ok_or_else(|| unrecognized(name, type_name))
}

/// Cuts a local time to the start of its unit.
fn truncate(name: &str, unit: Unit, f: &Fields, type_name: &str) -> Result<Fields, TypeError> {
    let mut f = *f;
    let midnight = |f: &mut Fields| {
        (f.hour, f.minute, f.second, f.micros) = (0, 0, 0, 0);
    };
    match unit {
        Unit::Microseconds => {}
        Unit::Milliseconds => f.micros = f.micros / 1000 * 1000,
        Unit::Second => f.micros = 0,
        Unit::Minute => (f.second, f.micros) = (0, 0),
        Unit::Hour => (f.minute, f.second, f.micros) = (0, 0, 0),
        Unit::Day => midnight(&mut f),
        Unit::Week => {
            let days = f.days();
            (f.year, f.month, f.day) = date_of(days - (day_of_week(days) + 6) % 7);
            midnight(&mut f);
        }
        Unit::Month
        | Unit::Quarter
        | Unit::Year
        | Unit::Decade
        | Unit::Century
        | Unit::Millennium => {
            midnight(&mut f);
            f.day = 1;
            f.month = match unit {
                Unit::Month => f.month,
                Unit::Quarter => (f.month - 1) / 3 * 3 + 1,
                _ => 1,
            };
            f.year = match unit {
                Unit::Decade if f.year > 0 => f.year / 10 * 10,
                Unit::Decade => -((8 - (f.year - 1)) / 10) * 10,
                Unit::Century if f.year > 0 => (f.year + 99) / 100 * 100 - 99,
                Unit::Century => -((99 - (f.year - 1)) / 100) * 100 + 1,
                Unit::Millennium if f.year > 0 => (f.year + 999) / 1000 * 1000 - 999,
                Unit::Millennium => -((999 - (f.year - 1)) / 1000) * 1000 + 1,
                _ => f.year,
            };
        }
        _ => return Err(unsupported(name, type_name)),
    }
    Ok(f)
}

fn trunc_zoned(name: &str, t: i64, zone: &jiff::tz::TimeZone) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    let unit = size_unit(name, "timestamp with time zone")?;
    let east = zone::offset_at(zone, t);
    let f = truncate(
        name,
        unit,
        &Fields::of(t + i64::from(east) * SECOND),
        "timestamp with time zone",
    )?;
    let local = f.timestamp().ok_or_else(timestamp_out_of_range)?;
    // Within a day the offset in effect is kept; a day may begin under another one.
    let keep = matches!(
        unit,
        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour
    );
    let offset = if keep {
        east
    } else {
        zone::offset_of_local(zone, local)
    };
    Ok(local - i64::from(offset) * SECOND)
}

fn interval_truncate(name: &str, i: &Interval) -> Result<Interval, TypeError> {
    let unit = size_unit(name, "interval")?;
    let cut = |size: i64| Interval {
        micros: i.micros / size * size,
        ..*i
    };
    let months = |size: i32| Interval {
        months: i.months / size * size,
        days: 0,
        micros: 0,
    };
    Ok(match unit {
        Unit::Microseconds => *i,
        Unit::Milliseconds => cut(1000),
        Unit::Second => cut(SECOND),
        Unit::Minute => cut(MINUTE),
        Unit::Hour => cut(HOUR),
        Unit::Day => Interval { micros: 0, ..*i },
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        Unit::Week => {
            return Err(
                unsupported(name, "interval").with_detail("Months usually have fractional weeks.")
            );
        }
        _ => return Err(unsupported(name, "interval")),
    })
}

fn bin(stride: &Interval, t: i64, origin: i64) -> Result<i64, TypeError> {
    if !is_finite(t) {
        return Ok(t);
    }
    if !is_finite(origin) {
        return Err(TypeError::new("22008", "origin out of range"));
    }
    if stride.months != 0 {
        return Err(TypeError::new(
            "0A000",
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let size = i64::from(stride.days)
        .checked_mul(DAY)
        .and_then(|d| d.checked_add(stride.micros))
        .ok_or_else(crate::types::datetime::interval_out_of_range)?;
    if size <= 0 {
        return Err(TypeError::new("22008", "stride must be greater than zero"));
    }
    let difference = t
        .checked_sub(origin)
        .ok_or_else(crate::types::datetime::interval_out_of_range)?;
    let down = difference.div_euclid(size) * size;
    Ok(origin + down)
}

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

/// The offset that a zone's name means for a local time or an instant.
enum At {
    Local(i64),
    Instant(i64),
}
fn named_offset(name: &str, at: At) -> Result<i32, TypeError> {
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
fn numeric_offset(name: &str) -> Option<i32> {
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
    Ok(i.micros)
}

fn shift(t: i64, by: i64) -> Result<i64, TypeError> {
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

    fn timestamp_trunc(name: &str, t: Stamp) -> Stamp {
        const TYPE: &str = "timestamp without time zone";
        if !is_finite(t.0) { return Ok(t); }
        let f = truncate(name, size_unit(name, TYPE)?, &Fields::of(t.0), TYPE)?;
        f.timestamp().map(Stamp).ok_or_else(timestamp_out_of_range)
    }
    fn timestamptz_trunc[cx](name: &str, t: StampTz) -> StampTz { trunc_zoned(name, t.0, &cx.time_zone).map(StampTz) }
    fn timestamptz_trunc_zone(name: &str, t: StampTz, zone_name: &str) -> StampTz {
        if !is_finite(t.0) { return Ok(t); }
        let found = match zone::named(zone_name) {
            Some(zone::Named::Zone(z)) => z,
            Some(zone::Named::Offset(east)) => fixed(east),
            None => return Err(TypeError::new("22023", format!("time zone \"{zone_name}\" not recognized"))),
        };
        trunc_zoned(name, t.0, &found).map(StampTz)
    }
    fn interval_trunc(name: &str, i: &Interval) -> Interval { interval_truncate(name, i) }
    fn timestamp_bin(stride: &Interval, t: Stamp, origin: Stamp) -> Stamp { bin(stride, t.0, origin.0).map(Stamp) }
    fn timestamptz_bin(stride: &Interval, t: StampTz, origin: StampTz) -> StampTz { bin(stride, t.0, origin.0).map(StampTz) }

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
