//! The supervisor's state and its loop: one task owns everything; calls come in by a channel and go out as status.
//!
//! Invariants: the promise is durable before the engine hears of it, and the engine has obeyed, or has ended, before
//! a call is answered. The engine runs as a primary only under a promise that is not sealed. A copy that was a
//! primary alone (W = 0) starts only when the record's word has come since this process or the engine ended.

use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::commands::Command;
use super::confirming::{Confirming, Word};
use super::engine::{Engine, last_words};
use super::pod::{Duty, News};
use super::report::Published;
use super::seed::Outcome;
use super::seeding::Seeding;
use super::setup::Setup;
use super::unanswered::Unanswered;
use super::{Volume, files};
use crate::api::{EngineRole, EngineStatus, Promise, SupervisorState, Upstream};
use crate::durable;
use crate::ids::{InstanceId, Millis, Term};

/// Crashes within this time are counted.
const CRASH_WINDOW: Duration = Duration::from_secs(300);
/// How long a former primary waits for the record before it starts in its own term, if its set allows that.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// A sealed engine that ends sooner than this after its start, again and again, is restarted less and less often.
const SHORT_LIFE: Duration = Duration::from_secs(30);
/// How often it is seen to that there is room for the next promise.
const BALLAST_PAUSE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);
const POLL_CHANGING: Duration = Duration::from_millis(10);
/// What is expected at any moment and does not come is asked for less often.
const CHANGING_LIMIT: Duration = Duration::from_secs(10);
/// How long the engine may take to answer a question.
const STATUS_LIMIT: Duration = Duration::from_millis(1000);
/// What an engine that was killed gets to end. One that has not then hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// For the engine's fast stop with its last checkpoint, when the supervisor ends.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub struct Supervisor {
    pub(super) volume: Volume,
    pub(super) setup: Setup,
    /// In a pod: what it has to do besides.
    pub(super) duty: Option<Box<Duty>>,
    pub(super) promise: Promise,
    /// Where the primary is, as it was told.
    upstream: Option<ToldUpstream>,
    pub(super) engine: Option<Engine>,
    pub(super) status: Option<EngineStatus>,
    pub(super) state: SupervisorState,
    pub(super) message: Option<String>,
    pub(super) demotion: Option<Demotion>,
    /// The engine was told to end, only to be started again.
    pub(super) restart_by: Option<Instant>,
    /// The engine has not answered yet, and has to read its settings again when it has.
    reload_due: bool,
    pub(super) crashes: VecDeque<Instant>,
    pub(super) down_since: Option<Instant>,
    pub(super) answered_at: Instant,
    pub(super) unanswered: Unanswered,
    pub(super) restart_at: Option<Instant>,
    /// How often in a row it could not go on.
    stumbles: u32,
    ticked_at: Instant,
    started_at: Instant,
    pub(super) began_at: Millis,
    asked_to_end: bool,
    /// A port that was chosen for the engine is another program's: it can only come up in a process that is given others.
    port_taken: Option<io::Error>,
    ballast_at: Instant,
    /// How often in a row a sealed engine has lived for a short time only.
    quick_ends: u32,
    waiting_since: Instant,
    changing_since: Option<Instant>,
    pub(super) seeding: Seeding,
    pub(super) confirming: Confirming,
    pub(super) out: watch::Sender<Published>,
}

/// A clean stop of a primary, asked for by a switchover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demotion {
    pub term: Term,
    pub deadline: Instant,
}

/// The primary of a term is where this says; of another term it says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ToldUpstream {
    term: Term,
    upstream: Upstream,
}

enum Event {
    Command(Command),
    News(News),
    Exited(io::Result<ExitStatus>),
    Seeded(Outcome),
    Answered(Word),
    Tick,
    Stop,
}

impl Supervisor {
    /// Reads the volume, or makes its promise if this is the first start on it. From now on `out` has its status.
    ///
    /// # Errors
    /// Those of [`Supervisor::promise_on`].
    pub fn open(
        volume: Volume,
        setup: Setup,
        out: watch::Sender<Published>,
    ) -> io::Result<Supervisor> {
        let promise = Supervisor::promise_on(&volume, &setup)?;
        Ok(Supervisor::under(volume, setup, promise, out))
    }

    /// The volume's promise, made if this is the first start on it.
    ///
    /// # Errors
    /// When it can't be read or written, or is another cluster's.
    pub fn promise_on(volume: &Volume, setup: &Setup) -> io::Result<Promise> {
        let promise = match volume.load_promise()? {
            Some(promise) => promise,
            None => {
                let promise = Promise {
                    cluster_id: setup.cluster_id.clone(),
                    instance_id: InstanceId::random(),
                    system_id: None,
                    promised_term: setup.term,
                    sealed: false,
                    set: None,
                };
                volume.store_promise(&promise)?;
                promise
            }
        };
        if promise.cluster_id != setup.cluster_id {
            return Err(io::Error::other(format!(
                "the volume belongs to the cluster {}, not to {}",
                promise.cluster_id, setup.cluster_id
            )));
        }
        Ok(promise)
    }

    /// As [`Supervisor::open`], where the volume has given its promise already.
    pub fn under(
        volume: Volume,
        setup: Setup,
        promise: Promise,
        out: watch::Sender<Published>,
    ) -> Supervisor {
        let told_again = "remove it; the operator tells it again";
        let upstream = durable::read_json(&volume.upstream(), told_again).unwrap_or_else(|error| {
            tracing::warn!(%error, "where the primary is will have to be told again");
            None
        });
        let now = Instant::now();
        let began_at = out.borrow().status.began_at;
        let mut supervisor = Supervisor {
            volume,
            setup,
            duty: None,
            promise,
            upstream,
            engine: None,
            status: None,
            state: SupervisorState::Starting,
            message: None,
            demotion: None,
            restart_by: None,
            reload_due: false,
            crashes: VecDeque::new(),
            down_since: None,
            answered_at: now,
            unanswered: Unanswered::default(),
            restart_at: None,
            stumbles: 0,
            ticked_at: now,
            started_at: now,
            began_at,
            asked_to_end: false,
            port_taken: None,
            ballast_at: now,
            quick_ends: 0,
            waiting_since: now,
            changing_since: None,
            seeding: Seeding::default(),
            confirming: Confirming::default(),
            out,
        };
        supervisor.publish();
        supervisor
    }

    pub fn subscribe(&self) -> watch::Receiver<Published> {
        self.out.subscribe()
    }

    /// Until `stop` resolves; then the engine has been shut down. What can't be done in between is tried again, and
    /// the status says what it is: the end of this process would look like the loss of the instance.
    ///
    /// # Errors
    /// When a port that was chosen for the engine is taken; or its engine, told to end, does not.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        tokio::pin!(stop);
        self.clean_up();
        if let Err(error) = self.begin() {
            self.stumble(&error);
        }
        loop {
            self.publish();
            let is_over = self.is_replaced() || (self.asked_to_end && self.may_end());
            if is_over || self.port_taken.is_some() {
                let why = self.port_taken.take();
                self.stop(&mut commands).await?;
                return why.map_or(Ok(()), Err);
            }
            let mut done = Ok(());
            match self.next_event(&mut commands, stop.as_mut()).await {
                Event::Command(command) => self.obey(command).await,
                Event::Exited(status) => done = self.engine_exited(status),
                Event::Seeded(outcome) => done = self.seeded(outcome),
                Event::Answered(word) => self.take_word(word).await,
                Event::Tick => {
                    done = self.tick().await;
                    self.ticked_at = Instant::now();
                }
                Event::News(news) => self.heed(news),
                Event::Stop => {
                    self.asked_to_end = true;
                    self.take_leave();
                }
            }
            if let Err(error) = done {
                self.stumble(&error);
            }
        }
    }

    /// Something could not be done: the volume is full, no process is to be had. Whoever has no engine now begins
    /// again, less and less often, and counts as down.
    pub(super) fn stumble(&mut self, error: &io::Error) {
        if is_port_taken(error) {
            self.port_taken = Some(io::Error::new(error.kind(), error.to_string()));
            return;
        }
        tracing::error!(%error, times = self.stumbles, "the supervisor could not go on; it tries again");
        self.message = Some(error.to_string());
        let pause = Duration::from_millis(200 << self.stumbles.min(6));
        self.stumbles = self.stumbles.saturating_add(1);
        if self.engine.is_some() || self.seeding.is_at_work() {
            return;
        }
        let now = Instant::now();
        self.restart_at = Some(now + pause);
        if self.state != SupervisorState::Seeding {
            self.state = SupervisorState::Restarting;
            self.down_since.get_or_insert(now);
        }
    }

    async fn next_event(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Event {
        let poll = self.poll_pause();
        let exited = async {
            match &mut self.engine {
                Some(engine) => engine.exited().await,
                None => std::future::pending().await,
            }
        };
        let seeded = self.seeding.ended();
        let answered = self.confirming.answered();
        let heard = async {
            match &mut self.duty {
                Some(duty) => duty.hear().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop, if !self.asked_to_end => Event::Stop,
            status = exited => Event::Exited(status),
            Some(command) = commands.recv() => Event::Command(command),
            news = heard => Event::News(news),
            outcome = seeded => Event::Seeded(outcome),
            word = answered => Event::Answered(word),
            // From the last one on: calls that come more often must not put it off for ever.
            () = tokio::time::sleep_until((self.ticked_at + poll).into()) => Event::Tick,
        }
    }

    fn poll_pause(&mut self) -> Duration {
        if !self.is_changing() {
            self.changing_since = None;
            return POLL;
        }
        let since = *self.changing_since.get_or_insert_with(Instant::now);
        if since.elapsed() < CHANGING_LIMIT {
            POLL_CHANGING
        } else {
            POLL
        }
    }

    /// Whether something is expected to happen at any moment.
    fn is_changing(&self) -> bool {
        let starting = matches!(
            self.state,
            SupervisorState::Starting | SupervisorState::Restarting
        );
        let engine = self.status.as_ref().is_some_and(|e| match e.role {
            EngineRole::Primary => !e.writable || (e.set.is_some() && !e.set_caught_up),
            EngineRole::Standby => !e.consistent || self.promise.is_for_primary(),
        });
        starting || engine || self.demotion.is_some()
    }

    /// From what the volume holds to the engine, a seed, or waiting for the record.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if !self.volume.holds(&self.promise.instance_id)? {
            self.volume.set_data_aside()?;
            self.state = SupervisorState::Seeding;
            self.begin_seed();
            return Ok(());
        }
        self.know_system_id()?;
        if self.promise.sealed {
            self.volume.make_standby()?;
        }
        let is_first_start = self.crashes.is_empty();
        self.start_or_wait(is_first_start)
    }

    /// A primary's data starts when the record says so: always where it acknowledges alone, `at_first` where members
    /// have to confirm.
    fn start_or_wait(&mut self, at_first: bool) -> io::Result<()> {
        let set = self.promise.set.as_ref();
        let waits = set.is_some_and(|set| set.required == 0 || at_first);
        if waits && !self.volume.is_standby() {
            self.state = SupervisorState::Waiting;
            self.waiting_since = Instant::now();
            return Ok(());
        }
        self.start_engine()
    }

    pub(super) fn start_engine(&mut self) -> io::Result<()> {
        self.write_files()?;
        self.status = None;
        self.reload_due = false;
        self.started_at = Instant::now();
        self.answered_at = self.started_at;
        self.unanswered = Unanswered::default();
        let serves_clients = !self.gives_way();
        if serves_clients {
            self.stand_back();
        }
        let engine = Engine::start(&self.volume, &self.setup, serves_clients)?;
        self.engine = Some(engine);
        self.confirming.engine_starts();
        if let Some(duty) = &mut self.duty {
            duty.engine_starts_with(&self.setup.parameters);
        }
        self.state = if self.down_since.is_some() {
            SupervisorState::Restarting
        } else {
            SupervisorState::Starting
        };
        Ok(())
    }

    /// Has the engine read its settings again. One that has not answered yet does so when it has: it might still know
    /// no better than to die of the signal.
    pub(super) fn reload_engine(&mut self) {
        match &self.engine {
            Some(engine) if self.status.is_some() => engine.reload(),
            Some(_) => self.reload_due = true,
            None => {}
        }
    }

    /// Says whether that changed anything.
    pub(super) fn write_files(&self) -> io::Result<bool> {
        let content = files::Content {
            setup: &self.setup,
            promise: &self.promise,
            conninfo: &self.conninfo(),
            only_reads: self.duty.as_ref().is_some_and(|duty| duty.only_reads()),
        };
        files::write(&self.volume, &content)
    }

    pub(super) fn conninfo(&self) -> String {
        self.setup.conninfo(self.told_primary())
    }

    /// Where the primary of the promised term is, if that was told.
    pub(super) fn told_primary(&self) -> Option<&Upstream> {
        let told = self.upstream.as_ref();
        let told = told.filter(|told| told.term == self.promise.promised_term);
        told.map(|told| &told.upstream)
    }

    /// Keeps where the primary of `term` is; says whether that is new.
    pub(super) fn note_upstream(
        &mut self,
        term: Term,
        upstream: Option<&Upstream>,
    ) -> io::Result<bool> {
        let Some(upstream) = upstream else {
            return Ok(false);
        };
        let told = ToldUpstream {
            term,
            upstream: upstream.clone(),
        };
        if self.upstream.as_ref() == Some(&told) {
            return Ok(false);
        }
        let bytes = serde_json::to_vec(&told).map_err(io::Error::other)?;
        durable::replace(&self.volume.upstream(), &bytes)?;
        self.upstream = Some(told);
        Ok(true)
    }

    fn engine_exited(&mut self, status: io::Result<ExitStatus>) -> io::Result<()> {
        let engine = self.engine.take();
        self.status = None;
        let is_restart = self.restart_by.take().is_some();
        let status = status?;
        let said = || last_words(engine.as_ref(), status);
        if let Some(demotion) = self.demotion.take() {
            return self.finish_demotion(demotion.term);
        }
        let now = Instant::now();
        let deposed = status.code() == Some(3);
        if is_restart && !deposed && !self.promise.sealed {
            return self.start_or_wait(false);
        }
        if deposed || self.promise.sealed {
            tracing::info!(%status, "the engine has ended; it starts again in recovery");
            self.volume.make_standby()?;
            let pause = self.pause_of_sealed(now);
            if pause.is_zero() {
                return self.start_engine();
            }
            let why = said();
            tracing::warn!(%why, "the engine does not stay up");
            self.message = Some(why);
            self.restart_at = Some(now + pause);
            return Ok(());
        }
        self.down_since.get_or_insert(now);
        self.crashes.push_back(now);
        self.forget_old_crashes(now);
        self.message = Some(said());
        tracing::error!(%status, crashes = self.crashes.len(), "the engine has ended unasked");
        let wait = match self.crashes.len() {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(200 << (n - 2).min(6)),
        };
        self.state = SupervisorState::Restarting;
        if wait.is_zero() {
            return self.begin();
        }
        self.restart_at = Some(now + wait);
        Ok(())
    }

    /// An engine that can't start in recovery is tried again less and less often.
    fn pause_of_sealed(&mut self, now: Instant) -> Duration {
        let quick = now.duration_since(self.started_at) < SHORT_LIFE;
        self.quick_ends = if quick { self.quick_ends + 1 } else { 0 };
        match self.quick_ends {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(25 << (n - 2).min(7)),
        }
    }

    fn forget_old_crashes(&mut self, now: Instant) {
        while self
            .crashes
            .front()
            .is_some_and(|at| now.duration_since(*at) > CRASH_WINDOW)
        {
            self.crashes.pop_front();
        }
    }

    async fn tick(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.keep_ballast(now);
        self.forget_old_crashes(now);
        if let Some(demotion) = self.demotion
            && now >= demotion.deadline
        {
            self.end_engine().await?;
            self.demotion = None;
            return self.finish_demotion(demotion.term);
        }
        if self.restart_by.is_some_and(|by| now >= by) {
            self.end_engine().await?;
            return self.start_or_wait(false);
        }
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            if self.engine.is_none() && !self.seeding.is_at_work() {
                return self.begin();
            }
        }
        if self.state == SupervisorState::Waiting {
            let alone = self
                .promise
                .set
                .as_ref()
                .is_none_or(|set| set.required == 0);
            if !alone && now.duration_since(self.waiting_since) >= RECORD_WAIT {
                tracing::warn!(
                    "the record is not to be had; starting in the promised term, members must confirm"
                );
                return self.start_engine();
            }
        }
        self.ask_engine().await;
        self.end_hung_engine().await;
        self.see_to_duty().await;
        self.give_port_back().await;
        Ok(())
    }

    pub(super) async fn ask_engine(&mut self) {
        let Some(engine) = &self.engine else { return };
        let asked_at = Instant::now();
        match engine.control().status(STATUS_LIMIT).await {
            Ok(mut status) => {
                // It may have been made as soon as it was asked for.
                let age = asked_at.elapsed().as_millis();
                status.grow_older(u64::try_from(age).unwrap_or(u64::MAX));
                self.heard(status);
            }
            Err(error) => {
                // One that has only begun may have much to recover.
                if self.status.is_some() && error.is_silence() {
                    self.unanswered.note(Instant::now());
                }
                tracing::debug!(%error, "the engine does not answer");
            }
        }
    }

    pub(super) fn heard(&mut self, status: EngineStatus) {
        self.answered_at = Instant::now();
        self.unanswered = Unanswered::default();
        let flushed = |status: &EngineStatus| status.flush_lsn;
        if self.status.as_ref().map(flushed) != Some(status.flush_lsn)
            && let Some(duty) = &self.duty
        {
            duty.saw_flush();
        }
        // Crash recovery of a primary is not service yet: until its end it still counts as down.
        let up = match status.role {
            EngineRole::Primary => !status.in_recovery,
            EngineRole::Standby => self.volume.is_standby(),
        };
        if up {
            self.down_since = None;
            self.state = SupervisorState::Running;
            self.message = None;
            self.stumbles = 0;
        }
        let streams = status.receiver.as_ref();
        let streams = streams.is_some_and(|receiver| receiver.state == "streaming");
        // A stream begins also where the log that it is to bring is gone.
        let before = self.status.as_ref().and_then(flushed);
        if streams && before.is_some() && before < status.flush_lsn {
            self.seeding.streamed();
        }
        self.status = Some(status);
        self.see_to_hold();
        if std::mem::take(&mut self.reload_due) {
            self.reload_engine();
        }
    }

    /// SIGKILL, and the end is seen.
    ///
    /// # Errors
    /// When it has not ended soon: then it still is this supervisor's engine, and whoever asked must not count on it.
    pub(super) async fn end_engine(&mut self) -> io::Result<()> {
        self.status = None;
        if let Some(engine) = &mut self.engine {
            engine.kill(KILL_LIMIT).await?;
        }
        self.engine = None;
        self.restart_by = None;
        Ok(())
    }

    /// Changes the promise. What could not be made durable was not promised, and nobody is told of it.
    /// Says whether that changed anything.
    pub(super) fn keep_promise(&mut self, change: impl FnOnce(&mut Promise)) -> io::Result<bool> {
        let mut promise = self.promise.clone();
        change(&mut promise);
        let is_new = promise != self.promise;
        if is_new {
            self.volume.store_promise(&promise)?;
            self.promise = promise;
        }
        Ok(is_new)
    }

    /// Room for the next promise, which may have to be made when the volume is full.
    fn keep_ballast(&mut self, now: Instant) {
        if now < self.ballast_at {
            return;
        }
        self.ballast_at = now + BALLAST_PAUSE;
        // On a volume that hangs this loop must not.
        let may_write = self.duty.as_ref().is_none_or(|duty| duty.takes_writes());
        if may_write && let Err(error) = self.volume.keep_ballast() {
            tracing::debug!(%error, "no room is kept for the next promise");
        }
    }

    /// A crash after a seed was adopted may have come before this was noted.
    pub(super) fn know_system_id(&mut self) -> io::Result<()> {
        if self.promise.system_id.is_some() {
            return Ok(());
        }
        let system_id = self.volume.system_id()?;
        self.keep_promise(|promise| promise.system_id = Some(system_id))?;
        Ok(())
    }

    pub(super) fn finish_demotion(&mut self, term: Term) -> io::Result<()> {
        self.keep_promise(|promise| {
            // The order may be an old one by now.
            promise.promised_term = promise.promised_term.max(term);
            promise.sealed = true;
        })?;
        self.volume.make_standby()?;
        self.down_since = None;
        self.note_closed();
        self.start_engine()
    }

    /// Forgets why the engine was down: somebody else decided what it is to be now.
    pub(super) fn settle(&mut self) {
        self.down_since = None;
        self.restart_at = None;
        self.message = None;
    }

    /// Fast shutdown, bounded; calls that come meanwhile are refused by the closed channel.
    async fn stop(mut self, commands: &mut mpsc::Receiver<Command>) -> io::Result<()> {
        commands.close();
        self.abort_seed();
        // Whoever hears no word any more does not know whom to pass clients on to either.
        self.stand_back();
        self.state = SupervisorState::Stopping;
        self.publish();
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        engine.interrupt();
        match tokio::time::timeout(STOP_LIMIT, engine.exited()).await {
            Ok(_) => Ok(()),
            Err(_) => self.end_engine().await,
        }
    }
}

/// Nothing else here binds a port.
pub(super) fn is_port_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

#[cfg(test)]
pub(super) mod tests;
