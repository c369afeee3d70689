//! Listening to the supervisors of one cluster on Kubernetes: each by its own `/watch`, whoever leads.
//!
//! A supervisor is alive while it is heard. Its connection ends with its process, at once, whoever killed it; a pod
//! whose control port refuses has none. A pod that says nothing at all is neither: its silence is counted.
//! Kubernetes' word for the end is not taken: the object of a pod that is deleted by force is gone before its processes are.
//!
//! An operator that waits for the lease listens as well, and counts by its own clock. So who takes over goes on from what
//! it heard itself: a primary that fell silent together with the old leader has been silent here for as long. It reads
//! and does nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::kubernetes::Gone;
use super::streams::{Ages, StreamClock};
use super::watches::{Known, RECONNECT, STREAM_LIMIT, StallWatch, read_stream};
use crate::api::SupervisorStatus;
use crate::crd::ReplicatedCluster;
use crate::decide::{Instance, Life};
use crate::kubernetes::Cluster;
use crate::transport::{self, CallError, Peer};
use crate::validate::failover_times;

/// Between two attempts to reach a pod that does not answer.
const UNREACHED: Duration = Duration::from_millis(200);
/// A supervisor whose pod's object is gone is taken to live as long as it is heard so often; it speaks four times a second.
const STILL_SPEAKS: Duration = Duration::from_secs(1);
/// And for so long at most once its successor can be listened to. A kubelet kills after two seconds what was deleted by
/// force.
const OUTLIVES: Duration = Duration::from_secs(5);
/// Between two looks while another operator leads: often enough to notice when this process did not run.
const WAITING_LOOK: Duration = Duration::from_millis(200);

/// As long as this lives the cluster's supervisors are listened to.
pub struct Listener {
    cluster: Arc<Cluster>,
    senses: Mutex<Senses>,
}

struct Senses {
    cluster: Arc<Cluster>,
    listening: BTreeMap<String, Listening>,
    stalls: StallWatch,
    streams: StreamClock,
}

/// A task that listens to the supervisor in one pod.
struct Listening {
    pod_uid: String,
    task: JoinHandle<()>,
    /// Since when the pod's object is gone.
    gone_at: Option<Instant>,
}

/// What is known now.
pub(super) struct Heard {
    pub object: ReplicatedCluster,
    pub instances: BTreeMap<String, Instance>,
    /// Of the copies' streams.
    pub ages: Ages,
}

impl Listener {
    pub fn new(cluster: Arc<Cluster>) -> Listener {
        let senses = Mutex::new(Senses {
            cluster: Arc::clone(&cluster),
            listening: BTreeMap::new(),
            stalls: StallWatch::new(),
            streams: StreamClock::default(),
        });
        Listener { cluster, senses }
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Listens on while another operator leads, for ever.
    pub async fn wait(self: Arc<Listener>) {
        loop {
            // Whoever keeps the tasks notices that the object is gone.
            let _ = self.listen();
            tokio::time::sleep(WAITING_LOOK).await;
        }
    }

    /// # Errors
    /// When there is no object any more that could be read.
    pub(super) fn listen(&self) -> Result<Heard, Gone> {
        self.senses.lock().listen()
    }
}

impl Senses {
    fn listen(&mut self) -> Result<Heard, Gone> {
        if let Some(stalled) = self.stalls.look() {
            self.cluster.watches.forgive(stalled);
            self.streams.forgive(stalled);
        }
        let object = self.cluster.object().ok_or(Gone)?;
        self.cluster.look(&object);
        self.follow_pods();
        let record = object.status.as_ref().and_then(|status| status.record());
        let lost_after_ms = failover_times(&object.spec).lost_after_ms;
        let at = self.stalls.looked_at();
        let instances = self.cluster.watches.instances(lost_after_ms, at);
        let ages = self.streams.count(record.as_ref(), &instances, at);
        Ok(Heard {
            object,
            instances,
            ages,
        })
    }

    /// Listens to the pod of each instance, and to no other.
    fn follow_pods(&mut self) {
        let instances = self.cluster.instances();
        let gone: Vec<String> = self
            .cluster
            .watches
            .names()
            .into_iter()
            .filter(|name| !instances.contains(name))
            .collect();
        for name in gone {
            self.stop_listening(&name);
            self.cluster.watches.forget(&name);
        }
        for name in instances {
            let pod = self.cluster.pod(&name);
            let first = if pod.is_some() {
                Life::Alive
            } else {
                Life::Ended
            };
            self.cluster
                .watches
                .know(&name, || Known::unheard(first, None));
            if self.goes_on_listening(&name, pod.as_deref()) {
                continue;
            }
            let Some(pod) = pod else {
                self.cluster.watches.gone(&name);
                continue;
            };
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let Some(peer) = self.cluster.peer(&name, &pod) else {
                continue; // No address yet.
            };
            self.stop_listening(&name);
            let task = listen(Arc::clone(&self.cluster), name.clone(), uid.clone(), peer);
            let listening = Listening {
                pod_uid: uid,
                task: tokio::spawn(task),
                gone_at: None,
            };
            self.listening.insert(name, listening);
        }
    }

    /// Whether it is the pod that is listened to already; or, where that pod's object is gone, whether the supervisor in it
    /// lives on: what was deleted by force is killed a little later, and can hand its role over before that. One that is
    /// heard no more has ended.
    fn goes_on_listening(&mut self, name: &str, pod: Option<&Pod>) -> bool {
        let cluster = &self.cluster;
        let Some(listening) = self.listening.get_mut(name) else {
            return false;
        };
        let uid = pod.and_then(|pod| pod.metadata.uid.as_deref());
        if uid == Some(listening.pod_uid.as_str()) {
            return !listening.task.is_finished();
        }
        let gone_at = *listening.gone_at.get_or_insert_with(Instant::now);
        let speaks = cluster.speakers.of(name).is_some()
            && cluster.watches.was_heard_within(name, STILL_SPEAKS);
        let has_successor = pod.is_some_and(|pod| cluster.peer(name, pod).is_some());
        if speaks && (!has_successor || gone_at.elapsed() < OUTLIVES) {
            return true;
        }
        self.stop_listening(name);
        self.cluster.watches.gone(name);
        false
    }

    fn stop_listening(&mut self, name: &str) {
        if let Some(listening) = self.listening.remove(name) {
            listening.task.abort();
            self.cluster.watches.waits_for(name, None);
        }
    }
}

impl Drop for Senses {
    fn drop(&mut self) {
        for listening in self.listening.values() {
            listening.task.abort();
        }
    }
}

/// Listens to the supervisor in this pod, over and over, until it is told to stop.
async fn listen(cluster: Arc<Cluster>, name: String, pod_uid: String, first: Peer) {
    let mut peer = Some(first);
    loop {
        // A certificate may have changed meanwhile.
        let now = cluster
            .pod(&name)
            .filter(|pod| pod.metadata.uid.as_deref() == Some(&pod_uid))
            .and_then(|pod| cluster.peer(&name, &pod))
            .or(peer.take());
        let Some(now) = now else {
            tokio::time::sleep(UNREACHED).await;
            continue;
        };
        let (mut heard, mut life) = (false, None);
        let ended = hear(&cluster, &name, &pod_uid, &now, &mut heard, &mut life).await;
        cluster.watches.waits_for(&name, None);
        if let Err(error) = ended {
            tracing::debug!(instance = %name, %error, "the status stream ended");
            if refuses(error.as_ref()) {
                cluster.watches.gone(&name);
            }
        }
        // Nothing begins again in a pod whose object is gone.
        if life.is_some() && !cluster.has_pod(&name, &pod_uid) {
            cluster.watches.ended(&name, life);
        }
        // One that spoke until now has ended, or is back in a moment: which of these is worth knowing at once.
        tokio::time::sleep(if heard { RECONNECT } else { UNREACHED }).await;
    }
}

/// Until the stream ends. `life` is the number of the supervisor's life that was heard.
async fn hear(
    cluster: &Cluster,
    name: &str,
    pod_uid: &str,
    peer: &Peer,
    heard: &mut bool,
    life: &mut Option<u32>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connect = async {
        let stream = transport::connect_tls(peer).await?;
        transport::send(stream, "/watch", None, None).await
    };
    let response = tokio::time::timeout(STREAM_LIMIT, connect).await??;
    if !response.status().is_success() {
        return Err(format!("/watch was answered with {}", response.status()).into());
    }
    let mut speaking = None;
    let ended = read_stream(response, |status| {
        if status.name == name && waits_in(&status, pod_uid) {
            cluster.watches.waits_for(name, status.message);
            *heard = true;
            return true;
        }
        let here = status.pod_uid.as_deref().is_none_or(|uid| uid == pod_uid);
        let meant = status.name == name && status.cluster_id == cluster.uid && here;
        if meant {
            let number = cluster.life(pod_uid, status.began_at);
            if speaking.is_none() {
                speaking = Some(cluster.speakers.begin(name, pod_uid, peer));
            }
            cluster.watches.said(name, number, status);
            (*heard, *life) = (true, Some(number));
        }
        meant
    })
    .await;
    drop(speaking);
    ended
}

/// Whether a supervisor in this pod has no volume yet, and so knows of no cluster: whose it is its pod says.
fn waits_in(status: &SupervisorStatus, pod_uid: &str) -> bool {
    let knows_nothing = status.instance_id.is_none() && status.cluster_id.is_empty();
    knows_nothing && status.pod_uid.as_deref() == Some(pod_uid)
}

/// Nobody listens there: the pod's network is up and the supervisor is not.
fn refuses(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        error.downcast_ref::<CallError>(),
        Some(CallError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused
    )
}
