//! How far recovery is, for everyone who wants to know; and the wishes that it obeys.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::ids::{Lsn, TimelineId};
use crate::wal::xlog_records::CheckPoint;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Nothing is known yet.
    Starting,
    /// Replaying, not yet consistent: no queries.
    Replaying,
    /// A standby that may be read.
    Consistent,
    /// The log is being written: a primary.
    Writing,
}

pub struct RecoveryState {
    phase: watch::Sender<Phase>,
    replayed: AtomicU64,
    replay_watch: watch::Sender<Lsn>,
    /// End of the record that is being applied; pages written meanwhile may carry it.
    applying: AtomicU64,
    replay_timeline: AtomicU32,
    /// Something was replayed since the start, or would have been had there been anything.
    recovered: AtomicBool,
    /// Received and synced by the stream, and from where.
    received: Mutex<Option<(TimelineId, Lsn, Lsn)>>,
    /// Time of the last commit or abort replayed, microseconds since 2000; 0 for none.
    last_commit_us: AtomicI64,
    end_of_recovery: AtomicU64,
    promote: AtomicBool,
    stop: AtomicBool,
    /// Somebody has changed what ends recovery, or what it reads from.
    look_for_trigger: AtomicBool,
    retry_source: AtomicBool,
    wakeups: Mutex<u64>,
    woken: Condvar,
    /// The newest checkpoint record replayed: where a restartpoint can be made.
    checkpoint: Mutex<Option<(Lsn, Lsn, CheckPoint)>>,
    /// End of the last checkpoint's record that was written here: nothing has been logged while the log ends there.
    checkpoint_end: AtomicU64,
    /// Where the log last said that it goes on without page images.
    images_off: AtomicU64,
    /// When replay last had to wait for WAL, and whether it came by stream: delays of queries count from there.
    receipt: Mutex<(Instant, bool)>,
}

impl Default for RecoveryState {
    fn default() -> RecoveryState {
        RecoveryState {
            phase: watch::Sender::new(Phase::Starting),
            replayed: AtomicU64::new(0),
            replay_watch: watch::Sender::new(Lsn::INVALID),
            applying: AtomicU64::new(0),
            replay_timeline: AtomicU32::new(1),
            recovered: AtomicBool::new(false),
            received: Mutex::new(None),
            last_commit_us: AtomicI64::new(0),
            end_of_recovery: AtomicU64::new(0),
            promote: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            look_for_trigger: AtomicBool::new(false),
            retry_source: AtomicBool::new(false),
            wakeups: Mutex::new(0),
            woken: Condvar::new(),
            checkpoint: Mutex::new(None),
            checkpoint_end: AtomicU64::new(0),
            images_off: AtomicU64::new(0),
            receipt: Mutex::new((Instant::now(), false)),
        }
    }
}

impl RecoveryState {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
    pub fn phase_watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
    /// `pg_is_in_recovery()`
    pub fn in_recovery(&self) -> bool {
        self.phase() != Phase::Writing
    }
    /// Everything that ends at or below this has been applied (and keeps its last value after promotion).
    pub fn replay_lsn(&self) -> Lsn {
        Lsn::new(self.replayed.load(Ordering::Acquire))
    }
    /// `pg_last_wal_replay_lsn()`: as [`Self::replay_lsn`], but `None` where this start had nothing to recover.
    pub fn last_replayed(&self) -> Option<Lsn> {
        let recovered = self.recovered.load(Ordering::Acquire);
        Some(self.replay_lsn()).filter(|lsn| recovered && lsn.is_valid())
    }
    /// [`Self::replay_lsn`] as a value to watch; it moves in steps of many records while replay is behind.
    pub fn replay_watch(&self) -> watch::Receiver<Lsn> {
        self.replay_watch.subscribe()
    }
    pub fn replay_timeline(&self) -> TimelineId {
        TimelineId::new(self.replay_timeline.load(Ordering::Acquire))
    }
    /// What the stream has brought and synced; invalid if there was none.
    pub fn received_lsn(&self) -> Lsn {
        self.received
            .lock()
            .map_or(Lsn::INVALID, |(_, _, upto)| upto)
    }
    /// Microseconds since 2000-01-01; `None` if no commit has been replayed.
    pub fn last_commit_us(&self) -> Option<i64> {
        Some(self.last_commit_us.load(Ordering::Relaxed)).filter(|t| *t != 0)
    }
    /// Set by the owner of commit records.
    pub fn set_last_commit_us(&self, time_us: i64) {
        self.last_commit_us.store(time_us, Ordering::Relaxed);
    }
    /// Where recovery ended; invalid before.
    pub fn end_of_recovery(&self) -> Lsn {
        Lsn::new(self.end_of_recovery.load(Ordering::Acquire))
    }

    /// `pg_promote()`, `pg_ctl promote`: ends a standby's recovery as the trigger file does.
    pub fn request_promotion(&self) {
        self.promote.store(true, Ordering::SeqCst);
        self.wake();
    }
    pub fn promotion_requested(&self) -> bool {
        self.promote.load(Ordering::SeqCst)
    }
    /// Ends replay without promotion: the server stops.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
    /// Replay looks again at what it waits for.
    pub fn wake(&self) {
        *self.wakeups.lock() += 1;
        self.woken.notify_all();
    }

    /// A trigger file, or an upstream, may be there now: replay looks at once instead of when it is time.
    pub fn nudge(&self) {
        self.look_for_trigger.store(true, Ordering::SeqCst);
        self.retry_source.store(true, Ordering::SeqCst);
        self.wake();
    }
    pub(super) fn take_look_for_trigger(&self) -> bool {
        self.look_for_trigger.swap(false, Ordering::SeqCst)
    }
    pub(super) fn take_retry_source(&self) -> bool {
        self.retry_source.swap(false, Ordering::SeqCst)
    }

    /// The stream has made WAL of `timeline` durable up to `upto`; it began at `from`.
    pub fn received(&self, timeline: TimelineId, from: Lsn, upto: Lsn) {
        *self.received.lock() = Some((timeline, from, upto));
        self.wake();
    }
    /// A stream of `timeline` is asked for from `from` on. What one of another timeline has brought behind that need not be
    /// in this one's log, and is no longer told.
    pub(super) fn receives_anew(&self, timeline: TimelineId, from: Lsn) {
        let mut received = self.received.lock();
        if received.is_some_and(|(before, _, _)| before != timeline) {
            *received = Some((timeline, from, from));
        }
    }
    /// The stream's timeline, beginning and end, if it ever brought something.
    pub(super) fn received_range(&self) -> Option<(TimelineId, Lsn, Lsn)> {
        *self.received.lock()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
    pub(super) fn set_applying(&self, end: Lsn) {
        self.applying.store(end.raw(), Ordering::Release);
    }
    pub(super) fn applying(&self) -> Lsn {
        Lsn::new(self.applying.load(Ordering::Acquire))
    }
    pub(super) fn set_recovering(&self) {
        self.recovered.store(true, Ordering::Release);
    }
    pub(super) fn set_replayed(&self, end: Lsn, timeline: TimelineId) {
        self.replay_timeline
            .store(timeline.raw(), Ordering::Release);
        self.replayed.store(end.raw(), Ordering::Release);
    }
    pub(super) fn publish_replayed(&self) {
        let replayed = self.replay_lsn();
        self.replay_watch.send_if_modified(|seen| {
            let moved = *seen != replayed;
            *seen = replayed;
            moved
        });
    }
    pub(super) fn set_end_of_recovery(&self, end: Lsn) {
        self.end_of_recovery.store(end.raw(), Ordering::Release);
    }
    pub(super) fn set_checkpoint(&self, start: Lsn, end: Lsn, checkpoint: CheckPoint) {
        *self.checkpoint.lock() = Some((start, end, checkpoint));
    }
    pub(super) fn last_checkpoint(&self) -> Option<(Lsn, Lsn, CheckPoint)> {
        *self.checkpoint.lock()
    }

    pub(super) fn note_receipt(&self, streaming: bool) {
        *self.receipt.lock() = (Instant::now(), streaming);
    }
    /// When what is being replayed came, and whether by stream.
    pub(super) fn receipt(&self) -> (Instant, bool) {
        *self.receipt.lock()
    }
    pub(super) fn checkpoint_end(&self) -> Lsn {
        Lsn::new(self.checkpoint_end.load(Ordering::SeqCst))
    }
    pub(super) fn set_checkpoint_end(&self, end: Lsn) {
        self.checkpoint_end.store(end.raw(), Ordering::SeqCst);
    }

    /// Start of the newest replayed record that says so; invalid where there was none.
    pub(super) fn images_off(&self) -> Lsn {
        Lsn::new(self.images_off.load(Ordering::SeqCst))
    }
    pub(super) fn set_images_off(&self, at: Lsn) {
        self.images_off.fetch_max(at.raw(), Ordering::SeqCst);
    }

    /// How often replay has been woken; to be passed to [`Self::wait`].
    pub(super) fn wakeups(&self) -> u64 {
        *self.wakeups.lock()
    }
    /// Waits for a wake-up since `seen`, at most `timeout`.
    pub(super) fn wait(&self, seen: u64, timeout: Duration) {
        let mut wakeups = self.wakeups.lock();
        if *wakeups == seen {
            self.woken.wait_for(&mut wakeups, timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_of_a_timeline_that_is_left_is_no_longer_told() {
        let state = RecoveryState::default();
        let (one, two, at) = (TimelineId::FIRST, TimelineId::new(2), Lsn::new);
        state.receives_anew(one, at(0x2000));
        assert_eq!(state.received_lsn(), Lsn::INVALID, "no stream was there");
        state.received(one, at(0x2000), at(0x4800));
        state.receives_anew(one, at(0x4000));
        assert_eq!(state.received_lsn(), at(0x4800), "it goes on");
        state.receives_anew(two, at(0x4000));
        assert_eq!(state.received_lsn(), at(0x4000));
        state.received(two, at(0x4000), at(0x4400));
        state.receives_anew(two, at(0x4000));
        assert_eq!(state.received_range(), Some((two, at(0x4000), at(0x4400))));
    }
}
