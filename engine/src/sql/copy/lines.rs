//! The text form: lines, fields between delimiters, backslash escapes. Manual, COPY, "Text Format".

use super::options::CopyOptions;
use crate::sql::error::{SqlError, state};

/// How the lines of an input end; the first one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    Unknown,
    Newline,
    Return,
    ReturnNewline,
}

/// Where a record ends in a buffer.
pub enum Cut {
    /// The record's length, and with its line end.
    Record { length: usize, whole: usize },
    /// More bytes are needed.
    More,
    /// The end-of-data marker; the bytes before it are the last record, if there are any.
    End { length: usize },
}

fn bad(message: impl Into<String>) -> SqlError {
    SqlError::new(state::BAD_COPY_FORMAT, message)
}

/// Finds the end of the first record. `last`: no more bytes will come.
pub fn cut_text(buffer: &[u8], ends: &mut LineEnd, last: bool) -> Result<Cut, SqlError> {
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b'\n', b'\r', b'\\', &buffer[at..]) {
        let here = at + found;
        match buffer[here] {
            b'\\' => {
                if here + 1 >= buffer.len() {
                    break;
                }
                if buffer[here + 1] == b'.' {
                    return end_marker(buffer, here, *ends, last);
                }
                // Whatever follows is data, a line end too.
                at = here + 2;
            }
            _ => return end_at(buffer, here, ends, last, "\\"),
        }
    }
    Ok(rest(buffer, last))
}

/// A backslash and a dot, wherever they stand, end the data, and have to end their line too.
fn end_marker(buffer: &[u8], here: usize, ends: LineEnd, last: bool) -> Result<Cut, SqlError> {
    let behind = &buffer[here + 2..];
    let returned = ends == LineEnd::ReturnNewline;
    if behind.len() < 1 + usize::from(returned) && !last {
        return Ok(Cut::More);
    }
    let mismatch = || {
        Err(bad(
            "end-of-copy marker does not match previous newline style",
        ))
    };
    let behind = match (returned, behind.first()) {
        (true, Some(b'\n')) => return mismatch(),
        (true, Some(b'\r')) => &behind[1..],
        (true, _) => &[],
        (false, _) => behind,
    };
    let next = behind.first();
    if !matches!(next, Some(b'\n' | b'\r')) {
        return Err(bad("end-of-copy marker corrupt"));
    }
    match (ends, next) {
        (LineEnd::Newline | LineEnd::ReturnNewline, Some(b'\r'))
        | (LineEnd::Return, Some(b'\n')) => mismatch(),
        _ => Ok(Cut::End { length: here }),
    }
}

/// What is left of the input is the last record.
pub fn rest(buffer: &[u8], last: bool) -> Cut {
    if last && !buffer.is_empty() {
        Cut::Record {
            length: buffer.len(),
            whole: buffer.len(),
        }
    } else {
        Cut::More
    }
}

/// `here` is a newline or a carriage return outside of quotes. `escape` names what would have hidden it.
pub fn end_at(
    buffer: &[u8],
    here: usize,
    ends: &mut LineEnd,
    last: bool,
    escape: &str,
) -> Result<Cut, SqlError> {
    let record = |length, whole| Ok(Cut::Record { length, whole });
    let csv = escape.is_empty();
    if buffer[here] == b'\n' {
        return match *ends {
            LineEnd::Unknown | LineEnd::Newline => {
                *ends = LineEnd::Newline;
                record(here, here + 1)
            }
            _ if csv => Err(bad("unquoted newline found in data")
                .hint("Use quoted CSV field to represent newline.")),
            _ => {
                Err(bad("literal newline found in data").hint("Use \"\\n\" to represent newline."))
            }
        };
    }
    let next = buffer.get(here + 1);
    if next.is_none() && !last && *ends != LineEnd::Return {
        return Ok(Cut::More);
    }
    let followed = next == Some(&b'\n');
    match *ends {
        LineEnd::Unknown | LineEnd::ReturnNewline if followed => {
            *ends = LineEnd::ReturnNewline;
            record(here, here + 2)
        }
        LineEnd::Unknown | LineEnd::Return => {
            *ends = LineEnd::Return;
            record(here, here + 1)
        }
        _ if csv => Err(bad("unquoted carriage return found in data")
            .hint("Use quoted CSV field to represent carriage return.")),
        _ => Err(bad("literal carriage return found in data")
            .hint("Use \"\\r\" to represent carriage return.")),
    }
}

/// Splits one line into fields, each NULL or its bytes.
pub fn split_text(line: &[u8], options: &CopyOptions, fields: &mut Vec<Option<Vec<u8>>>) {
    fields.clear();
    let mut at = 0;
    loop {
        let start = at;
        let mut value = Vec::new();
        let end = loop {
            let rest = &line[at..];
            let Some(found) = memchr::memchr2(options.delimiter, b'\\', rest) else {
                value.extend_from_slice(rest);
                at = line.len();
                break at;
            };
            value.extend_from_slice(&rest[..found]);
            at += found;
            if line[at] == options.delimiter {
                break at;
            }
            at += 1;
            if at == line.len() {
                // A backslash that ends the input has nothing to escape, and is not data either.
                break at - 1;
            }
            at += unescape(&line[at..], &mut value);
        };
        // The marker is compared before escapes are read: `\N` is not an `N`.
        if &line[start..end] == options.null.as_bytes() {
            fields.push(None);
        } else {
            fields.push(Some(value));
        }
        if at >= line.len() {
            return;
        }
        at += 1;
        if at == line.len() {
            fields.push((!options.null.is_empty()).then(Vec::new));
            return;
        }
    }
}

/// What follows a backslash, at least one byte; returns how many bytes it took.
fn unescape(rest: &[u8], value: &mut Vec<u8>) -> usize {
    match &rest[0] {
        b'0'..=b'7' => {
            let digits = rest
                .iter()
                .take(3)
                .take_while(|b| (b'0'..=b'7').contains(*b))
                .count();
            let number = rest[..digits]
                .iter()
                .fold(0_u32, |n, b| n * 8 + u32::from(b - b'0'));
            value.push((number & 0xFF) as u8);
            digits
        }
        b'x' => {
            let digits = rest[1..]
                .iter()
                .take(2)
                .take_while(|b| b.is_ascii_hexdigit())
                .count();
            if digits == 0 {
                value.push(b'x');
                return 1;
            }
            let number = rest[1..=digits].iter().fold(0_u32, |n, b| {
                n * 16 + char::from(*b).to_digit(16).expect("a hexadecimal digit")
            });
            value.push((number & 0xFF) as u8);
            1 + digits
        }
        b'b' => push(value, 8),
        b'f' => push(value, 12),
        b'n' => push(value, b'\n'),
        b'r' => push(value, b'\r'),
        b't' => push(value, b'\t'),
        b'v' => push(value, 11),
        other => push(value, *other),
    }
}

fn push(value: &mut Vec<u8>, byte: u8) -> usize {
    value.push(byte);
    1
}

/// Appends a value in the text form.
pub fn write_text(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let mut from = 0;
    for (at, byte) in value.iter().enumerate() {
        let escaped = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if *b == delimiter => delimiter,
            _ => continue,
        };
        out.extend_from_slice(&value[from..at]);
        out.push(b'\\');
        out.push(escaped);
        from = at + 1;
    }
    out.extend_from_slice(&value[from..]);
}
