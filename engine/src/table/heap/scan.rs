//! Sequential scans: a page is copied under its latch, then its rows are judged and given out without any.
//!
//! A scan owns no borrow of the pool, so it can be put aside between two rows. The snapshot keeps what the copy
//! shows from being wrong later: visibility to a snapshot never changes.

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, Fork, OffsetNumber, PAGE_SIZE, RelFile, Tid};
use crate::storage::{PageBuf, Ring, page};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::prune;
use crate::table::tuple::TupleHeader;
use crate::table::visibility;
use crate::txn::Snapshot;

use super::version::{RowVersion, heap_page};

pub struct HeapScan {
    file: RelFile,
    /// The next block to read, and the end.
    next_block: u32,
    end: u32,
    page: Box<PageBuf>,
    block: BlockNumber,
    next_item: u16,
    items: u16,
    ring: Option<Ring>,
}

/// Every row of the table that the snapshot sees. The scan borrows nothing: the snapshot is given again with each
/// call of `next`.
pub fn scan(cx: TableCx<'_>, rel: &Relation, _snapshot: &Snapshot) -> Result<HeapScan, TableError> {
    let end = cx.store.pool.block_count(rel.file, Fork::Main)?;
    Ok(scan_blocks(cx, rel, 0..end))
}

/// The same for some of the blocks: ANALYZE's sample. Blocks must exist.
pub fn scan_blocks(cx: TableCx<'_>, rel: &Relation, blocks: std::ops::Range<u32>) -> HeapScan {
    let big = (blocks.end.saturating_sub(blocks.start)) as usize > cx.store.pool.size() / 4;
    let page: Box<[u8]> = vec![0; PAGE_SIZE].into_boxed_slice();
    HeapScan {
        file: rel.file,
        next_block: blocks.start,
        end: blocks.end,
        page: page.try_into().expect("made with the size of a page"),
        block: BlockNumber::INVALID,
        next_item: 1,
        items: 0,
        ring: big.then(Ring::for_scan),
    }
}

impl HeapScan {
    /// The next visible row; it borrows the scan's copy of the page until the next call.
    pub fn next(
        &mut self,
        cx: TableCx<'_>,
        snapshot: &Snapshot,
    ) -> Result<Option<RowVersion<'_>>, TableError> {
        let tid = loop {
            if self.next_item > self.items {
                if self.next_block >= self.end {
                    return Ok(None);
                }
                self.load(cx)?;
                continue;
            }
            let offset = OffsetNumber::new(self.next_item).expect("items count from 1");
            self.next_item += 1;
            let Some(item) = page::item(&self.page, offset) else {
                continue;
            };
            let tid = Tid::new(self.block, offset);
            let header = TupleHeader::read(item).ok_or(TableError::DamagedRow {
                file: self.file,
                tid,
                what: "row version is shorter than its header",
            })?;
            if visibility::is_visible(&header, snapshot, cx.txns) {
                break tid;
            }
        };
        let bytes = page::item(&self.page, tid.offset).expect("looked at above");
        Ok(Some(RowVersion {
            tid,
            file: self.file,
            bytes,
        }))
    }

    /// Blocks read so far and in all, for progress reports and cost of yielding.
    pub fn progress(&self) -> (u32, u32) {
        (self.next_block, self.end)
    }

    fn load(&mut self, cx: TableCx<'_>) -> Result<(), TableError> {
        self.block = BlockNumber::new(self.next_block);
        self.next_block += 1;
        self.next_item = 1;
        let id = heap_page(self.file, self.block);
        let pin = match &mut self.ring {
            Some(ring) => cx.store.pool.pin_in_ring(id, ring)?,
            None => cx.store.pool.pin(id)?,
        };
        let page = prune::read_pruned(cx, &pin)?;
        if page::is_new(&page) {
            self.items = 0;
            return Ok(());
        }
        // The gap in the middle need not be copied.
        let (low, high) = (
            usize::from(page::lower(&page)),
            usize::from(page::upper(&page)),
        );
        self.page[..low].copy_from_slice(&page[..low]);
        self.page[high..].copy_from_slice(&page[high..]);
        self.items = page::item_count(&page);
        Ok(())
    }
}
