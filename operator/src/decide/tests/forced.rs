//! An administrator accepts that commits are lost.

use super::*;

/// The primary acknowledged alone and its volume is gone: its pod is there and holds nothing. The standby is back.
fn primary_emptied() -> Observed {
    let mut observed = running(1);
    let record = record(&mut observed);
    record.in_sync = vec![set(1, &[], 0)];
    let primary = status(&mut observed, 1);
    primary.instance_id = None;
    primary.engine = None;
    let gone = observed.instances.get_mut("m-1").expect("it exists");
    gone.life = Life::Ended;
    observed
}

fn asking(text: &str) -> ValidatedCluster {
    let mut cluster = cluster(1, Durability::Quorum);
    cluster.requests.force_promote = Some(text.to_owned());
    cluster
}

#[test]
fn whose_primary_never_comes_back_is_told_of_the_way_on() {
    let observed = primary_emptied();
    let plan = decide(&cluster(1, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none());
    let (reason, message) = plan.obstacle.expect("it says so");
    assert_eq!(reason, "PrimaryLost");
    assert!(message.contains("force-promote m-2@3"), "{message}");
}

#[test]
fn a_standby_is_promoted_by_force_where_nothing_else_is_left() {
    let mut observed = primary_emptied();
    let plan = decide(&asking("m-2@3"), &observed, NOW);
    let raised = plan.swap.expect("the term is raised").record;
    assert_eq!(
        (raised.term, raised.phase),
        (Term::new(4), Phase::FailingOver)
    );
    assert_eq!(plan.outcomes.len(), 1, "the request is answered with it");
    // The request is gone; the record knows.
    observed.record = Some(raised);
    let quiet = cluster(1, Durability::Quorum);
    let plan = decide(&quiet, &observed, NOW);
    assert!(candidate(&plan).is_none(), "not before it has answered");
    answered(&mut observed, 2, T3, 400);
    let plan = decide(&quiet, &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-2"));
    let chosen = plan.swap.expect("a candidate").record;
    assert!(chosen.change.is_some_and(|c| c.forced));
}

#[test]
fn nobody_is_promoted_by_force_who_was_not_named_for_this_term() {
    for wrong in ["m-2@2", "m-2@4", "m-9@3", "m-1@3", "m-2", "@3"] {
        let plan = decide(&asking(wrong), &primary_emptied(), NOW);
        assert!(plan.swap.is_none(), "{wrong}");
        let refused = plan.outcomes.iter().map(|o| o.event.reason);
        assert_eq!(
            refused.collect::<Vec<_>>(),
            ["ForcePromoteRefused"],
            "{wrong}"
        );
    }
    // Nor where the primary serves.
    let plan = decide(&asking("m-2@3"), &running(1), NOW);
    assert!(plan.swap.is_none());
    assert_eq!(plan.outcomes[0].event.reason, "ForcePromoteRefused");
}

#[test]
fn force_is_not_needed_when_the_primary_comes_back_with_all_it_had() {
    let mut observed = primary_emptied();
    let plan = decide(&asking("m-2@3"), &observed, NOW);
    observed.record = Some(plan.swap.expect("the term is raised").record);
    observed.instances.insert(
        "m-1".to_owned(),
        instance(1, engine(1, EngineRole::Standby, 500)),
    );
    answered(&mut observed, 1, T3, 500);
    answered(&mut observed, 2, T3, 400);
    // Also where that primary was lost in the middle of a change: it was no candidate that could not become one.
    let change = record(&mut observed).change.as_mut().expect("it is open");
    (change.lost_candidates, change.lost_candidate_at) = (1, Some(NOW));
    let plan = decide(&cluster(1, Durability::Quorum), &observed, NOW);
    assert_eq!(
        candidate(&plan).as_deref(),
        Some("m-1"),
        "it has everything"
    );
    let chosen = plan.swap.expect("a candidate").record;
    assert!(
        chosen
            .change
            .is_some_and(|c| !c.forced && c.target.is_none())
    );
}

/// What is recorded of the loss: the others may be gone for ever.
#[test]
fn how_far_the_others_were_seen_is_recorded() {
    let gap_of = |observed: &Observed| {
        let plan = decide(&asking("m-2@4"), observed, NOW);
        let record = plan.swap.expect("a candidate").record;
        let gap = record.change.and_then(|change| change.gap);
        let answer = &plan.outcomes[0].event;
        assert_eq!(answer.reason, "ForcePromoted");
        (gap.expect("it is recorded"), answer.message.clone())
    };
    let mut observed = failing(1, 60_000);
    record(&mut observed).in_sync = vec![set(1, &[], 0)];
    answered(&mut observed, 2, T3, 400);
    // This operator has heard the primary while it lived.
    let (gap, message) = gap_of(&observed);
    assert_eq!(gap.promoted_lsn, Lsn::new(400));
    assert_eq!(
        (gap.last_seen_lsn, gap.last_seen_of.as_deref()),
        (Some(Lsn::new(500)), Some("m-1"))
    );
    assert!(
        message.contains("m-1 was last seen at 0/1F4, 100 bytes further"),
        "{message}"
    );
    // Another one has it from the status, and nobody was further than what is promoted.
    let reports = decide(&cluster(1, Durability::Quorum), &running(1), NOW).instances;
    observed.instances.remove("m-1");
    observed.past.instances = reports;
    assert_eq!(gap_of(&observed).0.last_seen_lsn, Some(Lsn::new(500)));
    answered(&mut observed, 2, T3, 500);
    let (gap, message) = gap_of(&observed);
    assert_eq!(gap.last_seen_lsn, Some(gap.promoted_lsn));
    assert!(
        message.contains("Nobody was seen further (m-1 at 0/1F4"),
        "{message}"
    );
    observed.past.instances.clear();
    let (gap, message) = gap_of(&observed);
    assert_eq!((gap.last_seen_lsn, gap.last_seen_of), (None, None));
    assert!(message.contains("Nobody knows"), "{message}");
}

#[test]
fn the_gap_is_reported_with_the_failover() {
    let mut observed = running(1);
    let mut change = failing(1, 100).record.and_then(|r| r.change).expect("one");
    let gap = crate::crd::LsnGap {
        promoted_lsn: Lsn::new(400),
        last_seen_lsn: Some(Lsn::new(500)),
        last_seen_of: Some("m-1".to_owned()),
    };
    (change.forced, change.gap) = (true, Some(gap.clone()));
    record(&mut observed).change = Some(change);
    let plan = decide(&cluster(1, Durability::Quorum), &observed, NOW);
    let report = plan.last_failover.expect("it is complete");
    assert!(report.forced);
    assert_eq!(report.gap, Some(gap));
}

/// The best of them has everything: the one that was named may not.
#[test]
fn nobody_is_forced_where_enough_answer_after_all() {
    let mut observed = failing(2, 60_000);
    answered(&mut observed, 2, T3, 400);
    answered(&mut observed, 3, T3, 500);
    let mut asking = cluster(2, Durability::Quorum);
    asking.requests.force_promote = Some("m-2@4".to_owned());
    let plan = decide(&asking, &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-3"));
    assert_eq!(plan.outcomes[0].event.reason, "ForcePromoteRefused");
    let chosen = plan.swap.expect("a candidate").record;
    assert!(chosen.change.is_some_and(|c| !c.forced && c.gap.is_none()));
}
