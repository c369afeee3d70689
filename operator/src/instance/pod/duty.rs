//! What a supervisor has to do in a pod besides looking after its engine: keep up with the cluster object, with files
//! that change, with roles, with the volume. What it does when its role goes over, and how it ends, is in `handover`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::checked::{Checking, Refused, Verdict};
use super::handover::Leave;
use super::health::Health;
use super::kept::{self, Valid};
use super::mounted::Mounted;
use super::orphans::Orphans;
use super::roles::{Occasion, Roles, connect};
use super::taken::{Keeper, Known};
use super::{News, Place};
use crate::api::{BootstrapState, EngineRole};
use crate::crd::ReplicatedCluster;
use crate::instance::engine::Engine;
use crate::instance::setup::Setup;
use crate::instance::supervisor::Supervisor;
use crate::validate::ValidatedCluster;

/// Between two attempts to write files that could not be written.
const AGAIN: Duration = Duration::from_secs(1);
/// What the engine gets to say which settings need a restart: it may wait for standbys before it answers anything.
const LEARN_LIMIT: Duration = Duration::from_secs(30);

pub struct Duty {
    pub(super) place: Place,
    news: mpsc::Receiver<News>,
    health: Health,
    secrets: Mounted,
    orphans: Orphans,
    roles: Roles,
    restarts: NeedsRestart,
    pub(super) cluster: ValidatedCluster,
    /// A newer spec, whose parameters the engine's program looks at.
    checking: Option<Checking>,
    /// What it has not taken.
    refused: Option<Refused>,
    /// What it took last.
    taken: Keeper,
    /// What keeps it from going by the newest spec.
    object_problem: Option<String>,
    /// The newest valid object, until the volume has it.
    unkept: Option<Unkept>,
    /// Why nothing is heard of it, and when that was said.
    away: Option<(String, Instant)>,
    only_reads: bool,
    /// The files do not say yet what they should, and when to try again.
    unwritten: Option<Instant>,
    /// The cluster object is another one now: the next process goes over to it.
    is_replaced: bool,
    pub(super) leave: Leave,
    generation: i64,
}

/// What is kept only counts while the API is away: it is gone by all the same, and tried again.
struct Unkept {
    object: Box<ReplicatedCluster>,
    again_at: Instant,
    error: Option<String>,
}

/// A watch that fails says so again and again, at least twice in this time. When it works again it says nothing until
/// the object changes.
const STILL_AWAY: Duration = Duration::from_secs(90);

/// What of this the status has.
#[derive(Debug, Default)]
pub struct Report {
    pub pod_uid: Option<String>,
    pub generation: i64,
    pub pending_restart: bool,
    pub is_leaving: bool,
    pub stalled: Duration,
    pub refused_settings: Option<String>,
    pub volume_full: Option<String>,
    pub bootstrap: Option<BootstrapState>,
    pub complaints: Vec<String>,
}

/// Which parameters need a restart of the engine; it is asked once.
#[derive(Default)]
struct NeedsRestart {
    /// What the engine was started with.
    started_with: BTreeMap<String, String>,
    names: Option<BTreeSet<String>>,
    asking: Option<JoinHandle<Result<BTreeSet<String>, String>>>,
}

impl NeedsRestart {
    /// None while that is not known.
    fn is_pending(&self, wanted: &BTreeMap<String, String>) -> Option<bool> {
        if *wanted == self.started_with {
            return Some(false);
        }
        let names = self.names.as_ref()?;
        let differs = |name: &&String| self.started_with.get(*name) != wanted.get(*name);
        let mut changed = self
            .started_with
            .keys()
            .chain(wanted.keys())
            .filter(differs);
        Some(changed.any(|name| names.contains(name)))
    }

    /// Asks the engine, if there is a need and it can answer.
    async fn learn(&mut self, place: &Place, port: u16) {
        if let Some(task) = self.asking.take_if(|task| task.is_finished()) {
            match task.await {
                Ok(Ok(names)) => self.names = Some(names),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the engine's settings are not known yet")
                }
                Err(error) => tracing::warn!(%error, "asking for the engine's settings failed"),
            }
        }
        if self.names.is_none() && self.asking.is_none() {
            let folder = place.run.clone();
            let answer = async move {
                let client = connect(&folder, port, "postgres").await?;
                let query = "SELECT name FROM pg_catalog.pg_settings WHERE context = 'postmaster'";
                let rows = client.query(query, &[]).await.map_err(|e| e.to_string())?;
                let names: Result<BTreeSet<String>, _> =
                    rows.iter().map(|row| row.try_get::<_, String>(0)).collect();
                names.map_err(|e| e.to_string())
            };
            self.asking = Some(tokio::spawn(async move {
                tokio::time::timeout(LEARN_LIMIT, answer)
                    .await
                    .map_err(|_| format!("no answer within {} s", LEARN_LIMIT.as_secs()))?
            }));
        }
    }
}

impl Duty {
    pub fn new(
        place: Place,
        news: mpsc::Receiver<News>,
        health: Health,
        valid: &Valid,
        parameters: Known,
    ) -> Duty {
        let passwords = ["superuser", "replication", "app"].map(|of| place.password_file(of));
        let mut files = Mounted::tls(&place.tls);
        files.extend(passwords);
        // Known before the engine starts: on a volume that is full already not even the first transaction writes.
        let only_reads = health
            .space()
            .is_some_and(|space| space.allows_only_reads(false));
        Duty {
            news,
            health,
            secrets: Mounted::new(files),
            orphans: Orphans::new(),
            roles: Roles::default(),
            restarts: NeedsRestart::default(),
            cluster: valid.cluster.clone(),
            checking: None,
            refused: parameters.refused,
            taken: parameters.taken,
            object_problem: None,
            unkept: None,
            away: None,
            only_reads,
            unwritten: None,
            is_replaced: false,
            leave: Leave::default(),
            generation: 0,
            place,
        }
    }

    /// The next that is heard of the cluster object.
    pub async fn hear(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    pub fn only_reads(&self) -> bool {
        self.only_reads
    }

    pub fn engine_starts_with(&mut self, parameters: &BTreeMap<String, String>) {
        self.restarts.started_with.clone_from(parameters);
    }

    pub fn saw_flush(&self) {
        self.health.saw_flush();
    }

    /// Whether the volume completes writes, as far as is known.
    pub fn takes_writes(&self) -> bool {
        self.health.stalled().is_zero()
    }

    pub fn has_room_for(&self, bytes: u64) -> bool {
        // With a tenth more, for what has been added since.
        let needed = bytes.saturating_add(bytes / 10);
        self.health
            .space()
            .is_none_or(|space| space.available >= needed)
    }
}

impl Supervisor {
    /// Something was heard of the cluster object.
    pub(in crate::instance) fn heed(&mut self, news: News) {
        let Some(duty) = &mut self.duty else { return };
        let object = match news {
            News::Cluster(object) => object,
            News::Gone => {
                duty.away = None;
                duty.object_problem = Some("the cluster object is gone".to_owned());
                duty.leave.note_deletion(true);
                return;
            }
            News::Away(why) => {
                let said = format!("{why}; going on with the settings as they were");
                duty.away = Some((said, Instant::now()));
                return;
            }
        };
        duty.away = None;
        let is_deleted = object.metadata.deletion_timestamp.is_some();
        duty.leave.note_deletion(is_deleted);
        let known = duty.cluster.generation;
        let valid = match kept::valid(&object) {
            Ok(valid) => valid,
            Err(wrong) => {
                tracing::warn!(%wrong, "a spec that makes no sense is not followed");
                duty.object_problem = Some(format!(
                    "{wrong}; going on with the spec of generation {known}"
                ));
                return;
            }
        };
        if valid.uid != self.setup.cluster_id {
            tracing::warn!("the cluster was deleted and applied again; starting anew under it");
            duty.is_replaced = true;
            return;
        }
        duty.object_problem = None;
        let setup = duty
            .place
            .setup(&valid.cluster, &valid.uid, self.setup.term);
        duty.unkept = Some(Unkept {
            object,
            again_at: Instant::now(),
            error: None,
        });
        match setup {
            Ok(setup) => self.consider(setup, valid.cluster),
            Err(error) => {
                duty.object_problem = Some(format!("the new spec can't be gone by: {error}"));
            }
        }
        self.keep_object();
        self.write_what_changed();
    }

    /// Makes the newest object what a start goes by while the API is away.
    fn keep_object(&mut self) {
        let Some(duty) = &mut self.duty else { return };
        // On a volume that hangs this loop must not.
        if !duty.takes_writes() {
            return;
        }
        let Some(unkept) = &mut duty.unkept else {
            return;
        };
        if Instant::now() < unkept.again_at {
            return;
        }
        match kept::keep(&self.volume, &unkept.object) {
            Ok(()) => duty.unkept = None,
            Err(error) => {
                tracing::warn!(%error, "the cluster object could not be kept");
                unkept.error = Some(error.to_string());
                unkept.again_at = Instant::now() + AGAIN;
            }
        }
    }

    /// Makes the parameters that were taken last what a start goes by while newer ones are refused.
    fn keep_parameters(&mut self) {
        if let Some(duty) = &mut self.duty
            && duty.takes_writes()
        {
            duty.taken.see_to(&self.volume);
        }
    }

    /// Parameters that the engine has not seen yet are looked at first, whether it runs or not: in place of one that has
    /// crashed another must come up. All others are gone by at once.
    fn consider(&mut self, setup: Setup, cluster: ValidatedCluster) {
        let are_new = setup.parameters != self.setup.parameters;
        let Some(duty) = &mut self.duty else { return };
        if let Some(checking) = &mut duty.checking
            && are_new
            && checking.setup.parameters == setup.parameters
        {
            checking.setup = setup;
            checking.cluster = cluster;
            return;
        }
        if let Some(old) = duty.checking.take() {
            old.task.abort();
        }
        if !are_new {
            duty.refused = None;
            return self.go_by(setup, cluster);
        }
        let refused = duty.refused.as_ref();
        if refused.is_some_and(|refused| refused.parameters == setup.parameters) {
            return self.go_by_the_rest_of(setup, cluster);
        }
        let checking = Checking::begin(setup, cluster, self.volume.dir());
        duty.checking = Some(checking);
    }

    fn go_by(&mut self, setup: Setup, cluster: ValidatedCluster) {
        let Some(duty) = &mut self.duty else { return };
        if !setup.writes_the_same(&self.setup) {
            tracing::info!(generation = setup.generation, "the settings have changed");
            duty.unwritten = Some(Instant::now());
        }
        duty.taken.goes_by(&setup);
        duty.cluster = cluster;
        self.setup = setup;
    }

    /// The parameters stay as they are, and so does the generation that the status names.
    fn go_by_the_rest_of(&mut self, setup: Setup, cluster: ValidatedCluster) {
        let kept = Setup {
            parameters: self.setup.parameters.clone(),
            generation: self.setup.generation,
            ..setup
        };
        self.go_by(kept, cluster);
    }

    /// The engine's program has looked at the parameters.
    async fn take_checked(&mut self) {
        let Some(duty) = &mut self.duty else { return };
        let Some(checked) = duty.checking.take_if(|of| of.task.is_finished()) else {
            return;
        };
        let Checking {
            setup,
            cluster,
            task,
        } = checked;
        let verdict = task.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "looking at the parameters failed");
            Verdict::Unknown
        });
        duty.refused = None;
        match verdict {
            Verdict::Refused(why) => {
                tracing::warn!(%why, "parameters are not taken");
                duty.refused = Some(Refused {
                    parameters: setup.parameters.clone(),
                    generation: setup.generation,
                    why,
                });
                self.go_by_the_rest_of(setup, cluster);
            }
            Verdict::Taken => {
                duty.taken.took(&setup);
                self.go_by(setup, cluster);
            }
            Verdict::Unknown => self.go_by(setup, cluster),
        }
    }

    /// Every so often, between everything else.
    pub(in crate::instance) async fn see_to_duty(&mut self) {
        let Some(mut duty) = self.duty.take() else {
            return;
        };
        let pid = self.engine.as_ref().map(Engine::pid);
        duty.orphans.reap(pid);
        if duty.secrets.has_changed() && self.engine.is_some() {
            tracing::info!("certificates or passwords have changed");
            self.reload_engine();
        }
        if let Some(space) = duty.health.space() {
            let only_reads = space.allows_only_reads(duty.only_reads);
            if only_reads != duty.only_reads {
                tracing::warn!(
                    only_reads,
                    available = space.available,
                    "the volume's free space"
                );
                duty.only_reads = only_reads;
                duty.unwritten = Some(Instant::now());
            }
        }
        if self.state == crate::api::SupervisorState::Running
            && duty.restarts.is_pending(&self.setup.parameters).is_none()
        {
            duty.restarts.learn(&duty.place, self.setup.port).await;
        }
        let occasion = self.occasion(&duty);
        duty.roles
            .see_to(&duty.place, self.setup.port, occasion)
            .await;
        self.duty = Some(duty);
        self.take_checked().await;
        self.keep_object();
        self.keep_parameters();
        self.write_what_changed();
        self.note_generation();
    }

    /// For a primary that writes: what roles and databases are made for.
    fn occasion(&self, duty: &Duty) -> Option<Occasion> {
        let engine = self.engine.as_ref()?;
        let status = self.status.as_ref()?;
        let writes = status.role == EngineRole::Primary && status.writable && !status.in_recovery;
        if !writes || !self.promise.is_for_primary() || duty.only_reads {
            return None;
        }
        Some(Occasion {
            engine_pid: engine.pid(),
            bootstrap: duty.cluster.bootstrap.clone(),
            secrets: duty.secrets.fingerprint(),
        })
    }

    /// Has the engine go by the settings as they are now.
    fn write_what_changed(&mut self) {
        // A volume that hangs or refuses writes has them later: this loop must not wait for it.
        let is_due = |duty: &Duty| {
            duty.takes_writes() && duty.unwritten.is_some_and(|at| Instant::now() >= at)
        };
        if !self.duty.as_deref().is_some_and(is_due) {
            return;
        }
        let written = match self.volume.holds(&self.promise.instance_id) {
            Ok(true) if self.engine.is_some() => {
                // What was written before may not have been read.
                self.write_files().map(|_| self.reload_engine())
            }
            // The next start writes them.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = &written {
            tracing::warn!(%error, "the settings could not be written");
        }
        if let Some(duty) = &mut self.duty {
            duty.unwritten = written.is_err().then(|| Instant::now() + AGAIN);
        }
    }

    /// The status names a generation once it is known whether that asks for a restart.
    fn note_generation(&mut self) {
        let generation = self.setup.generation;
        if let Some(duty) = &mut self.duty {
            let is_known = duty.restarts.is_pending(&self.setup.parameters).is_some();
            if duty.unwritten.is_none() && (self.engine.is_none() || is_known) {
                duty.generation = generation;
            }
        }
    }

    pub(in crate::instance) fn duty_report(&self) -> Report {
        let Some(duty) = &self.duty else {
            return Report::default();
        };
        let space = duty.health.space();
        let stalled = duty.health.stalled();
        // Without the time, which is in the status and moves: this text is a condition's.
        let stuck = (!stalled.is_zero()).then(|| match duty.health.failure() {
            Some(error) => format!("the volume refuses writes: {error}"),
            None => "the volume does not complete writes".to_owned(),
        });
        let unkept = duty.unkept.as_ref().and_then(|of| of.error.as_ref());
        let unkept = unkept.map(|error| {
            format!("a start without the Kubernetes API would go by an older spec: {error}")
        });
        let away = duty.away.as_ref();
        let away = away.filter(|(_, at)| at.elapsed() < STILL_AWAY);
        let refused_settings = duty.refused.as_ref().map(Refused::complaint);
        let full = space.and_then(|space| space.complaint(duty.only_reads));
        let complaints = [
            duty.object_problem.clone(),
            unkept,
            refused_settings.clone(),
            away.map(|(said, _)| said.clone()),
            stuck,
            full.clone(),
            duty.roles.complaint(),
        ];
        let pending = duty.restarts.is_pending(&self.setup.parameters);
        Report {
            pod_uid: Some(duty.place.pod_uid.clone()),
            generation: duty.generation,
            pending_restart: self.engine.is_some() && pending == Some(true),
            is_leaving: duty.leave.has_begun() && self.promise.is_for_primary(),
            stalled,
            refused_settings,
            volume_full: full.filter(|_| duty.only_reads),
            bootstrap: duty
                .roles
                .state()
                .filter(|_| self.engine.is_some())
                .cloned(),
            complaints: complaints.into_iter().flatten().collect(),
        }
    }

    /// Whether this process has to end by itself.
    pub(in crate::instance) fn is_replaced(&self) -> bool {
        self.duty.as_ref().is_some_and(|duty| duty.is_replaced)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::taken;
    use super::*;

    #[test]
    fn a_restart_is_pending_for_parameters_that_need_one_only() {
        let map = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let mut needs = NeedsRestart {
            started_with: map(&[("max_connections", "100"), ("work_mem", "4MB")]),
            ..NeedsRestart::default()
        };
        let changed = map(&[("max_connections", "100"), ("work_mem", "8MB")]);
        assert_eq!(needs.is_pending(&needs.started_with.clone()), Some(false));
        assert_eq!(
            needs.is_pending(&changed),
            None,
            "the engine was not asked yet"
        );
        needs.names = Some(BTreeSet::from(["max_connections".to_owned()]));
        assert_eq!(needs.is_pending(&changed), Some(false));
        for wanted in [
            map(&[("max_connections", "200"), ("work_mem", "4MB")]),
            map(&[("work_mem", "4MB")]),
        ] {
            assert_eq!(needs.is_pending(&wanted), Some(true));
        }
    }

    fn object(uid: &str, generation: i64, parameters: &serde_json::Value) -> News {
        let object = serde_json::json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": "orders", "namespace": "shop", "uid": uid, "generation": generation},
            "spec": {"storage": {"size": "1Gi"}, "parameters": parameters},
        });
        News::Cluster(Box::new(serde_json::from_value(object).expect("reads")))
    }

    pub fn supervisor(dir: &std::path::Path) -> Supervisor {
        let place = Place::for_tests(dir);
        let News::Cluster(first) = object("u", 1, &serde_json::json!({})) else {
            unreachable!("an object was made");
        };
        let valid = kept::valid(&first).expect("valid");
        let setup = place.setup(&valid.cluster, "u", crate::ids::Term::FIRST);
        let volume = crate::instance::Volume::new(dir);
        let (_, news) = mpsc::channel(1);
        let health = Health::new(volume.probe());
        let duty = Duty::new(place, news, health, &valid, Known::default());
        let out = crate::instance::report::nobody_yet();
        let mut supervisor = Supervisor::open(volume, setup.expect("made"), out).expect("opened");
        supervisor.duty = Some(Box::new(duty));
        supervisor
    }

    /// Until parameters that were heard of have been looked at.
    async fn see_to(supervisor: &mut Supervisor) {
        let begin = Instant::now();
        loop {
            supervisor.see_to_duty().await;
            let duty = supervisor.duty.as_ref().expect("a pod");
            if duty.checking.is_none() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_spec_that_makes_no_sense_keeps_the_last_one_that_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.heed(object("u", 2, &serde_json::json!({"work_mem": "8MB"})));
        see_to(&mut supervisor).await;
        let report = supervisor.duty_report();
        assert_eq!((report.generation, report.complaints), (2, Vec::new()));
        supervisor.heed(object("u", 3, &serde_json::json!({"port": "1"})));
        see_to(&mut supervisor).await;
        let report = supervisor.duty_report();
        assert_eq!(report.generation, 2);
        let said = report.complaints.join("; ");
        assert!(
            said.contains("spec.parameters") && said.contains("generation 2"),
            "{said}"
        );
        assert_eq!(supervisor.setup.parameters["work_mem"], "8MB");
        let kept = kept::load(&supervisor.volume).expect("read").expect("kept");
        assert_eq!(kept.cluster.generation, 2);
        supervisor.heed(News::Away("nobody answers".to_owned()));
        let said = supervisor.duty_report().complaints.join("; ");
        assert!(said.contains("nobody answers; going on"), "{said}");
        supervisor.heed(object("u", 4, &serde_json::json!({"work_mem": "9MB"})));
        see_to(&mut supervisor).await;
        let report = supervisor.duty_report();
        assert_eq!((report.generation, report.complaints), (4, Vec::new()));
        assert!(!supervisor.is_replaced());
        supervisor.heed(object("another", 1, &serde_json::json!({})));
        assert!(supervisor.is_replaced());
        assert_eq!(supervisor.setup.cluster_id, "u");
    }

    /// It is heard of with every change of the object's status too, and most of all while the engine is down.
    #[tokio::test]
    async fn what_was_refused_stays_refused_while_there_is_no_engine() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        let wrong = serde_json::json!({"work_mem": "lots"});
        supervisor.duty.as_mut().expect("a pod").refused = Some(Refused {
            parameters: BTreeMap::from([("work_mem".to_owned(), "lots".to_owned())]),
            generation: 2,
            why: "invalid value".to_owned(),
        });
        supervisor.heed(object("u", 2, &wrong));
        see_to(&mut supervisor).await;
        assert!(supervisor.setup.parameters.is_empty());
        let report = supervisor.duty_report();
        assert!(report.generation < 2 && report.refused_settings.is_some());
        supervisor.heed(object("u", 3, &serde_json::json!({"work_mem": "8MB"})));
        see_to(&mut supervisor).await;
        assert_eq!(supervisor.setup.parameters["work_mem"], "8MB");
        let report = supervisor.duty_report();
        assert_eq!((report.generation, report.refused_settings), (3, None));
    }

    /// `true` and `false` stand for an engine's program that takes what it is shown and one that refuses it.
    #[tokio::test]
    async fn what_was_taken_is_kept_and_what_was_refused_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        let place = Place::for_tests(dir.path());
        for (engine, work_mem, generation, wanted) in [
            ("true", "8MB", 2, (2, "8MB")),
            ("false", "lots", 3, (2, "8MB")),
            ("false", "more", 4, (2, "8MB")),
            // These it has already.
            ("false", "8MB", 5, (5, "8MB")),
            ("false", "lots", 6, (5, "8MB")),
            ("/nowhere/understudy", "9MB", 7, (5, "8MB")),
        ] {
            let parameters = serde_json::json!({ "work_mem": work_mem });
            let News::Cluster(object) = object("u", generation, &parameters) else {
                unreachable!("an object was made");
            };
            let cluster = kept::valid(&object).expect("valid").cluster;
            let setup = place.setup(&cluster, "u", crate::ids::Term::FIRST);
            let setup = Setup {
                engine: engine.into(),
                ..setup.expect("made")
            };
            supervisor.consider(setup, cluster);
            see_to(&mut supervisor).await;
            let taken = taken::load(&supervisor.volume, "u").expect("read");
            let taken = taken.expect("kept");
            let has = (taken.generation, taken.parameters["work_mem"].as_str());
            assert_eq!(has, wanted, "{engine} {work_mem}");
        }
        assert_eq!(supervisor.setup.parameters["work_mem"], "9MB");
    }

    /// A volume that takes nothing now is no reason not to go by what the user has changed; it may take it later.
    #[tokio::test]
    async fn a_spec_that_can_t_be_kept_is_gone_by_and_kept_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        let obstacle = dir.path().join("cluster.json.tmp");
        std::fs::create_dir(&obstacle).expect("made");
        supervisor.heed(object("u", 2, &serde_json::json!({"work_mem": "8MB"})));
        see_to(&mut supervisor).await;
        assert_eq!(supervisor.setup.parameters["work_mem"], "8MB");
        let said = supervisor.duty_report().complaints.join("; ");
        assert!(
            said.contains("older spec") && said.contains("cluster.json"),
            "{said}"
        );
        std::fs::remove_dir(&obstacle).expect("removed");
        let begin = Instant::now();
        while !supervisor.duty_report().complaints.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(60));
            see_to(&mut supervisor).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let kept = kept::load(&supervisor.volume).expect("read").expect("kept");
        assert_eq!(kept.cluster.generation, 2);
    }
}
