//! Running plans: expressions, nodes, changes of rows, and the loop above them that waits.
//!
//! Nodes are synchronous: they read and change pages through `table` and `index`, which never wait, and hand
//! control back with a [`cx::Request`] where somebody else's transaction has to end first. Only
//! [`Execution::run`] awaits. So no latch and no borrow of a page crosses an await. Nothing here knows SQL text or
//! a protocol. A crash leaves temporary files, which the next start removes.

pub mod access;
mod aggregate;
pub mod analyze;
mod cte;
pub mod cx;
mod distinct;
pub mod eval;
mod execution;
mod hash_join;
pub(in crate::sql) mod hashed;
pub mod instrument;
pub mod kept_rows;
mod limit;
mod lock_rows;
mod materialize;
pub mod memory;
pub mod modify;
mod nest_loop;
mod newest;
mod node;
mod project_set;
mod recursive;
mod row_store;
mod runs;
mod scan;
mod set_op;
mod simple;
mod sort;
mod spill;
mod subplan;
mod window;

#[cfg(test)]
pub(in crate::sql) mod tests;

pub use access::{NoVirtualTables, VirtualTables};
pub use cx::Step;
pub use execution::{ExecCx, Execution, Progress, RowSink, RunCx, SinkState, start};
pub use memory::MemoryLimits;
pub use spill::{TempSpace, remove_temporary_files};
