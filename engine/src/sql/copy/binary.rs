//! PostgreSQL's binary form. Manual, COPY, "Binary Format".
//!
//! ```text
//! signature "PGCOPY\n\xFF\r\n\0", flags i32, extension length i32
//! each row: count of fields i16, then for each its length i32 (-1: NULL) and its bytes
//! trailer: i16 -1
//! ```

use crate::sql::error::{SqlError, state};

pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xFF\r\n\0";

fn bad(message: impl Into<String>) -> SqlError {
    SqlError::new(state::BAD_COPY_FORMAT, message)
}

pub fn write_header(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 8]);
}

/// Length of the header; `None`: more bytes are needed.
pub fn header_length(buffer: &[u8]) -> Result<Option<usize>, SqlError> {
    let known = buffer.len().min(SIGNATURE.len());
    if buffer[..known] != SIGNATURE[..known] {
        return Err(bad("COPY file signature not recognized"));
    }
    let Some(rest) = buffer.get(SIGNATURE.len()..SIGNATURE.len() + 8) else {
        return Ok(None);
    };
    let flags = u32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
    if flags & (1 << 16) != 0 {
        return Err(bad("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(bad("unrecognized critical flags in COPY file header"));
    }
    let extension = i32::from_be_bytes(rest[4..].try_into().expect("four bytes"));
    let extension =
        usize::try_from(extension).map_err(|_| bad("invalid COPY file header (missing length)"))?;
    let whole = SIGNATURE.len() + 8 + extension;
    Ok((buffer.len() >= whole).then_some(whole))
}

/// Where fields lie in the buffer; `None`: NULL.
pub type Fields = Vec<Option<std::ops::Range<usize>>>;

/// One row's fields.
pub enum Row {
    Fields {
        fields: Fields,
        length: usize,
    },
    Trailer,
    /// More bytes are needed. The fields that are whole, if the row has begun.
    More(Option<Fields>),
    /// The field behind these is not right.
    Bad {
        fields: Fields,
        error: SqlError,
    },
}

pub fn cut_row(buffer: &[u8], columns: usize) -> Result<Row, SqlError> {
    let Some(count) = buffer.get(..2) else {
        return Ok(Row::More(None));
    };
    let count = i16::from_be_bytes(count.try_into().expect("two bytes"));
    if count == -1 {
        return Ok(Row::Trailer);
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(bad(format!(
            "row field count is {count}, expected {columns}"
        )));
    }
    let mut at = 2;
    let mut fields = Vec::with_capacity(columns);
    for _ in 0..columns {
        let Some(length) = buffer.get(at..at + 4) else {
            return Ok(Row::More(Some(fields)));
        };
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        at += 4;
        if length == -1 {
            fields.push(None);
            continue;
        }
        let Ok(length) = usize::try_from(length) else {
            let error = bad("invalid field size");
            return Ok(Row::Bad { fields, error });
        };
        if buffer.len() < at + length {
            return Ok(Row::More(Some(fields)));
        }
        fields.push(Some(at..at + length));
        at += length;
    }
    Ok(Row::Fields { fields, length: at })
}
