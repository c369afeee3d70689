//! A primary that the operator does not hear, while its standbys may.

use super::*;
use crate::crd::ConditionStatus;

/// Two standbys that have heard from the primary so long ago, and a primary that the operator does not hear.
fn unheard(heard_ms: [Option<u64>; 2]) -> Observed {
    let mut observed = running(2);
    for (number, heard_ms) in (2..).zip(heard_ms) {
        *receiver(&mut observed, number) = Some(Receiver {
            heard_ms,
            ..streaming(T3)
        });
    }
    named(&mut observed, 1).silent_ms = SILENT_MS;
    observed
}

fn named(observed: &mut Observed, number: u32) -> &mut Instance {
    let instance = observed.instances.get_mut(&member(number).name);
    instance.expect("it exists")
}

fn receiver(observed: &mut Observed, number: u32) -> &mut Option<Receiver> {
    let engine = status(observed, number).engine.as_mut();
    &mut engine.expect("it runs").receiver
}

/// Whether the primary is left alone; else the term is raised.
fn is_spared(observed: &Observed) -> bool {
    let plan = decide(&cluster(2, Durability::Quorum), observed, NOW);
    let is_raised = plan.swap.is_some_and(|swap| swap.record.term > T3);
    let is_told = plan.obstacle.is_some_and(|o| o.0 == "PrimaryUnheard");
    assert_ne!(is_raised, is_told);
    is_told
}

#[test]
fn a_primary_that_its_standbys_hear_is_not_taken_over_from() {
    let observed = unheard([Some(100), Some(600)]);
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none() && plan.events.is_empty());
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    let (reason, message) = plan.obstacle.clone().expect("it is told");
    assert_eq!(reason, "PrimaryUnheard");
    assert!(message.contains("m-1 does not answer") && message.contains("m-2, m-3"));
    let mut conditions = plan.conditions.iter();
    let degraded = conditions.find(|c| c.type_ == "Degraded");
    let degraded = degraded.expect("it is always there");
    assert_eq!(degraded.status, ConditionStatus::True);
    assert_eq!(
        (degraded.reason.as_str(), &degraded.message),
        (reason, &message)
    );
}

/// Each change of what is told is written down, and who has heard it lately may change at every look.
#[test]
fn what_is_told_does_not_depend_on_who_hears_it() {
    let told = |heard_ms: [Option<u64>; 2]| {
        let plan = decide(&cluster(2, Durability::Quorum), &unheard(heard_ms), NOW);
        plan.obstacle.expect("it is told")
    };
    let both = told([Some(100), Some(600)]);
    assert_eq!(told([Some(100), None]), both);
    assert_eq!(told([None, Some(700)]), both);
}

#[test]
fn as_many_have_to_hear_it_as_a_commit_needs() {
    let one = unheard([Some(100), None]);
    assert!(is_spared(&one), "a commit waits for one of two");
    assert!(!is_spared(&unheard([None, None])), "older engines");
    let mut both_needed = one.clone();
    record(&mut both_needed).in_sync = vec![set(1, &[2, 3], 2)];
    assert!(!is_spared(&both_needed));
    *receiver(&mut both_needed, 3) = receiver(&mut both_needed, 2).clone();
    assert!(is_spared(&both_needed));
    // Of the sets that are listed the newest one counts.
    let mut moving = one;
    record(&mut moving).in_sync.push(InSyncSet {
        counter: 2,
        ..set(1, &[3], 1)
    });
    assert!(!is_spared(&moving));
}

/// What stops for all at one moment is lost as soon as it ever was.
#[test]
fn a_standby_has_to_have_heard_from_it_lately() {
    let half = SILENT_MS / 2;
    assert!(is_spared(&unheard([Some(half - 1), None])));
    assert!(!is_spared(&unheard([Some(half), Some(half)])));
    // The word of that is as old as its supervisor's last word.
    for (silent_ms, spared) in [(499, true), (500, false)] {
        let mut observed = unheard([Some(half - 500), None]);
        named(&mut observed, 2).silent_ms = silent_ms;
        assert_eq!(is_spared(&observed), spared, "{silent_ms}");
    }
}

#[test]
fn the_limit_goes_by_the_manifest_s_time() {
    for (lost_after_ms, limit_ms) in [(1_000, 750), (9_000, 4_500)] {
        let mut cluster = cluster(2, Durability::Quorum);
        cluster.failover.lost_after_ms = lost_after_ms;
        for (heard_ms, raised) in [(limit_ms - 1, false), (limit_ms, true)] {
            let mut observed = unheard([Some(heard_ms), None]);
            for instance in observed.instances.values_mut() {
                instance.lost_after_ms = lost_after_ms;
            }
            named(&mut observed, 1).silent_ms = lost_after_ms;
            let plan = decide(&cluster, &observed, NOW);
            assert_eq!(plan.swap.is_some(), raised, "{heard_ms} of {lost_after_ms}");
        }
    }
}

#[test]
fn only_a_standby_that_follows_in_this_term_and_is_heard_says_anything() {
    let still_spared = |change: &dyn Fn(&mut Observed)| {
        let mut observed = unheard([Some(100), None]);
        change(&mut observed);
        is_spared(&observed)
    };
    assert!(still_spared(&|_| {}));
    let hears = |change: fn(&mut Receiver)| {
        still_spared(&|o| change(receiver(o, 2).as_mut().expect("it has one")))
    };
    assert!(!hears(|r| "connecting".clone_into(&mut r.state)));
    assert!(!hears(|r| r.upstream_term = Some(Term::new(2))));
    assert!(!hears(|r| r.upstream_term = None));
    assert!(!hears(|r| r.heard_ms = None));
    assert!(!still_spared(&|o| *receiver(o, 2) = None));
    assert!(!still_spared(&|o| named(o, 2).silent_ms = SILENT_MS));
    assert!(!still_spared(&|o| named(o, 2).life = Life::Ended));
    assert!(!still_spared(&|o| status(o, 2).engine = None));
    assert!(!still_spared(&|o| status(o, 2).sealed = true));
    assert!(!still_spared(&|o| status(o, 2).promised_term = Term::new(2)));
    let another = Some(InstanceId::new("another copy"));
    assert!(!still_spared(
        &|o| status(o, 2).instance_id = another.clone()
    ));
}

#[test]
fn who_acknowledges_alone_is_lost_when_it_is_silent() {
    let mut alone = unheard([Some(100), Some(100)]);
    record(&mut alone).in_sync[0].required = 0;
    let mut free = unheard([Some(100), Some(100)]);
    record(&mut free).in_sync[0].durability = Durability::Async;
    for observed in [alone, free] {
        let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
        assert_ne!(reason(&plan), "PrimaryUnheard");
    }
    // Nobody waits for these: the best of those that answer takes over.
    let mut free = unheard([Some(100), Some(100)]);
    let newest = &mut record(&mut free).in_sync[0];
    (newest.required, newest.durability) = (0, Durability::Async);
    let plan = decide(&cluster(2, Durability::Async), &free, NOW);
    assert_eq!(plan.swap.expect("a swap").record.term, Term::new(4));
}

/// What its standbys say brings nobody back who is known to be lost.
#[test]
fn what_it_said_last_holds() {
    let lost = |change: &dyn Fn(&mut Observed)| {
        let mut observed = unheard([Some(100), Some(100)]);
        change(&mut observed);
        !is_spared(&observed)
    };
    assert!(lost(&|o| named(o, 1).life = Life::Ended));
    assert!(lost(&|o| status(o, 1).state = SupervisorState::Stopping));
    assert!(lost(&|o| status(o, 1).sealed = true));
    assert!(lost(&|o| status(o, 1).engine_silent_ms = ENGINE_SILENT_MS));
    assert!(lost(&|o| status(o, 1).instance_id = Some(member(9).id)));
    assert!(lost(&|o| {
        let last = status(o, 1);
        (last.down_ms, last.crashes) = (1, 2);
    }));
    // A new operator knows no last word of it, and hears the standbys.
    assert!(!lost(&|o| named(o, 1).status = None));
}

/// Its supervisor answers and its engine does not: the walsender would be as silent, whoever says otherwise.
#[test]
fn a_primary_that_is_heard_is_judged_by_its_own_word() {
    let mut observed = unheard([Some(100), Some(100)]);
    named(&mut observed, 1).silent_ms = 0;
    status(&mut observed, 1).engine_silent_ms = ENGINE_SILENT_MS;
    let swap = decide(&cluster(2, Durability::Quorum), &observed, NOW).swap;
    assert_eq!(swap.expect("a swap").record.term, Term::new(4));
}

/// A switchover would have to be told to the very one that does not hear it.
#[test]
fn who_would_force_a_takeover_is_told_what_helps() {
    let mut cluster = cluster(2, Durability::Quorum);
    cluster.requests.force_promote = Some("m-2@3".to_owned());
    let said = |observed: &Observed| {
        let outcomes = decide(&cluster, observed, NOW).outcomes;
        let [outcome] = outcomes.as_slice() else {
            panic!("one answer: {outcomes:?}");
        };
        assert_eq!(outcome.event.reason, "ForcePromoteRefused");
        outcome.event.message.clone()
    };
    assert!(said(&running(2)).contains("use a switchover"));
    let unheard = said(&unheard([Some(100), Some(100)]));
    assert!(
        unheard.contains("End m-1") && !unheard.contains("switchover"),
        "{unheard}"
    );
    let mut restarts = running(2);
    let crashed = status(&mut restarts, 1);
    (crashed.down_ms, crashed.crashes) = (1, 1);
    assert!(said(&restarts).contains("m-1 is given a moment"));
    let mut lost = running(2);
    named(&mut lost, 1).life = Life::Ended;
    assert!(said(&lost).contains("a failover begins by itself"));
}

/// In a pod the kubelet does it; locally nobody else.
#[test]
fn a_supervisor_that_hangs_is_ended_whatever_it_is_of() {
    let ended = |cluster: &ValidatedCluster, observed: &Observed| {
        let steps = decide(cluster, observed, NOW).steps;
        let fenced = steps.into_iter().filter_map(|step| match step {
            Step::Fence {
                instance, hangs, ..
            } => {
                assert!(hangs, "it is told why");
                Some(instance)
            }
            _ => None,
        });
        fenced.collect::<Vec<_>>()
    };
    let mut cluster = cluster(2, Durability::Quorum);
    let mut observed = unheard([Some(100), Some(100)]);
    assert_eq!(ended(&cluster, &observed), [""; 0]);
    for number in [1, 3] {
        named(&mut observed, number).upkeep.hangs = true;
    }
    assert_eq!(ended(&cluster, &observed), ["m-1", "m-3"]);
    let mut unfenced = observed.clone();
    unfenced.fencing = false;
    assert_eq!(ended(&cluster, &unfenced), [""; 0]);
    let mut deaf = observed.clone();
    for instance in deaf.instances.values_mut() {
        (instance.silent_ms, instance.upkeep.hangs) = (SILENT_MS, true);
    }
    assert_eq!(ended(&cluster, &deaf), [""; 0], "the operator may be deaf");
    for number in [2, 3] {
        named(&mut deaf, number).life = Life::Ended;
    }
    assert_eq!(ended(&cluster, &deaf), ["m-1"], "nobody else is there");
    named(&mut observed, 3).life = Life::Ended;
    assert_eq!(ended(&cluster, &observed), ["m-1"]);
    // Nobody would start it again.
    cluster.paused = true;
    assert_eq!(ended(&cluster, &observed), [""; 0]);
    cluster.paused = false;
    // A failover ends the old primary by itself.
    let mut failing = failing(2, 0);
    let old = named(&mut failing, 1);
    (old.life, old.silent_ms, old.upkeep.hangs) = (Life::Alive, SILENT_MS, true);
    assert_eq!(ended(&cluster, &failing), ["m-1"]);
}

/// It may run all the same: it is told of, and nothing is done about it.
#[test]
fn a_node_that_is_away_is_told_of_while_its_instance_is_not_heard() {
    let why = "its node is not ready";
    let mut observed = running(2);
    named(&mut observed, 3).upkeep.away = Some(why.to_owned());
    let told = |observed: &Observed| {
        let plan = decide(&cluster(2, Durability::Quorum), observed, NOW);
        let only_routes = |step: &Step| matches!(step, Step::Route(_));
        assert!(plan.steps.iter().all(only_routes), "{:?}", plan.steps);
        let mut conditions = plan.conditions.into_iter();
        let degraded = conditions.find(|c| c.type_ == "Degraded");
        degraded.expect("it is always there").message
    };
    assert!(!told(&observed).contains(why));
    named(&mut observed, 3).silent_ms = SILENT_MS;
    assert!(told(&observed).contains(why));
}

#[test]
fn a_candidate_that_falls_silent_is_given_up_as_ever() {
    let mut observed = unheard([Some(100), Some(100)]);
    let record = record(&mut observed);
    (record.phase, record.candidate) = (Phase::Promoting, Some(member(1)));
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    let raised = plan.swap.expect("a swap").record;
    assert_eq!(
        (raised.term, raised.phase),
        (Term::new(4), Phase::FailingOver)
    );
}
