//! What goes into `.status`: the reports of a plan, beside the record as it is.

use crate::crd::{
    Condition, ConditionStatus, FORCE_PROMOTE, Phase, REPLACE_INSTANCE, ReplicatedCluster,
    ReplicatedClusterStatus, SWITCHOVER_TO,
};
use crate::decide::{Outcome, Plan, RequestKind, Swap};
use crate::ids::Millis;
use crate::reconcile::Seen;
use crate::validate::Invalid;

/// Somebody else changed the record first: nothing is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overtaken;

/// The record and the reports go into the newest object, if the record is still the one that was decided on.
pub(super) fn merge(
    object: &mut ReplicatedCluster,
    swap: Option<&Swap>,
    mut reports: ReplicatedClusterStatus,
) -> Result<(), Overtaken> {
    let current = object.status.clone().unwrap_or_default().record();
    if let Some(swap) = swap {
        if current.as_ref().map(|r| r.record_version) != swap.expect {
            return Err(Overtaken);
        }
        reports.set_record(swap.record.clone());
    } else if let Some(record) = current {
        reports.set_record(record);
    }
    object.status = Some(reports);
    Ok(())
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
    let standbys = plan
        .instances
        .iter()
        .filter(|i| Some(&i.name) != after.current_primary.as_ref());
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
    after
}

/// Conditions with the time since when they are so.
pub(super) fn dated(new: &[Condition], old: &[Condition]) -> Vec<Condition> {
    let now = Millis::now().rfc3339();
    new.iter()
        .map(|condition| {
            let since = old
                .iter()
                .find(|c| c.type_ == condition.type_)
                .filter(|c| c.status == condition.status && !c.last_transition_time.is_empty())
                .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
            Condition {
                last_transition_time: since,
                ..condition.clone()
            }
        })
        .collect()
}

/// What `Ready` says of a spec that makes no sense; none if it is said already.
pub(super) fn refusal(seen: &Seen, findings: &[Invalid]) -> Option<Condition> {
    let message = findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    let refused = Condition {
        type_: "Ready".to_owned(),
        status: ConditionStatus::False,
        reason: "InvalidSpec".to_owned(),
        message,
        observed_generation: seen.cluster.metadata.generation.unwrap_or(0),
        last_transition_time: Millis::now().rfc3339(),
    };
    let known = seen
        .observed
        .past
        .conditions
        .iter()
        .any(|c| c.reason == refused.reason && c.message == refused.message);
    (!known).then_some(refused)
}

/// The refusal stands where `Ready` stood.
pub(super) fn put_refusal(object: &mut ReplicatedCluster, refused: Condition) {
    let status = object.status.get_or_insert_default();
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
