//! Requests that cannot be fulfilled: a condition names the reason in Kubernetes' own words, and everything heals when
//! the cause goes.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_cluster::config::Volume;
use understudy_cluster::layout::Layout;
use understudy_e2e::database::{Database, is_true, says, spec};
use understudy_e2e::heal::remove_namespace;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;

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
