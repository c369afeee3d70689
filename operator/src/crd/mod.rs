//! The API: the `ReplicatedCluster` resource, its record, its reports, and the YAML that installs it.

mod record;
mod reports;
mod resource;
mod yaml;

pub use record::{
    ChangeKind, Durability, InSyncSet, Member, Phase, Record, RoleChange, SetVersion, TimelineFork,
};
pub use reports::{
    Condition, ConditionStatus, InstanceReport, InstanceRole, LastRoleChange,
    ReplicatedClusterStatus,
};
pub use resource::{ReplicatedCluster, ReplicatedClusterSpec, StorageSpec};
pub use yaml::crd_yaml;

/// Asks for a switchover: an instance's name, or `any`.
pub const SWITCHOVER_TO: &str = "understudy.dev/switchover-to";
/// Accepts the loss that a blocked failover would mean: `NAME@TERM`.
pub const FORCE_PROMOTE: &str = "understudy.dev/force-promote";
