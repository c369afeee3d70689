//! Recovery's surroundings: where its log comes from, what ends it, what stands in replay's way.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Settings;
use crate::config::recovery_conf::RecoveryMode;
use crate::config::server::ArchiveMode;
use crate::ids::{Lsn, ProcessId, SystemId, Term, TimelineId};
use crate::node::conversion;
use crate::node::core::Core;
use crate::node::managed::Managed;
use crate::node::managed::told::ToldKeeper;
use crate::node::managed::trigger::triggers;
use crate::recovery::{
    self, ArchiveShell, CommandArchive, Handler, Mode, Outcome, RecoveryError, RecoveryState,
    ReplayConflicts, Startup, StartupConfig, Upstream,
};
use crate::replication::receiver::{Receiver, Standby, UpstreamSettings};
use crate::replication::recovery_link::{self, ReceiverUpstream};
use crate::sql::session::Backends;
use crate::txn::{Interrupts, TxnManager};
use crate::wal::RmgrId;

/// What the receiver asks of its server.
struct NodeStandby {
    settings: Arc<Settings>,
    system_id: SystemId,
    state: Arc<RecoveryState>,
    txns: Arc<TxnManager>,
    managed: Option<Arc<Managed>>,
    told: Arc<ToldKeeper>,
}

impl Standby for NodeStandby {
    fn upstream(&self) -> UpstreamSettings {
        let mut upstream = conversion::upstream(&self.settings.current());
        if self.managed.as_ref().is_some_and(|m| m.is_sealed()) {
            // Asked at each connection, after a request may have raced with the seal.
            upstream.conninfo = None;
        }
        upstream
    }
    fn system_id(&self) -> SystemId {
        self.system_id
    }
    fn promised_term(&self) -> Option<Term> {
        self.managed.as_ref().map(|m| m.promised_term())
    }
    fn replay_lsn(&self) -> watch::Receiver<Lsn> {
        self.txns.release().released_watch()
    }
    fn oldest_snapshot(&self) -> Option<Lsn> {
        Some(self.txns.oldest_needed().lsn)
    }
    fn stream_ended(&self) {
        self.state.wake();
    }
    fn released(&self, timeline: TimelineId, released: Lsn, synchronous: bool) {
        self.told.told(timeline, released, synchronous);
    }
}

/// A standby's receiver; a server that begins as a primary has none.
pub fn start_receiver(
    settings: &Arc<Settings>,
    core: &Core,
    managed: Option<&Arc<Managed>>,
) -> anyhow::Result<Option<Arc<Receiver>>> {
    if settings.recovery_request().mode != RecoveryMode::Standby {
        return Ok(None);
    }
    let standby = Arc::new(NodeStandby {
        settings: Arc::clone(settings),
        system_id: core.store.control.get().system_id,
        state: Arc::clone(&core.state),
        txns: Arc::clone(&core.txns),
        managed: managed.cloned(),
        told: Arc::clone(&core.told),
    });
    let archives_too = settings.current().archive_mode == ArchiveMode::Always;
    let received = recovery_link::received_wal(&core.store.wal, &core.state, archives_too);
    Ok(Some(Arc::new(Receiver::spawn(standby, received)?)))
}

/// Its thread's last word.
pub type Recovering = tokio::sync::oneshot::Receiver<Result<Outcome, RecoveryError>>;

/// Starts the thread that replays, to the end of the log or until a promotion.
pub fn start_recovery(
    settings: &Arc<Settings>,
    core: &Core,
    managed: Option<&Arc<Managed>>,
    receiver: Option<Arc<Receiver>>,
    backends: &Arc<Backends>,
) -> anyhow::Result<Recovering> {
    let current = settings.current();
    let request = settings.recovery_request();
    let mode = match request.mode {
        RecoveryMode::None => Mode::Primary,
        RecoveryMode::Standby => Mode::Standby,
        RecoveryMode::Archive => Mode::Archive,
    };
    let parameters = core.store.control.get().parameters;
    let startup = Startup::new(StartupConfig {
        store: Arc::clone(&core.store),
        redo: redo(settings, core, backends),
        participant: Arc::clone(&core.participant),
        state: Arc::clone(&core.state),
        mode,
        request_file: request.file,
        settings: conversion::recovery(&current, parameters),
        archive: Some(archive(
            settings,
            &core.state,
            current.data_directory.clone(),
        )),
        upstream: receiver.map(|receiver| upstream(settings, managed, receiver)),
        trigger: Some(triggers(settings, managed)),
    });
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("startup".to_owned())
        .spawn(move || {
            // Nobody listens any more only while the server ends.
            let _ = tell.send(startup.run());
        })?;
    Ok(told)
}

/// The receiver as recovery drives it.
fn upstream(
    settings: &Arc<Settings>,
    managed: Option<&Arc<Managed>>,
    receiver: Arc<Receiver>,
) -> Arc<dyn Upstream> {
    let (settings, managed) = (Arc::clone(settings), managed.cloned());
    let configured = Box::new(move || {
        let sealed = managed.as_ref().is_some_and(|m| m.is_sealed());
        !sealed && settings.current().primary_conninfo.is_some()
    });
    Arc::new(ReceiverUpstream::new(receiver, configured))
}

fn archive(
    settings: &Arc<Settings>,
    state: &Arc<RecoveryState>,
    data_directory: PathBuf,
) -> Arc<dyn ArchiveShell> {
    let (settings, state) = (Arc::clone(settings), Arc::clone(state));
    Arc::new(CommandArchive::new(
        data_directory,
        Arc::new(move || settings.current().restore_command.clone()),
        Arc::new(move || state.stop_requested()),
    ))
}

pub(super) fn redo(
    settings: &Arc<Settings>,
    core: &Core,
    backends: &Arc<Backends>,
) -> recovery::RedoTable {
    let settings = Arc::clone(settings);
    let backends = Arc::clone(backends);
    let conflicts = ReplayConflicts {
        state: Arc::clone(&core.state),
        startup: Interrupts::new(ProcessId::MIN),
        delay: Arc::new(move |streaming| {
            let current = settings.current();
            if streaming {
                current.max_standby_streaming_delay
            } else {
                current.max_standby_archive_delay
            }
        }),
        is_in: Arc::new(move |session, database| {
            backends.all().iter().any(|b| {
                b.database == database && std::ptr::eq(Arc::as_ptr(&b.interrupts), session)
            })
        }),
    };
    recovery::redo_table(&core.txns, &conflicts)
        .with(RmgrId::BTREE, Handler::pages(crate::index::page_fn()))
        .with(
            RmgrId::SEQUENCE,
            Handler::pages(crate::table::sequence::page_fn()),
        )
}
