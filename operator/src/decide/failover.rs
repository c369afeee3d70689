//! A change of role, from the raised term to the promoted candidate.
//!
//! Two swaps: the first raised the term, and whoever lost it stopped; the second records the candidate and its
//! in-sync set on the very version that the answers were gathered for. Between them instances are sealed.

use super::answers::{self, Answer, Preference};
use super::running::health;
use super::{
    CLOSE_SERVICE_MS, FIRST_WORD_MS, FORCED_HANDOVER_MS, Instance, LATE_ANSWER_MS,
    LONG_PROMOTION_MS, Life, OLD_PRIMARY_START_MS, Observed, Plan, Routes, Step, force, in_sync,
    standbys,
};
use crate::api::EngineSet;
use crate::crd::{ChangeKind, Durability, Member, Phase, Record, RoleChange, TimelineFork};
use crate::ids::{InstanceId, Millis};
use crate::validate::{FailoverTimes, ValidatedCluster};

use super::running::Health;

/// Candidates that were lost one after the other and need somebody to look.
const MANY_LOST: u32 = 2;
const LONGEST_PAUSE_MS: u64 = 30_000;
/// Whoever is heard and was sealed answers by then, or something keeps it.
const EXPECTED_WITHIN_MS: u64 = 10_000;

/// The first swap: the next term, above everything that anyone has promised.
pub(super) fn raise_term(
    observed: &Observed,
    record: &Record,
    phase: Phase,
    change: RoleChange,
    plan: &mut Plan,
) {
    let promised = observed
        .instances
        .values()
        .filter_map(|i| i.status.as_ref())
        .map(|s| s.promised_term)
        .max()
        .unwrap_or_default();
    let term = record.term.max(promised).next();
    let next = Record {
        term,
        phase,
        candidate: None,
        change: Some(change),
        ..record.clone()
    };
    plan.swap(Some(record), next);
}

/// FailingOver and SwitchingOver: seal, gather answers, choose.
pub(super) fn gather(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    now: Millis,
    plan: &mut Plan,
) {
    let change = record.change.clone().unwrap_or(RoleChange {
        gap: None,
        lost_candidates: 0,
        lost_candidate_at: None,
        kind: ChangeKind::Failover,
        cause: "unknown".to_owned(),
        old: record.primary.clone(),
        target: None,
        detected_at: now,
        deadline: None,
        forced: false,
        lost_bytes: None,
    });
    let elapsed = now.since(change.detected_at);
    let in_time = change.deadline.is_some_and(|deadline| now < deadline);
    if record.phase == Phase::SwitchingOver
        && in_time
        && demote_first(cluster.failover, observed, record, plan)
    {
        plan.obstacle(
            "SwitchingOver",
            format!("{} is closing writes", primary_name(record)),
        );
        return;
    }
    let answers = answers::all(observed, record);
    let blocked = !answers::enough(record, &answers);
    seal_all(
        observed,
        record,
        &change,
        blocked && elapsed >= OLD_PRIMARY_START_MS,
        plan,
    );
    if force::choose(cluster, observed, record, &change, &answers, plan) {
        return;
    }
    let times = cluster.failover;
    let lasts = if blocked {
        tell_blocked(observed, record, &answers, elapsed, plan)
    } else if let Some(pause_ms) = rest(&change, now) {
        let why = format!("It begins again within {} s", pause_ms.div_ceil(1_000));
        tell_lost_candidates(record, &change, &why, plan);
        true
    } else if wait_for_more(times, observed, record, &answers, elapsed, in_time, &change) {
        let why = "waiting for the answers of instances that are alive";
        plan.obstacle("FailingOver", why);
        false
    } else {
        let tired = tired(record, &change);
        let preference = preference(&change, in_time, &tired);
        return choose(cluster, record, &answers, preference, plan);
    };
    // Not before: the next change of where the Service leads, to the new primary, would come into force a second later.
    if lasts || (!in_time && elapsed >= CLOSE_SERVICE_MS) {
        close_write_service(observed, record, plan);
    }
}

/// How long candidates that were lost one after the other are given rest, while they are: not what is left of it, because a
/// condition says so. The first time the next one is chosen at once: nodes die together.
fn rest(change: &RoleChange, now: Millis) -> Option<u64> {
    let lost_at = change.lost_candidate_at?;
    let doubled = change.lost_candidates.checked_sub(2)?.min(5);
    let pause = (1_000_u64 << doubled).min(LONGEST_PAUSE_MS);
    (now.since(lost_at) < pause).then_some(pause)
}

/// What keeps each of them from becoming primary is not seen from here, and somebody has to look.
fn tell_lost_candidates(record: &Record, change: &RoleChange, next: &str, plan: &mut Plan) {
    plan.obstacle(
        "FailoverBlocked",
        format!(
            "term {term}: {} candidates were lost one after the other before they took writes, the last time because {}. {next}. \
             Mend what ends them (the logs of their pods, their volumes); or, accepting that commits may be lost, \
             force-promote another one: NAME@{term}",
            change.lost_candidates,
            change.cause,
            term = record.term
        ),
    );
}

/// Who served under a listed set or was to: the old primary and every candidate that was lost.
fn tired<'a>(record: &'a Record, change: &'a RoleChange) -> Vec<&'a InstanceId> {
    let owners = record.in_sync.iter().filter_map(|set| set.owner.as_ref());
    let all = owners.chain(&change.old);
    all.map(|owner| &owner.id).collect()
}

/// Who is to win among equals.
fn preference<'a>(
    change: &'a RoleChange,
    in_time: bool,
    tired: &'a [&InstanceId],
) -> Preference<'a> {
    let target = change.target.as_deref().filter(|_| in_time);
    match change.kind {
        ChangeKind::Switchover if target.is_some() => Preference::Name(target),
        // A switchover that did not work out: the old primary reopens if it is as good as any.
        ChangeKind::Switchover => Preference::Name(change.old.as_ref().map(|o| o.name.as_str())),
        _ => Preference::AnyBut(tired),
    }
}

/// Asks the old primary to stop cleanly; false once it is sealed, or can't be asked.
fn demote_first(
    times: FailoverTimes,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) -> bool {
    let Some((name, instance)) = record.primary.as_ref().and_then(|p| observed.by_id(&p.id)) else {
        return false;
    };
    let Some(status) = instance.heard() else {
        return false;
    };
    if status.promised_term >= record.term && status.sealed {
        return false;
    }
    let longest = if instance.upkeep.forced {
        FORCED_HANDOVER_MS
    } else {
        u64::MAX
    };
    plan.step(Step::Demote {
        instance: name.to_owned(),
        term: record.term,
        within_ms: longest.min(times.switchover_within_ms / 2),
    });
    true
}

/// Leads clients nowhere while nobody can take over: they are refused at once, and don't wait for a silent address.
fn close_write_service(observed: &Observed, record: &Record, plan: &mut Plan) {
    let standbys = observed
        .routes
        .as_ref()
        .map(|r| r.standbys.clone())
        .unwrap_or_default();
    standbys::route(
        observed,
        Routes {
            record_version: record.record_version,
            primary: None,
            standbys,
        },
        plan,
    );
}

/// Fences the old primary where that is possible, starts what has ended, seals everyone else.
fn seal_all(
    observed: &Observed,
    record: &Record,
    change: &RoleChange,
    start_old: bool,
    plan: &mut Plan,
) {
    for (name, instance) in &observed.instances {
        let old = change.old.as_ref().is_some_and(|old| old.name == *name);
        match (instance.life, instance.heard()) {
            (Life::Ended, _) if !old || start_old => {
                plan.step(Step::Start {
                    instance: name.clone(),
                });
            }
            (Life::Ended, _) => {}
            // One that was only just started has not had the time to answer.
            (Life::Alive, None) if old && observed.fencing && instance.is_silent() => {
                if let Some(pid) = instance.pid {
                    plan.step(Step::Fence {
                        instance: name.clone(),
                        pid,
                        hangs: instance.upkeep.hangs,
                    });
                }
            }
            (Life::Alive, Some(status)) if is_sealed(instance, record) => {
                debug_assert!(status.promised_term >= record.term);
            }
            (Life::Alive, _) => {
                plan.step(Step::Seal {
                    instance: name.clone(),
                    term: record.term,
                });
            }
        }
    }
}

/// Promised at least this term, and its engine has obeyed (or has none to obey yet).
fn is_sealed(instance: &Instance, record: &Record) -> bool {
    instance.heard().is_some_and(|s| {
        let obeyed = s
            .engine
            .as_ref()
            .is_none_or(|e| e.sealed && e.promised_term >= Some(record.term));
        (s.promised_term == record.term && s.sealed && obeyed) || s.promised_term > record.term
    })
}

/// Says who is missing. True if that will not end by itself.
fn tell_blocked(
    observed: &Observed,
    record: &Record,
    answers: &[Answer],
    elapsed: u64,
    plan: &mut Plan,
) -> bool {
    let missing = answers::missing(record, answers);
    // One that is heard and can't answer would be waited for without an end, and nobody told.
    let is_late = elapsed >= EXPECTED_WITHIN_MS;
    let expected: Vec<&Member> = missing
        .iter()
        .filter(|m| !is_late && is_expected(observed, record, m))
        .collect();
    let names = |of: &[&Member]| {
        let mut all: Vec<&str> = of.iter().map(|m| m.name.as_str()).collect();
        all.dedup();
        all.join(", ")
    };
    if answers::enough_with(record, answers, &expected) {
        let asked = names(&expected);
        plan.obstacle(
            "FailingOver",
            format!("term {}: waiting for the answer of {asked}", record.term),
        );
        return false;
    }
    let silent: Vec<&Member> = missing.iter().filter(|m| !expected.contains(m)).collect();
    let said = silent.iter().filter_map(|m| what_it_says(observed, m));
    let said = said.reduce(|all, more| format!("{all}; {more}"));
    let said = said.map_or_else(String::new, |said| format!(" ({said})"));
    let best = answers::best(answers, Preference::AnyBut(&[])).map_or("NAME", |a| &a.member.name);
    plan.obstacle(
        "FailoverBlocked",
        format!(
            "term {term}: {} may hold acknowledged commits and does not answer{said}. Bring it back; or, accepting that \
             commits may be lost, force-promote {best}@{term}",
            names(&silent),
            term = record.term
        ),
    );
    true
}

/// Of one that is heard, though it does not answer.
fn what_it_says(observed: &Observed, member: &Member) -> Option<String> {
    let status = observed.instances.get(&member.name)?.heard()?;
    let seeding = || {
        status
            .seeding
            .as_ref()
            .and_then(|seeding| seeding.error.clone())
    };
    let said = status.message.clone().or_else(seeding);
    let said = said.unwrap_or_else(|| "it is starting".to_owned());
    Some(format!("{} is heard: {said}", member.name))
}

/// Alive, with the very copy that is asked for: its answer is only a matter of time. So it may be for one that an
/// operator has only just begun to listen to.
fn is_expected(observed: &Observed, record: &Record, member: &Member) -> bool {
    observed.instances.get(&member.name).is_some_and(|i| {
        let unheard = i.life == Life::Alive && i.status.is_none() && i.silent_ms < FIRST_WORD_MS;
        let asked = i.id() == Some(&member.id)
            && i.heard()
                .is_some_and(|s| s.promised_term <= record.term && s.system_id.is_some());
        unheard || asked
    })
}

/// Enough have answered; others that are alive get a moment, so that the new set is not smaller than it could be.
fn wait_for_more(
    times: FailoverTimes,
    observed: &Observed,
    record: &Record,
    answers: &[Answer],
    elapsed: u64,
    in_time: bool,
    change: &RoleChange,
) -> bool {
    let pending = |name: &String, instance: &Instance| {
        let answered = answers.iter().any(|a| a.member.name == *name);
        let can = instance
            .heard()
            .is_some_and(|s| s.system_id.is_some() && s.seeding.is_none());
        let waiting_for_target = in_time && change.target.as_ref() == Some(name);
        // Clients wait, and one that is only starting comes when it has replayed its log.
        let is_up = instance.engine().is_some_and(|e| e.consistent);
        let comes_soon = !in_time || waiting_for_target || is_up;
        !answered
            && can
            && comes_soon
            && (record
                .in_sync
                .iter()
                .any(|s| s.members.iter().any(|m| m.name == *name))
                || waiting_for_target)
    };
    let newest_async = record
        .newest_set()
        .is_some_and(|s| s.durability == Durability::Async);
    let patience = match (in_time, newest_async) {
        (true, _) => u64::MAX,
        (false, true) => times.async_answers_within_ms,
        (false, false) => LATE_ANSWER_MS,
    };
    elapsed < patience && observed.instances.iter().any(|(name, i)| pending(name, i))
}

/// The second swap.
fn choose(
    cluster: &ValidatedCluster,
    record: &Record,
    answers: &[Answer],
    preference: Preference<'_>,
    plan: &mut Plan,
) {
    let Some(best) = answers::best(answers, preference) else {
        return;
    };
    let set = in_sync::of_candidate(cluster, record, best, answers);
    let mut next = record.clone();
    next.phase = Phase::Promoting;
    next.candidate = Some(best.member.clone());
    // One that is chosen again after it was lost would make the list longer each time.
    next.in_sync.retain(|listed| !listed.asks_as(&set));
    next.in_sync.push(set);
    if next.in_sync.len() > in_sync::MOST_LISTED {
        let text = format!(
            "term {term}: the record has no room for another set. Bring back all instances, so that older ones are done with; \
             or, accepting that commits may be lost, force-promote {}@{term}",
            best.member.name,
            term = record.term
        );
        return plan.obstacle("FailoverBlocked", text);
    }
    // What was asked by force was not needed in the end.
    if let Some(change) = &mut next.change
        && change.kind == ChangeKind::Failover
        && change.target.take().is_some()
    {
        change.forced = false;
    }
    know_fork(&mut next, best);
    plan.event(
        "CandidateChosen",
        format!(
            "term {}: {} will be promoted; its log ends at {} on timeline {}",
            record.term, best.member.name, best.flush, best.timeline
        ),
    );
    plan.swap(Some(record), next);
}

/// A promotion that was overtaken before it was recorded left its fork in its own log only.
pub(super) fn know_fork(record: &mut Record, answer: &Answer) {
    if let Some(fork) = answer.fork {
        let Answer { timeline, .. } = *answer;
        record.add_fork(TimelineFork {
            timeline,
            parent: fork.timeline,
            lsn: fork.lsn,
        });
    }
}

/// Promoting: the candidate is made primary, the Service moves, the others follow.
pub(super) fn promote(
    cluster: &ValidatedCluster,
    observed: &Observed,
    record: &Record,
    now: Millis,
    plan: &mut Plan,
) {
    let (Some(candidate), Some(set)) = (&record.candidate, record.newest_set()) else {
        plan.obstacle(
            "RecordDamaged",
            "the record says Promoting and names no candidate",
        );
        return;
    };
    let promoted = observed
        .by_id(&candidate.id)
        .and_then(|(_, instance)| instance.engine())
        .filter(|engine| engine.is_primary_of(record.term));
    if let Some(engine) = promoted {
        standbys::lead_to(cluster.failover, observed, record, candidate, plan);
        for (name, instance) in &observed.instances {
            if instance.id().is_some_and(|id| set.contains(id)) {
                standbys::follow(name, instance, record, plan);
            }
        }
        let mut next = record.clone();
        next.phase = Phase::Running;
        next.primary = next.candidate.take();
        if let Some(fork) = engine.fork {
            next.add_fork(TimelineFork {
                timeline: record.term,
                parent: fork.timeline,
                lsn: fork.lsn,
            });
        }
        plan.event(
            "Promoted",
            format!("{} is the primary of term {}", candidate.name, record.term),
        );
        plan.swap(Some(record), next);
        return;
    }
    match health(cluster.failover, observed, record, candidate) {
        Health::Lost(cause) => {
            let cause = format!("the candidate {} was lost: {cause}", candidate.name);
            begin_again(observed, record, cause, now, plan);
        }
        Health::Good | Health::Grace(..) => {
            plan.step(Step::Promote {
                instance: candidate.name.clone(),
                term: record.term,
                candidate: candidate.id.clone(),
                set: EngineSet::from(set),
            });
            let begun = record.change.as_ref().map(|change| change.detected_at);
            if begun.is_some_and(|begun| now.since(begun) >= LONG_PROMOTION_MS) {
                close_write_service(observed, record, plan);
            }
            let change = record.change.as_ref();
            let text = format!("{} is being promoted", candidate.name);
            match change.filter(|change| change.lost_candidates >= MANY_LOST) {
                Some(change) => {
                    tell_lost_candidates(record, change, &format!("Now {text}"), plan);
                }
                None => plan.obstacle("FailingOver", text),
            }
        }
    }
}

/// A term has one candidate for ever: another one needs a higher term.
fn begin_again(observed: &Observed, record: &Record, cause: String, now: Millis, plan: &mut Plan) {
    let open = record.change.as_ref();
    let change = RoleChange {
        gap: open.and_then(|c| c.gap.clone()),
        lost_candidates: open.map_or(0, |c| c.lost_candidates).saturating_add(1),
        lost_candidate_at: Some(now),
        kind: ChangeKind::Failover,
        cause,
        old: open.and_then(|c| c.old.clone()),
        target: None,
        detected_at: open.map_or(now, |c| c.detected_at),
        deadline: None,
        forced: open.is_some_and(|c| c.forced),
        lost_bytes: None,
    };
    plan.warn("FailoverRestarted", change.cause.clone());
    raise_term(observed, record, Phase::FailingOver, change, plan);
}

fn primary_name(record: &Record) -> &str {
    record.primary.as_ref().map_or("nobody", |p| &p.name)
}
