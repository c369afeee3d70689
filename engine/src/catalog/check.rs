//! Looking for damage in whole tables: heap, overflow values, indexes, and whether they agree. Our `amcheck`.
//!
//! Read only. On a running server nothing is locked: a finding counts only if no page of the relation has been
//! changed since the look at it began (each page's LSN says so); otherwise the relation is looked at again. One that
//! is changed all the time is reported as such, never as damaged.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::catalog::rows::DatabaseRow;
use crate::catalog::session::Catalog;
use crate::catalog::view::{CatalogError, CatalogView};
use crate::ids::{BlockNumber, Fork, Lsn, Oid, PageId, RelFile, Tid};
use crate::index::{self, IndexError, key};
use crate::storage::{StorageError, page};
use crate::table::heap::{self, Pointee};
use crate::table::row::RowDecoder;
use crate::table::{TableError, check as heap_check};
use crate::txn::{Interrupts, Isolation, Snapshot, Transaction, TxnOptions};
use crate::types::datum::Datum;

/// So often a relation that others change is looked at.
const ATTEMPTS: u32 = 5;
/// Findings of one relation after which the rest is left out: a heap full of zeroes has one for each row.
const MOST_FINDINGS: usize = 100;

/// Something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Schema and name of the table or index.
    pub relation: String,
    pub block: Option<BlockNumber>,
    /// Line pointer, from 1.
    pub item: Option<u16>,
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "relation \"{}\"", self.relation)?;
        if let Some(block) = self.block {
            write!(f, ", block {block}")?;
        }
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What is looked at, and on whose behalf.
pub struct Check<'a> {
    pub catalog: &'a Catalog,
    pub database: Oid,
    /// Reads rows; a session's own would do.
    pub reader: Arc<Interrupts>,
    /// Asked between pages; an error ends the work.
    pub interrupted: &'a dyn Fn() -> Result<(), CatalogError>,
}

/// The databases of the cluster, by name.
pub fn databases(
    catalog: &Catalog,
    reader: &Arc<Interrupts>,
) -> Result<Vec<(Oid, String)>, CatalogError> {
    let txn = begin(catalog, reader, Oid::INVALID);
    let snapshot = catalog.txns.catalog_snapshot(&txn);
    let system = catalog.system(Oid::INVALID);
    let cx = catalog.cx(&system, Oid::INVALID);
    let rows = cx.scan::<DatabaseRow>(&snapshot)?;
    Ok(rows.into_iter().map(|(_, d)| (d.oid, d.datname)).collect())
}

fn begin(catalog: &Catalog, reader: &Arc<Interrupts>, database: Oid) -> Transaction {
    let options = TxnOptions {
        isolation: Isolation::ReadCommitted,
        read_only: true,
        deferrable: false,
        database,
    };
    catalog.txns.begin(options, Arc::clone(reader))
}

impl Check<'_> {
    fn with_snapshot<T>(&self, work: impl FnOnce(&Snapshot) -> T) -> T {
        let txn = begin(self.catalog, &self.reader, self.database);
        let snapshot = self.catalog.txns.catalog_snapshot(&txn);
        work(&snapshot)
    }

    fn relation(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError> {
        self.with_snapshot(|snapshot| {
            let view = self
                .catalog
                .view_at(self.database, snapshot, 0, &[], Oid::INVALID);
            view.relation(oid)
        })
    }

    /// Tables and sequences of the database, the catalog's own and the shared ones included.
    pub fn everything(&self) -> Result<Vec<Arc<Relation>>, CatalogError> {
        let mut all = self.with_snapshot(|snapshot| {
            let view = self
                .catalog
                .view_at(self.database, snapshot, 0, &[], Oid::INVALID);
            view.relations()
        })?;
        all.retain(|r| matches!(r.kind, RelationKind::Table | RelationKind::Sequence));
        Ok(all)
    }

    /// A table with its indexes, an index (with its table), or a sequence.
    pub fn one(&self, oid: Oid) -> Result<Vec<Finding>, CatalogError> {
        let mut findings = Vec::new();
        for _ in 0..ATTEMPTS {
            let begun = self.position();
            let Some(relation) = self.table_of(oid)? else {
                return Ok(Vec::new());
            };
            findings.clear();
            let outcome = self.with_snapshot(|s| self.look_at(&relation, s, &mut findings));
            match outcome {
                Ok(()) if findings.is_empty() => return Ok(findings),
                // A file that went meanwhile belongs to a relation that was dropped or rewritten.
                Err(error) if !is_of_storage(&error) => return Err(error),
                Err(error) => findings.push(finding(&relation.name, None, error.to_string())),
                Ok(()) => {}
            }
            if !self.changed_since(&relation, begun)? {
                return Ok(findings);
            }
        }
        findings.clear();
        if let Some(relation) = self.table_of(oid)? {
            let what = "could not be checked, because it is changed all the time (LOCK TABLE ... IN SHARE MODE in another session keeps writers out)";
            findings.push(finding(&shown(&relation), None, what.to_owned()));
        }
        Ok(findings)
    }

    fn table_of(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError> {
        let Some(relation) = self.relation(oid)? else {
            return Ok(None);
        };
        if relation.kind != RelationKind::Index {
            return Ok(Some(relation));
        }
        let all = self.everything()?;
        let owns = |r: &Arc<Relation>| r.indexes.iter().any(|i| i.oid == oid);
        Ok(all.into_iter().find(owns))
    }

    fn look_at(
        &self,
        relation: &Relation,
        snapshot: &Snapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<(), CatalogError> {
        match relation.kind {
            RelationKind::Table => self.table(relation, snapshot, findings),
            RelationKind::Sequence => self.pages(relation, findings),
            _ => Ok(()),
        }
    }

    /// A sequence is one page; reading it verifies it.
    fn pages(&self, relation: &Relation, findings: &mut Vec<Finding>) -> Result<(), CatalogError> {
        if let Err(error) = crate::table::sequence::stored(&self.catalog.store, relation.file) {
            findings.push(finding(&shown(relation), None, error.to_string()));
        }
        Ok(())
    }

    fn table(
        &self,
        rel: &Relation,
        snapshot: &Snapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<(), CatalogError> {
        let cx = self.catalog.table_cx();
        let mut of_heap = Vec::new();
        for block in (0..heap::blocks(cx, rel)?).map(BlockNumber::new) {
            (self.interrupted)()?;
            heap_check::check_block(cx, rel, block, &mut of_heap)?;
            if of_heap.len() > MOST_FINDINGS {
                break;
            }
        }
        findings.extend(of_heap.into_iter().map(|f| Finding {
            relation: shown(rel),
            block: Some(f.block),
            item: f.offset.map(|o| o.raw()),
            what: f.what,
        }));
        for index in rel.indexes.iter().filter(|i| i.valid) {
            self.index(rel, index, snapshot, findings)?;
        }
        Ok(())
    }

    /// The tree by itself, then each entry's row, then each row's entry.
    fn index(
        &self,
        rel: &Relation,
        index: &Index,
        snapshot: &Snapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<(), CatalogError> {
        let name = format!("{}.{}", rel.schema_name, index.name);
        let before = findings.len();
        let mut keys = Keys::new(rel, index);
        let walked = index::check::check(&self.catalog.store, index, &mut |entry, tid| {
            if findings.len() - before < MOST_FINDINGS {
                let what = self
                    .entry(rel, &mut keys, entry, tid)
                    .map_err(|e| IndexError::Row(Box::new(e)))?;
                findings.extend(what.map(|what| finding(&name, None, what)));
            }
            Ok(())
        });
        match walked {
            Ok(_) => self.rows(rel, index, &name, snapshot, findings),
            Err(error) => {
                let block = match &error {
                    IndexError::Damaged { page, .. } => Some(page.block),
                    IndexError::Storage(StorageError::Damaged(page)) => Some(page.block),
                    _ => None,
                };
                findings.push(finding(&name, block, error.to_string()));
                Ok(())
            }
        }
    }

    /// What is wrong with one entry: it must lead to a row, and one version of the row must have its key.
    fn entry(
        &self,
        rel: &Relation,
        keys: &mut Keys<'_>,
        entry: &[u8],
        tid: Tid,
    ) -> Result<Option<String>, TableError> {
        let cx = self.catalog.table_cx();
        let (mut equal, mut members, mut needed_members) = (false, 0, 0);
        let pointee = heap::visit_chain(cx, rel, tid, &mut |version, needed| {
            members += 1;
            needed_members += u32::from(needed);
            match keys.of(cx, version) {
                Ok(key) => equal |= key == entry,
                // The overflow values of a dead version may be gone.
                Err(_) if !needed => {}
                Err(error) => return Err(error),
            }
            Ok::<bool, TableError>(!equal)
        })?;
        Ok(match pointee {
            Pointee::Beyond => Some(format!("entry leads to {tid}, beyond the table's end")),
            Pointee::Unused => Some(format!("entry leads to {tid}, a line pointer that is free")),
            Pointee::HeapOnly => Some(format!("entry leads to {tid}, which no index may lead to")),
            Pointee::Chain if !equal && needed_members > 0 => Some(format!(
                "entry leads to {tid}, and none of the {members} row versions there has its key"
            )),
            Pointee::Dead | Pointee::Chain => None,
        })
    }

    fn rows(
        &self,
        rel: &Relation,
        index: &Index,
        name: &str,
        snapshot: &Snapshot,
        findings: &mut Vec<Finding>,
    ) -> Result<(), CatalogError> {
        let cx = self.catalog.table_cx();
        let before = findings.len();
        let mut keys = Keys::new(rel, index);
        for block in (0..heap::blocks(cx, rel)?).map(BlockNumber::new) {
            (self.interrupted)()?;
            let visited = heap::for_index::<CatalogError>(cx, rel, block, snapshot, &mut |row| {
                if !row.live || findings.len() - before >= MOST_FINDINGS {
                    return Ok(());
                }
                let tid = row.root;
                let key = keys.of(cx, row.version)?;
                if !index::check::has_entry(cx.store, index, key, tid)? {
                    let what = format!("row {tid} of the table has no entry");
                    findings.push(finding(name, None, what));
                }
                Ok(())
            });
            match visited {
                // Reported with the heap.
                Err(CatalogError::Storage(StorageError::Damaged(_)))
                | Err(CatalogError::Table(TableError::Storage(StorageError::Damaged(_)))) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Pages changed from now on are newer than this.
    fn position(&self) -> Lsn {
        if self.catalog.txns.in_recovery() {
            self.catalog.txns.replay_lsn()
        } else {
            self.catalog.store.wal.end_lsn()
        }
    }

    /// Is a page of the relation newer than this, or does the relation have other files now?
    fn changed_since(&self, relation: &Relation, begun: Lsn) -> Result<bool, CatalogError> {
        if self.position() == begun {
            return Ok(false);
        }
        let now = self.relation(relation.oid)?;
        if now.is_none_or(|now| files_of(&now) != files_of(relation)) {
            return Ok(true);
        }
        for file in files_of(relation) {
            match self.newest(file) {
                Ok(lsn) if lsn > begun => return Ok(true),
                // A file that is missing, though the catalog names it, is a finding of its own.
                Ok(_) => {}
                Err(e) if e.is_not_found() || matches!(e, StorageError::Partial { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    fn newest(&self, file: RelFile) -> Result<Lsn, StorageError> {
        let pool = &self.catalog.store.pool;
        let mut newest = Lsn::INVALID;
        for block in 0..pool.block_count(file, Fork::Main)? {
            let id = PageId {
                file,
                fork: Fork::Main,
                block: BlockNumber::new(block),
            };
            match pool.pin(id) {
                Ok(pin) => newest = newest.max(page::lsn(&pin.read())),
                Err(StorageError::Damaged(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(newest)
    }
}

/// Keys of row versions, as an index has them.
struct Keys<'a> {
    index: &'a Index,
    decoder: RowDecoder,
    values: Vec<Datum>,
    key: Vec<u8>,
}

impl<'a> Keys<'a> {
    fn new(rel: &Relation, index: &'a Index) -> Keys<'a> {
        let wanted: Vec<usize> = index.keys.iter().map(|k| k.column).collect();
        Keys {
            index,
            decoder: RowDecoder::new(rel, &distinct(wanted)),
            values: vec![Datum::Null; rel.columns.len()],
            key: Vec::new(),
        }
    }

    fn of(
        &mut self,
        cx: crate::table::TableCx<'_>,
        version: heap::RowVersion<'_>,
    ) -> Result<&[u8], TableError> {
        self.decoder.decode(cx, version, &mut self.values)?;
        self.key.clear();
        for part in &self.index.keys {
            key::encode_part(part, &self.values[part.column], &mut self.key)
                .map_err(|_| TableError::UnsupportedType(part.ty.oid))?;
        }
        Ok(&self.key)
    }
}

fn files_of(relation: &Relation) -> Vec<RelFile> {
    let indexes = relation.indexes.iter().map(|i| i.file);
    let own = [relation.file].into_iter().chain(relation.overflow);
    own.chain(indexes).collect()
}

fn distinct(mut columns: Vec<usize>) -> Vec<usize> {
    columns.sort_unstable();
    columns.dedup();
    columns
}

fn is_of_storage(error: &CatalogError) -> bool {
    matches!(
        error,
        CatalogError::Storage(_)
            | CatalogError::Table(_)
            | CatalogError::Index(_)
            | CatalogError::Damaged { .. }
    )
}

fn shown(relation: &Relation) -> String {
    format!("{}.{}", relation.schema_name, relation.name)
}

fn finding(relation: &str, block: Option<BlockNumber>, what: String) -> Finding {
    Finding {
        relation: relation.to_owned(),
        block,
        item: None,
        what,
    }
}
