//! What the server is told from outside: PostgreSQL's signals, and `pg_ctl promote`'s file.

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Ordered: a later request may only hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// SIGTERM: nobody new, and those who are here may finish.
    Smart,
    /// SIGINT: sessions end now, then a checkpoint.
    Fast,
    /// SIGQUIT: at once; the next start recovers.
    Immediate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    Shutdown(ShutdownMode),
    /// SIGHUP
    Reload,
    /// SIGUSR1: look for the file `promote` in the data directory.
    CheckPromote,
}

/// The file that `pg_ctl promote` leaves.
pub const PROMOTE_FILE: &str = "promote";

/// Receives what the operating system's signals ask for, in order.
pub type Events = UnboundedReceiver<ServerEvent>;

/// Starts the thread that listens. It ends with the process.
pub fn listen() -> std::io::Result<Events> {
    let (sender, receiver) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    // Handlers stand before this returns: a signal that comes at once is not lost.
    let streams = {
        let _guard = runtime.enter();
        [
            (
                signal(SignalKind::terminate())?,
                ServerEvent::Shutdown(ShutdownMode::Smart),
            ),
            (
                signal(SignalKind::interrupt())?,
                ServerEvent::Shutdown(ShutdownMode::Fast),
            ),
            (
                signal(SignalKind::quit())?,
                ServerEvent::Shutdown(ShutdownMode::Immediate),
            ),
            (signal(SignalKind::hangup())?, ServerEvent::Reload),
            (
                signal(SignalKind::user_defined1())?,
                ServerEvent::CheckPromote,
            ),
        ]
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(forward(streams, sender)))?;
    Ok(receiver)
}

async fn forward(streams: [(Signal, ServerEvent); 5], to: UnboundedSender<ServerEvent>) {
    let tasks = streams.map(|(mut stream, event)| {
        let to = to.clone();
        async move { while stream.recv().await.is_some() && to.send(event).is_ok() {} }
    });
    futures::future::join_all(tasks).await;
}

/// Where the promote file is.
pub fn promote_file(data_directory: &std::path::Path) -> PathBuf {
    data_directory.join(PROMOTE_FILE)
}
