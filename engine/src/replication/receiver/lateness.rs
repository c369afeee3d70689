//! How long what is read now has lain in the sockets.
//!
//! The kernel of a frozen upstream still delivers the megabytes that it has taken, and a standby on a slow disk, or one that
//! stood still itself, reads them long after: that must not make the upstream look alive. Clocks of two machines differ, but
//! on one stream they always do by about as much: what is further behind than the least that was seen was read late by the
//! rest. Invariant: nothing is made to look newer than its reading. A clock that is set makes what comes look later than it
//! is, until the allowance for clocks that run apart has made up for it, or the stream begins anew.

use std::time::Duration;

use tokio::time::Instant;

/// Of one stream.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// The least that a message's time, by the upstream's clock, was before its reading, by ours, microseconds; and when it
    /// was read.
    least: Option<(i64, Instant)>,
    late: Duration,
}

impl Lateness {
    /// A message of `sent_at`, by the upstream's clock, was read at `received_at`, by ours, microseconds both.
    pub fn note(&mut self, sent_at: i64, received_at: i64, now: Instant) {
        let behind = received_at.saturating_sub(sent_at);
        let usual = self.least.map_or(behind, |(least, at)| {
            let since = now.saturating_duration_since(at).as_millis();
            // Clocks may run apart by a thousandth: a microsecond in a millisecond.
            least.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
        });
        if behind <= usual {
            self.least = Some((behind, now));
        }
        let late = behind.saturating_sub(usual);
        self.late = Duration::from_micros(u64::try_from(late).unwrap_or(0));
    }

    /// When what is read `now` had come; `None` where no clock goes back so far. What has no time of its own is as late as
    /// what was before it.
    pub fn came_at(&self, now: Instant) -> Option<Instant> {
        now.checked_sub(self.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a stream whose upstream's clock is a minute ahead: when that had come, milliseconds, which was sent and read so
    /// many milliseconds after the stream's begin.
    fn came(messages: &[(Option<i64>, i64)]) -> Vec<u128> {
        let begin = Instant::now();
        let mut lateness = Lateness::default();
        let one = |(sent_ms, read_ms): &(Option<i64>, i64)| {
            let now = begin + Duration::from_millis(u64::try_from(*read_ms).expect("later"));
            if let Some(sent_ms) = sent_ms {
                lateness.note((sent_ms + 60_000) * 1_000, read_ms * 1_000, now);
            }
            let came_at = lateness.came_at(now).expect("some uptime");
            came_at.saturating_duration_since(begin).as_millis()
        };
        messages.iter().map(one).collect()
    }

    #[test]
    fn what_is_read_at_once_came_when_it_was_read() {
        let at_once = [
            (Some(0), 5),
            (Some(500), 504),
            (None, 700),
            (Some(900), 902),
        ];
        assert_eq!(came(&at_once), [5, 504, 700, 902]);
    }

    #[test]
    fn what_lay_in_a_socket_came_before_it_was_read() {
        let late = [
            (Some(0), 4),
            (Some(600), 5_600),
            (None, 5_600),
            (Some(700), 5_601),
            (Some(5_700), 5_704),
        ];
        // Give or take the allowance.
        assert_eq!(came(&late), [4, 609, 609, 709, 5_704]);
    }

    /// By less than a thousandth, for an hour; and a clock that was set back is made up for in the end.
    #[test]
    fn clocks_may_run_apart() {
        let hour = 3_600_000;
        let slow = [(Some(0), 4), (Some(hour), hour + 3_000)];
        assert_eq!(came(&slow), [4, 3_603_000]);
        let set_back = [
            (Some(0), 4),
            (Some(500 - 1_000), 504),
            (Some(hour - 1_000), hour + 4),
        ];
        assert_eq!(came(&set_back)[2], 3_600_004);
        assert!(came(&set_back)[1] <= 5);
    }

    #[test]
    fn a_time_that_is_none_makes_nothing_newer() {
        for sent_at in [i64::MIN, 0, i64::MAX] {
            let now = Instant::now();
            let mut lateness = Lateness::default();
            lateness.note(0, 0, now);
            lateness.note(sent_at, 7, now);
            assert!(lateness.came_at(now).is_none_or(|at| at <= now));
        }
    }
}
