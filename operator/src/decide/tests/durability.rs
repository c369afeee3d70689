//! `spec.durability` is changed while the cluster serves: what counted before counts until everything acknowledged under it
//! is held by the new rule.

use super::*;

const ALL: [Durability; 3] = [Durability::Quorum, Durability::Strict, Durability::Async];

/// What two standbys that stream make of it.
fn required(durability: Durability) -> u32 {
    match durability {
        Durability::Quorum => 1,
        Durability::Strict => 2,
        Durability::Async => 0,
    }
}

/// A primary and two standbys that have acted under `durability` for long.
fn settled(durability: Durability) -> Observed {
    let mut observed = running(2);
    let mut set = set(1, &[2, 3], required(durability));
    set.durability = durability;
    acts_under(&mut observed, &set, true);
    record(&mut observed).in_sync = vec![set];
    observed
}

fn acts_under(observed: &mut Observed, set: &InSyncSet, caught_up: bool) {
    let engine = status(observed, 1).engine.as_mut().expect("it runs");
    engine.set = Some(EngineSet::from(set));
    engine.set_caught_up = caught_up;
}

fn sets_of(plan: &Plan) -> Option<Vec<InSyncSet>> {
    plan.swap.as_ref().map(|swap| swap.record.in_sync.clone())
}

#[test]
fn each_change_lists_the_old_rule_until_the_new_one_holds_everything() {
    for (from, to) in ALL.iter().flat_map(|from| ALL.map(|to| (*from, to))) {
        let what = format!("{from:?} to {to:?}");
        let mut observed = settled(from);
        let wanted = cluster(2, to);
        let plan = decide(&wanted, &observed, NOW);
        if from == to {
            assert_eq!(sets_of(&plan), None, "{what}");
            continue;
        }
        let listed = sets_of(&plan).unwrap_or_else(|| panic!("{what}: no new set"));
        let [old, new] = listed.as_slice() else {
            panic!("{what}: {listed:?}");
        };
        assert_eq!(
            (old.durability, old.required),
            (from, required(from)),
            "{what}"
        );
        assert_eq!((new.durability, new.required), (to, required(to)), "{what}");
        assert!(new.version() > old.version(), "{what}");
        assert_eq!(new.members, [member(2), member(3)], "{what}");
        let new = new.clone();
        record(&mut observed).in_sync = listed;

        // Not before the primary goes by it, and has what it asks for.
        let told = |plan: &Plan| {
            plan.steps
                .iter()
                .any(|step| matches!(step, Step::Set { set, .. } if set.version() == new.version()))
        };
        let plan = decide(&wanted, &observed, NOW);
        assert!(
            sets_of(&plan).is_none() && told(&plan),
            "{what}: it is told"
        );
        acts_under(&mut observed, &new, false);
        assert_eq!(sets_of(&decide(&wanted, &observed, NOW)), None, "{what}");
        acts_under(&mut observed, &new, true);
        let plan = decide(&wanted, &observed, NOW);
        assert_eq!(sets_of(&plan), Some(vec![new.clone()]), "{what}");
        record(&mut observed).in_sync = vec![new];
        assert_eq!(sets_of(&decide(&wanted, &observed, NOW)), None, "{what}");
    }
}

/// The primary dies in the middle: commits may have been acknowledged under either rule.
#[test]
fn a_failover_in_the_middle_satisfies_both_rules() {
    // One standby answers: enough for strict, and not for what quorum acknowledged with the other one.
    for (from, to, is_enough) in [
        (Durability::Strict, Durability::Quorum, false),
        (Durability::Quorum, Durability::Strict, false),
        (Durability::Strict, Durability::Async, true),
        (Durability::Strict, Durability::Strict, true),
    ] {
        let mut observed = failing(2, 60_000);
        let with = |durability: Durability, counter: u64| InSyncSet {
            durability,
            counter,
            ..set(1, &[2, 3], required(durability))
        };
        record(&mut observed).in_sync = vec![with(from, 1), with(to, 2)];
        answered(&mut observed, 2, T3, 500);
        observed.instances.get_mut("m-3").expect("it exists").life = Life::Ended;
        let plan = decide(&cluster(2, to), &observed, NOW);
        assert_eq!(candidate(&plan).is_some(), is_enough, "{from:?} to {to:?}");
        if !is_enough {
            assert_eq!(reason(&plan), "FailoverBlocked", "{from:?} to {to:?}");
        }
    }
}

/// Nothing else would say that clients hang: the primary serves.
#[test]
fn strict_without_a_standby_says_that_commits_wait() {
    let degraded = |observed: &Observed| {
        let plan = decide(&cluster(2, Durability::Strict), observed, NOW);
        let mut conditions = plan.conditions.into_iter();
        let found = conditions.find(|c| c.type_ == "Degraded");
        let found = found.expect("it is always there");
        (found.reason, found.message)
    };
    let mut observed = settled(Durability::Strict);
    assert_eq!(degraded(&observed).0, "Healthy");
    // It is gone from the primary's list, and may be back in a moment.
    let engine = status(&mut observed, 1).engine.as_mut().expect("it runs");
    engine
        .standbys
        .retain(|s| s.instance_id != Some(member(3).id));
    assert_eq!(degraded(&observed).0, "InstancesNotReady");
    observed.unstreamed_ms = BTreeMap::from([(member(3).id, MEMBER_LOST_MS)]);
    let (reason, message) = degraded(&observed);
    assert_eq!(reason, "CommitsWait");
    for part in ["need 2", "1 stream", "m-3", "quorum"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // Half of them is enough for quorum: asked for that, they wait no more.
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    let sets = sets_of(&plan).expect("a new set, though the old one is not done with");
    let newest = sets.last().expect("it is listed");
    assert_eq!(
        (newest.durability, newest.required),
        (Durability::Quorum, 1)
    );
    record(&mut observed).in_sync = sets;
    let plan = decide(&cluster(2, Durability::Quorum), &observed, NOW);
    assert!(plan.conditions.iter().all(|c| c.reason != "CommitsWait"));
}
