//! The queue of commits that wait, and what snapshots see because of it.
//!
//! Invariants:
//! - Commits enter in LSN order: entering is part of the critical section that reserves the record's position.
//! - `published` is the highest released commit; its lowest bits (LSNs of commits are multiples of 8) say that commits at or
//!   below it still wait, because one that asked for less overtook them, and that it is behind a gate. Only then does a
//!   snapshot take the lock.
//! - After a recovery, until the required standbys have its end, snapshots show what was shown before it and no more,
//!   whenever their taker looked at the gate: it may be shut between his look and his snapshot.
//! - The highest released commit and [`Release::low`] never go back.
//! - What a commit waits for is judged by the policy of the moment, not of when it began to wait.
//! - Whether this primary was cut off or stood still (see [`isolation`](super::isolation)) is looked at before each change,
//!   and what it holds no change releases.
//!
//! On a standby nothing waits: `published` is what its queries see, min(replayed, last told).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{Notify, watch};

use crate::ids::{Lsn, Term};
use crate::txn::participant::Participant;
use crate::txn::release::CommitLevel;
use crate::txn::release::isolation::{ISOLATED, Isolation, NoSuchHold};
use crate::txn::release::policy::{
    InstanceId, Limits, Positions, ReleasePolicy, StandbyPosition, StandbyPositions, SyncState,
};
use crate::txn::release::standstill::Standstills;

const EXCLUDES: u64 = 1;
/// There is a [`Queue::confirmed`].
const UNCONFIRMED: u64 = 2;
/// The bits that no commit's LSN has.
const FLAGS: u64 = 0b111;

struct Waiting {
    lsn: Lsn,
    level: CommitLevel,
    who: Arc<Participant>,
}

struct Queue {
    waiting: VecDeque<Waiting>,
    highest: Lsn,
    /// The waiting commits at or below `highest`, if they were collected since the last change.
    excluded: Option<Arc<[Lsn]>>,
    positions: Positions,
    policy: ReleasePolicy,
    /// The newest in-sync set that was ever in effect here.
    newest_set: Option<(Term, u64)>,
    /// What the positions and the policy allow, and no hold forbids.
    limits: Limits,
    isolation: Isolation,
    /// What was acknowledged before the set in effect was taken up.
    before_policy: Lsn,
    /// What standbys may be told; never goes back.
    safe: Lsn,
    /// In recovery: what standbys of this standby are told instead, which is what it was told itself.
    passed_on: Option<(Lsn, bool)>,
    gate: Gate,
    /// Behind a gate: what was shown before the recovery that shut it, and snapshots show until it opens.
    confirmed: Option<Lsn>,
    /// Where that recovery began. Snapshots below it could not tell older commits apart.
    begun: Lsn,
    /// The policy changed: any commit may be free to go.
    look_at_all: bool,
}

/// What has to be true before the first snapshot after recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// The required standbys have flushed this: the end of recovery.
    Durable(Lsn),
    /// A standby's visible position has reached this.
    Visible(Lsn),
}

/// See the module's header.
pub struct Release {
    queue: Mutex<Queue>,
    published: AtomicU64,
    /// `LOCAL`, `ALONE`, `SYNCHRONOUS` or `CLOSED`, after the policy and the hold.
    mode: AtomicU8,
    open: AtomicBool,
    opened: Notify,
    announce: Mutex<()>,
    released: watch::Sender<Lsn>,
    safe: watch::Sender<(Lsn, bool)>,
    pub standstills: Standstills,
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Release")
            .field("released", &self.released_lsn())
            .finish_non_exhaustive()
    }
}

/// In the form of [`Release::safe_watch`].
fn passed_on(told: Option<Lsn>) -> (Lsn, bool) {
    told.map_or((Lsn::INVALID, false), |lsn| (lsn, true))
}

type Wake = SmallVec<[(Arc<Participant>, Lsn); 16]>;

/// How long a wait may be.
const LOCAL: u8 = 0;
/// As short, but a standstill may put in doubt what was decided.
const ALONE: u8 = 1;
const SYNCHRONOUS: u8 = 2;
const CLOSED: u8 = 3;

/// Those who wait when a hold begins.
type Held = SmallVec<[Arc<Participant>; 16]>;

impl Release {
    pub(crate) fn new() -> Release {
        Release {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                highest: Lsn::INVALID,
                excluded: None,
                positions: Positions::default(),
                policy: ReleasePolicy::Closed,
                newest_set: None,
                limits: Limits::default(),
                isolation: Isolation::new(),
                before_policy: Lsn::INVALID,
                safe: Lsn::INVALID,
                passed_on: None,
                gate: Gate::Visible(Lsn::MAX),
                confirmed: None,
                begun: Lsn::INVALID,
                look_at_all: false,
            }),
            published: AtomicU64::new(0),
            mode: AtomicU8::new(CLOSED),
            open: AtomicBool::new(false),
            opened: Notify::new(),
            announce: Mutex::new(()),
            released: watch::Sender::new(Lsn::INVALID),
            safe: watch::Sender::new((Lsn::INVALID, false)),
            standstills: Standstills::new(),
        }
    }

    /// Joins the queue. Runs inside the log's critical section. A commit that asks for nothing is released here.
    pub(crate) fn enqueue(&self, lsn: Lsn, level: CommitLevel, who: &Arc<Participant>) {
        let mut queue = self.queue.lock();
        debug_assert!(queue.waiting.back().is_none_or(|last| last.lsn < lsn));
        if lsn <= queue.limits.of(level) {
            queue.highest = queue.highest.max(lsn);
            who.released(lsn);
        } else {
            let who = who.clone();
            queue.waiting.push_back(Waiting { lsn, level, who });
        }
        self.publish(&mut queue);
    }

    /// The log is flushed up to here; called on the flush thread.
    pub fn advance_flush(&self, lsn: Lsn) {
        self.change(|queue| queue.positions.flush = queue.positions.flush.max(lsn));
    }

    /// The standbys' positions, all of them, whenever one moved, came or went.
    pub fn advance_standbys(&self, standbys: &dyn StandbyPositions) {
        self.change(|queue| queue.positions.update(standbys));
    }

    /// The same where a word of this member's stream, which has come just now, moved one of them.
    pub fn hear(&self, from: (InstanceId, Term), standbys: &dyn StandbyPositions) {
        self.change(|queue| {
            queue.isolation.hear(from, &queue.policy);
            queue.positions.update(standbys);
        });
    }

    /// A managed primary starts: what waits for others is held until its supervisor has asked the record.
    pub(crate) fn begin_held(&self) {
        self.change(|queue| queue.isolation.begin_held(&queue.policy, queue.limits));
    }

    /// The number of the hold that waits for the supervisor's word, if there is one and the streams that it takes are there.
    /// May find that this primary is cut off.
    pub fn held(&self) -> Option<u64> {
        let (waits, begun) = {
            let mut queue = self.queue.lock();
            let begun = self.look(&mut queue);
            (queue.isolation.waits(), begun)
        };
        self.tell_of_hold(begun);
        waits
    }

    /// To be called at least every [`TICK`](super::standstill::TICK) from the first time on, whatever happens: by that a
    /// managed primary knows, also one without a walsender, that it stood still.
    pub fn watch(&self) {
        self.standstills.look(Instant::now());
        let begun = {
            let mut queue = self.queue.lock();
            let begun = self.look(&mut queue);
            queue.isolation.watch();
            begun
        };
        self.tell_of_hold(begun);
    }

    /// The supervisor's word for a hold: the record says that this still is the primary. What was held goes on.
    pub fn confirm(&self, number: u64) -> Result<(), NoSuchHold> {
        let mut done = Ok(());
        self.change(|queue| {
            done = queue.isolation.confirm(number, &queue.policy);
            self.mode.store(queue.mode(), Ordering::SeqCst);
        });
        done
    }

    /// Refused (false) where an in-sync set is older than one that was in effect before: a primary moves on, never back, not
    /// even by way of having none.
    pub fn set_policy(&self, policy: ReleasePolicy) -> bool {
        let mut accepted = true;
        let mut look_again = Vec::new();
        self.change(|queue| {
            let version = |p: &ReleasePolicy| match p {
                ReleasePolicy::InSyncSet { term, counter, .. } => Some((*term, *counter)),
                _ => None,
            };
            let (old, new) = (version(&queue.policy), version(&policy));
            if new.is_some() && new < queue.newest_set {
                accepted = false;
                return;
            }
            if new.is_some() && old != new {
                queue.before_policy = queue.highest.max(queue.before_policy);
            }
            queue.newest_set = queue.newest_set.max(new);
            if queue.policy != policy {
                queue.policy = policy;
                queue.isolation.moves_to(&queue.policy);
            }
            self.mode.store(queue.mode(), Ordering::SeqCst);
            queue.look_at_all = true;
            look_again.extend(queue.waiting.iter().map(|w| w.who.clone()));
        });
        // A wait that was to be short may have become long, and may be interrupted from now on.
        for who in look_again {
            who.commit_done.notify_one();
        }
        accepted
    }

    pub fn policy(&self) -> ReleasePolicy {
        self.queue.lock().policy.clone()
    }

    /// Required members of the set in effect have flushed everything that was acknowledged before it.
    pub fn caught_up(&self) -> bool {
        let queue = self.queue.lock();
        queue.limits.durable() >= queue.before_policy
    }

    /// `sync_priority` and `sync_state` of each standby, for `pg_stat_replication`.
    pub fn sync_states(&self, standbys: &[StandbyPosition]) -> Vec<(u32, SyncState)> {
        let queue = self.queue.lock();
        let state = |s: &StandbyPosition| match &queue.policy {
            ReleasePolicy::InSyncSet {
                members, required, ..
            } if *required > 0 && s.instance.as_ref().is_some_and(|i| members.contains(i)) => {
                (1, SyncState::Quorum)
            }
            _ => (0, SyncState::Async),
        };
        match &queue.policy {
            ReleasePolicy::Names(names) => names.states(standbys),
            _ => standbys.iter().map(state).collect(),
        }
    }

    /// The standbys as last reported.
    pub fn standbys(&self) -> Vec<StandbyPosition> {
        self.queue.lock().positions.standbys().to_vec()
    }

    /// Commits that wait, and the oldest of them: for status and monitoring.
    pub fn waiting(&self) -> (usize, Option<Lsn>) {
        let queue = self.queue.lock();
        (queue.waiting.len(), queue.waiting.front().map(|w| w.lsn))
    }

    /// The highest released commit (on a standby: what queries see).
    pub fn released_lsn(&self) -> Lsn {
        Lsn::new(self.published.load(Ordering::SeqCst) & !FLAGS)
    }

    pub fn released_watch(&self) -> watch::Receiver<Lsn> {
        self.released.subscribe()
    }

    /// What standbys are told: every commit at or below it is released and is on the required standbys. The flag
    /// says whether standbys are synchronous at all. A commit that waits only for standbys to *apply* it does not
    /// hold this back: it is durable, and they have to show it for the wait to mean anything.
    pub fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)> {
        self.safe.subscribe()
    }

    /// Whether a record that is no commit is where the policy wants commits to be.
    pub fn is_safe(&self, lsn: Lsn) -> bool {
        self.queue.lock().limits.durable() >= lsn
    }

    /// A commit at this level may wait for longer than a local flush.
    pub(crate) fn waits_for_others(&self, level: CommitLevel) -> bool {
        match self.mode.load(Ordering::SeqCst) {
            LOCAL | ALONE => false,
            SYNCHRONOUS => level > CommitLevel::Local,
            _ => true,
        }
    }

    /// Before its client is told of a commit at this level, the session has to look whether the process stood still since.
    pub(crate) fn may_be_doubted(&self, level: CommitLevel) -> bool {
        match self.mode.load(Ordering::SeqCst) {
            LOCAL => false,
            ALONE | SYNCHRONOUS => level > CommitLevel::Local,
            _ => true,
        }
    }

    /// The snapshot of this moment: one load unless a commit was overtaken or the gate is shut.
    pub(crate) fn snapshot(&self) -> (Lsn, Option<Arc<[Lsn]>>) {
        let word = self.published.load(Ordering::SeqCst);
        if word & FLAGS == 0 {
            return (Lsn::new(word), None);
        }
        let mut queue = self.queue.lock();
        match queue.confirmed {
            Some(lsn) => (lsn, None),
            None => queue.newest(),
        }
    }

    /// The same with what a gate keeps from others: for catalog reads, and for whoever asked to see it.
    pub(crate) fn newest(&self) -> (Lsn, Option<Arc<[Lsn]>>) {
        let word = self.published.load(Ordering::SeqCst);
        if word & EXCLUDES == 0 {
            return (Lsn::new(word & !FLAGS), None);
        }
        self.queue.lock().newest()
    }

    /// Whether the commit with this LSN is released: for writers.
    pub(crate) fn is_released(&self, lsn: Lsn) -> bool {
        let word = self.published.load(Ordering::SeqCst);
        if lsn.raw() > word & !FLAGS {
            return false;
        }
        word & EXCLUDES == 0 || {
            let queue = self.queue.lock();
            queue.waiting.binary_search_by_key(&lsn, |w| w.lsn).is_err()
        }
    }

    /// Every snapshot taken from now on sees the commits at or below this.
    pub(crate) fn low(&self) -> Lsn {
        let queue = self.queue.lock();
        let shown = queue.confirmed.unwrap_or(queue.highest);
        match queue.waiting.front() {
            Some(first) => shown.min(Lsn::new(first.lsn.raw() - 1)),
            None => shown,
        }
    }

    /// On a standby: queries see everything up to `lsn`.
    pub(crate) fn show(&self, lsn: Lsn) {
        self.change(|queue| queue.highest = queue.highest.max(lsn));
    }

    /// Recovery begins: standbys of this standby are told what it was told itself (`None`: no standby is synchronous), not
    /// what its own settings would make of it. Goes out with the next change.
    pub(crate) fn begin_to_pass_on(&self, told: Option<Lsn>) {
        self.queue.lock().passed_on = Some(passed_on(told));
    }

    /// It was told this; a primary passes nothing on.
    pub(crate) fn pass_on(&self, told: Option<Lsn>) {
        if let Some(passed) = &mut self.queue.lock().passed_on {
            *passed = passed_on(told);
        }
    }

    /// A standby's (or recovery's) snapshots wait until queries see this position.
    pub(crate) fn gate_until_visible(&self, lsn: Lsn) {
        self.change(|queue| {
            queue.gate = Gate::Visible(lsn);
            queue.begun = lsn;
        });
    }

    /// On a standby: snapshots wait until queries see this position as well.
    pub(crate) fn gate_also_until_visible(&self, lsn: Lsn) {
        self.change(|queue| {
            queue.gate = match queue.gate {
                Gate::Open => Gate::Visible(lsn),
                Gate::Visible(before) => Gate::Visible(before.max(lsn)),
                durable @ Gate::Durable(_) => durable,
            };
        });
    }

    /// Recovery or standby ends here: everything up to `end` is what sessions will see, as soon as the
    /// required standbys have it.
    pub(crate) fn become_primary(&self, end: Lsn, flushed: Lsn) {
        self.change(|queue| {
            queue.confirmed = Some(queue.highest.max(queue.begun));
            queue.highest = queue.highest.max(end);
            queue.before_policy = queue.before_policy.max(end);
            queue.positions.flush = queue.positions.flush.max(flushed);
            if let Some((told, _)) = queue.passed_on.take() {
                // What it was told of behind its end is lost: other commits will be there, which wait.
                queue.safe = queue.safe.max(told.min(end));
            }
            queue.gate = Gate::Durable(end);
        });
    }

    pub(crate) fn open_anyway(&self) {
        self.change(|queue| queue.gate = Gate::Open);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) async fn wait_open(&self) {
        loop {
            let opened = self.opened.notified();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }

    /// Sends the watches what changed; never inside the log's critical section.
    pub(crate) fn announce(&self) {
        let _in_order = self.announce.lock();
        let (highest, safe, synchronous) = {
            let queue = self.queue.lock();
            let own = (queue.safe, queue.waits_for_others());
            let (safe, synchronous) = queue.passed_on.unwrap_or(own);
            (queue.highest, safe, synchronous)
        };
        self.released.send_if_modified(|value| {
            let changed = *value != highest;
            *value = highest;
            changed
        });
        self.safe.send_if_modified(|value| {
            let changed = *value != (safe, synchronous);
            *value = (safe, synchronous);
            changed
        });
    }

    /// Applies a change of positions or policy, releases what may be released, wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut wake = Wake::new();
        let begun = {
            let mut guard = self.queue.lock();
            let queue = &mut *guard;
            // First: who stood still before this believes nothing that he finds behind it.
            let begun = self.look(queue);
            change(queue);
            let limits = queue.positions.limits(&queue.policy);
            queue.limits = queue.isolation.bound(limits);
            queue.settle(&mut wake);
            // Under the queue's lock, so that a gate that is shut at this moment is not opened by who saw it open.
            let open = queue.gate_is_met();
            self.publish(queue);
            if self.open.swap(open, Ordering::SeqCst) != open && open {
                self.opened.notify_waiters();
            }
            begun
        };
        // After publishing: whoever wakes takes its next snapshot with its own commit in it.
        for (who, lsn) in wake {
            who.released(lsn);
            who.commit_done.notify_one();
        }
        self.announce();
        self.tell_of_hold(begun);
    }

    /// Before anything that has come is believed. `Some` if a hold begins, for [`Self::tell_of_hold`].
    fn look(&self, queue: &mut Queue) -> Option<Held> {
        let begins = queue.isolation.look(&queue.policy, queue.limits);
        begins.then(|| {
            self.mode.store(queue.mode(), Ordering::SeqCst);
            queue.waiting.iter().map(|w| Arc::clone(&w.who)).collect()
        })
    }

    /// Never under the queue's lock: whoever reads the log may be slow.
    fn tell_of_hold(&self, begun: Option<Held>) {
        let Some(waiting) = begun else {
            return;
        };
        // A wait that was to be short has become long, and may be interrupted from now on.
        for who in waiting {
            who.commit_done.notify_one();
        }
        self.announce();
        tracing::warn!(
            "the standbys that commits wait for have not been heard for {} ms, or this server stood still for as long: what \
             it acknowledges from now on is held until the record says that this still is the primary",
            ISOLATED.as_millis()
        );
    }

    fn publish(&self, queue: &mut Queue) {
        let overtaken = queue
            .waiting
            .front()
            .is_some_and(|first| first.lsn <= queue.highest);
        queue.excluded = None;
        // What a standby is told to show may end right before a commit: those below are the same.
        let mut word = queue.highest.raw() & !FLAGS;
        if overtaken {
            word |= EXCLUDES;
        }
        if queue.confirmed.is_some() {
            word |= UNCONFIRMED;
        }
        self.published.store(word, Ordering::SeqCst);
    }
}

impl Queue {
    /// For standbys, or for the word that ends a hold.
    fn waits_for_others(&self) -> bool {
        self.policy.is_synchronous() || self.isolation.is_held()
    }

    /// For [`Release::waits_for_others`] and [`Release::may_be_doubted`].
    fn mode(&self) -> u8 {
        match &self.policy {
            ReleasePolicy::Closed => CLOSED,
            _ if self.waits_for_others() => SYNCHRONOUS,
            policy if policy.is_alone() => ALONE,
            _ => LOCAL,
        }
    }

    /// Everything that is released, and the commits among it that are not.
    fn newest(&mut self) -> (Lsn, Option<Arc<[Lsn]>>) {
        let highest = self.highest;
        if self.excluded.is_none() {
            let below = self.waiting.iter().take_while(|w| w.lsn <= highest);
            self.excluded = Some(below.map(|w| w.lsn).collect());
        }
        let excluded = self.excluded.clone().filter(|list| !list.is_empty());
        (highest, excluded)
    }

    fn settle(&mut self, wake: &mut Wake) {
        // What asks for nothing never waits, but for the time of a closed policy.
        let all = std::mem::take(&mut self.look_at_all);
        let top = if all { Lsn::MAX } else { self.limits.highest() };
        let mut kept = SmallVec::<[Waiting; 16]>::new();
        while let Some(first) = self.waiting.pop_front() {
            if first.lsn > top {
                kept.push(first);
                break;
            }
            if first.lsn <= self.limits.of(first.level) {
                self.highest = self.highest.max(first.lsn);
                wake.push((first.who, first.lsn));
            } else {
                kept.push(first);
            }
        }
        for entry in kept.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        self.safe = self.safe.max(self.safe_now());
    }

    fn safe_now(&self) -> Lsn {
        let durable = self.limits.durable();
        let held = |w: &&Waiting| !(w.level == CommitLevel::RemoteApply && w.lsn <= durable);
        match self.waiting.iter().find(held) {
            Some(first) => durable.min(Lsn::new(first.lsn.raw() - 1)),
            None => durable,
        }
    }

    fn gate_is_met(&mut self) -> bool {
        let met = match self.gate {
            Gate::Open => true,
            Gate::Durable(end) => self.limits.durable() >= end,
            Gate::Visible(lsn) => self.highest >= lsn,
        };
        if met {
            self.gate = Gate::Open;
            self.confirmed = None;
        }
        met
    }
}

#[cfg(test)]
impl Release {
    /// Silences are as long as the test says, from now on.
    pub(crate) fn stop_clock(&self) {
        self.queue.lock().isolation.stop_clock();
    }

    pub(crate) fn advance_clock(&self, by: std::time::Duration) {
        self.queue.lock().isolation.advance_clock(by);
    }
}
