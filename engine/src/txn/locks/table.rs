//! Who holds which lock and who waits for it, in order.
//!
//! A request is granted if it conflicts with no other holder and with nobody who waits before it. A requester that
//! already holds a lock which a waiter needs goes before that waiter, as in PostgreSQL: behind it both would wait
//! for each other. If that waiter also holds what the requester needs, there is no order: the requester is the victim
//! of a deadlock at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::txn::locks::deadlock::Pass;
use crate::txn::locks::{LockError, LockMode, LockTag};
use crate::txn::participant::Participant;

const SHARDS: usize = 64;

struct Grant {
    owner: Arc<Participant>,
    mode: LockMode,
    count: u32,
}

/// A request in the queue.
pub(crate) struct Waiter {
    pub(crate) owner: Arc<Participant>,
    mode: LockMode,
    granted: AtomicBool,
    pub(crate) notify: Notify,
}

impl Waiter {
    pub(crate) fn is_granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }
}

/// Sessions with the modes in which they hold a lock or wait for it.
pub(crate) type Standing = Vec<(Arc<Participant>, LockMode)>;

#[derive(Default)]
struct Entry {
    grants: SmallVec<[Grant; 2]>,
    waiters: Vec<Arc<Waiter>>,
}

pub(crate) enum Acquired {
    Granted,
    Waiting(Arc<Waiter>),
}

/// One lock of `pg_locks`.
pub(crate) struct Listed {
    pub(crate) tag: LockTag,
    pub(crate) mode: LockMode,
    pub(crate) owner: Arc<Participant>,
    pub(crate) granted: bool,
}

impl Entry {
    /// The modes that `owner` holds, and those that others hold.
    fn held(&self, owner: &Participant) -> (u16, u16) {
        let (mut mine, mut others) = (0, 0);
        for grant in &self.grants {
            if is(&grant.owner, owner) {
                mine |= grant.mode.bit();
            } else {
                others |= grant.mode.bit();
            }
        }
        (mine, others)
    }

    /// Where a request would stand in the queue; `None` if it can be granted.
    fn place(&self, owner: &Participant, mode: LockMode) -> Option<usize> {
        let (mine, others) = self.held(owner);
        let needs_mine = |w: &Arc<Waiter>| mine & w.mode.conflicts() != 0;
        let place = self
            .waiters
            .iter()
            .position(needs_mine)
            .unwrap_or(self.waiters.len());
        let ahead = modes(&self.waiters[..place]);
        (mode.conflicts() & (others | ahead) != 0).then_some(place)
    }

    /// Somebody waits for what `owner` holds, and holds what `owner` is about to wait for: neither would ever go on.
    fn waits_for_each_other(&self, owner: &Participant, mode: LockMode) -> Option<&Arc<Waiter>> {
        let (mine, _) = self.held(owner);
        let first = self
            .waiters
            .iter()
            .find(|w| mine & w.mode.conflicts() != 0)?;
        let (theirs, _) = self.held(&first.owner);
        (mode.conflicts() & theirs != 0).then_some(first)
    }

    fn grant(&mut self, owner: &Arc<Participant>, mode: LockMode) {
        let same = |g: &&mut Grant| g.mode == mode && is(&g.owner, owner);
        match self.grants.iter_mut().find(same) {
            Some(grant) => grant.count += 1,
            None => self.grants.push(Grant {
                owner: owner.clone(),
                mode,
                count: 1,
            }),
        }
    }

    /// Grants what has become possible, in order; a waiter that stays bars those behind it that conflict with it.
    fn wake(&mut self) {
        let mut ahead = 0;
        let mut i = 0;
        while let Some(waiter) = self.waiters.get(i).cloned() {
            let (_, others) = self.held(&waiter.owner);
            if waiter.mode.conflicts() & (others | ahead) == 0 {
                self.waiters.remove(i);
                self.grant(&waiter.owner, waiter.mode);
                waiter.granted.store(true, Ordering::Release);
                waiter.notify.notify_one();
            } else {
                ahead |= waiter.mode.bit();
                i += 1;
            }
        }
    }
}

fn is(a: &Arc<Participant>, b: &Participant) -> bool {
    std::ptr::eq(Arc::as_ptr(a), b)
}

fn modes(waiters: &[Arc<Waiter>]) -> u16 {
    waiters.iter().fold(0, |m, w| m | w.mode.bit())
}

type Shard = HashMap<LockTag, Entry>;

pub(crate) struct LockTable {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Locks held and waited for.
    count: AtomicUsize,
    max: usize,
}

impl LockTable {
    pub(crate) fn new(max: usize) -> LockTable {
        LockTable {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            max,
        }
    }

    fn shard(&self, tag: &LockTag) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(tag) as usize % SHARDS]
    }

    /// Grants, or queues the request if it may wait.
    pub(crate) fn acquire(
        &self,
        tag: LockTag,
        mode: LockMode,
        owner: &Arc<Participant>,
        may_wait: bool,
    ) -> Result<Acquired, LockError> {
        let mut shard = self.shard(&tag).lock();
        let full = self.count.load(Ordering::Relaxed) >= self.max;
        let place = shard.get(&tag).and_then(|e| e.place(owner, mode));
        if full {
            return Err(LockError::TableFull);
        }
        let Some(place) = place else {
            shard.entry(tag).or_default().grant(owner, mode);
            self.count.fetch_add(1, Ordering::Relaxed);
            return Ok(Acquired::Granted);
        };
        if !may_wait {
            return Err(LockError::NotAvailable(tag));
        }
        let ring = shard
            .get(&tag)
            .and_then(|e| e.waits_for_each_other(owner, mode));
        if let Some(other) = ring {
            let (me, other, theirs) = (owner.pid, other.owner.pid, other.mode);
            return Err(LockError::Deadlock {
                detail: format!(
                    "Process {me} waits for {mode} on {tag}; blocked by process {other}.\n\
                     Process {other} waits for {theirs} on {tag}; blocked by process {me}."
                ),
                processes: vec![me, other],
            });
        }
        let waiter = Arc::new(Waiter {
            owner: owner.clone(),
            mode,
            granted: AtomicBool::new(false),
            notify: Notify::new(),
        });
        let entry = shard.entry(tag).or_default();
        entry.waiters.insert(place, waiter.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Acquired::Waiting(waiter))
    }

    /// Enters a lock that was granted on the fast path. Never refused: it is held already.
    pub(crate) fn transfer(&self, tag: LockTag, mode: LockMode, owner: &Arc<Participant>) {
        let mut shard = self.shard(&tag).lock();
        shard.entry(tag).or_default().grant(owner, mode);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one count of a lock back; false if it was not held.
    pub(crate) fn release(&self, tag: LockTag, mode: LockMode, owner: &Participant) -> bool {
        let dropped;
        {
            let mut shard = self.shard(&tag).lock();
            let Some(entry) = shard.get_mut(&tag) else {
                return false;
            };
            let held = |g: &Grant| g.mode == mode && is(&g.owner, owner);
            let Some(i) = entry.grants.iter().position(held) else {
                return false;
            };
            entry.grants[i].count -= 1;
            self.count.fetch_sub(1, Ordering::Relaxed);
            if entry.grants[i].count > 0 {
                return true;
            }
            // Dropped outside of the lock: it may be the last reference to the owner.
            dropped = entry.grants.swap_remove(i);
            entry.wake();
            if entry.grants.is_empty() && entry.waiters.is_empty() {
                shard.remove(&tag);
            }
        }
        drop(dropped);
        true
    }

    /// From here on so many of the locks that are held do not count towards the limit.
    pub(crate) fn stop_counting(&self, locks: usize) {
        self.count.fetch_sub(locks, Ordering::Relaxed);
    }

    /// Takes that back, before they are released.
    pub(crate) fn count_again(&self, locks: usize) {
        self.count.fetch_add(locks, Ordering::Relaxed);
    }

    /// Takes a request out of the queue; true if it had been granted meanwhile and is held now.
    pub(crate) fn leave(&self, tag: LockTag, waiter: &Arc<Waiter>) -> bool {
        let mut shard = self.shard(&tag).lock();
        if waiter.is_granted() {
            return true;
        }
        if let Some(entry) = shard.get_mut(&tag)
            && let Some(i) = entry.waiters.iter().position(|w| Arc::ptr_eq(w, waiter))
        {
            entry.waiters.remove(i);
            self.count.fetch_sub(1, Ordering::Relaxed);
            entry.wake();
            if entry.grants.is_empty() && entry.waiters.is_empty() {
                shard.remove(&tag);
            }
        }
        false
    }

    /// Who holds the lock, and who waits for it, in order.
    pub(crate) fn standing(&self, tag: LockTag) -> (Standing, Standing) {
        let shard = self.shard(&tag).lock();
        let Some(entry) = shard.get(&tag) else {
            return (Vec::new(), Vec::new());
        };
        let holders = entry.grants.iter().map(|g| (g.owner.clone(), g.mode));
        let waiters = entry.waiters.iter().map(|w| (w.owner.clone(), w.mode));
        (holders.collect(), waiters.collect())
    }

    /// Whether somebody waits for the lock.
    pub(crate) fn has_waiters(&self, tag: LockTag) -> bool {
        let shard = self.shard(&tag).lock();
        shard.get(&tag).is_some_and(|e| !e.waiters.is_empty())
    }

    /// Moves a waiter ahead of another, if both still wait, and grants what that makes possible.
    pub(crate) fn let_pass(&self, pass: &Pass) {
        let mut shard = self.shard(&pass.tag).lock();
        let Some(entry) = shard.get_mut(&pass.tag) else {
            return;
        };
        let place = |who: &Participant| entry.waiters.iter().position(|w| is(&w.owner, who));
        if let (Some(from), Some(to)) = (place(&pass.first), place(&pass.second))
            && from > to
        {
            let moved = entry.waiters.remove(from);
            entry.waiters.insert(to, moved);
        }
        entry.wake();
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        let mut rows = Vec::new();
        for shard in &self.shards {
            for (tag, entry) in &*shard.lock() {
                let held = entry.grants.iter().map(|g| (&g.owner, g.mode, true));
                let waits = entry.waiters.iter().map(|w| (&w.owner, w.mode, false));
                rows.extend(held.chain(waits).map(|(owner, mode, granted)| Listed {
                    tag: *tag,
                    mode,
                    owner: owner.clone(),
                    granted,
                }));
            }
        }
        rows
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
