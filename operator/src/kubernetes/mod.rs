//! The operator's process on Kubernetes: who leads, what is watched, and one reconciling task for each cluster.

mod apply;
mod cluster;
mod controller;
mod events;
mod leader;
mod metrics;
mod server;
mod stores;
mod upkeep;

pub use apply::{Applied, apply, brief, remove};
pub use cluster::{Cluster, RECORD_VERSION, RETIRED};
pub use controller::{ControllerOptions, run};
pub use events::EventWriter;
pub use server::Health;
pub use stores::{ClusterKey, Kept, Stores, is_cordoned};
pub use upkeep::upkeep;
