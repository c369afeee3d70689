//! Acting on local instances: processes, supervisors' calls, the Services, the object's file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::reports::{
    Overtaken, consume, is_news, merge, note_handled, put_refusal, quiet, refusal, reports,
};
use super::steps::{CALL_LIMIT, Steps, call_of, made, told_of};
use super::telling::{Tell, Told, tell_changes};
use crate::api::{SeedSource, SupervisorStatus};
use crate::decide::{Plan, Routes, Seed, Step};
use crate::durable;
use crate::faults;
use crate::ids::{Millis, Term};
use crate::instance::{InstanceConfig, read_config, write_config};
use crate::local::{
    ClusterFolder, EventLog, ObjectError, ObjectStore, Process, ServiceConfig, free_ports, is_free,
    send_routes, spawn_detached, supervisor_of,
};
use crate::observe::Watches;
use crate::reconcile::{Act, Seen, Written};
use crate::transport::{self, Address, CallError};
use crate::validate::{Invalid, ValidatedCluster};

const FENCE_LIMIT: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Between two attempts to give instances their settings.
const RECONFIGURE_PAUSE: Duration = Duration::from_secs(5);
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
    steps: Steps,
    told: Told,
    /// When each instance's process was last started, and how often soon after another start.
    starts: Mutex<HashMap<String, (Instant, u32)>>,
    /// The last that made sense; none if none did since this operator began.
    spec: Mutex<Option<ValidatedCluster>>,
    /// Who has read its file of settings since that was last written. Of others than these another operator may have died
    /// after it wrote.
    given: Mutex<HashMap<String, Given>>,
    /// Held by who gives settings: the answer to an older call would be taken for that to what was written meanwhile.
    giving: tokio::sync::Mutex<()>,
}

/// What has become of settings that an instance was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Given {
    /// They are in its file, and its supervisor has not read them.
    Written,
    Read,
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
                steps: Steps::default(),
                told: Told::default(),
                starts: Mutex::default(),
                spec: Mutex::default(),
                given: Mutex::default(),
                giving: tokio::sync::Mutex::default(),
            }),
        })
    }
}

impl Act for LocalActor {
    type Error = ObjectError;

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
                tracing::info!(?step, %error, "a step failed and will be tried again");
                if let StepError::Io(error) = error {
                    let of = step.instance().unwrap_or("the Services");
                    let why = error.to_string();
                    inner.told.trouble(&inner.events, "StepFailed", of, &why);
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
                loop {
                    match inner.reconfigure(&cluster).await {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(%error, "an instance could not be given its settings; trying again");
                        }
                    }
                    tokio::time::sleep(RECONFIGURE_PAUSE).await;
                }
            });
        }
    }

    async fn write(&self, seen: &Seen, plan: &Plan) -> Result<Written, ObjectError> {
        self.inner.told.crashes(&self.inner.events, seen);
        self.inner.told.seeds(&self.inner.events, seen);
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
        let decided_on = before.record().map(|record| record.record_version);
        let work = move || {
            store.update(|current| {
                let mut object = current.ok_or(ObjectError::Missing)?;
                merge(&mut object, decided_on, swap.as_ref(), changed)
                    .and_then(|()| note_handled(&mut object, &outcomes))
                    .map_err(|Overtaken| ObjectError::Conflict)?;
                // Both are in one file: what is answered is gone at once.
                if consume(&mut object, &outcomes) {
                    note_handled(&mut object, &[]).map_err(|Overtaken| ObjectError::Conflict)?;
                }
                Ok(object)
            })
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(_)) => {}
            Ok(Err(ObjectError::Conflict)) => return Ok(Written::Conflict),
            Ok(Err(error)) => return Err(error),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        tell_changes(&self.inner.events, &before, &after, plan);
        let (told, wanted) = (&self.inner.told, seen.cluster.spec.replicas);
        told.ends(&self.inner.events, &before, &after, wanted);
        Ok(if plan.swap.is_some() {
            Written::Moved
        } else {
            Written::Settled
        })
    }

    async fn refuse(&self, seen: &Seen, findings: &[Invalid]) -> Result<(), ObjectError> {
        let Some(refused) = refusal(seen, findings) else {
            return Ok(());
        };
        let (message, is_news) = (refused.message.clone(), is_news(seen, &refused));
        self.inner.store.update(|current| {
            let mut object = current.ok_or(ObjectError::Missing)?;
            put_refusal(&mut object, refused);
            Ok(object)
        })?;
        // Not before: what could not be written would be told at each attempt.
        if is_news {
            self.inner.events.tell("InvalidSpec", true, &message);
        }
        Ok(())
    }
}

/// What a supervisor said when it ended, if its last words are a complaint.
fn last_complaint(log: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text.lines().next_back()?;
    last.strip_prefix("understudy-operator: ")
        .map(str::to_owned)
}

/// What is told of one that was ended. A standby has no failover that would say why.
fn fenced(instance: &str, hangs: bool) -> String {
    let why = if hangs {
        ": its supervisor hung and had said nothing new for a minute; where that comes again, look into its log and into \
         what its disk does"
    } else {
        ""
    };
    format!("{instance} was ended by SIGKILL{why}")
}

impl Inner {
    async fn perform(self: &Arc<Inner>, step: &Step) -> Result<(), StepError> {
        let source = step.giver().and_then(|name| self.seed_source(name));
        let told = told_of(step, source.as_ref().map(|s| s.instance.as_str()));
        if let (Some(call), Some(instance)) = (call_of(step, None, source), step.instance()) {
            self.call(instance, call.path, call.body).await?;
            if let Some((reason, warning, message)) = told {
                self.events.tell(reason, warning, &message);
            }
            return Ok(());
        }
        match step {
            Step::Create {
                instance,
                seed,
                term,
            } => self.create(instance, *seed, *term),
            Step::Start { instance } => self.start(instance),
            Step::Fence {
                instance,
                pid,
                hangs,
            } => self.fence(instance, *pid, *hangs).await,
            Step::Remove { instance } | Step::Replace { instance } => self.remove(instance).await,
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

    async fn call(
        self: &Arc<Inner>,
        instance: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let port = read_config(&volume.config())?.control_port;
        let status: SupervisorStatus = transport::call(
            Address::Local(port),
            path,
            Some(&self.token),
            Some(body),
            CALL_LIMIT,
        )
        .await?;
        self.watches.told(&volume, instance, status);
        Ok(())
    }

    /// Where a standby is that is to be copied.
    fn seed_source(&self, instance: &str) -> Option<SeedSource> {
        let config = read_config(&self.folder.volume(instance).config()).ok()?;
        let address = std::net::Ipv4Addr::LOCALHOST;
        Some(SeedSource {
            instance: instance.to_owned(),
            host: address.to_string(),
            address: address.into(),
            port: config.port,
        })
    }

    fn create(self: &Arc<Inner>, instance: &str, seed: Seed, term: Term) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let (cluster, storage_bytes, parameters) = self.settings_of_new(instance)?;
        std::fs::create_dir_all(volume.dir())?;
        let [control_port, port, http_port] = free_ports()?;
        let config = InstanceConfig {
            cluster,
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
            storage_bytes,
            parameters,
        };
        write_config(&volume.config(), &config)?;
        durable::sync_dir(&self.folder.instances())?;
        self.launch(instance)?;
        self.events
            .tell("InstanceCreated", false, &made(instance, seed));
        Ok(())
    }

    /// The cluster's name, the volume's size and the parameters of a new instance: the manifest's, or, while that is refused
    /// and was never accepted in this process's time, what another instance has.
    fn settings_of_new(
        &self,
        instance: &str,
    ) -> io::Result<(String, u64, BTreeMap<String, String>)> {
        let spec = self.spec.lock().clone();
        if let Some(spec) = spec {
            return Ok((spec.name, spec.storage_bytes, spec.parameters));
        }
        for other in self.folder.volumes()? {
            if other != instance
                && let Ok(config) = read_config(&self.folder.volume(&other).config())
            {
                return Ok((config.cluster, config.storage_bytes, config.parameters));
            }
        }
        Err(io::Error::other(format!(
            "{instance} can't be made while the manifest is refused: no other instance says how. Give a manifest that is \
             accepted, by `local up -f FILE`"
        )))
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
        let mut starts = self.starts.lock();
        let now = Instant::now();
        let (last, quick) = starts.get(instance).copied().unwrap_or((now, 0));
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
        starts.insert(
            instance.to_owned(),
            (now, if again { quick + 1 } else { 1 }),
        );
        drop(starts);
        let log = self.folder.volume(instance).log("supervisor");
        if again && let Some(why) = last_complaint(&log) {
            self.told
                .trouble(&self.events, "StartFailed", instance, &why);
        }
        Ok(())
    }

    fn launch(self: &Arc<Inner>, instance: &str) -> io::Result<()> {
        let volume = self.folder.volume(instance);
        let dir = volume.dir().to_string_lossy().into_owned();
        let pid = spawn_detached(&["instance", "--dir", &dir], &volume.log("supervisor"))?;
        self.watches.started(&volume, instance, pid);
        Ok(())
    }

    /// SIGKILL to the supervisor and its engine, and waits until both have ended.
    async fn fence(&self, instance: &str, pid: u32, hangs: bool) -> Result<(), StepError> {
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
            self.events.tell("Fenced", true, &fenced(instance, hangs));
        }
        Ok(())
    }

    async fn remove(&self, instance: &str) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let dir = volume.dir().to_string_lossy().into_owned();
        // One that hung when this operator began has never told it.
        let told = self.watches.status_of(instance).map(|s| s.supervisor_pid);
        let pid = told.or_else(|| supervisor_of(&dir));
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

    /// Gives all instances the parameters of the spec; one that can't be given them keeps no other from it. Nothing is done
    /// for a spec that is over.
    ///
    /// # Errors
    /// The first that came up.
    async fn reconfigure(self: &Arc<Inner>, cluster: &ValidatedCluster) -> Result<(), StepError> {
        let _one_at_a_time = self.giving.lock().await;
        let mut failed = None;
        for instance in self.folder.volumes()? {
            let is_over = self.spec.lock().as_ref().is_some_and(|spec| {
                spec.parameters != cluster.parameters || spec.storage_bytes != cluster.storage_bytes
            });
            if is_over {
                return Ok(());
            }
            if let Err(error) = self.reconfigure_one(&instance, cluster).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What the file says already may not have been read: a supervisor that did not answer is told again.
    async fn reconfigure_one(
        self: &Arc<Inner>,
        instance: &str,
        cluster: &ValidatedCluster,
    ) -> Result<(), StepError> {
        let volume = self.folder.volume(instance);
        let mut config = read_config(&volume.config())?;
        let is_same = config.parameters == cluster.parameters
            && config.storage_bytes == cluster.storage_bytes;
        if !is_same {
            self.note_given(instance, Given::Written);
            config.parameters.clone_from(&cluster.parameters);
            config.storage_bytes = cluster.storage_bytes;
            write_config(&volume.config(), &config)?;
        } else if self.given.lock().get(instance) == Some(&Given::Read) {
            return Ok(());
        }
        let told = self.call(instance, "/reload", b"{}".to_vec()).await;
        if let Err(error) = told {
            let nobody_is_there = matches!(error, StepError::Call(CallError::Connect(_)))
                && !self.watches.has_process(instance);
            if nobody_is_there {
                // It reads the file when it starts.
                self.note_given(instance, Given::Read);
                return Ok(());
            }
            return Err(error);
        }
        if self.note_given(instance, Given::Read) == Some(Given::Written) {
            let message = format!("{instance} was given its new parameters");
            self.events.tell("ConfigReloaded", false, &message);
        }
        Ok(())
    }

    /// Gives what was known before.
    fn note_given(&self, instance: &str, now: Given) -> Option<Given> {
        self.given.lock().insert(instance.to_owned(), now)
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn actor(folder: &ClusterFolder) -> LocalActor {
        let context = LocalContext {
            folder: folder.clone(),
            watches: Arc::default(),
            cluster_id: "u".to_owned(),
            engine: "understudy".into(),
            port: 5432,
        };
        LocalActor::new(context).expect("an actor")
    }

    fn parameters(work_mem: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("work_mem".to_owned(), work_mem.to_owned())])
    }

    /// Of orders-1.
    fn config(folder: &ClusterFolder, control_port: u16) -> InstanceConfig {
        InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: "u".to_owned(),
            name: "orders-1".to_owned(),
            control_port,
            port: 2,
            http_port: 3,
            service_port: 5432,
            token_file: folder.file("token"),
            engine: "understudy".into(),
            seed: Seed::Backup,
            term: Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: parameters("8MB"),
        }
    }

    #[test]
    fn of_one_that_hung_it_is_told_that_it_did() {
        assert_eq!(fenced("orders-1", false), "orders-1 was ended by SIGKILL");
        assert!(fenced("orders-1", true).contains("hung"));
    }

    /// Its file says already what it is to be, and its engine goes by what was there before.
    #[tokio::test]
    async fn settings_that_a_supervisor_did_not_read_are_told_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = ClusterFolder::new(dir.path());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let volume = folder.volume("orders-1");
        std::fs::create_dir_all(volume.dir()).expect("made");
        write_config(&volume.config(), &config(&folder, port)).expect("written");
        let supervisor = tokio::spawn(async move {
            for is_well in [false, true, true] {
                let (stream, _) = listener.accept().await.expect("called");
                transport::serve(stream, |_| {
                    std::future::ready(if is_well {
                        transport::json(StatusCode::OK, &crate::instance::empty_status())
                    } else {
                        transport::text(StatusCode::INTERNAL_SERVER_ERROR, "its disk is full")
                    })
                })
                .await;
            }
        });
        let wanted = ValidatedCluster {
            name: "orders".to_owned(),
            storage_bytes: 1 << 30,
            parameters: parameters("16MB"),
            ..ValidatedCluster::default()
        };
        let told = || EventLog::new(&folder).read().expect("read").len();
        let operator = actor(&folder);
        let failed = operator.inner.reconfigure(&wanted).await;
        let why = failed.expect_err("it has not read it").to_string();
        assert!(why.contains("its disk is full"), "{why}");
        assert_eq!(told(), 0);
        // The third time nobody is asked any more.
        for _ in 0..2 {
            operator.inner.reconfigure(&wanted).await.expect("read");
        }
        assert_eq!(told(), 1);
        // Another operator does not know that it was read.
        let next = actor(&folder);
        next.inner.reconfigure(&wanted).await.expect("read");
        let all = tokio::time::timeout(Duration::from_secs(60), supervisor).await;
        all.expect("asked three times").expect("well");
        // Nobody is there.
        let last = actor(&folder);
        last.inner.reconfigure(&wanted).await.expect("at its start");
        assert_eq!(told(), 1);
    }

    #[test]
    fn a_new_instance_is_as_the_manifest_is_or_as_the_others_are() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = ClusterFolder::new(dir.path());
        let actor = actor(&folder);
        let of_new = || actor.inner.settings_of_new("orders-2");
        let said = of_new().expect_err("nobody says how").to_string();
        assert!(
            said.contains("orders-2") && said.contains("local up"),
            "{said}"
        );
        let volume = folder.volume("orders-1");
        std::fs::create_dir_all(volume.dir()).expect("made");
        write_config(&volume.config(), &config(&folder, 1)).expect("written");
        let of_others = ("orders".to_owned(), 1_u64 << 30, parameters("8MB"));
        assert_eq!(of_new().expect("as orders-1"), of_others);
        *actor.inner.spec.lock() = Some(ValidatedCluster {
            name: "orders".to_owned(),
            storage_bytes: 2 << 30,
            parameters: parameters("16MB"),
            ..ValidatedCluster::default()
        });
        let of_manifest = ("orders".to_owned(), 2_u64 << 30, parameters("16MB"));
        assert_eq!(of_new().expect("as the manifest"), of_manifest);
    }
}
