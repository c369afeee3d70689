//! The style of the tree, checked: layers point one way, every file says what it is for, none grows too large.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the engine in the order in which they may use each other; rooms on one line are peers.
const LAYERS: &[&[&str]] = &[
    &["ids"],
    &["config"],
    &["tls"],
    &["types"],
    &["io"],
    &["wal"],
    &["storage"],
    &["txn"],
    &["table", "index"],
    &["catalog"],
    &["recovery"],
    &["replication"],
    &["instance"],
    &["sql"],
    &["server"],
    &["node"],
    &["decoders"],
];

/// Descriptions that lower rooms may name although they stand in a higher one: plain data, no behaviour.
const SHARED_DESCRIPTIONS: &[&str] = &["catalog::relation", "catalog::schema"];

const MOST_LINES: usize = 800;

fn root() -> PathBuf {
    PathBuf::from("..")
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("readable").path())
    {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for dir in ["engine", "operator", "tests"] {
        rust_files(&root().join(dir), &mut files);
    }
    assert!(files.len() > 20, "the tree was not found");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("readable");
            (
                path.strip_prefix(root())
                    .expect("below the root")
                    .to_owned(),
                text,
            )
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// Lines before the tests that close a file.
fn production(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]")
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let without: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path)
        .collect();
    assert!(
        without.is_empty(),
        "files without a `//!` header: {without:#?}"
    );
}

#[test]
fn no_file_is_too_large() {
    let large: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (production(&text).count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(
        large.is_empty(),
        "files over {MOST_LINES} lines of production code: {large:#?}"
    );
}

#[test]
fn layers_point_one_way() {
    let rank: HashMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(rank, rooms)| rooms.iter().map(move |room| (*room, rank)))
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Ok(inner) = path.strip_prefix("engine/src") else {
            continue;
        };
        if is_test(&path) {
            continue;
        }
        let first = inner
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy();
        let Some(own) = rank.get(first.trim_end_matches(".rs")) else {
            continue;
        };
        for line in production(&text) {
            for used in line.split("crate::").skip(1) {
                let room: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let shared = SHARED_DESCRIPTIONS.iter().any(|s| used.starts_with(s));
                if rank.get(room.as_str()).is_some_and(|rank| rank > own) && !shared {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up:\n{}",
        wrong.join("\n")
    );
}
