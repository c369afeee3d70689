//! Reading and changing rows of the system heap tables, indexes included.
//!
//! Reads never wait. Changes wait where PostgreSQL's would: for another transaction that is inserting the same
//! unique key, or that has changed the same row. A change by a transaction that dies leaves rows that nobody
//! sees, as in any table.

use crate::catalog::relation::{Index, Relation};
use crate::catalog::rows::CatalogRow;
use crate::catalog::schema::SystemRelations;
use crate::catalog::view::CatalogError;
use crate::ids::{Oid, Tid, Xid};
use crate::index::btree::{self, Direction, Entry, Inserted, KeyRange, UniqueCheck};
use crate::index::{IndexError, key};
use crate::table::TableCx;
use crate::table::heap::{self, Liveness, Modified, RowBuf, RowVersion};
use crate::table::row::RowDecoder;
use crate::txn::{LockWait, OwnXids, Snapshot, Transaction};
use crate::types::datum::Datum;

/// What catalog code works on: the store, the transactions and the system relations of one database.
#[derive(Clone, Copy)]
pub struct CatalogCx<'a> {
    pub table: TableCx<'a>,
    pub system: &'a SystemRelations,
    pub database: Oid,
}

impl<'a> CatalogCx<'a> {
    pub fn relation_of<R: CatalogRow>(&self) -> &'a Relation {
        self.system
            .get(R::TABLE)
            .expect("every row struct has its system table")
    }

    fn decode<R: CatalogRow>(
        &self,
        decoder: &RowDecoder,
        version: RowVersion<'_>,
    ) -> Result<R, CatalogError> {
        let relation = self.relation_of::<R>();
        let mut row = vec![Datum::Null; relation.columns.len()];
        decoder.decode(self.table, version, &mut row)?;
        R::from_row(&row).ok_or_else(|| CatalogError::Damaged {
            database: self.database,
            what: format!("row {} of {} has another form", version.tid, relation.name),
        })
    }

    /// Rows whose first `key.len()` columns of the index equal `key`, in index order.
    pub fn find<R: CatalogRow>(
        &self,
        snapshot: &Snapshot,
        index: Oid,
        key: &[Datum],
    ) -> Result<Vec<(Tid, R)>, CatalogError> {
        let relation = self.relation_of::<R>();
        let index = index_of(relation, index);
        let decoder = RowDecoder::all(relation);
        let mut buf = RowBuf::new();
        let store = self.table.store;
        let mut found: Vec<(Tid, R)> = Vec::new();
        let wanted = encode(index, key)?;
        let mut scan = btree::scan(
            store,
            index,
            prefix_range(wanted.clone()),
            Direction::Forward,
        )?;
        while let Some((tid, _)) = scan.next(store)? {
            if !heap::fetch(self.table, relation, tid, snapshot, &mut buf)? {
                continue;
            }
            let version = buf.version().expect("a row was fetched");
            let row: R = self.decode(&decoder, version)?;
            // A chain of versions is also reached from entries of keys that it no longer has.
            let values = row.to_row();
            let of_row: Vec<Datum> = index
                .keys
                .iter()
                .take(key.len())
                .map(|k| values[k.column].clone())
                .collect();
            if encode(index, &of_row)? == wanted && found.iter().all(|(t, _)| *t != version.tid) {
                found.push((version.tid, row));
            }
        }
        Ok(found)
    }

    /// The one row of a unique key.
    pub fn find_one<R: CatalogRow>(
        &self,
        snapshot: &Snapshot,
        index: Oid,
        key: &[Datum],
    ) -> Result<Option<(Tid, R)>, CatalogError> {
        Ok(self.find(snapshot, index, key)?.into_iter().next())
    }

    /// Who wrote a row version; `None` if everybody sees it.
    pub fn writer_of<R: CatalogRow>(
        &self,
        snapshot: &Snapshot,
        tid: Tid,
    ) -> Result<Option<Xid>, CatalogError> {
        let mut buf = RowBuf::new();
        let relation = self.relation_of::<R>();
        heap::fetch(self.table, relation, tid, snapshot, &mut buf)?;
        let xmin = buf.version().map(|version| version.header().xmin);
        Ok(xmin.filter(|xid| xid.is_normal()))
    }

    /// Every row that the snapshot sees.
    pub fn scan<R: CatalogRow>(&self, snapshot: &Snapshot) -> Result<Vec<(Tid, R)>, CatalogError> {
        let relation = self.relation_of::<R>();
        let decoder = RowDecoder::all(relation);
        let mut scan = heap::scan(self.table, relation, snapshot)?;
        let mut found = Vec::new();
        while let Some(version) = scan.next(self.table, snapshot)? {
            found.push((version.tid, self.decode(&decoder, version)?));
        }
        Ok(found)
    }

    /// Inserts a row; waits for a running transaction that inserts or deletes the same unique key, then a
    /// duplicate is [`CatalogError::Duplicate`].
    pub async fn insert<R: CatalogRow>(
        &self,
        txn: &mut Transaction,
        row: &R,
    ) -> Result<Tid, CatalogError> {
        let relation = self.relation_of::<R>();
        let values = row.to_row();
        let xid = self.table.txns.xid(txn)?;
        let tid = heap::insert(self.table, relation, &values, xid, txn.command_id())?;
        for index in &relation.indexes {
            self.insert_entry(txn, relation, index, &values, tid)
                .await?;
        }
        Ok(tid)
    }

    /// Replaces a row version that this transaction's snapshot sees.
    pub async fn update<R: CatalogRow>(
        &self,
        txn: &mut Transaction,
        tid: Tid,
        row: &R,
    ) -> Result<Tid, CatalogError> {
        let relation = self.relation_of::<R>();
        let values = row.to_row();
        let xid = self.table.txns.xid(txn)?;
        loop {
            let snapshot = self.table.txns.catalog_snapshot(txn);
            let cid = txn.command_id();
            match heap::update(self.table, relation, tid, &values, xid, cid, &snapshot)? {
                Modified::Done {
                    tid,
                    same_page: true,
                } => return Ok(tid),
                Modified::Done {
                    tid,
                    same_page: false,
                } => {
                    for index in &relation.indexes {
                        self.insert_entry(txn, relation, index, &values, tid)
                            .await?;
                    }
                    return Ok(tid);
                }
                Modified::Wait { xid, .. } => self.wait(txn, xid).await?,
                _ => return Err(CatalogError::ConcurrentUpdate(relation.name.clone())),
            }
        }
    }

    /// Sets a value of a fixed width, not NULL, in the version of a row that everybody sees: for everybody at once,
    /// whatever becomes of the transaction (`heap::overwrite` says what for). False: the row has changed meanwhile, the
    /// caller looks again.
    pub async fn overwrite<R: CatalogRow>(
        &self,
        txn: &mut Transaction,
        tid: Tid,
        column: &str,
        value: &Datum,
    ) -> Result<bool, CatalogError> {
        let relation = self.relation_of::<R>();
        let column = relation
            .column_named(column)
            .expect("callers name a column of the table");
        let xid = self.table.txns.xid(txn)?;
        let done = {
            let snapshot = self.table.txns.catalog_snapshot(txn);
            heap::overwrite(self.table, relation, tid, column, value, xid, &snapshot)?
        };
        match done {
            Modified::Done { .. } => Ok(true),
            Modified::Wait { xid, .. } => {
                self.wait(txn, xid).await?;
                Ok(false)
            }
            Modified::Updated { .. } | Modified::Deleted => Ok(false),
            Modified::SelfModified { .. } | Modified::Invisible => {
                Err(CatalogError::ConcurrentUpdate(relation.name.clone()))
            }
        }
    }

    /// Deletes a row version that this transaction's snapshot sees.
    pub async fn delete<R: CatalogRow>(
        &self,
        txn: &mut Transaction,
        tid: Tid,
    ) -> Result<(), CatalogError> {
        let relation = self.relation_of::<R>();
        let xid = self.table.txns.xid(txn)?;
        loop {
            let snapshot = self.table.txns.catalog_snapshot(txn);
            match heap::delete(self.table, relation, tid, xid, txn.command_id(), &snapshot)? {
                Modified::Done { .. } => return Ok(()),
                Modified::Wait { xid, .. } => self.wait(txn, xid).await?,
                _ => return Err(CatalogError::ConcurrentUpdate(relation.name.clone())),
            }
        }
    }

    async fn insert_entry(
        &self,
        txn: &mut Transaction,
        relation: &Relation,
        index: &Index,
        values: &[Datum],
        tid: Tid,
    ) -> Result<(), CatalogError> {
        let key_values: Vec<Datum> = index
            .keys
            .iter()
            .map(|k| values[k.column].clone())
            .collect();
        let key = encode(index, &key_values)?;
        loop {
            let xid = self.table.txns.xid(txn)?;
            let pending = {
                let own = txn.own();
                let mut ask = |at: Tid| self.entry_state(relation, at, own);
                let check = if index.unique {
                    UniqueCheck::Yes(&mut ask)
                } else {
                    UniqueCheck::No
                };
                match btree::insert(self.table.store, index, &key, tid, xid, check)? {
                    Inserted::Done => return Ok(()),
                    Inserted::Conflict {
                        state: Entry::Pending(xid),
                        ..
                    } => xid,
                    Inserted::Conflict { .. } => {
                        return Err(CatalogError::Duplicate {
                            index: index.name.clone(),
                        });
                    }
                }
            };
            self.wait(txn, pending).await?;
        }
    }

    fn entry_state(
        &self,
        relation: &Relation,
        tid: Tid,
        own: &OwnXids,
    ) -> Result<Entry, IndexError> {
        let state = heap::liveness(self.table, relation.file, tid, own);
        Ok(
            match state.map_err(|error| IndexError::Row(Box::new(error)))? {
                Liveness::Dead => Entry::Dead,
                Liveness::Live { .. } => Entry::Live,
                Liveness::Wait { xid } => Entry::Pending(xid),
            },
        )
    }

    async fn wait(&self, txn: &mut Transaction, xid: crate::ids::Xid) -> Result<(), CatalogError> {
        let locks = self.table.txns.locks();
        Ok(locks.wait_for_transaction(txn, xid, LockWait::Wait).await?)
    }
}

fn index_of(relation: &Relation, oid: Oid) -> &Index {
    relation
        .indexes
        .iter()
        .find(|i| i.oid == oid)
        .expect("callers name an index of the table")
}

fn encode(index: &Index, values: &[Datum]) -> Result<Vec<u8>, IndexError> {
    let mut key = Vec::with_capacity(64);
    for (part, value) in index.keys.iter().zip(values) {
        key::encode_part(part, value, &mut key)?;
    }
    Ok(key)
}

fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    use std::ops::Bound;
    let mut above = prefix.clone();
    let upper = if key::successor(&mut above) {
        Bound::Excluded(above)
    } else {
        Bound::Unbounded
    };
    KeyRange {
        lower: Bound::Included(prefix),
        upper,
    }
}
