//! A server: the order in which its parts start, what it is told while it runs, the order in which they end.
//!
//! Start: log and pages, walreceiver (a standby's), recovery on a thread of its own, sessions' runtime, listener.
//! Clients may knock from the first moment; until recovery lets them in they are told why not. End: no new
//! sessions, sessions end, the shutdown checkpoint, walsenders drain, the log stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::recovery_conf::RecoveryMode;
use crate::config::server::{ArchiveMode, RecoveryTargetTimeline};
use crate::config::{ServerSettings, Settings};
use crate::ids::{Lsn, ProcessId, TimelineId};
use crate::instance::Instance;
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::node::core::{Core, CoreConfig};
use crate::node::host::NodeHost;
use crate::node::services::NodeServices;
use crate::node::upstream::{NodeStandby, NodeUpstream, SegmentWriter};
use crate::node::walsender::Sender;
use crate::recovery::{
    self, ArchiveShell, Archiver, ArchiverSettings, Backups, CheckpointSettings, CommandArchive,
    FileTrigger, Handler, Mode, Outcome, OutcomeKind, Phase, RecoveryError, RecoverySettings,
    ReplayConflicts, Retention, Startup, StartupConfig, TargetTimeline, Trigger,
};
use crate::replication::clock::now_micros;
use crate::replication::receiver::Receiver;
use crate::replication::slots::Slots;
use crate::replication::standbys::Standbys;
use crate::server::cli::ServerStart;
use crate::server::cli::pid_file::State as PidState;
use crate::server::cli::signals::{PROMOTE_FILE, ServerEvent, ShutdownMode};
use crate::server::listener::Server;
use crate::server::log;
use crate::sql::session::Backends;
use crate::sql::session::backends::BackendKind;
use crate::storage::ControlFile;
use crate::table::sequence::Sequences;
use crate::txn::release::SyncNames;
use crate::txn::{Interrupt, Interrupts, ReleasePolicy, TxnConfig};
use crate::wal::xlog_records::ParameterChange;
use crate::wal::{RmgrId, WalConfig};

const REFUSED: u8 = 1;
const CRASHED: u8 = 2;

/// Runs until it is told to stop; gives the process's exit code.
pub fn serve(start: ServerStart) -> u8 {
    match run(start) {
        Ok(code) => code,
        Err(error) => {
            log::fatal(&format!("{error:#}"));
            REFUSED
        }
    }
}

/// What checkpoints must keep the log for.
struct Keep {
    slots: Arc<Slots>,
    backups: Mutex<Option<Arc<Backups>>>,
}

impl Retention for Keep {
    fn keep_from(&self) -> Option<Lsn> {
        let backups = self.backups.lock().as_ref().and_then(|b| b.keep_from());
        [self.slots.oldest(), backups].into_iter().flatten().min()
    }
}

fn run(start: ServerStart) -> anyhow::Result<u8> {
    let ServerStart {
        settings,
        pid_file,
        mut events,
        listeners,
    } = start;
    let current = settings.current();
    let disk: DiskRef = Arc::new(RealDisk::new(&current.data_directory));
    let control = ControlFile::open(Arc::clone(&disk))?;
    let system_id = control.get().system_id;
    let segment_size = control.get().wal_segment_size;
    let slots = Slots::new(current.max_replication_slots);
    let keep = Arc::new(Keep {
        slots: Arc::clone(&slots),
        backups: Mutex::default(),
    });
    let core = Core::open(
        disk,
        control,
        CoreConfig {
            frames: current.shared_buffers,
            wal: wal_config(&current, system_id, segment_size),
            txn: TxnConfig::default(),
            checkpoints: checkpoint_settings(&settings),
            retention: Arc::clone(&keep) as Arc<dyn Retention>,
            told: None,
        },
    )?;
    apply_release_policy(&core, &current);
    let standbys = Standbys::new(current.max_wal_senders, Arc::clone(&core.txns));
    let receiver = start_receiver(&settings, &core, system_id)?;
    let instance = Arc::new(Instance {
        settings: Arc::clone(&settings),
        store: Arc::clone(&core.store),
        txns: Arc::clone(&core.txns),
        catalog: Arc::clone(&core.catalog),
        oids: Arc::clone(&core.oids),
        state: Arc::clone(&core.state),
        checkpointer: Arc::clone(&core.checkpointer),
        standbys,
        slots,
        sequences: Arc::new(Sequences::default()),
        receiver: receiver.clone(),
        system_id,
        started_at: now_micros(),
    });
    let backups = Arc::new(Backups::new(
        Arc::clone(&core.store),
        Arc::clone(&core.state),
        Arc::clone(&core.checkpointer),
    ));
    *keep.backups.lock() = Some(Arc::clone(&backups));
    let archiver = Archiver::start(
        Arc::clone(&core.store.wal),
        Arc::clone(&core.state),
        current.data_directory.clone(),
        archiver_settings(&settings),
    )?;
    let backends = Backends::new();
    let recovering = start_recovery(&settings, &core, receiver, &backends)?;
    let (tell_senders, shutting_down) = watch::channel(false);
    let sender = Arc::new(Sender {
        instance: Arc::clone(&instance),
        backups,
        shutting_down,
    });
    let services = Arc::new(NodeServices {
        instance: Arc::clone(&instance),
        backends: Arc::clone(&backends),
    });
    let host = Arc::new(NodeHost {
        services,
        sender,
        stopping: Mutex::default(),
    });

    let workers = match current.worker_threads {
        0 => std::thread::available_parallelism()
            .map_or(4, usize::from)
            .max(2),
        n => n,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("worker")
        .enable_all()
        .build()?;
    let server = Server::new(Arc::clone(&host)).map_err(|c| anyhow::anyhow!(c.message.clone()))?;
    let listening = runtime.spawn(Arc::clone(&server).serve(listeners));
    let phase = core.state.phase_watch();
    let code = runtime.block_on(async {
        let announced = announce(phase, &pid_file);
        tokio::pin!(announced);
        let mut recovering = recovering;
        let mut recovered = false;
        loop {
            tokio::select! {
                () = &mut announced => unreachable!("it waits for ever"),
                ended = &mut recovering, if !recovered => {
                    recovered = true;
                    match ended {
                        Ok(Ok(outcome)) => log_outcome(outcome),
                        Ok(Err(RecoveryError::Interrupted)) => {}
                        Ok(Err(error)) => {
                            log::fatal(&error.to_string());
                            if let Some(hint) = error.hint() {
                                log::log(&format!("HINT:  {hint}"));
                            }
                            return REFUSED;
                        }
                        Err(_) => return CRASHED,
                    }
                }
                event = events.recv() => match event {
                    None => return CRASHED,
                    Some(ServerEvent::Reload) => reload(&settings, &core, &server),
                    Some(ServerEvent::CheckPromote) => core.state.wake(),
                    Some(ServerEvent::Shutdown(mode)) => {
                        return shut_down(mode, &host, &backends, &core, &mut events, &pid_file).await;
                    }
                },
            }
        }
    });
    listening.abort();
    if code == 0 {
        let done = core.checkpointer.shutdown();
        if let Err(error) = done {
            log::fatal(&error.to_string());
            return Ok(CRASHED);
        }
        core.store.wal.flush_blocking(core.store.wal.end_lsn());
        let _ = tell_senders.send(true);
        let drained = runtime.block_on(async {
            let gone = async {
                while backends.count(BackendKind::WalSender) > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), gone).await
        });
        if drained.is_err() {
            log::log("walsenders did not end in time");
        }
        archiver.stop();
        core.store.wal.stop();
        log::log("database system is shut down");
    }
    runtime.shutdown_background();
    drop(pid_file);
    Ok(code)
}

fn wal_config(
    current: &ServerSettings,
    system_id: crate::ids::SystemId,
    segment_size: u32,
) -> WalConfig {
    WalConfig {
        segment_size,
        buffers: current.wal_buffers.next_power_of_two(),
        full_page_writes: current.full_page_writes,
        writer_delay: current.wal_writer_delay,
        archiving: current.archive_mode != ArchiveMode::Off,
        ..WalConfig::new(system_id)
    }
}

fn checkpoint_settings(
    settings: &Arc<Settings>,
) -> Arc<dyn Fn() -> CheckpointSettings + Send + Sync> {
    let settings = Arc::clone(settings);
    Arc::new(move || {
        let current = settings.current();
        CheckpointSettings {
            timeout: current.checkpoint_timeout,
            completion_target: current.checkpoint_completion_target,
            max_wal_bytes: current.max_wal_size,
            min_wal_bytes: current.min_wal_size,
            wal_keep_bytes: current.wal_keep_size,
            warning: current.checkpoint_warning.unwrap_or_default(),
            log: current.log_checkpoints,
        }
    })
}

fn archiver_settings(settings: &Arc<Settings>) -> Arc<dyn Fn() -> ArchiverSettings + Send + Sync> {
    let settings = Arc::clone(settings);
    Arc::new(move || {
        let current = settings.current();
        ArchiverSettings {
            command: current.archive_command.clone(),
            timeout: current.archive_timeout.unwrap_or_default(),
            always: current.archive_mode == ArchiveMode::Always,
        }
    })
}

/// Who has to have a commit before it is released: `synchronous_standby_names`.
fn apply_release_policy(core: &Core, current: &ServerSettings) {
    let names = current.values.text("synchronous_standby_names");
    let policy = match SyncNames::parse(&names) {
        Ok(Some(names)) => ReleasePolicy::Names(names),
        // The setting was checked when it was read.
        Ok(None) | Err(_) => ReleasePolicy::Local,
    };
    core.txns.release().set_policy(policy);
}

/// A standby's receiver; a server that begins as a primary has none.
fn start_receiver(
    settings: &Arc<Settings>,
    core: &Core,
    system_id: crate::ids::SystemId,
) -> anyhow::Result<Option<Arc<Receiver>>> {
    if settings.recovery_request().mode != RecoveryMode::Standby {
        return Ok(None);
    }
    let standby = Arc::new(NodeStandby {
        settings: Arc::clone(settings),
        system_id,
        state: Arc::clone(&core.state),
        txns: Arc::clone(&core.txns),
    });
    let writer = SegmentWriter::new(Arc::clone(core.store.wal.segments()));
    Ok(Some(Arc::new(Receiver::spawn(standby, Box::new(writer))?)))
}

/// The trigger file by either of its names, and `pg_ctl promote`'s.
fn triggers(settings: &Arc<Settings>) -> Arc<dyn Trigger> {
    let settings = Arc::clone(settings);
    Arc::new(FileTrigger::new(Arc::new(move || {
        let current = settings.current();
        let promote = current.data_directory.join(PROMOTE_FILE);
        if promote.exists() {
            return Some(promote);
        }
        current
            .promote_trigger_file
            .clone()
            .map(|file| current.data_directory.join(file))
    })))
}

/// What is not a setting of ours stays what `initdb` wrote.
fn logged_parameters(current: &ServerSettings, last: ParameterChange) -> ParameterChange {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    ParameterChange {
        max_connections: number(current.max_connections),
        max_wal_senders: number(current.max_wal_senders),
        wal_level: current.wal_level as i32,
        ..last
    }
}

fn recovery_settings(current: &ServerSettings, last: ParameterChange) -> RecoverySettings {
    RecoverySettings {
        target: match current.recovery_target_timeline {
            RecoveryTargetTimeline::Latest => TargetTimeline::Latest,
            RecoveryTargetTimeline::Current => TargetTimeline::Current,
            RecoveryTargetTimeline::Number(number) => {
                TargetTimeline::Number(TimelineId::new(number))
            }
        },
        retry_interval: current.wal_retrieve_retry_interval,
        hot_standby: current.hot_standby,
        archiving: current.archive_mode != ArchiveMode::Off,
        parameters: Some(logged_parameters(current, last)),
    }
}

type Recovering = tokio::sync::oneshot::Receiver<Result<Outcome, RecoveryError>>;

fn start_recovery(
    settings: &Arc<Settings>,
    core: &Core,
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
    let upstream = match receiver {
        Some(receiver) => {
            let state = Arc::clone(&core.state);
            Some(NodeUpstream::new(Arc::clone(settings), receiver, state)?
                as Arc<dyn recovery::Upstream>)
        }
        None => None,
    };
    let startup = Startup::new(StartupConfig {
        store: Arc::clone(&core.store),
        redo: redo(settings, core, backends),
        participant: Arc::clone(&core.participant),
        state: Arc::clone(&core.state),
        mode,
        request_file: request.file,
        settings: recovery_settings(&current, core.store.control.get().parameters),
        archive: Some(archive(settings, current.data_directory.clone())),
        upstream,
        trigger: Some(triggers(settings)),
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

fn archive(settings: &Arc<Settings>, data_directory: PathBuf) -> Arc<dyn ArchiveShell> {
    let settings = Arc::clone(settings);
    Arc::new(CommandArchive::new(
        data_directory,
        Arc::new(move || settings.current().restore_command.clone()),
    ))
}

fn redo(settings: &Arc<Settings>, core: &Core, backends: &Arc<Backends>) -> recovery::RedoTable {
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

/// Says in the log and in `postmaster.pid` how far the server is. Never returns.
async fn announce(
    mut phase: watch::Receiver<Phase>,
    pid_file: &crate::server::cli::pid_file::PidFile,
) {
    loop {
        match *phase.borrow_and_update() {
            Phase::Starting | Phase::Replaying => {}
            Phase::Consistent => {
                log::log("database system is ready to accept read-only connections");
                pid_file.set_state(PidState::Standby);
            }
            Phase::Writing => {
                log::log("database system is ready to accept connections");
                pid_file.set_state(PidState::Ready);
            }
        }
        if phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn log_outcome(outcome: Outcome) {
    match outcome.kind {
        OutcomeKind::Clean => {}
        OutcomeKind::Crash => log::log(&format!("redo done at {}", outcome.end_of_recovery)),
        OutcomeKind::Promoted => {
            log::log(&format!(
                "archive recovery complete, timeline {}",
                outcome.timeline
            ));
        }
    }
}

fn reload(settings: &Arc<Settings>, core: &Core, server: &Arc<Server<NodeHost>>) {
    log::log("received SIGHUP, reloading configuration files");
    let report = settings.reload();
    for note in &report.notes {
        log::complaint(crate::config::session::Level::Log, note);
    }
    let current = settings.current();
    log::configure(&current);
    apply_release_policy(core, &current);
    core.store
        .wal
        .set_full_page_writes(current.full_page_writes);
    server.reload();
    core.state.wake();
}

/// Ends sessions as the mode says; a second, harder request hurries.
async fn shut_down(
    mut mode: ShutdownMode,
    host: &Arc<NodeHost>,
    backends: &Arc<Backends>,
    core: &Core,
    events: &mut crate::server::cli::signals::Events,
    pid_file: &crate::server::cli::pid_file::PidFile,
) -> u8 {
    loop {
        *host.stopping.lock() = Some(mode);
        let word = match mode {
            ShutdownMode::Smart => "smart",
            ShutdownMode::Fast => "fast",
            ShutdownMode::Immediate => "immediate",
        };
        log::log(&format!("received {word} shutdown request"));
        pid_file.set_state(PidState::Stopping);
        if mode == ShutdownMode::Immediate {
            return CRASHED;
        }
        if mode == ShutdownMode::Fast {
            log::log("aborting any active transactions");
            backends.raise_all(BackendKind::Client, Interrupt::Terminate);
        }
        let sessions_end = async {
            while backends.count(BackendKind::Client) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = sessions_end => break,
            Some(event) = events.recv() => {
                if let ServerEvent::Shutdown(harder) = event {
                    mode = mode.max(harder);
                }
            }
        }
    }
    core.state.request_stop();
    core.state.wake();
    log::log("shutting down");
    0
}
