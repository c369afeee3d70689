//! `postgresql.conf` and its includes: from bytes to name-value pairs with their places.
//!
//! The grammar is PostgreSQL's `guc-file.l` (manual, 20.1.2). Files are read with `std::fs` because they may
//! lie anywhere, before there is a disk; nothing here writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Complaint;

/// Includes deeper than this are a loop.
const MAX_DEPTH: usize = 10;
const MAX_SYNTAX_ERRORS: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: String,
    pub file: Arc<str>,
    pub line: u32,
}

/// Everything that was read, and everything that was wrong. Entries stand in order; a later one wins.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ConfFile {
    pub entries: Vec<Entry>,
    pub errors: Vec<Complaint>,
    /// Logged, but no reason to stop.
    pub notes: Vec<Complaint>,
}

impl ConfFile {
    /// Reads a file and what it includes. `Err` only if the file itself cannot be read.
    pub fn read(path: &Path) -> std::io::Result<ConfFile> {
        let bytes = std::fs::read(path)?;
        let mut out = ConfFile::default();
        out.take(&String::from_utf8_lossy(&bytes), path, 0);
        Ok(out)
    }

    /// Reads text as if it stood in `path`.
    pub fn parse(text: &str, path: &Path) -> ConfFile {
        let mut out = ConfFile::default();
        out.take(text, path, 0);
        out
    }

    fn take(&mut self, text: &str, path: &Path, depth: usize) {
        let file: Arc<str> = path.display().to_string().into();
        let mut syntax_errors = 0;
        for (number, line) in (1u32..).zip(text.split('\n')) {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => self.entry(name, value, &file, number, path, depth),
                Err(near) => {
                    self.errors.push(Complaint::new(match near {
                        Some(token) => format!(
                            "syntax error in file \"{file}\" line {number}, near token \"{token}\""
                        ),
                        None => format!(
                            "syntax error in file \"{file}\" line {number}, near end of line"
                        ),
                    }));
                    syntax_errors += 1;
                    if syntax_errors >= MAX_SYNTAX_ERRORS {
                        self.errors.push(Complaint::new(format!(
                            "too many syntax errors found, abandoning file \"{file}\""
                        )));
                        return;
                    }
                }
            }
        }
    }

    fn entry(
        &mut self,
        name: String,
        value: String,
        file: &Arc<str>,
        line: u32,
        path: &Path,
        depth: usize,
    ) {
        let target = || path.parent().unwrap_or(Path::new("")).join(&value);
        let blank = value.trim_ascii().is_empty();
        match name.to_ascii_lowercase().as_str() {
            "include" | "include_if_exists" if blank => self.errors.push(Complaint::new(format!(
                "empty configuration file name: \"{value}\""
            ))),
            "include_dir" if blank => self.errors.push(Complaint::new(format!(
                "empty configuration directory name: \"{value}\""
            ))),
            "include" | "include_if_exists" if target() == path => {
                self.errors.push(Complaint::new(format!(
                    "configuration file recursion in \"{file}\""
                )));
            }
            "include" => self.include(&value, &target(), depth, true),
            "include_if_exists" => self.include(&value, &target(), depth, false),
            "include_dir" => self.include_dir(&target(), depth),
            _ => self.entries.push(Entry {
                name,
                value,
                file: file.clone(),
                line,
            }),
        }
    }

    /// `name` is the path as it was written.
    fn include(&mut self, name: &str, path: &Path, depth: usize, strict: bool) {
        if depth >= MAX_DEPTH {
            self.errors.push(Complaint::new(format!(
                "could not open configuration file \"{name}\": maximum nesting depth exceeded"
            )));
            return;
        }
        match std::fs::read(path) {
            Ok(bytes) => self.take(&String::from_utf8_lossy(&bytes), path, depth + 1),
            Err(e) if strict => self.errors.push(Complaint::new(format!(
                "could not open configuration file \"{}\": {}",
                path.display(),
                os_message(&e)
            ))),
            Err(_) => self.notes.push(Complaint::new(format!(
                "skipping missing configuration file \"{}\"",
                path.display()
            ))),
        }
    }

    /// Every `*.conf` that is not hidden, in byte order.
    fn include_dir(&mut self, dir: &Path, depth: usize) {
        let listed = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = match listed {
            Ok(entries) => entries,
            Err(e) => {
                self.errors.push(Complaint::new(format!(
                    "could not open configuration directory \"{}\": {}",
                    dir.display(),
                    os_message(&e)
                )));
                return;
            }
        };
        let mut files: Vec<PathBuf> = entries
            .iter()
            .filter(|e| {
                let name = e.file_name();
                let name = name.to_string_lossy();
                name.len() > 5 && !name.starts_with('.') && name.ends_with(".conf")
            })
            .map(std::fs::DirEntry::path)
            .filter(|p| !p.is_dir())
            .collect();
        files.sort();
        for file in files {
            self.include(&file.display().to_string(), &file, depth, true);
        }
    }
}

/// The text of an operating system error without Rust's "(os error 2)".
pub fn os_message(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A plain or qualified identifier.
    Name(&'a str),
    /// Anything else that may be a value.
    Value(&'a str),
    Quoted(&'a str),
    Equals,
    Bad(&'a str),
}

fn is_letter(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn is_name_byte(b: u8) -> bool {
    is_letter(b) || b.is_ascii_digit()
}

/// One line: nothing, a pair, or the token that is wrong (`None`: the end of the line is).
fn parse_line(line: &str) -> Result<Option<(String, String)>, Option<String>> {
    let mut rest = line;
    let name = match next_token(&mut rest) {
        None => return Ok(None),
        Some(Token::Name(name)) => name,
        Some(other) => return Err(Some(text_of(&other))),
    };
    let mut token = next_token(&mut rest);
    if token == Some(Token::Equals) {
        token = next_token(&mut rest);
    }
    let value = match token {
        None => return Err(None),
        Some(Token::Name(v)) if v.contains('.') && !unquoted_string(v) => {
            return Err(Some(v.to_owned()));
        }
        Some(Token::Name(v) | Token::Value(v)) => v.to_owned(),
        Some(Token::Quoted(v)) => unescape(v),
        Some(other) => return Err(Some(text_of(&other))),
    };
    match next_token(&mut rest) {
        None => Ok(Some((name.to_owned(), value))),
        Some(extra) => Err(Some(text_of(&extra))),
    }
}

fn unquoted_string(v: &str) -> bool {
    v.bytes().next().is_some_and(is_letter)
}

fn text_of(t: &Token<'_>) -> String {
    match t {
        Token::Name(s) | Token::Value(s) | Token::Quoted(s) | Token::Bad(s) => (*s).to_owned(),
        Token::Equals => "=".to_owned(),
    }
}

fn next_token<'a>(rest: &mut &'a str) -> Option<Token<'a>> {
    let s = rest.trim_start_matches([' ', '\t', '\r']);
    let b = s.as_bytes();
    let Some(&first) = b.first() else {
        *rest = "";
        return None;
    };
    if first == b'#' {
        *rest = "";
        return None;
    }
    let (token, len) = match first {
        b'=' => (Token::Equals, 1),
        b'\'' => match quoted_len(b) {
            Some(n) => (Token::Quoted(&s[..n]), n),
            None => (Token::Bad(&s[..1]), 1),
        },
        f if is_letter(f) => word(s),
        _ => match number_len(b) {
            0 => {
                let n = s.chars().next().map_or(1, char::len_utf8);
                (Token::Bad(&s[..n]), n)
            }
            n => (Token::Value(&s[..n]), n),
        },
    };
    *rest = &s[len..];
    Some(token)
}

/// The longest of: identifier, identifiers with one dot, unquoted string.
fn word(s: &str) -> (Token<'_>, usize) {
    let b = s.as_bytes();
    let loose = b
        .iter()
        .take_while(|b| is_name_byte(**b) || matches!(b, b'-' | b'.' | b':' | b'/'))
        .count();
    let text = &s[..loose];
    let name = text.split('.').count() <= 2
        && text
            .split('.')
            .all(|p| p.bytes().next().is_some_and(is_letter) && p.bytes().all(is_name_byte));
    (
        if name {
            Token::Name(text)
        } else {
            Token::Value(text)
        },
        loose,
    )
}

/// Length with both quotes.
fn quoted_len(b: &[u8]) -> Option<usize> {
    let mut i = 1;
    while i < b.len() {
        match b[i] {
            b'\\' if i + 1 < b.len() => i += 2,
            b'\'' if b.get(i + 1) == Some(&b'\'') => i += 2,
            b'\'' => return Some(i + 1),
            _ => i += 1,
        }
    }
    None
}

/// An integer with a unit, or a real: whichever is longer. 0 for neither.
fn number_len(b: &[u8]) -> usize {
    let sign = usize::from(matches!(b.first(), Some(b'-' | b'+')));
    let digits = |from: usize| {
        b[from.min(b.len())..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count()
    };
    let letters = |from: usize| {
        b[from.min(b.len())..]
            .iter()
            .take_while(|c| c.is_ascii_alphabetic())
            .count()
    };
    let whole = digits(sign);
    let mut integer = 0;
    if whole > 0 {
        integer = sign + whole;
        if b[sign] == b'0' && whole == 1 && b.get(sign + 1) == Some(&b'x') {
            let hex = b[sign + 2..]
                .iter()
                .take_while(|c| c.is_ascii_hexdigit())
                .count();
            if hex > 0 {
                integer = sign + 2 + hex;
            }
        }
        integer += letters(integer);
    }
    let mut real = 0;
    if b.get(sign + whole) == Some(&b'.') {
        let fraction = digits(sign + whole + 1);
        real = sign + whole + 1 + fraction;
        if matches!(b.get(real), Some(b'e' | b'E')) {
            let exponent_sign = usize::from(matches!(b.get(real + 1), Some(b'-' | b'+')));
            let exponent = digits(real + 1 + exponent_sign);
            if exponent > 0 {
                real += 1 + exponent_sign + exponent;
            }
        }
    }
    integer.max(real)
}

/// A quoted value without its quotes: doubled quotes, backslash escapes, octal.
fn unescape(quoted: &str) -> String {
    let inner = &quoted[1..quoted.len() - 1];
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let b = inner.as_bytes();
    let mut i = 0;
    while i < b.len() {
        match b[i] {
            b'\\' if i + 1 < b.len() => {
                i += 1;
                let octal = b[i..]
                    .iter()
                    .take(3)
                    .take_while(|c| (b'0'..=b'7').contains(c))
                    .count();
                if octal > 0 {
                    let v = b[i..i + octal]
                        .iter()
                        .fold(0u32, |v, c| v * 8 + u32::from(c - b'0'));
                    out.push((v & 0xff) as u8);
                    i += octal;
                    continue;
                }
                out.push(match b[i] {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    c => c,
                });
            }
            b'\'' => {
                out.push(b'\'');
                i += 1;
            }
            c => out.push(c),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A value as a file holds it.
pub fn quote(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
