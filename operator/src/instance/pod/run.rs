//! `understudy-operator instance` in a pod: from the environment to a running supervisor.
//!
//! It answers from its first moment on, whatever it waits for: another pod that still holds the volume, a volume that
//! refuses what it is asked for, or an API that has not told a new volume what it is for.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::checked::{self, Refused, Verdict};
use super::health::Health;
use super::kept::{self, Valid};
use super::source::follow;
use super::taken::{self, Keeper, Known, Taken};
use super::waiting::{Pauses, STILL_HERE, Waiting};
use super::{Duty, News, Place, calls};
use crate::api::Promise;
use crate::crd::{InstanceRole, ReplicatedCluster};
use crate::durable::FileLock;
use crate::faults;
use crate::ids::Term;
use crate::instance::Volume;
use crate::instance::http::Desk;
use crate::instance::run::End;
use crate::instance::setup::Setup;
use crate::instance::supervisor::Supervisor;

const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// What the API gets to say before a supervisor goes on with what it knows.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// What a supervisor begins with.
#[derive(Debug)]
struct Beginning {
    valid: Valid,
    setup: Setup,
    promise: Promise,
    /// A standby could be copied, for all that is known.
    has_givers: bool,
    parameters: Known,
}

/// Runs until SIGTERM and, as a primary, until its role was handed over or the time for that is over. What a volume
/// refuses is told and tried again.
///
/// # Errors
/// When a port or a thread can't be had.
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
        std::mem::forget(lock(&volume, &mut waiting).await);
        health.start()?;
        let mut news = follow(&place.namespace, &place.cluster);
        let first = first(&place, &volume, &mut news, &mut waiting).await?;
        Ok::<_, io::Error>((news, first))
    };
    let (news, first) = tokio::select! {
        begun = begun => begun?,
        () = end.asked() => return Ok(()),
    };
    let name = first.setup.name.clone();
    let duty = Duty::new(place, news, health, &first.valid, first.parameters);
    let mut supervisor = Supervisor::under(volume, first.setup, first.promise, waiting.out);
    supervisor.duty = Some(Box::new(duty));
    if !first.has_givers {
        supervisor.seeding.expect_the_primary();
    }
    tracing::info!(instance = %name, "the supervisor runs");
    supervisor
        .run(orders, async move { end.asked().await })
        .await
}

/// The volume's lock; a second pod on the same volume waits, and says so.
async fn lock(volume: &Volume, waiting: &mut Waiting) -> FileLock {
    let path = volume.lock();
    loop {
        let path = path.clone();
        let lock = waiting.insist(move || FileLock::try_acquire(&path)).await;
        if let Some(lock) = lock {
            return lock;
        }
        waiting.say("another pod holds this volume; waiting for its end");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// What to begin with, and the term that a new volume promises: the object as the API has it, and on a volume that
/// knows one already, that one if the API does not answer soon.
///
/// # Errors
/// When the watch of the cluster has ended.
async fn first(
    place: &Place,
    volume: &Volume,
    news: &mut mpsc::Receiver<News>,
    waiting: &mut Waiting,
) -> io::Result<Beginning> {
    let kept = kept_before(volume, waiting).await;
    let begun = Instant::now();
    let mut why = "waits for the Kubernetes API, which says what this volume is for".to_owned();
    let mut known: Option<(Valid, Option<Box<ReplicatedCluster>>)> = None;
    let mut pauses = Pauses::default();
    loop {
        let heard = tokio::time::timeout(STILL_HERE, news.recv()).await;
        let mut is_away = begun.elapsed() >= ASK_LIMIT;
        match heard {
            Ok(Some(News::Cluster(object))) => match kept::valid(&object) {
                Ok(valid) => known = Some((valid, Some(object))),
                Err(wrong) => (known, why, is_away) = (None, wrong, true),
            },
            Ok(Some(News::Gone)) => {
                let gone = "there is no such cluster object".to_owned();
                (known, why, is_away) = (None, gone, true);
            }
            Ok(Some(News::Away(error))) => (why, is_away) = (error, true),
            Ok(None) => return Err(io::Error::other("the watch of the cluster has ended")),
            Err(_) => {}
        }
        if known.is_none() && is_away {
            known = kept.clone().map(|kept| (kept, None));
            if known.is_some() {
                tracing::warn!(%why, "going on with the settings that are kept on the volume");
            }
        }
        let Some((valid, object)) = known.clone() else {
            waiting.say(&why);
            continue;
        };
        let work = {
            let (place, volume) = (place.clone(), volume.clone());
            move || prepare(&place, &volume, valid, object.as_deref())
        };
        match waiting.attempt(work).await {
            Ok(beginning) => return Ok(look_at_parameters(beginning, volume, waiting).await),
            Err(error) => waiting.rest(&error, pauses.longer()).await,
        }
    }
}

/// The object that the volume was begun with before, if it was.
async fn kept_before(volume: &Volume, waiting: &mut Waiting) -> Option<Valid> {
    let volume = volume.clone();
    let load = move || match volume.load_promise()? {
        Some(_) => kept::load(&volume),
        None => Ok(None),
    };
    waiting.insist(load).await
}

/// All that the volume has to give, and to take, before there is a supervisor.
fn prepare(
    place: &Place,
    volume: &Volume,
    valid: Valid,
    object: Option<&ReplicatedCluster>,
) -> io::Result<Beginning> {
    let term = match object {
        Some(object) => keep(volume, object)?,
        None => Term::FIRST,
    };
    let setup = place.setup(&valid.cluster, &valid.uid, term)?;
    let promise = Supervisor::promise_on(volume, &setup)?;
    let has_givers = object.is_none_or(|object| has_standbys(object, &place.instance));
    let parameters = Known {
        taken: Keeper::new(taken::load(volume, &valid.uid)?),
        refused: None,
    };
    Ok(Beginning {
        valid,
        setup,
        promise,
        has_givers,
        parameters,
    })
}

/// Parameters that are not those which the engine's program took last are shown to it. Where it refuses them those before
/// are gone by, with all else of the spec: whoever runs does so too. Where there are none before, the engine says why it
/// does not start.
async fn look_at_parameters(
    mut beginning: Beginning,
    volume: &Volume,
    waiting: &mut Waiting,
) -> Beginning {
    let Beginning {
        setup, parameters, ..
    } = &mut beginning;
    let before = parameters.taken.newest().cloned();
    let same = |before: &Taken| before.parameters == setup.parameters;
    if before.as_ref().is_some_and(same) {
        parameters.taken.goes_by(setup);
        return beginning;
    }
    let why = "waits for the engine's program, which looks at spec.parameters";
    let looked = checked::look(setup, volume.dir());
    match (waiting.during(why, looked).await, before) {
        (Verdict::Taken, _) => parameters.taken.took(setup),
        (Verdict::Refused(why), Some(before)) => {
            tracing::warn!(%why, "parameters are not taken; those before stay in effect");
            parameters.refused = Some(Refused {
                parameters: std::mem::replace(&mut setup.parameters, before.parameters),
                generation: std::mem::replace(&mut setup.generation, before.generation),
                why,
            });
        }
        (Verdict::Refused(_) | Verdict::Unknown, _) => {}
    }
    beginning
}

/// Whether another instance is a ready standby. A database that is only just made has none.
fn has_standbys(object: &ReplicatedCluster, instance: &str) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let mut instances = status.instances.iter();
        instances.any(|i| i.name != instance && i.role == InstanceRole::Standby && i.ready)
    })
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
    use crate::api::EngineSet;
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

    const LIMIT: Duration = Duration::from_secs(60);

    /// Once the status has said all these words.
    fn says(waiting: &Waiting, words: &'static [&'static str]) -> impl Future<Output = ()> + use<> {
        let mut seen = waiting.out.subscribe();
        async move {
            let says_it = |published: &crate::instance::report::Published| {
                let said = published.status.message.as_deref().unwrap_or_default();
                words.iter().all(|word| said.contains(word))
            };
            seen.wait_for(says_it).await.expect("it is said");
        }
    }

    /// Whatever it refuses, the process stays, names the volume and what is wrong, and goes on when that is mended.
    #[tokio::test]
    async fn a_volume_that_refuses_its_lock_is_told_of_until_it_heals() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = Volume::new(dir.path());
        let mut waiting = Waiting::new(&Place::for_tests(dir.path()));
        std::fs::create_dir(volume.lock()).expect("an obstacle");
        let told = says(&waiting, &["data-orders-2-0", "can't be used", "lock"]);
        let heals = async {
            told.await;
            std::fs::remove_dir(volume.lock()).expect("removed");
        };
        let both = async { tokio::join!(lock(&volume, &mut waiting), heals) };
        let (held, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
        // Whoever comes second waits, and says so.
        let told = says(&waiting, &["another pod holds this volume"]);
        let ends = async {
            told.await;
            drop(held);
        };
        let both = async { tokio::join!(lock(&volume, &mut waiting), ends) };
        tokio::time::timeout(LIMIT, both).await.expect("in time");
        assert_eq!(waiting.out.borrow().status.instance_id, None);
    }

    #[tokio::test]
    async fn a_promise_that_can_not_be_read_or_written_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let (place, volume) = (Place::for_tests(dir.path()), Volume::new(dir.path()));
        let mut waiting = Waiting::new(&place);
        let (sender, mut news) = mpsc::channel(4);
        let object = Box::new(object("orders", "new"));
        sender.send(News::Cluster(object)).await.expect("heard");
        std::fs::write(volume.promise_file(), "{").expect("damaged");
        let obstacle = dir.path().join("promise.json.tmp");
        let damaged = says(&waiting, &["promise.json is damaged", "restore"]);
        let refused = says(&waiting, &["data-orders-2-0", "write", "promise.json"]);
        let heals = async {
            damaged.await;
            std::fs::create_dir(&obstacle).expect("an obstacle");
            std::fs::remove_file(volume.promise_file()).expect("removed");
            refused.await;
            std::fs::remove_dir(&obstacle).expect("removed");
        };
        let both = async { tokio::join!(first(&place, &volume, &mut news, &mut waiting), heals) };
        let (first, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
        let first = first.expect("begun");
        assert_eq!(first.promise.promised_term, Term::new(4));
        assert_eq!(volume.load_promise().expect("read"), Some(first.promise));
        assert_eq!(
            (first.valid.uid.as_str(), first.setup.name.as_str()),
            ("new", "orders-2")
        );
    }

    /// A promise that was made under the next object already; the kept one is the one before.
    #[tokio::test]
    async fn an_object_that_comes_later_heals_what_the_kept_one_could_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let (place, volume) = (Place::for_tests(dir.path()), Volume::new(dir.path()));
        kept::keep(&volume, &object("orders", "older")).expect("kept");
        volume.store_promise(&primary(Some("7"))).expect("kept");
        let mut waiting = Waiting::new(&place);
        let (sender, mut news) = mpsc::channel(4);
        let away = News::Away("nobody answers".to_owned());
        sender.send(away).await.expect("heard");
        let told = says(&waiting, &["belongs to the cluster old, not to older"]);
        let comes = async {
            told.await;
            let object = Box::new(object("orders", "old"));
            sender.send(News::Cluster(object)).await.expect("heard");
        };
        let both = async { tokio::join!(first(&place, &volume, &mut news, &mut waiting), comes) };
        let (first, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
        assert_eq!(first.expect("begun").promise, primary_of(&volume));
    }

    fn primary_of(volume: &Volume) -> Promise {
        volume.load_promise().expect("read").expect("there")
    }

    /// The operator hears of a new pod late: whoever has nobody but the primary to copy does not wait for its word.
    #[test]
    fn an_instance_asks_whom_to_copy_where_a_standby_is_ready() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = Place::for_tests(dir.path());
        let volume = Volume::new(dir.path());
        let asks = |instances: serde_json::Value| {
            let mut object = object("orders", "new");
            let status = object.status.as_mut().expect("it has one");
            status.instances = serde_json::from_value(instances).expect("reads");
            let valid = kept::valid(&object).expect("valid");
            let begins = prepare(&place, &volume, valid, Some(&object));
            begins.expect("begun").has_givers
        };
        let is = |name: &str, role: &str, ready: bool| serde_json::json!({"name": name, "role": role, "ready": ready, "inSync": ready});
        let own = place.instance.as_str();
        let primary = is("orders-1", "Primary", true);
        assert!(!asks(serde_json::json!([
            primary,
            is(own, "Standby", true)
        ])));
        let seeds = is("orders-3", "Seeding", false);
        assert!(!asks(serde_json::json!([primary, seeds])));
        let late = is("orders-3", "Standby", false);
        assert!(!asks(serde_json::json!([primary, late])));
        let gives = is("orders-3", "Standby", true);
        assert!(asks(serde_json::json!([primary, gives])));
    }

    /// `true` and `false` stand for an engine's program that takes what it is shown and one that refuses it.
    #[tokio::test]
    async fn a_start_goes_by_the_parameters_before_those_that_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let (place, volume) = (Place::for_tests(dir.path()), Volume::new(dir.path()));
        let mut waiting = Waiting::new(&place);
        for (engine, work_mem, generation, gone_by, is_refused) in [
            // The first start has none before.
            ("false", "lots", 1, (1, "lots"), false),
            ("true", "8MB", 2, (2, "8MB"), false),
            ("false", "lots", 3, (2, "8MB"), true),
            ("false", "more", 4, (2, "8MB"), true),
            // It is not asked again about what it took.
            ("false", "8MB", 5, (5, "8MB"), false),
            ("false", "lots", 6, (5, "8MB"), true),
            // One that can't be asked refuses nothing.
            ("/nowhere/understudy", "lots", 6, (6, "lots"), false),
            ("false", "lots", 6, (5, "8MB"), true),
            ("true", "9MB", 7, (7, "9MB"), false),
        ] {
            let mut object = object("orders", "u");
            object.metadata.generation = Some(generation);
            let given = [("work_mem".to_owned(), work_mem.to_owned())];
            object.spec.parameters = given.into();
            let valid = kept::valid(&object).expect("valid");
            let begins = prepare(&place, &volume, valid, Some(&object));
            let mut begins = begins.expect("begun");
            begins.setup.engine = engine.into();
            let mut begun = look_at_parameters(begins, &volume, &mut waiting).await;
            let setup = &begun.setup;
            let has = (setup.generation, setup.parameters["work_mem"].as_str());
            assert_eq!(has, gone_by, "{engine} {work_mem}");
            let told = begun.parameters.refused.as_ref().map(Refused::complaint);
            assert_eq!(told.is_some(), is_refused, "{engine} {work_mem}");
            let names = format!("generation {generation}");
            assert!(told.is_none_or(|told| told.contains(&names)));
            begun.parameters.taken.see_to(&volume);
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
