//! What goes into `.status`: the reports of a plan, beside the record as it is.

use std::collections::BTreeMap;

use crate::crd::{
    Condition, ConditionStatus, FORCE_PROMOTE, HandledRequest, Phase, REPLACE_INSTANCE,
    ReplicatedCluster, ReplicatedClusterStatus, SWITCHOVER_TO,
};
use crate::decide::{Outcome, Plan, RequestKind, Swap};
use crate::ids::Millis;
use crate::reconcile::Seen;
use crate::validate::{Invalid, validate};

/// The reason of a spec that makes no sense.
const INVALID: &str = "InvalidSpec";

/// Somebody else changed the record first: nothing is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overtaken;

/// The record and the reports go into the newest object, if its record still has the version that was decided on. That
/// holds for reports alone too: those of a process that was frozen would take back what was written since.
pub(super) fn merge(
    object: &mut ReplicatedCluster,
    decided_on: Option<u64>,
    swap: Option<&Swap>,
    mut reports: ReplicatedClusterStatus,
) -> Result<(), Overtaken> {
    let now = object.status.clone().unwrap_or_default();
    let current = now.record();
    let version = current.as_ref().map(|record| record.record_version);
    if version != decided_on || swap.is_some_and(|swap| swap.expect != version) {
        return Err(Overtaken);
    }
    if let Some(record) = swap.map(|swap| swap.record.clone()).or(current) {
        reports.set_record(record);
    }
    reports.handled_requests = now.handled_requests;
    reports.keep_within_bounds();
    object.status = Some(reports);
    Ok(())
}

/// Writes down what is answered now, and of older answers whose annotation is gone that it is. Nothing is answered twice.
pub(super) fn note_handled(
    object: &mut ReplicatedCluster,
    outcomes: &[Outcome],
) -> Result<(), Overtaken> {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let Some(status) = object.status.as_mut() else {
        return Ok(());
    };
    let all = &mut status.handled_requests;
    for request in all.iter_mut() {
        request.done |= !stands(&annotations, request);
    }
    for outcome in outcomes {
        let annotation = annotation_of(outcome.request);
        let same = |known: &HandledRequest| {
            !known.done && known.annotation == annotation && known.is_of(&outcome.text)
        };
        if all.iter().any(same) {
            return Err(Overtaken);
        }
        let mut request = HandledRequest {
            annotation: annotation.to_owned(),
            text: outcome.text.clone(),
            reason: Some(outcome.event.reason.to_owned()),
            message: Some(outcome.event.message.clone()),
            at: Some(Millis::now().rfc3339()),
            done: false,
        };
        request.keep_within_bounds();
        request.done = !stands(&annotations, &request);
        all.retain(|known| known.annotation != annotation);
        all.push(request);
    }
    Ok(())
}

fn stands(annotations: &BTreeMap<String, String>, request: &HandledRequest) -> bool {
    let text = annotations.get(&request.annotation);
    text.is_some_and(|text| request.is_of(text))
}

/// Answered requests whose annotation still has to go, whoever answered them.
pub(super) fn open_requests(object: &ReplicatedCluster) -> Vec<HandledRequest> {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let all = object.status.iter().flat_map(|s| &s.handled_requests);
    all.filter(|request| !request.done && stands(&annotations, request))
        .cloned()
        .collect()
}

/// Whether some answered request's annotation is gone and the status does not say so yet.
pub(super) fn has_withdrawn(object: &ReplicatedCluster) -> bool {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let mut all = object.status.iter().flat_map(|s| &s.handled_requests);
    all.any(|request| !request.done && !stands(&annotations, request))
}

/// The annotations of these very requests were taken off. True if the status did not say so.
pub(super) fn mark_done(object: &mut ReplicatedCluster, gone: &[HandledRequest]) -> bool {
    let all = object
        .status
        .iter_mut()
        .flat_map(|s| &mut s.handled_requests);
    let mut is_news = false;
    for request in all.filter(|request| gone.contains(request)) {
        is_news |= !request.done;
        request.done = true;
    }
    is_news
}

/// Takes answered requests off the object, unless they have changed meanwhile. True if there was one.
pub(super) fn consume(object: &mut ReplicatedCluster, outcomes: &[Outcome]) -> bool {
    let Some(annotations) = object.metadata.annotations.as_mut() else {
        return false;
    };
    let before = annotations.len();
    for outcome in outcomes {
        let key = annotation_of(outcome.request);
        if annotations.get(key) == Some(&outcome.text) {
            annotations.remove(key);
        }
    }
    annotations.len() < before
}

/// The annotation that asks for it.
pub(super) fn annotation_of(request: RequestKind) -> &'static str {
    match request {
        RequestKind::SwitchoverTo => SWITCHOVER_TO,
        RequestKind::ForcePromote => FORCE_PROMOTE,
        RequestKind::ReplaceInstance => REPLACE_INSTANCE,
    }
}

/// The reports that the plan makes, beside the record as it was.
pub(super) fn reports(
    before: &ReplicatedClusterStatus,
    plan: &Plan,
    seen: &Seen,
) -> ReplicatedClusterStatus {
    let mut after = before.clone();
    after.conditions = dated(&plan.conditions, &before.conditions);
    let record = plan
        .swap
        .as_ref()
        .map(|s| s.record.clone())
        .or_else(|| before.record());
    let serving = record.as_ref().filter(|r| r.phase == Phase::Running);
    after.current_primary = serving
        .and_then(|r| r.primary.as_ref())
        .map(|p| p.name.clone());
    after.timeline = serving.map(|r| r.term).or(before.timeline);
    // Until another one has the role it is nobody else's: autoscalers read the number while it moves, too.
    let holder = record.as_ref().and_then(|r| r.primary.as_ref());
    let standbys = plan
        .instances
        .iter()
        .filter(|i| holder.is_none_or(|holder| holder.name != i.name));
    after.replicas = u32::try_from(standbys.count()).unwrap_or(u32::MAX);
    let name = seen.cluster.metadata.name.as_deref().unwrap_or("");
    after.selector = Some(format!(
        "understudy.dev/cluster={name},understudy.dev/role=standby"
    ));
    after.observed_generation = seen.cluster.metadata.generation.unwrap_or(0);
    after.instances.clone_from(&plan.instances);
    after.count_ready(seen.cluster.spec.replicas as usize + 1);
    after.last_failover.clone_from(&plan.last_failover);
    after.last_switchover.clone_from(&plan.last_switchover);
    finish(&mut after, before, seen);
    after
}

/// What holds for every report: it fits the schema, and a refusal stays as long as the spec makes no sense.
pub(super) fn finish(
    after: &mut ReplicatedClusterStatus,
    before: &ReplicatedClusterStatus,
    seen: &Seen,
) {
    let refused = before.conditions.iter().find(|c| c.reason == INVALID);
    if let Some(refused) = refused
        && validate(&seen.cluster).is_err()
    {
        after.conditions.retain(|c| c.type_ != refused.type_);
        after.conditions.push(refused.clone());
    }
    after.keep_within_bounds();
}

/// Conditions with the time since when they are so.
pub(super) fn dated(new: &[Condition], old: &[Condition]) -> Vec<Condition> {
    let now = Millis::now().rfc3339();
    let dated = |condition: &Condition| Condition {
        last_transition_time: since(condition, old, &now),
        ..condition.clone()
    };
    new.iter().map(dated).collect()
}

/// Since when it has the status that it has, for whatever reason.
fn since(condition: &Condition, old: &[Condition], now: &str) -> String {
    let is_so = |c: &&Condition| c.type_ == condition.type_ && c.status == condition.status;
    let before = old
        .iter()
        .find(is_so)
        .map(|c| c.last_transition_time.as_str());
    before.filter(|at| !at.is_empty()).unwrap_or(now).to_owned()
}

/// What `Ready` says of a spec that makes no sense; none if it is said already, of this very generation: whoever waits for a
/// condition goes by that.
pub(super) fn refusal(seen: &Seen, findings: &[Invalid]) -> Option<Condition> {
    let message = findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    let mut refused = Condition {
        type_: "Ready".to_owned(),
        status: ConditionStatus::False,
        reason: INVALID.to_owned(),
        message,
        observed_generation: seen.cluster.metadata.generation.unwrap_or(0),
        last_transition_time: Millis::now().rfc3339(),
    };
    refused.keep_within_bounds();
    let known = said_before(seen, &refused);
    known
        .is_none_or(|known| known.observed_generation != refused.observed_generation)
        .then_some(refused)
}

/// Whether it is refused for another reason than before. That something else was changed is no news.
pub(super) fn is_news(seen: &Seen, refused: &Condition) -> bool {
    said_before(seen, refused).is_none()
}

/// The condition that says the same, of whatever generation.
fn said_before<'a>(seen: &'a Seen, refused: &Condition) -> Option<&'a Condition> {
    let mut before = seen.observed.past.conditions.iter();
    before.find(|c| c.reason == refused.reason && c.message == refused.message)
}

/// The refusal stands where `Ready` stood.
pub(super) fn put_refusal(object: &mut ReplicatedCluster, mut refused: Condition) {
    let status = object.status.get_or_insert_default();
    refused.last_transition_time = since(&refused, &status.conditions, &Millis::now().rfc3339());
    status.conditions.retain(|c| c.type_ != refused.type_);
    status.conditions.push(refused);
}

/// Without positions that move with every commit: these are no reason to write.
pub(super) fn quiet(status: &ReplicatedClusterStatus) -> ReplicatedClusterStatus {
    let mut quiet = status.clone();
    for instance in &mut quiet.instances {
        instance.flush_lsn = None;
        instance.replay_lsn = None;
        instance.lag_bytes = None;
    }
    quiet
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{InstanceReport, InstanceRole, LagClass};
    use crate::decide::Event;
    use crate::ids::{InstanceId, Lsn, Term};

    fn object(annotations: Value, status: Value) -> ReplicatedCluster {
        serde_json::from_value(json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": "orders", "annotations": annotations},
            "spec": {"storage": {"size": "1Gi"}}, "status": status,
        }))
        .expect("reads")
    }

    fn record(version: u64) -> Value {
        json!({"recordVersion": version, "term": 1, "phase": "Running", "inSync": []})
    }

    fn refused(text: &str) -> Outcome {
        Outcome {
            request: RequestKind::SwitchoverTo,
            text: text.to_owned(),
            event: Event {
                reason: "SwitchoverRefused",
                warning: true,
                message: "none can now".to_owned(),
            },
        }
    }

    #[test]
    fn reports_of_an_older_record_are_not_written() {
        let mut now = object(json!({}), record(3));
        let reports = ReplicatedClusterStatus {
            current_primary: Some("orders-1-0".to_owned()),
            ..ReplicatedClusterStatus::default()
        };
        assert_eq!(
            merge(&mut now, Some(2), None, reports.clone()),
            Err(Overtaken)
        );
        assert_eq!(merge(&mut now, None, None, reports.clone()), Err(Overtaken));
        assert_eq!(merge(&mut now, Some(3), None, reports), Ok(()));
        let status = now.status.expect("a status");
        assert_eq!(status.current_primary.as_deref(), Some("orders-1-0"));
        assert_eq!(status.record().map(|r| r.record_version), Some(3));
    }

    /// The same word again is another request, once the first one's annotation is gone.
    #[test]
    fn a_request_that_was_refused_can_be_made_again() {
        let asked = json!({SWITCHOVER_TO: "any"});
        let mut object = object(asked, record(1));
        note_handled(&mut object, &[refused("any")]).expect("first");
        let open = open_requests(&object);
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].reason.as_deref(), Some("SwitchoverRefused"));
        // Another operator, or this one after a restart: it was answered, and only has to go.
        assert_eq!(note_handled(&mut object, &[refused("any")]), Err(Overtaken));
        // The annotation is taken off, and asked for again before the status says so.
        assert!(mark_done(&mut object, &open) && !mark_done(&mut object, &open));
        assert!(open_requests(&object).is_empty() && !has_withdrawn(&object));
        note_handled(&mut object, &[refused("any")]).expect("asked anew");
        let status = object.status.as_ref().expect("a status");
        assert_eq!(status.handled_requests.len(), 1, "one of each kind");
        assert_eq!(open_requests(&object).len(), 1);
    }

    #[test]
    fn an_operator_that_died_in_between_leaves_nothing_that_hides_the_next_request() {
        let mut object = object(json!({SWITCHOVER_TO: "any"}), record(1));
        note_handled(&mut object, &[refused("any")]).expect("answered");
        // It took the annotation off and died.
        object.metadata.annotations = None;
        assert!(has_withdrawn(&object));
        note_handled(&mut object, &[]).expect("noted");
        let status = object.status.as_ref().expect("a status");
        assert!(status.handled_requests[0].done && !has_withdrawn(&object));
        assert_eq!(
            status.handled_requests[0].message.as_deref(),
            Some("none can now")
        );
    }

    #[test]
    fn what_others_have_answered_meanwhile_stays_noted() {
        let mut object = object(json!({SWITCHOVER_TO: "any"}), record(1));
        note_handled(&mut object, &[refused("any")]).expect("answered");
        merge(
            &mut object,
            Some(1),
            None,
            ReplicatedClusterStatus::default(),
        )
        .expect("the same record");
        assert_eq!(open_requests(&object).len(), 1);
    }

    #[test]
    fn the_scale_sub_resource_counts_and_selects_standbys_only() {
        let status = json!({"recordVersion": 1, "term": 1, "phase": "Running", "inSync": [],
                            "primary": {"name": "orders-2", "id": "b"}});
        let cluster = object(json!({}), status);
        let before = cluster.status.clone().expect("a status");
        let seen = Seen {
            cluster,
            observed: crate::decide::Observed::default(),
        };
        let mut plan = Plan::default();
        let report = |name: &str| -> crate::crd::InstanceReport {
            let report = json!({"name": name, "role": "Standby", "ready": true, "inSync": true});
            serde_json::from_value(report).expect("a report")
        };
        plan.instances
            .extend(["orders-1", "orders-2", "orders-3"].map(report));
        let after = reports(&before, &plan, &seen);
        assert_eq!(after.current_primary.as_deref(), Some("orders-2"));
        assert_eq!(after.instances_ready.as_deref(), Some("3/3"));
        assert_eq!(after.replicas, 2);
        // While the role moves there are as many as before and after.
        let mut moving = seen.clone();
        let status = moving.cluster.status.get_or_insert_default();
        status.phase = Some(Phase::FailingOver);
        let before = status.clone();
        let moving = reports(&before, &plan, &moving);
        assert_eq!((moving.current_primary, moving.replicas), (None, 2));
        let selector = "understudy.dev/cluster=orders,understudy.dev/role=standby";
        assert_eq!(after.selector.as_deref(), Some(selector));
    }

    /// `kubectl wait` passes over conditions of an older generation, and people count from the last transition.
    #[test]
    fn a_refusal_is_of_the_newest_generation_and_dates_from_when_it_began() {
        let mut seen = Seen {
            cluster: object(json!({}), json!({})),
            observed: crate::decide::Observed::default(),
        };
        let mut refuse = |generation: i64, setting: &str| {
            seen.cluster.metadata.generation = Some(generation);
            let parameter = (setting.to_owned(), "1".to_owned());
            seen.cluster.spec.parameters = BTreeMap::from([parameter]);
            let findings = validate(&seen.cluster).expect_err("it is the operator's");
            let refused = refusal(&seen, &findings)?;
            let news = is_news(&seen, &refused);
            put_refusal(&mut seen.cluster, refused);
            let status = seen.cluster.status.as_mut().expect("a status");
            let ready = &mut status.conditions[0];
            let dated = std::mem::replace(&mut ready.last_transition_time, "then".to_owned());
            let of = ready.observed_generation;
            seen.observed.past.conditions.clone_from(&status.conditions);
            Some((news, of, dated == "then"))
        };
        assert_eq!(refuse(1, "port"), Some((true, 1, false)));
        assert_eq!(refuse(1, "port"), None, "it is said already");
        assert_eq!(refuse(2, "port"), Some((false, 2, true)));
        assert_eq!(refuse(2, "cluster_name"), Some((true, 2, true)));
    }

    #[test]
    fn a_refusal_stays_as_long_as_the_spec_makes_no_sense() {
        let condition = json!({"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "m",
                               "observedGeneration": 1, "lastTransitionTime": "t"});
        let mut cluster = object(json!({}), json!({"conditions": [condition]}));
        cluster.spec.parameters = BTreeMap::from([("port".to_owned(), "1".to_owned())]);
        let before = cluster.status.clone().expect("a status");
        let mut seen = Seen {
            cluster,
            observed: crate::decide::Observed::default(),
        };
        let mut plan = Plan::default();
        plan.conditions.push(Condition {
            reason: "AllReady".to_owned(),
            ..before.conditions[0].clone()
        });
        assert_eq!(reports(&before, &plan, &seen).conditions, before.conditions);
        seen.cluster.spec.parameters.clear();
        let healed = reports(&before, &plan, &seen).conditions;
        assert_eq!(healed[0].reason, "AllReady");
    }

    /// Of an instance's report: what moves with every commit.
    const MOVES: [&str; 3] = ["flushLsn", "lagBytes", "replayLsn"];

    /// A status with an instance of which everything is known.
    fn whole() -> Value {
        let instance = InstanceReport {
            name: "orders-2".to_owned(),
            id: Some(InstanceId::new("b")),
            role: InstanceRole::Standby,
            ready: true,
            in_sync: true,
            node: Some("node2".to_owned()),
            lag: Some(LagClass::Near),
            timeline: Some(Term::new(3)),
            flush_lsn: Some(Lsn::new(7)),
            replay_lsn: Some(Lsn::new(6)),
            lag_bytes: Some(1),
            supervisor_pid: Some(2),
            engine_pid: Some(3),
            port: Some(5432),
            message: Some("it streams".to_owned()),
        };
        let condition = json!({"type": "Ready", "status": "True", "reason": "AllReady", "message": "m",
                               "observedGeneration": 1, "lastTransitionTime": "t"});
        json!({
            "recordVersion": 1, "term": 3, "phase": "Running", "inSync": [], "conditions": [condition],
            "observedGeneration": 1, "currentPrimary": "orders-1-0", "instancesReady": "2/2", "timeline": 3,
            "instances": [instance], "readyInstances": 2, "replicas": 1, "selector": "a=b",
        })
    }

    /// The whole status, with something else at this place.
    fn with(place: &str, value: &Value) -> ReplicatedClusterStatus {
        let mut status = whole();
        *status.pointer_mut(place).expect(place) = value.clone();
        serde_json::from_value(status).expect(place)
    }

    /// A busy database's status would be written with each look at it otherwise, and sent to everybody who watches.
    #[test]
    fn positions_that_move_are_no_reason_to_write() {
        let before: ReplicatedClusterStatus = serde_json::from_value(whole()).expect("a status");
        for (name, value) in MOVES.iter().zip([json!("0/8"), json!(2), json!("0/7")]) {
            for value in [value, Value::Null] {
                let after = with(&format!("/instances/0/{name}"), &value);
                assert_ne!(before, after, "{name}");
                assert_eq!(quiet(&before), quiet(&after), "{name}: {value}");
            }
        }
    }

    #[test]
    fn everything_else_that_changes_of_an_instance_is_written() {
        let before: ReplicatedClusterStatus = serde_json::from_value(whole()).expect("a status");
        let changes = [
            ("name", json!("orders-3")),
            ("id", json!("c")),
            ("role", json!("Sealed")),
            ("ready", json!(false)),
            ("inSync", json!(false)),
            ("node", json!("node3")),
            ("lag", json!("Behind")),
            ("timeline", json!(4)),
            ("supervisorPid", json!(8)),
            ("enginePid", json!(9)),
            ("port", json!(5433)),
            ("message", Value::Null),
        ];
        for (name, value) in &changes {
            let after = with(&format!("/instances/0/{name}"), value);
            assert_ne!(quiet(&before), quiet(&after), "{name}");
        }
        // A field that comes with a newer version needs a line above.
        let status = whole();
        let report = status["instances"][0].as_object().expect("a report");
        for name in report.keys() {
            let is_known =
                MOVES.contains(&name.as_str()) || changes.iter().any(|(of, _)| of == name);
            assert!(is_known, "{name}: is it a reason to write?");
        }
        let gone = with("/instances", &json!([]));
        assert_ne!(quiet(&before), quiet(&gone));
    }

    #[test]
    fn everything_else_that_changes_of_the_cluster_is_written() {
        let before: ReplicatedClusterStatus = serde_json::from_value(whole()).expect("a status");
        for (place, value) in [
            ("/recordVersion", json!(2)),
            ("/term", json!(4)),
            ("/phase", json!("FailingOver")),
            ("/conditions", json!([])),
            ("/conditions/0/type", json!("Degraded")),
            ("/conditions/0/status", json!("Unknown")),
            ("/conditions/0/reason", json!("VolumeFull")),
            ("/conditions/0/message", json!("n")),
            ("/conditions/0/observedGeneration", json!(2)),
            ("/conditions/0/lastTransitionTime", json!("u")),
            ("/observedGeneration", json!(2)),
            ("/currentPrimary", Value::Null),
            ("/instancesReady", json!("1/2")),
            ("/timeline", json!(4)),
            ("/readyInstances", json!(1)),
            ("/replicas", json!(2)),
            ("/selector", json!("a=c")),
        ] {
            let after = with(place, &value);
            assert_ne!(quiet(&before), quiet(&after), "{place}");
        }
    }
}
