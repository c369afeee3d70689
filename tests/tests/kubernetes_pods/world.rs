//! The cluster as the operator would know it: its object in a real API server, its Secrets, its certificates.

use std::process::Output;

use operator::crd::ReplicatedCluster;
use operator::ids::Millis;
use operator::render::{Credentials, Secrets};
use operator::validate::validate;
use serde_json::{Value, json};
use understudy_tests::api_server::ApiServer;

const MANIFEST: &str = "\
apiVersion: understudy.dev/v1alpha1
kind: ReplicatedCluster
metadata: {name: orders, namespace: shop}
spec:
  replicas: 1
  storage: {size: 1Gi}
  failover: {switchoverWithinMilliseconds: 60000}
  parameters:
    default_transaction_read_only: 'on'
    statement_timeout: 1s
    lock_timeout: 1ms
    idle_in_transaction_session_timeout: 1ms
  bootstrap:
    database: shop
    owner: keeper
    sql:
    - CREATE TABLE item (id integer PRIMARY KEY); INSERT INTO item VALUES (1);
    - INSERT INTO nowhere VALUES (2)
";

/// The cluster as the operator would know it.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) uid: String,
    pub(crate) credentials: Credentials,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new() -> World {
        let server = ApiServer::started().unwrap_or_else(|why| panic!("no API server: {why}"));
        server.ok(&["apply", "-f", "../crds/replicatedclusters.yaml"]);
        let name = "crd/replicatedclusters.understudy.dev";
        server.ok(&["wait", "--for=condition=Established", name, "--timeout=60s"]);
        server.ok(&["create", "namespace", "shop"]);
        server.apply(MANIFEST, &[]).expect("taken");
        let stored = server.get(&["rcl", "orders", "-n", "shop"]).to_string();
        let object: ReplicatedCluster = serde_json::from_str(&stored).expect("reads");
        let uid = object.metadata.uid.clone().expect("stored");
        let cluster = validate(&object).expect("valid");
        let credentials = Credentials::complete(&cluster, &uid, &Secrets::new(), Millis::now());
        World {
            server,
            uid,
            credentials: credentials.expect("made"),
            dir: tempfile::tempdir().expect("a folder"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    pub(crate) fn record(&self, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let what = [
            "patch",
            "rcl",
            "orders",
            "-n",
            "shop",
            "--type=merge",
            "-p",
            &patch,
        ];
        let all: Vec<&str> = what.into_iter().chain(["--subresource=status"]).collect();
        self.server.ok(&all);
    }

    pub(crate) fn change_spec(&self, spec: &Value) -> i64 {
        let output = self.try_change_spec(spec);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{spec}: {errors}");
        self.generation()
    }

    pub(crate) fn try_change_spec(&self, spec: &Value) -> Output {
        let patch = json!({ "spec": spec }).to_string();
        let what = [
            "patch",
            "rcl",
            "orders",
            "-n",
            "shop",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.server.kubectl(&what)
    }

    pub(crate) fn generation(&self) -> i64 {
        let stored = self.server.get(&["rcl", "orders", "-n", "shop"]);
        stored["metadata"]["generation"].as_i64().expect("a number")
    }
}
