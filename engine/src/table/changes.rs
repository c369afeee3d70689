//! How much each table has changed since it was last vacuumed and analyzed: counts in memory.
//!
//! Statements add what they did when they end, whatever becomes of their transaction: the background vacuum only
//! wants to know where it is worth looking. A restart forgets the counts, as PostgreSQL forgets them at a crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::ids::Oid;

#[derive(Debug, Default)]
struct Counts {
    /// Rows inserted, updated and deleted since the last ANALYZE.
    changed: AtomicU64,
    /// Rows updated and deleted since the last VACUUM.
    dead: AtomicU64,
}

/// Of one table, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    pub changed: u64,
    pub dead: u64,
}

/// By database (0 for shared tables) and table.
#[derive(Debug, Default)]
pub struct TableChanges {
    tables: RwLock<HashMap<(Oid, Oid), Arc<Counts>>>,
}

impl TableChanges {
    fn counts(&self, database: Oid, table: Oid) -> Arc<Counts> {
        if let Some(known) = self.tables.read().get(&(database, table)) {
            return Arc::clone(known);
        }
        let mut tables = self.tables.write();
        Arc::clone(tables.entry((database, table)).or_default())
    }

    /// A statement changed `rows` rows; `leaves_dead`: it left old versions behind.
    pub fn add(&self, database: Oid, table: Oid, rows: u64, leaves_dead: bool) {
        if rows == 0 {
            return;
        }
        let counts = self.counts(database, table);
        counts.changed.fetch_add(rows, Ordering::Relaxed);
        if leaves_dead {
            counts.dead.fetch_add(rows, Ordering::Relaxed);
        }
    }

    pub fn of(&self, database: Oid, table: Oid) -> Changed {
        let tables = self.tables.read();
        tables
            .get(&(database, table))
            .map_or(Changed::default(), |c| Changed {
                changed: c.changed.load(Ordering::Relaxed),
                dead: c.dead.load(Ordering::Relaxed),
            })
    }

    /// A vacuum that began when the counts were `seen` has ended.
    pub fn vacuumed(&self, database: Oid, table: Oid, seen: Changed) {
        subtract(&self.counts(database, table).dead, seen.dead);
    }

    /// The same for an analysis.
    pub fn analyzed(&self, database: Oid, table: Oid, seen: Changed) {
        subtract(&self.counts(database, table).changed, seen.changed);
    }

    /// The database is gone.
    pub fn forget_database(&self, database: Oid) {
        self.tables.write().retain(|(of, _), _| *of != database);
    }
}

/// Two that end at the same time have seen the same changes; they are taken off once.
fn subtract(count: &AtomicU64, seen: u64) {
    let less = |now: u64| Some(now.saturating_sub(seen));
    // The closure always gives a value.
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_during_a_vacuum_is_left_for_the_next() {
        let (database, table) = (Oid::new(5), Oid::new(16384));
        let changes = TableChanges::default();
        changes.add(database, table, 10, true);
        changes.add(database, table, 5, false);
        let seen = changes.of(database, table);
        assert_eq!((seen.changed, seen.dead), (15, 10));
        changes.add(database, table, 3, true);
        changes.vacuumed(database, table, seen);
        changes.vacuumed(database, table, seen);
        assert_eq!(changes.of(database, table).dead, 0);
        changes.analyzed(database, table, seen);
        assert_eq!(changes.of(database, table).changed, 3);
        changes.forget_database(database);
        assert_eq!(changes.of(database, table), Changed::default());
    }
}
