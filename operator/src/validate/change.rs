//! What can't be changed once it is there: the twin of the CRD's rules that compare with the stored object.

use std::mem::take;

use super::Invalid;
use super::quantity::bytes;
use crate::crd::{BOOTSTRAP_FAILED, ReplicatedCluster};

/// What is wrong with going from the stored manifest to this one. Each is assumed to be valid by itself.
pub fn validate_change(stored: &ReplicatedCluster, new: &ReplicatedCluster) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let (old, new) = (&stored.spec, &new.spec);
    if let (Some(was), Some(is)) = (bytes(&old.storage.size), bytes(&new.storage.size))
        && is < was
    {
        wrong.push(Invalid::new(
            "spec.storage.size",
            format!(
                "a volume can't shrink from {} to {}",
                old.storage.size, new.storage.size
            ),
            "keep the size or make it larger",
        ));
    }
    if old.storage.class != new.storage.class {
        wrong.push(Invalid::new(
            "spec.storage.class",
            "the class of volumes that exist can't change",
            "leave it as it was, or make a new cluster",
        ));
    }
    let mut was = old.bootstrap.clone().unwrap_or_default();
    let mut is = new.bootstrap.clone().unwrap_or_default();
    let (sql_was, sql_is) = (take(&mut was.sql), take(&mut is.sql));
    if was != is {
        wrong.push(Invalid::new(
            "spec.bootstrap",
            "it was read when the cluster was created and can't change",
            "leave it as it was, and use SQL",
        ));
    }
    let mut conditions = stored.status.iter().flat_map(|status| &status.conditions);
    if sql_was != sql_is && !conditions.any(|c| c.reason == BOOTSTRAP_FAILED) {
        wrong.push(Invalid::new(
            "spec.bootstrap.sql",
            "it runs once and can change only while the condition BootstrapFailed says that it has not",
            "leave it as it was, and use SQL",
        ));
    }
    wrong
}
