//! The cluster's objects on the API server, brought to what is rendered.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::problems::Verdict;
use crate::crd::{Condition, ConditionStatus, ReplicatedCluster};
use crate::decide::Routes;
use crate::ids::Millis;
use crate::kubernetes::{
    Applied, Cluster, ClusterKey, Inputs, Kept, RECORD_VERSION, Sight, Version, apply, brief,
    is_as_wanted, is_conflict, remove,
};
use crate::names;
use crate::render::{
    CLUSTER, Credentials, CredentialsError, Existing, ForeignObject, Found, INSTANCE, Input, Kind,
    Object, ObjectKey, PRIMARY, ROLE, STANDBY, Secrets, TERM, Workload, WriteRouting, is_owned,
    made_like, render, write_traffic,
};
use crate::validate::ValidatedCluster;

/// Attempts at the write that moves the write Service.
const SLICE_TRIES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectsError {
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error("{}: {}", .0, brief(.1))]
    Object(ObjectKey, #[source] kube::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// In the way of where the write Service leads.
    #[error("{0}")]
    Foreign(ForeignObject),
    #[error(
        "{0} can't be made while the manifest is refused: no other instance has a StatefulSet that says how. Correct the \
         fields that the condition Ready names"
    )]
    NothingLike(String),
    /// Nothing is the matter: what was looked at is looked at again.
    #[error("somebody else was faster")]
    Overtaken,
}

/// How the API server has answered; none if it was not heard, or somebody else was faster.
pub(super) fn verdict(error: &kube::Error) -> Option<Verdict> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    match status.code {
        409 => None,
        404 | 429 => Some(Verdict::Failed),
        400..=499 => Some(Verdict::Refused),
        _ => Some(Verdict::Failed),
    }
}

impl ObjectsError {
    /// How it came, where it is worth telling.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            ObjectsError::Kube(error) | ObjectsError::Object(_, error) => verdict(error),
            ObjectsError::Credentials(_)
            | ObjectsError::Foreign(_)
            | ObjectsError::NothingLike(_) => Some(Verdict::Refused),
            ObjectsError::Overtaken => None,
        }
    }

    fn is_lasting(&self) -> bool {
        self.verdict() == Some(Verdict::Refused)
    }

    /// Another operator, or Kubernetes, has written first: nobody has to be told.
    pub fn is_passing(&self) -> bool {
        match self {
            ObjectsError::Kube(error) | ObjectsError::Object(_, error) => is_conflict(error),
            ObjectsError::Credentials(_)
            | ObjectsError::Foreign(_)
            | ObjectsError::NothingLike(_) => false,
            ObjectsError::Overtaken => true,
        }
    }
}

/// What became of the objects.
#[derive(Default)]
pub(super) struct Brought {
    pub created: Vec<ObjectKey>,
    /// Something was not as it is to be, or was to go, so far as the stores show it.
    pub differed: bool,
    /// In the way, and left alone.
    pub foreign: Vec<ForeignObject>,
    /// Could not be written; the others were, all the same.
    pub failed: Vec<ObjectsError>,
}

impl Brought {
    /// What somebody has to see to, or will have to if it lasts.
    pub fn problem(&self) -> Option<(String, Verdict)> {
        let foreign = self.foreign.iter().map(ToString::to_string);
        let refused = self.failed.iter().filter(|error| error.is_lasting());
        let all: Vec<String> = foreign.chain(refused.map(ToString::to_string)).collect();
        if !all.is_empty() {
            return Some((all.join("; "), Verdict::Refused));
        }
        let failed = self.failed.iter().find(|error| error.verdict().is_some())?;
        Some((failed.to_string(), Verdict::Failed))
    }

    /// Whether everything was as it is to be, and nothing of others' in the way.
    fn is_nothing(&self) -> bool {
        !self.differed && self.foreign.is_empty() && self.failed.is_empty()
    }

    /// What was made, and what failed. Where an instance was to be made its own StatefulSet comes first: of everything else
    /// it is told whenever everything is compared.
    pub fn end(self, instance: Option<&str>) -> (Vec<ObjectKey>, Result<(), ObjectsError>) {
        let Brought {
            created,
            differed: _,
            foreign,
            mut failed,
        } = self;
        let is_its =
            |key: &ObjectKey| key.kind == Kind::StatefulSet && instance == Some(key.name.as_str());
        let taken = foreign.into_iter().find(|found| is_its(&found.key));
        let own = failed
            .iter()
            .position(|error| matches!(error, ObjectsError::Object(key, _) if is_its(key)));
        let at = own.unwrap_or(0);
        let first = (at < failed.len()).then(|| failed.swap_remove(at));
        let error = taken.map(ObjectsError::Foreign).or(first);
        (created, error.map_or(Ok(()), Err))
    }
}

/// What one look at the cluster makes of its manifest, without passwords and certificates: enough for where the Services
/// lead and for StatefulSets, which must not wait for a Secret that somebody has taken away.
pub(super) struct Look<'a> {
    cluster: &'a Cluster,
    spec: &'a ValidatedCluster,
    default_image: &'a str,
    instances: Vec<String>,
    existing: Existing,
    /// Of what exists: what is deleted is this and nothing later.
    versions: BTreeMap<ObjectKey, Version>,
    /// What was looked at when it was decided to write.
    sight: Sight,
    confirmed: OnceCell<()>,
}

/// All of it; nothing where it is known that everything is there.
pub(super) struct Wanted<'a>(Option<Whole<'a>>);

struct Whole<'a> {
    look: Look<'a>,
    credentials: Credentials,
    /// What all of it follows from.
    inputs: Inputs,
}

impl<'a> Look<'a> {
    pub fn at(
        cluster: &'a Cluster,
        spec: &'a ValidatedCluster,
        default_image: &'a str,
        more: &[String],
        sight: Sight,
    ) -> Look<'a> {
        let mut instances: Vec<String> = cluster
            .stateful_sets()
            .iter()
            .map(|set| set.name_any())
            .collect();
        instances.extend(more.iter().cloned());
        instances.sort();
        instances.dedup();
        let (existing, versions) = existing(cluster);
        Look {
            cluster,
            spec,
            default_image,
            instances,
            existing,
            versions,
            sight,
            confirmed: OnceCell::new(),
        }
    }

    /// Asked once, before the first write: whether the server still has the object that was looked at. A process that
    /// was frozen wakes up with an old plan, and two may think that they lead.
    pub async fn confirm(&self) -> Result<(), ObjectsError> {
        let ask = || async {
            let cluster = self.cluster;
            let api: Api<ReplicatedCluster> =
                Api::namespaced(cluster.client.clone(), &cluster.key.namespace);
            let now = api.get_opt(&cluster.key.name).await?;
            let now = now.filter(|now| now.metadata.uid.as_ref() == Some(&cluster.uid));
            let now = now.ok_or(ObjectsError::Overtaken)?;
            let is_so = self.sight.is_of(&now);
            cluster.wrote(now);
            is_so.then_some(()).ok_or(ObjectsError::Overtaken)
        };
        self.confirmed.get_or_try_init(ask).await.copied()
    }

    fn input<'b>(
        &'b self,
        credentials: &'b Credentials,
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
            credentials,
            default_image: self.default_image,
            routing: WriteRouting::EndpointSlice,
        }
    }

    /// False if everything has to be looked at again before more is written.
    async fn note(&self, object: &Object, brought: &mut Brought) -> bool {
        let there = self.there(object);
        if is_as_wanted(object, there.as_ref()) {
            return true;
        }
        // Even if the server has it as it is to be: the stores do not show that yet, and a cluster of which they show nothing
        // has the same revision before it comes and after it has gone again.
        brought.differed = true;
        match self.confirm_and_write(object, there).await {
            Ok(Applied::Created) => brought.created.push(object.key()),
            Ok(Applied::Foreign(found)) => {
                let foreign = ForeignObject::of(&found, &self.spec.name, &self.cluster.uid);
                brought.foreign.extend(foreign);
            }
            Ok(Applied::Same | Applied::Changed) => {}
            Ok(Applied::Overtaken) | Err(ObjectsError::Overtaken) => {
                brought.failed.insert(0, ObjectsError::Overtaken);
                return false;
            }
            // The server did not say whether that is still to be written: it would not for the next one either.
            Err(error @ ObjectsError::Kube(_)) => {
                brought.failed.push(error);
                return false;
            }
            Err(error) => brought.failed.push(error),
        }
        true
    }

    /// Writes the StatefulSet of an instance whose manifest has changed. True if that was so.
    pub async fn renew(&self, instance: &str) -> Result<bool, ObjectsError> {
        let none = Credentials::default();
        let mut rendered = render(&self.input(&none, None, None));
        match rendered.workloads.remove(instance) {
            Some(Workload::Replace(set)) => {
                let applied = self.bring_one(&Object::StatefulSet(set)).await?;
                if applied == Applied::Overtaken {
                    return Err(ObjectsError::Overtaken);
                }
                Ok(true)
            }
            Some(Workload::Create(_) | Workload::Keep) | None => Ok(false),
        }
    }

    /// Makes the StatefulSet of an instance as another one's is, whatever manifest that was made of: this one's is not
    /// known. True if it was made just now.
    pub async fn make_like_others(&self, instance: &str) -> Result<bool, ObjectsError> {
        let (sets, uid) = (&self.existing.stateful_sets, &self.cluster.uid);
        let there = sets.get(instance);
        if there.is_some_and(|set| is_owned(&set.metadata, uid)) {
            return Ok(false);
        }
        let record = self.cluster.record();
        let primary = record.and_then(|record| record.primary);
        let primary = primary.as_ref().map(|member| member.name.as_str());
        let pattern = pattern(sets, uid, primary);
        let pattern = pattern.ok_or_else(|| ObjectsError::NothingLike(instance.to_owned()))?;
        let object = Object::StatefulSet(Box::new(made_like(pattern, instance)));
        match self.bring_one(&object).await? {
            Applied::Created => Ok(true),
            Applied::Same | Applied::Changed => Ok(false),
            Applied::Overtaken => Err(ObjectsError::Overtaken),
            Applied::Foreign(found) => {
                let foreign = ForeignObject::of(&found, &self.spec.name, uid);
                Err(foreign.map_or(ObjectsError::Overtaken, ObjectsError::Foreign))
            }
        }
    }

    async fn bring_one(&self, object: &Object) -> Result<Applied, ObjectsError> {
        let existing = self.there(object);
        if is_as_wanted(object, existing.as_ref()) {
            return Ok(Applied::Same);
        }
        self.confirm_and_write(object, existing).await
    }

    async fn confirm_and_write(
        &self,
        object: &Object,
        existing: Option<Value>,
    ) -> Result<Applied, ObjectsError> {
        self.confirm().await?;
        self.write(object, existing).await
    }

    async fn write(
        &self,
        object: &Object,
        existing: Option<Value>,
    ) -> Result<Applied, ObjectsError> {
        let namespace = &self.cluster.key.namespace;
        apply(&self.cluster.client, namespace, object, existing)
            .await
            .map_err(|error| ObjectsError::Object(object.key(), error))
    }

    async fn give_up(&self, key: &ObjectKey) -> Result<(), ObjectsError> {
        let Some(version) = self.versions.get(key) else {
            return Ok(());
        };
        self.confirm().await?;
        let (client, namespace) = (&self.cluster.client, &self.cluster.key.namespace);
        remove(client, namespace, key, version)
            .await
            .map_err(|error| ObjectsError::Object(key.clone(), error))
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
        let record = self.cluster.record();
        if record.as_ref().map(|record| record.record_version) != Some(routes.record_version) {
            return Ok(()); // Decided on an older record: on this one it is decided anew.
        }
        let none = Credentials::default();
        let input = self.input(&none, record.as_ref(), Some(routes));
        for mut object in write_traffic(&input) {
            if let Object::EndpointSlice(slice) = &mut object {
                slice
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(RECORD_VERSION.to_owned(), routes.record_version.to_string());
                self.move_to(&object).await?;
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

    /// Slices of the other family of addresses go first: there must never be two addresses.
    async fn move_to(&self, slice: &Object) -> Result<(), ObjectsError> {
        let (client, namespace) = (&self.cluster.client, &self.cluster.key.namespace);
        let wanted = slice.key();
        for other in self.cluster.write_slices() {
            let key = ObjectKey {
                kind: Kind::EndpointSlice,
                name: other.name_any(),
            };
            if key != wanted {
                remove(client, namespace, &key, &Version::of(&other.metadata)).await?;
            }
        }
        // Clients wait: it is not asked before whether this is decided on the newest record. The write is of the slice
        // that is known, so whoever has an older one before his eyes moves nothing.
        let mut existing = self.there(slice);
        for _ in 0..SLICE_TRIES {
            match self.write(slice, existing).await? {
                Applied::Overtaken => {}
                Applied::Foreign(found) => {
                    let foreign = ForeignObject::of(&found, &self.spec.name, &self.cluster.uid);
                    return Err(foreign.map_or(ObjectsError::Overtaken, ObjectsError::Foreign));
                }
                Applied::Same | Applied::Created | Applied::Changed => return Ok(()),
            }
            // The watch may be behind what this very process wrote last.
            let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
            let now = slices.get_opt(&wanted.name).await?;
            let there_for = now.as_ref().map_or(0, |now| led_for(&now.metadata));
            if there_for >= led_for(slice.metadata()) {
                break;
            }
            existing = now.and_then(|now| serde_json::to_value(now).ok());
        }
        Err(ObjectsError::Overtaken)
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
            // It has gone, or another one has its name by now: a uid can't be changed.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<'a> Wanted<'a> {
    pub async fn of(
        cluster: &'a Cluster,
        spec: &'a ValidatedCluster,
        default_image: &'a str,
        more: &[String],
        sight: Sight,
    ) -> Result<Wanted<'a>, ObjectsError> {
        // Before anything is read: what changes from here on is of another revision than the one that was compared.
        let revisions = cluster.stores.revisions(&cluster.key);
        let now = Instant::now();
        let named = named_secrets(spec);
        let mut unwatched = named.clone();
        unwatched.retain(|name| !is_watched(cluster, name));
        let secrets_api = secrets_of(cluster);
        let given = cluster.given.read(&secrets_api, &unwatched, now).await?;
        let version = |name: &str| given.get(name).map(|secret| Version::of(&secret.metadata));
        let inputs = Inputs {
            spec: spec.clone(),
            default_image: default_image.to_owned(),
            more: more.to_vec(),
            record: cluster.record(),
            routes: cluster.routes(),
            given: named.into_iter().map(version).collect(),
            revisions,
        };
        if cluster.settled.is_so(&inputs, now) {
            return Ok(Wanted(None));
        }
        let secrets = secrets(cluster, spec, given).await?;
        let credentials = Credentials::complete(spec, &cluster.uid, &secrets, Millis::now())
            // Somebody may be about to put it right.
            .inspect_err(|_| cluster.given.forget())?;
        Ok(Wanted(Some(Whole {
            look: Look::at(cluster, spec, default_image, more, sight),
            credentials,
            inputs,
        })))
    }

    /// Creates and changes what is not as it should be.
    pub async fn bring(&self) -> Brought {
        let mut brought = Brought::default();
        if let Some(whole) = &self.0 {
            whole.bring(&mut brought).await;
            if brought.is_nothing() {
                let settled = &whole.look.cluster.settled;
                settled.note(whole.inputs.clone(), Instant::now());
            }
        }
        brought
    }
}

impl Whole<'_> {
    async fn bring(&self, brought: &mut Brought) {
        let (look, inputs) = (&self.look, &self.inputs);
        let (record, routes) = (inputs.record.as_ref(), inputs.routes.as_ref());
        let rendered = render(&look.input(&self.credentials, record, routes));
        brought.foreign = rendered.foreign;
        // Where the write Service leads is moved by its own step only.
        let slice = |object: &&Object| object.kind() != Kind::EndpointSlice;
        for object in rendered.objects.iter().filter(slice) {
            if !look.note(object, brought).await {
                return;
            }
        }
        for workload in rendered.workloads.into_values() {
            // A changed template restarts its pod: when that is right is decided elsewhere.
            if let Workload::Create(set) = workload {
                let object = Object::StatefulSet(set);
                if !look.note(&object, brought).await {
                    return;
                }
            }
        }
        let surplus = rendered.surplus.iter();
        for key in surplus.filter(|key| key.kind != Kind::EndpointSlice) {
            brought.differed = true;
            if let Err(error) = look.give_up(key).await {
                brought.failed.push(error);
            }
        }
    }
}

/// The reason of conditions that only wait.
const NOT_READY: &str = "InstancesNotReady";
const PROBLEM: &str = "ObjectsNotWritten";

/// What conditions say while the manifest's objects can't be brought to what they should be. A failover that is blocked,
/// or another obstacle that has a reason of its own, goes before.
pub(super) fn with_problem(conditions: &[Condition], problem: Option<&str>) -> Vec<Condition> {
    let mut all = conditions.to_vec();
    let Some(problem) = problem else {
        return all;
    };
    for condition in &mut all {
        let is_true = condition.status == ConditionStatus::True;
        let says_it = match condition.type_.as_str() {
            "Degraded" => !is_true || condition.reason == NOT_READY,
            "Ready" => !is_true && [NOT_READY, "Creating"].contains(&condition.reason.as_str()),
            _ => false,
        };
        if says_it {
            PROBLEM.clone_into(&mut condition.reason);
            problem.clone_into(&mut condition.message);
        }
        if says_it && condition.type_ == "Degraded" {
            condition.status = ConditionStatus::True;
        }
    }
    all
}

/// The cluster's own StatefulSet that another one is made like: the primary's, which comes last in a roll-out and serves;
/// else the first.
fn pattern<'a>(
    sets: &'a BTreeMap<String, StatefulSet>,
    uid: &str,
    primary: Option<&str>,
) -> Option<&'a StatefulSet> {
    let is_own = |set: &&StatefulSet| is_owned(&set.metadata, uid);
    let primary = primary.and_then(|name| sets.get(name)).filter(is_own);
    primary.or_else(|| sets.values().find(is_own))
}

/// The version of the record that a slice was written for.
fn led_for(metadata: &ObjectMeta) -> u64 {
    let all = metadata.annotations.as_ref();
    let version = all.and_then(|all| all.get(RECORD_VERSION));
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn found<K: Serialize>(store: &Kept<K>, key: &ClusterKey, name: &str) -> Option<Value> {
    let object = store.named(key, name)?;
    serde_json::to_value(object.as_ref()).ok()
}

fn existing(cluster: &Cluster) -> (Existing, BTreeMap<ObjectKey, Version>) {
    let (stores, key) = (&cluster.stores, &cluster.key);
    let mut others = Vec::new();
    let mut versions = BTreeMap::new();
    macro_rules! all {
        ($($store:ident: $kind:ident),*) => {$(
            for object in stores.$store.of_cluster(key) {
                let found = Found::new(Kind::$kind, &object.metadata);
                versions.insert(found.key.clone(), Version::of(&object.metadata));
                others.push(found);
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
    let existing = Existing {
        stateful_sets,
        others,
        pods: cluster.pods(),
    };
    (existing, versions)
}

/// The Secrets that the manifest names.
fn named_secrets(spec: &ValidatedCluster) -> Vec<&str> {
    let bootstrap = &spec.bootstrap;
    let both = [&bootstrap.owner_secret, &bootstrap.superuser_secret];
    both.into_iter().flatten().map(String::as_str).collect()
}

/// A user's Secret that carries the cluster's label comes by the watch of its own.
fn is_watched(cluster: &Cluster, secret: &str) -> bool {
    let store = &cluster.stores.secrets;
    store.named(&cluster.key, secret).is_some()
}

fn secrets_of(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.key.namespace)
}

/// The cluster's own Secrets and those that the manifest names, of which `given` were read. As long as some of its own are
/// not in the store the server itself is asked: a password must not be made up twice.
async fn secrets(
    cluster: &Cluster,
    spec: &ValidatedCluster,
    given: Secrets,
) -> Result<Secrets, kube::Error> {
    let api = secrets_of(cluster);
    let mut all: BTreeMap<String, Secret> = cluster
        .stores
        .secrets
        .of_cluster(&cluster.key)
        .into_iter()
        .map(|secret| (secret.name_any(), (*secret).clone()))
        .collect();
    let mut whole = vec![
        names::ca_secret(&spec.name),
        names::server_secret(&spec.name),
        names::client_secret(&spec.name),
        names::operator_secret(&spec.name),
        names::replication_secret(&spec.name),
        names::app_secret(&spec.name),
    ];
    if spec.bootstrap.superuser_secret.is_none() {
        whole.push(names::superuser_secret(&spec.name));
    }
    if whole.iter().any(|name| !all.contains_key(name)) {
        let labels = format!("{CLUSTER}={}", spec.name);
        let listed = api.list(&ListParams::default().labels(&labels)).await?;
        all.extend(listed.into_iter().map(|secret| (secret.name_any(), secret)));
        // One that has lost its label, or a stranger's: what it is to hold would be made up again and again.
        for name in whole {
            if !all.contains_key(&name)
                && let Some(secret) = api.get_opt(&name).await?
            {
                all.insert(name, secret);
            }
        }
    }
    all.extend(given);
    Ok(all)
}

#[cfg(test)]
mod tests;
