//! ALTER TABLE's actions on constraints: the rows that are there are checked first.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::catalog::rows::{CatalogRow, ConstraintRow, DescriptionRow, IndexRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::Expr as Bound;
use crate::sql::ddl::Result;
use crate::sql::ddl::constraint::{self, Asked};
use crate::sql::ddl::cx::{DdlCx, by, oid_key};
use crate::sql::ddl::drop::drop_index;
use crate::sql::ddl::foreign_key;
use crate::sql::ddl::index;
use crate::sql::ddl::rename::rename_relation;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::{Test, slot_expr};
use crate::sql::front::ast::{ColumnDefinition, Ident, TableConstraint};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::column::{check_no_nulls, set_not_null};
use super::rows::{change_class, each_row};

pub fn no_constraint(name: &str, table: &Relation) -> SqlError {
    SqlError::new(
        state::UNDEFINED_OBJECT,
        format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            table.name
        ),
    )
}

pub(super) async fn add_constraint(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    c: &TableConstraint,
) -> Result<()> {
    match constraint::of_table(c)? {
        Asked::Check(check) => add_check(cx, table, &check).await,
        Asked::Key(key) => add_key(cx, table, &key).await,
        Asked::UsingIndex { primary, index } => add_index_key(cx, table, c, primary, index).await,
        Asked::References(_) => Err(SqlError::internal("a foreign key that alter() should add")),
    }
}

/// FOREIGN KEY; gives it if rows that are there have to be looked at.
pub(super) async fn add_reference(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    c: &TableConstraint,
) -> Result<Option<Oid>> {
    let Asked::References(new) = constraint::of_table(c)? else {
        return Ok(None);
    };
    let valid = !new.not_valid;
    let made = foreign_key::add(cx, table, &new, valid).await?;
    Ok(valid.then_some(made))
}

/// REFERENCES in the definition of a column that was added. Without a default it refers to nothing in any row.
pub(super) async fn add_column_references(
    cx: &mut DdlCx<'_>,
    table: Oid,
    d: &ColumnDefinition,
) -> Result<Vec<Oid>> {
    let mut unchecked = Vec::new();
    for new in foreign_key::of_column(d) {
        let table = cx.relation(table)?;
        let made = foreign_key::add(cx, &table, &new, true).await?;
        cx.step()?;
        let position = table.column_named(&d.name.name);
        if position.is_some_and(|n| table.columns[n].default.is_some()) {
            unchecked.push(made);
        }
    }
    Ok(unchecked)
}

pub(super) async fn add_key(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    key: &constraint::NewKey,
) -> Result<()> {
    if key.primary {
        refuse_second_primary_key(table)?;
        let mut nullable = Vec::new();
        for name in &key.columns {
            let position = table.column_named(&name.name).ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_COLUMN,
                    format!("column \"{}\" named in key does not exist", name.name),
                )
                .at(key.at)
            })?;
            if !table.columns[position].not_null {
                nullable.push(position);
            }
        }
        forbid_nulls(cx, table, nullable).await?;
    }
    let table = cx.relation(table.oid)?;
    index::create_key(cx, &table, key, &mut Vec::new()).await
}

fn refuse_second_primary_key(table: &Relation) -> Result<()> {
    if table.primary_key().is_none() {
        return Ok(());
    }
    Err(SqlError::new(
        state::INVALID_TABLE_DEFINITION,
        format!(
            "multiple primary keys for table \"{}\" are not allowed",
            table.name
        ),
    ))
}

/// The columns of a primary key at these positions become NOT NULL.
async fn forbid_nulls(cx: &mut DdlCx<'_>, table: &Relation, nullable: Vec<usize>) -> Result<()> {
    check_no_nulls(cx, table, &nullable).await?;
    for position in nullable {
        set_not_null(cx, table, position, true).await?;
    }
    cx.step()
}

/// PRIMARY KEY or UNIQUE of an index that is there: index and constraint have one name from then on
/// (`ATExecAddIndexConstraint`).
async fn add_index_key(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    c: &TableConstraint,
    primary: bool,
    index: &Ident,
) -> Result<()> {
    let index = index_for_key(cx, table, &index.name, primary, c.at)?;
    constraint::refuse_deferrable(c.timing)?;
    let name = match &c.name {
        Some(name) if name.name != index.name => {
            cx.notice(format!(
                "ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index \"{}\" to \"{}\"",
                index.name, name.name
            ));
            rename_relation(cx, index.oid, table.schema, &name.name).await?;
            name.name.clone()
        }
        _ => index.name.clone(),
    };
    let taken = cx.constraint_rows(table.oid)?;
    if taken.iter().any(|row| row.conname == name) {
        return Err(SqlError::new(
            state::DUPLICATE_OBJECT,
            format!(
                "constraint \"{name}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    if primary {
        refuse_second_primary_key(table)?;
        let columns = index.keys.iter().map(|key| key.column);
        let nullable = columns.filter(|n| !table.columns[*n].not_null).collect();
        forbid_nulls(cx, table, nullable).await?;
        let key = oid_key(index.oid);
        let (tid, mut row) = cx.find_one::<IndexRow>(by::INDEX_OID, &key, "index")?;
        row.indisprimary = true;
        cx.update(tid, &row).await?;
    }
    let mut made = (*index).clone();
    made.primary = primary;
    made.constraint = Some((cx.new_oid()?, name.clone()));
    made.name = name;
    cx.insert_key_constraint(table, &made).await?;
    cx.changed(table.oid);
    cx.changed(index.oid);
    Ok(())
}

/// The index that is to be a key, if it can be one (`transformIndexConstraint`).
fn index_for_key(
    cx: &DdlCx<'_>,
    table: &Relation,
    name: &str,
    primary: bool,
    at: u32,
) -> Result<Arc<Index>> {
    let found = cx.view().relation_named(Some(&table.schema_name), name)?;
    let Some(relation) = found else {
        let message = format!("index \"{name}\" does not exist");
        return Err(SqlError::new(state::UNDEFINED_OBJECT, message).at(at));
    };
    if relation.kind != RelationKind::Index {
        let message = format!("\"{name}\" is not an index");
        return Err(SqlError::new(state::WRONG_OBJECT_TYPE, message));
    }
    let (owner, index) = index::on_table(cx, &relation)?;
    let not_now = if index.constraint.is_some() {
        Some("is already associated with a constraint".to_owned())
    } else if owner.oid != table.oid {
        Some(format!("does not belong to table \"{}\"", table.name))
    } else if !index.valid {
        Some("is not valid".to_owned())
    } else {
        None
    };
    if let Some(why) = not_now {
        let message = format!("index \"{name}\" {why}");
        return Err(SqlError::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message).at(at));
    }
    let sorts_otherwise = index
        .keys
        .iter()
        .position(|k| k.descending || k.nulls_first);
    let never = match sorts_otherwise {
        _ if !index.unique => Some(format!("\"{name}\" is not a unique index")),
        Some(n) => Some(format!(
            "index \"{name}\" column number {} does not have default sorting behavior",
            n + 1
        )),
        None => None,
    };
    if let Some(message) = never {
        return Err(SqlError::new(state::WRONG_OBJECT_TYPE, message)
            .detail("Cannot create a primary key or unique constraint using such an index.")
            .at(at));
    }
    for (n, key) in index.keys.iter().enumerate() {
        if index.keys[..n].iter().any(|k| k.column == key.column) {
            let what = if primary { "primary key" } else { "unique" };
            let column = &table.columns[key.column].name;
            let message = format!("column \"{column}\" appears twice in {what} constraint");
            return Err(SqlError::new(state::DUPLICATE_COLUMN, message).at(at));
        }
    }
    Ok(index)
}

pub(super) async fn add_check(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    check: &constraint::NewCheck<'_>,
) -> Result<()> {
    let mut taken: Vec<String> = cx
        .constraint_rows(table.oid)?
        .into_iter()
        .map(|c| c.conname)
        .collect();
    let (made, bound) = cx
        .insert_check(table, check, &mut taken)
        .await
        .map_err(SqlError::nowhere)?;
    let count = i16::try_from(table.checks.len() + 1).unwrap_or(i16::MAX);
    change_class(cx, table.oid, |row| row.relchecks = count).await?;
    if check.not_valid {
        return Ok(());
    }
    check_rows(cx, table, bound, &made.name)
}

/// VALIDATE CONSTRAINT: the rows that were there before it are looked at. Others may write meanwhile: theirs are tested
/// as they come.
pub(super) async fn validate_constraint(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table.oid))?;
    let Some((tid, mut row)) = rows.into_iter().find(|(_, c)| c.conname == name) else {
        return Err(no_constraint(name, table));
    };
    if !matches!(row.contype, b'c' | b'f') {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!(
                "constraint \"{name}\" of relation \"{}\" is not a foreign key or check constraint",
                table.name
            ),
        ));
    }
    if row.convalidated {
        return Ok(());
    }
    if row.contype == b'f' {
        cx.lock(row.confrelid, LockMode::RowShare).await?;
        foreign_key::check_rows(cx, table.oid, row.oid).await?;
    } else {
        let text = row.conbin.as_deref().unwrap_or_default();
        let bound = bind::check_expression(text, table, &cx.view(), cx.functions)?;
        check_rows(cx, table, bound, name)?;
    }
    row.convalidated = true;
    cx.update(tid, &row).await?;
    cx.changed(table.oid);
    Ok(())
}

/// Every row of the table passes the condition of the constraint `name`.
fn check_rows(cx: &mut DdlCx<'_>, table: &Relation, condition: Bound, name: &str) -> Result<()> {
    let mut lowered = condition;
    to_slots(&mut lowered);
    let test = Test::compiled(lowered);
    let mut eval = EvalCx::bare(Arc::clone(cx.functions));
    let all = each_row(cx, table, |row| {
        // Unknown passes a CHECK.
        Ok(test.value(row, &mut eval)? != Some(false))
    })?;
    if all {
        return Ok(());
    }
    Err(SqlError::new(
        state::CHECK_VIOLATION,
        format!(
            "check constraint \"{name}\" of relation \"{}\" is violated by some row",
            table.name
        ),
    )
    .table(&table.schema_name, &table.name)
    .constraint(name))
}

/// Columns of the row become the frame's slots.
fn to_slots(expr: &mut Bound) {
    if let Bound::Column(c) = expr {
        *expr = slot_expr(c.column, c.ty);
        return;
    }
    bind::parts_mut(expr, &mut to_slots);
}

pub(super) async fn drop_constraint(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table.oid))?;
    let Some((tid, row)) = rows.into_iter().find(|(_, c)| c.conname == name) else {
        if if_exists {
            cx.notice(format!(
                "constraint \"{name}\" of relation \"{}\" does not exist, skipping",
                table.name
            ));
            return Ok(());
        }
        return Err(no_constraint(name, table));
    };
    if let Some(key) = table.foreign_keys.iter().find(|key| key.oid == row.oid) {
        cx.lock(key.referenced, LockMode::AccessExclusive).await?;
        if let Some(referenced) = cx.view().relation(key.referenced)? {
            cx.must_not_be_in_use(referenced.oid, &referenced.name, "ALTER TABLE")?;
        }
        return foreign_key::remove(cx, key).await;
    }
    let index = table.indexes.iter().find(|i| i.oid == row.conindid);
    if let Some(index) = index {
        let what = format!(
            "constraint {name} on {}",
            foreign_key::described(cx, table)?
        );
        let index = Arc::new(crate::catalog::schema::index_relation(table, index));
        let dependents = foreign_key::dependents_of(cx, &[index])?;
        foreign_key::release(cx, dependents, Some(&what), cascade).await?;
    }
    cx.delete::<ConstraintRow>(tid).await?;
    let comments = [Datum::Oid(row.oid), Datum::Oid(ConstraintRow::TABLE)];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    if row.contype == b'c' {
        let left = i16::try_from(table.checks.len().saturating_sub(1)).unwrap_or(i16::MAX);
        return change_class(cx, table.oid, |row| row.relchecks = left).await;
    }
    if let Some(index) = index {
        let relation = crate::catalog::schema::index_relation(table, index);
        drop_index(cx, table, &relation).await?;
    }
    cx.changed(table.oid);
    Ok(())
}
