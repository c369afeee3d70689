//! Vacuum: every page pruned, dead index entries removed, their line pointers made free, old ids frozen.
//!
//! Order is what makes it crash safe: a line pointer becomes dead (pruning), then no index points to it any more,
//! and only then may it be used again. A crash in between leaves dead line pointers, which the next vacuum finds.
//! The table's overflow file is cleaned after it, by the same rules but without indexes.
//!
//! Work is cut into steps, so that the caller can look for interrupts and give up its thread between two.

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, Fork, Lsn, OffsetNumber, PageId, RelFile, Tid, Xid};
use crate::storage::page::{self, ItemState};
use crate::storage::{BlockMode, Change, PageWrite, Ring};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::files;
use crate::table::free_space;
use crate::table::heap::room;
use crate::table::page_ops;
use crate::table::prune::{self, Indexed};
use crate::table::tuple::TupleHeader;
use crate::table::visibility::{self, Fate};
use crate::txn::Horizon;
use crate::wal::RmgrId;

const BLOCKS_A_STEP: u32 = 32;

#[derive(Clone, Copy, Debug)]
pub struct VacuumOptions {
    /// Ids below this are frozen where the horizon allows: the oldest that the caller wants to keep
    /// (`vacuum_freeze_min_age` below the next id); [`Xid::INVALID`] for none.
    pub freeze_before: Xid,
    /// How many dead row addresses are remembered before the indexes are cleaned (`maintenance_work_mem` / 8).
    pub max_dead: usize,
}

/// What VACUUM VERBOSE and `pg_class` want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VacuumReport {
    pub pages: u32,
    /// Row versions that are visible to somebody or will be.
    pub live_rows: u64,
    /// Deleted, but somebody may still see them.
    pub recently_dead_rows: u64,
    pub removed_rows: u64,
    pub frozen_rows: u64,
    /// Times that the indexes were cleaned.
    pub index_passes: u32,
    /// The oldest id left in the table (overflow file included): the commit log is needed from here on.
    pub oldest_xid: Option<Xid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VacuumStep {
    More,
    Done,
}

/// Removes from all indexes of the table every entry whose row address the predicate names.
pub type CleanIndexes<'a, E> = dyn FnMut(&dyn Fn(Tid) -> bool) -> Result<(), E> + 'a;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pages,
    Indexes,
    Reclaim { at: usize },
    Done,
}

pub struct Vacuum {
    /// The table, then its overflow file.
    files: Vec<RelFile>,
    indexed: Indexed,
    horizon: Horizon,
    options: VacuumOptions,
    phase: Phase,
    next_block: u32,
    end: u32,
    dead: Vec<Tid>,
    ring: Ring,
    report: VacuumReport,
    is_main: bool,
}

impl Vacuum {
    pub fn new(
        cx: TableCx<'_>,
        rel: &Relation,
        options: VacuumOptions,
    ) -> Result<Vacuum, TableError> {
        let end = cx.store.pool.block_count(rel.file, Fork::Main)?;
        let mut files: Vec<RelFile> = rel.overflow.into_iter().collect();
        files.push(rel.file);
        Ok(Vacuum {
            files,
            indexed: if rel.indexes.is_empty() {
                Indexed::No
            } else {
                Indexed::Maybe
            },
            horizon: cx.txns.oldest_needed(),
            options,
            phase: Phase::Pages,
            next_block: 0,
            end,
            dead: Vec::new(),
            ring: Ring::for_scan(),
            report: VacuumReport {
                pages: end,
                ..VacuumReport::default()
            },
            is_main: true,
        })
    }

    pub fn report(&self) -> VacuumReport {
        self.report
    }

    /// Some pages' worth of work.
    pub fn step<E: From<TableError>>(
        &mut self,
        cx: TableCx<'_>,
        clean_indexes: &mut CleanIndexes<'_, E>,
    ) -> Result<VacuumStep, E> {
        match self.phase {
            Phase::Pages => self.pages(cx)?,
            Phase::Indexes => {
                // Collected in block and offset order.
                let dead = &self.dead;
                let key = |t: &Tid| (t.block, t.offset.raw());
                clean_indexes(&|tid| dead.binary_search_by_key(&key(&tid), key).is_ok())?;
                self.report.index_passes += 1;
                self.phase = Phase::Reclaim { at: 0 };
            }
            Phase::Reclaim { at } => self.reclaim(cx, at)?,
            Phase::Done => return Ok(VacuumStep::Done),
        }
        Ok(if self.phase == Phase::Done {
            VacuumStep::Done
        } else {
            VacuumStep::More
        })
    }

    fn file(&self) -> RelFile {
        *self
            .files
            .last()
            .expect("a vacuum that is not done has a file")
    }
    fn page_id(&self, block: BlockNumber) -> PageId {
        PageId {
            file: self.file(),
            fork: Fork::Main,
            block,
        }
    }

    fn pages(&mut self, cx: TableCx<'_>) -> Result<(), TableError> {
        let stop = self.end.min(self.next_block + BLOCKS_A_STEP);
        while self.next_block < stop {
            let block = BlockNumber::new(self.next_block);
            self.next_block += 1;
            let pin = cx
                .store
                .pool
                .pin_in_ring(self.page_id(block), &mut self.ring)?;
            let free = {
                let mut page = pin.write();
                if !page::is_new(&page) {
                    self.clean_page(cx, block, &mut page)?;
                }
                room(&page)
            };
            free_space::record(cx.store, self.file(), block, free)?;
        }
        if self.dead.len() >= self.options.max_dead.max(1) {
            self.phase = Phase::Indexes;
        } else if self.next_block >= self.end {
            if self.dead.is_empty() {
                self.next_file(cx)?;
            } else {
                self.phase = Phase::Indexes;
            }
        }
        Ok(())
    }

    fn clean_page(
        &mut self,
        cx: TableCx<'_>,
        block: BlockNumber,
        page: &mut PageWrite<'_>,
    ) -> Result<(), TableError> {
        let removed = prune::prune_page(cx, page, &self.horizon, self.indexed)?;
        let frozen = if prune::may_remove(cx) {
            self.freeze(cx, page)
        } else {
            0
        };
        if self.is_main {
            self.report.removed_rows += removed as u64;
            self.report.frozen_rows += frozen as u64;
        }
        for offset in page::offsets(page) {
            if page::item_state(page, offset) == ItemState::Dead {
                self.dead.push(Tid::new(block, offset));
            }
            let Some(header) = page::item(page, offset).and_then(TupleHeader::read) else {
                continue;
            };
            if self.is_main {
                match visibility::fate(&header, cx.txns, &self.horizon) {
                    Fate::Live | Fate::InProgress => self.report.live_rows += 1,
                    Fate::RecentlyDead | Fate::Dead { .. } => self.report.recently_dead_rows += 1,
                }
            }
            for xid in [header.xmin, header.xmax]
                .into_iter()
                .filter(|x| x.is_normal())
            {
                let oldest = self.report.oldest_xid.map_or(xid, |o| o.min(xid));
                self.report.oldest_xid = Some(oldest);
            }
        }
        Ok(())
    }

    fn freeze(&self, cx: TableCx<'_>, page: &mut PageWrite<'_>) -> usize {
        let limit = self.options.freeze_before;
        let (mut xmin, mut xmax): (Vec<OffsetNumber>, Vec<OffsetNumber>) = (Vec::new(), Vec::new());
        let mut conflict = Lsn::INVALID;
        for offset in page::offsets(page) {
            let Some(header) = page::item(page, offset).and_then(TupleHeader::read) else {
                continue;
            };
            if header.xmin < limit
                && let Some(lsn) = visibility::freezable_xmin(&header, cx.txns, &self.horizon)
            {
                xmin.push(offset);
                conflict = conflict.max(lsn);
            }
            if header.xmax < limit && visibility::clearable_xmax(&header, cx.txns, &self.horizon) {
                xmax.push(offset);
            }
        }
        let frozen = xmin.len();
        if frozen + xmax.len() > 0 {
            let mut change = Change::new(RmgrId::HEAP, page_ops::FREEZE, Xid::INVALID);
            change
                .block(
                    page,
                    BlockMode::Update,
                    &page_ops::freeze_data(&xmin, &xmax),
                )
                .main(&conflict.raw().to_le_bytes());
            change.commit(&cx.store.wal, page_ops::apply);
        }
        frozen
    }

    /// No index points to them any more: dead line pointers of some pages become free.
    fn reclaim(&mut self, cx: TableCx<'_>, mut at: usize) -> Result<(), TableError> {
        for _ in 0..BLOCKS_A_STEP {
            let Some(first) = self.dead.get(at) else {
                break;
            };
            let block = first.block;
            let count = self.dead[at..]
                .iter()
                .take_while(|t| t.block == block)
                .count();
            let offsets: Vec<OffsetNumber> =
                self.dead[at..at + count].iter().map(|t| t.offset).collect();
            at += count;
            let pin = cx
                .store
                .pool
                .pin_in_ring(self.page_id(block), &mut self.ring)?;
            let free = {
                let mut page = pin.write();
                let mut change = Change::new(RmgrId::HEAP, page_ops::RECLAIM, Xid::INVALID);
                change.block(
                    &mut page,
                    BlockMode::Update,
                    &page_ops::reclaim_data(&offsets),
                );
                change.commit(&cx.store.wal, page_ops::apply);
                room(&page)
            };
            free_space::record(cx.store, self.file(), block, free)?;
        }
        if at < self.dead.len() {
            self.phase = Phase::Reclaim { at };
            return Ok(());
        }
        self.dead.clear();
        self.phase = Phase::Pages;
        if self.next_block >= self.end {
            self.next_file(cx)?;
        }
        Ok(())
    }

    fn next_file(&mut self, cx: TableCx<'_>) -> Result<(), TableError> {
        self.files.pop();
        self.is_main = false;
        self.indexed = Indexed::No;
        self.next_block = 0;
        match self.files.last() {
            Some(file) => self.end = cx.store.pool.block_count(*file, Fork::Main)?,
            None => self.phase = Phase::Done,
        }
        Ok(())
    }
}

/// How many pages there are up to the last that holds anything, or up to where the look from the end had come when `stop`
/// said so, which is asked every few pages: those behind are empty.
pub fn used_pages(
    cx: TableCx<'_>,
    file: RelFile,
    stop: &mut dyn FnMut() -> bool,
) -> Result<u32, TableError> {
    let mut keep = cx.store.pool.block_count(file, Fork::Main)?;
    let mut looked = 0_u32;
    while keep > 0 {
        if looked.is_multiple_of(BLOCKS_A_STEP) && stop() {
            break;
        }
        looked += 1;
        let id = PageId {
            file,
            fork: Fork::Main,
            block: BlockNumber::new(keep - 1),
        };
        let pin = cx.store.pool.pin(id)?;
        let page = pin.read();
        let empty = page::is_new(&page)
            || page::offsets(&page).all(|o| page::item_state(&page, o) == ItemState::Unused);
        if !empty {
            break;
        }
        keep -= 1;
    }
    Ok(keep)
}

/// Gives empty pages at the end of a file back to the system. The caller holds the relation's AccessExclusive lock
/// (on standbys, too: that lock is logged) and no page of it. Where `stop` says so what was not yet looked at stays.
/// Returns the number of pages that are left.
pub fn truncate_tail(
    cx: TableCx<'_>,
    file: RelFile,
    stop: &mut dyn FnMut() -> bool,
) -> Result<u32, TableError> {
    let keep = used_pages(cx, file, stop)?;
    if keep < cx.store.pool.block_count(file, Fork::Main)? {
        files::truncate(cx.store, file, keep)?;
        free_space::truncate(cx.store, file, keep)?;
    }
    Ok(keep)
}
