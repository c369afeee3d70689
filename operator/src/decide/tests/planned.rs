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
