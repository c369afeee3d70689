//! A setting's value: reading it from text with units, and showing it as SHOW does.
//!
//! The rules for numbers are PostgreSQL's (`parse_int`, `convert_to_base_unit`; manual, 20.1.1): C notation with
//! hexadecimal and octal, a fraction where a unit makes it whole, rounding to the next smaller unit.

use std::sync::Arc;

use super::definition::{Definition, Kind, Standing, Unit};
use super::error::{FEATURE_NOT_SUPPORTED, SettingError};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Integer(i32),
    Real(f64),
    Text(Arc<str>),
    Enum(&'static str),
}

impl Value {
    pub fn text(s: &str) -> Value {
        Value::Text(Arc::from(s))
    }
}

struct UnitStep {
    name: &'static str,
    /// Bytes or microseconds.
    scale: f64,
}

const fn step(name: &'static str, scale: f64) -> UnitStep {
    UnitStep { name, scale }
}

/// Largest first.
const MEMORY: [UnitStep; 5] = [
    step("TB", 1_099_511_627_776.0),
    step("GB", 1_073_741_824.0),
    step("MB", 1_048_576.0),
    step("kB", 1024.0),
    step("B", 1.0),
];

const TIME: [UnitStep; 6] = [
    step("d", 86_400_000_000.0),
    step("h", 3_600_000_000.0),
    step("min", 60_000_000.0),
    step("s", 1_000_000.0),
    step("ms", 1_000.0),
    step("us", 1.0),
];

fn steps(unit: Unit) -> &'static [UnitStep] {
    if unit.is_time() { &TIME } else { &MEMORY }
}

const MEMORY_HINT: &str =
    "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".";
const TIME_HINT: &str =
    "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";

/// Why a text is no number, as a hint.
type NumberFault = Option<&'static str>;

/// PostgreSQL's spellings, any unambiguous prefix of them, in any case.
pub fn parse_bool(s: &str) -> Option<bool> {
    let s = s.trim().to_ascii_lowercase();
    if s.is_empty() {
        return None;
    }
    let prefix = |word: &str| word.starts_with(&s);
    if prefix("true") || prefix("yes") || s == "on" || s == "1" {
        Some(true)
    } else if prefix("false") || prefix("no") || s == "off" || s == "of" || s == "0" {
        Some(false)
    } else {
        None
    }
}

/// What `strtol` (base 0) would take from the front; `None` without digits.
fn take_integer(s: &str) -> Option<(f64, usize)> {
    let b = s.as_bytes();
    let mut at = 0;
    let negative = b.first() == Some(&b'-');
    if matches!(b.first(), Some(b'-' | b'+')) {
        at = 1;
    }
    let hex = b.len() > at + 2
        && b[at] == b'0'
        && (b[at + 1] | 0x20) == b'x'
        && b[at + 2].is_ascii_hexdigit();
    let (radix, start) = if hex {
        (16, at + 2)
    } else if b.get(at) == Some(&b'0') {
        (8, at)
    } else {
        (10, at)
    };
    let mut value = 0.0;
    let mut end = start;
    while let Some(digit) = b.get(end).and_then(|c| (*c as char).to_digit(radix)) {
        value = value * f64::from(radix) + f64::from(digit);
        end += 1;
    }
    (end > start).then_some((if negative { -value } else { value }, end))
}

/// What `strtod` would take from the front.
fn take_real(s: &str) -> Option<(f64, usize)> {
    let b = s.as_bytes();
    let digits = |from: usize| b[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut end = usize::from(matches!(b.first(), Some(b'-' | b'+')));
    let whole = digits(end);
    end += whole;
    let mut fraction = 0;
    if b.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(b.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(b.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits((end + 1 + sign).min(b.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    s[..end].parse().ok().map(|v| (v, end))
}

/// The number in the base unit, and whether it must still be rounded.
fn to_base_unit(value: f64, name: &str, unit: Unit) -> Option<f64> {
    let steps = steps(unit);
    let at = steps.iter().position(|s| s.name == name)?;
    let mut base = value * (steps[at].scale / unit.scale());
    if let Some(smaller) = steps.get(at + 1) {
        let multiple = smaller.scale / unit.scale();
        base = (base / multiple).round_ties_even() * multiple;
    }
    Some(base)
}

/// Reads the rest of a number (white space and a unit) into the base unit.
fn apply_unit(value: f64, rest: &str, unit: Unit) -> Result<f64, NumberFault> {
    let rest = rest.trim_matches(|c: char| c.is_ascii_whitespace());
    if rest.is_empty() {
        return Ok(value);
    }
    let hint = match unit {
        Unit::None => return Err(None),
        u if u.is_time() => TIME_HINT,
        _ => MEMORY_HINT,
    };
    to_base_unit(value, rest, unit).ok_or(Some(hint))
}

fn parse_integer(text: &str, unit: Unit) -> Result<i32, NumberFault> {
    let s = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let mut taken = take_integer(s);
    let fractional = match taken {
        Some((_, end)) => matches!(s.as_bytes().get(end), Some(b'.' | b'e' | b'E')),
        None => s.trim_start_matches(['-', '+']).starts_with('.'),
    };
    // "089" stops strtol at the 8; PostgreSQL then complains of the rest, and so do we.
    if fractional {
        taken = take_real(s);
    }
    let (value, end) = taken.ok_or(None)?;
    let value = apply_unit(value, &s[end..], unit)?.round_ties_even();
    if value > f64::from(i32::MAX) || value < f64::from(i32::MIN) {
        return Err(Some("Value exceeds integer range."));
    }
    Ok(value as i32)
}

fn parse_real(text: &str, unit: Unit) -> Result<f64, NumberFault> {
    let s = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let (value, end) = take_real(s).ok_or(None)?;
    if !value.is_finite() {
        return Err(None);
    }
    apply_unit(value, &s[end..], unit)
}

/// Spellings that are taken but not shown: synonyms of booleans and names of older releases.
fn enum_synonym(name: &str, value: &str, shown: &[&'static str]) -> Option<&'static str> {
    let find = |v: &str| shown.iter().copied().find(|s| *s == v);
    match (name, value) {
        ("wal_level", "archive" | "hot_standby") => return find("replica"),
        (_, "debug") => return find("debug2"),
        ("client_min_messages", "info" | "fatal" | "panic") => return find("error"),
        ("IntervalStyle", _) => return None,
        _ => {}
    }
    if !(shown.contains(&"on") && shown.contains(&"off")) {
        return None;
    }
    match value {
        "true" | "yes" | "1" => find("on"),
        "false" | "no" | "0" => find("off"),
        _ => None,
    }
}

impl Definition {
    /// Reads a value from text, checks type, range and standing. Meaning beyond that is [`super::checks`]'s.
    pub fn parse(&self, text: &str) -> Result<Value, SettingError> {
        let value = self.parse_typed(text)?;
        if let Standing::Only(allowed) = &self.standing {
            let shown = self.raw(&value);
            if !allowed.iter().any(|a| a.eq_ignore_ascii_case(&shown)) {
                return Err(self.not_implemented(text, allowed));
            }
        }
        Ok(value)
    }

    fn not_implemented(&self, text: &str, allowed: &[&'static str]) -> SettingError {
        let list: Vec<String> = allowed
            .iter()
            .map(|a| {
                if a.is_empty() {
                    "\"\"".to_owned()
                } else {
                    (*a).to_owned()
                }
            })
            .collect();
        let mut e = SettingError::invalid_value(self.name, text)
            .detail("This server does not implement that value.")
            .hint(format!("Available values: {}.", list.join(", ")));
        e.state = FEATURE_NOT_SUPPORTED;
        e
    }

    fn parse_typed(&self, text: &str) -> Result<Value, SettingError> {
        match &self.kind {
            Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(|| {
                SettingError::new(
                    super::error::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", self.name),
                )
            }),
            Kind::Integer { low, high, unit } => {
                let v = parse_integer(text, *unit).map_err(|hint| self.bad_number(text, hint))?;
                if v < *low || v > *high {
                    return Err(self.out_of_range(
                        &v.to_string(),
                        &low.to_string(),
                        &high.to_string(),
                    ));
                }
                Ok(Value::Integer(v))
            }
            Kind::Real { low, high, unit } => {
                let v = parse_real(text, *unit).map_err(|hint| self.bad_number(text, hint))?;
                if v < *low || v > *high {
                    return Err(self.out_of_range(
                        &show_real(v),
                        &show_real(*low),
                        &show_real(*high),
                    ));
                }
                Ok(Value::Real(v))
            }
            Kind::Text => Ok(Value::text(text)),
            Kind::Enum(shown) => {
                let lower = text.to_ascii_lowercase();
                shown
                    .iter()
                    .copied()
                    .find(|s| s.eq_ignore_ascii_case(text))
                    .or_else(|| enum_synonym(self.name, &lower, shown))
                    .map(Value::Enum)
                    .ok_or_else(|| {
                        SettingError::invalid_value(self.name, text)
                            .hint(format!("Available values: {}.", shown.join(", ")))
                    })
            }
        }
    }

    fn bad_number(&self, text: &str, hint: NumberFault) -> SettingError {
        let e = SettingError::invalid_value(self.name, text);
        match hint {
            Some(h) => e.hint(h),
            None => e,
        }
    }

    fn out_of_range(&self, v: &str, low: &str, high: &str) -> SettingError {
        let unit = self.kind.unit().name();
        let space = if unit.is_empty() { "" } else { " " };
        SettingError::new(
            super::error::INVALID_PARAMETER_VALUE,
            format!(
                "{v}{space}{unit} is outside the valid range for parameter \"{}\" ({low} .. {high})",
                self.name
            ),
        )
    }

    /// As SHOW shows it: with the largest unit that divides it.
    pub fn show(&self, value: &Value) -> String {
        match value {
            Value::Integer(v) if self.flags.octal => format!("{v:04o}"),
            Value::Integer(v) => show_with_unit(f64::from(*v), self.kind.unit()),
            Value::Real(v) => show_with_unit(*v, self.kind.unit()),
            _ => self.raw(value),
        }
    }

    /// As `pg_settings.setting` shows it: without a unit.
    pub fn raw(&self, value: &Value) -> String {
        match value {
            Value::Bool(true) => "on".to_owned(),
            Value::Bool(false) => "off".to_owned(),
            Value::Integer(v) if self.flags.octal => format!("{v:04o}"),
            Value::Integer(v) => v.to_string(),
            Value::Real(v) => show_real(*v),
            Value::Text(s) => s.to_string(),
            Value::Enum(s) => (*s).to_owned(),
        }
    }
}

fn show_with_unit(value: f64, unit: Unit) -> String {
    if unit == Unit::None || value <= 0.0 {
        return show_real(value);
    }
    for s in steps(unit) {
        // The base unit itself has no name for blocks: PostgreSQL goes down to kB there.
        let shown = value * unit.scale() / s.scale;
        if shown >= 1.0 && shown.fract() == 0.0 {
            return format!("{}{}", show_real(shown), s.name);
        }
    }
    let smallest = &steps(unit)[steps(unit).len() - 1];
    format!(
        "{}{}",
        show_real(value * unit.scale() / smallest.scale),
        smallest.name
    )
}

/// C's `%g`: six significant digits, the shorter of plain and scientific notation.
pub fn show_real(v: f64) -> String {
    if v == 0.0 {
        return "0".to_owned();
    }
    if v.fract() == 0.0 && v.abs() < 1e6 {
        return format!("{v:.0}");
    }
    let scientific = format!("{v:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).unwrap_or(0);
        trim_zeros(&format!("{v:.decimals$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
    }
}

fn trim_zeros(s: &str) -> &str {
    if s.contains('.') {
        s.trim_end_matches('0').trim_end_matches('.')
    } else {
        s
    }
}
