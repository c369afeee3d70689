//! PostgreSQL's own programs over our files. (Base backups and received log: `base_backup`.)

use std::process::Command;

use understudy_tests::programs::{as_postgres, ours, postgres, run, run_ok};
use understudy_tests::reference::Reference;
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;

/// Statements that leave many kinds of records.
fn work(server: &Server) {
    for sql in [
        "CREATE TABLE t (a int PRIMARY KEY, b text, c numeric)",
        "INSERT INTO t SELECT g, repeat('x', g % 300), g FROM generate_series(1, 3000) g",
        "CREATE INDEX t_c ON t (c)",
        "UPDATE t SET c = c + 1 WHERE a % 3 = 0",
        "UPDATE t SET b = repeat('long', 5000) WHERE a < 20",
        "DELETE FROM t WHERE a % 5 = 0",
        "VACUUM t",
        "CREATE SEQUENCE s; SELECT nextval('s') FROM generate_series(1, 100)",
        "CREATE TABLE gone (a int); DROP TABLE gone",
        "CREATE DATABASE other",
        "CHECKPOINT",
        "BEGIN; INSERT INTO t VALUES (-1); SAVEPOINT p; INSERT INTO t VALUES (-2); ROLLBACK TO p; COMMIT",
        "BEGIN; INSERT INTO t VALUES (-3); ROLLBACK",
        "TRUNCATE t",
        "DROP DATABASE other",
        "SELECT pg_switch_wal()",
        "INSERT INTO t SELECT g FROM generate_series(1, 1000) g",
    ] {
        for statement in sql.split("; ").filter(|_| !sql.starts_with("BEGIN")) {
            server.psql(statement);
        }
        if sql.starts_with("BEGIN") {
            server.psql(sql);
        }
    }
}

#[test]
fn waldump_reads_everything_without_a_complaint_and_checksums_hold() {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 4GB");
    server.start();
    work(&server);
    for _ in 1..rounds(1, 20) {
        server.stop(Stop::Kill);
        server.start();
        server.psql("DROP TABLE t; DROP SEQUENCE s");
        work(&server);
    }
    let dump = |server: &Server| {
        let end = server.psql("SELECT pg_current_wal_flush_lsn()");
        let output = run(Command::new(postgres("pg_waldump"))
            .args(["-s", "0/1000028", "-e", end.trim(), "-p"])
            .arg(server.data().join("pg_wal")));
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && complaints.is_empty(),
            "{complaints}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = dump(&server);
    for word in [
        "CHECKPOINT_ONLINE",
        "COMMIT",
        "ABORT",
        "SWITCH",
        "FPW",
        "CREATE base/",
        "custom128",
        "custom129",
        "custom130",
    ] {
        assert!(
            text.contains(word),
            "no {word} among {} records",
            text.lines().count()
        );
    }
    server.stop(Stop::Kill);
    server.start();
    server.psql("INSERT INTO t VALUES (-10)");
    assert!(dump(&server).contains("END_OF_RECOVERY"));
    assert!(server.stop(Stop::Fast).success());
    let checked = run_ok(
        Command::new(postgres("pg_checksums"))
            .args(["--check", "-D"])
            .arg(server.data()),
    );
    assert!(checked.contains("Bad checksums:  0"), "{checked}");
}

/// The value of a field as `pg_controldata` prints it.
fn field<'a>(control: &'a str, name: &str) -> &'a str {
    let line = control
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no field {name}: {control}"))
        .trim()
}

#[test]
fn controldata_says_what_is_true() {
    let mut server = Server::started();
    let read =
        |server: &Server| run_ok(Command::new(postgres("pg_controldata")).arg(server.data()));
    let running = read(&server);
    assert_eq!(field(&running, "Database cluster state"), "in production");
    for (name, value) in [
        ("pg_control version number", "1300"),
        ("Latest checkpoint's TimeLineID", "1"),
        ("Latest checkpoint's PrevTimeLineID", "1"),
        ("Latest checkpoint's full_page_writes", "on"),
        ("wal_level setting", "replica"),
        ("max_connections setting", "100"),
        ("max_wal_senders setting", "10"),
        ("Maximum data alignment", "8"),
        ("Database block size", "8192"),
        ("Blocks per segment of large relation", "131072"),
        ("WAL block size", "8192"),
        ("Bytes per WAL segment", "16777216"),
        ("Maximum length of identifiers", "64"),
        ("Maximum columns in an index", "32"),
        ("Data page checksum version", "1"),
        ("Minimum recovery ending location", "0/0"),
        ("Backup start location", "0/0"),
        ("End-of-backup record required", "no"),
    ] {
        assert_eq!(field(&running, name), value, "{name}");
    }
    let system: u64 = field(&running, "Database system identifier")
        .parse()
        .expect("a number");
    assert!(system > 0);
    server.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let xid = server.psql("SELECT xmin FROM t");
    assert!(server.stop(Stop::Fast).success());
    let stopped = read(&server);
    assert_eq!(field(&stopped, "Database cluster state"), "shut down");
    let next = field(&stopped, "Latest checkpoint's NextXID");
    let next: u64 = next
        .rsplit(':')
        .next()
        .expect("epoch:xid")
        .parse()
        .expect("a number");
    assert!(
        next > xid.trim().parse().expect("a number"),
        "{next} after {xid}"
    );
    let (redo, at) = (
        field(&stopped, "Latest checkpoint's REDO location"),
        field(&stopped, "Latest checkpoint location"),
    );
    assert_eq!(redo, at, "nothing is logged beside a shutdown checkpoint");
    let segment = field(&stopped, "Latest checkpoint's REDO WAL file");
    assert!(server.data().join("pg_wal").join(segment).exists());
}

#[test]
fn isready_tells_the_states_apart() {
    let mut server = Server::started();
    let code = |server: &Server| run(&mut server.tool("pg_isready")).status.code();
    assert_eq!(code(&server), Some(0));
    server.stop(Stop::Fast);
    assert_eq!(code(&server), Some(2));
}

#[test]
fn neither_server_starts_over_the_others_directory() {
    let mut server = Server::started();
    server.stop(Stop::Fast);
    let readable = tempfile::tempdir().expect("a temporary directory");
    run_ok(Command::new("chmod").arg("0755").arg(readable.path()));
    let copy = readable.path().join("data");
    run_ok(Command::new("cp").arg("-a").arg(server.data()).arg(&copy));
    if rustix::process::geteuid().is_root() {
        run_ok(Command::new("chown").args(["-R", "postgres"]).arg(&copy));
    }
    let refused = run(as_postgres(&postgres("postgres")).arg("-D").arg(&copy));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("database files are incompatible with server")
            || said.contains("unrecognized configuration parameter"),
        "{said}"
    );

    let reference = Reference::started();
    let stop = |mode: &str| {
        let mut stop = as_postgres(&postgres("pg_ctl"));
        run_ok(
            stop.args(["stop", "-w", "-s", "-m", mode, "-D"])
                .arg(reference.data()),
        );
    };
    stop("fast");
    let refused = run(Command::new(ours("understudy"))
        .args(["postgres", "-D"])
        .arg(reference.data()));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("FATAL:  "), "{said}");
}
