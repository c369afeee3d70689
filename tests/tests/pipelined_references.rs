//! References in portals, pipelines and the transactions around them: when they are looked at, and what has gone out by
//! then. PostgreSQL is asked the same.

use understudy_tests::raw::{Case, bind, differing, execute, parse, prepared, query, sync};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;

fn references() -> Vec<Case> {
    let all = || execute("", 0);
    let run = |sql: &str| [prepared(sql), execute("", 0)].concat();
    let tables = || {
        query(
            "DROP TABLE IF EXISTS refers, keys; CREATE TABLE keys (id int PRIMARY KEY); \
             CREATE TABLE refers (a int REFERENCES keys, b int REFERENCES keys DEFERRABLE \
             INITIALLY DEFERRED); INSERT INTO keys VALUES (1), (2)",
        )
    };
    let left = || query("SELECT a, b FROM refers ORDER BY a, b; SELECT id FROM keys ORDER BY id");
    vec![
        (
            "rows of a change in parts, one of which refers to nothing",
            vec![
                tables(),
                query("BEGIN"),
                prepared("INSERT INTO refers VALUES (1), (2), (3) RETURNING a"),
                execute("", 1),
                execute("", 1),
                sync(),
                query("ROLLBACK"),
                left(),
            ],
        ),
        (
            "rows of a change in parts, all of which refer to something",
            vec![
                tables(),
                prepared("INSERT INTO refers VALUES (1), (2) RETURNING a"),
                execute("", 1),
                execute("", 1),
                execute("", 1),
                sync(),
                left(),
            ],
        ),
        (
            "the end of a pipeline looks at what was put off",
            vec![
                tables(),
                run("INSERT INTO refers (b) VALUES (3)"),
                run("SELECT 1"),
                sync(),
                left(),
                run("INSERT INTO refers (b) VALUES (3)"),
                run("INSERT INTO keys VALUES (3)"),
                sync(),
                left(),
            ],
        ),
        (
            "the end of a simple query of several statements",
            vec![
                tables(),
                query("INSERT INTO refers (b) VALUES (3); SELECT 1; INSERT INTO keys VALUES (3)"),
                query("INSERT INTO refers (b) VALUES (4); SELECT 1"),
                query("INSERT INTO refers (b) VALUES (4); COMMIT; INSERT INTO refers VALUES (1)"),
                left(),
            ],
        ),
        (
            "COMMIT in a pipeline",
            vec![
                tables(),
                query("BEGIN"),
                run("INSERT INTO refers (b) VALUES (3)"),
                run("COMMIT"),
                run("INSERT INTO refers (a) VALUES (1)"),
                sync(),
                left(),
            ],
        ),
        (
            "SET CONSTRAINTS in a pipeline",
            vec![
                tables(),
                run("SET CONSTRAINTS ALL IMMEDIATE"),
                run("INSERT INTO refers (b) VALUES (3)"),
                run("SELECT 1"),
                sync(),
                left(),
            ],
        ),
        (
            "a statement that was prepared without the constraint",
            vec![
                tables(),
                parse("adds", "INSERT INTO refers (a) VALUES ($1)", &[]),
                sync(),
                query("ALTER TABLE refers DROP CONSTRAINT refers_a_fkey"),
                bind("", "adds", 0, &[Some(b"9")]),
                all(),
                sync(),
                query("DELETE FROM refers; ALTER TABLE refers ADD FOREIGN KEY (a) REFERENCES keys"),
                bind("", "adds", 0, &[Some(b"9")]),
                all(),
                sync(),
                left(),
            ],
        ),
        (
            "rows of a query whose WITH writes, in parts",
            vec![
                tables(),
                query("BEGIN"),
                prepared(
                    "WITH t AS (INSERT INTO refers VALUES (1), (2), (3) RETURNING a) SELECT a FROM t",
                ),
                execute("", 1),
                execute("", 1),
                sync(),
                query("ROLLBACK"),
                left(),
                prepared(
                    "WITH t AS (INSERT INTO refers VALUES (1), (2) RETURNING a) SELECT a FROM t",
                ),
                execute("", 1),
                execute("", 0),
                sync(),
                left(),
            ],
        ),
        (
            "rows of a query whose WITH writes, at once",
            vec![
                tables(),
                run(
                    "WITH t AS (INSERT INTO refers VALUES (1), (2), (3) RETURNING a) SELECT a FROM t",
                ),
                sync(),
                run("WITH t AS (INSERT INTO refers VALUES (1), (2) RETURNING a) SELECT a FROM t"),
                sync(),
                left(),
            ],
        ),
    ]
}

#[test]
fn references_are_looked_at_where_postgresql_looks_at_them() {
    let server = Server::started();
    let reference = Reference::started();
    let wrong = differing(references(), reference.port, server.port);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
