//! The archiver's notes: `pg_wal/archive_status/NAME.ready` (to be archived) and `NAME.done` (archived).
//!
//! Notes are not synced when made: one that is lost in a crash is made again, because a finished segment without
//! a note counts as not yet archived.

use std::path::{Path, PathBuf};

use crate::io::{Access, Disk, EntryKind, durable};

use super::error::WalError;

pub const DIR: &str = "archive_status";

fn note(dir: &Path, name: &str, suffix: &str) -> PathBuf {
    dir.join(DIR).join(format!("{name}.{suffix}"))
}

/// Marks a file of `pg_wal` as ready to be archived.
pub fn notify(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), WalError> {
    let path = note(dir, name, "ready");
    disk.open(&path, Access::Create)
        .map_err(WalError::io("create archive status", &path))?;
    Ok(())
}

/// Marks a file as archived, or as one that needs no archiving here (a standby's).
pub fn set_done(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), WalError> {
    let (ready, done) = (note(dir, name, "ready"), note(dir, name, "done"));
    let exists = disk.exists(&ready).map_err(WalError::io("stat", &ready))?;
    if exists {
        return durable::rename(disk, &ready, &done).map_err(WalError::io("rename", &ready));
    }
    disk.open(&done, Access::Create)
        .map_err(WalError::io("create archive status", &done))?;
    Ok(())
}

/// Is there a note that the file needs no archiving any more?
pub fn has_done_note(disk: &dyn Disk, dir: &Path, name: &str) -> Result<bool, WalError> {
    let path = note(dir, name, "done");
    disk.exists(&path).map_err(WalError::io("stat", &path))
}

pub fn is_ready(disk: &dyn Disk, dir: &Path, name: &str) -> Result<bool, WalError> {
    let path = note(dir, name, "ready");
    disk.exists(&path).map_err(WalError::io("stat", &path))
}

/// Has the file been archived? One without any note is marked ready, in case the note was lost. One that is gone has
/// been: it is only then that a checkpoint takes it away, and its notes with it.
pub fn is_done(disk: &dyn Disk, dir: &Path, name: &str) -> Result<bool, WalError> {
    if has_done_note(disk, dir, name)? {
        return Ok(true);
    }
    if !is_ready(disk, dir, name)? {
        // The archiver may just have turned one note into the other.
        if has_done_note(disk, dir, name)? {
            return Ok(true);
        }
        let path = dir.join(name);
        if !disk.exists(&path).map_err(WalError::io("stat", &path))? {
            return Ok(true);
        }
        notify(disk, dir, name)?;
    }
    Ok(false)
}

/// Removes both notes.
pub fn forget(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), WalError> {
    for suffix in ["done", "ready"] {
        let path = note(dir, name, suffix);
        match disk.remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(WalError::io("remove", path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of files to be archived: history files first, then oldest first.
pub fn ready(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, WalError> {
    let dir = dir.join(DIR);
    let entries = disk
        .list(&dir)
        .map_err(WalError::io("read directory", &dir))?;
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|(_, kind)| *kind == EntryKind::File)
        .filter_map(|(name, _)| name.strip_suffix(".ready").map(str::to_owned))
        .collect();
    names.sort_by_key(|name| (!name.ends_with(".history"), name.clone()));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::real::RealDisk;

    #[test]
    fn a_note_goes_from_ready_to_done_and_histories_come_first() {
        let root = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::new(root.path());
        let dir = Path::new("pg_wal");
        disk.create_dir(dir).expect("new");
        disk.create_dir(&dir.join(DIR)).expect("new");
        for name in [
            "000000010000000000000002",
            "00000002.history",
            "000000010000000000000001",
        ] {
            notify(&disk, dir, name).expect("notes");
        }
        let names = ready(&disk, dir).expect("listed");
        assert_eq!(
            names,
            [
                "00000002.history",
                "000000010000000000000001",
                "000000010000000000000002"
            ]
        );
        set_done(&disk, dir, "00000002.history").expect("done");
        assert!(is_done(&disk, dir, "00000002.history").expect("asked"));
        assert!(!is_done(&disk, dir, "000000010000000000000001").expect("asked"));
        disk.open(&dir.join("000000010000000000000009"), Access::Create)
            .expect("a file without a note");
        assert!(!is_done(&disk, dir, "000000010000000000000009").expect("asked"));
        assert!(
            is_ready(&disk, dir, "000000010000000000000009").expect("asked"),
            "note was not renewed"
        );
        forget(&disk, dir, "000000010000000000000009").expect("forgotten");
        assert_eq!(ready(&disk, dir).expect("listed").len(), 2);
    }

    /// Whoever waited for it would wait for ever: the archiver throws away what asks for a file that is not there.
    #[test]
    fn what_a_checkpoint_has_taken_away_was_archived() {
        let root = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::new(root.path());
        let dir = Path::new("pg_wal");
        disk.create_dir(dir).expect("new");
        disk.create_dir(&dir.join(DIR)).expect("new");
        let name = "000000010000000000000003";
        disk.open(&dir.join(name), Access::Create).expect("new");
        notify(&disk, dir, name).expect("noted");
        assert!(!is_done(&disk, dir, name).expect("asked"));
        set_done(&disk, dir, name).expect("archived");
        disk.remove_file(&dir.join(name)).expect("removed");
        forget(&disk, dir, name).expect("forgotten");
        assert!(is_done(&disk, dir, name).expect("asked"));
        assert!(!is_ready(&disk, dir, name).expect("asked"));
    }
}
