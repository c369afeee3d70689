//! What the API server has, as far as clusters are concerned: one watch for each kind (and namespace, where not all are
//! looked after), whatever the number of clusters, and a call to the cluster that an object belongs to whenever it changes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
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
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::guarded::Guarded;
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
    fn call(&self, key: &ClusterKey) {
        if let Some(watches) = self.clusters.lock().get(key) {
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

/// The objects of one kind: a store for each namespace that is looked after, or one for all of them.
pub struct Kept<K>(Vec<Store<K>>)
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone;

impl<K> Kept<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.iter().flat_map(Store::state).collect()
    }

    /// Those that carry the cluster's label.
    pub fn of_cluster(&self, key: &ClusterKey) -> Vec<Arc<K>> {
        let is_its = |object: &K| key_of(object).as_ref() == Some(key);
        let stores = self.0.iter();
        stores.flat_map(|s| s.state_filter(is_its)).collect()
    }

    fn get(&self, key: &ClusterKey) -> Option<Arc<K>> {
        let name = ObjectRef::new(&key.name).within(&key.namespace);
        self.0.iter().find_map(|store| store.get(&name))
    }

    async fn listed(&self) {
        for store in &self.0 {
            // The writer is gone when the process ends; nobody waits then.
            let _ = store.wait_until_ready().await;
        }
    }
}

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
        let mut watcher = Watcher {
            client,
            namespaces,
            callers: &callers,
            tasks: Vec::new(),
        };
        let clusters = watcher.clusters();
        Stores {
            clusters,
            stateful_sets: watcher.labelled(),
            pods: watcher.labelled(),
            claims: watcher.labelled(),
            secrets: watcher.labelled(),
            services: watcher.labelled(),
            slices: watcher.labelled(),
            accounts: watcher.labelled(),
            roles: watcher.labelled(),
            bindings: watcher.labelled(),
            budgets: watcher.labelled(),
            policies: watcher.labelled(),
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
        self.clusters.get(key)
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

fn key_of<K: Resource>(object: &K) -> Option<ClusterKey> {
    Some(ClusterKey {
        namespace: object.namespace()?,
        name: object.labels().get(CLUSTER)?.clone(),
    })
}

/// Whether the scheduler puts nothing on it any more, as `kubectl cordon` and `drain` have it.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
}

struct Watcher<'a> {
    client: &'a Client,
    namespaces: &'a [String],
    callers: &'a Arc<Callers>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watcher<'_> {
    fn clusters(&mut self) -> Kept<Guarded<ReplicatedCluster>> {
        let callers = Arc::clone(self.callers);
        self.start(
            watcher::Config::default().timeout(WATCH_SECONDS),
            move |object: &Guarded<ReplicatedCluster>| {
                callers.any.notify_one();
                if let Some(namespace) = object.namespace() {
                    let name = object.name_any();
                    callers.call(&ClusterKey { namespace, name });
                }
            },
        )
    }

    fn labelled<K>(&mut self) -> Kept<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync,
    {
        let callers = Arc::clone(self.callers);
        let config = watcher::Config::default().labels(CLUSTER);
        self.start(config.timeout(WATCH_SECONDS), move |object: &K| {
            if let Some(key) = key_of(object) {
                callers.call(&key);
            }
        })
    }

    /// Whoever may not look at nodes can't see that one is being drained; evictions tell, a little later.
    fn nodes(&mut self) -> Store<Node> {
        let callers = Arc::clone(self.callers);
        let api = Api::all(self.client.clone());
        let cordoned: Mutex<HashMap<String, bool>> = Mutex::default();
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        self.follow(api, config, move |node: &Node| {
            let now = is_cordoned(node);
            // Kubelets write their nodes' status all the time.
            if cordoned.lock().insert(node.name_any(), now) != Some(now) {
                callers.call_all();
            }
        })
    }

    fn start<K>(
        &mut self,
        config: watcher::Config,
        changed: impl Fn(&K) + Clone + Send + Sync + 'static,
    ) -> Kept<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync,
    {
        let mut apis: Vec<Api<K>> = self
            .namespaces
            .iter()
            .map(|namespace| Api::namespaced(self.client.clone(), namespace))
            .collect();
        if apis.is_empty() {
            apis.push(Api::all(self.client.clone()));
        }
        let followed = apis
            .into_iter()
            .map(|api| self.follow(api, config.clone(), changed.clone()));
        Kept(followed.collect())
    }

    fn follow<K>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        changed: impl Fn(&K) + Send + Sync + 'static,
    ) -> Store<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync,
    {
        let (reader, writer) = store();
        let events = reflector(writer, watch(api, config).default_backoff());
        let callers = Arc::clone(self.callers);
        self.tasks.push(tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::Delete(object)) => changed(&object),
                    // A list is in the store when it is whole.
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Ok(Event::InitDone) => callers.call_all(),
                    Err(error) => {
                        tracing::warn!(kind = std::any::type_name::<K>(), %error, "a watch broke and is opened anew");
                    }
                }
            }
        }));
        reader
    }
}
