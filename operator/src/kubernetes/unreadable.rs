//! Telling of cluster objects that can't be read: in the log, as an event on the object, and as its condition `Ready` where
//! the API server takes that.
//!
//! Nothing else is done about such an object or about anything of its cluster: what it asks for nobody knows, and which
//! record it holds nobody knows either. Its databases run on as they are. Written is the object as it was got, with one
//! condition changed and of that very version.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{GetParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::apply::{brief, is_conflict};
use super::cluster::reference;
use super::events::{EventWriter, Unwritten, is_refusal};
use super::guarded::Guarded;
use super::stores::ClusterKey;
use crate::act::Tell as _;
use crate::crd::{ReplicatedCluster, cut};
use crate::ids::Millis;

/// The reason of event and condition.
const UNREADABLE: &str = "ObjectUnreadable";
const CONDITION: &str = "Ready";
/// Characters that a condition's message may have.
const MESSAGE_LIMIT: usize = 1_024;
/// After the first failure to write the condition; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An object that can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub uid: String,
    /// Of what is asked for: the condition says what it is about.
    pub generation: i64,
    pub why: String,
}

impl Found {
    fn is_for_the_same(&self, other: &Found) -> bool {
        (&self.uid, &self.why) == (&other.uid, &other.why)
    }

    fn message(&self) -> String {
        let why = &self.why;
        let message = format!(
            "this operator can't read the object: {why}. What it has runs on as it is: nothing is changed, and nobody \
             takes over, until it can be read. Correct the field (kubectl edit; the status by --subresource=status), or \
             run the operator that wrote it"
        );
        cut(&message, MESSAGE_LIMIT)
    }
}

/// What has been told.
pub(super) struct Complaints {
    client: Client,
    /// This process's name in events.
    me: String,
    told: BTreeMap<ClusterKey, Complaint>,
}

struct Complaint {
    found: Found,
    /// Writes the condition.
    task: JoinHandle<()>,
}

impl Complaints {
    pub fn new(client: Client, me: String) -> Complaints {
        Complaints {
            client,
            me,
            told: BTreeMap::new(),
        }
    }

    /// These are all that can't be read now. Each is told of once, and again when it is another one or for another
    /// reason; the condition also when something else was changed, which it is about as well.
    pub fn follow(&mut self, all: &BTreeMap<ClusterKey, Found>) {
        self.told.retain(|key, _| all.contains_key(key));
        for (key, found) in all {
            let before = self.told.get(key).map(|complaint| &complaint.found);
            if before == Some(found) {
                continue;
            }
            let message = found.message();
            let is_told = before.is_some_and(|before| before.is_for_the_same(found));
            if !is_told {
                let of = reference(key, &found.uid);
                let events = EventWriter::new(&self.client, of, &self.me, Unwritten::default());
                events.tell(UNREADABLE, true, &message);
            }
            let written = write(self.client.clone(), key.clone(), found.uid.clone(), message);
            let complaint = Complaint {
                found: found.clone(),
                task: tokio::spawn(written),
            };
            self.told.insert(key.clone(), complaint);
        }
    }
}

impl Drop for Complaint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tries until the condition is there, is refused, or is not true any more.
async fn write(client: Client, key: ClusterKey, uid: String, message: String) {
    let mut pause = PAUSE;
    loop {
        match try_to_write(&client, &key, &uid, &message).await {
            Ok(()) => return,
            Err(error) if is_refusal(&error) && !is_conflict(&error) => {
                let error = brief(&error);
                tracing::warn!(cluster = %key, %error, "that the object can't be read could not be written into its status");
                return;
            }
            Err(error) => {
                tracing::debug!(cluster = %key, %error, "the status of an object that can't be read could not be written yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn try_to_write(
    client: &Client,
    key: &ClusterKey,
    uid: &str,
    message: &str,
) -> Result<(), kube::Error> {
    let path = ReplicatedCluster::url_path(&(), Some(&key.namespace));
    let requests = Request::new(path);
    let get = requests.get(&key.name, &GetParams::default());
    let get = get.map_err(kube::Error::BuildRequest)?;
    let mut object: Value = client.request(get).await?;
    let is_it = object["metadata"]["uid"] == uid;
    let is_sound = Guarded::<ReplicatedCluster>::of(&object).read().is_ok();
    if !is_it || is_sound || !put_condition(&mut object, message, &Millis::now().rfc3339()) {
        return Ok(());
    }
    let body = object.to_string().into_bytes();
    let put = requests.replace_subresource("status", &key.name, &PostParams::default(), body);
    let put = put.map_err(kube::Error::BuildRequest)?;
    let _: Value = client.request(put).await?;
    Ok(())
}

/// False if the status says it already, or is nothing that has conditions. All else in it stays as it is.
fn put_condition(object: &mut Value, message: &str, now: &str) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    let Some(fields) = object.as_object_mut() else {
        return false;
    };
    let status = fields.entry("status").or_insert(Value::Null);
    if status.is_null() {
        *status = json!({});
    }
    let Some(status) = status.as_object_mut() else {
        return false;
    };
    let mut conditions = match status.get("conditions") {
        Some(Value::Array(conditions)) => conditions.clone(),
        _ => Vec::new(),
    };
    let before = conditions.iter().find(|c| c["type"] == CONDITION);
    let says_it = |c: &Value| {
        let is_of_it = c["observedGeneration"].as_i64() == Some(generation);
        is_of_it && c["reason"] == UNREADABLE && c["message"] == message
    };
    if before.is_some_and(says_it) {
        return false;
    }
    let since = before
        .filter(|c| c["status"] == "False")
        .and_then(|c| c["lastTransitionTime"].as_str())
        .unwrap_or(now);
    let condition = json!({
        "type": CONDITION,
        "status": "False",
        "reason": UNREADABLE,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    });
    conditions.retain(|c| c["type"] != CONDITION);
    conditions.push(condition);
    status.insert("conditions".to_owned(), Value::Array(conditions));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:09Z";

    fn object(status: Value) -> Value {
        json!({"metadata": {"uid": "u", "generation": 4}, "spec": {"replicas": "two"}, "status": status})
    }

    #[test]
    fn one_condition_is_changed_and_everything_else_stays() {
        let protected = json!({"type": "Protected", "status": "True", "odd": [1]});
        let ready = json!({"type": "Ready", "status": "True", "reason": "Serving", "message": "",
                           "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let mut broken =
            object(json!({"term": 3, "phase": "Dreaming", "conditions": [ready, protected]}));
        assert!(put_condition(&mut broken, "no", NOW));
        let said = json!({"type": "Ready", "status": "False", "reason": UNREADABLE, "message": "no",
                          "observedGeneration": 4, "lastTransitionTime": NOW});
        let after =
            object(json!({"term": 3, "phase": "Dreaming", "conditions": [protected, said]}));
        assert_eq!(broken, after);
        assert!(!put_condition(&mut broken, "no", "later"), "it is said");
        assert_eq!(broken, after);
        // In other words, and since the same time.
        assert!(put_condition(&mut broken, "no, again", "later"));
        let now = &broken["status"]["conditions"][1];
        assert_eq!(
            (&now["message"], &now["lastTransitionTime"]),
            (&json!("no, again"), &json!(NOW))
        );
        // Of something newer that can't be read either.
        broken["metadata"]["generation"] = json!(5);
        assert!(put_condition(&mut broken, "no, again", "later"));
        let now = &broken["status"]["conditions"][1];
        assert_eq!(now["observedGeneration"], 5);
        assert!(!put_condition(&mut broken, "no, again", "later"));
    }

    #[test]
    fn only_another_object_or_another_reason_is_told_anew() {
        let of = |uid: &str, generation: i64, why: &str| Found {
            uid: uid.to_owned(),
            generation,
            why: why.to_owned(),
        };
        let first = of("u", 4, "no");
        assert!(first.is_for_the_same(&of("u", 5, "no")));
        assert!(!first.is_for_the_same(&of("u", 4, "never")));
        assert!(!first.is_for_the_same(&of("v", 4, "no")));
    }

    #[test]
    fn a_status_of_any_form_is_no_fault() {
        for status in [Value::Null, json!({}), json!({"conditions": "none"})] {
            let mut broken = object(status);
            assert!(put_condition(&mut broken, "no", NOW));
            assert_eq!(broken["status"]["conditions"][0]["reason"], UNREADABLE);
        }
        for mut hopeless in [object(json!("none")), json!([]), Value::Null] {
            assert!(!put_condition(&mut hopeless, "no", NOW));
        }
    }

    #[test]
    fn the_message_fits_and_says_what_to_do() {
        let of = |why: String| {
            Found {
                uid: "u".to_owned(),
                generation: 1,
                why,
            }
            .message()
        };
        let short = of("spec.replicas: invalid type".to_owned());
        assert!(
            short.contains("spec.replicas") && short.contains("kubectl edit"),
            "{short}"
        );
        assert_eq!(of("x".repeat(5_000)).chars().count(), MESSAGE_LIMIT);
    }
}
