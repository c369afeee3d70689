//! One cluster as this operator has it before its eyes: what observing and acting share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::given::Given;
use super::settled::Settled;
use super::speakers::{Speaker, Speakers};
use super::stores::{ClusterKey, Stores};
use super::upkeep::{complaint, stuck, upkeep, with_remedy};
use crate::api::{SeedSource, Upstream};
use crate::crd::{Record, ReplicatedCluster};
use crate::decide::{Routes, Upkeep};
use crate::ids::Millis;
use crate::names;
use crate::observe::Watches;
use crate::render::{
    CONTROL_PORT, Certified, INSTANCE, POSTGRES_PORT, PodSeen, ROLE, STANDBY, is_owned, secret_text,
};
use crate::tls;
use crate::transport::Peer;

/// On a claim whose instance was removed: it is kept, and no instance of the cluster until one of its name is made
/// again.
pub const RETIRED: &str = "understudy.dev/retired";
/// On the operator's EndpointSlice: the version of the record that it was written for.
pub const RECORD_VERSION: &str = "understudy.dev/record-version";

pub struct Cluster {
    pub client: Client,
    pub key: ClusterKey,
    /// Of the object; another object of the same name is another cluster.
    pub uid: String,
    pub stores: Arc<Stores>,
    pub watches: Arc<Watches>,
    /// Whose status stream is open.
    pub speakers: Speakers,
    /// The Secrets that the manifest names.
    pub given: Given,
    /// Of what was compared it is known that nothing is to be done about it.
    pub settled: Settled,
    /// What this process wrote last: the watch brings it a little later.
    newest: Mutex<Option<ReplicatedCluster>>,
    calls: Mutex<Option<(String, Arc<ClientConfig>)>>,
    lives: Mutex<Lives>,
    sight: Mutex<Sight>,
}

/// What the last look saw, and so what the steps that were decided on are about: these very objects, and no later ones
/// of their names. A process that is frozen between a look and a step may wake up long after.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sight {
    /// Of the cluster object.
    pub generation: i64,
    /// 0 while there is no record.
    pub record_version: u64,
    instances: BTreeMap<String, Held>,
}

/// The uids of what an instance has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    pub set: Option<String>,
    pub pod: Option<String>,
    pub claim: Option<String>,
}

impl Sight {
    /// Nothing, if the instance was not there.
    pub fn of(&self, instance: &str) -> Held {
        self.instances.get(instance).cloned().unwrap_or_default()
    }

    /// Whether the object still says what was decided on.
    pub fn is_of(&self, object: &ReplicatedCluster) -> bool {
        let record_version = object.status.as_ref().map_or(0, |s| s.record_version);
        let generation = object.metadata.generation.unwrap_or_default();
        (generation, record_version) == (self.generation, self.record_version)
            && object.metadata.deletion_timestamp.is_none()
    }
}

/// Numbers for the lives of supervisors, so that what was seen of one is never taken for another's. Those that were asked
/// for last are kept: a container that crashes for days has many lives, and nobody asks for the old ones.
#[derive(Default)]
struct Lives {
    last: u32,
    /// The one that was asked for longest ago comes first.
    known: VecDeque<Life>,
}

struct Life {
    number: u32,
    pod_uid: String,
    began_at: Millis,
}

const MOST_LIVES: usize = 256;

impl Lives {
    fn number(&mut self, pod_uid: &str, began_at: Millis) -> u32 {
        let is_it = |life: &Life| life.began_at == began_at && life.pod_uid == pod_uid;
        let known = self.known.iter().position(is_it);
        let life = known.and_then(|at| self.known.remove(at));
        let life = life.unwrap_or_else(|| {
            self.last = self.last.wrapping_add(1);
            Life {
                number: self.last,
                pod_uid: pod_uid.to_owned(),
                began_at,
            }
        });
        let number = life.number;
        self.known.push_back(life);
        if self.known.len() > MOST_LIVES {
            self.known.pop_front();
        }
        number
    }

    fn pod(&self, number: u32) -> Option<&str> {
        let life = self.known.iter().find(|life| life.number == number);
        life.map(|life| life.pod_uid.as_str())
    }
}

impl Cluster {
    pub fn new(client: Client, key: ClusterKey, uid: String, stores: Arc<Stores>) -> Cluster {
        Cluster {
            client,
            key,
            uid,
            stores,
            watches: Arc::default(),
            speakers: Speakers::default(),
            given: Given::default(),
            settled: Settled::default(),
            newest: Mutex::default(),
            calls: Mutex::default(),
            lives: Mutex::default(),
            sight: Mutex::default(),
        }
    }

    /// At the begin of each look, of the object that it is about.
    pub fn look(&self, object: &ReplicatedCluster) {
        let mut instances: BTreeMap<String, Held> = BTreeMap::new();
        for set in self.stateful_sets() {
            let held = instances.entry(set.name_any()).or_default();
            held.set.clone_from(&set.metadata.uid);
        }
        for pod in self.stores.pods.of_cluster(&self.key) {
            if let Some(instance) = names::instance_of_pod(&pod.name_any()) {
                let held = instances.entry(instance.to_owned()).or_default();
                held.pod.clone_from(&pod.metadata.uid);
            }
        }
        for claim in self.stores.claims.of_cluster(&self.key) {
            let name = claim.name_any();
            let instance = claim.labels().get(INSTANCE);
            if let Some(instance) = instance.filter(|instance| names::claim(instance) == name) {
                let held = instances.entry(instance.clone()).or_default();
                held.claim.clone_from(&claim.metadata.uid);
            }
        }
        *self.sight.lock() = Sight {
            generation: object.metadata.generation.unwrap_or_default(),
            record_version: object.status.as_ref().map_or(0, |s| s.record_version),
            instances,
        };
    }

    /// What the last look saw.
    pub fn sight(&self) -> Sight {
        self.sight.lock().clone()
    }

    /// The newest state of the object that this process knows; none if it is gone, can't be read, or another one has its
    /// name.
    pub fn object(&self) -> Option<ReplicatedCluster> {
        self.read(ReplicatedCluster::clone)
    }

    /// The record in that state.
    pub fn record(&self) -> Option<Record> {
        self.read(|object| object.status.as_ref()?.record())
            .flatten()
    }

    fn read<T>(&self, read: impl FnOnce(&ReplicatedCluster) -> T) -> Option<T> {
        let kept = self.stores.cluster(&self.key)?;
        let stored = kept.read().ok()?;
        if stored.metadata.uid.as_ref() != Some(&self.uid) {
            return None;
        }
        let newest = self.newest.lock();
        let written = newest.as_ref();
        let written = written.filter(|written| version(written) > version(stored));
        Some(read(written.unwrap_or(stored)))
    }

    /// The object as the server gave it back.
    pub fn wrote(&self, mut object: ReplicatedCluster) {
        // Copied at each look, and nobody who looks reads who holds which field: so it is with what the watch brings.
        object.metadata.managed_fields = None;
        let mut newest = self.newest.lock();
        if newest
            .as_ref()
            .is_none_or(|old| version(old) < version(&object))
        {
            *newest = Some(object);
        }
    }

    pub fn reference(&self) -> ObjectReference {
        reference(&self.key, &self.uid)
    }

    /// The instances that there are: those with a StatefulSet, and those of which only the claim is left.
    pub fn instances(&self) -> BTreeSet<String> {
        let sets = self
            .stateful_sets()
            .into_iter()
            .filter_map(|set| set.labels().get(INSTANCE).cloned());
        let claims = self
            .stores
            .claims
            .of_cluster(&self.key)
            .into_iter()
            .filter(|claim| holds_an_instance(claim))
            .filter_map(|claim| claim.labels().get(INSTANCE).cloned());
        sets.chain(claims)
            .filter(|name| names::instance_number(&self.key.name, name).is_some())
            .collect()
    }

    /// The removed instances whose claims are kept, in order.
    pub fn retired(&self) -> Vec<String> {
        let claims = self.stores.claims.of_cluster(&self.key).into_iter();
        let kept = claims.filter(|claim| claim.annotations().contains_key(RETIRED));
        let names = kept.filter_map(|claim| claim.labels().get(INSTANCE).cloned());
        let sorted: BTreeSet<String> = names.collect();
        sorted.into_iter().collect()
    }

    /// The instances' StatefulSets, as far as they are this cluster's.
    pub fn stateful_sets(&self) -> Vec<Arc<StatefulSet>> {
        let all = self.stores.stateful_sets.of_cluster(&self.key).into_iter();
        all.filter(|set| is_owned(&set.metadata, &self.uid))
            .collect()
    }

    /// The instance's pod, unless it has ended for good.
    pub fn pod(&self, instance: &str) -> Option<Arc<Pod>> {
        let pod = self.stores.pods.named(&self.key, &names::pod(instance))?;
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
        (!has_ended).then_some(pod)
    }

    /// Whether the instance's pod is the one with this uid.
    pub fn has_pod(&self, instance: &str, uid: &str) -> bool {
        let pod = self.pod(instance);
        pod.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid))
    }

    fn stateful_set(&self, instance: &str) -> Option<Arc<StatefulSet>> {
        let set = self.stores.stateful_sets.named(&self.key, instance)?;
        is_owned(&set.metadata, &self.uid).then_some(set)
    }

    /// The uid of what keeps the instance from having a pod that runs, or has only just begun to bring it.
    pub fn stuck(&self, instance: &str) -> Option<String> {
        let (set, pod) = (self.stateful_set(instance), self.pod(instance));
        stuck(set.as_deref(), pod.as_deref())
    }

    /// What Kubernetes complains of where this object is concerned, as its events have it.
    ///
    /// # Errors
    /// The API server's.
    pub async fn complaint(&self, uid: &str) -> Result<Option<String>, kube::Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.key.namespace);
        let its = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        Ok(complaint(&events.list(&its).await?.items))
    }

    /// `fingerprint` is the manifest's; one that is refused has none.
    pub fn upkeep(&self, fingerprint: Option<&str>, instance: &str) -> Upkeep {
        let set = self.stateful_set(instance);
        let pod = self.pod(instance);
        let node = pod
            .as_ref()
            .and_then(|pod| pod.spec.as_ref()?.node_name.clone())
            .and_then(|node| self.stores.nodes.get(&ObjectRef::new(&node)));
        let found = upkeep(fingerprint, set.as_deref(), pod.as_deref(), node.as_deref());
        let told = |trouble: String| with_remedy(trouble, self.claim(instance).as_deref());
        Upkeep {
            forced: self.left_over(instance).is_some(),
            trouble: found.trouble.map(told),
            ..found
        }
    }

    fn claim(&self, instance: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let name = names::claim(instance);
        self.stores.claims.named(&self.key, &name)
    }

    pub fn pods(&self) -> BTreeMap<String, PodSeen> {
        let seen = |instance: String| {
            let pod = self.pod(&instance)?;
            let seen = PodSeen {
                name: pod.name_any(),
                uid: pod.metadata.uid.clone()?,
                ip: address(&pod).map(|ip| ip.to_string()),
                node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            };
            Some((instance, seen))
        };
        self.instances().into_iter().filter_map(seen).collect()
    }

    /// Where the supervisor in this pod is called, and as whom.
    pub fn peer(&self, instance: &str, pod: &Pod) -> Option<Peer> {
        let port = u16::try_from(CONTROL_PORT).ok()?;
        Some(Peer {
            address: SocketAddr::new(address(pod)?, port),
            name: ServerName::try_from(self.pod_host(instance)).ok()?,
            config: self.client_config()?,
        })
    }

    /// The supervisor that is heard although its pod's object is gone.
    fn left_over(&self, instance: &str) -> Option<Speaker> {
        let speaker = self.speakers.of(instance)?;
        let is_there = self.has_pod(instance, &speaker.pod_uid);
        Some(speaker).filter(|_| !is_there)
    }

    /// Where the instance's supervisor is called, and the uid of the pod that it is in.
    pub fn reach(&self, instance: &str) -> Option<(String, Peer)> {
        if let Some(speaker) = self.left_over(instance) {
            return Some((speaker.pod_uid, speaker.peer));
        }
        let pod = self.pod(instance)?;
        let peer = self.peer(instance, &pod)?;
        Some((pod.metadata.uid.clone().unwrap_or_default(), peer))
    }

    fn address_of(&self, instance: &str) -> Option<IpAddr> {
        match self.left_over(instance) {
            Some(speaker) => Some(speaker.peer.address.ip()),
            None => self.pod(instance).as_deref().and_then(address),
        }
    }

    /// The pod of a primary, as its standbys are told it.
    pub fn upstream(&self, instance: &str) -> Option<Upstream> {
        let pod = self.pod(instance)?;
        Some(Upstream {
            host: self.pod_host(instance),
            address: address(&pod)?,
        })
    }

    /// The pod of a standby, as an instance is told it that is to copy it.
    pub fn seed_source(&self, instance: &str) -> Option<SeedSource> {
        let Upstream { host, address } = self.upstream(instance)?;
        Some(SeedSource {
            instance: instance.to_owned(),
            host,
            address,
            port: u16::try_from(POSTGRES_PORT).ok()?,
        })
    }

    fn pod_host(&self, instance: &str) -> String {
        let service = names::instances_service(&self.key.name);
        format!(
            "{}.{service}.{}.svc",
            names::pod(instance),
            self.key.namespace
        )
    }

    /// Made of the operator's Secret, anew whenever that changes.
    fn client_config(&self) -> Option<Arc<ClientConfig>> {
        let name = names::operator_secret(&self.key.name);
        let secret = self.stores.secrets.named(&self.key, &name);
        let secret = secret.filter(|secret| is_owned(&secret.metadata, &self.uid))?;
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        let mut calls = self.calls.lock();
        if let Some((made_of, config)) = calls.as_ref()
            && *made_of == version
        {
            return Some(Arc::clone(config));
        }
        let own = Certified {
            certificate: secret_text(&secret, "tls.crt")?,
            key: secret_text(&secret, "tls.key")?,
        };
        match tls::client(&secret_text(&secret, "ca.crt")?, &own) {
            Ok(config) => {
                *calls = Some((version, Arc::clone(&config)));
                Some(config)
            }
            Err(error) => {
                tracing::error!(cluster = %self.key, %error, "the operator's certificate is of no use");
                None
            }
        }
    }

    /// A number for this life of the supervisor in this pod.
    pub fn life(&self, pod_uid: &str, began_at: Millis) -> u32 {
        self.lives.lock().number(pod_uid, began_at)
    }

    /// The pod in which that life was seen.
    pub fn pod_of_life(&self, number: u32) -> Option<String> {
        self.lives.lock().pod(number).map(str::to_owned)
    }

    /// What the write Service leads by: the operator's own slices. Each family of addresses has one of its own, so there
    /// are two for the moment in which the one takes over from the other.
    pub fn write_slices(&self) -> Vec<Arc<EndpointSlice>> {
        let name = names::primary_service(&self.key.name);
        let all = self.stores.slices.of_cluster(&self.key).into_iter();
        all.filter(|slice| {
            let service = slice.labels().get("kubernetes.io/service-name");
            is_owned(&slice.metadata, &self.uid) && service == Some(&name)
        })
        .collect()
    }

    /// Whether the write Service leads to this instance.
    pub fn leads_to(&self, instance: &str) -> bool {
        let routes = self.routes();
        routes.is_some_and(|routes| routes.primary.as_deref() == Some(instance))
    }

    /// Where the Services lead now, as the API server has it.
    pub fn routes(&self) -> Option<Routes> {
        let slices = self.write_slices();
        let filled = slices.iter().filter(|slice| !slice.endpoints.is_empty());
        if filled.clone().count() > 1 {
            return None; // It has to be led anew, whereto ever.
        }
        let slice = filled.chain(&slices).next()?;
        let endpoint = slice.endpoints.first();
        let primary = endpoint
            .and_then(|endpoint| endpoint.target_ref.as_ref()?.name.clone())
            .and_then(|pod| names::instance_of_pod(&pod).map(str::to_owned))
            // An address that the pod no longer has leads nowhere.
            .filter(|instance| {
                let now = self.address_of(instance);
                let told = endpoint.and_then(|endpoint| endpoint.addresses.first());
                now.is_some_and(|now| told == Some(&now.to_string()))
            });
        let standbys = self
            .stores
            .pods
            .of_cluster(&self.key)
            .into_iter()
            .filter(|pod| pod.labels().get(ROLE).map(String::as_str) == Some(STANDBY))
            .filter_map(|pod| pod.labels().get(INSTANCE).cloned())
            .collect::<BTreeSet<_>>();
        Some(Routes {
            record_version: slice
                .annotations()
                .get(RECORD_VERSION)
                .and_then(|version| version.parse().ok())
                .unwrap_or(0),
            primary,
            standbys: standbys.into_iter().collect(),
        })
    }
}

/// The cluster object, as events name it.
pub fn reference(key: &ClusterKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(ReplicatedCluster::api_version(&()).into_owned()),
        kind: Some(ReplicatedCluster::kind(&()).into_owned()),
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// The pod's address, once it has one.
pub fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn holds_an_instance(claim: &PersistentVolumeClaim) -> bool {
    !claim.annotations().contains_key(RETIRED) && claim.metadata.deletion_timestamp.is_none()
}

/// Later versions are larger: so it is with the API server's own storage.
fn version(object: &ReplicatedCluster) -> u64 {
    let version = object.metadata.resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_keeps_its_number_while_it_is_asked_for_and_old_ones_go() {
        let mut lives = Lives::default();
        let at = Millis::new;
        let first = lives.number("pod", at(1));
        let gone = lives.number("pod", at(2));
        for began in 3..2_000 {
            assert_ne!(lives.number("other", at(began)), first);
            assert_eq!(lives.number("pod", at(1)), first);
        }
        assert_eq!(lives.pod(first), Some("pod"));
        assert_eq!(lives.pod(gone), None);
        assert!(lives.known.len() <= MOST_LIVES);
        assert!(
            lives.number("pod", at(2)) > gone,
            "no number is given twice"
        );
    }
}
