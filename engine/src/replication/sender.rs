//! The walsender: streams the log to one standby from the moment it is flushed here.
//!
//! Sends only what is flushed locally, whole ranges of bytes without looking at records. Wakes when the flush
//! position moves, not on a timer (but for a look at the clock, see [`standstill`]; where that finds that nothing was said
//! for a while, a managed primary says that it is there, and where nothing was heard it asks for a word: by silence it
//! knows that it is cut off, see [`crate::txn::release::isolation`]). However much there is to send, it gives
//! way after each chunk and looks at everything else that may have come: the standby's answers, its silence, whoever ends
//! the session. Ends the stream with CopyDone where its timeline ends (a standby that is
//! being promoted, or an old timeline asked for by number), at a fast shutdown only after the standby has
//! flushed everything, and when the standby is silent for `wal_sender_timeout`.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ids::{Lsn, TimelineId};
use crate::replication::clock::now_micros;
use crate::replication::messages::{FromPrimary, FromStandby, put_xlog_data_header};
use crate::replication::reply::{self, CommandError, Link, ServeError};
use crate::replication::slots::Slots;
use crate::replication::standbys::{LagTracker, Registration, SenderState};
use crate::replication::standstill::Standstill;
use crate::types::oids;
use crate::wal::{Wal, WalError};

/// WAL bytes in one message; PostgreSQL's `MAX_SEND_SIZE`.
const CHUNK: usize = 128 << 10;

/// A managed primary leaves its standbys without a word for no longer than this, give or take a look at the clock: by when
/// they heard it last their operator judges a primary that it does not hear itself (`operator/src/decide/streams.rs`).
const SPEAK_EVERY: Duration = Duration::from_millis(500);

/// A managed primary asks a standby for a word that it has not heard for so long, and no more often: twice, and with a look
/// at the clock between, before its silence is [`crate::txn::release::isolation::ISOLATED`].
const ASK_AFTER: Duration = Duration::from_millis(300);

/// What a sender asks of its server.
pub trait Upstream: Send + Sync + 'static {
    fn wal(&self) -> &Arc<Wal>;
    fn slots(&self) -> &Arc<Slots>;
    /// `wal_sender_timeout`; zero: none.
    fn sender_timeout(&self) -> Duration;
    /// Position up to which every commit is released and on the required standbys, and whether any is required.
    fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)>;
    /// True once a shutdown has written its last record: send what is left, then end.
    fn shutting_down(&self) -> watch::Receiver<bool>;
    /// Whether this server is an operator's primary now. A standby's word would tell nothing of its primary.
    fn is_managed_primary(&self) -> bool;
    /// The standby's oldest snapshot, by the slot of its sender; `None` takes it back.
    fn feedback(&self, sender: u64, oldest: Option<Lsn>);
}

/// `START_REPLICATION`
#[derive(Debug, Clone)]
pub struct StartReplication {
    pub slot: Option<String>,
    pub start: Lsn,
    pub timeline: Option<TimelineId>,
    /// The client is our own receiver and wants the messages of our own.
    pub own_messages: bool,
    /// `wal_sender_timeout` as the client asked for it; zero: none. `None`: the server's, as it is at each moment.
    pub timeout: Option<Duration>,
}

/// Where a requested timeline ends here; `None` for the one that is being written.
fn historic_end(
    wal: &Wal,
    request: &StartReplication,
) -> Result<(TimelineId, Option<Lsn>), CommandError> {
    let timeline = request.timeline.unwrap_or_else(|| wal.timeline());
    let Some(end) = end_of(wal, timeline)? else {
        return Ok((timeline, None));
    };
    if request.start > end {
        let message = format!(
            "requested starting point {} on timeline {timeline} is not in this server's history",
            request.start
        );
        let detail = format!("This server's history forked from timeline {timeline} at {end}.");
        return Err(CommandError::new("22023", message).detail(detail));
    }
    Ok((timeline, Some(end)))
}

/// Where the timeline ends by the history that this server writes or follows; `None` for its newest. (While it follows
/// others `Wal::timeline` is that of what was replayed, or received, last, which may be an older one.)
fn end_of(wal: &Wal, timeline: TimelineId) -> Result<Option<Lsn>, CommandError> {
    wal.with_history(|history| match history {
        None => Ok(None),
        Some(history) if history.timeline() == timeline => Ok(None),
        Some(history) => match history.end_of(timeline) {
            Some(end) => Ok(Some(end)),
            None => {
                let message =
                    format!("requested timeline {timeline} is not in this server's history");
                Err(CommandError::new("22023", message))
            }
        },
    })
}

/// Serves one `START_REPLICATION` from CopyBothResponse to CommandComplete.
pub async fn stream<L: Link>(
    link: &mut L,
    upstream: &dyn Upstream,
    registration: &Registration,
    sender_id: u64,
    request: StartReplication,
) -> Result<(), ServeError> {
    let wal = upstream.wal();
    let (timeline, end) = historic_end(wal, &request)?;
    if end == Some(request.start) {
        next_timeline(link.out(), wal, timeline, end);
        complete(link.out());
        return Ok(());
    }
    let flushed = wal.flush_lsn();
    if request.start > flushed {
        let message = format!(
            "requested starting point {} is ahead of the WAL flush position of this server {flushed}",
            request.start
        );
        return Err(CommandError::new("55000", message).into());
    }
    let _acquired = match &request.slot {
        Some(name) => Some(upstream.slots().acquire(name, registration.process())?),
        None => None,
    };
    reply::copy_response(link.out(), b'W');
    link.flush().await?;
    let mut sender = Sender {
        link,
        upstream,
        registration,
        sender_id,
        timeline,
        end,
        slot: request.slot.clone(),
        sent: request.start,
        flushed_there: Lsn::INVALID,
        lag: LagTracker::default(),
        heard_at: Instant::now(),
        spoke_at: Instant::now(),
        prompted_at: Instant::now(),
        asked: false,
        caught_up: false,
        peer_done: false,
        own_messages: request.own_messages,
        own_timeout: request.timeout,
        standstill: Standstill::new(Instant::now()),
        doubted: None,
    };
    registration.begin_stream(timeline, request.start);
    registration.set_state(SenderState::Catchup);
    let outcome = sender.run().await;
    upstream.feedback(sender_id, None);
    outcome
}

struct Sender<'a, L: Link> {
    link: &'a mut L,
    upstream: &'a dyn Upstream,
    registration: &'a Registration,
    sender_id: u64,
    timeline: TimelineId,
    /// Where the timeline ends, once it is no longer the one being written.
    end: Option<Lsn>,
    slot: Option<String>,
    sent: Lsn,
    flushed_there: Lsn,
    lag: LagTracker,
    heard_at: Instant,
    /// When something was sent last.
    spoke_at: Instant,
    /// When a managed standby was asked for a word last.
    prompted_at: Instant,
    asked: bool,
    caught_up: bool,
    peer_done: bool,
    own_messages: bool,
    own_timeout: Option<Duration>,
    standstill: Standstill,
    /// The last report that came in doubt.
    doubted: Option<FromStandby>,
}

/// Why a stream ends in good order.
enum Ending {
    Timeline,
    Shutdown,
    Peer,
}

impl<L: Link> Sender<'_, L> {
    async fn run(&mut self) -> Result<(), ServeError> {
        let ending = self.until_end().await?;
        if let Ending::Shutdown = ending {
            self.drain().await?;
        }
        reply::copy_done(self.link.out());
        self.flush_within_timeout().await?;
        while !self.peer_done {
            self.take_message().await?;
        }
        match ending {
            Ending::Timeline => next_timeline(
                self.link.out(),
                self.upstream.wal(),
                self.timeline,
                self.end,
            ),
            Ending::Shutdown => {
                reply::complete(self.link.out(), "COPY 0");
                self.flush_within_timeout().await?;
                return Err(ServeError::Ended);
            }
            Ending::Peer => {}
        }
        complete(self.link.out());
        Ok(())
    }

    async fn until_end(&mut self) -> Result<Ending, ServeError> {
        let mut flush = self.upstream.wal().flush_watch();
        let mut safe = self.upstream.safe_watch();
        let mut stopping = self.upstream.shutting_down();
        safe.mark_changed();
        loop {
            flush.borrow_and_update();
            if self.own_messages && safe.has_changed().unwrap_or(false) {
                // Goes out with the bytes, if there are any: the standby wakes once for both.
                let (all, synchronous) = *safe.borrow_and_update();
                // Behind the timeline's end it speaks of another one's commits. Asked after it was read: a promotion, of this
                // server or of the one that it follows, changes the history first.
                let end = end_of(self.upstream.wal(), self.timeline)?;
                let released = end.map_or(all, |end| end.min(all));
                let message = FromPrimary::Released {
                    released,
                    synchronous,
                };
                reply::copy_data(self.link.out(), |out| message.encode(out));
            }
            let more = self.send_some().await?;
            self.break_silence();
            self.flush_within_timeout().await?;
            // A standby that is promoted may have passed on half a record, which its new timeline does not begin with.
            if self.end.is_some_and(|end| end <= self.sent) {
                return Ok(Ending::Timeline);
            }
            if self.peer_done {
                return Ok(Ending::Peer);
            }
            if !more && !self.caught_up {
                self.caught_up = true;
                self.registration.set_state(SenderState::Streaming);
            }
            if *stopping.borrow_and_update() && !more {
                return Ok(Ending::Shutdown);
            }
            let check_at = self.next_check();
            let look_at = self.standstill.next();
            tokio::select! {
                biased;
                received = self.link.receive() => self.handle(received?)?,
                () = tokio::time::sleep_until(check_at) => self.check_silence().await?,
                // Last in its turn: others on this thread run, and the runtime looks into the sockets.
                () = tokio::task::yield_now(), if more => {}
                changed = flush.changed(), if !more => changed.map_err(|_| ServeError::Closed)?,
                changed = safe.changed(), if self.own_messages && !more => {
                    changed.map_err(|_| ServeError::Closed)?;
                    safe.mark_changed();
                }
                _ = stopping.changed(), if !more => {}
                () = tokio::time::sleep_until(look_at), if !more => {}
            }
            self.mind_standstill();
        }
    }

    /// After a standstill: what the standby says is doubted until it has answered; the question goes out with the next flush.
    fn mind_standstill(&mut self) {
        self.registration.looks();
        if !self.own_messages {
            // PostgreSQL's standby cannot be asked.
            self.standstill = Standstill::new(Instant::now());
            return;
        }
        if let Some(number) = self.standstill.awake(Instant::now()) {
            let probe = FromPrimary::Probe { number };
            reply::copy_data(self.link.out(), |out| probe.encode(out));
        }
    }

    /// Sends one chunk; true if there is more to send.
    async fn send_some(&mut self) -> Result<bool, ServeError> {
        let wal = Arc::clone(self.upstream.wal());
        // In this order: a promotion, of this server or of the one that it follows, changes the history before it writes
        // what is no longer this timeline's.
        let flushed = wal.flush_lsn();
        self.end = end_of(&wal, self.timeline)?;
        let limit = self.end.map_or(flushed, |end| end.min(flushed));
        let available = limit.saturating_sub(self.sent);
        if available == 0 {
            return Ok(false);
        }
        let room = usize::try_from(available).unwrap_or(CHUNK).min(CHUNK);
        let before = self.link.out().len();
        let mut failed = None;
        let mut n = 0;
        reply::copy_data(self.link.out(), |out| {
            put_xlog_data_header(out, self.sent, limit, now_micros());
            let at = out.len();
            out.resize(at + room, 0);
            let buf = &mut out[at..];
            // Below its end an old timeline's log is its successors' too, and the segment in which it ends may be
            // there only under a successor's name.
            match wal.read_flushed(self.sent, buf) {
                Ok(got) => n = got,
                Err(error) => failed = Some(error),
            }
            out.truncate(at + n);
        });
        // Asked again: what was read while the history changed may be the next timeline's already.
        if !matches!(end_of(&wal, self.timeline), Ok(end) if end == self.end) {
            self.link.out().truncate(before);
            return Ok(true);
        }
        let is_gone = match &failed {
            None => n == 0 && wal.flush_lsn() <= self.sent,
            Some(error) => matches!(error, WalError::NotFlushed { .. }),
        };
        if is_gone {
            // A promotion has just cut off what was flushed of half a record.
            self.link.out().truncate(before);
            return Ok(false);
        }
        if failed.is_some() || n == 0 {
            self.link.out().clear();
            let error = failed.map_or_else(|| cut_short(self.sent), |e| wal_error(&e));
            return Err(ServeError::Command(error));
        }
        self.flush_within_timeout().await?;
        self.sent = self.sent.advance(n as u64);
        self.registration.set_sent(self.sent);
        self.lag.sent(self.sent, now_micros());
        Ok(self.sent < limit)
    }

    /// Zero: none.
    fn timeout(&self) -> Duration {
        self.own_timeout
            .unwrap_or_else(|| self.upstream.sender_timeout())
    }

    async fn flush_within_timeout(&mut self) -> Result<(), ServeError> {
        let has_words = !self.link.out().is_empty();
        let limit = self.timeout();
        if limit.is_zero() {
            self.link.flush().await?;
        } else {
            match tokio::time::timeout(limit, self.link.flush()).await {
                Ok(done) => done?,
                Err(_) => return Err(timed_out()),
            }
        }
        if has_words {
            self.spoke_at = Instant::now();
        }
        Ok(())
    }

    async fn take_message(&mut self) -> Result<(), ServeError> {
        let check_at = self.next_check();
        tokio::select! {
            received = self.link.receive() => self.handle(received?)?,
            () = tokio::time::sleep_until(check_at) => self.check_silence().await?,
        }
        self.flush_within_timeout().await
    }

    fn handle(&mut self, received: Option<(u8, bytes::Bytes)>) -> Result<(), ServeError> {
        let (kind, body) = received.ok_or(ServeError::Closed)?;
        self.mind_standstill();
        self.heard_at = Instant::now();
        self.asked = false;
        match kind {
            b'd' => {
                let message = FromStandby::decode(body).map_err(|error| {
                    ServeError::Fatal(CommandError::new("08P01", error.to_string()))
                })?;
                self.standby_says(message)
            }
            b'c' => {
                self.peer_done = true;
                Ok(())
            }
            b'X' => Err(ServeError::Closed),
            other => {
                let what = format!("invalid standby message type \"{}\"", char::from(other));
                Err(ServeError::Fatal(CommandError::new("08P01", what)))
            }
        }
    }

    fn standby_says(&mut self, message: FromStandby) -> Result<(), ServeError> {
        match message {
            FromStandby::Status {
                write,
                flush,
                apply,
                sent_at,
                reply_requested,
            } => {
                // Nobody has what was not sent. Believed once, it would acknowledge commits that are still to come, as what
                // a member has flushed stays flushed. (A receiver counts from where its stream begins, and says how far
                // replay is with each sync: what it has from before counts again as soon as it has come again.)
                let told = [write, flush, apply];
                let [write, flush, apply] = told.map(|position| position.min(self.sent));
                let lags = self.lag.reported(write, flush, apply, now_micros());
                // A client that says nothing of flushes (pg_receivewal) is taken at its word for writes.
                self.flushed_there = if flush.is_valid() { flush } else { write };
                if self.standstill.trusts() {
                    self.registration
                        .reported(write, flush, apply, sent_at, lags);
                } else {
                    self.doubted = Some(FromStandby::Status {
                        write,
                        flush,
                        apply,
                        sent_at,
                        // It is answered now.
                        reply_requested: false,
                    });
                }
                if let Some(slot) = &self.slot {
                    self.upstream.slots().advance(slot, flush);
                }
                if reply_requested {
                    self.keepalive(false);
                }
            }
            // PostgreSQL's xmin says nothing to a server whose snapshots are positions.
            FromStandby::Feedback { .. } => {}
            FromStandby::Needed { oldest } => self.upstream.feedback(self.sender_id, oldest),
            FromStandby::Echo { number } => {
                self.standstill.echo(number);
                if self.standstill.trusts()
                    && let Some(report) = self.doubted.take()
                {
                    self.standby_says(report)?;
                }
            }
        }
        Ok(())
    }

    /// Queued; goes out with the next flush.
    fn keepalive(&mut self, reply_requested: bool) {
        let message = FromPrimary::Keepalive {
            end: self.sent,
            sent_at: now_micros(),
            reply_requested,
        };
        reply::copy_data(self.link.out(), |out| message.encode(out));
    }

    /// Queues a word where there was none for a while, and one that has to be answered where none has come.
    fn break_silence(&mut self) {
        if !self.own_messages {
            return;
        }
        let now = Instant::now();
        let since = |at: Instant| now.saturating_duration_since(at);
        let asks = since(self.heard_at) >= ASK_AFTER && since(self.prompted_at) >= ASK_AFTER;
        let is_silent = self.link.out().is_empty() && since(self.spoke_at) >= SPEAK_EVERY;
        if (asks || is_silent) && self.upstream.is_managed_primary() {
            if asks {
                self.prompted_at = now;
            }
            self.keepalive(asks);
        }
    }

    fn next_check(&self) -> Instant {
        let limit = self.timeout();
        if limit.is_zero() {
            return Instant::now() + Duration::from_secs(3600);
        }
        self.heard_at + if self.asked { limit } else { limit / 2 }
    }

    async fn check_silence(&mut self) -> Result<(), ServeError> {
        let limit = self.timeout();
        if limit.is_zero() {
            return Ok(());
        }
        if self.heard_at.elapsed() >= limit {
            return Err(timed_out());
        }
        self.asked = true;
        self.keepalive(true);
        self.flush_within_timeout().await
    }

    /// At a shutdown: waits until the standby has flushed everything, so that it can take over without loss.
    async fn drain(&mut self) -> Result<(), ServeError> {
        self.registration.set_state(SenderState::Stopping);
        while self.send_some().await? {
            tokio::task::yield_now().await;
        }
        self.keepalive(true);
        self.flush_within_timeout().await?;
        while self.flushed_there < self.sent && !self.peer_done {
            self.take_message().await?;
        }
        Ok(())
    }
}

/// Twice, as PostgreSQL does: its programs read one as the end of the row set that tells the next timeline, and
/// wait for another as the end of the command.
fn complete(out: &mut BytesMut) {
    reply::complete(out, "START_STREAMING");
    reply::complete(out, "START_REPLICATION");
}

/// The row set that follows a historic timeline: which comes next, and from where.
fn next_timeline(out: &mut BytesMut, wal: &Wal, timeline: TimelineId, end: Option<Lsn>) {
    let next = wal.history().and_then(|history| {
        let later = history
            .ancestors()
            .iter()
            .map(|a| a.timeline)
            .filter(|t| *t > timeline)
            .min();
        Some(later.unwrap_or(history.timeline())).filter(|t| *t > timeline)
    });
    if let (Some(next), Some(end)) = (next, end) {
        reply::columns(
            out,
            &[("next_tli", oids::INT8), ("next_tli_startpos", oids::TEXT)],
        );
        reply::row(out, &[Some(&next.to_string()), Some(&end.to_string())]);
    }
}

fn timed_out() -> ServeError {
    ServeError::Fatal(CommandError::new(
        "08006",
        "terminating walsender process due to replication timeout",
    ))
}

/// The file is there, and ends before its time.
fn cut_short(at: Lsn) -> CommandError {
    let message = format!("could not read WAL at {at}: its segment is shorter than it should be");
    CommandError::new("XX001", message)
}

fn wal_error(error: &WalError) -> CommandError {
    let state = match error {
        WalError::SegmentRemoved(_) => "58P01",
        _ => "58030",
    };
    CommandError::new(state, error.to_string())
}

#[cfg(test)]
mod tests;
