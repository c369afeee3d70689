//! The pod of an instance: *restricted* by Kubernetes' pod-security standard, one container, one volume.
//!
//! ```text
//! /var/lib/understudy       the instance's volume (instance/volume.rs)      /tmp                 writable
//! /run/understudy           sockets and pid files, writable                 everything else      read-only
//! /etc/understudy/tls       ca.crt server.crt server.key client.crt client.key
//! /etc/understudy/secrets   superuser/password replication/password app/password
//! ```
//! The supervisor is process 1. It learns its cluster's and its own name from the environment and everything else from
//! the cluster object, so that neither a role nor a setting is in the template: a change of those restarts nothing.

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Input;
use super::labels;
use super::secrets::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, PASSWORD};
use crate::names;
use crate::validate::{PodSettings, ValidatedCluster};

pub const CONTAINER: &str = "database";
const PROGRAM: &str = "/usr/local/bin/understudy-operator";

pub const DATA_DIR: &str = "/var/lib/understudy";
pub const RUN_DIR: &str = "/run/understudy";
pub const TLS_DIR: &str = "/etc/understudy/tls";
pub const SECRETS_DIR: &str = "/etc/understudy/secrets";

pub const POSTGRES_PORT: i32 = 5432;
/// The supervisor's calls, over TLS; `/livez` is open.
pub const CONTROL_PORT: i32 = 8443;
/// The engine's `/readyz`, `/status` and `/metrics`.
pub const HTTP_PORT: i32 = 8080;

/// Nobody's on a node, and the group that volumes and secrets are given to.
const USER: i64 = 10_001;

/// What a shutdown may take once the primary's role was handed over: the engine's own fast stop with its last
/// checkpoint.
const STOP_SECONDS: i64 = 50;
/// What a supervisor gets that has answered no probe for a minute. One that hangs does not hear SIGTERM, and a standby can
/// take over only when it has ended: the pod's own time would double the wait. One that lives, on a node that is overloaded,
/// can still hand over or stop its engine; what does not end within this is recovered as after any crash.
const HUNG_STOP_SECONDS: i64 = 10;

/// What instances are spread over: every node has the first label, and not every cluster the second.
const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) fn template(input: &Input<'_>, instance: &str) -> PodTemplateSpec {
    let settings = &input.cluster.pod;
    let given = settings.pod_metadata.clone().unwrap_or_default();
    let mut labels = given.labels;
    labels.extend(labels::instance_labels(input.cluster, instance));
    let mut annotations = given.annotations;
    // Whoever injects containers may want another one.
    annotations
        .entry("kubectl.kubernetes.io/default-container".to_owned())
        .or_insert_with(|| CONTAINER.to_owned());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(input)),
    }
}

fn spec(input: &Input<'_>) -> PodSpec {
    let cluster = input.cluster;
    let settings = &cluster.pod;
    PodSpec {
        service_account_name: Some(names::instances(&cluster.name)),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(grace_seconds(cluster)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A large volume is not walked through at each start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(input)],
        volumes: Some(volumes(cluster)),
        image_pull_secrets: filled(settings.image_pull_secrets.clone()),
        affinity: affinity(cluster),
        topology_spread_constraints: Some(spread(cluster)).filter(|all| !all.is_empty()),
        tolerations: filled(settings.tolerations.clone()),
        node_selector: Some(settings.node_selector.clone()).filter(|all| !all.is_empty()),
        priority_class_name: settings.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

/// A handover and then a fast stop fit in.
fn grace_seconds(cluster: &ValidatedCluster) -> i64 {
    let switchover = cluster.failover.switchover_within_ms.div_ceil(1_000);
    STOP_SECONDS + i64::try_from(switchover).unwrap_or(STOP_SECONDS)
}

/// The user has said nothing of how instances stand to each other.
fn spreads_by_default(settings: &PodSettings) -> bool {
    let is_silent =
        |given: &Affinity| given.pod_affinity.is_none() && given.pod_anti_affinity.is_none();
    settings.topology_spread_constraints.is_empty()
        && settings.affinity.as_ref().is_none_or(is_silent)
}

/// Apart in nodes and zones where there are any: preferred, so that a small cluster still starts. A constraint for zones
/// beside the one for nodes would undo both where nodes have no zone: the scheduler passes over every node that lacks
/// the label of one of them.
fn affinity(cluster: &ValidatedCluster) -> Option<Affinity> {
    let settings = &cluster.pod;
    if !spreads_by_default(settings) {
        return settings.affinity.clone();
    }
    let apart = |key: &str| WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(labels::cluster_selector(cluster)),
            topology_key: key.to_owned(),
            ..PodAffinityTerm::default()
        },
    };
    Some(Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                apart(HOST),
                apart(ZONE),
            ]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..settings.affinity.clone().unwrap_or_default()
    })
}

/// Evenly over nodes, unless the user says otherwise.
fn spread(cluster: &ValidatedCluster) -> Vec<TopologySpreadConstraint> {
    let settings = &cluster.pod;
    let mut all = settings.topology_spread_constraints.clone();
    if spreads_by_default(settings) {
        all.push(TopologySpreadConstraint {
            max_skew: 1,
            topology_key: HOST.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        });
    }
    for constraint in &mut all {
        // Kubernetes would count no pod at all.
        constraint
            .label_selector
            .get_or_insert_with(|| labels::cluster_selector(cluster));
    }
    all
}

fn container(input: &Input<'_>) -> Container {
    let settings = &input.cluster.pod;
    let image = settings.image.as_deref().unwrap_or(input.default_image);
    let resources = settings
        .resources
        .clone()
        .map(|given| ResourceRequirements {
            requests: Some(given.requests).filter(|all| !all.is_empty()),
            limits: Some(given.limits).filter(|all| !all.is_empty()),
            claims: None,
        });
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: settings.image_pull_policy.map(|p| p.as_str().to_owned()),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(["instance", "--dir", DATA_DIR].map(str::to_owned).to_vec()),
        env: Some(environment(input.cluster)),
        ports: Some(
            [
                ("postgres", POSTGRES_PORT),
                ("control", CONTROL_PORT),
                ("metrics", HTTP_PORT),
            ]
            .map(|(name, number)| ContainerPort {
                name: Some(name.to_owned()),
                container_port: number,
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            })
            .to_vec(),
        ),
        resources,
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        liveness_probe: Some(liveness()),
        readiness_probe: Some(readiness()),
        volume_mounts: Some(mounts()),
        ..Container::default()
    }
}

/// Who it is; then what the user gives.
fn environment(cluster: &ValidatedCluster) -> Vec<EnvVar> {
    let plain = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    };
    let mut all = vec![
        plain("UNDERSTUDY_CLUSTER", &cluster.name),
        field("UNDERSTUDY_NAMESPACE", "metadata.namespace"),
        field(
            "UNDERSTUDY_INSTANCE",
            "metadata.labels['understudy.dev/instance']",
        ),
        field("UNDERSTUDY_POD", "metadata.name"),
        field("UNDERSTUDY_POD_UID", "metadata.uid"),
        field("UNDERSTUDY_POD_IP", "status.podIP"),
        field("UNDERSTUDY_NODE", "spec.nodeName"),
    ];
    all.extend(cluster.pod.env.iter().cloned());
    all
}

fn get(path: &str, port: &str, scheme: &str) -> Option<HTTPGetAction> {
    Some(HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(port.to_owned()),
        scheme: Some(scheme.to_owned()),
        ..HTTPGetAction::default()
    })
}

/// The supervisor only: it looks after the engine itself, and a slow engine is no reason to end both.
fn liveness() -> Probe {
    Probe {
        http_get: get("/livez", "control", "HTTPS"),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        termination_grace_period_seconds: Some(HUNG_STOP_SECONDS),
        ..Probe::default()
    }
}

/// The engine: whether it serves what its role promises.
fn readiness() -> Probe {
    Probe {
        http_get: get("/readyz", "metrics", "HTTP"),
        period_seconds: Some(2),
        timeout_seconds: Some(2),
        failure_threshold: Some(2),
        ..Probe::default()
    }
}

fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    vec![
        mount(names::CLAIM_TEMPLATE, DATA_DIR, false),
        mount("run", RUN_DIR, false),
        mount("tmp", "/tmp", false),
        mount("tls", TLS_DIR, true),
        mount("secrets", SECRETS_DIR, true),
    ]
}

fn volumes(cluster: &ValidatedCluster) -> Vec<Volume> {
    let name = &cluster.name;
    let empty = |volume: &str| Volume {
        name: volume.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let projected = |volume: &str, sources: Vec<VolumeProjection>| Volume {
        name: volume.to_owned(),
        projected: Some(ProjectedVolumeSource {
            // The group that the pod runs in may read it: PostgreSQL's rule for keys of the superuser's.
            default_mode: Some(0o440),
            sources: Some(sources),
        }),
        ..Volume::default()
    };
    let bootstrap = &cluster.bootstrap;
    let superuser = bootstrap
        .superuser_secret
        .clone()
        .unwrap_or_else(|| names::superuser_secret(name));
    let password = |secret: String, of: &str| {
        let path = format!("{of}/password");
        secret_files(secret, &[(PASSWORD, path.as_str())])
    };
    vec![
        empty("run"),
        empty("tmp"),
        projected(
            "tls",
            vec![
                secret_files(
                    names::server_secret(name),
                    &[
                        (CA_FILE, CA_FILE),
                        (CERTIFICATE_FILE, "server.crt"),
                        (KEY_FILE, "server.key"),
                    ],
                ),
                secret_files(
                    names::client_secret(name),
                    &[(CERTIFICATE_FILE, "client.crt"), (KEY_FILE, "client.key")],
                ),
            ],
        ),
        projected(
            "secrets",
            vec![
                password(superuser, "superuser"),
                password(names::replication_secret(name), "replication"),
                password(names::app_secret(name), "app"),
            ],
        ),
    ]
}

/// Some keys of a Secret, as files.
fn secret_files(secret: String, files: &[(&str, &str)]) -> VolumeProjection {
    let items = files.iter().map(|(key, path)| KeyToPath {
        key: (*key).to_owned(),
        path: (*path).to_owned(),
        mode: None,
    });
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret,
            items: Some(items.collect()),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}
