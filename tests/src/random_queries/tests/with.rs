//! WITH: how it is written, and what is left of it when small.

use super::super::tree::{Cte, With};
use super::*;

fn changes(seed: u64, count: usize) -> Vec<(Vec<String>, Node)> {
    let all = statements(seed, count).into_iter();
    all.filter_map(|statement| match statement {
        Statement::Query(_) => None,
        Statement::Change { tables, node } => Some((tables, node)),
    })
    .collect()
}

fn with_of(node: &Node) -> Option<&With> {
    match node {
        Node::Query(query) => Some(&query.with),
        Node::Under(with, _) => Some(with),
        _ => None,
    }
}

/// The table that an INSERT, UPDATE or DELETE names first.
fn target(node: &Node) -> Option<String> {
    let sql = node.sql(&[]);
    let rest = ["INSERT INTO ", "UPDATE ", "DELETE FROM "]
        .iter()
        .find_map(|word| sql.strip_prefix(word))?;
    rest.split(' ').next().map(str::to_owned)
}

#[test]
fn every_kind_of_with_is_made() {
    let all: Vec<String> = statements(21, 8_000).iter().map(Statement::sql).collect();
    for part in [
        "WITH w",
        "WITH RECURSIVE w",
        " AS MATERIALIZED (",
        " AS NOT MATERIALIZED (",
        " AS (INSERT INTO",
        " AS (UPDATE",
        " AS (DELETE FROM",
        ") INSERT INTO",
        ") UPDATE",
        ") DELETE FROM",
        "(WITH ",
        " RETURNING ",
    ] {
        assert!(all.iter().any(|sql| sql.contains(part)), "no {part}");
    }
    assert!(all.iter().any(|sql| sql.contains(" + 1, ")));
}

#[test]
fn the_parts_of_a_statement_write_to_tables_apart() {
    let world = World::new(22);
    let mut several = 0;
    for (_, node) in changes(22, 6_000) {
        let parts = with_of(&node).map(|with| with.parts.as_slice());
        let mut targets: Vec<String> = parts
            .unwrap_or_default()
            .iter()
            .filter_map(|part| target(&part.of))
            .collect();
        if let Node::Under(_, main) = &node {
            targets.extend(target(main));
        }
        for (i, one) in targets.iter().enumerate() {
            let related = world.related(one);
            assert!(
                targets[i + 1..]
                    .iter()
                    .all(|other| !related.contains(other)),
                "{}",
                node.sql(&[])
            );
        }
        several += usize::from(targets.len() > 1);
    }
    assert!(several > 50, "{several}");
}

#[test]
fn all_tables_are_looked_at_after_a_change() {
    let (tables, node) = changes(23, 200).remove(0);
    assert_eq!(tables.len(), 5);
    let statement = Statement::Change { tables, node };
    let sent: Vec<String> = statement.sent().into_iter().map(|(sql, _)| sql).collect();
    assert_eq!((sent.len(), sent[0].as_str()), (9, "BEGIN"));
    assert!(
        sent[2..7]
            .iter()
            .all(|sql| sql.starts_with("SELECT * FROM t"))
    );
    assert_eq!(sent[7..], ["SET CONSTRAINTS ALL IMMEDIATE", "ROLLBACK"]);
    let shorter = statement.smaller();
    let one_less = shorter
        .iter()
        .any(|less| matches!(less, Statement::Change { tables, .. } if tables.len() == 4));
    assert!(one_less);
}

#[test]
fn only_what_writes_nothing_becomes_a_query() {
    for (tables, node) in changes(24, 600) {
        for smaller in (Statement::Change { tables, node }).smaller() {
            let writes = |sql: &str| {
                ["INSERT INTO", "UPDATE t", "DELETE FROM"]
                    .iter()
                    .any(|word| sql.contains(word))
            };
            if let Statement::Query(query) = smaller {
                assert!(!writes(&query.sql()), "{}", query.sql());
            }
        }
    }
}

fn counting() -> Query {
    let column = |text: &str, alias: &str| Item {
        value: value(Ty::Int4, words(text)),
        alias: Some(alias.to_owned()),
    };
    let kept = |text: &str| Node::Kept(Box::new(words(text)));
    let first = select(vec![column("0", "n"), column("5", "m")]);
    let mut next = select(vec![column("w.n + 1", "n"), column("w.m", "m")]);
    if let Body::Select(select) = &mut next.body {
        select.items[0].value = kept("w.n + 1");
        select.from.push(words("w"));
        select.filter = Some(Node::List(super::super::tree::List {
            before: "",
            items: vec![kept("w.n < 3"), value(Ty::Bool, words("w.m > 1"))],
            between: " AND ",
            after: "",
            least: 1,
        }));
    }
    let mut query = select(vec![column("w.m", "m")]);
    if let Body::Select(select) = &mut query.body {
        select.from.push(words("w"));
    }
    let body = Body::Set("UNION ALL", Box::new((first, next)));
    query.with = With {
        recursive: true,
        parts: vec![Cte {
            name: "w".to_owned(),
            columns: vec!["n".to_owned(), "m".to_owned()],
            words: "MATERIALIZED ",
            of: Node::Query(Box::new(Query::plain(body))),
        }],
    };
    query
}

#[test]
fn what_ends_a_recursion_stays_in_it() {
    let query = counting();
    assert_eq!(
        query.sql(),
        "WITH RECURSIVE w (n, m) AS MATERIALIZED (SELECT 0 AS n, 5 AS m UNION ALL SELECT w.n + 1 AS n, w.m AS m FROM w \
         WHERE w.n < 3 AND w.m > 1) SELECT w.m AS m FROM w"
    );
    let smaller: Vec<String> = query.smaller().iter().map(Query::sql).collect();
    for wanted in [
        "SELECT w.m AS m FROM w",
        "WITH w (n, m)",
        "WITH RECURSIVE w (n, m) AS (SELECT",
        "WITH RECURSIVE w AS MATERIALIZED",
        "w (n) AS MATERIALIZED (SELECT 0 AS n UNION ALL SELECT w.n + 1 AS n FROM w WHERE w.n < 3 AND",
        "FROM w WHERE w.n < 3) SELECT",
    ] {
        let found = smaller
            .iter()
            .any(|sql| sql.starts_with(wanted) || sql.contains(wanted));
        assert!(found, "{wanted}\n{smaller:#?}");
    }
    // One that goes on without its end would never answer.
    for sql in smaller.iter().filter(|sql| sql.contains("w.n + 1")) {
        assert!(sql.contains("w.n < 3"), "{sql}");
    }
}

#[test]
fn a_with_is_made_small_and_goes() {
    for wanted in ["RECURSIVE", "NOT MATERIALIZED", "AS (DELETE FROM"] {
        let found = case(25, |statement| statement.sql().contains(wanted));
        let small = shrunk(&found, |case| case.statement.sql().contains(wanted));
        let sql = small.statement.sql();
        assert!(sql.contains(wanted) && sql.len() < 200, "{wanted}: {sql}");
    }
    let found = case(26, |statement| {
        let sql = statement.sql();
        matches!(statement, Statement::Change { .. })
            && sql.starts_with("WITH")
            && sql.contains(") UPDATE")
    });
    let small = shrunk(&found, |case| case.statement.sql().contains("UPDATE"));
    let sql = small.statement.sql();
    assert!(!sql.contains("WITH"), "{sql}");
    let Statement::Change { tables, .. } = &small.statement else {
        panic!("{sql}");
    };
    assert!(tables.is_empty());
}

#[test]
fn one_or_two_tables_refer_to_keys_that_are_there() {
    let mut words = Vec::new();
    for seed in 0..60 {
        let world = World::new(seed);
        let referring = world.tables.iter().filter(|t| t.reference.is_some());
        let referring: Vec<_> = referring.collect();
        assert!((1..=2).contains(&referring.len()));
        for table in referring {
            let reference = table.reference.as_ref().expect("it refers");
            let other = world.tables.iter().find(|t| t.name == reference.table);
            let other = other.expect("a table of this name");
            assert!(other.keyed && !other.rows.is_empty());
            for row in &table.rows {
                let key = row.last().expect("columns");
                assert!(key == "NULL" || other.rows.iter().any(|row| row[0] == *key));
            }
            words.push(table.constraint().expect("a constraint"));
        }
    }
    for part in [
        "CASCADE",
        "SET NULL",
        "DEFERRABLE INITIALLY DEFERRED",
        "(id)",
    ] {
        assert!(words.iter().any(|sql| sql.contains(part)), "no {part}");
    }
}
