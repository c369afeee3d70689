//! The traits behind which the machine's files and the simulated ones stand.
//!
//! Calls block; callers on async threads keep them short (one page) or move to a thread of their own.
//! Errors are `std::io::Error` so that `ENOSPC`, `EROFS` and friends stay recognisable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub type DiskRef = Arc<dyn Disk>;
pub type FileRef = Arc<dyn DiskFile>;

/// How a file is to be opened. Creating with `CreateNew` fails where the name exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    ReadWrite,
    /// Read and write; created empty where it is missing.
    Create,
    CreateNew,
    /// Read and write; created or cut to nothing.
    Truncate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    File,
    Directory,
    Other,
}

/// A tree of files. All paths are relative to its root.
pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef>;
    /// Names (not paths) with their kinds, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Atomically gives `from` the name `to`, replacing what was there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes names created, renamed and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Where the root is on the machine, for messages and for commands such as `archive_command`;
    /// `None` in simulation.
    fn root(&self) -> Option<PathBuf>;
}

/// An open file. Positions are byte offsets; there is no cursor.
pub trait DiskFile: Send + Sync {
    /// Reads until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Contents and length are durable when it returns (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space and fills it with zeroes from `offset` on, so that later writes meet no `ENOSPC`.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Asks the system to begin writing the range back (`sync_file_range`); a hint, never needed for safety.
    fn start_writeback(&self, _offset: u64, _len: u64) {}
    /// Tells the system that the range will be read soon (`posix_fadvise`); a hint.
    fn will_read(&self, _offset: u64, _len: u64) {}
}
