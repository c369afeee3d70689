//! What Kubernetes has to say of an instance's pod: whether it is as the manifest is, whether it has to go, why it does
//! not run.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt as _;

use super::is_cordoned;
use crate::decide::Upkeep;
use crate::render::{CONTAINER, FINGERPRINT};

/// Of one instance. `fingerprint` is the manifest's.
pub fn upkeep(
    fingerprint: &str,
    set: Option<&StatefulSet>,
    pod: Option<&Pod>,
    node: Option<&Node>,
) -> Upkeep {
    let outdated = set.is_some_and(|set| {
        let made_of = set.annotations().get(FINGERPRINT);
        made_of.map(String::as_str) != Some(fingerprint)
    });
    let deleted = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    Upkeep {
        outdated,
        renewing: !outdated && set.is_some_and(|set| is_rolling(set, pod)),
        going: deleted || node.is_some_and(is_cordoned),
        trouble: pod.and_then(trouble),
    }
}

/// The StatefulSet's controller has not got to the pod yet.
fn is_rolling(set: &StatefulSet, pod: Option<&Pod>) -> bool {
    let Some(status) = &set.status else {
        return true;
    };
    let seen = status.observed_generation >= set.metadata.generation;
    let revision = pod.and_then(|pod| pod.labels().get("controller-revision-hash"));
    let newest = status.update_revision.as_ref();
    !seen || (pod.is_some() && newest.is_some() && revision != newest)
}

/// Why the pod does not run, if it does not and somebody can do something about it.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
        .map(|c| said(c.reason.as_deref(), c.message.as_deref()));
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == CONTAINER);
    unscheduled.or_else(|| container.and_then(waits))
}

fn waits(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref();
    if matches!(reason, Some("ContainerCreating" | "PodInitializing") | None) {
        return None;
    }
    Some(said(reason, waiting.message.as_deref()))
}

fn said(reason: Option<&str>, message: Option<&str>) -> String {
    match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => "it waits".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(revision: &str, observed: i64) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"generation": 2, "annotations": {FINGERPRINT: "f"}},
            "status": {"replicas": 1, "observedGeneration": observed, "updateRevision": revision},
        }))
        .expect("a StatefulSet")
    }

    fn pod(revision: &str, status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"labels": {"controller-revision-hash": revision}},
            "status": status,
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_is_being_renewed_until_it_is_of_the_newest_revision() {
        let (old, new) = (pod("1", json!({})), pod("2", json!({})));
        let of = |set: &StatefulSet, pod: &Pod| upkeep("f", Some(set), Some(pod), None);
        assert!(of(&set("2", 2), &old).renewing);
        assert!(!of(&set("2", 2), &new).renewing);
        assert!(of(&set("2", 1), &new).renewing, "its controller is behind");
        assert!(upkeep("g", Some(&set("2", 2)), Some(&new), None).outdated);
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_said_in_kubernetes_words() {
        let waiting = |reason: &str| {
            let state = json!({"waiting": {"reason": reason, "message": "no such image"}});
            let container = json!({"name": CONTAINER, "image": "", "imageID": "", "ready": false,
                                   "restartCount": 0, "state": state});
            trouble(&pod("1", json!({"containerStatuses": [container]})))
        };
        assert_eq!(
            waiting("ImagePullBackOff").as_deref(),
            Some("ImagePullBackOff: no such image")
        );
        assert_eq!(waiting("ContainerCreating"), None);
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False",
                                 "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
        let said = trouble(&pod("1", unscheduled));
        assert_eq!(
            said.as_deref(),
            Some("Unschedulable: 0/3 nodes are available")
        );
    }

    #[test]
    fn who_has_to_go() {
        let cordoned: Node =
            serde_json::from_value(json!({"spec": {"unschedulable": true}})).expect("a node");
        assert!(upkeep("f", None, None, Some(&cordoned)).going);
        let mut pod = pod("1", json!({}));
        assert!(!upkeep("f", None, Some(&pod), None).going);
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert!(upkeep("f", None, Some(&pod), None).going);
    }
}
