//! Where replication and recovery meet: the receiver as recovery's upstream, its bytes on their way to `pg_wal`, and
//! base backups as recovery takes them.
//!
//! Recovery knows neither connections nor messages, and replication not how replay or backups work; this file is
//! all that knows both.

use std::io;
use std::sync::Arc;

use crate::ids::{Lsn, TimelineId};
use crate::io::DiskRef;
use crate::recovery::{
    BackupError, Backups, RecoveryState, StartedBackup, Upstream, UpstreamState,
};
use crate::replication::base_backup::{BackupOptions, BackupSource, Checkpoint, Started, Stopped};
use crate::replication::receiver::{ReceivedWal, Receiver, State};
use crate::replication::reply::CommandError;
use crate::wal::{ReceivedSegments, Wal};

impl ReceivedWal for ReceivedSegments {
    fn expect(&mut self, upstream_end: Lsn) {
        ReceivedSegments::expect(self, upstream_end);
    }
    fn write(&mut self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> io::Result<()> {
        ReceivedSegments::write(self, timeline, at, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        ReceivedSegments::sync(self)
    }
    fn has_history(&self, timeline: TimelineId) -> io::Result<bool> {
        ReceivedSegments::has_history(self, timeline)
    }
    fn put_history(&mut self, timeline: TimelineId, text: &[u8]) -> io::Result<()> {
        ReceivedSegments::put_history(self, timeline, text)
    }
}

/// What the receiver writes to: `pg_wal`. Replay, and walsenders further down, hear of each sync at once. One that fails
/// ends the server, as the sync of its own log would.
pub fn received_wal(
    wal: &Arc<Wal>,
    state: &Arc<RecoveryState>,
    archive_always: bool,
) -> Box<dyn ReceivedWal> {
    let (for_senders, for_replay, failing) = (wal.clone(), state.clone(), wal.clone());
    let received = ReceivedSegments::new(
        wal.segments().clone(),
        archive_always,
        Box::new(move |timeline, from, upto| {
            for_senders.recovery_advance(timeline, upto);
            for_replay.received(timeline, from, upto);
        }),
    );
    Box::new(received.or_fail(Box::new(move |reason: &str| failing.fail(reason))))
}

/// The receiver as recovery drives it, from the replaying thread.
pub struct ReceiverUpstream {
    receiver: Arc<Receiver>,
    is_configured: Box<dyn Fn() -> bool + Send + Sync>,
}

impl ReceiverUpstream {
    /// `is_configured`: is there a `primary_conninfo` (it may be reloaded)?
    pub fn new(
        receiver: Arc<Receiver>,
        is_configured: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> ReceiverUpstream {
        ReceiverUpstream {
            receiver,
            is_configured,
        }
    }
}

impl Upstream for ReceiverUpstream {
    fn is_configured(&self) -> bool {
        (self.is_configured)()
    }
    fn stream(&self, from: Lsn, timeline: TimelineId) {
        // Only after a stop does the progress that is seen belong to the new request.
        self.stop();
        self.receiver.stream(from, timeline);
    }
    fn stop(&self) {
        futures::executor::block_on(self.receiver.stop());
    }
    fn state(&self) -> UpstreamState {
        match self.receiver.state() {
            State::Stopped => UpstreamState::Stopped,
            State::Connecting => UpstreamState::Connecting,
            State::Streaming => UpstreamState::Streaming,
            State::EndOfTimeline => UpstreamState::EndOfTimeline,
            State::Failed => UpstreamState::Failed,
        }
    }
}

/// `BASE_BACKUP` over recovery's backups. One for each command that is served.
pub struct BackupCommand {
    disk: DiskRef,
    wal: Arc<Wal>,
    backups: Arc<Backups>,
    running: parking_lot::Mutex<Option<StartedBackup>>,
}

impl BackupCommand {
    pub fn new(disk: DiskRef, wal: Arc<Wal>, backups: Arc<Backups>) -> BackupCommand {
        BackupCommand {
            disk,
            wal,
            backups,
            running: parking_lot::Mutex::new(None),
        }
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> CommandError {
        let told = CommandError::new(error.sqlstate(), error.to_string());
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

impl BackupSource for BackupCommand {
    fn disk(&self) -> &DiskRef {
        &self.disk
    }
    fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }
    async fn start(&self, options: &BackupOptions) -> Result<Started, CommandError> {
        let fast = options.checkpoint == Checkpoint::Fast;
        let started = self.backups.start(&options.label, fast).await?;
        let answer = Started {
            start: started.label.start,
            timeline: started.label.timeline,
            label_file: started.text.clone(),
        };
        *self.running.lock() = Some(started);
        Ok(answer)
    }
    async fn stop(&self, _started: &Started, wait: bool) -> Result<Stopped, CommandError> {
        let running = self.running.lock().take();
        let Some(running) = running else {
            return Err(BackupError::NotInProgress.into());
        };
        let stopped = self.backups.stop(&running, wait).await?;
        Ok(Stopped {
            end: stopped.end,
            timeline: stopped.timeline,
        })
    }
    fn abandon(&self, _started: &Started) {
        if let Some(running) = self.running.lock().take() {
            self.backups.abandon(&running);
        }
    }
    fn hold_log(&self, started: &Started) -> impl Send {
        self.backups.hold_log(started.start)
    }
}
