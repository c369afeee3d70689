//! Kill -9 under a mixed write load, at random moments and in the middle of checkpoints, index builds and DDL: nothing
//! acknowledged is lost, nothing rolled back is seen, indexes agree with tables, PostgreSQL's tools find nothing.
//!
//! `UNDERSTUDY_SOAK` asks for 200 rounds, `UNDERSTUDY_ROUNDS` for any number; `UNDERSTUDY_SEED` repeats a seed.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use understudy_tests::programs::{ours, postgres, run, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{is_soak, rounds, seed};
use understudy_tests::torture::{Ledger, Moments, Worker, prepare, settle};
use understudy_tests::wire::Client;

const WORKERS: i64 = 5;

/// What an administrator does beside the load; the first is nothing.
const WORKS: [&str; 6] = [
    "",
    "a checkpoint",
    "a new segment",
    "an index build rolled back",
    "an index build",
    "a vacuum",
];

/// Small pages of memory and log, so that evictions, checkpoints and new segments come all the time.
const SETTINGS: &str = "shared_buffers = 2MB\nmax_wal_size = 8MB\nmin_wal_size = 4MB\nwal_keep_size = 0\n\
     checkpoint_timeout = 30s\nlog_checkpoints = off\nmax_connections = 30\ndeadlock_timeout = 50ms";

/// Does what administrators do, over and over, and says in `busy` what it is at.
fn agitate(port: u16, seed: u64, stop: &AtomicBool, busy: &AtomicU32) {
    let mut random = StdRng::seed_from_u64(seed);
    let Ok(mut client) = Client::connect(port) else {
        return;
    };
    let has_vacuum = client
        .query("VACUUM progress")
        .is_ok_and(|a| a.iter().all(|a| a.error.is_none()));
    while !stop.load(Ordering::Relaxed) {
        let (work, statement) = match random.random_range(0..6) {
            0 | 1 => (1, "CHECKPOINT"),
            2 => (2, "SELECT pg_switch_wal()"),
            3 => (3, "BEGIN; CREATE INDEX built ON shared (t); ROLLBACK"),
            4 => (
                4,
                "CREATE INDEX built ON shared (v DESC, id); DROP INDEX built",
            ),
            _ if has_vacuum => (5, "VACUUM"),
            _ => (1, "CHECKPOINT"),
        };
        busy.store(work, Ordering::SeqCst);
        let done = client.query(statement);
        busy.store(0, Ordering::SeqCst);
        match done {
            Err(_) => return,
            Ok(answers) if answers.iter().any(|a| a.error.is_some()) => {
                // A lock that was not to be had; the next one will be.
                let _ = client.query("ROLLBACK");
            }
            Ok(_) => {}
        }
        thread::sleep(Duration::from_millis(random.random_range(0..40)));
    }
}

/// A moment to strike: any, or in the middle of something.
fn wait_for_the_moment(random: &mut StdRng, busy: &AtomicU32) {
    thread::sleep(Duration::from_millis(random.random_range(100..900)));
    if random.random_bool(0.6) {
        let until = Instant::now() + Duration::from_millis(500);
        while busy.load(Ordering::SeqCst) == 0 && Instant::now() < until {
            thread::yield_now();
        }
        thread::sleep(Duration::from_micros(random.random_range(0..15_000)));
    }
}

/// Runs the load until the moment comes, then does `end` to the server.
fn load(
    server: &mut Server,
    seed: u64,
    round: u32,
    ledgers: &[Arc<Mutex<Ledger>>],
    moments: &mut Moments,
    end: impl FnOnce(&mut Server),
) {
    let mut random = StdRng::seed_from_u64(seed ^ u64::from(round).wrapping_mul(0x9E37_79B9));
    let (stop, busy) = (AtomicBool::new(false), AtomicU32::new(0));
    let port = server.port;
    thread::scope(|scope| {
        for (number, ledger) in (1_i64..).zip(ledgers) {
            let mut worker = Worker::new(number, seed, round, Arc::clone(ledger));
            let stop = &stop;
            scope.spawn(move || worker.run(port, stop));
        }
        let agitator: u64 = random.random();
        let (stopped, at) = (&stop, &busy);
        scope.spawn(move || agitate(port, agitator, stopped, at));
        wait_for_the_moment(&mut random, &busy);
        moments.hit(WORKS[busy.load(Ordering::SeqCst) as usize]);
        moments.of_workers(ledgers);
        end(server);
        stop.store(true, Ordering::SeqCst);
    });
}

/// What was acknowledged is there, and nothing is damaged.
fn check_running(server: &Server, ledgers: &[Arc<Mutex<Ledger>>], name: &str) {
    let mut client = server.client();
    let wrong = settle(&mut client, ledgers);
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    let damage = client.rows("SELECT relation, block, item, finding FROM understudy_check()");
    assert!(damage.is_empty(), "{name}: {damage:?}");
}

/// Stops the server and lets the referees look.
fn check_stopped(server: &mut Server, name: &str) {
    let status = server.stop(Stop::Fast);
    assert!(status.success(), "{name}: a fast stop ends with {status}");
    let mut amcheck = Command::new(ours("understudy"));
    run_ok(amcheck.arg("amcheck").arg("-D").arg(server.data()));
    let mut checksums = Command::new(postgres("pg_checksums"));
    run_ok(checksums.arg("--check").arg("-D").arg(server.data()));
    let control = run_ok(Command::new(postgres("pg_controldata")).arg(server.data()));
    let field = |name: &str| {
        let line = control.lines().find(|l| l.starts_with(name));
        let value = line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim());
        value
            .unwrap_or_else(|| panic!("{name} in\n{control}"))
            .to_owned()
    };
    assert_eq!(field("Database cluster state"), "shut down");
    // All that is kept of the log, up to the last checkpoint.
    let wal = server.data().join("pg_wal");
    let mut segments: Vec<String> = std::fs::read_dir(&wal)
        .expect("pg_wal")
        .filter_map(|e| e.expect("readable").file_name().into_string().ok())
        .filter(|name| name.len() == 24)
        .collect();
    segments.sort();
    let last = field("Latest checkpoint location");
    let first = first_segment(&wal, &segments);
    let mut dump = Command::new(postgres("pg_waldump"));
    dump.args(["-q", "-e", &last, "-p"]).arg(&wal).arg(&first);
    let output = run(&mut dump);
    assert!(
        output.status.success(),
        "{name}: pg_waldump from {first} to {last}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The oldest segment that is log: recycled ones wait under later names, and begin with another address.
fn first_segment(wal: &std::path::Path, segments: &[String]) -> String {
    for name in segments {
        let bytes = std::fs::read(wal.join(name)).expect("a segment");
        let part = |at: usize| u64::from_str_radix(&name[at..at + 8], 16).expect("hexadecimal");
        let start = (part(8) << 32) + part(16) * bytes.len() as u64;
        let mut address = [0; 8];
        address.copy_from_slice(&bytes[8..16]);
        if u64::from_le_bytes(address) == start {
            return name.clone();
        }
    }
    panic!("no segment holds log: {segments:?}");
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let (seed, rounds) = (seed(), rounds(20, 200));
    let mut moments = Moments::default();
    let mut server = Server::initdb_with(&["--wal-segsize=1"]);
    server.configure(SETTINGS);
    server.start();
    prepare(&mut server.client(), WORKERS);
    let ledgers: Vec<Arc<Mutex<Ledger>>> = (0..WORKERS).map(|_| Arc::default()).collect();
    for round in 1..=rounds {
        load(&mut server, seed, round, &ledgers, &mut moments, |server| {
            server.stop(Stop::Kill);
        });
        let name = format!("UNDERSTUDY_SEED={seed}, round {round}");
        if round % 7 == 3 {
            // A crash while the last one is being recovered from.
            server.launch();
            thread::sleep(Duration::from_millis(u64::from(round) * 3 % 60));
            moments.hit("recovery");
            server.stop(Stop::Kill);
        }
        server.start();
        check_running(&server, &ledgers, &name);
        if round % 5 == 0 || round == rounds {
            check_stopped(&mut server, &name);
            server.start();
        }
    }
    let acknowledged: u64 = ledgers.iter().map(|l| l.lock().acknowledged).sum();
    eprintln!("{acknowledged} transactions acknowledged in {rounds} rounds; killed in: {moments}");
    if is_soak() && rounds >= 100 {
        assert!(moments.all(&WORKS[1..]), "{moments}");
        let kinds = ["COMMIT", "UPDATE", "INSERT", "CREATE TABLE", "CREATE INDEX"];
        assert!(moments.all(&kinds), "{moments}");
    }
    assert!(
        acknowledged > u64::from(rounds) * 5,
        "only {acknowledged} transactions"
    );
}

/// An immediate stop is a crash that the server makes itself; a fast one under load loses nothing either.
#[test]
fn nothing_acknowledged_is_lost_by_any_stop_under_load() {
    let seed = seed();
    let mut moments = Moments::default();
    let mut server = Server::initdb_with(&["--wal-segsize=1"]);
    server.configure(SETTINGS);
    server.start();
    prepare(&mut server.client(), WORKERS);
    let ledgers: Vec<Arc<Mutex<Ledger>>> = (0..WORKERS).map(|_| Arc::default()).collect();
    for (round, how) in (1_u32..).zip([Stop::Immediate, Stop::Fast, Stop::Immediate, Stop::Fast]) {
        load(&mut server, seed, round, &ledgers, &mut moments, |server| {
            server.stop(how);
        });
        server.start();
        let name = format!("UNDERSTUDY_SEED={seed}, {how:?} stop {round}");
        check_running(&server, &ledgers, &name);
    }
    check_stopped(&mut server, "at the end");
}
