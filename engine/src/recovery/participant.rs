//! What recovery and checkpoints ask of the rooms that keep state beside pages.

use std::io;

use crate::ids::{Lsn, Oid, RelFile, Xid};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{CheckPoint, ParameterChange};

use super::error::RecoveryError;

/// Implemented by the wiring, over transactions (xids, commit log), catalog (object ids) and slots.
pub trait Participant: Send + Sync + 'static {
    /// Low half of the oldest xid without an outcome, 0 for none. Asked before the redo point is set: such a
    /// transaction may end behind it.
    fn oldest_running_xid(&self) -> u32;
    /// The next xid to be handed out. Asked inside the log's critical section: a few loads, no lock.
    fn next_xid(&self) -> Xid;
    /// No object id from here on has been given out without a record behind the redo point. Asked after it is set.
    fn next_oid(&self) -> Oid;
    /// Low half of the oldest xid that the commit log knows, and a database that has it.
    fn oldest_known_xid(&self) -> (u32, Oid) {
        (Xid::FIRST_NORMAL.low(), Oid::new(1))
    }
    /// Makes everything durable that records below the redo point changed and that is not in pages: commit log,
    /// slots, other small files.
    fn flush(&self, redo: Lsn) -> io::Result<()>;
    /// After a checkpoint: old state may be removed (commit log cut, forgotten files).
    fn after_checkpoint(&self, _checkpoint: &CheckPoint) {}

    /// Before recovery begins: are the files there without which the directory is not whole?
    fn check_files(&self, _checkpoint: &CheckPoint) -> Result<(), RecoveryError> {
        Ok(())
    }
    /// At the end of replay: was this file made by a transaction that did not commit? Its pages may be missing.
    fn was_made_by_the_dead(&self, _file: RelFile) -> bool {
        false
    }
    /// Recovery begins: the counters to start from.
    fn begin_recovery(&self, checkpoint: &CheckPoint);
    /// The timelines that are followed from here on: before the first record, wherever a newer one is followed, and where
    /// a promotion begins one. Nothing behind the place where they leave those before has been replayed, and nobody is served
    /// by the new ones yet.
    fn follows(&self, _history: &History) {}
    /// Replay met a record of this xid (low half, not 0).
    fn saw_xid(&self, xid_low: u32);
    /// Replay met a checkpoint record; `shutdown` ones say that no transaction is running.
    fn saw_checkpoint(&self, checkpoint: &CheckPoint, shutdown: bool);
    /// Replay met the record of a start after a crash or a promotion: no transaction from before it is running.
    fn saw_end_of_recovery(&self, at: Lsn);
    /// Replay met a record that says that object ids below this one may have been given out.
    fn saw_next_oid(&self, next: Oid);
    /// The primary's settings changed.
    fn saw_parameters(&self, _parameters: &ParameterChange) {}
    /// Everything that ends at or below `replayed` has been applied. Called for batches of records, and always
    /// before replay waits.
    fn replayed(&self, replayed: Lsn);
    /// A standby is consistent: queries may begin.
    fn consistent(&self, _at: Lsn) {}
    /// Replay is over at `end` and nothing has been written since: transactions without an outcome are aborted,
    /// their files removed.
    fn end_recovery(&self, end: Lsn) -> io::Result<()>;
    /// The log accepts records; the first has been written.
    fn begin_writing(&self, end_of_recovery: Lsn);
}
