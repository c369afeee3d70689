//! Getting data: an empty database for the very first instance, a base backup of the primary for every other.
//!
//! A seed is built in `seed.tmp`, which is removed first; only a complete one is renamed. A crash leaves a `seed.tmp`.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::Volume;
use super::setup::{Origin, Setup};
use crate::api::Promise;
use crate::decide::Seed;

#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("could not {0}: {1}")]
    Io(&'static str, #[source] io::Error),
    #[error("{program} failed: {why}")]
    Failed { program: &'static str, why: String },
    #[error("whether to begin with an empty database is not known: {0}")]
    Unjudged(String),
}

impl SeedError {
    /// The programs' words for ENOSPC.
    pub fn is_for_space(&self) -> bool {
        match self {
            SeedError::Failed { why, .. } => why.contains("No space left on device"),
            SeedError::Io(_, error) => error.kind() == io::ErrorKind::StorageFull,
            SeedError::Unjudged(_) => false,
        }
    }
}

/// Makes `seed.tmp` complete, and says how. Dropping the future ends the program that is at work. A volume that had data
/// once never gets an empty database again.
pub async fn seed(
    volume: Volume,
    setup: Setup,
    promise: Promise,
    conninfo: String,
) -> Result<Seed, SeedError> {
    let how = match &setup.origin {
        _ if promise.system_id.is_some() => Seed::Backup,
        Origin::Told(how) => *how,
        Origin::Asked(judge) => judge.seed().await.map_err(SeedError::Unjudged)?,
    };
    let target = volume.seed();
    if target.exists() {
        tokio::fs::remove_dir_all(&target)
            .await
            .map_err(|e| SeedError::Io("remove an old seed", e))?;
    }
    let (program, arguments) = match how {
        Seed::Initdb => ("initdb", initdb(&target, &setup)),
        Seed::Backup => ("basebackup", basebackup(&target, &conninfo, &promise)),
    };
    let log_path = volume.log("seed");
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&log_path)
        .map_err(|e| SeedError::Io("open the seed's log", e))?;
    let output = log
        .try_clone()
        .map_err(|e| SeedError::Io("open the seed's log", e))?;
    let guard = std::env::current_exe().map_err(|e| SeedError::Io("find this program", e))?;
    let mut command = Command::new(guard);
    command
        .arg("instance-guard")
        .arg(std::process::id().to_string())
        .arg(&setup.engine)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log)
        .kill_on_drop(true);
    let status = command
        .status()
        .await
        .map_err(|e| SeedError::Io("run the engine's program", e))?;
    if status.success() {
        // The programs sync what they write; the folder's entry in its parent is synced with its renaming.
        crate::durable::sync_dir(&target).map_err(|e| SeedError::Io("make the seed durable", e))?;
        Ok(how)
    } else {
        let why = std::fs::read_to_string(&log_path).unwrap_or_default();
        let last = why
            .lines()
            .rev()
            .find(|l| !l.trim().is_empty())
            .unwrap_or("no message");
        Err(SeedError::Failed {
            program,
            why: format!("{last} ({status})"),
        })
    }
}

fn initdb(target: &Path, setup: &Setup) -> Vec<String> {
    let target = target.to_string_lossy().into_owned();
    let usual = [
        "-D",
        &target,
        "-U",
        "postgres",
        "--no-locale",
        "--encoding=UTF8",
        "-k",
    ];
    usual
        .map(str::to_owned)
        .into_iter()
        .chain(setup.initdb.iter().cloned())
        .collect()
}

/// The one place that chooses how a base backup is taken: the engine's own client, with `pg_basebackup`'s options.
/// With id and term it refuses a source of a lower term.
fn basebackup(target: &Path, source: &str, promise: &Promise) -> Vec<String> {
    let target = target.to_string_lossy().into_owned();
    let term = promise.promised_term.to_string();
    [
        "-D",
        &target,
        "-d",
        source,
        "-X",
        "fetch",
        "-R",
        "-c",
        "fast",
        "--instance-id",
        promise.instance_id.as_str(),
        "--term",
        &term,
    ]
    .map(str::to_owned)
    .to_vec()
}
