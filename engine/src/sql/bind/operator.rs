//! Operators: resolution, row comparisons, IN, BETWEEN, LIKE, ANY and ALL. `parse_oper.c`, `parse_expr.c`.

use super::binder::{Binder, MAX_TARGETS};
use super::coerce::function_by_oid;
use super::resolve::{self, Choice};
use super::types::type_text;
use crate::ids::Oid;
use crate::sql::bound::{ColumnRef, Expr, Query, RowTest, SubqueryExpr, SubqueryKind};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ExprKind, InList, LikeKind, OperatorName, QuantifiedOperand};
use crate::sql::front::location;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{Function, Operator};
use crate::types::{oids, operators};

type Result<T> = std::result::Result<T, SqlError>;

const BINARY_HINT: &str = "No operator matches the given name and argument types. You might need to add explicit type casts.";
const PREFIX_HINT: &str = "No operator matches the given name and argument type. You might need to add an explicit type cast.";
const AMBIGUOUS_HINT: &str =
    "Could not choose a best candidate operator. You might need to add explicit type casts.";

fn plain_name(name: &str) -> OperatorName {
    OperatorName {
        schema: None,
        name: name.to_owned(),
    }
}

/// An operator and what its parameters are in this call.
struct Resolved {
    operator: &'static Operator,
    left: Oid,
    right: Oid,
    result: Oid,
}

impl Binder<'_> {
    /// `oper()`: `left` is `None` for a prefix operator.
    fn find_operator(
        &self,
        op: &OperatorName,
        left: Option<Oid>,
        right: Oid,
        at: u32,
    ) -> Result<Resolved> {
        let in_catalog = op.schema.as_deref().is_none_or(|s| s == "pg_catalog");
        if let (Some(schema), false) = (&op.schema, in_catalog)
            && self.catalog.schema_named(schema)?.is_none()
        {
            return Err(SqlError::new(
                state::INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            )
            .at(at));
        }
        let candidates: Vec<&'static Operator> = if in_catalog {
            operators::named(&op.name)
                .iter()
                .copied()
                .filter(|o| (o.left == Oid::INVALID) == left.is_none())
                .collect()
        } else {
            Vec::new()
        };
        let found = exact(&candidates, left, right).map_or_else(
            || {
                let inputs: Vec<Oid> = left.into_iter().chain([right]).collect();
                let parameters: Vec<Vec<Oid>> = candidates
                    .iter()
                    .map(|o| left.map(|_| o.left).into_iter().chain([o.right]).collect())
                    .collect();
                let slices: Vec<&[Oid]> = parameters.iter().map(Vec::as_slice).collect();
                match resolve::choose(&inputs, &slices) {
                    Choice::One(i) => Ok(candidates[i]),
                    Choice::None => Err(false),
                    Choice::Ambiguous => Err(true),
                }
            },
            Ok,
        );
        let operator = found.map_err(|ambiguous| operator_error(op, left, right, ambiguous, at))?;
        let declared = [operator.left, operator.right];
        let inputs = [left.unwrap_or(right), right];
        let types = resolve::polymorphic_types(&inputs, &declared)
            .map_err(|_| operator_error(op, left, right, false, at))?;
        let actual = |ty| types.actual(ty).unwrap_or(ty);
        Ok(Resolved {
            operator,
            left: actual(operator.left),
            right: actual(operator.right),
            result: actual(operator.result),
        })
    }

    /// `make_op`, for operands that are analyzed already.
    pub(super) fn make_operator(
        &mut self,
        op: &OperatorName,
        left: Option<(Expr, u32)>,
        right: (Expr, u32),
        at: u32,
    ) -> Result<Expr> {
        let found = self.find_operator(
            op,
            left.as_ref().map(|(e, _)| e.ty().oid),
            right.0.ty().oid,
            at,
        )?;
        let mut args = Vec::with_capacity(2);
        if let Some((expr, at)) = left {
            args.push(self.implicit(expr, found.left, at)?);
        }
        args.push(self.implicit(right.0, found.right, right.1)?);
        Ok(Expr::Call {
            function: function_by_oid(found.operator.function)?,
            args,
            ty: SqlType::plain(found.result),
        })
    }

    pub(super) fn operator_by_name(
        &mut self,
        name: &str,
        left: (Expr, u32),
        right: (Expr, u32),
        at: u32,
    ) -> Result<Expr> {
        self.make_operator(&plain_name(name), Some(left), right, at)
    }

    /// The equality function for two values of one type, and both cast to what it takes.
    pub(super) fn equality(
        &mut self,
        left: (Expr, u32),
        right: (Expr, u32),
        at: u32,
    ) -> Result<(&'static Function, Expr, Expr)> {
        match self.operator_by_name("=", left, right, at)? {
            Expr::Call {
                function, mut args, ..
            } if args.len() == 2 => {
                let right = args.pop().expect("there are two");
                let left = args.pop().expect("there are two");
                Ok((function, left, right))
            }
            _ => Err(SqlError::internal("equality is not a call")),
        }
    }

    pub(super) fn bind_operator(
        &mut self,
        op: &OperatorName,
        left: Option<&ast::Expr>,
        right: &ast::Expr,
        at: u32,
    ) -> Result<Expr> {
        let Some(left) = left else {
            let right = self.operand(right)?;
            return self.make_operator(op, None, right, at);
        };
        if let (ExprKind::Row { fields: l, .. }, ExprKind::Row { fields: r, .. }) =
            (&left.kind, &right.kind)
        {
            let l = self.row_operands(l, left.at)?;
            let r = self.row_operands(r, right.at)?;
            return self.row_comparison(op, l, r, at);
        }
        if let (ExprKind::Row { fields, .. }, ExprKind::Subquery(query)) = (&left.kind, &right.kind)
        {
            let left = self.row_operands(fields, left.at)?;
            let right = self.columns_of_query(query, at)?;
            if left.len() != right.len() {
                let more = if right.len() > left.len() {
                    "many"
                } else {
                    "few"
                };
                let message = format!("subquery has too {more} columns");
                return Err(SqlError::new(state::SYNTAX_ERROR, message).at(at));
            }
            let right = right.into_iter().map(|e| (e, at)).collect();
            return self.row_comparison(op, left, right, at);
        }
        if let (
            ExprKind::Collate { collation: one, .. },
            ExprKind::Collate {
                collation: other, ..
            },
        ) = (&left.kind, &right.kind)
            && one.name.name != other.name.name
        {
            return Err(SqlError::new(
                state::COLLATION_MISMATCH,
                format!(
                    "collation mismatch between explicit collations \"{}\" and \"{}\"",
                    one.name.name, other.name.name
                ),
            )
            .at(right.at));
        }
        let left = self.operand(left)?;
        let right = self.operand(right)?;
        self.make_operator(op, Some(left), right, at)
    }

    pub(super) fn operand(&mut self, e: &ast::Expr) -> Result<(Expr, u32)> {
        Ok((self.bind(e)?, location(e)))
    }

    pub(super) fn operands(&mut self, items: &[ast::Expr]) -> Result<Vec<(Expr, u32)>> {
        items.iter().map(|e| self.operand(e)).collect()
    }

    /// The fields of a row, with `t.*` spread out (`transformRowExpr`); `at` is where the row stands.
    pub(super) fn row_operands(
        &mut self,
        fields: &[ast::Expr],
        at: u32,
    ) -> Result<Vec<(Expr, u32)>> {
        let mut out = Vec::with_capacity(fields.len());
        for field in fields {
            let columns = match &field.kind {
                ExprKind::Star(parts) => self.star(parts, field.at)?,
                ExprKind::FieldStar(arg) => self.row_star(arg, field.at)?,
                _ => {
                    out.push(self.operand(field)?);
                    continue;
                }
            };
            out.extend(columns.into_iter().map(|(column, _)| (column, field.at)));
        }
        if out.len() > MAX_TARGETS {
            return Err(SqlError::new(
                state::TOO_MANY_COLUMNS,
                format!("ROW expressions can have at most {MAX_TARGETS} entries"),
            )
            .at(at));
        }
        Ok(out)
    }

    /// `make_row_comparison_op`
    fn row_comparison(
        &mut self,
        op: &OperatorName,
        left: Vec<(Expr, u32)>,
        right: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<Expr> {
        if left.len() != right.len() {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                "unequal number of entries in row expressions",
            )
            .at(at));
        }
        if left.is_empty() {
            return Err(SqlError::unsupported("cannot compare rows of zero length").at(at));
        }
        let strict = match op.name.as_str() {
            "=" | "<>" => None,
            "<" | "<=" => Some("<"),
            ">" | ">=" => Some(">"),
            _ => {
                // One that does not exist is told first.
                for (l, r) in left.into_iter().zip(right) {
                    self.make_operator(op, Some(l), r, at)?;
                }
                return Err(SqlError::unsupported(format!(
                    "could not determine interpretation of row comparison operator {}",
                    op.name
                ))
                .hint("Row comparison operators must be associated with btree operator families.")
                .at(at));
            }
        };
        let Some(strict) = strict else {
            let mut parts = Vec::with_capacity(left.len());
            for (l, r) in left.into_iter().zip(right) {
                parts.push(self.make_operator(op, Some(l), r, at)?);
            }
            return Ok(joined(parts, op.name == "<>"));
        };
        // From the last pair to the first: `a < b OR (a = b AND rest)`.
        let mut pairs: Vec<_> = left.into_iter().zip(right).collect();
        let (l, r) = pairs.pop().expect("the rows are not empty");
        let mut out = self.make_operator(op, Some(l), r, at)?;
        while let Some((l, r)) = pairs.pop() {
            let less = self.operator_by_name(strict, l.clone(), r.clone(), at)?;
            let equal = self.operator_by_name("=", l, r, at)?;
            out = Expr::Or(vec![less, Expr::And(vec![equal, out])]);
        }
        Ok(out)
    }

    pub(super) fn bind_distinct(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        negated: bool,
        at: u32,
    ) -> Result<Expr> {
        if let (ExprKind::Row { fields: l, .. }, ExprKind::Row { fields: r, .. }) =
            (&left.kind, &right.kind)
        {
            let l = self.row_operands(l, left.at)?;
            let r = self.row_operands(r, right.at)?;
            if l.len() != r.len() {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "unequal number of entries in row expressions",
                )
                .at(at));
            }
            let mut parts = Vec::with_capacity(l.len());
            for (l, r) in l.into_iter().zip(r) {
                parts.push(self.distinct_values(l, r, negated, at)?);
            }
            return Ok(joined(parts, !negated));
        }
        let is_null = |e: &ast::Expr| matches!(e.kind, ExprKind::Literal(ast::Literal::Null));
        for (null, other) in [(right, left), (left, right)] {
            if is_null(null) {
                let (value, place) = self.operand(other)?;
                // To IS NULL a row of NULLs would be one; here it is a value.
                if value.ty().oid == oids::RECORD {
                    let null = Expr::Const(Datum::Null, value.ty());
                    return self.distinct_values((value, place), (null, at), negated, at);
                }
                return Ok(Expr::IsNull {
                    arg: Box::new(value),
                    negated: !negated,
                });
            }
        }
        let left = self.operand(left)?;
        let right = self.operand(right)?;
        self.distinct_values(left, right, negated, at)
    }

    /// `make_distinct_op`
    fn distinct_values(
        &mut self,
        left: (Expr, u32),
        right: (Expr, u32),
        negated: bool,
        at: u32,
    ) -> Result<Expr> {
        let (equal, left, right) = self.equality(left, right, at)?;
        Ok(Expr::IsDistinct {
            equal,
            left: Box::new(left),
            right: Box::new(right),
            negated,
        })
    }

    pub(super) fn bind_between(
        &mut self,
        arg: &ast::Expr,
        (low, high): (&ast::Expr, &ast::Expr),
        (negated, symmetric): (bool, bool),
        at: u32,
    ) -> Result<Expr> {
        let (below, above) = if negated { ("<", ">") } else { (">=", "<=") };
        let one = |b: &mut Self, low: &ast::Expr, high: &ast::Expr| -> Result<Expr> {
            let first = b.bind_operator(&plain_name(below), Some(arg), low, at)?;
            let second = b.bind_operator(&plain_name(above), Some(arg), high, at)?;
            Ok(joined(vec![first, second], negated))
        };
        let straight = one(self, low, high)?;
        if !symmetric {
            return Ok(straight);
        }
        let swapped = one(self, high, low)?;
        Ok(joined(vec![straight, swapped], !negated))
    }

    pub(super) fn bind_like(
        &mut self,
        kind: LikeKind,
        (arg, pattern): (&ast::Expr, &ast::Expr),
        escape: Option<&ast::Expr>,
        negated: bool,
        at: u32,
    ) -> Result<Expr> {
        let left = self.operand(arg)?;
        let right = match (kind, escape) {
            (LikeKind::Similar, _) => {
                let mut args = vec![pattern.clone()];
                args.extend(escape.cloned());
                (self.system_function("similar_to_escape", &args, at)?, at)
            }
            (_, Some(escape)) => {
                let args = [pattern.clone(), escape.clone()];
                (self.system_function("like_escape", &args, at)?, at)
            }
            _ => self.operand(pattern)?,
        };
        let name = match (kind, negated) {
            (LikeKind::Like, false) => "~~",
            (LikeKind::Like, true) => "!~~",
            (LikeKind::ILike, false) => "~~*",
            (LikeKind::ILike, true) => "!~~*",
            (LikeKind::Similar, false) => "~",
            (LikeKind::Similar, true) => "!~",
        };
        self.operator_by_name(name, left, right, at)
    }

    pub(super) fn bind_in(
        &mut self,
        arg: &ast::Expr,
        list: &InList,
        negated: bool,
        at: u32,
    ) -> Result<Expr> {
        let items = match list {
            InList::Items(items) => items,
            InList::Query(query) => {
                let op = plain_name("=");
                let any = self.bind_any_query(arg, &op, query, false, at)?;
                return Ok(if negated {
                    Expr::Not(Box::new(any))
                } else {
                    any
                });
            }
        };
        let op = plain_name(if negated { "<>" } else { "=" });
        if matches!(arg.kind, ExprKind::Row { .. })
            || items.iter().any(|i| matches!(i.kind, ExprKind::Row { .. }))
        {
            let mut parts = Vec::with_capacity(items.len());
            for item in items {
                parts.push(self.bind_operator(&op, Some(arg), item, at)?);
            }
            return Ok(joined(parts, !negated));
        }
        let left = self.operand(arg)?;
        let (columns, constants): (Vec<_>, Vec<_>) = self
            .operands(items)?
            .into_iter()
            .partition(|(e, _)| self.has_columns(e));
        let mut parts = Vec::new();
        let mut single = columns;
        if constants.len() > 1 {
            let types: Vec<Oid> = std::iter::once(&left)
                .chain(&constants)
                .map(|(e, _)| e.ty().oid)
                .collect();
            match resolve::common_type(&types) {
                Ok(common) if common != oids::RECORD => {
                    parts.push(self.any_of(&op, left.clone(), constants, common, negated, at)?);
                }
                _ => single = constants.into_iter().chain(single).collect(),
            }
        } else {
            single = constants.into_iter().chain(single).collect();
        }
        for item in single {
            parts.push(self.make_operator(&op, Some(left.clone()), item, at)?);
        }
        Ok(joined(parts, !negated))
    }

    /// `left op ANY (items)`: the items first take their common type, then the operator's.
    fn any_of(
        &mut self,
        op: &OperatorName,
        left: (Expr, u32),
        items: Vec<(Expr, u32)>,
        common: Oid,
        all: bool,
        at: u32,
    ) -> Result<Expr> {
        let found = self.find_operator(op, Some(left.0.ty().oid), common, at)?;
        let mut cast = Vec::with_capacity(items.len());
        for (item, at) in items {
            cast.push(self.to_common(item, common, "IN", at)?);
        }
        if self.as_written {
            let left = self.implicit(left.0, found.left, left.1)?;
            let function = function_by_oid(found.operator.function)?;
            return super::written::any_of(function, left, cast, (common, found.right), all);
        }
        for item in &mut cast {
            let given = std::mem::replace(item, Expr::CaseTest(SqlType::plain(common)));
            *item = self.implicit(given, found.right, at)?;
        }
        Ok(Expr::AnyOf {
            function: function_by_oid(found.operator.function)?,
            left: Box::new(self.implicit(left.0, found.left, left.1)?),
            items: cast,
            all,
        })
    }

    pub(super) fn bind_quantified(
        &mut self,
        op: &OperatorName,
        left: &ast::Expr,
        all: bool,
        right: &QuantifiedOperand,
        at: u32,
    ) -> Result<Expr> {
        match right {
            QuantifiedOperand::Query(query) => self.bind_any_query(left, op, query, all, at),
            QuantifiedOperand::Array(array) => {
                let left = self.operand(left)?;
                let array = self.operand(array)?;
                self.any_array(op, left, array, all, at)
            }
        }
    }

    /// `make_scalar_array_op`
    fn any_array(
        &mut self,
        op: &OperatorName,
        left: (Expr, u32),
        array: (Expr, u32),
        all: bool,
        at: u32,
    ) -> Result<Expr> {
        let array_type = array.0.ty().oid;
        let element = if array_type == oids::UNKNOWN {
            oids::UNKNOWN
        } else {
            resolve::array_element(array_type)
                .or_else(|| vector_element(array_type))
                .ok_or_else(|| {
                    SqlError::new(
                        state::WRONG_OBJECT_TYPE,
                        "op ANY/ALL (array) requires array on right side",
                    )
                    .at(at)
                })?
        };
        let found = self.find_operator(op, Some(left.0.ty().oid), element, at)?;
        if found.result != oids::BOOL {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                "op ANY/ALL (array) requires operator to yield boolean",
            )
            .at(at));
        }
        let target = if element == found.right {
            array_type
        } else {
            resolve::array_of(found.right).ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!(
                        "could not find array type for data type {}",
                        type_text(SqlType::plain(found.right))
                    ),
                )
                .at(at)
            })?
        };
        Ok(Expr::AnyArray {
            function: function_by_oid(found.operator.function)?,
            left: Box::new(self.implicit(left.0, found.left, left.1)?),
            array: Box::new(self.implicit(array.0, target, array.1)?),
            all,
        })
    }

    /// `left op ANY (query)` and ALL.
    fn bind_any_query(
        &mut self,
        left: &ast::Expr,
        op: &OperatorName,
        query: &ast::Query,
        all: bool,
        at: u32,
    ) -> Result<Expr> {
        self.check_subquery(at)?;
        let mut query = self.bind_subquery(query)?;
        let mut fields = match &left.kind {
            ExprKind::Row { fields, .. } => self.row_operands(fields, left.at)?,
            _ => vec![self.operand(left)?],
        };
        if query.output.len() != fields.len() {
            let message = if query.output.len() > fields.len() {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            };
            return Err(SqlError::new(state::SYNTAX_ERROR, message).at(at));
        }
        if fields.len() != 1 {
            return self.any_row(fields, op, query, all, at);
        }
        let left = fields.pop().expect("there is one");
        let right = query.output[0].ty.oid;
        let found = self.find_operator(op, Some(left.0.ty().oid), right, at)?;
        if found.result != oids::BOOL {
            return Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "row comparison operator must yield type boolean, not type {}",
                    type_text(SqlType::plain(found.result))
                ),
            )
            .at(at));
        }
        if right != found.right {
            query = self.cast_columns(query, &[SqlType::plain(found.right)], at)?;
        }
        Ok(Expr::Subquery(Box::new(SubqueryExpr {
            kind: SubqueryKind::Any {
                function: function_by_oid(found.operator.function)?,
                left: self.implicit(left.0, found.left, left.1)?,
                all,
            },
            query,
            ty: SqlType::plain(oids::BOOL),
        })))
    }
}

impl Binder<'_> {
    /// `(a, b) op ANY (query)`: the comparison is bound over columns that stand for both rows' values.
    fn any_row(
        &mut self,
        fields: Vec<(Expr, u32)>,
        op: &OperatorName,
        query: Query,
        all: bool,
        at: u32,
    ) -> Result<Expr> {
        let column = |number: usize, ty: SqlType| {
            Expr::Column(ColumnRef {
                range: 0,
                column: number,
                ty,
            })
        };
        let types: Vec<SqlType> = query.output.iter().map(|c| c.ty).collect();
        let width = fields.len();
        let mut left = Vec::with_capacity(width);
        for ((mut value, at), other) in fields.into_iter().zip(&types) {
            if value.ty().oid == oids::UNKNOWN {
                value = self.implicit(value, other.oid, at)?;
            }
            left.push((value, at));
        }
        let ours = left.iter().enumerate();
        let ours = ours.map(|(i, (value, at))| (column(i, value.ty()), *at));
        let ours: Vec<_> = ours.collect();
        let theirs = types.iter().enumerate();
        let theirs = theirs.map(|(i, ty)| (column(width + i, *ty), at));
        let comparison = self.row_comparison(op, ours, theirs.collect(), at)?;
        Ok(Expr::Subquery(Box::new(SubqueryExpr {
            kind: SubqueryKind::AnyRow {
                left: left.into_iter().map(|(value, _)| value).collect(),
                test: RowTest {
                    comparison,
                    operator: op.name.clone(),
                    all,
                },
            },
            query,
            ty: SqlType::plain(oids::BOOL),
        })))
    }
}

fn vector_element(ty: Oid) -> Option<Oid> {
    match ty {
        oids::INT2VECTOR => Some(oids::INT2),
        oids::OIDVECTOR => Some(oids::OID),
        _ => None,
    }
}

/// `binary_oper_exact`: an unknown operand is taken to have the other's type.
fn exact(
    candidates: &[&'static Operator],
    left: Option<Oid>,
    right: Oid,
) -> Option<&'static Operator> {
    let (l, r) = match left {
        None => (Oid::INVALID, right),
        Some(oids::UNKNOWN) => (right, right),
        Some(l) if right == oids::UNKNOWN => (l, l),
        Some(l) => (l, right),
    };
    candidates
        .iter()
        .copied()
        .find(|o| o.left == l && o.right == r)
}

fn operator_error(
    op: &OperatorName,
    left: Option<Oid>,
    right: Oid,
    ambiguous: bool,
    at: u32,
) -> SqlError {
    // PostgreSQL has these for text, JSON paths and text search.
    if matches!(op.name.as_str(), "@@" | "@?" | "@@@") {
        let what = format!("operator {} is not implemented", op.name);
        return SqlError::unsupported(what).at(at);
    }
    let name = match &op.schema {
        Some(s) => format!("{s}.{}", op.name),
        None => op.name.clone(),
    };
    let shown = match left {
        Some(l) => format!(
            "{} {name} {}",
            type_text(SqlType::plain(l)),
            type_text(SqlType::plain(right))
        ),
        None => format!("{name} {}", type_text(SqlType::plain(right))),
    };
    if ambiguous {
        return SqlError::new(
            state::AMBIGUOUS_FUNCTION,
            format!("operator is not unique: {shown}"),
        )
        .hint(AMBIGUOUS_HINT)
        .at(at);
    }
    SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!("operator does not exist: {shown}"),
    )
    .hint(if left.is_some() {
        BINARY_HINT
    } else {
        PREFIX_HINT
    })
    .at(at)
}

/// One condition of several.
pub fn joined(mut parts: Vec<Expr>, any: bool) -> Expr {
    if parts.len() == 1 {
        return parts.pop().expect("there is one");
    }
    if any {
        Expr::Or(parts)
    } else {
        Expr::And(parts)
    }
}
