//! Bringing an object to what was rendered: nothing is written where nothing differs.
//!
//! What differs is told from what is there, not from what was written last, so that somebody else's change is noticed;
//! a mark of what was rendered tells of what is *no longer* wanted, which a comparison of parts can't see. An object
//! that is not there is created, which fails where a stranger's has that name; one that is the cluster's is changed by
//! server-side apply, which takes away what is left out if nobody but the applier holds it: so what this operator holds
//! as a creator goes over to it as an applier first ([`as_applied`]).
//!
//! Every change and every deletion is of the very version that was compared: a process that wakes up after minutes with
//! an old plan changes nothing of what another one has made since.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
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
    /// Another operator came first, or the object has changed since the look: it has to be looked at again.
    Overtaken,
}

/// An object at one moment of its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub uid: Option<String>,
    /// None: whatever has become of it.
    pub resource_version: Option<String>,
}

impl Version {
    pub fn of(metadata: &ObjectMeta) -> Version {
        Version {
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
        }
    }
}

/// Whether somebody else wrote first. What was decided is looked at again; nobody has to be told.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether everything that the object is to be is there already.
pub fn is_as_wanted(object: &Object, there: Option<&Value>) -> bool {
    let Ok(mut value) = serde_json::to_value(object) else {
        return false;
    };
    mark(&mut value);
    there.is_some_and(|there| contains(there, &value))
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
    let (there, is_news) = match existing {
        Some(there) => (there, false),
        None => match create(&api, wanted, &value).await? {
            Made::Created => return Ok(Applied::Created),
            Made::Vanished => return Ok(Applied::Overtaken),
            Made::There(there) => (there, true),
        },
    };
    let found = Found::new(kind, &metadata(&there)?);
    let wanted_by = Found::new(kind, wanted.meta()).controller;
    if controller_uid(&found.controller) != controller_uid(&wanted_by) {
        return Ok(Applied::Foreign(found));
    }
    if contains(&there, &value) {
        return Ok(Applied::Same);
    }
    // What was made up for it here is not what another operator has made up.
    if is_news && kind == Kind::Secret && there.get("data") != value.get("data") {
        return Ok(Applied::Overtaken);
    }
    match change(&api, kind, there, value).await {
        Ok(()) => Ok(Applied::Changed),
        Err(error) if is_conflict(&error) => Ok(Applied::Overtaken),
        Err(error) => Err(error),
    }
}

enum Made {
    Created,
    /// It is there and the store does not show it: made a moment ago, without its label, or a stranger's.
    There(Value),
    Vanished,
}

async fn create<K>(api: &Api<K>, wanted: &K, marked: &Value) -> Result<Made, kube::Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(marked.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&as_manager(), &object).await {
        Ok(_) => Ok(Made::Created),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let name = wanted.meta().name.clone().unwrap_or_default();
            let Some(there) = api.get_opt(&name).await? else {
                return Ok(Made::Vanished);
            };
            let there = serde_json::to_value(&there).map_err(kube::Error::SerdeError)?;
            Ok(Made::There(there))
        }
        Err(error) => Err(error),
    }
}

/// Changes the very version that `there` is, or none: then the server's answer is a conflict.
async fn change<K>(api: &Api<K>, kind: Kind, there: Value, value: Value) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = metadata(&there)?.name.unwrap_or_default();
    // Of a slice everything is written each time, and a failover waits for the one write that moves it.
    let there = match kind {
        Kind::EndpointSlice => there,
        _ => take_over(api, &name, there).await?,
    };
    let mut pinned = value.clone();
    pin(&mut pinned, &there);
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch(&name, &parameters, &Patch::Apply(&pinned)).await {
        Ok(_) => Ok(()),
        // Lists with keys are merged, and what somebody else put in may not go together with what is ours.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let whole: K = serde_json::from_value(overlaid(without_own(there), value))
                .map_err(kube::Error::SerdeError)?;
            api.replace(&name, &as_manager(), &whole).await?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn metadata(there: &Value) -> Result<ObjectMeta, kube::Error> {
    let metadata = there.get("metadata").cloned();
    metadata
        .map(serde_json::from_value)
        .transpose()
        .map(Option::unwrap_or_default)
        .map_err(kube::Error::SerdeError)
}

fn controller_uid(controller: &Option<OwnerReference>) -> Option<&str> {
    controller.as_ref().map(|owner| owner.uid.as_str())
}

/// The server refuses what is written so if the object is another one by now, or has changed.
fn pin(patch: &mut Value, there: &Value) {
    let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for name in ["uid", "resourceVersion"] {
        if let Some(value) = there.get("metadata").and_then(|there| there.get(name)) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
}

/// What is there without the fields that this operator holds: those that it still wants are laid over it again.
fn without_own(mut there: Value) -> Value {
    let entries = there.pointer("/metadata/managedFields");
    let held: Vec<Value> = entries
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("manager").and_then(Value::as_str) == Some(MANAGER))
        .filter(|entry| entry.get("subresource").is_none())
        .filter_map(|entry| entry.get("fieldsV1").cloned())
        .collect();
    for fields in &held {
        take_out(&mut there, fields);
    }
    there
}

/// Lists go as a whole: so they come.
fn take_out(there: &mut Value, fields: &Value) {
    let (Some(object), Some(fields)) = (there.as_object_mut(), fields.as_object()) else {
        return;
    };
    for (key, below) in fields {
        let Some(name) = key.strip_prefix("f:") else {
            continue;
        };
        let mut keys = below.as_object().into_iter().flat_map(|below| below.keys());
        if !keys.any(|key| key.starts_with("f:")) {
            object.remove(name);
        } else if let Some(there) = object.get_mut(name) {
            take_out(there, below);
        }
    }
}

fn as_manager() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The object, held by this operator as an applier only.
async fn take_over<K>(api: &Api<K>, name: &str, there: Value) -> Result<Value, kube::Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let managed = metadata(&there)?.managed_fields.unwrap_or_default();
    let Some(owned) = as_applied(&managed) else {
        return Ok(there);
    };
    let mut patch = json!({"metadata": {"managedFields": owned}});
    pin(&mut patch, &there);
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = api.patch(name, &parameters, &Patch::Merge(&patch)).await?;
    serde_json::to_value(written).map_err(kube::Error::SerdeError)
}

/// The entries of `metadata.managedFields` with what this operator holds by creating and replacing as what it holds by
/// applying; none if that is so already. Kubernetes' own clients go over to server-side apply in the same way.
pub fn as_applied(entries: &[ManagedFieldsEntry]) -> Option<Vec<ManagedFieldsEntry>> {
    let (ours, mut all): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|entry| {
        let of_a_part = entry.subresource.as_ref().is_some_and(|s| !s.is_empty());
        entry.manager.as_deref() == Some(MANAGER) && !of_a_part
    });
    let is_update = |entry: &ManagedFieldsEntry| entry.operation.as_deref() == Some("Update");
    if !ours.iter().any(is_update) {
        return None;
    }
    let mut fields = Value::Object(serde_json::Map::new());
    for entry in &ours {
        if let Some(FieldsV1(held)) = &entry.fields_v1 {
            unite(&mut fields, held);
        }
    }
    let newest = ours.into_iter().next_back()?;
    all.push(ManagedFieldsEntry {
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..newest
    });
    Some(all)
}

/// Sets of fields are trees of objects without values.
fn unite(all: &mut Value, more: &Value) {
    let (Value::Object(all), Value::Object(more)) = (all, more) else {
        return;
    };
    for (field, below) in more {
        match all.get_mut(field) {
            Some(known) => unite(known, below),
            None => {
                all.insert(field.clone(), below.clone());
            }
        }
    }
}

/// An error in few words: the server's own, where it has some.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Deletes this very version of an object that is no longer wanted. One that has gone already is as good; one that has
/// changed, or another of its name, stays until it is looked at again.
///
/// # Errors
/// The API server's.
pub async fn remove(
    client: &Client,
    namespace: &str,
    key: &ObjectKey,
    version: &Version,
) -> Result<(), kube::Error> {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    let name = key.name.as_str();
    let of = Removal {
        client,
        namespace,
        name,
        parameters: only_if(DeleteParams::background(), version),
    };
    let removed = match key.kind {
        Kind::ServiceAccount => of.delete::<ServiceAccount>().await,
        Kind::Role => of.delete::<Role>().await,
        Kind::RoleBinding => of.delete::<RoleBinding>().await,
        Kind::Secret => of.delete::<Secret>().await,
        Kind::Service => of.delete::<Service>().await,
        Kind::EndpointSlice => of.delete::<EndpointSlice>().await,
        Kind::PodDisruptionBudget => of.delete::<PodDisruptionBudget>().await,
        Kind::NetworkPolicy => of.delete::<NetworkPolicy>().await,
        Kind::StatefulSet => of.delete::<StatefulSet>().await,
    };
    removed.map(|_| ())
}

/// Deletes the object of this name if it is the one with this uid. True if that was so.
///
/// # Errors
/// The API server's.
pub async fn remove_one<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    how: DeleteParams,
) -> Result<bool, kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let version = Version {
        uid: Some(uid.to_owned()),
        resource_version: None,
    };
    let of = Removal {
        client,
        namespace,
        name,
        parameters: only_if(how, &version),
    };
    of.delete::<K>().await
}

fn only_if(how: DeleteParams, version: &Version) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: version.uid.clone(),
            resource_version: version.resource_version.clone(),
        }),
        ..how
    }
}

struct Removal<'a> {
    client: &'a Client,
    namespace: &'a str,
    name: &'a str,
    parameters: DeleteParams,
}

impl Removal<'_> {
    /// False if it has gone, or is not what was meant.
    async fn delete<K>(&self) -> Result<bool, kube::Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        match api.delete(self.name, &self.parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
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
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| match there.get(key) {
                Some(there) => value.is_null() || contains(there, value),
                None => is_nothing(value),
            })
        }
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
    fn a_list_that_is_to_be_empty_is_emptied() {
        let wanted = json!({"endpoints": []});
        assert!(contains(&json!({}), &wanted));
        assert!(contains(&json!({"endpoints": []}), &wanted));
        let one = json!({"endpoints": [{"addresses": ["10.0.0.7"]}]});
        assert!(!contains(&one, &wanted));
    }

    #[test]
    fn where_all_is_replaced_what_is_no_longer_wanted_goes_and_others_fields_stay() {
        let own = json!({"f:metadata": {"f:annotations": {"f:old": {}}},
                         "f:spec": {"f:tolerations": {}, "f:replicas": {}}});
        let others = json!({"f:metadata": {"f:annotations": {"f:mine": {}}}});
        let there = json!({
            "metadata": {
                "name": "a", "resourceVersion": "7", "annotations": {"old": "1", "mine": "2"},
                "managedFields": [entry(MANAGER, "Apply", &own), entry("kubectl", "Update", &others)],
            },
            "spec": {"tolerations": [{"key": "x"}], "replicas": 1, "clusterIP": "1"},
        });
        let whole = overlaid(without_own(there), json!({"spec": {"replicas": 2}}));
        assert_eq!(whole["metadata"]["annotations"], json!({"mine": "2"}));
        assert_eq!(whole["spec"], json!({"clusterIP": "1", "replicas": 2}));
        assert_eq!(whole["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_change_and_a_deletion_are_of_the_version_that_was_compared() {
        let there = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}});
        let mut patch = json!({"metadata": {"name": "a"}});
        pin(&mut patch, &there);
        assert_eq!(patch, there);
        let version = Version::of(&metadata(&there).expect("metadata"));
        let parameters = only_if(DeleteParams::foreground(), &version);
        let preconditions = parameters.preconditions.expect("there are some");
        assert_eq!(preconditions.uid.as_deref(), Some("u"));
        assert_eq!(preconditions.resource_version.as_deref(), Some("7"));
        assert!(parameters.propagation_policy.is_some());
    }

    fn entries(value: Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(value).expect("entries")
    }

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1",
               "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    /// Otherwise an annotation that was taken out of the manifest would stay for ever: its creator holds it.
    #[test]
    fn what_was_created_is_held_as_applied() {
        let made = json!({"f:metadata": {"f:annotations": {".": {}, "f:old": {}}}});
        let kept = json!({"f:metadata": {"f:annotations": {"f:new": {}}}, "f:spec": {}});
        let others = entry(
            "kube-controller-manager",
            "Update",
            &json!({"f:status": {}}),
        );
        let created = [entry(MANAGER, "Update", &made), others.clone()];
        let taken = as_applied(&entries(json!(created))).expect("taken over");
        assert_eq!(
            taken,
            entries(json!([others, entry(MANAGER, "Apply", &made)]))
        );
        assert_eq!(as_applied(&taken), None, "once is enough");
        // One that was changed before it was taken over has both.
        let both = [
            entry(MANAGER, "Update", &made),
            entry(MANAGER, "Apply", &kept),
        ];
        let all = json!({"f:metadata": {"f:annotations": {".": {}, "f:old": {}, "f:new": {}}}, "f:spec": {}});
        assert_eq!(
            as_applied(&entries(json!(both))),
            Some(entries(json!([entry(MANAGER, "Apply", &all)])))
        );
    }

    #[test]
    fn what_others_hold_and_what_is_held_of_a_status_stays() {
        let mut status = entry(MANAGER, "Update", &json!({"f:status": {}}));
        status["subresource"] = json!("status");
        let theirs = entry("kubectl", "Update", &json!({"f:metadata": {}}));
        assert_eq!(as_applied(&entries(json!([status, theirs]))), None);
        assert_eq!(as_applied(&[]), None);
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
