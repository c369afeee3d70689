//! Acting on Kubernetes: supervisors' calls over TLS, objects, pods, the record by compare-and-swap.

mod held;
mod started;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use self::held::is_to_be_done;
use self::started::ScaledBack;
use super::objects::{Look, ObjectsError, Wanted, verdict, with_problem};
use super::problems::{Problems, Verdict};
use super::reports::{
    Overtaken, annotation_of, dated, finish, has_withdrawn, is_news, mark_done, merge,
    note_handled, open_requests, put_refusal, quiet, refusal, reports,
};
use super::steps::{CALL_LIMIT, Call, Steps, call_of, made, name, told_of};
use super::telling::{Tell, Told, tell_changes};
use crate::api::SupervisorStatus;
use crate::crd::{HandledRequest, ReplicatedCluster, ReplicatedClusterStatus};
use crate::decide::{Plan, Renewal, Routes, Seed, Step};
use crate::faults;
use crate::kubernetes::{
    Cluster, EventWriter, Health, Held, RETIRED, Sight, brief, is_conflict, remove_one,
};
use crate::names;
use crate::reconcile::{Act, Seen, Written};
use crate::render::ObjectKey;
use crate::transport::{self, Address, CallError};
use crate::validate::{Invalid, ValidatedCluster};

/// How long a pod gets to end after SIGTERM when it is fenced; what is frozen does not hear that signal.
const FENCE_GRACE_SECONDS: u32 = 1;
/// How long the write Service may lead to whoever is fenced before its pod is told to end all the same.
const FENCE_WAITS: Duration = Duration::from_secs(1);
const FENCE_LOOKS: Duration = Duration::from_millis(10);
/// How long a removed instance may take to stop before the step is tried again.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often everything is compared when nothing has changed.
const COMPARE: Duration = Duration::from_secs(1);
/// Attempts at a write of reports that others' writes come before.
const WRITE_TRIES: u32 = 4;
/// What is attempted whenever everything is compared.
const OBJECTS: &str = "objects";

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// A claim of the name that an instance needs and that does not say whose it is.
    #[error("{0}")]
    ForeignClaim(String),
    #[error("{0}")]
    Other(String),
}

impl StepError {
    /// Whether somebody should hear of it: not of an instance that does not answer, which has words of its own, nor of
    /// somebody else's write that came first.
    fn is_worth_telling(&self) -> bool {
        match self {
            StepError::Call(_) => false,
            StepError::Kube(error) => !is_conflict(error),
            StepError::Objects(error) => !error.is_passing(),
            StepError::ForeignClaim(_) | StepError::Other(_) => true,
        }
    }

    /// How the API server has answered, where that is what failed and is worth telling.
    fn verdict(&self) -> Option<Verdict> {
        match self {
            StepError::Kube(error) => verdict(error),
            StepError::Objects(error) => error.verdict(),
            StepError::ForeignClaim(_) => Some(Verdict::Refused),
            StepError::Call(_) | StepError::Other(_) => None,
        }
    }

    /// Whether it is the API server that did not do it: whoever was only slower than somebody else asks again at once.
    fn is_the_api_s(&self) -> bool {
        match self {
            StepError::Kube(error) => !is_conflict(error),
            StepError::Objects(error) => !error.is_passing(),
            StepError::ForeignClaim(_) => true,
            StepError::Call(_) | StepError::Other(_) => false,
        }
    }
}

pub struct KubernetesActor {
    inner: Arc<Inner>,
    /// What is being done. It ends with the actor: an operator that leads no longer does nothing more.
    under_way: Mutex<JoinSet<()>>,
}

struct Inner {
    cluster: Arc<Cluster>,
    events: EventWriter,
    default_image: String,
    health: Arc<Health>,
    steps: Steps,
    scaled_back: ScaledBack,
    told: Told,
    /// The last that made sense; none if none did since this operator began.
    spec: Mutex<Option<ValidatedCluster>>,
    /// Why things are not as they should be, as of the last attempts.
    problems: Problems,
    /// When everything was last compared; none while that is being done.
    compared: Mutex<Compared>,
    /// Held by who brings objects: two at once would each make up passwords and an authority.
    bringing: tokio::sync::Mutex<()>,
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
                scaled_back: ScaledBack::default(),
                told: Told::default(),
                spec: Mutex::default(),
                problems: Problems::default(),
                compared: Mutex::default(),
                bringing: tokio::sync::Mutex::default(),
            }),
            under_way: Mutex::default(),
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut under_way = self.under_way.lock();
        while under_way.try_join_next().is_some() {}
        under_way.spawn(work);
    }
}

impl Act for KubernetesActor {
    type Error = kube::Error;

    fn take(&self, step: &Step) {
        let Some(key) = self.inner.steps.begin(step) else {
            return;
        };
        let (inner, step) = (Arc::clone(&self.inner), step.clone());
        let sight = inner.cluster.sight();
        self.spawn(async move {
            faults::point();
            let result = inner.perform(&step, &sight).await;
            faults::point();
            inner.note_step(&step, result.as_ref().err());
            inner.steps.end(&key, result.is_ok());
            if let Err(error) = &result {
                tracing::info!(cluster = %inner.cluster.key, ?step, %error, "a step failed and will be tried again");
                if error.is_worth_telling() {
                    let of = step.instance().unwrap_or("the Services");
                    inner
                        .told
                        .trouble(&inner.events, "StepFailed", of, &error.to_string());
                }
            }
            // Where there was nothing to do nothing is new: whoever looked again at once would do so for ever.
            if !matches!(result, Ok(false)) {
                inner.cluster.watches.wake();
            }
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
        let sight = inner.cluster.sight();
        self.spawn(async move {
            let (_, result) = inner.bring_objects(&cluster, None, &sight).await;
            if let Err(error) = &result
                && !error.is_passing()
            {
                let why = error.to_string();
                inner
                    .told
                    .trouble(&inner.events, "ObjectsNotWritten", &cluster.name, &why);
            }
            // What fails for another reason fails again: it is tried as often as everything is compared.
            let is_passing = result.is_err_and(|error| error.is_passing());
            *inner.compared.lock() = Compared {
                running: false,
                at: Some(Instant::now()),
                spec: (!is_passing).then_some(cluster),
            };
        });
    }

    async fn write(&self, seen: &Seen, plan: &Plan) -> Result<Written, kube::Error> {
        let inner = &self.inner;
        inner.told.crashes(&inner.events, seen);
        inner.told.seeds(&inner.events, seen);
        inner.told.settings(&inner.events, seen);
        let is_wanted = |what: &str| is_to_be_done(what, seen, plan);
        inner.problems.retain(is_wanted);
        let before = seen.cluster.status.clone().unwrap_or_default();
        let after = inner.reports(&before, plan, seen);
        let is_noted = inner.cluster.object().is_none_or(|o| !has_withdrawn(&o));
        let is_known = plan.swap.is_none() && plan.outcomes.is_empty() && is_noted;
        if !(is_known && quiet(&before) == quiet(&after)) {
            let Some(written) = inner.write_status(&before, &after, plan).await? else {
                return Ok(Written::Conflict);
            };
            inner.cluster.wrote(written);
            tell_changes(&inner.events, &before, &after, plan);
            let wanted = seen.cluster.spec.replicas;
            inner.told.ends(&inner.events, &before, &after, wanted);
        }
        inner.measure(&before, &after, plan, seen);
        inner.take_off(plan).await?;
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
        let Some(mut object) = inner.newest().await? else {
            return Ok(()); // Another object of the same name has a spec of its own.
        };
        let (message, is_news) = (refused.message.clone(), is_news(seen, &refused));
        put_refusal(&mut object, refused);
        // Who came first is looked at again; told is what stands there.
        if inner.replace_status(&object).await?.is_some() && is_news {
            inner.events.tell("InvalidSpec", true, &message);
        }
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
        let problem = self.problems.told(Instant::now());
        let conditions = with_problem(&plan.conditions, problem.as_deref());
        after.conditions = dated(&conditions, &before.conditions);
        finish(&mut after, before, seen);
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
        seen: &Seen,
    ) {
        let mut whole = after.clone();
        if let Some(swap) = &plan.swap {
            whole.set_record(swap.record.clone());
        }
        let (key, metrics) = (&self.cluster.key, &self.health.metrics);
        metrics.wants(key, seen.cluster.spec.replicas.saturating_add(1));
        metrics.reported(key, before, &whole);
    }

    /// The object with its new status; none if somebody else changed the record first.
    async fn write_status(
        &self,
        before: &ReplicatedClusterStatus,
        after: &ReplicatedClusterStatus,
        plan: &Plan,
    ) -> Result<Option<ReplicatedCluster>, kube::Error> {
        let decided_on = before.record().map(|record| record.record_version);
        let swap = plan.swap.as_ref();
        for _ in 0..WRITE_TRIES {
            let Some(mut object) = self.newest().await? else {
                return Ok(None);
            };
            let merged = merge(&mut object, decided_on, swap, after.clone())
                .and_then(|()| note_handled(&mut object, &plan.outcomes));
            if merged == Err(Overtaken) {
                return Ok(None);
            }
            // Around the swap of the record as around every step: what is about to be written is as old as it gets here.
            if swap.is_some() {
                faults::point();
            }
            let replaced = self.replace_status(&object).await?;
            if swap.is_some() {
                faults::point();
            }
            if let Some(written) = replaced {
                return Ok(Some(written));
            }
        }
        Ok(None)
    }

    /// As the server has it, if it is still the same object; from now on it is known here too.
    async fn newest(&self) -> Result<Option<ReplicatedCluster>, kube::Error> {
        let object = self.objects().get_status(&self.cluster.key.name).await?;
        let is_it = object.metadata.uid.as_ref() == Some(&self.cluster.uid);
        if is_it {
            self.cluster.wrote(object.clone());
        }
        Ok(Some(object).filter(|_| is_it))
    }

    /// None if somebody wrote first: whatever that was, the record has to be compared again.
    async fn replace_status(
        &self,
        object: &ReplicatedCluster,
    ) -> Result<Option<ReplicatedCluster>, kube::Error> {
        let (api, name) = (self.objects(), &self.cluster.key.name);
        match api
            .replace_status(name, &PostParams::default(), object)
            .await
        {
            Ok(written) => {
                self.cluster.wrote(written.clone());
                Ok(Some(written))
            }
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the annotations of answered requests off the object, and then notes that they are gone: from then on the
    /// same text is another request. What an operator that died in between has left is told once more.
    async fn take_off(&self, plan: &Plan) -> Result<(), kube::Error> {
        let Some(object) = self.cluster.object() else {
            return Ok(());
        };
        let open = open_requests(&object);
        if open.is_empty() {
            return Ok(());
        }
        for request in &open {
            let is_told = plan.outcomes.iter().any(|outcome| {
                annotation_of(outcome.request) == request.annotation && request.is_of(&outcome.text)
            });
            if let (false, Some(reason), Some(message)) =
                (is_told, &request.reason, &request.message)
            {
                self.events
                    .tell(reason, reason.ends_with("Refused"), message);
            }
        }
        let gone = self.consume(object).await?;
        for _ in 0..WRITE_TRIES {
            let Some(mut object) = self.newest().await? else {
                return Ok(());
            };
            if !mark_done(&mut object, &gone) || self.replace_status(&object).await?.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The requests whose annotation was taken off; one that says something else by now stays.
    async fn consume(
        &self,
        mut object: ReplicatedCluster,
    ) -> Result<Vec<HandledRequest>, kube::Error> {
        let (api, name) = (self.objects(), &self.cluster.key.name);
        for _ in 0..WRITE_TRIES {
            let open = open_requests(&object);
            if open.is_empty() {
                break;
            }
            let gone: BTreeMap<String, Option<String>> = open
                .iter()
                .map(|request| (request.annotation.clone(), None))
                .collect();
            let patch = json!({"metadata": {
                "uid": object.metadata.uid,
                "resourceVersion": object.metadata.resource_version,
                "annotations": gone,
            }});
            let parameters = PatchParams::default();
            match api.patch(name, &parameters, &Patch::Merge(&patch)).await {
                Ok(written) => {
                    self.cluster.wrote(written);
                    return Ok(open);
                }
                Err(error) if is_conflict(&error) => {
                    let Some(newest) = self.newest().await? else {
                        break;
                    };
                    object = newest;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// `sight` is what the step was decided on. False if there was nothing to do.
    async fn perform(self: &Arc<Inner>, step: &Step, sight: &Sight) -> Result<bool, StepError> {
        let (upstream, giver) = (self.upstream(step), step.giver());
        let source = giver.and_then(|name| self.cluster.seed_source(name));
        let told = told_of(step, source.as_ref().map(|s| s.instance.as_str()));
        if let (Some(call), Some(instance)) = (call_of(step, upstream, source), step.instance()) {
            self.call(instance, call).await?;
            if let Some((reason, warning, message)) = told {
                self.events.tell(reason, warning, &message);
            }
            return Ok(true);
        }
        let done = match step {
            Step::Start { instance } => return self.start(instance, sight).await,
            Step::Create { instance, seed, .. } => self.create(instance, *seed, sight).await,
            Step::Fence { instance, pid, .. } => self.fence(instance, *pid).await,
            Step::Remove { instance } => {
                self.confirm(sight).await?;
                self.remove(instance, &sight.of(instance)).await
            }
            Step::Replace { instance } => {
                self.confirm(sight).await?;
                self.replace(instance, &sight.of(instance)).await
            }
            Step::Renew {
                instance,
                how: Renewal::Pod,
            } => self.renew(instance, sight).await,
            Step::Route(routes) => self.route(routes, sight).await,
            Step::Seal { .. }
            | Step::Demote { .. }
            | Step::Promote { .. }
            | Step::Set { .. }
            | Step::Follow { .. }
            | Step::Renew { .. }
            | Step::Reseed { .. } => Ok(()), // These are calls.
        };
        done.map(|()| true)
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
        let (uid, peer) = self.cluster.reach(instance).ok_or_else(nowhere)?;
        let status: SupervisorStatus = transport::call(
            Address::Tls(&peer),
            call.path,
            None,
            Some(call.body),
            CALL_LIMIT,
        )
        .await?;
        // The address of a pod that has gone may be another's by now: nothing is learned of this one there.
        if !is_from(&status, instance, &uid) {
            return Err(StepError::Other(format!(
                "{} answers where {instance} was called",
                status.name
            )));
        }
        let life = self.cluster.life(&uid, status.began_at);
        self.cluster.watches.answered(instance, life, status);
        Ok(())
    }

    /// Whether the server still has what the step was decided on. An instance's objects stay the same when it is kept after
    /// all, and when it becomes primary: whoever wakes up with an old plan must not delete them.
    async fn confirm(&self, sight: &Sight) -> Result<(), StepError> {
        let spec = self.spec_or_name();
        let image = &self.default_image;
        let look = Look::at(&self.cluster, &spec, image, &[], sight.clone());
        Ok(look.confirm().await?)
    }

    async fn create(
        self: &Arc<Inner>,
        instance: &str,
        seed: Seed,
        sight: &Sight,
    ) -> Result<(), StepError> {
        if let Some(claim) = sight.of(instance).claim {
            self.confirm(sight).await?;
            self.mark_claim(instance, &claim, None).await?;
        }
        if !self.make(instance, sight).await? {
            return Ok(()); // Made since the look that this step was decided on.
        }
        self.events
            .tell("InstanceCreated", false, &made(instance, seed));
        Ok(())
    }

    /// SIGKILL a second after SIGTERM, to the very pod in which that life was seen. Safety does not rest on it, and clients
    /// wait: the end of a pod is a change of Services too, and kube-proxy lets a second pass before the next one, so the
    /// move of the write Service comes first if it comes soon.
    async fn fence(&self, instance: &str, life: u32) -> Result<(), StepError> {
        let Some(uid) = self.cluster.pod_of_life(life) else {
            return Ok(());
        };
        let began = Instant::now();
        while self.cluster.leads_to(instance) && began.elapsed() < FENCE_WAITS {
            tokio::time::sleep(FENCE_LOOKS).await;
        }
        let waited = began.elapsed();
        if self.cluster.watches.was_heard_within(instance, waited) {
            // It is silent no more: by now it may have answered, or even have been chosen.
            return Ok(());
        }
        let fenced = self.delete_pod(instance, &uid, FENCE_GRACE_SECONDS).await?;
        if fenced {
            let message = format!("the pod of {instance} was told to end, by SIGKILL if need be");
            self.events.tell("Fenced", true, &message);
        }
        Ok(())
    }

    async fn delete_pod(
        &self,
        instance: &str,
        uid: &str,
        grace_seconds: u32,
    ) -> Result<bool, kube::Error> {
        let how = DeleteParams {
            grace_period_seconds: Some(grace_seconds),
            ..DeleteParams::default()
        };
        self.delete::<Pod>(&names::pod(instance), Some(uid), how)
            .await
    }

    /// Deletes this very object, if there was one. True if it was still there.
    async fn delete<K>(
        &self,
        name: &str,
        uid: Option<&str>,
        how: DeleteParams,
    ) -> Result<bool, kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let Some(uid) = uid else {
            return Ok(false);
        };
        let (client, namespace) = (&self.cluster.client, &self.cluster.key.namespace);
        remove_one::<K>(client, namespace, name, uid, how).await
    }

    /// The claim stays, marked: it is the last thing that makes this an instance of the cluster.
    async fn remove(&self, instance: &str, held: &Held) -> Result<(), StepError> {
        let how = DeleteParams::foreground();
        self.delete::<StatefulSet>(instance, held.set.as_deref(), how)
            .await?;
        let began = Instant::now();
        let pods: Api<Pod> = self.api();
        while let Some(pod) = pods.get_opt(&names::pod(instance)).await? {
            if !is_of(&pod, held) {
                return Ok(()); // Somebody has made an instance of this name again.
            }
            if began.elapsed() > STOP_LIMIT {
                return Err(StepError::Other(format!("{instance} is still stopping")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let Some(uid) = &held.claim else {
            return Ok(());
        };
        self.mark_claim(instance, uid, Some("true")).await?;
        let claim = names::claim(instance);
        let message = format!("{instance} was removed; its volume is kept as the claim {claim}");
        self.events.tell("InstanceRemoved", false, &message);
        Ok(())
    }

    /// The pod is deleted without waiting for its node's word, which may never come; then the claim, and with it what
    /// was on the volume. All of it is what was there when this was decided: an instance that was made anew since is
    /// another one.
    async fn replace(&self, instance: &str, held: &Held) -> Result<(), StepError> {
        let background = DeleteParams::background;
        let set = self
            .delete::<StatefulSet>(instance, held.set.as_deref(), background())
            .await?;
        let pods: Api<Pod> = self.api();
        let pod = pods.get_opt(&names::pod(instance)).await?;
        let pod = pod.filter(|pod| is_of(pod, held));
        let pod = match pod.and_then(|pod| pod.metadata.uid) {
            Some(uid) => self.delete_pod(instance, &uid, 0).await?,
            None => false,
        };
        let name = names::claim(instance);
        let claim = self
            .delete::<PersistentVolumeClaim>(&name, held.claim.as_deref(), background())
            .await?;
        if set || pod || claim {
            let message = format!("{instance} was given up, with its pod and the claim {name}");
            self.events.tell("InstanceReplaced", true, &message);
        }
        Ok(())
    }

    /// Writes the StatefulSet as the manifest is now; Kubernetes makes the pod anew.
    async fn renew(self: &Arc<Inner>, instance: &str, sight: &Sight) -> Result<(), StepError> {
        let spec = self.spec()?;
        let (image, sight) = (&self.default_image, sight.clone());
        let look = Look::at(&self.cluster, &spec, image, &[], sight);
        if look.renew(instance).await? {
            let message = format!("the pod of {instance} is made anew, as the manifest is now");
            self.events.tell("InstanceRenewed", false, &message);
        }
        Ok(())
    }

    /// Marks the claim as one of a removed instance, or takes the mark off, if it is still this one.
    async fn mark_claim(
        &self,
        instance: &str,
        uid: &str,
        retired: Option<&str>,
    ) -> Result<(), kube::Error> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let patch = json!({"metadata": {"uid": uid, "annotations": {RETIRED: retired}}});
        let parameters = PatchParams::default();
        let name = names::claim(instance);
        match claims
            .patch(&name, &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            // It has gone, or another one has its name: a uid can't be changed.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn route(&self, routes: &Routes, sight: &Sight) -> Result<(), StepError> {
        let spec = self.spec_or_name();
        let (image, sight) = (&self.default_image, sight.clone());
        let look = Look::at(&self.cluster, &spec, image, &[], sight);
        Ok(look.lead_to(routes).await?)
    }

    /// Everything that the manifest asks for, with `more` besides the instances that there are. Gives what was made,
    /// whatever became of the rest. Where there is one more its step tells what failed: what is wanted anyway succeeds
    /// without it, again and again.
    async fn bring_objects(
        self: &Arc<Inner>,
        spec: &ValidatedCluster,
        more: Option<&str>,
        sight: &Sight,
    ) -> (Vec<ObjectKey>, Result<(), ObjectsError>) {
        let _one_at_a_time = self.bringing.lock().await;
        let (image, sight) = (&self.default_image, sight.clone());
        let instances: Vec<String> = more.map(str::to_owned).into_iter().collect();
        let wanted = Wanted::of(&self.cluster, spec, image, &instances, sight).await;
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => {
                if let (None, Some(verdict)) = (more, error.verdict()) {
                    let (why, now) = (error.to_string(), Instant::now());
                    self.problems.failed(OBJECTS, why, verdict, now);
                }
                return (Vec::new(), Err(error));
            }
        };
        let brought = wanted.bring().await;
        // An attempt may last: what is told of it counts from its end.
        let now = Instant::now();
        match brought.problem() {
            _ if more.is_some() => {}
            Some((why, verdict)) => self.problems.failed(OBJECTS, why, verdict, now),
            None if brought.failed.is_empty() => self.problems.succeeded(OBJECTS),
            None => {}
        }
        for foreign in &brought.foreign {
            let of = foreign.key.to_string();
            self.told
                .trouble(&self.events, "NameTaken", &of, &foreign.to_string());
        }
        brought.end(more)
    }

    /// What the API server does not do for a step is asked for less and less often, and told.
    fn note_step(&self, step: &Step, error: Option<&StepError>) {
        let (name, now) = (name(step), Instant::now());
        let well = error.is_none_or(|error| !error.is_the_api_s());
        self.steps.api_did(&name, well, now);
        match error {
            None => self.problems.succeeded(&name),
            Some(error) => {
                if let Some(verdict) = error.verdict() {
                    let of = step.instance().unwrap_or("the Services");
                    let why = format!("{of}: {error}");
                    self.problems.failed(&name, why, verdict, now);
                }
            }
        }
    }
}

/// Whether it is what this instance's supervisor in this pod says.
fn is_from(status: &SupervisorStatus, instance: &str, pod_uid: &str) -> bool {
    let is_there = |uid: &String| uid == pod_uid;
    status.name == instance && status.pod_uid.as_ref().is_none_or(is_there)
}

/// Whether the pod is the one that was seen, or was made by the StatefulSet that was.
fn is_of(pod: &Pod, held: &Held) -> bool {
    let seen = |uid: &String, held: &Option<String>| held.as_ref() == Some(uid);
    let mut owners = pod.metadata.owner_references.iter().flatten();
    pod.metadata
        .uid
        .as_ref()
        .is_some_and(|uid| seen(uid, &held.pod))
        || owners.any(|owner| owner.controller == Some(true) && seen(&owner.uid, &held.set))
}

#[cfg(test)]
mod tests;
