//! After a workload with every kind of record a standby's pages equal the primary's, byte for byte.
//!
//! That there was every kind `understudy walstats` says, which reads the log as recovery does and knows what is ever
//! written; `pg_waldump` must count the same.
//!
//! Excepted are the checksum in each page's header, and free space maps, which are not logged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{ours, postgres, run, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::rounds;
use understudy_tests::standby::eventually;

const PAGE: usize = 8192;
/// `pd_checksum` in a page's header.
const CHECKSUM: std::ops::Range<usize> = 8..10;

fn work(server: &Server) {
    let mut client = server.client();
    for sql in [
        "CREATE TABLE t (a int PRIMARY KEY, b text, c int)",
        "CREATE INDEX t_c ON t (c)",
        "INSERT INTO t SELECT g, repeat('x', g % 200), g % 97 FROM generate_series(1, 6000) g",
        // On the same page and to another one, with and without index entries.
        "UPDATE t SET b = 'short' WHERE a % 11 = 0",
        "UPDATE t SET b = repeat('y', 150), c = c + 1000 WHERE a % 7 = 0",
        "UPDATE t SET b = 'again' WHERE a % 11 = 0",
        "DELETE FROM t WHERE a BETWEEN 2000 AND 3500",
        // Values out of line.
        "INSERT INTO t SELECT -g, repeat('long value ', 3000), g FROM generate_series(1, 20) g",
        "UPDATE t SET b = repeat('other value ', 3000) WHERE a BETWEEN -10 AND -5",
        "DELETE FROM t WHERE a = -3",
        "BEGIN",
        "SELECT a FROM t WHERE a < 50 FOR UPDATE",
        "SELECT a FROM t WHERE a BETWEEN 50 AND 60 FOR SHARE",
        "INSERT INTO t VALUES (100000, 'kept', 1)",
        "SAVEPOINT one",
        "INSERT INTO t VALUES (100001, 'lost', 1)",
        "UPDATE t SET c = -1 WHERE a = 1",
        "ROLLBACK TO one",
        "COMMIT",
        "BEGIN",
        "UPDATE t SET c = 5 WHERE a < 500",
        "ROLLBACK",
        "CHECKPOINT",
        "UPDATE t SET c = c + 1 WHERE a % 13 = 0",
        "VACUUM t",
        "INSERT INTO t SELECT g, 'into free space', g FROM generate_series(2000, 3000) g",
        "VACUUM FREEZE t",
        "CREATE UNIQUE INDEX t_ba ON t (c, a)",
        "CREATE TABLE u (id bigserial PRIMARY KEY, v numeric)",
        "INSERT INTO u (v) SELECT g FROM generate_series(1, 500) g",
        "SELECT setval('u_id_seq', 5000)",
        "INSERT INTO u (v) VALUES (1) RETURNING id",
        "TRUNCATE u",
        "INSERT INTO u (v) SELECT g FROM generate_series(1, 300) g",
        "CREATE TABLE dropped (x int)",
        "DROP TABLE dropped",
        "ALTER TABLE t ADD COLUMN d text DEFAULT 'd'",
        "UPDATE t SET d = NULL WHERE a % 17 = 0",
        "ALTER TABLE u RENAME TO v",
        "ANALYZE",
        "CREATE DATABASE other",
        "CREATE DATABASE gone",
        "DROP DATABASE gone",
        // A tail that vacuum cuts off.
        "CREATE TABLE tail (a int)",
        "INSERT INTO tail SELECT g FROM generate_series(1, 5000) g",
        "DELETE FROM tail WHERE a > 10",
        "VACUUM tail",
    ] {
        let answers = client.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        for answer in answers {
            assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
        }
    }
    // Reads prune.
    client.rows("SELECT count(*), sum(c) FROM t");
    // A checkpoint while somebody has made a file and is not done.
    client.rows("BEGIN");
    client.rows("CREATE TABLE unfinished (a int)");
    server.psql("CHECKPOINT");
    client.rows("COMMIT");
    // COPY puts many rows of a page into one record.
    let rows: String = (1..=3000)
        .map(|n| format!("{}\tcopied\t{n}\t\\N\n", 50_000 + n))
        .collect();
    let file = server.data().with_extension("rows");
    fs::write(&file, rows).expect("ours");
    server.psql(&format!("\\copy t FROM '{}'", file.display()));
}

/// Numbers enough that the commit log gets a page: each savepoint that writes takes one.
fn use_up_transaction_ids(server: &Server) {
    let mut client = server.client();
    client.rows("CREATE TABLE many (a int)");
    let one = "SAVEPOINT s; INSERT INTO many VALUES (1); RELEASE s; ";
    for _ in 0..34 {
        let sql = format!("BEGIN; {}COMMIT", one.repeat(1000));
        let answers = client.query(&sql).expect("answered");
        assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
    }
    // What was written thousands of transactions ago can be frozen.
    client.rows("VACUUM FREEZE t");
}

/// The primary dies, and of the record that it wrote last only the first pages are there: the rest is zeroes, as
/// after a power cut. What it says it has committed since the standby saw it last goes with that.
fn crash_inside_a_record(primary: &mut Server) {
    primary.psql("SELECT pg_switch_wal()");
    let mut open = primary.client();
    open.rows("BEGIN");
    open.rows("INSERT INTO t SELECT 200000 + g, repeat('unfinished', 190), g FROM generate_series(1, 60) g");
    primary.psql("INSERT INTO v (id, v) VALUES (999999, 0)");
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let file = primary.psql("SELECT pg_walfile_name(pg_current_wal_flush_lsn())");
    primary.stop(Stop::Kill);
    let low = end.trim().split('/').nth(1).expect("X/X");
    let low = u64::from_str_radix(low, 16).expect("hexadecimal");
    let path = primary.data().join("pg_wal").join(file.trim());
    let log = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("there");
    let length = log.metadata().expect("a file").len();
    let mut page = low % length / PAGE as u64 * PAGE as u64;
    // `xlp_rem_len`: how much of a record that began on an earlier page stands on this one.
    let goes_on = |page: u64| {
        let mut rest = [0; 4];
        log.read_exact_at(&mut rest, page + 16).expect("a page");
        u32::from_le_bytes(rest) > 0
    };
    while !goes_on(page) {
        page -= PAGE as u64;
        assert!(page > 0, "no record of the segment crosses a page");
    }
    let zeroes = vec![0; usize::try_from(length - page).expect("a segment")];
    log.write_all_at(&zeroes, page).expect("ours");
}

type Counts = BTreeMap<String, u64>;

/// By manager and operation, as our reader counts them.
fn counted_by_us(data: &Path) -> Counts {
    let mut command = Command::new(ours("understudy"));
    command
        .args(["walstats", "-s", FIRST_RECORD, "-D"])
        .arg(data);
    let mut counts = Counts::new();
    for line in run_ok(&mut command).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [manager, id, operation, name, count] = fields[..] else {
            panic!("{line}");
        };
        let ours = id.parse::<u8>().expect("a number") >= 128;
        let key = match ours {
            true => format!("custom{id} {}", operation.trim_start_matches('0')),
            false => format!("{manager} {name}"),
        };
        counts.insert(key, count.parse().expect("a number"));
    }
    counts
}

/// The same, as `pg_waldump` counts them. Without an end it complains at the log's end.
fn counted_by_waldump(data: &Path) -> Counts {
    let mut command = Command::new(postgres("pg_waldump"));
    let output = run(command
        .args(["-s", FIRST_RECORD, "-p"])
        .arg(data.join("pg_wal")));
    let mut counts = Counts::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let manager = line
            .strip_prefix("rmgr: ")
            .and_then(|l| l.split_whitespace().next());
        let what = line.split_once("desc: ").map(|(_, what)| what);
        let (Some(manager), Some(what)) = (manager, what) else {
            panic!("{line}");
        };
        let key = match what.strip_prefix("UNKNOWN (") {
            Some(rest) => {
                let code = rest.split(')').next().expect("closed");
                format!("{manager} {}", code.trim_start_matches('0'))
            }
            None => format!(
                "{manager} {}",
                what.split([' ', ';']).next().expect("a word")
            ),
        };
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Where the log of a new cluster begins.
const FIRST_RECORD: &str = "0/1000028";

/// Relation files by path, but for free space maps.
fn relation_files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![data.join("global")];
    for entry in fs::read_dir(data.join("base")).expect("a folder") {
        dirs.push(entry.expect("readable").path());
    }
    for dir in dirs {
        for entry in fs::read_dir(&dir).expect("a folder") {
            let path = entry.expect("readable").path();
            let name = path
                .strip_prefix(data)
                .expect("below")
                .display()
                .to_string();
            let last = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            if last.starts_with(|c: char| c.is_ascii_digit()) && !last.contains("_fsm") {
                let mut bytes = fs::read(&path).expect("readable");
                for page in bytes.chunks_exact_mut(PAGE) {
                    page[CHECKSUM].fill(0);
                }
                found.insert(name, bytes);
            }
        }
    }
    found
}

/// Both servers are stopped; every page of one equals the other's.
fn compare(primary: &Server, standby: &Server) {
    let (ours, theirs) = (
        relation_files(primary.data()),
        relation_files(standby.data()),
    );
    assert!(ours.len() > 100, "{} files", ours.len());
    let mut wrong = Vec::new();
    for name in ours.keys().chain(theirs.keys()) {
        match (ours.get(name), theirs.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                let at = a.iter().zip(b).position(|(x, y)| x != y);
                let at = at.unwrap_or(a.len().min(b.len()));
                wrong.push(format!(
                    "{name}: {} and {} bytes, block {}, byte {}",
                    a.len(),
                    b.len(),
                    at / PAGE,
                    at % PAGE
                ));
            }
            (ours, _) => wrong.push(format!(
                "{name}: only on the {}",
                if ours.is_some() { "primary" } else { "standby" }
            )),
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_standbys_pages_equal_its_primarys() {
    let mut primary = Server::initdb();
    primary.configure("wal_keep_size = 2GB\nautovacuum = off");
    primary.start();
    let mut standby = primary.started_standby("same");
    work(&primary);
    use_up_transaction_ids(&primary);
    primary.wait_for_replay(&standby);
    assert!(standby.stop(Stop::Fast).success());
    crash_inside_a_record(&mut primary);
    primary.configure("max_connections = 90");
    for round in 0..rounds(1, 5) {
        primary.start();
        standby.start();
        primary.wait_for_stream("same");
        for n in 0..10 {
            let base = 300_000 + round * 1000 + n * 100;
            primary.psql(&format!(
                "INSERT INTO t SELECT {base} + g, 'more', g FROM generate_series(1, 100) g"
            ));
            primary.psql(&format!("UPDATE t SET c = c + 1 WHERE a % 31 = {n}"));
            primary.psql(&format!("DELETE FROM t WHERE a % 37 = {n}"));
            primary.psql("VACUUM t");
        }
        primary.wait_for_replay(&standby);
        // The standby has everything, the shutdown checkpoint included, when the primary has stopped; it has replayed it
        // a moment later.
        assert!(primary.stop(Stop::Fast).success());
        let control = run_ok(Command::new(postgres("pg_controldata")).arg(primary.data()));
        let checkpoint = control
            .lines()
            .find_map(|l| l.strip_prefix("Latest checkpoint location:"));
        let replayed = format!(
            "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') > 0",
            checkpoint.expect("it is there").trim()
        );
        eventually("the last record is replayed", || {
            standby.psql(&replayed).trim() == "t"
        });
        assert!(standby.stop(Stop::Fast).success());
        compare(&primary, &standby);
    }
    let counts = counted_by_us(primary.data());
    let missing: Vec<_> = counts.iter().filter(|(_, n)| **n == 0).collect();
    assert!(missing.is_empty(), "never written: {missing:?}");
    assert_eq!(counts, counted_by_waldump(primary.data()));
}
