//! The JSON grammar with PostgreSQL's complaints.

use crate::types::error::TypeError;

/// Nesting beyond this would endanger the stack.
pub(crate) const MAX_DEPTH: usize = 3000;
/// Members that one tree may have: each takes some hundred bytes, however short its text is.
const MAX_MEMBERS: usize = 1 << 24;

/// A value and the text it was read from.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub raw: &'a str,
    pub kind: Kind<'a>,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Null,
    Bool(bool),
    Number,
    /// Escapes resolved, if that was asked for.
    String(String),
    Array(Vec<Node<'a>>),
    Object(Vec<(String, Node<'a>)>),
}

fn syntax(detail: impl Into<String>) -> TypeError {
    TypeError::new("22P02", "invalid input syntax for type json").with_detail(detail)
}

/// Parses a whole text. `cook` resolves escapes, which `json` input leaves alone (so that `\u0000` passes).
pub(crate) fn parse(text: &str, cook: bool) -> Result<Node<'_>, TypeError> {
    run(text, cook, true)
}

/// Looks through a whole text and makes no tree of it, which would be many times as long as short items are.
pub(crate) fn check(text: &str) -> Result<(), TypeError> {
    run(text, false, false).map(|_| ())
}

fn run(text: &str, cook: bool, keep: bool) -> Result<Node<'_>, TypeError> {
    let mut parser = Parser {
        text,
        at: 0,
        cook,
        keep,
        members: 0,
    };
    parser.whole().map_err(|mut e| {
        if e.detail.is_some() {
            e.context = Some(parser.context());
        }
        e
    })
}

/// How much of a line an error's context shows, in bytes.
const SHOWN: usize = 50;
/// What is not worth an ellipsis at the line's beginning.
const WORTH_CUTTING: usize = 3;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    cook: bool,
    /// Whether arrays and objects get their members.
    keep: bool,
    members: usize,
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Result<Node<'a>, TypeError> {
        let node = self.value(0)?;
        self.skip_space();
        if self.at < self.text.len() {
            let token = self.token_text()?;
            return Err(syntax(format!(
                "Expected end of input, but found \"{token}\"."
            )));
        }
        Ok(node)
    }

    /// The line up to where the parser is, which is behind the token that it complains about (`report_json_context`).
    fn context(&self) -> String {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let number = before.matches('\n').count() + 1;
        let mut start = line_start;
        while self.at - start >= SHOWN {
            start += self.text[start..].chars().next().map_or(1, char::len_utf8);
        }
        if start - line_start <= WORTH_CUTTING {
            start = line_start;
        }
        let prefix = if start > line_start { "..." } else { "" };
        let cut = !matches!(self.peek(), None | Some(b'\n' | b'\r'));
        let suffix = if cut { "..." } else { "" };
        let shown = &self.text[start..self.at];
        format!("JSON data, line {number}: {prefix}{shown}{suffix}")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The token here, for a complaint that it should not be here; an invalid token is its own complaint.
    fn token_text(&mut self) -> Result<&'a str, TypeError> {
        let start = self.at;
        match self.peek() {
            None => return Err(syntax("The input string ended unexpectedly.")),
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => self.at += 1,
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => {
                let word = self.word();
                if !matches!(word, "true" | "false" | "null") {
                    return Err(syntax(format!("Token \"{word}\" is invalid.")));
                }
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn expected<T>(&mut self, what: &str) -> Result<T, TypeError> {
        let token = self.token_text()?;
        Err(syntax(format!("Expected {what}, but found \"{token}\".")))
    }

    /// Letters, digits, underscores and non-ASCII characters; at least one character.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, TypeError> {
        if depth > MAX_DEPTH {
            return Err(TypeError::new("54001", "stack depth limit exceeded"));
        }
        self.skip_space();
        let start = self.at;
        let kind = match self.peek() {
            None => return Err(syntax("The input string ended unexpectedly.")),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b'}' | b']' | b',' | b':') => return self.expected("JSON value"),
            Some(_) => match self.word() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "null" => Kind::Null,
                word => return Err(syntax(format!("Token \"{word}\" is invalid."))),
            },
        };
        Ok(Node {
            raw: &self.text[start..self.at],
            kind,
        })
    }

    fn put<T>(&mut self, member: T, members: &mut Vec<T>) -> Result<(), TypeError> {
        if !self.keep {
            return Ok(());
        }
        self.members += 1;
        if self.members > MAX_MEMBERS {
            return Err(TypeError::new(
                "54000",
                format!("number of JSON elements exceeds the maximum allowed ({MAX_MEMBERS})"),
            ));
        }
        members.push(member);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, TypeError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(items));
        }
        if matches!(self.peek(), Some(b'}' | b',' | b':')) {
            return self.expected("array element or \"]\"");
        }
        loop {
            let item = self.value(depth + 1)?;
            self.put(item, &mut items)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Kind::Array(items));
                }
                _ => return self.expected("\",\" or \"]\""),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, TypeError> {
        self.at += 1;
        let mut pairs = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(pairs));
        }
        let mut what = "string or \"}\"";
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.expected(what);
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.expected("\":\"");
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            self.put((key, value), &mut pairs)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Kind::Object(pairs));
                }
                _ => return self.expected("\",\" or \"}\""),
            }
            what = "string";
        }
    }

    fn number(&mut self) -> Result<(), TypeError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut good = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                true
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => false,
        };
        if good && self.peek() == Some(b'.') {
            self.at += 1;
            good = self.digits();
        }
        if good && matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            good = self.digits();
        }
        // Letters and digits that touch the number belong to the bad token.
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
            good = false;
        }
        if good {
            return Ok(());
        }
        Err(syntax(format!(
            "Token \"{}\" is invalid.",
            &self.text[start..self.at]
        )))
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > start
    }

    /// At the opening quote. Gives the text with escapes resolved, or as it stands.
    fn string(&mut self) -> Result<String, TypeError> {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        let mut high: Option<u16> = None;
        let lone = || syntax("Unicode low surrogate must follow a high surrogate.");
        let mut from = self.at;
        loop {
            let Some(b) = self.peek() else {
                return Err(self.endless(open));
            };
            match b {
                b'"' => {
                    if high.is_some() {
                        self.at += 1;
                        return Err(lone());
                    }
                    out.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => {
                    out.push_str(&self.text[from..self.at]);
                    self.escape(open, &mut out, &mut high)?;
                    from = self.at;
                }
                0..=0x1f => {
                    return Err(syntax(format!(
                        "Character with value 0x{b:02x} must be escaped."
                    )));
                }
                _ => {
                    if high.is_some() {
                        self.pass();
                        return Err(lone());
                    }
                    self.at += 1;
                }
            }
        }
    }

    /// Over the character here.
    fn pass(&mut self) {
        self.at += self.text[self.at..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
    }

    /// The string that begins at `open` has no end.
    fn endless(&mut self, open: usize) -> TypeError {
        self.at = self.text.len();
        syntax(format!("Token \"{}\" is invalid.", &self.text[open..]))
    }

    /// Behind `\u`.
    fn hex_digits(&mut self, open: usize) -> Result<&'a str, TypeError> {
        self.at += 1;
        let start = self.at;
        for _ in 0..4 {
            match self.peek() {
                None => return Err(self.endless(open)),
                Some(b) if b.is_ascii_hexdigit() => self.at += 1,
                Some(_) => {
                    self.pass();
                    return Err(syntax(
                        "\"\\u\" must be followed by four hexadecimal digits.",
                    ));
                }
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn escape(
        &mut self,
        open: usize,
        out: &mut String,
        high: &mut Option<u16>,
    ) -> Result<(), TypeError> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.text[self.at..].chars().next() else {
            return Err(self.endless(open));
        };
        if c == 'u' {
            let digits = self.hex_digits(open)?;
            let unit = u16::from_str_radix(digits, 16).expect("checked");
            if self.cook {
                return cook_unit(unit, out, high);
            }
            out.push_str(&self.text[start..self.at]);
            return Ok(());
        }
        if self.cook && high.is_some() {
            self.pass();
            return Err(syntax(
                "Unicode low surrogate must follow a high surrogate.",
            ));
        }
        let plain = match c {
            '"' | '\\' | '/' => c,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            _ => {
                self.pass();
                return Err(syntax(format!("Escape sequence \"\\{c}\" is invalid.")));
            }
        };
        self.at += 1;
        if self.cook {
            out.push(plain);
        } else {
            out.push_str(&self.text[start..self.at]);
        }
        Ok(())
    }
}

/// One UTF-16 unit of a `\u` escape; halves of a pair are joined.
fn cook_unit(unit: u16, out: &mut String, high: &mut Option<u16>) -> Result<(), TypeError> {
    match (unit, high.take()) {
        (0xD800..=0xDBFF, None) => *high = Some(unit),
        (0xD800..=0xDBFF, Some(_)) => {
            return Err(syntax(
                "Unicode high surrogate must not follow a high surrogate.",
            ));
        }
        (0xDC00..=0xDFFF, Some(h)) => {
            let point = 0x10000 + ((u32::from(h) & 0x3FF) << 10) + (u32::from(unit) & 0x3FF);
            out.push(char::from_u32(point).expect("a surrogate pair is a character"));
        }
        (0xDC00..=0xDFFF, None) | (_, Some(_)) => {
            return Err(syntax(
                "Unicode low surrogate must follow a high surrogate.",
            ));
        }
        (0, None) => {
            return Err(
                TypeError::new("22P05", "unsupported Unicode escape sequence")
                    .with_detail("\\u0000 cannot be converted to text."),
            );
        }
        (unit, None) => out.push(char::from_u32(u32::from(unit)).expect("not a surrogate")),
    }
    Ok(())
}
