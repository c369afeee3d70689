//! The walsenders of this server: who streams, how far each is, and what the release of commits makes of it.
//!
//! An entry is a slot of a bounded table (`max_wal_senders`), taken before a stream begins and given back when
//! its connection ends. Positions are told by the standby and only ever used as "it has at least this"; what it says of
//! log that it was not sent is not believed (see `sender`).

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::ids::{Lsn, ProcessId, Term, TimelineId};
use crate::replication::reply::CommandError;
use crate::txn::TxnManager;
use crate::txn::release::{InstanceId, StandbyPosition, StandbyPositions};

/// `pg_stat_replication.state`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderState {
    Startup,
    Backup,
    Catchup,
    Streaming,
    Stopping,
}

impl SenderState {
    pub const fn name(self) -> &'static str {
        match self {
            SenderState::Startup => "startup",
            SenderState::Backup => "backup",
            SenderState::Catchup => "catchup",
            SenderState::Streaming => "streaming",
            SenderState::Stopping => "stopping",
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    pub process: ProcessId,
    pub user_oid: u32,
    pub user: String,
    pub application_name: String,
    /// Address and port; `None` for a unix socket.
    pub address: Option<(String, u16)>,
    /// Microseconds since 2000-01-01 UTC.
    pub started_at: i64,
    /// Given by a managed standby in its start-up packet.
    pub instance: Option<InstanceId>,
    pub term: Option<Term>,
}

/// A row of `pg_stat_replication`.
#[derive(Debug, Clone)]
pub struct StandbyRow {
    pub peer: Peer,
    pub state: SenderState,
    pub sent: Lsn,
    pub write: Lsn,
    pub flush: Lsn,
    pub apply: Lsn,
    /// Microseconds from the local flush to the standby's report, as last measured.
    pub write_lag: Option<i64>,
    pub flush_lag: Option<i64>,
    pub apply_lag: Option<i64>,
    /// Microseconds since 2000-01-01 UTC; 0: none yet.
    pub replied_at: i64,
    /// Of the stream that is running, or was last.
    pub timeline: Option<TimelineId>,
}

/// The table of walsenders.
pub struct Standbys {
    slots: Mutex<Vec<Option<StandbyRow>>>,
    txns: Arc<TxnManager>,
    changed: watch::Sender<u64>,
}

impl Standbys {
    /// `limit`: `max_wal_senders`.
    pub fn new(limit: usize, txns: Arc<TxnManager>) -> Arc<Standbys> {
        let (changed, _) = watch::channel(0);
        Arc::new(Standbys {
            slots: Mutex::new(vec![None; limit]),
            txns,
            changed,
        })
    }

    /// Takes a slot; refused with PostgreSQL's words where all are taken.
    pub fn register(self: &Arc<Self>, peer: Peer) -> Result<Registration, CommandError> {
        let mut slots = self.slots.lock();
        let free = slots.iter().position(Option::is_none).ok_or_else(|| {
            CommandError::new(
                "53300",
                format!(
                    "number of requested standby connections exceeds max_wal_senders (currently {})",
                    slots.len()
                ),
            )
        })?;
        slots[free] = Some(StandbyRow {
            peer,
            state: SenderState::Startup,
            sent: Lsn::INVALID,
            write: Lsn::INVALID,
            flush: Lsn::INVALID,
            apply: Lsn::INVALID,
            write_lag: None,
            flush_lag: None,
            apply_lag: None,
            replied_at: 0,
            timeline: None,
        });
        Ok(Registration {
            standbys: Arc::clone(self),
            slot: free,
        })
    }

    pub fn rows(&self) -> Vec<StandbyRow> {
        self.slots.lock().iter().flatten().cloned().collect()
    }

    /// Counts up whenever a position or a state changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn positions_moved(&self) {
        self.txns.release().advance_standbys(self);
        self.changed.send_modify(|n| *n += 1);
    }

    /// By a report of this member, or of whoever is none.
    fn reported(&self, by: Option<(InstanceId, Term)>) {
        match by {
            Some(member) => self.txns.release().hear(member, self),
            None => self.txns.release().advance_standbys(self),
        }
        self.changed.send_modify(|n| *n += 1);
    }
}

impl StandbyPositions for Standbys {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition)) {
        let positions: Vec<StandbyPosition> = {
            let slots = self.slots.lock();
            slots
                .iter()
                .flatten()
                .filter(|row| row.streams())
                .map(StandbyRow::position)
                .collect()
        };
        positions.iter().for_each(visit);
    }
}

impl StandbyRow {
    fn streams(&self) -> bool {
        matches!(self.state, SenderState::Streaming | SenderState::Stopping)
            && self.flush.is_valid()
    }

    /// The managed copy that follows this server in a term of its own, and that term.
    fn member(&self) -> Option<(InstanceId, Term)> {
        // A term's timeline is its own: what is streamed of an older one says nothing about the newer's log.
        let term = self.peer.term.unwrap_or_default();
        let own = self.timeline.is_some_and(|t| t.raw() == term.raw());
        let instance = self.peer.instance.clone().filter(|_| own);
        instance.map(|instance| (instance, term))
    }

    pub fn position(&self) -> StandbyPosition {
        StandbyPosition {
            application_name: self.peer.application_name.clone(),
            instance: self.member().map(|(instance, _)| instance),
            term: self.peer.term.unwrap_or_default(),
            write: self.write,
            flush: self.flush,
            apply: self.apply,
        }
    }
}

/// One walsender's slot; given back when dropped.
pub struct Registration {
    standbys: Arc<Standbys>,
    slot: usize,
}

impl Registration {
    fn update<T>(&self, change: impl FnOnce(&mut StandbyRow) -> T) -> T {
        let mut slots = self.standbys.slots.lock();
        change(
            slots[self.slot]
                .as_mut()
                .expect("the slot is ours until we drop"),
        )
    }

    /// The session that streams.
    pub fn process(&self) -> ProcessId {
        let slots = self.standbys.slots.lock();
        let row = slots[self.slot].as_ref();
        row.expect("the slot is ours until we drop").peer.process
    }

    /// The sender runs.
    pub fn looks(&self) {
        let release = self.standbys.txns.release();
        release.standstills.look(std::time::Instant::now());
    }

    pub fn set_state(&self, state: SenderState) {
        self.update(|row| row.state = state);
        self.standbys.positions_moved();
    }

    /// A stream of `timeline` begins; what an earlier one on this connection reported is over.
    pub fn begin_stream(&self, timeline: TimelineId, start: Lsn) {
        self.update(|row| {
            row.timeline = Some(timeline);
            row.sent = start;
            (row.write, row.flush, row.apply) = (Lsn::INVALID, Lsn::INVALID, Lsn::INVALID);
        });
    }

    pub fn set_sent(&self, sent: Lsn) {
        self.update(|row| row.sent = sent);
    }

    /// Takes over what a status message says, which was said just now.
    pub fn reported(&self, write: Lsn, flush: Lsn, apply: Lsn, at: i64, lags: Lags) {
        let by = self.update(|row| {
            row.write = write;
            row.flush = flush;
            row.apply = apply;
            row.replied_at = at;
            row.write_lag = lags.write.or(row.write_lag);
            row.flush_lag = lags.flush.or(row.flush_lag);
            row.apply_lag = lags.apply.or(row.apply_lag);
            row.member()
        });
        self.standbys.reported(by);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.standbys.slots.lock()[self.slot] = None;
        self.standbys.positions_moved();
    }
}

/// Microseconds; `None` where this report measured nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lags {
    pub write: Option<i64>,
    pub flush: Option<i64>,
    pub apply: Option<i64>,
}

/// Remembers when positions were flushed here, to tell how long a standby took to reach them.
///
/// Bounded: where a standby is far behind, samples are thinned and the lag is as coarse as what is left.
#[derive(Debug, Default)]
pub struct LagTracker {
    samples: std::collections::VecDeque<(Lsn, i64)>,
    write: Lsn,
    flush: Lsn,
}

impl LagTracker {
    const MOST: usize = 1024;

    pub fn sent(&mut self, upto: Lsn, now: i64) {
        if self.samples.back().is_none_or(|(lsn, _)| *lsn < upto) {
            if self.samples.len() == Self::MOST {
                let mut keep = false;
                self.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            self.samples.push_back((upto, now));
        }
    }

    /// What a report measures, and forgets the samples that nothing waits for any more.
    pub fn reported(&mut self, write: Lsn, flush: Lsn, apply: Lsn, now: i64) -> Lags {
        let newest = |reached: Lsn, before: Lsn| {
            let at = self.samples.iter().rev().find(|(lsn, _)| *lsn <= reached);
            at.filter(|(lsn, _)| *lsn > before)
                .map(|(_, sent)| (now - sent).max(0))
        };
        let lags = Lags {
            write: newest(write, self.write),
            flush: newest(flush, self.flush),
            apply: newest(apply, Lsn::INVALID),
        };
        (self.write, self.flush) = (write, flush);
        while self.samples.front().is_some_and(|(lsn, _)| *lsn <= apply) {
            self.samples.pop_front();
        }
        lags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_time_from_sending_to_the_report() {
        let at = Lsn::new;
        let mut lag = LagTracker::default();
        lag.sent(at(100), 1_000);
        lag.sent(at(200), 2_000);
        let first = lag.reported(at(200), at(100), Lsn::INVALID, 5_000);
        assert_eq!(
            first,
            Lags {
                write: Some(3_000),
                flush: Some(4_000),
                apply: None
            }
        );
        let second = lag.reported(at(200), at(200), at(200), 6_000);
        assert_eq!(
            second,
            Lags {
                write: None,
                flush: Some(4_000),
                apply: Some(4_000)
            }
        );
        assert_eq!(
            lag.reported(at(200), at(200), at(200), 9_000),
            Lags::default()
        );
    }

    #[test]
    fn samples_are_bounded() {
        let mut lag = LagTracker::default();
        for n in 1..100_000 {
            lag.sent(Lsn::new(n), 0);
        }
        assert!(lag.samples.len() <= LagTracker::MOST);
    }
}
