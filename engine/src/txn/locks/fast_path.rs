//! Weak relation locks without the table: every statement takes some, and they never conflict with one another.
//!
//! A session keeps its weak locks in a list of its own, under a mutex that nobody else wants, unless the relation
//! (by a hash) has strong lockers. A strong locker first raises the relation's count, then moves everybody's fast
//! locks on it into the table, then asks there. So either the weak locker sees the count or the strong one finds
//! the entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::txn::locks::table::LockTable;
use crate::txn::locks::{LockMode, LockTag};
use crate::txn::participant::{Participant, Participants};

/// Most relations on a session's list; what is beyond goes to the table.
const LIMIT: usize = 64;
const COUNTERS: usize = 1024;

/// A session's weak locks: tag and modes as bits.
#[derive(Debug, Default)]
pub(crate) struct FastLocks(Vec<(LockTag, u16)>);

impl FastLocks {
    pub(crate) fn each(&self, mut visit: impl FnMut(LockTag, LockMode)) {
        for (tag, modes) in &self.0 {
            for mode in LockMode::ALL {
                if modes & mode.bit() != 0 {
                    visit(*tag, mode);
                }
            }
        }
    }
}

/// How many strong locks are held or asked for, by a hash of the relation.
pub(crate) struct StrongCounts(Box<[AtomicU32]>);

impl StrongCounts {
    pub(crate) fn new() -> StrongCounts {
        StrongCounts((0..COUNTERS).map(|_| AtomicU32::new(0)).collect())
    }

    fn of(&self, tag: &LockTag) -> Option<&AtomicU32> {
        let LockTag::Relation { database, relation } = tag else {
            return None;
        };
        let mixed = relation.raw().wrapping_mul(0x9E37_79B1) ^ database.raw();
        Some(&self.0[mixed as usize % COUNTERS])
    }

    /// Takes a weak lock on the session's own list; false: ask the table.
    pub(crate) fn try_fast(&self, tag: LockTag, mode: LockMode, owner: &Participant) -> bool {
        if !mode.is_weak() {
            return false;
        }
        let Some(strong) = self.of(&tag) else {
            return false;
        };
        let mut list = owner.fast.lock();
        if strong.load(Ordering::SeqCst) != 0 {
            return false;
        }
        match list.0.iter().position(|(t, _)| *t == tag) {
            Some(i) => list.0[i].1 |= mode.bit(),
            None if list.0.len() < LIMIT => list.0.push((tag, mode.bit())),
            None => return false,
        }
        true
    }

    /// Gives a fast lock back; false: it is in the table.
    pub(crate) fn release_fast(tag: LockTag, mode: LockMode, owner: &Participant) -> bool {
        if !mode.is_weak() {
            return false;
        }
        let mut list = owner.fast.lock();
        let held = |(t, modes): &(LockTag, u16)| *t == tag && modes & mode.bit() != 0;
        let Some(i) = list.0.iter().position(held) else {
            return false;
        };
        list.0[i].1 &= !mode.bit();
        if list.0[i].1 == 0 {
            list.0.swap_remove(i);
        }
        true
    }

    /// A mode that conflicts with a weak one is going to be asked for: no new fast locks from here on, and those
    /// that are there go to the table. Undone by [`Self::weaken`].
    pub(crate) fn strengthen(
        &self,
        tag: LockTag,
        mode: LockMode,
        all: &Participants,
        table: &LockTable,
    ) {
        let Some(strong) = self.of(&tag).filter(|_| is_strong(mode)) else {
            return;
        };
        strong.fetch_add(1, Ordering::SeqCst);
        all.each(|participant: &Arc<Participant>| {
            let mut list = participant.fast.lock();
            let Some(i) = list.0.iter().position(|(t, _)| *t == tag) else {
                return;
            };
            let (_, modes) = list.0.swap_remove(i);
            // Under the session's mutex: it must not look for the lock in the table before it is there.
            for mode in LockMode::ALL {
                if modes & mode.bit() != 0 {
                    table.transfer(tag, mode, participant);
                }
            }
        });
    }

    pub(crate) fn weaken(&self, tag: LockTag, mode: LockMode) {
        if let Some(strong) = self.of(&tag).filter(|_| is_strong(mode)) {
            strong.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Whether it conflicts with a weak mode.
fn is_strong(mode: LockMode) -> bool {
    mode > LockMode::ShareUpdateExclusive
}
