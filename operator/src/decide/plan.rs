//! What to do: the output of [`super::decide`]. Every step may be repeated.

use crate::api::EngineSet;
use crate::crd::{Condition, InstanceReport, LastRoleChange, Record};
use crate::ids::{InstanceId, Term};

/// How a new instance gets its data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// An empty database: for the very first instance only.
    Initdb,
    /// A base backup of a standby, or of the primary.
    Backup,
}

/// Whom an instance copies that has no data yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Giver {
    Primary,
    /// The instance of this name, which follows the primary.
    Standby(String),
}

/// Where the Services lead.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Routes {
    /// Routes made for an older record never replace newer ones.
    pub record_version: u64,
    pub primary: Option<String>,
    pub standbys: Vec<String>,
}

impl Routes {
    pub fn leads_as(&self, other: &Routes) -> bool {
        self.primary == other.primary && self.standbys == other.standbys
    }
}

/// What an instance needs to be as its manifest says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Renewal {
    /// Its engine has settings that count from its next start.
    Engine { term: Term, id: InstanceId },
    /// Its pod is made of another template by now.
    Pod,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Make the volume and start the instance on it.
    Create {
        instance: String,
        seed: Seed,
        term: Term,
    },
    /// Start the process of an instance that has a volume.
    Start {
        instance: String,
    },
    /// End this very process, and wait until it has ended.
    Fence {
        instance: String,
        pid: u32,
        /// It is there and has said nothing new for long.
        hangs: bool,
    },
    Seal {
        instance: String,
        term: Term,
    },
    Demote {
        instance: String,
        term: Term,
        /// For the shutdown checkpoint to reach the standbys; then it is sealed all the same.
        within_ms: u64,
    },
    Promote {
        instance: String,
        term: Term,
        candidate: InstanceId,
        set: EngineSet,
    },
    Set {
        instance: String,
        term: Term,
        id: InstanceId,
        set: EngineSet,
    },
    Follow {
        instance: String,
        term: Term,
        id: InstanceId,
        /// Of one that has no data yet.
        giver: Option<Giver>,
    },
    Reseed {
        instance: String,
        term: Term,
        id: InstanceId,
        why: String,
    },
    /// Stop the instance and set its volume aside.
    Remove {
        instance: String,
    },
    /// Stop the instance, wherever it is and whether it answers or not, and give its volume up.
    Replace {
        instance: String,
    },
    /// Give the instance what its manifest says by now and it can't take while it runs.
    Renew {
        instance: String,
        how: Renewal,
    },
    Route(Routes),
}

impl Step {
    /// The instance that is acted on; the Services have none.
    pub fn instance(&self) -> Option<&str> {
        match self {
            Step::Create { instance, .. }
            | Step::Start { instance }
            | Step::Fence { instance, .. }
            | Step::Seal { instance, .. }
            | Step::Demote { instance, .. }
            | Step::Promote { instance, .. }
            | Step::Set { instance, .. }
            | Step::Follow { instance, .. }
            | Step::Reseed { instance, .. }
            | Step::Renew { instance, .. }
            | Step::Replace { instance }
            | Step::Remove { instance } => Some(instance),
            Step::Route(_) => None,
        }
    }

    /// The standby that is to be copied.
    pub fn giver(&self) -> Option<&str> {
        match self {
            Step::Follow {
                giver: Some(Giver::Standby(name)),
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// What is done, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Create { .. } => "Create",
            Step::Start { .. } => "Start",
            Step::Fence { .. } => "Fence",
            Step::Seal { .. } => "Seal",
            Step::Demote { .. } => "Demote",
            Step::Promote { .. } => "Promote",
            Step::Set { .. } => "Set",
            Step::Follow { .. } => "Follow",
            Step::Reseed { .. } => "Reseed",
            Step::Renew { .. } => "Renew",
            Step::Replace { .. } => "Replace",
            Step::Remove { .. } => "Remove",
            Step::Route(_) => "Route",
        }
    }
}

/// A change of the record, valid only while it has the version that the decision was made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    /// None: there must be no record yet.
    pub expect: Option<u64>,
    pub record: Record,
}

/// Something that people should know, told when the swap or the request it came with is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub reason: &'static str,
    pub warning: bool,
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestKind {
    SwitchoverTo,
    ForcePromote,
    ReplaceInstance,
}

/// A request that is answered and must not be acted on again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub request: RequestKind,
    /// The annotation's text: another one that came meanwhile stays.
    pub text: String,
    pub event: Event,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Taken in order, before the swap; several instances' at the same time.
    pub steps: Vec<Step>,
    pub swap: Option<Swap>,
    pub events: Vec<Event>,
    pub outcomes: Vec<Outcome>,
    /// With `last_transition_time` empty: whoever writes them knows what they were before.
    pub conditions: Vec<Condition>,
    pub instances: Vec<InstanceReport>,
    /// The record's primary accepts writes. One that is about to go does so and is not counted as ready.
    pub serves: bool,
    /// Instances that are not ready, or about to be so, because of a rollout or a switchover: that needs nobody.
    pub on_purpose: Vec<String>,
    pub last_failover: Option<LastRoleChange>,
    pub last_switchover: Option<LastRoleChange>,
    /// What `Ready`, `Progressing` and `Degraded` say while something is in the way.
    pub(super) obstacle: Option<(&'static str, String)>,
}

impl Plan {
    pub(super) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }
    pub(super) fn swap(&mut self, from: Option<&Record>, mut record: Record) {
        let expect = from.map(|r| r.record_version);
        record.record_version = expect.unwrap_or(0) + 1;
        self.swap = Some(Swap { expect, record });
    }
    pub(super) fn event(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Event {
            reason,
            warning: false,
            message: message.into(),
        });
    }
    pub(super) fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Event {
            reason,
            warning: true,
            message: message.into(),
        });
    }
    pub(super) fn obstacle(&mut self, reason: &'static str, message: impl Into<String>) {
        self.obstacle = Some((reason, message.into()));
    }
}
