//! The data files as an unclean end left them, before the first record is replayed.
//!
//! Three things that replay cannot mend, because it leaves alone what is newer than a record and what no record
//! speaks of: pages that the last server wrote but had not synced are perhaps only in the operating system's
//! memory, and the next checkpoint would let go of the log that could bring them back; pages of the forks that
//! are not logged may be torn; and a file that was growing may end within a page, of which nothing was durable. So
//! everything is synced, torn pages of such forks become zeroes, and files are cut to whole pages: one that is found
//! to end within a page later on was damaged. A crash in between leaves the same to be done again.

use std::io;
use std::path::{Path, PathBuf};

use crate::ids::{BlockNumber, PAGE_SIZE};
use crate::io::{Access, Disk, EntryKind};
use crate::storage::page;

use super::error::RecoveryError;

/// Where pages and outcomes are.
const DIRECTORIES: [&str; 3] = ["base", "global", OUTCOMES];
/// The commit log knows itself how long its files must be.
const OUTCOMES: &str = "pg_xact";
/// The end of a free space map's file name, before a segment's number.
const UNLOGGED_FORK: &str = "_fsm";

/// What had to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Prepared {
    /// Torn pages of free space maps.
    pub mended: u32,
    /// Files that ended within a page.
    pub cut: u32,
}

pub(super) fn prepare(disk: &dyn Disk, checksums: bool) -> Result<Prepared, RecoveryError> {
    let mut done = Prepared::default();
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
                        done.mended += mend(disk, &path, checksums)
                            .map_err(RecoveryError::io("mend", &path))?;
                    }
                    let of_pages = is_unlogged(&name) || is_main(&name);
                    if of_pages && dir != Path::new(OUTCOMES) {
                        let cut = cut_to_pages(disk, &path);
                        let cut = cut.map_err(RecoveryError::io("truncate", &path))?;
                        done.cut += u32::from(cut);
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
    Ok(done)
}

/// A file of a main fork is named by number, and by its segment's behind the first.
fn is_main(name: &str) -> bool {
    let (stem, segment) = name.split_once('.').unwrap_or((name, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    is_number(stem) && is_number(segment)
}

fn cut_to_pages(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let len = disk.open(path, Access::Read)?.len()?;
    let whole = len - len % PAGE_SIZE as u64;
    if len != whole {
        disk.open(path, Access::ReadWrite)?.set_len(whole)?;
    }
    Ok(len != whole)
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
        assert!(is_main("16384") && is_main("16384.1"));
        for other in [
            "16384_fsm",
            "16384_fsm.1",
            "pg_control",
            "PG_VERSION",
            "16384.",
            "1.tmp",
        ] {
            assert!(!is_main(other), "{other}");
        }
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
        // It was growing.
        for (name, len) in [("3", 100), ("4", PAGE_SIZE + 4096)] {
            let path = Path::new("base/5").join(name);
            let file = disk.open(&path, Access::CreateNew).expect("new");
            file.write_all_at(&sound, 0).expect("written");
            file.set_len(len as u64).expect("cut");
        }
        let prepared = prepare(&disk, true).expect("done");
        assert_eq!(prepared, Prepared { mended: 1, cut: 2 });
        let left = disk.crash();
        let read = |name| {
            let path = Path::new("base/5").join(name);
            crate::io::durable::read(&left, &path).expect("durable")
        };
        assert_eq!(read("1"), sound);
        assert_eq!(read("1_fsm"), [0; PAGE_SIZE]);
        assert_eq!(read("2_fsm"), sound);
        assert!(read("3").is_empty());
        assert_eq!(read("4"), sound);
        let again = prepare(&disk, true).expect("done");
        assert_eq!(again, Prepared::default());
    }
}
