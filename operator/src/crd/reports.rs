//! The rest of `status`: what people and tools read. Nothing here decides anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InSyncSet, LsnGap, Member, Phase, Record, RoleChange, TimelineFork};
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
    /// Whether it is so.
    pub status: ConditionStatus,
    /// Why, in one word for programs.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, for people, and what is to be done.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The generation of the manifest that this is about.
    pub observed_generation: i64,
    /// Since when `status` is as it is, RFC 3339.
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
    /// About 16 MiB at most: it could take over without a wait.
    Near,
    /// About 1 GiB at most.
    Behind,
    /// More than 1 GiB.
    Far,
}

impl LagClass {
    const NEAR: u64 = 16 << 20;
    const BEHIND: u64 = 1 << 30;

    fn of(bytes: u64) -> LagClass {
        if bytes <= LagClass::NEAR {
            LagClass::Near
        } else if bytes <= LagClass::BEHIND {
            LagClass::Behind
        } else {
            LagClass::Far
        }
    }

    /// The class of a copy that was in `before`: it stays within a quarter of that one's borders, so that a standby which
    /// hovers at one is no reason to write the status again and again.
    pub fn after(before: Option<LagClass>, bytes: u64) -> LagClass {
        let (near, behind) = (LagClass::NEAR, LagClass::BEHIND);
        let stays = match before {
            Some(LagClass::Near) => bytes <= near + near / 4,
            Some(LagClass::Behind) => bytes > near - near / 4 && bytes <= behind + behind / 4,
            Some(LagClass::Far) => bytes > behind - behind / 4,
            None => false,
        };
        let is = LagClass::of(bytes);
        before.filter(|_| stays).unwrap_or(is)
    }
}

/// One instance as it was last seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReport {
    /// The cluster's name with a number; on Kubernetes its StatefulSet's too, and with `-0` its pod's.
    #[schemars(length(max = 63))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    /// What it is or does now.
    pub role: InstanceRole,
    /// It takes writes as the primary, or keeps and shows what the primary has as a standby, and is not about to end.
    pub ready: bool,
    /// It is a member of the newest in-sync set: commits may wait for it, and it may take over.
    pub in_sync: bool,
    /// The node that its pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// How far it was behind the primary when it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagClass>,
    /// The timeline of its log.
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
    /// Local mode: the supervisor's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_pid: Option<u32>,
    /// Local mode: the engine's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_pid: Option<u32>,
    /// Local mode: the engine's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What it says of itself, or Kubernetes of its pod: mostly why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A finished change of role. Times are milliseconds since 1970.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRoleChange {
    /// Why the role went over, in words.
    #[schemars(length(max = 256))]
    pub cause: String,
    /// The instance that was primary before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub old: Option<String>,
    /// The copy of the data that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_id: Option<InstanceId>,
    /// The instance that became primary.
    #[schemars(length(max = 63))]
    pub new: String,
    /// The term in which it is primary.
    pub term: Term,
    /// When the old primary counted as lost, or the switchover began.
    pub detected_at: Millis,
    /// When the new primary was promoted.
    pub promoted_at: Millis,
    /// When the new primary could acknowledge its first commit.
    pub writable_at: Millis,
    /// From `detectedAt` to `writableAt`.
    pub seconds: f64,
    /// Log that the old primary had flushed and the new one never had, acknowledged or not; null until the
    /// old primary has been seen.
    pub lost_bytes: Option<u64>,
    /// Promoted by force: a loss was accepted.
    #[serde(default)]
    pub forced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<LsnGap>,
}

/// A request that was answered, and how. Object and status can't be written in one, so it stands here before its
/// annotation goes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HandledRequest {
    /// The key of the annotation that asked.
    #[schemars(length(max = 256))]
    pub annotation: String,
    /// What the annotation said.
    #[schemars(length(max = 1024))]
    pub text: String,
    /// The reason of the event that answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// And its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it was answered, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub at: Option<String>,
    /// Its annotation is gone; the same text asks anew.
    #[serde(default)]
    pub done: bool,
}

/// What the operator knows and says of the cluster. The record, by which it decides, is a part of it.
// The record's parts (`record.rs`) stand here by themselves, so that `.status.term` is a path.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedClusterStatus {
    /// Raised with each change of the record: of `term`, `phase`, `primary`, `candidate`, `inSync`, `systemId`, `change` and
    /// `forks`.
    #[serde(default)]
    pub record_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The copy of the data that is the primary's; while the role moves, the last one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Member>,
    /// The copy that is to be primary in this term: there is no other one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Member>,
    /// Sets of standbys that a primary may be acknowledging under, oldest first; under the last one it is to act.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub in_sync: Vec<InSyncSet>,
    /// The identity of the database, as its control file has it; copies of another one never count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub system_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RoleChange>,
    /// Where timelines left their parents, oldest first: the history of the primary's.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub forks: Vec<TimelineFork>,

    /// What is so of the cluster, and why.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the manifest that this status is about.
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
    /// The timeline that the primary writes; while the role moves, the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Term>,
    /// The instances that have a volume, in order of their names.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub instances: Vec<InstanceReport>,
    /// The number of those that are ready.
    #[serde(default)]
    pub ready_instances: u32,
    /// Standbys, for the scale sub-resource.
    #[serde(default)]
    pub replicas: u32,
    /// By these labels the standbys' pods are found, for the scale sub-resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// The last failover, or rebuilding of the record, that came to its end. Times are milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastRoleChange>,
    /// The last switchover that came to its end. Times are milliseconds since 1970.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_hovers_at_a_border_stays_what_it_was() {
        const MIB: u64 = 1 << 20;
        let classes = |all: &[u64]| {
            let mut class = None;
            let each = all.iter().map(|mib| {
                class = Some(LagClass::after(class, mib * MIB));
                class
            });
            each.flatten().collect::<Vec<_>>()
        };
        use LagClass::{Behind, Far, Near};
        assert_eq!(classes(&[16, 17, 20, 15, 20]), [Near; 5]);
        assert_eq!(classes(&[17, 16, 13, 17]), [Behind; 4]);
        assert_eq!(classes(&[20, 12, 21]), [Behind, Near, Behind]);
        assert_eq!(classes(&[1025, 1000, 769, 768]), [Far, Far, Far, Behind]);
        assert_eq!(classes(&[1024, 1280, 1281]), [Behind, Behind, Far]);
        assert_eq!(classes(&[0, 2000, 0]), [Near, Far, Near]);
    }
}
