//! The layout of a local cluster's folder.
//!
//! ```text
//! cluster.json    the object: spec, the record and its reports      cluster.lock   held while it is changed
//! local.json      ports, the engine's program, fencing              token          the operator's credential
//! operator.lock   held by the operator for life                     operator.pid   operator.sock operator.log
//! services.json   where the Services lead                           services.lock services.sock services.log
//! events.log      a JSON line for each event
//! instances/NAME  a volume each (instance/volume.rs)                removed/       volumes of removed instances
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::instance::Volume;

/// What the operator was started with; kept so that a later `up` finds the same ports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalSettings {
    /// The primary's Service; the standbys' is the next port, any instance's the one after.
    pub port: u16,
    pub engine: PathBuf,
    pub fencing: bool,
}

#[derive(Clone, Debug)]
pub struct ClusterFolder {
    dir: PathBuf,
}

impl ClusterFolder {
    pub fn new(dir: &Path) -> ClusterFolder {
        ClusterFolder {
            dir: dir.to_path_buf(),
        }
    }
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
    pub fn socket(&self, of: &str) -> PathBuf {
        crate::instance::short_socket(&self.dir.join(format!("{of}.sock")))
    }
    pub fn instances(&self) -> PathBuf {
        self.dir.join("instances")
    }
    pub fn removed(&self) -> PathBuf {
        self.dir.join("removed")
    }
    pub fn volume(&self, instance: &str) -> Volume {
        Volume::new(&self.instances().join(instance))
    }

    /// The instances that have a volume, in order.
    pub fn volumes(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        if !self.instances().is_dir() {
            return Ok(names);
        }
        for entry in std::fs::read_dir(self.instances())? {
            let entry = entry?;
            if entry.path().join("instance.json").exists() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    pub fn settings(&self) -> io::Result<Option<LocalSettings>> {
        let remedy =
            "remove it and run `local up -f FILE --port PORT` with the port that clients know";
        durable::read_json(&self.file("local.json"), remedy)
    }
    pub fn write_settings(&self, settings: &LocalSettings) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(settings).map_err(io::Error::other)?;
        durable::replace(&self.file("local.json"), &bytes)
    }

    /// The credential, made on first use.
    pub fn token(&self) -> io::Result<String> {
        let path = self.file("token");
        if let Some(bytes) = durable::read(&path)? {
            return Ok(String::from_utf8_lossy(&bytes).trim().to_owned());
        }
        let token = uuid::Uuid::new_v4().simple().to_string();
        durable::replace_private(&path, token.as_bytes())?;
        Ok(token)
    }
}
