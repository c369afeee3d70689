//! What `/status` and `/metrics` say. Local knowledge only; nothing here waits or writes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::recovery_conf::RecoveryMode;
use crate::ids::{Lsn, Term};
use crate::instance::Instance;
use crate::node::managed::Managed;
use crate::node::managed::position::{self, End, LogEnd};
use crate::node::managed::standstill::Standstill;
use crate::recovery::Phase;
use crate::replication::receiver::State as ReceiverState;
use crate::replication::standbys::StandbyRow;
use crate::sql::session::Backends;
use crate::sql::session::backends::BackendKind;
use crate::txn::ReleasePolicy;

/// When this process became a primary and when it could acknowledge first; Unix milliseconds, 0 for not yet.
#[derive(Default)]
pub struct Milestones {
    promoted_at_ms: AtomicU64,
    writable_at_ms: AtomicU64,
}

impl Milestones {
    pub fn promoted(&self) {
        self.promoted_at_ms.store(now_ms(), Ordering::Relaxed);
    }
    pub fn writable(&self) {
        self.writable_at_ms.store(now_ms(), Ordering::Relaxed);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

pub struct Reporter {
    pub instance: Arc<Instance>,
    pub backends: Arc<Backends>,
    pub managed: Option<Arc<Managed>>,
    pub milestones: Arc<Milestones>,
    pub log_end: LogEnd,
    pub standstill: Standstill,
}

/// One look at what moves.
struct Look {
    phase: Phase,
    is_standby: bool,
    sealed: bool,
    end: Option<End>,
    write: Lsn,
}

impl Reporter {
    /// Reads one record at most. To be called every second or so while a log is replayed.
    pub fn look_at_replay(&self) {
        let at = self.instance.state.replay_lsn();
        let has_more = self.log_end.has_next(at);
        self.standstill.note(at, has_more, Instant::now());
    }

    /// Where a standby's replay stands still although it has more to replay.
    pub fn stuck_at(&self) -> Option<Lsn> {
        let state = &self.instance.state;
        let at = state.replay_lsn();
        let stuck =
            state.phase() == Phase::Consistent && self.standstill.is_stuck(at, Instant::now());
        stuck.then_some(at)
    }

    fn look(&self) -> Look {
        let instance = &self.instance;
        let phase = instance.state.phase();
        let writing = phase == Phase::Writing;
        let asked = instance.settings.recovery_request().mode;
        let sealed = self.managed.as_ref().is_some_and(|m| m.is_sealed());
        let wal = &instance.store.wal;
        let end = match (writing, sealed) {
            (true, _) => Some(End {
                lsn: wal.flush_lsn(),
                timeline: wal.timeline(),
            }),
            (false, true) => self.log_end.at_rest(),
            (false, false) => self.log_end.growing(),
        };
        let received = instance
            .receiver
            .as_ref()
            .map(|r| r.progress().borrow().written);
        Look {
            phase,
            is_standby: !writing && asked != RecoveryMode::None,
            sealed,
            end,
            write: if writing {
                wal.write_lsn()
            } else {
                received
                    .unwrap_or_default()
                    .max(instance.state.replay_lsn())
            },
        }
    }

    /// ARCHITECTURE.md has the fields.
    pub fn status(&self) -> Value {
        let instance = &self.instance;
        let release = instance.txns.release();
        let look = self.look();
        let writing = look.phase == Phase::Writing;
        let control = instance.store.control.get();
        let timeline = look
            .end
            .map_or_else(|| position::own_timeline(&control), |end| end.timeline);
        let fork = instance
            .store
            .wal
            .history()
            .and_then(|history| position::fork_of(&history, timeline));
        let managed = self.managed.as_deref();
        let held = release.held();
        let milestone = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|ms| *ms != 0);
        json!({
            "system_id": instance.system_id.to_string(),
            "instance_id": instance.settings.current().instance_id,
            "role": if look.is_standby { "standby" } else { "primary" },
            "in_recovery": !writing,
            "consistent": look.phase >= Phase::Consistent,
            "writable": writing && release.is_open() && held.is_none(),
            "held": held,
            "timeline": timeline.raw(),
            "insert_lsn": writing.then(|| shown(instance.store.wal.insert_lsn())),
            "write_lsn": valid(look.write),
            "flush_lsn": look.end.and_then(|end| valid(end.lsn)),
            "replay_lsn": valid(instance.state.replay_lsn()),
            "replay_stuck": self.stuck_at().is_some(),
            "released_lsn": valid(release.released_lsn()),
            "end_of_recovery_lsn": valid(instance.state.end_of_recovery()),
            "promised_term": managed.map(|m| m.promised_term().raw()),
            "sealed": look.sealed,
            "primary_term": managed.and_then(Managed::primary_term).filter(|_| writing).map(Term::raw),
            "set": set(&release.policy()).filter(|_| writing),
            "set_caught_up": writing && is_set(&release.policy()) && release.caught_up(),
            "promoted_at_ms": milestone(&self.milestones.promoted_at_ms),
            "writable_at_ms": milestone(&self.milestones.writable_at_ms),
            "receiver": self.receiver(look.is_standby),
            "standbys": self.standbys(),
            "fork": fork.map(|(parent, lsn)| json!({ "timeline": parent.raw(), "lsn": shown(lsn) })),
        })
    }

    fn receiver(&self, is_standby: bool) -> Value {
        let Some(receiver) = self.instance.receiver.as_ref().filter(|_| is_standby) else {
            return Value::Null;
        };
        let progress = receiver.progress();
        let progress = progress.borrow();
        let sealed = self.managed.as_ref().is_some_and(|m| m.is_sealed());
        let state = match progress.state {
            ReceiverState::Streaming => "streaming",
            _ if sealed => "stopped",
            // Between two attempts it is about to connect again.
            _ if self.instance.settings.current().primary_conninfo.is_some() => "connecting",
            _ => "stopped",
        };
        let streams = progress.state == ReceiverState::Streaming;
        let heard = progress.heard_at.filter(|_| streams).map(|at| at.elapsed());
        json!({
            "state": state,
            "upstream_term": progress.upstream_term.map(Term::raw),
            "heard_ms": heard.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            "last_error": progress.last_error,
        })
    }

    fn standbys(&self) -> Vec<Value> {
        let rows = self.instance.standbys.rows();
        let positions: Vec<_> = rows.iter().map(StandbyRow::position).collect();
        let states = self.instance.txns.release().sync_states(&positions);
        let one = |(row, (_, sync)): (&StandbyRow, (u32, crate::txn::release::SyncState))| {
            json!({
                "instance_id": row.peer.instance.as_ref().map(|id| id.as_str()),
                "application_name": row.peer.application_name,
                "term": row.peer.term.map(Term::raw),
                "state": row.state.name(),
                "sent_lsn": valid(row.sent),
                "write_lsn": valid(row.write),
                "flush_lsn": valid(row.flush),
                "replay_lsn": valid(row.apply),
                "sync_state": sync.name(),
            })
        };
        rows.iter().zip(states).map(one).collect()
    }

    /// Prometheus' text format.
    pub fn metrics(&self) -> String {
        let instance = &self.instance;
        let release = instance.txns.release();
        let look = self.look();
        let writing = look.phase == Phase::Writing;
        let (waiting, oldest) = release.waiting();
        let flush = look.end.map_or(Lsn::INVALID, |end| end.lsn);
        let mut out = Metrics::default();
        out.gauge("up", "The server runs.", 1);
        out.gauge("in_recovery", "It replays a log.", u64::from(!writing));
        let open = writing && release.is_open() && release.held().is_none();
        out.gauge("writable", "It can acknowledge commits.", u64::from(open));
        let timeline = look.end.map_or(0, |end| end.timeline.raw());
        out.gauge("timeline", "Of the last record.", timeline.into());
        if let Some(managed) = &self.managed {
            let term = managed.promised_term().raw();
            out.gauge("promised_term", "The highest term promised.", term.into());
            out.gauge("sealed", "It follows nobody.", u64::from(look.sealed));
        }
        out.gauge("wal_write_bytes", "Position written.", look.write.raw());
        out.gauge("wal_flush_bytes", "Position flushed.", flush.raw());
        let replayed = instance.state.replay_lsn().raw();
        out.gauge("wal_replay_bytes", "Position replayed.", replayed);
        let released = release.released_lsn().raw();
        out.gauge(
            "wal_released_bytes",
            "Position that sessions see.",
            released,
        );
        out.gauge(
            "commits_waiting",
            "Commits not yet released.",
            waiting as u64,
        );
        let held = oldest.map_or(0, |lsn| flush.saturating_sub(lsn));
        out.gauge(
            "commits_waiting_bytes",
            "Log behind the oldest of them.",
            held,
        );
        out.head("sessions", "Connections by kind.");
        for (kind, name) in [
            (BackendKind::Client, "client"),
            (BackendKind::WalSender, "walsender"),
        ] {
            let count = self.backends.count(kind) as u64;
            out.sample("sessions", &[("kind", name)], count);
        }
        self.standby_metrics(flush, &mut out);
        out.text
    }

    fn standby_metrics(&self, flush: Lsn, out: &mut Metrics) {
        let rows = self.instance.standbys.rows();
        for (name, help) in [
            (
                "standby_flush_lag_bytes",
                "Log that the standby has not flushed.",
            ),
            (
                "standby_replay_lag_bytes",
                "Log that the standby has not replayed.",
            ),
        ] {
            out.head(name, help);
            for row in &rows {
                let at = if name == "standby_flush_lag_bytes" {
                    row.flush
                } else {
                    row.apply
                };
                let labels = [
                    ("application_name", row.peer.application_name.as_str()),
                    ("state", row.state.name()),
                ];
                out.sample(name, &labels, flush.saturating_sub(at));
            }
        }
    }
}

fn shown(lsn: Lsn) -> String {
    lsn.to_string()
}

fn valid(lsn: Lsn) -> Option<String> {
    lsn.is_valid().then(|| shown(lsn))
}

fn is_set(policy: &ReleasePolicy) -> bool {
    matches!(policy, ReleasePolicy::InSyncSet { .. })
}

fn set(policy: &ReleasePolicy) -> Option<Value> {
    let ReleasePolicy::InSyncSet {
        term,
        counter,
        members,
        required,
    } = policy
    else {
        return None;
    };
    let members: Vec<&str> = members.iter().map(|id| id.as_str()).collect();
    Some(
        json!({ "term": term.raw(), "counter": counter, "members": members, "required": required }),
    )
}

#[derive(Default)]
struct Metrics {
    text: String,
}

impl Metrics {
    fn head(&mut self, name: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "# HELP understudy_{name} {help}");
        let _ = writeln!(self.text, "# TYPE understudy_{name} gauge");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let escaped = |v: &str| {
            v.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(k, v)| format!("{k}=\"{}\"", escaped(v)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "understudy_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_prometheus_text() {
        let mut out = Metrics::default();
        out.gauge("up", "The server runs.", 1);
        out.sample("lag", &[("name", "a\"b\\"), ("state", "x")], 7);
        assert_eq!(
            out.text,
            "# HELP understudy_up The server runs.\n# TYPE understudy_up gauge\nunderstudy_up 1\n\
             understudy_lag{name=\"a\\\"b\\\\\",state=\"x\"} 7\n"
        );
    }
}
