//! Local mode as a user meets it, with a stand-in for the engine (`examples/fake_engine.rs`): takeovers, freezes, an
//! operator that is killed, scaling, switchovers, a blocked failover.
//!
//! Each test has a cluster of its own in a temporary folder, and ends every process that it started.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const OPERATOR: &str = env!("CARGO_BIN_EXE_understudy-operator");

fn fake_engine() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its program");
    let path = exe
        .ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .join("examples/fake_engine");
    assert!(
        path.is_file(),
        "{} is missing: cargo build -p operator --examples",
        path.display()
    );
    path
}

struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
    fencing: bool,
}

impl Cluster {
    fn up(replicas: u32, fencing: bool) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Cluster {
            folder,
            port: three_ports(),
            fencing,
        };
        cluster.apply(replicas);
        // Until the set is settled the first primary's own, empty one still counts.
        cluster.wait_ready(u64::from(replicas) + 1);
        cluster
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    fn apply(&self, replicas: u32) {
        let manifest = self.folder.path().join("orders.yaml");
        std::fs::write(&manifest, manifest_text(replicas)).expect("written");
        let (port, file, engine) = (
            self.port.to_string(),
            manifest.display().to_string(),
            fake_engine(),
        );
        let mut arguments = vec!["up", "-f", &file, "--port", &port, "--detach"];
        if !self.fencing {
            arguments.push("--no-fence");
        }
        let engine = engine.display().to_string();
        arguments.extend(["--engine", &engine]);
        self.run_ok(&arguments);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(OPERATOR)
            .arg("local")
            .args(arguments)
            .arg("--dir")
            .arg(self.dir())
            .output()
            .expect("the operator runs")
    }

    fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{errors}{}",
            self.logs()
        );
        text
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.run_ok(&["status", "-o", "json"])).expect("JSON")
    }

    fn status(&self) -> Value {
        self.object()["status"].clone()
    }

    fn primary(&self) -> String {
        self.status()["currentPrimary"]
            .as_str()
            .expect("a primary")
            .to_owned()
    }

    fn standby(&self) -> String {
        let status = self.status();
        let mut names = instances(&status).map(|i| i["name"].as_str().unwrap_or("").to_owned());
        names
            .find(|n| status["currentPrimary"] != n.as_str())
            .expect("a standby")
    }

    fn pids(&self, name: &str) -> [Pid; 2] {
        let status = self.status();
        let instance = instances(&status)
            .find(|i| i["name"] == name)
            .expect("it exists")
            .clone();
        ["supervisorPid", "enginePid"].map(|key| {
            let pid = instance[key]
                .as_i64()
                .unwrap_or_else(|| panic!("{key} of {name}: {instance}"));
            Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
        })
    }

    fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if done(&status) {
                return status;
            }
            assert!(
                begin.elapsed() < limit,
                "{what}: not within {limit:?}\n{status:#}\n{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_ready(&self, instances: u64) -> Value {
        self.wait("everything is ready", Duration::from_secs(30), |s| {
            is_true(s, "Ready")
                && s["readyInstances"] == instances
                && s["inSync"].as_array().is_some_and(|s| s.len() == 1)
        })
    }

    fn events(&self) -> String {
        self.run_ok(&["events"])
    }

    fn operator_pid(&self) -> Pid {
        let text = std::fs::read_to_string(self.dir().join("operator.pid")).expect("a pid file");
        Pid::from_raw(text.trim().parse().expect("a number")).expect("a pid")
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for path in ["events.log", "operator.log"] {
            text += &std::fs::read_to_string(self.dir().join(path)).unwrap_or_default();
        }
        for entry in std::fs::read_dir(self.dir().join("instances"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for log in ["supervisor.log", "engine.log"] {
                let path = entry.path().join(log);
                text += &format!(
                    "--- {}\n{}",
                    path.display(),
                    std::fs::read_to_string(&path).unwrap_or_default()
                );
            }
        }
        text
    }

    fn ask(&self, question: &str) -> std::io::Result<String> {
        ask(self.port, question)
    }

    /// Everything that the primary has.
    fn read(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the Service answers");
        stream.write_all(b"READ\n").expect("sent");
        let lines = BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|l| l != ".");
        lines
            .filter_map(|l| l.split_once(' ').map(|(_, v)| v.to_owned()))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.run(&["down", "--purge"]);
        let ended = output.status.success();
        assert!(
            ended || std::thread::panicking(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn manifest_text(replicas: u32) -> String {
    format!(
        "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\n\
         spec: {{replicas: {replicas}, storage: {{size: 1Gi}}}}\n"
    )
}

fn three_ports() -> u16 {
    loop {
        let [port] = operator::local::free_ports::<1>().expect("a free port");
        if operator::local::is_free(port + 1) && operator::local::is_free(port + 2) {
            return port;
        }
    }
}

fn instances(status: &Value) -> impl Iterator<Item = &Value> {
    status["instances"].as_array().into_iter().flatten()
}

fn is_true(status: &Value, condition: &str) -> bool {
    let conditions = status["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == condition && c["status"] == "True")
}

fn ask(port: u16, question: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        kill_process(*pid, signal).expect("the process is there");
    }
}

/// Writes through the Service all the time and keeps what was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(Instant, String)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(port: u16) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let (ended, ledger) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            for number in 0_u64.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let value = format!("w{number}");
                if ask(port, &format!("WRITE {value}")).is_ok_and(|a| a.starts_with("OK")) {
                    ledger
                        .lock()
                        .expect("not poisoned")
                        .push((Instant::now(), value));
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let writer = Writer {
            stop,
            acknowledged,
            thread: Some(thread),
        };
        writer.wait_for(5);
        writer
    }

    fn wait_for(&self, more: usize) {
        let begin = Instant::now();
        let first = self.acknowledged.lock().expect("not poisoned").len();
        while self.acknowledged.lock().expect("not poisoned").len() < first + more {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "nothing is acknowledged"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The longest pause between two acknowledgements; nothing that was acknowledged is missing.
    fn finish(mut self, cluster: &Cluster) -> Duration {
        self.wait_for(5);
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .expect("joined once")
            .join()
            .expect("the writer did not panic");
        let acknowledged = self.acknowledged.lock().expect("not poisoned");
        let there = cluster.read();
        let missing: Vec<&String> = acknowledged
            .iter()
            .map(|(_, value)| value)
            .filter(|v| !there.contains(v))
            .collect();
        assert!(
            missing.is_empty(),
            "acknowledged and missing: {missing:?}\n{}",
            cluster.logs()
        );
        let pauses = acknowledged.windows(2).map(|pair| pair[1].0 - pair[0].0);
        pauses.max().expect("more than one was acknowledged")
    }
}

#[test]
fn a_standby_takes_over_from_a_killed_instance_and_the_old_primary_comes_back() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(cluster.port);
    let old = cluster.primary();
    signal(&cluster.pids(&old), Signal::KILL);
    cluster.wait("the failover is reported", Duration::from_secs(10), |s| {
        s["lastFailover"]["old"] == old.as_str()
    });
    let status = cluster.wait_ready(3);
    let pause = writer.finish(&cluster);
    let report = &status["lastFailover"];
    assert_ne!(status["currentPrimary"], old.as_str());
    assert_eq!(report["new"], status["currentPrimary"]);
    assert_eq!(status["term"], 2);
    let seconds = report["seconds"].as_f64().expect("a number");
    assert!(
        seconds < 1.0 && pause < Duration::from_secs(1),
        "{seconds} s, the client saw {pause:?}\n{}",
        cluster.logs()
    );
    assert!(
        (pause.as_secs_f64() - seconds).abs() < 0.3,
        "the figures disagree: {seconds} s, {pause:?}"
    );
    let at = |key: &str| report[key].as_u64().expect("milliseconds");
    assert!(at("detectedAt") <= at("promotedAt") && at("promotedAt") <= at("writableAt"));
    let events = cluster.events();
    for reason in [
        "FailoverStarted",
        "CandidateChosen",
        "FailoverCompleted",
        "InstanceReady",
    ] {
        assert!(events.contains(reason), "{events}");
    }
}

#[test]
fn a_crashed_engine_is_restarted_in_place_and_the_second_crash_fails_over() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(cluster.port);
    let old = cluster.primary();
    signal(&cluster.pids(&old)[1..], Signal::KILL);
    writer.wait_for(20);
    let status = cluster.wait_ready(3);
    assert_eq!(
        (&status["term"], &status["currentPrimary"]),
        (&Value::from(1), &Value::from(old.clone()))
    );
    assert!(cluster.events().contains("RestartedInPlace"));
    signal(&cluster.pids(&old)[1..], Signal::KILL);
    cluster.wait(
        "the second crash fails over",
        Duration::from_secs(10),
        |s| s["lastFailover"]["old"] == old.as_str(),
    );
    cluster.wait_ready(3);
    writer.finish(&cluster);
}

#[test]
fn a_frozen_instance_is_fenced_and_taken_over_from() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(cluster.port);
    let old = cluster.primary();
    signal(&cluster.pids(&old), Signal::STOP);
    cluster.wait("the failover is reported", Duration::from_secs(15), |s| {
        s["lastFailover"]["old"] == old.as_str()
    });
    cluster.wait_ready(3);
    assert!(cluster.events().contains("Fenced"), "{}", cluster.events());
    let pause = writer.finish(&cluster);
    assert!(pause < Duration::from_secs(6), "{pause:?}");
}

#[test]
fn without_fencing_a_thawed_primary_acknowledges_nothing_more() {
    let cluster = Cluster::up(2, false);
    let writer = Writer::start(cluster.port);
    let old = cluster.primary();
    let status = cluster.status();
    let direct = instances(&status)
        .find(|i| i["name"] == old.as_str())
        .expect("it exists")["port"]
        .as_u64();
    let mut session = TcpStream::connect((
        "127.0.0.1",
        u16::try_from(direct.expect("a port")).expect("a port"),
    ))
    .expect("an open session on the primary itself");
    session
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("set");
    let pids = cluster.pids(&old);
    signal(&pids, Signal::STOP);
    session
        .write_all(b"WRITE late\n")
        .expect("into the socket's buffer");
    cluster.wait("the failover is reported", Duration::from_secs(15), |s| {
        s["lastFailover"]["old"] == old.as_str()
    });
    writer.wait_for(5);
    signal(&pids, Signal::CONT);
    let mut answer = String::new();
    let read = BufReader::new(&session).read_line(&mut answer);
    assert!(
        read.is_err() || answer.is_empty(),
        "an older term acknowledged: {answer:?}"
    );
    let status = cluster.wait_ready(3);
    assert!(status["lastFailover"]["lostBytes"].is_u64(), "{status:#}");
    writer.finish(&cluster);
    assert!(!cluster.read().contains(&"late".to_owned()));
}

#[test]
fn databases_go_on_without_the_operator_and_a_new_one_finishes_the_failover() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(cluster.port);
    signal(&[cluster.operator_pid()], Signal::KILL);
    writer.wait_for(10);
    let old = cluster.primary();
    signal(&cluster.pids(&old), Signal::KILL);
    std::thread::sleep(Duration::from_millis(300));
    cluster.apply(2);
    let status = cluster.wait_ready(3);
    assert_ne!(status["currentPrimary"], old.as_str(), "{}", cluster.logs());
    writer.finish(&cluster);
}

#[test]
fn the_role_is_handed_over_without_loss_and_nonsense_is_refused() {
    let cluster = Cluster::up(2, true);
    let writer = Writer::start(cluster.port);
    let (old, target) = (cluster.primary(), cluster.standby());
    cluster.run_ok(&["switchover", "--to", &target]);
    let status = cluster.wait_ready(3);
    assert_eq!(status["currentPrimary"], target.as_str());
    assert_eq!(status["lastSwitchover"]["old"], old.as_str());
    assert!(status["lastFailover"].is_null());
    let pause = writer.finish(&cluster);
    assert!(
        pause < Duration::from_secs(1),
        "{pause:?}\n{}",
        cluster.logs()
    );
    let refused = cluster.run(&["switchover", "--to", "nobody"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("nobody is not an in-sync standby"),
        "{message}"
    );
    let refused = cluster.run(&["force-promote", "orders-1@1"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("no failover is blocked"),
        "{message}"
    );
}

#[test]
fn scaling_moves_neither_the_primary_nor_the_data() {
    let cluster = Cluster::up(1, true);
    let writer = Writer::start(cluster.port);
    let primary = cluster.primary();
    for replicas in [3, 0, 2] {
        cluster.apply(replicas);
        let status = cluster.wait_ready(u64::from(replicas) + 1);
        assert_eq!(status["currentPrimary"], primary.as_str());
        assert_eq!(instances(&status).count(), replicas as usize + 1);
        assert_eq!(is_true(&status, "Protected"), replicas > 0, "{status:#}");
    }
    let pause = writer.finish(&cluster);
    assert!(pause < Duration::from_secs(1), "{pause:?}");
}

#[test]
fn a_failover_without_enough_answers_is_blocked_and_goes_on_when_one_comes() {
    let cluster = Cluster::up(2, false);
    let writer = Writer::start(cluster.port);
    let (primary, standby) = (cluster.primary(), cluster.standby());
    let (old, silent) = (cluster.pids(&primary), cluster.pids(&standby));
    signal(&silent, Signal::STOP);
    signal(&old, Signal::STOP);
    let status = cluster.wait("it is blocked", Duration::from_secs(15), |s| {
        s["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["reason"] == "FailoverBlocked")
    });
    let term = status["term"].as_u64().expect("a term");
    let messages = status["conditions"].to_string();
    assert!(
        messages.contains(&standby) && messages.contains(&format!("@{term}")),
        "{messages}"
    );
    let refused = cluster.run(&["force-promote", &format!("orders-3@{}", term + 1)]);
    assert!(!refused.status.success());
    let served = cluster.ask("READ").is_ok_and(|answer| !answer.is_empty());
    assert!(!served, "nobody may serve");
    signal(&silent, Signal::CONT);
    cluster.wait("it goes on", Duration::from_secs(10), |s| {
        s["phase"] == "Running" && s["term"] == term
    });
    signal(&old, Signal::CONT);
    cluster.wait_ready(3);
    writer.finish(&cluster);
}

#[test]
fn a_forced_promotion_ends_a_blocked_failover() {
    let cluster = Cluster::up(2, false);
    let (primary, standby) = (cluster.primary(), cluster.standby());
    assert!(
        cluster
            .ask("WRITE before")
            .expect("written")
            .starts_with("OK")
    );
    let (old, silent) = (cluster.pids(&primary), cluster.pids(&standby));
    signal(&silent, Signal::STOP);
    signal(&old, Signal::STOP);
    let status = cluster.wait("it is blocked", Duration::from_secs(15), |s| {
        s["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["reason"] == "FailoverBlocked")
    });
    let names = ["orders-1", "orders-2", "orders-3"];
    let left = names
        .into_iter()
        .find(|n| *n != primary && *n != standby)
        .expect("one is left");
    cluster.run_ok(&["force-promote", &format!("{left}@{}", status["term"])]);
    let status = cluster.status();
    assert_eq!(status["currentPrimary"], left);
    signal(&silent, Signal::CONT);
    signal(&old, Signal::CONT);
    let status = cluster.wait_ready(3);
    assert_eq!(status["lastFailover"]["forced"], true, "{status:#}");
}

#[test]
fn a_record_that_is_gone_is_rebuilt_from_the_volumes() {
    let cluster = Cluster::up(2, true);
    assert!(
        cluster
            .ask("WRITE kept")
            .expect("written")
            .starts_with("OK")
    );
    signal(&[cluster.operator_pid()], Signal::KILL);
    std::fs::remove_file(cluster.dir().join("cluster.json")).expect("removed");
    cluster.apply(2);
    let status = cluster.wait_ready(3);
    assert!(status["term"].as_u64() > Some(1), "{status:#}");
    assert!(cluster.read().contains(&"kept".to_owned()));
}

#[test]
fn impossible_manifests_are_refused_with_the_fields_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |text: &str| {
        let file = folder.path().join("m.yaml");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(OPERATOR);
        command
            .args(["local", "up", "-f"])
            .arg(&file)
            .arg("--dir")
            .arg(folder.path().join("c"));
        let output = command.output().expect("the operator runs");
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let base = manifest_text(2);
    for (text, path) in [
        (base.replace("replicas: 2", "replicas: 99"), "spec.replicas"),
        (
            base.replace("replicas: 2", "replicas: many"),
            "spec.replicas",
        ),
        (base.replace("size: 1Gi", "size: big"), "spec.storage.size"),
        (
            base.replace("replicas: 2", "parameters: {PORT: '1'}"),
            "spec.parameters.PORT",
        ),
        (base.replace("replicas: 2", "replica: 2"), "replica"),
        (
            base.replace("name: orders", "name: Orders_1"),
            "metadata.name",
        ),
        (base.replace("v1alpha1", "v2"), "apiVersion"),
        (base.replace("kind: ReplicatedCluster", "kind: Pod"), "kind"),
        ("a: [".to_owned(), "not YAML"),
    ] {
        let message = refused(&text);
        assert!(message.contains(path), "{path}: {message}");
    }
    assert!(
        !folder.path().join("c").exists(),
        "a refused manifest leaves nothing"
    );
}

#[test]
fn control_calls_need_the_credential() {
    let cluster = Cluster::up(0, true);
    let config =
        std::fs::read(cluster.dir().join("instances/orders-1/instance.json")).expect("read");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let port = u16::try_from(config["control_port"].as_u64().expect("a port")).expect("a port");
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
    assert_eq!(cluster.status()["term"], 1);
    assert!(Path::new(&cluster.dir()).exists());
}
