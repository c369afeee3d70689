//! Labels, owner references and the metadata that every object of a cluster carries.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;

use crate::crd::{Phase, Record, ReplicatedCluster};
use crate::validate::ValidatedCluster;

/// The cluster that an object belongs to; the watches of the operator are filtered by it.
pub const CLUSTER: &str = "understudy.dev/cluster";
/// The instance that a pod or a claim belongs to.
pub const INSTANCE: &str = "understudy.dev/instance";
/// On pods: `primary` or `standby`, as the record has it. Written by the operator, never by a template.
pub const ROLE: &str = "understudy.dev/role";
/// On pods: the term of the role.
pub const TERM: &str = "understudy.dev/term";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The name by which the operator signs objects and writes fields.
pub const MANAGER: &str = "understudy-operator";

pub const PRIMARY: &str = "primary";
pub const STANDBY: &str = "standby";

pub type Labels = BTreeMap<String, String>;

/// Labels from pairs of text.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What every object of the cluster carries.
pub fn cluster_labels(cluster: &ValidatedCluster) -> Labels {
    labels([
        ("app.kubernetes.io/name", "understudy"),
        ("app.kubernetes.io/instance", cluster.name.as_str()),
        ("app.kubernetes.io/component", "database"),
        (MANAGED_BY, MANAGER),
        (CLUSTER, cluster.name.as_str()),
    ])
}

/// What an instance's StatefulSet, pod and claim carry.
pub fn instance_labels(cluster: &ValidatedCluster, instance: &str) -> Labels {
    let mut all = cluster_labels(cluster);
    all.insert(INSTANCE.to_owned(), instance.to_owned());
    all
}

/// What the operator writes on an instance's pod: its role and the term of it, as the record has them. Nothing while
/// nobody is primary.
pub fn role_labels(record: Option<&Record>, instance: &str) -> Labels {
    let primary = record
        .filter(|record| record.phase == Phase::Running)
        .and_then(|record| Some((record, record.primary.as_ref()?)));
    let Some((record, primary)) = primary else {
        return Labels::new();
    };
    let role = if primary.name == instance {
        PRIMARY
    } else {
        STANDBY
    };
    labels([(ROLE, role), (TERM, record.term.to_string().as_str())])
}

/// All instances of the cluster, whatever their role.
pub fn cluster_selector(cluster: &ValidatedCluster) -> LabelSelector {
    selector(labels([(CLUSTER, cluster.name.as_str())]))
}

pub fn selector(labels: Labels) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// The cluster object as the controller of everything that is made for it.
pub fn owner_reference(cluster: &ValidatedCluster, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: ReplicatedCluster::api_version(&()).into_owned(),
        kind: ReplicatedCluster::kind(&()).into_owned(),
        name: cluster.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The metadata of an object that belongs to the cluster as a whole.
pub fn metadata(cluster: &ValidatedCluster, uid: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(cluster_labels(cluster)),
        owner_references: Some(vec![owner_reference(cluster, uid)]),
        ..ObjectMeta::default()
    }
}
