//! How transactions end: commit, its wait for release, abort.
//!
//! Commit, in order: the record is inserted, and in the same critical section the xid's entry is set, the commit
//! log's bits are set and the commit joins the release queue; it waits; when it is released, sessions' caches are
//! invalidated, waiters for the xid wake, locks go, files of dropped relations go. A crash before the record is
//! flushed leaves an aborted transaction; a crash after it a committed one, whose files replay removes.
//!
//! Abort: the record is inserted (nobody waits for its flush: no outcome reads as aborted after a crash), entry
//! and bits are set, files that the transaction made go, waiters wake, locks go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ids::{Lsn, RelFile, Xid};
use crate::txn::error::CommitError;
use crate::txn::interrupt::{Interrupt, Interrupts};
use crate::txn::manager::Shared;
use crate::txn::record::{self, Ending, Invalidation};
use crate::txn::release::CommitLevel;
use crate::txn::transaction::Transaction;
use crate::wal::xlog_records::now_us;
use crate::wal::{Record, RmgrId};

impl Shared {
    pub(crate) async fn commit(
        &self,
        mut txn: Transaction,
        level: CommitLevel,
    ) -> Result<Option<Lsn>, CommitError> {
        let Some(xid) = txn.own.top() else {
            self.end_without_xid(&mut txn);
            return Ok(None);
        };
        // As PostgreSQL: files go at commit, so the commit must not be lost after they went.
        let level = if txn.commit_drops.is_empty() {
            level
        } else {
            level.max(CommitLevel::Local)
        };
        let may_be_doubted = self.release.may_be_doubted(level);
        let noted = self.release.standstills.noted();
        let participant = txn.participant.clone();
        let lsn = self.log_commit(&mut txn, xid, level);
        let interrupts = txn.interrupts.clone();
        let mut pending = Pending {
            commit: Some((txn, lsn)),
            taken_over: false,
        };
        if level == CommitLevel::Off {
            self.release.announce();
        } else {
            self.store.wal.request_flush(lsn);
        }
        match pending.wait(level, &interrupts).await {
            Ok(()) => {
                pending.finish();
                // A set that asks for others may have come while this one waited.
                if may_be_doubted || self.release.may_be_doubted(level) {
                    participant.owe(noted);
                }
                Ok(Some(lsn))
            }
            Err(cause) => Err(CommitError::OutcomeUnknown { cause }),
        }
    }

    /// The point of no return. From here the transaction is committed for itself and, once released, for all.
    fn log_commit(&self, txn: &mut Transaction, xid: Xid, level: CommitLevel) -> Lsn {
        let ending = Ending {
            time_us: now_us(),
            database: txn.options.database,
            subs: txn.own.subs(),
            dropped: std::mem::take(&mut txn.commit_drops),
            invalidations: std::mem::take(&mut txn.invalidations),
            access_exclusive_locks: txn.logged_locks,
        };
        let mut main = Vec::with_capacity(64);
        let info = ending.encode(xid, record::COMMIT, &mut main);
        txn.ended = true;
        let commit = Record {
            rmgr: RmgrId::TRANSACTION,
            info,
            xid,
            main: &main,
            blocks: &[],
        };
        let inserted = self.log_end(txn.logged_locks, xid, &ending.subs, || {
            self.store.wal.insert_with(&commit, |inserted| {
                // The entry before the bits: who finds bits without an entry trusts the bits.
                self.lsns.set_committed(xid, inserted.end);
                txn.page_of(xid).set_committed(xid, inserted.end);
                for sub in &ending.subs {
                    txn.page_of(*sub).set_committed(*sub, inserted.end);
                }
                self.release.enqueue(inserted.end, level, &txn.participant);
            })
        });
        txn.commit_drops = ending.dropped;
        txn.invalidations = ending.invalidations;
        // Its files stay, however long its release takes: no checkpoint behind the record has to list them.
        self.made.remove(&txn.abort_drops);
        inserted.end
    }

    /// After release.
    fn finish_commit(&self, txn: &mut Transaction) {
        if !txn.invalidations.is_empty() {
            self.invalidate_caches(&txn.invalidations);
        }
        self.leave(txn);
        self.drop_files(&std::mem::take(&mut txn.commit_drops));
    }

    /// Read-only, or rolled back before it wrote: no record, no wait.
    pub(crate) fn end_without_xid(&self, txn: &mut Transaction) {
        assert!(txn.own.top().is_none(), "it may have written");
        txn.ended = true;
        let files = std::mem::take(&mut txn.abort_drops);
        debug_assert!(files.is_empty(), "files are made under an xid");
        self.leave(txn);
        self.drop_files(&files);
    }

    pub(crate) fn abort(&self, txn: &mut Transaction) {
        if txn.ended {
            return;
        }
        let Some(xid) = txn.own.top() else {
            self.end_without_xid(txn);
            return;
        };
        txn.ended = true;
        let files = std::mem::take(&mut txn.abort_drops);
        self.log_abort(txn, xid, txn.own.subs(), &files);
        self.drop_files(&files);
        self.made.remove(&files);
        self.leave(txn);
    }

    /// Logs and records that `xid` and its subtransactions are aborted.
    pub(crate) fn log_abort(&self, txn: &Transaction, xid: Xid, subs: Vec<Xid>, files: &[RelFile]) {
        let ending = Ending {
            time_us: now_us(),
            database: txn.options.database,
            subs,
            dropped: files.to_vec(),
            invalidations: Vec::new(),
            access_exclusive_locks: txn.logged_locks,
        };
        let mut main = Vec::with_capacity(64);
        let info = ending.encode(xid, record::ABORT, &mut main);
        self.log_end(txn.logged_locks, xid, &ending.subs, || {
            self.store.wal.insert(&Record {
                rmgr: RmgrId::TRANSACTION,
                info,
                xid,
                main: &main,
                blocks: &[],
            })
        });
        for gone in ending.subs.iter().chain([&xid]) {
            self.lsns.set_aborted(*gone);
            txn.page_of(*gone).set_aborted(*gone);
        }
    }

    /// Takes the transaction out of everything in which others find it.
    fn leave(&self, txn: &mut Transaction) {
        let participant = txn.participant.clone();
        let top = txn.own.top();
        if let Some(top) = top {
            let subs = txn.own.subs();
            for xid in subs.iter().chain([&top]) {
                self.running.remove(*xid);
                self.locks.rows.release(*xid);
            }
        }
        self.made.remove(&txn.abort_drops);
        participant.set_running(None);
        txn.absorb_all_locks();
        txn.locks.release_from(0, &self.locks, &participant);
        // Who waits for a transaction's end waits for an xid of it.
        if top.is_some() {
            participant.ended.notify_waiters();
        }
        participant.give_own(txn.own.clone());
    }

    pub(crate) fn invalidate_caches(&self, what: &[Invalidation]) {
        for hook in &*self.hooks.read() {
            hook(what);
        }
    }

    /// Files that stay because of an error are waste, not damage: their numbers are never used again.
    pub(crate) fn drop_files(&self, files: &[RelFile]) {
        for file in files {
            self.store.pool.forget(*file);
            if let Err(error) = self.store.files.unlink(*file) {
                tracing::warn!(rel = %file, %error, "could not remove file of dropped relation");
            }
        }
    }
}

/// A commit that is in the log and not yet finished. If its wait is given up, a task of its own takes it over.
struct Pending {
    commit: Option<(Transaction, Lsn)>,
    /// It is that task's.
    taken_over: bool,
}

impl Pending {
    /// Until the commit is released. A local flush is waited for in any case: it takes milliseconds, and an
    /// unknown outcome for a cancel that came at the end of a statement would help nobody.
    async fn wait(&self, level: CommitLevel, interrupts: &Interrupts) -> Result<(), Interrupt> {
        let Some((txn, lsn)) = &self.commit else {
            return Ok(());
        };
        let shared = &txn.participant.shared;
        let participant = &txn.participant;
        loop {
            if participant.is_released(*lsn) {
                return Ok(());
            }
            let done = participant.commit_done.notified();
            if !shared.release.waits_for_others(level) {
                done.await;
                continue;
            }
            tokio::select! {
                biased;
                () = done => {}
                cause = async {
                    shared.store.wal.flushed(*lsn).await;
                    interrupts.wait().await
                } => {
                    if participant.is_released(*lsn) {
                        // Too late: the commit stands. The interrupt meets the next statement.
                        interrupts.raise(cause);
                        return Ok(());
                    }
                    return Err(cause);
                }
            }
        }
    }

    fn finish(&mut self) {
        if let Some((mut txn, _)) = self.commit.take() {
            let shared = txn.participant.shared.clone();
            shared.finish_commit(&mut txn);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some((txn, lsn)) = self.commit.take() else {
            return;
        };
        let participant: Arc<_> = txn.participant.clone();
        let mut pending = Pending {
            commit: Some((txn, lsn)),
            taken_over: true,
        };
        if participant.is_released(lsn) {
            pending.finish();
            return;
        }
        // Its own task is dropped only with the runtime, which drops at once what is spawned then: without end.
        let runtime = tokio::runtime::Handle::try_current().ok();
        if let Some(runtime) = runtime.filter(|_| !self.taken_over) {
            runtime.spawn(async move {
                while !participant.is_released(lsn) {
                    participant.commit_done.notified().await;
                }
                pending.finish();
            });
        } else {
            // Only where the process ends: the runtime is gone, and with it everyone who could see the locks.
            std::mem::forget(pending);
        }
    }
}

impl Shared {
    pub(crate) fn in_recovery(&self) -> bool {
        self.recovery.load(Ordering::Acquire)
    }
}
