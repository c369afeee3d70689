//! PostgreSQL's "advanced" regular expressions (manual, 9.7.3), in the C locale: letters, digits and case are ASCII's.
//!
//! What a pattern matches is POSIX's meaning: of all matches that begin first, the longest (or the shortest, if the
//! first quantifier that says so is lazy); parts of it by the same rule from left to right. A backtracking engine
//! such as the `regex` crate's finds the same *beginnings* but not always the same ends, so it answers "is there a
//! match" and where matches begin, and `matcher` finds ends and groups. Back references are refused (0A000).

mod matcher;
mod parse;
mod program;

pub(crate) use program::{Found, compile};

use crate::types::error::TypeError;

/// How a pattern is to be read; set by function flags and by `(?i)` at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Flags {
    pub ignore_case: bool,
    /// `.` and `[^...]` do not match newlines.
    pub newline_stops: bool,
    /// `^` and `$` match at lines.
    pub newline_anchors: bool,
    /// Blanks and comments in the pattern do not count.
    pub expanded: bool,
    /// The pattern is a plain string.
    pub literal: bool,
    /// Substitution and the like: all matches.
    pub global: bool,
}

pub(crate) fn bad_pattern(reason: &str) -> TypeError {
    TypeError::new("2201B", format!("invalid regular expression: {reason}"))
}

impl Flags {
    /// The flags argument of the regexp functions.
    pub fn parse(text: &str) -> Result<Flags, TypeError> {
        let mut flags = Flags::default();
        for c in text.chars() {
            if c == 'g' {
                flags.global = true;
            } else if !flags.set(c) {
                return Err(TypeError::new(
                    "22023",
                    format!("invalid regular expression option: \"{c}\""),
                ));
            }
        }
        Ok(flags)
    }

    /// One letter of a flags argument or of `(?...)`; false if there is no such letter.
    pub(crate) fn set(&mut self, letter: char) -> bool {
        match letter {
            'b' | 'e' => {}
            'c' => self.ignore_case = false,
            'i' => self.ignore_case = true,
            'm' | 'n' => (self.newline_stops, self.newline_anchors) = (true, true),
            'p' => (self.newline_stops, self.newline_anchors) = (true, false),
            'q' => self.literal = true,
            's' => (self.newline_stops, self.newline_anchors) = (false, false),
            't' => self.expanded = false,
            'w' => (self.newline_stops, self.newline_anchors) = (false, true),
            'x' => self.expanded = true,
            _ => return false,
        }
        true
    }
}

/// A part of a pattern.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Empty,
    /// One character out of sorted ranges.
    Set(Vec<(char, char)>),
    Cat(Vec<Node>),
    Alt(Vec<Node>),
    /// A group, with its number if it captures.
    Group(Option<usize>, Box<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    Assert(Assert),
    Look {
        ahead: bool,
        negated: bool,
        node: Box<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assert {
    Start,
    End,
    LineStart,
    LineEnd,
    WordStart,
    WordEnd,
    WordEdge,
    NotWordEdge,
}
