//! Window functions: frames against a model that looks at every row, with room and without; what is read and what is kept.

use std::fmt::Write as _;

use super::database::{Database, run_async};
use crate::txn::Isolation;

/// Numbers that look random, the same ones each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::try_from((self.0 >> 33) % below).expect("small")
    }
}

#[derive(Clone, Copy)]
struct Row {
    id: i64,
    part: Option<i64>,
    key: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Rows,
    Range,
    Groups,
}

/// An end of a frame: an offset, negative for preceding ones, or none.
#[derive(Clone, Copy, Debug)]
enum End {
    Unbounded,
    Offset(i64),
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    mode: Mode,
    start: End,
    end: End,
    exclude: &'static str,
    descending: bool,
    nulls_first: bool,
}

fn bound(end: End, is_start: bool) -> String {
    match end {
        End::Unbounded if is_start => "UNBOUNDED PRECEDING".to_owned(),
        End::Unbounded => "UNBOUNDED FOLLOWING".to_owned(),
        End::Offset(0) => "CURRENT ROW".to_owned(),
        End::Offset(n) if n < 0 => format!("{} PRECEDING", -n),
        End::Offset(n) => format!("{n} FOLLOWING"),
    }
}

impl Frame {
    fn random(numbers: &mut Numbers) -> Frame {
        let mut end = || match numbers.next(4) {
            0 => End::Unbounded,
            _ => End::Offset(numbers.next(7) - 3),
        };
        let (mut start, mut stop) = (end(), end());
        // What the grammar refuses.
        if let (End::Offset(a), End::Offset(b)) = (start, stop)
            && ((a == 0 && b < 0) || (a > 0 && b <= 0))
        {
            (start, stop) = (stop, start);
        }
        let modes = [Mode::Rows, Mode::Range, Mode::Groups];
        let excludes = ["NO OTHERS", "CURRENT ROW", "GROUP", "TIES"];
        Frame {
            mode: modes[numbers.next(3) as usize],
            start,
            end: stop,
            exclude: excludes[numbers.next(4) as usize],
            descending: numbers.next(2) == 1,
            nulls_first: numbers.next(2) == 1,
        }
    }

    fn sql(&self) -> String {
        let mode = match self.mode {
            Mode::Rows => "ROWS",
            Mode::Range => "RANGE",
            Mode::Groups => "GROUPS",
        };
        format!(
            "PARTITION BY part ORDER BY key {} NULLS {} {mode} BETWEEN {} AND {} EXCLUDE {}",
            if self.descending { "DESC" } else { "ASC" },
            if self.nulls_first { "FIRST" } else { "LAST" },
            bound(self.start, true),
            bound(self.end, false),
            self.exclude
        )
    }

    fn sort(&self, rows: &mut [Row]) {
        rows.sort_by(|a, b| match (a.key, b.key) {
            (Some(x), Some(y)) if self.descending => y.cmp(&x),
            (Some(x), Some(y)) => x.cmp(&y),
            (None, None) => std::cmp::Ordering::Equal,
            (None, Some(_)) if self.nulls_first => std::cmp::Ordering::Less,
            (Some(_), None) if !self.nulls_first => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        });
    }

    /// Whether the row at `other` is in the frame of the one at `at`, both in a sorted partition.
    fn has(&self, rows: &[Row], groups: &[i64], at: usize, other: usize) -> bool {
        let distance = match self.mode {
            Mode::Rows => Some(other as i64 - at as i64),
            Mode::Groups => Some(groups[other] - groups[at]),
            Mode::Range => match (rows[at].key, rows[other].key) {
                (Some(a), Some(b)) if self.descending => Some(a - b),
                (Some(a), Some(b)) => Some(b - a),
                (None, None) => Some(0),
                // NULLs are further away than any offset, on the side where they are sorted.
                _ => None,
            },
        };
        let before = other < at;
        let behind = |end: End| match (end, distance) {
            (End::Unbounded, _) => true,
            (End::Offset(n), Some(d)) => d >= n,
            (End::Offset(_), None) => !before,
        };
        let ahead = |end: End| match (end, distance) {
            (End::Unbounded, _) => true,
            (End::Offset(n), Some(d)) => d <= n,
            (End::Offset(_), None) => before,
        };
        // Offsets from a NULL lead to NULLs, whichever they are.
        let both_null = self.mode == Mode::Range && rows[at].key.is_none();
        let inside = if both_null && rows[other].key.is_none() {
            true
        } else {
            behind(self.start) && ahead(self.end)
        };
        let peer = groups[other] == groups[at];
        let excluded = match self.exclude {
            "CURRENT ROW" => other == at,
            "GROUP" => peer,
            "TIES" => peer && other != at,
            _ => false,
        };
        inside && !excluded
    }
}

fn random_rows(numbers: &mut Numbers, count: i64) -> Vec<Row> {
    let mut maybe = |below: u64| match numbers.next(6) {
        0 => None,
        _ => Some(numbers.next(below)),
    };
    (0..count)
        .map(|id| Row {
            id,
            part: maybe(3),
            key: maybe(8),
        })
        .collect()
}

fn values(rows: &[Row]) -> String {
    let shown = |v: Option<i64>| v.map_or("NULL".to_owned(), |v| v.to_string());
    let mut text = String::from("(VALUES (-1, 0, 0)");
    for row in rows {
        write!(
            text,
            ", ({}, {}, {})",
            row.id,
            shown(row.part),
            shown(row.key)
        )
        .expect("a string");
    }
    text + ") v(id, part, key)"
}

/// For each row its id, how many rows its frame has, and the sum of their ids.
fn model(rows: &[Row], frame: &Frame) -> Vec<String> {
    let mut parts: Vec<Option<i64>> = rows.iter().map(|r| r.part).collect();
    parts.sort_unstable();
    parts.dedup();
    let mut out: Vec<(i64, String)> = Vec::new();
    for part in parts {
        let mut own: Vec<Row> = rows.iter().filter(|r| r.part == part).copied().collect();
        frame.sort(&mut own);
        let mut groups = vec![0; own.len()];
        for i in 1..own.len() {
            groups[i] = groups[i - 1] + i64::from(own[i].key != own[i - 1].key);
        }
        for at in 0..own.len() {
            let ids = (0..own.len()).filter(|other| frame.has(&own, &groups, at, *other));
            let ids: Vec<i64> = ids.map(|other| own[other].id).collect();
            let sum = match ids.len() {
                0 => "-".to_owned(),
                _ => ids.iter().sum::<i64>().to_string(),
            };
            out.push((own[at].id, format!("{}|{}|{sum}", own[at].id, ids.len())));
        }
    }
    out.sort();
    out.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn frames_have_the_rows_that_a_model_finds() {
    run_async(async {
        let db = Database::new();
        let mut numbers = Numbers(7);
        for round in 0..300 {
            let rows = random_rows(&mut numbers, 1 + round % 24);
            let frame = Frame::random(&mut numbers);
            // A range's order is one column, and offsets of it are counted in its numbers.
            let text = format!(
                "SELECT id, count(*) OVER w, sum(id) OVER w FROM {} WHERE id >= 0 WINDOW w AS ({}) ORDER BY id",
                values(&rows),
                frame.sql()
            );
            let mut txn = db.begin(Isolation::ReadCommitted);
            let mut cx = db.exec_cx(&txn);
            if round % 2 == 1 {
                (cx.limits.work, cx.limits.hash) = (300, 300);
            }
            let got = db.run_with(&mut txn, &text, &[], cx).await.expect(&text);
            db.commit(txn).await;
            assert_eq!(got, model(&rows, &frame), "{text}");
        }
    });
}

#[test]
fn places_in_a_partition() {
    run_async(async {
        let db = Database::new();
        db.check(
            "SELECT x, row_number() OVER w, rank() OVER w, dense_rank() OVER w, ntile(2) OVER w, lag(x) OVER w, \
             lead(x, 2, -1) OVER w, first_value(x) OVER w, last_value(x) OVER w, nth_value(x, 2) OVER w \
             FROM (VALUES (1), (2), (2), (3)) v(x) WINDOW w AS (ORDER BY x)",
            &[
                "1|1|1|1|1|-|2|1|1|-",
                "2|2|2|2|1|1|3|1|2|2",
                "2|3|2|2|2|2|-1|1|2|2",
                "3|4|4|3|2|2|-1|1|3|2",
            ],
        )
        .await;
        db.check(
            "SELECT percent_rank() OVER (ORDER BY x), cume_dist() OVER (ORDER BY x) FROM (VALUES (1), (2), (2), (3), (9)) v(x)",
            &["0|0.2", "0.25|0.6", "0.25|0.6", "0.75|0.8", "1|1"],
        )
        .await;
        db.check(
            "SELECT DISTINCT sum(count(*)) OVER () FROM (VALUES (1), (1), (2)) v(x) GROUP BY x",
            &["3"],
        )
        .await;
        db.fails(
            "SELECT ntile(0) OVER ()",
            "22014",
            "argument of ntile must be greater than zero",
        )
        .await;
        db.fails(
            "SELECT sum(1) OVER (ROWS -1 PRECEDING)",
            "22013",
            "frame starting offset must not be negative",
        )
        .await;
        db.fails(
            "SELECT sum(x) OVER (ORDER BY x RANGE -1 PRECEDING) FROM (VALUES (1)) v(x)",
            "22013",
            "invalid preceding or following size in window function",
        )
        .await;
    });
}

/// A limit stops the reading: the division is never reached.
#[test]
fn no_more_is_read_than_is_asked_for() {
    run_async(async {
        let db = Database::new();
        db.check(
            "SELECT row_number() OVER (), 1 / (3 - x) FROM (VALUES (1), (2), (3)) v(x) LIMIT 2",
            &["1|0", "2|1"],
        )
        .await;
        db.check(
            "SELECT x, lead(y) OVER () FROM (SELECT x, 6 / (4 - x) AS y FROM (VALUES (1), (2), (3), (4)) v(x)) z LIMIT 2",
            &["1|3", "2|6"],
        )
        .await;
    });
}

/// A partition that does not fit goes to disk; one that looks a few rows back needs no room.
#[test]
fn a_partition_outgrows_its_memory() {
    run_async(async {
        let db = Database::new();
        let mut rows = Vec::new();
        for i in 1..=3000 {
            rows.push(format!("({i}, {})", i % 7));
        }
        let insert = format!("INSERT INTO t (id, n) VALUES {}", rows.join(", "));
        db.check(&insert, &["3000"]).await;
        let texts = [
            "SELECT sum(a), sum(b), sum(c) FROM (SELECT count(*) OVER () a, last_value(id) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) b, lag(id, 700) OVER (ORDER BY id) c FROM t) x",
            "SELECT sum(a), sum(b), sum(c) FROM (SELECT sum(n) OVER (ORDER BY id ROWS 900 PRECEDING) a, rank() OVER (PARTITION BY n ORDER BY id) b, ntile(10) OVER (ORDER BY id DESC) c FROM t) x",
            "SELECT sum(a), max(b) FROM (SELECT row_number() OVER () a, max(id) OVER (ORDER BY n, id ROWS BETWEEN 200 PRECEDING AND 100 PRECEDING) b FROM t) x",
        ];
        for text in texts {
            let want = db.auto(text).await.expect(text);
            let mut txn = db.begin(Isolation::ReadCommitted);
            let mut cx = db.exec_cx(&txn);
            (cx.limits.work, cx.limits.hash) = (3000, 3000);
            let got = db.run_with(&mut txn, text, &[], cx).await.expect(text);
            db.commit(txn).await;
            assert_eq!(got, want, "{text}");
        }
    });
}

/// Long rows on disk are read back a few at a time.
#[test]
fn long_rows_go_to_disk() {
    run_async(async {
        let db = Database::new();
        let rows: Vec<String> = (1..=300)
            .map(|i| format!("({i}, {i}, '{}')", "x".repeat(i * 10)))
            .collect();
        let insert = format!("INSERT INTO t VALUES {}", rows.join(", "));
        db.check(&insert, &["300"]).await;
        let text = "SELECT id, length(first_value(s) OVER w), length(s), sum(length(s)) OVER w FROM t \
                    WINDOW w AS (ORDER BY id ROWS BETWEEN 150 PRECEDING AND 1 PRECEDING) ORDER BY id";
        let want = db.auto(text).await.expect(text);
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut cx = db.exec_cx(&txn);
        (cx.limits.work, cx.limits.hash) = (3000, 3000);
        let got = db.run_with(&mut txn, text, &[], cx).await.expect(text);
        db.commit(txn).await;
        assert_eq!(got, want);
        assert_eq!(
            got[299],
            format!("300|1500|3000|{}", (150..300).sum::<i64>() * 10)
        );
    });
}

/// What a row gives another time is not what it gave: nothing is taken back by it.
#[test]
fn volatile_arguments_are_never_taken_back() {
    run_async(async {
        let db = Database::new();
        let rows: Vec<String> = (1..=400).map(|i| format!("({i}, {i})")).collect();
        let insert = format!("INSERT INTO t (id, n) VALUES {}", rows.join(", "));
        db.check(&insert, &["400"]).await;
        db.check(
            "SELECT min(c) >= 0, max(c) <= 3 FROM (SELECT count(*) FILTER (WHERE random() < 0.5) \
             OVER (ORDER BY id ROWS 2 PRECEDING) c FROM t) x",
            &["t|t"],
        )
        .await;
        db.check(
            "SELECT a = b FROM (SELECT sum(random()) OVER () a, sum(random()) OVER () b) x",
            &["f"],
        )
        .await;
    });
}

#[test]
fn a_chain_of_windows_is_not_deep() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t (id, n) VALUES (1, 1), (2, 1), (3, 2)",
            &["3"],
        )
        .await;
        let chain: String = (1..3000)
            .map(|n| format!(", w{n} AS (w{})", n - 1))
            .collect();
        db.check(
            &format!(
                "SELECT id, sum(id) OVER (w2999 ORDER BY id) FROM t WINDOW w0 AS (PARTITION BY n){chain} ORDER BY id"
            ),
            &["1|1", "2|3", "3|3"],
        )
        .await;
    });
}

/// A sum that numbers leave has the scale of those that are left; one of NaN or an infinity begins anew without it.
#[test]
fn sums_of_numerics_move() {
    run_async(async {
        let db = Database::new();
        db.check(
            "SELECT sum(x) OVER w, count(x) OVER w FROM (VALUES (1, 1.5), (2, 2.25), (3, 3.0), (4, 4), (5, NULL), (6, 'NaN'), \
             (7, 6.125), (8, 'Infinity'), (9, 1), (10, 2.5), (11, NULL), (12, NULL), (13, 7.5)) v(i, x) \
             WINDOW w AS (ORDER BY i ROWS 1 PRECEDING) ORDER BY i",
            &[
                "1.5|1", "3.75|2", "5.25|2", "7.0|2", "4|1", "NaN|1", "NaN|2", "Infinity|2",
                "Infinity|2", "3.5|2", "2.5|1", "-|0", "7.5|1",
            ],
        )
        .await;
    });
}
