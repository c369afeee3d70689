//! Whether applications have what `spec.bootstrap` and the Secrets promise.

use super::*;
use crate::api::BootstrapState;

/// Status, reason and message of a condition.
fn says(plan: &Plan, type_: &str) -> (bool, String, String) {
    let found = plan.conditions.iter().find(|c| c.type_ == type_);
    let found = found.expect("it is always there");
    let is_true = found.status == crate::crd::ConditionStatus::True;
    (is_true, found.reason.clone(), found.message.clone())
}

fn with(number: u32, state: Option<BootstrapState>) -> Observed {
    let mut observed = running(2);
    status(&mut observed, number).bootstrap = state;
    observed
}

fn plan(observed: &Observed) -> Plan {
    decide(&cluster(2, Durability::Quorum), observed, NOW)
}

fn failed() -> BootstrapState {
    BootstrapState::Failed {
        error: "spec.bootstrap.sql[1]: relation \"a\" does not exist".to_owned(),
    }
}

#[test]
fn ready_waits_for_roles_and_databases() {
    let waits = plan(&with(1, Some(BootstrapState::Pending)));
    assert!(!says(&waits, "Ready").0);
    assert_eq!(says(&waits, "Ready").1, "Bootstrapping");
    assert!(says(&waits, "Progressing").0);
    assert!(!says(&waits, "Degraded").0, "it is only a matter of time");
    assert!(waits.instances.iter().all(|i| i.ready));
    // A supervisor of an older version does not say it.
    for state in [Some(BootstrapState::Done), None] {
        let plan = plan(&with(1, state));
        assert_eq!(says(&plan, "Ready").1, "AllReady");
        assert_eq!(says(&plan, "Degraded").1, "Healthy");
    }
}

#[test]
fn what_could_not_be_made_is_a_condition_with_the_server_s_words() {
    let plan = plan(&with(1, Some(failed())));
    for (condition, is) in [("Ready", false), ("Degraded", true), ("Progressing", false)] {
        assert_eq!(says(&plan, condition).0, is, "{condition}");
    }
    for condition in ["Ready", "Degraded"] {
        let (_, reason, message) = says(&plan, condition);
        assert_eq!(reason, crate::crd::BOOTSTRAP_FAILED, "{condition}");
        assert!(
            message.contains("sql[1]: relation") && message.contains("m-1"),
            "{message}"
        );
    }
    assert!(plan.swap.is_none(), "it is no failover");
}

#[test]
fn only_the_primary_is_asked_and_the_cause_of_a_stand_still_comes_first() {
    let plan_of = plan;
    assert_eq!(
        says(&plan_of(&with(2, Some(failed()))), "Ready").1,
        "AllReady"
    );
    let mut observed = with(1, Some(failed()));
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    primary.writable = false;
    record(&mut observed).change = failing(2, 100).record.and_then(|r| r.change);
    assert_eq!(says(&plan_of(&observed), "Ready").1, "WaitingForStandbys");
    // One that is missing is another matter, and hides nothing.
    let mut observed = with(1, Some(failed()));
    observed.instances.remove("m-3");
    assert_eq!(
        says(&plan_of(&observed), "Degraded").1,
        crate::crd::BOOTSTRAP_FAILED
    );
}
