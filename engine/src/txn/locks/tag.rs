//! What can be locked.

use std::fmt;

use crate::ids::{Oid, Tid, Xid};

/// What a lock is on. `Display` is the form of PostgreSQL's deadlock reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockTag {
    Relation {
        database: Oid,
        relation: Oid,
    },
    /// Orders those who wait for one row.
    Tuple {
        database: Oid,
        relation: Oid,
        tid: Tid,
    },
    /// The end of a transaction.
    Transaction(Xid),
    /// Any other object: (class, object) as in `pg_depend`; a database is (1262, its oid) in database 0.
    Object {
        database: Oid,
        class: Oid,
        object: Oid,
    },
    /// `pg_advisory_lock(int8)` (with `two_keys` false) and `(int4, int4)`.
    Advisory {
        database: Oid,
        key: u64,
        two_keys: bool,
    },
}

impl LockTag {
    /// `locktype` of `pg_locks`, and the wait event of who waits for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            LockTag::Relation { .. } => "relation",
            LockTag::Tuple { .. } => "tuple",
            LockTag::Transaction(_) => "transactionid",
            LockTag::Object { .. } => "object",
            LockTag::Advisory { .. } => "advisory",
        }
    }
}

impl fmt::Display for LockTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockTag::Relation { database, relation } => {
                write!(f, "relation {relation} of database {database}")
            }
            LockTag::Tuple {
                database,
                relation,
                tid,
            } => write!(
                f,
                "tuple {tid} of relation {relation} of database {database}"
            ),
            LockTag::Transaction(xid) => write!(f, "transaction {}", xid.low()),
            LockTag::Object {
                database,
                class,
                object,
            } => write!(f, "object {object} of class {class} of database {database}"),
            LockTag::Advisory {
                database,
                key,
                two_keys,
            } => {
                let kind = if *two_keys { 2 } else { 1 };
                let (high, low) = (key >> 32, key & 0xFFFF_FFFF);
                write!(f, "advisory lock [{database},{high},{low},{kind}]")
            }
        }
    }
}
