//! Planner settings that both servers have: the same statement has to come to the same answer under all of them.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const SWITCHES: &[&str] = &[
    "enable_bitmapscan",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "enable_sort",
];

/// What is switched off, and how little memory there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    pub changed: Vec<(&'static str, &'static str)>,
}

impl Settings {
    /// A few, at random.
    pub fn new(seed: u64) -> Settings {
        let mut random = StdRng::seed_from_u64(seed);
        let mut changed: Vec<(&str, &str)> = SWITCHES
            .iter()
            .filter(|_| random.random_bool(0.25))
            .map(|name| (*name, "off"))
            .collect();
        if random.random_bool(0.3) {
            changed.push(("work_mem", "'64kB'"));
        }
        Settings { changed }
    }

    /// From whatever was set before to these, in one message.
    pub fn sql(&self) -> String {
        let mut all: Vec<String> = SWITCHES
            .iter()
            .map(|name| format!("RESET {name}"))
            .collect();
        all.push("RESET work_mem".to_owned());
        all.extend(self.lines());
        all.join("; ")
    }

    pub fn lines(&self) -> impl Iterator<Item = String> {
        let line = |(name, value): &(&str, &str)| format!("SET {name} = {value}");
        self.changed.iter().map(line)
    }
}
