//! `ReplicatedCluster`: what a user writes. What its parts are made of is in `spec.rs`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, Toleration, TopologySpreadConstraint,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BootstrapSpec, Durability, FailoverSpec, ImagePullPolicy, PodMetadata, ReplicatedClusterStatus,
    Resources, ServiceTemplate, StorageSpec,
};

/// A primary and its streaming standbys.
#[expect(
    clippy::duplicated_attributes,
    reason = "each printed column has a type, and two have the same"
)]
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "understudy.dev",
    version = "v1alpha1",
    kind = "ReplicatedCluster",
    plural = "replicatedclusters",
    shortname = "rcl",
    category = "all",
    namespaced,
    status = "ReplicatedClusterStatus",
    derive = "PartialEq",
    doc = "A PostgreSQL-compatible database: one primary and streaming standbys, one of which takes over when the primary dies.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Instances that are ready, and how many are wanted.",
        json_path = ".status.instancesReady"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        description = "Where a change of the primary's role stands.",
        json_path = ".status.phase"
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        description = "The pod that accepts writes.",
        json_path = ".status.currentPrimary"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedClusterSpec {
    /// The number of standbys beside the primary. `kubectl scale` changes it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 15))]
    pub replicas: u32,

    /// What a commit waits for: `quorum` (half of the in-sync standbys, rounded up), `strict` (all of them) or
    /// `async` (none).
    #[serde(default)]
    pub durability: Durability,

    /// The image of the instances, which holds engine and supervisor. Left out, it is the one that belongs to the
    /// operator; a newer operator's image is taken up at the next change of the pods' fields, not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,

    /// When the image is pulled. Left out, Kubernetes decides by the image's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets in the cluster's namespace that hold the credentials of the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    pub storage: StorageSpec,

    /// What each instance asks for and may use. A change restarts the instances, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Settings of the database, by the names that `postgresql.conf` gives them. Those that need no restart are
    /// reloaded.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 200))]
    pub parameters: BTreeMap<String, String>,

    /// Records of `pg_hba.conf`, one each, in order. They stand behind the operator's own records and before its last
    /// one, which lets every role in with a password over TLS. `local` is refused: only the pod itself reaches its socket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub pg_hba: Vec<String>,

    /// What a new database begins with. It is read once, when the cluster is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapSpec>,

    /// Where instances may run, as in a pod. Unless its rules about pods, or `topologySpreadConstraints`, say otherwise,
    /// instances are spread over nodes and zones as far as there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How instances are spread, as in a pod. A constraint without `labelSelector` counts this cluster's instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Taints that the instances tolerate, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Labels that a node must have to run an instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// The PriorityClass of the instances' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,

    /// What the Services that clients use look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_template: Option<ServiceTemplate>,

    /// When an instance counts as lost, and how long each step of a change of role may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverSpec>,

    /// Labels and annotations that the instances' pods carry besides the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,

    /// Environment variables of the instances, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,

    /// The operator watches and reports, and changes nothing: no failover, no scaling, no roll-out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// `spec.replicas` where it is not given.
pub const DEFAULT_REPLICAS: u32 = 2;

fn default_replicas() -> u32 {
    DEFAULT_REPLICAS
}
