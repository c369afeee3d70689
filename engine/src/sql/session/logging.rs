//! What a session logs of its statements: PostgreSQL's lines, through `tracing`.

use std::fmt::{self, Write as _};

use super::lifecycle::Session;
use super::services::Services;
use crate::config::SessionSettings;
use crate::config::session::{Level, LogStatement};
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::front::Statement;
use crate::sql::front::ast::CopyDirection;

fn level(severity: Severity) -> Level {
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

impl<S: Services> Session<S> {
    /// An error that goes to the client. FATAL ones are logged where the connection ends.
    pub(super) fn log_error(&self, e: &SqlError, statement: &str) {
        if e.severity > Severity::Error {
            return;
        }
        let of_deadlock = match e.state {
            state::DEADLOCK_DETECTED => self.with_statements(e),
            _ => None,
        };
        let detail = of_deadlock.as_deref().or(e.detail.as_deref());
        error(e, detail, statement, &self.settings());
    }

    /// A deadlock's DETAIL with what each of its processes runs, which may be nobody else's business: for the log only.
    fn with_statements(&self, e: &SqlError) -> Option<String> {
        let mut detail = e.detail.clone()?;
        for pid in self.facts.backend.interrupts.take_deadlock() {
            let statement = self.services.backends().statement_of(pid);
            // Writing to a String cannot fail.
            let _ = write!(detail, "\nProcess {pid}: {statement}");
        }
        Some(detail)
    }
}

fn error(e: &SqlError, detail: Option<&str>, statement: &str, settings: &SessionSettings) {
    let at = e
        .position
        .map(|p| format!(" at character {p}"))
        .unwrap_or_default();
    let wanted = level(e.severity) >= settings.log_min_error_statement;
    tracing::error!(
        severity = e.severity.as_str(),
        sqlstate = e.state,
        detail,
        hint = e.hint.as_deref(),
        context = e.context.as_deref(),
        statement = wanted.then_some(statement).filter(|s| !s.is_empty()),
        "{}{at}",
        e.message
    );
}

/// A notice or a warning, whether or not the client wants to see it.
pub fn notice(notice: &SqlError) {
    tracing::info!(
        severity = notice.severity.as_str(),
        sqlstate = notice.state,
        detail = notice.detail.as_deref(),
        hint = notice.hint.as_deref(),
        context = notice.context.as_deref(),
        "{}",
        notice.message
    );
}

/// What the setting counts a statement as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Changes,
    Defines,
}

fn kind(statement: &Statement) -> Kind {
    match statement {
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Truncate(_) => Kind::Changes,
        Statement::Copy(c) if c.direction == CopyDirection::From => Kind::Changes,
        Statement::Prepare(p) => kind(&p.statement),
        Statement::Copy(_)
        | Statement::Query(_)
        | Statement::Transaction(_)
        | Statement::Set(_)
        | Statement::SetConstraints(_)
        | Statement::Show(_)
        | Statement::Reset(_)
        | Statement::Discard(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::DeclareCursor(_)
        | Statement::Fetch(_)
        | Statement::CloseCursor(_)
        | Statement::Explain(_)
        | Statement::Vacuum(_)
        | Statement::Checkpoint
        | Statement::LockTable(_) => Kind::Reads,
        _ => Kind::Defines,
    }
}

fn wanted(statement: &Statement, setting: LogStatement) -> bool {
    match setting {
        LogStatement::None => false,
        LogStatement::All => true,
        LogStatement::Mod => kind(statement) != Kind::Reads,
        LogStatement::Ddl => kind(statement) == Kind::Defines,
    }
}

/// A parameter's value as the log shows it: quoted, and cut at so many bytes on a character's boundary.
pub fn parameter(text: &str, most: Option<usize>) -> String {
    let mut end = most.map_or(text.len(), |most| most.min(text.len()));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let quoted = text[..end].replace('\'', "''");
    let dots = if end < text.len() { "..." } else { "" };
    format!("'{quoted}{dots}'")
}

/// A message of the extended protocol, as the log names it: `execute NAME/PORTAL`.
pub struct Message<'a> {
    pub act: &'static str,
    pub statement: &'a str,
    pub portal: &'a str,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.statement {
            "" => "<unnamed>",
            name => name,
        };
        write!(f, "{} {name}", self.act)?;
        match self.portal {
            "" => Ok(()),
            portal => write!(f, "/{portal}"),
        }
    }
}

/// `log_statement`. `message` is `None` for a simple query; `detail` is asked for only if something is written. True: it
/// was logged, so a duration need not repeat the text.
pub fn statement<'a>(
    statements: impl IntoIterator<Item = &'a Statement>,
    text: &str,
    message: Option<&Message<'_>>,
    detail: impl FnOnce() -> Option<String>,
    settings: &SessionSettings,
) -> bool {
    if settings.log_statement == LogStatement::None {
        return false;
    }
    // An empty query is a statement, too, where all are wanted.
    let log = settings.log_statement == LogStatement::All
        || statements
            .into_iter()
            .any(|s| wanted(s, settings.log_statement));
    if log {
        let detail = detail();
        let detail = detail.as_deref();
        match message {
            None => tracing::info!(detail, "statement: {text}"),
            Some(message) => tracing::info!(detail, "{message}: {text}"),
        }
    }
    log
}

/// Whether [`duration`] could write anything: where not, nobody needs to look at the clock.
pub fn wants_durations(settings: &SessionSettings) -> bool {
    settings.log_duration || settings.log_min_duration_statement.is_some()
}

/// `log_duration` and `log_min_duration_statement`.
pub fn duration(
    micros: i64,
    text: &str,
    message: Option<&Message<'_>>,
    logged: bool,
    detail: impl FnOnce() -> Option<String>,
    settings: &SessionSettings,
) {
    let slow = settings
        .log_min_duration_statement
        .is_some_and(|least| i128::from(micros) >= i128::try_from(least.as_micros()).unwrap_or(0));
    if !slow && !settings.log_duration {
        return;
    }
    let ms = micros as f64 / 1000.0;
    if !slow || logged {
        tracing::info!("duration: {ms:.3} ms");
        return;
    }
    let detail = detail();
    let detail = detail.as_deref();
    match message {
        None => tracing::info!(detail, "duration: {ms:.3} ms  statement: {text}"),
        Some(message) => tracing::info!(detail, "duration: {ms:.3} ms  {message}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cut_on_a_character() {
        assert_eq!(parameter("it's", None), "'it''s'");
        assert_eq!(parameter("it's", Some(4)), "'it''s'");
        assert_eq!(parameter("it's", Some(3)), "'it''...'");
        assert_eq!(parameter("aé", Some(2)), "'a...'");
    }
}
