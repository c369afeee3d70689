//! What was acknowledged, by whom, in which term and when; and what follows from that.
//!
//! Two promises are judged here and nowhere else: a row that was acknowledged is there, and nobody acknowledges in an
//! older term once a newer one has.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use understudy_tests::local::now_ms;

/// How a row came to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Through the write Service, by a session that is kept until it breaks.
    Service,
    /// Through the write Service, by a new session for each row.
    Fresh,
    /// By the address of this instance's pod, from its own node, by a session that nobody cuts.
    Own(Arc<str>),
}

impl Way {
    pub fn is_service(&self) -> bool {
        matches!(self, Way::Service | Way::Fresh)
    }
}

/// A row that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub id: i64,
    /// The timeline on which it was written: under the operator that is the term.
    pub term: u32,
    /// When it was sent, milliseconds since 1970.
    pub sent_ms: u64,
    /// When the answer was read.
    pub at_ms: u64,
    pub way: Way,
}

/// A row that was not, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub at_ms: u64,
    pub way: Way,
    pub why: String,
}

/// Failures beyond so many tell nothing new.
const MOST_FAILURES: usize = 20_000;
/// Among so many of the last ones a failure is looked for that has been written down already.
const ALIKE: usize = 16;
/// A client may be kept from its processor between the answer and the ledger.
const DISORDER_MS: u64 = 5_000;

#[derive(Default)]
pub struct Ledger {
    /// An id whose outcome is unknown is never used again.
    next: AtomicI64,
    acknowledged: Mutex<Vec<Acknowledged>>,
    failed: Mutex<Vec<Failed>>,
}

impl Ledger {
    pub fn next_id(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn acknowledge(&self, row: Acknowledged) {
        self.acknowledged.lock().push(row);
    }

    pub fn fail(&self, way: &Way, why: String) {
        let (mut failed, at_ms) = (self.failed.lock(), now_ms());
        // A client whose server is gone says the same hundreds of times a second.
        let mut of_late = failed.iter().rev().take(ALIKE);
        let is_known = of_late.any(|f| f.way == *way && f.why == why && f.at_ms + 1_000 > at_ms);
        if !is_known && failed.len() < MOST_FAILURES {
            failed.push(Failed {
                at_ms,
                way: way.clone(),
                why,
            });
        }
    }

    /// Whether no row was ever sent.
    pub fn is_new(&self) -> bool {
        self.next.load(Ordering::Relaxed) == 0
    }

    /// Rows acknowledged since a moment by ways that are so. Looks at no more of the older ones than it must: it is asked
    /// over and over while something is measured.
    pub fn count(&self, since_ms: u64, is: impl Fn(&Way) -> bool) -> usize {
        let all = self.acknowledged.lock();
        let of_late = all.iter().rev();
        of_late
            .take_while(|row| row.at_ms + DISORDER_MS >= since_ms)
            .filter(|row| row.at_ms >= since_ms && is(&row.way))
            .count()
    }

    /// Everything so far, by the time of the acknowledgement.
    pub fn rows(&self) -> Vec<Acknowledged> {
        let mut rows = self.acknowledged.lock().clone();
        rows.sort_by_key(|row| (row.at_ms, row.term));
        rows
    }

    pub fn failures(&self, since_ms: u64) -> Vec<Failed> {
        let failed = self.failed.lock();
        let late = failed.iter().filter(|f| f.at_ms >= since_ms);
        late.cloned().collect()
    }

    /// For whoever looks at a failed test: the terms, the last rows of each way, the failures.
    pub fn shown(&self) -> String {
        let rows = self.rows();
        let mut text = format!("{} rows were acknowledged\n", rows.len());
        let mut terms: BTreeMap<u32, (u64, u64, usize)> = BTreeMap::new();
        for row in &rows {
            let (first, last, count) = terms.entry(row.term).or_insert((row.at_ms, 0, 0));
            (*first, *last, *count) = (row.at_ms.min(*first), row.at_ms.max(*last), *count + 1);
        }
        for (term, (first, last, count)) in terms {
            writeln!(text, "term {term}: {count} rows from {first} to {last}")
                .expect("writing to a string can't fail");
        }
        for row in rows.iter().rev().take(200) {
            writeln!(text, "{row:?}").expect("writing to a string can't fail");
        }
        for failed in self.failures(0) {
            writeln!(text, "{failed:?}").expect("writing to a string can't fail");
        }
        text
    }
}

/// What was acknowledged and is not there.
pub fn missing<'a>(rows: &'a [Acknowledged], there: &HashSet<i64>) -> Vec<&'a Acknowledged> {
    rows.iter().filter(|row| !there.contains(&row.id)).collect()
}

/// Rows that were acknowledged in an older term after the first acknowledgement in a newer one.
pub fn overtaken(rows: &[Acknowledged]) -> Vec<&Acknowledged> {
    let mut first: BTreeMap<u32, u64> = BTreeMap::new();
    for row in rows {
        let at = first.entry(row.term).or_insert(row.at_ms);
        *at = row.at_ms.min(*at);
    }
    let is_late = |row: &&Acknowledged| {
        let mut newer = first.range(row.term + 1..);
        newer.any(|(_, at)| *at < row.at_ms)
    };
    rows.iter().filter(is_late).collect()
}

/// When a way that is so first acknowledged a row of a term above `term` that was sent at all.
pub fn first_above(rows: &[Acknowledged], term: u64, is: impl Fn(&Way) -> bool) -> Option<u64> {
    let newer = rows
        .iter()
        .filter(|row| u64::from(row.term) > term && is(&row.way));
    newer.map(|row| row.at_ms).min()
}

/// When a way that is so first acknowledged a row of this very term.
pub fn first_in(rows: &[Acknowledged], term: u64, is: impl Fn(&Way) -> bool) -> Option<u64> {
    let of_term = rows
        .iter()
        .filter(|row| u64::from(row.term) == term && is(&row.way));
    of_term.map(|row| row.at_ms).min()
}

/// The longest time without an acknowledgement by a way that is so, between two moments, milliseconds.
pub fn longest_pause(rows: &[Acknowledged], within: (u64, u64), is: impl Fn(&Way) -> bool) -> u64 {
    let (from_ms, to_ms) = when_longest(rows, within, is);
    to_ms - from_ms
}

/// From when to when that was, for whoever looks for its cause in logs.
pub fn when_longest(
    rows: &[Acknowledged],
    (from_ms, to_ms): (u64, u64),
    is: impl Fn(&Way) -> bool,
) -> (u64, u64) {
    let mut times: Vec<u64> = rows
        .iter()
        .filter(|row| is(&row.way) && (from_ms..=to_ms).contains(&row.at_ms))
        .map(|row| row.at_ms)
        .collect();
    times.extend([from_ms, to_ms]);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| (pair[0], pair[1]));
    let longest = gaps.max_by_key(|(from, to)| to - from);
    longest.unwrap_or((from_ms, from_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, term: u32, at_ms: u64, way: Way) -> Acknowledged {
        Acknowledged {
            id,
            term,
            sent_ms: at_ms,
            at_ms,
            way,
        }
    }

    fn own() -> Way {
        Way::Own("a-1".into())
    }

    #[test]
    fn an_acknowledgement_in_an_older_term_is_found_however_late_it_comes() {
        let mut rows = vec![
            row(1, 1, 10, Way::Service),
            row(2, 1, 20, own()),
            row(3, 3, 30, Way::Fresh),
            row(4, 3, 40, Way::Service),
        ];
        assert_eq!(overtaken(&rows), Vec::<&Acknowledged>::new());
        rows.push(row(5, 1, 30, own()));
        assert!(overtaken(&rows).is_empty(), "at the same moment");
        rows.push(row(6, 2, 31, own()));
        rows.push(row(7, 1, 5_000, own()));
        let ids: Vec<i64> = overtaken(&rows).iter().map(|row| row.id).collect();
        assert_eq!(ids, [6, 7]);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let rows = [row(1, 1, 10, Way::Service), row(2, 1, 20, own())];
        let there = HashSet::from([1, 7]);
        let ids: Vec<i64> = missing(&rows, &there).iter().map(|row| row.id).collect();
        assert_eq!(ids, [2]);
    }

    #[test]
    fn times_are_those_of_the_ways_that_are_asked_for() {
        let rows = [
            row(1, 1, 100, Way::Service),
            row(2, 1, 110, own()),
            row(3, 2, 400, own()),
            row(4, 2, 900, Way::Fresh),
            row(5, 2, 950, Way::Service),
        ];
        assert_eq!(first_above(&rows, 1, Way::is_service), Some(900));
        assert_eq!(first_above(&rows, 1, |way| !way.is_service()), Some(400));
        assert_eq!(first_above(&rows, 2, |_| true), None);
        assert_eq!(first_in(&rows, 1, |_| true), Some(100));
        assert_eq!(first_in(&rows, 2, Way::is_service), Some(900));
        assert_eq!(first_in(&rows, 3, |_| true), None);
        let kept = |way: &Way| *way == Way::Service;
        assert_eq!(longest_pause(&rows, (90, 1_000), kept), 850);
        assert_eq!(longest_pause(&rows, (90, 1_000), Way::is_service), 800);
        assert_eq!(longest_pause(&[], (90, 1_000), kept), 910);
        let when = when_longest(&rows, (90, 1_000), Way::is_service);
        assert_eq!(when, (100, 900));
    }

    #[test]
    fn ids_are_given_once_and_rows_are_shown() {
        let ledger = Ledger::default();
        assert!(ledger.is_new());
        assert_eq!((ledger.next_id(), ledger.next_id()), (0, 1));
        assert!(!ledger.is_new());
        ledger.acknowledge(row(0, 4, 10, Way::Service));
        ledger.fail(&own(), "refused".to_owned());
        assert_eq!(ledger.count(0, Way::is_service), 1);
        assert_eq!(ledger.count(11, Way::is_service), 0);
        // Written down late, behind a later one.
        ledger.acknowledge(row(1, 4, 30, Way::Service));
        ledger.acknowledge(row(2, 4, 20, Way::Service));
        assert_eq!(ledger.count(25, Way::is_service), 1);
        let text = ledger.shown();
        assert!(
            text.contains("term 4: 3 rows") && text.contains("refused"),
            "{text}"
        );
    }
}
