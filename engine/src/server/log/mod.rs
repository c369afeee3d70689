//! The server's log on stderr, in PostgreSQL's form: prefix, severity, two spaces, message, and further lines for
//! DETAIL, HINT, CONTEXT and STATEMENT.
//!
//! Owns the process's one log sink. Rooms below write `tracing` events; [`layer`] turns them into entries. Sessions
//! write entries themselves, because theirs carry SQLSTATE and statement. What a line knows of its session comes from
//! a task-local [`SessionIdentity`]. A line is one `write`, so lines of different threads never mix.

mod identity;
mod layer;
mod prefix;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

pub use identity::{BackendType, SessionIdentity, application_changed, identified};
pub use layer::install;
use prefix::Prefix;

use crate::config::ServerSettings;
use crate::config::error::Complaint;
use crate::config::session::{Level, Verbosity};
use crate::sql::error::{Severity, SqlError};

/// The settings that shape lines; replaced as a whole on reload. A session's own outrank them (see [`SessionIdentity`]).
struct Shape {
    prefix: Prefix,
    least: Level,
    verbosity: Verbosity,
    zone: jiff::tz::TimeZone,
}

impl Shape {
    fn of(settings: &ServerSettings) -> Shape {
        let v = &settings.values;
        Shape {
            prefix: Prefix::parse(&v.text("log_line_prefix")),
            least: Level::of_name(v.choice("log_min_messages")),
            verbosity: Verbosity::of_name(v.choice("log_error_verbosity")),
            zone: crate::config::checks::zone_of(&v.text("log_timezone")),
        }
    }
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            prefix: Prefix::parse("%m [%p] "),
            least: Level::Warning,
            verbosity: Verbosity::Default,
            zone: jiff::tz::TimeZone::UTC,
        }
    }
}

fn shape() -> &'static ArcSwap<Shape> {
    static SHAPE: OnceLock<ArcSwap<Shape>> = OnceLock::new();
    SHAPE.get_or_init(|| ArcSwap::from_pointee(Shape::default()))
}

/// Takes the settings that shape lines; at start and after each reload.
pub fn configure(settings: &ServerSettings) {
    shape().store(Arc::new(Shape::of(settings)));
}

/// One thing to log.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub level: Level,
    pub message: &'a str,
    pub state: Option<&'a str>,
    pub detail: Option<&'a str>,
    pub hint: Option<&'a str>,
    pub context: Option<&'a str>,
    pub statement: Option<&'a str>,
}

impl<'a> Entry<'a> {
    pub fn new(level: Level, message: &'a str) -> Entry<'a> {
        Entry {
            level,
            message,
            state: None,
            detail: None,
            hint: None,
            context: None,
            statement: None,
        }
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Debug5 | Level::Debug4 | Level::Debug3 | Level::Debug2 | Level::Debug1 => "DEBUG",
        Level::Info => "INFO",
        Level::Notice => "NOTICE",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
        Level::Log => "LOG",
        Level::Fatal => "FATAL",
        Level::Panic => "PANIC",
    }
}

pub fn level_of(severity: Severity) -> Level {
    match severity {
        Severity::Debug => Level::Debug1,
        Severity::Log => Level::Log,
        Severity::Info => Level::Info,
        Severity::Notice => Level::Notice,
        Severity::Warning => Level::Warning,
        Severity::Error => Level::Error,
        Severity::Fatal => Level::Fatal,
        Severity::Panic => Level::Panic,
    }
}

/// Whether an entry of this level would be written; to save making it.
pub fn enabled(level: Level) -> bool {
    let own = identity::with_current(|who| who.and_then(SessionIdentity::log_settings));
    level >= own.map_or_else(|| shape().load().least, |own| own.least)
}

/// Writes the entry, if its level is to be written.
pub fn write(entry: &Entry<'_>) {
    if !enabled(entry.level) {
        return;
    }
    let shape = shape().load();
    let lines = identity::with_current(|who| render(&shape, entry, who));
    // A log that cannot be written to is no reason to stop serving.
    let _ = std::io::stderr().lock().write_all(lines.as_bytes());
}

/// The statement that the session is at, if its settings want it below a line of this level.
fn statement_of_session(level: Level) -> Option<String> {
    identity::with_current(|who| who.and_then(|who| who.statement_for(level)))
}

fn render(shape: &Shape, entry: &Entry<'_>, who: Option<&SessionIdentity>) -> String {
    let mut out = String::with_capacity(160);
    let now = jiff::Timestamp::now();
    let own = who.and_then(SessionIdentity::log_settings);
    let verbosity = own.map_or(shape.verbosity, |own| own.verbosity);
    let line = |kind: &str, text: &str, out: &mut String| {
        shape.prefix.write(out, who, now, &shape.zone, entry.state);
        out.push_str(kind);
        out.push_str(":  ");
        push_indented(out, text);
        out.push('\n');
    };
    match entry.state {
        Some(state) if verbosity == Verbosity::Verbose => {
            line(
                word(entry.level),
                &format!("{state}: {}", entry.message),
                &mut out,
            );
        }
        _ => line(word(entry.level), entry.message, &mut out),
    }
    if verbosity != Verbosity::Terse {
        for (kind, text) in [
            ("DETAIL", entry.detail),
            ("HINT", entry.hint),
            ("CONTEXT", entry.context),
        ] {
            if let Some(text) = text {
                line(kind, text, &mut out);
            }
        }
    }
    if let Some(text) = entry.statement {
        line("STATEMENT", text, &mut out);
    }
    out
}

/// Further lines of a text begin with a tab.
fn push_indented(out: &mut String, text: &str) {
    for (i, part) in text.split('\n').enumerate() {
        if i > 0 {
            out.push_str("\n\t");
        }
        out.push_str(part);
    }
}

pub fn log(message: &str) {
    write(&Entry::new(Level::Log, message));
}

pub fn warning(message: &str) {
    write(&Entry::new(Level::Warning, message));
}

pub fn fatal(message: &str) {
    write(&Entry::new(Level::Fatal, message));
}

/// A complaint about a file or a setting.
pub fn complaint(level: Level, c: &Complaint) {
    write(&Entry {
        detail: c.detail.as_deref(),
        hint: c.hint.as_deref(),
        context: c.context.as_deref(),
        ..Entry::new(level, &c.message)
    });
}

/// An error that goes to a client; `statement` is what caused it, if the settings want it.
pub fn sql_error(e: &SqlError, statement: Option<&str>) {
    let level = level_of(e.severity);
    if !enabled(level) {
        return;
    }
    let mut message = e.message.clone();
    if let Some(position) = e.position {
        message.push_str(&format!(" at character {position}"));
    }
    write(&Entry {
        state: Some(e.state),
        detail: e.detail.as_deref(),
        hint: e.hint.as_deref(),
        context: e.context.as_deref(),
        statement,
        ..Entry::new(level, &message)
    });
}
