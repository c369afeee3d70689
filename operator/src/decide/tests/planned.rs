//! What is done on purpose: handovers, renewals, an instance given up.

use super::*;
use crate::decide::Renewal;

fn upkeep(observed: &mut Observed, number: u32) -> &mut crate::decide::Upkeep {
    let name = member(number).name;
    &mut observed.instances.get_mut(&name).expect("it exists").upkeep
}

fn plan_of(replicas: u32, observed: &Observed) -> Plan {
    decide(&cluster(replicas, Durability::Quorum), observed, NOW)
}

/// The target of the switchover that the plan begins.
fn hands_over_to(plan: &Plan) -> Option<String> {
    let change = plan.swap.as_ref()?.record.change.clone()?;
    assert_eq!(change.kind, ChangeKind::Switchover);
    change.target
}

fn renewed(plan: &Plan) -> Vec<(&str, &Renewal)> {
    let all = plan.steps.iter().filter_map(|step| match step {
        Step::Renew { instance, how } => Some((instance.as_str(), how)),
        _ => None,
    });
    all.collect()
}

#[test]
fn a_primary_that_was_told_to_end_hands_over_to_one_that_stays() {
    let mut observed = running(2);
    status(&mut observed, 1).leaving = true;
    upkeep(&mut observed, 2).going = true;
    let plan = plan_of(2, &observed);
    assert_eq!(hands_over_to(&plan).as_deref(), Some("m-3"));
    // Nobody could take over: it goes on until it is asked no more.
    let mut alone = running(0);
    status(&mut alone, 1).leaving = true;
    assert!(plan_of(0, &alone).swap.is_none());
    // A standby that ends is nobody's concern.
    let mut observed = running(2);
    status(&mut observed, 2).leaving = true;
    assert!(plan_of(2, &observed).swap.is_none());
}

#[test]
fn the_primary_of_a_node_that_is_drained_hands_over() {
    let mut observed = running(1);
    upkeep(&mut observed, 1).going = true;
    assert_eq!(
        hands_over_to(&plan_of(1, &observed)).as_deref(),
        Some("m-2")
    );
}

#[test]
fn standbys_are_renewed_one_at_a_time_and_the_primary_last() {
    let mut observed = running(2);
    for number in 1..=3 {
        upkeep(&mut observed, number).outdated = true;
    }
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-3", &Renewal::Pod)]);
    // It is away for its renewal, or about to be: the next one waits for it.
    upkeep(&mut observed, 3).outdated = false;
    upkeep(&mut observed, 3).renewing = true;
    assert!(renewed(&plan_of(2, &observed)).is_empty());
    upkeep(&mut observed, 3).renewing = false;
    let seen = observed.instances.get_mut("m-3").expect("it exists");
    seen.life = Life::Ended;
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty() && reason(&plan) == "RollingOut");
    observed.instances.get_mut("m-3").expect("it exists").life = Life::Alive;
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
    upkeep(&mut observed, 2).outdated = false;
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty());
    assert!(hands_over_to(&plan).is_some());
}

/// Nothing is missing, and whoever has changed the manifest would wait without a word.
#[test]
fn a_primary_whose_role_nobody_can_take_says_what_its_renewal_waits_for() {
    let mut observed = running(2);
    upkeep(&mut observed, 1).outdated = true;
    for number in [2, 3] {
        upkeep(&mut observed, number).going = true;
    }
    let plan = plan_of(2, &observed);
    assert!(plan.swap.is_none() && renewed(&plan).is_empty());
    for (type_, is) in [("Ready", true), ("Progressing", true), ("Degraded", false)] {
        let (said, _, message) = says(&plan, type_);
        assert_eq!(said, is, "{type_}: {message}");
    }
    assert!(says(&plan, "Progressing").2.contains("cordoned"));
    upkeep(&mut observed, 3).going = false;
    assert_eq!(
        hands_over_to(&plan_of(2, &observed)).as_deref(),
        Some("m-3")
    );
}

#[test]
fn a_standby_that_does_not_work_is_renewed_first() {
    let mut observed = running(2);
    for number in [1, 2, 3] {
        upkeep(&mut observed, number).outdated = true;
    }
    observed.instances.get_mut("m-2").expect("it exists").life = Life::Ended;
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
}

#[test]
fn settings_that_count_from_a_start_restart_the_engine_in_place() {
    let mut observed = running(0);
    status(&mut observed, 1).pending_restart = true;
    let plan = plan_of(0, &observed);
    let restart = Renewal::Engine {
        term: T3,
        id: member(1).id,
    };
    assert_eq!(renewed(&plan), [("m-1", &restart)]);
}

#[test]
fn nobody_is_handed_the_role_who_may_have_to_be_restarted_too() {
    let generation = cluster(2, Durability::Quorum).generation;
    let mut observed = running(2);
    status(&mut observed, 1).pending_restart = true;
    status(&mut observed, 1).generation = generation;
    // The one that would take over has heard of nothing yet.
    status(&mut observed, 3).generation = generation;
    status(&mut observed, 2).generation = generation - 1;
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty() && hands_over_to(&plan).is_none());
    assert_eq!(reason(&plan), "RollingOut");
    // It has, and goes first.
    status(&mut observed, 2).generation = generation;
    status(&mut observed, 2).pending_restart = true;
    let plan = plan_of(2, &observed);
    let restart = Renewal::Engine {
        term: T3,
        id: member(2).id,
    };
    assert_eq!(renewed(&plan), [("m-2", &restart)]);
    status(&mut observed, 2).pending_restart = false;
    assert!(hands_over_to(&plan_of(2, &observed)).is_some());
}

/// The one that hears last may be the one that goes first: what was asked of another one is not seen at once.
#[test]
fn no_standby_is_restarted_before_all_have_read_the_settings() {
    let generation = cluster(2, Durability::Quorum).generation;
    let mut observed = running(2);
    for (number, read) in [(1, generation), (2, generation), (3, generation - 1)] {
        status(&mut observed, number).generation = read;
    }
    status(&mut observed, 2).pending_restart = true;
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty() && reason(&plan) == "RollingOut");
    status(&mut observed, 3).generation = generation;
    status(&mut observed, 3).pending_restart = true;
    let restart = Renewal::Engine {
        term: T3,
        id: member(3).id,
    };
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-3", &restart)]);
    // One that does not work waits for nobody.
    status(&mut observed, 2).generation = generation - 1;
    streams_no_more(&mut observed, 3);
    assert!(renewed(&plan_of(2, &observed)).is_empty());
    has_left(&mut observed, 3);
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-3", &restart)]);
}

/// It was away for so long that nobody counts on it any more.
fn has_left(observed: &mut Observed, number: u32) {
    observed.unstreamed_ms = BTreeMap::from([(member(number).id, MEMBER_LOST_MS)]);
    let set = &mut record(observed).in_sync[0];
    set.members.retain(|m| *m != member(number));
    set.required = crate::decide::in_sync::quorum_of(set.members.len());
}

/// Nobody is listed when a new primary begins, and the next commit waits for just those: whatever they are to be renewed
/// for has time.
#[test]
fn a_failover_goes_before_what_was_being_rolled_out() {
    let mut observed = running(2);
    for number in 1..=3 {
        upkeep(&mut observed, number).outdated = true;
    }
    let change = RoleChange {
        gap: None,
        lost_candidates: 0,
        lost_candidate_at: None,
        kind: ChangeKind::Failover,
        cause: "m-3 has ended".to_owned(),
        old: Some(member(3)),
        target: None,
        detected_at: Millis::new(NOW.raw() - 6_000),
        deadline: None,
        lost_bytes: None,
        forced: false,
    };
    record(&mut observed).change = Some(change);
    let engine = status(&mut observed, 1).engine.as_mut();
    let engine = engine.expect("it runs");
    (engine.writable, engine.set_caught_up) = (false, false);
    for number in [2, 3] {
        streams_no_more(&mut observed, number);
    }
    assert!(renewed(&plan_of(2, &observed)).is_empty());
    // One that has ended is not what anybody waits for.
    observed.instances.get_mut("m-3").expect("it exists").life = Life::Ended;
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-3", &Renewal::Pod)]);
}

/// An operator that has only just begun has heard the primary and nobody else.
#[test]
fn a_standby_that_is_not_heard_yet_is_not_renewed_for_that() {
    let mut observed = running(2);
    upkeep(&mut observed, 2).outdated = true;
    observed.instances.get_mut("m-2").expect("it exists").status = None;
    is_gone(&mut observed, 3);
    assert!(renewed(&plan_of(2, &observed)).is_empty());
    has_left(&mut observed, 2);
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
}

/// It may be what the change is to mend: a limit under which it can't keep up.
#[test]
fn a_standby_that_streams_and_never_gets_near_is_renewed_first() {
    let mut observed = running(2);
    for number in 1..=3 {
        upkeep(&mut observed, number).outdated = true;
    }
    has_left(&mut observed, 2);
    observed.unstreamed_ms.clear();
    let engine = status(&mut observed, 1).engine.as_mut();
    let engine = engine.expect("it runs");
    engine.flush_lsn = Some(Lsn::new(1 << 30));
    let set = EngineSet {
        members: vec![member(3).id],
        ..engine.set.clone().expect("it has one")
    };
    engine.set = Some(set);
    for stream in &mut engine.standbys {
        let is_near = stream.instance_id == Some(member(3).id);
        stream.flush_lsn = Some(Lsn::new(if is_near { 1 << 30 } else { 500 }));
    }
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
}

/// Else it would have to hand the role on soon.
#[test]
fn who_was_renewed_already_is_the_first_heir() {
    let mut observed = running(2);
    upkeep(&mut observed, 1).going = true;
    assert_eq!(
        hands_over_to(&plan_of(2, &observed)).as_deref(),
        Some("m-2")
    );
    upkeep(&mut observed, 2).outdated = true;
    assert_eq!(
        hands_over_to(&plan_of(2, &observed)).as_deref(),
        Some("m-3")
    );
    upkeep(&mut observed, 3).renewing = true;
    assert_eq!(
        hands_over_to(&plan_of(2, &observed)).as_deref(),
        Some("m-2"),
        "all of them are, and it has to go"
    );
}

/// Clients would wait until it has come up.
#[test]
fn an_asked_switchover_waits_for_a_target_that_is_only_starting() {
    let mut observed = running(2);
    let asked = |observed: &Observed, whom: &str| {
        let mut cluster = cluster(2, Durability::Quorum);
        cluster.requests.switchover_to = Some(whom.to_owned());
        let plan = decide(&cluster, observed, NOW);
        let target = plan.swap.and_then(|swap| swap.record.change);
        (target.and_then(|c| c.target), plan.outcomes.len())
    };
    status(&mut observed, 3).engine = None;
    assert_eq!(asked(&observed, "m-3"), (None, 0));
    assert_eq!(asked(&observed, "any"), (Some("m-2".to_owned()), 1));
    let starts = status(&mut observed, 2).engine.as_mut();
    let starts = starts.expect("it runs");
    (starts.consistent, starts.receiver) = (false, None);
    assert_eq!(asked(&observed, "any"), (None, 0));
    // It does not come back.
    streams_no_more(&mut observed, 3);
    assert_eq!(asked(&observed, "m-3"), (None, 1));
}

/// The role is on its way to m-2, which has answered, as the old primary has.
#[test]
fn a_handover_waits_for_no_standby_that_is_only_starting() {
    let mut observed = failing(2, 100);
    observed.instances.get_mut("m-1").expect("it exists").life = Life::Alive;
    let record = record(&mut observed);
    record.phase = Phase::SwitchingOver;
    let change = record.change.as_mut().expect("it is under way");
    change.kind = ChangeKind::Switchover;
    change.target = Some(member(2).name);
    change.deadline = Some(NOW.plus(5_000));
    for number in [1, 2] {
        answered(&mut observed, number, T3, 500);
    }
    assert_eq!(candidate(&plan_of(2, &observed)), None, "m-3 answers soon");
    let third = status(&mut observed, 3).engine.as_mut();
    third.expect("it runs").consistent = false;
    let chosen = candidate(&plan_of(2, &observed));
    assert_eq!(chosen.as_deref(), Some("m-2"));
    status(&mut observed, 3).engine = None;
    let chosen = candidate(&plan_of(2, &observed));
    assert_eq!(chosen.as_deref(), Some("m-2"));
    // Whom the role is for is waited for.
    status(&mut observed, 2).engine = None;
    assert_eq!(candidate(&plan_of(2, &observed)), None);
}

/// m-`number` has just been restarted, and says nothing of a stream yet. Its primary was heard before that, and lists it.
fn is_just_back(observed: &mut Observed, number: u32) {
    let engine = status(observed, number).engine.as_mut();
    engine.expect("it runs").receiver = Some(Receiver {
        state: "connecting".to_owned(),
        ..Receiver::default()
    });
}

/// Else nobody acknowledges for as long as both are away, and the role goes to one that does not answer yet.
#[test]
fn a_standby_that_was_restarted_is_waited_for_whatever_its_primary_lists_yet() {
    let generation = cluster(2, Durability::Quorum).generation;
    let mut observed = running(2);
    for number in 1..=3 {
        let status = status(&mut observed, number);
        (status.pending_restart, status.generation) = (true, generation);
    }
    let restarts = |observed: &Observed| {
        let plan = plan_of(2, observed);
        let names: Vec<String> = (renewed(&plan).iter())
            .map(|(name, _)| (*name).to_owned())
            .collect();
        (names, hands_over_to(&plan))
    };
    let nobody = (Vec::<String>::new(), None);
    assert_eq!(restarts(&observed), (vec!["m-3".to_owned()], None));
    status(&mut observed, 3).pending_restart = false;
    is_just_back(&mut observed, 3);
    assert_eq!(restarts(&observed), nobody);
    let back = |observed: &mut Observed, number| {
        let engine = status(observed, number).engine.as_mut();
        engine.expect("it runs").receiver = Some(streaming(T3));
    };
    back(&mut observed, 3);
    assert_eq!(restarts(&observed), (vec!["m-2".to_owned()], None));
    status(&mut observed, 2).pending_restart = false;
    is_just_back(&mut observed, 2);
    assert_eq!(restarts(&observed), nobody);
    // Its engine has not even answered yet.
    status(&mut observed, 2).engine = None;
    assert_eq!(restarts(&observed), nobody);
    let mut engine = engine(2, EngineRole::Standby, 500);
    // What was said of an earlier primary does not count.
    engine.receiver = Some(streaming(Term::new(2)));
    status(&mut observed, 2).engine = Some(engine);
    assert_eq!(restarts(&observed), nobody);
    back(&mut observed, 2);
    let (restarted, heir) = restarts(&observed);
    assert!(restarted.is_empty() && heir.is_some());
}

/// The primary's own word is what tells that a standby does not work: one that waits to be renewed does so no earlier for
/// what it says of a stream.
#[test]
fn a_standby_that_is_just_back_does_not_jump_the_queue() {
    let mut observed = running(2);
    for number in 1..=3 {
        upkeep(&mut observed, number).outdated = true;
    }
    is_just_back(&mut observed, 2);
    assert!(renewed(&plan_of(2, &observed)).is_empty());
}

#[test]
fn a_primary_that_has_to_go_hands_over_to_a_standby_that_streams_by_its_own_word() {
    let mut observed = running(2);
    upkeep(&mut observed, 1).going = true;
    is_just_back(&mut observed, 2);
    assert_eq!(
        hands_over_to(&plan_of(2, &observed)).as_deref(),
        Some("m-3")
    );
    is_just_back(&mut observed, 3);
    assert_eq!(hands_over_to(&plan_of(2, &observed)), None);
}

fn replacing(name: &str, observed: &Observed) -> Plan {
    let mut asked = cluster(2, Durability::Quorum);
    asked.requests.replace_instance = Some(name.to_owned());
    decide(&asked, observed, NOW)
}

#[test]
fn who_is_given_up_leaves_the_set_first_and_is_made_anew_last() {
    let replaces = |plan: &Plan| plan.steps.iter().any(|s| matches!(s, Step::Replace { .. }));
    let creates = |plan: &Plan| plan.steps.iter().any(|s| matches!(s, Step::Create { .. }));
    let mut observed = running(2);
    let plan = replacing("m-3", &observed);
    assert!(!replaces(&plan) && plan.outcomes.is_empty());
    let set_without = plan.swap.expect("the set shrinks").record;
    let members = &set_without.newest_set().expect("a set").members;
    assert_eq!(members.as_slice(), [member(2)]);

    record(&mut observed).in_sync = vec![set(1, &[2], 1)];
    let plan = replacing("m-3", &observed);
    assert!(replaces(&plan) && plan.outcomes.is_empty());

    observed.instances.remove("m-3");
    let plan = replacing("m-3", &observed);
    assert!(!creates(&plan), "it would be given up again");
    assert_eq!(plan.outcomes[0].event.reason, "ReplaceCompleted");
    assert!(creates(&plan_of(2, &observed)));
}

#[test]
fn the_primary_and_strangers_are_not_given_up() {
    for name in ["m-1", "other-1"] {
        let plan = replacing(name, &running(2));
        assert_eq!(plan.outcomes[0].event.reason, "ReplaceRefused", "{name}");
        assert!(!plan.steps.iter().any(|s| matches!(s, Step::Replace { .. })));
    }
}

/// What nobody remembers must not be done when the cluster serves again.
#[test]
fn what_is_asked_while_nobody_can_serve_is_refused() {
    let mut asked = cluster(2, Durability::Quorum);
    asked.requests.switchover_to = Some("any".to_owned());
    asked.requests.replace_instance = Some("m-3".to_owned());
    let mut observed = failing(2, 1_000);
    let plan = decide(&asked, &observed, NOW);
    let waits = || "it ends by waiting";
    assert_eq!(
        (reason(&plan), plan.outcomes.len()),
        ("FailingOver", 0),
        "{}",
        waits()
    );
    for gone in ["m-2", "m-3"] {
        observed.instances.get_mut(gone).expect("it exists").life = Life::Ended;
    }
    let plan = decide(&asked, &observed, NOW);
    assert_eq!(reason(&plan), "FailoverBlocked");
    let answers: Vec<&str> = plan.outcomes.iter().map(|o| o.event.reason).collect();
    assert_eq!(answers, ["SwitchoverRefused", "ReplaceRefused"]);
    for outcome in &plan.outcomes {
        let said = &outcome.event.message;
        assert!(
            said.contains("FailoverBlocked") && said.contains("ask again"),
            "{said}"
        );
    }
    // What a blocked failover waits for is not refused, though the named copy has not answered.
    asked.requests = crate::validate::Requests::default();
    asked.requests.force_promote = Some("m-2@4".to_owned());
    assert!(decide(&asked, &observed, NOW).outcomes.is_empty());
}

#[test]
fn an_instance_that_never_was_is_not_told_to_be_made_anew() {
    let mut observed = running(2);
    let plan = replacing("m-99", &observed);
    let answer = &plan.outcomes[0].event;
    assert_eq!(answer.reason, "ReplaceRefused");
    assert!(
        answer
            .message
            .contains("there is no m-99; instances are m-1, m-2, m-3")
    );
    // One with a high number that was given up: the status still has it.
    observed.past.instances = plan.instances;
    observed.past.instances[2].name = "m-99".to_owned();
    assert_eq!(
        replacing("m-99", &observed).outcomes[0].event.reason,
        "ReplaceCompleted"
    );
}

#[test]
fn a_paused_cluster_is_reported_and_left_alone() {
    let mut paused = cluster(2, Durability::Quorum);
    paused.paused = true;
    let plan = decide(&paused, &failing(2, 60_000), NOW);
    assert!(plan.steps.is_empty() && plan.swap.is_none());
    assert_eq!((reason(&plan), plan.instances.len()), ("Paused", 3));
}

#[test]
fn parameters_that_the_engine_does_not_take_are_a_condition_and_nothing_is_restarted() {
    let mut observed = running(2);
    let told = "the engine does not take spec.parameters of generation 2";
    status(&mut observed, 2).refused_settings = Some(told.to_owned());
    let plan = plan_of(2, &observed);
    let degraded = plan.conditions.iter().find(|c| c.type_ == "Degraded");
    let degraded = degraded.expect("it is always there");
    assert_eq!(degraded.reason, "ParametersRefused");
    assert_eq!(degraded.message, told);
    assert!(renewed(&plan).is_empty());
}

/// What Kubernetes has of an instance whose pod was deleted, as long as that runs.
fn ends(observed: &mut Observed, number: u32, is_so: bool) {
    let goes = upkeep(observed, number);
    (goes.going, goes.ending) = (is_so, is_so);
}

/// Status, reason and message of a condition.
fn says(plan: &Plan, type_: &str) -> (bool, String, String) {
    let found = plan.conditions.iter().find(|c| c.type_ == type_);
    let found = found.expect("it is always there");
    let is_true = found.status == crate::crd::ConditionStatus::True;
    (is_true, found.reason.clone(), found.message.clone())
}

fn ready(plan: &Plan) -> Vec<&str> {
    let ready = plan.instances.iter().filter(|i| i.ready);
    ready.map(|i| i.name.as_str()).collect()
}

/// Its kubelet may hear of it late, and it streams until then.
#[test]
fn a_standby_whose_pod_is_ending_is_not_ready_and_stays_in_the_set() {
    let mut observed = running(2);
    upkeep(&mut observed, 2).going = true;
    let plan = plan_of(2, &observed);
    assert_eq!(ready(&plan), ["m-1", "m-2", "m-3"], "its node is cordoned");
    assert!(says(&plan, "Ready").0);
    ends(&mut observed, 2, true);
    let plan = plan_of(2, &observed);
    assert_eq!(ready(&plan), ["m-1", "m-3"]);
    assert!(plan.swap.is_none() && plan.events.is_empty(), "{plan:?}");
    let why = "2 of 3 instances are ready; m-2: its pod is ending";
    for (type_, is) in [("Ready", false), ("Degraded", true)] {
        let said = (is, "InstancesNotReady".to_owned(), why.to_owned());
        assert_eq!(says(&plan, type_), said);
    }
    ends(&mut observed, 2, false);
    upkeep(&mut observed, 2).forced = true;
    assert_eq!(ready(&plan_of(2, &observed)), ["m-1", "m-3"]);
}

/// It takes writes until another one does, and may be gone at any moment.
#[test]
fn a_primary_whose_pod_is_ending_serves_and_is_not_ready() {
    let mut alone = running(0);
    ends(&mut alone, 1, true);
    let plan = plan_of(0, &alone);
    assert!(plan.serves && plan.swap.is_none() && ready(&plan).is_empty());
    assert!(!says(&plan, "Ready").0);
    let (is_degraded, _, message) = says(&plan, "Degraded");
    assert!(
        is_degraded && message.ends_with("m-1: its pod is ending"),
        "{message}"
    );
    let mut observed = running(2);
    ends(&mut observed, 1, true);
    let plan = plan_of(2, &observed);
    assert!(hands_over_to(&plan).is_some());
    assert!(plan.serves && ready(&plan) == ["m-2", "m-3"]);
}

/// What keeps an instance from serving is worth more than that it goes.
#[test]
fn a_word_of_its_own_is_told_of_one_that_goes_and_does_not_serve() {
    let mut observed = running(2);
    ends(&mut observed, 2, true);
    let stuck = status(&mut observed, 2);
    stuck.message = Some("its replay is stuck".to_owned());
    let message = |observed: &Observed| says(&plan_of(2, observed), "Ready").2;
    assert!(message(&observed).ends_with("m-2: its pod is ending"));
    let engine = status(&mut observed, 2).engine.as_mut();
    engine.expect("it runs").replay_stuck = true;
    assert!(message(&observed).ends_with("m-2: its replay is stuck"));
}

#[test]
fn nobody_is_renewed_while_another_one_is_about_to_go() {
    let mut observed = running(2);
    upkeep(&mut observed, 2).outdated = true;
    ends(&mut observed, 3, true);
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty());
    assert_eq!(reason(&plan), "RollingOut");
    ends(&mut observed, 3, false);
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
}

/// It goes anyway, and comes back as the manifest is: ended before that, its copy would be missed twice.
#[test]
fn who_is_about_to_go_is_made_anew_by_that_and_not_restarted_before() {
    let mut observed = running(2);
    for number in 1..=3 {
        status(&mut observed, number).generation = cluster(2, Durability::Quorum).generation;
    }
    status(&mut observed, 2).pending_restart = true;
    assert_eq!(renewed(&plan_of(2, &observed)).len(), 1);
    ends(&mut observed, 2, true);
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty() && plan.obstacle.is_none());
    // Nor does another one go meanwhile, and it is said whom that waits for.
    status(&mut observed, 3).pending_restart = true;
    let plan = plan_of(2, &observed);
    assert!(renewed(&plan).is_empty());
    assert_eq!(reason(&plan), "RollingOut");
    let (_, _, message) = says(&plan, "Ready");
    assert!(
        message.ends_with("when m-2 is back: its pod is ending"),
        "{message}"
    );
    // Its template is written before its pod is made again.
    upkeep(&mut observed, 2).outdated = true;
    assert_eq!(renewed(&plan_of(2, &observed)), [("m-2", &Renewal::Pod)]);
}

/// m-3 is being renewed, and its primary has its stream no longer. m-1 and m-2 are still to be.
fn rolling_out() -> Observed {
    let mut observed = running(2);
    for number in [1, 2] {
        upkeep(&mut observed, number).outdated = true;
    }
    upkeep(&mut observed, 3).renewed = true;
    streams_no_more(&mut observed, 3);
    observed
}

fn streams_no_more(observed: &mut Observed, number: u32) {
    let engine = status(observed, 1).engine.as_mut();
    let id = Some(member(number).id);
    let streams = &mut engine.expect("it runs").standbys;
    streams.retain(|stream| stream.instance_id != id);
}

fn is_gone(observed: &mut Observed, number: u32) {
    let name = member(number).name;
    let instance = observed.instances.get_mut(&name).expect("it exists");
    (instance.life, instance.status) = (Life::Ended, None);
}

/// Nobody is called because a manifest was changed, and everybody can see that it is being followed.
#[test]
fn an_ordinary_rollout_needs_nobody() {
    let is_ordinary = |observed: &Observed| {
        let plan = plan_of(2, observed);
        for (type_, is) in [("Ready", false), ("Progressing", true), ("Degraded", false)] {
            let (said, reason, _) = says(&plan, type_);
            assert_eq!((said, reason.as_str()), (is, "RollingOut"), "{type_}");
        }
        assert_eq!(ready(&plan), ["m-1", "m-2"]);
        assert_eq!(plan.on_purpose, ["m-3"]);
        assert!(plan.events.iter().all(|event| !event.warning));
    };
    // Its old pod ends, and streams until then.
    let mut observed = rolling_out();
    let goes = upkeep(&mut observed, 3);
    (goes.renewing, goes.renewed, goes.ending) = (true, true, true);
    is_ordinary(&observed);
    let mut observed = rolling_out();
    is_gone(&mut observed, 3);
    is_ordinary(&observed);
    // A new pod's trouble may go by.
    upkeep(&mut observed, 3).trouble = Some("it is scheduled".to_owned());
    is_ordinary(&observed);
    // It is there again, and about to stream.
    let mut observed = rolling_out();
    is_ordinary(&observed);
    let starts = status(&mut observed, 3);
    (starts.state, starts.engine) = (SupervisorState::Starting, None);
    is_ordinary(&observed);
    // The last one: nobody is to be renewed any more.
    for number in [1, 2] {
        upkeep(&mut observed, number).outdated = false;
    }
    is_ordinary(&observed);
    let mut whole = running(2);
    upkeep(&mut whole, 3).renewed = true;
    let plan = plan_of(2, &whole);
    assert!(plan.on_purpose.is_empty() && says(&plan, "Ready").0);
    assert!(!says(&plan, "Progressing").0, "it is back");
}

/// Nobody else could serve meanwhile, and it comes back all the same.
#[test]
fn the_only_instance_is_away_while_it_is_renewed() {
    let mut observed = running(0);
    is_gone(&mut observed, 1);
    let instance = observed.instances.get_mut("m-1").expect("it exists");
    instance.silent_ms = SILENT_MS;
    let degraded = |observed: &Observed| {
        let (is, reason, _) = says(&plan_of(0, observed), "Degraded");
        (is, reason)
    };
    let lost = (true, "PrimaryLost".to_owned());
    assert_eq!(degraded(&observed), lost);
    upkeep(&mut observed, 1).renewed = true;
    let plan = plan_of(0, &observed);
    for (type_, is) in [("Ready", false), ("Progressing", true), ("Degraded", false)] {
        let (said, reason, _) = says(&plan, type_);
        assert_eq!((said, reason.as_str()), (is, "RollingOut"), "{type_}");
    }
    assert_eq!(plan.on_purpose, ["m-1"]);
    upkeep(&mut observed, 1).crashes = true;
    assert_eq!(degraded(&observed), lost);
}

#[test]
fn a_rollout_that_does_not_get_on_is_told_of() {
    use crate::crd::{Condition, ConditionStatus};
    use crate::decide::rollout::STEP_MS;
    use crate::decide::{STUCK_MS, TROUBLE_MS};
    let degraded = |observed: &Observed| {
        let plan = plan_of(2, observed);
        assert!(says(&plan, "Progressing").0);
        let (is, reason, message) = says(&plan, "Degraded");
        assert_eq!(is, plan.on_purpose.is_empty());
        is.then_some((reason, message))
    };
    let is_failing =
        |observed: &Observed| degraded(observed).is_some_and(|(reason, _)| reason == "RollingOut");
    let mut nowhere = rolling_out();
    is_gone(&mut nowhere, 3);
    let its = upkeep(&mut nowhere, 3);
    its.trouble = Some("ErrImagePull: no such image".to_owned());
    its.trouble_ms = TROUBLE_MS;
    let (reason, message) = degraded(&nowhere).expect("somebody has to see to it");
    assert_eq!(reason, "RollingOut");
    assert!(message.contains("m-3: ErrImagePull"), "{message}");
    let mut crashes = rolling_out();
    status(&mut crashes, 3).down_ms = 100;
    assert!(is_failing(&crashes));
    // Its new pod ends again and again, and runs for a moment in between.
    let mut anew = rolling_out();
    upkeep(&mut anew, 3).crashes = true;
    assert!(is_failing(&anew), "it is heard");
    is_gone(&mut anew, 3);
    assert!(is_failing(&anew));
    for number in [1, 2] {
        upkeep(&mut anew, number).outdated = false;
    }
    assert!(is_failing(&anew), "the last one");
    // It runs and can't get a stream, whatever is done about that.
    let mut stuck = rolling_out();
    for (ms, is_so) in [(STUCK_MS - 1, false), (STUCK_MS, true)] {
        stuck.stuck_ms = BTreeMap::from([(member(3).id, ms)]);
        assert_eq!(is_failing(&stuck), is_so, "after {ms} ms");
    }
    // It was to be renewed only later, and is lost.
    let mut another = rolling_out();
    is_gone(&mut another, 2);
    assert!(is_failing(&another));
    // Two for a moment: a rollout's own changes of role bring that.
    let mut both = rolling_out();
    streams_no_more(&mut both, 2);
    let (reason, _) = degraded(&both).expect("two are away");
    assert_eq!(reason, "InstancesNotReady");
    // Something else is in the way, which no rollout takes out of it.
    let mut foreign = rolling_out();
    let third = status(&mut foreign, 3);
    third.sealed = true;
    let engine = third.engine.as_mut().expect("it runs");
    engine.system_id = "2".to_owned();
    let (is_degraded, reason, _) = says(&plan_of(2, &foreign), "Degraded");
    assert!(is_degraded && reason == "ForeignData", "{reason}");
    let mut slow = rolling_out();
    for (ms, is_late) in [(STEP_MS - 1, false), (STEP_MS, true)] {
        slow.past.conditions = vec![Condition {
            type_: "Ready".to_owned(),
            status: ConditionStatus::False,
            reason: "RollingOut".to_owned(),
            message: String::new(),
            observed_generation: 1,
            last_transition_time: Millis::new(NOW.raw() - ms).rfc3339(),
        }];
        assert_eq!(is_failing(&slow), is_late, "after {ms} ms");
    }
}

#[test]
fn a_set_that_shrinks_because_of_a_renewal_is_no_warning_but_where_nobody_is_left() {
    let shrunk = |replicas: u32, is_renewed: bool| {
        let (mut observed, last) = (running(replicas), replicas + 1);
        upkeep(&mut observed, last).renewed = is_renewed;
        streams_no_more(&mut observed, last);
        is_gone(&mut observed, last);
        observed.unstreamed_ms = BTreeMap::from([(member(last).id, MEMBER_LOST_MS)]);
        let mut events = plan_of(replicas, &observed).events.into_iter();
        let event = events.find(|event| event.reason == "InSyncSetShrunk");
        event.expect("it shrinks").warning
    };
    assert!(!shrunk(2, true));
    assert!(shrunk(2, false), "it is lost");
    assert!(shrunk(1, true), "the primary acknowledges alone");
}

#[test]
fn a_primary_that_hands_its_role_over_does_so_on_purpose() {
    let mut observed = running(2);
    upkeep(&mut observed, 1).going = true;
    let next = plan_of(2, &observed).swap.expect("it hands over");
    assert_eq!(next.record.phase, Phase::SwitchingOver);
    observed.record = Some(next.record);
    assert_eq!(plan_of(2, &observed).on_purpose, ["m-1"]);
    assert!(plan_of(2, &failing(2, 0)).on_purpose.is_empty());
}
