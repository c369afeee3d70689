//! Finding a frame for another page: the free list, the clock sweep, a scan's own ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ids::PageId;
use crate::storage::StorageError;

use super::frame::Frame;
use super::pool::BufferPool;
use super::ring::Ring;

impl BufferPool {
    /// A frame that is in no lookup, clean, with one reference besides the pool's: the caller's.
    pub(super) fn victim(&self) -> Result<Arc<Frame>, StorageError> {
        if let Some(frame) = self.take_free() {
            return Ok(frame);
        }
        // Usage counts reach zero within five rounds; a few more for frames that others pinned meanwhile.
        let limit = self.frames.len() * 10;
        for _ in 0..limit {
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % self.frames.len();
            let frame = &self.frames[at];
            if !frame.unpinned(1) {
                continue;
            }
            let usage = frame.usage();
            if usage > 0 {
                frame.set_usage(usage - 1);
                continue;
            }
            if let Some(frame) = self.try_evict(frame)? {
                return Ok(frame);
            }
        }
        self.take_free().ok_or(StorageError::NoBuffers)
    }

    fn take_free(&self) -> Option<Arc<Frame>> {
        let mut free = self.free.lock();
        for _ in 0..free.len() {
            let index = free.pop_front()?;
            let frame = &self.frames[index as usize];
            // A reader that came too late for a dropped page may still hold on to it.
            if frame.unpinned(1) {
                frame.take_dirty();
                return Some(Arc::clone(frame));
            }
            free.push_back(index);
        }
        None
    }

    /// Gives back a claimed frame that came to hold nothing.
    pub(super) fn release_victim(&self, frame: &Arc<Frame>) {
        frame.set_usage(0);
        self.free.lock().push_back(frame.index);
    }

    /// Writes the frame's page if it is dirty, then takes the frame if nobody came for it meanwhile.
    fn try_evict(&self, frame: &Arc<Frame>) -> Result<Option<Arc<Frame>>, StorageError> {
        let Some(id) = *frame.tag.lock() else {
            return Ok(None);
        };
        if frame.is_dirty() {
            let Some(held) = self.lookup(id).filter(|f| f.index == frame.index) else {
                return Ok(None);
            };
            if !self.flush_if_unlatched(&held, id)? {
                return Ok(None);
            }
        }
        Ok(self.claim(frame, id))
    }

    fn claim(&self, frame: &Arc<Frame>, id: PageId) -> Option<Arc<Frame>> {
        let mut shard = self.shard(id).write();
        if shard.get(&id) != Some(&frame.index) || !frame.unpinned(1) || frame.is_dirty() {
            return None;
        }
        shard.remove(&id);
        *frame.tag.lock() = None;
        Some(Arc::clone(frame))
    }

    /// The frame that the ring used longest ago, unless others have come to like its page.
    pub(super) fn victim_from_ring(&self, ring: &mut Ring) -> Result<Arc<Frame>, StorageError> {
        if let Some(index) = ring.oldest() {
            let frame = &self.frames[index as usize];
            if frame.unpinned(1)
                && frame.usage() <= 1
                && let Some(frame) = self.try_evict(frame)?
            {
                ring.advance(frame.index);
                return Ok(frame);
            }
        }
        let frame = self.victim()?;
        ring.advance(frame.index);
        Ok(frame)
    }
}
