//! Subqueries that read the rows around them, at every place and depth, with what is kept between their runs.

use std::sync::Arc;

use super::database::{Database, Shown, run_async};
use super::harness::pauses;
use crate::sql::exec::start;
use crate::sql::explain::{ExplainOptions, Times, explain};
use crate::sql::plan::PlannerSettings;
use crate::txn::Isolation;

/// `t`: 1 to 4 with n 10, 20, 20, NULL; `u`: 1 to 5 with n 10, 20, 30, NULL, 20.
async fn filled() -> Arc<Database> {
    let db = Database::new();
    let t = "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 20, 'c'), (4, NULL, 'd')";
    db.check(t, &["4"]).await;
    let u = "INSERT INTO u VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z'), (4, NULL, 'v'), (5, 20, 'w')";
    db.check(u, &["5"]).await;
    db
}

fn shown(db: &Database, text: &str, settings: &PlannerSettings) -> String {
    let plan = db.plan(text, settings).expect(text);
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    options.costs = false;
    explain(&plan, &options, None, Times::default()).join("\n")
}

async fn run_under(db: &Database, text: &str, settings: &PlannerSettings) -> Vec<String> {
    let mut txn = db.begin(Isolation::ReadCommitted);
    let plan = db.plan(text, settings).expect(text);
    let mut rows = Shown::default();
    let mut execution = start(&plan, &[], db.exec_cx(&txn));
    execution.run(&mut txn, &mut rows, None).await.expect(text);
    drop(execution);
    db.world.txns.abort(txn);
    rows.rows().to_vec()
}

#[test]
fn values_lists_and_whether_there_is_a_row() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT id, (SELECT count(*) FROM u WHERE u.n = t.n) FROM t ORDER BY id",
            &["1|1", "2|2", "3|2", "4|0"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT s FROM u WHERE u.id = t.id) FROM t WHERE id > 2 ORDER BY id",
            &["3|z", "4|v"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT s FROM u WHERE u.id = t.id + 3) FROM t ORDER BY id",
            &["1|v", "2|w", "3|-", "4|-"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.n) ORDER BY id",
            &["1", "2", "3"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.n = t.n)",
            &["4"],
        )
        .await;
        db.check(
            "SELECT id, ARRAY(SELECT s FROM u WHERE u.n >= t.n ORDER BY s DESC) FROM t ORDER BY id",
            &["1|{z,y,x,w}", "2|{z,y,w}", "3|{z,y,w}", "4|{}"],
        )
        .await;
        db.fails(
            "SELECT (SELECT s FROM u WHERE u.n = t.n) FROM t WHERE id = 2",
            "21000",
            "more than one row returned by a subquery used as an expression",
        )
        .await;
    });
}

#[test]
fn membership_knows_null() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT id, n IN (SELECT u.n FROM u WHERE u.id >= t.id) FROM t ORDER BY id",
            &["1|t", "2|t", "3|t", "4|-"],
        )
        .await;
        db.check(
            "SELECT id, 10 IN (SELECT u.n FROM u WHERE u.id > t.id) FROM t ORDER BY id",
            &["1|-", "2|-", "3|-", "4|f"],
        )
        .await;
        db.check(
            "SELECT id, n NOT IN (SELECT u.n FROM u WHERE u.id = t.id + 1) FROM t ORDER BY id",
            &["1|t", "2|t", "3|-", "4|-"],
        )
        .await;
        db.check(
            "SELECT id, NULL::int = ANY (SELECT u.n FROM u WHERE u.id > t.id + 3) FROM t ORDER BY id",
            &["1|-", "2|f", "3|f", "4|f"],
        )
        .await;
        db.check(
            "SELECT id, n > ALL (SELECT u.n FROM u WHERE u.id < t.id) FROM t ORDER BY id",
            &["1|t", "2|t", "3|f", "4|-"],
        )
        .await;
        db.check(
            "SELECT id, (id, n) IN (SELECT u.id, u.n FROM u WHERE u.n = t.n) FROM t ORDER BY id",
            &["1|t", "2|t", "3|f", "4|f"],
        )
        .await;
        db.check(
            "SELECT id, (id, n) <= ALL (SELECT u.id, u.n FROM u WHERE u.id > t.id) FROM t ORDER BY id",
            &["1|t", "2|t", "3|t", "4|t"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE (n, s) = (SELECT u.n, 'b' FROM u WHERE u.id = t.id)",
            &["2"],
        )
        .await;
    });
}

#[test]
fn names_mean_what_is_nearest() {
    run_async(async {
        let db = filled().await;
        // `id` is u's, `t.id` the row's outside.
        db.check(
            "SELECT t.id FROM t WHERE (SELECT max(id) FROM u WHERE id <= t.id) = 2",
            &["2"],
        )
        .await;
        // Two levels up, and two that are both read.
        db.check(
            "SELECT id FROM t WHERE (SELECT count(*) FROM u WHERE EXISTS \
             (SELECT 1 FROM u v WHERE v.n = t.n AND v.id > u.id)) = 4 ORDER BY id",
            &["2", "3"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT sum(u.id - u.id + (SELECT count(*) FROM u w WHERE w.n = t.n)) FROM u) FROM t ORDER BY id",
            &["1|5", "2|10", "3|10", "4|0"],
        )
        .await;
        // FROM has subqueries that read the level outside. (Those that read their neighbours: `lateral.rs`.)
        db.check(
            "SELECT id, (SELECT sum(x) FROM u, (SELECT t.id AS x) y WHERE u.n = t.n) FROM t ORDER BY id",
            &["1|1", "2|4", "3|6", "4|-"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT count(*) FROM generate_series(1, t.id) g) FROM t ORDER BY id",
            &["1|1", "2|2", "3|3", "4|4"],
        )
        .await;
        db.check(
            "SELECT id, (VALUES (t.id + 1) UNION ALL SELECT t.id WHERE t.id < 0) FROM t WHERE id < 3 ORDER BY 1",
            &["1|2", "2|3"],
        )
        .await;
        db.check(
            "SELECT id, (WITH x AS (SELECT n FROM u WHERE u.id > t.id) SELECT count(n) FROM x) FROM t ORDER BY id",
            &["1|3", "2|2", "3|1", "4|1"],
        )
        .await;
        db.check(
            "SELECT (SELECT t.s), (SELECT (t).s), (SELECT ROW(t.*)) FROM t WHERE id = 1",
            &["a|a|(1,10,a)"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE (SELECT ctid) IS NOT NULL AND (SELECT tableoid) = t.tableoid AND id < 2",
            &["1"],
        )
        .await;
    });
}

/// A WITH query stands in each place that names it, however deep: its levels are none of those around that place.
#[test]
fn with_queries_keep_levels_of_their_own() {
    run_async(async {
        let db = filled().await;
        // Three rows.
        let with = "WITH w AS (SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.n))";
        for (text, want) in [
            (
                "SELECT (SELECT count(*) FROM u x GROUP BY x.n HAVING (SELECT count(*) FROM w) = 3 ORDER BY x.n LIMIT 1)",
                "1",
            ),
            (
                "SELECT (SELECT x.id FROM u x ORDER BY x.id LIMIT (SELECT count(*) - 2 FROM w))",
                "1",
            ),
            (
                "SELECT (SELECT sum((SELECT count(*) FROM w) + x.id) FROM u x)",
                "30",
            ),
        ] {
            db.check(&format!("{with} {text}"), &[want]).await;
        }
        db.check(
            "WITH w AS (SELECT max(id) AS m FROM t) SELECT (SELECT sum((SELECT m FROM w) + x.id) FROM u x)",
            &["35"],
        )
        .await;
    });
}

/// Whoever asks only whether there is a row has nothing of it computed.
#[test]
fn existence_computes_no_values() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 / 0 FROM u WHERE u.n = t.n ORDER BY 1) ORDER BY id",
            &["1", "2", "3"],
        )
        .await;
        db.check(
            "SELECT EXISTS (SELECT DISTINCT n / 0 FROM u GROUP BY n), EXISTS (SELECT 1 / 0 WHERE 1 > 2)",
            &["t|f"],
        )
        .await;
        // What decides how many rows there are is computed all the same.
        db.check(
            "SELECT EXISTS (SELECT count(*) FROM u WHERE id > 9), EXISTS (SELECT 1 FROM u HAVING count(*) > 9), \
             EXISTS (SELECT generate_series(1, 0) FROM u), EXISTS (SELECT id FROM u LIMIT 0), \
             EXISTS (SELECT id FROM u OFFSET 5)",
            &["t|f|f|f|f"],
        )
        .await;
    });
}

#[test]
fn groups_and_aggregates_of_the_level_outside() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT n, (SELECT count(*) FROM u WHERE u.n = t.n), count(*) FROM t GROUP BY n ORDER BY n",
            &["10|1|1", "20|2|2", "-|0|1"],
        )
        .await;
        db.check(
            "SELECT n FROM t GROUP BY n HAVING EXISTS (SELECT 1 FROM u WHERE u.id = max(t.id)) ORDER BY n",
            &["10", "20", "-"],
        )
        .await;
        db.check("SELECT (SELECT max(t.id) + min(t.id)) FROM t", &["5"])
            .await;
        db.check(
            "SELECT n, (SELECT sum(u.id * count(t.id)) FROM u WHERE u.n = t.n) FROM t GROUP BY n ORDER BY n",
            &["10|1", "20|14", "-|-"],
        )
        .await;
        db.check(
            "SELECT sum((SELECT count(*) FROM u WHERE u.n = t.n)) FILTER (WHERE EXISTS \
             (SELECT 1 FROM u WHERE u.id = t.id AND u.n < 20)) FROM t",
            &["1"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT u.n FROM u WHERE u.id = t.id) AS m FROM t ORDER BY m DESC NULLS LAST, id",
            &["3|30", "2|20", "1|10", "4|-"],
        )
        .await;
        db.check(
            "SELECT DISTINCT (SELECT count(*) FROM u WHERE u.n = t.n) AS c FROM t ORDER BY c",
            &["0", "1", "2"],
        )
        .await;
        db.check(
            "SELECT (SELECT count(*) FROM u WHERE u.n = t.n) AS c, count(*) FROM t GROUP BY c ORDER BY c",
            &["0|1", "1|1", "2|2"],
        )
        .await;
        db.fails(
            "SELECT s, (SELECT count(*) FROM u WHERE u.n = t.n) FROM t GROUP BY s",
            "42803",
            "subquery uses ungrouped column \"t.n\" from outer query",
        )
        .await;
    });
}

#[test]
fn joins_conditions_and_branches() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT t.id, u.id FROM t LEFT JOIN u ON u.n = t.n AND EXISTS \
             (SELECT 1 FROM u v WHERE v.id = u.id + 1 AND v.n > t.n) ORDER BY 1, 2",
            &["1|1", "2|2", "3|2", "4|-"],
        )
        .await;
        db.check(
            "SELECT t.id, u.id FROM t, u WHERE u.id = (SELECT max(v.id) FROM u v WHERE v.n = t.n) ORDER BY 1",
            &["1|1", "2|5", "3|5"],
        )
        .await;
        db.check(
            "SELECT CASE WHEN n IS NULL THEN (SELECT s FROM u WHERE u.id = t.id) \
             ELSE (SELECT min(s) FROM u WHERE u.n = t.n) END FROM t ORDER BY id",
            &["x", "w", "w", "v"],
        )
        .await;
        // What would fail is not reached.
        db.check(
            "SELECT id FROM t WHERE id = 1 AND (SELECT s FROM u WHERE u.n = t.n) = 'x'",
            &["1"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE (SELECT s FROM u WHERE u.n = t.n) = 'x' AND id = 1",
            &["1"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT u.s FROM u WHERE u.id > t.id ORDER BY u.id LIMIT 1 OFFSET t.id - 1) FROM t ORDER BY id",
            &["1|y", "2|v", "3|-", "4|-"],
        )
        .await;
    });
}

/// What a join inside keeps depends on the row outside, or not.
#[test]
fn kept_rows_are_forgotten_when_they_are_others() {
    run_async(async {
        let db = filled().await;
        let loops = PlannerSettings {
            enable_hashjoin: false,
            enable_indexscan: false,
            ..PlannerSettings::default()
        };
        let text = "SELECT id, (SELECT count(*) FROM u a JOIN u b ON a.id < b.id AND b.id <= t.id + 1 \
                    AND a.id < t.id + 1) FROM t ORDER BY id";
        assert!(shown(&db, text, &loops).contains("Materialize"));
        assert_eq!(
            run_under(&db, text, &loops).await,
            ["1|1", "2|3", "3|6", "4|10"]
        );
        let text = "SELECT id, (SELECT count(*) FROM u a JOIN u b ON a.id < b.id WHERE a.id = t.id) FROM t ORDER BY id";
        assert!(shown(&db, text, &loops).contains("Materialize"));
        assert_eq!(
            run_under(&db, text, &loops).await,
            ["1|4", "2|3", "3|2", "4|1"]
        );
        // An init plan of the inner level that reads the outermost one.
        db.check(
            "SELECT id, (SELECT count(*) FROM u WHERE u.n > (SELECT avg(v.n) FROM u v WHERE v.id <= t.id)) FROM t ORDER BY id",
            &["1|3", "2|3", "3|1", "4|1"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT count(*) FROM u WHERE u.n IN (SELECT v.n FROM u v WHERE v.id <= t.id)) FROM t ORDER BY id",
            &["1|1", "2|3", "3|4", "4|4"],
        )
        .await;
    });
}

#[test]
fn keys_come_from_the_row_outside() {
    run_async(async {
        let db = filled().await;
        let index = PlannerSettings {
            enable_seqscan: false,
            ..PlannerSettings::default()
        };
        let pages = PlannerSettings {
            enable_indexscan: false,
            ..PlannerSettings::default()
        };
        assert_eq!(
            shown(
                &db,
                "SELECT id, (SELECT s FROM u WHERE u.id = t.n) FROM t",
                &index
            ),
            "Seq Scan on t\n  \
               SubPlan 1\n    \
                 ->  Index Scan using u_pkey on u\n          \
                       Index Cond: (id = t.n)"
        );
        assert_eq!(
            shown(
                &db,
                "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.n = t.n \
                 AND u.id > (SELECT min(id) FROM t)) AND id > 0",
                &pages
            ),
            "Seq Scan on t\n  \
               Filter: ((id > 0) AND (NOT (SubPlan 2)))\n  \
               SubPlan 2\n    \
                 ->  Seq Scan on u\n          \
                       Filter: ((n = t.n) AND (id > $1))\n          \
                       InitPlan 1 (returns $1)\n            \
                         ->  Aggregate\n                  \
                               ->  Seq Scan on t"
        );
    });
}

#[test]
fn columns_are_shown_with_their_table_where_the_statement_reads_several() {
    run_async(async {
        let db = filled().await;
        let text = "SELECT id FROM t ORDER BY s LIMIT (SELECT count(*) FROM u)";
        let lines = shown(&db, text, &PlannerSettings::default());
        assert!(lines.contains("Sort Key: t.s\n"), "{lines}");
        let alone = shown(
            &db,
            "SELECT id FROM t ORDER BY s",
            &PlannerSettings::default(),
        );
        assert!(alone.contains("Sort Key: s\n"), "{alone}");
        let text = "SELECT id FROM t ORDER BY (SELECT count(*) FROM u WHERE u.n = t.n)";
        let counted = shown(&db, text, &PlannerSettings::default());
        assert!(counted.contains("Sort Key: ((SubPlan 1))\n"), "{counted}");
    });
}

#[test]
fn what_reads_no_row_outside_is_run_once() {
    run_async(async {
        let db = filled().await;
        let mut txn = db.begin(Isolation::ReadCommitted);
        let text = "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.n \
                    AND u.id > (SELECT count(*) - 5 FROM u WHERE u.id > 0))";
        let plan = db.plan(text, &PlannerSettings::default()).expect(text);
        let mut cx = db.exec_cx(&txn);
        cx.instrument = true;
        let mut sink = Shown::default();
        let mut execution = start(&plan, &[], cx);
        // In two runs, as a portal is read.
        for complete in [false, true] {
            let limit = (!complete).then_some(2);
            let progress = execution.run(&mut txn, &mut sink, limit).await;
            assert_eq!(progress.expect(text).complete, complete);
        }
        assert_eq!(sink.rows(), ["1", "2", "3"]);
        let mut options = ExplainOptions::new(&[]).expect("defaults");
        (options.costs, options.timing) = (false, false);
        let lines = explain(&plan, &options, execution.instruments(), Times::default());
        let loops = |what: &str| {
            let line = lines.iter().find(|l| l.contains(what));
            let line = line.unwrap_or_else(|| panic!("{what} in {lines:#?}"));
            line.rsplit_once("loops=")
                .map(|(_, n)| n.trim_end_matches(')').to_owned())
        };
        assert_eq!(loops("Aggregate").as_deref(), Some("1"), "{lines:#?}");
        let scans: Vec<&String> = lines.iter().filter(|l| l.contains("loops=4")).collect();
        assert_eq!(scans.len(), 1, "{lines:#?}");
        drop(execution);
        db.world.txns.abort(txn);
    });
}

#[test]
fn changes_read_their_rows_in_subqueries() {
    run_async(async {
        let db = filled().await;
        db.check(
            "UPDATE t SET s = (SELECT u.s FROM u WHERE u.id = t.id), n = (SELECT count(*) FROM u WHERE u.n = t.n) \
             WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.n) RETURNING id, n, s, (SELECT u.n FROM u WHERE u.id = t.n)",
            &["1|1|x|10", "2|2|y|20", "3|2|z|20"],
        )
        .await;
        db.check(
            "UPDATE t SET (n, s) = (SELECT u.n, u.s FROM u WHERE u.id = t.id + 1) WHERE id < 3 RETURNING id, n, s",
            &["1|20|y", "2|30|z"],
        )
        .await;
        db.check(
            "INSERT INTO t VALUES (1, 5, 'new'), (9, 9, 'nine') ON CONFLICT (id) DO UPDATE \
             SET s = (SELECT u.s FROM u WHERE u.id = t.id + excluded.id), n = excluded.n \
             WHERE EXISTS (SELECT 1 FROM u WHERE u.id = excluded.id) \
             RETURNING id, s, (SELECT max(u.id) FROM u WHERE u.n > t.n)",
            &["1|y|5", "9|nine|5"],
        )
        .await;
        db.check(
            "INSERT INTO u SELECT id + 100, (SELECT max(n) FROM u WHERE u.id <= t.id), 'i' FROM t WHERE id < 3 \
             ORDER BY id RETURNING id, n",
            &["101|10", "102|20"],
        )
        .await;
        db.check(
            "DELETE FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.id = t.id) RETURNING id, (SELECT t.s)",
            &["9|nine"],
        )
        .await;
        db.check(
            "UPDATE t SET n = x.m FROM (SELECT id, (SELECT max(v.n) FROM u v WHERE v.id < u.id) AS m FROM u) x \
             WHERE x.id = t.id AND t.id = (SELECT max(id) FROM t w WHERE w.id <= x.id) AND t.id = 3 RETURNING t.id, t.n",
            &["3|20"],
        )
        .await;
    });
}

/// The condition of an UPDATE that has waited is asked of the newest version, with what its subquery reads of it.
#[test]
fn subqueries_read_the_newest_version() {
    run_async(async {
        let db = filled().await;
        let mut first = db.begin(Isolation::ReadCommitted);
        let text = "UPDATE t SET n = 77 WHERE id IN (1, 3)";
        assert_eq!(db.run(&mut first, text).await.expect(text), ["2"]);
        let other = Arc::clone(&db);
        let second = tokio::spawn(async move {
            other
                .auto(
                    "UPDATE t SET s = (SELECT min(u.s) FROM u WHERE u.n = t.n) \
                     WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.n) RETURNING id, s",
                )
                .await
        });
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        db.commit(first).await;
        // Whether it waited or began behind the other: rows 1 and 3 have no partner any more.
        assert_eq!(second.await.expect("no panic").expect("changed"), ["2|w"]);
    });
}

/// Or a statement of many short subqueries could not be cancelled, and would keep its thread from others.
#[test]
fn a_statement_of_many_subqueries_hands_back_control() {
    let db = run_async(async { Database::new() });
    let text = "SELECT (SELECT count(*) FROM generate_series(1, 2000) g WHERE g > h) FROM generate_series(1, 20) h";
    let plan = db.plan(text, &PlannerSettings::default()).expect(text);
    assert!(pauses(&plan) >= 15);
}

/// Neither lists of values nor sorts of earlier runs stay on the statement's account.
#[test]
fn runs_give_back_what_they_held() {
    run_async(async {
        let db = Database::new();
        let text = "SELECT count(*) FROM generate_series(1, 300) h WHERE cardinality(ARRAY(SELECT repeat('x', 100) || g \
                    FROM generate_series(1, 100) g WHERE g <> h ORDER BY 1)) < 100 \
                    AND h IN (SELECT i FROM generate_series(1, 300) i WHERE i >= h)";
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut cx = db.exec_cx(&txn);
        cx.limits.statement = 300_000;
        let got = db.run_with(&mut txn, text, &[], cx).await;
        assert_eq!(got.expect(text), ["100"]);
        db.world.txns.abort(txn);
    });
}

#[test]
fn what_cannot_be_done_is_refused() {
    run_async(async {
        let db = filled().await;
        db.fails(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id FOR UPDATE)",
            "0A000",
            "row locks in a correlated subquery are not supported",
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE id = (SELECT u.id FROM u WHERE u.n = 10 FOR UPDATE)",
            &["1"],
        )
        .await;
    });
}

/// On a thread whose stack is as large as that of those that run statements.
#[test]
fn nesting_is_bounded() {
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let nested = |levels: usize| {
        let inner = |inner: String, _| format!("(SELECT {inner} + 1)");
        (0..levels).fold("t.id".to_owned(), inner)
    };
    let run = move || {
        run_async(async {
            let db = filled().await;
            let text = format!("SELECT {} FROM t", nested(70));
            let error = db.fails(&text, "54001", "stack depth limit exceeded");
            assert!(error.await.hint.is_some());
            let text = format!("SELECT {} FROM t WHERE id = 2", nested(60));
            db.check(&text, &["62"]).await;
        });
    };
    thread
        .spawn(run)
        .expect("a thread")
        .join()
        .expect("no panic");
}
