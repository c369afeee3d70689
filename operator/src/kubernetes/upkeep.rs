//! What Kubernetes has to say of an instance's pod: whether it is as the manifest is, whether it has to go, why it does
//! not run.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

use super::is_cordoned;
use crate::crd::REPLACE_INSTANCE;
use crate::decide::Upkeep;
use crate::render::{CONTAINER, FINGERPRINT};

/// Of one instance. `fingerprint` is the manifest's. By one that is refused nothing is made anew: whatever template there is
/// stays.
pub fn upkeep(
    fingerprint: Option<&str>,
    set: Option<&StatefulSet>,
    pod: Option<&Pod>,
    node: Option<&Node>,
) -> Upkeep {
    let outdated = set.is_some_and(|set| {
        let made_of = set.annotations().get(FINGERPRINT);
        fingerprint.is_some() && made_of.map(String::as_str) != fingerprint
    });
    let ending = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let renewed = !outdated && set.is_some_and(is_unproven);
    Upkeep {
        outdated,
        renewing: !outdated && set.is_some_and(|set| is_rolling(set, pod)),
        renewed,
        crashes: renewed && set.zip(pod).is_some_and(|(set, pod)| has_crashed(set, pod)),
        going: ending || node.is_some_and(is_cordoned),
        ending,
        // Whoever knows who is heard says it.
        forced: false,
        trouble: pod.and_then(trouble),
        // Whoever looks again and again counts it.
        trouble_ms: 0,
        away: node.and_then(away),
        // The kubelet ends a supervisor that hangs.
        hangs: false,
    }
}

/// What is in the way of a pod, with what helps where no node can have the volume that it was given: the pod waits for a
/// node that may never come back, and nobody else says so.
pub fn with_remedy(trouble: String, claim: Option<&PersistentVolumeClaim>) -> String {
    let volume = claim
        .and_then(|claim| claim.spec.as_ref()?.volume_name.as_ref())
        .filter(|volume| !volume.is_empty());
    match volume {
        Some(volume) if trouble.to_lowercase().contains("volume") => format!(
            "{trouble}; it has the volume {volume}: bring its node back, or, where that never comes back and the instance \
             is not the primary, {REPLACE_INSTANCE} makes it anew on another volume"
        ),
        _ => trouble,
    }
}

/// Kubernetes does not hear of the pod's node: what is there may run, or be lost for good.
fn away(node: &Node) -> Option<String> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    let not_ready = conditions.find(|c| c.type_ == "Ready" && c.status != "True")?;
    let reason = not_ready.reason.as_deref().unwrap_or("Unknown");
    let name = node.name_any();
    Some(format!(
        "its node {name} is not ready ({reason}): bring it back, or, where it never comes back and the instance is not the \
         primary, {REPLACE_INSTANCE} makes it anew on another node"
    ))
}

/// The uid of what Kubernetes does not get on with, or has only just begun with: a StatefulSet without its pod, a pod whose
/// container has not begun. Of these nothing but events tells.
pub fn stuck(set: Option<&StatefulSet>, pod: Option<&Pod>) -> Option<String> {
    let metadata = match (set, pod) {
        (Some(set), None) => &set.metadata,
        (_, Some(pod)) if !has_begun(pod) => &pod.metadata,
        _ => return None,
    };
    let uid = metadata.uid.clone();
    uid.filter(|_| metadata.deletion_timestamp.is_none())
}

/// The container runs, has run, or says itself why it does not.
fn has_begun(pod: &Pod) -> bool {
    container_of(pod).is_some_and(|container| {
        let state = container.state.as_ref();
        let ran = state.is_some_and(|s| s.running.is_some() || s.terminated.is_some());
        ran || waits(container).is_some()
    })
}

/// The newest word of these events, if it is a complaint. One that something better has followed is none.
pub fn complaint(events: &[Event]) -> Option<String> {
    let newest = events.iter().max_by_key(|event| {
        let again = event
            .series
            .as_ref()
            .and_then(|s| s.last_observed_time.as_ref());
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let at = again.map(|time| time.0).max(last);
        let begun = event.event_time.as_ref().map(|time| time.0);
        (at.max(begun), is_warning(event))
    })?;
    is_warning(newest).then(|| said(newest.reason.as_deref(), newest.message.as_deref()))
}

fn is_warning(event: &Event) -> bool {
    event.type_.as_deref() == Some("Warning")
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

/// The StatefulSet's controller takes a revision for its current one when the pod that is made of it is ready.
fn is_unproven(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        let both = status
            .current_revision
            .as_ref()
            .zip(status.update_revision.as_ref());
        both.is_some_and(|(current, newest)| current != newest)
    })
}

/// It is of the newest revision, and its container has ended before.
fn has_crashed(set: &StatefulSet, pod: &Pod) -> bool {
    let newest = set.status.as_ref().and_then(|s| s.update_revision.as_ref());
    let is_new = pod.labels().get("controller-revision-hash") == newest;
    is_new && container_of(pod).is_some_and(|container| container.restart_count > 0)
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
    unscheduled.or_else(|| container_of(pod).and_then(waits))
}

fn container_of(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|container| container.name == CONTAINER)
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
        let of = |set: &StatefulSet, pod: &Pod| upkeep(Some("f"), Some(set), Some(pod), None);
        assert!(of(&set("2", 2), &old).renewing);
        assert!(!of(&set("2", 2), &new).renewing);
        assert!(of(&set("2", 1), &new).renewing, "its controller is behind");
        assert!(upkeep(Some("g"), Some(&set("2", 2)), Some(&new), None).outdated);
    }

    #[test]
    fn a_renewal_is_over_when_the_new_pod_has_been_ready() {
        let is_renewed = |current: &str, fingerprint: &str| {
            let mut set = set("2", 2);
            let status = set.status.as_mut().expect("it has one");
            status.current_revision = Some(current.to_owned());
            upkeep(Some(fingerprint), Some(&set), None, None).renewed
        };
        assert!(is_renewed("1", "f"));
        assert!(!is_renewed("2", "f"));
        assert!(!is_renewed("1", "g"), "it is only to be renewed");
        let new = set("2", 2);
        assert!(!upkeep(Some("f"), Some(&new), None, None).renewed);
    }

    /// It may do so again and again, and run for a moment each time.
    #[test]
    fn a_new_pod_that_ends_before_it_is_ready_crashes() {
        let set = |current: &str| {
            let mut set = set("2", 2);
            let status = set.status.as_mut().expect("it has one");
            status.current_revision = Some(current.to_owned());
            set
        };
        let crashes = |current: &str, revision: &str, restarts: i32| {
            let container = json!({"name": CONTAINER, "image": "", "imageID": "", "ready": false,
                                   "restartCount": restarts});
            let pod = pod(revision, json!({"containerStatuses": [container]}));
            upkeep(Some("f"), Some(&set(current)), Some(&pod), None).crashes
        };
        assert!(!crashes("1", "2", 0));
        assert!(crashes("1", "2", 1));
        assert!(!crashes("1", "1", 1), "the old one is about to go");
        assert!(!crashes("2", "2", 1), "it has been ready");
    }

    /// A drained node is left all the same, and a pod that is on its way is waited for.
    #[test]
    fn by_a_refused_manifest_no_pod_is_made_anew() {
        let (old, new) = (pod("1", json!({})), pod("2", json!({})));
        let cordoned: Node =
            serde_json::from_value(json!({"metadata": {}, "spec": {"unschedulable": true}}))
                .expect("a node");
        let found = upkeep(None, Some(&set("2", 2)), Some(&new), Some(&cordoned));
        assert!(!found.outdated && !found.renewing && found.going);
        let found = upkeep(None, Some(&set("2", 2)), Some(&old), None);
        assert!(!found.outdated && found.renewing && !found.going);
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

    /// Nobody calls `replace-instance` who is not told that it takes that.
    #[test]
    fn a_node_that_is_not_heard_is_named_with_what_helps() {
        let away = |ready: &str| {
            let conditions = json!([
                {"type": "MemoryPressure", "status": "Unknown"},
                {"type": "Ready", "status": ready, "reason": "NodeStatusUnknown"},
            ]);
            let node =
                json!({"metadata": {"name": "node-2"}, "status": {"conditions": conditions}});
            let node: Node = serde_json::from_value(node).expect("a node");
            upkeep(Some("f"), None, None, Some(&node)).away
        };
        assert_eq!(away("True"), None);
        for status in ["Unknown", "False"] {
            let said = away(status).unwrap_or_default();
            let words = ["node-2", "NodeStatusUnknown", REPLACE_INSTANCE];
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        assert_eq!(upkeep(Some("f"), None, None, None).away, None);
    }

    #[test]
    fn a_pod_that_can_not_get_at_its_volume_is_told_of_with_what_helps() {
        let claim = |spec: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a claim")
        };
        let bound = claim(json!({"volumeName": "pv-7"}));
        let told = |trouble: &str, claim: Option<&PersistentVolumeClaim>| {
            let said = with_remedy(trouble.to_owned(), claim);
            assert!(said.starts_with(trouble), "{said}");
            said.contains(REPLACE_INSTANCE) && said.contains("pv-7")
        };
        for trouble in [
            "Unschedulable: 0/3 nodes are available: 1 node(s) had volume node affinity conflict",
            "Unschedulable: 1 node(s) didn't match PersistentVolume's node affinity",
        ] {
            assert!(told(trouble, Some(&bound)));
            assert!(!told(trouble, Some(&claim(json!({})))), "it has none yet");
            assert!(!told(trouble, None));
        }
        assert!(!told("Unschedulable: Insufficient cpu", Some(&bound)));
    }

    #[test]
    fn who_has_to_go() {
        let cordoned: Node =
            serde_json::from_value(json!({"spec": {"unschedulable": true}})).expect("a node");
        let has_to = |pod: Option<&Pod>, node: Option<&Node>| {
            let found = upkeep(Some("f"), None, pod, node);
            (found.going, found.ending)
        };
        assert_eq!(has_to(None, Some(&cordoned)), (true, false));
        let mut pod = pod("1", json!({}));
        assert_eq!(has_to(Some(&pod), None), (false, false));
        assert_eq!(has_to(Some(&pod), Some(&cordoned)), (true, false));
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert_eq!(has_to(Some(&pod), None), (true, true));
    }

    #[test]
    fn what_does_not_get_on_is_asked_about_and_what_speaks_for_itself_is_not() {
        let mut set = set("1", 2);
        set.metadata.uid = Some("s".to_owned());
        let with = |status: Value| {
            let mut pod = pod("1", status);
            pod.metadata.uid = Some("p".to_owned());
            pod
        };
        let in_state = |state: Value| {
            let container = json!({"name": CONTAINER, "image": "", "imageID": "", "ready": false,
                                   "restartCount": 0, "state": state});
            with(json!({"containerStatuses": [container]}))
        };
        assert_eq!(
            stuck(Some(&set), None),
            Some("s".to_owned()),
            "no pod is made"
        );
        let waiting = |reason: &str| in_state(json!({"waiting": {"reason": reason}}));
        let mounts = waiting("ContainerCreating");
        assert_eq!(stuck(Some(&set), Some(&mounts)), Some("p".to_owned()));
        assert_eq!(stuck(None, Some(&with(json!({})))), Some("p".to_owned()));
        assert_eq!(stuck(Some(&set), Some(&waiting("ImagePullBackOff"))), None);
        let runs = in_state(json!({"running": {}}));
        assert_eq!(stuck(Some(&set), Some(&runs)), None);
        set.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert_eq!(stuck(Some(&set), None), None);
        assert_eq!(stuck(None, None), None);
    }

    #[test]
    fn the_last_word_of_the_events_counts() {
        let event = |type_: &str, note: &str, at: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "type": type_, "reason": "FailedCreate",
                                          "message": note, "lastTimestamp": at}))
            .expect("an event")
        };
        let claim = event("Normal", "the claim is made", "2026-01-01T00:00:01Z");
        let quota = event("Warning", "exceeded quota", "2026-01-01T00:00:01Z");
        let class = event("Warning", "no PriorityClass", "2026-01-01T00:00:09Z");
        let made = event("Normal", "it is made", "2026-01-01T00:00:30Z");
        let told = |events: &[&Event]| {
            complaint(
                &events
                    .iter()
                    .map(|event| (*event).clone())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(told(&[]), None);
        let words = told(&[&quota, &claim]);
        assert_eq!(words.as_deref(), Some("FailedCreate: exceeded quota"));
        let words = told(&[&class, &quota, &claim]);
        assert_eq!(words.as_deref(), Some("FailedCreate: no PriorityClass"));
        assert_eq!(told(&[&class, &made]), None);
        let mut again = quota.clone();
        again.series = serde_json::from_value(
            json!({"count": 3, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}),
        )
        .ok();
        let words = told(&[&made, &again]);
        assert_eq!(words.as_deref(), Some("FailedCreate: exceeded quota"));
    }
}
