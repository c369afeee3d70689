//! What the operator sees: the input of [`super::decide`].

use std::collections::BTreeMap;

use super::{Routes, TROUBLE_MS};
use crate::api::{EngineStatus, SupervisorStatus};
use crate::crd::{Condition, InstanceReport, LastRoleChange, Record};
use crate::ids::{InstanceId, Term};

/// Whether an instance's supervisor exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Life {
    /// There is a volume, and its process is known to have ended (or never was started).
    Ended,
    /// Its process is there, or nobody knows.
    Alive,
}

/// One instance that has a volume.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    pub life: Life,
    /// For fencing: the very process that was seen.
    pub pid: Option<u32>,
    /// Since its supervisor was last heard, counted only while the operator itself ran.
    pub silent_ms: u64,
    /// The last status of the process that is alive.
    pub status: Option<SupervisorStatus>,
    /// From the manifest: whoever is silent for so long counts as lost.
    pub lost_after_ms: u64,
    pub upkeep: Upkeep,
}

/// What is to become of an instance's pod, as Kubernetes has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Upkeep {
    /// Its pod is made of another template than the manifest's.
    pub outdated: bool,
    /// The manifest's template was written, and the pod is still the old one.
    pub renewing: bool,
    /// Its pod was made anew of the manifest's template, and has not been ready since.
    pub renewed: bool,
    /// That pod has ended before it was ready, and is tried again.
    pub crashes: bool,
    /// Its node is being drained, or its pod was deleted: it will have to go.
    pub going: bool,
    /// Its pod was deleted and still runs: its kubelet ends it as soon as it hears of that. What stands on a node that is
    /// only cordoned is not: it runs until somebody evicts it.
    pub ending: bool,
    /// It is heard and its pod's object is gone: the pod was deleted by force, and what is in it is killed soon after.
    pub forced: bool,
    /// Why its pod does not run, in Kubernetes' words.
    pub trouble: Option<String>,
    /// For how long there has been some, counted only while the operator itself ran.
    pub trouble_ms: u64,
    /// Why it may not be heard, with what to do. It may run all the same, so nothing is done because of it.
    pub away: Option<String>,
    /// Its supervisor is there, has said nothing new for long, and nobody else would end it. In a pod the kubelet does.
    pub hangs: bool,
}

impl Upkeep {
    /// What keeps the pod from running and did not go by itself.
    pub fn lasting_trouble(&self) -> Option<&str> {
        let lasts = self.trouble_ms >= TROUBLE_MS;
        self.trouble.as_deref().filter(|_| lasts)
    }
    /// From when its template was written until its new pod is ready.
    pub fn is_being_renewed(&self) -> bool {
        self.renewing || self.renewed
    }
    /// Away for its renewal, and back when that has taken its time.
    pub fn comes_back(&self) -> bool {
        self.is_being_renewed() && !self.crashes
    }
}

impl Instance {
    /// Alive, heard lately: its status can be acted on.
    pub fn heard(&self) -> Option<&SupervisorStatus> {
        let fresh = self.life == Life::Alive && !self.is_silent();
        self.status.as_ref().filter(|_| fresh)
    }
    pub fn is_silent(&self) -> bool {
        self.silent_ms >= self.lost_after_ms
    }
    /// Kubernetes can't run its pod as it is made now, and nobody is heard there.
    pub fn cannot_run(&self) -> bool {
        self.heard().is_none() && self.upkeep.lasting_trouble().is_some()
    }
    /// For how long nothing new has come from it or from its engine.
    pub fn silence_ms(&self) -> u64 {
        let engine = self.status.as_ref().map_or(0, |s| s.engine_silent_ms);
        self.silent_ms.max(engine)
    }
    /// Heard, and its engine answers too: a stream that its primary still lists is not the echo of a frozen process.
    pub fn answers(&self) -> bool {
        self.heard()
            .is_some_and(|s| s.engine_silent_ms < self.lost_after_ms)
    }
    /// Why it is about to go, whatever it does until then. It is not ready from then on, as Kubernetes has it of the
    /// endpoints of such a pod: these serve, but nobody is to count on them. What was acknowledged counts on it all the
    /// same, because its copy stays.
    pub fn ending(&self) -> Option<&'static str> {
        if self.upkeep.ending {
            Some("its pod is ending")
        } else if self.upkeep.forced {
            Some("its pod was deleted by force and is about to be killed")
        } else if self.status.as_ref().is_some_and(|s| s.leaving) {
            Some("it was told to end")
        } else {
            None
        }
    }
    pub fn engine(&self) -> Option<&EngineStatus> {
        self.heard().and_then(|status| status.engine.as_ref())
    }
    pub fn id(&self) -> Option<&InstanceId> {
        self.status
            .as_ref()
            .and_then(|status| status.instance_id.as_ref())
    }
    /// Its engine itself says that it streams from the primary of `term`. The primary lists a stream until it has seen its
    /// end, and was heard at another moment: of an engine that was restarted meanwhile it may still tell.
    pub fn receives(&self, term: Term) -> bool {
        let receiver = self.engine().and_then(|e| e.receiver.as_ref());
        receiver.is_some_and(|r| r.streams_from(term))
    }
    /// Follows whoever is primary in `term`, as far as its promise goes.
    pub fn follows(&self, term: Term) -> bool {
        self.heard()
            .is_some_and(|s| s.promised_term == term && !s.sealed && !is_primary(s))
    }
}

fn is_primary(status: &SupervisorStatus) -> bool {
    status
        .engine
        .as_ref()
        .is_some_and(|e| e.role == crate::api::EngineRole::Primary)
}

/// What earlier reports said and later ones go on from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Past {
    pub conditions: Vec<Condition>,
    pub last_failover: Option<LastRoleChange>,
    pub last_switchover: Option<LastRoleChange>,
    /// Those that there were.
    pub instances: Vec<InstanceReport>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    pub record: Option<Record>,
    pub past: Past,
    /// Removed ones whose volumes are kept.
    pub retired: Vec<String>,
    /// Those that have a volume, by name.
    pub instances: BTreeMap<String, Instance>,
    /// Since each copy was last seen streaming from the recorded primary, milliseconds.
    pub unstreamed_ms: BTreeMap<InstanceId, u64>,
    /// For how long each copy has got no further although one and the same engine ran, was heard and followed a primary
    /// that served, milliseconds; or several of one supervisor, each of which ended where the first one did. Whoever was
    /// away has only just begun.
    pub stuck_ms: BTreeMap<InstanceId, u64>,
    /// Where the Services lead now; none if that is unknown.
    pub routes: Option<Routes>,
    /// Whether an instance can and may be ended from outside.
    pub fencing: bool,
}

impl Observed {
    /// The instance that holds the copy `id` now.
    pub fn by_id(&self, id: &InstanceId) -> Option<(&str, &Instance)> {
        self.instances
            .iter()
            .find(|(_, instance)| instance.id() == Some(id))
            .map(|(name, instance)| (name.as_str(), instance))
    }
    pub fn unstreamed(&self, id: &InstanceId) -> u64 {
        self.unstreamed_ms.get(id).copied().unwrap_or(0)
    }
    pub fn stuck(&self, id: &InstanceId) -> u64 {
        self.stuck_ms.get(id).copied().unwrap_or(0)
    }
}
