//! What users take away by hand, under load: pods, StatefulSets (also by scaling them to nothing), Services, certificates,
//! the disruption budget. All of it is made again, instances come back with the copy and the volume that they had, and
//! writes go on.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use understudy_cluster::command::{run, wait_for};
use understudy_cluster::layout::DNS_ADDRESS;
use understudy_e2e::database::{Database, is_true, spec};
use understudy_e2e::ledger::{Ledger, Way, longest_pause};
use understudy_e2e::results::Line;
use understudy_e2e::round::{noted_ledger, settle};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge, no_write_failed};
use understudy_tests::local::now_ms;

/// How long something may be missing, on a machine that is busy: the operator compares everything once a second.
const SOON: Duration = Duration::from_secs(60);
/// What is made up for a cluster and is nobody's to know: the next one is as good.
const CERTIFICATES: [&str; 3] = ["orders-server", "orders-client", "orders-operator"];

/// An object's unique id; none while there is no object of this name.
fn uid(space: &Space, kind: &str, name: &str) -> Option<String> {
    let found = space.try_get(&[kind, name]).ok()?;
    found["metadata"]["uid"].as_str().map(str::to_owned)
}

#[track_caller]
fn there(space: &Space, kind: &str, name: &str) -> String {
    uid(space, kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// Takes an object away and waits until another one is in its place; seconds.
#[track_caller]
fn remade(space: &Space, kind: &str, name: &str) -> f64 {
    let before = there(space, kind, name);
    let begin = Instant::now();
    space.kubectl(&["delete", kind, name, "--timeout=180s"]);
    let is_another = || {
        let now = uid(space, kind, name);
        Ok(now.is_some_and(|now| now != before).then_some(()))
    };
    wait_for(&format!("another {kind} {name}"), SOON, is_another)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let took = begin.elapsed().as_secs_f64();
    println!("{kind} {name}: made again {took:.1} s after it was deleted");
    took
}

/// Waits until the pod of this name is another one and ready.
#[track_caller]
fn came_back(space: &Space, pod: &str, before: &str) {
    let is_back = || {
        let found = space.try_get(&["pod", pod]).unwrap_or(Value::Null);
        let is_another = found["metadata"]["uid"].as_str() != Some(before);
        Ok((is_another && is_true(&found["status"], "Ready")).then_some(()))
    };
    wait_for(&format!("{pod} to be back"), LIMIT, is_back)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// What an instance has: the id of its copy, and the volume that the copy is on.
#[track_caller]
fn holds(database: &Database<'_>, instance: &str) -> (String, String) {
    let status = database.status();
    let mut all = status["instances"].as_array().into_iter().flatten();
    let found = all.find(|i| i["name"] == instance);
    let id = found.and_then(|i| i["id"].as_str()).map(str::to_owned);
    let id = id.unwrap_or_else(|| panic!("{instance} has no copy: {status:#}"));
    (id, database.volume(instance))
}

/// It has the same copy on the same volume, and nobody was told to make another.
#[track_caller]
fn has_what_it_had(database: &Database<'_>, instance: &str, had: &(String, String), since_ms: u64) {
    assert_eq!(holds(database, instance), *had, "{instance}: not the same");
    let events = database.events(since_ms);
    let mut events = events.unwrap_or_else(|error| panic!("{error:#}"));
    events.retain(|event| ["Seeding", "Reseeding"].contains(&event.reason.as_str()));
    assert!(events.is_empty(), "somebody was seeded: {events:#?}");
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_whose_pod_is_deleted_comes_back_with_what_it_had() {
    let space = Space::share("standby-deleted");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let (primary, term) = (database.primary(), database.term());
    let standby = database.standbys()[0].clone();
    let (had, pod) = (holds(&database, &standby), format!("{standby}-0"));
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let (begin_ms, before) = (now_ms(), there(&space, "pod", &pod));
    remade(&space, "pod", &pod);
    came_back(&space, &pod, &before);
    settle(&database, &ledger, writers, ("", 1), begin_ms);
    no_write_failed(&ledger, begin_ms);
    has_what_it_had(&database, &standby, &had, begin_ms);
    assert_eq!(
        (database.primary(), database.term()),
        (primary, term),
        "the role has moved"
    );
}

/// Kubernetes takes the pod along. That of the primary hands its role over first, as for any other end.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instance_whose_statefulset_is_deleted_is_made_again_on_its_volume() {
    let space = Space::share("statefulset-deleted");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    for (round, variant) in (1..).zip(["a standby's", "the primary's"]) {
        let (primary, term) = (database.primary(), database.term());
        let is_standby = variant == "a standby's";
        let instance = if is_standby {
            database.standbys()[0].clone()
        } else {
            primary.clone()
        };
        let (had, pod) = (holds(&database, &instance), format!("{instance}-0"));
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        let (begin_ms, before) = (now_ms(), there(&space, "pod", &pod));
        remade(&space, "statefulset", &instance);
        came_back(&space, &pod, &before);
        database.wait_event("InstanceStarted", begin_ms);
        settle(&database, &ledger, writers, (variant, round), begin_ms);
        if is_standby {
            no_write_failed(&ledger, begin_ms);
            has_what_it_had(&database, &instance, &had, begin_ms);
            let now = (database.primary(), database.term());
            assert_eq!(now, (primary, term), "the role has moved");
        } else {
            assert_eq!(database.volume(&instance), had.1, "another volume");
            assert_ne!(database.primary(), instance, "it was not handed over");
        }
    }
}

/// As whoever means to stop everything in a namespace does it. That of the primary hands its role over first.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instance_whose_statefulset_is_scaled_to_nothing_is_started_again() {
    let space = Space::share("statefulset-scaled");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    for (round, variant) in (1..).zip(["a standby's", "the primary's"]) {
        let (primary, term) = (database.primary(), database.term());
        let is_standby = variant == "a standby's";
        let instance = if is_standby {
            database.standbys()[0].clone()
        } else {
            primary.clone()
        };
        let (had, pod) = (holds(&database, &instance), format!("{instance}-0"));
        let set = there(&space, "statefulset", &instance);
        let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
        let (begin_ms, before) = (now_ms(), there(&space, "pod", &pod));
        space.kubectl(&["scale", "statefulset", &instance, "--replicas=0"]);
        came_back(&space, &pod, &before);
        database.wait_told("InstanceStarted", &instance, begin_ms);
        settle(&database, &ledger, writers, (variant, round), begin_ms);
        assert_eq!(
            there(&space, "statefulset", &instance),
            set,
            "it was made anew"
        );
        if is_standby {
            no_write_failed(&ledger, begin_ms);
            has_what_it_had(&database, &instance, &had, begin_ms);
            let now = (database.primary(), database.term());
            assert_eq!(now, (primary, term), "the role has moved");
        } else {
            assert_eq!(database.volume(&instance), had.1, "another volume");
            assert_ne!(database.primary(), instance, "it was not handed over");
        }
    }
}

/// Waits until sessions are let in that are opened now.
#[track_caller]
fn new_sessions_get_in(ledger: &Ledger) {
    let since_ms = now_ms();
    let get_in = || {
        let rows = ledger.count(since_ms, |way| *way == Way::Fresh);
        Ok((rows >= 5).then_some(()))
    };
    wait_for("rows of new sessions", LIMIT, get_in).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Waits until whoever looks a Service up is told this address.
#[track_caller]
fn is_found(space: &Space, service: &str, address: IpAddr) {
    let host = format!("{service}.{}.svc.cluster.local", space.name);
    let address = address.to_string();
    let is_told = || {
        let mut ask = space
            .cluster
            .in_network_of(space.cluster.nodes()[0], "busybox");
        ask.args(["nslookup", host.as_str()]);
        let said = run(ask.arg(DNS_ADDRESS.to_string())).unwrap_or_default();
        let mut words = said.split_whitespace();
        Ok(words.any(|word| word == address).then_some(()))
    };
    wait_for(&format!("{host} to be {address}"), LIMIT, is_told)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// What no client's way leads through.
fn beside_the_way(space: &Space, ledger: &Ledger, writers: &Writers, mut line: Line) -> Line {
    let budget = [("poddisruptionbudget", "orders-instances")];
    let secrets = CERTIFICATES.map(|name| ("secret", name));
    for (kind, name) in budget.into_iter().chain(secrets) {
        let since_ms = now_ms();
        let took = remade(space, kind, name);
        writers.wait_for(20);
        new_sessions_get_in(ledger);
        no_write_failed(ledger, since_ms);
        line = line.seconds(&format!("{kind} {name}"), took);
    }
    line
}

/// New sessions are refused until it is there again.
fn where_the_service_leads(space: &Space, ledger: &Ledger, line: Line) -> Line {
    let since_ms = now_ms();
    let took = remade(space, "endpointslice", "orders-primary");
    new_sessions_get_in(ledger);
    let is_new = |way: &Way| *way == Way::Fresh;
    let pause = longest_pause(&ledger.rows(), (since_ms, now_ms()), is_new);
    line.seconds("endpointslice orders-primary", took).seconds(
        "longest pause of new sessions without it",
        pause as f64 / 1000.0,
    )
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn what_is_deleted_by_hand_is_made_again_and_writes_go_on() {
    let space = Space::share("objects-deleted");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let (primary, term) = (database.primary(), database.term());
    let before = database.generations();
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let begin_ms = now_ms();
    let line = Line::new(&space.settings, &space.test, "", 1);
    let line = beside_the_way(&space, &ledger, &writers, line);
    let line = where_the_service_leads(&space, &ledger, line);
    let old = database.service("primary").ip();
    let took = remade(&space, "service", "orders-primary");
    let new = database.service("primary").ip();
    println!("the write Service had {old} and has {new}");
    // Clients that look the name up again; those that were there before may have an address that leads nowhere.
    is_found(&space, "orders-primary", new);
    let own = Way::Own(primary.as_str().into());
    let pause = longest_pause(&ledger.rows(), (begin_ms, now_ms()), |way| *way == own);
    let mut failed = ledger.failures(begin_ms);
    failed.retain(|failed| failed.way == own);
    assert!(failed.is_empty(), "{primary} refused writes: {failed:#?}");
    writers.finish();
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    new_sessions_get_in(&ledger);
    writers.finish();
    database.full_strength();
    let rows = judge(&database, &ledger);
    let line = line
        .seconds("service orders-primary", took)
        .seconds("longest pause of the primary", pause as f64 / 1000.0)
        .count("acknowledged", rows)
        .count("missing", 0);
    space.keep(&line);
    assert_eq!(
        (database.primary(), database.term()),
        (primary, term),
        "the role has moved"
    );
    assert_eq!(database.generations(), before, "an instance was touched");
}
