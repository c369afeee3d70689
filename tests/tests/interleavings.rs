//! Interleavings of sessions: rows, tags, SQLSTATEs and who waits when, as PostgreSQL 15 has them.

use std::path::{Path, PathBuf};

use understudy_tests::interleave;
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;

/// `tests/interleavings/PREFIX*.spec`, all of them.
fn specs(prefix: &str) -> Vec<PathBuf> {
    let folder = Path::new("interleavings");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(".spec")
        })
        .collect();
    files.sort();
    files
}

/// The differences of all files are shown together.
fn agree(prefix: &str) {
    let files = specs(prefix);
    assert!(!files.is_empty(), "no spec begins with {prefix}");
    let ours = Server::started();
    let reference = Reference::started();
    let mut differences = Vec::new();
    let (mut orders, mut waits) = (0, 0);
    for file in &files {
        let outcome = interleave::compare(file, ours.port, reference.port);
        orders += outcome.orders;
        waits += outcome.waits;
        differences.extend(outcome.differences);
    }
    println!("{} files, {orders} orders, {waits} waits", files.len());
    assert!(
        differences.is_empty(),
        "{} of {orders} orders differ\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// What begins with none of these would never run.
const PREFIXES: [&str; 11] = [
    "advisory", "anomaly", "block", "deadlock", "foreign", "grants", "recheck", "row", "table",
    "time", "unique",
];

#[test]
fn every_spec_belongs_to_a_test() {
    let known: usize = PREFIXES.iter().map(|prefix| specs(prefix).len()).sum();
    assert_eq!(known, specs("").len(), "a file's name begins otherwise");
}

#[test]
fn advisory_locks_are_shared_and_given_back() {
    agree("advisory");
}

#[test]
fn anomalies_are_those_of_the_level() {
    agree("anomaly");
}

#[test]
fn deadlocks_have_one_victim() {
    agree("deadlock");
}

#[test]
fn conditions_are_tested_again_after_a_wait() {
    agree("recheck");
}

#[test]
fn row_locks_conflict_and_queue() {
    agree("row");
}

#[test]
fn keys_are_unique_whoever_comes_first() {
    agree("unique");
}

#[test]
fn grants_count_from_the_next_statement_on() {
    agree("grants");
}

#[test]
fn table_locks_and_definitions_keep_others_out() {
    agree("table");
}

#[test]
fn time_outs_and_cancels_end_what_they_should() {
    agree("time");
}

#[test]
fn cursors_and_savepoints_keep_what_is_theirs() {
    agree("block");
}

#[test]
fn references_and_their_keys_meet() {
    agree("foreign");
}
