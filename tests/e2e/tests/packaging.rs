//! The chart's life: upgraded, rolled back, taken away and installed again, databases go on and no pod of theirs is
//! restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_e2e::controller;
use understudy_e2e::database::{Database, settled, spec};
use understudy_e2e::faults::{Fault, Made, Victim};
use understudy_e2e::round::{await_failover, noted_ledger};
use understudy_e2e::space::Space;
use understudy_e2e::writers::{Who, Writers, judge};
use understudy_tests::local::now_ms;

/// How long a new operator gets to do what it must not do.
const TEMPTATION: Duration = Duration::from_secs(20);

/// What tells that an instance was left alone: its pod, how often the container was started, the StatefulSet's
/// generation.
fn untouched(space: &Space) -> BTreeMap<String, String> {
    let of = ["-l", "understudy.dev/cluster=orders"];
    let mut all = BTreeMap::new();
    for kind in ["pods", "statefulsets"] {
        let list = space.get(&[&[kind][..], &of].concat());
        for object in list["items"].as_array().into_iter().flatten() {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            let restarts = &object["status"]["containerStatuses"][0]["restartCount"];
            let told = if kind == "pods" {
                format!("{} {restarts}", metadata["uid"])
            } else {
                format!("{} {}", metadata["uid"], metadata["generation"])
            };
            all.insert(format!("{kind}/{name}"), told);
        }
    }
    all
}

#[track_caller]
fn helm(space: &Space, arguments: &[&str]) -> String {
    let said = space.cluster.helm(arguments);
    said.unwrap_or_else(|error| panic!("{error:#}"))
}

/// A template that this operator would render differently: as an older or a newer build left it.
fn change_a_template(space: &Space, database: &Database<'_>) {
    let standby = database.standbys().into_iter().last().expect("a standby");
    let patch =
        json!({"spec": {"template": {"metadata": {"annotations": {"e2e/build": "another"}}}}});
    space.patch(&format!("statefulset/{standby}"), &patch, &[]);
    std::thread::sleep(Duration::from_secs(3));
    settled(database).unwrap_or_else(|error| panic!("{error:#}"));
    database.full_strength();
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_upgrade_and_a_rollback_of_the_operator_restart_no_database() {
    let space = Space::enter("operator-upgrade");
    let Some(next) = space.settings.next_image.clone() else {
        println!("skipped: UNDERSTUDY_E2E_NEXT_IMAGE names no second image");
        return;
    };
    let database = Database::create(&space, "orders", &spec(2));
    change_a_template(&space, &database);
    let ledger = noted_ledger(&space);
    let writers = Writers::start(&database, &ledger, Who::ServiceOnly);
    let (term, before) = (database.term(), untouched(&space));
    let left_alone = |what: &str| {
        std::thread::sleep(TEMPTATION);
        database.full_strength();
        assert_eq!(untouched(&space), before, "{what} touched an instance");
    };
    // Another image of the operator's own, and with it another default image of databases.
    controller::install(&space.cluster, &controller::image_values(&next)).expect("upgraded");
    left_alone("the upgrade");
    assert_eq!(database.term(), term, "the role has moved");
    let wiped_ms = now_ms();
    let nothing = json!({"status": null});
    space.patch("rcl/orders", &nothing, &["--subresource=status"]);
    database.wait_event("RecordRebuilt", wiped_ms);
    left_alone("the upgrade with the status wiped");
    let rollback = ["rollback", controller::RELEASE, "-n", controller::NAMESPACE];
    helm(&space, &[&rollback[..], &["--wait"]].concat());
    controller::rolled_out(&space.cluster).expect("rolled back");
    left_alone("the rollback");
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
    let before = untouched(&space);
    controller::uninstall(&space.cluster).expect("uninstalled");
    let crd = ["get", "crd", "replicatedclusters.understudy.dev"];
    space.cluster.kubectl(&crd).expect("the CRD is kept");
    std::thread::sleep(TEMPTATION);
    writers.wait_for(50);
    assert_eq!(untouched(&space), before, "an instance was touched");
    let values = controller::image_values(&space.settings.image);
    controller::install(&space.cluster, &values).expect("installed again");
    database.full_strength();
    assert_eq!(untouched(&space), before, "an instance was touched");
    // And it acts again.
    let term = database.term();
    let victim = Victim::of(&database, &database.primary());
    let _made = Made::make(Fault::SupervisorKilled, &space, victim);
    await_failover(&database, term);
    std::thread::sleep(Duration::from_secs(3));
    database.full_strength();
    writers.wait_for(20);
    writers.finish();
    judge(&database, &ledger);
}

/// Whoever has no helm applies one file: what it holds is what the chart renders, and the API server takes it.
#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn the_one_file_for_plain_kubectl_is_taken() {
    let space = Space::enter("plain-kubectl");
    let file = "../../deploy/understudy.yaml";
    let said =
        space
            .cluster
            .kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file]);
    let said = said.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(
        said.contains("deployment.apps/understudy-operator"),
        "{said}"
    );
    let release = helm(
        &space,
        &[
            "status",
            controller::RELEASE,
            "-n",
            controller::NAMESPACE,
            "-o",
            "json",
        ],
    );
    let release: Value = serde_json::from_str(&release).expect("JSON");
    assert_eq!(release["info"]["status"], "deployed");
}
