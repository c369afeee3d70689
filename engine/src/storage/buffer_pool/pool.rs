//! Lookup, loading, extension, and dropping pages whose file goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::collections::VecDeque;
use std::hash::BuildHasher;

use crate::ids::{Fork, PageId, RelFile};
use crate::storage::StorageError;
use crate::storage::files::RelationFiles;
use crate::storage::page::{self, PageBuf};

use super::flush::WriteGate;
use super::frame::{Frame, PageMemory, Pinned};
use super::ring::Ring;

const SHARDS: usize = 128;
/// Fewer frames than this and a few sessions' pins would leave none to evict.
const MIN_FRAMES: usize = 16;

pub struct BufferPool {
    pub(super) frames: Vec<Arc<Frame>>,
    shards: Vec<RwLock<HashMap<PageId, u32>>>,
    hasher: DefaultHashBuilder,
    pub(super) free: Mutex<VecDeque<u32>>,
    pub(super) hand: AtomicUsize,
    pub(super) gate: RwLock<Arc<dyn WriteGate>>,
    pub(super) files: Arc<RelationFiles>,
    checksums: bool,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
}

/// What a missing page is to be filled with.
enum Fill {
    Read,
    /// Zeroes where the stored page is damaged: for forks that can be made again.
    ReadOrZero,
    /// Zeroes, whatever the file holds: the caller writes the whole page.
    Zero,
}

impl BufferPool {
    /// `frames`: `shared_buffers` in pages. `checksums`: verify them when reading; they are always written.
    pub fn new(
        files: Arc<RelationFiles>,
        frames: usize,
        checksums: bool,
        gate: Arc<dyn WriteGate>,
    ) -> BufferPool {
        let frames = frames.max(MIN_FRAMES);
        let count = u32::try_from(frames).expect("shared_buffers is limited to 2^30 pages");
        BufferPool {
            frames: (0..count)
                .zip(PageMemory::pages(frames))
                .map(|(i, page)| Arc::new(Frame::new(i, page)))
                .collect(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            free: Mutex::new((0..count).collect()),
            hand: AtomicUsize::new(0),
            gate: RwLock::new(gate),
            files,
            checksums,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }
    }

    /// Replaces what is asked before a page is written: recovery's (minimum recovery point) while replaying, the
    /// log's own afterwards.
    pub fn set_gate(&self, gate: Arc<dyn WriteGate>) {
        *self.gate.write() = gate;
    }
    /// `shared_buffers` in pages.
    pub fn size(&self) -> usize {
        self.frames.len()
    }
    /// Pages read from and written to files since the start.
    pub fn io_counts(&self) -> (u64, u64) {
        (
            self.reads.load(Ordering::Relaxed),
            self.writes.load(Ordering::Relaxed),
        )
    }

    pub(super) fn shard(&self, id: PageId) -> &RwLock<HashMap<PageId, u32>> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    pub(super) fn lookup(&self, id: PageId) -> Option<Arc<Frame>> {
        let shard = self.shard(id).read();
        let index = *shard.get(&id)?;
        Some(Arc::clone(&self.frames[index as usize]))
    }

    /// The page, read and verified where it was not in memory.
    pub fn pin(&self, id: PageId) -> Result<Pinned, StorageError> {
        self.pin_filled(id, &Fill::Read, None)
    }
    /// The same for a scan so large that it should recycle its own frames rather than everybody's.
    pub fn pin_in_ring(&self, id: PageId, ring: &mut Ring) -> Result<Pinned, StorageError> {
        self.pin_filled(id, &Fill::Read, Some(ring))
    }
    /// Redo: a block beyond the end is made, as zeroes; so is the file.
    pub fn pin_or_extend(&self, id: PageId) -> Result<Pinned, StorageError> {
        self.files.extend_to(id)?;
        self.pin(id)
    }
    /// Redo of a record that sets the whole page: as [`Self::pin_or_extend`], but what the file holds (it may be
    /// torn) is neither read nor verified. The page is zeroes unless it was in memory.
    pub fn pin_for_init(&self, id: PageId) -> Result<Pinned, StorageError> {
        self.files.extend_to(id)?;
        self.pin_filled(id, &Fill::Zero, None)
    }
    /// For forks that can be made again (free space): a damaged page reads as zeroes.
    pub fn pin_or_zero(&self, id: PageId) -> Result<Pinned, StorageError> {
        self.pin_filled(id, &Fill::ReadOrZero, None)
    }
    /// The page if it is in memory.
    pub fn pin_cached(&self, id: PageId) -> Option<Pinned> {
        let frame = self.lookup(id)?;
        if !frame.loaded.load(Ordering::Acquire) {
            return None;
        }
        frame.touch();
        Some(Pinned::new(frame, id))
    }

    fn pin_filled(
        &self,
        id: PageId,
        fill: &Fill,
        mut ring: Option<&mut Ring>,
    ) -> Result<Pinned, StorageError> {
        loop {
            if let Some(frame) = self.lookup(id) {
                if !frame.loaded.load(Ordering::Acquire) {
                    // Somebody is reading it in; if that fails, try for ourselves.
                    drop(frame.page.read());
                    if !frame.loaded.load(Ordering::Acquire) {
                        continue;
                    }
                }
                match ring {
                    None => frame.touch(),
                    Some(_) if frame.usage() == 0 => frame.set_usage(1),
                    Some(_) => {}
                }
                return Ok(Pinned::new(frame, id));
            }
            let frame = match ring.as_deref_mut() {
                Some(ring) => self.victim_from_ring(ring)?,
                None => self.victim()?,
            };
            let mut latch = frame.page.write();
            if !self.install(&frame, id) {
                drop(latch);
                self.release_victim(&frame);
                continue;
            }
            let filled = self.fill(id, fill, &mut latch);
            self.finish_load(&frame, id, latch, filled)?;
            return Ok(Pinned::new(frame, id));
        }
    }

    /// Enters a claimed frame into the lookup, not yet loaded; false if the page has got there first.
    fn install(&self, frame: &Arc<Frame>, id: PageId) -> bool {
        let mut shard = self.shard(id).write();
        if shard.contains_key(&id) {
            return false;
        }
        frame.loaded.store(false, Ordering::Release);
        *frame.tag.lock() = Some(id);
        frame.set_usage(1);
        shard.insert(id, frame.index);
        true
    }

    fn finish_load(
        &self,
        frame: &Arc<Frame>,
        id: PageId,
        latch: RwLockWriteGuard<'_, PageMemory>,
        filled: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match filled {
            Ok(()) => {
                frame.loaded.store(true, Ordering::Release);
                Ok(())
            }
            Err(e) => {
                self.shard(id).write().remove(&id);
                *frame.tag.lock() = None;
                drop(latch);
                self.release_victim(frame);
                Err(e)
            }
        }
    }

    fn fill(&self, id: PageId, fill: &Fill, buf: &mut PageBuf) -> Result<(), StorageError> {
        if matches!(fill, Fill::Zero) {
            buf.fill(0);
            return Ok(());
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.files.read(id, buf)?;
        let sound = page::header_is_valid(buf)
            && (!self.checksums
                || page::is_new(buf)
                || page::stored_checksum(buf) == page::checksum_of(buf, id.block));
        match fill {
            _ if sound => Ok(()),
            Fill::ReadOrZero => {
                tracing::warn!(rel = %id.file.path(id.fork), block = %id.block, "invalid page; zeroing out page");
                buf.fill(0);
                Ok(())
            }
            _ => Err(StorageError::Damaged(id)),
        }
    }

    /// A new zero page at the end of the fork; the file has grown. The page is clean: nothing is lost if it is
    /// evicted before its first change.
    pub fn extend(&self, file: RelFile, fork: Fork) -> Result<Pinned, StorageError> {
        let frame = self.victim()?;
        let made = self.extend_into(&frame, file, fork);
        if made.is_err() {
            self.release_victim(&frame);
        }
        Ok(Pinned::new(frame, made?))
    }

    /// The same, in a frame of the ring.
    pub fn extend_in_ring(
        &self,
        file: RelFile,
        fork: Fork,
        ring: &mut Ring,
    ) -> Result<Pinned, StorageError> {
        let frame = self.victim_from_ring(ring)?;
        let made = self.extend_into(&frame, file, fork);
        if made.is_err() {
            self.release_victim(&frame);
        }
        Ok(Pinned::new(frame, made?))
    }

    fn extend_into(
        &self,
        frame: &Arc<Frame>,
        file: RelFile,
        fork: Fork,
    ) -> Result<PageId, StorageError> {
        let mut latch = frame.page.write();
        latch.fill(0);
        self.files.extend(file, fork, |block| {
            let id = PageId { file, fork, block };
            // Nobody can have read a block beyond the end into memory.
            assert!(
                self.install(frame, id),
                "page {id:?} beyond the end of its fork is in memory"
            );
            frame.loaded.store(true, Ordering::Release);
            Ok(id)
        })
    }

    /// Cached; see [`RelationFiles::block_count`].
    pub fn block_count(&self, file: RelFile, fork: Fork) -> Result<u32, StorageError> {
        self.files.block_count(file, fork)
    }

    /// Drops the relation's pages without writing them: its file is going away. The caller holds no latch.
    pub fn forget(&self, file: RelFile) {
        self.drop_pages(|id| id.file == file);
    }
    /// The same for a whole database.
    pub fn forget_database(&self, database: crate::ids::Oid) {
        self.drop_pages(|id| id.file.database == database);
    }
    /// Everything: as if the server had been started anew. Dirty pages are lost.
    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        self.drop_pages(|_| true);
    }

    /// Cuts a fork, in memory and on disk. The caller has made sure that nobody wants the pages: it holds the
    /// relation's strongest lock and no latch.
    pub fn truncate(&self, file: RelFile, fork: Fork, blocks: u32) -> Result<(), StorageError> {
        self.drop_pages(|id| id.file == file && id.fork == fork && id.block.raw() >= blocks);
        self.files.truncate(file, fork, blocks)
    }

    fn drop_pages(&self, which: impl Fn(&PageId) -> bool) {
        for frame in &self.frames {
            let Some(id) = *frame.tag.lock() else {
                continue;
            };
            if !which(&id) {
                continue;
            }
            let Some(held) = self.lookup(id).filter(|f| f.index == frame.index) else {
                continue;
            };
            // After this lock no write of the page is under way, and none can begin that finds it dirty.
            let _writing = held.writing.lock();
            let latch = held.page.write();
            held.take_dirty();
            drop(latch);
            let mut shard = self.shard(id).write();
            if shard.get(&id) == Some(&held.index) {
                shard.remove(&id);
                *held.tag.lock() = None;
                drop(shard);
                self.free.lock().push_back(held.index);
            }
        }
    }
}
