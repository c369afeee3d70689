//! pgbench's tables and runs of pgbench.
//!
//! The scripts are pgbench's built-in ones, given as files so that pgbench asks the server nothing else.

use std::process::Command;
use std::time::Duration;

use understudy_tests::programs::{postgres, run_ok};

use super::engine::Engine;
use super::proc;

pub const SELECT: &str = "\
\\set aid random(1, 100000 * :scale)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
";

pub const TPCB: &str = "\
\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
";

/// Rows that one INSERT ... SELECT makes: many statements keep the transactions of a reasonable size.
const BATCH: u32 = 100_000;

/// pgbench's tables with `scale` branches.
pub fn fill(engine: &Engine, scale: u32) {
    let mut client = engine.client();
    let mut run = |sql: &str| {
        client.rows(sql);
    };
    run(
        "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
    );
    run(
        "CREATE TABLE pgbench_tellers (tid int not null, bid int, tbalance int, filler char(84)) WITH (fillfactor = 100)",
    );
    run(
        "CREATE TABLE pgbench_accounts (aid int not null, bid int, abalance int, filler char(84)) WITH (fillfactor = 100)",
    );
    run(
        "CREATE TABLE pgbench_branches (bid int not null, bbalance int, filler char(88)) WITH (fillfactor = 100)",
    );
    run(&format!(
        "INSERT INTO pgbench_branches (bid, bbalance) SELECT bid, 0 FROM generate_series(1, {scale}) AS bid"
    ));
    run(&format!(
        "INSERT INTO pgbench_tellers (tid, bid, tbalance) SELECT tid, (tid - 1) / 10 + 1, 0 FROM generate_series(1, {}) AS tid",
        scale * 10
    ));
    for branch in 0..scale {
        let (first, last) = (branch * BATCH + 1, (branch + 1) * BATCH);
        run(&format!(
            "INSERT INTO pgbench_accounts (aid, bid, abalance, filler) SELECT aid, {}, 0, '' FROM generate_series({first}, {last}) AS aid",
            branch + 1
        ));
    }
    run("ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid)");
    run("ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid)");
    run("ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)");
    for table in ["branches", "tellers", "accounts", "history"] {
        run(&format!("VACUUM ANALYZE pgbench_{table}"));
    }
    run("CHECKPOINT");
}

/// How a run is limited.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Time(Duration),
    /// As long, with so many transactions a second begun by all clients together.
    Paced(Duration, u32),
    /// Transactions of each client.
    Count(u32),
}

/// How statements are sent.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Prepared,
    Simple,
}

#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub clients: u32,
    pub mode: Mode,
    pub scale: u32,
    pub until: Until,
}

#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub per_second: f64,
    /// Of all server processes, for each transaction; what connecting costs is taken off.
    pub cpu_us: f64,
}

/// Runs a script on a server and measures both.
pub fn measure(engine: &Engine, script: &str, run: Run) -> Outcome {
    let only_connect = Run {
        until: Until::Count(1),
        ..run
    };
    let (connecting, _) = with_cpu(engine, script, only_connect);
    let (cpu, (transactions, per_second)) = with_cpu(engine, script, run);
    let beyond = transactions.saturating_sub(u64::from(run.clients)).max(1);
    let cpu_us = cpu.saturating_sub(connecting).as_secs_f64() * 1e6 / beyond as f64;
    Outcome { per_second, cpu_us }
}

fn with_cpu(engine: &Engine, script: &str, run: Run) -> (Duration, (u64, f64)) {
    let before = proc::cpu(engine.pid());
    let processes = proc::family(engine.pid()).len();
    let result = pgbench(engine, script, run);
    // Backends that end hand their time to their parent; a process that is between the two is counted nowhere.
    for _ in 0..200 {
        if proc::family(engine.pid()).len() <= processes {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (proc::cpu(engine.pid()).saturating_sub(before), result)
}

/// Transactions and transactions a second.
pub fn pgbench(engine: &Engine, script: &str, run: Run) -> (u64, f64) {
    let output = run_ok(&mut pgbench_command(engine, script, run));
    let after = |what: &str| {
        let at = output.find(what).unwrap_or_else(|| panic!("{output}")) + what.len();
        let number: String = output[at..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        number
            .parse::<f64>()
            .unwrap_or_else(|e| panic!("{e}: {output}"))
    };
    let failed = after("number of failed transactions:");
    assert!(
        failed == 0.0,
        "{:?}: failed transactions\n{output}",
        engine.kind
    );
    (
        after("number of transactions actually processed:") as u64,
        after("tps ="),
    )
}

pub fn pgbench_command(engine: &Engine, script: &str, run: Run) -> Command {
    let file = engine.scratch("script.pgbench");
    std::fs::write(&file, script).expect("written");
    let mut command = Command::new(postgres("pgbench"));
    command.args(["-n", "-h", "127.0.0.1", "-U", "postgres"]);
    command.args(["-p", &engine.port.to_string()]);
    command.args([
        "-c",
        &run.clients.to_string(),
        "-j",
        &run.clients.min(2).to_string(),
    ]);
    command.args([
        "-M",
        match run.mode {
            Mode::Prepared => "prepared",
            Mode::Simple => "simple",
        },
    ]);
    command.arg(format!("-Dscale={}", run.scale));
    match run.until {
        Until::Time(time) => command.args(["-T", &time.as_secs().max(1).to_string()]),
        Until::Paced(time, rate) => command.args([
            "-T",
            &time.as_secs().max(1).to_string(),
            "-R",
            &rate.to_string(),
        ]),
        Until::Count(count) => command.args(["-t", &count.to_string()]),
    };
    command.arg("-f").arg(file).arg("postgres");
    command
}
