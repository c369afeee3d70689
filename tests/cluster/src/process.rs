//! Long-running programs: started so that they outlive the command that starts them and never escape the state file.
//!
//! A program is started behind a gate, a shell that waits for a line before it becomes the program: its process id is
//! written down and its control groups are entered first. If the starter dies before it has opened the gate, the shell
//! reads the end of its input and ends.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroups;
use crate::command::{system, tail, wait_for};
use crate::layout::{Layout, Node};
use crate::state::{Process, StateFile};

const GATE: &str = "read -r open || exit 1; exec \"$@\" </dev/null";
/// Lines of a log in an error message.
const SHOWN_LINES: usize = 12;
/// An ended process may take its time to let go of much memory.
const END_LIMIT: Duration = Duration::from_secs(30);

/// What is to be started, and where.
#[derive(Debug)]
pub struct Daemon {
    pub name: &'static str,
    pub node: Option<Node>,
    /// Below [`crate::layout::CGROUP`], in the hierarchies by which processes are found and frozen.
    pub cgroup: String,
    pub network: Option<PathBuf>,
    pub mounts: Option<PathBuf>,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Daemon {
    /// Starts it; its output goes to its log.
    ///
    /// # Errors
    /// If it cannot be started, or its state cannot be written down.
    pub fn start(&self, layout: &Layout) -> Result<Process> {
        let failed = || format!("start {}", self.name);
        let log = layout.log(self.node, self.name);
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(failed)?;
        }
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let output: File = open.with_context(|| format!("open {}", log.display()))?;
        let mut command = system("sh");
        command.args(["-c", GATE, "gate"]).args(self.words());
        command.current_dir("/").stdin(Stdio::piped());
        command.stdout(output.try_clone().with_context(failed)?);
        let mut child = command.stderr(output).spawn().with_context(failed)?;
        let pid = i32::try_from(child.id()).with_context(failed)?;
        let gate = child.stdin.take();
        let recorded = self.record(layout, pid);
        if recorded.is_ok()
            && let Some(mut gate) = gate
        {
            gate.write_all(b"\n").with_context(failed)?;
        }
        // Whoever started it has to fetch its end, as long as he lives himself.
        std::thread::spawn(move || child.wait());
        recorded.with_context(failed)
    }

    fn record(&self, layout: &Layout, pid: i32) -> Result<Process> {
        let process = Process {
            name: self.name.to_owned(),
            node: self.node,
            pid,
            started: started(pid).context("it ended at once")?,
        };
        StateFile::of(layout).update(|state| state.set_process(process.clone()))?;
        cgroups::enter(&self.cgroup, pid)?;
        Ok(process)
    }

    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["setsid".into()];
        if self.network.is_some() || self.mounts.is_some() {
            words.push("nsenter".into());
        }
        for (option, file) in [("--net", &self.network), ("--mount", &self.mounts)] {
            if let Some(file) = file {
                words.push(format!("{option}={}", file.display()).into());
            }
        }
        if self.network.is_some() || self.mounts.is_some() {
            words.push("--".into());
        }
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().map(OsString::from));
        words
    }
}

/// What `/proc/PID/stat` has after the program's name, which may hold blanks and brackets itself.
fn fields_after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(") ")?.1.split(' ').collect())
}

/// When a living process started; `None` for one that has ended, whether its end was fetched or not.
pub fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = fields_after_name(&stat)?;
    // Field 3 is the state, field 22 the start.
    let ended = matches!(*fields.first()?, "Z" | "X");
    let started = fields.get(19)?.trim().parse().ok()?;
    (!ended).then_some(started)
}

/// `T` for a stopped process, `D` for one that waits for a disk.
pub fn run_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields_after_name(&stat)?.first()?.chars().next()
}

impl Process {
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Sends a signal to it, and to no later process with its number.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(
            self.is_alive(),
            "{} (pid {}) has ended",
            self.name,
            self.pid
        );
        send(self.pid, signal)
    }

    /// SIGKILL, and waits for the end. Has ended already: nothing to do.
    ///
    /// # Errors
    /// If it does not end within half a minute.
    pub fn kill(&self) -> Result<()> {
        if self.is_alive() {
            // It may end between the look and the signal.
            let _ = send(self.pid, Signal::KILL);
        }
        let what = format!("the end of {} (pid {})", self.name, self.pid);
        wait_for(&what, END_LIMIT, || Ok((!self.is_alive()).then_some(())))
    }

    /// Waits until it does its work; its own end ends the wait.
    ///
    /// # Errors
    /// Names the log that says why, and quotes its last lines.
    pub fn wait_until(
        &self,
        layout: &Layout,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<()> {
        let waited = wait_for(what, limit, || {
            if done() {
                return Ok(Some(()));
            }
            ensure!(self.is_alive(), "{} has ended", self.name);
            Ok(None)
        });
        waited.map_err(|error| {
            let log = layout.log(self.node, &self.name);
            let lines = tail(&log, SHOWN_LINES);
            anyhow!(
                "{error:#}; {} says why, at its end:\n{lines}",
                log.display()
            )
        })
    }
}

/// # Errors
/// If there is no such process.
pub fn send(pid: i32, signal: Signal) -> Result<()> {
    let number = Pid::from_raw(pid).context("not a process id")?;
    kill_process(number, signal).with_context(|| format!("signal process {pid}"))
}

/// SIGSTOP, and waits until it stands still: until then it may still answer.
///
/// # Errors
/// If there is no such process.
pub fn stop(pid: i32) -> Result<()> {
    send(pid, Signal::STOP)?;
    let what = format!("process {pid} to stop");
    wait_for(&what, END_LIMIT, || match run_state(pid) {
        Some('T') => Ok(Some(())),
        Some(_) => Ok(None),
        None => Err(anyhow!("process {pid} has ended")),
    })
}

/// The program that a process runs, as far as `/proc` tells.
pub fn shown(pid: i32) -> String {
    let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    let line = String::from_utf8_lossy(&line.unwrap_or_default()).replace('\0', " ");
    format!("{pid} ({})", line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3";
        assert_eq!(fields_after_name(stat), Some(vec!["S", "1", "2", "3"]));
        assert_eq!(fields_after_name("nothing"), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let mut child = system("sleep").arg("60").spawn().expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("small");
        let mut process = Process {
            name: "sleep".to_owned(),
            node: None,
            pid,
            started: started(pid).expect("it lives"),
        };
        assert!(process.is_alive());
        let later = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(!later.is_alive());
        assert!(later.signal(Signal::KILL).is_err());
        later.kill().expect("nothing to do");
        assert!(process.is_alive(), "another process's signal hit it");
        stop(pid).expect("it stops");
        assert_eq!(run_state(pid), Some('T'));
        process.kill().expect("it ends");
        assert!(!process.is_alive(), "an unfetched end counts as an end");
        child.wait().expect("fetched");
        process.name = "gone".to_owned();
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[test]
    fn the_gate_stays_shut_if_its_keeper_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = dir.path().join("made");
        let mut child = system("sh")
            .args(["-c", GATE, "gate", "touch"])
            .arg(&made)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        drop(child.stdin.take());
        assert!(!child.wait().expect("it ends").success());
        assert!(!made.exists());
    }
}
