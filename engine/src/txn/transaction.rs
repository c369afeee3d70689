//! One running transaction: what it is, what it has written, what happens to files when it ends.
//!
//! The stack of subtransactions is a list of marks into the transaction's lists (locks, files, invalidations):
//! releasing a savepoint drops its mark, rolling back cuts the lists to it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{CommandId, Lsn, Oid, RelFile, Xid};
use crate::txn::commit_log::LogPage;
use crate::txn::error::TxnError;
use crate::txn::interrupt::Interrupts;
use crate::txn::locks::held::HeldLocks;
use crate::txn::locks::{LockMode, LockTag};
use crate::txn::own::OwnXids;
use crate::txn::participant::Participant;
use crate::txn::record::Invalidation;
use crate::txn::row_events::RowEvents;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Also READ UNCOMMITTED.
    ReadCommitted,
    RepeatableRead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnOptions {
    pub isolation: Isolation,
    pub read_only: bool,
    pub deferrable: bool,
    /// The session's database.
    pub database: Oid,
}

/// How a transaction ended, for writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Running, or committed and not yet released.
    InProgress,
    /// `lsn` is the end of the commit record; `None`: at or below every snapshot's.
    Committed {
        lsn: Option<Lsn>,
    },
    Aborted,
}

/// A savepoint: where the lists stood, and what it has got since.
pub(crate) struct Level {
    pub(crate) name: String,
    pub(crate) xid: Option<Xid>,
    /// Released subtransactions below it.
    pub(crate) children: Vec<Xid>,
    pub(crate) locks: usize,
    pub(crate) commit_drops: usize,
    pub(crate) abort_drops: usize,
    pub(crate) invalidations: usize,
}

/// One running transaction: the top level and its live subtransactions. Dropped without commit, it aborts.
pub struct Transaction {
    pub(crate) participant: Arc<Participant>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) options: TxnOptions,
    pub(crate) own: Arc<OwnXids>,
    pub(crate) started_at: i64,
    command: CommandId,
    pub(crate) command_wrote: bool,
    pub(crate) levels: Vec<Level>,
    /// The commit log's pages of the own xids: resident from assignment to the end.
    pub(crate) pages: SmallVec<[Arc<LogPage>; 1]>,
    pub(crate) locks: HeldLocks,
    pub(crate) commit_drops: Vec<RelFile>,
    pub(crate) abort_drops: Vec<RelFile>,
    pub(crate) invalidations: Vec<Invalidation>,
    pub(crate) row_events: RowEvents,
    /// It logged an access-exclusive lock.
    pub(crate) logged_locks: bool,
    makes_room: bool,
    /// Committed or aborted: nothing is left to do when it is dropped.
    pub(crate) ended: bool,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("pid", &self.participant.pid)
            .field("xid", &self.own.top())
            .field("command", &self.command)
            .field("depth", &self.levels.len())
            .finish_non_exhaustive()
    }
}

impl Transaction {
    pub(crate) fn new(
        participant: Arc<Participant>,
        interrupts: Arc<Interrupts>,
        options: TxnOptions,
        started_at: i64,
    ) -> Transaction {
        Transaction {
            own: participant.take_own(),
            participant,
            interrupts,
            options,
            started_at,
            command: CommandId::FIRST,
            command_wrote: false,
            levels: Vec::new(),
            pages: SmallVec::new(),
            locks: HeldLocks::default(),
            commit_drops: Vec::new(),
            abort_drops: Vec::new(),
            invalidations: Vec::new(),
            row_events: RowEvents::default(),
            logged_locks: false,
            makes_room: false,
            ended: false,
        }
    }

    pub fn options(&self) -> &TxnOptions {
        &self.options
    }
    /// SET TRANSACTION.
    pub fn set_options(&mut self, options: TxnOptions) {
        self.options = options;
    }
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }
    /// What it writes gives room back: it may on a disk that is nearly full.
    pub fn makes_room(&mut self) {
        self.makes_room = true;
    }
    pub(crate) fn needs_room(&self) -> bool {
        !self.makes_room && self.interrupts.needs_room()
    }
    /// The top-level xid, if one was assigned.
    pub fn top_xid(&self) -> Option<Xid> {
        self.own.top()
    }
    /// The innermost subtransaction's xid, if it has one already.
    pub fn current_xid(&self) -> Option<Xid> {
        match self.levels.last() {
            Some(level) => level.xid,
            None => self.own.top(),
        }
    }
    /// Which xids are mine and not rolled back.
    pub fn own(&self) -> &OwnXids {
        &self.own
    }
    pub fn command_id(&self) -> CommandId {
        self.command
    }
    /// Makes what was written so far visible to the snapshots that follow. Counts only if something asked for
    /// the xid since the last one, so a transaction of reads never runs out.
    pub fn next_command(&mut self) -> Result<(), TxnError> {
        if self.command_wrote {
            self.command = self
                .command
                .checked_next()
                .ok_or(TxnError::TooManyCommands)?;
            self.command_wrote = false;
        }
        Ok(())
    }
    /// Microseconds since 2000-01-01 UTC: `now()`.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }
    /// The file goes when the transaction has committed (its relation was dropped or rewritten).
    pub fn on_commit_drop(&mut self, file: RelFile) {
        self.commit_drops.push(file);
    }
    /// The file goes if this (sub)transaction does not commit (it created it).
    /// Called before the file is made, and after the xid was assigned under which it is.
    pub fn on_abort_drop(&mut self, file: RelFile) {
        if let Some(xid) = self.current_xid() {
            self.participant.shared.made.add(file, xid);
        }
        self.abort_drops.push(file);
    }
    /// Whether the innermost open subtransaction made the file.
    pub fn made_here(&self, file: RelFile) -> bool {
        let from = self.levels.last().map_or(0, |level| level.abort_drops);
        self.abort_drops[from..].contains(&file)
    }
    /// Goes into the commit record, to all sessions and to standbys.
    pub fn invalidate(&mut self, what: Invalidation) {
        if !self.invalidations.contains(&what) || !self.levels.is_empty() {
            self.invalidations.push(what);
        }
    }
    /// What was invalidated so far, oldest first: the session's own caches look here.
    pub fn invalidations(&self) -> &[Invalidation] {
        &self.invalidations
    }
    /// Changed rows that constraints have yet to look at.
    pub fn row_events(&self) -> &RowEvents {
        &self.row_events
    }
    pub fn row_events_mut(&mut self) -> &mut RowEvents {
        &mut self.row_events
    }
    /// Names of the open savepoints, outermost first.
    pub fn savepoints(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().map(|l| l.name.as_str())
    }

    /// Takes over the locks that functions have taken since the last time.
    pub(crate) fn absorb_locks(&mut self) {
        let taken = std::mem::take(&mut *self.participant.taken.lock());
        self.take_over(taken);
    }

    /// At the end: those too that no savepoint gives back.
    pub(crate) fn absorb_all_locks(&mut self) {
        self.absorb_locks();
        let held = std::mem::take(&mut *self.participant.held.lock());
        self.take_over(held);
    }

    fn take_over(&mut self, taken: Vec<(LockTag, LockMode)>) {
        for (tag, mode) in taken {
            if self.locks.holds(tag, mode) {
                // It stands in the list once, and is given back once.
                let participant = self.participant.clone();
                participant
                    .shared
                    .locks
                    .release_one(tag, mode, &participant);
            } else {
                self.locks.add(tag, mode);
            }
        }
    }

    pub(crate) fn push_level(&mut self, name: String) {
        self.absorb_locks();
        self.row_events.push_mark();
        self.levels.push(Level {
            name,
            xid: None,
            children: Vec::new(),
            locks: self.locks.len(),
            commit_drops: self.commit_drops.len(),
            abort_drops: self.abort_drops.len(),
            invalidations: self.invalidations.len(),
        });
    }

    /// Index of the innermost savepoint of that name.
    pub(crate) fn level_named(&self, name: &str) -> Result<usize, TxnError> {
        self.levels
            .iter()
            .rposition(|l| l.name == name)
            .ok_or_else(|| TxnError::NoSavepoint(name.to_owned()))
    }

    /// The commit log's page of one of the own xids.
    pub(crate) fn page_of(&self, xid: Xid) -> &Arc<LogPage> {
        self.pages
            .iter()
            .find(|p| p.holds(xid))
            .expect("the page of an own xid is held from its assignment")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            let shared = self.participant.shared.clone();
            shared.abort(self);
        }
    }
}
