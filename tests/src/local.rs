//! A cluster of local processes under the real operator, and a writer that keeps a ledger of what was acknowledged.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::programs::{free_port, ours};
use crate::wire::Client;

pub struct Cluster {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    pub port: u16,
    fencing: bool,
}

impl Cluster {
    /// Up, and everything ready.
    pub fn up(replicas: u32, fencing: bool) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Cluster {
            dir: folder.path().join("c"),
            folder: Some(folder),
            port: three_ports(),
            fencing,
        };
        cluster.apply(replicas);
        cluster.wait_ready(u64::from(replicas) + 1);
        cluster
    }

    /// `local up` with so many standbys; also starts an operator that was killed.
    pub fn apply(&self, replicas: u32) {
        let manifest = self.dir.with_extension("yaml");
        let text = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\n\
             spec: {{replicas: {replicas}, storage: {{size: 1Gi}}}}\n"
        );
        std::fs::write(&manifest, text).expect("written");
        let (port, file) = (self.port.to_string(), manifest.display().to_string());
        let mut arguments = vec!["up", "-f", &file, "--port", &port, "--detach"];
        if !self.fencing {
            arguments.push("--no-fence");
        }
        self.run_ok(&arguments);
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(ours("understudy-operator"))
            .arg("local")
            .args(arguments)
            .arg("--dir")
            .arg(&self.dir)
            .output()
            .expect("the operator runs")
    }

    pub fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{arguments:?}: {text}{errors}");
        assert!(output.status.success(), "{shown}{}", self.logs());
        text
    }

    pub fn status(&self) -> Value {
        let text = self.run_ok(&["status", "-o", "json"]);
        let object: Value = serde_json::from_str(&text).expect("JSON");
        object["status"].clone()
    }

    pub fn primary(&self) -> String {
        let status = self.status();
        let name = status["currentPrimary"].as_str().expect("a primary");
        name.to_owned()
    }

    pub fn standbys(&self) -> Vec<String> {
        let status = self.status();
        let names = instances(&status).map(|i| i["name"].as_str().unwrap_or("").to_owned());
        names
            .filter(|n| status["currentPrimary"] != n.as_str())
            .collect()
    }

    pub fn instance(&self, name: &str) -> Value {
        let status = self.status();
        let found = instances(&status).find(|i| i["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("{name} is not there: {status:#}"))
    }

    /// Supervisor and engine.
    pub fn pids(&self, name: &str) -> [Pid; 2] {
        let instance = self.instance(name);
        ["supervisorPid", "enginePid"].map(|key| {
            let pid = instance[key]
                .as_i64()
                .unwrap_or_else(|| panic!("{key} of {name}: {instance}"));
            Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
        })
    }

    /// The port of the instance itself, not of a Service.
    pub fn own_port(&self, name: &str) -> u16 {
        let port = self.instance(name)["port"].as_u64().expect("a port");
        u16::try_from(port).expect("a port")
    }

    pub fn operator_pid(&self) -> Pid {
        let text = std::fs::read_to_string(self.dir.join("operator.pid")).expect("a pid file");
        Pid::from_raw(text.trim().parse().expect("a number")).expect("a pid")
    }

    pub fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
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
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything runs, and every standby is in the one in-sync set.
    pub fn wait_ready(&self, instances: u64) -> Value {
        self.wait("everything is ready", Duration::from_secs(60), |s| {
            is_true(s, "Ready")
                && s["readyInstances"] == instances
                && s["inSync"].as_array().is_some_and(|s| s.len() == 1)
                && s["inSync"][0]["members"].as_array().map(Vec::len)
                    == usize::try_from(instances - 1).ok()
        })
    }

    /// Waits until the failover from `old` is reported.
    pub fn wait_failover(&self, old: &str, limit: Duration) -> Value {
        self.wait("the failover is reported", limit, |s| {
            s["lastFailover"]["old"] == old && s["currentPrimary"] != old
        })
    }

    pub fn events(&self) -> String {
        self.run_ok(&["events"])
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let mut paths = vec![self.dir.join("events.log"), self.dir.join("operator.log")];
        let instances = std::fs::read_dir(self.dir.join("instances"));
        for entry in instances.into_iter().flatten().flatten() {
            for log in ["supervisor.log", "engine.log", "seed.log"] {
                paths.push(entry.path().join(log));
            }
        }
        paths
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(60)..];
                format!("--- {}\n{}\n", path.display(), tail.join("\n"))
            })
            .collect()
    }

    /// A session through the write Service, once it answers.
    pub fn client(&self) -> Client {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match Client::connect(self.port) {
                Ok(client) => return client,
                Err(e) => assert!(Instant::now() < until, "{e}\n{}", self.logs()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed && let Some(folder) = self.folder.take() {
            eprintln!("the cluster's folder is kept: {}", folder.keep().display());
        }
        let arguments: &[&str] = if failed {
            &["down"]
        } else {
            &["down", "--purge"]
        };
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || failed, "{errors}");
    }
}

/// Three ports in a row that were free a moment ago.
fn three_ports() -> u16 {
    loop {
        let port = free_port();
        let is_free = |p: u16| std::net::TcpListener::bind(("127.0.0.1", p)).is_ok();
        if port < u16::MAX - 2 && is_free(port + 1) && is_free(port + 2) {
            return port;
        }
    }
}

pub fn instances(status: &Value) -> impl Iterator<Item = &Value> {
    status["instances"].as_array().into_iter().flatten()
}

pub fn is_true(status: &Value, condition: &str) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == condition && c["status"] == "True")
}

pub fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        kill_process(*pid, signal).expect("the process is there");
    }
}

/// SIGSTOP, and waits until the processes have really stopped: until then they may still answer.
pub fn freeze(pids: &[Pid]) {
    signal(pids, Signal::STOP);
    for pid in pids {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stopped = || {
            let text = std::fs::read_to_string(&path).expect("the process is there");
            text.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).expect("not that late")
}

/// An acknowledged row, and when.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub id: i64,
    pub at_ms: u64,
}

/// Inserts rows through a port all the time, opens a new session whenever one breaks, and keeps what was acknowledged.
pub struct Writer {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Vec<Acknowledged>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(cluster: &Cluster) -> Writer {
        let mut client = cluster.client();
        client.rows("CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY)");
        let next = client.value("SELECT coalesce(max(id), 0) + 1 FROM ledger");
        let next: i64 = next.parse().expect("a number");
        let (stop, ledger) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ended, kept) = (Arc::clone(&stop), Arc::clone(&ledger));
        let port = cluster.port;
        let thread = std::thread::spawn(move || write(port, next, &ended, &kept));
        let writer = Writer {
            stop,
            ledger,
            thread: Some(thread),
        };
        writer.wait_for(5);
        writer
    }

    pub fn acknowledged(&self) -> usize {
        self.ledger.lock().len()
    }

    pub fn wait_for(&self, more: usize) {
        let begin = Instant::now();
        let first = self.acknowledged();
        while self.acknowledged() < first + more {
            let limit = Duration::from_secs(40);
            assert!(begin.elapsed() < limit, "nothing is acknowledged");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it; everything acknowledged has to be there. Gives the ledger.
    pub fn finish(mut self, cluster: &Cluster) -> Vec<Acknowledged> {
        self.wait_for(5);
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the writer did not panic");
        let ledger = self.ledger.lock().clone();
        let rows = cluster.client().rows("SELECT id FROM ledger");
        let there: std::collections::HashSet<i64> = rows
            .iter()
            .filter_map(|row| row.first()?.as_deref()?.parse().ok())
            .collect();
        let missing: Vec<i64> = ledger
            .iter()
            .map(|a| a.id)
            .filter(|id| !there.contains(id))
            .collect();
        let logs = || cluster.logs();
        assert!(missing.is_empty(), "missing: {missing:?}\n{}", logs());
        ledger
    }
}

/// A writer that was not finished belongs to a test that failed.
impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(port: u16, first: i64, stop: &AtomicBool, ledger: &Mutex<Vec<Acknowledged>>) {
    let mut open: Option<Client> = None;
    for id in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let client = match &mut open {
            Some(client) => client,
            None => {
                let limit = Duration::from_secs(2);
                open = Client::connect_within(port, limit).ok();
                if open.is_none() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                continue;
            }
        };
        // An id whose outcome is unknown is never used again.
        let answers = client.query(&format!("INSERT INTO ledger VALUES ({id})"));
        match answers {
            Ok(answers) if answers.iter().all(|a| a.error.is_none()) => {
                ledger.lock().push(Acknowledged {
                    id,
                    at_ms: now_ms(),
                });
                std::thread::sleep(Duration::from_millis(3));
            }
            _ => open = None,
        }
    }
}
