//! Processes of the local operator that die at each of their durable steps, one step further each round: supervisors in
//! their first start and in a takeover, all at once or one, and the operator in a takeover.
//!
//! Each round ends with every instance healthy and no acknowledged row missing. The rounds end when nobody lives to meet
//! his step any more, so every step is one at which somebody died. Short: three rounds each, at steps drawn by chance. Only
//! programs with debug assertions have such points.

use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::Signal;
use understudy_tests::local::{Cluster, Writer, signal};
use understudy_tests::soak::is_soak;

/// More than anything here has: a run that gets there does not end by itself.
const MOST_POINTS: u32 = 400;
const NO_POINTS: &str = "are these programs without debug assertions?";
const SOON: Duration = Duration::from_secs(60);

/// Runs rounds of dying a step later each time, until one in which nobody died. `usual`: as many points as there are,
/// more or less.
fn at_each_point(usual: u32, mut round: impl FnMut(u32) -> bool) {
    if !is_soak() {
        for _ in 0..3 {
            let point = rand::rng().random_range(0..usual / 2);
            assert!(round(point), "nobody died at point {point}: {NO_POINTS}");
        }
        return;
    }
    let survived = (0..MOST_POINTS).find(|point| !round(*point));
    let points = survived.unwrap_or_else(|| panic!("more than {MOST_POINTS} points"));
    eprintln!("{points} points at which somebody died");
    assert!(points > usual / 2, "only {points} points: {NO_POINTS}");
}

/// The doomed that died; the others are spared.
fn deaths(cluster: &Cluster, doomed: &[String]) -> usize {
    let lived = doomed.iter().filter(|name| cluster.spare(name)).count();
    doomed.len() - lived
}

/// The primary instance is killed; supervisors, its own new one too, die at that point of the takeover.
fn takeover(cluster: &Cluster, doomed: &[String], point: u32) -> bool {
    let writer = Writer::start(cluster);
    let (old, term) = (cluster.primary(), cluster.term());
    for name in doomed {
        cluster.die_at(name, point);
    }
    signal(&cluster.pids(&old), Signal::KILL);
    // It may be one that comes back so quickly that it goes on as primary, in a term of its own.
    cluster.wait("a newer term", SOON, |s| {
        s["phase"] == "Running" && s["term"].as_u64() > Some(term)
    });
    writer.wait_for(20);
    cluster.wait_ready(3);
    let died = deaths(cluster, doomed);
    // Who died late has to be back as well.
    cluster.wait_ready(3);
    writer.finish(cluster);
    died > 0
}

fn names(cluster: &Cluster) -> Vec<String> {
    let mut names = cluster.standbys();
    names.push(cluster.primary());
    names.sort();
    names
}

#[test]
fn all_supervisors_may_die_at_any_step_of_a_takeover() {
    let cluster = Cluster::of_mortals();
    cluster.apply(2);
    cluster.wait_ready(3);
    let all = names(&cluster);
    at_each_point(15, |point| takeover(&cluster, &all, point));
}

#[test]
fn one_supervisor_may_die_at_any_step_of_a_takeover() {
    let cluster = Cluster::of_mortals();
    cluster.apply(2);
    cluster.wait_ready(3);
    at_each_point(12, |point| {
        // Both who may be chosen, in turn; the one that returns is among them in the next round.
        let standbys = cluster.standbys();
        let mut died = false;
        for one in if is_soak() { 0..3 } else { 0..1 } {
            let name = match standbys.get(one) {
                Some(name) => name.clone(),
                None => cluster.primary(),
            };
            died |= takeover(&cluster, &[name], point);
        }
        died
    });
}

/// From nothing: the first instance's `initdb`, the second's copy.
#[test]
fn supervisors_may_die_at_any_step_of_their_first_start() {
    at_each_point(26, |point| {
        let cluster = Cluster::of_mortals();
        let both = ["orders-1".to_owned(), "orders-2".to_owned()];
        for name in &both {
            cluster.die_at(name, point);
        }
        cluster.apply(1);
        cluster.wait_ready(2);
        let died = deaths(&cluster, &both);
        cluster.wait_ready(2);
        let writer = Writer::start(&cluster);
        writer.wait_for(20);
        writer.finish(&cluster);
        assert_eq!(cluster.status()["readyInstances"], 2);
        died > 0
    });
}

/// The operator dies at that point of a takeover (and its next one goes on).
#[test]
fn the_operator_may_die_at_any_step_of_a_takeover() {
    let cluster = Cluster::of_mortals();
    cluster.apply(2);
    cluster.wait_ready(3);
    at_each_point(86, |point| {
        let writer = Writer::start(&cluster);
        let (old, term) = (cluster.primary(), cluster.term());
        cluster.die_at("operator", point);
        signal(&cluster.pids(&old), Signal::KILL);
        let begun = Instant::now();
        let is_over = || {
            let status = cluster.status();
            status["lastFailover"]["term"].as_u64() > Some(term)
                && status["phase"] == "Running"
                && status["readyInstances"] == 3
        };
        while cluster.is_doomed("operator") && !is_over() {
            assert!(begun.elapsed() < SOON, "no takeover\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let died = !cluster.spare("operator");
        if died {
            cluster.apply(2);
        }
        let status = cluster.wait_failover(term, SOON);
        assert_ne!(status["currentPrimary"], old.as_str(), "{}", cluster.logs());
        writer.wait_for(20);
        cluster.wait_ready(3);
        writer.finish(&cluster);
        died
    });
}
