//! Templates of `to_char`, `to_date` and `to_timestamp`: words, modifiers, text between them.
//!
//! As PostgreSQL reads them, a word has at most one modifier before it and one behind it: a second one is text, or a
//! word of its own.

use crate::types::error::TypeError;
use crate::types::size;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ordinal {
    None,
    Upper,
    Lower,
}

/// What a character between the fields is to whoever reads by the template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Between {
    Space,
    Separator,
    /// A letter, a digit, or anything in quotes.
    Plain,
}

#[derive(Debug)]
pub(super) enum Part {
    Field {
        word: &'static str,
        /// The word as it is written, for errors.
        name: &'static str,
        fill: bool,
        translate: bool,
        ordinal: Ordinal,
    },
    Text(char, Between),
}

/// `isspace` in the C locale.
pub(super) fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// What is printed, and is neither letter nor digit.
pub(super) fn is_separator(c: char) -> bool {
    c.is_ascii_graphic() && !c.is_ascii_alphanumeric()
}

/// The word that `text` begins with, and as it is written.
fn word_at(text: &str) -> Option<(&'static str, &'static str)> {
    let upper = WORDS
        .iter()
        .find(|w| text.starts_with(**w))
        .map(|w| (*w, *w));
    let lower = LOWER.iter().find(|w| text.starts_with(**w)).map(|w| {
        let same = WORDS
            .iter()
            .find(|u| u.eq_ignore_ascii_case(w))
            .expect("every word has its upper form");
        (*same, *w)
    });
    // `day` before `d`: the longer one.
    match (upper, lower) {
        (Some(a), Some(b)) => Some(if a.1.len() >= b.1.len() { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// `text` behind a modifier, in capital or in small letters.
fn behind<'t>(text: &'t str, upper: &str, lower: &str) -> Option<&'t str> {
    text.strip_prefix(upper)
        .or_else(|| text.strip_prefix(lower))
}

/// What a template is made of. Error 54000 where it is too long.
pub(super) fn parts(template: &str) -> Result<Vec<Part>, TypeError> {
    size::check(template.len().saturating_mul(size_of::<Part>()))?;
    let (mut out, mut rest) = (Vec::new(), template);
    while !rest.is_empty() {
        let (mut fill, mut translate, mut after) = (true, false, rest);
        if let Some(r) = behind(rest, "FM", "fm") {
            (fill, after) = (false, r);
        } else if let Some(r) = behind(rest, "TM", "tm") {
            (translate, after) = (true, r);
        }
        if let Some((word, name)) = word_at(after) {
            rest = &after[name.len()..];
            let mut ordinal = Ordinal::None;
            if let Some(r) = rest.strip_prefix("TH") {
                (ordinal, rest) = (Ordinal::Upper, r);
            } else if let Some(r) = rest.strip_prefix("th") {
                (ordinal, rest) = (Ordinal::Lower, r);
            } else if let Some(r) = rest.strip_prefix("SP") {
                rest = r;
            }
            out.push(Part::Field {
                word,
                name,
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
                out.push(Part::Text(plain.unwrap_or(c), Between::Plain));
            }
            continue;
        }
        if rest.starts_with("\\\"") {
            rest = &rest[1..];
        }
        if let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            let between = if is_separator(c) {
                Between::Separator
            } else if is_space(c) {
                Between::Space
            } else {
                Between::Plain
            };
            out.push(Part::Text(c, between));
        }
    }
    Ok(out)
}

pub(super) const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
pub(super) const FULL_MONTHS: [&str; 12] = [
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
pub(super) const FULL_DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
