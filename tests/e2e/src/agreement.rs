//! What the operator says of a change of roles, held against what the clients saw of it.
//!
//! - Two words on one thing agree if they are within 0.3 s of each other.
//! - Beyond that only a machine that kept programs waiting is an excuse: for as long as it did so between the two moments,
//!   by the kernel's own account, and for 0.7 s at most. So nothing is ever further apart than a second. Where the kernel
//!   keeps no account the whole second may be used.
//! - Each kind of comparison is judged by itself: at most one in four of its rounds may need the excuse, and one where there
//!   were fewer than four. What agrees by its nature, as two words of the operator's own do, makes up for nothing.
//! - The cause of a change is seen after it was there, and before anybody has written to the successor. Nothing excuses
//!   another order: all of it is told by one machine's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use understudy_tests::local::now_ms;
use understudy_tests::stalls::stalled;

/// What the operator says and what a client saw may differ by so much; milliseconds.
const AGREEMENT_MS: f64 = 300.0;
/// And by so much more where the machine kept programs waiting: without a bound a machine that always does would excuse
/// whatever is said on it.
const MOST_EXCUSED_MS: f64 = 700.0;
/// Of so many comparisons of one kind one may need that.
const ONE_OF: usize = 4;
/// Between two looks at the kernel's account.
const LOOK: Duration = Duration::from_millis(50);

/// For how long programs have waited for the machine: looked at all the time, until this value goes.
pub struct Stalls {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Look>>>,
    thread: Option<JoinHandle<()>>,
}

/// A moment (milliseconds since 1970), and the kernel's account at it.
type Look = (u64, Duration);

impl Stalls {
    /// # Panics
    /// If there is no thread to be had.
    pub fn watch() -> Stalls {
        let (stop, seen) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<Look>>>::default(),
        );
        let (told, looks) = (Arc::clone(&stop), Arc::clone(&seen));
        let look = move || {
            while !told.load(Ordering::Relaxed) {
                let at_ms = now_ms();
                let Some(stalled) = stalled() else { return };
                looks.lock().push((at_ms, stalled));
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("stalls".to_owned());
        Stalls {
            stop,
            seen,
            thread: Some(thread.spawn(look).expect("a thread")),
        }
    }

    /// For how long programs waited between two moments, milliseconds; none where the kernel keeps no account of it.
    pub fn between_ms(&self, from_ms: f64, to_ms: f64) -> Option<f64> {
        between_ms(&self.seen.lock(), from_ms, to_ms)
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From the last look before the one moment to the first after the other.
fn between_ms(seen: &[Look], from_ms: f64, to_ms: f64) -> Option<f64> {
    let before = seen.iter().rev().find(|(at, _)| *at as f64 <= from_ms);
    let after = seen.iter().find(|(at, _)| *at as f64 >= to_ms);
    let (_, begin) = before.or(seen.first())?;
    let (_, end) = after.or(seen.last())?;
    Some(end.saturating_sub(*begin).as_secs_f64() * 1000.0)
}

/// How far apart two words on the same thing are, over all rounds.
#[derive(Default)]
pub struct Agreement {
    differences_ms: BTreeMap<&'static str, Vec<f64>>,
}

impl Agreement {
    /// Two moments, milliseconds since 1970.
    ///
    /// # Panics
    /// If one of them was not told, or they are further apart than the machine can be blamed for.
    #[track_caller]
    pub fn moments(
        &mut self,
        what: &'static str,
        (one, other): (Option<f64>, Option<f64>),
        stalls: &Stalls,
    ) {
        let late = |from: f64, to: f64| stalls.between_ms(from, to);
        self.add(what, (one, other), late);
    }

    /// Two numbers that nobody can have come too late for.
    ///
    /// # Panics
    /// If one of them was not told, or they differ.
    #[track_caller]
    pub fn numbers(&mut self, what: &'static str, both: (Option<f64>, Option<f64>)) {
        self.add(what, both, |_, _| Some(0.0));
    }

    #[track_caller]
    fn add(
        &mut self,
        what: &'static str,
        (one, other): (Option<f64>, Option<f64>),
        late_ms: impl FnOnce(f64, f64) -> Option<f64>,
    ) {
        // What was not said at all agrees with nothing.
        let (Some(one), Some(other)) = (one, other) else {
            panic!("{what}: {one:?} beside {other:?}");
        };
        let difference = (one - other).abs();
        let all = self.differences_ms.entry(what).or_default();
        all.push(difference);
        if !agrees(difference) {
            let late = late_ms(one.min(other), one.max(other));
            let excused = late.unwrap_or(MOST_EXCUSED_MS).min(MOST_EXCUSED_MS);
            println!("{what}: apart by {difference} ms, programs waited for {late:?} ms of them");
            assert!(
                difference <= AGREEMENT_MS + excused,
                "{what}: {one} and {other} are apart by {difference} ms, programs waited for {late:?} ms of them, and \
                 {MOST_EXCUSED_MS} ms is the most that excuses"
            );
        }
    }

    /// Whether anything of this kind was compared: what never was has not been shown to agree.
    pub fn has(&self, what: &str) -> bool {
        self.differences_ms.contains_key(what)
    }

    /// Of each kind: how many comparisons there were, and how many of them needed an excuse.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.differences_ms.iter().map(|(what, differences)| {
            let apart = differences.iter().filter(|d| !agrees(**d));
            (*what, differences.len(), apart.count())
        })
    }

    /// Who was late once, for the machine's sake, is in time in most rounds: each kind by itself.
    ///
    /// # Panics
    /// If one is not.
    #[track_caller]
    pub fn judge(&self) {
        for (what, count, apart) in self.counts() {
            let differences = &self.differences_ms[what];
            println!(
                "{what}: {apart} of {count} are further apart than {AGREEMENT_MS} ms: {differences:?}"
            );
        }
        for (what, count, apart) in self.counts() {
            let most = (count / ONE_OF).max(1);
            assert!(
                apart <= most,
                "{what}: {apart} of {count} are further apart than {AGREEMENT_MS} ms, and {most} may be: {:?}",
                self.differences_ms[what]
            );
        }
    }
}

fn agrees(difference_ms: f64) -> bool {
    difference_ms <= AGREEMENT_MS
}

/// The cause of a change as it is reported, beside the fault that it was (`made_ms`) and the first row that the successor
/// acknowledged; milliseconds since 1970.
///
/// # Panics
/// If it was seen before there was one, or after its end.
#[track_caller]
pub fn seen_in_order(made_ms: u64, detected_ms: f64, first_ms: f64) {
    let made = made_ms as f64;
    assert!(
        made <= detected_ms,
        "detectedAt is {} ms before the fault was made, at {made_ms}",
        made - detected_ms
    );
    assert!(
        detected_ms <= first_ms,
        "detectedAt is {} ms after the successor's first row was acknowledged, at {first_ms}",
        detected_ms - first_ms
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(compare: impl FnOnce(&mut Agreement)) -> bool {
        let mut agreement = Agreement::default();
        let compared = std::panic::AssertUnwindSafe(|| compare(&mut agreement));
        std::panic::catch_unwind(compared).is_err()
    }

    #[test]
    fn the_machine_is_blamed_for_what_it_did_and_no_more() {
        let both = (Some(1_000.0), Some(1_900.0));
        assert!(is_refused(|a| a.add("a", both, |_, _| Some(599.0))));
        assert!(!is_refused(|a| a.add("a", both, |_, _| Some(600.0))));
        assert!(!is_refused(|a| a.add("a", both, |_, _| None)), "no account");
        assert!(is_refused(|a| a.numbers("a", both)));
        assert!(
            is_refused(|a| a.numbers("a", (None, Some(1.0)))),
            "not said"
        );
        assert!(!is_refused(|a| a.numbers("a", (Some(1.0), Some(1.5)))));
    }

    #[test]
    fn nothing_excuses_more_than_a_second() {
        for account in [None, Some(600_000.0)] {
            let at_the_bound = (Some(2_000.0), Some(1_000.0));
            assert!(!is_refused(|a| a.add("a", at_the_bound, |_, _| account)));
            let beyond = (Some(2_001.0), Some(1_000.0));
            assert!(is_refused(|a| a.add("a", beyond, |_, _| account)));
        }
    }

    /// So many comparisons, the first of which need an excuse.
    fn compare(agreement: &mut Agreement, what: &'static str, count: usize, apart: usize) {
        for round in 0..count {
            let other = if round < apart { 1_301.0 } else { 1_300.0 };
            agreement.add(what, (Some(1_000.0), Some(other)), |_, _| None);
        }
    }

    #[test]
    fn one_in_four_of_a_kind_may_need_an_excuse_and_one_where_there_are_fewer() {
        for (count, most) in [(0, 0), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (20, 5)] {
            for apart in 0..=count {
                let mut agreement = Agreement::default();
                compare(&mut agreement, "a", count, apart);
                let is_fine = std::panic::catch_unwind(|| agreement.judge()).is_ok();
                assert_eq!(is_fine, apart <= most, "{apart} of {count}");
            }
        }
    }

    #[test]
    fn what_agrees_by_its_nature_makes_up_for_nothing() {
        let mut agreement = Agreement::default();
        for what in ["metric", "event Started"] {
            compare(&mut agreement, what, 40, 0);
        }
        compare(&mut agreement, "status.writableAt", 4, 1);
        agreement.judge();
        assert!(agreement.has("metric") && !agreement.has("other"));
        compare(&mut agreement, "status.writableAt", 1, 1);
        let judged = std::panic::catch_unwind(|| agreement.judge());
        assert!(judged.is_err(), "two of five");
        let counts: Vec<_> = agreement.counts().collect();
        assert_eq!(
            counts,
            [
                ("event Started", 40, 0),
                ("metric", 40, 0),
                ("status.writableAt", 5, 2)
            ]
        );
    }

    #[test]
    fn a_cause_that_is_seen_before_the_fault_or_after_its_end_is_refused() {
        let is_refused = |detected: f64| {
            std::panic::catch_unwind(|| seen_in_order(1_000, detected, 5_000.0)).is_err()
        };
        assert!(!is_refused(1_000.0) && !is_refused(5_000.0));
        assert!(is_refused(999.0), "what was there before is not this fault");
        assert!(is_refused(5_001.0));
    }

    #[test]
    fn an_account_is_of_all_that_lies_between() {
        let ms = Duration::from_millis;
        let seen = [(100, ms(5)), (150, ms(25)), (200, ms(65)), (250, ms(70))];
        assert_eq!(between_ms(&seen, 160.0, 190.0), Some(40.0));
        assert_eq!(between_ms(&seen, 150.0, 200.0), Some(40.0));
        assert_eq!(between_ms(&seen, 120.0, 210.0), Some(65.0));
        assert_eq!(between_ms(&seen, 0.0, 1_000.0), Some(65.0));
        assert_eq!(between_ms(&[], 0.0, 1_000.0), None);
    }
}
