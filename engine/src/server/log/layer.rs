//! From `tracing` events of all rooms to entries of the log.
//!
//! INFO is PostgreSQL's LOG, WARN its WARNING, ERROR its LOG with a cause that a person must look at, DEBUG and
//! TRACE its DEBUG1 and DEBUG5. The field `severity` (`"FATAL"`, `"PANIC"`) says more; `detail`, `hint`, `context` and
//! `statement` become lines of their own, `of_statement` brings the one that the session is at; other fields follow the
//! message.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::{Entry, Level, enabled, statement_of_session, write};

struct PostgresLines;

/// Makes every `tracing` event of the process go to the log. A second call does nothing.
pub fn install() {
    // Another subscriber (a test's) is left in place.
    let _ = tracing_subscriber::registry()
        .with(PostgresLines)
        .try_init();
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
    severity: Option<Level>,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
    statement: Option<String>,
    /// What is told is of the statement that runs, which the room that tells it does not know.
    of_statement: bool,
    state: Option<String>,
}

impl Fields {
    fn put(&mut self, name: &str, text: String) {
        match name {
            "message" => self.message = text,
            "severity" => self.severity = Some(Level::of_name(&text.to_ascii_lowercase())),
            "detail" => self.detail = Some(text),
            "hint" => self.hint = Some(text),
            "context" => self.context = Some(text),
            "statement" => self.statement = Some(text),
            "of_statement" => self.of_statement = text == "true",
            "sqlstate" => self.state = Some(text),
            // Events of the `log` crate's bridge carry their own metadata.
            n if n.starts_with("log.") => {}
            n => {
                // Writing to a String cannot fail.
                let _ = write!(self.rest, " {n}={text}");
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Log,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Log,
        tracing::Level::DEBUG => Level::Debug1,
        tracing::Level::TRACE => Level::Debug5,
    }
}

/// Libraries speak only when they warn; their INFO is not PostgreSQL's LOG.
fn from_this_program(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.starts_with("engine") || target.starts_with("understudy")
}

impl<S: Subscriber> Layer<S> for PostgresLines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        (from_this_program(metadata) || *metadata.level() <= tracing::Level::WARN)
            && enabled(level_of(metadata).max(Level::Debug1))
            || *metadata.level() == tracing::Level::ERROR
    }

    /// The settings may change while the server runs, so no call site is switched off for good.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut f = Fields::default();
        event.record(&mut f);
        let level = f.severity.unwrap_or_else(|| level_of(event.metadata()));
        f.message.push_str(&f.rest);
        if f.of_statement && f.statement.is_none() {
            f.statement = statement_of_session(level);
        }
        write(&Entry {
            detail: f.detail.as_deref(),
            hint: f.hint.as_deref(),
            context: f.context.as_deref(),
            statement: f.statement.as_deref(),
            state: f.state.as_deref(),
            ..Entry::new(level, &f.message)
        });
    }
}
