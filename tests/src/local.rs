//! A cluster of local processes under the real operator, and a writer that keeps a ledger of what was acknowledged.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::programs::{free_port, ours};
use crate::wire::Client;

pub struct Cluster {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    pub port: u16,
    fencing: bool,
    durability: &'static str,
    /// Where processes are told at which step to die.
    die_at: Option<PathBuf>,
}

/// A manifest with so many standbys.
pub fn manifest(replicas: u32, durability: &str) -> String {
    format!(
        "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: orders}}\n\
         spec: {{replicas: {replicas}, durability: {durability}, storage: {{size: 1Gi}}}}\n"
    )
}

impl Cluster {
    /// Up, and everything ready.
    pub fn up(replicas: u32, fencing: bool) -> Cluster {
        Cluster::up_with(replicas, fencing, "quorum")
    }

    pub fn up_with(replicas: u32, fencing: bool, durability: &'static str) -> Cluster {
        let cluster = Cluster::down(fencing, durability);
        cluster.apply(replicas);
        cluster.wait_ready(u64::from(replicas) + 1);
        cluster
    }

    fn down(fencing: bool, durability: &'static str) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Cluster {
            dir: folder.path().join("c"),
            folder: Some(folder),
            port: three_ports(),
            fencing,
            durability,
            die_at: None,
        }
    }

    /// Not up yet; its processes die where [`Cluster::die_at`] says.
    pub fn of_mortals() -> Cluster {
        let mut cluster = Cluster::down(true, "quorum");
        let die_at = cluster.dir.with_extension("die-at");
        std::fs::create_dir(&die_at).expect("created");
        cluster.die_at = Some(die_at);
        cluster
    }

    /// `local up` in the foreground, as in a terminal, with this manifest; the cluster is ready.
    pub fn in_a_terminal(manifest: &str, instances: u64) -> (Cluster, Terminal) {
        let cluster = Cluster::down(true, "quorum");
        let file = cluster.dir.with_extension("yaml");
        std::fs::write(&file, manifest).expect("written");
        let shown = cluster.dir.with_extension("terminal");
        let output = File::create(&shown).expect("created");
        let mut command = Command::new(ours("understudy-operator"));
        command.args(["local", "up", "-f"]).arg(file);
        command.args(["--port", &cluster.port.to_string(), "--dir"]);
        let child = command
            .arg(&cluster.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the operator runs");
        let terminal = Terminal { child, shown };
        let begin = Instant::now();
        while !cluster.dir.join("cluster.json").exists() {
            let limit = Duration::from_secs(60);
            assert!(begin.elapsed() < limit, "no cluster: {}", terminal.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.wait_ready(instances);
        (cluster, terminal)
    }

    /// The process (an instance's supervisor, or `operator`) dies after so many more points: one before, in and after
    /// each of its durable steps.
    pub fn die_at(&self, process: &str, points: u32) {
        std::fs::write(self.death(process), points.to_string()).expect("written");
    }

    /// Whether it has still to die.
    pub fn is_doomed(&self, process: &str) -> bool {
        self.death(process).exists()
    }

    /// It need not die any more; tells whether it had to.
    pub fn spare(&self, process: &str) -> bool {
        std::fs::remove_file(self.death(process)).is_ok()
    }

    fn death(&self, process: &str) -> PathBuf {
        let folder = self.die_at.as_ref().expect("a cluster of mortals");
        folder.join(process)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `local up` with so many standbys; also starts an operator that was killed.
    pub fn apply(&self, replicas: u32) {
        let output = self.try_apply(replicas);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "up: {text}{errors}{}", self.logs());
    }

    pub fn try_apply(&self, replicas: u32) -> Output {
        let file = self.dir.with_extension("yaml");
        std::fs::write(&file, manifest(replicas, self.durability)).expect("written");
        let (port, file) = (self.port.to_string(), file.display().to_string());
        let mut arguments = vec!["up", "-f", &file, "--port", &port, "--detach"];
        if !self.fencing {
            arguments.push("--no-fence");
        }
        self.run(&arguments)
    }

    /// A command that must be refused; gives what it says.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let die_at = self.die_at.iter().map(|dir| ("UNDERSTUDY_DIE_AT", dir));
        Command::new(ours("understudy-operator"))
            .envs(die_at)
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

    /// Supervisor and engine, both of which run. On a busy machine a supervisor may answer too late for `local status`.
    pub fn pids(&self, name: &str) -> [Pid; 2] {
        let begin = Instant::now();
        loop {
            let instance = self.instance(name);
            let pid = |key: &str| Pid::from_raw(i32::try_from(instance[key].as_i64()?).ok()?);
            if let (Some(supervisor), Some(engine)) = (pid("supervisorPid"), pid("enginePid")) {
                return [supervisor, engine];
            }
            let limit = Duration::from_secs(30);
            assert!(begin.elapsed() < limit, "no pids of {name}: {instance}");
            std::thread::sleep(Duration::from_millis(50));
        }
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
        self.wait("everything is ready", Duration::from_secs(120), |s| {
            is_true(s, "Ready")
                && s["readyInstances"] == instances
                && s["inSync"].as_array().is_some_and(|s| s.len() == 1)
                && s["inSync"][0]["members"].as_array().map(Vec::len)
                    == usize::try_from(instances - 1).ok()
        })
    }

    /// Waits until a failover in a term above `term` is reported.
    pub fn wait_failover(&self, term: u64, limit: Duration) -> Value {
        self.wait("the failover is reported", limit, |s| {
            s["phase"] == "Running"
                && s["term"].as_u64() > Some(term)
                && s["lastFailover"]["term"] == s["term"]
        })
    }

    pub fn term(&self) -> u64 {
        self.status()["term"].as_u64().expect("a term")
    }

    pub fn events(&self) -> String {
        self.run_ok(&["events"])
    }

    /// Waits until so many events of this kind have been told.
    pub fn wait_event(&self, reason: &str, times: usize, limit: Duration) {
        let begin = Instant::now();
        while self.events().matches(&format!(" {reason} ")).count() < times {
            let logs = || self.logs();
            assert!(begin.elapsed() < limit, "no {reason}\n{}", logs());
            std::thread::sleep(Duration::from_millis(50));
        }
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

/// A job of a terminal, and what it has shown.
pub struct Terminal {
    child: Child,
    shown: PathBuf,
}

impl Terminal {
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.shown).unwrap_or_default()
    }

    /// Ctrl-C, which goes to every process of the job; waits for its end, which must be a good one.
    pub fn interrupt(mut self) -> String {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).expect("our child");
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}: {}", self.text());
        self.text()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three ports in a row that were free a moment ago.
fn three_ports() -> u16 {
    loop {
        let port = free_port();
        if [free_port(), free_port()] == [port + 1, port + 2] {
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

/// Everything that `local status -o json` promises of a cluster that is whole; of a failover, once there was one.
pub fn has_every_field(status: &Value) -> bool {
    let has = |of: &Value, keys: &[&str]| keys.iter().all(|key| !of[*key].is_null());
    let conditions = ["Ready", "Progressing", "Degraded", "Protected"];
    let told = |type_: &str| {
        let mut all = status["conditions"].as_array().into_iter().flatten();
        all.any(|c| c["type"] == type_ && has(c, &["status", "reason", "message"]))
    };
    let of_all = [
        "name",
        "role",
        "ready",
        "inSync",
        "timeline",
        "supervisorPid",
        "enginePid",
        "port",
        "flushLsn",
    ];
    let whole = |instance: &Value| {
        let leads = instance["name"] == status["currentPrimary"];
        has(instance, &of_all) && (leads || has(instance, &["replayLsn", "lagBytes"]))
    };
    let failover = &status["lastFailover"];
    let times = ["detectedAt", "promotedAt", "writableAt", "seconds"];
    let known = failover.get("lostBytes").is_some()
        && has(failover, &["cause", "old", "new", "term"])
        && has(failover, &times);
    conditions.into_iter().all(told)
        && has(status, &["currentPrimary", "term", "timeline", "inSync"])
        && instances(status).all(whole)
        && (failover.is_null() || known)
}

/// Whether the process has ended, whoever has still to ask how.
pub fn is_gone(pid: &Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_err() || stat.is_ok_and(|text| state_in(&text).is_some_and(|s| "ZX".contains(s)))
}

/// The letter of a process's state in its `/proc/PID/stat`.
fn state_in(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

pub fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        match kill_process(*pid, signal) {
            Ok(()) => {}
            // An engine dies with its supervisor, and may be gone by now.
            Err(Errno::SRCH) if signal == Signal::KILL => {}
            Err(error) => panic!("{pid:?}: {error}"),
        }
    }
}

/// SIGSTOP, and waits until the processes have really stopped: until then they may still answer.
pub fn freeze(pids: &[Pid]) {
    signal(pids, Signal::STOP);
    for pid in pids {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stopped = || {
            let text = std::fs::read_to_string(&path).expect("the process is there");
            state_in(&text) == Some('T')
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

/// A row that was acknowledged: by whom, in which term, when.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub id: i64,
    /// The timeline on which it was written: under the operator that is the term.
    pub term: u32,
    pub at_ms: u64,
    /// Through the write Service; else on a session of the instance's own port.
    pub by_service: bool,
}

/// Inserts rows all the time, through the write Service and on each instance's own port, opens a new session whenever
/// one breaks, and keeps what was acknowledged. The sessions on the instances themselves are nobody's to cut: what they
/// are told is the instance's own word.
pub struct Writer {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Vec<Acknowledged>>>,
    threads: Vec<JoinHandle<()>>,
}

/// The ids that one thread of a writer may use.
const IDS_OF_A_THREAD: i64 = 1_000_000_000;

impl Writer {
    pub fn start(cluster: &Cluster) -> Writer {
        let mut client = cluster.client();
        client.rows("CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY)");
        let next = client.value("SELECT coalesce(max(id), 0) + 1 FROM ledger");
        let mut first: i64 = next.parse().expect("a number");
        let mut writer = Writer {
            stop: Arc::default(),
            ledger: Arc::default(),
            threads: Vec::new(),
        };
        let status = cluster.status();
        let own = instances(&status).filter_map(|i| u16::try_from(i["port"].as_u64()?).ok());
        for (port, by_service) in own.map(|p| (p, false)).chain([(cluster.port, true)]) {
            let (stop, ledger) = (Arc::clone(&writer.stop), Arc::clone(&writer.ledger));
            let session = Session {
                port,
                by_service,
                next: first,
                open: None,
            };
            first += IDS_OF_A_THREAD;
            let write = move || session.write(&stop, &ledger);
            writer.threads.push(std::thread::spawn(write));
        }
        writer.wait_for(5);
        writer
    }

    /// Rows acknowledged through the Service.
    pub fn acknowledged(&self) -> usize {
        self.ledger.lock().iter().filter(|a| a.by_service).count()
    }

    /// Rows acknowledged by anybody.
    pub fn acknowledged_anywhere(&self) -> usize {
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

    /// Ends it; everything acknowledged has to be there, and nothing was acknowledged in an older term after the first
    /// acknowledgement of a newer one. Gives the ledger, by time.
    pub fn finish(mut self, cluster: &Cluster) -> Vec<Acknowledged> {
        self.wait_for(5);
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("the writer did not panic");
        }
        let mut ledger = self.ledger.lock().clone();
        ledger.sort_by_key(|a| (a.at_ms, a.term));
        let rows = cluster.client().rows("SELECT id FROM ledger");
        let there: std::collections::HashSet<i64> = rows
            .iter()
            .filter_map(|row| row.first()?.as_deref()?.parse().ok())
            .collect();
        let missing: Vec<&Acknowledged> =
            ledger.iter().filter(|a| !there.contains(&a.id)).collect();
        let logs = || cluster.logs();
        assert!(missing.is_empty(), "missing: {missing:?}\n{}", logs());
        for pair in ledger.windows(2) {
            let shown = || format!("an older term acknowledged: {pair:?}\n{}", logs());
            assert!(pair[0].term <= pair[1].term, "{}", shown());
        }
        ledger
    }
}

/// A writer that was not finished belongs to a test that failed.
impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One thread of a writer.
struct Session {
    port: u16,
    by_service: bool,
    next: i64,
    open: Option<Client>,
}

impl Session {
    fn write(mut self, stop: &AtomicBool, ledger: &Mutex<Vec<Acknowledged>>) {
        // Whoever talks to an instance itself has time: a frozen one answers when it is woken.
        let (pace, answer_limit) = if self.by_service {
            (Duration::from_millis(3), Duration::from_secs(2))
        } else {
            (Duration::from_millis(15), Duration::from_secs(45))
        };
        while !stop.load(Ordering::Relaxed) {
            let Some(client) = &mut self.open else {
                self.open = Client::connect_within(self.port, Duration::from_secs(2)).ok();
                match &self.open {
                    Some(client) => client.set_read_timeout(answer_limit),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
                continue;
            };
            // An id whose outcome is unknown is never used again.
            let id = self.next;
            self.next += 1;
            let answers = client.query(&format!(
                "INSERT INTO ledger VALUES ({id}) \
                 RETURNING substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
            ));
            match answers.map(|a| a.into_iter().next()) {
                Ok(Some(answer)) if answer.error.is_none() => {
                    let timeline = answer.rows[0][0].as_deref().expect("a timeline");
                    ledger.lock().push(Acknowledged {
                        id,
                        term: u32::from_str_radix(timeline, 16).expect("a timeline"),
                        at_ms: now_ms(),
                        by_service: self.by_service,
                    });
                }
                // A standby, which may be promoted under this very session.
                Ok(Some(answer)) if answer.error.as_ref().is_some_and(|e| e.state == "25006") => {}
                _ => self.open = None,
            }
            std::thread::sleep(pace);
        }
    }
}
