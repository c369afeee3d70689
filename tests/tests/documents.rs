//! What `docs/on-call.md` lists is what the programs say: reasons of conditions and events, names of metrics. Somebody on
//! call looks for the very word.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Behind these stands a reason, where it is written out.
const SAY: &[&str] = &[
    ".tell(",
    ".warn(",
    ".event(",
    ".obstacle(",
    ".events,",
    "answer(",
    "Grace(",
    "Some((",
    "=> (",
    "reason:",
    "&str =",
];

/// Words of constants that look like reasons and are none.
const NO_REASONS: &[&str] = &["Opaque", "Ready"];

fn read(path: &str) -> String {
    let path = Path::new("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Without the model, which says nothing to anybody.
fn read_rooms(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name");
        if path.is_dir() {
            if !["tests", "model"].contains(&name) {
                read_rooms(&path, text);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            text.push_str(&fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// The texts that stand right behind one of the marks.
fn behind<'a>(source: &'a str, marks: &[&str]) -> BTreeSet<&'a str> {
    let texts = marks.iter().flat_map(|mark| source.split(*mark).skip(1));
    let quoted = texts.filter_map(|text| text.trim_start().strip_prefix('"'));
    quoted.filter_map(|text| text.split('"').next()).collect()
}

/// What the document's tables list: the first cells' words between backticks.
fn listed(document: &str) -> BTreeSet<&str> {
    let first_cells = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

fn is_reason(word: &str) -> bool {
    word.len() > 3
        && word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_alphabetic())
}

#[test]
fn every_reason_is_explained_and_none_that_nobody_gives() {
    let document = read("docs/on-call.md");
    let listed = listed(&document);
    let mut source = String::new();
    read_rooms(Path::new("../operator/src"), &mut source);
    let mut said = behind(&source, SAY);
    said.retain(|word| is_reason(word) && !NO_REASONS.contains(word));
    assert!(said.len() > 40, "the reasons were not found: {said:?}");
    let unexplained: Vec<_> = said.difference(&listed).collect();
    assert!(
        unexplained.is_empty(),
        "docs/on-call.md does not list {unexplained:?}"
    );
    let unsaid: Vec<_> = listed
        .iter()
        .filter(|word| is_reason(word) && !source.contains(&format!("\"{word}\"")))
        .collect();
    assert!(
        unsaid.is_empty(),
        "docs/on-call.md lists {unsaid:?}, which nobody says"
    );
}

#[test]
fn every_metric_is_explained_and_alerts_ask_for_those_that_there_are() {
    let document = read("docs/on-call.md");
    let listed: BTreeSet<&str> = listed(&document)
        .into_iter()
        .filter_map(|word| word.strip_prefix("understudy_"))
        .map(|name| name.trim_end_matches("_total"))
        .collect();
    let operator = read("operator/src/kubernetes/metrics.rs");
    let engine = read("engine/src/node/managed/report.rs");
    let mut shown = behind(&operator, &["let name =", ".register("]);
    shown.extend(behind(&engine, &[".gauge(", ".head("]));
    assert!(shown.len() > 20, "the metrics were not found: {shown:?}");
    let unexplained: Vec<_> = shown.difference(&listed).collect();
    assert!(
        unexplained.is_empty(),
        "docs/on-call.md does not list {unexplained:?}"
    );
    let is_there = |name: &str| {
        let literal = format!("\"{name}\"");
        operator.contains(&literal) || engine.contains(&literal)
    };
    let unshown: Vec<_> = listed.iter().filter(|name| !is_there(name)).collect();
    assert!(
        unshown.is_empty(),
        "docs/on-call.md lists {unshown:?}, which nobody shows"
    );
    let rules = read("examples/monitoring.yaml");
    let asked: BTreeSet<&str> = rules
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter_map(|word| word.strip_prefix("understudy_"))
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_count"))
        .collect();
    let unknown: Vec<_> = asked.difference(&listed).collect();
    assert!(
        !asked.is_empty() && unknown.is_empty(),
        "examples/monitoring.yaml asks for {unknown:?}"
    );
}
