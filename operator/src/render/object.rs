//! The objects that a cluster is made of, and whose they are.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    ServiceAccount,
    Role,
    RoleBinding,
    Secret,
    Service,
    EndpointSlice,
    PodDisruptionBudget,
    NetworkPolicy,
    StatefulSet,
}

/// An object by its kind and name; all are in the cluster's namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    pub kind: Kind,
    pub name: String,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// An object as it is to be.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Object {
    ServiceAccount(ServiceAccount),
    Role(Role),
    RoleBinding(RoleBinding),
    Secret(Secret),
    Service(Box<Service>),
    EndpointSlice(EndpointSlice),
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    NetworkPolicy(NetworkPolicy),
    StatefulSet(Box<StatefulSet>),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Object::ServiceAccount(_) => Kind::ServiceAccount,
            Object::Role(_) => Kind::Role,
            Object::RoleBinding(_) => Kind::RoleBinding,
            Object::Secret(_) => Kind::Secret,
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::PodDisruptionBudget(_) => Kind::PodDisruptionBudget,
            Object::NetworkPolicy(_) => Kind::NetworkPolicy,
            Object::StatefulSet(_) => Kind::StatefulSet,
        }
    }

    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::ServiceAccount(object) => &object.metadata,
            Object::Role(object) => &object.metadata,
            Object::RoleBinding(object) => &object.metadata,
            Object::Secret(object) => &object.metadata,
            Object::Service(object) => &object.metadata,
            Object::EndpointSlice(object) => &object.metadata,
            Object::PodDisruptionBudget(object) => &object.metadata,
            Object::NetworkPolicy(object) => &object.metadata,
            Object::StatefulSet(object) => &object.metadata,
        }
    }

    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind(),
            name: self.metadata().name.clone().unwrap_or_default(),
        }
    }
}

/// What is known of an object that is there: enough to tell whose it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub key: ObjectKey,
    /// The owner that controls it.
    pub controller: Option<OwnerReference>,
}

impl Found {
    pub fn new(kind: Kind, metadata: &ObjectMeta) -> Found {
        Found {
            key: ObjectKey {
                kind,
                name: metadata.name.clone().unwrap_or_default(),
            },
            controller: controller(metadata).cloned(),
        }
    }
}

/// The owner that controls an object.
fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether the cluster with this uid controls the object.
pub fn is_owned(metadata: &ObjectMeta, uid: &str) -> bool {
    controller(metadata).is_some_and(|owner| owner.uid == uid)
}

/// An object that has a name that the cluster needs and is not the cluster's. It is left as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key} belongs to {owner}; {remedy}")]
pub struct ForeignObject {
    pub key: ObjectKey,
    pub owner: String,
    pub remedy: &'static str,
}

impl ForeignObject {
    /// Why this object can't be taken for the cluster's, none if it is the cluster's.
    pub fn of(found: &Found, cluster: &str, uid: &str) -> Option<ForeignObject> {
        let (owner, remedy) = match &found.controller {
            Some(owner) if owner.uid == uid => return None,
            Some(owner) if owner.kind == "ReplicatedCluster" && owner.name == cluster => (
                format!("an earlier ReplicatedCluster {cluster} (uid {})", owner.uid),
                "it goes away with that one; if it stays, delete it",
            ),
            Some(owner) => (
                format!("{} {}", owner.kind, owner.name),
                "delete it there, or give the cluster another name",
            ),
            None => (
                "somebody else".to_owned(),
                "delete or rename it, or give the cluster another name",
            ),
        };
        Some(ForeignObject {
            key: found.key.clone(),
            owner,
            remedy,
        })
    }
}
