//! The operator's calls. Each checks term and copy, makes the promise durable, and has the engine obey.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::read_config;
use super::seed::Choice;
use super::setup::{self, Origin};
use super::supervisor::{Demotion, Supervisor, is_port_taken};
use crate::api::{
    DemoteRequest, EngineRole, EngineSet, FollowRequest, PromoteRequest, Refusal, ReseedRequest,
    RestartRequest, SealRequest, SetRequest, SupervisorState,
};
use crate::durable;
use crate::ids::{InstanceId, Term};

/// How long the engine may take to obey before it is ended instead.
const OBEY_LIMIT: Duration = Duration::from_millis(1500);
/// No demotion takes longer, whatever was asked for.
const DEMOTION_LIMIT: Duration = Duration::from_secs(3600);
/// What the engine gets for the fast stop of a restart before it is ended.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub enum Call {
    Seal(SealRequest),
    Demote(DemoteRequest),
    Promote(PromoteRequest),
    Set(SetRequest),
    Follow(FollowRequest),
    Reseed(ReseedRequest),
    Restart(RestartRequest),
    /// The instance's configuration file has changed.
    Reload,
}

#[derive(Debug)]
pub struct Command {
    pub call: Call,
    pub reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Why a call is not obeyed.
enum No {
    Refused(String),
    Failed(io::Error),
}
impl From<io::Error> for No {
    fn from(error: io::Error) -> No {
        No::Failed(error)
    }
}
type Done = Result<(), No>;

fn refuse(why: impl Into<String>) -> Done {
    Err(No::Refused(why.into()))
}

impl Supervisor {
    pub(super) async fn obey(&mut self, command: Command) {
        // Whoever asked did not wait: this process was busy, or stood still, and what was asked for may be long over.
        if command.reply.is_closed() {
            tracing::info!("a call that nobody waits for any more is not obeyed");
            return;
        }
        let done = match command.call {
            Call::Seal(request) => self.seal(request.term).await,
            Call::Demote(request) => self.demote(&request).await,
            Call::Promote(request) => self.promote(request).await,
            Call::Set(request) => self.set(request).await,
            Call::Follow(request) => self.follow(&request).await,
            Call::Reseed(request) => self.reseed(&request).await,
            Call::Restart(request) => self.restart(&request),
            Call::Reload => self.reload(),
        };
        if let Err(No::Failed(error)) = &done
            && self.engine.is_none()
        {
            self.take_failure(error);
        }
        self.publish();
        let answer = done.map_err(|no| Refusal {
            error: match no {
                No::Refused(why) => why,
                No::Failed(error) => format!("failed: {error}"),
            },
            promised_term: self.promise.promised_term,
        });
        if let Err(refusal) = &answer {
            tracing::info!(why = %refusal.error, "a call was refused");
        }
        // The caller may have gone; what was done stays done.
        let _ = command.reply.send(answer);
    }

    /// Whoever waits for the record's word goes on waiting: it is told again.
    fn take_failure(&mut self, error: &io::Error) {
        if self.state == SupervisorState::Waiting && !is_port_taken(error) {
            self.message = Some(error.to_string());
        } else {
            self.stumble(error);
        }
    }

    fn not_below(&self, term: Term) -> Done {
        if term < self.promise.promised_term {
            return refuse(format!(
                "term {term} is over: term {} was promised",
                self.promise.promised_term
            ));
        }
        Ok(())
    }

    fn is_copy(&self, id: &InstanceId) -> Done {
        if self.promise.instance_id == *id {
            Ok(())
        } else {
            refuse(format!(
                "the copy here is {}, not {id}",
                self.promise.instance_id
            ))
        }
    }

    fn has_data(&self) -> Result<bool, io::Error> {
        self.volume.holds(&self.promise.instance_id)
    }

    async fn seal(&mut self, term: Term) -> Done {
        self.not_below(term)?;
        if self.promise.promised_term == term && self.promise.is_for_primary() {
            return refuse(format!("it was made the primary of term {term}"));
        }
        // Answers of this term were gathered before it was told whom to follow. Whoever still seals is late, and what follows
        // and is in the set would be taken for a copy that went its own way.
        if self.promise.promised_term == term && !self.promise.sealed {
            return refuse(format!("it follows in term {term} already"));
        }
        self.demotion = None;
        self.keep_promise(|promise| {
            promise.promised_term = term;
            promise.sealed = true;
        })?;
        durable::remove(&self.volume.trigger())?;
        self.abort_seed();
        self.settle();
        if !self.has_data()? {
            self.state = SupervisorState::Seeding;
            self.message = Some("sealed before it had data".to_owned());
            return Ok(());
        }
        let primary = !self.volume.is_standby()
            || self
                .status
                .as_ref()
                .is_some_and(|s| s.role == EngineRole::Primary);
        if primary {
            // It must not acknowledge anything more; whatever it is doing, it ends now.
            self.end_engine().await?;
        }
        self.volume.make_standby()?;
        self.tell_or_restart().await
    }

    /// The engine obeys the promise as it now is; one that is not there, or does not answer, is started anew.
    async fn tell_or_restart(&mut self) -> Done {
        if let Some(engine) = &self.engine {
            match engine.control().obey(OBEY_LIMIT).await {
                Ok(status) => {
                    self.heard(status);
                    return Ok(());
                }
                Err(error) => tracing::warn!(%error, "the engine did not obey and is restarted"),
            }
            self.end_engine().await?;
        }
        Ok(self.start_engine()?)
    }

    async fn demote(&mut self, request: &DemoteRequest) -> Done {
        self.not_below(request.term)?;
        let serving = self.engine.is_some()
            && self.promise.is_for_primary()
            && self.promise.promised_term < request.term;
        if !serving {
            return self.seal(request.term).await;
        }
        if self.demotion.is_some() {
            return Ok(());
        }
        self.note_handover();
        if let Some(engine) = &self.engine {
            engine.interrupt();
        }
        let within = Duration::from_millis(request.within_ms).min(DEMOTION_LIMIT);
        let deadline = Instant::now() + within;
        // Whatever it was to be started again as: it ends as a primary now, and within this time.
        self.restart_by = None;
        self.demotion = Some(Demotion {
            term: request.term,
            deadline,
        });
        Ok(())
    }

    async fn promote(&mut self, request: PromoteRequest) -> Done {
        self.is_copy(&request.candidate)?;
        if self.promise.promised_term != request.term || request.set.term != request.term {
            return refuse(format!(
                "term {} was promised, not {}",
                self.promise.promised_term, request.term
            ));
        }
        if !self.has_data()? {
            return refuse("there is no data here");
        }
        self.take_set(request.set)?;
        self.forget_handover();
        self.stand_back();
        if !self.open_port().await {
            // A primary is started with its port.
            self.end_engine().await?;
        }
        if self
            .status
            .as_ref()
            .is_some_and(|s| s.is_primary_of(request.term))
        {
            return self.tell().await;
        }
        let forked = self
            .status
            .as_ref()
            .is_some_and(|s| s.timeline == request.term);
        if !self.volume.is_standby() {
            // It was promoted in this very term already; what runs was started after that, or made it so.
            return match self.engine {
                Some(_) => self.tell().await,
                None => Ok(self.start_engine()?),
            };
        }
        if forked {
            // A crash came between the promotion and the end of recovery's files.
            self.end_engine().await?;
            self.volume.make_primary()?;
            return Ok(self.start_engine()?);
        }
        let trigger = format!(
            "cluster_id={}\nterm={}\ncandidate={}\n",
            self.promise.cluster_id, request.term, request.candidate
        );
        durable::replace(&self.volume.trigger(), trigger.as_bytes())?;
        match self.engine {
            // It looks for the file by itself; a promotion under way must not be cut short because it is slow.
            Some(_) => self.tell().await,
            None => Ok(self.start_engine()?),
        }
    }

    /// The set is newer than the one before, never older; a promise with it is not sealed.
    fn take_set(&mut self, set: EngineSet) -> Done {
        let current = self.promise.set.as_ref().map(EngineSet::version);
        if current > Some(set.version()) {
            return refuse("a newer set is in effect");
        }
        if current != Some(set.version()) || self.promise.sealed {
            self.keep_promise(|promise| {
                promise.sealed = false;
                promise.set = Some(set);
            })?;
        }
        Ok(())
    }

    async fn set(&mut self, request: SetRequest) -> Done {
        self.is_copy(&request.id)?;
        if self.promise.promised_term != request.term || self.promise.sealed {
            let how = if self.promise.sealed {
                "sealed in"
            } else {
                "in"
            };
            return refuse(format!("it is {how} term {}", self.promise.promised_term));
        }
        if request.set.term != request.term {
            return refuse("the set is of another term");
        }
        if !self.has_data()? || self.volume.is_standby() {
            return refuse("it is not a primary");
        }
        self.take_set(request.set)?;
        match (&self.engine, self.state) {
            (None, SupervisorState::Waiting) => Ok(self.start_engine()?),
            // It is about to be restarted, and reads the promise then.
            (None, _) => Ok(()),
            (Some(_), _) => self.tell().await,
        }
    }

    /// As `tell_or_restart`, for calls that are no reason to end an engine.
    async fn tell(&mut self) -> Done {
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        match engine.control().obey(OBEY_LIMIT).await {
            Ok(status) => {
                self.heard(status);
                Ok(())
            }
            Err(error) => refuse(format!("the engine has not obeyed yet: {error}")),
        }
    }

    async fn follow(&mut self, request: &FollowRequest) -> Done {
        self.is_copy(&request.id)?;
        self.not_below(request.term)?;
        let data = self.has_data()?;
        if data && !self.volume.is_standby() {
            return refuse("it holds a primary's data and has to be sealed first");
        }
        if self.promise.is_for_primary() && self.promise.promised_term == request.term {
            return refuse("it is the candidate of this term");
        }
        durable::remove(&self.volume.trigger())?;
        let is_elsewhere = self.note_upstream(request.term, request.upstream.as_ref())?;
        let is_new = self.keep_promise(|promise| {
            promise.promised_term = request.term;
            promise.sealed = false;
            promise.set = None;
        })?;
        self.note_following();
        // Clients wait; the engine obeys in its own time.
        self.stand_in();
        if data {
            // Also where it is not told any more: what it was told in an earlier term no longer holds.
            if self.engine.is_some() && self.write_files()? {
                self.reload_engine();
            }
            return self.tell_or_restart().await;
        }
        let told = match &request.source {
            Some(source) => Choice::Standby(source.clone()),
            None => Choice::Primary,
        };
        let is_under_way = self.seeding.is_at_work() || self.restart_at.is_some();
        if is_under_way && !is_elsewhere && !is_new && !self.seeding.is_moved_by(&told) {
            return Ok(()); // What it is at work on, or tries again soon, is just that.
        }
        self.seeding.take(told);
        self.abort_seed();
        Ok(self.begin()?)
    }

    /// A fast stop and a start: for settings that need one. It is asked for, and so no crash.
    fn restart(&mut self, request: &RestartRequest) -> Done {
        self.is_copy(&request.id)?;
        if self.promise.promised_term != request.term {
            return refuse(format!("it is in term {}", self.promise.promised_term));
        }
        if self.demotion.is_some() {
            return refuse("it is being demoted");
        }
        // It may be asked again by somebody who has not seen yet that this was done.
        if self.restart_by.is_none()
            && self.duty_report().pending_restart
            && let Some(engine) = &self.engine
        {
            tracing::info!("the engine is restarted, as it was asked for");
            engine.interrupt();
            self.restart_by = Some(Instant::now() + RESTART_LIMIT);
        }
        Ok(())
    }

    async fn reseed(&mut self, request: &ReseedRequest) -> Done {
        self.is_copy(&request.id)?;
        self.not_below(request.term)?;
        if self.promise.is_for_primary() {
            return refuse("it was made a primary");
        }
        // What was seen last may be from before a standstill of this process.
        self.ask_engine().await;
        let streams = self
            .status
            .as_ref()
            .and_then(|s| s.receiver.as_ref())
            .is_some_and(|r| r.state == "streaming");
        if streams {
            return refuse("it streams");
        }
        self.forget_handover();
        self.keep_promise(|promise| {
            promise.instance_id = InstanceId::random();
            promise.promised_term = request.term;
            promise.sealed = false;
            promise.set = None;
        })?;
        durable::remove(&self.volume.trigger())?;
        Ok(self.seed_anew().await?)
    }

    /// Local mode's operator has changed the instance's file. In a pod the cluster object says everything.
    fn reload(&mut self) -> Done {
        if matches!(self.setup.origin, Origin::Asked(_)) {
            return refuse("in a pod the settings come from the cluster object, unasked");
        }
        let config = read_config(&self.volume.config())?;
        self.setup = setup::local(config, self.volume.dir());
        if self.has_data()? {
            self.write_files()?;
        }
        self.reload_engine();
        Ok(())
    }
}
