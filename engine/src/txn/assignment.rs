//! Giving a transaction its xids: what has to exist for an xid is made before it is handed out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ids::Xid;
use crate::txn::commit_log::XIDS_PER_PAGE;
use crate::txn::error::TxnError;
use crate::txn::manager::Shared;
use crate::txn::redo;
use crate::txn::transaction::Transaction;
use crate::wal::{Record, RmgrId};

impl Shared {
    /// Gives an xid to the innermost level, and to those above it first: a child's is higher than its parent's.
    pub(crate) fn assign_xids(&self, txn: &mut Transaction) -> Result<Xid, TxnError> {
        if self.recovery.load(Ordering::Acquire) {
            return Err(TxnError::InRecovery);
        }
        let begins = txn.own.top().is_none();
        if begins && self.disk_full.load(Ordering::Relaxed) && txn.needs_room() {
            return Err(TxnError::DiskFull);
        }
        let wal = &self.store.wal;
        wal.ensure_space().map_err(|e| TxnError::Log(Arc::new(e)))?;
        let top = match txn.own.top() {
            Some(xid) => xid,
            None => {
                let xid = self.assign_one(txn, None)?;
                txn.own.set_top(xid);
                txn.participant.set_running_xid(xid);
                xid
            }
        };
        let mut innermost = top;
        for i in 0..txn.levels.len() {
            innermost = match txn.levels[i].xid {
                Some(xid) => xid,
                None => {
                    let xid = self.assign_one(txn, Some(top))?;
                    txn.own.add_sub(xid);
                    txn.levels[i].xid = Some(xid);
                    xid
                }
            };
        }
        Ok(innermost)
    }

    fn assign_one(&self, txn: &mut Transaction, top: Option<Xid>) -> Result<Xid, TxnError> {
        let mut grew = false;
        let xid = self.xids.assign::<TxnError>(|xid| {
            self.make_log_page(xid)
                .map_err(|e| commit_log_error(xid, e))?;
            if !txn.pages.iter().any(|p| p.holds(xid)) {
                let page = self.commit_log.page_of(xid);
                txn.pages.push(page.map_err(|e| commit_log_error(xid, e))?);
            }
            grew = self.lsns.ensure(xid);
            if let Some(top) = top {
                self.lsns.set_sub(xid, top);
            }
            self.running.insert(xid, &txn.participant);
            Ok(())
        })?;
        if grew {
            // Every 4096 xids: old chunks go as new ones come.
            self.compute_horizon();
        }
        Ok(xid)
    }

    /// The first xid on a page of the commit log finds the page made, in a record of its own and on disk.
    fn make_log_page(&self, xid: Xid) -> io::Result<()> {
        let number = xid.raw() / XIDS_PER_PAGE;
        if number <= self.newest_log_page.load(Ordering::Acquire) {
            return Ok(());
        }
        self.commit_log.make_page(number)?;
        self.store.wal.insert(&Record {
            rmgr: RmgrId::COMMITLOG,
            info: redo::ZERO_PAGE,
            xid: Xid::INVALID,
            main: &number.to_le_bytes(),
            blocks: &[],
        });
        self.newest_log_page.store(number, Ordering::Release);
        Ok(())
    }
}

fn commit_log_error(xid: Xid, source: io::Error) -> TxnError {
    TxnError::CommitLog {
        xid,
        source: Arc::new(source),
    }
}
