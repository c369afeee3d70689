//! Where a measurement was missed: what Understudy's threads did meanwhile, and, where `perf` is installed and
//! allowed, which functions took the time.
//!
//! The work is done once more for it, so that looking does not disturb what is measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::engine::Engine;

/// Functions shown.
const MOST: usize = 12;

/// What the kernel counts of a group of threads with one name.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    threads: u64,
    ticks: u64,
    waits: u64,
    preempted: u64,
}

type Threads = BTreeMap<String, Counts>;

fn threads(pid: u32) -> Threads {
    let mut all = Threads::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return all;
    };
    for entry in entries.flatten() {
        // A thread may end while it is looked at.
        let _ = count(&entry.path(), &mut all);
    }
    all
}

fn count(task: &Path, all: &mut Threads) -> Option<()> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let status = fs::read_to_string(task.join("status")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let switches = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let group = all.entry(name.trim().to_owned()).or_default();
    group.threads += 1;
    group.ticks += fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    group.waits += switches("voluntary_ctxt_switches")?;
    group.preempted += switches("nonvoluntary_ctxt_switches")?;
    Some(())
}

/// `perf record` on a server, if it can be had.
fn record(engine: &Engine, data: &Path) -> Option<Child> {
    let mut command = Command::new("perf");
    command.args(["record", "-F", "997", "-p", &engine.pid().to_string(), "-o"]);
    command.arg(data);
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.spawn().ok()
}

/// The functions that took most, a line each; nothing where `perf` had no samples.
fn functions(mut recording: Child, data: &Path) -> Vec<String> {
    let _ = kill_process(Pid::from_child(&recording), Signal::INT);
    let _ = recording.wait();
    let mut command = Command::new("perf");
    command.args(["report", "--stdio", "--sort", "comm,symbol", "-i"]);
    let Ok(output) = command.arg(data).stderr(Stdio::null()).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .take(MOST)
        .collect()
}

/// Does the work and says in markdown what the server did during it.
pub fn of(engine: &Engine, work: impl FnOnce()) -> String {
    let data = engine.scratch("perf.data");
    let before = threads(engine.pid());
    let begin = Instant::now();
    let recording = record(engine, &data);
    work();
    let seconds = begin.elapsed().as_secs_f64();
    let after = threads(engine.pid());
    let mut out = String::new();
    let _ = writeln!(
        out,
        "In {seconds:.1} s, by thread:\n\n| threads | busy, of one processor | waits | preempted |\n| --- | ---: | ---: | ---: |"
    );
    for (name, now) in &after {
        let then = before.get(name).copied().unwrap_or_default();
        let ticks = now.ticks.saturating_sub(then.ticks);
        let waits = now.waits.saturating_sub(then.waits);
        if ticks == 0 && waits < 100 {
            continue;
        }
        let busy = ticks as f64 / super::proc::TICKS_PER_SECOND / seconds * 100.0;
        let preempted = now.preempted.saturating_sub(then.preempted);
        let _ = writeln!(
            out,
            "| {name} ({}) | {busy:.0} % | {waits} | {preempted} |",
            now.threads
        );
    }
    let functions = recording.map_or_else(Vec::new, |r| functions(r, &data));
    if !functions.is_empty() {
        let _ = writeln!(out, "\n```text\n{}\n```", functions.join("\n"));
    }
    out
}
