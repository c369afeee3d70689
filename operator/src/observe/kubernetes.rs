//! Observing a cluster on Kubernetes: the API server's objects by watches, each supervisor by its own `/watch`.
//!
//! A supervisor is alive while it is heard. Its connection ends with its process, at once, whoever killed it; a pod
//! whose control port refuses has none. A pod that says nothing at all is neither: its silence is counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::streams::StreamClock;
use super::troubles::Troubles;
use super::watches::{Known, RECONNECT, STREAM_LIMIT, StallWatch, read_stream};
use crate::crd::{HandledRequest, ReplicatedCluster};
use crate::decide::{Life, Observed, Past};
use crate::kubernetes::Cluster;
use crate::reconcile::{Observe, Seen};
use crate::render::fingerprint;
use crate::transport::{self, CallError, Peer};
use crate::validate::validate;

/// Between two attempts to reach a pod that does not answer.
const UNREACHED: Duration = Duration::from_millis(200);

pub struct KubernetesObserver {
    cluster: Arc<Cluster>,
    listening: BTreeMap<String, Listening>,
    stalls: StallWatch,
    streams: StreamClock,
    troubles: Troubles,
}

/// A task that listens to the supervisor in one pod.
struct Listening {
    pod_uid: String,
    task: JoinHandle<()>,
}

/// The object is gone, or another has its name: there is nothing to observe any more.
#[derive(Debug, thiserror::Error)]
#[error("the cluster object is gone")]
pub struct Gone;

impl KubernetesObserver {
    pub fn new(cluster: Arc<Cluster>) -> KubernetesObserver {
        KubernetesObserver {
            cluster,
            listening: BTreeMap::new(),
            stalls: StallWatch::new(),
            streams: StreamClock::default(),
            troubles: Troubles::default(),
        }
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
            let Some(pod) = pod else {
                self.stop_listening(&name);
                self.cluster.watches.gone(&name);
                continue;
            };
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if self
                .listening
                .get(&name)
                .is_some_and(|task| task.pod_uid == uid && !task.task.is_finished())
            {
                continue;
            }
            let Some(peer) = self.cluster.peer(&name, &pod) else {
                continue; // No address yet.
            };
            self.stop_listening(&name);
            let task = listen(Arc::clone(&self.cluster), name.clone(), uid.clone(), peer);
            let listening = Listening {
                pod_uid: uid,
                task: tokio::spawn(task),
            };
            self.listening.insert(name, listening);
        }
    }

    fn stop_listening(&mut self, name: &str) {
        if let Some(listening) = self.listening.remove(name) {
            listening.task.abort();
        }
    }
}

impl Observe for KubernetesObserver {
    type Error = Gone;

    async fn observe(&mut self) -> Result<Seen, Gone> {
        if let Some(stalled) = self.stalls.look() {
            self.cluster.watches.forgive(stalled);
            self.streams.forgive(stalled);
            self.troubles.forgive(stalled);
        }
        let mut cluster = self.cluster.object().ok_or(Gone)?;
        self.cluster.look(&cluster);
        self.follow_pods();
        let status = cluster.status.clone().unwrap_or_default();
        forget_handled(&mut cluster, &status.handled_requests);
        let record = status.record();
        let times = cluster.spec.failover.unwrap_or_default();
        let lost_after_ms = u64::from(times.lost_after_milliseconds);
        let mut instances = self.cluster.watches.instances(lost_after_ms);
        if let Ok(spec) = validate(&cluster) {
            let fingerprint = fingerprint(&spec);
            for (name, instance) in &mut instances {
                instance.upkeep = self.cluster.upkeep(&fingerprint, name);
            }
        }
        self.troubles
            .forget_others(|name| instances.contains_key(name));
        for (name, instance) in &mut instances {
            self.troubles
                .look(&self.cluster, name, &mut instance.upkeep);
        }
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
            routes: self.cluster.routes(),
            fencing: true,
        };
        Ok(Seen { cluster, observed })
    }

    async fn changed(&self) {
        self.cluster.watches.changed().await;
    }
}

impl Drop for KubernetesObserver {
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
        let mut heard = false;
        if let Err(error) = hear(&cluster, &name, &pod_uid, &now, &mut heard).await {
            tracing::debug!(instance = %name, %error, "the status stream ended");
            if refuses(error.as_ref()) {
                cluster.watches.gone(&name);
            }
        }
        // One that spoke until now has ended, or is back in a moment: which of these is worth knowing at once.
        tokio::time::sleep(if heard { RECONNECT } else { UNREACHED }).await;
    }
}

async fn hear(
    cluster: &Cluster,
    name: &str,
    pod_uid: &str,
    peer: &Peer,
    heard: &mut bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connect = async {
        let stream = transport::connect_tls(peer).await?;
        transport::send(stream, "/watch", None, None).await
    };
    let response = tokio::time::timeout(STREAM_LIMIT, connect).await??;
    if !response.status().is_success() {
        return Err(format!("/watch was answered with {}", response.status()).into());
    }
    read_stream(response, |status| {
        let here = status.pod_uid.as_deref().is_none_or(|uid| uid == pod_uid);
        let meant = status.name == name && status.cluster_id == cluster.uid && here;
        if meant {
            let life = cluster.life(pod_uid, status.began_at);
            cluster.watches.said(name, life, status);
            *heard = true;
        }
        meant
    })
    .await
}

/// A request that was acted on stays on the object for a moment: it is none any more.
fn forget_handled(cluster: &mut ReplicatedCluster, handled: &[HandledRequest]) {
    let Some(annotations) = cluster.metadata.annotations.as_mut() else {
        return;
    };
    for request in handled.iter().filter(|request| !request.done) {
        let text = annotations.get(&request.annotation);
        if text.is_some_and(|text| request.is_of(text)) {
            annotations.remove(&request.annotation);
        }
    }
}

/// Nobody listens there: the pod's network is up and the supervisor is not.
fn refuses(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        error.downcast_ref::<CallError>(),
        Some(CallError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused
    )
}
