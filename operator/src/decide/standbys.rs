//! The instances beside the primary: who is created, started, told to follow, seeded anew, removed; and where the
//! Services lead.

use super::answers::{self, Answer, answer};
use super::{CAUGHT_UP_BYTES, Instance, Life, Observed, Plan, Routes, Seed, Step, running, seeds};
use crate::api::{EngineRole, EngineStatus, SupervisorState};
use crate::crd::{InSyncSet, Member, Record, RoleChange};
use crate::ids::InstanceId;
use crate::names;
use crate::validate::{FailoverTimes, ValidatedCluster};

/// The write Service to `primary`, the read Service to the standbys that follow it.
pub(super) fn lead_to(
    times: FailoverTimes,
    observed: &Observed,
    record: &Record,
    primary: &Member,
    plan: &mut Plan,
) {
    let routes = Routes {
        record_version: record.record_version,
        primary: Some(primary.name.clone()),
        standbys: read_from(times, observed, record, primary),
    };
    route(observed, routes, plan);
}

/// The standbys that show what the primary has: those that stay, if there is one. Whoever had the role until just now
/// passes clients on to the new primary (`instance/pod/handover.rs`): those of the standbys must not be among them. One that
/// stays says when it has its port again; for one that is about to go it is waited for another one that is only about to
/// stream again.
fn read_from(
    times: FailoverTimes,
    observed: &Observed,
    record: &Record,
    primary: &Member,
) -> Vec<String> {
    let engine = observed
        .instances
        .get(&primary.name)
        .and_then(Instance::engine);
    let shows = |instance: &Instance| {
        instance
            .engine()
            .is_some_and(|e| e.consistent && !e.replay_stuck && e.role == EngineRole::Standby)
            && instance
                .id()
                .is_some_and(|id| observed.unstreamed(id) < times.member_lost_after_ms)
    };
    let streams = |instance: &Instance| {
        let both = instance.id().zip(engine);
        instance.follows(record.term)
            && both.is_some_and(|(id, e)| {
                e.standbys
                    .iter()
                    .any(|s| s.instance_id.as_ref() == Some(id))
            })
    };
    let (mut stay, mut go): (Vec<_>, Vec<_>) = observed
        .instances
        .iter()
        .filter(|(name, instance)| **name != primary.name && shows(instance))
        .partition(|(_, instance)| !is_about_to_go(observed, record, primary, instance));
    let is_alone = stay.is_empty();
    let gave_way = |instance: &Instance| instance.status.as_ref().is_some_and(|s| s.gave_way);
    stay.retain(|(_, instance)| streams(instance) && !gave_way(instance));
    go.retain(|(_, instance)| {
        let passes_on = gave_way(instance) && !instance.upkeep.going;
        streams(instance) && !passes_on && (is_alone || !had_role(observed, record, instance))
    });
    let led_to = if stay.is_empty() { go } else { stay };
    led_to.into_iter().map(|(name, _)| name.clone()).collect()
}

/// Its pod ends soon. So does a former primary's that is not as its manifest says when all others are: it comes last.
fn is_about_to_go(
    observed: &Observed,
    record: &Record,
    primary: &Member,
    instance: &Instance,
) -> bool {
    let upkeep = &instance.upkeep;
    let is_renewed = |i: &Instance| !i.upkeep.outdated;
    let comes_last = upkeep.outdated
        && had_role(observed, record, instance)
        && observed
            .instances
            .get(&primary.name)
            .is_some_and(is_renewed);
    upkeep.going || upkeep.renewing || upkeep.forced || comes_last
}

/// The role was this copy's before the last change of it, or the last switchover.
fn had_role(observed: &Observed, record: &Record, instance: &Instance) -> bool {
    let change = record.change.as_ref();
    let now = change.and_then(|change| change.old.as_ref());
    let last = observed.past.last_switchover.as_ref();
    let last = last.and_then(|report| report.old_id.as_ref());
    instance.id().is_some_and(|id| {
        let is_it = |of: &InstanceId| of == id;
        now.is_some_and(|member| is_it(&member.id)) || last.is_some_and(is_it)
    })
}

pub(super) fn route(observed: &Observed, routes: Routes, plan: &mut Plan) {
    if observed
        .routes
        .as_ref()
        .is_none_or(|now| !now.leads_as(&routes))
    {
        plan.step(Step::Route(routes));
    }
}

/// Tells a standby to follow the primary of the record's term, unless it already does.
pub(super) fn follow(name: &str, instance: &Instance, record: &Record, plan: &mut Plan) {
    let (Some(status), Some(id)) = (instance.heard(), instance.id()) else {
        return;
    };
    if !instance.follows(record.term) && status.promised_term <= record.term {
        plan.step(Step::Follow {
            instance: name.to_owned(),
            term: record.term,
            id: id.clone(),
            giver: None,
        });
    }
}

/// Instances to be removed: broken ones first, then those outside the newest set, then the highest number.
pub(super) fn leaving(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
) -> Vec<String> {
    let wanted = cluster.replicas as usize + 1;
    let surplus = observed.instances.len().saturating_sub(wanted);
    let mut standbys: Vec<(&String, &Instance)> = observed
        .instances
        .iter()
        .filter(|(name, _)| record.primary.as_ref().is_none_or(|p| p.name != **name))
        .collect();
    standbys.sort_by_key(|(name, instance)| {
        let member = instance
            .id()
            .is_some_and(|id| record.newest_set().is_some_and(|set| set.contains(id)));
        let broken = instance
            .id()
            .is_none_or(|id| observed.unstreamed(id) >= cluster.failover.member_lost_after_ms);
        let number = names::instance_number(&cluster.name, name).unwrap_or(0);
        (!broken, member, std::cmp::Reverse(number))
    });
    standbys
        .into_iter()
        .take(surplus)
        .map(|(name, _)| name.clone())
        .collect()
}

/// A cluster whose primary serves, and who is about to be removed.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub cluster: &'a ValidatedCluster,
    pub observed: &'a Observed,
    pub record: &'a Record,
    pub primary: &'a EngineStatus,
    pub leaving: &'a [String],
}

pub(super) fn tend_all(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    primary: &EngineStatus,
    leaving: &[String],
    replaced: Option<&String>,
    plan: &mut Plan,
) {
    let scene = Scene {
        cluster,
        observed,
        record,
        primary,
        leaving,
    };
    for (name, instance) in &observed.instances {
        if record.primary.as_ref().is_some_and(|p| p.name == *name) {
            continue;
        }
        if replaced == Some(name) {
            continue;
        }
        if leaving.contains(name) {
            let counted = instance.id().is_some_and(|id| record.counts_on(id));
            // Of one that is not heard only the name is known.
            let counted = counted || record.in_sync.iter().any(|set| names_it(set, name));
            let may_speak = instance.life == Life::Alive && !instance.cannot_run();
            let unknown = may_speak && instance.status.is_none();
            if !counted && !unknown {
                plan.step(Step::Remove {
                    instance: name.clone(),
                });
            }
            continue;
        }
        tend(&scene, name, instance, plan);
    }
    // What is to be given up must not come back before the request is answered.
    if cluster.requests.replace_instance.is_none() {
        create_missing(cluster, observed, record, plan);
    }
}

fn names_it(set: &InSyncSet, name: &str) -> bool {
    let mut all = set.members.iter().chain(&set.owner);
    all.any(|member| member.name == name)
}

fn create_missing(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) {
    let wanted = cluster.replicas as usize + 1;
    let missing = wanted.saturating_sub(observed.instances.len());
    let free = (1..)
        .map(|number| names::instance(&cluster.name, number))
        .filter(|name| !observed.instances.contains_key(name));
    for instance in free.take(missing) {
        plan.step(Step::Create {
            instance,
            seed: Seed::Backup,
            term: record.term,
        });
    }
}

/// One standby: started, sealed if it is somewhere else, then told to follow or seeded anew.
fn tend(scene: &Scene<'_>, name: &str, instance: &Instance, plan: &mut Plan) {
    let Scene {
        cluster,
        observed,
        record,
        primary,
        ..
    } = *scene;
    if instance.life == Life::Ended {
        plan.step(Step::Start {
            instance: name.to_owned(),
        });
        return;
    }
    let Some(status) = instance.heard() else {
        return;
    };
    let Some(id) = &status.instance_id else {
        return;
    };
    let seeding = matches!(
        status.state,
        SupervisorState::Seeding | SupervisorState::Stopping
    );
    if seeding && status.promised_term >= record.term && !status.sealed {
        seeds::tend(scene, name, status, id, plan);
        return;
    }
    if instance.follows(record.term) && status.state != SupervisorState::Waiting {
        reseed_if_stuck(cluster.failover, name, instance, observed, record, plan);
    } else if seeding && status.sealed && status.promised_term == record.term {
        // Sealed while it had no data yet: it holds nothing that could diverge.
        seeds::follow(scene, name, status, id, plan);
    } else if !(status.promised_term == record.term && status.sealed) {
        plan.step(Step::Seal {
            instance: name.to_owned(),
            term: record.term,
        });
    } else if let Some(engine) = status.engine.as_ref() {
        if record
            .system_id
            .as_ref()
            .is_some_and(|known| engine.system_id != *known)
        {
            plan.obstacle(
                "ForeignData",
                format!(
                    "{name} holds another database (system id {}); move its volume away",
                    engine.system_id
                ),
            );
            return;
        }
        match answer(name, instance, record.term, record.system_id.as_deref()) {
            Some(answer) if answers::can_follow(record, &answer, primary) => {
                follow(name, instance, record, plan);
            }
            Some(answer) if answers::is_spare(observed, record, id) => {
                if is_still_counted(observed, record, id, primary) {
                    return;
                }
                if let Some(change) = uncounted(record, &answer, primary) {
                    // First the record, then the copy: an operator that dies in between must not forget it.
                    let mut next = record.clone();
                    next.change = Some(change);
                    plan.swap(Some(record), next);
                    return;
                }
                plan.step(Step::Reseed {
                    instance: name.to_owned(),
                    term: record.term,
                    id: id.clone(),
                    why: answers::diverged(record, &answer, primary),
                });
            }
            // Not consistent yet, or some listed set can't do without it.
            Some(_) | None => {}
        }
    }
}

/// What goes with this copy, if it is the old primary of a change that is still open and the record does not say yet.
fn uncounted(record: &Record, answer: &Answer, primary: &EngineStatus) -> Option<RoleChange> {
    let change = record.change.as_ref()?;
    let old = change.old.as_ref()?;
    if change.lost_bytes.is_some() || old.id != answer.member.id {
        return None;
    }
    let lost = answers::Lines::new(record, primary).lost(answer, record.term)?;
    Some(RoleChange {
        lost_bytes: Some(lost),
        ..change.clone()
    })
}

/// This plan's report says what was lost with this copy, and the reports that are written do not yet: the copy goes when
/// they do.
fn is_still_counted(
    observed: &Observed,
    record: &Record,
    id: &InstanceId,
    primary: &EngineStatus,
) -> bool {
    let past = &observed.past;
    let mut reports = past.last_failover.iter().chain(&past.last_switchover);
    reports.any(|report| {
        report.lost_bytes.is_none()
            && report.old_id.as_ref() == Some(id)
            && running::lost_bytes(observed, record, primary, report).is_some()
    })
}

/// An engine that runs and yet has neither streamed nor got any further for long can't get from the primary what it needs.
/// One that was away for as long may only have to connect, unless the primary has told it that its log is gone.
fn reseed_if_stuck(
    times: FailoverTimes,
    name: &str,
    instance: &Instance,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) {
    let (Some(engine), Some(id)) = (instance.engine(), instance.id()) else {
        return;
    };
    let receiver = engine.receiver.as_ref();
    let Some(receiver) = receiver.filter(|r| r.state == "connecting") else {
        return;
    };
    let after_ms = times.reseed_after_ms;
    let why = if observed.stuck(id) >= after_ms {
        format!("it could not stream for {} s", after_ms / 1000)
    } else if receiver.lacks_log() && observed.unstreamed(id) >= after_ms {
        "the primary no longer has the log that it lacks".to_owned()
    } else {
        return;
    };
    if !record.counts_on(id) {
        plan.step(Step::Reseed {
            instance: name.to_owned(),
            term: record.term,
            id: id.clone(),
            why,
        });
    }
}

/// In-sync standbys that could take over without a wait, the nearest first.
pub(super) fn switchover_targets(
    observed: &Observed,
    record: &Record,
    primary: &EngineStatus,
) -> Vec<String> {
    let Some(set) = record.newest_set() else {
        return Vec::new();
    };
    let end = primary.flush_lsn.unwrap_or_default();
    let mut near: Vec<(u64, String)> = set
        .members
        .iter()
        .filter(|m| {
            observed
                .instances
                .get(&m.name)
                .is_some_and(|i| i.follows(record.term))
        })
        .filter_map(|m| {
            let flush = primary.stream_of(&m.id, record.term)?.flush_lsn?;
            Some((end.bytes_since(flush), m.name.clone()))
        })
        .filter(|(lag, _)| *lag <= CAUGHT_UP_BYTES)
        .collect();
    near.sort();
    near.into_iter().map(|(_, name)| name).collect()
}
