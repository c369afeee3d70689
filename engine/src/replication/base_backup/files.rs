//! Which files of a running data directory go into a backup.
//!
//! Left out is what a copy must not have (another server's pid file), what is of no use in it (slots, temporary
//! files) and the log, which is fetched or streamed separately. Everything else is copied as it is at that
//! moment: ARCHITECTURE.md says for each file why a torn copy of it is harmless.

use std::io;
use std::path::{Path, PathBuf};

use crate::io::{Disk, EntryKind};

/// Directories that are made in the copy, but empty.
const EMPTY_IN_COPY: &[&str] = &[
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Files that are never copied, wherever they are.
const LEFT_OUT: &[&str] = &[
    "postmaster.pid",
    "postmaster.opts",
    "postmaster.lock",
    "backup_label",
    "tablespace_map",
    "backup_manifest",
    "promote",
    "told",
    "standby.signal.tmp",
    "current_logfiles",
    "pg_internal.init",
];

/// Written last, so that what it says is never older than what was copied before.
pub const CONTROL_FILE: &str = "global/pg_control";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Directory(PathBuf),
    File(PathBuf),
}

/// Everything to copy except [`CONTROL_FILE`], directories before what is in them.
pub fn to_copy(disk: &dyn Disk) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    walk(disk, Path::new(""), &mut found)?;
    Ok(found)
}

fn walk(disk: &dyn Disk, dir: &Path, found: &mut Vec<Entry>) -> io::Result<()> {
    let mut entries = match disk.list(dir) {
        Ok(entries) => entries,
        // A database that was dropped meanwhile: replay of the log drops it in the copy as well.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.as_os_str().is_empty() => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = dir.join(&name);
        match kind {
            EntryKind::Directory if name == "pgsql_tmp" => {}
            EntryKind::Directory => {
                found.push(Entry::Directory(path.clone()));
                if dir.as_os_str().is_empty() && EMPTY_IN_COPY.contains(&name.as_str()) {
                    if name == "pg_wal" {
                        found.push(Entry::Directory(path.join("archive_status")));
                    }
                } else {
                    walk(disk, &path, found)?;
                }
            }
            EntryKind::File if is_left_out(&name) || path == Path::new(CONTROL_FILE) => {}
            EntryKind::File => found.push(Entry::File(path)),
            EntryKind::Other => {}
        }
    }
    Ok(())
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name) || name.starts_with("pgsql_tmp") || name.ends_with(".tmp")
}

/// True for files whose pages carry checksums: PostgreSQL's names of relation files in `base/` and `global/`.
pub fn has_page_checksums(path: &Path) -> bool {
    let in_relations = path.starts_with("base") || path.starts_with("global");
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let number = name.split(['_', '.']).next().unwrap_or_default();
    in_relations && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::real::RealDisk;

    #[test]
    fn a_copy_has_what_it_needs_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for sub in [
            "base/5/pgsql_tmp",
            "global",
            "pg_wal/archive_status",
            "pg_xact",
            "pg_replslot/x",
        ] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("created");
        }
        for file in [
            "postmaster.pid",
            "PG_VERSION",
            "base/5/1259",
            "base/5/pgsql_tmp/1",
            "global/pg_control",
            "pg_wal/000000010000000000000001",
            "pg_replslot/x/state",
            "pg_xact/0000",
            "backup_label",
            "global/pg_control.tmp",
        ] {
            std::fs::write(dir.path().join(file), b"x").expect("written");
        }
        let found = to_copy(&RealDisk::new(dir.path())).expect("readable");
        let files: Vec<_> = found
            .iter()
            .filter_map(|e| {
                if let Entry::File(p) = e {
                    p.to_str()
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(files, ["PG_VERSION", "base/5/1259", "pg_xact/0000"]);
        assert!(found.contains(&Entry::Directory("pg_wal/archive_status".into())));
        assert!(!found.contains(&Entry::Directory("base/5/pgsql_tmp".into())));
    }

    #[test]
    fn relation_files_are_told_by_their_names() {
        for yes in [
            "base/5/16384",
            "base/5/16384_fsm",
            "base/5/16384.1",
            "global/1262",
        ] {
            assert!(has_page_checksums(Path::new(yes)), "{yes}");
        }
        for no in [
            "global/pg_control",
            "base/5/PG_VERSION",
            "pg_xact/0000",
            "PG_VERSION",
        ] {
            assert!(!has_page_checksums(Path::new(no)), "{no}");
        }
    }
}
