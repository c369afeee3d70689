//! The record: the part of `status` that decides who is primary.
//!
//! Invariants: it is changed by compare-and-swap on `recordVersion` only; `term` never goes down; a term has
//! one candidate for ever; every set that a primary may be acting under is listed in `inSync` until the newest
//! one has everything that was acknowledged under the others. Everything else in `status` is a report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, Lsn, Millis, Term};

/// What a commit waits for, and so what a failover may lose.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Flushed on the primary and on half of the in-sync standbys, rounded up. Nothing acknowledged is lost.
    #[default]
    Quorum,
    /// Flushed on every standby. A missing standby stops writes.
    Strict,
    /// The primary acknowledges alone. A failover may lose the newest commits and says how much.
    Async,
}

/// Where a change of role stands.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// The first instance is being initialised; nobody is primary yet.
    Creating,
    /// `primary` is the primary of `term`.
    Running,
    /// The term was raised; instances are being sealed and asked for their answers.
    FailingOver,
    /// As FailingOver, but the old primary is asked to stop cleanly first.
    SwitchingOver,
    /// `candidate` is recorded and is being promoted.
    Promoting,
}

/// One copy of the data: the instance's name and the id of what is on its volume now.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
pub struct Member {
    /// The instance.
    #[schemars(length(max = 63))]
    pub name: String,
    pub id: InstanceId,
}

/// Orders sets: a rebuilt record is newer than anything of an older term.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
pub struct SetVersion {
    pub term: Term,
    pub counter: u64,
}

/// A set of standbys that the primary `owner` may be acknowledging under.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InSyncSet {
    /// The term in which the set was made.
    pub term: Term,
    /// Numbers the sets of one term.
    pub counter: u64,
    /// The primary that may act under it; absent in a record that was rebuilt from the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Member>,
    /// The standbys that count, ordered.
    #[schemars(length(max = 16))]
    pub members: Vec<Member>,
    /// How many of them must have flushed a commit before it is acknowledged.
    pub required: u32,
    pub durability: Durability,
}

impl InSyncSet {
    pub fn version(&self) -> SetVersion {
        SetVersion {
            term: self.term,
            counter: self.counter,
        }
    }
    pub fn contains(&self, id: &InstanceId) -> bool {
        self.members.iter().any(|m| m.id == *id)
    }
    /// Whether the same answers satisfy it as `other`: of two such sets a failover needs one.
    pub fn asks_as(&self, other: &InSyncSet) -> bool {
        self.owner == other.owner
            && self.members == other.members
            && self.required == other.required
            && self.durability == other.durability
    }

    /// How many members must answer so that every group of `required` members meets them: n - W + 1.
    ///
    /// With W = 0 that is more than there are: only the owner's own answer serves. With more required
    /// than there are members nothing can have been acknowledged, and nobody is needed.
    pub fn answers_needed(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.required as usize)
    }
}

/// Why the role moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ChangeKind {
    Failover,
    Switchover,
    /// The record was rebuilt from the volumes.
    Rebuild,
}

/// The change of role that is under way, from its detection until the new primary can acknowledge.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleChange {
    pub kind: ChangeKind,
    /// Why, in words.
    #[schemars(length(max = 256))]
    pub cause: String,
    /// Who was primary before; absent where nobody was known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Member>,
    /// The instance that a switchover asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// When it began, milliseconds since 1970.
    pub detected_at: Millis,
    /// When a switchover stops waiting for its target, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// An administrator accepted the loss.
    #[serde(default)]
    pub forced: bool,
    /// What the old primary's copy had and the new timeline has not, if that copy is given up before the change is
    /// complete: it is written here first, because afterwards nobody can tell any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<u64>,
    /// What was known of the loss that an administrator accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<LsnGap>,
    /// How many candidates were lost before they were primary.
    #[serde(default)]
    pub lost_candidates: u32,
    /// When the last of them was, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_candidate_at: Option<Millis>,
}

/// What was known when a copy was promoted by force: where its log ends, and how far any other copy was last seen. The
/// others may have had more.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LsnGap {
    /// The end of the promoted copy's log.
    pub promoted_lsn: Lsn,
    /// The farthest that another copy's log was seen to be durable; its distance is the least that was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_lsn: Option<Lsn>,
    /// The instance that had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub last_seen_of: Option<String>,
}

/// Where a timeline left its parent. Together they are the history of the primary's timeline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TimelineFork {
    /// The newer timeline, which is numbered as the term that began it.
    pub timeline: Term,
    /// The one that it left.
    pub parent: Term,
    /// The first position that is not the parent's.
    pub lsn: Lsn,
}

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Raised with each change of the record.
    pub record_version: u64,
    pub term: Term,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Member>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Member>,
    /// Oldest first; the last one is the one that the primary is to act under.
    #[schemars(length(max = 32))]
    pub in_sync: Vec<InSyncSet>,
    /// The identity of the database, as its control file has it; copies of another one never count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub system_id: Option<String>,
    /// Oldest first; the newest [`Record::FORKS_KEPT`] of them.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub forks: Vec<TimelineFork>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RoleChange>,
}

impl Record {
    /// Copies that stand on an older timeline than these know are seeded anew.
    pub const FORKS_KEPT: usize = 64;

    pub fn add_fork(&mut self, fork: TimelineFork) {
        if self.forks.iter().all(|f| f.timeline != fork.timeline) {
            self.forks.push(fork);
            let surplus = self.forks.len().saturating_sub(Record::FORKS_KEPT);
            self.forks.drain(..surplus);
        }
    }

    /// How far `timeline` is also the history of `descendant`: none if it is no ancestor, or too old to know.
    pub fn shared_until(&self, descendant: Term, timeline: Term) -> Option<Lsn> {
        let mut at = descendant;
        // A parent is always older: each round goes down.
        while at > timeline {
            let fork = self
                .forks
                .iter()
                .find(|f| f.timeline == at && f.parent < at)?;
            if fork.parent == timeline {
                return Some(fork.lsn);
            }
            at = fork.parent;
        }
        None
    }

    /// The set that the primary is to act under.
    pub fn newest_set(&self) -> Option<&InSyncSet> {
        self.in_sync.last()
    }
    /// Whether some listed set counts on this copy, as a member or as its primary.
    pub fn counts_on(&self, id: &InstanceId) -> bool {
        let owner = |set: &InSyncSet| set.owner.as_ref().is_some_and(|o| o.id == *id);
        self.in_sync
            .iter()
            .any(|set| set.contains(id) || owner(set))
    }
    pub fn is_primary(&self, id: &InstanceId) -> bool {
        self.primary.as_ref().is_some_and(|p| p.id == *id)
    }
}
