//! What a user of local mode connects to and looks at: the three Services and when they cut connections, parameters of
//! the manifest, `up` in a terminal with its live events, copies that are kept aside.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use understudy_tests::local::{Cluster, Writer, freeze, manifest, signal};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const LIMIT: Duration = Duration::from_secs(60);

/// A session through the Service at this port, and the instance that it has come to. A standby that was only just
/// seeded may not be in the Service yet.
fn session(port: u16) -> (Client, String) {
    let mut found = None;
    eventually("a Service answers", || {
        let client = Client::connect_within(port, Duration::from_secs(20));
        found = client.ok().and_then(|mut client| {
            let answers = client.query("SHOW cluster_name").ok()?;
            let name = answers.first()?.rows.first()?.first()?.clone()?;
            Some((client, name))
        });
        found.is_some()
    });
    found.expect("it has answered")
}

/// The instances that so many sessions one after the other come to.
fn led_to(port: u16, sessions: usize) -> BTreeSet<String> {
    (0..sessions).map(|_| session(port).1).collect()
}

#[test]
fn each_service_leads_where_it_should_and_cuts_who_is_wrong_there() {
    let cluster = Cluster::up(2, true);
    let (old, standbys) = (cluster.primary(), cluster.standbys());
    let [write, read, any] = [0, 1, 2].map(|offset| cluster.port + offset);
    let both: BTreeSet<String> = standbys.iter().cloned().collect();
    let all: BTreeSet<String> = both.iter().chain([&old]).cloned().collect();
    assert_eq!(led_to(write, 3), BTreeSet::from([old.clone()]));
    // In turn: as many sessions as there are instances come to each of them.
    eventually("both standbys serve", || led_to(read, 2) == both);
    eventually("everybody serves", || led_to(any, 3) == all);
    let address = session(write).0.value("SHOW listen_addresses");
    assert_eq!(address, "127.0.0.1", "whoever gets there is trusted");

    let target = standbys[0].clone();
    let mut writing = session(write).0;
    let mut reading = loop {
        let (client, name) = session(read);
        if name == target {
            break client;
        }
    };
    let mut staying = loop {
        let (client, name) = session(any);
        if name == target {
            break client;
        }
    };
    // What a session of the standby's own port is told is nobody's to cut.
    let mut own = Client::connect(cluster.own_port(&target)).expect("it serves");
    cluster.run_ok(&["switchover", "--to", &target]);
    let gone = |client: &mut Client| client.query("SELECT 1").is_err();
    eventually("a writer is cut off the old primary", || gone(&mut writing));
    eventually("a reader is cut off the new primary", || gone(&mut reading));
    assert!(!gone(&mut own), "it has not restarted");
    assert!(!gone(&mut staying), "it is an instance still");
    let new = BTreeSet::from([target.clone()]);
    eventually("writers come to the new primary", || {
        led_to(write, 3) == new
    });
    cluster.wait_ready(3);
    let left: BTreeSet<String> = all.iter().filter(|n| **n != target).cloned().collect();
    eventually("the others serve readers", || led_to(read, 2) == left);

    // The Services outlive the operator.
    signal(&[cluster.operator_pid()], Signal::KILL);
    let (mut client, name) = session(write);
    assert_eq!(name, target);
    client.rows("CREATE TABLE t (a int)");
    assert!(led_to(read, 2).is_subset(&left));
}

fn manifest_with(replicas: u32, work_mem: &str) -> String {
    manifest(replicas, "quorum").replace(
        "storage:",
        &format!("parameters: {{work_mem: {work_mem}}}, storage:"),
    )
}

#[test]
fn up_in_a_terminal_shows_events_takes_a_new_manifest_and_ends_without_the_databases() {
    let (cluster, terminal) = Cluster::in_a_terminal(&manifest_with(1, "5MB"), 2);
    let services = format!("services: primary 127.0.0.1:{}", cluster.port);
    for line in [
        services.as_str(),
        "orders-1 begins with an empty database",
        "orders-2 begins with a base backup",
        "orders-2 takes its base backup of the primary",
        "orders-2 is ready as standby",
    ] {
        eventually(line, || terminal.text().contains(line));
    }
    let shows = |port: u16| session(port).0.value("SHOW work_mem");
    assert_eq!(
        (shows(cluster.port), shows(cluster.port + 1)),
        ("5MB".to_owned(), "5MB".to_owned())
    );

    // A second `up` hands its manifest over.
    let file = cluster.dir().with_extension("yaml");
    std::fs::write(&file, manifest_with(2, "6MB")).expect("written");
    let said = cluster.run_ok(&["up", "-f", &file.display().to_string()]);
    assert!(said.contains("was handed to the operator"), "{said}");
    cluster.wait_ready(3);
    eventually("both have the new parameter", || {
        shows(cluster.port) == "6MB" && shows(cluster.port + 1) == "6MB"
    });
    let status = cluster.run_ok(&["status"]);
    assert!(!status.contains("operator: not running"), "{status}");

    let third = "orders-3 is ready as standby";
    eventually(third, || terminal.text().contains(third));
    let shown = terminal.interrupt();
    let last = "the operator has ended; the databases go on";
    assert!(shown.contains(last), "{shown}");
    cluster.client().rows("CREATE TABLE t (a int)");
    let status = cluster.run_ok(&["status"]);
    assert!(status.contains("operator: not running"), "{status}");
    // Started again, it takes up where it was.
    cluster.run_ok(&["up", "-f", &file.display().to_string(), "--detach"]);
    cluster.wait_ready(3);
}

/// A former primary that has what the new one never had is seeded anew, and what it had stays to be looked at.
#[test]
fn a_diverged_copy_is_kept_aside() {
    let cluster = Cluster::up(2, false);
    let writer = Writer::start(&cluster);
    let (old, term) = (cluster.primary(), cluster.term());
    let pids = cluster.pids(&old);
    let own = cluster.own_port(&old);
    let mut watching = Client::connect(own).expect("it serves");
    let mut session = Client::connect(own).expect("it serves");
    let end = watching.value("SELECT pg_current_wal_flush_lsn()");
    freeze(&pids);
    // Into the socket's buffer: it is written when the old primary wakes, beyond what anybody else has.
    session
        .send("INSERT INTO ledger SELECT -g FROM generate_series(1, 5000) g")
        .expect("sent");
    cluster.wait_failover(term, LIMIT);
    writer.wait_for(5);
    // The engine first: its supervisor will have it sealed at once.
    signal(&pids[1..], Signal::CONT);
    let beyond = format!("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '{end}') > 100000");
    eventually("it is flushed there", || watching.value(&beyond) == "t");
    session.set_read_timeout(Duration::from_secs(1));
    let answers = session.answers();
    let acknowledged = answers.is_ok_and(|a| a.iter().all(|a| a.error.is_none()));
    assert!(!acknowledged, "an older term acknowledged");
    signal(&pids[..1], Signal::CONT);
    cluster.wait_event("Reseeding", 1, LIMIT);
    let events = cluster.events();
    assert!(events.contains("kept aside for 24 hours"), "{events}");
    let status = cluster.wait_ready(3);
    let lost = status["lastFailover"]["lostBytes"].as_u64();
    assert!(lost.is_some_and(|bytes| bytes > 0), "{status:#}");
    let aside = cluster.dir().join("instances").join(&old).join("aside");
    let kept = std::fs::read_dir(&aside).expect("it is kept");
    let mut kept = kept.flatten().map(|e| e.path().join("global/pg_control"));
    assert!(kept.any(|file| file.is_file()), "{}", aside.display());
    let invented = "SELECT count(*) FROM ledger WHERE id < 0";
    assert_eq!(cluster.client().value(invented), "0");
    writer.finish(&cluster);
}
