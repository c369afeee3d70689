//! What is decided in the situations that people ask about, one by one.

mod broken;
mod durability;
mod forced;
mod lost;
mod planned;
mod prepared;
mod reads;
mod seeds;
mod service;
mod standstill;
mod times;
mod unheard;

use std::collections::BTreeMap;

use super::{
    ENGINE_SILENT_MS, Instance, LATE_ANSWER_ASYNC_MS, Life, MEMBER_LOST_MS, OLD_PRIMARY_START_MS,
    Observed, Past, Plan, RequestKind, SILENT_MS, Seed, Step, decide,
};
use crate::api::{
    EngineRole, EngineSet, EngineStatus, Fork, Receiver, StandbyStream, SupervisorState,
    SupervisorStatus,
};
use crate::crd::{
    ChangeKind, Durability, InSyncSet, Member, Phase, Record, RoleChange, TimelineFork,
};
use crate::ids::{InstanceId, Lsn, Millis, Term};
use crate::validate::{Requests, ValidatedCluster};

const NOW: Millis = Millis::new(1_000_000);
const T3: Term = Term::new(3);

fn member(number: u32) -> Member {
    Member {
        name: format!("m-{number}"),
        id: InstanceId::new(format!("id{number}")),
    }
}

fn cluster(replicas: u32, durability: Durability) -> ValidatedCluster {
    ValidatedCluster {
        name: "m".to_owned(),
        replicas,
        durability,
        storage_bytes: 1 << 30,
        parameters: BTreeMap::new(),
        generation: 1,
        requests: Requests::default(),
        ..ValidatedCluster::default()
    }
}

fn set(owner: u32, members: &[u32], required: u32) -> InSyncSet {
    InSyncSet {
        term: T3,
        counter: 1,
        owner: Some(member(owner)),
        members: members.iter().map(|n| member(*n)).collect(),
        required,
        durability: Durability::Quorum,
    }
}

fn engine(number: u32, role: EngineRole, flush: u64) -> EngineStatus {
    EngineStatus {
        system_id: "1".to_owned(),
        instance_id: Some(member(number).id),
        role,
        in_recovery: role == EngineRole::Standby,
        consistent: true,
        writable: role == EngineRole::Primary,
        held: None,
        timeline: T3,
        insert_lsn: None,
        write_lsn: None,
        flush_lsn: Some(Lsn::new(flush)),
        replay_lsn: Some(Lsn::new(flush)),
        replay_stuck: false,
        released_lsn: None,
        end_of_recovery_lsn: None,
        promised_term: Some(T3),
        sealed: false,
        primary_term: (role == EngineRole::Primary).then_some(T3),
        set: None,
        set_caught_up: true,
        promoted_at_ms: None,
        writable_at_ms: None,
        receiver: None,
        standbys: Vec::new(),
        fork: None,
    }
}

fn instance(number: u32, engine: EngineStatus) -> Instance {
    let status = SupervisorStatus {
        cluster_id: "c".to_owned(),
        name: member(number).name,
        instance_id: Some(member(number).id),
        system_id: Some("1".to_owned()),
        promised_term: engine.promised_term.unwrap_or_default(),
        sealed: engine.sealed,
        set: engine.set.clone(),
        state: SupervisorState::Running,
        supervisor_pid: number,
        engine_pid: Some(100 + number),
        port: 1,
        crashes: 0,
        down_ms: 0,
        engine_silent_ms: 0,
        seeding: None,
        engine: Some(engine),
        message: None,
        began_at: Millis::default(),
        serial: 0,
        pod_uid: None,
        generation: 0,
        pending_restart: false,
        refused_settings: None,
        volume_full: None,
        bootstrap: None,
        leaving: false,
        gave_way: false,
    };
    Instance {
        lost_after_ms: crate::decide::SILENT_MS,
        upkeep: crate::decide::Upkeep::default(),
        life: Life::Alive,
        pid: Some(number),
        silent_ms: 0,
        status: Some(status),
    }
}

fn streaming(term: Term) -> Receiver {
    Receiver {
        state: "streaming".to_owned(),
        upstream_term: Some(term),
        ..Receiver::default()
    }
}

/// A whole cluster: m-1 is the primary, the others stream from it.
fn running(standbys: u32) -> Observed {
    let members: Vec<u32> = (2..=standbys + 1).collect();
    let set = set(
        1,
        &members,
        crate::decide::in_sync::quorum_of(members.len()),
    );
    let mut primary = engine(1, EngineRole::Primary, 500);
    primary.set = Some(EngineSet::from(&set));
    primary.standbys = members
        .iter()
        .map(|n| StandbyStream {
            instance_id: Some(member(*n).id),
            term: Some(T3),
            state: "streaming".to_owned(),
            flush_lsn: Some(Lsn::new(500)),
            ..StandbyStream::default()
        })
        .collect();
    let mut instances = BTreeMap::from([("m-1".to_owned(), instance(1, primary))]);
    for n in members {
        let mut standby = engine(n, EngineRole::Standby, 500);
        standby.receiver = Some(streaming(T3));
        instances.insert(member(n).name, instance(n, standby));
    }
    Observed {
        record: Some(Record {
            record_version: 7,
            term: T3,
            phase: Phase::Running,
            primary: Some(member(1)),
            candidate: None,
            in_sync: vec![set],
            system_id: Some("1".to_owned()),
            forks: Vec::new(),
            change: None,
        }),
        past: Past::default(),
        instances,
        unstreamed_ms: BTreeMap::new(),
        stuck_ms: BTreeMap::new(),
        routes: None,
        retired: Vec::new(),
        fencing: true,
    }
}

fn record(observed: &mut Observed) -> &mut Record {
    observed.record.as_mut().expect("this test has a record")
}

fn status(observed: &mut Observed, number: u32) -> &mut SupervisorStatus {
    let instance = observed
        .instances
        .get_mut(&member(number).name)
        .expect("it exists");
    instance.status.as_mut().expect("it is heard")
}

/// m-`number` has answered the seal of the record's term.
fn answered(observed: &mut Observed, number: u32, timeline: Term, flush: u64) {
    let term = record(observed).term;
    let status = status(observed, number);
    status.promised_term = term;
    status.sealed = true;
    let mut engine = engine(number, EngineRole::Standby, flush);
    engine.promised_term = Some(term);
    engine.sealed = true;
    engine.timeline = timeline;
    status.engine = Some(engine);
}

/// The primary has gone and term 4 was raised `elapsed` ago.
fn failing(standbys: u32, elapsed: u64) -> Observed {
    let mut observed = running(standbys);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Ended;
    let record = record(&mut observed);
    record.term = Term::new(4);
    record.phase = Phase::FailingOver;
    record.change = Some(RoleChange {
        gap: None,
        lost_candidates: 0,
        lost_candidate_at: None,
        kind: ChangeKind::Failover,
        cause: "m-1 has ended".to_owned(),
        old: Some(member(1)),
        target: None,
        detected_at: Millis::new(NOW.raw() - elapsed),
        deadline: None,
        lost_bytes: None,
        forced: false,
    });
    observed
}

fn candidate(plan: &Plan) -> Option<String> {
    plan.swap
        .as_ref()
        .and_then(|s| s.record.candidate.clone())
        .map(|m| m.name)
}

fn reason(plan: &Plan) -> &str {
    plan.obstacle.as_ref().map_or("", |(reason, _)| reason)
}

#[test]
fn a_whole_cluster_needs_nothing_but_its_routes() {
    let plan = decide(&cluster(2, Durability::Quorum), &running(2), NOW);
    assert!(plan.swap.is_none() && plan.events.is_empty());
    assert!(
        matches!(plan.steps.as_slice(), [Step::Route(routes)] if routes.standbys == ["m-2", "m-3"])
    );
    assert!(plan.instances.iter().all(|i| i.ready));
}

/// As its own `/readyz` has it: it shows what is older and older. It still has the log, so it stays in the set.
#[test]
fn a_standby_whose_replay_is_stuck_is_read_from_no_more() {
    let mut observed = running(2);
    let engine = status(&mut observed, 2).engine.as_mut();
    engine.expect("it runs").replay_stuck = true;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none());
    assert!(matches!(plan.steps.as_slice(), [Step::Route(routes)] if routes.standbys == ["m-3"]));
    let ready = plan.instances.iter().filter(|i| i.ready);
    let ready: Vec<&str> = ready.map(|i| i.name.as_str()).collect();
    assert_eq!(ready, ["m-1", "m-3"]);
}

#[test]
fn a_primary_that_has_ended_raises_the_term_and_nothing_else() {
    let mut observed = running(2);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Ended;
    let swap = decide(&cluster(2, Durability::Quorum), &observed, NOW)
        .swap
        .expect("a swap");
    assert_eq!(
        (swap.expect, swap.record.term, swap.record.phase),
        (Some(7), Term::new(4), Phase::FailingOver)
    );
    assert_eq!(swap.record.in_sync, record(&mut observed).in_sync);
}

#[test]
fn a_supervisor_that_restarts_its_engine_gets_a_second_and_only_once() {
    let lost = |down_ms, crashes| {
        let mut observed = running(2);
        let status = status(&mut observed, 1);
        status.state = SupervisorState::Restarting;
        (status.down_ms, status.crashes, status.engine) = (down_ms, crashes, None);
        decide(&cluster(2, Durability::Quorum), &observed, NOW)
            .swap
            .is_some()
    };
    assert_eq!(
        (lost(900, 1), lost(1_100, 1), lost(1, 2)),
        (false, true, true)
    );
}

/// Another process is there than the one that served, and it may never get at the volume.
#[test]
fn a_primary_that_does_not_say_which_copy_it_holds_is_lost() {
    let mut observed = running(2);
    let begins = status(&mut observed, 1);
    (begins.instance_id, begins.engine) = (None, None);
    begins.state = SupervisorState::Starting;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    let raised = plan.swap.expect("a swap").record;
    assert_eq!(
        (raised.term, raised.phase),
        (Term::new(4), Phase::FailingOver)
    );
}

/// All serve and are ready, so that nothing else would say it.
#[test]
fn a_full_volume_is_a_condition_and_no_failover() {
    use crate::crd::ConditionStatus;
    let degraded = |observed: &Observed| {
        let plan = decide(&cluster(2, Durability::Quorum), observed, NOW);
        let term = plan.swap.map_or(T3, |swap| swap.record.term);
        assert_eq!(term, T3);
        let mut conditions = plan.conditions.into_iter();
        let found = conditions.find(|c| c.type_ == "Degraded");
        let found = found.expect("it is always there");
        (found.status, found.reason, found.message)
    };
    let mut observed = running(2);
    assert_eq!(degraded(&observed).0, ConditionStatus::False);
    let full = "the volume is full to 99%";
    status(&mut observed, 1).volume_full = Some(full.to_owned());
    let (is, reason, message) = degraded(&observed);
    assert_eq!((is, reason.as_str()), (ConditionStatus::True, "VolumeFull"));
    assert_eq!(message, format!("m-1: {full}"));
    // What is wrong besides is told as well.
    observed.instances.get_mut("m-3").expect("it exists").life = Life::Ended;
    let (is, reason, message) = degraded(&observed);
    assert_eq!(
        (is, reason.as_str()),
        (ConditionStatus::True, "InstancesNotReady")
    );
    assert!(
        message.contains("2 of 3") && message.contains(full),
        "{message}"
    );
}

#[test]
fn the_manifest_s_times_are_gone_by() {
    let mut patient = cluster(2, Durability::Quorum);
    patient.failover.restart_within_ms = 8_000;
    patient.failover.lost_after_ms = 9_000;
    let raises = |change: &dyn Fn(&mut Observed)| {
        let mut observed = running(2);
        for instance in observed.instances.values_mut() {
            instance.lost_after_ms = patient.failover.lost_after_ms;
        }
        change(&mut observed);
        decide(&patient, &observed, NOW).swap.is_some()
    };
    for (ms, raised) in [(7_900, false), (8_100, true)] {
        let down = |observed: &mut Observed| {
            let status = status(observed, 1);
            (status.down_ms, status.crashes, status.engine) = (ms, 1, None);
        };
        assert_eq!(raises(&down), raised, "{ms}");
    }
    for (ms, raised) in [(8_900, false), (9_000, true)] {
        let silent = |observed: &mut Observed| {
            observed
                .instances
                .get_mut("m-1")
                .expect("it exists")
                .silent_ms = ms;
        };
        assert_eq!(raises(&silent), raised, "{ms}");
        let hangs = |observed: &mut Observed| status(observed, 1).engine_silent_ms = ms;
        assert_eq!(raises(&hangs), raised, "{ms}");
    }
}

#[test]
fn a_primary_alone_is_started_again_in_its_own_term() {
    let mut observed = running(0);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Ended;
    let plan = decide(&cluster(0, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none());
    assert!(plan.steps.contains(&Step::Start {
        instance: "m-1".to_owned()
    }));
}

#[test]
fn the_newest_timeline_wins_over_the_longest_log() {
    let mut observed = failing(2, 0);
    answered(&mut observed, 2, Term::new(2), 900);
    answered(&mut observed, 3, T3, 400);
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-3"));
    // m-2's log is not m-3's: it can't be counted on.
    let swap = plan.swap.expect("a swap");
    assert!(
        swap.record
            .newest_set()
            .is_some_and(|s| s.members.is_empty() && s.required == 0)
    );
    assert_eq!(swap.record.in_sync.len(), 2, "the older set stays listed");
}

#[test]
fn two_standbys_under_one_required_both_have_to_answer() {
    let mut observed = failing(2, 60_000);
    answered(&mut observed, 2, T3, 500);
    observed.instances.get_mut("m-3").expect("it exists").life = Life::Ended;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!((candidate(&plan), reason(&plan)), (None, "FailoverBlocked"));
    let message = &plan.obstacle.as_ref().expect("it is blocked").1;
    assert!(
        message.contains("m-3") && message.contains("force-promote m-2@4"),
        "{message}"
    );
    // Blocked for long: whoever has ended is started for its answer, the old primary as well.
    for name in ["m-1", "m-3"] {
        assert!(
            plan.steps.contains(&Step::Start {
                instance: name.to_owned()
            }),
            "{:?}",
            plan.steps
        );
    }
    // The old primary's own answer is enough.
    answered(&mut observed, 1, T3, 520);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Alive;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-1"));
}

#[test]
fn a_standby_goes_before_the_old_primary_among_equals() {
    let mut observed = failing(2, 0);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Alive;
    for number in 1..=3 {
        answered(&mut observed, number, T3, 500);
    }
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-2"));
    let set = plan
        .swap
        .expect("a swap")
        .record
        .in_sync
        .pop()
        .expect("its set");
    assert_eq!((set.members, set.required), (vec![member(1), member(3)], 1));
}

#[test]
fn async_promotes_the_best_of_those_that_answer_in_time() {
    for (elapsed, chosen) in [
        (LATE_ANSWER_ASYNC_MS - 1, None),
        (LATE_ANSWER_ASYNC_MS, Some("m-2")),
    ] {
        let mut observed = failing(2, elapsed);
        let sets = &mut record(&mut observed).in_sync;
        (sets[0].durability, sets[0].required) = (Durability::Async, 0);
        answered(&mut observed, 2, T3, 300);
        let plan = decide(&cluster(2, Durability::Async), &observed, NOW);
        assert_eq!(candidate(&plan).as_deref(), chosen, "after {elapsed} ms");
    }
}

#[test]
fn a_lost_member_leaves_after_its_seconds_and_one_that_is_near_joins() {
    let mut observed = running(2);
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    primary
        .standbys
        .retain(|s| s.instance_id == Some(member(2).id));
    for (unstreamed, members) in [(MEMBER_LOST_MS - 1, 2), (MEMBER_LOST_MS, 1)] {
        observed.unstreamed_ms = BTreeMap::from([(member(3).id, unstreamed)]);
        let swap = decide(&cluster(2, Durability::Quorum), &observed, NOW).swap;
        let set = swap.and_then(|s| s.record.in_sync.last().cloned());
        assert_eq!(
            set.map_or(2, |s| s.members.len()),
            members,
            "after {unstreamed} ms"
        );
    }
    let mut observed = running(2);
    let sets = &mut record(&mut observed).in_sync;
    sets[0] = set(1, &[2], 1);
    status(&mut observed, 1)
        .engine
        .as_mut()
        .expect("it runs")
        .set = Some(EngineSet::from(&set(1, &[2], 1)));
    let swap = decide(&cluster(2, Durability::Quorum), &observed, NOW)
        .swap
        .expect("m-3 joins");
    assert_eq!(swap.record.in_sync.len(), 2);
    assert_eq!(
        swap.record
            .newest_set()
            .map(|s| (s.members.len(), s.required)),
        Some((2, 1))
    );
}

#[test]
fn strict_keeps_a_lost_member() {
    let mut observed = running(2);
    let strict = InSyncSet {
        required: 2,
        durability: Durability::Strict,
        ..set(1, &[2, 3], 2)
    };
    let engine = status(&mut observed, 1).engine.as_mut().expect("it runs");
    engine.set = Some(EngineSet::from(&strict));
    engine.standbys.clear();
    record(&mut observed).in_sync = vec![strict];
    observed.unstreamed_ms = [2, 3].map(|n| (member(n).id, 60_000)).into();
    assert!(
        decide(&cluster(2, Durability::Strict), &observed, NOW)
            .swap
            .is_none()
    );
}

#[test]
fn older_sets_go_when_the_new_one_has_everything() {
    let mut observed = running(2);
    let newer = InSyncSet {
        counter: 2,
        ..set(1, &[2, 3], 1)
    };
    record(&mut observed).in_sync = vec![set(1, &[2], 1), newer.clone()];
    for (in_effect, caught_up, dropped) in [(1, true, false), (2, false, false), (2, true, true)] {
        let engine = status(&mut observed, 1).engine.as_mut().expect("it runs");
        let mut effective = EngineSet::from(&newer);
        effective.counter = in_effect;
        (engine.set, engine.set_caught_up) = (Some(effective), caught_up);
        let swap = decide(&cluster(2, Durability::Quorum), &observed, NOW).swap;
        assert_eq!(
            swap.is_some_and(|s| s.record.in_sync == [newer.clone()]),
            dropped
        );
    }
}

/// m-3 stood on an older timeline when the present one, 3, left it at position 100.
fn returned(flush: u64) -> Plan {
    decide(
        &cluster(2, Durability::Quorum),
        &having_returned(flush),
        NOW,
    )
}

fn having_returned(flush: u64) -> Observed {
    let mut observed = running(2);
    record(&mut observed).forks = vec![TimelineFork {
        timeline: T3,
        parent: Term::new(1),
        lsn: Lsn::new(100),
    }];
    answered(&mut observed, 3, Term::new(1), flush);
    record(&mut observed).in_sync = vec![set(1, &[2], 1)];
    observed
}

#[test]
fn what_the_old_primary_had_more_is_written_down_before_its_copy_goes() {
    let mut observed = having_returned(130);
    let engine = status(&mut observed, 1).engine.as_mut().expect("it runs");
    engine.writable = false;
    engine.fork = Some(Fork {
        timeline: Term::new(1),
        lsn: Lsn::new(100),
    });
    record(&mut observed).change = Some(RoleChange {
        gap: None,
        lost_candidates: 0,
        lost_candidate_at: None,
        kind: ChangeKind::Failover,
        cause: "m-3 has ended".to_owned(),
        old: Some(member(3)),
        target: None,
        detected_at: NOW,
        deadline: None,
        forced: false,
        lost_bytes: None,
    });
    let reseeds = |plan: &Plan| plan.steps.iter().any(|s| matches!(s, Step::Reseed { .. }));
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(!reseeds(&plan));
    let written = plan.swap.expect("the record says it first").record;
    assert_eq!(written.change.as_ref().and_then(|c| c.lost_bytes), Some(30));

    // The failover need not wait for it; the report has it when the copy is gone.
    *record(&mut observed) = written;
    assert!(reseeds(&decide(
        &cluster(2, Durability::Quorum),
        &observed,
        NOW
    )));
    observed.instances.remove("m-3");
    let engine = status(&mut observed, 1).engine.as_mut().expect("it runs");
    engine.writable = true;
    let report = decide(&cluster(2, Durability::Quorum), &observed, NOW).last_failover;
    assert_eq!(report.and_then(|r| r.lost_bytes), Some(30));
}

#[test]
fn who_has_not_diverged_follows_and_who_has_is_seeded_anew() {
    let follows = |plan: &Plan| {
        plan.steps
            .iter()
            .any(|s| matches!(s, Step::Follow { instance, .. } if instance == "m-3"))
    };
    let reseeds = |plan: &Plan| {
        plan.steps
            .iter()
            .any(|s| matches!(s, Step::Reseed { id, .. } if *id == member(3).id))
    };
    let (same, diverged) = (returned(100), returned(101));
    assert!(follows(&same) && !reseeds(&same));
    assert!(reseeds(&diverged) && !follows(&diverged));
}

#[test]
fn scaling_down_waits_for_the_set_and_spares_the_primary() {
    let mut observed = running(2);
    let plan = decide(&cluster(1, Durability::Quorum), &observed, NOW);
    assert!(
        !plan.steps.iter().any(|s| matches!(s, Step::Remove { .. })),
        "m-3 still counts"
    );
    let set = plan
        .swap
        .expect("it leaves the set")
        .record
        .in_sync
        .pop()
        .expect("a set");
    assert_eq!(set.members, [member(2)]);
    record(&mut observed).in_sync = vec![set.clone()];
    status(&mut observed, 1)
        .engine
        .as_mut()
        .expect("it runs")
        .set = Some(EngineSet::from(&set));
    let plan = decide(&cluster(1, Durability::Quorum), &observed, NOW);
    assert!(plan.steps.contains(&Step::Remove {
        instance: "m-3".to_owned()
    }));
    let plan = decide(&cluster(4, Durability::Quorum), &running(2), NOW);
    let created: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::Create {
                instance,
                seed: Seed::Backup,
                ..
            } => Some(instance.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(created, ["m-4", "m-5"]);
}

#[test]
fn a_switchover_asks_the_primary_first_and_reopens_it_when_time_is_up() {
    let mut asked = cluster(2, Durability::Quorum);
    asked.requests.switchover_to = Some("m-3".to_owned());
    let mut observed = running(2);
    let plan = decide(&asked, &observed, NOW);
    assert!(
        plan.outcomes
            .iter()
            .any(|o| o.request == RequestKind::SwitchoverTo && !o.event.warning)
    );
    observed.record = plan.swap.map(|s| s.record);
    let asked = cluster(2, Durability::Quorum);
    let plan = decide(&asked, &observed, NOW);
    assert!(matches!(plan.steps.as_slice(), [Step::Demote { instance, .. }] if instance == "m-1"));
    for number in 1..=3 {
        answered(&mut observed, number, T3, 500);
    }
    assert_eq!(
        candidate(&decide(&asked, &observed, NOW)).as_deref(),
        Some("m-3")
    );
    let late = NOW.plus(crate::decide::SWITCHOVER_MS);
    assert_eq!(
        candidate(&decide(&asked, &observed, late)).as_deref(),
        Some("m-1")
    );
    // Somebody who answered is ahead of the target.
    answered(&mut observed, 3, T3, 499);
    assert_ne!(
        candidate(&decide(&asked, &observed, NOW)).as_deref(),
        Some("m-3")
    );
}

#[test]
fn another_databases_volume_is_left_alone() {
    let mut observed = running(2);
    answered(&mut observed, 3, T3, 900);
    status(&mut observed, 3)
        .engine
        .as_mut()
        .expect("it runs")
        .system_id = "2".to_owned();
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!(reason(&plan), "ForeignData");
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| matches!(s, Step::Reseed { .. } | Step::Remove { .. }))
    );
}

/// Blocked for want of m-3's answer: the old primary's own is asked for, so its process is started, not ended again.
#[test]
fn an_old_primary_that_was_started_for_its_answer_is_not_fenced() {
    let decided = |observed: &Observed| decide(&cluster(2, Durability::Quorum), observed, NOW);
    let fences = |plan: &Plan| plan.steps.iter().any(|s| matches!(s, Step::Fence { .. }));
    let mut observed = failing(2, OLD_PRIMARY_START_MS);
    answered(&mut observed, 2, T3, 500);
    observed
        .instances
        .get_mut("m-3")
        .expect("it exists")
        .silent_ms = SILENT_MS;
    let start = Step::Start {
        instance: "m-1".to_owned(),
    };
    assert!(decided(&observed).steps.contains(&start));
    let old = observed.instances.get_mut("m-1").expect("it exists");
    (old.life, old.status) = (Life::Alive, None);
    for (silent_ms, fenced) in [(0, false), (SILENT_MS, true)] {
        observed
            .instances
            .get_mut("m-1")
            .expect("it exists")
            .silent_ms = silent_ms;
        let plan = decided(&observed);
        assert_eq!(fences(&plan), fenced, "{:?}", plan.steps);
    }
}

#[test]
fn a_new_operator_does_not_call_blocked_what_it_has_not_asked_yet() {
    let mut observed = failing(2, 0);
    for instance in observed.instances.values_mut() {
        instance.status = None;
    }
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Alive;
    let reason_after = |silent_ms: u64, observed: &mut Observed| {
        for instance in observed.instances.values_mut() {
            instance.silent_ms = silent_ms;
        }
        reason(&decide(&cluster(2, Durability::Quorum), observed, NOW)).to_owned()
    };
    assert_eq!(reason_after(0, &mut observed), "FailingOver");
    assert_eq!(reason_after(SILENT_MS, &mut observed), "FailoverBlocked");
}

/// The primary still lists the stream of a standby that was frozen: it does not bring it back into the set.
#[test]
fn a_frozen_standby_does_not_join_by_a_stream_that_nobody_ended() {
    let joins = |frozen: &dyn Fn(&mut Instance)| {
        let mut observed = running(2);
        let small = set(1, &[2], 1);
        let in_effect = Some(EngineSet::from(&small));
        record(&mut observed).in_sync[0] = small;
        status(&mut observed, 1)
            .engine
            .as_mut()
            .expect("it runs")
            .set = in_effect;
        observed.unstreamed_ms = BTreeMap::from([(member(3).id, MEMBER_LOST_MS)]);
        frozen(observed.instances.get_mut("m-3").expect("it exists"));
        let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
        plan.swap.is_some()
    };
    assert!(joins(&|_| {}));
    assert!(!joins(&|i| i.silent_ms = SILENT_MS));
    assert!(!joins(&|i| {
        let status = i.status.as_mut().expect("it was heard");
        status.engine_silent_ms = ENGINE_SILENT_MS;
    }));
}
