//! What a supervisor says of itself and its engine: the status that every call is answered with and the operator watches.

use std::time::Instant;

use tokio::sync::watch;

use super::engine::Engine;
use super::supervisor::Supervisor;
use crate::api::{SupervisorState, SupervisorStatus};
use crate::ids::{Millis, Term};

/// A status, and when it was made: whoever passes it on adds the time since.
#[derive(Clone, Debug)]
pub struct Published {
    pub status: SupervisorStatus,
    pub at: Instant,
}

impl Supervisor {
    pub(super) fn publish(&mut self) {
        let now = Instant::now();
        let milliseconds = |since: Instant| {
            u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX)
        };
        let duty = self.duty_report();
        let stalled = u64::try_from(duty.stalled.as_millis()).unwrap_or(u64::MAX);
        let silent = if self.engine.is_some() {
            milliseconds(self.answered_at).max(stalled)
        } else {
            0
        };
        let said = self.message.iter().cloned().chain(self.stuck_replay());
        let said = said.chain(self.confirming.complaint());
        let said = said.chain(duty.complaints);
        let message = said.reduce(|all, more| format!("{all}; {more}"));
        let serial = self.out.borrow().status.serial + 1;
        let mut engine = self.status.clone();
        if let Some(engine) = &mut engine {
            engine.grow_older(milliseconds(self.answered_at));
        }
        let status = SupervisorStatus {
            cluster_id: self.setup.cluster_id.clone(),
            name: self.setup.name.clone(),
            instance_id: Some(self.promise.instance_id.clone()),
            system_id: self.promise.system_id.clone(),
            promised_term: self.promise.promised_term,
            sealed: self.promise.sealed,
            set: self.promise.set.clone(),
            state: self.state,
            supervisor_pid: std::process::id(),
            engine_pid: self.engine.as_ref().map(Engine::pid),
            port: self.setup.port,
            crashes: u32::try_from(self.crashes.len()).unwrap_or(u32::MAX),
            // At least 1: zero says that it is not down.
            down_ms: self
                .down_since
                .map_or(0, |since| milliseconds(since).max(1)),
            engine_silent_ms: silent,
            seeding: self.seeding_report(),
            engine,
            message,
            began_at: self.began_at,
            serial,
            pod_uid: duty.pod_uid,
            generation: duty.generation,
            pending_restart: duty.pending_restart,
            refused_settings: duty.refused_settings,
            volume_full: duty.volume_full,
            bootstrap: duty.bootstrap,
            leaving: duty.is_leaving,
            gave_way: self.gave_way(),
        };
        self.out.send_replace(Published { status, at: now });
    }

    /// By the engine's own judgement: only it can tell a whole record from the beginning of one.
    fn stuck_replay(&self) -> Option<String> {
        let status = self.status.as_ref().filter(|s| s.replay_stuck)?;
        let at = status.replay_lsn.unwrap_or_default();
        Some(format!(
            "replay stands still at {at} although there is more to replay; end the query that holds it up, or look into \
             the engine's log"
        ))
    }
}

/// For the status of a supervisor that begins now.
pub fn nobody_yet() -> watch::Sender<Published> {
    let status = SupervisorStatus {
        began_at: Millis::now(),
        ..empty_status()
    };
    let at = Instant::now();
    watch::channel(Published { status, at }).0
}

pub fn empty_status() -> SupervisorStatus {
    SupervisorStatus {
        cluster_id: String::new(),
        name: String::new(),
        instance_id: None,
        system_id: None,
        promised_term: Term::default(),
        sealed: false,
        set: None,
        state: SupervisorState::Starting,
        supervisor_pid: 0,
        engine_pid: None,
        port: 0,
        crashes: 0,
        down_ms: 0,
        engine_silent_ms: 0,
        seeding: None,
        engine: None,
        message: None,
        began_at: Millis::default(),
        serial: 0,
        pod_uid: None,
        generation: 0,
        pending_restart: false,
        refused_settings: None,
        volume_full: None,
        bootstrap: None,
        leaving: false,
        gave_way: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::supervisor::tests::supervisor;

    #[test]
    fn replay_that_does_not_move_is_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        let hear = |supervisor: &mut Supervisor, is_stuck: bool| {
            // Behind what is flushed it is in both cases: the end of that may be no whole record.
            let status = serde_json::json!({
                "system_id": "7", "role": "standby", "timeline": 1, "consistent": true,
                "flush_lsn": "0/30", "replay_lsn": "0/10", "replay_stuck": is_stuck,
            });
            supervisor.heard(serde_json::from_value(status).expect("reads"));
        };
        assert_eq!(supervisor.stuck_replay(), None);
        hear(&mut supervisor, false);
        assert_eq!(supervisor.stuck_replay(), None);
        hear(&mut supervisor, true);
        let said = supervisor.stuck_replay().expect("it stands");
        assert!(said.contains("0/10"), "{said}");
        supervisor.publish();
        let told = supervisor.subscribe().borrow().status.message.clone();
        assert!(told.is_some_and(|told| told.contains(&said)));
        hear(&mut supervisor, false);
        assert_eq!(supervisor.stuck_replay(), None, "it moves");
    }
}
