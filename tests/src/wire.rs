//! A blocking client that keeps everything a server says: column types, tags, SQLSTATEs, notices.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

pub struct Client {
    stream: TcpStream,
    incoming: BytesMut,
}

/// A column as `RowDescription` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub modifier: i32,
}

/// An error or a notice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub severity: String,
    pub state: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// CONTEXT.
    pub context: Option<String>,
    pub position: Option<u32>,
}

impl Report {
    /// Whether it is about a value that was computed (class 22, data exception). Which values are, and in which order,
    /// is each planner's own.
    pub fn is_of_a_value(&self) -> bool {
        self.state.starts_with("22")
    }
}

/// What one statement of a simple query came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub columns: Vec<Column>,
    /// Values in text form.
    pub rows: Vec<Vec<Option<String>>>,
    pub tag: Option<String>,
    pub error: Option<Report>,
    pub notices: Vec<Report>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        Client::connect_as(port, "postgres", "postgres")
    }

    /// As [`Client::connect`], for servers that may hang: every wait for an answer, now and later, is bounded.
    pub fn connect_within(port: u16, limit: Duration) -> io::Result<Client> {
        Client::open(port, "postgres", "postgres", limit)
    }

    /// Without a password.
    pub fn connect_as(port: u16, user: &str, database: &str) -> io::Result<Client> {
        Client::open(port, user, database, Duration::from_secs(60))
    }

    fn open(port: u16, user: &str, database: &str, limit: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        let mut client = Client {
            stream,
            incoming: BytesMut::new(),
        };
        let mut out = BytesMut::new();
        frontend::startup_message([("user", user), ("database", database)], &mut out)?;
        client.stream.write_all(&out)?;
        loop {
            match client.message()? {
                Message::ReadyForQuery(_) => return Ok(client),
                Message::ErrorResponse(body) => {
                    let report = report(&mut body.fields());
                    return Err(io::Error::other(format!(
                        "{}: {}",
                        report.state, report.message
                    )));
                }
                _ => {}
            }
        }
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        self.stream
            .set_read_timeout(Some(limit))
            .expect("a duration above zero");
    }

    /// Sends a simple query without waiting for the answer.
    pub fn send(&mut self, sql: &str) -> io::Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out)?;
        self.stream.write_all(&out)
    }

    /// Reads up to the next ReadyForQuery: an answer for each statement that was run.
    pub fn answers(&mut self) -> io::Result<Vec<Answer>> {
        self.answers_with(text)
    }

    fn answers_with(&mut self, shown: impl Fn(&[u8]) -> String) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        self.read_answers(&mut answers, shown)?;
        Ok(answers)
    }

    /// The same; what came before the connection broke off (a FATAL error, say) is in `answers` too.
    pub fn answers_into(&mut self, answers: &mut Vec<Answer>) -> io::Result<()> {
        self.read_answers(answers, text)
    }

    fn read_answers(
        &mut self,
        answers: &mut Vec<Answer>,
        shown: impl Fn(&[u8]) -> String,
    ) -> io::Result<()> {
        let mut current = Answer::default();
        loop {
            match self.message()? {
                Message::RowDescription(body) => {
                    current.columns = body
                        .fields()
                        .map(|f| {
                            Ok(Column {
                                name: f.name().to_owned(),
                                type_oid: f.type_oid(),
                                modifier: f.type_modifier(),
                            })
                        })
                        .collect()?;
                }
                Message::DataRow(body) => {
                    let buffer = body.buffer();
                    let value = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|r| shown(&buffer[r])))
                    };
                    current.rows.push(body.ranges().map(value).collect()?);
                }
                Message::CommandComplete(body) => {
                    current.tag = Some(body.tag()?.to_owned());
                    answers.push(std::mem::take(&mut current));
                }
                Message::EmptyQueryResponse => answers.push(std::mem::take(&mut current)),
                Message::ErrorResponse(body) => {
                    current.error = Some(report(&mut body.fields()));
                    answers.push(std::mem::take(&mut current));
                }
                Message::NoticeResponse(body) => current.notices.push(report(&mut body.fields())),
                // A line, or whatever the server put into one message.
                Message::CopyData(body) => current.rows.push(vec![Some(shown(body.data()))]),
                Message::CopyInResponse(_) => {
                    let mut out = BytesMut::new();
                    frontend::copy_fail("the test sends no data", &mut out)?;
                    self.stream.write_all(&out)?;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }

    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Answer>> {
        self.send(sql)?;
        self.answers()
    }

    /// One statement by the extended protocol; values are in binary format, shown as hex.
    pub fn binary_query(&mut self, sql: &str) -> io::Result<Vec<Answer>> {
        let mut out = BytesMut::new();
        frontend::parse("", sql, [], &mut out)?;
        let bound = frontend::bind("", "", [], [0_u8; 0], |_, _| unreachable!(), [1], &mut out);
        bound.map_err(|_| io::Error::other("the portal could not be bound"))?;
        frontend::describe(b'P', "", &mut out)?;
        frontend::execute("", 0, &mut out)?;
        frontend::sync(&mut out);
        self.stream.write_all(&out)?;
        self.answers_with(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// One statement that must succeed; its rows.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let answers = self.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let last = answers.into_iter().next_back().unwrap_or_default();
        assert!(last.error.is_none(), "{sql}: {:?}", last.error);
        last.rows
    }

    /// One statement that must succeed and give one value.
    pub fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|r| r.first()).cloned().flatten();
        value.unwrap_or_else(|| panic!("{sql} gave {rows:?}"))
    }

    /// One statement that must fail; its SQLSTATE.
    pub fn error(&mut self, sql: &str) -> Report {
        let answers = self.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let failed = answers.into_iter().find_map(|a| a.error);
        failed.unwrap_or_else(|| panic!("{sql} succeeded"))
    }

    fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.incoming)? {
                return Ok(message);
            }
            let mut chunk = [0; 16 << 10];
            let n = match self.stream.read(&mut chunk) {
                // A socket with a time-out is not restarted after a signal, such as that of a child's end.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.incoming.extend_from_slice(&chunk[..n]);
        }
    }

    /// Raw bytes, for bad input.
    pub fn raw(&mut self) -> &mut TcpStream {
        self.incoming.advance(self.incoming.len());
        &mut self.stream
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(fields: &mut postgres_protocol::message::backend::ErrorFields<'_>) -> Report {
    let mut report = Report::default();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'V' => report.severity = value,
            b'C' => report.state = value,
            b'M' => report.message = value,
            b'D' => report.detail = Some(value),
            b'H' => report.hint = Some(value),
            b'W' => report.context = Some(value),
            b'P' => report.position = value.parse().ok(),
            _ => {}
        }
    }
    report
}
