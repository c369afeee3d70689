//! What the fields of date and time text mean together.
//!
//! The order in which doubts are settled is PostgreSQL's (manual, appendix B.1): a number is a year, month or
//! day by `DateStyle` and by what is still missing.

use super::calendar::{Fields, date_of, days_from, days_in_month, micros_of_time};
use super::tokens::{Field, Kind, Word, split, word};
use super::{DAY, DateStyle, FieldOrder, HOUR, abbreviations, zone};
use crate::types::error::TypeError;
use jiff::tz::TimeZone;

/// Why text is not a date or time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Format,
    /// A field is out of range.
    Range,
    /// The same, where another `DateStyle` might help.
    RangeByStyle,
    IntervalRange,
    ZoneRange,
    /// A name that looks like a zone but is none.
    UnknownZone,
}

impl Fault {
    pub fn into_error(self, type_name: &str, text: &str) -> TypeError {
        let range = || {
            TypeError::new(
                "22008",
                format!("date/time field value out of range: \"{text}\""),
            )
        };
        match self {
            Fault::Format => TypeError::new(
                "22007",
                format!("invalid input syntax for type {type_name}: \"{text}\""),
            ),
            Fault::Range => range(),
            Fault::RangeByStyle => {
                range().with_hint("Perhaps you need a different \"datestyle\" setting.")
            }
            Fault::IntervalRange => TypeError::new(
                "22015",
                format!("interval field value out of range: \"{text}\""),
            ),
            Fault::ZoneRange => TypeError::new(
                "22009",
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Fault::UnknownZone => unreachable!("made into an error where the name is known"),
        }
    }
}

const YEAR: u32 = 1;
const MONTH: u32 = 2;
const DAY_OF_MONTH: u32 = 4;
const DATE: u32 = YEAR | MONTH | DAY_OF_MONTH;
const HOURS: u32 = 8;
const MINUTES: u32 = 16;
const SECONDS: u32 = 32;
const TIME: u32 = HOURS | MINUTES | SECONDS;
const ZONE: u32 = 64;
const DAY_OF_YEAR: u32 = 128;
const WEEKDAY: u32 = 256;
const MERIDIEM: u32 = 512;
const ERA: u32 = 1024;
const SUMMER: u32 = 2048;
const SPECIAL: u32 = 4096;

/// What the text says.
#[derive(Debug, Clone)]
pub(crate) enum Decoded {
    Infinity,
    MinusInfinity,
    Epoch,
    Moment {
        fields: Fields,
        has_date: bool,
        /// Seconds east, if the text named a zone or implied one.
        offset: Option<Zone>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Zone {
    Offset(i32),
    Named(TimeZone),
}

/// What decoding depends on besides the text.
pub(crate) struct Setting<'a> {
    pub style: DateStyle,
    pub zone: &'a TimeZone,
    /// Start of the transaction: what `now` and `today` mean.
    pub now: i64,
}

struct State<'a> {
    setting: &'a Setting<'a>,
    time_only: bool,
    f: Fields,
    seen: u32,
    two_digit_year: bool,
    text_month: bool,
    bc: bool,
    pm: Option<bool>,
    day_of_year: i32,
    julian: bool,
    offset: Option<Zone>,
    special: Option<Decoded>,
    /// What the next number is said to be (`j`, `t`).
    prefix: Option<Word>,
}

/// Reads date and time text. With `time_only`, a date may be missing; a time must not be.
pub(crate) fn decode(
    text: &str,
    setting: &Setting<'_>,
    time_only: bool,
) -> Result<Decoded, (Fault, String)> {
    if text.len() > 512 {
        return Err((Fault::Format, String::new()));
    }
    let fields = split(text).ok_or((Fault::Format, String::new()))?;
    let mut state = State {
        setting,
        time_only,
        f: Fields::default(),
        seen: 0,
        two_digit_year: false,
        text_month: false,
        bc: false,
        pm: None,
        day_of_year: 0,
        julian: false,
        offset: None,
        special: None,
        prefix: None,
    };
    for (at, field) in fields.iter().enumerate() {
        state
            .field(field, &fields, at)
            .map_err(|fault| (fault, field.text.clone()))?;
    }
    state
        .finish(time_only)
        .map_err(|fault| (fault, String::new()))
}

impl State<'_> {
    fn field(&mut self, field: &Field, all: &[Field], at: usize) -> Result<(), Fault> {
        let mask = match field.kind {
            Kind::Date if self.time_only && !begins_with_date(all, at) => {
                self.time_with_zone(&field.text)?
            }
            Kind::Date => self.date_field(&field.text)?,
            Kind::Time => self.time_field(&field.text)?,
            Kind::Zone => {
                self.offset = Some(Zone::Offset(decode_offset(&field.text)?));
                ZONE
            }
            Kind::Number => self.number_field(&field.text)?,
            Kind::Word | Kind::Special => match self.word_field(&field.text, &all[..at])? {
                Some(mask) => mask,
                None => return Ok(()),
            },
        };
        if mask & self.seen != 0 {
            return Err(Fault::Format);
        }
        self.seen |= mask;
        Ok(())
    }

    /// `040506-08` or a zone's name, where a time alone is due.
    fn time_with_zone(&mut self, text: &str) -> Result<u32, Fault> {
        if !text.as_bytes()[0].is_ascii_digit() {
            return self.named_zone(text).map(|()| ZONE);
        }
        let sign = text.find(['+', '-']).ok_or(Fault::Format)?;
        self.offset = Some(Zone::Offset(decode_offset(&text[sign..])?));
        Ok(self.run_together_part(&text[..sign], self.seen | DATE)? | ZONE)
    }

    fn date_field(&mut self, text: &str) -> Result<u32, Fault> {
        if self.prefix.take() == Some(Word::Julian) {
            // `J2451187-08`: a day and a zone.
            let end = text[1..].find(['+', '-']).map_or(text.len(), |i| i + 1);
            let days: i64 = text[..end].parse().map_err(|_| Fault::Format)?;
            self.set_julian(days)?;
            self.offset = Some(Zone::Offset(decode_offset(&text[end..])?));
            return Ok(DATE | TIME | ZONE);
        }
        let starts_with_digit = text.as_bytes()[0].is_ascii_digit();
        if self.seen & DATE == DATE {
            if starts_with_digit {
                // `040506-08`: a run-together time with a zone.
                let sign = text.find(['+', '-']).ok_or(Fault::Format)?;
                self.offset = Some(Zone::Offset(decode_offset(&text[sign..])?));
                if self.seen & TIME == TIME {
                    return Err(Fault::Format);
                }
                let mask = self.run_together(&text[..sign])?;
                return Ok(mask | ZONE);
            }
            return self.named_zone(text).map(|()| ZONE);
        }
        if !starts_with_digit && zone_like(text) {
            return self.named_zone(text).map(|()| ZONE);
        }
        self.split_date(text)
    }

    /// `1999-jan-08`, `1/8/99`: names first, then numbers in order.
    fn split_date(&mut self, text: &str) -> Result<u32, Fault> {
        let parts: Vec<&str> = split_alternating(text);
        let mut mask = 0;
        for part in &parts {
            if part.as_bytes()[0].is_ascii_alphabetic() {
                let Some(w) = word(part) else {
                    return Err(Fault::Format);
                };
                match w {
                    Word::Ignored => continue,
                    Word::Month(m) => {
                        self.f.month = m;
                        self.text_month = true;
                        if (mask | self.seen) & MONTH != 0 {
                            return Err(Fault::Format);
                        }
                        mask |= MONTH;
                    }
                    _ => return Err(Fault::Format),
                }
            }
        }
        for part in &parts {
            if part.as_bytes()[0].is_ascii_alphabetic() {
                continue;
            }
            let got = self.number(part, self.seen | mask)?;
            if (mask | self.seen) & got != 0 {
                return Err(Fault::Format);
            }
            mask |= got;
        }
        if mask & !(DAY_OF_YEAR | TIME) != DATE {
            return Err(Fault::Format);
        }
        Ok(mask)
    }

    fn time_field(&mut self, text: &str) -> Result<u32, Fault> {
        let (hour, minute, second, micros) = decode_time(text)?;
        let f = &mut self.f;
        (f.hour, f.minute, f.second, f.micros) = (
            i32::try_from(hour).map_err(|_| Fault::Range)?,
            minute,
            second,
            micros,
        );
        if time_overflows(f) {
            return Err(Fault::Range);
        }
        Ok(TIME)
    }

    fn number_field(&mut self, text: &str) -> Result<u32, Fault> {
        match self.prefix.take() {
            Some(Word::Julian) => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                let days: i64 = whole.parse().map_err(|_| Fault::Format)?;
                self.set_julian(days)?;
                if fraction.is_empty() {
                    return Ok(DATE);
                }
                let part: f64 = format!("0.{fraction}").parse().map_err(|_| Fault::Format)?;
                let (h, m, s, us) = super::calendar::time_of((part * DAY as f64) as i64);
                (self.f.hour, self.f.minute, self.f.second, self.f.micros) = (h, m, s, us);
                return Ok(DATE | TIME);
            }
            Some(_) => return self.run_together_part(text, self.seen | DATE),
            None => {}
        }
        if self.time_only {
            return self.run_together_part(text, self.seen | DATE);
        }
        let point = text.find('.');
        match point {
            Some(_) if self.seen & DATE == 0 => return self.split_date(text),
            Some(p) if p > 2 => return self.run_together(text),
            _ => {}
        }
        if text.len() >= 6 && (self.seen & DATE != DATE || self.seen & TIME != TIME) {
            return self.run_together(text);
        }
        self.number(text, self.seen)
    }

    /// A single number of a date, by what has been seen.
    fn number(&mut self, text: &str, seen: u32) -> Result<u32, Fault> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(Fault::Format);
        }
        let value: i32 = text[..digits].parse().map_err(|_| Fault::Range)?;
        let rest = &text[digits..];
        if rest.starts_with('.') {
            if digits > 2 {
                return self.run_together_part(text, seen | DATE);
            }
            self.f.micros = fraction_micros(rest)?;
        } else if !rest.is_empty() {
            return Err(Fault::Format);
        }
        let len = text.len();
        if len == 3 && seen & DATE == YEAR && (1..=366).contains(&value) {
            self.day_of_year = value;
            return Ok(DAY_OF_YEAR | MONTH | DAY_OF_MONTH);
        }
        let order = self.setting.style.order;
        let year_like = len >= 3 || order == FieldOrder::Ymd;
        let mask = match seen & DATE {
            0 if year_like => YEAR,
            0 if order == FieldOrder::Dmy => DAY_OF_MONTH,
            0 => MONTH,
            YEAR => MONTH,
            MONTH if self.text_month && year_like => YEAR,
            MONTH => DAY_OF_MONTH,
            m if m == YEAR | MONTH => {
                if self.text_month && len >= 3 && self.two_digit_year {
                    // The first number was the day after all: `08-jan-1999` in YMD order.
                    self.f.day = self.f.year;
                    self.f.year = value;
                    self.two_digit_year = false;
                } else {
                    self.f.day = value;
                }
                return Ok(DAY_OF_MONTH);
            }
            DAY_OF_MONTH => MONTH,
            m if m == MONTH | DAY_OF_MONTH => YEAR,
            DATE => return self.run_together_part(text, seen),
            _ => return Err(Fault::Format),
        };
        match mask {
            YEAR => {
                self.f.year = value;
                self.two_digit_year = len <= 2;
            }
            MONTH => self.f.month = value,
            _ => self.f.day = value,
        }
        Ok(mask)
    }

    /// `19990108`, `990108`, `040506.789`, `0405`.
    fn run_together(&mut self, text: &str) -> Result<u32, Fault> {
        self.run_together_part(text, self.seen)
    }

    fn run_together_part(&mut self, text: &str, seen: u32) -> Result<u32, Fault> {
        let (digits, fraction) = match text.find('.') {
            Some(p) => (&text[..p], Some(&text[p..])),
            None => (text, None),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Format);
        }
        let part = |r: std::ops::Range<usize>| digits[r].parse::<i32>().map_err(|_| Fault::Range);
        let len = digits.len();
        if let Some(fraction) = fraction {
            self.f.micros = fraction_micros(fraction)?;
        } else if seen & DATE != DATE && len >= 6 {
            self.f.day = part(len - 2..len)?;
            self.f.month = part(len - 4..len - 2)?;
            self.f.year = part(0..len - 4)?;
            self.two_digit_year = len - 4 == 2;
            return Ok(DATE);
        }
        if seen & TIME != TIME && (len == 6 || len == 4) {
            self.f.hour = part(0..2)?;
            self.f.minute = part(2..4)?;
            self.f.second = if len == 6 { part(4..6)? } else { 0 };
            return Ok(TIME);
        }
        Err(Fault::Format)
    }

    fn set_julian(&mut self, days: i64) -> Result<(), Fault> {
        let days = i32::try_from(days - i64::from(super::calendar::EPOCH_JULIAN))
            .map_err(|_| Fault::Range)?;
        (self.f.year, self.f.month, self.f.day) = date_of(days);
        self.julian = true;
        Ok(())
    }

    fn named_zone(&mut self, text: &str) -> Result<(), Fault> {
        self.offset = Some(Zone::Named(zone::by_name(text).ok_or(Fault::UnknownZone)?));
        Ok(())
    }

    /// `None`: the word has no meaning of its own.
    fn word_field(&mut self, text: &str, before: &[Field]) -> Result<Option<u32>, Fault> {
        let Some(w) = word(text) else {
            return self.zone_word(text).map(Some);
        };
        Ok(Some(match w {
            Word::Now => {
                let local = zone::to_local(self.setting.zone, self.setting.now);
                self.f = Fields::of(local);
                self.offset = Some(Zone::Offset(zone::offset_at(
                    self.setting.zone,
                    self.setting.now,
                )));
                DATE | TIME | ZONE
            }
            Word::Today => self.day_from_today(0),
            Word::Tomorrow => self.day_from_today(1),
            Word::Yesterday => self.day_from_today(-1),
            Word::Midnight => {
                self.offset = Some(Zone::Offset(0));
                (self.f.hour, self.f.minute, self.f.second) = (0, 0, 0);
                TIME | ZONE
            }
            Word::Epoch => self.set_special(Decoded::Epoch),
            Word::Infinity => self.set_special(Decoded::Infinity),
            Word::MinusInfinity => self.set_special(Decoded::MinusInfinity),
            Word::Month(m) => {
                if self.seen & MONTH != 0
                    && !self.text_month
                    && self.seen & DAY_OF_MONTH == 0
                    && (1..=31).contains(&self.f.month)
                {
                    // `8 jan 1999` in MDY order: what looked like the month is the day.
                    self.f.day = self.f.month;
                    self.f.month = m;
                    self.text_month = true;
                    return Ok(Some(DAY_OF_MONTH));
                }
                self.f.month = m;
                self.text_month = true;
                MONTH
            }
            Word::Weekday => WEEKDAY,
            Word::Am | Word::Pm => {
                self.pm = Some(w == Word::Pm);
                MERIDIEM
            }
            Word::Era(bc) => {
                self.bc = bc;
                ERA
            }
            Word::Ignored => return Ok(None),
            Word::Dst => {
                let Some(Zone::Offset(offset)) = &mut self.offset else {
                    return Err(Fault::Format);
                };
                *offset += (HOUR / 1_000_000) as i32;
                SUMMER
            }
            Word::Julian => {
                self.prefix = Some(w);
                return Ok(None);
            }
            Word::TimeMark => {
                let date_before = self.seen & DATE == DATE || before.is_empty();
                if !date_before && !self.text_month {
                    return Err(Fault::Format);
                }
                return Ok(None);
            }
            Word::Unit => return Err(Fault::Format),
        }))
    }

    fn zone_word(&mut self, text: &str) -> Result<u32, Fault> {
        if let Some(offset) = abbreviations::offset(text) {
            self.offset = Some(Zone::Offset(offset));
            return Ok(ZONE);
        }
        if let Some(found) = zone::by_name(text) {
            self.offset = Some(Zone::Named(found));
            return Ok(ZONE);
        }
        Err(Fault::Format)
    }

    fn day_from_today(&mut self, days: i32) -> u32 {
        let today = zone::local_day(self.setting.zone, self.setting.now) + days;
        (self.f.year, self.f.month, self.f.day) = date_of(today);
        DATE
    }

    fn set_special(&mut self, special: Decoded) -> u32 {
        self.special = Some(special);
        SPECIAL | DATE | TIME | ZONE
    }

    fn finish(mut self, time_only: bool) -> Result<Decoded, Fault> {
        if self.prefix.is_some() {
            return Err(Fault::Format);
        }
        if let Some(special) = self.special {
            return Ok(special);
        }
        let from_words = self.julian;
        self.validate_date(from_words)?;
        if let Some(pm) = self.pm {
            if self.f.hour > 12 {
                return Err(Fault::Range);
            }
            if self.f.hour == 12 {
                self.f.hour = 0;
            }
            if pm {
                self.f.hour += 12;
            }
        }
        let (has_date, has_time) = (self.seen & DATE == DATE, self.seen & TIME == TIME);
        if time_only {
            let undated = matches!(self.offset, Some(Zone::Named(_))) && !has_date;
            if !has_time || undated || (self.seen & DATE != 0 && !has_date) {
                return Err(Fault::Format);
            }
        } else if !has_date {
            return Err(Fault::Format);
        }
        if time_overflows(&self.f) {
            return Err(Fault::Range);
        }
        Ok(Decoded::Moment {
            fields: self.f,
            has_date,
            offset: self.offset,
        })
    }

    fn validate_date(&mut self, julian: bool) -> Result<(), Fault> {
        let seen = self.seen;
        let f = &mut self.f;
        if seen & YEAR != 0 && !julian {
            if self.bc {
                if f.year <= 0 {
                    return Err(Fault::Range);
                }
                f.year = -(f.year - 1);
            } else if self.two_digit_year {
                f.year += if f.year < 70 { 2000 } else { 1900 };
            } else if f.year <= 0 && seen & SPECIAL == 0 {
                return Err(Fault::Range);
            }
        }
        if seen & DAY_OF_YEAR != 0 {
            (f.year, f.month, f.day) = date_of(days_from(f.year, 1, 1) + self.day_of_year - 1);
        }
        if seen & MONTH != 0 && !(1..=12).contains(&f.month) {
            return Err(Fault::RangeByStyle);
        }
        if seen & DAY_OF_MONTH != 0 && !(1..=31).contains(&f.day) {
            return Err(Fault::RangeByStyle);
        }
        if seen & DATE == DATE && f.day > days_in_month(f.year, f.month) {
            return Err(Fault::Range);
        }
        Ok(())
    }
}

/// May a date stand here although a time alone is wanted? First, if a time or a second date follows.
fn begins_with_date(all: &[Field], at: usize) -> bool {
    at == 0
        && all.len() >= 2
        && (all[all.len() - 1].kind == Kind::Date || all[1].kind == Kind::Time)
}

/// `pst-3`, `america/new_york`: letters that do not begin with a month.
fn zone_like(text: &str) -> bool {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    word(&text[..letters]).is_none()
}

/// Runs of letters and runs of digits (with points), separators dropped.
fn split_alternating(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut parts, mut i) = (Vec::new(), 0);
    while i < bytes.len() {
        let start = i;
        if bytes[i].is_ascii_digit() {
            while i < bytes.len() && bytes[i].is_ascii_digit() {
                i += 1;
            }
            parts.push(&text[start..i]);
        } else if bytes[i].is_ascii_alphabetic() {
            while i < bytes.len() && bytes[i].is_ascii_alphabetic() {
                i += 1;
            }
            parts.push(&text[start..i]);
        } else {
            i += 1;
        }
    }
    parts
}

/// `.789` in microseconds, rounded.
pub(crate) fn fraction_micros(text: &str) -> Result<i32, Fault> {
    let digits = text.strip_prefix('.').ok_or(Fault::Format)?;
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Format);
    }
    let value: f64 = text.parse().map_err(|_| Fault::Format)?;
    Ok((value * 1_000_000.0).round_ties_even() as i32)
}

/// `hh:mm[:ss[.fff]]`; `mm:ss.fff` where there is a point but one colon.
pub(crate) fn decode_time(text: &str) -> Result<(i64, i32, i32, i32), Fault> {
    let (clock, fraction) = match text.find('.') {
        Some(p) => (&text[..p], Some(&text[p..])),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let number = |t: Option<&str>| -> Result<i64, Fault> {
        let t = t.ok_or(Fault::Format)?;
        if t.is_empty() {
            return Ok(0);
        }
        if !t.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Format);
        }
        t.parse::<i64>().map_err(|_| Fault::Range)
    };
    let first = number(parts.next())?;
    let second = parts.next();
    let third = parts.next();
    if second.is_none() || parts.next().is_some() {
        return Err(Fault::Format);
    }
    let second = number(second)?;
    let micros = fraction.map_or(Ok(0), fraction_micros)?;
    let (hour, minute, sec) = match third {
        Some(t) => (first, second, number(Some(t))?),
        None if fraction.is_some() => (0, first, second),
        None => (first, second, 0),
    };
    if minute > 59 || sec > 60 || micros > 1_000_000 {
        return Err(Fault::Range);
    }
    Ok((hour, minute as i32, sec as i32, micros))
}

/// After 24:00:00?
pub(crate) fn time_overflows(f: &Fields) -> bool {
    if !(0..=24).contains(&f.hour) || !(0..60).contains(&f.minute) || !(0..=60).contains(&f.second)
    {
        return true;
    }
    micros_of_time(f.hour, f.minute, f.second, f.micros) > DAY
}

/// `+03`, `-8:30`, `+0530`, `+01:02:03` as seconds east.
pub(crate) fn decode_offset(text: &str) -> Result<i32, Fault> {
    let negative = match text.as_bytes().first() {
        Some(b'-') => true,
        Some(b'+') => false,
        _ => return Err(Fault::Format),
    };
    let body = &text[1..];
    let mut parts = body.split(':');
    let number = |t: &str| -> Result<i32, Fault> {
        if t.is_empty() || !t.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Format);
        }
        t.parse().map_err(|_| Fault::ZoneRange)
    };
    let mut hour = number(parts.next().unwrap_or(""))?;
    let (mut minute, mut second) = (0, 0);
    match (parts.next(), parts.next()) {
        (None, _) if body.len() > 2 => {
            minute = hour % 100;
            hour /= 100;
        }
        (None, _) => {}
        (Some(m), s) => {
            minute = number(m)?;
            second = s.map_or(Ok(0), number)?;
        }
    }
    if parts.next().is_some() {
        return Err(Fault::Format);
    }
    if hour > 15 || minute > 59 || second > 59 {
        return Err(Fault::ZoneRange);
    }
    let total = hour * 3600 + minute * 60 + second;
    Ok(if negative { -total } else { total })
}
