//! How long the texts of a status may be: the schema's own bounds.
//!
//! The API server refuses a status as a whole for one text that is too long, and the record with it: a takeover must not
//! fail because an error message is long. Everything that writes a status cuts it here first.

use super::{Condition, HandledRequest, ReplicatedClusterStatus};

const REASON: usize = 128;
const MESSAGE: usize = 1024;
const CAUSE: usize = 256;
const NAME: usize = 63;
const NODE: usize = 253;
const ANNOTATION: usize = 256;
const TIME: usize = 32;
const SELECTOR: usize = 512;

const CONDITIONS: usize = 16;
const INSTANCES: usize = 64;
const REQUESTS: usize = 8;

/// `text`, if it has at most `most` characters (not bytes: so the API server counts), else its beginning and `…`.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin = text.chars().take(most.saturating_sub(1));
    begin.chain(['…']).collect()
}

fn shorten(text: &mut String, most: usize) {
    // A character has at least one byte: short ones are not looked at.
    if text.len() > most {
        *text = cut(text, most);
    }
}

fn shorten_any(text: &mut Option<String>, most: usize) {
    if let Some(text) = text {
        shorten(text, most);
    }
}

impl Condition {
    /// What the schema has room for.
    pub fn keep_within_bounds(&mut self) {
        shorten(&mut self.reason, REASON);
        shorten(&mut self.message, MESSAGE);
        shorten(&mut self.last_transition_time, TIME);
    }
}

impl HandledRequest {
    /// What the schema has room for.
    pub fn keep_within_bounds(&mut self) {
        shorten(&mut self.annotation, ANNOTATION);
        shorten(&mut self.text, MESSAGE);
        shorten_any(&mut self.reason, REASON);
        shorten_any(&mut self.message, MESSAGE);
        shorten_any(&mut self.at, TIME);
    }

    /// Whether this is about an annotation that says `text`, which may be longer than what is kept of it.
    pub fn is_of(&self, text: &str) -> bool {
        self.text == text || self.text == cut(text, MESSAGE)
    }
}

impl ReplicatedClusterStatus {
    /// Leaves of every text and list what the schema has room for.
    pub fn keep_within_bounds(&mut self) {
        self.conditions.truncate(CONDITIONS);
        for condition in &mut self.conditions {
            condition.keep_within_bounds();
        }
        self.instances.truncate(INSTANCES);
        for instance in &mut self.instances {
            shorten_any(&mut instance.message, MESSAGE);
            shorten_any(&mut instance.node, NODE);
        }
        if let Some(change) = &mut self.change {
            shorten(&mut change.cause, CAUSE);
            shorten_any(&mut change.target, MESSAGE);
        }
        let changes = [&mut self.last_failover, &mut self.last_switchover];
        for last in changes.into_iter().flatten() {
            shorten(&mut last.cause, CAUSE);
        }
        self.handled_requests.truncate(REQUESTS);
        for request in &mut self.handled_requests {
            request.keep_within_bounds();
        }
        shorten_any(&mut self.current_primary, NAME);
        shorten_any(&mut self.selector, SELECTOR);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaProps, JSONSchemaPropsOrArray,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::definition;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("ääää", 4), "ääää");
        let cut = cut(&"ä".repeat(40_000), MESSAGE);
        assert_eq!(cut.chars().count(), MESSAGE);
        assert!(cut.ends_with('…'));
    }

    fn schema() -> JSONSchemaProps {
        let version = definition().spec.versions.remove(0);
        let root = version.schema.and_then(|s| s.open_api_v3_schema);
        let mut fields = root.and_then(|root| root.properties).expect("fields");
        fields.remove("status").expect("a status")
    }

    /// What of `value` the schema has no room for.
    fn too_long(value: &Value, schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
        let over = |length: usize, most: Option<i64>| {
            most.is_some_and(|most| i64::try_from(length).unwrap_or(i64::MAX) > most)
        };
        match value {
            Value::String(text) if over(text.chars().count(), schema.max_length) => {
                found.push(path.to_owned());
            }
            Value::Array(items) => {
                if over(items.len(), schema.max_items) {
                    found.push(path.to_owned());
                }
                if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
                    for value in items {
                        too_long(value, item, &format!("{path}[]"), found);
                    }
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let below = schema.properties.as_ref().and_then(|all| all.get(name));
                    let below = below.unwrap_or_else(|| panic!("{path} has no {name}"));
                    too_long(value, below, &format!("{path}.{name}"), found);
                }
            }
            _ => {}
        }
    }

    fn wordy() -> ReplicatedClusterStatus {
        let long = "ä".repeat(40_000);
        let member = json!({"name": "orders-1", "id": "a"});
        let change = json!({"cause": long, "new": "orders-2", "old": "orders-1", "term": 2, "detectedAt": 1,
                            "promotedAt": 1, "writableAt": 1, "seconds": 0.5, "lostBytes": null});
        let condition = json!({"type": "Ready", "status": "False", "reason": long, "message": long,
                               "observedGeneration": 1, "lastTransitionTime": long});
        let instance = json!({"name": "orders-1", "role": "Lost", "ready": false, "inSync": false, "node": long,
                              "message": long});
        let request =
            json!({"annotation": long, "text": long, "reason": long, "message": long, "at": long});
        serde_json::from_value(json!({
            "recordVersion": 1, "term": 2, "phase": "FailingOver", "primary": member,
            "change": {"kind": "Failover", "cause": long, "target": long, "detectedAt": 1},
            "conditions": vec![condition; 20], "instances": vec![instance; 70],
            "handledRequests": vec![request; 9], "lastFailover": change.clone(), "lastSwitchover": change,
            "currentPrimary": long, "selector": long,
        }))
        .expect("a status")
    }

    #[test]
    fn whatever_a_status_says_the_schema_has_room_for_it() {
        let mut status = wordy();
        let before = serde_json::to_value(&status).expect("JSON");
        let mut found = Vec::new();
        too_long(&before, &schema(), "status", &mut found);
        assert!(found.len() > 20, "{found:?}");
        status.keep_within_bounds();
        let after = serde_json::to_value(&status).expect("JSON");
        found.clear();
        too_long(&after, &schema(), "status", &mut found);
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(status.record(), {
            let mut record = wordy().record().expect("a record");
            if let Some(change) = &mut record.change {
                change.cause = cut(&change.cause, CAUSE);
                change.target = change.target.as_deref().map(|text| cut(text, MESSAGE));
            }
            Some(record)
        });
    }

    #[test]
    fn a_request_is_known_by_what_is_kept_of_it() {
        let text = "x".repeat(5_000);
        let mut request = HandledRequest {
            annotation: "a".to_owned(),
            text: text.clone(),
            ..HandledRequest::default()
        };
        request.keep_within_bounds();
        assert!(request.is_of(&text));
        assert!(!request.is_of("x"));
    }
}
