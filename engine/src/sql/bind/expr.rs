//! Expressions, one by one (`transformExprRecurse`).

use super::binder::{Binder, Context, undetermined};
use super::coerce::function_by_oid;
use super::resolve;
use super::types::type_text;
use super::walk;
use crate::sql::bound::{Expr, SubqueryExpr, SubqueryKind};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ExprKind, Literal, SessionValue, Subscript};
use crate::sql::front::location;
use crate::types::array::{MAX_DIMENSIONS, too_deep};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{CastContext, Volatility};
use crate::types::{codec, functions, oids};

type Result<T> = std::result::Result<T, SqlError>;

fn text_constant(text: &str, ty: crate::ids::Oid) -> Expr {
    Expr::Const(Datum::text(text), SqlType::plain(ty))
}

impl Binder<'_> {
    pub(super) fn bind(&mut self, e: &ast::Expr) -> Result<Expr> {
        let at = e.at;
        match &e.kind {
            ExprKind::Literal(l) => self.bind_literal(l, at),
            ExprKind::Param(n) => self.parameter(*n, at),
            ExprKind::Column(parts) => self.column_reference(parts, at),
            ExprKind::Operator { op, left, right } => {
                self.bind_operator(op, left.as_deref(), right, at)
            }
            ExprKind::And(items) => Ok(Expr::And(self.booleans(items, "AND")?)),
            ExprKind::Or(items) => Ok(Expr::Or(self.booleans(items, "OR")?)),
            ExprKind::Not(arg) => {
                let arg = self.bind_boolean(arg, "NOT")?;
                Ok(Expr::Not(Box::new(arg)))
            }
            ExprKind::Cast { arg, ty } => self.bind_cast(arg, ty, at),
            ExprKind::Call(call) => self.bind_call(call, at),
            ExprKind::IsNull { arg, negated } => self.bind_is_null(arg, *negated),
            ExprKind::BoolTest { arg, is, negated } => self.bind_bool_test(arg, *is, *negated),
            ExprKind::IsDistinct {
                left,
                right,
                negated,
            } => self.bind_distinct(left, right, *negated, at),
            ExprKind::Between {
                arg,
                low,
                high,
                negated,
                symmetric,
            } => self.bind_between(arg, (low, high), (*negated, *symmetric), at),
            ExprKind::In { arg, list, negated } => self.bind_in(arg, list, *negated, at),
            ExprKind::Like {
                kind,
                arg,
                pattern,
                escape,
                negated,
            } => self.bind_like(*kind, (arg, pattern), escape.as_deref(), *negated, at),
            ExprKind::Quantified {
                op,
                left,
                all,
                right,
            } => self.bind_quantified(op, left, *all, right, at),
            _ => self.bind_other(e),
        }
    }

    fn bind_other(&mut self, e: &ast::Expr) -> Result<Expr> {
        let at = e.at;
        match &e.kind {
            ExprKind::Case {
                operand,
                arms,
                otherwise,
            } => self.bind_case(operand.as_deref(), arms, otherwise.as_deref(), at),
            ExprKind::Coalesce(items) => {
                let items = self.conditional("COALESCE", |b| b.operands(items))?;
                let (items, ty) = self.unify(items, "COALESCE")?;
                Ok(Expr::Coalesce(items, ty))
            }
            ExprKind::NullIf(left, right) => {
                let left = self.operand(left)?;
                let right = self.operand(right)?;
                let (equal, left, right) = self.equality(left, right, at)?;
                Ok(Expr::NullIf {
                    equal,
                    left: Box::new(left),
                    right: Box::new(right),
                })
            }
            ExprKind::MinMax { greatest, args } => self.bind_min_max(*greatest, args, at),
            ExprKind::Array(items) => self.bind_array(items, None, at),
            ExprKind::Row { fields, .. } => self.bind_row(fields, at),
            ExprKind::Subquery(query) => self.bind_scalar_subquery(query, at),
            ExprKind::Exists(query) => {
                self.check_subquery(at)?;
                let query = self.bind_subquery(query)?;
                Ok(Expr::Subquery(Box::new(SubqueryExpr {
                    kind: SubqueryKind::Exists,
                    query,
                    ty: SqlType::plain(oids::BOOL),
                })))
            }
            ExprKind::ArraySubquery(query) => self.bind_array_subquery(query, at),
            ExprKind::SessionValue(value) => self.bind_session_value(*value, at),
            ExprKind::Collate { arg, collation } => self.bind_collate(arg, collation, at),
            ExprKind::Field { arg, field } => self.bind_field(arg, field, at),
            ExprKind::Star(_) | ExprKind::FieldStar(_) => Err(SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                "row expansion via \"*\" is not supported here",
            )
            .at(at)),
            ExprKind::Subscript { .. } => self.bind_item(e),
            ExprKind::Default => Err(SqlError::new(
                state::SYNTAX_ERROR,
                "DEFAULT is not allowed in this context",
            )
            .at(at)),
            ExprKind::Unsupported(what) => {
                Err(SqlError::unsupported(format!("{what} is not supported")).at(at))
            }
            _ => Err(SqlError::internal(
                "an expression that bind() should have taken",
            )),
        }
    }

    fn bind_literal(&self, literal: &Literal, at: u32) -> Result<Expr> {
        Ok(match literal {
            Literal::Null => Expr::Const(Datum::Null, SqlType::plain(oids::UNKNOWN)),
            Literal::Bool(b) => Expr::Const(Datum::Bool(*b), SqlType::plain(oids::BOOL)),
            Literal::Int(n) => Expr::Const(Datum::Int4(*n), SqlType::plain(oids::INT4)),
            Literal::Number(text) => match text.parse::<i64>() {
                Ok(n) => Expr::Const(Datum::Int8(n), SqlType::plain(oids::INT8)),
                Err(_) => {
                    let ty = SqlType::plain(oids::NUMERIC);
                    let value = codec::parse_text(ty, text, self.functions)
                        .map_err(|e| SqlError::from(e).at(at))?;
                    Expr::Const(value, ty)
                }
            },
            Literal::Text(text) => text_constant(text, oids::UNKNOWN),
            Literal::Bits(_) => {
                return Err(SqlError::unsupported("bit string types are not supported").at(at));
            }
        })
    }

    pub(super) fn bind_boolean(&mut self, e: &ast::Expr, what: &str) -> Result<Expr> {
        let bound = self.bind(e)?;
        self.boolean(bound, what, location(e))
    }

    fn booleans(&mut self, items: &[ast::Expr], what: &str) -> Result<Vec<Expr>> {
        items.iter().map(|e| self.bind_boolean(e, what)).collect()
    }

    fn bind_is_null(&mut self, arg: &ast::Expr, negated: bool) -> Result<Expr> {
        Ok(Expr::IsNull {
            arg: Box::new(self.bind(arg)?),
            negated,
        })
    }

    fn bind_bool_test(&mut self, arg: &ast::Expr, is: Option<bool>, negated: bool) -> Result<Expr> {
        let what = match (is, negated) {
            (Some(true), false) => "IS TRUE",
            (Some(true), true) => "IS NOT TRUE",
            (Some(false), false) => "IS FALSE",
            (Some(false), true) => "IS NOT FALSE",
            (None, false) => "IS UNKNOWN",
            (None, true) => "IS NOT UNKNOWN",
        };
        Ok(Expr::BoolTest {
            arg: Box::new(self.bind_boolean(arg, what)?),
            is,
            negated,
        })
    }

    fn bind_cast(&mut self, arg: &ast::Expr, ty: &ast::TypeName, at: u32) -> Result<Expr> {
        let target = super::types::resolve_type(ty, self.catalog)?;
        let arg_at = location(arg);
        let bound = match &arg.kind {
            ExprKind::Array(items) if resolve::array_element(target.oid).is_some() => {
                self.bind_array(items, Some(target), arg.at)?
            }
            _ => self.bind(arg)?,
        };
        // PostgreSQL points at the `::` for what cannot be cast at all, at the value for what fails.
        self.explicit(bound, target, arg_at, at.max(arg_at.min(at)))
    }

    /// Runs `f` where a set-returning function would be evaluated only at times.
    fn conditional<T>(
        &mut self,
        what: &'static str,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = self.conditional.replace(what);
        let out = f(self);
        self.conditional = before;
        out
    }

    fn bind_case(
        &mut self,
        operand: Option<&ast::Expr>,
        arms: &[(ast::Expr, ast::Expr)],
        otherwise: Option<&ast::Expr>,
        at: u32,
    ) -> Result<Expr> {
        self.conditional("CASE", |b| {
            let mut operand = match operand {
                Some(e) => Some(b.case_operand(e)?),
                None => None,
            };
            // Several conditions read it: it might not be the same for each, or be run again.
            let once = match &mut operand {
                Some((operand, _))
                    if b.as_written || (arms.len() > 1 && is_computed_once(operand)) =>
                {
                    let ty = operand.ty();
                    Some(Box::new(std::mem::replace(operand, Expr::CaseTest(ty))))
                }
                _ => None,
            };
            let mut conditions = Vec::with_capacity(arms.len());
            let mut results = Vec::with_capacity(arms.len() + 1);
            for (when, then) in arms {
                conditions.push(match &operand {
                    Some(operand) => {
                        let right = b.operand(when)?;
                        let test =
                            b.operator_by_name("=", operand.clone(), right, location(when))?;
                        b.boolean(test, "CASE/WHEN", location(when))?
                    }
                    None => b.bind_boolean(when, "CASE/WHEN")?,
                });
                results.push(b.operand(then)?);
            }
            // The ELSE result is the most significant one for the type.
            let null = Expr::Const(Datum::Null, SqlType::plain(oids::UNKNOWN));
            let last = match otherwise {
                Some(e) => b.operand(e)?,
                None => (null, at),
            };
            results.insert(0, last);
            let ty = b.common_of(&results, "CASE")?;
            let modifier = super::coerce::common_modifier(&results, ty);
            let mut results = results.into_iter();
            let (last, last_at) = results.next().expect("it was put in first");
            let last = b.to_common(last, ty, "CASE/ELSE", last_at)?;
            let mut out = Vec::with_capacity(conditions.len());
            for (condition, (result, at)) in conditions.into_iter().zip(results) {
                out.push((condition, b.to_common(result, ty, "CASE/WHEN", at)?));
            }
            Ok(Expr::Case {
                operand: once,
                arms: out,
                otherwise: otherwise.map(|_| Box::new(last)),
                ty: SqlType { oid: ty, modifier },
            })
        })
    }

    fn case_operand(&mut self, e: &ast::Expr) -> Result<(Expr, u32)> {
        let (operand, at) = self.operand(e)?;
        Ok((self.settle(operand, at)?, at))
    }

    fn bind_min_max(&mut self, greatest: bool, args: &[ast::Expr], at: u32) -> Result<Expr> {
        let what = if greatest { "GREATEST" } else { "LEAST" };
        let items = self.operands(args)?;
        let (args, ty) = self.unify(items, what)?;
        if crate::types::compare::comparator(ty.oid).is_none() {
            return Err(SqlError::new(
                state::UNDEFINED_FUNCTION,
                format!(
                    "could not identify a comparison function for type {}",
                    type_text(ty)
                ),
            )
            .at(at));
        }
        Ok(Expr::MinMax { args, greatest, ty })
    }

    /// `ARRAY[...]`, with the type that a cast around it gives.
    fn bind_array(
        &mut self,
        items: &[ast::Expr],
        target: Option<SqlType>,
        at: u32,
    ) -> Result<Expr> {
        let mut bound = Vec::with_capacity(items.len());
        let mut nested = false;
        for item in items {
            match &item.kind {
                ExprKind::Array(inner) => {
                    nested = true;
                    bound.push((self.bind_array(inner, target, item.at)?, item.at));
                }
                _ => bound.push(self.operand(item)?),
            }
        }
        if let Some(target) = target {
            let element = resolve::array_element(target.oid).expect("the caller asked");
            let each = SqlType {
                oid: element,
                modifier: target.modifier,
            };
            let mut out = Vec::with_capacity(bound.len());
            for (item, at) in bound {
                out.push(if matches!(item, Expr::ArrayLiteral { .. }) {
                    item
                } else {
                    self.explicit(item, each, at, at)?
                });
            }
            return Ok(Expr::ArrayLiteral {
                items: out,
                ty: target,
            });
        }
        if bound.is_empty() {
            return Err(SqlError::new(
                state::INDETERMINATE_DATATYPE,
                "cannot determine type of empty array",
            )
            .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
            .at(at));
        }
        let (items, common) = self.unify(bound, "ARRAY")?;
        if nested || resolve::array_element(common.oid).is_some() {
            return Ok(Expr::ArrayLiteral { items, ty: common });
        }
        let array = resolve::array_of(common.oid).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_OBJECT,
                format!(
                    "could not find array type for data type {}",
                    type_text(common)
                ),
            )
            .at(at)
        })?;
        Ok(Expr::ArrayLiteral {
            items,
            ty: SqlType {
                oid: array,
                modifier: common.modifier,
            },
        })
    }

    pub(super) fn check_subquery(&self, at: u32) -> Result<()> {
        match self.context.refuses_subqueries() {
            Some(message) if self.scopes.len() == 1 || self.context == Context::IndexPredicate => {
                Err(SqlError::new(state::FEATURE_NOT_SUPPORTED, message).at(at))
            }
            _ => Ok(()),
        }
    }

    fn bind_scalar_subquery(&mut self, query: &ast::Query, at: u32) -> Result<Expr> {
        self.check_subquery(at)?;
        let query = self.bind_subquery(query)?;
        if query.output.len() != 1 {
            return Err(
                SqlError::new(state::SYNTAX_ERROR, "subquery must return only one column").at(at),
            );
        }
        let ty = query.output[0].ty;
        Ok(Expr::Subquery(Box::new(SubqueryExpr {
            kind: SubqueryKind::Scalar,
            query,
            ty,
        })))
    }

    fn bind_array_subquery(&mut self, query: &ast::Query, at: u32) -> Result<Expr> {
        self.check_subquery(at)?;
        let query = self.bind_subquery(query)?;
        if query.output.len() != 1 {
            return Err(
                SqlError::new(state::SYNTAX_ERROR, "subquery must return only one column").at(at),
            );
        }
        let element = query.output[0].ty;
        let array = resolve::array_of(element.oid).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_OBJECT,
                format!(
                    "could not find array type for data type {}",
                    type_text(element)
                ),
            )
            .at(at)
        })?;
        Ok(Expr::Subquery(Box::new(SubqueryExpr {
            kind: SubqueryKind::Array,
            query,
            ty: SqlType {
                oid: array,
                modifier: element.modifier,
            },
        })))
    }

    fn bind_session_value(&mut self, value: SessionValue, at: u32) -> Result<Expr> {
        if self.as_written {
            return super::written::session_value(value);
        }
        let (function, cast, precision) = match value {
            SessionValue::CurrentDate => ("now", Some(oids::DATE), None),
            SessionValue::CurrentTime(p) => ("now", Some(oids::TIMETZ), p),
            SessionValue::CurrentTimestamp(p) => ("now", Some(oids::TIMESTAMPTZ), p),
            SessionValue::LocalTime(p) => ("now", Some(oids::TIME), p),
            SessionValue::LocalTimestamp(p) => ("now", Some(oids::TIMESTAMP), p),
            SessionValue::CurrentRole | SessionValue::CurrentUser | SessionValue::User => {
                ("current_user", None, None)
            }
            SessionValue::SessionUser => ("session_user", None, None),
            SessionValue::CurrentCatalog => ("current_database", None, None),
            SessionValue::CurrentSchema => ("current_schema", None, None),
        };
        let value = self.system_function(function, &[], at)?;
        let Some(oid) = cast else { return Ok(value) };
        if precision.is_some_and(|p| p < 0) {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!(
                    "{}({}) precision must not be negative",
                    type_text(SqlType::plain(oid)).to_uppercase(),
                    precision.unwrap_or(0)
                ),
            ));
        }
        let ty = SqlType {
            oid,
            modifier: precision.map_or(-1, |p| p.min(6)),
        };
        self.explicit(value, ty, at, at)
    }

    /// All collations that exist here order by bytes.
    fn bind_collate(
        &mut self,
        arg: &ast::Expr,
        collation: &ast::ObjectName,
        at: u32,
    ) -> Result<Expr> {
        check_collation(collation, at)?;
        let (bound, arg_at) = self.operand(arg)?;
        let bound = self.settle(bound, arg_at)?;
        let collatable = crate::types::registry::by_oid(bound.ty().oid)
            .is_some_and(|t| t.collation != crate::ids::Oid::INVALID);
        if !collatable {
            return Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "collations are not supported by type {}",
                    type_text(SqlType::plain(bound.ty().oid))
                ),
            )
            .at(at));
        }
        Ok(bound)
    }

    /// `(expression).field`
    fn bind_field(&mut self, arg: &ast::Expr, field: &ast::Ident, at: u32) -> Result<Expr> {
        if let ExprKind::Column(parts) = &arg.kind {
            // `(t).a` is `t.a` where `t` is a table.
            if let [table] = parts.as_slice()
                && self.table_item(None, &table.name, at)?.is_some()
            {
                return self.column_reference(&[table.clone(), field.clone()], at);
            }
        }
        if let ExprKind::Call(call) = &arg.kind
            && let Some(expr) = self.function_field(call, field, at)?
        {
            return Ok(expr);
        }
        let bound = self.bind(arg)?;
        if bound.ty().oid != oids::RECORD {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!(
                    "column notation .{} applied to type {}, which is not a composite type",
                    field.name,
                    type_text(SqlType::plain(bound.ty().oid))
                ),
            )
            .at(location(arg)));
        }
        if let Expr::Row(fields) = &bound {
            let n = field
                .name
                .strip_prefix('f')
                .and_then(|n| n.parse::<usize>().ok());
            if let Some(e) = n.and_then(|n| fields.get(n.wrapping_sub(1))) {
                let e = e.clone();
                return self.settle(e, at);
            }
        }
        Err(SqlError::new(
            state::UNDEFINED_COLUMN,
            format!(
                "could not identify column \"{}\" in record data type",
                field.name
            ),
        )
        .at(location(arg)))
    }

    /// `array[i][j]`: one item of an array (`transformContainerSubscripts`).
    fn bind_item(&mut self, e: &ast::Expr) -> Result<Expr> {
        let mut base = e;
        let mut subscripts: Vec<&ast::Expr> = Vec::new();
        while let ExprKind::Subscript { arg, index } = &base.kind {
            let Subscript::Index(index) = index else {
                return Err(SqlError::unsupported("slices of arrays are not supported")
                    .hint("Use array_agg() over unnest() WITH ORDINALITY.")
                    .at(e.at));
            };
            subscripts.push(index.as_ref());
            base = arg.as_ref();
        }
        let (array, base_at) = self.operand(base)?;
        let ty = array.ty();
        let (function, item) = match resolve::array_element(ty.oid) {
            Some(oid) => {
                let modifier = ty.modifier;
                (functions::ARRAY_ITEM, SqlType { oid, modifier })
            }
            None if ty.oid == oids::NAME => (functions::NAME_ITEM, SqlType::plain(oids::CHAR)),
            None => return Err(no_items(ty, base_at)),
        };
        if subscripts.len() > MAX_DIMENSIONS {
            return Err(too_deep(subscripts.len()).into());
        }
        let mut args = vec![array];
        for index in subscripts.into_iter().rev() {
            let (index, at) = self.operand(index)?;
            let integer = SqlType::plain(oids::INT4);
            let Some(index) = self.cast(index, integer, CastContext::Assignment, at)? else {
                return Err(SqlError::new(
                    state::DATATYPE_MISMATCH,
                    "array subscript must have type integer",
                )
                .at(at));
            };
            args.push(index);
        }
        Ok(Expr::Call {
            function: function_by_oid(function)?,
            args,
            ty: item,
        })
    }

    /// A row as a value. A literal that nobody gave a type has none in the row either; a parameter must have one, for its
    /// value is of another kind as soon as something else tells the type.
    fn bind_row(&mut self, fields: &[ast::Expr], at: u32) -> Result<Expr> {
        let mut out = Vec::with_capacity(fields.len());
        for (e, _) in self.row_operands(fields, at)? {
            if let Expr::Param(n, ty) = &e
                && ty.oid == oids::UNKNOWN
            {
                return Err(undetermined(*n));
            }
            out.push(e);
        }
        Ok(Expr::Row(out))
    }

    /// A cast by `COERCION_ASSIGNMENT` with its own error (`coerce_to_specific_type`).
    pub(super) fn specific(
        &mut self,
        e: &ast::Expr,
        target: crate::ids::Oid,
        what: &str,
    ) -> Result<Expr> {
        let (bound, at) = self.operand(e)?;
        let source = bound.ty();
        match self.cast(bound, SqlType::plain(target), CastContext::Assignment, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type {}, not type {}",
                    type_text(SqlType::plain(target)),
                    type_text(SqlType::plain(source.oid))
                ),
            )
            .at(at)),
        }
    }

    /// LIMIT and OFFSET.
    pub(super) fn bind_count(&mut self, e: &ast::Expr, context: Context) -> Result<Expr> {
        self.without_columns(e, context.name(), |b| {
            b.within(context, |b| b.specific(e, oids::INT8, context.name()))
        })
    }

    /// What `f` makes of `e`; 42P10 if it reads a row of this level. `label`: what the message calls its place.
    pub(super) fn without_columns(
        &mut self,
        e: &ast::Expr,
        label: &str,
        f: impl FnOnce(&mut Self) -> Result<Expr>,
    ) -> Result<Expr> {
        let scope = self.scope_ref();
        let (own, below) = (scope.seen.len(), scope.seen_below.len());
        let expr = f(self)?;
        if self.has_columns(&expr) {
            let scope = self.scope_ref();
            let used = scope.seen[own..].iter().chain(&scope.seen_below[below..]);
            let first = used.map(|(_, at)| *at).min();
            return Err(SqlError::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("argument of {label} must not contain variables"),
            )
            .at(first.unwrap_or_else(|| location(e))));
        }
        Ok(expr)
    }
}

/// Of PostgreSQL's types that can be subscripted and are no arrays these are here.
fn no_items(ty: SqlType, at: u32) -> SqlError {
    let name = type_text(SqlType::plain(ty.oid));
    if ty.oid == oids::JSONB {
        return SqlError::unsupported(format!("subscripts of type {name} are not supported"))
            .at(at);
    }
    SqlError::new(
        state::DATATYPE_MISMATCH,
        format!("cannot subscript type {name} because it does not support subscripting"),
    )
    .at(at)
}

/// Two copies of it would be two calls that may differ, or two runs of a query.
fn is_computed_once(expr: &Expr) -> bool {
    is_volatile(expr) || walk::any(expr, &|e| matches!(e, Expr::Subquery(_)))
}

pub fn is_volatile(expr: &Expr) -> bool {
    walk::any(
        expr,
        &|e| matches!(e, Expr::Call { function, .. } if function.volatility == Volatility::Volatile),
    )
}

pub fn check_collation(collation: &ast::ObjectName, at: u32) -> Result<()> {
    let known = ["default", "C", "POSIX", "ucs_basic", "C.utf8"];
    let in_catalog = collation.schema_name().is_none_or(|s| s == "pg_catalog");
    if in_catalog && known.contains(&collation.name.name.as_str()) {
        return Ok(());
    }
    Err(SqlError::new(
        state::UNDEFINED_OBJECT,
        format!("collation \"{collation}\" for encoding \"UTF8\" does not exist"),
    )
    .at(at))
}
