//! The parser's place in the tokens.

use std::collections::HashMap;

use super::Result;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::SourceText;
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::{self, Token, TokenKind};

/// How deep the tree may get, in links of an operator chain: everything behind the parser spends stack frames on
/// such a link, so that this and the stack of the threads that run statements (`node/server.rs`) belong together.
const MAX_DEPTH: u32 = 4000;
/// What one level of parentheses or of a subquery costs of it: the parser itself recurses here.
const NESTING: u32 = 20;
/// Bytes; PostgreSQL's limit is that of a message, 1 GiB.
const MAX_STATEMENT: usize = 1 << 30;

pub(in crate::sql::front) struct Parser<'a> {
    pub(super) src: &'a str,
    tokens: Vec<Token>,
    pos: usize,
    depth: u32,
    /// The depth that the tree has had since the last [`Parser::measured`] began.
    reached: u32,
    /// Places of the numbers that became parameters; `None`: numbers stay literals.
    lifted: Option<Vec<usize>>,
    /// Places of parentheses that are known to begin no query, from which depth on.
    no_queries: HashMap<usize, u32>,
}

/// A place to come back to.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

impl<'a> Parser<'a> {
    pub(in crate::sql::front) fn new(src: &'a str) -> Result<Parser<'a>> {
        if src.len() >= MAX_STATEMENT {
            return Err(SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "query string is too long",
            ));
        }
        Ok(Parser {
            src,
            tokens: lexer::tokenize(src),
            pos: 0,
            depth: 0,
            reached: 0,
            lifted: None,
            no_queries: HashMap::new(),
        })
    }

    /// The parenthesis that comes next was read as a query, in vain. It is not tried again where it would fail again:
    /// anywhere, or, if it was too deep, wherever it stands as deep.
    pub(super) fn remember_no_query(&mut self, error: &SqlError) {
        let too_deep = error.state == state::STATEMENT_TOO_COMPLEX;
        let from = if too_deep { self.depth } else { 0 };
        self.no_queries.insert(self.pos, from);
    }
    pub(super) fn is_known_as_no_query(&self) -> bool {
        let from = self.no_queries.get(&self.pos);
        from.is_some_and(|from| self.depth >= *from)
    }

    /// From here on numbers in expressions become parameters.
    pub(super) fn lift_numbers(&mut self) {
        self.lifted = Some(Vec::new());
    }
    /// Which parameter the next token, a number, becomes: they are counted in the order of the text.
    pub(super) fn lift(&mut self) -> Option<u32> {
        let pos = self.pos;
        let lifted = self.lifted.as_mut()?;
        lifted.push(pos);
        Some(count_numbers(&self.tokens[..=pos]))
    }
    /// Whether every number of the text became a parameter, once.
    pub(super) fn all_numbers_lifted(&self) -> bool {
        self.lifted.as_ref().is_some_and(|lifted| {
            lifted.len() == count_numbers(&self.tokens) as usize
                && lifted.windows(2).all(|w| w[0] < w[1])
        })
    }

    pub(in crate::sql::front) fn peek(&self) -> TokenKind {
        self.tokens[self.pos].kind
    }
    pub(super) fn peek_at(&self, ahead: usize) -> TokenKind {
        self.tokens
            .get(self.pos + ahead)
            .map_or(TokenKind::End, |t| t.kind)
    }
    pub(in crate::sql::front) fn token(&self) -> Token {
        self.tokens[self.pos]
    }
    /// Offset of the next token.
    pub(in crate::sql::front) fn at(&self) -> u32 {
        self.tokens[self.pos].start
    }
    /// Offset behind the last token that was taken.
    pub(super) fn previous_end(&self) -> u32 {
        match self.pos {
            0 => 0,
            n => self.tokens[n - 1].end,
        }
    }
    pub(in crate::sql::front) fn text(&self, token: Token) -> &'a str {
        &self.src[token.start as usize..token.end as usize]
    }
    /// The source from the next token on.
    pub(in crate::sql::front) fn rest_of_source(&self) -> &'a str {
        &self.src[self.at() as usize..]
    }
    /// Goes on behind `offset`; the rest is cut into tokens anew from there.
    pub(in crate::sql::front) fn skip_to(&mut self, offset: u32) {
        let behind = lexer::tokenize(&self.src[offset as usize..]);
        self.tokens.truncate(self.pos);
        self.no_queries.clear();
        self.tokens.extend(behind.into_iter().map(|t| Token {
            kind: t.kind,
            start: t.start + offset,
            end: t.end + offset,
        }));
    }
    pub(in crate::sql::front) fn skip_to_end(&mut self) {
        self.pos = self.tokens.len() - 1;
    }
    pub(super) fn source_since(&self, start: u32) -> SourceText {
        SourceText {
            start,
            end: self.previous_end(),
        }
    }

    /// Takes a token; the last one, `End`, stays.
    pub(in crate::sql::front) fn bump(&mut self) -> Token {
        let token = self.tokens[self.pos];
        if self.pos + 1 < self.tokens.len() {
            self.pos += 1;
        }
        token
    }
    pub(super) fn mark(&self) -> Mark {
        Mark(self.pos)
    }
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.pos = mark.0;
        if let Some(lifted) = &mut self.lifted {
            lifted.retain(|pos| *pos < mark.0);
        }
    }

    pub(super) fn is(&self, kw: Kw) -> bool {
        self.peek() == TokenKind::Keyword(kw)
    }
    pub(super) fn is_at(&self, ahead: usize, kw: Kw) -> bool {
        self.peek_at(ahead) == TokenKind::Keyword(kw)
    }
    pub(super) fn is_any(&self, kws: &[Kw]) -> bool {
        matches!(self.peek(), TokenKind::Keyword(kw) if kws.contains(&kw))
    }
    pub(super) fn is_char(&self, c: u8) -> bool {
        self.peek() == TokenKind::Char(c)
    }
    pub(super) fn eat(&mut self, kw: Kw) -> bool {
        let yes = self.is(kw);
        if yes {
            self.bump();
        }
        yes
    }
    /// All of them in a row, or nothing.
    pub(super) fn eat_all(&mut self, kws: &[Kw]) -> bool {
        let yes = kws.iter().enumerate().all(|(i, kw)| self.is_at(i, *kw));
        if yes {
            for _ in kws {
                self.bump();
            }
        }
        yes
    }
    pub(super) fn eat_char(&mut self, c: u8) -> bool {
        let yes = self.is_char(c);
        if yes {
            self.bump();
        }
        yes
    }
    pub(super) fn expect(&mut self, kw: Kw) -> Result<()> {
        if self.eat(kw) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }
    pub(super) fn expect_all(&mut self, kws: &[Kw]) -> Result<()> {
        kws.iter().try_for_each(|kw| self.expect(*kw))
    }
    pub(super) fn expect_char(&mut self, c: u8) -> Result<()> {
        if self.eat_char(c) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }
    pub(in crate::sql::front) fn expect_end(&mut self) -> Result<()> {
        if self.peek() == TokenKind::End {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }
    pub(super) fn at_statement_end(&self) -> bool {
        matches!(self.peek(), TokenKind::End | TokenKind::Char(b';'))
    }

    /// `syntax error at or near` the next token.
    pub(in crate::sql::front) fn unexpected(&self) -> SqlError {
        self.unexpected_at(self.token())
    }
    pub(super) fn unexpected_at(&self, token: Token) -> SqlError {
        match token.kind {
            TokenKind::Fault(fault) => lexer::fault_error(fault, self.src, token),
            TokenKind::End => lexer::near_error("syntax error", "", self.src.len() as u32),
            _ => lexer::near_error("syntax error", self.text(token), token.start),
        }
    }
    pub(super) fn error(&self, message: &str, at: u32) -> SqlError {
        SqlError::new(state::SYNTAX_ERROR, message).at(at)
    }

    /// Runs `f` one level deeper.
    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.grows_to(NESTING)?;
        self.depth += NESTING;
        let out = f(self);
        self.depth -= NESTING;
        out
    }
    /// Runs `f`, and tells the height of the tree that it made.
    pub(super) fn measured<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, u32)> {
        let before = std::mem::replace(&mut self.reached, self.depth);
        let out = f(self);
        let height = self.reached - self.depth;
        self.reached = self.reached.max(before);
        Ok((out?, height))
    }
    /// A tree of that height stands here: what a chain of operators makes of its first operand, for instance.
    pub(super) fn grows_to(&mut self, height: u32) -> Result<()> {
        let reached = self.depth + height;
        if reached > MAX_DEPTH {
            return Err(too_complex());
        }
        self.reached = self.reached.max(reached);
        Ok(())
    }
    /// What was read since the last [`Parser::measured`] began gets one more node on top of it.
    pub(super) fn grows_on_top(&mut self) -> Result<()> {
        self.grows_to(self.reached - self.depth + 1)
    }
    /// `(item, item, ...)`
    pub(super) fn parenthesized<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect_char(b'(')?;
        let out = self.list(item)?;
        self.expect_char(b')')?;
        Ok(out)
    }
    /// `item, item, ...`
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = vec![item(self)?];
        while self.eat_char(b',') {
            out.push(item(self)?);
        }
        Ok(out)
    }
}

pub(super) fn too_complex() -> SqlError {
    let levels = MAX_DEPTH / NESTING;
    SqlError::new(state::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").hint(format!(
        "Expressions and queries may nest {levels} levels deep, and chain {MAX_DEPTH} operators."
    ))
}

fn count_numbers(tokens: &[Token]) -> u32 {
    let numbers = tokens
        .iter()
        .filter(|t| matches!(t.kind, TokenKind::Int(_)));
    u32::try_from(numbers.count()).unwrap_or(u32::MAX)
}
