//! A cluster object as it was at every moment, by one watch: asking over and over would cost the machine what is to be
//! measured.

use std::fmt::Write as _;
use std::io::BufReader;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use understudy_cluster::command::system;
use understudy_tests::local::now_ms;

use crate::space::Space;

const POLL: Duration = Duration::from_millis(10);
/// Before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_millis(200);
/// Older states are forgotten.
const MOST: usize = 20_000;

/// A state of the object, and when it was seen first.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at_ms: u64,
    pub object: Arc<Value>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    child: Mutex<Option<Child>>,
}

pub struct History {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl History {
    /// Of a ReplicatedCluster of this name, whether it is there yet or not.
    ///
    /// # Panics
    /// If there is no thread to be had.
    pub fn of(space: &Space, name: &str) -> History {
        let mut command = system(space.cluster.programs().join("kubectl"));
        command.env("KUBECONFIG", space.cluster.kubeconfig());
        command.env("KUBECACHEDIR", space.cluster.dir().join("helm/kube-cache"));
        command.args(["-n", &space.name, "get", "replicatedcluster", name]);
        command.args(["--watch", "-o", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || follow(command, &told))
            .expect("a thread");
        let noted = Arc::clone(&shared);
        space.note(&format!("history-of-{name}.txt"), move || {
            transitions(&noted.seen.lock())
        });
        History {
            shared,
            thread: Some(thread),
        }
    }

    /// The newest state; null while there is none.
    pub fn object(&self) -> Arc<Value> {
        let seen = self.shared.seen.lock();
        seen.last()
            .map_or_else(|| Arc::new(Value::Null), |last| Arc::clone(&last.object))
    }

    /// All states since a moment.
    pub fn since(&self, at_ms: u64) -> Vec<Seen> {
        let seen = self.shared.seen.lock();
        seen.iter().filter(|s| s.at_ms >= at_ms).cloned().collect()
    }

    /// Waits until the object is so.
    ///
    /// # Panics
    /// After `limit`, with what has happened.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Arc<Value> {
        let begin = Instant::now();
        loop {
            let object = self.object();
            if done(&object) {
                return object;
            }
            assert!(
                begin.elapsed() < limit,
                "{what}: not within {} s\n{}\n{:#}",
                limit.as_secs(),
                self.shown(),
                object["status"]
            );
            std::thread::sleep(POLL);
        }
    }

    /// How the record and the reports have changed of late.
    pub fn shown(&self) -> String {
        let text = transitions(&self.shared.seen.lock());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        end(&mut self.shared.child.lock());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn follow(mut command: Command, shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        if let Ok(mut child) = command.spawn() {
            let output = child.stdout.take();
            *shared.child.lock() = Some(child);
            // Whoever ends this may have looked for the child just before it was there.
            if shared.stop.load(Ordering::SeqCst) {
                end(&mut shared.child.lock());
                return;
            }
            if let Some(output) = output {
                let values = serde_json::Deserializer::from_reader(BufReader::new(output));
                for value in values.into_iter::<Value>() {
                    match value {
                        Ok(value) => push(shared, value),
                        Err(_) => break,
                    }
                }
            }
            end(&mut shared.child.lock());
        }
        std::thread::sleep(PAUSE);
    }
}

fn push(shared: &Shared, object: Value) {
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let mut seen = shared.seen.lock();
    if seen
        .last()
        .is_some_and(|last| version(&last.object) == version(&object))
    {
        return;
    }
    if seen.len() >= MOST {
        seen.drain(..MOST / 2);
    }
    seen.push(Seen {
        at_ms: now_ms(),
        object: Arc::new(object),
    });
}

/// One line for each state that differs in what decides or in what people look at.
fn transitions(seen: &[Seen]) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for state in seen {
        let status = &state.object["status"];
        let sets: Vec<usize> = sets(status)
            .map(|set| set["members"].as_array().map_or(0, Vec::len))
            .collect();
        let condition = |name: &str| {
            let all = status["conditions"].as_array().into_iter().flatten();
            let mut found = all.filter(|c| c["type"] == name);
            found.next().map_or_else(String::new, |c| {
                let part = |key: &str| c[key].as_str().unwrap_or("?").to_owned();
                format!("{name}={} ({})", part("status"), part("reason"))
            })
        };
        let line = format!(
            "term {} {} primary {} candidate {} in sync {sets:?} ready {} {} {}",
            status["term"],
            status["phase"],
            status["primary"]["name"],
            status["candidate"]["name"],
            status["instancesReady"],
            condition("Ready"),
            condition("Degraded"),
        );
        if line != last {
            writeln!(text, "{} {line}", state.at_ms).expect("writing to a string can't fail");
            last = line;
        }
    }
    text
}

/// The in-sync sets of a status, the oldest first.
pub fn sets(status: &Value) -> impl Iterator<Item = &Value> {
    status["inSync"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_changes_are_shown() {
        let state = |at_ms: u64, term: u32, version: u32| Seen {
            at_ms,
            object: Arc::new(json!({
                "metadata": {"resourceVersion": version.to_string()},
                "status": {"term": term, "phase": "Running", "inSync": [{"members": [1, 2]}],
                           "conditions": [{"type": "Ready", "status": "True", "reason": "AllReady"}]},
            })),
        };
        let text = transitions(&[state(1, 1, 1), state(2, 1, 2), state(3, 2, 3)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("1 term 1 \"Running\""), "{text}");
        assert!(lines[1].contains("in sync [2]"), "{text}");
        assert!(lines[1].contains("Ready=True (AllReady)"), "{text}");
    }

    #[test]
    fn a_state_that_is_told_twice_is_one() {
        let shared = Shared::default();
        for version in ["1", "1", "2"] {
            push(&shared, json!({"metadata": {"resourceVersion": version}}));
        }
        assert_eq!(shared.seen.lock().len(), 2);
    }
}
