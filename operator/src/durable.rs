//! Replacing small files atomically and durably, and holding a file lock.
//!
//! A crash at any step of `replace` leaves the old file or the new one under the name, and at most a `.tmp`
//! file beside it that the next replacement overwrites. One that fails takes its `.tmp` file away again: on a full
//! volume even that is room.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::faults;

/// Makes `path` hold exactly `bytes`, or leaves it as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    replace_with(path, bytes, &options)
}

/// As [`replace`], but readable by the owner only; for credentials.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    replace_with(path, bytes, &options)
}

fn replace_with(path: &Path, bytes: &[u8], options: &OpenOptions) -> io::Result<()> {
    let aside = beside(path, ".tmp");
    faults::point();
    let write = || {
        let mut file = options.open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        faults::point();
        std::fs::rename(&aside, path)
    };
    if let Err(error) = write() {
        let _ = std::fs::remove_file(&aside);
        return Err(about("write", path, &error));
    }
    sync_dir(parent(path))?;
    faults::point();
    Ok(())
}

/// As [`replace`], with the blocks of another file, `room`, which becomes this one. Nobody else can take them
/// meanwhile, so it goes on a volume that is full, where its file system writes in place.
///
/// # Errors
/// Also when there is no such file. What it holds is lost then too.
pub fn replace_within(path: &Path, bytes: &[u8], room: &Path) -> io::Result<()> {
    faults::point();
    let write = || {
        let mut file = OpenOptions::new().write(true).open(room)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        drop(file);
        faults::point();
        std::fs::rename(room, path)
    };
    write().map_err(|e| about("write", path, &e))?;
    sync_dir(parent(path))?;
    faults::point();
    Ok(())
}

/// Whether there was no room on the volume.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The error with the file it is about: whoever reads it has to know where to look.
fn about(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

/// Renames and syncs the directories on both sides.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::point();
    std::fs::rename(from, to).map_err(|e| {
        let what = format!("rename {} to", from.display());
        about(&what, to, &e)
    })?;
    sync_dir(parent(to))?;
    if parent(from) != parent(to) {
        sync_dir(parent(from))?;
    }
    faults::point();
    Ok(())
}

/// Removes a file and makes that durable; a file that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(about("remove", path, &e)),
        Ok(()) => {
            sync_dir(parent(path))?;
            faults::point();
            Ok(())
        }
    }
}

/// The file's bytes, `None` if there is no such file.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(about("read", path, &e)),
    }
}

/// What the file says; `None` if there is no such file. `remedy` is for whoever meets a damaged one.
pub fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    remedy: &str,
) -> io::Result<Option<T>> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|e| {
        let text = format!("{} is damaged: {e}; {remedy}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Some(value))
}

pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| about("sync", path, &e))
}

/// A lock on a file that lasts as long as this value, and ends with the process however it ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// `None` if another process holds it.
    pub fn try_acquire(path: &Path) -> io::Result<Option<FileLock>> {
        let file = open_lock(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
    /// Waits for it; for locks that are held for one short file operation only.
    pub fn acquire(path: &Path) -> io::Result<FileLock> {
        let file = open_lock(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(FileLock { _file: file })
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| about("open", path, &e))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
