//! Whether a standby's replay stands still although it has more to replay.
//!
//! Only a whole record is something to replay: what was received may end inside one for ever, where the upstream went
//! away in the middle of it. The looks are regular, whoever asks: seen now and then only, a replay that has caught up
//! and met new log just now would seem to have stood all the time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ids::Lsn;

/// A conflict with a query may hold replay up for half a minute by itself.
pub const LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Standstill {
    /// Where replay stands with more to replay, and since when.
    stands: Mutex<Option<(Lsn, Instant)>>,
}

impl Standstill {
    /// One look: replay is at `at`, and a whole record begins there or does not.
    pub fn note(&self, at: Lsn, has_more: bool, now: Instant) {
        let mut stands = self.stands.lock();
        let since = match *stands {
            Some((before, since)) if before == at => since,
            _ => now,
        };
        *stands = has_more.then_some((at, since));
    }

    /// Whether replay, which is at `at`, has stood there for [`LIMIT`] and more.
    pub fn is_stuck(&self, at: Lsn, now: Instant) -> bool {
        let stands = *self.stands.lock();
        stands.is_some_and(|(seen, since)| seen == at && now.duration_since(since) >= LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_is_stuck_where_it_stands_for_a_minute_with_more_to_replay() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let (here, further) = (Lsn::new(0x100), Lsn::new(0x200));
        let watched = Standstill::default();
        // Idle for an hour, and then something comes.
        for second in 0..3600 {
            watched.note(here, false, at(second));
        }
        watched.note(here, true, at(3600));
        assert!(!watched.is_stuck(here, at(3601)));
        watched.note(here, true, at(3659));
        assert!(!watched.is_stuck(here, at(3659)));
        assert!(watched.is_stuck(here, at(3660)));
        assert!(!watched.is_stuck(further, at(3660)), "it has moved since");
        watched.note(further, true, at(3661));
        assert!(!watched.is_stuck(further, at(3700)));
        watched.note(further, true, at(3721));
        assert!(watched.is_stuck(further, at(3721)));
        // Nothing is left of what it waited for: the stream was begun anew.
        watched.note(further, false, at(3722));
        assert!(!watched.is_stuck(further, at(3722)));
    }
}
