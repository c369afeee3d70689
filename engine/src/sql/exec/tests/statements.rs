//! One session: statements and their results, from text to pages and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::database::{Database, run_async};
use super::harness::{function_cx, function_cx_of};
use crate::sql::bound::Disclosure;
use crate::sql::copy::{CopyFrom, CopyOptions, CopyTarget};
use crate::sql::error::SqlError;
use crate::sql::exec::analyze::analyze;
use crate::sql::explain::{ExplainOptions, Times, explain};
use crate::sql::front::ast::{CopyDirection, OptionValue, UtilityOption};
use crate::sql::plan::PlannerSettings;
use crate::txn::{Isolation, Transaction};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Host, Rows};

/// Index scans wherever one can be used.
fn no_seqscan() -> PlannerSettings {
    PlannerSettings {
        enable_seqscan: false,
        ..PlannerSettings::default()
    }
}

fn plan_of(db: &Database, text: &str, settings: &PlannerSettings) -> String {
    let plan = db.plan(text, settings).expect(text);
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    options.costs = false;
    explain(&plan, &options, None, Times::default()).join("\n")
}

#[test]
fn rows_are_inserted_changed_and_removed() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, NULL), (3, 30, 'c')",
            &["3"],
        )
        .await;
        db.check(
            "SELECT * FROM t ORDER BY id",
            &["1|10|a", "2|20|-", "3|30|c"],
        )
        .await;
        db.check(
            "INSERT INTO t (id) VALUES (4) RETURNING id, n, s",
            &["4|-|-"],
        )
        .await;
        db.check(
            "UPDATE t SET n = n + 1, s = 'x' WHERE id >= 2 AND n IS NOT NULL RETURNING *",
            &["2|21|x", "3|31|x"],
        )
        .await;
        db.check("UPDATE t SET id = id + 10 WHERE id = 4", &["1"])
            .await;
        db.check("DELETE FROM t WHERE n = 21 RETURNING id", &["2"])
            .await;
        db.check(
            "SELECT id, n FROM t ORDER BY id DESC",
            &["14|-", "3|31", "1|10"],
        )
        .await;
        db.check(
            "INSERT INTO u SELECT id, n * 2, s FROM t WHERE n > 0",
            &["2"],
        )
        .await;
        db.check(
            "SELECT t.id, u.n FROM t LEFT JOIN u ON u.id = t.id ORDER BY 1",
            &["1|20", "3|62", "14|-"],
        )
        .await;
        db.check(
            "UPDATE t SET n = u.n FROM u WHERE u.id = t.id RETURNING t.id, t.n, u.n",
            &["1|20|20", "3|62|62"],
        )
        .await;
        db.check(
            "DELETE FROM t USING u WHERE u.id = t.id AND u.n > 30",
            &["1"],
        )
        .await;
        db.check("SELECT count(*), sum(n), max(id) FROM t", &["2|20|14"])
            .await;
        db.check("SELECT id FROM t WHERE id IN (SELECT id FROM u)", &["1"])
            .await;
        db.check(
            "SELECT id FROM t WHERE id NOT IN (SELECT id FROM u)",
            &["14"],
        )
        .await;
        db.check(
            "SELECT (SELECT max(n) FROM u), EXISTS (SELECT 1 FROM u WHERE id = 99)",
            &["62|f"],
        )
        .await;
    });
}

#[test]
fn constraints_speak_as_postgresql_does() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a')", &["1"]).await;
        let error = db
            .fails(
                "INSERT INTO t VALUES (1, 5, 'b')",
                "23505",
                "duplicate key value violates unique constraint \"t_pkey\"",
            )
            .await;
        assert_eq!(
            error.detail.as_deref(),
            Some("Key (id)=(1) already exists.")
        );
        assert_eq!(error.constraint.as_deref(), Some("t_pkey"));
        let error = db
            .fails(
                "INSERT INTO t VALUES (NULL, 5, 'b')",
                "23502",
                "null value in column \"id\" of relation \"t\" violates not-null constraint",
            )
            .await;
        assert_eq!(
            error.detail.as_deref(),
            Some("Failing row contains (null, 5, b).")
        );
        let error = db
            .fails(
                "UPDATE t SET n = -1",
                "23514",
                "new row for relation \"t\" violates check constraint \"t_n_check\"",
            )
            .await;
        assert_eq!(
            error.detail.as_deref(),
            Some("Failing row contains (1, -1, a).")
        );
        // NULL does not violate a check.
        db.check("UPDATE t SET n = NULL", &["1"]).await;
        db.fails(
            "SELECT (SELECT id FROM (VALUES (1), (2)) AS v (id))",
            "21000",
            "more than one row returned by a subquery used as an expression",
        )
        .await;
    });
}

#[test]
fn indexes_answer_points_ranges_lists_and_orders() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t SELECT g, g % 7, 'row ' || g FROM generate_series(1, 3000) AS g",
            &["3000"],
        )
        .await;
        let cases: &[(&str, &str, &str)] = &[
            (
                "SELECT n FROM t WHERE id = 77",
                "Index Cond: (id = 77)",
                "0",
            ),
            (
                "SELECT count(*) FROM t WHERE id > 10 AND id <= 20",
                "Index Cond: ((id > 10) AND (id <= 20))",
                "10",
            ),
            (
                "SELECT count(*) FROM t WHERE id < 10",
                "Index Cond: (id < 10)",
                "9",
            ),
            (
                "SELECT count(*) FROM t WHERE 2990 < id",
                "Index Cond: (2990 < id)",
                "10",
            ),
            (
                "SELECT sum(id) FROM t WHERE id IN (5, 1, 5, 9, 99999)",
                "Index Cond: (id = ANY ('{5,1,5,9,99999}'::integer[]))",
                "15",
            ),
            (
                "SELECT count(*) FROM t WHERE id = ANY (ARRAY[3, 4])",
                "Index Cond",
                "2",
            ),
            ("SELECT min(id) FROM t", "Index Scan using t_pkey on t", "1"),
            (
                "SELECT max(id) FROM t",
                "Index Scan Backward using t_pkey on t",
                "3000",
            ),
            (
                "SELECT id FROM t ORDER BY id DESC LIMIT 1",
                "Index Scan Backward using t_pkey on t",
                "3000",
            ),
            (
                "SELECT count(*) FROM t WHERE id = 5 AND n = 4",
                "Index Cond: (id = 5)",
                "0",
            ),
            ("SELECT id FROM t WHERE id = 5000000000", "Index Cond", ""),
            (
                "SELECT count(*) FROM t WHERE id < 5000000000",
                "Index Cond",
                "3000",
            ),
        ];
        for (text, shown, want) in cases {
            let plan = plan_of(&db, text, &no_seqscan());
            assert!(plan.contains(shown), "{text}\n{plan}");
            let want: Vec<&str> = if want.is_empty() { vec![] } else { vec![want] };
            db.check(text, &want).await;
        }
        let plan = plan_of(
            &db,
            "SELECT * FROM t WHERE id = 5",
            &PlannerSettings::default(),
        );
        assert!(plan.starts_with("Index Scan using t_pkey on t"), "{plan}");
        // Updated keys are found under their new value only.
        db.check("UPDATE t SET id = id + 10000 WHERE id <= 5", &["5"])
            .await;
        db.check("SELECT id FROM t WHERE id = 3", &[]).await;
        db.check(
            "SELECT id, n, s FROM t WHERE id = 10003",
            &["10003|3|row 3"],
        )
        .await;
    });
}

#[test]
fn joins_take_keys_from_the_outer_row() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t SELECT g, g, 's' FROM generate_series(1, 2000) AS g",
            &["2000"],
        )
        .await;
        db.check(
            "INSERT INTO u VALUES (1, 5, 'a'), (2, 1999, 'b'), (3, 99999, 'c')",
            &["3"],
        )
        .await;
        let text = "SELECT u.s, t.id FROM u JOIN t ON t.id = u.n ORDER BY u.id";
        let loops = PlannerSettings {
            enable_hashjoin: false,
            ..no_seqscan()
        };
        let plan = plan_of(&db, text, &loops);
        assert!(plan.contains("Index Cond: (id = u.n)"), "{plan}");
        db.check(text, &["a|5", "b|1999"]).await;
        db.check(
            "SELECT u.s, t.id FROM u LEFT JOIN t ON t.id = u.n AND t.n > 10 ORDER BY u.id",
            &["a|-", "b|1999", "c|-"],
        )
        .await;
    });
}

#[test]
fn conflicts_are_ignored_or_become_updates() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 10, 'a')", &["1"]).await;
        db.check(
            "INSERT INTO t VALUES (1, 99, 'b'), (2, 2, 'b') ON CONFLICT DO NOTHING",
            &["1"],
        )
        .await;
        db.check(
            "INSERT INTO t VALUES (1, 5, 'new'), (3, 3, 'c') ON CONFLICT (id) DO UPDATE \
             SET n = t.n + excluded.n, s = excluded.s RETURNING *",
            &["1|15|new", "3|3|c"],
        )
        .await;
        db.check(
            "INSERT INTO t VALUES (1, 5, 'no') ON CONFLICT (id) DO UPDATE SET s = excluded.s \
             WHERE t.n > 100",
            &["0"],
        )
        .await;
        let error = db
            .fails(
                "INSERT INTO t VALUES (7, 1, 'a'), (7, 2, 'b') ON CONFLICT (id) DO UPDATE SET n = 0",
                "21000",
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
            )
            .await;
        assert!(error.hint.is_some());
        db.check(
            "SELECT * FROM t ORDER BY id",
            &["1|15|new", "2|2|b", "3|3|c"],
        )
        .await;
    });
}

#[test]
fn copy_in_and_statistics() {
    run_async(async {
        let db = Database::new();
        let mut txn = db.begin(Isolation::ReadCommitted);
        let csv = UtilityOption {
            name: "format".to_owned(),
            value: Some(OptionValue::Text("csv".to_owned())),
            at: 0,
        };
        let options = CopyOptions::new(&[csv], CopyDirection::From).expect("good options");
        let relation = std::sync::Arc::clone(&db.catalog.relations[0]);
        let target = || CopyTarget {
            relation: std::sync::Arc::clone(&relation),
            columns: vec![0, 2],
            filter: None,
            disclosure: Disclosure::WholeRow,
        };
        let cx = db.exec_cx(&txn);
        let mut copy = CopyFrom::new(target(), options.clone(), &db.catalog, cx).expect("starts");
        let mut data = Vec::new();
        for n in 0..5000 {
            data.extend_from_slice(format!("{n},\"line {n}\nmore\"\n").as_bytes());
        }
        for part in data.chunks(777) {
            copy.push(&mut txn, part).await.expect("takes it");
        }
        assert_eq!(copy.finish(&mut txn).await.expect("ends"), 5000);
        txn.next_command().expect("a command");
        db.commit(txn).await;
        db.check("SELECT count(*), sum(id) FROM t", &["5000|12497500"])
            .await;
        db.check("SELECT s FROM t WHERE id = 4321", &["line 4321\nmore"])
            .await;

        let txn = db.begin(Isolation::ReadCommitted);
        let found = analyze(&relation, 100, &db.exec_cx(&txn))
            .await
            .expect("a sample");
        assert!((found.rows - 5000.0).abs() < 1.0);
        assert!((found.columns[0].1.distinct + 1.0).abs() < 1e-9);
        assert!((found.columns[1].1.null_fraction - 1.0).abs() < 1e-9);
        drop(txn);

        let mut txn = db.begin(Isolation::ReadCommitted);
        let cx = db.exec_cx(&txn);
        let mut copy = CopyFrom::new(target(), options.clone(), &db.catalog, cx).expect("starts");
        let failed = async {
            copy.push(&mut txn, b"9001,ok\n9002,also ok\nx9,bad\n")
                .await?;
            copy.finish(&mut txn).await
        };
        let error = failed.await.expect_err("refused");
        assert_eq!(
            error.message,
            "invalid input syntax for type integer: \"x9\""
        );
        assert_eq!(
            error.context.as_deref(),
            Some("COPY t, line 3, column id: \"x9\"")
        );
        db.world.txns.abort(txn);

        let mut txn = db.begin(Isolation::ReadCommitted);
        let cx = db.exec_cx(&txn);
        let mut copy = CopyFrom::new(target(), options, &db.catalog, cx).expect("starts");
        copy.push(&mut txn, b"9001,ok\n17,double\n")
            .await
            .expect("still gathering");
        let error = copy.finish(&mut txn).await.expect_err("refused");
        assert_eq!(error.state, "23505");
        assert_eq!(error.context.as_deref(), Some("COPY t, line 2"));
        db.world.txns.abort(txn);
        db.check("SELECT count(*) FROM t", &["5000"]).await;
    });
}

/// Copies text to the first and the third column of the first table.
fn copy_to_t(db: &Database, txn: &Transaction) -> CopyFrom {
    let options = CopyOptions::new(&[], CopyDirection::From).expect("good options");
    let target = CopyTarget {
        relation: Arc::clone(&db.catalog.relations[0]),
        columns: vec![0, 2],
        filter: None,
        disclosure: Disclosure::WholeRow,
    };
    CopyFrom::new(target, options, &db.catalog, db.exec_cx(txn)).expect("starts")
}

/// Each part is shorter than what is there already, so not each of them is looked through from the beginning.
#[test]
fn copy_in_takes_a_record_of_many_parts() {
    run_async(async {
        let db = Database::new();
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut copy = copy_to_t(&db, &txn);
        let data = format!("1\t{}\n2\ty\n3\tz", "x".repeat(400_000));
        for part in data.as_bytes().chunks(4999) {
            copy.push(&mut txn, part).await.expect("takes it");
        }
        assert_eq!(copy.finish(&mut txn).await.expect("ends"), 3);
        txn.next_command().expect("a command");
        db.commit(txn).await;
        db.check(
            "SELECT id, length(s) FROM t ORDER BY id",
            &["1|400000", "2|1", "3|1"],
        )
        .await;
    });
}

/// The wait for more of a long record takes what comes behind it for a part of it.
#[test]
fn copy_in_refuses_a_record_for_its_own_length_only() {
    run_async(async {
        let db = Database::new();
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut copy = copy_to_t(&db, &txn);
        copy.limit_records(450_000);
        let more: String = (2..=15_000).map(|id| format!("{id}\ty\n")).collect();
        let data = format!("1\t{}\n{more}", "x".repeat(400_000));
        for part in data.as_bytes().chunks(4999) {
            copy.push(&mut txn, part).await.expect("takes it");
        }
        assert_eq!(copy.finish(&mut txn).await.expect("ends"), 15_000);
        txn.next_command().expect("a command");
        db.commit(txn).await;
        db.check("SELECT count(*), max(length(s)) FROM t", &["15000|400000"])
            .await;

        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut copy = copy_to_t(&db, &txn);
        copy.limit_records(450_000);
        let long = format!("20000\t{}", "x".repeat(460_000));
        let pushed = async {
            for part in long.as_bytes().chunks(4999) {
                copy.push(&mut txn, part).await?;
            }
            Ok::<_, SqlError>(())
        };
        assert_eq!(pushed.await.expect_err("too long").state, "54000");
        db.world.txns.abort(txn);
    });
}

/// Of equal keys one can be long and the other short.
#[test]
fn a_group_is_either_in_memory_or_on_disk() {
    run_async(async {
        let db = Database::new();
        let long = format!("1.{}", "0".repeat(5000));
        let text = format!(
            "SELECT n, sum(m) FROM (VALUES (7.0, 1), ({long}, 2), (1.0, 3)) AS v (n, m) \
             GROUP BY n"
        );
        let text = format!("SELECT count(*), sum(sum) FROM ({text}) AS g");
        let plan = plan_of(&db, &text, &PlannerSettings::default());
        assert!(plan.contains("HashAggregate"), "{plan}");
        let mut txn = db.begin(Isolation::ReadCommitted);
        let mut cx = db.exec_cx(&txn);
        cx.limits.hash = 1000;
        let got = db.run_with(&mut txn, &text, &[], cx).await;
        assert_eq!(got.expect("two groups"), ["2|6"]);
        db.world.txns.abort(txn);
    });
}

#[test]
fn what_aggregates_keep_is_on_the_statements_account() {
    run_async(async {
        let db = Database::new();
        for kept in [
            "string_agg(repeat('x', 10000), '')",
            "array_agg(repeat('x', 10000))",
            "jsonb_agg(repeat('x', 10000))",
        ] {
            let text =
                format!("SELECT g % 3, {kept} FROM generate_series(1, 3000) AS g GROUP BY 1");
            let mut txn = db.begin(Isolation::ReadCommitted);
            let mut cx = db.exec_cx(&txn);
            cx.limits.statement = 8 << 20;
            let error = db.run_with(&mut txn, &text, &[], cx).await;
            assert_eq!(error.expect_err(&text).state, "53200", "{text}");
            db.world.txns.abort(txn);
        }
    });
}

#[test]
fn parameters_make_one_plan_for_many_values() {
    run_async(async {
        let db = Database::new();
        db.check(
            "INSERT INTO t SELECT g, g, 's' FROM generate_series(1, 100) AS g",
            &["100"],
        )
        .await;
        let mut txn = db.begin(Isolation::ReadCommitted);
        for (value, want) in [
            (Datum::Int4(5), vec!["5"]),
            (Datum::Null, vec![]),
            (Datum::Int4(700), vec![]),
        ] {
            let cx = db.exec_cx(&txn);
            let got = db
                .run_with(&mut txn, "SELECT n FROM t WHERE id = $1", &[value], cx)
                .await;
            assert_eq!(got.expect("runs"), want);
        }
        db.commit(txn).await;
        assert!(function_cx().bytea_hex);
    });
}

/// Is interrupted when it has been asked so many times.
#[derive(Debug)]
struct Patient(AtomicUsize);

impl Host for Patient {
    fn call(&self, function: &'static Function, _args: &[Datum]) -> Result<Datum, TypeError> {
        Err(TypeError::new("XX000", function.name))
    }
    fn call_set(&self, function: &'static Function, _args: &[Datum]) -> Result<Rows, TypeError> {
        Err(TypeError::new("XX000", function.name))
    }
    fn check_interrupts(&self) -> Result<(), TypeError> {
        let left = |n: usize| n.checked_sub(1);
        let counted = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        let interrupted = TypeError::new("57014", "canceling statement due to user request");
        counted.map(|_| ()).map_err(|_| interrupted)
    }
}

#[test]
fn analysis_and_planning_of_a_long_statement_can_be_interrupted() {
    const PARTS: usize = 60;
    let database = Database::new();
    let text = vec!["SELECT id FROM t"; PARTS].join(" UNION ALL ");
    let planned = |patience: usize| {
        let host = Arc::new(Patient(AtomicUsize::new(patience)));
        database.plan_under(&text, &PlannerSettings::default(), &function_cx_of(host))
    };
    // Each part is looked at twice: when its names are resolved, and when it is planned.
    for patience in [0, PARTS - 1, PARTS + 2, 2 * PARTS - 1] {
        let error = planned(patience).expect_err("interrupted");
        assert_eq!(error.state, "57014", "after {patience} questions");
    }
    planned(100 * PARTS).expect("nobody interrupts");
}
