//! Object ids and file numbers: one counter for the whole cluster, logged ahead.
//!
//! Ids below the logged bound may be handed out without a record; a new bound is logged before the first id above
//! the old one is used, so that neither a crash nor a failover hands an id out twice. The record is not flushed
//! by itself: whatever uses the id is logged behind it. Ids never wrap: at 2^32 - 1 making objects is refused.

use parking_lot::Mutex;

use crate::ids::{Oid, Xid};
use crate::wal::xlog_records::NEXT_OID;
use crate::wal::{Record, RmgrId, Wal};

/// Ids covered by one record; PostgreSQL's `VAR_OID_PREFETCH`.
const PREFETCH: u32 = 8192;

#[derive(Debug)]
struct Counter {
    next: u32,
    /// The first id that is not covered by a record.
    bound: u32,
}

#[derive(Debug)]
pub struct OidAllocator {
    counter: Mutex<Counter>,
}

/// 54000: all 2^32 ids have been used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("object ids of this cluster are used up")]
pub struct OidsExhausted;

impl OidAllocator {
    /// `next` is what the checkpoint says, raised by the records behind it.
    pub fn new(next: Oid) -> OidAllocator {
        let next = next.raw().max(Oid::FIRST_NORMAL.raw());
        OidAllocator {
            counter: Mutex::new(Counter { next, bound: next }),
        }
    }

    pub fn allocate(&self, wal: &Wal) -> Result<Oid, OidsExhausted> {
        let mut counter = self.counter.lock();
        if counter.next == u32::MAX {
            return Err(OidsExhausted);
        }
        if counter.next >= counter.bound {
            let bound = counter.next.saturating_add(PREFETCH);
            wal.insert(&Record {
                rmgr: RmgrId::XLOG,
                info: NEXT_OID,
                xid: Xid::INVALID,
                main: &bound.to_le_bytes(),
                blocks: &[],
            });
            counter.bound = bound;
        }
        counter.next += 1;
        Ok(Oid::new(counter.next - 1))
    }

    /// For a checkpoint: nobody has been given this id or a higher one without a record behind the redo point.
    pub fn logged_bound(&self) -> Oid {
        Oid::new(self.counter.lock().bound)
    }

    /// Replay met a checkpoint or a record that says that ids below `next` may have been used.
    pub fn saw(&self, next: Oid) {
        let mut counter = self.counter.lock();
        if next.raw() > counter.next {
            *counter = Counter {
                next: next.raw(),
                bound: next.raw(),
            };
        }
    }

    /// Recovery begins with what the checkpoint says.
    pub fn start_from(&self, next: Oid) {
        let next = next.raw().max(Oid::FIRST_NORMAL.raw());
        *self.counter.lock() = Counter { next, bound: next };
    }
}
