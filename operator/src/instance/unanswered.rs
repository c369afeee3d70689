//! An engine that runs and does not answer any more is ended, and started again as after a crash.
//!
//! A primary's role is elsewhere long before that, if anybody can take it, and a standby is out of the in-sync set; but a
//! standby's engine that hangs nobody else would ever end, nor that of a primary without an heir. One that is only slow
//! answers a last question that it gets long for. Left alone is one that has not answered since it began, because recovery
//! may take long; one that is sealed, which reads its whole log before it says where that ends; one that is about to end
//! anyway; and in a pod, where that is known, whatever is on a volume that hangs: the next one would hang just the same.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::supervisor::Supervisor;

/// Far more than the time after which the operator counts it as lost, so that a role is handed over before.
const LIMIT: Duration = Duration::from_secs(60);
/// Each has waited for its answer: a process that stood still itself has asked none.
const QUESTIONS: u32 = 40;
/// For the answer to the last one: an engine may be slow that shares too little of a processor with its sessions.
const PATIENCE: Duration = Duration::from_secs(30);

/// Questions to the engine since its last answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    since: Option<Instant>,
    questions: u32,
    /// The last one: whether anything speaks for the engine.
    last: Option<JoinHandle<bool>>,
}

impl Unanswered {
    /// One more.
    pub fn note(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.questions = self.questions.saturating_add(1);
    }

    fn is_for_long(&self, now: Instant) -> bool {
        let lasted = |since: Instant| now.saturating_duration_since(since) >= LIMIT;
        self.questions >= QUESTIONS && self.since.is_some_and(lasted)
    }

    /// As if that many had been asked within that time.
    #[cfg(test)]
    pub fn for_long(questions: u32) -> Unanswered {
        Unanswered {
            since: Instant::now().checked_sub(LIMIT),
            questions,
            last: None,
        }
    }

    #[cfg(test)]
    pub fn questions(&self) -> u32 {
        self.questions
    }
}

impl Supervisor {
    /// Ends it if it is to be given up; its end is seen as any other.
    pub(super) async fn end_hung_engine(&mut self) {
        let ends_anyway = self.demotion.is_some() || self.restart_by.is_some();
        let takes_writes = self.duty.as_ref().is_none_or(|duty| duty.takes_writes());
        if ends_anyway || self.promise.sealed || !takes_writes {
            // What it was silent for then says nothing of it afterwards.
            self.unanswered = Unanswered::default();
            return;
        }
        let Some(engine) = &mut self.engine else {
            return;
        };
        if !self.unanswered.is_for_long(Instant::now()) {
            return;
        }
        let last = &mut self.unanswered.last;
        let Some(asked) = last.take_if(|asked| asked.is_finished()) else {
            // Beside the loop, which must not wait so long.
            last.get_or_insert_with(|| {
                let control = engine.control();
                tokio::spawn(async move {
                    let answer = control.status(PATIENCE).await;
                    answer.map_or_else(|error| !error.is_silence(), |_| true)
                })
            });
            return;
        };
        let speaks = asked.await.unwrap_or(true);
        // Where the signal has no effect it is sent again after as long a time.
        self.unanswered = Unanswered::default();
        if !speaks {
            tracing::error!(
                pid = engine.pid(),
                "the engine does not answer any more; it is ended"
            );
            engine.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_both_time_and_questions() {
        let now = Instant::now();
        let mut unanswered = Unanswered::default();
        for _ in 0..QUESTIONS {
            unanswered.note(now);
        }
        assert!(!unanswered.is_for_long(now), "an engine that is busy");
        assert!(unanswered.is_for_long(now + LIMIT));
        let mut woken = Unanswered::default();
        woken.note(now);
        assert!(!woken.is_for_long(now + 60 * LIMIT), "it stood still");
    }
}
