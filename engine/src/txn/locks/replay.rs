//! Locks and snapshots that replay on a standby has to get past.
//!
//! Replay is one thread, not a task: it polls, because conflicts are rare and last long. Past the deadline
//! (`max_standby_streaming_delay`) whoever stands in the way is told to give up, again and again until he does. Whoever
//! stands in the way and waits himself for a lock that replay holds would stand there for ever, however long the
//! deadline: one who holds a lock finds that out himself ([`deadlock`]), one who holds a snapshot is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, Xid};
use crate::txn::interrupt::{Conflict, Interrupt, Interrupts};
use crate::txn::locks::acquire::Shown;
use crate::txn::locks::table::Acquired;
use crate::txn::locks::{LockError, LockMode, LockTag, deadlock};
use crate::txn::manager::{Shared, TxnManager};
use crate::txn::participant::{OldestSnapshot, Participant, WaitFor};
use crate::txn::redo::HeldLock;
use crate::wal::xlog_records::now_us;

const POLL: Duration = Duration::from_millis(2);
/// How often somebody in the way is told.
const NUDGE: Duration = Duration::from_millis(50);

/// How often replay, while it waits for snapshots, looks who of their holders waits for replay.
const LOOK: Duration = Duration::from_secs(1);

/// How replay stopped waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Resolved,
    /// `stop` said so: the server is shutting down.
    Stopped,
}

impl TxnManager {
    /// Takes the locks of a replayed record, but for those that it holds already: a checkpoint lists them again. They
    /// are held until the transactions' ends are replayed, and of those that commit until queries see them. What is
    /// replayed has been published: who is in the way may wait for it. `startup` is the identity of the replaying thread. `deadline`: `None` waits for ever.
    pub fn replay_locks(
        &self,
        startup: &Arc<Interrupts>,
        locks: &[(Xid, LockTag)],
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Patience {
        let owner = self.participant_of(startup);
        for (xid, tag) in locks {
            if self.shared().replay.holds(*xid, *tag) {
                continue;
            }
            if self.take_for_replay(&owner, *tag, deadline, stop) == Patience::Stopped {
                return Patience::Stopped;
            }
            let mut held = self.shared().replay.locks.lock();
            held.entry(*xid).or_default().push((owner.clone(), *tag));
        }
        Patience::Resolved
    }

    fn take_for_replay(
        &self,
        owner: &Arc<Participant>,
        tag: LockTag,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Patience {
        let shared = self.shared();
        let mode = LockMode::AccessExclusive;
        let locks = &shared.locks;
        locks
            .strong
            .strengthen(tag, mode, &shared.participants, &locks.table);
        let waiter = loop {
            match locks.table.acquire(tag, mode, owner, true) {
                Ok(Acquired::Granted) => return Patience::Resolved,
                Ok(Acquired::Waiting(waiter)) => break waiter,
                // Sessions fill the table; some of them will end. Replay can't go on without the lock.
                Err(LockError::TableFull) if !stop() => std::thread::sleep(POLL),
                Err(_) => {
                    locks.strong.weaken(tag, mode);
                    return Patience::Stopped;
                }
            }
        };
        let wait = WaitFor {
            tag,
            mode,
            since: now_us(),
        };
        let shown = Shown::new(owner, wait);
        let patience = poll(deadline, stop, |nudge| {
            if nudge {
                for holder in deadlock::blockers(shared, owner, wait) {
                    raise(&holder, Conflict::Lock);
                }
            }
            waiter.is_granted()
        });
        drop(shown);
        if patience == Patience::Stopped {
            if locks.table.leave(tag, &waiter) {
                locks.table.release(tag, mode, owner);
            }
            locks.strong.weaken(tag, mode);
        }
        patience
    }

    /// Row versions are about to be removed whose end `newest_removed` committed: waits until no snapshot here
    /// needs them. That the primary removes them proves that every commit up to there is released, so new
    /// snapshots here may see them from now on, whatever was told. Everything below `applied` is applied: who is in the way
    /// may wait himself for a relation that a commit below it has locked.
    pub fn replay_cleanup(
        &self,
        newest_removed: Lsn,
        applied: Lsn,
        deadline: Option<Instant>,
        stop: &dyn Fn() -> bool,
    ) -> Patience {
        if !newest_removed.is_valid() {
            return Patience::Resolved;
        }
        let shared = self.shared();
        shared.replay.tell_at_least(newest_removed);
        self.replayed(newest_removed);
        let mut published = false;
        let replaying = shared.replay.holder();
        let mut look_at = Instant::now() + LOOK;
        poll(deadline, stop, |nudge| {
            let mut clear = true;
            let look = Instant::now() >= look_at;
            if look {
                look_at = Instant::now() + LOOK;
            }
            let waits_for_us = |p: &Arc<Participant>| {
                let us = replaying.as_ref().filter(|_| look);
                us.is_some_and(|us| deadlock::waits_for(shared, p, us))
            };
            shared.participants.each(|p| match p.oldest_snapshot() {
                OldestSnapshot::At(lsn) if lsn < newest_removed => {
                    clear = false;
                    if nudge || waits_for_us(p) {
                        raise(p, Conflict::Snapshot);
                    }
                }
                OldestSnapshot::Taking => clear = false,
                _ => {}
            });
            if !clear && !published {
                published = true;
                self.replayed(applied);
            }
            clear
        })
    }

    /// Ends the sessions of a database that replay is about to drop and waits until they are gone: no page of its
    /// files may be read any more. They are given no time, as in PostgreSQL. `is_in` says whose sessions are there.
    pub fn replay_drop_database(
        &self,
        is_in: &dyn Fn(&Interrupts) -> bool,
        stop: &dyn Fn() -> bool,
    ) -> Patience {
        poll(Some(Instant::now()), stop, |nudge| {
            let mut gone = true;
            self.shared().participants.each(|p| {
                if let Some(session) = p.interrupts.upgrade()
                    && is_in(&session)
                {
                    gone = false;
                    if nudge {
                        session.raise(Interrupt::RecoveryConflict(Conflict::Database));
                    }
                }
            });
            gone
        })
    }
}

fn raise(participant: &Participant, conflict: Conflict) {
    if let Some(session) = participant.interrupts.upgrade() {
        session.raise(Interrupt::RecoveryConflict(conflict));
    }
}

/// Asks `resolved` until it is; past the deadline with the word to nudge whoever is in the way.
fn poll(
    deadline: Option<Instant>,
    stop: &dyn Fn() -> bool,
    mut resolved: impl FnMut(bool) -> bool,
) -> Patience {
    let mut nudged: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let late = deadline.is_some_and(|d| now >= d);
        let nudge = late && nudged.is_none_or(|at| now - at >= NUDGE);
        if nudge {
            nudged = Some(now);
        }
        if resolved(nudge) {
            return Patience::Resolved;
        }
        if stop() {
            return Patience::Stopped;
        }
        std::thread::sleep(POLL);
    }
}

impl Shared {
    /// After an abort: nothing of it is ever seen.
    pub(crate) fn release_replay_locks(&self, xid: Xid, subs: &[Xid]) {
        let gone = self.replay_locks_of(xid, subs);
        self.give_back(gone);
    }

    /// After a commit whose record ends at `end`: until queries see it. The next replayed transaction that wants one of
    /// them has it at once, because all of them have one owner. How many they become is the primary's affair (a log that
    /// comes from an archive tells nothing), so they do not count: replay would stand still where they fill the table.
    pub(crate) fn keep_replay_locks(&self, xid: Xid, subs: &[Xid], end: Lsn) {
        let locks = self.replay_locks_of(xid, subs);
        if !locks.is_empty() {
            self.locks.table.stop_counting(locks.len());
            self.replay.kept_locks.lock().push((end, locks));
        }
    }

    /// Queries see everything up to `visible`.
    pub(crate) fn release_kept_locks(&self, visible: Lsn) {
        let gone: Vec<_> = {
            let mut kept = self.replay.kept_locks.lock();
            let end = kept.partition_point(|(end, _)| *end <= visible);
            kept.drain(..end).collect()
        };
        self.give_back_kept(gone);
    }

    fn give_back_kept(&self, kept: Vec<(Lsn, Vec<HeldLock>)>) {
        let count: usize = kept.iter().map(|(_, locks)| locks.len()).sum();
        self.locks.table.count_again(count);
        self.give_back(kept.into_iter().flat_map(|(_, locks)| locks));
    }

    /// Of transactions whose end is not in the log, and never will be.
    pub(crate) fn release_unfinished_replay_locks(&self) {
        let gone = std::mem::take(&mut *self.replay.locks.lock());
        self.give_back(gone.into_values().flatten());
    }

    /// Of transactions that have ended by what is known of them otherwise.
    pub(crate) fn release_replay_locks_below(&self, oldest: Xid) {
        let gone: Vec<HeldLock> = {
            let mut held = self.replay.locks.lock();
            let ended: Vec<Xid> = held.keys().copied().filter(|xid| *xid < oldest).collect();
            let locks = ended.iter().filter_map(|xid| held.remove(xid));
            locks.flatten().collect()
        };
        self.give_back(gone);
    }

    pub(crate) fn release_all_replay_locks(&self) {
        self.release_unfinished_replay_locks();
        let kept = std::mem::take(&mut *self.replay.kept_locks.lock());
        self.give_back_kept(kept);
    }

    fn replay_locks_of(&self, xid: Xid, subs: &[Xid]) -> Vec<HeldLock> {
        let mut held = self.replay.locks.lock();
        if held.is_empty() {
            return Vec::new();
        }
        let xids = subs.iter().chain([&xid]);
        xids.flat_map(|xid| held.remove(xid).unwrap_or_default())
            .collect()
    }

    fn give_back(&self, locks: impl IntoIterator<Item = HeldLock>) {
        for (owner, tag) in locks {
            self.locks
                .table
                .release(tag, LockMode::AccessExclusive, &owner);
            self.locks.strong.weaken(tag, LockMode::AccessExclusive);
        }
    }
}
