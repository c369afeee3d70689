//! Statement corpora: run here and on PostgreSQL 15, and compared.
//!
//! A `.slt` file is a list of records separated by empty lines; a record is a directive and a statement:
//!
//! ```text
//! statement            rows, types, tag, notices or the error must agree
//! SELECT 1 + 1
//!
//! unordered            the same, rows compared as a bag
//! SELECT a FROM t
//!
//! code                 of an error only the SQLSTATE has to agree
//! SELECT 1 +
//!
//! shape                columns and tag have to agree, rows not: plans, costs
//! EXPLAIN SELECT 1
//!
//! refused              PostgreSQL answers it, we may answer alike or refuse it with 0A000
//! SELECT xmlparse(...)
//! ```
//!
//! `statement lines` (and so on) makes a record of each line that follows. Lines that begin with `#` are comments.
//! No expected results are written down: the referee gives them. Where a query succeeds in text it is run again
//! for its binary form. What was described before an error is not compared.

use std::fmt::Write as _;
use std::path::Path;

use crate::wire::{Answer, Client, Report};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    Statement,
    Unordered,
    Code,
    Shape,
    Refused,
}

impl Directive {
    fn named(word: &str) -> Option<Directive> {
        Some(match word {
            "statement" => Directive::Statement,
            "unordered" => Directive::Unordered,
            "code" => Directive::Code,
            "shape" => Directive::Shape,
            "refused" => Directive::Refused,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone)]
pub struct Record {
    pub line: usize,
    pub directive: Directive,
    pub sql: String,
}

/// How a corpus went.
#[derive(Debug, Default)]
pub struct Outcome {
    pub agreed: usize,
    pub refused: usize,
    pub differences: Vec<String>,
}

pub fn parse(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut records = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, each_line) = match line.strip_suffix(" lines") {
            Some(word) => (word, true),
            None if line == "lines" => ("statement", true),
            None => (line, false),
        };
        let directive = Directive::named(word).unwrap_or_else(|| {
            panic!(
                "{}:{}: unknown directive {line:?}",
                path.display(),
                number + 1
            )
        });
        let mut sql = String::new();
        while let Some((at, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            if !each_line {
                sql.push_str(line);
                sql.push('\n');
            } else if !line.starts_with('#') {
                records.push(Record {
                    line: at + 1,
                    directive,
                    sql: line.to_owned(),
                });
            }
        }
        if !each_line {
            records.push(Record {
                line: number + 1,
                directive,
                sql: sql.trim_end().to_owned(),
            });
        }
    }
    records
}

/// A schema of the file's own, and settings that do not come from the machine.
fn prepare(client: &mut Client) {
    for sql in [
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "SET timezone = 'UTC'",
    ] {
        let answers = client.query(sql).expect("the server answers");
        let error = answers.into_iter().find_map(|a| a.error);
        assert!(error.is_none(), "{sql}: {error:?}");
    }
}

/// Runs every record on both, in order, each on one connection.
pub fn compare(path: &Path, ours: &mut Client, reference: &mut Client) -> Outcome {
    prepare(ours);
    prepare(reference);
    let mut outcome = Outcome::default();
    for record in parse(path) {
        let place = format!("{}:{}", path.display(), record.line);
        let theirs = reference.query(&record.sql).expect("the referee answers");
        let own = match ours.query(&record.sql) {
            Ok(own) => own,
            Err(error) => {
                outcome
                    .differences
                    .push(format!("{place}: {}\n  lost: {error}", record.sql));
                return outcome;
            }
        };
        if record.directive == Directive::Refused && was_refused(&own) {
            outcome.refused += 1;
            continue;
        }
        if !agree(record.directive, &own, &theirs) {
            outcome
                .differences
                .push(difference(&place, &record, &own, &theirs));
            continue;
        }
        if let Some(difference) = binary_difference(&place, &record, &theirs, ours, reference) {
            outcome.differences.push(difference);
            continue;
        }
        outcome.agreed += 1;
    }
    outcome
}

fn was_refused(own: &[Answer]) -> bool {
    own.iter()
        .any(|a| a.error.as_ref().is_some_and(|e| e.state == "0A000"))
}

/// In binary form these are numbers, which the two servers give out as they like.
const REGCLASS: u32 = 2205;

/// Queries that may be run twice, in the binary format of the extended protocol.
fn binary_difference(
    place: &str,
    record: &Record,
    theirs: &[Answer],
    ours: &mut Client,
    reference: &mut Client,
) -> Option<String> {
    let first = record.sql.split_whitespace().next()?.to_ascii_lowercase();
    let [only] = theirs else { return None };
    let repeatable = matches!(first.as_str(), "select" | "values")
        && matches!(
            record.directive,
            Directive::Statement | Directive::Unordered | Directive::Refused
        )
        && only.error.is_none()
        && only.columns.iter().all(|c| c.type_oid != REGCLASS)
        && !record.sql.contains("nextval");
    if !repeatable {
        return None;
    }
    let theirs = reference
        .binary_query(&record.sql)
        .expect("the referee answers");
    match ours.binary_query(&record.sql) {
        Err(error) => Some(format!("{place}: {}\n  lost: {error}", record.sql)),
        Ok(own) if agree(record.directive, &own, &theirs) => None,
        Ok(own) => Some(format!(
            "(binary) {}",
            difference(place, record, &own, &theirs)
        )),
    }
}

/// What of a report has to agree.
fn essence(report: &Report, directive: Directive) -> Report {
    if directive == Directive::Code {
        return Report {
            state: report.state.clone(),
            ..Report::default()
        };
    }
    report.clone()
}

fn agree(directive: Directive, own: &[Answer], theirs: &[Answer]) -> bool {
    own.len() == theirs.len()
        && own
            .iter()
            .zip(theirs)
            .all(|(own, theirs)| agree_on(directive, own, theirs))
}

fn agree_on(directive: Directive, own: &Answer, theirs: &Answer) -> bool {
    let error = |a: &Answer| a.error.as_ref().map(|e| essence(e, directive));
    if own.tag != theirs.tag || error(own) != error(theirs) {
        return false;
    }
    if theirs.error.is_some() {
        return true;
    }
    if own.columns != theirs.columns {
        return false;
    }
    if directive == Directive::Shape {
        return true;
    }
    if own.notices != theirs.notices {
        return false;
    }
    if directive != Directive::Unordered {
        return own.rows == theirs.rows;
    }
    let sorted = |a: &Answer| {
        let mut rows = a.rows.clone();
        rows.sort();
        rows
    };
    sorted(own) == sorted(theirs)
}

fn difference(place: &str, record: &Record, own: &[Answer], theirs: &[Answer]) -> String {
    let mut text = format!("{place}: {}\n", record.sql);
    for (who, answers) in [("ours", own), ("PostgreSQL", theirs)] {
        for answer in answers {
            let columns: Vec<String> = answer
                .columns
                .iter()
                .map(|c| format!("{}:{}({})", c.name, c.type_oid, c.modifier))
                .collect();
            let _ = writeln!(
                text,
                "  {who}: {columns:?} {:?} {:?} {:?} {:?}",
                answer.rows.iter().take(5).collect::<Vec<_>>(),
                answer.tag,
                answer.error,
                answer.notices
            );
        }
    }
    text
}
