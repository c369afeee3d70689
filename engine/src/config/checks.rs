//! Checks of values beyond type and range, and their canonical form: what PostgreSQL's check hooks do.

use std::sync::Arc;

use super::conninfo::ConnInfo;
use super::date_style::{DateStyle, DateStyleFault};
use super::definition::Definition;
use super::error::{FEATURE_NOT_SUPPORTED, SettingError};
use super::shell_command;
use super::value::Value;

/// What a check may need to know of the present.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckCx {
    pub date_style: DateStyle,
    pub reset_date_style: DateStyle,
}

/// Reads, checks and canonicalises a value for a setting.
pub fn parse(d: &Definition, text: &str, cx: &CheckCx) -> Result<Value, SettingError> {
    let value = d.parse(text)?;
    let Value::Text(s) = &value else {
        return Ok(value);
    };
    let checked: Option<String> = match d.name {
        "DateStyle" => Some(date_style(s, cx)?),
        "TimeZone" | "log_timezone" => Some(time_zone(d.name, s)?.name),
        "client_encoding" => Some(client_encoding(s)?.to_owned()),
        "application_name" | "cluster_name" => Some(printable(s)),
        "search_path" => {
            list(d.name, s)?;
            None
        }
        "listen_addresses" | "unix_socket_directories" => None,
        "synchronous_standby_names" => {
            SyncStandbyNames::parse(s)?;
            None
        }
        "primary_conninfo" => {
            ConnInfo::parse(s)
                .map_err(|e| SettingError::invalid_value(d.name, s).detail(e.to_string()))?;
            None
        }
        "recovery_target_timeline" => {
            if !matches!(s.as_ref(), "" | "latest" | "current") && s.parse::<u32>().is_err() {
                return Err(SettingError::invalid_value(d.name, s)
                    .detail("recovery_target_timeline is not a valid number."));
            }
            None
        }
        "archive_command" | "restore_command" => {
            shell_command::check(d.name, s)?;
            None
        }
        "primary_slot_name" => {
            slot_name(d.name, s)?;
            None
        }
        "http_listen" => {
            listen_place(d.name, s)?;
            None
        }
        "default_tablespace" | "temp_tablespaces" => None,
        _ => None,
    };
    Ok(checked.map_or(value, |c| Value::Text(Arc::from(c))))
}

/// Characters that are not printable ASCII become `?` (PostgreSQL 15 does so to protect terminals and logs).
fn printable(s: &str) -> String {
    let mut out: String = s
        .bytes()
        .map(|b| {
            if (32..127).contains(&b) {
                b as char
            } else {
                '?'
            }
        })
        .collect();
    out.truncate(63);
    out
}

fn date_style(s: &str, cx: &CheckCx) -> Result<String, SettingError> {
    match DateStyle::parse(s, cx.date_style, cx.reset_date_style) {
        Ok(style) => Ok(style.show()),
        Err(DateStyleFault::UnknownWord(word)) => Err(SettingError::invalid_value("DateStyle", s)
            .detail(format!("Unrecognized key word: \"{word}\"."))),
        Err(DateStyleFault::Conflicting) => Err(SettingError::invalid_value("DateStyle", s)
            .detail("Conflicting \"datestyle\" specifications.")),
    }
}

/// Only encodings that need no conversion are there.
fn client_encoding(s: &str) -> Result<&'static str, SettingError> {
    let folded: String = s
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match folded.as_str() {
        "utf8" | "unicode" => Ok("UTF8"),
        "sqlascii" => Ok("SQL_ASCII"),
        known if KNOWN_ENCODINGS.contains(&known) => {
            let mut e = SettingError::invalid_value("client_encoding", s)
                .detail(format!(
                    "Conversion between {} and UTF8 is not supported.",
                    s.to_ascii_uppercase()
                ))
                .hint("Available values: UTF8, SQL_ASCII.");
            e.state = FEATURE_NOT_SUPPORTED;
            Err(e)
        }
        _ => Err(SettingError::invalid_value("client_encoding", s)),
    }
}

/// PostgreSQL's encodings in folded form (manual, 24.3.1), to tell "not supported" from "no such thing".
const KNOWN_ENCODINGS: [&str; 46] = [
    "big5",
    "euccn",
    "eucjp",
    "eucjis2004",
    "euckr",
    "euctw",
    "gb18030",
    "gbk",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "johab",
    "koi8r",
    "koi8u",
    "koi8",
    "latin1",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "latin10",
    "muleinternal",
    "sjis",
    "shiftjis2004",
    "uhc",
    "win866",
    "win874",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "iso88591",
    "iso88592",
    "iso885915",
    "windows1252",
    "windows1251",
];

/// A time zone as it is shown, with its rules.
#[derive(Debug, Clone)]
pub struct Zone {
    pub name: String,
    pub zone: jiff::tz::TimeZone,
}

/// The zone of a canonical name; UTC if the zone database went away since the name was checked.
pub fn zone_of(name: &str) -> jiff::tz::TimeZone {
    time_zone("TimeZone", name).map_or(jiff::tz::TimeZone::UTC, |z| z.zone)
}

fn time_zone(setting: &str, s: &str) -> Result<Zone, SettingError> {
    let bad = || SettingError::invalid_value(setting, s);
    let text = s.trim();
    if let Some(rest) = text.get(..8).filter(|p| p.eq_ignore_ascii_case("interval")) {
        let _ = rest;
        return Err(bad());
    }
    if let Ok(hours) = text.parse::<f64>() {
        // A bare number is hours east of Greenwich and is shown as a POSIX zone.
        let seconds = (hours * 3600.0).round();
        if seconds.abs() > 167.0 * 3600.0 || seconds.abs() >= 26.0 * 3600.0 {
            return Err(bad().detail("UTC timezone offset is out of range."));
        }
        return Ok(fixed_zone(seconds as i32));
    }
    if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("gmt") || text == "Z" {
        return Ok(Zone {
            name: text.to_owned(),
            zone: jiff::tz::TimeZone::UTC,
        });
    }
    if let Some(z) = parse_shown_offset(text) {
        return Ok(z);
    }
    if let Ok(zone) = jiff::tz::TimeZone::get(text) {
        let name = zone.iana_name().unwrap_or(text).to_owned();
        return Ok(Zone { name, zone });
    }
    // PostgreSQL takes a rule without a name too.
    let nameless = text.starts_with(|c: char| matches!(c, '+' | '-') || c.is_ascii_digit());
    let rule = if nameless {
        format!("<-00>{text}")
    } else {
        text.to_owned()
    };
    if text.is_ascii()
        && text.bytes().any(|b| b.is_ascii_digit())
        && let Ok(zone) = jiff::tz::TimeZone::posix(&rule)
    {
        return Ok(Zone {
            name: text.to_owned(),
            zone,
        });
    }
    Err(bad())
}

fn fixed_zone(seconds: i32) -> Zone {
    let (sign, back) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
    let a = seconds.unsigned_abs();
    let (h, m, s) = (a / 3600, a / 60 % 60, a % 60);
    let mut text = format!("{h:02}");
    if m != 0 || s != 0 {
        text.push_str(&format!(":{m:02}"));
    }
    if s != 0 {
        text.push_str(&format!(":{s:02}"));
    }
    let zone = jiff::tz::Offset::from_seconds(seconds)
        .map_or(jiff::tz::TimeZone::UTC, jiff::tz::TimeZone::fixed);
    Zone {
        name: format!("<{sign}{text}>{back}{text}"),
        zone,
    }
}

/// Reads what [`fixed_zone`] shows.
fn parse_shown_offset(text: &str) -> Option<Zone> {
    let (inner, _) = text.strip_prefix('<')?.split_once('>')?;
    let negative = inner.starts_with('-');
    let mut parts = inner.trim_start_matches(['+', '-']).split(':');
    let mut next = || parts.next().map_or(Some(0), |p| p.parse::<i32>().ok());
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    if !(0..=167).contains(&hours) || !(0..60).contains(&minutes) || !(0..60).contains(&seconds) {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60 + seconds;
    let zone = fixed_zone(if negative { -seconds } else { seconds });
    // Any other rule in this form has a name that is not its offset.
    (zone.name == text).then_some(zone)
}

fn slot_name(setting: &str, s: &str) -> Result<(), SettingError> {
    if s.is_empty() {
        return Ok(());
    }
    if s.len() > 63 {
        return Err(SettingError::invalid_value(setting, s)
            .detail(format!("replication slot name \"{s}\" is too long")));
    }
    if s.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Ok(());
    }
    Err(SettingError::invalid_value(setting, s)
        .detail(format!("replication slot name \"{s}\" contains invalid character"))
        .hint("Replication slot names may only contain lower case letters, numbers, and the underscore character."))
}

/// A port of this machine alone, or `ADDRESS:PORT`; whether it can be had shows at the start.
fn listen_place(setting: &str, s: &str) -> Result<(), SettingError> {
    let (address, port) = s.rsplit_once(':').unwrap_or(("127.0.0.1", s));
    if s.is_empty() || (!address.is_empty() && port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(SettingError::invalid_value(setting, s)
        .hint("Write ADDRESS:PORT (* is every address), or only a port for this machine alone."))
}

/// A comma-separated list of identifiers, as `search_path` has it: folded unless quoted.
pub fn list(setting: &str, s: &str) -> Result<Vec<String>, SettingError> {
    split_identifiers(s)
        .ok_or_else(|| SettingError::invalid_value(setting, s).detail("List syntax is invalid."))
}

/// Manual, 4.1.1: quoted identifiers keep their case, doubled quotes stand for one.
pub fn split_identifiers(s: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = s.trim();
    if rest.is_empty() {
        return Some(out);
    }
    loop {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            take_quoted(quoted)?
        } else {
            let end = rest
                .find(|c: char| c == ',' || c.is_ascii_whitespace())
                .unwrap_or(rest.len());
            (rest[..end].to_ascii_lowercase(), &rest[end..])
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        out.push(name);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(out);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

fn take_quoted(s: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = s.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if c != '"' {
            name.push(c);
        } else if chars.peek().is_some_and(|(_, n)| *n == '"') {
            name.push('"');
            chars.next();
        } else {
            return Some((name, &s[i + 1..]));
        }
    }
    None
}

/// `synchronous_standby_names` (manual, 20.6.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncStandbyNames {
    pub method: SyncMethod,
    /// 0: no standby is asked for.
    pub required: usize,
    /// `*` stands for any.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMethod {
    #[default]
    First,
    Any,
}

impl SyncStandbyNames {
    pub fn parse(s: &str) -> Result<SyncStandbyNames, SettingError> {
        if s.trim().is_empty() {
            return Ok(SyncStandbyNames::default());
        }
        let tokens = StandbyTokens::of(s);
        let parsed = tokens.config().map_err(|at| {
            SettingError::invalid_value("synchronous_standby_names", s).detail(tokens.fault(at))
        })?;
        if parsed.required == 0 {
            return Err(SettingError::new(
                super::error::INVALID_PARAMETER_VALUE,
                "number of synchronous standbys (0) must be greater than zero",
            ));
        }
        Ok(parsed)
    }

    /// Whether a standby of this `application_name` is listed, and at which place (1 is the first).
    pub fn priority(&self, application_name: &str) -> Option<usize> {
        self.names
            .iter()
            .position(|n| n == "*" || n.eq_ignore_ascii_case(application_name))
            .map(|i| i + 1)
    }
}

/// The words of a list of standbys, and the grammar over them. An error is the number of the word that does not fit.
struct StandbyTokens<'a>(Vec<StandbyToken<'a>>);

#[derive(Debug, PartialEq, Eq)]
enum StandbyToken<'a> {
    Number(&'a str),
    /// Keywords, too.
    Name(&'a str),
    Quoted(String),
    /// `*`, a comma, a bracket, or what has no place here.
    Sign(char),
}

fn keyword_of(word: &str) -> Option<SyncMethod> {
    match () {
        () if word.eq_ignore_ascii_case("any") => Some(SyncMethod::Any),
        () if word.eq_ignore_ascii_case("first") => Some(SyncMethod::First),
        () => None,
    }
}

impl<'a> StandbyTokens<'a> {
    fn of(text: &'a str) -> StandbyTokens<'a> {
        let mut out = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let count = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
            let after = if first.is_ascii_digit() {
                let (number, after) = rest.split_at(count(|c| c.is_ascii_digit()));
                out.push(StandbyToken::Number(number));
                after
            } else if first.is_ascii_alphabetic() || first == '_' || !first.is_ascii() {
                let part = |c: char| c.is_ascii_alphanumeric() || "_$".contains(c) || !c.is_ascii();
                let (name, after) = rest.split_at(count(part));
                out.push(StandbyToken::Name(name));
                after
            } else if let Some((name, after)) = rest.strip_prefix('"').and_then(take_quoted) {
                out.push(StandbyToken::Quoted(name));
                after
            } else {
                out.push(StandbyToken::Sign(first));
                &rest[first.len_utf8()..]
            };
            rest = after.trim_start();
        }
        StandbyTokens(out)
    }

    fn config(&self) -> Result<SyncStandbyNames, usize> {
        let tokens = &self.0;
        let keyword = match tokens.first() {
            Some(StandbyToken::Name(n)) => keyword_of(n),
            _ => None,
        };
        let at = usize::from(keyword.is_some());
        let number = match tokens.get(at) {
            Some(StandbyToken::Number(n)) => Some(*n),
            _ if keyword.is_some() => return Err(at),
            _ => None,
        };
        let counted = tokens.get(at + 1) == Some(&StandbyToken::Sign('('));
        let Some(number) = number.filter(|_| counted || keyword.is_some()) else {
            return Ok(SyncStandbyNames {
                method: SyncMethod::First,
                required: 1,
                names: self.names(0, tokens.len())?,
            });
        };
        if !counted {
            return Err(at + 1);
        }
        let close = tokens.iter().position(|t| *t == StandbyToken::Sign(')'));
        let Some(close) = close else {
            // The list is judged first: the fault may lie in it.
            self.names(at + 2, tokens.len())?;
            return Err(tokens.len());
        };
        let names = self.names(at + 2, close)?;
        if close + 1 < tokens.len() {
            return Err(close + 1);
        }
        Ok(SyncStandbyNames {
            method: keyword.unwrap_or_default(),
            required: number.parse().map_err(|_| at)?,
            names,
        })
    }

    fn names(&self, from: usize, to: usize) -> Result<Vec<String>, usize> {
        let mut out = Vec::new();
        let mut at = from;
        loop {
            if at >= to {
                return Err(at);
            }
            out.push(match &self.0[at] {
                // As a name it has to be quoted.
                StandbyToken::Name(n) if keyword_of(n).is_some() => return Err(at),
                StandbyToken::Name(n) | StandbyToken::Number(n) => (*n).to_owned(),
                StandbyToken::Quoted(n) => n.clone(),
                StandbyToken::Sign('*') => "*".to_owned(),
                StandbyToken::Sign(_) => return Err(at),
            });
            at += 1;
            if at == to {
                return Ok(out);
            }
            if self.0[at] != StandbyToken::Sign(',') {
                return Err(at);
            }
            at += 1;
        }
    }

    /// As PostgreSQL's scanner words it.
    fn fault(&self, at: usize) -> String {
        let shown = match self.0.get(at) {
            None => return "syntax error at end of input".to_owned(),
            Some(StandbyToken::Number(n) | StandbyToken::Name(n)) => (*n).to_owned(),
            Some(StandbyToken::Quoted(n)) => n.clone(),
            Some(StandbyToken::Sign('"')) => return "unterminated quoted identifier".to_owned(),
            Some(StandbyToken::Sign(c)) => c.to_string(),
        };
        format!("syntax error at or near \"{shown}\"")
    }
}
