//! A user's first minutes: the chart, one manifest, and clients that have nothing but the Secret `orders-app`.

use std::time::Instant;

use understudy_cluster::command::wait_for;
use understudy_e2e::client_pod::{self, shell};
use understudy_e2e::controller;
use understudy_e2e::database::Database;
use understudy_e2e::results::Line;
use understudy_e2e::settings::LIMIT;
use understudy_e2e::space::Space;

const CLIENT: &str = "client";

/// What a line of shell in the client's pod prints.
#[track_caller]
fn ok(space: &Space, line: &str) -> String {
    let text = shell(space, CLIENT, line);
    text.unwrap_or_else(|error| panic!("{line}: {error:#}"))
}

/// What a line prints as soon as it succeeds: a Service's way may be some moments younger than its database.
#[track_caller]
fn eventually(space: &Space, what: &str, line: &str) -> String {
    let mut last = None;
    let said = wait_for(what, LIMIT, || match shell(space, CLIENT, line) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    });
    said.unwrap_or_else(|error| panic!("{error:#}; of late: {last:?}"))
}

/// What a line that must fail says.
#[track_caller]
fn refused(space: &Space, line: &str) -> String {
    let error = shell(space, CLIENT, line).expect_err(line);
    format!("{error:#}")
}

fn clients_connect_with_the_secret_alone(space: &Space) {
    let who = r#"psql "$URI" -X -At -c 'SELECT current_user'"#;
    let said = eventually(space, "the first session", who);
    assert_eq!(said.trim(), "app");
    let conninfo = ok(space, r#"psql "$URI" -X -c '\conninfo'"#);
    assert!(conninfo.contains("SSL connection"), "{conninfo}");
    // The authority and the name are checked, and nobody gets in without encryption.
    let other = refused(
        space,
        r#"PGSSLROOTCERT=/app/password psql "$URI" -X -c 'SELECT 1'"#,
    );
    assert!(other.contains("certificate"), "{other}");
    let plain = refused(space, r#"psql "$URI&sslmode=disable" -X -c 'SELECT 1'"#);
    assert!(plain.contains("pg_hba.conf"), "{plain}");

    ok(space, r#"pgbench -i -q -s 2 -I dtgvp "$URI""#);
    let bench = ok(space, r#"pgbench -n -c 4 -j 2 -T 5 "$URI" 2>&1"#);
    assert!(
        bench.contains("number of failed transactions: 0 "),
        "{bench}"
    );
    let sums = ok(
        space,
        r#"psql "$URI" -X -At -c 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)'"#,
    );
    assert_eq!(sums.trim(), "t");
}

/// By the Service `-standby`: rows are there, and writes are refused.
fn standbys_are_read(space: &Space) {
    let standby = r#"$(echo "$URI" | busybox sed s/@orders-primary/@orders-standby/)"#;
    let expected = ok(
        space,
        r#"psql "$URI" -X -At -c 'SELECT count(*) FROM pgbench_history'"#,
    );
    let query = "SELECT pg_is_in_recovery(), count(*) FROM pgbench_history";
    let line = format!("psql \"{standby}\" -X -At -c '{query}'");
    let wanted = format!("t|{}", expected.trim());
    wait_for("a standby that has every row", LIMIT, || {
        let said = eventually(space, "a standby that answers", &line);
        Ok((said.trim() == wanted).then_some(()))
    })
    .expect("it catches up");
    let write = format!("psql \"{standby}\" -X -c 'CREATE TABLE t (a int)'");
    let said = refused(space, &write);
    assert!(said.contains("read-only transaction"), "{said}");
}

fn kubectl_shows_it_at_a_glance(space: &Space) {
    let table = space.kubectl(&["get", "rcl"]);
    for word in ["READY", "PHASE", "PRIMARY", "3/3", "Running", "orders-1-0"] {
        assert!(table.contains(word), "no {word}:\n{table}");
    }
    println!("{table}");
    let all = space.kubectl(&["get", "all"]);
    assert!(
        all.contains("replicatedcluster.understudy.dev/orders"),
        "{all}"
    );
    let scale = ["rcl", "orders", "--subresource=scale"];
    assert_eq!(space.get(&scale)["spec"]["replicas"], 2);
    // No restricted rule was bent for any of its pods, and the standbys are spread over the nodes.
    let pods = space.get(&["pods", "-l", "understudy.dev/cluster=orders"]);
    let items = pods["items"].as_array().expect("a list");
    let nodes: std::collections::HashSet<String> = items
        .iter()
        .map(|pod| pod["spec"]["nodeName"].to_string())
        .collect();
    assert_eq!((items.len(), nodes.len()), (3, 3));
    let sql = ["exec", "orders-1-0", "--", "understudy", "sql", "-At", "-c"];
    let said = space.kubectl(&[&sql[..], &["SELECT count(*) FROM pg_stat_replication"]].concat());
    assert_eq!(said.trim(), "2");
    let events = space.kubectl(&["describe", "rcl", "orders"]);
    for reason in ["InstanceCreated", "InstanceReady", "InSyncSetGrown"] {
        assert!(events.contains(reason), "no event {reason}:\n{events}");
    }
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_user_installs_the_chart_applies_a_manifest_and_connects() {
    let space = Space::enter("first-minutes");
    let cluster = &space.cluster;
    client_pod::provide(&space).expect("an image with psql and pgbench");
    controller::uninstall(cluster).expect("uninstalled");
    let begin = Instant::now();
    let values = controller::image_values(&space.settings.image);
    controller::install(cluster, &values).expect("installed");
    let installed = begin.elapsed();

    let begin = Instant::now();
    space.kubectl(&["apply", "-f", "../../examples/orders.yaml"]);
    space.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "rcl/orders",
        "--timeout=120s",
    ]);
    let ready = begin.elapsed();
    let line = Line::new(&space.settings, "first-minutes", "", 1)
        .seconds("helm install", installed.as_secs_f64())
        .seconds("apply to Ready", ready.as_secs_f64());
    space.keep(&line);

    let database = Database::watch(&space, "orders");
    database.full_strength();
    client_pod::start(&space, CLIENT, "orders-app").expect("a client");
    clients_connect_with_the_secret_alone(&space);
    standbys_are_read(&space);
    kubectl_shows_it_at_a_glance(&space);
}
