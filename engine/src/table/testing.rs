//! Tables for tests of this room and of those above it.

use std::sync::Arc;

use crate::catalog::relation::{Column, Identity, Index, IndexKey, Relation, RelationKind};
use crate::ids::{Fork, Lsn, Oid, PageId, RelFile, Xid};
use crate::storage::change::{Replay, replay, replay_image};
use crate::storage::{PageBuf, StorageError, Store, WriteGate, page};
use crate::table::{TableCx, files, page_fn};
use crate::txn::testing::{DATABASE, World};
use crate::types::datum::SqlType;
use crate::wal::{Decoded, ReadError, RmgrId};

impl World {
    pub(crate) fn cx(&self) -> TableCx<'_> {
        TableCx {
            store: &self.store,
            txns: &self.txns,
        }
    }
}

/// A table with a unique index on the columns at `key` (none if empty) and an overflow file.
pub(crate) fn relation(number: u32, types: &[Oid], key: &[usize]) -> Relation {
    let columns: Vec<Column> = types
        .iter()
        .enumerate()
        .map(|(i, ty)| Column {
            name: format!("c{i}"),
            attribute: i as i16 + 1,
            ty: SqlType::plain(*ty),
            not_null: false,
            dropped: false,
            default: None,
            identity: Identity::No,
            missing: None,
        })
        .collect();
    let keys = key
        .iter()
        .map(|column| IndexKey {
            column: *column,
            ty: columns[*column].ty,
            class: Oid::INVALID,
            descending: false,
            nulls_first: false,
        })
        .collect();
    let index = Index {
        oid: Oid::new(number + 2),
        name: "t_pkey".to_owned(),
        table: Oid::new(number),
        file: RelFile::of_database(DATABASE, Oid::new(number + 2)),
        keys,
        included: Vec::new(),
        unique: true,
        primary: true,
        nulls_not_distinct: false,
        valid: true,
        constraint: None,
        deferrable: false,
        only_if_sees: None,
    };
    Relation {
        oid: Oid::new(number),
        name: "t".to_owned(),
        schema: Oid::new(2200),
        schema_name: "public".to_owned(),
        kind: RelationKind::Table,
        owner: Oid::new(10),
        acl: None,
        file: RelFile::of_database(DATABASE, Oid::new(number)),
        overflow: Some(RelFile::of_database(DATABASE, Oid::new(number + 1))),
        columns,
        indexes: if key.is_empty() {
            Vec::new()
        } else {
            vec![Arc::new(index)]
        },
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    }
}

/// Makes the table's files.
pub(crate) fn create(world: &World, rel: &Relation) {
    files::create_untracked(&world.store, Xid::BOOTSTRAP, rel.file).expect("created");
    if let Some(overflow) = rel.overflow {
        files::create_untracked(&world.store, Xid::BOOTSTRAP, overflow).expect("created");
    }
}

/// All pages of a main fork, checksums left out.
pub(crate) fn pages(world: &World, file: RelFile) -> Vec<PageBuf> {
    let pool = &world.store.pool;
    let count = pool.block_count(file, Fork::Main).expect("a file");
    (0..count)
        .map(|block| {
            let id = PageId {
                file,
                fork: Fork::Main,
                block: crate::ids::BlockNumber::new(block),
            };
            let mut page: PageBuf = *pool.pin(id).expect("a sound page").read();
            page::put_u16(&mut page, 8, 0);
            page
        })
        .collect()
}

/// Lets every page pass: the copy has no log of its own.
pub(crate) struct OpenGate;
impl WriteGate for OpenGate {
    fn before_write(&self, _page_lsn: Lsn) -> Result<(), StorageError> {
        Ok(())
    }
    fn fatal(&self, reason: &str) {
        panic!("{reason}");
    }
}

/// Replays the heap and storage records of `from` in `into`, whose files do not exist yet.
pub(crate) fn replay_log(from: &World, into: &World) {
    into.store.pool.set_gate(Arc::new(OpenGate));
    let mut log = from.log();
    loop {
        match log.next() {
            Ok(record) => redo_record(&into.store, &record),
            Err(ReadError::EndOfLog { .. }) => break,
            Err(e) => panic!("the log does not read: {e}"),
        }
    }
}

/// Redo of one heap or storage record; others are left alone.
pub(crate) fn redo_record(store: &Store, record: &Decoded<'_>) {
    if record.rmgr == RmgrId::STORAGE {
        files::redo(store, record.info, record.main).expect("redo");
    }
    if record.rmgr != RmgrId::HEAP {
        return;
    }
    for block in &record.blocks {
        let image = block.image.as_ref().filter(|_| block.apply_image);
        let pin = if block.will_init || image.is_some() {
            store.pool.pin_for_init(block.page)
        } else {
            store.pool.pin(block.page)
        };
        let pin = pin.expect("a page to redo");
        let mut page = pin.write();
        if let Some(image) = image {
            replay_image(&mut page, record.start, record.end, |page| {
                image.restore(page)
            });
            continue;
        }
        let part = Replay {
            start: record.start,
            end: record.end,
            info: record.info,
            block: block.id,
            will_init: block.will_init,
            data: block.data,
        };
        replay(&mut page, &part, page_fn()).expect("redo");
    }
}
