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
    if let Waited::Immediate = unless_immediate(events, nobody_logs(node)).await {
        return at_once();
    }
    log::log("shutting down");
    match unless_immediate(events, last_checkpoint(node)).await {
        Waited::Immediate => return at_once(),
        Waited::Done(Err(reason)) => {
            log::fatal(&reason);
            return CRASHED;
        }
        Waited::Done(Ok(())) => {}
    }
    let _ = node.tell_senders.send(true);
    if let Waited::Immediate = unless_immediate(events, streams_end(node)).await {
        return at_once();
    }
    let (archiver, wal) = (Arc::clone(&node.archiver), Arc::clone(&node.core.store.wal));
    let last_look = on_a_thread(move || {
        archiver.stop();
        wal.stop();
    });
    match unless_immediate(events, last_look).await {
        Waited::Immediate => return at_once(),
        Waited::Done(Err(panic)) => {
            log::fatal(&panic);
            return CRASHED;
        }
        Waited::Done(Ok(())) => {}
    }
    log::log("database system is shut down");
    SHUT_DOWN
}

/// What blocks has a thread of its own: an immediate request hurries past it.
async fn on_a_thread<T: Send + 'static>(
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(step).await;
    done.map_err(|panic| panic.to_string())
}

/// Ends all that could log something, or receive, but for what streams.
async fn nobody_logs(node: &Node) {
    if let Some(receiver) = node.instance.receiver.clone() {
        // The thread itself has reported a panic.
        let _ = on_a_thread(move || receiver.quit()).await;
    }
    only_streams(node).await;
    let (autovacuum, archiver) = (Arc::clone(&node.autovacuum), Arc::clone(&node.archiver));
    let _ = on_a_thread(move || {
        autovacuum.lock().stop();
        archiver.stop_switching();
    })
    .await;
    node.keep.also_for_streams(&node.instance.standbys);
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

/// Waits until standbys have the log to its end. Whose stream has ended before that (it was on an older timeline, or the
/// client wanted no more) waits for a command that is never begun: it is told to go.
async fn streams_end(node: &Node) {
    while node.backends.count(BackendKind::WalSender) > 0 {
        for backend in other_senders(node) {
            backend.interrupts.raise(Interrupt::Terminate);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a walsender streams; after the end of its stream it would wait for another command.
pub(super) fn streams(row: &StandbyRow) -> bool {
    matches!(
        row.state,
        SenderState::Catchup | SenderState::Streaming | SenderState::Stopping
    )
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
    let backups = Arc::clone(&node.instance.backups);
    let checkpointer = Arc::clone(&node.core.checkpointer);
    let made = on_a_thread(move || {
        if let Err(error) = backups.cancel_exclusive() {
            log::log(&error.to_string());
        }
        checkpointer.shutdown()
    });
    made.await?.map_err(|error| error.to_string())?;
    if node.core.state.phase() == Phase::Writing {
        let wal = &node.core.store.wal;
        wal.flushed(wal.end_lsn()).await;
    }
    Ok(())
}
