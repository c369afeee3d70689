//! The two sides of a comparison, and rounds in turns.

use super::engine::{Engine, KINDS, Kind};
use super::{Effort, load};

pub struct Pair {
    pub postgres: Engine,
    pub understudy: Engine,
}

/// What each round of each side gave.
#[derive(Debug, Default, Clone)]
pub struct Rounds {
    pub postgres: Vec<f64>,
    pub understudy: Vec<f64>,
}

impl Rounds {
    pub fn push(&mut self, kind: Kind, value: f64) {
        match kind {
            Kind::Postgres => self.postgres.push(value),
            Kind::Understudy => self.understudy.push(value),
        }
    }
}

/// The sides of one round, the one that goes first changing from round to round.
pub fn turns(round: usize) -> [Kind; 2] {
    let mut kinds = KINDS;
    if round % 2 == 1 {
        kinds.reverse();
    }
    kinds
}

/// Measures by turns.
pub fn rounds(count: usize, mut measure: impl FnMut(Kind) -> f64) -> Rounds {
    let mut rounds = Rounds::default();
    for round in 0..count {
        for kind in turns(round) {
            rounds.push(kind, measure(kind));
        }
    }
    rounds
}

impl Pair {
    pub fn started() -> Pair {
        Pair {
            postgres: Engine::started(Kind::Postgres),
            understudy: Engine::started(Kind::Understudy),
        }
    }

    /// With pgbench's tables.
    pub fn loaded(effort: &Effort) -> Pair {
        let pair = Pair::started();
        for kind in KINDS {
            load::fill(pair.of(kind), effort.scale);
        }
        pair
    }

    pub fn of(&self, kind: Kind) -> &Engine {
        match kind {
            Kind::Postgres => &self.postgres,
            Kind::Understudy => &self.understudy,
        }
    }

    pub fn of_mut(&mut self, kind: Kind) -> &mut Engine {
        match kind {
            Kind::Postgres => &mut self.postgres,
            Kind::Understudy => &mut self.understudy,
        }
    }
}
