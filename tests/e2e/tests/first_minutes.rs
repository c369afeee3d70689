//! A user's first minutes: the chart, one manifest, and clients that have nothing but the Secret `orders-app`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::Value;
use understudy_cluster::command::wait_for;
use understudy_e2e::client_pod::{self, shell};
use understudy_e2e::controller;
use understudy_e2e::database::Database;
use understudy_e2e::results::Line;
use understudy_e2e::session::secret_text;
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

/// The client checks the server's name and authority. Each try has one thing wrong with it, and the same way leads in where
/// nothing is.
fn nobody_can_stand_in_the_server_s_place(space: &Space, address: IpAddr) {
    let by_name =
        |host: &str| format!(r#"psql "$URI&host={host}&hostaddr={address}" -X -At -c 'SELECT 1'"#);
    let right = format!("orders-primary.{}.svc", space.name);
    assert_eq!(ok(space, &by_name(&right)).trim(), "1");
    let wrong = "orders-primary.elsewhere.svc";
    let said = refused(space, &by_name(wrong));
    let words = format!("does not match host name \"{wrong}\"");
    assert!(said.contains(&words), "{said}");

    // The pod has no file that could be written.
    let under = |authority: &str| {
        format!(
            r#"printf '%s\n' '{authority}' | PGSSLROOTCERT=/dev/stdin psql "$URI" -X -At -c 'SELECT 1'"#
        )
    };
    let own = secret_text(&space.get(&["secret", "orders-app"]), "ca.crt");
    let own = own.expect("the authority's certificate");
    assert_eq!(ok(space, &under(&own)).trim(), "1");
    // Kubernetes' own, which every namespace has.
    let foreign = space.get(&["configmap", "kube-root-ca.crt"])["data"]["ca.crt"].clone();
    let foreign = foreign.as_str().expect("an authority's certificate");
    let said = refused(space, &under(foreign));
    assert!(said.contains("certificate verify failed"), "{said}");
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

/// What the status says of each instance, beside what pods and the primary itself say.
fn the_status_says_where_everything_is(database: &Database<'_>) {
    let space = database.space;
    let (primary, standbys) = (database.primary(), database.standbys());
    let each = |status: &Value| status["instances"].as_array().cloned().unwrap_or_default();
    let is_near = |instance: &Value| instance["name"] == *primary || instance["lag"] == "Near";
    let status = database.wait("no standby is behind", LIMIT, |status| {
        each(status).iter().all(is_near)
    });
    assert_eq!(status["timeline"], status["term"], "{status:#}");
    let instances = each(&status);
    assert_eq!(instances.len(), 1 + standbys.len(), "{status:#}");
    for instance in &instances {
        let name = instance["name"].as_str().expect("a name");
        let pod = database.instance(name);
        assert_eq!(instance["node"], pod.node.name(), "{instance:#}");
        assert_eq!(instance["timeline"], status["timeline"], "{instance:#}");
        let is_standby = name != primary;
        assert_eq!(instance["lag"].is_null(), !is_standby, "{instance:#}");
        let mut positions = vec!["flushLsn"];
        positions.extend(is_standby.then_some("replayLsn"));
        for position in positions {
            // Where it was a moment ago: the primary has it by now.
            let at = instance[position].as_str().expect(position);
            let sql = format!(
                "SELECT '0/0' < '{at}'::pg_lsn AND '{at}'::pg_lsn <= pg_current_wal_flush_lsn()"
            );
            assert_eq!(database.value(&sql), "t", "{position}: {instance:#}");
        }
    }
    // An autoscaler measures the pods that the scale sub-resource selects.
    let scale = space.get(&["rcl", "orders", "--subresource=scale"]);
    assert_eq!(scale["status"]["selector"], status["selector"]);
    let selector = scale["status"]["selector"].as_str().expect("a selector");
    let wanted: BTreeSet<String> = standbys
        .iter()
        .map(|name| format!("pod/{name}-0"))
        .collect();
    wait_for(
        "the selector to find the standbys and no other pod",
        LIMIT,
        || {
            let selected = space.try_kubectl(&["get", "pods", "-l", selector, "-o", "name"])?;
            let selected: BTreeSet<String> = selected.lines().map(str::to_owned).collect();
            Ok((selected == wanted).then_some(()))
        },
    )
    .unwrap_or_else(|error| panic!("{error:#}"));
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
    nobody_can_stand_in_the_server_s_place(&space, database.service("primary").ip());
    standbys_are_read(&space);
    kubectl_shows_it_at_a_glance(&space);
    the_status_says_where_everything_is(&database);
}
