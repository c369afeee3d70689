//! Reading what is there. Never writes, never decides.

mod local;

pub use local::{LocalObserver, Watches};
