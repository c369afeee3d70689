//! Text to interval: PostgreSQL's words, SQL's `1-2 3 4:05`, ISO 8601's `P1Y2M`.

use super::{Interval, IntervalStyle, range};
use crate::types::datetime::decode::{Fault, decode_time};
use crate::types::datetime::tokens::{Field, Kind, split};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, interval_out_of_range};
use crate::types::error::TypeError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Micro,
    Milli,
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
}

impl Unit {
    /// Which fields it sets: no field may be set twice. A fraction of a second sets the smaller ones as well.
    fn mask(self, with_fraction: bool) -> u32 {
        match self {
            Unit::Micro => 1,
            Unit::Milli => 2,
            Unit::Second if with_fraction => 7,
            Unit::Second => 4,
            Unit::Minute => 8,
            Unit::Hour => 16,
            Unit::Day => 32,
            Unit::Week => 64,
            Unit::Month => 128,
            Unit::Quarter => 0,
            Unit::Year => 256,
            Unit::Decade => 512,
            Unit::Century => 1024,
            Unit::Millennium => 2048,
        }
    }
}
const TIME_MASK: u32 = 4 | 8 | 16;

fn unit(text: &str) -> Option<Unit> {
    Some(match text.get(..10).unwrap_or(text) {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" => Unit::Micro,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" => Unit::Milli,
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
        _ => return None,
    })
}

/// Sums of fields; every step checks its range.
#[derive(Default)]
struct Sum {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
}

impl Sum {
    fn add_micros(&mut self, value: i64, fraction: f64, scale: i64) -> Result<(), Fault> {
        self.micros = value
            .checked_mul(scale)
            .and_then(|v| self.micros.checked_add(v))
            .ok_or(Fault::Range)?;
        self.add_micros_fraction(fraction, scale)
    }
    fn add_micros_fraction(&mut self, fraction: f64, scale: i64) -> Result<(), Fault> {
        if fraction == 0.0 {
            return Ok(());
        }
        let exact = fraction * scale as f64;
        let mut micros = exact as i64;
        let rest = exact - micros as f64;
        if rest > 0.5 {
            micros += 1;
        } else if rest < -0.5 {
            micros -= 1;
        }
        self.micros = self.micros.checked_add(micros).ok_or(Fault::Range)?;
        Ok(())
    }
    fn add_days(&mut self, value: i64, fraction: f64, scale: i64) -> Result<(), Fault> {
        let days = value
            .checked_mul(scale)
            .and_then(|v| i32::try_from(v).ok())
            .ok_or(Fault::Range)?;
        self.days = self.days.checked_add(days).ok_or(Fault::Range)?;
        if scale == 1 {
            self.add_micros_fraction(fraction, DAY)
        } else {
            self.add_days_fraction(fraction, scale)
        }
    }
    fn add_days_fraction(&mut self, fraction: f64, scale: i64) -> Result<(), Fault> {
        let exact = fraction * scale as f64;
        let whole = exact as i32;
        self.days = self.days.checked_add(whole).ok_or(Fault::Range)?;
        self.add_micros_fraction(exact - f64::from(whole), DAY)
    }
    fn add_months(&mut self, value: i64, fraction: f64) -> Result<(), Fault> {
        let months = i32::try_from(value).map_err(|_| Fault::Range)?;
        self.months = self.months.checked_add(months).ok_or(Fault::Range)?;
        self.add_days_fraction(fraction, 30)
    }
    fn add_years(&mut self, value: i64, fraction: f64, scale: i64) -> Result<(), Fault> {
        let years = value
            .checked_mul(scale)
            .and_then(|v| i32::try_from(v).ok())
            .ok_or(Fault::Range)?;
        self.years = self.years.checked_add(years).ok_or(Fault::Range)?;
        let part = (fraction * scale as f64 * 12.0).round_ties_even() as i32;
        self.months = self.months.checked_add(part).ok_or(Fault::Range)?;
        Ok(())
    }
    fn add(&mut self, unit: Unit, value: i64, fraction: f64) -> Result<(), Fault> {
        match unit {
            Unit::Micro => self.add_micros(value, fraction, 1),
            Unit::Milli => self.add_micros(value, fraction, 1000),
            Unit::Second => self.add_micros(value, fraction, SECOND),
            Unit::Minute => self.add_micros(value, fraction, MINUTE),
            Unit::Hour => self.add_micros(value, fraction, HOUR),
            Unit::Day => self.add_days(value, fraction, 1),
            Unit::Week => self.add_days(value, fraction, 7),
            Unit::Month => self.add_months(value, fraction),
            Unit::Quarter => Err(Fault::Format),
            Unit::Year => self.add_years(value, fraction, 1),
            Unit::Decade => self.add_years(value, fraction, 10),
            Unit::Century => self.add_years(value, fraction, 100),
            Unit::Millennium => self.add_years(value, fraction, 1000),
        }
    }
    fn add_time(&mut self, text: &str, negative: bool, fields: i32) -> Result<(), Fault> {
        let (hour, minute, second, micros) = decode_time(text)?;
        // `interval '4:05' minute to second` has no hours.
        let two_parts = text.bytes().filter(|b| *b == b':').count() == 1 && !text.contains('.');
        let (hour, minute, second) = if two_parts && fields == range::MINUTE | range::SECOND {
            (0, hour as i32, minute)
        } else {
            (hour, minute, second)
        };
        let sign = if negative { -1 } else { 1 };
        self.add_micros(sign * hour, 0.0, HOUR)?;
        let rest = i64::from(minute) * MINUTE + i64::from(second) * SECOND + i64::from(micros);
        self.add_micros(sign * rest, 0.0, 1)
    }
    fn negate(&mut self) -> Result<(), Fault> {
        self.years = self.years.checked_neg().ok_or(Fault::Range)?;
        self.months = self.months.checked_neg().ok_or(Fault::Range)?;
        self.days = self.days.checked_neg().ok_or(Fault::Range)?;
        self.micros = self.micros.checked_neg().ok_or(Fault::Range)?;
        Ok(())
    }
}

/// `interval` input. `modifier` may say which field a bare number is.
pub(crate) fn parse(
    text: &str,
    modifier: i32,
    style: IntervalStyle,
) -> Result<Interval, TypeError> {
    let fields = if modifier >= 0 {
        (modifier >> 16) & 0x7FFF
    } else {
        range::FULL
    };
    let read = || -> Result<Sum, Fault> {
        if text.len() > 512 {
            return Err(Fault::Format);
        }
        let tokens = split(text).ok_or(Fault::Format)?;
        match words(&tokens, fields, style) {
            Err(Fault::Format) => iso(text.trim()),
            other => other,
        }
    };
    let sum = read().map_err(|fault| {
        let fault = if fault == Fault::Range {
            Fault::IntervalRange
        } else {
            fault
        };
        fault.into_error("interval", text)
    })?;
    let months = i64::from(sum.years) * 12 + i64::from(sum.months);
    let value = Interval {
        months: i32::try_from(months).map_err(|_| interval_out_of_range())?,
        days: sum.days,
        micros: sum.micros,
    };
    Ok(value.apply_modifier(modifier))
}

/// The unit of a number without one, by the modifier.
fn rightmost_unit(fields: i32) -> Unit {
    if fields == range::FULL {
        return Unit::Second;
    }
    // The smallest field of the range.
    let order = [
        (range::SECOND, Unit::Second),
        (range::MINUTE, Unit::Minute),
        (range::HOUR, Unit::Hour),
        (range::DAY, Unit::Day),
        (range::MONTH, Unit::Month),
        (range::YEAR, Unit::Year),
    ];
    order
        .into_iter()
        .find(|(bit, _)| fields & bit != 0)
        .map_or(Unit::Second, |(_, unit)| unit)
}

fn words(tokens: &[Field], fields: i32, style: IntervalStyle) -> Result<Sum, Fault> {
    let (mut sum, mut seen, mut before) = (Sum::default(), 0_u32, false);
    // Read backwards, so that units come before their numbers.
    let mut pending: Option<Unit> = None;
    for token in tokens.iter().rev() {
        let text = token.text.as_str();
        let mask = match token.kind {
            Kind::Time => {
                sum.add_time(text, false, fields)?;
                pending = Some(Unit::Day);
                TIME_MASK
            }
            Kind::Zone if text[1..].contains(':') => {
                sum.add_time(&text[1..], text.starts_with('-'), fields)?;
                pending = Some(Unit::Day);
                TIME_MASK
            }
            Kind::Zone | Kind::Date | Kind::Number => {
                let unit = pending.unwrap_or_else(|| rightmost_unit(fields));
                let (unit, value, fraction) = number(text, unit)?;
                sum.add(unit, value, fraction)?;
                // A number before hours counts days.
                pending = Some(if unit == Unit::Hour { Unit::Day } else { unit });
                unit.mask(fraction != 0.0)
            }
            Kind::Word | Kind::Special if text == "ago" => {
                before = true;
                continue;
            }
            Kind::Word | Kind::Special => {
                pending = Some(unit(text).ok_or(Fault::Format)?);
                continue;
            }
        };
        if seen & mask != 0 {
            return Err(Fault::Format);
        }
        seen |= mask;
    }
    if seen == 0 {
        return Err(Fault::Format);
    }
    let signed = |t: &Field| t.text.starts_with(['-', '+']);
    let leading_minus = tokens[0].text.starts_with('-');
    if style == IntervalStyle::SqlStandard && leading_minus && !tokens[1..].iter().any(signed) {
        sum.years = -sum.years.abs();
        sum.months = -sum.months.abs();
        sum.days = -sum.days.abs();
        sum.micros = -sum.micros.abs();
    }
    if before {
        sum.negate()?;
    }
    Ok(sum)
}

/// `-1.5`, or `1-2` for years and months.
fn number(text: &str, unit: Unit) -> Result<(Unit, i64, f64), Fault> {
    let negative = text.starts_with('-');
    let body = text.trim_start_matches(['-', '+']);
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let value: i64 = if digits == 0 {
        0
    } else {
        let signed = if negative {
            &text[..=digits]
        } else {
            &body[..digits]
        };
        signed.parse().map_err(|_| Fault::Range)?
    };
    let rest = &body[digits..];
    if let Some(months) = rest.strip_prefix('-') {
        let months: i64 = months.parse().map_err(|_| Fault::Format)?;
        if !(0..12).contains(&months) {
            return Err(Fault::Range);
        }
        let months = if negative { -months } else { months };
        let total = value
            .checked_mul(12)
            .and_then(|v| v.checked_add(months))
            .ok_or(Fault::Range)?;
        return Ok((Unit::Month, total, 0.0));
    }
    if rest.is_empty() {
        return Ok((unit, value, 0.0));
    }
    if !rest.starts_with('.') || !rest[1..].bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Format);
    }
    let fraction = if rest.len() == 1 {
        0.0
    } else {
        rest.parse::<f64>().map_err(|_| Fault::Format)?
    };
    Ok((unit, value, if negative { -fraction } else { fraction }))
}

/// ISO 8601 durations, with designators or in the alternative format.
struct Iso<'a> {
    rest: &'a str,
    sum: Sum,
}

impl Iso<'_> {
    /// A number with sign and fraction, and how many digits its whole part has.
    fn number(&mut self) -> Result<(i64, f64, usize), Fault> {
        let negative = self.rest.starts_with('-');
        let body = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
        let digits = body.bytes().take_while(u8::is_ascii_digit).count();
        let after = &body[digits..];
        let fraction_len = after.strip_prefix('.').map_or(0, |digits| {
            1 + digits.bytes().take_while(u8::is_ascii_digit).count()
        });
        if digits == 0 && fraction_len < 2 {
            return Err(Fault::Format);
        }
        let whole: i64 = if digits == 0 {
            0
        } else {
            body[..digits].parse().map_err(|_| Fault::Range)?
        };
        let fraction: f64 = if fraction_len > 1 {
            after[..fraction_len].parse().map_err(|_| Fault::Format)?
        } else {
            0.0
        };
        self.rest = &after[fraction_len..];
        Ok(if negative {
            (-whole, -fraction, digits)
        } else {
            (whole, fraction, digits)
        })
    }
    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next();
        if let Some(c) = c {
            self.rest = &self.rest[c.len_utf8()..];
        }
        c
    }
    fn skip(&mut self, c: char) -> bool {
        let found = self.rest.starts_with(c);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn date_part(&mut self) -> Result<(), Fault> {
        let mut any = false;
        while !self.rest.is_empty() && !self.rest.starts_with('T') {
            let (value, fraction, width) = self.number()?;
            match self.take() {
                Some('Y') => self.sum.add(Unit::Year, value, fraction)?,
                Some('M') => self.sum.add(Unit::Month, value, fraction)?,
                Some('W') => self.sum.add(Unit::Week, value, fraction)?,
                Some('D') => self.sum.add(Unit::Day, value, fraction)?,
                end @ (None | Some('T' | '-')) => {
                    if any {
                        return Err(Fault::Format);
                    }
                    return self.alternative_date(value, fraction, width, end);
                }
                _ => return Err(Fault::Format),
            }
            any = true;
        }
        if self.skip('T') {
            return self.time_part();
        }
        if any { Ok(()) } else { Err(Fault::Format) }
    }

    /// `20210203T...` or `2021-02-03T...`; `end` is what stood behind the first number.
    fn alternative_date(
        &mut self,
        value: i64,
        fraction: f64,
        width: usize,
        end: Option<char>,
    ) -> Result<(), Fault> {
        if width == 8 && end != Some('-') {
            self.sum.add(Unit::Year, value / 10_000, 0.0)?;
            self.sum.add(Unit::Month, value / 100 % 100, 0.0)?;
            self.sum.add(Unit::Day, value % 100, fraction)?;
        } else {
            self.sum.add(Unit::Year, value, fraction)?;
            if end == Some('-') {
                let (months, part, _) = self.number()?;
                self.sum.add(Unit::Month, months, part)?;
                if self.skip('-') {
                    let (days, part, _) = self.number()?;
                    self.sum.add(Unit::Day, days, part)?;
                }
                return match self.take() {
                    None => Ok(()),
                    Some('T') => self.time_part(),
                    _ => Err(Fault::Format),
                };
            }
        }
        if end == Some('T') {
            self.time_part()
        } else {
            Ok(())
        }
    }

    fn time_part(&mut self) -> Result<(), Fault> {
        let mut any = false;
        while !self.rest.is_empty() {
            let (value, fraction, width) = self.number()?;
            match self.take() {
                Some('H') => self.sum.add(Unit::Hour, value, fraction)?,
                Some('M') => self.sum.add(Unit::Minute, value, fraction)?,
                Some('S') => self.sum.add(Unit::Second, value, fraction)?,
                None if width == 6 && !any => {
                    self.sum.add(Unit::Hour, value / 10_000, 0.0)?;
                    self.sum.add(Unit::Minute, value / 100 % 100, 0.0)?;
                    self.sum.add(Unit::Second, value % 100, fraction)?;
                }
                end @ (None | Some(':')) => {
                    if any {
                        return Err(Fault::Format);
                    }
                    self.sum.add(Unit::Hour, value, fraction)?;
                    if end.is_none() {
                        return Ok(());
                    }
                    let (minutes, part, _) = self.number()?;
                    self.sum.add(Unit::Minute, minutes, part)?;
                    if self.skip(':') {
                        let (seconds, part, _) = self.number()?;
                        self.sum.add(Unit::Second, seconds, part)?;
                    }
                    return if self.rest.is_empty() {
                        Ok(())
                    } else {
                        Err(Fault::Format)
                    };
                }
                _ => return Err(Fault::Format),
            }
            any = true;
        }
        Ok(())
    }
}

fn iso(text: &str) -> Result<Sum, Fault> {
    let rest = text
        .strip_prefix('P')
        .filter(|r| !r.is_empty())
        .ok_or(Fault::Format)?;
    let mut iso = Iso {
        rest,
        sum: Sum::default(),
    };
    iso.date_part()?;
    Ok(iso.sum)
}
