//! The supervisor's `GET /status` and the bodies of its control calls.

use serde::{Deserialize, Serialize};

use super::{EngineSet, EngineStatus};
use crate::ids::{InstanceId, Millis, Term};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SupervisorState {
    /// There is no complete data directory yet.
    Seeding,
    /// The data was a primary's: it starts when the record says so.
    Waiting,
    /// The engine was started and does not answer yet.
    Starting,
    Running,
    /// The engine ended unasked and is being started again.
    Restarting,
    Stopping,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SeedingReport {
    pub attempts: u32,
    pub error: Option<String>,
    /// It waits a moment to be told whom to copy. False from a supervisor that does not ask yet.
    #[serde(default)]
    pub asks: bool,
    /// The standby that is being copied. None where it is the primary, or nobody.
    #[serde(default)]
    pub source: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SupervisorStatus {
    pub cluster_id: String,
    pub name: String,
    /// The promise, as it is on disk.
    pub instance_id: Option<InstanceId>,
    pub system_id: Option<String>,
    pub promised_term: Term,
    pub sealed: bool,
    pub set: Option<EngineSet>,
    pub state: SupervisorState,
    pub supervisor_pid: u32,
    pub engine_pid: Option<u32>,
    pub port: u16,
    /// Crashes of the engine within the last five minutes.
    pub crashes: u32,
    /// Since the engine ended unasked, until it answers again.
    pub down_ms: u64,
    /// Since a running engine last answered, or its supervisor's loop went round.
    pub engine_silent_ms: u64,
    pub seeding: Option<SeedingReport>,
    pub engine: Option<EngineStatus>,
    pub message: Option<String>,
    /// When this process began, milliseconds: in a container each has the same id.
    #[serde(default)]
    pub began_at: Millis,
    /// Rises with each status that this process (`began_at`) makes: answers and streams arrive in any order, and whoever
    /// puts them together keeps the newest. 0 from a supervisor that does not count yet.
    #[serde(default)]
    pub serial: u64,
    /// On Kubernetes: the pod that this process is in.
    #[serde(default)]
    pub pod_uid: Option<String>,
    /// The generation of the cluster object whose settings the engine was given.
    #[serde(default)]
    pub generation: i64,
    /// Some of these settings need a restart of the engine that it has not had.
    #[serde(default)]
    pub pending_restart: bool,
    /// Settings of a newer generation that the engine does not take, and why: those before it are in effect.
    #[serde(default)]
    pub refused_settings: Option<String>,
    /// Its volume is so full that transactions may only read: how full, and what to do.
    #[serde(default)]
    pub volume_full: Option<String>,
    /// Whether a primary that takes writes has what `spec.bootstrap` asks for. None from everybody else, and from supervisors
    /// that do not say it yet.
    #[serde(default)]
    pub bootstrap: Option<BootstrapState>,
    /// It was told to end, serves as primary, and waits a while for somebody to take the role over.
    #[serde(default)]
    pub leaving: bool,
    /// Its engine is a former primary's and has left its port to whoever passes clients on to the new one: nobody who wants
    /// a standby finds one there.
    #[serde(default)]
    pub gave_way: bool,
}

/// Where the roles, passwords, database and SQL of `spec.bootstrap` stand.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapState {
    /// They are being made, or looked at for the first time since this instance is primary.
    Pending,
    /// The last attempt failed, in the server's words; it is tried again.
    Failed {
        error: String,
    },
    Done,
}

impl SupervisorStatus {
    /// Whether the same process made `other` later than this.
    pub fn is_older_than(&self, other: &SupervisorStatus) -> bool {
        self.began_at == other.began_at && self.serial < other.serial
    }

    /// Whether this is `other`, told once more. Of a supervisor that does not count nobody knows.
    pub fn is_same_as(&self, other: &SupervisorStatus) -> bool {
        let counts = self.serial > 0;
        counts && (self.began_at, self.serial) == (other.began_at, other.serial)
    }

    /// Without what moves by itself: two equal values need no new look.
    #[must_use]
    pub fn without_positions(&self) -> SupervisorStatus {
        let mut quiet = self.clone();
        quiet.serial = 0;
        quiet.down_ms = 0;
        quiet.engine_silent_ms = 0;
        quiet.engine = self.engine.as_ref().map(EngineStatus::without_positions);
        quiet
    }
}

/// Promise `term`: follow nobody, accept nothing of a lower one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealRequest {
    pub term: Term,
}

/// As seal, but a primary first closes writes and ships its shutdown checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DemoteRequest {
    pub term: Term,
    pub within_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromoteRequest {
    pub term: Term,
    pub candidate: InstanceId,
    pub set: EngineSet,
}

/// The set to count by; also the record's word that this copy still is the primary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetRequest {
    pub term: Term,
    pub id: InstanceId,
    pub set: EngineSet,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FollowRequest {
    pub term: Term,
    pub id: InstanceId,
    /// Where the primary of that term is, so that nobody waits for the Service to lead there. None in local mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// Whom one that has no data is to copy; none: the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SeedSource>,
}

/// A standby that can be copied: the name that its certificate has where there are certificates, and where it listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SeedSource {
    pub instance: String,
    pub host: String,
    pub address: std::net::IpAddr,
    pub port: u16,
}

/// The pod of a primary: the name that its certificate has, and the address that the name will have.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Upstream {
    pub host: String,
    pub address: std::net::IpAddr,
}

/// Give up the copy `id` and seed anew, under a new id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReseedRequest {
    pub term: Term,
    pub id: InstanceId,
}

/// Stop and start the engine of this copy in place, for settings that count from a start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestartRequest {
    pub term: Term,
    pub id: InstanceId,
}

/// Why a call was not obeyed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
    pub promised_term: Term,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operators and supervisors are not updated at one time.
    #[test]
    fn an_older_partner_says_nothing_of_sources() {
        let told: FollowRequest =
            serde_json::from_str(r#"{"term": 3, "id": "i"}"#).expect("an older operator's");
        assert_eq!((told.upstream.as_ref(), told.source.as_ref()), (None, None));
        let text = serde_json::to_string(&told).expect("JSON");
        assert!(!text.contains("source"), "{text}");
        let said: SeedingReport =
            serde_json::from_str(r#"{"attempts": 2, "error": null}"#).expect("an older one's");
        assert!(!said.asks && said.source.is_none());
    }
}
