//! What the API server does not do, until it does: what the conditions say of it.
//!
//! A refusal is told at once, because it stays one. What may go by in a moment is told once it has lasted; of a server
//! that is not heard at all nothing is told, since it would be told to that server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What fails for so long does not go by in a moment.
const LASTING: Duration = Duration::from_secs(10);
/// What is still to be done is tried more often than that, though an attempt may last as long as a webhook that does
/// not answer; whatever is not tried any more is no problem.
const FORGOTTEN: Duration = Duration::from_secs(30);
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

    /// Forgets the others.
    pub fn retain(&self, is_one: impl Fn(&str) -> bool) {
        self.0.lock().retain(|what, _| is_one(what));
    }

    /// What somebody has to see to, if there is anything. Where several attempts fail for one reason, it is told once.
    pub fn told(&self, now: Instant) -> Option<String> {
        let mut all = self.0.lock();
        all.retain(|_, problem| now.saturating_duration_since(problem.at) < FORGOTTEN);
        let lasts = |problem: &&Problem| {
            let lasted = problem.at.saturating_duration_since(problem.since);
            problem.verdict == Verdict::Refused || lasted >= LASTING
        };
        let texts = all.values().filter(lasts).map(|problem| &*problem.text);
        let mut texts: Vec<&str> = texts.collect();
        let every = texts.clone();
        let says_more =
            |other: &&str, text: &&str| other.len() > text.len() && other.contains(*text);
        texts.retain(|text| !every.iter().any(|other| says_more(other, text)));
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
        assert_eq!(told(now + 40 * second), None);
        fails("Renew orders-2", Verdict::Failed, now + 41 * second);
        assert_eq!(told(now + 41 * second), None, "it begins anew");
    }

    #[test]
    fn what_several_attempts_fail_for_is_told_once() {
        let (problems, now) = (Problems::default(), Instant::now());
        let refused = |what: &str, text: &str| {
            problems.failed(what, text.to_owned(), Verdict::Refused, now);
        };
        refused("objects", "there is no Secret mine");
        refused("Create orders-2", "orders-2: there is no Secret mine");
        refused("Create orders-3", "orders-3: exceeded quota");
        let told = problems.told(now);
        let both = "orders-2: there is no Secret mine; orders-3: exceeded quota";
        assert_eq!(told.as_deref(), Some(both));
        problems.retain(|what| !what.starts_with("Create"));
        let told = problems.told(now);
        assert_eq!(told.as_deref(), Some("there is no Secret mine"));
    }

    /// It is told all the time, not from attempt to attempt.
    #[test]
    fn what_each_attempt_takes_long_to_fail_at_is_told_in_between_as_well() {
        let (problems, now) = (Problems::default(), Instant::now());
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        let fails = |at| problems.failed("objects", "no".to_owned(), Verdict::Failed, at);
        for attempt in [10, 31, 52] {
            let is_told = problems.told(at(attempt - 1)).is_some();
            assert_eq!(is_told, attempt > 31, "{attempt}");
            fails(at(attempt));
        }
        for later in [52, 60, 72] {
            assert!(problems.told(at(later)).is_some(), "{later}");
        }
    }

    #[test]
    fn a_long_story_fits_into_a_condition() {
        let (problems, now) = (Problems::default(), Instant::now());
        problems.failed("objects", "ä".repeat(4_000), Verdict::Refused, now);
        let told = problems.told(now).expect("told");
        assert_eq!(told.chars().count(), LONGEST);
    }
}
