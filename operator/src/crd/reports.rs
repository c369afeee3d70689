//! The rest of `status`: what people and tools read. Nothing here decides anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InSyncSet, Member, Phase, Record, RoleChange, TimelineFork};
use crate::ids::{InstanceId, Lsn, Millis, Term};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// A statement about the cluster, in the form that `kubectl wait` understands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Progressing`, `Degraded` or `Protected`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: String,
    pub status: ConditionStatus,
    #[schemars(length(max = 128))]
    pub reason: String,
    #[schemars(length(max = 1024))]
    pub message: String,
    pub observed_generation: i64,
    #[schemars(length(max = 32))]
    pub last_transition_time: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum InstanceRole {
    Primary,
    Standby,
    /// Promised a term and waits to be told whom to follow.
    Sealed,
    Seeding,
    Starting,
    Lost,
}

/// How far a standby is behind, in steps so wide that a busy primary does not change them all the time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum LagClass {
    /// At most 16 MiB: it could take over without a wait.
    Near,
    /// At most 1 GiB.
    Behind,
    /// More than 1 GiB.
    Far,
}

impl LagClass {
    pub fn of(bytes: u64) -> LagClass {
        match bytes {
            0..=0x100_0000 => LagClass::Near,
            0x100_0001..=0x4000_0000 => LagClass::Behind,
            _ => LagClass::Far,
        }
    }
}

/// One instance as it was last seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReport {
    #[schemars(length(max = 63))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    pub role: InstanceRole,
    pub ready: bool,
    pub in_sync: bool,
    /// The node that its pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// How far it was behind the primary when it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Term>,
    /// The last log position that was durable here when another field of this status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_lsn: Option<Lsn>,
    /// The last log position that was replayed here when another field of this status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_lsn: Option<Lsn>,
    /// Bytes that the primary had flushed and this standby had not, when another field last changed; see `/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// Local mode: the supervisor's and the engine's process, and the engine's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A finished change of role. Times are milliseconds since 1970.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRoleChange {
    #[schemars(length(max = 256))]
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub old: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_id: Option<InstanceId>,
    #[schemars(length(max = 63))]
    pub new: String,
    pub term: Term,
    pub detected_at: Millis,
    pub promoted_at: Millis,
    /// When the new primary could acknowledge its first commit.
    pub writable_at: Millis,
    pub seconds: f64,
    /// Log that the old primary had flushed and the new one never had, acknowledged or not; null until the
    /// old primary has been seen.
    pub lost_bytes: Option<u64>,
    #[serde(default)]
    pub forced: bool,
}

/// A request that was answered, and how. Object and status can't be written in one, so it stands here before its
/// annotation goes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HandledRequest {
    #[schemars(length(max = 256))]
    pub annotation: String,
    #[schemars(length(max = 1024))]
    pub text: String,
    /// The reason of the event that answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub at: Option<String>,
    /// Its annotation is gone; the same text asks anew.
    #[serde(default)]
    pub done: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedClusterStatus {
    /// The record; see `record.rs`. Its parts stand here by themselves, so that `.status.term` is a path.
    #[serde(default)]
    pub record_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Member>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Member>,
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub in_sync: Vec<InSyncSet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub system_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RoleChange>,
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub forks: Vec<TimelineFork>,

    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub observed_generation: i64,
    /// The pod that accepts writes; in local mode the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub current_primary: Option<String>,
    /// Instances that are ready, and how many are wanted: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub instances_ready: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Term>,
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub instances: Vec<InstanceReport>,
    #[serde(default)]
    pub ready_instances: u32,
    /// Standbys, for the scale sub-resource.
    #[serde(default)]
    pub replicas: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastRoleChange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switchover: Option<LastRoleChange>,
    /// The last request of each kind that was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub handled_requests: Vec<HandledRequest>,
}

impl ReplicatedClusterStatus {
    /// Counts the instances that are ready, of `wanted`.
    pub fn count_ready(&mut self, wanted: usize) {
        let ready = self.instances.iter().filter(|i| i.ready).count();
        self.ready_instances = u32::try_from(ready).unwrap_or(u32::MAX);
        self.instances_ready = Some(format!("{ready}/{wanted}"));
    }

    /// None until a record was made.
    pub fn record(&self) -> Option<Record> {
        Some(Record {
            record_version: Some(self.record_version).filter(|version| *version > 0)?,
            term: self.term?,
            phase: self.phase?,
            primary: self.primary.clone(),
            candidate: self.candidate.clone(),
            in_sync: self.in_sync.clone(),
            system_id: self.system_id.clone(),
            change: self.change.clone(),
            forks: self.forks.clone(),
        })
    }
    pub fn set_record(&mut self, record: Record) {
        self.record_version = record.record_version;
        self.term = Some(record.term);
        self.phase = Some(record.phase);
        self.primary = record.primary;
        self.candidate = record.candidate;
        self.in_sync = record.in_sync;
        self.system_id = record.system_id;
        self.change = record.change;
        self.forks = record.forks;
    }
}
