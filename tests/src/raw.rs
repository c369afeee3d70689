//! The protocol as bytes: messages made by hand, right and wrong, and what comes back in short form.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A message with its type and length.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A header that announces `length`, itself counted, and nothing behind it.
pub fn header(tag: u8, length: u32) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&length.to_be_bytes());
    out
}

/// A packet without a type, as they stand before the session.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub const PROTOCOL_3: u32 = 196_608;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSSENC_REQUEST: u32 = 80_877_104;
pub const CANCEL_REQUEST: u32 = 80_877_102;

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    packet(PROTOCOL_3, &body)
}

/// As `postgres` in `postgres`.
pub fn usual_startup() -> Vec<u8> {
    startup(&[("user", "postgres"), ("database", "postgres")])
}

pub fn query(sql: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'Q', &[sql.as_ref(), b"\0"].concat())
}

pub fn parse(name: &str, sql: impl AsRef<[u8]>, types: &[u32]) -> Vec<u8> {
    let mut body = [name.as_bytes(), b"\0", sql.as_ref(), b"\0"].concat();
    body.extend_from_slice(&(types.len() as u16).to_be_bytes());
    types
        .iter()
        .for_each(|t| body.extend_from_slice(&t.to_be_bytes()));
    frame(b'P', &body)
}

/// Parameters all in `format`.
pub fn bind(portal: &str, statement: &str, format: u16, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0"].concat();
    body.extend_from_slice(&1u16.to_be_bytes());
    body.extend_from_slice(&format.to_be_bytes());
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(bytes) => {
                body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                body.extend_from_slice(bytes);
            }
        }
    }
    body.extend_from_slice(&0u16.to_be_bytes());
    frame(b'B', &body)
}

pub fn execute(portal: &str, rows: i32) -> Vec<u8> {
    frame(
        b'E',
        &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat(),
    )
}

pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[&[kind], name.as_bytes(), b"\0"].concat())
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    /// Nothing came for the time that was given.
    Quiet,
    /// So many ReadyForQuery messages came.
    Ready,
}

/// One message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Reply {
    /// A field of an error or a notice.
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|b| *b == 0)
            .find(|f| f.first() == Some(&code))
            .map(|f| String::from_utf8_lossy(&f[1..]).into_owned())
    }

    /// The tag; with severity and SQLSTATE, command tag, or transaction state where there is one.
    pub fn short(&self) -> String {
        let text = || {
            String::from_utf8_lossy(&self.body)
                .trim_end_matches('\0')
                .to_owned()
        };
        match self.tag {
            b'E' | b'N' => format!(
                "{}({} {})",
                char::from(self.tag),
                self.field(b'V').unwrap_or_default(),
                self.field(b'C').unwrap_or_default()
            ),
            b'C' | b'Z' => format!("{}({})", char::from(self.tag), text()),
            tag => char::from(tag).to_string(),
        }
    }
}

/// A socket and what came over it.
pub struct Raw {
    pub stream: TcpStream,
    /// The encrypted layer, once [`Raw::encrypt`] has made it.
    tls: Option<Box<rustls::ClientConnection>>,
    incoming: Vec<u8>,
}

impl Raw {
    pub fn connect(port: u16) -> io::Result<Raw> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Raw {
            stream,
            tls: None,
            incoming: Vec::new(),
        })
    }

    /// Connected and encrypted; any certificate will do.
    pub fn encrypted(port: u16) -> io::Result<Raw> {
        let mut raw = Raw::connect(port)?;
        raw.send(&packet(SSL_REQUEST, b""))?;
        match raw.byte()? {
            b'S' => raw.encrypt()?,
            other => return Err(io::Error::other(format!("SSLRequest got {other}"))),
        }
        Ok(raw)
    }

    /// The handshake, on whatever was said before.
    pub fn encrypt(&mut self) -> io::Result<()> {
        self.stream
            .set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut tls = Box::new(crate::certificates::trusting_client());
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// Connected and ready for queries.
    pub fn session(port: u16) -> io::Result<Raw> {
        Raw::connect(port)?.begun()
    }

    /// Ready for queries, as `postgres`.
    pub fn begun(self) -> io::Result<Raw> {
        let mut raw = self;
        raw.send(&usual_startup())?;
        let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
        match end {
            End::Ready => Ok(raw),
            _ => Err(io::Error::other(format!(
                "{end:?} after {}",
                short(&replies)
            ))),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => {
                let mut tls = rustls::Stream::new(&mut **tls, &mut self.stream);
                tls.write_all(bytes)?;
                tls.flush()
            }
        }
    }

    /// Sends what the other side takes; it may close at any moment.
    pub fn push(&mut self, bytes: &[u8]) {
        let _ = self.stream.set_write_timeout(Some(Duration::from_secs(5)));
        let _ = self.send(bytes);
    }

    pub fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Bytes without a message's frame: the answers to requests for encryption.
    pub fn byte(&mut self) -> io::Result<u8> {
        self.stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// Reads until the server closes or is quiet for `patience`.
    pub fn rest(&mut self, patience: Duration) -> (Vec<Reply>, End) {
        self.until_ready(usize::MAX, patience)
    }

    /// Reads to the end. Whether the encrypted layer itself said that this is the end: without that word it may have
    /// been cut by anybody.
    pub fn ends_with_a_word(&mut self, patience: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(patience));
        let mut rest = Vec::new();
        self.tls.as_mut().is_some_and(|tls| {
            rustls::Stream::new(&mut **tls, &mut self.stream)
                .read_to_end(&mut rest)
                .is_ok()
        })
    }

    pub fn until_ready(&mut self, times: usize, patience: Duration) -> (Vec<Reply>, End) {
        let mut replies = Vec::new();
        let mut ready = 0;
        loop {
            while let Some(reply) = self.whole() {
                ready += usize::from(reply.tag == b'Z');
                replies.push(reply);
                if ready == times {
                    return (replies, End::Ready);
                }
            }
            if let Some(end) = self.fill(patience) {
                return (replies, end);
            }
        }
    }

    /// Reads up to the first message of this kind, or to whatever ends it before.
    pub fn until_tag(&mut self, tag: u8, patience: Duration) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            while let Some(reply) = self.whole() {
                let last = reply.tag == tag;
                replies.push(reply);
                if last {
                    return replies;
                }
            }
            if self.fill(patience).is_some() {
                return replies;
            }
        }
    }

    fn whole(&mut self) -> Option<Reply> {
        let length = self.incoming.get(1..5)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if self.incoming.len() < length + 1 {
            return None;
        }
        let reply = Reply {
            tag: self.incoming[0],
            body: self.incoming[5..=length].to_vec(),
        };
        self.incoming.drain(..=length);
        Some(reply)
    }

    fn fill(&mut self, patience: Duration) -> Option<End> {
        let until = Instant::now() + patience;
        let mut chunk = [0; 16 << 10];
        let _ = self.stream.set_read_timeout(Some(patience));
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(&mut chunk),
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut chunk),
            };
            match read {
                Ok(0) => return Some(End::Closed),
                Ok(n) => {
                    self.incoming.extend_from_slice(&chunk[..n]);
                    return None;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted && Instant::now() < until => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Some(End::Quiet);
                }
                Err(_) => return Some(End::Closed),
            }
        }
    }
}

/// All of them on one line.
pub fn short(replies: &[Reply]) -> String {
    let all: Vec<String> = replies.iter().map(Reply::short).collect();
    all.join(" ")
}

/// In short form, with the types of parameters in full.
pub fn shown(replies: &[Reply]) -> String {
    let one = |reply: &Reply| match reply.tag {
        b't' => format!("t{:?}", reply.body),
        _ => reply.short(),
    };
    replies.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// What a new session is answered with that sends all this and nothing more.
pub fn answer(port: u16, messages: &[u8]) -> (String, End) {
    let mut raw = Raw::session(port).expect("it answers");
    raw.push(messages);
    raw.finish_sending();
    let (replies, end) = raw.rest(Duration::from_secs(30));
    (shown(&replies), end)
}

/// Parse and Bind.
pub fn prepared(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", 0, &[])].concat()
}

/// What it is about, and its messages.
pub type Case = (&'static str, Vec<Vec<u8>>);

/// The cases that two servers answer differently, in words.
pub fn differing(cases: Vec<Case>, theirs: u16, ours: u16) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, mut messages) in cases {
        messages.push(sync());
        messages.push(query("SELECT 1"));
        let bytes = messages.concat();
        let (theirs, own) = (answer(theirs, &bytes), answer(ours, &bytes));
        if own != theirs {
            wrong.push(format!(
                "{name}:\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
    }
    wrong
}
