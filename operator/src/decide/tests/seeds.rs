//! Whom an instance without data is told to copy.

use super::*;
use crate::api::SeedingReport;
use crate::decide::{CAUGHT_UP_BYTES, Giver};

fn seen(observed: &mut Observed, number: u32) -> &mut Instance {
    let name = member(number).name;
    observed.instances.get_mut(&name).expect("it exists")
}

fn running_engine(observed: &mut Observed, number: u32) -> &mut EngineStatus {
    status(observed, number).engine.as_mut().expect("it runs")
}

/// m-`number` has no data yet, and says this of its seed.
fn seeds(observed: &mut Observed, number: u32, report: SeedingReport) {
    let taker = instance(number, engine(number, EngineRole::Standby, 0));
    observed.instances.insert(member(number).name, taker);
    let status = status(observed, number);
    (status.system_id, status.engine, status.engine_pid) = (None, None, None);
    status.state = SupervisorState::Seeding;
    status.seeding = Some(report);
}

fn asks(observed: &mut Observed, number: u32) {
    let report = SeedingReport {
        attempts: 1,
        asks: true,
        ..SeedingReport::default()
    };
    seeds(observed, number, report);
}

/// It copies m-`of`, or the primary.
fn copies(observed: &mut Observed, number: u32, of: Option<u32>) {
    let report = SeedingReport {
        attempts: 1,
        source: of.map(|number| member(number).name),
        ..SeedingReport::default()
    };
    seeds(observed, number, report);
}

fn standby(number: u32) -> Option<Giver> {
    Some(Giver::Standby(member(number).name))
}

fn plan_of(observed: &Observed) -> Plan {
    let replicas = u32::try_from(observed.instances.len() - 1).expect("few");
    decide(&cluster(replicas, Durability::Quorum), observed, NOW)
}

/// Whom m-`number` is told to copy, if it is told so.
fn told_by(plan: &Plan, number: u32) -> Option<Giver> {
    let name = member(number).name;
    plan.steps.iter().find_map(|step| match step {
        Step::Follow {
            instance, giver, ..
        } if *instance == name => giver.clone(),
        _ => None,
    })
}

fn told(observed: &Observed, number: u32) -> Option<Giver> {
    told_by(&plan_of(observed), number)
}

#[test]
fn the_standby_that_gives_the_fewest_copies_is_copied() {
    let mut observed = running(2);
    for number in 4..=6 {
        asks(&mut observed, number);
    }
    let plan = plan_of(&observed);
    assert_eq!(told_by(&plan, 4), standby(2));
    assert_eq!(told_by(&plan, 5), standby(3));
    assert_eq!(told_by(&plan, 6), standby(2));
    // Those that are under way count, whoever says so.
    let mut observed = running(2);
    copies(&mut observed, 4, Some(2));
    asks(&mut observed, 5);
    assert_eq!(told(&observed, 5), standby(3));
    let mut observed = running(2);
    asks(&mut observed, 4);
    running_engine(&mut observed, 2)
        .standbys
        .push(StandbyStream {
            state: "backup".to_owned(),
            ..StandbyStream::default()
        });
    assert_eq!(told(&observed, 4), standby(3));
}

#[test]
fn only_a_standby_that_has_all_and_stays_is_copied() {
    let of_m2 = |change: fn(&mut Observed)| {
        let mut observed = running(1);
        asks(&mut observed, 3);
        change(&mut observed);
        told(&observed, 3)
    };
    assert_eq!(of_m2(|_| {}), standby(2));
    let cases: [(&str, fn(&mut Observed)); 17] = [
        ("drained", |o| seen(o, 2).upkeep.going = true),
        ("outdated", |o| seen(o, 2).upkeep.outdated = true),
        ("renewed", |o| seen(o, 2).upkeep.renewing = true),
        ("deleted", |o| seen(o, 2).upkeep.forced = true),
        ("told to end", |o| status(o, 2).leaving = true),
        ("without its port", |o| status(o, 2).gave_way = true),
        ("ended", |o| seen(o, 2).life = Life::Ended),
        ("silent", |o| seen(o, 2).silent_ms = SILENT_MS),
        ("frozen", |o| {
            status(o, 2).engine_silent_ms = ENGINE_SILENT_MS;
        }),
        ("starting", |o| {
            status(o, 2).state = SupervisorState::Starting;
        }),
        ("sealed", |o| status(o, 2).sealed = true),
        ("in an older term", |o| {
            status(o, 2).promised_term = Term::new(2);
        }),
        ("inconsistent", |o| running_engine(o, 2).consistent = false),
        ("stuck", |o| running_engine(o, 2).replay_stuck = true),
        ("full", |o| {
            status(o, 2).volume_full = Some("it is full to 99%".to_owned());
        }),
        ("not streaming", |o| running_engine(o, 1).standbys.clear()),
        ("behind", |o| {
            let far = Lsn::new(501 + CAUGHT_UP_BYTES);
            running_engine(o, 1).flush_lsn = Some(far);
        }),
    ];
    for (what, change) in cases {
        assert_eq!(of_m2(change), Some(Giver::Primary), "{what}");
    }
    // It has received all, and replays what is old.
    let replays_late = of_m2(|o| {
        let far = Some(Lsn::new(501 + CAUGHT_UP_BYTES));
        running_engine(o, 1).flush_lsn = far;
        running_engine(o, 1).standbys[0].flush_lsn = far;
    });
    assert_eq!(replays_late, Some(Giver::Primary));
}

#[test]
fn a_standby_that_is_given_up_is_not_copied() {
    let mut observed = running(1);
    asks(&mut observed, 3);
    let mut asked = cluster(2, Durability::Quorum);
    asked.requests.replace_instance = Some("m-2".to_owned());
    let plan = decide(&asked, &observed, NOW);
    assert_eq!(told_by(&plan, 3), Some(Giver::Primary));
}

/// A copy under way is left alone, unless nothing will ever come of it.
#[test]
fn another_is_told_only_where_the_one_that_is_copied_answers_no_more() {
    let mut observed = running(2);
    copies(&mut observed, 4, None);
    assert_eq!(told(&observed, 4), None, "it copies the primary");
    copies(&mut observed, 4, Some(2));
    assert_eq!(told(&observed, 4), None);
    seen(&mut observed, 2).upkeep.going = true;
    running_engine(&mut observed, 2).replay_stuck = true;
    assert_eq!(told(&observed, 4), None, "it may come to its end");
    let heard = seen(&mut observed, 2).status.take();
    assert_eq!(told(&observed, 4), None, "the operator has just started");
    seen(&mut observed, 2).status = heard;
    seen(&mut observed, 2).silent_ms = SILENT_MS;
    assert_eq!(told(&observed, 4), standby(3));
    seen(&mut observed, 3).upkeep.going = true;
    assert_eq!(told(&observed, 4), Some(Giver::Primary));
    observed.instances.remove("m-2");
    seen(&mut observed, 3).upkeep.going = false;
    assert_eq!(
        told(&observed, 4),
        standby(3),
        "never the one that has gone"
    );
}

/// One that was sealed before it had data is told to follow, and whom to copy, in one. An older supervisor is told whom to
/// follow alone.
#[test]
fn one_that_was_sealed_without_data_is_told_whom_to_copy() {
    let mut observed = running(1);
    seeds(&mut observed, 3, SeedingReport::default());
    status(&mut observed, 3).sealed = true;
    assert_eq!(told(&observed, 3), standby(2));
    status(&mut observed, 3).seeding = None;
    let plan = plan_of(&observed);
    let follows = |step: &Step| matches!(step, Step::Follow { giver: None, .. });
    assert!(plan.steps.iter().any(follows), "{:?}", plan.steps);
}

#[test]
fn nobody_is_told_whom_to_copy_during_a_failover() {
    let mut observed = failing(2, 0);
    asks(&mut observed, 4);
    status(&mut observed, 4).promised_term = Term::new(4);
    for number in [2, 3] {
        answered(&mut observed, number, T3, 500);
    }
    let plan = plan_of(&observed);
    assert!(candidate(&plan).is_some(), "it goes on");
    let follows = |step: &Step| matches!(step, Step::Follow { .. });
    assert!(!plan.steps.iter().any(follows), "{:?}", plan.steps);
}
