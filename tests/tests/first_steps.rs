//! The first minutes with a server: made, started, used with psql, crashed, recovered, stopped, checked by
//! PostgreSQL's own tools.

use std::process::Command;

use understudy_tests::programs::{postgres, run, run_ok};
use understudy_tests::server::{Server, Stop};

#[test]
fn rows_survive_a_crash_and_the_directory_passes_the_referees() {
    let mut server = Server::started();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t VALUES (1, 'one'), (2, 'two')");
    server.psql("UPDATE t SET b = 'zwei' WHERE a = 2");
    let duplicate = server.client().error("INSERT INTO t VALUES (1, 'again')");
    assert_eq!(duplicate.state, "23505");

    server.stop(Stop::Kill);
    server.start();
    assert_eq!(
        server.psql("SELECT a, b FROM t ORDER BY a").trim(),
        "1|one\n2|zwei"
    );
    assert!(
        server
            .psql("SELECT count(*) FROM pg_class")
            .trim()
            .parse::<u32>()
            .expect("a number")
            > 50
    );

    let status = server.stop(Stop::Fast);
    assert!(status.success(), "a fast stop ends with {status}");
    let control = run_ok(Command::new(postgres("pg_controldata")).arg(server.data()));
    assert!(
        control.contains("Database cluster state:               shut down"),
        "{control}"
    );
    run_ok(
        Command::new(postgres("pg_checksums"))
            .arg("--check")
            .arg("-D")
            .arg(server.data()),
    );
    let dump = run(Command::new(postgres("pg_waldump"))
        .arg("-s")
        .arg("0/1000028")
        .arg("-p")
        .arg(server.data().join("pg_wal")));
    let text = String::from_utf8_lossy(&dump.stdout);
    assert!(
        text.contains("CHECKPOINT_SHUTDOWN") && text.contains("COMMIT"),
        "{text:.2000}"
    );
}

#[test]
fn psql_lists_databases_and_tables() {
    let server = Server::started();
    server.psql("CREATE TABLE first (a int)");
    assert!(server.psql("\\l").contains("template1|postgres|UTF8"));
    assert!(server.psql("\\dt").contains("public|first|table|postgres"));
}
