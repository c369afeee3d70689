//! What became of a transaction, for readers, for writers and for vacuum.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, Xid};
use crate::txn::commit_log::Status;
use crate::txn::commit_lsns::State;
use crate::txn::manager::Shared;
use crate::txn::participant::OldestSnapshot;
use crate::txn::snapshot::{Horizon, Seen};
use crate::txn::transaction::Outcome;

/// How old the horizon that pruning uses may be.
const RECENT: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct HorizonState {
    effective: Lsn,
    feedback: HashMap<u64, Lsn>,
    computed: Option<Instant>,
}

/// An outcome and, where snapshots may still differ, the commit's LSN.
enum Resolved {
    Running,
    Committed(Option<Lsn>),
    Aborted,
}

impl Shared {
    /// How a snapshot sees a transaction; `contains` is asked for the LSN of its commit.
    pub(crate) fn judge(&self, xid: Xid, contains: impl Fn(Lsn) -> bool) -> Seen {
        match self.resolve(xid) {
            Resolved::Committed(Some(lsn)) if !contains(lsn) => Seen::No,
            Resolved::Committed(_) => Seen::Yes,
            Resolved::Running => Seen::No,
            Resolved::Aborted => Seen::Aborted,
        }
    }

    pub(crate) fn outcome(&self, xid: Xid) -> Outcome {
        if !xid.is_normal() {
            return Outcome::Committed { lsn: None };
        }
        match self.resolve(xid) {
            Resolved::Committed(Some(lsn)) if !self.release.is_released(lsn) => Outcome::InProgress,
            Resolved::Committed(lsn) => Outcome::Committed { lsn },
            Resolved::Running => Outcome::InProgress,
            Resolved::Aborted => Outcome::Aborted,
        }
    }

    fn resolve(&self, xid: Xid) -> Resolved {
        match self.lsns.state(xid) {
            State::Committed(lsn) => Resolved::Committed(Some(lsn)),
            State::Aborted => Resolved::Aborted,
            State::Running => Resolved::Running,
            State::Old | State::Unsure => self.resolve_durable(xid),
        }
    }

    fn resolve_durable(&self, xid: Xid) -> Resolved {
        let status = self
            .commit_log
            .status(xid)
            .unwrap_or_else(|e| panic!("could not access status of transaction {xid}: {e}"));
        match status {
            // Replay may have set the entry and then the bits since we looked for the entry.
            Status::Committed => match self.lsns.state(xid) {
                State::Committed(lsn) => Resolved::Committed(Some(lsn)),
                _ => Resolved::Committed(None),
            },
            Status::Aborted => Resolved::Aborted,
            Status::InProgress if self.lsns.is_dead(xid) => Resolved::Aborted,
            Status::InProgress => Resolved::Running,
        }
    }

    /// The position that every snapshot sees, now and later. Never goes back; also drops the commit LSNs that
    /// nobody needs any more.
    ///
    /// A session stores `TAKING` before it reads the released position, and we read that position before we look
    /// at the sessions. So a session that we saw without a snapshot reads the position after us and gets no
    /// lower one; a session that we see `TAKING` may have an older one, but none below the last horizon.
    pub(crate) fn compute_horizon(&self) -> Horizon {
        let mut state = self.horizon.lock();
        let mut lsn = self.release.low();
        self.participants.each(|p| match p.oldest_snapshot() {
            OldestSnapshot::None => {}
            OldestSnapshot::Taking => lsn = lsn.min(state.effective),
            OldestSnapshot::At(oldest) => lsn = lsn.min(oldest),
        });
        for needed in state.feedback.values() {
            lsn = lsn.min(*needed);
        }
        state.effective = state.effective.max(lsn);
        state.computed = Some(Instant::now());
        self.lsns.forget(state.effective, self.xids.next());
        self.current_horizon(&state)
    }

    pub(crate) fn recent_horizon(&self) -> Horizon {
        let state = self.horizon.lock();
        if state.computed.is_some_and(|at| at.elapsed() < RECENT) {
            return self.current_horizon(&state);
        }
        drop(state);
        self.compute_horizon()
    }

    fn current_horizon(&self, state: &HorizonState) -> Horizon {
        Horizon {
            lsn: state.effective,
            xid: self.lsns.agreed_below(),
        }
    }

    pub(crate) fn set_feedback(&self, key: u64, lsn: Option<Lsn>) {
        let mut state = self.horizon.lock();
        match lsn {
            Some(lsn) => state.feedback.insert(key, lsn),
            None => state.feedback.remove(&key),
        };
    }
}
