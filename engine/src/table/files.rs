//! Creating, cutting and dropping relation files, with PostgreSQL's storage records.
//!
//! ```text
//! CREATE   0x10  tablespace u32 | database u32 | file number u32 | fork i32
//! TRUNCATE 0x20  blocks u32 | tablespace u32 | database u32 | file number u32 | flags i32 (1 heap, 2 vm, 4 fsm)
//! ```
//! Source: PostgreSQL 15, `catalog/storage_xlog.h`.
//!
//! A file is made first and logged then: a crash in between leaves an empty file that no record and no catalog row
//! names. It is dropped only after the commit record, which names it, or when its transaction aborts; redo of
//! either drops it again. A cut is logged and flushed first: redo cuts again, and pages beyond the cut that older
//! records bring back are cut off with it.

use crate::ids::{Fork, Oid, RelFile, Xid};
use crate::storage::{StorageError, Store};
use crate::txn::Transaction;
use crate::wal::{Inserted, Record, RmgrId};

const CREATE: u8 = 0x10;
const TRUNCATE: u8 = 0x20;
/// Both are written, under these names.
pub const WRITTEN: &[(u8, &str)] = &[(CREATE, "CREATE"), (TRUNCATE, "TRUNCATE")];
const TRUNCATE_HEAP: u32 = 1;
const TRUNCATE_FSM: u32 = 4;

fn put_file(out: &mut Vec<u8>, file: RelFile) {
    for part in [file.tablespace, file.database, file.number] {
        out.extend_from_slice(&part.raw().to_le_bytes());
    }
}

fn log(store: &Store, info: u8, xid: Xid, main: &[u8]) -> Inserted {
    store.wal.insert(&Record {
        rmgr: RmgrId::STORAGE,
        info,
        xid,
        main,
        blocks: &[],
    })
}

/// Makes a relation's empty main fork; it goes again if the (sub)transaction `xid` does not commit.
pub fn create(
    store: &Store,
    txn: &mut Transaction,
    xid: Xid,
    file: RelFile,
) -> Result<(), StorageError> {
    txn.on_abort_drop(file);
    create_untracked(store, xid, file)
}

/// The same without a transaction that would drop it: bootstrap, and copies of whole databases.
pub fn create_untracked(store: &Store, xid: Xid, file: RelFile) -> Result<(), StorageError> {
    store.files.create(file, Fork::Main, false)?;
    let mut main = Vec::with_capacity(16);
    put_file(&mut main, file);
    main.extend_from_slice(&u32::from(Fork::Main.number()).to_le_bytes());
    log(store, CREATE, xid, &main);
    Ok(())
}

/// The relation's file goes when the transaction commits.
pub fn drop_at_commit(txn: &mut Transaction, file: RelFile) {
    txn.on_commit_drop(file);
}

/// Cuts the main fork to `blocks` pages. Not undone by an abort: only for pages that hold nothing.
pub fn truncate(store: &Store, file: RelFile, blocks: u32) -> Result<(), StorageError> {
    let mut main = Vec::with_capacity(20);
    main.extend_from_slice(&blocks.to_le_bytes());
    put_file(&mut main, file);
    main.extend_from_slice(&(TRUNCATE_HEAP | TRUNCATE_FSM).to_le_bytes());
    let _cut = store.cuts.read();
    let inserted = log(store, TRUNCATE, Xid::INVALID, &main);
    store.wal.flush_blocking(inserted.end);
    store.pool.truncate(file, Fork::Main, blocks)
}

/// A storage record that redo cannot read or carry out.
#[derive(Debug, thiserror::Error)]
pub enum StorageRedoError {
    #[error("unknown storage record {0:#04x}")]
    UnknownInfo(u8),
    #[error("storage record is cut short")]
    Short,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The main fork that a storage record makes.
pub fn created_by(info: u8, main: &[u8]) -> Option<RelFile> {
    let word = |i: usize| Some(u32::from_le_bytes(*main.get(i * 4..)?.first_chunk()?));
    let (tablespace, database, number) = (word(0)?, word(1)?, word(2)?);
    let is_main = word(3)? == u32::from(Fork::Main.number());
    (info & 0xF0 == CREATE && is_main).then(|| RelFile {
        tablespace: Oid::new(tablespace),
        database: Oid::new(database),
        number: Oid::new(number),
    })
}

/// What a storage record cuts off: the fork, and how many of its blocks stay.
pub fn cut_by(info: u8, main: &[u8]) -> Option<(RelFile, Fork, u32)> {
    if info & 0xF0 != TRUNCATE {
        return None;
    }
    let word = |i: usize| Some(u32::from_le_bytes(*main.get(i * 4..)?.first_chunk()?));
    let (tablespace, database, number) = (word(1)?, word(2)?, word(3)?);
    let file = RelFile {
        tablespace: Oid::new(tablespace),
        database: Oid::new(database),
        number: Oid::new(number),
    };
    Some((file, Fork::Main, word(0)?))
}

/// Redo of a storage record. A barrier: no other record of the file may be under way.
pub fn redo(store: &Store, info: u8, main: &[u8]) -> Result<(), StorageRedoError> {
    let word = |i: usize| {
        let bytes = main.get(i * 4..i * 4 + 4).ok_or(StorageRedoError::Short)?;
        Ok::<u32, StorageRedoError>(u32::from_le_bytes(
            bytes.try_into().map_err(|_| StorageRedoError::Short)?,
        ))
    };
    let file = |at: usize| {
        Ok::<RelFile, StorageRedoError>(RelFile {
            tablespace: Oid::new(word(at)?),
            database: Oid::new(word(at + 1)?),
            number: Oid::new(word(at + 2)?),
        })
    };
    match info & 0xF0 {
        CREATE => {
            let fork = u8::try_from(word(3)?).ok().and_then(Fork::from_number);
            store
                .files
                .create(file(0)?, fork.ok_or(StorageRedoError::Short)?, true)?;
        }
        TRUNCATE => {
            let (blocks, file) = (word(0)?, file(1)?);
            // PostgreSQL makes the file if a later record has dropped it: the cut must find something to cut.
            store.files.create(file, Fork::Main, true)?;
            store.pool.truncate(file, Fork::Main, blocks)?;
            crate::table::free_space::truncate(store, file, blocks)?;
        }
        other => return Err(StorageRedoError::UnknownInfo(other)),
    }
    Ok(())
}
