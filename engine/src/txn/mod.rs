//! Transactions: ids, outcomes, snapshots, release of commits, locks, interrupts.
