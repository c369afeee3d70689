//! Reading single rows: from an index pointer, and by exact address.

use crate::catalog::relation::Relation;
use crate::ids::{OffsetNumber, RelFile, Tid, Xid};
use crate::storage::page::{self, ItemState};
use crate::storage::{PageBuf, PageRead};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::prune;
use crate::table::tuple::{HOT_UPDATED, LOCK_ONLY, TupleHeader};
use crate::table::visibility;
use crate::txn::transaction::Outcome;
use crate::txn::{OwnXids, Snapshot};

use super::version::{RowBuf, heap_page, tuple_at};

type Member<'p> = (Tid, TupleHeader, &'p [u8]);

/// The members of a same-page chain, from the line pointer that indexes know.
pub(super) struct Chain<'p> {
    page: &'p PageBuf,
    file: RelFile,
    root: Tid,
    at: Option<OffsetNumber>,
    /// The predecessor's `xmax`: the next member must have been written by it, or the chain ends.
    written_by: Option<Xid>,
    steps: u16,
}

impl<'p> Chain<'p> {
    pub(super) fn new(page: &'p PageBuf, file: RelFile, root: Tid) -> Chain<'p> {
        let at = match page::item_state(page, root.offset) {
            ItemState::Redirect(to) => Some(to),
            ItemState::Normal { .. } => Some(root.offset),
            ItemState::Dead | ItemState::Unused => None,
        };
        Chain {
            page,
            file,
            root,
            at,
            written_by: None,
            steps: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Member<'p>>, TableError> {
        let Some(offset) = self.at.take() else {
            return Ok(None);
        };
        let tid = Tid::new(self.root.block, offset);
        let Some((header, bytes)) = tuple_at(self.page, self.file, tid)? else {
            return Ok(None);
        };
        if self.written_by.is_some_and(|xid| xid != header.xmin) {
            return Ok(None);
        }
        self.steps += 1;
        if self.steps > page::item_count(self.page) {
            return Err(TableError::DamagedRow {
                file: self.file,
                tid: self.root,
                what: "chain of row versions runs in a circle",
            });
        }
        if header.has(HOT_UPDATED)
            && let Some(next) = header.next()
        {
            self.at = Some(next.offset);
            self.written_by = Some(header.xmax);
        }
        Ok(Some((tid, header, bytes)))
    }
}

/// The version that the snapshot sees, from an index pointer (follows same-page chains); false: none.
pub fn fetch(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    snapshot: &Snapshot,
    into: &mut RowBuf,
) -> Result<bool, TableError> {
    into.clear();
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let page: PageRead<'_> = prune::read_pruned(cx, &pin)?;
    let mut chain = Chain::new(&page, rel.file, tid);
    while let Some((tid, header, bytes)) = chain.next()? {
        if visibility::is_visible(&header, snapshot, cx.txns) {
            into.fill(rel.file, tid, bytes);
            return Ok(true);
        }
    }
    Ok(false)
}

/// The very version at `tid`, whoever sees it: after `lock_row` or `update` named it. False: gone.
pub fn fetch_version(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    into: &mut RowBuf,
) -> Result<bool, TableError> {
    into.clear();
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let page = pin.read();
    let Some((_, bytes)) = tuple_at(&page, rel.file, tid)? else {
        return Ok(false);
    };
    into.fill(rel.file, tid, bytes);
    Ok(true)
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

/// What an index pointer leads to, seen from the transaction that owns `own`: not by a snapshot, but by what is
/// true now. Commits that are not released count as running.
pub fn liveness(
    cx: TableCx<'_>,
    file: RelFile,
    tid: Tid,
    own: &OwnXids,
) -> Result<Liveness, TableError> {
    let pin = cx.store.pool.pin(heap_page(file, tid.block))?;
    let page = pin.read();
    let mut chain = Chain::new(&page, file, tid);
    while let Some((tid, header, _)) = chain.next()? {
        if header.xmin == header.xmax && header.cmin == header.cmax && !header.has(LOCK_ONLY) {
            // Taken back by the very command that wrote it: gone, however its transaction ends.
            continue;
        }
        if header.xmin.is_normal() && !own.contains(header.xmin) {
            match cx.txns.outcome(header.xmin) {
                Outcome::InProgress => return Ok(Liveness::Wait { xid: header.xmin }),
                Outcome::Aborted => return Ok(Liveness::Dead),
                Outcome::Committed { .. } => {}
            }
        }
        if !header.xmax.is_valid() || header.has(LOCK_ONLY) {
            return Ok(Liveness::Live { tid });
        }
        if !own.contains(header.xmax) {
            match cx.txns.outcome(header.xmax) {
                // The row as a whole may live on in a newer version with the same key, or be gone.
                Outcome::InProgress => return Ok(Liveness::Wait { xid: header.xmax }),
                Outcome::Aborted => return Ok(Liveness::Live { tid }),
                Outcome::Committed { .. } => {}
            }
        }
    }
    Ok(Liveness::Dead)
}
