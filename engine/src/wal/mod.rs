//! The write-ahead log: PostgreSQL 15's framing, our payloads.
//!
//! Owns page and record framing, reserving positions, group flush, segment files, timeline history files and the
//! archiver's status files. Invariants: a record is durable only once `flush_lsn` has passed its end; a segment
//! is synced before the first byte of the next one is written; a failed write or sync of the log ends the
//! process. Must not know what is inside a payload. A crash leaves a log whose valid prefix contains everything
//! that was ever reported as flushed.

pub mod archive_status;
mod decode;
mod error;
mod flush;
mod insert;
mod log;
pub mod page;
mod position;
mod reader;
mod receive;
mod record;
mod ring;
mod rmgr;
mod segments;
mod source;
pub mod timeline;
pub mod xlog_records;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, DecodedBlock, PageImage, RecordFault};
pub use error::{ReadError, WalError};
pub use insert::Inserted;
pub use log::{FatalHook, StartWriting, Wal, WalConfig};
pub use reader::{AbortedRecord, WalReader};
pub use receive::{FailedHook, ReceivedHook, ReceivedSegments};
pub use record::{BlockFlags, BlockRef, Record};
pub use rmgr::RmgrId;
pub use segments::{Recycled, Segments, Unarchived};
pub use source::{FileSource, PageBytes, PageRequest, WalBytes};
