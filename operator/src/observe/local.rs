//! Observing local instances: each supervisor's `/watch` stream, its process, and the object's file.
//!
//! Nothing is polled: a changed status comes by the stream, the end of a process by its descriptor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::streams::StreamClock;
use super::watches::{Known, RECONNECT, STREAM_LIMIT, StallWatch, Watches, read_stream};
use crate::api::SupervisorStatus;
use crate::decide::{Life, Observed, Past};
use crate::durable::FileLock;
use crate::instance::{Volume, read_config};
use crate::local::{ClusterFolder, ObjectError, ObjectStore, Process};
use crate::reconcile::{Observe, Seen};
use crate::transport;

impl Watches {
    /// A process was started for this instance; it is watched from now on.
    pub fn started(self: &Arc<Watches>, volume: &Volume, name: &str, pid: u32) {
        self.begun(name, pid);
        self.watch_process(volume, name, pid);
    }

    /// A status came from the instance's own supervisor.
    pub fn heard(self: &Arc<Watches>, volume: &Volume, name: &str, status: SupervisorStatus) {
        let pid = status.supervisor_pid;
        if self.said(name, pid, status) {
            self.watch_process(volume, name, pid);
        }
    }

    /// As `heard`, for the answer of a call.
    pub fn told(self: &Arc<Watches>, volume: &Volume, name: &str, status: SupervisorStatus) {
        let pid = status.supervisor_pid;
        if self.answered(name, pid, status) {
            self.watch_process(volume, name, pid);
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
}

pub struct LocalObserver {
    folder: ClusterFolder,
    store: ObjectStore,
    watches: Arc<Watches>,
    fencing: bool,
    tasks: BTreeMap<String, JoinHandle<()>>,
    stalls: StallWatch,
    streams: StreamClock,
}

impl LocalObserver {
    pub fn new(folder: ClusterFolder, watches: Arc<Watches>, fencing: bool) -> LocalObserver {
        LocalObserver {
            store: ObjectStore::new(&folder),
            folder,
            watches,
            fencing,
            tasks: BTreeMap::new(),
            stalls: StallWatch::new(),
            streams: StreamClock::default(),
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
            self.watches.forget(&name);
        }
        for name in volumes {
            if !self.tasks.contains_key(&name) {
                let volume = self.folder.volume(&name);
                self.watches.know(&name, || first_look(&volume));
                let task = watch_instance(Arc::clone(&self.watches), volume, name.clone());
                self.tasks.insert(name, tokio::spawn(task));
            }
        }
        Ok(())
    }
}

impl Observe for LocalObserver {
    type Error = ObjectError;

    async fn observe(&mut self) -> Result<Seen, ObjectError> {
        if let Some(stalled) = self.stalls.look() {
            self.watches.forgive(stalled);
            self.streams.forgive(stalled);
        }
        self.follow_volumes().map_err(|source| ObjectError::Io {
            path: self.folder.instances(),
            source,
        })?;
        let cluster = self.store.read()?.ok_or(ObjectError::Missing)?;
        let status = cluster.status.clone().unwrap_or_default();
        let record = status.record();
        let times = cluster.spec.failover.unwrap_or_default();
        let lost_after_ms = u64::from(times.lost_after_milliseconds);
        let instances = self.watches.instances(lost_after_ms);
        let unstreamed_ms = self.streams.count(record.as_ref(), &instances);
        let observed = Observed {
            record,
            past: Past {
                conditions: status.conditions,
                last_failover: status.last_failover,
                last_switchover: status.last_switchover,
            },
            instances,
            unstreamed_ms,
            routes: self.watches.routes(),
            fencing: self.fencing,
        };
        Ok(Seen { cluster, observed })
    }

    async fn changed(&self) {
        self.watches.changed().await;
    }
}

impl Drop for LocalObserver {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

fn first_look(volume: &Volume) -> Known {
    let life = if is_held(volume) {
        Life::Alive
    } else {
        Life::Ended
    };
    Known::unheard(life, None)
}

/// Whether some supervisor holds the volume. When in doubt it does.
fn is_held(volume: &Volume) -> bool {
    !matches!(FileLock::try_acquire(&volume.lock()), Ok(Some(_)))
}

/// Reads the supervisor's stream, over and over.
async fn watch_instance(watches: Arc<Watches>, volume: Volume, name: String) {
    loop {
        if let Err(error) = listen(&watches, &volume, &name).await {
            tracing::debug!(instance = %name, %error, "the status stream ended");
        }
        if !watches.has_process(&name) && !is_held(&volume) {
            watches.ended(&name, None);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn listen(
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
    read_stream(response, |status| {
        if status.name == name {
            watches.heard(volume, name, status);
        }
    })
    .await
}
