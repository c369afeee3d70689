//! Plans made and run: without storage, where relations are VALUES and results are compared with simple models;
//! and from SQL text down to pages of a temporary store, with transactions that wait for each other.

mod concurrency;
mod database;
pub(in crate::sql) mod harness;
mod joins;
mod lateral;
mod row_values;
mod shapes;
mod statements;
mod subqueries;
mod windows;
mod with;
