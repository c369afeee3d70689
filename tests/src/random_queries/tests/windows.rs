//! Windows: how they are written, that orders tell rows apart where they have to, and what is left of them when small.

use super::super::tree::RowKey;
use super::super::window::{Frame, Over, Place, Window};
use super::*;

/// All windows over which something stands, with those of their select.
fn windows(statement: &Statement) -> Vec<(Over, Vec<(String, Window)>)> {
    let mut queries = Vec::new();
    match statement {
        Statement::Query(query) => {
            queries.push(query.clone());
            queries.extend(query.within());
        }
        Statement::Change { node, .. } => node.queries(&mut queries),
    }
    let mut found = Vec::new();
    for query in &queries {
        if let Body::Select(select) = &query.body {
            let mut overs = Vec::new();
            select.nodes().for_each(|node| collect(node, &mut overs));
            found.extend(overs.into_iter().map(|over| (over, select.windows.clone())));
        }
    }
    found
}

fn collect(node: &Node, found: &mut Vec<Over>) {
    if let Node::Over(over) = node {
        found.push((**over).clone());
    }
    node.parts()
        .into_iter()
        .for_each(|part| collect(part, found));
}

/// The window with what it extends written out.
fn whole(place: &Place, named: &[(String, Window)]) -> Window {
    let known = |name: &str| {
        let window = named.iter().find(|(known, _)| known == name);
        &window.expect("a window of this name").1
    };
    let mut window = match place {
        Place::Named(name) => known(name).clone(),
        Place::Here(window) => window.clone(),
    };
    while let Some(base) = window.base.clone() {
        let base = known(&base);
        assert!(base.frame.is_none(), "{base:?}");
        window = window.on(base);
    }
    window
}

#[test]
fn every_kind_of_window_is_made() {
    let all: Vec<String> = statements(12, 8_000).iter().map(Statement::sql).collect();
    for part in [
        "row_number() OVER",
        " rank() OVER",
        "dense_rank()",
        "percent_rank()",
        "cume_dist()",
        "ntile(",
        "lag(",
        "lead(",
        "first_value(",
        "last_value(",
        "nth_value(",
        "count(*) OVER",
        "string_agg(",
        "array_agg(",
        "bool_and(",
        ") FILTER (WHERE ",
        "OVER ()",
        "OVER (PARTITION BY",
        "OVER (ORDER BY",
        "OVER o",
        "OVER (o",
        " WINDOW o",
        "AS (o",
        "ROWS BETWEEN",
        "ROWS UNBOUNDED PRECEDING",
        "RANGE BETWEEN",
        "RANGE CURRENT ROW",
        "GROUPS BETWEEN",
        "'36 hours' PRECEDING",
        "UNBOUNDED FOLLOWING",
        "EXCLUDE CURRENT ROW",
        "EXCLUDE GROUP",
        "EXCLUDE TIES",
        "EXCLUDE NO OTHERS",
    ] {
        assert!(all.iter().any(|sql| sql.contains(part)), "no {part}");
    }
    let grouped = |sql: &&String| sql.contains("GROUP BY") && sql.contains(" OVER ");
    assert!(all.iter().filter(grouped).count() > 100);
    let before = |sql: &&String| {
        sql.rsplit_once(" ORDER BY ")
            .is_some_and(|(_, order)| order.contains(" OVER o"))
    };
    assert!(all.iter().any(|sql| before(&sql)));
}

#[test]
fn a_fifth_of_the_queries_has_windows_and_a_fifth_has_a_with() {
    let all = statements(13, 4_000);
    let queries: Vec<String> = all
        .iter()
        .filter(|statement| matches!(statement, Statement::Query(_)))
        .map(Statement::sql)
        .collect();
    let share = |parts: &[&str]| {
        let has = |sql: &&String| parts.iter().any(|part| sql.contains(part));
        queries.iter().filter(has).count() as f64 / queries.len() as f64
    };
    let shares = (
        share(&[" OVER "]),
        share(&["WITH w", "WITH RECURSIVE"]),
        share(&["WITH RECURSIVE"]),
    );
    let enough = shares.0 > 0.2 && shares.1 > 0.2 && shares.2 > 0.05;
    assert!(enough, "{shares:?}");
}

#[test]
fn what_depends_on_the_order_of_rows_has_one_that_tells_them_apart() {
    let by_row = [
        "row_number",
        "ntile",
        "lag",
        "lead",
        "first",
        "last",
        "nth",
        "array",
        "string",
    ];
    let mut seen = 0;
    for statement in statements(14, 4_000) {
        for (over, named) in windows(&statement) {
            let window = whole(&over.window, &named);
            let call = over.call.sql(&[]);
            let measured = window.frame.as_ref().is_some_and(|frame| {
                let edges = [Some(&frame.start), frame.end.as_ref()];
                let has_digit = |edge: &String| edge.contains(|c: char| c.is_ascii_digit());
                frame.mode == "RANGE" && edges.into_iter().flatten().any(has_digit)
            });
            let kept = window.order.iter().any(|(node, _)| node.is_kept());
            let is_by_row = by_row.iter().any(|name| call.starts_with(name))
                || window.frame.as_ref().is_some_and(|f| f.mode == "ROWS");
            assert!(
                !is_by_row || window.key.is_some() || kept,
                "{call}: {window:?}"
            );
            assert!(
                !measured || (window.key.is_none() && window.order.len() == 1),
                "{call}: {window:?}"
            );
            seen += usize::from(is_by_row);
        }
    }
    assert!(seen > 500, "{seen}");
}

fn over(call: &'static str, window: Place) -> Node {
    let over = Over {
        call: Node::Form(call, Vec::new()),
        window,
    };
    value(Ty::Int8, Node::Over(Box::new(over)))
}

fn by_row(frame: Option<Frame>) -> Window {
    Window {
        partition: vec![value(Ty::Int4, words("a.i"))],
        order: vec![(value(Ty::Int4, words("b.i")), " DESC")],
        key: Some(""),
        frame,
        ..Window::default()
    }
}

fn windowed() -> Query {
    let source = |name: &str, columns: &[&str]| {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Node::Source(Box::new(words(name)), RowKey::Columns(columns))
    };
    let rows = Frame {
        mode: "ROWS",
        start: "1 PRECEDING".to_owned(),
        end: Some("CURRENT ROW".to_owned()),
        exclude: " EXCLUDE TIES",
    };
    let item = |value| Item { value, alias: None };
    let mut query = select(vec![
        item(over("row_number()", Place::Named("o".to_owned()))),
        item(over("count(*)", Place::Here(by_row(Some(rows))))),
    ]);
    if let Body::Select(select) = &mut query.body {
        select.from = vec![source("t a", &["a.id"]), source("u b", &["b.x", "b.y"])];
        select.windows = vec![("o".to_owned(), by_row(None))];
    }
    query
}

#[test]
fn what_tells_rows_apart_is_that_of_the_items_in_from() {
    let query = windowed();
    assert_eq!(
        query.sql(),
        "SELECT row_number() OVER o, count(*) OVER (PARTITION BY a.i ORDER BY b.i DESC, a.id, b.x, b.y ROWS BETWEEN 1 \
         PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t a, u b WINDOW o AS (PARTITION BY a.i ORDER BY b.i DESC, a.id, \
         b.x, b.y)"
    );
    let smaller: Vec<String> = query.smaller().iter().map(Query::sql).collect();
    for wanted in [
        // Without an item of FROM, it is that of the other.
        "ORDER BY b.i DESC, a.id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t a WINDOW",
        "SELECT row_number() OVER (PARTITION BY a.i ORDER BY b.i DESC, a.id, b.x, b.y), count",
        "count(*) OVER (ORDER BY b.i DESC, a.id, b.x, b.y ROWS",
        "count(*) OVER (PARTITION BY a.i ORDER BY a.id, b.x, b.y ROWS",
        "count(*) OVER (PARTITION BY a.i ORDER BY b.i, a.id",
        "count(*) OVER (PARTITION BY a.i ORDER BY b.i DESC, a.id, b.x, b.y) FROM",
        "AND CURRENT ROW) FROM",
        "ROWS 1 PRECEDING EXCLUDE TIES",
        "WINDOW o AS (ORDER BY b.i DESC, a.id",
        "SELECT 0::int8, count(*)",
    ] {
        let found = smaller.iter().any(|sql| sql.contains(wanted));
        assert!(found, "{wanted}\n{smaller:#?}");
    }
    for sql in &smaller {
        // Whatever goes, that stays.
        let keyed = !sql.contains("count(*) OVER") || sql.contains("a.id") || sql.contains("b.y");
        assert!(keyed, "{sql}");
    }
}

#[test]
fn the_keys_of_a_grouped_query_tell_its_rows_apart() {
    let mut query = windowed();
    let Body::Select(select) = &mut query.body else {
        panic!("it is a select");
    };
    select.keys = ["a.g", "b.g"]
        .map(|name| (Ty::Int4, value(Ty::Int4, words(name))))
        .to_vec();
    let sql = query.sql();
    assert!(
        sql.ends_with(
            "GROUP BY a.g, b.g WINDOW o AS (PARTITION BY a.i ORDER BY b.i DESC, a.g, b.g)"
        ),
        "{sql}"
    );
    let smaller: Vec<String> = query.smaller().iter().map(Query::sql).collect();
    let wanted = "GROUP BY b.g WINDOW o AS (PARTITION BY a.i ORDER BY b.i DESC, b.g)";
    assert!(smaller.iter().any(|sql| sql.ends_with(wanted)));
}

#[test]
fn windows_are_made_small_and_go() {
    for wanted in [
        "EXCLUDE GROUP",
        "ntile(",
        "WINDOW o",
        "GROUPS BETWEEN",
        ") FILTER",
    ] {
        let found = case(15, |statement| {
            let sql = statement.sql();
            sql.contains(wanted) && sql.contains(" OVER ")
        });
        let small = shrunk(&found, |case| case.statement.sql().contains(wanted));
        let sql = small.statement.sql();
        assert!(sql.contains(wanted) && sql.len() < 250, "{wanted}: {sql}");
    }
    let found = case(16, |statement| {
        let sql = statement.sql();
        sql.contains(" OVER ") && sql.contains(" WINDOW ") && sql.contains(" JOIN ")
    });
    let small = shrunk(&found, |case| case.statement.sql().contains(" JOIN "));
    let sql = small.statement.sql();
    assert!(!sql.contains("OVER") && !sql.contains("WINDOW"), "{sql}");
}
