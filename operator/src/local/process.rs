//! Processes that outlive whoever started them: starting, watching and ending them by descriptor.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// A handle on one very process, whatever becomes of its number.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    descriptor: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process with this number, if it exists and its command line contains `proof`.
    #[allow(unsafe_code)]
    pub fn find(pid: u32, proof: &str) -> Option<Process> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        // Opened before the command line is read: what is read belongs to what was opened or to nothing.
        let descriptor = pidfd_open(raw, PidfdFlags::NONBLOCK).ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let known = String::from_utf8_lossy(&line).contains(proof);
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on, is only ever borrowed from it, and is closed
        // by its drop, after it was taken off the poller.
        let descriptor = unsafe { AsyncFd::register(descriptor) }.ok()?;
        known.then_some(Process { pid, descriptor })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when it has ended, at once.
    pub async fn ended(&self) {
        // An error of the poller means that nobody can know any more; callers bound their waits.
        if let Ok(mut guard) = self.descriptor.readable().await {
            guard.retain_ready();
        }
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }
    fn signal(&self, signal: Signal) {
        // One that has ended already is what is wanted.
        let _ = pidfd_send_signal(self.descriptor.get_ref(), signal);
    }

    /// Waits for its end; false if it is still there after `limit`.
    pub async fn ends_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }
}

/// The number of the supervisor that was started on this volume, whether it answers or not: found by its command line.
pub fn supervisor_of(volume: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<String> = line
            .split(|b| *b == 0)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect();
        let ours =
            words.get(1).is_some_and(|w| w == "instance") && words.iter().any(|w| w == volume);
        ours.then_some(pid)
    })
}

/// Starts this program again with other arguments, its output in `log`. It makes a session of its own.
pub fn spawn_detached(arguments: &[&str], log: &Path) -> io::Result<u32> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let pid = child.id();
    // Whoever lives longer than its child takes the child's exit status, else it stays a zombie.
    std::thread::Builder::new()
        .name("reaper".to_owned())
        .spawn(move || child.wait())?;
    Ok(pid)
}
