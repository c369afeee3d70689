//! What a commit or abort record says.

use crate::ids::Oid;

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
