//! VACUUM and ANALYZE: which tables, in which transactions, and what is written down of what was found.
//!
//! Reading order: `work` (who does it), `vacuum` (one table), `analyze` (one table's statistics), `statement` (the
//! commands), `auto` (the background). Each table has a transaction of its own, so that its locks are short. A crash in the middle leaves a
//! table that is vacuumed in part, which is as good as before.

mod analyze;
mod auto;
mod statement;
mod vacuum;
mod work;

pub use analyze::{Analyzed, analyze_table};
pub use auto::Autovacuum;
pub use statement::{Request, run, run_in};
pub use vacuum::{How, Vacuumed, vacuum_table};
pub use work::{Work, blocking, key_of};
