//! Row values from expressions to clients and through temporary files: the fields keep their types.

use super::database::{Database, run_async};
use crate::txn::Isolation;
use crate::types::datum::Datum;
use crate::types::oids;

#[test]
fn fields_have_the_types_of_their_expressions() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 23, 'x'), (2, NULL, NULL)", &["2"])
            .await;
        db.check(
            "SELECT ROW(n::oid::regtype, s::char(3), s::json IS NULL, NULL, ROW('int8'::regtype)) \
             FROM t WHERE id = 2",
            &["(,,t,,\"(bigint)\")"],
        )
        .await;
        db.check(
            "SELECT ROW(n::oid::regtype, s::char(3), 'y') FROM t WHERE id = 1",
            &["(integer,\"x  \",y)"],
        )
        .await;
        db.check(
            "SELECT row_to_json(ROW(n::oid::regtype, '[1]'::json, s)) FROM t ORDER BY id",
            &[
                "{\"f1\":\"integer\",\"f2\":[1],\"f3\":\"x\"}",
                "{\"f1\":null,\"f2\":[1],\"f3\":null}",
            ],
        )
        .await;
    });
}

#[test]
fn rows_that_cannot_be_compared_are_refused() {
    run_async(async {
        let db = Database::new();
        db.fails(
            "SELECT (SELECT ROW(1)) = (SELECT ROW('a'::text))",
            "42804",
            "cannot compare dissimilar column types integer and text at record column 1",
        )
        .await;
        db.fails(
            "SELECT ARRAY[ROW('a')] = ARRAY[ROW('a')]",
            "42883",
            "could not identify an equality operator for type unknown",
        )
        .await;
        db.fails(
            "SELECT ARRAY[ROW('1'::json)] = ARRAY[ROW('1'::json)]",
            "42883",
            "could not identify an equality operator for type json",
        )
        .await;
        db.check(
            "SELECT '{1}'::xid[] = '{2}'::xid[], '{1}'::xid[] = '{1}'::xid[]",
            &["f|t"],
        )
        .await;
        db.fails(
            "SELECT '{1}'::json[] = '{1}'::json[]",
            "42883",
            "could not identify an equality operator for type json",
        )
        .await;
        db.check(
            "SELECT ARRAY[ROW('a'::char(2))] = ARRAY[ROW('a'::char(4))], (SELECT ROW(1, 2)) < (SELECT ROW(1, 3))",
            &["t|t"],
        )
        .await;
    });
}

#[test]
fn arrays_of_rows_are_arrays() {
    run_async(async {
        let db = Database::new();
        db.check(
            "SELECT ROW(1, 'a'::text) = ANY (ARRAY[ROW(1, 'b'::text), ROW(1, 'a'::text)]), \
             array_to_string(ARRAY[ROW('int4'::regtype), ROW('text'::regtype)], ';'), \
             cardinality(ARRAY[ROW(1), ROW(2)]), array_position(ARRAY[ROW(1), ROW(2)], ROW(2))",
            &["t|(integer);(text)|2|2"],
        )
        .await;
        db.check(
            "SELECT array_agg(ROW(g, 'int4'::regtype) ORDER BY g) FROM generate_series(1, 2) AS g",
            &["{\"(1,integer)\",\"(2,integer)\"}"],
        )
        .await;
    });
}

/// A value of some kind may not stand where its type says text.
#[test]
fn a_parameter_must_have_a_type() {
    run_async(async {
        let db = Database::new();
        let message = "could not determine data type of parameter $1";
        for text in ["SELECT ROW($1)", "SELECT ROW($1), $1 + 1"] {
            db.fails(text, "42P18", message).await;
        }
        let mut txn = db.begin(Isolation::ReadCommitted);
        let cx = db.exec_cx(&txn);
        let params = [Datum::Oid(oids::INT4)];
        let text = "SELECT ROW($1::regtype, $1)";
        let got = db.run_with(&mut txn, text, &params, cx).await;
        assert_eq!(got.expect(text), ["(integer,integer)"]);
        db.world.txns.abort(txn);
    });
}

/// What is sorted and what is grouped goes to disk and comes back.
#[test]
fn types_come_back_from_temporary_files() {
    run_async(async {
        let db = Database::new();
        let rows = "SELECT ROW(g % 100, 'int4'::regtype, repeat('x', 100), NULL) AS r \
                    FROM generate_series(1, 1000) AS g";
        let expected = format!("(0,integer,{},)", "x".repeat(100));
        for text in [
            format!("SELECT r FROM ({rows} ORDER BY r) AS s LIMIT 1"),
            format!("SELECT r FROM (SELECT DISTINCT r FROM ({rows}) AS q) AS s ORDER BY r LIMIT 1"),
            format!(
                "SELECT r FROM (SELECT r, count(*) FROM ({rows}) AS q GROUP BY r) AS s ORDER BY r LIMIT 1"
            ),
        ] {
            let mut txn = db.begin(Isolation::ReadCommitted);
            let mut cx = db.exec_cx(&txn);
            (cx.limits.work, cx.limits.hash) = (4000, 4000);
            let got = db.run_with(&mut txn, &text, &[], cx).await;
            assert_eq!(got.expect(&text), [expected.as_str()], "{text}");
            db.world.txns.abort(txn);
        }
    });
}

#[test]
fn rows_are_spread_out_where_they_are_compared() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, 23, 'x'), (2, NULL, NULL)", &["2"])
            .await;
        db.check(
            "SELECT ROW(t.*) = ROW(1, 23, 'x'), ROW(t.*) IS NOT DISTINCT FROM ROW(2, NULL, NULL), \
             ROW(t.*) IN (SELECT 1, 23, 'x'::text) FROM t ORDER BY id",
            &["t|f|t", "f|t|f"],
        )
        .await;
        db.fails(
            "SELECT ROW(t.*) = ROW(1, 23) FROM t",
            "42601",
            "unequal number of entries in row expressions",
        )
        .await;
        let many = vec!["1"; 1665].join(", ");
        db.fails(
            &format!("SELECT ROW({many})"),
            "54011",
            "ROW expressions can have at most 1664 entries",
        )
        .await;
    });
}

#[test]
fn a_row_of_nulls_is_distinct_from_null() {
    run_async(async {
        let db = Database::new();
        db.check("INSERT INTO t VALUES (1, NULL, NULL)", &["1"])
            .await;
        db.check(
            "SELECT ROW(s, n) IS DISTINCT FROM NULL, NULL IS NOT DISTINCT FROM ROW(s), \
             t IS DISTINCT FROM NULL, ROW(s) IS NULL FROM t",
            &["t|f|t|t"],
        )
        .await;
    });
}

#[test]
fn arrays_of_rows_are_sorted_and_compared_within_rows() {
    run_async(async {
        let db = Database::new();
        let arrays = "FROM (VALUES (ARRAY[ROW(2)]), (ARRAY[ROW(1)])) AS v(r)";
        db.check(
            &format!("SELECT r {arrays} ORDER BY r"),
            &["{(1)}", "{(2)}"],
        )
        .await;
        db.check(&format!("SELECT max(r), min(r) {arrays}"), &["{(2)}|{(1)}"])
            .await;
        db.check(
            "SELECT ARRAY[ROW(ARRAY[ROW(1)])] = ARRAY[ROW(ARRAY[ROW(1)])], \
             ARRAY[ROW(ARRAY[ROW(1)])] < ARRAY[ROW(ARRAY[ROW(2)])]",
            &["t|t"],
        )
        .await;
        db.fails(
            "SELECT ARRAY[ROW(ARRAY[ROW('a')])] = ARRAY[ROW(ARRAY[ROW('a')])]",
            "42883",
            "could not identify an equality operator for type unknown",
        )
        .await;
    });
}

/// The order is asked for when there are two to compare.
#[test]
fn the_largest_of_arrays_without_an_order_is_refused() {
    run_async(async {
        let db = Database::new();
        db.check("SELECT max('{1}'::json[])", &["{1}"]).await;
        db.fails(
            "SELECT max(x) FROM (VALUES ('{1}'::json[]), ('{2}')) AS v(x)",
            "42883",
            "could not identify a comparison function for type json",
        )
        .await;
    });
}

#[test]
fn what_has_no_order_is_grouped_all_the_same() {
    run_async(async {
        let db = Database::new();
        let values = "FROM (VALUES ('1'::xid), ('2'), ('1')) AS v(x)";
        db.check(
            &format!("SELECT x, count(*) {values} GROUP BY x ORDER BY x::text"),
            &["1|2", "2|1"],
        )
        .await;
        db.check(
            &format!("SELECT count(*) FROM (SELECT DISTINCT x {values}) AS s"),
            &["2"],
        )
        .await;
    });
}
