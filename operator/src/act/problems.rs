//! What the API server does not do, until it does: what the conditions say of it.
//!
//! A refusal is told at once, because it stays one. What may go by in a moment is told once it has lasted; of a server
//! that is not heard at all nothing is told, since it would be told to that server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What fails for so long does not go by in a moment.
const LASTING: Duration = Duration::from_secs(10);
/// What is still to be done is tried more often than that; whatever is not tried any more is no problem.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// Characters: a condition's message has room for a few more.
const LONGEST: usize = 1_000;

/// How the API server answered what it did not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It will be the same at the next attempt, unless somebody does something about it.
    Refused,
    /// The next attempt may do.
    Failed,
}

/// By what was attempted.
#[derive(Debug, Default)]
pub(super) struct Problems(Mutex<BTreeMap<String, Problem>>);

#[derive(Debug)]
struct Problem {
    text: String,
    verdict: Verdict,
    since: Instant,
    /// Of the last attempt.
    at: Instant,
}

impl Problems {
    pub fn failed(&self, what: &str, text: String, verdict: Verdict, now: Instant) {
        let mut all = self.0.lock();
        let since = all.get(what).map_or(now, |known| known.since);
        let problem = Problem {
            text,
            verdict,
            since,
            at: now,
        };
        all.insert(what.to_owned(), problem);
    }

    pub fn succeeded(&self, what: &str) {
        self.0.lock().remove(what);
    }

    /// What somebody has to see to, if there is anything.
    pub fn told(&self, now: Instant) -> Option<String> {
        let mut all = self.0.lock();
        all.retain(|_, problem| now.saturating_duration_since(problem.at) < FORGOTTEN);
        let lasts = |problem: &&Problem| {
            let lasted = problem.at.saturating_duration_since(problem.since);
            problem.verdict == Verdict::Refused || lasted >= LASTING
        };
        let texts = all.values().filter(lasts).map(|problem| &*problem.text);
        let texts: Vec<&str> = texts.collect();
        let whole = texts.join("; ");
        (!whole.is_empty()).then(|| whole.chars().take(LONGEST).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_at_once_and_what_may_go_by_once_it_has_lasted() {
        let (problems, now) = (Problems::default(), Instant::now());
        let second = Duration::from_secs(1);
        let fails =
            |what: &str, verdict, at| problems.failed(what, format!("no {what}"), verdict, at);
        fails("Renew orders-2", Verdict::Failed, now);
        assert_eq!(problems.told(now), None);
        fails("Renew orders-2", Verdict::Failed, now + 10 * second);
        let told = |at| problems.told(at);
        let renewal = Some("no Renew orders-2".to_owned());
        assert_eq!(told(now + 10 * second), renewal);
        fails("Remove orders-3", Verdict::Refused, now + 11 * second);
        let both = "no Remove orders-3; no Renew orders-2";
        assert_eq!(told(now + 11 * second).as_deref(), Some(both));
        problems.succeeded("Remove orders-3");
        assert_eq!(told(now + 12 * second), renewal);
        // Nobody tries it any more.
        assert_eq!(told(now + 25 * second), None);
        fails("Renew orders-2", Verdict::Failed, now + 26 * second);
        assert_eq!(told(now + 26 * second), None, "it begins anew");
    }

    #[test]
    fn a_long_story_fits_into_a_condition() {
        let (problems, now) = (Problems::default(), Instant::now());
        problems.failed("objects", "ä".repeat(4_000), Verdict::Refused, now);
        let told = problems.told(now).expect("told");
        assert_eq!(told.chars().count(), LONGEST);
    }
}
