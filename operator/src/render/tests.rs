use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::crd::{Phase, ReplicatedCluster, to_yaml};
use crate::ids::{InstanceId, Millis, Term};
use crate::validate::validate;

const UID: &str = "0f2b3a54-0000-4000-8000-000000000001";
const IMAGE: &str = "registry.example/understudy:1.0";

fn cluster(spec: &str) -> ValidatedCluster {
    let text = format!(
        "apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n\
         metadata: {{name: orders, namespace: shop}}\nspec:\n  storage: {{size: 10Gi}}\n{spec}"
    );
    let manifest: ReplicatedCluster = serde_norway::from_str(&text).expect("a manifest");
    validate(&manifest).expect("a valid manifest")
}

const EVERYTHING: &str = "  replicas: 2
  image: registry.example/team/understudy:2
  imagePullPolicy: IfNotPresent
  imagePullSecrets: [{name: registry}]
  resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}
  bootstrap: {database: shop, owner: keeper, superuserSecret: root-password}
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
  tolerations: [{key: dedicated, operator: Exists}]
  nodeSelector: {pool: databases}
  priorityClassName: high
  serviceTemplate: {type: LoadBalancer, annotations: {lb.example.com/scheme: internal}}
  failover: {switchoverWithinMilliseconds: 20500}
  podMetadata: {labels: {team: orders}, annotations: {prometheus.io/scrape: 'true'}}
  env: [{name: TZ, value: UTC}]
";

fn certified(name: &str) -> Certified {
    Certified {
        certificate: format!("certificate of {name}\n"),
        key: format!("key of {name}\n"),
    }
}

fn credentials() -> Credentials {
    Credentials {
        app_password: "p@ss word".to_owned(),
        superuser_password: "super".to_owned(),
        replication_password: "replication".to_owned(),
        authority: certified("authority"),
        server: certified("server"),
        client: certified("client"),
        operator: certified("operator"),
    }
}

fn record(primary: Option<&str>) -> Record {
    Record {
        record_version: 9,
        term: Term::new(7),
        phase: if primary.is_some() {
            Phase::Running
        } else {
            Phase::FailingOver
        },
        primary: primary.map(|name| crate::crd::Member {
            name: name.to_owned(),
            id: InstanceId::new("id"),
        }),
        candidate: None,
        in_sync: Vec::new(),
        system_id: None,
        forks: Vec::new(),
        change: None,
    }
}

/// A cluster with its instances and pods, whose primary is the second.
struct World {
    cluster: ValidatedCluster,
    record: Record,
    routes: Routes,
    instances: Vec<String>,
    existing: Existing,
    credentials: Credentials,
    routing: WriteRouting,
}

impl World {
    fn new(spec: &str) -> World {
        let cluster = cluster(spec);
        let instances: Vec<String> = (1..=cluster.replicas + 1)
            .map(|number| crate::names::instance("orders", number))
            .collect();
        let pods = instances.iter().enumerate().map(|(index, instance)| {
            let pod = PodSeen {
                name: crate::names::pod(instance),
                uid: format!("pod-{index}"),
                ip: Some(format!("10.244.{index}.7")),
                node: Some(format!("node{index}")),
            };
            (instance.clone(), pod)
        });
        let primary = instances.get(1).unwrap_or(&instances[0]).clone();
        World {
            existing: Existing {
                pods: pods.collect(),
                ..Existing::default()
            },
            record: record(Some(&primary)),
            routes: Routes {
                record_version: 9,
                primary: Some(primary),
                standbys: Vec::new(),
            },
            cluster,
            instances,
            credentials: credentials(),
            routing: WriteRouting::EndpointSlice,
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            cluster: &self.cluster,
            uid: UID,
            record: Some(&self.record),
            routes: Some(&self.routes),
            instances: &self.instances,
            existing: &self.existing,
            credentials: &self.credentials,
            default_image: IMAGE,
            routing: self.routing,
        }
    }

    fn render(&self) -> Rendered {
        render(&self.input())
    }

    /// As if everything had been applied.
    fn apply(&mut self) {
        let rendered = self.render();
        for object in &rendered.objects {
            let found = Found::new(object.kind(), object.metadata());
            self.existing.others.retain(|other| other.key != found.key);
            self.existing.others.push(found);
        }
        for (name, workload) in rendered.workloads {
            match workload {
                Workload::Create(set) | Workload::Replace(set) => {
                    self.existing.stateful_sets.insert(name, *set);
                }
                Workload::Keep => {}
            }
        }
    }

    fn service(&self, name: &str) -> k8s_openapi::api::core::v1::ServiceSpec {
        let rendered = self.render();
        let spec = rendered
            .objects
            .into_iter()
            .find_map(|object| match object {
                Object::Service(service) if service.metadata.name.as_deref() == Some(name) => {
                    service.spec
                }
                _ => None,
            });
        spec.expect("the Service is there")
    }

    fn slice(&self) -> Option<k8s_openapi::api::discovery::v1::EndpointSlice> {
        self.render()
            .objects
            .into_iter()
            .find_map(|object| match object {
                Object::EndpointSlice(slice) => Some(slice),
                _ => None,
            })
    }
}

fn created(workload: &Workload) -> &StatefulSet {
    match workload {
        Workload::Create(set) => set,
        other => panic!("{other:?}"),
    }
}

/// Compares with the file in `snapshots/`; UNDERSTUDY_WRITE_SNAPSHOTS=1 writes it.
fn check(name: &str, rendered: &Rendered) {
    let sets = rendered.workloads.values().map(|workload| match workload {
        Workload::Create(set) | Workload::Replace(set) => to_yaml(set.as_ref()),
        Workload::Keep => Ok("# kept\n".to_owned()),
    });
    let text: String = rendered
        .objects
        .iter()
        .map(to_yaml)
        .chain(sets)
        .map(|yaml| format!("---\n{}", yaml.expect("objects print")))
        .collect();
    let path = Path::new("src/render/snapshots").join(format!("{name}.yaml"));
    if std::env::var_os("UNDERSTUDY_WRITE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, &text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).expect("the snapshot is there");
    assert!(
        kept == text,
        "{} differs from what is rendered; look, then UNDERSTUDY_WRITE_SNAPSHOTS=1",
        path.display()
    );
}

#[test]
fn the_least_manifest() {
    check("least", &World::new("  replicas: 0\n").render());
}

#[test]
fn a_manifest_with_everything() {
    check("everything", &World::new(EVERYTHING).render());
}

/// While a manifest is refused, what it was before is known of the StatefulSets that there are only.
#[test]
fn an_instance_made_like_another_is_what_its_manifest_would_make() {
    for manifest in ["  replicas: 1\n", EVERYTHING] {
        let rendered = World::new(manifest).render();
        let wanted = created(&rendered.workloads["orders-2"]);
        let mut pattern = created(&rendered.workloads["orders-1"]).clone();
        // As the API server has it.
        let metadata = &mut pattern.metadata;
        metadata.uid = Some("u".to_owned());
        metadata.resource_version = Some("7".to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert("understudy.dev/rendered".to_owned(), "mark".to_owned());
        pattern.status = Some(Default::default());
        if let Some(spec) = &mut pattern.spec {
            spec.replicas = Some(0);
            for claim in spec.volume_claim_templates.iter_mut().flatten() {
                claim.status = Some(Default::default());
            }
        }
        assert_eq!(made_like(&pattern, "orders-2"), *wanted);
    }
}

#[test]
fn the_primary_by_selector() {
    let mut world = World::new("");
    world.routing = WriteRouting::Selector;
    let rendered = world.render();
    let traffic: Vec<Object> = write_traffic(&world.input());
    assert!(
        traffic
            .iter()
            .all(|object| rendered.objects.contains(object))
    );
    let selector = world.service("orders-primary").selector.expect("selects");
    let pairs: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        pairs,
        [
            "understudy.dev/cluster=orders",
            "understudy.dev/instance=orders-2",
            "understudy.dev/role=primary",
            "understudy.dev/term=7"
        ]
    );
    assert_eq!(world.slice(), None);
    // The labels that the operator writes on the pods make exactly one of them match.
    let matching = world.instances.iter().filter(|instance| {
        let mut labels = labels::instance_labels(&world.cluster, instance);
        labels.extend(role_labels(Some(&world.record), instance));
        selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    });
    assert_eq!(matching.collect::<Vec<_>>(), ["orders-2"]);
}

#[test]
fn the_slice_holds_the_primary_s_address_and_nothing_else() {
    let mut world = World::new("");
    let slice = world.slice().expect("a slice");
    assert_eq!(slice.endpoints.len(), 1);
    assert_eq!(slice.endpoints[0].addresses, ["10.244.1.7"]);
    assert_eq!(world.service("orders-primary").selector, None);
    world.routes.primary = None;
    assert!(world.slice().expect("a slice").endpoints.is_empty());
    world.routes.primary = Some("orders-9".to_owned());
    assert!(world.slice().expect("a slice").endpoints.is_empty());
}

#[test]
fn an_address_of_the_other_family_has_a_slice_of_its_own() {
    let mut world = World::new("");
    world.apply();
    let pod = world.existing.pods.get_mut("orders-2").expect("a pod");
    pod.ip = Some("fd00::7".to_owned());
    let slice = world.slice().expect("a slice");
    assert_eq!(slice.address_type, "IPv6");
    assert_eq!(slice.metadata.name.as_deref(), Some("orders-primary-v6"));
    let surplus: Vec<String> = world
        .render()
        .surplus
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(surplus, ["EndpointSlice orders-primary"]);
}

#[test]
fn without_a_primary_nothing_is_selected_and_no_pod_has_a_role() {
    let mut world = World::new("");
    world.routing = WriteRouting::Selector;
    world.record = record(None);
    world.routes.primary = None;
    assert!(role_labels(Some(&world.record), "orders-1").is_empty());
    let selector = world.service("orders-primary").selector.expect("selects");
    assert_eq!(selector.get(INSTANCE).map(String::as_str), Some(""));
}

#[test]
fn a_second_rendering_changes_nothing() {
    let mut world = World::new(EVERYTHING);
    let first = world.render().objects;
    world.apply();
    let second = world.render();
    assert_eq!(second.objects, first);
    assert!(second.workloads.values().all(|w| *w == Workload::Keep));
    assert!(second.surplus.is_empty() && second.foreign.is_empty());
}

#[test]
fn a_newer_operator_s_image_and_template_restart_nothing() {
    let mut world = World::new("");
    world.apply();
    for set in world.existing.stateful_sets.values_mut() {
        // As another version rendered it, with a field that this one does not know of.
        let spec = set.spec.as_mut().expect("a spec");
        spec.min_ready_seconds = Some(3);
        let pod = spec.template.spec.as_mut().expect("a pod");
        pod.containers[0].image = Some("registry.example/understudy:0.9".to_owned());
    }
    let rendered = world.render();
    assert!(rendered.workloads.values().all(|w| *w == Workload::Keep));
}

#[test]
fn what_the_instances_read_themselves_restarts_nothing() {
    let mut world = World::new("");
    world.apply();
    world.cluster = cluster(
        "  durability: strict\n  replicas: 2\n  parameters: {work_mem: 1MB}\n  pgHba: [host all all all reject]\n  \
         failover: {lostAfterMilliseconds: 5000}\n  serviceTemplate: {type: NodePort}\n",
    );
    let rendered = world.render();
    assert!(rendered.workloads.values().all(|w| *w == Workload::Keep));
}

#[test]
fn a_changed_pod_is_written_with_the_claim_as_it_was() {
    let mut world = World::new("");
    world.apply();
    let text = "  image: other\n";
    world.cluster = cluster(text);
    world.cluster.storage_size = "20Gi".to_owned();
    let rendered = world.render();
    let Some(Workload::Replace(set)) = rendered.workloads.get("orders-1") else {
        panic!("{:?}", rendered.workloads.get("orders-1"));
    };
    let old = world.existing.stateful_sets["orders-1"].spec.as_ref();
    let new = set.spec.as_ref().expect("a spec");
    let claims =
        |spec: &k8s_openapi::api::apps::v1::StatefulSetSpec| spec.volume_claim_templates.clone();
    assert_eq!(Some(claims(new)), old.map(claims));
    let pod = new.template.spec.as_ref().expect("a pod");
    assert_eq!(pod.containers[0].image.as_deref(), Some("other"));
    // A new instance begins with the larger volume.
    world.instances.push("orders-4".to_owned());
    let fourth = to_yaml(created(&world.render().workloads["orders-4"])).expect("prints");
    assert!(fourth.contains("storage: 20Gi"), "{fourth}");
}

#[test]
fn a_claim_is_of_the_class_that_was_asked_for() {
    let class = |given: Option<&str>| {
        let mut world = World::new("");
        world.cluster.storage_class = given.map(str::to_owned);
        let set = created(&world.render().workloads["orders-1"]).clone();
        let claims = set.spec.expect("a spec").volume_claim_templates;
        let claim = claims.expect("claims")[0].spec.clone().expect("a spec");
        claim.storage_class_name
    };
    // None is the default one, and "" none at all.
    for given in [None, Some(""), Some("fast")] {
        assert_eq!(class(given).as_deref(), given);
    }
}

/// Two constraints, for nodes and for zones, would both be passed over where nodes have no zone.
#[test]
fn instances_are_spread_unless_the_manifest_says_how_they_stand_to_each_other() {
    let pod = |spec: &str| {
        let world = World::new(spec);
        let set = created(&world.render().workloads["orders-1"]).clone();
        let template = set.spec.expect("a spec").template;
        template.spec.expect("a pod")
    };
    let keys = |pod: &k8s_openapi::api::core::v1::PodSpec| {
        let constraints = pod.topology_spread_constraints.iter().flatten();
        let constraints: Vec<String> = constraints.map(|c| c.topology_key.clone()).collect();
        let apart = pod.affinity.clone().unwrap_or_default().pod_anti_affinity;
        let preferred = apart
            .unwrap_or_default()
            .preferred_during_scheduling_ignored_during_execution;
        let terms = preferred.into_iter().flatten().map(|term| {
            let selector = term.pod_affinity_term.label_selector.expect("it selects");
            assert_eq!(
                selector.match_labels,
                Some(labels::labels([(CLUSTER, "orders")]))
            );
            term.pod_affinity_term.topology_key
        });
        (constraints, terms.collect::<Vec<String>>())
    };
    let (host, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let usual = (
        vec![host.to_owned()],
        vec![host.to_owned(), zone.to_owned()],
    );
    assert_eq!(keys(&pod("")), usual);
    // Which nodes may be used says nothing of how they are shared.
    let nodes = "{nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}";
    let on_nodes = pod(&format!("  affinity: {nodes}\n"));
    assert_eq!(keys(&on_nodes), usual);
    assert!(on_nodes.affinity.expect("kept").node_affinity.is_some());
    let together = "{podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}";
    let none = (Vec::new(), Vec::new());
    assert_eq!(keys(&pod(&format!("  affinity: {together}\n"))), none);
    let given = "[{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]";
    let by_rack = keys(&pod(&format!("  topologySpreadConstraints: {given}\n")));
    assert_eq!(by_rack, (vec!["rack".to_owned()], Vec::new()));
}

#[test]
fn a_container_that_the_manifest_names_stays_the_default_one() {
    let name = "kubectl.kubernetes.io/default-container";
    let of = |spec: &str| {
        let world = World::new(spec);
        let set = created(&world.render().workloads["orders-1"]).clone();
        let metadata = set.spec.expect("a spec").template.metadata;
        let annotations = metadata.and_then(|m| m.annotations).expect("annotations");
        annotations[name].clone()
    };
    assert_eq!(of(""), "database");
    let given = format!("  podMetadata: {{annotations: {{{name}: proxy}}}}\n");
    assert_eq!(of(&given), "proxy");
}

#[test]
fn another_s_objects_are_named_and_left_alone() {
    let mut world = World::new("");
    let nobodys = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some("orders-app".to_owned()),
        ..Default::default()
    };
    world
        .existing
        .others
        .push(Found::new(Kind::Secret, &nobodys));
    let mut earlier = labels::metadata(&world.cluster, "older", "orders-any".to_owned());
    world
        .existing
        .others
        .push(Found::new(Kind::Service, &earlier));
    earlier.name = Some("orders-2".to_owned());
    let set = StatefulSet {
        metadata: earlier,
        ..StatefulSet::default()
    };
    world
        .existing
        .stateful_sets
        .insert("orders-2".to_owned(), set);
    // Of the same name and another kind: no matter.
    world.existing.others.push(Found {
        key: ObjectKey {
            kind: Kind::Role,
            name: "orders-any".to_owned(),
        },
        controller: None,
    });
    let rendered = world.render();
    let said: Vec<String> = rendered.foreign.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "Secret orders-app belongs to somebody else; delete or rename it, or give the cluster another name",
            "Service orders-any belongs to an earlier ReplicatedCluster orders (uid older); it goes away with that one; if it stays, delete it",
            "StatefulSet orders-2 belongs to an earlier ReplicatedCluster orders (uid older); it goes away with that one; if it stays, delete it",
        ]
    );
    let left: Vec<String> = rendered
        .objects
        .iter()
        .map(|o| o.key().to_string())
        .collect();
    assert!(!left.contains(&"Secret orders-app".to_owned()));
    assert!(!left.contains(&"Service orders-any".to_owned()));
    assert!(left.contains(&"Service orders-primary".to_owned()));
    let instances: Vec<&String> = rendered.workloads.keys().collect();
    assert_eq!(instances, ["orders-1", "orders-3"]);
    assert!(rendered.surplus.is_empty());
}

#[test]
fn a_lone_instance_gives_its_budget_up() {
    let mut world = World::new("");
    world.apply();
    world.cluster.replicas = 0;
    let surplus: Vec<String> = world
        .render()
        .surplus
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(surplus, ["PodDisruptionBudget orders-instances"]);
}

/// For ever: an operator that takes another fingerprint of the same manifest restarts every database.
#[test]
fn fingerprints_stay_what_they_are() {
    for (spec, kept) in [
        ("", "44136fa355b3678a"),
        ("  replicas: 1\n  durability: async\n", "44136fa355b3678a"),
        (
            "  failover: {switchoverWithinMilliseconds: 10000}\n",
            "44136fa355b3678a",
        ),
        ("  image: a\n", FINGERPRINT_OF_IMAGE),
        (EVERYTHING, FINGERPRINT_OF_EVERYTHING),
    ] {
        assert_eq!(fingerprint(&cluster(spec)), kept, "{spec}");
    }
}

const FINGERPRINT_OF_IMAGE: &str = "a4db6e5b124155fd";
const FINGERPRINT_OF_EVERYTHING: &str = "ccd62fc3579d12d3";

#[test]
fn certificates_are_kept_while_their_authority_is() {
    let mut world = World::new("");
    let now = Millis::new(1_800_000_000_000);
    let complete = |world: &World, secrets: &Secrets| {
        Credentials::complete(&world.cluster, UID, secrets, now).expect("made")
    };
    let made = complete(&world, &Secrets::new());
    assert_eq!(made.app_password.len(), 32);
    assert_ne!(made.app_password, made.superuser_password);
    let secrets = stored(&mut world, made.clone());
    assert!(complete(&world, &secrets) == made, "nothing is made anew");
    let mut without = secrets.clone();
    without.remove("orders-server");
    without.remove("orders-app");
    let partly = complete(&world, &without);
    assert!(partly.authority == made.authority && partly.client == made.client);
    assert!(partly.server != made.server && partly.app_password != made.app_password);
    without.remove("orders-ca");
    let anew = complete(&world, &without);
    assert!(anew.authority != made.authority && anew.client != made.client);
    // Somebody else's Secret is nobody's password.
    let mut foreign = secrets.clone();
    let app = foreign.get_mut("orders-app").expect("there");
    app.metadata.owner_references = None;
    assert!(complete(&world, &foreign).app_password != made.app_password);
}

/// What a cluster's Secrets hold, as they are stored.
fn stored(world: &mut World, made: Credentials) -> Secrets {
    world.credentials = made;
    let objects = world.render().objects.into_iter();
    let secrets = objects.filter_map(|object| match object {
        Object::Secret(secret) => Some((secret.metadata.name.clone()?, secret)),
        _ => None,
    });
    secrets.collect()
}

#[test]
fn no_authority_but_the_cluster_s_own_is_used() {
    let mut world = World::new("");
    let now = Millis::new(1_800_000_000_000);
    let complete = |cluster: &ValidatedCluster, secrets: &Secrets| {
        Credentials::complete(cluster, UID, secrets, now).map_err(|error| error.to_string())
    };
    let cluster = world.cluster.clone();
    let made = complete(&cluster, &Secrets::new()).expect("made");
    let secrets = stored(&mut world, made.clone());
    let with = |authority: &Certified| {
        let mut secrets = secrets.clone();
        let secret = secrets.get_mut("orders-ca").expect("there");
        let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        let data = secret.data.get_or_insert_default();
        data.insert("ca.crt".to_owned(), bytes(&authority.certificate));
        data.insert("ca.key".to_owned(), bytes(&authority.key));
        secrets
    };
    // An earlier one of this cluster's comes back: what the later one has signed is no longer taken.
    let earlier = complete(&cluster, &Secrets::new()).expect("made").authority;
    let again = complete(&cluster, &with(&earlier)).expect("made");
    assert!(again.authority == earlier && again.server != made.server);
    assert!(again.client != made.client && again.operator != made.operator);
    let kept = stored(&mut world, again.clone());
    assert!(complete(&cluster, &kept) == Ok(again));
    // Another name, a certificate and a key that do not belong together, no key at all.
    let mut other = cluster.clone();
    other.name = "sales".to_owned();
    let other = complete(&other, &Secrets::new()).expect("made").authority;
    let mut mixed = made.authority.clone();
    mixed.key.clone_from(&earlier.key);
    let mut unread = made.authority.clone();
    unread.key = "a key".to_owned();
    for authority in [&other, &mixed, &unread] {
        let mut secrets = with(authority);
        // There is one to be made.
        secrets.remove("orders-server");
        let refused = complete(&cluster, &secrets).expect_err("refused");
        let starts = "the Secret orders-ca does not hold the authority";
        assert!(refused.starts_with(starts), "{refused}");
    }
    // One that somebody has put there before: nothing is made, or it would be made again and again.
    let mut foreign = with(&other);
    let secret = foreign.get_mut("orders-ca").expect("there");
    secret.metadata.owner_references = None;
    assert_eq!(
        complete(&cluster, &foreign).expect_err("refused"),
        "Secret orders-ca belongs to somebody else; delete or rename it, or give the cluster another name: \
         the operator makes each cluster's authority itself"
    );
}

#[test]
fn a_secret_that_is_named_must_have_a_password() {
    let world = World::new("  bootstrap: {ownerSecret: mine}\n");
    let complete = |secrets: &Secrets| {
        Credentials::complete(&world.cluster, UID, secrets, Millis::new(0))
            .map(|made| made.app_password)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        complete(&Secrets::new()).expect_err("missing"),
        "spec.bootstrap.ownerSecret: there is no Secret mine; create it with the key password"
    );
    let with = |password: &str| {
        let mut secret = k8s_openapi::api::core::v1::Secret::default();
        let bytes = k8s_openapi::ByteString(password.as_bytes().to_vec());
        secret.data = Some([("password".to_owned(), bytes)].into());
        Secrets::from([("mine".to_owned(), secret)])
    };
    assert_eq!(complete(&with("s3cret\n")), Ok("s3cret".to_owned()));
    let refused = complete(&with("\n")).expect_err("empty");
    assert!(refused.contains("put the password there"), "{refused}");
}

fn any_spec() -> impl Strategy<Value = String> {
    (
        0_u32..6,
        proptest::option::of("[a-z]{1,8}"),
        proptest::bool::ANY,
        proptest::collection::btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 0..3),
    )
        .prop_map(|(replicas, image, memory, labels)| {
            let image = image.map_or(String::new(), |i| format!("  image: {i}\n"));
            let memory = if memory {
                "  resources: {limits: {memory: 1Gi}}\n"
            } else {
                ""
            };
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}: '{v}'")).collect();
            let labels = labels.join(", ");
            format!(
                "  replicas: {replicas}\n{image}{memory}  podMetadata: {{labels: {{{labels}}}}}\n"
            )
        })
}

proptest! {
    #[test]
    fn every_object_is_the_cluster_s_and_in_its_namespace(spec in any_spec(), selector in any::<bool>()) {
        let mut world = World::new(&spec);
        if selector {
            world.routing = WriteRouting::Selector;
        }
        let rendered = world.render();
        prop_assert_eq!(rendered.workloads.len(), world.instances.len());
        let mut keys: Vec<ObjectKey> = rendered.objects.iter().map(Object::key).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), count);
        let sets = rendered.workloads.values().map(|w| Object::StatefulSet(Box::new(created(w).clone())));
        for object in rendered.objects.into_iter().chain(sets) {
            let metadata = object.metadata();
            prop_assert!(object::is_owned(metadata, UID));
            prop_assert_eq!(metadata.namespace.as_deref(), Some("shop"));
            prop_assert_eq!(metadata.labels.as_ref().and_then(|l| l.get(CLUSTER)).map(String::as_str), Some("orders"));
            let yaml = to_yaml(&object).expect("prints");
            prop_assert!(yaml.starts_with("apiVersion: "), "{}", yaml);
        }
    }

    #[test]
    fn pods_are_restricted_and_name_no_role(spec in any_spec()) {
        let world = World::new(&spec);
        for workload in world.render().workloads.values() {
            let template = &created(workload).spec.as_ref().expect("a spec").template;
            let labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
            prop_assert!(!labels.contains_key(ROLE) && !labels.contains_key(TERM));
            let pod = template.spec.as_ref().expect("a pod");
            prop_assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
            let security = pod.security_context.as_ref().expect("a context");
            prop_assert_eq!(security.run_as_non_root, Some(true));
            prop_assert_eq!(security.seccomp_profile.as_ref().map(|p| p.type_.as_str()), Some("RuntimeDefault"));
            for container in &pod.containers {
                let own = container.security_context.as_ref().expect("a context");
                prop_assert_eq!(own.read_only_root_filesystem, Some(true));
                prop_assert_eq!(own.allow_privilege_escalation, Some(false));
                let dropped = own.capabilities.as_ref().and_then(|c| c.drop.clone());
                prop_assert_eq!(dropped, Some(vec!["ALL".to_owned()]));
            }
        }
    }

    #[test]
    fn the_same_pod_has_the_same_fingerprint_and_another_pod_another(a in any_spec(), b in any_spec()) {
        let (a, b) = (cluster(&a), cluster(&b));
        prop_assert_eq!(a.pod == b.pod, fingerprint(&a) == fingerprint(&b));
    }
}
