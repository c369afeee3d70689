//! The parser against PostgreSQL 15's recorded verdicts (`testdata/grammar.tsv`): what is taken, what is
//! refused, and with which message at which character.

use super::ast::{ExprKind, QueryBody, Statement};
use super::{parse, parse_expression};

#[test]
fn grammar_agrees_with_postgresql() {
    let mut wrong = Vec::new();
    for line in include_str!("testdata/grammar.tsv").lines() {
        let mut fields = line.split('\t');
        let statement = fields.next().unwrap_or("").replace("\\n", "\n");
        let expected = match fields.next() {
            Some("ok") => None,
            Some(position) => Some((
                position.parse::<u32>().ok(),
                fields.next().unwrap_or("").to_owned(),
            )),
            None => panic!("a line without a verdict: {line}"),
        };
        let got = match parse(&statement) {
            Ok(_) => None,
            // Other errors of the grammar are not about syntax.
            Err(e) if e.state != "42601" => None,
            Err(e) => Some((e.position, e.message.clone())),
        };
        if got != expected {
            wrong.push(format!("{statement}\n  want {expected:?}\n  got  {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn precedence_is_postgresqls() {
    let shape = |text: &str| format!("{:?}", parse_expression(text).expect("it parses"));
    let same = |a: &str, b: &str| {
        let strip = |s: String| {
            // Offsets differ by the parentheses.
            let mut out = String::new();
            let mut rest = s.as_str();
            while let Some(n) = rest.find("at: ") {
                out.push_str(&rest[..n]);
                rest = rest[n + 4..].trim_start_matches(|c: char| c.is_ascii_digit());
            }
            out.push_str(rest);
            out
        };
        assert_eq!(strip(shape(a)), strip(shape(b)), "{a} is {b}");
    };
    same("NOT a IS NULL", "NOT (a IS NULL)");
    same("a = b IS NULL", "(a = b) IS NULL");
    same("a + b * c ^ d", "a + (b * (c ^ d))");
    same("a || b + c", "a || (b + c)");
    same("a < b || c", "a < (b || c)");
    same("a BETWEEN b AND c AND d", "(a BETWEEN b AND c) AND d");
    same(
        "a = b AND c OR NOT d = e",
        "((a = b) AND c) OR (NOT (d = e))",
    );
    same("-a::int", "-(a::int)");
    same("- a ^ b", "(-a) ^ b");
    same("a IN (1) = true", "(a IN (1)) = true");
    same("a LIKE b || c", "a LIKE (b || c)");
    same("a ~ b = c", "(a ~ b) = c");
    same("a AT TIME ZONE b + c", "(a AT TIME ZONE b) + c");
    same("a IS DISTINCT FROM b = c", "a IS DISTINCT FROM (b = c)");
}

#[test]
fn several_statements_keep_their_places() {
    let sql = "SELECT 1; ; INSERT INTO t VALUES (2) ;-- end";
    let parsed = parse(sql).expect("it parses");
    let texts: Vec<_> = parsed.iter().map(|p| &sql[p.text.clone()]).collect();
    assert_eq!(texts, ["SELECT 1", "INSERT INTO t VALUES (2)"]);
    assert_eq!(parsed[1].tag, "INSERT");
    assert_eq!(parse(" /* nothing */ ;").expect("it parses"), []);
}

#[test]
fn strings_are_unescaped() {
    let value = |text: &str| match parse_expression(text).expect("it parses").kind {
        ExprKind::Literal(l) => format!("{l:?}"),
        other => panic!("no literal: {other:?}"),
    };
    assert_eq!(value("'a''b'"), "Text(\"a'b\")");
    assert_eq!(value("'a'\n -- it's a comment\n 'b'"), "Text(\"ab\")");
    assert_eq!(
        value(r"E'a\'b\n\x41\101\u00e9\\'"),
        "Text(\"a'b\\nAAé\\\\\")"
    );
    assert_eq!(value(r"U&'\0061\+000062'"), "Text(\"ab\")");
    assert_eq!(value("$x$a'$y$b$x$"), "Text(\"a'$y$b\")");
    assert_eq!(value(r"E'\uD83D\uDE00'"), "Text(\"😀\")");
}

/// What is not there yet is refused as a whole, not up to a semicolon inside of it.
#[test]
fn a_statement_that_is_passed_over_ends_where_it_ends() {
    for text in [
        "CREATE RULE r AS ON INSERT TO t DO INSTEAD (DELETE FROM u; UPDATE u SET a = (2)); SELECT 1",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC \
         SELECT CASE WHEN a > 0 THEN 1 END; SELECT a; END; SELECT 1",
        "CREATE PROCEDURE p() LANGUAGE sql AS $$ SELECT 1; SELECT (2 $$; SELECT 1",
        "COMMENT ON FUNCTION f(int) IS 'a; b'; SELECT 1",
    ] {
        let parsed = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let tags: Vec<&str> = parsed.iter().map(|p| p.tag).collect();
        assert!(matches!(tags.as_slice(), [_, "SELECT"]), "{text}: {tags:?}");
        assert!(matches!(parsed[0].statement, Statement::Unsupported(_)));
    }
}

/// As much stack as the threads that run statements have.
const STACK_BYTES: usize = 64 << 20;

#[test]
fn depth_is_limited_and_long_lists_are_not() {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(look_at_depths).expect("a thread");
    thread.join().expect("no depth is too much");
}

fn look_at_depths() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(parse(&deep).expect_err("too deep").state, "54001");
    let chain = format!("SELECT 1{}", " + 1".repeat(5000));
    assert_eq!(parse(&chain).expect_err("too long").state, "54001");
    // Each level is short enough; one inside the other they are not.
    let links = " + 1".repeat(1000);
    let levels = format!("SELECT {}1{}", "(".repeat(5), format!("{links})").repeat(5));
    assert_eq!(parse(&levels).expect_err("too high").state, "54001");
    // Each stands on top of what is before it.
    let subscripts = "[1]".repeat(5000);
    let fields = format!("{})", ".b".repeat(2000)).repeat(3);
    let joins = " JOIN c ON true".repeat(5000);
    for text in [
        format!("SELECT a{subscripts}"),
        format!("SELECT $1{subscripts}"),
        format!("SELECT (a){}", ".b".repeat(5000)),
        format!("SELECT ((((a){fields}"),
        format!("SELECT 1 FROM a{joins}"),
        format!("SELECT 1 FROM a JOIN b{joins} ON true"),
    ] {
        assert_eq!(parse(&text).expect_err("too high").state, "54001");
    }
    parse(&format!("SELECT a{}", "[1]".repeat(3000))).expect("not too high");
    let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(5000));
    assert_eq!(parse(&unions).expect_err("too long").state, "54001");
    parse(&format!("SELECT 1{}", " || 'a'".repeat(3000))).expect("not too long");
    let list = format!("SELECT a IN (1{})", ", 1".repeat(5000));
    parse(&list).expect("a list is flat");
    let and = format!("SELECT a{}", " AND a".repeat(5000));
    parse(&and).expect("AND is flat");
    let parsed = parse(&format!("VALUES (1){}", ", (1)".repeat(5000))).expect("rows are flat");
    match &parsed[0].statement {
        Statement::Query(q) => match &q.body {
            QueryBody::Values(rows) => assert_eq!(rows.len(), 5001),
            other => panic!("no VALUES: {other:?}"),
        },
        other => panic!("no query: {other:?}"),
    }
}

/// Each parenthesis may begin a query or an expression. Reading both at every level would take 10^8 readings and more here.
#[test]
fn no_parenthesis_is_tried_as_a_query_twice() {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(read_parentheses).expect("a thread");
    thread.join().expect("it ends");
}

fn read_parentheses() {
    for (times, state) in [(8, "42601"), (15, "42601"), (20, "54001")] {
        let text = format!("SELECT {}+++", "((((((((((select(x".repeat(times));
        assert_eq!(parse(&text).expect_err("no end").state, state);
    }
    // As queries these are too deep, as expressions they are not.
    let deep = |inner| format!("SELECT {}{inner}{}", "(".repeat(150), ")".repeat(150));
    parse(&deep("(SELECT 1) + 1")).expect("an expression");
    parse(&deep("((SELECT 1) UNION SELECT 2) + 1")).expect("an expression");
    for text in [
        "SELECT (((SELECT 1)) + 1)",
        "SELECT ((SELECT 1) + (((SELECT 2)) + ((SELECT 3) UNION SELECT 4)))",
        "SELECT 1 FROM (((SELECT 1) UNION (SELECT 2)) a JOIN ((SELECT 3)) b ON true)",
        "SELECT 1 IN (((SELECT 1)), 2), ARRAY((SELECT 1))",
    ] {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
}

proptest::proptest! {
    /// Whatever comes, the parser gives an answer.
    #[test]
    fn any_text_is_parsed_or_refused(text in "(?s).{0,80}") {
        let _ = parse(&text);
        let _ = super::replication::parse(&text);
    }

    /// The same for what looks like SQL.
    #[test]
    fn any_tokens_are_parsed_or_refused(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "SELECT", "FROM", "WHERE", "(", ")", ",", "a", "'x'", "1", "=", "AND", "NOT", "IN",
                "BETWEEN", "CASE", "WHEN", "END", "JOIN", "ON", "UNION", "VALUES", "INSERT", "INTO",
                "CREATE", "TABLE", "int", "::", "[", "]", ".", "*", "ORDER", "BY", "E'\\'", "$1",
                "INTERVAL", "COPY", "SET", "TO", "ALTER", "DEFAULT", "é", "$$", "\"", "--", "/*",
            ]),
            0..25,
        )
    ) {
        let _ = parse(&words.join(" "));
    }
}
