//! One session: sends statements, shows what comes back, and passes on Ctrl-C as a request to cancel.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message, RowDescriptionBody};
use postgres_protocol::message::frontend;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::PROGRAM;
use super::input::Input;
use super::report::Report;
use super::table::{Column, Format, Table};
use crate::replication::client::Connection;
use crate::replication::error::ReplicationError;

/// A transaction block as the server last said of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    None,
    Open,
    Failed,
}

/// Why the session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(
        "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request."
    )]
    Closed,
    #[error("{0}")]
    Lost(ReplicationError),
    #[error("could not write the output: {0}")]
    Output(io::Error),
    #[error("could not listen to signals: {0}")]
    Signals(io::Error),
}

impl From<ReplicationError> for SessionError {
    fn from(error: ReplicationError) -> SessionError {
        match error {
            ReplicationError::Closed => SessionError::Closed,
            ReplicationError::Lost(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                SessionError::Closed
            }
            other => SessionError::Lost(other),
        }
    }
}

pub struct Session {
    connection: Connection,
    interrupts: Signal,
    pub format: Format,
    /// Without what commands are called that were done.
    pub is_quiet: bool,
    /// The file that is read, and its line: before each error and notice.
    pub place: Option<(String, usize)>,
    pub block: Block,
}

impl Session {
    pub fn new(connection: Connection, format: Format) -> Result<Session, SessionError> {
        Ok(Session {
            connection,
            interrupts: signal(SignalKind::interrupt()).map_err(SessionError::Signals)?,
            format,
            is_quiet: false,
            place: None,
            block: Block::None,
        })
    }

    /// Host and port as connected.
    pub fn peer(&self) -> &(String, u16) {
        &self.connection.peer
    }

    /// A setting that the server reports.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = &self.connection.facts.parameters;
        parameters.get(name).map(String::as_str)
    }

    /// Ctrl-C while nothing runs.
    pub async fn interrupted(&mut self) {
        self.interrupts.recv().await;
    }

    /// Runs a text of one or several statements and shows what each answers; false if one failed. Data that it asks for
    /// is taken from `input`.
    pub async fn run(&mut self, text: &str, input: &mut Input) -> Result<bool, SessionError> {
        // Where a query is broken off by a zero byte, what the server saw is not what was meant.
        if text.contains('\0') {
            self.complain("a zero byte cannot be sent within a statement\n");
            return Ok(false);
        }
        self.connection
            .send(|out| frontend::query(text, out))
            .await?;
        let mut answer = Answer::default();
        loop {
            match self.next().await? {
                Message::RowDescription(body) => answer.table = Some(table_of(&body)?),
                Message::DataRow(body) => {
                    if let Some(table) = &mut answer.table {
                        table.rows.push(row_of(&body)?);
                    }
                }
                Message::CommandComplete(body) => {
                    let tag = body.tag().unwrap_or_default().to_owned();
                    self.complete(&mut answer, &tag)?;
                }
                Message::ErrorResponse(body) => {
                    let report = Report::of(body.fields());
                    answer.failed = true;
                    answer.table = None;
                    self.complain(&report.text(text, true));
                    if report.is_fatal() {
                        self.drain().await;
                        return Err(SessionError::Closed);
                    }
                }
                Message::NoticeResponse(body) => {
                    let report = Report::of(body.fields());
                    self.complain(&report.text(text, false));
                }
                Message::CopyOutResponse(_) => self.copy_out(&mut answer).await?,
                Message::CopyInResponse(_) => {
                    self.copy_in(input).await?;
                    if let Some((_, line)) = &mut self.place {
                        *line = input.count;
                    }
                }
                Message::ReadyForQuery(body) => {
                    self.block = match body.status() {
                        b'T' => Block::Open,
                        b'E' => Block::Failed,
                        _ => Block::None,
                    };
                    return Ok(!answer.failed);
                }
                _ => {}
            }
        }
    }

    /// The next message; Ctrl-C meanwhile asks the server to cancel, whose answer comes as an error.
    async fn next(&mut self) -> Result<Message, SessionError> {
        loop {
            tokio::select! {
                message = self.connection.any_message() => return Ok(message?),
                _ = self.interrupts.recv() => self.cancel().await,
            }
        }
    }

    /// On a connection of its own, which the server closes without a word (manual, 55.2.8).
    async fn cancel(&self) {
        let Some((process, secret)) = self.connection.facts.backend else {
            return;
        };
        let mut request = BytesMut::new();
        frontend::cancel_request(process, secret, &mut request);
        let (host, port) = self.connection.peer.clone();
        let sent = tokio::task::spawn_blocking(move || send_cancel(&host, port, &request)).await;
        if let Ok(Err(error)) = sent {
            self.complain(&format!("Could not send cancel request: {error}\n"));
        } else {
            self.complain("Cancel request sent\n");
        }
    }

    fn complete(&mut self, answer: &mut Answer, tag: &str) -> Result<(), SessionError> {
        let table = answer.table.take();
        let is_shown = table.is_some();
        if let Some(table) = table {
            print(&table.show(&self.format))?;
        }
        let changes_rows = ["INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|command| tag.starts_with(command));
        let copied_out = std::mem::take(&mut answer.copied_out);
        if !self.is_quiet && !copied_out && (!is_shown || changes_rows) {
            print(&format!("{tag}\n"))?;
        }
        Ok(())
    }

    async fn copy_out(&mut self, answer: &mut Answer) -> Result<(), SessionError> {
        answer.copied_out = true;
        loop {
            match self.next().await? {
                Message::CopyData(body) => print_bytes(body.data())?,
                Message::CopyDone => return Ok(()),
                Message::ErrorResponse(body) => {
                    answer.failed = true;
                    self.complain(&Report::of(body.fields()).text("", true));
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Sends lines up to `\.` or the end. What the server has against them it says when it has read on.
    async fn copy_in(&mut self, input: &mut Input) -> Result<(), SessionError> {
        if input.is_terminal() && !self.is_quiet {
            print(
                "Enter data to be copied followed by a newline.\nEnd with a backslash and a period on a line by itself, or an EOF signal.\n",
            )?;
        }
        let mut waiting = Vec::new();
        loop {
            if input.is_terminal() {
                print(">> ")?;
            }
            let line = tokio::select! {
                line = input.line() => line,
                _ = self.interrupts.recv() => {
                    let why = "canceled by user";
                    self.connection.send(|out| frontend::copy_fail(why, out)).await?;
                    return Ok(());
                }
            };
            match line {
                Some(line) if line.trim_ascii_end() != b"\\." => {
                    waiting.extend_from_slice(&line);
                    if waiting.len() >= 1 << 16 {
                        self.send_data(&mut waiting).await?;
                    }
                }
                _ => break,
            }
        }
        self.send_data(&mut waiting).await?;
        self.connection
            .send(|out| {
                frontend::copy_done(out);
                Ok(())
            })
            .await?;
        Ok(())
    }

    async fn send_data(&mut self, waiting: &mut Vec<u8>) -> Result<(), SessionError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(waiting);
        self.connection
            .send_copy_data(|out| out.put_slice(&data))
            .await?;
        Ok(())
    }

    /// What a server that ends the session still has to say.
    async fn drain(&mut self) {
        let rest = async {
            while let Ok(message) = self.connection.any_message().await {
                if let Message::ErrorResponse(body) = message {
                    eprint_all(&Report::of(body.fields()).text("", true));
                }
            }
        };
        // It closes the connection at once, or is no more to be waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    }

    /// To stderr, with the place in the file that is read.
    pub fn complain(&self, text: &str) {
        eprint_all(&format!("{}{text}", self.locus()));
    }

    /// The place in the file that is read, as psql puts it before a complaint.
    pub fn locus(&self) -> String {
        match &self.place {
            Some((file, line)) => format!("{PROGRAM}:{file}:{line}: "),
            None => String::new(),
        }
    }
}

/// What has come of the statement that is being answered, and of the text as a whole.
#[derive(Default)]
struct Answer {
    table: Option<Table>,
    copied_out: bool,
    failed: bool,
}

fn table_of(body: &RowDescriptionBody) -> Result<Table, SessionError> {
    let columns = body
        .fields()
        .map(|field| Ok(Column::new(field.name(), field.type_oid())))
        .collect()
        .map_err(malformed)?;
    Ok(Table {
        columns,
        rows: Vec::new(),
    })
}

fn row_of(body: &DataRowBody) -> Result<Vec<String>, SessionError> {
    let buffer = body.buffer();
    body.ranges()
        .map(|range| {
            let bytes = range.map(|range| &buffer[range]).unwrap_or_default();
            Ok(String::from_utf8_lossy(bytes).into_owned())
        })
        .collect()
        .map_err(malformed)
}

fn malformed(error: io::Error) -> SessionError {
    SessionError::Lost(ReplicationError::Protocol(error.to_string()))
}

fn send_cancel(host: &str, port: u16, request: &[u8]) -> io::Result<()> {
    if host.starts_with('/') {
        UnixStream::connect(format!("{host}/.s.PGSQL.{port}"))?.write_all(request)
    } else {
        std::net::TcpStream::connect((host, port))?.write_all(request)
    }
}

pub fn print(text: &str) -> Result<(), SessionError> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), SessionError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(SessionError::Output)
}

/// Where complaints can not be written there is nobody to complain to.
pub fn eprint_all(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
