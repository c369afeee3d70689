//! Whole statements made at random, asked of PostgreSQL 15 and of ours, and what they disagree on made small.
//!
//! A [`World`] is a schema with rows, a [`Maker`] makes statements over it as trees, [`judge`] compares the answers,
//! and [`Shrinker`] leaves out of a statement and its world whatever the difference does not need. All of it is made
//! from seeds: the same seed makes the same worlds and statements.
//!
//! What SQL leaves open is kept out by construction: rows are compared in order only where the order is total, LIMIT
//! stands only behind such an order, aggregates that depend on the order of their input have one of their own, values
//! are bounded so that nothing overflows, whatever is equal is shown alike (numerics are compared without the zeros
//! at their end, no float is a negative zero).

mod changes;
mod judge;
mod maker;
mod predicates;
mod settings;
mod shrinker;
mod sides;
mod smaller;
mod sources;
mod tree;
mod values;
mod world;

#[cfg(test)]
mod tests;

pub use judge::{Kind, Verdict, judge};
pub use maker::Maker;
pub use settings::Settings;
pub use shrinker::{Case, Shrinker};
pub use sides::{Reply, Sides};
pub use tree::{Comparison, Statement};
pub use world::World;
