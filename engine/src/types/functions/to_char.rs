//! `to_char` for dates and intervals, `to_date` and `to_timestamp`: templates and their fields.

use std::fmt::Write;

use super::call::{Date, Stamp, StampTz, scalar};
use super::datetime::is_finite;
use crate::types::datetime::calendar::{
    Fields, date_of, day_of_week, day_of_year, days_from, days_in_month, is_valid_date,
    is_valid_julian, iso_week,
};
use crate::types::datetime::encode::{MONTHS, WEEKDAYS};
use crate::types::datetime::{DAY, HOUR, MINUTE, SECOND, zone};
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::interval::Interval;

/// Template words, longest before their beginnings. Words for numbers may also be written in lower case.
const WORDS: &[&str] = &[
    "A.D.", "A.M.", "AD", "AM", "B.C.", "BC", "CC", "DAY", "DDD", "DD", "DY", "Day", "Dy", "D",
    "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "FX", "HH24", "HH12", "HH", "IDDD", "ID", "IW",
    "IYYY", "IYY", "IY", "I", "J", "MI", "MM", "MONTH", "MON", "MS", "Month", "Mon", "OF", "P.M.",
    "PM", "Q", "RM", "SSSSS", "SSSS", "SS", "TZH", "TZM", "TZ", "US", "WW", "W", "Y,YYY", "YYYY",
    "YYY", "YY", "Y", "a.d.", "a.m.", "ad", "am", "b.c.", "bc", "day", "dy", "month", "mon",
    "p.m.", "pm", "rm", "tz",
];
const LOWER: &[&str] = &[
    "cc", "ddd", "dd", "d", "ff1", "ff2", "ff3", "ff4", "ff5", "ff6", "fx", "hh24", "hh12", "hh",
    "iddd", "id", "iw", "iyyy", "iyy", "iy", "i", "j", "mi", "mm", "ms", "of", "q", "sssss",
    "ssss", "ss", "tzh", "tzm", "us", "ww", "w", "y,yyy", "yyyy", "yyy", "yy", "y",
];
const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
const FULL_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const FULL_DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ordinal {
    None,
    Upper,
    Lower,
}

#[derive(Debug)]
enum Part {
    Field {
        word: &'static str,
        fill: bool,
        translate: bool,
        ordinal: Ordinal,
    },
    Text(char),
}

fn word_at(text: &str) -> Option<(&'static str, usize)> {
    let upper = WORDS
        .iter()
        .find(|w| text.starts_with(**w))
        .map(|w| (*w, w.len()));
    let lower = LOWER.iter().find(|w| text.starts_with(**w)).map(|w| {
        let same = WORDS
            .iter()
            .find(|u| u.eq_ignore_ascii_case(w))
            .expect("every word has its upper form");
        (*same, w.len())
    });
    // `day` before `d`: the longer one.
    match (upper, lower) {
        (Some(a), Some(b)) => Some(if a.1 >= b.1 { a } else { b }),
        (a, b) => a.or(b),
    }
}

fn parts(template: &str) -> Vec<Part> {
    let (mut out, mut rest) = (Vec::new(), template);
    while !rest.is_empty() {
        let (mut fill, mut translate, mut after) = (true, false, rest);
        loop {
            if let Some(r) = after
                .strip_prefix("FM")
                .or_else(|| after.strip_prefix("fm"))
            {
                fill = false;
                after = r;
            } else if let Some(r) = after
                .strip_prefix("TM")
                .or_else(|| after.strip_prefix("tm"))
            {
                translate = true;
                after = r;
            } else {
                break;
            }
        }
        if let Some((word, length)) = word_at(after) {
            rest = &after[length..];
            let mut ordinal = Ordinal::None;
            if let Some(r) = rest.strip_prefix("TH") {
                (ordinal, rest) = (Ordinal::Upper, r);
            } else if let Some(r) = rest.strip_prefix("th") {
                (ordinal, rest) = (Ordinal::Lower, r);
            }
            if let Some(r) = rest.strip_prefix("SP").or_else(|| rest.strip_prefix("sp")) {
                rest = r;
            }
            out.push(Part::Field {
                word,
                fill,
                translate,
                ordinal,
            });
            continue;
        }
        rest = after;
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                if c == '"' {
                    break;
                }
                let plain = if c == '\\' { rest.chars().next() } else { None };
                if let Some(next) = plain {
                    rest = &rest[next.len_utf8()..];
                }
                out.push(Part::Text(plain.unwrap_or(c)));
            }
            continue;
        }
        if rest.starts_with("\\\"") {
            rest = &rest[1..];
        }
        if let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            out.push(Part::Text(c));
        }
    }
    out
}

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
            year_day: i64::from(i.months) * 30 + i64::from(i.days),
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
        iso_week(self.year as i32, self.month, self.day)
    }
    fn iso_year_day(&self) -> i64 {
        let (year, _) = self.iso();
        let start = crate::types::datetime::calendar::iso_day(year, 1, 1);
        i64::from(days_from(self.year as i32, self.month, self.day) - start + 1)
    }
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
    for part in parts(template) {
        match part {
            Part::Text(c) => out.push(c),
            Part::Field {
                word,
                fill,
                translate,
                ordinal,
            } => {
                let start = out.len();
                if field(s, word, fill, translate, &mut out)? && ordinal != Ordinal::None {
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
            let text = if s.hour.rem_euclid(24) >= 12 {
                "P.M."
            } else {
                "A.M."
            };
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
            zone_field(s, word, out)?;
            return Ok(false);
        }
        "HH" | "HH12" => padded(twelve(s.hour), 2, fill, out),
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

fn zone_field(s: &Shown, word: &str, out: &mut String) -> Result<(), TypeError> {
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
            let _ = write!(out, "{sign}{:02}", size / 3600);
            if size / 60 % 60 != 0 {
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
    match word {
        "MM" => padded(s.month.into(), 2, fill, out),
        "DD" => padded_signed(s.day.into(), 2, fill, out),
        "DDD" => padded(s.year_day, 3, fill, out),
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
        "YYYY" => padded(year, 4, fill, out),
        "YYY" => padded(year % 1000, 3, fill, out),
        "YY" => padded(year % 100, 2, fill, out),
        "Y" => padded(year % 10, 1, fill, out),
        "WW" => padded((s.year_day - 1) / 7 + 1, 2, fill, out),
        "W" => padded(((s.day - 1) / 7 + 1).into(), 1, fill, out),
        _ => {
            s.calendar_only()?;
            let iso_year = s.people_year(s.iso().0.into());
            match word {
                "D" => padded((s.weekday + 1).into(), 1, fill, out),
                "ID" => padded(
                    (if s.weekday == 0 { 7 } else { s.weekday }).into(),
                    1,
                    fill,
                    out,
                ),
                "IDDD" => padded(s.iso_year_day(), 3, fill, out),
                "IW" => padded(s.iso().1.into(), 2, fill, out),
                "IYYY" => padded(iso_year, 4, fill, out),
                "IYY" => padded(iso_year % 1000, 3, fill, out),
                "IY" => padded(iso_year % 100, 2, fill, out),
                "I" => padded(iso_year % 10, 1, fill, out),
                _ => {
                    let days = days_from(s.year as i32, s.month, s.day);
                    padded(i64::from(days) + 2_451_545, 1, fill, out);
                }
            }
        }
    }
    Ok(())
}

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
            Some(false) if hour == 12 => hour = 0,
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
    fn to_date(text: &str, template: &str) -> Date { date_from(text, template) }
    fn to_timestamp[cx](text: &str, template: &str) -> StampTz { timestamp_from(text, template, cx) }
}

/// Shared with `to_char` for numbers.
pub(super) fn suffix_of(number: &str, upper: bool) -> &'static str {
    ordinal_suffix(number, upper)
}
