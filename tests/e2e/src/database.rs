//! A ReplicatedCluster of a test's: applied, watched, asked, changed as its users do.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_cluster::{Container, Node};

use crate::history::{History, sets};
use crate::session::{Access, Answer, Session};
use crate::settings::LIMIT;
use crate::space::Space;

pub const POSTGRES_PORT: u16 = 5432;
pub const CONTROL_PORT: u16 = 8443;
pub const HTTP_PORT: u16 = 8080;
/// The name of the container of each instance's pod.
const CONTAINER: &str = "database";
/// The engine's program.
const ENGINE: &str = "understudy";
/// How long a statement of a test's own may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a manifest says at least: so many standbys, a small volume of the default class.
pub fn spec(replicas: u32) -> Value {
    json!({"replicas": replicas, "storage": {"size": "1Gi"}})
}

/// The whole object.
pub fn manifest(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// An instance with its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub pod: String,
    pub node: Node,
    pub address: IpAddr,
}

/// An event on the cluster object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub reason: String,
    pub note: String,
    pub at_ms: u64,
}

pub struct Database<'a> {
    pub space: &'a Space,
    pub name: String,
    pub history: History,
}

impl<'a> Database<'a> {
    /// Watches one that is there, or will be.
    pub fn watch(space: &'a Space, name: &str) -> Database<'a> {
        Database {
            space,
            name: name.to_owned(),
            history: History::of(space, name),
        }
    }

    /// Applied, not yet ready.
    ///
    /// # Panics
    /// If the API server refuses it.
    #[track_caller]
    pub fn apply(space: &'a Space, name: &str, spec: &Value) -> Database<'a> {
        let manifest = manifest(name, spec).to_string();
        space
            .apply(&manifest)
            .unwrap_or_else(|error| panic!("{error:#}"));
        Database::watch(space, name)
    }

    /// Applied, and at full strength.
    ///
    /// # Panics
    /// If it does not become so.
    #[track_caller]
    pub fn create(space: &'a Space, name: &str, spec: &Value) -> Database<'a> {
        let begin = Instant::now();
        let database = Database::apply(space, name, spec);
        database.whole();
        let took = begin.elapsed().as_secs_f64();
        println!("{name}: at full strength {took:.1} s after it was applied");
        database.full_strength();
        database
    }

    pub fn object(&self) -> Arc<Value> {
        self.history.object()
    }

    pub fn status(&self) -> Value {
        self.object()["status"].clone()
    }

    /// Waits until the status is so.
    ///
    /// # Panics
    /// After `limit`, with what has happened.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{}: {what}", self.name);
        let object = self.history.wait(&what, limit, |o| done(&o["status"]));
        object["status"].clone()
    }

    /// Waits until the status says that every instance that the manifest asks for is ready and every standby is in the one
    /// in-sync set: what is measured ends here. Whoever counts on it afterwards needs [`Database::full_strength`].
    ///
    /// # Panics
    /// If that does not come.
    #[track_caller]
    pub fn whole(&self) -> Value {
        let what = format!("{}: at full strength", self.name);
        let object = self.history.wait(&what, LIMIT, is_whole);
        object["status"].clone()
    }

    /// As [`Database::whole`], and with pods that stay. A kubelet that was cut off hears late that a pod was told to end: till
    /// then its instance serves, and it ends in the middle of whatever comes next. So no pod is about to end, all are ready,
    /// and each is the one, at the address, that it was a look before, with the status whole at both looks.
    ///
    /// # Panics
    /// If that does not come; says which pod is in the way.
    #[track_caller]
    pub fn full_strength(&self) -> Value {
        self.whole();
        let what = format!("{}: at full strength with pods that stay", self.name);
        let (mut before, mut why) = (BTreeMap::new(), String::new());
        let found = wait_for(&what, LIMIT, || {
            let object = self.object();
            match self.steady_pods(&object) {
                Ok(now) if now == before => return Ok(Some(object["status"].clone())),
                Ok(now) => before = now,
                Err(error) => {
                    before.clear();
                    why = format!("{error:#}");
                }
            }
            Ok(None)
        });
        found.unwrap_or_else(|error| panic!("{error:#}; of late: {why}\n{}", self.history.shown()))
    }

    /// The pods of all the instances that the manifest asks for, by name: which one each is, and where.
    fn steady_pods(&self, object: &Value) -> Result<BTreeMap<String, String>> {
        ensure!(is_whole(object), "the status is not whole any more");
        let of = format!("understudy.dev/cluster={}", self.name);
        let list = self.space.try_get(&["pods", "-l", &of])?;
        let pods = list["items"].as_array().context("a list")?;
        let wanted = object["spec"]["replicas"].as_u64().unwrap_or_default() + 1;
        let count = pods.len() as u64;
        ensure!(
            count == wanted,
            "there are {count} pods of {wanted} instances"
        );
        pods.iter().map(steady).collect()
    }

    pub fn term(&self) -> u64 {
        self.status()["term"].as_u64().unwrap_or_default()
    }

    /// The instance that the record calls primary.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn primary(&self) -> String {
        let status = self.status();
        let name = status["primary"]["name"].as_str();
        name.unwrap_or_else(|| panic!("no primary: {status:#}"))
            .to_owned()
    }

    /// Every instance whose pod has a node and an address.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn try_instances(&self) -> Result<Vec<Instance>> {
        let of = format!("understudy.dev/cluster={}", self.name);
        let list = self.space.try_get(&["pods", "-l", &of])?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(instance).collect())
    }

    /// # Panics
    /// If the API server does not answer.
    #[track_caller]
    pub fn instances(&self) -> Vec<Instance> {
        self.try_instances()
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// # Panics
    /// If it has no pod that runs somewhere.
    #[track_caller]
    pub fn instance(&self, name: &str) -> Instance {
        let all = self.instances();
        let found = all.iter().find(|instance| instance.name == name).cloned();
        found.unwrap_or_else(|| panic!("{name} has no pod; there are {all:?}"))
    }

    /// What tells whether instances were left alone: of each pod which one it is and how often its container was started,
    /// of each StatefulSet which one it is and how often what it asks for was changed.
    ///
    /// # Panics
    /// If the API server does not answer.
    #[track_caller]
    pub fn generations(&self) -> BTreeMap<String, String> {
        let of = format!("understudy.dev/cluster={}", self.name);
        let mut all = BTreeMap::new();
        for kind in ["pods", "statefulsets"] {
            let list = self.space.get(&[kind, "-l", of.as_str()]);
            for object in list["items"].as_array().into_iter().flatten() {
                let metadata = &object["metadata"];
                let name = metadata["name"].as_str().unwrap_or_default();
                let restarts = &object["status"]["containerStatuses"][0]["restartCount"];
                let told = if kind == "pods" {
                    format!("{} {restarts}", metadata["uid"])
                } else {
                    format!("{} {}", metadata["uid"], metadata["generation"])
                };
                all.insert(format!("{kind}/{name}"), told);
            }
        }
        all
    }

    /// The names of the instances beside the primary.
    pub fn standbys(&self) -> Vec<String> {
        let primary = self.primary();
        let names = self.instances().into_iter().map(|instance| instance.name);
        names.filter(|name| *name != primary).collect()
    }

    /// Waits until an instance's container runs.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn container(&self, instance: &str) -> Container {
        let pod = format!("{instance}-0");
        let cluster = &self.space.cluster;
        cluster
            .container(&self.space.name, &pod, Some(CONTAINER))
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The engine's process, as the machine numbers it.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn engine(&self, instance: &str) -> i32 {
        let container = self.container(instance);
        let found = wait_for(&format!("the engine of {instance}"), LIMIT, || {
            let all = container.processes_of(ENGINE)?;
            Ok(all.into_iter().min())
        });
        found.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// # Panics
    /// If the operator has not made it.
    #[track_caller]
    pub fn access(&self) -> Access {
        let secret = self.space.get(&["secret", &format!("{}-app", self.name)]);
        Access::from_secret(&secret).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The address of a Service: `primary`, `standby` or `any`.
    ///
    /// # Panics
    /// If it has none.
    #[track_caller]
    pub fn service(&self, which: &str) -> SocketAddr {
        let name = format!("{}-{which}", self.name);
        let service = self.space.get(&["service", &name]);
        let address = service["spec"]["clusterIP"].as_str();
        let address = address.and_then(|text| text.parse::<IpAddr>().ok());
        let address = address.unwrap_or_else(|| panic!("{name} has no address: {service:#}"));
        SocketAddr::new(address, POSTGRES_PORT)
    }

    /// One statement through the write Service, tried again until the server answers; the caller must not mind whether
    /// it is run more than once.
    ///
    /// # Panics
    /// If nobody answers, or the server's answer is an error that waiting does not change.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let (access, to) = (self.access(), self.service("primary"));
        let begin = Instant::now();
        loop {
            let why = match ask(&access, to, sql) {
                Ok(Answer { error: None, rows }) => return rows,
                Ok(Answer {
                    error: Some(failure),
                    ..
                }) => {
                    // A standby that is about to be primary, a server that starts or stops.
                    let passes = ["25006", "57P01", "57P03", "08007", "57014"];
                    assert!(passes.contains(&failure.state.as_str()), "{sql}: {failure}");
                    failure.to_string()
                }
                Err(error) => error.to_string(),
            };
            assert!(begin.elapsed() < LIMIT, "{sql}: {why}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// As [`Database::rows`]: the one value.
    ///
    /// # Panics
    /// As [`Database::rows`], and if there is no value.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.unwrap_or_else(|| panic!("{sql} gave {rows:?}"))
    }

    /// `understudy sql` in an instance's pod, as the superuser.
    ///
    /// # Errors
    /// With what it said.
    pub fn sql_in(&self, instance: &str, sql: &str) -> Result<String> {
        let pod = format!("{instance}-0");
        let program = ["exec", pod.as_str(), "-c", CONTAINER, "--", ENGINE];
        let what = ["sql", "-d", "app", "-At", "-c", sql];
        self.space.try_kubectl(&[&program[..], &what].concat())
    }

    /// # Panics
    /// If the API server refuses.
    #[track_caller]
    pub fn patch_spec(&self, spec: &Value) {
        let object = format!("rcl/{}", self.name);
        self.space.patch(&object, &json!({ "spec": spec }), &[]);
    }

    /// `kubectl scale`.
    ///
    /// # Panics
    /// If the API server refuses.
    #[track_caller]
    pub fn scale(&self, replicas: u32) {
        let wanted = format!("--replicas={replicas}");
        self.space
            .kubectl(&["scale", "rcl", self.name.as_str(), wanted.as_str()]);
    }

    /// Asks for one act: `switchover-to`, `force-promote` or `replace-instance`.
    ///
    /// # Panics
    /// If the API server refuses.
    #[track_caller]
    pub fn ask_for(&self, act: &str, value: &str) {
        let annotation = format!("understudy.dev/{act}={value}");
        self.space.kubectl(&[
            "annotate",
            "rcl",
            self.name.as_str(),
            annotation.as_str(),
            "--overwrite",
        ]);
    }

    /// Events since a moment, the oldest first.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn events(&self, since_ms: u64) -> Result<Vec<Event>> {
        let list = self.space.try_get(&["events.events.k8s.io"])?;
        let items = list["items"].as_array().into_iter().flatten();
        let of_this = items.filter(|e| {
            e["regarding"]["name"] == self.name.as_str()
                && e["regarding"]["kind"] == "ReplicatedCluster"
        });
        let mut events: Vec<Event> = of_this.filter_map(event).collect();
        events.retain(|event| event.at_ms >= since_ms);
        events.sort_by_key(|event| event.at_ms);
        Ok(events)
    }

    /// Waits for an event.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn wait_event(&self, reason: &str, since_ms: u64) -> Event {
        self.wait_told(reason, "", since_ms)
    }

    /// Waits for an event that has these words in it: the name of the instance that it is about.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn wait_told(&self, reason: &str, words: &str, since_ms: u64) -> Event {
        let mut seen = Vec::new();
        let what = format!("the event {reason} {words}");
        let found = wait_for(what.trim_end(), LIMIT, || {
            seen = self.events(since_ms).unwrap_or_default();
            let mut all = seen.iter();
            let is_it = |event: &&Event| event.reason == reason && event.note.contains(words);
            Ok(all.find(is_it).cloned())
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{seen:#?}"))
    }

    /// Hands the primary's role to this instance and waits for full strength.
    ///
    /// # Panics
    /// If that does not come.
    #[track_caller]
    pub fn switch_to(&self, instance: &str) {
        let begin = Instant::now();
        while self.primary() != instance {
            assert!(begin.elapsed() < LIMIT, "no switchover to {instance}");
            self.ask_for("switchover-to", instance);
            let term = self.term();
            let tried = Instant::now();
            // A request may be refused; then it is asked for again.
            while self.term() == term && tried.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(50));
            }
            self.full_strength();
        }
    }

    /// The ids in a table, by a statement of its own.
    pub fn ids(&self, table: &str) -> HashSet<i64> {
        let rows = self.rows(&format!("SELECT id FROM {table}"));
        let ids = rows.iter().filter_map(|row| row.first()?.as_deref());
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    /// The volume of an instance's claim.
    ///
    /// # Panics
    /// If it is not bound.
    #[track_caller]
    pub fn volume(&self, instance: &str) -> String {
        let claim = self.space.get(&["pvc", &format!("data-{instance}-0")]);
        let name = claim["spec"]["volumeName"].as_str();
        name.unwrap_or_else(|| panic!("no volume: {claim:#}"))
            .to_owned()
    }
}

fn ask(access: &Access, to: SocketAddr, sql: &str) -> std::io::Result<Answer> {
    Session::open(access, to, ANSWER_LIMIT)?.query(sql)
}

fn instance(pod: &Value) -> Option<Instance> {
    let name = pod["metadata"]["labels"]["understudy.dev/instance"].as_str()?;
    Some(Instance {
        name: name.to_owned(),
        pod: pod["metadata"]["name"].as_str()?.to_owned(),
        node: pod["spec"]["nodeName"].as_str()?.parse().ok()?,
        address: pod["status"]["podIP"].as_str()?.parse().ok()?,
    })
}

/// Of a pod: which one it is and at which address, unless it is about to end or is not ready.
fn steady(pod: &Value) -> Result<(String, String)> {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let name = metadata["name"].as_str().context("a pod has a name")?;
    if let Some(at) = metadata["deletionTimestamp"].as_str() {
        bail!("the pod {name} was told to end by {at}");
    }
    ensure!(is_true(status, "Ready"), "the pod {name} is not ready");
    let address = status["podIP"].as_str();
    let address = address.with_context(|| format!("the pod {name} has no address"))?;
    Ok((name.to_owned(), format!("{} {address}", metadata["uid"])))
}

/// Of the same words that came again it is the last time.
fn event(object: &Value) -> Option<Event> {
    let again = object["series"]["lastObservedTime"].as_str();
    let at = again.or(object["eventTime"].as_str())?;
    let at: jiff::Timestamp = at.parse().ok()?;
    Some(Event {
        reason: object["reason"].as_str()?.to_owned(),
        note: object["note"].as_str().unwrap_or_default().to_owned(),
        at_ms: u64::try_from(at.as_millisecond()).ok()?,
    })
}

/// Whether a condition of this status is true.
pub fn is_true(status: &Value, condition: &str) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == condition && c["status"] == "True")
}

/// Whether any condition, or what is said of an instance, has this text in reason or message.
pub fn says(status: &Value, text: &str) -> bool {
    let all = |key: &str| status[key].as_array().into_iter().flatten();
    let has = |part: &Value| part.as_str().is_some_and(|said| said.contains(text));
    all("conditions").any(|c| has(&c["reason"]) || has(&c["message"]))
        || all("instances").any(|i| has(&i["message"]))
}

/// Every instance that the manifest asks for is ready, and every standby is in the one in-sync set of a primary that
/// serves.
pub fn is_whole(object: &Value) -> bool {
    let status = &object["status"];
    let Some(replicas) = object["spec"]["replicas"].as_u64() else {
        return false;
    };
    let members = |set: &Value| set["members"].as_array().map_or(0, Vec::len) as u64;
    let mut all = sets(status);
    let set = all.next().filter(|_| all.next().is_none());
    is_true(status, "Ready")
        && status["observedGeneration"] == object["metadata"]["generation"]
        && status["phase"] == "Running"
        && status["readyInstances"].as_u64() == Some(replicas + 1)
        && set.is_some_and(|set| members(set) == replicas)
}

/// Waits until every pod of the cluster is a pod of the StatefulSets' newest template: nothing is still being renewed.
///
/// # Errors
/// If that does not come.
pub fn settled(database: &Database<'_>) -> Result<()> {
    let of = format!("understudy.dev/cluster={}", database.name);
    wait_for("the StatefulSets to be rolled out", LIMIT, || {
        let list = database.space.try_get(&["statefulsets", "-l", &of])?;
        let items = list["items"].as_array().context("a list")?;
        let done = |set: &Value| {
            let status = &set["status"];
            status["observedGeneration"] == set["metadata"]["generation"]
                && status["updateRevision"] == status["currentRevision"]
                && status["readyReplicas"].as_u64() == Some(1)
        };
        Ok(items.iter().all(done).then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Value {
        json!({
            "metadata": {"generation": 3}, "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 3, "phase": "Running", "readyInstances": 3,
                "inSync": [{"members": [{"name": "a-2"}, {"name": "a-3"}]}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "AllReady", "message": ""}],
                "instances": [{"name": "a-1", "message": "Unschedulable: 0/3 nodes"}],
            },
        })
    }

    #[test]
    fn full_strength_is_everything_at_once() {
        assert!(is_whole(&whole()));
        for (pointer, value) in [
            ("/status/observedGeneration", json!(2)),
            ("/status/phase", json!("Promoting")),
            ("/status/readyInstances", json!(2)),
            (
                "/status/inSync",
                json!([{"members": []}, {"members": [1, 2]}]),
            ),
            ("/status/inSync/0/members", json!([{"name": "a-2"}])),
            ("/status/conditions/0/status", json!("False")),
            ("/spec/replicas", json!(3)),
        ] {
            let mut object = whole();
            *object.pointer_mut(pointer).expect("there") = value;
            assert!(!is_whole(&object), "{pointer}");
        }
        assert!(!is_whole(&Value::Null));
    }

    #[test]
    fn a_pod_stays_that_is_ready_and_was_not_told_to_end() {
        let pod = json!({
            "metadata": {"name": "a-1-0", "uid": "u"},
            "status": {"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let (name, told) = steady(&pod).expect("it stays");
        assert_eq!(name, "a-1-0");
        assert!(
            told.contains("\"u\"") && told.contains("10.0.0.7"),
            "{told}"
        );
        for (pointer, key, value) in [
            (
                "/metadata",
                "deletionTimestamp",
                json!("2026-01-01T00:00:00Z"),
            ),
            ("/status", "podIP", Value::Null),
            ("/status/conditions/0", "status", json!("False")),
        ] {
            let mut pod = pod.clone();
            pod.pointer_mut(pointer).expect("there")[key] = value;
            let error = steady(&pod).expect_err(key);
            assert!(error.to_string().contains("a-1-0"), "{error:#}");
        }
    }

    #[test]
    fn what_is_said_is_found_in_conditions_and_instances() {
        let status = whole()["status"].clone();
        assert!(says(&status, "Unschedulable") && says(&status, "AllReady"));
        assert!(!says(&status, "ImagePullBackOff"));
    }

    #[test]
    fn an_event_is_read_with_its_time() {
        let object = json!({"reason": "FailoverStarted", "note": "x", "eventTime": "1970-01-01T00:00:01.250000Z"});
        let event = event(&object).expect("an event");
        assert_eq!(
            (event.at_ms, event.reason.as_str()),
            (1_250, "FailoverStarted")
        );
        assert_eq!(
            super::event(&json!({"reason": "x", "eventTime": null})),
            None
        );
    }
}
