//! What the operator says of a change of roles, held against what the clients saw of it.
//!
//! The two may differ by a little. Beyond that only a machine that kept programs waiting is an excuse, and only for as long
//! as it did so between the two moments, by the kernel's own account.

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
/// So many comparisons of one kind tell whether that kind agrees.
const ENOUGH: usize = 4;
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
        if difference > AGREEMENT_MS {
            let late = late_ms(one.min(other), one.max(other));
            println!("{what}: apart by {difference} ms, programs waited for {late:?} ms of them");
            // Without an account there is no bound: it has to be in time in most rounds.
            assert!(
                late.is_none_or(|late| difference <= AGREEMENT_MS + late),
                "{what}: {one} and {other} are apart by {difference} ms, programs waited for {late:?} ms of them"
            );
        }
    }

    /// Whether anything of this kind was compared: what never was has not been shown to agree.
    pub fn has(&self, what: &str) -> bool {
        self.differences_ms.contains_key(what)
    }

    /// Three of four have to agree whatever the machine did: who was late once is in time in most rounds. And half of each
    /// kind, where there are enough of them: what is never right is not made up for by the others.
    ///
    /// # Panics
    /// If they do not.
    #[track_caller]
    pub fn judge(&self) {
        let all = self.differences_ms.values().flatten();
        let (count, agreed) = (
            all.clone().count(),
            all.filter(|d| **d <= AGREEMENT_MS).count(),
        );
        for (what, differences) in &self.differences_ms {
            println!("{what}: apart by {differences:?} ms");
        }
        println!("{agreed} of {count} comparisons agree within {AGREEMENT_MS} ms");
        for (what, differences) in &self.differences_ms {
            let close = differences.iter().filter(|d| **d <= AGREEMENT_MS);
            let (few, half) = (differences.len() < ENOUGH, differences.len().div_ceil(2));
            assert!(
                few || close.count() >= half,
                "{what} is hardly ever right: {differences:?} ms apart"
            );
        }
        assert!(
            agreed * 4 >= count * 3,
            "the operator's figures are not the clients': {:#?}",
            self.differences_ms
        );
    }
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
        let both = (Some(1_000.0), Some(2_000.0));
        assert!(is_refused(|a| a.add("a", both, |_, _| Some(600.0))));
        assert!(!is_refused(|a| a.add("a", both, |_, _| Some(700.0))));
        assert!(!is_refused(|a| a.add("a", both, |_, _| None)), "no account");
        assert!(is_refused(|a| a.numbers("a", both)));
        assert!(
            is_refused(|a| a.numbers("a", (None, Some(1.0)))),
            "not said"
        );
        assert!(!is_refused(|a| a.numbers("a", (Some(1.0), Some(1.5)))));
    }

    #[test]
    fn three_of_four_have_to_agree() {
        let mut agreement = Agreement::default();
        agreement.judge();
        for other in [1_250.0, 1_000.0, 900.0, 2_000.0] {
            agreement.add("a", (Some(1_000.0), Some(other)), |_, _| None);
        }
        agreement.judge();
        assert!(agreement.has("a") && !agreement.has("b"));
        agreement.add("b", (Some(1_000.0), Some(2_000.0)), |_, _| None);
        let judged = std::panic::catch_unwind(|| agreement.judge());
        assert!(judged.is_err(), "three of five");
    }

    #[test]
    fn what_is_never_right_is_not_made_up_for() {
        let mut agreement = Agreement::default();
        let late = (Some(1_000.0), Some(2_000.0));
        for round in 0..4 {
            for what in ["a", "b", "c", "d", "e"] {
                agreement.add(what, (Some(1_000.0), Some(1_000.0)), |_, _| None);
            }
            agreement.add("late", late, |_, _| None);
            let is_fine = std::panic::catch_unwind(|| agreement.judge()).is_ok();
            assert_eq!(is_fine, round < 3, "after {} rounds", round + 1);
        }
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
