//! After a workload with every kind of record a standby's pages equal the primary's, byte for byte.
//!
//! Excepted are the checksum in each page's header, and free space maps, which are not logged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use understudy_tests::server::{Server, Stop};

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
    ] {
        let answers = client.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        for answer in answers {
            assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
        }
    }
    // Reads prune.
    client.rows("SELECT count(*), sum(c) FROM t");
}

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

#[test]
fn a_standbys_pages_equal_its_primarys() {
    let mut primary = Server::initdb();
    primary.configure("wal_keep_size = 512MB\nautovacuum = off");
    primary.start();
    let mut standby = primary.started_standby("same");
    work(&primary);
    primary.wait_for_replay(&standby);
    // The standby has everything, the shutdown checkpoint included, when the primary has stopped.
    assert!(primary.stop(Stop::Fast).success());
    assert!(standby.stop(Stop::Fast).success());
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
