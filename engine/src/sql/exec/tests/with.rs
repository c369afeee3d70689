//! WITH: rounds of recursive queries, rows that several read, and changes that are made once and to their end.

use super::database::{Database, run_async};
use super::harness::function_cx;
use crate::sql::exec::start;
use crate::sql::explain::{ExplainOptions, Times, explain};
use crate::sql::plan::PlannerSettings;
use crate::txn::Isolation;

/// With so little memory that whatever keeps rows puts them on disk.
async fn cramped(db: &Database, text: &str) -> Vec<String> {
    let mut txn = db.begin(Isolation::ReadCommitted);
    let mut cx = db.exec_cx(&txn);
    (cx.limits.work, cx.limits.hash) = (200, 200);
    let got = db.run_with(&mut txn, text, &[], cx).await.expect(text);
    db.commit(txn).await;
    got
}

#[test]
fn rounds_end_when_nothing_new_comes() {
    run_async(async {
        let db = Database::new();
        db.check(
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r",
            &["1", "2", "3", "4", "5"],
        )
        .await;
        db.check(
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT (n + 2) % 7 FROM r) SELECT n FROM r",
            &["1", "3", "5", "0", "2", "4", "6"],
        )
        .await;
        // Endless, but nobody asks for the end.
        db.check(
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r LIMIT 3",
            &["1", "2", "3"],
        )
        .await;
        let text = "WITH RECURSIVE r(n) AS (SELECT x FROM (VALUES (0), (1), (2), (3), (4)) v(x) UNION ALL SELECT n + 5 FROM r WHERE n < 2000) \
                    SELECT count(*), sum(a.n) FROM r a WHERE a.n IN (SELECT n FROM r)";
        let want = db.auto(text).await.expect(text);
        assert_eq!(cramped(&db, text).await, want);
    });
}

/// What is kept within a round is forgotten with the next one.
#[test]
fn every_round_reads_its_own_rows() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t VALUES (1, 0, 'r'), (2, 1, 'a'), (3, 1, 'b'), (4, 2, 'c'), (5, 4, 'd')",
            &["5"],
        )
        .await;
        let tree = "WITH RECURSIVE d(id, depth) AS (SELECT id, 0 FROM t WHERE n = 0 UNION ALL \
                    SELECT t.id, depth + 1 FROM d JOIN t ON t.n = d.id) SELECT id, depth FROM d ORDER BY id";
        let want = ["1|0", "2|1", "3|1", "4|2", "5|3"];
        db.check(tree, &want).await;
        assert_eq!(cramped(&db, tree).await, want);
        // The working table on the inner side of a loop without an index, and below a sort.
        db.check(
            "WITH RECURSIVE d(id) AS (SELECT 1 UNION ALL SELECT t.id FROM t, (SELECT id FROM d ORDER BY id) x WHERE t.n + 0 > x.id - 1 AND t.n - x.id < 1) \
             SELECT id FROM d ORDER BY id",
            &["1", "2", "3", "4", "5"],
        )
        .await;
        db.check(
            "SELECT t.id, (WITH RECURSIVE up(i, p) AS (SELECT t.id, t.n UNION ALL SELECT x.id, x.n FROM t x, up WHERE x.id = up.p) SELECT count(*) FROM up) FROM t ORDER BY 1",
            &["1|1", "2|2", "3|2", "4|3", "5|4"],
        )
        .await;
    });
}

#[test]
fn several_read_one_run() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t SELECT x, x, 's' FROM (VALUES (1), (2), (3)) v(x)",
            &["3"],
        )
        .await;
        db.check(
            "WITH x AS (SELECT random() AS r) SELECT a.r = b.r FROM x a, x b",
            &["t"],
        )
        .await;
        let pairs = "WITH x AS (SELECT id FROM t) SELECT a.id, b.id FROM x a, x b WHERE a.id <= b.id ORDER BY 1, 2";
        let want = ["1|1", "1|2", "1|3", "2|2", "2|3", "3|3"];
        db.check(pairs, &want).await;
        assert_eq!(cramped(&db, pairs).await, want);
        // Anew for each row around it.
        db.check(
            "SELECT id, (WITH x AS MATERIALIZED (SELECT k.id FROM t k WHERE k.id <= t.id) SELECT count(*) FROM x a, x b) FROM t ORDER BY id",
            &["1|1", "2|4", "3|9"],
        )
        .await;
        // Where one place reads it, it is a subquery of that place.
        db.check(
            "WITH x AS (SELECT id, (SELECT max(k.id) FROM t k WHERE k.id < t.id) AS m FROM t) SELECT x.m, (SELECT y.id FROM t y WHERE y.id = x.id) FROM x ORDER BY x.id",
            &["-|1", "1|2", "2|3"],
        )
        .await;
    });
}

#[test]
fn changes_are_made_once_and_to_their_end() {
    run_async(async {
        let db = Database::new();
        db.check(
            "WITH i AS (INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c') RETURNING id) SELECT id FROM i LIMIT 1",
            &["1"],
        )
        .await;
        db.check("SELECT count(*) FROM t", &["3"]).await;
        db.check(
            "WITH d AS (DELETE FROM t WHERE id < 3 RETURNING *), i AS (INSERT INTO u SELECT * FROM d RETURNING id) \
             SELECT a.id, b.id, (SELECT count(*) FROM t), (SELECT count(*) FROM u) FROM i a, i b ORDER BY 1, 2",
            &["1|1|3|0", "1|2|3|0", "2|1|3|0", "2|2|3|0"],
        )
        .await;
        db.check(
            "SELECT id FROM t UNION ALL SELECT id + 10 FROM u ORDER BY 1",
            &["3", "11", "12"],
        )
        .await;
        // Nobody reads it, and the tag counts the statement's own rows.
        db.check(
            "WITH d AS (DELETE FROM u) UPDATE t SET n = 9 WHERE id = 3",
            &["1"],
        )
        .await;
        db.check("SELECT (SELECT count(*) FROM u), n FROM t", &["0|9"])
            .await;
        // Of two changes of a row one takes place; a subquery of an expression reads what was run ahead.
        db.check(
            "WITH x AS (UPDATE t SET n = n + 1 RETURNING n) UPDATE t SET n = 100",
            &["1"],
        )
        .await;
        db.check(
            "WITH i AS (INSERT INTO u VALUES (7, 7, 'g') RETURNING id) SELECT id, (SELECT max(i.id) FROM i WHERE i.id > t.id) FROM t",
            &["3|7"],
        )
        .await;
        db.check("SELECT id FROM u", &["7"]).await;
    });
}

#[test]
fn a_failure_takes_all_of_it_back() {
    run_async(async {
        let db = Database::new();
        db.fails(
            "WITH i AS (INSERT INTO t VALUES (1, 1, 'a') RETURNING id) SELECT 1 / (id - 1) FROM i",
            "22012",
            "division by zero",
        )
        .await;
        db.check("SELECT count(*) FROM t", &["0"]).await;
        db.fails(
            "SELECT * FROM (WITH i AS (INSERT INTO t VALUES (1, 1, 'a') RETURNING id) SELECT id FROM i) x",
            "0A000",
            "WITH clause containing a data-modifying statement must be at the top level",
        )
        .await;
        db.fails(
            "WITH i AS (INSERT INTO t VALUES (1, 1, 'a')) SELECT * FROM i",
            "0A000",
            "WITH query \"i\" does not have a RETURNING clause",
        )
        .await;
        db.fails(
            "WITH RECURSIVE r(n) AS (SELECT n FROM r UNION ALL SELECT 1) SELECT n FROM r",
            "42P19",
            "recursive reference to query \"r\" must not appear within its non-recursive term",
        )
        .await;
        db.fails(
            "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT 1",
            "0A000",
            "mutual recursion between WITH items is not implemented",
        )
        .await;
    });
}

/// A row that a statement in WITH wants is held by another transaction: it waits, wherever it is read.
#[test]
fn a_change_in_with_waits() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')", &["2"])
            .await;
        for text in [
            "WITH x AS (UPDATE t SET n = n + 10 WHERE id = 1 RETURNING n) SELECT n FROM x",
            "WITH x AS (UPDATE t SET n = n + 10 WHERE id = 1 RETURNING n) SELECT (SELECT n FROM x)",
            "WITH x AS (SELECT n FROM t WHERE id = 1 FOR UPDATE) SELECT (SELECT a.n FROM x a, x b)",
        ] {
            let mut first = db.begin(Isolation::ReadCommitted);
            db.run(&mut first, "UPDATE t SET n = n + 1 WHERE id = 1")
                .await
                .expect("changed");
            let other = std::sync::Arc::clone(&db);
            let second = tokio::spawn(async move { other.auto(text).await });
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert!(!second.is_finished(), "{text}");
            db.commit(first).await;
            let got = second.await.expect("no panic").expect(text);
            assert_eq!(got.len(), 1, "{text}");
        }
        db.check("SELECT n FROM t WHERE id = 1", &["24"]).await;
    });
}

/// An expression cannot wait, and ahead of it there is no row yet to lock others for.
#[test]
fn locks_for_a_row_beside_an_expression_are_refused() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 1, 'a')", &["1"]).await;
        db.check("INSERT INTO u VALUES (1, 5, 'a'), (2, 6, 'b')", &["2"])
            .await;
        let locking = |read: &str| {
            format!(
                "SELECT x.n FROM t, LATERAL (WITH c AS (SELECT u.n FROM u WHERE u.id = t.id FOR UPDATE) {read}) x"
            )
        };
        db.check(&locking("SELECT n FROM c"), &["5"]).await;
        db.fails(
            &locking("SELECT (SELECT n FROM c) AS n"),
            "0A000",
            "row locks in a correlated subquery are not supported",
        )
        .await;
    });
}

#[test]
fn queries_that_double_are_refused() {
    run_async(async {
        let db = Database::new();
        let doubling = |how: &str| {
            let chain: String = (1..20)
                .map(|n| format!(", x{n} AS {how} (SELECT a.n FROM x{0} a, x{0} b)", n - 1))
                .collect();
            format!("WITH x0 AS (SELECT 1 AS n){chain} SELECT n FROM x19")
        };
        db.check(&doubling(""), &["1"]).await;
        db.fails(
            &doubling("NOT MATERIALIZED"),
            "54001",
            "WITH queries are read in too many places to be planned in each of them",
        )
        .await;
    });
}

#[test]
fn plans_are_shown() {
    run_async(async {
        let db = Database::new();
        let shown = |text: &str| {
            let plan = db.plan(text, &PlannerSettings::default()).expect(text);
            let mut options = ExplainOptions::new(&[]).expect("defaults");
            options.costs = false;
            explain(&plan, &options, None, Times::default()).join("\n")
        };
        assert_eq!(
            shown(
                "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT n FROM r"
            ),
            "CTE Scan on r\n  CTE r\n    ->  Recursive Union\n          ->  Result\n          ->  WorkTable Scan on r\n                Filter: (n < 9)"
        );
        assert_eq!(
            shown("SELECT rank() OVER (ORDER BY n) FROM t"),
            "WindowAgg\n  ->  Sort\n        Sort Key: n\n        ->  Seq Scan on t"
        );
        // One sort for windows that agree.
        let two = shown(
            "SELECT rank() OVER (PARTITION BY s ORDER BY n), sum(n) OVER (PARTITION BY s) FROM t",
        );
        assert_eq!(two.matches("Sort\n").count(), 1, "{two}");
        assert_eq!(two.matches("WindowAgg").count(), 2, "{two}");
        let inlined = shown("WITH x AS (SELECT id FROM t) SELECT id FROM x");
        assert_eq!(inlined, "Seq Scan on t");
    });
}

/// A query of WITH that a portal leaves in the middle is left there; dropping it gives everything back.
#[test]
fn a_portal_stops_in_the_middle() {
    run_async(async {
        let db = Database::new();
        let text =
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r";
        let plan = db
            .plan_under(text, &PlannerSettings::default(), &function_cx())
            .expect(text);
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut shown = super::database::Shown::default();
        let mut execution = start(&plan, &[], db.exec_cx(&txn));
        for upto in [2, 5] {
            let progress = execution.run(&mut txn, &mut shown, Some(upto)).await;
            assert!(!progress.expect("runs").complete);
        }
        assert_eq!(shown.rows().len(), 7);
        drop(execution);
        db.commit(txn).await;
    });
}
