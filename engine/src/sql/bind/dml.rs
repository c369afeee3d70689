//! INSERT, UPDATE, DELETE (`transformInsertStmt` and its neighbours).

use std::sync::Arc;

use super::binder::{Binder, Context, Item, Reach};
use super::query::{null, one_row, over, range_columns};
use super::walk;
use crate::catalog::relation::{Identity, LockMode, Relation, RelationKind};
use crate::ids::Oid;
use crate::sql::bound::{
    Assignment, Body, BoundStatement, ColumnRef, ConflictAction, Delete, Expr, Insert, OnConflict,
    OutputColumn, Query, Returning, Target, Update, Values,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ColumnTarget, ExprKind, Overriding, QueryBody, SetClause};
use crate::sql::front::location;
use crate::sql::rights;
use crate::types::acl::Privileges;
use crate::types::datum::SqlType;
use crate::types::{functions, oids};

type Result<T> = std::result::Result<T, SqlError>;

/// What an INSERT gives to one of its columns.
struct InsertColumns {
    /// Positions in the relation.
    positions: Vec<usize>,
    /// Where each is written, for errors; 0 where the list is implied.
    places: Vec<u32>,
    explicit: bool,
}

impl Binder<'_> {
    /// The table that a statement writes.
    fn target_relation(&mut self, name: &ast::ObjectName, verb: &str) -> Result<Arc<Relation>> {
        let relation = self.open_relation(name, LockMode::RowExclusive)?;
        let fault = match relation.kind {
            RelationKind::Table => return Ok(relation),
            RelationKind::Index => {
                return Err(SqlError::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("cannot open relation \"{}\"", relation.name),
                )
                .detail("This operation is not supported for indexes.")
                .at(name.at()));
            }
            RelationKind::Sequence => "sequence",
            RelationKind::View | RelationKind::Virtual => "view",
        };
        Err(if fault == "sequence" {
            SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("cannot change sequence \"{}\"", relation.name),
            )
        } else if relation.name == "pg_settings" && verb == "update" {
            SqlError::unsupported("updating \"pg_settings\" is not supported").hint("Use SET.")
        } else {
            SqlError::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot {verb} view \"{}\"", relation.name),
            )
        })
    }

    pub(super) fn bind_insert(&mut self, insert: &ast::Insert) -> Result<BoundStatement> {
        if let Some(with) = &insert.with {
            self.with_clause(with)?;
        }
        let relation = self.target_relation(&insert.table, "insert into")?;
        self.needs(relation.oid, Privileges::INSERT);
        if matches!(&insert.on_conflict, Some(c) if matches!(c.action, ast::ConflictDo::Update { .. }))
        {
            self.touch(relation.oid, LockMode::RowExclusive);
        }
        let mut columns = self.insert_columns(&relation, &insert.columns)?;
        let source = match &insert.source {
            None => {
                columns.positions.clear();
                self.default_values(&relation)?
            }
            Some(query) => self.insert_source(&relation, &mut columns, query, insert.overriding)?,
        };
        let disclosure = rights::disclosure(self.catalog, &relation, &columns.positions)?;
        let alias = insert
            .alias
            .as_ref()
            .map_or_else(|| relation.name.clone(), |a| a.name.clone());
        let on_conflict = match &insert.on_conflict {
            Some(clause) => Some(self.on_conflict(&relation, &alias, clause)?),
            None => None,
        };
        if let Some(clause) = &on_conflict {
            self.needs_for_conflict(&relation, insert, clause);
        }
        let returning = self.insert_returning(&relation, &alias, insert)?;
        if let Some(returning) = &returning {
            self.needs_to_read(&relation, returning.level, returned(Some(returning)));
        }
        let ctes = self.close_ctes();
        Ok(BoundStatement::Insert(Box::new(Insert {
            ctes,
            target: relation,
            disclosure,
            source,
            on_conflict,
            returning,
            default_values: insert.source.is_none(),
        })))
    }

    /// Whoever names arbiters or the row that is in the way reads it.
    fn needs_for_conflict(
        &mut self,
        relation: &Relation,
        insert: &ast::Insert,
        clause: &OnConflict,
    ) {
        if insert
            .on_conflict
            .as_ref()
            .is_some_and(|c| c.target.is_some())
        {
            self.needs(relation.oid, Privileges::SELECT);
        }
        if let ConflictAction::Update {
            level,
            assignments,
            filter,
        } = &clause.action
        {
            self.needs(relation.oid, Privileges::UPDATE);
            let read = assignments.iter().map(|a| &a.value).chain(filter);
            self.needs_to_read(relation, *level, read);
        }
    }

    /// SELECT on the target if one of the expressions reads its row, which is range 0 of `level`.
    fn needs_to_read<'e>(
        &mut self,
        relation: &Relation,
        level: usize,
        mut exprs: impl Iterator<Item = &'e Expr>,
    ) {
        if exprs.any(|e| walk::reads_target(e, level)) {
            self.needs(relation.oid, Privileges::SELECT);
        }
    }

    /// `checkInsertTargets`
    fn insert_columns(
        &self,
        relation: &Relation,
        targets: &[ColumnTarget],
    ) -> Result<InsertColumns> {
        if targets.is_empty() {
            let positions: Vec<usize> = relation.live_columns().map(|(i, _)| i).collect();
            return Ok(InsertColumns {
                places: vec![0; positions.len()],
                positions,
                explicit: false,
            });
        }
        let mut positions: Vec<usize> = Vec::with_capacity(targets.len());
        for target in targets {
            let position = target_column(relation, target)?;
            if positions.contains(&position) {
                return Err(SqlError::new(
                    state::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", target.name.name),
                )
                .at(target.name.at));
            }
            positions.push(position);
        }
        Ok(InsertColumns {
            positions,
            places: targets.iter().map(|t| t.name.at).collect(),
            explicit: true,
        })
    }

    /// A column's default, or NULL.
    pub(super) fn default_of(&mut self, relation: &Relation, position: usize) -> Result<Expr> {
        let column = &relation.columns[position];
        if column.dropped {
            // Nothing ever reads it.
            return Ok(null(SqlType::plain(oids::INT4)));
        }
        match &column.default {
            Some(text) => {
                let mut default = self.stored_default(text, &column.name, column.ty)?;
                if column.identity != Identity::No {
                    take_own_numbers(&mut default);
                }
                Ok(default)
            }
            None if column.identity != Identity::No => Err(SqlError::internal(format!(
                "no owned sequence found for column \"{}\"",
                column.name
            ))),
            None => Ok(null(column.ty)),
        }
    }

    pub(super) fn stored_default(&mut self, text: &str, column: &str, ty: SqlType) -> Result<Expr> {
        let parsed = crate::sql::front::parse_expression(text).map_err(SqlError::nowhere)?;
        // The default's names are its own: nothing of the statement around it.
        let scopes = std::mem::replace(&mut self.scopes, vec![Default::default()]);
        let open = std::mem::replace(&mut self.parameters.open, false);
        let bound = self.within(Context::Default, |b| {
            let expr = b.bind(&parsed)?;
            b.assign(expr, column, ty, 0)
        });
        self.parameters.open = open;
        self.scopes = scopes;
        bound.map_err(SqlError::nowhere)
    }

    fn default_values(&mut self, relation: &Relation) -> Result<Query> {
        let mut row = Vec::with_capacity(relation.columns.len());
        for i in 0..relation.columns.len() {
            row.push(self.default_of(relation, i)?);
        }
        Ok(one_row(targets(relation, row), row_output(relation)))
    }

    fn insert_source(
        &mut self,
        relation: &Arc<Relation>,
        columns: &mut InsertColumns,
        query: &ast::Query,
        overriding: Option<Overriding>,
    ) -> Result<Query> {
        let plain_values = query.with.is_none()
            && query.order_by.is_empty()
            && query.limit.is_none()
            && query.offset.is_none()
            && query.locking.is_empty();
        match &query.body {
            QueryBody::Values(rows) if plain_values => {
                self.insert_rows(relation, columns, rows, overriding)
            }
            _ => self.insert_query(relation, columns, query, overriding),
        }
    }

    fn insert_rows(
        &mut self,
        relation: &Relation,
        columns: &mut InsertColumns,
        rows: &[Vec<ast::Expr>],
        overriding: Option<Overriding>,
    ) -> Result<Query> {
        let width = rows[0].len();
        for row in rows {
            if row.len() != width {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "VALUES lists must all be the same length",
                )
                .at(location(&row[0])));
            }
        }
        let context = match rows.len() {
            1 => Context::InsertRow,
            _ => Context::Values,
        };
        let mut bound: Vec<Vec<Option<(Expr, u32)>>> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut out = Vec::with_capacity(width);
            for e in row {
                out.push(if matches!(e.kind, ExprKind::Default) {
                    None
                } else {
                    Some(self.within(context, |b| b.operand(e))?)
                });
            }
            bound.push(out);
        }
        check_width(columns, width, |i| location(&rows[0][i]))?;
        // A column that only ever gets DEFAULT does not count as given.
        let only_default: Vec<bool> = (0..width)
            .map(|i| bound.iter().all(|row| row[i].is_none()))
            .collect();
        let defaults = self.defaults_of(relation)?;
        let mut out = Vec::with_capacity(bound.len());
        for row in bound {
            let mut full = defaults.clone();
            for (i, value) in row.into_iter().enumerate() {
                let position = columns.positions[i];
                let column = &relation.columns[position];
                if !only_default[i] {
                    let given = value.is_some();
                    check_identity(column, overriding, given)?;
                }
                let Some((value, at)) = value else { continue };
                let value = self.assign(value, &column.name, column.ty, at)?;
                if overriding == Some(Overriding::User) && column.identity != Identity::No {
                    continue;
                }
                full[position] = value;
            }
            out.push(full);
        }
        if out.len() == 1 {
            let row = out.pop().expect("there is one");
            return Ok(one_row(targets(relation, row), row_output(relation)));
        }
        Ok(Query {
            body: Body::Values(Values {
                rows: out,
                types: relation.columns.iter().map(column_type).collect(),
            }),
            order_by: Vec::new(),
            limit: None,
            offset: None,
            ctes: Vec::new(),
            with_ties: false,
            locking: Vec::new(),
            output: row_output(relation),
        })
    }

    fn defaults_of(&mut self, relation: &Relation) -> Result<Vec<Expr>> {
        (0..relation.columns.len())
            .map(|i| self.default_of(relation, i))
            .collect()
    }

    fn insert_query(
        &mut self,
        relation: &Relation,
        columns: &mut InsertColumns,
        query: &ast::Query,
        overriding: Option<Overriding>,
    ) -> Result<Query> {
        let places: Vec<u32> = match &query.body {
            QueryBody::Select(s) => s.targets.iter().map(|t| location(&t.expr)).collect(),
            QueryBody::Values(rows) => rows[0].iter().map(location).collect(),
            QueryBody::SetOperation { .. } => Vec::new(),
        };
        // Columns that a star brought stand where it stands.
        let star = match &query.body {
            QueryBody::Select(s) => s
                .targets
                .iter()
                .position(|t| matches!(t.expr.kind, ExprKind::Star(_))),
            _ => None,
        };
        let place = |i: usize| {
            let i = star.map_or(i, |s| i.min(s));
            places.get(i).copied().unwrap_or(query.at)
        };
        let mut source = self.bind_query(query, false)?;
        check_width(columns, source.output.len(), place)?;
        self.resolve_unknown(relation, columns, &mut source, place)?;
        let mut full = self.defaults_of(relation)?;
        for (i, output) in source.output.iter().enumerate() {
            let position = columns.positions[i];
            let column = &relation.columns[position];
            check_identity(column, overriding, true)?;
            let value = Expr::Column(ColumnRef {
                range: 0,
                column: i,
                ty: output.ty,
            });
            let value = self.assign(value, &column.name, column.ty, place(i))?;
            if overriding == Some(Overriding::User) && column.identity != Identity::No {
                continue;
            }
            full[position] = value;
        }
        let names = range_columns(&source);
        Ok(over(
            source,
            names,
            targets(relation, full),
            row_output(relation),
        ))
    }

    /// A select list's literals without a type take the column's.
    fn resolve_unknown(
        &mut self,
        relation: &Relation,
        columns: &InsertColumns,
        source: &mut Query,
        place: impl Fn(usize) -> u32,
    ) -> Result<()> {
        for i in 0..source.output.len() {
            if source.output[i].ty.oid != oids::UNKNOWN {
                continue;
            }
            let ty = relation.columns[columns.positions[i]].ty;
            let sorted = source.order_by.iter().any(|s| s.target == i);
            let target = if sorted {
                SqlType::plain(oids::TEXT)
            } else {
                ty
            };
            match &mut source.body {
                Body::Select(select) => {
                    let expr = std::mem::replace(&mut select.targets[i].expr, Expr::Or(Vec::new()));
                    let name = relation.columns[columns.positions[i]].name.clone();
                    select.targets[i].expr = self.assign(expr, &name, target, place(i))?;
                    source.output[i].ty = select.targets[i].expr.ty();
                }
                Body::Values(values) => {
                    for row in &mut values.rows {
                        let expr = std::mem::replace(&mut row[i], Expr::Or(Vec::new()));
                        row[i] = self.implicit(expr, target.oid, place(i))?;
                    }
                    values.types[i] = SqlType::plain(target.oid);
                    source.output[i].ty = SqlType::plain(target.oid);
                }
                Body::SetOperation(_) => {}
            }
        }
        Ok(())
    }

    fn insert_returning(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        insert: &ast::Insert,
    ) -> Result<Option<Returning>> {
        if insert.returning.is_empty() {
            return Ok(None);
        }
        let (returning, _) = self.level(|b| {
            let range = b.table_range(relation.clone(), alias.to_owned());
            let schema = insert.alias.is_none().then(|| relation.schema_name.clone());
            let item = b.item_of(range, &[], schema);
            b.scope().items = vec![item];
            b.returning(&insert.returning)
        })?;
        Ok(Some(returning))
    }

    /// RETURNING over the level's names.
    pub(super) fn returning(&mut self, items: &[ast::SelectItem]) -> Result<Returning> {
        let mut list = self.within(Context::Returning, |b| b.bind_targets(items))?;
        self.settle_targets(&mut list)?;
        let output = self.output_of(&list);
        Ok(Returning {
            level: self.level_number(),
            targets: list.targets,
            output,
        })
    }

    /// Opens the statement's own level with the target as range 0.
    fn target_level(&mut self, relation: &Arc<Relation>, alias: Option<&ast::Ident>) -> Item {
        let shown = alias.map_or_else(|| relation.name.clone(), |a| a.name.clone());
        let range = self.table_range(relation.clone(), shown);
        let schema = alias.is_none().then(|| relation.schema_name.clone());
        self.item_of(range, &[], schema)
    }

    /// FROM of UPDATE or USING of DELETE, with the target's names beside it.
    fn other_tables(
        &mut self,
        mut target: Item,
        refs: &[ast::TableRef],
    ) -> Result<Vec<crate::sql::bound::FromItem>> {
        target.reach = Reach::Changed;
        self.scope().items = vec![target];
        self.bind_from(refs)
    }

    pub(super) fn bind_update(&mut self, update: &ast::Update) -> Result<BoundStatement> {
        if let Some(with) = &update.with {
            self.with_clause(with)?;
        }
        if let Some(cursor) = &update.current_of {
            return Err(SqlError::unsupported("WHERE CURRENT OF is not supported").at(cursor.at));
        }
        let relation = self.target_relation(&update.table, "update")?;
        self.needs(relation.oid, Privileges::UPDATE);
        let item = self.target_level(&relation, update.alias.as_ref());
        let from = self.other_tables(item, &update.from)?;
        let filter = match &update.filter {
            Some(e) => Some(self.within(Context::Where, |b| b.bind_boolean(e, "WHERE"))?),
            None => None,
        };
        let returning = if update.returning.is_empty() {
            None
        } else {
            Some(self.returning(&update.returning)?)
        };
        let assignments = self.assignments(&relation, &update.set, Context::UpdateSet)?;
        let written: Vec<usize> = assignments.iter().map(|a| a.column).collect();
        let disclosure = rights::disclosure(self.catalog, &relation, &written)?;
        let read = assignments.iter().map(|a| &a.value).chain(&filter);
        let level = self.level_number();
        self.needs_to_read(&relation, level, read.chain(returned(returning.as_ref())));
        let ctes = self.close_ctes();
        let scope = std::mem::take(self.scope());
        Ok(BoundStatement::Update(Box::new(Update {
            ctes,
            level,
            target: relation,
            disclosure,
            ranges: scope.ranges,
            from,
            filter,
            assignments,
            returning,
        })))
    }

    pub(super) fn bind_delete(&mut self, delete: &ast::Delete) -> Result<BoundStatement> {
        if let Some(with) = &delete.with {
            self.with_clause(with)?;
        }
        if let Some(cursor) = &delete.current_of {
            return Err(SqlError::unsupported("WHERE CURRENT OF is not supported").at(cursor.at));
        }
        let relation = self.target_relation(&delete.table, "delete from")?;
        self.needs(relation.oid, Privileges::DELETE);
        let item = self.target_level(&relation, delete.alias.as_ref());
        let using = self.other_tables(item, &delete.using)?;
        let filter = match &delete.filter {
            Some(e) => Some(self.within(Context::Where, |b| b.bind_boolean(e, "WHERE"))?),
            None => None,
        };
        let returning = if delete.returning.is_empty() {
            None
        } else {
            Some(self.returning(&delete.returning)?)
        };
        let read = filter.iter().chain(returned(returning.as_ref()));
        let level = self.level_number();
        self.needs_to_read(&relation, level, read);
        let ctes = self.close_ctes();
        let scope = std::mem::take(self.scope());
        Ok(BoundStatement::Delete(Box::new(Delete {
            ctes,
            level,
            target: relation,
            ranges: scope.ranges,
            using,
            filter,
            returning,
        })))
    }

    /// SET of UPDATE and of ON CONFLICT.
    pub(super) fn assignments(
        &mut self,
        relation: &Relation,
        clauses: &[SetClause],
        context: Context,
    ) -> Result<Vec<Assignment>> {
        let mut out: Vec<Assignment> = Vec::new();
        for clause in clauses {
            let values = self.set_values(clause, context)?;
            for (target, value) in clause.targets.iter().zip(values) {
                let position = relation
                    .column_named(&target.name.name)
                    .ok_or_else(|| missing_target(relation, &target.name))?;
                refuse_indirection(target)?;
                let column = &relation.columns[position];
                let value = match value {
                    None => {
                        let default = self.default_of(relation, position)?;
                        (default, 0)
                    }
                    Some(value) => {
                        if column.identity == Identity::Always {
                            return Err(SqlError::new(
                                state::GENERATED_ALWAYS,
                                format!(
                                    "column \"{}\" can only be updated to DEFAULT",
                                    column.name
                                ),
                            )
                            .detail(format!(
                                "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                                column.name
                            )));
                        }
                        value
                    }
                };
                let value = self.assign(value.0, &column.name, column.ty, value.1)?;
                if out.iter().any(|a| a.column == position) {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        format!("multiple assignments to same column \"{}\"", column.name),
                    ));
                }
                out.push(Assignment {
                    column: position,
                    value,
                });
            }
        }
        Ok(out)
    }

    /// A value for each target of one SET clause; `None` is DEFAULT.
    fn set_values(
        &mut self,
        clause: &SetClause,
        context: Context,
    ) -> Result<Vec<Option<(Expr, u32)>>> {
        let one = |b: &mut Self, e: &ast::Expr| -> Result<Option<(Expr, u32)>> {
            if matches!(e.kind, ExprKind::Default) {
                return Ok(None);
            }
            b.within(context, |b| b.operand(e)).map(Some)
        };
        if !clause.multiple {
            return Ok(vec![one(self, &clause.value)?]);
        }
        match &clause.value.kind {
            ExprKind::Row { fields, .. } => {
                let mut values = Vec::with_capacity(fields.len());
                for field in fields {
                    if matches!(field.kind, ExprKind::Star(_) | ExprKind::FieldStar(_)) {
                        let field = std::slice::from_ref(field);
                        let at = clause.value.at;
                        let columns = self.within(context, |b| b.row_operands(field, at))?;
                        values.extend(columns.into_iter().map(Some));
                    } else {
                        values.push(one(self, field)?);
                    }
                }
                if values.len() != clause.targets.len() {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "number of columns does not match number of values",
                    )
                    .at(clause.value.at));
                }
                Ok(values)
            }
            ExprKind::Subquery(query) => {
                let at = clause.value.at;
                let columns = self.within(context, |b| b.columns_of_query(query, at))?;
                if columns.len() != clause.targets.len() {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "number of columns does not match number of values",
                    )
                    .at(at));
                }
                Ok(columns.into_iter().map(|e| Some((e, at))).collect())
            }
            _ => Err(SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
            )
            .at(clause.value.at)),
        }
    }
}

fn returned(returning: Option<&Returning>) -> impl Iterator<Item = &Expr> {
    returning
        .into_iter()
        .flat_map(|r| r.targets.iter().map(|t| &t.expr))
}

/// An identity column's numbers are not asked for as its user but as its table.
fn take_own_numbers(default: &mut Expr) {
    const NEXTVAL: Oid = Oid::new(1574);
    if let Expr::Call { function, .. } = default
        && function.oid == NEXTVAL
        && let Some(own) = functions::by_oid(functions::NEXTVAL_OF_IDENTITY)
    {
        *function = own;
    }
    walk::parts_mut(default, &mut take_own_numbers);
}

/// There is a column for each value and, if they are listed, a value for each column. Only those with a value stay.
fn check_width(
    columns: &mut InsertColumns,
    given: usize,
    place: impl Fn(usize) -> u32,
) -> Result<()> {
    let wanted = columns.positions.len();
    if given > wanted {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        )
        .at(place(wanted)));
    }
    if columns.explicit && given < wanted {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            "INSERT has more target columns than expressions",
        )
        .at(columns.places[given]));
    }
    columns.positions.truncate(given);
    Ok(())
}

/// A value for an identity column. Manual, INSERT, OVERRIDING.
fn check_identity(
    column: &crate::catalog::relation::Column,
    overriding: Option<Overriding>,
    given: bool,
) -> Result<()> {
    if column.identity == Identity::Always && overriding.is_none() && given {
        return Err(SqlError::new(
            state::GENERATED_ALWAYS,
            format!(
                "cannot insert a non-DEFAULT value into column \"{}\"",
                column.name
            ),
        )
        .detail(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            column.name
        ))
        .hint("Use OVERRIDING SYSTEM VALUE to override."));
    }
    Ok(())
}

fn refuse_indirection(target: &ColumnTarget) -> Result<()> {
    if target.indirection.is_empty() {
        return Ok(());
    }
    Err(
        SqlError::unsupported("assigning to a part of a column is not supported")
            .hint("Assign the whole value.")
            .at(target.name.at),
    )
}

fn missing_target(relation: &Relation, name: &ast::Ident) -> SqlError {
    if super::names::system_column(&name.name).is_some() {
        return SqlError::unsupported(format!("cannot assign to system column \"{}\"", name.name))
            .at(name.at);
    }
    SqlError::new(
        state::UNDEFINED_COLUMN,
        format!(
            "column \"{}\" of relation \"{}\" does not exist",
            name.name, relation.name
        ),
    )
    .at(name.at)
}

fn target_column(relation: &Relation, target: &ColumnTarget) -> Result<usize> {
    let position = relation
        .column_named(&target.name.name)
        .ok_or_else(|| missing_target(relation, &target.name))?;
    refuse_indirection(target)?;
    Ok(position)
}

fn column_type(column: &crate::catalog::relation::Column) -> SqlType {
    if column.dropped {
        SqlType::plain(oids::INT4)
    } else {
        column.ty
    }
}

fn targets(relation: &Relation, row: Vec<Expr>) -> Vec<Target> {
    relation
        .columns
        .iter()
        .zip(row)
        .map(|(column, expr)| Target {
            expr,
            name: column.name.clone(),
        })
        .collect()
}

fn row_output(relation: &Relation) -> Vec<OutputColumn> {
    relation
        .columns
        .iter()
        .map(|column| OutputColumn {
            name: column.name.clone(),
            ty: column_type(column),
            table: Oid::INVALID,
            attribute: 0,
        })
        .collect()
}
