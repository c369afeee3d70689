//! Shared row locks: FOR KEY SHARE and FOR SHARE.
//!
//! An exclusive locker stands in the row's `xmax`. Shared lockers stand here, and so does an exclusive lock whose
//! place in `xmax` was taken by a later subtransaction of its own transaction. Nothing has to be recovered. Whoever reads or changes entries
//! of a row holds its page latched, which makes "look at `xmax` and at the lockers, then lock" atomic. The table
//! is bounded: a full one refuses new lockers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::ids::{RelFile, Tid, Xid};
use crate::txn::locks::{LockError, RowLockMode};
use crate::txn::own::OwnXids;

const SHARDS: usize = 64;

type Row = (RelFile, Tid);
type Lockers = SmallVec<[(Xid, RowLockMode); 2]>;

pub(crate) struct RowLockers {
    rows: Box<[Mutex<HashMap<Row, Lockers>>]>,
    /// The rows of each locker, for its end.
    by_xid: Box<[Mutex<HashMap<Xid, Vec<Row>>>]>,
    count: AtomicUsize,
    max: usize,
}

impl RowLockers {
    pub(crate) fn new(max: usize) -> RowLockers {
        RowLockers {
            rows: (0..SHARDS).map(|_| Mutex::default()).collect(),
            by_xid: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            max,
        }
    }

    fn row_shard(&self, (file, tid): &Row) -> &Mutex<HashMap<Row, Lockers>> {
        let mixed = file
            .number
            .raw()
            .wrapping_add(tid.block.raw())
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(u32::from(tid.offset.raw()));
        &self.rows[mixed as usize % SHARDS]
    }

    fn xid_shard(&self, xid: Xid) -> &Mutex<HashMap<Xid, Vec<Row>>> {
        &self.by_xid[xid.raw() as usize % SHARDS]
    }

    pub(crate) fn add(
        &self,
        file: RelFile,
        tid: Tid,
        mode: RowLockMode,
        xid: Xid,
    ) -> Result<(), LockError> {
        let row = (file, tid);
        if self.put(row, mode, xid)? {
            self.xid_shard(xid).lock().entry(xid).or_default().push(row);
        }
        Ok(())
    }

    /// Among the row's lockers; true if it was not there yet and has to be noted for the locker's end.
    fn put(&self, row: Row, mode: RowLockMode, xid: Xid) -> Result<bool, LockError> {
        let mut shard = self.row_shard(&row).lock();
        if let Some(lockers) = shard.get_mut(&row)
            && let Some(mine) = lockers.iter_mut().find(|(x, _)| *x == xid)
        {
            mine.1 = mine.1.max(mode);
            return Ok(false);
        }
        if self.count.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(LockError::TableFull);
        }
        shard.entry(row).or_default().push((xid, mode));
        Ok(true)
    }

    pub(crate) fn against(
        &self,
        file: RelFile,
        tid: Tid,
        mode: RowLockMode,
        own: &OwnXids,
    ) -> Option<Xid> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let row = (file, tid);
        let shard = self.row_shard(&row).lock();
        let other =
            |(xid, held): &&(Xid, RowLockMode)| mode.conflicts_with(*held) && !own.contains(*xid);
        shard.get(&row)?.iter().find(other).map(|(xid, _)| *xid)
    }

    pub(crate) fn inherit(&self, file: RelFile, from: Tid, to: Tid) -> Result<(), LockError> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let row = (file, from);
        let lockers = self.row_shard(&row).lock().get(&row).cloned();
        for (xid, mode) in lockers.unwrap_or_default() {
            // Without an entry of its own it ends at this moment: its rows are taken already, and nobody would come for
            // this one.
            let mut by_xid = self.xid_shard(xid).lock();
            if let Some(rows) = by_xid.get_mut(&xid)
                && self.put((file, to), mode, xid)?
            {
                rows.push((file, to));
            }
        }
        Ok(())
    }

    /// Whether the table is half full and the locker has half of that: the rest is for others.
    pub(crate) fn is_crowded_by(&self, xid: Xid) -> bool {
        if self.count.load(Ordering::Acquire) <= self.max / 2 {
            return false;
        }
        let by_xid = self.xid_shard(xid).lock();
        by_xid
            .get(&xid)
            .is_some_and(|rows| rows.len() > self.max / 4)
    }

    /// The locker's (sub)transaction has ended.
    pub(crate) fn release(&self, xid: Xid) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let rows = self.xid_shard(xid).lock().remove(&xid);
        for row in rows.unwrap_or_default() {
            let mut shard = self.row_shard(&row).lock();
            if let Some(lockers) = shard.get_mut(&row) {
                let before = lockers.len();
                lockers.retain(|(x, _)| *x != xid);
                let gone = before - lockers.len();
                self.count.fetch_sub(gone, Ordering::AcqRel);
                if lockers.is_empty() {
                    shard.remove(&row);
                }
            }
        }
    }
}
