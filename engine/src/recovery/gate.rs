//! What must be durable before replay's pages may be written.
//!
//! In crash recovery the log that is replayed was synced before replay began. On a standby a page that is newer
//! than the minimum recovery point would make the directory inconsistent for a restart that stops before it; so
//! `pg_control` is advanced first, at once to how far replay has come, which makes it rare.

use std::sync::Arc;

use crate::ids::Lsn;
use crate::storage::{ControlFile, StorageError, WriteGate};
use crate::wal::Wal;

use super::state::RecoveryState;

pub(super) struct RecoveryGate {
    pub control: Arc<ControlFile>,
    pub state: Arc<RecoveryState>,
    pub wal: Arc<Wal>,
    /// Recovery from a backup, an archive or a stream: there is a minimum recovery point.
    pub archive: bool,
}

impl RecoveryGate {
    /// Makes the minimum recovery point at least `lsn`.
    pub fn advance(&self, lsn: Lsn) -> Result<(), StorageError> {
        if !self.archive || self.control.get().min_recovery_point >= lsn {
            return Ok(());
        }
        let upto = lsn.max(self.state.replay_lsn()).max(self.state.applying());
        // Of the last byte: what is being applied may be the first record of a new timeline.
        let timeline = match self.wal.history() {
            Some(history) => history.owner(Lsn::new(upto.raw().saturating_sub(1))),
            None => self.state.replay_timeline(),
        };
        let updated = self.control.update(|data| {
            if data.min_recovery_point < upto {
                data.min_recovery_point = upto;
                data.min_recovery_timeline = timeline;
            }
        });
        updated.map_err(|error| StorageError::Io {
            operation: "write to",
            path: crate::storage::control_file::PATH.to_owned(),
            source: std::io::Error::other(error),
        })
    }
}

impl WriteGate for RecoveryGate {
    fn before_write(&self, page_lsn: Lsn) -> Result<(), StorageError> {
        self.advance(page_lsn)
    }
    fn fatal(&self, reason: &str) {
        self.wal.fail(reason);
    }
}
