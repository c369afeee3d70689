//! Who may do what: the instances' service account and its Role, the disruption budget, the network policy.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

use super::labels::{self, MANAGER};
use super::pod::{CONTROL_PORT, HTTP_PORT, POSTGRES_PORT};
use super::{Input, Object};
use crate::crd::ReplicatedCluster;
use crate::names;

pub(super) fn objects(input: &Input<'_>) -> Vec<Object> {
    let mut all = vec![
        Object::ServiceAccount(service_account(input)),
        Object::Role(role(input)),
        Object::RoleBinding(role_binding(input)),
        Object::NetworkPolicy(network_policy(input)),
    ];
    // With one instance a budget would only keep its node from being drained.
    if input.cluster.replicas > 0 {
        all.push(Object::PodDisruptionBudget(Box::new(budget(input))));
    }
    all
}

fn metadata(input: &Input<'_>) -> ObjectMeta {
    labels::metadata(
        input.cluster,
        input.uid,
        names::instances(&input.cluster.name),
    )
}

fn service_account(input: &Input<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(input),
        // The pod asks for its token by itself; nothing else that runs here is to get one.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// An instance reads its own cluster object, from which it learns its role, and nothing else.
fn role(input: &Input<'_>) -> Role {
    let text = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    Role {
        metadata: metadata(input),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![ReplicatedCluster::group(&()).into_owned()]),
            resources: Some(vec![ReplicatedCluster::plural(&()).into_owned()]),
            resource_names: Some(vec![input.cluster.name.clone()]),
            verbs: text(&["get", "list", "watch"]),
            ..PolicyRule::default()
        }]),
    }
}

fn role_binding(input: &Input<'_>) -> RoleBinding {
    let name = names::instances(&input.cluster.name);
    RoleBinding {
        metadata: metadata(input),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: Some(input.cluster.namespace.clone()),
            ..Subject::default()
        }]),
    }
}

/// One instance at a time, whatever its role; one that is unready anyway never holds a drain up.
fn budget(input: &Input<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(input),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(labels::cluster_selector(input.cluster)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// Clients and scrapers from anywhere, who have pg_hba.conf and TLS before them; control calls from the operator's
/// pods only, in whatever namespace it runs, who have to show its certificate besides.
fn network_policy(input: &Input<'_>) -> NetworkPolicy {
    let port = |number: i32| NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(labels::selector(labels::labels([(
            "app.kubernetes.io/name",
            MANAGER,
        )]))),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: metadata(input),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels::cluster_selector(input.cluster)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: None,
                    ports: Some(vec![port(POSTGRES_PORT), port(HTTP_PORT)]),
                },
                NetworkPolicyIngressRule {
                    from: Some(vec![operator]),
                    ports: Some(vec![port(CONTROL_PORT)]),
                },
            ]),
            egress: None,
        }),
    }
}
