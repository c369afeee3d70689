//! The ordinary state: a primary serves. Is it still there, does it count by the right set, is a switchover
//! asked for?

use super::planned::Serving;
use super::{
    FIRST_WORD_MS, Instance, Life, Observed, Plan, Step, answers, failover, force, in_sync,
    planned, standbys, streams,
};
use crate::api::{EngineRole, EngineSet, EngineStatus, SupervisorState, SupervisorStatus};
use crate::crd::{
    ChangeKind, Durability, InSyncSet, LastRoleChange, Member, Phase, Record, RoleChange,
};
use crate::ids::Millis;
use crate::validate::{FailoverTimes, ValidatedCluster};

/// How a primary, or a candidate, is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Health {
    Good,
    /// Not serving, or not heard, and not lost yet: the reason of the condition, and what it says.
    Grace(&'static str, String),
    Lost(String),
}

/// The health of the copy that the record calls primary or candidate.
pub(super) fn health(
    times: FailoverTimes,
    observed: &Observed,
    record: &Record,
    member: &Member,
) -> Health {
    let lost = |why: &str| Health::Lost(format!("{} {why}", member.name));
    let Some(instance) = observed.instances.get(&member.name) else {
        return lost("has no volume any more");
    };
    if instance.life == Life::Ended {
        return lost("has ended");
    }
    if !instance.is_silent() {
        return match &instance.status {
            Some(status) => by_status(times, record, member, instance, status),
            None => grace(member, "is not heard yet"),
        };
    }
    let Some(standbys) = streams::that_hear(times, observed, record, member) else {
        return lost("does not answer");
    };
    // Whatever made it count as lost when it said it has not been taken back.
    let last = instance.status.as_ref();
    match last.map(|status| by_status(times, record, member, instance, status)) {
        Some(Health::Lost(why)) => Health::Lost(why),
        _ => unheard(member, &standbys),
    }
}

fn grace(member: &Member, why: &str) -> Health {
    Health::Grace("PrimaryRestarting", format!("{} {why}", member.name))
}

fn unheard(member: &Member, standbys: &[&str]) -> Health {
    let name = &member.name;
    let text = format!(
        "{name} does not answer the operator but still speaks to as many of {} as a commit waits for, so it serves and \
         nobody takes over: mend the network between the operator and {name}, or end {name} to have a standby take over",
        standbys.join(", ")
    );
    Health::Grace("PrimaryUnheard", text)
}

/// The health of a copy by what it said last.
fn by_status(
    times: FailoverTimes,
    record: &Record,
    member: &Member,
    instance: &Instance,
    status: &SupervisorStatus,
) -> Health {
    let lost = |why: &str| Health::Lost(format!("{} {why}", member.name));
    match &status.instance_id {
        Some(id) if *id != member.id => return lost("holds another copy now"),
        // Whoever served has ended: this is another process, and it may never get at the volume.
        None => return lost("does not say which copy it holds"),
        Some(_) => {}
    }
    if status.state == SupervisorState::Stopping {
        return lost("is stopping");
    }
    if status.down_ms > 0 && status.crashes >= 2 {
        return lost("has crashed twice within five minutes");
    }
    if status.down_ms + instance.silent_ms > times.restart_within_ms && status.down_ms > 0 {
        return lost(&format!(
            "crashed and is not back within {} ms",
            times.restart_within_ms
        ));
    }
    if status.engine_silent_ms >= times.lost_after_ms {
        return lost("has an engine that does not answer");
    }
    if status.sealed && record.phase == Phase::Running {
        return lost("is sealed in its own term");
    }
    let standby = status
        .engine
        .as_ref()
        .is_some_and(|e| e.role == EngineRole::Standby);
    if record.phase == Phase::Running && status.state == SupervisorState::Running && standby {
        return lost("runs as a standby");
    }
    if status.down_ms > 0 {
        grace(member, "is restarted in place")
    } else {
        Health::Good
    }
}

pub(super) fn tend(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    now: Millis,
    plan: &mut Plan,
) {
    let Some(primary) = &record.primary else {
        plan.obstacle(
            "RecordDamaged",
            "the record says Running and names no primary",
        );
        return;
    };
    let health = health(cluster.failover, observed, record, primary);
    let held_out = matches!(health, Health::Lost(_)) && !may_fail_over(observed, record, primary);
    if !held_out {
        force::refuse_needless(cluster, record, primary, &health, plan);
    }
    if let Some(term) = newer_promise(observed, record) {
        let cause = format!("an instance has promised term {term}, which the record does not know");
        start_failover(observed, record, primary, cause, now, plan);
        return;
    }
    match health {
        Health::Lost(cause) if held_out => match force::asked(cluster, observed, record, plan) {
            Some(asked) if asked.1 != primary.name => {
                force::begin(observed, record, primary, asked, cause, now, plan);
            }
            Some((text, _)) => {
                let why = format!("{text}: that is the primary itself; bring it back");
                force::refuse(plan, text, why);
            }
            None => hold_out(observed, record, primary, &cause, plan),
        },
        Health::Lost(cause) => start_failover(observed, record, primary, cause, now, plan),
        Health::Grace(reason, text) => {
            plan.obstacle(reason, text);
            keep_set(observed, record, primary, plan);
        }
        Health::Good => {
            keep_set(observed, record, primary, plan);
            let engine = observed
                .instances
                .get(&primary.name)
                .and_then(Instance::engine);
            match engine.filter(|e| e.is_primary_of(record.term)) {
                // Nobody can stream from it yet, which is no standby's fault.
                Some(engine) if engine.in_recovery => {
                    let text = format!("{} replays its log before it takes writes", primary.name);
                    plan.obstacle("PrimaryStarting", text);
                }
                Some(_) if counts_by_newer_set(observed, record, primary) => {
                    plan.obstacle("RecordDamaged", put_back(primary, record.term));
                }
                Some(engine) => serve(cluster, observed, record, primary, engine, now, plan),
                None => plan.obstacle("PrimaryStarting", format!("{} is starting", primary.name)),
            }
        }
    }
}

/// The primary serves: finish what is open, then sets, standbys, requests.
fn serve(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    primary: &Member,
    engine: &EngineStatus,
    now: Millis,
    plan: &mut Plan,
) {
    standbys::lead_to(cluster.failover, observed, record, primary, plan);
    let mut leaving = standbys::leaving(cluster, observed, record);
    let replaced = planned::replaced(cluster, observed, record, plan);
    leaving.extend(replaced.clone());
    standbys::tend_all(
        cluster,
        observed,
        record,
        engine,
        &leaving,
        replaced.as_ref(),
        plan,
    );
    if let Some(change) = &record.change {
        if engine.writable {
            finish_change(record, primary, engine, change, now, plan);
        } else {
            plan.obstacle(
                "WaitingForStandbys",
                format!(
                    "{} waits until the required standbys have all it recovered",
                    primary.name
                ),
            );
        }
        if plan.swap.is_some() {
            return;
        }
    }
    if in_sync::older_are_done(record, engine) {
        let mut next = record.clone();
        next.in_sync.drain(..next.in_sync.len() - 1);
        plan.swap(Some(record), next);
        return;
    }
    if let Some(set) = in_sync::wanted(cluster, observed, record, engine, &leaving) {
        tell_set(observed, record, &set, plan);
        let mut next = record.clone();
        next.in_sync.push(set);
        plan.swap(Some(record), next);
        return;
    }
    let serving = Serving {
        cluster,
        observed,
        record,
        primary,
        engine,
    };
    planned::tend(&serving, now, plan);
}

fn tell_set(observed: &Observed, record: &Record, set: &InSyncSet, plan: &mut Plan) {
    let names = |members: &[Member]| {
        if members.is_empty() {
            "nobody".to_owned()
        } else {
            members
                .iter()
                .map(|m| m.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        }
    };
    let before = record.newest_set().map(|s| s.members.as_slice());
    let before = before.unwrap_or_default();
    let message = format!(
        "in sync: {}; a commit waits for {} of {}",
        names(&set.members),
        set.required,
        set.members.len()
    );
    let is_renewed = |m: &Member| {
        let instance = observed.instances.get(&m.name);
        instance.is_some_and(|i| i.upkeep.comes_back())
    };
    let mut leaving = before.iter().filter(|m| !set.contains(&m.id));
    if set.members.len() < before.len() {
        // Who is away for its renewal comes back by itself; a primary without a single member is worth a look all the same.
        if !set.members.is_empty() && leaving.all(is_renewed) {
            plan.event("InSyncSetShrunk", message);
        } else {
            plan.warn("InSyncSetShrunk", message);
        }
    } else {
        plan.event("InSyncSetGrown", message);
    }
}

/// Tells the primary the set that it is to count by; also the word that a waiting primary needs.
fn keep_set(observed: &Observed, record: &Record, primary: &Member, plan: &mut Plan) {
    let Some(status) = observed
        .instances
        .get(&primary.name)
        .and_then(Instance::heard)
    else {
        return;
    };
    let Some(newest) = record.newest_set() else {
        return;
    };
    let told = status.set.as_ref().map(EngineSet::version) == Some(newest.version());
    // An engine that replays its log counts by none yet, and takes the promise's when it writes.
    let in_effect = status.engine.as_ref().is_none_or(|e| {
        e.in_recovery || e.set.as_ref().map(EngineSet::version) == Some(newest.version())
    });
    if !told || !in_effect || status.state == SupervisorState::Waiting {
        plan.step(Step::Set {
            instance: primary.name.clone(),
            term: record.term,
            id: primary.id.clone(),
            set: EngineSet::from(newest),
        });
    }
}

/// A set is written into the record before its primary hears of it: whoever counts by a newer one had it of a record that
/// is no more. What was acknowledged under it the record's sets may not lead to.
fn counts_by_newer_set(observed: &Observed, record: &Record, primary: &Member) -> bool {
    let instance = observed.instances.get(&primary.name);
    let set = instance
        .and_then(Instance::heard)
        .and_then(|s| s.set.as_ref());
    let newest = record.newest_set().map(InSyncSet::version);
    set.is_some_and(|set| set.term == record.term && Some(set.version()) > newest)
}

fn put_back(primary: &Member, term: crate::ids::Term) -> String {
    format!(
        "{} counts by an in-sync set of term {term} that is newer than the record's: the status was put back to an older one, \
         as a restored etcd does. It goes on serving, and nothing is changed. Where all volumes are there, take the record \
         out of the status (kubectl edit --subresource=status): it is rebuilt from them",
        primary.name
    )
}

fn newer_promise(observed: &Observed, record: &Record) -> Option<crate::ids::Term> {
    let promised = observed
        .instances
        .values()
        .filter_map(Instance::heard)
        .map(|s| s.promised_term);
    promised.max().filter(|term| *term > record.term)
}

/// Whether raising the term could lead anywhere without the lost primary: some other copy that is heard counts,
/// and no listed set depends on the primary's own answer alone.
fn may_fail_over(observed: &Observed, record: &Record, primary: &Member) -> bool {
    let heard = |m: &Member| {
        m.id != primary.id
            && observed
                .by_id(&m.id)
                .is_some_and(|(_, instance)| instance.heard().is_some())
    };
    let any_heard = record
        .in_sync
        .iter()
        .any(|set| set.members.iter().any(heard));
    let any_standby = observed.instances.iter().any(|(name, instance)| {
        *name != primary.name && instance.engine().is_some_and(|e| e.consistent)
    });
    let replaced = observed.instances.get(&primary.name).is_none_or(|i| {
        i.heard()
            .and_then(|s| s.instance_id.as_ref())
            .is_some_and(|id| *id != primary.id)
    });
    let possible = record.in_sync.iter().all(|set| {
        set.durability == Durability::Async
            || set.answers_needed() <= set.members.len()
            || set.owner.as_ref().is_some_and(|o| o.id != primary.id)
    });
    let is_async = record
        .newest_set()
        .is_some_and(|s| s.durability == Durability::Async);
    (possible && (any_heard || (is_async && any_standby))) || (replaced && any_standby)
}

/// Nobody may take over: bring the same primary back, in its own term.
fn hold_out(observed: &Observed, record: &Record, primary: &Member, cause: &str, plan: &mut Plan) {
    let unheard =
        |i: &Instance| i.life == Life::Alive && i.status.is_none() && i.silent_ms < FIRST_WORD_MS;
    if observed.instances.values().any(unheard) {
        // An operator that has just started: those that are alive may hold what it takes.
        plan.obstacle("PrimaryLost", format!("{cause}; asking the others"));
        return;
    }
    if observed
        .instances
        .get(&primary.name)
        .is_some_and(|i| i.life == Life::Ended)
    {
        plan.step(Step::Start {
            instance: primary.name.clone(),
        });
    } else {
        keep_set(observed, record, primary, plan);
    }
    for (name, instance) in &observed.instances {
        if *name != primary.name && instance.life == Life::Ended {
            plan.step(Step::Start {
                instance: name.clone(),
            });
        }
    }
    let remedy = force::candidate(observed, primary).map_or_else(String::new, |name| {
        let term = record.term;
        format!("; or, accepting that commits are lost, force-promote {name}@{term}")
    });
    plan.obstacle(
        "PrimaryLost",
        format!(
            "{cause}; no standby holds what it acknowledged, so it has to come back itself{remedy}"
        ),
    );
}

pub(super) fn start_failover(
    observed: &Observed,
    record: &Record,
    primary: &Member,
    cause: String,
    now: Millis,
    plan: &mut Plan,
) {
    // A change that is not finished goes on under its first detection: that is how long clients waited.
    let open = record.change.as_ref();
    let change = RoleChange {
        gap: None,
        lost_candidates: open.map_or(0, |c| c.lost_candidates.saturating_add(1)),
        lost_candidate_at: open.map(|_| now),
        kind: ChangeKind::Failover,
        old: Some(primary.clone()),
        target: None,
        detected_at: open.map_or(now, |c| c.detected_at),
        deadline: None,
        lost_bytes: None,
        forced: false,
        cause: cause.clone(),
    };
    failover::raise_term(observed, record, Phase::FailingOver, change, plan);
    let term = plan.swap.as_ref().map_or(record.term, |s| s.record.term);
    plan.warn(
        "FailoverStarted",
        format!("{cause}; failing over in term {term}"),
    );
}

/// The new primary can acknowledge: write the report and close the change.
fn finish_change(
    record: &Record,
    primary: &Member,
    engine: &EngineStatus,
    change: &RoleChange,
    now: Millis,
    plan: &mut Plan,
) {
    let writable_at = engine.writable_at_ms.unwrap_or(now);
    let report = LastRoleChange {
        cause: change.cause.clone(),
        old: change.old.as_ref().map(|o| o.name.clone()),
        old_id: change.old.as_ref().map(|o| o.id.clone()),
        new: primary.name.clone(),
        term: record.term,
        detected_at: change.detected_at,
        promoted_at: engine.promoted_at_ms.unwrap_or(writable_at),
        writable_at,
        seconds: seconds(writable_at.since(change.detected_at)),
        lost_bytes: change.lost_bytes,
        forced: change.forced,
        gap: change.gap.clone(),
    };
    let took = report.seconds;
    let (reason, what) = match change.kind {
        ChangeKind::Failover => ("FailoverCompleted", "failover"),
        ChangeKind::Switchover => ("SwitchoverCompleted", "switchover"),
        ChangeKind::Rebuild => ("RecordRebuilt", "rebuilding the record"),
    };
    plan.event(
        reason,
        format!(
            "{what} completed: {} accepts writes in term {}, {took} s after the cause was seen",
            primary.name, record.term
        ),
    );
    match change.kind {
        ChangeKind::Switchover => plan.last_switchover = Some(report),
        ChangeKind::Failover | ChangeKind::Rebuild => plan.last_failover = Some(report),
    }
    let mut next = record.clone();
    next.change = None;
    plan.swap(Some(record), next);
}

fn seconds(milliseconds: u64) -> f64 {
    // Exact for any span that a report can have.
    f64::from(u32::try_from(milliseconds).unwrap_or(u32::MAX)) / 1000.0
}

/// The bytes that the old primary had flushed and the new one never had, once the old copy is seen again.
pub(super) fn lost_bytes(
    observed: &Observed,
    record: &Record,
    engine: &EngineStatus,
    report: &LastRoleChange,
) -> Option<u64> {
    let id = report.old_id.as_ref()?;
    let lines = answers::Lines::new(record, engine);
    if record.is_primary(id) {
        return lines.lost_by_primary(record.term, report.term);
    }
    let (name, instance) = observed.by_id(id)?;
    if engine.stream_of(id, record.term).is_some() {
        return lines.contains(record.term, report.term).then_some(0);
    }
    let answer = answers::answer(name, instance, record.term, record.system_id.as_deref())?;
    lines.lost(&answer, report.term)
}
