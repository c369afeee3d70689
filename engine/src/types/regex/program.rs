//! A compiled pattern, the quick ways to use it, and a small cache of compiled patterns.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use super::matcher::Matcher;
use super::{Assert, Flags, Node, parse};
use crate::types::error::TypeError;

/// Byte ranges: the whole match, then each group.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub whole: (usize, usize),
    pub groups: Vec<Option<(usize, usize)>>,
}

pub(crate) struct Regex {
    pub(super) root: Node,
    pub groups: usize,
    /// Finds beginnings; `None` if the pattern has constraints that the crate does not know.
    quick: Option<regex::Regex>,
    /// The crate's match is PostgreSQL's as well: nothing in the pattern can be matched in two ways.
    plain: bool,
    /// Groups inside of a repetition whose body can be empty: PostgreSQL's choice among empty rounds is not known here.
    unsure: bool,
}

/// Patterns kept for each thread.
const CACHE: usize = 32;

thread_local! {
    static COMPILED: RefCell<Vec<(String, Flags, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// The compiled pattern, most likely from the cache.
pub(crate) fn compile(pattern: &str, flags: Flags) -> Result<Rc<Regex>, TypeError> {
    let flags = Flags {
        global: false,
        ..flags
    };
    COMPILED.with_borrow_mut(|cache| {
        if let Some(at) = cache
            .iter()
            .position(|(p, f, _)| p == pattern && *f == flags)
        {
            let hit = cache.remove(at);
            let regex = Rc::clone(&hit.2);
            cache.push(hit);
            return Ok(regex);
        }
        let regex = Rc::new(Regex::new(pattern, flags)?);
        if cache.len() == CACHE {
            cache.remove(0);
        }
        cache.push((pattern.to_owned(), flags, Rc::clone(&regex)));
        Ok(regex)
    })
}

impl Regex {
    fn new(pattern: &str, flags: Flags) -> Result<Regex, TypeError> {
        let (root, _, groups) = parse::parse(pattern, flags)?;
        let mut text = String::from("(?s)");
        let quick = if translate(&root, &mut text) {
            regex::RegexBuilder::new(&text)
                .size_limit(10 << 20)
                .build()
                .ok()
        } else {
            None
        };
        let plain = quick.is_some() && groups == 0 && variable_parts(&root) <= 1;
        let unsure = groups > 0 && repeats_empty_group(&root);
        Ok(Regex {
            root,
            groups,
            quick,
            plain,
            unsure,
        })
    }

    pub fn is_match(&self, text: &str) -> Result<bool, TypeError> {
        match &self.quick {
            Some(quick) => Ok(quick.is_match(text)),
            None => Ok(self.find_at(text, 0)?.is_some()),
        }
    }

    /// The first match that begins at or behind byte `from`.
    pub fn find_at(&self, text: &str, from: usize) -> Result<Option<Found>, TypeError> {
        if self.unsure {
            return Err(TypeError::new(
                "0A000",
                "groups inside of a repetition that can be empty are not implemented",
            )
            .with_hint("Use a group that does not capture: (?:...)."));
        }
        let begin = match &self.quick {
            Some(quick) => match quick.find_at(text, from) {
                None => return Ok(None),
                Some(m) if self.plain => {
                    return Ok(Some(Found {
                        whole: (m.start(), m.end()),
                        groups: Vec::new(),
                    }));
                }
                Some(m) => m.start(),
            },
            None => from,
        };
        Matcher::new(self, text).first_from(begin)
    }
}

fn can_be_empty(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } => true,
        Node::Set(_) => false,
        Node::Cat(list) => list.iter().all(can_be_empty),
        Node::Alt(list) => list.iter().any(can_be_empty),
        Node::Group(_, inner) => can_be_empty(inner),
        Node::Repeat { node, min, .. } => *min == 0 || can_be_empty(node),
    }
}

/// Is there a group in it whose place is asked for?
pub(super) fn captures(node: &Node) -> bool {
    match node {
        Node::Group(Some(_), _) => true,
        Node::Group(None, inner) => captures(inner),
        Node::Cat(list) | Node::Alt(list) => list.iter().any(captures),
        Node::Repeat { node, .. } => captures(node),
        _ => false,
    }
}
fn repeats_empty_group(node: &Node) -> bool {
    match node {
        Node::Repeat { node, .. } => {
            (captures(node) && can_be_empty(node)) || repeats_empty_group(node)
        }
        Node::Group(_, inner) => repeats_empty_group(inner),
        Node::Cat(list) | Node::Alt(list) => list.iter().any(repeats_empty_group),
        _ => false,
    }
}

/// How many parts can match runs of different lengths; many if there are alternatives.
fn variable_parts(node: &Node) -> usize {
    match node {
        Node::Empty | Node::Set(_) | Node::Assert(_) => 0,
        Node::Alt(_) | Node::Look { .. } => 2,
        Node::Cat(list) => list.iter().map(variable_parts).sum(),
        Node::Group(_, inner) => variable_parts(inner),
        Node::Repeat { node, min, max, .. } => {
            if Some(*min) == *max {
                2 * variable_parts(node)
            } else if matches!(**node, Node::Set(_)) {
                1
            } else {
                2
            }
        }
    }
}

/// The same language in the crate's syntax; false if it has no words for it.
fn translate(node: &Node, out: &mut String) -> bool {
    match node {
        Node::Empty => out.push_str("(?:)"),
        Node::Set(ranges) if ranges.is_empty() => out.push_str("[^\\x{0}-\\x{10FFFF}]"),
        Node::Set(ranges) => {
            out.push('[');
            for (low, high) in ranges {
                let _ = write!(
                    out,
                    "\\x{{{:X}}}-\\x{{{:X}}}",
                    u32::from(*low),
                    u32::from(*high)
                );
            }
            out.push(']');
        }
        Node::Cat(list) => return list.iter().all(|n| translate(n, out)),
        Node::Alt(list) => {
            out.push_str("(?:");
            for (i, n) in list.iter().enumerate() {
                if i > 0 {
                    out.push('|');
                }
                if !translate(n, out) {
                    return false;
                }
            }
            out.push(')');
        }
        Node::Group(_, inner) => {
            out.push_str("(?:");
            let known = translate(inner, out);
            out.push(')');
            return known;
        }
        Node::Repeat {
            node,
            min,
            max,
            greedy,
        } => {
            out.push_str("(?:");
            if !translate(node, out) {
                return false;
            }
            let _ = match max {
                Some(max) => write!(out, "){{{min},{max}}}"),
                None => write!(out, "){{{min},}}"),
            };
            if !greedy {
                out.push('?');
            }
        }
        Node::Assert(a) => out.push_str(match a {
            Assert::Start => "\\A",
            Assert::End => "\\z",
            Assert::LineStart => "(?m:^)",
            Assert::LineEnd => "(?m:$)",
            Assert::WordStart => "(?-u:\\b{start})",
            Assert::WordEnd => "(?-u:\\b{end})",
            Assert::WordEdge => "(?-u:\\b)",
            Assert::NotWordEdge => return false,
        }),
        Node::Look { .. } => return false,
    }
    true
}
