//! Doing what was decided. Never decides.

mod kubernetes;
mod local;
mod objects;
mod problems;
mod reports;
mod steps;
mod telling;

pub use kubernetes::KubernetesActor;
pub use local::{LocalActor, LocalContext};
pub use telling::Tell;
