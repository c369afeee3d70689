//! The record's word for an engine that holds: it was cut off from its standbys, stood still without any, or has only
//! started, and asks whether it still is the primary before it acknowledges anything more (`txn/release/isolation.rs` of the
//! engine).
//!
//! The record is read anew for it, never taken from the watch, which may be a minute behind after the same isolation.
//! Invariants: only a record in the engine's own term that names this copy confirms it, and only fresh from its reader's
//! hand; a newer term, or another primary, never does, and from then on no silence does either: the ordinary demotion
//! follows. Where nothing can be learned (the API is away, there is no record) databases go on all the same: after
//! [`PATIENCE`], in which an operator that can reach this instance has sealed it if it is to be, it is confirmed with a
//! word in the log. So it is under `strict` too: there every member counts, so a copy that somebody has promoted would be
//! missing from the streams that the engine needs. And so it is where the engine acknowledges alone: one that the API and
//! the operator can't reach would have gone on, had it not stood still.
//!
//! A hold has a number: an engine that was cut off once more waits for a new word, and its own clock tells it so. Where this
//! process alone stood still, the engine does not know: so no old answer counts, and no patience lasts over such a gap.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::engine::Engine;
use super::pod::Judge;
use super::supervisor::Supervisor;
use crate::api::Confirmation;
use crate::crd::{Member, ReplicatedCluster, ReplicatedClusterStatus};
use crate::durable;
use crate::ids::{InstanceId, Term};

/// What the record gets to be read. It is short, as an engine's clients wait; but what an API that is only slow says is
/// worth more than what is done without it.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// An answer that is taken later after its question counts for nothing: this process stood still.
const FRESH: Duration = Duration::from_millis(2500);
/// Where nobody has looked at a hold for longer this process stood still.
const MOST_UNSEEN: Duration = FRESH;
/// Between two questions that found nothing out.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two questions once the record has said that it is over.
const AGAIN_AFTER_NO: Duration = Duration::from_secs(1);
/// How long an engine that has its streams back waits for a record that can't be read.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the engine may take to obey.
const TELL_LIMIT: Duration = Duration::from_millis(1500);

/// Who has the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Witness {
    /// Local mode: the cluster's object is a file.
    File(PathBuf),
    Api(Judge),
}

impl Witness {
    async fn object(&self) -> Result<ReplicatedCluster, String> {
        let path = match self {
            Witness::File(path) => path.clone(),
            Witness::Api(judge) => return judge.object().await,
        };
        let read = move || durable::read_json(&path, "restore it; the operator writes it");
        let read = tokio::task::spawn_blocking(read).await;
        let found: Option<ReplicatedCluster> = read
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        found.ok_or_else(|| "there is no cluster object".to_owned())
    }
}

/// What the record says of one who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// It is the primary.
    Primary,
    /// It is not, and why.
    Over(String),
    /// Nothing, and why.
    Silence(String),
}

/// Who asks: the copy that is the primary of this term, as far as it knows.
#[derive(Clone, Debug)]
struct Asker {
    cluster_id: String,
    id: InstanceId,
    term: Term,
}

async fn ask(witness: Witness, asker: Asker) -> Word {
    match tokio::time::timeout(ASK_LIMIT, witness.object()).await {
        Ok(Ok(object)) => judge(&object, &asker),
        Ok(Err(error)) => Word::Silence(error),
        Err(_) => Word::Silence(format!("no answer within {} ms", ASK_LIMIT.as_millis())),
    }
}

fn judge(object: &ReplicatedCluster, asker: &Asker) -> Word {
    if object.metadata.uid.as_deref() != Some(&asker.cluster_id) {
        return Word::Over("the cluster was deleted and applied again".to_owned());
    }
    let status = object.status.as_ref();
    let Some(record) = status.and_then(ReplicatedClusterStatus::record) else {
        return Word::Silence("there is no record of the cluster".to_owned());
    };
    let is_asker = |member: &Member| member.id == asker.id;
    match (record.term.cmp(&asker.term), &record.primary) {
        (Ordering::Greater, _) => Word::Over(format!("the record is in term {}", record.term)),
        // A promise is never ahead of a record that nobody has put back: this one is.
        (Ordering::Less, _) => Word::Silence(format!("the record is of term {}", record.term)),
        (Ordering::Equal, Some(primary)) if is_asker(primary) => Word::Primary,
        (Ordering::Equal, _) if record.candidate.as_ref().is_some_and(is_asker) => Word::Primary,
        (Ordering::Equal, Some(primary)) => {
            Word::Over(format!("the record has {} as the primary", primary.name))
        }
        (Ordering::Equal, None) => Word::Silence("the record names no primary".to_owned()),
    }
}

/// The hold that the engine waits in, if it does.
#[derive(Default)]
pub(super) struct Confirming {
    hold: Option<Hold>,
    /// The record has said that this term is over, for whoever was its primary here.
    over: Option<Term>,
}

struct Hold {
    /// The process whose hold it is.
    pid: u32,
    number: u64,
    /// Patience began.
    since: Instant,
    /// The last look.
    seen_at: Instant,
    again_at: Instant,
    asking: Option<Asking>,
    /// Why the last answer was no word for it.
    why: Option<String>,
}

impl Hold {
    /// With each status of the engine, and with each answer. In a standstill of this process nobody could have sealed it, so
    /// whoever is to gets as long after it as anybody.
    fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.seen_at) > MOST_UNSEEN {
            self.since = now;
        }
        self.seen_at = now;
    }
}

struct Asking {
    begun: Instant,
    term: Term,
    answer: JoinHandle<Word>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Confirming {
    /// Another process, which may have the same number, has holds of its own.
    pub fn engine_starts(&mut self) {
        self.hold = None;
    }

    /// Why the engine holds for so long, for people. What a change of roles brings with it in passing is no trouble.
    pub fn complaint(&self) -> Option<String> {
        let lasts = |hold: &&Hold| hold.since.elapsed() >= PATIENCE;
        let why = self.hold.as_ref().filter(lasts)?.why.as_ref()?;
        Some(format!(
            "commits wait until the record says that this still is the primary: {why}"
        ))
    }

    /// What the record says; never, while nobody asks.
    pub async fn answered(&mut self) -> Word {
        match self.hold.as_mut().and_then(|hold| hold.asking.as_mut()) {
            Some(asking) => {
                let answer = (&mut asking.answer).await;
                answer.unwrap_or_else(|error| Word::Silence(error.to_string()))
            }
            None => std::future::pending().await,
        }
    }

    /// Of the hold that is waited in: what the word for it makes of it now. True: it is confirmed.
    fn allows(&mut self, word: Word, term: Term, waited: Duration) -> bool {
        let is_over = self.over >= Some(term);
        match word {
            Word::Primary => true,
            Word::Over(why) => {
                if !is_over {
                    tracing::warn!(%term, %why, "this is no longer the primary; what its engine holds stays held");
                    self.over = Some(term);
                }
                false
            }
            Word::Silence(why) if is_over || waited < PATIENCE => {
                tracing::debug!(%why, "the record does not say whether this still is the primary");
                false
            }
            Word::Silence(why) => {
                tracing::warn!(
                    %term,
                    %why,
                    "the record does not say whether this still is the primary; nobody has sealed it, so it goes on"
                );
                true
            }
        }
    }
}

impl Supervisor {
    /// The engine has said how it is: if it holds, the record is asked.
    pub(super) fn see_to_hold(&mut self) {
        let held = self.status.as_ref().and_then(|status| status.held);
        let pid = self.engine.as_ref().map(Engine::pid);
        let (Some(number), Some(pid)) = (held, pid) else {
            self.confirming.hold = None;
            return;
        };
        let now = Instant::now();
        let known = self.confirming.hold.take();
        let known = known.filter(|hold| (hold.pid, hold.number) == (pid, number));
        let hold = self.confirming.hold.insert(known.unwrap_or_else(|| {
            tracing::info!(
                hold = number,
                "the engine asks whether it still is the primary"
            );
            Hold {
                pid,
                number,
                since: now,
                seen_at: now,
                again_at: now,
                asking: None,
                why: None,
            }
        }));
        hold.look(now);
        if hold.asking.is_none() && now >= hold.again_at {
            let asker = Asker {
                cluster_id: self.setup.cluster_id.clone(),
                id: self.promise.instance_id.clone(),
                term: self.promise.promised_term,
            };
            hold.asking = Some(Asking {
                begun: now,
                term: asker.term,
                answer: tokio::spawn(ask(self.setup.witness.clone(), asker)),
            });
        }
    }

    /// The answer has come. An engine that does not take it is asked how it is, and asks again.
    pub(super) async fn take_word(&mut self, word: Word) {
        let now = Instant::now();
        let Some(hold) = &mut self.confirming.hold else {
            return;
        };
        let Some(asked) = hold.asking.take() else {
            return;
        };
        hold.look(now);
        let (pid, number, term) = (hold.pid, hold.number, asked.term);
        let waited = now.saturating_duration_since(hold.since);
        let word = match word {
            Word::Primary if now.saturating_duration_since(asked.begun) > FRESH => {
                Word::Silence("the answer came too late".to_owned())
            }
            word => word,
        };
        hold.why = match &word {
            Word::Primary => None,
            Word::Over(why) | Word::Silence(why) => Some(why.clone()),
        };
        let allowed = self.confirming.allows(word, term, waited);
        let is_over = self.confirming.over >= Some(term);
        if let Some(hold) = &mut self.confirming.hold {
            hold.again_at = now + if is_over { AGAIN_AFTER_NO } else { AGAIN };
        }
        let Some(engine) = self.engine.as_ref().filter(|e| allowed && e.pid() == pid) else {
            return;
        };
        let control = engine.control();
        let word = Confirmation { term, hold: number };
        match control.confirm(word, TELL_LIMIT).await {
            Ok(status) => self.heard(status),
            Err(error) => tracing::warn!(%error, "the engine did not take the record's word"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    use super::*;
    use crate::instance::report::nobody_yet;
    use crate::instance::{InstanceConfig, Volume, setup};

    const LIMIT: Duration = Duration::from_secs(60);
    const CLUSTER: &str = "c";

    fn object(uid: &str, status: &Value) -> Value {
        json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": "orders", "uid": uid},
            "spec": {"storage": {"size": "1Gi"}},
            "status": status,
        })
    }

    fn status(term: u32, primary: Option<&str>) -> Value {
        let primary = primary.map(|id| json!({"name": "orders-1", "id": id}));
        json!({
            "recordVersion": 1, "term": term, "phase": "Running", "primary": primary, "inSync": [],
        })
    }

    #[test]
    fn only_a_record_of_the_same_term_that_names_the_copy_confirms_it() {
        let id = InstanceId::random();
        let (own, other) = (id.to_string(), InstanceId::random().to_string());
        let asker = Asker {
            cluster_id: CLUSTER.to_owned(),
            id,
            term: Term::new(3),
        };
        let says = |uid: &str, status: &Value| {
            let object = serde_json::from_value(object(uid, status)).expect("reads");
            judge(&object, &asker)
        };
        assert_eq!(says(CLUSTER, &status(3, Some(&own))), Word::Primary);
        let mut promoting = status(3, Some(&other));
        promoting["phase"] = "Promoting".into();
        promoting["candidate"] = json!({"name": "orders-2", "id": own});
        assert_eq!(says(CLUSTER, &promoting), Word::Primary);
        // It was the primary when the failover began.
        let mut begun = status(4, Some(&own));
        begun["phase"] = "FailingOver".into();
        for (uid, status) in [
            (CLUSTER, &begun),
            (CLUSTER, &status(4, Some(&other))),
            (CLUSTER, &status(3, Some(&other))),
            ("another", &status(3, Some(&own))),
        ] {
            let word = says(uid, status);
            assert!(matches!(word, Word::Over(_)), "{word:?}: {status}");
        }
        for status in [
            status(2, Some(&own)),
            status(2, Some(&other)),
            status(3, None),
            Value::Null,
            json!({}),
        ] {
            let word = says(CLUSTER, &status);
            assert!(matches!(word, Word::Silence(_)), "{word:?}: {status}");
        }
    }

    /// A supervisor of local mode, a program in its engine's place, and what that is told.
    struct Scene {
        supervisor: Supervisor,
        told: mpsc::UnboundedReceiver<Value>,
        dir: tempfile::TempDir,
    }

    fn supervisor(dir: &Path) -> Supervisor {
        let config = InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: CLUSTER.to_owned(),
            name: "orders-1".to_owned(),
            control_port: 1,
            port: 0,
            http_port: 0,
            service_port: 4,
            token_file: dir.join("token"),
            engine: dir.join("understudy"),
            seed: crate::decide::Seed::Initdb,
            term: Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: std::collections::BTreeMap::new(),
        };
        let volume = dir.join("instances/orders-1");
        std::fs::create_dir_all(&volume).expect("made");
        let setup = setup::local(config, &volume);
        Supervisor::open(Volume::new(&volume), setup, nobody_yet()).expect("opened")
    }

    /// Answers every call with the status of an engine that holds nothing.
    async fn take_calls(listener: tokio::net::UnixListener, tell: mpsc::UnboundedSender<Value>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).await.expect("read");
                assert!(read > 0, "it broke off: {text}");
                text.push_str(&String::from_utf8_lossy(&some[..read]));
            }
            let (head, body) = text.split_once("\r\n\r\n").expect("a body");
            assert!(head.starts_with("POST /confirm "), "{head}");
            let body = serde_json::from_str(body).expect("JSON");
            if tell.send(body).is_err() {
                return;
            }
            let body = r#"{"system_id": "7", "role": "primary", "timeline": 1, "writable": true}"#;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    }

    impl Scene {
        fn begin() -> Scene {
            let dir = tempfile::tempdir().expect("a folder");
            let mut supervisor = supervisor(dir.path());
            let mut program = tokio::process::Command::new("sleep");
            let child = program.arg("600").kill_on_drop(true).spawn();
            let socket = dir.path().join("its.sock");
            let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
            supervisor.engine = Some(Engine::of_child(child.expect("started"), socket));
            let (tell, told) = mpsc::unbounded_channel();
            tokio::spawn(take_calls(listener, tell));
            Scene {
                supervisor,
                told,
                dir,
            }
        }

        fn record(&self, term: u32, is_own: bool) {
            let own = &self.supervisor.promise.instance_id;
            let id = if is_own {
                own.clone()
            } else {
                InstanceId::random()
            };
            let status = status(term, Some(&id.to_string()));
            let text = object(CLUSTER, &status).to_string();
            std::fs::write(self.dir.path().join("cluster.json"), text).expect("written");
        }

        fn holds(&mut self, hold: u64) {
            let status = json!({
                "system_id": "7", "role": "primary", "timeline": 1, "writable": false, "held": hold,
            });
            self.supervisor
                .heard(serde_json::from_value(status).expect("reads"));
        }

        /// It is as long ago as patience lasts that the engine began to wait.
        fn has_waited(&mut self) {
            let hold = self.hold();
            hold.again_at = Instant::now();
            hold.seen_at = Instant::now();
            hold.since = ago(PATIENCE);
        }

        /// Nobody has run here since.
        fn stood_still(&mut self) {
            self.hold().seen_at = ago(MOST_UNSEEN + Duration::from_secs(1));
        }

        fn hold(&mut self) -> &mut Hold {
            let hold = self.supervisor.confirming.hold.as_mut();
            hold.expect("it waits")
        }

        async fn word(&mut self) -> Word {
            let word = tokio::time::timeout(LIMIT, self.supervisor.confirming.answered());
            word.await.expect("in time")
        }

        /// What the engine is told because of that.
        async fn takes(&mut self, word: Word) -> Option<Value> {
            self.supervisor.take_word(word).await;
            self.told.try_recv().ok()
        }

        /// What the engine is told once the record has answered, however slow this machine is.
        async fn answered(&mut self) -> Option<Value> {
            let word = self.word().await;
            let hold = self.hold();
            hold.seen_at = Instant::now();
            hold.asking.as_mut().expect("it is asked").begun = Instant::now();
            self.takes(word).await
        }
    }

    fn ago(age: Duration) -> Instant {
        let then = Instant::now().checked_sub(age);
        then.expect("this machine runs for longer")
    }

    #[tokio::test]
    async fn the_record_lets_its_primary_go_on() {
        let mut scene = Scene::begin();
        scene.record(1, true);
        scene.holds(3);
        assert_eq!(scene.answered().await, Some(json!({"term": 1, "hold": 3})));
        assert!(scene.supervisor.confirming.hold.is_none());
        // Cut off again, and again while it waits: each hold has a word of its own.
        scene.holds(4);
        scene.holds(5);
        assert_eq!(scene.answered().await, Some(json!({"term": 1, "hold": 5})));
    }

    /// Nobody who could have been deposed goes on because the one who would say so is away.
    #[tokio::test]
    async fn after_a_newer_term_no_silence_confirms() {
        for (term, is_own) in [(2, false), (2, true), (1, false)] {
            let mut scene = Scene::begin();
            scene.record(term, is_own);
            scene.holds(1);
            assert_eq!(scene.answered().await, None, "term {term}");
            let file = scene.dir.path().join("cluster.json");
            std::fs::remove_file(file).expect("removed");
            for hold in [1, 2] {
                scene.holds(hold);
                scene.has_waited();
                scene.holds(hold);
                assert_eq!(scene.answered().await, None, "term {term}");
            }
        }
    }

    #[tokio::test]
    async fn who_learns_nothing_goes_on_after_a_while() {
        let mut scene = Scene::begin();
        for hold in [1, 2] {
            scene.holds(hold);
            assert_eq!(scene.answered().await, None);
            scene.has_waited();
            scene.holds(hold);
            let told = scene.answered().await;
            assert_eq!(told, Some(json!({"term": 1, "hold": hold})));
        }
    }

    /// Whoever would have sealed it meanwhile could not.
    #[tokio::test]
    async fn patience_begins_anew_where_this_process_stood_still() {
        let mut scene = Scene::begin();
        scene.holds(1);
        assert_eq!(scene.answered().await, None);
        scene.has_waited();
        let complaint = scene.supervisor.confirming.complaint();
        assert!(complaint.is_some_and(|why| why.contains("no cluster object")));
        // Between two questions.
        scene.stood_still();
        scene.holds(1);
        assert_eq!(scene.answered().await, None);
        // In the middle of one.
        scene.has_waited();
        scene.holds(1);
        let word = scene.word().await;
        scene.stood_still();
        assert_eq!(scene.takes(word).await, None);
        // With an answer in its hand, which was the record's.
        scene.record(1, true);
        scene.has_waited();
        scene.holds(1);
        let word = scene.word().await;
        assert_eq!(word, Word::Primary);
        scene.stood_still();
        scene.hold().asking.as_mut().expect("it is asked").begun = ago(PATIENCE);
        assert_eq!(scene.takes(word).await, None);
        scene.has_waited();
        scene.holds(1);
        assert_eq!(scene.answered().await, Some(json!({"term": 1, "hold": 1})));
        assert_eq!(scene.supervisor.confirming.complaint(), None);
    }

    /// This process stood still with the answer in its hand.
    #[tokio::test]
    async fn an_answer_that_is_taken_late_is_asked_for_again() {
        let mut scene = Scene::begin();
        scene.record(1, true);
        scene.holds(1);
        let word = scene.word().await;
        let late = ago(FRESH + Duration::from_secs(1));
        scene.hold().asking.as_mut().expect("it is asked").begun = late;
        assert_eq!(scene.takes(word).await, None);
        scene.hold().again_at = Instant::now();
        scene.holds(1);
        assert_eq!(scene.answered().await, Some(json!({"term": 1, "hold": 1})));
    }
}
