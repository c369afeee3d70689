//! The archive, a standby that needs it, and queries in the way of replay.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;
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
    for n in 1..rounds(8, 60) {
        primary.psql(&format!(
            "UPDATE t SET b = 'round {n}' WHERE a % 8 = {n} % 8"
        ));
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
    // Without the archive it says why it cannot go on, and the primary's session is told apart from a broken one.
    let mut alone = primary.standby("alone");
    alone.start();
    primary.wait_for_stream("alone");
    alone.stop(Stop::Fast);
    let needed_alone = segment(&primary);
    for _ in 0..8 {
        primary.psql("UPDATE t SET b = 'later' WHERE a % 8 = 1");
        primary.psql("SELECT pg_switch_wal()");
    }
    eventually("the primary has let go of that too", || {
        primary.psql("CHECKPOINT");
        !primary.data().join("pg_wal").join(&needed_alone).exists()
    });
    alone.start();
    // Where that segment was whole, it is the next that it lacks.
    let said = "FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 0000";
    eventually("the standby says what it lacks", || {
        alone.log().contains(said)
    });
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

/// Until everything that the primary has now is in its archive and was replayed from there.
fn wait_for_replay_from_archive(primary: &Server, standby: &Server) {
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    primary.psql("SELECT pg_switch_wal()");
    let reached = format!(
        "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') >= 0",
        end.trim()
    );
    eventually("it comes from the archive", || {
        standby.psql(&reached).trim() == "t"
    });
}

#[test]
fn what_comes_from_the_archive_has_a_delay_of_its_own() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let primary = primary(archive.path());
    let mut standby = primary.standby("archived");
    // No stream.
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
    standby.configure(&format!(
        "primary_conninfo = ''\nrestore_command = 'cp {}/%f \"%p\"'\n\
         wal_retrieve_retry_interval = 200ms\n\
         max_standby_streaming_delay = -1\nmax_standby_archive_delay = 300ms",
        archive.path().display()
    ));
    standby.start();
    wait_for_replay_from_archive(&primary, &standby);
    let mut reader = standby.client();
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "500");
    primary.psql("DELETE FROM t WHERE a > 100");
    primary.psql("VACUUM t");
    wait_for_replay_from_archive(&primary, &standby);
    assert_eq!(standby.psql("SELECT count(*) FROM t").trim(), "100");
    terminated(&mut reader);
    // Without a limit replay waits, however little the stream's would be.
    standby.configure("max_standby_streaming_delay = 0\nmax_standby_archive_delay = -1");
    standby.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        standby.psql("SHOW max_standby_archive_delay").trim() == "-1"
    });
    let mut reader = standby.client();
    reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.value("SELECT count(*) FROM t"), "100");
    primary.psql("DELETE FROM t WHERE a > 10");
    primary.psql("VACUUM t");
    primary.psql("INSERT INTO t VALUES (1000, 'behind')");
    let last = segment(&primary);
    primary.psql("SELECT pg_switch_wal()");
    eventually("it is archived", || archive.path().join(&last).exists());
    // The standby asks for it several times in this while.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(reader.value("SELECT count(*) FROM t"), "100");
    let behind = "SELECT count(*) FROM t WHERE a = 1000";
    assert_eq!(standby.psql(behind).trim(), "0");
    reader.rows("COMMIT");
    wait_for_replay_from_archive(&primary, &standby);
    assert_eq!(standby.psql("SELECT count(*) FROM t").trim(), "11");
}

/// `archive_mode = always` archives on a standby too; with `on` only who writes the log himself does.
#[test]
fn a_standby_archives_what_it_receives_only_where_it_always_does() {
    let mut primary = Server::initdb();
    primary.configure("wal_keep_size = 256MB");
    primary.start();
    let standby = |name: &str, mode: &str| {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut standby = primary.standby(name);
        standby.configure(&format!(
            "archive_mode = {mode}\narchive_command = 'cp %p {}/%f'",
            folder.path().display()
        ));
        standby.start();
        primary.wait_for_stream(name);
        (standby, folder)
    };
    let (_always, received) = standby("archives", "always");
    let (on, own) = standby("waits", "on");
    primary.psql("CREATE TABLE t (a int)");
    let name = segment(&primary);
    primary.psql("SELECT pg_switch_wal()");
    primary.psql("INSERT INTO t VALUES (1)");
    primary.wait_for_replay(&on);
    let theirs = fs::read(primary.data().join("pg_wal").join(&name)).expect("kept");
    eventually("it is archived", || {
        fs::read(received.path().join(&name)).is_ok_and(|ours| ours == theirs)
    });
    let archived = || -> Vec<String> {
        let entries = fs::read_dir(own.path()).expect("a folder");
        let names = entries.map(|e| e.expect("readable").file_name());
        names.map(|n| n.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(archived(), [""; 0]);
    assert_eq!(on.psql("SELECT pg_promote()").trim(), "t");
    // Whoever follows by the archive looks for it, and no segment may be full for a long time.
    eventually("the new timeline's history is archived", || {
        archived().contains(&"00000002.history".to_owned())
    });
    on.psql("INSERT INTO t VALUES (2)");
    let name = segment(&on);
    assert!(name.starts_with("00000002"), "{name}");
    on.psql("SELECT pg_switch_wal()");
    eventually("its own log is archived", || archived().contains(&name));
}

/// With `always` what comes from an archive goes into this server's own as well.
#[test]
fn what_is_restored_is_archived_where_everything_is() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let own = tempfile::tempdir().expect("a temporary directory");
    let primary = primary(archive.path());
    let mut standby = primary.standby("restores");
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
    standby.configure(&format!(
        "primary_conninfo = ''\nrestore_command = 'cp {}/%f \"%p\"'\n\
         wal_retrieve_retry_interval = 200ms\n\
         archive_mode = always\narchive_command = 'test ! -f {1}/%f && cp %p {1}/%f'",
        archive.path().display(),
        own.path().display()
    ));
    standby.start();
    primary.psql("INSERT INTO t VALUES (1000, 'restored')");
    let name = segment(&primary);
    wait_for_replay_from_archive(&primary, &standby);
    eventually("it is archived once more", || {
        own.path().join(&name).exists()
    });
}

/// As PostgreSQL's, a server that is to end ends the command that it waits for.
#[test]
fn a_standby_stops_in_order_while_its_restore_command_hangs() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let mut primary = primary(archive.path());
    let mut standby = primary.standby("hangs");
    standby.configure("restore_command = 'false'\nwal_retrieve_retry_interval = 200ms");
    standby.start();
    primary.wait_for_stream("hangs");
    let begun = archive.path().join("begun");
    standby.configure(&format!(
        "restore_command = 'touch {}; exec sleep 1000'",
        begun.display()
    ));
    standby.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        standby.psql("SHOW restore_command").contains("sleep")
    });
    primary.stop(Stop::Fast);
    eventually("the command runs", || begun.exists());
    let status = standby.stop(Stop::Fast);
    assert!(status.success(), "{status}:\n{}", standby.log());
    standby.configure("restore_command = 'false'");
    primary.start();
    standby.start();
    primary.wait_for_stream("hangs");
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

/// A command that fails, gives garbage, another segment or half of one: nothing of it is replayed, what is right is
/// found elsewhere or later, and rows never go missing.
#[test]
fn what_an_archive_gives_is_looked_at() {
    let archive = tempfile::tempdir().expect("a temporary directory");
    let primary = primary(archive.path());
    // Where the archive gives nothing that is right, the primary still has it.
    primary.configure("wal_keep_size = 2GB");
    primary.psql("SELECT pg_reload_conf()");
    let mut standby = primary.standby("wary");
    for n in 0..rounds(4, 40) {
        primary.psql(&format!(
            "UPDATE t SET b = 'round {n}' WHERE a % 8 = {n} % 8"
        ));
        primary.psql("SELECT pg_switch_wal()");
    }
    let last = segment(&primary);
    eventually("everything up to here is archived", || {
        let mut names: Vec<_> = fs::read_dir(archive.path())
            .expect("a folder")
            .map(|e| {
                e.expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|n| n.len() == 24)
            .collect();
        names.sort();
        names.last().is_some_and(|name| {
            u64::from_str_radix(name, 16).ok().map(|n| n + 1) >= u64::from_str_radix(&last, 16).ok()
        })
    });
    // `wrong` holds what each command gives out.
    let wrong = tempfile::tempdir().expect("a temporary directory");
    let good = archive.path().display().to_string();
    let mut names: Vec<_> = fs::read_dir(archive.path())
        .expect("a folder")
        .map(|e| {
            e.expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|n| n.len() == 24)
        .collect();
    names.sort();
    let other = archive.path().join(&names[0]).display().to_string();
    let garbage = wrong.path().join("garbage");
    fs::write(&garbage, vec![0xA5; 16 << 20]).expect("ours");
    let garbage = garbage.display().to_string();
    for (what, command) in [
        ("fails", "exit 1".to_owned()),
        ("says yes and gives nothing", "true".to_owned()),
        ("garbage", format!("cp {garbage} \"%p\"")),
        ("another segment", format!("cp {other} \"%p\"")),
        (
            "half a segment",
            format!("head -c 8000000 {good}/%f > \"%p\""),
        ),
        ("an empty file", ": > \"%p\"".to_owned()),
    ] {
        // Of histories it has none: who is told of every timeline that there is one looks for ever.
        standby.configure(&format!(
            "restore_command = 'case %f in *.history) exit 1;; esac; {command}'"
        ));
        standby.start();
        primary.wait_for_replay(&standby);
        let sum = "SELECT b, count(*) FROM t GROUP BY b ORDER BY b";
        assert_eq!(primary.psql(sum), standby.psql(sum), "{what}");
        standby.stop(Stop::Fast);
        primary.psql(&format!("INSERT INTO t SELECT max(a) + 1, '{what}' FROM t"));
        primary.psql("SELECT pg_switch_wal()");
        primary.psql("INSERT INTO t SELECT max(a) + 1, 'more' FROM t");
    }
    // With nothing but the archive to go by: a fault in the middle of it is waited out, not skipped.
    let middle = wrong.path().join("middle");
    run_ok(
        Command::new("cp")
            .arg("-r")
            .arg(archive.path())
            .arg(&middle),
    );
    standby.configure(&format!(
        "primary_conninfo = ''\nrestore_command = 'cp {}/%f \"%p\"'\nwal_retrieve_retry_interval = 200ms",
        middle.display()
    ));
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
    standby.start();
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    primary.psql("SELECT pg_switch_wal()");
    eventually("what is new is archived", || {
        run_ok(
            Command::new("cp")
                .arg("-r")
                .arg(format!("{good}/."))
                .arg(&middle),
        );
        let reached = format!(
            "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') >= 0",
            end.trim()
        );
        standby.psql(&reached).trim() == "t"
    });
    let sum = "SELECT b, count(*) FROM t GROUP BY b ORDER BY b";
    assert_eq!(primary.psql(sum), standby.psql(sum));
}

/// A command that hangs holds up the end of a server in order; who asks for more haste gets it.
#[test]
fn an_immediate_stop_waits_for_no_archive_command() {
    let mut server = Server::initdb();
    server.configure("archive_mode = on\narchive_command = 'sleep 100'");
    server.start();
    server.psql("SELECT pg_switch_wal()");
    server.signal(Signal::INT);
    eventually("the last checkpoint is made", || {
        let control = run_ok(Command::new(postgres("pg_controldata")).arg(server.data()));
        let state = control
            .lines()
            .find_map(|l| l.strip_prefix("Database cluster state:"));
        state.map(str::trim) == Some("shut down")
    });
    let early = server.exit_status();
    assert!(early.is_none(), "{early:?}:\n{}", server.log());
    let status = server.stop(Stop::Immediate);
    assert!(status.success(), "{status}:\n{}", server.log());
    assert!(!server.data().join("postmaster.pid").exists());
}
