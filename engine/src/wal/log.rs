//! `Wal`: the log as the rest of the engine sees it, and its two lives.
//!
//! In recovery nothing can be inserted; "flushed" is what replay may rely on, and a wanted flush goes to
//! recovery's hook (which advances the minimum recovery point). `begin_writing` ends that life once: from then
//! on records are inserted behind the end of the log on one timeline, and `flush_lsn` is what is synced here.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber, SystemId, TimelineId};
use crate::io::DiskRef;

use super::error::WalError;
use super::flush::{self, Waiters};
use super::insert::{Completion, Reserve};
use super::position::Geometry;
use super::reader::AbortedRecord;
use super::record::ImagePolicy;
use super::ring::Ring;
use super::segments::{Recycled, Segments, Unarchived};
use super::timeline::History;

/// Called with the reason when the log can't be written any more. It is not expected to return; where a test's
/// hook does, the log refuses everything from then on.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

pub struct WalConfig {
    /// Where the segments are: `pg_wal`.
    pub dir: PathBuf,
    /// Bytes; a power of two.
    pub segment_size: u32,
    /// `wal_buffers`, bytes.
    pub buffers: usize,
    pub system_id: SystemId,
    pub full_page_writes: bool,
    /// `wal_writer_delay`: how long a record that nobody waits for may stay in memory.
    pub writer_delay: Duration,
    /// `archive_mode` is on: finished segments are marked `.ready`.
    pub archiving: bool,
    /// `archive_mode = always`: what is received or restored in recovery is archived, too.
    pub archive_always: bool,
    pub fatal: FatalHook,
}

impl WalConfig {
    /// PostgreSQL's defaults; a fatal error ends the process with exit code 2.
    pub fn new(system_id: SystemId) -> WalConfig {
        WalConfig {
            dir: PathBuf::from("pg_wal"),
            segment_size: 16 << 20,
            buffers: 16 << 20,
            system_id,
            full_page_writes: true,
            writer_delay: Duration::from_millis(200),
            archiving: false,
            archive_always: false,
            fatal: Arc::new(|reason| {
                tracing::error!(target: "PANIC", "{reason}");
                std::process::exit(2);
            }),
        }
    }
}

/// From where the log is written on.
pub struct StartWriting {
    /// The history of the timeline to write on; its own id is the last.
    pub history: History,
    /// Where the next record goes: the end of the last whole record, or [`AbortedRecord::missing`].
    pub end_of_log: Lsn,
    /// Start of the last whole record; invalid where there is none (`initdb`).
    pub last_record: Lsn,
    /// A record whose first part stays in the log for ever.
    pub aborted: Option<AbortedRecord>,
}

const RECOVERY: u8 = 0;
const WRITING: u8 = 1;
const FAILED: u8 = 2;
const STOPPED: u8 = 3;

type FlushHook = Box<dyn Fn(Lsn) + Send + Sync>;
type SegmentHook = Box<dyn Fn(SegmentNumber) + Send + Sync>;

pub struct Wal {
    pub(super) geometry: Geometry,
    pub(super) ring: Ring,
    pub(super) reserve: Mutex<Reserve>,
    pub(super) completion: Completion,
    pub(super) segments: Arc<Segments>,
    system_id: SystemId,
    pub(super) writer_delay: Duration,
    fatal: FatalHook,
    mode: AtomicU8,
    timeline: AtomicU32,
    history: RwLock<Option<History>>,
    /// Copies of what the reservation lock guards, for reading without it.
    reserved_position: AtomicU64,
    redo_point: AtomicU64,
    full_pages: AtomicBool,
    pub(super) backups: AtomicU32,
    /// The page that says that the record before it was given up; 0 for none.
    pub(super) overwrite_page: AtomicU64,
    /// From here on the ring holds what the log holds.
    ring_from: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) flushed: AtomicU64,
    pub(super) flush_wanted: AtomicU64,
    pub(super) space_wanted: AtomicBool,
    /// The flush thread waits for an inserter to finish.
    pub(super) starved: AtomicBool,
    pub(super) stopping: AtomicBool,
    pub(super) archiving: AtomicBool,
    archive_always: bool,
    pub(super) flusher: OnceLock<Thread>,
    pub(super) preparer: OnceLock<Thread>,
    /// The newest segment that is known to exist, with all before it.
    pub(super) prepared: AtomicU64,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    pub(super) waiters: Mutex<Waiters>,
    pub(super) progress: Mutex<()>,
    pub(super) progressed: Condvar,
    pub(super) watch: tokio::sync::watch::Sender<Lsn>,
    pub(super) hooks: RwLock<Vec<FlushHook>>,
    pub(super) segment_hooks: RwLock<Vec<SegmentHook>>,
    pub(super) recovery_flush: RwLock<Option<FlushHook>>,
}

impl Wal {
    /// A log in recovery.
    pub fn new(disk: DiskRef, config: WalConfig) -> Arc<Wal> {
        let segments = Arc::new(Segments::new(
            disk,
            config.dir,
            config.segment_size,
            config.system_id,
        ));
        Arc::new(Wal {
            geometry: Geometry::new(config.segment_size),
            ring: Ring::new(config.buffers),
            reserve: Mutex::new(Reserve::new(config.full_page_writes)),
            completion: Completion::new(),
            segments,
            system_id: config.system_id,
            writer_delay: config.writer_delay,
            fatal: config.fatal,
            mode: AtomicU8::new(RECOVERY),
            timeline: AtomicU32::new(TimelineId::FIRST.raw()),
            history: RwLock::new(None),
            reserved_position: AtomicU64::new(0),
            redo_point: AtomicU64::new(0),
            full_pages: AtomicBool::new(config.full_page_writes),
            backups: AtomicU32::new(0),
            overwrite_page: AtomicU64::new(0),
            ring_from: AtomicU64::new(u64::MAX),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            flush_wanted: AtomicU64::new(0),
            space_wanted: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            archiving: AtomicBool::new(config.archiving),
            archive_always: config.archive_always,
            flusher: OnceLock::new(),
            preparer: OnceLock::new(),
            prepared: AtomicU64::new(0),
            threads: Mutex::new(Vec::new()),
            waiters: Mutex::new(Waiters::default()),
            progress: Mutex::new(()),
            progressed: Condvar::new(),
            watch: tokio::sync::watch::Sender::new(Lsn::INVALID),
            hooks: RwLock::new(Vec::new()),
            segment_hooks: RwLock::new(Vec::new()),
            recovery_flush: RwLock::new(None),
        })
    }

    /// Ends recovery: loads the page in which the log ends, clears what a crash may have left behind the end,
    /// and starts the threads. Once in the log's life.
    pub fn begin_writing(self: &Arc<Self>, start: StartWriting) -> Result<(), WalError> {
        assert_eq!(
            self.mode.load(Ordering::SeqCst),
            RECOVERY,
            "the log is being written already"
        );
        let timeline = start.history.timeline();
        let end = start.end_of_log;
        let page = end.page_start();
        if end.page_offset() > 0 {
            let mut bytes = vec![0; PAGE_SIZE];
            let n = self.segments.read(timeline, page, &mut bytes)?;
            bytes[n.min(end.page_offset())..].fill(0);
            self.ring.store(page, &bytes);
        }
        self.segments.clear_after(timeline, end)?;
        {
            let mut reserve = self.reserve.lock();
            reserve.position = self.geometry.position(end);
            reserve.previous = match start.last_record {
                Lsn::INVALID => 0,
                lsn => self.geometry.position(lsn),
            };
            self.publish_reserved(&reserve);
        }
        if let Some(aborted) = start.aborted {
            self.overwrite_page
                .store(aborted.missing.raw(), Ordering::SeqCst);
        }
        self.timeline.store(timeline.raw(), Ordering::SeqCst);
        *self.history.write() = Some(start.history);
        self.completion.start_at(end);
        self.ring_from.store(page.raw(), Ordering::SeqCst);
        self.written.store(end.raw(), Ordering::SeqCst);
        self.flushed.store(end.raw(), Ordering::SeqCst);
        self.watch.send_replace(end);
        self.mode.store(WRITING, Ordering::SeqCst);
        self.threads.lock().extend(flush::start_threads(self, end)?);
        Ok(())
    }

    /// Flushes everything and ends the threads. Nothing may be inserted any more.
    pub fn stop(&self) {
        if self.mode.load(Ordering::SeqCst) == WRITING {
            self.flush_blocking(self.end_lsn());
        }
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_threads();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                self.fail("a thread of the WAL panicked");
            }
        }
        let _ = self
            .mode
            .compare_exchange(WRITING, STOPPED, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The log can't be written: ends the process. Where the hook returns, the log only refuses from here on.
    pub fn fail(&self, reason: &str) {
        self.mode.store(FAILED, Ordering::SeqCst);
        (self.fatal)(reason);
        self.wake_threads();
        let _lock = self.progress.lock();
        self.progressed.notify_all();
        self.waiters.lock().clear();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == FAILED
    }
    pub(super) fn assert_writing(&self) {
        let mode = self.mode.load(Ordering::Relaxed);
        assert_ne!(mode, FAILED, "the WAL has failed");
        assert_eq!(
            mode, WRITING,
            "cannot make new WAL entries during recovery or after the end"
        );
    }
    pub(super) fn is_writing(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == WRITING
    }
    pub fn in_recovery(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == RECOVERY
    }

    /// Where the next record goes.
    pub fn insert_lsn(&self) -> Lsn {
        self.geometry
            .start_lsn(self.reserved_position.load(Ordering::Acquire))
    }
    /// The end of the newest record that has a position.
    pub fn end_lsn(&self) -> Lsn {
        self.geometry
            .end_lsn(self.reserved_position.load(Ordering::Acquire))
    }
    /// Up to here the operating system has the log.
    pub fn write_lsn(&self) -> Lsn {
        Lsn::new(self.written.load(Ordering::Acquire))
    }
    /// Up to here the log is durable.
    pub fn flush_lsn(&self) -> Lsn {
        Lsn::new(self.flushed.load(Ordering::Acquire))
    }
    pub fn redo_point(&self) -> Lsn {
        Lsn::new(self.redo_point.load(Ordering::Acquire))
    }
    pub fn full_page_writes(&self) -> bool {
        self.reserve.lock().full_page_writes
    }
    pub fn timeline(&self) -> TimelineId {
        TimelineId::new(self.timeline.load(Ordering::Acquire))
    }
    /// The history of the timeline that is being written, or followed; `None` before either is known.
    pub fn history(&self) -> Option<History> {
        self.history.read().clone()
    }
    /// Looks at it without copying it.
    pub fn with_history<T>(&self, look: impl FnOnce(Option<&History>) -> T) -> T {
        look(self.history.read().as_ref())
    }
    pub fn segment_size(&self) -> u32 {
        self.geometry.segment_size()
    }
    pub fn system_id(&self) -> SystemId {
        self.system_id
    }
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }
    pub fn set_archiving(&self, on: bool) {
        self.archiving.store(on, Ordering::SeqCst);
    }

    pub fn is_archiving(&self) -> bool {
        self.archiving.load(Ordering::SeqCst)
    }

    /// Is what is received or restored in recovery archived, too?
    pub fn archives_in_recovery(&self) -> bool {
        self.archive_always
    }

    pub(super) fn image_policy(&self) -> ImagePolicy {
        ImagePolicy {
            redo_point: self.redo_point(),
            full_pages: self.full_pages.load(Ordering::Acquire),
        }
    }
    pub(super) fn publish_policy(&self, reserve: &Reserve) {
        self.redo_point
            .store(reserve.policy.redo_point.raw(), Ordering::Release);
        self.full_pages
            .store(reserve.policy.full_pages, Ordering::Release);
    }
    pub(super) fn publish_reserved(&self, reserve: &Reserve) {
        self.reserved_position
            .store(reserve.position, Ordering::SeqCst);
    }

    /// Would the log as it is give this page a full image? For callers that choose between records.
    pub fn takes_image(&self, page_lsn: Lsn) -> bool {
        let policy = self.image_policy();
        policy.full_pages && page_lsn <= policy.redo_point
    }

    /// Bytes of flushed log from `from` on: from memory if they are still there, else from the segment files;
    /// never past `flush_lsn`. Returns how many; fewer than asked for at a segment's end or the flushed end.
    pub fn read_flushed(&self, from: Lsn, buf: &mut [u8]) -> Result<usize, WalError> {
        let flushed = self.flush_lsn();
        let Some(available) = flushed.checked_sub(from) else {
            return Err(WalError::NotFlushed {
                requested: from,
                flushed,
            });
        };
        let n = buf
            .len()
            .min(usize::try_from(available).unwrap_or(usize::MAX));
        let buf = &mut buf[..n];
        if n == 0 || self.read_ring(from, buf) {
            return Ok(n);
        }
        match &*self.history.read() {
            Some(history) => self.segments.read_on(history, from, buf).map(|(_, n)| n),
            None => self.segments.read(self.timeline(), from, buf),
        }
    }

    fn read_ring(&self, from: Lsn, buf: &mut [u8]) -> bool {
        if from.raw() < self.ring_from.load(Ordering::Acquire) {
            return false;
        }
        let still_there = || {
            let overwritten_to = self.end_lsn().raw().next_multiple_of(PAGE_SIZE as u64);
            overwritten_to <= from.page_start().raw() + self.ring.bytes()
        };
        if !still_there() {
            return false;
        }
        self.ring.load(from, buf);
        still_there()
    }

    /// Before a transaction gets an xid: is there room for what it will write? `ENOSPC` here is an error to the
    /// client; later it would end the server.
    pub fn ensure_space(&self) -> Result<(), WalError> {
        let next = self.end_lsn().segment(self.segment_size()).next();
        if self.prepared.load(Ordering::Acquire) >= next.raw() {
            return Ok(());
        }
        self.prepare(next)
    }

    pub(super) fn prepare(&self, upto: SegmentNumber) -> Result<(), WalError> {
        let from = self.end_lsn().segment(self.segment_size());
        for number in from.raw()..=upto.raw() {
            self.segments
                .prepare(self.timeline(), SegmentNumber::new(number))?;
            self.prepared.fetch_max(number, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Frees the segments before `keep_from`: gives them the names of coming segments up to `recycle_to`,
    /// removes the rest. With archiving on, those not yet archived stay; in recovery, where only a server that archives
    /// then too makes notes, those that were asked for. What lies beside them goes with them.
    pub fn recycle_before(
        &self,
        keep_from: SegmentNumber,
        recycle_to: SegmentNumber,
    ) -> Result<Recycled, WalError> {
        // In recovery nothing is reserved; what has been received must not be taken for free.
        let end = self.end_lsn().max(self.flush_lsn());
        let first_new = end.segment(self.segment_size()).next();
        let unarchived = if !self.is_archiving() {
            Unarchived::Go
        } else if self.in_recovery() && !self.archive_always {
            Unarchived::StayIfAskedFor
        } else {
            Unarchived::Stay
        };
        let timeline = self.timeline();
        let done = self
            .segments
            .recycle_before(keep_from, timeline, first_new, recycle_to, unarchived)?;
        self.segments.remove_beside(keep_from, unarchived)?;
        Ok(done)
    }

    /// In recovery: up to here the log is durable here (received and synced, or read from synced files).
    pub fn recovery_advance(&self, timeline: TimelineId, upto: Lsn) {
        debug_assert!(self.in_recovery());
        self.timeline.store(timeline.raw(), Ordering::Release);
        if self.flushed.fetch_max(upto.raw(), Ordering::AcqRel) < upto.raw() {
            self.watch.send_replace(upto);
        }
    }
    /// In recovery: the timelines that are followed. What is here of one that is left, behind the place where it is left,
    /// is no part of this log.
    pub fn set_recovery_history(&self, history: History) {
        debug_assert!(self.in_recovery());
        let mut followed = self.history.write();
        if let Some(fork) = followed.as_ref().and_then(|old| old.fork_from(&history)) {
            self.flushed.fetch_min(fork.raw(), Ordering::AcqRel);
        }
        *followed = Some(history);
    }
    /// In recovery: called when a page with this LSN is to be written.
    pub fn on_recovery_flush(&self, hook: FlushHook) {
        *self.recovery_flush.write() = Some(hook);
    }
}
