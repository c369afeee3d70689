//! The operator with the real engine: instances and engines that are killed or frozen, a standby that is down already,
//! an operator that dies in the middle, an old primary that comes back, switchover and scaling. Nothing that was
//! acknowledged is missing afterwards, and three healthy instances are there (the short form; `make soak` repeats it).

use std::time::Duration;

use rustix::process::Signal;
use understudy_tests::local::{Acknowledged, Cluster, Writer, freeze, now_ms, signal};
use understudy_tests::wire::Client;

const FAILOVER_LIMIT: Duration = Duration::from_secs(60);

fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("UNDERSTUDY_SOAK").is_some() {
        long
    } else {
        short
    }
}

/// The operator's figures against what a client saw of the same takeover: from the kill to its first row.
fn assert_figures_agree(cluster: &Cluster, ledger: &[Acknowledged], killed_ms: u64) {
    let status = cluster.status();
    let report = &status["lastFailover"];
    let at = |key: &str| report[key].as_u64().expect("milliseconds");
    assert!(at("detectedAt") <= at("promotedAt") && at("promotedAt") <= at("writableAt"));
    let seconds = report["seconds"].as_f64().expect("a number");
    let first = ledger.iter().find(|a| a.at_ms > at("promotedAt"));
    let waited_ms = first.expect("writes go on").at_ms - killed_ms;
    let waited = Duration::from_millis(waited_ms).as_secs_f64();
    assert!(
        (waited - seconds).abs() < 0.3,
        "the operator says {seconds} s, the client saw {waited} s\n{report:#}\n{}",
        cluster.events()
    );
}

#[test]
fn killed_instances_are_taken_over_from_and_come_back() {
    let cluster = Cluster::up(2, true);
    for round in 0..rounds(3, 20) {
        let writer = Writer::start(&cluster);
        let old = cluster.primary();
        let killed_ms = now_ms();
        signal(&cluster.pids(&old), Signal::KILL);
        let status = cluster.wait_failover(&old, FAILOVER_LIMIT);
        assert_eq!(
            status["lastFailover"]["new"], status["currentPrimary"],
            "round {round}"
        );
        cluster.wait_ready(3);
        let ledger = writer.finish(&cluster);
        assert_figures_agree(&cluster, &ledger, killed_ms);
    }
    let events = cluster.events();
    for reason in ["FailoverStarted", "CandidateChosen", "FailoverCompleted"] {
        assert!(events.contains(reason), "{events}");
    }
}

#[test]
fn a_killed_engine_is_restarted_in_place() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let old = cluster.primary();
    signal(&cluster.pids(&old)[1..], Signal::KILL);
    writer.wait_for(20);
    cluster.wait_ready(3);
    writer.finish(&cluster);
    assert!(cluster.events().contains("RestartedInPlace") || cluster.primary() != old);
}

#[test]
fn a_frozen_instance_is_fenced_and_taken_over_from() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let old = cluster.primary();
    signal(&cluster.pids(&old), Signal::STOP);
    cluster.wait_failover(&old, FAILOVER_LIMIT);
    cluster.wait_ready(3);
    writer.finish(&cluster);
    assert!(cluster.events().contains("Fenced"), "{}", cluster.events());
}

#[test]
fn with_a_standby_down_and_the_operator_killed_in_the_middle() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let standby = cluster.standbys().remove(0);
    let old = cluster.primary();
    let operator = cluster.operator_pid();
    signal(&cluster.pids(&standby), Signal::KILL);
    signal(&cluster.pids(&old), Signal::KILL);
    std::thread::sleep(Duration::from_millis(100));
    signal(&[operator], Signal::KILL);
    std::thread::sleep(Duration::from_millis(300));
    cluster.apply(2);
    cluster.wait_ready(3);
    assert_ne!(cluster.primary(), old, "{}", cluster.events());
    writer.finish(&cluster);
}

/// The insert that an old primary's own session has in hand when it is frozen.
fn session_on(cluster: &Cluster, instance: &str) -> Client {
    let session = Client::connect(cluster.own_port(instance)).expect("it serves");
    session.set_read_timeout(Duration::from_secs(5));
    session
}

#[test]
fn without_fencing_a_woken_primary_acknowledges_nothing_more() {
    let cluster = Cluster::up(2, false);
    let writer = Writer::start(&cluster);
    let old = cluster.primary();
    let mut session = session_on(&cluster, &old);
    let pids = cluster.pids(&old);
    freeze(&pids);
    // Into the socket's buffer: it runs when the primary wakes.
    session
        .send("INSERT INTO ledger VALUES (-1)")
        .expect("sent");
    cluster.wait_failover(&old, FAILOVER_LIMIT);
    writer.wait_for(5);
    signal(&pids, Signal::CONT);
    let answers = session.answers();
    let acknowledged = answers
        .as_ref()
        .is_ok_and(|a| a.iter().all(|a| a.error.is_none()));
    assert!(!acknowledged, "an older term acknowledged: {answers:?}");
    let status = cluster.wait_ready(3);
    assert!(status["lastFailover"]["lostBytes"].is_u64(), "{status:#}");
    writer.finish(&cluster);
    let rows = cluster.client().rows("SELECT 1 FROM ledger WHERE id = -1");
    assert!(rows.is_empty());
}

#[test]
fn a_blocked_failover_goes_on_when_the_old_primary_comes_back() {
    let cluster = Cluster::up(2, false);
    let writer = Writer::start(&cluster);
    let old = cluster.primary();
    let standby = cluster.standbys().remove(0);
    let (frozen, silent) = (cluster.pids(&old), cluster.pids(&standby));
    signal(&silent, Signal::STOP);
    signal(&frozen, Signal::STOP);
    cluster.wait("it is blocked", FAILOVER_LIMIT, |s| {
        let conditions = s["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["reason"] == "FailoverBlocked")
    });
    signal(&frozen, Signal::CONT);
    cluster.wait("it goes on", FAILOVER_LIMIT, |s| s["phase"] == "Running");
    signal(&silent, Signal::CONT);
    cluster.wait_ready(3);
    writer.finish(&cluster);
}

#[test]
fn the_role_is_handed_over_and_the_cluster_scaled_without_loss() {
    let cluster = Cluster::up(1, true);
    let writer = Writer::start(&cluster);
    let (old, target): (String, String) = (cluster.primary(), cluster.standbys().remove(0));
    cluster.run_ok(&["switchover", "--to", &target]);
    let status = cluster.wait_ready(2);
    assert_eq!(status["currentPrimary"], target.as_str());
    assert_eq!(status["lastSwitchover"]["old"], old.as_str());
    for replicas in [2, 0, 1] {
        cluster.apply(replicas);
        let status = cluster.wait_ready(u64::from(replicas) + 1);
        assert_eq!(status["currentPrimary"], target.as_str());
    }
    writer.finish(&cluster);
}
