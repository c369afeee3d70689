//! Properties of [`super::decide`] over generated observations, most of which no real cluster would show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Instance, Life, Observed, Past, Step, decide};
use crate::api::{
    EngineRole, EngineSet, EngineStatus, Fork, Receiver, StandbyStream, SupervisorState,
    SupervisorStatus,
};
use crate::crd::{
    ChangeKind, Durability, InSyncSet, Member, Phase, Record, RoleChange, TimelineFork,
};
use crate::ids::{InstanceId, Lsn, Millis, Term};
use crate::validate::{Requests, ValidatedCluster};

const NAMES: u32 = 4;

fn member(number: u32) -> Member {
    Member {
        name: format!("m-{number}"),
        id: InstanceId::new(format!("id{number}")),
    }
}

fn term() -> impl Strategy<Value = Term> {
    (1_u32..6).prop_map(Term::new)
}

/// Mostly the same one, so that records and promises meet.
fn promised() -> impl Strategy<Value = Term> {
    prop_oneof![4 => Just(Term::new(4)), 1 => term()]
}

fn likely(percent: u32) -> impl Strategy<Value = bool> {
    (0_u32..100).prop_map(move |roll| roll < percent)
}

fn lsn() -> impl Strategy<Value = Lsn> {
    (1_u64..40).prop_map(Lsn::new)
}

prop_compose! {
    fn set()(term in term(), counter in 1_u64..4, owner in proptest::option::of(1..=NAMES),
             members in proptest::collection::btree_set(1..=NAMES, 0..4), more in 0_u32..2,
             durability in prop_oneof![4 => Just(Durability::Quorum), 1 => Just(Durability::Strict)]) -> InSyncSet {
        let members: Vec<Member> = members.into_iter().filter(|m| Some(*m) != owner).map(member).collect();
        let required = super::in_sync::quorum_of(members.len()) + more;
        InSyncSet { term, counter, owner: owner.map(member), members, required, durability }
    }
}

prop_compose! {
    fn record()(version in 1_u64..9, term in promised(), phase in prop_oneof![
                    3 => Just(Phase::Running), 3 => Just(Phase::FailingOver), 1 => Just(Phase::SwitchingOver), 2 => Just(Phase::Promoting)],
                primary in 1..=NAMES, candidate in 1..=NAMES, sets in vec(set().boxed(), 1..4).boxed(), detected in 1_u64..50_000) -> Record {
        let changing = phase != Phase::Running;
        Record {
            record_version: version,
            term,
            phase,
            primary: Some(member(primary)),
            candidate: (phase == Phase::Promoting).then(|| member(candidate)),
            in_sync: sets,
            system_id: Some("1".to_owned()),
            forks: vec![TimelineFork { timeline: Term::new(3), parent: Term::new(2), lsn: Lsn::new(20) }],
            change: changing.then(|| RoleChange {
                gap: None,
                lost_candidates: 0,
                lost_candidate_at: None,
                kind: ChangeKind::Failover,
                cause: "a test".to_owned(),
                old: Some(member(primary)),
                target: None,
                detected_at: Millis::new(detected),
                deadline: None,
                lost_bytes: None,
                forced: false,
            }),
        }
    }
}

prop_compose! {
    fn engine(id: InstanceId)(primary in likely(20), consistent in likely(90), timeline in term(), flush in lsn(),
              promised in promised(), sealed in likely(75), set in proptest::option::of(set().boxed()).boxed(), caught_up in any::<bool>(),
              own in proptest::option::weighted(0.95, Just(())), system in prop_oneof![9 => Just("1"), 1 => Just("2")],
              streams in vec((1..=NAMES, term(), lsn()), 0..3)) -> EngineStatus {
        // A primary is mostly a sound one.
        let sound = primary && flush.raw() % 8 != 0;
        let (timeline, sealed) = if sound { (Term::new(4), false) } else { (timeline, sealed) };
        EngineStatus {
            system_id: system.to_owned(),
            instance_id: own.map(|()| id.clone()),
            role: if primary { EngineRole::Primary } else { EngineRole::Standby },
            in_recovery: !primary,
            consistent,
            writable: primary && caught_up,
            held: None,
            timeline,
            insert_lsn: None,
            write_lsn: None,
            flush_lsn: Some(flush),
            replay_lsn: Some(flush),
            replay_stuck: false,
            released_lsn: None,
            end_of_recovery_lsn: None,
            promised_term: Some(promised),
            sealed,
            primary_term: primary.then_some(timeline),
            set: set.as_ref().map(EngineSet::from),
            set_caught_up: caught_up,
            promoted_at_ms: None,
            writable_at_ms: None,
            receiver: (!primary && flush.raw() % 4 == 1).then(|| Receiver {
                state: "connecting".to_owned(),
                ..Receiver::default()
            }),
            standbys: streams.into_iter().map(|(n, term, flush)| StandbyStream {
                instance_id: Some(member(n).id),
                term: Some(term),
                state: "streaming".to_owned(),
                flush_lsn: Some(flush),
                ..StandbyStream::default()
            }).collect(),
            fork: Some(Fork { timeline: Term::new(1), lsn: Lsn::new(10) }),
        }
    }
}

// Boxed: the trees of generated values are large, and a test thread's stack is small.
fn instance(number: u32) -> BoxedStrategy<Instance> {
    let id = prop_oneof![6 => Just(member(number).id), 1 => Just(InstanceId::new(format!("another{number}")))];
    id.prop_flat_map(move |id| {
        let engine = proptest::option::weighted(0.85, engine(id.clone()).boxed()).boxed();
        (
            engine,
            any::<bool>(),
            term(),
            any::<bool>(),
            0_u64..4_000,
            0_u32..3,
            any::<bool>(),
        )
            .prop_map(
                move |(engine, alive, promised, sealed, silent_ms, crashes, heard)| {
                    // Mostly engine and supervisor agree, as they do when the engine has obeyed.
                    let promised = engine
                        .as_ref()
                        .and_then(|e| e.promised_term)
                        .unwrap_or(promised);
                    let sealed = engine.as_ref().map_or(sealed, |e| e.sealed);
                    Instance {
                        lost_after_ms: super::SILENT_MS,
                        upkeep: super::Upkeep::default(),
                        life: if alive || silent_ms < 3_000 {
                            Life::Alive
                        } else {
                            Life::Ended
                        },
                        pid: Some(number),
                        silent_ms,
                        status: (heard || silent_ms < 5_000).then(|| SupervisorStatus {
                            cluster_id: "c".to_owned(),
                            name: format!("m-{number}"),
                            instance_id: Some(id.clone()),
                            system_id: Some("1".to_owned()),
                            promised_term: promised,
                            sealed,
                            set: engine.as_ref().and_then(|e| e.set.clone()),
                            state: if engine.is_some() {
                                SupervisorState::Running
                            } else {
                                SupervisorState::Starting
                            },
                            supervisor_pid: number,
                            engine_pid: None,
                            port: 1,
                            crashes,
                            down_ms: u64::from(crashes) * 400,
                            engine_silent_ms: 0,
                            seeding: None,
                            engine: engine.clone(),
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
                        }),
                    }
                },
            )
            .boxed()
    })
    .boxed()
}

fn observed() -> BoxedStrategy<Observed> {
    let instances = (
        instance(1),
        instance(2),
        instance(3),
        instance(4),
        0_u32..16,
    );
    (
        proptest::option::weighted(0.97, record().boxed()).boxed(),
        instances,
        any::<bool>(),
        0_u64..9_000,
    )
        .prop_map(|(record, (a, b, c, d, hidden), fencing, unstreamed)| {
            let instances: BTreeMap<String, Instance> = [(1, a), (2, b), (3, c), (4, d)]
                .into_iter()
                .filter(|(n, _)| hidden & (1 << (n - 1)) == 0 || hidden > 11)
                .map(|(n, i)| (format!("m-{n}"), i))
                .collect();
            Observed {
                record,
                past: Past::default(),
                instances,
                unstreamed_ms: BTreeMap::from([(member(2).id, unstreamed)]),
                stuck_ms: BTreeMap::from([(member(2).id, unstreamed * 10)]),
                routes: None,
                retired: Vec::new(),
                fencing,
            }
        })
        .boxed()
}

fn cluster() -> impl Strategy<Value = ValidatedCluster> {
    (
        0_u32..4,
        prop_oneof![Just(Durability::Quorum), Just(Durability::Strict)],
    )
        .prop_map(|(replicas, durability)| ValidatedCluster {
            name: "m".to_owned(),
            replicas,
            durability,
            storage_bytes: 1 << 30,
            parameters: BTreeMap::new(),
            generation: 1,
            requests: Requests::default(),
            ..ValidatedCluster::default()
        })
}

/// Whether the copy has answered the seal of this term, as DESIGN has it; written out once more on purpose.
fn has_answered(observed: &Observed, record: &Record, id: &InstanceId) -> bool {
    observed.instances.values().any(|i| {
        let Some(status) = i
            .status
            .as_ref()
            .filter(|_| i.life == Life::Alive && i.silent_ms < super::SILENT_MS)
        else {
            return false;
        };
        let Some(engine) = &status.engine else {
            return false;
        };
        status.instance_id.as_ref() == Some(id)
            && engine.instance_id.as_ref() == Some(id)
            && (status.promised_term, status.sealed) == (record.term, true)
            && (engine.promised_term, engine.sealed) == (Some(record.term), true)
            && engine.consistent
            && engine.role == EngineRole::Standby
            && engine.system_id == "1"
    })
}

/// Every group of `required` members that could have acknowledged has one among those that answered.
fn meets_every_acknowledging_group(set: &InSyncSet, answered: &BTreeSet<InstanceId>) -> bool {
    if set.owner.as_ref().is_some_and(|o| answered.contains(&o.id)) {
        return true;
    }
    let silent = set
        .members
        .iter()
        .filter(|m| !answered.contains(&m.id))
        .count();
    silent < set.required as usize
}

/// What the instance, or the Services, would be after this step, as `instance/commands.rs` obeys it; false where it
/// would be refused, or can't be shown here.
fn obey(observed: &mut Observed, step: &Step) -> bool {
    if let Step::Route(routes) = step {
        observed.routes = Some(routes.clone());
        return true;
    }
    let Some(name) = step.instance() else {
        return false;
    };
    let Some(instance) = observed.instances.get_mut(name) else {
        return false;
    };
    let is_heard = instance.heard().is_some();
    let Some(status) = instance.status.as_mut().filter(|_| is_heard) else {
        return false;
    };
    match step {
        Step::Seal { term, .. } => obey_seal(status, *term),
        Step::Follow { term, id, .. } => obey_follow(status, *term, id),
        Step::Set { term, id, set, .. } => obey_set(status, *term, id, set),
        Step::Promote {
            term,
            candidate,
            set,
            ..
        } => obey_promotion(status, *term, candidate, set),
        _ => false,
    }
}

/// Supervisor and engine promise the term.
fn promise(status: &mut SupervisorStatus, term: Term, sealed: bool) {
    (status.promised_term, status.sealed) = (term, sealed);
    if let Some(engine) = &mut status.engine {
        (engine.promised_term, engine.sealed) = (Some(term), sealed);
    }
}

fn is_standby(status: &SupervisorStatus) -> bool {
    let engine = status.engine.as_ref();
    engine.is_none_or(|e| e.role == EngineRole::Standby)
}

fn obey_seal(status: &mut SupervisorStatus, term: Term) -> bool {
    let obeys_already = status.promised_term == term && !status.sealed;
    if term < status.promised_term || obeys_already {
        return false;
    }
    promise(status, term, true);
    if let Some(engine) = &mut status.engine {
        engine.role = EngineRole::Standby;
        engine.in_recovery = true;
        engine.writable = false;
        engine.primary_term = None;
    }
    true
}

fn obey_follow(status: &mut SupervisorStatus, term: Term, id: &InstanceId) -> bool {
    let fits = status.instance_id.as_ref() == Some(id) && status.promised_term <= term;
    if !fits || !is_standby(status) {
        return false;
    }
    promise(status, term, false);
    status.set = None;
    true
}

fn obey_set(status: &mut SupervisorStatus, term: Term, id: &InstanceId, set: &EngineSet) -> bool {
    let ours = status.instance_id.as_ref() == Some(id) && set.term == term;
    let newer = status.set.as_ref().map(EngineSet::version) <= Some(set.version());
    let promised = status.promised_term == term && !status.sealed;
    if !ours || !newer || !promised || is_standby(status) {
        return false;
    }
    status.set = Some(set.clone());
    if let Some(engine) = &mut status.engine {
        engine.set = Some(set.clone());
    }
    true
}

fn obey_promotion(
    status: &mut SupervisorStatus,
    term: Term,
    candidate: &InstanceId,
    set: &EngineSet,
) -> bool {
    let fits = status.instance_id.as_ref() == Some(candidate) && status.promised_term == term;
    if !fits || status.engine.is_none() {
        return false;
    }
    promise(status, term, false);
    status.set = Some(set.clone());
    if let Some(engine) = &mut status.engine {
        engine.role = EngineRole::Primary;
        engine.in_recovery = false;
        engine.timeline = term;
        engine.primary_term = Some(term);
        engine.set = Some(set.clone());
    }
    true
}

/// The properties are about something: the generated observations lead to choices, and to refusals to choose.
#[test]
fn the_generated_observations_lead_to_choices() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut chosen, mut blocked, mut given_up, mut obeyed, mut dropped) = (0, 0, 0, 0, 0);
    for _ in 0..2_000 {
        let tree = (cluster(), observed())
            .new_tree(&mut runner)
            .expect("a value");
        let (cluster, observed) = tree.current();
        let plan = decide(&cluster, &observed, Millis::new(80_000));
        let failing = observed
            .record
            .as_ref()
            .is_some_and(|r| r.phase == Phase::FailingOver);
        let swapped = plan.swap.as_ref().map(|s| s.record.phase);
        chosen += u32::from(failing && swapped == Some(Phase::Promoting));
        blocked += u32::from(failing && swapped.is_none());
        given_up += u32::from(plan.steps.iter().any(|s| matches!(s, Step::Reseed { .. })));
        let mut after = observed.clone();
        for step in &plan.steps {
            let seen = !matches!(step, Step::Route(_)) && obey(&mut after, step);
            obeyed += u32::from(seen);
        }
        let sets = |record: Option<&Record>| record.map_or(0, |r| r.in_sync.len());
        let swap = plan.swap.as_ref().map(|s| &s.record);
        dropped += u32::from(swap.is_some() && sets(swap) < sets(observed.record.as_ref()));
    }
    assert!(
        chosen > 50 && blocked > 50 && given_up > 0 && obeyed > 50,
        "{chosen} {blocked} {given_up} {obeyed}"
    );
    eprintln!("{obeyed} steps obeyed, {dropped} times older sets were dropped");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_candidate_is_chosen_only_when_its_answers_meet_every_group_that_could_have_acknowledged(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let plan = decide(&cluster, &observed, Millis::new(now));
        let (Some(record), Some(swap)) = (&observed.record, &plan.swap) else { return Ok(()) };
        if swap.record.phase != Phase::Promoting || record.phase == Phase::Promoting {
            return Ok(());
        }
        let candidate = swap.record.candidate.as_ref().expect("Promoting names its candidate");
        prop_assert_eq!(swap.record.term, record.term);
        prop_assert!(has_answered(&observed, record, &candidate.id));
        let answered: BTreeSet<InstanceId> = observed
            .instances
            .values()
            .filter_map(|i| i.id().cloned())
            .filter(|id| has_answered(&observed, record, id))
            .collect();
        for set in &record.in_sync {
            prop_assert!(meets_every_acknowledging_group(set, &answered), "{:?} by {:?}", set, answered);
        }
        // Every set that was listed still is, or asks as the candidate's own, which is the newest.
        let own = swap.record.in_sync.last().expect("the candidate's set");
        for set in &record.in_sync {
            prop_assert!(swap.record.in_sync.contains(set) || set.asks_as(own), "{:?} by {:?}", set, own);
        }
        prop_assert_eq!(own.owner.as_ref(), Some(candidate));
        for member in &own.members {
            prop_assert!(answered.contains(&member.id) && member.id != candidate.id);
        }
        // Nobody who answered has a newer timeline, or the same and a longer log.
        let key = |id: &InstanceId| {
            let engine = observed.by_id(id).and_then(|(_, i)| i.engine()).expect("it answered");
            (engine.timeline, engine.flush_lsn)
        };
        prop_assert!(answered.iter().all(|id| key(id) <= key(&candidate.id)));
    }

    #[test]
    fn promotion_is_asked_of_the_recorded_candidate_alone(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let plan = decide(&cluster, &observed, Millis::new(now));
        for step in &plan.steps {
            if let Step::Promote { instance, term, candidate, set } = step {
                let record = observed.record.as_ref().expect("a promotion has a record");
                prop_assert_eq!(record.phase, Phase::Promoting);
                let member = record.candidate.as_ref().expect("Promoting names its candidate");
                prop_assert_eq!((&member.name, &member.id, record.term), (instance, candidate, *term));
                prop_assert_eq!(set, &EngineSet::from(record.newest_set().expect("it has a set")));
            }
        }
    }

    #[test]
    fn a_missing_observation_never_leads_to_a_candidate(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000, gone in 1..=NAMES,
    ) {
        // What is not chosen with all observations is not chosen with fewer, nor somebody else.
        let chosen = |observed: &Observed| {
            let swap = decide(&cluster, observed, Millis::new(now)).swap;
            swap.filter(|s| s.record.phase == Phase::Promoting).and_then(|s| s.record.candidate)
        };
        let mut fewer = observed.clone();
        if let Some(instance) = fewer.instances.get_mut(&format!("m-{gone}")) {
            instance.status = None;
        }
        if observed.record.as_ref().is_some_and(|r| r.phase == Phase::FailingOver)
            && let Some(candidate) = chosen(&fewer)
        {
            let record = fewer.record.as_ref().expect("checked");
            prop_assert!(has_answered(&fewer, record, &candidate.id));
            prop_assert_ne!(candidate.name, member(gone).name);
        }
    }

    #[test]
    fn the_term_never_goes_down_and_a_swap_expects_what_was_seen(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let plan = decide(&cluster, &observed, Millis::new(now));
        if let Some(swap) = &plan.swap {
            let old = observed.record.as_ref();
            prop_assert_eq!(swap.expect, old.map(|r| r.record_version));
            prop_assert_eq!(swap.record.record_version, old.map_or(0, |r| r.record_version) + 1);
            if let Some(old) = old {
                prop_assert!(swap.record.term >= old.term);
                // Where answers begin to be gathered a new term begins: no term can come to a second candidate.
                let gathers = |phase| matches!(phase, Phase::FailingOver | Phase::SwitchingOver);
                if gathers(swap.record.phase) {
                    prop_assert!(swap.record.term > old.term, "{:?} to {:?}", old.phase, swap.record.phase);
                    prop_assert!(swap.record.candidate.is_none());
                }
                // A candidate stays the candidate of its term.
                if swap.record.term == old.term && old.candidate.is_some() && swap.record.candidate.is_some() {
                    prop_assert_eq!(&swap.record.candidate, &old.candidate);
                }
                // Sets come only at the end. None goes with that but those that a candidate's own asks as well as.
                let kept = swap.record.in_sync.iter().filter(|s| old.in_sync.contains(s)).count();
                let added = swap.record.in_sync.len() - kept;
                prop_assert!(added <= 1);
                let gone = || old.in_sync.iter().filter(|s| !swap.record.in_sync.contains(s));
                let newest = swap.record.newest_set();
                let is_asked_still = |set: &InSyncSet| newest.is_some_and(|newest| set.asks_as(newest));
                let is_chosen = swap.record.phase == Phase::Promoting;
                prop_assert!(added == 0 || gone().all(|set| is_chosen && is_asked_still(set)));
                // Else they go when their primary counts by the newest alone, and its members have what they are owed.
                if added == 0 && kept < old.in_sync.len() {
                    let primary = old.primary.as_ref().and_then(|p| observed.by_id(&p.id));
                    let engine = primary.and_then(|(_, i)| i.engine()).expect("it was heard");
                    prop_assert!(engine.is_primary_of(old.term) && engine.set_caught_up);
                    let newest = old.newest_set().map(InSyncSet::version);
                    prop_assert_eq!(engine.set.as_ref().map(EngineSet::version), newest);
                    prop_assert_eq!(swap.record.newest_set(), old.newest_set());
                }
            }
        }
    }

    #[test]
    fn deciding_again_on_the_same_gives_the_same(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let first = decide(&cluster, &observed, Millis::new(now));
        prop_assert_eq!(&first, &decide(&cluster, &observed, Millis::new(now)));
        let distinct: BTreeSet<String> = first.steps.iter().map(|s| format!("{s:?}")).collect();
        prop_assert_eq!(distinct.len(), first.steps.len(), "a step is in the plan twice");
    }

    #[test]
    fn what_was_obeyed_is_not_asked_again(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let first = decide(&cluster, &observed, Millis::new(now));
        let mut after = observed.clone();
        let obeyed: Vec<&Step> = first.steps.iter().filter(|step| obey(&mut after, step)).collect();
        // The record has not moved yet: its swap is lost, or late.
        let second = decide(&cluster, &after, Millis::new(now));
        for step in obeyed {
            prop_assert!(!second.steps.contains(step), "again: {:?}", step);
        }
    }

    #[test]
    fn no_copy_that_a_failover_needs_is_given_up(
        cluster in cluster(), observed in observed(), now in 1_u64..90_000,
    ) {
        let plan = decide(&cluster, &observed, Millis::new(now));
        let Some(record) = &observed.record else { return Ok(()) };
        for step in &plan.steps {
            match step {
                Step::Reseed { id, .. } => {
                    prop_assert_eq!(record.phase, Phase::Running);
                    prop_assert!(super::answers::is_spare(&observed, record, id));
                    prop_assert!(!record.is_primary(id));
                }
                Step::Remove { instance } => {
                    let id = observed.instances[instance].id();
                    prop_assert!(id.is_none_or(|id| !record.counts_on(id)));
                    prop_assert!(record.primary.as_ref().is_none_or(|p| p.name != *instance));
                }
                _ => {}
            }
        }
    }
}
