//! The objects of one kind as their watch brings them, by the cluster that they belong to.
//!
//! Each cluster is looked at ten times a second and more, and every look asks several times for its objects: with hundreds
//! of clusters nobody may walk through the objects of all of them for that. Whose an object is, is noted when it comes,
//! together with the object and under the same lock. Invariants:
//! - an object is in one cluster at most, the one that its newest state names, whatever it named before;
//! - what is gone is in none, whatever the last state named that the watch brought of it;
//! - a list counts when it is whole, and then nothing is there that it does not have;
//! - a cluster's revision is another one after each of these, and none comes again.
//!
//! An object that belongs to no cluster is not kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::stores::ClusterKey;

/// The objects of one kind: a shelf for each namespace that is looked after, or one for all of them. No two shelves have
/// anything of one cluster.
pub struct Kept<K>(Vec<Arc<Shelf<K>>>);

impl<K> Kept<K> {
    pub(super) fn new(shelves: Vec<Arc<Shelf<K>>>) -> Kept<K> {
        Kept(shelves)
    }

    /// Those of all clusters.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.iter().flat_map(|shelf| shelf.all()).collect()
    }

    /// The cluster's, ordered by name.
    pub fn of_cluster(&self, key: &ClusterKey) -> Vec<Arc<K>> {
        let its = self.0.iter().find_map(|shelf| shelf.of_cluster(key));
        its.unwrap_or_default()
    }

    /// The cluster's object of this name. What has the name and is not the cluster's is not found.
    pub fn named(&self, key: &ClusterKey, name: &str) -> Option<Arc<K>> {
        self.0.iter().find_map(|shelf| shelf.named(key, name))
    }

    /// Another number whenever an object of the cluster has come, changed or gone, and never one that was there before;
    /// none while the cluster has no object of this kind.
    pub fn revision(&self, key: &ClusterKey) -> Option<u64> {
        self.0.iter().find_map(|shelf| shelf.revision(key))
    }

    /// Returns when the kind has been listed once.
    pub(super) async fn listed(&self) {
        for shelf in &self.0 {
            let mut listed = shelf.listed.subscribe();
            // The sender lives as long as the shelf.
            let _ = listed.wait_for(|is_whole| *is_whole).await;
        }
    }
}

/// Whose objects an event has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Changed {
    Nothing,
    /// Of these clusters, if of any.
    Clusters(Vec<ClusterKey>),
    Everything,
}

/// What one watch brings.
pub(super) struct Shelf<K> {
    /// The cluster that an object belongs to as it is now; it is in the object's own namespace.
    belongs: fn(&K) -> Option<ClusterKey>,
    state: RwLock<State<K>>,
    listed: watch::Sender<bool>,
}

struct State<K> {
    now: Objects<K>,
    /// A list that is not whole yet.
    coming: Objects<K>,
    /// Counts the changes of `now`.
    changes: u64,
}

struct Objects<K> {
    /// The cluster of each object, by namespace and name.
    homes: HashMap<(String, String), ClusterKey>,
    /// None without an object.
    clusters: HashMap<ClusterKey, Own<K>>,
}

/// The objects of one cluster, by name.
struct Own<K> {
    by_name: BTreeMap<String, Arc<K>>,
    /// The number of the newest change.
    changed: u64,
}

impl<K> Default for Objects<K> {
    fn default() -> Objects<K> {
        Objects {
            homes: HashMap::new(),
            clusters: HashMap::new(),
        }
    }
}

impl<K> Default for Own<K> {
    fn default() -> Own<K> {
        Own {
            by_name: BTreeMap::new(),
            changed: 0,
        }
    }
}

impl<K> Shelf<K> {
    /// Empty, and not listed yet.
    pub fn new(belongs: fn(&K) -> Option<ClusterKey>) -> Shelf<K> {
        let state = State {
            now: Objects::default(),
            coming: Objects::default(),
            changes: 0,
        };
        Shelf {
            belongs,
            state: RwLock::new(state),
            listed: watch::Sender::new(false),
        }
    }

    fn all(&self) -> Vec<Arc<K>> {
        let state = self.state.read();
        let clusters = state.now.clusters.values();
        clusters
            .flat_map(|own| own.by_name.values().cloned())
            .collect()
    }

    fn of_cluster(&self, key: &ClusterKey) -> Option<Vec<Arc<K>>> {
        let state = self.state.read();
        let own = state.now.clusters.get(key)?;
        Some(own.by_name.values().cloned().collect())
    }

    fn named(&self, key: &ClusterKey, name: &str) -> Option<Arc<K>> {
        let state = self.state.read();
        state.now.clusters.get(key)?.by_name.get(name).cloned()
    }

    fn revision(&self, key: &ClusterKey) -> Option<u64> {
        let state = self.state.read();
        state.now.clusters.get(key).map(|own| own.changed)
    }
}

impl<K: Resource> Shelf<K> {
    /// What the watch says next.
    pub fn take(&self, event: Event<K>) -> Changed {
        match event {
            Event::Apply(object) => {
                let to = (self.belongs)(&object);
                Changed::Clusters(self.state.write().put(to, object))
            }
            Event::Delete(object) => {
                let from = self.state.write().remove(&object);
                Changed::Clusters(from.into_iter().collect())
            }
            Event::Init => {
                // Whatever came of a list that broke off is not taken for a part of this one.
                self.state.write().coming = Objects::default();
                Changed::Nothing
            }
            Event::InitApply(object) => {
                let to = (self.belongs)(&object);
                self.state.write().coming.put(to, object, 0);
                Changed::Nothing
            }
            Event::InitDone => {
                let before = self.state.write().turn();
                // Not while others wait for the lock: it may be thousands of objects.
                drop(before);
                self.listed.send_replace(true);
                Changed::Everything
            }
        }
    }
}

impl<K: Resource> State<K> {
    /// The clusters that it belonged to until now and belongs to from now on.
    fn put(&mut self, to: Option<ClusterKey>, object: K) -> Vec<ClusterKey> {
        self.changes += 1;
        let from = self.now.put(to.clone(), object, self.changes);
        let both = from.filter(|from| to.as_ref() != Some(from));
        both.into_iter().chain(to).collect()
    }

    fn remove(&mut self, object: &K) -> Option<ClusterKey> {
        self.changes += 1;
        self.now.remove(object, self.changes)
    }

    /// The list is whole. Gives what was there before.
    fn turn(&mut self) -> Objects<K> {
        self.changes += 1;
        let mut listed = std::mem::take(&mut self.coming);
        for own in listed.clusters.values_mut() {
            own.changed = self.changes;
        }
        std::mem::replace(&mut self.now, listed)
    }
}

impl<K: Resource> Objects<K> {
    /// Puts it where it belongs now, if anywhere. Gives the cluster that it was in.
    fn put(&mut self, to: Option<ClusterKey>, object: K, change: u64) -> Option<ClusterKey> {
        let from = self.remove(&object, change);
        if let Some(to) = to {
            let (namespace, name) = place(&object);
            let own = self.clusters.entry(to.clone()).or_default();
            own.by_name.insert(name.clone(), Arc::new(object));
            own.changed = change;
            self.homes.insert((namespace, name), to);
        }
        from
    }

    /// Takes it from where it is. Gives the cluster that it was in.
    fn remove(&mut self, object: &K, change: u64) -> Option<ClusterKey> {
        let place = place(object);
        let from = self.homes.remove(&place)?;
        if let Some(own) = self.clusters.get_mut(&from) {
            own.by_name.remove(&place.1);
            own.changed = change;
            if own.by_name.is_empty() {
                self.clusters.remove(&from);
            }
        }
        Some(from)
    }
}

fn place<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::runtime::reflector::store;

    use super::*;
    use crate::kubernetes::stores::key_of;
    use crate::render::CLUSTER;

    fn key(namespace: &str, name: &str) -> ClusterKey {
        ClusterKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn pod(namespace: &str, name: &str, cluster: Option<&str>, version: usize) -> Pod {
        let label = cluster.map(|cluster| (CLUSTER.to_owned(), cluster.to_owned()));
        Pod {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                labels: Some(label.into_iter().collect()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        }
    }

    fn kept() -> (Arc<Shelf<Pod>>, Kept<Pod>) {
        let shelf = Arc::new(Shelf::new(key_of::<Pod>));
        let kept = Kept::new(vec![Arc::clone(&shelf)]);
        (shelf, kept)
    }

    /// Names and versions, ordered.
    fn content(pods: &[Arc<Pod>]) -> Vec<(String, Option<String>)> {
        let of = |pod: &Arc<Pod>| (pod.name_any(), pod.resource_version());
        let mut all: Vec<_> = pods.iter().map(of).collect();
        all.sort();
        all
    }

    const NAMESPACES: [&str; 2] = ["shop", "bank"];
    const CLUSTERS: [Option<&str>; 3] = [None, Some("orders"), Some("stock")];
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    /// Three in eight are changes, two are parts of a list, which may break off or come without a beginning.
    fn event(what: usize, pod: Pod) -> Event<Pod> {
        match what {
            0..3 => Event::Apply(pod),
            3 => Event::Delete(pod),
            4 => Event::Init,
            5 | 6 => Event::InitApply(pod),
            _ => Event::InitDone,
        }
    }

    proptest::proptest! {
        /// Of kube's own store, which walks.
        #[test]
        fn whatever_comes_is_found_as_by_walking(
            steps in proptest::collection::vec((0..8_usize, 0..2_usize, 0..4_usize, 0..3_usize), 1..150)
        ) {
            let (shelf, kept) = kept();
            let (reader, mut writer) = store::<Pod>();
            let mut seen = HashMap::new();
            for (version, (what, namespace, name, cluster)) in steps.into_iter().enumerate() {
                let pod = pod(NAMESPACES[namespace], NAMES[name], CLUSTERS[cluster], version);
                let event = event(what, pod);
                writer.apply_watcher_event(&event);
                shelf.take(event);
                let mut all = 0;
                for namespace in NAMESPACES {
                    for cluster in CLUSTERS.into_iter().flatten() {
                        let key = key(namespace, cluster);
                        let walked = reader.state_filter(|pod| key_of(pod).as_ref() == Some(&key));
                        let there = content(&walked);
                        all += there.len();
                        assert_eq!(content(&kept.of_cluster(&key)), there);
                        for name in NAMES {
                            let named = walked.iter().find(|pod| pod.name_any() == name);
                            assert_eq!(kept.named(&key, name).as_ref(), named);
                        }
                        // Of one revision nothing else is ever seen.
                        let revision = (key.clone(), kept.revision(&key));
                        let first = seen.entry(revision).or_insert_with(|| there.clone());
                        assert_eq!(first, &there);
                    }
                }
                assert_eq!(kept.all().len(), all);
            }
        }
    }

    #[test]
    fn whoever_gets_or_loses_an_object_is_told_and_nobody_else() {
        let (shelf, kept) = kept();
        let (orders, stock) = (key("shop", "orders"), key("shop", "stock"));
        let apply = |cluster: Option<&str>, version: usize| {
            shelf.take(Event::Apply(pod("shop", "a", cluster, version)))
        };
        assert_eq!(
            apply(Some("orders"), 1),
            Changed::Clusters(vec![orders.clone()])
        );
        let first = kept.revision(&orders);
        assert_eq!((first.is_some(), kept.revision(&stock)), (true, None));
        assert_eq!(
            apply(Some("orders"), 2),
            Changed::Clusters(vec![orders.clone()])
        );
        assert_ne!(kept.revision(&orders), first);
        let moved = Changed::Clusters(vec![orders.clone(), stock.clone()]);
        assert_eq!(apply(Some("stock"), 3), moved);
        assert_eq!(kept.revision(&orders), None);
        // Its last state says nothing of whose it was.
        let gone = shelf.take(Event::Delete(pod("shop", "a", None, 4)));
        assert_eq!(gone, Changed::Clusters(vec![stock]));
        assert!(kept.all().is_empty());
        assert_eq!(apply(None, 5), Changed::Clusters(Vec::new()));
        // Back again: it is not taken for what was compared at first.
        apply(Some("orders"), 6);
        assert!(kept.revision(&orders) > first);
    }

    #[test]
    fn a_list_counts_when_it_is_whole() {
        let (shelf, kept) = kept();
        let listed = |name: &str| Event::InitApply(pod("shop", name, Some("orders"), 1));
        let orders = key("shop", "orders");
        shelf.take(Event::Apply(pod("shop", "a", Some("orders"), 0)));
        shelf.take(Event::Init);
        shelf.take(listed("b"));
        // It broke off.
        shelf.take(Event::Init);
        shelf.take(listed("c"));
        let there = || content(&kept.of_cluster(&orders));
        assert_eq!(there(), [("a".to_owned(), Some("0".to_owned()))]);
        assert!(kept.listed().now_or_never().is_none());
        let before = kept.revision(&orders);
        assert_eq!(shelf.take(Event::InitDone), Changed::Everything);
        assert_eq!(there(), [("c".to_owned(), Some("1".to_owned()))]);
        assert!(kept.listed().now_or_never().is_some());
        assert!(kept.revision(&orders) > before);
    }

    /// Two hundred clusters with a thousand pods: whose a pod is, is asked when it comes and at no look.
    #[test]
    fn looks_walk_through_nothing() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn asked(pod: &Pod) -> Option<ClusterKey> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            key_of(pod)
        }
        let shelf = Arc::new(Shelf::new(asked));
        let kept = Kept::new(vec![Arc::clone(&shelf)]);
        let clusters: Vec<String> = (0..200).map(|number| format!("c{number}")).collect();
        for cluster in &clusters {
            for pod_number in 0..5 {
                let name = format!("{cluster}-{pod_number}");
                shelf.take(Event::Apply(pod("shop", &name, Some(cluster), 1)));
            }
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1_000);
        for cluster in &clusters {
            let key = key("shop", cluster);
            assert_eq!(kept.of_cluster(&key).len(), 5);
            assert!(kept.named(&key, &format!("{cluster}-3")).is_some());
            assert!(kept.revision(&key).is_some());
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1_000);
    }
}
