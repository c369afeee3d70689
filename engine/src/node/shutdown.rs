//! How a server ends: no new sessions, sessions end, recovery's thread ends, walsenders that do not stream end, the
//! shutdown checkpoint, standbys get the log up to its end, the archiver has its last look, the log stops.
//!
//! Invariant: whoever could log something has gone before the shutdown checkpoint begins, because nothing may stand
//! behind it. A standby that streams has its record when the server is gone, so that either may be the next primary.
//! A harder request hurries at any point; an immediate one leaves everything as a crash would.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::node::server::{CRASHED, Node, SHUT_DOWN};
use crate::node::standby::Recovering;
use crate::recovery::Phase;
use crate::replication::standbys::{SenderState, StandbyRow};
use crate::server::cli::pid_file::{PidFile, State as PidState};
use crate::server::cli::signals::{Events, ServerEvent, ShutdownMode};
use crate::server::log;
use crate::sql::session::backends::{Backend, BackendKind};
use crate::txn::Interrupt;

/// How often it is looked whether a session has gone.
const POLL: Duration = Duration::from_millis(5);

/// What a step was waiting for, or a harder request.
enum Waited<T> {
    Done(T),
    Immediate,
}

/// Gives the exit code.
pub(super) async fn run(
    node: &Node,
    mode: ShutdownMode,
    recovering: Option<Recovering>,
    events: &mut Events,
    pid_file: &PidFile,
) -> u8 {
    pid_file.set_state(PidState::Stopping);
    if let Waited::Immediate = end_sessions(node, mode, events).await {
        return at_once();
    }
    node.core.state.request_stop();
    if let Some(recovering) = recovering {
        match unless_immediate(events, recovering).await {
            Waited::Immediate => return at_once(),
            Waited::Done(ended) => {
                if let Some(code) = node.recovered(ended) {
                    return code;
                }
            }
        }
    }
    if let Some(receiver) = &node.instance.receiver {
        receiver.quit();
    }
    if let Waited::Immediate = unless_immediate(events, only_streams(node)).await {
        return at_once();
    }
    node.autovacuum.lock().stop();
    node.archiver.stop_switching();
    node.keep.also_for_streams(&node.instance.standbys);
    log::log("shutting down");
    if let Err(error) = node.instance.backups.cancel_exclusive() {
        log::log(&error.to_string());
    }
    if let Err(reason) = last_checkpoint(node).await {
        log::fatal(&reason);
        return CRASHED;
    }
    let _ = node.tell_senders.send(true);
    if let Waited::Immediate = unless_immediate(events, gone(node, BackendKind::WalSender)).await {
        return at_once();
    }
    node.archiver.stop();
    node.core.store.wal.stop();
    log::log("database system is shut down");
    SHUT_DOWN
}

/// PostgreSQL's server, too, has done what it was told when it leaves its data as a crash would.
fn at_once() -> u8 {
    log::log("database system is shut down");
    SHUT_DOWN
}

async fn end_sessions(node: &Node, mut mode: ShutdownMode, events: &mut Events) -> Waited<()> {
    loop {
        *node.host.stopping.lock() = Some(mode);
        let word = match mode {
            ShutdownMode::Smart => "smart",
            ShutdownMode::Fast => "fast",
            ShutdownMode::Immediate => "immediate",
        };
        log::log(&format!("received {word} shutdown request"));
        if mode == ShutdownMode::Immediate {
            return Waited::Immediate;
        }
        if mode == ShutdownMode::Fast {
            log::log("aborting any active transactions");
            node.backends
                .raise_all(BackendKind::Client, Interrupt::Terminate);
        }
        let sessions_end = gone(node, BackendKind::Client);
        tokio::pin!(sessions_end);
        loop {
            tokio::select! {
                () = &mut sessions_end => return Waited::Done(()),
                Some(event) = events.recv() => {
                    if let ServerEvent::Shutdown(harder) = event
                        && harder > mode
                    {
                        mode = harder;
                        break;
                    }
                }
            }
        }
    }
}

/// Runs a step to its end, unless an immediate shutdown is asked for.
async fn unless_immediate<T>(events: &mut Events, step: impl Future<Output = T>) -> Waited<T> {
    tokio::pin!(step);
    loop {
        tokio::select! {
            done = &mut step => return Waited::Done(done),
            Some(event) = events.recv() => {
                if event == ServerEvent::Shutdown(ShutdownMode::Immediate) {
                    log::log("received immediate shutdown request");
                    return Waited::Immediate;
                }
            }
        }
    }
}

async fn gone(node: &Node, kind: BackendKind) {
    while node.backends.count(kind) > 0 {
        tokio::time::sleep(POLL).await;
    }
}

/// Ends the walsenders that do not stream: a base backup can't be finished any more, and what it logs at its end must
/// not come behind the shutdown checkpoint. Those that stream stay, and are not given another command from here on.
async fn only_streams(node: &Node) {
    node.host.replication.closing.store(true, Ordering::SeqCst);
    loop {
        let others = other_senders(node);
        if others.is_empty() {
            return;
        }
        for backend in others {
            backend.interrupts.raise(Interrupt::Terminate);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a walsender streams; after the end of its stream it would wait for another command.
pub(super) fn streams(row: &StandbyRow) -> bool {
    matches!(row.state, SenderState::Catchup | SenderState::Streaming)
}

fn other_senders(node: &Node) -> Vec<Arc<Backend>> {
    let streaming: Vec<_> = node
        .instance
        .standbys
        .rows()
        .into_iter()
        .filter(streams)
        .map(|row| row.peer.process)
        .collect();
    let mut senders = node.backends.all();
    senders.retain(|b| b.kind == BackendKind::WalSender && !streaming.contains(&b.pid));
    senders
}

/// The shutdown checkpoint, or a standby's last restartpoint. It blocks, so it has a thread of its own.
async fn last_checkpoint(node: &Node) -> Result<(), String> {
    let checkpointer = Arc::clone(&node.core.checkpointer);
    let done = tokio::task::spawn_blocking(move || checkpointer.shutdown()).await;
    match done {
        Ok(made) => made.map_err(|error| error.to_string())?,
        Err(panic) => return Err(panic.to_string()),
    }
    if node.core.state.phase() == Phase::Writing {
        let wal = &node.core.store.wal;
        wal.flushed(wal.end_lsn()).await;
    }
    Ok(())
}
