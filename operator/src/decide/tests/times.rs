//! Times that the manifest can set, set to others than the usual ones.

use super::*;
use crate::api::Receiver;
use crate::decide::STUCK_MS;

#[test]
fn a_member_that_is_lost_stays_as_long_as_the_manifest_says() {
    let mut patient = cluster(2, Durability::Quorum);
    patient.failover.member_lost_after_ms = 9_000;
    let mut observed = running(2);
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    let is_second = |s: &StandbyStream| s.instance_id == Some(member(2).id);
    primary.standbys.retain(is_second);
    for (unstreamed, members) in [(8_999, 2), (9_000, 1)] {
        observed.unstreamed_ms = BTreeMap::from([(member(3).id, unstreamed)]);
        let swap = decide(&patient, &observed, NOW).swap;
        let set = swap.and_then(|s| s.record.in_sync.last().cloned());
        let left = set.map_or(2, |s| s.members.len());
        assert_eq!(left, members, "after {unstreamed} ms");
    }
}

#[test]
fn an_async_failover_waits_for_answers_as_long_as_the_manifest_says() {
    let mut patient = cluster(2, Durability::Async);
    patient.failover.async_answers_within_ms = 7_000;
    for (elapsed, chosen) in [(6_999, None), (7_000, Some("m-2"))] {
        let mut observed = failing(2, elapsed);
        let sets = &mut record(&mut observed).in_sync;
        (sets[0].durability, sets[0].required) = (Durability::Async, 0);
        answered(&mut observed, 2, T3, 300);
        let plan = decide(&patient, &observed, NOW);
        assert_eq!(candidate(&plan).as_deref(), chosen, "after {elapsed} ms");
    }
}

#[test]
fn a_switchover_has_the_time_that_the_manifest_gives() {
    let mut patient = cluster(2, Durability::Quorum);
    patient.failover.switchover_within_ms = 30_000;
    patient.requests.switchover_to = Some("m-3".to_owned());
    let mut observed = running(2);
    let begun = decide(&patient, &observed, NOW).swap.expect("it begins");
    let change = begun.record.change.clone().expect("a change");
    assert_eq!(change.deadline, Some(NOW.plus(30_000)));
    observed.record = Some(begun.record);
    patient.requests = Requests::default();
    let steps = decide(&patient, &observed, NOW).steps;
    let asks = |step: &Step| matches!(step, Step::Demote { within_ms, .. } if *within_ms == 15_000);
    assert!(steps.iter().any(asks), "{steps:?}");
}

/// m-3 is in no set, and its engine tries to get a stream.
fn connecting() -> Observed {
    let mut observed = running(2);
    record(&mut observed).in_sync = vec![set(1, &[2], 1)];
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    primary.set = Some(EngineSet::from(&set(1, &[2], 1)));
    let is_second = |s: &StandbyStream| s.instance_id == Some(member(2).id);
    primary.standbys.retain(is_second);
    let third = status(&mut observed, 3).engine.as_mut().expect("it runs");
    third.receiver = Some(Receiver {
        state: "connecting".to_owned(),
        ..Receiver::default()
    });
    observed
}

/// Why m-3 is seeded anew, if it is.
fn reseeded(cluster: &ValidatedCluster, observed: &Observed) -> Option<String> {
    let mut steps = decide(cluster, observed, NOW).steps.into_iter();
    steps.find_map(|step| match step {
        Step::Reseed { instance, why, .. } if instance == "m-3" => Some(why),
        _ => None,
    })
}

#[test]
fn a_standby_that_can_not_stream_is_seeded_anew_after_the_manifest_s_time() {
    let mut patient = cluster(2, Durability::Quorum);
    patient.failover.reseed_after_ms = 600_000;
    let mut observed = connecting();
    observed.unstreamed_ms = BTreeMap::from([(member(3).id, 600_000)]);
    for (stuck, why) in [
        (599_999, None),
        (600_000, Some("it could not stream for 600 s")),
    ] {
        observed.stuck_ms = BTreeMap::from([(member(3).id, stuck)]);
        let said = reseeded(&patient, &observed);
        assert_eq!(said.as_deref(), why, "after {stuck} ms");
    }
    record(&mut observed).in_sync = vec![set(1, &[2, 3], 1)];
    assert_eq!(reseeded(&patient, &observed), None, "a set counts on it");
}

/// It streams a moment later, and a base backup of all there is would have been for nothing.
#[test]
fn a_standby_that_was_away_for_longer_is_given_the_time_to_stream_again() {
    let usual = cluster(2, Durability::Quorum);
    let mut observed = connecting();
    observed.unstreamed_ms = BTreeMap::from([(member(3).id, 2 * STUCK_MS)]);
    assert_eq!(reseeded(&usual, &observed), None, "it runs again just now");
    // Its primary has told it that there is nothing to wait for.
    let third = status(&mut observed, 3).engine.as_mut().expect("it runs");
    let receiver = third.receiver.as_mut().expect("it tries");
    let gone = "could not start WAL streaming: ERROR:  requested WAL segment 000000030000000000000001 has already been \
                removed";
    receiver.last_error = Some(gone.to_owned());
    assert!(reseeded(&usual, &observed).is_some_and(|why| why.contains("no longer has the log")));
    // One that was away for less may have been told so by a primary that was about to change.
    observed.unstreamed_ms = BTreeMap::from([(member(3).id, STUCK_MS - 1)]);
    assert_eq!(reseeded(&usual, &observed), None);
}
