//! The thread that raises time-outs: statements that never yield must be reached too, so it is not a task.
//!
//! Arming and disarming a clock that is already queued is one atomic store, so a session with a
//! `statement_timeout` pays next to nothing for each statement: the thread's heap holds at most a few entries
//! for a clock, and an entry that comes up early is put back for the clock's present deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::txn::interrupt::{Interrupts, Timeout};

const OFF: u64 = 0;
/// Its time has come, and its interrupt is being raised.
const RINGING: u64 = u64::MAX;

/// One settable clock of a session. Times are microseconds since the timer thread began, plus 1.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When to ring; `OFF` is never. `RINGING` only while the thread holds its heap.
    deadline: AtomicU64,
    /// The earliest time for which the heap holds an entry; `OFF` is none.
    queued: AtomicU64,
}

impl Clock {
    /// Called by whoever arms it, or after him: a clock that he finds off nobody else sets. What it raises is pending
    /// when this returns, or never is: a statement that has forgotten it leaves none to the next one.
    pub(crate) fn disarm(&self) {
        if self.deadline.load(Ordering::SeqCst) != OFF
            && self.deadline.swap(OFF, Ordering::SeqCst) == RINGING
        {
            drop(timer().entries.lock());
        }
    }
}

struct Entry {
    at: u64,
    timeout: Timeout,
    session: Weak<Interrupts>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.at == other.at
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

struct Timer {
    began: Instant,
    entries: Mutex<BinaryHeap<Reverse<Entry>>>,
    changed: Condvar,
}

impl Timer {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    fn run(&self) -> ! {
        let mut entries = self.entries.lock();
        loop {
            let now = self.now();
            match entries.peek() {
                None => self.changed.wait(&mut entries),
                Some(Reverse(first)) if first.at > now => {
                    let wait = Duration::from_micros(first.at - now);
                    self.changed.wait_for(&mut entries, wait);
                }
                Some(_) => {
                    if let Some(Reverse(due)) = entries.pop()
                        && let Some(again) = ring(due, now)
                    {
                        entries.push(Reverse(again));
                    }
                }
            }
        }
    }
}

/// Raises the time-out if its clock still stands at or before `now`; gives the entry to put back, if any.
///
/// Runs under the heap's lock; [`arm`] may store a deadline meanwhile and trust the entry it saw queued. Each
/// side stores its own word before it loads the other's, so one of them notices.
fn ring(due: Entry, now: u64) -> Option<Entry> {
    let session = due.session.upgrade()?;
    let clock = &session.clocks[due.timeout.index()];
    if clock.queued.load(Ordering::SeqCst) != due.at {
        return None; // an earlier deadline was set after this entry was queued; that entry goes on
    }
    loop {
        let deadline = clock.deadline.load(Ordering::SeqCst);
        if deadline == OFF || deadline > now {
            clock.queued.store(deadline, Ordering::SeqCst);
            if clock.deadline.load(Ordering::SeqCst) != deadline {
                continue;
            }
            let at = deadline;
            return (at != OFF).then_some(Entry { at, ..due });
        }
        clock.queued.store(OFF, Ordering::SeqCst);
        let taken =
            clock
                .deadline
                .compare_exchange(deadline, RINGING, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_ok() {
            session.raise(due.timeout.interrupt());
            // Unless it was disarmed or armed again meanwhile.
            let _ =
                clock
                    .deadline
                    .compare_exchange(RINGING, OFF, Ordering::SeqCst, Ordering::SeqCst);
            return None;
        }
    }
}

fn timer() -> &'static Timer {
    static TIMER: OnceLock<&'static Timer> = OnceLock::new();
    TIMER.get_or_init(|| {
        let timer: &'static Timer = Box::leak(Box::new(Timer {
            began: Instant::now(),
            entries: Mutex::new(BinaryHeap::new()),
            changed: Condvar::new(),
        }));
        std::thread::Builder::new()
            .name("timeouts".to_owned())
            .spawn(|| timer.run())
            .expect("a thread can be started: the process has just begun to serve");
        timer
    })
}

pub(crate) fn arm(session: &Arc<Interrupts>, timeout: Timeout, after: Duration) {
    let timer = timer();
    let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 2);
    let at = timer.now().saturating_add(after_us);
    let clock = &session.clocks[timeout.index()];
    clock.deadline.store(at, Ordering::SeqCst);
    let queued = clock.queued.load(Ordering::SeqCst);
    if queued != OFF && queued <= at {
        return; // the entry that is there comes up first and looks at the new deadline
    }
    let mut entries = timer.entries.lock();
    clock.queued.store(at, Ordering::SeqCst);
    entries.push(Reverse(Entry {
        at,
        timeout,
        session: Arc::downgrade(session),
    }));
    timer.changed.notify_one();
}
