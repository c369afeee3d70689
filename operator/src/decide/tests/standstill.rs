//! Nothing waits for ever without a word, and what can't get on makes nothing worse.

use super::*;

/// m-2 is the candidate of the record's term.
fn promoting(observed: &mut Observed) {
    let plan = decide(&cluster(2, Durability::Quorum), observed, NOW);
    let swap = plan.swap.expect("a candidate");
    assert_eq!(swap.record.phase, Phase::Promoting);
    observed.record = Some(swap.record);
}

/// The candidate's engine crashes again and again; its supervisor answers each seal.
fn candidate_lost(observed: &mut Observed, now: Millis) {
    let candidate = record(observed).candidate.clone().expect("one");
    let number = if candidate == member(2) { 2 } else { 3 };
    let before = status(observed, number).clone();
    let crashed = status(observed, number);
    (crashed.crashes, crashed.down_ms, crashed.engine) = (2, 1, None);
    let plan = decide(&cluster(2, Durability::Quorum), observed, now);
    assert_eq!(plan.events[0].reason, "FailoverRestarted");
    observed.record = Some(plan.swap.expect("the next term").record);
    *status(observed, number) = before;
    for number in [2, 3] {
        let flush = if number == 2 { 500 } else { 400 };
        answered(observed, number, T3, flush);
    }
}

/// Only m-2 has everything, and it never becomes primary.
fn whose_candidate_fails() -> Observed {
    let mut observed = failing(2, 1_000);
    answered(&mut observed, 2, T3, 500);
    answered(&mut observed, 3, T3, 400);
    observed
}

#[test]
fn a_candidate_that_is_lost_again_and_again_leaves_the_record_as_long_as_it_was() {
    let mut observed = whose_candidate_fails();
    let mut now = NOW;
    for round in 1..40 {
        now = now.plus(60_000);
        let plan = decide(&cluster(2, Durability::Quorum), &observed, now);
        assert_eq!(candidate(&plan).as_deref(), Some("m-2"), "round {round}");
        observed.record = Some(plan.swap.expect("a candidate").record);
        let listed = record(&mut observed).in_sync.len();
        assert_eq!(listed, 2, "round {round}: its set and the old primary's");
        candidate_lost(&mut observed, now);
    }
    let change = record(&mut observed).change.clone().expect("it is open");
    assert_eq!(change.lost_candidates, 39);
}

#[test]
fn after_the_second_one_it_rests_and_says_so() {
    let mut observed = whose_candidate_fails();
    promoting(&mut observed);
    candidate_lost(&mut observed, NOW);
    // Nodes die together: the next one is chosen at once.
    promoting(&mut observed);
    candidate_lost(&mut observed, NOW);
    let quorum = cluster(2, Durability::Quorum);
    let plan = decide(&quorum, &observed, NOW);
    assert!(plan.swap.is_none());
    let (reason, message) = plan.obstacle.expect("it says why");
    assert_eq!(reason, "FailoverBlocked");
    for part in [
        "2 candidates",
        "m-2 was lost",
        "begins again within 1 s",
        "force-promote",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let later = NOW.plus(1_000);
    let plan = decide(&quorum, &observed, later);
    observed.record = Some(plan.swap.expect("it begins again").record);
    // What a page is for goes on being said while the next one is tried.
    let plan = decide(&quorum, &observed, later);
    assert_eq!(self::reason(&plan), "FailoverBlocked");
    assert!(plan.steps.iter().any(|s| matches!(s, Step::Promote { .. })));
}

/// Both have everything: the one that has just failed is not the only choice.
#[test]
fn among_equals_another_one_is_tried() {
    let mut observed = failing(2, 1_000);
    answered(&mut observed, 2, T3, 500);
    answered(&mut observed, 3, T3, 500);
    promoting(&mut observed);
    assert_eq!(record(&mut observed).candidate, Some(member(2)));
    candidate_lost(&mut observed, NOW);
    answered(&mut observed, 3, T3, 500);
    promoting(&mut observed);
    assert_eq!(record(&mut observed).candidate, Some(member(3)));
}

/// Enough answer, and the best of them can't become primary: an administrator's word is the only way on.
#[test]
fn another_one_may_be_forced_where_the_best_is_lost_each_time() {
    let mut observed = whose_candidate_fails();
    promoting(&mut observed);
    candidate_lost(&mut observed, NOW);
    let term = record(&mut observed).term;
    let mut asking = cluster(2, Durability::Quorum);
    asking.requests.force_promote = Some(format!("m-3@{term}"));
    let plan = decide(&asking, &observed, NOW);
    assert_eq!(candidate(&plan).as_deref(), Some("m-3"));
    assert_eq!(plan.outcomes[0].event.reason, "ForcePromoted");
}

/// Heard, sealed, and never able to answer: what is missing is named, with what it says.
#[test]
fn who_is_heard_and_never_answers_blocks_with_a_word() {
    let look = |elapsed: u64| {
        let mut observed = failing(2, elapsed);
        answered(&mut observed, 2, T3, 500);
        let stuck = status(&mut observed, 3);
        (stuck.promised_term, stuck.sealed) = (Term::new(4), true);
        stuck.engine = None;
        stuck.message = Some("could not read the log".to_owned());
        let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
        assert!(plan.swap.is_none());
        plan.obstacle.expect("it says why")
    };
    assert_eq!(look(9_000).0, "FailingOver", "it may only be starting");
    let (reason, message) = look(10_000);
    assert_eq!(reason, "FailoverBlocked");
    for part in ["m-3", "could not read the log", "force-promote m-2@4"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// It would be taken for one that nobody can follow: its set would shrink to nobody, and its loss be everybody's.
#[test]
fn a_primary_that_replays_its_log_keeps_its_set() {
    let mut observed = running(2);
    let set = record(&mut observed).newest_set().cloned();
    let starts = status(&mut observed, 1);
    starts.state = SupervisorState::Starting;
    starts.set = set.as_ref().map(EngineSet::from);
    let engine = starts.engine.as_mut().expect("it runs");
    (engine.in_recovery, engine.writable, engine.primary_term) = (true, false, None);
    (engine.set, engine.set_caught_up) = (None, false);
    engine.standbys.clear();
    observed.unstreamed_ms = BTreeMap::from([
        (member(2).id, MEMBER_LOST_MS * 9),
        (member(3).id, MEMBER_LOST_MS * 9),
    ]);
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none(), "{:?}", plan.swap);
    assert_eq!(reason(&plan), "PrimaryStarting");
    let told = |step: &Step| matches!(step, Step::Set { .. });
    assert!(!plan.steps.iter().any(told), "it has been told");
    status(&mut observed, 1).set = None;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.steps.iter().any(told), "it has not");
}

/// A restored etcd: what the primary acknowledges by the record's sets need not lead to.
#[test]
fn a_record_that_was_put_back_within_its_term_is_told_of_and_not_built_on() {
    let mut observed = running(2);
    let mut newer = set(1, &[2], 1);
    newer.counter = 7;
    status(&mut observed, 1).set = Some(EngineSet::from(&newer));
    observed.unstreamed_ms = BTreeMap::from([(member(3).id, MEMBER_LOST_MS)]);
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.swap.is_none());
    let (reason, message) = plan.obstacle.expect("it says why");
    assert_eq!(reason, "RecordDamaged");
    assert!(
        message.contains("m-1") && message.contains("--subresource=status"),
        "{message}"
    );
}

/// It has a name already and no data: nobody would ever get its answer.
#[test]
fn who_is_being_seeded_is_not_asked_when_the_record_is_rebuilt() {
    let seeds = |observed: &mut Observed, number: u32| {
        let seeding = status(observed, number);
        (seeding.state, seeding.engine) = (SupervisorState::Seeding, None);
        seeding.seeding = Some(crate::api::SeedingReport::default());
    };
    let mut observed = running(2);
    observed.record = None;
    seeds(&mut observed, 3);
    let quorum = cluster(2, Durability::Quorum);
    let rebuilt = decide(&quorum, &observed, NOW)
        .swap
        .expect("rebuilt")
        .record;
    assert_eq!(rebuilt.in_sync[0].members, [member(1), member(2)]);
    for number in [1, 2] {
        seeds(&mut observed, number);
    }
    let plan = decide(&quorum, &observed, NOW);
    assert!(plan.swap.is_none());
    let (reason, message) = plan.obstacle.expect("it says why");
    assert_eq!(reason, "VolumeMissing");
    assert!(
        message.contains("no volume of this cluster holds a database"),
        "{message}"
    );
}

/// There was a database: an empty one must not take its place.
#[test]
fn removed_instances_volumes_are_a_reason_to_ask() {
    let quorum = cluster(2, Durability::Quorum);
    let mut observed = Observed::default();
    let creates = |observed: &Observed| decide(&quorum, observed, NOW).swap.is_some();
    assert!(creates(&observed), "a new cluster begins");
    observed.retired = vec!["m-3".to_owned()];
    assert!(!creates(&observed));
    let (reason, message) = decide(&quorum, &observed, NOW)
        .obstacle
        .expect("it says why");
    assert_eq!(reason, "VolumeMissing");
    assert!(
        message.contains("m-3") && message.contains("understudy.dev/retired"),
        "{message}"
    );
    // One of three is missing, and its old volume may be meant.
    let mut observed = running(1);
    (observed.record, observed.retired) = (None, vec!["m-3".to_owned()]);
    let (_, message) = decide(&quorum, &observed, NOW)
        .obstacle
        .expect("it says why");
    assert!(message.contains("missing: m-3") && message.contains("kept and not counted: m-3"));
}
