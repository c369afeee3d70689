//! New rows: one at a time, and many to a page for COPY.

use std::cell::Cell;

use crate::catalog::relation::Relation;
use crate::ids::{BlockNumber, CommandId, OffsetNumber, RelFile, Tid, Xid};
use crate::storage::{BlockMode, Change, PageWrite, Pinned, Ring, page};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::overflow;
use crate::table::page_ops;
use crate::table::row::{encode_row, move_out};
use crate::table::tuple::{HEADER_SIZE, TupleHeader};
use crate::types::datum::Datum;
use crate::wal::RmgrId;

use super::target::{Search, remember, room};

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's buffer for encoding a row, so that no row costs an allocation.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    const KEPT: usize = 64 * 1024;
    let mut buffer = SCRATCH.take();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        SCRATCH.set(buffer);
    }
    result
}

/// Adds a row. Its large values go to the overflow file first.
pub fn insert(
    cx: TableCx<'_>,
    rel: &Relation,
    row: &[Datum],
    xid: Xid,
    cid: CommandId,
) -> Result<Tid, TableError> {
    with_scratch(|tuple| {
        encode(cx, rel, row, xid, cid, tuple)?;
        insert_tuple(cx, rel.file, tuple, xid)
    })
}

fn encode(
    cx: TableCx<'_>,
    rel: &Relation,
    row: &[Datum],
    xid: Xid,
    cid: CommandId,
    tuple: &mut Vec<u8>,
) -> Result<(), TableError> {
    encode_row(rel, row, xid, cid, tuple)?;
    move_out(rel, tuple, &mut |_, value| {
        let file = rel
            .overflow
            .expect("only asked where there is an overflow file");
        overflow::write(cx, file, value, xid, cid)
    })
}

/// Puts an encoded version on some page with room.
pub(in crate::table) fn insert_tuple(
    cx: TableCx<'_>,
    file: RelFile,
    tuple: &[u8],
    xid: Xid,
) -> Result<Tid, TableError> {
    let mut search = Search::new(cx, file, tuple.len());
    loop {
        let pin = search.next(None)?;
        let block = pin.id().block;
        let mut page = pin.write();
        let free = room(&page);
        if free < tuple.len() {
            drop(page);
            search.reject(block, free)?;
            continue;
        }
        let offset = next_offset(&page);
        let mode = page_mode(&page);
        let mut change = Change::new(RmgrId::HEAP, page_ops::INSERT, xid);
        change
            .block(&mut page, mode, &page_ops::insert_head(offset, tuple))
            .more(&tuple[HEADER_SIZE..]);
        change.commit(&cx.store.wal, page_ops::apply);
        remember(file, block);
        return Ok(Tid::new(block, offset));
    }
}

/// A page that was never used needs no image: redo can begin from zeroes.
pub(super) fn page_mode(page: &PageWrite<'_>) -> BlockMode {
    if page::is_new(page) {
        BlockMode::Init
    } else {
        BlockMode::Update
    }
}
pub(super) fn next_offset(page: &PageWrite<'_>) -> OffsetNumber {
    if page::is_new(page) {
        OffsetNumber::FIRST
    } else {
        page::next_free_offset(page)
    }
}

/// Many inserts into one table by one command; keep it for a whole COPY.
pub struct BulkInsert {
    file: RelFile,
    ring: Ring,
    current: Option<Pinned>,
    /// Encoded rows that wait for a page, end to end, with their ends.
    rows: Vec<u8>,
    ends: Vec<usize>,
    tuple: Vec<u8>,
}

impl BulkInsert {
    pub fn new(cx: TableCx<'_>, rel: &Relation) -> BulkInsert {
        BulkInsert {
            file: rel.file,
            ring: Ring::for_bulk_write(cx.store.pool.size()),
            current: None,
            rows: Vec::new(),
            ends: Vec::new(),
            tuple: Vec::new(),
        }
    }

    /// Inserts all the rows and appends their tids, in order. One record a page.
    pub fn insert_many<'r>(
        &mut self,
        cx: TableCx<'_>,
        rel: &Relation,
        rows: impl Iterator<Item = &'r [Datum]>,
        xid: Xid,
        cid: CommandId,
        tids: &mut Vec<Tid>,
    ) -> Result<(), TableError> {
        self.rows.clear();
        self.ends.clear();
        for row in rows {
            encode(cx, rel, row, xid, cid, &mut self.tuple)?;
            self.rows.extend_from_slice(&self.tuple);
            self.ends.push(self.rows.len());
        }
        let mut done = 0;
        while done < self.ends.len() {
            done = self.fill_page(cx, done, xid, tids)?;
        }
        Ok(())
    }

    fn encoded(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[row]]
    }

    /// Puts rows from `first` on onto one page; the first row that did not fit.
    fn fill_page(
        &mut self,
        cx: TableCx<'_>,
        first: usize,
        xid: Xid,
        tids: &mut Vec<Tid>,
    ) -> Result<usize, TableError> {
        let needed = self.encoded(first).len();
        let mut search = Search::new(cx, self.file, needed);
        loop {
            let pin = match self.current.take() {
                Some(pin) => pin,
                None => search.next(Some(&mut self.ring))?,
            };
            let block = pin.id().block;
            let mut page = pin.write();
            let free = room(&page);
            if free < needed {
                drop(page);
                search.reject(block, free)?;
                continue;
            }
            let done = self.log_rows(cx, block, &mut page, first, xid, tids);
            drop(page);
            remember(self.file, block);
            self.current = Some(pin);
            return Ok(done);
        }
    }

    fn log_rows(
        &self,
        cx: TableCx<'_>,
        block: BlockNumber,
        page: &mut PageWrite<'_>,
        first: usize,
        xid: Xid,
        tids: &mut Vec<Tid>,
    ) -> usize {
        let header = TupleHeader::read(self.encoded(first)).expect("encoded here");
        let mut data = page_ops::insert_many_data(xid, header.cmin);
        let mut free = room(page) + page::ITEM_ID_SIZE;
        let mut unused = free_offsets(page);
        let mut done = first;
        while done < self.ends.len() {
            let tuple = self.encoded(done);
            // Counted as if each needed a new line pointer: an unused one only leaves a little more room.
            let Some(left) = free.checked_sub(tuple.len() + page::ITEM_ID_SIZE) else {
                break;
            };
            let offset = unused.next().expect("offsets go on without end");
            page_ops::insert_many_row(&mut data, offset, tuple);
            tids.push(Tid::new(block, offset));
            free = left;
            done += 1;
        }
        let mode = page_mode(page);
        let mut change = Change::new(RmgrId::HEAP, page_ops::INSERT_MANY, xid);
        change.block(page, mode, &data);
        change.commit(&cx.store.wal, page_ops::apply);
        done
    }
}

/// Unused line pointers, then new ones.
fn free_offsets(page: &PageWrite<'_>) -> impl Iterator<Item = OffsetNumber> + use<> {
    let count = if page::is_new(page) {
        0
    } else {
        page::item_count(page)
    };
    let unused: Vec<OffsetNumber> = if page::flags(page) & page::HAS_FREE_LINES == 0 {
        Vec::new()
    } else {
        page::offsets(page)
            .filter(|o| page::item_state(page, *o) == page::ItemState::Unused)
            .collect()
    };
    unused
        .into_iter()
        .chain((count + 1..).filter_map(OffsetNumber::new))
}
