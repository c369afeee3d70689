//! The API: the `ReplicatedCluster` resource, its record, its reports, and the YAML that installs it.

mod bounds;
mod definition;
mod fields;
mod kubernetes;
pub mod owned;
pub mod patterns;
mod record;
mod reports;
mod resource;
mod rules;
mod scheduling;
mod spec;
mod yaml;

pub use bounds::cut;
pub use definition::definition;
pub use fields::fields_markdown;
pub use kubernetes::{LEAST_KUBERNETES, TooOld, check_kubernetes};
pub use record::{
    ChangeKind, Durability, InSyncSet, LsnGap, Member, Phase, Record, RoleChange, SetVersion,
    TimelineFork,
};
pub use reports::{
    Condition, ConditionStatus, HandledRequest, InstanceReport, InstanceRole, LagClass,
    LastRoleChange, ReplicatedClusterStatus,
};
pub use resource::{DEFAULT_REPLICAS, ReplicatedCluster, ReplicatedClusterSpec};
pub use rules::{Rule, rules};
pub use spec::{
    BootstrapSpec, FailoverSpec, ImagePullPolicy, PodMetadata, Resources, ServiceTemplate,
    ServiceType, StorageSpec,
};
pub use yaml::{MOST_BYTES, crd_yaml, to_yaml};

/// The reason of the conditions while roles, databases or `spec.bootstrap.sql` can't be made. The SQL may be corrected then.
pub const BOOTSTRAP_FAILED: &str = "BootstrapFailed";
/// Asks for a switchover: an instance's name, or `any`.
pub const SWITCHOVER_TO: &str = "understudy.dev/switchover-to";
/// Accepts the loss that a blocked failover would mean: `NAME@TERM`.
pub const FORCE_PROMOTE: &str = "understudy.dev/force-promote";
/// Gives up an instance's copy, its pod and its claim, and seeds it anew: the instance's name.
pub const REPLACE_INSTANCE: &str = "understudy.dev/replace-instance";
