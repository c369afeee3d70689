//! Operators and their precedences. Manual, 4.1.6; gram.y's `a_expr` and `b_expr`.

use super::Result;
use super::cursor::Parser;
use super::function::system_call;
use crate::sql::front::ast::{
    Expr, ExprKind, InList, LikeKind, Literal, OperatorName, QuantifiedOperand, Subscript,
};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// Precedences, weakest first.
mod power {
    pub const OR: u8 = 1;
    pub const AND: u8 = 2;
    pub const NOT: u8 = 3;
    pub const IS: u8 = 4;
    pub const COMPARE: u8 = 5;
    pub const RANGE: u8 = 6;
    pub const OTHER: u8 = 7;
    pub const ADD: u8 = 8;
    pub const MULTIPLY: u8 = 9;
    pub const POWER: u8 = 10;
    pub const AT: u8 = 11;
    pub const COLLATE: u8 = 12;
    pub const SIGN: u8 = 13;
    pub const CAST: u8 = 15;
}

/// What an infix position holds.
enum Infix {
    Or,
    And,
    Is,
    IsNullWord { negated: bool },
    Operator { level: u8 },
    Range { negated: bool, kw: Kw },
    At,
    Collate,
    Cast,
    Overlaps,
}

impl Infix {
    fn level(&self) -> u8 {
        match self {
            Infix::Or => power::OR,
            Infix::And => power::AND,
            Infix::Is | Infix::IsNullWord { .. } => power::IS,
            Infix::Operator { level } => *level,
            Infix::Range { .. } => power::RANGE,
            Infix::At => power::AT,
            Infix::Collate => power::COLLATE,
            Infix::Cast => power::CAST,
            Infix::Overlaps => power::OTHER,
        }
    }
}

pub(super) fn node(kind: ExprKind, at: u32) -> Expr {
    Expr { kind, at }
}

pub(super) fn operator(name: &str) -> OperatorName {
    OperatorName {
        schema: None,
        name: name.to_owned(),
    }
}

impl Parser<'_> {
    /// gram.y's a_expr.
    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.expr_above(0, false)
    }
    /// gram.y's b_expr: no boolean connectives, tests and ranges.
    pub(super) fn restricted_expr(&mut self) -> Result<Expr> {
        self.expr_above(0, true)
    }
    pub(super) fn expr_list(&mut self) -> Result<Vec<Expr>> {
        self.list(Parser::expr)
    }

    fn expr_above(&mut self, least: u8, restricted: bool) -> Result<Expr> {
        self.nested(|p| p.climb(least, restricted))
    }

    fn climb(&mut self, least: u8, restricted: bool) -> Result<Expr> {
        let (mut left, mut height) = self.measured(|p| p.prefix(restricted))?;
        // Level of a non-associative operator whose right operand ended `left`.
        let mut closed = 0u8;
        while let Some(infix) = self.infix(restricted) {
            let level = infix.level();
            if level < least {
                break;
            }
            if level == closed {
                return Err(self.unexpected());
            }
            let ((next, open), right) = self.measured(|p| p.apply(left, &infix, restricted))?;
            left = next;
            // AND and OR are lists: one more does not make them higher.
            let link = !matches!(infix, Infix::And | Infix::Or);
            height = height.max(right) + u32::from(link);
            self.grows_to(height)?;
            let nonassociative = matches!(level, power::IS | power::COMPARE | power::RANGE) && open;
            closed = if nonassociative { level } else { 0 };
        }
        Ok(left)
    }

    fn prefix(&mut self, restricted: bool) -> Result<Expr> {
        let at = self.at();
        match self.peek() {
            TokenKind::Keyword(Kw::Not) if !restricted => {
                self.bump();
                let arg = self.expr_above(power::NOT, false)?;
                Ok(node(ExprKind::Not(Box::new(arg)), at))
            }
            TokenKind::Char(sign @ (b'-' | b'+')) => {
                self.bump();
                let arg = self.expr_above(power::SIGN, restricted)?;
                Ok(signed(sign, arg, at))
            }
            TokenKind::Op => self.prefix_operator(restricted),
            TokenKind::Keyword(Kw::Operator) if self.peek_at(1) == TokenKind::Char(b'(') => {
                self.prefix_operator(restricted)
            }
            _ => self.primary(),
        }
    }

    fn prefix_operator(&mut self, restricted: bool) -> Result<Expr> {
        let at = self.at();
        let op = self.any_operator()?;
        let right = Box::new(self.expr_above(power::OTHER + 1, restricted)?);
        Ok(node(
            ExprKind::Operator {
                op,
                left: None,
                right,
            },
            at,
        ))
    }

    fn infix(&self, restricted: bool) -> Option<Infix> {
        let level = match self.peek() {
            TokenKind::Char(b'<' | b'>' | b'=')
            | TokenKind::LessEquals
            | TokenKind::GreaterEquals
            | TokenKind::NotEquals => power::COMPARE,
            TokenKind::Char(b'+' | b'-') => power::ADD,
            TokenKind::Char(b'*' | b'/' | b'%') => power::MULTIPLY,
            TokenKind::Char(b'^') => power::POWER,
            TokenKind::Op => power::OTHER,
            TokenKind::TypeCast => return Some(Infix::Cast),
            TokenKind::Keyword(kw) => return self.keyword_infix(kw, restricted),
            _ => return None,
        };
        Some(Infix::Operator { level })
    }

    fn keyword_infix(&self, kw: Kw, restricted: bool) -> Option<Infix> {
        match kw {
            Kw::Operator if self.peek_at(1) == TokenKind::Char(b'(') => Some(Infix::Operator {
                level: power::OTHER,
            }),
            Kw::Is
                if !restricted
                    || self.is_at(1, Kw::Distinct)
                    || (self.is_at(1, Kw::Not) && self.is_at(2, Kw::Distinct)) =>
            {
                Some(Infix::Is)
            }
            _ if restricted => None,
            Kw::Or => Some(Infix::Or),
            Kw::And => Some(Infix::And),
            Kw::Isnull => Some(Infix::IsNullWord { negated: false }),
            Kw::Notnull => Some(Infix::IsNullWord { negated: true }),
            // SUBSTRING has a SIMILAR of its own.
            Kw::Similar if !self.is_at(1, Kw::To) => None,
            Kw::Between | Kw::In | Kw::Like | Kw::Ilike | Kw::Similar => {
                Some(Infix::Range { negated: false, kw })
            }
            Kw::Not => match self.peek_at(1) {
                TokenKind::Keyword(
                    kw @ (Kw::Between | Kw::In | Kw::Like | Kw::Ilike | Kw::Similar),
                ) => Some(Infix::Range { negated: true, kw }),
                _ => None,
            },
            Kw::At if self.is_at(1, Kw::Time) => Some(Infix::At),
            Kw::Collate => Some(Infix::Collate),
            Kw::Overlaps => Some(Infix::Overlaps),
            _ => None,
        }
    }

    /// Gives the new expression, and whether it ends with an open operand.
    fn apply(&mut self, left: Expr, infix: &Infix, restricted: bool) -> Result<(Expr, bool)> {
        let at = self.at();
        match infix {
            Infix::Or | Infix::And => {
                self.bump();
                let is_or = matches!(infix, Infix::Or);
                let right = self.expr_above(infix.level() + 1, false)?;
                Ok((connect(left, right, is_or, at), true))
            }
            Infix::Is => self.is_test(left, restricted),
            Infix::IsNullWord { negated } => {
                self.bump();
                let kind = ExprKind::IsNull {
                    arg: Box::new(left),
                    negated: *negated,
                };
                Ok((node(kind, at), false))
            }
            Infix::Operator { level } => self.binary(left, *level, restricted),
            Infix::Range { negated, kw } => self.range(left, *negated, *kw),
            Infix::At => {
                self.bump();
                self.expect_all(&[Kw::Time, Kw::Zone])?;
                let zone = self.expr_above(power::AT + 1, restricted)?;
                Ok((system_call("timezone", vec![zone, left], at), true))
            }
            Infix::Collate => {
                self.bump();
                let collation = self.object_name()?;
                let kind = ExprKind::Collate {
                    arg: Box::new(left),
                    collation,
                };
                Ok((node(kind, at), false))
            }
            Infix::Cast => {
                self.bump();
                let ty = self.type_name()?;
                let kind = ExprKind::Cast {
                    arg: Box::new(left),
                    ty,
                };
                Ok((node(kind, at), false))
            }
            Infix::Overlaps => self.overlaps(left),
        }
    }

    fn overlaps(&mut self, left: Expr) -> Result<(Expr, bool)> {
        let at = self.at();
        let token = self.bump();
        let right = self.primary()?;
        match (left.kind, right.kind) {
            (ExprKind::Row { fields: a, .. }, ExprKind::Row { fields: b, .. }) => {
                for (fields, side) in [(&a, "left"), (&b, "right")] {
                    if fields.len() != 2 {
                        return Err(self.error(
                            &format!(
                                "wrong number of parameters on {side} side of OVERLAPS expression"
                            ),
                            at,
                        ));
                    }
                }
                let args = a.into_iter().chain(b).collect();
                Ok((system_call("overlaps", args, at), true))
            }
            _ => Err(self.unexpected_at(token)),
        }
    }

    /// Any operator token, or `OPERATOR(schema.op)`.
    pub(super) fn any_operator(&mut self) -> Result<OperatorName> {
        if self.eat(Kw::Operator) {
            self.expect_char(b'(')?;
            let mut schema = None;
            while self.peek_is_col_id() {
                schema = Some(self.col_id()?.name);
                self.expect_char(b'.')?;
            }
            let name = self.plain_operator()?;
            self.expect_char(b')')?;
            return Ok(OperatorName { schema, name });
        }
        Ok(OperatorName {
            schema: None,
            name: self.plain_operator()?,
        })
    }

    fn plain_operator(&mut self) -> Result<String> {
        let token = self.token();
        let name = match token.kind {
            TokenKind::Op
            | TokenKind::LessEquals
            | TokenKind::GreaterEquals
            | TokenKind::Char(b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'<' | b'>' | b'=') => {
                self.text(token)
            }
            TokenKind::NotEquals => "<>",
            _ => return Err(self.unexpected()),
        };
        self.bump();
        Ok(name.to_owned())
    }

    fn binary(&mut self, left: Expr, level: u8, restricted: bool) -> Result<(Expr, bool)> {
        let at = self.at();
        let op = self.any_operator()?;
        if !restricted && self.is_any(&[Kw::Any, Kw::Some, Kw::All]) {
            return Ok((self.quantified(left, op, at)?, false));
        }
        let right = Box::new(self.expr_above(level + 1, restricted)?);
        let left = Some(Box::new(left));
        Ok((node(ExprKind::Operator { op, left, right }, at), true))
    }

    fn quantified(&mut self, left: Expr, op: OperatorName, at: u32) -> Result<Expr> {
        let all = self.is(Kw::All);
        self.bump();
        if !self.is_char(b'(') {
            return Err(self.unexpected());
        }
        let right = match self.try_parenthesized_query()? {
            Some(query) => QuantifiedOperand::Query(Box::new(query)),
            None => {
                self.expect_char(b'(')?;
                let array = self.expr()?;
                self.expect_char(b')')?;
                QuantifiedOperand::Array(Box::new(array))
            }
        };
        let kind = ExprKind::Quantified {
            op,
            left: Box::new(left),
            all,
            right,
        };
        Ok(node(kind, at))
    }

    fn is_test(&mut self, left: Expr, restricted: bool) -> Result<(Expr, bool)> {
        let at = self.at();
        self.bump();
        let negated = self.eat(Kw::Not);
        let arg = Box::new(left);
        let test = |is| ExprKind::BoolTest {
            arg: arg.clone(),
            is,
            negated,
        };
        let kind = match self.peek() {
            TokenKind::Keyword(Kw::Null) => ExprKind::IsNull { arg, negated },
            TokenKind::Keyword(Kw::True) => test(Some(true)),
            TokenKind::Keyword(Kw::False) => test(Some(false)),
            TokenKind::Keyword(Kw::Unknown) => test(None),
            TokenKind::Keyword(Kw::Distinct) => {
                self.bump();
                self.expect(Kw::From)?;
                let right = Box::new(self.expr_above(power::IS + 1, restricted)?);
                let kind = ExprKind::IsDistinct {
                    left: arg,
                    right,
                    negated,
                };
                return Ok((node(kind, at), true));
            }
            TokenKind::Keyword(Kw::Document) => ExprKind::Unsupported("IS DOCUMENT"),
            TokenKind::Keyword(Kw::Normalized) => ExprKind::Unsupported("IS NORMALIZED"),
            _ => return Err(self.unexpected()),
        };
        self.bump();
        Ok((node(kind, at), false))
    }

    fn range(&mut self, left: Expr, negated: bool, kw: Kw) -> Result<(Expr, bool)> {
        let at = self.at();
        if negated {
            self.bump();
        }
        self.bump();
        match kw {
            Kw::Between => self.between(left, negated, at),
            Kw::In => Ok((self.in_list(left, negated, at)?, false)),
            _ => self.like(left, negated, kw, at),
        }
    }

    fn between(&mut self, left: Expr, negated: bool, at: u32) -> Result<(Expr, bool)> {
        let symmetric = self.eat(Kw::Symmetric);
        if !symmetric {
            self.eat(Kw::Asymmetric);
        }
        let low = Box::new(self.restricted_expr()?);
        self.expect(Kw::And)?;
        let high = Box::new(self.expr_above(power::RANGE + 1, false)?);
        let kind = ExprKind::Between {
            arg: Box::new(left),
            low,
            high,
            negated,
            symmetric,
        };
        Ok((node(kind, at), true))
    }

    fn in_list(&mut self, left: Expr, negated: bool, at: u32) -> Result<Expr> {
        let list = match self.try_parenthesized_query()? {
            Some(query) => InList::Query(Box::new(query)),
            None => InList::Items(self.parenthesized(Parser::expr)?),
        };
        let kind = ExprKind::In {
            arg: Box::new(left),
            list,
            negated,
        };
        Ok(node(kind, at))
    }

    fn like(&mut self, left: Expr, negated: bool, kw: Kw, at: u32) -> Result<(Expr, bool)> {
        let kind = match kw {
            Kw::Like => LikeKind::Like,
            Kw::Ilike => LikeKind::ILike,
            _ => {
                self.expect(Kw::To)?;
                LikeKind::Similar
            }
        };
        if kind != LikeKind::Similar && self.is_any(&[Kw::Any, Kw::Some, Kw::All]) {
            let op = operator(like_operator(kind, negated));
            return Ok((self.quantified(left, op, at)?, false));
        }
        let pattern = Box::new(self.expr_above(power::RANGE + 1, false)?);
        let escape = if self.eat(Kw::Escape) {
            Some(Box::new(self.expr_above(power::RANGE + 1, false)?))
        } else {
            None
        };
        let kind = ExprKind::Like {
            kind,
            arg: Box::new(left),
            pattern,
            escape,
            negated,
        };
        Ok((node(kind, at), true))
    }

    /// `.field`, `.*` and subscripts behind a parenthesis or a parameter.
    pub(super) fn indirection(&mut self, mut base: Expr) -> Result<Expr> {
        // Subscripts one behind the other are of one array; those behind a parenthesis are of the item in it.
        let of_item = matches!(base.kind, ExprKind::Subscript { .. });
        loop {
            let at = base.at;
            if self.is_char(b'.') {
                self.grows_on_top()?;
                self.bump();
                if self.eat_char(b'*') {
                    return Ok(node(ExprKind::FieldStar(Box::new(base)), at));
                }
                let field = self.col_label()?;
                let arg = Box::new(base);
                base = node(ExprKind::Field { arg, field }, at);
            } else if self.is_char(b'[') {
                let index = self.subscript()?;
                self.grows_on_top()?;
                let arg = Box::new(base);
                let kind = match of_item {
                    true => ExprKind::Unsupported("a subscript of an array's item"),
                    false => ExprKind::Subscript { arg, index },
                };
                base = node(kind, at);
            } else {
                return Ok(base);
            }
        }
    }

    pub(super) fn subscript(&mut self) -> Result<Subscript> {
        self.expect_char(b'[')?;
        let low = if self.is_char(b':') {
            None
        } else {
            Some(Box::new(self.expr()?))
        };
        if !self.eat_char(b':') {
            self.expect_char(b']')?;
            return match low {
                Some(index) => Ok(Subscript::Index(index)),
                None => Err(self.unexpected()),
            };
        }
        let high = if self.is_char(b']') {
            None
        } else {
            Some(Box::new(self.expr()?))
        };
        self.expect_char(b']')?;
        Ok(Subscript::Slice(low, high))
    }
}

/// `~~` and its relatives. Manual, 9.7.1.
fn like_operator(kind: LikeKind, negated: bool) -> &'static str {
    match (kind, negated) {
        (LikeKind::Like, false) => "~~",
        (LikeKind::Like, true) => "!~~",
        (LikeKind::ILike, false) => "~~*",
        (LikeKind::ILike, true) => "!~~*",
        (LikeKind::Similar, false) => "~",
        (LikeKind::Similar, true) => "!~",
    }
}

/// gram.y's doNegate: a sign in front of a number is part of it.
fn signed(sign: u8, arg: Expr, at: u32) -> Expr {
    if sign == b'-' {
        match arg.kind {
            ExprKind::Literal(Literal::Int(n)) => {
                let negated = match n.checked_neg() {
                    Some(n) => Literal::Int(n),
                    None => Literal::Number(i32::MIN.unsigned_abs().to_string()),
                };
                return node(ExprKind::Literal(negated), at);
            }
            ExprKind::Literal(Literal::Number(s)) => {
                let negated = match s.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{s}"),
                };
                let literal = match negated.parse::<i32>() {
                    Ok(n) => Literal::Int(n),
                    Err(_) => Literal::Number(negated),
                };
                return node(ExprKind::Literal(literal), at);
            }
            _ => {}
        }
    }
    node(
        ExprKind::Operator {
            op: operator(if sign == b'-' { "-" } else { "+" }),
            left: None,
            right: Box::new(arg),
        },
        at,
    )
}

/// `a AND b AND c` is one node, as gram.y's makeAndExpr makes it.
fn connect(left: Expr, right: Expr, is_or: bool, at: u32) -> Expr {
    let (mut items, at) = match left.kind {
        ExprKind::And(items) if !is_or => (items, left.at),
        ExprKind::Or(items) if is_or => (items, left.at),
        kind => (vec![node(kind, left.at)], at),
    };
    items.push(right);
    node(
        if is_or {
            ExprKind::Or(items)
        } else {
            ExprKind::And(items)
        },
        at,
    )
}
