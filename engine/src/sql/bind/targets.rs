//! Select lists: stars, names, and the clauses that refer to their entries (ORDER BY, GROUP BY, DISTINCT).
//! `parse_target.c`, `parse_clause.c`.

use super::binder::{Binder, Context, Item, ItemColumn, MAX_TARGETS};
use super::types::type_text;
use super::walk;
use crate::ids::Oid;
use crate::sql::bound::{Expr, OutputColumn, RangeSource, SortItem, Target};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ExprKind, Ident, Literal, OrderItem, SelectItem, SessionValue};
use crate::sql::front::{location, location_as_written};
use crate::types::datum::SqlType;
use crate::types::{compare, oids};

type Result<T> = std::result::Result<T, SqlError>;

/// A select list in the making: visible entries first, then those that only other clauses need.
#[derive(Default)]
pub struct TargetList {
    pub targets: Vec<Target>,
    /// Where each entry's expression stands.
    pub places: Vec<u32>,
    pub visible: usize,
}

impl TargetList {
    fn push(&mut self, expr: Expr, name: String, at: u32) -> usize {
        self.targets.push(Target { expr, name });
        self.places.push(at);
        self.targets.len() - 1
    }
}

/// `NULLS FIRST` and `DESC` of an ORDER BY item.
pub fn direction(item: &OrderItem) -> Result<(bool, bool)> {
    let Some((op, at)) = &item.using else {
        return Ok((item.descending, item.nulls_first()));
    };
    let descending = match op.name.as_str() {
        "<" => false,
        ">" => true,
        _ => {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("operator {} is not a valid ordering operator", op.name),
            )
            .hint("Ordering operators must be \"<\" or \">\" members of btree operator families.")
            .at(*at));
        }
    };
    Ok((descending, item.nulls_first.unwrap_or(descending)))
}

pub fn require_order(ty: SqlType, at: u32) -> Result<()> {
    if compare::comparator(ty.oid).is_some() {
        return Ok(());
    }
    Err(SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!(
            "could not identify an ordering operator for type {}",
            type_text(SqlType::plain(ty.oid))
        ),
    )
    .hint("Use an explicit ordering operator or modify the query.")
    .at(at))
}

pub fn require_equality(ty: SqlType, at: u32) -> Result<()> {
    if compare::equality(ty.oid).is_some() {
        return Ok(());
    }
    Err(SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!(
            "could not identify an equality operator for type {}",
            type_text(SqlType::plain(ty.oid))
        ),
    )
    .at(at))
}

impl Binder<'_> {
    /// The select list (or RETURNING), stars spread out.
    pub(super) fn bind_targets(&mut self, items: &[SelectItem]) -> Result<TargetList> {
        let mut list = TargetList::default();
        for item in items {
            if let ExprKind::Star(parts) = &item.expr.kind {
                for (expr, name) in self.star(parts, item.expr.at)? {
                    list.push(expr, name, item.expr.at);
                }
                continue;
            }
            if let ExprKind::FieldStar(arg) = &item.expr.kind {
                for (expr, name) in self.row_star(arg, item.expr.at)? {
                    list.push(expr, name, item.expr.at);
                }
                continue;
            }
            let (expr, at) = self.operand(&item.expr)?;
            let name = match &item.alias {
                Some(alias) => alias.name.clone(),
                None => column_name(&item.expr, Some(&expr)),
            };
            list.push(expr, name, at);
        }
        if list.targets.len() > MAX_TARGETS {
            return Err(SqlError::new(
                state::TOO_MANY_COLUMNS,
                format!("target lists can have at most {MAX_TARGETS} entries"),
            ));
        }
        list.visible = list.targets.len();
        Ok(list)
    }

    /// `*`, `t.*`: expressions and their names.
    pub(super) fn star(&mut self, parts: &[Ident], at: u32) -> Result<Vec<(Expr, String)>> {
        let columns = match parts {
            [] => {
                let items: Vec<Item> = self
                    .scope_ref()
                    .items
                    .iter()
                    .filter(|i| i.columns_visible)
                    .cloned()
                    .collect();
                if self.scope_ref().items.is_empty() {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "SELECT * with no tables specified is not valid",
                    )
                    .at(at));
                }
                items.into_iter().flat_map(|i| i.columns).collect()
            }
            [table] => self.star_of(None, &table.name, at)?,
            [schema, table] => self.star_of(Some(&schema.name), &table.name, at)?,
            [database, schema, table] => {
                self.check_database(&database.name, parts, at)?;
                self.star_of(Some(&schema.name), &table.name, at)?
            }
            _ => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "improper qualified name (too many dotted names)",
                )
                .at(at));
            }
        };
        let mut out = Vec::with_capacity(columns.len());
        for c in columns {
            if let Expr::Column(r) = &c.expr {
                let r = r.clone();
                self.scope().seen.push((r, at));
            }
            out.push((c.expr, c.name));
        }
        Ok(out)
    }

    fn star_of(&mut self, schema: Option<&str>, table: &str, at: u32) -> Result<Vec<ItemColumn>> {
        match self.table_item(schema, table, at)? {
            Some((level, item)) if level == self.level_number() => Ok(item.columns),
            Some((level, item)) => {
                let outer = |c: ItemColumn| ItemColumn {
                    expr: self.of_level(level, c.expr, at),
                    name: c.name,
                };
                Ok(item.columns.into_iter().map(outer).collect())
            }
            None => Err(self.missing_table(schema, table, at)),
        }
    }

    /// `(t).*` and `(f(...)).*`
    pub(super) fn row_star(&mut self, arg: &ast::Expr, at: u32) -> Result<Vec<(Expr, String)>> {
        match &arg.kind {
            ExprKind::Column(parts) if parts.len() == 1 => self.star(parts, at),
            ExprKind::Row { fields, .. } => {
                let mut out = Vec::with_capacity(fields.len());
                let fields = self.row_operands(fields, arg.at)?;
                for (i, (e, at)) in fields.into_iter().enumerate() {
                    out.push((self.settle(e, at)?, format!("f{}", i + 1)));
                }
                Ok(out)
            }
            _ => Err(
                SqlError::unsupported("row expansion of an expression is not supported")
                    .hint("Call the function in FROM.")
                    .at(at),
            ),
        }
    }

    /// Literals without a type are text from here on.
    pub(super) fn settle_targets(&mut self, list: &mut TargetList) -> Result<()> {
        for (target, at) in list.targets.iter_mut().zip(&list.places) {
            if target.expr.ty().oid == oids::UNKNOWN {
                let expr = std::mem::replace(&mut target.expr, Expr::Or(Vec::new()));
                target.expr = self.settle(expr, *at)?;
            }
        }
        Ok(())
    }

    /// The table's column that an expression of `level` is, if it is one.
    fn origin(&self, expr: &Expr, level: usize) -> (Oid, i16) {
        match expr {
            Expr::Column(c) => match &self.scopes[level].ranges[c.range].source {
                RangeSource::Table(rel) | RangeSource::Virtual(rel) => {
                    (rel.oid, rel.columns[c.column].attribute)
                }
                RangeSource::Cte { output, .. } => match output.get(c.column) {
                    Some(o) => (o.table, o.attribute),
                    None => (Oid::INVALID, 0),
                },
                RangeSource::Subquery(q) => {
                    let o = &q.output[c.column];
                    (o.table, o.attribute)
                }
                _ => (Oid::INVALID, 0),
            },
            // What a subquery after LATERAL hands on.
            Expr::Outer(outer) => self.origin(&outer.expr, outer.level),
            _ => (Oid::INVALID, 0),
        }
    }

    pub(super) fn output_of(&self, list: &TargetList) -> Vec<OutputColumn> {
        let level = self.level_number();
        list.targets[..list.visible]
            .iter()
            .map(|t| {
                let (table, attribute) = self.origin(&t.expr, level);
                OutputColumn {
                    name: t.name.clone(),
                    ty: t.expr.ty(),
                    table,
                    attribute,
                }
            })
            .collect()
    }

    /// The entry that an ORDER BY, GROUP BY or DISTINCT ON item means, added if there is none.
    pub(super) fn find_target(
        &mut self,
        list: &mut TargetList,
        e: &ast::Expr,
        context: Context,
    ) -> Result<usize> {
        let clause = context.name();
        if let ExprKind::Column(parts) = &e.kind
            && let [name] = parts.as_slice()
            && let Some(i) = self.target_named(list, name, context, e.at)?
        {
            return Ok(i);
        }
        if let ExprKind::Literal(literal) = &e.kind {
            return target_at(list, literal, clause, e.at);
        }
        let at = location(e);
        let expr = self.within(context, |b| b.bind(e))?;
        if let Some(i) = list.targets.iter().position(|t| walk::same(&t.expr, &expr)) {
            return Ok(i);
        }
        Ok(list.push(expr, String::new(), at))
    }

    fn target_named(
        &mut self,
        list: &TargetList,
        name: &Ident,
        context: Context,
        at: u32,
    ) -> Result<Option<usize>> {
        if context == Context::GroupBy && self.is_local_column(&name.name) {
            return Ok(None);
        }
        let mut found: Option<usize> = None;
        for (i, t) in list.targets[..list.visible].iter().enumerate() {
            if t.name != name.name {
                continue;
            }
            match found {
                Some(old) if !walk::same(&list.targets[old].expr, &t.expr) => {
                    return Err(SqlError::new(
                        state::AMBIGUOUS_COLUMN,
                        format!("{} \"{}\" is ambiguous", context.name(), name.name),
                    )
                    .at(at));
                }
                Some(_) => {}
                None => found = Some(i),
            }
        }
        Ok(found)
    }

    /// True if FROM has a column of that name, once or more.
    fn is_local_column(&self, name: &str) -> bool {
        self.scope_ref()
            .items
            .iter()
            .filter(|i| i.columns_visible)
            .any(|i| i.columns.iter().any(|c| c.name == name))
    }

    pub(super) fn sort_items(
        &mut self,
        list: &mut TargetList,
        items: &[OrderItem],
    ) -> Result<Vec<SortItem>> {
        let mut out: Vec<SortItem> = Vec::with_capacity(items.len());
        for item in items {
            let target = self.find_target(list, &item.expr, Context::OrderBy)?;
            self.settle_one(list, target)?;
            let at = location_as_written(&item.expr);
            require_order(list.targets[target].expr.ty(), at)?;
            let (descending, nulls_first) = direction(item)?;
            if out.iter().any(|s| s.target == target) {
                continue;
            }
            out.push(SortItem {
                target,
                descending,
                nulls_first,
            });
        }
        Ok(out)
    }

    pub(super) fn settle_one(&mut self, list: &mut TargetList, i: usize) -> Result<()> {
        let target = &mut list.targets[i];
        if target.expr.ty().oid == oids::UNKNOWN {
            let expr = std::mem::replace(&mut target.expr, Expr::Or(Vec::new()));
            list.targets[i].expr = self.settle(expr, list.places[i])?;
        }
        Ok(())
    }
}

/// A constant in ORDER BY or GROUP BY is a position.
fn target_at(list: &TargetList, literal: &Literal, clause: &str, at: u32) -> Result<usize> {
    let Literal::Int(n) = literal else {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!("non-integer constant in {clause}"),
        )
        .at(at));
    };
    usize::try_from(*n)
        .ok()
        .filter(|n| (1..=list.visible).contains(n))
        .map(|n| n - 1)
        .ok_or_else(|| {
            SqlError::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("{clause} position {n} is not in select list"),
            )
            .at(at)
        })
}

/// `FigureColname`
pub fn column_name(e: &ast::Expr, bound: Option<&Expr>) -> String {
    figure(e, bound).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// What a cast or a subscript was put around.
fn unwrapped(bound: &Expr) -> &Expr {
    match bound {
        Expr::CastViaText { arg, .. } | Expr::Coerce { arg, .. } | Expr::Relabel { arg, .. } => {
            unwrapped(arg)
        }
        Expr::Call { args, .. } => args.first().map_or(bound, unwrapped),
        _ => bound,
    }
}

/// The name and whether it is a good one.
fn figure(e: &ast::Expr, bound: Option<&Expr>) -> Option<(String, bool)> {
    let good = |name: &str| Some((name.to_owned(), true));
    match &e.kind {
        ExprKind::Column(parts) => good(&parts.last()?.name),
        ExprKind::Field { field, .. } => good(&field.name),
        ExprKind::Subscript { arg, .. } | ExprKind::Collate { arg, .. } => figure(arg, bound),
        ExprKind::Call(call) => good(&call.name.name.name),
        ExprKind::NullIf(..) => good("nullif"),
        ExprKind::Cast { arg, ty } => match figure(arg, bound) {
            Some((name, true)) => Some((name, true)),
            _ => Some((ty.name.name.name.clone(), false)),
        },
        ExprKind::Exists(_) => good("exists"),
        ExprKind::ArraySubquery(_) | ExprKind::Array(_) => good("array"),
        ExprKind::Subquery(_) => match unwrapped(bound?) {
            Expr::Subquery(s) => good(&s.query.output.first()?.name),
            _ => None,
        },
        ExprKind::Case { otherwise, .. } => {
            let bound = match bound.map(unwrapped) {
                Some(Expr::Case { otherwise, .. }) => otherwise.as_deref(),
                _ => None,
            };
            match otherwise.as_deref().and_then(|e| figure(e, bound)) {
                Some((name, true)) => Some((name, true)),
                _ => Some(("case".to_owned(), false)),
            }
        }
        ExprKind::Row { .. } => good("row"),
        ExprKind::Coalesce(_) => good("coalesce"),
        ExprKind::MinMax { greatest, .. } => good(if *greatest { "greatest" } else { "least" }),
        ExprKind::SessionValue(value) => good(match value {
            SessionValue::CurrentDate => "current_date",
            SessionValue::CurrentTime(_) => "current_time",
            SessionValue::CurrentTimestamp(_) => "current_timestamp",
            SessionValue::LocalTime(_) => "localtime",
            SessionValue::LocalTimestamp(_) => "localtimestamp",
            SessionValue::CurrentRole => "current_role",
            SessionValue::CurrentUser => "current_user",
            SessionValue::User => "user",
            SessionValue::SessionUser => "session_user",
            SessionValue::CurrentCatalog => "current_catalog",
            SessionValue::CurrentSchema => "current_schema",
        }),
        _ => None,
    }
}
