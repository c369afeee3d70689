//! Ranges of FROM that read others to their left: what they may name, in what order they are joined, what is kept between
//! their runs. Joins at random are compared with loops that do just what the words say.

mod random;

use std::sync::Arc;

use proptest::prelude::*;

use super::database::{Database, Shown, run_async};
use super::harness::*;
use crate::ids::Oid;
use crate::sql::bound::{
    Expr, FromItem, JoinKind, OuterRef, Query, Range, RangeCall, RangeColumn, RangeSource,
};
use crate::sql::error::SqlError;
use crate::sql::exec::start;
use crate::sql::explain::{ExplainOptions, Times, explain};
use crate::sql::plan::PlannerSettings;
use crate::txn::Isolation;
use crate::types::functions;

/// `t`: 1 to 4 with n 10, 20, 20, NULL; `u`: 1 to 5 with n 10, 20, 30, NULL, 20.
async fn filled() -> Arc<Database> {
    let db = Database::new();
    let t = "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 20, 'c'), (4, NULL, 'd')";
    db.check(t, &["4"]).await;
    let u = "INSERT INTO u VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z'), (4, NULL, 'v'), (5, 20, 'w')";
    db.check(u, &["5"]).await;
    db
}

fn shown(db: &Database, text: &str, settings: &PlannerSettings, verbose: bool) -> String {
    let plan = db.plan(text, settings).expect(text);
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    (options.costs, options.verbose) = (false, verbose);
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
fn functions_and_subqueries_read_what_is_to_their_left() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT t.id, g FROM t, generate_series(1, t.id) g WHERE t.id < 4 ORDER BY 1, 2",
            &["1|1", "2|1", "2|2", "3|1", "3|2", "3|3"],
        )
        .await;
        db.check(
            "SELECT count(*) FROM t, generate_series(1, t.id) g",
            &["10"],
        )
        .await;
        db.check(
            "SELECT t.id, l.c FROM t, LATERAL (SELECT count(*) AS c FROM u WHERE u.n = t.n) l ORDER BY 1",
            &["1|1", "2|2", "3|2", "4|0"],
        )
        .await;
        db.check(
            "SELECT t.id, l.id FROM t LEFT JOIN LATERAL \
             (SELECT u.id FROM u WHERE u.n = t.n ORDER BY u.id DESC LIMIT 1) l ON true ORDER BY 1",
            &["1|1", "2|5", "3|5", "4|-"],
        )
        .await;
        // What it gives is the other's column, and NULL where it gives no row.
        db.check(
            "SELECT t.id, l.k FROM t LEFT JOIN LATERAL (SELECT t.id AS k WHERE t.id > 2) l ON true ORDER BY 1",
            &["1|-", "2|-", "3|3", "4|4"],
        )
        .await;
        db.check(
            "SELECT t.id, l.k FROM t LEFT JOIN LATERAL (SELECT t.n AS k) l ON l.k < 15 ORDER BY l.k, 1",
            &["1|10", "2|-", "3|-", "4|-"],
        )
        .await;
        db.check(
            "SELECT t.id, v.x FROM t, LATERAL (VALUES (t.id), (t.n)) v(x) WHERE t.id < 3 ORDER BY 1, 2",
            &["1|1", "1|10", "2|2", "2|20"],
        )
        .await;
        db.check(
            "SELECT t.id, l.x FROM t, LATERAL (SELECT t.id AS x UNION SELECT u.id FROM u WHERE u.n = t.n) l ORDER BY 1, 2",
            &["1|1", "2|2", "2|5", "3|2", "3|3", "3|5", "4|4"],
        )
        .await;
        db.check(
            "SELECT t.id, l.k, l.c FROM t, LATERAL \
             (SELECT t.n AS k, count(*) AS c FROM u WHERE u.id > t.id GROUP BY t.n) l ORDER BY 1",
            &["1|10|4", "2|20|3", "3|20|2", "4|-|1"],
        )
        .await;
        db.check(
            "SELECT t.id, l.id FROM t, LATERAL \
             (SELECT DISTINCT t.n, u.id FROM u ORDER BY t.n, u.id LIMIT 1 OFFSET t.id) l ORDER BY 1",
            &["1|2", "2|3", "3|4", "4|5"],
        )
        .await;
        // One after the other, each of the one before.
        db.check(
            "SELECT t.id, a.x, b.y, g FROM t, LATERAL (SELECT t.id + 1 AS x) a, LATERAL (SELECT a.x * t.id AS y) b, \
             generate_series(a.x, b.y) g WHERE t.id = 2 ORDER BY 4",
            &["2|3|6|3", "2|3|6|4", "2|3|6|5", "2|3|6|6"],
        )
        .await;
    });
}

#[test]
fn names_reach_two_levels_up_and_merged_columns() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT t.id, d.m FROM t, LATERAL (SELECT c.m FROM u, LATERAL (SELECT u.id * 10 + t.id AS m) c \
             WHERE u.id <= t.id) d WHERE t.id < 3 ORDER BY 1, 2",
            &["1|11", "2|12", "2|22"],
        )
        .await;
        db.check(
            "SELECT t.id, d.g FROM t, LATERAL (SELECT g FROM (SELECT id FROM u WHERE id < t.id) v, \
             generate_series(v.id, t.id) g) d WHERE t.id = 3 ORDER BY 2",
            &["3|1", "3|2", "3|2", "3|3", "3|3"],
        )
        .await;
        db.check(
            "SELECT l.k FROM t JOIN u USING (id), LATERAL (SELECT id * 2 AS k) l ORDER BY 1",
            &["2", "4", "6", "8"],
        )
        .await;
        db.check(
            "SELECT l.k FROM t FULL JOIN u USING (id), LATERAL (SELECT id * 2 AS k) l ORDER BY 1",
            &["2", "4", "6", "8", "10"],
        )
        .await;
        db.check(
            "SELECT l.r FROM t, LATERAL (SELECT t AS r) l WHERE t.id = 1",
            &["(1,10,a)"],
        )
        .await;
        db.check(
            "SELECT l.id, l.s FROM t, LATERAL (SELECT t.*) l WHERE (SELECT l.n) = 10",
            &["1|a"],
        )
        .await;
        db.check(
            "SELECT t.id FROM t, LATERAL (SELECT t.tableoid AS o, t.ctid AS c) l \
             WHERE l.o = t.tableoid AND l.c IS NOT NULL AND t.id = 2",
            &["2"],
        )
        .await;
        db.check(
            "SELECT t.id, l.id FROM t, LATERAL (WITH w AS (SELECT id FROM u WHERE n = t.n) SELECT max(id) AS id FROM w) l ORDER BY 1",
            &["1|1", "2|5", "3|5", "4|-"],
        )
        .await;
        db.check(
            "WITH w AS (SELECT id, n FROM u) SELECT t.id, l.id FROM t, LATERAL (SELECT id FROM w WHERE w.n = t.n) l ORDER BY 1, 2",
            &["1|1", "2|2", "2|5", "3|2", "3|5"],
        )
        .await;
        // A RIGHT join that is over hides nothing.
        db.check(
            "SELECT u.id, l.k FROM t RIGHT JOIN u ON u.id = t.id JOIN LATERAL (SELECT t.n AS k) l ON true ORDER BY 1",
            &["1|10", "2|20", "3|20", "4|-", "5|-"],
        )
        .await;
    });
}

#[test]
fn subqueries_of_expressions_in_and_around_them() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT t.id, l.x FROM t, LATERAL (SELECT (SELECT max(u.id) FROM u WHERE u.n = t.n) AS x) l ORDER BY 1",
            &["1|1", "2|5", "3|5", "4|-"],
        )
        .await;
        db.check(
            "SELECT t.id, l.a, l.b FROM t, LATERAL (SELECT u.id AS a, \
             (SELECT count(*) FROM u v WHERE v.id < u.id AND v.n = t.n) AS b FROM u WHERE u.n = t.n) l ORDER BY 1, 2",
            &["1|1|0", "2|2|0", "2|5|1", "3|2|0", "3|5|1"],
        )
        .await;
        db.check(
            "SELECT t.id, l.id FROM t, LATERAL (SELECT u.id FROM u WHERE u.n IN (SELECT v.n FROM u v WHERE v.id = t.id)) l \
             WHERE t.id < 3 ORDER BY 1, 2",
            &["1|1", "2|2", "2|5"],
        )
        .await;
        db.check(
            "SELECT t.id, g FROM t, generate_series(1, (SELECT count(*) FROM u WHERE u.n = t.n)) g ORDER BY 1, 2",
            &["1|1", "2|1", "2|2", "3|1", "3|2"],
        )
        .await;
        db.check(
            "SELECT id, (SELECT sum(l.v) FROM u, LATERAL (SELECT u.id + t.id AS v) l WHERE u.n = t.n) FROM t ORDER BY id",
            &["1|2", "2|11", "3|13", "4|-"],
        )
        .await;
        db.check(
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u, generate_series(u.id, t.id) g WHERE u.n = t.n AND g > u.id) ORDER BY 1",
            &["3"],
        )
        .await;
    });
}

#[test]
fn changes_join_with_them() {
    run_async(async {
        let db = filled().await;
        db.check(
            "UPDATE t SET n = x.v FROM u, LATERAL (SELECT u.n + t2.id AS v FROM t t2 WHERE t2.id = u.id) x \
             WHERE u.id = t.id AND t.id = 2 RETURNING t.id, t.n",
            &["2|22"],
        )
        .await;
        db.check(
            "DELETE FROM t USING u, generate_series(u.id, u.id) g WHERE t.id = g AND u.id = 3 RETURNING t.id, g",
            &["3|3"],
        )
        .await;
        db.check(
            "INSERT INTO t SELECT u.id + 10, l.k, 'new' FROM u, LATERAL (SELECT max(v.n) AS k FROM u v WHERE v.id <= u.id) l \
             WHERE u.id > 3 ORDER BY 1 RETURNING id, n",
            &["14|30", "15|30"],
        )
        .await;
        for (text, table) in [
            ("UPDATE t SET n = 1 FROM LATERAL (SELECT t.id) x", "t"),
            ("UPDATE t y SET n = 1 FROM generate_series(1, y.id) g", "y"),
            ("DELETE FROM t USING u, LATERAL (SELECT t.s) x", "t"),
        ] {
            let error = out_of_reach(&db, text, table).await;
            assert_eq!(error.detail, None, "{text}");
            let hint = format!(
                "There is an entry for table \"{table}\", but it cannot be referenced from this part of the query."
            );
            assert_eq!(error.hint.as_deref(), Some(hint.as_str()), "{text}");
        }
    });
}

async fn out_of_reach(db: &Database, text: &str, table: &str) -> SqlError {
    let message = format!("invalid reference to FROM-clause entry for table \"{table}\"");
    db.fails(text, "42P10", &message).await
}

#[test]
fn what_cannot_be_named() {
    run_async(async {
        let db = filled().await;
        for (text, table) in [
            (
                "SELECT * FROM t RIGHT JOIN LATERAL (SELECT t.id) x ON true",
                "t",
            ),
            (
                "SELECT * FROM t FULL JOIN generate_series(1, t.id) g ON true",
                "t",
            ),
            (
                "SELECT * FROM (t JOIN u USING (id)) RIGHT JOIN LATERAL (SELECT id) x ON true",
                "unnamed_join",
            ),
        ] {
            let error = out_of_reach(&db, text, table).await;
            assert_eq!(
                error.detail.as_deref(),
                Some("The combining JOIN type must be INNER or LEFT for a LATERAL reference."),
                "{text}"
            );
            assert_eq!(error.hint, None, "{text}");
        }
        let error = db.fails(
            "SELECT * FROM t x, (SELECT t.id) y",
            "42P01",
            "invalid reference to FROM-clause entry for table \"t\"",
        );
        let hint = "There is an entry for table \"x\", but it cannot be referenced from this part of the query.";
        assert_eq!(error.await.hint.as_deref(), Some(hint));
        for (text, state, message) in [
            (
                "SELECT * FROM LATERAL (SELECT t.id) x, t",
                "42P01",
                "missing FROM-clause entry for table \"t\"",
            ),
            (
                "SELECT * FROM t, u, LATERAL (SELECT id) x",
                "42702",
                "column reference \"id\" is ambiguous",
            ),
            (
                "SELECT * FROM t, LATERAL (SELECT max(t.id)) x",
                "42803",
                "aggregate functions are not allowed in FROM clause of their own query level",
            ),
            (
                "SELECT * FROM t, generate_series(1, max(t.id)) g",
                "42803",
                "aggregate functions are not allowed in functions in FROM",
            ),
            (
                "SELECT * FROM t, LATERAL (SELECT 1 WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id FOR UPDATE)) x",
                "0A000",
                "row locks in a correlated subquery are not supported",
            ),
        ] {
            db.fails(text, state, message).await;
        }
    });
}

#[test]
fn functions_side_by_side() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) WITH ORDINALITY AS x(a, b, o)",
            &["1|1|1", "2|2|2", "-|3|3"],
        )
        .await;
        db.check(
            "SELECT t.id, x.* FROM t, ROWS FROM (generate_series(1, t.id), generate_series(t.id, 2)) x \
             WHERE t.id < 3 ORDER BY 1, 2",
            &["1|1|1", "1|-|2", "2|1|2", "2|2|-"],
        )
        .await;
        db.check(
            "SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b', 'c']) x(i, s)",
            &["1|a", "2|b", "-|c"],
        )
        .await;
        db.check(
            "SELECT t.id, u.v, u.o FROM t, unnest(ARRAY[t.s, 'z']) WITH ORDINALITY AS u(v, o) WHERE t.id = 2",
            &["2|b|1", "2|z|2"],
        )
        .await;
        db.check(
            "SELECT t.id, e.key, e.value FROM t, jsonb_each(jsonb_build_object('n', t.n, 's', t.s)) e WHERE t.id = 1 ORDER BY 2",
            &["1|n|10", "1|s|\"a\""],
        )
        .await;
        db.check(
            "SELECT e FROM jsonb_array_elements('[1, 2]') e",
            &["1", "2"],
        )
        .await;
        db.check(
            "SELECT t.id, c.v, c.o FROM t, coalesce(t.n, 0) WITH ORDINALITY AS c(v, o) WHERE t.id > 2 ORDER BY 1",
            &["3|20|1", "4|0|1"],
        )
        .await;
        for (text, message) in [
            (
                "SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 2)) AS x(a int, b int)",
                "ROWS FROM() with multiple functions cannot have a column definition list",
            ),
            (
                "SELECT * FROM unnest(ARRAY[1], ARRAY[2]) AS x(a int, b int)",
                "UNNEST() with multiple arguments cannot have a column definition list",
            ),
            (
                "SELECT * FROM generate_series(1, 2) WITH ORDINALITY AS x(a int)",
                "WITH ORDINALITY cannot be used with a column definition list",
            ),
            (
                "SELECT * FROM ROWS FROM (generate_series(1, 2) AS (a int)) x",
                "a column definition list is only allowed for functions returning \"record\"",
            ),
        ] {
            db.fails(text, "42601", message).await;
        }
        db.fails(
            "SELECT unnest(ARRAY[1], ARRAY[2])",
            "42883",
            "function unnest(integer[], integer[]) does not exist",
        )
        .await;
    });
}

#[test]
fn they_are_the_inner_side_of_loops() {
    run_async(async {
        let db = filled().await;
        let default = PlannerSettings::default();
        assert_eq!(
            shown(
                &db,
                "SELECT t.id, g FROM t, generate_series(1, t.id) g",
                &default,
                false
            ),
            "Nested Loop\n  \
               ->  Seq Scan on t\n  \
               ->  Function Scan on generate_series g"
        );
        assert_eq!(
            shown(
                &db,
                "SELECT t.id, l.id FROM t LEFT JOIN LATERAL (SELECT u.id FROM u WHERE u.n = t.n LIMIT 1) l ON true",
                &default,
                false
            ),
            "Nested Loop Left Join\n  \
               ->  Seq Scan on t\n  \
               ->  Limit\n        \
                     ->  Seq Scan on u\n              \
                           Filter: (n = t.n)"
        );
        let text =
            "SELECT t.id, g FROM t, LATERAL (SELECT t.id + 1 AS k) l, generate_series(1, l.k) g";
        let lines = shown(&db, text, &default, true);
        for line in [
            "Function Scan on pg_catalog.generate_series g",
            "Function Call: generate_series(1, (t.id + 1))",
        ] {
            assert!(lines.contains(line), "{lines}");
        }
        // A condition that a hash table could answer does not make one of them.
        let text = "SELECT count(*) FROM u, t, LATERAL (SELECT t.id + 1 AS k) l WHERE l.k = u.id AND u.n = t.n";
        for settings in [
            PlannerSettings {
                enable_nestloop: false,
                ..PlannerSettings::default()
            },
            default,
        ] {
            let lines = shown(&db, text, &settings, false);
            assert!(lines.contains("Nested Loop"), "{lines}");
            assert_eq!(run_under(&db, text, &settings).await, ["0"], "{lines}");
        }
    });
}

/// Rows of one outer row are not given to another.
#[test]
fn kept_rows_are_forgotten_when_they_are_others() {
    run_async(async {
        let db = filled().await;
        let loops = PlannerSettings {
            enable_hashjoin: false,
            enable_indexscan: false,
            ..PlannerSettings::default()
        };
        let text = "SELECT t.id, l.c FROM t, LATERAL (SELECT count(*) AS c FROM u a JOIN u b ON a.id < b.id \
                    AND b.id <= t.id + 1 AND a.id < t.id + 1) l ORDER BY 1";
        assert!(shown(&db, text, &loops, false).contains("Materialize"));
        assert_eq!(
            run_under(&db, text, &loops).await,
            ["1|1", "2|3", "3|6", "4|10"]
        );
        // One that reads nothing of a loop between it and the row that it reads.
        let text = "SELECT t.id, count(*), sum(l.k) FROM t LEFT JOIN \
                    (u CROSS JOIN LATERAL (SELECT t.id AS k FROM u v WHERE v.id <= t.id) l) ON true GROUP BY t.id ORDER BY 1";
        assert_eq!(
            run_under(&db, text, &loops).await,
            ["1|5|5", "2|10|20", "3|15|45", "4|20|80"]
        );
    });
}

/// The condition around a subquery that only reads a function or VALUES does not take the place of its own.
#[test]
fn conditions_inside_and_around_a_scan() {
    run_async(async {
        let db = filled().await;
        for text in [
            "SELECT x.g FROM (SELECT g FROM generate_series(1, 9) g WHERE g > 3) x WHERE x.g < 6",
            "SELECT x.v FROM (SELECT v FROM (VALUES (3), (4), (5), (6)) y(v) WHERE v > 3) x WHERE x.v < 6",
            "SELECT l.g FROM t, LATERAL (SELECT g FROM generate_series(t.id, 9) g WHERE g > t.id + 2) l WHERE t.id = 1 AND l.g < 6",
        ] {
            db.check(text, &["4", "5"]).await;
        }
        db.check(
            "SELECT count(*) FROM (SELECT g FROM generate_series(1, 9) g WHERE g > 3) x",
            &["6"],
        )
        .await;
    });
}

/// What links three relations links no two of them.
#[test]
fn a_condition_among_three() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT count(*) FROM t a, t b, u c WHERE a.id + b.id = c.id",
            &["10"],
        )
        .await;
    });
}

/// Subqueries that are simple are asked again of the newest version, whether or not rows are sorted below the locks.
#[test]
fn locks_ask_again_of_the_newest_version() {
    run_async(async {
        for order in ["", "ORDER BY t.id, l.id"] {
            let db = filled().await;
            let mut first = db.begin(Isolation::ReadCommitted);
            let text = "UPDATE t SET n = 30 WHERE id = 1";
            assert_eq!(db.run(&mut first, text).await.expect(text), ["1"]);
            let other = Arc::clone(&db);
            let text = format!(
                "SELECT t.id, t.n, l.id, l.k, m.j FROM t, LATERAL (SELECT u.id, t.n + 1 AS k FROM u WHERE u.n >= t.n) l, \
                 LATERAL (SELECT l.k * 2 AS j) m WHERE t.id = 1 {order} FOR UPDATE OF t"
            );
            let second = tokio::spawn(async move { other.auto(&text).await });
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            db.commit(first).await;
            // Whether it waited or began behind the other: of u only row 3 is as large as that.
            assert_eq!(
                second.await.expect("no panic").expect("locked"),
                ["1|30|3|31|62"]
            );
        }
    });
}

#[test]
fn they_lock_rows_themselves() {
    run_async(async {
        let db = filled().await;
        db.check(
            "SELECT t.id, l.s FROM t, LATERAL (SELECT u.s FROM u WHERE u.id = t.id FOR UPDATE) l WHERE t.id < 3 ORDER BY 1",
            &["1|x", "2|y"],
        )
        .await;
    });
}

#[test]
fn a_loop_over_them_hands_back_control() {
    let db = run_async(async { Database::new() });
    let text = "SELECT l.g FROM generate_series(1, 20) h, LATERAL (SELECT g FROM generate_series(1, 500) g WHERE g > h) l";
    let plan = db.plan(text, &PlannerSettings::default()).expect(text);
    assert!(pauses(&plan) >= 15);
}
