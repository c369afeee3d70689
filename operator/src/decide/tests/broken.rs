//! Pods that can't run as they are made: what is said of them, and that the next manifest heals them.

use super::*;
use crate::crd::ConditionStatus;
use crate::decide::{Renewal, TROUBLE_MS};

const WHY: &str = "ImagePullBackOff: no such image";

/// The first instance has its StatefulSet, and nothing is heard of it.
fn creating() -> Observed {
    let mut observed = running(0);
    let record = record(&mut observed);
    (record.phase, record.primary) = (Phase::Creating, None);
    record.in_sync.clear();
    seen(&mut observed, 1).status = None;
    observed
}

fn seen(observed: &mut Observed, number: u32) -> &mut Instance {
    let name = member(number).name;
    observed.instances.get_mut(&name).expect("it exists")
}

/// Its pod can't run, and the manifest is another one by now.
fn breaks(observed: &mut Observed, number: u32) {
    let instance = seen(observed, number);
    (instance.life, instance.status) = (Life::Ended, None);
    instance.upkeep.outdated = true;
    instance.upkeep.trouble = Some(WHY.to_owned());
    instance.upkeep.trouble_ms = TROUBLE_MS;
}

fn plan_of(replicas: u32, observed: &Observed) -> Plan {
    decide(&cluster(replicas, Durability::Quorum), observed, NOW)
}

fn renew(name: &str) -> Step {
    Step::Renew {
        instance: name.to_owned(),
        how: Renewal::Pod,
    }
}

fn start(name: &str) -> Step {
    Step::Start {
        instance: name.to_owned(),
    }
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> (ConditionStatus, &'a str, &'a str) {
    let found = plan.conditions.iter().find(|c| c.type_ == type_);
    let found = found.expect("it is always there");
    (found.status, found.reason.as_str(), found.message.as_str())
}

#[test]
fn what_the_first_manifest_had_wrong_is_healed_by_the_next_one() {
    let mut observed = creating();
    assert!(plan_of(2, &observed).steps.is_empty());
    for life in [Life::Alive, Life::Ended] {
        let instance = seen(&mut observed, 1);
        (instance.life, instance.upkeep.outdated) = (life, true);
        let plan = plan_of(2, &observed);
        assert!(plan.swap.is_none());
        assert_eq!(plan.steps, [renew("m-1")], "{life:?}");
        seen(&mut observed, 1).upkeep.outdated = false;
    }
    assert_eq!(plan_of(2, &observed).steps, [start("m-1")]);
    // One that is there after all goes on; what is new in the manifest comes as to any other.
    let mut ready = instance(1, engine(1, EngineRole::Primary, 500));
    ready.upkeep.outdated = true;
    observed.instances.insert("m-1".to_owned(), ready);
    let plan = plan_of(2, &observed);
    assert!(plan.steps.is_empty());
    assert_eq!(plan.swap.map(|s| s.record.phase), Some(Phase::Running));
}

#[test]
fn what_keeps_the_first_pod_from_running_is_a_condition() {
    let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
    let mut observed = creating();
    let said = condition(&plan_of(2, &observed), "Ready").1.to_owned();
    assert_eq!(said, "Creating");
    for (life, ms, reason, degraded) in [
        (Life::Alive, TROUBLE_MS - 1, "Creating", no),
        (Life::Alive, TROUBLE_MS, "PodNotRunning", yes),
        // No pod is made at all: a quota, a PriorityClass that is not there.
        (Life::Ended, TROUBLE_MS, "PodNotRunning", yes),
    ] {
        let instance = seen(&mut observed, 1);
        instance.life = life;
        instance.upkeep.trouble = Some(WHY.to_owned());
        instance.upkeep.trouble_ms = ms;
        let plan = plan_of(2, &observed);
        let ready = condition(&plan, "Ready");
        assert_eq!((ready.0, ready.1), (no, reason));
        assert!(
            ready.2.contains("m-1") && ready.2.contains(WHY),
            "{ready:?}"
        );
        assert_eq!(ready.2.matches(WHY).count(), 1, "{ready:?}");
        let moves = if degraded == yes { no } else { yes };
        assert_eq!(condition(&plan, "Degraded").0, degraded);
        assert_eq!(condition(&plan, "Progressing").0, moves);
        assert_eq!(condition(&plan, "Progressing").1, reason);
    }
}

/// A single instance whose new image is nowhere: nothing serves, so nothing would ever be rolled out.
#[test]
fn a_primary_that_nobody_can_replace_is_mended_by_the_manifest() {
    for life in [Life::Alive, Life::Ended] {
        let mut observed = running(0);
        breaks(&mut observed, 1);
        let instance = seen(&mut observed, 1);
        (instance.life, instance.silent_ms) = (life, SILENT_MS);
        let plan = plan_of(0, &observed);
        assert!(plan.swap.is_none());
        assert!(plan.steps.contains(&renew("m-1")), "{:?}", plan.steps);
        assert!(!plan.steps.contains(&start("m-1")), "{:?}", plan.steps);
        let ready = condition(&plan, "Ready");
        assert_eq!(ready.1, "PrimaryLost");
        assert!(ready.2.contains(WHY), "{ready:?}");
    }
}

#[test]
fn whose_answer_a_failover_waits_for_is_mended_as_well() {
    let blocked = |change: &dyn Fn(&mut Observed)| {
        let mut observed = failing(2, 0);
        answered(&mut observed, 2, T3, 500);
        breaks(&mut observed, 3);
        change(&mut observed);
        let plan = plan_of(2, &observed);
        assert_eq!(reason(&plan), "FailoverBlocked");
        let has = |step| plan.steps.contains(&step);
        (has(renew("m-3")), has(start("m-3")))
    };
    assert_eq!(blocked(&|_| {}), (true, false));
    // The manifest is the same: only its cause can go.
    let same = |o: &mut Observed| seen(o, 3).upkeep.outdated = false;
    assert_eq!(blocked(&same), (false, true));
    // It may be back in a moment, as it was: what has not been rolled out elsewhere is not tried on it.
    let brief = |o: &mut Observed| seen(o, 3).upkeep.trouble_ms = TROUBLE_MS - 1;
    assert_eq!(blocked(&brief), (false, true));
    let no_trouble = |o: &mut Observed| seen(o, 3).upkeep.trouble = None;
    assert_eq!(blocked(&no_trouble), (false, true));
}

#[test]
fn who_waits_for_the_record_to_be_rebuilt_is_told_what_keeps_the_others() {
    let mut observed = running(1);
    observed.record = None;
    breaks(&mut observed, 2);
    let plan = plan_of(1, &observed);
    let ready = condition(&plan, "Ready");
    assert_eq!(ready.1, "RebuildingRecord");
    assert!(ready.2.contains(WHY), "{ready:?}");
    assert!(plan.steps.contains(&renew("m-2")));
}

/// A scale-down removes a broken instance first, whatever its number, and never the primary.
#[test]
fn who_is_broken_goes_first_then_whoever_does_not_count_then_the_highest_number() {
    let leave = |change: &dyn Fn(&mut Observed)| {
        let mut observed = running(3);
        change(&mut observed);
        let plan = plan_of(2, &observed);
        let kept = plan.swap.and_then(|swap| swap.record.newest_set().cloned());
        let kept = kept
            .expect("who leaves is taken out of the set first")
            .members;
        let all = [2, 3, 4].map(member);
        let gone = all.into_iter().filter(|m| !kept.contains(m));
        gone.map(|m| m.name).collect::<Vec<_>>()
    };
    assert_eq!(leave(&|_| ()), ["m-4"]);
    let breaks = |o: &mut Observed| {
        o.unstreamed_ms = BTreeMap::from([(member(2).id, MEMBER_LOST_MS)]);
        let engine = status(o, 1).engine.as_mut().expect("it runs");
        engine
            .standbys
            .retain(|s| s.instance_id != Some(member(2).id));
    };
    assert_eq!(leave(&breaks), ["m-2"]);
    // m-4 works and does not count yet: it stays where another one is broken.
    let joins = |o: &mut Observed| {
        breaks(o);
        record(o).in_sync = vec![set(1, &[2, 3], 1)];
    };
    let mut observed = running(3);
    joins(&mut observed);
    let leaving = crate::decide::standbys::leaving(
        &cluster(2, Durability::Quorum),
        &observed,
        observed.record.as_ref().expect("a record"),
    );
    assert_eq!(leaving, ["m-2"]);
    record(&mut observed).primary = Some(member(4));
    observed.unstreamed_ms.clear();
    let leaving = crate::decide::standbys::leaving(
        &cluster(2, Durability::Quorum),
        &observed,
        observed.record.as_ref().expect("a record"),
    );
    assert_eq!(
        leaving,
        ["m-1"],
        "the highest number is the primary's, and m-1 is not in the set"
    );
}

#[test]
fn a_record_is_rebuilt_from_instances_that_are_not_numbered_in_turn() {
    let without = |numbers: &[u32], standbys: u32, replicas: u32| {
        let mut observed = running(standbys);
        observed.record = None;
        for number in numbers {
            observed.instances.remove(&member(*number).name);
        }
        plan_of(replicas, &observed)
    };
    let plan = without(&[3], 3, 2);
    let record = plan.swap.expect("rebuilt").record;
    let members = record.in_sync[0].members.iter();
    let of: Vec<&str> = members.map(|member| member.name.as_str()).collect();
    assert_eq!(of, ["m-1", "m-2", "m-4"]);
    for (removed, standbys, replicas, said) in [
        (&[3][..], 2, 2, "found: m-1, m-2; missing: m-3,"),
        (&[2, 3][..], 3, 3, "found: m-1, m-4; missing: m-2, m-3,"),
    ] {
        let plan = without(removed, standbys, replicas);
        assert!(plan.swap.is_none() && plan.steps.is_empty());
        let (_, reason, why) = condition(&plan, "Ready");
        assert_eq!(reason, "VolumeMissing");
        assert!(why.contains(said), "{why}");
    }
}

/// Steps of one instance wait for each other: the first one would always be the other.
#[test]
fn who_is_made_anew_is_not_started_as_it_was() {
    let mut observed = running(2);
    breaks(&mut observed, 3);
    seen(&mut observed, 3).upkeep.trouble = None;
    let plan = plan_of(2, &observed);
    assert!(plan.steps.contains(&renew("m-3")) && !plan.steps.contains(&start("m-3")));
    let mut paused = cluster(2, Durability::Quorum);
    paused.paused = true;
    assert!(decide(&paused, &observed, NOW).steps.is_empty());
    // One that has to go is not repaired before.
    let mut asked = cluster(2, Durability::Quorum);
    asked.requests.replace_instance = Some("m-3".to_owned());
    record(&mut observed).in_sync = vec![set(1, &[2], 1)];
    breaks(&mut observed, 3);
    let plan = decide(&asked, &observed, NOW);
    let replace = Step::Replace {
        instance: "m-3".to_owned(),
    };
    assert!(plan.steps.contains(&replace) && !plan.steps.contains(&renew("m-3")));
}

/// What never came up stands in nobody's way. What a commit may be on leaves the in-sync set first, heard or not.
#[test]
fn who_is_one_too_many_goes_though_it_can_not_run() {
    let removes = |plan: &Plan, name: &str| {
        let step = Step::Remove {
            instance: name.to_owned(),
        };
        plan.steps.contains(&step)
    };
    let mut observed = running(2);
    let mut fourth = instance(4, engine(4, EngineRole::Standby, 500));
    fourth.status = None;
    observed.instances.insert("m-4".to_owned(), fourth);
    let plan = plan_of(2, &observed);
    assert!(!removes(&plan, "m-4"), "it may be about to speak");
    let fourth = seen(&mut observed, 4);
    fourth.upkeep.trouble = Some(WHY.to_owned());
    fourth.upkeep.trouble_ms = TROUBLE_MS;
    assert!(removes(&plan_of(2, &observed), "m-4"));
    observed.instances.remove("m-4");
    breaks(&mut observed, 3);
    seen(&mut observed, 3).upkeep.outdated = false;
    let plan = plan_of(1, &observed);
    assert!(!removes(&plan, "m-3"));
    let mut smaller = plan.swap.expect("the set changes").record;
    let set = smaller.in_sync.pop().expect("it is listed");
    assert_eq!(set.members, [member(2)]);
    smaller.in_sync = vec![set.clone()];
    let primary = status(&mut observed, 1).engine.as_mut().expect("it runs");
    primary.set = Some(EngineSet::from(&set));
    observed.record = Some(smaller);
    assert!(removes(&plan_of(1, &observed), "m-3"));
}
