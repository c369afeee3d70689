//! Notices that a walsender stood still, and asks the standby before it believes again what is in its socket.
//!
//! A primary that is frozen (SIGSTOP, a paused virtual machine, a swap storm) and wakes after a takeover finds in its
//! sockets what standbys said before they promised a newer term. Those commits are on the new primary, so nothing would
//! be lost by acknowledging them; but a client would hear from an older term after it has heard from a newer one. So after
//! a standstill reports count for nothing until the standby has echoed a number that was sent after it: one that has
//! promised another term has closed the connection and never does. Clocks only say when to ask: safety is the promise's.
//! What was decided before the standstill and not yet written is [`crate::txn::release::standstill`]'s.

use tokio::time::Instant;

use crate::txn::release::standstill::{LIMIT, TICK};

pub struct Standstill {
    awake_at: Instant,
    asked: u64,
    echoed: u64,
}

impl Standstill {
    pub fn new(now: Instant) -> Standstill {
        Standstill {
            awake_at: now,
            asked: 0,
            echoed: 0,
        }
    }

    /// To be called each time the sender runs, before it believes anything; gives the number to send, if it must ask.
    pub fn awake(&mut self, now: Instant) -> Option<u64> {
        let still = now.saturating_duration_since(self.awake_at);
        self.awake_at = now;
        (still >= LIMIT).then(|| {
            self.asked += 1;
            self.asked
        })
    }

    /// When to look again.
    pub fn next(&self) -> Instant {
        self.awake_at + TICK
    }

    pub fn echo(&mut self, number: u64) {
        if number <= self.asked {
            self.echoed = self.echoed.max(number);
        }
    }

    /// What arrives now was said after the last standstill.
    pub fn trusts(&self) -> bool {
        self.echoed == self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_standstill_only_the_newest_number_brings_trust_back() {
        let begin = Instant::now();
        let mut still = Standstill::new(begin);
        assert_eq!(still.awake(begin + LIMIT - TICK), None);
        assert!(still.trusts());
        let first = still.awake(begin + LIMIT * 2).expect("it stood still");
        assert!(!still.trusts());
        assert_eq!(still.awake(begin + LIMIT * 2 + TICK), None);
        assert!(!still.trusts(), "time alone brings nothing back");
        let second = still.awake(begin + LIMIT * 4).expect("and again");
        still.echo(first);
        assert!(!still.trusts(), "that was said before the second");
        still.echo(second);
        assert!(still.trusts());
        still.echo(second + 7);
        assert!(still.trusts(), "a number never sent changes nothing");
        let third = still.awake(begin + LIMIT * 6).expect("a third time");
        assert_eq!(third, second + 1);
        still.echo(third + 1);
        assert!(!still.trusts());
    }
}
