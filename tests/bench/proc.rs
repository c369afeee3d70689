//! What `/proc` says of a server: processor time and memory of all its processes.

use std::fs;
use std::time::Duration;

/// What the kernel counts in here, on every architecture (`USER_HZ`).
pub const TICKS_PER_SECOND: f64 = 100.0;

/// One line of `/proc/PID/stat`, the fields that are used here.
struct Stat {
    pid: u32,
    parent: u32,
    /// Clock ticks of the process itself, user and system.
    own: u64,
    /// The same of its children that have ended and were waited for.
    ended: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}

fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// The process and its direct children: PostgreSQL's postmaster and backends, or our one process.
pub fn family(leader: u32) -> Vec<u32> {
    all()
        .into_iter()
        .filter(|s| s.pid == leader || s.parent == leader)
        .map(|s| s.pid)
        .collect()
}

/// Processor time that the server has used since its start, ended backends included.
pub fn cpu(leader: u32) -> Duration {
    let ticks: u64 = all()
        .iter()
        .map(|s| {
            if s.pid == leader {
                s.own + s.ended
            } else if s.parent == leader {
                s.own
            } else {
                0
            }
        })
        .sum();
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// Memory in bytes, shared pages counted once over all processes (PSS).
pub fn memory(leader: u32) -> u64 {
    let pss = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|l| l.starts_with("Pss:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    family(leader).into_iter().filter_map(pss).sum::<u64>() * 1024
}
