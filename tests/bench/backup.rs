//! A base backup over the wire, by pg_basebackup.

use std::time::Instant;

use understudy_tests::programs::run_ok;

use super::Effort;
use super::engine::Kind;
use super::pair::{Pair, rounds};
use super::profile;
use super::table::{Better, Report};

pub fn run(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    let once = |kind: Kind| {
        let engine = pair.of(kind);
        let target = engine.scratch("backup");
        let begin = Instant::now();
        run_ok(&mut engine.base_backup(&target));
        let took = begin.elapsed();
        std::fs::remove_dir_all(&target).expect("the backup can be removed");
        took.as_secs_f64()
    };
    let took = rounds(effort.rounds, once);
    let what = format!("base backup, pgbench scale {}", effort.scale);
    if report.compare(what.as_str(), "s", Better::Lower, &took, Some(1.0)) {
        let profile = profile::of(&pair.understudy, || {
            once(Kind::Understudy);
        });
        report.profile(what, profile);
    }
}
