//! Function calls, and those that SQL writes in words (EXTRACT, SUBSTRING, TRIM, ...).

use super::Result;
use super::cursor::Parser;
use super::expr::node;
use super::types::system_name;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Argument, Expr, ExprKind, FunctionCall, Ident, Literal, ObjectName};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// A call that the grammar makes of other syntax.
pub(super) fn system_call(name: &str, args: Vec<Expr>, at: u32) -> Expr {
    let mut call = empty_call(system_name(name, at));
    call.sql_syntax = true;
    call.args = args
        .into_iter()
        .map(|value| Argument { name: None, value })
        .collect();
    node(ExprKind::Call(Box::new(call)), at)
}

fn empty_call(name: ObjectName) -> FunctionCall {
    FunctionCall {
        name,
        sql_syntax: false,
        args: Vec::new(),
        star: false,
        variadic: false,
        distinct: false,
        order_by: Vec::new(),
        within_group: false,
        filter: None,
        over: None,
    }
}

impl Parser<'_> {
    /// The arguments and clauses of a call; the next token is `(`.
    pub(super) fn function_call(&mut self, parts: Vec<Ident>, at: u32) -> Result<Expr> {
        let mut call = empty_call(self.name_of(parts)?);
        self.expect_char(b'(')?;
        if self.eat_char(b'*') {
            call.star = true;
        } else if !self.is_char(b')') {
            if self.eat(Kw::Distinct) {
                call.distinct = true;
            } else {
                self.eat(Kw::All);
            }
            self.arguments(&mut call)?;
            if self.is(Kw::Order) {
                call.order_by = self.order_by()?;
            }
        }
        self.expect_char(b')')?;
        self.call_clauses(&mut call)?;
        Ok(node(ExprKind::Call(Box::new(call)), at))
    }

    fn arguments(&mut self, call: &mut FunctionCall) -> Result<()> {
        loop {
            if self.eat(Kw::Variadic) {
                call.variadic = true;
            }
            let named = matches!(self.peek_at(1), TokenKind::Arrow | TokenKind::ColonEquals);
            let name = if named {
                let name = self.type_function_name()?;
                self.bump();
                Some(name)
            } else {
                None
            };
            let value = self.expr()?;
            call.args.push(Argument { name, value });
            if call.variadic || !self.eat_char(b',') {
                return Ok(());
            }
        }
    }

    fn call_clauses(&mut self, call: &mut FunctionCall) -> Result<()> {
        if self.is(Kw::Within) && self.is_at(1, Kw::Group) {
            self.bump();
            self.bump();
            self.expect_char(b'(')?;
            if !call.order_by.is_empty() {
                return Err(self.error(
                    "cannot use multiple ORDER BY clauses with WITHIN GROUP",
                    self.at(),
                ));
            }
            call.order_by = self.order_by()?;
            call.within_group = true;
            self.expect_char(b')')?;
        }
        if self.is(Kw::Filter) && self.peek_at(1) == TokenKind::Char(b'(') {
            self.bump();
            self.bump();
            self.expect(Kw::Where)?;
            call.filter = Some(Box::new(self.expr()?));
            self.expect_char(b')')?;
        }
        if self.eat(Kw::Over) {
            call.over = Some(Box::new(self.over()?));
        }
        Ok(())
    }

    /// Everything up to the bracket that closes the one that comes next.
    pub(super) fn skip_brackets(&mut self) -> Result<()> {
        if !self.is_char(b'(') {
            return Err(self.unexpected());
        }
        let mut depth = 0usize;
        loop {
            match self.peek() {
                TokenKind::Char(b'(') => depth += 1,
                TokenKind::Char(b')') => depth -= 1,
                TokenKind::End | TokenKind::Char(b';') | TokenKind::Fault(_) => {
                    return Err(self.unexpected());
                }
                _ => {}
            }
            self.bump();
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// gram.y's func_expr_common_subexpr, as far as it is not a session value. `None`: `kw` is none of it.
    pub(super) fn special_function(&mut self, kw: Kw) -> Result<Option<Expr>> {
        let at = self.at();
        if kw == Kw::Collation && self.is_at(1, Kw::For) {
            self.bump();
            self.bump();
            let mut args = self.parenthesized(Parser::expr)?;
            args.truncate(1);
            return Ok(Some(system_call("pg_collation_for", args, at)));
        }
        if self.peek_at(1) != TokenKind::Char(b'(') {
            return Ok(None);
        }
        let expr = match kw {
            Kw::Cast => return self.cast().map(Some),
            Kw::Coalesce => ExprKind::Coalesce(self.function_arguments()?),
            Kw::Greatest | Kw::Least => ExprKind::MinMax {
                greatest: kw == Kw::Greatest,
                args: self.function_arguments()?,
            },
            Kw::Nullif => self.nullif()?,
            Kw::Extract => return self.extract(at).map(Some),
            Kw::Position => return self.position(at).map(Some),
            Kw::Overlay => return self.overlay(at).map(Some),
            Kw::Substring => return self.substring(at).map(Some),
            Kw::Trim => return self.trim(at).map(Some),
            Kw::Normalize => self.skip_call("NORMALIZE")?,
            Kw::Treat => self.skip_call("TREAT")?,
            Kw::Xmlconcat => self.skip_call("XMLCONCAT")?,
            Kw::Xmlelement => self.skip_call("XMLELEMENT")?,
            Kw::Xmlexists => self.skip_call("XMLEXISTS")?,
            Kw::Xmlforest => self.skip_call("XMLFOREST")?,
            Kw::Xmlparse => self.skip_call("XMLPARSE")?,
            Kw::Xmlpi => self.skip_call("XMLPI")?,
            Kw::Xmlroot => self.skip_call("XMLROOT")?,
            Kw::Xmlserialize => self.skip_call("XMLSERIALIZE")?,
            _ => return Ok(None),
        };
        Ok(Some(node(expr, at)))
    }

    fn skip_call(&mut self, what: &'static str) -> Result<ExprKind> {
        self.bump();
        self.skip_brackets()?;
        Ok(ExprKind::Unsupported(what))
    }

    fn function_arguments(&mut self) -> Result<Vec<Expr>> {
        self.bump();
        self.parenthesized(Parser::expr)
    }

    fn nullif(&mut self) -> Result<ExprKind> {
        self.bump();
        self.expect_char(b'(')?;
        let left = Box::new(self.expr()?);
        self.expect_char(b',')?;
        let right = Box::new(self.expr()?);
        self.expect_char(b')')?;
        Ok(ExprKind::NullIf(left, right))
    }

    fn extract(&mut self, at: u32) -> Result<Expr> {
        self.bump();
        self.expect_char(b'(')?;
        let field_at = self.at();
        let field = match self.try_string()? {
            Some(s) => s,
            None => self.col_label_word()?,
        };
        self.expect(Kw::From)?;
        let value = self.expr()?;
        self.expect_char(b')')?;
        let field = node(ExprKind::Literal(Literal::Text(field)), field_at);
        Ok(system_call("extract", vec![field, value], at))
    }

    /// IDENT, or one of the time units that are keywords.
    fn col_label_word(&mut self) -> Result<String> {
        match self.peek() {
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {}
            TokenKind::Keyword(
                Kw::Year | Kw::Month | Kw::Day | Kw::Hour | Kw::Minute | Kw::Second,
            ) => {}
            _ => return Err(self.unexpected()),
        }
        Ok(self.col_label()?.name)
    }

    fn position(&mut self, at: u32) -> Result<Expr> {
        self.bump();
        self.expect_char(b'(')?;
        let needle = self.restricted_expr()?;
        self.expect(Kw::In)?;
        let haystack = self.restricted_expr()?;
        self.expect_char(b')')?;
        Ok(system_call("position", vec![haystack, needle], at))
    }

    fn overlay(&mut self, at: u32) -> Result<Expr> {
        self.bump();
        self.expect_char(b'(')?;
        let mut args = vec![self.expr()?];
        if !self.eat(Kw::Placing) {
            while self.eat_char(b',') {
                args.push(self.expr()?);
            }
            self.expect_char(b')')?;
            return Ok(plain_call("overlay", args, at));
        }
        args.push(self.expr()?);
        self.expect(Kw::From)?;
        args.push(self.expr()?);
        if self.eat(Kw::For) {
            args.push(self.expr()?);
        }
        self.expect_char(b')')?;
        Ok(system_call("overlay", args, at))
    }

    fn substring(&mut self, at: u32) -> Result<Expr> {
        self.bump();
        self.expect_char(b'(')?;
        if self.eat_char(b')') {
            return Ok(plain_call("substring", Vec::new(), at));
        }
        let mut args = vec![self.expr()?];
        if self.eat(Kw::Similar) {
            args.push(self.expr()?);
            self.expect(Kw::Escape)?;
            args.push(self.expr()?);
        } else if self.eat(Kw::From) {
            args.push(self.expr()?);
            if self.eat(Kw::For) {
                args.push(self.expr()?);
            }
        } else if self.eat(Kw::For) {
            let count = self.expr()?;
            if self.eat(Kw::From) {
                args.push(self.expr()?);
                args.push(count);
            } else {
                args.push(node(ExprKind::Literal(Literal::Int(1)), at));
                args.push(super::primary::system_cast(count, "int4", at));
            }
        } else {
            while self.eat_char(b',') {
                args.push(self.expr()?);
            }
            self.expect_char(b')')?;
            return Ok(plain_call("substring", args, at));
        }
        self.expect_char(b')')?;
        Ok(system_call("substring", args, at))
    }

    fn trim(&mut self, at: u32) -> Result<Expr> {
        self.bump();
        self.expect_char(b'(')?;
        let name = if self.eat(Kw::Leading) {
            "ltrim"
        } else if self.eat(Kw::Trailing) {
            "rtrim"
        } else {
            self.eat(Kw::Both);
            "btrim"
        };
        let mut args = Vec::new();
        if !self.eat(Kw::From) {
            let first = self.expr()?;
            if self.eat(Kw::From) {
                args = self.expr_list()?;
                args.push(first);
            } else {
                args.push(first);
                while self.eat_char(b',') {
                    args.push(self.expr()?);
                }
            }
        } else {
            args = self.expr_list()?;
        }
        self.expect_char(b')')?;
        Ok(system_call(name, args, at))
    }
}

/// `substring(a, b)` and `overlay(a, b, c)` look the function up as any other.
fn plain_call(name: &str, args: Vec<Expr>, at: u32) -> Expr {
    let mut expr = system_call(name, args, at);
    if let ExprKind::Call(call) = &mut expr.kind {
        call.sql_syntax = false;
        call.name.schema = None;
    }
    expr
}

/// 0A000 for a clause that is known and not there yet.
pub(super) fn not_yet(what: &str, at: u32) -> SqlError {
    SqlError::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("{what} is not supported"),
    )
    .at(at)
}
