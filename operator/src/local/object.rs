//! The object: one file that stands for what the API server holds on Kubernetes.
//!
//! It is changed by reading, comparing and renaming under a lock, and carries a `resourceVersion`. Writers say what
//! they expect; who expected something else stops.

use std::io;
use std::path::PathBuf;

use super::ClusterFolder;
use crate::crd::ReplicatedCluster;
use crate::durable::{self, FileLock};

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{}: {source}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {source}; restore it, or remove it and run `local up -f FILE` to rebuild the record from the volumes", .path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "there is no cluster in this folder; start one with `understudy-operator local up -f FILE`"
    )]
    Missing,
    /// Somebody else changed the record first.
    #[error("the record has changed meanwhile")]
    Conflict,
}

#[derive(Clone, Debug)]
pub struct ObjectStore {
    file: PathBuf,
    lock: PathBuf,
}

impl ObjectStore {
    pub fn new(folder: &ClusterFolder) -> ObjectStore {
        ObjectStore {
            file: folder.file("cluster.json"),
            lock: folder.file("cluster.lock"),
        }
    }

    pub fn read(&self) -> Result<Option<ReplicatedCluster>, ObjectError> {
        let Some(bytes) = durable::read(&self.file).map_err(|e| self.io(e))? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ObjectError::Damaged {
                path: self.file.clone(),
                source,
            })
    }

    /// Changes the object under the lock. `change` sees the newest state and may refuse; a change that changes
    /// nothing writes nothing.
    pub fn update(
        &self,
        change: impl FnOnce(Option<ReplicatedCluster>) -> Result<ReplicatedCluster, ObjectError>,
    ) -> Result<ReplicatedCluster, ObjectError> {
        let _lock = FileLock::acquire(&self.lock).map_err(|e| self.io(e))?;
        let old = self.read()?;
        let mut new = change(old.clone())?;
        if old.as_ref() == Some(&new) {
            return Ok(new);
        }
        let version = old
            .and_then(|o| o.metadata.resource_version)
            .and_then(|v| v.parse::<u64>().ok())
            .unwrap_or(0);
        new.metadata.resource_version = Some((version + 1).to_string());
        let bytes = serde_json::to_vec_pretty(&new).map_err(|source| ObjectError::Damaged {
            path: self.file.clone(),
            source,
        })?;
        durable::replace(&self.file, &bytes).map_err(|e| self.io(e))?;
        Ok(new)
    }

    fn io(&self, source: io::Error) -> ObjectError {
        ObjectError::Io {
            path: self.file.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &std::path::Path) -> ObjectStore {
        let store = ObjectStore::new(&ClusterFolder::new(dir));
        let object = serde_json::json!({
            "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
            "metadata": {"name": "orders", "generation": 0}, "spec": {"storage": {"size": "1Gi"}},
        });
        let object = serde_json::from_value(object).expect("an object");
        store.update(|_| Ok(object)).expect("written");
        store
    }

    fn generation(object: &ReplicatedCluster) -> i64 {
        object.metadata.generation.expect("it has one")
    }

    #[test]
    fn every_change_is_made_on_the_newest_state_whoever_else_changes_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(dir.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let store = store.clone();
                scope.spawn(move || {
                    for _ in 0..5 {
                        let changed = store.update(|current| {
                            let mut object = current.ok_or(ObjectError::Missing)?;
                            object.metadata.generation = Some(generation(&object) + 1);
                            Ok(object)
                        });
                        changed.expect("written");
                    }
                });
            }
        });
        let object = store.read().expect("read").expect("it is there");
        assert_eq!(generation(&object), 20);
        assert_eq!(object.metadata.resource_version.as_deref(), Some("21"));
    }

    #[test]
    fn who_expected_something_else_and_who_changes_nothing_writes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(dir.path());
        let before = std::fs::read(dir.path().join("cluster.json")).expect("read");
        let refused = store.update(|_| Err(ObjectError::Conflict));
        assert!(matches!(refused, Err(ObjectError::Conflict)));
        let same = store.update(|current| current.ok_or(ObjectError::Missing));
        assert_eq!(generation(&same.expect("as it was")), 0);
        let after = std::fs::read(dir.path().join("cluster.json")).expect("read");
        assert_eq!(before, after);
    }

    #[test]
    fn a_damaged_file_is_told_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(dir.path());
        let file = dir.path().join("cluster.json");
        std::fs::write(&file, "{\"half\":").expect("written");
        let told = store.update(|_| unreachable!("nobody decides on what can't be read"));
        let told = told.expect_err("it is damaged").to_string();
        assert!(told.contains("cluster.json is damaged"), "{told}");
        assert_eq!(std::fs::read(&file).expect("read"), b"{\"half\":");
    }
}
