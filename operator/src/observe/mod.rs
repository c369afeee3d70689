//! Reading what is there. Never writes, never decides.

mod local;
mod streams;
mod watches;

pub use local::LocalObserver;
pub use watches::Watches;
