//! The local cluster loses its primary: from SIGKILL to the first write through the Service.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use understudy_tests::programs::{free_port, ours, run_ok};
use understudy_tests::wire::Client;

use super::Effort;
use super::table::Report;

const MANIFEST: &str = "apiVersion: understudy.dev/v1alpha1
kind: ReplicatedCluster
metadata:
  name: bench
spec:
  replicas: 2
  storage:
    size: 1Gi
";

/// Taken down with the value.
struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
}

impl Cluster {
    fn up() -> Cluster {
        let cluster = Cluster {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
        };
        let manifest = cluster.folder.path().join("bench.yaml");
        std::fs::write(&manifest, MANIFEST).expect("written");
        let mut up = cluster.command("up");
        up.arg("-f")
            .arg(manifest)
            .args(["--port", &cluster.port.to_string(), "--detach"]);
        run_ok(up.arg("--engine").arg(ours("understudy")));
        cluster.wait_healthy();
        cluster
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(ours("understudy-operator"));
        command.args(["local", what, "--dir"]).arg(self.dir());
        command
    }

    fn status(&self) -> Value {
        let text = run_ok(self.command("status").args(["-o", "json"]));
        let object: Value = serde_json::from_str(&text).expect("JSON");
        object["status"].clone()
    }

    /// Three instances, a primary, and an in-sync set that can lose one.
    fn wait_healthy(&self) {
        let limit = Instant::now() + Duration::from_secs(120);
        loop {
            let status = self.status();
            let protected = status["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Protected" && c["status"] == "True")
            });
            let ready = status["readyInstances"] == 3;
            if protected && ready && self.writes() {
                return;
            }
            assert!(Instant::now() < limit, "never healthy: {status:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn writes(&self) -> bool {
        Client::connect(self.port)
            .and_then(|mut c| {
                c.set_read_timeout(Duration::from_secs(2));
                c.query("CREATE TABLE IF NOT EXISTS bench (n int); INSERT INTO bench VALUES (1)")
            })
            .is_ok_and(|answers| answers.iter().all(|a| a.error.is_none()))
    }

    fn kill_primary(&self) {
        let status = self.status();
        let primary = &status["currentPrimary"];
        let instances = status["instances"].as_array().expect("a list");
        let instance = instances.iter().find(|i| i["name"] == *primary);
        let instance = instance.expect("the primary is an instance");
        for key in ["supervisorPid", "enginePid"] {
            let pid = instance[key].as_i64().and_then(|p| i32::try_from(p).ok());
            let pid = pid.and_then(Pid::from_raw).expect("a pid");
            // The engine dies with its supervisor and may be gone by now.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("down").arg("--purge").output();
    }
}

pub fn run(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::up();
    let mut took = Vec::new();
    for _ in 0..effort.rounds {
        cluster.wait_healthy();
        let begin = Instant::now();
        cluster.kill_primary();
        while !cluster.writes() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no takeover");
            std::thread::sleep(Duration::from_millis(2));
        }
        took.push(begin.elapsed().as_secs_f64());
    }
    report.alone(
        "kill of the local primary to the first write",
        "s",
        &took,
        Some(1.0),
    );
}
