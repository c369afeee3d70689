//! Where programs are, and running them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// PostgreSQL 15's programs.
pub const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

/// A program of ours. `make build` makes it; the tests never build.
pub fn ours(name: &str) -> PathBuf {
    let dir = std::env::var_os("UNDERSTUDY_BIN_DIR").map_or_else(beside_tests, PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make build` first",
        path.display()
    );
    path
}

/// `target/PROFILE`: where a program of ours is itself (the benchmark), and one folder above a test program.
fn beside_tests() -> PathBuf {
    let exe = std::env::current_exe().expect("a program knows its path");
    let folder = exe.parent().expect("a program is in a folder");
    match folder.parent() {
        Some(profile) if folder.ends_with("deps") => profile.to_owned(),
        _ => folder.to_owned(),
    }
}

/// A program of PostgreSQL 15; `make setup` installs it.
pub fn postgres(name: &str) -> PathBuf {
    let path = Path::new(POSTGRES_BIN).join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make test`, which installs it",
        path.display()
    );
    path
}

/// Runs to the end; the output is for the caller to judge.
pub fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    command
        .output()
        .unwrap_or_else(|e| panic!("could not run {shown}: {e}"))
}

/// Runs to the end, panics with everything it printed if it fails, gives its standard output.
pub fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Below the range from which systems give ports to outgoing connections and below the local operator's own, so that
/// nobody takes one while its server is not there yet, or is down.
const PORTS: std::ops::Range<u16> = 17_000..20_000;

/// A loopback port that was free a moment ago, and that this process gives to nobody else.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..count {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(61).wrapping_add(next) % count;
        let port = PORTS.start + u16::try_from(offset).expect("within the range");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no loopback port of {PORTS:?} is free");
}

/// A command that runs as `postgres`, because PostgreSQL's server refuses to run as root.
pub fn as_postgres(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}
