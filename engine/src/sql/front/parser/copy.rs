//! COPY, in its modern and its old spelling.

use super::Result;
use super::cursor::Parser;
use crate::sql::front::ast::{
    Copy, CopyDirection, CopyEnd, CopySource, OptionValue, Statement, UtilityOption,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.bump();
        let mut options = Vec::new();
        let at = self.at();
        if self.eat(Kw::Binary) {
            options.push(text_option("format", "binary", at));
        }
        let is_query = self.is_char(b'(');
        let source = if is_query {
            self.bump();
            let statement = self.nested(Parser::statement)?;
            self.expect_char(b')')?;
            CopySource::Query(Box::new(statement))
        } else {
            let name = self.object_name()?;
            let columns = self.optional_column_list()?;
            CopySource::Table { name, columns }
        };
        let direction = if self.is(Kw::From) && !is_query {
            CopyDirection::From
        } else if self.is(Kw::To) {
            CopyDirection::To
        } else {
            return Err(self.unexpected());
        };
        self.bump();
        let end = self.copy_end(direction)?;
        let old_delimiters =
            self.is(Kw::Delimiters) || (self.is(Kw::Using) && self.is_at(1, Kw::Delimiters));
        if old_delimiters {
            let at = self.at();
            self.eat(Kw::Using);
            self.bump();
            let text = self.string()?;
            options.push(text_option("delimiter", &text, at));
        }
        self.eat(Kw::With);
        if self.is_char(b'(') {
            options.extend(self.generic_options()?);
        } else {
            self.old_copy_options(&mut options)?;
        }
        let filter_at = self.at();
        let filter = self.where_clause()?;
        if filter.is_some() && direction == CopyDirection::To {
            return Err(self.error("WHERE clause not allowed with COPY TO", filter_at));
        }
        Ok(Statement::Copy(Box::new(Copy {
            source,
            direction,
            end,
            options,
            filter,
        })))
    }

    fn copy_end(&mut self, direction: CopyDirection) -> Result<CopyEnd> {
        if self.eat(Kw::Program) {
            return Ok(CopyEnd::Program(self.string()?));
        }
        let at = self.at();
        if self.is_any(&[Kw::Stdin, Kw::Stdout]) {
            // gram.y takes either word for either direction.
            let _ = (direction, at);
            self.bump();
            return Ok(CopyEnd::Client);
        }
        Ok(CopyEnd::File(self.string()?))
    }

    fn old_copy_options(&mut self, options: &mut Vec<UtilityOption>) -> Result<()> {
        loop {
            let at = self.at();
            let TokenKind::Keyword(kw) = self.peek() else {
                return Ok(());
            };
            let simple = match kw {
                Kw::Binary => Some(text_option("format", "binary", at)),
                Kw::Csv => Some(text_option("format", "csv", at)),
                Kw::Freeze => Some(text_option("freeze", "true", at)),
                Kw::Header => Some(text_option("header", "true", at)),
                _ => None,
            };
            if let Some(option) = simple {
                self.bump();
                options.push(option);
                continue;
            }
            match kw {
                Kw::Delimiter | Kw::Null | Kw::Quote | Kw::Escape => {
                    self.bump();
                    self.eat(Kw::As);
                    let text = self.string()?;
                    options.push(text_option(kw.word(), &text, at));
                }
                Kw::Encoding => {
                    self.bump();
                    let text = self.string()?;
                    options.push(text_option("encoding", &text, at));
                }
                Kw::Force => self.force_option(options)?,
                _ => return Ok(()),
            }
        }
    }

    fn force_option(&mut self, options: &mut Vec<UtilityOption>) -> Result<()> {
        let at = self.at();
        self.bump();
        let name = if self.eat(Kw::Quote) {
            "force_quote"
        } else if self.eat_all(&[Kw::Not, Kw::Null]) {
            "force_not_null"
        } else {
            self.expect(Kw::Null)?;
            "force_null"
        };
        let value = if name == "force_quote" && self.eat_char(b'*') {
            OptionValue::Star
        } else {
            OptionValue::List(self.list(|p| Ok(p.col_id()?.name))?)
        };
        options.push(UtilityOption {
            name: name.to_owned(),
            value: Some(value),
            at,
        });
        Ok(())
    }
}

fn text_option(name: &str, value: &str, at: u32) -> UtilityOption {
    UtilityOption {
        name: name.to_owned(),
        value: Some(OptionValue::Text(value.to_owned())),
        at,
    }
}
