//! `BASE_BACKUP`: the data directory as a tar stream while the server runs, with a manifest.
//!
//! Reading order: `options` (what was asked), `manifest`, `files` (what is copied), `send` (how it
//! travels); `receive` is the client.

mod files;
mod manifest;
mod options;
mod receive;
mod send;

pub use manifest::ChecksumAlgorithm;
pub use options::{BackupOptions, Checkpoint, ManifestChoice};
pub use receive::{CopyError, CopyRequest, receive};
pub use send::{BackupSource, Started, Stopped, send};
