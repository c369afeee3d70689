//! Who is connected: process ids, cancel keys, slots, and what `pg_stat_activity` shows.
//!
//! An entry lives from authentication to the end of the connection and goes with its [`Backend`]. Its activity has a
//! lock of its own that only the session and readers of the view take.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::config::session::{Level, SessionSettings, Verbosity};
use crate::ids::{Oid, ProcessId};
use crate::sql::error::{SqlError, state};
use crate::tls::facts::TlsFacts;
use crate::txn::interrupt::{Interrupt, Interrupts};

/// `pg_stat_activity.state`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActivityState {
    #[default]
    Idle,
    Active,
    IdleInTransaction,
    IdleInFailedTransaction,
}

impl ActivityState {
    pub fn name(self) -> &'static str {
        match self {
            ActivityState::Idle => "idle",
            ActivityState::Active => "active",
            ActivityState::IdleInTransaction => "idle in transaction",
            ActivityState::IdleInFailedTransaction => "idle in transaction (aborted)",
        }
    }
}

/// Times are microseconds since 2000-01-01 UTC.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    pub state: ActivityState,
    pub query: String,
    pub query_start: Option<i64>,
    pub state_change: Option<i64>,
    pub transaction_start: Option<i64>,
    pub application_name: Arc<str>,
    /// The command tag of what runs or ran last (`%i` of `log_line_prefix`).
    pub command: &'static str,
    /// `track_activities` is off: `pg_stat_activity` shows nothing of what the session does.
    pub untracked: bool,
}

/// What the session's own settings ask of the server's log; until it has them the server's are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLog {
    /// `log_min_messages`
    pub least: Level,
    /// `log_error_verbosity`
    pub verbosity: Verbosity,
    /// `log_min_error_statement`
    pub least_with_statement: Level,
    /// `log_disconnections`
    pub disconnections: bool,
}

impl SessionLog {
    pub fn of(s: &SessionSettings) -> SessionLog {
        SessionLog {
            least: s.log_min_messages,
            verbosity: s.log_error_verbosity,
            least_with_statement: s.log_min_error_statement,
            disconnections: s.log_disconnections,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    Client,
    WalSender,
}

/// What does not change while the session lives.
#[derive(Debug)]
pub struct Backend {
    pub pid: ProcessId,
    /// What a CancelRequest has to name.
    pub key: u32,
    pub kind: BackendKind,
    pub user: Oid,
    pub user_name: Arc<str>,
    pub superuser: bool,
    /// Invalid for a physical walsender.
    pub database: Oid,
    pub database_name: Arc<str>,
    pub remote: Option<SocketAddr>,
    /// `None`: not encrypted.
    pub tls: Option<Arc<TlsFacts>>,
    pub started: i64,
    pub interrupts: Arc<Interrupts>,
    pub activity: Mutex<Activity>,
    pub log: Mutex<Option<SessionLog>>,
}

/// How many may come in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: usize,
    pub reserved: usize,
    /// Of the database and of the role; negative is none.
    pub database: i32,
    pub role: i32,
}

#[derive(Debug, Default)]
pub struct Backends {
    table: Mutex<HashMap<ProcessId, Arc<Backend>>>,
    next_pid: AtomicU32,
}

/// Takes the entry out of the table when the connection ends.
#[derive(Debug)]
pub struct Place {
    backends: Arc<Backends>,
    pub backend: Arc<Backend>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backends.table.lock().remove(&self.backend.pid);
    }
}

/// Process ids stay in PostgreSQL's range (a positive 32-bit integer, and Linux's largest pid).
const LARGEST_PID: u32 = 1 << 22;

impl Backends {
    pub fn new() -> Arc<Backends> {
        Arc::new(Backends {
            table: Mutex::default(),
            next_pid: AtomicU32::new(std::process::id().wrapping_add(1)),
        })
    }

    /// A process id for a session or a background worker, unlike any in use.
    pub fn new_pid(&self) -> ProcessId {
        loop {
            let n = self.next_pid.fetch_add(1, Ordering::Relaxed) % LARGEST_PID;
            if let Some(pid) = NonZeroU32::new(n)
                && !self.table.lock().contains_key(&pid)
            {
                return pid;
            }
        }
    }

    /// Takes a slot, or says which limit is reached (53300).
    pub fn admit(self: &Arc<Self>, backend: Backend, limits: Limits) -> Result<Place, SqlError> {
        let too_many = |m: String| SqlError::fatal(state::TOO_MANY_CONNECTIONS, m);
        let mut table = self.table.lock();
        if backend.kind == BackendKind::Client {
            let count = |f: &dyn Fn(&Backend) -> bool| {
                table
                    .values()
                    .filter(|b| b.kind == BackendKind::Client && f(b))
                    .count()
            };
            let used = count(&|_| true);
            if used >= limits.connections {
                return Err(too_many("sorry, too many clients already".to_owned()));
            }
            if !backend.superuser && used + limits.reserved >= limits.connections {
                return Err(too_many(
                    "remaining connection slots are reserved for non-replication superuser connections"
                        .to_owned(),
                ));
            }
            let over = |limit: i32, now: usize| usize::try_from(limit).is_ok_and(|l| now >= l);
            if !backend.superuser
                && over(limits.database, count(&|b| b.database == backend.database))
            {
                return Err(too_many(format!(
                    "too many connections for database \"{}\"",
                    backend.database_name
                )));
            }
            if !backend.superuser && over(limits.role, count(&|b| b.user == backend.user)) {
                return Err(too_many(format!(
                    "too many connections for role \"{}\"",
                    backend.user_name
                )));
            }
        }
        let backend = Arc::new(backend);
        table.insert(backend.pid, Arc::clone(&backend));
        Ok(Place {
            backends: Arc::clone(self),
            backend,
        })
    }

    pub fn get(&self, pid: ProcessId) -> Option<Arc<Backend>> {
        self.table.lock().get(&pid).cloned()
    }

    /// Ordered by start.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        let mut all: Vec<_> = self.table.lock().values().cloned().collect();
        all.sort_by_key(|b| (b.started, b.pid));
        all
    }

    pub fn count(&self, kind: BackendKind) -> usize {
        self.table
            .lock()
            .values()
            .filter(|b| b.kind == kind)
            .count()
    }

    /// A CancelRequest. A wrong key is silently nothing, as it must be.
    pub fn cancel(&self, pid: u32, key: u32) -> bool {
        let Some(pid) = NonZeroU32::new(pid) else {
            return false;
        };
        match self.get(pid) {
            Some(b) if b.key == key => {
                b.interrupts.raise(Interrupt::Cancel);
                true
            }
            _ => false,
        }
    }

    /// Raises an interrupt in every session of a kind.
    pub fn raise_all(&self, kind: BackendKind, interrupt: Interrupt) {
        for b in self.table.lock().values().filter(|b| b.kind == kind) {
            b.interrupts.raise(interrupt);
        }
    }
}

impl Backend {
    /// A statement begins. Long texts are cut at `track_activity_query_size`, on a character boundary.
    pub fn begins(&self, query: &str, now: i64, most: usize) {
        let mut a = self.activity.lock();
        a.state = ActivityState::Active;
        a.query_start = Some(now);
        a.state_change = Some(now);
        a.query.clear();
        let mut end = query.len().min(most.saturating_sub(1));
        while !query.is_char_boundary(end) {
            end -= 1;
        }
        a.query.push_str(&query[..end]);
    }

    /// Which statement of a query string it is now.
    pub fn runs(&self, command: &'static str) {
        self.activity.lock().command = command;
    }

    pub fn rests(&self, state: ActivityState, now: i64) {
        let mut a = self.activity.lock();
        a.state = state;
        a.state_change = Some(now);
        if state == ActivityState::Idle {
            a.transaction_start = None;
        }
    }
}
