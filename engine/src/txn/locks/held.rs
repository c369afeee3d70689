//! The locks of one transaction, in the order in which it took them.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::txn::locks::{LockManager, LockMode, LockTag};
use crate::txn::participant::Participant;

/// Beyond this many the list is searched through an index.
const SCANNED: usize = 24;

/// Each lock stands here once, however often it was asked for.
#[derive(Default)]
pub(crate) struct HeldLocks {
    list: SmallVec<[(LockTag, LockMode); 8]>,
    index: HashSet<(LockTag, LockMode)>,
}

impl HeldLocks {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether it holds the mode, or one that keeps out everyone whom the mode would.
    pub(crate) fn covers(&self, tag: LockTag, mode: LockMode) -> bool {
        let stronger = |held: LockMode| mode.conflicts() & !held.conflicts() == 0;
        if self.list.len() <= SCANNED {
            return self.list.iter().any(|(t, m)| *t == tag && stronger(*m));
        }
        LockMode::ALL
            .into_iter()
            .any(|held| stronger(held) && self.index.contains(&(tag, held)))
    }

    /// Whether this very lock stands in the list.
    pub(crate) fn holds(&self, tag: LockTag, mode: LockMode) -> bool {
        self.list.contains(&(tag, mode))
    }

    pub(crate) fn add(&mut self, tag: LockTag, mode: LockMode) {
        self.list.push((tag, mode));
        if self.list.len() == SCANNED + 1 {
            self.index.extend(self.list.iter().copied());
        } else if self.list.len() > SCANNED {
            self.index.insert((tag, mode));
        }
    }

    /// Takes a lock off the list before the end; false if it is not there.
    pub(crate) fn remove(&mut self, tag: LockTag, mode: LockMode) -> bool {
        let Some(i) = self.list.iter().rposition(|held| *held == (tag, mode)) else {
            return false;
        };
        self.list.remove(i);
        if !self.index.is_empty() {
            self.index.remove(&(tag, mode));
        }
        true
    }

    /// Gives back the locks taken since the list had `mark` entries.
    pub(crate) fn release_from(
        &mut self,
        mark: usize,
        locks: &LockManager,
        owner: &Arc<Participant>,
    ) {
        // A lock may have been given back early, so the list may be shorter than the mark.
        for (tag, mode) in self.list.drain(mark.min(self.list.len())..) {
            // Even an empty one hashes what it is asked for.
            if !self.index.is_empty() {
                self.index.remove(&(tag, mode));
            }
            locks.release_one(tag, mode, owner);
        }
    }
}
