//! Reading what is there. Never writes, never decides.

mod kubernetes;
mod listening;
mod local;
mod streams;
mod troubles;
mod watches;

pub use kubernetes::{Gone, KubernetesObserver};
pub use listening::Listener;
pub use local::LocalObserver;
pub use watches::Watches;
