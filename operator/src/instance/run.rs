//! `understudy-operator instance`: from the volume's folder to a running supervisor.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::http::{self, Desk};
use super::report::nobody_yet;
use super::supervisor::Supervisor;
use super::{Volume, pod, read_config, setup};
use crate::durable::FileLock;
use crate::faults;

/// Runs until SIGTERM or SIGINT, then shuts the engine down. The volume's lock is let go by the end of the process, not
/// by this function's: what works in the background may still touch the volume until then.
///
/// # Errors
/// When a port can't be had; in local mode also when the volume can't be used: its configuration, its promise or its
/// files can't be read or written.
pub async fn run(dir: &Path) -> io::Result<()> {
    match pod::Place::from_environment()? {
        // Where a volume can't be looked at, that is told.
        Some(place) => pod::run(&std::path::absolute(dir)?, place).await,
        None => run_locally(&dir.canonicalize()?).await,
    }
}

async fn run_locally(dir: &Path) -> io::Result<()> {
    let volume = Volume::new(dir);
    std::mem::forget(lock(&volume).await?);
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
    let mut end = End::listen()?;
    tracing::info!(instance = %name, "the supervisor runs");
    supervisor
        .run(receiver, async move { end.asked().await })
        .await
}

/// Signals that ask this process to end. Process 1 has no other answer to them than what it makes itself.
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal of whoever started the cluster may close: that is none of it.
    _hangup: Signal,
}

impl End {
    pub fn listen() -> io::Result<End> {
        Ok(End {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
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
