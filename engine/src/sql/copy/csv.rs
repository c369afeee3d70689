//! The CSV form: records that may span lines inside of quotes. Manual, COPY, "CSV Format".

use super::lines::{Cut, LineEnd, end_at, rest};
use super::options::CopyOptions;
use crate::sql::error::{SqlError, state};

/// A field before it is known whether it means NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub value: Vec<u8>,
    pub quoted: bool,
}

/// Finds the end of the first record.
pub fn cut_csv(
    buffer: &[u8],
    options: &CopyOptions,
    ends: &mut LineEnd,
    last: bool,
) -> Result<Cut, SqlError> {
    let mut quoted = false;
    let mut at = 0;
    while at < buffer.len() {
        let byte = buffer[at];
        if quoted {
            if byte == options.escape && options.escape != options.quote {
                // The escaped byte, whatever it is, does not end the quotes.
                if at + 1 >= buffer.len() {
                    break;
                }
                if buffer[at + 1] == options.quote || buffer[at + 1] == options.escape {
                    at += 1;
                }
            } else if byte == options.quote {
                // A doubled quote ends and begins again.
                quoted = false;
            }
        } else if byte == options.quote {
            quoted = true;
        } else if matches!(byte, b'\n' | b'\r') {
            return end_at(buffer, at, ends, last, "");
        }
        at += 1;
    }
    Ok(rest(buffer, last))
}

/// Splits one record into fields.
pub fn split_csv(
    record: &[u8],
    options: &CopyOptions,
    fields: &mut Vec<Field>,
) -> Result<(), SqlError> {
    fields.clear();
    let mut at = 0;
    loop {
        let mut field = Field {
            value: Vec::new(),
            quoted: false,
        };
        let mut inside = false;
        loop {
            let Some(byte) = record.get(at) else {
                if inside {
                    return Err(SqlError::new(
                        state::BAD_COPY_FORMAT,
                        "unterminated CSV quoted field",
                    ));
                }
                fields.push(field);
                return Ok(());
            };
            at += 1;
            if !inside && *byte == options.delimiter {
                break;
            }
            if !inside && *byte == options.quote {
                field.quoted = true;
                inside = true;
            } else if inside && *byte == options.escape {
                match record.get(at) {
                    Some(next) if *next == options.escape || *next == options.quote => {
                        field.value.push(*next);
                        at += 1;
                    }
                    _ if options.escape == options.quote => inside = false,
                    _ => field.value.push(*byte),
                }
            } else if inside && *byte == options.quote {
                inside = false;
            } else {
                field.value.push(*byte);
            }
        }
        fields.push(field);
    }
}

/// Appends a value, in quotes if it needs them. `alone`: it is the only column.
pub fn write_csv(value: &[u8], options: &CopyOptions, force: bool, alone: bool, out: &mut Vec<u8>) {
    let special =
        |b: &u8| *b == options.delimiter || *b == options.quote || *b == b'\n' || *b == b'\r';
    let needs = force
        || value == options.null.as_bytes()
        || (alone && value == b"\\.")
        || value.iter().any(special);
    if !needs {
        out.extend_from_slice(value);
        return;
    }
    out.push(options.quote);
    for byte in value {
        if *byte == options.quote || *byte == options.escape {
            out.push(options.escape);
        }
        out.push(*byte);
    }
    out.push(options.quote);
}
