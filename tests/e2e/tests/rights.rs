//! Who may do what: an instance's token reads its own cluster and nothing else, and nobody but the operator gives an
//! instance orders.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
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

/// What a call that must not be obeyed came to: refused by the server, or by the handshake.
fn refusal(answer: anyhow::Result<Answer>) -> String {
    match answer {
        Ok(Answer { status, body }) => {
            assert!((400..500).contains(&status), "{status}: {body}");
            format!("{status}")
        }
        Err(error) => format!("{error:#}"),
    }
}

/// Another namespace's pod, which reaches the engine as every pod of the cluster does, asks it for a promotion.
fn neighbours_are_refused(space: &Space, instance: &Instance) {
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
    let cluster = &space.cluster;
    for object in [neighbours, pod] {
        let applied = cluster.apply(&object.to_string());
        applied.unwrap_or_else(|error| panic!("{error:#}"));
    }
    let of = ["-n", NEIGHBOURS];
    let ready = ["wait", "--for=condition=Ready", "pod/client"];
    let waited = cluster.kubectl(&[&of[..], &ready, &["--timeout=120s"]].concat());
    waited.unwrap_or_else(|error| panic!("{error:#}"));
    // Its end stays open until there is an answer: a server need not answer who has hung up.
    let line = format!(
        "{{ printf 'POST /promote HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-length: 2\\r\\n\\r\\n{{}}'; \
         sleep 2; }} | timeout 20 nc {} {HTTP_PORT}",
        instance.address
    );
    let exec = ["exec", "client", "--", "sh", "-c", line.as_str()];
    let said = cluster.kubectl(&[&of[..], &exec].concat());
    let said = said.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(said.starts_with("HTTP/1.1 4"), "it was not refused: {said}");
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
    let callers = [
        ("nobody", None),
        ("a stranger's operator", Some(&of_foreign)),
        ("an instance", Some(&of_instances)),
    ];
    for (who, certificate) in callers {
        let caller = Caller {
            authority: &authority,
            own: certificate.map(|(certificate, key)| (certificate.as_str(), key.as_str())),
        };
        for (path, body) in [
            ("/promote", &promote),
            ("/seal", &seal),
            ("/reload", &json!({})),
        ] {
            let answer = calls::secure(control, host, caller, ("POST", path), &body.to_string());
            println!("{who} asks for {path}: {}", refusal(answer));
        }
        let status = calls::secure(control, host, caller, ("GET", "/status"), "");
        println!("{who} asks for /status: {}", refusal(status));
    }
    // Nor does the engine take orders, on the port that is open to everybody.
    let open = SocketAddr::new(standby.address, HTTP_PORT);
    for path in ["/promote", "/seal", "/set", "/obey"] {
        let answer = calls::plain(open, "POST", path, &promote.to_string());
        println!("anybody asks the engine for {path}: {}", refusal(answer));
    }
    assert_eq!(calls::get(open, "/readyz").expect("HTTP").status, 200);
    neighbours_are_refused(&space, &standby);
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
