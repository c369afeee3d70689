//! Which xids are a transaction's own: read by its snapshots while the transaction gains and loses some.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::ids::Xid;

/// Shared by a transaction and the snapshots it took, so that a snapshot taken before the first write still
/// knows the transaction's own rows.
#[derive(Debug, Default)]
pub struct OwnXids {
    top: AtomicU64,
    has_subs: AtomicBool,
    /// Live and released subtransactions, ascending; those rolled back are removed (they read as aborted).
    subs: RwLock<Vec<Xid>>,
}

impl OwnXids {
    /// Whether `xid` is this transaction's and has not been rolled back.
    pub fn contains(&self, xid: Xid) -> bool {
        if self.top.load(Ordering::Acquire) == xid.raw() {
            return xid.is_valid();
        }
        self.has_subs.load(Ordering::Acquire) && self.subs.read().binary_search(&xid).is_ok()
    }

    /// The top-level xid, if one was assigned.
    pub fn top(&self) -> Option<Xid> {
        let xid = Xid::new(self.top.load(Ordering::Acquire));
        xid.is_valid().then_some(xid)
    }

    pub(crate) fn set_top(&self, xid: Xid) {
        self.top.store(xid.raw(), Ordering::Release);
    }

    /// Xids are assigned in ascending order, so pushing keeps the list sorted.
    pub(crate) fn add_sub(&self, xid: Xid) {
        let mut subs = self.subs.write();
        debug_assert!(subs.last().is_none_or(|last| *last < xid));
        subs.push(xid);
        self.has_subs.store(true, Ordering::Release);
    }

    pub(crate) fn remove_subs(&self, gone: &[Xid]) {
        self.subs.write().retain(|x| !gone.contains(x));
    }

    /// The committed children of the top level, ascending.
    pub(crate) fn subs(&self) -> Vec<Xid> {
        if self.has_subs.load(Ordering::Acquire) {
            self.subs.read().clone()
        } else {
            Vec::new()
        }
    }

    pub(crate) fn reset(&mut self) {
        *self.top.get_mut() = 0;
        *self.has_subs.get_mut() = false;
        self.subs.get_mut().clear();
    }
}
