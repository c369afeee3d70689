//! Acting on local instances: processes, supervisors' calls, the Services, the object's file.
//!
//! Each step is a task of its own, so that an instance that does not answer keeps nobody waiting; a step that is
//! being taken is not begun again, and one that failed waits a moment.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::api::{
    DemoteRequest, FollowRequest, PromoteRequest, ReseedRequest, SealRequest, SetRequest,
    SupervisorStatus,
};
use crate::crd::{
    Condition, ConditionStatus, FORCE_PROMOTE, InstanceReport, InstanceRole, ReplicatedCluster,
    ReplicatedClusterStatus, SWITCHOVER_TO,
};
use crate::decide::{Outcome, Plan, RequestKind, Routes, SWITCHOVER_MS, Seed, Step};
use crate::durable;
use crate::faults;
use crate::ids::{Millis, Term};
use crate::instance::{InstanceConfig, read_config, write_config};
use crate::local::{
    ClusterFolder, EventLog, ObjectError, ObjectStore, Process, ServiceConfig, free_ports, is_free,
    send_routes, spawn_detached,
};
use crate::observe::Watches;
use crate::reconcile::{Act, Seen, Written};
use crate::transport::{self, Address, CallError};
use crate::validate::{Invalid, ValidatedCluster};

const CALL_LIMIT: Duration = Duration::from_secs(4);
const CALL_RETRY: Duration = Duration::from_millis(30);
const FENCE_LIMIT: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// A process that ends at once is started again with pauses that grow up to this.
const START_RETRY_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Other(String),
}

#[derive(Clone)]
pub struct LocalActor {
    inner: Arc<Inner>,
}

struct Inner {
    folder: ClusterFolder,
    store: ObjectStore,
    events: EventLog,
    watches: Arc<Watches>,
    token: String,
    cluster_id: String,
    engine: std::path::PathBuf,
    port: u16,
    taken: Mutex<Taken>,
    spec: Mutex<Option<ValidatedCluster>>,
}

/// What is being done, and what has to wait.
#[derive(Default)]
struct Taken {
    in_flight: HashMap<String, Step>,
    not_before: HashMap<String, Instant>,
    starts: HashMap<String, (Instant, u32)>,
    /// The crashes of each instance's engine that were told, and the supervisor that counted them.
    crashes: HashMap<String, (u32, u32)>,
    /// What was last told of each instance's troubles: the same is told once.
    troubles: HashMap<String, String>,
}

/// What an actor needs to know of its cluster.
pub struct LocalContext {
    pub folder: ClusterFolder,
    pub watches: Arc<Watches>,
    pub cluster_id: String,
    pub engine: std::path::PathBuf,
    pub port: u16,
}

impl LocalActor {
    /// # Errors
    /// When the credential can't be read or made.
    pub fn new(context: LocalContext) -> io::Result<LocalActor> {
        let LocalContext {
            folder,
            watches,
            cluster_id,
            engine,
            port,
        } = context;
        Ok(LocalActor {
            inner: Arc::new(Inner {
                store: ObjectStore::new(&folder),
                events: EventLog::new(&folder),
                token: folder.token()?,
                folder,
                watches,
                cluster_id,
                engine,
                port,
                taken: Mutex::default(),
                spec: Mutex::default(),
            }),
        })
    }
}

impl Act for LocalActor {
    type Error = ObjectError;

    fn take(&self, step: &Step) {
        let key = key(step);
        {
            let mut taken = self.inner.taken.lock();
            let waits = taken
                .not_before
                .get(&key)
                .is_some_and(|at| Instant::now() < *at);
            if waits || taken.in_flight.contains_key(&key) {
                return;
            }
            taken.in_flight.insert(key.clone(), step.clone());
        }
        let (inner, step) = (Arc::clone(&self.inner), step.clone());
        tokio::spawn(async move {
            faults::point();
            let result = inner.perform(&step).await;
            faults::point();
            let mut taken = inner.taken.lock();
            taken.in_flight.remove(&key);
            match result {
                Ok(()) => {
                    taken.not_before.remove(&key);
                    drop(taken);
                }
                Err(error) => {
                    tracing::info!(?step, %error, "a step failed and will be tried again");
                    taken.not_before.insert(key, Instant::now() + CALL_RETRY);
                    drop(taken);
                    if let StepError::Io(error) = &error {
                        let of = step.instance().unwrap_or("the Services");
                        inner.tell_trouble("StepFailed", of, &error.to_string());
                    }
                }
            }
            inner.watches.wake();
        });
    }

    fn configure(&self, cluster: &ValidatedCluster) {
        let mut spec = self.inner.spec.lock();
        let changed = spec.as_ref().is_none_or(|old| {
            old.parameters != cluster.parameters || old.storage_bytes != cluster.storage_bytes
        });
        *spec = Some(cluster.clone());
        drop(spec);
        if changed {
            let (inner, cluster) = (Arc::clone(&self.inner), cluster.clone());
            tokio::spawn(async move {
                if let Err(error) = inner.reconfigure(&cluster).await {
                    tracing::warn!(%error, "an instance could not be given its settings");
                }
            });
        }
    }

    async fn write(&self, seen: &Seen, plan: &Plan) -> Result<Written, ObjectError> {
        self.inner.tell_crashes(seen);
        let before = seen.cluster.status.clone().unwrap_or_default();
        let after = reports(&before, plan, seen);
        if plan.swap.is_none() && plan.outcomes.is_empty() && quiet(&before) == quiet(&after) {
            return Ok(Written::Settled);
        }
        let (store, swap, outcomes) = (
            self.inner.store.clone(),
            plan.swap.clone(),
            plan.outcomes.clone(),
        );
        let changed = after.clone();
        let work = move || {
            store.update(|current| {
                let mut object = current.ok_or(ObjectError::Missing)?;
                merge(&mut object, swap.as_ref(), changed, &outcomes)?;
                Ok(object)
            })
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(_)) => {}
            Ok(Err(ObjectError::Conflict)) => return Ok(Written::Conflict),
            Ok(Err(error)) => return Err(error),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        self.inner.tell(&before, &after, plan);
        Ok(if plan.swap.is_some() {
            Written::Moved
        } else {
            Written::Settled
        })
    }

    async fn refuse(&self, seen: &Seen, findings: &[Invalid]) -> Result<(), ObjectError> {
        let message = findings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        let refused = Condition {
            type_: "Ready".to_owned(),
            status: ConditionStatus::False,
            reason: "InvalidSpec".to_owned(),
            message,
            observed_generation: seen.cluster.metadata.generation.unwrap_or(0),
            last_transition_time: Millis::now().rfc3339(),
        };
        let known = seen
            .observed
            .past
            .conditions
            .iter()
            .any(|c| c.reason == refused.reason && c.message == refused.message);
        if known {
            return Ok(());
        }
        self.inner
            .events
            .tell("InvalidSpec", true, &refused.message);
        self.inner.store.update(|current| {
            let mut object = current.ok_or(ObjectError::Missing)?;
            let status = object.status.get_or_insert_default();
            status.conditions.retain(|c| c.type_ != "Ready");
            status.conditions.push(refused);
            Ok(object)
        })?;
        Ok(())
    }
}

/// Steps with the same key wait for each other. Fencing waits for nobody.
fn key(step: &Step) -> String {
    match (step, step.instance()) {
        (Step::Fence { .. }, Some(name)) => format!("fence {name}"),
        (_, Some(name)) => format!("instance {name}"),
        (_, None) => "services".to_owned(),
    }
}

/// The record and the reports go into the newest object, if the record is still the one that was decided on.
fn merge(
    object: &mut ReplicatedCluster,
    swap: Option<&crate::decide::Swap>,
    mut reports: ReplicatedClusterStatus,
    outcomes: &[Outcome],
) -> Result<(), ObjectError> {
    let current = object.status.clone().unwrap_or_default().record();
    if let Some(swap) = swap {
        if current.as_ref().map(|r| r.record_version) != swap.expect {
            return Err(ObjectError::Conflict);
        }
        reports.set_record(swap.record.clone());
    } else if let Some(record) = current {
        reports.set_record(record);
    }
    object.status = Some(reports);
    if let Some(annotations) = object.metadata.annotations.as_mut() {
        for outcome in outcomes {
            let key = match outcome.request {
                RequestKind::SwitchoverTo => SWITCHOVER_TO,
                RequestKind::ForcePromote => FORCE_PROMOTE,
            };
            if annotations.get(key) == Some(&outcome.text) {
                annotations.remove(key);
            }
        }
    }
    Ok(())
}

/// The reports that the plan makes, beside the record as it was.
fn reports(before: &ReplicatedClusterStatus, plan: &Plan, seen: &Seen) -> ReplicatedClusterStatus {
    let mut after = before.clone();
    let now = Millis::now().rfc3339();
    after.conditions = plan
        .conditions
        .iter()
        .map(|condition| {
            let old = before
                .conditions
                .iter()
                .find(|c| c.type_ == condition.type_);
            let since = old
                .filter(|c| c.status == condition.status && !c.last_transition_time.is_empty())
                .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
            Condition {
                last_transition_time: since,
                ..condition.clone()
            }
        })
        .collect();
    let record = plan
        .swap
        .as_ref()
        .map(|s| s.record.clone())
        .or_else(|| before.record());
    let serving = record
        .as_ref()
        .filter(|r| r.phase == crate::crd::Phase::Running);
    after.current_primary = serving
        .and_then(|r| r.primary.as_ref())
        .map(|p| p.name.clone());
    after.timeline = serving.map(|r| r.term).or(before.timeline);
    let standbys = plan
        .instances
        .iter()
        .filter(|i| Some(&i.name) != after.current_primary.as_ref());
    after.replicas = u32::try_from(standbys.count()).unwrap_or(u32::MAX);
    let name = seen.cluster.metadata.name.as_deref().unwrap_or("");
    after.selector = Some(format!(
        "understudy.dev/cluster={name},understudy.dev/role=standby"
    ));
    after.observed_generation = seen.cluster.metadata.generation.unwrap_or(0);
    after.instances.clone_from(&plan.instances);
    after.count_ready(seen.cluster.spec.replicas as usize + 1);
    after.last_failover.clone_from(&plan.last_failover);
    after.last_switchover.clone_from(&plan.last_switchover);
    after
}

/// A standby is not ready because nobody is primary: that has its own events.
fn waits_for_primary(status: &ReplicatedClusterStatus, instance: &InstanceReport) -> bool {
    let primary = |i: &InstanceReport| i.ready && i.role == InstanceRole::Primary;
    matches!(instance.role, InstanceRole::Standby | InstanceRole::Sealed)
        && !status.instances.iter().any(primary)
}

/// Without positions that move with every commit: these are no reason to write.
fn quiet(status: &ReplicatedClusterStatus) -> ReplicatedClusterStatus {
    let mut quiet = status.clone();
    for instance in &mut quiet.instances {
        instance.flush_lsn = None;
        instance.replay_lsn = None;
        instance.lag_bytes = None;
    }
    quiet
}

/// What a supervisor said when it ended, if its last words are a complaint.
fn last_complaint(log: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text.lines().next_back()?;
    last.strip_prefix("understudy-operator: ")
        .map(str::to_owned)
}

impl Inner {
    async fn perform(self: &Arc<Inner>, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Create {
                instance,
                seed,
                term,
            } => self.create(instance, *seed, *term),
            Step::Start { instance } => self.start(instance),
            Step::Fence { instance, pid } => self.fence(instance, *pid).await,
            Step::Seal { instance, term } => {
                self.call(instance, "/seal", &SealRequest { term: *term })
                    .await
            }
            Step::Demote { instance, term } => {
                let request = DemoteRequest {
                    term: *term,
                    within_ms: SWITCHOVER_MS / 2,
                };
                self.call(instance, "/demote", &request).await
            }
            Step::Promote {
                instance,
                term,
                candidate,
                set,
            } => {
                let request = PromoteRequest {
                    term: *term,
                    candidate: candidate.clone(),
                    set: set.clone(),
                };
                self.call(instance, "/promote", &request).await
            }
            Step::Set {
                instance,
                term,
                id,
                set,
            } => {
                let request = SetRequest {
                    term: *term,
                    id: id.clone(),
                    set: set.clone(),
                };
                self.call(instance, "/set", &request).await
            }
            Step::Follow { instance, term, id } => {
                let request = FollowRequest {
                    term: *term,
                    id: id.clone(),
                };
                self.call(instance, "/follow", &request).await
            }
            Step::Reseed {
                instance,
                term,
                id,
                why,
            } => {
                let request = ReseedRequest {
                    term: *term,
                    id: id.clone(),
                };
                self.call(instance, "/reseed", &request).await?;
                let message = format!(
                    "{instance} gives up its copy (kept aside for 24 hours) and is seeded anew: {why}"
                );
                self.events.tell("Reseeding", true, &message);
                Ok(())
            }
            Step::Remove { instance } => self.remove(instance).await,
            Step::Route(routes) => self.route(routes).await,
        }
    }

    async fn call<T: Serialize>(
        self: &Arc<Inner>,
        instance: &str,
        path: &str,
        request: &T,
    ) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let port = read_config(&volume.config())?.control_port;
        let body = serde_json::to_vec(request).map_err(io::Error::other)?;
        let status: SupervisorStatus = transport::call(
            Address::Local(port),
            path,
            Some(&self.token),
            Some(body),
            CALL_LIMIT,
        )
        .await?;
        self.watches.heard(&volume, instance, status);
        Ok(())
    }

    fn create(self: &Arc<Inner>, instance: &str, seed: Seed, term: Term) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        std::fs::create_dir_all(volume.dir())?;
        let spec = self
            .spec
            .lock()
            .clone()
            .ok_or_else(|| io::Error::other("no spec yet"))?;
        let [control_port, port, http_port] = free_ports()?;
        let config = InstanceConfig {
            cluster: spec.name,
            cluster_id: self.cluster_id.clone(),
            name: instance.to_owned(),
            control_port,
            port,
            http_port,
            service_port: self.port,
            token_file: self.folder.file("token"),
            engine: self.engine.clone(),
            seed,
            term,
            storage_bytes: spec.storage_bytes,
            parameters: spec.parameters,
        };
        write_config(&volume.config(), &config)?;
        durable::sync_dir(&self.folder.instances())?;
        self.launch(instance)?;
        let how = match seed {
            Seed::Initdb => "an empty database",
            Seed::Backup => "a base backup of the primary",
        };
        self.events.tell(
            "InstanceCreated",
            false,
            &format!("{instance} begins with {how}"),
        );
        Ok(())
    }

    /// Starts the process of an instance that has a volume, on ports that are free now.
    fn start(self: &Arc<Inner>, instance: &str) -> Result<(), StepError> {
        if self.watches.has_process(instance) {
            return Ok(()); // Begun since the look that this step was decided on.
        }
        self.pace(instance)?;
        let volume = self.folder.volume(instance);
        let mut config = read_config(&volume.config())?;
        if ![config.control_port, config.port, config.http_port]
            .into_iter()
            .all(is_free)
        {
            [config.control_port, config.port, config.http_port] = free_ports()?;
            self.watches.set_routes(None);
        }
        config.engine.clone_from(&self.engine);
        config.service_port = self.port;
        config.token_file = self.folder.file("token");
        write_config(&volume.config(), &config)?;
        self.launch(instance)?;
        self.events.tell(
            "InstanceStarted",
            false,
            &format!("{instance} is started again"),
        );
        Ok(())
    }

    /// A process that keeps ending is started less and less often.
    fn pace(&self, instance: &str) -> Result<(), StepError> {
        let mut taken = self.taken.lock();
        let now = Instant::now();
        let (last, quick) = taken.starts.get(instance).copied().unwrap_or((now, 0));
        let pause = if quick == 0 {
            Duration::ZERO
        } else {
            (Duration::from_millis(200) * (1 << quick.min(6))).min(START_RETRY_MAX)
        };
        if now.duration_since(last) < pause {
            return Err(StepError::Other(format!(
                "{instance} ended soon after its last start"
            )));
        }
        let again = quick > 0 && now.duration_since(last) < START_RETRY_MAX * 2;
        taken.starts.insert(
            instance.to_owned(),
            (now, if again { quick + 1 } else { 1 }),
        );
        drop(taken);
        let log = self.folder.volume(instance).log("supervisor");
        if again && let Some(why) = last_complaint(&log) {
            self.tell_trouble("StartFailed", instance, &why);
        }
        Ok(())
    }

    fn tell_trouble(&self, reason: &str, of: &str, why: &str) {
        let old = self
            .taken
            .lock()
            .troubles
            .insert(of.to_owned(), why.to_owned());
        if old.as_deref() != Some(why) {
            self.events.tell(reason, true, &format!("{of}: {why}"));
        }
    }

    fn launch(self: &Arc<Inner>, instance: &str) -> io::Result<()> {
        let volume = self.folder.volume(instance);
        let dir = volume.dir().to_string_lossy().into_owned();
        let pid = spawn_detached(&["instance", "--dir", &dir], &volume.log("supervisor"))?;
        self.watches.started(&volume, instance, pid);
        Ok(())
    }

    /// SIGKILL to the supervisor and its engine, and waits until both have ended.
    async fn fence(&self, instance: &str, pid: u32) -> Result<(), StepError> {
        let dir = self
            .folder
            .volume(instance)
            .dir()
            .to_string_lossy()
            .into_owned();
        let engine = self.watches.status_of(instance).and_then(|s| s.engine_pid);
        let processes: Vec<Process> = [Some(pid), engine]
            .into_iter()
            .flatten()
            .filter_map(|p| Process::find(p, &dir))
            .collect();
        for process in &processes {
            process.kill();
        }
        for process in &processes {
            if !process.ends_within(FENCE_LIMIT).await {
                let pid = process.pid();
                return Err(StepError::Other(format!("process {pid} does not end")));
            }
        }
        if !processes.is_empty() {
            self.events
                .tell("Fenced", true, &format!("{instance} was ended by SIGKILL"));
        }
        Ok(())
    }

    async fn remove(&self, instance: &str) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let dir = volume.dir().to_string_lossy().into_owned();
        let pid = self.watches.status_of(instance).map(|s| s.supervisor_pid);
        if let Some(process) = pid.and_then(|pid| Process::find(pid, &dir)) {
            process.terminate();
            if !process.ends_within(STOP_LIMIT).await {
                process.kill();
                process.ends_within(FENCE_LIMIT).await;
            }
        }
        let Some(_lock) = durable::FileLock::try_acquire(&volume.lock())? else {
            return Err(StepError::Other(format!(
                "{instance} still holds its volume"
            )));
        };
        std::fs::create_dir_all(self.folder.removed())?;
        let name = format!("{instance}.{}", Millis::now().raw());
        durable::rename(volume.dir(), &self.folder.removed().join(&name))?;
        let message = format!("{instance} was removed; its volume is kept as removed/{name}");
        self.events.tell("InstanceRemoved", false, &message);
        Ok(())
    }

    async fn route(&self, routes: &Routes) -> Result<(), StepError> {
        let mut ports = BTreeMap::new();
        for name in self.folder.volumes()? {
            ports.insert(
                name.clone(),
                read_config(&self.folder.volume(&name).config())?.port,
            );
        }
        let config = ServiceConfig {
            routes: routes.clone(),
            ports,
        };
        let now = send_routes(&self.folder, Some(&config)).await?;
        self.watches.set_routes(Some(now.routes));
        Ok(())
    }

    /// Gives running instances the parameters of the spec.
    async fn reconfigure(self: &Arc<Inner>, cluster: &ValidatedCluster) -> Result<(), StepError> {
        for instance in self.folder.volumes()? {
            let volume = self.folder.volume(&instance);
            let mut config = read_config(&volume.config())?;
            if config.parameters == cluster.parameters
                && config.storage_bytes == cluster.storage_bytes
            {
                continue;
            }
            config.parameters.clone_from(&cluster.parameters);
            config.storage_bytes = cluster.storage_bytes;
            write_config(&volume.config(), &config)?;
            // One that does not run reads it when it starts.
            if self
                .call(&instance, "/reload", &serde_json::json!({}))
                .await
                .is_ok()
            {
                let message = format!("{instance} was given its new parameters");
                self.events.tell("ConfigReloaded", false, &message);
            }
        }
        Ok(())
    }

    /// An engine that a supervisor restarts in place is worth an event, though nothing has to be decided.
    fn tell_crashes(&self, seen: &Seen) {
        for (name, status) in seen
            .observed
            .instances
            .iter()
            .filter_map(|(n, i)| Some((n, i.status.as_ref()?)))
        {
            let now = (status.supervisor_pid, status.crashes);
            let old = self.taken.lock().crashes.insert(name.clone(), now);
            let before = old
                .filter(|(pid, _)| *pid == now.0)
                .map_or(0, |(_, count)| count);
            if status.crashes > before {
                let why = status.message.as_deref().unwrap_or("it left no message");
                let message =
                    format!("the engine of {name} has crashed and is restarted in place: {why}");
                self.events.tell("RestartedInPlace", true, &message);
            }
        }
    }

    /// Events: the plan's own, and what the reports newly say.
    fn tell(&self, before: &ReplicatedClusterStatus, after: &ReplicatedClusterStatus, plan: &Plan) {
        let outcomes = plan.outcomes.iter().map(|o| &o.event);
        for event in plan.events.iter().chain(outcomes) {
            self.events
                .tell(event.reason, event.warning, &event.message);
        }
        for instance in &after.instances {
            let old = before.instances.iter().find(|i| i.name == instance.name);
            let was_ready = old.is_some_and(|o| o.ready);
            let role = format!("{:?}", instance.role).to_lowercase();
            if instance.ready && !was_ready {
                let message = format!("{} is ready as {role}", instance.name);
                self.events.tell("InstanceReady", false, &message);
            } else if was_ready && !instance.ready && !waits_for_primary(after, instance) {
                let message = format!("{} is not ready ({role})", instance.name);
                self.events.tell("InstanceNotReady", true, &message);
            }
        }
        let state = |s: &ReplicatedClusterStatus| {
            s.conditions
                .iter()
                .find(|c| c.type_ == "Degraded")
                .map(|c| (c.status, c.reason.clone()))
        };
        let degraded = after.conditions.iter().find(|c| c.type_ == "Degraded");
        if let Some(condition) = degraded
            && condition.status == ConditionStatus::True
            && condition.reason != "InstancesNotReady"
            && state(before) != state(after)
        {
            let reason = condition.reason.as_str();
            self.events.tell(reason, true, &condition.message);
        }
    }
}
