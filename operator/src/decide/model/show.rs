//! A state in words, for people who read a failing run.

use std::fmt::Write as _;

use super::node::Node;
use crate::crd::{Member, Record};

/// The record and each instance in a line.
pub(super) fn show<'a>(
    record: Option<&Record>,
    nodes: impl IntoIterator<Item = &'a Node>,
) -> String {
    let mut text = record.map(show_record).unwrap_or_default();
    for n in nodes {
        let log: Vec<_> = n.log.iter().map(|(t, v)| format!("{t}:{v}")).collect();
        let set = n.set.as_ref().map(|s| (s.term.number(), s.counter));
        let _ = write!(
            text,
            "\n  {} {} up {} promised {} sealed {} standby {} waiting {} set {set:?} owed {} streams {:?} log {log:?}",
            n.name, n.id, n.up, n.promised, n.sealed, n.standby, n.waiting, n.owed, n.streams
        );
    }
    text
}

fn show_record(r: &Record) -> String {
    let name = |m: &Option<Member>| m.as_ref().map(|m| m.id.to_string());
    let change = r.change.as_ref().map(|c| &c.cause);
    let mut text = format!(
        "term {} {:?} primary {:?} candidate {:?} change {change:?}",
        r.term,
        r.phase,
        name(&r.primary),
        name(&r.candidate)
    );
    for set in &r.in_sync {
        let members: Vec<_> = set.members.iter().map(|m| &m.id).collect();
        let _ = write!(
            text,
            "\n  set {}.{} of {:?}: {} of {members:?}",
            set.term,
            set.counter,
            name(&set.owner),
            set.required
        );
    }
    text
}
