//! Who may do what: an instance's token reads its own cluster and nothing else, and nobody but the operator gives an
//! instance orders.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use understudy_cluster::Cluster;
use understudy_cluster::command::in_network;
use understudy_cluster::image::TOOLBOX;
use understudy_e2e::calls::{self, Answer, Caller};
use understudy_e2e::database::{CONTROL_PORT, Database, HTTP_PORT, Instance, spec};
use understudy_e2e::heal::remove_namespace;
use understudy_e2e::session::secret_text;
use understudy_e2e::space::{self, Space};

/// The namespace of somebody who has nothing to do with the database.
const NEIGHBOURS: &str = "neighbours";

/// A kubeconfig that holds an instance's token and nothing else.
fn kubeconfig_of_instance(space: &Space) -> PathBuf {
    let token = space.kubectl(&["create", "token", "orders-instances"]);
    let text = std::fs::read(space.cluster.kubeconfig()).expect("a kubeconfig");
    let mut config: Value = serde_json::from_slice(&text).expect("it is written as JSON");
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = space.log_folder().join("instance.kubeconfig");
    std::fs::write(&file, config.to_string()).expect("written");
    file
}

/// kubectl as an instance.
fn as_instance(config: &str, space: &Space, arguments: &[&str]) -> anyhow::Result<String> {
    let who = ["--kubeconfig", config];
    space.try_kubectl(&[&who[..], arguments].concat())
}

/// What `kubectl auth can-i --list` lists beside what everybody may: ask what he himself may do.
fn granted(list: &str) -> Vec<&str> {
    list.lines()
        .skip(1)
        .filter(|line| !line.starts_with("selfsubject") && !line.starts_with(' '))
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_instances_token_reads_its_own_cluster_and_nothing_else() {
    let space = Space::share("rights");
    let other = understudy_e2e::database::manifest("sales", &spec(0)).to_string();
    space.apply(&other).expect("applied");
    let _database = Database::create(&space, "orders", &spec(2));
    let file = kubeconfig_of_instance(&space);
    let config = file.to_str().expect("a path of ours");

    let list = as_instance(config, &space, &["auth", "can-i", "--list"]).expect("a list");
    let granted = granted(&list);
    assert_eq!(granted.len(), 1, "more than one right:\n{list}");
    let right = granted[0];
    assert!(
        right.starts_with("replicatedclusters.understudy.dev")
            && right.contains("[orders]")
            && right.contains("[get list watch]"),
        "{right}"
    );
    let read = as_instance(config, &space, &["get", "rcl", "orders"]);
    assert!(read.expect("its own cluster").contains("orders"));
    for refused in [
        &["get", "rcl", "sales"][..],
        &["get", "rcl"],
        &["get", "secrets"],
        &["get", "secret", "orders-operator"],
        &["get", "pods"],
        &["get", "nodes"],
        &["delete", "pod", "orders-1-0"],
        &["scale", "rcl", "orders", "--replicas=0"],
        &[
            "annotate",
            "rcl",
            "orders",
            "understudy.dev/switchover-to=any",
        ],
        &[
            "patch",
            "rcl",
            "orders",
            "--type=merge",
            "-p",
            "{\"status\":null}",
            "--subresource=status",
        ],
        &["create", "token", "orders-instances"],
        // As somebody else: that is a right of its own.
        &["get", "rcl", "orders", "--as=system:admin"],
    ] {
        let error = as_instance(config, &space, refused).expect_err(&refused.join(" "));
        let text = format!("{error:#}");
        assert!(
            text.contains("forbidden") || text.contains("Forbidden"),
            "{refused:?}: {text}"
        );
    }
    space.kubectl(&["delete", "rcl", "sales", "--timeout=120s"]);
}

/// A certificate and its key, PEM.
type Pair = (String, String);
/// What a refusal of a call has to be, by who calls for what.
type Refused = fn(&str, anyhow::Result<Answer>);

/// Heard, and refused for what the caller is: not one who gives orders.
#[track_caller]
fn is_unauthorized(what: &str, answer: anyhow::Result<Answer>) {
    let Answer { status, body } = answer.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    assert_eq!(status, 401, "{what}: {body}");
    assert!(body.contains("the operator's client certificate"), "{body}");
}

/// Not even heard: the handshake ends with the server's word that it does not know who vouches for the caller.
#[track_caller]
fn is_shut_out(what: &str, answer: anyhow::Result<Answer>) {
    let error = answer.expect_err(what);
    let said = format!("{error:#}");
    assert!(
        said.contains("received fatal alert: UnknownCA"),
        "{what}: {said}"
    );
}

/// A pod in another namespace, which has nothing to do with the database.
fn start_neighbour(cluster: &Cluster) {
    let mut neighbours = space::namespace(NEIGHBOURS);
    // So that the next test takes it away where this one does not come so far.
    neighbours["metadata"]["labels"][space::LABEL] = json!("test");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "client", "namespace": NEIGHBOURS},
        "spec": {
            "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "client", "image": TOOLBOX, "imagePullPolicy": "Never",
                "command": ["sleep", "86400"],
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                    "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    for object in [neighbours, pod] {
        let applied = cluster.apply(&object.to_string());
        applied.unwrap_or_else(|error| panic!("{error:#}"));
    }
    let ready = ["wait", "-n", NEIGHBOURS, "--for=condition=Ready"];
    let waited = cluster.kubectl(&[&ready[..], &["pod/client", "--timeout=120s"]].concat());
    waited.unwrap_or_else(|error| panic!("{error:#}"));
}

/// It reaches every port of an instance, because nothing here enforces the instances' NetworkPolicy. The client is the
/// machine's own, in the pod's network: the pod's speaks no TLS that the instance takes.
fn neighbours_are_refused(cluster: &Cluster, instance: &Instance) {
    start_neighbour(cluster);
    let said = |line: &str| {
        let exec = ["exec", "-n", NEIGHBOURS, "client", "--", "sh", "-c", line];
        let said = cluster.kubectl(&exec);
        said.unwrap_or_else(|error| panic!("{line}: {error:#}"))
    };
    let address = SocketAddr::new(instance.address, CONTROL_PORT);
    let client = cluster.container(NEIGHBOURS, "client", None);
    let client = client.unwrap_or_else(|error| panic!("{error:#}"));
    let network = PathBuf::from(format!("/proc/{}/ns/net", client.pid));
    let ask = |path: &str, sends: &[&str]| {
        let mut wget = in_network(&network, "busybox");
        wget.args(["timeout", "20", "wget", "-q", "-O", "-"]);
        wget.arg("--no-check-certificate").args(sends);
        let output = wget.arg(format!("https://{address}{path}")).output();
        let output = output.expect("busybox runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    };
    // So it does get through to the door, which is open for a probe alone.
    let alive = ask("/livez", &[]);
    assert_eq!(alive.trim(), "ok");
    let posts: &[&str] = &["--post-data", "{}"];
    for (path, sends) in [("/status", &[][..]), ("/promote", posts), ("/seal", posts)] {
        let said = ask(path, sends);
        assert!(said.contains("HTTP/1.1 401 Unauthorized"), "{path}: {said}");
    }
    // On the engine's own port, which is open to everybody, there is no such door at all. This end stays open until there is
    // an answer: a server need not answer who has hung up.
    let said = said(&format!(
        "{{ printf 'POST /promote HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-length: 2\\r\\n\\r\\n{{}}'; \
         sleep 2; }} | timeout 20 nc {} {HTTP_PORT}",
        instance.address
    ));
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    remove_namespace(cluster, NEIGHBOURS).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn nobody_but_the_operator_gives_an_instance_orders() {
    let space = Space::share("orders-of-strangers");
    // A stranger with a cluster of his own: he has an operator's certificate, of another authority.
    let stranger = Database::create(&space, "stranger", &spec(0));
    let database = Database::create(&space, "orders", &spec(2));
    let term = database.term();
    let secret = |name: &str| space.get(&["secret", name]);
    let text = |secret: &Value, key: &str| secret_text(secret, key).expect("in the Secret");
    let (own, foreign) = (secret("orders-operator"), secret("stranger-operator"));
    let instances = secret("orders-client");
    let authority = text(&own, "ca.crt");
    let pair = |secret: &Value| (text(secret, "tls.crt"), text(secret, "tls.key"));
    let (of_foreign, of_instances, of_operator) = (pair(&foreign), pair(&instances), pair(&own));
    let standby = database.instance(&database.standbys()[0]);
    let control = SocketAddr::new(standby.address, CONTROL_PORT);
    let host = format!("orders-primary.{}.svc", space.name);
    let host = host.as_str();
    let record = database.status();
    let member = &record["inSync"][0]["members"][0];
    let promote = json!({
        "term": term + 1, "candidate": member["id"],
        "set": {"term": term + 1, "counter": 0, "members": [], "required": 0},
    });
    let seal = json!({ "term": term + 1 });
    let callers: [(&str, Option<&Pair>, Refused); 3] = [
        ("nobody", None, is_unauthorized),
        ("a stranger's operator", Some(&of_foreign), is_shut_out),
        ("an instance", Some(&of_instances), is_unauthorized),
    ];
    for (who, certificate, is_refused) in callers {
        let caller = Caller {
            authority: &authority,
            own: certificate.map(|(certificate, key)| (certificate.as_str(), key.as_str())),
        };
        for (method, path, body) in [
            ("POST", "/promote", promote.to_string()),
            ("POST", "/seal", seal.to_string()),
            ("POST", "/reload", json!({}).to_string()),
            ("GET", "/status", String::new()),
        ] {
            let answer = calls::secure(control, host, caller, (method, path), &body);
            is_refused(&format!("{who} asks for {path}"), answer);
        }
    }
    // The engine has no such orders to take on the port that is open to everybody.
    let open = SocketAddr::new(standby.address, HTTP_PORT);
    for path in ["/promote", "/seal", "/set", "/obey"] {
        let answer = calls::plain(open, "POST", path, &promote.to_string());
        assert_eq!(answer.expect("HTTP").status, 404, "{path}");
    }
    assert_eq!(calls::get(open, "/readyz").expect("HTTP").status, 200);
    neighbours_are_refused(&space.cluster, &standby);
    // The operator's own certificate is what was missing.
    let operator = Caller {
        authority: &authority,
        own: Some((of_operator.0.as_str(), of_operator.1.as_str())),
    };
    let status = calls::secure(control, host, operator, ("GET", "/status"), "");
    assert_eq!(status.expect("the operator is answered").status, 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    database.full_strength();
    assert_eq!(database.term(), term, "somebody was obeyed");
    drop(stranger);
    space.kubectl(&["delete", "rcl", "stranger", "--timeout=120s"]);
}
