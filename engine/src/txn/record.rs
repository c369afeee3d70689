//! Commit and abort records: PostgreSQL 15's layout, then a tail of ours that its tools ignore.
//!
//! ```text
//! time i64                                  microseconds since 2000-01-01
//! xinfo u32                                 if the record's info has 0x80; says which parts follow
//! database u32, tablespace u32              xinfo 0x01
//! count i32, low halves u32 * count         xinfo 0x02: subtransactions
//! count i32, (tablespace, database, number) * count   xinfo 0x04: files that go
//! ---- ours
//! high half u32                             of the record header's xid
//! high halves u32 * subtransactions
//! count u32, (kind u8, database u32, object u32) * count   invalidations; left out with the count if none
//! ```
//!
//! Source: `access/xact.h`. A record without a tail (PostgreSQL's own) has high half 0.

use crate::ids::{Oid, RelFile, Xid};
use crate::txn::made_files::MADE_FILES;
use crate::txn::redo::ZERO_PAGE;
use crate::wal::RmgrId;

/// Cached state that a committed transaction made stale: kept in the commit record, handed to every session
/// when the commit is released and to a standby's sessions when it is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// One relation's description (its own row, columns, indexes, constraints).
    Relation { database: Oid, relation: Oid },
    /// Rows of a system table changed: `database` is invalid for a shared one.
    Catalog { database: Oid, catalog: Oid },
    /// Everything of a database; `Oid::INVALID` is every database.
    All { database: Oid },
}

pub const COMMIT: u8 = 0x00;
pub const ABORT: u8 = 0x20;
pub const ASSIGNMENT: u8 = 0x50;
/// The kinds of TRANSACTION, STANDBY and COMMITLOG that this program writes.
pub const WRITTEN: &[(RmgrId, u8, &str)] = &[
    (RmgrId::TRANSACTION, COMMIT, "COMMIT"),
    (RmgrId::TRANSACTION, ABORT, "ABORT"),
    (RmgrId::STANDBY, STANDBY_LOCK, "LOCK"),
    (RmgrId::COMMITLOG, ZERO_PAGE, "ZERO_PAGE"),
    (RmgrId::COMMITLOG, MADE_FILES, "MADE_FILES"),
];
const OP_MASK: u8 = 0x70;
const HAS_INFO: u8 = 0x80;

const XINFO_DBINFO: u32 = 0x01;
const XINFO_SUBXACTS: u32 = 0x02;
const XINFO_RELFILES: u32 = 0x04;
const XINFO_INVALS: u32 = 0x08;
const XINFO_AE_LOCKS: u32 = 0x40;
/// Parts that we never write.
const XINFO_UNKNOWN: u32 = 0x10 | 0x20 | 0x80 | 0x100;

/// What a commit or abort record says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ending {
    /// Microseconds since 2000-01-01 UTC.
    pub time_us: i64,
    /// The session's database; written where something depends on it.
    pub database: Oid,
    pub subs: Vec<Xid>,
    pub dropped: Vec<RelFile>,
    pub invalidations: Vec<Invalidation>,
    /// The transaction logged access-exclusive locks, which replay holds until here.
    pub access_exclusive_locks: bool,
}

impl Ending {
    /// Appends the record's main data; returns the record's info bits.
    pub(crate) fn encode(&self, xid: Xid, op: u8, out: &mut Vec<u8>) -> u8 {
        out.extend_from_slice(&self.time_us.to_le_bytes());
        let mut xinfo = 0;
        if !self.subs.is_empty() {
            xinfo |= XINFO_SUBXACTS;
        }
        if !self.dropped.is_empty() {
            xinfo |= XINFO_RELFILES;
        }
        if self.access_exclusive_locks {
            xinfo |= XINFO_AE_LOCKS;
        }
        if !self.invalidations.is_empty() || self.access_exclusive_locks {
            xinfo |= XINFO_DBINFO;
        }
        if xinfo != 0 {
            self.encode_parts(xinfo, out);
        }
        put(out, xid.high());
        self.subs.iter().for_each(|sub| put(out, sub.high()));
        if !self.invalidations.is_empty() {
            put(out, self.invalidations.len() as u32);
            for invalidation in &self.invalidations {
                let (kind, database, object) = match *invalidation {
                    Invalidation::Relation { database, relation } => (0, database, relation),
                    Invalidation::Catalog { database, catalog } => (1, database, catalog),
                    Invalidation::All { database } => (2, database, Oid::INVALID),
                };
                out.push(kind);
                put(out, database.raw());
                put(out, object.raw());
            }
        }
        op | if xinfo == 0 { 0 } else { HAS_INFO }
    }

    fn encode_parts(&self, xinfo: u32, out: &mut Vec<u8>) {
        put(out, xinfo);
        if xinfo & XINFO_DBINFO != 0 {
            put(out, self.database.raw());
            put(out, crate::ids::DEFAULT_TABLESPACE.raw());
        }
        if xinfo & XINFO_SUBXACTS != 0 {
            put(out, self.subs.len() as u32);
            self.subs.iter().for_each(|sub| put(out, sub.low()));
        }
        if xinfo & XINFO_RELFILES != 0 {
            put(out, self.dropped.len() as u32);
            for file in &self.dropped {
                put(out, file.tablespace.raw());
                put(out, file.database.raw());
                put(out, file.number.raw());
            }
        }
    }

    /// The full xid and the contents; `None` for bytes that are not such a record.
    pub fn decode(info: u8, xid_low: u32, main: &[u8]) -> Option<(Xid, Ending)> {
        let mut rest = main;
        let mut ending = Ending {
            time_us: i64::from_le_bytes(take(&mut rest)?),
            ..Ending::default()
        };
        let xinfo = if info & HAS_INFO != 0 {
            get(&mut rest)?
        } else {
            0
        };
        if xinfo & (XINFO_UNKNOWN | XINFO_INVALS) != 0 {
            return None;
        }
        ending.access_exclusive_locks = xinfo & XINFO_AE_LOCKS != 0;
        if xinfo & XINFO_DBINFO != 0 {
            ending.database = Oid::new(get(&mut rest)?);
            get(&mut rest)?;
        }
        let mut lows = Vec::new();
        if xinfo & XINFO_SUBXACTS != 0 {
            let count = counted(&mut rest, 4)?;
            for _ in 0..count {
                lows.push(get(&mut rest)?);
            }
        }
        if xinfo & XINFO_RELFILES != 0 {
            let count = counted(&mut rest, 12)?;
            for _ in 0..count {
                ending.dropped.push(RelFile {
                    tablespace: Oid::new(get(&mut rest)?),
                    database: Oid::new(get(&mut rest)?),
                    number: Oid::new(get(&mut rest)?),
                });
            }
        }
        if rest.is_empty() {
            ending.subs = lows.into_iter().map(|l| Xid::from_halves(0, l)).collect();
            return Some((Xid::from_halves(0, xid_low), ending));
        }
        let xid = Xid::from_halves(get(&mut rest)?, xid_low);
        for low in lows {
            ending.subs.push(Xid::from_halves(get(&mut rest)?, low));
        }
        ending.decode_invalidations(rest)?;
        Some((xid, ending))
    }

    fn decode_invalidations(&mut self, mut rest: &[u8]) -> Option<()> {
        if rest.is_empty() {
            return Some(());
        }
        let count = counted(&mut rest, 9)?;
        for _ in 0..count {
            let [kind] = take(&mut rest)?;
            let database = Oid::new(get(&mut rest)?);
            let object = Oid::new(get(&mut rest)?);
            self.invalidations.push(match kind {
                0 => Invalidation::Relation {
                    database,
                    relation: object,
                },
                1 => Invalidation::Catalog {
                    database,
                    catalog: object,
                },
                2 => Invalidation::All { database },
                _ => return None,
            });
        }
        rest.is_empty().then_some(())
    }
}

/// Whether a record's info says commit, abort or something else.
pub fn operation(info: u8) -> u8 {
    info & OP_MASK
}

/// `xl_standby_locks`: access-exclusive locks that a transaction took, or that are held at a checkpoint; then (ours) the
/// xids' high halves.
pub const STANDBY_LOCK: u8 = 0x00;

/// Of (xid, database, relation) of each lock.
pub(crate) fn encode_standby_locks(locks: &[(Xid, Oid, Oid)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 16 * locks.len());
    put(&mut out, locks.len() as u32);
    for (xid, database, relation) in locks {
        put(&mut out, xid.low());
        put(&mut out, database.raw());
        put(&mut out, relation.raw());
    }
    locks.iter().for_each(|(xid, ..)| put(&mut out, xid.high()));
    out
}

/// (xid, database, relation) of each lock.
pub fn decode_standby_locks(main: &[u8]) -> Option<Vec<(Xid, Oid, Oid)>> {
    let mut rest = main;
    let count = counted(&mut rest, 12)?;
    let mut locks = Vec::new();
    for _ in 0..count {
        let (low, database, relation) = (get(&mut rest)?, get(&mut rest)?, get(&mut rest)?);
        locks.push((low, Oid::new(database), Oid::new(relation)));
    }
    let widen = |(low, database, relation)| {
        let high = get(&mut rest).unwrap_or(0);
        (Xid::from_halves(high, low), database, relation)
    };
    Some(locks.into_iter().map(widen).collect())
}

fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn get(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

/// A count of parts of `size` bytes that can still be there.
fn counted(rest: &mut &[u8], size: usize) -> Option<usize> {
    let count = usize::try_from(get(rest)?).ok()?;
    (count.checked_mul(size)? <= rest.len()).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oid() -> impl Strategy<Value = Oid> {
        any::<u32>().prop_map(Oid::new)
    }

    fn invalidation() -> impl Strategy<Value = Invalidation> {
        (0..3, oid(), oid()).prop_map(|(kind, database, object)| match kind {
            0 => Invalidation::Relation {
                database,
                relation: object,
            },
            1 => Invalidation::Catalog {
                database,
                catalog: object,
            },
            _ => Invalidation::All { database },
        })
    }

    fn file() -> impl Strategy<Value = RelFile> {
        (oid(), oid()).prop_map(|(d, n)| RelFile::of_database(d, n))
    }

    proptest! {
        #[test]
        fn endings_round_trip(
            time_us in any::<i64>(),
            database in oid(),
            xid in any::<u64>().prop_map(Xid::new),
            subs in prop::collection::vec(any::<u64>().prop_map(Xid::new), 0..5),
            dropped in prop::collection::vec(file(), 0..5),
            invalidations in prop::collection::vec(invalidation(), 0..5),
            access_exclusive_locks in any::<bool>(),
        ) {
            let written = !invalidations.is_empty() || access_exclusive_locks;
            let ending = Ending {
                time_us,
                database: if written { database } else { Oid::INVALID },
                subs,
                dropped,
                invalidations,
                access_exclusive_locks,
            };
            let mut main = Vec::new();
            let info = ending.encode(xid, COMMIT, &mut main);
            prop_assert_eq!(Ending::decode(info, xid.low(), &main), Some((xid, ending)));
        }

        #[test]
        fn lists_of_locks_round_trip(
            locks in prop::collection::vec((any::<u64>().prop_map(Xid::new), oid(), oid()), 0..9),
        ) {
            let main = encode_standby_locks(&locks);
            prop_assert_eq!(decode_standby_locks(&main), Some(locks));
        }

        #[test]
        fn damaged_endings_do_not_panic(info in any::<u8>(), main in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Ending::decode(info, 7, &main);
            let _ = decode_standby_locks(&main);
        }
    }
}
