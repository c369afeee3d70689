//! Acting on Kubernetes: supervisors' calls over TLS, objects, pods, the record by compare-and-swap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use super::objects::{ObjectsError, Wanted};
use super::reports::{
    Overtaken, annotation_of, consume, merge, put_refusal, quiet, refusal, reports,
};
use super::steps::{CALL_LIMIT, Call, Steps, call_of, reseeding};
use super::telling::{Tell, Told, tell_changes};
use crate::api::SupervisorStatus;
use crate::crd::{HandledRequest, ReplicatedCluster, ReplicatedClusterStatus};
use crate::decide::{Outcome, Plan, Renewal, Routes, Seed, Step};
use crate::faults;
use crate::kubernetes::{Cluster, EventWriter, Health, RETIRED, brief};
use crate::names;
use crate::reconcile::{Act, Seen, Written};
use crate::render::{Kind, ObjectKey};
use crate::transport::{self, Address, CallError};
use crate::validate::{Invalid, ValidatedCluster};

/// How long a pod gets to end after SIGTERM when it is fenced; what is frozen does not hear that signal.
const FENCE_GRACE_SECONDS: u32 = 1;
/// How long a removed instance may take to stop before the step is tried again.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often everything is compared when nothing has changed.
const COMPARE: Duration = Duration::from_secs(1);
/// Attempts at a write of reports that others' writes come before.
const WRITE_TRIES: u32 = 4;

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    #[error("{0}")]
    Other(String),
}

#[derive(Clone)]
pub struct KubernetesActor {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Arc<Cluster>,
    events: EventWriter,
    default_image: String,
    health: Arc<Health>,
    steps: Steps,
    told: Told,
    spec: Mutex<Option<ValidatedCluster>>,
    /// When everything was last compared; none while that is being done.
    compared: Mutex<Compared>,
}

#[derive(Default)]
struct Compared {
    running: bool,
    at: Option<Instant>,
    spec: Option<ValidatedCluster>,
}

impl KubernetesActor {
    pub fn new(
        cluster: Arc<Cluster>,
        events: EventWriter,
        default_image: String,
        health: Arc<Health>,
    ) -> KubernetesActor {
        KubernetesActor {
            inner: Arc::new(Inner {
                cluster,
                events,
                default_image,
                health,
                steps: Steps::default(),
                told: Told::default(),
                spec: Mutex::default(),
                compared: Mutex::default(),
            }),
        }
    }
}

impl Act for KubernetesActor {
    type Error = kube::Error;

    fn take(&self, step: &Step) {
        let Some(key) = self.inner.steps.begin(step) else {
            return;
        };
        let (inner, step) = (Arc::clone(&self.inner), step.clone());
        tokio::spawn(async move {
            faults::point();
            let result = inner.perform(&step).await;
            faults::point();
            inner.steps.end(&key, result.is_ok());
            if let Err(error) = &result {
                tracing::info!(cluster = %inner.cluster.key, ?step, %error, "a step failed and will be tried again");
                if !matches!(error, StepError::Call(_)) {
                    let of = step.instance().unwrap_or("the Services");
                    inner
                        .told
                        .trouble(&inner.events, "StepFailed", of, &error.to_string());
                }
            }
            inner.cluster.watches.wake();
        });
    }

    fn configure(&self, cluster: &ValidatedCluster) {
        *self.inner.spec.lock() = Some(cluster.clone());
        let mut compared = self.inner.compared.lock();
        let same = compared.spec.as_ref() == Some(cluster);
        let lately = compared.at.is_some_and(|at| at.elapsed() < COMPARE);
        if compared.running || (same && lately) {
            return;
        }
        compared.running = true;
        drop(compared);
        let (inner, cluster) = (Arc::clone(&self.inner), cluster.clone());
        tokio::spawn(async move {
            let result = inner.bring_objects(&cluster, &[]).await;
            if let Err(error) = &result {
                let why = error.to_string();
                inner
                    .told
                    .trouble(&inner.events, "ObjectsNotWritten", &cluster.name, &why);
            }
            *inner.compared.lock() = Compared {
                running: false,
                at: Some(Instant::now()),
                spec: result.is_ok().then_some(cluster),
            };
        });
    }

    async fn write(&self, seen: &Seen, plan: &Plan) -> Result<Written, kube::Error> {
        let inner = &self.inner;
        inner.told.crashes(&inner.events, seen);
        let before = seen.cluster.status.clone().unwrap_or_default();
        let after = inner.reports(&before, plan, seen);
        inner.measure(&before, &after, plan);
        if plan.swap.is_none() && plan.outcomes.is_empty() && quiet(&before) == quiet(&after) {
            return Ok(Written::Settled);
        }
        let Some(written) = inner.write_status(&after, plan).await? else {
            return Ok(Written::Conflict);
        };
        tell_changes(&inner.events, &before, &after, plan);
        inner.consume(&written, &plan.outcomes).await?;
        Ok(if plan.swap.is_some() {
            Written::Moved
        } else {
            Written::Settled
        })
    }

    fn measured(&self, took: Duration, well: bool) {
        let inner = &self.inner;
        inner
            .health
            .metrics
            .reconciled(&inner.cluster.key, took, well);
    }

    async fn refuse(&self, seen: &Seen, findings: &[Invalid]) -> Result<(), kube::Error> {
        let Some(refused) = refusal(seen, findings) else {
            return Ok(());
        };
        let inner = &self.inner;
        inner.events.tell("InvalidSpec", true, &refused.message);
        let api = inner.objects();
        let mut object = api.get_status(&inner.cluster.key.name).await?;
        put_refusal(&mut object, refused);
        let name = &inner.cluster.key.name;
        let written = api
            .replace_status(name, &PostParams::default(), &object)
            .await?;
        inner.cluster.wrote(written);
        Ok(())
    }
}

impl Inner {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), &self.cluster.key.namespace)
    }

    fn objects(&self) -> Api<ReplicatedCluster> {
        self.api()
    }

    /// The reports as Kubernetes' users know their things: pods, nodes.
    fn reports(
        &self,
        before: &ReplicatedClusterStatus,
        plan: &Plan,
        seen: &Seen,
    ) -> ReplicatedClusterStatus {
        let mut after = reports(before, plan, seen);
        after.current_primary = after.current_primary.as_deref().map(names::pod);
        let pods = self.cluster.pods();
        for instance in &mut after.instances {
            instance.node = pods.get(&instance.name).and_then(|pod| pod.node.clone());
            instance.supervisor_pid = None;
            instance.engine_pid = None;
            instance.port = None;
        }
        after
    }

    /// The record of the next status is the swap's, if there is one.
    fn measure(
        &self,
        before: &ReplicatedClusterStatus,
        after: &ReplicatedClusterStatus,
        plan: &Plan,
    ) {
        let mut whole = after.clone();
        if let Some(swap) = &plan.swap {
            whole.set_record(swap.record.clone());
        }
        let key = &self.cluster.key;
        self.health.metrics.reported(key, before, &whole);
    }

    /// The object with its new status; none if somebody else changed the record first.
    async fn write_status(
        &self,
        after: &ReplicatedClusterStatus,
        plan: &Plan,
    ) -> Result<Option<ReplicatedCluster>, kube::Error> {
        let (api, name) = (self.objects(), &self.cluster.key.name);
        for _ in 0..WRITE_TRIES {
            let mut object = api.get_status(name).await?;
            if object.metadata.uid.as_ref() != Some(&self.cluster.uid) {
                return Ok(None);
            }
            if merge(&mut object, plan.swap.as_ref(), after.clone()) == Err(Overtaken) {
                self.cluster.wrote(object);
                return Ok(None);
            }
            note_handled(&mut object, &plan.outcomes);
            let parameters = PostParams::default();
            match api.replace_status(name, &parameters, &object).await {
                Ok(written) => {
                    self.cluster.wrote(written.clone());
                    return Ok(Some(written));
                }
                // Whatever was written, the record is compared again.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes the annotations of answered requests off the object, unless they say something else by now.
    async fn consume(
        &self,
        written: &ReplicatedCluster,
        outcomes: &[Outcome],
    ) -> Result<(), kube::Error> {
        let (api, name) = (self.objects(), &self.cluster.key.name);
        let mut object = written.clone();
        for _ in 0..WRITE_TRIES {
            let before = object.metadata.annotations.clone().unwrap_or_default();
            if !consume(&mut object, outcomes) {
                return Ok(());
            }
            let left = object.metadata.annotations.unwrap_or_default();
            let gone: BTreeMap<&String, Option<String>> = before
                .keys()
                .filter(|key| !left.contains_key(*key))
                .map(|key| (key, None))
                .collect();
            let patch = json!({"metadata": {
                "resourceVersion": object.metadata.resource_version,
                "annotations": gone,
            }});
            let parameters = PatchParams::default();
            match api.patch(name, &parameters, &Patch::Merge(&patch)).await {
                Ok(written) => {
                    self.cluster.wrote(written);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    object = api.get(name).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn perform(self: &Arc<Inner>, step: &Step) -> Result<(), StepError> {
        let upstream = self.upstream(step);
        if let (Some(call), Some(instance)) = (call_of(step, upstream), step.instance()) {
            self.call(instance, call).await?;
            if let Step::Reseed { why, .. } = step {
                self.events
                    .tell("Reseeding", true, &reseeding(instance, why));
            }
            return Ok(());
        }
        match step {
            Step::Create { instance, seed, .. } => self.create(instance, *seed).await,
            Step::Start { instance } => self.start(instance).await,
            Step::Fence { instance, pid } => self.fence(instance, *pid).await,
            Step::Remove { instance } => self.remove(instance).await,
            Step::Replace { instance } => self.replace(instance).await,
            Step::Renew {
                instance,
                how: Renewal::Pod,
            } => self.renew(instance).await,
            Step::Route(routes) => self.route(routes).await,
            Step::Seal { .. }
            | Step::Demote { .. }
            | Step::Promote { .. }
            | Step::Set { .. }
            | Step::Follow { .. }
            | Step::Renew { .. }
            | Step::Reseed { .. } => Ok(()), // These are calls.
        }
    }

    /// The pod of whom a standby is told to follow: the record's candidate or primary.
    fn upstream(&self, step: &Step) -> Option<crate::api::Upstream> {
        let Step::Follow { .. } = step else {
            return None;
        };
        let record = self.cluster.object()?.status?.record()?;
        let primary = record.candidate.or(record.primary)?;
        self.cluster.upstream(&primary.name)
    }

    async fn call(&self, instance: &str, call: Call) -> Result<(), StepError> {
        let nowhere = || StepError::Other(format!("{instance} has no pod that could be called"));
        let pod = self.cluster.pod(instance).ok_or_else(nowhere)?;
        let peer = self.cluster.peer(instance, &pod).ok_or_else(nowhere)?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let status: SupervisorStatus = transport::call(
            Address::Tls(&peer),
            call.path,
            None,
            Some(call.body),
            CALL_LIMIT,
        )
        .await?;
        let life = self.cluster.life(&uid, status.began_at);
        self.cluster.watches.said(instance, life, status);
        Ok(())
    }

    fn spec(&self) -> Result<ValidatedCluster, StepError> {
        let spec = self.spec.lock().clone();
        spec.ok_or_else(|| StepError::Other("no valid spec yet".to_owned()))
    }

    async fn create(self: &Arc<Inner>, instance: &str, seed: Seed) -> Result<(), StepError> {
        self.unretire(instance).await?;
        if !self.make(instance).await? {
            return Ok(()); // Made since the look that this step was decided on.
        }
        let how = match seed {
            Seed::Initdb => "an empty database",
            Seed::Backup => "a base backup of the primary",
        };
        let message = format!("{instance} begins with {how}");
        self.events.tell("InstanceCreated", false, &message);
        Ok(())
    }

    /// Kubernetes starts what has a StatefulSet; one of which only the claim is left gets it back.
    async fn start(self: &Arc<Inner>, instance: &str) -> Result<(), StepError> {
        if self.stateful_set(instance) {
            return Ok(());
        }
        if self.make(instance).await? {
            let message = format!("{instance} is started again on the volume that it had");
            self.events.tell("InstanceStarted", false, &message);
        }
        Ok(())
    }

    fn stateful_set(&self, instance: &str) -> bool {
        self.cluster
            .stateful_sets()
            .iter()
            .any(|set| set.name_any() == instance)
    }

    /// SIGKILL a second after SIGTERM, to the very pod in which that life was seen.
    async fn fence(&self, instance: &str, life: u32) -> Result<(), StepError> {
        let Some(uid) = self.cluster.pod_of_life(life) else {
            return Ok(());
        };
        let fenced = self
            .delete_pod(&names::pod(instance), &uid, FENCE_GRACE_SECONDS)
            .await?;
        if fenced {
            let message = format!("the pod of {instance} was told to end, by SIGKILL if need be");
            self.events.tell("Fenced", true, &message);
        }
        Ok(())
    }

    async fn delete_pod(
        &self,
        name: &str,
        uid: &str,
        grace_seconds: u32,
    ) -> Result<bool, kube::Error> {
        let pods: Api<Pod> = self.api();
        let parameters = DeleteParams {
            grace_period_seconds: Some(grace_seconds),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match pods.delete(name, &parameters).await {
            Ok(_) => Ok(true),
            // It has gone, or another one has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The claim stays, marked: it is the last thing that makes this an instance of the cluster.
    async fn remove(&self, instance: &str) -> Result<(), StepError> {
        let sets: Api<StatefulSet> = self.api();
        match sets.delete(instance, &DeleteParams::foreground()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        let began = Instant::now();
        let pods: Api<Pod> = self.api();
        while pods.get_opt(&names::pod(instance)).await?.is_some() {
            if began.elapsed() > STOP_LIMIT {
                return Err(StepError::Other(format!("{instance} is still stopping")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let patch = json!({"metadata": {"annotations": {RETIRED: "true"}}});
        self.patch_claim(instance, &patch).await?;
        let claim = names::claim(instance);
        let message = format!("{instance} was removed; its volume is kept as the claim {claim}");
        self.events.tell("InstanceRemoved", false, &message);
        Ok(())
    }

    /// The pod is deleted without waiting for its node's word, which may never come; then the claim, and with it what
    /// was on the volume.
    async fn replace(&self, instance: &str) -> Result<(), StepError> {
        let sets: Api<StatefulSet> = self.api();
        match sets.delete(instance, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(uid) = self.cluster.pod(instance).and_then(|pod| pod.uid()) {
            self.delete_pod(&names::pod(instance), &uid, 0).await?;
        }
        let claims: Api<PersistentVolumeClaim> = self.api();
        let name = names::claim(instance);
        match claims.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        let message = format!("{instance} was given up, with its pod and the claim {name}");
        self.events.tell("InstanceReplaced", true, &message);
        Ok(())
    }

    /// Writes the StatefulSet as the manifest is now; Kubernetes makes the pod anew.
    async fn renew(self: &Arc<Inner>, instance: &str) -> Result<(), StepError> {
        let spec = self.spec()?;
        let wanted = Wanted::of(&self.cluster, &spec, &self.default_image, &[]).await?;
        if wanted.renew(instance).await? {
            let message = format!("the pod of {instance} is made anew, as the manifest is now");
            self.events.tell("InstanceRenewed", false, &message);
        }
        Ok(())
    }

    async fn unretire(&self, instance: &str) -> Result<(), StepError> {
        let patch = json!({"metadata": {"annotations": {RETIRED: null}}});
        Ok(self.patch_claim(instance, &patch).await?)
    }

    async fn patch_claim(
        &self,
        instance: &str,
        patch: &serde_json::Value,
    ) -> Result<(), kube::Error> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let parameters = PatchParams::default();
        let name = names::claim(instance);
        match claims.patch(&name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn route(&self, routes: &Routes) -> Result<(), StepError> {
        let spec = self.spec()?;
        let wanted = Wanted::of(&self.cluster, &spec, &self.default_image, &[]).await?;
        Ok(wanted.lead_to(routes).await?)
    }

    /// Everything that the manifest asks for, with `more` instances besides those that there are. Gives what was made.
    async fn bring_objects(
        self: &Arc<Inner>,
        spec: &ValidatedCluster,
        more: &[String],
    ) -> Result<Vec<ObjectKey>, ObjectsError> {
        let wanted = Wanted::of(&self.cluster, spec, &self.default_image, more).await?;
        let brought = wanted.bring().await;
        for foreign in brought.foreign {
            let of = foreign.key.to_string();
            self.told
                .trouble(&self.events, "NameTaken", &of, &foreign.to_string());
        }
        match brought.failed.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(brought.created),
        }
    }

    /// True if its StatefulSet was made just now.
    async fn make(self: &Arc<Inner>, instance: &str) -> Result<bool, StepError> {
        let spec = self.spec()?;
        let made = self.bring_objects(&spec, &[instance.to_owned()]).await?;
        Ok(made
            .iter()
            .any(|key| key.kind == Kind::StatefulSet && key.name == instance))
    }
}

/// Requests that are acted on now, and older ones whose annotation is still there.
fn note_handled(object: &mut ReplicatedCluster, outcomes: &[Outcome]) {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let Some(status) = object.status.as_mut() else {
        return;
    };
    let new = outcomes.iter().map(|outcome| HandledRequest {
        annotation: annotation_of(outcome.request).to_owned(),
        text: outcome.text.clone(),
    });
    let mut all: Vec<HandledRequest> = std::mem::take(&mut status.handled_requests);
    all.extend(new);
    all.retain(|request| annotations.get(&request.annotation) == Some(&request.text));
    all.dedup();
    status.handled_requests = all;
}
