//! The client's side of a replication connection: commands, CopyBoth. How there comes to be one is `connect`'s.
//!
//! Used by the walreceiver, by `understudy basebackup` and, connected to a database, by `understudy sql`. Message framing is `postgres-protocol`'s;
//! it does not know CopyBothResponse, which is handled here. Nothing read from the network is trusted: lengths
//! are bounded before anything is allocated for them.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ids::Term;
use crate::replication::error::ReplicationError;

/// No message of a well-behaved sender is longer: a base backup's chunks and WAL messages are under 1 MiB.
const MAX_MESSAGE: usize = 64 << 20;
const COPY_BOTH_RESPONSE: u8 = b'W';

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One answered row of a replication command: values in text form.
pub type Row = Vec<Option<String>>;

/// What a connection says of itself in the start-up packet beyond `primary_conninfo`.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Used where the connection string names none.
    pub application_name: String,
    /// `-c name=value` pairs appended to `options`.
    pub options: Vec<(String, String)>,
    /// The database of an ordinary session; `None` is a replication connection.
    pub database: Option<String>,
}

/// What authentication has to know of the encrypted layer.
#[derive(Debug)]
pub(super) struct Encryption {
    /// The server certificate's hash for channel binding, where its kind has one.
    pub end_point: Option<Vec<u8>>,
}

/// A replication connection that is idle, in a command, or in CopyBoth.
pub struct Connection {
    pub(super) stream: Box<dyn Stream>,
    pub(super) incoming: BytesMut,
    pub(super) outgoing: BytesMut,
    /// `None`: not encrypted.
    pub(super) encryption: Option<Encryption>,
    /// Host and port as connected, for `pg_stat_wal_receiver`.
    pub peer: (String, u16),
    pub facts: SessionFacts,
}

/// What the server says of a session besides its answers.
#[derive(Debug, Clone, Default)]
pub struct SessionFacts {
    /// The settings that it reports, as they are now.
    pub parameters: BTreeMap<String, String>,
    /// `None` on a replication connection.
    pub database: Option<String>,
    /// Process id and secret: what a cancel request names.
    pub backend: Option<(i32, i32)>,
}

impl SessionFacts {
    fn note(&mut self, message: &Message) {
        match message {
            Message::ParameterStatus(body) => {
                if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                    self.parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            Message::BackendKeyData(body) => {
                self.backend = Some((body.process_id(), body.secret_key()));
            }
            _ => {}
        }
    }
}

/// A message while in CopyBoth or CopyOut.
#[derive(Debug)]
pub enum CopyEvent {
    Data(Bytes),
    Done,
}

impl Connection {
    pub(super) async fn until_ready(&mut self) -> Result<(), ReplicationError> {
        loop {
            if let Message::ReadyForQuery(_) = self.message().await? {
                return Ok(());
            }
        }
    }

    /// Runs a command that answers with at most one row set, such as `IDENTIFY_SYSTEM`.
    pub async fn command(&mut self, text: &str) -> Result<Vec<Row>, ReplicationError> {
        frontend::query(text, &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        self.rows_until_ready().await
    }

    async fn rows_until_ready(&mut self) -> Result<Vec<Row>, ReplicationError> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message_or_error().await? {
                Ok(Message::DataRow(body)) => rows.push(decode_row(&body)?),
                Ok(Message::ReadyForQuery(_)) => {
                    return failed.map_or(Ok(rows), Err);
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
    }

    /// The highest term that a managed server has promised.
    pub async fn promised_term(&mut self) -> Result<Term, ReplicationError> {
        let rows = self.command("SHOW understudy.term").await?;
        rows.first()
            .and_then(|row| row.first()?.as_deref()?.parse().ok())
            .map(Term::new)
            .ok_or_else(|| {
                ReplicationError::Protocol("the upstream is not managed by an operator".to_owned())
            })
    }

    /// Sends a command that begins CopyBoth (`START_REPLICATION`). With `None` the server had nothing on that
    /// timeline: the rows say which comes next.
    pub async fn start_copy_both(
        &mut self,
        text: &str,
    ) -> Result<Option<Vec<Row>>, ReplicationError> {
        frontend::query(text, &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        let mut rows = Vec::new();
        loop {
            let (tag, frame) = self.frame().await?;
            if tag == COPY_BOTH_RESPONSE {
                return Ok(None);
            }
            match parse(frame)? {
                Message::DataRow(body) => rows.push(decode_row(&body)?),
                Message::ReadyForQuery(_) => return Ok(Some(rows)),
                Message::ErrorResponse(body) => {
                    let error = upstream_error(&body);
                    self.until_ready().await?;
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    /// Sends a command that begins CopyOut (`BASE_BACKUP`), and gives the row sets before the first copy.
    pub async fn send_command(&mut self, text: &str) -> Result<(), ReplicationError> {
        frontend::query(text, &mut self.outgoing).map_err(protocol)?;
        self.flush().await
    }

    /// The next message of a command whose shape the caller knows; errors of the server are errors.
    pub async fn message(&mut self) -> Result<Message, ReplicationError> {
        self.message_or_error().await?
    }

    async fn message_or_error(
        &mut self,
    ) -> Result<Result<Message, ReplicationError>, ReplicationError> {
        loop {
            match self.any_message().await? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::ErrorResponse(body) => return Ok(Err(upstream_error(&body))),
                message => return Ok(Ok(message)),
            }
        }
    }

    /// The next message, whatever it is: errors and notices are messages. Cancel safe.
    pub async fn any_message(&mut self) -> Result<Message, ReplicationError> {
        let (_, frame) = self.frame().await?;
        let message = parse(frame)?;
        self.facts.note(&message);
        Ok(message)
    }

    /// Sends what `fill` writes.
    pub async fn send(
        &mut self,
        fill: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), ReplicationError> {
        fill(&mut self.outgoing).map_err(protocol)?;
        self.flush().await
    }

    /// The next piece of a copy. Cancel safe: a piece that was not wholly received stays buffered.
    pub async fn copy_event(&mut self) -> Result<CopyEvent, ReplicationError> {
        loop {
            let (tag, mut frame) = self.frame().await?;
            match tag {
                backend::COPY_DATA_TAG => {
                    frame.advance(5);
                    return Ok(CopyEvent::Data(frame.freeze()));
                }
                backend::COPY_DONE_TAG => return Ok(CopyEvent::Done),
                _ => match parse(frame)? {
                    Message::ErrorResponse(body) => return Err(upstream_error(&body)),
                    Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                    _ => return Err(unexpected("copy data")),
                },
            }
        }
    }

    pub async fn send_copy_data(
        &mut self,
        fill: impl FnOnce(&mut BytesMut),
    ) -> Result<(), ReplicationError> {
        let at = self.outgoing.len();
        self.outgoing
            .extend_from_slice(&[backend::COPY_DATA_TAG, 0, 0, 0, 0]);
        fill(&mut self.outgoing);
        let length = u32::try_from(self.outgoing.len() - at - 1).expect("replies are short");
        self.outgoing[at + 1..at + 5].copy_from_slice(&length.to_be_bytes());
        self.flush().await
    }

    /// Ends our side of CopyBoth; gives the rows that follow (next timeline and its start) once the server has
    /// ended its side too.
    pub async fn finish_copy_both(
        &mut self,
        server_is_done: bool,
    ) -> Result<Vec<Row>, ReplicationError> {
        frontend::copy_done(&mut self.outgoing);
        self.flush().await?;
        let mut done = server_is_done;
        while !done {
            done = matches!(self.copy_event().await?, CopyEvent::Done);
        }
        match self.rows_until_ready().await {
            // A server that stops says that the command is complete, and leaves.
            Err(ReplicationError::Closed | ReplicationError::Lost(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), ReplicationError> {
        self.stream
            .write_all(&self.outgoing)
            .await
            .map_err(ReplicationError::Lost)?;
        self.outgoing.clear();
        self.stream.flush().await.map_err(ReplicationError::Lost)
    }

    /// One whole frame, its 5-byte header included.
    async fn frame(&mut self) -> Result<(u8, BytesMut), ReplicationError> {
        loop {
            if let Some(length) = frame_length(&self.incoming)? {
                if self.incoming.len() >= length {
                    let frame = self.incoming.split_to(length);
                    return Ok((frame[0], frame));
                }
                self.incoming.reserve(length - self.incoming.len());
            } else {
                self.incoming.reserve(64 << 10);
            }
            let n = self
                .stream
                .read_buf(&mut self.incoming)
                .await
                .map_err(ReplicationError::Lost)?;
            if n == 0 {
                return Err(ReplicationError::Closed);
            }
        }
    }
}

fn frame_length(buffered: &[u8]) -> Result<Option<usize>, ReplicationError> {
    let Some(header) = backend::Header::parse(buffered).map_err(protocol)? else {
        return Ok(None);
    };
    let length =
        usize::try_from(header.len()).map_err(|e| ReplicationError::Protocol(e.to_string()))?;
    if length > MAX_MESSAGE {
        let what = format!(
            "message of type {:?} claims {length} bytes",
            char::from(header.tag())
        );
        return Err(ReplicationError::Protocol(what));
    }
    Ok(Some(length + 1))
}

fn parse(mut frame: BytesMut) -> Result<Message, ReplicationError> {
    Message::parse(&mut frame)
        .map_err(protocol)?
        .ok_or_else(|| unexpected("a whole message"))
}

fn decode_row(body: &backend::DataRowBody) -> Result<Row, ReplicationError> {
    let buffer = body.buffer();
    let value = |range: Option<std::ops::Range<usize>>| {
        Ok(range.map(|r| String::from_utf8_lossy(&buffer[r]).into_owned()))
    };
    body.ranges().map(value).collect().map_err(protocol)
}

fn upstream_error(body: &backend::ErrorResponseBody) -> ReplicationError {
    let (mut severity, mut state, mut message) = (String::new(), String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' => severity = value(),
            b'C' => state = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    ReplicationError::Upstream {
        severity,
        state,
        message,
    }
}

pub(super) fn protocol(error: io::Error) -> ReplicationError {
    ReplicationError::Protocol(error.to_string())
}

pub(super) fn unexpected(wanted: &str) -> ReplicationError {
    ReplicationError::Protocol(format!("expected {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_lengths_are_refused_before_memory_is_taken() {
        assert!(frame_length(&[b'd', 0x7F, 0xFF, 0xFF, 0xFF]).is_err());
        assert!(frame_length(&[b'd', 0, 0, 0, 3]).is_err());
        assert_eq!(frame_length(b"d").expect("short is not wrong"), None);
        assert_eq!(frame_length(&[b'd', 0, 0, 0, 4]).expect("fine"), Some(5));
    }
}
