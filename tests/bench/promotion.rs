//! A primary dies, a person promotes the standby by hand: how long until the first write.

use std::time::{Duration, Instant};

use understudy_tests::wire::Client;

use super::Effort;
use super::engine::{Engine, Kind};
use super::load;
use super::pair::rounds;
use super::table::{Better, Report};

pub fn run(effort: &Effort, report: &mut Report) {
    let trigger = rounds(effort.rounds, |kind| {
        promoted(kind, effort, |standby| {
            let path = standby.trigger_file();
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, "").expect("written");
            std::fs::rename(&fresh, &path).expect("renamed");
        })
    });
    report.compare(
        "trigger file to first write",
        "s",
        Better::Lower,
        &trigger,
        Some(1.0),
    );
    let call = rounds(effort.rounds, |kind| {
        promoted(kind, effort, |standby| {
            standby.client().rows("SELECT pg_promote(wait => false)");
        })
    });
    report.compare(
        "pg_promote() to first write",
        "s",
        Better::Lower,
        &call,
        Some(1.0),
    );
}

/// Seconds from the order to the first row that the standby took.
fn promoted(kind: Kind, effort: &Effort, order: impl FnOnce(&Engine)) -> f64 {
    let mut primary = Engine::started(kind);
    load::fill(&primary, if effort.short { 1 } else { 5 });
    let standby = Engine::standby_of(&primary);
    standby.wait_replayed(&primary.flushed());
    primary.kill();
    let begin = Instant::now();
    order(&standby);
    loop {
        let wrote = Client::connect(standby.port)
            .and_then(|mut c| c.query("INSERT INTO pgbench_history (tid) VALUES (1)"))
            .is_ok_and(|answers| answers.iter().all(|a| a.error.is_none()));
        if wrote {
            return begin.elapsed().as_secs_f64();
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "never promoted");
        std::thread::sleep(Duration::from_millis(1));
    }
}
