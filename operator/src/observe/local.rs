//! Observing local instances: each supervisor's `/watch` stream, its process, and the object's file.
//!
//! Nothing is polled: a changed status comes by the stream, the end of a process by its descriptor. Times count only
//! while this process itself runs, so an operator that was frozen does not take everyone else for frozen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::api::SupervisorStatus;
use crate::crd::Record;
use crate::decide::{Instance, Life, Observed, Past, Routes};
use crate::durable::FileLock;
use crate::ids::InstanceId;
use crate::instance::{Volume, read_config};
use crate::local::{ClusterFolder, ObjectError, ObjectStore, Process};
use crate::reconcile::{Observe, Seen};
use crate::transport;

/// A longer pause between two looks means that this process was not running.
const STALL: Duration = Duration::from_millis(600);
const RECONNECT: Duration = Duration::from_millis(20);
/// A stream without a heartbeat for so long is opened anew.
const STREAM_LIMIT: Duration = Duration::from_secs(2);

/// What is known of each instance, kept by the tasks that watch them.
#[derive(Debug, Default)]
pub struct Watches {
    known: Mutex<BTreeMap<String, Known>>,
    routes: Mutex<Option<Routes>>,
    changed: Notify,
}

#[derive(Debug)]
struct Known {
    life: Life,
    pid: Option<u32>,
    heard_at: Instant,
    status: Option<SupervisorStatus>,
}

impl Watches {
    /// Something that the next look should see has happened.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    pub fn set_routes(&self, routes: Option<Routes>) {
        *self.routes.lock() = routes;
        self.wake();
    }

    /// A process was started for this instance; it is watched from now on.
    pub fn started(self: &Arc<Watches>, volume: &Volume, name: &str, pid: u32) {
        let known = Known {
            life: Life::Alive,
            pid: Some(pid),
            heard_at: Instant::now(),
            status: None,
        };
        self.known.lock().insert(name.to_owned(), known);
        self.watch_process(volume, name, pid);
        self.wake();
    }

    /// A status came from the instance's own supervisor.
    pub fn heard(self: &Arc<Watches>, volume: &Volume, name: &str, status: SupervisorStatus) {
        let pid = status.supervisor_pid;
        let mut known = self.known.lock();
        let Some(instance) = known.get_mut(name) else {
            return;
        };
        if instance.life == Life::Ended && instance.pid == Some(pid) {
            return; // Its last words, read late.
        }
        let another = instance.pid != Some(pid);
        let news = another
            || instance
                .status
                .as_ref()
                .map(SupervisorStatus::without_positions)
                != Some(status.without_positions());
        *instance = Known {
            life: Life::Alive,
            pid: Some(pid),
            heard_at: Instant::now(),
            status: Some(status),
        };
        drop(known);
        if another {
            self.watch_process(volume, name, pid);
        }
        if news {
            self.wake();
        }
    }

    /// Reports the end of this very process at once.
    fn watch_process(self: &Arc<Watches>, volume: &Volume, name: &str, pid: u32) {
        let (watches, name) = (Arc::clone(self), name.to_owned());
        let proof = volume.dir().to_string_lossy().into_owned();
        tokio::spawn(async move {
            // Between fork and exec the child still has its parent's command line.
            for _ in 0..50 {
                if let Some(process) = Process::find(pid, &proof) {
                    process.ended().await;
                    break;
                }
                if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            watches.ended(&name, Some(pid));
        });
    }

    fn ended(&self, name: &str, pid: Option<u32>) {
        let mut known = self.known.lock();
        if let Some(instance) = known.get_mut(name)
            && instance.pid == pid
            && instance.life == Life::Alive
        {
            instance.life = Life::Ended;
            instance.status = None;
            drop(known);
            self.wake();
        }
    }

    pub fn has_process(&self, name: &str) -> bool {
        let known = self.known.lock();
        known
            .get(name)
            .is_some_and(|i| i.pid.is_some() && i.life == Life::Alive)
    }

    pub fn status_of(&self, name: &str) -> Option<SupervisorStatus> {
        self.known.lock().get(name).and_then(|i| i.status.clone())
    }
}

pub struct LocalObserver {
    folder: ClusterFolder,
    store: ObjectStore,
    watches: Arc<Watches>,
    fencing: bool,
    tasks: BTreeMap<String, JoinHandle<()>>,
    looked_at: Instant,
    streamed: BTreeMap<InstanceId, Instant>,
    /// The primary and term for which `streamed` was counted.
    counted_for: Option<(InstanceId, crate::ids::Term)>,
}

impl LocalObserver {
    pub fn new(folder: ClusterFolder, watches: Arc<Watches>, fencing: bool) -> LocalObserver {
        LocalObserver {
            store: ObjectStore::new(&folder),
            folder,
            watches,
            fencing,
            tasks: BTreeMap::new(),
            looked_at: Instant::now(),
            streamed: BTreeMap::new(),
            counted_for: None,
        }
    }

    /// Watches every volume that there is, and no other.
    fn follow_volumes(&mut self) -> std::io::Result<()> {
        let volumes = self.folder.volumes()?;
        let gone: Vec<String> = self
            .tasks
            .keys()
            .filter(|name| !volumes.contains(name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(task) = self.tasks.remove(&name) {
                task.abort();
            }
            self.watches.known.lock().remove(&name);
        }
        for name in volumes {
            if !self.tasks.contains_key(&name) {
                let volume = self.folder.volume(&name);
                self.watches
                    .known
                    .lock()
                    .entry(name.clone())
                    .or_insert_with(|| first_look(&volume));
                let task = watch_instance(Arc::clone(&self.watches), volume, name.clone());
                self.tasks.insert(name, tokio::spawn(task));
            }
        }
        Ok(())
    }

    /// Time in which this process did not run is nobody's silence.
    fn forgive_stall(&mut self) {
        let pause = self.looked_at.elapsed();
        self.looked_at = Instant::now();
        if pause > STALL {
            let shift = pause - Duration::from_millis(100);
            for instance in self.watches.known.lock().values_mut() {
                instance.heard_at += shift;
            }
            for at in self.streamed.values_mut() {
                *at += shift;
            }
        }
    }

    fn instances(&self) -> BTreeMap<String, Instance> {
        let known = self.watches.known.lock();
        let view = |known: &Known| Instance {
            life: known.life,
            pid: known.pid,
            silent_ms: millis(known.heard_at.elapsed()),
            status: known.status.clone(),
        };
        known
            .iter()
            .map(|(name, instance)| (name.clone(), view(instance)))
            .collect()
    }

    /// Since when each copy has not been streaming, as the recorded primary sees it.
    fn count_streams(
        &mut self,
        record: Option<&Record>,
        instances: &BTreeMap<String, Instance>,
    ) -> BTreeMap<InstanceId, u64> {
        let now = Instant::now();
        let primary = record.and_then(|r| r.primary.as_ref());
        let engine = primary
            .and_then(|p| instances.get(&p.name).filter(|i| i.id() == Some(&p.id)))
            .and_then(Instance::engine)
            .filter(|e| record.is_some_and(|r| e.is_primary_of(r.term)));
        let counted = primary.zip(record).map(|(p, r)| (p.id.clone(), r.term));
        if counted != self.counted_for || engine.is_none() {
            // A new primary, or one that does not serve: its standbys' time begins when it does.
            self.counted_for = counted;
            for at in self.streamed.values_mut() {
                *at = now;
            }
        }
        let members = record
            .iter()
            .flat_map(|r| &r.in_sync)
            .flat_map(|s| &s.members)
            .map(|m| &m.id);
        let known: Vec<InstanceId> = members
            .chain(instances.values().filter_map(Instance::id))
            .cloned()
            .collect();
        self.streamed.retain(|id, _| known.contains(id));
        for id in known {
            let streams = engine
                .zip(record)
                .is_some_and(|(e, r)| e.stream_of(&id, r.term).is_some());
            // A primary lists the stream of a frozen standby long after it was frozen.
            let instance = instances.values().find(|i| i.id() == Some(&id));
            let silence = match instance {
                Some(instance) if !instance.answers() => {
                    Duration::from_millis(instance.silence_ms())
                }
                _ => Duration::ZERO,
            };
            let at = self.streamed.entry(id).or_insert(now);
            if streams {
                *at = (*at).max(now.checked_sub(silence).unwrap_or(*at));
            }
        }
        self.streamed
            .iter()
            .map(|(id, at)| (id.clone(), millis(now.duration_since(*at))))
            .collect()
    }
}

impl Observe for LocalObserver {
    type Error = ObjectError;

    async fn observe(&mut self) -> Result<Seen, ObjectError> {
        self.forgive_stall();
        self.follow_volumes().map_err(|source| ObjectError::Io {
            path: self.folder.instances(),
            source,
        })?;
        let cluster = self.store.read()?.ok_or(ObjectError::Missing)?;
        let status = cluster.status.clone().unwrap_or_default();
        let record = status.record();
        let instances = self.instances();
        let unstreamed_ms = self.count_streams(record.as_ref(), &instances);
        let observed = Observed {
            record,
            past: Past {
                conditions: status.conditions,
                last_failover: status.last_failover,
                last_switchover: status.last_switchover,
            },
            instances,
            unstreamed_ms,
            routes: self.watches.routes.lock().clone(),
            fencing: self.fencing,
        };
        Ok(Seen { cluster, observed })
    }

    async fn changed(&self) {
        self.watches.changed.notified().await;
    }
}

impl Drop for LocalObserver {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn first_look(volume: &Volume) -> Known {
    let life = if is_held(volume) {
        Life::Alive
    } else {
        Life::Ended
    };
    Known {
        life,
        pid: None,
        heard_at: Instant::now(),
        status: None,
    }
}

/// Whether some supervisor holds the volume. When in doubt it does.
fn is_held(volume: &Volume) -> bool {
    !matches!(FileLock::try_acquire(&volume.lock()), Ok(Some(_)))
}

/// Reads the supervisor's stream, over and over.
async fn watch_instance(watches: Arc<Watches>, volume: Volume, name: String) {
    loop {
        if let Err(error) = read_stream(&watches, &volume, &name).await {
            tracing::debug!(instance = %name, %error, "the status stream ended");
        }
        if !watches.has_process(&name) && !is_held(&volume) {
            watches.ended(&name, None);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read_stream(
    watches: &Arc<Watches>,
    volume: &Volume,
    name: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let port = read_config(&volume.config())?.control_port;
    let connect = async {
        let stream = transport::connect_local(port).await?;
        transport::send(stream, "/watch", None, None).await
    };
    let response = tokio::time::timeout(STREAM_LIMIT, connect).await??;
    let mut body = response.into_body();
    let mut buffer = Vec::new();
    while let Some(frame) = tokio::time::timeout(STREAM_LIMIT, body.frame()).await? {
        if let Ok(data) = frame?.into_data() {
            buffer.extend_from_slice(&data);
        }
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let status: SupervisorStatus = serde_json::from_slice(&line)?;
            if status.name == name {
                watches.heard(volume, name, status);
            }
        }
    }
    Ok(())
}
