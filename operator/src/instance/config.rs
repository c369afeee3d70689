//! What an instance is told when it starts: `instance.json` on its volume, written by the operator.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::decide::Seed;
use crate::durable;
use crate::ids::Term;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceConfig {
    pub cluster: String,
    pub cluster_id: String,
    pub name: String,
    /// The supervisor's HTTP port, on loopback.
    pub control_port: u16,
    /// The engine's ports, on loopback.
    pub port: u16,
    pub http_port: u16,
    /// The Service that leads to the primary.
    pub service_port: u16,
    /// Who calls must know what is in this file.
    pub token_file: PathBuf,
    /// The engine's program.
    pub engine: PathBuf,
    /// How to get data if the volume never had any.
    pub seed: Seed,
    /// The term in which the instance was made: the least that it may promise.
    pub term: Term,
    pub storage_bytes: u64,
    /// `spec.parameters`, validated.
    pub parameters: BTreeMap<String, String>,
}

/// # Errors
/// When the file is missing, unreadable or not what [`write_config`] wrote.
pub fn read_config(path: &Path) -> io::Result<InstanceConfig> {
    let remedy = "restore it, or move the instance's folder away so that the operator makes the instance anew";
    durable::read_json(path, remedy)?.ok_or_else(|| {
        let text = format!("{} is missing; {remedy}", path.display());
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// # Errors
/// When the file can't be replaced.
pub fn write_config(path: &Path, config: &InstanceConfig) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(config).map_err(io::Error::other)?;
    durable::replace(path, &bytes)
}
