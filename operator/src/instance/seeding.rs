//! When a seed begins, what becomes of it, and the copies that make room for it.
//!
//! Attempts follow each other at growing distances and without an end: what is in their way (a primary that is not there
//! yet, a volume that is full) may go at any time, and the status says what it is. A standby that was to be copied and could
//! not be costs one attempt: the next ones are the primary's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::seed::{Choice, Order, Outcome, SeedError, seed};
use super::supervisor::Supervisor;
use crate::api::{SeedingReport, SupervisorState};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An attempt that took long is not followed by the next at once: it costs its source as much again.
const LONG: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// The copy that is being got.
#[derive(Default)]
pub(super) struct Seeding {
    work: Option<Work>,
    /// Given up, and perhaps not ended yet: the next one waits for that.
    given_up: Option<JoinHandle<Outcome>>,
    /// In a row, without success.
    attempts: u32,
    error: Option<String>,
    /// Of the work that is under way; if there is none, of the next.
    choice: Choice,
    /// The copy that is here was taken of a standby and has got nothing by a stream yet: the primary may have let go of log
    /// that it needs.
    is_unproven: bool,
}

struct Work {
    task: JoinHandle<Outcome>,
    /// When this goes the work is given up.
    _stop: oneshot::Sender<()>,
    begun: Instant,
    asks: Arc<AtomicBool>,
}

impl Work {
    fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }
}

impl Seeding {
    pub fn is_at_work(&self) -> bool {
        self.work.is_some()
    }

    /// How the work that is under way has ended; never, if there is none.
    pub async fn ended(&mut self) -> Outcome {
        match &mut self.work {
            Some(work) => (&mut work.task).await.unwrap_or_else(|e| {
                Err(SeedError::Failed {
                    program: "seed",
                    why: e.to_string(),
                })
            }),
            None => std::future::pending().await,
        }
    }

    pub fn report(&self) -> SeedingReport {
        let source = match &self.choice {
            Choice::Standby(source) if self.is_at_work() => Some(source.instance.clone()),
            _ => None,
        };
        SeedingReport {
            attempts: self.attempts,
            error: self.error.clone(),
            asks: self.work.as_ref().is_some_and(Work::asks),
            source,
        }
    }

    /// Whether what it was told takes it away from what it is at work on: it waits for that, or copies a standby that the
    /// operator has given up. A copy of the primary goes on.
    pub fn is_moved_by(&self, told: &Choice) -> bool {
        let copies_another = matches!(self.choice, Choice::Standby(_)) && self.choice != *told;
        let work = self.work.as_ref();
        work.is_some_and(|work| work.asks() || copies_another)
    }

    /// The first copy is the primary's, unasked: nobody else has one yet, and the operator may be slow to hear of who begins.
    pub fn expect_the_primary(&mut self) {
        self.choice = Choice::Primary;
    }

    /// Whom to copy from now on. That it has asked was no attempt.
    pub fn take(&mut self, told: Choice) {
        if self.work.as_ref().is_some_and(Work::asks) {
            self.attempts = self.attempts.saturating_sub(1);
        }
        self.choice = told;
    }

    fn begin(&mut self, order: Order) {
        let (stop, stopped) = oneshot::channel();
        let asks = Arc::clone(&order.asks);
        self.attempts = self.attempts.saturating_add(1);
        let before = self.given_up.take();
        self.work = Some(Work {
            task: tokio::spawn(seed(order, before, stopped)),
            _stop: stop,
            begun: Instant::now(),
            asks,
        });
    }

    fn give_up(&mut self) {
        if let Some(work) = self.work.take() {
            // It has waited for the one before it, so the newest is enough to wait for.
            self.given_up = Some(work.task);
        }
    }

    /// Before the next attempt, after one that took so long. After a standby's it is the primary's turn, which that one has
    /// cost nothing.
    fn pause(&self, error: &SeedError, took: Duration) -> Duration {
        let growing = (FIRST_PAUSE * self.attempts.min(1_000)).min(LONGEST_PAUSE);
        let of_standby = matches!(self.choice, Choice::Standby(_));
        if took < LONG || (of_standby && !error.is_for_space()) {
            growing
        } else {
            took.min(LONGEST_REST)
        }
    }

    fn succeeded(&mut self) {
        self.attempts = 0;
        self.error = None;
        let done = std::mem::take(&mut self.choice);
        self.is_unproven = matches!(done, Choice::Standby(_));
    }

    /// The copy that is here gets from the primary what it needs.
    pub fn streamed(&mut self) {
        self.is_unproven = false;
    }

    /// For another copy in the place of the one that is here.
    fn start_anew(&mut self) {
        self.attempts = 0;
        self.error = None;
        self.choice = if std::mem::take(&mut self.is_unproven) {
            Choice::Primary
        } else {
            Choice::Asked
        };
    }

    /// Says what went wrong with whom. What is only asked when it begins (whether there is a database at all) says nothing of
    /// whom to copy.
    fn failed(&mut self, error: &SeedError) -> String {
        let said = match &self.choice {
            Choice::Standby(source) => format!("copying {}: {error}", source.instance),
            Choice::Asked | Choice::Primary => error.to_string(),
        };
        if !matches!(error, SeedError::Unjudged(_)) {
            self.choice = Choice::Primary;
        }
        self.error = Some(said.clone());
        said
    }
}

impl Supervisor {
    pub(super) fn begin_seed(&mut self) {
        self.restart_at = None;
        if self.seeding.is_at_work() {
            return;
        }
        if self.promise.sealed {
            self.message =
                Some("sealed before it had data; waits to be told whom to follow".to_owned());
            return;
        }
        self.message = None;
        let choice = self.seeding.choice.clone();
        let order = Order {
            volume: self.volume.clone(),
            setup: self.setup.clone(),
            promise: self.promise.clone(),
            conninfo: self.conninfo(),
            asks: Arc::new(AtomicBool::new(choice == Choice::Asked)),
            choice,
        };
        self.seeding.begin(order);
    }

    pub(super) fn abort_seed(&mut self) {
        self.seeding.give_up();
    }

    pub(super) fn seeded(&mut self, outcome: Outcome) -> io::Result<()> {
        let took = self.seeding.work.take().map(|work| work.begun.elapsed());
        if let Err(error) = outcome {
            self.seed_failed(&error, took.unwrap_or_default());
            return Ok(());
        }
        self.volume.adopt_seed(&self.promise.instance_id)?;
        self.know_system_id()?;
        self.seeding.succeeded();
        self.start_engine()
    }

    fn seed_failed(&mut self, error: &SeedError, took: Duration) {
        let attempts = self.seeding.attempts;
        let pause = self.seeding.pause(error, took);
        let said = self.seeding.failed(error);
        tracing::warn!(error = %said, attempts, "seeding failed");
        self.restart_at = Some(Instant::now() + pause);
        if error.is_for_space() {
            self.make_room();
            if self.volume.has_unknown() {
                let aside = self.volume.dir().join("aside");
                self.seeding.error = Some(format!(
                    "{said}; {} holds data that was found without an owner: look at it, and move or remove it",
                    aside.display()
                ));
            }
        }
    }

    /// A new copy begins: what was held is set aside.
    pub(super) async fn seed_anew(&mut self) -> io::Result<()> {
        self.end_engine().await?;
        self.settle();
        self.seeding.start_anew();
        self.crashes.clear();
        self.abort_seed();
        self.begin()?;
        self.clean_aside();
        self.spare_room();
        Ok(())
    }

    /// What an earlier life left behind: a seed that became no copy, and copies that were given up long ago.
    pub(super) fn clean_up(&mut self) {
        let left = self.volume.holds(&self.promise.instance_id);
        let cleaned = match left {
            Ok(true) => self.volume.set_seed_aside(),
            // The next seed begins by removing it.
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = cleaned {
            tracing::warn!(%error, "what an earlier seed left could not be moved away");
        }
        self.clean_aside();
    }

    /// Removing a copy takes long; the heartbeat must not wait for it.
    fn clean_aside(&self) {
        let volume = self.volume.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = volume.clean_aside() {
                tracing::warn!(%error, "an old copy could not be removed");
            }
        });
    }

    /// Old copies go where the new one needs their place: a copy is only given up when it is spare.
    fn make_room(&self) {
        tracing::warn!("the volume has no room for another copy; the old ones go first");
        let volume = self.volume.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = volume.drop_aside() {
                tracing::warn!(%error, "an old copy could not be removed");
            }
        });
    }

    /// As far as can be told before: the new copy will be about as large as the last one.
    fn spare_room(&self) {
        let Some(duty) = &self.duty else { return };
        match self.volume.newest_aside_bytes() {
            Ok(Some(bytes)) if !duty.has_room_for(bytes) => self.make_room(),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the size of the old copy is not known"),
        }
    }

    /// What the status says of it.
    pub(super) fn seeding_report(&self) -> Option<SeedingReport> {
        (self.state == SupervisorState::Seeding).then(|| self.seeding.report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SeedSource;

    fn told_to_copy_a_standby() -> Seeding {
        Seeding {
            choice: Choice::Standby(SeedSource {
                instance: "orders-3".to_owned(),
                host: "127.0.0.1".to_owned(),
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                port: 1,
            }),
            ..Seeding::default()
        }
    }

    /// Each attempt costs its source a copy; the primary it has cost none yet.
    #[test]
    fn the_primary_does_not_wait_for_what_a_standby_has_cost() {
        let took = Duration::from_secs(900);
        let failed = |why: &str| SeedError::Failed {
            program: "basebackup",
            why: why.to_owned(),
        };
        let broken = failed("server closed the connection unexpectedly");
        let mut seeding = told_to_copy_a_standby();
        assert!(seeding.pause(&broken, took) <= LONGEST_PAUSE);
        let full = failed("could not write: No space left on device");
        assert_eq!(seeding.pause(&full, took), LONGEST_REST, "it is full here");
        seeding.failed(&broken);
        assert_eq!(seeding.choice, Choice::Primary);
        assert_eq!(seeding.pause(&broken, took), LONGEST_REST);
    }

    /// Else it would be made again and again of a standby whose copies need log that the primary does not keep.
    #[test]
    fn what_never_streamed_is_made_anew_of_the_primary() {
        let next = |has_streamed: bool| {
            let mut seeding = told_to_copy_a_standby();
            seeding.succeeded();
            if has_streamed {
                seeding.streamed();
            }
            seeding.start_anew();
            seeding.choice
        };
        assert_eq!((next(false), next(true)), (Choice::Primary, Choice::Asked));
        let mut seeding = Seeding::default();
        seeding.succeeded();
        seeding.start_anew();
        assert_eq!(seeding.choice, Choice::Asked, "it was the primary's");
    }
}
