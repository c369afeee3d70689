//! A cluster under more work than the machine has: nobody is taken for lost (short: seconds; `make soak`: ten minutes).

use std::process::{Child, Command};
use std::time::Duration;

use understudy_tests::local::Cluster;
use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::soak::is_soak;

/// Processes that do nothing but keep the cores busy; they end with this value.
struct Busy(Vec<Child>);

impl Busy {
    fn every_core() -> Busy {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let spin = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).spawn()
        };
        Busy((0..cores).map(spin).map(|c| c.expect("started")).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn busy_cores_and_64_clients_are_no_reason_for_a_failover() {
    let soak = is_soak();
    let limit = Duration::from_secs(if soak { 600 } else { 5 });
    let cluster = Cluster::up(2, true);
    let pgbench = |arguments: &[&str]| {
        let mut command = Command::new(postgres("pgbench"));
        command.args(["-h", "127.0.0.1", "-U", "postgres"]);
        command.args(["-p", &cluster.port.to_string()]);
        run_ok(command.args(arguments).arg("postgres"))
    };
    pgbench(&["-i", "-q", "-s", "1", "-I", "dtGvp"]);
    let told_before = cluster.events().len();
    let busy = Busy::every_core();
    let seconds = limit.as_secs().to_string();
    let told = pgbench(&[
        "-n",
        "-c",
        "64",
        "-j",
        "2",
        "-b",
        "tpcb-like",
        "-T",
        &seconds,
    ]);
    drop(busy);
    assert!(told.contains("number of failed transactions: 0 "), "{told}");
    let events = cluster.events();
    let events = &events[told_before..];
    for alarm in [
        "FailoverStarted",
        "RestartedInPlace",
        "InstanceNotReady",
        "InSyncSetShrunk",
    ] {
        assert!(!events.contains(alarm), "{events}");
    }
    let status = cluster.wait_ready(3);
    assert_eq!(status["term"], 1, "{status:#}");
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = \
                (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
    assert_eq!(cluster.client().value(sums), "t");
}
