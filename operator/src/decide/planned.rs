//! What is done on purpose while everything runs: a switchover that was asked for, a handover before the primary's pod
//! goes, instances given what their manifest says by now, an instance given up.
//!
//! One thing at a time, and none while anything else is under way. Standbys are renewed one after the other, each when
//! the one before has caught up; the primary's role then moves to one of them, and the former primary comes last. Only an
//! instance that can't run as it is made waits for nothing: a cluster that is down may be down for that very reason.

use super::{
    Instance, Life, Observed, Outcome, Plan, Renewal, RequestKind, Step, failover, report, standbys,
};
use crate::api::EngineStatus;
use crate::crd::{ChangeKind, Member, Phase, Record, RoleChange};
use crate::ids::Millis;
use crate::names;
use crate::validate::{SwitchoverTarget, ValidatedCluster};

/// A cluster whose primary serves, with nothing under way.
#[derive(Clone, Copy)]
pub(super) struct Serving<'a> {
    pub cluster: &'a ValidatedCluster,
    pub observed: &'a Observed,
    pub record: &'a Record,
    pub primary: &'a Member,
    pub engine: &'a EngineStatus,
}

/// At most one of them begins.
pub(super) fn tend(serving: &Serving<'_>, now: Millis, plan: &mut Plan) {
    asked_switchover(serving, now, plan);
    if plan.swap.is_some() || hand_over(serving, now, plan) {
        return;
    }
    renew(serving, now, plan);
}

impl Serving<'_> {
    fn instance(&self, name: &str) -> Option<&Instance> {
        self.observed.instances.get(name)
    }

    /// The in-sync standbys that could take over without a wait, the nearest first, before those that are to be renewed
    /// themselves; not those that have to go as well, nor those that are only just coming back.
    fn targets(&self) -> Vec<String> {
        let goes = |i: &Instance| has_to_go(i) || i.upkeep.forced;
        let stays = |i: &Instance| !goes(i) && i.receives(self.record.term);
        let is_due = |i: &Instance| i.upkeep.is_being_renewed() || needs(i, self.record).is_some();
        let mut all = standbys::switchover_targets(self.observed, self.record, self.engine);
        all.retain(|name| self.instance(name).is_some_and(stays));
        all.sort_by_key(|name| self.instance(name).is_some_and(is_due));
        all
    }

    fn begin(&self, target: &str, cause: String, now: Millis, plan: &mut Plan) {
        let change = RoleChange {
            gap: None,
            lost_candidates: 0,
            lost_candidate_at: None,
            kind: ChangeKind::Switchover,
            cause,
            old: Some(self.primary.clone()),
            target: Some(target.to_owned()),
            detected_at: now,
            deadline: Some(now.plus(self.cluster.failover.switchover_within_ms)),
            forced: false,
            lost_bytes: None,
        };
        failover::raise_term(
            self.observed,
            self.record,
            Phase::SwitchingOver,
            change,
            plan,
        );
    }
}

/// One that was deleted by force says so itself when it is told to end: if it stands still it hands nothing over.
fn has_to_go(instance: &Instance) -> bool {
    instance.upkeep.going || instance.status.as_ref().is_some_and(|s| s.leaving)
}

/// Begins a switchover that was asked for, or says why not.
fn asked_switchover(serving: &Serving<'_>, now: Millis, plan: &mut Plan) {
    let requests = &serving.cluster.requests;
    let Some(text) = &requests.switchover_to else {
        return;
    };
    let mut answer = |reason, warning, message| {
        plan.outcomes.push(Outcome {
            request: RequestKind::SwitchoverTo,
            text: text.clone(),
            event: super::Event {
                reason,
                warning,
                message,
            },
        });
    };
    let asked = match requests.switchover(&serving.cluster.name) {
        Ok(Some(asked)) => asked,
        Ok(None) => return,
        Err(wrong) => return answer("SwitchoverRefused", true, wrong.to_string()),
    };
    let all = standbys::switchover_targets(serving.observed, serving.record, serving.engine);
    let (target, why_not) = match &asked {
        SwitchoverTarget::Any => (
            serving.targets().first().or(all.first()).cloned(),
            "there is no in-sync standby that streams and is near".to_owned(),
        ),
        SwitchoverTarget::Instance(name) if *name == serving.primary.name => {
            (None, format!("{name} is the primary already"))
        }
        SwitchoverTarget::Instance(name) => {
            let can = if all.is_empty() {
                "none can now".to_owned()
            } else {
                all.join(", ")
            };
            let why = format!(
                "{name} is not an in-sync standby that streams and is near; these are: {can}"
            );
            (all.iter().find(|c| *c == name).cloned(), why)
        }
    };
    let Some(target) = target else {
        return answer("SwitchoverRefused", true, why_not);
    };
    // It may be only starting, and its primary not have seen the end of the old stream yet.
    let engine = serving.instance(&target).and_then(Instance::engine);
    if engine.is_none_or(|e| !e.consistent) {
        return;
    }
    let message = format!("handing over from {} to {target}", serving.primary.name);
    answer("SwitchoverStarted", false, message);
    let cause = "switchover was asked for".to_owned();
    serving.begin(&target, cause, now, plan);
}

/// The primary's pod is about to go: its role goes first, if somebody can take it. True if that is under way.
fn hand_over(serving: &Serving<'_>, now: Millis, plan: &mut Plan) -> bool {
    let Some(instance) = serving.instance(&serving.primary.name) else {
        return false;
    };
    if !has_to_go(instance) {
        return false;
    }
    let why = if instance.upkeep.going {
        "its node is being drained, or its pod was deleted"
    } else {
        "its pod was told to end"
    };
    let cause = format!("{} hands over: {why}", serving.primary.name);
    let Some(target) = serving.targets().into_iter().next() else {
        return false;
    };
    plan.event("SwitchoverStarted", format!("{cause}; {target} takes over"));
    serving.begin(&target, cause, now, plan);
    true
}

/// The next instance that is not as its manifest says.
fn renew(serving: &Serving<'_>, now: Millis, plan: &mut Plan) {
    let is_standby = |name: &String| *name != serving.primary.name;
    let mut waiting: Vec<(&String, &Instance, Renewal)> = serving
        .observed
        .instances
        .iter()
        .filter_map(|(name, i)| Some((name, i, needs(i, serving.record)?)))
        .collect();
    if waiting.is_empty() {
        tell_last(serving, plan);
        return;
    }
    // The highest number first: the primary is mostly the lowest.
    waiting.reverse();
    let broken = waiting
        .iter()
        .find(|(name, i, _)| is_standby(name) && is_broken(serving, name, i));
    let whole = serving.observed.instances.len() == serving.cluster.replicas as usize + 1
        && serving
            .observed
            .instances
            .iter()
            .all(|(name, i)| !is_standby(name) || sound(serving, i));
    // One that does not work anyway may be what the change is to repair, and one whose pod goes anyway is made anew once.
    let next = match (broken, whole) {
        (Some(broken), _) => broken,
        (None, false) => {
            tell(plan, next_waits_for(serving));
            return;
        }
        (None, true) => waiting
            .iter()
            .find(|(name, ..)| is_standby(name))
            .unwrap_or(&waiting[0]),
    };
    let (name, _, how) = next;
    if broken.is_none()
        && let Some(behind) = has_not_read_all(serving, how)
    {
        tell(
            plan,
            format!("{name} is renewed when {behind} has read the settings as they are now"),
        );
        return;
    }
    if !is_standby(name) && serving.cluster.replicas > 0 {
        let targets = serving.targets();
        if let Some(target) = targets.first() {
            let cause = format!("{name} hands over: it is to be renewed");
            plan.event("SwitchoverStarted", format!("{cause}; {target} takes over"));
            serving.begin(target, cause, now, plan);
        } else {
            tell(plan, no_heir(name));
        }
        return;
    }
    tell(plan, format!("{name} is being renewed"));
    plan.step(Step::Renew {
        instance: (*name).clone(),
        how: how.clone(),
    });
}

/// What is in the way already may need somebody, and a rollout does not.
fn tell(plan: &mut Plan, message: String) {
    if plan.obstacle.is_none() {
        plan.obstacle("RollingOut", message);
    }
}

/// What the next renewal waits for. One that is about to go is named: as long as its node does not hear of that, only
/// somebody who reads it can help.
fn next_waits_for(serving: &Serving<'_>) -> String {
    let instances = serving.observed.instances.iter();
    let mut standbys = instances.filter(|(name, _)| **name != serving.primary.name);
    match standbys.find_map(|(name, instance)| Some((name, instance.ending()?))) {
        Some((name, why)) => format!("the next instance is renewed when {name} is back: {why}"),
        None => "the next instance is renewed when all standbys have caught up".to_owned(),
    }
}

fn no_heir(primary: &str) -> String {
    format!(
        "{primary}, the primary, is renewed when an in-sync standby can take its role over: one that streams, is near, and \
         stays where it is (its node is not cordoned)"
    )
}

/// Everybody is made as the manifest says, and the rollout is over when the last of them is back.
fn tell_last(serving: &Serving<'_>, plan: &mut Plan) {
    let mut all = serving.observed.instances.iter();
    let last = all.find(|&(name, instance)| {
        let is_standby = *name != serving.primary.name;
        is_standby && instance.upkeep.is_being_renewed() && !sound(serving, instance)
    });
    if let Some((name, _)) = last {
        tell(plan, format!("{name} is being renewed"));
    }
}

/// Whatever the plan is about: an instance whose pod Kubernetes can't run, and whose manifest has changed since it was made,
/// is made anew. Nothing is interrupted by that, and nothing else would bring it back.
pub(super) fn mend(observed: &Observed, plan: &mut Plan) {
    let goes = |step: &Step| matches!(step, Step::Remove { .. } | Step::Replace { .. });
    for (name, instance) in &observed.instances {
        let renew = Step::Renew {
            instance: name.clone(),
            how: Renewal::Pod,
        };
        let its = |step: &&Step| step.instance() == Some(name.as_str());
        if plan.steps.iter().filter(its).any(goes) {
            plan.steps.retain(|step| *step != renew);
            continue;
        }
        let is_asked = plan.steps.contains(&renew);
        if !is_asked && instance.upkeep.outdated && instance.cannot_run() {
            plan.steps.push(renew);
        } else if !is_asked {
            continue;
        }
        // Steps of one instance wait for each other: starting it as it was would come first each time.
        let starts = |step: &Step| matches!(step, Step::Start { instance } if instance == name);
        plan.steps.retain(|step| !starts(step));
    }
}

/// Whatever the plan is about: a supervisor that hangs can be told nothing, and neither restarts, leads elsewhere nor ends
/// its engine. Its process is ended, and with it the engine; the rest is as for any other that has ended. Where several are
/// alive and none is heard it may be the operator that does not hear: then nobody is ended.
pub(super) fn end_hung(observed: &Observed, plan: &mut Plan) {
    let mut alive = (observed.instances.values()).filter(|i| i.life == Life::Alive);
    let may_be_deaf = alive.clone().count() > 1 && alive.all(|i| i.heard().is_none());
    if !observed.fencing || may_be_deaf {
        return;
    }
    for (name, instance) in &observed.instances {
        let hangs = instance.upkeep.hangs && instance.life == Life::Alive;
        let Some(pid) = instance.pid.filter(|_| hangs) else {
            continue;
        };
        let fence = Step::Fence {
            instance: name.clone(),
            pid,
            hangs,
        };
        if !plan.steps.contains(&fence) {
            plan.steps.push(fence);
        }
    }
}

pub(super) fn needs(instance: &Instance, record: &Record) -> Option<Renewal> {
    if instance.upkeep.outdated {
        return Some(Renewal::Pod);
    }
    if instance.ending().is_some() {
        return None; // Its engine goes with it, and reads the settings when it begins again.
    }
    let status = instance.heard().filter(|status| status.pending_restart)?;
    Some(Renewal::Engine {
        term: record.term,
        id: status.instance_id.clone()?,
    })
}

/// A standby of which nobody knows yet whether it has to be restarted as well: it hears of the change when it does. The
/// role would go to one that has to hand it on at once; and a restart is seen a moment after it was asked for, so that one
/// with a higher number that reads later would be asked while the first one is away.
fn has_not_read_all<'a>(serving: &Serving<'a>, how: &Renewal) -> Option<&'a str> {
    let by_settings = matches!(how, Renewal::Engine { .. });
    let asked = serving.cluster.generation;
    let has_read = |i: &Instance| i.heard().is_some_and(|status| status.generation >= asked);
    let mut standbys = (serving.observed.instances.iter())
        .filter(|(name, _)| by_settings && **name != serving.primary.name);
    let behind = standbys.find(|(_, instance)| !has_read(instance))?;
    Some(behind.0)
}

/// Works and says so itself: while it is away its primary may not have seen that yet, and the next one must not go before
/// it is back.
fn sound(serving: &Serving<'_>, instance: &Instance) -> bool {
    works(serving, instance) && instance.receives(serving.record.term)
}

/// Follows, streams as its primary has it, is in the newest set, and stays: the next one must not go while this one is about
/// to.
fn works(serving: &Serving<'_>, instance: &Instance) -> bool {
    let (record, engine) = (serving.record, serving.engine);
    instance.id().is_some_and(|id| {
        instance.follows(record.term)
            && !instance.upkeep.renewing
            && instance.ending().is_none()
            && engine.stream_of(id, record.term).is_some()
            && record.newest_set().is_some_and(|set| set.contains(id))
    })
}

/// It does not work, and nobody would miss it while it is renewed. A member that its primary does not list at this moment
/// may be the very one that the next commit waits for: after a change of roles nobody is listed yet.
fn is_broken(serving: &Serving<'_>, name: &str, instance: &Instance) -> bool {
    let goes = instance.life == Life::Ended || instance.ending().is_some();
    let mut members = (serving.record.in_sync.iter()).flat_map(|set| &set.members);
    let is_it = |m: &Member| m.name == name && instance.id().is_none_or(|id| *id == m.id);
    let member = members.find(|member| is_it(member));
    let lost_after_ms = serving.cluster.failover.member_lost_after_ms;
    let is_missed = member.is_some_and(|m| serving.observed.unstreamed(&m.id) < lost_after_ms);
    !works(serving, instance) && (goes || !is_missed || instance.cannot_run())
}

/// The instance that is to be given up, as long as it is there; it first leaves the in-sync set, as one that is
/// removed does. When it is gone the request is answered, and it is made anew.
pub(super) fn replaced(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) -> Option<String> {
    let text = cluster.requests.replace_instance.as_ref()?;
    let mut answer = |reason, warning, message| {
        plan.outcomes.push(Outcome {
            request: RequestKind::ReplaceInstance,
            text: text.clone(),
            event: super::Event {
                reason,
                warning,
                message,
            },
        });
    };
    let name = match cluster.requests.replacement(&cluster.name) {
        Ok(Some(name)) => name,
        Ok(None) => return None,
        Err(wrong) => {
            answer("ReplaceRefused", true, wrong.to_string());
            return None;
        }
    };
    if record.primary.as_ref().is_some_and(|p| p.name == name) {
        let message = format!("{name} is the primary; hand its role over first, with a switchover");
        answer("ReplaceRefused", true, message);
        return None;
    }
    let Some(instance) = observed.instances.get(&name) else {
        let number = names::instance_number(&cluster.name, &name).unwrap_or(u32::MAX);
        let was_there = observed.past.instances.iter().any(|i| i.name == name);
        if was_there || number <= cluster.replicas + 1 {
            let message = format!("{name} is gone and is made anew where the manifest asks for it");
            answer("ReplaceCompleted", false, message);
        } else {
            let there: Vec<&str> = observed.instances.keys().map(String::as_str).collect();
            let message = format!("there is no {name}; instances are {}", there.join(", "));
            answer("ReplaceRefused", true, message);
        }
        return None;
    };
    let counted = instance.id().is_some_and(|id| record.counts_on(id));
    let listed = record
        .in_sync
        .iter()
        .any(|set| set.members.iter().any(|member| member.name == name));
    if !counted && !listed {
        plan.step(Step::Replace {
            instance: name.clone(),
        });
    }
    Some(name)
}

/// A request that would be carried out whenever this cluster serves again, long after whoever made it has forgotten it, is
/// refused. What ends by waiting is waited for; what is forced where a failover is blocked has its own judge.
pub(super) fn refuse_where_nobody_serves(cluster: &ValidatedCluster, plan: &mut Plan) {
    let Some((blocked, _)) = plan.obstacle else {
        return;
    };
    if !report::BLOCKED.contains(&blocked) {
        return;
    }
    let requests = &cluster.requests;
    let is_forced = ["FailoverBlocked", "PrimaryLost"].contains(&blocked);
    let force = requests.force_promote.as_ref().filter(|_| !is_forced);
    for (request, text, reason) in [
        (
            RequestKind::SwitchoverTo,
            requests.switchover_to.as_ref(),
            "SwitchoverRefused",
        ),
        (
            RequestKind::ReplaceInstance,
            requests.replace_instance.as_ref(),
            "ReplaceRefused",
        ),
        (RequestKind::ForcePromote, force, "ForcePromoteRefused"),
    ] {
        let is_answered = plan.outcomes.iter().any(|o| o.request == request);
        let Some(text) = text.filter(|_| !is_answered) else {
            continue;
        };
        plan.outcomes.push(Outcome {
            request,
            text: text.clone(),
            event: super::Event {
                reason,
                warning: true,
                message: format!(
                    "{text}: not while {blocked} stands in the way (see the conditions); ask again when that is over"
                ),
            },
        });
    }
}
