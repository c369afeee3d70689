//! The client's side of a replication connection: connecting, authenticating, commands, CopyBoth.
//!
//! Used by the walreceiver and by `understudy basebackup`. Message framing and SCRAM are `postgres-protocol`'s;
//! it does not know CopyBothResponse, which is handled here. Nothing read from the network is trusted: lengths
//! are bounded before anything is allocated for them.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::config::conninfo::{ConnInfo, Endpoint};
use crate::ids::Term;
use crate::replication::error::ReplicationError;

/// No message of a well-behaved sender is longer: a base backup's chunks and WAL messages are under 1 MiB.
const MAX_MESSAGE: usize = 64 << 20;
const COPY_BOTH_RESPONSE: u8 = b'W';

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
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
}

/// A replication connection that is idle, in a command, or in CopyBoth.
pub struct Connection {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// Host and port as connected, for `pg_stat_wal_receiver`.
    pub peer: (String, u16),
}

/// A message while in CopyBoth or CopyOut.
#[derive(Debug)]
pub enum CopyEvent {
    Data(Bytes),
    Done,
}

impl Connection {
    /// Tries each endpoint in turn; the error is that of the last.
    pub async fn open(
        conninfo: &ConnInfo,
        identity: &Identity,
    ) -> Result<Connection, ReplicationError> {
        let invalid = |e: &dyn std::fmt::Display| ReplicationError::Connect(e.to_string());
        conninfo.check_tls().map_err(|e| invalid(&e))?;
        let endpoints = conninfo.endpoints().map_err(|e| invalid(&e))?;
        let limit = conninfo.connect_timeout().map_err(|e| invalid(&e))?;
        let limit = Duration::from_secs(limit.unwrap_or(60));
        let mut last = ReplicationError::Connect("no host to connect to".to_owned());
        for endpoint in endpoints {
            match tokio::time::timeout(limit, Connection::start(&endpoint, conninfo, identity))
                .await
            {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = ReplicationError::Connect(format!(
                        "connection to server at \"{}\", port {} failed: timeout expired",
                        endpoint.host, endpoint.port
                    ));
                }
            }
        }
        Err(last)
    }

    async fn start(
        endpoint: &Endpoint,
        conninfo: &ConnInfo,
        identity: &Identity,
    ) -> Result<Connection, ReplicationError> {
        let stream = connect(endpoint).await.map_err(|e| {
            ReplicationError::Connect(format!(
                "connection to server at \"{}\", port {} failed: {e}",
                endpoint.host, endpoint.port
            ))
        })?;
        let mut connection = Connection {
            stream,
            incoming: BytesMut::with_capacity(256 << 10),
            outgoing: BytesMut::new(),
            peer: (endpoint.host.clone(), endpoint.port),
        };
        let user = conninfo.user().map_or_else(default_user, str::to_owned);
        let options = merged_options(conninfo.get("options"), &identity.options);
        let application = conninfo
            .application_name()
            .unwrap_or(&identity.application_name);
        let mut parameters = vec![
            ("user", user.as_str()),
            ("database", "replication"),
            ("replication", "true"),
            ("application_name", application),
        ];
        if !options.is_empty() {
            parameters.push(("options", options.as_str()));
        }
        frontend::startup_message(parameters, &mut connection.outgoing).map_err(protocol)?;
        connection.flush().await?;
        connection.authenticate(&user, conninfo, endpoint).await?;
        connection.until_ready().await?;
        Ok(connection)
    }

    async fn authenticate(
        &mut self,
        user: &str,
        conninfo: &ConnInfo,
        endpoint: &Endpoint,
    ) -> Result<(), ReplicationError> {
        let password = || {
            conninfo
                .password()
                .map(str::to_owned)
                .or_else(|| std::env::var("PGPASSWORD").ok())
                .or_else(|| pass_file_entry(conninfo, endpoint, user))
                .ok_or_else(|| {
                    ReplicationError::Connect("fe_sendauth: no password supplied".to_owned())
                })
        };
        loop {
            match self.message().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?.as_bytes(), &mut self.outgoing)
                        .map_err(protocol)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password()?.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.outgoing)
                        .map_err(protocol)?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<String> = body
                        .mechanisms()
                        .map(|m| Ok(m.to_owned()))
                        .collect()
                        .map_err(protocol)?;
                    if !offered.iter().any(|m| m == SCRAM_SHA_256) {
                        let what =
                            format!("none of the server's SASL mechanisms is known: {offered:?}");
                        return Err(ReplicationError::Connect(what));
                    }
                    self.scram(password()?.as_bytes()).await?;
                    continue;
                }
                _ => {
                    let what = "authentication method is not supported".to_owned();
                    return Err(ReplicationError::Connect(what));
                }
            }
            self.flush().await?;
        }
    }

    async fn scram(&mut self, password: &[u8]) -> Result<(), ReplicationError> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.outgoing)
            .map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(unexpected("SASL continuation"));
        };
        scram.update(body.data()).map_err(protocol)?;
        frontend::sasl_response(scram.message(), &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(unexpected("SASL outcome"));
        };
        scram.finish(body.data()).map_err(protocol)
    }

    async fn until_ready(&mut self) -> Result<(), ReplicationError> {
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
            let (_, frame) = self.frame().await?;
            match parse(frame)? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::ErrorResponse(body) => return Ok(Err(upstream_error(&body))),
                message => return Ok(Ok(message)),
            }
        }
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

    async fn flush(&mut self) -> Result<(), ReplicationError> {
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

async fn connect(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    if endpoint.hostaddr.is_none() && endpoint.host.starts_with('/') {
        let path = Path::new(&endpoint.host).join(format!(".s.PGSQL.{}", endpoint.port));
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let host = endpoint.hostaddr.as_deref().unwrap_or(&endpoint.host);
    let stream = TcpStream::connect((host, endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Box::new(stream))
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

fn protocol(error: io::Error) -> ReplicationError {
    ReplicationError::Protocol(error.to_string())
}

fn unexpected(wanted: &str) -> ReplicationError {
    ReplicationError::Protocol(format!("expected {wanted}"))
}

fn default_user() -> String {
    std::env::var("PGUSER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| "postgres".to_owned())
}

/// Spaces and backslashes within a value are escaped as the server's option parser wants them.
fn merged_options(given: Option<&str>, own: &[(String, String)]) -> String {
    let mut options = given.unwrap_or_default().to_owned();
    for (name, value) in own {
        if !options.is_empty() {
            options.push(' ');
        }
        let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
        options.push_str(&format!("-c {name}={value}"));
    }
    options
}

/// The password of the first matching line of `passfile` or `~/.pgpass`. Manual, 34.16.
fn pass_file_entry(conninfo: &ConnInfo, endpoint: &Endpoint, user: &str) -> Option<String> {
    let path = conninfo
        .get("passfile")
        .map(str::to_owned)
        .or_else(|| std::env::var("PGPASSFILE").ok());
    let path = path.or_else(|| Some(format!("{}/.pgpass", std::env::var("HOME").ok()?)))?;
    let text = std::fs::read_to_string(path).ok()?;
    let host = if endpoint.host.starts_with('/') {
        "localhost"
    } else {
        &endpoint.host
    };
    let wanted = [host, &endpoint.port.to_string(), "replication", user];
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .find_map(|line| {
            let fields = split_pass_line(line);
            let matches =
                fields.len() == 5 && wanted.iter().zip(&fields).all(|(w, f)| f == "*" || f == w);
            matches.then(|| fields[4].clone())
        })
}

fn split_pass_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().expect("never empty").extend(chars.next()),
            _ => fields.last_mut().expect("never empty").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_lines_split_at_unescaped_colons() {
        assert_eq!(
            split_pass_line(r"h\:1:5432:*:u:p:w\\"),
            ["h:1", "5432", "*", "u", r"p:w\"]
        );
        assert_eq!(split_pass_line("nothing"), ["nothing"]);
    }

    #[test]
    fn options_are_appended_escaped() {
        let own = [("understudy.instance_id".to_owned(), r"a b\c".to_owned())];
        assert_eq!(
            merged_options(Some("-c x=1"), &own),
            r"-c x=1 -c understudy.instance_id=a\ b\\c"
        );
    }

    #[test]
    fn absurd_lengths_are_refused_before_memory_is_taken() {
        assert!(frame_length(&[b'd', 0x7F, 0xFF, 0xFF, 0xFF]).is_err());
        assert!(frame_length(&[b'd', 0, 0, 0, 3]).is_err());
        assert_eq!(frame_length(b"d").expect("short is not wrong"), None);
        assert_eq!(frame_length(&[b'd', 0, 0, 0, 4]).expect("fine"), Some(5));
    }
}
