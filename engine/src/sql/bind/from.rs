//! FROM: ranges, joins, merged columns, row locks (`transformFromClause`).
//!
//! While FROM is analyzed its names are kept beside those that expressions see. Functions and subqueries after LATERAL see
//! them, as far as they stand to the left: a function as columns of its own level, a subquery as those of a level around it.

use super::binder::{Binder, Context, Item, ItemColumn, Reach};
use super::resolve;
use super::types::type_text;
use crate::catalog::relation::{LockMode, Relation, RelationKind};
use crate::catalog::schema::is_absent;
use crate::sql::bound::{Expr, FromItem, Join, JoinKind, RangeSource, RowLockMode, RowLocking};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    self, Alias, DistinctClause, Ident, JoinCondition, JoinRef, JoinType, ObjectName, TableRef,
};
use crate::types::acl::Privileges;
use crate::types::datum::SqlType;
use std::sync::Arc;

type Result<T> = std::result::Result<T, SqlError>;

/// A FROM item and the names it brings.
pub(super) type Part = (FromItem, Vec<Item>);

pub fn lock_name(mode: RowLockMode) -> &'static str {
    match mode {
        RowLockMode::KeyShare => "FOR KEY SHARE",
        RowLockMode::Share => "FOR SHARE",
        RowLockMode::NoKeyUpdate => "FOR NO KEY UPDATE",
        RowLockMode::Update => "FOR UPDATE",
    }
}

impl Binder<'_> {
    /// All of FROM; its names are visible from here on.
    pub(super) fn bind_from(&mut self, refs: &[TableRef]) -> Result<Vec<FromItem>> {
        let mut from = Vec::with_capacity(refs.len());
        let scope = self.scope();
        scope.beside = std::mem::take(&mut scope.items);
        for r in refs {
            let (item, new) = self.from_item(r)?;
            let names = &mut self.scope().beside;
            check_conflicts(names, &new)?;
            names.extend(new);
            from.push(item);
        }
        let scope = self.scope();
        scope.items = std::mem::take(&mut scope.beside);
        set_reach(&mut scope.items, Reach::Yes);
        Ok(from)
    }

    /// Runs `f` on what may name the items to its left.
    pub(super) fn beside<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.scope().sees_beside, true);
        let out = f(self);
        self.scope().sees_beside = before;
        out
    }

    fn from_item(&mut self, r: &TableRef) -> Result<Part> {
        match r {
            TableRef::Table {
                name,
                alias,
                sampled,
                ..
            } => {
                if *sampled {
                    return Err(SqlError::unsupported("TABLESAMPLE is not supported").at(name.at()));
                }
                self.from_table(name, alias.as_ref())
            }
            TableRef::Subquery {
                query,
                alias,
                lateral,
                at,
            } => {
                let Some(alias) = alias else {
                    let what = match query.body {
                        ast::QueryBody::Values(_) => "VALUES in FROM must have an alias",
                        _ => "subquery in FROM must have an alias",
                    };
                    let example = match query.body {
                        ast::QueryBody::Values(_) => "For example, FROM (VALUES ...) [AS] foo.",
                        _ => "For example, FROM (SELECT ...) [AS] foo.",
                    };
                    return Err(SqlError::new(state::SYNTAX_ERROR, what)
                        .hint(example)
                        .at(*at));
                };
                let query = self.within(Context::FromSubquery, |b| match *lateral {
                    true => b.beside(|b| b.bind_subquery(query)),
                    false => b.bind_subquery(query),
                })?;
                let range = self.subquery_range(alias.name.name.clone(), query);
                self.named_part(range, Some(alias), None)
            }
            TableRef::Functions(functions) => self.from_functions(functions),
            TableRef::Join(join) => self.from_join(join),
            TableRef::Unsupported { what, at } => {
                Err(SqlError::unsupported(format!("{what} is not supported")).at(*at))
            }
        }
    }

    /// The relation of that name, or 42P01 with PostgreSQL's wording; position at the name.
    pub(super) fn open_relation(
        &mut self,
        name: &ObjectName,
        mode: LockMode,
    ) -> Result<Arc<Relation>> {
        if let Some(database) = &name.database {
            let parts: Vec<Ident> = [Some(database), name.schema.as_ref(), Some(&name.name)]
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            self.check_database(&database.name, &parts, name.at())?;
        }
        let found = self
            .catalog
            .relation_named(name.schema_name(), &name.name.name);
        let found = match found {
            Ok(found) => found,
            Err(crate::catalog::view::CatalogError::NoSchema(_)) => None,
            Err(e) => return Err(SqlError::from(e).at(name.at())),
        };
        match found {
            Some(relation) => {
                self.touch(relation.oid, mode);
                Ok(relation)
            }
            None if is_absent(name.schema_name(), &name.name.name) => Err(SqlError::unsupported(
                format!("\"{}\" is not implemented", name.name.name),
            )
            .at(name.at())),
            None => Err(SqlError::new(
                state::UNDEFINED_TABLE,
                match &name.schema {
                    Some(s) => format!("relation \"{}.{}\" does not exist", s.name, name.name.name),
                    None => format!("relation \"{}\" does not exist", name.name.name),
                },
            )
            .at(name.at())),
        }
    }

    fn from_table(&mut self, name: &ObjectName, alias: Option<&Alias>) -> Result<Part> {
        if name.schema.is_none()
            && let Some(part) = self.from_cte(&name.name, alias)?
        {
            return Ok(part);
        }
        let relation = self.open_relation(name, LockMode::AccessShare)?;
        match relation.kind {
            RelationKind::Index => {
                return Err(SqlError::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("cannot open relation \"{}\"", relation.name),
                )
                .detail("This operation is not supported for indexes.")
                .at(name.at()));
            }
            RelationKind::View => {
                return Err(SqlError::unsupported("views are not supported").at(name.at()));
            }
            RelationKind::Table | RelationKind::Sequence | RelationKind::Virtual => {}
        }
        self.needs(relation.oid, Privileges::SELECT);
        let schema = relation.schema_name.clone();
        let shown = alias.map_or_else(|| relation.name.clone(), |a| a.name.name.clone());
        let range = self.read_range(relation, shown);
        let schema = alias.is_none().then_some(schema);
        self.named_part(range, alias, schema)
    }

    fn from_cte(&mut self, name: &Ident, alias: Option<&Alias>) -> Result<Option<Part>> {
        let shown = alias.map_or(name, |a| &a.name);
        match self.cte_range(name, &shown.name)? {
            Some(range) => self.named_part(range, alias, None).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn named_part(
        &mut self,
        range: usize,
        alias: Option<&Alias>,
        schema: Option<String>,
    ) -> Result<Part> {
        let names: Vec<String> = alias
            .map(|a| a.columns.iter().map(|c| c.name.clone()).collect())
            .unwrap_or_default();
        let item = self.item_of(range, &names, schema);
        if names.len() > item.columns.len() {
            let shown = &self.scope_ref().ranges[range].alias;
            return Err(SqlError::new(
                state::INVALID_COLUMN_REFERENCE,
                format!(
                    "table \"{shown}\" has {} columns available but {} columns specified",
                    item.columns.len(),
                    names.len()
                ),
            ));
        }
        // A range that renames its columns shows the new names to whoever reads them there.
        for (column, name) in item.columns.iter().zip(&names) {
            if let Expr::Column(c) = &column.expr {
                self.scope().ranges[range].columns[c.column]
                    .name
                    .clone_from(name);
            }
        }
        Ok((FromItem::Range(range), vec![item]))
    }

    fn from_join(&mut self, join: &JoinRef) -> Result<Part> {
        let (kind, reach) = match join.kind {
            JoinType::Cross | JoinType::Inner => (JoinKind::Inner, Reach::Yes),
            JoinType::Left => (JoinKind::Left, Reach::Yes),
            JoinType::Right => (JoinKind::Right, Reach::OtherSide),
            JoinType::Full => (JoinKind::Full, Reach::OtherSide),
        };
        let (left, mut left_items) = self.from_item(&join.left)?;
        let before = self.scope_ref().beside.len();
        set_reach(&mut left_items, reach);
        self.scope().beside.append(&mut left_items);
        let (right, mut right_items) = self.from_item(&join.right)?;
        left_items = self.scope().beside.split_off(before);
        set_reach(&mut left_items, Reach::Yes);
        check_conflicts(&left_items, &right_items)?;
        if kind != JoinKind::Inner {
            self.scope().has_outer_join = true;
        }
        let left_columns = visible_columns(&left_items);
        let right_columns = visible_columns(&right_items);
        let using: Vec<Ident> = match &join.condition {
            JoinCondition::Using { columns, .. } => columns.clone(),
            JoinCondition::Natural => natural_columns(&left_columns, &right_columns, join.at),
            _ => Vec::new(),
        };
        let (merged, mut on) = self.merge(&using, &left_columns, &right_columns, kind, join.at)?;
        let is_using = |name: &str| using.iter().any(|u| u.name == name);
        let mut columns = merged.clone();
        columns.extend(
            left_columns
                .into_iter()
                .chain(right_columns)
                .filter(|c| !is_using(&c.name)),
        );
        if let JoinCondition::On(e) = &join.condition {
            on = Some(self.join_condition(e, &left_items, &right_items)?);
        }
        for item in left_items.iter_mut().chain(&mut right_items) {
            item.columns_visible = false;
        }
        let mut items = left_items;
        items.append(&mut right_items);
        if let JoinCondition::Using {
            alias: Some(alias), ..
        } = &join.condition
        {
            items.push(Item {
                name: Some(alias.name.clone()),
                schema: None,
                columns: merged,
                range: None,
                table_visible: true,
                columns_visible: false,
                reach: Reach::Yes,
            });
        }
        if let Some(alias) = &join.alias {
            rename(&mut columns, alias)?;
            // The alias hides everything inside.
            items.clear();
        }
        items.push(Item {
            name: join.alias.as_ref().map(|a| a.name.name.clone()),
            schema: None,
            columns,
            range: None,
            table_visible: join.alias.is_some(),
            columns_visible: true,
            reach: Reach::Yes,
        });
        let item = FromItem::Join(Box::new(Join {
            kind,
            left,
            right,
            on,
        }));
        Ok((item, items))
    }

    /// ON sees both sides, and nothing else of this FROM.
    fn join_condition(&mut self, e: &ast::Expr, left: &[Item], right: &[Item]) -> Result<Expr> {
        let both = left.iter().chain(right).cloned().collect();
        let before = std::mem::replace(&mut self.scope().items, both);
        let on = self.within(Context::JoinOn, |b| b.bind_boolean(e, "JOIN/ON"));
        self.scope().items = before;
        on
    }

    /// The merged columns of USING and the condition that they mean.
    fn merge(
        &mut self,
        using: &[Ident],
        left: &[ItemColumn],
        right: &[ItemColumn],
        kind: JoinKind,
        at: u32,
    ) -> Result<(Vec<ItemColumn>, Option<Expr>)> {
        let mut merged: Vec<ItemColumn> = Vec::with_capacity(using.len());
        let mut conditions = Vec::with_capacity(using.len());
        for name in using {
            if merged.iter().any(|c| c.name == name.name) {
                return Err(SqlError::new(
                    state::DUPLICATE_COLUMN,
                    format!(
                        "column name \"{}\" appears more than once in USING clause",
                        name.name
                    ),
                ));
            }
            let l = using_column(left, name, "left")?;
            let r = using_column(right, name, "right")?;
            conditions.push(self.operator_by_name("=", (l.clone(), at), (r.clone(), at), at)?);
            merged.push(ItemColumn {
                name: name.name.clone(),
                expr: self.merged_column(l, r, kind, name)?,
            });
        }
        let on = (!conditions.is_empty()).then(|| super::operator::joined(conditions, false));
        Ok((merged, on))
    }

    /// `buildMergedJoinVar`
    fn merged_column(
        &mut self,
        left: Expr,
        right: Expr,
        kind: JoinKind,
        name: &Ident,
    ) -> Result<Expr> {
        let types = [left.ty().oid, right.ty().oid];
        let common = resolve::common_type(&types).map_err(|(a, b)| {
            SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "JOIN/USING types {} and {} cannot be matched",
                    type_text(SqlType::plain(a)),
                    type_text(SqlType::plain(b))
                ),
            )
            .at(name.at)
        })?;
        let modifier = if left.ty() == right.ty() {
            left.ty().modifier
        } else {
            -1
        };
        let plain = |e: &Expr| e.ty().oid == common;
        let (prefers_left, prefers_right) = (plain(&left), plain(&right));
        let l = self.to_common(left, common, "JOIN/USING", name.at)?;
        let r = self.to_common(right, common, "JOIN/USING", name.at)?;
        Ok(match kind {
            JoinKind::Inner if prefers_left || !prefers_right => l,
            JoinKind::Inner => r,
            JoinKind::Left => l,
            JoinKind::Right => r,
            JoinKind::Full => Expr::Coalesce(
                vec![l, r],
                SqlType {
                    oid: common,
                    modifier,
                },
            ),
        })
    }

    /// FOR UPDATE and its relatives (`transformLockingClause`).
    pub(super) fn locking(
        &mut self,
        query: &ast::Query,
        select: &ast::Select,
    ) -> Result<Vec<RowLocking>> {
        let mut out: Vec<RowLocking> = Vec::new();
        for clause in &query.locking {
            let name = lock_name(clause.mode);
            let refused = if select.distinct != DistinctClause::No {
                Some("DISTINCT clause")
            } else if !select.group_by.is_empty() {
                Some("GROUP BY clause")
            } else if select.having.is_some() {
                Some("HAVING clause")
            } else if !self.scope_ref().aggregates.is_empty() {
                Some("aggregate functions")
            } else if self.scope_ref().has_windows {
                Some("window functions")
            } else if self.scope_ref().calls_sets || !self.scope_ref().set_ranges.is_empty() {
                Some("set-returning functions in the target list")
            } else {
                None
            };
            if let Some(what) = refused {
                return Err(SqlError::unsupported(format!(
                    "{name} is not allowed with {what}"
                )));
            }
            for range in self.locked_ranges(clause)? {
                self.lock_range(range, clause, &mut out)?;
            }
        }
        Ok(out)
    }

    fn locked_ranges(&self, clause: &ast::LockingClause) -> Result<Vec<usize>> {
        let scope = self.scope_ref();
        if clause.tables.is_empty() {
            return Ok((0..scope.ranges.len())
                .filter(|i| {
                    matches!(
                        scope.ranges[*i].source,
                        RangeSource::Table(_) | RangeSource::Subquery(_)
                    )
                })
                .collect());
        }
        let name = lock_name(clause.mode);
        let mut out = Vec::new();
        for table in &clause.tables {
            if table.schema.is_some() {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("{name} must specify unqualified relation names"),
                )
                .at(table.at()));
            }
            let found = scope
                .ranges
                .iter()
                .position(|r| r.alias == table.name.name)
                .ok_or_else(|| {
                    SqlError::new(
                        state::UNDEFINED_TABLE,
                        format!(
                            "relation \"{}\" in {name} clause not found in FROM clause",
                            table.name.name
                        ),
                    )
                    .at(table.at())
                })?;
            match scope.ranges[found].source {
                RangeSource::Table(_) | RangeSource::Subquery(_) => out.push(found),
                RangeSource::Function { .. } => {
                    return Err(SqlError::unsupported(format!(
                        "{name} cannot be applied to a function"
                    ))
                    .at(table.at()));
                }
                RangeSource::Values(_) => {
                    return Err(SqlError::unsupported(format!(
                        "{name} cannot be applied to VALUES"
                    ))
                    .at(table.at()));
                }
                RangeSource::Cte { .. } => {
                    return Err(SqlError::unsupported(format!(
                        "{name} cannot be applied to a WITH query"
                    ))
                    .at(table.at()));
                }
                RangeSource::Virtual(_) => {
                    return Err(SqlError::unsupported(format!(
                        "{name} cannot be applied to a system view"
                    ))
                    .at(table.at()));
                }
            }
        }
        Ok(out)
    }

    fn lock_range(
        &mut self,
        range: usize,
        clause: &ast::LockingClause,
        out: &mut Vec<RowLocking>,
    ) -> Result<()> {
        let relation = match &self.scope_ref().ranges[range].source {
            RangeSource::Table(relation) => relation.oid,
            _ => {
                return Err(SqlError::unsupported(format!(
                    "{} of a subquery in FROM is not supported",
                    lock_name(clause.mode)
                ))
                .hint("Put the clause into the subquery.")
                .at(clause.at));
            }
        };
        self.touch(relation, LockMode::RowShare);
        self.needs(relation, Privileges::UPDATE);
        // Several clauses for one table: the strongest lock, and the least patient wait.
        match out.iter_mut().find(|l| l.range == range) {
            Some(old) => {
                old.mode = old.mode.max(clause.mode);
                if rank(clause.wait) > rank(old.wait) {
                    old.wait = clause.wait;
                }
            }
            None => out.push(RowLocking {
                range,
                mode: clause.mode,
                wait: clause.wait,
            }),
        }
        Ok(())
    }
}

fn rank(wait: crate::sql::bound::LockWait) -> u8 {
    use crate::sql::bound::LockWait;
    match wait {
        LockWait::Block => 0,
        LockWait::SkipLocked => 1,
        LockWait::NoWait => 2,
    }
}

/// `setNamespaceLateralState`
fn set_reach(items: &mut [Item], reach: Reach) {
    for item in items {
        item.reach = reach;
    }
}

/// `checkNameSpaceConflicts`
fn check_conflicts(old: &[Item], new: &[Item]) -> Result<()> {
    for n in new.iter().filter(|i| i.table_visible) {
        for o in old.iter().filter(|i| i.table_visible) {
            let different_tables = match (&n.schema, &o.schema) {
                (Some(a), Some(b)) => a != b,
                _ => false,
            };
            if n.name.is_some() && n.name == o.name && !different_tables {
                return Err(SqlError::new(
                    state::DUPLICATE_ALIAS,
                    format!(
                        "table name \"{}\" specified more than once",
                        n.name.as_deref().unwrap_or_default()
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn visible_columns(items: &[Item]) -> Vec<ItemColumn> {
    items
        .iter()
        .filter(|i| i.columns_visible)
        .flat_map(|i| i.columns.iter().cloned())
        .collect()
}

fn natural_columns(left: &[ItemColumn], right: &[ItemColumn], at: u32) -> Vec<Ident> {
    let mut out: Vec<Ident> = Vec::new();
    for c in left {
        if right.iter().any(|r| r.name == c.name) && !out.iter().any(|o| o.name == c.name) {
            out.push(Ident {
                name: c.name.clone(),
                at,
            });
        }
    }
    out
}

fn using_column(columns: &[ItemColumn], name: &Ident, side: &str) -> Result<Expr> {
    let mut found = columns.iter().filter(|c| c.name == name.name);
    match (found.next(), found.next()) {
        (Some(c), None) => Ok(c.expr.clone()),
        (Some(_), Some(_)) => Err(SqlError::new(
            state::AMBIGUOUS_COLUMN,
            format!(
                "common column name \"{}\" appears more than once in {side} table",
                name.name
            ),
        )),
        (None, _) => Err(SqlError::new(
            state::UNDEFINED_COLUMN,
            format!(
                "column \"{}\" specified in USING clause does not exist in {side} table",
                name.name
            ),
        )),
    }
}

fn rename(columns: &mut [ItemColumn], alias: &Alias) -> Result<()> {
    if alias.columns.len() > columns.len() {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!(
                "column alias list for \"{}\" has too many entries",
                alias.name.name
            ),
        )
        .at(alias.name.at));
    }
    for (column, name) in columns.iter_mut().zip(&alias.columns) {
        column.name.clone_from(&name.name);
    }
    Ok(())
}
