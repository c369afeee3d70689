//! Statement corpora: run here and on PostgreSQL 15, and compared.
//!
//! A `.slt` file is a list of records separated by empty lines; a record is a directive and a statement:
//!
//! ```text
//! statement            rows, types, tag or SQLSTATE must agree
//! SELECT 1 + 1
//!
//! unordered            the same, rows compared as a bag
//! SELECT a FROM t
//!
//! refused              PostgreSQL answers it, we may answer alike or refuse it with 0A000
//! SELECT xmlparse(...)
//! ```
//!
//! Lines that begin with `#` are comments. No expected results are written down: the referee gives them.

use std::fmt::Write as _;
use std::path::Path;

use crate::wire::{Answer, Client};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    Statement,
    Unordered,
    Refused,
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
        let directive = match line.trim() {
            "" => continue,
            comment if comment.starts_with('#') => continue,
            "statement" => Directive::Statement,
            "unordered" => Directive::Unordered,
            "refused" => Directive::Refused,
            other => panic!(
                "{}:{}: unknown directive {other:?}",
                path.display(),
                number + 1
            ),
        };
        let mut sql = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            sql.push_str(line);
            sql.push('\n');
        }
        records.push(Record {
            line: number + 1,
            directive,
            sql: sql.trim_end().to_owned(),
        });
    }
    records
}

/// Runs every record on both, in order, each on one connection.
pub fn compare(path: &Path, ours: &mut Client, reference: &mut Client) -> Outcome {
    let mut outcome = Outcome::default();
    for record in parse(path) {
        let theirs = reference.query(&record.sql).expect("the referee answers");
        let own = match ours.query(&record.sql) {
            Ok(own) => own,
            Err(error) => {
                let place = format!("{}:{}", path.display(), record.line);
                outcome
                    .differences
                    .push(format!("{place}: {}\n  lost: {error}", record.sql));
                return outcome;
            }
        };
        let was_refused = own
            .iter()
            .any(|a| a.error.as_ref().is_some_and(|e| e.state == "0A000"));
        if record.directive == Directive::Refused && was_refused {
            outcome.refused += 1;
        } else if agree(record.directive, &own, &theirs) {
            outcome.agreed += 1;
        } else {
            outcome
                .differences
                .push(difference(path, &record, &own, &theirs));
        }
    }
    outcome
}

fn agree(directive: Directive, own: &[Answer], theirs: &[Answer]) -> bool {
    own.len() == theirs.len()
        && own.iter().zip(theirs).all(|(own, theirs)| {
            let state = |a: &Answer| a.error.as_ref().map(|e| e.state.clone());
            let rows = |a: &Answer| {
                let mut rows = a.rows.clone();
                if directive == Directive::Unordered {
                    rows.sort();
                }
                rows
            };
            own.columns == theirs.columns
                && own.tag == theirs.tag
                && state(own) == state(theirs)
                && (theirs.error.is_some() || rows(own) == rows(theirs))
        })
}

fn difference(path: &Path, record: &Record, own: &[Answer], theirs: &[Answer]) -> String {
    let mut text = format!("{}:{}: {}\n", path.display(), record.line, record.sql);
    for (who, answers) in [("ours", own), ("PostgreSQL", theirs)] {
        for answer in answers {
            let columns: Vec<String> = answer
                .columns
                .iter()
                .map(|c| format!("{}:{}({})", c.name, c.type_oid, c.modifier))
                .collect();
            let error = answer
                .error
                .as_ref()
                .map(|e| format!("{} {}", e.state, e.message));
            let _ = writeln!(
                text,
                "  {who}: {columns:?} {:?} {:?} {error:?}",
                answer.rows.iter().take(5).collect::<Vec<_>>(),
                answer.tag
            );
        }
    }
    text
}
