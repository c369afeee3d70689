//! The Helm chart and the one file for plain kubectl: what they render to, what they refuse, and that they carry the CRD
//! and the rights that the operator needs. `make chart-test` brings helm and runs those that are ignored without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde::Deserialize as _;
use serde_json::Value;
use understudy_tests::programs::{run, run_ok};

const CHART: &str = "../charts/understudy";
const CRD: &str = "../crds/replicatedclusters.yaml";
const DEPLOY: &str = "../deploy/understudy.yaml";
/// A helm that was not built with a Kubernetes version knows only an ancient one by itself.
const KUBERNETES: &str = "1.33.0";

fn helm(arguments: &[&str]) -> Command {
    let helm = std::env::var_os("UNDERSTUDY_HELM").expect("`make chart-test` says where helm is");
    let mut command = Command::new(helm);
    command.args(arguments);
    command
}

/// The chart as a release `understudy` in the namespace `understudy-system`.
fn template(arguments: &[&str]) -> Command {
    let mut command = helm(&["template", "understudy", CHART]);
    command.args(["--namespace", "understudy-system"]);
    command.args(["--kube-version", KUBERNETES]).args(arguments);
    command
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// Compares with a file of the repository; UNDERSTUDY_WRITE_SNAPSHOTS=1 writes it.
fn same_as_file(path: &str, text: &str) {
    if std::env::var_os("UNDERSTUDY_WRITE_SNAPSHOTS").is_some() {
        let folder = Path::new(path).parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("made");
        std::fs::write(path, text).expect("written");
        return;
    }
    let kept = read(path);
    assert!(
        kept == text,
        "{path} is not what the chart renders to; look at the difference after \
         `UNDERSTUDY_WRITE_SNAPSHOTS=1 make chart-test`\n{text}"
    );
}

#[test]
fn the_chart_carries_the_crd_of_the_repository() {
    let carried = read(&format!("{CHART}/files/replicatedclusters.yaml"));
    assert!(
        carried == read(CRD),
        "the chart's CRD is out of date: copy {CRD} to {CHART}/files/"
    );
}

#[test]
fn the_chart_has_the_version_of_the_programs() {
    let chart: Value = serde_norway::from_str(&read(&format!("{CHART}/Chart.yaml"))).expect("YAML");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(chart["appVersion"], version);
    assert_eq!(chart["version"], version);
}

/// The CRD says which Kubernetes it needs at least, and the chart asks for the same.
#[test]
fn the_chart_asks_for_the_least_kubernetes_of_the_crd() {
    let crd: Value = serde_norway::from_str(&read(CRD)).expect("YAML");
    let least = crd["metadata"]["annotations"]["understudy.dev/least-kubernetes"].clone();
    let least = least.as_str().expect("an annotation").to_owned();
    let chart: Value = serde_norway::from_str(&read(&format!("{CHART}/Chart.yaml"))).expect("YAML");
    assert_eq!(chart["kubeVersion"], format!(">={least}.0-0"));
}

/// Every kind of object that a cluster is made of, as the snapshots of `render` have it.
fn rendered_kinds() -> BTreeSet<(String, String)> {
    let mut kinds = BTreeSet::new();
    for name in ["everything", "least"] {
        let path = format!("../operator/src/render/snapshots/{name}.yaml");
        for object in documents(&read(&path)) {
            let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
            let version = text("apiVersion");
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            if !text("kind").is_empty() {
                kinds.insert((group.to_owned(), text("kind")));
            }
        }
    }
    kinds
}

/// What the operator may do: verbs by group and resource, over all roles that are bound to it.
fn rights(objects: &[Value]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().cloned().unwrap_or_default();
        let texts = list.iter().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let mut rights: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    let bound: Vec<&Value> = objects
        .iter()
        .filter(|object| object["roleRef"].is_object())
        .map(|binding| &binding["roleRef"]["name"])
        .collect();
    for role in objects {
        if !bound.contains(&&role["metadata"]["name"]) {
            continue;
        }
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let verbs = rights.entry((group.clone(), resource)).or_default();
                    verbs.extend(texts(&rule["verbs"]));
                }
            }
        }
    }
    rights
}

fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    }
}

#[test]
fn the_operator_may_make_what_a_cluster_is_made_of_and_no_more() {
    let rights = rights(&documents(&read(DEPLOY)));
    let kinds = rendered_kinds();
    assert!(kinds.len() >= 8, "{kinds:?}");
    for (group, kind) in &kinds {
        let verbs = rights.get(&(group.clone(), plural(kind)));
        let verbs = verbs.unwrap_or_else(|| panic!("no right for {group}/{kind}"));
        for verb in ["get", "list", "watch", "create", "patch", "delete"] {
            assert!(verbs.contains(verb), "{kind}: {verb} is missing");
        }
    }
    // What is created by others, and what nothing is to be made of.
    let made: BTreeSet<_> = kinds
        .iter()
        .map(|(group, kind)| (group.clone(), plural(kind)))
        .collect();
    for ((group, resource), verbs) in &rights {
        assert!(
            !resource.contains('*') && !verbs.contains("*") && !verbs.contains("escalate"),
            "{group}/{resource}: {verbs:?}"
        );
        let may_create = [
            ("coordination.k8s.io", "leases"),
            ("events.k8s.io", "events"),
            ("", "endpoints/restricted"),
        ]
        .contains(&(group.as_str(), resource.as_str()))
            || made.contains(&(group.clone(), resource.clone()));
        assert!(
            may_create || !verbs.contains("create"),
            "{group}/{resource} may be created"
        );
    }
    for absent in ["customresourcedefinitions", "pods/exec", "namespaces"] {
        assert!(!rights.keys().any(|(_, resource)| resource == absent));
    }
    // Of everything else it may do what it does, and nothing more.
    let besides = [
        ("", "endpoints/restricted", "create"),
        ("", "events", "list"),
        ("", "nodes", "list watch"),
        ("", "persistentvolumeclaims", "delete list patch watch"),
        ("", "pods", "delete get list patch watch"),
        ("coordination.k8s.io", "leases", "create get update"),
        ("events.k8s.io", "events", "create patch"),
        (
            "understudy.dev",
            "replicatedclusters",
            "get list patch watch",
        ),
        ("understudy.dev", "replicatedclusters/finalizers", "update"),
        ("understudy.dev", "replicatedclusters/status", "get update"),
    ];
    for ((group, resource), verbs) in &rights {
        let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
        let usual = "create delete get list patch update watch";
        let wanted = besides
            .iter()
            .find(|(of, name, _)| (of, name) == (&group.as_str(), &resource.as_str()))
            .map_or(usual, |(_, _, verbs)| *verbs);
        assert_eq!(verbs.join(" "), wanted, "{group}/{resource}");
    }
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn lint_finds_nothing() {
    let said = run_ok(&mut helm(&["lint", "--strict", "--quiet", CHART]));
    assert!(
        !said.contains("[WARNING]") && !said.contains("[ERROR]"),
        "{said}"
    );
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn the_chart_renders_to_its_snapshots() {
    let without_crd = ["--set", "crd.install=false"];
    let text = run_ok(&mut template(&without_crd));
    same_as_file("chart/snapshots/default.yaml", &text);
    let mut command = template(&without_crd);
    let text = run_ok(command.args(["--values", "chart/every-value.yaml"]));
    same_as_file("chart/snapshots/every-value.yaml", &text);
    let mut command = template(&without_crd);
    let text = run_ok(command.args(["--set", "watchNamespaces={shop,bank}"]));
    same_as_file("chart/snapshots/some-namespaces.yaml", &text);
}

/// Every value that there is does something: set to something else it changes what is rendered.
#[test]
#[ignore = "needs helm: make chart-test"]
fn every_value_has_an_effect() {
    let usual = run_ok(&mut template(&[]));
    let values: Value = serde_norway::from_str(&read("chart/every-value.yaml")).expect("YAML");
    let mut leaves = Vec::new();
    gather_leaves("", &values, &mut leaves);
    assert!(leaves.len() > 15, "{leaves:?}");
    for (path, value) in leaves {
        let mut command = template(&[]);
        command.arg("--set-json").arg(format!("{path}={value}"));
        // These need each other.
        if path == "serviceAccount.create" {
            command.args(["--set", "serviceAccount.name=given"]);
        }
        assert!(
            run_ok(&mut command) != usual,
            "{path}={value} changes nothing"
        );
    }
}

/// A value that is missing there would be in nobody's test.
#[test]
fn the_file_of_all_values_has_all_of_them() {
    let leaves = |path: &str| {
        let values: Value = serde_norway::from_str(&read(path)).expect("YAML");
        let mut leaves = Vec::new();
        gather_leaves("", &values, &mut leaves);
        let names = leaves.into_iter().map(|(name, _)| name);
        names.collect::<BTreeSet<String>>()
    };
    let usual = leaves(&format!("{CHART}/values.yaml"));
    assert_eq!(leaves("chart/every-value.yaml"), usual);
}

fn gather_leaves(path: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    // Maps of the user's own are one value.
    let own = [
        "Annotations",
        "annotations",
        "Labels",
        "nodeSelector",
        "affinity",
        "resources",
    ];
    match value.as_object() {
        Some(fields) if !own.iter().any(|name| path.ends_with(name)) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                gather_leaves(&format!("{path}{dot}{name}"), value, leaves);
            }
        }
        _ => leaves.push((path.to_owned(), value.clone())),
    }
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn upgrades_reach_the_crd_and_uninstalling_keeps_it() {
    let text = run_ok(&mut template(&["--show-only", "templates/crd.yaml"]));
    let mut rendered = documents(&text).remove(0);
    let metadata = rendered["metadata"].as_object_mut().expect("metadata");
    assert!(metadata.remove("labels").is_some());
    let annotations = metadata["annotations"].as_object_mut().expect("a map");
    assert_eq!(
        annotations.remove("helm.sh/resource-policy"),
        Some(Value::from("keep"))
    );
    assert_eq!(rendered, documents(&read(CRD)).remove(0));
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn wrong_values_are_refused_with_their_name() {
    for (values, said) in [
        ("replicas=0", "replicas"),
        ("replicas=two", "replicas"),
        ("replcas=2", "replcas"),
        ("image.repository=", "repository"),
        ("image.repository=a:b", "repository"),
        ("image.tag=a b", "tag"),
        ("image.digest=sha256:12", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("watchNamespaces={shop,shop}", "watchNamespaces"),
        ("image.tag=-a", "tag"),
        ("leaseName=Under_study", "leaseName"),
        ("leaseName=a..b", "leaseName"),
        ("nameOverride=A_b", "nameOverride"),
        ("fullnameOverride=a.b", "fullnameOverride"),
        ("serviceAccount.name=A", "serviceAccount"),
        ("databaseImage=a b", "databaseImage"),
        ("priorityClassName=B_", "priorityClassName"),
        ("podLabels.a=b c", "podLabels"),
        ("resources.limits.cpu=lots", "resources"),
        ("resources.limits.cpu=-1", "resources"),
        ("podLabels.a=1", "podLabels"),
        ("podLabels.app\\.kubernetes\\.io/name=x", "podLabels"),
        (
            "serviceAccount.create=false",
            "serviceAccount.name is needed",
        ),
    ] {
        let output = run(&mut template(&["--set", values]));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{values} is taken");
        assert!(text.contains(said), "{values}: {text}");
    }
}

/// What YAML takes for a number or a boolean, what is longer than a Service's name may be, dots.
#[test]
#[ignore = "needs helm: make chart-test"]
fn whatever_a_release_is_called_its_objects_have_names() {
    let long = format!("understudy-{}", "x".repeat(42));
    let dots = format!("{}y", "x.".repeat(26));
    for (release, namespace, more) in [
        ("123", "on", "nameOverride="),
        ("1e3", "0x1f", "fullnameOverride=12"),
        ("null", "yes", "priorityClassName=no"),
        ("db", "12", "serviceAccount.name=1e3"),
        ("db", "shop", "leaseName=null"),
        ("on", "shop", "nameOverride=on"),
        (long.as_str(), "shop", "nameOverride="),
        (dots.as_str(), "shop", "nameOverride=pg"),
    ] {
        let mut command = helm(&["template", release, CHART, "--namespace", namespace]);
        command.args(["--kube-version", KUBERNETES]);
        command.args(["--set", "crd.install=false"]);
        command.args(["--set-json", r#"watchNamespaces=["123","off"]"#]);
        let text = run_ok(command.args(["--set-string", more]));
        // These are booleans to Kubernetes, and words to the reader below.
        for word in ["on", "off", "yes", "no"] {
            let bare = format!(": {word}");
            assert!(!text.lines().any(|line| line.ends_with(&bare)), "{text}");
        }
        for object in documents(&text) {
            let (kind, metadata) = (&object["kind"], &object["metadata"]);
            let name = metadata["name"].as_str();
            let name = name.unwrap_or_else(|| panic!("{release}: {object}"));
            let longest = if kind == "Service" { 63 } else { 253 };
            assert!((1..=longest).contains(&name.len()), "{kind} {name}");
            let is_label = !name.contains('.') && name.starts_with(char::is_alphabetic);
            assert!(kind != "Service" || is_label, "{name}");
            let is_in = &metadata["namespace"];
            assert!(is_in.is_null() || is_in.is_string(), "{kind} {name}");
            let labels = metadata["labels"].as_object().into_iter().flatten();
            for (key, value) in labels {
                assert!(value.is_string(), "{kind} {name}: {key}");
            }
            let instance = &metadata["labels"]["app.kubernetes.io/instance"];
            assert!(instance == release, "{kind} {name}: {instance}");
            for subject in object["subjects"].as_array().into_iter().flatten() {
                assert!(subject["name"].is_string() && subject["namespace"] == namespace);
            }
            if kind == "Deployment" {
                let pod = &object["spec"]["template"]["spec"];
                assert!(pod["serviceAccountName"].is_string(), "{pod}");
                let class = &pod["priorityClassName"];
                assert!(class.is_null() || class.is_string(), "{pod}");
            }
        }
    }
}

/// As other charts have it.
#[test]
#[ignore = "needs helm: make chart-test"]
fn names_can_be_given() {
    let name = |more: &str| {
        let only = ["--show-only", "templates/deployment.yaml"];
        let text = run_ok(template(&only).args(["--set", more]));
        documents(&text)[0]["metadata"]["name"].clone()
    };
    assert_eq!(name("nameOverride=pg"), "understudy-pg");
    assert_eq!(name("nameOverride=study"), "understudy");
    assert_eq!(name("fullnameOverride=pg"), "pg");
}

/// An upgrade must not make a second operator beside the first one, nor change a selector, which is refused.
#[test]
#[ignore = "needs helm: make chart-test"]
fn a_release_keeps_its_names_and_what_selects_its_pods() {
    let dashes = format!("{}--bbbb", "a".repeat(41));
    let kept = format!("{}--understudy-operator", "a".repeat(41));
    let dots = format!("{}.bbbb", "a".repeat(42));
    let cut = format!("{}-understudy-operator", "a".repeat(42));
    for (release, name) in [
        ("db", "db-understudy-operator"),
        ("understudy", "understudy-operator"),
        ("shop-understudy-2", "shop-understudy-2-operator"),
        (dashes.as_str(), kept.as_str()),
        (dots.as_str(), cut.as_str()),
    ] {
        let render = |more: &[&str]| {
            let mut command = helm(&["template", release, CHART, "--namespace", "shop"]);
            command.args(["--kube-version", KUBERNETES]);
            command.args(["--show-only", "templates/deployment.yaml"]);
            documents(&run_ok(command.args(more))).remove(0)
        };
        let labels = serde_json::json!({
            "app.kubernetes.io/name": "understudy-operator",
            "app.kubernetes.io/instance": release,
        });
        let usual = render(&[]);
        assert_eq!(usual["metadata"]["name"], name);
        for object in [usual, render(&["--set", "fullnameOverride=pg"])] {
            assert_eq!(object["spec"]["selector"]["matchLabels"], labels);
        }
    }
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn an_older_kubernetes_is_refused() {
    let mut command = helm(&["template", "understudy", CHART, "--kube-version", "1.32.9"]);
    let Output { status, stderr, .. } = run(&mut command);
    let text = String::from_utf8_lossy(&stderr);
    assert!(
        !status.success() && text.contains("incompatible with Kubernetes v1.32.9"),
        "{text}"
    );
}

#[test]
#[ignore = "needs helm: make chart-test"]
fn notes_name_the_next_step() {
    // helm shows notes only where it reaches a cluster; a template of a copy of the chart shows them without.
    let dir = tempfile::tempdir().expect("a folder");
    let chart = dir.path().join("understudy");
    run_ok(Command::new("cp").args(["-r", CHART]).arg(&chart));
    let notes = "notes: {{ include \"understudy/templates/NOTES.txt\" . | quote }}";
    std::fs::write(chart.join("templates/notes.yaml"), notes).expect("written");
    let mut command = helm(&["template", "--kube-version", KUBERNETES]);
    command.args(["--set", "watchNamespaces={shop}", "understudy"]);
    let text = run_ok(
        command
            .arg(&chart)
            .args(["--show-only", "templates/notes.yaml"]),
    );
    let notes = documents(&text).remove(0)["notes"].clone();
    let notes = notes.as_str().expect("text");
    for part in [
        "kubectl wait --for=condition=Ready rcl/orders",
        "-n shop",
        "namespaces shop",
    ] {
        assert!(notes.contains(part), "{part} is not in {notes}");
    }
}

/// The file for `kubectl apply -f`: what the chart renders to, in a namespace of its own in which *restricted* is
/// enforced, without helm's marks.
#[test]
#[ignore = "needs helm: make chart-test"]
fn the_file_for_plain_kubectl_is_what_the_chart_renders_to() {
    let rendered = run_ok(&mut template(&[]));
    let is_helms = |line: &&str| !line.trim_start().starts_with("helm.sh/");
    let body: String = rendered
        .lines()
        .filter(is_helms)
        .flat_map(|line| [line, "\n"])
        .collect();
    let body = body.replace("managed-by: Helm", "managed-by: kubectl");
    let head = "\
# The operator, for `kubectl apply -f` without helm. Printed by UNDERSTUDY_WRITE_SNAPSHOTS=1 make chart-test; change the
# chart instead. Put your registry's name before the image, in `image` and in `--default-image`.
---
apiVersion: v1
kind: Namespace
metadata:
  name: understudy-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";
    same_as_file(DEPLOY, &format!("{head}{body}"));
}
