//! What a failover lost: counted whenever the old primary comes back, and before its copy goes.

use super::*;
use crate::crd::LastRoleChange;

/// The old primary of term 1 was m-3; term 2 began without it at 100, and term 3 after term 2 at 200.
fn returned_late(flush: u64) -> Observed {
    let mut observed = running(2);
    let fork = |timeline, parent, lsn| TimelineFork {
        timeline: Term::new(timeline),
        parent: Term::new(parent),
        lsn: Lsn::new(lsn),
    };
    record(&mut observed).forks = vec![fork(2, 1, 100), fork(3, 2, 200)];
    record(&mut observed).in_sync = vec![set(1, &[2], 1)];
    answered(&mut observed, 3, Term::new(1), flush);
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    let is_other = |s: &StandbyStream| s.instance_id != Some(member(3).id);
    primary.standbys.retain(is_other);
    observed.past.last_failover = Some(LastRoleChange {
        gap: None,
        cause: "m-3 has ended".to_owned(),
        old: Some(member(3).name),
        old_id: Some(member(3).id),
        new: member(2).name,
        term: Term::new(2),
        detected_at: NOW,
        promoted_at: NOW,
        writable_at: NOW,
        seconds: 0.5,
        lost_bytes: None,
        forced: false,
    });
    observed
}

fn lost(plan: &Plan) -> Option<u64> {
    plan.last_failover.as_ref().and_then(|r| r.lost_bytes)
}

fn reseeds(plan: &Plan) -> bool {
    why_reseeded(plan).is_some()
}

fn why_reseeded(plan: &Plan) -> Option<&str> {
    plan.steps.iter().find_map(|step| match step {
        Step::Reseed { why, .. } => Some(why.as_str()),
        _ => None,
    })
}

#[test]
fn it_is_counted_two_failovers_later_and_before_the_copy_goes() {
    let quorum = cluster(2, Durability::Quorum);
    let mut observed = returned_late(130);
    let plan = decide(&quorum, &observed, NOW);
    assert_eq!(lost(&plan), Some(30), "from where term 2 began, not term 3");
    assert!(!reseeds(&plan), "the report is not written yet");
    observed.past.last_failover = plan.last_failover;
    let plan = decide(&quorum, &observed, NOW);
    let range = "its log from 0/64 to 0/82 on timeline 1 is not in timeline 3";
    assert_eq!(why_reseeded(&plan), Some(range));
    observed.instances.remove("m-3");
    assert_eq!(lost(&decide(&quorum, &observed, NOW)), Some(30));
}

#[test]
fn who_had_no_more_has_lost_nothing() {
    let quorum = cluster(2, Durability::Quorum);
    let plan = decide(&quorum, &returned_late(100), NOW);
    assert_eq!(lost(&plan), Some(0));
    assert!(!reseeds(&plan), "it follows");
    // It has followed term 2 already, further than that had come when it began.
    let mut observed = returned_late(0);
    answered(&mut observed, 3, Term::new(2), 180);
    assert_eq!(lost(&decide(&quorum, &observed, NOW)), Some(0));
}

/// A figure that nobody can know is none; the copy is not kept for it.
#[test]
fn where_nobody_knows_where_they_parted_nothing_is_said() {
    let mut observed = returned_late(130);
    record(&mut observed).forks.remove(0);
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert_eq!(lost(&plan), None);
    let said = "its log ends at 0/82 on timeline 1, which timeline 3 does not contain";
    assert_eq!(why_reseeded(&plan), Some(said));
}
