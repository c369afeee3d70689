//! Whole databases: copying one into another, dropping one.
//!
//! A copy goes through the log page by page (PostgreSQL's strategy `WAL_LOG`), so it needs no checkpoint and
//! standbys follow it like any change. A crash in the middle leaves a directory that no catalog row names, which
//! the next recovery removes. Dropping is logged after the row's deletion has committed, and only then are
//! files removed.
//!
//! ```text
//! CREATE_WAL_LOG 0x10   database u32 | tablespace u32
//! DROP           0x20   database u32 | count u32 (1) | tablespace u32
//! ```
//! Source: PostgreSQL 15, `commands/dbcommands_xlog.h`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::catalog::session::Catalog;
use crate::catalog::view::CatalogError;
use crate::ids::{BlockNumber, DEFAULT_TABLESPACE, Fork, Oid, PageId, RelFile, Xid};
use crate::io::{Disk, EntryKind, durable};
use crate::storage::change::{BlockMode, Change};
use crate::storage::{StorageError, Store, page};
use crate::wal::{Inserted, Record, RmgrId};

pub const CREATE_WAL_LOG: u8 = 0x10;
pub const DROP: u8 = 0x20;
/// Both are written; `pg_waldump`'s names.
pub const WRITTEN: &[(u8, &str)] = &[(CREATE_WAL_LOG, "CREATE_WAL_LOG"), (DROP, "DROP")];

/// `base/N`
fn directory(database: Oid) -> PathBuf {
    Path::new("base").join(database.to_string())
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.display().to_string();
    move |source| StorageError::Io {
        operation,
        path,
        source,
    }
}

/// Makes the database's directory with its version file, durably. One that is there already is kept.
pub fn create_directory(disk: &dyn Disk, database: Oid) -> Result<(), StorageError> {
    let path = directory(database);
    match disk.create_dir(&path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(io_error("create directory", &path))?,
    }
    let version = path.join("PG_VERSION");
    durable::replace(disk, &version, b"15\n").map_err(io_error("write", &version))?;
    disk.sync_dir(Path::new("base"))
        .map_err(io_error("fsync", Path::new("base")))
}

fn log(store: &Store, info: u8, main: &[u32]) -> Inserted {
    let main: Vec<u8> = main.iter().flat_map(|word| word.to_le_bytes()).collect();
    let xid = Xid::INVALID;
    store.wal.insert(&Record {
        rmgr: RmgrId::DATABASE,
        info,
        xid,
        main: &main,
        blocks: &[],
    })
}

/// Logs the new database and makes its directory.
pub fn create(store: &Store, database: Oid) -> Result<(), StorageError> {
    create_directory(&*store.disk, database)?;
    log(
        store,
        CREATE_WAL_LOG,
        &[database.raw(), DEFAULT_TABLESPACE.raw()],
    );
    Ok(())
}

/// Copies every relation file of `from` into the (new, empty) database `to`. Nobody is connected to `from`, or
/// what they change meanwhile is copied torn between relations: the caller holds the lock that keeps them out.
pub fn copy(store: &Store, from: Oid, to: Oid, xid: Xid) -> Result<(), StorageError> {
    create(store, to)?;
    for number in relation_numbers(&*store.disk, from)? {
        let source = RelFile::of_database(from, number);
        let target = RelFile::of_database(to, number);
        crate::table::files::create_untracked(store, xid, target)?;
        for fork in [Fork::Main, Fork::FreeSpace] {
            copy_fork(store, source, target, fork, xid)?;
        }
    }
    Ok(())
}

fn copy_fork(
    store: &Store,
    source: RelFile,
    target: RelFile,
    fork: Fork,
    xid: Xid,
) -> Result<(), StorageError> {
    // The free-space map is a hint that is not logged; the copy grows its own.
    if fork != Fork::Main {
        return Ok(());
    }
    for block in 0..store.pool.block_count(source, fork)? {
        let block = BlockNumber::new(block);
        let from = store.pool.pin(PageId {
            file: source,
            fork,
            block,
        })?;
        let into = store.pool.extend(target, fork)?;
        let from = from.read();
        if page::is_new(&from) {
            continue;
        }
        let mut into = into.write();
        into.copy_from_slice(&from[..]);
        drop(from);
        let mut change = Change::new(RmgrId::XLOG, crate::wal::xlog_records::FPI, xid);
        change.block(&mut into, BlockMode::Image, &[]);
        change.commit(&store.wal, |_, _, _, _| Ok(()));
    }
    Ok(())
}

/// The numbers of the relations that have a main fork in the database's directory.
fn relation_numbers(disk: &dyn Disk, database: Oid) -> Result<BTreeSet<Oid>, StorageError> {
    let path = directory(database);
    let entries = disk
        .list(&path)
        .map_err(io_error("read directory", &path))?;
    let number = |(name, kind): (String, EntryKind)| {
        (kind == EntryKind::File)
            .then(|| name.parse().ok().map(Oid::new))
            .flatten()
    };
    Ok(entries.into_iter().filter_map(number).collect())
}

/// Logs the end of a database and removes its files. Its row is gone for everyone and nobody is connected.
pub fn drop_files(store: &Store, database: Oid) -> Result<(), StorageError> {
    // A checkpoint whose redo point lies behind the record waits until the files are gone.
    let _cut = store.cuts.read();
    let inserted = log(store, DROP, &[database.raw(), 1, DEFAULT_TABLESPACE.raw()]);
    store.wal.flush_blocking(inserted.end);
    remove(store, database)
}

fn remove(store: &Store, database: Oid) -> Result<(), StorageError> {
    store.pool.forget_database(database);
    store.files.forget_database(database);
    let path = directory(database);
    let entries = match store.disk.list(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("read directory", &path))?,
    };
    for (name, kind) in entries {
        let file = path.join(name);
        if kind == EntryKind::File {
            store
                .disk
                .remove_file(&file)
                .map_err(io_error("remove", &file))?;
        }
    }
    store
        .disk
        .remove_dir(&path)
        .map_err(io_error("remove directory", &path))?;
    store
        .disk
        .sync_dir(Path::new("base"))
        .map_err(io_error("fsync", Path::new("base")))
}

/// A database record that redo cannot read or carry out.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseRedoError {
    #[error("database record {0:#04x} cannot be understood")]
    Malformed(u8),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The database that a record drops.
pub fn dropped_by(info: u8, main: &[u8]) -> Option<Oid> {
    let database = u32::from_le_bytes(*main.first_chunk()?);
    (info & 0xF0 == DROP).then(|| Oid::new(database))
}

/// Redo of a database record; a drop says which database, so that waiting page changes of it can be forgotten.
pub fn redo(store: &Store, info: u8, main: &[u8]) -> Result<Option<Oid>, DatabaseRedoError> {
    let word = main
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_le_bytes);
    let database = word
        .map(Oid::new)
        .ok_or(DatabaseRedoError::Malformed(info))?;
    match info & 0xF0 {
        CREATE_WAL_LOG => {
            create_directory(&*store.disk, database)?;
            Ok(None)
        }
        DROP => {
            remove(store, database)?;
            Ok(Some(database))
        }
        _ => Err(DatabaseRedoError::Malformed(info)),
    }
}

/// What a database's directory is found to be. A session must not begin unless it is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Directory {
    Whole,
    Missing,
    NoVersion,
    /// `PG_VERSION` says nothing.
    BadVersion,
    /// ... or another release.
    OtherVersion(u32),
}

/// Looks at the database's directory and its version file. Source: PostgreSQL 15, `ValidatePgVersion`.
pub fn look_at_directory(catalog: &Catalog, database: Oid) -> Result<Directory, CatalogError> {
    let disk = &*catalog.store.disk;
    let path = directory(database);
    let version = path.join("PG_VERSION");
    let text = match durable::read(disk, &version) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let is_there = disk.exists(&path).map_err(io_error("access", &path))?;
            return Ok(if is_there {
                Directory::NoVersion
            } else {
                Directory::Missing
            });
        }
        Err(e) => return Err(io_error("open", &version)(e).into()),
    };
    Ok(match text.trim().parse() {
        Ok(15) => Directory::Whole,
        Ok(other) => Directory::OtherVersion(other),
        Err(_) => Directory::BadVersion,
    })
}
