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
