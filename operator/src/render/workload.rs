//! The StatefulSet of an instance: one pod, one claim.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::labels::Labels;
use super::object::is_owned;
use super::{Input, Workload, fingerprint, labels, pod};
use crate::names;

/// What is to become of the instance's StatefulSet; none if the one of this name is somebody else's.
pub(super) fn workload(input: &Input<'_>, instance: &str) -> Option<Workload> {
    let wanted = stateful_set(input, instance);
    let Some(existing) = input.existing.stateful_sets.get(instance) else {
        return Some(Workload::Create(Box::new(wanted)));
    };
    if !is_owned(&existing.metadata, input.uid) {
        return None;
    }
    if pin(existing) == pin(&wanted) {
        return Some(Workload::Keep);
    }
    Some(Workload::Replace(Box::new(replacement(existing, wanted))))
}

/// A StatefulSet of the same cluster for another instance: the same template of whatever manifest, and its fingerprint.
pub fn made_like(pattern: &StatefulSet, instance: &str) -> StatefulSet {
    let of_it = |given: &Option<Labels>| {
        let mut all = given.clone().unwrap_or_default();
        all.insert(labels::INSTANCE.to_owned(), instance.to_owned());
        Some(all)
    };
    let mut spec = pattern.spec.clone().unwrap_or_default();
    spec.replicas = Some(1);
    spec.selector.match_labels = of_it(&spec.selector.match_labels);
    let template = spec.template.metadata.get_or_insert_default();
    template.labels = of_it(&template.labels);
    for claim in spec.volume_claim_templates.iter_mut().flatten() {
        claim.metadata.labels = of_it(&claim.metadata.labels);
        claim.status = None;
    }
    let fingerprint = pin(pattern).map(|pin| (fingerprint::ANNOTATION.to_owned(), pin.clone()));
    // What Kubernetes and others have written there is about the other one.
    let metadata = ObjectMeta {
        name: Some(instance.to_owned()),
        namespace: pattern.metadata.namespace.clone(),
        labels: of_it(&pattern.metadata.labels),
        annotations: fingerprint.map(|pin| BTreeMap::from([pin])),
        owner_references: pattern.metadata.owner_references.clone(),
        ..ObjectMeta::default()
    };
    StatefulSet {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

/// The fingerprint of the manifest that it was rendered from.
fn pin(set: &StatefulSet) -> Option<&String> {
    set.metadata
        .annotations
        .as_ref()?
        .get(fingerprint::ANNOTATION)
}

/// The new rendering with what Kubernetes does not let change: the pod selector, the Service's name, the way pods are
/// managed, and the claim, which a larger volume does not touch (claims are grown one by one).
fn replacement(existing: &StatefulSet, mut wanted: StatefulSet) -> StatefulSet {
    if let (Some(old), Some(new)) = (&existing.spec, &mut wanted.spec) {
        new.selector.clone_from(&old.selector);
        new.service_name.clone_from(&old.service_name);
        new.pod_management_policy
            .clone_from(&old.pod_management_policy);
        new.volume_claim_templates
            .clone_from(&old.volume_claim_templates);
        // An older operator may have selected by labels that this one does not give.
        let selected = old.selector.match_labels.clone().unwrap_or_default();
        let metadata = new.template.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        for (key, value) in selected {
            labels.insert(key, value);
        }
    }
    wanted
}

fn stateful_set(input: &Input<'_>, instance: &str) -> StatefulSet {
    let cluster = input.cluster;
    let mut metadata = labels::metadata(cluster, input.uid, instance.to_owned());
    metadata.labels = Some(labels::instance_labels(cluster, instance));
    metadata.annotations = Some(BTreeMap::from([(
        fingerprint::ANNOTATION.to_owned(),
        fingerprint::fingerprint(cluster),
    )]));
    let selected = labels::labels([
        (labels::CLUSTER, cluster.name.as_str()),
        (labels::INSTANCE, instance),
    ]);
    let retain = || Some("Retain".to_owned());
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names::instances_service(&cluster.name)),
            selector: labels::selector(selected),
            template: pod::template(input, instance),
            // A pod that never became ready must not keep its own repair from being rolled out.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: retain(),
                    when_scaled: retain(),
                },
            ),
            volume_claim_templates: Some(vec![claim(input, instance)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn claim(input: &Input<'_>, instance: &str) -> PersistentVolumeClaim {
    let cluster = input.cluster;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::CLAIM_TEMPLATE.to_owned()),
            labels: Some(labels::instance_labels(cluster, instance)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cluster.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(cluster.storage_size.clone()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
