//! Base backups over the wire and received log, as PostgreSQL's own programs take and check them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use understudy_tests::programs::{postgres, run, run_ok};
use understudy_tests::raw::{Raw, query, startup};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{rounds, seeded};
use understudy_tests::standby::eventually;

fn primary() -> Server {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 256MB");
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    server.psql("INSERT INTO t SELECT g, repeat('x', 50) FROM generate_series(1, 2000) g");
    server
}

fn verify(data: &Path, arguments: &[&str]) {
    let mut command = Command::new(postgres("pg_verifybackup"));
    run_ok(command.args(arguments).arg(data));
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).expect("a folder");
    run_ok(
        Command::new("tar")
            .arg("xf")
            .arg(archive)
            .arg("-C")
            .arg(into),
    );
}

fn count_in(mut copy: Server) -> String {
    copy.start();
    let count = copy.psql("SELECT count(*), sum(a) FROM t");
    copy.stop(Stop::Fast);
    let mut check = Command::new(postgres("pg_checksums"));
    run_ok(check.arg("--check").arg("-D").arg(copy.data()));
    count.trim().to_owned()
}

/// A copy that is promoted must not archive once more what its primary archives: a command that does not overwrite would
/// fail there for ever.
fn notes_its_log_as_archived(data: &Path) {
    let entries = fs::read_dir(data.join("pg_wal")).expect("a folder");
    let names = entries.map(|e| e.expect("readable").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let segments: Vec<String> = names.filter(|name| name.len() == 24).collect();
    assert!(!segments.is_empty());
    for name in segments {
        let note = data.join(format!("pg_wal/archive_status/{name}.done"));
        assert!(note.is_file(), "{name} would be archived again");
    }
}

#[test]
fn plain_backups_verify_and_start() {
    let server = primary();
    for method in ["fetch", "stream"] {
        let copy = Server::filled(|data| {
            server.base_backup(data, &["-X", method, "-P", "-v"]);
            verify(data, &[]);
            if method == "fetch" {
                notes_its_log_as_archived(data);
            }
        });
        assert_eq!(count_in(copy), "2000|2001000", "-X {method}");
    }
    // Without log a copy verifies but for its log, and needs somebody to stream from.
    let mut standby = Server::filled(|data| {
        server.base_backup(data, &["-X", "none", "-R", "--manifest-checksums=SHA256"]);
        verify(data, &["-n"]);
        assert!(data.join("standby.signal").is_file());
    });
    standby.start();
    server.wait_for_replay(&standby);
    assert_eq!(standby.psql("SELECT count(*) FROM t").trim(), "2000");
}

#[test]
fn tar_backups_verify_when_unpacked() {
    let server = primary();
    for (method, compress) in [("none", false), ("fetch", true), ("stream", false)] {
        let copy = Server::filled(|data| {
            let tars = data.with_extension("tars");
            let mut arguments = vec!["-F", "t", "-X", method];
            if compress {
                arguments.push("-z");
            }
            server.base_backup(&tars, &arguments);
            let ending = if compress { "tar.gz" } else { "tar" };
            unpack(&tars.join(format!("base.{ending}")), data);
            if method == "stream" {
                unpack(&tars.join("pg_wal.tar"), &data.join("pg_wal"));
            }
            fs::copy(tars.join("backup_manifest"), data.join("backup_manifest"))
                .expect("the manifest lies beside the archives");
            verify(data, if method == "none" { &["-n"] } else { &[] });
        });
        if method != "none" {
            fs::set_permissions(
                copy.data(),
                std::os::unix::fs::PermissionsExt::from_mode(0o700),
            )
            .expect("ours");
            assert_eq!(count_in(copy), "2000|2001000", "-X {method}");
        }
    }
}

#[test]
fn a_manifest_finds_a_changed_byte_and_the_rate_is_kept() {
    let server = primary();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("copy");
    let begun = Instant::now();
    server.base_backup(&data, &["-X", "none", "-r", "2M"]);
    let took = begun.elapsed();
    let bytes: u64 = size_of(&data);
    let least = Duration::from_secs_f64(bytes as f64 / f64::from(2 << 20) * 0.8);
    assert!(took > least, "{bytes} bytes at 2 MB/s in {took:?}");
    let version = data.join("PG_VERSION");
    fs::write(&version, "16\n").expect("ours");
    let checked = run(Command::new(postgres("pg_verifybackup"))
        .arg("-n")
        .arg(&data));
    assert!(!checked.status.success());
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("\"PG_VERSION\""), "{said}");
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a folder");
    entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                size_of(&path)
            } else {
                path.metadata().expect("there").len()
            }
        })
        .sum()
}

/// Stopped by SIGINT, as its manual says, whatever becomes of the test.
struct Receiving(Child);

impl Receiving {
    fn stop(&mut self) {
        let pid = Pid::from_child(&self.0);
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::INT);
        self.0.wait().expect("our child");
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn received_log_equals_the_servers_byte_for_byte() {
    let mut server = primary();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = server.tool("pg_receivewal");
    let child = command
        .arg("-D")
        .arg(dir.path())
        .args(["--synchronous", "-n"])
        .stderr(Stdio::null())
        .spawn();
    let mut receiving = Receiving(child.expect("it starts"));
    eventually("pg_receivewal streams", || {
        server
            .psql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            .trim()
            == "1"
    });
    for _ in 0..3 {
        server.psql("INSERT INTO t SELECT max(a) + 1, 'more' FROM t");
        server.psql("SELECT pg_switch_wal()");
    }
    server.psql("UPDATE t SET b = 'changed' WHERE a % 7 = 0");
    // A fast stop waits until everything has been received.
    assert!(server.stop(Stop::Fast).success());
    receiving.stop();
    let mut compared = 0;
    for entry in fs::read_dir(dir.path()).expect("a folder") {
        let name = entry.expect("readable").file_name();
        let name = name.to_str().expect("ASCII");
        let whole = name.trim_end_matches(".partial");
        let theirs = fs::read(dir.path().join(name)).expect("received");
        let ours = fs::read(server.data().join("pg_wal").join(whole)).expect("kept");
        assert!(theirs == ours, "{name} differs");
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} segments were received");
}

#[test]
fn temporary_slots_end_with_their_connection() {
    let server = primary();
    let psql = |commands: &[&str]| {
        let mut command = Command::new(postgres("psql"));
        command.args(["-X", "-A", "-t", "-d"]).arg(format!(
            "host=127.0.0.1 port={} user=postgres replication=true",
            server.port
        ));
        for sql in commands {
            command.args(["-c", sql]);
        }
        run(&mut command)
    };
    let made = psql(&[
        "CREATE_REPLICATION_SLOT tmp TEMPORARY PHYSICAL RESERVE_WAL",
        "READ_REPLICATION_SLOT tmp",
        "CREATE_REPLICATION_SLOT tmp TEMPORARY PHYSICAL",
    ]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(
        said.contains("tmp|") && said.contains("physical|0/"),
        "{said}"
    );
    let refused = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(
        refused.contains("replication slot \"tmp\" already exists"),
        "{refused}"
    );
    // The session ends a moment after its client.
    eventually("the slot is gone", || {
        let gone = psql(&["DROP_REPLICATION_SLOT tmp"]);
        assert!(!gone.status.success(), "it was left behind");
        let refused = String::from_utf8_lossy(&gone.stderr).into_owned();
        refused.contains("replication slot \"tmp\" does not exist")
    });
    let ordinary = psql(&["SELECT 1"]);
    assert!(!ordinary.status.success());
}

/// A slot that nobody advances must not fill the disk where the administrator has set a limit.
#[test]
fn a_slot_that_holds_too_much_log_is_given_up() {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 0\nmin_wal_size = 32MB\nmax_slot_wal_keep_size = 48MB");
    server.configure("log_replication_commands = on");
    server.start();
    server.psql("CREATE TABLE t (a int)");
    let mut holder = Raw::connect(server.port).expect("it listens");
    let parameters = [("user", "postgres"), ("replication", "true")];
    holder.send(&startup(&parameters)).expect("sent");
    holder.until_ready(1, Duration::from_secs(20));
    let make = "CREATE_REPLICATION_SLOT held TEMPORARY PHYSICAL RESERVE_WAL";
    holder.send(&query(make)).expect("sent");
    holder.until_ready(1, Duration::from_secs(20));
    let segment = |server: &Server| {
        server.psql("INSERT INTO t VALUES (1)");
        server.psql("SELECT pg_switch_wal()");
        server.psql("CHECKPOINT");
    };
    let slots = "SELECT wal_status FROM pg_replication_slots";
    segment(&server);
    assert_eq!(server.psql(slots).trim(), "reserved", "it may hold that");
    for _ in 0..5 {
        segment(&server);
    }
    eventually("the slot is gone with its session", || {
        server.psql(slots).trim().is_empty()
    });
    for line in [
        "received replication command: CREATE_REPLICATION_SLOT held",
        "to release replication slot \"held\"",
        "invalidating slot \"held\" because its restart_lsn 0/",
        // Written when the slot is gone already.
        "terminating connection due to administrator command",
    ] {
        eventually(line, || server.log().contains(line));
    }
}

/// `pg_basebackup` streaming its log in a slot of its own, slowly.
fn slow_backup(server: &Server, data: &Path) -> Receiving {
    let mut command = server.tool("pg_basebackup");
    command.args(["-c", "fast", "-X", "stream", "--max-rate=1M", "-P", "-D"]);
    // Its own process group: the process that streams outlives the one that is killed.
    let child = command
        .process_group(0)
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Receiving(child.expect("it starts"))
}

#[test]
fn a_backup_killed_in_the_middle_leaves_nothing_behind() {
    let server = primary();
    let (seed, mut random) = seeded();
    for round in 0..rounds(2, 30) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let two = ["a", "b"].map(|name| slow_backup(&server, &dir.path().join(name)));
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND active";
        eventually("both stream their log", || server.psql(slots).trim() == "2");
        std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
        // The first by SIGKILL, the second as a terminal's ^C does it.
        let [mut first, mut second] = two;
        kill_process_group(Pid::from_child(&first.0), Signal::KILL).expect("our children");
        first.0.wait().expect("our child");
        kill_process_group(Pid::from_child(&second.0), Signal::INT).expect("our children");
        second.0.wait().expect("our child");
        eventually("slots and walsenders are gone", || {
            let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_stat_replication)";
            server.psql(left).trim() == "0"
        });
        server.psql(&format!(
            "INSERT INTO t VALUES (-{round} - 1, 'UNDERSTUDY_SEED={seed}')"
        ));
    }
    let copy = Server::filled(|data| {
        server.base_backup(data, &["-X", "stream"]);
        verify(data, &[]);
    });
    let expected = server.psql("SELECT count(*), sum(a) FROM t");
    assert_eq!(count_in(copy), expected.trim());
}

#[test]
fn two_backups_at_once_while_rows_are_written() {
    let server = primary();
    for _ in 0..rounds(1, 20) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut two: Vec<Child> = [("a", "stream"), ("b", "fetch")]
            .into_iter()
            .map(|(name, method)| {
                let mut command = server.tool("pg_basebackup");
                command.args(["--checkpoint=fast", "-R", "-X", method, "-D"]);
                command.arg(dir.path().join(name));
                command.spawn().expect("it starts")
            })
            .collect();
        while two
            .iter_mut()
            .any(|c| c.try_wait().expect("our child").is_none())
        {
            server.psql("INSERT INTO t SELECT max(a) + g, repeat('z', 100) FROM t, generate_series(1, 50) g GROUP BY g");
        }
        for (mut child, name) in two.into_iter().zip(["a", "b"]) {
            assert!(child.wait().expect("our child").success());
            let data = dir.path().join(name);
            verify(&data, &[]);
            let mut standby = Server::over(&data);
            standby.start();
            server.wait_for_replay(&standby);
            let sum = "SELECT count(*), sum(a) FROM t";
            assert_eq!(standby.psql(sum), server.psql(sum));
        }
    }
}

/// Checkpoints that come while the log is on its way leave it there until it has gone.
#[test]
fn log_that_is_fetched_stays_until_it_was_sent() {
    let mut server = Server::initdb();
    server.configure("wal_keep_size = 0\nmin_wal_size = 32MB\nmax_wal_size = 32MB");
    server.start();
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("copy");
    let mut command = server.tool("pg_basebackup");
    command.args(["-c", "fast", "-X", "fetch", "--max-rate=8M", "-D"]);
    let mut child = command.arg(&data).spawn().expect("it starts");
    eventually("the backup runs", || {
        let asked = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'";
        server.psql(asked).trim() == "1" || child.try_wait().expect("our child").is_some()
    });
    let mut segments = 0;
    while child.try_wait().expect("our child").is_none() {
        // Some more for it to send, and then only reasons to take them away.
        if segments < 3 {
            segments += 1;
            server.psql(&format!("INSERT INTO t VALUES ({segments}, 'more')"));
            server.psql("SELECT pg_switch_wal()");
        }
        server.psql("CHECKPOINT");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.wait().expect("our child").success());
    verify(&data, &[]);
    let mut copy = Server::over(&data);
    copy.start();
    assert_eq!(copy.psql("SELECT count(*) >= 0 FROM t").trim(), "t");
}

#[test]
fn received_log_goes_on_over_a_switch_of_timelines() {
    let primary = primary();
    let standby = primary.started_standby("heir");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = standby.tool("pg_receivewal");
    command
        .arg("-D")
        .arg(dir.path())
        .args(["--synchronous", "-s", "1"]);
    let mut receiving = Receiving(command.stderr(Stdio::null()).spawn().expect("it starts"));
    eventually("pg_receivewal streams from the standby", || {
        let asked = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        standby.psql(asked).trim() == "1"
    });
    primary.psql("INSERT INTO t VALUES (-1, 'old')");
    primary.wait_for_replay(&standby);
    assert_eq!(standby.psql("SELECT pg_promote()").trim(), "t");
    standby.psql("INSERT INTO t VALUES (-2, 'new')");
    standby.psql("SELECT pg_switch_wal()");
    standby.psql("INSERT INTO t VALUES (-3, 'new')");
    let names = || -> Vec<String> {
        let entries = fs::read_dir(dir.path()).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|e| {
                e.expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    eventually("a whole segment of the new timeline", || {
        names()
            .iter()
            .any(|n| n.starts_with("00000002") && n.len() == 24)
    });
    receiving.stop();
    assert!(
        names().iter().any(|n| n == "00000002.history"),
        "{:?}",
        names()
    );
    for name in names()
        .iter()
        .filter(|n| n.starts_with("00000002") && n.len() == 24)
    {
        let theirs = fs::read(dir.path().join(name)).expect("received");
        let ours = fs::read(standby.data().join("pg_wal").join(name)).expect("kept");
        assert!(theirs == ours, "{name} differs");
    }
}

/// What is not here yet is refused in words, whoever asks.
#[test]
fn permanent_and_logical_slots_are_refused_clearly() {
    let server = primary();
    let mut permanent = server.tool("pg_receivewal");
    permanent.args(["--create-slot", "--slot=kept"]);
    let mut logical = server.tool("pg_recvlogical");
    logical.args(["-d", "postgres", "--create-slot", "--slot=changes"]);
    for mut command in [permanent, logical] {
        let refused = run(&mut command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{said}");
        assert!(
            said.contains("ERROR:  ") || said.contains("FATAL:  "),
            "{said}"
        );
        assert!(said.contains("not implemented"), "{said}");
    }
    let mut client = server.client();
    for sql in [
        "SELECT pg_create_physical_replication_slot('kept')",
        "SELECT pg_create_logical_replication_slot('changes', 'pgoutput')",
    ] {
        assert_eq!(client.error(sql).state, "0A000", "{sql}");
    }
}
