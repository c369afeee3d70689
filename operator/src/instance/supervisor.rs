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
pub(super) mod tests {
    use super::*;

    pub(in crate::instance) fn supervisor(dir: &std::path::Path) -> Supervisor {
        let config = super::super::InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: "c".to_owned(),
            name: "orders-1".to_owned(),
            control_port: 1,
            // Whichever is free.
            port: 0,
            http_port: 0,
            service_port: 4,
            token_file: dir.join("token"),
            engine: dir.join("understudy"),
            seed: crate::decide::Seed::Initdb,
            term: Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: std::collections::BTreeMap::new(),
        };
        let setup = super::super::setup::local(config, dir);
        Supervisor::open(
            Volume::new(dir),
            setup,
            crate::instance::report::nobody_yet(),
        )
        .expect("opened")
    }

    #[test]
    fn what_could_not_be_made_durable_was_not_promised() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        let obstacle = dir.path().join("promise.json.tmp");
        std::fs::create_dir(&obstacle).expect("created");
        let seal = |p: &mut Promise| p.sealed = true;
        let refused = supervisor
            .keep_promise(seal)
            .expect_err("it can't be written");
        assert!(refused.to_string().contains("promise.json"), "{refused}");
        assert!(!supervisor.promise.sealed);
        std::fs::remove_dir(&obstacle).expect("removed");
        supervisor.keep_promise(seal).expect("written");
        let kept = supervisor.volume.load_promise().expect("read");
        assert!(supervisor.promise.sealed && kept == Some(supervisor.promise));
    }

    /// A volume that holds a copy, as far as this process looks.
    fn hold_data(supervisor: &Supervisor) {
        let seed = supervisor.volume.seed();
        std::fs::create_dir_all(seed.join("global")).expect("created");
        std::fs::write(seed.join("global/pg_control"), 7_u64.to_le_bytes()).expect("written");
        let id = &supervisor.promise.instance_id;
        supervisor.volume.adopt_seed(id).expect("adopted");
    }

    /// As it is for a full volume: the process stays and says why, and counts as down.
    #[test]
    fn what_can_not_be_done_is_told_and_tried_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        hold_data(&supervisor);
        let obstacle = supervisor.volume.data().join("understudy.conf.tmp");
        std::fs::create_dir(&obstacle).expect("created");
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let error = supervisor.begin().expect_err("it can't be written");
            let now = Instant::now();
            supervisor.stumble(&error);
            let again_at = supervisor.restart_at.expect("it tries again");
            pauses.push(again_at.duration_since(now));
        }
        assert!(pauses[8] > pauses[0] && pauses[8] < Duration::from_secs(20));
        supervisor.publish();
        let status = supervisor.subscribe().borrow().status.clone();
        assert_eq!(status.state, SupervisorState::Restarting);
        assert!(status.down_ms > 0);
        let said = status.message.expect("said");
        assert!(said.contains("understudy.conf"), "{said}");
    }

    fn set(required: u32) -> crate::api::EngineSet {
        crate::api::EngineSet {
            term: Term::FIRST,
            counter: 1,
            members: vec![InstanceId::random()],
            required,
        }
    }

    #[test]
    fn who_acknowledges_alone_waits_for_the_record_at_every_start() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        hold_data(&supervisor);
        for (required, at_first) in [(0, true), (0, false), (1, true)] {
            supervisor.promise.set = Some(set(required));
            supervisor.state = SupervisorState::Restarting;
            supervisor.start_or_wait(at_first).expect("waits");
            assert_eq!(supervisor.state, SupervisorState::Waiting);
            assert!(supervisor.engine.is_none());
        }
    }

    /// Whoever starts this process again gives it others; in this one the engine never comes up.
    #[tokio::test]
    async fn a_port_that_was_taken_ends_the_supervisor_whatever_starts_the_engine() {
        use super::super::commands::{Call, Command};
        for is_told in [false, true] {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let mut supervisor = supervisor(dir.path());
            hold_data(&supervisor);
            let other = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
            let port = other.local_addr().expect("bound").port();
            supervisor.setup.chosen_ports.push(port);
            // One that acknowledges alone starts when it is told its set.
            supervisor.promise.set = is_told.then(|| set(0));
            let set = supervisor.promise.set.clone();
            let (term, id) = (Term::FIRST, supervisor.promise.instance_id.clone());
            let (commands, orders) = mpsc::channel(1);
            let (reply, answer) = tokio::sync::oneshot::channel();
            if let Some(set) = set {
                let call = Call::Set(crate::api::SetRequest { term, id, set });
                let command = Command { call, reply };
                commands.send(command).await.expect("there is room");
            }
            let ran = supervisor.run(orders, std::future::pending());
            let ended = tokio::time::timeout(Duration::from_secs(60), ran).await;
            let error = ended.expect("it ends").expect_err("it can't go on");
            assert!(is_port_taken(&error), "{error}");
            assert!(error.to_string().contains(&port.to_string()), "{error}");
            if is_told {
                let refusal = answer.await.expect("answered").expect_err("not obeyed");
                assert!(refusal.error.contains("took"), "{}", refusal.error);
            }
        }
    }

    /// What was to begin after an earlier failure must not begin beside what has begun since.
    #[tokio::test]
    async fn one_seed_is_at_work_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.state = SupervisorState::Seeding;
        supervisor.restart_at = Some(Instant::now());
        supervisor.begin_seed();
        assert!(supervisor.restart_at.is_none());
        supervisor.restart_at = Some(Instant::now());
        supervisor.tick().await.expect("nothing to do");
        supervisor.begin_seed();
        assert_eq!(supervisor.seeding.report().attempts, 1);
        supervisor.abort_seed();
        supervisor.begin_seed();
        assert_eq!(supervisor.seeding.report().attempts, 2);
        // There is no engine that could make it.
        let outcome = supervisor.seeding.ended().await;
        assert!(outcome.is_err());
        supervisor.seeded(outcome).expect("noted");
        assert!(supervisor.restart_at.is_some() && !supervisor.seeding.is_at_work());
        assert!(supervisor.seeding.report().error.is_some());
    }

    /// What it was told before is no reason to try again sooner: each attempt costs the primary a copy.
    #[tokio::test]
    async fn a_seed_that_rests_is_not_hurried_by_being_told_the_same() {
        use super::super::commands::{Call, Command};
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.state = SupervisorState::Seeding;
        supervisor.restart_at = Some(Instant::now() + Duration::from_secs(600));
        let id = supervisor.promise.instance_id.clone();
        for (term, attempts) in [(Term::FIRST, 0), (Term::FIRST.next(), 1)] {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let call = Call::Follow(crate::api::FollowRequest {
                term,
                id: id.clone(),
                upstream: None,
                source: None,
            });
            supervisor.obey(Command { call, reply }).await;
            answer.await.expect("answered").expect("obeyed");
            assert_eq!(supervisor.seeding.report().attempts, attempts);
        }
    }

    async fn told_to_copy(
        supervisor: &mut Supervisor,
        instance: &str,
    ) -> crate::api::SeedingReport {
        use super::super::commands::{Call, Command};
        let (reply, answer) = tokio::sync::oneshot::channel();
        let call = Call::Follow(crate::api::FollowRequest {
            term: Term::FIRST,
            id: supervisor.promise.instance_id.clone(),
            upstream: None,
            source: Some(crate::api::SeedSource {
                instance: instance.to_owned(),
                host: "127.0.0.1".to_owned(),
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                port: 1,
            }),
        });
        supervisor.obey(Command { call, reply }).await;
        answer.await.expect("answered").expect("obeyed");
        supervisor.seeding.report()
    }

    /// One that can't be copied costs one attempt, however often it is told.
    #[tokio::test]
    async fn the_standby_that_it_is_told_is_copied_first_and_then_the_primary() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        // There is a database: this is not its very first instance.
        supervisor.promise.system_id = Some("7".to_owned());
        supervisor.begin().expect("begun");
        let report = supervisor.seeding.report();
        assert!(report.asks && report.source.is_none() && report.attempts == 1);
        let report = told_to_copy(&mut supervisor, "orders-3").await;
        assert_eq!(report.source.as_deref(), Some("orders-3"));
        assert!(!report.asks && report.attempts == 1, "to ask is no attempt");
        assert_eq!(told_to_copy(&mut supervisor, "orders-3").await, report);
        // The operator has given that one up.
        let report = told_to_copy(&mut supervisor, "orders-4").await;
        assert_eq!(report.source.as_deref(), Some("orders-4"));
        assert_eq!(report.attempts, 2);
        // There is no engine that could make it.
        let outcome = supervisor.seeding.ended().await;
        assert!(outcome.is_err());
        supervisor.seeded(outcome).expect("noted");
        let failed = supervisor.seeding.report();
        assert_eq!((failed.asks, failed.source.as_deref()), (false, None));
        let said = failed.error.clone().unwrap_or_default();
        assert!(said.starts_with("copying orders-4: "), "{said}");
        assert_eq!(told_to_copy(&mut supervisor, "orders-4").await, failed);
        supervisor.begin().expect("begun");
        let report = supervisor.seeding.report();
        assert_eq!((report.asks, report.source.as_deref()), (false, None));
        // So does the primary's go on, whoever is told late.
        assert_eq!(told_to_copy(&mut supervisor, "orders-3").await, report);
        // A new copy asks again.
        supervisor.abort_seed();
        supervisor.seed_anew().await.expect("begun");
        let report = supervisor.seeding.report();
        assert!(report.asks && report.attempts == 1 && report.error.is_none());
    }

    /// Whatever the engine was being restarted for, it must not come back as a primary that has to close its writes.
    #[tokio::test]
    async fn a_demotion_takes_the_place_of_a_restart_under_way() {
        use super::super::commands::{Call, Command};
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.promise.set = Some(set(1));
        let engine = Engine::start(&supervisor.volume, &supervisor.setup, true);
        supervisor.engine = Some(engine.expect("started"));
        supervisor.restart_by = Some(Instant::now());
        let (reply, answer) = tokio::sync::oneshot::channel();
        let call = Call::Demote(crate::api::DemoteRequest {
            term: Term::FIRST.next(),
            within_ms: 600_000,
        });
        supervisor.obey(Command { call, reply }).await;
        answer.await.expect("answered").expect("obeyed");
        assert!(supervisor.demotion.is_some() && supervisor.restart_by.is_none());
    }

    /// A program in the engine's place, which has answered before.
    fn run_as_engine(supervisor: &mut Supervisor) {
        let mut program = tokio::process::Command::new("sleep");
        let child = program.arg("600").kill_on_drop(true).spawn();
        let socket = supervisor.volume.dir().join("its.sock");
        supervisor.engine = Some(Engine::of_child(child.expect("started"), socket));
        let status = serde_json::json!({"system_id": "7", "role": "standby", "timeline": 1});
        supervisor.heard(serde_json::from_value(status).expect("reads"));
    }

    /// Until the last question has been asked, and what follows from it done.
    async fn decide_on_engine(supervisor: &mut Supervisor) {
        supervisor.unanswered = Unanswered::for_long(1_000);
        let begin = Instant::now();
        while supervisor.unanswered.questions() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "it is decided");
            supervisor.end_hung_engine().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A standby's, or that of a primary without an heir: nobody else would end it.
    #[tokio::test]
    async fn an_engine_that_has_answered_and_never_will_again_is_ended() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        run_as_engine(&mut supervisor);
        let status = supervisor.status.take();
        supervisor.ask_engine().await;
        assert_eq!(supervisor.unanswered.questions(), 0, "much to recover");
        supervisor.status = status;
        supervisor.ask_engine().await;
        assert_eq!(supervisor.unanswered.questions(), 1);
        decide_on_engine(&mut supervisor).await;
        let engine = supervisor.engine.as_mut().expect("until its end is seen");
        let ended = tokio::time::timeout(Duration::from_secs(60), engine.exited()).await;
        let ended = ended.expect("in time").expect("waited for");
        let said = last_words(supervisor.engine.as_ref(), ended);
        assert!(said.contains("did not answer"), "{said}");
    }

    /// Whoever is slow, sealed or about to end may have been silent for long.
    #[tokio::test]
    async fn an_engine_that_is_silent_for_a_reason_is_left_alone() {
        use std::os::unix::process::ExitStatusExt as _;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        run_as_engine(&mut supervisor);
        supervisor.restart_by = Some(Instant::now() + Duration::from_secs(600));
        decide_on_engine(&mut supervisor).await;
        supervisor.restart_by = None;
        supervisor.promise.sealed = true;
        decide_on_engine(&mut supervisor).await;
        supervisor.promise.sealed = false;
        let socket = tokio::net::UnixListener::bind(dir.path().join("its.sock")).expect("bound");
        let answers = tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.expect("accepted");
            let asked = stream.read(&mut [0; 1024]).await.expect("read");
            let body = r#"{"system_id": "7", "role": "standby", "timeline": 1}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let answer = format!("{head}{body}");
            stream.write_all(answer.as_bytes()).await.expect("written");
            asked
        });
        decide_on_engine(&mut supervisor).await;
        assert!(answers.await.expect("asked") > 0);
        let killed = ExitStatus::from_raw(9);
        let said = last_words(supervisor.engine.as_ref(), killed);
        assert!(!said.contains("did not answer"), "{said}");
    }

    /// Before it has answered once it may not know the signal yet, and would die of it.
    #[tokio::test]
    async fn an_engine_that_has_not_answered_is_told_to_reload_later() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        let engine = Engine::start(&supervisor.volume, &supervisor.setup, true);
        supervisor.engine = Some(engine.expect("started"));
        supervisor.reload_engine();
        assert!(supervisor.reload_due);
        let status = serde_json::json!({"system_id": "7", "role": "standby", "timeline": 1});
        supervisor.heard(serde_json::from_value(status).expect("reads"));
        assert!(!supervisor.reload_due);
    }

    #[tokio::test]
    async fn calls_that_are_over_are_not_obeyed() {
        use super::super::commands::{Call, Command};
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        let seal = |term: u32| {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let term = Term::new(term);
            let call = Call::Seal(crate::api::SealRequest { term });
            (Command { call, reply }, answer)
        };
        // Whoever called has gone, perhaps long ago.
        let (command, answer) = seal(9);
        drop(answer);
        supervisor.obey(command).await;
        assert!(!supervisor.promise.sealed);
        for (term, is_obeyed) in [(9, true), (8, false), (9, true)] {
            let (command, answer) = seal(term);
            supervisor.obey(command).await;
            let answer = answer.await.expect("answered");
            assert_eq!(answer.is_ok(), is_obeyed, "term {term}");
            assert_eq!(supervisor.promise.promised_term, Term::new(9));
        }
    }

    /// The crash came between the seed's adoption and the note of what database it is.
    #[test]
    fn a_seed_that_was_adopted_before_a_crash_is_known_after_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let id = supervisor(dir.path()).promise.instance_id;
        let seed = Volume::new(dir.path()).seed();
        std::fs::create_dir_all(seed.join("global")).expect("created");
        std::fs::write(seed.join("global/pg_control"), 7_u64.to_le_bytes()).expect("written");
        Volume::new(dir.path()).adopt_seed(&id).expect("adopted");
        let mut supervisor = supervisor(dir.path());
        assert_eq!(supervisor.promise.system_id, None);
        supervisor.know_system_id().expect("noted");
        let kept = supervisor.volume.load_promise().expect("read");
        assert_eq!(kept.and_then(|p| p.system_id).as_deref(), Some("7"));
    }
}
