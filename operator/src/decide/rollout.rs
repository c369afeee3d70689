//! Instances that are made as their manifest says by now, as the conditions have it: who is away for that, and whether it
//! gets on. A rollout that does needs nobody. Decides nothing: by this only a warning is taken away.

use super::{Instance, Observed, planned};
use crate::api::SupervisorState;
use crate::crd::{ChangeKind, ConditionStatus, InstanceReport};
use crate::ids::Millis;
use crate::validate::ValidatedCluster;

/// A cluster that is not ready for so long is no ordinary rollout any more. A Deployment's has as long for each step, unless
/// it says otherwise.
pub(super) const STEP_MS: u64 = 600_000;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rollout {
    /// Something that does not go by with it keeps an instance from being ready, or it takes too long.
    pub fails: bool,
    /// The only one that is not ready, where nothing fails: they are renewed one at a time.
    pub away: Option<String>,
}

pub(super) fn look(
    cluster: &ValidatedCluster,
    observed: &Observed,
    instances: &[InstanceReport],
    now: Millis,
) -> Rollout {
    let Some(record) = observed.record.as_ref().filter(|_| !cluster.paused) else {
        return Rollout::default();
    };
    let is_concerned =
        |i: &Instance| i.upkeep.is_being_renewed() || planned::needs(i, record).is_some();
    if !observed.instances.values().any(is_concerned) {
        return Rollout::default();
    }
    let missing = || instances.iter().filter(|report| !report.ready);
    let reseed_after_ms = cluster.failover.reseed_after_ms;
    let may_stream = |i: &Instance| i.id().is_none_or(|id| observed.stuck(id) < reseed_after_ms);
    let all_get_on = missing().all(|report| {
        let instance = observed.instances.get(&report.name);
        instance.is_some_and(|i| gets_on(i) && may_stream(i))
    });
    let fails = !all_get_on || is_overdue(observed, now);
    let is_whole = instances.len() == cluster.replicas as usize + 1 && missing().count() == 1;
    let away = missing().next().filter(|_| is_whole && !fails);
    Rollout {
        fails,
        away: away.map(|report| report.name.clone()),
    }
}

/// Nothing is said against it: it is away for its renewal, or is heard and about to be ready.
fn gets_on(instance: &Instance) -> bool {
    let upkeep = &instance.upkeep;
    let Some(status) = instance.heard() else {
        let is_in_trouble = upkeep.lasting_trouble().is_some() || upkeep.away.is_some();
        return upkeep.comes_back() && !is_in_trouble;
    };
    let is_stuck = status.engine.as_ref().is_some_and(|e| e.replay_stuck);
    let is_down = status.down_ms > 0 || status.state == SupervisorState::Seeding;
    status.message.is_none() && !is_stuck && !is_down && !upkeep.crashes
}

fn is_overdue(observed: &Observed, now: Millis) -> bool {
    let mut conditions = observed.past.conditions.iter();
    let unready = conditions.find(|c| c.type_ == "Ready" && c.status == ConditionStatus::False);
    unready
        .and_then(|c| Millis::of_rfc3339(&c.last_transition_time))
        .is_some_and(|since| now.since(since) >= STEP_MS)
}

/// The primary that hands its role over, which takes no writes from then on.
pub(super) fn hands_over(observed: &Observed) -> Option<&str> {
    let change = observed.record.as_ref()?.change.as_ref()?;
    let old = change.old.as_ref()?;
    (change.kind == ChangeKind::Switchover).then_some(old.name.as_str())
}
