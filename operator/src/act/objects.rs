//! The cluster's objects on the API server, brought to what is rendered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::decide::Routes;
use crate::ids::Millis;
use crate::kubernetes::{Applied, Cluster, Kept, RECORD_VERSION, apply, brief, remove};
use crate::names;
use crate::render::{
    CLUSTER, Credentials, CredentialsError, Existing, ForeignObject, Found, INSTANCE, Input, Kind,
    Object, ObjectKey, PRIMARY, ROLE, STANDBY, Secrets, TERM, Workload, WriteRouting, render,
    write_traffic,
};
use crate::validate::ValidatedCluster;

#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectsError {
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error("{}: {}", .0, brief(.1))]
    Object(ObjectKey, #[source] kube::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// What became of the objects.
pub(super) struct Brought {
    pub created: Vec<ObjectKey>,
    /// In the way, and left alone.
    pub foreign: Vec<ForeignObject>,
    /// Could not be written; the others were, all the same.
    pub failed: Vec<ObjectsError>,
}

/// What one look at the cluster makes of its manifest.
pub(super) struct Wanted<'a> {
    cluster: &'a Cluster,
    spec: &'a ValidatedCluster,
    default_image: &'a str,
    instances: Vec<String>,
    existing: Existing,
    credentials: Credentials,
}

impl<'a> Wanted<'a> {
    pub async fn of(
        cluster: &'a Cluster,
        spec: &'a ValidatedCluster,
        default_image: &'a str,
        more: &[String],
    ) -> Result<Wanted<'a>, ObjectsError> {
        let secrets = secrets(cluster, spec).await?;
        let credentials = Credentials::complete(spec, &cluster.uid, &secrets, Millis::now())?;
        let mut instances: Vec<String> = cluster
            .stateful_sets()
            .iter()
            .map(|set| set.name_any())
            .collect();
        instances.extend(more.iter().cloned());
        instances.sort();
        instances.dedup();
        Ok(Wanted {
            cluster,
            spec,
            default_image,
            instances,
            existing: existing(cluster),
            credentials,
        })
    }

    fn input<'b>(
        &'b self,
        record: Option<&'b crate::crd::Record>,
        routes: Option<&'b Routes>,
    ) -> Input<'b> {
        Input {
            cluster: self.spec,
            uid: &self.cluster.uid,
            record,
            routes,
            instances: &self.instances,
            existing: &self.existing,
            credentials: &self.credentials,
            default_image: self.default_image,
            routing: WriteRouting::EndpointSlice,
        }
    }

    /// Creates and changes what is not as it should be.
    pub async fn bring(&self) -> Brought {
        let object = self.cluster.object();
        let record = object.and_then(|object| object.status?.record());
        let routes = self.cluster.routes();
        let rendered = render(&self.input(record.as_ref(), routes.as_ref()));
        let mut brought = Brought {
            foreign: rendered.foreign,
            created: Vec::new(),
            failed: Vec::new(),
        };
        // Where the write Service leads is moved by its own step only.
        let slice = |object: &&Object| object.kind() != Kind::EndpointSlice;
        for object in rendered.objects.iter().filter(slice) {
            self.note(object, &mut brought).await;
        }
        for workload in rendered.workloads.into_values() {
            // A changed template restarts its pod: when that is right is decided elsewhere.
            if let Workload::Create(set) = workload {
                let object = Object::StatefulSet(set);
                self.note(&object, &mut brought).await;
            }
        }
        for key in rendered
            .surplus
            .iter()
            .filter(|key| key.kind != Kind::EndpointSlice)
        {
            let namespace = &self.cluster.key.namespace;
            if let Err(error) = remove(&self.cluster.client, namespace, key).await {
                brought
                    .failed
                    .push(ObjectsError::Object(key.clone(), error));
            }
        }
        brought
    }

    async fn note(&self, object: &Object, brought: &mut Brought) {
        match self.bring_one(object).await {
            Ok(Applied::Created) => brought.created.push(object.key()),
            Ok(Applied::Foreign(found)) => {
                let foreign = ForeignObject::of(&found, &self.spec.name, &self.cluster.uid);
                brought.foreign.extend(foreign);
            }
            Ok(Applied::Same | Applied::Changed) => {}
            Err(error) => {
                brought
                    .failed
                    .push(ObjectsError::Object(object.key(), error));
            }
        }
    }

    /// Writes the StatefulSet of an instance whose manifest has changed. True if that was so.
    pub async fn renew(&self, instance: &str) -> Result<bool, ObjectsError> {
        let mut rendered = render(&self.input(None, None));
        match rendered.workloads.remove(instance) {
            Some(Workload::Replace(set)) => {
                self.bring_one(&Object::StatefulSet(set)).await?;
                Ok(true)
            }
            Some(Workload::Create(_) | Workload::Keep) | None => Ok(false),
        }
    }

    async fn bring_one(&self, object: &Object) -> Result<Applied, kube::Error> {
        let existing = self.there(object);
        let namespace = &self.cluster.key.namespace;
        apply(&self.cluster.client, namespace, object, existing).await
    }

    /// What the stores have of this object.
    fn there(&self, object: &Object) -> Option<Value> {
        let (stores, key) = (&self.cluster.stores, &self.cluster.key);
        let name = object.key().name;
        match object.kind() {
            Kind::ServiceAccount => found(&stores.accounts, key, &name),
            Kind::Role => found(&stores.roles, key, &name),
            Kind::RoleBinding => found(&stores.bindings, key, &name),
            Kind::Secret => found(&stores.secrets, key, &name),
            Kind::Service => found(&stores.services, key, &name),
            Kind::EndpointSlice => found(&stores.slices, key, &name),
            Kind::PodDisruptionBudget => found(&stores.budgets, key, &name),
            Kind::NetworkPolicy => found(&stores.policies, key, &name),
            Kind::StatefulSet => found(&stores.stateful_sets, key, &name),
        }
    }

    /// Leads the Services as `routes` says: first the one write that moves the primary's, then the labels of pods.
    pub async fn lead_to(&self, routes: &Routes) -> Result<(), ObjectsError> {
        let object = self.cluster.object();
        let record = object.and_then(|object| object.status?.record());
        for mut object in write_traffic(&self.input(record.as_ref(), Some(routes))) {
            if let Object::EndpointSlice(slice) = &mut object {
                slice
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(RECORD_VERSION.to_owned(), routes.record_version.to_string());
                self.bring_one(&object).await?;
            }
        }
        let term = record.map(|record| record.term.to_string());
        for pod in self.cluster.stores.pods.of_cluster(&self.cluster.key) {
            let Some(instance) = pod.labels().get(INSTANCE) else {
                continue;
            };
            let role = if routes.primary.as_ref() == Some(instance) {
                Some(PRIMARY)
            } else if routes.standbys.contains(instance) {
                Some(STANDBY)
            } else {
                None
            };
            self.label(&pod, role, term.as_deref()).await?;
        }
        Ok(())
    }

    async fn label(
        &self,
        pod: &Pod,
        role: Option<&str>,
        term: Option<&str>,
    ) -> Result<(), kube::Error> {
        let term = term.filter(|_| role.is_some());
        let now = |label: &str| pod.labels().get(label).map(String::as_str);
        if now(ROLE) == role && now(TERM) == term {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid,
            "labels": {ROLE: role, TERM: term},
        }});
        let pods: Api<Pod> =
            Api::namespaced(self.cluster.client.clone(), &self.cluster.key.namespace);
        let parameters = PatchParams::default();
        match pods
            .patch(&pod.name_any(), &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            // It has gone, or another one has its name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn found<K>(store: &Kept<K>, key: &crate::kubernetes::ClusterKey, name: &str) -> Option<Value>
where
    K: kube::Resource + Clone + Serialize + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
{
    let object = store
        .of_cluster(key)
        .into_iter()
        .find(|object| object.name_any() == name)?;
    serde_json::to_value(object.as_ref()).ok()
}

fn existing(cluster: &Cluster) -> Existing {
    let (stores, key) = (&cluster.stores, &cluster.key);
    let mut others = Vec::new();
    macro_rules! all {
        ($($store:ident: $kind:ident),*) => {$(
            for object in stores.$store.of_cluster(key) {
                others.push(Found::new(Kind::$kind, &object.metadata));
            }
        )*};
    }
    all!(accounts: ServiceAccount, roles: Role, bindings: RoleBinding, secrets: Secret, services: Service,
         budgets: PodDisruptionBudget, policies: NetworkPolicy);
    // Other slices of the same Service are Kubernetes' own.
    for slice in stores.slices.of_cluster(key) {
        let found = Found::new(Kind::EndpointSlice, &slice.metadata);
        others.extend(found.controller.is_some().then_some(found));
    }
    let stateful_sets = stores
        .stateful_sets
        .of_cluster(key)
        .into_iter()
        .map(|set| (set.name_any(), (*set).clone()))
        .collect();
    Existing {
        stateful_sets,
        others,
        pods: cluster.pods(),
    }
}

/// The cluster's own Secrets and those that the manifest names. As long as some of its own are not in the store the
/// server itself is asked: a password must not be made up twice.
async fn secrets(cluster: &Cluster, spec: &ValidatedCluster) -> Result<Secrets, kube::Error> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.key.namespace);
    let mut all: BTreeMap<String, Secret> = cluster
        .stores
        .secrets
        .of_cluster(&cluster.key)
        .into_iter()
        .map(|secret| (secret.name_any(), (*secret).clone()))
        .collect();
    let whole = [
        names::ca_secret(&spec.name),
        names::server_secret(&spec.name),
        names::client_secret(&spec.name),
        names::operator_secret(&spec.name),
        names::replication_secret(&spec.name),
        names::app_secret(&spec.name),
    ];
    if whole.iter().any(|name| !all.contains_key(name)) {
        let labels = format!("{CLUSTER}={}", spec.name);
        let listed = api.list(&ListParams::default().labels(&labels)).await?;
        all.extend(listed.into_iter().map(|secret| (secret.name_any(), secret)));
    }
    let bootstrap = &spec.bootstrap;
    for name in [&bootstrap.owner_secret, &bootstrap.superuser_secret]
        .into_iter()
        .flatten()
    {
        if let Some(secret) = api.get_opt(name).await? {
            all.insert(name.clone(), secret);
        }
    }
    Ok(all)
}
