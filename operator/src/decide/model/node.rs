//! One instance of the model: what is durable, what runs, and how it obeys, as `instance/commands.rs` does.
//!
//! One entry of a log stands for one record; a position is a count of entries. Both explorers use it.

use std::collections::BTreeMap;

use super::mutant::Mutant;
use crate::api::{
    EngineRole, EngineSet, EngineStatus, Fork, Receiver, StandbyStream, SupervisorState,
    SupervisorStatus,
};
use crate::ids::{InstanceId, Lsn, Millis, Term};

pub(super) type Entry = (Term, u32);

/// One instance: what is durable, and what runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) id: InstanceId,
    pub(super) promised: Term,
    pub(super) sealed: bool,
    pub(super) set: Option<EngineSet>,
    /// Empty until seeded.
    pub(super) log: Vec<Entry>,
    pub(super) standby: bool,
    pub(super) up: bool,
    /// A former primary that waits for the record.
    pub(super) waiting: bool,
    /// What the members of the set in effect must have, so that older sets are done with.
    pub(super) owed: usize,
    pub(super) acknowledged: usize,
    pub(super) streams: BTreeMap<InstanceId, (Term, usize)>,
    /// Raised with each start: feedback to an earlier life is lost.
    pub(super) life: u32,
}

impl Node {
    pub(super) fn primary_term(&self) -> Option<Term> {
        let runs = self.up && !self.standby && !self.waiting && !self.log.is_empty();
        runs.then(|| self.log.last().map(|e| e.0)).flatten()
    }

    pub(super) fn fork(&self) -> Option<Fork> {
        let last = self.log.last()?.0;
        let first = self.log.iter().position(|(t, _)| *t == last)?;
        let before = self.log.get(first.checked_sub(1)?)?;
        Some(Fork {
            timeline: before.0,
            lsn: Lsn::new(first as u64),
        })
    }

    /// How far the set in effect has got, none if it can't say.
    pub(super) fn released(&self, mutant: Mutant) -> Option<usize> {
        let term = self.primary_term()?;
        let set = self
            .set
            .as_ref()
            .filter(|s| s.term == term && self.promised == term && !self.sealed)?;
        if set.required == 0 {
            return Some(self.log.len());
        }
        let any_term = mutant == Mutant::StreamUnchecked;
        let mut flushed: Vec<usize> = set
            .members
            .iter()
            .filter_map(|id| self.streams.get(id))
            .filter(|(t, _)| *t == term || any_term)
            .map(|(_, flushed)| *flushed)
            .collect();
        flushed.sort_unstable();
        let nth = flushed.len().checked_sub(set.required as usize)?;
        flushed.get(nth).copied()
    }

    pub(super) fn status(&self, mutant: Mutant) -> SupervisorStatus {
        let state = match (self.log.is_empty(), self.waiting) {
            (true, _) => SupervisorState::Seeding,
            (false, true) => SupervisorState::Waiting,
            (false, false) => SupervisorState::Running,
        };
        SupervisorStatus {
            cluster_id: "c".to_owned(),
            name: self.name.clone(),
            instance_id: Some(self.id.clone()),
            system_id: (!self.log.is_empty()).then(|| "1".to_owned()),
            promised_term: self.promised,
            sealed: self.sealed,
            set: self.set.clone(),
            state,
            supervisor_pid: self.life,
            engine_pid: None,
            port: 0,
            crashes: 0,
            down_ms: 0,
            engine_silent_ms: 0,
            seeding: None,
            engine: (state == SupervisorState::Running).then(|| self.engine(mutant)),
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

    pub(super) fn engine(&self, mutant: Mutant) -> EngineStatus {
        let end = Some(Lsn::new(self.log.len() as u64));
        let released = self.released(mutant);
        let caught_up = released.is_some_and(|r| r >= self.owed) || mutant == Mutant::DropAtOnce;
        let timeline = self.log.last().map(|e| e.0).unwrap_or_default();
        EngineStatus {
            system_id: "1".to_owned(),
            instance_id: Some(self.id.clone()),
            role: if self.standby {
                EngineRole::Standby
            } else {
                EngineRole::Primary
            },
            in_recovery: self.standby,
            consistent: true,
            writable: !self.standby && caught_up,
            held: None,
            timeline: if mutant == Mutant::LengthBeforeTimeline {
                Term::new(1)
            } else {
                timeline
            },
            insert_lsn: end,
            write_lsn: end,
            flush_lsn: end,
            replay_lsn: end,
            replay_stuck: false,
            released_lsn: None,
            end_of_recovery_lsn: None,
            promised_term: Some(self.promised),
            sealed: self.sealed,
            primary_term: self.primary_term(),
            set: self.set.clone().filter(|_| !self.standby),
            set_caught_up: caught_up,
            promoted_at_ms: None,
            writable_at_ms: None,
            receiver: Some(Receiver {
                state: "connecting".to_owned(),
                upstream_term: None,
                heard_ms: None,
                last_error: None,
            }),
            standbys: self
                .streams
                .iter()
                .map(|(id, (term, flushed))| StandbyStream {
                    instance_id: Some(id.clone()),
                    term: Some(*term),
                    state: "streaming".to_owned(),
                    flush_lsn: Some(Lsn::new(*flushed as u64)),
                    ..StandbyStream::default()
                })
                .collect(),
            fork: self.fork(),
        }
    }

    /// The term in which this primary writes, if it does.
    pub(super) fn accepts_writes(&self) -> Option<Term> {
        self.primary_term()
            .filter(|term| self.promised == *term && !self.sealed)
    }

    /// A standby has told this primary how far it has flushed.
    pub(super) fn take_report(&mut self, id: InstanceId, term: Term, flushed: usize) {
        if self.primary_term().is_some() {
            let entry = self.streams.entry(id).or_insert((term, 0));
            if term >= entry.0 {
                *entry = (term, flushed.max(entry.1));
            }
        }
    }

    pub(super) fn restart(&mut self) {
        self.up = true;
        self.life += 1;
        self.streams.clear();
        if self.sealed {
            self.standby = true;
        }
        let alone = self.set.as_ref().is_some_and(|s| s.required == 0);
        self.waiting = !self.standby && self.set.is_some() && alone;
        self.owed = self.log.len();
        self.acknowledged = 0;
    }
}

pub(super) fn seal(node: &mut Node, term: Term) {
    let obeys_already = !node.sealed && node.promised == term;
    if term < node.promised || obeys_already {
        return;
    }
    node.promised = term;
    node.sealed = true;
    if !node.standby || node.waiting {
        node.life += 1;
        node.streams.clear();
    }
    node.standby = true;
    node.waiting = false;
}

pub(super) fn promote(
    node: &mut Node,
    term: Term,
    candidate: &InstanceId,
    set: &EngineSet,
    mutant: Mutant,
    value: u32,
) {
    let promised = node.promised == term || mutant == Mutant::PromoteUnpromised;
    let older = node.set.as_ref().map(EngineSet::version) > Some(set.version());
    if node.id != *candidate || !promised || node.log.is_empty() || older {
        return;
    }
    node.promised = term;
    node.sealed = false;
    node.set = Some(set.clone());
    if node.primary_term() == Some(term) {
        return;
    }
    node.standby = false;
    node.waiting = false;
    node.streams.clear();
    node.acknowledged = 0;
    if node.log.last().map(|e| e.0) != Some(term) {
        node.log.push((term, value));
    }
    node.owed = node.log.len();
}

pub(super) fn set_set(
    node: &mut Node,
    term: Term,
    id: &InstanceId,
    set: &EngineSet,
    mutant: Mutant,
) {
    let current = node.set.as_ref().map(EngineSet::version);
    let fits = node.id == *id && node.promised == term && !node.sealed && set.term == term;
    if !fits || node.standby || current > Some(set.version()) {
        return;
    }
    if current != Some(set.version()) {
        // Whatever the old set has released by now is owed to the new one.
        node.owed = node
            .owed
            .max(node.released(mutant).unwrap_or(0))
            .max(node.acknowledged);
        node.set = Some(set.clone());
    }
    node.waiting = false;
}

pub(super) fn follow(node: &mut Node, term: Term, id: &InstanceId) {
    let candidate = !node.sealed && node.set.as_ref().is_some_and(|s| s.term == term);
    if node.id != *id || term < node.promised || !node.standby || candidate {
        return;
    }
    node.promised = term;
    node.sealed = false;
    node.set = None;
}

/// A new, empty copy.
pub(super) fn renew(node: &mut Node, term: Term, ids: u32, mutant: Mutant) {
    if mutant != Mutant::KeepId {
        node.id = InstanceId::new(format!("id{ids}"));
    }
    node.promised = node.promised.max(term);
    node.sealed = false;
    node.set = None;
    node.log.clear();
    node.standby = true;
    node.waiting = false;
    node.streams.clear();
    node.life += 1;
}

pub(super) fn may_reseed(node: &Node, term: Term, id: &InstanceId) -> bool {
    let own = node.set.as_ref().is_some_and(|s| s.term == node.promised);
    node.id == *id && term >= node.promised && (node.sealed || !own)
}

/// A standby flushes one more entry, or a new one all of them; false where it can't stream from there.
pub(super) fn take_entry(upstream: &Node, standby: &mut Node, mutant: Mutant) -> bool {
    let follows = standby.up && standby.standby && !standby.sealed;
    let in_term = upstream.promised >= standby.promised || mutant == Mutant::StreamUnchecked;
    let serves = upstream.primary_term().is_some() && in_term;
    if !follows || !serves || !upstream.log.starts_with(&standby.log) {
        return false;
    }
    if standby.log.is_empty() {
        standby.log.clone_from(&upstream.log);
        if mutant == Mutant::KeepId {
            standby.promised = standby.promised.max(upstream.promised);
        }
    } else if let Some(next) = upstream.log.get(standby.log.len()) {
        standby.log.push(*next);
    }
    true
}
