//! The records of the rooms below: transactions, relation files, heap, databases.
//!
//! Says which room's redo belongs to which resource manager, and what stands between: a query on a standby that
//! still needs what a record removes is given time, then cancelled; a file is dropped only when `pg_control` says
//! that a restart must replay past the drop. Knows the rooms' redo functions, never their payloads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::database;
use crate::ids::{Lsn, Oid};
use crate::table;
use crate::txn::Interrupts;
use crate::txn::locks::replay::Patience;
use crate::txn::{Effect, TxnManager};
use crate::wal::RmgrId;

use super::error::RedoError;
use super::redo::{Handler, RecordHook, RedoCx, RedoTable};
use super::state::RecoveryState;

/// How replay deals with queries in its way.
#[derive(Clone)]
pub struct ReplayConflicts {
    pub state: Arc<RecoveryState>,
    /// The replaying thread, as the lock manager knows it.
    pub startup: Arc<Interrupts>,
    /// `max_standby_streaming_delay` (for `true`) or `max_standby_archive_delay`; `None` waits for ever.
    pub delay: Arc<dyn Fn(bool) -> Option<Duration> + Send + Sync>,
    /// Is this a session in that database?
    pub is_in: Arc<dyn Fn(&Interrupts, Oid) -> bool + Send + Sync>,
}

impl ReplayConflicts {
    fn deadline(&self) -> Option<Instant> {
        let (since, streaming) = self.state.receipt();
        (self.delay)(streaming).map(|delay| since + delay)
    }
    fn wait(
        &self,
        wait: impl FnOnce(Option<Instant>, &dyn Fn() -> bool) -> Patience,
    ) -> Result<(), RedoError> {
        match wait(self.deadline(), &|| self.state.stop_requested()) {
            Patience::Resolved => Ok(()),
            Patience::Stopped => Err(RedoError::Stopped),
        }
    }
}

fn owner(error: impl std::fmt::Display) -> RedoError {
    RedoError::Owner(error.to_string())
}

/// The handlers of all rooms below this one. Others add theirs with [`RedoTable::with`].
pub fn redo_table(txns: &Arc<TxnManager>, conflicts: &ReplayConflicts) -> RedoTable {
    let heap = Handler::pages(table::page_fn()).before(heap_conflict(txns, conflicts));
    let endings = || Handler::default().after(transaction(txns, conflicts));
    let for_end = txns.clone();
    RedoTable::new()
        .at_end(Box::new(move |_| for_end.drop_files_of_the_dead()))
        .with(RmgrId::TRANSACTION, endings())
        .with(RmgrId::COMMITLOG, endings())
        .with(RmgrId::STANDBY, endings())
        .with(RmgrId::STORAGE, Handler::default().after(storage(txns)))
        .with(
            RmgrId::DATABASE,
            Handler::default().after(database_record(txns, conflicts)),
        )
        .with(RmgrId::HEAP, heap)
}

/// Waits for snapshots that need what the record, which begins at `start`, removes.
pub(super) fn cleanup(
    txns: &TxnManager,
    conflicts: &ReplayConflicts,
    cx: &RedoCx<'_>,
    start: Lsn,
    newest_removed: Lsn,
) -> Result<(), RedoError> {
    if !cx.standby {
        return Ok(());
    }
    conflicts.wait(|deadline, stop| txns.replay_cleanup(newest_removed, start, deadline, stop))
}

fn heap_conflict(txns: &Arc<TxnManager>, conflicts: &ReplayConflicts) -> RecordHook {
    let (txns, conflicts) = (txns.clone(), conflicts.clone());
    Box::new(
        move |cx, record| match table::conflict_lsn(record.info, record.main) {
            Some(newest) => cleanup(&txns, &conflicts, cx, record.start, newest),
            None => Ok(()),
        },
    )
}

fn transaction(txns: &Arc<TxnManager>, conflicts: &ReplayConflicts) -> RecordHook {
    let (txns, conflicts) = (txns.clone(), conflicts.clone());
    Box::new(move |cx, record| match txns.redo(record).map_err(owner)? {
        Effect::None => Ok(()),
        Effect::DropFiles(files) => {
            cx.store.wal.flush_blocking(record.end);
            txns.drop_replayed_files(&files);
            for file in files {
                cx.missing.forget_file(file);
            }
            Ok(())
        }
        Effect::Lock(locks) if cx.standby => {
            // Who is in the way may wait himself for a relation that a commit before this has locked.
            txns.replayed(record.start);
            conflicts.wait(|deadline, stop| {
                txns.replay_locks(&conflicts.startup, &locks, deadline, stop)
            })
        }
        Effect::Lock(_) => Ok(()),
    })
}

fn storage(txns: &Arc<TxnManager>) -> RecordHook {
    let txns = txns.clone();
    Box::new(move |cx, record| {
        let cut = table::files::cut_by(record.info, record.main);
        if cut.is_some() {
            cx.store.wal.flush_blocking(record.end);
        }
        table::files::redo(cx.store, record.info, record.main).map_err(owner)?;
        if let Some((file, fork, blocks)) = cut {
            cx.missing.forget_beyond(file, fork, blocks);
        }
        if let Some(file) = table::files::created_by(record.info, record.main) {
            txns.replay_made_file(record.xid_low, file);
        }
        Ok(())
    })
}

fn database_record(txns: &Arc<TxnManager>, conflicts: &ReplayConflicts) -> RecordHook {
    let (txns, conflicts) = (txns.clone(), conflicts.clone());
    Box::new(move |cx, record| {
        let dropped = database::dropped_by(record.info, record.main);
        if let Some(database) = dropped {
            cx.store.wal.flush_blocking(record.end);
            if cx.standby {
                let is_in = |session: &Interrupts| (conflicts.is_in)(session, database);
                conflicts.wait(|_, stop| txns.replay_drop_database(&is_in, stop))?;
            }
        }
        if let Some(database) = database::redo(cx.store, record.info, record.main).map_err(owner)? {
            cx.missing.forget_database(database);
        }
        Ok(())
    })
}
