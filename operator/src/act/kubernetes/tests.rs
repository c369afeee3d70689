use super::*;

/// An operator that was frozen in the middle of replacing an instance finds its successor.
#[test]
fn a_successor_s_pod_is_another_one() {
    let pod = |uid: &str, set: &str| -> Pod {
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders-2", "uid": set,
                           "controller": true});
        serde_json::from_value(json!({"metadata": {"uid": uid, "ownerReferences": [owner]}}))
            .expect("a pod")
    };
    let held = Held {
        set: Some("s1".to_owned()),
        pod: Some("p1".to_owned()),
        claim: Some("c1".to_owned()),
    };
    assert!(is_of(&pod("p1", "s1"), &held));
    assert!(is_of(&pod("p2", "s1"), &held), "made again by the same set");
    assert!(!is_of(&pod("p3", "s2"), &held));
    assert!(!is_of(&pod("p3", "s2"), &Held::default()));
}

#[test]
fn an_answer_is_of_the_pod_that_was_called_or_of_nobody() {
    let said = |name: &str, uid: Option<&str>| SupervisorStatus {
        name: name.to_owned(),
        pod_uid: uid.map(str::to_owned),
        ..crate::instance::empty_status()
    };
    let is_meant = |status: SupervisorStatus| is_from(&status, "orders-1", "a");
    assert!(is_meant(said("orders-1", Some("a"))));
    assert!(is_meant(said("orders-1", None)));
    assert!(!is_meant(said("orders-1", Some("b"))), "its successor");
    assert!(!is_meant(said("orders-2", Some("a"))));
}
