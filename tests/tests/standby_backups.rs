//! Base backups of standbys: whole, also where nothing is written; the copy follows the primary, as any other does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use understudy_tests::programs::{ours, postgres, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;
use understudy_tests::standby::eventually;

const SUM: &str = "SELECT count(*), sum(a), sum(length(b)) FROM t";

fn primary() -> Server {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 256MB");
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t SELECT g, repeat('x', 50) FROM generate_series(1, 2000) g");
    server
}

fn conninfo(server: &Server) -> String {
    format!("host=127.0.0.1 port={} user=postgres", server.port)
}

/// `understudy basebackup`, as a supervisor runs it.
fn our_backup(server: &Server, data: &Path) -> Command {
    let mut command = Command::new(ours("understudy"));
    command.args(["basebackup", "-X", "fetch", "-c", "fast", "-R", "-D"]);
    command.arg(data).args(["-d", &conninfo(server)]);
    command
}

fn is_of_a_standby(data: &Path) {
    let label = fs::read_to_string(data.join("backup_label")).expect("a copy has one");
    assert!(label.contains("BACKUP FROM: standby"), "{label}");
}

/// The copy, as a standby of the primary whatever it was taken of.
fn follower(data: &Path, primary: &Server, name: &str) -> Server {
    let mut copy = Server::over(data);
    copy.configure(&format!(
        "cluster_name = '{name}'\nprimary_conninfo = '{}'",
        conninfo(primary)
    ));
    // What was written by `-R` comes later and would win.
    fs::write(data.join("postgresql.auto.conf"), "").expect("ours");
    fs::write(data.join("standby.signal"), "").expect("ours");
    copy.start();
    primary.wait_for_stream(name);
    copy
}

fn has_sound_pages(mut server: Server) {
    server.stop(Stop::Fast);
    let mut check = Command::new(postgres("pg_checksums"));
    run_ok(check.arg("--check").arg("-D").arg(server.data()));
}

/// There will be no newer checkpoint to begin with, and no record to end with.
#[test]
fn a_standby_is_copied_although_nothing_is_written() {
    let primary = primary();
    let standby = primary.started_standby("s1");
    primary.wait_for_replay(&standby);
    let expected = primary.psql(SUM);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let theirs = dir.path().join("theirs");
    standby.base_backup(&theirs, &["-X", "fetch"]);
    run_ok(Command::new(postgres("pg_verifybackup")).arg(&theirs));
    let ours = dir.path().join("ours");
    run_ok(&mut our_backup(&standby, &ours));
    for (data, name) in [(&theirs, "theirs"), (&ours, "ours")] {
        is_of_a_standby(data);
        let copy = follower(data, &primary, name);
        assert_eq!(copy.psql(SUM), expected, "{name}");
        primary.psql(&format!("INSERT INTO t SELECT max(a) + 1, '{name}' FROM t"));
        primary.wait_for_replay(&copy);
        assert_eq!(copy.psql(SUM), primary.psql(SUM), "{name}");
        primary.psql(&format!("DELETE FROM t WHERE b = '{name}'"));
        has_sound_pages(copy);
    }
}

#[test]
fn a_standby_is_copied_while_rows_are_written() {
    let primary = primary();
    let standby = primary.started_standby("s1");
    for round in 0..rounds(2, 20) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("copy");
        let mut child = our_backup(&standby, &data).spawn().expect("it starts");
        let mut writes = 0;
        while child.try_wait().expect("our child").is_none() {
            primary.psql("INSERT INTO t SELECT max(a) + g, repeat('z', 100) FROM t, generate_series(1, 50) g GROUP BY g");
            primary.psql("UPDATE t SET b = b || '!' WHERE a % 7 = 0");
            writes += 1;
            // The standby's restartpoints come after these.
            if writes % 3 == 0 {
                primary.psql("CHECKPOINT");
            }
        }
        assert!(child.wait().expect("our child").success());
        is_of_a_standby(&data);
        let copy = follower(&data, &primary, &format!("copy{round}"));
        primary.wait_for_replay(&copy);
        assert_eq!(copy.psql(SUM), primary.psql(SUM), "round {round}");
        has_sound_pages(copy);
    }
}

#[test]
fn a_standby_that_is_promoted_meanwhile_gives_no_copy() {
    let primary = primary();
    let standby = primary.started_standby("s1");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = standby.tool("pg_basebackup");
    command.args(["-c", "fast", "-X", "fetch", "--max-rate=512k", "-D"]);
    let command = command.arg(dir.path().join("copy")).stderr(Stdio::piped());
    let backup = command.spawn().expect("it runs");
    let taken = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'";
    eventually("a base backup is under way", || {
        standby.psql(taken).trim() == "1"
    });
    assert_eq!(standby.psql("SELECT pg_promote()").trim(), "t");
    let output = backup.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let log = standby.log();
    let reason = "the standby was promoted during online backup";
    assert!(log.contains(reason), "{log}\n{said}");
    standby.psql("INSERT INTO t VALUES (-1, 'new')");
}
