//! A managed primary that was cut off from its standbys, or stood still, asks before it goes on.
//!
//! Where a failover is blocked, an administrator may accept the loss and have another copy promoted. Nothing that the
//! protocol counts forbids the old primary to go on then: its standbys may find back to it before the operator finds
//! either of them, and it would release what waits, and more, in a term that is over. So a primary whose in-sync set was
//! not covered by streams for [`ISOLATED`] *holds*: until its supervisor has asked the record and says that this still is
//! the primary, nothing is released that waits for others. One whose set has no members acknowledges alone, and has no
//! stream by whose silence it could know that it was away: it holds after a standstill of itself, which is as long a time
//! in which nobody has looked here, though somebody does so again and again (`Isolation::watch`). A machine that was
//! suspended, or starved the one who looks, costs the reading of a record.
//!
//! Invariants:
//!
//! - The clock is read before what has come is believed, each time that anything may be released, and a moment that was
//!   read is the moment of all that follows from it: a process that is frozen anywhere here finds the silence at its next
//!   look. (What was released and not yet written to a client is [`super::standstill`]'s: it writes a record, which waits
//!   here.)
//! - A hold ends by the word for it, never by a stream, by time or by another set: not even by one that asks nobody, which
//!   a primary gets whose standbys are lost. Whoever was cut off again, or stood still again, while he held waits for a new
//!   word, by a new number.
//! - It only ever puts a release off. What was released, shown or told to standbys before stays, and the promise on disk is
//!   untouched. No clock is part of the safety of data, which is the quorum's.
//! - A primary that starts and waits for others begins with a hold: nobody knows for how long it was away.
//! - `durability: async` (a set with members, none of whom is waited for) holds nothing, nor does what asks for the local
//!   disk alone.
//!
//! A primary that streams without a gap, or runs alone without one, while the operator and another copy are on the other
//! side goes on until it is sealed: there is nothing by which it could tell. Standbys are asked for a word every so often
//! (`replication/sender.rs`), so that an idle stream is no silence. Cost: one reading of the clock and one comparison for
//! each flush and each report, however many commits they release, and the same ten times a second where nothing happens.

use std::collections::HashMap;
use std::time::Duration;

use smallvec::SmallVec;

use crate::ids::Term;
use crate::txn::release::policy::{InstanceId, Limits, ReleasePolicy};

/// A silence, or a standstill, that makes a primary ask. A little less than the least `lostAfterMilliseconds`: whoever loses
/// its standbys and the operator at one moment holds before the operator begins the failover that somebody could force.
pub const ISOLATED: Duration = Duration::from_millis(900);

/// There is no such hold any more, or a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no hold {0} waits for a word: it is over, or this primary was cut off or stood still again since"
)]
pub struct NoSuchHold(pub u64);

/// Goes on while the process is frozen and while the machine is suspended.
#[derive(Debug)]
enum Clock {
    Boot,
    /// Stands where a test has set it.
    #[cfg(test)]
    Set(Duration),
}

impl Clock {
    fn now(&self) -> Duration {
        match self {
            Clock::Boot => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
                let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
                Duration::new(seconds, nanos)
            }
            #[cfg(test)]
            Clock::Set(at) => *at,
        }
    }
}

/// See the module's header. Part of the release queue, under its lock.
#[derive(Debug)]
pub(crate) struct Isolation {
    clock: Clock,
    /// The moment of the last look.
    now: Duration,
    /// Somebody looks every so often, whatever happens: where nobody has for a while, the process stood still.
    is_watched: bool,
    /// When the stream of each copy was heard last, by the term of the stream.
    heard: HashMap<(InstanceId, Term), Duration>,
    /// No silence counts from before this: another set was taken up, or a hold has ended.
    since: Duration,
    /// The newest moment at which enough members were heard.
    covered_at: Duration,
    is_cut_off: bool,
    /// The number of the newest hold.
    number: u64,
    /// How far things were released when the hold began.
    held: Option<Limits>,
}

/// Whether commits wait for members of a set.
fn asks_members(policy: &ReleasePolicy) -> bool {
    matches!(policy, ReleasePolicy::InSyncSet { required, .. } if *required > 0)
}

impl Isolation {
    pub(crate) fn new() -> Isolation {
        Isolation {
            clock: Clock::Boot,
            now: Duration::ZERO,
            is_watched: false,
            heard: HashMap::new(),
            since: Duration::ZERO,
            covered_at: Duration::ZERO,
            is_cut_off: false,
            number: 0,
            held: None,
        }
    }

    /// Before anything is believed that has come. `limits` is how far things are released. True if a hold begins.
    pub(crate) fn look(&mut self, policy: &ReleasePolicy, limits: Limits) -> bool {
        let before = std::mem::replace(&mut self.now, self.clock.now());
        let unlooked = self.now.saturating_sub(before);
        // Who waits for members finds a standstill in their silence, which is no shorter. Under `durability: async` one
        // begins no hold, but a word for a hold that was given before it is as old as any.
        let goes_by_clock = policy.is_alone() || (self.is_held() && !asks_members(policy));
        let stood_still = self.is_watched && goes_by_clock && unlooked >= ISOLATED;
        let silence = self.now.saturating_sub(self.covered_at);
        let is_cut_off = asks_members(policy) && silence >= ISOLATED;
        let begins = (is_cut_off || stood_still) && self.held.is_none();
        if is_cut_off || stood_still {
            self.number += u64::from(stood_still || !self.is_cut_off);
            self.held.get_or_insert(limits);
        }
        self.is_cut_off = is_cut_off;
        begins
    }

    /// After a look, by somebody who goes on to look, and much more often than every [`ISOLATED`].
    pub(crate) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// A word of this copy's stream, of the moment of the last look.
    pub(crate) fn hear(&mut self, from: (InstanceId, Term), policy: &ReleasePolicy) {
        self.heard.insert(from, self.now);
        self.cover(policy);
    }

    /// `policy` is another one than at the last look. New members get their time to be heard, but whoever is cut off stays
    /// it until they are.
    pub(crate) fn moves_to(&mut self, policy: &ReleasePolicy) {
        if !self.is_cut_off {
            self.since = self.now;
        }
        self.cover(policy);
    }

    /// This is a primary that starts.
    pub(crate) fn begin_held(&mut self, policy: &ReleasePolicy, limits: Limits) {
        if asks_members(policy) && self.held.is_none() {
            self.number += 1;
            self.held = Some(limits);
        }
    }

    fn cover(&mut self, policy: &ReleasePolicy) {
        let ReleasePolicy::InSyncSet {
            term,
            members,
            required,
            ..
        } = policy
        else {
            return;
        };
        let heard = |id: &InstanceId| self.heard.get(&(id.clone(), *term)).copied();
        let mut moments: SmallVec<[Duration; 16]> = members.iter().filter_map(heard).collect();
        moments.sort_unstable_by(|a, b| b.cmp(a));
        let last = required.checked_sub(1).and_then(|n| moments.get(n));
        self.covered_at = last.copied().unwrap_or_default().max(self.since);
    }

    /// Whether a hold is in force, streams or not.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The number of the hold that only waits for its word: enough members are heard again, or nobody is asked.
    pub(crate) fn waits(&self) -> Option<u64> {
        (self.is_held() && !self.is_cut_off).then_some(self.number)
    }

    /// The word for this hold, after a look.
    pub(crate) fn confirm(
        &mut self,
        number: u64,
        policy: &ReleasePolicy,
    ) -> Result<(), NoSuchHold> {
        if self.waits() != Some(number) {
            return Err(NoSuchHold(number));
        }
        self.held = None;
        self.since = self.now;
        self.cover(policy);
        Ok(())
    }

    /// Of what the positions allow, what may be released.
    pub(crate) fn bound(&self, limits: Limits) -> Limits {
        self.held
            .map_or(limits, |before| limits.no_further_than(before))
    }

    /// The clock stands from now on.
    #[cfg(test)]
    pub(crate) fn stop_clock(&mut self) {
        self.clock = Clock::Set(self.clock.now());
    }

    #[cfg(test)]
    pub(crate) fn advance_clock(&mut self, by: Duration) {
        self.clock = Clock::Set(self.clock.now() + by);
    }
}
