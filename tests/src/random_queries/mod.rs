//! Whole statements made at random, asked of PostgreSQL 15 and of ours, and what they disagree on made small.
//!
//! A [`World`] is a schema with rows, a [`Maker`] makes statements over it as trees, [`judge`] compares the answers,
//! and [`Shrinker`] leaves out of a statement and its world whatever the difference does not need. All of it is made
//! from seeds: the same seed makes the same worlds and statements.
//!
//! What SQL leaves open is kept out by construction: rows are compared in order only where the order is total, LIMIT
//! stands only behind such an order, aggregates that depend on the order of their input have one of their own, values
//! are bounded so that nothing overflows, whatever is equal is shown alike (numerics are compared without the zeros
//! at their end, no float is a negative zero). Windows whose order matters end it with what tells the rows apart,
//! recursive queries end after a number of rounds or when nothing new is found, and the parts of a statement that write
//! have nothing to do with one another.

mod changes;
mod frames;
mod judge;
mod maker;
mod predicates;
mod printer;
mod references;
mod settings;
mod shrinker;
mod sides;
mod smaller;
mod smaller_nodes;
mod smaller_select;
mod smaller_windows;
mod sources;
mod tree;
mod values;
mod window;
mod windowed;
mod with;
mod world;
mod writing;

#[cfg(test)]
mod tests;

pub use judge::{Kind, Verdict, judge};
pub use maker::Maker;
pub use settings::Settings;
pub use shrinker::{Case, Shrinker};
pub use sides::{Reply, Sides};
pub use tree::{Comparison, Statement};
pub use world::World;
