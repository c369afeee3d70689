//! Handing out transaction ids.
//!
//! Nothing is logged ahead. An xid matters only through records: a row, a lock or an outcome that carries it
//! reaches a file only after a record with it in its header is durable. Recovery sets the next xid above the
//! checkpoint's and above every xid in a record it replays ([`XidSource::saw`]), so an xid that any file knows is
//! never handed out again; one that was handed out and left no durable record may be, and nobody can tell.
//! The checkpoint reads [`XidSource::next`] in the critical section that sets its redo point: a transaction with
//! a higher xid writes all its records behind that point.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::Xid;

pub(crate) struct XidSource {
    next: AtomicU64,
    /// Taken to hand one out: what has to exist for an xid is made under it.
    assign: Mutex<()>,
}

impl XidSource {
    pub(crate) fn new(next: Xid) -> XidSource {
        XidSource {
            next: AtomicU64::new(next.raw()),
            assign: Mutex::new(()),
        }
    }

    pub(crate) fn next(&self) -> Xid {
        Xid::new(self.next.load(Ordering::SeqCst))
    }

    pub(crate) fn set_next(&self, next: Xid) {
        let _assign = self.assign.lock();
        self.next.store(next.raw(), Ordering::SeqCst);
    }

    /// Hands out the next xid after `prepare` made its places; on an error none is used up.
    pub(crate) fn assign<E>(&self, prepare: impl FnOnce(Xid) -> Result<(), E>) -> Result<Xid, E> {
        let _assign = self.assign.lock();
        let xid = self.next();
        prepare(xid)?;
        self.next.store(xid.next().raw(), Ordering::SeqCst);
        Ok(xid)
    }

    /// Replay has met this xid: the next one is above it.
    pub(crate) fn saw(&self, xid: Xid) {
        if xid >= self.next() {
            let _assign = self.assign.lock();
            if xid >= self.next() {
                self.next.store(xid.next().raw(), Ordering::SeqCst);
            }
        }
    }
}

/// The xid whose low half a record header carries: the one nearest to `next`. Transactions that write at one
/// time are less than 2^31 apart, because the commit log, locks and snapshots of so many would not fit.
pub(crate) fn widen(low: u32, next: Xid) -> Xid {
    const HALF: u64 = 1 << 31;
    let same = Xid::from_halves(next.high(), low);
    if same.raw() > next.raw() + HALF && next.high() > 0 {
        Xid::from_halves(next.high() - 1, low)
    } else if same.raw() + HALF < next.raw() {
        Xid::from_halves(next.high() + 1, low)
    } else {
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_halves_widen_to_the_nearest() {
        let next = Xid::new(0x2_0000_0010);
        assert_eq!(widen(0xF, next), Xid::new(0x2_0000_000F));
        assert_eq!(widen(0x50, next), Xid::new(0x2_0000_0050));
        assert_eq!(widen(0xFFFF_FFF0, next), Xid::new(0x1_FFFF_FFF0));
        assert_eq!(widen(5, Xid::new(0x1_FFFF_FFFE)), Xid::new(0x2_0000_0005));
        assert_eq!(widen(700, Xid::new(3)), Xid::new(700));
    }

    #[test]
    fn an_xid_seen_in_the_log_is_never_handed_out() {
        let source = XidSource::new(Xid::new(10));
        source.saw(Xid::new(20));
        source.saw(Xid::new(15));
        let xid = source.assign(|_| Ok::<(), ()>(()));
        assert_eq!(xid, Ok(Xid::new(21)));
        assert_eq!(source.assign(|_| Err(())), Err(()));
        assert_eq!(source.next(), Xid::new(22));
    }
}
