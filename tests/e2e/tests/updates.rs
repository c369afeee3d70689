//! Changes on purpose, under load: nodes drained one after the other, parameters, resources and images rolled out. Writes
//! pause for a moment at each switchover, and nothing is lost.

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
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
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
    assert_eq!(engines, after, "an engine was restarted");
    assert_eq!((database.term(), uids(&space)), (term, pods));
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
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        let begin_ms = now_ms();
        database.patch_spec(&json!({"parameters": {"max_connections": value}}));
        eventually("every instance has it", || {
            let said = shown(&database, "max_connections");
            said.len() == 3 && said.iter().all(|shown| shown == value)
        });
        settle(&database, &ledger, writers, ("", round), begin_ms);
        assert_ne!(database.primary(), primary, "the former primary came last");
        assert_eq!(uids(&space), pods, "in place: no pod was made anew");
    }
}

/// The former primary's pod is none older than any other.
#[track_caller]
fn came_last(space: &Space, primary: &str) {
    let list = space.get(&["pods", "-l", "understudy.dev/cluster=orders"]);
    let items = list["items"].as_array().into_iter().flatten();
    // By the second, as text that sorts like the time itself.
    let made: BTreeMap<&str, &str> = items
        .filter_map(|pod| {
            let metadata = &pod["metadata"];
            let name = metadata["name"].as_str()?;
            Some((name, metadata["creationTimestamp"].as_str()?))
        })
        .collect();
    let pod = format!("{primary}-0");
    let at = made.get(pod.as_str());
    assert!(
        at.is_some() && made.values().all(|other| Some(other) <= at),
        "{pod} was not the last: {made:#?}"
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
    came_last(&space, &primary);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
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
        came_last(&space, &primary);
        let list = space.get(&["pods", "-l", "understudy.dev/cluster=orders"]);
        let items = list["items"].as_array().expect("a list");
        assert!(
            items
                .iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == image.as_str()),
            "not all pods run {image}"
        );
        settle(&database, &ledger, writers, (&image, round), begin_ms);
    }
}
