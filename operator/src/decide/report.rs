//! What `status` says beside the record: conditions, instances, the last changes of role. Decides nothing.

use super::rollout::{self, Rollout};
use super::{Instance, Life, Observed, Plan, running};
use crate::api::{BootstrapState, EngineRole, EngineStatus, SupervisorState};
use crate::crd::{
    BOOTSTRAP_FAILED, Condition, ConditionStatus, Durability, InstanceReport, InstanceRole,
    LagClass, Member, Phase, Record,
};
use crate::ids::{Millis, Term};
use crate::validate::ValidatedCluster;

pub(super) fn fill(cluster: &ValidatedCluster, observed: &Observed, now: Millis, plan: &mut Plan) {
    let record = observed.record.as_ref();
    let primary = record
        .and_then(|r| r.primary.as_ref())
        .and_then(|p| observed.by_id(&p.id))
        .and_then(|(_, instance)| instance.engine());
    plan.instances = observed
        .instances
        .iter()
        .map(|(name, instance)| {
            let past = observed.past.instances.iter();
            let mut past = past.filter(|old| old.name == *name && old.id.as_ref() == instance.id());
            let lag = past.next().and_then(|old| old.lag);
            report(name, instance, record, primary, lag)
        })
        .collect();
    plan.serves = record.is_some_and(|r| r.phase == Phase::Running)
        && primary.is_some_and(|e| e.role == EngineRole::Primary && e.writable);
    carry_changes(observed, record, primary, plan);
    let mut heard = observed.instances.values().filter_map(Instance::heard);
    let refused = heard.find_map(|status| status.refused_settings.clone());
    if let Some((_, message)) = &mut plan.obstacle {
        tell_troubles(message, observed);
    }
    let rollout = rollout::look(cluster, observed, &plan.instances, now);
    let old_primary = rollout::hands_over(observed).map(str::to_owned);
    plan.on_purpose = rollout.away.iter().cloned().chain(old_primary).collect();
    plan.conditions = conditions(cluster, observed, primary, plan, &rollout);
    tell_refused(&mut plan.conditions, refused);
    tell_full(&mut plan.conditions, observed);
}

/// Whatever is in the way: a pod that does not run may be why, and Kubernetes knows what keeps it.
fn tell_troubles(message: &mut String, observed: &Observed) {
    for (name, instance) in &observed.instances {
        let upkeep = &instance.upkeep;
        let trouble = upkeep.trouble.as_deref().or(upkeep.away.as_deref());
        if let Some(trouble) = trouble.filter(|_| instance.heard().is_none())
            && !message.contains(trouble)
        {
            message.push_str("; ");
            message.push_str(name);
            message.push_str(": ");
            message.push_str(trouble);
        }
    }
}

/// Everybody serves, by the settings that were there before.
fn tell_refused(conditions: &mut [Condition], refused: Option<String>) {
    let mut all = conditions.iter_mut();
    let degraded = all.find(|c| c.type_ == "Degraded" && c.status == ConditionStatus::False);
    if let (Some(degraded), Some(refused)) = (degraded, refused) {
        degraded.status = ConditionStatus::True;
        "ParametersRefused".clone_into(&mut degraded.reason);
        degraded.message = refused;
    }
}

/// Everybody serves what there is, and writes are refused: a full volume is no failover, and nobody else would tell.
fn tell_full(conditions: &mut [Condition], observed: &Observed) {
    let full = observed.instances.iter().filter_map(|(name, instance)| {
        let said = instance.heard()?.volume_full.as_ref()?;
        Some(format!("{name}: {said}"))
    });
    let Some(full) = full.reduce(|all, more| format!("{all}; {more}")) else {
        return;
    };
    let Some(degraded) = conditions.iter_mut().find(|c| c.type_ == "Degraded") else {
        return;
    };
    if degraded.status == ConditionStatus::False {
        degraded.status = ConditionStatus::True;
        "VolumeFull".clone_into(&mut degraded.reason);
        degraded.message = full;
    } else if !degraded.message.contains(&full) {
        degraded.message = format!("{}; {full}", degraded.message);
    }
}

fn carry_changes(
    observed: &Observed,
    record: Option<&Record>,
    primary: Option<&EngineStatus>,
    plan: &mut Plan,
) {
    let past = &observed.past;
    for (new, old) in [
        (&mut plan.last_failover, &past.last_failover),
        (&mut plan.last_switchover, &past.last_switchover),
    ] {
        if new.is_none() {
            new.clone_from(old);
        }
        if let (Some(report), Some(record), Some(engine)) = (new, record, primary)
            && report.lost_bytes.is_none()
        {
            report.lost_bytes = running::lost_bytes(observed, record, engine, report);
        }
    }
}

fn report(
    name: &str,
    instance: &Instance,
    record: Option<&Record>,
    primary: Option<&EngineStatus>,
    lag_before: Option<LagClass>,
) -> InstanceReport {
    let status = instance.status.as_ref();
    let engine = instance.engine();
    let id = instance.id().cloned();
    let term = record.map(|r| r.term).unwrap_or_default();
    let role = role(instance, engine);
    let in_sync = record
        .and_then(Record::newest_set)
        .zip(id.as_ref())
        .is_some_and(|(set, id)| set.contains(id));
    let is_primary = record
        .zip(id.as_ref())
        .is_some_and(|(r, id)| r.is_primary(id));
    let flush = engine.and_then(|e| e.flush_lsn);
    let serves = serves(role, engine, id.as_ref().zip(primary), term, is_primary);
    let lag_bytes = match (role, primary.and_then(|e| e.flush_lsn), flush) {
        (InstanceRole::Standby, Some(end), Some(flush)) => Some(end.bytes_since(flush)),
        _ => None,
    };
    InstanceReport {
        name: name.to_owned(),
        role,
        ready: serves && instance.ending().is_none(),
        in_sync,
        timeline: engine.map(|e| e.timeline),
        flush_lsn: flush,
        replay_lsn: engine.and_then(|e| e.replay_lsn),
        lag: lag_bytes.map(|bytes| LagClass::after(lag_before, bytes)),
        lag_bytes,
        // Where instances are pods, whoever writes the report knows where they run.
        node: None,
        supervisor_pid: status
            .filter(|_| instance.life == Life::Alive)
            .map(|s| s.supervisor_pid),
        engine_pid: status
            .filter(|_| instance.life == Life::Alive)
            .and_then(|s| s.engine_pid),
        port: status.map(|s| s.port),
        message: message(instance, serves),
        id,
    }
}

/// What it says of itself, or Kubernetes of it. That it is about to go comes first where nothing else keeps it from being
/// ready.
fn message(instance: &Instance, serves: bool) -> Option<String> {
    let ending = instance.ending().map(str::to_owned);
    if serves && ending.is_some() {
        return ending;
    }
    let said = instance.status.as_ref().and_then(|s| {
        let failed = || s.seeding.as_ref().and_then(|seed| seed.error.clone());
        s.message.clone().or_else(failed)
    });
    let away = || {
        let away = instance.upkeep.away.clone();
        away.filter(|_| instance.heard().is_none())
    };
    said.or_else(|| instance.upkeep.trouble.clone())
        .or_else(away)
        .or(ending)
}

fn role(instance: &Instance, engine: Option<&EngineStatus>) -> InstanceRole {
    let Some(status) = instance.heard() else {
        return InstanceRole::Lost;
    };
    match (status.state, engine) {
        (SupervisorState::Seeding, _) => InstanceRole::Seeding,
        (_, Some(engine)) if engine.role == EngineRole::Primary => InstanceRole::Primary,
        (_, Some(_)) if status.sealed => InstanceRole::Sealed,
        (_, Some(_)) => InstanceRole::Standby,
        (_, None) => InstanceRole::Starting,
    }
}

/// Takes writes as the primary, or shows and keeps what the primary has as a standby.
fn serves(
    role: InstanceRole,
    engine: Option<&EngineStatus>,
    stream: Option<(&crate::ids::InstanceId, &EngineStatus)>,
    term: Term,
    is_primary: bool,
) -> bool {
    match (role, engine) {
        (InstanceRole::Primary, Some(engine)) => is_primary && engine.writable,
        (InstanceRole::Standby, Some(engine)) => {
            engine.consistent
                && !engine.replay_stuck
                && stream.is_some_and(|(id, primary)| primary.stream_of(id, term).is_some())
        }
        _ => false,
    }
}

fn conditions(
    cluster: &ValidatedCluster,
    observed: &Observed,
    primary: Option<&EngineStatus>,
    plan: &Plan,
    rollout: &Rollout,
) -> Vec<Condition> {
    let record = observed.record.as_ref();
    let wanted = cluster.replicas as usize + 1;
    let ready = plan.instances.iter().filter(|i| i.ready).count();
    let serving = plan.serves;
    let make = |type_: &str, is: bool, reason: &str, message: String| Condition {
        type_: type_.to_owned(),
        status: if is {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason: reason.to_owned(),
        message,
        observed_generation: cluster.generation,
        last_transition_time: String::new(),
    };
    let complete = serving && ready == wanted && plan.instances.len() == wanted;
    let unprepared = record.and_then(|record| unprepared(observed, record));
    let waits = record.filter(|_| serving && !complete);
    let waits = waits
        .zip(primary)
        .and_then(|(record, primary)| commits_wait(cluster, observed, record, primary));
    let all = complete && unprepared.is_none();
    let tally = tally(plan, ready, wanted);
    let (reason, message) = match (plan.obstacle.clone(), &rollout.away, unprepared) {
        // The only one there is: while it is renewed nobody else could serve.
        (Some((PRIMARY_LOST, _)) | None, Some(_), _) if !complete => (ROLLING_OUT, tally.clone()),
        (Some(obstacle), ..) => obstacle,
        (None, ..) if let Some(why) = waits => (COMMITS_WAIT, format!("{why}; {tally}")),
        (None, _, Some((BOOTSTRAP_FAILED, why))) => (BOOTSTRAP_FAILED, why),
        (None, _, Some(unprepared)) if complete => unprepared,
        (None, ..) => (if complete { "AllReady" } else { NOT_READY }, tally.clone()),
    };
    let rolls = reason == ROLLING_OUT;
    let blocked = BLOCKED.contains(&reason);
    let moving = rolls || reason == BOOTSTRAPPING || is_moving(record, plan, wanted);
    let degraded = blocked || (serving && ready < wanted && rollout.away.is_none());
    // What a rollout brings with it in passing is no word against it.
    let by_the_way = degraded && rolls && !rollout.fails;
    let why_degraded = match (blocked, complete) {
        (false, true) => "Healthy",
        (false, false) if by_the_way => NOT_READY,
        _ => reason,
    };
    vec![
        make("Ready", all, reason, message.clone()),
        make(
            "Progressing",
            moving && !blocked,
            if moving { reason } else { "Settled" },
            if moving {
                message.clone()
            } else {
                tally.clone()
            },
        ),
        make(
            "Degraded",
            degraded,
            why_degraded,
            if blocked { message } else { tally },
        ),
        protected(record, primary, &make),
    ]
}

/// Why the primary has not what `spec.bootstrap` and the Secrets promise to applications.
fn unprepared(observed: &Observed, record: &Record) -> Option<(&'static str, String)> {
    let primary = record.primary.as_ref()?;
    let (name, instance) = observed.by_id(&primary.id)?;
    match instance.heard()?.bootstrap.as_ref()? {
        BootstrapState::Done => None,
        BootstrapState::Pending => Some((
            BOOTSTRAPPING,
            format!("{name} makes the roles, the database and what spec.bootstrap.sql asks for"),
        )),
        BootstrapState::Failed { error } => Some((
            BOOTSTRAP_FAILED,
            format!(
                "{name}: roles and databases could not be made, and are tried again: {error}. Correct the Secret that is \
                 named, or spec.bootstrap.sql, which may change until it was run"
            ),
        )),
    }
}

/// `strict` asks for more standbys than stream, and not only for the moment that a member gets: writes stand still, though
/// the primary serves, and nobody else would say so.
fn commits_wait(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    primary: &EngineStatus,
) -> Option<String> {
    let set = record.newest_set()?;
    let is_away = |m: &&Member| primary.stream_of(&m.id, record.term).is_none();
    let away: Vec<&Member> = set.members.iter().filter(is_away).collect();
    let there = set.members.len() - away.len();
    let lost_after_ms = cluster.failover.member_lost_after_ms;
    let lasts = |m: &&&Member| observed.unstreamed(&m.id) >= lost_after_ms;
    let has_gone = set.members.len() < set.required as usize || away.iter().any(|m| lasts(&m));
    if set.durability != Durability::Strict || there >= set.required as usize || !has_gone {
        return None;
    }
    let names: Vec<&str> = away.iter().map(|m| m.name.as_str()).collect();
    let names = if names.is_empty() {
        String::new()
    } else {
        format!(" (missing: {})", names.join(", "))
    };
    Some(format!(
        "commits wait: with strict they need {} standbys, and {there} stream{names}; bring the others back, or set \
         spec.durability to quorum",
        set.required
    ))
}

/// `strict`, and a standby is missing.
const COMMITS_WAIT: &str = "CommitsWait";
/// What applications need is being made.
const BOOTSTRAPPING: &str = "Bootstrapping";
const ROLLING_OUT: &str = "RollingOut";
const PRIMARY_LOST: &str = "PrimaryLost";
/// Some wait for others, or come back by themselves.
const NOT_READY: &str = "InstancesNotReady";

/// A change of role, a seed or scaling is under way.
fn is_moving(record: Option<&Record>, plan: &Plan, wanted: usize) -> bool {
    let mut instances = plan.instances.iter();
    record.is_none_or(|r| r.phase != Phase::Running || r.change.is_some())
        || plan.instances.len() != wanted
        || instances.any(|i| i.role == InstanceRole::Seeding)
}

/// How many are ready, and what the others say of themselves.
fn tally(plan: &Plan, ready: usize, wanted: usize) -> String {
    let mut text = format!("{ready} of {wanted} instances are ready");
    for instance in plan.instances.iter().filter(|i| !i.ready) {
        if let Some(why) = &instance.message {
            text.push_str("; ");
            text.push_str(&instance.name);
            text.push_str(": ");
            text.push_str(why);
        }
    }
    text
}

/// Obstacles that do not go away by waiting.
pub(super) const BLOCKED: &[&str] = &[
    "FailoverBlocked",
    BOOTSTRAP_FAILED,
    COMMITS_WAIT,
    PRIMARY_LOST,
    "VolumeMissing",
    "ForeignData",
    "RecordDamaged",
    "PodNotRunning",
    "PrimaryUnheard",
];

fn protected(
    record: Option<&Record>,
    primary: Option<&EngineStatus>,
    make: &dyn Fn(&str, bool, &str, String) -> Condition,
) -> Condition {
    let Some(set) = record.and_then(Record::newest_set) else {
        return make(
            "Protected",
            false,
            "NoRecord",
            "there is no primary yet".to_owned(),
        );
    };
    if set.required == 0 {
        return make(
            "Protected",
            false,
            "AcknowledgesAlone",
            "a commit is on the primary only; its loss may lose acknowledged commits".to_owned(),
        );
    }
    let settled = primary.is_some_and(|e| {
        e.set_caught_up && e.set.as_ref().is_some_and(|s| s.version() == set.version())
    });
    if settled {
        let copies = set.required + 1;
        make(
            "Protected",
            true,
            "Replicated",
            format!("each commit is on {copies} copies before it is acknowledged"),
        )
    } else {
        make(
            "Protected",
            false,
            "CatchingUp",
            "the required standbys do not have everything yet".to_owned(),
        )
    }
}
