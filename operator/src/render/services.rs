//! The Services, and what moves the write Service from one primary to the next: a single write.
//!
//! Two ways, to be measured against each other: an EndpointSlice that the operator owns and writes the primary's
//! address into, or a selector that names role, instance and term. Neither can lead to two instances: the slice holds
//! one address, and an instance's name selects one pod. A Service goes over from one way to the other only by being made
//! anew: Kubernetes leaves the slices of a selector that is taken away as they were.

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{self, Labels};
use super::pod::POSTGRES_PORT;
use super::{Input, Object};
use crate::names;

/// How traffic finds the primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteRouting {
    /// The Service has no selector; its EndpointSlice is the operator's.
    EndpointSlice,
    /// The Service selects by role, instance and term, which the operator writes on pods.
    Selector,
}

/// A pod, as far as traffic is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodSeen {
    pub name: String,
    pub uid: String,
    /// None until the pod has one.
    pub ip: Option<String>,
    pub node: Option<String>,
}

pub(super) fn objects(input: &Input<'_>) -> Vec<Object> {
    let name = &input.cluster.name;
    let cluster = labels::labels([(labels::CLUSTER, name.as_str())]);
    let mut standbys = cluster.clone();
    standbys.insert(labels::ROLE.to_owned(), labels::STANDBY.to_owned());
    let mut all = write_traffic(input);
    all.push(client_service(
        input,
        names::standby_service(name),
        Some(standbys),
    ));
    all.push(client_service(
        input,
        names::any_service(name),
        Some(cluster),
    ));
    all.push(headless_service(input));
    all
}

/// What leads to the primary: applied by itself when the role moves.
pub fn write_traffic(input: &Input<'_>) -> Vec<Object> {
    let name = names::primary_service(&input.cluster.name);
    match input.routing {
        WriteRouting::EndpointSlice => vec![
            client_service(input, name.clone(), None),
            Object::EndpointSlice(endpoint_slice(input, name)),
        ],
        WriteRouting::Selector => vec![client_service(input, name, Some(write_selector(input)))],
    }
}

fn primary<'a>(input: &Input<'a>) -> Option<&'a str> {
    input.routes.and_then(|routes| routes.primary.as_deref())
}

/// Selects nothing while there is no primary: no pod has an instance without a name.
fn write_selector(input: &Input<'_>) -> Labels {
    let term = input
        .record
        .map(|record| record.term.to_string())
        .unwrap_or_default();
    labels::labels([
        (labels::CLUSTER, input.cluster.name.as_str()),
        (labels::ROLE, labels::PRIMARY),
        (labels::INSTANCE, primary(input).unwrap_or_default()),
        (labels::TERM, term.as_str()),
    ])
}

fn port() -> ServicePort {
    ServicePort {
        name: Some("postgres".to_owned()),
        port: POSTGRES_PORT,
        target_port: Some(IntOrString::Int(POSTGRES_PORT)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn client_service(input: &Input<'_>, name: String, selector: Option<Labels>) -> Object {
    let template = &input.cluster.service;
    let mut metadata = labels::metadata(input.cluster, input.uid, name);
    if !template.annotations.is_empty() {
        metadata.annotations = Some(template.annotations.clone());
    }
    Object::Service(Box::new(Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(template.type_.as_str().to_owned()),
            selector,
            ports: Some(vec![port()]),
            ..ServiceSpec::default()
        }),
        status: None,
    }))
}

/// Gives each pod its name in DNS, ready or not: a standby is told its primary by name before anybody calls it ready.
fn headless_service(input: &Input<'_>) -> Object {
    let cluster = input.cluster;
    let name = names::instances_service(&cluster.name);
    Object::Service(Box::new(Service {
        metadata: labels::metadata(cluster, input.uid, name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::labels([(labels::CLUSTER, cluster.name.as_str())])),
            ports: Some(vec![port()]),
            ..ServiceSpec::default()
        }),
        status: None,
    }))
}

/// The primary's address alone, or nothing. The address is ready because the operator says so: kubelets look too
/// seldom.
fn endpoint_slice(input: &Input<'_>, service: String) -> EndpointSlice {
    let pod = primary(input)
        .and_then(|instance| input.existing.pods.get(instance))
        .and_then(|pod| Some((pod, pod.ip.clone()?)));
    let is_v6 = pod.as_ref().is_some_and(|(_, ip)| ip.contains(':'));
    let mut metadata = labels::metadata(input.cluster, input.uid, service.clone());
    let own = metadata.labels.get_or_insert_default();
    own.insert("kubernetes.io/service-name".to_owned(), service);
    own.insert(
        "endpointslice.kubernetes.io/managed-by".to_owned(),
        labels::MANAGER.to_owned(),
    );
    if is_v6 {
        // A slice's family can't change: each has its own.
        metadata.name = metadata.name.map(|name| format!("{name}-v6"));
    }
    let endpoint = pod.map(|(pod, ip)| Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: pod.node.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            namespace: Some(input.cluster.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    });
    EndpointSlice {
        metadata,
        address_type: if is_v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: endpoint.into_iter().collect(),
        ports: Some(vec![EndpointPort {
            name: Some("postgres".to_owned()),
            port: Some(POSTGRES_PORT),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}
