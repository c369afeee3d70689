//! From a valid manifest to the Kubernetes objects that it stands for. Pure, and it cannot fail.
//!
//! Invariants:
//! - an object that another owner controls is never taken: it is left out and named ([`ForeignObject`]);
//! - a StatefulSet whose fingerprint is the manifest's is left alone, however this operator would render it today
//!   (`fingerprint.rs`): writing one restarts its pod, so *when* it is written is for whoever rolls out to decide;
//! - a role is in no template and no name: what leads to the primary follows from the record alone (`services.rs`);
//! - claims belong to nobody: they outlive pods, instances and the cluster.
//!
//! What is made up (passwords, keys, certificates) comes in as an argument; `credentials.rs` makes it.

mod access;
mod credentials;
mod fingerprint;
mod hba;
mod labels;
mod object;
mod pod;
mod secrets;
mod services;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;

pub use credentials::{
    Certified, Credentials, CredentialsError, OPERATOR_NAME, REPLICATION_ROLE, SUPERUSER, Secrets,
    text as secret_text,
};
pub use fingerprint::{ANNOTATION as FINGERPRINT, fingerprint};
pub use hba::{pg_hba, tells_addresses_apart};
pub use labels::{
    CLUSTER, INSTANCE, Labels, MANAGER, PRIMARY, ROLE, STANDBY, TERM, cluster_labels, role_labels,
};
pub use object::{ForeignObject, Found, Kind, Object, ObjectKey, is_owned};
pub use pod::{
    CONTAINER, CONTROL_PORT, DATA_DIR, HTTP_PORT, POSTGRES_PORT, RUN_DIR, SECRETS_DIR, TLS_DIR,
};
pub use services::{PodSeen, WriteRouting, write_traffic};
pub use workload::made_like;

use crate::crd::Record;
use crate::decide::Routes;
use crate::validate::ValidatedCluster;

/// What the objects are made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub cluster: &'a ValidatedCluster,
    /// The cluster object's.
    pub uid: &'a str,
    pub record: Option<&'a Record>,
    /// Where the Services are to lead; none yet if nobody ever was primary.
    pub routes: Option<&'a Routes>,
    /// The instances that are to exist, by name.
    pub instances: &'a [String],
    pub existing: &'a Existing,
    pub credentials: &'a Credentials,
    /// The image that belongs to this operator.
    pub default_image: &'a str,
    pub routing: WriteRouting,
}

/// What was found in the cluster's namespace.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Existing {
    /// By name, whoever owns them.
    pub stateful_sets: BTreeMap<String, StatefulSet>,
    /// Every other object that has a name that the cluster may need, whoever owns it.
    pub others: Vec<Found>,
    /// The pods of the instances, by instance.
    pub pods: BTreeMap<String, PodSeen>,
}

/// What is to become of an instance's StatefulSet.
#[derive(Clone, PartialEq, Debug)]
pub enum Workload {
    Create(Box<StatefulSet>),
    /// It was rendered from this very manifest, by whatever operator.
    Keep,
    /// The manifest has changed since: writing it restarts the pod.
    Replace(Box<StatefulSet>),
}

/// What is to be there.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rendered {
    /// In the order in which they are needed.
    pub objects: Vec<Object>,
    /// By instance.
    pub workloads: BTreeMap<String, Workload>,
    /// The cluster's own objects that it no longer needs.
    pub surplus: Vec<ObjectKey>,
    /// In the way: the objects of these names are left out.
    pub foreign: Vec<ForeignObject>,
}

/// Everything that the manifest asks for.
pub fn render(input: &Input<'_>) -> Rendered {
    let mut objects = access::objects(input);
    objects.extend(secrets::objects(input));
    objects.extend(services::objects(input));
    let mut rendered = Rendered {
        foreign: foreign(input, &objects),
        surplus: surplus(input, &objects),
        ..Rendered::default()
    };
    for instance in input.instances {
        if let Some(workload) = workload::workload(input, instance) {
            rendered.workloads.insert(instance.clone(), workload);
        }
    }
    objects.retain(|object| {
        let key = object.key();
        rendered.foreign.iter().all(|foreign| foreign.key != key)
    });
    rendered.objects = objects;
    rendered
}

/// Objects of others that have a name that this cluster needs.
fn foreign(input: &Input<'_>, objects: &[Object]) -> Vec<ForeignObject> {
    let sets = input
        .existing
        .stateful_sets
        .values()
        .map(|set| Found::new(Kind::StatefulSet, &set.metadata))
        .filter(|set| input.instances.contains(&set.key.name));
    let others = input.existing.others.iter().cloned();
    let needed: Vec<ObjectKey> = objects.iter().map(Object::key).collect();
    others
        .filter(|found| needed.contains(&found.key))
        .chain(sets)
        .filter_map(|found| ForeignObject::of(&found, &input.cluster.name, input.uid))
        .collect()
}

/// The cluster's own objects that are there and not wanted; StatefulSets go with their instances, which is not for
/// here to decide.
fn surplus(input: &Input<'_>, objects: &[Object]) -> Vec<ObjectKey> {
    let needed: Vec<ObjectKey> = objects.iter().map(Object::key).collect();
    let ours = |found: &&Found| {
        found
            .controller
            .as_ref()
            .is_some_and(|owner| owner.uid == input.uid)
    };
    input
        .existing
        .others
        .iter()
        .filter(ours)
        .filter(|found| !needed.contains(&found.key))
        .map(|found| found.key.clone())
        .collect()
}

#[cfg(test)]
mod tests;
