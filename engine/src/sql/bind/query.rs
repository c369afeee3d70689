//! SELECT, VALUES, set operations (`analyze.c`).

use super::binder::{Binder, Context, Scope, WindowEntry};
use super::grouping::Grouping;
use super::resolve;
use super::targets::{TargetList, direction, require_equality, require_order};
use super::types::type_text;
use crate::ids::Oid;
use crate::sql::bound::{
    Body, ColumnRef, Distinct, Expr, FromItem, OutputColumn, Query, Range, RangeColumn,
    RangeSource, Select, SetOp, SetOperation, SortItem, Target, Windowing,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, DistinctClause, ExprKind, GroupItem, Literal, QueryBody};
use crate::sql::front::{location, location_as_written};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::CastContext;

type Result<T> = std::result::Result<T, SqlError>;

/// What a bound body brings besides itself.
pub(super) struct Bound {
    pub body: Body,
    pub order_by: Vec<SortItem>,
    pub output: Vec<OutputColumn>,
    pub locking: Vec<crate::sql::bound::RowLocking>,
    pub limits: Limits,
}

/// LIMIT and OFFSET.
pub(super) struct Limits {
    limit: Option<Expr>,
    offset: Option<Expr>,
    with_ties: bool,
}

impl Binder<'_> {
    /// A query of its own level. `settle`: literals without a type become text.
    pub(super) fn bind_query(&mut self, query: &ast::Query, settle: bool) -> Result<Query> {
        let (bound, _) = self.level(|b| b.query_here(query, settle))?;
        Ok(bound)
    }

    /// A subquery in an expression or in FROM.
    pub(super) fn bind_subquery(&mut self, query: &ast::Query) -> Result<Query> {
        self.bind_query(query, true)
    }

    fn query_here(&mut self, query: &ast::Query, settle: bool) -> Result<Query> {
        self.functions.host.check_interrupts()?;
        if let Some(with) = &query.with {
            self.with_clause(with)?;
        }
        let bound = match &query.body {
            QueryBody::Select(select) => self.select(query, select, settle)?,
            QueryBody::Values(rows) => self.values_query(query, rows, settle)?,
            QueryBody::SetOperation {
                op,
                all,
                left,
                right,
            } => self.set_query(query, *op, *all, (left, right), settle)?,
        };
        let ctes = self.close_ctes();
        Ok(Query {
            body: bound.body,
            order_by: bound.order_by,
            limit: bound.limits.limit,
            offset: bound.limits.offset,
            ctes,
            with_ties: bound.limits.with_ties,
            locking: bound.locking,
            output: bound.output,
        })
    }

    /// Analyzed while the level's names still mean something, so that using one is told from a name that nobody knows.
    pub(super) fn limits(&mut self, query: &ast::Query) -> Result<Limits> {
        let offset = match &query.offset {
            Some(e) => Some(self.bind_count(e, Context::Offset)?),
            None => None,
        };
        let count = query.limit.as_ref().and_then(|l| l.count.as_ref());
        let limit = match count {
            Some(e) => Some(self.bind_count(e, Context::Limit)?),
            None => None,
        };
        Ok(Limits {
            limit,
            offset,
            with_ties: query.limit.as_ref().is_some_and(|l| l.with_ties),
        })
    }

    pub(super) fn select(
        &mut self,
        query: &ast::Query,
        select: &ast::Select,
        settle: bool,
    ) -> Result<Bound> {
        if let Some(into) = &select.into {
            return Err(
                SqlError::new(state::SYNTAX_ERROR, "SELECT ... INTO is not allowed here")
                    .at(into.name.at()),
            );
        }
        let named = select.windows.iter().map(WindowEntry::named);
        self.scope().windows = named.collect();
        let mut from = self.bind_from(&select.from)?;
        self.forget_seen(0, 0);
        let mut list = self.bind_targets(&select.targets)?;
        let filter = self.where_condition(select)?;
        let mut having = match &select.having {
            Some(e) => Some(self.within(Context::Having, |b| b.bind_boolean(e, "HAVING"))?),
            None => None,
        };
        let mut order_by = self.sort_items(&mut list, &query.order_by)?;
        let keys = self.group_keys(&mut list, &select.group_by)?;
        let distinct = self.distinct(&select.distinct, &mut list, &mut order_by, query)?;
        let limits = self.limits(query)?;
        let mut windows = self.window_definitions()?;
        if settle {
            self.settle_targets(&mut list)?;
        }
        let output = self.output_of(&list);
        let locking = self.locking(query, select)?;
        let mut scope = std::mem::take(self.scope());
        let grouped = !keys.is_empty() || having.is_some() || !scope.aggregates.is_empty();
        if !scope.aggregates.is_empty() && scope.ranges.iter().any(Range::reads_itself) {
            return Err(SqlError::new(
                state::INVALID_RECURSION,
                "aggregate functions are not allowed in a recursive query's recursive term",
            )
            .at(self.aggregate_from(0)));
        }
        let group_by = match grouped {
            true => self.over_groups(&scope, keys, (&mut list, &mut windows, &mut having))?,
            false => keys,
        };
        let numbers = windows.settle();
        for target in &mut list.targets {
            super::walk::renumber_windows(&mut target.expr, &numbers);
        }
        from.append(&mut scope.set_ranges);
        let body = Select {
            level: Some(self.level_number()),
            ranges: std::mem::take(&mut scope.ranges),
            from,
            filter,
            group_by,
            having,
            aggregates: std::mem::take(&mut scope.aggregates),
            windows,
            targets: list.targets,
            distinct,
        };
        // WITH is still to be looked at in this level.
        self.scope().ctes = scope.ctes;
        Ok(Bound {
            body: Body::Select(Box::new(body)),
            order_by,
            output,
            locking,
            limits,
        })
    }

    /// What stands above GROUP BY reads groups from here on. Gives the keys, with those that others determine.
    fn over_groups(
        &self,
        scope: &Scope,
        keys: Vec<Expr>,
        (list, windows, having): (&mut TargetList, &mut Windowing, &mut Option<Expr>),
    ) -> Result<Vec<Expr>> {
        if !scope.set_ranges.is_empty() {
            return Err(SqlError::unsupported(
                "set-returning functions in a grouped select list are not supported",
            )
            .hint("Call the function in FROM."));
        }
        let mut grouping = Grouping {
            scope,
            level: self.level_number(),
            keys,
            window_calls: std::mem::take(&mut windows.calls),
        };
        for target in &mut list.targets {
            grouping.rewrite(&mut target.expr)?;
        }
        for window in &mut windows.windows {
            let order = window.order_by.iter_mut().map(|o| &mut o.expr);
            for part in order.chain(&mut window.partition_by) {
                grouping.rewrite(part)?;
            }
        }
        if let Some(having) = having {
            grouping.rewrite(having)?;
        }
        windows.calls = grouping.window_calls;
        Ok(grouping.keys)
    }

    fn where_condition(&mut self, select: &ast::Select) -> Result<Option<Expr>> {
        let Some(condition) = &select.filter else {
            return Ok(None);
        };
        let scope = self.scope_ref();
        let (own, below) = (scope.seen.len(), scope.seen_below.len());
        let bound = self.within(Context::Where, |b| b.bind_boolean(condition, "WHERE"))?;
        self.forget_seen(own, below);
        Ok(Some(bound))
    }

    /// Columns that were used before groups are made: the grouping error points at none of them.
    fn forget_seen(&mut self, own: usize, below: usize) {
        let scope = self.scope();
        scope.seen.truncate(own);
        scope.seen_below.truncate(below);
    }

    fn group_keys(&mut self, list: &mut TargetList, items: &[GroupItem]) -> Result<Vec<Expr>> {
        let mut keys: Vec<Expr> = Vec::with_capacity(items.len());
        for item in items {
            let e = match item {
                GroupItem::Expr(e) => e,
                GroupItem::Set { what, at } => {
                    return Err(SqlError::unsupported(format!("{what} is not supported"))
                        .hint("Use UNION ALL of several GROUP BY queries.")
                        .at(*at));
                }
            };
            // `GROUP BY (a, b)` groups by both.
            let parts: Vec<&ast::Expr> = match &e.kind {
                ExprKind::Row {
                    fields,
                    explicit: false,
                } => fields.iter().collect(),
                _ => vec![e],
            };
            for e in parts {
                let before = list.targets.len();
                let target = self.find_target(list, e, Context::GroupBy)?;
                self.settle_one(list, target)?;
                let key = list.targets[target].expr.clone();
                // A key is kept apart from the select list: no junk entry for it.
                list.targets.truncate(before.max(target.min(before)));
                list.places.truncate(list.targets.len());
                let place = list.places.get(target).copied().unwrap_or(e.at);
                self.check_group_key(&key, place)?;
                require_equality(key.ty(), location_as_written(e))?;
                if !keys.iter().any(|k| super::walk::same(k, &key)) {
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    /// 42803 and 42P20 for what stands in the select list and is grouped by all the same (`checkTargetlistEntrySQL92`).
    fn check_group_key(&self, key: &Expr, place: u32) -> Result<()> {
        let (mut aggregates, mut windows) = (false, false);
        super::walk::own_reads(key, Some(self.level_number()), &mut |e| {
            aggregates |= matches!(e, Expr::Aggregate(..));
            windows |= matches!(e, Expr::Window(..));
        });
        if aggregates {
            return Err(SqlError::new(
                state::GROUPING_ERROR,
                "aggregate functions are not allowed in GROUP BY",
            )
            .at(self.aggregate_from(place)));
        }
        if windows {
            return Err(SqlError::new(
                state::WINDOWING_ERROR,
                "window functions are not allowed in GROUP BY",
            )
            .at(self.window_from(place)));
        }
        Ok(())
    }

    fn distinct(
        &mut self,
        clause: &DistinctClause,
        list: &mut TargetList,
        order_by: &mut [SortItem],
        query: &ast::Query,
    ) -> Result<Distinct> {
        match clause {
            DistinctClause::No => Ok(Distinct::No),
            DistinctClause::All => {
                for i in 0..list.visible {
                    self.settle_one(list, i)?;
                    require_equality(list.targets[i].expr.ty(), list.places[i])?;
                }
                match order_by.iter().find(|s| s.target >= list.visible) {
                    Some(s) => Err(SqlError::new(
                        state::INVALID_COLUMN_REFERENCE,
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    )
                    .at(list.places[s.target])),
                    None => Ok(Distinct::All),
                }
            }
            DistinctClause::On(items) => {
                let mut on = Vec::with_capacity(items.len());
                for e in items {
                    let target = self.find_target(list, e, Context::DistinctOn)?;
                    self.settle_one(list, target)?;
                    require_equality(list.targets[target].expr.ty(), location_as_written(e))?;
                    if !on.contains(&target) {
                        on.push(target);
                    }
                }
                let mut outside = None;
                for (item, s) in query.order_by.iter().zip(order_by.iter()) {
                    if on.contains(&s.target) {
                        if outside.is_some() {
                            return Err(distinct_on_error(location(&items[0])));
                        }
                    } else {
                        outside = Some(item);
                    }
                }
                let leading = order_by.iter().filter(|s| on.contains(&s.target)).count();
                if outside.is_some() && leading < on.len() {
                    let missing = on
                        .iter()
                        .position(|t| !order_by.iter().any(|s| s.target == *t))
                        .unwrap_or(0);
                    return Err(distinct_on_error(location(
                        &items[missing.min(items.len() - 1)],
                    )));
                }
                Ok(Distinct::On(on))
            }
        }
    }

    /// ORDER BY of a query that has only its output to order by.
    pub(super) fn output_order(
        &mut self,
        output: &[OutputColumn],
        items: &[ast::OrderItem],
        set_operation: Option<()>,
    ) -> Result<Vec<SortItem>> {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let at = location(&item.expr);
            let position = match &item.expr.kind {
                ExprKind::Column(parts) if parts.len() == 1 => {
                    output_named(output, &parts[0].name, at)?
                }
                ExprKind::Literal(Literal::Int(n)) => {
                    let found = usize::try_from(*n)
                        .ok()
                        .filter(|n| (1..=output.len()).contains(n));
                    match found {
                        Some(n) => Some(n - 1),
                        None => {
                            return Err(SqlError::new(
                                state::INVALID_COLUMN_REFERENCE,
                                format!("ORDER BY position {n} is not in select list"),
                            )
                            .at(at));
                        }
                    }
                }
                ExprKind::Literal(_) => {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "non-integer constant in ORDER BY",
                    )
                    .at(at));
                }
                _ => None,
            };
            let Some(target) = position else {
                if let (ExprKind::Column(parts), Some(())) = (&item.expr.kind, set_operation) {
                    match parts.as_slice() {
                        [column] => {
                            return Err(SqlError::new(
                                state::UNDEFINED_COLUMN,
                                format!("column \"{}\" does not exist", column.name),
                            )
                            .at(at));
                        }
                        [table, _] => return Err(self.missing_table(None, &table.name, at)),
                        _ => {}
                    }
                }
                return Err(SqlError::unsupported(
                    "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                )
                .detail("Only result column names can be used, not expressions or functions.")
                .hint("Add the expression/function to every SELECT, or move the UNION into a FROM clause.")
                .at(at));
            };
            require_order(output[target].ty, at)?;
            let (descending, nulls_first) = direction(item)?;
            out.push(SortItem {
                target,
                descending,
                nulls_first,
            });
        }
        Ok(out)
    }

    fn set_query(
        &mut self,
        query: &ast::Query,
        op: SetOp,
        all: bool,
        (left, right): (&ast::Query, &ast::Query),
        settle: bool,
    ) -> Result<Bound> {
        if let Some(lock) = query.locking.first() {
            return Err(SqlError::unsupported(format!(
                "{} is not allowed with UNION/INTERSECT/EXCEPT",
                super::from::lock_name(lock.mode)
            )));
        }
        let name = match op {
            SetOp::Union => "UNION",
            SetOp::Intersect => "INTERSECT",
            SetOp::Except => "EXCEPT",
        };
        let left_places = places(left);
        let right_places = places(right);
        let left = self.bind_query(left, false)?;
        let right = self.bind_query(right, false)?;
        if left.output.len() != right.output.len() {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                format!("each {name} query must have the same number of columns"),
            )
            .at(right_places.first().copied().unwrap_or(0)));
        }
        let mut types = Vec::with_capacity(left.output.len());
        for (i, (l, r)) in left.output.iter().zip(&right.output).enumerate() {
            let common = resolve::common_type(&[l.ty.oid, r.ty.oid]).map_err(|(a, b)| {
                SqlError::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "{name} types {} and {} cannot be matched",
                        type_text(SqlType::plain(a)),
                        type_text(SqlType::plain(b))
                    ),
                )
                .at(right_places.get(i).copied().unwrap_or(0))
            })?;
            let modifier = if l.ty == r.ty && l.ty.oid == common {
                l.ty.modifier
            } else {
                -1
            };
            let ty = SqlType {
                oid: common,
                modifier,
            };
            if !(op == SetOp::Union && all) {
                require_equality(ty, left_places.get(i).copied().unwrap_or(0))?;
            }
            types.push(ty);
        }
        let _ = settle;
        let at = |places: &[u32]| places.first().copied().unwrap_or(0);
        let names: Vec<String> = left.output.iter().map(|c| c.name.clone()).collect();
        let left = self.cast_columns(left, &types, at(&left_places))?;
        let right = self.cast_columns(right, &types, at(&right_places))?;
        let output: Vec<OutputColumn> = names
            .into_iter()
            .zip(&types)
            .map(|(name, ty)| OutputColumn {
                name,
                ty: *ty,
                table: Oid::INVALID,
                attribute: 0,
            })
            .collect();
        let order_by = self.output_order(&output, &query.order_by, Some(()))?;
        let limits = self.limits(query)?;
        let body = SetOperation {
            op,
            all,
            left,
            right,
        };
        Ok(Bound {
            body: Body::SetOperation(Box::new(body)),
            order_by,
            output,
            locking: Vec::new(),
            limits,
        })
    }

    /// The query with its columns cast: in its own select list where nothing else depends on it, else around it.
    pub(super) fn cast_columns(
        &mut self,
        mut query: Query,
        types: &[SqlType],
        at: u32,
    ) -> Result<Query> {
        if query.output.iter().zip(types).all(|(c, ty)| c.ty == *ty) {
            return Ok(query);
        }
        let inside = query.order_by.is_empty()
            && matches!(&query.body, Body::Select(s) if s.distinct == Distinct::No);
        if let (true, Body::Select(select)) = (inside, &mut query.body) {
            for (i, ty) in types.iter().enumerate() {
                let expr = std::mem::replace(&mut select.targets[i].expr, Expr::Or(Vec::new()));
                select.targets[i].expr = self.column_as(expr, *ty, at)?;
                set_type(&mut query.output[i], *ty);
            }
            return Ok(query);
        }
        if let Body::Values(values) = &mut query.body
            && query.order_by.is_empty()
        {
            for row in &mut values.rows {
                for (e, ty) in row.iter_mut().zip(types) {
                    let expr = std::mem::replace(e, Expr::Or(Vec::new()));
                    *e = self.column_as(expr, *ty, at)?;
                }
            }
            values.types = types.to_vec();
            for (c, ty) in query.output.iter_mut().zip(types) {
                set_type(c, *ty);
            }
            return Ok(query);
        }
        self.wrap(query, types, at)
    }

    fn column_as(&mut self, expr: Expr, ty: SqlType, at: u32) -> Result<Expr> {
        if expr.ty() == ty {
            return Ok(expr);
        }
        let source = expr.ty();
        match self.cast(expr, ty, CastContext::Implicit, at)? {
            Some(e) => Ok(e),
            None => Err(SqlError::new(
                state::CANNOT_COERCE,
                format!(
                    "UNION could not convert type {} to {}",
                    type_text(SqlType::plain(source.oid)),
                    type_text(SqlType::plain(ty.oid))
                ),
            )
            .at(at)),
        }
    }

    /// `SELECT column::type, ... FROM (query)`
    fn wrap(&mut self, query: Query, types: &[SqlType], at: u32) -> Result<Query> {
        let columns = range_columns(&query);
        let mut output = query.output.clone();
        let mut targets = Vec::with_capacity(types.len());
        for (i, ty) in types.iter().enumerate() {
            let column = Expr::Column(ColumnRef {
                range: 0,
                column: i,
                ty: output[i].ty,
            });
            targets.push(Target {
                expr: self.column_as(column, *ty, at)?,
                name: output[i].name.clone(),
            });
            set_type(&mut output[i], *ty);
        }
        Ok(over(query, columns, targets, output))
    }

    /// A subquery's range.
    pub(super) fn subquery_range(&mut self, alias: String, query: Query) -> usize {
        let columns = range_columns(&query);
        self.add_range(Range {
            alias,
            source: RangeSource::Subquery(Box::new(query)),
            columns,
        })
    }
}

pub fn range_columns(query: &Query) -> Vec<RangeColumn> {
    query
        .output
        .iter()
        .map(|c| RangeColumn {
            name: c.name.clone(),
            ty: c.ty,
        })
        .collect()
}

/// A select of `targets` over one subquery, range 0.
pub fn over(
    query: Query,
    columns: Vec<RangeColumn>,
    targets: Vec<Target>,
    output: Vec<OutputColumn>,
) -> Query {
    let body = Select {
        level: None,
        ranges: vec![Range {
            alias: "*SELECT*".to_owned(),
            source: RangeSource::Subquery(Box::new(query)),
            columns,
        }],
        from: vec![FromItem::Range(0)],
        filter: None,
        group_by: Vec::new(),
        having: None,
        aggregates: Vec::new(),
        windows: crate::sql::bound::Windowing::default(),
        targets,
        distinct: Distinct::No,
    };
    Query {
        body: Body::Select(Box::new(body)),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        ctes: Vec::new(),
        with_ties: false,
        locking: Vec::new(),
        output,
    }
}

fn set_type(column: &mut OutputColumn, ty: SqlType) {
    if column.ty.oid != ty.oid {
        column.table = Oid::INVALID;
        column.attribute = 0;
    }
    column.ty = ty;
}

fn distinct_on_error(at: u32) -> SqlError {
    SqlError::new(
        state::INVALID_COLUMN_REFERENCE,
        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
    )
    .at(at)
}

/// Where the columns of a query stand, for errors about them.
pub fn places(query: &ast::Query) -> Vec<u32> {
    match &query.body {
        QueryBody::Select(s) => s.targets.iter().map(|t| location(&t.expr)).collect(),
        QueryBody::Values(rows) => rows[0].iter().map(location).collect(),
        QueryBody::SetOperation { left, .. } => places(left),
    }
}

/// The output column of that name; two are 42702.
fn output_named(output: &[OutputColumn], name: &str, at: u32) -> Result<Option<usize>> {
    let mut named = (0..output.len()).filter(|i| output[*i].name == name);
    match (named.next(), named.next()) {
        (Some(_), Some(_)) => Err(SqlError::new(
            state::AMBIGUOUS_COLUMN,
            format!("ORDER BY \"{name}\" is ambiguous"),
        )
        .at(at)),
        (first, _) => Ok(first),
    }
}

/// A query of one row of constants: INSERT's DEFAULT VALUES.
pub fn one_row(targets: Vec<Target>, output: Vec<OutputColumn>) -> Query {
    let body = Select {
        level: None,
        ranges: Vec::new(),
        from: Vec::new(),
        filter: None,
        group_by: Vec::new(),
        having: None,
        aggregates: Vec::new(),
        windows: crate::sql::bound::Windowing::default(),
        targets,
        distinct: Distinct::No,
    };
    Query {
        body: Body::Select(Box::new(body)),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        ctes: Vec::new(),
        with_ties: false,
        locking: Vec::new(),
        output,
    }
}

/// NULL of a type.
pub fn null(ty: SqlType) -> Expr {
    Expr::Const(Datum::Null, ty)
}
