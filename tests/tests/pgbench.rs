//! pgbench, unchanged, against us: both ways to fill, the three built-in scripts in the three protocol modes.

use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{run, run_ok};
use understudy_tests::server::Server;
use understudy_tests::soak::is_soak;

/// In the long form as many as the issue of speed is about, on tables ten times as large.
fn clients() -> &'static str {
    if is_soak() { "64" } else { "16" }
}

fn seconds() -> &'static str {
    if is_soak() { "20" } else { "2" }
}

fn scale() -> u32 {
    if is_soak() { 10 } else { 1 }
}

fn pgbench(server: &Server, arguments: &[&str]) -> Command {
    let mut command = server.tool("pgbench");
    command.args(arguments).arg("bench");
    command
}

/// A database with pgbench's tables.
fn filled(steps: &str) -> Server {
    let server = Server::started();
    server.psql("CREATE DATABASE bench");
    run_ok(&mut pgbench(
        &server,
        &["-i", "-q", "-s", &scale().to_string(), "-I", steps],
    ));
    server
}

fn sums(server: &Server) -> Vec<i64> {
    let sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
        (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), \
        coalesce((SELECT sum(delta) FROM pgbench_history), 0)";
    let mut command = server.tool("psql");
    command.args(["-X", "-A", "-t", "-d", "bench", "-c", sql]);
    run_ok(&mut command)
        .trim()
        .split('|')
        .map(|sum| sum.parse().expect("a number"))
        .collect()
}

#[test]
fn both_ways_to_fill_give_the_same_tables() {
    for steps in ["dtgvp", "dtGvp"] {
        let server = filled(steps);
        let count = |table: &str| {
            let mut command = server.tool("psql");
            let sql = format!("SELECT count(*) FROM {table}");
            command.args(["-X", "-A", "-t", "-d", "bench", "-c", &sql]);
            run_ok(&mut command).trim().to_owned()
        };
        let expected = |each: u32| (scale() * each).to_string();
        assert_eq!(count("pgbench_accounts"), expected(100_000), "{steps}");
        assert_eq!(count("pgbench_tellers"), expected(10), "{steps}");
        assert_eq!(count("pgbench_branches"), expected(1), "{steps}");
        assert_eq!(count("pgbench_history"), "0", "{steps}");
    }
}

#[test]
fn no_transaction_fails_and_the_sums_agree_in_every_mode() {
    let server = filled("dtgvp");
    let mut before = sums(&server);
    for mode in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like"] {
            without_failure(&server, script, mode);
        }
        let tpcb = gained(&mut before, &server);
        assert!(tpcb.iter().all(|s| *s == tpcb[0]), "{mode}: {tpcb:?}");
        without_failure(&server, "simple-update", mode);
        let simple = gained(&mut before, &server);
        assert_eq!(
            simple,
            [simple[3], 0, 0, simple[3]],
            "{mode}: it touches accounts and history only"
        );
    }
}

/// By how much the sums have grown since `before`, which then holds the new ones.
fn gained(before: &mut Vec<i64>, server: &Server) -> Vec<i64> {
    let now = sums(server);
    let gained = now.iter().zip(before.iter()).map(|(n, b)| n - b).collect();
    *before = now;
    gained
}

fn without_failure(server: &Server, script: &str, mode: &str) {
    let arguments = [
        "-n",
        "-b",
        script,
        "-M",
        mode,
        "-c",
        clients(),
        "-T",
        seconds(),
    ];
    let output = run(&mut pgbench(server, &arguments));
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script} {mode}: {text}\n{complaints}"
    );
    assert!(
        text.contains("number of failed transactions: 0 (0.000%)"),
        "{script} {mode}: {text}\n{complaints}"
    );
}

#[test]
fn a_new_database_is_a_copy_of_its_template_and_survives_a_crash() {
    let mut server = filled("dtgvp");
    server.psql("CREATE DATABASE copy TEMPLATE bench");
    server.stop(understudy_tests::server::Stop::Kill);
    server.start();
    let mut client = understudy_tests::wire::Client::connect_as(server.port, "postgres", "copy")
        .expect("the copy is there");
    assert_eq!(
        client.value("SELECT count(*) FROM pgbench_accounts"),
        (scale() * 100_000).to_string()
    );
    let busy = server.client().error("DROP DATABASE copy");
    assert_eq!(busy.state, "55006");
    assert_eq!(
        busy.detail.as_deref(),
        Some("There is 1 other session using the database.")
    );
    server.psql("DROP DATABASE copy WITH (FORCE)");
    assert!(client.query("SELECT 1").is_err(), "its session has ended");
    let left = |oid: &str| Path::new(&server.data().join("base").join(oid)).exists();
    assert!(left("5"), "postgres stays");
    let gone = server.client().error("DROP DATABASE copy");
    assert_eq!(gone.state, "3D000");
}
