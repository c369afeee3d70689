//! `postmaster.pid` and the lock on the data directory.
//!
//! The lock is an `flock` on `PG_VERSION`, which nobody removes: it goes with the process, however that ends. The pid
//! file is for people and tools and has PostgreSQL's eight lines; a stale one is no obstacle, and a running server is
//! not endangered where somebody removes it. A server that ends removes its file first: whoever starts the next one
//! then waits for the lock, that is, until no thread of the old one can write any more.
//!
//! ```text
//! 1 process id            5 first socket directory
//! 2 data directory        6 first listen address
//! 3 start, Unix seconds   7 (shared memory key: none here)
//! 4 port                  8 state: starting, stopping, ready, standby
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::process;
use crate::config::conf_file::os_message;
use crate::config::error::Complaint;

pub const FILE_NAME: &str = "postmaster.pid";
pub const OPTIONS_NAME: &str = "postmaster.opts";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Starting,
    Stopping,
    Ready,
    Standby,
}

impl State {
    /// Padded, so that the file keeps its length when the state changes.
    fn line(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Stopping => "stopping",
            State::Ready => "ready   ",
            State::Standby => "standby ",
        }
    }
}

/// From the removal of a server's pid file to the end of its process.
const GONE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The lock on a data directory, held as long as the file is open; `None`: a server has it. One that has removed its pid
/// file is waited for.
pub fn lock(data_directory: &Path) -> Result<Option<File>, Complaint> {
    let version = data_directory.join("PG_VERSION");
    let lock = OpenOptions::new().read(true).write(true).open(&version);
    let lock = lock.map_err(|e| {
        Complaint::new(format!(
            "could not open file \"{}\": {}",
            version.display(),
            os_message(&e)
        ))
    })?;
    let until = Instant::now() + GONE_WITHIN;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if read(data_directory).is_some() || Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(Some(lock))
}

/// The lock and the file; both go when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    lines: Mutex<[String; 8]>,
    /// Holds the lock.
    _lock: File,
}

impl PidFile {
    /// Locks the data directory and writes the file, or says who has it.
    pub fn take(data_directory: &Path, port: u16) -> Result<PidFile, Complaint> {
        let path = data_directory.join(FILE_NAME);
        let held = |pid: Option<i32>| Complaint {
            hint: Some(match pid {
                Some(pid) => format!(
                    "Is another postmaster (PID {pid}) running in data directory \"{}\"?",
                    data_directory.display()
                ),
                None => format!(
                    "Is another postmaster running in data directory \"{}\"?",
                    data_directory.display()
                ),
            }),
            ..Complaint::new(format!("lock file \"{FILE_NAME}\" already exists"))
        };
        let Some(lock) = lock(data_directory)? else {
            return Err(held(read(data_directory).map(|f| f.pid)));
        };
        // Somebody else's PostgreSQL does not take our lock, but it writes the file.
        if let Some(f) = read(data_directory)
            && f.pid != own_pid()
            && process::is_alive(f.pid)
            && f.data_directory == data_directory
            && is_server(f.pid)
        {
            return Err(held(Some(f.pid)));
        }
        let lines = [
            std::process::id().to_string(),
            data_directory.display().to_string(),
            process::unix_seconds().to_string(),
            port.to_string(),
            String::new(),
            String::new(),
            String::new(),
            State::Starting.line().to_owned(),
        ];
        let file = PidFile {
            path,
            lines: Mutex::new(lines),
            _lock: lock,
        };
        file.write().map_err(|e| {
            Complaint::new(format!(
                "could not create lock file \"{FILE_NAME}\": {}",
                os_message(&e)
            ))
        })?;
        Ok(file)
    }

    /// Where clients find the server.
    pub fn set_places(&self, socket_directory: &str, address: &str) {
        {
            let mut lines = self.lines.lock();
            socket_directory.clone_into(&mut lines[4]);
            address.clone_into(&mut lines[5]);
        }
        self.rewrite();
    }

    pub fn set_state(&self, state: State) {
        state.line().clone_into(&mut self.lines.lock()[7]);
        self.rewrite();
    }

    /// The end of a server: the file goes now, the lock with the process.
    pub fn leave(self) {
        let left = ManuallyDrop::new(self);
        // A file that stays is stale and no obstacle.
        let _ = std::fs::remove_file(&left.path);
    }

    /// The file serves those who wait for the server; a failure to write it is logged by nobody waiting.
    fn rewrite(&self) {
        if let Err(e) = self.write() {
            super::super::log::log(&format!(
                "could not write to file \"{}\": {}",
                self.path.display(),
                os_message(&e)
            ));
        }
    }

    /// Written aside and renamed, so that a reader never sees half of it.
    fn write(&self) -> io::Result<()> {
        let aside = self.path.with_extension("pid.tmp");
        let mut text = self.lines.lock().join("\n");
        text.push('\n');
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?
            .write_all(text.as_bytes())?;
        std::fs::rename(&aside, &self.path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays is stale and no obstacle.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(-1)
}

/// Whether a live process looks like a database server: a pid file that was copied from another machine, or outlived
/// a reboot, names processes that have nothing to do with it.
pub fn is_server(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map_or(true, |name| {
        matches!(name.trim(), "postgres" | "postmaster" | "understudy")
    })
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid: i32,
    pub data_directory: PathBuf,
    pub started: u64,
    /// `None` while it is being written.
    pub state: Option<String>,
}

pub fn read(data_directory: &Path) -> Option<Found> {
    let text = std::fs::read_to_string(data_directory.join(FILE_NAME)).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    Some(Found {
        pid: lines.first()?.trim().parse().ok()?,
        data_directory: PathBuf::from(lines.get(1).copied().unwrap_or("")),
        started: lines
            .get(2)
            .and_then(|l| l.trim().parse().ok())
            .unwrap_or(0),
        state: lines.get(7).map(|l| l.trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let d = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(d.path().join("PG_VERSION"), "15\n").expect("writable");
        d
    }

    #[test]
    fn a_second_server_is_kept_out_and_a_stale_file_is_not_in_the_way() {
        let d = directory();
        std::fs::write(d.path().join(FILE_NAME), "999999\n/elsewhere\n1\n5432\n")
            .expect("writable");
        let first = PidFile::take(d.path(), 5433).expect("a stale file is no obstacle");
        let second = PidFile::take(d.path(), 5433).expect_err("it is locked");
        assert_eq!(
            second.message,
            "lock file \"postmaster.pid\" already exists"
        );
        first.set_places("/tmp", "*");
        first.set_state(State::Ready);
        let found = read(d.path()).expect("written");
        assert_eq!(found.state.as_deref(), Some("ready"));
        assert_eq!(found.pid, own_pid());
        let text = std::fs::read_to_string(d.path().join(FILE_NAME)).expect("written");
        assert_eq!(text.lines().count(), 8);
        drop(first);
        assert!(read(d.path()).is_none());
        PidFile::take(d.path(), 5433).expect("free again");
    }

    #[test]
    fn a_server_that_leaves_keeps_others_out_to_the_end_of_its_process() {
        let d = directory();
        PidFile::take(d.path(), 1).expect("free").leave();
        assert!(read(d.path()).is_none(), "whoever waits for that goes on");
        PidFile::take(d.path(), 1).expect_err("this process is still there");
    }

    #[test]
    fn the_lock_holds_even_if_the_file_is_removed() {
        let d = directory();
        let _first = PidFile::take(d.path(), 1).expect("free");
        std::fs::remove_file(d.path().join(FILE_NAME)).expect("it is there");
        PidFile::take(d.path(), 1).expect_err("still locked");
    }
}
