//! Notices that the whole process stood still, for acknowledgements that were decided before and not yet written.
//!
//! A primary that is frozen (SIGSTOP, a paused virtual machine, a swap storm) between the release of a commit and the
//! write to its client, and wakes after a takeover, would answer from an older term after somebody has heard from a newer
//! one. The commit is on the new primary, so no data is at stake; but nobody may hear such an answer. So a session that
//! owes its client an acknowledgement looks here right before each write ([`Standstills::since`]); where there may have been
//! a standstill since its commit began to wait, it writes a record and waits until the required standbys have it
//! ([`Participant::confirm`]), which those that have promised a newer term never say.
//!
//! Walsenders look at the clock at least every [`TICK`] ([`Standstills::look`]), and so does a managed server without one
//! ([`Release::watch`]): where it acknowledges alone, the record that it writes waits for the word of `super::isolation`. No
//! clock is part of the safety of data.
//!
//! [`Release::watch`]: crate::txn::release::Release::watch
//! [`Participant::confirm`]: crate::txn::participant::Participant::confirm

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a walsender, or a managed server beside them, looks at the clock when nothing else wakes it.
pub const TICK: Duration = Duration::from_millis(100);

/// A silence of its own that makes a sender or a session ask. Shorter than any takeover for want of an answer can be;
/// where the machine was only busy, asking costs a round trip.
pub const LIMIT: Duration = Duration::from_millis(300);

/// See the module's header.
#[derive(Debug)]
pub struct Standstills {
    begin: Instant,
    /// Microseconds after `begin`.
    looked: AtomicU64,
    count: AtomicU64,
}

impl Standstills {
    pub(crate) fn new() -> Standstills {
        Standstills {
            begin: Instant::now(),
            looked: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn was_long(&self, at: u64) -> bool {
        let since = at.saturating_sub(self.looked.load(Ordering::SeqCst));
        u128::from(since) >= LIMIT.as_micros()
    }

    /// Somebody who runs at least every [`TICK`] runs now.
    pub fn look(&self, now: Instant) {
        let at = self.micros(now);
        // Counted before the silence is over for those who compare with the clock.
        if self.was_long(at) {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        self.looked.fetch_max(at, Ordering::SeqCst);
    }

    /// For the time of a wait.
    pub(crate) async fn keep_looking(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(TICK).await;
            self.look(Instant::now());
        }
    }

    /// For [`Self::since`].
    pub(crate) fn noted(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether the process may have stood still since `noted` was taken.
    pub(crate) fn since(&self, noted: u64, now: Instant) -> bool {
        self.was_long(self.micros(now)) || self.noted() != noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_seen_by_whoever_looks_first_and_by_all_after_it() {
        let stills = Standstills::new();
        let begin = stills.begin;
        stills.look(begin + TICK);
        let noted = stills.noted();
        assert!(!stills.since(noted, begin + TICK));
        assert!(!stills.since(noted, begin + LIMIT));
        assert!(stills.since(noted, begin + LIMIT + TICK), "by the clock");
        stills.look(begin + LIMIT + TICK);
        assert!(stills.since(noted, begin + LIMIT + TICK), "by the count");
        let after = stills.noted();
        assert!(!stills.since(after, begin + LIMIT + TICK));
        stills.look(begin);
        assert!(
            !stills.since(after, begin + LIMIT + TICK),
            "who is late changes nothing"
        );
    }
}
