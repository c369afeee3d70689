//! The archiver: runs `archive_command` for each finished segment, and sees that segments finish
//! (`archive_timeout`).
//!
//! A file is archived when its `.ready` note has become `.done`; until then it stays in `pg_wal`. Whoever makes a note
//! wakes the archiver; what a standby has noted waits for its promotion. A command that
//! fails is tried three times, a second apart, then again when there is a new segment or a minute has passed.
//! A crash between the command and the note archives the file twice: commands must stand that, as for
//! PostgreSQL.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::config::shell_command::ShellCommand;
use crate::ids::Lsn;
use crate::wal::{Wal, archive_status, xlog_records};

use super::state::{Phase, RecoveryState};

/// Settings, read anew at each use.
#[derive(Clone, Debug, Default)]
pub struct ArchiverSettings {
    /// `archive_command`; `None` or empty: files wait.
    pub command: Option<String>,
    /// `archive_timeout`; zero: none.
    pub timeout: Duration,
    /// `archive_mode = always`: a standby archives too.
    pub always: bool,
}

/// `pg_stat_archiver`; times in microseconds since 2000-01-01.
#[derive(Clone, Debug, Default)]
pub struct ArchiverStats {
    pub archived_count: u64,
    pub last_archived: Option<(String, i64)>,
    pub failed_count: u64,
    pub last_failed: Option<(String, i64)>,
}

const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Wishes {
    look: bool,
    quit: bool,
}

struct Shared {
    wal: Arc<Wal>,
    state: Arc<RecoveryState>,
    data_directory: PathBuf,
    settings: Arc<dyn Fn() -> ArchiverSettings + Send + Sync>,
    stats: Mutex<ArchiverStats>,
    wishes: Mutex<Wishes>,
    changed: Condvar,
    /// When and where the last segment was ended for its age.
    last_switch: Mutex<(Instant, Lsn)>,
    /// When the last segment ended, for whatever reason.
    segment_ended: Mutex<Instant>,
}

pub struct Archiver {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Archiver {
    /// Starts the thread (where `archive_mode` is on).
    pub fn start(
        wal: Arc<Wal>,
        state: Arc<RecoveryState>,
        data_directory: PathBuf,
        settings: Arc<dyn Fn() -> ArchiverSettings + Send + Sync>,
    ) -> io::Result<Archiver> {
        let shared = Arc::new(Shared {
            wal,
            state,
            data_directory,
            settings,
            stats: Mutex::default(),
            wishes: Mutex::new(Wishes {
                look: true,
                quit: false,
            }),
            changed: Condvar::new(),
            last_switch: Mutex::new((Instant::now(), Lsn::INVALID)),
            segment_ended: Mutex::new(Instant::now()),
        });
        let ended = Arc::downgrade(&shared);
        shared.wal.on_segment(Box::new(move |_| {
            if let Some(shared) = ended.upgrade() {
                *shared.segment_ended.lock() = Instant::now();
            }
        }));
        let waker = Arc::downgrade(&shared);
        shared.wal.segments().on_note(Box::new(move || {
            if let Some(shared) = waker.upgrade() {
                shared.look();
            }
        }));
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("archiver".to_owned())
            .spawn(move || worker.run())?;
        Ok(Archiver {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// There may be something new to archive.
    pub fn wake(&self) {
        self.shared.look();
    }
    pub fn stats(&self) -> ArchiverStats {
        self.shared.stats.lock().clone()
    }
    /// No segment is ended for its age once this returns. The state has to say by now that the server stops.
    pub fn stop_switching(&self) {
        debug_assert!(self.shared.state.stop_requested());
        // Whoever is at it looked at the state before.
        drop(self.shared.last_switch.lock());
    }

    /// Archives what is ready, once, and ends the thread.
    pub fn stop(&self) {
        self.shared.wishes.lock().quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        self.wishes.lock().look = true;
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut looked = Instant::now();
        let mut has_written = false;
        loop {
            let quit = {
                let mut wishes = self.wishes.lock();
                if !wishes.look && !wishes.quit {
                    self.changed.wait_for(&mut wishes, Duration::from_secs(1));
                }
                // What was noted up to a promotion, its new history among it, need not wait for more.
                let writes = self.state.phase() == Phase::Writing;
                let is_promoted = writes && !std::mem::replace(&mut has_written, writes);
                let due = is_promoted || looked.elapsed() >= LOOK_AGAIN;
                if std::mem::take(&mut wishes.look) || wishes.quit || due {
                    looked = Instant::now();
                } else {
                    drop(wishes);
                    self.end_old_segment();
                    continue;
                }
                wishes.quit
            };
            self.archive_all(quit);
            if quit {
                return;
            }
        }
    }

    fn may_archive(&self, settings: &ArchiverSettings) -> bool {
        settings.always || self.state.phase() == Phase::Writing
    }

    fn archive_all(&self, last: bool) {
        loop {
            let settings = (self.settings)();
            if command_of(&settings).is_none() || !self.may_archive(&settings) {
                return;
            }
            let segments = self.wal.segments();
            let ready = match archive_status::ready(segments.disk(), segments.dir()) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!("{error}");
                    return;
                }
            };
            if ready.is_empty() {
                return;
            }
            for name in ready {
                if !self.archive(&name, last) {
                    return;
                }
            }
        }
    }

    /// False after the last attempt failed.
    fn archive(&self, name: &str, last: bool) -> bool {
        let segments = self.wal.segments();
        if !segments
            .disk()
            .exists(&segments.dir().join(name))
            .unwrap_or(true)
        {
            tracing::warn!("removed orphan archive status file for \"{name}\"");
            return archive_status::forget(segments.disk(), segments.dir(), name).is_ok();
        }
        for attempt in 1..=RETRIES {
            // Asked each time: the administrator may have mended it meanwhile.
            let settings = (self.settings)();
            let Some(command) = command_of(&settings) else {
                return false;
            };
            match self.run_command(command, name) {
                Ok(status) if status.success() => {
                    let done = archive_status::set_done(segments.disk(), segments.dir(), name);
                    if let Err(error) = done {
                        tracing::warn!("{error}");
                        return false;
                    }
                    let mut stats = self.stats.lock();
                    stats.archived_count += 1;
                    stats.last_archived = Some((name.to_owned(), xlog_records::now_us()));
                    return true;
                }
                outcome => self.report(command, name, outcome),
            }
            if last {
                return false;
            }
            if attempt < RETRIES && self.sleep(RETRY_AFTER) {
                return false;
            }
        }
        tracing::warn!(
            "archiving write-ahead log file \"{name}\" failed too many times, will try again later"
        );
        false
    }

    fn run_command(&self, command: &str, name: &str) -> io::Result<ExitStatus> {
        let path = self.wal.segments().dir().join(name);
        ShellCommand::parse(command)
            .to_run(&[('p', &path.to_string_lossy()), ('f', name)])
            .current_dir(&self.data_directory)
            .status()
    }

    fn report(&self, command: &str, name: &str, outcome: io::Result<ExitStatus>) {
        match outcome {
            Ok(status) => tracing::info!(
                "archive command failed with {status}; the failed archive command was: {command}"
            ),
            Err(error) => tracing::info!("archive command could not be started: {error}"),
        }
        let mut stats = self.stats.lock();
        stats.failed_count += 1;
        stats.last_failed = Some((name.to_owned(), xlog_records::now_us()));
    }

    /// True if the thread is to end.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut wishes = self.wishes.lock();
        while !wishes.quit && Instant::now() < until {
            self.changed.wait_until(&mut wishes, until);
        }
        wishes.quit
    }

    /// `archive_timeout`: what has been written must not wait longer than that for its segment to be full.
    fn end_old_segment(&self) {
        let timeout = (self.settings)().timeout;
        let mut last = self.last_switch.lock();
        // Behind the shutdown checkpoint nothing may stand: a restart writes over it, and standbys have it already.
        let ends = self.state.stop_requested() || self.state.phase() != Phase::Writing;
        // One that was full before its time is as good.
        let since = last.0.max(*self.segment_ended.lock());
        if timeout.is_zero() || ends || since.elapsed() < timeout {
            return;
        }
        let end = self.wal.end_lsn();
        // A checkpoint by itself is nothing that anybody waits for.
        let only_checkpoint =
            end == self.state.checkpoint_end() && end.saturating_sub(last.1) < 4096;
        if end == last.1 || only_checkpoint {
            last.0 = Instant::now();
            return;
        }
        self.wal.switch_segment();
        *last = (Instant::now(), self.wal.end_lsn());
        tracing::debug!(
            "write-ahead log switch forced (archive_timeout={})",
            timeout.as_secs()
        );
    }
}

fn command_of(settings: &ArchiverSettings) -> Option<&str> {
    settings
        .command
        .as_deref()
        .filter(|command| !command.is_empty())
}
