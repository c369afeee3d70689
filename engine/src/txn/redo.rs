//! Replay of transaction records, on a standby and after a crash, and the passage from recovery to service.
//!
//! Owns the positions that a standby's queries depend on: what is replayed and what the primary has told. Queries
//! see min(replayed, told) where the primary has synchronous standbys, else what is replayed; and none before
//! that has reached the position at which the volatile commit LSNs begin, because older commits could not be told
//! apart. The catalog is read as it is replayed, since the files that it names are there by then. A relation whose
//! files or columns a commit changes is therefore locked until queries see that commit: between the two they would
//! find the new file and none of its rows.
//!
//! Replay may run twice over the same records (a crash during recovery): every effect here is idempotent.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::{Lsn, Oid, RelFile, Xid};
use crate::txn::commit_log::XIDS_PER_PAGE;
use crate::txn::locks::LockTag;
use crate::txn::made_files::MADE_FILES;
use crate::txn::manager::{Shared, TxnManager};
use crate::txn::participant::Participant;
use crate::txn::record::{self, Ending, Invalidation};
use crate::txn::xid::widen;
use crate::wal::{Decoded, RmgrId};

/// COMMITLOG: a page of zeroes was made; main data: its number, u64.
pub const ZERO_PAGE: u8 = 0x00;

#[derive(Debug, thiserror::Error)]
pub enum RedoError {
    #[error("record of {rmgr} at {lsn} with info {info:#04x} cannot be understood")]
    Malformed { rmgr: RmgrId, info: u8, lsn: Lsn },
    #[error("could not write the commit log: {0}")]
    CommitLog(#[from] io::Error),
}

/// What recovery has to do about a record, in its place in the order of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    None,
    /// A commit or abort: these files go, when everything before the record is applied
    /// ([`TxnManager::drop_replayed_files`]).
    DropFiles(Vec<RelFile>),
    /// An access-exclusive lock that replay takes before it goes on ([`TxnManager::replay_locks`]).
    Lock(Vec<(Xid, LockTag)>),
}

/// What the checkpoint that replay begins with says.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryStart {
    pub next_xid: Xid,
    /// Low half of the oldest xid that was running, 0 for none (as the checkpoint has it).
    pub oldest_active_xid: u32,
    pub redo: Lsn,
}

/// Positions and locks of replay.
#[derive(Default)]
pub(crate) struct Replay {
    replayed: AtomicU64,
    /// As `replayed`, once the invalidations up to there are handed out: before that queries see no more and get at no
    /// relation, because what they remember of it is old.
    handed_out: AtomicU64,
    /// What the primary told; `ANY` where it has no synchronous standbys.
    told: AtomicU64,
    last_commit_time_us: AtomicI64,
    /// A checkpoint was replayed: what is locked is known, because a list of it stands before its record.
    knows_locks: AtomicBool,
    /// Locks that replayed transactions hold.
    pub(crate) locks: Mutex<HashMap<Xid, Vec<HeldLock>>>,
    /// Those of commits that are replayed and that queries do not see yet: end of record, what.
    pub(crate) kept_locks: Mutex<Vec<(Lsn, Vec<HeldLock>)>>,
    /// Of commits that are replayed, to be handed out when catalog reads see them: end of record, what.
    invalidations: Mutex<Vec<(Lsn, Vec<Invalidation>)>>,
}

/// An access-exclusive lock of replay, and who holds it.
pub(crate) type HeldLock = (Arc<Participant>, LockTag);

const ANY: u64 = u64::MAX;

impl Replay {
    pub(crate) fn replayed(&self) -> Lsn {
        Lsn::new(self.replayed.load(Ordering::SeqCst))
    }
    /// What is known to be released, by another way than being told; leaves "any" as it is.
    pub(crate) fn tell_at_least(&self, lsn: Lsn) {
        self.told.fetch_max(lsn.raw(), Ordering::SeqCst);
    }
    /// As it is passed on: `None` where everything replayed may be shown.
    fn told(&self) -> Option<Lsn> {
        match self.told.load(Ordering::SeqCst) {
            ANY => None,
            told => Some(Lsn::new(told)),
        }
    }
    /// The very lock is held for a transaction that has not ended.
    pub(crate) fn holds(&self, xid: Xid, tag: LockTag) -> bool {
        let held = self.locks.lock();
        held.get(&xid)
            .is_some_and(|locks| locks.iter().any(|(_, held)| *held == tag))
    }
    /// Replay, where it holds locks.
    pub(crate) fn holder(&self) -> Option<Arc<Participant>> {
        let owner = |(owner, _): &HeldLock| owner.clone();
        let holding = self.locks.lock().values().flatten().next().map(owner);
        holding.or_else(|| {
            let kept = self.kept_locks.lock();
            kept.iter().flat_map(|(_, locks)| locks).next().map(owner)
        })
    }
    /// `who` holds the lock for nothing but commits that queries do not see yet: it goes when the primary's word comes,
    /// whatever replay waits for.
    pub(crate) fn only_keeps(&self, who: &Arc<Participant>, tag: LockTag) -> bool {
        let is_it = |(owner, held): &HeldLock| *held == tag && Arc::ptr_eq(owner, who);
        let kept = {
            let kept = self.kept_locks.lock();
            kept.iter().any(|(_, locks)| locks.iter().any(is_it))
        };
        kept && !self.locks.lock().values().flatten().any(is_it)
    }
    fn visible(&self) -> Lsn {
        let told = self.told.load(Ordering::SeqCst);
        Lsn::new(self.handed_out.load(Ordering::SeqCst).min(told))
    }
}

impl TxnManager {
    /// Replay begins. `told`: what this standby durably knows to be shown (DESIGN: section 3); `None` where it
    /// was never told of synchronous standbys, or where this is crash recovery.
    pub fn begin_recovery(&self, start: RecoveryStart, told: Option<Lsn>) {
        let shared = self.shared();
        let oldest = oldest_of(start.oldest_active_xid, start.next_xid);
        let oldest = oldest.unwrap_or(start.next_xid);
        shared.recovery.store(true, Ordering::SeqCst);
        shared.replay.knows_locks.store(false, Ordering::SeqCst);
        shared.commit_log.forget_all();
        shared.xids.set_next(start.next_xid);
        shared.lsns.start(oldest, start.next_xid);
        shared.lsns.ensure(start.next_xid);
        shared
            .replay
            .told
            .store(told.map_or(ANY, Lsn::raw), Ordering::SeqCst);
        shared.release.begin_to_pass_on(told);
        shared.release.gate_until_visible(start.redo);
    }

    /// For every record: no xid in the log is handed out again.
    pub fn saw_xid(&self, low: u32) {
        if low != 0 {
            let shared = self.shared();
            shared.xids.saw(widen(low, shared.xids.next()));
        }
    }

    /// Replays a record of TRANSACTION, COMMITLOG or STANDBY.
    pub fn redo(&self, record: &Decoded<'_>) -> Result<Effect, RedoError> {
        let malformed = || RedoError::Malformed {
            rmgr: record.rmgr,
            info: record.info,
            lsn: record.start,
        };
        let shared = self.shared();
        match (record.rmgr, record::operation(record.info)) {
            (RmgrId::TRANSACTION, op @ (record::COMMIT | record::ABORT)) => {
                let (xid, ending) = Ending::decode(record.info, record.xid_low, record.main)
                    .ok_or_else(malformed)?;
                for xid in ending.subs.iter().chain([&xid]) {
                    shared.xids.saw(*xid);
                    shared.lsns.ensure(*xid);
                }
                if op == record::COMMIT {
                    shared.redo_commit(xid, &ending, record.end)?;
                    shared.keep_replay_locks(xid, &ending.subs, record.end);
                    let known = shared.replay.knows_locks.load(Ordering::SeqCst);
                    if ending.access_exclusive_locks && !known {
                        // It may have locked something before the redo point, and ended before the list: instead of
                        // keeping that locked, keep queries out until they see it.
                        shared.release.gate_also_until_visible(record.end);
                    }
                } else {
                    shared.redo_abort(xid, &ending)?;
                    shared.release_replay_locks(xid, &ending.subs);
                }
                Ok(match ending.dropped.is_empty() {
                    true => Effect::None,
                    false => Effect::DropFiles(ending.dropped),
                })
            }
            (RmgrId::TRANSACTION, record::ASSIGNMENT) => Ok(Effect::None),
            (RmgrId::COMMITLOG, ZERO_PAGE) => {
                let bytes = record.main.try_into().map_err(|_| malformed())?;
                let number = u64::from_le_bytes(bytes);
                shared.commit_log.make_page(number)?;
                Ok(Effect::None)
            }
            (RmgrId::COMMITLOG, MADE_FILES) if shared.redo_made_files(record.main) => {
                Ok(Effect::None)
            }
            (RmgrId::STANDBY, record::STANDBY_LOCK) => {
                let locks = record::decode_standby_locks(record.main).ok_or_else(malformed)?;
                let tag = |(xid, database, relation): (Xid, Oid, Oid)| {
                    (xid, LockTag::Relation { database, relation })
                };
                Ok(Effect::Lock(locks.into_iter().map(tag).collect()))
            }
            // PostgreSQL's running-xacts and invalidation records: nothing here depends on them.
            (RmgrId::STANDBY, _) => Ok(Effect::None),
            _ => Err(malformed()),
        }
    }

    /// The files that a replayed commit or abort dropped. A file that is not there is no error.
    pub fn drop_replayed_files(&self, files: &[RelFile]) {
        self.shared().drop_files(files);
    }

    /// Everything up to `lsn` is applied.
    pub fn replayed(&self, lsn: Lsn) {
        let replay = &self.shared().replay;
        replay.replayed.fetch_max(lsn.raw(), Ordering::SeqCst);
        // Only now: whoever reads the catalog after this sees the change that made its cache stale.
        let due: Vec<_> = {
            let mut waiting = replay.invalidations.lock();
            let end = waiting.partition_point(|(end, _)| *end <= lsn);
            waiting.drain(..end).collect()
        };
        for (_, what) in due {
            self.shared().invalidate_caches(&what);
        }
        replay.handed_out.fetch_max(lsn.raw(), Ordering::SeqCst);
        self.shared().show_replayed();
    }

    pub fn replay_lsn(&self) -> Lsn {
        self.shared().replay.replayed()
    }

    /// The primary says up to where queries may see. `None`: it has no synchronous standbys, everything replayed
    /// may be seen. The caller keeps it durably before it calls.
    pub fn told(&self, lsn: Option<Lsn>) {
        let replay = &self.shared().replay;
        match lsn {
            // Told positions never go back (but with the timeline, `told_at_most`); the first one replaces "any".
            Some(lsn) => {
                let first = replay.told.compare_exchange(
                    ANY,
                    lsn.raw(),
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
                if first.is_err() {
                    replay.told.fetch_max(lsn.raw(), Ordering::SeqCst);
                }
            }
            None => replay.told.store(ANY, Ordering::SeqCst),
        }
        self.shared().release.pass_on(replay.told());
        self.shared().show_replayed();
    }

    /// Another timeline is followed, whose log is the same up to `lsn`, which is not below what is replayed: what was told
    /// counts no further. "Any" stays, which is no position.
    pub fn told_at_most(&self, lsn: Lsn) {
        let replay = &self.shared().replay;
        let lower = |told: u64| (told != ANY).then_some(told.min(lsn.raw()));
        let _ = replay
            .told
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower);
        self.shared().release.pass_on(replay.told());
        self.shared().show_replayed();
    }

    /// Time of the newest commit or abort replayed, microseconds since 2000-01-01 UTC
    /// (`pg_last_xact_replay_timestamp`).
    pub fn last_replayed_time_us(&self) -> Option<i64> {
        let time = self
            .shared()
            .replay
            .last_commit_time_us
            .load(Ordering::Relaxed);
        (time != 0).then_some(time)
    }

    /// The primary has started anew (a shutdown checkpoint or an end of recovery in its log): transactions
    /// below `next_xid` without an outcome never get one, and their locks and files go. The locks of commits stay until
    /// queries see those.
    pub fn primary_restarted(&self, next_xid: Xid) {
        let shared = self.shared();
        shared.replay.knows_locks.store(true, Ordering::SeqCst);
        shared.lsns.bury_below(next_xid);
        shared.release_unfinished_replay_locks();
        shared.drop_files_of_the_dead(next_xid);
    }

    /// A checkpoint of a running primary says which of its transactions was the oldest without an end behind the redo
    /// point: locks of older ones go, should replay have missed their ends. `oldest_active_xid` is a low half, as the checkpoint
    /// has it; 0 says nothing.
    pub fn running_since(&self, oldest_active_xid: u32, next_xid: Xid) {
        let replay = &self.shared().replay;
        replay.knows_locks.store(true, Ordering::SeqCst);
        if let Some(oldest) = oldest_of(oldest_active_xid, next_xid) {
            self.shared().release_replay_locks_below(oldest);
        }
    }

    /// Recovery or standby ends; the log is being written from `end` on. Transactions without an outcome are
    /// aborted and the files that they made removed. Snapshots wait until the required standbys have `end`; the release policy has been set.
    pub fn finish_recovery(&self, end: Lsn) {
        let shared = self.shared();
        let next = shared.xids.next();
        shared.lsns.bury_below(next);
        shared.lsns.ensure(next);
        let newest_page = (next.raw() - 1) / XIDS_PER_PAGE;
        shared.newest_log_page.store(newest_page, Ordering::SeqCst);
        shared.drop_files_of_the_dead(next);
        shared
            .release
            .become_primary(end, shared.store.wal.flush_lsn());
        // Behind that: whoever has waited for one of them on a standby waits for its standbys now.
        shared.release_all_replay_locks();
        shared.recovery.store(false, Ordering::SeqCst);
    }

    /// Are all outcomes of xids below `next` in files that are there? The file that is not whole, if one is not.
    pub fn check_commit_log(&self, next: Xid) -> Result<(), (PathBuf, io::Error)> {
        self.shared().commit_log.check_files(next)
    }

    /// Before replay begins: outcomes that the log from here on does not speak of are none.
    pub fn trim_commit_log(&self, next: Xid) -> Result<(), (PathBuf, io::Error)> {
        self.shared().commit_log.trim(next)
    }

    /// `initdb`: the commit log's first page, on disk.
    pub fn create_commit_log(&self) -> io::Result<()> {
        self.shared().commit_log.make_page(0)?;
        self.shared().commit_log.flush()
    }
}

/// The oldest running xid of a checkpoint that has its low half.
fn oldest_of(low: u32, next: Xid) -> Option<Xid> {
    (low != 0).then(|| widen(low, next).min(next))
}

impl Shared {
    /// Queries see what is replayed and told, and get at the relations that it changed.
    fn show_replayed(&self) {
        let visible = self.replay.visible();
        self.release.show(visible);
        self.release_kept_locks(visible);
    }

    fn redo_commit(&self, xid: Xid, ending: &Ending, end: Lsn) -> io::Result<()> {
        for xid in ending.subs.iter().chain([&xid]) {
            self.commit_log.page_of(*xid)?.accepts(*xid, true)?;
        }
        for sub in &ending.subs {
            self.lsns.set_sub(*sub, xid);
        }
        self.lsns.set_committed(xid, end);
        for xid in ending.subs.iter().chain([&xid]) {
            self.commit_log.page_of(*xid)?.set_committed(*xid, end);
        }
        self.note_time(ending);
        if !ending.invalidations.is_empty() {
            let what = ending.invalidations.clone();
            self.replay.invalidations.lock().push((end, what));
        }
        Ok(())
    }

    fn redo_abort(&self, xid: Xid, ending: &Ending) -> io::Result<()> {
        for xid in ending.subs.iter().chain([&xid]) {
            let page = self.commit_log.page_of(*xid)?;
            page.accepts(*xid, false)?;
            self.lsns.set_aborted(*xid);
            page.set_aborted(*xid);
        }
        self.note_time(ending);
        Ok(())
    }

    fn note_time(&self, ending: &Ending) {
        self.replay
            .last_commit_time_us
            .store(ending.time_us, Ordering::Relaxed);
    }
}
