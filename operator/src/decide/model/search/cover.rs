//! When one state covers another (see [`super::explore`]), and two orders to look at states in: one in which what covers
//! comes before what is covered, and one that goes where a loss may be.

use std::collections::BTreeSet;

use super::Search;
use super::explore::{Context, Sketch, Sketched};
use super::state::{Budget, MOST, Number, Report, Site, State, Wrong};
use crate::crd::{Phase, Record};
use crate::decide::model::node::{Entry, Node};

/// What [`Search::peril`] says at most.
pub(super) const MOST_PERILOUS: u32 = 4;

/// All of a state but its context.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Core {
    record: Number,
    instances: [Number; MOST],
    history: Number,
    ids: u8,
    wrong: Option<Wrong>,
}

/// An instance without the calls that are on their way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Bare {
    node: Node,
    reports: BTreeSet<Report>,
}

/// What a site is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    bare: Number,
    calls: Number,
    rank: u32,
}

impl Search {
    pub(super) fn split(&self, state: &State) -> (Core, Sketched) {
        let mut instances = [0; MOST];
        let mut calls = [0; MOST];
        for (at, site) in state.sites.iter().enumerate().take(self.bounds.instances) {
            let parts = self.parts(*site);
            instances[at] = parts.bare;
            calls[at] = parts.calls;
        }
        let core = Core {
            record: state.record,
            instances,
            history: state.history,
            ids: state.ids,
            wrong: state.wrong,
        };
        let context = Context {
            past: state.past,
            seen: state.seen,
            calls,
            left: state.left,
        };
        let number = self.contexts.number(context);
        let sketch = self.sketches.get(number, || self.sketch(&context));
        let context = Sketched {
            context: number,
            sketch,
        };
        (core, context)
    }

    fn sketch(&self, context: &Context) -> Sketch {
        let sets = (context.seen.iter()).chain(&context.calls);
        let mut sketch = [0; 2];
        for (kind, set) in sets.chain([&context.past]).enumerate() {
            for member in self.sets.value(*set).iter() {
                // What is covered may have been read where the set could not change any more.
                let is_view = kind < context.seen.len();
                let member = if is_view {
                    self.without_streams(*member)
                } else {
                    *member
                };
                let hash = (member ^ (kind as u32) << 24).wrapping_mul(0x9e37_79b9);
                sketch[(hash >> 31) as usize] |= 1 << ((hash >> 25) & 63);
            }
        }
        sketch
    }

    /// Whether all that can happen in the context `narrow` can happen in `wide`, the rest of the two states being equal.
    pub(super) fn covers(&self, wide: Number, narrow: Number) -> bool {
        self.coverings.get((wide, narrow), || {
            let (wide, narrow) = (self.contexts.value(wide), self.contexts.value(narrow));
            let holds = |wide: Number, narrow: Number| {
                wide == narrow || self.sets.value(narrow).is_subset(&self.sets.value(wide))
            };
            let all_hold = |wide: &[Number; MOST], narrow: &[Number; MOST]| {
                wide.iter().zip(narrow).all(|(w, n)| holds(*w, *n))
            };
            let mut seen = wide.seen;
            if !self.streams_matter(narrow.left) {
                for seen in seen.iter_mut().take(self.bounds.instances) {
                    *seen = self.all_without_streams(*seen);
                }
            }
            wide.left.holds(narrow.left)
                && all_hold(&seen, &narrow.seen)
                && all_hold(&wide.calls, &narrow.calls)
                && holds(wide.past, narrow.past)
        })
    }

    fn parts(&self, site: Number) -> Parts {
        self.parts.get(site, || {
            let Site {
                node,
                calls,
                reports,
            } = Site::clone(&self.sites.value(site));
            Parts {
                rank: rank_of_node(&node),
                bare: self.bare.number(Bare { node, reports }),
                calls: self.sets.number(calls),
            }
        })
    }

    /// Grows with nearly everything that happens, so that states that can be come to in several ways wait until all
    /// these ways were gone. Nothing but time and memory depends on it.
    pub(super) fn rank(&self, state: &State) -> u32 {
        let spent = |budget: Budget| u32::from(budget.commits) + 8 * u32::from(budget.faults);
        let nodes = state.sites[..self.bounds.instances]
            .iter()
            .map(|site| self.parts(*site).rank);
        // More than all that an instance can lose by a fault.
        let of_faults = 1_000 * (spent(self.bounds.budget) - spent(state.left));
        let record = self.ranks.get(state.record, || {
            rank_of_record(&self.records.value(state.record))
        });
        of_faults + record + nodes.sum::<u32>()
    }

    /// How near a loss looks: two logs have parted (1), one of them parts from what is acknowledged and is no shorter (2),
    /// the record has made its copy the candidate or the primary (3), and that copy serves in the record's term (4).
    /// Nothing but how soon a loss is found depends on it.
    pub(super) fn peril(&self, state: &State) -> u32 {
        let sites: Vec<_> = state.sites[..self.bounds.instances]
            .iter()
            .map(|site| self.sites.value(*site))
            .collect();
        let record = self.records.value(state.record);
        let history = self.histories.value(state.history);
        let acknowledged = &history.acknowledged;
        let chosen = match record.phase {
            Phase::Promoting => record.candidate.as_ref(),
            Phase::Running => record.primary.as_ref(),
            _ => None,
        };
        let of_rival = |node: &Node| {
            let is_chosen = chosen.is_some_and(|member| member.id == node.id);
            let serves = node.primary_term() == Some(record.term);
            2 + u32::from(is_chosen) + u32::from(is_chosen && serves)
        };
        let rivals = sites.iter().map(|site| &site.node).filter(|node| {
            have_parted(&node.log, acknowledged) && node.log.len() >= acknowledged.len()
        });
        rivals.map(of_rival).max().unwrap_or_else(|| {
            let parted = |a: &Site| sites.iter().any(|b| have_parted(&a.node.log, &b.node.log));
            u32::from(sites.iter().any(|site| parted(site)))
        })
    }
}

/// Whether each of two logs holds what the other lacks.
fn have_parted(one: &[Entry], other: &[Entry]) -> bool {
    !one.starts_with(other) && !other.starts_with(one)
}

fn rank_of_record(record: &Record) -> u32 {
    let phase = match record.phase {
        Phase::FailingOver | Phase::SwitchingOver => 0,
        Phase::Promoting => 1,
        _ => 2,
    };
    let newest = record.newest_set().map_or(0, |set| set.counter);
    let older = u32::try_from(record.in_sync.len()).unwrap_or(0);
    let term = record.term.number();
    let in_term = 16 * phase + 4 * u32::try_from(newest).unwrap_or(0) + 3_u32.saturating_sub(older);
    128 * term + in_term + u32::from(record.change.is_none())
}

fn rank_of_node(node: &Node) -> u32 {
    let small = |number: usize| u32::try_from(number).unwrap_or(0);
    let heard: usize = node.streams.values().map(|heard| heard.1).sum();
    let set = node.set.as_ref().map_or(0, |set| set.counter);
    let promised = node.promised.number();
    64 * promised
        + 24 * u32::from(!node.sealed)
        + 3 * small(node.log.len())
        + small(heard + node.acknowledged + node.owed)
        + u32::try_from(set).unwrap_or(0)
        + u32::from(node.up)
}
