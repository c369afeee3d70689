//! From a data directory to a running log: where replay begins, which kind it is, and what follows it.
//!
//! `pg_control` or `backup_label` says which checkpoint to begin from. A crash recovery replays what is in `pg_wal`
//! and goes on on the same timeline; a standby, or a recovery from an archive, replays what it gets and ends on a
//! new one. Before the first page is changed `pg_control` says what is going on, so that a crash during recovery
//! begins again with the same duties (minimum recovery point, end of backup).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{Lsn, TimelineId};
use crate::storage::{ClusterState, ControlData, Store, WriteGate};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{CheckPoint, ParameterChange};
use crate::wal::{FileSource, ReadError, WalBytes, WalError, WalReader};

use super::backup_label::{self, BackupLabel};
use super::data_files;
use super::end;
use super::error::RecoveryError;
use super::gate::RecoveryGate;
use super::participant::Participant;
use super::redo::RedoTable;
use super::replay::{Applier, ApplierParts, End, Follower, checkpoint_of};
use super::restore::ArchiveShell;
use super::source::{SourceParts, StandbySource, TargetTimeline, Upstream};
use super::state::{Phase, RecoveryState};

/// What the data directory's files ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Crash recovery at most.
    #[default]
    Primary,
    /// Follows archive and stream until it is promoted.
    Standby,
    /// Replays the archive to its end.
    Archive,
}

/// A wish to end a standby's recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Promotion {
    /// The new timeline's number, where an operator gives it (its term); else the next free one.
    pub timeline: Option<TimelineId>,
}

/// The trigger file, as recovery sees it. Asked about every 50 ms.
pub trait Trigger: Send + Sync {
    fn poll(&self) -> Option<Promotion>;
    /// The promotion is complete: the file goes.
    fn done(&self) {}
}

/// A trigger file whose presence is enough.
pub struct FileTrigger {
    path: Arc<dyn Fn() -> Option<PathBuf> + Send + Sync>,
}

impl FileTrigger {
    /// `path` is asked each time: `promote_trigger_file` may be reloaded.
    pub fn new(path: Arc<dyn Fn() -> Option<PathBuf> + Send + Sync>) -> FileTrigger {
        FileTrigger { path }
    }
}

impl Trigger for FileTrigger {
    fn poll(&self) -> Option<Promotion> {
        let path = (self.path)()?;
        if !path.exists() {
            return None;
        }
        tracing::info!("promote trigger file found: {}", path.display());
        Some(Promotion::default())
    }
    fn done(&self) {
        if let Some(path) = (self.path)()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!("could not remove file \"{}\": {error}", path.display());
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RecoverySettings {
    pub target: TargetTimeline,
    /// `wal_retrieve_retry_interval`
    pub retry_interval: Duration,
    pub hot_standby: bool,
    /// `archive_mode` is on: the new timeline's history and the cut segment are to be archived.
    pub archiving: bool,
    /// This server's settings, to be logged where they differ from the last start's.
    pub parameters: Option<ParameterChange>,
}

pub struct StartupConfig {
    pub store: Arc<Store>,
    pub redo: RedoTable,
    pub participant: Arc<dyn Participant>,
    pub state: Arc<RecoveryState>,
    pub mode: Mode,
    /// The file that asked for `mode`: `recovery.conf`, `standby.signal` or `recovery.signal`.
    pub request_file: Option<&'static str>,
    pub settings: RecoverySettings,
    pub archive: Option<Arc<dyn ArchiveShell>>,
    pub upstream: Option<Arc<dyn Upstream>>,
    pub trigger: Option<Arc<dyn Trigger>>,
}

/// How the log came to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub timeline: TimelineId,
    /// End of the last record before anything new, or of the end-of-recovery record where there is one.
    pub end_of_recovery: Lsn,
    pub kind: OutcomeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutcomeKind {
    /// There was nothing to replay.
    Clean,
    Crash,
    Promoted,
}

/// Where to begin.
struct Beginning {
    checkpoint_lsn: Lsn,
    checkpoint_end: Lsn,
    checkpoint: CheckPoint,
    label: Option<BackupLabel>,
    history: History,
}

pub struct Startup {
    config: StartupConfig,
    gate: Arc<RecoveryGate>,
}

impl Startup {
    pub fn new(config: StartupConfig) -> Startup {
        let store = &config.store;
        let gate = Arc::new(RecoveryGate {
            control: store.control.clone(),
            state: config.state.clone(),
            wal: store.wal.clone(),
            archive: config.mode != Mode::Primary,
        });
        store.pool.set_gate(gate.clone() as Arc<dyn WriteGate>);
        // Files that a record cuts or drops can't be brought back: a restart must replay at least to there.
        let for_wal = Arc::downgrade(&gate);
        store.wal.on_recovery_flush(Box::new(move |upto| {
            if let Some(gate) = for_wal.upgrade()
                && let Err(error) = gate.advance(upto)
            {
                gate.fatal(&error.to_string());
            }
        }));
        Startup { config, gate }
    }

    /// Does everything from here to a log that can be written. On a standby that takes until its promotion, so it
    /// has a thread of its own; what others may do meanwhile the state's phase tells.
    pub fn run(self) -> Result<Outcome, RecoveryError> {
        let state = self.config.state.clone();
        let is_cut = |error: &WalError| {
            state.stop_requested() && error.io_kind() == Some(io::ErrorKind::Interrupted)
        };
        self.until_writing().map_err(|error| match error {
            // A restore command that ran was not waited for.
            RecoveryError::Wal(error) if is_cut(&error) => RecoveryError::Interrupted,
            other => other,
        })
    }

    fn until_writing(self) -> Result<Outcome, RecoveryError> {
        let disk = self.config.store.disk.clone();
        let control = self.config.store.control.get();
        log_state(&control);
        let segments = self.config.store.wal.segments().clone();
        segments.clean_up_and_sync()?;
        let label = backup_label::read(&*disk, segments.size())?;
        if label.is_some() {
            backup_label::check_map(&*disk)?;
        }
        if self.config.mode != Mode::Standby {
            // A standby gets a segment that is not whole from elsewhere; here the log would seem to end in it.
            let redo = control.checkpoint_copy.redo;
            let from = label.as_ref().map_or(redo, |label| label.start);
            segments.check_sizes(from.segment(segments.size()))?;
        }
        let clean = control.state == ClusterState::ShutDown && label.is_none();
        if !clean || self.config.mode != Mode::Primary {
            let prepared = data_files::prepare(&*disk, control.checksums)?;
            if prepared.mended > 0 {
                let mended = prepared.mended;
                tracing::info!("{mended} torn pages of free space maps reset");
            }
            if prepared.cut > 0 {
                let cut = prepared.cut;
                tracing::info!("{cut} files cut to whole pages");
            }
        }
        match self.config.mode {
            Mode::Primary => self.run_primary(&control, label),
            Mode::Standby | Mode::Archive => {
                if self.config.mode == Mode::Standby {
                    tracing::info!("entering standby mode");
                } else {
                    tracing::info!("starting archive recovery");
                }
                self.run_archive(&control, label)
            }
        }
    }

    fn run_primary(
        self,
        control: &ControlData,
        label: Option<BackupLabel>,
    ) -> Result<Outcome, RecoveryError> {
        let segments = self.config.store.wal.segments().clone();
        let newest = match &label {
            Some(label) => label.timeline,
            None => newest_known(control),
        };
        let history = crate::wal::timeline::read(segments.disk(), segments.dir(), newest)?;
        let history = history.ok_or(RecoveryError::NoSuchTimeline(newest))?;
        let source = FileSource::new(segments, history.clone());
        let mut reader = self.reader(source, control, &history);
        let begin = self.find_beginning(&mut reader, control, label, history, false)?;
        self.config.participant.check_files(&begin.checkpoint)?;
        let shut_down = control.state == ClusterState::ShutDown && begin.label.is_none();
        if shut_down && begin.checkpoint.redo == begin.checkpoint_lsn {
            self.config.participant.begin_recovery(&begin.checkpoint);
            self.config.state.set_checkpoint_end(begin.checkpoint_end);
            let end = End {
                end: begin.checkpoint_end,
                last_record: begin.checkpoint_lsn,
                aborted: None,
                promotion: None,
            };
            return end::begin_clean(&self.config, end, begin.history);
        }
        tracing::info!(
            "database system was not properly shut down; automatic recovery in progress"
        );
        self.begin_replay(&begin, ClusterState::InCrashRecovery, control)?;
        let from_label = begin.label.is_some();
        let proof = begin.checkpoint_end.max(control.min_recovery_point);
        reader.set_proof(proof);
        reader.seek(begin.checkpoint.redo);
        tracing::info!("redo starts at {}", begin.checkpoint.redo);
        let (config, applier) = self.into_applier(begin.history.clone(), false);
        let (end, applier) = replay_files(reader, applier, begin.checkpoint.redo)?;
        end::check_end(&config, &applier, &end, false)?;
        if from_label {
            end::check_no_page_beyond(&config.store, end.end)?;
        }
        applier.redo.finish(&config.store);
        end::end_crash_recovery(&config, end, begin.history)
    }

    fn run_archive(
        self,
        control: &ControlData,
        label: Option<BackupLabel>,
    ) -> Result<Outcome, RecoveryError> {
        let segments = self.config.store.wal.segments().clone();
        let base = match &label {
            Some(label) => label.timeline,
            None => newest_known(control),
        };
        let oldest_kept = control
            .checkpoint_copy
            .redo
            .segment(segments.size())
            .file_name(control.checkpoint_copy.timeline, segments.size());
        let mut source = StandbySource::new(SourceParts {
            segments,
            state: self.config.state.clone(),
            archive: self.config.archive.clone(),
            upstream: self.config.upstream.clone(),
            standby: self.config.mode == Mode::Standby,
            target: self.config.settings.target,
            retry_interval: self.config.settings.retry_interval,
            oldest_kept,
            archive_too: self.config.store.wal.archives_in_recovery(),
            history: History::root(base),
        });
        let history = self.target_history(&source, base)?;
        source.set_history(history.clone());
        let mut reader = self.reader(source, control, &history);
        let patient = self.config.mode == Mode::Standby;
        let begin = self.find_beginning(&mut reader, control, label, history, patient)?;
        let mut control = control.clone();
        if begin.label.is_none() && was_primary(control.state) {
            // Its pages may be as new as its own log's last record: only there are they consistent.
            let end = self.own_end(&begin, newest_known(&control))?;
            control.min_recovery_point = control.min_recovery_point.max(end);
            control.min_recovery_timeline = newest_known(&control);
        }
        self.check_timeline(&begin, &control)?;
        self.config.participant.check_files(&begin.checkpoint)?;
        self.begin_replay(&begin, ClusterState::InArchiveRecovery, &control)?;
        reader.seek(begin.checkpoint.redo);
        tracing::info!("redo starts at {}", begin.checkpoint.redo);
        let history = reader.source().history().clone();
        let standby = self.config.mode == Mode::Standby;
        let trigger = self.config.trigger.clone();
        let (config, mut applier) = self.into_applier(history, true);
        config.state.set_phase(Phase::Replaying);
        applier.start_at(begin.checkpoint.redo);
        applier.check_consistency(begin.checkpoint.redo)?;
        let mut follower = Follower {
            reader,
            applier,
            trigger,
            standby,
            promotion: None,
            looked_for_trigger: Instant::now(),
        };
        let end = follower.run()?;
        let history = follower.reader.source().history().clone();
        end::check_end(&config, &follower.applier, &end, true)?;
        // Files of transactions without an outcome go when the promotion is durable (`begin_writing`): before that a crash
        // or an error leaves a standby of the primary on which they still run.
        end::promote(&config, end, history, follower.reader.source())
    }

    fn into_applier(self, history: History, archive: bool) -> (StartupConfig, Applier) {
        let Startup { mut config, gate } = self;
        debug_assert_eq!(gate.archive, archive);
        let applier = Applier::new(ApplierParts {
            store: config.store.clone(),
            redo: std::mem::take(&mut config.redo),
            participant: config.participant.clone(),
            state: config.state.clone(),
            archive,
            hot_standby: archive && config.settings.hot_standby,
            history,
        });
        (config, applier)
    }

    fn reader<S: WalBytes>(
        &self,
        source: S,
        control: &ControlData,
        history: &History,
    ) -> WalReader<S> {
        let size = self.config.store.wal.segment_size();
        let mut reader =
            WalReader::new(source, size, control.checkpoint).with_system_id(control.system_id);
        reader.set_history(history.clone());
        reader
    }

    /// Which timelines to follow from `base`.
    fn target_history(
        &self,
        source: &StandbySource,
        base: TimelineId,
    ) -> Result<History, RecoveryError> {
        let wanted = match self.config.settings.target {
            TargetTimeline::Current => base,
            TargetTimeline::Number(timeline) => timeline,
            TargetTimeline::Latest => source.newest_timeline(base)?.unwrap_or(base),
        };
        let found = match source.read_history(wanted) {
            // As when it runs (`rescan_timelines`): it stays on its own timeline until the newer one's history is whole.
            Err(error)
                if error.is_damaged_history()
                    && self.config.mode == Mode::Standby
                    && self.config.settings.target == TargetTimeline::Latest
                    && wanted != base =>
            {
                tracing::warn!("{error}");
                let own = source.read_history(base)?;
                return Ok(own.unwrap_or_else(|| History::root(base)));
            }
            other => other?,
        };
        match found {
            Some(history) => Ok(history),
            // The backup's own timeline may be known only by the primary; then it has no ancestors that matter.
            None if wanted == base => Ok(History::root(base)),
            None => Err(RecoveryError::NoSuchTimeline(wanted)),
        }
    }

    /// Reads the checkpoint record that everything begins from. A `patient` start waits
    /// until it is there.
    fn find_beginning<S: Waiting>(
        &self,
        reader: &mut WalReader<S>,
        control: &ControlData,
        label: Option<BackupLabel>,
        history: History,
        patient: bool,
    ) -> Result<Beginning, RecoveryError> {
        let lsn = label
            .as_ref()
            .map_or(control.checkpoint, |label| label.checkpoint);
        let none = |reason: String| RecoveryError::NoCheckpoint {
            lsn,
            reason,
            with_label: label.is_some(),
        };
        reader.seek(lsn);
        let (end, checkpoint) = loop {
            let seen = self.config.state.wakeups();
            let error = match reader.next() {
                Ok(record) => break (record.end, checkpoint_of(&record).map_err(none)?),
                Err(error) => error,
            };
            match error {
                ReadError::Io(error) => return Err(error.into()),
                _ if self.config.state.stop_requested() => return Err(RecoveryError::Interrupted),
                // A standby whose backup brought no WAL gets even its first record from elsewhere.
                ReadError::WouldBlock(_) if patient => {
                    if !reader.source().advance(lsn)? {
                        self.config.state.wait(seen, Duration::from_millis(100));
                    }
                }
                other if patient => reader.source().refuse(lsn, &other.to_string()),
                other => return Err(none(other.to_string())),
            }
            reader.forget_page();
        };
        let mut checkpoint = checkpoint;
        if let Some(label) = &label {
            checkpoint.redo = label.start;
        }
        if checkpoint.redo > lsn {
            return Err(none("invalid redo in checkpoint record".to_owned()));
        }
        Ok(Beginning {
            checkpoint_lsn: lsn,
            checkpoint_end: end,
            checkpoint,
            label,
            history,
        })
    }

    /// The end of the log that this directory wrote as a primary, by reading it.
    fn own_end(&self, begin: &Beginning, timeline: TimelineId) -> Result<Lsn, RecoveryError> {
        let segments = self.config.store.wal.segments().clone();
        let history = crate::wal::timeline::read(segments.disk(), segments.dir(), timeline)?;
        let history = history.unwrap_or_else(|| History::root(timeline));
        let size = segments.size();
        let mut reader = WalReader::new(
            FileSource::new(segments, history.clone()),
            size,
            begin.checkpoint.redo,
        )
        .with_system_id(self.config.store.control.get().system_id);
        reader.set_history(history);
        loop {
            match reader.next().map(|_| ()) {
                Ok(()) => {}
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(_) => return Ok(reader.position()),
            }
        }
    }

    /// The timelines to follow must contain where we are.
    fn check_timeline(
        &self,
        begin: &Beginning,
        control: &ControlData,
    ) -> Result<(), RecoveryError> {
        let not_a_child = |checkpoint: Lsn, timeline: TimelineId| RecoveryError::NotAChild {
            wanted: begin.history.timeline(),
            checkpoint,
            timeline,
        };
        let timeline = begin.checkpoint.timeline;
        if begin.history.owner(begin.checkpoint_lsn) != timeline {
            return Err(not_a_child(begin.checkpoint_lsn, timeline));
        }
        let minimum = control.min_recovery_point;
        if begin.label.is_none() && minimum.is_valid() {
            let last_byte = Lsn::new(minimum.raw() - 1);
            if begin.history.owner(last_byte) != control.min_recovery_timeline {
                return Err(not_a_child(minimum, control.min_recovery_timeline));
            }
        }
        Ok(())
    }

    /// `pg_control` says from now on what a restart has to do; then the label has done its duty.
    fn begin_replay(
        &self,
        begin: &Beginning,
        state: ClusterState,
        known: &ControlData,
    ) -> Result<(), RecoveryError> {
        let archive = state == ClusterState::InArchiveRecovery;
        let store = &self.config.store;
        store.control.update(|data| {
            data.state = state;
            data.checkpoint = begin.checkpoint_lsn;
            data.checkpoint_copy = begin.checkpoint;
            data.min_recovery_point = known.min_recovery_point;
            data.min_recovery_timeline = known.min_recovery_timeline;
            if archive && data.min_recovery_point < begin.checkpoint.redo {
                data.min_recovery_point = begin.checkpoint.redo;
                data.min_recovery_timeline = begin.checkpoint.timeline;
            }
            if let Some(label) = &begin.label {
                data.backup_start = begin.checkpoint.redo;
                data.backup_end_required = label.streamed;
                if label.from_standby {
                    data.backup_end = data.min_recovery_point;
                }
            }
        })?;
        if begin.label.is_some() {
            backup_label::retire(&*store.disk)?;
            let map = Path::new(backup_label::TABLESPACE_MAP);
            crate::io::durable::remove(&*store.disk, map)
                .map_err(RecoveryError::io("remove", map))?;
        }
        store.wal.set_redo_point_to(begin.checkpoint.redo);
        self.config.participant.begin_recovery(&begin.checkpoint);
        Ok(())
    }
}

/// A source that can be asked to look elsewhere.
pub(super) trait Waiting: WalBytes {
    fn advance(&mut self, position: Lsn) -> Result<bool, RecoveryError>;
    /// What it gave was no record.
    fn refuse(&mut self, position: Lsn, reason: &str);
}
impl Waiting for FileSource {
    fn advance(&mut self, _position: Lsn) -> Result<bool, RecoveryError> {
        Ok(false)
    }
    fn refuse(&mut self, _position: Lsn, _reason: &str) {}
}
impl Waiting for StandbySource {
    fn advance(&mut self, position: Lsn) -> Result<bool, RecoveryError> {
        Ok(StandbySource::advance(self, position)?)
    }
    fn refuse(&mut self, position: Lsn, reason: &str) {
        StandbySource::refuse(self, position, reason);
    }
}

/// It was written to when it was last up, and not shut down.
fn was_primary(state: ClusterState) -> bool {
    matches!(
        state,
        ClusterState::InProduction
            | ClusterState::StartingUp
            | ClusterState::ShuttingDown
            | ClusterState::InCrashRecovery
    )
}

fn newest_known(control: &ControlData) -> TimelineId {
    let checkpoint = control.checkpoint_copy.timeline;
    if control.min_recovery_point.is_valid() {
        checkpoint.max(control.min_recovery_timeline)
    } else {
        checkpoint
    }
}

/// Crash recovery: everything in `pg_wal`.
fn replay_files(
    mut reader: WalReader<FileSource>,
    mut applier: Applier,
    redo: Lsn,
) -> Result<(End, Applier), RecoveryError> {
    applier.start_at(redo);
    applier.state.set_phase(Phase::Replaying);
    let mut any = false;
    loop {
        let error = match reader.next() {
            Ok(record) => {
                any = true;
                applier.apply(&record)?;
                if applier.state.stop_requested() {
                    return Err(RecoveryError::Interrupted);
                }
                continue;
            }
            Err(error) => error,
        };
        return match error {
            ReadError::EndOfLog { lsn, reason } if any => {
                tracing::info!("{reason}");
                applier.publish();
                let end = End {
                    end: lsn,
                    last_record: reader.last_record().unwrap_or(Lsn::INVALID),
                    aborted: reader.aborted(),
                    promotion: None,
                };
                tracing::info!("redo done at {}", end.last_record);
                Ok((end, applier))
            }
            ReadError::EndOfLog { lsn, .. } | ReadError::WouldBlock(lsn) => {
                Err(RecoveryError::NoRedo { lsn })
            }
            ReadError::Damaged { lsn, reason } => Err(RecoveryError::Damaged { lsn, reason }),
            ReadError::Io(error) => Err(error.into()),
        };
    }
}

fn log_state(control: &ControlData) {
    let time = |seconds: i64| {
        let stamp = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    };
    let changed = time(control.time_s);
    match control.state {
        ClusterState::ShutDown => tracing::info!("database system was shut down at {changed}"),
        ClusterState::ShutDownInRecovery => {
            tracing::info!("database system was shut down in recovery at {changed}");
        }
        ClusterState::ShuttingDown => {
            tracing::info!("database system shutdown was interrupted; last known up at {changed}");
        }
        ClusterState::InCrashRecovery => {
            tracing::info!("database system was interrupted while in recovery at {changed}");
        }
        ClusterState::InArchiveRecovery => tracing::info!(
            "database system was interrupted while in recovery at log time {}",
            time(control.checkpoint_copy.time_s)
        ),
        ClusterState::InProduction | ClusterState::StartingUp => {
            tracing::info!("database system was interrupted; last known up at {changed}");
        }
    }
}
