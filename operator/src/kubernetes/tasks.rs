//! One task for each cluster object. Where this process leads it reconciles; where another one does it only listens, so
//! that whoever takes over knows what it heard itself, and how long ago.
//!
//! An object that can't be read has no task: it is told of, and its cluster is left as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Resource as _, ResourceExt as _};
use tokio::task::JoinHandle;

use super::Cluster;
use super::controller::ControllerOptions;
use super::events::EventWriter;
use super::server::Health;
use super::stores::{ClusterKey, Stores};
use super::unreadable::{Complaints, Found};
use crate::act::KubernetesActor;
use crate::crd::{Phase, Record};
use crate::observe::{KubernetesObserver, Listener};
use crate::reconcile::reconcile;

/// How often it is looked whether every cluster's task still runs.
const FOLLOW: Duration = Duration::from_secs(1);

pub(super) struct Tasks {
    client: Client,
    stores: Arc<Stores>,
    options: ControllerOptions,
    health: Arc<Health>,
    leads: bool,
    running: BTreeMap<ClusterKey, Running>,
    complaints: Complaints,
}

struct Running {
    uid: String,
    /// What was heard outlives the change of who leads.
    listener: Arc<Listener>,
    task: JoinHandle<()>,
}

impl Tasks {
    /// Of a process that does not lead yet.
    pub fn new(
        client: Client,
        stores: Arc<Stores>,
        options: ControllerOptions,
        health: Arc<Health>,
    ) -> Tasks {
        let complaints = Complaints::new(client.clone(), options.identity.clone());
        Tasks {
            client,
            stores,
            options,
            health,
            leads: false,
            running: BTreeMap::new(),
            complaints,
        }
    }

    /// For ever; dropping the tasks ends them all.
    pub async fn keep(&mut self) {
        loop {
            self.follow();
            // Now and then without a change: a task that has ended by a fault is begun anew.
            let _ = tokio::time::timeout(FOLLOW, self.stores.clusters_changed()).await;
        }
    }

    /// From now on this process leads, or another one does. What each task was at has ended before the next one of its
    /// cluster begins: they share what was seen.
    pub async fn turn(&mut self, leads: bool) {
        self.leads = leads;
        for running in self.running.values() {
            running.task.abort();
        }
        for running in self.running.values_mut() {
            let _ = (&mut running.task).await;
        }
        for (key, before) in std::mem::take(&mut self.running) {
            if !leads {
                self.health.metrics.let_go(&key);
            }
            self.begin(key, before.uid, before.listener);
        }
        if !leads {
            self.complaints.follow(&BTreeMap::new());
        }
    }

    /// Whether a cluster has a change of its primary under way, and clients that wait for its end.
    pub fn moves_a_role(&self) -> bool {
        let all = self.running.values();
        let mut records = all.filter_map(|running| running.listener.cluster().record());
        records.any(|record| is_moving(&record))
    }

    fn follow(&mut self) {
        let (wanted, unreadable) = self.sorted();
        let gone: Vec<ClusterKey> = self
            .running
            .iter()
            .filter(|(key, running)| wanted.get(*key) != Some(&running.uid))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.stop(&key, unreadable.contains_key(&key));
        }
        for (key, uid) in wanted {
            let running = self.running.get(&key);
            let has_ended = running.is_some_and(|running| running.task.is_finished());
            if has_ended {
                tracing::error!(cluster = %key, "its task has ended by a fault and is begun anew");
            }
            if has_ended || running.is_none() {
                self.start(key, uid);
            }
        }
        if self.leads {
            self.complaints.follow(&unreadable);
        }
    }

    /// The uids of the objects that there are, and those that can't be read.
    fn sorted(&self) -> (BTreeMap<ClusterKey, String>, BTreeMap<ClusterKey, Found>) {
        let (mut wanted, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for object in self.stores.clusters.all() {
            // One that is being deleted takes its objects along; nothing is made for it any more.
            let (Some(namespace), Some(uid), None) = (
                object.namespace(),
                object.uid(),
                &object.meta().deletion_timestamp,
            ) else {
                continue;
            };
            let name = object.name_any();
            let key = ClusterKey { namespace, name };
            match object.read() {
                Ok(_) => {
                    wanted.insert(key, uid);
                }
                Err(error) => {
                    let found = Found {
                        uid,
                        generation: object.meta().generation.unwrap_or_default(),
                        why: error.to_string(),
                    };
                    unreadable.insert(key, found);
                }
            }
        }
        (wanted, unreadable)
    }

    fn stop(&mut self, key: &ClusterKey, is_unreadable: bool) {
        if let Some(running) = self.running.remove(key) {
            running.task.abort();
            tracing::info!(cluster = %key, "no longer looked after");
        }
        self.stores.forget(key);
        if is_unreadable {
            self.health.metrics.let_go(key);
        } else {
            self.health.metrics.forget(key);
        }
    }

    fn start(&mut self, key: ClusterKey, uid: String) {
        let cluster = Arc::new(Cluster::new(
            self.client.clone(),
            key.clone(),
            uid.clone(),
            Arc::clone(&self.stores),
        ));
        self.stores
            .call_when_changed(&key, Arc::clone(&cluster.watches));
        self.begin(key, uid, Arc::new(Listener::new(cluster)));
    }

    fn begin(&mut self, key: ClusterKey, uid: String, listener: Arc<Listener>) {
        let task = if self.leads {
            self.reconcile(&key, &listener)
        } else {
            tokio::spawn(Arc::clone(&listener).wait())
        };
        let running = Running {
            uid,
            listener,
            task,
        };
        self.running.insert(key, running);
    }

    fn reconcile(&self, key: &ClusterKey, listener: &Arc<Listener>) -> JoinHandle<()> {
        let cluster = Arc::clone(listener.cluster());
        let (me, unwritten) = (&self.options.identity, self.health.unwritten.clone());
        let events = EventWriter::new(&self.client, cluster.reference(), me, unwritten);
        let actor = KubernetesActor::new(
            cluster,
            events,
            self.options.default_image.clone(),
            Arc::clone(&self.health),
        );
        self.health.metrics.follow(key);
        tracing::info!(cluster = %key, "looked after from now on");
        let observer = KubernetesObserver::new(Arc::clone(listener));
        tokio::spawn(reconcile(observer, actor))
    }
}

/// From when the term is raised until the new primary accepts writes. A cluster that is being made has no clients yet.
fn is_moving(record: &Record) -> bool {
    match record.phase {
        Phase::Creating => false,
        Phase::Running => record.change.is_some(),
        Phase::FailingOver | Phase::SwitchingOver | Phase::Promoting => true,
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for (key, running) in &self.running {
            running.task.abort();
            self.health.metrics.let_go(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use kube::Config;

    use super::*;
    use crate::crd::{ChangeKind, RoleChange};
    use crate::ids::{Millis, Term};

    /// Of a process that never reaches an API server.
    fn tasks() -> Tasks {
        let mut nowhere = Config::new("http://127.0.0.1:9".parse().expect("an address"));
        nowhere.root_cert = Some(Vec::new());
        let client = Client::try_from(nowhere).expect("a client");
        let stores = Arc::new(Stores::watch(&client, &[]));
        let options = ControllerOptions {
            namespaces: Vec::new(),
            default_image: "understudy".to_owned(),
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            lease_name: "understudy".to_owned(),
            lease_namespace: "understudy".to_owned(),
            identity: "operator-1".to_owned(),
        };
        Tasks::new(client, stores, options, Arc::default())
    }

    #[test]
    fn a_role_is_on_its_way_until_writes_are_accepted() {
        let mut record = Record {
            record_version: 1,
            term: Term::FIRST,
            phase: Phase::Creating,
            primary: None,
            candidate: None,
            in_sync: Vec::new(),
            system_id: None,
            forks: Vec::new(),
            change: None,
        };
        assert!(!is_moving(&record));
        for phase in [
            Phase::FailingOver,
            Phase::SwitchingOver,
            Phase::Promoting,
            Phase::Running,
        ] {
            record.phase = phase;
            assert_eq!(is_moving(&record), phase != Phase::Running);
        }
        record.change = Some(RoleChange {
            gap: None,
            lost_candidates: 0,
            lost_candidate_at: None,
            kind: ChangeKind::Switchover,
            cause: "asked for".to_owned(),
            old: None,
            target: None,
            detected_at: Millis::default(),
            deadline: None,
            forced: false,
            lost_bytes: None,
        });
        assert!(is_moving(&record), "it waits for its standbys yet");
    }

    #[tokio::test]
    async fn what_was_heard_outlives_every_change_of_who_leads() {
        let mut tasks = tasks();
        let key = ClusterKey {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
        };
        tasks.start(key.clone(), "u".to_owned());
        let first = Arc::clone(&tasks.running[&key].listener);
        for leads in [true, false, true] {
            tasks.turn(leads).await;
            let running = &tasks.running[&key];
            assert!(Arc::ptr_eq(&running.listener, &first));
            assert!(!running.task.is_finished());
        }
        tasks.stop(&key, false);
        assert!(tasks.running.is_empty());
    }
}
