//! Where the read Service leads: to standbys that show what the primary has, and stay.

use super::*;
use crate::crd::LastRoleChange;

fn seen(observed: &mut Observed, number: u32) -> &mut Instance {
    let name = member(number).name;
    observed.instances.get_mut(&name).expect("it exists")
}

/// Whom the read Service is led to, in a cluster with three standbys.
fn led_to(change: &dyn Fn(&mut Observed)) -> Vec<String> {
    let mut observed = running(3);
    change(&mut observed);
    let plan = decide(&cluster(3, Durability::Quorum), &observed, NOW);
    let routes = plan.steps.into_iter().find_map(|step| match step {
        Step::Route(routes) => Some(routes),
        _ => None,
    });
    routes.expect("nothing is led anywhere yet").standbys
}

/// The role was handed from m-`number` to m-1.
fn had_role(observed: &mut Observed, number: u32) {
    observed.past.last_switchover = Some(LastRoleChange {
        gap: None,
        cause: "its node is being drained".to_owned(),
        old: Some(member(number).name),
        old_id: Some(member(number).id),
        new: member(1).name,
        term: T3,
        detected_at: NOW,
        promoted_at: NOW,
        writable_at: NOW,
        seconds: 0.1,
        lost_bytes: None,
        forced: false,
    });
}

/// The primary lists no stream of m-`number`, which was there `ms` ago.
fn does_not_stream(observed: &mut Observed, number: u32, ms: u64) {
    let id = member(number).id;
    let engine = status(observed, 1).engine.as_mut().expect("it runs");
    let streams = &mut engine.standbys;
    streams.retain(|stream| stream.instance_id.as_ref() != Some(&id));
    observed.unstreamed_ms.insert(id, ms);
}

#[test]
fn a_standby_that_is_about_to_go_is_read_from_only_where_there_is_no_other() {
    assert_eq!(led_to(&|_| {}), ["m-2", "m-3", "m-4"]);
    assert_eq!(led_to(&|o| seen(o, 2).upkeep.going = true), ["m-3", "m-4"]);
    let renewed = |o: &mut Observed| seen(o, 3).upkeep.renewing = true;
    assert_eq!(led_to(&renewed), ["m-2", "m-4"]);
    let deleted = |o: &mut Observed| seen(o, 4).upkeep.forced = true;
    assert_eq!(led_to(&deleted), ["m-2", "m-3"]);
    let all = |o: &mut Observed| {
        for number in 2..=4 {
            seen(o, number).upkeep.going = true;
        }
    };
    assert_eq!(led_to(&all), ["m-2", "m-3", "m-4"]);
}

/// Else all clients would be led to the one that has been renewed already.
#[test]
fn standbys_that_wait_for_their_renewal_are_read_from() {
    let outdated = |o: &mut Observed, numbers: &[u32]| {
        for number in numbers {
            seen(o, *number).upkeep.outdated = true;
        }
    };
    let begun = |o: &mut Observed| outdated(o, &[1, 2, 3]);
    assert_eq!(led_to(&begun), ["m-2", "m-3", "m-4"]);
    // Nor is one left out that had the role long ago.
    let once = |o: &mut Observed| {
        outdated(o, &[1, 2, 3]);
        had_role(o, 2);
    };
    assert_eq!(led_to(&once), ["m-2", "m-3", "m-4"]);
    let last = |o: &mut Observed| {
        outdated(o, &[2]);
        had_role(o, 2);
    };
    assert_eq!(led_to(&last), ["m-3", "m-4"], "it has just handed it over");
    let failed_over = |o: &mut Observed| outdated(o, &[2, 3]);
    assert_eq!(led_to(&failed_over), ["m-2", "m-3", "m-4"]);
}

/// It may pass clients on to the new primary, which is not what they asked for.
#[test]
fn a_former_primary_that_goes_does_not_stand_in_for_standbys_that_come_back() {
    let after = |ms: u64, handed_over: bool| {
        led_to(&|o: &mut Observed| {
            seen(o, 2).upkeep.going = true;
            does_not_stream(o, 3, ms);
            does_not_stream(o, 4, MEMBER_LOST_MS);
            if handed_over {
                had_role(o, 2);
            }
        })
    };
    assert!(after(100, true).is_empty(), "m-3 is about to stream");
    assert_eq!(after(100, false), ["m-2"]);
    assert_eq!(after(MEMBER_LOST_MS, true), ["m-2"], "nobody else is there");
}

/// It passes clients on until it has its port again, also where it is the only one that stays.
#[test]
fn a_former_primary_that_stays_is_read_from_when_it_has_its_port_again() {
    let gave_way = |o: &mut Observed| {
        status(o, 3).gave_way = true;
        had_role(o, 3);
    };
    assert_eq!(led_to(&gave_way), ["m-2", "m-4"]);
    assert_eq!(led_to(&|o| had_role(o, 3)), ["m-2", "m-3", "m-4"]);
    let others_go = |o: &mut Observed| {
        gave_way(o);
        for number in [2, 4] {
            seen(o, number).upkeep.going = true;
        }
    };
    assert_eq!(led_to(&others_go), ["m-2", "m-4"]);
}
