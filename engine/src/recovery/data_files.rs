//! The data files as an unclean end left them, before the first record is replayed.
//!
//! Two things that replay cannot mend, because it leaves alone what is newer than a record and what no record
//! speaks of: pages that the last server wrote but had not synced are perhaps only in the operating system's
//! memory, and the next checkpoint would let go of the log that could bring them back; and pages of the forks that
//! are not logged may be torn. So everything is synced, and torn pages of such forks become zeroes. A crash in
//! between leaves the same to be done again.

use std::io;
use std::path::{Path, PathBuf};

use crate::ids::{BlockNumber, PAGE_SIZE};
use crate::io::{Access, Disk, EntryKind};
use crate::storage::page;

use super::error::RecoveryError;

/// Where pages and outcomes are.
const DIRECTORIES: [&str; 3] = ["base", "global", "pg_xact"];
/// The end of a free space map's file name, before a segment's number.
const UNLOGGED_FORK: &str = "_fsm";

/// Returns how many torn pages it mended.
pub(super) fn prepare(disk: &dyn Disk, checksums: bool) -> Result<u32, RecoveryError> {
    let mut mended = 0;
    let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    while let Some(dir) = directories.pop() {
        let entries = match disk.list(&dir) {
            Ok(entries) => entries,
            // What needs it will say so.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(RecoveryError::io("read directory", &dir)(e)),
        };
        for (name, kind) in entries {
            let path = dir.join(&name);
            match kind {
                EntryKind::Directory => directories.push(path),
                EntryKind::File => {
                    if is_unlogged(&name) {
                        mended += mend(disk, &path, checksums)
                            .map_err(RecoveryError::io("mend", &path))?;
                    }
                    let synced = disk.open(&path, Access::Read).and_then(|file| file.sync());
                    synced.map_err(RecoveryError::io("fsync", &path))?;
                }
                EntryKind::Other => {}
            }
        }
        disk.sync_dir(&dir)
            .map_err(RecoveryError::io("fsync", &dir))?;
    }
    disk.sync_dir(Path::new(""))
        .map_err(RecoveryError::io("fsync", "the data directory"))?;
    Ok(mended)
}

fn is_unlogged(name: &str) -> bool {
    let (stem, _) = name.split_once('.').unwrap_or((name, ""));
    stem.ends_with(UNLOGGED_FORK)
}

fn mend(disk: &dyn Disk, path: &Path, checksums: bool) -> io::Result<u32> {
    let file = disk.open(path, Access::ReadWrite)?;
    let mut mended = 0;
    let mut bytes = [0; PAGE_SIZE];
    for block in 0..file.len()? / PAGE_SIZE as u64 {
        let at = block * PAGE_SIZE as u64;
        file.read_at(&mut bytes, at)?;
        // A block's checksum counts with its place in the whole fork; one in a later segment only ever fails to
        // match, and then costs a hint.
        let number = BlockNumber::new(block as u32);
        let sound = page::is_new(&bytes)
            || page::header_is_valid(&bytes)
                && (!checksums
                    || page::stored_checksum(&bytes) == page::checksum_of(&bytes, number));
        if !sound {
            file.write_all_at(&[0; PAGE_SIZE], at)?;
            mended += 1;
        }
    }
    Ok(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;

    #[test]
    fn maps_are_known_by_their_names() {
        assert!(is_unlogged("16384_fsm") && is_unlogged("16384_fsm.1"));
        assert!(!is_unlogged("16384") && !is_unlogged("16384.1") && !is_unlogged("16384_vm"));
    }

    #[test]
    fn what_was_only_written_is_durable_afterwards_and_torn_maps_are_zeroes() {
        let disk = SimDisk::new();
        for dir in ["base", "base/5", "global", "pg_xact"] {
            disk.create_dir(Path::new(dir)).expect("new");
        }
        let mut sound = [0; PAGE_SIZE];
        page::init(&mut sound, 0);
        page::set_checksum(&mut sound, BlockNumber::new(0));
        let mut torn = sound;
        torn[5000] = 1;
        for (name, bytes) in [("1", sound), ("1_fsm", torn), ("2_fsm", sound)] {
            let path = Path::new("base/5").join(name);
            let file = disk.open(&path, Access::CreateNew).expect("new");
            file.write_all_at(&bytes, 0).expect("written");
        }
        assert_eq!(prepare(&disk, true).expect("done"), 1);
        let left = disk.crash();
        let read = |name| {
            let path = Path::new("base/5").join(name);
            crate::io::durable::read(&left, &path).expect("durable")
        };
        assert_eq!(read("1"), sound);
        assert_eq!(read("1_fsm"), [0; PAGE_SIZE]);
        assert_eq!(read("2_fsm"), sound);
    }
}
