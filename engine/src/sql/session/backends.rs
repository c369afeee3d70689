//! Who is connected: process ids, cancel keys, slots, and what `pg_stat_activity` shows.
//!
//! An entry lives from authentication to the end of the connection and goes with its [`Backend`]. Its activity has a
//! lock of its own that only the session and readers of the view take.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use super::client_socket::ClientSocket;
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

/// What a session whose text is longer than that keeps of it while it rests, in bytes.
const KEPT: usize = 8 * 1024;

/// The text of what a session runs or ran last, whole: a prepared statement's own, or a copy of a simple query's. Views
/// show how it begins.
#[derive(Debug, Default)]
pub struct QueryText {
    prepared: Option<Arc<str>>,
    copy: String,
    /// Bytes that views show, up to the end of a character.
    shown: usize,
}

impl QueryText {
    pub fn whole(&self) -> &str {
        self.prepared.as_deref().unwrap_or(&self.copy)
    }

    /// How it begins, as far as `track_activity_query_size` allows.
    pub fn shown(&self) -> &str {
        &self.whole()[..self.shown]
    }

    fn set(&mut self, text: &str, most: usize) {
        self.prepared = None;
        self.copy.clear();
        self.copy.push_str(text);
        self.shown = beginning(text, most);
    }

    /// The messages of a prepared statement come one after the other, and have one text.
    fn hold(&mut self, text: &Arc<str>, most: usize) {
        let has = |held: &Arc<str>| Arc::ptr_eq(held, text);
        if !self.prepared.as_ref().is_some_and(has) {
            self.prepared = Some(Arc::clone(text));
            self.shown = beginning(text, most);
        }
    }

    /// Only views want it from now on.
    fn rest(&mut self) {
        // Its statement is gone, or never came to be.
        let gone = self
            .prepared
            .take_if(|held| held.len() > KEPT && Arc::strong_count(held) == 1);
        if let Some(held) = gone {
            self.copy.clear();
            self.copy.push_str(&held[..self.shown]);
        }
        if self.copy.capacity() > KEPT {
            let wanted = match self.prepared {
                Some(_) => 0,
                None => self.shown,
            };
            self.copy.truncate(wanted);
            self.copy.shrink_to(KEPT);
        }
    }
}

/// So many bytes of a text are less than `most`, and whole characters.
fn beginning(text: &str, most: usize) -> usize {
    let mut end = text.len().min(most.saturating_sub(1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Times are microseconds since 2000-01-01 UTC.
#[derive(Debug, Default)]
pub struct Activity {
    pub state: ActivityState,
    pub query: QueryText,
    pub query_start: Option<i64>,
    pub state_change: Option<i64>,
    pub transaction_start: Option<i64>,
    pub application_name: Arc<str>,
    /// The command tag of what runs or ran last (`%i` of `log_line_prefix`).
    pub command: &'static str,
    /// `track_activities` is off: `pg_stat_activity` shows nothing of what the session does.
    pub untracked: bool,
}

impl Activity {
    /// What views show of it: with `track_activities` off next to nothing.
    pub fn shown(&self) -> Activity {
        let application_name = Arc::clone(&self.application_name);
        if self.untracked {
            return Activity {
                application_name,
                untracked: true,
                ..Activity::default()
            };
        }
        let mut query = QueryText::default();
        query.set(self.query.shown(), usize::MAX);
        Activity {
            query,
            application_name,
            ..*self
        }
    }

    fn begins(&mut self, now: i64) {
        self.state = ActivityState::Active;
        self.query_start = Some(now);
        self.state_change = Some(now);
    }

    fn rests(&mut self, in_transaction: bool) {
        if !in_transaction {
            self.transaction_start = None;
        }
        self.query.rest();
    }
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
    /// As long as the session has its place.
    pub socket: Arc<ClientSocket>,
    pub activity: Mutex<Activity>,
    /// It waits for the client's next message, between two statements or in the middle of a pipeline. For views only.
    pub waits_for_client: AtomicBool,
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
        // Last: whoever sees his connection end finds his place free.
        self.backend.socket.give_back();
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

    /// What a session is at, or was at last, for a report of several (`pgstat_get_backend_current_activity`).
    pub fn statement_of(&self, pid: ProcessId) -> String {
        let Some(backend) = self.get(pid) else {
            return "<backend information not available>".to_owned();
        };
        let activity = backend.activity.lock();
        let query = activity.query.shown();
        if activity.untracked || query.is_empty() {
            return "<command string not enabled>".to_owned();
        }
        query.to_owned()
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
    /// A simple query begins. Views show less than `most` bytes of it.
    pub fn begins(&self, query: &str, now: i64, most: usize) {
        let mut a = self.activity.lock();
        a.begins(now);
        a.query.set(query, most);
    }

    /// A message has come that is about a prepared statement; `command` is what `%i` of `log_line_prefix` calls it.
    pub fn begins_prepared(&self, query: &Arc<str>, command: &'static str, now: i64, most: usize) {
        let mut a = self.activity.lock();
        a.begins(now);
        a.query.hold(query, most);
        a.command = command;
    }

    /// Which statement of a query string it is now.
    pub fn runs(&self, command: &'static str) {
        self.activity.lock().command = command;
    }

    /// The wait for the client begins; `in_transaction`: one goes on meanwhile.
    pub fn rests(&self, state: ActivityState, in_transaction: bool, now: i64) {
        {
            let mut a = self.activity.lock();
            a.state = state;
            a.state_change = Some(now);
            a.rests(in_transaction);
        }
        self.waits_for_client.store(true, Ordering::Relaxed);
    }

    /// The same in the middle of a pipeline: until its end the session counts as active.
    pub fn pauses(&self, in_transaction: bool) {
        self.activity.lock().rests(in_transaction);
        self.waits_for_client.store(true, Ordering::Relaxed);
    }

    /// The wait has ended.
    pub fn wakes(&self) {
        self.waits_for_client.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_show_how_a_text_begins() {
        let mut query = QueryText::default();
        query.set("SELECT 'é'", 10);
        assert_eq!((query.shown(), query.whole()), ("SELECT '", "SELECT 'é'"));
        let prepared: Arc<str> = Arc::from("SELECT 1 + 1");
        query.hold(&prepared, 9);
        assert_eq!((query.shown(), query.whole()), ("SELECT 1", "SELECT 1 + 1"));
        assert_eq!(Arc::strong_count(&prepared), 2);
        query.hold(&prepared, 9);
        assert_eq!(Arc::strong_count(&prepared), 2);
        query.set("", 9);
        assert_eq!((query.shown(), query.whole()), ("", ""));
        assert_eq!(Arc::strong_count(&prepared), 1);
    }

    #[test]
    fn a_long_text_goes_when_its_session_rests() {
        let mut query = QueryText::default();
        let long = "SELECT ".repeat(1 << 18);
        query.set(&long, 1024);
        assert_eq!(query.whole().len(), long.len());
        query.rest();
        assert_eq!(
            (query.shown(), query.whole()),
            (&long[..1023], &long[..1023])
        );
        assert!(query.copy.capacity() < 2 * KEPT);
        // What a prepared statement has taken the place of is of no use to anybody.
        query.set(&long, 1024);
        let prepared: Arc<str> = Arc::from("SELECT 1");
        query.hold(&prepared, 1024);
        query.rest();
        assert_eq!((query.shown(), query.whole()), ("SELECT 1", "SELECT 1"));
        assert!(query.copy.capacity() < 2 * KEPT);
        // A prepared one goes with its statement, not before.
        let prepared: Arc<str> = Arc::from(long.as_str());
        query.hold(&prepared, 1024);
        query.rest();
        assert_eq!(query.whole().len(), long.len());
        drop(prepared);
        query.rest();
        assert_eq!(
            (query.shown(), query.whole()),
            (&long[..1023], &long[..1023])
        );
    }
}
