//! Requests that cannot be fulfilled: a condition names the reason in Kubernetes' own words, and everything heals when
//! the cause goes.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_cluster::config::Volume;
use understudy_cluster::layout::Layout;
use understudy_e2e::controller::DEFINITION;
use understudy_e2e::database::{Database, is_true, says, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::heal::remove_namespace;
use understudy_e2e::round::await_failover;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_tests::local::now_ms;

/// After something happened to an instance, until what the status says is of the time since.
const SETTLE: Duration = Duration::from_secs(3);

/// A manifest with something more.
fn with(replicas: u32, key: &str, value: Value) -> Value {
    let mut spec = spec(replicas);
    spec[key] = value;
    spec
}

/// Waits until the status says so, and is not ready.
#[track_caller]
fn refused_for_now(database: &Database<'_>, reasons: &[&str]) {
    let status = database.wait(&format!("{reasons:?} is said"), LIMIT, |status| {
        reasons.iter().any(|reason| says(status, reason))
    });
    assert!(!is_true(&status, "Ready"), "{status:#}");
    println!("{:#}", status["conditions"]);
}

/// Takes a label off all nodes when it is dropped.
struct Labelled<'a>(&'a Space, &'static str);

impl Drop for Labelled<'_> {
    fn drop(&mut self) {
        let Labelled(space, key) = self;
        let none = format!("{key}-");
        if let Err(error) = space.cluster.kubectl(&["label", "nodes", "--all", &none]) {
            eprintln!("{error:#}");
        }
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn pods_that_fit_nowhere_are_told_of_and_run_when_there_is_a_place() {
    let space = Space::enter("unschedulable");
    // A test that was killed may have left it.
    drop(Labelled(&space, "e2e/place"));
    let selector = json!({"e2e/place": "yes"});
    let database = Database::apply(&space, "orders", &with(1, "nodeSelector", selector));
    refused_for_now(&database, &["Unschedulable"]);
    let _labelled = Labelled(&space, "e2e/place");
    let label = ["label", "nodes", "--all", "e2e/place=yes"];
    let said = space.cluster.kubectl(&label);
    said.unwrap_or_else(|error| panic!("{error:#}"));
    database.full_strength();
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_image_that_is_nowhere_is_told_of_and_the_cluster_begins_when_it_is_corrected() {
    let space = Space::enter("image-missing");
    let nowhere = json!("understudy.local/nowhere:1");
    let database = Database::apply(&space, "orders", &with(1, "image", nowhere));
    refused_for_now(&database, &["ErrImagePull", "ImagePullBackOff"]);
    database.patch_spec(&json!({"image": space.settings.image}));
    database.full_strength();
}

/// There is no pod that could say why it does not run: its StatefulSet's events do.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_pod_that_is_never_made_is_told_of_and_the_cluster_begins_when_the_manifest_is_corrected() {
    let space = Space::enter("no-priority");
    let spec = with(1, "priorityClassName", json!("e2e-nowhere"));
    let database = Database::apply(&space, "orders", &spec);
    refused_for_now(&database, &["no PriorityClass"]);
    database.patch_spec(&json!({"priorityClassName": null}));
    database.full_strength();
}

/// In a cluster that runs only a standby is lost by it, and it serves all the time.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_update_to_an_image_that_is_nowhere_stops_at_the_first_standby() {
    let space = Space::enter("image-typo");
    let database = Database::create(&space, "orders", &spec(2));
    let (primary, term) = (database.primary(), database.term());
    database.patch_spec(&json!({"image": "understudy.local/nowhere:1"}));
    refused_for_now(&database, &["ErrImagePull", "ImagePullBackOff"]);
    std::thread::sleep(Duration::from_secs(20));
    let status = database.status();
    assert_eq!(status["readyInstances"], 2, "{status:#}");
    assert_eq!((database.primary(), database.term()), (primary, term));
    assert_eq!(database.value("SELECT 1"), "1");
    database.patch_spec(&json!({"image": space.settings.image}));
    database.full_strength();
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_storage_class_that_is_not_there_is_told_of_and_volumes_are_bound_when_it_is() {
    const CLASS: &str = "e2e-later";
    let space = Space::enter("no-class");
    let layout = Layout::new(space.cluster.dir()).expect("an absolute path");
    let volumes: Vec<Volume> = space.cluster.nodes()[..2]
        .iter()
        .map(|node| Volume {
            name: format!("{node}-{CLASS}"),
            node: *node,
            class: CLASS.to_owned(),
            path: layout.volumes(*node).join(CLASS),
            capacity: "2Gi".to_owned(),
        })
        .collect();
    let mut given = vec!["delete", "persistentvolume", "--ignore-not-found"];
    given.extend(volumes.iter().map(|volume| volume.name.as_str()));
    let class = ["delete", "storageclass", CLASS, "--ignore-not-found"];
    // A test that failed may have left them: volumes are bound by the name of a class that is gone.
    for left in [&given[..], &class] {
        space.cluster.kubectl(left).expect("deleted");
    }
    let storage = json!({"size": "1Gi", "class": CLASS});
    let database = Database::apply(&space, "orders", &with(1, "storage", storage));
    refused_for_now(&database, &["Unschedulable", "unbound"]);
    let mut items = vec![json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain",
    })];
    for volume in &volumes {
        std::fs::create_dir_all(&volume.path).expect("made");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&volume.path, open).expect("opened");
        items.push(volume.object());
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    space.cluster.apply(&list.to_string()).expect("applied");
    database.full_strength();
    drop(database);
    // Class and volumes are this test's alone.
    remove_namespace(&space.cluster, &space.name).expect("everything goes");
    for own in [&given[..], &class] {
        space.cluster.kubectl(own).expect("deleted");
    }
}

/// A StatefulSet that is nobody's, and has no pod.
fn stranger(name: &str, image: &str) -> String {
    let labels = json!({"app": "elsewhere"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "replicas": 0, "serviceName": "elsewhere", "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "elsewhere", "image": image}]},
            },
        },
    });
    set.to_string()
}

/// Waits until it is said that this keeps an instance from being made. It goes on being said: whatever else is looked at in
/// the meantime is as it should be.
#[track_caller]
fn not_made_because(database: &Database<'_>, text: &str) {
    let is_said = |status: &Value| says(status, "ObjectsNotWritten") && says(status, text);
    database.wait(&format!("{text} is said"), LIMIT, is_said);
    let since_ms = now_ms();
    std::thread::sleep(SETTLE);
    for state in database.history.since(since_ms) {
        let status = &state.object["status"];
        assert!(is_said(status), "it was taken back: {status:#}");
    }
    let status = database.status();
    assert!(is_said(&status) && !is_true(&status, "Ready"), "{status:#}");
}

/// Its name is taken, or a quota is used up: an event says of which instance and why, and it is made when it can be.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instance_that_can_not_be_made_is_told_of_and_made_when_it_can() {
    const COUNT: &str = "count/statefulsets.apps";
    let space = Space::enter("not-made");
    let database = Database::create(&space, "orders", &spec(0));
    let (taken, more) = ("orders-2", "orders-3");
    let foreign = stranger(taken, &space.settings.image);
    space.apply(&foreign).expect("applied");
    let asked_ms = now_ms();
    database.scale(1);
    let event = database.wait_told("NameTaken", taken, asked_ms);
    println!("{}: {}", event.reason, event.note);
    not_made_because(&database, "StatefulSet orders-2 belongs to");
    space.kubectl(&["delete", "statefulset", taken, "--timeout=60s"]);
    database.full_strength();

    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"},
        "spec": {"hard": {COUNT: "2"}},
    });
    space.apply(&quota.to_string()).expect("applied");
    wait_for("both StatefulSets to be counted", LIMIT, || {
        let quota = space.try_get(&["resourcequota", "two"])?;
        Ok((quota["status"]["used"][COUNT] == "2").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    let asked_ms = now_ms();
    database.scale(2);
    let event = database.wait_told("StepFailed", more, asked_ms);
    assert!(event.note.contains("exceeded quota"), "{}", event.note);
    println!("{}: {}", event.reason, event.note);
    not_made_because(&database, "exceeded quota");
    assert_eq!(database.value("SELECT 1"), "1");
    space.kubectl(&["delete", "resourcequota", "two", "--timeout=60s"]);
    database.full_strength();
}

/// Everybody serves by the settings that were there before.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn parameters_that_the_engine_does_not_take_are_told_of_and_change_nothing() {
    let space = Space::enter("parameters-refused");
    let database = Database::create(&space, "orders", &spec(1));
    let (term, before) = (database.term(), database.generations());
    let show = "SHOW work_mem";
    let current = database.value(show);
    let asked_ms = now_ms();
    database.patch_spec(&json!({"parameters": {"work_mem": "lots"}}));
    let event = database.wait_told("ParametersRefused", "work_mem", asked_ms);
    println!("{}: {}", event.reason, event.note);
    database.wait("it serves and says so", LIMIT, |status| {
        is_true(status, "Ready") && is_true(status, "Degraded") && says(status, "\"lots\"")
    });
    assert_eq!(database.value(show), current);
    database.patch_spec(&json!({"parameters": null}));
    database.wait("it is told of no more", LIMIT, |status| {
        !says(status, "ParametersRefused")
    });
    database.full_strength();
    assert_eq!(database.generations(), before, "an instance was touched");
    assert_eq!(database.term(), term, "the role has moved");
}

/// Nobody is told that a database is ready which has not what its Secret promises; what is corrected runs, and once.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn sql_that_fails_is_told_of_and_runs_when_it_is_corrected() {
    let space = Space::enter("bootstrap-failed");
    let table = "CREATE TABLE begun (n integer); INSERT INTO begun VALUES (7); GRANT SELECT ON begun TO app";
    let bootstrap = |sql: [&str; 2]| json!({"bootstrap": {"sql": sql}});
    let wrong = bootstrap([table, "INSERT INTO nowhere VALUES (1)"]);
    let asked_ms = now_ms();
    let database = Database::apply(
        &space,
        "orders",
        &with(1, "bootstrap", wrong["bootstrap"].clone()),
    );
    refused_for_now(&database, &["BootstrapFailed"]);
    let event = database.wait_told("BootstrapFailed", "sql[1]", asked_ms);
    println!("{}: {}", event.reason, event.note);
    assert!(event.note.contains("nowhere"), "{}", event.note);
    database.patch_spec(&bootstrap([table, "INSERT INTO begun VALUES (8)"]));
    database.full_strength();
    assert_eq!(database.value("SELECT sum(n) FROM begun"), "15");
    let patch = json!({"spec": bootstrap([table, "SELECT 1"])}).to_string();
    let what = [
        "patch",
        "rcl",
        "orders",
        "--type=merge",
        "-p",
        patch.as_str(),
    ];
    let refused = space.try_kubectl(&what).expect_err("it was run");
    assert!(
        format!("{refused:#}").contains("it runs once"),
        "{refused:#}"
    );
}

/// Kubernetes would give the pod the claim of that name, whosever it is.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_claim_of_somebody_else_s_is_told_of_and_not_taken() {
    let space = Space::enter("claim-taken");
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-orders-2-0"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let applied = space.apply(&claim.to_string());
    applied.unwrap_or_else(|error| panic!("{error:#}"));
    let database = Database::apply(&space, "orders", &spec(1));
    refused_for_now(&database, &["data-orders-2-0"]);
    let set = space.try_get(&["statefulset", "orders-2"]);
    assert!(set.is_err(), "it would take the claim: {set:?}");
    // Another one has its name at once, and kubectl would wait for that to go.
    space.kubectl(&["delete", "pvc", "data-orders-2-0", "--wait=false"]);
    database.full_strength();
}

/// In the definition: what the API server asks of settings.
const RULES: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/parameters/x-kubernetes-validations";

/// The definition as an older one may have been, which takes every setting; as it was when this is dropped.
struct OlderRules<'a> {
    space: &'a Space,
    rules: Value,
}

impl<'a> OlderRules<'a> {
    #[track_caller]
    fn begin(space: &'a Space) -> OlderRules<'a> {
        let definition = space.cluster.kubectl_json(&["get", "crd", DEFINITION]);
        let definition = definition.unwrap_or_else(|error| panic!("{error:#}"));
        let rules = definition.pointer(RULES).cloned();
        let older = OlderRules {
            space,
            rules: rules.expect("the definition has rules for settings"),
        };
        let change = json!([{"op": "remove", "path": RULES}]);
        let changed = older.change(&change);
        changed.unwrap_or_else(|error| panic!("{error:#}"));
        older
    }

    fn change(&self, change: &Value) -> anyhow::Result<String> {
        let text = change.to_string();
        let patch = [
            "patch",
            "crd",
            DEFINITION,
            "--type=json",
            "-p",
            text.as_str(),
        ];
        self.space.cluster.kubectl(&patch)
    }
}

impl Drop for OlderRules<'_> {
    fn drop(&mut self) {
        let change = json!([{"op": "add", "path": RULES, "value": self.rules}]);
        if let Err(error) = self.change(&change) {
            eprintln!("{error:#}");
        }
    }
}

/// What a definition of today would refuse was stored under another one. The field is named, a primary that is lost is taken
/// over from all the same, and everything is as it should be when the field is corrected.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_manifest_that_older_rules_let_pass_is_told_of_and_failed_over_from() {
    let space = Space::enter("older-rules");
    let database = Database::create(&space, "orders", &spec(1));
    let wrong = json!({"spec": {"parameters": {"port": "1234"}}}).to_string();
    let patch = [
        "patch",
        "rcl",
        "orders",
        "--type=merge",
        "-p",
        wrong.as_str(),
    ];
    let refused = space.try_kubectl(&patch).expect_err("it is owned");
    assert!(format!("{refused:#}").contains("port"), "{refused:#}");
    let asked_ms = now_ms();
    let older = OlderRules::begin(&space);
    wait_for("the API server to go by the older rules", LIMIT, || {
        Ok(space.try_kubectl(&patch).ok())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    drop(older);
    let event = database.wait_told("InvalidSpec", "spec.parameters.port", asked_ms);
    println!("{}: {}", event.reason, event.note);
    let status = database.wait("it is said", LIMIT, |status| says(status, "InvalidSpec"));
    assert!(!is_true(&status, "Ready"), "{status:#}");
    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    await_failover(&database, term);
    assert_eq!(database.value("SELECT 1"), "1");
    database.patch_spec(&json!({"parameters": null}));
    std::thread::sleep(SETTLE);
    database.full_strength();
}
