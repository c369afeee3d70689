//! The fingerprint of what a StatefulSet was rendered from: the pin that keeps pods as they are.
//!
//! It is taken of what the user wrote, never of what was made of it: a newer operator that renders differently, or has
//! another default image, finds the fingerprint unchanged and leaves the StatefulSet alone. What was not given is not in
//! it, so that a field that a newer operator knows changes nothing either. `tests.rs` pins some values for ever.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::validate::{FailoverTimes, ValidatedCluster};

/// On each StatefulSet.
pub const ANNOTATION: &str = "understudy.dev/spec-hash";

/// 16 hexadecimal digits.
pub fn fingerprint(cluster: &ValidatedCluster) -> String {
    let mut given = serde_json::to_value(&cluster.pod).expect("pod settings have string keys only");
    // Besides the pod's fields, what its grace period is made of.
    let switchover = cluster.failover.switchover_within_ms;
    if switchover != FailoverTimes::default().switchover_within_ms
        && let Some(fields) = given.as_object_mut()
    {
        fields.insert("switchoverWithinMilliseconds".to_owned(), switchover.into());
    }
    let mut text = String::new();
    canonical(&given, &mut text);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// JSON with sorted keys and no spaces: the same however the types order their fields.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(value, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}
