//! Streaming standbys: what they show, what they refuse, restarts of either side, promotion, following the switch.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use understudy_tests::cutter::Cutter;
use understudy_tests::programs::{ours, postgres, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{rounds, seeded};
use understudy_tests::standby::eventually;

fn primary() -> Server {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 256MB");
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t VALUES (1, 'one')");
    server
}

fn follow(standby: &Server, upstream: &Server) {
    standby.configure(&format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'",
        upstream.port
    ));
    // What pg_basebackup wrote comes later and would win.
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
}

#[test]
fn a_standby_shows_new_rows_and_refuses_writes() {
    let primary = primary();
    let standby = primary.started_standby("s1");
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()").trim(), "t");
    for n in 2..20 {
        primary.psql(&format!("INSERT INTO t VALUES ({n}, 'row')"));
        primary.wait_for_replay(&standby);
        assert_eq!(standby.psql("SELECT max(a) FROM t").trim(), n.to_string());
    }
    let mut client = standby.client();
    for (sql, what) in [
        (
            "INSERT INTO t VALUES (100, 'no')",
            "INSERT in a read-only transaction",
        ),
        (
            "CREATE TABLE u (a int)",
            "CREATE TABLE in a read-only transaction",
        ),
        ("UPDATE t SET b = 'no'", "UPDATE in a read-only transaction"),
        ("VACUUM t", "VACUUM during recovery"),
    ] {
        let error = client.error(sql);
        assert_eq!(error.state, "25006", "{sql}");
        assert_eq!(error.message, format!("cannot execute {what}"), "{sql}");
    }
    let log = standby.log();
    assert!(
        log.contains("LOG:  streaming replication successfully connected to primary"),
        "{log}"
    );
    // DDL is followed by sessions that have used the old definition.
    client.rows("SELECT * FROM t");
    primary.psql("ALTER TABLE t ADD COLUMN c int DEFAULT 7");
    primary.wait_for_replay(&standby);
    assert_eq!(client.value("SELECT sum(c) FROM t"), (19 * 7).to_string());
}

#[test]
fn restarts_of_either_side_resume_without_a_gap() {
    let mut primary = primary();
    let mut standby = primary.started_standby("s1");
    let every = [
        ("primary", Stop::Fast),
        ("standby", Stop::Fast),
        ("primary", Stop::Kill),
        ("standby", Stop::Kill),
        ("standby", Stop::Immediate),
        ("primary", Stop::Immediate),
    ];
    let (seed, mut random) = seeded();
    let more = rounds(0, 60);
    let drawn = (0..more).map(|_| every[random.random_range(0..every.len())]);
    for (next, (who, how)) in (2..).zip(every.into_iter().chain(drawn)) {
        primary.psql(&format!("INSERT INTO t VALUES ({next}, 'before')"));
        if who == "primary" {
            primary.stop(how);
            primary.start();
        } else {
            standby.stop(how);
            primary.psql(&format!("INSERT INTO t VALUES (-{next}, 'meanwhile')"));
            primary.psql("SELECT pg_switch_wal()");
            standby.start();
        }
        primary.psql(&format!("UPDATE t SET b = 'after' WHERE a = {next}"));
        primary.wait_for_stream("s1");
        primary.wait_for_replay(&standby);
        let sum = "SELECT count(*), sum(a), min(b) FROM t";
        assert_eq!(
            primary.psql(sum),
            standby.psql(sum),
            "{how:?} of the {who}, UNDERSTUDY_SEED={seed}"
        );
    }
}

#[test]
fn a_trigger_file_ends_in_a_writable_primary_that_others_follow() {
    let mut primary = primary();
    let mut first = primary.standby("first");
    let trigger = first.data().with_extension("trigger");
    first.configure(&format!("promote_trigger_file = '{}'", trigger.display()));
    first.start();
    let mut second = primary.standby("second");
    follow(&second, &first);
    second.start();
    primary.wait_for_stream("first");
    first.wait_for_stream("second");
    primary.psql("INSERT INTO t VALUES (2, 'last')");
    primary.wait_for_replay(&first);
    primary.stop(Stop::Kill);
    fs::write(&trigger, "").expect("ours");
    let took = first.wait_until_writable("INSERT INTO t VALUES (3, 'new')");
    eprintln!("trigger file to first write: {took:?}");
    assert!(took < Duration::from_secs(20));
    assert!(!trigger.exists());
    assert!(!first.data().join("standby.signal").exists());
    let history = fs::read_to_string(first.data().join("pg_wal/00000002.history"));
    assert!(history.expect("written").starts_with("1\t0/"));
    first.wait_for_replay(&second);
    assert_eq!(second.psql("SELECT count(*), sum(a) FROM t").trim(), "3|6");
    // And it still does after a restart of both.
    first.stop(Stop::Kill);
    second.stop(Stop::Kill);
    first.start();
    second.start();
    first.psql("INSERT INTO t VALUES (4, 'newer')");
    first.wait_for_replay(&second);
    assert_eq!(second.psql("SELECT max(a) FROM t").trim(), "4");
}

#[test]
fn a_standby_follows_the_timelines_that_it_is_told_to() {
    let mut primary = primary();
    let first = primary.started_standby("first");
    let targets = [("latest", 2), ("current", 1), ("1", 1), ("2", 2)];
    let standbys = targets.map(|(target, rows)| (primary.standby("other"), target, rows));
    let mut lost = primary.standby("lost");
    primary.wait_for_replay(&first);
    primary.stop(Stop::Kill);
    assert_eq!(first.psql("SELECT pg_promote()").trim(), "t");
    first.wait_until_writable("INSERT INTO t VALUES (2, 'new')");
    let history = "pg_wal/00000002.history";
    let follows = |standby: &Server, target: &str| {
        follow(standby, &first);
        standby.configure(&format!("recovery_target_timeline = '{target}'"));
        // One that is named has to be known at the start; no archive has it here.
        if target == "2" {
            fs::copy(first.data().join(history), standby.data().join(history)).expect("copied");
        }
    };
    for (mut standby, target, rows) in standbys {
        follows(&standby, target);
        standby.start();
        if rows == 2 {
            first.wait_for_replay(&standby);
        } else {
            let ends = [
                "end of WAL reached on timeline 1",
                "primary server contains no more WAL on requested timeline 1",
            ];
            eventually("it has all of its own timeline", || {
                let log = standby.log();
                ends.iter().any(|end| log.contains(end))
            });
            // And asks again.
            std::thread::sleep(Duration::from_secs(2));
        }
        let count = standby.psql("SELECT count(*) FROM t");
        assert_eq!(
            count.trim(),
            rows.to_string(),
            "{target}:\n{}",
            standby.log()
        );
        assert_eq!(standby.psql("SELECT pg_is_in_recovery()").trim(), "t");
        let turned = standby.log().contains("new target timeline");
        assert!(
            target == "latest" || !turned,
            "{target}:\n{}",
            standby.log()
        );
    }
    follows(&lost, "7");
    lost.launch();
    eventually("it ends", || lost.exit_status().is_some());
    let said = "recovery target timeline 7 does not exist";
    assert!(lost.log().contains(said), "{}", lost.log());
}

/// A switchover by hand: the stopped primary's log ends where its standby's does, so that each may follow the other.
#[test]
fn a_stop_gives_standbys_the_whole_log_and_waits_for_no_base_backup() {
    let mut primary = primary();
    let standby = primary.started_standby("s1");
    let target = tempfile::tempdir().expect("a temporary directory");
    let mut command = primary.tool("pg_basebackup");
    command.args(["-c", "fast", "-X", "none", "--max-rate=32k", "-D"]);
    command.arg(target.path().join("copy"));
    let backup = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let taken = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'";
    eventually("a base backup is under way", || {
        primary.psql(taken).trim() == "1"
    });
    primary.psql("INSERT INTO t VALUES (2, 'last')");
    let status = primary.stop(Stop::Fast);
    assert!(status.success(), "{status}:\n{}", primary.log());
    let output = backup.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    // In the middle of a file pg_basebackup 15 says nothing but that the stream has ended.
    let reason = "FATAL:  terminating connection due to administrator command";
    let log = primary.log();
    assert!(log.contains(reason), "{log}\n{said}");
    let control = run_ok(Command::new(postgres("pg_controldata")).arg(primary.data()));
    let field = |name: &str| {
        let line = control.lines().find_map(|l| l.strip_prefix(name));
        line.expect(name).trim().to_owned()
    };
    assert_eq!(field("Database cluster state:"), "shut down");
    let checkpoint = field("Latest checkpoint location:");
    let has_it = format!("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '{checkpoint}') > 0");
    assert_eq!(standby.psql(&has_it).trim(), "t", "{checkpoint}");
    standby.psql("SELECT pg_promote()");
    standby.psql("INSERT INTO t VALUES (3, 'new')");
    follow(&primary, &standby);
    fs::write(primary.data().join("standby.signal"), "").expect("ours");
    primary.start();
    standby.wait_for_replay(&primary);
    let all = primary.psql("SELECT count(*), sum(a) FROM t");
    assert_eq!(all.trim(), "3|6");
}

/// A copy by tar may have brought it, and a server that was killed may not have seen it.
#[test]
fn a_request_to_promote_that_was_there_before_the_start_is_forgotten() {
    let primary = primary();
    let mut standby = primary.standby("s1");
    let request = standby.data().join("promote");
    fs::write(&request, "").expect("ours");
    standby.start();
    primary.wait_for_stream("s1");
    assert!(!request.exists());
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()").trim(), "t");
}

#[test]
fn a_reload_of_where_the_primary_is_begins_another_stream() {
    let primary = primary();
    let standby = primary.started_standby("s1");
    let conninfo = format!(
        "host=127.0.0.1 port={} user=postgres application_name=renamed",
        primary.port
    );
    standby.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
    standby.psql("SELECT pg_reload_conf()");
    primary.wait_for_stream("renamed");
    let log = standby.log();
    assert!(
        log.contains("LOG:  WAL receiver process shutdown requested"),
        "{log}"
    );
    let streams = "SELECT count(*) FROM pg_stat_replication";
    eventually("the old stream has gone", || {
        primary.psql(streams).trim() == "1"
    });
    primary.psql("INSERT INTO t VALUES (2, 'by the new stream')");
    primary.wait_for_replay(&standby);
    assert_eq!(standby.psql("SELECT max(a) FROM t").trim(), "2");
    // What has nothing to do with it leaves the stream alone.
    standby.psql("ALTER SYSTEM SET log_checkpoints = off");
    standby.psql("SELECT pg_reload_conf()");
    let reloads = || {
        let log = standby.log();
        let count = |text: &str| log.matches(text).count();
        (
            count("reloading configuration files"),
            count("process shutdown requested"),
        )
    };
    eventually("it is reloaded", || reloads().0 == 2);
    assert_eq!(reloads().1, 1, "{}", standby.log());
}

#[test]
fn pg_ctl_and_pg_promote_promote() {
    let primary = primary();
    let one = primary.started_standby("one");
    run_ok(
        Command::new(ours("understudy"))
            .args(["pg_ctl", "promote", "-w", "-D"])
            .arg(one.data()),
    );
    one.psql("INSERT INTO t VALUES (2, 'one')");
    let two = primary.started_standby("two");
    assert_eq!(two.psql("SELECT pg_promote()").trim(), "t");
    two.psql("INSERT INTO t VALUES (2, 'two')");
    assert_eq!(two.psql("SELECT pg_is_in_recovery()").trim(), "f");
    let again = two.client().error("SELECT pg_promote()");
    assert_eq!(again.state, "55000");
}

#[test]
fn recovery_conf_becomes_recovery_done() {
    let primary = primary();
    let mut standby = primary.standby("old");
    fs::remove_file(standby.data().join("standby.signal")).expect("-R wrote it");
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
    let trigger = standby.data().with_extension("trigger");
    let conf = format!(
        "standby_mode = 'on'\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres'\ntrigger_file = '{}'\n",
        primary.port,
        trigger.display()
    );
    fs::write(standby.data().join("recovery.conf"), &conf).expect("ours");
    standby.start();
    primary.wait_for_stream("old");
    fs::write(&trigger, "").expect("ours");
    standby.wait_until_writable("INSERT INTO t VALUES (2, 'new')");
    assert!(!standby.data().join("recovery.conf").exists());
    let done = fs::read_to_string(standby.data().join("recovery.done"));
    assert_eq!(done.expect("renamed"), conf);
    standby.stop(Stop::Fast);
    standby.start();
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()").trim(), "f");
    let control = run_ok(Command::new(postgres("pg_controldata")).arg(standby.data()));
    let line = control
        .lines()
        .find(|l| l.starts_with("Latest checkpoint's TimeLineID:"));
    assert!(line.is_some_and(|l| l.ends_with(" 2")), "{control}");
    eventually("the old primary goes on by itself", || {
        primary.psql("SELECT count(*) FROM t").trim() == "1"
    });
}

/// In PostgreSQL's words; and it streams once the name is right.
#[test]
fn a_stream_that_is_refused_is_told_with_its_reason() {
    let primary = primary();
    let mut standby = primary.standby("refused");
    standby.configure("primary_slot_name = 'nobody'\nwal_retrieve_retry_interval = 100ms");
    standby.start();
    let said =
        "FATAL:  could not start WAL streaming: ERROR:  replication slot \"nobody\" does not exist";
    eventually(said, || standby.log().contains(said));
    standby.configure("primary_slot_name = ''");
    standby.psql("SELECT pg_reload_conf()");
    primary.psql("INSERT INTO t VALUES (2, 'two')");
    primary.wait_for_replay(&standby);
}

/// The connection is lost after any number of bytes, again and again, while the primary is written and, in the long
/// form, while either side dies.
#[test]
fn a_stream_that_is_cut_at_any_byte_goes_on_without_a_gap() {
    let (seed, mut random) = seeded();
    let mut primary = primary();
    // So many cuts hold a standby up for long.
    primary.configure("wal_keep_size = 4GB");
    primary.psql("SELECT pg_reload_conf()");
    let mut lengths = random.clone();
    let cutter = Cutter::before(primary.port, move || match lengths.random_range(0..3) {
        0 => lengths.random_range(1..2_000),
        1 => lengths.random_range(1..40_000),
        _ => lengths.random_range(1..400_000),
    });
    let mut standby = primary.standby("cut");
    standby.configure(&format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'\nwal_retrieve_retry_interval = 10ms",
        cutter.port
    ));
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("ours");
    standby.start();
    for round in 1..=rounds(12, 400) {
        let rows = random.random_range(1..400);
        primary.psql(&format!(
            "INSERT INTO t SELECT {round} * 1000 + g, repeat('x', g) FROM generate_series(1, {rows}) g"
        ));
        primary.psql("UPDATE t SET b = b || 'y' WHERE a % 50 = 0");
        if round % 5 == 0 {
            primary.psql("SELECT pg_switch_wal()");
        }
        if round % 8 == 0 && rounds(0, 1) > 0 {
            let (who, how) = match random.random_range(0..3) {
                0 => (&mut primary, Stop::Kill),
                1 => (&mut standby, Stop::Kill),
                _ => (&mut standby, Stop::Fast),
            };
            who.stop(how);
            who.start();
        }
    }
    // How often it was cut by now is the machine's matter.
    eventually("more cuts", || {
        primary.psql(
            "INSERT INTO t SELECT (SELECT max(a) FROM t) + g, repeat('x', 400) FROM generate_series(1, 100) g",
        );
        cutter.cuts() > 5
    });
    cutter.calm();
    primary.wait_for_replay(&standby);
    let sum = "SELECT count(*), sum(a), sum(length(b)) FROM t";
    assert_eq!(
        primary.psql(sum),
        standby.psql(sum),
        "UNDERSTUDY_SEED={seed}"
    );
    assert_eq!(
        standby
            .psql("SELECT count(*) FROM understudy_check()")
            .trim(),
        "0",
        "UNDERSTUDY_SEED={seed}"
    );
}

/// In the long form again and again, each time the other way round.
#[test]
fn the_role_moves_from_server_to_server() {
    let (seed, mut random) = seeded();
    let mut primary = primary();
    let mut standby = primary.started_standby("next");
    let mut count = 1;
    for round in 1..=rounds(2, 25) {
        for _ in 0..random.random_range(1..10) {
            count += 1;
            primary.psql(&format!("INSERT INTO t VALUES ({count}, 'round {round}')"));
        }
        primary.wait_for_replay(&standby);
        let how = [Stop::Fast, Stop::Kill, Stop::Immediate][random.random_range(0..3)];
        primary.stop(how);
        assert_eq!(standby.psql("SELECT pg_promote()").trim(), "t");
        assert_eq!(
            standby.psql("SELECT count(*) FROM t").trim(),
            count.to_string(),
            "round {round}, UNDERSTUDY_SEED={seed}"
        );
        // What was not lost comes back as it is: it had nothing that the new one lacks.
        if how == Stop::Fast {
            fs::write(primary.data().join("standby.signal"), "").expect("ours");
            follow(&primary, &standby);
            primary.configure("cluster_name = 'next'");
            primary.start();
        } else {
            primary = standby.standby("next");
            primary.start();
        }
        standby.wait_for_stream("next");
        std::mem::swap(&mut primary, &mut standby);
    }
}
