//! From the log to pages: redo, crash recovery, standby replay, promotion; and checkpoints, which bound them.
//!
//! Owns the order of things at the start and the end of recovery, the minimum recovery point, consistency, where a
//! standby's WAL comes from, and when a checkpoint or restartpoint is made. Invariants: a record's pages are
//! changed by their owner's page function only; no page is written before the log that made it is durable here
//! and, on a standby, before `pg_control` says how far replay must come; a new timeline's history file and first
//! segment are durable before anything is written on it. Must not know payloads (owners register handlers), SQL
//! or sockets (the receiver stands behind [`Upstream`]). A crash at any point is followed by replay from the last
//! checkpoint's redo point, which arrives at the same pages.

mod archiver;
mod backup;
pub mod backup_label;
mod checkpoint;
mod checkpointer;
mod data_files;
mod end;
mod error;
mod gate;
mod missing;
mod new_cluster;
mod participant;
mod redo;
mod replay;
mod restore;
mod retention;
mod rooms;
mod source;
mod startup;
mod state;

#[cfg(test)]
mod tests;

pub use archiver::{Archiver, ArchiverSettings, ArchiverStats};
pub use backup::{BackupError, Backups, StartedBackup, StoppedBackup};
pub use checkpoint::{CheckpointDone, CheckpointKind};
pub use checkpointer::{CheckpointSettings, Checkpointer};
pub use error::{RecoveryError, RedoError};
pub use missing::MissingPages;
pub use new_cluster::{begin_new_cluster, control_data};
pub use participant::Participant;
pub use redo::{EndHook, Handler, RecordHook, RedoCx, RedoTable};
pub use restore::{ArchiveShell, CommandArchive};
pub use retention::Retention;
pub use rooms::{ReplayConflicts, redo_table};
pub use source::{TargetTimeline, Upstream, UpstreamState};
pub use startup::{
    FileTrigger, Mode, Outcome, OutcomeKind, Promotion, RecoverySettings, Startup, StartupConfig,
    Trigger,
};
pub use state::{Phase, RecoveryState};
