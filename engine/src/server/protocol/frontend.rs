//! Messages from the client: framing with limits, then fields read in place.
//!
//! ```text
//! +------+-----------------+------------------+
//! | type | length (4 bytes,| body             |
//! | 1    | itself counted) | length - 4 bytes |
//! +------+-----------------+------------------+
//! ```

use bytes::{Buf, BytesMut};

use super::{Format, FormatList, ProtocolError};

/// What PostgreSQL takes for messages that have no business being long.
const SMALL_LIMIT: usize = 10_000;
/// PostgreSQL's largest allocation, which bounds the others.
const LARGE_LIMIT: usize = 0x3fff_fffe;
/// The longest password message before authentication.
pub const AUTH_LIMIT: usize = 65_535;

/// A whole message, cut out of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: BytesMut,
}

/// Cuts the next message out of `input`, if it is all there. `limit` narrows the usual limits (authentication).
pub fn next_frame(
    input: &mut BytesMut,
    limit: Option<usize>,
) -> Result<Option<Frame>, ProtocolError> {
    let Some(header) = input.get(..5) else {
        // A wrong type is known before the length is.
        if let Some(&tag) = input.first() {
            check_tag(tag, limit)?;
        }
        return Ok(None);
    };
    let tag = header[0];
    let most = check_tag(tag, limit)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length < 4 || length > most {
        return Err(ProtocolError::BadLength);
    }
    let whole = length + 1;
    if input.len() < whole {
        // Room for a big message grows with what has arrived, not with what was announced.
        input.reserve((whole - input.len()).min(input.len().max(8192)));
        return Ok(None);
    }
    let mut message = input.split_to(whole);
    message.advance(5);
    Ok(Some(Frame { tag, body: message }))
}

/// The most that the length of a message of this type may say.
fn check_tag(tag: u8, limit: Option<usize>) -> Result<usize, ProtocolError> {
    if let Some(limit) = limit {
        return match tag {
            b'p' => Ok(limit),
            other => Err(ProtocolError::UnknownType(other)),
        };
    }
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Ok(LARGE_LIMIT),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => Ok(SMALL_LIMIT),
        other => Err(ProtocolError::UnknownType(other)),
    }
}

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Query(&'a str),
    Parse {
        name: &'a str,
        query: &'a str,
        types: Numbers<'a, 4>,
    },
    Bind(Bind<'a>),
    Describe {
        target: Target,
        name: &'a str,
    },
    Execute {
        portal: &'a str,
        max_rows: u32,
    },
    Close {
        target: Target,
        name: &'a str,
    },
    Sync,
    Flush,
    Terminate,
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail(&'a str),
    FunctionCall,
    /// A password message outside of authentication.
    Password(&'a [u8]),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: Numbers<'a, 2>,
    pub parameters: Parameters<'a>,
    pub result_formats: Numbers<'a, 2>,
}

/// A list of big-endian numbers of `N` bytes, read where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers<'a, const N: usize>(&'a [u8]);

impl<const N: usize> Numbers<'_, N> {
    pub fn len(&self) -> usize {
        self.0.len() / N
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Numbers<'_, 4> {
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0
            .chunks_exact(4)
            .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
    }
}

impl Numbers<'_, 2> {
    pub fn iter(&self) -> impl Iterator<Item = i16> + '_ {
        self.0
            .chunks_exact(2)
            .map(|c| i16::from_be_bytes([c[0], c[1]]))
    }

    /// The format of the item at `i`: one code stands for all, none for text.
    pub fn format_of(&self, i: usize) -> Result<Format, ProtocolError> {
        let code = match self.len() {
            0 => 0,
            1 => self.iter().next().unwrap_or(0),
            _ => self.iter().nth(i).unwrap_or(0),
        };
        format_of_code(code)
    }

    /// All codes as formats.
    pub fn formats(&self) -> Result<FormatList, ProtocolError> {
        self.iter().map(format_of_code).collect()
    }
}

pub fn format_of_code(code: i16) -> Result<Format, ProtocolError> {
    match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(ProtocolError::FormatCode(other)),
    }
}

/// Parameter values; their lengths were checked when the message was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Parameters<'a> {
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// `None` is NULL.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut rest = Reader { rest: self.bytes };
        (0..self.count).map(move |_| rest.value().ok().flatten())
    }
}

impl Frame {
    pub fn message(&self) -> Result<Message<'_>, ProtocolError> {
        let mut r = Reader { rest: &self.body };
        let message = match self.tag {
            b'Q' => Message::Query(r.string()?),
            b'P' => Message::Parse {
                name: r.string()?,
                query: r.string()?,
                types: r.numbers()?,
            },
            b'B' => return r.bind(),
            b'D' => {
                let (target, name) = r.target("DESCRIBE")?;
                Message::Describe { target, name }
            }
            b'C' => {
                let (target, name) = r.target("CLOSE")?;
                Message::Close { target, name }
            }
            b'E' => Message::Execute {
                portal: r.string()?,
                max_rows: r.row_limit()?,
            },
            b'S' => Message::Sync,
            b'H' => Message::Flush,
            // Nobody looks into these two.
            b'X' => return Ok(Message::Terminate),
            b'c' => return Ok(Message::CopyDone),
            b'd' => Message::CopyData(std::mem::take(&mut r.rest)),
            b'f' => Message::CopyFail(r.string()?),
            b'p' => Message::Password(std::mem::take(&mut r.rest)),
            b'F' => return Ok(Message::FunctionCall),
            other => return Err(ProtocolError::UnknownType(other)),
        };
        r.end().map(|()| message)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtocolError> {
        let (head, tail) = self
            .rest
            .split_at_checked(n)
            .ok_or(ProtocolError::TooShort)?;
        self.rest = tail;
        Ok(head)
    }

    /// How many items follow. The manual calls it an Int16, but PostgreSQL takes it without a sign, and drivers send up
    /// to 65,535 parameters.
    fn count(&mut self) -> Result<usize, ProtocolError> {
        let b = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([b[0], b[1]])))
    }

    fn i32(&mut self) -> Result<i32, ProtocolError> {
        let b = self.take(4)?;
        Ok(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// 0 and below mean no limit.
    fn row_limit(&mut self) -> Result<u32, ProtocolError> {
        self.i32().map(|n| u32::try_from(n).unwrap_or(0))
    }

    fn string(&mut self) -> Result<&'a str, ProtocolError> {
        let end = memchr::memchr(0, self.rest).ok_or(ProtocolError::Unterminated)?;
        let bytes = self.take(end)?;
        self.take(1)?;
        text(bytes)
    }

    fn target(&mut self, what: &'static str) -> Result<(Target, &'a str), ProtocolError> {
        let subtype = self.take(1).map_err(|_| ProtocolError::Empty)?[0];
        let name = self.string()?;
        self.end()?;
        let target = match subtype {
            b'S' => Target::Statement,
            b'P' => Target::Portal,
            subtype => return Err(ProtocolError::Subtype { what, subtype }),
        };
        Ok((target, name))
    }

    fn numbers<const N: usize>(&mut self) -> Result<Numbers<'a, N>, ProtocolError> {
        let count = self.count()?;
        Ok(Numbers(self.take(count * N)?))
    }

    fn value(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        let length = self.i32()?;
        match usize::try_from(length) {
            Ok(n) => self.take(n).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(ProtocolError::TooShort),
        }
    }

    fn bind(mut self) -> Result<Message<'a>, ProtocolError> {
        let portal = self.string()?;
        let statement = self.string()?;
        let parameter_formats = self.numbers()?;
        let count = self.count()?;
        let all = self.rest;
        for _ in 0..count {
            self.value()?;
        }
        let parameters = Parameters {
            count,
            bytes: &all[..all.len() - self.rest.len()],
        };
        let result_formats = self.numbers()?;
        self.end()?;
        Ok(Message::Bind(Bind {
            portal,
            statement,
            parameter_formats,
            parameters,
            result_formats,
        }))
    }

    fn end(&self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::LeftOver)
        }
    }
}

/// Text from a client must be UTF-8; the error names the bytes as PostgreSQL does.
pub fn text(bytes: &[u8]) -> Result<&str, ProtocolError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let from = e.valid_up_to();
        let first = bytes[from];
        // As many bytes as the first one announces, PostgreSQL shows.
        let announced = match first {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        let shown: Vec<String> = bytes[from..]
            .iter()
            .take(announced)
            .map(|b| format!("0x{b:02x}"))
            .collect();
        ProtocolError::NotUtf8(shown.join(" "))
    })
}
