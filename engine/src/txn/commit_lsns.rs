//! From xid to the end LSN of its commit record, for the transactions that snapshots may judge differently.
//!
//! Volatile: empty after a start. A direct index: a directory of chunks of 4096 entries, read without locks.
//! An entry is one word:
//!
//! ```text
//! 0                    no outcome yet (running, or not handed out)
//! lsn       | 0b000    committed; LSNs are multiples of 8
//! top << 3  | 0b001    a subtransaction: ask for the top level's entry
//! 0         | 0b010    aborted
//! ```
//!
//! Invariants: the chunk of an xid exists before the xid is handed out (or before replay sets it); a chunk goes
//! only when all its transactions have ended and their commits are at or below the horizon, so *no chunk* means
//! that the commit log alone is right; an entry is set before the commit log's bits, so who finds bits without
//! an entry looks at the entry again ([`CommitLsns::state`] says when).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::ids::{Lsn, Xid};

const CHUNK: u64 = 4096;
const TAG: u64 = 0b111;
const SUB: u64 = 0b001;
const ABORTED: u64 = 0b010;

/// What is known here of an xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its chunk is gone or was never there: the commit log decides.
    Old,
    /// In a chunk that reaches below the start: the commit log decides, but if that says committed, ask again.
    Unsure,
    Running,
    Committed(Lsn),
    Aborted,
}

struct Chunk(Box<[AtomicU64]>);

impl Chunk {
    fn new() -> Chunk {
        Chunk((0..CHUNK).map(|_| AtomicU64::new(0)).collect())
    }
}

/// Chunks of consecutive numbers; `None` is one that was dropped.
#[derive(Clone, Default)]
struct Directory {
    first: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Directory {
    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }
}

pub(crate) struct CommitLsns {
    directory: ArcSwap<Directory>,
    /// Taken by whoever replaces the directory.
    change: Mutex<()>,
    /// Entries below this may be empty though the commit log knows an outcome.
    unsure_below: AtomicU64,
    /// What has no outcome below this never gets one: its server is gone.
    dead_below: AtomicU64,
    /// Every xid below this has ended: where the search for the oldest running one goes on.
    ended_below: AtomicU64,
}

impl CommitLsns {
    pub(crate) fn new() -> CommitLsns {
        CommitLsns {
            directory: ArcSwap::from_pointee(Directory::default()),
            change: Mutex::new(()),
            unsure_below: AtomicU64::new(0),
            dead_below: AtomicU64::new(0),
            ended_below: AtomicU64::new(Xid::FIRST_NORMAL.raw()),
        }
    }

    /// Replay begins: xids from `oldest_running` up may still end, those below `next` may have ended before.
    pub(crate) fn start(&self, oldest_running: Xid, next: Xid) {
        let _change = self.change.lock();
        self.directory.store(Arc::new(Directory {
            first: oldest_running.raw() / CHUNK,
            chunks: Vec::new(),
        }));
        self.unsure_below.store(next.raw(), Ordering::SeqCst);
        self.ended_below
            .store(oldest_running.raw(), Ordering::SeqCst);
    }

    /// Makes room for `xid`; true if a chunk was added, which is the moment to look for chunks to drop.
    pub(crate) fn ensure(&self, xid: Xid) -> bool {
        let number = xid.raw() / CHUNK;
        if number < self.directory.load().end() {
            return false;
        }
        let _change = self.change.lock();
        let old = self.directory.load();
        if number < old.end() {
            return false;
        }
        let mut new = Directory::clone(&old);
        if new.chunks.is_empty() && number > new.first {
            // Nothing was ever put in: begin where the xids are.
            let unsure = self.unsure_below.load(Ordering::SeqCst);
            if unsure <= new.first * CHUNK {
                new.first = number;
            }
        }
        while new.end() <= number {
            new.chunks.push(Some(Arc::new(Chunk::new())));
        }
        self.directory.store(Arc::new(new));
        true
    }

    fn entry(&self, xid: Xid) -> Found {
        let directory = self.directory.load();
        let number = xid.raw() / CHUNK;
        if number < directory.first {
            return Found::Dropped;
        }
        match directory.chunks.get((number - directory.first) as usize) {
            None => Found::Beyond,
            Some(None) => Found::Dropped,
            Some(Some(chunk)) => {
                Found::Entry(chunk.0[(xid.raw() % CHUNK) as usize].load(Ordering::Acquire))
            }
        }
    }

    fn set(&self, xid: Xid, value: u64) {
        let directory = self.directory.load();
        let number = xid.raw() / CHUNK;
        // An xid that replay aborts may be older than anything kept here; the commit log has it.
        if number < directory.first {
            return;
        }
        let slot = (number - directory.first) as usize;
        if let Some(chunk) = directory.chunks.get(slot).and_then(Option::as_ref) {
            chunk.0[(xid.raw() % CHUNK) as usize].store(value, Ordering::Release);
        }
    }

    pub(crate) fn set_committed(&self, xid: Xid, end: Lsn) {
        assert!(
            end.is_valid() && end.raw() & TAG == 0,
            "commit records end aligned: {end}"
        );
        self.set(xid, end.raw());
    }

    pub(crate) fn set_sub(&self, xid: Xid, top: Xid) {
        self.set(xid, (top.raw() << 3) | SUB);
    }

    pub(crate) fn set_aborted(&self, xid: Xid) {
        self.set(xid, ABORTED);
    }

    pub(crate) fn state(&self, xid: Xid) -> State {
        match self.entry(xid) {
            Found::Dropped => State::Old,
            Found::Beyond => self.without_outcome(xid),
            Found::Entry(0) => self.without_outcome(xid),
            Found::Entry(word) => match word & TAG {
                0 => State::Committed(Lsn::new(word)),
                SUB => self.state(Xid::new(word >> 3)),
                _ => State::Aborted,
            },
        }
    }

    fn without_outcome(&self, xid: Xid) -> State {
        if xid.raw() < self.unsure_below.load(Ordering::Acquire) {
            State::Unsure
        } else if xid.raw() < self.dead_below.load(Ordering::Acquire) {
            State::Aborted
        } else {
            State::Running
        }
    }

    /// Transactions below `next` that have no outcome never get one (end of recovery, primary restarted).
    pub(crate) fn bury_below(&self, next: Xid) {
        self.dead_below.fetch_max(next.raw(), Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self, xid: Xid) -> bool {
        xid.raw() < self.dead_below.load(Ordering::Acquire)
    }

    /// The oldest xid below `next` that has not ended, or `next`. Never too high; its cost is spread: each xid
    /// is looked at once.
    pub(crate) fn oldest_running(&self, next: Xid) -> Xid {
        let mut xid = Xid::new(self.ended_below.load(Ordering::Acquire));
        while xid < next {
            let running = matches!(self.state(xid), State::Running | State::Unsure);
            if running && !self.is_dead(xid) {
                break;
            }
            xid = xid.next();
        }
        self.ended_below.fetch_max(xid.raw(), Ordering::AcqRel);
        xid
    }

    /// Drops the chunks of which every snapshot has the same opinion. The chunk of `next` and later ones stay.
    pub(crate) fn forget(&self, horizon: Lsn, next: Xid) {
        let _change = self.change.lock();
        let old = self.directory.load();
        let keep_from = next.raw() / CHUNK;
        let droppable = |number: u64, chunk: &Chunk| {
            number < keep_from
                && (0..CHUNK).all(|i| self.agreed(Xid::new(number * CHUNK + i), chunk, horizon))
        };
        let mut new = Directory::clone(&old);
        let mut dropped = false;
        for (number, slot) in (new.first..).zip(new.chunks.iter_mut()) {
            if slot.as_ref().is_some_and(|c| droppable(number, c)) {
                *slot = None;
                dropped = true;
            }
        }
        if dropped {
            let gone = new.chunks.iter().take_while(|c| c.is_none()).count();
            new.chunks.drain(..gone);
            new.first += gone as u64;
            self.directory.store(Arc::new(new));
        }
    }

    fn agreed(&self, xid: Xid, chunk: &Chunk, horizon: Lsn) -> bool {
        if xid.low() < Xid::FIRST_NORMAL.low() {
            return true; // never handed out
        }
        let word = chunk.0[(xid.raw() % CHUNK) as usize].load(Ordering::Acquire);
        let state = match word & TAG {
            _ if word == 0 => self.without_outcome(xid),
            SUB => self.state(Xid::new(word >> 3)),
            ABORTED => State::Aborted,
            _ => State::Committed(Lsn::new(word)),
        };
        match state {
            State::Committed(lsn) => lsn <= horizon,
            State::Aborted | State::Old => true,
            // Ended before the start, or dead since.
            State::Unsure => self.is_dead(xid),
            State::Running => false,
        }
    }

    /// Every xid below this has an outcome on which all snapshots agree.
    pub(crate) fn agreed_below(&self) -> Xid {
        let directory = self.directory.load();
        Xid::new((directory.first * CHUNK).max(Xid::FIRST_NORMAL.raw()))
    }
}

enum Found {
    Dropped,
    Beyond,
    Entry(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_everyone_agrees() {
        let lsns = CommitLsns::new();
        lsns.start(Xid::new(3), Xid::new(3));
        let last = Xid::new(3 * CHUNK);
        lsns.ensure(last);
        for raw in 3..last.raw() {
            let xid = Xid::new(raw);
            assert_eq!(lsns.state(xid), State::Running);
            match raw % 4 {
                0 => lsns.set_aborted(xid),
                1 => lsns.set_sub(xid, Xid::new(raw - 2)),
                _ => lsns.set_committed(xid, Lsn::new(raw * 8)),
            }
        }
        assert_eq!(lsns.state(Xid::new(8)), State::Aborted);
        assert_eq!(lsns.state(Xid::new(9)), State::Committed(Lsn::new(56)));
        assert_eq!(lsns.oldest_running(last), last);
        lsns.forget(Lsn::new(CHUNK * 8 - 8), last);
        assert_eq!(lsns.state(Xid::new(9)), State::Old);
        assert_eq!(lsns.agreed_below(), Xid::new(CHUNK));
        assert_eq!(
            lsns.state(Xid::new(CHUNK + 2)),
            State::Committed(Lsn::new((CHUNK + 2) * 8))
        );
    }

    #[test]
    fn a_running_transaction_keeps_only_its_own_chunk() {
        let lsns = CommitLsns::new();
        lsns.start(Xid::new(3), Xid::new(3));
        let next = Xid::new(4 * CHUNK);
        lsns.ensure(next);
        for raw in 4..next.raw() {
            lsns.set_committed(Xid::new(raw), Lsn::new(raw * 8));
        }
        assert_eq!(lsns.oldest_running(next), Xid::new(3));
        lsns.forget(Lsn::MAX, next);
        assert_eq!(lsns.state(Xid::new(3)), State::Running);
        assert_eq!(lsns.state(Xid::new(CHUNK)), State::Old);
        assert_eq!(lsns.agreed_below(), Xid::FIRST_NORMAL);
        lsns.bury_below(next);
        assert_eq!(lsns.state(Xid::new(3)), State::Aborted);
        lsns.forget(Lsn::MAX, next);
        assert_eq!(lsns.agreed_below(), next);
    }

    #[test]
    fn outcomes_from_before_the_start_are_the_commit_logs() {
        let lsns = CommitLsns::new();
        lsns.start(Xid::new(5000), Xid::new(6000));
        lsns.ensure(Xid::new(6000));
        assert_eq!(lsns.state(Xid::new(100)), State::Old);
        assert_eq!(lsns.state(Xid::new(5500)), State::Unsure);
        assert_eq!(lsns.state(Xid::new(6000)), State::Running);
        lsns.set_committed(Xid::new(5500), Lsn::new(800));
        assert_eq!(lsns.state(Xid::new(5500)), State::Committed(Lsn::new(800)));
        assert_eq!(lsns.oldest_running(Xid::new(6000)), Xid::new(5000));
    }
}
