//! Bringing an object to what was rendered: nothing is written where nothing differs.
//!
//! What differs is told from what is there, not from what was written last, so that somebody else's change is noticed;
//! a mark of what was rendered tells of what is *no longer* wanted, which a comparison of parts can't see. An object
//! that is not there is created, which fails where a stranger's has that name; one that is the cluster's is changed by
//! server-side apply.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::render::{Found, Kind, MANAGER, Object, ObjectKey};

/// On each object: what it was rendered as.
const RENDERED: &str = "understudy.dev/rendered";

/// What became of an object.
#[derive(Clone, PartialEq, Debug)]
pub enum Applied {
    Same,
    Created,
    Changed,
    /// Somebody else has an object of that name.
    Foreign(Found),
}

/// Brings one object to what it is to be. `existing` is what the store has of it.
///
/// # Errors
/// The API server's.
pub async fn apply(
    client: &Client,
    namespace: &str,
    object: &Object,
    existing: Option<Value>,
) -> Result<Applied, kube::Error> {
    match object {
        Object::ServiceAccount(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::Role(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::RoleBinding(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::Secret(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::Service(o) => bring(client, namespace, object.kind(), o.as_ref(), existing).await,
        Object::EndpointSlice(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::PodDisruptionBudget(o) => {
            bring(client, namespace, object.kind(), o.as_ref(), existing).await
        }
        Object::NetworkPolicy(o) => bring(client, namespace, object.kind(), o, existing).await,
        Object::StatefulSet(o) => {
            bring(client, namespace, object.kind(), o.as_ref(), existing).await
        }
    }
}

async fn bring<K>(
    client: &Client,
    namespace: &str,
    kind: Kind,
    wanted: &K,
    existing: Option<Value>,
) -> Result<Applied, kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut value = serde_json::to_value(wanted).map_err(kube::Error::SerdeError)?;
    mark(&mut value);
    match existing {
        Some(there) if contains(&there, &value) => Ok(Applied::Same),
        Some(there) => {
            let name = wanted.meta().name.clone().unwrap_or_default();
            let parameters = PatchParams::apply(MANAGER).force();
            match api.patch(&name, &parameters, &Patch::Apply(&value)).await {
                Ok(_) => {}
                // Lists with keys are merged, and what somebody else put in may not go together with what is ours.
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    let whole: K = serde_json::from_value(overlaid(there, value))
                        .map_err(kube::Error::SerdeError)?;
                    api.replace(&name, &PostParams::default(), &whole).await?;
                }
                Err(error) => return Err(error),
            }
            Ok(Applied::Changed)
        }
        None => {
            let marked: K = serde_json::from_value(value).map_err(kube::Error::SerdeError)?;
            let parameters = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            match api.create(&parameters, &marked).await {
                Ok(_) => Ok(Applied::Created),
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                    whose(&api, kind, wanted).await
                }
                Err(error) => Err(error),
            }
        }
    }
}

/// An object that is there and that the store does not show: ours, made a moment ago, or a stranger's.
async fn whose<K>(api: &Api<K>, kind: Kind, wanted: &K) -> Result<Applied, kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let name = wanted.meta().name.clone().unwrap_or_default();
    let there = api.get(&name).await?;
    let found = Found::new(kind, there.meta());
    let ours = Found::new(kind, wanted.meta()).controller;
    let same = |owner: &OwnerReference| ours.as_ref().is_some_and(|ours| ours.uid == owner.uid);
    if found.controller.as_ref().is_some_and(same) {
        Ok(Applied::Same)
    } else {
        Ok(Applied::Foreign(found))
    }
}

/// An error in few words: the server's own, where it has some.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Deletes an object that is no longer wanted; one that has gone already is as good.
///
/// # Errors
/// The API server's.
pub async fn remove(client: &Client, namespace: &str, key: &ObjectKey) -> Result<(), kube::Error> {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    let name = key.name.as_str();
    match key.kind {
        Kind::ServiceAccount => delete::<ServiceAccount>(client, namespace, name).await,
        Kind::Role => delete::<Role>(client, namespace, name).await,
        Kind::RoleBinding => delete::<RoleBinding>(client, namespace, name).await,
        Kind::Secret => delete::<Secret>(client, namespace, name).await,
        Kind::Service => delete::<Service>(client, namespace, name).await,
        Kind::EndpointSlice => delete::<EndpointSlice>(client, namespace, name).await,
        Kind::PodDisruptionBudget => delete::<PodDisruptionBudget>(client, namespace, name).await,
        Kind::NetworkPolicy => delete::<NetworkPolicy>(client, namespace, name).await,
        Kind::StatefulSet => delete::<StatefulSet>(client, namespace, name).await,
    }
}

async fn delete<K>(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn mark(value: &mut Value) {
    let digest = Sha256::digest(value.to_string().as_bytes());
    let text: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(RENDERED.to_owned(), Value::String(text));
        }
    }
}

/// Whether everything that is wanted is there. What the server adds by itself does not matter.
fn contains(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            is_nothing(value) || there.get(key).is_some_and(|there| contains(there, value))
        }),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(t, w)| contains(t, w))
        }
        (there, wanted) => there == wanted,
    }
}

/// What is there, with everything that is wanted in its place; lists are as they are wanted.
fn overlaid(there: Value, wanted: Value) -> Value {
    match (there, wanted) {
        (Value::Object(mut there), Value::Object(wanted)) => {
            for (key, value) in wanted {
                let old = there.remove(&key).unwrap_or(Value::Null);
                there.insert(key, overlaid(old, value));
            }
            Value::Object(there)
        }
        (there, Value::Null) => there,
        (_, wanted) => wanted,
    }
}

/// What the server leaves out when it is told it.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_adds_is_no_difference_and_what_was_changed_is() {
        let wanted =
            json!({"spec": {"ports": [{"port": 5432}], "selector": {}}, "metadata": {"name": "a"}});
        let there = json!({"spec": {"ports": [{"port": 5432, "protocol": "TCP"}], "clusterIP": "1"},
                           "metadata": {"name": "a", "uid": "u"}});
        assert!(contains(&there, &wanted));
        let moved = json!({"spec": {"ports": [{"port": 5433}]}, "metadata": {"name": "a"}});
        assert!(!contains(&moved, &wanted));
        let more =
            json!({"spec": {"ports": [{"port": 5432}, {"port": 1}]}, "metadata": {"name": "a"}});
        assert!(!contains(&more, &wanted));
    }

    #[test]
    fn what_is_wanted_replaces_lists_and_leaves_the_rest() {
        let there =
            json!({"spec": {"clusterIP": "1", "ports": [{"port": 1}]}, "metadata": {"uid": "u"}});
        let wanted = json!({"spec": {"ports": [{"port": 2}]}, "metadata": {"name": "a"}});
        let whole = overlaid(there, wanted.clone());
        assert!(contains(&whole, &wanted));
        assert_eq!(whole["spec"]["clusterIP"], "1");
        assert_eq!(whole["metadata"]["uid"], "u");
    }

    #[test]
    fn what_is_no_longer_wanted_changes_the_mark() {
        let mut with = json!({"metadata": {"name": "a", "annotations": {"x": "1"}}});
        let mut without = json!({"metadata": {"name": "a"}});
        mark(&mut with);
        mark(&mut without);
        assert!(!contains(&with, &without));
        assert!(contains(&with, &with));
    }
}
