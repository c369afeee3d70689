//! `understudy-operator instance` in a pod: from the environment to a running supervisor.
//!
//! It answers from its first moment on, whatever it waits for: another pod that still holds the volume, or an API that
//! has not told a new volume what it is for.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::health::Health;
use super::kept::{self, Valid};
use super::source::follow;
use super::{Duty, News, Place, calls};
use crate::api::SupervisorStatus;
use crate::crd::ReplicatedCluster;
use crate::durable::FileLock;
use crate::faults;
use crate::ids::{Millis, Term};
use crate::instance::Volume;
use crate::instance::http::Desk;
use crate::instance::run::End;
use crate::instance::supervisor::{Published, Supervisor, empty_status};

const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// While it waits, it says so that often: a status that does not move is a supervisor that hangs.
const STILL_HERE: Duration = Duration::from_millis(200);
/// What the API gets to say before a supervisor goes on with what it knows.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Runs until SIGTERM and, as a primary, until its role was handed over or the time for that is over.
///
/// # Errors
/// When the volume can't be used, or is another cluster's, or a port can't be had.
pub async fn run(dir: &Path, place: Place) -> io::Result<()> {
    faults::name_process(&place.instance);
    let volume = Volume::new(dir);
    let mut end = End::listen()?;
    let health = Health::new(volume.probe());
    let (commands, orders) = mpsc::channel(16);
    let mut waiting = Waiting::new(&place);
    let desk = Desk {
        commands,
        status: waiting.out.subscribe(),
    };
    let listener = TcpListener::bind(place.control_address())?;
    calls::start(listener, place.tls.clone(), desk, health.clone())?;
    let begun = async {
        // For the life of the process: what works in the background may touch the volume until its end.
        std::mem::forget(lock(&volume, &mut waiting).await?);
        health.start()?;
        let mut news = follow(&place.namespace, &place.cluster);
        let first = first(&volume, &mut news, &mut waiting).await?;
        Ok::<_, io::Error>((news, first))
    };
    let (news, (valid, term)) = tokio::select! {
        begun = begun => begun?,
        () = end.asked() => return Ok(()),
    };
    let setup = place.setup(&valid.cluster, &valid.uid, term)?;
    let name = setup.name.clone();
    let duty = Duty::new(place, news, health, &valid);
    let mut supervisor = Supervisor::open(volume, setup, waiting.out)?;
    supervisor.duty = Some(Box::new(duty));
    tracing::info!(instance = %name, "the supervisor runs");
    supervisor
        .run(orders, async move { end.asked().await })
        .await
}

/// The status of a supervisor that has no volume or no settings yet.
struct Waiting {
    out: watch::Sender<Published>,
    status: SupervisorStatus,
}

impl Waiting {
    fn new(place: &Place) -> Waiting {
        let status = SupervisorStatus {
            name: place.instance.clone(),
            supervisor_pid: std::process::id(),
            began_at: Millis::now(),
            pod_uid: Some(place.pod_uid.clone()),
            ..empty_status()
        };
        let first = Published {
            status: status.clone(),
            at: Instant::now(),
        };
        Waiting {
            out: watch::channel(first).0,
            status,
        }
    }

    fn say(&mut self, why: &str) {
        if self.status.message.as_deref() != Some(why) {
            tracing::warn!(why, "the supervisor waits");
            self.status.message = Some(why.to_owned());
        }
        self.status.serial += 1;
        self.out.send_replace(Published {
            status: self.status.clone(),
            at: Instant::now(),
        });
    }
}

/// The volume's lock; a second pod on the same volume waits, and says so.
async fn lock(volume: &Volume, waiting: &mut Waiting) -> io::Result<FileLock> {
    let mut said_at: Option<Instant> = None;
    loop {
        if let Some(lock) = FileLock::try_acquire(&volume.lock())? {
            return Ok(lock);
        }
        if said_at.is_none_or(|at| at.elapsed() >= STILL_HERE) {
            waiting.say("another pod holds this volume; waiting for its end");
            said_at = Some(Instant::now());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// What to begin with, and the term that a new volume promises: the object as the API has it, and on a volume that
/// knows one already, that one if the API does not answer soon.
async fn first(
    volume: &Volume,
    news: &mut mpsc::Receiver<News>,
    waiting: &mut Waiting,
) -> io::Result<(Valid, Term)> {
    let kept = match volume.load_promise()? {
        Some(_) => kept::load(volume)?,
        None => None,
    };
    let begun = Instant::now();
    let mut why = "waits for the Kubernetes API, which says what this volume is for".to_owned();
    loop {
        let heard = tokio::time::timeout(STILL_HERE, news.recv()).await;
        let mut is_away = begun.elapsed() >= ASK_LIMIT;
        match heard {
            Ok(Some(News::Cluster(object))) => match kept::valid(&object) {
                Ok(valid) => return Ok((valid, keep(volume, &object)?)),
                Err(wrong) => (why, is_away) = (wrong, true),
            },
            Ok(Some(News::Gone)) => {
                (why, is_away) = ("there is no such cluster object".to_owned(), true);
            }
            Ok(Some(News::Away(error))) => (why, is_away) = (error, true),
            Ok(None) => return Err(io::Error::other("the watch of the cluster has ended")),
            Err(_) => {}
        }
        if let Some(kept) = kept.as_ref().filter(|_| is_away) {
            tracing::warn!(%why, "going on with the settings that are kept on the volume");
            return Ok((kept.clone(), Term::FIRST));
        }
        waiting.say(&why);
    }
}

/// Keeps the object that the volume belongs to from now on, and gives the term of its record.
fn keep(volume: &Volume, object: &ReplicatedCluster) -> io::Result<Term> {
    adopt(volume, object)?;
    if let Err(error) = kept::keep(volume, object) {
        // On a volume that is full it is no reason not to start: what is kept only counts while the API is away.
        tracing::warn!(%error, "the cluster object could not be kept");
    }
    Ok(object
        .status
        .as_ref()
        .and_then(|status| status.term)
        .unwrap_or(Term::FIRST))
}

/// A volume whose cluster was deleted and applied again goes over to the new object, sealed: what it was told under the
/// old one counts as an answer, and gives no right to write. A volume of a cluster of another name is nobody's here.
fn adopt(volume: &Volume, object: &ReplicatedCluster) -> io::Result<()> {
    let metadata = &object.metadata;
    let uid = metadata.uid.clone().unwrap_or_default();
    let Some(mut promise) = volume.load_promise()? else {
        return Ok(());
    };
    if promise.cluster_id == uid {
        return Ok(());
    }
    let of = kept::owner(volume)?;
    if of != Some((metadata.namespace.clone(), metadata.name.clone())) {
        let known = match of {
            Some((namespace, name)) => format!(
                "{}/{}",
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            ),
            None => promise.cluster_id,
        };
        return Err(io::Error::other(format!(
            "the volume belongs to the cluster {known}, not to {}/{} ({uid}); give this instance a volume of its own: \
             delete pod and claim",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )));
    }
    tracing::warn!(old = %promise.cluster_id, new = %uid, "the cluster was deleted and applied again");
    promise.cluster_id = uid;
    promise.sealed = promise.system_id.is_some();
    volume.store_promise(&promise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EngineSet, Promise};
    use crate::ids::InstanceId;

    fn object(name: &str, uid: &str) -> ReplicatedCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": name, "namespace": "shop", "uid": uid},
            "spec": {"storage": {"size": "1Gi"}}, "status": {"term": 4},
        }))
        .expect("reads")
    }

    fn primary(system_id: Option<&str>) -> Promise {
        Promise {
            cluster_id: "old".to_owned(),
            instance_id: InstanceId::random(),
            system_id: system_id.map(str::to_owned),
            promised_term: Term::new(3),
            sealed: false,
            set: Some(EngineSet {
                term: Term::new(3),
                counter: 1,
                members: Vec::new(),
                required: 0,
            }),
        }
    }

    #[test]
    fn a_volume_goes_over_to_a_cluster_that_was_applied_again_sealed() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = Volume::new(dir.path());
        volume.store_promise(&primary(Some("7"))).expect("kept");
        kept::keep(&volume, &object("orders", "old")).expect("kept");
        assert_eq!(
            keep(&volume, &object("orders", "new")).expect("adopted"),
            Term::new(4)
        );
        let promise = volume.load_promise().expect("read").expect("there");
        assert_eq!(promise.cluster_id, "new");
        assert!(promise.sealed && !promise.is_for_primary());
        assert_eq!(promise.promised_term, Term::new(3));
        // A second look changes nothing: what it was told since holds.
        let mut told = promise.clone();
        told.sealed = false;
        volume.store_promise(&told).expect("kept");
        keep(&volume, &object("orders", "new")).expect("the same");
        assert_eq!(volume.load_promise().expect("read"), Some(told));
    }

    #[test]
    fn a_volume_that_never_had_data_is_not_sealed() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = Volume::new(dir.path());
        volume.store_promise(&primary(None)).expect("kept");
        kept::keep(&volume, &object("orders", "old")).expect("kept");
        keep(&volume, &object("orders", "new")).expect("adopted");
        let promise = volume.load_promise().expect("read").expect("there");
        assert!(!promise.sealed);
    }

    #[test]
    fn a_volume_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = Volume::new(dir.path());
        volume.store_promise(&primary(Some("7"))).expect("kept");
        for known in [None, Some(object("sales", "old"))] {
            if let Some(known) = &known {
                kept::keep(&volume, known).expect("kept");
            }
            let said = keep(&volume, &object("orders", "new")).expect_err("refused");
            let said = said.to_string();
            assert!(said.contains("belongs to the cluster"), "{said}");
            assert!(said.contains("not to shop/orders (new)"), "{said}");
        }
        let promise = volume.load_promise().expect("read").expect("there");
        assert_eq!(promise.cluster_id, "old");
    }
}
