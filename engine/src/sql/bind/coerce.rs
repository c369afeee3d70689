//! Making one type of another: literals, implicit, assignment and explicit casts, length coercion.
//! `parse_coerce.c`. Manual, 10.4.

use super::binder::{Binder, Moment};
use super::resolve::{self, Pathway};
use super::types::type_text;
use super::walk;
use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::error::{SqlError, state};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{CastContext, Function};
use crate::types::{codec, functions, oids};

type Result<T> = std::result::Result<T, SqlError>;

pub fn function_by_oid(oid: Oid) -> Result<&'static Function> {
    functions::by_oid(oid)
        .ok_or_else(|| SqlError::internal(format!("cache lookup failed for function {oid}")))
}

/// What is to become a `function` call with one argument, or more for a cast that takes a modifier.
fn cast_call(function: &'static Function, arg: Expr, ty: SqlType, explicit: bool) -> Expr {
    let mut args = vec![arg];
    if function.args.len() > 1 {
        args.push(Expr::Const(
            Datum::Int4(ty.modifier),
            SqlType::plain(oids::INT4),
        ));
    }
    if function.args.len() > 2 {
        args.push(Expr::Const(
            Datum::Bool(explicit),
            SqlType::plain(oids::BOOL),
        ));
    }
    Expr::Call {
        function,
        args,
        ty: SqlType::plain(ty.oid),
    }
}

/// A date or time, or an array of them.
fn is_moment(ty: Oid) -> bool {
    matches!(
        crate::types::registry::element_of(ty).unwrap_or(ty),
        oids::DATE | oids::TIME | oids::TIMETZ | oids::TIMESTAMP | oids::TIMESTAMPTZ
    )
}

impl Binder<'_> {
    /// `coerce_type` and `coerce_type_typmod`, where a cast is known to exist; `at` is where the value stands.
    pub(super) fn cast(
        &mut self,
        expr: Expr,
        target: SqlType,
        context: CastContext,
        at: u32,
    ) -> Result<Option<Expr>> {
        let source = expr.ty();
        let Some(plain) = self.cast_base(expr, target, context, at)? else {
            return Ok(None);
        };
        let already = source == target;
        Ok(Some(if already {
            plain
        } else {
            self.with_modifier(plain, target, context, at)?
        }))
    }

    fn cast_base(
        &mut self,
        expr: Expr,
        target: SqlType,
        context: CastContext,
        at: u32,
    ) -> Result<Option<Expr>> {
        let source = expr.ty();
        if source.oid == target.oid || target.oid == oids::ANY {
            return Ok(Some(expr));
        }
        if source.oid == oids::UNKNOWN {
            return self.cast_unknown(expr, target, at).map(Some);
        }
        if resolve::is_polymorphic(target.oid) {
            return Ok(Some(expr));
        }
        let Some(path) = resolve::pathway(source.oid, target.oid, context) else {
            return Ok(None);
        };
        let plain = SqlType::plain(target.oid);
        Ok(Some(match path {
            Pathway::Relabel => Expr::Relabel {
                arg: Box::new(expr),
                ty: plain,
            },
            Pathway::Function(oid) => cast_call(
                function_by_oid(oid)?,
                expr,
                target,
                context == CastContext::Explicit,
            ),
            Pathway::Text | Pathway::Array => Expr::CastViaText {
                arg: Box::new(expr),
                ty: plain,
            },
        }))
    }

    /// A literal without a type, a parameter without one, or what comes of a subquery's literal.
    fn cast_unknown(&mut self, expr: Expr, target: SqlType, at: u32) -> Result<Expr> {
        match expr {
            Expr::Const(Datum::Null, _) => Ok(Expr::Const(Datum::Null, SqlType::plain(target.oid))),
            Expr::Const(Datum::Text(text), _) => self.literal(&text, target, at),
            Expr::Param(n, _) => self.param_as(n, target.oid, at),
            other => Ok(Expr::CastViaText {
                arg: Box::new(other),
                ty: SqlType::plain(target.oid),
            }),
        }
    }

    /// The literal's text through the type's input function.
    fn literal(&mut self, text: &str, target: SqlType, at: u32) -> Result<Expr> {
        let plain = SqlType::plain(target.oid);
        if let Some(value) = self.catalog_literal(text, target.oid, at)? {
            return Ok(Expr::Const(value, plain));
        }
        // Only `interval` reads its modifier together with the text.
        let ty = if target.oid == oids::INTERVAL {
            target
        } else {
            plain
        };
        if crate::types::registry::by_oid(ty.oid).is_some_and(|t| t.kind == b'p') {
            return Err(SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("cannot accept a value of type {}", type_text(plain)),
            )
            .at(at));
        }
        let value =
            codec::parse_text(ty, text, self.functions).map_err(|e| SqlError::from(e).at(at))?;
        if let Some(moments) = &mut self.moments
            && is_moment(ty.oid)
        {
            moments.push(Moment {
                at,
                value: value.clone(),
                ty: ty.oid,
            });
        }
        Ok(Expr::Const(value, ty))
    }

    /// Adds the length coercion that `target`'s modifier asks for.
    fn with_modifier(
        &mut self,
        expr: Expr,
        target: SqlType,
        context: CastContext,
        at: u32,
    ) -> Result<Expr> {
        if target.modifier < 0 || expr.ty().modifier == target.modifier {
            return Ok(expr);
        }
        let explicit = context == CastContext::Explicit;
        if let Expr::Const(value, _) = &expr
            && !self.as_written
        {
            let value = value.clone();
            if value.is_null() {
                return Ok(Expr::Const(value, target));
            }
            // Only what cannot fail here is done here: an error belongs to execution.
            return Ok(
                match codec::coerce_length(target, value.clone(), explicit) {
                    Ok(value) => Expr::Const(value, target),
                    Err(_) => Expr::Coerce {
                        arg: Box::new(Expr::Const(value, SqlType::plain(target.oid))),
                        ty: target,
                        explicit,
                    },
                },
            );
        }
        let _ = at;
        Ok(Expr::Coerce {
            arg: Box::new(expr),
            ty: target,
            explicit,
        })
    }

    /// An implicit cast that is known to be possible (`coerce_type` after `can_coerce_type`).
    pub(super) fn implicit(&mut self, expr: Expr, target: Oid, at: u32) -> Result<Expr> {
        let source = expr.ty();
        match self.cast(expr, SqlType::plain(target), CastContext::Implicit, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::internal(format!(
                "failed to find conversion function from {} to {}",
                type_text(source),
                type_text(SqlType::plain(target))
            ))),
        }
    }

    /// `CAST(x AS t)`
    pub(super) fn explicit(
        &mut self,
        expr: Expr,
        target: SqlType,
        at: u32,
        cast_at: u32,
    ) -> Result<Expr> {
        let source = expr.ty();
        if let (Expr::ArrayLiteral { .. }, Some(_)) = (&expr, resolve::array_element(target.oid))
            && let Some(array) = self.recast_array(&expr, target, at)?
        {
            return Ok(array);
        }
        match self.cast(expr, target, CastContext::Explicit, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::CANNOT_COERCE,
                format!(
                    "cannot cast type {} to {}",
                    type_text(SqlType::plain(source.oid)),
                    type_text(SqlType::plain(target.oid))
                ),
            )
            .at(cast_at)),
        }
    }

    /// `ARRAY[...]::t[]` casts the items; nested arrays keep to the way through text.
    fn recast_array(&mut self, expr: &Expr, target: SqlType, at: u32) -> Result<Option<Expr>> {
        let Expr::ArrayLiteral { items, .. } = expr else {
            return Ok(None);
        };
        let Some(element) = resolve::array_element(target.oid) else {
            return Ok(None);
        };
        if items.iter().any(|i| matches!(i, Expr::ArrayLiteral { .. })) {
            return Ok(None);
        }
        let element = SqlType {
            oid: element,
            modifier: target.modifier,
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            match self.cast(item.clone(), element, CastContext::Explicit, at)? {
                Some(e) => out.push(e),
                None => return Ok(None),
            }
        }
        Ok(Some(Expr::ArrayLiteral {
            items: out,
            ty: target,
        }))
    }

    /// `coerce_to_boolean`: `what` is WHERE, JOIN/ON, AND, ...
    pub(super) fn boolean(&mut self, expr: Expr, what: &str, at: u32) -> Result<Expr> {
        let source = expr.ty();
        match self.cast(
            expr,
            SqlType::plain(oids::BOOL),
            CastContext::Assignment,
            at,
        )? {
            Some(e) if walk::any(&e, &is_set_call) => Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!("argument of {what} must not return a set"),
            )
            .at(at)),
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type boolean, not type {}",
                    type_text(SqlType::plain(source.oid))
                ),
            )
            .at(at)),
        }
    }

    /// `coerce_to_common_type`, after [`resolve::common_type`] chose `target`.
    pub(super) fn to_common(
        &mut self,
        expr: Expr,
        target: Oid,
        context: &str,
        at: u32,
    ) -> Result<Expr> {
        let source = expr.ty();
        if source.oid == target {
            return Ok(expr);
        }
        match self.cast(expr, SqlType::plain(target), CastContext::Implicit, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::CANNOT_COERCE,
                format!(
                    "{context} could not convert type {} to {}",
                    type_text(SqlType::plain(source.oid)),
                    type_text(SqlType::plain(target))
                ),
            )
            .at(at)),
        }
    }

    /// The common type of several values: `context` is CASE, UNION, VALUES, ARRAY, ... Casts them to it.
    pub(super) fn unify(
        &mut self,
        items: Vec<(Expr, u32)>,
        context: &str,
    ) -> Result<(Vec<Expr>, SqlType)> {
        let target = self.common_of(&items, context)?;
        let modifier = common_modifier(&items, target);
        let mut out = Vec::with_capacity(items.len());
        for (item, at) in items {
            out.push(self.to_common(item, target, context, at)?);
        }
        Ok((
            out,
            SqlType {
                oid: target,
                modifier,
            },
        ))
    }

    pub(super) fn common_of(&self, items: &[(Expr, u32)], context: &str) -> Result<Oid> {
        let types: Vec<Oid> = items.iter().map(|(e, _)| e.ty().oid).collect();
        resolve::common_type(&types).map_err(|(a, b)| {
            // The position is that of the first of its type behind the one it clashes with.
            let at = items
                .iter()
                .find(|(e, _)| e.ty().oid == b)
                .map_or(0, |(_, at)| *at);
            SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "{context} types {} and {} cannot be matched",
                    type_text(SqlType::plain(a)),
                    type_text(SqlType::plain(b))
                ),
            )
            .at(at)
        })
    }

    /// A value for a column, with PostgreSQL's two errors (`transformAssignedExpr`).
    pub(super) fn assign(
        &mut self,
        expr: Expr,
        column: &str,
        ty: SqlType,
        at: u32,
    ) -> Result<Expr> {
        let source = expr.ty();
        match self.cast(expr, ty, CastContext::Assignment, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "column \"{column}\" is of type {} but expression is of type {}",
                    type_text(SqlType::plain(ty.oid)),
                    type_text(SqlType::plain(source.oid))
                ),
            )
            .hint("You will need to rewrite or cast the expression.")
            .at(at)),
        }
    }

    /// A literal that nobody gave a type is text (`resolveTargetListUnknowns`).
    pub(super) fn settle(&mut self, expr: Expr, at: u32) -> Result<Expr> {
        if expr.ty().oid == oids::UNKNOWN {
            return self.implicit(expr, oids::TEXT, at);
        }
        Ok(expr)
    }
}

fn is_set_call(expr: &Expr) -> bool {
    matches!(expr, Expr::Call { function, .. } if function.returns_set())
}

/// `select_common_typmod`: the modifier that all have, if they have the type as well.
pub fn common_modifier(items: &[(Expr, u32)], target: Oid) -> i32 {
    let mut modifiers = items.iter().map(|(e, _)| e.ty());
    let Some(first) = modifiers.next() else {
        return -1;
    };
    if first.oid == target && items.iter().all(|(e, _)| e.ty() == first) {
        first.modifier
    } else {
        -1
    }
}
