//! Doing what was decided. Never decides.

mod local;

pub use local::{LocalActor, LocalContext};
