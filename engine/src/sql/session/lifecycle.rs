//! A session from its opening to its end, and the small things that every message needs.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::backends::{ActivityState, Backend, SessionLog};
use super::block::Block;
use super::facts::{Notices, Roles, SessionFacts, SessionRole};
use super::output::Output;
use super::prepared::{Portal, Prepared};
use super::services::Services;
use super::shapes::Shapes;
use crate::catalog::session::CatalogClock;
use crate::catalog::view::{Database, Role};
use crate::config::definition::SettingId;
use crate::config::registry::registry;
use crate::config::session::{Asker, Level};
use crate::config::{SessionSettings, SessionStore, StoredFor, Value};
use crate::sql::error::SqlError;
use crate::sql::exec::VirtualTables;
use crate::sql::host::{SessionBackup, SessionSequences};
use crate::txn::interrupt::{Interrupt, Timeout};
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::function::{FunctionCx, Host};
use crate::types::interval::IntervalStyle;

pub struct Session<S: Services> {
    pub(super) services: Arc<S>,
    pub(super) facts: Arc<SessionFacts>,
    pub(super) host: Arc<dyn Host>,
    pub(super) virtuals: Arc<dyn VirtualTables>,
    pub(super) block: Block,
    pub(super) prepared: HashMap<Box<str>, Arc<Prepared>>,
    /// Statements of the simple protocol that came more than once.
    pub(super) shapes: Shapes,
    pub(super) portals: HashMap<Box<str>, Portal>,
    /// Plans of the statements that foreign keys run.
    pub(super) references: Mutex<crate::sql::references::Kept>,
    /// What the client was last told of each reported setting, and after how many changes that was.
    reported: Vec<(SettingId, String)>,
    reported_at: Option<u64>,
    /// Says when a plan has to be made anew.
    pub(super) clock: CatalogClock,
    /// What functions know of the session, as last made.
    function: Option<(Arc<SessionSettings>, Arc<FunctionCx>)>,
    /// Bytes of a statement's text that `pg_stat_activity` keeps.
    pub(super) activity_size: usize,
    /// Roles that this session has been, to come back to after a rollback.
    pub(super) known_roles: Vec<SessionRole>,
    /// A statement's clock runs (extended protocol: from its first message to the end of its Execute, or to Sync).
    pub(super) timed: bool,
    /// Messages of the extended protocol have come since the last Sync: what comes from outside is meant for the next of
    /// them.
    pub(super) pipelined: bool,
    /// An Execute of this pipeline has succeeded, if only for a part of its rows, and nothing has been committed since
    /// (`XACT_FLAGS_PIPELINING`).
    pub(super) executed: bool,
    /// When the message came that is dealt with: what `statement_timestamp()` gives, and `now()` where it begins a
    /// transaction (manual, 9.9.5). Microseconds since 2000-01-01 UTC.
    pub(super) received: i64,
}

/// Microseconds since 2000-01-01 UTC.
pub(super) fn now() -> i64 {
    crate::replication::clock::now_micros()
}

impl<S: Services> Session<S> {
    /// Opens the session of an authenticated client. `asked` are the start-up packet's settings, in order; `stored`
    /// what the catalog keeps for the role and the database, what counts more behind.
    pub fn open(
        services: Arc<S>,
        backend: Arc<Backend>,
        role: &Role,
        database: &Database,
        asked: &[(String, String)],
        stored: &[(StoredFor, String, String)],
    ) -> Result<Session<S>, SqlError> {
        let me = SessionRole {
            oid: role.oid,
            name: Arc::from(role.name.as_str()),
            superuser: role.superuser,
        };
        let server = services.settings().current();
        let activity_size =
            usize::try_from(server.values.integer("track_activity_query_size")).unwrap_or(1024);
        let mut store = SessionStore::new(server);
        let notices = Notices::default();
        for (whose, name, value) in stored {
            // One that the server no longer takes does not keep anybody out.
            if let Err(e) = store.set(name, value, false, Asker::Stored(*whose)) {
                let mut warning = SqlError::warning(e.state, e.message);
                warning.detail = e.detail;
                warning.hint = e.hint;
                notices.push(warning);
            }
        }
        for (name, value) in asked {
            // They change who one is, which the settings alone do not.
            if name.eq_ignore_ascii_case("role")
                || name.eq_ignore_ascii_case("session_authorization")
            {
                return Err(SqlError::unsupported(format!(
                    "parameter \"{name}\" cannot be set in the start-up packet"
                ))
                .hint("Use SET ROLE or SET SESSION AUTHORIZATION after connecting."));
            }
            let asker = Asker::Startup {
                superuser: role.superuser,
            };
            store
                .set(name, value, false, asker)
                .map_err(super::settings::refused)?;
        }
        store.put_computed("is_superuser", Value::Bool(role.superuser), false);
        store.put_computed("session_authorization", Value::text(&role.name), false);
        backend.activity.lock().application_name = Arc::clone(&store.settings().application_name);
        let facts = Arc::new(SessionFacts {
            backend,
            database: database.oid,
            database_name: Arc::from(database.name.as_str()),
            roles: ArcSwap::from_pointee(Roles {
                authenticated: me.clone(),
                session: me.clone(),
                current: me.clone(),
            }),
            changed_catalog: ArcSwapOption::empty(),
            sequences: SessionSequences::default(),
            backup: SessionBackup::default(),
            notices,
            settings: Mutex::new(store),
        });
        let session = Session {
            host: services.host(&facts),
            virtuals: services.virtual_tables(&facts),
            clock: services.catalog_clock(database.oid),
            services,
            facts,
            block: Block::default(),
            prepared: HashMap::new(),
            shapes: Shapes::default(),
            portals: HashMap::new(),
            references: Mutex::default(),
            reported: Vec::new(),
            reported_at: None,
            function: None,
            activity_size,
            known_roles: vec![me],
            timed: false,
            pipelined: false,
            executed: false,
            received: now(),
        };
        session.apply_settings();
        Ok(session)
    }

    /// A message has come that runs something. Looks at the clock, once for all that the message leads to.
    pub(super) fn receives(&mut self) -> i64 {
        self.received = now();
        self.received
    }

    pub(super) fn settings(&self) -> Arc<SessionSettings> {
        self.facts.current_settings()
    }

    /// See [`SessionStore::post_auth_delay`].
    pub fn post_auth_delay(&self) -> Duration {
        self.facts.settings.lock().post_auth_delay()
    }

    pub(super) fn is_superuser(&self) -> bool {
        self.facts.roles.load().current.superuser
    }

    pub(super) fn asker(&self) -> Asker {
        Asker::Session {
            superuser: self.is_superuser(),
        }
    }

    /// Passes on what other parts keep of the settings; after each change.
    pub(super) fn apply_settings(&self) {
        let s = self.settings();
        let interrupts = &self.facts.backend.interrupts;
        interrupts.set_lock_timeout(s.lock_timeout.unwrap_or(Duration::ZERO));
        interrupts.set_deadlock_timeout(s.deadlock_timeout);
        interrupts.set_log_lock_waits(s.log_lock_waits);
        interrupts.set_needs_room(!(s.write_on_full_disk && self.is_superuser()));
        self.facts.backend.socket.apply(s.keep_alive);
        *self.facts.backend.log.lock() = Some(SessionLog::of(&s));
        let mut activity = self.facts.backend.activity.lock();
        activity.untracked = !s.track_activities;
        if activity.application_name != s.application_name {
            activity.application_name = Arc::clone(&s.application_name);
        }
    }

    /// What functions may know of this statement. The last one is used again where nobody else holds it.
    pub(super) fn function_cx(
        &mut self,
        settings: &Arc<SessionSettings>,
        started: i64,
    ) -> Arc<FunctionCx> {
        let transaction_timestamp = match &self.block {
            Block::Implicit(r) | Block::Open(r) => r.txn.started_at(),
            Block::Failed(Some(r)) => r.txn.started_at(),
            Block::Idle | Block::Failed(None) => started,
        };
        if let Some((made_for, function)) = &mut self.function
            && Arc::ptr_eq(made_for, settings)
            && let Some(own) = Arc::get_mut(function)
        {
            own.transaction_timestamp = transaction_timestamp;
            own.statement_timestamp = started;
            return Arc::clone(function);
        }
        let host = Arc::clone(&self.host);
        let function = functions_of(settings, host, transaction_timestamp, started);
        let function = Arc::new(function);
        self.function = Some((Arc::clone(settings), Arc::clone(&function)));
        function
    }

    pub fn status(&self) -> u8 {
        self.block.status()
    }

    /// Whether something may be held (locks, a snapshot) that belongs to a transaction.
    pub fn has_transaction(&self) -> bool {
        self.block.has_transaction()
    }

    /// The wait for the client begins. In the middle of a pipeline the session is not idle, for views and for the clocks
    /// of idle sessions: it is from ReadyForQuery on.
    pub fn rests(&mut self) {
        let in_transaction = self.block.has_transaction();
        if self.pipelined {
            self.facts.backend.pauses(in_transaction);
            return;
        }
        let state = match self.block {
            Block::Idle | Block::Implicit(_) => ActivityState::Idle,
            Block::Open(_) => ActivityState::IdleInTransaction,
            Block::Failed(_) => ActivityState::IdleInFailedTransaction,
        };
        self.facts.backend.rests(state, in_transaction, now());
        let s = self.settings();
        let (clock, limit) = if self.block.is_block() {
            (
                Timeout::IdleInTransaction,
                s.idle_in_transaction_session_timeout,
            )
        } else {
            (Timeout::IdleSession, s.idle_session_timeout)
        };
        if let Some(limit) = limit {
            self.facts.backend.interrupts.arm(clock, limit);
        }
    }

    /// The client has sent something. A time-out that fired too late is forgotten.
    pub fn wakes(&mut self) {
        self.facts.backend.wakes();
        let interrupts = &self.facts.backend.interrupts;
        interrupts.disarm(Timeout::IdleInTransaction);
        interrupts.disarm(Timeout::IdleSession);
        if interrupts.is_pending() {
            interrupts.forget(Interrupt::IdleInTransaction);
            interrupts.forget(Interrupt::IdleSession);
        }
        let newer = {
            let store = self.facts.settings.lock();
            self.services.settings().is_newer_than(store.server())
        };
        if newer {
            self.facts
                .settings
                .lock()
                .adopt(self.services.settings().current());
            self.apply_settings();
        }
    }

    /// A statement's clock starts.
    pub(super) fn start_clock(&mut self, settings: &SessionSettings) {
        if !self.timed {
            self.timed = true;
            let interrupts = &self.facts.backend.interrupts;
            if interrupts.is_pending() {
                // The last one may have rung just as it was stopped.
                interrupts.forget(Interrupt::StatementTimeout);
            }
            if let Some(limit) = settings.statement_timeout {
                interrupts.arm(Timeout::Statement, limit);
            }
        }
    }

    pub(super) fn stop_clock(&mut self) {
        if self.timed {
            self.timed = false;
            self.facts.backend.interrupts.disarm(Timeout::Statement);
            self.facts
                .backend
                .interrupts
                .forget(Interrupt::StatementTimeout);
        }
    }

    /// ParameterStatus for every reported setting that the client does not know yet.
    pub fn report_settings<O: Output>(&mut self, out: &mut O) {
        self.tell_notices(out);
        let changes = self.facts.settings.lock().changes();
        if self.reported_at == Some(changes) {
            return;
        }
        self.reported_at = Some(changes);
        // `set_config` is called where nobody looks for it, too: in a cursor's rows, in an argument of EXECUTE.
        self.apply_settings();
        let store = self.facts.settings.lock();
        for d in registry().all().iter().filter(|d| d.flags.report) {
            let shown = d.show(store.value(d.id));
            match self.reported.iter_mut().find(|(id, _)| *id == d.id) {
                Some((_, told)) if *told == shown => continue,
                Some((_, told)) => told.clone_from(&shown),
                None => self.reported.push((d.id, shown.clone())),
            }
            out.parameter_status(d.name, &shown);
        }
    }

    /// What functions had to say while a statement ran; before its end is told.
    pub(super) fn tell_notices<O: Output>(&self, out: &mut O) {
        for notice in self.facts.notices.take() {
            self.notice(out, &notice);
        }
    }

    /// Sends a notice if the client wants to see its kind.
    pub(super) fn notice<O: Output>(&self, out: &mut O, notice: &SqlError) {
        use crate::sql::error::Severity;
        super::logging::notice(notice);
        let level = match notice.severity {
            Severity::Debug => Level::Debug1,
            Severity::Log => Level::Log,
            Severity::Info => Level::Info,
            Severity::Notice => Level::Notice,
            _ => Level::Warning,
        };
        if level.reaches_client(self.settings().client_min_messages) {
            out.notice(notice);
        }
    }

    /// The connection has ended.
    pub async fn close(mut self) {
        self.portals.clear();
        self.roll_back();
    }
}

fn date_style(s: crate::config::DateStyle) -> DateStyle {
    use crate::config::date_style as c;
    DateStyle {
        output: match s.output {
            c::DateOutput::Iso => DateOutput::Iso,
            c::DateOutput::Sql => DateOutput::Sql,
            c::DateOutput::Postgres => DateOutput::Postgres,
            c::DateOutput::German => DateOutput::German,
        },
        order: match s.order {
            c::DateOrder::Ymd => FieldOrder::Ymd,
            c::DateOrder::Dmy => FieldOrder::Dmy,
            c::DateOrder::Mdy => FieldOrder::Mdy,
        },
    }
}

fn interval_style(s: crate::config::IntervalStyle) -> IntervalStyle {
    use crate::config::IntervalStyle as C;
    match s {
        C::Postgres => IntervalStyle::Postgres,
        C::PostgresVerbose => IntervalStyle::PostgresVerbose,
        C::SqlStandard => IntervalStyle::SqlStandard,
        C::Iso8601 => IntervalStyle::Iso8601,
    }
}

/// What functions go by under these settings.
pub fn functions_of(
    settings: &SessionSettings,
    host: Arc<dyn Host>,
    transaction_timestamp: i64,
    statement_timestamp: i64,
) -> FunctionCx {
    FunctionCx {
        transaction_timestamp,
        statement_timestamp,
        time_zone: settings.time_zone.clone(),
        date_style: date_style(settings.date_style),
        interval_style: interval_style(settings.interval_style),
        extra_float_digits: settings.extra_float_digits,
        bytea_hex: settings.bytea_hex,
        host,
    }
}
