//! Savepoints.
//!
//! A released savepoint's xids belong to the level above from then on; rolling back aborts the xids of a level,
//! its released children and every level inside it, in one abort record under the outermost of them.

use crate::ids::Xid;
use crate::txn::error::TxnError;
use crate::txn::manager::Shared;
use crate::txn::record::Invalidation;
use crate::txn::transaction::Transaction;

impl Shared {
    pub(crate) fn release_savepoint(
        &self,
        txn: &mut Transaction,
        name: &str,
    ) -> Result<(), TxnError> {
        let at = txn.level_named(name)?;
        txn.row_events.release(at);
        let mut released = Vec::new();
        for level in txn.levels.drain(at..) {
            released.extend(level.xid);
            released.extend(level.children);
        }
        if let Some(parent) = txn.levels.last_mut() {
            parent.children.extend(released);
        }
        Ok(())
    }

    pub(crate) fn rollback_to_savepoint(
        &self,
        txn: &mut Transaction,
        name: &str,
    ) -> Result<Vec<Invalidation>, TxnError> {
        let at = txn.level_named(name)?;
        txn.absorb_locks();
        let mut gone: Vec<Xid> = Vec::new();
        for level in &txn.levels[at..] {
            gone.extend(level.xid);
            gone.extend(&level.children);
        }
        gone.sort_unstable();
        let (locks, commit_drops, abort_drops, invalidations) = {
            let level = &txn.levels[at];
            (
                level.locks,
                level.commit_drops,
                level.abort_drops,
                level.invalidations,
            )
        };
        txn.levels.truncate(at);
        txn.row_events.roll_back(at);
        txn.commit_drops.truncate(commit_drops);
        let files = txn.abort_drops.split_off(abort_drops);
        let undone = txn.invalidations.split_off(invalidations);
        if let Some((first, rest)) = gone.split_first() {
            self.log_abort(txn, *first, rest.to_vec(), &files);
            txn.own.remove_subs(&gone);
            for xid in &gone {
                self.running.remove(*xid);
                self.locks.rows.release(*xid);
            }
        }
        self.drop_files(&files);
        self.made.remove(&files);
        let participant = txn.participant.clone();
        txn.locks.release_from(locks, &self.locks, &participant);
        participant.ended.notify_waiters();
        txn.push_level(name.to_owned());
        Ok(undone)
    }
}
