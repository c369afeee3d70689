//! Writing pages: log first, from a stamped copy, one writer a page; and the checkpoint's pass over all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::ids::{Lsn, PAGE_SIZE, PageId};
use crate::storage::StorageError;
use crate::storage::page::{self, PageBuf};

use super::frame::Frame;
use super::pool::BufferPool;

/// Asked before a page goes to its file; returns when the page's LSN is safe on disk.
pub trait WriteGate: Send + Sync {
    fn before_write(&self, page_lsn: Lsn) -> Result<(), StorageError>;
    /// Ends the process: the disk has lost something that it had promised to keep.
    fn fatal(&self, reason: &str);
}

/// How far a checkpoint's writes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub written: usize,
    pub total: usize,
}

/// What the checkpoint wants after a page: it sleeps in its callback to spread the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// Give up without syncing; what was written stays remembered for the next checkpoint.
    Stop,
}

impl BufferPool {
    /// For eviction, whose caller may hold latches: false if the page is latched or being written by another.
    pub(super) fn flush_if_unlatched(
        &self,
        frame: &Arc<Frame>,
        id: PageId,
    ) -> Result<bool, StorageError> {
        let Some(writing) = frame.writing.try_lock() else {
            return Ok(false);
        };
        let mut copy = [0; PAGE_SIZE];
        let dirty = {
            let Some(page) = frame.page.try_read() else {
                return Ok(false);
            };
            let dirty = frame.take_dirty();
            copy.copy_from_slice(&page[..]);
            dirty
        };
        if let Some(lsn) = dirty {
            self.write_copy(frame, id, &mut copy, lsn, writing)?;
        }
        Ok(true)
    }

    /// For checkpoints, whose caller holds no latch. False if the page was clean.
    fn flush(&self, frame: &Arc<Frame>, id: PageId) -> Result<bool, StorageError> {
        let writing = frame.writing.lock();
        let mut copy = [0; PAGE_SIZE];
        let dirty = {
            let page = frame.page.read();
            let dirty = frame.take_dirty();
            copy.copy_from_slice(&page[..]);
            dirty
        };
        match dirty {
            Some(lsn) => self
                .write_copy(frame, id, &mut copy, lsn, writing)
                .map(|()| true),
            None => Ok(false),
        }
    }

    fn write_copy(
        &self,
        frame: &Frame,
        id: PageId,
        copy: &mut PageBuf,
        recovery_lsn: u64,
        _writing: MutexGuard<'_, ()>,
    ) -> Result<(), StorageError> {
        let gate = Arc::clone(&self.gate.read());
        let written = gate.before_write(page::lsn(copy)).and_then(|()| {
            page::set_checksum(copy, id.block);
            self.files.write(id, copy)
        });
        if written.is_err() {
            frame.give_back_dirty(recovery_lsn);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        written
    }

    /// A checkpoint: writes every page that was first changed before `before`, in file and block order, then
    /// makes all writes durable, also those of evictions since the last checkpoint. `pace` is called after each
    /// page. A failed fsync ends the process.
    pub fn write_dirty(
        &self,
        before: Lsn,
        pace: &mut dyn FnMut(Progress) -> Flow,
    ) -> Result<(), StorageError> {
        let mut list: Vec<PageId> = self
            .frames
            .iter()
            // A page being written counts as clean already, but its write must be waited for before the sync.
            .filter(|frame| frame.is_to_be_written(before))
            .filter_map(|frame| *frame.tag.lock())
            .collect();
        list.sort_unstable_by_key(|id| {
            let file = id.file;
            (
                file.tablespace,
                file.database,
                file.number,
                id.fork.number(),
                id.block,
            )
        });
        let total = list.len();
        for (done, id) in list.into_iter().enumerate() {
            // Not there any more: evicted, so written, or forgotten, so not wanted.
            if let Some(frame) = self.lookup(id) {
                self.flush(&frame, id)?;
            }
            let progress = Progress {
                written: done + 1,
                total,
            };
            if pace(progress) == Flow::Stop {
                return Ok(());
            }
        }
        self.sync()
    }

    /// Makes all page writes so far durable or ends the process: after a failed fsync the kernel may have
    /// dropped what it could not write, so trying again would report success for lost pages.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.files.sync_written().map(|_| ()).inspect_err(|e| {
            let gate = Arc::clone(&self.gate.read());
            gate.fatal(&e.to_string());
        })
    }

    /// The background writer's round: writes up to `limit` dirty pages that the clock hand will come to soon,
    /// so that sessions find clean frames. Returns how many it wrote.
    pub fn write_ahead(&self, look: usize, limit: usize) -> Result<usize, StorageError> {
        let start = self.hand.load(Ordering::Relaxed);
        let mut written = 0;
        for step in 0..look.min(self.frames.len()) {
            let frame = &self.frames[(start + step) % self.frames.len()];
            if !frame.is_dirty() || frame.usage() > 0 {
                continue;
            }
            let Some(id) = *frame.tag.lock() else {
                continue;
            };
            if let Some(held) = self.lookup(id)
                && self.flush_if_unlatched(&held, id)?
            {
                written += 1;
                if written >= limit {
                    break;
                }
            }
        }
        Ok(written)
    }
}
