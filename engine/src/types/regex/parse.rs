//! Patterns to trees.

use super::{Assert, Flags, Node, bad_pattern};
use crate::types::error::TypeError;

/// Most repetitions that `{m,n}` may ask for.
const MAX_REPEAT: u32 = 255;
/// Nesting beyond this would endanger the stack.
const MAX_DEPTH: usize = 200;

pub(super) type Ranges = Vec<(char, char)>;

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    groups: usize,
    depth: usize,
}

/// The tree, the flags as the pattern's beginning changed them, and the number of groups.
pub(super) fn parse(pattern: &str, flags: Flags) -> Result<(Node, Flags, usize), TypeError> {
    let mut flags = flags;
    let mut rest = pattern;
    if let Some(plain) = rest.strip_prefix("***=") {
        flags.literal = true;
        rest = plain;
    } else if let Some(plain) = rest.strip_prefix("***:") {
        rest = plain;
    } else if rest.starts_with("***") {
        return Err(bad_pattern("quantifier operand invalid"));
    }
    if !flags.literal && rest.starts_with("(?") {
        let letters = rest[2..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        if letters > 0 {
            for c in rest[2..2 + letters].chars() {
                if !flags.set(c) {
                    return Err(bad_pattern("invalid embedded option"));
                }
            }
            rest = rest[2 + letters..]
                .strip_prefix(')')
                .ok_or_else(|| bad_pattern("invalid embedded option"))?;
        }
    }
    let mut parser = Parser {
        rest,
        flags,
        groups: 0,
        depth: 0,
    };
    if flags.literal {
        let nodes = rest.chars().map(|c| parser.literal(c)).collect();
        return Ok((Node::Cat(nodes), flags, 0));
    }
    let node = parser.alternation()?;
    if !parser.rest.is_empty() {
        return Err(bad_pattern("parentheses () not balanced"));
    }
    Ok((node, flags, parser.groups))
}

/// Sorted and merged.
fn normal(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut out: Ranges = Vec::new();
    for (low, high) in ranges {
        match out.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    out
}

fn before(c: char) -> Option<char> {
    match c {
        '\0' => None,
        '\u{E000}' => Some('\u{D7FF}'),
        c => char::from_u32(u32::from(c) - 1),
    }
}
fn after(c: char) -> Option<char> {
    match c {
        '\u{D7FF}' => Some('\u{E000}'),
        c => char::from_u32(u32::from(c) + 1),
    }
}

fn complement(ranges: Ranges) -> Ranges {
    let mut out = Vec::new();
    let mut next = Some('\0');
    for (low, high) in normal(ranges) {
        if let (Some(from), Some(to)) = (next, before(low))
            && from <= to
        {
            out.push((from, to));
        }
        next = after(high);
    }
    if let Some(from) = next {
        out.push((from, char::MAX));
    }
    out
}

fn class(name: &str) -> Option<Ranges> {
    Some(match name {
        "alpha" => vec![('A', 'Z'), ('a', 'z')],
        "upper" => vec![('A', 'Z')],
        "lower" => vec![('a', 'z')],
        "digit" => vec![('0', '9')],
        "xdigit" => vec![('0', '9'), ('A', 'F'), ('a', 'f')],
        "alnum" => vec![('0', '9'), ('A', 'Z'), ('a', 'z')],
        "word" => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "space" => vec![('\t', '\r'), (' ', ' ')],
        "blank" => vec![('\t', '\t'), (' ', ' ')],
        "punct" => vec![('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "print" => vec![(' ', '~')],
        "graph" => vec![('!', '~')],
        "cntrl" => vec![('\0', '\x1f'), ('\x7f', '\x7f')],
        "ascii" => vec![('\0', '\x7f')],
        _ => return None,
    })
}

/// Both cases of the ASCII letters in it.
fn fold(ranges: &Ranges) -> Ranges {
    let mut out = ranges.clone();
    for (low, high) in ranges {
        for c in ('A'..='Z').chain('a'..='z') {
            if *low <= c && c <= *high {
                let other = if c.is_ascii_lowercase() {
                    c.to_ascii_uppercase()
                } else {
                    c.to_ascii_lowercase()
                };
                out.push((other, other));
            }
        }
    }
    out
}

/// What stands behind a backslash.
enum Escape {
    Char(char),
    Class(Ranges),
    Assert(Assert),
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }
    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }
    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
    fn literal(&self, c: char) -> Node {
        self.set(vec![(c, c)])
    }
    fn set(&self, ranges: Ranges) -> Node {
        Node::Set(normal(if self.flags.ignore_case {
            fold(&ranges)
        } else {
            ranges
        }))
    }

    /// Comments, and in expanded syntax blanks.
    fn skip_ignored(&mut self) {
        loop {
            if self.rest.starts_with("(?#") {
                let end = self.rest.find(')').map_or(self.rest.len(), |i| i + 1);
                self.rest = &self.rest[end..];
            } else if self.flags.expanded && self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                self.take();
            } else if self.flags.expanded && self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            } else {
                return;
            }
        }
    }

    fn alternation(&mut self) -> Result<Node, TypeError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(bad_pattern("regular expression is too complex"));
        }
        let mut branches = vec![self.branch()?];
        while self.skip("|") {
            branches.push(self.branch()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 {
            branches.remove(0)
        } else {
            Node::Alt(branches)
        })
    }

    fn branch(&mut self) -> Result<Node, TypeError> {
        let mut nodes = Vec::new();
        loop {
            self.skip_ignored();
            match self.peek() {
                None | Some('|') => break,
                Some(')') if self.depth > 1 => break,
                Some(')') => return Err(bad_pattern("parentheses () not balanced")),
                Some(_) => {
                    let node = self.atom()?;
                    nodes.push(self.quantified(node)?);
                }
            }
        }
        Ok(match nodes.len() {
            0 => Node::Empty,
            1 => nodes.remove(0),
            _ => Node::Cat(nodes),
        })
    }

    fn atom(&mut self) -> Result<Node, TypeError> {
        let c = self.take().expect("the caller looked");
        Ok(match c {
            '(' => self.group()?,
            '[' => self.bracket()?,
            '.' => {
                let all = vec![('\0', char::MAX)];
                Node::Set(if self.flags.newline_stops {
                    complement(vec![('\n', '\n')])
                } else {
                    all
                })
            }
            '^' => Node::Assert(if self.flags.newline_anchors {
                Assert::LineStart
            } else {
                Assert::Start
            }),
            '$' => Node::Assert(if self.flags.newline_anchors {
                Assert::LineEnd
            } else {
                Assert::End
            }),
            '*' | '+' | '?' => return Err(bad_pattern("quantifier operand invalid")),
            '{' if self.peek().is_some_and(|d| d.is_ascii_digit()) => {
                return Err(bad_pattern("quantifier operand invalid"));
            }
            '\\' => match self.escape(false)? {
                Escape::Char(c) => self.literal(c),
                Escape::Class(ranges) => self.set(ranges),
                Escape::Assert(a) => Node::Assert(a),
            },
            c => self.literal(c),
        })
    }

    fn group(&mut self) -> Result<Node, TypeError> {
        let look = [
            ("?=", true, false),
            ("?!", true, true),
            ("?<=", false, false),
            ("?<!", false, true),
        ];
        for (mark, ahead, negated) in look {
            if self.skip(mark) {
                // Groups inside of a constraint do not capture.
                let groups = self.groups;
                let node = self.inside()?;
                self.groups = groups;
                return Ok(Node::Look {
                    ahead,
                    negated,
                    node: Box::new(without_captures(node)),
                });
            }
        }
        let number = if self.skip("?:") {
            None
        } else if self.rest.starts_with('?') {
            return Err(bad_pattern("quantifier operand invalid"));
        } else {
            self.groups += 1;
            Some(self.groups)
        };
        let node = self.inside()?;
        Ok(Node::Group(number, Box::new(node)))
    }

    fn inside(&mut self) -> Result<Node, TypeError> {
        let node = self.alternation()?;
        if self.skip(")") {
            Ok(node)
        } else {
            Err(bad_pattern("parentheses () not balanced"))
        }
    }

    fn number(&mut self) -> Option<u32> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let value = self.rest[..digits].parse().ok();
        self.rest = &self.rest[digits..];
        value
    }

    fn quantified(&mut self, node: Node) -> Result<Node, TypeError> {
        self.skip_ignored();
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.take();
                let bad = || bad_pattern("invalid repetition count(s)");
                let min = self.number().ok_or_else(bad)?;
                let max = if self.skip(",") {
                    self.number()
                } else {
                    Some(min)
                };
                if !self.rest.starts_with('}') {
                    let reason = if self.rest.is_empty() {
                        "braces {} not balanced"
                    } else {
                        "invalid repetition count(s)"
                    };
                    return Err(bad_pattern(reason));
                }
                if min > MAX_REPEAT || max.is_some_and(|m| m > MAX_REPEAT || m < min) {
                    return Err(bad());
                }
                (min, max)
            }
            _ => return Ok(node),
        };
        self.take();
        let greedy = !self.skip("?");
        if matches!(node, Node::Assert(_) | Node::Look { .. }) {
            return Err(bad_pattern("quantifier operand invalid"));
        }
        self.skip_ignored();
        if matches!(self.peek(), Some('*' | '+' | '?')) {
            return Err(bad_pattern("quantifier operand invalid"));
        }
        Ok(Node::Repeat {
            node: Box::new(node),
            min,
            max,
            greedy,
        })
    }

    fn hex(&mut self, least: usize, most: usize) -> Result<char, TypeError> {
        let digits = self
            .rest
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_hexdigit)
            .count();
        if digits < least {
            return Err(bad_pattern("invalid escape \\ sequence"));
        }
        let value = u32::from_str_radix(&self.rest[..digits], 16).unwrap_or(u32::MAX);
        self.rest = &self.rest[digits..];
        char::from_u32(value).ok_or_else(|| bad_pattern("invalid escape \\ sequence"))
    }

    fn escape(&mut self, in_bracket: bool) -> Result<Escape, TypeError> {
        let Some(c) = self.take() else {
            return Err(bad_pattern("invalid escape \\ sequence"));
        };
        let named = |name: &str| class(name).expect("a class of this file");
        Ok(match c {
            c if !c.is_ascii_alphanumeric() => Escape::Char(c),
            'a' => Escape::Char('\x07'),
            'b' => Escape::Char('\x08'),
            'B' => Escape::Char('\\'),
            'c' => match self.take() {
                Some(x) => Escape::Char(char::from((u32::from(x) & 0x1f) as u8)),
                None => return Err(bad_pattern("invalid escape \\ sequence")),
            },
            'e' => Escape::Char('\x1b'),
            'f' => Escape::Char('\x0c'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            'v' => Escape::Char('\x0b'),
            'u' => Escape::Char(self.hex(4, 4)?),
            'U' => Escape::Char(self.hex(8, 8)?),
            'x' => Escape::Char(self.hex(1, 255)?),
            'd' => Escape::Class(named("digit")),
            's' => Escape::Class(named("space")),
            'w' => Escape::Class(named("word")),
            'D' => Escape::Class(complement(named("digit"))),
            'S' => Escape::Class(complement(named("space"))),
            'W' => Escape::Class(complement(named("word"))),
            'A' if !in_bracket => Escape::Assert(Assert::Start),
            'Z' if !in_bracket => Escape::Assert(Assert::End),
            'm' if !in_bracket => Escape::Assert(Assert::WordStart),
            'M' if !in_bracket => Escape::Assert(Assert::WordEnd),
            'y' if !in_bracket => Escape::Assert(Assert::WordEdge),
            'Y' if !in_bracket => Escape::Assert(Assert::NotWordEdge),
            '0' => Escape::Char(self.octal(c)?),
            '1'..='9' => return self.back_reference(c, in_bracket),
            _ => return Err(bad_pattern("invalid escape \\ sequence")),
        })
    }

    /// At most three octal digits, of which `first` is one, and at most a byte.
    fn octal(&mut self, first: char) -> Result<char, TypeError> {
        let Some(mut value) = first.to_digit(8) else {
            return Err(bad_pattern("invalid escape \\ sequence"));
        };
        for _ in 0..2 {
            let next = self.peek().and_then(|c| c.to_digit(8));
            let Some(wider) = next.map(|d| value * 8 + d).filter(|v| *v <= 0xff) else {
                break;
            };
            self.take();
            value = wider;
        }
        Ok(char::from_u32(value).expect("at most a byte"))
    }

    /// One digit is a back reference; several are one if there are so many groups, and else a character's number.
    fn back_reference(&mut self, first: char, in_bracket: bool) -> Result<Escape, TypeError> {
        let more = self.rest.bytes().take_while(u8::is_ascii_digit);
        let number = more.fold(first as usize - '0' as usize, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'))
        });
        let several = self.rest.starts_with(|c: char| c.is_ascii_digit());
        if several && number > self.groups {
            return Ok(Escape::Char(self.octal(first)?));
        }
        if in_bracket {
            return Err(bad_pattern("invalid escape \\ sequence"));
        }
        if number > self.groups {
            return Err(bad_pattern("invalid backreference number"));
        }
        Err(TypeError::new(
            "0A000",
            "back references in regular expressions are not implemented",
        )
        .with_hint("Compare the captured parts with each other instead."))
    }

    fn bracket(&mut self) -> Result<Node, TypeError> {
        for (mark, assert) in [("[:<:]]", Assert::WordStart), ("[:>:]]", Assert::WordEnd)] {
            if self.skip(mark) {
                return Ok(Node::Assert(assert));
            }
        }
        let negated = self.skip("^");
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            if !first && self.skip("]") {
                break;
            }
            first = false;
            let Some(low) = self.bracket_item(&mut ranges)? else {
                continue;
            };
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if !is_range {
                ranges.push((low, low));
                continue;
            }
            self.take();
            let Some(high) = self.bracket_item(&mut ranges)? else {
                return Err(bad_pattern("invalid character range"));
            };
            if high < low {
                return Err(bad_pattern("invalid character range"));
            }
            ranges.push((low, high));
        }
        if self.flags.ignore_case {
            ranges = fold(&ranges);
        }
        if !negated {
            return Ok(Node::Set(normal(ranges)));
        }
        if self.flags.newline_stops {
            ranges.push(('\n', '\n'));
        }
        Ok(Node::Set(complement(ranges)))
    }

    /// A character, or `None` if a whole class went into `ranges`.
    fn bracket_item(&mut self, ranges: &mut Ranges) -> Result<Option<char>, TypeError> {
        let unbalanced = || bad_pattern("brackets [] not balanced");
        for (open, close) in [("[:", ":]"), ("[.", ".]"), ("[=", "=]")] {
            if !self.skip(open) {
                continue;
            }
            let end = self.rest.find(close).ok_or_else(unbalanced)?;
            let name = &self.rest[..end];
            self.rest = &self.rest[end + 2..];
            if open == "[:" {
                ranges.extend(class(name).ok_or_else(|| bad_pattern("invalid character class"))?);
                return Ok(None);
            }
            let mut chars = name.chars();
            return match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(Some(c)),
                _ => Err(bad_pattern("invalid collating element")),
            };
        }
        match self.take() {
            None => Err(unbalanced()),
            Some('\\') => match self.escape(true)? {
                Escape::Char(c) => Ok(Some(c)),
                Escape::Class(class) => {
                    ranges.extend(class);
                    Ok(None)
                }
                Escape::Assert(_) => Err(bad_pattern("invalid escape \\ sequence")),
            },
            Some(c) => Ok(Some(c)),
        }
    }
}

fn without_captures(node: Node) -> Node {
    match node {
        Node::Group(_, inner) => Node::Group(None, Box::new(without_captures(*inner))),
        Node::Cat(list) => Node::Cat(list.into_iter().map(without_captures).collect()),
        Node::Alt(list) => Node::Alt(list.into_iter().map(without_captures).collect()),
        Node::Repeat {
            node,
            min,
            max,
            greedy,
        } => Node::Repeat {
            node: Box::new(without_captures(*node)),
            min,
            max,
            greedy,
        },
        other => other,
    }
}
