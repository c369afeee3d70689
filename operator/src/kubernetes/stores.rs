//! What the API server has, as far as clusters are concerned: one watch for each kind (and namespace, where not all are
//! looked after), whatever the number of clusters, and a call to the cluster that an object belongs to whenever it changes.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::guarded::Guarded;
use super::kept::{Changed, Kept, Shelf};
use crate::crd::ReplicatedCluster;
use crate::observe::Watches;
use crate::render::CLUSTER;

/// Watches are opened anew that often: one that has died silently is noticed then, and goes on where it was.
const WATCH_SECONDS: u32 = 60;

/// A cluster's namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterKey {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whom to call when an object of a cluster changes.
#[derive(Debug, Default)]
struct Callers {
    clusters: Mutex<HashMap<ClusterKey, Arc<Watches>>>,
    /// A cluster object has come, gone or changed.
    any: Notify,
}

impl Callers {
    fn call(&self, keys: &[ClusterKey]) {
        let clusters = self.clusters.lock();
        for watches in keys.iter().filter_map(|key| clusters.get(key)) {
            watches.wake();
        }
    }

    fn call_all(&self) {
        self.any.notify_one();
        for watches in self.clusters.lock().values() {
            watches.wake();
        }
    }
}

/// Of each kind that a cluster has objects of: see [`Kept::revision`].
pub type Revisions = [Option<u64>; 11];

pub struct Stores {
    /// One that can't be read is among them.
    pub clusters: Kept<Guarded<ReplicatedCluster>>,
    pub stateful_sets: Kept<StatefulSet>,
    pub pods: Kept<Pod>,
    pub claims: Kept<PersistentVolumeClaim>,
    pub secrets: Kept<Secret>,
    pub services: Kept<Service>,
    pub slices: Kept<EndpointSlice>,
    pub accounts: Kept<ServiceAccount>,
    pub roles: Kept<Role>,
    pub bindings: Kept<RoleBinding>,
    pub budgets: Kept<PodDisruptionBudget>,
    pub policies: Kept<NetworkPolicy>,
    pub nodes: Store<Node>,
    callers: Arc<Callers>,
    tasks: Vec<JoinHandle<()>>,
}

impl Stores {
    /// Begins to watch these namespaces, or all if none is named.
    pub fn watch(client: &Client, namespaces: &[String]) -> Stores {
        let callers = Arc::new(Callers::default());
        // One that is named twice is watched once.
        let namespaces: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
        let mut watcher = Watcher {
            client,
            namespaces: &namespaces,
            callers: &callers,
            tasks: Vec::new(),
        };
        let clusters = watcher.clusters();
        Stores {
            clusters,
            stateful_sets: watcher.labelled(Holders::Kept),
            pods: watcher.labelled(Holders::Dropped),
            claims: watcher.labelled(Holders::Dropped),
            secrets: watcher.labelled(Holders::Kept),
            services: watcher.labelled(Holders::Kept),
            slices: watcher.labelled(Holders::Kept),
            accounts: watcher.labelled(Holders::Kept),
            roles: watcher.labelled(Holders::Kept),
            bindings: watcher.labelled(Holders::Kept),
            budgets: watcher.labelled(Holders::Kept),
            policies: watcher.labelled(Holders::Kept),
            nodes: watcher.nodes(),
            tasks: watcher.tasks,
            callers,
        }
    }

    /// Returns when every kind has been listed once.
    pub async fn listed(&self) {
        self.clusters.listed().await;
        self.stateful_sets.listed().await;
        self.pods.listed().await;
        self.claims.listed().await;
        self.secrets.listed().await;
        self.services.listed().await;
        self.slices.listed().await;
        self.accounts.listed().await;
        self.roles.listed().await;
        self.bindings.listed().await;
        self.budgets.listed().await;
        self.policies.listed().await;
    }

    /// From now on `watches` is woken when something of this cluster changes.
    pub fn call_when_changed(&self, key: &ClusterKey, watches: Arc<Watches>) {
        self.callers.clusters.lock().insert(key.clone(), watches);
    }

    pub fn forget(&self, key: &ClusterKey) {
        self.callers.clusters.lock().remove(key);
    }

    /// Returns when a cluster object has come, gone or changed.
    pub async fn clusters_changed(&self) {
        self.callers.any.notified().await;
    }

    pub fn cluster(&self, key: &ClusterKey) -> Option<Arc<Guarded<ReplicatedCluster>>> {
        self.clusters.named(key, &key.name)
    }

    /// Of everything that is there of the cluster besides its own object. While no part of it is another one, nothing of
    /// that has changed.
    pub fn revisions(&self, key: &ClusterKey) -> Revisions {
        [
            self.stateful_sets.revision(key),
            self.pods.revision(key),
            self.claims.revision(key),
            self.secrets.revision(key),
            self.services.revision(key),
            self.slices.revision(key),
            self.accounts.revision(key),
            self.roles.revision(key),
            self.bindings.revision(key),
            self.budgets.revision(key),
            self.policies.revision(key),
        ]
    }

    /// Nobody's silence until now is evidence: it may have been this process that was cut off.
    pub fn begin_silences(&self) {
        for watches in self.callers.clusters.lock().values() {
            watches.begin_silences();
        }
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The cluster that an object names by its label.
pub(super) fn key_of<K: Resource>(object: &K) -> Option<ClusterKey> {
    Some(ClusterKey {
        namespace: object.namespace()?,
        name: object.labels().get(CLUSTER)?.clone(),
    })
}

/// A cluster object's own.
fn own_key(object: &Guarded<ReplicatedCluster>) -> Option<ClusterKey> {
    Some(ClusterKey {
        namespace: object.namespace()?,
        name: object.name_any(),
    })
}

/// Whether the scheduler puts nothing on it any more, as `kubectl cordon` and `drain` have it.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
}

/// What becomes of `metadata.managedFields`. It is much of what an object holds, and only whoever applies it reads it.
#[derive(Clone, Copy)]
enum Holders {
    Kept,
    Dropped,
}

impl Holders {
    fn of<K: Resource>(self, event: Event<K>) -> Event<K> {
        match self {
            Holders::Kept => event,
            Holders::Dropped => event.modify(|object| object.meta_mut().managed_fields = None),
        }
    }
}

struct Watcher<'a> {
    client: &'a Client,
    namespaces: &'a BTreeSet<&'a str>,
    callers: &'a Arc<Callers>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watcher<'_> {
    fn clusters(&mut self) -> Kept<Guarded<ReplicatedCluster>> {
        let callers = Arc::clone(self.callers);
        let config = watcher::Config::default();
        self.start(config, own_key, Holders::Dropped, move |keys| {
            callers.any.notify_one();
            callers.call(keys);
        })
    }

    fn labelled<K>(&mut self, holders: Holders) -> Kept<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default,
    {
        let callers = Arc::clone(self.callers);
        let config = watcher::Config::default().labels(CLUSTER);
        self.start(config, key_of, holders, move |keys| callers.call(keys))
    }

    /// `tell` is told the clusters whose objects have changed.
    fn start<K>(
        &mut self,
        config: watcher::Config,
        belongs: fn(&K) -> Option<ClusterKey>,
        holders: Holders,
        tell: impl Fn(&[ClusterKey]) + Clone + Send + 'static,
    ) -> Kept<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default,
    {
        let config = config.timeout(WATCH_SECONDS);
        let mut apis: Vec<Api<K>> = self
            .namespaces
            .iter()
            .map(|namespace| Api::namespaced(self.client.clone(), namespace))
            .collect();
        if apis.is_empty() {
            apis.push(Api::all(self.client.clone()));
        }
        let mut shelves = Vec::new();
        for api in apis {
            let shelf = Arc::new(Shelf::new(belongs));
            shelves.push(Arc::clone(&shelf));
            let (callers, tell) = (Arc::clone(self.callers), tell.clone());
            let events = watch(api, config.clone()).default_backoff();
            self.tasks.push(tokio::spawn(async move {
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.next().await {
                    match event.map(|event| shelf.take(holders.of(event))) {
                        Ok(Changed::Nothing) => {}
                        Ok(Changed::Clusters(keys)) => tell(&keys),
                        Ok(Changed::Everything) => callers.call_all(),
                        Err(error) => note_broken::<K>(&error),
                    }
                }
            }));
        }
        Kept::new(shelves)
    }

    /// Whoever may not look at nodes can't see that one is being drained; evictions tell, a little later.
    fn nodes(&mut self) -> Store<Node> {
        let callers = Arc::clone(self.callers);
        let api: Api<Node> = Api::all(self.client.clone());
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let (reader, writer) = store();
        let events = reflector(writer, watch(api, config).default_backoff());
        self.tasks.push(tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            let mut cordoned: HashMap<String, bool> = HashMap::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Delete(node)) => {
                        cordoned.remove(&node.name_any());
                        callers.call_all();
                    }
                    Ok(Event::Apply(node)) => {
                        let now = is_cordoned(&node);
                        // Kubelets write their nodes' status all the time.
                        if cordoned.insert(node.name_any(), now) != Some(now) {
                            callers.call_all();
                        }
                    }
                    // A list is in the store when it is whole.
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Ok(Event::InitDone) => callers.call_all(),
                    Err(error) => note_broken::<Node>(&error),
                }
            }
        }));
        reader
    }
}

fn note_broken<K>(error: &watcher::Error) {
    tracing::warn!(kind = std::any::type_name::<K>(), %error, "a watch broke and is opened anew");
}
