//! PostgreSQL's wire protocol, version 3.0: bytes to messages and messages to bytes (manual, chapter 55).
//!
//! A codec of our own rather than `pgwire`'s: a row is encoded straight into the connection's one buffer, and a
//! message from the client is read where it lies, without an owned copy of each field. Pure: no socket here.

pub mod backend;
pub mod frontend;
pub mod startup;

#[cfg(test)]
mod tests;

/// Why bytes from a client are not a message. Each is 08P01 but for bad text, which is 22021.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("invalid length of startup packet")]
    StartupLength,
    #[error("invalid startup packet layout: expected terminator as last byte")]
    StartupLayout,
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0")]
    UnsupportedVersion { major: u16, minor: u16 },
    #[error("invalid frontend message type {0}")]
    UnknownType(u8),
    #[error("invalid message length")]
    BadLength,
    #[error("invalid message format")]
    LeftOver,
    #[error("no data left in message")]
    Empty,
    #[error("insufficient data left in message")]
    TooShort,
    #[error("invalid string in message")]
    Unterminated,
    #[error("invalid byte sequence for encoding \"UTF8\": {0}")]
    NotUtf8(String),
    #[error("unsupported format code: {0}")]
    FormatCode(i16),
    #[error("invalid {what} message subtype {subtype}")]
    Subtype { what: &'static str, subtype: u8 },
}

impl ProtocolError {
    pub fn sqlstate(&self) -> &'static str {
        match self {
            ProtocolError::NotUtf8(_) => "22021",
            ProtocolError::UnsupportedVersion { .. } => "0A000",
            ProtocolError::FormatCode(_) => "22023",
            _ => "08P01",
        }
    }

    /// Whether the stream cannot be trusted any more; else only this message was wrong.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            ProtocolError::StartupLength
                | ProtocolError::StartupLayout
                | ProtocolError::UnsupportedVersion { .. }
                | ProtocolError::UnknownType(_)
                | ProtocolError::BadLength
        )
    }
}

pub use crate::sql::session::output::{Format, FormatList};
