//! `to_date` and `to_timestamp`: text read by a template.

use super::call::{Date, StampTz};
use super::time_template::{FULL_DAYS, FULL_MONTHS, Part, ROMAN, parts};
use crate::types::datetime::calendar::{
    Fields, date_of, days_from, days_in_month, is_valid_date, is_valid_julian,
};
use crate::types::datetime::encode::{MONTHS, WEEKDAYS};
use crate::types::datetime::{DAY, SECOND, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;

/// What `to_date` and `to_timestamp` have read.
#[derive(Default)]
struct Read {
    year: Option<i32>,
    month: Option<i32>,
    day: Option<i32>,
    year_day: Option<i32>,
    julian: Option<i32>,
    hour: i32,
    minute: i32,
    second: i32,
    micros: i32,
    twelve_hour: bool,
    pm: Option<bool>,
    bc: bool,
    seconds_of_day: Option<i32>,
    east: Option<i32>,
}

fn bad_value(text: &str, word: &str, detail: &str) -> TypeError {
    TypeError::new("22007", format!("invalid value \"{text}\" for \"{word}\"")).with_detail(detail)
}

struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    fn skip_space(&mut self) {
        self.rest = self
            .rest
            .trim_start_matches(|c: char| c.is_ascii_whitespace());
    }
    /// A number of at most `width` digits; all digits there are if nothing but a separator follows in the template.
    fn number(&mut self, width: usize, open: bool, word: &str) -> Result<(i32, usize), TypeError> {
        self.skip_space();
        let negative = self.rest.starts_with('-');
        let signed = usize::from(negative || self.rest.starts_with('+'));
        let digits = self.rest[signed..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        let take = if open { digits } else { digits.min(width) };
        if take == 0 {
            let shown: String = self.rest.chars().take(width).collect();
            if self.rest.is_empty() {
                return Err(TypeError::new(
                    "22007",
                    format!("source string too short for \"{word}\" formatting field"),
                ));
            }
            return Err(bad_value(&shown, word, "Value must be an integer."));
        }
        let text = &self.rest[..signed + take];
        let value = text.parse::<i32>().map_err(|_| {
            TypeError::new(
                "22008",
                format!("value for \"{word}\" in source string is out of range"),
            )
            .with_detail("Value must be in the range -2147483648 to 2147483647.")
        })?;
        self.rest = &self.rest[signed + take..];
        Ok((value, take))
    }
    fn one_of(&mut self, names: &[&str], word: &str) -> Result<usize, TypeError> {
        self.skip_space();
        let found = names.iter().position(|n| {
            self.rest
                .get(..n.len())
                .is_some_and(|t| t.eq_ignore_ascii_case(n))
        });
        match found {
            Some(i) => {
                self.rest = &self.rest[names[i].len()..];
                Ok(i)
            }
            None => {
                let end = self
                    .rest
                    .find(|c: char| c.is_ascii_whitespace())
                    .unwrap_or(self.rest.len());
                let shown = &self.rest[..end];
                Err(bad_value(
                    shown,
                    word,
                    "The given value did not match any of the allowed values for this field.",
                ))
            }
        }
    }
}

/// The width of a number field, 0 for other words.
fn width_of(word: &str) -> usize {
    match word {
        "YYYY" | "IYYY" => 4,
        "YYY" | "IYY" | "DDD" | "IDDD" | "MS" | "FF3" => 3,
        "US" | "FF6" => 6,
        "FF5" | "SSSS" | "SSSSS" => 5,
        "FF4" => 4,
        "Y" | "I" | "Q" | "D" | "ID" | "W" | "FF1" => 1,
        "J" => 9,
        "YY" | "IY" | "CC" | "DD" | "HH" | "HH12" | "HH24" | "IW" | "MI" | "MM" | "SS" | "WW"
        | "FF2" => 2,
        _ => 0,
    }
}

/// Two and three digit years are those nearest to 2020.
fn full_year(year: i32, digits: usize) -> i32 {
    if digits >= 4 {
        return year;
    }
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        100..520 => year + 2000,
        520..1000 => year + 1000,
        year => year,
    }
}

fn read(text: &str, template: &str) -> Result<Read, TypeError> {
    let all = parts(template);
    let mut scan = Scanner { rest: text };
    let mut got = Read::default();
    for (i, part) in all.iter().enumerate() {
        match part {
            Part::Text(c) => {
                // Blanks and separators of the template match any run of them; other characters skip one.
                if c.is_ascii_whitespace() || c.is_ascii_punctuation() {
                    let separator = |c: char| c.is_ascii_whitespace() || c.is_ascii_punctuation();
                    scan.skip_space();
                    let sign = scan.rest.starts_with(['-', '+']) && {
                        let next_is_zone = matches!(
                            all.get(i + 1),
                            Some(Part::Field {
                                word: "TZH" | "OF",
                                ..
                            })
                        );
                        next_is_zone
                    };
                    if !sign && scan.rest.starts_with(separator) {
                        scan.rest = &scan.rest[1..];
                    }
                    scan.skip_space();
                } else if let Some(c) = scan.rest.chars().next() {
                    scan.rest = &scan.rest[c.len_utf8()..];
                }
            }
            Part::Field { word, fill, .. } => {
                if scan.rest.trim_start().is_empty() {
                    break;
                }
                let open = !fill
                    || match all.get(i + 1) {
                        None => true,
                        Some(Part::Text(c)) => !c.is_ascii_digit(),
                        Some(Part::Field { word, .. }) => width_of(word) == 0,
                    };
                read_field(&mut scan, word, open, &mut got)?;
            }
        }
    }
    Ok(got)
}

fn read_field(
    scan: &mut Scanner<'_>,
    word: &str,
    open: bool,
    got: &mut Read,
) -> Result<(), TypeError> {
    let width = width_of(word);
    match word {
        "MONTH" | "Month" | "month" => {
            got.month = Some(scan.one_of(&FULL_MONTHS, word)? as i32 + 1)
        }
        "MON" | "Mon" | "mon" => got.month = Some(scan.one_of(&MONTHS, word)? as i32 + 1),
        "DAY" | "Day" | "day" => {
            scan.one_of(&FULL_DAYS, word)?;
        }
        "DY" | "Dy" | "dy" => {
            scan.one_of(&WEEKDAYS, word)?;
        }
        "RM" | "rm" => {
            // Longer numerals first: VIII before VII.
            let mut order: Vec<usize> = (0..12).collect();
            order.sort_by_key(|i| std::cmp::Reverse(ROMAN[*i].len()));
            let names: Vec<&str> = order.iter().map(|i| ROMAN[*i]).collect();
            got.month = Some(order[scan.one_of(&names, word)?] as i32 + 1);
        }
        "A.M." | "P.M." | "a.m." | "p.m." => {
            got.pm = Some(scan.one_of(&["a.m.", "p.m."], word)? == 1);
            got.twelve_hour = true;
        }
        "AM" | "PM" | "am" | "pm" => {
            got.pm = Some(scan.one_of(&["am", "pm"], word)? == 1);
            got.twelve_hour = true;
        }
        "A.D." | "B.C." | "a.d." | "b.c." => got.bc = scan.one_of(&["a.d.", "b.c."], word)? == 1,
        "AD" | "BC" | "ad" | "bc" => got.bc = scan.one_of(&["ad", "bc"], word)? == 1,
        "YYYY" | "YYY" | "YY" | "Y" => {
            let (year, digits) = scan.number(width, open, word)?;
            // A year written in full stands for itself whatever the template.
            let digits = if word == "YYYY" { 4 } else { digits };
            got.year = Some(full_year(year, digits));
        }
        "Y,YYY" => {
            let (thousands, _) = scan.number(9, false, word)?;
            scan.rest = scan.rest.strip_prefix(',').unwrap_or(scan.rest);
            let (rest, _) = scan.number(3, false, word)?;
            got.year = Some(thousands * 1000 + rest);
        }
        "MM" => got.month = Some(scan.number(width, open, word)?.0),
        "DD" => got.day = Some(scan.number(width, open, word)?.0),
        "DDD" => got.year_day = Some(scan.number(width, open, word)?.0),
        "J" => got.julian = Some(scan.number(width, open, word)?.0),
        "HH" | "HH12" => {
            got.hour = scan.number(width, open, word)?.0;
            got.twelve_hour = true;
        }
        "HH24" => got.hour = scan.number(width, open, word)?.0,
        "MI" => got.minute = scan.number(width, open, word)?.0,
        "SS" => got.second = scan.number(width, open, word)?.0,
        "SSSS" | "SSSSS" => got.seconds_of_day = Some(scan.number(width, open, word)?.0),
        "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
            let most = if word == "MS" { 3 } else { 6 };
            let (value, digits) = scan.number(most, false, word)?;
            // `.5` is half a second: digits count from the left.
            got.micros += value * 10_i32.pow(6 - digits.min(6) as u32);
            let extra = scan.rest.bytes().take_while(u8::is_ascii_digit).count();
            if open {
                scan.rest = &scan.rest[extra..];
            }
        }
        "TZH" => {
            let (hours, _) = scan.number(2, false, word)?;
            got.east = Some(hours * 3600);
        }
        "TZM" => {
            let (minutes, _) = scan.number(2, false, word)?;
            let hours = got.east.unwrap_or(0);
            got.east = Some(if hours < 0 {
                hours - minutes * 60
            } else {
                hours + minutes * 60
            });
        }
        "FX" => {}
        _ => {
            return Err(TypeError::new(
                "0A000",
                format!("template field \"{word}\" of to_date and to_timestamp is not implemented"),
            )
            .with_hint("Use year, month and day fields."));
        }
    }
    Ok(())
}

/// The day and time that were read, and the zone.
fn assemble(text: &str, got: &Read) -> Result<(Fields, Option<i32>), TypeError> {
    let range = || {
        TypeError::new(
            "22008",
            format!("date/time field value out of range: \"{text}\""),
        )
    };
    let mut f = Fields {
        year: got.year.unwrap_or(0),
        month: 1,
        day: 1,
        ..Fields::default()
    };
    if got.bc && got.year.is_some() {
        f.year = 1 - f.year;
    } else if let Some(y @ ..0) = got.year {
        f.year = y + 1;
    }
    if let Some(julian) = got.julian {
        (f.year, f.month, f.day) = date_of(julian.checked_sub(2_451_545).ok_or_else(range)?);
    } else if let Some(day) = got.year_day {
        let most = if days_in_month(f.year, 2) == 29 {
            366
        } else {
            365
        };
        if !(1..=most).contains(&day) {
            return Err(range());
        }
        (f.year, f.month, f.day) = date_of(days_from(f.year, 1, 1) + day - 1);
    } else {
        f.month = got.month.unwrap_or(1);
        f.day = got.day.unwrap_or(1);
    }
    if !(1..=12).contains(&f.month) || !(1..=days_in_month(f.year, f.month)).contains(&f.day) {
        return Err(range());
    }
    let (mut hour, mut minute, mut second) = (got.hour, got.minute, got.second);
    if let Some(all) = got.seconds_of_day {
        (hour, minute, second) = (all / 3600, all / 60 % 60, all % 60);
    }
    if got.twelve_hour {
        if !(1..=12).contains(&hour) {
            return Err(TypeError::new(
                "22007",
                format!("hour \"{hour}\" is invalid for the 12-hour clock"),
            )
            .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        match got.pm {
            Some(true) if hour < 12 => hour += 12,
            // Without AM or PM it is the morning.
            Some(false) | None if hour == 12 => hour = 0,
            _ => {}
        }
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return Err(range());
    }
    (f.hour, f.minute, f.second, f.micros) = (hour, minute, second, got.micros);
    Ok((f, got.east))
}

fn date_from(text: &str, template: &str) -> Result<Date, TypeError> {
    let (f, _) = assemble(text, &read(text, template)?)?;
    let out_of_range = || TypeError::new("22008", format!("date out of range: \"{text}\""));
    if !is_valid_julian(f.year, f.month) {
        return Err(out_of_range());
    }
    let days = f.days();
    if is_valid_date(days) {
        Ok(Date(days))
    } else {
        Err(out_of_range())
    }
}

fn timestamp_from(text: &str, template: &str, cx: &FunctionCx) -> Result<StampTz, TypeError> {
    let (f, east) = assemble(text, &read(text, template)?)?;
    let out_of_range = || TypeError::new("22008", "timestamp out of range");
    let local = i64::from(f.days())
        .checked_mul(DAY)
        .and_then(|d| d.checked_add(f.time()))
        .ok_or_else(out_of_range)?;
    let east = east.unwrap_or_else(|| zone::offset_of_local(&cx.time_zone, local));
    let t = local - i64::from(east) * SECOND;
    if crate::types::datetime::calendar::is_valid_timestamp(t) {
        Ok(StampTz(t))
    } else {
        Err(out_of_range())
    }
}
scalar! {
    fn to_date(text: &str, template: &str) -> Date { date_from(text, template) }
    fn to_timestamp[cx](text: &str, template: &str) -> StampTz { timestamp_from(text, template, cx) }
}
