//! Processes seen from outside: alive or not, and signals to them.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Whether a process of this id exists. One of another user's exists too.
pub fn is_alive(pid: i32) -> bool {
    match Pid::from_raw(pid.abs()) {
        Some(p) => !matches!(test_kill_process(p), Err(rustix::io::Errno::SRCH)),
        None => false,
    }
}

pub fn signal(pid: i32, signal: Signal) -> std::io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
