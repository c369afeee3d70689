//! `pg_stat_activity`, `pg_stat_ssl`, `pg_stat_replication`, `pg_stat_wal_receiver`, `pg_replication_slots`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::relation::Relation;
use crate::catalog::rights::{Holder, READ_ALL_STATS};
use crate::ids::{Lsn, Oid, ProcessId};
use crate::replication::receiver::State;
use crate::replication::standbys::StandbyRow;
use crate::sql::error::SqlError;
use crate::sql::pg_catalog::SystemTables;
use crate::sql::pg_catalog::row::{RowBuilder, Timestamp};
use crate::sql::session::Backend;
use crate::sql::session::backends::BackendKind;
use crate::txn::release::SyncState;
use crate::txn::{LockTag, ReleasePolicy};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

/// Whose sessions the asker is shown whole.
struct VisibleSessions {
    all: bool,
    roles: Vec<Oid>,
}

impl VisibleSessions {
    fn shows(&self, backend: &Backend) -> bool {
        self.all || self.roles.contains(&backend.user)
    }
}

impl SystemTables {
    fn visible_sessions(&self) -> Result<VisibleSessions, TypeError> {
        self.env.with_catalog(|catalog| {
            let me = Holder::asker(catalog)?;
            Ok(VisibleSessions {
                all: me.acts_as(READ_ALL_STATS)?,
                roles: me.inherits_from()?.to_vec(),
            })
        })
    }

    pub(super) fn activity(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut row = RowBuilder::new(relation);
        let visible = self.visible_sessions()?;
        let all = self.env.backends.all();
        let transactions = self.env.instance.txns.activity();
        let waits: HashMap<ProcessId, LockTag> = transactions
            .iter()
            .filter_map(|t| t.waits_for.map(|(tag, _)| (t.pid, tag)))
            .collect();
        let rows = all.iter().map(|backend| {
            let wait = waits.get(&backend.pid);
            activity_row(&mut row, backend, wait, visible.shows(backend))
        });
        Ok(rows.collect())
    }

    /// `pg_stat_ssl`: every session that the asker may know of, encrypted or not.
    pub(super) fn encryption(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut row = RowBuilder::new(relation);
        let visible = self.visible_sessions()?;
        let all = self.env.backends.all();
        let rows = all.iter().filter(|backend| visible.shows(backend));
        Ok(rows
            .map(|backend| encryption_row(&mut row, backend))
            .collect())
    }

    pub(super) fn replication(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut row = RowBuilder::new(relation);
        let sees_all = self.env.acts_as(READ_ALL_STATS)?;
        let standbys = self.env.instance.standbys.rows();
        let positions: Vec<_> = standbys.iter().map(StandbyRow::position).collect();
        let states: Vec<(u32, SyncState)> = match self.env.instance.txns.release().policy() {
            ReleasePolicy::Names(names) => names.states(&positions),
            ReleasePolicy::InSyncSet { members, .. } => positions
                .iter()
                .map(|p| match &p.instance {
                    Some(id) if members.contains(id) => (1, SyncState::Quorum),
                    _ => (0, SyncState::Async),
                })
                .collect(),
            ReleasePolicy::Local | ReleasePolicy::Closed => {
                positions.iter().map(|_| (0, SyncState::Async)).collect()
            }
        };
        let rows = standbys.iter().zip(states).map(|(standby, sync)| {
            let of = sees_all.then_some(sync);
            replication_row(&mut row, standby, of)
        });
        Ok(rows.collect())
    }

    pub(super) fn wal_receiver(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let Some(receiver) = &self.env.instance.receiver else {
            return Ok(Vec::new());
        };
        let progress = receiver.progress().borrow().clone();
        let status = match progress.state {
            State::Stopped | State::Failed => return Ok(Vec::new()),
            State::Connecting => "starting",
            State::Streaming => "streaming",
            State::EndOfTimeline => "waiting",
        };
        let mut row = RowBuilder::new(relation);
        let timeline = i32::try_from(progress.timeline.raw()).unwrap_or(i32::MAX);
        let time = |at: i64| (at != 0).then_some(Datum::TimestampTz(at));
        row.set("pid", own_pid());
        // Others see that there is one.
        if !self.env.acts_as(READ_ALL_STATS)? {
            return Ok(vec![row.take()]);
        }
        row.set("status", status);
        row.set("receive_start_lsn", progress.started_at)
            .set("receive_start_tli", timeline);
        row.set("written_lsn", progress.written)
            .set("flushed_lsn", progress.flushed);
        row.set("received_tli", timeline)
            .set("last_msg_send_time", time(progress.last_sent_at));
        row.set("last_msg_receipt_time", time(progress.last_received_at));
        row.set("latest_end_lsn", progress.latest_end);
        row.set("latest_end_time", time(progress.latest_end_at))
            .set("slot_name", progress.slot);
        let (host, port) = progress.upstream.unzip();
        row.set("sender_host", host)
            .set("sender_port", port.map(i32::from));
        row.set("conninfo", progress.conninfo);
        Ok(vec![row.take()])
    }

    pub(super) fn replication_slots(&self, relation: &Relation) -> Vec<Vec<Datum>> {
        let mut row = RowBuilder::new(relation);
        let slots = self.env.instance.slots.all();
        slots
            .into_iter()
            .map(|slot| {
                row.set("slot_name", slot.name)
                    .set("slot_type", "physical")
                    .set("temporary", true);
                row.set("active", slot.active)
                    .set("restart_lsn", slot.restart);
                let owner = i32::try_from(slot.owner.get()).unwrap_or(i32::MAX);
                row.set("active_pid", slot.active.then_some(owner))
                    .set("two_phase", false);
                let reserved = slot.restart.is_valid().then_some("reserved");
                row.set(
                    "wal_status",
                    if slot.lost { Some("lost") } else { reserved },
                );
                row.take()
            })
            .collect()
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(i32::MAX)
}

fn encryption_row(row: &mut RowBuilder, backend: &Backend) -> Vec<Datum> {
    row.set("pid", i32::try_from(backend.pid.get()).unwrap_or(i32::MAX));
    row.set("ssl", backend.tls.is_some());
    if let Some(tls) = backend.tls.as_deref() {
        row.set("version", tls.protocol)
            .set("cipher", tls.cipher)
            .set("bits", tls.bits);
        if let Some(client) = &tls.client {
            row.set("client_dn", client.subject.clone())
                .set("issuer_dn", client.issuer.clone());
            let serial = Numeric::parse(&client.serial).expect("digits only");
            row.set("client_serial", Datum::Numeric(Arc::new(serial)));
        }
    }
    row.take()
}

fn activity_row(
    row: &mut RowBuilder,
    backend: &Arc<Backend>,
    waits_for: Option<&LockTag>,
    may_see: bool,
) -> Vec<Datum> {
    let activity = backend.activity.lock().shown();
    // What it waits for is shown even of a session that tells nothing of what it does.
    let waits = backend.waits_for_client.load(Ordering::Relaxed);
    let rests = backend.kind == BackendKind::Client && waits;
    row.set(
        "datid",
        backend.database.is_valid().then_some(backend.database),
    );
    row.set(
        "datname",
        backend
            .database
            .is_valid()
            .then(|| backend.database_name.to_string()),
    );
    row.set("pid", i32::try_from(backend.pid.get()).unwrap_or(i32::MAX));
    row.set("usesysid", backend.user)
        .set("usename", backend.user_name.to_string());
    row.set("application_name", activity.application_name.to_string());
    if !may_see {
        row.set("query", "<insufficient privilege>");
        return row.take();
    }
    let client = backend.kind == BackendKind::Client;
    row.set(
        "backend_type",
        if client {
            "client backend"
        } else {
            "walsender"
        },
    );
    row.set("client_addr", backend.remote.map(|a| a.ip().to_string()));
    row.set(
        "client_port",
        backend.remote.map_or(-1, |a| i32::from(a.port())),
    );
    row.set("backend_start", Timestamp(backend.started));
    row.set(
        "xact_start",
        activity.transaction_start.map(Datum::TimestampTz),
    );
    row.set("query_start", activity.query_start.map(Datum::TimestampTz));
    row.set(
        "state_change",
        activity.state_change.map(Datum::TimestampTz),
    );
    let event = match waits_for {
        Some(tag) => Some(("Lock", tag.kind())),
        None => rests.then_some(("Client", "ClientRead")),
    };
    row.set("wait_event_type", event.map(|e| e.0))
        .set("wait_event", event.map(|e| e.1));
    let state = if activity.untracked {
        "disabled"
    } else {
        activity.state.name()
    };
    row.set("state", state).set("query", activity.query.shown());
    row.take()
}

/// Without `sync`: for those who see only who it is.
fn replication_row(
    row: &mut RowBuilder,
    standby: &StandbyRow,
    sync: Option<(u32, SyncState)>,
) -> Vec<Datum> {
    let lag = |micros: Option<i64>| {
        micros.map(|micros| {
            Datum::Interval(Arc::new(Interval {
                micros,
                ..Interval::default()
            }))
        })
    };
    let peer = &standby.peer;
    row.set("pid", i32::try_from(peer.process.get()).unwrap_or(i32::MAX));
    row.set("usesysid", Oid::new(peer.user_oid))
        .set("usename", peer.user.as_str());
    row.set("application_name", peer.application_name.as_str());
    let Some(sync) = sync else {
        return row.take();
    };
    row.set(
        "client_addr",
        peer.address.as_ref().map(|(host, _)| host.as_str()),
    );
    row.set(
        "client_port",
        peer.address
            .as_ref()
            .map_or(-1, |(_, port)| i32::from(*port)),
    );
    row.set("backend_start", Timestamp(peer.started_at))
        .set("state", standby.state.name());
    for (column, lsn) in [
        ("sent_lsn", standby.sent),
        ("write_lsn", standby.write),
        ("flush_lsn", standby.flush),
        ("replay_lsn", standby.apply),
    ] {
        row.set(column, Some(lsn).filter(|lsn: &Lsn| lsn.is_valid()));
    }
    row.set("write_lag", lag(standby.write_lag))
        .set("flush_lag", lag(standby.flush_lag));
    row.set("replay_lag", lag(standby.apply_lag));
    row.set("sync_priority", i32::try_from(sync.0).unwrap_or(i32::MAX));
    row.set(
        "sync_state",
        match sync.1 {
            SyncState::Async => "async",
            SyncState::Potential => "potential",
            SyncState::Sync => "sync",
            SyncState::Quorum => "quorum",
        },
    );
    row.set(
        "reply_time",
        (standby.replied_at != 0).then_some(Datum::TimestampTz(standby.replied_at)),
    );
    row.take()
}
