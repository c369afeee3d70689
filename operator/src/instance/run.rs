//! `understudy-operator instance`: from the volume's folder to a running supervisor.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::http::{self, Desk};
use super::supervisor::{Supervisor, nobody_yet};
use super::{Volume, pod, read_config, setup};
use crate::durable::FileLock;
use crate::faults;

/// Runs until SIGTERM, then shuts the engine down.
///
/// # Errors
/// When the volume can't be used: its configuration, its promise or its files can't be read or written.
pub async fn run(dir: &Path) -> io::Result<()> {
    match pod::Place::from_environment()? {
        Some(place) => pod::run(dir, place).await,
        None => run_locally(dir).await,
    }
}

async fn run_locally(dir: &Path) -> io::Result<()> {
    let volume = Volume::new(dir);
    let _lock = lock(&volume).await?;
    let config = read_config(&volume.config())?;
    faults::name_process(&config.name);
    let token = std::fs::read_to_string(&config.token_file)?
        .trim()
        .to_owned();
    let listener = TcpListener::bind(("127.0.0.1", config.control_port)).await?;
    let name = config.name.clone();
    let supervisor = Supervisor::open(volume, setup::local(config, dir), nobody_yet())?;
    let (sender, receiver) = mpsc::channel(16);
    let desk = Desk {
        commands: sender,
        status: supervisor.subscribe(),
    };
    tokio::spawn(http::serve(listener, desk, token.into()));
    let mut terminate = signal(SignalKind::terminate())?;
    // The terminal of whoever started the cluster may close.
    let _hangup = signal(SignalKind::hangup())?;
    tracing::info!(instance = %name, "the supervisor runs");
    supervisor
        .run(receiver, async move {
            terminate.recv().await;
        })
        .await
}

/// The volume's lock; a second supervisor on the same volume waits, and says so.
async fn lock(volume: &Volume) -> io::Result<FileLock> {
    let mut told = false;
    loop {
        if let Some(lock) = FileLock::try_acquire(&volume.lock())? {
            return Ok(lock);
        }
        if !told {
            tracing::warn!(volume = %volume.dir().display(), "another supervisor holds this volume; waiting for its end");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
