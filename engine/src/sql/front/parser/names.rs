//! Identifiers and what the grammar lets keywords name; strings and numbers as values.

use super::Result;
use super::cursor::Parser;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{Ident, ObjectName, RoleSpec};
use crate::sql::front::keywords::{Category, Kw};
use crate::sql::front::lexer::{self, StringKind, Token, TokenKind};

impl Parser<'_> {
    fn ident_if(&mut self, allowed: impl Fn(Kw) -> bool) -> Result<Option<Ident>> {
        let yes = match self.peek() {
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => true,
            TokenKind::Keyword(kw) => allowed(kw),
            _ => false,
        };
        if !yes {
            return Ok(None);
        }
        let token = self.bump();
        Ok(Some(self.ident_of(token)?))
    }
    pub(super) fn ident_of(&self, token: Token) -> Result<Ident> {
        Ok(Ident {
            name: lexer::ident_name(self.src, token)?,
            at: token.start,
        })
    }
    fn required(&mut self, ident: Option<Ident>) -> Result<Ident> {
        ident.ok_or_else(|| self.unexpected())
    }

    /// gram.y's ColId.
    pub(in crate::sql::front) fn col_id(&mut self) -> Result<Ident> {
        let ident = self.try_col_id()?;
        self.required(ident)
    }
    pub(super) fn try_col_id(&mut self) -> Result<Option<Ident>> {
        self.ident_if(is_col_id)
    }
    pub(super) fn peek_is_col_id(&self) -> bool {
        match self.peek() {
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => true,
            TokenKind::Keyword(kw) => is_col_id(kw),
            _ => false,
        }
    }
    /// gram.y's type_function_name.
    pub(super) fn try_type_function_name(&mut self) -> Result<Option<Ident>> {
        self.ident_if(is_type_function)
    }
    pub(super) fn type_function_name(&mut self) -> Result<Ident> {
        let ident = self.try_type_function_name()?;
        self.required(ident)
    }
    /// gram.y's NonReservedWord.
    pub(super) fn non_reserved_word(&mut self) -> Result<Ident> {
        let ident = self.ident_if(|kw| kw.category() != Category::Reserved)?;
        self.required(ident)
    }
    /// gram.y's ColLabel.
    pub(super) fn col_label(&mut self) -> Result<Ident> {
        let ident = self.ident_if(|_| true)?;
        self.required(ident)
    }
    /// gram.y's BareColLabel.
    pub(super) fn try_bare_label(&mut self) -> Result<Option<Ident>> {
        self.ident_if(Kw::is_bare_label)
    }

    /// gram.y's qualified_name.
    pub(super) fn object_name(&mut self) -> Result<ObjectName> {
        let first = self.col_id()?;
        let mut parts = vec![first];
        while self.is_char(b'.') {
            self.bump();
            parts.push(self.col_label()?);
        }
        self.name_of(parts)
    }
    pub(super) fn name_of(&self, mut parts: Vec<Ident>) -> Result<ObjectName> {
        if parts.len() > 3 {
            let dotted: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
            return Err(self.error(
                &format!(
                    "improper qualified name (too many dotted names): {}",
                    dotted.join(".")
                ),
                parts[0].at,
            ));
        }
        let name = parts.pop().expect("a name has at least one part");
        let schema = parts.pop();
        let database = parts.pop();
        Ok(ObjectName {
            database,
            schema,
            name,
        })
    }
    pub(super) fn column_list(&mut self) -> Result<Vec<Ident>> {
        self.parenthesized(Parser::col_id)
    }
    pub(super) fn optional_column_list(&mut self) -> Result<Vec<Ident>> {
        if self.is_char(b'(') {
            self.column_list()
        } else {
            Ok(Vec::new())
        }
    }

    pub(in crate::sql::front) fn try_string(&mut self) -> Result<Option<String>> {
        let token = self.token();
        let TokenKind::String(kind) = token.kind else {
            return Ok(None);
        };
        self.bump();
        let text = lexer::string_value(self.src, token, kind)?;
        if kind != StringKind::Unicode {
            return Ok(Some(text));
        }
        let escape = if self.eat(Kw::Uescape) {
            self.escape_character()?
        } else {
            b'\\'
        };
        lexer::unicode_escapes(&text, escape, token.start + 3).map(Some)
    }

    /// UESCAPE's one character.
    fn escape_character(&mut self) -> Result<u8> {
        let at = self.at();
        let token = self.token();
        let TokenKind::String(kind) = token.kind else {
            return Err(lexer::near_error(
                "UESCAPE must be followed by a simple string literal",
                self.text(token),
                at,
            ));
        };
        self.bump();
        let text = lexer::string_value(self.src, token, kind)?;
        match text.as_bytes() {
            [c] if !c.is_ascii_hexdigit() && !matches!(c, b'+' | b'\'' | b'"' | b' ') => Ok(*c),
            _ => Err(lexer::near_error(
                "invalid Unicode escape character",
                self.text(token),
                at,
            )),
        }
    }
    pub(in crate::sql::front) fn string(&mut self) -> Result<String> {
        match self.try_string()? {
            Some(s) => Ok(s),
            None => Err(self.unexpected()),
        }
    }
    /// gram.y's NonReservedWord_or_Sconst.
    pub(super) fn word_or_string(&mut self) -> Result<String> {
        match self.try_string()? {
            Some(s) => Ok(s),
            None => Ok(self.non_reserved_word()?.name),
        }
    }
    pub(super) fn integer(&mut self) -> Result<i32> {
        match self.peek() {
            TokenKind::Int(n) => {
                self.bump();
                Ok(n)
            }
            _ => Err(self.unexpected()),
        }
    }
    /// gram.y's SignedIconst.
    pub(super) fn signed_integer(&mut self) -> Result<i32> {
        let negative = self.eat_char(b'-');
        if !negative {
            self.eat_char(b'+');
        }
        let n = self.integer()?;
        Ok(if negative { -n } else { n })
    }
    /// gram.y's NumericOnly, as written.
    pub(super) fn try_number(&mut self) -> Result<Option<String>> {
        let signed = matches!(self.peek(), TokenKind::Char(b'-' | b'+'));
        let number = self.peek_at(usize::from(signed));
        if !matches!(number, TokenKind::Int(_) | TokenKind::Number) {
            return Ok(None);
        }
        let minus = signed && self.is_char(b'-');
        if signed {
            self.bump();
        }
        let token = self.bump();
        let digits = self.text(token);
        Ok(Some(if minus {
            format!("-{digits}")
        } else {
            digits.to_owned()
        }))
    }
    pub(super) fn number(&mut self) -> Result<String> {
        match self.try_number()? {
            Some(n) => Ok(n),
            None => Err(self.unexpected()),
        }
    }

    pub(super) fn role_spec(&mut self) -> Result<RoleSpec> {
        let at = self.at();
        for (kw, spec) in [
            (Kw::CurrentUser, RoleSpec::CurrentUser(at)),
            (Kw::CurrentRole, RoleSpec::CurrentRole(at)),
            (Kw::SessionUser, RoleSpec::SessionUser(at)),
        ] {
            if self.eat(kw) {
                return Ok(spec);
            }
        }
        let name = self.non_reserved_word()?;
        Ok(match name.name.as_str() {
            // In quotes too, as in gram.y.
            "public" => RoleSpec::Public(at),
            "none" => {
                return Err(SqlError::new(
                    crate::sql::error::state::RESERVED_NAME,
                    "role name \"none\" is reserved",
                )
                .at(at));
            }
            _ => RoleSpec::Named(name),
        })
    }
    pub(super) fn if_exists(&mut self) -> bool {
        self.eat_all(&[Kw::If, Kw::Exists])
    }
    pub(super) fn if_not_exists(&mut self) -> bool {
        self.eat_all(&[Kw::If, Kw::Not, Kw::Exists])
    }
    /// CASCADE, RESTRICT or nothing.
    pub(super) fn cascade(&mut self) -> bool {
        if self.eat(Kw::Cascade) {
            return true;
        }
        self.eat(Kw::Restrict);
        false
    }
}

fn is_col_id(kw: Kw) -> bool {
    matches!(kw.category(), Category::Unreserved | Category::ColumnName)
}

pub(super) fn is_type_function(kw: Kw) -> bool {
    matches!(kw.category(), Category::Unreserved | Category::TypeFunction)
}
