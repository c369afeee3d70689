//! What each [`Action`] does to a state.

use super::state::{History, Number, Report, Site, State, View, Wrong};
use super::{Action, Search};
use crate::crd::{Phase, Record};
use crate::decide::model::mutant::Mutant;
use crate::decide::model::node::{
    Node, follow, may_reseed, promote, renew, seal, set_set, take_entry,
};
use crate::decide::{Life, Step};
use crate::ids::{InstanceId, Term};

/// What can happen at one instance alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Local {
    /// A call is on its way.
    Send {
        call: Number,
    },
    /// It arrives; `id` is what a new seed would get.
    Deliver {
        call: Number,
        id: u32,
    },
    Report {
        which: usize,
        flushed: usize,
    },
    Commit,
    Crash,
    Start,
    Empty {
        id: u32,
    },
}

/// An instance after something has happened there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moved {
    site: Number,
    /// Where its acknowledged log ended, if it acknowledges more now.
    acknowledged_before: Option<usize>,
}

pub(super) fn view(node: &Node, mutant: Mutant) -> View {
    View {
        life: if node.up { Life::Alive } else { Life::Ended },
        status: node.up.then(|| node.status(mutant)),
    }
}

impl Search {
    /// The state after `action`; none if it changes nothing, or is not possible.
    ///
    /// Between a crash and the start after it there is a state that operators see and that is gone at once. An instance
    /// that is down does nothing, and what it starts from is what its crash left: so whatever can happen while it is
    /// down, or if it stays down, can happen after its start, as long as it does nothing then. (If its volume is emptied
    /// meanwhile, the new copy is the same.) What operators have seen of it down they may go on seeing.
    pub(super) fn after(&self, state: &State, action: Action) -> Option<State> {
        let next = self.watched_after(state, action)?;
        if let Action::Crash { at } = action {
            return self.watched_after(&next, Action::Start { at });
        }
        Some(next)
    }

    fn watched_after(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        if next == *state {
            return None;
        }
        self.watch(state, &mut next);
        self.forget_streams(&mut next);
        Some(next)
    }

    /// Where sets can't change any more, a primary that counts by the last set it will be told may forget who of its
    /// members had flushed what is acknowledged already. Calls with another set are on their way by now, if there are any.
    fn forget_streams(&self, next: &mut State) {
        if !self.breadth().streams_matter || self.streams_matter(next.left) {
            return;
        }
        for site in next.sites.iter_mut().take(self.bounds.instances) {
            *site = self.forgetful.get(*site, || {
                let mut site = Site::clone(&self.sites.value(*site));
                if site.has_last_set(|call| self.calls.value(call), self.mutant) {
                    site.forget_streams();
                }
                self.sites.number(site)
            });
        }
    }

    /// What `action` itself does; operators have not looked yet.
    pub(super) fn act(&self, next: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Swap { to } => self.swap(next, to)?,
            Action::Deliver { at, call } => self.deliver(next, at, call)?,
            Action::Stream { from, to } => self.stream(next, from, to)?,
            Action::Report { at, which, flushed } => {
                self.move_one(next, at, Local::Report { which, flushed })?;
            }
            Action::Commit { at } => {
                next.left.commits = next.left.commits.checked_sub(1)?;
                self.move_one(next, at, Local::Commit)?;
            }
            Action::Crash { at } => {
                next.left.spend(|left| &mut left.crashes)?;
                self.move_one(next, at, Local::Crash)?;
            }
            Action::Start { at } => self.move_one(next, at, Local::Start)?,
            Action::Empty { at } => {
                let id = self.new_id(next)?;
                self.move_one(next, at, Local::Empty { id })?;
            }
        }
        Some(())
    }

    /// The call is on its way from now on.
    pub(super) fn send(&self, next: &mut State, at: usize, call: Number) {
        self.move_one(next, at, Local::Send { call });
    }

    /// Whether this swap, of the present record, is within bounds.
    pub(super) fn may_swap(&self, state: &State, to: Number) -> bool {
        let now = self.records.value(state.record);
        let next = self.records.value(to);
        let raises = next.term > now.term;
        let changes = is_change_of_set(&now, &next);
        (!raises || next.term.number() <= 1 + self.bounds.failovers)
            && (!changes || (state.left.changes > 0 && state.left.faults > 0))
            && (next.phase != Phase::SwitchingOver || !raises || state.left.switchovers > 0)
    }

    /// The record is replaced.
    fn swap(&self, next: &mut State, to: Number) -> Option<()> {
        if !self.may_swap(next, to) {
            return None;
        }
        let (before, after) = (self.records.value(next.record), self.records.value(to));
        if is_change_of_set(&before, &after) {
            next.left.spend(|left| &mut left.changes)?;
        }
        if after.phase == Phase::SwitchingOver && after.term > before.term {
            next.left.switchovers -= 1;
        }
        self.remember_candidate(next, &after);
        next.record = to;
        Some(())
    }

    fn remember_candidate(&self, next: &mut State, record: &Record) {
        let Some(candidate) = &record.candidate else {
            return;
        };
        let mut history = History::clone(&self.histories.value(next.history));
        // Terms only go up.
        history.candidates.retain(|term, _| *term >= record.term);
        let first = history
            .candidates
            .entry(record.term)
            .or_insert_with(|| candidate.id.clone());
        if *first != candidate.id && self.mutant == Mutant::None {
            next.wrong = Some(Wrong::TwoCandidates);
        }
        next.history = self.histories.number(history);
    }

    // ---- instances ----

    /// What happens at one instance alone; none if nothing does.
    pub(super) fn move_one(&self, next: &mut State, at: usize, local: Local) -> Option<()> {
        let moved = self.moved.get((next.sites[at], local), || {
            self.moved(next.sites[at], local)
        });
        self.place(next, at, moved?);
        Some(())
    }

    /// A standby flushes what it gets, and its report is on its way.
    fn stream(&self, next: &mut State, from: usize, to: usize) -> Option<()> {
        let sites = (next.sites[from], next.sites[to]);
        let streamed = self.streamed.get(sites, || self.streamed(sites.0, sites.1));
        let (upstream, standby) = streamed?;
        self.place(next, from, upstream);
        self.place(next, to, standby);
        Some(())
    }

    /// Puts a changed instance in its place; what it acknowledges by that is checked.
    fn place(&self, next: &mut State, at: usize, moved: Moved) {
        next.sites[at] = moved.site;
        if let Some(begin) = moved.acknowledged_before {
            let checked = self.checked.get((next.history, moved.site, begin), || {
                self.check(next.history, moved.site, begin)
            });
            next.history = checked.0;
            next.wrong = checked.1.or(next.wrong);
        }
    }

    fn moved(&self, number: Number, local: Local) -> Option<Moved> {
        let mut site = Site::clone(&self.sites.value(number));
        let node = &mut site.node;
        match local {
            Local::Send { call } => {
                site.calls.insert(call);
            }
            Local::Deliver { call, id } => self.obey(node, call, id)?,
            Local::Report { which, flushed } => {
                let report = site.reports.iter().nth(which).cloned()?;
                node.take_report(report.id, report.term, flushed.min(report.flushed));
            }
            Local::Commit => {
                let term = node.accepts_writes()?;
                let writer = writer(&node.id);
                node.log.push((term, writer));
            }
            Local::Crash if node.up => {
                node.up = false;
                node.streams.clear();
                site.reports.clear();
            }
            Local::Start if !node.up => node.restart(),
            Local::Crash | Local::Start => return None,
            Local::Empty { id } => {
                renew(node, Term::default(), id, self.mutant);
                // An emptied volume has forgotten its promise as well.
                node.promised = Term::default();
            }
        }
        Some(self.settled(site)).filter(|moved| moved.site != number)
    }

    /// An instance as it is looked at next, and how far it had acknowledged, if it now acknowledges more.
    fn settled(&self, mut site: Site) -> Moved {
        site.settle(|call| self.calls.value(call), self.mutant);
        let node = &mut site.node;
        let released = node
            .released(self.mutant)
            .filter(|released| *released >= node.owed && *released > node.acknowledged);
        let acknowledged_before =
            released.map(|released| std::mem::replace(&mut node.acknowledged, released));
        if !self.breadth().streams_matter {
            site.forget_streams();
        }
        Moved {
            site: self.sites.number(site),
            acknowledged_before,
        }
    }

    /// Whatever a primary may acknowledge, it does at once; here it is compared with what was acknowledged before.
    fn check(&self, history: Number, site: Number, begin: usize) -> (Number, Option<Wrong>) {
        let site = self.sites.value(site);
        let past = self.histories.value(history);
        let (log, released) = (&site.node.log, site.node.acknowledged);
        let term = site.node.primary_term().unwrap_or_default();
        let newest = past.acknowledged.last().map(|e| e.0).unwrap_or_default();
        if term < newest {
            // A report that was on its way may still be taken for what the newer primary holds as well.
            let same = past.acknowledged.get(begin..released) == log.get(begin..released);
            return (history, (!same).then_some(Wrong::Late));
        }
        if !log.starts_with(&past.acknowledged) {
            return (history, Some(Wrong::Lost));
        }
        if released <= past.acknowledged.len() {
            return (history, None);
        }
        let longer = History {
            acknowledged: log[..released].to_vec(),
            candidates: past.candidates.clone(),
        };
        (self.histories.number(longer), None)
    }

    fn obey(&self, node: &mut Node, call: Number, new_id: u32) -> Option<()> {
        if !node.up {
            return None;
        }
        match &*self.calls.value(call) {
            Step::Seal { term, .. } | Step::Demote { term, .. } => seal(node, *term),
            Step::Promote {
                term,
                candidate,
                set,
                ..
            } => {
                let writer = writer(&node.id);
                promote(node, *term, candidate, set, self.mutant, writer);
            }
            Step::Set { term, id, set, .. } => set_set(node, *term, id, set, self.mutant),
            Step::Follow { term, id, .. } => follow(node, *term, id),
            Step::Reseed { term, id, .. } if may_reseed(node, *term, id) => {
                renew(node, *term, new_id, self.mutant);
            }
            _ => return None,
        }
        Some(())
    }

    fn streamed(&self, from: Number, to: Number) -> Option<(Moved, Moved)> {
        let mut upstream = Site::clone(&self.sites.value(from));
        let mut standby = Site::clone(&self.sites.value(to));
        if !take_entry(&upstream.node, &mut standby.node, self.mutant) {
            return None;
        }
        let report = Report {
            id: standby.node.id.clone(),
            term: standby.node.promised,
            flushed: standby.node.log.len(),
        };
        // One of another term never counts.
        let counts = upstream.node.primary_term() == Some(report.term)
            || self.mutant == Mutant::StreamUnchecked;
        if counts {
            upstream
                .reports
                .retain(|r| r.id != report.id || r.term != report.term);
            upstream.reports.insert(report);
        }
        Some((self.settled(upstream), self.settled(standby)))
    }

    /// The call arrives.
    fn deliver(&self, next: &mut State, at: usize, call: Number) -> Option<()> {
        let mut id = 0;
        if matches!(*self.calls.value(call), Step::Reseed { .. }) {
            id = self.new_id(next)?;
        }
        self.move_one(next, at, Local::Deliver { call, id })
    }

    /// Takes one new seed off the budget.
    fn new_id(&self, next: &mut State) -> Option<u32> {
        next.left.spend(|left| &mut left.seeds)?;
        next.ids += 1;
        Some(u32::from(next.ids))
    }
}

/// A set is appended while a primary serves: one that joins or leaves.
pub(super) fn is_change_of_set(before: &Record, after: &Record) -> bool {
    before.phase == Phase::Running
        && after.phase == Phase::Running
        && after.newest_set().map(crate::crd::InSyncSet::version)
            > before.newest_set().map(crate::crd::InSyncSet::version)
}

/// Entries of different copies are different, though they stand at the same place.
pub(super) fn writer(id: &InstanceId) -> u32 {
    id.as_str()
        .trim_start_matches("id")
        .parse()
        .expect("ids are id and a number")
}
