//! The same command or the same configuration, ours and PostgreSQL 15's, and what each says of it.
//!
//! Both run as the user `postgres` where the test runs as root, so that missing rights are missing rights for both. Our
//! program is copied to a place that this user can reach, with the links by whose names it answers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::programs::{POSTGRES_BIN, as_postgres, free_port, ours, postgres, run_ok};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Ours,
    Theirs,
}

pub const BOTH: [Who; 2] = [Who::Theirs, Who::Ours];

/// What a program said and how it ended, with paths, ports and process ids made equal.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub code: Option<i32>,
    pub out: Vec<String>,
    pub err: Vec<String>,
}

pub struct Twins {
    dir: tempfile::TempDir,
    ports: [u16; 2],
}

impl Twins {
    /// Nothing is initialised yet.
    pub fn new() -> Twins {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run_ok(Command::new("chmod").arg("0777").arg(dir.path()));
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("writable");
        std::fs::copy(ours("understudy"), bin.join("understudy")).expect("copied");
        for link in ["initdb", "pg_ctl", "postgres"] {
            std::os::unix::fs::symlink("understudy", bin.join(link)).expect("linked");
        }
        run_ok(Command::new("chmod").args(["-R", "a+rX"]).arg(&bin));
        Twins {
            dir,
            ports: [free_port(), free_port()],
        }
    }

    /// Both initialised in the same way.
    pub fn initdb() -> Twins {
        let twins = Twins::new();
        for who in BOTH {
            let mut command = twins.program(who, "initdb");
            command.args(["--no-locale", "--encoding=UTF8", "-N", "-U", "postgres"]);
            run_ok(command.args(["-A", "trust", "-D"]).arg(twins.data(who)));
        }
        twins
    }

    pub fn data(&self, who: Who) -> PathBuf {
        self.dir.path().join(match who {
            Who::Ours => "ours",
            Who::Theirs => "theirs",
        })
    }

    pub fn port(&self, who: Who) -> u16 {
        self.ports[usize::from(who == Who::Ours)]
    }

    pub fn log(&self, who: Who) -> PathBuf {
        self.data(who).with_extension("log")
    }

    /// The program, from `/`, as PostgreSQL's user.
    pub fn program(&self, who: Who, name: &str) -> Command {
        let path = match who {
            Who::Ours => self.dir.path().join("bin").join(name),
            Who::Theirs => postgres(name),
        };
        let mut command = as_postgres(&path);
        command.current_dir("/").stdin(Stdio::null());
        command.env_remove("PGDATA").env_remove("PGPORT");
        command
    }

    /// Writes a file into the data directory, owned by the servers' user.
    pub fn write(&self, who: Who, name: &str, text: impl AsRef<[u8]>) {
        let path = self.data(who).join(name);
        std::fs::write(&path, text).expect("writable");
        if rustix::process::geteuid().is_root() {
            run_ok(Command::new("chown").arg("postgres:postgres").arg(&path));
        }
        run_ok(Command::new("chmod").arg("0600").arg(&path));
    }

    /// Runs `words` to its end; `DIR` and `PORT` stand for what is each server's own.
    pub fn run(&self, who: Who, words: &[&str]) -> Said {
        let mut command = self.program(who, words[0]);
        for word in &words[1..] {
            let word = word.replace("DIR", &self.data(who).display().to_string());
            command.arg(word.replace("PORT", &self.port(who).to_string()));
        }
        // A server that was started must not hold the pipes: the output goes through files.
        let (out, err) = (
            self.data(who).with_extension("out"),
            self.data(who).with_extension("err"),
        );
        let file = |path: &Path| std::fs::File::create(path).expect("writable");
        command.stdout(file(&out)).stderr(file(&err));
        let status = command.status().expect("it runs");
        let read = |path: &Path| {
            String::from_utf8_lossy(&std::fs::read(path).expect("written")).into_owned()
        };
        Said {
            code: status.code(),
            out: self.plain(who, &read(&out)),
            err: self.plain(who, &read(&err)),
        }
    }

    /// A server in the foreground, its output in [`Twins::log`].
    pub fn launch(&self, who: Who, arguments: &[&str]) -> Running {
        let log = std::fs::File::create(self.log(who)).expect("writable");
        let mut command = self.program(who, "postgres");
        command
            .arg("-D")
            .arg(self.data(who))
            .args(["-p", &self.port(who).to_string(), "-k"]);
        command.arg(self.data(who)).args(arguments);
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        Running {
            data: self.data(who),
            child: command.spawn().expect("the server starts"),
        }
    }

    /// The server's log so far.
    pub fn logged(&self, who: Who) -> Vec<String> {
        let bytes = std::fs::read(self.log(who)).unwrap_or_default();
        self.plain(who, &String::from_utf8_lossy(&bytes))
    }

    /// Lines without what must differ: paths, ports, time stamps, process ids, versions.
    pub fn plain(&self, who: Who, text: &str) -> Vec<String> {
        let data = self.data(who).display().to_string();
        let bin = format!("{}/", self.dir.path().join("bin").display());
        let port = self.port(who).to_string();
        text.lines()
            .map(|line| {
                let line = line.replace(&data, "DIR").replace(&bin, "");
                let line = line
                    .replace(&format!("{POSTGRES_BIN}/"), "")
                    .replace(&port, "PORT");
                without_numbers(without_prefix(&line))
            })
            .collect()
    }
}

impl Default for Twins {
    fn default() -> Twins {
        Twins::new()
    }
}

/// Without `2026-01-01 00:00:00.000 UTC [123] `.
fn without_prefix(line: &str) -> &str {
    if line.starts_with("20") {
        line.split_once("] ").map_or(line, |(_, rest)| rest)
    } else {
        line
    }
}

/// `PID: 123` and `PID 123` name nobody, and versions lose what is in brackets.
fn without_numbers(line: &str) -> String {
    let mut out = line.to_owned();
    for lead in ["PID: ", "PID "] {
        if let Some(at) = out.find(lead) {
            let from = at + lead.len();
            let digits = out[from..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                out.replace_range(from..from + digits, "N");
            }
        }
    }
    for lead in [" (Debian", " (Understudy"] {
        if let Some(at) = out.find(lead) {
            let end = out[at..].find(')').map_or(out.len(), |n| at + n + 1);
            out.replace_range(at..end, "");
        }
    }
    out
}

/// A server that ends with the value.
pub struct Running {
    data: PathBuf,
    child: Child,
}

impl Running {
    /// The server's own process (the child may be what changed the user).
    pub fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid().expect("it runs"), signal).expect("ours to signal");
    }

    /// The exit code, if it ends in time.
    pub fn ended(&mut self, limit: Duration) -> Option<i32> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|s| s.is_some()) {
            return;
        }
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::QUIT);
        }
        if self.ended(Duration::from_secs(10)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
