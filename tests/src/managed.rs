//! An engine under a supervisor that the test plays: its promise file, its control socket, its trigger file.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::programs::{free_port, ours, run_ok};
use crate::server::Server;

pub const CLUSTER: &str = "test-cluster";

pub struct Managed {
    attendant: Option<Attendant>,
    pub server: Server,
    pub id: String,
    pub http_port: u16,
    /// Of this directory's parts that the supervisor owns.
    dir: tempfile::TempDir,
}

/// The supervisor whose record always says that this is the primary, as long as it lives.
struct Attendant {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attendant {
    fn of(socket: PathBuf) -> Attendant {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let status = status_at(&socket).unwrap_or_default();
                if let (Some(hold), Some(term)) =
                    (status["held"].as_u64(), status["promised_term"].as_u64())
                {
                    // It may be over by now.
                    let _ = confirm_at(&socket, term, hold);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Attendant {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A frozen engine takes connections, and never answers.
fn connected(socket: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).ok()?;
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).ok()?;
    Some(stream)
}

fn status_at(socket: &Path) -> Option<Value> {
    let mut stream = connected(socket)?;
    let (_, body) = exchange(&mut stream, "GET", "/status", "")?;
    serde_json::from_str(&body).ok()
}

fn confirm_at(socket: &Path, term: u64, hold: u64) -> Option<(u16, String)> {
    let mut stream = connected(socket)?;
    let word = json!({ "term": term, "hold": hold }).to_string();
    exchange(&mut stream, "POST", "/confirm", &word)
}

/// An in-sync set.
pub fn set(term: u32, counter: u64, members: &[&str], required: usize) -> Value {
    json!({ "term": term, "counter": counter, "members": members, "required": required })
}

impl Managed {
    /// A new cluster's first instance, promised `term`, not started. Whenever it asks, the record has it as the primary,
    /// until it is left alone: a machine that is busy makes it ask.
    pub fn first(id: &str, term: u32, set: &Value) -> Managed {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = Server::initdb();
        Managed::over(server, id, dir, term, set)
    }

    fn over(server: Server, id: &str, dir: tempfile::TempDir, term: u32, set: &Value) -> Managed {
        let mut managed = Managed {
            attendant: None,
            server,
            id: id.to_owned(),
            http_port: free_port(),
            dir,
        };
        managed.configure();
        managed.promise(term, false, set);
        managed.attend();
        managed
    }

    fn configure(&self) {
        let (promise, socket, trigger) = (self.promise_file(), self.socket(), self.trigger());
        self.server.configure(&format!(
            "understudy.cluster_id = '{CLUSTER}'\nunderstudy.instance_id = '{}'\n\
             understudy.promise_file = '{}'\nunderstudy.control_socket = '{}'\n\
             promote_trigger_file = '{}'\nhttp_listen = '127.0.0.1:{}'\nhot_standby = on\n\
             cluster_name = '{}'\nwal_retrieve_retry_interval = '100ms'",
            self.id,
            promise.display(),
            socket.display(),
            trigger.display(),
            self.http_port,
            self.id,
        ));
    }

    /// A standby by a base backup of `primary`, promised `term`, not started.
    pub fn standby_of(primary: &Managed, id: &str, term: u32) -> Managed {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = dir.path().join("data");
        let mut command = Command::new(ours("understudy"));
        command.args(["basebackup", "-X", "fetch", "-c", "fast", "-R", "-D"]);
        command
            .arg(&data)
            .args(["-d", &conninfo(primary.server.port)])
            .args(["--instance-id", id, "--term", &term.to_string()]);
        run_ok(&mut command);
        Managed::over(Server::over(&data), id, dir, term, &Value::Null)
    }

    /// Follows the server on `port` from now on (after a start or a reload).
    pub fn follow(&self, port: u16) {
        let path = self.server.data().join("postgresql.auto.conf");
        let line = format!("primary_conninfo = '{}'\n", conninfo(port));
        std::fs::write(path, line).expect("written");
    }

    pub fn make_standby(&self) {
        std::fs::write(self.server.data().join("standby.signal"), "").expect("written");
    }

    fn promise_file(&self) -> PathBuf {
        self.dir.path().join("promise.json")
    }
    fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }
    pub fn trigger(&self) -> PathBuf {
        self.dir.path().join("trigger")
    }

    /// Replaces the promise file; the engine has not obeyed yet.
    pub fn promise(&self, term: u32, sealed: bool, set: &Value) {
        let promise = json!({
            "cluster_id": CLUSTER,
            "instance_id": self.id,
            "system_id": null,
            "promised_term": term,
            "sealed": sealed,
            "set": set,
        });
        replace(&self.promise_file(), &promise.to_string());
    }

    /// `POST /obey`; the status afterwards.
    pub fn obey(&self) -> Value {
        let (code, body) = self.try_obey().unwrap_or_else(|| {
            panic!("no answer to /obey\n{}", self.server.log());
        });
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// `None` if the engine ends instead of answering.
    pub fn try_obey(&self) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        exchange(&mut stream, "POST", "/obey", "")
    }

    /// From now on the record says at every hold that this is the primary.
    pub fn attend(&mut self) {
        self.attendant = Some(Attendant::of(self.socket()));
    }

    /// Nobody asks the record any more.
    pub fn leave_alone(&mut self) {
        self.attendant = None;
    }

    /// `POST /confirm`: the code and the body of the answer.
    pub fn try_confirm(&self, term: u64, hold: u64) -> (u16, String) {
        let answer = confirm_at(&self.socket(), term, hold);
        answer.unwrap_or_else(|| panic!("no answer to /confirm\n{}", self.server.log()))
    }

    /// The word for the hold that it waits in, or comes to wait in; the status afterwards.
    pub fn confirm(&mut self, term: u64) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let held = self.wait("it waits for the word", |s| s["held"].is_u64());
            let hold = held["held"].as_u64().expect("it was waited for");
            let (code, body) = self.try_confirm(term, hold);
            if code == 200 {
                return serde_json::from_str(&body).expect("JSON");
            }
            // A slow machine may have cut it off once more.
            assert!(Instant::now() < until, "{body}\n{}", self.server.log());
        }
    }

    pub fn status(&self) -> Value {
        status_at(&self.socket()).expect("the control socket answers")
    }

    /// On `http_listen`.
    pub fn http(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).expect("HTTP answers");
        exchange(&mut stream, method, path, "").expect("an answer")
    }

    pub fn write_trigger(&self, term: u32, candidate: &str) {
        let text = format!("cluster_id={CLUSTER}\nterm={term}\ncandidate={candidate}\n");
        replace(&self.trigger(), &text);
    }

    /// Waits until the status is as `wanted` says.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(ended) = self.server.exit_status() {
                panic!(
                    "{what}: the engine ended with {ended}\n{}",
                    self.server.log()
                );
            }
            if UnixStream::connect(self.socket()).is_ok() {
                let status = self.status();
                if wanted(&status) {
                    return status;
                }
                assert!(
                    Instant::now() < until,
                    "{what} does not come: {status:#}\n{}",
                    self.server.log()
                );
            }
            assert!(Instant::now() < until, "{what}\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end of the process; gives its exit code.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.server.exit_status() {
                return status.code();
            }
            assert!(Instant::now() < until, "it runs\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn conninfo(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=postgres")
}

fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("tmp");
    std::fs::write(&aside, text).expect("written");
    std::fs::rename(&aside, path).expect("renamed");
}

fn exchange(
    stream: &mut (impl std::io::Read + std::io::Write),
    method: &str,
    path: &str,
    said: &str,
) -> Option<(u16, String)> {
    let length = said.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{said}"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}
