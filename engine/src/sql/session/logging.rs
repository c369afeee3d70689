//! What a session logs of its statements: PostgreSQL's lines, through `tracing`.

use crate::config::SessionSettings;
use crate::config::session::{Level, LogStatement};
use crate::sql::error::{Severity, SqlError};
use crate::sql::front::Statement;

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

/// An error that goes to the client. FATAL ones are logged where the connection ends.
pub fn error(e: &SqlError, statement: &str, settings: &SessionSettings) {
    if e.severity > Severity::Error {
        return;
    }
    let at = e
        .position
        .map(|p| format!(" at character {p}"))
        .unwrap_or_default();
    let wanted = level(e.severity) >= settings.log_min_error_statement;
    tracing::error!(
        severity = e.severity.as_str(),
        sqlstate = e.state,
        detail = e.detail.as_deref(),
        hint = e.hint.as_deref(),
        context = e.context.as_deref(),
        statement = wanted.then_some(statement).filter(|s| !s.is_empty()),
        "{}{at}",
        e.message
    );
}

fn wanted(statement: &Statement, setting: LogStatement) -> bool {
    let changes = matches!(
        statement,
        Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Truncate(_)
            | Statement::Copy(_)
    );
    let reads = matches!(
        statement,
        Statement::Query(_)
            | Statement::Transaction(_)
            | Statement::Set(_)
            | Statement::Show(_)
            | Statement::Reset(_)
            | Statement::Discard(_)
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::DeclareCursor(_)
            | Statement::Fetch(_)
            | Statement::CloseCursor(_)
            | Statement::Explain(_)
            | Statement::Vacuum(_)
            | Statement::Checkpoint
            | Statement::LockTable(_)
    );
    match setting {
        LogStatement::None => false,
        LogStatement::All => true,
        LogStatement::Mod => !reads,
        LogStatement::Ddl => !reads && !changes,
    }
}

/// `log_statement`. True: it was logged, so a duration need not repeat the text.
pub fn statement<'a>(
    statements: impl IntoIterator<Item = &'a Statement>,
    text: &str,
    name: Option<&str>,
    settings: &SessionSettings,
) -> bool {
    if settings.log_statement == LogStatement::None {
        return false;
    }
    let log = statements
        .into_iter()
        .any(|s| wanted(s, settings.log_statement));
    if log {
        match name {
            None => tracing::info!("statement: {text}"),
            Some(name) => tracing::info!("execute {}: {text}", shown(name)),
        }
    }
    log
}

fn shown(name: &str) -> &str {
    if name.is_empty() { "<unnamed>" } else { name }
}

/// `log_duration` and `log_min_duration_statement`.
pub fn duration(
    micros: i64,
    text: &str,
    name: Option<&str>,
    logged: bool,
    settings: &SessionSettings,
) {
    let slow = settings
        .log_min_duration_statement
        .is_some_and(|least| i128::from(micros) >= i128::try_from(least.as_micros()).unwrap_or(0));
    if !slow && !settings.log_duration {
        return;
    }
    let ms = micros as f64 / 1000.0;
    match (slow && !logged, name) {
        (false, _) => tracing::info!("duration: {ms:.3} ms"),
        (true, None) => tracing::info!("duration: {ms:.3} ms  statement: {text}"),
        (true, Some(name)) => {
            tracing::info!("duration: {ms:.3} ms  execute {}: {text}", shown(name));
        }
    }
}
