//! Every statement of the corpora answered as PostgreSQL 15 answers it.
//!
//! `tests/corpus` holds what the first issue's SQL list promises: there a refusal is a failure. `tests/corpus/outside`
//! holds statements beyond it: each is answered alike or refused with 0A000, never answered wrongly.
//! `UNDERSTUDY_SLT=name` runs only files whose name has `name` in it.

use std::path::{Path, PathBuf};

use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::slt::{self, Directive, Outcome};

/// Statements that the corpora have at least.
const WITHIN: usize = 800;
const OUTSIDE: usize = 200;

fn files(dir: &Path, wanted: Option<&str>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the corpus is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .filter(|path| wanted.is_none_or(|w| path.to_string_lossy().contains(w)))
        .collect();
    found.sort();
    found
}

fn run(files: &[PathBuf], server: &Server, reference: &Reference) -> Outcome {
    let mut sum = Outcome::default();
    for file in files {
        let mut one = slt::compare(file, &mut server.client(), &mut reference.client());
        sum.agreed += one.agreed;
        sum.refused += one.refused;
        sum.differences.append(&mut one.differences);
    }
    sum
}

#[test]
fn the_corpora_agree_with_postgresql() {
    let wanted = std::env::var("UNDERSTUDY_SLT").ok();
    let dir = Path::new("corpus");
    let within = files(dir, wanted.as_deref());
    let outside = files(&dir.join("outside"), wanted.as_deref());
    let optional = within
        .iter()
        .flat_map(|f| slt::parse(f))
        .find(|r| r.directive == Directive::Refused);
    assert!(
        optional.is_none(),
        "nothing within the list may be refused: {optional:?}"
    );

    let server = Server::started();
    let reference = Reference::started();
    let inner = run(&within, &server, &reference);
    let outer = run(&outside, &server, &reference);
    println!(
        "within the list: {} agreed; outside: {} agreed, {} refused",
        inner.agreed, outer.agreed, outer.refused
    );
    let differences: Vec<_> = inner
        .differences
        .iter()
        .chain(&outer.differences)
        .map(String::as_str)
        .collect();
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    if wanted.is_none() {
        assert!(inner.agreed >= WITHIN, "{} within the list", inner.agreed);
        let outer = outer.agreed + outer.refused;
        assert!(outer >= OUTSIDE, "{outer} outside it");
    }
}
