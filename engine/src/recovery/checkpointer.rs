//! The checkpointer's thread: when to make a checkpoint (or, in recovery, a restartpoint), and for whom.
//!
//! It makes one when `checkpoint_timeout` has passed, when as much log has been written as `max_wal_size` allows,
//! and when somebody asks. Whoever asks is answered by the first one begun after the question. One that fails is
//! reported and tried again; only a failed sync ends the process (the pool sees to that).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::ids::Lsn;
use crate::storage::{ClusterState, Store};

use super::checkpoint::{CheckpointDone, CheckpointKind};
use super::error::RecoveryError;
use super::participant::Participant;
use super::retention::{Distance, Retention};
use super::state::{Phase, RecoveryState};

/// Settings, read anew at each use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckpointSettings {
    /// `checkpoint_timeout`
    pub timeout: Duration,
    /// `checkpoint_completion_target`
    pub completion_target: f64,
    pub max_wal_bytes: u64,
    pub min_wal_bytes: u64,
    /// `wal_keep_size`
    pub wal_keep_bytes: u64,
    /// `checkpoint_warning`; zero: none.
    pub warning: Duration,
    /// `log_checkpoints`
    pub log: bool,
}

impl CheckpointSettings {
    /// So much log begins a checkpoint: it takes `completion_target` of a cycle, and two cycles' log must fit.
    pub(super) fn trigger_bytes(&self) -> u64 {
        ((self.max_wal_bytes as f64 / (1.0 + self.completion_target)) as u64).max(1)
    }
}

type Answer = oneshot::Sender<Result<Option<CheckpointDone>, String>>;

#[derive(Default)]
struct Wishes {
    immediate: bool,
    force: bool,
    spread: bool,
    quit: bool,
    answers: Vec<Answer>,
}

pub(super) struct Shared {
    pub store: Arc<Store>,
    pub state: Arc<RecoveryState>,
    pub participant: Arc<dyn Participant>,
    pub retention: Arc<dyn Retention>,
    pub settings: Arc<dyn Fn() -> CheckpointSettings + Send + Sync>,
    pub last_redo: AtomicU64,
    pub distance: Mutex<Distance>,
    wishes: Mutex<Wishes>,
    changed: Condvar,
    /// Only one checkpoint at a time.
    running: Mutex<()>,
}

pub struct Checkpointer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the thread. Until the phase is `Writing` it makes restartpoints.
    pub fn start(
        store: Arc<Store>,
        state: Arc<RecoveryState>,
        participant: Arc<dyn Participant>,
        retention: Arc<dyn Retention>,
        settings: Arc<dyn Fn() -> CheckpointSettings + Send + Sync>,
    ) -> io::Result<Checkpointer> {
        let redo = store.control.get().checkpoint_copy.redo;
        let shared = Arc::new(Shared {
            store,
            state,
            participant,
            retention,
            settings,
            last_redo: AtomicU64::new(redo.raw()),
            distance: Mutex::new(Distance::default()),
            wishes: Mutex::new(Wishes::default()),
            changed: Condvar::new(),
            running: Mutex::new(()),
        });
        let waker = Arc::downgrade(&shared);
        shared.store.wal.on_segment(Box::new(move |_| {
            if let Some(shared) = waker.upgrade() {
                shared.changed.notify_all();
            }
        }));
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("checkpointer".to_owned())
            .spawn(move || worker.run())?;
        Ok(Checkpointer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks for a checkpoint without waiting for it.
    pub fn request(&self, kind: CheckpointKind) {
        self.ask(kind, true, None);
    }

    /// `CHECKPOINT`, or the start of a base backup: returns when a checkpoint that was begun after the call is in
    /// force; on a standby a restartpoint, `None` if there was no newer checkpoint to make one of.
    pub async fn checkpoint(&self, kind: CheckpointKind) -> Result<Option<CheckpointDone>, String> {
        let (answer, done) = oneshot::channel();
        self.ask(kind, true, Some(answer));
        done.await
            .unwrap_or_else(|_| Err("the checkpointer has ended".to_owned()))
    }

    /// The same for a thread.
    pub fn checkpoint_blocking(
        &self,
        kind: CheckpointKind,
    ) -> Result<Option<CheckpointDone>, String> {
        let (answer, done) = oneshot::channel();
        self.ask(kind, true, Some(answer));
        done.blocking_recv()
            .unwrap_or_else(|_| Err("the checkpointer has ended".to_owned()))
    }

    /// Ends the thread and makes the last checkpoint (on a standby a restartpoint). Nothing else inserts records
    /// any more.
    pub fn shutdown(&self) -> Result<(), RecoveryError> {
        self.end_thread();
        if self.shared.state.phase() == Phase::Writing {
            self.end_segment();
            self.shared
                .create_checkpoint(CheckpointKind::Shutdown, true, "shutdown immediate")?;
        } else {
            self.shared
                .create_restartpoint(CheckpointKind::Immediate, "shutdown immediate")?;
            self.shared.store.control.update(|data| {
                if data.state == ClusterState::InArchiveRecovery {
                    data.state = ClusterState::ShutDownInRecovery;
                }
            })?;
        }
        Ok(())
    }

    /// Whoever follows by the archive is to find there all that was written. Only the last checkpoint's record is not:
    /// it begins a segment. Where the disk has no room for that, the log ends where it is.
    fn end_segment(&self) {
        let wal = &self.shared.store.wal;
        if wal.is_archiving() && wal.ensure_space().is_ok() {
            wal.switch_segment();
        }
    }

    /// Ends the thread without a checkpoint (immediate shutdown).
    pub fn end_thread(&self) {
        self.shared.wishes.lock().quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    fn ask(&self, kind: CheckpointKind, force: bool, answer: Option<Answer>) {
        let mut wishes = self.shared.wishes.lock();
        if wishes.quit {
            // Nobody takes it up any more; whoever waits hears that by the end of the channel.
            return;
        }
        wishes.immediate |= kind != CheckpointKind::Spread;
        wishes.spread |= kind == CheckpointKind::Spread;
        wishes.force |= force;
        wishes.answers.extend(answer);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut last = Instant::now();
        loop {
            let Some((kind, force, cause, answers)) = self.next_wish(last) else {
                return;
            };
            let since_last = last.elapsed();
            let made_last = std::mem::replace(&mut last, Instant::now());
            // How often a standby makes restartpoints is its primary's doing.
            let writes = self.state.phase() == Phase::Writing;
            if cause == "wal" && writes {
                self.warn_if_frequent(since_last);
            }
            let _running = self.running.lock();
            let outcome = if self.state.phase() == Phase::Writing {
                self.create_checkpoint(kind, force, cause)
            } else {
                self.create_restartpoint(kind, cause)
            };
            if let Err(error) = &outcome {
                tracing::error!(%error, "checkpoint request failed");
                // It is as due as it was.
                last = made_last;
                // Not again at once, whatever made it fail.
                self.nap(Duration::from_secs(1));
            }
            for answer in answers {
                let said = outcome
                    .as_ref()
                    .map(|done| *done)
                    .map_err(ToString::to_string);
                let _ = answer.send(said);
            }
        }
    }

    /// Waits for a reason; `None` when the thread is to end.
    fn next_wish(
        &self,
        last: Instant,
    ) -> Option<(CheckpointKind, bool, &'static str, Vec<Answer>)> {
        let mut wishes = self.wishes.lock();
        loop {
            if wishes.quit {
                wishes.answers.clear();
                return None;
            }
            if wishes.immediate || wishes.spread {
                let kind = if wishes.immediate {
                    CheckpointKind::Immediate
                } else {
                    CheckpointKind::Spread
                };
                let cause = if wishes.immediate {
                    "immediate force wait"
                } else {
                    "force wait"
                };
                let force = wishes.force;
                let answers = std::mem::take(&mut wishes.answers);
                *wishes = Wishes::default();
                return Some((kind, force, cause, answers));
            }
            let settings = (self.settings)();
            if last.elapsed() >= settings.timeout {
                return Some((CheckpointKind::Spread, false, "time", Vec::new()));
            }
            if self.logged_since_redo() >= settings.trigger_bytes() && self.can_begin_for_wal() {
                return Some((CheckpointKind::Spread, false, "wal", Vec::new()));
            }
            let left = settings.timeout.saturating_sub(last.elapsed());
            self.changed
                .wait_for(&mut wishes, left.min(Duration::from_secs(1)));
        }
    }

    fn logged_since_redo(&self) -> u64 {
        let redo = Lsn::new(self.last_redo.load(Ordering::SeqCst));
        self.log_end().saturating_sub(redo)
    }

    /// A restartpoint needs a newer checkpoint record.
    fn can_begin_for_wal(&self) -> bool {
        if self.state.phase() == Phase::Writing {
            return true;
        }
        let redo = self.store.control.get().checkpoint_copy.redo;
        self.state
            .last_checkpoint()
            .is_some_and(|(_, _, checkpoint)| checkpoint.redo > redo)
    }

    pub(super) fn log_end(&self) -> Lsn {
        if self.state.phase() == Phase::Writing {
            self.store.wal.end_lsn()
        } else {
            self.state.replay_lsn()
        }
    }

    /// Somebody waits for the next one, or the server stops: no more spreading.
    pub(super) fn is_hurried(&self) -> bool {
        let wishes = self.wishes.lock();
        wishes.immediate || wishes.quit
    }
    pub(super) fn nap(&self, time: Duration) {
        let mut wishes = self.wishes.lock();
        if !wishes.quit && !wishes.immediate {
            self.changed.wait_for(&mut wishes, time);
        }
    }

    fn warn_if_frequent(&self, since_last: Duration) {
        let warning = (self.settings)().warning;
        if since_last < warning {
            let seconds = since_last.as_secs();
            let unit = if seconds == 1 { "second" } else { "seconds" };
            tracing::info!(
                hint = "Consider increasing the configuration parameter \"max_wal_size\".",
                "checkpoints are occurring too frequently ({seconds} {unit} apart)"
            );
        }
    }
}
