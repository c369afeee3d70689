//! Type names. Manual, chapter 8; gram.y's `Typename` and `ConstTypename`.

use super::Result;
use super::cursor::Parser;
use super::expr::node;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Expr, ExprKind, Ident, Literal, ObjectName, TypeName};
use crate::sql::front::keywords::Kw;
use crate::sql::front::lexer::TokenKind;

/// Bits of `interval`'s field mask (`INTERVAL_MASK` in timestamp.h).
mod field {
    pub const MONTH: i32 = 1 << 1;
    pub const YEAR: i32 = 1 << 2;
    pub const DAY: i32 = 1 << 3;
    pub const HOUR: i32 = 1 << 10;
    pub const MINUTE: i32 = 1 << 11;
    pub const SECOND: i32 = 1 << 12;
}

/// A name in `pg_catalog`.
pub(super) fn system_name(name: &str, at: u32) -> ObjectName {
    ObjectName {
        database: None,
        schema: Some(Ident {
            name: "pg_catalog".to_owned(),
            at,
        }),
        name: Ident {
            name: name.to_owned(),
            at,
        },
    }
}

fn system_type(name: &str, at: u32) -> TypeName {
    TypeName {
        name: system_name(name, at),
        system: true,
        modifiers: Vec::new(),
        interval_fields: None,
        array_dimensions: 0,
        set_of: false,
        at,
    }
}

fn integer_modifier(n: i32, at: u32) -> Expr {
    node(ExprKind::Literal(Literal::Int(n)), at)
}

impl Parser<'_> {
    /// gram.y's Typename.
    pub(super) fn type_name(&mut self) -> Result<TypeName> {
        let at = self.at();
        let set_of = self.eat(Kw::Setof);
        let mut ty = match self.try_system_type(true)? {
            Some(ty) => ty,
            None => self.generic_type()?,
        };
        ty.set_of = set_of;
        ty.at = if set_of { at } else { ty.at };
        if self.eat(Kw::Array) {
            ty.array_dimensions = 1;
            if self.eat_char(b'[') {
                self.integer()?;
                self.expect_char(b']')?;
            }
            return Ok(ty);
        }
        while self.eat_char(b'[') {
            if !self.is_char(b']') {
                self.integer()?;
            }
            self.expect_char(b']')?;
            ty.array_dimensions += 1;
        }
        Ok(ty)
    }

    fn generic_type(&mut self) -> Result<TypeName> {
        let at = self.at();
        let mut parts = vec![self.type_function_name()?];
        while self.eat_char(b'.') {
            parts.push(self.col_label()?);
        }
        if self.is_char(b'%') && self.is_at(1, Kw::Type) {
            return Err(super::function::not_yet("%TYPE", self.at()));
        }
        let modifiers = if self.is_char(b'(') {
            self.parenthesized(Parser::expr)?
        } else {
            Vec::new()
        };
        Ok(TypeName {
            name: self.name_of(parts)?,
            system: false,
            modifiers,
            interval_fields: None,
            array_dimensions: 0,
            set_of: false,
            at,
        })
    }

    /// A type that begins a constant, if a constant is what follows it: `int '3'`, `timestamp(3) '...'`.
    pub(super) fn try_constant_type(&mut self) -> Result<Option<TypeName>> {
        let mark = self.mark();
        if let Some(ty) = self.try_system_type(false)?
            && matches!(self.peek(), TokenKind::String(_))
        {
            return Ok(Some(ty));
        }
        self.back_to(mark);
        Ok(None)
    }

    /// The types whose names are grammar. `full`: with what only a type name may have (INTERVAL's fields
    /// behind it, `char` meaning `char(1)`).
    fn try_system_type(&mut self, full: bool) -> Result<Option<TypeName>> {
        let at = self.at();
        let TokenKind::Keyword(kw) = self.peek() else {
            return Ok(None);
        };
        let simple = match kw {
            Kw::Int | Kw::Integer => "int4",
            Kw::Smallint => "int2",
            Kw::Bigint => "int8",
            Kw::Real => "float4",
            Kw::Boolean => "bool",
            Kw::Double => {
                if !self.is_at(1, Kw::Precision) {
                    return Ok(None);
                }
                self.bump();
                "float8"
            }
            Kw::Float => return self.float_type(at).map(Some),
            Kw::Decimal | Kw::Dec | Kw::Numeric => {
                self.bump();
                let mut ty = system_type("numeric", at);
                if self.is_char(b'(') {
                    ty.modifiers = self.parenthesized(Parser::expr)?;
                }
                return Ok(Some(ty));
            }
            Kw::Bit => return self.bit_type(at, full).map(Some),
            Kw::Character | Kw::Char | Kw::Varchar | Kw::National | Kw::Nchar => {
                return self.character_type(at, kw, full).map(Some);
            }
            Kw::Timestamp | Kw::Time => return self.datetime_type(at, kw).map(Some),
            Kw::Interval => return self.interval_type(at, full).map(Some),
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(system_type(simple, at)))
    }

    fn float_type(&mut self, at: u32) -> Result<TypeName> {
        self.bump();
        let mut name = "float8";
        if self.eat_char(b'(') {
            let digits_at = self.at();
            let bits = self.integer()?;
            let bad = |message: &str| {
                SqlError::new(state::INVALID_PARAMETER_VALUE, message).at(digits_at)
            };
            name = match bits {
                ..1 => return Err(bad("precision for type float must be at least 1 bit")),
                1..=24 => "float4",
                25..=53 => "float8",
                _ => {
                    return Err(bad("precision for type float must be less than 54 bits"));
                }
            };
            self.expect_char(b')')?;
        }
        Ok(system_type(name, at))
    }

    fn bit_type(&mut self, at: u32, full: bool) -> Result<TypeName> {
        self.bump();
        let varying = self.eat(Kw::Varying);
        let mut ty = system_type(if varying { "varbit" } else { "bit" }, at);
        if self.is_char(b'(') {
            ty.modifiers = self.parenthesized(Parser::expr)?;
        } else if full && !varying {
            ty.modifiers.push(integer_modifier(1, at));
        }
        Ok(ty)
    }

    fn character_type(&mut self, at: u32, kw: Kw, full: bool) -> Result<TypeName> {
        self.bump();
        if kw == Kw::National && !self.eat(Kw::Character) {
            self.expect(Kw::Char)?;
        }
        let varying = kw == Kw::Varchar || self.eat(Kw::Varying);
        let mut ty = system_type(if varying { "varchar" } else { "bpchar" }, at);
        if self.eat_char(b'(') {
            let length_at = self.at();
            let n = self.integer()?;
            self.expect_char(b')')?;
            ty.modifiers.push(integer_modifier(n, length_at));
        } else if full && !varying {
            ty.modifiers.push(integer_modifier(1, at));
        }
        Ok(ty)
    }

    fn datetime_type(&mut self, at: u32, kw: Kw) -> Result<TypeName> {
        self.bump();
        let mut modifiers = Vec::new();
        if self.eat_char(b'(') {
            let precision_at = self.at();
            modifiers.push(integer_modifier(self.integer()?, precision_at));
            self.expect_char(b')')?;
        }
        let zone = self.eat_all(&[Kw::With, Kw::Time, Kw::Zone]);
        if !zone {
            self.eat_all(&[Kw::Without, Kw::Time, Kw::Zone]);
        }
        let mut ty = system_type(
            match (kw, zone) {
                (Kw::Timestamp, false) => "timestamp",
                (Kw::Timestamp, true) => "timestamptz",
                (_, false) => "time",
                (_, true) => "timetz",
            },
            at,
        );
        ty.modifiers = modifiers;
        Ok(ty)
    }

    fn interval_type(&mut self, at: u32, full: bool) -> Result<TypeName> {
        self.bump();
        let mut ty = system_type("interval", at);
        if self.eat_char(b'(') {
            let precision_at = self.at();
            ty.modifiers
                .push(integer_modifier(self.integer()?, precision_at));
            self.expect_char(b')')?;
        } else if full {
            ty.interval_fields = self.interval_fields(&mut ty.modifiers)?;
        }
        Ok(ty)
    }

    /// gram.y's opt_interval; a precision in `SECOND(p)` goes to `modifiers`.
    pub(super) fn interval_fields(&mut self, modifiers: &mut Vec<Expr>) -> Result<Option<i32>> {
        let bit = |kw| match kw {
            Kw::Year => Some(field::YEAR),
            Kw::Month => Some(field::MONTH),
            Kw::Day => Some(field::DAY),
            Kw::Hour => Some(field::HOUR),
            Kw::Minute => Some(field::MINUTE),
            Kw::Second => Some(field::SECOND),
            _ => None,
        };
        let TokenKind::Keyword(first) = self.peek() else {
            return Ok(None);
        };
        let Some(mut mask) = bit(first) else {
            return Ok(None);
        };
        self.bump();
        let mut last = first;
        if self.is(Kw::To) {
            self.bump();
            let TokenKind::Keyword(to) = self.peek() else {
                return Err(self.unexpected());
            };
            mask |= match (first, to) {
                (Kw::Year, Kw::Month) => field::MONTH,
                (Kw::Day, Kw::Hour) => field::HOUR,
                (Kw::Day, Kw::Minute) => field::HOUR | field::MINUTE,
                (Kw::Day, Kw::Second) => field::HOUR | field::MINUTE | field::SECOND,
                (Kw::Hour, Kw::Minute) => field::MINUTE,
                (Kw::Hour, Kw::Second) => field::MINUTE | field::SECOND,
                (Kw::Minute, Kw::Second) => field::SECOND,
                _ => return Err(self.unexpected()),
            };
            self.bump();
            last = to;
        }
        if last == Kw::Second && self.eat_char(b'(') {
            let precision_at = self.at();
            modifiers.push(integer_modifier(self.integer()?, precision_at));
            self.expect_char(b')')?;
        }
        Ok(Some(mask))
    }
}
