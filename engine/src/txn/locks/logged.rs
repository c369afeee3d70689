//! The access-exclusive relation locks that running transactions have logged, for checkpoints to list.
//!
//! A standby learns of such a lock from the record of whoever took it. One that begins to replay behind that record (a base
//! backup, a restart) learns of it from the checkpoint that it begins with, which lists what is held behind its redo
//! point, as PostgreSQL's `LogStandbySnapshot` does; no query runs there before the checkpoint's own record is replayed.
//!
//! Invariant: in the log a list that names a lock stands behind the record of its taking and before that of its
//! transaction's end, and every list between those two names it. For that each of the three is one step under one
//! mutex: record and entry; list; record of the end and the entry's going. Nobody waits for anything but the log under it.
//!
//! Volatile: after a crash nobody holds anything.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::ids::{Oid, Xid};
use crate::txn::manager::Shared;
use crate::txn::own::OwnXids;
use crate::txn::record;
use crate::wal::{Record, RmgrId, Wal};

/// Locks in one record of a list.
const IN_ONE_RECORD: usize = 500;

/// See the module's header. Database and relation by the (sub)transaction that logged them.
#[derive(Default)]
pub(crate) struct LoggedLocks(Mutex<BTreeMap<Xid, Vec<(Oid, Oid)>>>);

impl LoggedLocks {
    /// Logs a lock that has just been taken.
    pub(crate) fn take(&self, wal: &Wal, xid: Xid, database: Oid, relation: Oid) {
        let mut held = self.0.lock();
        log(wal, xid, &[(xid, database, relation)]);
        held.entry(xid).or_default().push((database, relation));
    }

    /// `write` logs the end of the (sub)transactions; no list that comes later names their locks.
    pub(crate) fn end<T>(&self, xid: Xid, subs: &[Xid], write: impl FnOnce() -> T) -> T {
        let mut held = self.0.lock();
        let written = write();
        for ended in subs.iter().chain([&xid]) {
            held.remove(ended);
        }
        written
    }

    /// One of the locks of the transaction that owns `own` goes before its end. A standby keeps it to the end, as
    /// PostgreSQL's do; one that begins later need not know of it.
    pub(crate) fn give_back(&self, own: &OwnXids, database: Oid, relation: Oid) {
        let mut held = self.0.lock();
        for (xid, locks) in held.iter_mut() {
            if own.contains(*xid) {
                locks.retain(|lock| *lock != (database, relation));
            }
        }
        held.retain(|_, locks| !locks.is_empty());
    }

    /// Logs what is held.
    fn list(&self, wal: &Wal) {
        let held = self.0.lock();
        let mut all = Vec::new();
        for (xid, locks) in held.iter() {
            all.extend(
                locks
                    .iter()
                    .map(|(database, relation)| (*xid, *database, *relation)),
            );
        }
        for part in all.chunks(IN_ONE_RECORD) {
            log(wal, Xid::INVALID, part);
        }
    }
}

/// `xid` is the record's own: that of whoever takes a lock; none for a list.
fn log(wal: &Wal, xid: Xid, locks: &[(Xid, Oid, Oid)]) {
    wal.insert(&Record {
        rmgr: RmgrId::STANDBY,
        info: record::STANDBY_LOCK,
        xid,
        main: &record::encode_standby_locks(locks),
        blocks: &[],
    });
}

impl Shared {
    /// Part of a checkpoint, behind its redo point.
    pub(crate) fn list_logged_locks(&self) {
        // A restartpoint writes nothing: the primary's own list stands behind its redo point.
        if !self.in_recovery() {
            self.locks.logged.list(&self.store.wal);
        }
    }

    /// Logs the end of (sub)transactions with `write`; `logged_locks`: one of them has logged a lock.
    pub(crate) fn log_end<T>(
        &self,
        logged_locks: bool,
        xid: Xid,
        subs: &[Xid],
        write: impl FnOnce() -> T,
    ) -> T {
        if logged_locks {
            self.locks.logged.end(xid, subs, write)
        } else {
            write()
        }
    }
}
