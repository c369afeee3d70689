//! Replacing small files atomically and durably: write aside, sync, rename, sync the directory.
//!
//! A crash at any step leaves either the old file or the new one under the name, and at most a `.tmp` file
//! that the next replacement overwrites.

use std::io;
use std::path::{Path, PathBuf};

use super::{Access, Disk};

/// Makes `path` hold exactly `bytes`, or leaves it as it was.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let file = disk.open(&aside, Access::Truncate)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    rename(disk, &aside, path)
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
