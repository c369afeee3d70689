//! How fast a standby replays what it missed, and how far it is behind under load.

use std::time::{Duration, Instant};

use understudy_tests::programs::run_ok;

use super::Effort;
use super::engine::{Engine, Kind};
use super::load::{self, Mode, Run, Until};
use super::pair::{Pair, Rounds, rounds, turns};
use super::profile;
use super::table::{Better, Report};

/// A standby that was down while the primary worked: from its start until it has replayed everything.
pub fn replay(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    let mut standbys = super::engine::KINDS.map(|kind| Engine::standby_of(pair.of(kind)));
    let (mut bytes, mut speed) = (Rounds::default(), Rounds::default());
    for round in 0..effort.rounds {
        for kind in turns(round) {
            let (primary, standby) = (pair.of(kind), &mut standbys[kind as usize]);
            let (megabytes, seconds) = behind(primary, standby, effort);
            bytes.push(kind, megabytes / seconds);
            speed.push(kind, f64::from(effort.behind) / seconds);
        }
    }
    let what = "replay by a standby that was behind";
    let row = format!("{what}, transactions");
    let slow = report.compare(row, "1/s", Better::Higher, &speed, Some(1.0));
    report.compare(format!("{what}, log"), "MB/s", Better::Higher, &bytes, None);
    if slow {
        let (primary, standby) = (&pair.understudy, &standbys[Kind::Understudy as usize]);
        let profile = profile::of(standby, || {
            let mut load = load::pgbench_command(primary, load::TPCB, work(effort));
            run_ok(&mut load);
            standby.wait_replayed(&primary.flushed());
        });
        report.profile(what, profile);
    }
}

/// What is to be replayed.
fn work(effort: &Effort) -> Run {
    let clients = 16;
    Run {
        clients,
        mode: Mode::Prepared,
        scale: effort.scale,
        until: Until::Count(effort.behind / clients),
    }
}

fn behind(primary: &Engine, standby: &mut Engine, effort: &Effort) -> (f64, f64) {
    standby.wait_replayed(&primary.flushed());
    standby.stop();
    let from = primary.flushed();
    load::pgbench(primary, load::TPCB, work(effort));
    let to = primary.flushed();
    let begin = Instant::now();
    standby.start();
    standby.wait_replayed(&to);
    let took = begin.elapsed().as_secs_f64();
    let sql = format!("SELECT pg_wal_lsn_diff('{to}', '{from}')");
    let bytes: f64 = primary.client().value(&sql).parse().expect("a number");
    (bytes / 1e6, took)
}

/// Transactions a second that both servers can carry.
const PACE: u32 = 500;

/// From an acknowledged commit on the primary until a query on the standby sees it: under the same load for both, and
/// under all that each can carry, which is not the same for both.
pub fn lag(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    let standbys = super::engine::KINDS.map(|kind| Engine::standby_of(pair.of(kind)));
    for kind in super::engine::KINDS {
        pair.of(kind)
            .client()
            .rows("CREATE TABLE seen (n int PRIMARY KEY)");
    }
    let what = "commit to visible on a standby, under";
    let paced = format!("{what} {PACE} TPC-B transactions a second");
    let full = format!("{what} as many as each can do");
    let loads = [
        (paced, Until::Paced(effort.round, PACE), Some(1.0)),
        (full, Until::Time(effort.round), None),
    ];
    let mut number = 0;
    for (row, until, wanted) in loads {
        let run = Run {
            clients: 16,
            mode: Mode::Prepared,
            scale: effort.scale,
            until,
        };
        let mut delay = |kind: Kind| {
            let (primary, standby) = (pair.of(kind), &standbys[kind as usize]);
            let mut command = load::pgbench_command(primary, load::TPCB, run);
            let load = std::thread::spawn(move || run_ok(&mut command));
            std::thread::sleep(Duration::from_millis(500));
            let delay = visible_after(primary, standby, &mut number, effort.round / 2);
            load.join().expect("pgbench ran");
            delay
        };
        let delays = rounds(effort.rounds, &mut delay);
        if report.compare(row.as_str(), "ms", Better::Lower, &delays, wanted) {
            let standby = &standbys[Kind::Understudy as usize];
            let profile = profile::of(standby, || {
                delay(Kind::Understudy);
            });
            report.profile(row, profile);
        }
    }
}

/// The median of many, in milliseconds.
fn visible_after(primary: &Engine, standby: &Engine, number: &mut u32, how_long: Duration) -> f64 {
    let (mut writer, mut reader) = (primary.client(), standby.client());
    let mut delays = Vec::new();
    let until = Instant::now() + how_long;
    while Instant::now() < until {
        *number += 1;
        writer.rows(&format!("INSERT INTO seen VALUES ({number})"));
        let begin = Instant::now();
        let wanted = format!("SELECT count(*) FROM seen WHERE n = {number}");
        while reader.value(&wanted) != "1" {
            assert!(begin.elapsed() < Duration::from_secs(60), "it never came");
        }
        delays.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    delays.sort_by(f64::total_cmp);
    delays[delays.len() / 2]
}
