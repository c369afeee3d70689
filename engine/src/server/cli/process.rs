//! Processes seen from outside: alive or not, and signals to them.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Whether a process of this id runs. One of another user's does too; one that has ended and only waits for its
/// parent to take note (an orphan's new parent may be slow) does not: it holds nothing any more.
pub fn is_alive(pid: i32) -> bool {
    let exists = match Pid::from_raw(pid.abs()) {
        Some(p) => !matches!(test_kill_process(p), Err(rustix::io::Errno::SRCH)),
        None => false,
    };
    exists && !has_ended(pid.abs())
}

fn has_ended(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // The name before the state may hold anything, parentheses too.
    let state = stat.as_deref().ok().and_then(|s| s.rsplit_once(") "));
    state.is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_not_alive_though_nobody_took_note() {
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let pid = i32::try_from(child.id()).expect("a pid");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(pid) {
            assert!(std::time::Instant::now() < until, "it has ended long ago");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Still there for the kernel.
        let number = Pid::from_raw(pid).expect("a pid");
        assert_eq!(test_kill_process(number), Ok(()));
        assert!(child.wait().expect("taken note of").success());
        assert!(is_alive(i32::try_from(std::process::id()).expect("a pid")));
    }
}
