//! Where the write Service leads while the role moves. Each change of that costs clients up to a second, so there is one.

use super::*;
use crate::decide::{
    CLOSE_SERVICE_MS, FORCED_HANDOVER_MS, LONG_PROMOTION_MS, Routes, SWITCHOVER_MS,
};

/// Whom the plan leads the write Service to, if it moves it.
fn moved(plan: &Plan) -> Option<Option<String>> {
    plan.steps.iter().find_map(|step| match step {
        Step::Route(routes) => Some(routes.primary.clone()),
        _ => None,
    })
}

/// The Services lead to m-1 and to its standbys.
fn lead(observed: &mut Observed) {
    observed.routes = Some(Routes {
        record_version: 7,
        primary: Some(member(1).name),
        standbys: vec![member(2).name, member(3).name],
    });
}

#[test]
fn it_moves_when_the_new_primary_is_one_and_not_before() {
    let quorum = cluster(2, Durability::Quorum);
    let mut observed = failing(2, 50);
    lead(&mut observed);
    let plan = decide(&quorum, &observed, NOW);
    assert_eq!(moved(&plan), None, "answers are asked for");
    for number in [2, 3] {
        answered(&mut observed, number, T3, 500);
    }
    let plan = decide(&quorum, &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-2"));
    assert_eq!(moved(&plan), None, "the candidate is chosen");
    observed.record = plan.swap.map(|swap| swap.record);
    let plan = decide(&quorum, &observed, NOW);
    assert_eq!(moved(&plan), None, "it would show what a standby shows");
    let term = record(&mut observed).term;
    let promoted = status(&mut observed, 2);
    promoted.sealed = false;
    let mut serving = engine(2, EngineRole::Primary, 500);
    serving.promised_term = Some(term);
    serving.primary_term = Some(term);
    serving.timeline = term;
    promoted.engine = Some(serving);
    let plan = decide(&quorum, &observed, NOW);
    assert_eq!(moved(&plan), Some(Some("m-2".to_owned())));
}

#[test]
fn it_leads_nowhere_while_nobody_can_take_over() {
    let after = |elapsed: u64, change: &dyn Fn(&mut Observed)| {
        let mut observed = failing(2, elapsed);
        lead(&mut observed);
        change(&mut observed);
        moved(&decide(&cluster(2, Durability::Quorum), &observed, NOW))
    };
    assert_eq!(after(CLOSE_SERVICE_MS - 1, &|_| {}), None);
    assert_eq!(after(CLOSE_SERVICE_MS, &|_| {}), Some(None), "it lasts");
    let blocks = |observed: &mut Observed| {
        let standby = observed.instances.get_mut("m-3").expect("it exists");
        standby.life = Life::Ended;
    };
    assert_eq!(after(0, &blocks), Some(None), "it is blocked");
}

/// Replay may take long: meanwhile nobody waits for an address that is silent.
#[test]
fn it_leads_nowhere_while_a_promotion_takes_long() {
    let quorum = cluster(2, Durability::Quorum);
    let mut observed = failing(2, 0);
    lead(&mut observed);
    for number in [2, 3] {
        answered(&mut observed, number, T3, 500);
    }
    observed.record = decide(&quorum, &observed, NOW).swap.map(|s| s.record);
    for (ms, leads) in [
        (LONG_PROMOTION_MS - 1, None),
        (LONG_PROMOTION_MS, Some(None)),
    ] {
        let plan = decide(&quorum, &observed, NOW.plus(ms));
        assert_eq!(moved(&plan), leads, "after {ms} ms");
        let promotes = |step: &Step| matches!(step, Step::Promote { .. });
        assert!(plan.steps.iter().any(promotes), "{:?}", plan.steps);
    }
}

/// A primary that has closed writes refuses them at once, wherever the Service leads.
#[test]
fn it_stays_with_who_hands_over_until_somebody_has_taken_over() {
    let quorum = cluster(2, Durability::Quorum);
    let mut observed = running(2);
    lead(&mut observed);
    status(&mut observed, 1).leaving = true;
    observed.record = decide(&quorum, &observed, NOW).swap.map(|s| s.record);
    answered(&mut observed, 1, T3, 500);
    for ms in [0, CLOSE_SERVICE_MS, SWITCHOVER_MS - 1] {
        let plan = decide(&quorum, &observed, NOW.plus(ms));
        assert!(plan.swap.is_none(), "m-2 and m-3 have not answered");
        assert_eq!(moved(&plan), None, "after {ms} ms");
    }
}

/// Only its own word says that it hands over: one that stands still would never finish.
#[test]
fn who_is_killed_soon_closes_writes_sooner() {
    let quorum = cluster(2, Durability::Quorum);
    let within = |forced: bool| {
        let mut observed = running(2);
        let primary = observed.instances.get_mut("m-1").expect("it exists");
        primary.upkeep.forced = forced;
        assert!(decide(&quorum, &observed, NOW).swap.is_none());
        status(&mut observed, 1).leaving = true;
        observed.record = decide(&quorum, &observed, NOW).swap.map(|s| s.record);
        let plan = decide(&quorum, &observed, NOW);
        plan.steps.iter().find_map(|step| match step {
            Step::Demote { within_ms, .. } => Some(*within_ms),
            _ => None,
        })
    };
    assert_eq!(within(false), Some(SWITCHOVER_MS / 2));
    assert_eq!(within(true), Some(FORCED_HANDOVER_MS));
    // Nor does one take over that is killed soon.
    let mut observed = running(2);
    status(&mut observed, 1).leaving = true;
    let standby = observed.instances.get_mut("m-2").expect("it exists");
    standby.upkeep.forced = true;
    let record = decide(&quorum, &observed, NOW).swap.map(|s| s.record);
    let target = record.and_then(|r| r.change?.target);
    assert_eq!(target.as_deref(), Some("m-3"));
}
