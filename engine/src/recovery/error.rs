//! What stops a start or a checkpoint.

use std::io;

use crate::ids::{Lsn, PageId, TimelineId};
use crate::storage::{ControlError, PageFault, StorageError};
use crate::wal::{RmgrId, WalError};

/// A record that could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum RedoError {
    #[error("could not apply record to block {} of {}: {fault}", .page.block, .page.file.path(.page.fork))]
    Page { page: PageId, fault: PageFault },
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The owner of the record says so.
    #[error("{0}")]
    Owner(String),
    /// Replay was told to stop while it waited for a query.
    #[error("recovery was interrupted")]
    Stopped,
    #[error("no resource manager {0} is registered")]
    NoHandler(RmgrId),
}

/// PostgreSQL's words for the checkpoint of a backup label and for the control file's.
fn which(with_label: &bool) -> &'static str {
    if *with_label { "required" } else { "a valid" }
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("could not {operation} file \"{path}\": {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("invalid data in file \"backup_label\"")]
    BackupLabel,
    #[error("invalid data in file \"tablespace_map\"")]
    TablespaceMap,
    #[error("could not locate {} checkpoint record at {lsn}: {reason}", which(.with_label))]
    NoCheckpoint {
        lsn: Lsn,
        reason: String,
        with_label: bool,
    },
    #[error("could not find redo location referenced by checkpoint record")]
    NoRedo { lsn: Lsn },
    #[error("WAL is damaged at {lsn}: {reason}")]
    Damaged { lsn: Lsn, reason: String },
    #[error("WAL redo at {lsn} for {rmgr}/{info:02X}: {source}")]
    Redo {
        lsn: Lsn,
        rmgr: RmgrId,
        info: u8,
        source: RedoError,
    },
    #[error("WAL contains references to invalid pages")]
    InvalidPages { count: usize, first: PageId },
    #[error("WAL ends before end of online backup")]
    EndsBeforeBackupEnd { required: bool },
    #[error("WAL ends before consistent recovery point")]
    EndsBeforeConsistency { end: Lsn, wanted: Lsn },
    #[error("a data page is newer ({page}) than the end of WAL ({end})")]
    PageBeyondEnd { page: Lsn, end: Lsn },
    #[error("requested timeline {wanted} is not a child of this server's history")]
    NotAChild {
        wanted: TimelineId,
        checkpoint: Lsn,
        timeline: TimelineId,
    },
    /// The operator's term must be above every timeline that exists: one number, one promotion.
    #[error("cannot begin timeline {wanted}: timeline {newest} exists already")]
    TimelineTaken {
        wanted: TimelineId,
        newest: TimelineId,
    },
    #[error("cannot begin a new timeline: {0} exists already and is the last number")]
    LastTimeline(TimelineId),
    #[error("recovery target timeline {0} does not exist")]
    NoSuchTimeline(TimelineId),
    /// The server is being stopped.
    #[error("recovery was interrupted")]
    Interrupted,
    #[error("could not {what}: {source}")]
    State {
        what: &'static str,
        source: io::Error,
    },
}

impl RecoveryError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(io::Error) -> RecoveryError {
        let path = path.as_ref().display().to_string();
        move |source| RecoveryError::Io {
            operation,
            path,
            source,
        }
    }

    /// PostgreSQL's hint for the administrator, where it has one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            RecoveryError::Wal(error) if error.is_damaged_history() => Some(
                "Put the file back whole: the archive, the primary and every standby that follows the timeline have a copy.",
            ),
            RecoveryError::Wal(WalError::SegmentSize { .. }) => Some(
                "Put the file back whole, from the archive or from another instance of the cluster.",
            ),
            RecoveryError::NoSuchTimeline(_) => Some(
                "Its history file is neither in \"pg_wal\" nor in the archive: put it back from another instance of the cluster.",
            ),
            RecoveryError::BackupLabel => Some(
                "Take the file from the backup once more. Without it a copy that was made from a running server is corrupt.",
            ),
            RecoveryError::TablespaceMap => Some(
                "No backup of this server names tablespaces. Take the file from the backup once more, or remove it if it does not belong to it.",
            ),
            RecoveryError::LastTimeline(_) => Some(
                "If no server ever had this timeline, remove its history file from \"pg_wal\" and from the archive.",
            ),
            RecoveryError::NoCheckpoint {
                with_label: true, ..
            } => Some(
                "If you are restoring from a backup, touch \"recovery.signal\" or \"standby.signal\" and add required recovery options. If you are not restoring from a backup, try removing the file \"backup_label\". Be careful: removing \"backup_label\" will result in a corrupt cluster if restoring from a backup.",
            ),
            RecoveryError::NoRedo { .. } => Some(
                "If you are restoring from a backup, touch \"recovery.signal\" or \"standby.signal\" and add required recovery options.",
            ),
            RecoveryError::EndsBeforeBackupEnd { required: true } => Some(
                "All WAL generated while online backup was taken must be available at recovery.",
            ),
            RecoveryError::EndsBeforeBackupEnd { required: false } => Some(
                "Online backup started with pg_backup_start() must be ended with pg_backup_stop(), and all WAL up to that point must be available at recovery.",
            ),
            RecoveryError::PageBeyondEnd { .. } => Some(
                "The copy of the data directory is newer than its WAL: provide the WAL up to the end of the backup, or create \"standby.signal\" so that it is fetched.",
            ),
            _ => None,
        }
    }
}
