//! Answers of a replication connection: row sets, ends of commands, errors, copy framing.
//!
//! The connection itself belongs to `server`; it is seen here through [`Link`].

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::Oid;
use crate::types::oids;

/// The client's end of a walsender connection.
pub trait Link: Send {
    /// Bytes to be sent at the next [`Link::flush`].
    fn out(&mut self) -> &mut BytesMut;
    /// Sends everything. While it waits for the socket it goes on reading, so that two full directions can't
    /// block each other.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// The next message, its type and body; `None` at the end of the connection. Cancel safe.
    fn receive(&mut self) -> impl Future<Output = io::Result<Option<(u8, Bytes)>>> + Send;
}

/// An error that the client sees and after which the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub state: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl CommandError {
    pub fn new(state: &'static str, message: impl Into<String>) -> CommandError {
        CommandError {
            state,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> CommandError {
        self.detail = Some(detail.into());
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hint = Some(hint.into());
        self
    }
}

/// Why serving a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The connection is of no more use; the client is told if it still listens.
    #[error("{0}")]
    Fatal(CommandError),
    #[error("connection to client lost: {0}")]
    Lost(#[from] io::Error),
    #[error("unexpected EOF on standby connection")]
    Closed,
    /// The server stops: what was to be said has been said.
    #[error("the server stops")]
    Ended,
}

/// A message whose length is filled in when its body is written.
pub fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).expect("replies are far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// `RowDescription` in text format.
pub fn columns(out: &mut BytesMut, columns: &[(&str, Oid)]) {
    message(out, b'T', |out| {
        out.put_i16(i16::try_from(columns.len()).expect("few columns"));
        for (name, ty) in columns {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(ty.raw());
            out.put_i16(match *ty {
                oids::INT4 => 4,
                oids::INT8 => 8,
                oids::OID => 4,
                _ => -1,
            });
            out.put_i32(-1);
            out.put_i16(0);
        }
    });
}

/// `DataRow` of values in text form.
pub fn row(out: &mut BytesMut, values: &[Option<&str>]) {
    message(out, b'D', |out| {
        out.put_i16(i16::try_from(values.len()).expect("few columns"));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(text) => {
                    out.put_i32(i32::try_from(text.len()).expect("values are short"));
                    out.put_slice(text.as_bytes());
                }
            }
        }
    });
}

/// `CommandComplete`
pub fn complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| {
        out.put_slice(tag.as_bytes());
        out.put_u8(0);
    });
}

/// `CopyBothResponse` (`W`) or `CopyOutResponse` (`H`): no columns, text format.
pub fn copy_response(out: &mut BytesMut, kind: u8) {
    message(out, kind, |out| {
        out.put_u8(0);
        out.put_i16(0);
    });
}

pub fn copy_data(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    message(out, b'd', body);
}

pub fn copy_done(out: &mut BytesMut) {
    message(out, b'c', |_| {});
}
