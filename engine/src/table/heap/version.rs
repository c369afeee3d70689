//! What callers get: row versions, and what came of a change.

use crate::ids::{BlockNumber, CommandId, Fork, Oid, PageId, RelFile, Tid, Xid};
use crate::storage::PageBuf;
use crate::storage::page;
use crate::table::error::TableError;
use crate::table::tuple::TupleHeader;
use crate::txn::RowLockMode;

/// A row version as stored; borrowed from a scan or a [`RowBuf`]. Decode it with `row::RowDecoder`.
#[derive(Clone, Copy)]
pub struct RowVersion<'a> {
    pub tid: Tid,
    pub file: RelFile,
    pub(in crate::table) bytes: &'a [u8],
}

impl RowVersion<'_> {
    /// `xmin`, `xmax`, `cmin`, `cmax` and the like.
    pub fn header(&self) -> TupleHeader {
        TupleHeader::read(self.bytes).expect("checked when the row was read")
    }
    /// Bytes of the row version, header included, values in the overflow file not.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Holds one row version; reuse it so that point reads allocate nothing.
#[derive(Debug, Clone)]
pub struct RowBuf {
    tid: Option<Tid>,
    file: RelFile,
    bytes: Vec<u8>,
}

impl RowBuf {
    pub fn new() -> RowBuf {
        RowBuf {
            tid: None,
            file: RelFile::shared(Oid::INVALID),
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
    pub(super) fn clear(&mut self) {
        self.tid = None;
    }
    pub(super) fn fill(&mut self, file: RelFile, tid: Tid, bytes: &[u8]) {
        self.tid = Some(tid);
        self.file = file;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}

impl Default for RowBuf {
    fn default() -> RowBuf {
        RowBuf::new()
    }
}

/// What came of an attempt to change or lock a row version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modified {
    /// `same_page`: an update that left the indexes alone; they must get no entry for `tid`.
    Done { tid: Tid, same_page: bool },
    /// Somebody else holds the row: wait for this transaction, then try again. `mode` is how strongly the row is
    /// wanted, which says whom the waiter has to queue with.
    Wait { xid: Xid, mode: RowLockMode },
    /// Somebody updated it and committed. `next` is valid as long as the snapshot is held.
    Updated { next: Tid },
    /// Somebody deleted it and committed.
    Deleted,
    /// The own transaction changed it already, in this command or a later one.
    SelfModified { cid: CommandId },
    /// Not visible to the snapshot at all.
    Invisible,
}

pub(super) fn heap_page(file: RelFile, block: BlockNumber) -> PageId {
    PageId {
        file,
        fork: Fork::Main,
        block,
    }
}

/// The version under a line pointer, if there is one.
pub(super) fn tuple_at(
    page: &PageBuf,
    file: RelFile,
    tid: Tid,
) -> Result<Option<(TupleHeader, &[u8])>, TableError> {
    let Some(item) = page::item(page, tid.offset) else {
        return Ok(None);
    };
    match TupleHeader::read(item) {
        Some(header) => Ok(Some((header, item))),
        None => Err(TableError::DamagedRow {
            file,
            tid,
            what: "row version is shorter than its header",
        }),
    }
}
