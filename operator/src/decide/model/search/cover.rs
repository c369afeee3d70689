//! When one state covers another (see [`super::explore`]), and an order in which what covers comes before what is covered.

use std::collections::BTreeSet;

use super::Search;
use super::explore::{Context, Sketched};
use super::state::{Budget, MOST, Number, Report, Site, State, Wrong};
use crate::crd::{Phase, Record};
use crate::decide::model::node::Node;

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

    fn sketch(&self, context: &Context) -> u128 {
        let sets = (context.seen.iter()).chain(&context.calls);
        let mut sketch = 0;
        for (kind, set) in sets.chain([&context.past]).enumerate() {
            for member in self.sets.value(*set).iter() {
                let hash = (member ^ (kind as u32) << 24).wrapping_mul(0x9e37_79b9);
                sketch |= 1 << (hash >> 25);
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
            wide.left.holds(narrow.left)
                && all_hold(&wide.seen, &narrow.seen)
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
