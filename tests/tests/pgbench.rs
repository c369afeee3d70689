//! pgbench, unchanged, against us: both ways to fill, the three built-in scripts in the three protocol modes.

use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{run, run_ok};
use understudy_tests::server::Server;

const CLIENTS: &str = "16";

fn pgbench(server: &Server, arguments: &[&str]) -> Command {
    let mut command = server.tool("pgbench");
    command.args(arguments).arg("bench");
    command
}

/// A database with pgbench's tables.
fn filled(steps: &str) -> Server {
    let server = Server::started();
    server.psql("CREATE DATABASE bench");
    run_ok(&mut pgbench(&server, &["-i", "-q", "-s", "1", "-I", steps]));
    server
}

fn sums(server: &Server) -> Vec<String> {
    let sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
        (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), \
        coalesce((SELECT sum(delta) FROM pgbench_history), 0)";
    let mut command = server.tool("psql");
    command.args(["-X", "-A", "-t", "-d", "bench", "-c", sql]);
    run_ok(&mut command)
        .trim()
        .split('|')
        .map(str::to_owned)
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
        assert_eq!(count("pgbench_accounts"), "100000", "{steps}");
        assert_eq!(count("pgbench_tellers"), "10", "{steps}");
        assert_eq!(count("pgbench_branches"), "1", "{steps}");
        assert_eq!(count("pgbench_history"), "0", "{steps}");
    }
}

#[test]
fn no_transaction_fails_and_the_sums_agree_in_every_mode() {
    let server = filled("dtgvp");
    for mode in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like"] {
            let arguments = ["-n", "-b", script, "-M", mode, "-c", CLIENTS, "-T", "2"];
            let output = run(&mut pgbench(&server, &arguments));
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
        let sums = sums(&server);
        assert!(sums.iter().all(|s| *s == sums[0]), "{mode}: {sums:?}");
    }
    let before = sums(&server);
    run_ok(&mut pgbench(
        &server,
        &[
            "-n",
            "-b",
            "simple-update",
            "-M",
            "prepared",
            "-c",
            CLIENTS,
            "-T",
            "2",
        ],
    ));
    let after = sums(&server);
    assert_eq!(after[0], after[3], "simple-update: {after:?}");
    assert_eq!(
        &before[1..3],
        &after[1..3],
        "it touches accounts and history only"
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
        "100000"
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
