//! Pipelines of the extended protocol: what each message is answered with. PostgreSQL is asked the same.

use std::time::Duration;

use understudy_tests::raw::{
    Case, End, Raw, bind, describe, differing, execute, frame, parse, prepared, query, shown, sync,
};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::wire::Client;

const PATIENCE: Duration = Duration::from_secs(30);

/// Bind with any number of format codes, for parameters and for results.
fn bind_formats(formats: &[u16], values: &[&[u8]], results: &[u16]) -> Vec<u8> {
    let codes = |codes: &[u16]| {
        let mut out = (codes.len() as u16).to_be_bytes().to_vec();
        out.extend(codes.iter().flat_map(|code| code.to_be_bytes()));
        out
    };
    let mut body = b"\0\0".to_vec();
    body.extend(codes(formats));
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend(codes(results));
    frame(b'B', &body)
}

fn pipelines() -> Vec<Case> {
    let all = || execute("", 0);
    let table = || query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)");
    vec![
        (
            "a query of no columns",
            vec![
                parse("", "SELECT", &[]),
                describe(b'S', ""),
                bind("", "", 0, &[]),
                describe(b'P', ""),
                all(),
            ],
        ),
        (
            "a query in parts, and on after its end",
            vec![
                prepared("SELECT generate_series(1, 3)"),
                execute("", 2),
                execute("", 2),
                execute("", 2),
                all(),
            ],
        ),
        (
            "as many rows as there are",
            vec![
                prepared("SELECT generate_series(1, 3)"),
                execute("", 3),
                all(),
                all(),
            ],
        ),
        (
            "a change again",
            vec![
                table(),
                prepared("INSERT INTO pipes VALUES (1)"),
                all(),
                all(),
            ],
        ),
        (
            "a change with rows again",
            vec![
                table(),
                prepared("INSERT INTO pipes VALUES (1) RETURNING a"),
                all(),
                all(),
            ],
        ),
        ("SHOW again", vec![prepared("SHOW work_mem"), all(), all()]),
        (
            "SET again",
            vec![prepared("SET work_mem = '5MB'"), all(), all()],
        ),
        (
            "nothing, described and run",
            vec![
                parse("", "", &[23]),
                describe(b'S', ""),
                bind("", "", 0, &[]),
            ],
        ),
        (
            "a type that the statement does not ask for",
            vec![
                parse("", "SHOW work_mem", &[23]),
                describe(b'S', ""),
                bind("", "", 0, &[Some(b"1")]),
                all(),
            ],
        ),
        (
            "a value too few for a statement without any",
            vec![
                parse("", "SHOW work_mem", &[23]),
                bind("", "", 0, &[]),
                all(),
            ],
        ),
        (
            "a type that nothing tells, of SHOW",
            vec![parse("", "SHOW work_mem", &[0])],
        ),
        (
            "a type that nothing tells, of SELECT",
            vec![parse("", "SELECT 1", &[0])],
        ),
        (
            "types from where parameters stand",
            vec![
                parse("", "SELECT $1, $2 + 1, $3::numeric LIMIT $4", &[]),
                describe(b'S', ""),
            ],
        ),
        (
            "some types given",
            vec![
                parse("", "SELECT $1 + $2, $3", &[0, 20]),
                describe(b'S', ""),
            ],
        ),
        (
            "two formats for one value",
            vec![
                parse("", "SELECT $1::int", &[]),
                bind_formats(&[0, 0], &[b"1"], &[]),
            ],
        ),
        (
            "two formats for no value of SHOW",
            vec![
                parse("", "SHOW work_mem", &[]),
                bind_formats(&[0, 0], &[], &[]),
            ],
        ),
        (
            "two formats for one column",
            vec![
                parse("", "SELECT 1", &[]),
                bind_formats(&[], &[], &[0, 0]),
                all(),
            ],
        ),
        (
            "two formats for a change without rows",
            vec![
                table(),
                parse("", "INSERT INTO pipes VALUES (1)", &[]),
                bind_formats(&[], &[], &[0, 0]),
                all(),
            ],
        ),
        (
            "a name that is taken, for what is wrong",
            vec![
                parse("taken", "SELECT 1", &[]),
                sync(),
                parse("taken", "SELECT no_such_column", &[]),
            ],
        ),
        (
            "the unnamed statement, which is not",
            vec![describe(b'S', "")],
        ),
        (
            "a failed block",
            vec![
                query("BEGIN"),
                parse("show", "SHOW work_mem", &[]),
                bind("show", "show", 0, &[]),
                parse("end", "ROLLBACK", &[]),
                sync(),
                query("SELECT 1/0"),
                describe(b'S', "show"),
                sync(),
                describe(b'S', "end"),
                bind("", "end", 0, &[]),
                describe(b'P', ""),
                all(),
            ],
        ),
    ]
}

/// What is bound, run and described across blocks, errors and Sync.
fn blocks() -> Vec<Case> {
    let all = || execute("", 0);
    let table = || query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)");
    let one = || [prepared("INSERT INTO pipes VALUES (1)"), all()].concat();
    vec![
        (
            "a portal that needs no table goes at Sync, too",
            vec![
                parse("", "SHOW work_mem", &[]),
                bind("p", "", 0, &[]),
                sync(),
                execute("p", 0),
                sync(),
                bind("p", "", 0, &[]),
                execute("p", 0),
            ],
        ),
        (
            "and with an error",
            vec![
                parse("show", "SHOW work_mem", &[]),
                bind("p", "show", 0, &[]),
                parse("", "SELEC", &[]),
                sync(),
                execute("p", 0),
            ],
        ),
        (
            "portals older than the savepoint that an error goes back to",
            vec![
                query("BEGIN"),
                parse("good", "SELECT 1", &[]),
                bind("good", "good", 0, &[]),
                parse(
                    "bad",
                    "SELECT 1 / (g - 2) FROM generate_series(1, 3) AS g",
                    &[],
                ),
                bind("bad", "bad", 0, &[]),
                sync(),
                query("SAVEPOINT s"),
                execute("bad", 0),
                sync(),
                execute("good", 0),
                sync(),
                query("ROLLBACK TO s"),
                execute("good", 0),
                execute("bad", 0),
            ],
        ),
        (
            "a change is described in a failed block, a query is not",
            vec![
                table(),
                parse("change", "INSERT INTO pipes VALUES ($1)", &[]),
                parse("rows", "INSERT INTO pipes VALUES ($1) RETURNING a", &[]),
                sync(),
                query("BEGIN"),
                query("SELECT 1/0"),
                describe(b'S', "change"),
                describe(b'S', "rows"),
            ],
        ),
        (
            "VACUUM behind a change",
            vec![
                table(),
                one(),
                prepared("VACUUM pipes"),
                all(),
                sync(),
                query("SELECT a FROM pipes"),
            ],
        ),
        (
            "VACUUM behind a part of a query",
            vec![
                table(),
                prepared("SELECT generate_series(1, 3)"),
                execute("", 1),
                parse("vacuum", "VACUUM pipes", &[]),
                bind("vacuum", "vacuum", 0, &[]),
                execute("vacuum", 0),
            ],
        ),
        (
            "VACUUM as a simple query behind a change without Sync",
            vec![
                table(),
                one(),
                query("VACUUM pipes"),
                query("SELECT a FROM pipes"),
            ],
        ),
        (
            "VACUUM first, and a change behind it",
            vec![
                table(),
                prepared("VACUUM pipes"),
                all(),
                one(),
                sync(),
                query("SELECT a FROM pipes"),
            ],
        ),
        (
            "a simple query of nothing ends a pipeline, too",
            vec![
                table(),
                one(),
                query(""),
                query("ROLLBACK; SELECT a FROM pipes"),
            ],
        ),
        (
            "ANALYZE commits nothing of what came before",
            vec![
                table(),
                one(),
                prepared("ANALYZE pipes"),
                all(),
                prepared("SELECT 1 / (SELECT 0)"),
                all(),
                sync(),
                query("SELECT a FROM pipes"),
            ],
        ),
    ]
}

/// What is left of portals in a block that has failed, and what each message is told there.
fn failed_blocks() -> Vec<Case> {
    let fails = || query("SELECT 1/0");
    vec![
        (
            "portals of a failed block are there until it ends",
            vec![
                query("BEGIN"),
                parse("one", "SELECT 1", &[]),
                bind("one", "one", 0, &[]),
                parse("end", "ROLLBACK", &[]),
                bind("end", "end", 0, &[]),
                sync(),
                fails(),
                execute("one", 0),
                sync(),
                describe(b'P', "one"),
                sync(),
                describe(b'P', "end"),
                execute("end", 0),
                sync(),
                execute("none", 0),
                sync(),
                query("ROLLBACK"),
                execute("one", 0),
            ],
        ),
        (
            "portals of a savepoint are there until it is rolled back",
            vec![
                query("BEGIN"),
                query("SAVEPOINT s"),
                parse("one", "SELECT 1", &[]),
                bind("one", "one", 0, &[]),
                sync(),
                fails(),
                execute("one", 0),
                sync(),
                query("ROLLBACK TO s"),
                execute("one", 0),
            ],
        ),
        (
            "the unnamed portal in a failed block",
            vec![
                query("BEGIN"),
                prepared("SELECT 1"),
                sync(),
                fails(),
                execute("", 0),
                sync(),
                query("SELECT 1"),
                execute("", 0),
                sync(),
                prepared("ROLLBACK"),
                execute("", 0),
            ],
        ),
        (
            "what Bind looks at first in a failed block",
            vec![
                query("BEGIN"),
                parse("value", "SELECT $1::int", &[]),
                parse("end", "ROLLBACK", &[]),
                parse("nothing", "", &[]),
                bind("taken", "value", 0, &[Some(b"1")]),
                sync(),
                fails(),
                bind("", "value", 0, &[]),
                sync(),
                bind("taken", "value", 0, &[Some(b"1")]),
                sync(),
                bind("", "nothing", 0, &[]),
                sync(),
                bind("", "missing", 0, &[]),
                sync(),
                bind("taken", "end", 0, &[]),
                sync(),
                parse("", "SELECT 1", &[]),
                sync(),
                parse("", "SELEC", &[]),
                sync(),
                parse("", "", &[]),
                sync(),
                bind("ends", "end", 0, &[]),
                execute("ends", 0),
            ],
        ),
        (
            "a name that is taken comes behind the number of values",
            vec![
                query("BEGIN"),
                parse("value", "SELECT $1::int", &[]),
                bind("taken", "value", 0, &[Some(b"1")]),
                bind("taken", "value", 0, &[]),
            ],
        ),
        (
            "a prepared transaction's beginning ends a failed block",
            vec![query("BEGIN"), fails(), query("PREPARE TRANSACTION 'p'")],
        ),
    ]
}

/// Which rows a portal sees, and from when on a transaction looks.
fn snapshots() -> Vec<Case> {
    let table = || query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)");
    let count = |name: &str| {
        let statement = parse(name, "SELECT count(*) FROM pipes", &[]);
        [statement, bind(name, name, 0, &[])].concat()
    };
    vec![
        (
            "a query sees what there was at Bind, a change what there is at Execute",
            vec![
                table(),
                query("BEGIN"),
                parse("read", "SELECT a FROM pipes", &[]),
                bind("read", "read", 0, &[]),
                parse("change", "UPDATE pipes SET a = a + 1 RETURNING a", &[]),
                bind("change", "change", 0, &[]),
                parse("", "INSERT INTO pipes VALUES (1)", &[]),
                bind("", "", 0, &[]),
                execute("", 0),
                execute("read", 0),
                execute("change", 0),
                sync(),
                query("COMMIT"),
            ],
        ),
        (
            "the isolation level is settled once something was analysed",
            vec![
                query("BEGIN"),
                parse("", "SELECT 1", &[]),
                sync(),
                query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
            ],
        ),
        (
            "what only reads is told so at Bind",
            vec![
                table(),
                query("BEGIN READ ONLY"),
                count("read"),
                execute("read", 0),
                parse("lock", "SELECT a FROM pipes FOR UPDATE", &[]),
                bind("lock", "lock", 0, &[]),
                execute("lock", 0),
            ],
        ),
    ]
}

/// What a portal reads is not changed before it is closed, be it at its end or not.
fn in_use() -> Vec<Case> {
    let table = || query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)");
    let changes = |sql: &str| [prepared(sql), execute("", 0), sync()].concat();
    let read = || {
        let statement = parse("read", "SELECT a FROM pipes", &[]);
        [statement, bind("read", "read", 0, &[])].concat()
    };
    vec![
        (
            "a portal that has given all its rows",
            vec![
                table(),
                query("BEGIN"),
                read(),
                execute("read", 0),
                sync(),
                query("SAVEPOINT s"),
                changes("ALTER TABLE pipes ADD b int"),
                query("ROLLBACK TO s"),
                changes("TRUNCATE pipes"),
                query("ROLLBACK TO s"),
                changes("CREATE INDEX ON pipes (a)"),
                query("ROLLBACK TO s"),
                changes("DROP TABLE pipes"),
                query("ROLLBACK TO s"),
                frame(b'C', b"Pread\0"),
                changes("ALTER TABLE pipes ADD b int"),
                query("COMMIT; SELECT * FROM pipes"),
            ],
        ),
        (
            "a portal that has not begun, and a statement that reads beside it",
            vec![
                table(),
                query("BEGIN"),
                read(),
                sync(),
                query("INSERT INTO pipes VALUES (1); SELECT a FROM pipes"),
                query("TRUNCATE pipes"),
                query("ROLLBACK; TRUNCATE pipes"),
            ],
        ),
        (
            "CLOSE ALL takes what Bind has made, too",
            vec![
                table(),
                query("BEGIN; INSERT INTO pipes VALUES (1), (2)"),
                read(),
                execute("read", 1),
                sync(),
                query("CLOSE ALL; ALTER TABLE pipes ADD b int"),
                execute("read", 1),
                sync(),
                query("ROLLBACK"),
            ],
        ),
        (
            "the unnamed portal makes room for the next statement",
            vec![
                table(),
                query("BEGIN; INSERT INTO pipes VALUES (1), (2)"),
                prepared("SELECT a FROM pipes"),
                execute("", 1),
                sync(),
                query("ALTER TABLE pipes ADD b int"),
                prepared("SELECT a FROM pipes"),
                execute("", 1),
                changes("ALTER TABLE pipes ADD c int"),
                query("COMMIT; SELECT * FROM pipes"),
            ],
        ),
    ]
}

/// Types of parameters, and statements around a query that has some.
fn parameters() -> Vec<Case> {
    let all = || execute("", 0);
    vec![
        (
            "a type stays what it was, though the column has another now",
            vec![
                query("DROP TABLE IF EXISTS pipes; CREATE TABLE pipes (a int)"),
                parse("change", "INSERT INTO pipes VALUES ($1)", &[]),
                describe(b'S', "change"),
                sync(),
                query("ALTER TABLE pipes DROP COLUMN a"),
                query("ALTER TABLE pipes ADD COLUMN a text"),
                describe(b'S', "change"),
                bind("", "change", 1, &[Some(&[0, 0, 0, 49])]),
                all(),
                sync(),
                query("SELECT a FROM pipes WHERE a = '49'"),
            ],
        ),
        (
            "EXPLAIN of a query with one",
            vec![
                parse("", "EXPLAIN SELECT $1::int", &[]),
                describe(b'S', ""),
                bind("", "", 0, &[Some(b"1")]),
                describe(b'P', ""),
                all(),
            ],
        ),
        (
            "a cursor for a query with one",
            vec![
                query("BEGIN"),
                parse(
                    "",
                    "DECLARE c CURSOR FOR SELECT generate_series(1, $1)",
                    &[],
                ),
                describe(b'S', ""),
                bind("", "", 0, &[Some(b"3")]),
                all(),
                sync(),
                query("FETCH ALL FROM c"),
            ],
        ),
        (
            "COPY of a query with one",
            vec![
                parse("", "COPY (SELECT $1::int) TO STDOUT", &[23]),
                bind("", "", 0, &[Some(b"1")]),
                all(),
            ],
        ),
        (
            "none in simple queries",
            vec![
                query("EXPLAIN ANALYZE SELECT $1::int"),
                query("COPY (SELECT $1::int) TO STDOUT"),
                query("BEGIN"),
                query("DECLARE c CURSOR FOR SELECT $1::int"),
                query("FETCH ALL FROM c"),
            ],
        ),
    ]
}

#[test]
fn every_message_is_answered_as_postgresql_answers_it() {
    let server = Server::started();
    let reference = Reference::started();
    let all = [
        pipelines(),
        blocks(),
        failed_blocks(),
        snapshots(),
        in_use(),
        parameters(),
    ]
    .concat();
    let wrong = differing(all, reference.port, server.port);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What others commit between Bind and Execute is not seen by a query, and by none of the transaction's where one snapshot
/// serves them all: that one is taken when the first of them is analysed.
#[test]
fn a_query_sees_what_there_was_when_it_was_bound() {
    let server = Server::started();
    let reference = Reference::started();
    let statement = || parse("count", "SELECT count(*) FROM pipes", &[]);
    let bound = || bind("count", "count", 0, &[]);
    let repeatable = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    // What is sent before the row is there, the answer that says it has been done, and what is sent behind it.
    let cases = [
        ("BEGIN", [statement(), bound()].concat(), b'2', Vec::new()),
        ("BEGIN", statement(), b'1', bound()),
        (repeatable, statement(), b'1', bound()),
    ];
    for (begin, before, done, after) in cases {
        let [theirs, own] = [reference.port, server.port].map(|port| {
            let mut other = Client::connect(port).expect("it answers");
            for sql in ["DROP TABLE IF EXISTS pipes", "CREATE TABLE pipes (a int)"] {
                other.query(sql).expect("it answers");
            }
            let mut raw = Raw::session(port).expect("it answers");
            raw.send(&query(begin)).expect("sent");
            raw.until_ready(1, PATIENCE);
            raw.send(&[before.clone(), frame(b'H', b"")].concat())
                .expect("sent");
            let first = raw.until_tag(done, PATIENCE);
            other
                .query("INSERT INTO pipes VALUES (1)")
                .expect("it answers");
            let rest = [after.clone(), execute("count", 0), sync()].concat();
            raw.send(&rest).expect("sent");
            let (replies, end) = raw.until_ready(1, PATIENCE);
            assert_eq!(end, End::Ready, "{port}: {}", shown(&replies));
            let rows: Vec<Vec<u8>> = replies
                .iter()
                .filter(|reply| reply.tag == b'D')
                .map(|reply| reply.body.clone())
                .collect();
            (shown(&first), shown(&replies), rows)
        });
        assert_eq!(own, theirs);
    }
}

/// What a portal holds that is bound and never run goes with its transaction: at Sync, and with an error.
#[test]
fn a_portal_that_is_never_run_is_let_go_with_its_transaction() {
    let server = Server::started();
    let mut other = server.client();
    other.rows("CREATE TABLE pipes (a int)");
    let lock = "LOCK TABLE pipes IN ACCESS EXCLUSIVE MODE NOWAIT";
    let mut raw = Raw::session(server.port).expect("it answers");
    for end in [sync(), [parse("", "SELEC", &[]), sync()].concat()] {
        let bound = [prepared("SELECT a FROM pipes"), frame(b'H', b"")].concat();
        raw.send(&bound).expect("sent");
        raw.until_tag(b'2', PATIENCE);
        other.rows("BEGIN");
        assert_eq!(other.error(lock).state, "55P03");
        other.rows("ROLLBACK");
        raw.send(&end).expect("sent");
        raw.until_ready(1, PATIENCE);
        other.rows("BEGIN");
        other.rows(lock);
        other.rows("ROLLBACK");
    }
}
