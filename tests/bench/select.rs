//! Point selects by primary key: throughput and the server's processor time.

use super::Effort;
use super::load::{self, Mode, Run, Until};
use super::pair::{Pair, Rounds, turns};
use super::profile;
use super::table::{Better, Report};

pub fn run(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    for clients in [1, 16, 64] {
        throughput(
            &pair,
            load::SELECT,
            "point select",
            clients,
            Mode::Prepared,
            effort,
            report,
        );
    }
    throughput(
        &pair,
        load::SELECT,
        "point select",
        16,
        Mode::Simple,
        effort,
        report,
    );
}

/// Rounds of one script on both sides; two rows of the table.
pub fn throughput(
    pair: &Pair,
    script: &str,
    name: &str,
    clients: u32,
    mode: Mode,
    effort: &Effort,
    report: &mut Report,
) {
    let run = Run {
        clients,
        mode,
        scale: effort.scale,
        until: Until::Time(effort.round),
    };
    let (mut speed, mut cpu) = (Rounds::default(), Rounds::default());
    for round in 0..effort.rounds {
        for kind in turns(round) {
            let outcome = load::measure(pair.of(kind), script, run);
            speed.push(kind, outcome.per_second);
            cpu.push(kind, outcome.cpu_us);
        }
    }
    let clients = match (clients, mode) {
        (1, Mode::Prepared) => "prepared, 1 client".to_owned(),
        (n, Mode::Prepared) => format!("prepared, {n} clients"),
        (n, Mode::Simple) => format!("simple protocol, {n} clients"),
    };
    let wanted = Some(1.0);
    let what = format!("{name}, {clients}");
    let slow = report.compare(what.as_str(), "1/s", Better::Higher, &speed, wanted);
    let dear = format!("{what}: server CPU");
    let dear = report.compare(dear, "us", Better::Lower, &cpu, wanted);
    if slow || dear {
        let engine = &pair.understudy;
        let profile = profile::of(engine, || {
            load::measure(engine, script, run);
        });
        report.profile(what, profile);
    }
}
