//! Whether two answers agree, as far as SQL determines them.

use super::sides::Reply;
use super::tree::Comparison;
use crate::wire::{Answer, Report};

const NUMERIC: u32 = 1700;

/// How the two disagree. A statement is made small only as long as it is the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The session is gone, or does not answer.
    Lost,
    Rows,
    Columns,
    /// Errors, where there are any: ours, and PostgreSQL's.
    Errors(Option<String>, Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Rows, or the same error.
    Agree,
    /// We refuse it: 0A000 and what is said.
    Refused(String),
    /// PostgreSQL refuses it, we answer.
    Beyond,
    /// One of the two gave up after its time.
    TooSlow,
    /// A value that only one of the two has met, in whatever order it computes.
    ByOrder,
    /// PostgreSQL calls it an error of its own.
    TheirFault,
    Differ(Kind),
}

/// Of each statement that was sent, both answers, and what of them has to agree.
pub fn judge(own: &Reply, theirs: &Reply, comparisons: &[Comparison]) -> Verdict {
    let (own, theirs) = match (own, theirs) {
        (_, Reply::Lost(_)) => return Verdict::TheirFault,
        (Reply::Lost(_), _) => return Verdict::Differ(Kind::Lost),
        (Reply::Answers(own), Reply::Answers(theirs)) => (own, theirs),
    };
    if own.len() != theirs.len() {
        return Verdict::Differ(Kind::Rows);
    }
    for (i, (own, theirs)) in own.iter().zip(theirs).enumerate() {
        if own.error.is_some() || theirs.error.is_some() {
            // What follows an error in a transaction is no news.
            return of_errors(own.error.as_ref(), theirs.error.as_ref());
        }
        let comparison = comparisons.get(i).unwrap_or(&Comparison::Bag);
        if let Some(kind) = difference(own, theirs, comparison) {
            return Verdict::Differ(kind);
        }
    }
    Verdict::Agree
}

/// Errors of values and of the number of a subquery's rows.
fn is_of_values(error: &Report) -> bool {
    error.is_of_a_value() || error.state.starts_with("21")
}

fn of_errors(own: Option<&Report>, theirs: Option<&Report>) -> Verdict {
    let is = |report: Option<&Report>, state: &str| {
        report.is_some_and(|report| report.state.starts_with(state))
    };
    let state = |report: Option<&Report>| report.map(|report| report.state.clone());
    if state(own) == state(theirs) || (is(own, "23") && is(theirs, "23")) {
        return Verdict::Agree;
    }
    if is(own, "57014") || is(theirs, "57014") {
        return Verdict::TooSlow;
    }
    if is(theirs, "XX") {
        return Verdict::TheirFault;
    }
    if let Some(report) = own.filter(|report| report.state == "0A000") {
        return Verdict::Refused(report.message.clone());
    }
    if is(theirs, "0A000") && own.is_none() {
        return Verdict::Beyond;
    }
    if own.is_none_or(is_of_values) && theirs.is_none_or(is_of_values) {
        return Verdict::ByOrder;
    }
    Verdict::Differ(Kind::Errors(state(own), state(theirs)))
}

fn difference(own: &Answer, theirs: &Answer, comparison: &Comparison) -> Option<Kind> {
    let columns = |answer: &Answer| -> Vec<(String, u32)> {
        let named = answer.columns.iter();
        named.map(|c| (c.name.clone(), c.type_oid)).collect()
    };
    if columns(own) != columns(theirs) {
        return Some(Kind::Columns);
    }
    let (ours, others) = (shown(own), shown(theirs));
    let same = own.tag == theirs.tag
        && match comparison {
            Comparison::Sequence => ours == others,
            Comparison::Bag => sorted(&ours) == sorted(&others),
            Comparison::Ordered(by) => {
                part(&ours, by) == part(&others, by) && sorted(&ours) == sorted(&others)
            }
        };
    (!same).then_some(Kind::Rows)
}

type Row = Vec<Option<String>>;

/// Rows without what makes equal values look different: zeros at the end of a numeric.
fn shown(answer: &Answer) -> Vec<Row> {
    let plain = |row: &Row| {
        let values = row.iter().enumerate();
        let value = |(i, value): (usize, &Option<String>)| {
            let is_numeric = answer.columns.get(i).is_some_and(|c| c.type_oid == NUMERIC);
            let value = value.as_ref()?;
            Some(if is_numeric && value.contains('.') {
                let short = value.trim_end_matches('0').trim_end_matches('.');
                short.to_owned()
            } else {
                value.clone()
            })
        };
        values.map(value).collect()
    };
    answer.rows.iter().map(plain).collect()
}

fn sorted(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
}

fn part(rows: &[Row], columns: &[usize]) -> Vec<Row> {
    let of = |row: &Row| {
        columns
            .iter()
            .map(|c| row.get(*c).cloned().flatten())
            .collect()
    };
    rows.iter().map(of).collect()
}
