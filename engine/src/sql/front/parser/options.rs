//! Lists of options: `(name value, ...)`, storage parameters, sequence options.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{OptionValue, SequenceOption, SequenceOptionKind, UtilityOption};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    /// `(name [value], ...)` as EXPLAIN, VACUUM, COPY and REINDEX have it.
    pub(in crate::sql::front) fn generic_options(&mut self) -> Result<Vec<UtilityOption>> {
        self.parenthesized(|p| {
            let at = p.at();
            let name = match p.peek() {
                // Reserved words that are option names.
                TokenKind::Keyword(Kw::Analyze | Kw::Analyse) => {
                    p.bump();
                    "analyze".to_owned()
                }
                _ => p.col_label()?.name,
            };
            Ok(UtilityOption {
                name,
                value: p.option_value()?,
                at,
            })
        })
    }

    fn option_value(&mut self) -> Result<Option<OptionValue>> {
        if let Some(n) = self.try_number()? {
            return Ok(Some(OptionValue::Number(n)));
        }
        if let Some(s) = self.try_string()? {
            return Ok(Some(OptionValue::Text(s)));
        }
        Ok(match self.peek() {
            TokenKind::Char(b',' | b')') => None,
            TokenKind::Char(b'*') => {
                self.bump();
                Some(OptionValue::Star)
            }
            TokenKind::Char(b'(') => {
                Some(OptionValue::List(self.parenthesized(
                    |p| match p.try_string()? {
                        Some(s) => Ok(s),
                        None => Ok(p.col_label()?.name),
                    },
                )?))
            }
            _ => Some(OptionValue::Text(self.boolean_or_word()?)),
        })
    }

    /// gram.y's opt_boolean_or_string, without strings.
    pub(super) fn boolean_or_word(&mut self) -> Result<String> {
        for (kw, word) in [(Kw::True, "true"), (Kw::False, "false"), (Kw::On, "on")] {
            if self.eat(kw) {
                return Ok(word.to_owned());
            }
        }
        Ok(self.non_reserved_word()?.name)
    }

    /// gram.y's reloptions: `(name [= value], schema.name = value, ...)`.
    pub(super) fn storage_options(&mut self) -> Result<Vec<UtilityOption>> {
        self.parenthesized(|p| {
            let at = p.at();
            let mut name = p.col_label()?.name;
            if p.eat_char(b'.') {
                name = format!("{name}.{}", p.col_label()?.name);
            }
            let value = if p.eat_char(b'=') {
                match p.try_number()? {
                    Some(n) => Some(OptionValue::Number(n)),
                    None => match p.try_string()? {
                        Some(s) => Some(OptionValue::Text(s)),
                        None => Some(OptionValue::Text(p.col_label()?.name)),
                    },
                }
            } else {
                None
            };
            Ok(UtilityOption { name, value, at })
        })
    }

    /// `WITH (...)`, if it is there.
    pub(super) fn with_storage_options(&mut self) -> Result<Vec<UtilityOption>> {
        if self.is(Kw::With) && self.peek_at(1) == TokenKind::Char(b'(') {
            self.bump();
            self.storage_options()
        } else {
            Ok(Vec::new())
        }
    }

    /// Zero or more of them.
    pub(super) fn sequence_options(&mut self) -> Result<Vec<SequenceOption>> {
        let mut out = Vec::new();
        while let Some(option) = self.try_sequence_option()? {
            out.push(option);
        }
        Ok(out)
    }

    pub(super) fn try_sequence_option(&mut self) -> Result<Option<SequenceOption>> {
        let at = self.at();
        let TokenKind::Keyword(kw) = self.peek() else {
            return Ok(None);
        };
        let known = matches!(
            kw,
            Kw::As
                | Kw::Cache
                | Kw::Cycle
                | Kw::Increment
                | Kw::Maxvalue
                | Kw::Minvalue
                | Kw::No
                | Kw::Owned
                | Kw::Sequence
                | Kw::Start
                | Kw::Restart
        );
        if !known {
            return Ok(None);
        }
        self.bump();
        let kind = match kw {
            Kw::As => SequenceOptionKind::As(self.type_name()?),
            Kw::Cache => SequenceOptionKind::Cache(self.number()?),
            Kw::Cycle => SequenceOptionKind::Cycle(true),
            Kw::Increment => {
                self.eat(Kw::By);
                SequenceOptionKind::Increment(self.number()?)
            }
            Kw::Maxvalue => SequenceOptionKind::MaxValue(Some(self.number()?)),
            Kw::Minvalue => SequenceOptionKind::MinValue(Some(self.number()?)),
            Kw::No => {
                if self.eat(Kw::Cycle) {
                    SequenceOptionKind::Cycle(false)
                } else if self.eat(Kw::Maxvalue) {
                    SequenceOptionKind::MaxValue(None)
                } else {
                    self.expect(Kw::Minvalue)?;
                    SequenceOptionKind::MinValue(None)
                }
            }
            Kw::Owned => {
                self.expect(Kw::By)?;
                self.owned_by()?
            }
            Kw::Sequence => {
                self.expect(Kw::Name)?;
                SequenceOptionKind::Name(self.object_name()?)
            }
            Kw::Start => {
                self.eat(Kw::With);
                SequenceOptionKind::Start(self.number()?)
            }
            _ => {
                self.eat(Kw::With);
                SequenceOptionKind::Restart(self.try_number()?)
            }
        };
        Ok(Some(SequenceOption { kind, at }))
    }

    fn owned_by(&mut self) -> Result<SequenceOptionKind> {
        let mut parts = vec![self.col_id()?];
        while self.eat_char(b'.') {
            parts.push(self.col_label()?);
        }
        if parts.len() == 1 && parts[0].name == "none" {
            return Ok(SequenceOptionKind::OwnedBy(None));
        }
        Ok(SequenceOptionKind::OwnedBy(Some(parts)))
    }
}
