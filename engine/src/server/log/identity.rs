//! What a log line knows of the session it comes from.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::config::session::Level;
use crate::ids::Xid;
use crate::sql::session::backends::{ActivityState, Backend, SessionLog};

/// `%b`; manual, `pg_stat_activity.backend_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendType {
    Postmaster,
    Client,
    WalSender,
    WalReceiver,
    Startup,
    Checkpointer,
    Archiver,
    AutovacuumWorker,
}

impl BackendType {
    pub fn name(self) -> &'static str {
        match self {
            BackendType::Postmaster => "postmaster",
            BackendType::Client => "client backend",
            BackendType::WalSender => "walsender",
            BackendType::WalReceiver => "walreceiver",
            BackendType::Startup => "startup",
            BackendType::Checkpointer => "checkpointer",
            BackendType::Archiver => "archiver",
            BackendType::AutovacuumWorker => "autovacuum worker",
        }
    }
}

/// Names become known while the session starts; the rest is fixed.
#[derive(Debug)]
pub struct SessionIdentity {
    pub pid: u32,
    pub backend_type: BackendType,
    /// `None`: a unix socket.
    pub remote: Option<SocketAddr>,
    pub started: jiff::Timestamp,
    pub names: ArcSwap<Names>,
    /// Once it is admitted.
    pub backend: OnceLock<Arc<Backend>>,
    lines: AtomicU64,
}

#[derive(Debug, Clone, Default)]
pub struct Names {
    pub user: Option<Arc<str>>,
    pub database: Option<Arc<str>>,
    pub application: Option<Arc<str>>,
}

impl SessionIdentity {
    pub fn new(pid: u32, backend_type: BackendType, remote: Option<SocketAddr>) -> SessionIdentity {
        SessionIdentity {
            pid,
            backend_type,
            remote,
            started: jiff::Timestamp::now(),
            names: ArcSwap::from_pointee(Names::default()),
            backend: OnceLock::new(),
            lines: AtomicU64::new(0),
        }
    }

    pub fn change_names(&self, change: impl Fn(&mut Names)) {
        let mut names = Names::clone(&self.names.load());
        change(&mut names);
        self.names.store(Arc::new(names));
    }

    /// The tag of the statement that runs.
    pub(super) fn command(&self) -> &'static str {
        match self.backend.get() {
            Some(backend) => backend.activity.lock().command,
            None => "",
        }
    }

    /// What the session itself asks of the log; `None` until it has settings of its own.
    pub fn log_settings(&self) -> Option<SessionLog> {
        *self.backend.get()?.log.lock()
    }

    /// The statement that runs, if `log_min_error_statement` wants it below a line of this level.
    pub(super) fn statement_for(&self, level: Level) -> Option<String> {
        if level < self.log_settings()?.least_with_statement {
            return None;
        }
        let activity = self.backend.get()?.activity.lock();
        let query = activity.query.whole();
        let runs = activity.state == ActivityState::Active && !query.is_empty();
        runs.then(|| query.to_owned())
    }

    pub(super) fn running_xid(&self) -> Option<Xid> {
        self.backend.get()?.interrupts.running_xid()
    }

    /// `%v`: the session, and which of its transactions runs, 0 for none. Unknown before it is admitted.
    pub(super) fn virtual_transaction(&self) -> Option<String> {
        let backend = self.backend.get()?;
        let number = backend.interrupts.running_number();
        Some(format!("{}/{number}", backend.pid))
    }

    pub(super) fn next_line(&self) -> u64 {
        self.lines.fetch_add(1, Ordering::Relaxed) + 1
    }
}

tokio::task_local! {
    static CURRENT: Arc<SessionIdentity>;
}

/// Runs a session's task with its identity, so that everything it logs carries it.
pub fn identified<F: Future>(
    who: Arc<SessionIdentity>,
    task: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope(who, task)
}

pub(super) fn with_current<R>(f: impl FnOnce(Option<&SessionIdentity>) -> R) -> R {
    let who = CURRENT.try_with(Arc::clone).ok();
    f(who.as_deref())
}

/// The running session has another `application_name` now.
pub fn application_changed(name: &str) {
    with_current(|who| {
        if let Some(who) = who {
            who.change_names(|n| n.application = Some(Arc::from(name)));
        }
    });
}
