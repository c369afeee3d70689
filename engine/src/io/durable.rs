//! Replacing small files atomically and durably: write aside, sync, rename, sync the directory.
//!
//! A crash at any step leaves either the old file or the new one under the name, and at most a `.tmp` file
//! that the next replacement overwrites. What lies in one sector may also be overwritten where it is
//! ([`replace_sector`]): the one way that needs no room on the disk.

use std::io;
use std::path::{Path, PathBuf};

use super::{Access, Disk};

/// Bytes that a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// Makes `path` hold exactly `bytes`, or leaves it as it was.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = aside_of(path);
    write_aside(disk, &aside, bytes)?;
    rename(disk, &aside, path)
}

/// As [`replace`], for a file of fixed length whose bytes behind the first sector never change: where the disk has no
/// room for a second file, that sector is overwritten in place, and a crash leaves it old or new as well. Only the disk
/// can refuse that (one that writes nothing in place). A reader of a live file may see half of it, as with PostgreSQL.
pub fn replace_sector(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = aside_of(path);
    let named = write_aside(disk, &aside, bytes).and_then(|()| disk.rename(&aside, path));
    match named {
        Ok(()) => disk.sync_dir(parent(path)),
        Err(full) if is_full(&full) => {
            // Its blocks are of more use to others; where it stays, the next replacement overwrites it.
            let _ = disk.remove_file(&aside);
            overwrite_sector(disk, path, bytes, full)
        }
        Err(error) => Err(error),
    }
}

/// `full` is what is said of a file that is not there yet, or not whole: it can't be overwritten.
fn overwrite_sector(disk: &dyn Disk, path: &Path, bytes: &[u8], full: io::Error) -> io::Result<()> {
    let file = match disk.open(path, Access::ReadWrite) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(full),
        other => other?,
    };
    if file.len()? < bytes.len() as u64 {
        return Err(full);
    }
    file.write_all_at(&bytes[..bytes.len().min(SECTOR)], 0)?;
    file.sync()?;
    // An earlier replacement may have failed at this very step.
    disk.sync_dir(parent(path))
}

/// The disk, or what this user may have of it, is used up.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn aside_of(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    PathBuf::from(aside)
}

fn write_aside(disk: &dyn Disk, aside: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(aside, Access::Truncate)?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}

/// Renames within the disk and syncs the directories on both sides.
pub fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk.rename(from, to)?;
    let to_dir = parent(to);
    disk.sync_dir(to_dir)?;
    if parent(from) != to_dir {
        disk.sync_dir(parent(from))?;
    }
    Ok(())
}

/// Removes a file and makes that durable; a file that is not there is no error.
pub fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => disk.sync_dir(parent(path)),
    }
}

/// The whole file.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut buf = vec![0; len];
    let n = file.read_at(&mut buf, 0)?;
    buf.truncate(n);
    Ok(buf)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
