//! Kill -9 of a standby and of its primary under a mixed write load: in replay, in restartpoints, in base backups and
//! in promotion. What was acknowledged with a synchronous standby is there after every one of them.
//!
//! `UNDERSTUDY_SOAK` asks for more rounds, `UNDERSTUDY_ROUNDS` for any number; `UNDERSTUDY_SEED` repeats a seed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;
use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{is_soak, rounds, seeded};
use understudy_tests::standby::eventually;
use understudy_tests::torture::{Ledger, Moments, Worker, compare, prepare, settle};
use understudy_tests::wire::Client;

const WORKERS: i64 = 4;
const SETTINGS: &str = "shared_buffers = 2MB\nmax_wal_size = 8MB\nmin_wal_size = 4MB\nwal_keep_size = 64MB\n\
     checkpoint_timeout = 30s\nlog_checkpoints = on\nmax_connections = 30\ndeadlock_timeout = 50ms\n\
     wal_level = replica\nmax_wal_senders = 5\nhot_standby = on\nwal_retrieve_retry_interval = 100ms";

/// How often `begun` stands in the log without `done` after it, before the next `begun`.
fn cut_short(log: &str, begun: &str, done: &str) -> u32 {
    let (mut open, mut cut) = (false, 0);
    for line in log.lines() {
        if line.contains(begun) {
            cut += u32::from(open);
            open = true;
        } else if line.contains(done) {
            open = false;
        }
    }
    cut + u32::from(open)
}

/// What servers that were killed again and again were at, by their logs.
fn moments_of(logs: &[&str]) -> Moments {
    let mut moments = Moments::default();
    let parts = [
        ("a checkpoint", "checkpoint starting", "checkpoint complete"),
        (
            "a restartpoint",
            "restartpoint starting",
            "restartpoint complete",
        ),
        ("recovery", "redo starts at", "ready to accept"),
    ];
    for log in logs {
        for (what, begun, done) in parts {
            for _ in 0..cut_short(log, begun, done) {
                moments.hit(what);
            }
        }
    }
    moments
}

type Ledgers = Vec<Arc<Mutex<Ledger>>>;

fn primary() -> (Server, Ledgers) {
    let mut server = Server::initdb_with(&["--wal-segsize=1"]);
    server.configure(SETTINGS);
    server.start();
    prepare(&mut server.client(), WORKERS);
    (server, (0..WORKERS).map(|_| Arc::default()).collect())
}

fn base_backup(primary: &Server, data: &Path) -> Command {
    let mut command = primary.tool("pg_basebackup");
    command
        .args(["-R", "-X", "stream", "-c", "fast", "-D"])
        .arg(data);
    command
}

/// A directory of its own, filled by pg_basebackup; not started.
fn standby_of(primary: &Server, dir: &Path) -> Server {
    let data = dir.join("standby");
    run_ok(&mut base_backup(primary, &data));
    Server::over(&data)
}

/// Workers on the primary and a checkpoint now and then, while `work` is done.
fn under_load(
    primary: &mut Server,
    seed: u64,
    round: u32,
    ledgers: &Ledgers,
    work: impl FnOnce(&mut Server),
) {
    let stop = AtomicBool::new(false);
    let port = primary.port;
    thread::scope(|scope| {
        for (number, ledger) in (1_i64..).zip(ledgers) {
            let mut worker = Worker::new(number, seed, round, Arc::clone(ledger));
            let stop = &stop;
            scope.spawn(move || worker.run(port, stop));
        }
        let stopped = &stop;
        scope.spawn(move || {
            let Ok(mut client) = Client::connect(port) else {
                return;
            };
            while !stopped.load(Ordering::Relaxed) && client.query("CHECKPOINT").is_ok() {
                thread::sleep(Duration::from_millis(120));
            }
        });
        work(primary);
        stop.store(true, Ordering::SeqCst);
    });
}

/// Waits until the standby shows everything that the primary has.
fn caught_up(primary: &Server, standby: &mut Server) {
    standby.wait_until_ready(Duration::from_secs(60));
    let lsn = primary.client().value("SELECT pg_current_wal_flush_lsn()");
    let until = Instant::now() + Duration::from_secs(60);
    let behind =
        format!("SELECT coalesce(pg_wal_lsn_diff('{lsn}', pg_last_wal_replay_lsn()), 1) > 0");
    while standby.client().value(&behind) != "f" {
        assert!(
            Instant::now() < until,
            "it does not catch up\n{}",
            standby.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn check_standby(primary: &Server, standby: &mut Server, ledgers: &Ledgers, name: &str) {
    let wrong = settle(&mut primary.client(), ledgers);
    assert!(wrong.is_empty(), "{name}, primary:\n{}", wrong.join("\n"));
    caught_up(primary, standby);
    let mut client = standby.client();
    let wrong = compare(&mut client, ledgers);
    assert!(wrong.is_empty(), "{name}, standby:\n{}", wrong.join("\n"));
    let damage = client.rows("SELECT relation, block, item, finding FROM understudy_check()");
    assert!(damage.is_empty(), "{name}, standby: {damage:?}");
}

#[test]
fn a_standby_killed_at_any_moment_goes_on_where_it_was() {
    let ((seed, mut random), rounds) = (seeded(), rounds(6, 100));
    let (mut primary, ledgers) = primary();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut standby = standby_of(&primary, dir.path());
    standby.start();
    for round in 1..=rounds {
        let name = format!("UNDERSTUDY_SEED={seed}, round {round}");
        let primary_dies = round % 3 == 0;
        under_load(&mut primary, seed, round, &ledgers, |primary| {
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(random.random_range(50..350)));
                if random.random_bool(0.5) {
                    // A restartpoint is what CHECKPOINT makes there.
                    if let Ok(mut client) = Client::connect(standby.port) {
                        let _ = client.send("CHECKPOINT");
                        thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
                    }
                }
                standby.stop(Stop::Kill);
                standby.launch();
            }
            if primary_dies {
                primary.stop(Stop::Kill);
            }
        });
        if primary_dies {
            primary.start();
        }
        check_standby(&primary, &mut standby, &ledgers, &name);
    }
    let moments = moments_of(&[&primary.log(), &standby.log()]);
    eprintln!("{rounds} rounds; killed in: {moments}");
    if is_soak() && rounds >= 50 {
        let wanted = ["a checkpoint", "a restartpoint", "recovery"];
        assert!(moments.all(&wanted), "{moments}");
    }
}

#[test]
fn a_base_backup_whose_server_is_killed_leaves_a_server_that_can_make_another() {
    let ((seed, mut random), rounds) = (seeded(), rounds(3, 50));
    let (mut primary, ledgers) = primary();
    let mut moments = Moments::default();
    for round in 1..=rounds {
        let name = format!("UNDERSTUDY_SEED={seed}, round {round}");
        let dir = tempfile::tempdir().expect("a temporary directory");
        under_load(&mut primary, seed, round, &ledgers, |primary| {
            thread::sleep(Duration::from_millis(100));
            let mut backup = base_backup(primary, &dir.path().join("half"));
            let backup = backup.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = backup.spawn().expect("pg_basebackup runs");
            thread::sleep(Duration::from_millis(random.random_range(0..400)));
            primary.stop(Stop::Kill);
            let whole = child.wait().expect("it ends with its server").success();
            moments.hit(if whole { "no backup" } else { "a base backup" });
        });
        primary.start();
        let wrong = settle(&mut primary.client(), &ledgers);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
        // A whole one under load becomes a standby without a fault.
        let mut made = None;
        under_load(&mut primary, seed ^ 7, round + 1000, &ledgers, |primary| {
            made = Some(standby_of(primary, dir.path()));
        });
        let mut standby = made.expect("a backup");
        standby.start();
        check_standby(&primary, &mut standby, &ledgers, &name);
    }
    eprintln!("{rounds} rounds; killed in: {moments}");
    assert!(rounds < 20 || moments.all(&["a base backup"]), "{moments}");
}

#[test]
fn a_promotion_cut_short_at_any_moment_loses_nothing_acknowledged() {
    let ((seed, mut random), rounds) = (seeded(), rounds(3, 50));
    let mut moments = Moments::default();
    for round in 1..=rounds {
        let name = format!("UNDERSTUDY_SEED={seed}, round {round}");
        let (mut primary, ledgers) = primary();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut standby = standby_of(&primary, dir.path());
        standby.start();
        primary.configure("synchronous_standby_names = '*'");
        primary.signal(rustix::process::Signal::HUP);
        eventually("the setting is in force", || {
            primary.psql("SHOW synchronous_standby_names").trim() == "*"
        });
        under_load(&mut primary, seed, round, &ledgers, |primary| {
            thread::sleep(Duration::from_millis(random.random_range(200..900)));
            primary.stop(Stop::Kill);
        });
        let promote = |standby: &Server| {
            if let Ok(mut client) = Client::connect(standby.port) {
                let _ = client.send("SELECT pg_promote(false)");
                thread::sleep(Duration::from_millis(5));
            }
        };
        promote(&standby);
        let log_has = |line: &str| standby.log().contains(line);
        let until = Instant::now() + Duration::from_secs(1);
        while !log_has("received promote request") && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        // The whole of it takes some milliseconds; what the log says says how far it came.
        thread::sleep(Duration::from_micros(random.random_range(0..25_000)));
        standby.stop(Stop::Kill);
        let log = standby.log();
        let came_to = if log.contains("archive recovery complete") {
            "after the promotion"
        } else if log.contains("selected new timeline ID") {
            "the middle of a promotion"
        } else {
            "before the promotion"
        };
        moments.hit(came_to);
        standby.start();
        let until = Instant::now() + Duration::from_secs(30);
        while standby.client().value("SELECT pg_is_in_recovery()") == "t" {
            assert!(
                Instant::now() < until,
                "{name}: not promoted\n{}",
                standby.log()
            );
            promote(&standby);
            thread::sleep(Duration::from_millis(100));
        }
        let wrong = settle(&mut standby.client(), &ledgers);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
        let mut client = standby.client();
        let damage = client.rows("SELECT relation, block, item, finding FROM understudy_check()");
        assert!(damage.is_empty(), "{name}: {damage:?}");
        drop(client);
        assert!(standby.stop(Stop::Fast).success());
        let mut checksums = Command::new(postgres("pg_checksums"));
        run_ok(checksums.arg("--check").arg("-D").arg(standby.data()));
    }
    eprintln!("{rounds} rounds; killed in: {moments}");
    let wanted = ["the middle of a promotion"];
    assert!(rounds < 20 || moments.all(&wanted), "{moments}");
}
