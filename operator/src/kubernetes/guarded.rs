//! An object as it is read from the API server, where it may be of no form that this program knows: stored under another
//! version of the definition, or by a newer operator.
//!
//! One such object must not end the watch of all others, so it is kept with what is known of it. `kube`'s own guard
//! buffers what it reads in a form of its own, into which `serde_json` with arbitrary precision puts a fraction as a map:
//! every object that has one would count as broken. A `serde_json::Value` knows that map for what it is, whatever it is
//! read from, and reading the type from the value gives what reading it from the text gives.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or why it can't be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(Result<K, Box<Unreadable>>);

/// What is known of an object that can't be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    metadata: ObjectMeta,
    why: String,
}

impl<K> Guarded<K> {
    /// The object itself.
    ///
    /// # Errors
    /// Why it can't be read, with the field where that is known.
    pub fn read(&self) -> Result<&K, &Unreadable> {
        self.0.as_ref().map_err(|unreadable| &**unreadable)
    }
}

impl<K: DeserializeOwned> Guarded<K> {
    /// What this JSON says, if it says such an object.
    pub fn of(value: &Value) -> Guarded<K> {
        Guarded(K::deserialize(value).map_err(|error| {
            let error = error.to_string();
            let why = match place::<K>(value, &error) {
                Some(field) => format!("{field}: {error}"),
                None => error,
            };
            let metadata = metadata(value);
            Box::new(Unreadable { metadata, why })
        }))
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Guarded<K>, D::Error> {
        Ok(Guarded::of(&Value::deserialize(deserializer)?))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &K::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &K::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &K::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &K::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// All of it if it can be read, else what tells one object from another.
fn metadata(value: &Value) -> ObjectMeta {
    let metadata = &value["metadata"];
    ObjectMeta::deserialize(metadata).unwrap_or_else(|_| {
        let text = |field: &str| metadata[field].as_str().map(str::to_owned);
        ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        }
    })
}

/// The field that is wrong, as far as it can be told: without it the object can be read, or fails in another way. Fields
/// are read in order and the first fault ends it, so taking a sound one out of the faulty part changes nothing.
fn place<K: DeserializeOwned>(value: &Value, error: &str) -> Option<String> {
    let is_its = |without: &Value| {
        let again = K::deserialize(without).err();
        again.is_none_or(|again| again.to_string() != error)
    };
    for part in ["spec", "status"] {
        let Some(fields) = value.get(part).and_then(Value::as_object) else {
            continue;
        };
        let mut others = value.clone();
        if let Some(all) = others.as_object_mut() {
            all.shift_remove(part);
        }
        if !is_its(&others) {
            continue;
        }
        for field in fields.keys() {
            let mut without = value.clone();
            if let Some(fields) = without.get_mut(part).and_then(Value::as_object_mut) {
                fields.shift_remove(field);
            }
            if is_its(&without) {
                return Some(format!("{part}.{field}"));
            }
        }
        return Some(part.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::{ObjectList, WatchEvent};

    use super::*;
    use crate::crd::ReplicatedCluster;

    type Read = Guarded<ReplicatedCluster>;

    fn text(name: &str, spec: &str, status: &str) -> String {
        format!(
            "{{\"apiVersion\": \"understudy.dev/v1alpha1\", \"kind\": \"ReplicatedCluster\", \
             \"metadata\": {{\"name\": \"{name}\", \"namespace\": \"shop\", \"uid\": \"u-{name}\", \
             \"resourceVersion\": \"7\", \"generation\": 3}}, \
             \"spec\": {{\"storage\": {{\"size\": \"1Gi\"}}{spec}}}, \"status\": {{{status}}}}}"
        )
    }

    /// Whole numbers, and a fraction.
    const NUMBERS: &str = "\"recordVersion\": 18446744073709551615, \"lastFailover\": {\"cause\": \"x\", \
        \"new\": \"orders-2\", \"term\": 2, \"detectedAt\": 1, \"promotedAt\": 2, \"writableAt\": 3, \
        \"seconds\": 0.412, \"lostBytes\": 7}";

    #[test]
    fn numbers_are_read_as_without_a_guard() {
        let text = text("orders", ", \"replicas\": 3", NUMBERS);
        let plain: ReplicatedCluster = serde_json::from_str(&text).expect("it is sound");
        let guarded: Read = serde_json::from_str(&text).expect("a guarded object is always read");
        assert_eq!(guarded.read().expect("it is sound"), &plain);
        let seconds = plain.status.and_then(|status| status.last_failover);
        assert_eq!(seconds.map(|change| change.seconds), Some(0.412));
    }

    /// The form in which a watch brings it.
    #[test]
    fn a_broken_object_is_an_event_like_any_other() {
        let broken = text("orders", ", \"replicas\": \"two\"", NUMBERS);
        let line = format!("{{\"type\": \"MODIFIED\", \"object\": {broken}}}");
        let event: WatchEvent<Read> = serde_json::from_str(&line).expect("an event");
        let WatchEvent::Modified(object) = event else {
            panic!("it is of another kind");
        };
        let why = object.read().expect_err("two is no number").to_string();
        assert!(why.starts_with("spec.replicas: invalid type"), "{why}");
        assert_eq!(
            (object.name_any(), object.namespace()),
            ("orders".to_owned(), Some("shop".to_owned()))
        );
        assert_eq!(
            (object.uid(), object.resource_version()),
            (Some("u-orders".to_owned()), Some("7".to_owned()))
        );
    }

    #[test]
    fn one_broken_object_spoils_no_list() {
        let items = [
            text("a", ", \"paused\": 1", ""),
            text("b", "", NUMBERS),
            text("c", "", "\"phase\": \"Dreaming\""),
        ];
        let list = format!(
            "{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"metadata\": {{}}, \"items\": [{}]}}",
            items.join(", ")
        );
        let list: ObjectList<Read> = serde_json::from_str(&list).expect("a list");
        let why: Vec<Option<String>> = list
            .items
            .iter()
            .map(|object| object.read().err().map(ToString::to_string))
            .collect();
        let begins =
            |at: usize, field: &str| why[at].as_deref().is_some_and(|why| why.starts_with(field));
        assert!(begins(0, "spec.paused: "), "{why:?}");
        assert_eq!(why[1], None);
        assert!(begins(2, "status.phase: "), "{why:?}");
    }

    #[test]
    fn what_is_missing_is_named_and_metadata_of_another_form_still_says_who_it_is() {
        let object = Read::of(&serde_json::json!({
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": 3},
            "spec": {"replicas": 1},
        }));
        let why = object.read().expect_err("it is not sound").to_string();
        assert!(!why.is_empty());
        assert_eq!(
            (object.name_any(), object.uid()),
            ("orders".to_owned(), Some("u".to_owned()))
        );
        let object =
            Read::of(&serde_json::json!({"metadata": {"name": "orders"}, "spec": {"replicas": 1}}));
        let why = object.read().expect_err("there is no storage").to_string();
        assert_eq!(why, "spec: missing field `storage`");
    }
}
