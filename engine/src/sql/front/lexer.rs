//! Tokens, by the rules of PostgreSQL's `scan.l`. Manual, 4.1.
//!
//! The whole string is cut at once; tokens hold offsets, and values (unescaped strings, folded names) are
//! made when the parser asks. A lexical error is a token of its own, raised only when the parser gets there,
//! so that an earlier syntax error is reported first, as in PostgreSQL.

use std::borrow::Cow;

use super::keywords::{Kw, LONGEST};
use crate::sql::error::{SqlError, state};
use crate::types::codec::text_of;

/// Longest identifier, in bytes (`NAMEDATALEN - 1`).
const MAX_NAME: usize = 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringKind {
    Plain,
    Escape,
    Unicode,
    Dollar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Keyword(Kw),
    Ident,
    QuotedIdent,
    UnicodeIdent,
    /// Fits `int4`.
    Int(i32),
    Number,
    String(StringKind),
    Bits,
    Param(u32),
    /// Any operator that is not one of the kinds below.
    Op,
    /// One of `, ( ) [ ] . ; : + - * / % ^ < > =`.
    Char(u8),
    LessEquals,
    GreaterEquals,
    NotEquals,
    /// `=>`
    Arrow,
    /// `:=`
    ColonEquals,
    TypeCast,
    DotDot,
    /// What is wrong here; see [`LexFault`].
    Fault(LexFault),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LexFault {
    UnterminatedComment,
    UnterminatedString,
    UnterminatedDollar,
    UnterminatedBits,
    UnterminatedIdent,
    EmptyIdent,
    TrailingJunk,
    TrailingJunkParameter,
    BadCharacter,
}

#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub kind: TokenKind,
    pub start: u32,
    pub end: u32,
}

/// Cuts `sql`; the last token is `End`.
pub fn tokenize(sql: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        src: sql.as_bytes(),
        at: 0,
    };
    let mut out = Vec::with_capacity(sql.len() / 4 + 4);
    loop {
        let token = lexer.next();
        out.push(token);
        if matches!(token.kind, TokenKind::End | TokenKind::Fault(_)) {
            return out;
        }
    }
}

struct Lexer<'a> {
    src: &'a [u8],
    at: usize,
}

fn is_ident_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn is_ident(b: u8) -> bool {
    is_ident_start(b) || b.is_ascii_digit() || b == b'$'
}

/// scan.l's `space`.
pub fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn is_operator(b: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&b)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.src.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Token {
        if let Err(start) = self.skip_blank() {
            self.at = self.src.len();
            return self.token(start, TokenKind::Fault(LexFault::UnterminatedComment));
        }
        let start = self.at;
        if start >= self.src.len() {
            return self.token(start, TokenKind::End);
        }
        let kind = self.scan();
        self.token(start, kind)
    }

    fn token(&self, start: usize, kind: TokenKind) -> Token {
        // The statement's size is limited to well below 4 GiB before it gets here.
        Token {
            kind,
            start: start as u32,
            end: self.at as u32,
        }
    }

    /// `Err` with the start of a comment that never ends.
    fn skip_blank(&mut self) -> Result<(), usize> {
        loop {
            let b = self.peek(0);
            if is_space(b) && self.at < self.src.len() {
                self.at += 1;
            } else if b == b'-' && self.peek(1) == b'-' {
                self.at += memchr::memchr2(b'\n', b'\r', &self.src[self.at..])
                    .unwrap_or(self.src.len() - self.at);
            } else if b == b'/' && self.peek(1) == b'*' {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), usize> {
        let start = self.at;
        let mut depth = 0usize;
        while self.at < self.src.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(start)
    }

    fn scan(&mut self) -> TokenKind {
        let b = self.peek(0);
        let quote_next = self.peek(1) == b'\'';
        match b {
            b'\'' => self.quoted(1, StringKind::Plain),
            b'e' | b'E' if quote_next => self.quoted(2, StringKind::Escape),
            // N'...' is NCHAR '...'.
            b'n' | b'N' if quote_next => self.advance(1, TokenKind::Keyword(Kw::Nchar)),
            b'b' | b'B' | b'x' | b'X' if quote_next => self.bits(),
            b'u' | b'U' if self.peek(1) == b'&' && self.peek(2) == b'\'' => {
                self.quoted(3, StringKind::Unicode)
            }
            b'u' | b'U' if self.peek(1) == b'&' && self.peek(2) == b'"' => {
                self.quoted_ident(3, TokenKind::UnicodeIdent)
            }
            b'"' => self.quoted_ident(1, TokenKind::QuotedIdent),
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            _ if is_ident_start(b) => self.word(),
            b'.' if self.peek(1) == b'.' => self.advance(2, TokenKind::DotDot),
            b':' if self.peek(1) == b':' => self.advance(2, TokenKind::TypeCast),
            b':' if self.peek(1) == b'=' => self.advance(2, TokenKind::ColonEquals),
            b',' | b'(' | b')' | b'[' | b']' | b'.' | b';' | b':' => {
                self.advance(1, TokenKind::Char(b))
            }
            _ if is_operator(b) => self.operator(),
            _ => self.advance(1, TokenKind::Fault(LexFault::BadCharacter)),
        }
    }

    fn advance(&mut self, n: usize, kind: TokenKind) -> TokenKind {
        self.at += n;
        kind
    }

    fn fault(&mut self, fault: LexFault) -> TokenKind {
        self.at = self.src.len();
        TokenKind::Fault(fault)
    }

    fn word(&mut self) -> TokenKind {
        let start = self.at;
        while self.at < self.src.len() && is_ident(self.src[self.at]) {
            self.at += 1;
        }
        let word = &self.src[start..self.at];
        if word.len() > LONGEST {
            return TokenKind::Ident;
        }
        let mut folded = [0u8; LONGEST];
        for (to, from) in folded.iter_mut().zip(word) {
            *to = from.to_ascii_lowercase();
        }
        std::str::from_utf8(&folded[..word.len()])
            .ok()
            .and_then(Kw::find)
            .map_or(TokenKind::Ident, TokenKind::Keyword)
    }

    /// `open` bytes up to and with the opening quote. Strings that go on after white space with a line break
    /// are one token.
    fn quoted(&mut self, open: usize, kind: StringKind) -> TokenKind {
        self.at += open;
        loop {
            match self.src.get(self.at) {
                None => return self.fault(LexFault::UnterminatedString),
                Some(b'\\') if kind == StringKind::Escape => self.at += 2,
                Some(b'\'') if self.peek(1) == b'\'' => self.at += 2,
                Some(b'\'') => {
                    self.at += 1;
                    match self.continuation() {
                        Some(next) => self.at = next + 1,
                        None => return TokenKind::String(kind),
                    }
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// The offset of a quote that continues the string that has just been closed.
    fn continuation(&self) -> Option<usize> {
        let mut at = self.at;
        let mut line_break = false;
        loop {
            match self.src.get(at)? {
                b'\n' | b'\r' => {
                    line_break = true;
                    at += 1;
                }
                b if is_space(*b) => at += 1,
                b'-' if self.src.get(at + 1) == Some(&b'-') => {
                    at += memchr::memchr2(b'\n', b'\r', &self.src[at..])?;
                }
                b'\'' if line_break => return Some(at),
                _ => return None,
            }
        }
    }

    fn bits(&mut self) -> TokenKind {
        self.at += 2;
        match memchr::memchr(b'\'', &self.src[self.at..]) {
            Some(n) => self.advance(n + 1, TokenKind::Bits),
            None => self.fault(LexFault::UnterminatedBits),
        }
    }

    fn quoted_ident(&mut self, open: usize, kind: TokenKind) -> TokenKind {
        self.at += open;
        let start = self.at;
        loop {
            match memchr::memchr(b'"', &self.src[self.at..]) {
                None => return self.fault(LexFault::UnterminatedIdent),
                Some(n) => self.at += n + 1,
            }
            if self.peek(0) != b'"' {
                break;
            }
            self.at += 1;
        }
        if self.at == start + 1 {
            return TokenKind::Fault(LexFault::EmptyIdent);
        }
        kind
    }

    fn dollar(&mut self) -> TokenKind {
        if self.peek(1).is_ascii_digit() {
            return self.parameter();
        }
        let mut tag_end = self.at + 1;
        while tag_end < self.src.len()
            && (is_ident_start(self.src[tag_end])
                || (tag_end > self.at + 1 && self.src[tag_end].is_ascii_digit()))
        {
            tag_end += 1;
        }
        if self.src.get(tag_end) != Some(&b'$') {
            return self.advance(1, TokenKind::Fault(LexFault::BadCharacter));
        }
        let tag = &self.src[self.at..=tag_end];
        let body = tag_end + 1;
        match memchr::memmem::find(&self.src[body..], tag) {
            Some(n) => {
                self.at = body + n + tag.len();
                TokenKind::String(StringKind::Dollar)
            }
            None => self.fault(LexFault::UnterminatedDollar),
        }
    }

    fn parameter(&mut self) -> TokenKind {
        self.at += 1;
        let mut n: u64 = 0;
        while self.peek(0).is_ascii_digit() {
            n = (n * 10 + u64::from(self.peek(0) - b'0')).min(u64::from(u32::MAX));
            self.at += 1;
        }
        if is_ident_start(self.peek(0)) {
            self.skip_junk();
            return TokenKind::Fault(LexFault::TrailingJunkParameter);
        }
        TokenKind::Param(n as u32)
    }

    fn skip_junk(&mut self) {
        while self.at < self.src.len() && is_ident(self.src[self.at]) {
            self.at += 1;
        }
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> TokenKind {
        let start = self.at;
        self.digits();
        let mut whole = true;
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            whole = false;
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let signed = matches!(self.peek(1), b'+' | b'-');
            if self.peek(1 + usize::from(signed)).is_ascii_digit() {
                whole = false;
                self.at += 1 + usize::from(signed);
                self.digits();
            } else if signed {
                self.at += 2;
                return TokenKind::Fault(LexFault::TrailingJunk);
            }
        }
        if is_ident_start(self.peek(0)) {
            self.skip_junk();
            return TokenKind::Fault(LexFault::TrailingJunk);
        }
        if !whole {
            return TokenKind::Number;
        }
        std::str::from_utf8(&self.src[start..self.at])
            .ok()
            .and_then(|s| s.parse().ok())
            .map_or(TokenKind::Number, TokenKind::Int)
    }

    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        let mut end = start;
        while end < self.src.len() && is_operator(self.src[end]) {
            let comment = matches!(
                (self.src[end], self.src.get(end + 1)),
                (b'-', Some(b'-')) | (b'/', Some(b'*'))
            );
            if comment && end > start {
                break;
            }
            end += 1;
        }
        // For SQL's sake `+` and `-` end an operator only behind one of these.
        let special = |ops: &[u8]| ops.iter().any(|b| b"~!@#^&|`?%".contains(b));
        while end - start > 1
            && matches!(self.src[end - 1], b'+' | b'-')
            && !special(&self.src[start..end - 1])
        {
            end -= 1;
        }
        self.at = end;
        match &self.src[start..end] {
            [one] if b"+-*/%^<>=".contains(one) => TokenKind::Char(*one),
            b"=>" => TokenKind::Arrow,
            b">=" => TokenKind::GreaterEquals,
            b"<=" => TokenKind::LessEquals,
            b"<>" | b"!=" => TokenKind::NotEquals,
            _ => TokenKind::Op,
        }
    }
}

/// `near` is the text that PostgreSQL would show.
pub fn near_error(message: &str, near: &str, at: u32) -> SqlError {
    SqlError::new(
        state::SYNTAX_ERROR,
        if near.is_empty() {
            format!("{message} at end of input")
        } else {
            format!("{message} at or near \"{near}\"")
        },
    )
    .at(at)
}

pub fn fault_error(fault: LexFault, src: &str, token: Token) -> SqlError {
    let text = &src[token.start as usize..floor_char(src, token.end as usize)];
    let message = match fault {
        LexFault::UnterminatedComment => "unterminated /* comment",
        LexFault::UnterminatedString => "unterminated quoted string",
        LexFault::UnterminatedDollar => "unterminated dollar-quoted string",
        LexFault::UnterminatedBits => "unterminated bit string literal",
        LexFault::UnterminatedIdent => "unterminated quoted identifier",
        LexFault::EmptyIdent => "zero-length delimited identifier",
        LexFault::TrailingJunk => "trailing junk after numeric literal",
        LexFault::TrailingJunkParameter => "trailing junk after parameter",
        LexFault::BadCharacter => "syntax error",
    };
    near_error(message, text, token.start)
}

fn floor_char(src: &str, mut at: usize) -> usize {
    while at < src.len() && !src.is_char_boundary(at) {
        at += 1;
    }
    at.min(src.len())
}

/// An identifier's name: folded (ASCII only, as in a UTF-8 database with the C locale) or unquoted, cut at 63 bytes.
pub fn ident_name(src: &str, token: Token) -> Result<String, SqlError> {
    let text = &src[token.start as usize..token.end as usize];
    let mut name = match token.kind {
        TokenKind::QuotedIdent => unquote(&text[1..text.len() - 1], '"').into_owned(),
        TokenKind::UnicodeIdent => {
            let body = unquote(&text[3..text.len() - 1], '"');
            unicode_escapes(&body, b'\\', token.start + 3)?
        }
        _ => text.to_ascii_lowercase(),
    };
    truncate_name(&mut name);
    Ok(name)
}

/// Cuts a name to what the catalog can hold, on a character's boundary.
pub fn truncate_name(name: &mut String) {
    if name.len() > MAX_NAME {
        let mut end = MAX_NAME;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
}

/// The identifiers of a query string that are cut, as they stand and as they are understood.
pub fn cut_names(src: &str) -> Vec<(String, String)> {
    // Nearly every text is without, and is not cut into tokens for it.
    let may_be_long = |word: &[u8]| word.len() > MAX_NAME;
    let apart = |b: &u8| b.is_ascii() && !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'$');
    let quoted = memchr::memchr(b'"', src.as_bytes()).is_some();
    if src.len() <= MAX_NAME || !(quoted || src.as_bytes().split(apart).any(may_be_long)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for token in tokenize(src) {
        let text = &src[token.start as usize..token.end as usize];
        let whole = match token.kind {
            _ if text.len() <= MAX_NAME => continue,
            TokenKind::QuotedIdent => unquote(&text[1..text.len() - 1], '"').into_owned(),
            TokenKind::Ident => text.to_ascii_lowercase(),
            _ => continue,
        };
        let mut name = whole.clone();
        truncate_name(&mut name);
        if name.len() < whole.len() {
            found.push((whole, name));
        }
    }
    found
}

fn unquote(body: &str, quote: char) -> Cow<'_, str> {
    if body.contains(quote) {
        let doubled = format!("{quote}{quote}");
        Cow::Owned(body.replace(&doubled, &quote.to_string()))
    } else {
        Cow::Borrowed(body)
    }
}

/// The value of a string constant; of `U&'...'` with its escapes as they stand.
pub fn string_value(src: &str, token: Token, kind: StringKind) -> Result<String, SqlError> {
    let text = &src[token.start as usize..token.end as usize];
    if kind == StringKind::Dollar {
        let tag = text[1..].find('$').map_or(0, |n| n + 2);
        return Ok(text[tag..text.len() - tag].to_owned());
    }
    let open = text.find('\'').unwrap_or(0) + 1;
    let mut out = String::new();
    let mut at = open;
    // Pieces of a continued string, each between its quotes.
    loop {
        let end = piece_end(text, at, kind);
        let piece = &text[at..end];
        match kind {
            StringKind::Escape => escape_piece(piece, token.start + at as u32, &mut out)?,
            _ => out.push_str(&unquote(piece, '\'')),
        }
        match text[end + 1..].rfind_first_quote() {
            Some(n) => at = end + 1 + n + 1,
            None => break,
        }
    }
    Ok(out)
}

trait ContinuationQuote {
    fn rfind_first_quote(&self) -> Option<usize>;
}

impl ContinuationQuote for str {
    /// The opening quote of the next piece, past comments that may hold quotes.
    fn rfind_first_quote(&self) -> Option<usize> {
        let bytes = self.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\'' => return Some(at),
                b'-' => {
                    at += memchr::memchr2(b'\n', b'\r', &bytes[at..])?;
                }
                _ => at += 1,
            }
        }
        None
    }
}

fn piece_end(text: &str, start: usize, kind: StringKind) -> usize {
    let bytes = text.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if kind == StringKind::Escape => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at,
            _ => at += 1,
        }
    }
    text.len() - 1
}

fn escape_piece(piece: &str, at: u32, out: &mut String) -> Result<(), SqlError> {
    let mut bytes: Vec<u8> = Vec::with_capacity(piece.len());
    let src = piece.as_bytes();
    let mut i = 0;
    while i < src.len() {
        match src[i] {
            b'\'' => {
                bytes.push(b'\'');
                i += 2;
            }
            b'\\' => i = escape_sequence(piece, i + 1, at, &mut bytes)?,
            b => {
                bytes.push(b);
                i += 1;
            }
        }
    }
    out.push_str(text_of(&bytes)?);
    Ok(())
}

/// Reads the escape whose backslash is before `i`; gives the index behind it.
fn escape_sequence(piece: &str, i: usize, at: u32, out: &mut Vec<u8>) -> Result<usize, SqlError> {
    let src = piece.as_bytes();
    let digits = |from: usize, most: usize, radix: u32| {
        src[from..]
            .iter()
            .take(most)
            .take_while(|b| char::from(**b).is_digit(radix))
            .count()
    };
    let value = |from: usize, n: usize, radix: u32| {
        u32::from_str_radix(&piece[from..from + n], radix).unwrap_or(0)
    };
    match src.get(i) {
        Some(b'b') => out.push(8),
        Some(b'f') => out.push(12),
        Some(b'n') => out.push(b'\n'),
        Some(b'r') => out.push(b'\r'),
        Some(b't') => out.push(b'\t'),
        Some(b'0'..=b'7') => {
            let n = digits(i, 3, 8);
            out.push((value(i, n, 8) & 0xFF) as u8);
            return Ok(i + n);
        }
        Some(b'x') if digits(i + 1, 2, 16) > 0 => {
            let n = digits(i + 1, 2, 16);
            out.push(value(i + 1, n, 16) as u8);
            return Ok(i + 1 + n);
        }
        Some(u @ (b'u' | b'U')) => {
            let want = if *u == b'u' { 4 } else { 8 };
            if digits(i + 1, want, 16) < want {
                return Err(SqlError::new(
                    state::INVALID_ESCAPE_SEQUENCE,
                    "invalid Unicode escape",
                )
                .hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.")
                .at(at + i as u32 - 1));
            }
            let (code, next) = surrogates(piece, i + 1, want, b"\\u");
            push_code(code, at + i as u32 - 1, out)?;
            return Ok(next);
        }
        Some(b) => {
            out.push(*b);
            return Ok(i + 1);
        }
        None => return Ok(i),
    }
    Ok(i + 1)
}

/// A code point of `n` hex digits at `from`; a high surrogate takes a low one behind `intro` with it.
fn surrogates(text: &str, from: usize, n: usize, intro: &[u8]) -> (u32, usize) {
    let read = |from: usize, n: usize| {
        text.get(from..from + n)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
    };
    let code = read(from, n).unwrap_or(0);
    let next = from + n;
    if (0xD800..0xDC00).contains(&code)
        && text.as_bytes()[next..].starts_with(intro)
        && let Some(low) = read(next + intro.len(), 4)
        && (0xDC00..0xE000).contains(&low)
    {
        let whole = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        return (whole, next + intro.len() + 4);
    }
    (code, next)
}

fn push_code(code: u32, at: u32, out: &mut Vec<u8>) -> Result<(), SqlError> {
    let Some(c) = char::from_u32(code).filter(|c| *c != '\0') else {
        let message = if (0xD800..0xE000).contains(&code) {
            "invalid Unicode surrogate pair"
        } else {
            "invalid Unicode escape value"
        };
        return Err(SqlError::new(state::SYNTAX_ERROR, message).at(at));
    };
    let mut buffer = [0u8; 4];
    out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    Ok(())
}

/// `\XXXX` and `\+XXXXXX` in `U&'...'`; UESCAPE names another character than the backslash.
pub fn unicode_escapes(text: &str, escape: u8, at: u32) -> Result<String, SqlError> {
    let src = text.as_bytes();
    let mut out = Vec::with_capacity(src.len());
    let mut i = 0;
    while i < src.len() {
        if src[i] != escape {
            out.push(src[i]);
            i += 1;
            continue;
        }
        if src.get(i + 1) == Some(&escape) {
            out.push(escape);
            i += 2;
            continue;
        }
        let (from, n) = if src.get(i + 1) == Some(&b'+') {
            (i + 2, 6)
        } else {
            (i + 1, 4)
        };
        let hex = src
            .get(from..from + n)
            .is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit));
        if !hex {
            return Err(SqlError::new(state::SYNTAX_ERROR, "invalid Unicode escape")
                .hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
                .at(at + i as u32));
        }
        let (code, next) = surrogates(text, from, n, &[escape]);
        push_code(code, at + i as u32, &mut out)?;
        i = next;
    }
    Ok(text_of(&out)?.to_owned())
}
