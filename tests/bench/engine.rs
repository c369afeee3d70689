//! A server of either kind, driven alike: data directory, settings, start, stop, kill, standby.
//!
//! Both are started as the bare server process (`postgres -D`), as the same user, so that nothing but the server is
//! measured. Ended with the value.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use understudy_tests::programs::{free_port, ours, postgres, run_ok};
use understudy_tests::wire::Client;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Understudy,
}

pub const KINDS: [Kind; 2] = [Kind::Postgres, Kind::Understudy];

/// What both run with; everything else is PostgreSQL 15's default.
const SETTINGS: &str = "
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 256MB
max_connections = 1100
wal_level = replica
max_wal_senders = 10
max_wal_size = 4GB
checkpoint_timeout = 15min
hot_standby = on
wal_keep_size = 2GB
listen_addresses = '127.0.0.1'
";

pub struct Engine {
    pub kind: Kind,
    dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

/// The user that PostgreSQL's server runs as where we are root, which it refuses.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|l| l.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn program(kind: Kind, name: &str) -> Command {
    let mut command = match kind {
        Kind::Postgres => Command::new(postgres(name)),
        Kind::Understudy => {
            let mut command = Command::new(ours("understudy"));
            command.arg(name);
            command
        }
    };
    if kind == Kind::Postgres
        && let Some((user, group)) = server_user()
    {
        command.uid(user).gid(group).env("HOME", "/tmp");
    }
    command.current_dir("/");
    command
}

fn folder(kind: Kind) -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("bench")
        .tempdir()
        .expect("a temporary directory");
    if let (Kind::Postgres, Some((user, group))) = (kind, server_user()) {
        std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).expect("root may");
    }
    dir
}

impl Engine {
    /// `initdb` alone, and how long it took.
    pub fn initdb(kind: Kind) -> (Engine, Duration) {
        let engine = Engine {
            kind,
            dir: folder(kind),
            port: free_port(),
            child: None,
        };
        let mut command = program(kind, "initdb");
        command.args(["--no-locale", "--encoding=UTF8", "-k", "-U", "postgres"]);
        command.args(["-A", "trust", "-D"]).arg(engine.data());
        let begin = Instant::now();
        run_ok(&mut command);
        let took = begin.elapsed();
        engine.configure(SETTINGS);
        (engine, took)
    }

    pub fn started(kind: Kind) -> Engine {
        let (mut engine, _) = Engine::initdb(kind);
        engine.start();
        engine
    }

    /// A streaming standby of `primary`, made by `pg_basebackup -R` and started.
    pub fn standby_of(primary: &Engine) -> Engine {
        let dir = folder(primary.kind);
        let mut engine = Engine {
            kind: primary.kind,
            dir,
            port: free_port(),
            child: None,
        };
        run_ok(&mut primary.base_backup(&engine.data()));
        engine.configure(&format!(
            "promote_trigger_file = '{}'",
            engine.trigger_file().display()
        ));
        engine.start();
        engine
    }

    /// `pg_basebackup` from here into `target`, by the user who will own it.
    pub fn base_backup(&self, target: &Path) -> Command {
        let mut command = Command::new(postgres("pg_basebackup"));
        command.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            "fast",
            "-X",
            "stream",
            "-R",
        ]);
        command
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(target);
        if let (Kind::Postgres, Some((user, group))) = (self.kind, server_user()) {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
        command
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder beside the data directory that the server's user may write to.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn trigger_file(&self) -> PathBuf {
        self.dir.path().join("promote")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let mut file = File::options()
            .append(true)
            .open(path)
            .expect("initdb wrote it");
        writeln!(file, "{lines}").expect("written");
    }

    /// Starts the server and waits until it answers a query; how long that took.
    pub fn start(&mut self) -> Duration {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let mut command = program(self.kind, "postgres");
        command.arg("-D").arg(self.data());
        command.args(["-c", &format!("port={}", self.port), "-c"]);
        command.arg(format!(
            "unix_socket_directories={}",
            self.dir.path().display()
        ));
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let begin = Instant::now();
        self.child = Some(command.spawn().expect("the server starts"));
        let limit = begin + Duration::from_secs(120);
        while !self.answers() {
            let ended = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().ok())
                .flatten();
            assert!(ended.is_none(), "{:?} ended:\n{}", self.kind, self.log());
            assert!(Instant::now() < limit, "no answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    }

    fn answers(&self) -> bool {
        Client::connect(self.port)
            .and_then(|mut c| c.query("SELECT 1"))
            .is_ok_and(|a| a.iter().all(|a| a.error.is_none()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends a signal and waits for the end; how long that took.
    fn end(&mut self, signal: Signal) -> Duration {
        let begin = Instant::now();
        if let Some(mut child) = self.child.take() {
            // PostgreSQL's backends notice the death of their parent by themselves, a little later.
            let family = super::proc::family(child.id());
            let _ = kill_process(Pid::from_child(&child), signal);
            let _ = child.wait();
            if signal == Signal::KILL {
                for pid in family {
                    end_orphan(pid);
                }
            }
        }
        begin.elapsed()
    }

    /// Fast shutdown.
    pub fn stop(&mut self) -> Duration {
        self.end(Signal::INT)
    }

    /// SIGKILL: a crash.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
            .unwrap_or_else(|e| panic!("{:?}: {e}\n{}", self.kind, self.log()))
    }

    pub fn wait_for(&self, sql: &str, wanted: &str) {
        let mut client = self.client();
        let limit = Instant::now() + Duration::from_secs(300);
        while client.value(sql) != wanted {
            assert!(
                Instant::now() < limit,
                "{sql} never gave {wanted}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `pg_current_wal_flush_lsn()`.
    pub fn flushed(&self) -> String {
        self.client().value("SELECT pg_current_wal_flush_lsn()")
    }

    /// On a standby: until it has replayed this far.
    pub fn wait_replayed(&self, lsn: &str) {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn");
        self.wait_for(&sql, "t");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(3000);
            eprintln!(
                "--- end of {:?}'s log\n{}",
                self.kind,
                log.get(from..).unwrap_or(&log)
            );
        }
        self.end(Signal::KILL);
    }
}

/// A backend whose postmaster was killed.
fn end_orphan(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let limit = Instant::now() + Duration::from_secs(10);
    while rustix::process::test_kill_process(pid).is_ok() && Instant::now() < limit {
        let _ = kill_process(pid, Signal::KILL);
        std::thread::sleep(Duration::from_millis(1));
    }
}
