//! Local mode as a user meets it: manifests, commands and their refusals, scaling, every durability, requests that ask
//! for the impossible, files of the cluster's folder that are damaged or gone.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use understudy_tests::local::{
    Cluster, Writer, freeze, instances, is_gone, is_true, manifest, signal,
};
use understudy_tests::programs::{free_port, ours};
use understudy_tests::standby::eventually;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn impossible_manifests_are_refused_with_the_fields_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("c");
    let up = |text: &str, more: &[&str]| {
        let file = folder.path().join("m.yaml");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(ours("understudy-operator"));
        command.args(["local", "up", "--detach", "-f"]).arg(&file);
        let output = command.arg("--dir").arg(&dir).args(more).output();
        let output = output.expect("the operator runs");
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let base = manifest(2, "quorum");
    for (old, new, path) in [
        ("replicas: 2", "replicas: 99", "spec.replicas"),
        ("replicas: 2", "replicas: -1", "spec.replicas"),
        ("replicas: 2", "replicas: many", "spec.replicas"),
        ("durability: quorum", "durability: most", "spec.durability"),
        ("size: 1Gi", "size: big", "spec.storage.size"),
        ("size: 1Gi", "size: 1Mi", "spec.storage.size"),
        (
            "replicas: 2",
            "parameters: {PORT: '1'}",
            "spec.parameters.PORT",
        ),
        ("replicas: 2", "replica: 2", "spec.replica: unknown field"),
        ("name: orders", "name: Orders_1", "metadata.name"),
        ("v1alpha1", "v2", "apiVersion: \"understudy.dev/v2\""),
        ("kind: ReplicatedCluster", "kind: Pod", "kind: \"Pod\""),
        ("spec: {", "spec: [", "not YAML"),
    ] {
        let message = up(&base.replace(old, new), &[]);
        assert!(message.contains(path), "{path}: {message}");
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = listener.local_addr().expect("bound").port();
    for port in [taken, taken - 1, taken - 2] {
        let message = up(&base, &["--port", &port.to_string()]);
        assert!(
            message.contains("is taken; choose three ports"),
            "{message}"
        );
    }
    assert!(
        !dir.join("cluster.json").exists(),
        "a refused manifest leaves nothing"
    );
    let mut nothing = Command::new(ours("understudy-operator"));
    let output = nothing
        .args(["local", "status", "--dir"])
        .arg(&dir)
        .output();
    let errors = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(errors.contains("no cluster in this folder"), "{errors}");
}

#[test]
fn the_role_is_handed_over_and_nonsense_is_refused() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let (old, target): (String, String) = (cluster.primary(), cluster.standbys().remove(0));
    cluster.run_ok(&["switchover", "--to", &target]);
    let status = cluster.wait_ready(3);
    assert_eq!(status["currentPrimary"], target.as_str());
    assert_eq!(status["lastSwitchover"]["old"], old.as_str());
    assert!(status["lastFailover"].is_null(), "{status:#}");
    for (arguments, told) in [
        (
            ["switchover", "--to", "nobody"],
            "\"nobody\" is not an instance of orders",
        ),
        (["switchover", "--to", &target], "is the primary already"),
    ] {
        let message = cluster.refused(&arguments);
        assert!(message.contains(told), "{message}");
    }
    let message = cluster.refused(&["force-promote", "orders-1@1"]);
    assert!(message.contains("no failover is blocked"), "{message}");
    let file = cluster.dir().with_extension("yaml").display().to_string();
    let other = free_port().to_string();
    let message = cluster.refused(&["up", "-f", &file, "--detach", "--port", &other]);
    assert!(message.contains("runs on port"), "{message}");
    let another = manifest(2, "quorum").replace("orders", "bills");
    std::fs::write(&file, another).expect("written");
    let message = cluster.refused(&["up", "-f", &file, "--detach"]);
    assert!(
        message.contains("holds the cluster orders, not bills"),
        "{message}"
    );
    control_calls_need_the_credential(&cluster);
    writer.finish(&cluster);

    // Everything is stopped, and comes back with its data.
    let rows = cluster.client().value("SELECT count(*) FROM ledger");
    cluster.run_ok(&["down"]);
    assert!(TcpStream::connect(("127.0.0.1", cluster.port)).is_err());
    cluster.apply(2);
    let status = cluster.wait_ready(3);
    assert_eq!(status["currentPrimary"], target.as_str());
    assert_eq!(cluster.client().value("SELECT count(*) FROM ledger"), rows);
    for line in cluster.run_ok(&["events", "-o", "json"]).lines() {
        let event: Value = serde_json::from_str(line).expect("a JSON line");
        assert!(
            event["reason"].is_string() && event["time"].is_string(),
            "{event}"
        );
    }
}

fn control_calls_need_the_credential(cluster: &Cluster) {
    let path = cluster.dir().join("instances/orders-1/instance.json");
    let config: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    let port = u16::try_from(config["control_port"].as_u64().expect("a port")).expect("a port");
    let term = cluster.term();
    for header in ["", "Authorization: Bearer wrong\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the supervisor answers");
        let body = "{\"term\":9}";
        let request = format!(
            "POST /seal HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("read");
        assert!(answer.contains("401"), "{answer}");
    }
    assert_eq!(cluster.term(), term);
}

#[test]
fn scaling_moves_neither_the_primary_nor_the_data() {
    let cluster = Cluster::up(1, true);
    let writer = Writer::start(&cluster);
    let primary = cluster.primary();
    for replicas in [2, 0, 1] {
        cluster.apply(replicas);
        let status = cluster.wait_ready(u64::from(replicas) + 1);
        assert_eq!(status["currentPrimary"], primary.as_str());
        assert_eq!(instances(&status).count(), replicas as usize + 1);
        cluster.wait("it says whether it is protected", LIMIT, |s| {
            is_true(s, "Protected") == (replicas > 0)
        });
    }
    // What a standby can give costs the primary nothing.
    let events = cluster.events();
    let of_standby = "orders-3 takes its base backup of orders-2, a standby";
    assert!(events.contains(of_standby), "{events}");
    writer.finish(&cluster);
}

/// Every standby has each commit: one that does not answer stops the writing, and never leaves the set.
#[test]
fn strict_waits_for_every_standby() {
    let cluster = Cluster::up_with(1, true, "strict");
    let writer = Writer::start(&cluster);
    let standby = cluster.standbys().remove(0);
    let silent = cluster.pids(&standby);
    freeze(&silent);
    std::thread::sleep(Duration::from_secs(1));
    let before = writer.acknowledged_anywhere();
    // Longer than a member of another durability would be waited for.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(
        writer.acknowledged_anywhere(),
        before,
        "{}",
        cluster.events()
    );
    signal(&silent, Signal::CONT);
    writer.wait_for(5);
    // A takeover keeps everything, and the new primary waits for its standby.
    let (old, term) = (cluster.primary(), cluster.term());
    signal(&cluster.pids(&old), Signal::KILL);
    let status = cluster.wait_failover(term, LIMIT);
    assert_eq!(status["currentPrimary"], standby.as_str());
    let status = cluster.wait_ready(2);
    assert_eq!(status["inSync"][0]["required"], 1, "{status:#}");
    writer.finish(&cluster);
}

/// The primary acknowledges alone: a silent standby stops nobody, and a takeover says what it left behind.
#[test]
fn async_waits_for_nobody_and_tells_the_loss() {
    let cluster = Cluster::up_with(1, true, "async");
    let mut client = cluster.client();
    client.rows("CREATE TABLE t (a int)");
    let standby = cluster.standbys().remove(0);
    let silent = cluster.pids(&standby);
    freeze(&silent);
    client.rows("INSERT INTO t SELECT generate_series(1, 100)");
    let (old, term) = (cluster.primary(), cluster.term());
    signal(&cluster.pids(&old), Signal::KILL);
    signal(&silent, Signal::CONT);
    cluster.wait_failover(term, LIMIT);
    let status = cluster.wait_ready(2);
    let lost = status["lastFailover"]["lostBytes"].as_u64();
    let left: usize = cluster
        .client()
        .value("SELECT count(*) FROM t")
        .parse()
        .expect("a number");
    // What the frozen standby had in its socket it may have taken in when it woke.
    assert!(
        lost.is_some_and(|lost| left == 100 || lost > 0),
        "{left} rows\n{status:#}"
    );
    assert_eq!(status["inSync"][0]["durability"], "async");
}

fn is_blocked(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["reason"] == "FailoverBlocked")
}

#[test]
fn a_forced_promotion_ends_a_blocked_failover() {
    let cluster = Cluster::up(2, false);
    cluster.client().rows("CREATE TABLE t (a int)");
    let (primary, standby) = (cluster.primary(), cluster.standbys().remove(0));
    let (old, silent) = (cluster.pids(&primary), cluster.pids(&standby));
    freeze(&silent);
    freeze(&old);
    let status = cluster.wait("it is blocked", LIMIT, is_blocked);
    let term = status["term"].as_u64().expect("a term");
    let told = status["conditions"].to_string();
    assert!(
        told.contains(&standby) && told.contains(&format!("@{term}")),
        "{told}"
    );
    let names = ["orders-1", "orders-2", "orders-3"];
    let mut others = names.into_iter().filter(|n| *n != primary && *n != standby);
    let left = others.next().expect("one is left");
    for wrong in [format!("{left}@{}", term + 1), "nobody@x".to_owned()] {
        cluster.refused(&["force-promote", &wrong]);
    }
    cluster.run_ok(&["force-promote", &format!("{left}@{term}")]);
    assert_eq!(cluster.status()["currentPrimary"], left);
    signal(&silent, Signal::CONT);
    signal(&old, Signal::CONT);
    let status = cluster.wait_ready(3);
    assert_eq!(status["lastFailover"]["forced"], true, "{status:#}");
}

#[test]
fn damaged_files_are_told_and_nothing_is_lost() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let file = |name: &str| cluster.dir().join(name);
    // The record: the operator stops deciding, the databases go on, the whole file makes it go on.
    let record = std::fs::read(file("cluster.json")).expect("read");
    signal(&[cluster.operator_pid()], Signal::KILL);
    std::fs::write(file("cluster.json"), &record[..record.len() / 2]).expect("written");
    let output = cluster.try_apply(2);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && errors.contains("cluster.json is damaged"),
        "{errors}"
    );
    assert!(errors.contains("restore it, or remove it"), "{errors}");
    writer.wait_for(5);
    // Gone, it is rebuilt from the volumes, in a new term.
    std::fs::remove_file(file("cluster.json")).expect("removed");
    cluster.apply(2);
    let status = cluster.wait_ready(3);
    assert!(status["term"].as_u64() > Some(1), "{status:#}");
    // A cache of where the Services lead.
    std::fs::write(file("services.json"), "{").expect("written");
    let services = std::fs::read_to_string(file("services.pid")).expect("read");
    let services = services
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    signal(&[services.expect("a pid")], Signal::KILL);
    writer.wait_for(5);
    // A standby's promise: that instance stays away and says why, until its volume is moved away.
    let standby = cluster.standbys().remove(0);
    let volume = file("instances").join(&standby);
    let pids = cluster.pids(&standby);
    std::fs::write(volume.join("promise.json"), "{}").expect("written");
    signal(&pids, Signal::KILL);
    cluster.wait_event("StartFailed", 1, LIMIT);
    let events = cluster.events();
    assert!(events.contains("promise.json is damaged"), "{events}");
    std::fs::rename(&volume, cluster.dir().join("moved")).expect("moved");
    cluster.wait_ready(3);
    writer.finish(&cluster);
}

/// An upgrade may bring stricter rules than those that the object was stored under, and what the operator before it knew
/// has ended with that.
#[test]
fn an_operator_that_knows_no_manifest_that_makes_sense_keeps_the_cluster_whole() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(&cluster);
    let before = cluster.operator_pid();
    signal(&[before], Signal::KILL);
    eventually("the operator has ended", || is_gone(&before));
    let file = cluster.dir().join("cluster.json");
    let object = std::fs::read(&file).expect("read");
    let mut object: Value = serde_json::from_slice(&object).expect("JSON");
    object["spec"]["parameters"] = json!({"port": "1"});
    object["spec"]["replicas"] = json!(3);
    std::fs::write(&file, object.to_string()).expect("written");
    let mut operator = Command::new(ours("understudy-operator"))
        .args(["local", "operate", "--dir"])
        .arg(cluster.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the operator runs");
    let limit = Duration::from_secs(120);
    let is_whole = |status: &Value| status["readyInstances"] == 4;
    cluster.wait("the missing one is made as the others", limit, is_whole);
    let (old, term) = (cluster.primary(), cluster.term());
    signal(&cluster.pids(&old), Signal::KILL);
    let status = cluster.wait_failover(term, LIMIT);
    assert_ne!(status["currentPrimary"], old.as_str());
    let status = cluster.wait("the old primary is back", limit, is_whole);
    let conditions = status["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    let ready = ready.expect("it is told");
    assert_eq!(ready["reason"], "InvalidSpec", "{status:#}");
    let said = ready["message"].as_str().expect("a text");
    assert!(said.contains("spec.parameters.port"), "{said}");
    let events = cluster.events();
    assert_eq!(events.matches(" InvalidSpec ").count(), 1, "{events}");
    cluster.apply(3);
    cluster.wait_ready(4);
    writer.finish(&cluster);
    operator
        .kill()
        .and_then(|()| operator.wait())
        .expect("it has ended");
}
