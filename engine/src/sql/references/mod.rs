//! Foreign keys: that what a row refers to is there, and what becomes of references when it goes. Manual, 5.4.5;
//! `utils/adt/ri_triggers.c`.
//!
//! **In the catalog** a foreign key is a row of `pg_constraint` (contype `f`) of the table that refers, and rows of
//! `pg_depend`: it goes with its own columns (`a`) and holds the columns that it refers to and their index (`n`). Both
//! tables have `pg_class.relhastriggers`; a table without it is never asked for foreign keys. A description
//! ([`Relation`](crate::catalog::relation::Relation)) lists those of the table and those that refer to it, so whoever
//! makes or drops one announces both tables. There are no rows of `pg_trigger`. PostgreSQL's operators (`conpfeqop` and
//! its neighbours) are stored for clients and computed from the types here ([`equality`]).
//!
//! **Events.** Whoever writes a row version of such a table (`exec/modify`, COPY) puts down what has to be looked at
//! ([`changes`]): constraint and row addresses, in the order of the rows and, for one row, with the constraints that
//! refer to it first, each kind by oid. They lie in the transaction's queue (`txn/row_events.rs`), which savepoints mark
//! and cut. What cannot break a constraint is not put down: a reference with NULLs, a key that stays the same; but an
//! update of a row that the transaction itself inserted always is, because the insert's event finds a dead version and
//! lets it be.
//!
//! **Dealing with them** ([`Enforcer`]) comes behind the statement, or for deferred constraints before the commit, in
//! the queue's order, and goes on with what it queues itself. Each event runs at most a few statements in PostgreSQL's
//! own words ([`statements`]), whose plans the session keeps while the catalog stays as it is, with the rights of the
//! table's owner, as a command of its own that sees what the statement did: a lookup of the key FOR KEY SHARE, a
//! lookup of references, or the change that CASCADE, SET NULL and SET DEFAULT ask for. A key that was found once in a
//! round is not looked up again, as its lock keeps it, unless the round itself changed its table. An index is used
//! wherever there is one. Where the transaction has taken up too much of the table of shared row locks
//! (`txn/locks/rows.rs`), or that is full, a lock on the whole table takes their place, which PostgreSQL never needs.
//! Under REPEATABLE READ keys are looked up with the transaction's snapshot; references with the newest, and a change
//! of one that the transaction does not see ends it with 40001 (`exec/modify`'s crosscheck).
//!
//! Invariants:
//!
//! - A reference that was checked holds its key's row FOR KEY SHARE to the end of the transaction; who removes a key
//!   holds the row more strongly. So of two that meet one waits, and then sees what the other did:
//!   `tests/interleavings/foreign-*`.
//! - No transaction commits with an event in its queue. An error in one ends the statement, or at COMMIT the transaction.
//! - While events of a table wait it is not altered, emptied or dropped by their own transaction (55006).
//!   Their constraint may go with the table on its other side: then they are passed over, as in PostgreSQL 15.18.
//! - Nothing is logged but catalog rows and what the statements write: a crash at any moment ends the transaction, and
//!   its queue with it. A standby replays row versions and knows of no event.

pub mod changes;
pub mod equality;
pub mod statements;

mod enforce;
mod seen;
mod validate;
mod violation;

#[cfg(test)]
mod tests;

pub use enforce::{Enforcer, Kept, Surroundings, Views};
pub use validate::{Looking, validate};

/// Most columns of a foreign key (`INDEX_MAX_KEYS`).
pub const MAX_KEYS: usize = 32;
