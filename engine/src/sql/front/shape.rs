//! What query strings that differ only in their whole numbers have in common.
//!
//! Simple-protocol clients write values into the text. The shape of a text is its tokens with each number that fits
//! `int4` left out, whatever stands between them left out too; the numbers are the arguments. Only where a number can be
//! nothing but a value has a text a shape: not where it may be a position in a list or has to equal another one
//! (ORDER BY, GROUP BY, DISTINCT, set operations). Nothing is known here of what a statement means.

use smallvec::SmallVec;

use super::Parsed;
use super::keywords::Kw;
use super::lexer::{self, TokenKind};
use super::parser;
use crate::sql::error::SqlError;

/// Longer texts are not worth remembering.
const LONGEST: usize = 4096;
const BETWEEN: u8 = 0;
const NUMBER: u8 = 1;

/// The shape of one statement, and its arguments in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub key: Vec<u8>,
    pub numbers: SmallVec<[i32; 8]>,
}

/// `None`: the text has to be parsed as it stands.
pub fn shape(sql: &str) -> Option<Shape> {
    if sql.len() > LONGEST {
        return None;
    }
    let mut key = Vec::with_capacity(sql.len() + 16);
    let mut numbers = SmallVec::new();
    let mut tokens = lexer::tokenize(sql).into_iter().peekable();
    match tokens.peek()?.kind {
        TokenKind::Keyword(Kw::Select | Kw::Insert | Kw::Update | Kw::Delete) => {}
        _ => return None,
    }
    while let Some(token) = tokens.next() {
        match token.kind {
            TokenKind::End => break,
            TokenKind::Int(n) => {
                numbers.push(n);
                key.extend_from_slice(&[NUMBER, BETWEEN]);
                continue;
            }
            // Only at the end: one statement.
            TokenKind::Char(b';') if tokens.peek().is_some_and(|t| t.kind == TokenKind::End) => {
                break;
            }
            TokenKind::Char(b';') | TokenKind::Fault(_) | TokenKind::Param(_) => return None,
            TokenKind::Keyword(kw) if has_places(kw) => return None,
            TokenKind::String(_)
                if names_a_moment(&sql[token.start as usize..token.end as usize]) =>
            {
                return None;
            }
            _ => {}
        }
        key.extend_from_slice(&sql.as_bytes()[token.start as usize..token.end as usize]);
        key.push(BETWEEN);
    }
    Some(Shape { key, numbers })
}

/// Behind this word a number may be a place in a list, or expressions are compared with each other.
fn has_places(kw: Kw) -> bool {
    matches!(
        kw,
        Kw::Order | Kw::Group | Kw::Distinct | Kw::Union | Kw::Intersect | Kw::Except | Kw::Over
    )
}

/// Words by which the text of a date or time says when it is read: such a literal is read anew each time. Other text that
/// has one of them is only not remembered.
fn names_a_moment(literal: &str) -> bool {
    literal
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| {
            ["now", "today", "tomorrow", "yesterday"]
                .iter()
                .any(|moment| word.eq_ignore_ascii_case(moment))
        })
}

/// The text with its numbers as parameters `$1`, `$2`, ...; `None` if one of them is not an expression (the length of a
/// type, for instance).
pub fn parse_shape(sql: &str) -> Result<Option<Parsed>, SqlError> {
    parser::with_numbers_lifted(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_numbers_and_blanks_have_one_shape() {
        let a = shape("SELECT a FROM t WHERE b = 17;").expect("a shape");
        let b = shape("SELECT a  FROM t /* c */ WHERE b=-4").expect("a shape");
        let c = shape("SELECT a FROM t WHERE b = 5").expect("a shape");
        assert_eq!(a.key, c.key);
        assert_ne!(a.key, b.key, "a sign is a token of its own");
        assert_eq!((a.numbers[0], b.numbers[0]), (17, 4));
    }

    #[test]
    fn other_texts_have_another_shape_or_none() {
        let key = |sql: &str| shape(sql).map(|s| s.key);
        assert_ne!(key("SELECT 'a'"), key("SELECT 'b'"));
        assert_ne!(key("SELECT 1.5"), key("SELECT 2.5"));
        assert_ne!(key("SELECT ab"), key("SELECT a b"));
        for sql in [
            "",
            "BEGIN",
            "SELECT 1; SELECT 2",
            "SELECT $1",
            "SELECT a FROM t ORDER BY 1",
            "SELECT a, count(*) FROM t GROUP BY 1",
            "SELECT 'open",
            "SELECT 'Now'::timestamptz",
            "SELECT a FROM t WHERE b = 'today 12:00'",
        ] {
            assert_eq!(key(sql), None, "{sql}");
        }
    }

    #[test]
    fn only_numbers_that_are_expressions_are_lifted() {
        let lifted = |sql: &str| parse_shape(sql).expect("it parses").is_some();
        assert!(lifted("SELECT a + 1 FROM t WHERE b IN (1, 2) LIMIT 5"));
        assert!(lifted("INSERT INTO t VALUES (1, -2)"));
        assert!(lifted("SELECT a"));
        // Looked at twice by the parser, lifted once.
        assert!(lifted(
            "SELECT (1, 2) = (SELECT a, b FROM (SELECT 3 AS a, 4 AS b) t)"
        ));
    }
}
