//! The searches that must find nothing, and those that must find which safeguard is missing.
//!
//! What `make soak` (`UNDERSTUDY_SOAK`) looks at, and what that costs one processor, optimised: two failovers 883,518
//! states, 34 s, 210 MB; one failover with an entry written 68,605 states, 2 s, with a crash or a new seed 124,893
//! states, 4 s, with a change of the set 135,009 states, 22 s; three safeguards under 30 s together; 60 million steps of
//! walks some 14 minutes. `make test` looks at a part of each.
//!
//! Two failovers with an entry written or with faults have not been searched to their end yet; these searches, and the
//! one for each safeguard, are ignored until somebody has measured them.
//! `MODEL_BOUNDS` makes [`a_search_of_ones_own`] look within any bounds:
//! `MODEL_BOUNDS=failovers=1,commits=1,faults=1,changes=1`.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stateright::{Checker, HasDiscoveries, Model};

use super::outlook::outlook;
use super::random::{self, Walked};
use super::state::{Budget, State, View};
use super::{Bounds, REACHED, Search};
use crate::decide::model::mutant::Mutant;

const NO_FAULTS: Budget = Budget {
    commits: 1,
    faults: 0,
    crashes: 0,
    seeds: 0,
    changes: 0,
    switchovers: 0,
};

/// Messages are late, doubled and lost, and operators frozen, as in every search.
const FAILOVER: Bounds = Bounds {
    instances: 3,
    failovers: 1,
    budget: NO_FAULTS,
};

const TWO_FAILOVERS: Bounds = Bounds {
    failovers: 2,
    ..FAILOVER
};

/// And two of: a crash, a new seed.
const CRASHES_AND_SEEDS: Bounds = Bounds {
    budget: Budget {
        faults: 2,
        crashes: 2,
        seeds: 2,
        ..NO_FAULTS
    },
    ..TWO_FAILOVERS
};

/// And two changes of the set, or one and a crash or a new seed. With [`CRASHES_AND_SEEDS`] that is any two of them.
const CHANGES: Bounds = Bounds {
    budget: Budget {
        faults: 2,
        crashes: 1,
        seeds: 1,
        changes: 2,
        ..NO_FAULTS
    },
    ..TWO_FAILOVERS
};

const EVERYTHING: Bounds = Bounds {
    instances: 3,
    failovers: 30,
    budget: Budget {
        commits: 60,
        faults: 40,
        crashes: 20,
        seeds: 20,
        changes: 40,
        switchovers: 5,
    },
};

fn is_soak() -> bool {
    std::env::var_os("UNDERSTUDY_SOAK").is_some()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Looks at every state, and makes sure that it did: `stateright` calls a search that was cut off done, too.
fn search_whole(what: &str, bounds: Bounds) {
    let begin = Instant::now();
    let checker = Search::new(bounds, Mutant::None)
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs();
    let mut told = Instant::now();
    while !checker.is_done() {
        std::thread::sleep(Duration::from_millis(20));
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!(
                "{what}: {} unique states so far",
                checker.unique_state_count()
            );
        }
    }
    let checker = checker.join();
    let search = checker.model();
    // Telling a way asks for successors once more.
    let expanded = search.expanded.load(Ordering::Relaxed);
    for (name, path) in checker.discoveries() {
        assert_eq!(
            name,
            REACHED,
            "{what}: not true: {name}{}",
            tell(search, path.into_vec())
        );
    }
    let unique = checker.unique_state_count();
    println!(
        "{what}: {unique} unique states, {} steps between them, the longest way {}; {} records, {} instances, \
         {} views, {} decisions; {:?}",
        checker.state_count(),
        checker.max_depth(),
        search.records.len(),
        search.sites.len(),
        search.views.len(),
        search.outcomes.len(),
        begin.elapsed(),
    );
    assert_eq!(expanded, unique, "{what}: not every state was looked at");
    assert!(
        checker.discovery(REACHED).is_some(),
        "{what}: it never comes to where {REACHED}"
    );
}

fn tell(search: &Search, path: Vec<(State, Option<super::Action>)>) -> String {
    let mut text = String::new();
    for pair in path.windows(2) {
        if let [(before, Some(action)), (after, _)] = pair {
            text.push_str("\n  ");
            text.push_str(&search.tell(before, *action, after));
        }
    }
    text
}

/// The shortest way to a loss where a safeguard is missing; the search ends there.
fn search_for_loss(mutant: Mutant, bounds: Bounds) -> Duration {
    let begin = Instant::now();
    let checker = Search::new(bounds, mutant)
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let (search, unique) = (checker.model(), checker.unique_state_count());
    let found: HashMap<_, _> = checker.discoveries();
    let loss = found.into_iter().find(|(name, _)| *name != REACHED);
    let Some((name, path)) = loss else {
        panic!("{mutant:?} is missed by nobody in {unique} states");
    };
    println!(
        "{mutant:?}: found after {unique} states, {:?}: not true: {name}{}",
        begin.elapsed(),
        tell(search, path.into_vec())
    );
    begin.elapsed()
}

/// What `make soak` looks at, and what `make test` does.
fn in_soak_or_test(soak: Bounds, test: Bounds) -> Bounds {
    if is_soak() { soak } else { test }
}

#[test]
fn every_state_of_a_failover() {
    let nothing_written = Bounds {
        budget: Budget {
            commits: 0,
            ..NO_FAULTS
        },
        ..FAILOVER
    };
    let bounds = in_soak_or_test(FAILOVER, nothing_written);
    search_whole("one failover", bounds);
}

#[test]
fn every_state_of_a_failover_with_a_crash_or_a_new_seed() {
    let crash = Budget {
        commits: 0,
        faults: 1,
        crashes: 1,
        ..NO_FAULTS
    };
    let crash_or_seed = Budget { seeds: 1, ..crash };
    let of = |budget| Bounds { budget, ..FAILOVER };
    let bounds = in_soak_or_test(of(crash_or_seed), of(crash));
    search_whole("one failover, a crash or a new seed", bounds);
}

#[test]
fn every_state_of_a_failover_with_a_change_of_the_set() {
    let change = Budget {
        faults: 1,
        changes: 1,
        ..NO_FAULTS
    };
    let no_failover = Bounds {
        failovers: 0,
        budget: change,
        ..FAILOVER
    };
    let nothing_written = Bounds {
        budget: Budget {
            commits: 0,
            ..change
        },
        ..FAILOVER
    };
    let bounds = in_soak_or_test(nothing_written, no_failover);
    search_whole("a change of the set", bounds);
}

/// The primaries' own entries are all that is written.
#[test]
fn every_state_of_two_failovers() {
    let nothing_written = Budget {
        commits: 0,
        ..NO_FAULTS
    };
    let of = |bounds| Bounds {
        budget: nothing_written,
        ..bounds
    };
    let bounds = in_soak_or_test(of(TWO_FAILOVERS), of(FAILOVER));
    search_whole("failovers, nothing written", bounds);
}

#[test]
#[ignore = "its size has not been measured: run it by name"]
fn every_state_of_two_failovers_with_an_entry_written() {
    search_whole("two failovers", TWO_FAILOVERS);
}

#[test]
#[ignore = "its size has not been measured: run it by name"]
fn every_state_of_two_failovers_with_crashes_and_new_seeds() {
    search_whole("two failovers, two crashes or new seeds", CRASHES_AND_SEEDS);
}

#[test]
#[ignore = "its size has not been measured: run it by name"]
fn every_state_of_two_failovers_with_changes_of_the_set() {
    search_whole("two failovers, changes of the set", CHANGES);
}

#[test]
fn safeguards_that_are_taken_away_are_missed_soon() {
    search_for_loss(Mutant::OneAnswer, TWO_FAILOVERS);
    if is_soak() {
        search_for_loss(Mutant::NoSecondCompare, TWO_FAILOVERS);
        search_for_loss(Mutant::ForgetOlderSets, TWO_FAILOVERS);
    }
}

/// Each within the bounds of the searches that find nothing.
#[test]
#[ignore = "how long it takes has not been measured: run it by name"]
fn each_safeguard_that_is_taken_away_is_missed() {
    for mutant in Mutant::ALL {
        let bounds = match mutant {
            Mutant::KeepId => CRASHES_AND_SEEDS,
            _ => TWO_FAILOVERS,
        };
        search_for_loss(mutant, bounds);
    }
}

/// Everything at once, with three and with four instances.
#[test]
fn nothing_is_lost_on_random_walks() {
    let steps = if is_soak() { 30_000_000 } else { 10_000 };
    for instances in [3, 4] {
        let bounds = Bounds {
            instances,
            ..EVERYTHING
        };
        let begin = Instant::now();
        let walked = walk_in_parallel(bounds, steps);
        println!(
            "{instances} instances, everything at once: {walked:?}, {:?}",
            begin.elapsed()
        );
        assert!(walked.steps >= steps);
        assert!(walked.acknowledging_terms * 4 > walked.walks, "{walked:?}");
    }
}

fn walk_in_parallel(bounds: Bounds, steps: u64) -> Walked {
    let share = steps / threads() as u64 + 1;
    let walkers: Vec<_> = (0..threads() as u64)
        .map(|thread| {
            let first = thread * 1_000_000_000;
            std::thread::spawn(move || random::walks(bounds, Mutant::None, first, share))
        })
        .collect();
    let mut all = Walked::default();
    for walker in walkers {
        let walked = walker.join().expect("the walker ends");
        all.add(walked.unwrap_or_else(|(number, wrong)| panic!("walk {number}: {wrong:?}")));
    }
    all
}

/// What a view is cut down to makes no difference to any decision.
#[test]
fn what_is_cut_down_decides_nothing() {
    let mut dice = StdRng::seed_from_u64(1);
    let bounds = EVERYTHING;
    let search = Search::new(
        Bounds {
            budget: Budget {
                switchovers: 0,
                ..bounds.budget
            },
            ..bounds
        },
        Mutant::None,
    );
    let mut compared = 0;
    for number in 0..10 {
        let states = search.states_of_walk(number, 600);
        for _ in 0..600 {
            let state = |dice: &mut StdRng| &states[dice.random_range(0..states.len())];
            let record = search.records.value(state(&mut dice).record);
            let whole: Vec<View> = (0..bounds.instances)
                .map(|at| search.whole_view(state(&mut dice).sites[at]))
                .collect();
            let cut: Vec<View> = whole
                .iter()
                .cloned()
                .map(|view| search.cut_down(view))
                .collect();
            let facts = search.draw_facts(&record, &whole.iter().collect::<Vec<_>>(), 0, &mut dice);
            let decide = |views: &[View]| {
                let views: Vec<&View> = views.iter().collect();
                outlook(&search.cluster, Mutant::None, &record, &views, &facts)
            };
            assert_eq!(decide(&whole), decide(&cut), "walk {number}");
            compared += usize::from(whole != cut);
        }
    }
    assert!(compared > 1_000, "{compared} views were cut down");
}

/// A cluster that is whole is left alone.
#[test]
fn the_first_state_is_whole() {
    let search = Search::new(TWO_FAILOVERS, Mutant::None);
    let state = search.first_state();
    let views = state.sites.map(|site| search.view_of(site));
    let views: Vec<_> = search.values_of(views);
    let views: Vec<&View> = views.iter().map(AsRef::as_ref).collect();
    let record = search.records.value(state.record);
    let calm = super::Facts::calm();
    let outlook = outlook(&search.cluster, Mutant::None, &record, &views, &calm);
    assert!(
        outlook.calls.is_empty() && outlook.swap.is_none(),
        "{outlook:?}"
    );
}

#[test]
fn a_search_of_ones_own() {
    let Ok(text) = std::env::var("MODEL_BOUNDS") else {
        return;
    };
    let given: HashMap<&str, u8> = text
        .split(',')
        .map(|part| part.split_once('=').expect("NAME=NUMBER"))
        .map(|(name, number)| (name, number.parse().expect("a number")))
        .collect();
    let number = |name: &str, or: u8| given.get(name).copied().unwrap_or(or);
    let bounds = Bounds {
        instances: number("instances", 3).into(),
        failovers: number("failovers", 1).into(),
        budget: Budget {
            commits: number("commits", 1),
            faults: number("faults", 0),
            crashes: number("crashes", 0),
            seeds: number("seeds", 0),
            changes: number("changes", 0),
            switchovers: number("switchovers", 0),
        },
    };
    search_whole(&text, bounds);
}
