//! Random walks through the same moves, for what is too large to be looked at whole: more instances, everything at once.
//!
//! A walk depends on its number alone. Facts are drawn for each decision instead of all being tried.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::outlook::{self, Facts};
use super::state::{State, View, Wrong};
use super::{Action, Bounds, Search};
use crate::crd::Record;
use crate::decide::model::mutant::Mutant;
use crate::decide::{MEMBER_LOST_MS, STUCK_MS};

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

impl Search {
    fn walk(&self, number: u64, walked: &mut Walked) -> Result<(), Wrong> {
        let mut dice = StdRng::seed_from_u64(number);
        let mut state = self.first_state();
        for _ in 0..LENGTH {
            if let Some(next) = self.step(&state, &mut dice) {
                state = next;
                walked.steps += 1;
            }
            if let Some(wrong) = state.wrong {
                return Err(wrong);
            }
        }
        walked.failovers += u64::from(self.records.value(state.record).term.number() - 1);
        let history = self.histories.value(state.history);
        let mut terms: Vec<_> = history.acknowledged.iter().map(|entry| entry.0).collect();
        terms.dedup();
        walked.acknowledging_terms += terms.len() as u64 - 1;
        Ok(())
    }

    fn step(&self, state: &State, dice: &mut StdRng) -> Option<State> {
        let operator = dice.random_range(0..self.bounds.operators);
        let at = dice.random_range(0..self.bounds.instances);
        let action = match dice.random_range(0..100) {
            0..=19 => Action::Read { operator, at },
            20..=25 => Action::ReadRecord { operator },
            26..=39 => return self.decide_at_random(state, operator, dice),
            40..=47 => Action::Swap { operator },
            48..=64 => {
                let site = self.sites.value(state.sites[at]);
                let which = dice.random_range(0..site.calls.len().max(1));
                let call = *site.calls.iter().nth(which)?;
                Action::Deliver { at, call }
            }
            65..=79 => {
                let from = dice.random_range(0..self.bounds.instances);
                if from == at {
                    return None;
                }
                Action::Stream { from, to: at }
            }
            80..=91 => {
                let site = self.sites.value(state.sites[at]);
                let which = dice.random_range(0..site.reports.len().max(1));
                let flushed = site.reports.iter().nth(which)?.flushed;
                Action::Report { at, which, flushed }
            }
            92..=94 => Action::Commit { at },
            95 => Action::Crash { at },
            96..=98 => Action::Start { at },
            _ if dice.random_range(0..4) == 0 => Action::Empty { at },
            _ => return self.restart_operator(state, operator),
        };
        self.after(state, action)
    }

    fn decide_at_random(&self, state: &State, operator: usize, dice: &mut StdRng) -> Option<State> {
        let reader = state.operators[operator];
        let record = self.records.value(reader.record);
        let views = self.values_of(reader.views);
        let views: Vec<&View> = views.iter().map(AsRef::as_ref).collect();
        let facts = self.draw_facts(&record, &views, state.left.switchovers, dice);
        let outcome = self.outcome(&record, &views, &facts);
        let mut next = state.clone();
        self.act_on(&mut next, operator, &outcome);
        (next != *state).then_some(next)
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
        let mut states = vec![self.first_state()];
        for _ in 0..length {
            let next = states.last().and_then(|state| self.step(state, &mut dice));
            states.extend(next);
        }
        states
    }

    /// Another operator takes its place, which knows nothing.
    fn restart_operator(&self, state: &State, operator: usize) -> Option<State> {
        let mut next = state.clone();
        let reader = &mut next.operators[operator];
        reader.record = state.record;
        reader.views = [0; super::MOST];
        reader.swap = None;
        (next != *state).then_some(next)
    }
}
