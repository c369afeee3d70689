//! Online backups: what makes a copy of a running directory one that can be recovered.
//!
//! A backup forces full-page images, begins with a checkpoint (its redo point is where a copy replays from) and ends
//! with a record that says so (a copy is consistent there). The label travels with the copy; only an exclusive
//! backup puts it into the data directory itself, where a crash finds it and replays from the label's checkpoint,
//! so the log from there on is kept while it stands. On a standby a backup begins at the last restartpoint and
//! is consistent at the minimum recovery point; images it can't force, so it fails where the primary left them out.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::ids::{Lsn, TimelineId, Xid};
use crate::io::durable;
use crate::storage::Store;
use crate::wal::{Record, RmgrId, WalError, archive_status, xlog_records};

use super::backup_label::{self, BackupLabel};
use super::checkpoint::CheckpointKind;
use super::checkpointer::Checkpointer;
use super::error::RecoveryError;
use super::state::{Phase, RecoveryState};

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("backup label too long (max 1024 bytes)")]
    LabelTooLong,
    #[error("a backup is already in progress")]
    InProgress,
    #[error("exclusive backup not in progress")]
    NotInProgress,
    #[error("recovery is in progress")]
    OnStandby,
    #[error("the standby was promoted during online backup")]
    Promoted,
    #[error("WAL generated with full_page_writes=off was replayed since last restartpoint")]
    NoImagesSince,
    #[error("WAL generated with full_page_writes=off was replayed during online backup")]
    NoImagesDuring,
    #[error("checkpoint request failed: {0}")]
    Checkpoint(String),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("could not {operation} file \"{path}\": {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
}

impl BackupError {
    pub fn sqlstate(&self) -> &'static str {
        match self {
            BackupError::LabelTooLong => "22023",
            BackupError::InProgress
            | BackupError::NotInProgress
            | BackupError::OnStandby
            | BackupError::Promoted
            | BackupError::NoImagesSince
            | BackupError::NoImagesDuring => "55000",
            BackupError::Checkpoint(_) | BackupError::Wal(_) | BackupError::Recovery(_) => "XX000",
            BackupError::Io { .. } => "58030",
        }
    }
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            BackupError::InProgress => Some("Run pg_stop_backup() and try again."),
            BackupError::OnStandby => {
                Some("pg_start_backup() can only be run on a standby with exclusive = false.")
            }
            BackupError::Promoted => Some(
                "This means that the backup being taken is corrupt and should not be used. Try taking another online backup.",
            ),
            BackupError::NoImagesSince | BackupError::NoImagesDuring => Some(
                "This means that the backup being taken on the standby is corrupt and should not be used. Enable full_page_writes and run CHECKPOINT on the primary, and then try an online backup again.",
            ),
            _ => None,
        }
    }
}

/// A backup that is being taken.
#[derive(Clone, Debug)]
pub struct StartedBackup {
    pub label: BackupLabel,
    /// Contents of `backup_label`.
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct StoppedBackup {
    /// A copy is consistent from here on.
    pub end: Lsn,
    pub timeline: TimelineId,
    /// Contents of `backup_label`, as `pg_backup_stop` returns it.
    pub label_text: String,
}

pub struct Backups {
    store: Arc<Store>,
    state: Arc<RecoveryState>,
    checkpointer: Arc<Checkpointer>,
    /// Held while one begins, so that two do not share a checkpoint's record by halves.
    beginning: tokio::sync::Mutex<()>,
    exclusive: Mutex<Option<StartedBackup>>,
    /// Redo points of those running.
    running: Mutex<Vec<Lsn>>,
    /// Where the log begins that is still wanted: of backups that are about to begin, and of those that have ended and
    /// whose log is on its way.
    held: Mutex<Vec<Lsn>>,
    /// Where the last exclusive one began, until its log has outlived one checkpoint (see [`Self::keep_from`]).
    ended: Mutex<Option<Lsn>>,
}

const POLL: Duration = Duration::from_millis(50);

impl Backups {
    pub fn new(
        store: Arc<Store>,
        state: Arc<RecoveryState>,
        checkpointer: Arc<Checkpointer>,
    ) -> Backups {
        Backups {
            store,
            state,
            checkpointer,
            beginning: tokio::sync::Mutex::new(()),
            exclusive: Mutex::new(None),
            running: Mutex::new(Vec::new()),
            held: Mutex::new(Vec::new()),
            ended: Mutex::new(None),
        }
    }

    /// `pg_backup_start`, `BASE_BACKUP`: ends with [`Self::stop`] or [`Self::abandon`].
    pub async fn start(&self, label: &str, fast: bool) -> Result<StartedBackup, BackupError> {
        self.begin(label, fast, true).await
    }

    async fn begin(
        &self,
        label: &str,
        fast: bool,
        streamed: bool,
    ) -> Result<StartedBackup, BackupError> {
        if label.len() > 1024 {
            return Err(BackupError::LabelTooLong);
        }
        let _one = self.beginning.lock().await;
        let guard = Forced::new(self);
        // Another checkpoint may come before this backup's own is known to be its beginning.
        let _held = self.hold_log(self.store.wal.redo_point());
        let kind = if fast {
            CheckpointKind::Immediate
        } else {
            CheckpointKind::Spread
        };
        let on_standby = self.state.phase() != Phase::Writing;
        if !on_standby {
            // So that the first segment holds nothing from before images were forced.
            self.store.wal.switch_segment();
        }
        let done = self
            .checkpointer
            .checkpoint(kind)
            .await
            .map_err(BackupError::Checkpoint)?;
        let (checkpoint, lsn) = match done {
            Some(done) => (done.checkpoint, done.lsn),
            None => {
                let control = self.store.control.get();
                (control.checkpoint_copy, control.checkpoint)
            }
        };
        let has_images = checkpoint.full_page_writes && checkpoint.redo > self.state.images_off();
        if on_standby && !has_images {
            return Err(BackupError::NoImagesSince);
        }
        let started = BackupLabel {
            start: checkpoint.redo,
            checkpoint: lsn,
            streamed,
            from_standby: on_standby,
            start_time: now_text(),
            label: label.replace(['\n', '\r'], " "),
            timeline: checkpoint.timeline,
        };
        let text = started.to_text(self.store.wal.segment_size());
        self.running.lock().push(started.start);
        guard.keep();
        Ok(StartedBackup {
            label: started,
            text,
        })
    }

    /// Ends a backup; waits until its log is archived if that is asked for and archiving is on. If the future is
    /// dropped while it waits, the backup has ended all the same.
    pub async fn stop(
        &self,
        started: &StartedBackup,
        wait_for_archive: bool,
    ) -> Result<StoppedBackup, BackupError> {
        let on_standby = self.state.phase() != Phase::Writing;
        // The log is written some moments before the phase says so.
        let promoted = started.label.from_standby && (!on_standby || !self.store.wal.in_recovery());
        self.abandon(started);
        if promoted {
            return Err(BackupError::Promoted);
        }
        if on_standby {
            if started.label.start <= self.state.images_off() {
                return Err(BackupError::NoImagesDuring);
            }
            // What was copied asks for less. But whoever begins with it streams from the end on, and what lies between the two
            // may be gone where it streams from.
            self.store.wal.flush_blocking(self.state.replay_lsn());
            let control = self.store.control.get();
            return Ok(StoppedBackup {
                end: control.min_recovery_point,
                timeline: control.min_recovery_timeline,
                label_text: started.text.clone(),
            });
        }
        let main = xlog_records::encode_backup_end(started.label.start);
        let wal = &self.store.wal;
        let inserted = wal.insert(&Record {
            rmgr: RmgrId::XLOG,
            info: xlog_records::BACKUP_END,
            xid: Xid::INVALID,
            main: &main,
            blocks: &[],
        });
        wal.switch_segment();
        wal.flushed(wal.end_lsn()).await;
        let stopped = StoppedBackup {
            end: inserted.end,
            timeline: wal.timeline(),
            label_text: started.text.clone(),
        };
        let history = self.write_history(started, &stopped)?;
        if wait_for_archive && wal.is_archiving() {
            self.wait_for_archive(&stopped, &history).await?;
        }
        Ok(stopped)
    }

    /// Given up, or ended: images are no longer forced for it.
    pub fn abandon(&self, started: &StartedBackup) {
        let mut running = self.running.lock();
        if let Some(at) = running.iter().position(|lsn| *lsn == started.label.start) {
            running.swap_remove(at);
            self.store.wal.force_full_page_writes(false);
        }
    }

    /// Keeps the log from `from` on until what is returned is dropped.
    pub fn hold_log(&self, from: Lsn) -> HeldLog<'_> {
        self.held.lock().push(from);
        HeldLog {
            backups: self,
            from,
        }
    }

    /// `pg_start_backup`: the label stands in the data directory until [`Self::stop_exclusive`].
    pub async fn start_exclusive(&self, label: &str, fast: bool) -> Result<Lsn, BackupError> {
        if self.state.phase() != Phase::Writing {
            return Err(BackupError::OnStandby);
        }
        let path = Path::new(backup_label::FILE);
        let exists = self
            .store
            .disk
            .exists(path)
            .map_err(io_error("stat", path))?;
        if exists || self.exclusive.lock().is_some() {
            return Err(BackupError::InProgress);
        }
        let started = self.begin(label, fast, false).await?;
        self.put_label(started)
    }

    /// The beginning of an exclusive backup, for whoever starts from this directory or from a copy of it.
    pub(super) fn put_label(&self, started: StartedBackup) -> Result<Lsn, BackupError> {
        let (disk, path) = (&*self.store.disk, Path::new(backup_label::FILE));
        // Two may have begun at one time: the label is the first one's, and its copy may be under way.
        let mut exclusive = self.exclusive.lock();
        if exclusive.is_some() {
            self.abandon(&started);
            return Err(BackupError::InProgress);
        }
        let start = started.label.start;
        let Err(error) = durable::replace(disk, path, started.text.as_bytes()) else {
            *exclusive = Some(started);
            return Ok(start);
        };
        // It may stand there all the same, and a crash would replay from it when its log has gone.
        if durable::remove(disk, path).is_ok() {
            self.abandon(&started);
        } else {
            // Its log stays, and it can be stopped.
            *exclusive = Some(started);
        }
        Err(io_error("write", path)(error))
    }

    pub async fn stop_exclusive(
        &self,
        wait_for_archive: bool,
    ) -> Result<StoppedBackup, BackupError> {
        let started = {
            let mut exclusive = self.exclusive.lock();
            let started = exclusive.take().ok_or(BackupError::NotInProgress)?;
            let path = Path::new(backup_label::FILE);
            if let Err(error) = durable::remove(&*self.store.disk, path) {
                // It goes on, and can be stopped again.
                *exclusive = Some(started);
                return Err(io_error("remove", path)(error));
            }
            started
        };
        *self.ended.lock() = Some(started.label.start);
        self.stop(&started, wait_for_archive).await
    }

    /// `pg_is_in_backup()`
    pub fn exclusive_start(&self) -> Option<BackupLabel> {
        self.exclusive
            .lock()
            .as_ref()
            .map(|started| started.label.clone())
    }

    /// The server stops in order: the label must not make the next start replay from its checkpoint.
    pub fn cancel_exclusive(&self) -> Result<(), BackupError> {
        if let Some(started) = self.exclusive.lock().take() {
            backup_label::retire(&*self.store.disk)?;
            self.abandon(&started);
            tracing::info!("online backup mode canceled");
        }
        Ok(())
    }

    /// The log that running backups need, and, for one checkpoint more, that of the last exclusive one: as with
    /// PostgreSQL 9.0, a server may be restarted between the end of a backup and the first start of its standby.
    pub fn keep_from(&self) -> Option<Lsn> {
        let running = self.running.lock().iter().min().copied();
        let held = self.held.lock().iter().min().copied();
        let ended = self.ended.lock().take();
        running.into_iter().chain(held).chain(ended).min()
    }

    /// The history file of a backup, for whoever looks through an archive.
    fn write_history(
        &self,
        started: &StartedBackup,
        stopped: &StoppedBackup,
    ) -> Result<String, BackupError> {
        let wal = &self.store.wal;
        let size = wal.segment_size();
        let start = started.label.start;
        let first = start.segment(size).file_name(stopped.timeline, size);
        let last = stopped
            .end
            .previous_byte_segment(size)
            .file_name(stopped.timeline, size);
        let name = format!("{first}.{:08X}.backup", start.segment_offset(size));
        let mut text = String::new();
        for line in started.text.lines() {
            text.push_str(line);
            text.push('\n');
            if line.starts_with("START WAL LOCATION") {
                text.push_str(&format!(
                    "STOP WAL LOCATION: {} (file {last})\n",
                    stopped.end
                ));
            }
        }
        text.push_str(&format!(
            "STOP TIME: {}\nSTOP TIMELINE: {}\n",
            now_text(),
            stopped.timeline
        ));
        let (disk, dir) = (wal.segments().disk(), wal.segments().dir());
        let path = dir.join(&name);
        durable::replace(disk, &path, text.as_bytes()).map_err(io_error("write", &path))?;
        if wal.is_archiving() {
            wal.segments().note_ready(&name)?;
        }
        Ok(name)
    }

    async fn wait_for_archive(
        &self,
        stopped: &StoppedBackup,
        history: &str,
    ) -> Result<(), BackupError> {
        let wal = &self.store.wal;
        let size = wal.segment_size();
        let last = stopped
            .end
            .previous_byte_segment(size)
            .file_name(stopped.timeline, size);
        let (disk, dir) = (wal.segments().disk(), wal.segments().dir());
        let mut waited = Duration::ZERO;
        let mut warn_at = Duration::from_secs(60);
        while !archive_status::is_done(disk, dir, &last)?
            || !archive_status::is_done(disk, dir, history)?
        {
            tokio::time::sleep(POLL).await;
            waited += POLL;
            if waited >= warn_at {
                warn_at *= 2;
                tracing::warn!(
                    "still waiting for all required WAL segments to be archived ({} seconds elapsed)",
                    waited.as_secs()
                );
            }
        }
        Ok(())
    }
}

/// Log that stays until this is dropped.
pub struct HeldLog<'a> {
    backups: &'a Backups,
    from: Lsn,
}

impl Drop for HeldLog<'_> {
    fn drop(&mut self) {
        let mut held = self.backups.held.lock();
        if let Some(at) = held.iter().position(|lsn| *lsn == self.from) {
            held.swap_remove(at);
        }
    }
}

/// Images forced for a backup that has not begun yet.
struct Forced<'a>(Option<&'a Backups>);

impl<'a> Forced<'a> {
    fn new(backups: &'a Backups) -> Forced<'a> {
        backups.store.wal.force_full_page_writes(true);
        Forced(Some(backups))
    }
    fn keep(mut self) {
        self.0 = None;
    }
}
impl Drop for Forced<'_> {
    fn drop(&mut self) {
        if let Some(backups) = self.0 {
            backups.store.wal.force_full_page_writes(false);
        }
    }
}

fn io_error(
    operation: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.as_ref().display().to_string();
    move |source| BackupError::Io {
        operation,
        path,
        source,
    }
}

fn now_text() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%d %H:%M:%S UTC")
        .to_string()
}
