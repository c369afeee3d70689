//! What the instances' pods are like, as far as a user may say.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;

use super::Invalid;
use super::quantity::billionths;
use crate::crd::owned::{owned_annotation, owned_env, owned_label};
use crate::crd::patterns::{self, Pattern};
use crate::crd::{ImagePullPolicy, PodMetadata, ReplicatedClusterSpec, Resources};

const LONGEST_KEY: usize = 317;
const LONGEST_LABEL_VALUE: usize = 63;
const LONGEST_QUANTITY: usize = 32;
/// Less is mostly a unit that is missing, or `m`, which is a thousandth.
const LEAST_MEMORY: &str = "64Mi";

/// The fields of `spec` that make a pod. A change of one of them restarts the instances.
///
/// Serialised, it holds only what was given: that is what the fingerprint of a StatefulSet is taken of.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// None: the one that belongs to the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

// Kubernetes' types compare by value and hold no floats; they only lack the word.
impl Eq for PodSettings {}

impl Hash for PodSettings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        serde_json::to_string(self)
            .expect("pod settings have string keys only")
            .hash(state);
    }
}

pub(super) fn check(spec: &ReplicatedClusterSpec, wrong: &mut Vec<Invalid>) -> PodSettings {
    if let Some(image) = &spec.image {
        name(
            "spec.image",
            image,
            &patterns::IMAGE,
            512,
            "an image",
            "write it as REGISTRY/NAME:TAG",
            wrong,
        );
    }
    check_secrets(&spec.image_pull_secrets, wrong);
    if let Some(resources) = &spec.resources {
        check_resources(resources, wrong);
    }
    for (index, constraint) in spec.topology_spread_constraints.iter().enumerate() {
        check_constraint(index, constraint, wrong);
    }
    check_labels("spec.nodeSelector", &spec.node_selector, false, wrong);
    if let Some(class) = &spec.priority_class_name {
        let remedy = "use a-z, 0-9, - and .";
        name(
            "spec.priorityClassName",
            class,
            &patterns::SUBDOMAIN,
            253,
            "a PriorityClass",
            remedy,
            wrong,
        );
    }
    if let Some(metadata) = &spec.pod_metadata {
        check_labels("spec.podMetadata.labels", &metadata.labels, true, wrong);
        check_annotations("spec.podMetadata.annotations", &metadata.annotations, wrong);
    }
    check_env(&spec.env, wrong);
    PodSettings {
        image: spec.image.clone(),
        image_pull_policy: spec.image_pull_policy,
        image_pull_secrets: spec.image_pull_secrets.clone(),
        resources: given(spec.resources.as_ref()),
        affinity: given(spec.affinity.as_ref()),
        topology_spread_constraints: spec.topology_spread_constraints.clone(),
        tolerations: spec.tolerations.clone(),
        node_selector: spec.node_selector.clone(),
        priority_class_name: spec.priority_class_name.clone(),
        pod_metadata: given(spec.pod_metadata.as_ref()),
        env: spec.env.clone(),
    }
}

/// A part that holds nothing means what leaving it out means.
fn given<T: Clone + Default + PartialEq>(part: Option<&T>) -> Option<T> {
    part.filter(|part| **part != T::default()).cloned()
}

fn name(
    path: &str,
    text: &str,
    pattern: &Pattern,
    most: usize,
    what: &str,
    remedy: &str,
    wrong: &mut Vec<Invalid>,
) {
    if text.len() > most || !pattern.matches(text) {
        wrong.push(Invalid::new(
            path,
            format!("\"{text}\": it can't name {what}"),
            remedy,
        ));
    }
}

fn check_secrets(secrets: &[LocalObjectReference], wrong: &mut Vec<Invalid>) {
    for (index, secret) in secrets.iter().enumerate() {
        let path = format!("spec.imagePullSecrets[{index}]");
        if secret.name.len() > 253 || !patterns::SUBDOMAIN.matches(&secret.name) {
            wrong.push(Invalid::new(
                path,
                format!("\"{}\": an entry can't name a Secret", secret.name),
                "use a-z, 0-9, - and .",
            ));
        } else if secrets.iter().take(index).any(|earlier| earlier == secret) {
            wrong.push(Invalid::new(
                path,
                format!("{} is given twice", secret.name),
                "keep one of them",
            ));
        }
    }
}

fn check_resources(resources: &Resources, wrong: &mut Vec<Invalid>) {
    for (part, all) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        for (key, quantity) in all {
            let path = format!("spec.resources.{part}.{key}");
            if key.len() > LONGEST_KEY || !patterns::RESOURCE.matches(key) {
                wrong.push(Invalid::new(
                    path,
                    "a key does not name a resource",
                    "use cpu, memory, ephemeral-storage or DOMAIN/NAME",
                ));
            } else if quantity.0.len() > LONGEST_QUANTITY
                || !patterns::QUANTITY.matches(&quantity.0)
            {
                wrong.push(Invalid::new(
                    path,
                    format!("\"{}\" is not a quantity", quantity.0),
                    "write it as 500m or 2Gi",
                ));
            }
        }
    }
    // Of others the API server's own judgement of the pod tells: its rules here are for these two.
    for key in ["cpu", "memory"] {
        let of = |all: &BTreeMap<String, Quantity>| billionths(&all.get(key)?.0);
        let above = of(&resources.requests)
            .zip(of(&resources.limits))
            .is_some_and(|(request, limit)| request > limit);
        if above {
            wrong.push(Invalid::new(
                "spec.resources",
                format!("more {key} is requested than the limit allows"),
                "raise the limit or lower the request",
            ));
        }
    }
    let memory = resources.limits.get("memory");
    let least = billionths(LEAST_MEMORY);
    if memory.is_some_and(|limit| billionths(&limit.0).is_some_and(|limit| Some(limit) < least)) {
        wrong.push(Invalid::new(
            "spec.resources",
            "the limit of memory is too low for an engine and its supervisor",
            format!("give at least {LEAST_MEMORY}"),
        ));
    }
}

fn check_constraint(index: usize, constraint: &TopologySpreadConstraint, wrong: &mut Vec<Invalid>) {
    let known = ["DoNotSchedule", "ScheduleAnyway"];
    let is_known = known.contains(&constraint.when_unsatisfiable.as_str());
    if constraint.max_skew < 1 || !is_known {
        wrong.push(Invalid::new(
            format!("spec.topologySpreadConstraints[{index}]"),
            "an entry has no maxSkew of at least 1 or an unknown whenUnsatisfiable",
            "write DoNotSchedule or ScheduleAnyway",
        ));
    }
}

fn check_key(path: &str, key: &str, owned_as: Option<&str>, wrong: &mut Vec<Invalid>) {
    if let Some(like) = owned_as {
        wrong.push(Invalid::new(
            path,
            format!("{key}: the operator owns keys like {like}"),
            "remove it",
        ));
    } else if key.len() > LONGEST_KEY || !patterns::KEY.matches(key) {
        wrong.push(Invalid::new(
            path,
            format!("{key}: a key is not one that Kubernetes takes"),
            "write it as NAME or DOMAIN/NAME",
        ));
    }
}

fn check_labels(
    path: &str,
    labels: &BTreeMap<String, String>,
    are_own: bool,
    wrong: &mut Vec<Invalid>,
) {
    for (key, value) in labels {
        let path = format!("{path}.{key}");
        let owned_as = owned_label(key).filter(|_| are_own);
        check_key(&path, key, owned_as, wrong);
        if value.len() > LONGEST_LABEL_VALUE || !patterns::LABEL_VALUE.matches(value) {
            wrong.push(Invalid::new(
                path,
                format!("\"{value}\": a value is not one that a label can have"),
                "use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
            ));
        }
    }
}

pub(super) fn check_annotations(
    path: &str,
    annotations: &BTreeMap<String, String>,
    wrong: &mut Vec<Invalid>,
) {
    for key in annotations.keys() {
        check_key(&format!("{path}.{key}"), key, owned_annotation(key), wrong);
    }
}

fn check_env(env: &[EnvVar], wrong: &mut Vec<Invalid>) {
    for (index, variable) in env.iter().enumerate() {
        let path = format!("spec.env[{index}]");
        let name = &variable.name;
        let has_value = variable.value.as_ref().is_some_and(|v| !v.is_empty());
        let earlier = env.iter().take(index).any(|e| e.name == *name);
        let finding = if !patterns::ENV_NAME.matches(name) {
            (
                format!("\"{name}\": an entry can't name an environment variable"),
                "use letters, digits, _, - and .",
            )
        } else if let Some(like) = owned_env(name) {
            (
                format!("{name}: the operator owns variables like {like}*"),
                "remove it",
            )
        } else if earlier {
            (format!("{name} is given twice"), "keep one of them")
        } else if has_value && variable.value_from.is_some() {
            (
                "an entry has value and valueFrom".to_owned(),
                "keep one of them",
            )
        } else {
            continue;
        };
        wrong.push(Invalid::new(path, finding.0, finding.1));
    }
}
