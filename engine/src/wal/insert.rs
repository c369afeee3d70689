//! Inserting records: reserve, copy, finish.
//!
//! The reservation is the only thing that inserters do one after the other: an addition, the caller's
//! `at_reservation`, and a check that no checkpoint has moved the redo point since it was decided which blocks
//! get images (if one has, the record is laid out again). Copying into the ring runs in parallel; each
//! reservation has a ticket, and the flush thread takes only the prefix in which every ticket is finished.
//! A panic between reserving and finishing would leave a hole in the log for ever, so it ends the process.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::ids::{Lsn, PAGE_SIZE, Xid};

use super::log::Wal;
use super::page::{self, FIRST_IS_CONTRECORD, LongHeader, PageHeader};
use super::record::{Encoded, HEADER, ImagePolicy, Record, needs_other_images};
use super::rmgr::RmgrId;
use super::xlog_records;

/// Where a record stands. `end` is rounded up to 8 bytes; pages are stamped with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inserted {
    pub start: Lsn,
    pub end: Lsn,
}

/// What the reservation lock guards. Positions are in usable bytes.
pub(super) struct Reserve {
    pub position: u64,
    /// Start of the newest record.
    pub previous: u64,
    pub ticket: u64,
    pub policy: ImagePolicy,
    /// The setting, and how many backups want images whatever it says.
    pub full_page_writes: bool,
    pub forced: u32,
}

impl Reserve {
    pub fn new(full_page_writes: bool) -> Reserve {
        Reserve {
            position: 0,
            previous: 0,
            ticket: 0,
            policy: ImagePolicy {
                redo_point: Lsn::INVALID,
                full_pages: full_page_writes,
            },
            full_page_writes,
            forced: 0,
        }
    }
}

/// Which tickets are finished. Slots hold the end LSN of a finished ticket, or with the lowest bit set how far an
/// unfinished one has come; 0 is neither.
pub(super) struct Completion {
    slots: Box<[AtomicU64]>,
    consumed: CachePadded<AtomicU64>,
    complete: CachePadded<AtomicU64>,
    cursor: Mutex<()>,
}

const SLOTS: usize = 4096;
const UNFINISHED: u64 = 1;

impl Completion {
    pub fn new() -> Completion {
        Completion {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            consumed: CachePadded::new(AtomicU64::new(0)),
            complete: CachePadded::new(AtomicU64::new(0)),
            cursor: Mutex::new(()),
        }
    }
    pub fn start_at(&self, lsn: Lsn) {
        self.complete.store(lsn.raw(), Ordering::SeqCst);
    }
    fn has_slot(&self, ticket: u64) -> bool {
        ticket - self.consumed.load(Ordering::Acquire) < SLOTS as u64
    }
    fn progress(&self, ticket: u64, lsn: Lsn) {
        let slot = &self.slots[ticket as usize % SLOTS];
        slot.store(lsn.raw() | UNFINISHED, Ordering::SeqCst);
    }
    fn finish(&self, ticket: u64, end: Lsn) {
        self.slots[ticket as usize % SLOTS].store(end.raw(), Ordering::SeqCst);
    }
    /// End of the prefix in which everything is copied.
    pub fn advance(&self) -> Lsn {
        let _only_one = self.cursor.lock();
        let mut next = self.consumed.load(Ordering::Relaxed);
        let mut complete = self.complete.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[next as usize % SLOTS];
            let value = slot.load(Ordering::SeqCst);
            if value == 0 {
                break;
            }
            complete = complete.max(value & !UNFINISHED);
            if value & UNFINISHED != 0 {
                break;
            }
            slot.store(0, Ordering::Relaxed);
            next += 1;
        }
        self.complete.store(complete, Ordering::Release);
        self.consumed.store(next, Ordering::Release);
        Lsn::new(complete)
    }
}

thread_local! {
    static ENCODED: RefCell<Encoded> = RefCell::new(Encoded::default());
}

/// Ends the process where its holder unwinds. Not where the thread did so before: what is torn down by a panic elsewhere
/// inserts as well, a transaction the record of its abort.
struct NoPanic<'a> {
    wal: &'a Wal,
    unwound: bool,
}

impl NoPanic<'_> {
    fn of(wal: &Wal) -> NoPanic<'_> {
        NoPanic {
            wal,
            unwound: std::thread::panicking(),
        }
    }
}

impl Drop for NoPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwound {
            self.wal.fail("panic while a WAL record was being inserted");
        }
    }
}

/// A reservation made: what to copy where.
struct Reserved {
    inserted: Inserted,
    previous: Lsn,
    ticket: u64,
}

impl Wal {
    /// Appends the record. It is in memory when this returns, durable once `flush_lsn` has reached the end.
    pub fn insert(&self, record: &Record<'_>) -> Inserted {
        self.insert_with(record, |_| {})
    }

    /// As [`Self::insert`]; `at_reservation` runs inside the critical section that reserves the position: a few
    /// stores, no I/O, no locks that others hold while inserting.
    pub fn insert_with(
        &self,
        record: &Record<'_>,
        at_reservation: impl FnOnce(Inserted),
    ) -> Inserted {
        self.insert_changing(record, |_, inserted| at_reservation(inserted))
    }

    /// As [`Self::insert_with`]; `at_reservation` may also change what the reservation lock guards.
    fn insert_changing(
        &self,
        record: &Record<'_>,
        at_reservation: impl FnOnce(&mut Reserve, Inserted),
    ) -> Inserted {
        self.assert_writing();
        ENCODED.with_borrow_mut(|encoded| {
            let mut policy = self.image_policy();
            let _guard = NoPanic::of(self);
            let reserved = loop {
                encoded.encode(record, policy);
                let mut reserve = self.lock_reserve();
                if needs_other_images(record, policy, reserve.policy) {
                    policy = reserve.policy;
                    continue;
                }
                let reserved = self.reserve(&mut reserve, encoded.bytes().len() as u64);
                at_reservation(&mut reserve, reserved.inserted);
                break reserved;
            };
            self.copy(encoded, &reserved);
            encoded.shrink();
            reserved.inserted
        })
    }

    /// Ends the segment: what follows goes into the next one. Does nothing where a segment has just begun
    /// (`start == end` then). The flush of the whole segment is requested, not awaited.
    pub fn switch_segment(&self) -> Inserted {
        self.assert_writing();
        let record = Record {
            rmgr: RmgrId::XLOG,
            info: xlog_records::SWITCH,
            xid: Xid::INVALID,
            main: &[],
            blocks: &[],
        };
        ENCODED.with_borrow_mut(|encoded| {
            let _guard = NoPanic::of(self);
            encoded.encode(&record, self.image_policy());
            let (reserved, segment_end) = {
                let mut reserve = self.lock_reserve();
                let begin = self.geometry.end_lsn(reserve.position);
                if begin.segment_offset(self.segment_size()) == 0 {
                    return Inserted {
                        start: begin,
                        end: begin,
                    };
                }
                let reserved = self.reserve(&mut reserve, HEADER as u64);
                let segment_end = reserved
                    .inserted
                    .end
                    .previous_byte_segment(self.segment_size())
                    .next()
                    .start(self.segment_size());
                reserve.position = self.geometry.position(segment_end);
                self.publish_reserved(&reserve);
                (reserved, segment_end)
            };
            encoded.seal(reserved.previous);
            let at = self.copy_pieces(encoded, &reserved);
            self.zero_range(at, segment_end, reserved.ticket);
            self.finish(reserved.ticket, segment_end);
            self.request_flush(segment_end);
            reserved.inserted
        })
    }

    /// Takes the reservation lock, makes the insert position the redo point and runs `at_redo` in the same
    /// critical section. Pages first changed behind it get full images.
    pub fn set_redo_point(&self, at_redo: impl FnOnce(Lsn)) -> Lsn {
        self.begin_checkpoint(at_redo).0
    }

    /// The same, and what the setting `full_page_writes` was at that very place in the log.
    pub fn begin_checkpoint(&self, at_redo: impl FnOnce(Lsn)) -> (Lsn, bool) {
        let mut reserve = self.reserve.lock();
        let redo = self.geometry.start_lsn(reserve.position);
        reserve.policy.redo_point = redo;
        self.publish_policy(&reserve);
        at_redo(redo);
        (redo, reserve.full_page_writes)
    }

    /// As [`Self::set_redo_point`] for a shutdown checkpoint and in recovery: the position is given.
    pub fn set_redo_point_to(&self, redo: Lsn) {
        let mut reserve = self.reserve.lock();
        reserve.policy.redo_point = redo;
        self.publish_policy(&reserve);
    }

    /// Full-page images whatever `full_page_writes` says, while base backups run. Counted.
    pub fn force_full_page_writes(&self, on: bool) {
        let mut reserve = self.reserve.lock();
        reserve.forced = if on {
            reserve.forced + 1
        } else {
            reserve.forced.saturating_sub(1)
        };
        self.apply_full_page_writes(&mut reserve);
    }

    /// The setting `full_page_writes`. It changes at the very place where the log says so, so that a standby knows of what
    /// is between two such records that a base backup of its own can't be healed by it, and a checkpoint's redo point is
    /// behind the record or before the change. Not while the log is being stopped.
    pub fn set_full_page_writes(&self, on: bool) {
        if self.full_page_writes() == on {
            return;
        }
        if !self.is_writing() {
            // Recovery logs nothing: whoever ends it says what the setting is by then.
            self.put_full_page_writes(on);
            if !self.is_writing() {
                return;
            }
            // It has ended meanwhile, with the setting as it was.
        }
        let record = Record {
            rmgr: RmgrId::XLOG,
            info: xlog_records::FPW_CHANGE,
            xid: Xid::INVALID,
            main: &xlog_records::encode_fpw_change(on),
            blocks: &[],
        };
        self.insert_changing(&record, |reserve, _| {
            reserve.full_page_writes = on;
            self.apply_full_page_writes(reserve);
        });
    }

    fn put_full_page_writes(&self, on: bool) {
        let mut reserve = self.reserve.lock();
        reserve.full_page_writes = on;
        self.apply_full_page_writes(&mut reserve);
    }

    fn apply_full_page_writes(&self, reserve: &mut Reserve) {
        reserve.policy.full_pages = reserve.full_page_writes || reserve.forced > 0;
        self.backups.store(reserve.forced, Ordering::Relaxed);
        self.publish_policy(reserve);
    }

    fn lock_reserve(&self) -> MutexGuard<'_, Reserve> {
        loop {
            let reserve = self.reserve.lock();
            if self.completion.has_slot(reserve.ticket) {
                return reserve;
            }
            drop(reserve);
            self.completion.advance();
            std::thread::yield_now();
        }
    }

    fn reserve(&self, reserve: &mut Reserve, len: u64) -> Reserved {
        let begin = reserve.position;
        let previous = match reserve.previous {
            0 => Lsn::INVALID,
            position => self.geometry.start_lsn(position),
        };
        reserve.position += len;
        reserve.previous = begin;
        let ticket = reserve.ticket;
        reserve.ticket += 1;
        self.publish_reserved(reserve);
        let inserted = Inserted {
            start: self.geometry.start_lsn(begin),
            end: self.geometry.end_lsn(reserve.position),
        };
        Reserved {
            inserted,
            previous,
            ticket,
        }
    }

    fn copy(&self, encoded: &mut Encoded, reserved: &Reserved) {
        encoded.seal(reserved.previous);
        let end = self.copy_pieces(encoded, reserved);
        debug_assert_eq!(end, reserved.inserted.end);
        self.finish(reserved.ticket, end);
    }

    /// Copies page by page. Whoever owns a page's first usable byte writes its header.
    fn copy_pieces(&self, encoded: &Encoded, reserved: &Reserved) -> Lsn {
        let (mut at, mut rest) = (reserved.inserted.start, encoded.bytes());
        let mut done = 0;
        loop {
            let page = at.page_start();
            self.wait_for_space(page, reserved.ticket);
            if at.page_offset() <= page::header_size(page, self.segment_size()) {
                let remaining = if done > 0 { encoded.total() - done } else { 0 };
                at = self.store_page_header(page, remaining as u32);
            }
            let n = rest.len().min(PAGE_SIZE - at.page_offset());
            self.ring.store(at, &rest[..n]);
            (at, rest, done) = (at.advance(n as u64), &rest[n..], done + n);
            if rest.is_empty() {
                return at;
            }
        }
    }

    fn store_page_header(&self, page: Lsn, remaining: u32) -> Lsn {
        let mut info = if remaining > 0 {
            FIRST_IS_CONTRECORD
        } else {
            0
        };
        if self.backups.load(Ordering::Relaxed) == 0 {
            info |= page::BKP_REMOVABLE;
        }
        if self.overwrite_page.load(Ordering::Relaxed) == page.raw() {
            info |= page::FIRST_IS_OVERWRITE_CONTRECORD;
        }
        let first = page.segment_offset(self.segment_size()) == 0;
        let long = first.then_some(LongHeader {
            system_id: self.system_id(),
            segment_size: self.segment_size(),
        });
        let header = PageHeader {
            info,
            timeline: self.timeline(),
            address: page,
            remaining,
            long,
        };
        let (bytes, len) = header.encode();
        self.ring.store(page, &bytes[..len]);
        page.advance(len as u64)
    }

    /// Zeroes, headers included, as PostgreSQL leaves the rest of a switched segment.
    fn zero_range(&self, from: Lsn, to: Lsn, ticket: u64) {
        let mut at = from;
        while at < to {
            self.wait_for_space(at.page_start(), ticket);
            self.ring.zero_to_page_end(at);
            at = at.page_start().advance(PAGE_SIZE as u64);
        }
    }

    /// Waits until the ring's place for this page is free, that is, until what stood there has been written. All
    /// of the ticket before the page is copied; saying so lets the flush thread make room where a record is
    /// longer than the ring.
    fn wait_for_space(&self, page: Lsn, ticket: u64) {
        if self.has_space(page) {
            return;
        }
        self.completion.progress(ticket, page);
        self.wait_for_write(|| self.has_space(page));
    }

    fn has_space(&self, page: Lsn) -> bool {
        let kept_from = self.write_lsn().page_start();
        page.raw() + PAGE_SIZE as u64 <= kept_from.raw() + self.ring.bytes()
    }

    fn finish(&self, ticket: u64, end: Lsn) {
        self.completion.finish(ticket, end);
        self.inserter_finished(end);
    }
}
