//! Messages to the client, appended to one buffer that the connection flushes.

use bytes::{BufMut, BytesMut};

use super::Format;
use crate::sql::error::SqlError;

/// Appends `tag`, runs `body`, and fills the length in.
#[inline]
fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    close(out, at);
}

/// Fills in the length of the message whose length word stands at `at`.
#[inline]
fn close(out: &mut BytesMut, at: usize) {
    let length = u32::try_from(out.len() - at).expect("messages are kept below 1 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A string of the protocol ends with a zero byte, so it cannot hold one.
fn string(out: &mut BytesMut, s: &str) {
    match memchr::memchr(0, s.as_bytes()) {
        None => out.put_slice(s.as_bytes()),
        Some(at) => out.put_slice(&s.as_bytes()[..at]),
    }
    out.put_u8(0);
}

pub fn authentication_ok(out: &mut BytesMut) {
    message(out, b'R', |o| o.put_u32(0));
}

pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    message(out, b'R', |o| {
        o.put_u32(10);
        for m in mechanisms {
            string(o, m);
        }
        o.put_u8(0);
    });
}

pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    message(out, b'R', |o| {
        o.put_u32(11);
        o.put_slice(data);
    });
}

pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) {
    message(out, b'R', |o| {
        o.put_u32(12);
        o.put_slice(data);
    });
}

/// We speak 3.0 and none of the `_pq_.` options.
pub fn negotiate_protocol_version(out: &mut BytesMut, unknown: &[String]) {
    message(out, b'v', |o| {
        o.put_u32(0);
        o.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
        for name in unknown {
            string(o, name);
        }
    });
}

pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |o| {
        string(o, name);
        string(o, value);
    });
}

pub fn backend_key_data(out: &mut BytesMut, pid: u32, key: u32) {
    message(out, b'K', |o| {
        o.put_u32(pid);
        o.put_u32(key);
    });
}

/// `status`: `I` idle, `T` in a transaction block, `E` in a failed one.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |o| o.put_u8(status));
}

/// A column of a RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a str,
    pub table: u32,
    pub attribute: i16,
    pub type_oid: u32,
    pub type_size: i16,
    pub modifier: i32,
    pub format: Format,
}

pub fn row_description<'a>(out: &mut BytesMut, fields: impl ExactSizeIterator<Item = Field<'a>>) {
    message(out, b'T', |o| {
        o.put_u16(u16::try_from(fields.len()).expect("the binder bounds the columns"));
        for f in fields {
            string(o, f.name);
            o.put_u32(f.table);
            o.put_i16(f.attribute);
            o.put_u32(f.type_oid);
            o.put_i16(f.type_size);
            o.put_i32(f.modifier);
            o.put_i16(i16::from(f.format == Format::Binary));
        }
    });
}

/// A DataRow that is being written.
pub struct RowWriter<'a> {
    out: &'a mut BytesMut,
    at: usize,
}

impl<'a> RowWriter<'a> {
    #[inline]
    pub fn new(out: &'a mut BytesMut, columns: usize) -> RowWriter<'a> {
        out.put_u8(b'D');
        let at = out.len();
        out.put_u32(0);
        out.put_u16(u16::try_from(columns).expect("the binder bounds the columns"));
        RowWriter { out, at }
    }

    #[inline]
    pub fn null(&mut self) {
        self.out.put_i32(-1);
    }

    /// `write` appends the value; its length is filled in.
    #[inline]
    pub fn value(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let at = self.out.len();
        self.out.put_u32(0);
        write(self.out);
        let length = u32::try_from(self.out.len() - at - 4).expect("values are kept below 1 GiB");
        self.out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Bytes so far, to refuse a row that is too long.
    pub fn length(&self) -> usize {
        self.out.len() - self.at
    }

    #[inline]
    pub fn finish(self) {
        close(self.out, self.at);
    }

    /// Takes the row back.
    pub fn abandon(self) {
        self.out.truncate(self.at - 1);
    }
}

pub fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |o| string(o, tag));
}

pub fn empty_query(out: &mut BytesMut) {
    message(out, b'I', |_| {});
}

pub fn parse_complete(out: &mut BytesMut) {
    message(out, b'1', |_| {});
}

pub fn bind_complete(out: &mut BytesMut) {
    message(out, b'2', |_| {});
}

pub fn close_complete(out: &mut BytesMut) {
    message(out, b'3', |_| {});
}

pub fn no_data(out: &mut BytesMut) {
    message(out, b'n', |_| {});
}

pub fn portal_suspended(out: &mut BytesMut) {
    message(out, b's', |_| {});
}

pub fn parameter_description(out: &mut BytesMut, types: impl ExactSizeIterator<Item = u32>) {
    message(out, b't', |o| {
        o.put_u16(u16::try_from(types.len()).expect("parameters are numbered by 16 bits"));
        for t in types {
            o.put_u32(t);
        }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    In,
    Out,
    Both,
}

pub fn copy_response(out: &mut BytesMut, kind: CopyKind, format: Format, columns: u16) {
    let tag = match kind {
        CopyKind::In => b'G',
        CopyKind::Out => b'H',
        CopyKind::Both => b'W',
    };
    message(out, tag, |o| {
        o.put_u8(u8::from(format == Format::Binary));
        o.put_u16(columns);
        for _ in 0..columns {
            o.put_u16(u16::from(format == Format::Binary));
        }
    });
}

pub fn copy_data(out: &mut BytesMut, data: &[u8]) {
    message(out, b'd', |o| o.put_slice(data));
}

pub fn copy_done(out: &mut BytesMut) {
    message(out, b'c', |_| {});
}

pub fn error_response(out: &mut BytesMut, e: &SqlError) {
    fields(out, b'E', e);
}

pub fn notice_response(out: &mut BytesMut, e: &SqlError) {
    fields(out, b'N', e);
}

/// Manual, 55.8.
fn fields(out: &mut BytesMut, tag: u8, e: &SqlError) {
    message(out, tag, |o| {
        let mut field = |code: u8, text: &str| {
            o.put_u8(code);
            string(o, text);
        };
        field(b'S', e.severity.as_str());
        field(b'V', e.severity.as_str());
        field(b'C', e.state);
        field(b'M', &e.message);
        let optional = [
            (b'D', &e.detail),
            (b'H', &e.hint),
            (b'W', &e.context),
            (b's', &e.schema),
            (b't', &e.table),
            (b'c', &e.column),
            (b'd', &e.datatype),
            (b'n', &e.constraint),
        ];
        if let Some(position) = e.position {
            field(b'P', &position.to_string());
        }
        for (code, text) in optional {
            if let Some(text) = text {
                field(code, text);
            }
        }
        o.put_u8(0);
    });
}
