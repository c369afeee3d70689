//! Changes on purpose, under load: nodes drained one after the other, parameters, resources and images rolled out. Writes
//! pause for a moment at each switchover, and nothing is lost. The role is handed over each time, never taken over; what is
//! rolled out goes to the standbys first, and to one instance at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::Node;
use understudy_e2e::database::{Database, settled, spec};
use understudy_e2e::round::{leader_is_on, noted_ledger, place, settle, spread_out};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers};
use understudy_tests::local::now_ms;

/// Between two questions that cost the machine something while a pause is measured.
const PAUSE: Duration = Duration::from_secs(1);
/// A pod's time of creation is told by the second.
const SECOND_MS: u64 = 1_000;

#[track_caller]
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LIMIT, "{what}: has not come");
        std::thread::sleep(PAUSE);
    }
}

fn drain(space: &Space, node: Node) {
    let name = node.name();
    let begin = Instant::now();
    let arguments = ["drain", name.as_str(), "--ignore-daemonsets"];
    let more = ["--delete-emptydir-data", "--timeout=180s"];
    let said = space.cluster.kubectl(&[&arguments[..], &more].concat());
    said.unwrap_or_else(|error| panic!("the drain of {node} does not end: {error:#}"));
    println!(
        "{node} was drained in {:.1} s",
        begin.elapsed().as_secs_f64()
    );
}

/// `cordon` or `uncordon`.
fn mark(space: &Space, node: Node, how: &str) {
    let said = space.cluster.kubectl(&[how, &node.name()]);
    said.unwrap_or_else(|error| panic!("{error:#}"));
}

fn uncordon(space: &Space, node: Node) {
    mark(space, node, "uncordon");
    // The pod on this node is there again before anybody calls this full strength.
    std::thread::sleep(Duration::from_secs(3));
}

/// Since that moment the role has gone from one instance to another because it was handed over, and nobody has taken it over.
#[track_caller]
fn handed_over(database: &Database<'_>, since_ms: u64) {
    database.wait_event("SwitchoverCompleted", since_ms);
    let events = database.events(since_ms);
    let mut events = events.unwrap_or_else(|error| panic!("{error:#}"));
    events.retain(|event| event.reason == "FailoverStarted");
    assert!(
        events.is_empty(),
        "BROKEN PROMISE: the role was taken over: {events:#?}"
    );
    let last = database.status()["lastFailover"].clone();
    assert!(
        last["detectedAt"].as_u64() < Some(since_ms),
        "BROKEN PROMISE: the role was taken over: {last:#}"
    );
}

/// The first state, of those that a rollout went through, in which two instances are away at once. While the role moves
/// nobody is primary, and whoever waits for that is not ready: until no more than one is missing again it only counts who
/// is gone.
fn first_of_two_away(states: impl IntoIterator<Item = Value>, all: u64) -> Option<Value> {
    let mut is_moving = false;
    states.into_iter().find(|status| {
        let mut instances = status["instances"].as_array().into_iter().flatten();
        let is_gone = instances.any(|i| i["role"] == "Lost");
        let ready = status["readyInstances"].as_u64().unwrap_or_default();
        let two = ready + 1 < all;
        is_moving = status["phase"] != "Running" || (is_moving && two);
        two && (is_gone || !is_moving)
    })
}

/// Since that moment never more than one instance was away, by every state that the record went through.
#[track_caller]
fn one_at_a_time(database: &Database<'_>, since_ms: u64) {
    let seen = database.history.since(since_ms).into_iter();
    let states = seen.map(|state| state.object["status"].clone());
    let two = first_of_two_away(states, 3);
    assert_eq!(
        two,
        None,
        "BROKEN PROMISE: two instances were away at once\n{}",
        database.history.shown()
    );
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn each_node_is_drained_in_turn_under_load() {
    let space = Space::share("drains");
    let database = Database::create(&space, "orders", &spec(2));
    spread_out(&database);
    let ledger = noted_ledger(&space);
    let nodes = space.cluster.nodes().to_vec();
    for (round, node) in (1..).zip(nodes) {
        let had_primary = database.instance(&database.primary()).node == node;
        // An old primary that acknowledges late does so to those who talk to it itself.
        let who = if had_primary {
            Who::Everybody
        } else {
            Who::ServiceOnly
        };
        let writers = Writers::start(&database, &ledger, who);
        let begin_ms = now_ms();
        drain(&space, node);
        writers.wait_for(20);
        uncordon(&space, node);
        let variant = if had_primary {
            "with the primary"
        } else {
            "with a standby"
        };
        settle(&database, &ledger, writers, (variant, round), begin_ms);
        if had_primary {
            handed_over(&database, begin_ms);
        }
        assert_ne!(
            had_primary.then(|| database.instance(&database.primary()).node),
            Some(node),
            "the role was not handed over"
        );
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_node_of_the_primary_and_of_the_operators_leader_is_drained() {
    let space = Space::share("drain-of-both");
    let database = Database::create(&space, "orders", &spec(2));
    spread_out(&database);
    let ledger = noted_ledger(&space);
    for round in 1..=space.settings.rounds(1, 3) {
        place(&database, true);
        database.full_strength();
        let node = database.instance(&database.primary()).node;
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        assert!(leader_is_on(&database, node), "the leader has moved");
        let begin_ms = now_ms();
        drain(&space, node);
        writers.wait_for(20);
        assert!(!leader_is_on(&database, node), "its pod is there yet");
        uncordon(&space, node);
        settle(&database, &ledger, writers, ("", round), begin_ms);
        handed_over(&database, begin_ms);
        assert_ne!(database.instance(&database.primary()).node, node);
    }
}

/// As a drain does it, but nobody is asked for leave: the pod is told to end when the cordon has only just been seen.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_primary_that_is_deleted_on_a_cordoned_node_hands_its_role_over() {
    let space = Space::share("cordoned-and-deleted");
    let database = Database::create(&space, "orders", &spec(2));
    spread_out(&database);
    let ledger = noted_ledger(&space);
    for round in 1..=space.settings.rounds(1, 3) {
        let primary = database.instance(&database.primary());
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        let begin_ms = now_ms();
        mark(&space, primary.node, "cordon");
        space.kubectl(&["delete", "pod", primary.pod.as_str(), "--timeout=180s"]);
        writers.wait_for(20);
        uncordon(&space, primary.node);
        settle(&database, &ledger, writers, ("", round), begin_ms);
        handed_over(&database, begin_ms);
        assert_ne!(
            database.primary(),
            primary.name,
            "the role was not handed over"
        );
    }
}

/// Asks for a switchover until the role is on its way, and gives the status as it is then.
fn begin_switch(database: &Database<'_>, instance: &str) -> Value {
    let (term, begin) = (database.term(), Instant::now());
    loop {
        database.ask_for("switchover-to", instance);
        let asked = Instant::now();
        // A request may be refused; then it is asked for again.
        while asked.elapsed() < Duration::from_secs(10) {
            let status = database.status();
            if status["term"].as_u64() > Some(term) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(begin.elapsed() < LIMIT, "no switchover to {instance}");
    }
}

/// From the node that is drained, or to it: then it has to go on from there.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_drain_that_begins_while_the_role_is_moving_ends_with_the_role_elsewhere() {
    let space = Space::share("drain-of-a-moving-role");
    let database = Database::create(&space, "orders", &spec(2));
    spread_out(&database);
    let ledger = noted_ledger(&space);
    for round in 1..=space.settings.rounds(1, 3) {
        for variant in ["from the node", "to the node"] {
            let old = database.instance(&database.primary());
            let new = database.instance(&database.standbys()[0]);
            let node = if variant == "to the node" {
                new.node
            } else {
                old.node
            };
            let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
            let begin_ms = now_ms();
            let status = begin_switch(&database, &new.name);
            let phase = &status["phase"];
            println!(
                "the role moves {variant} {node}, which is drained while the record says {phase}"
            );
            drain(&space, node);
            writers.wait_for(20);
            uncordon(&space, node);
            settle(&database, &ledger, writers, (variant, round), begin_ms);
            handed_over(&database, begin_ms);
            let now = database.instance(&database.primary());
            assert_ne!(now.node, node, "the role is on the node that was drained");
        }
    }
}

/// The unique ids of the pods, by their names.
fn uids(space: &Space) -> BTreeMap<String, String> {
    let list = space.get(&["pods", "-l", "understudy.dev/cluster=orders"]);
    let items = list["items"].as_array().expect("a list");
    let text = |pod: &Value, key: &str| pod["metadata"][key].as_str().unwrap_or("").to_owned();
    items
        .iter()
        .map(|pod| (text(pod, "name"), text(pod, "uid")))
        .collect()
}

/// What every instance says of a setting; an instance that does not answer says nothing.
fn shown(database: &Database<'_>, setting: &str) -> Vec<String> {
    let names = database.try_instances().unwrap_or_default();
    names
        .iter()
        .map(|instance| {
            let said = database.sql_in(&instance.name, &format!("SHOW {setting}"));
            said.unwrap_or_default().trim().to_owned()
        })
        .collect()
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_setting_that_needs_no_restart_is_reloaded() {
    let space = Space::share("reload");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let (term, pods) = (database.term(), uids(&space));
    let engines: Vec<i32> = database
        .instances()
        .iter()
        .map(|instance| database.engine(&instance.name))
        .collect();
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let begin_ms = now_ms();
    database.patch_spec(&json!({"parameters": {"log_min_duration_statement": "4321"}}));
    eventually("every instance has read it", || {
        let said = shown(&database, "log_min_duration_statement");
        said.len() == 3 && said.iter().all(|value| value == "4321ms")
    });
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    let after: Vec<i32> = database
        .instances()
        .iter()
        .map(|instance| database.engine(&instance.name))
        .collect();
    assert_eq!(engines, after, "BROKEN PROMISE: an engine was restarted");
    assert_eq!(
        (database.term(), uids(&space)),
        (term, pods),
        "BROKEN PROMISE: the role has moved, or a pod"
    );
}

/// Waits until every instance shows this value, the former primary none before the others do. That one is asked first: what
/// it has by then the others had before.
#[track_caller]
fn comes_to_the_primary_last(
    database: &Database<'_>,
    primary: &str,
    (setting, value): (&str, &str),
) {
    eventually("every instance has it", || {
        let of = |name: &str| {
            let said = database.sql_in(name, &format!("SHOW {setting}"));
            said.unwrap_or_default().trim().to_owned()
        };
        let has_it = of(primary) == value;
        let all = database.try_instances().unwrap_or_default();
        let others = all.iter().filter(|instance| instance.name != primary);
        let said: Vec<String> = others.map(|instance| of(&instance.name)).collect();
        // One that does not answer now may have had it.
        let is_old = |said: &String| !said.is_empty() && said != value;
        assert!(
            !(has_it && said.iter().any(is_old)),
            "BROKEN PROMISE: {primary}, the primary, has it before the others: {said:?}"
        );
        has_it && said.len() == 2 && said.iter().all(|said| said == value)
    });
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_setting_that_needs_a_restart_is_rolled_out_standbys_first() {
    let space = Space::share("restart");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let current = database.value("SHOW max_connections");
    let values = ["150", "160", "170", "180"];
    let values = values.into_iter().filter(|value| *value != current);
    for (round, value) in (1..=space.settings.rounds(1, 3)).zip(values) {
        let (primary, pods) = (database.primary(), uids(&space));
        let writers = Writers::start(&database, &ledger, Who::Everybody);
        let begin_ms = now_ms();
        database.patch_spec(&json!({"parameters": {"max_connections": value}}));
        comes_to_the_primary_last(&database, &primary, ("max_connections", value));
        settle(&database, &ledger, writers, ("", round), begin_ms);
        handed_over(&database, begin_ms);
        one_at_a_time(&database, begin_ms);
        assert_ne!(database.primary(), primary, "the former primary came last");
        assert_eq!(
            uids(&space),
            pods,
            "BROKEN PROMISE: a pod was made anew for what is done in place"
        );
    }
}

/// The former primary's pod was made anew when its role had been handed over, and all others before that began.
#[track_caller]
fn came_last(database: &Database<'_>, primary: &str, since_ms: u64) {
    let list = database
        .space
        .get(&["pods", "-l", "understudy.dev/cluster=orders"]);
    let items = list["items"].as_array().into_iter().flatten();
    let made = items.filter_map(|pod| {
        let metadata = &pod["metadata"];
        let at: jiff::Timestamp = metadata["creationTimestamp"].as_str()?.parse().ok()?;
        let at_ms = u64::try_from(at.as_millisecond()).ok()?;
        Some((metadata["name"].as_str()?.to_owned(), at_ms))
    });
    let mut made: BTreeMap<String, u64> = made.collect();
    let started = database.wait_event("SwitchoverStarted", since_ms).at_ms;
    let completed = database.wait_event("SwitchoverCompleted", since_ms).at_ms;
    println!("pods by when they were made: {made:?}; the role moved from {started} to {completed}");
    let last = made.remove(&format!("{primary}-0"));
    // The second in which it was made may have begun before.
    assert!(
        last.is_some_and(|at| at + SECOND_MS > completed),
        "BROKEN PROMISE: {primary} was made anew at {last:?}, with the role at {completed} yet"
    );
    assert!(
        made.len() == 2 && made.values().all(|at| *at <= started),
        "BROKEN PROMISE: the role moved at {started}, before standbys were made anew: {made:?}"
    );
}

/// Everything of the StatefulSets is new, one pod after the other.
fn rolled(space: &Space, database: &Database<'_>, before: &BTreeMap<String, String>) {
    eventually("every pod is a new one", || {
        let now = uids(space);
        now.len() == before.len() && now.iter().all(|(name, uid)| before.get(name) != Some(uid))
    });
    settled(database).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn resources_are_rolled_out_standbys_first() {
    let space = Space::share("resources");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let (primary, before) = (database.primary(), uids(&space));
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let begin_ms = now_ms();
    // The database may have been through this already.
    let current = database.object()["spec"]["resources"]["requests"]["cpu"].clone();
    let cpu = if current == "20m" { "30m" } else { "20m" };
    database.patch_spec(&json!({"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}));
    rolled(&space, &database, &before);
    came_last(&database, &primary, begin_ms);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    handed_over(&database, begin_ms);
    one_at_a_time(&database, begin_ms);
    assert_ne!(database.primary(), primary, "the role was not handed over");
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_image_is_rolled_out_and_back_under_load() {
    let space = Space::share("image");
    // Another build where there is one, else the same by another name.
    let other = space.settings.newer_image.clone();
    let next = other.or_else(|| space.settings.next_image.clone());
    let next =
        next.expect("UNDERSTUDY_E2E_NEXT_IMAGE names no second image: `scripts/e2e.sh` does");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let first = space.settings.image.clone();
    for (round, image) in (1..).zip([next, first]) {
        let (primary, before) = (database.primary(), uids(&space));
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        let begin_ms = now_ms();
        database.patch_spec(&json!({"image": image}));
        rolled(&space, &database, &before);
        came_last(&database, &primary, begin_ms);
        let list = space.get(&["pods", "-l", "understudy.dev/cluster=orders"]);
        let items = list["items"].as_array().expect("a list");
        assert!(
            items
                .iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == image.as_str()),
            "not all pods run {image}"
        );
        settle(&database, &ledger, writers, (&image, round), begin_ms);
        handed_over(&database, begin_ms);
        one_at_a_time(&database, begin_ms);
    }
}

#[test]
fn two_instances_that_are_away_at_once_are_found_but_for_the_moment_of_the_switchover() {
    let state = |phase: &str, ready: u64, roles: &[&str]| {
        let instances = roles.iter().map(|role| json!({"role": role}));
        let instances = instances.collect::<Vec<_>>();
        json!({"phase": phase, "readyInstances": ready, "instances": instances})
    };
    let calm = state("Running", 3, &["Primary", "Standby", "Standby"]);
    let one = state("Running", 2, &["Primary", "Standby", "Lost"]);
    let moving = state("SwitchingOver", 0, &["Starting", "Sealed", "Sealed"]);
    let moved = state("Running", 1, &["Starting", "Primary", "Standby"]);
    let rollout = [&calm, &one, &calm, &moving, &moved, &one, &calm];
    let found = |states: &[&Value]| first_of_two_away(states.iter().map(|s| (*s).clone()), 3);
    assert_eq!(found(&rollout), None);
    // The next one goes before the one before it is back.
    let two = state("Running", 1, &["Primary", "Starting", "Standby"]);
    assert_eq!(found(&[&calm, &one, &two, &calm]), Some(two.clone()));
    assert_eq!(found(&[&moving, &moved, &one, &two]), Some(two));
    // The former primary's pod is gone before anybody follows the new one.
    let gone = state("Running", 1, &["Lost", "Primary", "Standby"]);
    assert_eq!(found(&[&moving, &moved, &gone]), Some(gone));
}
