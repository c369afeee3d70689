//! `make bench`: PostgreSQL 15 and Understudy measured in the same run, with the same settings, round by round in turns.
//!
//! ```text
//! bench [--only PART[,PART...]] [--short] [--rounds N] [--out FILE.md]
//! ```
//!
//! A part is a set of measurements that can be run alone (`--only select`). What counts are ratios of neighbouring rounds
//! and the server's own processor time: other work on the machine takes from both sides alike, but absolute figures
//! of such a run mean nothing. The table is printed and written to a file; where a ratio under load is missed, a profile
//! stands below it. A part that fails is reported and does not
//! stop the others; the exit status tells.

mod backup;
mod copy;
mod engine;
mod lifecycle;
mod load;
mod local;
mod memory;
mod pair;
mod proc;
mod profile;
mod promotion;
mod select;
mod standby;
mod table;
mod tpcb;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use table::Report;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub short: bool,
    /// Rounds of each side for every measurement.
    pub rounds: usize,
    /// Length of one round under load.
    pub round: Duration,
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
    /// Transactions that a standby or a recovery has to replay.
    pub behind: u32,
}

impl Effort {
    fn new(short: bool) -> Effort {
        if short {
            Effort {
                short,
                rounds: 2,
                round: Duration::from_secs(3),
                scale: 2,
                behind: 5_000,
            }
        } else {
            Effort {
                short,
                rounds: 3,
                round: Duration::from_secs(10),
                scale: 20,
                behind: 40_000,
            }
        }
    }
}

type Part = fn(&Effort, &mut Report);

/// In the order in which they run: the cheap ones first.
const PARTS: &[(&str, Part)] = &[
    ("initdb", lifecycle::initdb),
    ("start", lifecycle::start),
    ("select", select::run),
    ("tpcb", tpcb::alone),
    ("tpcb-sync", tpcb::synchronous),
    ("copy", copy::run),
    ("restart", lifecycle::restart),
    ("memory", memory::run),
    ("backup", backup::run),
    ("replay", standby::replay),
    ("lag", standby::lag),
    ("promotion", promotion::run),
    ("local", local::run),
];

struct Options {
    only: Vec<String>,
    effort: Effort,
    out: PathBuf,
}

fn options() -> anyhow::Result<Options> {
    let mut words = std::env::args().skip(1);
    let (mut only, mut short, mut rounds) = (Vec::new(), false, None);
    let mut out = PathBuf::from("bench.md");
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--short" => short = true,
            "--only" => only.extend(value()?.split([',', ' ']).map(str::to_owned)),
            "--rounds" => rounds = Some(value()?.parse().context("--rounds")?),
            "--out" => out = value()?.into(),
            other => bail!("unknown option {other}"),
        }
    }
    only.retain(|name| !name.is_empty());
    for name in &only {
        if !PARTS.iter().any(|(part, _)| part == name) {
            let known: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
            bail!("no part is called {name}; there are {}", known.join(", "));
        }
    }
    let mut effort = Effort::new(short);
    effort.rounds = rounds.unwrap_or(effort.rounds).max(1);
    Ok(Options { only, effort, out })
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False: a part failed.
fn measure() -> anyhow::Result<bool> {
    let options = options()?;
    let mut report = Report::new(options.effort);
    for (name, part) in PARTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let begin = Instant::now();
        eprintln!("== {name}");
        if catch_unwind(AssertUnwindSafe(|| part(&options.effort, &mut report))).is_err() {
            report.failed(name);
        }
        eprintln!("== {name}: {:.0} s", begin.elapsed().as_secs_f64());
        std::fs::write(&options.out, report.markdown())
            .with_context(|| format!("write {}", options.out.display()))?;
    }
    println!("{}", report.markdown());
    println!("written to {}", options.out.display());
    Ok(!report.has_failures())
}
