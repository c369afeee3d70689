//! The flush thread: writes and syncs the complete prefix of the log, for everyone who waits.
//!
//! One thread writes; whoever needs durability says how far and waits, as a thread (buffer pool, checkpoints) or
//! as a task (commits). While one sync runs, others' wishes gather, and the next sync serves them all. The last
//! page is written padded with zeroes and again when it has grown. Nobody is woken before the sync that covers
//! them has returned without error; an error ends the process, because a second sync could report success for
//! pages that the system has dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber};
use crate::io::FileRef;

use super::error::WalError;
use super::log::Wal;

/// Tasks that wait for `flush_lsn`, lowest first.
#[derive(Default)]
pub(super) struct Waiters {
    heap: BinaryHeap<Reverse<Waiting>>,
}

struct Waiting {
    upto: Lsn,
    done: oneshot::Sender<()>,
}
impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.upto == other.upto
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.upto.cmp(&other.upto)
    }
}

impl Waiters {
    /// Drops everyone: they see a log that has failed.
    pub fn clear(&mut self) {
        self.heap.clear();
    }
    fn wake(&mut self, flushed: Lsn) {
        while let Some(Reverse(first)) = self.heap.peek() {
            if first.upto > flushed {
                break;
            }
            if let Some(Reverse(waiting)) = self.heap.pop() {
                // A waiter that has gone away has nobody to tell.
                let _ = waiting.done.send(());
            }
        }
    }
}

impl Wal {
    /// Wakes the flush thread; returns at once.
    pub fn request_flush(&self, upto: Lsn) {
        let upto = self.clamp(upto);
        if self.flush_lsn() >= upto {
            return;
        }
        if self.flush_wanted.fetch_max(upto.raw(), Ordering::SeqCst) < upto.raw() {
            self.wake_flusher();
        }
    }

    /// Returns when the log is durable up to `upto`. Blocks the thread. In recovery it is recovery's hook that
    /// makes sure that the log will be there.
    pub fn flush_blocking(&self, upto: Lsn) {
        if self.in_recovery() {
            if let Some(hook) = &*self.recovery_flush.read() {
                hook(upto);
            }
            return;
        }
        let upto = self.clamp(upto);
        if self.flush_lsn() < upto {
            self.request_flush(upto);
            self.wait(|| self.flush_lsn() >= upto);
        }
    }

    /// Resolves when the log is durable up to `upto`.
    pub async fn flushed(&self, upto: Lsn) {
        let upto = self.clamp(upto);
        if self.flush_lsn() >= upto {
            return;
        }
        let (done, waiting) = oneshot::channel();
        self.waiters
            .lock()
            .heap
            .push(Reverse(Waiting { upto, done }));
        // A flush that ended before the push has not seen us.
        if self.flush_lsn() >= upto {
            return;
        }
        self.request_flush(upto);
        assert!(!self.has_failed(), "the WAL has failed");
        let woken = waiting.await;
        assert!(
            woken.is_ok() || self.flush_lsn() >= upto,
            "the WAL has failed"
        );
    }

    /// The flushed position as a value to watch.
    pub fn flush_watch(&self) -> tokio::sync::watch::Receiver<Lsn> {
        self.watch.subscribe()
    }
    /// `hook` is called on the flush thread each time after `flush_lsn` moved; it must be short.
    pub fn on_flush(&self, hook: Box<dyn Fn(Lsn) + Send + Sync>) {
        self.hooks.write().push(hook);
    }
    /// `hook` is called on the flush thread when a segment is complete and durable; it must be short.
    pub fn on_segment(&self, hook: Box<dyn Fn(SegmentNumber) + Send + Sync>) {
        self.segment_hooks.write().push(hook);
    }

    /// A page's beginning and the end of its header are the same place; the flushed position says the first. A
    /// wish that is further past the end than that comes from a page newer than the log.
    fn clamp(&self, upto: Lsn) -> Lsn {
        let end = self.end_lsn();
        if upto <= end {
            return upto;
        }
        assert!(
            upto <= self.insert_lsn(),
            "xlog flush request {upto} is not satisfied --- the log ends at {end}"
        );
        end
    }

    /// Waits for the flush thread to make room.
    pub(super) fn wait_for_write(&self, done: impl Fn() -> bool) {
        self.wait(|| {
            self.space_wanted.store(true, Ordering::SeqCst);
            self.wake_flusher();
            done()
        });
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let mut lock = self.progress.lock();
        while !done() {
            assert!(!self.has_failed(), "the WAL has failed");
            self.progressed.wait(&mut lock);
        }
    }

    /// Called by an inserter whose copy is finished.
    pub(super) fn inserter_finished(&self, end: Lsn) {
        let unwritten = end.saturating_sub(self.write_lsn());
        if self.starved.load(Ordering::SeqCst) || unwritten > self.ring.bytes() / 4 {
            self.wake_flusher();
        }
    }

    pub(super) fn wake_flusher(&self) {
        if let Some(thread) = self.flusher.get() {
            thread.unpark();
        }
    }
    pub(super) fn wake_threads(&self) {
        self.wake_flusher();
        if let Some(thread) = self.preparer.get() {
            thread.unpark();
        }
    }

    fn announce(&self, flushed: Lsn) {
        self.flushed.store(flushed.raw(), Ordering::SeqCst);
        for hook in &*self.hooks.read() {
            hook(flushed);
        }
        self.waiters.lock().wake(flushed);
        self.notify_progress();
        self.watch.send_replace(flushed);
    }

    fn notify_progress(&self) {
        let _lock = self.progress.lock();
        self.progressed.notify_all();
    }
}

/// Starts the flush thread and the thread that makes the next segment ready.
pub(super) fn start_threads(wal: &Arc<Wal>, end: Lsn) -> Result<Vec<JoinHandle<()>>, WalError> {
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(WalError::io("start thread for", name))
    };
    let mut flusher = Flusher {
        wal: wal.clone(),
        open: None,
        synced: end,
        buffer: Vec::new(),
    };
    let flush = spawn("wal-flush", Box::new(move || flusher.run()))?;
    wal.flusher.get_or_init(|| flush.thread().clone());
    let for_preparer = wal.clone();
    let prepare = spawn(
        "wal-prepare",
        Box::new(move || prepare_segments(&for_preparer)),
    )?;
    wal.preparer.get_or_init(|| prepare.thread().clone());
    wal.wake_threads();
    Ok(vec![flush, prepare])
}

/// Keeps the segment after the current one ready, so that the flush thread never has to fill 16 MB with zeroes.
fn prepare_segments(wal: &Wal) {
    while !wal.stopping.load(Ordering::SeqCst) && !wal.has_failed() {
        if let Err(error) = wal.ensure_space() {
            // The next transaction that wants to write gets this error itself.
            tracing::warn!(%error, "could not prepare the next WAL segment");
            thread::park_timeout(Duration::from_secs(5));
        } else {
            thread::park();
        }
    }
}

/// Most bytes copied out of the ring and written at once.
const WRITE_CHUNK: usize = 1 << 20;

struct Flusher {
    wal: Arc<Wal>,
    open: Option<(SegmentNumber, FileRef)>,
    /// Durable up to here; `flush_lsn` follows.
    synced: Lsn,
    buffer: Vec<u8>,
}

impl Flusher {
    fn run(&mut self) {
        let wal = self.wal.clone();
        while !wal.has_failed() {
            let stopping = wal.stopping.load(Ordering::SeqCst);
            let wanted = Lsn::new(wal.flush_wanted.load(Ordering::SeqCst));
            let outcome = if wanted > self.synced {
                self.flush_to(wanted)
            } else if wal.space_wanted.swap(false, Ordering::SeqCst) || self.is_behind() {
                self.make_room()
            } else if stopping {
                return;
            } else {
                self.idle()
            };
            if let Err(error) = outcome {
                wal.fail(&error.to_string());
            }
        }
    }

    fn is_behind(&self) -> bool {
        let complete = self.wal.completion.advance();
        complete.saturating_sub(self.wal.write_lsn()) > self.wal.ring.bytes() / 4
    }

    fn make_room(&mut self) -> Result<(), WalError> {
        let before = self.wal.write_lsn();
        let complete = self.write_complete()?;
        if self.wal.write_lsn() == before && self.wal.end_lsn() > complete {
            // Whoever wants room has to wait for an inserter before it, and so have we.
            self.wal.space_wanted.store(true, Ordering::SeqCst);
            self.wait_for_inserters();
        }
        Ok(())
    }

    /// Nobody waits: sleeps for `wal_writer_delay`, then flushes what has come in meanwhile.
    fn idle(&mut self) -> Result<(), WalError> {
        let before = self.wal.end_lsn();
        thread::park_timeout(self.wal.writer_delay);
        let nobody_waits = self.wal.flush_wanted.load(Ordering::SeqCst) <= self.synced.raw();
        if before > self.synced && nobody_waits && !self.wal.space_wanted.load(Ordering::SeqCst) {
            let complete = self.write_complete()?;
            return self.sync(complete);
        }
        Ok(())
    }

    fn flush_to(&mut self, wanted: Lsn) -> Result<(), WalError> {
        let mut complete = self.wal.completion.advance();
        while complete < wanted {
            // An inserter below `wanted` may itself be waiting for room in the ring.
            self.write_complete()?;
            complete = self.wait_for_inserters();
            if self.wal.has_failed() {
                return Ok(());
            }
        }
        let complete = self.write_complete()?;
        self.sync(complete)
    }

    fn wait_for_inserters(&self) -> Lsn {
        let before = self.wal.completion.advance();
        for _ in 0..64 {
            std::hint::spin_loop();
            let now = self.wal.completion.advance();
            if now > before {
                return now;
            }
        }
        self.wal.starved.store(true, Ordering::SeqCst);
        let now = self.wal.completion.advance();
        if now == before {
            thread::park_timeout(Duration::from_millis(1));
        }
        self.wal.starved.store(false, Ordering::SeqCst);
        self.wal.completion.advance()
    }

    /// Hands everything complete to the operating system; syncs each segment that it finishes.
    fn write_complete(&mut self) -> Result<Lsn, WalError> {
        let complete = self.wal.completion.advance();
        let size = self.wal.segment_size();
        loop {
            let written = self.wal.write_lsn();
            if written >= complete {
                return Ok(complete);
            }
            let segment = written.segment(size);
            let to = complete.min(segment.next().start(size));
            let to = to.min(written.page_start().advance(WRITE_CHUNK as u64));
            self.write_range(segment, written.page_start(), to)?;
            self.wal.written.store(to.raw(), Ordering::Release);
            self.wal.notify_progress();
            if to.segment_offset(size) == 0 {
                self.finish_segment(segment, to)?;
            }
        }
    }

    /// Writes whole pages from a page's start; the last one padded with zeroes.
    fn write_range(&mut self, segment: SegmentNumber, from: Lsn, to: Lsn) -> Result<(), WalError> {
        let len = to.saturating_sub(from) as usize;
        self.buffer.clear();
        self.buffer.resize(len.next_multiple_of(PAGE_SIZE), 0);
        self.wal.ring.load(from, &mut self.buffer[..len]);
        let wal = self.wal.clone();
        let path = || wal.segments.path(wal.timeline(), segment);
        let file = self.open(segment)?;
        let offset = u64::from(from.segment_offset(wal.segment_size()));
        file.write_all_at(&self.buffer, offset)
            .map_err(|e| WalError::io("write to", path())(e))
    }

    fn open(&mut self, segment: SegmentNumber) -> Result<FileRef, WalError> {
        if let Some((number, file)) = &self.open
            && *number == segment
        {
            return Ok(file.clone());
        }
        let file = self
            .wal
            .segments
            .open_or_create(self.wal.timeline(), segment)?;
        self.open = Some((segment, file.clone()));
        self.wal.prepared.fetch_max(segment.raw(), Ordering::AcqRel);
        if let Some(thread) = self.wal.preparer.get() {
            thread.unpark();
        }
        Ok(file)
    }

    /// Makes the log durable up to what is written.
    fn sync(&mut self, upto: Lsn) -> Result<(), WalError> {
        if upto > self.synced {
            self.sync_file()?;
            self.synced = upto;
            self.wal.announce(upto);
        }
        Ok(())
    }

    fn sync_file(&self) -> Result<(), WalError> {
        if let Some((segment, file)) = &self.open {
            let path = self.wal.segments.path(self.wal.timeline(), *segment);
            file.sync().map_err(WalError::io("fdatasync", path))?;
        }
        Ok(())
    }

    /// The archiver's note is there before anybody hears that the segment is complete: whoever waits for its end
    /// may rely on its being archived.
    fn finish_segment(&mut self, segment: SegmentNumber, end: Lsn) -> Result<(), WalError> {
        self.sync_file()?;
        self.open = None;
        if self.wal.archiving.load(Ordering::SeqCst) {
            let name = segment.file_name(self.wal.timeline(), self.wal.segment_size());
            if let Err(error) = self.wal.segments.note_ready(&name) {
                // Nothing is lost: a segment without a note gets one before it could be removed.
                tracing::warn!("{error}");
            }
        }
        self.synced = end;
        self.wal.announce(end);
        for hook in &*self.wal.segment_hooks.read() {
            hook(segment);
        }
        Ok(())
    }
}
