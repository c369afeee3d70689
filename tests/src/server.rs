//! A server of ours in a temporary directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::programs::{free_port, ours, postgres, run_ok};
use crate::wire::Client;

pub struct Server {
    /// Removed with the value, unless a test failed: then it stays for a look.
    dir: Option<tempfile::TempDir>,
    data: PathBuf,
    pub port: u16,
    child: Option<Child>,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Smart,
    Fast,
    Immediate,
    /// SIGKILL: a crash.
    Kill,
}

impl Server {
    /// `initdb` with trust authentication for `postgres`; not started.
    pub fn initdb() -> Server {
        Server::initdb_with(&[])
    }

    pub fn initdb_with(arguments: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let mut command = Command::new(ours("understudy"));
        command.args([
            "initdb",
            "--no-locale",
            "--encoding=UTF8",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-D",
        ]);
        run_ok(command.arg(&data).args(arguments));
        Server {
            dir: Some(dir),
            data,
            port: free_port(),
            child: None,
        }
    }

    /// Over a data directory that `fill` makes, by copying another server's in one way or the other; not started.
    pub fn filled(fill: impl FnOnce(&Path)) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        fill(&data);
        Server {
            dir: Some(dir),
            data,
            port: free_port(),
            child: None,
        }
    }

    /// Over a directory that something else made; it is not removed.
    pub fn over(data: &Path) -> Server {
        Server {
            dir: None,
            data: data.to_owned(),
            port: free_port(),
            child: None,
        }
    }

    pub fn started() -> Server {
        let mut server = Server::initdb();
        server.start();
        server
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Adds lines to `postgresql.conf`.
    pub fn configure(&self, lines: &str) {
        use std::io::Write as _;
        let path = self.data.join("postgresql.conf");
        let mut file = File::options()
            .append(true)
            .open(path)
            .expect("initdb wrote it");
        writeln!(file, "{lines}").expect("written");
    }

    /// Starts and waits until it accepts connections.
    pub fn start(&mut self) {
        self.launch();
        self.wait_until_ready(Duration::from_secs(60));
    }

    /// Starts without waiting.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let child = Command::new(ours("understudy"))
            .args(["postgres", "-D"])
            .arg(&self.data)
            .args(["-c", &format!("port={}", self.port)])
            .args(["-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("unix_socket_directories={}", self.data.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
    }

    pub fn wait_until_ready(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            if Client::connect(self.port).is_ok() {
                return;
            }
            if let Some(status) = self.exit_status() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < until,
                "not ready in {limit:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `Some` once the process has ended.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("our child");
        if status.is_some() {
            self.child = None;
        }
        status
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Memory that its process holds.
    pub fn resident_kb(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find(|l| l.starts_with("VmRSS"));
        let kb = line.and_then(|l| l.split_whitespace().nth(1));
        kb.and_then(|n| n.parse().ok()).expect("a number")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our child");
    }

    /// Stops and waits for the end of the process; gives its exit status.
    pub fn stop(&mut self, how: Stop) -> std::process::ExitStatus {
        self.signal(match how {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        });
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                Instant::now() < until,
                "{how:?} stop takes too long:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// psql's answer to one command: unaligned, tuples only.
    pub fn psql(&self, sql: &str) -> String {
        run_ok(&mut self.psql_command(sql))
    }

    pub fn psql_command(&self, sql: &str) -> Command {
        let mut command = Command::new(postgres("psql"));
        command.args([
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ]);
        command.args(["-p", &self.port.to_string(), "-d", "postgres", "-c", sql]);
        command
    }

    /// A program of PostgreSQL's that connects here.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(postgres(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string());
        command
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the server's directory is kept: {}", dir.keep().display());
            eprintln!("--- end of its log\n{}", tail(&self.log()));
        }
    }
}

fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(4000);
    let start = (start..log.len())
        .find(|i| log.is_char_boundary(*i))
        .unwrap_or(0);
    &log[start..]
}
