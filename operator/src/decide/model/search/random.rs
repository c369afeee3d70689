//! Random walks through the same moves, for what is too large to be looked at whole: more instances, everything at once.
//!
//! A walk depends on its number alone. Facts are drawn for each decision instead of all being tried.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::outlook::{self, Facts};
use super::state::{MOST, Number, State, View, Wrong};
use super::{Action, Bounds, Search};
use crate::crd::Record;
use crate::decide::model::mutant::Mutant;
use crate::decide::{MEMBER_LOST_MS, STUCK_MS};

const OPERATORS: usize = 2;
/// Steps of one walk.
const LENGTH: u32 = 2_000;
/// Walks that share their numbers for values; then these are forgotten, so that memory stays bounded.
const WALKS_AT_ONCE: u64 = 50;

/// What walks have seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Walked {
    pub(super) walks: u64,
    /// Steps that changed the state.
    pub(super) steps: u64,
    pub(super) failovers: u64,
    /// Terms in which a primary acknowledged, but for each walk's first.
    pub(super) acknowledging_terms: u64,
}

impl Walked {
    pub(super) fn add(&mut self, other: Walked) {
        self.walks += other.walks;
        self.steps += other.steps;
        self.failovers += other.failovers;
        self.acknowledging_terms += other.acknowledging_terms;
    }
}

/// Walks from number `first` on, until `steps` have been made; the number of a walk that went wrong is the error.
pub(super) fn walks(
    bounds: Bounds,
    mutant: Mutant,
    first: u64,
    steps: u64,
) -> Result<Walked, (u64, Wrong)> {
    let mut walked = Walked::default();
    while walked.steps < steps {
        let search = Search::new(bounds, mutant);
        for _ in 0..WALKS_AT_ONCE {
            let number = first + walked.walks;
            walked.walks += 1;
            search
                .walk(number, &mut walked)
                .map_err(|wrong| (number, wrong))?;
        }
    }
    Ok(walked)
}

/// One of the two operators of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Operator {
    /// The record as it was last read, perhaps long ago.
    record: Number,
    views: [Number; MOST],
    /// The record that it is about to write, in place of the one that it has read.
    swap: Option<Number>,
}

/// Where a walk is.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Place {
    pub(super) state: State,
    operators: [Operator; OPERATORS],
}

impl Search {
    fn walk(&self, number: u64, walked: &mut Walked) -> Result<(), Wrong> {
        let mut dice = StdRng::seed_from_u64(number);
        let mut place = self.first_place();
        for _ in 0..LENGTH {
            walked.steps += u64::from(self.step(&mut place, &mut dice));
            if let Some(wrong) = place.state.wrong {
                return Err(wrong);
            }
        }
        let state = place.state;
        walked.failovers += u64::from(self.records.value(state.record).term.number() - 1);
        let history = self.histories.value(state.history);
        let mut terms: Vec<_> = history.acknowledged.iter().map(|entry| entry.0).collect();
        terms.dedup();
        walked.acknowledging_terms += terms.len() as u64 - 1;
        Ok(())
    }

    fn first_place(&self) -> Place {
        let state = self.whole_cluster();
        let knows_nothing = Operator {
            record: state.record,
            views: [0; MOST],
            swap: None,
        };
        Place {
            state,
            operators: [knows_nothing; OPERATORS],
        }
    }

    /// Tries something; whether it has changed anything.
    fn step(&self, place: &mut Place, dice: &mut StdRng) -> bool {
        let operator = dice.random_range(0..OPERATORS);
        let at = dice.random_range(0..self.bounds.instances);
        match dice.random_range(0..100) {
            0..=19 => self.read_news(place, operator, at),
            20..=25 => renew(place, operator, |reader| reader.swap = None),
            26..=39 => self.decide_at_random(place, operator, dice),
            40..=47 => self.swap_if_first(place, operator),
            48..=64 => {
                let calls = |at: &usize| self.sites.value(place.state.sites[*at]).calls.clone();
                let Some(at) = self.from(at).find(|at| !calls(at).is_empty()) else {
                    return false;
                };
                let calls = calls(&at);
                let which = dice.random_range(0..calls.len());
                let call = calls.into_iter().nth(which);
                call.is_some_and(|call| self.act_in_place(place, Action::Deliver { at, call }))
            }
            65..=79 => {
                let first = dice.random_range(0..self.bounds.instances);
                let mut ways = self
                    .from(first)
                    .flat_map(|from| self.from(at).map(move |to| (from, to)))
                    .filter(|(from, to)| from != to);
                ways.any(|(from, to)| self.act_in_place(place, Action::Stream { from, to }))
            }
            80..=91 => {
                let reports = |at: &usize| self.sites.value(place.state.sites[*at]).reports.clone();
                let Some(at) = self.from(at).find(|at| !reports(at).is_empty()) else {
                    return false;
                };
                let reports = reports(&at);
                let which = dice.random_range(0..reports.len());
                let flushed = reports.into_iter().nth(which).map_or(0, |r| r.flushed);
                self.act_in_place(place, Action::Report { at, which, flushed })
            }
            92..=94 => self.act_in_place(place, Action::Commit { at }),
            95 => self.act_in_place(place, Action::Crash { at }),
            96..=98 => self.act_in_place(place, Action::Start { at }),
            _ if dice.random_range(0..4) == 0 => self.act_in_place(place, Action::Empty { at }),
            // Another operator takes its place, which knows nothing.
            _ => renew(place, operator, |reader| {
                reader.views = [0; MOST];
                reader.swap = None;
            }),
        }
    }

    /// All instances, beginning with this one.
    fn from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let instances = self.bounds.instances;
        (first..first + instances).map(move |at| at % instances)
    }

    /// Reads an instance that is not any more what this operator has last read of it.
    fn read_news(&self, place: &mut Place, operator: usize, first: usize) -> bool {
        let Place { state, operators } = place;
        let views = &mut operators[operator].views;
        let news = self
            .from(first)
            .map(|at| (at, self.view_of(state.sites[at])))
            .find(|(at, view)| views[*at] != *view);
        if let Some((at, view)) = news {
            views[at] = view;
        }
        news.is_some()
    }

    fn swap_if_first(&self, place: &mut Place, operator: usize) -> bool {
        let reader = &mut place.operators[operator];
        let Some(to) = reader.swap.take() else {
            return false;
        };
        if reader.record == place.state.record && self.act_in_place(place, Action::Swap { to }) {
            place.operators[operator].record = to;
        }
        true
    }

    /// What an action does to the instances and the record; operators have to look for themselves.
    fn act_in_place(&self, place: &mut Place, action: Action) -> bool {
        let mut next = place.state.clone();
        let done = self.act(&mut next, action).is_some() && next != place.state;
        if done {
            place.state = next;
        }
        done
    }

    fn decide_at_random(&self, place: &mut Place, operator: usize, dice: &mut StdRng) -> bool {
        let before = place.clone();
        let reader = &mut place.operators[operator];
        let record = self.records.value(reader.record);
        let views = self.values_of(reader.views);
        let views: Vec<&View> = views.iter().map(AsRef::as_ref).collect();
        let facts = self.draw_facts(&record, &views, place.state.left.switchovers, dice);
        let outcome = self.outcome(&record, &views, &facts);
        reader.swap = outcome.swap;
        for (at, call) in outcome.calls {
            self.send(&mut place.state, at, call);
        }
        if !outcome.licensed {
            place.state.wrong = Some(Wrong::Unlicensed);
        }
        *place != before
    }

    pub(super) fn draw_facts(
        &self,
        record: &Record,
        views: &[&View],
        switchovers: u8,
        dice: &mut StdRng,
    ) -> Facts {
        let mut age = || match dice.random_range(0..20) {
            0 => STUCK_MS,
            1..=4 => MEMBER_LOST_MS,
            _ => 0,
        };
        let unstreamed_ms: BTreeMap<_, _> = outlook::copies(record, views)
            .into_iter()
            .map(|id| (id, age()))
            .collect();
        let silent = (0..self.bounds.instances)
            .filter(|_| dice.random_range(0..12) == 0)
            .fold(0, |mask, at| mask | (1 << at));
        Facts {
            silent,
            late: dice.random_range(0..3) == 0,
            unstreamed_ms,
            switchover: switchovers > 0 && dice.random_range(0..50) == 0,
        }
    }

    /// The states that a walk comes by.
    pub(super) fn states_of_walk(&self, number: u64, length: usize) -> Vec<State> {
        let mut dice = StdRng::seed_from_u64(number);
        let mut place = self.first_place();
        let mut states = vec![place.state.clone()];
        for _ in 0..length {
            if self.step(&mut place, &mut dice) {
                states.push(place.state.clone());
            }
        }
        states
    }
}

/// The operator reads the record, and forgets something.
fn renew(place: &mut Place, operator: usize, forget: impl FnOnce(&mut Operator)) -> bool {
    let reader = &mut place.operators[operator];
    let before = *reader;
    reader.record = place.state.record;
    forget(reader);
    *reader != before
}
