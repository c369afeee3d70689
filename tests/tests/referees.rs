//! PostgreSQL's own programs over our files. (Base backups and received log: `base_backup`.)

use std::fs;
use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{as_postgres, free_port, ours, postgres, run, run_ok};
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

fn control_data(data: &Path) -> String {
    run_ok(Command::new(postgres("pg_controldata")).arg(data))
}

/// What PostgreSQL's own control file says of a cluster with the same settings.
fn as_postgresql_has_it(running: &str) {
    let reference = Reference::started();
    let theirs = control_data(&reference.data());
    for name in [
        "pg_control version number",
        "Latest checkpoint's TimeLineID",
        "Latest checkpoint's PrevTimeLineID",
        "Latest checkpoint's full_page_writes",
        "Latest checkpoint's NextMultiXactId",
        "Latest checkpoint's NextMultiOffset",
        "Latest checkpoint's oldestMultiXid",
        "Latest checkpoint's oldestMulti's DB",
        "Latest checkpoint's oldestCommitTsXid",
        "Latest checkpoint's newestCommitTsXid",
        "Fake LSN counter for unlogged rels",
        "Minimum recovery ending location",
        "Min recovery ending loc's timeline",
        "Backup start location",
        "Backup end location",
        "End-of-backup record required",
        "wal_level setting",
        "wal_log_hints setting",
        "max_connections setting",
        "max_worker_processes setting",
        "max_wal_senders setting",
        "max_prepared_xacts setting",
        "max_locks_per_xact setting",
        "track_commit_timestamp setting",
        "Maximum data alignment",
        "Database block size",
        "Blocks per segment of large relation",
        "WAL block size",
        "Bytes per WAL segment",
        "Maximum length of identifiers",
        "Maximum columns in an index",
        "Maximum size of a TOAST chunk",
        "Size of a large-object chunk",
        "Date/time type storage",
        "Float8 argument passing",
        "Data page checksum version",
    ] {
        assert_eq!(field(running, name), field(&theirs, name), "{name}");
    }
    let catalog = "Catalog version number";
    assert_ne!(field(running, catalog), field(&theirs, catalog));
    let other = "Database system identifier";
    assert_ne!(field(running, other), field(&theirs, other));
}

/// The fields that are of this cluster only.
fn of_its_own(running: &str) {
    let number = |name: &str| -> u64 {
        let value = field(running, name);
        let last = value.rsplit(':').next().expect("one part at least");
        last.parse()
            .unwrap_or_else(|e| panic!("{name} {value}: {e}"))
    };
    assert!(number("Latest checkpoint's NextXID") >= 3);
    assert!(number("Latest checkpoint's NextOID") >= 16384);
    let oldest = number("Latest checkpoint's oldestXID");
    assert!((3..=number("Latest checkpoint's NextXID")).contains(&oldest));
    assert!(number("Latest checkpoint's oldestXID's DB") > 0);
    assert!(number("Latest checkpoint's oldestActiveXID") <= number("Latest checkpoint's NextXID"));
    for name in ["pg_control last modified", "Time of latest checkpoint"] {
        let time = field(running, name);
        assert!(!time.is_empty() && !time.contains("1970"), "{name}: {time}");
    }
    let nonce = field(running, "Mock authentication nonce");
    let is_hexadecimal = nonce.len() == 64 && nonce.chars().all(|c| c.is_ascii_hexdigit());
    assert!(is_hexadecimal && nonce.chars().any(|c| c != '0'), "{nonce}");
}

#[test]
fn controldata_says_what_is_true() {
    let mut server = Server::started();
    let read = |server: &Server| control_data(server.data());
    let running = read(&server);
    assert_eq!(field(&running, "Database cluster state"), "in production");
    assert_eq!(field(&running, "max_connections setting"), "100");
    assert_eq!(field(&running, "Data page checksum version"), "1");
    as_postgresql_has_it(&running);
    of_its_own(&running);
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
    // Not for a setting that it does not know.
    let no_settings = |data: &Path| {
        for name in ["postgresql.conf", "postgresql.auto.conf"] {
            fs::write(data.join(name), "").expect("ours");
        }
    };
    no_settings(&copy);
    if rustix::process::geteuid().is_root() {
        run_ok(Command::new("chown").args(["-R", "postgres"]).arg(&copy));
    }
    let refused = run(as_postgres(&postgres("postgres")).arg("-D").arg(&copy));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    let refusal = |said: &str| {
        let words = [
            "FATAL:  ",
            "database files are incompatible with server",
            "CATALOG_VERSION_NO",
        ];
        words.iter().all(|words| said.contains(words))
    };
    assert!(refusal(&said), "{said}");

    let reference = Reference::started();
    let stop = |mode: &str| {
        let mut stop = as_postgres(&postgres("pg_ctl"));
        run_ok(
            stop.args(["stop", "-w", "-s", "-m", mode, "-D"])
                .arg(reference.data()),
        );
    };
    stop("fast");
    // A copy belongs to who makes it.
    let theirs = readable.path().join("theirs");
    run_ok(
        Command::new("cp")
            .arg("-R")
            .arg(reference.data())
            .arg(&theirs),
    );
    no_settings(&theirs);
    let refused = run(Command::new(ours("understudy"))
        .args(["postgres", "-D"])
        .arg(&theirs)
        .args(["-c", &format!("port={}", free_port())])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", theirs.display())));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(refusal(&said), "{said}");
}
