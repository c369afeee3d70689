//! What a new index must point at: every chain of row versions that somebody may still see, by its line pointer.
//!
//! An entry leads to a chain, and a reader takes the version it sees. So a chain gets one entry, with the key of
//! the version that is alive; a chain without one, whose last version old snapshots may still see, gets the key of
//! that. A version that an old snapshot sees in a chain whose key has changed since is not found by its old key: the
//! key's columns were not indexed when the row changed, so the chain may hold several keys. Such chains are told
//! ([`IndexableRow::older`]), and the index must not answer snapshots that are older than it (PostgreSQL's
//! `indcheckxmin`). Writers are kept out by the caller's lock.

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, Fork, OffsetNumber, Tid};
use crate::storage::page::{self, ItemState};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::prune;
use crate::table::tuple::{HEAP_ONLY, TupleHeader};
use crate::table::visibility::{self, Fate};
use crate::txn::{Horizon, Snapshot};

use super::read::Chain;
use super::version::{RowVersion, heap_page};

/// A chain's entry.
pub struct IndexableRow<'a> {
    /// The line pointer that the index has to name.
    pub root: Tid,
    pub version: RowVersion<'a>,
    /// The newest snapshot sees it: it counts for uniqueness.
    pub live: bool,
    /// Somebody may see another version of the chain, whose key may be another.
    pub older: bool,
}

/// Calls `visit` for each chain of one block.
pub fn for_index<E: From<TableError>>(
    cx: TableCx<'_>,
    rel: &Relation,
    block: BlockNumber,
    snapshot: &Snapshot,
    visit: &mut dyn FnMut(IndexableRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let pin = cx
        .store
        .pool
        .pin(heap_page(rel.file, block))
        .map_err(TableError::from)?;
    let page = prune::read_pruned(cx, &pin)?;
    if page::is_new(&page) {
        return Ok(());
    }
    let horizon = cx.txns.oldest_needed();
    for number in 1..=page::item_count(&page) {
        let offset = OffsetNumber::new(number).expect("items count from 1");
        let root = Tid::new(block, offset);
        let begins = match page::item_state(&page, offset) {
            ItemState::Redirect(_) => true,
            ItemState::Normal { .. } => page::item(&page, offset)
                .and_then(TupleHeader::read)
                .is_some_and(|h| !h.has(HEAP_ONLY)),
            ItemState::Dead | ItemState::Unused => false,
        };
        if !begins {
            continue;
        }
        let mut chain = Chain::new(&page, rel.file, root);
        let mut found: Option<(Tid, &[u8], bool)> = None;
        let mut older = false;
        while let Some((tid, header, bytes)) = chain.next()? {
            if visibility::is_visible(&header, snapshot, cx.txns) {
                older = found.is_some();
                found = Some((tid, bytes, true));
                break;
            }
            if somebody_may_see(&header, cx, &horizon) {
                older = found.is_some();
                found = Some((tid, bytes, false));
            }
        }
        if let Some((tid, bytes, live)) = found {
            let file = rel.file;
            visit(IndexableRow {
                root,
                version: RowVersion { tid, file, bytes },
                live,
                older,
            })?;
        }
    }
    Ok(())
}

fn somebody_may_see(header: &TupleHeader, cx: TableCx<'_>, horizon: &Horizon) -> bool {
    !matches!(
        visibility::fate(header, cx.txns, horizon),
        Fate::Dead { .. }
    )
}

/// What an index pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointee {
    /// The table has no such page, or the page no such line pointer.
    Beyond,
    /// The line pointer is free: whatever is put there next would be found by this entry.
    Unused,
    /// A version that only the first one of its chain may be found by.
    HeapOnly,
    /// Nobody sees the row any more; vacuum has yet to remove the entry.
    Dead,
    Chain,
}

/// Calls `visit` for each member of the chain that an index pointer leads to, with whether somebody may need it,
/// until it answers false.
pub fn visit_chain<E: From<TableError>>(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    visit: &mut dyn FnMut(RowVersion<'_>, bool) -> Result<bool, E>,
) -> Result<Pointee, E> {
    if tid.block.raw() >= blocks(cx, rel)? {
        return Ok(Pointee::Beyond);
    }
    let pin = cx
        .store
        .pool
        .pin(heap_page(rel.file, tid.block))
        .map_err(TableError::from)?;
    let page = *pin.read();
    if page::is_new(&page) || tid.offset.raw() > page::item_count(&page) {
        return Ok(Pointee::Beyond);
    }
    match page::item_state(&page, tid.offset) {
        ItemState::Unused => return Ok(Pointee::Unused),
        ItemState::Dead => return Ok(Pointee::Dead),
        ItemState::Redirect(_) => {}
        ItemState::Normal { .. } => {
            let header = page::item(&page, tid.offset).and_then(TupleHeader::read);
            if header.is_some_and(|h| h.has(HEAP_ONLY)) {
                return Ok(Pointee::HeapOnly);
            }
        }
    }
    let horizon = cx.txns.oldest_needed();
    let mut chain = Chain::new(&page, rel.file, tid);
    while let Some((tid, header, bytes)) = chain.next()? {
        let file = rel.file;
        let needed = somebody_may_see(&header, cx, &horizon);
        if !visit(RowVersion { tid, file, bytes }, needed)? {
            break;
        }
    }
    Ok(Pointee::Chain)
}

/// How many blocks there are to visit.
pub fn blocks(cx: TableCx<'_>, rel: &Relation) -> Result<u32, TableError> {
    Ok(cx.store.pool.block_count(rel.file, Fork::Main)?)
}
