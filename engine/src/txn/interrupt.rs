//! What may end a session's work from outside: cancel, terminate, time-outs, conflicts with recovery.
//!
//! Owns one [`Interrupts`] for each session: a word of pending bits that loops read with one atomic load
//! ([`Interrupts::check`]) and that awaiting code can wait for ([`Interrupts::wait`]). Raising is allowed from
//! any thread and never blocks. Reading an interrupt that ends only the statement takes it; one that ends the
//! session stays until the session is gone. Knows nothing of sockets or statements.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::{ProcessId, Xid};
use crate::txn::participant::Participant;
use crate::txn::timer;

/// Why the work has to stop. `Display` is PostgreSQL's message; the SQLSTATE stands at each variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupt {
    /// 57P01, ends the session.
    #[error("terminating connection due to administrator command")]
    Terminate,
    /// 08006, ends the session: the client is gone, nothing can be sent to it.
    #[error("connection to client lost")]
    ClientGone,
    /// 25P03, ends the session.
    #[error("terminating connection due to idle-in-transaction timeout")]
    IdleInTransaction,
    /// 57P05, ends the session.
    #[error("terminating connection due to idle-session timeout")]
    IdleSession,
    /// 40001, ends the statement and its transaction.
    #[error("canceling statement due to conflict with recovery")]
    RecoveryConflict(Conflict),
    /// 55P03
    #[error("canceling statement due to lock timeout")]
    LockTimeout,
    /// 57014
    #[error("canceling statement due to statement timeout")]
    StatementTimeout,
    /// 57014
    #[error("canceling statement due to user request")]
    Cancel,
}

/// What replay on a standby needs that a query holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    Lock,
    Snapshot,
    BufferPin,
    Database,
}

impl Conflict {
    /// PostgreSQL's DETAIL line.
    pub const fn detail(self) -> &'static str {
        match self {
            Conflict::Lock => "User was holding a relation lock for too long.",
            Conflict::Snapshot => {
                "User query might have needed to see row versions that must be removed."
            }
            Conflict::BufferPin => "User was holding shared buffer pin for too long.",
            Conflict::Database => "User was connected to a database that must be dropped.",
        }
    }
}

impl Interrupt {
    /// Whether the session, not only the statement, ends.
    pub const fn ends_session(self) -> bool {
        matches!(
            self,
            Interrupt::Terminate
                | Interrupt::ClientGone
                | Interrupt::IdleInTransaction
                | Interrupt::IdleSession
                | Interrupt::RecoveryConflict(Conflict::Database)
        )
    }

    const fn bit(self) -> u32 {
        match self {
            Interrupt::Terminate => 1,
            Interrupt::ClientGone => 1 << 1,
            Interrupt::IdleInTransaction => 1 << 2,
            Interrupt::IdleSession => 1 << 3,
            Interrupt::RecoveryConflict(Conflict::Database) => 1 << 4,
            Interrupt::RecoveryConflict(Conflict::Lock) => 1 << 5,
            Interrupt::RecoveryConflict(Conflict::Snapshot) => 1 << 6,
            Interrupt::RecoveryConflict(Conflict::BufferPin) => 1 << 7,
            Interrupt::LockTimeout => 1 << 8,
            Interrupt::StatementTimeout => 1 << 9,
            Interrupt::Cancel => 1 << 10,
        }
    }

    /// The most important first: what ends the session, then what the user is to read.
    const BY_RANK: [Interrupt; 11] = [
        Interrupt::Terminate,
        Interrupt::ClientGone,
        Interrupt::IdleInTransaction,
        Interrupt::IdleSession,
        Interrupt::RecoveryConflict(Conflict::Database),
        Interrupt::RecoveryConflict(Conflict::Lock),
        Interrupt::RecoveryConflict(Conflict::Snapshot),
        Interrupt::RecoveryConflict(Conflict::BufferPin),
        Interrupt::LockTimeout,
        Interrupt::StatementTimeout,
        Interrupt::Cancel,
    ];
}

/// The clocks that a session can set on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    Statement,
    IdleInTransaction,
    IdleSession,
}

impl Timeout {
    pub(crate) const COUNT: usize = 3;

    pub(crate) const fn index(self) -> usize {
        match self {
            Timeout::Statement => 0,
            Timeout::IdleInTransaction => 1,
            Timeout::IdleSession => 2,
        }
    }

    pub(crate) const fn interrupt(self) -> Interrupt {
        match self {
            Timeout::Statement => Interrupt::StatementTimeout,
            Timeout::IdleInTransaction => Interrupt::IdleInTransaction,
            Timeout::IdleSession => Interrupt::IdleSession,
        }
    }
}

/// The pending interrupts of one session (or background worker), and its identity towards the lock manager.
#[derive(Debug)]
pub struct Interrupts {
    pid: ProcessId,
    pending: AtomicU32,
    raised: Notify,
    pub(crate) clocks: [timer::Clock; Timeout::COUNT],
    /// Milliseconds; 0 is "no time-out" (`lock_timeout`).
    lock_timeout_ms: AtomicU64,
    /// Milliseconds (`deadlock_timeout`).
    deadlock_timeout_ms: AtomicU64,
    log_lock_waits: AtomicBool,
    /// On a disk that is nearly full its transactions do not begin to write.
    needs_room: AtomicBool,
    /// Who stood in the ring of the last deadlock that ended a wait of the session.
    deadlock: Mutex<Vec<ProcessId>>,
    /// What the transaction manager keeps for the session; made by the first `begin`.
    pub(crate) participant: OnceLock<Arc<Participant>>,
}

impl Interrupts {
    /// `pid` is unique among the sessions and workers that are alive.
    pub fn new(pid: ProcessId) -> Arc<Interrupts> {
        Arc::new(Interrupts {
            pid,
            pending: AtomicU32::new(0),
            raised: Notify::new(),
            clocks: Default::default(),
            lock_timeout_ms: AtomicU64::new(0),
            deadlock_timeout_ms: AtomicU64::new(1000),
            log_lock_waits: AtomicBool::new(false),
            needs_room: AtomicBool::new(false),
            deadlock: Mutex::default(),
            participant: OnceLock::new(),
        })
    }

    pub fn pid(&self) -> ProcessId {
        self.pid
    }

    /// The xid of the session's running transaction, once it has one.
    pub fn running_xid(&self) -> Option<Xid> {
        self.participant.get()?.running()?.xid
    }

    /// Which of the session's transactions runs, counted from 1; 0: none.
    pub fn running_number(&self) -> u32 {
        let running = self.participant.get().and_then(|p| p.running());
        running.map_or(0, |r| r.number)
    }

    /// Right before each write to the client: whether what it is to be told has to be confirmed first
    /// (see [`crate::txn::release::standstill`]).
    pub fn owes_in_doubt(&self) -> bool {
        self.participant.get().is_some_and(|p| p.is_in_doubt())
    }

    /// Until no doubt is left; never, where another primary has been promised to. Cancel-safe.
    pub async fn confirm(&self) -> std::io::Result<()> {
        match self.participant.get() {
            Some(participant) => participant.confirm().await,
            None => Ok(()),
        }
    }

    /// Everything has been written.
    pub fn told(&self) {
        if let Some(participant) = self.participant.get() {
            participant.told();
        }
    }

    /// For loops: one atomic load in the normal case. An interrupt that ends only the statement is taken.
    pub fn check(&self) -> Result<(), Interrupt> {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.take().map_or(Ok(()), Err)
    }

    /// Whether [`Self::check`] would fail; takes nothing.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Ends when there is an interrupt, and takes it as `check` does. Cancel-safe.
    pub async fn wait(&self) -> Interrupt {
        loop {
            let notified = self.raised.notified();
            if let Some(interrupt) = self.take() {
                return interrupt;
            }
            notified.await;
        }
    }

    /// Lets so much time pass, unless something comes that ends the session; what is meant for a statement has none
    /// to end, and is forgotten.
    pub async fn sleep(&self, time: Duration) -> Result<(), Interrupt> {
        let end = tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                interrupt = self.wait() => {
                    if interrupt.ends_session() {
                        return Err(interrupt);
                    }
                }
            }
        }
    }

    pub fn raise(&self, interrupt: Interrupt) {
        self.pending.fetch_or(interrupt.bit(), Ordering::AcqRel);
        // Several tasks may wait for one session's interrupts (statement and socket watcher): all look again,
        // and `take` lets only one of them have an interrupt that ends a statement.
        self.raised.notify_waiters();
    }

    /// At the start of a statement: forgets what was meant for an earlier one.
    pub fn forget_statement(&self) {
        let session: u32 = Interrupt::BY_RANK
            .iter()
            .filter(|i| i.ends_session())
            .map(|i| i.bit())
            .sum();
        self.pending.fetch_and(session, Ordering::AcqRel);
    }

    /// Forgets one pending interrupt: an idle time-out that lost the race against the next statement.
    pub fn forget(&self, interrupt: Interrupt) {
        // Nearly always there is none.
        if self.pending.load(Ordering::Acquire) & interrupt.bit() != 0 {
            self.pending.fetch_and(!interrupt.bit(), Ordering::AcqRel);
        }
    }

    /// Raises the time-out's interrupt after `after` unless it is disarmed or armed again before.
    pub fn arm(self: &Arc<Self>, timeout: Timeout, after: Duration) {
        timer::arm(self, timeout, after);
    }

    pub fn disarm(&self, timeout: Timeout) {
        self.clocks[timeout.index()].disarm();
    }

    /// The session's `lock_timeout`; zero is none.
    pub fn set_lock_timeout(&self, value: Duration) {
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        self.lock_timeout_ms.store(ms, Ordering::Relaxed);
    }
    pub fn lock_timeout(&self) -> Option<Duration> {
        match self.lock_timeout_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// The session's `deadlock_timeout`.
    pub fn set_deadlock_timeout(&self, value: Duration) {
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        self.deadlock_timeout_ms.store(ms.max(1), Ordering::Relaxed);
    }
    pub fn deadlock_timeout(&self) -> Duration {
        Duration::from_millis(self.deadlock_timeout_ms.load(Ordering::Relaxed))
    }

    /// The session's `log_lock_waits`.
    pub fn set_log_lock_waits(&self, on: bool) {
        self.log_lock_waits.store(on, Ordering::Relaxed);
    }
    pub(crate) fn logs_lock_waits(&self) -> bool {
        self.log_lock_waits.load(Ordering::Relaxed)
    }

    /// A client's session, but for one that is to remove data (`understudy.write_on_full_disk`). Who is no session needs none.
    pub fn set_needs_room(&self, needs: bool) {
        self.needs_room.store(needs, Ordering::Relaxed);
    }
    pub(crate) fn needs_room(&self) -> bool {
        self.needs_room.load(Ordering::Relaxed)
    }

    /// A wait has ended in a deadlock of these. The error comes up through rooms that know nothing of it, and whoever logs
    /// it asks for them.
    pub(crate) fn note_deadlock(&self, processes: Vec<ProcessId>) {
        *self.deadlock.lock() = processes;
    }
    pub fn take_deadlock(&self) -> Vec<ProcessId> {
        std::mem::take(&mut *self.deadlock.lock())
    }

    fn take(&self) -> Option<Interrupt> {
        loop {
            let pending = self.pending.load(Ordering::Acquire);
            let first = Interrupt::BY_RANK
                .into_iter()
                .find(|i| pending & i.bit() != 0)?;
            if first.ends_session() {
                return Some(first);
            }
            let left = pending & !first.bit();
            let swapped =
                self.pending
                    .compare_exchange(pending, left, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                return Some(first);
            }
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(participant) = self.participant.get() {
            participant.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Arc<Interrupts> {
        Interrupts::new(ProcessId::new(7).expect("not zero"))
    }

    #[test]
    fn cancel_is_taken_once_and_terminate_stays() {
        let i = session();
        assert_eq!(i.check(), Ok(()));
        i.raise(Interrupt::Cancel);
        i.raise(Interrupt::StatementTimeout);
        assert_eq!(i.check(), Err(Interrupt::StatementTimeout));
        assert_eq!(i.check(), Err(Interrupt::Cancel));
        assert_eq!(i.check(), Ok(()));
        i.raise(Interrupt::Cancel);
        i.raise(Interrupt::Terminate);
        i.forget_statement();
        assert_eq!(i.check(), Err(Interrupt::Terminate));
        assert_eq!(i.check(), Err(Interrupt::Terminate));
    }

    #[tokio::test]
    async fn a_waiter_wakes_for_an_interrupt_and_for_a_timeout() {
        let i = session();
        let waiting = tokio::spawn({
            let i = i.clone();
            async move { i.wait().await }
        });
        tokio::task::yield_now().await;
        i.raise(Interrupt::Cancel);
        assert_eq!(waiting.await.expect("no panic"), Interrupt::Cancel);

        i.arm(Timeout::Statement, Duration::from_millis(20));
        assert_eq!(i.wait().await, Interrupt::StatementTimeout);
    }

    #[tokio::test]
    async fn a_sleep_is_ended_by_what_ends_the_session_only() {
        let i = session();
        i.raise(Interrupt::Cancel);
        assert_eq!(i.sleep(Duration::from_millis(20)).await, Ok(()));
        assert_eq!(i.check(), Ok(()), "there was no statement to cancel");
        i.raise(Interrupt::Terminate);
        let ended = i.sleep(Duration::from_secs(3600)).await;
        assert_eq!(ended, Err(Interrupt::Terminate));
    }

    #[test]
    fn what_rings_as_it_is_disarmed_is_not_left_to_the_next_statement() {
        let i = session();
        for round in 0..3000_u64 {
            i.arm(Timeout::Statement, Duration::from_micros(60));
            let began = std::time::Instant::now();
            let end = Duration::from_micros(40 + round % 200);
            while began.elapsed() < end {
                std::hint::spin_loop();
            }
            i.disarm(Timeout::Statement);
            i.forget(Interrupt::StatementTimeout);
            std::thread::yield_now();
            assert_eq!(i.check(), Ok(()), "round {round}");
        }
    }

    #[test]
    fn a_disarmed_clock_is_silent_and_a_rearmed_one_rings_late() {
        let i = session();
        i.arm(Timeout::Statement, Duration::from_millis(30));
        i.disarm(Timeout::Statement);
        std::thread::sleep(Duration::from_millis(80));
        assert_eq!(i.check(), Ok(()));
        i.arm(Timeout::Statement, Duration::from_millis(30));
        i.arm(Timeout::Statement, Duration::from_secs(3600));
        std::thread::sleep(Duration::from_millis(80));
        assert_eq!(i.check(), Ok(()));
        i.arm(Timeout::Statement, Duration::from_millis(10));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(i.check(), Err(Interrupt::StatementTimeout));
    }
}
