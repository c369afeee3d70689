//! From a bound statement to a plan: which way to get at rows, in what order to join them, what to compute where.
//!
//! A [`Plan`] is immutable and shared: the same one serves every execution of a prepared statement, for any
//! parameters. Planning reads the catalog and its statistics, never data. All slots of one plan level live in
//! one frame (see [`tree`]); nothing is copied between the nodes of a level that keep no rows.

mod access;
mod backward;
mod build;
mod cost;
mod exprs;
mod fold;
mod from;
mod joins;
mod lateral;
mod locks;
mod modify;
mod path;
mod planner;
mod point;
mod query;
mod ranges;
mod reads;
mod select;
mod sets;
mod settings;
mod settle;
mod statistics;
mod subquery;
mod top;
pub mod tree;
mod window;
mod with;

pub use exprs::{over_row, walk};
pub use settings::{PlanCx, PlannerSettings};
pub use top::plan;
pub use tree::{Command, Plan};
