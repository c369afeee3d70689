//! A server: the order in which its parts start, and what it is told while it runs.
//!
//! Start: log and pages, walreceiver (a standby's), recovery on a thread of its own, sessions' runtime, listener.
//! Clients may knock from the first moment; until recovery lets them in they are told why not. `shutdown` has the
//! order in which everything ends.

use std::mem::ManuallyDrop;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::config::recovery_conf::RecoveryMode;
use crate::config::session::Level;
use crate::config::value::Value;
use crate::config::{ServerSettings, Settings};
use crate::ids::Lsn;
use crate::instance::Instance;
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::node::conversion;
use crate::node::core::{Core, CoreConfig};
use crate::node::host::NodeHost;
use crate::node::managed::doors::{DoorParts, Doors};
use crate::node::managed::told;
use crate::node::managed::{self, Managed, StartError};
use crate::node::services::NodeServices;
use crate::node::shutdown;
use crate::node::standby::{self, Recovering};
use crate::node::walsender::NodeReplication;
use crate::recovery::{
    Archiver, Backups, CheckpointKind, Outcome, OutcomeKind, Phase, RecoveryError, Retention,
};
use crate::replication::clock::now_micros;
use crate::replication::receiver::{Receiver, State};
use crate::replication::slots::Slots;
use crate::replication::standbys::Standbys;
use crate::server::cli::ServerStart;
use crate::server::cli::pid_file::{PidFile, State as PidState};
use crate::server::cli::signals::{Events, ServerEvent, promote_file};
use crate::server::listener::{Listeners, Server};
use crate::server::log;
use crate::sql::exec::remove_temporary_files;
use crate::sql::maintenance::Autovacuum;
use crate::sql::session::Backends;
use crate::storage::ControlFile;
use crate::table::sequence::Sequences;
use crate::tls::server::ServerTls;
use crate::txn::{Interrupt, TxnConfig};

pub(super) const SHUT_DOWN: u8 = 0;
pub(super) const REFUSED: u8 = 1;
pub(super) const CRASHED: u8 = 2;
/// Only a worker that is stuck in a statement could delay the listening task's end.
const FREE_PORTS_WITHIN: Duration = Duration::from_secs(1);

/// Runs until it is told to stop. Does not return: it ends the process with the exit code.
pub fn serve(start: ServerStart) -> u8 {
    let ServerStart {
        settings,
        pid_file,
        mut events,
        listeners,
        tls,
    } = start;
    let code = match run(&settings, &pid_file, &mut events, listeners, tls) {
        Ok(code) => code,
        Err(error) => {
            log::fatal(&format!("{error:#}"));
            match error.downcast_ref() {
                Some(StartError::Deposed { .. }) => managed::DEPOSED,
                _ => REFUSED,
            }
        }
    };
    if let Some(path) = &settings.current().external_pid_file {
        // As stale as any that a crash leaves.
        let _ = std::fs::remove_file(path);
    }
    pid_file.leave();
    // What still runs (after an immediate stop everything, after a start that failed half-way recovery) ends here, and only
    // then is the directory another's.
    std::process::exit(i32::from(code))
}

/// What checkpoints must keep the log for.
pub(super) struct Keep {
    settings: Arc<Settings>,
    backends: Arc<Backends>,
    slots: Arc<Slots>,
    backups: Mutex<Option<Arc<Backups>>>,
    /// Set by a shutdown: its checkpoint must leave what standbys are still to get.
    streams: Mutex<Option<Arc<Standbys>>>,
}

impl Keep {
    pub(super) fn also_for_streams(&self, standbys: &Arc<Standbys>) {
        *self.streams.lock() = Some(Arc::clone(standbys));
    }
}

impl Retention for Keep {
    fn keep_from(&self, end: Lsn) -> Option<Lsn> {
        let most = self.settings.current().max_slot_wal_keep_size;
        let slots = self.slots.oldest().map(|oldest| match most {
            Some(bytes) => oldest.max(Lsn::new(end.raw().saturating_sub(bytes))),
            None => oldest,
        });
        let backups = self.backups.lock().as_ref().and_then(|b| b.keep_from());
        let streams = self.streams.lock().as_ref().and_then(|standbys| {
            let rows = standbys.rows().into_iter();
            rows.filter(shutdown::streams).map(|row| row.sent).min()
        });
        [slots, backups, streams].into_iter().flatten().min()
    }

    /// `max_slot_wal_keep_size`: a slot that asks for more loses its log, and its session ends, as PostgreSQL's do.
    fn goes_below(&self, from: Lsn) {
        if self.settings.current().max_slot_wal_keep_size.is_none() {
            // What is asked for is kept; a slot that is being made may not have asked yet.
            return;
        }
        for lost in self.slots.lose_below(from) {
            let (name, owner, at) = (lost.name, lost.owner, lost.restart);
            log::log(&format!(
                "terminating process {owner} to release replication slot \"{name}\""
            ));
            log::log(&format!(
                "invalidating slot \"{name}\" because its restart_lsn {at} exceeds max_slot_wal_keep_size"
            ));
            if let Some(backend) = self.backends.get(owner) {
                backend.interrupts.raise(Interrupt::Terminate);
            }
        }
    }
}

/// The running parts, until the process ends.
pub(super) struct Node {
    pub settings: Arc<Settings>,
    pub core: Core,
    pub instance: Arc<Instance>,
    pub archiver: Arc<Archiver>,
    pub keep: Arc<Keep>,
    pub backends: Arc<Backends>,
    pub host: Arc<NodeHost>,
    pub managed: Option<Arc<Managed>>,
    pub autovacuum: Arc<Mutex<Autovacuum>>,
    /// True: the last record is written, walsenders end.
    pub tell_senders: watch::Sender<bool>,
}

/// From the start to the last word; gives the exit code. Threads may still run.
fn run(
    settings: &Arc<Settings>,
    pid_file: &PidFile,
    events: &mut Events,
    listeners: Listeners,
    tls: Option<ServerTls>,
) -> anyhow::Result<u8> {
    allow_open_files();
    forget_promotion(settings);
    // Never taken apart: whoever waited for its threads might wait for one that hangs.
    let node = ManuallyDrop::new(Node::assemble(Arc::clone(settings))?);
    // A pg_hba.conf that stops the start stops it before anything is recovered.
    let server =
        Server::new(Arc::clone(&node.host), tls).map_err(|c| anyhow::anyhow!(c.message.clone()))?;
    let recovering = standby::start_recovery(
        &node.settings,
        &node.core,
        node.managed.as_ref(),
        node.instance.receiver.clone(),
        &node.backends,
    )?;
    let runtime = session_runtime(&node.settings)?;
    let listens = Arc::clone(&server);
    let doors = Doors::open(DoorParts {
        instance: Arc::clone(&node.instance),
        backends: Arc::clone(&node.backends),
        managed: node.managed.clone(),
        told: Arc::clone(&node.core.told),
        sessions: runtime.handle().clone(),
        listen: Arc::new(move || listens.listen().map_err(|c| c.message)),
    })?;
    let listening = runtime.spawn(Arc::clone(&server).serve(listeners));
    let code = runtime.block_on(node.live(recovering, events, pid_file, &server));
    listening.abort();
    // Before the pid file goes: whoever waits for that may start the next server on the same port at once.
    let freed = async { tokio::time::timeout(FREE_PORTS_WITHIN, listening).await };
    let _ = runtime.block_on(freed);
    doors.close();
    runtime.shutdown_background();
    Ok(code)
}

/// Every session is a descriptor of this one process: what the administrator allows at most is taken, not the usual 1,024.
fn allow_open_files() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        tracing::debug!(%error, "could not raise the limit of open files");
    }
}

/// A request to promote is for a server that runs. What lies here before a start was left by one that ended before it
/// saw it, or came with a copy of another's directory. (A managed instance refuses it, as any.)
fn forget_promotion(settings: &Settings) {
    let current = settings.current();
    if current.promise_file.is_some() {
        return;
    }
    let path = promote_file(&current.data_directory);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("could not remove file \"{}\": {error}", path.display());
    }
}

/// Threads for blocking work beside those that waiting functions keep.
const BLOCKING_THREADS: usize = 512;
/// Of each thread that runs statements: enough for the deepest tree that the parser makes (`sql/front/parser/cursor.rs`),
/// also as the frames of an unoptimised build are. Only what has been touched takes memory.
const STACK_BYTES: usize = 64 << 20;

fn session_runtime(settings: &Settings) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(conversion::workers(&settings.current()))
        // A function that waits (an advisory lock, pg_sleep) keeps a thread; each session may.
        .max_blocking_threads(BLOCKING_THREADS + settings.current().max_connections)
        .thread_name("worker")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
}

impl Node {
    /// Everything that stands before recovery begins.
    fn assemble(settings: Arc<Settings>) -> anyhow::Result<Node> {
        let disk: DiskRef = Arc::new(RealDisk::new(&settings.current().data_directory));
        let control = ControlFile::open(Arc::clone(&disk))?;
        remove_temporary_files(&*disk);
        compute_settings(&settings, &control);
        let current = settings.current();
        check_wal_sizes(&current, control.get().wal_segment_size)?;
        let slots = Slots::new(current.max_replication_slots);
        let backends = Backends::new();
        let keep = Arc::new(Keep {
            settings: Arc::clone(&settings),
            backends: Arc::clone(&backends),
            slots: Arc::clone(&slots),
            backups: Mutex::default(),
            streams: Mutex::default(),
        });
        let retention = Arc::clone(&keep) as Arc<dyn Retention>;
        let core = open_core(&settings, disk, control, retention)?;
        let known = core.store.control.get();
        let as_primary = settings.recovery_request().mode == RecoveryMode::None;
        let managed = Managed::start(&settings, &known, as_primary, &core.txns)?;
        let receiver = standby::start_receiver(&settings, &core, managed.as_ref())?;
        let instance = instance(&settings, &core, slots, receiver);
        *keep.backups.lock() = Some(Arc::clone(&instance.backups));
        let for_archiver = Arc::clone(&settings);
        let archiver = Archiver::start(
            Arc::clone(&core.store.wal),
            Arc::clone(&core.state),
            current.data_directory.clone(),
            Arc::new(move || conversion::archiver(&for_archiver.current())),
        )?;
        let autovacuum = Autovacuum::start(Arc::clone(&instance), backends.new_pid())?;
        let (tell_senders, shutting_down) = watch::channel(false);
        let host = Arc::new(NodeHost {
            services: Arc::new(NodeServices {
                instance: Arc::clone(&instance),
                backends: Arc::clone(&backends),
            }),
            replication: Arc::new(NodeReplication {
                instance: Arc::clone(&instance),
                managed: managed.clone(),
                shutting_down,
                closing: AtomicBool::new(false),
            }),
            stopping: Mutex::default(),
        });
        Ok(Node {
            settings,
            core,
            instance,
            archiver: Arc::new(archiver),
            keep,
            backends,
            host,
            managed,
            autovacuum: Arc::new(Mutex::new(autovacuum)),
            tell_senders,
        })
    }

    /// From the first signal to the last; gives the exit code.
    async fn live(
        &self,
        mut recovering: Recovering,
        events: &mut Events,
        pid_file: &PidFile,
        server: &Arc<Server<NodeHost>>,
    ) -> u8 {
        let announced = announce(self.core.state.phase_watch(), pid_file, &self.settings);
        tokio::pin!(announced);
        let mut recovered = false;
        loop {
            tokio::select! {
                () = &mut announced => unreachable!("it waits for ever"),
                ended = &mut recovering, if !recovered => {
                    recovered = true;
                    if let Some(code) = self.recovered(ended) {
                        return code;
                    }
                }
                event = events.recv() => match event {
                    None => return CRASHED,
                    Some(ServerEvent::Reload) => self.reload(server),
                    Some(ServerEvent::CheckPromote) => self.core.state.wake(),
                    Some(ServerEvent::Shutdown(mode)) => {
                        let recovering = (!recovered).then_some(recovering);
                        return shutdown::run(self, mode, recovering, events, pid_file).await;
                    }
                },
            }
        }
    }

    /// Recovery's thread has ended; `Some` is the exit code of a server that can't go on.
    pub(super) fn recovered(
        &self,
        ended: Result<Result<Outcome, RecoveryError>, tokio::sync::oneshot::error::RecvError>,
    ) -> Option<u8> {
        match ended {
            Ok(Ok(outcome)) => {
                if outcome.kind != OutcomeKind::Clean {
                    // Replay must not begin that far back again.
                    self.core.checkpointer.request(CheckpointKind::Immediate);
                    if let Err(error) = self.core.orphans.remove(&self.core.catalog) {
                        tracing::warn!(%error, "could not remove directories of databases that are gone");
                    }
                }
                None
            }
            Ok(Err(RecoveryError::Interrupted)) => None,
            Ok(Err(error)) => {
                log::fatal(&error.to_string());
                if let Some(hint) = error.hint() {
                    log::log(&format!("HINT:  {hint}"));
                }
                Some(REFUSED)
            }
            Err(_) => Some(CRASHED),
        }
    }

    fn reload(&self, server: &Arc<Server<NodeHost>>) {
        log::log("received SIGHUP, reloading configuration files");
        let before = self.settings.current();
        let report = self.settings.reload();
        for removed in &report.removed {
            log::log(removed);
        }
        for complaint in report.errors.iter().chain(&report.notes) {
            log::complaint(Level::Log, complaint);
        }
        for change in report.changes.iter().chain(&report.summary) {
            log::log(change);
        }
        let current = self.settings.current();
        log::configure(&current);
        self.core
            .txns
            .set_disk_full(current.values.bool("understudy.disk_full"));
        if self.managed.is_none() {
            let release = self.core.txns.release();
            release.set_policy(conversion::release_policy(&current));
        }
        self.core
            .store
            .wal
            .set_full_page_writes(current.full_page_writes);
        server.reload();
        self.archiver.wake();
        if conversion::receives_otherwise(&before, &current) {
            self.stream_anew();
        }
        self.core.state.wake();
    }

    /// Ends a stream that was begun under other settings; recovery begins another one at once.
    fn stream_anew(&self) {
        let receiver = self.instance.receiver.as_ref();
        let Some(receiver) = receiver.filter(|_| self.core.state.in_recovery()) else {
            return;
        };
        if matches!(receiver.state(), State::Connecting | State::Streaming) {
            log::log("WAL receiver process shutdown requested");
        }
        let (receiver, state) = (Arc::clone(receiver), Arc::clone(&self.core.state));
        tokio::spawn(async move {
            receiver.stop().await;
            state.nudge();
        });
    }
}

/// What is decided by the data directory rather than by a file of settings.
fn compute_settings(settings: &Settings, control: &ControlFile) {
    let control = control.get();
    let size = i32::try_from(control.wal_segment_size).unwrap_or(i32::MAX);
    settings.compute("wal_segment_size", Value::Integer(size));
    settings.compute("data_checksums", Value::Bool(control.checksums));
    let directory = settings.current().data_directory.clone();
    if let Ok(known) = std::fs::metadata(directory) {
        let mode = i32::try_from(known.permissions().mode() & 0o777).unwrap_or(0);
        settings.compute("data_directory_mode", Value::Integer(mode));
    }
}

/// The segments' size stands in the control file, so this is known only now.
fn check_wal_sizes(current: &ServerSettings, segment: u32) -> anyhow::Result<()> {
    for (name, bytes) in [
        ("min_wal_size", current.min_wal_size),
        ("max_wal_size", current.max_wal_size),
    ] {
        anyhow::ensure!(
            bytes >= 2 * u64::from(segment),
            "\"{name}\" must be at least twice \"wal_segment_size\""
        );
    }
    Ok(())
}

fn open_core(
    settings: &Arc<Settings>,
    disk: DiskRef,
    control: ControlFile,
    retention: Arc<dyn Retention>,
) -> anyhow::Result<Core> {
    let current = settings.current();
    let known = control.get();
    let for_checkpoints = Arc::clone(settings);
    let told = told::at_start(settings, &disk)?;
    let core = Core::open(
        disk,
        control,
        CoreConfig {
            frames: current.shared_buffers,
            wal: conversion::wal(&current, known.system_id, known.wal_segment_size),
            txn: TxnConfig::default(),
            checkpoints: Arc::new(move || conversion::checkpoints(&for_checkpoints.current())),
            retention,
            told,
        },
    )?;
    core.txns
        .set_disk_full(current.values.bool("understudy.disk_full"));
    if current.promise_file.is_none() {
        let release = core.txns.release();
        release.set_policy(conversion::release_policy(&current));
    }
    Ok(core)
}

fn instance(
    settings: &Arc<Settings>,
    core: &Core,
    slots: Arc<Slots>,
    receiver: Option<Arc<Receiver>>,
) -> Arc<Instance> {
    let senders = settings.current().max_wal_senders;
    Arc::new(Instance {
        settings: Arc::clone(settings),
        store: Arc::clone(&core.store),
        txns: Arc::clone(&core.txns),
        catalog: Arc::clone(&core.catalog),
        oids: Arc::clone(&core.oids),
        state: Arc::clone(&core.state),
        checkpointer: Arc::clone(&core.checkpointer),
        backups: Arc::new(Backups::new(
            Arc::clone(&core.store),
            Arc::clone(&core.state),
            Arc::clone(&core.checkpointer),
        )),
        standbys: Standbys::new(senders, Arc::clone(&core.txns)),
        slots,
        sequences: Arc::new(Sequences::default()),
        receiver,
        system_id: core.store.control.get().system_id,
        changes: Arc::default(),
        started_at: now_micros(),
    })
}

/// Says in the log and in `postmaster.pid` how far the server is. Never returns.
async fn announce(mut phase: watch::Receiver<Phase>, pid_file: &PidFile, settings: &Settings) {
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Starting | Phase::Replaying => {}
            Phase::Consistent => {
                settings.compute("in_hot_standby", Value::Bool(true));
                log::log("database system is ready to accept read-only connections");
                pid_file.set_state(PidState::Standby);
            }
            Phase::Writing => {
                settings.compute("in_hot_standby", Value::Bool(false));
                log::log("database system is ready to accept connections");
                pid_file.set_state(PidState::Ready);
            }
        }
        if phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
