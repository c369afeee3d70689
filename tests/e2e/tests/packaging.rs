//! The chart's life: upgraded, rolled back, taken away and installed again, databases go on and no pod of theirs is
//! restarted. And the one file for whoever has no helm.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_cluster::Cluster;
use understudy_cluster::command::wait_for;
use understudy_e2e::controller::{self, DEFINITION};
use understudy_e2e::database::{Database, settled, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::heal::remove_namespace;
use understudy_e2e::round::{await_failover, noted_ledger};
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};
use understudy_tests::local::now_ms;

/// How long a new operator gets to do what it must not do.
const TEMPTATION: Duration = Duration::from_secs(20);

#[track_caller]
fn helm(space: &Space, arguments: &[&str]) -> String {
    let said = space.cluster.helm(arguments);
    said.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What two builds of the operator render differently: the image, and how long the pod gets to stop (`scripts/e2e.sh`
/// changes that in the other one).
fn template(space: &Space, instance: &str) -> (String, u64) {
    let set = space.get(&["statefulset", instance]);
    let pod = &set["spec"]["template"]["spec"];
    let image = pod["containers"][0]["image"].as_str();
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    let both = image.map(str::to_owned).zip(grace);
    both.unwrap_or_else(|| panic!("{instance}: {set:#}"))
}

/// The next change of the manifest is when a newer operator's rendering is taken up, by every instance.
fn take_up(space: &Space, database: &Database<'_>, wanted: &(String, u64)) {
    database.patch_spec(&json!({"podMetadata": {"annotations": {"e2e/changed": "yes"}}}));
    let all_have_it = || {
        let mut names = database.instances().into_iter().map(|i| i.name);
        Ok(names
            .all(|name| template(space, &name) == *wanted)
            .then_some(()))
    };
    wait_for("every instance to be rendered anew", LIMIT, all_have_it)
        .unwrap_or_else(|error| panic!("{error:#}"));
    settled(database).unwrap_or_else(|error| panic!("{error:#}"));
    database.full_strength();
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_upgrade_and_a_rollback_of_the_operator_restart_no_database() {
    let space = Space::enter("operator-upgrade");
    let newer = space.settings.newer_image.clone().expect(
        "UNDERSTUDY_E2E_NEWER_IMAGE names no other build: `scripts/e2e.sh` makes one for this file",
    );
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let (term, before) = (database.term(), database.generations());
    let left_alone = |what: &str, before: &BTreeMap<String, String>| {
        std::thread::sleep(TEMPTATION);
        database.full_strength();
        assert_eq!(
            database.generations(),
            *before,
            "{what} touched an instance"
        );
    };
    // Another build of the operator, and with it another default image of databases.
    controller::install(&space.cluster, &controller::image_values(&newer)).expect("upgraded");
    left_alone("the upgrade", &before);
    assert_eq!(database.term(), term, "the role has moved");
    // It would have rendered something else: what it makes itself is that.
    drop(Database::create(&space, "sales", &spec(0)));
    let (old, new) = (template(&space, "orders-1"), template(&space, "sales-1"));
    println!("{old:?} beside {new:?}");
    assert_eq!((&old.0, &new.0), (&space.settings.image, &newer));
    assert_ne!(old.1, new.1, "both builds render the same");
    let wiped_ms = now_ms();
    let nothing = json!({"status": null});
    space.patch("rcl/orders", &nothing, &["--subresource=status"]);
    database.wait_event("RecordRebuilt", wiped_ms);
    left_alone("the upgrade with the status wiped", &before);
    take_up(&space, &database, &new);
    let before = database.generations();
    let rollback = ["rollback", controller::RELEASE, "-n", controller::NAMESPACE];
    helm(&space, &[&rollback[..], &["--wait"]].concat());
    controller::rolled_out(&space.cluster).expect("rolled back");
    left_alone("the rollback", &before);
    assert_eq!(template(&space, "orders-1"), new);
    writers.wait_for(20);
    writers.finish();
    judge(&database, &ledger);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn uninstalling_the_chart_leaves_databases_and_their_data_alone() {
    let space = Space::enter("uninstall");
    let database = Database::create(&space, "orders", &spec(2));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    let before = database.generations();
    controller::uninstall(&space.cluster).expect("uninstalled");
    let crd = ["get", "crd", DEFINITION];
    space.cluster.kubectl(&crd).expect("the CRD is kept");
    std::thread::sleep(TEMPTATION);
    writers.wait_for(50);
    assert_eq!(database.generations(), before, "an instance was touched");
    let values = controller::image_values(&space.settings.image);
    controller::install(&space.cluster, &values).expect("installed again");
    // It acts again: until then the status is the old operator's, and a primary that dies comes back by itself.
    database.patch_spec(&json!({"serviceTemplate": {"annotations": {"e2e/asked": "yes"}}}));
    database.full_strength();
    assert_eq!(database.generations(), before, "an instance was touched");
    lose_the_primary(&database);
    writers.wait_for(20);
    writers.finish();
    judge(&database, &ledger);
}

/// The operator acts: a standby takes over, and everything is as before.
fn lose_the_primary(database: &Database<'_>) {
    let term = database.term();
    let victim = Victim::of(database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, database.space, victim);
    await_failover(database, term);
    std::thread::sleep(Duration::from_secs(3));
    database.full_strength();
}

/// As a cluster that has never heard of Understudy. What tests share goes with the definition: whoever needs it makes it
/// anew.
fn forget(cluster: &Cluster) {
    let path = "jsonpath={.items[*].metadata.namespace}";
    let left = cluster.kubectl(&["get", "rcl", "-A", "-o", path]);
    let left = left.unwrap_or_else(|error| panic!("{error:#}"));
    for namespace in left.split_whitespace() {
        remove_namespace(cluster, namespace).unwrap_or_else(|error| panic!("{error:#}"));
    }
    controller::uninstall(cluster).expect("uninstalled");
    for (kind, name) in [("crd", DEFINITION), ("namespace", controller::NAMESPACE)] {
        let deleted = cluster.kubectl(&["delete", kind, name, "--timeout=120s"]);
        deleted.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Whoever has no helm applies one file, and that is all.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_one_file_for_plain_kubectl_is_all_that_it_takes() {
    let space = Space::enter("plain-kubectl");
    let cluster = &space.cluster;
    forget(cluster);
    controller::install_plain(cluster, &space.settings.image).expect("applied");
    let database = Database::create(&space, "orders", &spec(1));
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::Everybody);
    lose_the_primary(&database);
    writers.wait_for(20);
    writers.finish();
    judge(&database, &ledger);
    drop(database);
    space.kubectl(&["delete", "rcl", "orders", "--timeout=120s"]);
    controller::uninstall_plain(cluster).expect("everything that the file names goes");
    let crd = ["get", "crd", DEFINITION, "--ignore-not-found", "-o", "name"];
    let left = cluster.kubectl(&crd).expect("an answer");
    assert_eq!(left.trim(), "", "the definition is still there");
    // helm finds nothing in its way.
    let values = controller::image_values(&space.settings.image);
    controller::install(cluster, &values).expect("installed again");
    let status = ["status", controller::RELEASE, "-n", controller::NAMESPACE];
    let release = helm(&space, &[&status[..], &["-o", "json"]].concat());
    let release: Value = serde_json::from_str(&release).expect("JSON");
    assert_eq!(release["info"]["status"], "deployed");
}
