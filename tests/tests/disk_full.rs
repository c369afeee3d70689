//! A full disk, on a small tmpfs: errors to the client, never a damaged database, and work goes on when there is room.
//! Needs the right to mount; where that is missing the test says so and checks nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use understudy_tests::programs::{ours, postgres, run, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

/// A file system in memory that goes with the value.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let size = format!("size={megabytes}m,mode=0755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "understudy-test"])
            .arg(dir.path())
            .status();
        match mounted {
            Ok(status) if status.success() => Some(SmallDisk { dir }),
            other => {
                eprintln!("skipped: a tmpfs could not be mounted ({other:?})");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status();
    }
}

fn initdb(data: &Path) -> Server {
    let mut command = Command::new(ours("understudy"));
    command.args([
        "initdb",
        "--no-locale",
        "--encoding=UTF8",
        "-U",
        "postgres",
        "-A",
        "trust",
    ]);
    run_ok(command.arg("--wal-segsize=1").arg("-D").arg(data));
    let server = Server::over(data);
    server.configure(
        "max_wal_size = 4MB\nmin_wal_size = 2MB\nshared_buffers = 2MB\nwal_keep_size = 0",
    );
    server
}

/// Inserts until the disk is full; how many rows were acknowledged.
fn fill(server: &mut Server, acknowledged: &mut i64) {
    let mut client = server.client();
    for _ in 0..2_000 {
        let from = *acknowledged + 1;
        let upto = *acknowledged + 20;
        let sql = format!(
            "INSERT INTO big SELECT g, repeat(g::text || '.', 1500) FROM generate_series({from}, {upto}) g"
        );
        let answers = client.query(&sql);
        let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
        match answers.iter().find_map(|a| a.error.clone()) {
            None => *acknowledged = upto,
            Some(error) => {
                assert_eq!(error.state, "53100", "{error:?}");
                assert!(
                    error.message.contains("No space left on device"),
                    "{error:?}"
                );
                return;
            }
        }
    }
    panic!("the disk is never full");
}

fn check(server: &Server, acknowledged: i64) {
    let mut client = server.client();
    assert_eq!(
        client.value("SELECT count(*) FROM big"),
        acknowledged.to_string()
    );
    let sum = acknowledged * (acknowledged + 1) / 2;
    assert_eq!(client.value("SELECT sum(id) FROM big"), sum.to_string());
    let damage = client.rows("SELECT relation, block, item, finding FROM understudy_check()");
    assert!(damage.is_empty(), "{damage:?}");
}

/// What the supervisor says when little room is left. No session's defaults get round it, nor does ALTER SYSTEM; a
/// superuser may say that he removes data.
#[test]
fn the_guard_of_a_disk_that_is_nearly_full_yields_to_who_makes_room_only() {
    let server = Server::started();
    let mut client = server.client();
    for statement in [
        "CREATE ROLE app LOGIN",
        "CREATE TABLE kept (a int)",
        "CREATE TABLE waste (a int)",
        "INSERT INTO kept VALUES (1)",
        "GRANT ALL ON kept TO app",
    ] {
        client.rows(statement);
    }
    let mut late = server.client();
    late.rows("BEGIN");
    late.rows("INSERT INTO kept VALUES (2)");
    let say = |value: &str| {
        server.configure(&format!("understudy.disk_full = {value}"));
        server.psql("SELECT pg_reload_conf()");
        eventually("the setting is in force", || {
            server.psql("SHOW understudy.disk_full").trim() == value
        });
    };
    say("on");
    late.rows("INSERT INTO kept VALUES (3)");
    late.rows("COMMIT");
    let mut app = Client::connect_as(server.port, "app", "postgres").expect("connected");
    for session in [&mut client, &mut app] {
        session.rows("SET default_transaction_read_only = off");
        for statement in [
            "INSERT INTO kept VALUES (4)",
            "BEGIN READ WRITE; DELETE FROM kept",
        ] {
            let refused = session.error(statement);
            assert_eq!(refused.state, "53100", "{statement}: {refused:?}");
            let hint = refused.hint.unwrap_or_default();
            assert!(hint.contains("understudy.write_on_full_disk"), "{hint}");
            session.rows("ROLLBACK");
        }
        assert_eq!(session.value("SELECT count(*) FROM kept"), "3");
    }
    for (statement, state) in [
        ("SET understudy.disk_full = off", "55P02"),
        ("ALTER SYSTEM SET understudy.disk_full = off", "55P02"),
        (
            "ALTER SYSTEM SET understudy.write_on_full_disk = on",
            "55P02",
        ),
        (
            "ALTER ROLE postgres SET understudy.write_on_full_disk = on",
            "0A000",
        ),
    ] {
        assert_eq!(client.error(statement).state, state, "{statement}");
    }
    let denied = app.error("SET understudy.write_on_full_disk = on");
    assert_eq!(denied.state, "42501", "{denied:?}");
    // In one message, as `psql -c` sends it, and to the end of the transaction only.
    client.rows("BEGIN; SET LOCAL understudy.write_on_full_disk = on; DROP TABLE waste; COMMIT");
    assert_eq!(client.error("INSERT INTO kept VALUES (4)").state, "53100");
    client.rows("VACUUM kept");
    client.rows("SET understudy.write_on_full_disk = on");
    client.rows("TRUNCATE kept");
    client.rows("RESET understudy.write_on_full_disk");
    assert_eq!(client.error("INSERT INTO kept VALUES (4)").state, "53100");
    say("off");
    app.rows("INSERT INTO kept VALUES (4)");
}

#[test]
fn a_full_disk_is_an_error_and_room_makes_it_good() {
    let Some(disk) = SmallDisk::mount(20) else {
        return;
    };
    let data = disk.path("data");
    let mut server = initdb(&data);
    let ballast = disk.path("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("room for it");
    server.start();
    server.psql("CREATE TABLE big (id bigint PRIMARY KEY, t text)");
    let mut acknowledged = 0;
    fill(&mut server, &mut acknowledged);

    // Full: reading goes on, writing is refused, again and again; the server stays.
    check(&server, acknowledged);
    for _ in 0..3 {
        fill(&mut server, &mut acknowledged);
        let _ = server
            .client()
            .query("CHECKPOINT")
            .expect("the session lives");
    }
    std::fs::remove_file(&ballast).expect("it is there");
    fill(&mut server, &mut acknowledged);
    check(&server, acknowledged);

    // A crash while it is full: the start works, or says what it lacks.
    server.stop(Stop::Kill);
    server.launch();
    let until = Instant::now() + Duration::from_secs(30);
    let has_ended = loop {
        if server.exit_status().is_some() {
            break true;
        }
        if Client::connect(server.port).is_ok() {
            break false;
        }
        assert!(Instant::now() < until, "{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    };
    if has_ended {
        assert!(
            server.log().contains("No space left on device"),
            "{}",
            server.log()
        );
    } else {
        check(&server, acknowledged);
        server.stop(Stop::Kill);
    }
    // Somebody makes room: here by a larger disk.
    run_ok(
        Command::new("mount")
            .args(["-o", "remount,size=60m"])
            .arg(disk.dir.path()),
    );
    server.start();
    check(&server, acknowledged);
    server.psql("INSERT INTO big VALUES (0, 'there is room again')");
    server.psql("DELETE FROM big WHERE id = 0");
    assert!(server.stop(Stop::Fast).success());
    run_ok(
        Command::new(ours("understudy"))
            .arg("amcheck")
            .arg("-D")
            .arg(&data),
    );
    run_ok(
        Command::new(postgres("pg_checksums"))
            .arg("--check")
            .arg("-D")
            .arg(&data),
    );
}

/// The log itself finds no room: the server ends rather than acknowledge what it cannot keep, and comes back.
#[test]
fn a_log_that_finds_no_room_loses_nothing() {
    let Some(disk) = SmallDisk::mount(14) else {
        return;
    };
    let data = disk.path("data");
    let mut server = initdb(&data);
    server.configure("max_wal_size = 1GB\ncheckpoint_timeout = 1h");
    server.start();
    server.psql("CREATE TABLE few (id bigint PRIMARY KEY, n bigint)");
    server.psql("INSERT INTO few SELECT g, 0 FROM generate_series(1, 1000) g");
    let mut client = server.client();
    let mut acknowledged = 0_i64;
    for n in 1..5_000_i64 {
        let answers = client.query(&format!("UPDATE few SET n = {n}"));
        match answers {
            Ok(answers) if answers.iter().all(|a| a.error.is_none()) => acknowledged = n,
            Ok(answers) => {
                let error = answers.into_iter().find_map(|a| a.error).expect("one");
                assert_eq!(error.state, "53100", "{error:?}");
                break;
            }
            // A transaction that had begun to write and could not go on: there is no other way.
            Err(_) => break,
        }
    }
    assert!(acknowledged > 0);
    drop(client);
    std::thread::sleep(Duration::from_millis(200));
    if server.exit_status().is_some() {
        assert!(
            server.log().contains("No space left on device"),
            "{}",
            server.log()
        );
    } else {
        server.stop(Stop::Kill);
    }
    run_ok(
        Command::new("mount")
            .args(["-o", "remount,size=80m"])
            .arg(disk.dir.path()),
    );
    server.start();
    let found = server.psql("SELECT min(n), max(n), count(*) FROM few");
    let expected = [acknowledged, acknowledged + 1].map(|n| format!("{n}|{n}|1000"));
    assert!(
        expected.contains(&found.trim().to_owned()),
        "{found}, acknowledged {acknowledged}"
    );
    assert_eq!(
        server
            .psql("SELECT count(*) FROM understudy_check()")
            .trim(),
        "0"
    );
    assert!(server.stop(Stop::Fast).success());
    let sums = run(Command::new(postgres("pg_checksums"))
        .arg("--check")
        .arg("-D")
        .arg(&data));
    assert!(
        sums.status.success(),
        "{}",
        String::from_utf8_lossy(&sums.stderr)
    );
}

/// A sort may have been about to fill the disk when the server was killed.
#[test]
fn a_start_removes_the_temporary_files_that_a_crash_left() {
    let mut server = Server::started();
    server.stop(Stop::Kill);
    let folder = server.data().join("base/pgsql_tmp");
    std::fs::create_dir_all(&folder).expect("the folder of temporary files");
    std::fs::write(folder.join("pgsql_tmp77.0"), vec![7_u8; 100_000]).expect("a file left behind");
    server.start();
    let left = std::fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(left, 0);
}
