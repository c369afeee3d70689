//! Operands: constants, columns, parameters, parentheses, CASE, subqueries (gram.y's `c_expr`).

use super::Result;
use super::cursor::Parser;
use super::expr::node;
use super::names::is_type_function;
use super::types::system_name;
use crate::sql::front::ast::{
    Expr, ExprKind, FunctionCall, Ident, Literal, Query, SelectItem, SessionValue, TypeName,
};
use crate::sql::front::keywords::{Category, Kw};
use crate::sql::front::lexer::TokenKind;

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Result<Expr> {
        let at = self.at();
        let token = self.token();
        match token.kind {
            TokenKind::Int(n) => {
                let kind = match self.lift() {
                    Some(number) => ExprKind::Param(number),
                    None => ExprKind::Literal(Literal::Int(n)),
                };
                self.bump();
                Ok(node(kind, at))
            }
            TokenKind::Number => {
                self.bump();
                let digits = self.text(token).to_owned();
                Ok(node(ExprKind::Literal(Literal::Number(digits)), at))
            }
            TokenKind::String(_) => {
                let text = self.string()?;
                Ok(node(ExprKind::Literal(Literal::Text(text)), at))
            }
            TokenKind::Bits => {
                self.bump();
                let text = self.text(token);
                let digits = format!(
                    "{}{}",
                    text[..1].to_ascii_lowercase(),
                    &text[2..text.len() - 1]
                );
                Ok(node(ExprKind::Literal(Literal::Bits(digits)), at))
            }
            TokenKind::Param(n) => {
                self.bump();
                self.indirection(node(ExprKind::Param(n), at))
            }
            TokenKind::Char(b'(') => self.parenthesis(),
            TokenKind::Keyword(kw) => self.keyword_primary(kw),
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
                self.name_primary()
            }
            _ => Err(self.unexpected()),
        }
    }

    fn keyword_primary(&mut self, kw: Kw) -> Result<Expr> {
        let at = self.at();
        let literal = match kw {
            Kw::Null => Some(Literal::Null),
            Kw::True => Some(Literal::Bool(true)),
            Kw::False => Some(Literal::Bool(false)),
            _ => None,
        };
        if let Some(literal) = literal {
            self.bump();
            return Ok(node(ExprKind::Literal(literal), at));
        }
        match kw {
            Kw::Case => self.case(),
            Kw::Array => self.array(),
            Kw::Row => self.row(),
            Kw::Exists => {
                self.bump();
                match self.try_parenthesized_query()? {
                    Some(query) => Ok(node(ExprKind::Exists(Box::new(query)), at)),
                    None => Err(self.unexpected_in_parenthesis()),
                }
            }
            Kw::Default => {
                self.bump();
                Ok(node(ExprKind::Default, at))
            }
            Kw::Grouping if self.peek_at(1) == TokenKind::Char(b'(') => {
                self.bump();
                self.parenthesized(Parser::expr)?;
                Ok(node(ExprKind::Unsupported("GROUPING"), at))
            }
            _ => {
                if let Some(value) = self.session_value(kw)? {
                    return Ok(node(ExprKind::SessionValue(value), at));
                }
                if let Some(call) = self.special_function(kw)? {
                    return Ok(call);
                }
                if let Some(ty) = self.try_constant_type()? {
                    return self.typed_constant(ty);
                }
                if kw.category() == Category::Reserved {
                    return Err(self.unexpected());
                }
                self.name_primary()
            }
        }
    }

    /// What stands where a parenthesised query had to: its first token that does not fit.
    fn unexpected_in_parenthesis(&mut self) -> crate::sql::error::SqlError {
        if self.is_char(b'(') {
            self.bump();
        }
        self.unexpected()
    }

    fn session_value(&mut self, kw: Kw) -> Result<Option<SessionValue>> {
        let value = match kw {
            Kw::CurrentDate => SessionValue::CurrentDate,
            Kw::CurrentRole => SessionValue::CurrentRole,
            Kw::CurrentUser => SessionValue::CurrentUser,
            Kw::User => SessionValue::User,
            Kw::SessionUser => SessionValue::SessionUser,
            Kw::CurrentCatalog => SessionValue::CurrentCatalog,
            Kw::CurrentSchema if self.peek_at(1) != TokenKind::Char(b'(') => {
                SessionValue::CurrentSchema
            }
            Kw::CurrentTime | Kw::CurrentTimestamp | Kw::Localtime | Kw::Localtimestamp => {
                self.bump();
                let precision = if self.eat_char(b'(') {
                    let n = self.integer()?;
                    self.expect_char(b')')?;
                    Some(n)
                } else {
                    None
                };
                return Ok(Some(match kw {
                    Kw::CurrentTime => SessionValue::CurrentTime(precision),
                    Kw::CurrentTimestamp => SessionValue::CurrentTimestamp(precision),
                    Kw::Localtime => SessionValue::LocalTime(precision),
                    _ => SessionValue::LocalTimestamp(precision),
                }));
            }
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(value))
    }

    /// A type and a string constant.
    fn typed_constant(&mut self, ty: TypeName) -> Result<Expr> {
        let at = self.at();
        let text = self.string()?;
        let mut ty = ty;
        if ty.system && ty.name.name.name == "interval" && ty.modifiers.is_empty() {
            ty.interval_fields = self.interval_fields(&mut ty.modifiers)?;
        }
        let arg = Box::new(node(ExprKind::Literal(Literal::Text(text)), at));
        Ok(node(ExprKind::Cast { arg, ty }, at))
    }

    /// A name: column, function call or `type 'text'`.
    fn name_primary(&mut self) -> Result<Expr> {
        let at = self.at();
        let first_token = self.token();
        let may_be_function = match first_token.kind {
            TokenKind::Keyword(kw) => is_type_function(kw),
            _ => true,
        };
        let may_be_column = match first_token.kind {
            TokenKind::Keyword(kw) => {
                !matches!(kw.category(), Category::TypeFunction | Category::Reserved)
            }
            _ => true,
        };
        self.bump();
        let mut parts = vec![self.ident_of(first_token)?];
        while self.is_char(b'.') && self.peek_at(1) != TokenKind::Char(b'*') {
            self.bump();
            parts.push(self.col_label()?);
        }
        let callable = parts.len() > 1 || may_be_function;
        match self.peek() {
            TokenKind::Char(b'(') if callable => self.call_or_typed_constant(parts, at),
            TokenKind::String(_) if callable => {
                let ty = self.plain_type(parts, at)?;
                self.typed_constant(ty)
            }
            _ if !may_be_column => Err(self.unexpected()),
            _ => self.column(parts, at),
        }
    }

    fn plain_type(&self, parts: Vec<Ident>, at: u32) -> Result<TypeName> {
        Ok(TypeName {
            name: self.name_of(parts)?,
            system: false,
            modifiers: Vec::new(),
            interval_fields: None,
            array_dimensions: 0,
            set_of: false,
            at,
        })
    }

    fn call_or_typed_constant(&mut self, parts: Vec<Ident>, at: u32) -> Result<Expr> {
        let call = self.function_call(parts, at)?;
        if !matches!(self.peek(), TokenKind::String(_)) {
            return Ok(call);
        }
        // `numeric(10) '1'`: what looked like a call was a type with modifiers.
        match call.kind {
            ExprKind::Call(c) if is_plain_call(&c) => {
                let ty = TypeName {
                    name: c.name,
                    system: false,
                    modifiers: c.args.into_iter().map(|a| a.value).collect(),
                    interval_fields: None,
                    array_dimensions: 0,
                    set_of: false,
                    at,
                };
                self.typed_constant(ty)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn column(&mut self, parts: Vec<Ident>, at: u32) -> Result<Expr> {
        if self.is_char(b'.') && self.peek_at(1) == TokenKind::Char(b'*') {
            self.bump();
            self.bump();
            return Ok(node(ExprKind::Star(parts), at));
        }
        let base = node(ExprKind::Column(parts), at);
        if self.is_char(b'[') {
            return self.indirection(base);
        }
        Ok(base)
    }

    /// `(query)`, `(expression)` or an implicit row.
    fn parenthesis(&mut self) -> Result<Expr> {
        let at = self.at();
        if let Some(query) = self.try_parenthesized_query()? {
            let base = node(ExprKind::Subquery(Box::new(query)), at);
            return self.indirection(base);
        }
        self.expect_char(b'(')?;
        let mut items = self.expr_list()?;
        self.expect_char(b')')?;
        if items.len() > 1 {
            let kind = ExprKind::Row {
                fields: items,
                explicit: false,
            };
            return Ok(node(kind, at));
        }
        let inner = items.pop().expect("a list has at least one item");
        // A parenthesis ends the flattening of AND and OR, and the sign's merging with a constant, only in
        // ways that do not change the meaning: no node of its own.
        self.indirection(inner)
    }

    /// The query in parentheses that comes next, if it is one. `((` may begin either: it is tried as a query
    /// first, and the error of the reading that got further is the one that counts.
    pub(super) fn try_parenthesized_query(&mut self) -> Result<Option<Query>> {
        if !self.is_char(b'(') {
            return Ok(None);
        }
        let starts = |p: &Self, n: usize| {
            matches!(
                p.peek_at(n),
                TokenKind::Keyword(Kw::Select | Kw::Values | Kw::With | Kw::Table)
            )
        };
        if starts(self, 1) {
            return self.parenthesized_query().map(Some);
        }
        let mut depth = 1;
        while self.peek_at(depth) == TokenKind::Char(b'(') {
            depth += 1;
        }
        if depth == 1 || !starts(self, depth) || self.is_known_as_no_query() {
            return Ok(None);
        }
        let mark = self.mark();
        match self.parenthesized_query() {
            Ok(query) => Ok(Some(query)),
            Err(error) => {
                // Whoever tries it at each level again, inside another that is tried at each level, never ends.
                self.back_to(mark);
                self.remember_no_query(&error);
                Ok(None)
            }
        }
    }

    pub(super) fn parenthesized_query(&mut self) -> Result<Query> {
        self.nested(|p| {
            p.expect_char(b'(')?;
            let query = p.query()?;
            p.expect_char(b')')?;
            Ok(query)
        })
    }

    fn case(&mut self) -> Result<Expr> {
        let at = self.at();
        self.bump();
        let operand = if self.is(Kw::When) {
            None
        } else {
            Some(Box::new(self.expr()?))
        };
        let mut arms = Vec::new();
        while self.eat(Kw::When) {
            let when = self.expr()?;
            self.expect(Kw::Then)?;
            arms.push((when, self.expr()?));
        }
        if arms.is_empty() {
            return Err(self.unexpected());
        }
        let otherwise = if self.eat(Kw::Else) {
            Some(Box::new(self.expr()?))
        } else {
            None
        };
        self.expect(Kw::End)?;
        let kind = ExprKind::Case {
            operand,
            arms,
            otherwise,
        };
        Ok(node(kind, at))
    }

    fn array(&mut self) -> Result<Expr> {
        let at = self.at();
        self.bump();
        if self.is_char(b'[') {
            return self.array_items(at);
        }
        match self.try_parenthesized_query()? {
            Some(query) => Ok(node(ExprKind::ArraySubquery(Box::new(query)), at)),
            None => Err(self.unexpected_in_parenthesis()),
        }
    }

    fn array_items(&mut self, at: u32) -> Result<Expr> {
        self.nested(|p| {
            p.expect_char(b'[')?;
            let items = if p.is_char(b']') {
                Vec::new()
            } else {
                p.list(|p| {
                    let at = p.at();
                    if p.is_char(b'[') {
                        p.array_items(at)
                    } else {
                        p.expr()
                    }
                })?
            };
            p.expect_char(b']')?;
            Ok(node(ExprKind::Array(items), at))
        })
    }

    fn row(&mut self) -> Result<Expr> {
        let at = self.at();
        self.bump();
        self.expect_char(b'(')?;
        let fields = if self.is_char(b')') {
            Vec::new()
        } else {
            self.list(Parser::row_field)?
        };
        self.expect_char(b')')?;
        let kind = ExprKind::Row {
            fields,
            explicit: true,
        };
        Ok(node(kind, at))
    }

    fn row_field(&mut self) -> Result<Expr> {
        self.expr()
    }

    /// gram.y's target_list.
    pub(super) fn select_items(&mut self) -> Result<Vec<SelectItem>> {
        self.list(|p| {
            let at = p.at();
            if p.eat_char(b'*') {
                return Ok(SelectItem {
                    expr: node(ExprKind::Star(Vec::new()), at),
                    alias: None,
                });
            }
            let expr = p.expr()?;
            let alias = if p.eat(Kw::As) {
                Some(p.col_label()?)
            } else {
                p.try_bare_label()?
            };
            Ok(SelectItem { expr, alias })
        })
    }

    /// `CAST(x AS t)`
    pub(super) fn cast(&mut self) -> Result<Expr> {
        let at = self.at();
        self.bump();
        self.expect_char(b'(')?;
        let arg = Box::new(self.expr()?);
        self.expect(Kw::As)?;
        let ty = self.type_name()?;
        self.expect_char(b')')?;
        Ok(node(ExprKind::Cast { arg, ty }, at))
    }
}

fn is_plain_call(c: &FunctionCall) -> bool {
    !c.star
        && !c.variadic
        && !c.distinct
        && c.over.is_none()
        && !c.within_group
        && c.filter.is_none()
        && c.order_by.is_empty()
        && c.args.iter().all(|a| a.name.is_none())
}

/// A cast to one of the system's own types.
pub(super) fn system_cast(arg: Expr, name: &str, at: u32) -> Expr {
    let ty = TypeName {
        name: system_name(name, at),
        system: true,
        modifiers: Vec::new(),
        interval_fields: None,
        array_dimensions: 0,
        set_of: false,
        at,
    };
    node(
        ExprKind::Cast {
            arg: Box::new(arg),
            ty,
        },
        at,
    )
}
