//! The durable outcome of every transaction: two bits for each xid in `pg_xact`.
//!
//! ```text
//! pg_xact/NNNN   one segment: 32 pages of 8 KiB, 1,048,576 xids; NNNN = xid / 1,048,576 in hexadecimal
//! page           raw bits, no header (PostgreSQL's layout): byte i holds xids 4i to 4i+3, lowest bits first
//! bits           00 in progress (or died with its server), 01 committed, 10 aborted
//! ```
//!
//! Pages stand in a small cache of their own. Bits are set in memory, by the commit's critical section; a page
//! carries the end of the newest commit record behind its bits, and the log is flushed up to there before the
//! page is written. Nothing is written at commit: checkpoints write dirty pages ([`CommitLog::flush`]), and a
//! crash loses only bits whose records lie behind the redo point, which replay sets again. A torn page is
//! harmless for the same reason. An abort raises nothing: its bits may reach the disk before its record, and if that is
//! lost its xid is handed out again; so replay begins with [`CommitLog::trim`]. A page is made by a logged record before the first xid on it is handed out, with
//! its space on disk, so a full disk is an error to the client that wants the xid.
//!
//! Xids never wrap, so nothing has to be cut. When vacuum's frozen marks make segments dispensable, cutting them
//! is: no row below `Horizon::xid` with an unfrozen xid of the segment; log the new lower end; remove the file.
//! [`CommitLog::page`] is the only place that would then answer for what was cut (committed).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::ids::{Lsn, PAGE_SIZE, Xid};
use crate::io::{Access, DiskRef, FileRef};
use crate::wal::Wal;

const DIR: &str = "pg_xact";
pub(crate) const XIDS_PER_PAGE: u64 = PAGE_SIZE as u64 * 4;
const PAGES_PER_SEGMENT: u64 = 32;
const XIDS_PER_WORD: u64 = 32;
/// Pages found without a lock, by number modulo this.
const SLOTS: u64 = 128;
/// Clean pages kept in memory beyond those that are pinned or dirty.
const KEEP: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InProgress,
    Committed,
    Aborted,
}

/// A page in memory. Whoever holds the `Arc` keeps it there.
pub(crate) struct LogPage {
    number: u64,
    words: Box<[AtomicU64]>,
    /// End of the newest commit record whose bits are here.
    lsn: AtomicU64,
    dirty: AtomicBool,
}

impl LogPage {
    fn new(number: u64, bytes: &[u8]) -> LogPage {
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("chunks of eight"));
        LogPage {
            number,
            words: bytes
                .chunks_exact(8)
                .map(|b| AtomicU64::new(word(b)))
                .collect(),
            lsn: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
        }
    }

    fn place(xid: Xid) -> (usize, u64) {
        let index = xid.raw() % XIDS_PER_PAGE;
        ((index / XIDS_PER_WORD) as usize, index % XIDS_PER_WORD * 2)
    }

    fn status(&self, xid: Xid) -> Status {
        let (word, shift) = Self::place(xid);
        match (self.words[word].load(Ordering::Acquire) >> shift) & 0b11 {
            0b00 => Status::InProgress,
            0b10 => Status::Aborted,
            // 0b11 is PostgreSQL's "subcommitted", which is never written here.
            _ => Status::Committed,
        }
    }

    /// May replay set this outcome? An error if another one stands there: page or log is damaged.
    pub(crate) fn accepts(&self, xid: Xid, committed: bool) -> io::Result<()> {
        let (word, shift) = Self::place(xid);
        let was = (self.words[word].load(Ordering::Acquire) >> shift) & 0b11;
        let wanted = if committed { 0b01 } else { 0b10 };
        if was == 0 || was == wanted {
            return Ok(());
        }
        let path = CommitLog::path(self.number / PAGES_PER_SEGMENT);
        let ended = if committed { "committed" } else { "aborted" };
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "file \"{}\" is damaged: it has another outcome of transaction {xid}, which the log says {ended}",
                path.display()
            ),
        ))
    }

    pub(crate) fn holds(&self, xid: Xid) -> bool {
        xid.raw() / XIDS_PER_PAGE == self.number
    }

    /// Part of the commit's critical section: a few stores.
    pub(crate) fn set_committed(&self, xid: Xid, end: Lsn) {
        self.lsn.fetch_max(end.raw(), Ordering::AcqRel);
        self.set(xid, 0b01);
    }

    pub(crate) fn set_aborted(&self, xid: Xid) {
        self.set(xid, 0b10);
    }

    fn set(&self, xid: Xid, bits: u64) {
        debug_assert!(self.holds(xid));
        let (word, shift) = Self::place(xid);
        let before = self.words[word].fetch_or(bits << shift, Ordering::AcqRel);
        let was = (before >> shift) & 0b11;
        assert!(
            was == 0 || was == bits,
            "transaction {xid} has two outcomes: {was:02b} and {bits:02b}"
        );
        self.dirty.store(true, Ordering::Release);
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.words.iter();
        words
            .flat_map(|w| w.load(Ordering::Acquire).to_le_bytes())
            .collect()
    }
}

pub(crate) struct CommitLog {
    disk: DiskRef,
    wal: Arc<Wal>,
    /// For readers: a page that is also in `resident`.
    slots: Box<[ArcSwapOption<LogPage>]>,
    /// All pages in memory.
    resident: Mutex<HashMap<u64, Arc<LogPage>>>,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    open: HashMap<u64, FileRef>,
    /// Written since the last sync.
    unsynced: BTreeSet<u64>,
    created: bool,
}

impl CommitLog {
    pub(crate) fn new(disk: DiskRef, wal: Arc<Wal>) -> CommitLog {
        CommitLog {
            disk,
            wal,
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
            resident: Mutex::new(HashMap::new()),
            files: Mutex::new(Files::default()),
        }
    }

    pub(crate) fn status(&self, xid: Xid) -> io::Result<Status> {
        let number = xid.raw() / XIDS_PER_PAGE;
        let cached = self.slots[(number % SLOTS) as usize].load();
        if let Some(page) = cached.as_ref()
            && page.number == number
        {
            return Ok(page.status(xid));
        }
        Ok(self.page(number)?.status(xid))
    }

    /// The page of an xid, kept in memory as long as the caller holds it.
    pub(crate) fn page_of(&self, xid: Xid) -> io::Result<Arc<LogPage>> {
        let number = xid.raw() / XIDS_PER_PAGE;
        let cached = self.slots[(number % SLOTS) as usize].load_full();
        match cached.filter(|page| page.number == number) {
            Some(page) => Ok(page),
            None => self.page(number),
        }
    }

    fn page(&self, number: u64) -> io::Result<Arc<LogPage>> {
        let mut resident = self.resident.lock();
        let page = match resident.get(&number) {
            Some(page) => page.clone(),
            None => {
                let page = Arc::new(LogPage::new(number, &self.read(number)?));
                if resident.len() >= KEEP {
                    self.drop_clean(&mut resident);
                }
                resident.insert(number, page.clone());
                page
            }
        };
        self.slots[(number % SLOTS) as usize].store(Some(page.clone()));
        Ok(page)
    }

    /// Makes room by dropping clean pages that nobody holds.
    fn drop_clean(&self, resident: &mut HashMap<u64, Arc<LogPage>>) {
        // `store` waits for readers that are just getting hold of a page, so their counts are right after it.
        for slot in &self.slots {
            slot.store(None);
        }
        // A holder of the `Arc` may still set bits, so a page goes only when the map alone has it. Nobody can
        // get at it meanwhile: the slots are empty and we hold the map.
        resident
            .retain(|_, page| Arc::strong_count(page) > 1 || page.dirty.load(Ordering::Acquire));
    }

    /// A new page of zeroes, in memory and (its space) on disk. The caller has logged or replays its making.
    pub(crate) fn make_page(&self, number: u64) -> io::Result<()> {
        let page = Arc::new(LogPage::new(number, &[0; PAGE_SIZE]));
        self.write(number, &page.bytes())?;
        let mut resident = self.resident.lock();
        resident.insert(number, page.clone());
        self.slots[(number % SLOTS) as usize].store(Some(page));
        Ok(())
    }

    /// Writes and syncs what is dirty: for a checkpoint, after its redo point is set. Bits set before the call
    /// are durable when it returns.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let dirty: Vec<Arc<LogPage>> = {
            let resident = self.resident.lock();
            let dirty = resident
                .values()
                .filter(|p| p.dirty.load(Ordering::Acquire));
            dirty.cloned().collect()
        };
        for page in dirty {
            // Cleared first: bits set from here on make it dirty again.
            page.dirty.store(false, Ordering::SeqCst);
            let bytes = page.bytes();
            // Read after the bits: a commit raises the LSN before it sets its bits.
            let lsn = Lsn::new(page.lsn.load(Ordering::SeqCst));
            // On a standby: a restart replays at least to here before it answers anyone.
            if lsn.is_valid() && (self.wal.in_recovery() || lsn > self.wal.flush_lsn()) {
                self.wal.flush_blocking(lsn);
            }
            if let Err(e) = self.write(page.number, &bytes) {
                page.dirty.store(true, Ordering::SeqCst);
                return Err(e);
            }
        }
        // Another sync after one that failed could report success for pages that the system has dropped.
        self.sync()
            .inspect_err(|error| self.wal.fail(&format!("could not fsync {DIR}: {error}")))
    }

    fn sync(&self) -> io::Result<()> {
        let mut files = self.files.lock();
        for segment in files.unsynced.clone() {
            self.open(&mut files, segment)?.sync()?;
            files.unsynced.remove(&segment);
        }
        if files.created {
            self.disk.sync_dir(&PathBuf::from(DIR))?;
            files.created = false;
        }
        Ok(())
    }

    fn path(segment: u64) -> PathBuf {
        PathBuf::from(format!("{DIR}/{segment:04X}"))
    }

    fn open(&self, files: &mut Files, segment: u64) -> io::Result<FileRef> {
        if let Some(file) = files.open.get(&segment) {
            return Ok(file.clone());
        }
        let path = Self::path(segment);
        if !self.disk.exists(&path)? {
            if !self.disk.exists(&PathBuf::from(DIR))? {
                self.disk.create_dir(&PathBuf::from(DIR))?;
                self.disk.sync_dir(&PathBuf::from(""))?;
            }
            files.created = true;
        }
        let file = self.disk.open(&path, Access::Create)?;
        files.open.insert(segment, file.clone());
        Ok(file)
    }

    fn write(&self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock();
        let segment = number / PAGES_PER_SEGMENT;
        let file = self.open(&mut files, segment)?;
        files.unsynced.insert(segment);
        file.write_all_at(bytes, number % PAGES_PER_SEGMENT * PAGE_SIZE as u64)
    }

    /// What is not there reads as zeroes: replay may meet xids of a page whose making it has yet to see.
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE_SIZE];
        let path = Self::path(number / PAGES_PER_SEGMENT);
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(bytes),
            Err(e) => return Err(e),
        };
        file.read_at(&mut bytes, number % PAGES_PER_SEGMENT * PAGE_SIZE as u64)?;
        Ok(bytes)
    }

    /// Are the pages of all xids below `next` there? Checkpoints saw to that, and a page that is not would read as
    /// if none of its transactions had committed. Zeroes can't be told from transactions that a crash undid, but the
    /// first of all, which made the cluster, did commit.
    pub(crate) fn check_files(&self, next: Xid) -> Result<(), (PathBuf, io::Error)> {
        let last = next.raw().saturating_sub(1) / XIDS_PER_PAGE;
        for segment in 0..=last / PAGES_PER_SEGMENT {
            let path = Self::path(segment);
            let pages = (last + 1 - segment * PAGES_PER_SEGMENT).min(PAGES_PER_SEGMENT);
            let needed = pages * PAGE_SIZE as u64;
            let opened = self.disk.open(&path, Access::Read);
            let len = opened.and_then(|file| file.len());
            match len {
                Ok(len) if len >= needed => {}
                Ok(len) => {
                    let what = format!("it has {len} bytes and must have at least {needed}");
                    return Err((path, io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                Err(error) => return Err((path, error)),
            }
        }
        if next > Xid::FIRST_NORMAL {
            self.check_first().map_err(|error| (Self::path(0), error))?;
        }
        Ok(())
    }

    fn check_first(&self) -> io::Result<()> {
        let first = LogPage::new(0, &self.read(0)?);
        if first.status(Xid::FIRST_NORMAL) == Status::Committed {
            return Ok(());
        }
        let what = "it does not have the outcome of the transaction that made the cluster";
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// Before replay: no outcome stands for xids from `next` on. What the log says of them replay sets again; what it
    /// does not say (an abort is written without waiting for its record) belongs to transactions that a crash
    /// undid, whose xids are handed out once more. Durable when it returns.
    pub(crate) fn trim(&self, next: Xid) -> Result<(), (PathBuf, io::Error)> {
        let mut number = next.raw() / XIDS_PER_PAGE;
        let mut keep = (next.raw() % XIDS_PER_PAGE) as usize;
        loop {
            let path = Self::path(number / PAGES_PER_SEGMENT);
            let is_there = self.trim_page(number, keep);
            if !is_there.map_err(|error| (path, error))? {
                return Ok(());
            }
            (number, keep) = (number + 1, 0);
        }
    }

    /// Leaves a page's first `keep` outcomes; false if there is no such page.
    fn trim_page(&self, number: u64, keep: usize) -> io::Result<bool> {
        let path = Self::path(number / PAGES_PER_SEGMENT);
        if !self.disk.exists(&path)? {
            return Ok(false);
        }
        let file = self.disk.open(&path, Access::ReadWrite)?;
        let at = number % PAGES_PER_SEGMENT * PAGE_SIZE as u64;
        if file.len()? <= at {
            return Ok(false);
        }
        let mut bytes = [0; PAGE_SIZE];
        file.read_at(&mut bytes, at)?;
        let before = bytes;
        if !keep.is_multiple_of(4) {
            bytes[keep / 4] &= (1 << (keep % 4 * 2)) - 1;
        }
        bytes[keep.div_ceil(4)..].fill(0);
        if bytes != before {
            file.write_all_at(&bytes, at)?;
            file.sync()?;
        }
        Ok(true)
    }

    /// Forgets everything in memory: the files were replaced below us.
    pub(crate) fn forget_all(&self) {
        let mut resident = self.resident.lock();
        for slot in &self.slots {
            slot.store(None);
        }
        resident.clear();
        *self.files.lock() = Files::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SystemId;
    use crate::io::real::RealDisk;
    use crate::wal::WalConfig;

    #[test]
    fn bits_stand_where_postgresql_has_them_and_survive_a_flush() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk: DiskRef = Arc::new(RealDisk::new(dir.path()));
        let wal = Wal::new(disk.clone(), WalConfig::new(SystemId::new(1)));
        let log = CommitLog::new(disk.clone(), wal.clone());
        for number in [0, 1, 40] {
            log.make_page(number).expect("make");
        }
        let far = Xid::new(40 * XIDS_PER_PAGE + 7);
        for (raw, committed) in [(3, true), (4, false), (5, true), (far.raw(), true)] {
            let xid = Xid::new(raw);
            let page = log.page_of(xid).expect("page");
            if committed {
                page.set_committed(xid, Lsn::new(8));
            } else {
                page.set_aborted(xid);
            }
        }
        log.flush().expect("flush");
        let first = std::fs::read(dir.path().join("pg_xact/0000")).expect("segment");
        assert_eq!(&first[..2], &[0b0100_0000, 0b0000_0110]);
        let second = std::fs::read(dir.path().join("pg_xact/0001")).expect("segment");
        assert_eq!(second[8 * PAGE_SIZE + 1], 0b0100_0000);

        let again = CommitLog::new(disk, wal);
        let status = |raw| again.status(Xid::new(raw)).expect("status");
        assert_eq!(status(3), Status::Committed);
        assert_eq!(status(4), Status::Aborted);
        assert_eq!(status(6), Status::InProgress);
        assert_eq!(status(far.raw()), Status::Committed);
        assert_eq!(status(99 * XIDS_PER_PAGE), Status::InProgress);
    }

    #[test]
    fn outcomes_from_an_xid_on_are_trimmed_and_none_below() {
        let disk: DiskRef = Arc::new(crate::io::sim::SimDisk::new());
        let wal = Wal::new(disk.clone(), WalConfig::new(SystemId::new(1)));
        let log = CommitLog::new(disk.clone(), wal.clone());
        let xids = [3, 8, 9, 10, 11, 12, 500, XIDS_PER_PAGE + 1].map(Xid::new);
        for next in [9, 10, 12, XIDS_PER_PAGE] {
            log.make_page(0).expect("made");
            log.make_page(1).expect("made");
            for xid in xids {
                log.page_of(xid).expect("page").set_aborted(xid);
            }
            log.flush().expect("flushed");
            let again = CommitLog::new(disk.clone(), wal.clone());
            again.trim(Xid::new(next)).expect("trimmed");
            for xid in xids {
                let aborted = again.status(xid).expect("read") == Status::Aborted;
                assert_eq!(aborted, xid.raw() < next, "{xid} trimmed from {next}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "two outcomes")]
    fn a_transaction_has_one_outcome() {
        let page = LogPage::new(0, &[0; PAGE_SIZE]);
        page.set_aborted(Xid::new(9));
        page.set_committed(Xid::new(9), Lsn::new(8));
    }

    #[test]
    fn replay_gives_no_transaction_another_outcome() {
        let page = LogPage::new(0, &[0; PAGE_SIZE]);
        page.set_aborted(Xid::new(9));
        page.set(Xid::new(10), 0b11);
        for (raw, committed, accepted) in [
            (8, true, true),
            (8, false, true),
            (9, false, true),
            (9, true, false),
            (10, true, false),
            (10, false, false),
        ] {
            let answer = page.accepts(Xid::new(raw), committed);
            assert_eq!(answer.is_ok(), accepted, "{raw} {committed}: {answer:?}");
            if let Err(error) = answer {
                assert!(error.to_string().contains("pg_xact/0000"), "{error}");
            }
        }
    }

    #[test]
    fn zeroes_in_place_of_the_first_outcomes_are_damage() {
        let disk: DiskRef = Arc::new(crate::io::sim::SimDisk::new());
        let wal = Wal::new(disk.clone(), WalConfig::new(SystemId::new(1)));
        let log = CommitLog::new(disk, wal);
        log.make_page(0).expect("made");
        assert!(log.check_files(Xid::FIRST_NORMAL).is_ok());
        let (path, error) = log.check_files(Xid::new(9)).expect_err("zeroes");
        assert_eq!(path, CommitLog::path(0));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let first = log.page_of(Xid::FIRST_NORMAL).expect("page");
        first.set_committed(Xid::FIRST_NORMAL, Lsn::INVALID);
        log.flush().expect("flushed");
        assert!(log.check_files(Xid::new(9)).is_ok());
    }

    #[test]
    fn held_pages_stay_when_the_cache_overflows() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk: DiskRef = Arc::new(RealDisk::new(dir.path()));
        let wal = Wal::new(disk.clone(), WalConfig::new(SystemId::new(1)));
        let log = CommitLog::new(disk, wal);
        let xid = Xid::new(5);
        let held = log.page_of(xid).expect("page");
        for number in 1..(KEEP as u64 * 3) {
            log.page(number).expect("page");
        }
        assert!(log.resident.lock().len() <= KEEP + 1);
        held.set_committed(xid, Lsn::new(8));
        assert_eq!(log.status(xid).expect("status"), Status::Committed);
    }
}
