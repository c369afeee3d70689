//! Where one statement ends and the next begins, as psql sees it: at a semicolon outside of quotes, comments and
//! parentheses (manual, 4.1). A backslash outside of quotes begins a command to the client.

/// What a line brought to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// With its semicolon.
    Statement(String),
    /// To the end of the line, without the backslash.
    Command(String),
}

/// Within what the end of the text so far is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Within {
    #[default]
    Nothing,
    /// A string; backslashes escape in it or not.
    Quote {
        escapes: bool,
    },
    Identifier,
    /// With its whole delimiter.
    Dollar(String),
    /// Comments nest.
    Comment(usize),
}

#[derive(Clone, Debug, Default)]
pub struct Splitter {
    text: String,
    within: Within,
    depth: usize,
    /// `standard_conforming_strings = off`
    pub backslash_escapes: bool,
}

impl Splitter {
    /// Takes a line without its end; gives what it finished, in order.
    pub fn line(&mut self, line: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let taken = match std::mem::take(&mut self.within) {
                Within::Nothing => match self.outside(rest, c) {
                    Outside::Taken(length) => length,
                    Outside::End => {
                        pieces.push(Piece::Statement(std::mem::take(&mut self.text)));
                        1
                    }
                    Outside::Command => {
                        pieces.push(Piece::Command(rest[1..].trim_end().to_owned()));
                        // What was begun goes on in the next line; its line end is already there.
                        break;
                    }
                    Outside::Skipped(length) => length,
                },
                within => self.inside(within, rest, c),
            };
            rest = &rest[taken..];
        }
        pieces
    }

    /// What has been begun and not ended.
    pub fn pending(&self) -> &str {
        &self.text
    }

    /// Gives up what has been begun; gives it.
    pub fn take(&mut self) -> String {
        self.within = Within::Nothing;
        self.depth = 0;
        std::mem::take(&mut self.text)
    }

    /// psql's `%R` of a prompt for another line.
    pub fn prompt_mark(&self) -> char {
        match &self.within {
            Within::Quote { .. } => '\'',
            Within::Identifier => '"',
            Within::Dollar(_) => '$',
            Within::Comment(_) => '*',
            Within::Nothing if self.depth > 0 => '(',
            Within::Nothing if self.text.is_empty() => '=',
            Within::Nothing => '-',
        }
    }

    fn outside(&mut self, rest: &str, c: char) -> Outside {
        if rest.starts_with("--") {
            if self.text.is_empty() {
                return Outside::Skipped(rest.len());
            }
            return self.push(rest, rest.len());
        }
        if rest.starts_with("/*") {
            self.within = Within::Comment(1);
            return self.push(rest, 2);
        }
        match c {
            // Nothing is sent before something begins.
            c if c.is_ascii_whitespace() && self.text.is_empty() => {
                return Outside::Skipped(c.len_utf8());
            }
            '\'' => {
                let escapes = self.backslash_escapes || self.follows_escape_prefix();
                self.within = Within::Quote { escapes };
            }
            '"' => self.within = Within::Identifier,
            '$' if !self.follows_word() => {
                if let Some(delimiter) = dollar_delimiter(rest) {
                    let length = delimiter.len();
                    self.within = Within::Dollar(delimiter.to_owned());
                    return self.push(rest, length);
                }
            }
            '(' => self.depth += 1,
            ')' => self.depth = self.depth.saturating_sub(1),
            ';' if self.depth == 0 => {
                self.text.push(';');
                return Outside::End;
            }
            '\\' => return Outside::Command,
            _ => {}
        }
        self.push(rest, c.len_utf8())
    }

    fn inside(&mut self, within: Within, rest: &str, c: char) -> usize {
        let (length, within) = match within {
            Within::Quote { escapes: true } if c == '\\' => {
                let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
                (1 + escaped, within)
            }
            Within::Quote { .. } if rest.starts_with("''") => (2, within),
            Within::Quote { .. } if c == '\'' => (1, Within::Nothing),
            // A doubled one ends the name and begins it again.
            Within::Identifier if c == '"' => (1, Within::Nothing),
            Within::Dollar(delimiter) if rest.starts_with(&delimiter) => {
                (delimiter.len(), Within::Nothing)
            }
            Within::Comment(1) if rest.starts_with("*/") => (2, Within::Nothing),
            Within::Comment(depth) if rest.starts_with("*/") => (2, Within::Comment(depth - 1)),
            Within::Comment(depth) if rest.starts_with("/*") => (2, Within::Comment(depth + 1)),
            within => (c.len_utf8(), within),
        };
        self.within = within;
        self.text.push_str(&rest[..length]);
        length
    }

    fn push(&mut self, rest: &str, length: usize) -> Outside {
        self.text.push_str(&rest[..length]);
        Outside::Taken(length)
    }

    /// The text ends with the `E` of an `E'...'`.
    fn follows_escape_prefix(&self) -> bool {
        let mut back = self.text.chars().rev();
        matches!(back.next(), Some('e' | 'E')) && !back.next().is_some_and(is_word)
    }

    fn follows_word(&self) -> bool {
        self.text.chars().next_back().is_some_and(is_word)
    }
}

enum Outside {
    /// So many bytes now belong to the statement.
    Taken(usize),
    /// So many bytes belong to nothing.
    Skipped(usize),
    /// A semicolon.
    End,
    /// A backslash.
    Command,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// `$$` or `$tag$` at the beginning.
fn dollar_delimiter(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[1..end - 1];
    let is_tag = tag.chars().all(|c| is_word(c) && c != '$');
    let is_parameter = tag.starts_with(|c: char| c.is_ascii_digit());
    (is_tag && !is_parameter).then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (Vec<Piece>, String) {
        let mut splitter = Splitter::default();
        let pieces = text.lines().flat_map(|l| splitter.line(l)).collect();
        (pieces, splitter.take())
    }

    fn statements(text: &str) -> Vec<String> {
        let (pieces, rest) = split(text);
        let texts = pieces.into_iter().map(|piece| match piece {
            Piece::Statement(text) => text,
            Piece::Command(text) => format!("\\{text}"),
        });
        texts.chain(Some(rest).filter(|r| !r.is_empty())).collect()
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_quoted() {
        for (text, expected) in [
            ("select 1; select 2;", &["select 1;", "select 2;"][..]),
            ("\n  -- note\n  select\n1;", &["select\n1;"]),
            (
                "select ';', \";\", $$;$$, $a$;$$;$a$;",
                &["select ';', \";\", $$;$$, $a$;$$;$a$;"],
            ),
            ("select 'it''s;', '';", &["select 'it''s;', '';"]),
            ("select E'\\';', e'\\\\';", &["select E'\\';', e'\\\\';"]),
            ("select type'\\';", &["select type'\\';"]),
            ("select 1 -- ;\n;", &["select 1 -- ;\n;"]),
            (
                "select /* ; /* ; */ ; */ 1;",
                &["select /* ; /* ; */ ; */ 1;"],
            ),
            ("create rule (a; b); c", &["create rule (a; b);", "c"]),
            ("select a$b$;$1;", &["select a$b$;", "$1;"]),
            (";;", &[";", ";"]),
            ("select 1 \\q now", &["\\q now", "select 1 "]),
            ("select '\n;\n'", &["select '\n;\n'"]),
        ] {
            assert_eq!(statements(text), expected, "{text}");
        }
    }

    #[test]
    fn the_prompt_says_what_is_open() {
        for (text, expected) in [
            ("", '='),
            ("select 1;", '='),
            ("select", '-'),
            ("select '", '\''),
            ("select \"", '"'),
            ("select $x$", '$'),
            ("select /*", '*'),
            ("select (", '('),
        ] {
            let mut splitter = Splitter::default();
            splitter.line(text);
            assert_eq!(splitter.prompt_mark(), expected, "{text}");
        }
    }
}
