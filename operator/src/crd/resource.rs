//! `ReplicatedCluster`: what a user writes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Durability, ReplicatedClusterStatus};

/// A primary and its streaming standbys.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyInstances"),
    printcolumn(name = "Standbys", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.currentPrimary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: must be at most 40 characters of a-z, 0-9 and -, and begin with a letter, because instances and Services are named after it; choose a shorter name")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplicatedClusterSpec {
    /// The number of standbys beside the primary.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 15))]
    pub replicas: u32,

    /// What a commit waits for: `quorum` (half of the in-sync standbys, rounded up), `strict` (all of them) or
    /// `async` (none).
    #[serde(default)]
    pub durability: Durability,

    pub storage: StorageSpec,

    /// Settings of the database, by the names that `postgresql.conf` gives them.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 200))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[a-zA-Z_][a-zA-Z0-9_.]*$') && size(k) <= 63 && size(self[k]) <= 1024)").message("spec.parameters: names are letters, digits, _ and . (at most 63), values at most 1024 characters"))]
    pub parameters: BTreeMap<String, String>,
}

/// The volume of each instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageSpec {
    /// Its size, as Kubernetes writes quantities: `10Gi`.
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    pub size: String,
}

fn default_replicas() -> u32 {
    2
}
