//! The API of the operator before both its judges: `validate`, and a real API server with the CRD's own rules.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use operator::crd::{ReplicatedCluster, ReplicatedClusterStatus, owned, rules, to_yaml};
use operator::decide::Routes;
use operator::ids::Millis;
use operator::kubernetes::as_applied;
use operator::render::{
    Credentials, Existing, Found, Input, PodSeen, Rendered, Secrets, Workload, WriteRouting, render,
};
use operator::validate::{Invalid, ValidatedCluster, unknown_fields, validate, validate_change};
use understudy_tests::api_server::ApiServer;
use understudy_tests::manifests::{Case, Verdict, cases};

/// Tests run in the folder of their crate.
const ROOT: &str = "..";

fn parsed(text: &str) -> Result<ReplicatedCluster, String> {
    serde_norway::from_str(text).map_err(|error| error.to_string())
}

fn valid(text: &str) -> (ReplicatedCluster, ValidatedCluster) {
    let manifest = parsed(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let validated = validate(&manifest).unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
    (manifest, validated)
}

/// What `validate` says of a case; a manifest that can't be read has one finding without a path.
fn findings(case: &Case) -> Vec<Invalid> {
    let unread = |error: String| Invalid {
        path: case.at.clone(),
        problem: error,
        remedy: String::new(),
    };
    let manifest = match parsed(&case.manifest) {
        Ok(manifest) => manifest,
        Err(error) => return vec![unread(error)],
    };
    let fields: serde_json::Value = serde_norway::from_str(&case.manifest).expect("YAML");
    let mut all = unknown_fields(&fields);
    all.extend(validate(&manifest).err().unwrap_or_default());
    if let Some(stored) = &case.stored {
        all.extend(validate_change(&valid(stored).0, &manifest));
    }
    all
}

#[test]
fn validate_says_what_the_table_says() {
    for case in cases() {
        let name = &case.name;
        let found = findings(&case);
        if matches!(case.verdict, Verdict::Taken | Verdict::RefusedByApi) {
            assert!(found.is_empty(), "{name}: {found:?}");
            continue;
        }
        let told = found
            .iter()
            .any(|f| f.path.starts_with(&case.at) && f.to_string().contains(&case.says));
        assert!(told, "{name}: {} is not in {found:?}", case.says);
        assert_eq!(found.len(), 1, "{name}: one fault, one finding: {found:?}");
    }
}

/// A rule that no manifest breaks could be wrong unnoticed. Of what is owned by name, the table has some names of each
/// list; `owned_names_are_refused` goes through them all.
#[test]
fn every_rule_refuses_a_manifest_of_the_table() {
    let cases = cases();
    for rule in rules() {
        let at = format!("{}{}", rule.at, rule.field_path.unwrap_or_default());
        let at = match at.trim_start_matches('.') {
            "" => "metadata.name".to_owned(),
            // The table's first entry is the wrong one.
            at => at.replace(".[]", "[0]"),
        };
        let said = rule.message.trim_start_matches("metadata.name: ");
        let breaks = |case: &&Case| {
            case.verdict != Verdict::Taken && case.at == at && said.contains(&case.api_says)
        };
        let is_owned = said.starts_with("the operator owns ");
        let breaking = cases.iter().filter(breaks).count();
        assert!(
            breaking > 0 || is_owned,
            "nothing in the table breaks {at}: {said}"
        );
    }
}

/// A manifest for each name that the operator owns, spelled in its own way where case does not matter.
fn owned_names() -> Vec<(String, String)> {
    let odd = |name: &str| {
        let letters = name.chars().enumerate();
        let spelled = letters.map(|(index, c)| match index % 2 {
            0 => c.to_ascii_uppercase(),
            _ => c,
        });
        spelled.collect::<String>()
    };
    let mut all = Vec::new();
    for (name, why) in owned::SETTINGS {
        let field = format!("parameters: {{{}: x}}", odd(name));
        all.push((field, format!("the operator owns {name}: {why}; remove it")));
    }
    for prefix in owned::LABEL_KEYS {
        let field = format!("podMetadata: {{labels: {{{prefix}a: x}}}}");
        all.push((
            field,
            format!("the operator owns keys like {prefix}; remove it"),
        ));
    }
    for prefix in owned::ENV_PREFIXES {
        let field = format!("env: [{{name: {prefix}A, value: x}}]");
        all.push((
            field,
            format!("the operator owns variables like {prefix}*; remove it"),
        ));
    }
    let whole = |field: String| {
        format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: owned}}\nspec: {{storage: {{size: 1Gi}}, {field}}}\n"
        )
    };
    all.into_iter()
        .map(|(field, says)| (whole(field), says))
        .collect()
}

#[test]
fn owned_names_are_refused() {
    for (manifest, says) in owned_names() {
        let found = validate(&parsed(&manifest).expect("reads")).expect_err("refused");
        assert!(found[0].to_string().contains(&says), "{found:?}\n{says}");
    }
}

/// Settings by which a manifest could take an instance from its operator: to another port, to another primary, out of the
/// role that it has, out of TLS, to files that nobody watches. They stand here by name, because `owned` itself could lose one.
const TIES: [&str; 39] = [
    "archive_cleanup_command",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "hot_standby",
    "http_listen",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "standby_mode",
    "synchronous_standby_names",
    "trigger_file",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
];
/// Of those that begin with `understudy.`: what the supervisor writes, and one that no engine knows yet.
const TIES_BY_PREFIX: [&str; 6] = [
    "understudy.cluster_id",
    "understudy.control_socket",
    "understudy.disk_full",
    "understudy.instance_id",
    "understudy.promise_file",
    "understudy.of_tomorrow",
];

#[test]
fn no_setting_takes_an_instance_from_its_operator() {
    for name in TIES.iter().chain(&TIES_BY_PREFIX) {
        let manifest = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: untied}}\nspec: {{storage: {{size: 1Gi}}, parameters: {{{name}: x}}}}\n"
        );
        let found = validate(&parsed(&manifest).expect("reads")).expect_err(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(
            found[0].to_string().contains("the operator owns "),
            "{found:?}"
        );
    }
    let known = owned::SETTINGS.iter().map(|(name, _)| *name);
    let missing: Vec<&str> = known.filter(|name| !TIES.contains(name)).collect();
    assert!(missing.is_empty(), "to be kept here too: {missing:?}");
}

/// Nothing in the set-up brings Kubernetes' programs yet: see [`ApiServer::started`] for where they are looked for.
#[test]
#[ignore = "needs kube-apiserver, kubectl and etcd"]
fn a_real_api_server_judges_and_stores() {
    let server = ApiServer::started().unwrap_or_else(|why| panic!("no API server: {why}"));
    install(&server);
    judge(&server);
    takes_the_longest_list_of_records(&server);
    what_was_stored_under_older_rules_goes_on(&server);
    defaults_are_stored(&server);
    scales(&server);
    shows_columns(&server);
    server.ok(&["create", "priorityclass", "high", "--value=1000"]);
    for variant in [WriteRouting::EndpointSlice, WriteRouting::Selector] {
        takes_what_is_rendered(&server, variant);
    }
    instances_read_their_own_cluster_only(&server);
}

/// The file itself, by plain `kubectl apply`, twice.
fn install(server: &ApiServer) {
    let file = format!("{ROOT}/crds/replicatedclusters.yaml");
    let first = server.ok(&["apply", "-f", &file]);
    assert!(first.contains("created"), "{first}");
    let second = server.ok(&["apply", "-f", &file]);
    assert!(second.contains("unchanged"), "{second}");
    let name = "crd/replicatedclusters.understudy.dev";
    server.ok(&["wait", "--for=condition=Established", name, "--timeout=60s"]);
    let conditions = server.get(&[name])["status"]["conditions"].to_string();
    assert!(!conditions.contains("NonStructuralSchema"), "{conditions}");
    server.ok(&["apply", "-f", &format!("{ROOT}/examples/orders.yaml")]);
    server.ok(&["delete", "rcl", "orders"]);
    // Nobody runs it here: only whether it is a pod.
    let client = format!("{ROOT}/examples/client.yaml");
    server.ok(&["apply", "--dry-run=client", "-f", &client]);
}

fn judge(server: &ApiServer) {
    let mut wrong = Vec::new();
    for case in cases() {
        if let Some(stored) = &case.stored {
            server
                .apply(stored, &[])
                .unwrap_or_else(|said| panic!("{}: {said}", case.name));
        }
        let said = server.apply(&case.manifest, &["--dry-run=server"]);
        match (case.verdict, &said) {
            (Verdict::Taken, Ok(_)) => {}
            (Verdict::Refused | Verdict::RefusedByApi | Verdict::ChangeRefused, Err(words))
                if words.contains(&case.api_says) && words.contains(&case.at) => {}
            _ => wrong.push(format!("{}: {said:?}", case.name)),
        }
        if case.stored.is_some() {
            server.ok(&["delete", "rcl", case.object()]);
        }
    }
    for (manifest, says) in owned_names() {
        let said = server.apply(&manifest, &["--dry-run=server"]);
        if !said.as_ref().is_err_and(|words| words.contains(&says)) {
            wrong.push(format!("{says}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A rule that is too dear is told of by the first manifest that is long enough.
fn takes_the_longest_list_of_records(server: &ApiServer) {
    for (begin, end) in [
        ("hostssl all ", " all scram-sha-256 clientcert=verify-full"),
        ("hostnossl all ", " 10.0.0.0/8 md5"),
        ("host all ", " samenet trust"),
    ] {
        let role = "r".repeat(512 - begin.len() - end.len());
        let records = vec![format!("{begin}{role}{end}"); 64];
        let records = serde_json::to_string(&records).expect("JSON");
        let manifest = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: records}}\nspec: {{storage: {{size: 1Gi}}, pgHba: {records}}}\n"
        );
        valid(&manifest);
        let said = server.apply(&manifest, &["--dry-run=server"]);
        assert!(said.is_ok(), "{begin}: {said:?}");
    }
}

/// The definition as somebody's older one may have been: it takes every toleration.
fn older_definition() -> String {
    let text = std::fs::read_to_string(format!("{ROOT}/crds/replicatedclusters.yaml"));
    let mut crd: serde_json::Value =
        serde_norway::from_str(&text.expect("it is there")).expect("YAML");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let toleration = crd.pointer_mut(&format!("{spec}/tolerations/items"));
    let toleration = toleration.expect("a schema");
    toleration["x-kubernetes-validations"] = serde_json::json!([]);
    for field in ["operator", "effect", "key", "value"] {
        let schema = serde_json::json!({"type": "string", "maxLength": 1024});
        toleration["properties"][field] = schema;
    }
    crd.to_string()
}

/// Until the API server goes by a definition that was just changed.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// An operator's upgrade brings stricter rules: what is stored keeps its record, its requests and its size.
fn what_was_stored_under_older_rules_goes_on(server: &ApiServer) {
    let with = |toleration: &str| {
        format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\nmetadata: {{name: older}}\n\
             spec: {{storage: {{size: 1Gi}}, tolerations: [{toleration}]}}\n"
        )
    };
    let wrong = with("{operator: Exists, value: x, effect: Never}");
    assert!(server.apply(&wrong, &[]).is_err());
    server.apply(&older_definition(), &[]).expect("taken");
    until("the older definition", || server.apply(&wrong, &[]).is_ok());
    let file = format!("{ROOT}/crds/replicatedclusters.yaml");
    server.ok(&["apply", "-f", &file]);
    let other = with("{operator: Exists, value: y, effect: Never}");
    until("the newer definition", || {
        server.apply(&other, &["--dry-run=server"]).is_err()
    });
    let record = r#"{"status": {"term": 7, "recordVersion": 1}}"#;
    let patch = ["--subresource=status", "--type=merge", "-p", record];
    server.ok(&[&["patch", "rcl", "older"][..], &patch].concat());
    server.ok(&[
        "annotate",
        "rcl",
        "older",
        "understudy.dev/switchover-to=any",
    ]);
    server.ok(&["scale", "rcl", "older", "--replicas=3"]);
    let stored = server.get(&["rcl", "older"]);
    assert_eq!(stored["status"]["term"], 7);
    assert_eq!(stored["spec"]["replicas"], 3);
    let right = with("{operator: Exists}");
    server
        .apply(&right, &[])
        .expect("what is corrected is taken");
    server.ok(&["delete", "rcl", "older"]);
}

/// What the API server fills in is what `validate` takes for granted.
fn defaults_are_stored(server: &ApiServer) {
    for (name, spec) in [
        ("least", "{storage: {size: 1Gi}}"),
        (
            "empty-parts",
            "{storage: {size: 1Gi}, bootstrap: {}, failover: {}, serviceTemplate: {}, podMetadata: {}, resources: {}}",
        ),
        (
            "nulls",
            "{storage: {size: 1Gi, class: null}, bootstrap: null, failover: null, affinity: null, image: null}",
        ),
        (
            "some",
            "{storage: {size: 1Gi}, bootstrap: {owner: me}, failover: {lostAfterMilliseconds: 4000}, \
             resources: {limits: {cpu: 2, memory: 1073741824}}}",
        ),
    ] {
        let manifest = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
        );
        server.apply(&manifest, &[]).expect("taken");
        let stored = server.get(&["rcl", name]);
        if name == "least" {
            let wanted = serde_json::json!({
                "bootstrap": {"database": "app", "owner": "app"},
                "durability": "quorum",
                "failover": {
                    "asyncAnswersWithinMilliseconds": 2000,
                    "lostAfterMilliseconds": 3000,
                    "memberLostAfterMilliseconds": 5000,
                    "reseedAfterMilliseconds": 60000,
                    "restartWithinMilliseconds": 1000,
                    "switchoverWithinMilliseconds": 10000,
                },
                "parameters": {},
                "replicas": 2,
                "storage": {"size": "1Gi"},
            });
            assert_eq!(stored["spec"], wanted);
        }
        let read: ReplicatedCluster = serde_json::from_str(&stored.to_string()).expect("reads");
        let stored = validate(&read).expect("what is stored is valid");
        assert_eq!(stored, valid(&manifest).1, "{name}");
        server.ok(&["delete", "rcl", name]);
    }
}

const SCALED: &str = "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
                      metadata: {name: scaled}\nspec: {storage: {size: 1Gi}, durability: strict}\n";

fn scales(server: &ApiServer) {
    server.apply(SCALED, &[]).expect("taken");
    server.ok(&["scale", "rcl", "scaled", "--replicas=4"]);
    assert_eq!(server.get(&["rcl", "scaled"])["spec"]["replicas"], 4);
    // What is asked for only as long as there are two: there are four.
    let late = [
        "scale",
        "rcl",
        "scaled",
        "--current-replicas=2",
        "--replicas=5",
    ];
    assert!(!server.kubectl(&late).status.success());
    assert_eq!(server.get(&["rcl", "scaled"])["spec"]["replicas"], 4);
    for (replicas, why) in [
        ("--replicas=16", "less than or equal to 15"),
        ("--replicas=0", "strict waits for every standby"),
    ] {
        let refused = server.kubectl(&["scale", "rcl", "scaled", replicas]);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && words.contains(why), "{words}");
    }
    assert_eq!(server.get(&["rcl", "scaled"])["spec"]["replicas"], 4);
}

/// What a user sees at a glance, of a status as the operator writes it.
fn shows_columns(server: &ApiServer) {
    let mut status = ReplicatedClusterStatus {
        record_version: 3,
        current_primary: Some("scaled-2-0".to_owned()),
        phase: Some(operator::crd::Phase::Running),
        replicas: 1,
        selector: Some("understudy.dev/cluster=scaled,understudy.dev/role=standby".to_owned()),
        ..ReplicatedClusterStatus::default()
    };
    status.count_ready(5);
    let patch = serde_json::json!({"status": status}).to_string();
    server.ok(&[
        "patch",
        "rcl",
        "scaled",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);
    let table = server.ok(&["get", "rcl"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["NAME", "READY", "PHASE", "PRIMARY", "AGE"],
        "{table}"
    );
    assert_eq!(
        rows[1][..4],
        ["scaled", "0/5", "Running", "scaled-2-0"],
        "{table}"
    );
    let everything = server.ok(&["get", "all"]);
    assert!(
        everything.contains("replicatedcluster.understudy.dev/scaled"),
        "{everything}"
    );
    let scale = server.ok(&[
        "get",
        "--raw",
        "/apis/understudy.dev/v1alpha1/namespaces/default/replicatedclusters/scaled/scale",
    ]);
    let scale: serde_json::Value = serde_json::from_str(&scale).expect("JSON");
    assert_eq!(scale["spec"]["replicas"], 4);
    assert_eq!(scale["status"]["replicas"], 1);
    let selector = "understudy.dev/cluster=scaled,understudy.dev/role=standby";
    assert_eq!(scale["status"]["selector"], selector);
    server.ok(&["delete", "rcl", "scaled"]);
}

/// A stored cluster and what is rendered for it.
struct Stored {
    uid: String,
    cluster: ValidatedCluster,
    credentials: Credentials,
    existing: Existing,
    instances: Vec<String>,
    routing: WriteRouting,
}

impl Stored {
    fn new(server: &ApiServer, namespace: &str, spec: &str, routing: WriteRouting) -> Stored {
        let manifest = format!(
            "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
             metadata: {{name: orders, namespace: {namespace}}}\nspec: {spec}\n"
        );
        server.apply(&manifest, &[]).expect("taken");
        let stored = server.get(&["rcl", "orders", "-n", namespace]);
        let read: ReplicatedCluster = serde_json::from_str(&stored.to_string()).expect("reads");
        let cluster = validate(&read).expect("valid");
        let uid = read.metadata.uid.expect("stored objects have one");
        let credentials = Credentials::complete(&cluster, &uid, &Secrets::new(), Millis::now());
        let pod = PodSeen {
            name: "orders-1-0".to_owned(),
            uid: "1".to_owned(),
            ip: Some("10.1.2.3".to_owned()),
            node: Some("node1".to_owned()),
        };
        Stored {
            credentials: credentials.expect("made"),
            existing: Existing {
                pods: BTreeMap::from([("orders-1".to_owned(), pod)]),
                ..Existing::default()
            },
            instances: vec!["orders-1".to_owned(), "orders-2".to_owned()],
            uid,
            cluster,
            routing,
        }
    }

    fn render(&self) -> Rendered {
        let routes = Routes {
            record_version: 1,
            primary: Some("orders-1".to_owned()),
            standbys: Vec::new(),
        };
        render(&Input {
            cluster: &self.cluster,
            uid: &self.uid,
            record: None,
            routes: Some(&routes),
            instances: &self.instances,
            existing: &self.existing,
            credentials: &self.credentials,
            default_image: "registry.example/understudy:1",
            routing: self.routing,
        })
    }

    /// Brings everything, as the operator does.
    fn apply(&mut self, server: &ApiServer) {
        let rendered = self.render();
        assert!(rendered.foreign.is_empty(), "{:?}", rendered.foreign);
        for object in &rendered.objects {
            let found = Found::new(object.kind(), object.metadata());
            let is_there = self.existing.others.contains(&found);
            bring(server, object, is_there);
            if !is_there {
                self.existing.others.push(found);
            }
        }
        for (name, workload) in rendered.workloads {
            let (Workload::Create(set) | Workload::Replace(set)) = workload else {
                continue;
            };
            let is_there = self.existing.stateful_sets.contains_key(&name);
            bring(server, set.as_ref(), is_there);
            self.existing.stateful_sets.insert(name, *set);
        }
    }
}

const MANAGER: &str = "--field-manager=understudy-operator";

/// Created, and from then on applied on the server's side.
fn bring<T: serde::Serialize>(server: &ApiServer, object: &T, is_there: bool) {
    if !is_there {
        let yaml = to_yaml(object).expect("prints");
        let said = server.feed(&["create", MANAGER, "-f", "-"], &yaml);
        said.unwrap_or_else(|said| panic!("{said}\n{yaml}"));
        return;
    }
    let value = serde_json::to_value(object).expect("JSON");
    let text = |path: &str| {
        let found = value.pointer(path).and_then(serde_json::Value::as_str);
        found.expect("every object has it").to_owned()
    };
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let namespace = text("/metadata/namespace");
    let which = [kind.as_str(), name.as_str(), "-n", namespace.as_str()];
    let there = server.get(&[&which[..], &["--show-managed-fields"]].concat());
    let entries: Vec<ManagedFieldsEntry> =
        serde_json::from_value(there["metadata"]["managedFields"].clone()).expect("entries");
    if let Some(owned) = as_applied(&entries).filter(|_| kind != "EndpointSlice") {
        let patch = serde_json::json!({"metadata": {"managedFields": owned}}).to_string();
        let how = ["--type=merge", MANAGER, "-p", patch.as_str()];
        server.ok(&[&["patch"][..], &which, &how].concat());
    }
    apply(server, object);
}

fn apply<T: serde::Serialize>(server: &ApiServer, object: &T) {
    let yaml = to_yaml(object).expect("prints");
    let options = ["--server-side", "--force-conflicts", MANAGER];
    if let Err(said) = server.apply(&yaml, &options) {
        panic!("{said}\n{yaml}");
    }
}

fn takes_what_is_rendered(server: &ApiServer, routing: WriteRouting) {
    let namespace = match routing {
        WriteRouting::EndpointSlice => "by-slice",
        WriteRouting::Selector => "by-selector",
    };
    server.ok(&["create", "namespace", namespace]);
    server.ok(&[
        "label",
        "namespace",
        namespace,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let full = "{storage: {size: 1Gi}, resources: {limits: {cpu: 2}}, nodeSelector: {a: b}, \
                imagePullPolicy: Never, imagePullSecrets: [{name: registry}], priorityClassName: high, \
                tolerations: [{key: dedicated, operator: Exists, effect: NoExecute, tolerationSeconds: 60}], \
                topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}], \
                affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}, \
                podMetadata: {labels: {team: a}}, env: [{name: TZ, value: UTC}], \
                serviceTemplate: {type: NodePort, annotations: {lb.example.com/scheme: internal}}}";
    let mut stored = Stored::new(server, namespace, full, routing);
    stored.apply(server);
    pod_is_admitted(server, &stored);
    // Whatever may change later is taken by the objects that are there.
    let changed = "{storage: {size: 2Gi}, image: other, tolerations: [{operator: Exists}], \
                   failover: {switchoverWithinMilliseconds: 30000}}";
    let next = Stored::new(server, namespace, changed, routing);
    assert_eq!(next.uid, stored.uid);
    stored.cluster = next.cluster;
    let replaced = stored
        .render()
        .workloads
        .values()
        .filter(|workload| matches!(workload, Workload::Replace(_)))
        .count();
    assert_eq!(replaced, 2);
    stored.apply(server);
    let set = server.get(&["statefulset", "orders-1", "-n", namespace]);
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "other");
    assert_eq!(pod["terminationGracePeriodSeconds"], 80);
    what_was_taken_out_is_gone(server, namespace, &set);
    let policy = &set["spec"]["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(policy["whenDeleted"], "Retain");
    assert_eq!(policy["whenScaled"], "Retain");
}

/// Nothing of what only the first manifest had is left.
fn what_was_taken_out_is_gone(server: &ApiServer, namespace: &str, set: &serde_json::Value) {
    let template = &set["spec"]["template"];
    assert!(template["metadata"]["labels"]["team"].is_null(), "{set}");
    let pod = &template["spec"];
    for field in ["nodeSelector", "imagePullSecrets", "priorityClassName"] {
        assert!(pod[field].is_null(), "{field}: {set}");
    }
    // It has what the second one says, or what goes without saying.
    assert_eq!(
        pod["tolerations"],
        serde_json::json!([{"operator": "Exists"}])
    );
    let spread = &pod["topologySpreadConstraints"];
    assert_eq!(spread.as_array().map(Vec::len), Some(1), "{spread}");
    assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname");
    let container = &pod["containers"][0];
    assert!(container["resources"]["limits"].is_null(), "{set}");
    let names: Vec<&str> = container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert!(names.contains(&"UNDERSTUDY_CLUSTER") && !names.contains(&"TZ"));
    let service = server.get(&["service", "orders-any", "-n", namespace]);
    let annotations = &service["metadata"]["annotations"];
    assert!(annotations["lb.example.com/scheme"].is_null(), "{service}");
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(service["spec"]["ports"][0]["nodePort"].is_null());
}

/// A pod of the StatefulSet's, in a namespace that enforces *restricted*: nobody makes pods of StatefulSets here.
fn pod_is_admitted(server: &ApiServer, stored: &Stored) {
    let set = &stored.existing.stateful_sets["orders-1"];
    let template = set.spec.as_ref().expect("a spec").template.clone();
    let mut spec: PodSpec = template.spec.expect("a pod");
    let claim = k8s_openapi::api::core::v1::Volume {
        name: "data".to_owned(),
        persistent_volume_claim: Some(
            k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource {
                claim_name: "data-orders-1-0".to_owned(),
                read_only: None,
            },
        ),
        ..Default::default()
    };
    spec.volumes.get_or_insert_default().push(claim);
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some("orders-1-0".to_owned()),
            namespace: Some(stored.cluster.namespace.clone()),
            ..template.metadata.unwrap_or_default()
        },
        spec: Some(spec),
        status: None,
    };
    apply(server, &pod);
    let namespace = stored.cluster.namespace.as_str();
    let admitted = server.get(&["pod", "orders-1-0", "-n", namespace]);
    let spec = &admitted["spec"];
    assert_eq!(spec["priority"], 1000, "its class's: {spec}");
    let secrets = serde_json::json!([{"name": "registry"}]);
    assert_eq!(spec["imagePullSecrets"], secrets);
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Never");
}

fn instances_read_their_own_cluster_only(server: &ApiServer) {
    let user = "--as=system:serviceaccount:by-slice:orders-instances";
    let may = |verb: &str, what: &str, namespace: &str| {
        let answer = server.kubectl(&["auth", "can-i", verb, what, "-n", namespace, user]);
        answer.status.success()
    };
    let own = "replicatedclusters.understudy.dev/orders";
    for verb in ["get", "list", "watch"] {
        assert!(may(verb, own, "by-slice"), "{verb}");
        assert!(!may(verb, own, "by-selector"), "{verb}");
        for what in [
            "replicatedclusters.understudy.dev",
            "replicatedclusters.understudy.dev/other",
            "secrets/orders-app",
            "pods",
            "statefulsets.apps",
        ] {
            assert!(!may(verb, what, "by-slice"), "{verb} {what}");
        }
    }
    for verb in ["create", "update", "patch", "delete"] {
        assert!(!may(verb, own, "by-slice"), "{verb}");
    }
    let status = ["auth", "can-i", "update", own, "--subresource=status"];
    let all: Vec<&str> = status.into_iter().chain(["-n", "by-slice", user]).collect();
    assert!(!server.kubectl(&all).status.success(), "its status");
}
