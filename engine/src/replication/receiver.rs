//! The walreceiver: a thread that asks the upstream for WAL, writes and syncs it, and reports how far it is.
//!
//! Recovery tells it where to begin ([`Receiver::stream`]) and watches how far the flushed WAL goes; it never
//! starts, stops or interprets replay itself. Invariants: what is reported as flushed is on disk; bytes are
//! written in order, without a gap; nothing is taken from an upstream with another system identifier or a
//! lower promised term. A crash at any point leaves a prefix of the upstream's WAL in `pg_wal`, ending in
//! the middle of a record at worst; recovery asks again from the page in which its last whole record ends.

mod lateness;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use self::lateness::Lateness;
use crate::config::conninfo::ConnInfo;
use crate::ids::{Lsn, SystemId, Term, TimelineId};
use crate::replication::client::{Connection, CopyEvent, Identity, Row};
use crate::replication::clock::now_micros;
use crate::replication::error::ReplicationError;
use crate::replication::messages::{FromPrimary, FromStandby};

/// Where received WAL goes.
pub trait ReceivedWal: Send {
    /// The upstream's log goes this far: how much is still to come.
    fn expect(&mut self, upstream_end: Lsn);
    /// Bytes of `timeline` from `at` on; a segment is synced before the first byte of the next is written.
    fn write(&mut self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> io::Result<()>;
    /// All that was written is durable when it returns.
    fn sync(&mut self) -> io::Result<()>;
    fn has_history(&self, timeline: TimelineId) -> io::Result<bool>;
    /// Stores a timeline history file durably.
    fn put_history(&mut self, timeline: TimelineId, text: &[u8]) -> io::Result<()>;
}

/// What may be written before it is synced while more keeps coming, in bytes: replay waits for it.
const MOST_UNSYNCED: u64 = 4 << 20;

/// How long a sync waits for what the upstream has said that it has.
const MORE_WITHIN: Duration = Duration::from_millis(20);

/// Resolves when a sync should wait no longer, unless more comes first: a sync costs the same for all that was written.
async fn nothing_more(upstream_has_more: bool) {
    if upstream_has_more {
        tokio::time::sleep(MORE_WITHIN).await;
    } else {
        // Yielding is what lets the runtime look into the socket.
        tokio::task::yield_now().await;
    }
}

/// Bounds what the upstream does at once, if it lives: one that is frozen keeps its connections. Zero: no limit.
async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, ReplicationError>>,
) -> Result<T, ReplicationError> {
    if limit.is_zero() {
        return exchange.await;
    }
    let done = tokio::time::timeout(limit, exchange).await;
    done.unwrap_or(Err(ReplicationError::Timeout))
}

/// The standby that the receiver works for.
pub trait Standby: Send + Sync + 'static {
    /// Asked at each connection, so that a reload takes effect.
    fn upstream(&self) -> UpstreamSettings;
    fn system_id(&self) -> SystemId;
    /// The term that this instance has promised; `None` where no operator manages it.
    fn promised_term(&self) -> Option<Term>;
    /// What is applied *and* shown to queries here: a commit that waits for `remote_apply` waits to be seen.
    fn replay_lsn(&self) -> watch::Receiver<Lsn>;
    /// The oldest snapshot in use here, for `hot_standby_feedback`.
    fn oldest_snapshot(&self) -> Option<Lsn>;
    /// A stream has ended by itself; recovery may want another one at once.
    fn stream_ended(&self);
    /// The upstream says, on a stream of `timeline`, that every commit at or below `released` is on the required standbys.
    fn released(&self, timeline: TimelineId, released: Lsn, synchronous: bool);
}

#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// `primary_conninfo`; `None` if it is empty.
    pub conninfo: Option<ConnInfo>,
    pub slot: Option<String>,
    /// The default `application_name`: `cluster_name`, else `walreceiver`.
    pub name: String,
    /// `wal_receiver_status_interval`; zero: only when asked.
    pub status_interval: Duration,
    /// `wal_receiver_timeout`; zero: none.
    pub timeout: Duration,
    /// `wal_retrieve_retry_interval`
    pub retry_interval: Duration,
    pub feedback: bool,
    /// This instance's id in a managed cluster.
    pub instance_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Stopped,
    Connecting,
    Streaming,
    /// The upstream's timeline ended at `flushed`; recovery decides what follows.
    EndOfTimeline,
    /// The last attempt failed; recovery may look elsewhere or ask again.
    Failed,
}

/// What the receiver has done; recovery and `pg_stat_wal_receiver` watch it.
#[derive(Debug, Clone)]
pub struct Progress {
    pub state: State,
    /// Of the request that this is about: what earlier ones wrote is synced.
    version: u64,
    pub timeline: TimelineId,
    pub started_at: Lsn,
    pub written: Lsn,
    pub flushed: Lsn,
    /// The upstream's end of WAL as last told, and when (microseconds since 2000-01-01).
    pub latest_end: Lsn,
    pub latest_end_at: i64,
    pub last_sent_at: i64,
    pub last_received_at: i64,
    /// When the last message of any kind that was read of this stream had come. Changes of it wake nobody.
    pub heard_at: Option<Instant>,
    pub upstream: Option<(String, u16)>,
    pub upstream_term: Option<Term>,
    pub slot: Option<String>,
    pub conninfo: String,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Stop,
    Stream { from: Lsn, timeline: TimelineId },
    Quit,
}

/// Handle on the receiver's thread.
pub struct Receiver {
    request: watch::Sender<(u64, Request)>,
    progress: watch::Receiver<Progress>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Receiver {
    pub fn spawn(standby: Arc<dyn Standby>, wal: Box<dyn ReceivedWal>) -> io::Result<Receiver> {
        let (request, requests) = watch::channel((0, Request::Stop));
        let (publish, progress) = watch::channel(Progress::idle());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("walreceiver".to_owned())
            .spawn(move || {
                runtime.block_on(
                    Worker {
                        standby,
                        wal,
                        requests,
                        publish,
                    }
                    .run(),
                );
            })?;
        Ok(Receiver {
            request,
            progress,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks for WAL of `timeline` from `from` (the start of a page); replaces an earlier request.
    pub fn stream(&self, from: Lsn, timeline: TimelineId) {
        self.send(Request::Stream { from, timeline });
    }

    /// Ends the stream and waits until nothing more of it is written. (Somebody else may have begun another since.)
    pub async fn stop(&self) {
        let version = self.send(Request::Stop);
        let mut progress = self.progress.clone();
        let stopped = progress.wait_for(|p| p.version >= version);
        // The sender goes only with the thread, and then nothing is written either.
        let _ = stopped.await;
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Ends the thread.
    pub fn quit(&self) {
        self.send(Request::Quit);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }

    /// Of the newest request; [`State::Connecting`] until the thread has taken it up.
    pub fn state(&self) -> State {
        let progress = self.progress.borrow();
        let (version, _) = *self.request.borrow();
        if progress.version < version {
            State::Connecting
        } else {
            progress.state
        }
    }

    fn send(&self, request: Request) -> u64 {
        let mut sent = 0;
        self.request.send_modify(|(version, current)| {
            *version += 1;
            *current = request;
            sent = *version;
        });
        sent
    }
}

impl Progress {
    fn idle() -> Progress {
        Progress {
            state: State::Stopped,
            version: 0,
            timeline: TimelineId::FIRST,
            started_at: Lsn::INVALID,
            written: Lsn::INVALID,
            flushed: Lsn::INVALID,
            latest_end: Lsn::INVALID,
            latest_end_at: 0,
            last_sent_at: 0,
            last_received_at: 0,
            heard_at: None,
            upstream: None,
            upstream_term: None,
            slot: None,
            conninfo: String::new(),
            last_error: None,
        }
    }
}

struct Worker {
    standby: Arc<dyn Standby>,
    wal: Box<dyn ReceivedWal>,
    requests: watch::Receiver<(u64, Request)>,
    publish: watch::Sender<Progress>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (version, request) = *self.requests.borrow_and_update();
            match request {
                Request::Quit => return,
                Request::Stop => self.publish.send_modify(|p| {
                    p.state = State::Stopped;
                    p.version = version;
                }),
                Request::Stream { from, timeline } => self.serve(version, from, timeline).await,
            }
            if self.requests.changed().await.is_err() {
                return;
            }
        }
    }

    /// One request: streams until it is replaced, the timeline ends or something fails.
    async fn serve(&mut self, version: u64, from: Lsn, timeline: TimelineId) {
        self.publish.send_modify(|p| {
            *p = Progress {
                state: State::Connecting,
                version,
                timeline,
                started_at: from,
                written: from,
                flushed: from,
                ..Progress::idle()
            };
        });
        let mut requests = self.requests.clone();
        let outcome = tokio::select! {
            outcome = self.stream(from, timeline) => outcome,
            _ = requests.wait_for(|(v, _)| *v != version) => return self.sync_rest(),
        };
        match outcome {
            Ok(()) => self.publish.send_modify(|p| p.state = State::EndOfTimeline),
            Err(error) => {
                tracing::info!(severity = "FATAL", "{error}");
                self.sync_rest();
                self.publish.send_modify(|p| {
                    p.state = State::Failed;
                    p.last_error = Some(error.to_string());
                });
            }
        }
        self.standby.stream_ended();
    }

    /// What was written but not synced when a stream ended counts once it is synced.
    fn sync_rest(&mut self) {
        if self.wal.sync().is_ok() {
            self.publish.send_modify(|p| p.flushed = p.written);
        }
    }

    async fn stream(&mut self, from: Lsn, timeline: TimelineId) -> Result<(), ReplicationError> {
        let settings = self.standby.upstream();
        let conninfo = settings
            .conninfo
            .clone()
            .ok_or_else(|| ReplicationError::Connect("primary_conninfo is empty".to_owned()))?;
        let mut connection = Connection::open(&conninfo, &self.identity(&settings)).await?;
        self.publish.send_modify(|p| {
            p.upstream = Some(connection.peer.clone());
            p.slot.clone_from(&settings.slot);
            p.conninfo = conninfo.without_password();
        });
        let slot = settings
            .slot
            .as_ref()
            .map_or(String::new(), |s| format!("SLOT \"{s}\" "));
        let command = format!("START_REPLICATION {slot}{from} TIMELINE {timeline}");
        let asked = async {
            self.check_upstream(&mut connection, timeline).await?;
            let started = connection.start_copy_both(&command).await;
            started.map_err(ReplicationError::at_start)
        };
        if let Some(rows) = within(settings.timeout, asked).await? {
            tracing::info!("primary server contains no more WAL on requested timeline {timeline}");
            // It may have been promoted since it was asked how far its timelines go.
            if let Some(next) = next_timeline(&rows) {
                let fetched = self.fetch_history(&mut connection, next);
                within(settings.timeout, fetched).await?;
            }
            return Ok(());
        }
        tracing::info!("streaming replication successfully connected to primary");
        tracing::info!("started streaming WAL from primary at {from} on timeline {timeline}");
        let heard_at = Instant::now();
        self.publish.send_modify(|p| {
            p.state = State::Streaming;
            p.heard_at = Some(heard_at);
        });
        self.receive(&mut connection, &settings, from, timeline)
            .await
    }

    fn identity(&self, settings: &UpstreamSettings) -> Identity {
        let mut options = vec![("understudy.messages".to_owned(), "on".to_owned())];
        if let Some(id) = &settings.instance_id {
            options.push(("understudy.instance_id".to_owned(), id.clone()));
            let term = self.standby.promised_term().unwrap_or_default();
            options.push(("understudy.term".to_owned(), term.to_string()));
        }
        Identity {
            application_name: settings.name.clone(),
            options,
            database: None,
        }
    }

    /// Is it the same cluster, does it know our timeline, has it not been deposed?
    async fn check_upstream(
        &mut self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<(), ReplicationError> {
        let rows = connection.command("IDENTIFY_SYSTEM").await?;
        let (primary, upstream) = identified(&rows)?;
        let standby = self.standby.system_id();
        if primary != standby {
            return Err(ReplicationError::SystemId { primary, standby });
        }
        if upstream < timeline {
            return Err(ReplicationError::TimelineBehind {
                upstream,
                wanted: timeline,
            });
        }
        if let Some(promised) = self.standby.promised_term() {
            let term = connection.promised_term().await?;
            if term < promised {
                return Err(ReplicationError::StaleTerm {
                    upstream: term,
                    promised,
                });
            }
            self.publish.send_modify(|p| p.upstream_term = Some(term));
        }
        let mut wanted = timeline;
        while wanted <= upstream {
            self.fetch_history(connection, wanted).await?;
            wanted = wanted.next();
        }
        Ok(())
    }

    async fn fetch_history(
        &mut self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<(), ReplicationError> {
        if timeline == TimelineId::FIRST
            || self
                .wal
                .has_history(timeline)
                .map_err(ReplicationError::Write)?
        {
            return Ok(());
        }
        tracing::info!(
            "fetching timeline history file for timeline {timeline} from primary server"
        );
        let rows = match connection
            .command(&format!("TIMELINE_HISTORY {timeline}"))
            .await
        {
            // Timelines are numbered by term, so numbers in between may never have existed.
            Err(ReplicationError::Upstream { state, .. }) if state == "58P01" => return Ok(()),
            other => other?,
        };
        let text = match rows.as_slice() {
            [row] if row.len() == 2 => row[1].clone().unwrap_or_default(),
            _ => {
                return Err(ReplicationError::Protocol(
                    "timeline history has another form".to_owned(),
                ));
            }
        };
        self.wal
            .put_history(timeline, text.as_bytes())
            .map_err(ReplicationError::Write)
    }

    async fn receive(
        &mut self,
        connection: &mut Connection,
        settings: &UpstreamSettings,
        from: Lsn,
        timeline: TimelineId,
    ) -> Result<(), ReplicationError> {
        let mut replay = self.standby.replay_lsn();
        let mut session = Session::new(from, settings);
        // Where the stream begins at the upstream's end nothing comes that would be answered, and a primary that has restarted
        // may wait for this word before it shows anything.
        self.reply(connection, &mut session, &replay, false).await?;
        loop {
            if session.written.saturating_sub(session.flushed) >= MOST_UNSYNCED {
                self.sync(connection, &mut session, &replay).await?;
            }
            tokio::select! {
                biased;
                event = connection.copy_event() => match event.map_err(ReplicationError::in_stream)? {
                    CopyEvent::Done => {
                        self.sync_rest();
                        let ends = self.end_of_timeline(connection, timeline);
                        return within(settings.timeout, ends).await;
                    }
                    CopyEvent::Data(payload) => {
                        self.take(&mut session, timeline, payload)?;
                        if let Some(number) = session.probed.take() {
                            tell(connection, &session, FromStandby::Echo { number }).await?;
                        }
                        if std::mem::take(&mut session.reply_requested) {
                            self.reply(connection, &mut session, &replay, false).await?;
                        }
                    }
                },
                () = nothing_more(session.written < session.upstream_end), if session.unsynced => {
                    self.sync(connection, &mut session, &replay).await?;
                }
                changed = replay.changed(), if !session.unsynced => {
                    changed.map_err(|_| ReplicationError::Closed)?;
                    self.reply(connection, &mut session, &replay, false).await?;
                }
                () = tokio::time::sleep_until(session.next_status()) => {
                    let ask = session.is_overdue()?;
                    self.reply(connection, &mut session, &replay, ask).await?;
                }
            }
        }
    }

    async fn sync(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        replay: &watch::Receiver<Lsn>,
    ) -> Result<(), ReplicationError> {
        self.wal.sync().map_err(ReplicationError::Write)?;
        session.unsynced = false;
        session.flushed = session.written;
        self.publish.send_modify(|p| p.flushed = session.flushed);
        self.reply(connection, session, replay, false).await
    }

    fn take(
        &mut self,
        session: &mut Session,
        timeline: TimelineId,
        payload: Bytes,
    ) -> Result<(), ReplicationError> {
        let received_at = now_micros();
        session.heard_at = Instant::now();
        session.asked = false;
        let message = FromPrimary::decode(payload)?;
        // Before anything is written: a volume that hangs must not make its upstream look silent any sooner.
        let came_at = session.came_at(&message, received_at);
        self.publish.send_if_modified(|p| {
            p.heard_at = came_at;
            false
        });
        match message {
            FromPrimary::XLogData {
                start,
                end,
                sent_at,
                data,
            } => {
                if start != session.written {
                    return Err(ReplicationError::OutOfOrder {
                        expected: session.written,
                        got: start,
                    });
                }
                self.wal.expect(end);
                self.wal
                    .write(timeline, start, &data)
                    .map_err(ReplicationError::Write)?;
                session.written = start.advance(data.len() as u64);
                session.unsynced = true;
                session.upstream_end = end;
                self.publish.send_modify(|p| {
                    p.written = session.written;
                    p.note(end, sent_at, received_at);
                });
            }
            FromPrimary::Keepalive {
                end,
                sent_at,
                reply_requested,
            } => {
                session.reply_requested = reply_requested;
                self.publish
                    .send_modify(|p| p.note(end, sent_at, received_at));
            }
            FromPrimary::Released {
                released,
                synchronous,
            } => {
                self.standby.released(timeline, released, synchronous);
            }
            FromPrimary::Probe { number } => session.probed = Some(number),
        }
        Ok(())
    }

    async fn reply(
        &self,
        connection: &mut Connection,
        session: &mut Session,
        replay: &watch::Receiver<Lsn>,
        ask: bool,
    ) -> Result<(), ReplicationError> {
        let apply = *replay.borrow();
        let status = FromStandby::Status {
            write: session.written,
            flush: session.flushed,
            apply,
            sent_at: now_micros(),
            reply_requested: ask,
        };
        tell(connection, session, status).await?;
        session.reported_at = Instant::now();
        if session.feedback {
            let oldest = self.standby.oldest_snapshot();
            if session.fed_back != Some(oldest) {
                tell(connection, session, FromStandby::Needed { oldest }).await?;
                session.fed_back = Some(oldest);
            }
        }
        Ok(())
    }

    async fn end_of_timeline(
        &mut self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<(), ReplicationError> {
        let rows = connection.finish_copy_both(true).await?;
        tracing::info!("replication terminated by primary server");
        if let Some(next) = next_timeline(&rows) {
            let at = rows
                .first()
                .and_then(|r| r.get(1)?.clone())
                .unwrap_or_default();
            tracing::info!("end of WAL reached on timeline {timeline} at {at}");
            self.fetch_history(connection, next).await?;
        }
        Ok(())
    }
}

impl Progress {
    fn note(&mut self, end: Lsn, sent_at: i64, received_at: i64) {
        if end > self.latest_end {
            self.latest_end = end;
            self.latest_end_at = sent_at;
        }
        self.last_sent_at = sent_at;
        self.last_received_at = received_at;
    }
}

/// Positions and times of one stream.
struct Session {
    written: Lsn,
    flushed: Lsn,
    /// How far the upstream's log went when it sent what was received last.
    upstream_end: Lsn,
    unsynced: bool,
    reply_requested: bool,
    /// The number that the upstream wants back.
    probed: Option<u64>,
    heard_at: Instant,
    lateness: Lateness,
    reported_at: Instant,
    /// A reply was asked for after half the time-out without a word.
    asked: bool,
    status_interval: Duration,
    timeout: Duration,
    feedback: bool,
    fed_back: Option<Option<Lsn>>,
}

impl Session {
    fn new(from: Lsn, settings: &UpstreamSettings) -> Session {
        let now = Instant::now();
        Session {
            written: from,
            flushed: from,
            upstream_end: from,
            unsynced: false,
            reply_requested: false,
            probed: None,
            heard_at: now,
            lateness: Lateness::default(),
            reported_at: now,
            asked: false,
            status_interval: settings.status_interval,
            timeout: settings.timeout,
            feedback: settings.feedback,
            fed_back: None,
        }
    }

    /// When the message that was read just now had come.
    fn came_at(&mut self, message: &FromPrimary, received_at: i64) -> Option<Instant> {
        if let FromPrimary::XLogData { sent_at, .. } | FromPrimary::Keepalive { sent_at, .. } =
            message
        {
            self.lateness.note(*sent_at, received_at, self.heard_at);
        }
        self.lateness.came_at(self.heard_at)
    }

    fn next_status(&self) -> Instant {
        const FAR: Duration = Duration::from_secs(3600);
        let regular = if self.status_interval.is_zero() {
            FAR
        } else {
            self.status_interval
        };
        let half = if self.timeout.is_zero() || self.asked {
            FAR
        } else {
            self.timeout / 2
        };
        let end = if self.timeout.is_zero() {
            FAR
        } else {
            self.timeout
        };
        (self.reported_at + regular)
            .min(self.heard_at + half)
            .min(self.heard_at + end)
    }

    /// Whether it is time to ask the upstream for a sign of life; an error when it is too late for that.
    fn is_overdue(&mut self) -> Result<bool, ReplicationError> {
        if self.timeout.is_zero() {
            return Ok(false);
        }
        let silent = self.heard_at.elapsed();
        if silent >= self.timeout {
            return Err(ReplicationError::Timeout);
        }
        let ask = !self.asked && silent >= self.timeout / 2;
        self.asked |= ask;
        Ok(ask)
    }
}

/// One message to the upstream. A socket that is full for as long as the upstream may be silent is a silent upstream.
async fn tell(
    connection: &mut Connection,
    session: &Session,
    message: FromStandby,
) -> Result<(), ReplicationError> {
    let sent = connection.send_copy_data(|out| message.encode(out));
    within(session.timeout, sent).await
}

/// What follows the timeline that has ended, by the rows that say so.
fn next_timeline(rows: &[Row]) -> Option<TimelineId> {
    let next = rows.first()?.first()?.as_deref()?;
    next.parse().ok().map(TimelineId::new)
}

/// System identifier and timeline from `IDENTIFY_SYSTEM`'s row.
fn identified(rows: &[Vec<Option<String>>]) -> Result<(SystemId, TimelineId), ReplicationError> {
    let field = |at: usize| rows.first().and_then(|r| r.get(at)?.as_deref());
    let system = field(0).and_then(|v| v.parse().ok()).map(SystemId::new);
    let timeline = field(1).and_then(|v| v.parse().ok()).map(TimelineId::new);
    system.zip(timeline).ok_or_else(|| {
        ReplicationError::Protocol("could not identify system: another form of answer".to_owned())
    })
}

#[cfg(test)]
mod tests;
