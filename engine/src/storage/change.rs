//! The write sequence, written once: every logged change of a page goes through [`Change::commit`].
//!
//! 1. The caller has pinned the pages and holds their exclusive latches, and has done whatever can fail.
//! 2. Critical section (an error or a panic ends the process, because pages and log may disagree): each page is
//!    marked dirty, the page function is applied to it, the record is inserted, the pages get its end as LSN.
//! 3. The caller drops the latches.
//!
//! Marking comes before inserting: a checkpoint whose redo point lies behind the record must find the page dirty.
//! The page function is the very one that redo calls ([`replay`]), so pages cannot differ between the two. A
//! crash before the record is flushed loses the change, also from the file: the pool writes no page whose LSN is
//! not flushed. This file knows no record's meaning.

use smallvec::SmallVec;

use crate::ids::{Lsn, PageId, Xid};
use crate::storage::buffer_pool::PageWrite;
use crate::storage::error::PageFault;
use crate::storage::page::{self, PageBuf};
use crate::wal::{BlockFlags, BlockRef, Inserted, Record, RmgrId, Wal};

/// Changes one block of a record: a pure function of the page and the block's data. `block` is the block's place
/// in the record.
pub type PageFn = fn(info: u8, block: u8, page: &mut PageBuf, data: &[u8]) -> Result<(), PageFault>;

/// How a block takes part in a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockMode {
    /// The page function changes what is there.
    Update,
    /// The page function begins with a page of zeroes, here and in redo.
    Init,
    /// The caller has changed the page by hand; it is logged whole and the page function is not called.
    Image,
}

/// A latched page as the write sequence sees it; implemented by [`PageWrite`].
pub trait Latched {
    fn id(&self) -> PageId;
    fn page(&self) -> &PageBuf;
    fn page_mut(&mut self) -> &mut PageBuf;
    #[doc(hidden)]
    fn mark(&mut self) -> bool;
    #[doc(hidden)]
    fn stamp(&mut self, first: bool, start: Lsn, end: Lsn);
}

impl Latched for PageWrite<'_> {
    fn id(&self) -> PageId {
        PageWrite::id(self)
    }
    fn page(&self) -> &PageBuf {
        self
    }
    fn page_mut(&mut self) -> &mut PageBuf {
        self
    }
    fn mark(&mut self) -> bool {
        self.about_to_log()
    }
    fn stamp(&mut self, first: bool, start: Lsn, end: Lsn) {
        self.logged_at(first, start, end);
    }
}

struct Block<'p> {
    page: &'p mut (dyn Latched + 'p),
    mode: BlockMode,
    /// Range of `Change::data`.
    from: usize,
    to: usize,
    lsn_before: Lsn,
    was_clean: bool,
}

/// A change in the making: one record and the pages that it changes.
pub struct Change<'p> {
    rmgr: RmgrId,
    info: u8,
    xid: Xid,
    main: SmallVec<[u8; 64]>,
    data: SmallVec<[u8; 256]>,
    blocks: SmallVec<[Block<'p>; 4]>,
}

/// Ends the process if the critical section is left by a panic.
struct Critical<'w>(Option<&'w Wal>);
impl Drop for Critical<'_> {
    fn drop(&mut self) {
        if let Some(wal) = self.0 {
            wal.fail("panic while pages were being changed");
        }
    }
}

impl<'p> Change<'p> {
    /// The low four bits of `info` are the log's own and must be 0.
    pub fn new(rmgr: RmgrId, info: u8, xid: Xid) -> Change<'p> {
        debug_assert_eq!(
            info & 0x0F,
            0,
            "the low bits of a record's info belong to the log"
        );
        Change {
            rmgr,
            info,
            xid,
            main: SmallVec::new(),
            data: SmallVec::new(),
            blocks: SmallVec::new(),
        }
    }

    /// Adds a block; its data is what the page function gets, here and in redo.
    pub fn block(
        &mut self,
        page: &'p mut (dyn Latched + 'p),
        mode: BlockMode,
        data: &[u8],
    ) -> &mut Self {
        let from = self.data.len();
        self.data.extend_from_slice(data);
        self.blocks.push(Block {
            lsn_before: page::lsn(page.page()),
            page,
            mode,
            from,
            to: from + data.len(),
            was_clean: false,
        });
        self
    }

    /// More data for the block added last: saves the caller from putting the pieces together first.
    pub fn more(&mut self, data: &[u8]) -> &mut Self {
        self.data.extend_from_slice(data);
        if let Some(last) = self.blocks.last_mut() {
            last.to += data.len();
        }
        self
    }

    /// Appends to the record's main data, which belongs to no block.
    pub fn main(&mut self, bytes: &[u8]) -> &mut Self {
        self.main.extend_from_slice(bytes);
        self
    }

    /// Applies, logs, stamps. Panics (and so ends the process) if the page function refuses: the caller had
    /// to check before.
    pub fn commit(mut self, wal: &Wal, apply: PageFn) -> Inserted {
        let mut critical = Critical(Some(wal));
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.was_clean = block.page.mark();
            let page = block.page.page_mut();
            match block.mode {
                BlockMode::Image => continue,
                BlockMode::Init => page.fill(0),
                BlockMode::Update => {}
            }
            if let Err(fault) = apply(self.info, i as u8, page, &self.data[block.from..block.to]) {
                panic!("change of block {:?} failed: {fault}", block.page.id());
            }
        }
        let inserted = {
            let refs: SmallVec<[BlockRef<'_>; 4]> = self
                .blocks
                .iter()
                .map(|block| BlockRef {
                    page: block.page.id(),
                    flags: match block.mode {
                        BlockMode::Update => BlockFlags::NONE,
                        BlockMode::Init => BlockFlags::WILL_INIT,
                        BlockMode::Image => BlockFlags::FORCE_IMAGE,
                    },
                    lsn_before: block.lsn_before,
                    image: block.page.page(),
                    hole: page::hole(block.page.page()),
                    data: &self.data[block.from..block.to],
                })
                .collect();
            wal.insert(&Record {
                rmgr: self.rmgr,
                info: self.info,
                xid: self.xid,
                main: &self.main,
                blocks: &refs,
            })
        };
        for block in &mut self.blocks {
            block
                .page
                .stamp(block.was_clean, inserted.start, inserted.end);
        }
        critical.0 = None;
        inserted
    }
}

/// One block of a record as redo has it.
pub struct Replay<'a> {
    pub start: Lsn,
    pub end: Lsn,
    pub info: u8,
    pub block: u8,
    pub will_init: bool,
    pub data: &'a [u8],
}

/// Redo of one block that has no page image: does what [`Change::commit`] did, unless the page has it already.
/// True if the page was changed.
pub fn replay(
    page: &mut PageWrite<'_>,
    record: &Replay<'_>,
    apply: PageFn,
) -> Result<bool, PageFault> {
    if page::lsn(page) >= record.end {
        return Ok(false);
    }
    let was_clean = page.about_to_log();
    if record.will_init {
        page.fill(0);
    }
    apply(record.info, record.block, page, record.data)?;
    page.logged_at(was_clean, record.start, record.end);
    Ok(true)
}

/// Redo of a block with a page image: `restore` puts the image into the page. A page that is newer already keeps
/// what it has. True if the page was changed.
pub fn replay_image(
    page: &mut PageWrite<'_>,
    start: Lsn,
    end: Lsn,
    restore: impl FnOnce(&mut PageBuf),
) -> bool {
    if page::lsn(page) >= end {
        return false;
    }
    let was_clean = page.about_to_log();
    restore(page);
    page.logged_at(was_clean, start, end);
    true
}
