//! The life of a session after start-up: messages in, calls of the session, messages out.
//!
//! One flush for each Sync (or simple query, or Flush, or full buffer), whatever was pipelined before it. After an
//! error in the extended protocol everything up to the next Sync is skipped. While the session waits for its client it
//! also waits for interrupts, so that a shutdown or an idle time-out can speak first.

use crate::config::conf_file::os_message;
use crate::sql::error::{SqlError, state};
use crate::sql::session::BindRequest;
use crate::sql::session::output::{Formats, Output};
use crate::txn::interrupt::{Interrupt, Interrupts};

use super::connection::{Connection, FULL, ReadError};
use super::host::Statements;
use super::output::protocol_error;
use super::protocol::ProtocolError;
use super::protocol::backend;
use super::protocol::frontend::{Bind, Frame, Message, Target};

/// How the loop ended.
#[derive(Debug)]
pub enum End {
    /// Terminate.
    Left,
    /// The stream ended, perhaps in the middle of a message, which is what the text says then.
    Gone(Option<String>),
    /// The client was told (if it still listens).
    Fatal(SqlError),
}

/// What one message led to.
enum Next {
    Continue,
    /// ReadyForQuery is due.
    Ready,
    Leave,
}

pub async fn run<S: Statements>(
    connection: &mut Connection,
    session: &mut S,
    interrupts: &Interrupts,
) -> End {
    let mut skipping = false;
    ready(connection, session);
    loop {
        if let Some(interrupt) = told_to_end(interrupts) {
            return fatal(connection, interrupted(interrupt)).await;
        }
        let frame = match next_frame(connection, session, interrupts).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return End::Gone(None),
            Err(Stop::Gone(why)) => return End::Gone(Some(why)),
            Err(Stop::Fatal(e)) => return fatal(connection, e).await,
        };
        if skipping && !matches!(frame.tag, b'S' | b'X') {
            continue;
        }
        match handle(&frame, connection, session, &mut skipping).await {
            Ok(Next::Continue) => {}
            Ok(Next::Ready) => ready(connection, session),
            Ok(Next::Leave) => return End::Left,
            Err(e) => return fatal(connection, e).await,
        }
        if connection.output.len() >= FULL
            && let Err(e) = connection.flush_unless_ended().await
        {
            return End::Gone(Some(not_sent(&e)));
        }
    }
}

/// What ends the session and came while messages were dealt with: a client that always has one more ready would never be
/// waited for. What is meant for a statement is left for it.
fn told_to_end(interrupts: &Interrupts) -> Option<Interrupt> {
    if !interrupts.is_pending() {
        return None;
    }
    match interrupts.check() {
        Ok(()) => None,
        Err(interrupt) if interrupt.ends_session() => Some(interrupt),
        Err(interrupt) => {
            interrupts.raise(interrupt);
            None
        }
    }
}

enum Stop {
    Gone(String),
    Fatal(SqlError),
}

/// The next message: what is buffered first, else everything is flushed and the client waited for.
async fn next_frame<S: Statements>(
    connection: &mut Connection,
    session: &mut S,
    interrupts: &Interrupts,
) -> Result<Option<Frame>, Stop> {
    match connection.buffered_frame() {
        Ok(Some(frame)) => return Ok(Some(frame)),
        Ok(None) => {}
        Err(e) => return Err(Stop::Fatal(protocol_error(&e))),
    }
    match connection.flush_unless_ended().await {
        Ok(()) => {}
        // Told below, if the client still listens.
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
        Err(e) => return Err(Stop::Gone(not_sent(&e))),
    }
    connection.shrink();
    session.rests();
    let mut timed_out = false;
    let result = loop {
        tokio::select! {
            biased;
            frame = connection.frame(None) => break match frame {
                Ok(frame) => Ok(frame),
                Err(ReadError::Protocol(e)) => Err(Stop::Fatal(protocol_error(&e))),
                Err(ReadError::Io(e)) => Err(Stop::Gone(format!(
                    "could not receive data from client: {}",
                    os_message(&e)
                ))),
                Err(ReadError::Cut) => Err(Stop::Gone(cut_off(connection.unread()))),
            },
            interrupt = interrupts.wait() => {
                // A cancel that finds nothing running is nothing; what a transaction holds against replay while its
                // client makes up its mind it gives up only by ending.
                let in_the_way = matches!(interrupt, Interrupt::RecoveryConflict(_));
                if interrupt.ends_session() || (in_the_way && session.has_transaction()) {
                    break Err(Stop::Fatal(interrupted(interrupt)));
                }
                timed_out |= interrupt == Interrupt::StatementTimeout;
            }
        }
    };
    session.wakes();
    if timed_out {
        // The clock of a pipeline runs while its next message is waited for, and that one hears of it.
        interrupts.raise(Interrupt::StatementTimeout);
    }
    result
}

fn not_sent(e: &std::io::Error) -> String {
    format!("could not send data to client: {}", os_message(e))
}

/// How far the client came with its last message, as PostgreSQL words it.
fn cut_off(bytes: usize) -> String {
    if bytes < 5 {
        "unexpected EOF within message length word".to_owned()
    } else {
        "incomplete message from client".to_owned()
    }
}

/// An interrupt that ends the session, as the client is told.
fn interrupted(interrupt: Interrupt) -> SqlError {
    let mut e = SqlError::from(interrupt);
    e.severity = crate::sql::error::Severity::Fatal;
    if let Interrupt::RecoveryConflict(_) = interrupt {
        e.ends_by_recovery();
    }
    e
}

async fn fatal(connection: &mut Connection, e: SqlError) -> End {
    backend::error_response(&mut connection.output, &e);
    connection.flush_at_last().await;
    End::Fatal(e)
}

fn ready<S: Statements>(connection: &mut Connection, session: &mut S) {
    session.report_settings(connection);
    backend::ready_for_query(&mut connection.output, session.status());
}

/// Deals with one message. `Err` ends the session; an error that does not has been sent.
async fn handle<S: Statements>(
    frame: &Frame,
    c: &mut Connection,
    session: &mut S,
    skipping: &mut bool,
) -> Result<Next, SqlError> {
    // What is left of a COPY that failed on our side, whatever is in it.
    if matches!(frame.tag, b'd' | b'c' | b'f') {
        return Ok(Next::Continue);
    }
    let message = match frame.message() {
        Ok(message) => message,
        Err(e) => return malformed(&e, frame.tag, c, session, skipping).await,
    };
    let done = match message {
        Message::Query(text) => {
            *skipping = false;
            session.simple(text, c).await?;
            return Ok(Next::Ready);
        }
        Message::Sync => {
            *skipping = false;
            if let Err(e) = session.sync(c).await {
                report(c, e)?;
            }
            return Ok(Next::Ready);
        }
        Message::Terminate => return Ok(Next::Leave),
        Message::Flush => {
            c.flush_unless_ended().await.map_err(|_| gone())?;
            Ok(())
        }
        Message::FunctionCall => {
            session.failed(false).await;
            report(
                c,
                SqlError::unsupported("the function call protocol is not implemented")
                    .hint("Call the function with SELECT."),
            )?;
            return Ok(Next::Ready);
        }
        Message::Password(_) => {
            return Err(protocol_error(&ProtocolError::UnknownType(b'p')));
        }
        other => extended(other, c, session).await,
    };
    if let Err(e) = done {
        *skipping = true;
        report(c, e)?;
    }
    Ok(Next::Continue)
}

fn gone() -> SqlError {
    SqlError::fatal(state::CONNECTION_FAILURE, "connection to client lost")
}

/// Sends an error that the session outlives; gives back one that it does not.
fn report(c: &mut Connection, e: SqlError) -> Result<(), SqlError> {
    if e.severity >= crate::sql::error::Severity::Fatal {
        return Err(e);
    }
    c.error(&e);
    Ok(())
}

/// A message whose fields are wrong fails like a statement: the stream itself is still in step.
async fn malformed<S: Statements>(
    e: &ProtocolError,
    tag: u8,
    c: &mut Connection,
    session: &mut S,
    skipping: &mut bool,
) -> Result<Next, SqlError> {
    let error = protocol_error(e);
    super::log::sql_error(&error, None);
    *skipping = !matches!(tag, b'Q' | b'S');
    session.failed(*skipping).await;
    report(c, error)?;
    Ok(if *skipping {
        Next::Continue
    } else {
        Next::Ready
    })
}

async fn extended<S: Statements>(
    message: Message<'_>,
    c: &mut Connection,
    session: &mut S,
) -> Result<(), SqlError> {
    match message {
        Message::Parse { name, query, types } => {
            let types = types.iter().map(crate::ids::Oid::new).collect();
            session.parse(name, query, types, c).await?;
            backend::parse_complete(&mut c.output);
        }
        Message::Bind(bind) => {
            let request = request(&bind, session).await?;
            session.bind(request, c).await?;
            backend::bind_complete(&mut c.output);
        }
        Message::Describe {
            target: Target::Statement,
            name,
        } => {
            session.describe_statement(name, c).await?;
        }
        Message::Describe {
            target: Target::Portal,
            name,
        } => {
            session.describe_portal(name, c).await?;
        }
        Message::Execute { portal, max_rows } => session.execute(portal, max_rows, c).await?,
        Message::Close { target, name } => {
            match target {
                Target::Statement => session.close_statement(name),
                Target::Portal => session.close_portal(name),
            }
            backend::close_complete(&mut c.output);
        }
        _ => unreachable!("handle() deals with every other message"),
    }
    Ok(())
}

async fn request<'a, S: Statements>(
    bind: &Bind<'a>,
    session: &mut S,
) -> Result<BindRequest<'a>, SqlError> {
    let formats = bind.parameter_formats.formats().and_then(|p| {
        bind.result_formats
            .formats()
            .map(|r| (Formats::new(p), Formats::new(r)))
    });
    match formats {
        Ok((parameter_formats, result_formats)) => Ok(BindRequest {
            portal: bind.portal,
            statement: bind.statement,
            parameter_formats,
            parameters: bind.parameters.iter().collect(),
            result_formats,
        }),
        Err(e) => {
            session.failed(true).await;
            Err(protocol_error(&e))
        }
    }
}
