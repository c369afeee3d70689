//! Fields of the manifest, each seen in what it does: where pods run and what they carry, how Services look, who may log in
//! with which password, what a commit waits for, when an instance counts as lost, how long a crashed engine is waited for, when
//! a standby is seeded anew. And the events by which a user learns of each act.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_cluster::{Node, continue_process, stop_process};
use understudy_e2e::database::{Database, is_true, says, settled, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::heal::TAINT;
use understudy_e2e::round::await_failover;
use understudy_e2e::session::{Access, Answer, Session, secret_text};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_tests::local::now_ms;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// After something happened to an instance, until what the status says is of the time since.
const SETTLE: Duration = Duration::from_secs(3);
/// A time that no test lasts, milliseconds.
const NEVER_MS: u32 = 600_000;
/// Longer than the times by which an instance counts as lost where the manifest does not say otherwise.
const LONGER: Duration = Duration::from_secs(15);
/// And than the time after which a standby is seeded anew that does not stream.
const MUCH_LONGER: Duration = Duration::from_secs(75);
/// So many rows take an engine longer to recover than a test to find its process.
const MUCH: u32 = 200_000;
/// The role by which instances stream.
const STREAMS: &str = "understudy_replication";

/// What belongs to the whole cluster is as it was when this is dropped.
struct Undo<'a> {
    space: &'a Space,
    commands: Vec<Vec<String>>,
}

impl<'a> Undo<'a> {
    fn new(space: &'a Space) -> Undo<'a> {
        Undo {
            space,
            commands: Vec::new(),
        }
    }

    /// One kubectl, and another that undoes it.
    #[track_caller]
    fn change(&mut self, arguments: &[&str], undo: &[&str]) {
        let words = undo.iter().map(|word| (*word).to_owned());
        self.commands.push(words.collect());
        let done = self.space.cluster.kubectl(arguments);
        done.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for command in self.commands.iter().rev() {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            if let Err(error) = self.space.cluster.kubectl(&words) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// What a statement comes to, in a session of its own: the first value, or why there is none.
fn asked(access: &Access, to: SocketAddr, sql: &str) -> String {
    match Session::open(access, to, ANSWER).and_then(|mut session| session.query(sql)) {
        Ok(Answer {
            error: Some(failure),
            ..
        }) => failure.to_string(),
        Ok(Answer { rows, .. }) => {
            let value = rows.first().and_then(|row| row.first()).cloned().flatten();
            value.unwrap_or_else(|| "no value".to_owned())
        }
        Err(error) => error.to_string(),
    }
}

/// Waits until a statement comes to this. It may be run more than once.
#[track_caller]
fn comes_to(access: &Access, to: SocketAddr, sql: &str, wanted: &str) {
    let begin = Instant::now();
    loop {
        let said = asked(access, to, sql);
        if said == wanted {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "{sql}: {said}, not {wanted}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

const OWNER_SECRET: &str = "word-of-the-owner";
const OWNER_WORD: &str = "the owner's word";
const SUPERUSER_SECRET: &str = "word-of-the-superuser";
const SUPERUSER_WORD: &str = "the superuser's word";
const GUEST_WORD: &str = "a guest's word";
const PRIORITY_CLASS: &str = "e2e-fields";
const PRIORITY: i32 = 1_000;

/// A manifest with all that shows in one pod, in the Services and in a new database. Only this node is good enough, which
/// has a taint.
fn everything(space: &Space, node: Node) -> Value {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]});
    json!({
        "replicas": 0, "storage": {"size": "1Gi"},
        "image": space.settings.image, "imagePullPolicy": "Never", "imagePullSecrets": [{"name": "registry"}],
        "bootstrap": {
            "database": "postgres", "owner": "keeper",
            "ownerSecret": OWNER_SECRET, "superuserSecret": SUPERUSER_SECRET,
            "sql": [
                "CREATE TABLE begun (n integer); GRANT SELECT ON begun TO keeper",
                format!("CREATE ROLE guest LOGIN PASSWORD '{}'", GUEST_WORD.replace('\'', "''")),
                "INSERT INTO begun VALUES (7)",
            ],
        },
        "pgHba": ["hostssl all guest all reject"],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [here]}],
        }}},
        "tolerations": [{"key": TAINT, "operator": "Equal", "value": "fields", "effect": "NoSchedule"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": PRIORITY_CLASS,
        "serviceTemplate": {"type": "NodePort", "annotations": {"e2e/scheme": "internal"}},
        "podMetadata": {"labels": {"e2e/team": "orders"}, "annotations": {"e2e/note": "kept"}},
        "env": [
            {"name": "E2E_WORD", "value": "here"},
            {"name": "E2E_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    })
}

/// A password as people write it into a file: with a line's end.
fn password(name: &str, word: &str) -> String {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"password": format!("{word}\n")},
    });
    secret.to_string()
}

fn registry() -> String {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    secret.to_string()
}

/// It runs where nothing else may, and nowhere else.
fn the_pod_is_as_wanted(database: &Database<'_>, node: Node) {
    let space = database.space;
    let pod = space.get(&["pod", "orders-1-0"]);
    let spec = &pod["spec"];
    assert_eq!(spec["nodeName"], node.name(), "{spec:#}");
    assert_eq!(spec["priority"], PRIORITY, "its class's");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Never");
    assert_eq!(container["image"], space.settings.image);
    let by_label = ["get", "pods", "-l", "e2e/team=orders", "-o", "name"];
    assert_eq!(space.kubectl(&by_label).trim(), "pod/orders-1-0");
    assert_eq!(pod["metadata"]["annotations"]["e2e/note"], "kept");
    let engine = database.engine("orders-1");
    let environment = std::fs::read(format!("/proc/{engine}/environ"));
    let environment = environment.expect("a process that runs has one");
    for wanted in ["E2E_WORD=here".to_owned(), format!("E2E_NODE={node}")] {
        let mut all = environment.split(|byte| *byte == 0);
        let has = all.any(|entry| entry == wanted.as_bytes());
        assert!(has, "{wanted}: {}", String::from_utf8_lossy(&environment));
    }
}

/// The database is one that was there before anybody asked for it; the owner owns it all the same.
fn who_was_named_gets_in(database: &Database<'_>) {
    let (access, to) = (database.access(), database.service("primary"));
    let told = (access.user.as_str(), access.database.as_str());
    assert_eq!(told, ("keeper", "postgres"));
    assert_eq!(access.password, OWNER_WORD, "without the line's end");
    comes_to(&access, to, "SELECT n FROM begun", "7");
    let owns = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()";
    comes_to(&access, to, owns, "keeper");
    let makes = "CREATE TABLE IF NOT EXISTS own (n integer); \
                 SELECT tableowner FROM pg_tables WHERE tablename = 'own'";
    comes_to(&access, to, makes, "keeper");
    let named = |user: &str, word: &str| {
        let mut other = access.clone();
        user.clone_into(&mut other.user);
        word.clone_into(&mut other.password);
        other
    };
    let superuser = named("postgres", SUPERUSER_WORD);
    let is_one = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    comes_to(&superuser, to, is_one, "t");
    let made = database.space.try_get(&["secret", "orders-superuser"]);
    assert!(made.is_err(), "a Secret that nobody needs: {made:?}");
    for (who, word, why) in [
        ("guest", GUEST_WORD, "pg_hba.conf rejects"),
        ("postgres", OWNER_WORD, "password authentication failed"),
    ] {
        let said = asked(&named(who, word), to, "SELECT 1");
        assert!(said.contains(why), "{who}: {said}");
    }
}

/// From outside, by a node that the pod is not on; then from inside only, and no instance is touched for that.
fn services_are_as_wanted(database: &Database<'_>, elsewhere: Node) {
    let space = database.space;
    let of = |which: &str| space.get(&["service", &format!("orders-{which}")]);
    let all = ["primary", "standby", "any"];
    for which in all {
        let service = of(which);
        assert_eq!(service["spec"]["type"], "NodePort", "{which}");
        let annotations = &service["metadata"]["annotations"];
        assert_eq!(annotations["e2e/scheme"], "internal", "{which}");
    }
    let port = of("primary")["spec"]["ports"][0]["nodePort"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok());
    let port = port.expect("a Service of this type has one");
    let outside = SocketAddr::new(IpAddr::from(elsewhere.address()), port);
    let access = database.access();
    comes_to(&access, outside, "SELECT n FROM begun", "7");
    let before = database.generations();
    database.patch_spec(&json!({"serviceTemplate": null}));
    let is_inside = |which: &&str| {
        let service = of(which);
        let annotation = &service["metadata"]["annotations"]["e2e/scheme"];
        service["spec"]["type"] == "ClusterIP" && annotation.is_null()
    };
    wait_for("Services that lead inside only", LIMIT, || {
        Ok(all.iter().all(is_inside).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    comes_to(
        &access,
        database.service("primary"),
        "SELECT n FROM begun",
        "7",
    );
    assert_eq!(database.generations(), before, "the instance was touched");
}

/// The kubelet brings a changed Secret to the pod within a minute or two.
fn another_password_is_taken_up(database: &Database<'_>) {
    const ANOTHER_WORD: &str = "another word";
    let space = database.space;
    let (old, to) = (database.access(), database.service("primary"));
    space
        .apply(&password(OWNER_SECRET, ANOTHER_WORD))
        .unwrap_or_else(|error| panic!("{error:#}"));
    wait_for("the Secret for applications to have it", LIMIT, || {
        let secret = space.try_get(&["secret", "orders-app"])?;
        let word = secret_text(&secret, "password")?;
        Ok((word == ANOTHER_WORD).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    comes_to(&database.access(), to, "SELECT n FROM begun", "7");
    let said = asked(&old, to, "SELECT 1");
    assert!(said.contains("password authentication failed"), "{said}");
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_pod_services_and_a_new_database_are_as_the_manifest_says() {
    let space = Space::enter("fields");
    let nodes = space.cluster.nodes().to_vec();
    let [elsewhere, .., node] = nodes[..] else {
        panic!("it takes two nodes: {nodes:?}");
    };
    let mut undo = Undo::new(&space);
    let class = ["delete", "priorityclass", PRIORITY_CLASS];
    let without = [&class[..], &["--ignore-not-found"]].concat();
    let left = space.cluster.kubectl(&without);
    left.unwrap_or_else(|error| panic!("{error:#}"));
    let value = format!("--value={PRIORITY}");
    let make = ["create", "priorityclass", PRIORITY_CLASS, value.as_str()];
    undo.change(&make, &without);
    let (name, taint) = (node.name(), format!("{TAINT}=fields:NoSchedule"));
    undo.change(
        &["taint", "node", &name, &taint, "--overwrite"],
        &["taint", "node", &name, &format!("{TAINT}-")],
    );
    space.apply(&registry()).expect("applied");

    let database = Database::apply(&space, "orders", &everything(&space, node));
    for (secret, word) in [
        (OWNER_SECRET, OWNER_WORD),
        (SUPERUSER_SECRET, SUPERUSER_WORD),
    ] {
        let missing = format!("there is no Secret {secret}");
        let told = |status: &Value| says(status, &missing);
        let status = database.wait(&missing, LIMIT, told);
        assert!(!is_true(&status, "Ready"), "{status:#}");
        space.apply(&password(secret, word)).expect("applied");
    }
    database.full_strength();
    the_pod_is_as_wanted(&database, node);
    who_was_named_gets_in(&database);
    services_are_as_wanted(&database, elsewhere);
    another_password_is_taken_up(&database);
}

/// The nodes that a database's instances are on, and how many these are.
fn nodes_of(database: &Database<'_>) -> (BTreeSet<Node>, usize) {
    let all = database.instances();
    (
        all.iter().map(|instance| instance.node).collect(),
        all.len(),
    )
}

/// Where the manifest says nothing they would be on as many nodes as there are.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn instances_stand_to_each_other_as_the_manifest_says() {
    const HALF: &str = "e2e/half";
    let space = Space::enter("fields-places");
    let nodes = space.cluster.nodes().to_vec();
    let none = format!("{HALF}-");
    let mut undo = Undo::new(&space);
    for (node, half) in nodes.iter().zip(["a", "b"]) {
        let (name, label) = (node.name(), format!("{HALF}={half}"));
        undo.change(
            &["label", "node", &name, &label, "--overwrite"],
            &["label", "node", &name, &none],
        );
    }
    // A node without the label is in neither half; three instances on two halves are two and one.
    let mut halves = spec(2);
    halves["topologySpreadConstraints"] =
        json!([{"maxSkew": 1, "topologyKey": HALF, "whenUnsatisfiable": "DoNotSchedule"}]);
    let database = Database::create(&space, "halves", &halves);
    let both = BTreeSet::from([nodes[0], nodes[1]]);
    assert_eq!(nodes_of(&database), (both, 3));

    let beside = json!({
        "labelSelector": {"matchLabels": {"understudy.dev/cluster": "together"}},
        "topologyKey": "kubernetes.io/hostname",
    });
    let mut together = spec(1);
    together["affinity"] =
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}});
    let database = Database::create(&space, "together", &together);
    let (used, count) = nodes_of(&database);
    assert_eq!((used.len(), count), (1, 2), "{used:?}");
}

/// A table of the test's own with these rows; each statement is tried until it is answered.
fn insert(database: &Database<'_>, ids: std::ops::Range<u32>) {
    database.rows("CREATE TABLE IF NOT EXISTS item (id bigint PRIMARY KEY)");
    for id in ids {
        database.rows(&format!(
            "INSERT INTO item VALUES ({id}) ON CONFLICT DO NOTHING"
        ));
    }
}

fn stands_still<'a>(database: &Database<'a>, instance: &str) -> Made<'a> {
    let victim = Victim::of(database, instance);
    Made::make(Fault::ContainerFrozen, database.space, victim)
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn with_async_a_commit_waits_for_nobody_and_a_failover_says_what_was_lost() {
    let space = Space::enter("fields-async");
    let mut spec = spec(1);
    spec["durability"] = json!("async");
    // So that it is not by leaving the set that nobody waits for the standby.
    spec["failover"] = json!({
        "memberLostAfterMilliseconds": NEVER_MS, "asyncAnswersWithinMilliseconds": 3_000,
    });
    let database = Database::create(&space, "orders", &spec);
    let status = database.wait("it says that it is not protected", LIMIT, |status| {
        says(status, "AcknowledgesAlone")
    });
    assert!(!is_true(&status, "Protected"), "{status:#}");
    assert_eq!(database.value("SHOW synchronous_standby_names"), "");
    let standby = database.standbys()[0].clone();
    let mut frozen = stands_still(&database, &standby);
    insert(&database, 0..20);
    std::thread::sleep(LONGER);
    let status = database.status();
    let set = &status["inSync"][0];
    assert_eq!(set["required"], 0, "{set:#}");
    assert_eq!(set["members"][0]["name"], standby, "it has left: {set:#}");
    frozen.mend();
    wait_for("the standby to have every row", LIMIT, || {
        let said = database.sql_in(&standby, "SELECT count(*) FROM item");
        Ok(said.is_ok_and(|said| said.trim() == "20").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    std::thread::sleep(SETTLE);
    database.full_strength();

    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    await_failover(&database, term);
    let status = database.wait("what was lost is told", LIMIT, |status| {
        status["lastFailover"]["lostBytes"].is_u64()
    });
    println!("lost bytes: {}", status["lastFailover"]["lostBytes"]);
    std::thread::sleep(SETTLE);
    database.full_strength();
    assert_eq!(database.value("SELECT count(*) FROM item"), "20");
}

/// Waits until the operator goes by the manifest as it is now.
#[track_caller]
fn is_read(database: &Database<'_>) {
    let object = database.space.get(&["rcl", &database.name]);
    let generation = &object["metadata"]["generation"];
    database.wait("it has read the manifest", LIMIT, |status| {
        status["observedGeneration"] == *generation
    });
}

/// Both instances stand still in turn, for longer than they might where the manifest says nothing.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instance_counts_as_lost_when_the_manifest_says_so() {
    let space = Space::enter("fields-times");
    let mut spec = spec(1);
    spec["failover"] = json!({
        "lostAfterMilliseconds": NEVER_MS, "memberLostAfterMilliseconds": NEVER_MS,
    });
    let database = Database::create(&space, "orders", &spec);
    insert(&database, 0..1);
    let standby = database.standbys()[0].clone();
    let (begin_ms, mut frozen) = (now_ms(), stands_still(&database, &standby));
    let (access, to) = (database.access(), database.service("primary"));
    let mut session = Session::open(&access, to, LONGER).expect("reads wait for nobody");
    let answer = session.query("INSERT INTO item VALUES (1)");
    assert!(answer.is_err(), "acknowledged on one copy: {answer:?}");
    let events = database.events(begin_ms).expect("the events");
    let shrunk = events
        .iter()
        .find(|event| event.reason == "InSyncSetShrunk");
    assert_eq!(shrunk, None, "it has left the set");
    database.patch_spec(&json!({"failover": null}));
    database.wait_event("InSyncSetShrunk", begin_ms);
    told(&database, begin_ms, &["InstanceNotReady"], &standby);
    insert(&database, 2..3);
    let mended_ms = now_ms();
    frozen.mend();
    database.wait_event("InSyncSetGrown", mended_ms);
    database.full_strength();

    database.patch_spec(&json!({"failover": {"lostAfterMilliseconds": NEVER_MS}}));
    is_read(&database);
    let (term, primary) = (database.term(), database.primary());
    let (begin_ms, mut frozen) = (now_ms(), stands_still(&database, &primary));
    std::thread::sleep(LONGER);
    let status = database.status();
    let now = (status["phase"].as_str(), status["term"].as_u64());
    assert_eq!(now, (Some("Running"), Some(term)), "{status:#}");
    database.patch_spec(&json!({"failover": null}));
    await_failover(&database, term);
    told(&database, begin_ms, &["Fenced"], &primary);
    insert(&database, 3..4);
    frozen.mend();
    std::thread::sleep(SETTLE);
    database.full_strength();
    // Of the row that was not acknowledged nobody knows.
    let count = "SELECT count(*) FROM item WHERE id <> 1";
    assert_eq!(database.value(count), "3");
}

/// As much log as this takes is read again by an engine that dies now.
fn much_to_recover(database: &Database<'_>) {
    database.rows("CREATE TABLE IF NOT EXISTS much (n bigint)");
    database.rows(&format!(
        "INSERT INTO much SELECT g FROM generate_series(1, {MUCH}) g"
    ));
}

/// Kills an instance's engine, and stops the one that is started in its place before it has recovered; gives that one.
#[track_caller]
fn crashes_and_stands_still(database: &Database<'_>, instance: &str) -> i32 {
    let (container, old) = (database.container(instance), database.engine(instance));
    let victim = Victim::of(database, instance);
    let _made = Made::make(Fault::EngineKilled, database.space, victim);
    let begin = Instant::now();
    loop {
        let all = container.processes_of("understudy");
        let all = all.unwrap_or_else(|error| panic!("{error:#}"));
        if let Some(next) = all.into_iter().find(|pid| *pid != old) {
            stop_process(next).expect("it has only just begun");
            return next;
        }
        assert!(begin.elapsed() < LIMIT, "no engine in the place of {old}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Why the role went over in a failover that began in `term`.
#[track_caller]
fn cause_of_failover(database: &Database<'_>, term: u64) -> String {
    let status = await_failover(database, term);
    let cause = status["lastFailover"]["cause"].as_str();
    cause.unwrap_or_else(|| panic!("{status:#}")).to_owned()
}

/// An engine that does not come back in place is given more time than it takes where the manifest says nothing, then that
/// time, and at last none.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_crashed_engine_gets_the_time_that_the_manifest_gives_it() {
    let space = Space::enter("fields-restart");
    let mut spec = spec(1);
    spec["failover"] = json!({
        "restartWithinMilliseconds": NEVER_MS, "lostAfterMilliseconds": NEVER_MS,
    });
    let database = Database::create(&space, "orders", &spec);
    insert(&database, 0..10);
    much_to_recover(&database);
    let (term, primary) = (database.term(), database.primary());
    let stopped = crashes_and_stands_still(&database, &primary);
    let words = format!("{primary} is restarted in place");
    database.wait(&words, LIMIT, |status| says(status, &words));
    std::thread::sleep(LONGER);
    let status = database.status();
    let now = (status["phase"].as_str(), status["term"].as_u64());
    assert_eq!(now, (Some("Running"), Some(term)), "{status:#}");
    database.patch_spec(&json!({"failover": {"restartWithinMilliseconds": null}}));
    let cause = cause_of_failover(&database, term);
    let words = format!("{primary} crashed and is not back within 1000 ms");
    assert_eq!(cause, words);
    // It was ended when the role was taken from it.
    let _ = continue_process(stopped);
    std::thread::sleep(SETTLE);
    database.full_strength();

    if database.primary() == primary {
        // A second crash of one engine is a reason by itself.
        database.switch_to(&database.standbys()[0]);
    }
    database.patch_spec(&json!({"failover": {"restartWithinMilliseconds": 0}}));
    is_read(&database);
    much_to_recover(&database);
    let (term, primary) = (database.term(), database.primary());
    let victim = Victim::of(&database, &primary);
    let _made = Made::make(Fault::EngineKilled, &space, victim);
    let cause = cause_of_failover(&database, term);
    let words = format!("{primary} crashed and is not back within 0 ms");
    assert_eq!(cause, words);
    std::thread::sleep(SETTLE);
    database.full_strength();
    assert_eq!(database.value("SELECT count(*) FROM item"), "10");
}

/// The id of the copy that an instance has.
#[track_caller]
fn copy_of(database: &Database<'_>, instance: &str) -> String {
    let status = database.status();
    let mut all = status["instances"].as_array().into_iter().flatten();
    let found = all.find(|i| i["name"] == instance);
    let id = found.and_then(|i| i["id"].as_str()).map(str::to_owned);
    id.unwrap_or_else(|| panic!("{instance} has no copy: {status:#}"))
}

/// Its engine runs and has what it had; only its primary does not let it stream.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_that_does_not_stream_is_seeded_anew_when_the_manifest_says_so() {
    let space = Space::enter("fields-reseed");
    let mut spec = spec(1);
    spec["failover"] = json!({"reseedAfterMilliseconds": NEVER_MS});
    let database = Database::create(&space, "orders", &spec);
    insert(&database, 0..5);
    let (primary, standby) = (database.primary(), database.standbys()[0].clone());
    let may_stream = |how: &str| {
        let sql = format!("ALTER ROLE {STREAMS} {how}");
        let done = database.sql_in(&primary, &sql);
        done.unwrap_or_else(|error| panic!("{sql}: {error:#}"));
    };
    let (begin_ms, copy) = (now_ms(), copy_of(&database, &standby));
    may_stream("NOREPLICATION");
    let victim = Victim::of(&database, &standby);
    let _made = Made::make(Fault::EngineKilled, &space, victim);
    database.wait_event("InSyncSetShrunk", begin_ms);
    std::thread::sleep(MUCH_LONGER);
    let events = database.events(begin_ms).expect("the events");
    let early = events.iter().find(|event| event.reason == "Reseeding");
    assert_eq!(early, None, "before the time");
    assert_eq!(copy_of(&database, &standby), copy);

    let changed_ms = now_ms();
    database.patch_spec(&json!({"failover": {"reseedAfterMilliseconds": 10_000}}));
    let event = database.wait_told("Reseeding", &standby, changed_ms);
    let why = "it could not stream for 10 s";
    assert!(event.note.contains(why), "{}", event.note);
    may_stream("REPLICATION");
    database.full_strength();
    assert_ne!(copy_of(&database, &standby), copy, "the old copy");
    assert_eq!(database.value("SELECT count(*) FROM item"), "5");
}

/// Waits until each of these is told with these words, mostly whom it is about, and prints how.
#[track_caller]
fn told(database: &Database<'_>, since_ms: u64, reasons: &[&str], words: &str) {
    for reason in reasons {
        let event = database.wait_told(reason, words, since_ms);
        println!("{reason}: {}", event.note);
    }
}

/// By an event and in the status, and the annotation goes.
fn what_makes_no_sense_is_refused(database: &Database<'_>) {
    let (primary, standby) = (database.primary(), database.standbys()[0].clone());
    let another_term = format!("{standby}@{}", database.term() + 7);
    for (act, text, reason) in [
        ("switchover-to", "nobody", "SwitchoverRefused"),
        ("switchover-to", primary.as_str(), "SwitchoverRefused"),
        (
            "force-promote",
            another_term.as_str(),
            "ForcePromoteRefused",
        ),
        ("replace-instance", primary.as_str(), "ReplaceRefused"),
    ] {
        let asked_ms = now_ms();
        database.ask_for(act, text);
        told(database, asked_ms, &[reason], "");
        let key = format!("understudy.dev/{act}");
        let is_this = |answer: &Value| {
            answer["annotation"] == key && answer["text"] == text && answer["reason"] == reason
        };
        let what = format!("the answer to {act}={text}");
        database.history.wait(&what, LIMIT, |object| {
            let answers = object["status"]["handledRequests"].as_array();
            let is_gone = object["metadata"]["annotations"].get(&key).is_none();
            is_gone && answers.is_some_and(|answers| answers.iter().any(is_this))
        });
    }
}

fn changes_of_the_manifest_are_told(database: &Database<'_>) {
    let changed_ms = now_ms();
    database.patch_spec(&json!({"parameters": {"log_min_duration_statement": "4321"}}));
    let names = [database.primary(), database.standbys()[0].clone()];
    for name in &names {
        told(database, changed_ms, &["ConfigReloaded"], name);
    }
    let changed_ms = now_ms();
    database.patch_spec(&json!({"podMetadata": {"annotations": {"e2e/changed": "yes"}}}));
    wait_for("both pods to be made anew", LIMIT, || {
        let events = database.events(changed_ms).unwrap_or_default();
        let is_renewed = |name: &String| {
            let mut renewed = events
                .iter()
                .filter(|event| event.reason == "InstanceRenewed");
            renewed.any(|event| event.note.contains(name))
        };
        Ok(names.iter().all(is_renewed).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    settled(database).unwrap_or_else(|error| panic!("{error:#}"));
    database.full_strength();
}

/// After a switchover: who had the role and who has it, everybody on the new timeline, and the old primary's pod among those
/// that the scale sub-resource selects.
fn the_status_is_of_the_new_primary(database: &Database<'_>, old: &str, new: &str) {
    let status = database.wait("everybody on the new timeline", LIMIT, |status| {
        let mut all = status["instances"].as_array().into_iter().flatten();
        status["timeline"] == status["term"]
            && status["lastSwitchover"]["term"] == status["term"]
            && all.all(|instance| instance["timeline"] == status["timeline"])
    });
    let last = &status["lastSwitchover"];
    assert_eq!(last["old"], old, "{last:#}");
    assert_eq!(last["new"], new, "{last:#}");
    let selector = status["selector"].as_str().expect("a selector");
    let wanted = format!("pod/{old}-0");
    wait_for("the selector to find the old primary alone", LIMIT, || {
        let of_standbys = ["get", "pods", "-l", selector, "-o", "name"];
        let selected = database.space.try_kubectl(&of_standbys)?;
        Ok((selected.trim() == wanted).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

fn changes_of_the_role_are_told(database: &Database<'_>) {
    let asked_ms = now_ms();
    let (old, new) = (database.primary(), database.standbys()[0].clone());
    database.switch_to(&new);
    the_status_is_of_the_new_primary(database, &old, &new);
    let handed_over = ["SwitchoverStarted", "SwitchoverCompleted"];
    told(database, asked_ms, &handed_over, &new);
    told(database, asked_ms, &["Rejoined"], &old);
    let (term, killed_ms) = (database.term(), now_ms());
    let (old, new) = (new, old);
    let victim = Victim::of(database, &old);
    let _made = Made::make(Fault::SupervisorKilled, database.space, victim);
    await_failover(database, term);
    told(database, killed_ms, &["FailoverStarted"], &old);
    let taken_over = ["CandidateChosen", "Promoted", "FailoverCompleted"];
    told(database, killed_ms, &taken_over, &new);
    told(database, killed_ms, &["Rejoined"], &old);
    std::thread::sleep(SETTLE);
    database.full_strength();
}

fn instances_that_come_and_go_are_told(database: &Database<'_>) {
    let (asked_ms, name) = (now_ms(), database.standbys()[0].clone());
    database.ask_for("replace-instance", &name);
    let anew = ["InstanceReplaced", "ReplaceCompleted", "InstanceCreated"];
    told(database, asked_ms, &anew, &name);
    database.full_strength();
    let name = name.as_str();
    let goes = [("InSyncSetShrunk", "nobody"), ("InstanceRemoved", name)];
    let comes = [("InstanceCreated", name), ("InSyncSetGrown", name)];
    for (replicas, all) in [(0, goes), (1, comes)] {
        let asked_ms = now_ms();
        database.scale(replicas);
        database.wait("scaled", LIMIT, |status| {
            status["replicas"].as_u64() == Some(u64::from(replicas))
        });
        database.full_strength();
        for (reason, words) in all {
            told(database, asked_ms, &[reason], words);
        }
        let words = format!("the cluster has {replicas} standbys now");
        told(database, asked_ms, &["Scaled"], &words);
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn each_act_is_told_by_an_event() {
    let space = Space::enter("fields-events");
    let begin_ms = now_ms();
    let database = Database::create(&space, "orders", &spec(1));
    let (primary, standby) = (database.primary(), database.standbys()[0].clone());
    let made = ["InstanceCreated", "InstanceReady"];
    told(&database, begin_ms, &made, &primary);
    told(&database, begin_ms, &made, &standby);
    told(&database, begin_ms, &["InSyncSetGrown"], &standby);
    what_makes_no_sense_is_refused(&database);
    changes_of_the_manifest_are_told(&database);
    changes_of_the_role_are_told(&database);
    instances_that_come_and_go_are_told(&database);
}
