//! What checkpoints and recovery ask of transactions, object ids and the catalog's memory.

use std::io;
use std::sync::Arc;

use crate::catalog::oids::OidAllocator;
use crate::ids::{Lsn, Oid, RelFile, Xid};
use crate::io::DiskRef;
use crate::node::managed::told::ToldKeeper;
use crate::node::orphans::Orphans;
use crate::recovery::{Participant, RecoveryError};
use crate::txn::TxnManager;
use crate::txn::redo::RecoveryStart;
use crate::wal::timeline::History;
use crate::wal::xlog_records::CheckPoint;

pub struct NodeParticipant {
    pub txns: Arc<TxnManager>,
    pub oids: Arc<OidAllocator>,
    pub orphans: Arc<Orphans>,
    pub disk: DiskRef,
    /// What may be shown when recovery begins, before anything is known of timelines.
    pub shown_at_start: Option<Lsn>,
    pub told: Arc<ToldKeeper>,
}

impl Participant for NodeParticipant {
    fn oldest_running_xid(&self) -> u32 {
        // The next xid where none runs, never "none": one may begin before the redo point is set.
        self.txns.oldest_running_xid().low()
    }

    fn next_xid(&self) -> Xid {
        self.txns.next_xid()
    }

    fn next_oid(&self) -> Oid {
        self.oids.logged_bound()
    }

    fn flush(&self, _redo: Lsn) -> io::Result<()> {
        self.txns.checkpoint()
    }

    fn check_files(&self, checkpoint: &CheckPoint) -> Result<(), RecoveryError> {
        let next = checkpoint.next_xid;
        let checked = self.txns.check_commit_log(next);
        let trimmed = checked.and_then(|()| self.txns.trim_commit_log(next));
        trimmed.map_err(|(path, source)| RecoveryError::Io {
            operation: "read transaction status from",
            path: path.display().to_string(),
            source,
        })
    }

    fn was_made_by_the_dead(&self, file: RelFile) -> bool {
        self.txns.was_made_by_the_dead(file)
    }

    fn begin_recovery(&self, checkpoint: &CheckPoint) {
        let start = RecoveryStart {
            next_xid: checkpoint.next_xid,
            oldest_active_xid: checkpoint.oldest_active_xid,
            redo: checkpoint.redo,
        };
        self.txns.begin_recovery(start, self.shown_at_start);
        self.oids.start_from(checkpoint.next_oid);
    }

    fn follows(&self, history: &History) {
        self.told.follows(history);
    }

    fn saw_xid(&self, xid_low: u32) {
        self.txns.saw_xid(xid_low);
    }

    fn saw_checkpoint(&self, checkpoint: &CheckPoint, shutdown: bool) {
        self.oids.saw(checkpoint.next_oid);
        if shutdown {
            self.txns.primary_restarted(checkpoint.next_xid);
        } else {
            let oldest = checkpoint.oldest_active_xid;
            self.txns.running_since(oldest, checkpoint.next_xid);
        }
    }

    fn saw_end_of_recovery(&self, _at: Lsn) {
        self.txns.primary_restarted(self.txns.next_xid());
    }

    fn saw_next_oid(&self, next: Oid) {
        self.oids.saw(next);
    }

    fn replayed(&self, replayed: Lsn) {
        self.txns.replayed(replayed);
    }

    fn end_recovery(&self, _end: Lsn) -> io::Result<()> {
        self.oids.saw(self.orphans.note(&*self.disk)?);
        Ok(())
    }

    fn begin_writing(&self, end_of_recovery: Lsn) {
        self.txns.finish_recovery(end_of_recovery);
    }
}
