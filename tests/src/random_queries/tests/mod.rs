//! Statements are what was asked for, and come apart into smaller ones that still are.

mod windows;
mod with;

use std::time::Duration;

use super::tree::{
    Body, Grouping, Item, Node, Order, Query, Select, Total, Ty, commas, value, words,
};
use super::*;
use crate::wire::{Answer, Column, Report};

fn statements(seed: u64, count: usize) -> Vec<Statement> {
    let mut maker = Maker::new(seed, World::new(seed));
    (0..count).map(|_| maker.statement()).collect()
}

fn case(seed: u64, wanted: impl Fn(&Statement) -> bool) -> Case {
    let world = World::new(seed);
    let mut maker = Maker::new(seed, world.clone());
    let statement = std::iter::repeat_with(|| maker.statement())
        .take(20_000)
        .find(|statement| statement.sql().len() < 900 && wanted(statement))
        .expect("such a statement is made");
    Case {
        world,
        statement,
        settings: Settings::new(seed),
    }
}

fn shrunk(case: &Case, differs: impl FnMut(&Case) -> bool) -> Case {
    let mut differs = differs;
    let kind = |case: &Case| differs(case).then_some(Kind::Rows);
    Shrinker::new(Kind::Rows, Duration::from_secs(60), kind).shrink(case)
}

#[test]
fn a_seed_makes_the_same_worlds_and_statements() {
    assert_eq!(World::new(7), World::new(7));
    assert_eq!(statements(7, 100), statements(7, 100));
    assert_ne!(statements(7, 100), statements(8, 100));
    assert_eq!(Settings::new(3), Settings::new(3));
}

#[test]
fn worlds_have_an_empty_table_and_one_of_many_rows() {
    for seed in 0..50 {
        let world = World::new(seed);
        let rows: Vec<usize> = world.tables.iter().map(|table| table.rows.len()).collect();
        assert!(rows.contains(&0) && rows.contains(&24), "{rows:?}");
        for table in &world.tables {
            assert!(table.columns.len() > 1);
            assert!(
                table
                    .rows
                    .iter()
                    .all(|row| row.len() == table.columns.len())
            );
        }
    }
}

#[test]
fn statements_are_whole() {
    for statement in statements(1, 2_000) {
        let sql = statement.sql();
        assert!(!sql.contains(['{', '}']), "a hole is open: {sql}");
        assert!(!sql.contains("no_such_key"), "{sql}");
        let mut depth = 0_i32;
        // No constant has a parenthesis.
        for c in sql.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            assert!(depth >= 0, "{sql}");
        }
        assert_eq!(depth, 0, "{sql}");
        assert!(sql.len() <= 4_000);
    }
}

#[test]
fn every_clause_is_made() {
    let all: Vec<String> = statements(2, 6_000).iter().map(Statement::sql).collect();
    for clause in [
        "WITH w",
        "MATERIALIZED",
        " UNION ",
        "UNION ALL",
        "INTERSECT ALL",
        "EXCEPT",
        "VALUES",
        "SELECT DISTINCT ",
        "DISTINCT ON",
        "GROUP BY",
        "HAVING",
        "ROLLUP",
        "CUBE",
        "GROUPING SETS",
        "grouping(",
        " JOIN ",
        "LEFT JOIN",
        "RIGHT JOIN",
        "FULL JOIN",
        "CROSS JOIN",
        "NATURAL",
        "USING (",
        "LATERAL",
        "generate_series",
        "EXISTS",
        " IN (SELECT",
        "NOT IN",
        " ANY (",
        " ALL (",
        "ARRAY[",
        "BETWEEN",
        "SYMMETRIC",
        "LIKE",
        "CASE",
        "coalesce",
        "nullif",
        "IS DISTINCT FROM",
        "::int4",
        "CAST(",
        "FILTER",
        "count(DISTINCT",
        "string_agg",
        "array_agg",
        "LIMIT",
        "OFFSET",
        "WITH TIES",
        "INSERT INTO",
        "ON CONFLICT",
        "UPDATE",
        "DELETE FROM",
        "RETURNING",
        "SELECT *",
        "SET id = ",
    ] {
        assert!(all.iter().any(|sql| sql.contains(clause)), "no {clause}");
    }
}

#[test]
fn a_limit_stands_behind_an_order_by_all_columns() {
    let item = |name: &str| Item {
        value: value(Ty::Int4, words("1")),
        alias: Some(name.to_owned()),
    };
    let mut query = select(vec![item("a"), item("b"), item("c")]);
    query.order = Order::Total(Total {
        first: 1,
        by_name: false,
        words: vec![" DESC", ""],
        limit: Some(2),
        offset: None,
    });
    let text = "SELECT 1 AS a, 1 AS b, 1 AS c ORDER BY 2 DESC, 3, 1 DESC LIMIT 2";
    assert_eq!(query.sql(), text);
    assert_eq!(query.comparison(), Comparison::Sequence);
    for smaller in query.smaller() {
        let width = smaller.width();
        if let Some((_, order)) = smaller.sql().split_once(" ORDER BY ") {
            assert_eq!(order.split(", ").count(), width, "{}", smaller.sql());
        } else {
            assert!(!smaller.sql().contains("LIMIT"), "{}", smaller.sql());
        }
    }
}

fn select(items: Vec<Item>) -> Query {
    let select = Select::plain(items, Vec::new(), None);
    Query::plain(Body::Select(Box::new(select)))
}

#[test]
fn a_dropped_column_is_dropped_on_both_sides_of_a_union() {
    let item = |text: &str| Item {
        value: value(Ty::Int4, words(text)),
        alias: None,
    };
    let left = select(vec![item("1"), item("2")]);
    let right = Query::plain(Body::Values(vec![vec![words("3"), words("4")]]));
    let union = Query::plain(Body::Set("UNION", Box::new((left, right))));
    assert_eq!(union.sql(), "SELECT 1, 2 UNION VALUES (3, 4)");
    let smaller: Vec<String> = union.smaller().iter().map(Query::sql).collect();
    for wanted in [
        "SELECT 2 UNION VALUES (4)",
        "SELECT 1 UNION VALUES (3)",
        "SELECT 1, 2",
    ] {
        assert!(smaller.iter().any(|sql| sql == wanted), "{smaller:#?}");
    }
}

#[test]
fn a_key_is_written_once_and_dropped_everywhere() {
    let key = |number| value(Ty::Int4, Node::Key(Ty::Int4, number));
    let item = |value| Item { value, alias: None };
    let mut query = select(vec![item(key(0)), item(key(1))]);
    if let Body::Select(select) = &mut query.body {
        select.from.push(words("t"));
        select.keys = ["a", "b"]
            .map(|name| (Ty::Int4, value(Ty::Int4, words(name))))
            .to_vec();
        select.grouping = Grouping::Sets(vec![vec![0, 1], vec![1], vec![]]);
    }
    assert_eq!(
        query.sql(),
        "SELECT a, b FROM t GROUP BY GROUPING SETS ((a, b), (b), ())"
    );
    let smaller: Vec<String> = query.smaller().iter().map(Query::sql).collect();
    let wanted = "SELECT 0, b FROM t GROUP BY GROUPING SETS ((b), (b), ())";
    assert!(smaller.iter().any(|sql| sql == wanted), "{smaller:#?}");
}

#[test]
fn only_a_total_order_lets_distinct_on_stand() {
    let case = case(3, |statement| {
        statement.sql().starts_with("SELECT DISTINCT ON")
    });
    let small = shrunk(&case, |case| case.statement.sql().contains("DISTINCT"));
    let sql = small.statement.sql();
    assert!(
        !sql.contains("DISTINCT ON") || sql.contains("ORDER BY"),
        "{sql}"
    );
}

#[test]
fn a_statement_is_made_small() {
    for wanted in [
        "FULL JOIN",
        "EXISTS",
        "UNION ALL",
        "FILTER",
        "ON CONFLICT",
        "LATERAL",
    ] {
        let found = case(4, |statement| statement.sql().contains(wanted));
        let small = shrunk(&found, |case| case.statement.sql().contains(wanted));
        let sql = small.statement.sql();
        assert!(sql.contains(wanted) && sql.len() < 200, "{wanted}: {sql}");
        assert!(small.settings.changed.is_empty());
        assert!(small.world.tables.iter().all(|table| table.rows.is_empty()));
    }
}

#[test]
fn a_world_is_made_small() {
    let found = case(5, |statement| {
        matches!(statement, Statement::Query(_)) && statement.sql().contains("FROM tb AS")
    });
    let needed = |case: &Case| {
        let tables = &case.world.tables;
        let table = tables.iter().find(|table| table.name == "tb");
        let has_row = table.is_some_and(|t| {
            t.rows
                .iter()
                .any(|row| row[0] == found.world.tables[1].rows[9][0])
        });
        has_row && case.statement.sql().contains("tb")
    };
    let small = shrunk(&found, needed);
    assert_eq!(small.world.tables.len(), 1);
    let table = &small.world.tables[0];
    assert_eq!(
        (table.rows.len(), table.columns.len(), table.indexes.len()),
        (1, 1, 0)
    );
    assert!(!table.keyed && !small.world.analyzed);
    let script = small.script();
    assert!(script.starts_with("CREATE TABLE tb (id int4"), "{script}");
    assert!(script.lines().all(|line| line.ends_with(';')), "{script}");
}

#[test]
fn another_way_to_differ_is_not_taken() {
    let found = case(6, |statement| statement.sql().contains("CASE"));
    let mut shrinker = Shrinker::new(Kind::Lost, Duration::from_secs(60), |case: &Case| {
        let lost = case.statement.sql().contains("CASE");
        Some(if lost { Kind::Lost } else { Kind::Rows })
    });
    assert!(shrinker.shrink(&found).statement.sql().contains("CASE"));
}

fn answer(type_oid: u32, rows: &[&str]) -> Reply {
    Reply::Answers(vec![Answer {
        columns: vec![Column {
            name: "a".to_owned(),
            type_oid,
            modifier: -1,
        }],
        rows: rows
            .iter()
            .map(|text| vec![Some((*text).to_owned())])
            .collect(),
        tag: Some(format!("SELECT {}", rows.len())),
        ..Answer::default()
    }])
}

fn error(state: &str) -> Reply {
    Reply::Answers(vec![Answer {
        error: Some(Report {
            state: state.to_owned(),
            ..Report::default()
        }),
        ..Answer::default()
    }])
}

#[test]
fn rows_are_compared_as_far_as_they_are_determined() {
    let (one, other) = (answer(23, &["1", "2"]), answer(23, &["2", "1"]));
    let differ = Verdict::Differ(Kind::Rows);
    assert_eq!(judge(&one, &other, &[Comparison::Bag]), Verdict::Agree);
    assert_eq!(judge(&one, &other, &[Comparison::Sequence]), differ);
    assert_eq!(judge(&one, &other, &[Comparison::Ordered(vec![0])]), differ);
    let twice = answer(23, &["1", "1"]);
    assert_eq!(judge(&one, &twice, &[Comparison::Bag]), differ);
    let text = answer(25, &["1", "2"]);
    let columns = Verdict::Differ(Kind::Columns);
    assert_eq!(judge(&one, &text, &[Comparison::Bag]), columns);
}

#[test]
fn a_numeric_is_compared_without_the_zeros_at_its_end() {
    let bag = [Comparison::Bag];
    let (long, short) = (
        answer(1700, &["1.50", "10"]),
        answer(1700, &["1.5", "10.00"]),
    );
    assert_eq!(judge(&long, &short, &bag), Verdict::Agree);
    let (ten, one) = (answer(1700, &["10"]), answer(1700, &["1"]));
    assert_eq!(judge(&ten, &one, &bag), Verdict::Differ(Kind::Rows));
    let (long, short) = (answer(25, &["1.50"]), answer(25, &["1.5"]));
    assert_eq!(judge(&long, &short, &bag), Verdict::Differ(Kind::Rows));
}

#[test]
fn errors_agree_by_state_and_few_are_excused() {
    let bag = [Comparison::Bag];
    let rows = answer(23, &["1"]);
    let verdict = |own: &Reply, theirs: &Reply| judge(own, theirs, &bag);
    assert_eq!(verdict(&error("42601"), &error("42601")), Verdict::Agree);
    assert_eq!(verdict(&error("23502"), &error("23505")), Verdict::Agree);
    assert_eq!(verdict(&error("22012"), &rows), Verdict::ByOrder);
    assert_eq!(verdict(&rows, &error("22003")), Verdict::ByOrder);
    assert_eq!(verdict(&rows, &error("0A000")), Verdict::Beyond);
    assert_eq!(verdict(&rows, &error("XX000")), Verdict::TheirFault);
    assert_eq!(verdict(&error("57014"), &rows), Verdict::TooSlow);
    assert!(matches!(
        verdict(&error("0A000"), &rows),
        Verdict::Refused(_)
    ));
    let states = |own: Option<&str>, theirs: Option<&str>| {
        let (own, theirs) = (own.map(str::to_owned), theirs.map(str::to_owned));
        Verdict::Differ(Kind::Errors(own, theirs))
    };
    assert_eq!(verdict(&error("XX000"), &rows), states(Some("XX000"), None));
    assert_eq!(verdict(&rows, &error("42803")), states(None, Some("42803")));
    assert_eq!(
        verdict(&error("23505"), &error("42601")),
        states(Some("23505"), Some("42601"))
    );
    let lost = Reply::Lost("it ended".to_owned());
    assert_eq!(verdict(&lost, &rows), Verdict::Differ(Kind::Lost));
}

#[test]
fn holes_are_filled_as_often_as_they_are_named() {
    let twice = Node::Form(
        "f({0}, {1}, {0})",
        vec![words("a"), commas(vec![words("b")])],
    );
    assert_eq!(twice.sql(&[]), "f(a, b, a)");
}
