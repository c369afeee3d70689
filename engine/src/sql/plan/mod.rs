//! From a bound statement to a plan: which way to get at rows, in what order to join them, what to compute where.
//!
//! A [`Plan`] is immutable and shared: the same one serves every execution of a prepared statement, for any
//! parameters. Planning reads the catalog and its statistics, never data. All slots of one plan level live in
//! one frame (see [`tree`]); nothing is copied between the nodes of a level that keep no rows.

pub mod point;
mod settings;
pub mod tree;

pub use settings::{PlanCx, PlannerSettings};
pub use tree::{Command, Plan};

use crate::catalog::view::CatalogView;
use crate::sql::bound::Bound;
use crate::sql::error::SqlError;

/// Plans a bound statement.
pub fn plan(bound: &Bound, catalog: &dyn CatalogView, cx: &PlanCx<'_>) -> Result<Plan, SqlError> {
    let _ = (bound, catalog, cx);
    unimplemented!("the planner lands next")
}
