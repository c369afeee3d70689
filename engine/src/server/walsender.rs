//! The replication session: commands of a walsender connection (manual, 55.4), served by the replication room.
//!
//! Owns the loop from the first ReadyForQuery to the end: reads commands, answers the small ones, hands the connection
//! over for START_REPLICATION and BASE_BACKUP, and makes errors of theirs what the client sees. The slot among
//! `max_wal_senders` and temporary replication slots go with the connection.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::connection::{Connection, ReadError};
use super::host::{NewSession, ReplicationPeer};
use super::log;
use super::output::protocol_error;
use super::protocol::backend;
use super::protocol::frontend::Message;
use crate::config::registry::registry;
use crate::config::server::Source;
use crate::config::session::Asker;
use crate::config::{SessionStore, Settings, Value};
use crate::ids::{ProcessId, SystemId, Term, TimelineId};
use crate::replication::base_backup::{self, BackupOptions, BackupSource};
use crate::replication::receiver::{Progress, State};
use crate::replication::reply::{self, CommandError, Link, ServeError};
use crate::replication::sender::{self, StartReplication, Upstream};
use crate::replication::standbys::{Peer, Registration, SenderState, Standbys};
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::front::ast::{OptionValue, UtilityOption};
use crate::sql::front::replication::{self as commands, CreateSlot, ReplicationCommand, SlotKind};
use crate::sql::session::output::Output;
use crate::sql::session::settings_error;
use crate::txn::{InstanceId, Interrupt, Interrupts};
use crate::types::oids;

impl Link for Connection {
    fn out(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    async fn flush(&mut self) -> io::Result<()> {
        Connection::flush(self).await
    }

    async fn receive(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        match self.frame(None).await {
            Ok(frame) => Ok(frame.map(|f| (f.tag, Bytes::from(f.body)))),
            Err(ReadError::Io(e)) => Err(e),
            Err(ReadError::Cut) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(ReadError::Protocol(e)) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }
}

/// What replication sessions are served from; `node/` gives it.
pub trait ReplicationSource: Send + Sync + 'static {
    type Backup: BackupSource + 'static;

    fn settings(&self) -> &Settings;
    fn upstream(&self) -> &dyn Upstream;
    /// A base backup of its own for each command.
    fn backup(&self) -> Self::Backup;
    fn standbys(&self) -> &Arc<Standbys>;
    fn system_id(&self) -> SystemId;
    /// The term of this primary's own promotion; `None` where it is not managed, or not a primary.
    fn primary_term(&self) -> Option<Term>;
    /// The server ends: what streams goes on to its end, and no other command is begun.
    fn is_closing(&self) -> bool;
    /// How far the receiver is of a server that began as a standby.
    fn receiving(&self) -> Option<watch::Receiver<Progress>>;
    /// A timeline's history file.
    fn history_file(&self, timeline: TimelineId) -> io::Result<Vec<u8>>;
    /// What SHOW answers for settings that change while a session lives (`understudy.term`).
    fn fresh_setting(&self, name: &str) -> Option<String>;
}

/// How a command ended, beyond errors that the session outlives.
enum Stop {
    Left,
    Fatal(SqlError),
}

struct ReplicationSession<'a, R: ReplicationSource> {
    source: &'a R,
    registration: Registration,
    settings: SessionStore,
    new: &'a NewSession,
    own_messages: bool,
    follower: Option<Follower>,
    reads_secrets: bool,
}

/// Serves a walsender connection to its end. `reads_secrets`: SHOW tells the role settings that are not everybody's.
/// AuthenticationOk and BackendKeyData have been put into its buffer.
pub async fn serve<R: ReplicationSource>(
    connection: &mut Connection,
    source: &R,
    new: NewSession,
    peer: ReplicationPeer,
    reads_secrets: bool,
) -> Result<(), SqlError> {
    let mut settings = SessionStore::new(source.settings().current());
    for (name, value) in &new.settings {
        let asker = Asker::Startup {
            superuser: new.role.superuser,
        };
        settings
            .set(name, value, false, asker)
            .map_err(settings_error)
            .map_err(fatal)?;
    }
    let keep_alive = settings.settings().keep_alive;
    new.backend.socket.apply(keep_alive);
    let delay = settings.post_auth_delay();
    if !delay.is_zero() {
        let slept = new.backend.interrupts.sleep(delay).await;
        slept.map_err(SqlError::from).map_err(fatal)?;
    }
    check_term(source.primary_term(), &peer)?;
    let follower = Follower::new(source.receiving(), &peer);
    if let Some(follower) = &follower
        && follower.follows()
    {
        return Err(follower.refusal());
    }
    let registration = source
        .standbys()
        .register(peer_of(&new, &peer))
        .map_err(|e| fatal(command_error(&e)))?;
    let mut session = ReplicationSession {
        source,
        registration,
        settings,
        own_messages: peer.own_messages,
        follower,
        reads_secrets,
        new: &new,
    };
    let _leaving = Leaving {
        upstream: source.upstream(),
        process: new.backend.pid,
    };
    match session.run(connection).await {
        Stop::Left => Ok(()),
        Stop::Fatal(e) => Err(e),
    }
}

/// What must not outlive the session, however it ends: its slots, which keep the log, and its oldest snapshot, which keeps
/// row versions. (A stream that was cut short has not taken it back itself.)
struct Leaving<'a> {
    upstream: &'a dyn Upstream,
    process: ProcessId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.upstream.slots().drop_of(self.process);
        let id = u64::from(self.process.get());
        self.upstream.feedback(id, None);
    }
}

/// Who has promised a higher term than this primary's own knows that it is deposed, and must not be streamed to.
fn check_term(own: Option<Term>, peer: &ReplicationPeer) -> Result<(), SqlError> {
    match (own, peer.term) {
        (Some(own), Some(theirs)) if theirs > own.raw() => Err(SqlError::fatal(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("this primary's term {own} is over: its standby has promised term {theirs}"),
        )),
        _ => Ok(()),
    }
}

/// A standby that is asked for log by the receiver of a managed instance: how its own receiver is, and the asker's term.
///
/// One that streams in that term itself is not its primary and never becomes it, because a term has one candidate: an old
/// address led here, and the primary would never hear of who asks. Refused, he tries the next address. A candidate streams
/// nothing, and so serves whoever comes early.
struct Follower {
    receiving: watch::Receiver<Progress>,
    term: Term,
}

impl Follower {
    fn new(
        receiving: Option<watch::Receiver<Progress>>,
        peer: &ReplicationPeer,
    ) -> Option<Follower> {
        let term = peer.term.filter(|_| peer.receives)?;
        Some(Follower {
            receiving: receiving?,
            term: Term::new(term),
        })
    }

    fn follows(&self) -> bool {
        streams_in(&self.receiving.borrow(), self.term)
    }

    fn refusal(&self) -> SqlError {
        SqlError::fatal(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("this is a standby of the primary of term {}", self.term),
        )
    }
}

fn streams_in(progress: &Progress, term: Term) -> bool {
    progress.state == State::Streaming && progress.upstream_term == Some(term)
}

/// Ends when the standby that is asked streams itself.
async fn displaced(follower: Option<&Follower>) -> ServeError {
    let Some(follower) = follower else {
        return std::future::pending().await;
    };
    let (mut receiving, term) = (follower.receiving.clone(), follower.term);
    let is_gone = receiving.wait_for(|p| streams_in(p, term)).await.is_err();
    if is_gone {
        // With the server.
        return std::future::pending().await;
    }
    let e = follower.refusal();
    ServeError::Fatal(CommandError::new(e.state, e.message.clone()))
}

fn peer_of(new: &NewSession, peer: &ReplicationPeer) -> Peer {
    Peer {
        process: new.backend.pid,
        user_oid: new.role.oid.raw(),
        user: new.role.name.clone(),
        application_name: peer.application_name.clone(),
        address: new
            .backend
            .remote
            .map(|r| (r.ip().to_canonical().to_string(), r.port())),
        started_at: new.backend.started,
        instance: peer.instance_id.as_deref().map(InstanceId::new),
        term: peer.term.map(Term::new),
    }
}

fn fatal(mut e: SqlError) -> SqlError {
    e.severity = Severity::Fatal;
    e
}

fn command_error(e: &CommandError) -> SqlError {
    let mut out = SqlError::new(e.state, e.message.clone());
    out.detail.clone_from(&e.detail);
    out.hint.clone_from(&e.hint);
    out
}

fn lost() -> Stop {
    log::log("unexpected EOF on standby connection");
    Stop::Left
}

impl<R: ReplicationSource> ReplicationSession<'_, R> {
    async fn run(&mut self, c: &mut Connection) -> Stop {
        backend::ready_for_query(&mut c.output, b'I');
        let interrupts = Arc::clone(&self.new.backend.interrupts);
        loop {
            // Whoever does not take the end of a backup must not keep the server from ending.
            let flushed = tokio::select! {
                flushed = c.flush() => flushed,
                e = told_to_end(&interrupts) => return Stop::Fatal(e),
            };
            if flushed.is_err() {
                return lost();
            }
            let frame = tokio::select! {
                frame = c.frame(None) => frame,
                e = told_to_end(&interrupts) => return Stop::Fatal(e),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return Stop::Left,
                Err(ReadError::Protocol(e)) => return Stop::Fatal(fatal(protocol_error(&e))),
                Err(ReadError::Io(_) | ReadError::Cut) => return lost(),
            };
            let done = match frame.message() {
                Ok(Message::Query(_)) if self.source.is_closing() => {
                    return Stop::Fatal(fatal(Interrupt::Terminate.into()));
                }
                Ok(Message::Query(text)) => self.command(text, c).await,
                Ok(Message::Terminate) => return Stop::Left,
                // What is left of a stream that ended on our side.
                Ok(Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_)) => continue,
                Ok(Message::Sync) => Ok(()),
                Ok(_) => Err(ServeError::Command(CommandError::new(
                    state::PROTOCOL_VIOLATION,
                    "extended query protocol not supported in a replication connection",
                ))),
                Err(e) => return Stop::Fatal(fatal(protocol_error(&e))),
            };
            match done {
                Ok(()) => {}
                Err(ServeError::Command(e)) => {
                    let e = command_error(&e);
                    log::sql_error(&e, None);
                    c.error(&e);
                }
                Err(ServeError::Fatal(e)) => return Stop::Fatal(fatal(command_error(&e))),
                Err(ServeError::Lost(_) | ServeError::Closed) => return lost(),
                Err(ServeError::Ended) => return Stop::Left,
            }
            backend::ready_for_query(&mut c.output, b'I');
        }
    }

    async fn command(&mut self, text: &str, c: &mut Connection) -> Result<(), ServeError> {
        let logged = match self.asked_for("log_replication_commands") {
            Some(own) => *own == Value::Bool(true),
            None => self
                .source
                .settings()
                .current()
                .values
                .bool("log_replication_commands"),
        };
        if logged {
            log::log(&format!("received replication command: {text}"));
        }
        let parsed = commands::parse(text).map_err(|e| {
            ServeError::Command(CommandError {
                state: e.state,
                message: e.message.clone(),
                detail: e.detail.clone(),
                hint: e.hint.clone(),
            })
        })?;
        let Some(command) = parsed else {
            if text.trim().trim_end_matches(';').is_empty() {
                backend::empty_query(&mut c.output);
                return Ok(());
            }
            return Err(refused(
                state::FEATURE_NOT_SUPPORTED,
                "cannot execute SQL commands in WAL sender for physical replication",
            ));
        };
        match command {
            ReplicationCommand::IdentifySystem => {
                self.identify(&mut c.output);
                Ok(())
            }
            ReplicationCommand::Show(name) => self.show(&name, &mut c.output),
            ReplicationCommand::TimelineHistory(timeline) => self.history(timeline, &mut c.output),
            ReplicationCommand::CreateSlot(create) => self.create_slot(&create, &mut c.output),
            ReplicationCommand::DropSlot { name, .. } => {
                let slots = self.source.upstream().slots();
                slots.drop_slot(&name, self.new.backend.pid)?;
                reply::complete(&mut c.output, "DROP_REPLICATION_SLOT");
                Ok(())
            }
            ReplicationCommand::ReadSlot(name) => {
                self.read_slot(&name, &mut c.output);
                Ok(())
            }
            ReplicationCommand::StartReplication {
                slot,
                start,
                timeline,
            } => {
                let own_messages = self.own_messages;
                let timeout = match self.asked_for("wal_sender_timeout") {
                    Some(Value::Integer(ms)) => u64::try_from(*ms).ok().map(Duration::from_millis),
                    _ => None,
                };
                let request = StartReplication {
                    slot,
                    start,
                    timeline,
                    own_messages,
                    timeout,
                };
                let id = u64::from(self.new.backend.pid.get());
                let upstream = self.source.upstream();
                let (registration, follower) = (&self.registration, self.follower.as_ref());
                let stream = async {
                    tokio::select! {
                        done = sender::stream(c, upstream, registration, id, request) => done,
                        never = displaced(follower) => Err(never),
                    }
                };
                let done = until_told(&self.new.backend.interrupts, stream).await;
                self.registration.set_state(SenderState::Startup);
                done
            }
            ReplicationCommand::BaseBackup(options) => {
                let options = BackupOptions::parse(&named(&options))?;
                let backup = self.source.backup();
                self.registration.set_state(SenderState::Backup);
                let send = base_backup::send(c, &backup, &options);
                let done = until_told(&self.new.backend.interrupts, send).await;
                self.registration.set_state(SenderState::Startup);
                done
            }
            ReplicationCommand::StartLogicalReplication { .. } => Err(refused(
                state::FEATURE_NOT_SUPPORTED,
                "logical replication is not implemented",
            )),
        }
    }

    /// What the client itself asked for when it connected. Everything else is as the server has it now.
    fn asked_for(&self, name: &'static str) -> Option<&Value> {
        let id = registry().id(name);
        (self.settings.source(id) == Source::Client).then(|| self.settings.value(id))
    }

    fn identify(&self, out: &mut BytesMut) {
        let wal = self.source.upstream().wal();
        reply::columns(
            out,
            &[
                ("systemid", oids::TEXT),
                ("timeline", oids::INT4),
                ("xlogpos", oids::TEXT),
                ("dbname", oids::TEXT),
            ],
        );
        let (system, timeline) = (
            self.source.system_id().to_string(),
            wal.timeline().to_string(),
        );
        let position = wal.flush_lsn().to_string();
        reply::row(
            out,
            &[Some(&system), Some(&timeline), Some(&position), None],
        );
        reply::complete(out, "IDENTIFY_SYSTEM");
    }

    fn show(&self, name: &str, out: &mut BytesMut) -> Result<(), ServeError> {
        let (name, value) = match self.source.fresh_setting(name) {
            Some(value) => (name.to_owned(), value),
            None => {
                let shown = self.settings.show(name, self.reads_secrets);
                let (name, value) = shown.map_err(|e| {
                    ServeError::Command(CommandError {
                        state: e.state,
                        message: e.message,
                        detail: e.detail,
                        hint: e.hint,
                    })
                })?;
                let of_socket = self.new.backend.socket.shown(&name);
                (name, of_socket.unwrap_or(value))
            }
        };
        reply::columns(out, &[(&name, oids::TEXT)]);
        reply::row(out, &[Some(&value)]);
        reply::complete(out, "SHOW");
        Ok(())
    }

    fn history(&self, timeline: TimelineId, out: &mut BytesMut) -> Result<(), ServeError> {
        let name = timeline.history_file_name();
        let bytes = self.source.history_file(timeline).map_err(|e| {
            let cause = crate::config::conf_file::os_message(&e);
            refused(
                state::UNDEFINED_FILE,
                &format!("could not open file \"pg_wal/{name}\": {cause}"),
            )
        })?;
        let text = String::from_utf8_lossy(&bytes);
        reply::columns(out, &[("filename", oids::TEXT), ("content", oids::TEXT)]);
        reply::row(out, &[Some(&name), Some(&text)]);
        reply::complete(out, "TIMELINE_HISTORY");
        Ok(())
    }

    fn create_slot(&self, create: &CreateSlot, out: &mut BytesMut) -> Result<(), ServeError> {
        if create.kind != SlotKind::Physical {
            return Err(refused(
                state::FEATURE_NOT_SUPPORTED,
                "logical replication slots are not implemented",
            ));
        }
        if !create.temporary {
            return Err(ServeError::Command(
                CommandError::new(
                    state::FEATURE_NOT_SUPPORTED,
                    "permanent replication slots are not implemented",
                )
                .hint("Create the slot as TEMPORARY, or keep log with wal_keep_size."),
            ));
        }
        let reserve = create
            .options
            .iter()
            .any(|o| o.name == "reserve_wal" && o.boolean() == Some(true));
        let upstream = self.source.upstream();
        let restart = reserve.then(|| upstream.wal().redo_point());
        upstream
            .slots()
            .create(&create.name, self.new.backend.pid, restart)?;
        if reserve {
            // A checkpoint that was under way may not have asked the slot: what it takes away is older than this.
            let redo = upstream.wal().redo_point();
            upstream.slots().advance(&create.name, redo);
        }
        reply::columns(
            out,
            &[
                ("slot_name", oids::TEXT),
                ("consistent_point", oids::TEXT),
                ("snapshot_name", oids::TEXT),
                ("output_plugin", oids::TEXT),
            ],
        );
        reply::row(out, &[Some(&create.name), Some("0/0"), None, None]);
        reply::complete(out, "CREATE_REPLICATION_SLOT");
        Ok(())
    }

    fn read_slot(&self, name: &str, out: &mut BytesMut) {
        let upstream = self.source.upstream();
        reply::columns(
            out,
            &[
                ("slot_type", oids::TEXT),
                ("restart_lsn", oids::TEXT),
                ("restart_tli", oids::INT8),
            ],
        );
        match upstream.slots().get(name) {
            None => reply::row(out, &[None, None, None]),
            Some(slot) if slot.restart.is_valid() => {
                let (lsn, tli) = (
                    slot.restart.to_string(),
                    upstream.wal().timeline().to_string(),
                );
                reply::row(out, &[Some("physical"), Some(&lsn), Some(&tli)]);
            }
            Some(_) => reply::row(out, &[Some("physical"), None, None]),
        }
        reply::complete(out, "READ_REPLICATION_SLOT");
    }
}

fn refused(code: &'static str, message: &str) -> ServeError {
    ServeError::Command(CommandError::new(code, message))
}

/// Why the session has to end, once it has; a cancel without a command to cancel is nothing.
async fn told_to_end(interrupts: &Interrupts) -> SqlError {
    loop {
        let interrupt = interrupts.wait().await;
        if interrupt.ends_session() {
            return fatal(interrupt.into());
        }
    }
}

/// Runs until the work is done or the session is told to end.
async fn until_told(
    interrupts: &Interrupts,
    work: impl Future<Output = Result<(), ServeError>>,
) -> Result<(), ServeError> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        interrupt = interrupts.wait() => {
            // A cancel ends a command, but there is none that could go on after half a stream.
            let e = SqlError::from(interrupt);
            Err(ServeError::Fatal(CommandError::new(e.state, e.message.clone())))
        }
    }
}

/// Options as names with their values in text form.
fn named(options: &[UtilityOption]) -> Vec<(String, Option<String>)> {
    options
        .iter()
        .map(|o| {
            let value = match &o.value {
                None => None,
                Some(OptionValue::Text(t) | OptionValue::Number(t)) => Some(t.clone()),
                Some(OptionValue::Star) => Some("*".to_owned()),
                Some(OptionValue::List(items)) => Some(items.join(",")),
            };
            (o.name.clone(), value)
        })
        .collect()
}
