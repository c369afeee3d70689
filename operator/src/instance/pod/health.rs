//! Whether the volume completes writes, and how full it is. Costs no WAL.
//!
//! A thread of its own writes one block of a probe file and waits until it is durable, once a second, but only while
//! the engine's own log does not move: under load the log's flushes say the same, and it looks more often whether they
//! still come, because from the last of them on to its own first write nobody counts. A volume that hangs holds up this
//! thread alone. One that is broken counts as one that hangs; one that is full does not: what is there is safe, and a
//! standby's would be as full.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The same while the log moves. A little more than what passes between two reports of the engine.
const PAUSE_UNDER_LOAD: Duration = Duration::from_millis(300);
/// A probe that takes less is no matter.
const SLOW: Duration = Duration::from_millis(500);
/// From here on a condition says it.
const FULL_PERCENT: u64 = 95;
/// What has to stay free so that a checkpoint can still be written: four segments of log.
const RESERVE: u64 = 4 * (16 << 20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total: u64,
    pub available: u64,
}

impl Space {
    /// Of the file system that `path` is on.
    pub fn of(path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn percent_used(self) -> u64 {
        let used = self.total.saturating_sub(self.available);
        used.saturating_mul(100)
            .checked_div(self.total)
            .unwrap_or(0)
    }

    /// A small volume keeps a part of itself instead.
    fn reserve(self) -> u64 {
        RESERVE.min(self.total / 20)
    }

    /// Whether new transactions may only read: begins at the reserve, and ends when twice as much is free, so that it
    /// does not come and go.
    pub fn allows_only_reads(self, before: bool) -> bool {
        let least = if before {
            self.reserve().saturating_mul(2)
        } else {
            self.reserve()
        };
        self.available < least
    }

    /// What there is to be said. No finer than a percent: this text is a condition's, and each change of it is written.
    pub fn complaint(self, only_reads: bool) -> Option<String> {
        let percent = self.percent_used();
        let full = format!("the volume is full to {percent}%");
        if only_reads {
            return Some(format!(
                "{full} and transactions may only read; enlarge it, or remove data in a superuser's session after SET \
                 understudy.write_on_full_disk = on"
            ));
        }
        (percent >= FULL_PERCENT).then_some(full)
    }
}

/// Shared by its thread, the supervisor and who answers probes.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    probe: PathBuf,
    /// Since when no probe has been completed: the one that is under way waits, or those before it have failed.
    waiting: Mutex<Option<Instant>>,
    /// Why the last one has failed.
    failure: Mutex<Option<String>>,
    space: Mutex<Option<Space>>,
    /// The engine's log has moved since the last look.
    is_busy: AtomicBool,
}

impl Health {
    pub fn new(probe: PathBuf) -> Health {
        Health {
            shared: Arc::new(Shared {
                probe,
                waiting: Mutex::new(None),
                failure: Mutex::new(None),
                space: Mutex::new(None),
                is_busy: AtomicBool::new(false),
            }),
        }
    }

    /// From now on, for the life of the process.
    pub fn start(&self) -> io::Result<()> {
        self.shared.measure();
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name("volume-probe".to_owned())
            .spawn(move || {
                loop {
                    let pause = shared.look();
                    std::thread::sleep(pause);
                }
            })?;
        Ok(())
    }

    /// The engine has flushed its log.
    pub fn saw_flush(&self) {
        self.shared.is_busy.store(true, Ordering::Relaxed);
    }

    /// For how long the volume has not completed a write.
    pub fn stalled(&self) -> Duration {
        let waiting = *self.shared.waiting.lock();
        let for_long = waiting.map_or(Duration::ZERO, |since| since.elapsed());
        if for_long < SLOW {
            Duration::ZERO
        } else {
            for_long
        }
    }

    /// Why the last write has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
    }

    pub fn space(&self) -> Option<Space> {
        *self.shared.space.lock()
    }
}

impl Shared {
    /// How long it may be until the next one.
    fn look(&self) -> Duration {
        let was_busy = self.is_busy.swap(false, Ordering::Relaxed);
        if was_busy {
            self.note(None);
        } else {
            self.waiting.lock().get_or_insert_with(Instant::now);
            self.judge(self.write());
        }
        self.measure();
        if was_busy { PAUSE_UNDER_LOAD } else { PAUSE }
    }

    fn judge(&self, written: io::Result<()>) {
        match written {
            Err(error) if is_of_the_volume(&error) => self.note(Some(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "the volume's probe could not be written");
                self.note(None);
            }
            Ok(()) => self.note(None),
        }
    }

    fn note(&self, failure: Option<String>) {
        let mut known = self.failure.lock();
        match &failure {
            Some(error) if *known != failure => {
                tracing::error!(%error, "the volume refuses writes")
            }
            None if known.is_some() => tracing::info!("the volume completes writes again"),
            _ => {}
        }
        if failure.is_none() {
            *self.waiting.lock() = None;
        }
        *known = failure;
    }

    fn measure(&self) {
        if let Some(folder) = self.probe.parent()
            && let Ok(space) = Space::of(folder)
        {
            *self.space.lock() = Some(space);
        }
    }

    fn write(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.probe)?;
        file.write_all_at(&[0; 512], 0)?;
        file.sync_data()
    }
}

/// Whether it says that the volume, or the way to it, is broken.
fn is_of_the_volume(error: &io::Error) -> bool {
    let broken = [
        Errno::IO,
        Errno::ROFS,
        Errno::NXIO,
        Errno::NODEV,
        Errno::STALE,
        Errno::SHUTDOWN,
        Errno::UCLEAN,
    ];
    let code = error.raw_os_error();
    broken
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn writes_stop_before_it_is_too_late_and_come_back_later() {
        let space = |free: u64| Space {
            total: 10_000 * MB,
            available: free * MB,
        };
        assert_eq!(space(600).complaint(false), None);
        assert_eq!(
            space(400).complaint(false).as_deref(),
            Some("the volume is full to 96%")
        );
        assert!(!space(64).allows_only_reads(false));
        assert!(space(63).allows_only_reads(false));
        assert!(space(100).allows_only_reads(true));
        assert!(!space(128).allows_only_reads(true));
        let said = space(63).complaint(true).expect("said");
        assert!(
            ["full to 99%", "only read", "understudy.write_on_full_disk"]
                .iter()
                .all(|part| said.contains(part)),
            "{said}"
        );
        let a_little_less = Space {
            available: space(63).available - 4_096,
            ..space(63)
        };
        assert_eq!(a_little_less.complaint(true).as_ref(), Some(&said));
        // A twentieth of a small one.
        let small = |free: u64| Space {
            total: 200 * MB,
            available: free * MB,
        };
        assert!(!small(10).allows_only_reads(false));
        assert!(small(9).allows_only_reads(false));
    }

    #[test]
    fn a_write_that_does_not_end_is_counted_from_its_begin() {
        let dir = tempfile::tempdir().expect("a folder");
        // Opening a pipe for writing waits until somebody reads.
        let pipe = dir.path().join("probe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        let health = Health::new(pipe.clone());
        let shared = Arc::clone(&health.shared);
        let thread = std::thread::spawn(move || shared.look());
        let begin = Instant::now();
        while health.stalled() < SLOW {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        let reader = std::fs::File::open(&pipe).expect("opened");
        thread.join().expect("ended");
        drop(reader);
        assert_eq!(health.stalled(), Duration::ZERO);
        assert!(health.space().is_some_and(|space| space.total > 0));
    }

    /// From the first failure on, until one is completed.
    #[test]
    fn a_broken_volume_is_one_that_completes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let health = Health::new(dir.path().join("probe"));
        let failed = |errno: Errno| Err(io::Error::from_raw_os_error(errno.raw_os_error()));
        for (errno, is_broken) in [
            (Errno::IO, true),
            (Errno::ROFS, true),
            (Errno::NOSPC, false),
            (Errno::DQUOT, false),
            (Errno::MFILE, false),
        ] {
            let begin = Instant::now();
            *health.shared.waiting.lock() = Some(begin);
            health.shared.judge(failed(errno));
            let since = *health.shared.waiting.lock();
            assert_eq!(since, is_broken.then_some(begin), "{errno}");
            assert_eq!(health.failure().is_some(), is_broken, "{errno}");
        }
        health.shared.judge(failed(Errno::IO));
        let _ = health.shared.look();
        assert_eq!((health.stalled(), health.failure()), (Duration::ZERO, None));
        assert!(health.space().is_some());
    }

    #[test]
    fn nothing_is_written_while_the_log_moves() {
        let dir = tempfile::tempdir().expect("a folder");
        let probe = dir.path().join("probe");
        let health = Health::new(probe.clone());
        health.saw_flush();
        // A log that stops moving is noticed soon.
        assert_eq!(health.shared.look(), PAUSE_UNDER_LOAD);
        assert!(!probe.exists());
        assert_eq!(health.shared.look(), PAUSE);
        assert!(probe.exists());
    }
}
