//! What is asked of an API server for one object, before a server that answers as it is told.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::kubernetes::Stores;
use crate::transport::{self, ResponseBody};

fn client(port: u16) -> Client {
    let address = format!("http://127.0.0.1:{port}");
    let mut config = Config::new(address.parse().expect("an address"));
    config.root_cert = Some(Vec::new());
    Client::try_from(config).expect("a client")
}

/// An API server on which somebody else has made the same whenever something is to be made.
async fn overtaking_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let made: Arc<Mutex<Value>> = Arc::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let made = Arc::clone(&made);
            let answered = move |request| answered(request, Arc::clone(&made));
            tokio::spawn(transport::serve(stream, answered));
        }
    });
    port
}

async fn answered(request: Request<Incoming>, made: Arc<Mutex<Value>>) -> Response<ResponseBody> {
    if request.method() == Method::POST {
        let object: Value = transport::read_json(request).await.expect("an object");
        *made.lock() = object;
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                            "reason": "AlreadyExists", "message": "it is there"});
        return transport::json(StatusCode::CONFLICT, &status);
    }
    if request.uri().path().contains("/replicatedclusters/") {
        let metadata =
            json!({"name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "1"});
        let cluster = json!({"apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
                             "metadata": metadata, "spec": {"storage": {"size": "1Gi"}}});
        return transport::json(StatusCode::OK, &cluster);
    }
    let object = made.lock().clone();
    transport::json(StatusCode::OK, &object)
}

/// The watch may bring it a little later, and then that it has gone again: nothing may be taken for settled by that.
#[tokio::test]
async fn what_the_server_has_and_the_stores_do_not_show_differs() {
    let key = ClusterKey {
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
    };
    // Its watches reach nobody.
    let stores = Arc::new(Stores::watch(&client(9), &[]));
    let api = client(overtaking_server().await);
    let cluster = Cluster::new(api, key, "u".to_owned(), stores);
    let spec = ValidatedCluster::default();
    let look = Look::at(&cluster, &spec, "understudy:1", &[], Sight::default());
    let object = Object::ServiceAccount(ServiceAccount {
        metadata: ObjectMeta {
            name: Some("orders-instances".to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    });
    assert_eq!(
        look.bring_one(&object).await.expect("answered"),
        Applied::Same
    );
    let mut brought = Brought::default();
    assert!(look.note(&object, &mut brought).await);
    assert!(brought.failed.is_empty(), "{:?}", brought.failed);
    assert!(brought.created.is_empty() && brought.foreign.is_empty());
    assert!(brought.differed && !brought.is_nothing());
    assert!(Brought::default().is_nothing());
}

fn condition(type_: &str, status: ConditionStatus, reason: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status,
        reason: reason.to_owned(),
        message: "as it was".to_owned(),
        observed_generation: 1,
        last_transition_time: String::new(),
    }
}

#[test]
fn a_refusal_stays_one_and_a_busy_server_may_do_it_next_time() {
    let answer = |code: u16| {
        let status = kube::core::Status::failure("no", "Because").with_code(code);
        kube::Error::Api(status.boxed())
    };
    for (code, said) in [
        (403, Some(Verdict::Refused)),
        (422, Some(Verdict::Refused)),
        (404, Some(Verdict::Failed)),
        (429, Some(Verdict::Failed)),
        (500, Some(Verdict::Failed)),
        (409, None),
    ] {
        assert_eq!(verdict(&answer(code)), said, "{code}");
    }
    assert_eq!(verdict(&kube::Error::LinesCodecMaxLineLengthExceeded), None);
    let problem = |codes: &[u16]| {
        let failed = codes.iter().map(|code| ObjectsError::Kube(answer(*code)));
        let brought = Brought {
            failed: failed.collect(),
            ..Brought::default()
        };
        brought.problem()
    };
    let of = |verdict: Verdict| Some(("no".to_owned(), verdict));
    assert_eq!(problem(&[500, 403]), of(Verdict::Refused));
    assert_eq!(problem(&[409, 500]), of(Verdict::Failed));
    assert_eq!(problem(&[409]), None);
}

#[test]
fn an_instance_that_is_not_made_has_its_own_reason() {
    let key = |kind: Kind, name: &str| ObjectKey {
        kind,
        name: name.to_owned(),
    };
    let refused = |key: ObjectKey| {
        let status = kube::core::Status::failure("exceeded quota", "Forbidden").with_code(403);
        ObjectsError::Object(key, kube::Error::Api(status.boxed()))
    };
    let brought = || Brought {
        foreign: vec![ForeignObject {
            key: key(Kind::StatefulSet, "orders-3"),
            owner: "somebody else".to_owned(),
            remedy: "delete it",
        }],
        failed: vec![
            refused(key(Kind::Role, "orders-2")),
            refused(key(Kind::StatefulSet, "orders-2")),
        ],
        ..Brought::default()
    };
    for (instance, why) in [
        (None, "Role orders-2: "),
        (Some("orders-2"), "StatefulSet orders-2: "),
        (Some("orders-3"), "StatefulSet orders-3 belongs to"),
        (Some("orders-4"), "Role orders-2: "),
    ] {
        let (_, ends) = brought().end(instance);
        let said = ends.expect_err("it is not made").to_string();
        assert!(said.starts_with(why), "{instance:?}: {said}");
    }
    let nothing = Brought {
        created: vec![key(Kind::StatefulSet, "orders-2")],
        ..Brought::default()
    };
    let (made, ends) = nothing.end(Some("orders-2"));
    assert!(ends.is_ok() && made == [key(Kind::StatefulSet, "orders-2")]);
}

#[test]
fn an_instance_is_made_like_the_primary_or_like_the_first() {
    let set = |name: &str, owner: &str| -> (String, StatefulSet) {
        let owner = json!({"apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster", "name": "orders",
                           "uid": owner, "controller": true});
        let set = json!({"metadata": {"name": name, "ownerReferences": [owner]}});
        (name.to_owned(), serde_json::from_value(set).expect("a set"))
    };
    let sets = BTreeMap::from([
        set("orders-1", "another"),
        set("orders-2", "u"),
        set("orders-3", "u"),
    ]);
    let like = |primary: Option<&str>| pattern(&sets, "u", primary)?.metadata.name.clone();
    assert_eq!(like(Some("orders-3")).as_deref(), Some("orders-3"));
    for elsewhere in [None, Some("orders-1"), Some("orders-4")] {
        assert_eq!(like(elsewhere).as_deref(), Some("orders-2"));
    }
    assert_eq!(pattern(&sets, "v", Some("orders-3")), None);
}

#[test]
fn what_keeps_the_objects_from_being_written_is_a_condition() {
    let said = |reason: &str, degraded: bool| {
        let (ready, bad) = if degraded {
            (ConditionStatus::False, ConditionStatus::True)
        } else {
            (ConditionStatus::True, ConditionStatus::False)
        };
        let all = [
            condition("Ready", ready, reason),
            condition("Degraded", bad, reason),
            condition("Protected", ConditionStatus::False, "CatchingUp"),
        ];
        assert_eq!(with_problem(&all, None), all, "nothing is the matter");
        let told = with_problem(&all, Some("there is no Secret mine"));
        assert_eq!(told[2], all[2]);
        told.iter()
            .take(2)
            .map(|c| (c.status, c.reason.clone()))
            .collect::<Vec<_>>()
    };
    let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
    let of = |status: ConditionStatus, reason: &str| (status, reason.to_owned());
    assert_eq!(
        said("InstancesNotReady", true),
        [of(no, "ObjectsNotWritten"), of(yes, "ObjectsNotWritten")]
    );
    // Everybody serves, and something is wrong all the same.
    assert_eq!(
        said("AllReady", false),
        [of(yes, "AllReady"), of(yes, "ObjectsNotWritten")]
    );
    assert_eq!(
        said("FailoverBlocked", true),
        [of(no, "FailoverBlocked"), of(yes, "FailoverBlocked")]
    );
}
