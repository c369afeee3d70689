//! Doing what was decided. Never decides.

mod local;
mod reports;
mod steps;
mod telling;

pub use local::{LocalActor, LocalContext};
pub use telling::Tell;
