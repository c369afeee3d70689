//! When a seed begins, what becomes of it, and the copies that make room for it.
//!
//! Attempts follow each other at growing distances and without an end: what is in their way (a primary that is not there
//! yet, a volume that is full) may go at any time, and the status says what it is.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::seed::{Order, Outcome, SeedError, seed};
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
}

struct Work {
    task: JoinHandle<Outcome>,
    /// When this goes the work is given up.
    _stop: oneshot::Sender<()>,
    begun: Instant,
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
        SeedingReport {
            attempts: self.attempts,
            error: self.error.clone(),
        }
    }

    fn begin(&mut self, order: Order) {
        let (stop, stopped) = oneshot::channel();
        self.attempts = self.attempts.saturating_add(1);
        let before = self.given_up.take();
        self.work = Some(Work {
            task: tokio::spawn(seed(order, before, stopped)),
            _stop: stop,
            begun: Instant::now(),
        });
    }

    fn give_up(&mut self) {
        if let Some(work) = self.work.take() {
            // It has waited for the one before it, so the newest is enough to wait for.
            self.given_up = Some(work.task);
        }
    }

    /// Before the next attempt, after one that took so long.
    fn pause(&self, took: Duration) -> Duration {
        let growing = (FIRST_PAUSE * self.attempts.min(1_000)).min(LONGEST_PAUSE);
        if took < LONG {
            growing
        } else {
            took.min(LONGEST_REST)
        }
    }

    fn start_counting_again(&mut self) {
        self.attempts = 0;
        self.error = None;
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
        let order = Order {
            volume: self.volume.clone(),
            setup: self.setup.clone(),
            promise: self.promise.clone(),
            conninfo: self.conninfo(),
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
        self.seeding.start_counting_again();
        self.start_engine()
    }

    fn seed_failed(&mut self, error: &SeedError, took: Duration) {
        let attempts = self.seeding.attempts;
        tracing::warn!(%error, attempts, "seeding failed");
        self.seeding.error = Some(error.to_string());
        self.restart_at = Some(Instant::now() + self.seeding.pause(took));
        if error.is_for_space() {
            self.make_room();
            if self.volume.has_unknown() {
                let aside = self.volume.dir().join("aside");
                self.seeding.error = Some(format!(
                    "{error}; {} holds data that was found without an owner: look at it, and move or remove it",
                    aside.display()
                ));
            }
        }
    }

    /// A new copy begins: what was held is set aside.
    pub(super) async fn seed_anew(&mut self) -> io::Result<()> {
        self.end_engine().await?;
        self.settle();
        self.seeding.start_counting_again();
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
