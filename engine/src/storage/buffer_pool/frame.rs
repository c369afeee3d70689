//! A frame, pins on it, and the latched views of its page.
//!
//! A pin is a reference count: the pool itself holds one reference to each frame, so a frame with a count of one
//! is unpinned. References are made from the pool's own only under the lookup shard's lock; that is what lets
//! eviction trust a count of one while it holds that lock.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::ids::{Lsn, PAGE_SIZE, PageId};
use crate::storage::page::{self, PageBuf};

/// `recovery_lsn` of a page that equals its file.
const CLEAN: u64 = u64::MAX;
/// A frame survives this many rounds of the clock at most without being used.
const MAX_USAGE: u8 = 5;

/// A page's share of the pool's memory. The pages of all frames are one piece, which the system hands out as it is
/// touched: a large pool costs nothing before it is used. The piece is given back with the last of its pages, so pins
/// may outlive the pool.
pub(super) struct PageMemory(BytesMut);

impl PageMemory {
    pub(super) fn pages(frames: usize) -> impl Iterator<Item = PageMemory> {
        let mut piece = BytesMut::zeroed(frames * PAGE_SIZE);
        (0..frames).map(move |_| PageMemory(piece.split_to(PAGE_SIZE)))
    }
}
impl Deref for PageMemory {
    type Target = PageBuf;
    fn deref(&self) -> &PageBuf {
        self.0.first_chunk().expect("a whole page")
    }
}
impl DerefMut for PageMemory {
    fn deref_mut(&mut self) -> &mut PageBuf {
        self.0.first_chunk_mut().expect("a whole page")
    }
}

pub(super) struct Frame {
    pub(super) index: u32,
    pub(super) page: RwLock<PageMemory>,
    /// What the frame holds; changed only by whoever took it out of the lookup or puts it in.
    pub(super) tag: Mutex<Option<PageId>>,
    /// The page has been read; set by the loader before it lets go of the latch.
    pub(super) loaded: AtomicBool,
    usage: AtomicU8,
    /// A position at or below the first record not in the file; [`CLEAN`] if there is none. Set under the
    /// exclusive latch, cleared under the shared latch and `writing`.
    recovery_lsn: AtomicU64,
    /// Held while the page is copied out and written.
    pub(super) writing: Mutex<()>,
}

impl Frame {
    pub(super) fn new(index: u32, page: PageMemory) -> Frame {
        Frame {
            index,
            page: RwLock::new(page),
            tag: Mutex::new(None),
            loaded: AtomicBool::new(false),
            usage: AtomicU8::new(0),
            recovery_lsn: AtomicU64::new(CLEAN),
            writing: Mutex::new(()),
        }
    }
    pub(super) fn touch(&self) {
        let usage = self.usage.load(Ordering::Relaxed);
        if usage < MAX_USAGE {
            self.usage.store(usage + 1, Ordering::Relaxed);
        }
    }
    pub(super) fn usage(&self) -> u8 {
        self.usage.load(Ordering::Relaxed)
    }
    pub(super) fn set_usage(&self, usage: u8) {
        self.usage.store(usage, Ordering::Relaxed);
    }
    pub(super) fn unpinned(self: &Arc<Frame>, own: usize) -> bool {
        let alone = Arc::strong_count(self) == own;
        // Pairs with the release of the last pin: what its holder did to the frame is seen after this.
        fence(Ordering::Acquire);
        alone
    }
    pub(super) fn is_dirty(&self) -> bool {
        self.recovery_lsn.load(Ordering::Acquire) != CLEAN
    }
    pub(super) fn dirty_before(&self, lsn: Lsn) -> bool {
        let at = self.recovery_lsn.load(Ordering::Acquire);
        at != CLEAN && at < lsn.raw()
    }
    /// Dirty before `lsn`, or being written. Looked at again after that: a write that failed in between has given the
    /// page back.
    pub(super) fn is_to_be_written(&self, lsn: Lsn) -> bool {
        let at_first = self.dirty_before(lsn);
        at_first || self.writing.is_locked() || self.dirty_before(lsn)
    }
    /// Clean from here on; the former position, or `None` if it was clean.
    pub(super) fn take_dirty(&self) -> Option<u64> {
        let was = self.recovery_lsn.swap(CLEAN, Ordering::AcqRel);
        (was != CLEAN).then_some(was)
    }
    pub(super) fn give_back_dirty(&self, lsn: u64) {
        self.recovery_lsn.fetch_min(lsn, Ordering::AcqRel);
    }
}

/// A page that stays in its frame as long as this lives.
pub struct Pinned {
    frame: Arc<Frame>,
    id: PageId,
}

impl Pinned {
    pub(super) fn new(frame: Arc<Frame>, id: PageId) -> Pinned {
        Pinned { frame, id }
    }
    pub fn id(&self) -> PageId {
        self.id
    }
    /// Shared latch: others may read, nobody changes the page.
    pub fn read(&self) -> PageRead<'_> {
        PageRead {
            page: self.frame.page.read(),
        }
    }
    /// Exclusive latch.
    pub fn write(&self) -> PageWrite<'_> {
        PageWrite {
            page: self.frame.page.write(),
            frame: &self.frame,
            id: self.id,
        }
    }
    /// Exclusive latch if nobody has any.
    pub fn try_write(&self) -> Option<PageWrite<'_>> {
        Some(PageWrite {
            page: self.frame.page.try_write()?,
            frame: &self.frame,
            id: self.id,
        })
    }
    /// Another pin on the same page.
    #[must_use]
    pub fn again(&self) -> Pinned {
        Pinned {
            frame: Arc::clone(&self.frame),
            id: self.id,
        }
    }
    /// Nobody but this pin (and the pool) refers to the frame: what a cleanup that moves items asks for.
    pub fn is_only_pin(&self) -> bool {
        self.frame.unpinned(2)
    }
}

/// A page under a shared latch.
pub struct PageRead<'a> {
    page: RwLockReadGuard<'a, PageMemory>,
}
impl Deref for PageRead<'_> {
    type Target = PageBuf;
    fn deref(&self) -> &PageBuf {
        &self.page
    }
}

/// A page under the exclusive latch. Changing bytes does not make it dirty: `Change::commit` and redo do, or
/// [`PageWrite::mark_unlogged`] for the forks that are not logged.
pub struct PageWrite<'a> {
    page: RwLockWriteGuard<'a, PageMemory>,
    frame: &'a Frame,
    id: PageId,
}

impl PageWrite<'_> {
    pub fn id(&self) -> PageId {
        self.id
    }
    /// The page differs from its file by something that no record says. It is written at the next chance.
    pub fn mark_unlogged(&mut self) {
        self.frame.recovery_lsn.store(0, Ordering::Release);
    }
    /// Dirty before the record is inserted, so that a checkpoint whose redo point comes to lie behind the record
    /// sees the page. True if it was clean: then [`Self::logged_at`] makes the position exact.
    pub(in crate::storage) fn about_to_log(&mut self) -> bool {
        let first = !self.frame.is_dirty();
        if first {
            let bound = page::lsn(&self.page).raw();
            self.frame.recovery_lsn.store(bound, Ordering::Release);
        }
        first
    }
    pub(in crate::storage) fn logged_at(&mut self, first: bool, start: Lsn, end: Lsn) {
        page::set_lsn(&mut self.page, end);
        if first {
            self.frame
                .recovery_lsn
                .store(start.raw(), Ordering::Release);
        }
    }
}
impl Deref for PageWrite<'_> {
    type Target = PageBuf;
    fn deref(&self) -> &PageBuf {
        &self.page
    }
}
impl DerefMut for PageWrite<'_> {
    fn deref_mut(&mut self) -> &mut PageBuf {
        &mut self.page
    }
}
