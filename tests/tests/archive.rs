//! The archive, a standby that needs it, and queries in the way of replay.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

fn primary(archive: &Path) -> Server {
    let mut server = Server::initdb();
    server.configure(&format!(
        "archive_mode = on\narchive_command = 'cp %p {}/%f'\nmin_wal_size = 32MB",
        archive.display()
    ));
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 500) g");
    server
}

fn segment(server: &Server) -> String {
    let name = server.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    name.trim().to_owned()
}

#[test]
fn a_standby_that_fell_behind_catches_up_from_the_archive_and_streams_again() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let primary = primary(archive.path());
    let mut standby = primary.standby("behind");
    standby.configure(&format!(
        "restore_command = 'cp {}/%f \"%p\"'",
        archive.path().display()
    ));
    standby.start();
    primary.wait_for_stream("behind");
    standby.stop(Stop::Fast);
    let needed = segment(&primary);
    for n in 1..8 {
        primary.psql(&format!("UPDATE t SET b = 'round {n}' WHERE a % 8 = {n}"));
        primary.psql("SELECT pg_switch_wal()");
    }
    eventually("the primary has let go of what the standby needs", || {
        primary.psql("CHECKPOINT");
        !primary.data().join("pg_wal").join(&needed).exists()
    });
    standby.start();
    primary.wait_for_replay(&standby);
    primary.wait_for_stream("behind");
    let log = standby.log();
    assert!(
        log.contains(&format!("restored log file \"{needed}\" from archive")),
        "{log}"
    );
    let sum = "SELECT b, count(*) FROM t GROUP BY b ORDER BY b";
    assert_eq!(primary.psql(sum), standby.psql(sum));
    primary.psql("INSERT INTO t VALUES (-1, 'streamed')");
    primary.wait_for_replay(&standby);
    assert_eq!(standby.psql("SELECT min(a) FROM t").trim(), "-1");
}

#[test]
fn what_is_old_is_archived_and_a_command_that_fails_is_tried_again() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::initdb();
    server.configure("archive_mode = on\narchive_command = 'false'\narchive_timeout = 1s");
    server.start();
    server.psql("CREATE TABLE t (a int)");
    let first = segment(&server);
    eventually("it is ready to be archived", || {
        let status = server.data().join("pg_wal/archive_status");
        status.join(format!("{first}.ready")).exists()
    });
    eventually("the failure is reported", || {
        server.log().contains("archive command failed")
    });
    server.configure(&format!(
        "archive_command = 'test ! -f {0}/%f && cp %p {0}/%f'",
        archive.path().display()
    ));
    server.psql("SELECT pg_reload_conf()");
    eventually("it is archived", || archive.path().join(&first).exists());
    eventually("that is noted", || {
        let status = server.data().join("pg_wal/archive_status");
        status.join(format!("{first}.done")).exists()
    });
    let ours = fs::read(server.data().join("pg_wal").join(&first)).expect("kept");
    let theirs = fs::read(archive.path().join(&first)).expect("archived");
    assert!(ours == theirs, "{first} differs");
}

#[test]
fn queries_in_the_way_of_replay_are_cancelled_when_their_time_is_up() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let primary = primary(archive.path());
    let mut standby = primary.standby("patient");
    standby.configure("max_standby_streaming_delay = 300ms");
    standby.start();
    primary.wait_for_stream("patient");
    // A snapshot that needs what a vacuum removes.
    let mut reader = standby.client();
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    primary.psql("DELETE FROM t WHERE a > 100");
    primary.psql("VACUUM t");
    primary.wait_for_replay(&standby);
    assert_eq!(standby.psql("SELECT count(*) FROM t").trim(), "100");
    terminated(&mut reader);
    // A lock that stands against the primary's.
    let mut reader = standby.client();
    reader.rows("BEGIN");
    reader.rows("LOCK TABLE t IN ACCESS SHARE MODE");
    primary.psql("ALTER TABLE t ADD COLUMN c int");
    primary.wait_for_replay(&standby);
    terminated(&mut reader);
}

/// An idle transaction in replay's way ends with its session.
fn terminated(client: &mut Client) {
    let mut said = Vec::new();
    // The server has closed the connection by now, or does so.
    let _ = client.raw().read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("C40001\0")
            && said.contains("terminating connection due to conflict with recovery"),
        "{said}"
    );
}
