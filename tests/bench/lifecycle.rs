//! initdb, start, stop, and restart after a crash.

use super::Effort;
use super::engine::{Engine, Kind};
use super::load::{self, Mode, Run, Until};
use super::pair::{Pair, Rounds, rounds, turns};
use super::table::{Better, Report};

pub fn initdb(effort: &Effort, report: &mut Report) {
    let took = rounds(effort.rounds, |kind| Engine::initdb(kind).1.as_secs_f64());
    report.compare("initdb", "s", Better::Lower, &took, Some(1.0));
}

/// A server that was shut down, until it answers a query; and its fast shutdown.
pub fn start(effort: &Effort, report: &mut Report) {
    let mut pair = Pair::started();
    let (mut start, mut stop) = (Rounds::default(), Rounds::default());
    for round in 0..effort.rounds {
        for kind in turns(round) {
            let engine = pair.of_mut(kind);
            stop.push(kind, engine.stop().as_secs_f64());
            start.push(kind, engine.start().as_secs_f64());
        }
    }
    report.compare("start", "s", Better::Lower, &start, Some(1.0));
    report.compare("fast stop", "s", Better::Lower, &stop, Some(1.0));
}

/// SIGKILL under load, until it answers a query again. Both have the same number of transactions to replay.
pub fn restart(effort: &Effort, report: &mut Report) {
    let mut pair = Pair::loaded(effort);
    let took = rounds(effort.rounds, |kind| crash(pair.of_mut(kind), effort));
    let what = format!(
        "restart after kill -9, {} transactions to replay",
        effort.behind
    );
    report.compare(what, "s", Better::Lower, &took, Some(1.0));
    let idle = rounds(effort.rounds, |kind: Kind| {
        let engine = pair.of_mut(kind);
        engine.client().rows("CHECKPOINT");
        engine.kill();
        engine.start().as_secs_f64()
    });
    report.compare(
        "restart after kill -9 when idle",
        "s",
        Better::Lower,
        &idle,
        Some(1.0),
    );
}

fn crash(engine: &mut Engine, effort: &Effort) -> f64 {
    engine.client().rows("CHECKPOINT");
    let clients = 16;
    let run = Run {
        clients,
        mode: Mode::Prepared,
        scale: effort.scale,
        until: Until::Count(effort.behind / clients),
    };
    load::pgbench(engine, load::TPCB, run);
    engine.kill();
    engine.start().as_secs_f64()
}
