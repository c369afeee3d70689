//! The parts of `spec` that Kubernetes has no type for, or has a wider one than can work here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The volume of each instance. It is kept when the instance or the cluster is deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Its size, as Kubernetes writes quantities: `10Gi`. It can grow, never shrink: new instances get the larger volume,
    /// those that exist keep theirs until they are replaced. A tenth of it is kept for log that standbys may still need.
    #[schemars(length(max = 32))]
    pub size: String,

    /// The StorageClass; left out, the default one. It can't be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,
}

#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ImagePullPolicy::Always => "Always",
            ImagePullPolicy::IfNotPresent => "IfNotPresent",
            ImagePullPolicy::Never => "Never",
        }
    }
}

/// Kubernetes' type has `claims` besides, which need a part of the pod that is not the user's to give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside for an instance: `cpu`, `memory`, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,

    /// The most that an instance may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// What a new database begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapSpec {
    /// The database that is made for the application; the Secret `NAME-app` leads to it.
    #[serde(default = "default_application")]
    #[schemars(length(max = 63))]
    pub database: String,

    /// The role that owns it.
    #[serde(default = "default_application")]
    #[schemars(length(max = 63))]
    pub owner: String,

    /// A Secret with the owner's `password`. Left out, one is made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub owner_secret: Option<String>,

    /// A Secret with the superuser's `password`. Left out, one is made up and kept in `NAME-superuser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub superuser_secret: Option<String>,

    /// SQL that the superuser runs once in the new database, all of it in one transaction: a crash neither skips nor
    /// repeats it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 65_536)))]
    pub sql: Vec<String>,
}

impl Default for BootstrapSpec {
    fn default() -> BootstrapSpec {
        BootstrapSpec {
            database: default_application(),
            owner: default_application(),
            owner_secret: None,
            superuser_secret: None,
            sql: Vec::new(),
        }
    }
}

fn default_application() -> String {
    "app".to_owned()
}

#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum ServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceType::ClusterIp => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What the Services `NAME-primary`, `NAME-standby` and `NAME-any` look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTemplate {
    /// How they are reached: inside of Kubernetes only, or from outside as well.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// Annotations, as load balancers want them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// Labels and annotations of the instances' pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels, for whoever selects or counts pods. Those by which Kubernetes or the operator does are refused. A change
    /// restarts the instances, one at a time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,

    /// Annotations, for programs that look at pods. A change restarts the instances, one at a time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// Times of failure detection and of changes of role. No promise rests on them: they trade a quick takeover against
/// a needless one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSpec {
    /// A primary whose supervisor or engine has been silent for so long counts as lost, unless enough standbys still hear a
    /// primary whose supervisor is silent.
    #[serde(default = "lost_after")]
    #[schemars(range(min = 1_000, max = 600_000))]
    pub lost_after_milliseconds: u32,

    /// What a crashed engine gets to be restarted in place, its recovery included, before a failover begins. It may be longer
    /// than `lostAfterMilliseconds`: supervisor and engine answer meanwhile.
    #[serde(default = "restart_within")]
    #[schemars(range(min = 0, max = 600_000))]
    pub restart_within_milliseconds: u32,

    /// A member of the in-sync set that has not streamed for so long leaves it; until then commits may wait for it.
    #[serde(default = "member_lost_after")]
    #[schemars(range(min = 1_000, max = 600_000))]
    pub member_lost_after_milliseconds: u32,

    /// With `async` durability: how long a failover waits for the answers of further standbys, each of which may hold
    /// commits that the others lack.
    #[serde(default = "async_answers_within")]
    #[schemars(range(min = 0, max = 600_000))]
    pub async_answers_within_milliseconds: u32,

    /// What a switchover gets to finish before the old primary reopens.
    #[serde(default = "switchover_within")]
    #[schemars(range(min = 1_000, max = 600_000))]
    pub switchover_within_milliseconds: u32,

    /// A standby whose engine runs but has not streamed for so long is seeded anew.
    #[serde(default = "reseed_after")]
    #[schemars(range(min = 10_000, max = 86_400_000))]
    pub reseed_after_milliseconds: u32,
}

impl Default for FailoverSpec {
    fn default() -> FailoverSpec {
        FailoverSpec {
            lost_after_milliseconds: lost_after(),
            restart_within_milliseconds: restart_within(),
            member_lost_after_milliseconds: member_lost_after(),
            async_answers_within_milliseconds: async_answers_within(),
            switchover_within_milliseconds: switchover_within(),
            reseed_after_milliseconds: reseed_after(),
        }
    }
}

const fn lost_after() -> u32 {
    3_000
}
const fn restart_within() -> u32 {
    1_000
}
const fn member_lost_after() -> u32 {
    5_000
}
const fn async_answers_within() -> u32 {
    2_000
}
const fn switchover_within() -> u32 {
    10_000
}
const fn reseed_after() -> u32 {
    60_000
}
