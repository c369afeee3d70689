//! Row versions on heap pages: insert, read, update, delete, lock.

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, Tid, Xid};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::tuple::TupleHeader;
use crate::txn::{OwnXids, RowLockMode, Snapshot};
use crate::types::datum::Datum;

/// A row version as stored; borrowed from a scan or a [`RowBuf`]. Decode it with `row::RowDecoder`.
#[derive(Clone, Copy)]
pub struct RowVersion<'a> {
    pub tid: Tid,
    pub file: crate::ids::RelFile,
    pub(in crate::table) bytes: &'a [u8],
}

/// Holds one row version; reuse it so that point reads allocate nothing.
pub struct RowBuf {
    tid: Option<Tid>,
    file: crate::ids::RelFile,
    bytes: Vec<u8>,
}

/// What came of an attempt to change or lock a row version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modified {
    /// `same_page`: an update that left the indexes alone; they must get no entry for `tid`.
    Done { tid: Tid, same_page: bool },
    /// Somebody else holds the row: wait for this transaction, then try again.
    Wait { xid: Xid },
    /// Somebody updated it and committed. `next` is valid as long as the snapshot is held.
    Updated { next: Tid },
    /// Somebody deleted it and committed.
    Deleted,
    /// The own transaction changed it already, in this command or a later one.
    SelfModified { cid: CommandId },
    /// Not visible to the snapshot at all.
    Invisible,
}

/// Whether an index pointer leads to a living row, for unique checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    Dead,
    Live {
        tid: Tid,
    },
    /// Depends on how this transaction ends.
    Wait {
        xid: Xid,
    },
}

/// A scan's place in a table. It borrows nothing, so that a node of the executor can own it between its steps.
pub struct HeapScan {}

pub struct BulkInsert {}

pub fn insert(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _row: &[Datum],
    _xid: Xid,
    _cid: CommandId,
) -> Result<Tid, TableError> {
    unimplemented!("heap")
}
impl BulkInsert {
    pub fn new(_cx: TableCx<'_>, _rel: &Relation) -> BulkInsert {
        unimplemented!("heap")
    }
    /// Appends the rows' tids to `tids`. Keep one `BulkInsert` for a whole COPY.
    pub fn insert_many<'r>(
        &mut self,
        _cx: TableCx<'_>,
        _rel: &Relation,
        _rows: impl Iterator<Item = &'r [Datum]>,
        _xid: Xid,
        _cid: CommandId,
        _tids: &mut Vec<Tid>,
    ) -> Result<(), TableError> {
        unimplemented!("heap")
    }
}
/// The version that the snapshot sees, from an index pointer (follows same-page chains); false: none.
pub fn fetch(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _snapshot: &Snapshot,
    _into: &mut RowBuf,
) -> Result<bool, TableError> {
    unimplemented!("heap")
}
/// The very version at `tid`, whoever sees it: after `lock_row` or `update` named it. False: gone.
pub fn fetch_version(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _into: &mut RowBuf,
) -> Result<bool, TableError> {
    unimplemented!("heap")
}
/// For unique checks: what an index pointer leads to, seen from the transaction that owns `own`.
pub fn liveness(
    _cx: TableCx<'_>,
    _file: crate::ids::RelFile,
    _tid: Tid,
    _own: &OwnXids,
) -> Result<Liveness, TableError> {
    unimplemented!("heap")
}
pub fn scan(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _snapshot: &Snapshot,
) -> Result<HeapScan, TableError> {
    unimplemented!("heap")
}
impl HeapScan {
    /// `cx` and `snapshot` are those that the scan was begun with. No page is held between two calls.
    pub fn next(
        &mut self,
        _cx: TableCx<'_>,
        _snapshot: &Snapshot,
    ) -> Result<Option<RowVersion<'_>>, TableError> {
        unimplemented!("heap")
    }
}
/// Undoes the own insert of `tid` by the same command: ON CONFLICT lost a race. Nobody will ever see the row.
pub fn undo_insert(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _xid: Xid,
    _cid: CommandId,
) -> Result<(), TableError> {
    unimplemented!("heap")
}
/// Whether indexed columns changed (no same-page update then) and whether a unique key changed (a stronger lock)
/// is found out here, from the stored bytes.
pub fn update(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _row: &[Datum],
    _xid: Xid,
    _cid: CommandId,
    _snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    unimplemented!("heap")
}
pub fn delete(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _xid: Xid,
    _cid: CommandId,
    _snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    unimplemented!("heap")
}
pub fn lock_row(
    _cx: TableCx<'_>,
    _rel: &Relation,
    _tid: Tid,
    _mode: RowLockMode,
    _xid: Xid,
    _cid: CommandId,
    _snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    unimplemented!("heap")
}

impl<'a> RowVersion<'a> {
    pub fn header(&self) -> TupleHeader {
        TupleHeader::read(self.bytes).expect("checked when the row was read")
    }
}
impl RowBuf {
    pub fn new() -> RowBuf {
        RowBuf {
            tid: None,
            file: crate::ids::RelFile::shared(crate::ids::Oid::INVALID),
            bytes: Vec::new(),
        }
    }
    /// What the last successful fetch put here.
    pub fn version(&self) -> Option<RowVersion<'_>> {
        Some(RowVersion {
            tid: self.tid?,
            file: self.file,
            bytes: &self.bytes,
        })
    }
}
impl Default for RowBuf {
    fn default() -> RowBuf {
        RowBuf::new()
    }
}
