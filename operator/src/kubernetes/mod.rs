//! The operator's process on Kubernetes: who leads, what is watched, and one task for each cluster.

mod apply;
mod cluster;
mod controller;
mod events;
mod given;
mod guarded;
mod kept;
mod leader;
mod metrics;
mod server;
mod settled;
mod speakers;
mod stores;
mod tasks;
mod unreadable;
mod upkeep;

pub use apply::{
    Applied, Version, apply, as_applied, brief, is_as_wanted, is_conflict, remove, remove_one,
};
pub use cluster::{Cluster, Held, RECORD_VERSION, RETIRED, Sight};
pub use controller::{ControllerOptions, run};
pub use events::EventWriter;
pub use guarded::{Guarded, Unreadable};
pub use kept::Kept;
pub use server::Health;
pub use settled::Inputs;
pub use stores::{ClusterKey, Stores, is_cordoned};
pub use upkeep::upkeep;
