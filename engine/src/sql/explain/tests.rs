//! Plans in words.

use super::item::Item;
use super::*;
use crate::sql::bound::{Expr, FromItem, JoinKind};
use crate::sql::exec::tests::harness::*;
use crate::sql::plan::PlannerSettings;
use crate::sql::plan::tree::Cost;

fn lines(query: crate::sql::bound::Query) -> String {
    let plan = planned(query, &PlannerSettings::default());
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    options.costs = false;
    explain(&plan, &options, None, Times::default()).join("\n")
}

#[test]
fn a_join_sorted_and_cut() {
    let rows: Rows = (0..50).map(|n| vec![Some(n), Some(n)]).collect();
    let on = op("=", column(0, 0), column(1, 0));
    let from = join(
        JoinKind::Left,
        FromItem::Range(0),
        FromItem::Range(1),
        Some(on),
    );
    let mut s = select(
        vec![range("a", 2, &rows), range("b", 2, &rows)],
        vec![from],
        vec![column(0, 1), column(1, 1)],
    );
    s.filter = Some(op(">", column(0, 1), constant(Some(3))));
    let mut q = query(s);
    q.order_by = vec![ascending(1)];
    q.order_by[0].descending = true;
    q.limit = Some(Expr::Const(
        crate::types::datum::Datum::Int8(5),
        crate::types::datum::SqlType::plain(crate::types::oids::INT8),
    ));
    assert_eq!(
        lines(q),
        "Limit\n  \
           ->  Sort\n        \
                 Sort Key: b.c1 DESC NULLS LAST\n        \
                 ->  Hash Right Join\n              \
                       Hash Cond: (a.c0 = b.c0)\n              \
                       ->  Values Scan on \"*VALUES*\" b\n              \
                       ->  Hash\n                    \
                             ->  Values Scan on \"*VALUES*\" a\n                          \
                                   Filter: (c1 > 3)"
    );
}

#[test]
fn grouping_and_its_filter() {
    let rows: Rows = vec![vec![Some(1), Some(2)]; 3];
    let count = aggregate("count", vec![]);
    let ty = count.ty;
    let mut s = select(
        vec![range("t", 2, &rows)],
        vec![FromItem::Range(0)],
        vec![Expr::Group(0, INT), Expr::Aggregate(0, ty)],
    );
    s.group_by = vec![column(0, 0)];
    s.aggregates = vec![count];
    s.having = Some(Expr::IsNull {
        arg: Box::new(Expr::Aggregate(0, ty)),
        negated: true,
    });
    assert_eq!(
        lines(query(s)),
        "HashAggregate\n  Group Key: c0\n  Filter: (count(*) IS NOT NULL)\n  \
           ->  Values Scan on \"*VALUES*\" t"
    );
}

#[test]
fn json_is_json() {
    let rows: Rows = vec![vec![Some(1), Some(2)]];
    let s = select(
        vec![range("t", 2, &rows)],
        vec![FromItem::Range(0)],
        vec![column(0, 0)],
    );
    let plan = planned(query(s), &PlannerSettings::default());
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    options.format = ExplainFormat::Json;
    let shown = explain(&plan, &options, None, Times::default());
    let parsed: serde_json::Value = serde_json::from_str(&shown[0]).expect("a document");
    assert_eq!(parsed[0]["Plan"]["Node Type"], "Values Scan");
    assert_eq!(parsed[0]["Plan"]["Plan Rows"].to_string(), "1");
}

#[test]
fn yaml_and_xml_are_laid_out_as_postgresql_does() {
    let cost = Cost {
        startup: 0.0,
        total: 0.0,
        rows: 0.0,
        width: 0.0,
    };
    let mut child = Item::new("Seq Scan", "Seq Scan on t", cost);
    child.fact("Relation Name", "t");
    child.text("Filter", "(a < 'x\"'::text)");
    let mut root = Item::new("Sort", "Sort", cost);
    root.list("Sort Key", vec!["a".to_owned(), "b".to_owned()]);
    root.child("Outer", child);
    let mut options = ExplainOptions::new(&[]).expect("defaults");
    (options.costs, options.summary) = (false, true);
    let yaml = [
        "- Plan: ",
        "    Node Type: \"Sort\"",
        "    Parallel Aware: false",
        "    Async Capable: false",
        "    Sort Key: ",
        "      - \"a\"",
        "      - \"b\"",
        "    Plans: ",
        "      - Node Type: \"Seq Scan\"",
        "        Parent Relationship: \"Outer\"",
        "        Parallel Aware: false",
        "        Async Capable: false",
        "        Relation Name: \"t\"",
        "        Filter: \"(a < 'x\\\"'::text)\"",
        "  Planning Time: 0.000",
    ];
    let times = Times::default();
    assert_eq!(print::yaml(&root, &options, times), yaml.join("\n"));
    let xml = [
        "<explain xmlns=\"http://www.postgresql.org/2009/explain\">",
        "  <Query>",
        "    <Plan>",
        "      <Node-Type>Sort</Node-Type>",
        "      <Parallel-Aware>false</Parallel-Aware>",
        "      <Async-Capable>false</Async-Capable>",
        "      <Sort-Key>",
        "        <Item>a</Item>",
        "        <Item>b</Item>",
        "      </Sort-Key>",
        "      <Plans>",
        "        <Plan>",
        "          <Node-Type>Seq Scan</Node-Type>",
        "          <Parent-Relationship>Outer</Parent-Relationship>",
        "          <Parallel-Aware>false</Parallel-Aware>",
        "          <Async-Capable>false</Async-Capable>",
        "          <Relation-Name>t</Relation-Name>",
        "          <Filter>(a &lt; 'x\"'::text)</Filter>",
        "        </Plan>",
        "      </Plans>",
        "    </Plan>",
        "    <Planning-Time>0.000</Planning-Time>",
        "  </Query>",
        "</explain>",
    ];
    assert_eq!(print::xml(&root, &options, times), xml.join("\n"));
}

/// A stored default of a column of the type: to be read back, and with no more parentheses than needed.
fn both(text: &str, ty: &str) -> (String, String) {
    let functions = function_cx();
    let ty = crate::types::registry::parse_type_name(ty).expect("a type");
    let bound = crate::sql::bind::default_as_written(text, ty, &Tables::default(), &functions);
    let bound = bound.expect("an expression");
    let shown = |style| {
        let words = Words {
            slots: &[],
            qualified: false,
            bare: None,
            function: &functions,
            aggregates: Vec::new(),
            windows: std::collections::BTreeMap::new(),
            params: std::collections::BTreeMap::new(),
            style,
            indent: std::cell::Cell::new(0),
        };
        words.whole(&bound)
    };
    (shown(Style::Stored), shown(Style::Pretty))
}

#[track_caller]
fn check(text: &str, ty: &str, stored: &str, pretty: &str) {
    let (own_stored, own_pretty) = both(text, ty);
    assert_eq!((own_stored.as_str(), own_pretty.as_str()), (stored, pretty));
}

#[test]
fn stored_expressions_are_shown_with_parentheses_or_with_few() {
    check(
        "(1 + 2) * 3 - (4 - 5)",
        "int",
        "(((1 + 2) * 3) - (4 - 5))",
        "(1 + 2) * 3 - (4 - 5)",
    );
    check("1 + 2", "bigint", "(1 + 2)", "(1 + 2)");
    check(
        "1 > 2 AND (3 > 4 OR NOT 5 < 6)",
        "bool",
        "((1 > 2) AND ((3 > 4) OR (NOT (5 < 6))))",
        "1 > 2 AND (3 > 4 OR NOT 5 < 6)",
    );
    check(
        "'x' IS NOT DISTINCT FROM 'y'",
        "bool",
        "(NOT ('x'::text IS DISTINCT FROM 'y'::text))",
        "NOT 'x'::text IS DISTINCT FROM 'y'::text",
    );
    check(
        "1 IN (2, 3)",
        "bool",
        "(1 = ANY (ARRAY[2, 3]))",
        "1 = ANY (ARRAY[2, 3])",
    );
    check(
        "lower('A' || 'b')",
        "text",
        "lower(('A'::text || 'b'::text))",
        "lower('A'::text || 'b'::text)",
    );
}

#[test]
fn stored_expressions_keep_their_words_and_their_constants() {
    check("CURRENT_DATE", "date", "CURRENT_DATE", "CURRENT_DATE");
    check(
        "localtimestamp(3)",
        "timestamp",
        "LOCALTIMESTAMP(3)",
        "LOCALTIMESTAMP(3)",
    );
    check(
        "extract(year from current_date)",
        "numeric",
        "EXTRACT(year FROM CURRENT_DATE)",
        "EXTRACT(year FROM CURRENT_DATE)",
    );
    check("'0'", "numeric(5,2)", "'0'::numeric", "'0'::numeric");
    check("0", "numeric(5,2)", "0", "0");
    check(
        "'ab'",
        "varchar(10)",
        "'ab'::character varying",
        "'ab'::character varying",
    );
    check(
        "'ab'::varchar(2)",
        "varchar(10)",
        "'ab'::character varying(2)",
        "'ab'::character varying(2)",
    );
    check(
        "1::numeric(5,2)",
        "numeric",
        "(1)::numeric(5,2)",
        "1::numeric(5,2)",
    );
    check(
        "ARRAY[]::text[]",
        "text[]",
        "ARRAY[]::text[]",
        "ARRAY[]::text[]",
    );
}

#[test]
fn names_that_are_key_words_stand_in_quotes() {
    check(
        "\"left\"('abc', 1) || substring('abc', 1, 2) || substring('abc' from 1 for 2)",
        "text",
        "((\"left\"('abc'::text, 1) || \"substring\"('abc'::text, 1, 2)) || SUBSTRING('abc'::text FROM 1 FOR 2))",
        "(\"left\"('abc'::text, 1) || \"substring\"('abc'::text, 1, 2)) || SUBSTRING('abc'::text FROM 1 FOR 2)",
    );
}

#[test]
fn a_case_stands_in_lines() {
    check(
        "CASE 1 WHEN 2 THEN 'a' ELSE CASE WHEN true THEN 'b' END END",
        "text",
        "\nCASE 1\n    WHEN 2 THEN 'a'::text\n    ELSE\n    CASE\n        WHEN true THEN 'b'::text\n        ELSE NULL::text\n    END\nEND",
        "\nCASE 1\n    WHEN 2 THEN 'a'::text\n    ELSE\n    CASE\n        WHEN true THEN 'b'::text\n        ELSE NULL::text\n    END\nEND",
    );
}

#[test]
fn a_call_stays_a_call_and_a_cast_a_cast() {
    check(
        "extract(hour from date(now())) + extract(hour from now()::date)",
        "numeric",
        "(EXTRACT(hour FROM date(now())) + EXTRACT(hour FROM (now())::date))",
        "EXTRACT(hour FROM date(now())) + EXTRACT(hour FROM now()::date)",
    );
    check(
        "trim(both 'x' from text(5)) || trim(both 'x' from 5::text)",
        "text",
        "(TRIM(BOTH 'x'::text FROM (5)::text) || TRIM(BOTH 'x'::text FROM (5)::text))",
        "TRIM(BOTH 'x'::text FROM 5::text) || TRIM(BOTH 'x'::text FROM 5::text)",
    );
    check(
        "starts_with('ab', 'a') OR 'ab' ^@ 'a'",
        "bool",
        "(starts_with('ab'::text, 'a'::text) OR ('ab'::text ^@ 'a'::text))",
        "starts_with('ab'::text, 'a'::text) OR 'ab'::text ^@ 'a'::text",
    );
}

#[test]
fn a_minus_sign_is_part_of_a_number_alone() {
    check("-1", "int", "'-1'::integer", "'-1'::integer");
    check(
        "- interval '1 day 02:00'",
        "interval",
        "(- '1 day 02:00:00'::interval)",
        "- '1 day 02:00:00'::interval",
    );
    check("- '-1'::int", "int", "(- '-1'::integer)", "- '-1'::integer");
}
