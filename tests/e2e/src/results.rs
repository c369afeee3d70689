//! The results file: a line of JSON for each thing that was measured, so that several runs add up.
//!
//! A line names the commit that was measured; [`summary`] puts those of one commit together and says of how many rounds
//! each figure is. A round that fails leaves a line as well ([`Entry`]), with whatever was measured by then: of a file that
//! holds successes only nobody could say how many there were of how many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use understudy_tests::local::now_ms;

use crate::settings::Settings;

/// Among a line's counts: 1 if its round has failed.
const FAILED: &str = "failed";

/// One round of one test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub commit: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `short` or `long`.
    pub form: String,
    pub test: String,
    /// What is special about it: `leader on the node`.
    #[serde(default)]
    pub variant: String,
    pub round: u32,
    #[serde(default)]
    pub seconds: BTreeMap<String, f64>,
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
}

impl Line {
    pub fn new(settings: &Settings, test: &str, variant: &str, round: u32) -> Line {
        Line {
            commit: settings.commit.clone(),
            at_ms: now_ms(),
            form: settings.form().to_owned(),
            test: test.to_owned(),
            variant: variant.to_owned(),
            round,
            ..Line::default()
        }
    }

    #[must_use]
    pub fn seconds(mut self, name: &str, value: f64) -> Line {
        // Milliseconds are as much as anybody reads.
        let rounded = (value * 1000.0).round() / 1000.0;
        self.seconds.insert(name.to_owned(), rounded);
        self
    }

    #[must_use]
    pub fn count(mut self, name: &str, value: usize) -> Line {
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        self.counts.insert(name.to_owned(), value);
        self
    }

    /// As one line for people.
    pub fn shown(&self) -> String {
        let mut text = format!("measured: {}", self.test);
        if !self.variant.is_empty() {
            write!(text, " ({})", self.variant).expect("writing to a string can't fail");
        }
        write!(text, ", round {}:", self.round).expect("writing to a string can't fail");
        for (name, value) in &self.seconds {
            write!(text, " {name} {value:.3} s;").expect("writing to a string can't fail");
        }
        for (name, value) in &self.counts {
            write!(text, " {name} {value};").expect("writing to a string can't fail");
        }
        text
    }

    /// Prints it and puts it at the end of the results file.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn keep(&self, settings: &Settings) -> Result<()> {
        self.append(&settings.results)
    }

    fn append(&self, path: &Path) -> Result<()> {
        println!("{}", self.shown());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("make {}", folder.display()))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.with_context(|| format!("open {}", path.display()))?;
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        // One write: several runs may append to one file.
        file.write_all(text.as_bytes())
            .with_context(|| format!("write {}", path.display()))
    }
}

/// The line of a round that is not over. It is put into the file when this goes, before a test that fails has ended: the
/// line then says that its round has failed.
pub struct Entry {
    results: PathBuf,
    line: Line,
}

impl Entry {
    /// To be begun before anything of the round can fail.
    pub fn begin(settings: &Settings, test: &str, variant: &str, round: u32) -> Entry {
        let line = Line::new(settings, test, variant, round);
        Entry::of(settings.results.clone(), line)
    }

    pub(crate) fn of(results: PathBuf, line: Line) -> Entry {
        Entry { results, line }
    }

    pub fn seconds(&mut self, name: &str, value: f64) {
        self.line = std::mem::take(&mut self.line).seconds(name, value);
    }

    pub fn count(&mut self, name: &str, value: usize) {
        self.line = std::mem::take(&mut self.line).count(name, value);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        self.count(FAILED, usize::from(failed));
        self.line.at_ms = now_ms();
        if let Err(error) = self.line.append(&self.results) {
            let text = format!("the results file: {error:#}");
            eprintln!("{text}");
            assert!(failed, "{text}");
        }
    }
}

/// # Errors
/// If the file can't be read, or holds something else.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("no result: {line}")))
        .collect()
}

fn quantile(sorted: &[f64], of: usize, parts: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * of / parts).copied().unwrap_or_default()
}

/// How many lines there are, and how many of them say that their round has failed.
fn rounds<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let (mut all, mut failed) = (0, 0);
    for line in lines {
        all += 1;
        failed += u32::from(line.counts.get(FAILED).is_some_and(|n| *n > 0));
    }
    format!("{all} rounds, {failed} of them failed")
}

/// A table of the lines of one commit: median and worst of each time, sum of each count, number of rounds.
pub fn summary(lines: &[Line], commit: &str) -> String {
    let of_commit = || lines.iter().filter(|line| line.commit == commit);
    let mut times: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
    let mut sums: BTreeMap<(&str, &str, &str), (u64, u64)> = BTreeMap::new();
    for line in of_commit() {
        for (name, value) in &line.seconds {
            let key = (line.test.as_str(), line.variant.as_str(), name.as_str());
            times.entry(key).or_default().push(*value);
        }
        for (name, value) in &line.counts {
            let key = (line.test.as_str(), line.variant.as_str(), name.as_str());
            let (sum, rounds) = sums.entry(key).or_default();
            *sum += value;
            *rounds += 1;
        }
    }
    let mut text = format!(
        "Results of {commit}: {}\n\n| test | variant | figure | rounds | median | worst |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        rounds(of_commit())
    );
    for ((test, variant, name), mut values) in times {
        values.sort_by(f64::total_cmp);
        writeln!(
            text,
            "| {test} | {variant} | {name} | {} | {:.3} s | {:.3} s |",
            values.len(),
            quantile(&values, 1, 2),
            quantile(&values, 1, 1),
        )
        .expect("writing to a string can't fail");
    }
    text.push_str(
        "\n| test | variant | count | rounds | in all |\n| --- | --- | --- | --- | --- |\n",
    );
    for ((test, variant, name), (sum, rounds)) in sums {
        writeln!(text, "| {test} | {variant} | {name} | {rounds} | {sum} |")
            .expect("writing to a string can't fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(commit: &str, first_write: f64, missing: u64) -> Line {
        Line {
            commit: commit.to_owned(),
            test: "container-killed".to_owned(),
            seconds: BTreeMap::from([("first write".to_owned(), first_write)]),
            counts: BTreeMap::from([("missing".to_owned(), missing)]),
            ..Line::default()
        }
    }

    #[test]
    fn several_runs_of_a_commit_add_up() {
        let lines = [
            line("a", 0.5, 0),
            line("a", 2.0, 1),
            line("a", 1.0, 0),
            line("b", 9.0, 7),
        ];
        let text = summary(&lines, "a");
        assert!(
            text.contains("| first write | 3 | 1.000 s | 2.000 s |"),
            "{text}"
        );
        assert!(text.contains("| missing | 3 | 1 |"), "{text}");
        assert!(!text.contains("9.000"), "{text}");
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let line = line("a", 0.25, 3).seconds("pause", 1.23456);
        assert_eq!(line.seconds["pause"], 1.235);
        let text = serde_json::to_string(&line).expect("JSON");
        let back: Line = serde_json::from_str(&text).expect("a line");
        assert_eq!(back, line);
        assert!(line.shown().contains("missing 3"), "{}", line.shown());
    }

    #[test]
    fn a_round_that_fails_leaves_a_line_that_says_so_with_what_was_measured() {
        let dir = tempfile::tempdir().expect("a folder");
        // The folder is made with the first line.
        let path = dir.path().join("below/results.jsonl");
        let begin = |missing: u64| Entry::of(path.clone(), line("a", 0.5, missing));
        let ended = std::panic::catch_unwind(|| {
            let mut entry = begin(2);
            entry.seconds("longest pause of writes", 7.0);
            panic!("a promise was broken");
        });
        assert!(ended.is_err());
        let mut entry = begin(0);
        entry.count("acknowledged", 9);
        drop(entry);
        let lines = read(&path).expect("two lines");
        let counts: Vec<_> = lines
            .iter()
            .map(|line| (line.counts["failed"], line.counts["missing"]))
            .collect();
        assert_eq!(counts, [(1, 2), (0, 0)]);
        assert_eq!(lines[0].seconds["longest pause of writes"], 7.0);
        assert_eq!(lines[1].counts["acknowledged"], 9);
        let text = summary(&lines, "a");
        assert!(
            text.starts_with("Results of a: 2 rounds, 1 of them failed\n"),
            "{text}"
        );
        assert!(text.contains("| missing | 2 | 2 |"), "{text}");
    }
}
