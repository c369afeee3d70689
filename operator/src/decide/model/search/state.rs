//! One state of the cluster: the record, the instances with what is on its way to them, what operators may have read,
//! and what must never be forgotten.
//!
//! Everything is small and canonical. Times are not in it: whether a time-out has passed is chosen anew whenever an
//! operator decides. Versions of the record are not in it either: a swap that was made for another record than the
//! present one can't succeed any more. An entry of a log is (term, writer), its position the place where
//! it stands. Large values are numbers of an [`super::interner::Interner`].

use std::collections::{BTreeMap, BTreeSet};

use crate::api::EngineSet;
use crate::api::SupervisorStatus;
use crate::decide::model::mutant::Mutant;
use crate::decide::model::node::{Entry, Node};
use crate::decide::{Life, Step};
use crate::ids::{InstanceId, Term};

/// The most instances that a search can have.
pub(super) const MOST: usize = 4;

/// A call or a value's number.
pub(super) type Number = u32;

/// An instance with all that is on its way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Site {
    pub(super) node: Node,
    /// Calls that some operator has made: each may arrive at any time, any number of times, or never.
    pub(super) calls: BTreeSet<Number>,
    /// The last of what standbys have flushed and this primary has not heard yet: any position up to it may arrive.
    pub(super) reports: BTreeSet<Report>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Report {
    pub(super) id: InstanceId,
    pub(super) term: Term,
    pub(super) flushed: usize,
}

/// What an operator has last read of an instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct View {
    pub(super) life: Life,
    pub(super) status: Option<SupervisorStatus>,
}

impl View {
    /// Of an instance of which nothing has been read.
    pub(super) const NOTHING: View = View {
        life: Life::Alive,
        status: None,
    };
    /// Of an instance whose process is said to have ended.
    pub(super) const ENDED: View = View {
        life: Life::Ended,
        status: None,
    };
}

/// What happened, and must be true for ever.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct History {
    /// The log up to the last acknowledged entry.
    pub(super) acknowledged: Vec<Entry>,
    pub(super) candidates: BTreeMap<Term, InstanceId>,
}

/// What may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Budget {
    pub(super) commits: u8,
    /// Crashes, new seeds and changes of the set together.
    pub(super) faults: u8,
    pub(super) crashes: u8,
    pub(super) seeds: u8,
    pub(super) changes: u8,
    pub(super) switchovers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Wrong {
    /// A primary acknowledges and lacks what was acknowledged before.
    Lost,
    /// A primary acknowledges, after a newer one did, what that one lacks.
    Late,
    TwoCandidates,
    /// A candidate was chosen for which the answers that were read do not suffice.
    Unlicensed,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) record: Number,
    /// Older records that some operator may still act on: the number of a set of them.
    pub(super) past: Number,
    pub(super) sites: [Number; MOST],
    /// What some operator may have read of each instance: numbers of sets of views.
    pub(super) seen: [Number; MOST],
    pub(super) history: Number,
    pub(super) left: Budget,
    /// Copies that there have been.
    pub(super) ids: u8,
    pub(super) wrong: Option<Wrong>,
}

impl Budget {
    /// Takes one fault off, if there is one left; of each kind there can be no more than of all.
    pub(super) fn spend(&mut self, kind: fn(&mut Budget) -> &mut u8) -> Option<()> {
        self.faults = self.faults.checked_sub(1)?;
        let left = kind(self);
        *left = left.checked_sub(1)?;
        for kind in [&mut self.crashes, &mut self.seeds, &mut self.changes] {
            *kind = self.faults.min(*kind);
        }
        Some(())
    }

    /// Whether there is at least as much of everything left.
    pub(super) fn holds(self, other: Budget) -> bool {
        let all = |b: Budget| {
            [
                b.commits,
                b.faults,
                b.crashes,
                b.seeds,
                b.changes,
                b.switchovers,
            ]
        };
        all(self).iter().zip(all(other)).all(|(own, of)| *own >= of)
    }
}

impl Site {
    /// Where sets stay as they are, it makes no difference who of the members had flushed what is acknowledged already:
    /// the next entry is acknowledged when enough of them have that one.
    pub(super) fn forget_streams(&mut self) {
        let node = &mut self.node;
        let (Some(term), Some(set)) = (node.primary_term(), &node.set) else {
            return;
        };
        let acknowledged = node.acknowledged;
        if acknowledged == 0 {
            return;
        }
        node.streams.retain(|id, _| set.members.contains(id));
        for id in &set.members {
            let stream = node.streams.entry(id.clone()).or_insert((term, 0));
            *stream = (*stream).max((term, acknowledged));
        }
        self.reports.retain(|r| r.flushed > acknowledged);
    }

    /// Whether no call on its way brings this primary another set, and its own has released all that was acknowledged
    /// before, whatever the sets were then.
    pub(super) fn has_last_set(
        &self,
        call: impl Fn(Number) -> std::sync::Arc<Step>,
        mutant: Mutant,
    ) -> bool {
        let node = &self.node;
        let own = node.set.as_ref().map(EngineSet::version);
        let brings_another = |number: &Number| match &*call(*number) {
            Step::Set { term, id, set, .. } => {
                *id == node.id && *term == node.promised && Some(set.version()) != own
            }
            _ => false,
        };
        let is_caught_up =
            (node.released(mutant)).is_some_and(|r| r >= node.owed.max(node.acknowledged));
        is_caught_up && !self.calls.iter().any(brings_another)
    }

    /// Takes away what can't matter any more, so that states that behave alike are equal.
    pub(super) fn settle(&mut self, call: impl Fn(Number) -> std::sync::Arc<Step>, mutant: Mutant) {
        let node = &mut self.node;
        if node.life != 0 {
            // The connections ended with the process.
            self.reports.clear();
        }
        node.life = 0;
        if node.standby || !node.up {
            node.owed = 0;
            node.acknowledged = 0;
        }
        let node = &self.node;
        self.calls
            .retain(|number| !is_over(&call(*number), node, mutant));
        let primary = node.primary_term();
        self.reports.retain(|report| {
            let heard = node.streams.get(&report.id).copied();
            primary.is_some() && heard < Some((report.term, report.flushed))
        });
    }
}

/// Whether this instance, whatever happens to it, will never obey `call` again: promises only go up unless the volume is
/// emptied (the new copy gets the seals once more), ids never return, and a copy that was made the primary of
/// a term is sealed by a higher one only.
fn is_over(call: &Step, node: &Node, mutant: Mutant) -> bool {
    let is_primary = !node.sealed && node.set.as_ref().is_some_and(|s| s.term == node.promised);
    let past = |term: &Term| *term < node.promised || (*term == node.promised && is_primary);
    // A set that waits for nobody is told once more to a primary that has restarted.
    let has_set = |set: &EngineSet| {
        let own = node.set.as_ref().map(EngineSet::version);
        set.term == node.promised
            && (own > Some(set.version()) || (own == Some(set.version()) && set.required > 0))
    };
    match call {
        Step::Seal { term, .. } | Step::Demote { term, .. } => past(term),
        Step::Follow { term, id, .. } | Step::Reseed { term, id, .. } => {
            *id != node.id || past(term)
        }
        Step::Set { term, id, set, .. } => *id != node.id || *term < node.promised || has_set(set),
        Step::Promote { candidate, .. } if mutant == Mutant::PromoteUnpromised => {
            *candidate != node.id
        }
        Step::Promote {
            term,
            candidate,
            set,
            ..
        } => *candidate != node.id || *term < node.promised || has_set(set),
        _ => true,
    }
}
